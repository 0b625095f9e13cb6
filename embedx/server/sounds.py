"""Sounds: a part of a file -> its samples, its spectrogram, its waveform, or itself as WAV or FLAC."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedx.audio.clip import Frames
from embedx.audio.decoder_pool import DECODERS
from embedx.audio.excerpts import flac_bytes, wav_bytes
from embedx.audio.pictures import png
from embedx.audio.spectrum import Spectrum, levels
from embedx.errors import AudioError
from embedx.server.errors import ApiError, api_error
from embedx.server.work import current_work

Format = Literal["wav", "flac"]
MEDIA_TYPES: dict[Format, str] = {"wav": "audio/wav", "flac": "audio/flac"}

MAX_SOUND_S = 600.0  # of a picture, or of an answer with audio
MAX_VALUES = 1 << 26  # samples over all channels of an answer with audio: 256 MB of float32
EDGE_S = 0.1  # sound on both sides of a tile, so that tiles join without a seam; half of the longest frame has 85 ms
GONE = ("missing", "unreadable", "outside", "network")  # reasons of audio that is not where the collection says


@dataclass(frozen=True)
class Sound:
    """A part of a file, and how errors call it."""

    path: str
    start_s: float
    end_s: float
    shown: str  # such as "The recording of row 4"

    def blocks(self) -> Iterator[tuple[Frames, int]]:
        """Yield the frames [S, channels] in blocks, and their rate.

        Raises:
            ApiError: the file is not there any more, is not audio, or the part is too long.
        """
        if self.end_s <= self.start_s:
            raise ApiError(400, "bad_request", f"The part from {self.start_s:g} to {self.end_s:g} s is empty.")
        if self.end_s - self.start_s > MAX_SOUND_S + 2 * EDGE_S:
            raise ApiError(413, "audio_too_large", f"An answer may have {MAX_SOUND_S:g} s of audio.")
        values = 0
        try:
            for block, rate in DECODERS.read_blocks(self.path, self.start_s, self.end_s, current_work().check):
                current_work().check()
                values += block.size
                if values > MAX_VALUES:
                    raise ApiError(413, "audio_too_large", f"An answer may have {MAX_VALUES} samples.")
                yield block, rate
        except AudioError as error:
            raise self.error(error) from error

    def error(self, error: AudioError) -> ApiError:
        """Return the error of a file that cannot be read as an answer."""
        if error.reason in GONE:
            return ApiError(410, "audio_gone", f"{self.shown} is not there any more, or has changed.")
        return api_error(error, "", [os.path.dirname(self.path)])

    def samples(self, channel: int | None) -> tuple[NDArray[np.float64], int]:
        """Return the mean of the channels, or one channel, as samples [S], and their rate.

        Raises:
            ApiError: see `blocks`; or there is no such channel.
        """
        parts, rates = zip(*((one_channel(block, channel), rate) for block, rate in self.blocks()), strict=True)
        return np.concatenate(parts), rates[0]

    def frames(self) -> tuple[Frames, int]:
        """Return the frames [S, channels], and their rate."""
        blocks, rates = zip(*self.blocks(), strict=True)
        return np.concatenate(blocks), rates[0]

    def version(self) -> str:
        """Return a text that differs when the file has changed, or this is another part."""
        try:
            status = os.stat(self.path)
            file = (status.st_size, status.st_mtime_ns, status.st_ino)
        except (OSError, ValueError):  # inside a table, or gone
            file = (0, 0, 0)
        state = (self.path, *file, self.start_s, self.end_s)
        return hashlib.blake2b(repr(state).encode(), digest_size=8).hexdigest()


def one_channel(block: Frames, channel: int | None) -> NDArray[np.float64]:
    """Return one channel of a block, or the mean of all.

    Raises:
        ApiError: there is no such channel.
    """
    if channel is None:
        return np.asarray(block.mean(axis=1, dtype=np.float64))
    if channel >= block.shape[1]:
        raise ApiError(400, "bad_request", f"There is no channel {channel}; the first of {block.shape[1]} is 0.")
    return block[:, channel].astype(np.float64)


def encode(sound: Sound, form: Format) -> bytes:
    """Return a sound as a file."""
    frames, rate = sound.frames()
    try:
        return wav_bytes(frames, rate) if form == "wav" else flac_bytes(frames, rate)
    except AudioError as error:
        raise ApiError(400, "bad_format", str(error), "Ask for format=wav.") from error


def draw(sound: Sound, spectrum: Spectrum, channel: int | None) -> tuple[bytes, dict[str, str]]:
    """Return the spectrogram of a whole sound as PNG, and the headers that describe its axes."""
    samples, rate = sound.samples(channel)
    end_s = sound.start_s + len(samples) / rate  # the recording may end before the sound
    return picture(levels(samples, rate, spectrum), rate, spectrum, sound.start_s, end_s)


def draw_tile(sound: Sound, spectrum: Spectrum, channel: int | None) -> tuple[bytes, dict[str, str]]:
    """Return the spectrogram of a part of a recording; its edges hear what is beside them, so that tiles join."""
    begin_s = max(0.0, sound.start_s - EDGE_S)
    samples, rate = Sound(sound.path, begin_s, sound.end_s + EDGE_S, sound.shown).samples(channel)
    first, length = (sound.start_s - begin_s) * rate, (sound.end_s - sound.start_s) * rate
    return picture(levels(samples, rate, spectrum, first, length), rate, spectrum, sound.start_s, sound.end_s)


def picture(
    grey: NDArray[np.uint8], rate: int, spectrum: Spectrum, start_s: float, end_s: float
) -> tuple[bytes, dict[str, str]]:
    """Return levels as PNG, the highest band first, and the headers that describe its axes."""
    low, high = spectrum.range(rate)
    headers = {"X-Rate": str(rate), "X-Fmin": f"{low:g}", "X-Fmax": f"{high:g}"}
    headers |= {"X-Start-S": f"{start_s:.10g}", "X-End-S": f"{end_s:.10g}"}
    return png(np.flipud(grey)), headers


def peaks(sound: Sound, bins: int) -> tuple[bytes, dict[str, str]]:
    """Return the waveform as pairs of int8 (smallest, largest; 127 is full scale), and the headers that describe it.

    Pairs behind the end of the file are 0. A sound with fewer samples than bins has a pair for each sample.
    """
    low = high = np.zeros(0)
    position = total = rate = 0
    for block, rate in sound.blocks():
        if not position:
            total = max(1, round(sound.end_s * rate) - round(sound.start_s * rate))
            bins = min(bins, total)
            low, high, edges = np.full(bins, np.inf), np.full(bins, -np.inf), np.arange(bins) * total // bins
        samples = one_channel(block, None)
        first, last = np.searchsorted(edges, [position, position + len(samples) - 1], "right") - 1
        starts = np.maximum(edges[first : last + 1] - position, 0)
        low[first : last + 1] = np.minimum(low[first : last + 1], np.minimum.reduceat(samples, starts))
        high[first : last + 1] = np.maximum(high[first : last + 1], np.maximum.reduceat(samples, starts))
        position += len(samples)
    pairs = np.where(np.isfinite(low), [low, high], 0.0).T
    data = np.clip(np.round(127 * pairs), -127, 127).astype(np.int8).tobytes()
    return data, {"X-Rate": str(rate), "X-Bins": str(bins), "X-Start-S": f"{sound.start_s:g}"}
