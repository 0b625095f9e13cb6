"""Audio: a path -> an open clip, decoded in blocks of mono float32 at its own rate.

The rate is always the decoder's own. soundfile decodes; PyAV takes what it cannot (m4a, webm).
"""

import errno
import hashlib
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedx.audio.truncation import counts_frames, is_truncated
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    from av.container import InputContainer

Samples = NDArray[np.float32]

SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .aac .aif .aiff .aifc .au .snd .caf .w64 .rf64 .wma .webm .mka .mp4".split()
)
BLOCK = 1 << 18  # samples over all channels that are decoded at a time: 1 MB of float32
MOST_FRAMES = 2**40  # a year and more at any rate
RATES = (100, 1_536_000)  # Hz that are taken for real
MOST_CHANNELS = 1024  # what libsndfile takes; the largest microphone array that we know of has 1020
SEEKABLE = ("WAV", "FLAC", "AIFF", "AU", "W64", "RF64", "CAF")  # formats in which libsndfile seeks to the exact sample
# What FFmpeg may take a file for: audio and films. Else zeros pass for the music of a game console, and a text file for
# a list of other files or of addresses that it then opens.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv,matroska,webm,mov,mp4"
)
ONLY_THE_FILE = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none"}
DECLARING = ("mov", "matroska", "asf")  # formats whose duration FFmpeg reads and does not estimate
PADDING_S = 0.5  # a declared duration may exceed the audio by what an encoder puts around it: HE-AAC at 8 kHz, 0.5 s
FULL_SCALE = 1 - 2.0**-15  # the largest number of 16 bit
# Samples that are equal and at full scale, one after the other. The top of a clean sine of 20 Hz with all of 16 bit
# is flat for 2 sqrt(2 * 0.5 / 32767) / (2 pi 20) s = 88 us, that of a sine in float for less; a clipped tone of 1 kHz
# that was 3 dB too loud for 250 us.
FLAT_S, FLAT_SAMPLES = 125e-6, 4
ALL = -1  # as a channel: every one of them, not mixed
LEAD_S = 1  # decoded and dropped before a stretch, many times the length of the resampler's filter


@dataclass
class Clip:
    """An open recording. `duration_s` and `flags` are known once its windows have been read to the end."""

    path: str
    rate: int  # Hz, as the decoder says
    channels: int
    declared: int | None  # frames that the decoder promises, None where it does not say or there are fewer
    first: int = 0  # the frame that decoding starts at
    decoded: int = 0  # frames read so far
    flags: set[str] = field(default_factory=set)

    @property
    def duration_s(self) -> float:
        """Seconds that the header promises, or that were decoded where it promises nothing or too much."""
        return (self.declared or self.first + self.decoded) / self.rate


