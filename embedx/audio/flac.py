"""FLAC: the layout of a native FLAC file.

libsndfile decodes as many samples as the header declares. The number of the last frame says how many there are.
"""

from collections.abc import Iterator
from functools import cache
from typing import BinaryIO

from embedx.audio.layout import MAX_PARTS, TRAILING, TRUNCATED, Layout, split_at
from embedx.audio.tags import BLOCK, before_tags, before_zeros, bytes_at, holds_data, int_at

MARK = b"fLaC"
STREAM_INFO = (b"\0\0\0\x22", b"\x80\0\0\x22")  # the head of the first block of metadata, which has 34 bytes
INFO_END = 4 + 4 + 34
MIN_TAIL = 1 << 16  # bytes at the end that are searched for the last frame; more if frames are larger
MIN_HEADER, MAX_HEADER = 6, 16  # bytes of the header of a frame
MAX_BLOCKS = 1000  # of metadata that are read
BLOCK_SIZES = {1: 192, **{2 + i: 576 << i for i in range(4)}, **{8 + i: 256 << i for i in range(8)}}  # by their code


def flac_layout(file: BinaryIO, start: int, size: int) -> Layout:
    """Return the layout of one FLAC file, or of several that are joined."""
    starts = find_starts(file, start, size)
    if len(starts) > 1:
        return Layout(parts=split_at(starts, size))
    info = bytes_at(file, start, INFO_END)
    total = int_at(info, 21, 5, "big") & (1 << 36) - 1
    end = before_tags(file, start, size)
    content_end = before_zeros(file, start, end)
    largest = int_at(info, 15, 3, "big")
    if not total:
        return Layout()
    last = None
    for sample, position in last_samples(file, start, content_end, info, largest or MIN_TAIL):
        last = sample if last is None else last
        if sample == total:
            more = largest and holds_data(file, position + largest, end)
            return Layout(frozenset({TRAILING}) if more else frozenset())
    if last is None:
        return Layout()
    flags = frozenset({TRUNCATED}) if last < total else frozenset()
    parts = (((start, content_end),),) if flags and content_end < end else ()
    return Layout(flags, parts, f"the header counts {total} of {last} samples")


def find_starts(file: BinaryIO, start: int, size: int) -> list[int]:
    """Return the positions of all FLAC headers in a file."""
    starts: list[int] = []
    position, kept, last = start, len(MARK) + 4, -1
    while size - position >= kept:
        block = bytes_at(file, position, BLOCK)
        found = block.find(MARK)
        while found >= 0:
            if block[found + 4 : found + 8] in STREAM_INFO and position + found > last and len(starts) <= MAX_PARTS:
                last = position + found
                starts.append(last)
            found = block.find(MARK, found + 1)
        if len(block) < BLOCK:
            break
        position += BLOCK - kept
    return starts


def last_samples(file: BinaryIO, start: int, end: int, info: bytes, largest: int) -> Iterator[tuple[int, int]]:
    """Yield (number of the sample after it, position) of the frames at the end of the file, the last one first.

    A few may be audio that looks like the header of a frame.
    """
    first = first_frame(file, start)
    head = bytes_at(file, first, 4)
    begin = max(first, end - max(MIN_TAIL, 2 * largest))
    tail = bytes_at(file, begin, end - begin)
    position = tail.rfind(head[:2]) if head[:1] == b"\xff" else -1
    while position >= 0:
        frame = tail[position : position + MAX_HEADER]
        same_kind = len(frame) >= MIN_HEADER and frame[2] & 15 == head[2] & 15 and frame[3] & 15 == head[3] & 15
        sample = sample_after(frame, int_at(info, 8, 2, "big")) if same_kind else None
        if sample is not None:
            yield sample, begin + position
        position = tail.rfind(head[:2], 0, position)


def first_frame(file: BinaryIO, start: int) -> int:
    """Return the position after the blocks of metadata."""
    position = start + len(MARK)
    for _ in range(MAX_BLOCKS):
        head = bytes_at(file, position, 4)
        position += 4 + int_at(head, 1, 3, "big")
        if len(head) < 4 or head[0] & 0x80:
            break
    return position


def sample_after(frame: bytes, block_size: int) -> int | None:
    """Return the number of the sample after a frame, None if the bytes are not the header of one.

    Args:
        frame: the first 16 bytes of the frame.
        block_size: samples in each frame but the last one, if that number is fixed.
    """
    extra = 7 - (frame[4] ^ 0xFF).bit_length() if frame[4] & 0x80 else 0  # a number coded as in UTF-8
    if extra < 0 or (frame[4] & 0x80 and extra == 0):
        return None
    number = frame[4] & (0x7F if not extra else 0x3F >> extra)
    for byte in frame[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    code, place = frame[2] >> 4, 5 + extra
    wide = {6: 1, 7: 2}.get(code, 0)
    samples = int_at(frame, place, wide, "big") + 1 if wide else BLOCK_SIZES.get(code, 0)
    place += wide + {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)
    if not samples or place >= len(frame) or checksum(frame[:place]) != frame[place]:
        return None
    return (number if frame[1] & 1 else number * block_size) + samples


def checksum(data: bytes) -> int:
    """Return the CRC-8 of the header of a frame (polynomial x^8 + x^2 + x + 1).

    >>> checksum(b"123456789"), checksum(b"")  # the check value of this CRC in catalogues
    (244, 0)
    """
    table, value = checksum_table(), 0
    for byte in data:
        value = table[value ^ byte]
    return value


@cache
def checksum_table() -> list[int]:
    """Return the CRC-8 of each byte."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ (7 if value & 0x80 else 0)) & 0xFF
        table.append(value)
    return table
