"""Tags: ID3, APE and Lyrics3 tags and padding, which may stand before and after the audio of any format."""

from typing import BinaryIO, Literal

Order = Literal["big", "little"]

MAX_TAGS = 1000  # that are skipped; real files have up to three, a malicious one may have millions
ID3V1_BYTES = 128  # the size of an ID3v1 tag
APE_BYTES = 32  # the size of the header, and of the footer, of an APE tag
MAX_PADDING = 16 << 20  # bytes of zeros that are padding; more are silence that the header does not declare
SLACK = 8  # bytes that are never more than padding: fewer than the head of a chunk
BLOCK = 1 << 16  # bytes that are read at a time: larger blocks are slower, because their memory is new each time


def int_at(data: bytes, position: int, width: int, order: Order) -> int:
    """Return the unsigned number of `width` bytes at a position."""
    return int.from_bytes(data[position : position + width], order)


def bytes_at(file: BinaryIO, position: int, length: int) -> bytes:
    """Return up to `length` bytes at a position of a file, none beyond its end."""
    try:
        file.seek(position)
    except (OSError, OverflowError):  # the position is beyond the size that a file can have
        return b""
    return file.read(max(0, length))


def skip_id3(file: BinaryIO, start: int) -> int:
    """Return the position after the ID3v2 tags at a position."""
    for _ in range(MAX_TAGS):
        head = bytes_at(file, start, 10)
        if len(head) < 10 or head[:3] != b"ID3":
            break
        has_footer = head[5] & 0x10
        start += (20 if has_footer else 10) + sum(bits << 7 * (3 - i) for i, bits in enumerate(head[6:10]))
    return start


def skip_tags(file: BinaryIO, start: int) -> int:
    """Return the position after the tags at a position: ID3v1, ID3v2, and APE tags with a header."""
    for _ in range(MAX_TAGS):
        head = bytes_at(file, start, APE_BYTES)
        if head[:3] == b"ID3" and len(head) >= 10:
            start = skip_id3(file, start)
        elif head[:8] == b"APETAGEX":
            start += APE_BYTES + int_at(head, 12, 4, "little")
        elif head[:3] == b"TAG":
            start += ID3V1_BYTES
        else:
            break
    return start


def before_tags(file: BinaryIO, start: int, end: int) -> int:
    """Return the position, not before `start`, where the ID3v1, APE and Lyrics3 tags at the end of a file begin."""
    for _ in range(MAX_TAGS):
        tail = bytes_at(file, max(start, end - ID3V1_BYTES), min(ID3V1_BYTES, end - start))
        if len(tail) == ID3V1_BYTES and tail[:3] == b"TAG":
            size = ID3V1_BYTES
        elif tail[-APE_BYTES:][:8] == b"APETAGEX":
            footer = tail[-APE_BYTES:]
            size = int_at(footer, 12, 4, "little") + APE_BYTES * (int_at(footer, 20, 4, "little") >> 31)
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            size = int(tail[-15:-9]) + 15
        else:
            break
        if not 0 < size <= end - start:
            break
        end -= size
    return end


def before_zeros(file: BinaryIO, start: int, end: int) -> int:
    """Return the position, not before `start`, where the zeros at the end of a file begin."""
    while end > start:
        begin = max(start, end - BLOCK)
        content = bytes_at(file, begin, end - begin).rstrip(b"\0")
        if content:
            return begin + len(content)
        end = begin
    return start


def holds_data(file: BinaryIO, start: int, end: int) -> bool:
    """Tell whether some of the bytes between two positions are neither tags nor padding."""
    if end - start < SLACK:
        return False
    end = before_tags(file, start, end)
    start = skip_tags(file, start)
    padding_end = start + MAX_PADDING
    while start < end:
        if start >= padding_end:
            return True
        block = bytes_at(file, start, min(BLOCK, end - start))
        if not block:
            return False
        if block != bytes(len(block)):  # comparing is fast; a long file may be full of zeros
            content = block.lstrip(b"\0")
            start = skip_tags(file, start + len(block) - len(content))
            return end - start >= SLACK and bytes_at(file, start, SLACK).strip(b"\0") != b""
        start += len(block)
    return False
