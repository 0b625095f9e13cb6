"""Boxes: whether an MP4 or a Matroska file is as long as its outermost boxes declare. FFmpeg decodes both."""

from typing import BinaryIO

from embedx.audio.layout import TRAILING, TRUNCATED, Layout
from embedx.audio.tags import bytes_at, holds_data, int_at

MAX_BOXES = 100_000  # that are read; a film in fragments has some thousands
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def mp4_layout(file: BinaryIO, start: int, size: int) -> Layout:
    """Return the layout of an MP4: whether its last box is complete, and whether something follows it."""
    begin, names = start, set[bytes]()
    for _ in range(MAX_BOXES):
        head = bytes_at(file, start, 16)
        length, name = int_at(head, 0, 4, "big"), head[4:8]
        if length == 1:
            length = int_at(head, 8, 8, "big")
        is_second_file = name == b"ftyp" and start > begin
        if len(head) < 8 or is_second_file or (length and length < 8) or not is_name(name):
            return Layout(frozenset({TRAILING}) if holds_data(file, start, size) else frozenset())
        if length == 0:  # to the end of the file
            return Layout()
        if start + length > size:
            if not holds_data(file, start, size):
                return Layout()
            is_box = name in names or name in KNOWN_BOXES
            return Layout(frozenset({TRUNCATED if is_box else TRAILING}))
        names.add(name)
        start += length
    return Layout()


KNOWN_BOXES = frozenset(b"ftyp moov mdat moof free skip wide uuid meta udta sidx mfra styp pdin".split())


def is_name(name: bytes) -> bool:
    """Tell whether four bytes may be the name of a box."""
    return len(name) == 4 and all(32 <= byte < 127 or byte == 0xA9 for byte in name)


def matroska_layout(file: BinaryIO, start: int, size: int) -> Layout:
    """Return the layout of a Matroska or WebM file: whether its segments are complete, and whether something follows.

    A segment that was written as a stream has no size.
    """
    for _ in range(MAX_BOXES):
        mark = bytes_at(file, start, 4)
        if mark not in (EBML, SEGMENT):
            break
        length, unknown = read_vint(file)
        if unknown:
            return Layout()
        start = file.tell() + length
        if start > size:
            return Layout(frozenset({TRUNCATED}))
    return Layout(frozenset({TRAILING}) if holds_data(file, start, size) else frozenset())


def read_vint(file: BinaryIO) -> tuple[int, bool]:
    """Return a variable-length number of EBML, and whether it stands for "unknown".

    The number of leading zero bits is the number of bytes that follow the first one.
    """
    first = (file.read(1) or b"\0")[0]
    following = 8 - first.bit_length()
    bits = 7 * (following + 1)
    value = int.from_bytes(bytes([first]) + file.read(following), "big") & ((1 << bits) - 1)
    return value, value == (1 << bits) - 1
