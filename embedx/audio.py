"""Audio: a path -> a clip -> windows of mono float32 at the extractor's rate.

Decoding runs in blocks and resampling in a stream, so the memory that a recording takes is bounded by its window,
not by its length. The rate is always the decoder's own. soundfile decodes; PyAV takes what it cannot (m4a, webm).
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from embedx.errors import AudioError

Samples = NDArray[np.float32]

SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .aac .aif .aiff .aifc .au .snd .caf .w64 .rf64 .wma .webm .mka .mp4".split()
)
WHOLE_S = 60.0  # up to here a recording is one window when none is asked for: attention is quadratic in time
LONG_WINDOW_S = 10.0  # a longer one is cut into windows of this length
BLOCK = 1 << 18  # samples over all channels that are decoded at a time: 1 MB of float32
RATES = (100, 1_536_000)  # Hz that are taken for real
SILENT = 2.0**-15  # below one step of 16 bit everywhere
SEEKABLE = ("WAV", "FLAC", "AIFF", "AU", "W64", "RF64", "CAF")  # formats in which libsndfile seeks to the exact sample
LEAD_S = 1  # decoded and dropped before a stretch, many times the length of the resampler's filter


@dataclass(frozen=True)
class Window:
    """A slice of a clip: samples [S] at the asked rate, its place in the recording in seconds, and flags."""

    start_s: float
    end_s: float
    samples: Samples
    flags: tuple[str, ...] = ()


@dataclass
class Clip:
    """An open recording. `duration_s` and `flags` are known once its windows have been read to the end."""

    path: str
    rate: int  # Hz, as the decoder says
    channels: int
    declared: int | None  # frames that the header promises, None where it does not say
    first: int = 0  # the frame that decoding starts at
    decoded: int = 0  # frames read so far
    flags: set[str] = field(default_factory=set)

    @property
    def duration_s(self) -> float:
        """Seconds that the header promises, or that were decoded where it promises nothing or too much."""
        trusted = 0 if "truncated" in self.flags else self.declared
        return (trusted or self.first + self.decoded) / self.rate


def read_windows(
    path: str,
    sample_rate: int,
    window_s: float | None = None,
    hop_s: float | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> tuple[Clip, Iterator[Window]]:
    """Open a recording and return it with an iterator over its windows, or those of the stretch start_s to end_s.

    Windows start every `hop_s` seconds (default: one after the other); the last one ends where the audio ends, so
    that nothing is lost. Without `window_s` the whole stretch is one window up to 60 s, else windows of 10 s. A
    stretch shorter than the window is one window of its own length.

    Raises:
        AudioError: the file is missing, no regular file, not audio, empty or broken (also while iterating).
    """
    clip, blocks = decode(path, start_s)
    return clip, windows_of(clip, blocks, sample_rate, window_s, hop_s, start_s, end_s)


def windows_of(
    clip: Clip,
    blocks: Iterator[Samples],
    sample_rate: int,
    window_s: float | None,
    hop_s: float | None,
    start_s: float,
    end_s: float | None,
) -> Iterator[Window]:
    """Resample, take the stretch, cut, and name each window by its place; see `read_windows`."""
    skip = round(start_s * sample_rate) - clip.first // clip.rate * sample_rate  # first lies on a whole second
    length = None if end_s is None else round(end_s * sample_rate) - round(start_s * sample_rate)
    stretch = take(resample(blocks, clip.rate, sample_rate), skip, length)
    if window_s is None:
        pieces = cut_if_long(stretch, round(WHOLE_S * sample_rate), round(LONG_WINDOW_S * sample_rate))
    else:
        window = max(1, round(window_s * sample_rate))
        pieces = cut(stretch, window, window if hop_s is None else max(1, round(hop_s * sample_rate)))
    found = False
    for start, samples in pieces:
        found = True
        if not np.isfinite(samples).all():
            raise AudioError("non-finite", f"{show(clip.path)} holds samples that are not numbers (NaN or infinity).")
        flags = ("silent",) if float(np.abs(samples).max()) < SILENT else ()
        begin = round(start_s * sample_rate) + start
        yield Window(begin / sample_rate, (begin + len(samples)) / sample_rate, samples, flags)
    if not found and clip.duration_s > 0:
        raise AudioError(
            "outside", f"{show(clip.path)} is {clip.duration_s:g} s long: it has nothing at {start_s:g} s."
        )
    if not found:
        raise AudioError("empty", f"{show(clip.path)} holds no samples.")


def decode(path: str, start_s: float = 0.0) -> tuple[Clip, Iterator[Samples]]:
    """Open a recording and return it with its samples as mono blocks (the mean over channels) at its own rate.

    Decoding starts at `clip.first`, on a whole second before `start_s`.
    """
    require_regular(path)
    try:
        return decode_with_soundfile(path, start_s)
    except UnknownFormat as error:
        return decode_with_pyav(path, str(error))


class UnknownFormat(Exception):
    """libsndfile does not read this file."""


def decode_with_soundfile(path: str, start_s: float) -> tuple[Clip, Iterator[Samples]]:
    """Decode with libsndfile; raises UnknownFormat where that cannot."""
    import soundfile

    try:
        file = soundfile.SoundFile(os.fsencode(path))
    except soundfile.LibsndfileError as error:
        raise UnknownFormat(error.error_string) from error
    clip = Clip(path, file.samplerate, file.channels, file.frames if 0 < file.frames < 2**40 else None)
    check_rate(clip)
    if clip.declared and file.format in SEEKABLE:
        clip.first = min(max(0, int(start_s) - LEAD_S), clip.declared // clip.rate) * clip.rate
        file.seek(clip.first)

    def blocks() -> Iterator[Samples]:
        with file:
            try:
                while len(block := file.read(max(1024, BLOCK // clip.channels), dtype="float32", always_2d=True)):
                    yield mix_down(clip, block)
            except soundfile.LibsndfileError as error:
                raise broken(clip, error.error_string) from error
        if clip.declared and clip.first + clip.decoded < clip.declared:
            clip.flags.add("truncated")

    return clip, blocks()


def decode_with_pyav(path: str, complaint: str) -> tuple[Clip, Iterator[Samples]]:
    """Decode the first audio track with FFmpeg; `complaint` is what libsndfile said."""
    import av

    def parts() -> Iterator[av.AudioFrame]:
        with open(path, "rb") as file, av.open(file, "r", metadata_errors="ignore") as container:
            to_float = av.AudioResampler(format="fltp")
            if not container.streams.audio:
                raise AudioError("not-audio", f"{show(path)} has no audio track.")
            for frame in chain(container.decode(container.streams.audio[0]), [None]):
                yield from to_float.resample(frame)

    stream = parts()
    try:
        first = next(stream, None)
    except av.FFmpegError as error:
        said = f"libsndfile: {complaint.rstrip('.')}; FFmpeg: {error.strerror}"
        detail = f"{show(path)} is no audio that can be read ({said})."
        raise AudioError("not-audio", detail) from error
    if first is None:
        raise AudioError("empty", f"{show(path)} holds no samples.")
    clip = Clip(path, first.sample_rate, len(first.layout.channels), None)
    check_rate(clip)

    def blocks() -> Iterator[Samples]:
        try:
            for part in chain([first], stream):
                yield mix_down(clip, part.to_ndarray().astype(np.float32, copy=False).T)
        except av.FFmpegError as error:
            raise broken(clip, str(error.strerror)) from error

    return clip, blocks()


def broken(clip: Clip, complaint: str) -> AudioError:
    """Name a recording in which the decoder finds damage: what it decoded so far is not the recording."""
    where = (clip.first + clip.decoded) / clip.rate
    return AudioError("corrupt", f"{show(clip.path)} cannot be decoded after {where:g} s: {complaint.rstrip('.')}.")


def mix_down(clip: Clip, block: NDArray[np.float32]) -> Samples:
    """Count frames [n, channels] and return their mean over channels [n]."""
    clip.decoded += len(block)
    if clip.channels == 1:
        mono: Samples = block[:, 0]
        return mono
    clip.flags.add("downmixed")
    mean: Samples = block.mean(axis=1, dtype=np.float32)
    return mean


def require_regular(path: str) -> None:
    """Refuse what is missing, unreadable, empty or no regular file (a FIFO would block for ever)."""
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise AudioError("missing", f"There is no file {show(path)}.") from error
    except (OSError, ValueError) as error:
        raise AudioError("unreadable", f"{show(path)} cannot be read: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise AudioError("not-a-file", f"{show(path)} is no regular file.")
    if status.st_size == 0:
        raise AudioError("empty", f"{show(path)} is empty (0 bytes).")
    if not os.access(path, os.R_OK):
        raise AudioError("unreadable", f"{show(path)} cannot be read: permission denied.")


def check_rate(clip: Clip) -> None:
    """Refuse rates that no recorder has."""
    if not RATES[0] <= clip.rate <= RATES[1]:
        raise AudioError("rate", f"{show(clip.path)} says {clip.rate} Hz; {RATES[0]} to {RATES[1]} Hz can be read.")


def resample(blocks: Iterable[Samples], rate: int, target: int) -> Iterator[Samples]:
    """Resample a stream with soxr HQ; the sum of the blocks equals resampling all at once."""
    if rate == target:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def take(blocks: Iterable[Samples], skip: int, length: int | None) -> Iterator[Samples]:
    """Drop `skip` samples from a stream, then pass on `length` (None: all that follow).

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


def cut(blocks: Iterable[Samples], window: int, hop: int) -> Iterator[tuple[int, Samples]]:
    """Cut a stream into (start, samples [window]) every `hop` samples; the last window ends where the stream ends.

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
        needed = min(start, max(origin, end - window))  # the next window, and the last one that might end here
        held, origin = held[needed - origin :], needed
    end = origin + len(held)
    if start < end and covered < end:
        last = max(0, end - window)
        yield last, held[last - origin :].copy()


def cut_if_long(blocks: Iterator[Samples], limit: int, window: int) -> Iterator[tuple[int, Samples]]:
    """Yield a stream of up to `limit` samples whole, a longer one cut into windows."""
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


def hash_content(path: str) -> str:
    """Return a hash of a file's bytes, by which a copy or a moved file is known again."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def show(path: str) -> str:
    r"""Return a path that is safe to print: bytes that are no UTF-8 and control characters are escaped.

    >>> show("caf\udce9\n.wav")
    'caf\\xe9\\n.wav'
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
