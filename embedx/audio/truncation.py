"""Truncation: whether a file holds all the bytes that its header declares.

libsndfile silently corrects the length of a truncated file, and FFmpeg stops at the end of the file. So this module
reads the declared size from a few bytes of the header, and compares it with the size of the file.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

Order = Literal["big", "little"]

MAX_CHUNKS = 1000  # that are read; real files have under 20, a malicious one may have millions
OGG_PAGE = 27 + 255 + 255 * 255  # bytes of the longest page: header, table of segments, segments
END_OF_STREAM = 4  # bit in the flags of the last Ogg page
UNKNOWN_SIZE = 0x7FFF_E000  # programs that write to a pipe declare sizes from here to 2**31, or near 2**32


def is_truncated(path: str) -> bool:
    """Tell whether a file is shorter than its header declares; False if it declares no size (AAC, WAV from a pipe)."""
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == b"OggS":
            return not ogg_is_complete(file, size)
        return (declared_end(file, head) or 0) > size


def declared_end(file: BinaryIO, head: bytes) -> int | None:
    """Return the byte at which the audio ends by the header; None if the header does not declare it."""
    kind = head[:4]
    if kind in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return end_of_wav(file, "big" if kind == b"RIFX" else "little")
    if kind == b"FORM":
        return end_of_chunk(file, b"SSND", ChunkLayout(12, 4, 4, "big", even=True))
    if kind == b"riff":  # W64: names have 16 bytes, and sizes include the 24 bytes of name and size
        return end_of_chunk(file, b"data", ChunkLayout(40, 16, 8, "little", counted=24))
    if kind == b"caff":
        return end_of_chunk(file, b"data", ChunkLayout(8, 4, 8, "big"))
    if kind in (b".snd", b"dns."):
        order: Order = "big" if kind == b".snd" else "little"
        return end_of(int_at(head, 4, 4, order), int_at(head, 8, 4, order))
    if kind[:3] == b"ID3" or is_frame(kind):
        return end_of_mp3(file)[0]
    if head[4:8] == b"ftyp":
        return end_of_boxes(file)
    if kind == b"\x1a\x45\xdf\xa3":
        return end_of_segment(file)
    return None


@dataclass(frozen=True)
class ChunkLayout:
    """Where the chunks of a format begin, and how each one is built: name, size, body.

    Attributes:
        start: the position of the first chunk.
        name_bytes, size_bytes: the lengths of name and size.
        order: the byte order of the size.
        counted: how many bytes of name and size are included in the size; W64 also aligns chunks to 8 bytes.
        even: whether chunks start at even positions.
    """

    start: int
    name_bytes: int
    size_bytes: int
    order: Order
    counted: int = 0
    even: bool = False


def chunks(file: BinaryIO, layout: ChunkLayout) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, position of the body, size of the body) of each chunk."""
    start, head_bytes = layout.start, layout.name_bytes + layout.size_bytes
    for _ in range(MAX_CHUNKS):
        file.seek(start)
        head = file.read(head_bytes)
        if len(head) < head_bytes:
            return
        size = max(0, int_at(head, layout.name_bytes, layout.size_bytes, layout.order) - layout.counted)
        yield head[: layout.name_bytes], start + head_bytes, size
        start += head_bytes + size + (size % 2 if layout.even else -size % 8 if layout.counted else 0)
        if start >= 1 << 63:  # no file is that long, and seek would raise an error
            return


def end_of_chunk(file: BinaryIO, name: bytes, layout: ChunkLayout) -> int | None:
    """Return the end of the first chunk whose name starts with `name`."""
    for chunk, body, size in chunks(file, layout):
        if chunk.startswith(name):
            return end_of(body, size, 8 * layout.size_bytes)
    return None


def end_of_wav(file: BinaryIO, order: Order) -> int | None:
    """Return the end of the data chunk of a WAV; RF64 has its size in an earlier chunk, "ds64"."""
    long_size = None
    for name, body, size in chunks(file, ChunkLayout(12, 4, 4, order, even=True)):
        if name == b"ds64":
            file.seek(body + 8)
            long_size = int.from_bytes(file.read(8), "little")
        elif name == b"data":
            return body + long_size if long_size is not None and size == 0xFFFF_FFFF else end_of(body, size)
    return None


