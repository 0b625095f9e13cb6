"""Decode a recording: a path -> an open clip, as blocks of float32 samples at the clip's own sampling rate.

soundfile (libsndfile) decodes; PyAV (FFmpeg) decodes what libsndfile cannot (m4a, webm), or would not read to its end.
Both are native code that parses untrusted files, so this module runs in a child process only; see
`embedx.audio.decoder_pool`.
"""

import hashlib
import math
import os
import stat
from collections.abc import Iterator, Sequence

import numpy as np

from embedx.audio.clip import Clip, Frames, Samples, check_limits, end_at_damage, fit_blocks
from embedx.audio.ffmpeg import decode_with_pyav
from embedx.audio.inspection import inspect_layout
from embedx.audio.layout import TRUNCATED, Layout, Piece
from embedx.audio.parts import PartFile
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path

SUFFIXES = frozenset(  # audio, and films with an audio track, that libsndfile or FFmpeg decodes
    (
        ".wav .wave .bwf .flac .ogg .oga .ogx .spx .opus .mp3 .mp2 .mpga .m4a .m4b .m4r .aac .adts .ac3 .eac3 .ec3 "
        ".amr .ape .tta .wv .aif .aiff .aifc .au .snd .sph .voc .caf .w64 .rf64 .wma .asf .webm .weba .mka .mkv .mp4 "
        ".m4v .mov .3gp .3g2 .avi .flv .mpg .mpeg .wmv .ogv"
    ).split()
)
BLOCK = 1 << 18  # samples over all channels that are decoded at a time: 1 MB of float32
MAX_FRAMES = 2**40  # more than a week at the highest rate; a larger length in a header is not real
SEEKABLE = ("WAV", "FLAC", "AIFF", "AU", "W64", "RF64", "CAF")  # formats in which libsndfile seeks to the exact sample
FULL_SCALE = 1 - 2.0**-15  # the largest 16-bit sample
# Clipping is a run of equal samples at full scale. The peak of a clean 16-bit sine of 20 Hz is flat for
# 2 sqrt(2 * 0.5 / 32767) / (2 pi 20) s = 88 us, that of a float sine for less; a tone of 1 kHz that was 3 dB too loud
# is flat for 250 us.
FLAT_S, FLAT_SAMPLES = 125e-6, 4
LEAD_S = 1  # seconds decoded before a stretch and dropped: many times the length of the resampler's filter


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
    layout = inspect_layout(path)
    if len(layout.parts) > 1:
        return decode_chain(path, layout)
    return decode_part(path, layout, layout.parts[0] if layout.parts else (), start_s)


def decode_part(
    path: str, layout: Layout, pieces: Sequence[Piece], start_s: float = 0.0
) -> tuple[Clip, Iterator[Frames]]:
    """Open pieces of a recording (none: the file itself) with libsndfile if it reads all of them, else with FFmpeg."""
    try:
        if layout.libsndfile_problem:
            raise UnknownFormat(layout.libsndfile_problem)
        clip, blocks = decode_with_soundfile(path, pieces, start_s, layout.is_counted)
    except UnknownFormat as error:
        clip, blocks = decode_with_pyav(path, pieces, str(error))
    clip.flags |= layout.flags
    return clip, blocks


def decode_chain(path: str, layout: Layout) -> tuple[Clip, Iterator[Frames]]:
    """Decode the parts of a recording one after the other, at the rate and the number of channels of the first one."""
    part, part_blocks = decode_part(path, layout, layout.parts[0])
    clip = Clip(path, part.rate, part.channels, None, flags=part.flags)

    def blocks() -> Iterator[Frames]:
        opened = (part, part_blocks)
        for number, pieces in enumerate(layout.parts):
            try:
                current, current_blocks = opened if number == 0 else decode_part(path, layout, pieces)
                for block in fit_blocks(current_blocks, current.rate, clip):
                    clip.decoded += len(block)
                    yield block
                clip.flags |= current.flags
            except AudioError as error:
                if error.reason != "empty":
                    end_at_damage(clip, error.detail, error)

    return clip, blocks()


class UnknownFormat(Exception):
    """libsndfile cannot read this file."""


def decode_with_soundfile(
    path: str, pieces: Sequence[Piece], start_s: float, is_counted: bool
) -> tuple[Clip, Iterator[Frames]]:
    """Decode with libsndfile; raise UnknownFormat if it cannot read the file.

    Args:
        path: the file.
        pieces: what is decoded of it; empty for all of it.
        start_s: see `decode`.
        is_counted: whether an MP3 counts its frames.
    """
    import soundfile

    try:
        file = soundfile.SoundFile(PartFile(path, pieces) if pieces else os.fsencode(path))
    except soundfile.LibsndfileError as error:
        raise UnknownFormat(error.error_string) from error
    problem = ""
    if file.frames > MAX_FRAMES:  # libsndfile reports this for a FLAC without a length, and cannot decode it
        problem = "the length is not known"
    elif file.format == "RAW":  # libsndfile takes any file whose name ends with .au or .snd for raw samples
        problem = "Format not recognised."
    elif file.format == "MP3" and not is_counted:
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
            clip.flags.add(TRUNCATED)

    return clip, blocks()


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
