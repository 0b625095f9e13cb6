"""Excerpts: a stretch of a recording at its own rate, and as a WAV file."""

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedx.errors import AudioError

if TYPE_CHECKING:
    pass
from embedx.audio.decode import ALL, decode
from embedx.filesystem.paths import display_path


def read_stretch(path: str, start_s: float, end_s: float) -> tuple[NDArray[np.float32], int]:
    """Return the frames [n, channels] between two times at the recording's own rate, and that rate in Hz.

    Raises:
        AudioError: it cannot be read, or ends before start_s.
    """
    clip, blocks = decode(path, start_s, ALL)
    begin, end = round(start_s * clip.rate), round(end_s * clip.rate)
    kept, place = [np.zeros((0, clip.channels), np.float32)], clip.first
    for block in blocks:
        kept.append(block[max(0, begin - place) : max(0, end - place)])
        place += len(block)
        if place >= end:
            break
    frames = np.concatenate(kept)
    if not len(frames):
        raise AudioError(
            "outside", f"{display_path(path)} is {place / clip.rate:g} s long: it has nothing at {start_s:g} s."
        )
    return frames, clip.rate


def wav_of(frames: NDArray[np.float32], rate: int) -> bytes:
    """Return frames [n, channels] as a WAV of float32, which loses nothing and clips nothing."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, frames, rate, subtype="FLOAT", format="WAV")
    return file.getvalue()
