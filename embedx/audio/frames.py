"""Frames: the layout of formats that are a row of frames, each with its length in its first bytes. FFmpeg decodes them.

FFmpeg finds the next frame by itself, so it neither says that the last one is incomplete, nor ends before other data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, NamedTuple

from embedx.audio.layout import MAX_PARTS, TRAILING, TRUNCATED, Layout, split_at
from embedx.audio.tags import BLOCK, before_tags, bytes_at, holds_data, int_at, skip_tags

LAYER_2_RATES = {  # kbit/s by index, of MPEG 1, and of MPEG 2 and 2.5
    True: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version
AC3_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)  # kbit/s
AC3_LAST = 10  # the highest version of the bit stream of AC-3; E-AC-3 has 11 to 16
FLV_TAGS = (8, 9, 18)  # audio, film, metadata
AMR_MAGICS = {  # first bytes of a file -> bytes of a frame by its type, 0 if there is no such type
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1),
}
FOLLOWING = 3  # frames in a row: bytes that look like one frame by chance are hardly ever followed by two more
MIN_FRAME_BYTES = 12  # of all these formats but AMR: the head of a pack in an MPEG program stream
UNKNOWN_TOTAL = 0xFFFFFFFF  # samples of a WavPack file whose encoder did not know them
MAX_STRETCHES = 100  # of frames between damage that are read; a malicious file may have millions
MAX_DAMAGE = 1 << 20  # bytes without a frame that are searched: 2 s in a file that is made to be slow


@dataclass(frozen=True)
class Framing:
    """How the frames of a format begin, and the length in bytes by the first bytes of one; 0: it is not a frame."""

    first: bytes
    head_bytes: int
    length: Callable[[bytes], int]
    min_bytes: int = MIN_FRAME_BYTES


def layer_2_length(head: bytes) -> int:
    """Return the length of a frame of MPEG audio, layer II."""
    if head[0] != 0xFF or head[1] & 0xE6 != 0xE4:
        return 0
    version, kilobits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kilobits == 15 or rate == 3:
        return 0
    length = 144_000 * LAYER_2_RATES[version == 3][kilobits] // SAMPLE_RATES[version][rate]
    return length + (head[2] >> 1 & 1) if length else 0


def ac3_length(head: bytes) -> int:
    """Return the length of a frame of AC-3 or E-AC-3."""
    if head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > AC3_LAST:
        return 2 * (int_at(head, 2, 2, "big") & 0x7FF) + 2
    rate, code = head[4] >> 6, head[4] & 0x3F
    if rate == 3 or code >= 2 * len(AC3_RATES):
        return 0
    kilobits = AC3_RATES[code >> 1]
    return 2 * (2 * kilobits, 96_000 * kilobits // 44_100 + (code & 1), 3 * kilobits)[rate]


def wavpack_length(head: bytes) -> int:
    """Return the length of a block of WavPack."""
    return 8 + int_at(head, 4, 4, "little") if head[:4] == b"wvpk" else 0


def flv_length(head: bytes) -> int:
    """Return the length of a tag of a Flash film, with the number behind it that repeats its length."""
    return 11 + int_at(head, 1, 3, "big") + 4 if head[0] in FLV_TAGS else 0


def program_length(head: bytes) -> int:
    """Return the length of a pack's head or of a packet in a program stream of MPEG 1 or 2."""
    if head[:3] != b"\0\0\1":
        return 0
    if head[3] == 0xBA:
        if head[4] >> 6 == 1:
            return 14 + (int_at(head, 13, 1, "big") & 7)
        return 12 if head[4] >> 4 == 2 else 0
    return 6 + int_at(head, 4, 2, "big") if head[3] > 0xBA else 0


LAYER_2 = Framing(b"\xff", 3, layer_2_length)
AC3 = Framing(b"\x0b\x77", 6, ac3_length)
WAVPACK = Framing(b"wvpk", 8, wavpack_length)
PROGRAM = Framing(b"\0\0\1", 14, program_length)
FLV = Framing(b"", 11, flv_length)


def framing_of(head: bytes) -> Framing | None:
    """Return the framing of a file with these first 12 bytes; None if its format is another one."""
    return next((one for one in (LAYER_2, AC3, WAVPACK, PROGRAM) if len(head) >= 12 and one.length(head)), None)


def frames_layout(file: BinaryIO, start: int, size: int, framing: Framing) -> Layout | None:
    """Return the layout of a file whose first frame is at `start`; None if no other one follows it."""
    end = before_tags(file, start, size)
    run = follow(file, start, end, framing)
    if run.frames < FOLLOWING and framing is not WAVPACK:  # its blocks can be long, and are hardly found by chance
        return None
    for _ in range(MAX_STRETCHES):
        begin = skip_tags(file, run.stop) if run.stop < end else end
        limit = min(end, begin + MAX_DAMAGE)
        begin = find_frames(file, begin, limit, framing)
        if begin >= limit:
            break
        run = follow(file, begin, end, framing)
    layout = layout_until(file, start, run.stop, size)
    is_short = framing is WAVPACK and lacks_blocks(file, start, run.last)
    # Other frames do not say how many there are: zeros in the place of the next one can be padding or a lost end.
    lacks_frame = framing is not WAVPACK and skip_tags(file, run.stop) == run.stop <= end - (run.stop - run.last)
    doubts = {TRUNCATED: is_short, TRAILING: lacks_frame}
    return replace(layout, flags=layout.flags | {flag for flag, is_true in doubts.items() if is_true})