def end_of(start: int, size: int, bits: int = 32) -> int | None:
    """Return the end of a chunk, None if its size stands for "unknown".

    >>> end_of(44, 1000), end_of(44, 0), end_of(44, 0xFFFFFFFF)
    (1044, None, None)
    """
    is_unknown = size >> 63 if bits == 64 else size % 2**31 >= UNKNOWN_SIZE
    return None if size == 0 or is_unknown else start + size


def counts_frames(path: str) -> bool:
    """Tell whether an MP3 declares its length (Xing or Info tag); else libsndfile reads only an estimated length."""
    with open(path, "rb") as file:
        return end_of_mp3(file)[1]


def end_of_mp3(file: BinaryIO) -> tuple[int | None, bool]:
    """Return the end of an MP3 by the tag in its first frame, and whether the tag (Xing, Info) counts the frames."""
    start = 0
    for _ in range(MAX_CHUNKS):
        file.seek(start)
        head = file.read(10)
        if head[:3] != b"ID3":
            break
        sizes = head[6:10]  # four bytes of 7 bits each
        start += 10 + sum(bits << 7 * (len(sizes) - 1 - i) for i, bits in enumerate(sizes))
    file.seek(start)
    frame = file.read(64)
    if not is_frame(frame[:4]):
        return None, False
    mono, first_version = frame[3] >> 6 == 3, bool(frame[1] & 8)
    tag = 4 + ((17 if mono else 32) if first_version else (9 if mono else 17))  # after the side information
    if frame[tag : tag + 4] in (b"Xing", b"Info"):
        present = int_at(frame, tag + 4, 4, "big")  # bit 0: a number of frames follows; bit 1: then a number of bytes
        counted = bool(present & 1)
        size = int_at(frame, tag + 8 + 4 * counted, 4, "big") if present & 2 else 0
        return end_of(start, size), counted
    if frame[36:40] == b"VBRI":
        return end_of(start, int_at(frame, 46, 4, "big")), False
    return None, False


def is_frame(head: bytes) -> bool:
    """Tell whether four bytes are the header of an MPEG audio frame, layer III."""
    return len(head) == 4 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08


def end_of_boxes(file: BinaryIO) -> int | None:
    """Return the end of the last top-level box of an MP4."""
    start = 0
    for _ in range(MAX_CHUNKS):
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return start
        size = int_at(head, 0, 4, "big")
        if size == 1:
            size = int_at(head, 8, 8, "big")
        if size < 8 or start + size >= 1 << 63:  # 0 means "to the end of the file"
            return None
        start += size
    return None


def end_of_segment(file: BinaryIO) -> int | None:
    """Return the end of the segment of a Matroska or WebM file; None if it was written as a stream."""
    file.seek(4)
    length, _ = read_vint(file)
    file.seek(length or 0, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return None
    length, unknown = read_vint(file)
    return None if unknown else file.tell() + length


def read_vint(file: BinaryIO) -> tuple[int, bool]:
    """Return a variable-length number of EBML, and whether it stands for "unknown".

    The number of leading zero bits is the number of bytes that follow the first one.
    """
    first = (file.read(1) or b"\0")[0]
    following = 8 - first.bit_length()
    bits = 7 * (following + 1)
    value = int.from_bytes(bytes([first]) + file.read(following), "big") & ((1 << bits) - 1)
    return value, value == (1 << bits) - 1


def ogg_is_complete(file: BinaryIO, size: int) -> bool:
    """Tell whether the last page of an Ogg file is complete, and is marked as the last one."""
    file.seek(max(0, size - 2 * OGG_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    if len(page) < 27 or not page[5] & END_OF_STREAM:
        return False
    table = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(table)


def int_at(data: bytes, position: int, width: int, order: Order) -> int:
    """Return the unsigned number of `width` bytes at a position."""
    return int.from_bytes(data[position : position + width], order)
