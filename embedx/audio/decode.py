"""Decode a recording: a path -> an open clip, as blocks of float32 samples at the clip's own sampling rate.

soundfile (libsndfile) decodes; PyAV (FFmpeg) decodes what libsndfile cannot (m4a, webm). Both are native code that
parses untrusted files, so this module runs in a child process only; see `embedx.audio.decoder_pool`.
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
    from av import AudioFrame
    from av.container import InputContainer

Samples = NDArray[np.float32]  # [S]
Frames = NDArray[np.float32]  # [S, channels]

SUFFIXES = frozenset(  # audio, and films with an audio track, that libsndfile or FFmpeg decodes
    (
        ".wav .wave .bwf .flac .ogg .oga .ogx .spx .opus .mp3 .mp2 .mpga .m4a .m4b .m4r .aac .adts .ac3 .eac3 .ec3 "
        ".amr .ape .tta .wv .aif .aiff .aifc .au .snd .sph .voc .caf .w64 .rf64 .wma .asf .webm .weba .mka .mkv .mp4 "
        ".m4v .mov .3gp .3g2 .avi .flv .mpg .mpeg .wmv .ogv"
    ).split()
)
BLOCK = 1 << 18  # samples over all channels that are decoded at a time: 1 MB of float32
MAX_FRAMES = 2**40  # more than a week at the highest rate; a larger length in a header is not real
RATES = (100, 1_536_000)  # Hz, the lowest and highest rate that is accepted
MAX_CHANNELS = 1024  # the limit of libsndfile; the largest known microphone array has 1020
SEEKABLE = ("WAV", "FLAC", "AIFF", "AU", "W64", "RF64", "CAF")  # formats in which libsndfile seeks to the exact sample
# The formats that FFmpeg may detect: audio and films. With all formats allowed, zeros are detected as music of a game
# console, and a text file as a playlist, whose files and network addresses FFmpeg then opens.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv,matroska,webm,mov,mp4"
)
FFMPEG_OPTIONS = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none"}
DECLARING = ("mov", "matroska", "asf")  # formats whose duration FFmpeg reads from the header instead of estimating it
PADDING_S = 0.5  # encoders pad the audio, so the header may declare this much more; HE-AAC at 8 kHz has 0.5 s
FULL_SCALE = 1 - 2.0**-15  # the largest 16-bit sample
# Clipping is a run of equal samples at full scale. The peak of a clean 16-bit sine of 20 Hz is flat for
# 2 sqrt(2 * 0.5 / 32767) / (2 pi 20) s = 88 us, that of a float sine for less; a tone of 1 kHz that was 3 dB too loud
# is flat for 250 us.
FLAT_S, FLAT_SAMPLES = 125e-6, 4
LEAD_S = 1  # seconds decoded before a stretch and dropped: many times the length of the resampler's filter


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
        flags: "truncated", "clipped", "downmixed", "cut".
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


def decode(path: str, start_s: float = 0.0, channel: int | None = None) -> tuple[Clip, Iterator[Samples]]:
    """Open a recording and return it with its mono blocks [S] at its own rate.

    Args:
        path: the file.
        start_s: decoding starts at `clip.first`, on a whole second before this time.
        channel: a channel, from 0; None is the mean over all channels.

    Raises:
        AudioError: the file cannot be decoded. It may also be raised while the blocks are read.
    """
    clip, blocks = decode_frames(path, start_s)
    return clip, (mix_down(clip, block, channel) for block in blocks)


def decode_frames(path: str, start_s: float = 0.0) -> tuple[Clip, Iterator[Frames]]:
    """Open a recording and return it with its blocks [S, channels]; see `decode`."""
    require_regular(path)
    try:
        clip, blocks = decode_with_soundfile(path, start_s)
    except UnknownFormat as error:
        clip, blocks = decode_with_pyav(path, str(error))
    if is_truncated(path):
        clip.flags.add("truncated")
    return clip, blocks


class UnknownFormat(Exception):
    """libsndfile cannot read this file."""


def decode_with_soundfile(path: str, start_s: float) -> tuple[Clip, Iterator[Frames]]:
    """Decode with libsndfile; raise UnknownFormat if it cannot read the file."""
    import soundfile

    try:
        file = soundfile.SoundFile(os.fsencode(path))
    except soundfile.LibsndfileError as error:
        raise UnknownFormat(error.error_string) from error
    problem = ""
    if file.frames > MAX_FRAMES:  # libsndfile reports this for a FLAC without a length, and cannot decode it
        problem = "the length is not known"
    elif file.format == "RAW":  # libsndfile takes any file whose name ends with .au or .snd for raw samples
        problem = "Format not recognised."
    elif file.format == "MP3" and not counts_frames(path):
        problem = "the length is only estimated"
    if problem:
        file.close()
        raise UnknownFormat(problem)
    clip = Clip(path, file.samplerate, file.channels, file.frames)
    check_limits(clip)
    if clip.declared and file.format in SEEKABLE:
        clip.first = min(max(0, int(start_s) - LEAD_S), clip.declared // clip.rate) * clip.rate

    def blocks() -> Iterator[Frames]:
        with file:
            try:
                if clip.first:
                    file.seek(clip.first)
                while len(block := file.read(max(1024, BLOCK // clip.channels), dtype="float32", always_2d=True)):
                    clip.decoded += len(block)
                    yield block
            except soundfile.LibsndfileError as error:
                end_at_damage(clip, error.error_string, error)
        if clip.declared and clip.first + clip.decoded < clip.declared:
            clip.declared = None
            clip.flags.add("truncated")

    return clip, blocks()


def decode_with_pyav(path: str, soundfile_error: str) -> tuple[Clip, Iterator[Frames]]:
    """Decode the first audio track with FFmpeg; `soundfile_error` is the error message of libsndfile."""
    import av

    declared_s = 0.0

    def read_parts() -> "Iterator[AudioFrame]":
        nonlocal declared_s
        handle = os.open(path, os.O_RDONLY)  # given a path, FFmpeg would also look at the file's name
        with (
            open(handle, "rb") as file,
            av.open(file, "r", metadata_errors="ignore", options=FFMPEG_OPTIONS) as container,
        ):
            to_float = av.AudioResampler(format="fltp")
            if not container.streams.audio:
                raise AudioError("not-audio", f"{display_path(path)} has no audio track.")
            declared_s = declared_seconds(container)
            for frame in chain(container.decode(container.streams.audio[0]), [None]):
                yield from to_float.resample(frame)

    parts = read_parts()
    try:
        first = next(parts, None)
    except (av.FFmpegError, ValueError, OSError) as error:
        causes = f"libsndfile: {soundfile_error.rstrip('.')}; FFmpeg: {describe_damage(error)}"
        raise AudioError("not-audio", f"{display_path(path)} cannot be read as audio ({causes}).") from error
    if first is None:
        raise AudioError("empty", f"{display_path(path)} contains no samples.")
    clip = Clip(path, first.sample_rate, len(first.layout.channels), None)
    check_limits(clip)

    def blocks() -> Iterator[Frames]:
        try:
            for part in chain([first], parts):
                block = part.to_ndarray().astype(np.float32, copy=False).T
                clip.decoded += len(block)
                yield block
        except (av.FFmpegError, ValueError, OSError) as error:
            end_at_damage(clip, describe_damage(error), error)
        if clip.duration_s < declared_s - PADDING_S:
            clip.flags.add("truncated")

    return clip, blocks()


def describe_damage(error: Exception) -> str:
    """Return FFmpeg's message about a damaged file; raise again an error of the system or of memory.

    PyAV raises ValueError if the format of a track changes, and OSError if FFmpeg seeks beyond the possible size of a
    file.
    """
    import av

    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError) and error.errno != errno.EINVAL:
        raise error
    return str(getattr(error, "strerror", None) or error)


def declared_seconds(container: "InputContainer") -> float:
    """Return the duration of the first audio track by the header of its container, 0 if the header has none."""
    if container.format.name.split(",")[0] not in DECLARING:
        return 0.0
    stream = container.streams.audio[0]
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    is_only_track = len(container.streams) == 1  # otherwise the container is as long as its longest track
    return (container.duration or 0) / 1e6 if is_only_track else 0.0


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


def mix_down(clip: Clip, block: Frames, channel: int | None) -> Samples:
    """Return one channel of a block [S, channels], or the mean over channels for None, as samples [S]."""
    used = block if channel is None else block[:, [channel]]
    if is_clipped(used, clip.rate):
        clip.flags.add("clipped")
    if used.shape[1] == 1:
        mono: Samples = used[:, 0]
        return mono
    clip.flags.add("downmixed")
    mean: Samples = block.mean(axis=1, dtype=np.float32)
    return mean


def is_clipped(block: Frames, rate: int) -> bool:
    """Tell whether a block [S, channels] stays at full scale for longer than a clean tone can.

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(4800) / 48_000)[:, None].astype(np.float32)
    >>> is_clipped(tone, 48_000), is_clipped(np.clip(2 * tone, -1, 1), 48_000)
    (False, True)
    """
    if not len(block) or not max(float(block.max()), -float(block.min())) >= FULL_SCALE:
        return False
    flat = np.zeros(block.shape, np.bool_)  # the sample is at full scale and equals the next; the last row ends a run
    np.equal(block[1:], block[:-1], out=flat[:-1])
    flat &= np.abs(block) >= FULL_SCALE
    edges = np.flatnonzero(np.diff(flat.ravel(order="F"), prepend=False))
    return bool((np.diff(edges)[::2] + 1 >= max(FLAT_SAMPLES, math.ceil(FLAT_S * rate))).any())


def require_regular(path: str) -> None:
    """Refuse a file that is missing, unreadable, empty, or not a regular file (reading a FIFO would block).

    Raises:
        AudioError: the reason says which.
    """
    shown = display_path(path)
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise AudioError("missing", f"There is no file {shown}.") from error
    except (OSError, ValueError) as error:
        raise AudioError("unreadable", f"{shown} cannot be read: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise AudioError("not-a-file", f"{shown} is not a regular file.")
    if status.st_size == 0:
        raise AudioError("empty", f"{shown} is empty (0 bytes).")
    if not os.access(path, os.R_OK):
        raise AudioError("unreadable", f"{shown} cannot be read: permission denied.")


def check_limits(clip: Clip) -> None:
    """Refuse a sampling rate or a number of channels that no recorder has."""
    shown = display_path(clip.path)
    if not RATES[0] <= clip.rate <= RATES[1]:
        detail = f"{shown} has a sampling rate of {clip.rate} Hz; {RATES[0]} to {RATES[1]} Hz are supported."
        raise AudioError("rate", detail)
    if not 1 <= clip.channels <= MAX_CHANNELS:
        raise AudioError("channels", f"{shown} has {clip.channels} channels; 1 to {MAX_CHANNELS} are supported.")


def length_of(path: str) -> float | None:
    """Return the duration in seconds from the header, without decoding; None if libsndfile cannot read it."""
    import soundfile

    try:
        info = soundfile.info(os.fsencode(path))
    except (soundfile.LibsndfileError, OSError):
        return None
    return float(info.duration) if 0 < info.frames <= MAX_FRAMES else None


def hash_content(path: str) -> str:
    """Return a hash of a file's bytes, by which a copied or moved file is recognized."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