def decode(path: str, start_s: float = 0.0, channel: int | None = None) -> tuple[Clip, Iterator[Samples]]:
    """Open a recording and return it with its mono blocks at its own rate: the mean over channels, or one channel.

    Decoding starts at `clip.first`, on a whole second before `start_s`.
    """
    require_regular(path)
    try:
        clip, blocks = decode_with_soundfile(path, start_s, channel)
    except UnknownFormat as error:
        clip, blocks = decode_with_pyav(path, str(error), channel)
    if is_truncated(path):
        clip.flags.add("truncated")
    return clip, blocks


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
    if file.format == "RAW":  # what libsndfile takes anything for whose name ends with .au or .snd
        file.close()
        raise UnknownFormat("Format not recognised.")
    if file.format == "MP3" and not counts_frames(path):
        file.close()
        raise UnknownFormat("the length is only guessed")
    clip = Clip(path, file.samplerate, file.channels, file.frames)
    check_limits(clip)
    if clip.declared and file.format in SEEKABLE:
        clip.first = min(max(0, int(start_s) - LEAD_S), clip.declared // clip.rate) * clip.rate

    def blocks() -> Iterator[Samples]:
        with file:
            try:
                if clip.first:
                    file.seek(clip.first)
                while len(block := file.read(max(1024, BLOCK // clip.channels), dtype="float32", always_2d=True)):
                    yield mix_down(clip, block, channel)
            except soundfile.LibsndfileError as error:
                end_at_damage(clip, error.error_string, error)
        if clip.declared and clip.first + clip.decoded < clip.declared:
            clip.declared = None
            clip.flags.add("truncated")

    return clip, blocks()


def decode_with_pyav(path: str, complaint: str, channel: int | None) -> tuple[Clip, Iterator[Samples]]:
    """Decode the first audio track with FFmpeg; `complaint` is what libsndfile said."""
    import av

    promised_s = 0.0

    def parts() -> Iterator[av.AudioFrame]:
        nonlocal promised_s
        nameless = os.open(path, os.O_RDONLY)  # FFmpeg would take a file for what its name says
        with (
            open(nameless, "rb") as file,
            av.open(file, "r", metadata_errors="ignore", options=ONLY_THE_FILE) as container,
        ):
            to_float = av.AudioResampler(format="fltp")
            if not container.streams.audio:
                raise AudioError("not-audio", f"{display_path(path)} has no audio track.")
            promised_s = seconds_of(container)
            for frame in chain(container.decode(container.streams.audio[0]), [None]):
                yield from to_float.resample(frame)

    stream = parts()
    try:
        first = next(stream, None)
    except (av.FFmpegError, ValueError, OSError) as error:
        said = f"libsndfile: {complaint.rstrip('.')}; FFmpeg: {explain(error)}"
        detail = f"{display_path(path)} is no audio that can be read ({said})."
        raise AudioError("not-audio", detail) from error
    if first is None:
        raise AudioError("empty", f"{display_path(path)} holds no samples.")
    clip = Clip(path, first.sample_rate, len(first.layout.channels), None)
    check_limits(clip)

    def blocks() -> Iterator[Samples]:
        try:
            for part in chain([first], stream):
                yield mix_down(clip, part.to_ndarray().astype(np.float32, copy=False).T, channel)
        except (av.FFmpegError, ValueError, OSError) as error:
            end_at_damage(clip, explain(error), error)
        if clip.duration_s < promised_s - PADDING_S:
            clip.flags.add("truncated")

    return clip, blocks()


def explain(error: Exception) -> str:
    """Return what FFmpeg says of a damaged file; what the system or the memory says of reading it is raised again.

    PyAV raises ValueError where a track changes its shape, and OSError where FFmpeg seeks beyond what a file can be.
    """
    import av

    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError) and error.errno != errno.EINVAL:
        raise error
    return str(getattr(error, "strerror", None) or error)


def seconds_of(container: "InputContainer") -> float:
    """Return how long the first audio track is by its container, 0 where that does not say."""
    if container.format.name.split(",")[0] not in DECLARING:
        return 0.0
    stream = container.streams.audio[0]
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    alone = len(container.streams) == 1  # else the container is as long as its longest track
    return (container.duration or 0) / 1e6 if alone else 0.0


def end_at_damage(clip: Clip, complaint: str, error: Exception) -> None:
    """Let a truncated recording end where the decoder finds damage; of any other, that is no recording.

    Raises:
        AudioError: the header does not explain the damage, or nothing came before it.
    """
    if "truncated" in clip.flags and clip.decoded:
        return
    where = (clip.first + clip.decoded) / clip.rate
    detail = f"{display_path(clip.path)} cannot be decoded after {where:g} s: {complaint.rstrip('.') or 'damaged'}."
    raise AudioError("corrupt", detail) from error


def mix_down(clip: Clip, block: NDArray[np.float32], channel: int | None) -> Samples:
    """Count frames [n, channels] and return their mean over channels [n], or one channel, or the frames for ALL."""
    clip.decoded += len(block)
    if channel == ALL:
        return block
    heard = block if channel is None else block[:, [channel]]
    if is_clipped(heard, clip.rate):
        clip.flags.add("clipped")
    if heard.shape[1] == 1:
        mono: Samples = heard[:, 0]
        return mono
    clip.flags.add("downmixed")
    mean: Samples = block.mean(axis=1, dtype=np.float32)
    return mean


def is_clipped(block: NDArray[np.float32], rate: int) -> bool:
    """Tell whether a block [n, channels] stays at one value of full scale or above for longer than a clean tone can.

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(4800) / 48_000)[:, None].astype(np.float32)
    >>> is_clipped(tone, 48_000), is_clipped(np.clip(2 * tone, -1, 1), 48_000)
    (False, True)
    """
    if not len(block) or not max(float(block.max()), -float(block.min())) >= FULL_SCALE:
        return False
    flat = np.zeros(block.shape, np.bool_)  # equal to the next one, at full scale; the last row ends every run
    np.equal(block[1:], block[:-1], out=flat[:-1])
    flat &= np.abs(block) >= FULL_SCALE
    edges = np.flatnonzero(np.diff(flat.ravel(order="F"), prepend=False))
    return bool((np.diff(edges)[::2] + 1 >= max(FLAT_SAMPLES, math.ceil(FLAT_S * rate))).any())


def require_regular(path: str) -> None:
    """Refuse what is missing, unreadable, empty or no regular file (a FIFO would block for ever)."""
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise AudioError("missing", f"There is no file {display_path(path)}.") from error
    except (OSError, ValueError) as error:
        raise AudioError("unreadable", f"{display_path(path)} cannot be read: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise AudioError("not-a-file", f"{display_path(path)} is no regular file.")
    if status.st_size == 0:
        raise AudioError("empty", f"{display_path(path)} is empty (0 bytes).")
    if not os.access(path, os.R_OK):
        raise AudioError("unreadable", f"{display_path(path)} cannot be read: permission denied.")


def check_limits(clip: Clip) -> None:
    """Refuse rates and numbers of channels that no recorder has."""
    if not RATES[0] <= clip.rate <= RATES[1]:
        raise AudioError(
            "rate", f"{display_path(clip.path)} says {clip.rate} Hz; {RATES[0]} to {RATES[1]} Hz can be read."
        )
    if not 1 <= clip.channels <= MOST_CHANNELS:
        detail = f"{display_path(clip.path)} says {clip.channels} channels; 1 to {MOST_CHANNELS} can be read."
        raise AudioError("channels", detail)


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
