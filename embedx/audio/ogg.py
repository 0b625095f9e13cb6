"""Ogg: the layout of a file of Ogg pages.

A file may be a chain of streams, one behind the other, each with its own codec, rate and channels. libsndfile decodes
the first one, and FFmpeg those that are like the first one. So each is decoded as a file of its own.
"""

from typing import BinaryIO

from embedx.audio.layout import MAX_PARTS, TRAILING, TRUNCATED, Layout, split_at
from embedx.audio.tags import BLOCK, bytes_at, holds_data

CAPTURE = b"OggS\0"  # the first bytes of a page
HEAD_BYTES = 27  # of a page, before its table of segments
MAX_PAGE = HEAD_BYTES + 255 + 255 * 255  # bytes of the longest page: header, table of segments, segments
FIRST_PAGE, LAST_PAGE = 2, 4  # bits in the flags of a page


def ogg_layout(file: BinaryIO, start: int, size: int) -> Layout:
    """Return the layout of an Ogg file: where its streams begin, and whether its last page is complete."""
    links: list[int] = []
    is_first, is_last = False, False
    end = position = start
    while position < size:
        block = bytes_at(file, position, BLOCK + MAX_PAGE)
        offset = 0
        while offset < BLOCK and offset + HEAD_BYTES <= len(block):
            if not block.startswith(CAPTURE, offset):
                found = block.find(CAPTURE, offset + 1)
                offset = found if found >= 0 else len(block) - len(CAPTURE) + 1
                continue
            was_first, is_first = is_first, bool(block[offset + 5] & FIRST_PAGE)
            if (
                is_first and not was_first and len(links) <= MAX_PARTS
            ):  # streams side by side all begin before any of them goes on
                links.append(position + offset)
            is_last = bool(block[offset + 5] & LAST_PAGE)
            segments = block[offset + HEAD_BYTES : offset + HEAD_BYTES + block[offset + 26]]
            offset += HEAD_BYTES + block[offset + 26] + sum(segments)
            end = position + offset
        if offset + HEAD_BYTES > len(block) and len(block) < BLOCK + MAX_PAGE:
            break
        position += offset
    flags = set() if is_last and end <= size else {TRUNCATED}
    if end < size and holds_data(file, end, size):
        flags.add(TRAILING)
    return Layout(frozenset(flags), split_at(links, size))
