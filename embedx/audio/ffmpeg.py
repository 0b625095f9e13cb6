"""FFmpeg: decode with PyAV what libsndfile cannot read, or would not read to its end."""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, groupby
from typing import TYPE_CHECKING

import numpy as np

from embedx.audio.clip import Clip, Frames, check_limits, end_at_damage, fit_blocks
from embedx.audio.layout import TRAILING, TRUNCATED, Piece
from embedx.audio.parts import PartFile
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import InputContainer

# The formats that FFmpeg may detect: audio and films. With all formats allowed, zeros are detected as music of a game
# console, and a text file as a playlist, whose files and network addresses FFmpeg then opens.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,mp3,mpeg,mpegts,ogg,tta,w64,wav,wv,matroska,webm,mov,mp4"
)
FFMPEG_OPTIONS = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none"}
DECLARING = (
    "mov",
    "matroska",
    "asf",
    "avi",
    "flv",
)  # formats whose duration FFmpeg reads from the header instead of estimating it
SKIPPING = ("mp3float", "mp3")  # decoders of FFmpeg whose frames need the ones before them
LOSSLESS = ("wavpack", "tta")  # decoders that check their frames if they are told to; no encoder stores wrong checksums
PADDING_S = 0.5  # encoders pad the audio, so the header may declare this much more; HE-AAC at 8 kHz has 0.5 s


def decode_with_pyav(path: str, pieces: Sequence[Piece], soundfile_error: str) -> tuple[Clip, Iterator[Frames]]:
    """Decode the first audio track with FFmpeg.

    Args:
        path: the file.
        pieces: what is decoded of it; empty for all of it.
        soundfile_error: the error message of libsndfile.
    """
    import av

    declared_s, flags = 0.0, set[str]()

    def read_parts() -> "Iterator[AudioFrame]":
        nonlocal declared_s
        handle = os.open(path, os.O_RDONLY)  # given a path, FFmpeg would also look at the file's name
        with (
            open(handle, "rb") as whole,
            PartFile(path, pieces) if pieces else nullcontext(whole) as file,
            av.open(file, "r", metadata_errors="ignore", options=FFMPEG_OPTIONS) as container,
        ):
            if not container.streams.audio:
                raise AudioError("not-audio", f"{display_path(path)} has no audio track.")
            if container.streams.audio[0].codec_context is None:
                raise AudioError("not-audio", f"{display_path(path)} has a codec that FFmpeg does not know.")
            declared_s = declared_seconds(container)
            yield from to_float(decode_packets(container, flags))

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
            for rate, frames in groupby(chain([first], parts), key=lambda frame: frame.sample_rate):
                arrays = (frame.to_ndarray().astype(np.float32, copy=False).T for frame in frames)
                for block in fit_blocks(arrays, rate, clip):
                    clip.decoded += len(block)
                    yield block
        except (av.FFmpegError, ValueError, OSError) as error:
            end_at_damage(clip, describe_damage(error), error)
        clip.flags |= flags
        if clip.duration_s < declared_s - PADDING_S:
            clip.flags.add(TRUNCATED)

    return clip, blocks()


def decode_packets(container: "InputContainer", flags: set[str]) -> "Iterator[AudioFrame]":
    """Yield the frames of the first audio track.

    The first frames of an MP3 that was joined to another one need data that is not there. FFmpeg refuses them, and the
    frames after them are right; so invalid frames are left out of an MP3, unless they are more than the others. In
    other formats, invalid data are damage, and at the end of a file the rest of a frame or something else than audio.
    """
    import av

    stream = container.streams.audio[0]
    if stream.codec_context.name in LOSSLESS:
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    may_skip, valid = stream.codec_context.name in SKIPPING, 0
    errors: list[av.InvalidDataError] = []
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            frames = stream.decode(packet)
        except av.InvalidDataError as error:
            errors.append(error)
            continue
        if errors and frames and packet.size and not may_skip:
            raise errors[0]
        valid += len(frames)
        yield from frames
    if len(errors) > valid:
        raise errors[-1]
    if errors and not may_skip:
        flags.add(TRUNCATED if len(errors) == 1 else TRAILING)


def to_float(frames: "Iterable[AudioFrame]") -> "Iterator[AudioFrame]":
    """Convert frames to planar float32; their rate and channels may change, as in joined files."""
    import av

    for _, same in groupby(frames, key=lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        converter = av.AudioResampler(format="fltp")
        for frame in chain(same, [None]):
            yield from converter.resample(frame)


def describe_damage(error: Exception) -> str:
    """Return FFmpeg's message about a damaged file; raise again an error of the system or of memory.

    PyAV raises OSError if FFmpeg seeks beyond the possible size of a file.
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
