"""Windows: a clip -> slices of mono float32 samples, resampled to the rate of the extractor.

All functions work on streams of blocks, so the memory depends on the length of a window, not of the recording.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from embedx.audio.clip import Clip, Samples
from embedx.audio.decode import decode
from embedx.audio.waves import Wave
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path
from embedx.recipe import Recipe
from embedx.timing import timed, timed_each

LONG_WINDOW_S = 10.0  # a recording that is too long for one row is cut into windows of this length
TRIM_FRAME_S, TRIM_DB = 0.025, 40.0  # silence: frames of this length that are this far below the loudest frame
SILENT_THRESHOLD = 2.0**-15  # one step of 16 bits; a window is silent if all its samples are below


@dataclass(frozen=True)
class Window:
    """A slice of a clip.

    Attributes:
        start_s, end_s: its place in the recording, in seconds.
        samples: [S] float32 at the rate of the extractor.
        flags: "silent", "padded".
    """

    start_s: float
    end_s: float
    samples: Samples
    flags: tuple[str, ...] = ()


def read_windows(
    source: str | Wave, recipe: Recipe, start_s: float = 0.0, end_s: float | None = None, channel: int | None = None
) -> tuple[Clip, Iterator[Window]]:
    """Open a recording and return it with an iterator over its windows.

    Windows start every `recipe.hop_s` seconds. Audio after the last full window is handled as `recipe.tail` says.
    Without `recipe.window_s`, audio of up to `recipe.whole_s` is one window, and longer audio is cut into windows of
    10 s. Audio that is shorter than a window becomes one window of its own length, or is padded with zeros for "pad".

    Args:
        source: the file, or sound in memory.
        recipe: window, hop, tail, channels, sampling rate and trimming.
        start_s, end_s: read only the audio between these times; None is the end of the recording.
        channel: read this channel, whatever `recipe.channels` says.

    Raises:
        AudioError: the file is missing, not a regular file, not audio, empty or damaged. It may also be raised while
            the windows are read.
    """
    if recipe.max_seconds is not None:
        end_s = start_s + recipe.max_seconds if end_s is None else min(end_s, start_s + recipe.max_seconds)
    if channel is None and recipe.channels == "first":
        channel = 0
    if recipe.trim_silence:
        start_s, end_s = loud_stretch(source, recipe.sample_rate, start_s, end_s, channel)
    with timed("decode"):
        clip, blocks = open_source(source, start_s, channel)
    return clip, windows_of(clip, blocks, recipe, start_s, end_s)


def open_source(source: str | Wave, start_s: float, channel: int | None) -> tuple[Clip, Iterator[Samples]]:
    """Open a file, or sound in memory, and return it with its mono blocks."""
    return source.open(start_s, channel) if isinstance(source, Wave) else decode(source, start_s, channel)


def read_channels(
    source: str | Wave, recipe: Recipe, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[tuple[Clip, int | None, Window]]:
    """Yield (clip, channel, window), one channel after the other for `channels="each"`; else the channel is None."""
    clip, windows = read_windows(source, recipe, start_s, end_s, channel=0 if recipe.channels == "each" else None)
    if recipe.channels != "each":
        yield from ((clip, None, window) for window in windows)
        return
    yield from ((clip, 0, window) for window in windows)
    for channel in range(1, clip.channels):
        clip, windows = read_windows(source, recipe, start_s, end_s, channel)
        yield from ((clip, channel, window) for window in windows)


def read_wave(wave: Wave, recipe: Recipe) -> Iterator[tuple[Clip, int | None, Window]]:
    """Yield what `read_channels` yields, of sound in memory: no file is decoded, so it needs no process of its own."""
    return read_channels(wave, recipe)


def windows_of(
    clip: Clip, blocks: Iterator[Samples], recipe: Recipe, start_s: float, end_s: float | None
) -> Iterator[Window]:
    """Yield the windows of an open clip between two times; see `read_windows`."""
    rate, is_empty = recipe.sample_rate, True
    for start, samples in cut_by_recipe(clip, resample_stretch(clip, blocks, rate, start_s, end_s), recipe):
        is_empty = False
        if not np.isfinite(samples).all():
            raise AudioError("non-finite", f"{display_path(clip.path)} contains samples that are NaN or infinite.")
        flags = ["silent"] if float(np.abs(samples).max()) < SILENT_THRESHOLD else []
        begin = round(start_s * rate) + start
        end = begin + len(samples)
        if recipe.tail == "pad" and recipe.window_s and len(samples) < round(recipe.window_s * rate):
            samples = np.pad(samples, (0, round(recipe.window_s * rate) - len(samples)))
            flags.append("padded")
        yield Window(begin / rate, end / rate, samples, tuple(flags))
    if is_empty:
        raise no_windows(clip, recipe, start_s)


def no_windows(clip: Clip, recipe: Recipe, start_s: float) -> AudioError:
    """Return the error that says why a clip has no window."""
    shown = display_path(clip.path)
    if not clip.duration_s:
        return AudioError("empty", f"{shown} contains no samples.")
    if start_s >= clip.duration_s:
        return AudioError("outside", f"{shown} is {clip.duration_s:g} s long; there is no audio at {start_s:g} s.")
    if recipe.window_s is None or recipe.tail != "drop":
        detail = f"The audio of {shown} is shorter than one sample at {recipe.sample_rate} Hz, the rate of the model."
        return AudioError("too-short", detail)
    return AudioError(
        "too-short",
        f"{shown} is shorter than a window of {recipe.window_s:g} s, and tail=drop discards it. "
        "Choose a shorter window, or tail=keep or pad.",
    )


def cut_by_recipe(clip: Clip, blocks: Iterator[Samples], recipe: Recipe) -> Iterator[tuple[int, Samples]]:
    """Cut resampled blocks into (start, samples) as the recipe says; flag a clip that is too long for one row."""
    rate = recipe.sample_rate
    if recipe.window_s is not None:
        window = max(1, round(recipe.window_s * rate))
        hop = window if recipe.hop_s is None else max(1, round(recipe.hop_s * rate))
        yield from cut(blocks, window, hop, recipe.tail)
        return
    long_window = min(LONG_WINDOW_S, recipe.whole_s)
    for start, samples in cut_if_long(blocks, round(recipe.whole_s * rate), round(long_window * rate)):
        if start:
            clip.flags.add("cut")
        yield start, samples


def resample_stretch(
    clip: Clip, blocks: Iterator[Samples], rate: int, start_s: float, end_s: float | None
) -> Iterator[Samples]:
    """Resample the blocks of a clip, and yield the samples between two times."""
    skip = round(start_s * rate) - clip.first // clip.rate * rate  # clip.first is on a whole second
    length = None if end_s is None else round(end_s * rate) - round(start_s * rate)
    return take(resample(timed_each("decode", blocks), clip.rate, rate), skip, length)


def loud_stretch(
    source: str | Wave, rate: int, start_s: float, end_s: float | None, channel: int | None
) -> tuple[float, float | None]:
    """Return the times of the first and the last frame that is less than 40 dB below the loudest frame.

    Frames are 25 ms long. If all frames are silent, the times are returned as they are.
    """
    clip, blocks = open_source(source, start_s, channel)
    frame = max(1, round(TRIM_FRAME_S * rate))
    levels = [
        float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        for _, samples in cut(resample_stretch(clip, blocks, rate, start_s, end_s), frame, frame, "pad")
    ]
    loud = np.flatnonzero(np.array(levels) > max(levels, default=0.0) * 10 ** (-TRIM_DB / 20))
    if not len(loud):
        return start_s, end_s
    last = start_s + (int(loud[-1]) + 1) * frame / rate
    return start_s + int(loud[0]) * frame / rate, last if end_s is None else min(last, end_s)


def resample(blocks: Iterable[Samples], rate: int, target: int) -> Iterator[Samples]:
    """Resample a stream with soxr HQ; the result does not depend on the size of the blocks."""
    if rate == target:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
    for block in chain(blocks, [None]):
        with timed("resample"):
            piece = stream.resample_chunk(np.zeros(0, np.float32) if block is None else block, last=block is None)
        yield piece


def take(blocks: Iterable[Samples], skip: int, length: int | None) -> Iterator[Samples]:
    """Skip `skip` samples of a stream, then yield the next `length` samples (None: all).

    >>> [block.tolist() for block in take([np.arange(4), np.arange(4, 8)], skip=3, length=3)]
    [[3], [4, 5]]
    """
    for block in blocks:
        kept = block[skip:]
        skip = max(0, skip - len(block))
        if length is not None:
            kept = kept[:length]
            length -= len(kept)
        if len(kept):
            yield kept
        if length == 0:
            return


def cut(blocks: Iterable[Samples], window: int, hop: int, tail: str = "keep") -> Iterator[tuple[int, Samples]]:
    """Cut a stream into (start, samples [window]) every `hop` samples.

    `tail` says what the samples after the last full window become: "keep", a window that ends where the stream ends;
    "pad", a shorter window (the caller pads it); "drop", nothing.

    >>> [(start, w.tolist()) for start, w in cut([np.arange(3), np.arange(3, 8)], window=3, hop=3)]
    [(0, [0.0, 1.0, 2.0]), (3, [3.0, 4.0, 5.0]), (5, [5.0, 6.0, 7.0])]
    """
    held, origin, start, covered = np.zeros(0, np.float32), 0, 0, 0
    for block in blocks:
        held = np.concatenate([held, block])
        end = origin + len(held)
        while start + window <= end:
            yield start, held[start - origin : start - origin + window].copy()
            covered = start + window
            start += hop
        needed = min(start, max(origin, end - window))  # keep the next window, and the last one for tail="keep"
        held, origin = held[needed - origin :], needed
    end = origin + len(held)
    if start < end and covered < end and tail != "drop":
        last = max(0, end - window) if tail == "keep" else start
        yield last, held[last - origin :].copy()


def cut_if_long(blocks: Iterator[Samples], limit: int, window: int) -> Iterator[tuple[int, Samples]]:
    """Yield a stream of up to `limit` samples as one window, and cut a longer one into windows."""
    head: list[Samples] = []
    while sum(map(len, head)) <= limit:
        block = next(blocks, None)
        if block is None:
            whole = np.concatenate(head) if head else np.zeros(0, np.float32)
            if len(whole):
                yield 0, whole
            return
        head.append(block)
    yield from cut(chain(head, blocks), window, window)


def count_windows(duration_s: float, recipe: Recipe) -> int:
    """Return the number of windows of a recording of this length, for one channel and without trimming.

    >>> count_windows(25.0, Recipe("logmel", "", "", 16_000, (0,), ("mean",), window_s=10.0, hop_s=5.0))
    4
    """
    duration_s = min(duration_s, recipe.max_seconds or duration_s)
    if recipe.window_s is None and duration_s <= recipe.whole_s:
        return 1
    window = recipe.window_s or min(LONG_WINDOW_S, recipe.whole_s)
    hop = recipe.hop_s or window
    whole = max(0, math.floor((duration_s - window) / hop + 1e-9) + 1)
    rest = recipe.tail != "drop" and (whole == 0 or (whole - 1) * hop + window < duration_s - 1e-9)
    return whole + (rest and whole * hop < duration_s)
