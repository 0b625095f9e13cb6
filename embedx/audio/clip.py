"""Clip: an open recording, the limits of its rate and channels, and what damage to it means."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedx.audio.layout import TRAILING
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path

Samples = NDArray[np.float32]  # [S]
Frames = NDArray[np.float32]  # [S, channels]

RATES = (100, 1_536_000)  # Hz, the lowest and highest rate that is accepted
MAX_CHANNELS = 1024  # the limit of libsndfile; the largest known microphone array has 1020


@dataclass
class Clip:
    """An open recording. `duration_s` and `flags` are final once all its blocks have been read.

    Attributes:
        path: the file.
        rate: sampling rate in Hz, as the decoder reports it.
        channels: number of channels.
        declared: number of frames in the header; None if the header has none, or the file holds fewer.
        first: the frame at which decoding starts.
        decoded: number of frames decoded so far.
        flags: "truncated", "trailing-data", "clipped", "downmixed", "cut".
    """

    path: str
    rate: int
    channels: int
    declared: int | None
    first: int = 0
    decoded: int = 0
    flags: set[str] = field(default_factory=set)

    @property
    def duration_s(self) -> float:
        """Seconds by the header, or seconds decoded if the header has no length or a wrong one."""
        return (self.declared or self.first + self.decoded) / self.rate

    def update(self, other: "Clip") -> None:
        """Copy the values that change while a recording is decoded from a later state of the same clip."""
        self.declared, self.first, self.decoded, self.flags = other.declared, other.first, other.decoded, other.flags


def check_limits(clip: Clip) -> None:
    """Refuse a sampling rate or a number of channels that no recorder has."""
    shown = display_path(clip.path)
    if not RATES[0] <= clip.rate <= RATES[1]:
        detail = f"{shown} has a sampling rate of {clip.rate} Hz; {RATES[0]} to {RATES[1]} Hz are supported."
        raise AudioError("rate", detail)
    if not 1 <= clip.channels <= MAX_CHANNELS:
        raise AudioError("channels", f"{shown} has {clip.channels} channels; 1 to {MAX_CHANNELS} are supported.")


def end_at_damage(clip: Clip, message: str, error: Exception) -> None:
    """Accept damage at the end of a truncated recording, and refuse any other.

    Raises:
        AudioError: the file is not truncated, or no sample precedes the damage.
    """
    if "truncated" in clip.flags and clip.decoded:
        return
    time_s = (clip.first + clip.decoded) / clip.rate
    detail = f"{display_path(clip.path)} cannot be decoded after {time_s:g} s: {message.rstrip('.') or 'damaged'}."
    raise AudioError("corrupt", detail) from error


def fit_blocks(blocks: Iterable[Frames], rate: int, clip: Clip) -> Iterator[Frames]:
    """Convert blocks at a rate to the rate and the number of channels of a clip, and flag the clip if they differ."""
    import soxr

    stream = None
    for block in blocks:
        if block.shape[1] != clip.channels:
            clip.flags.add(TRAILING)
            block = np.repeat(block.mean(axis=1, keepdims=True, dtype=np.float32), clip.channels, axis=1)
        if rate == clip.rate:
            yield block
            continue
        clip.flags.add(TRAILING)
        stream = stream or soxr.ResampleStream(rate, clip.rate, clip.channels, dtype="float32", quality="HQ")
        yield stream.resample_chunk(block)
    if stream is not None:
        yield stream.resample_chunk(np.zeros((0, clip.channels), np.float32), last=True)