def lacks_blocks(file: BinaryIO, first: int, last: int) -> bool:
    """Tell whether a WavPack file has fewer samples up to its last block than its first block declares."""
    total = int_at(bytes_at(file, first + 12, 4), 0, 4, "little")
    place = bytes_at(file, last + 16, 8)
    return total != UNKNOWN_TOTAL and int_at(place, 0, 4, "little") + int_at(place, 4, 4, "little") < total


def layout_until(file: BinaryIO, start: int, stop: int, size: int) -> Layout:
    """Return the layout of a file of `size` bytes whose audio ends at `stop`; tags and padding may follow."""
    end = before_tags(file, start, size)
    last = min(stop, end)
    doubts = {TRUNCATED: stop > end, TRAILING: holds_data(file, stop, end)}
    flags = frozenset(flag for flag, is_true in doubts.items() if is_true)
    return Layout(flags, parts=(((start, last),),) if last < size else ())


class Run(NamedTuple):
    """Frames that follow each other: their number, and the start and the end of the last one."""

    frames: int
    last: int
    stop: int


def follow(file: BinaryIO, start: int, end: int, framing: Framing) -> Run:
    """Return the frames that follow each other; the last one may end beyond `end`."""
    frames, last = 0, start
    while start < end:
        length = framing.length(bytes_at(file, start, framing.head_bytes).ljust(framing.head_bytes, b"\0"))
        if length < framing.min_bytes:
            break
        frames, last, start = frames + 1, start, start + length
    return Run(frames, last, start)


def find_frames(file: BinaryIO, start: int, end: int, framing: Framing) -> int:
    """Return the position of the next frames that follow each other, at or beyond `end` if there are none."""
    while start < end:
        block = bytes_at(file, start, min(BLOCK, end - start))
        found = block.find(framing.first)
        while found >= 0:
            if follow_some(file, start + found, framing):
                return start + found
            found = block.find(framing.first, found + 1)
        start += max(1, len(block) - len(framing.first) + 1)
    return end


def follow_some(file: BinaryIO, start: int, framing: Framing) -> bool:
    """Tell whether `FOLLOWING` frames follow each other."""
    for _ in range(FOLLOWING):
        run = follow(file, start, start + 1, framing)
        if not run.frames:
            return False
        start = run.stop
    return True


def flv_layout(file: BinaryIO, head: bytes, start: int, size: int) -> Layout:
    """Return the layout of a Flash film, whose first 12 bytes are `head`."""
    run = follow(file, start + int_at(head, 5, 4, "big") + 4, size, FLV)
    return layout_until(file, start, run.stop, size)


def amr_length(lengths: Sequence[int], head: bytes) -> int:
    """Return the length of a frame of AMR: bits 3 to 6 are its type, bit 2 says that it is good, the others are 0."""
    return lengths[head[0] >> 3] if head[0] & 0x87 == 4 else 0


def amr_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of an AMR file, or of several that were joined; None if the file is another one."""
    starts, stop = list[int](), 0
    while len(starts) < MAX_PARTS:
        head = bytes_at(file, stop, max(map(len, AMR_MAGICS)))
        magic = next((one for one in AMR_MAGICS if head.startswith(one)), None)
        if magic is None:
            break
        starts.append(stop)
        frames = Framing(b"", 1, partial(amr_length, AMR_MAGICS[magic]), min_bytes=1)
        stop = follow(file, stop + len(magic), size, frames).stop
    if not starts:
        return None
    flags = frozenset({TRUNCATED} if stop > size else {TRAILING} if stop < size else ())
    stop = min(stop, size)
    return Layout(flags, split_at(starts, stop) or ((((0, stop),),) if stop < size else ()))


def tta_layout(file: BinaryIO, start: int, size: int) -> Layout:
    """Return the layout of a True Audio file: its header is followed by the lengths of its frames."""
    head = bytes_at(file, start, 22)
    rate, samples = int_at(head, 10, 4, "little"), int_at(head, 14, 4, "little")
    frames = -(-samples // max(1, 256 * rate // 245))
    table_end = start + 22 + 4 * frames + 4  # both are followed by a checksum of 4 bytes; the header has it inside
    if table_end > size:
        return Layout(frozenset({TRUNCATED}))
    table = bytes_at(file, start + 22, 4 * frames)
    stop = table_end + sum(int_at(table, i, 4, "little") for i in range(0, len(table), 4))
    return layout_until(file, start, stop, size)
