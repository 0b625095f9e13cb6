"""Excerpts: the audio between two times of a recording, with all channels, at the recording's own rate."""

import io
import struct
from collections.abc import Iterator

import numpy as np

from embedx.audio.clip import Clip, Frames
from embedx.audio.decode import decode_frames
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path

FLOAT_WAV = 3  # the format tag of IEEE float samples
SAMPLE_BYTES = 4  # of float32
MAX_FLAC = 8, 655_350  # channels and Hz: what FLAC can hold
MAX_WAV_BYTES = 0xFFFF_FF00  # sizes in a WAV have 32 bits; a little is left for the header


def read_excerpt(path: str, start_s: float, end_s: float) -> Iterator[tuple[Clip, Frames]]:
    """Yield the frames between two times in blocks [S, channels].

    Raises:
        AudioError: the file cannot be read, or ends before `start_s`.
    """
    clip, blocks = decode_frames(path, start_s)
    begin, end = round(start_s * clip.rate), round(end_s * clip.rate)
    position, is_empty = clip.first, True
    for block in blocks:
        excerpt = block[max(0, begin - position) : max(0, end - position)]
        if len(excerpt):
            is_empty = False
            yield clip, excerpt
        position += len(block)
        if position >= end:
            break
    if is_empty:
        duration_s = position / clip.rate
        raise AudioError(
            "outside", f"{display_path(path)} is {duration_s:g} s long; there is no audio at {start_s:g} s."
        )


def wav_bytes(frames: Frames, rate: int) -> bytes:
    """Return frames [S, channels] as a WAV file of float32, which keeps every sample as it is.

    >>> len(wav_bytes(np.zeros((100, 2), np.float32), 16_000))
    858

    Raises:
        AudioError: the frames exceed the 4 GB that a WAV can hold.
    """
    if frames.size * SAMPLE_BYTES > MAX_WAV_BYTES:
        raise AudioError("too-large", f"An excerpt of {len(frames) / rate:g} s exceeds the 4 GB that a WAV can hold.")
    samples = np.ascontiguousarray(frames, "<f4").tobytes()
    channels = frames.shape[1]
    frame_bytes = channels * SAMPLE_BYTES
    layout = struct.pack("<HHIIHHH", FLOAT_WAV, channels, rate, rate * frame_bytes, frame_bytes, 8 * SAMPLE_BYTES, 0)
    chunks = [(b"fmt ", layout), (b"fact", struct.pack("<I", len(frames))), (b"data", samples)]
    body = b"WAVE" + b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def read_wav(data: bytes) -> tuple[Frames, int]:
    """Return the frames [S, channels] and the rate of a WAV file that `wav_bytes` made.

    >>> frames, rate = read_wav(wav_bytes(np.ones((3, 2), np.float32), 16_000))
    >>> frames.shape, rate
    ((3, 2), 16000)

    Raises:
        AudioError: it is another file.
    """
    head = 12 + 26 + 12 + 8  # RIFF and WAVE, then the chunks "fmt ", "fact" and the start of "data"
    if len(data) < head or data[:4] + data[8:16] != b"RIFFWAVEfmt " or data[50:54] != b"data":
        raise AudioError("not-audio", "The sound is not a WAV file of float32 that embedx has made.")
    tag, channels, rate = struct.unpack("<HHI", data[20:28])
    if tag != FLOAT_WAV or not channels or (len(data) - head) % (SAMPLE_BYTES * channels):
        raise AudioError("not-audio", "The sound is not a WAV file of float32 that embedx has made.")
    return np.frombuffer(data, "<f4", offset=head).astype(np.float32).reshape(-1, channels), rate


def flac_bytes(frames: Frames, rate: int) -> bytes:
    """Return frames [S, channels] as a FLAC file: of 16 bits if that keeps every sample as it is, else of 24 bits.

    Raises:
        AudioError: FLAC does not allow this number of channels or this sample rate.
    """
    import soundfile

    if frames.shape[1] > MAX_FLAC[0] or rate > MAX_FLAC[1]:
        detail = f"FLAC holds up to {MAX_FLAC[0]} channels and {MAX_FLAC[1]} Hz, not {frames.shape[1]} and {rate} Hz."
        raise AudioError("channels" if frames.shape[1] > MAX_FLAC[0] else "rate", detail)
    steps = frames * np.float32(1 << 15)
    subtype = "PCM_16" if np.array_equal(steps, np.round(steps)) else "PCM_24"
    file = io.BytesIO()
    soundfile.write(file, frames, rate, subtype, format="FLAC")
    return file.getvalue()
