"""Audio: a path -> an open clip, decoded in blocks of mono float32 at its own rate.

The rate is always the decoder's own. soundfile decodes; PyAV takes what it cannot (m4a, webm).
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from embedx.errors import AudioError

Samples = NDArray[np.float32]

SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .aac .aif .aiff .aifc .au .snd .caf .w64 .rf64 .wma .webm .mka .mp4".split()
)
BLOCK = 1 << 18  # samples over all channels that are decoded at a time: 1 MB of float32
MOST_FRAMES = 2**40  # a year and more at any rate
RATES = (100, 1_536_000)  # Hz that are taken for real
SEEKABLE = ("WAV", "FLAC", "AIFF", "AU", "W64", "RF64", "CAF")  # formats in which libsndfile seeks to the exact sample
LEAD_S = 1  # decoded and dropped before a stretch, many times the length of the resampler's filter


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


def decode(path: str, start_s: float = 0.0, channel: int | None = None) -> tuple[Clip, Iterator[Samples]]:
    """Open a recording and return it with its mono blocks at its own rate: the mean over channels, or one channel.

    Decoding starts at `clip.first`, on a whole second before `start_s`.
    """
    require_regular(path)
    try:
        return decode_with_soundfile(path, start_s, channel)
    except UnknownFormat as error:
        return decode_with_pyav(path, str(error), channel)


class UnknownFormat(Exception):
    """libsndfile does not read this file."""


def decode_with_soundfile(path: str, start_s: float, channel: int | None) -> tuple[Clip, Iterator[Samples]]:
    """Decode with libsndfile; raises UnknownFormat where that cannot."""
    import soundfile

    try:
        file = soundfile.SoundFile(os.fsencode(path))
    except soundfile.LibsndfileError as error:
        raise UnknownFormat(error.error_string) from error
    if file.frames > MOST_FRAMES:  # what libsndfile says of a FLAC whose header gives no length; it cannot read on
        file.close()
        raise UnknownFormat("the length is not known")
    clip = Clip(path, file.samplerate, file.channels, file.frames)
    check_rate(clip)
    if clip.declared and file.format in SEEKABLE:
        clip.first = min(max(0, int(start_s) - LEAD_S), clip.declared // clip.rate) * clip.rate
        file.seek(clip.first)

    def blocks() -> Iterator[Samples]:
        with file:
            try:
                while len(block := file.read(max(1024, BLOCK // clip.channels), dtype="float32", always_2d=True)):
                    yield mix_down(clip, block, channel)
            except soundfile.LibsndfileError as error:
                raise broken(clip, error.error_string) from error
        if clip.declared and clip.first + clip.decoded < clip.declared:
            clip.flags.add("truncated")

    return clip, blocks()


def decode_with_pyav(path: str, complaint: str, channel: int | None) -> tuple[Clip, Iterator[Samples]]:
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
                yield mix_down(clip, part.to_ndarray().astype(np.float32, copy=False).T, channel)
        except av.FFmpegError as error:
            raise broken(clip, str(error.strerror)) from error

    return clip, blocks()


def broken(clip: Clip, complaint: str) -> AudioError:
    """Name a recording in which the decoder finds damage: what it decoded so far is not the recording."""
    where = (clip.first + clip.decoded) / clip.rate
    return AudioError("corrupt", f"{show(clip.path)} cannot be decoded after {where:g} s: {complaint.rstrip('.')}.")


def mix_down(clip: Clip, block: NDArray[np.float32], channel: int | None) -> Samples:
    """Count frames [n, channels] and return their mean over channels [n], or one channel."""
    clip.decoded += len(block)
    if channel is not None or clip.channels == 1:
        mono: Samples = block[:, channel or 0]
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


def length_of(path: str) -> float | None:
    """Return the seconds that a header promises without decoding, None where libsndfile cannot say."""
    import soundfile

    try:
        info = soundfile.info(os.fsencode(path))
    except (soundfile.LibsndfileError, OSError):
        return None
    return float(info.duration) if 0 < info.frames <= MOST_FRAMES else None


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
