"""Ogg: the layout of a file of Ogg pages.

A file may be a chain of streams, one behind the other, each with its own codec, rate and channels. libsndfile decodes
the first one, and FFmpeg those that are like the first one. So each is decoded as a file of its own.

libsndfile takes the number of samples from the last page, and fills the place of lost pages. So a file whose pages do
not follow each other is decoded with FFmpeg.
"""

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from embedx.audio.layout import MAX_PARTS, TRAILING, TRUNCATED, Layout, split_at
from embedx.audio.tags import BLOCK, bytes_at, holds_data

CAPTURE = b"OggS\0"  # the first bytes of a page
HEAD_BYTES = 27  # of a page, before its table of segments
MAX_HEAD = HEAD_BYTES + 255  # with the longest table
FIRST_PAGE, LAST_PAGE = 2, 4  # bits in the flags of a page
POSITION_BYTE = 6  # of a page: the number of samples up to its end, then the number of the stream and of the page


@dataclass
class PageWalk:
    """What the pages so far say.

    Attributes:
        links: the positions of the streams of a chain.
        end: the end of the last page.
        streams: number of a stream -> the number of its last page, and the samples up to there.
        is_first, is_last: whether the last page is marked as the first or the last one of its stream.
        is_lost: whether a page is missing or comes twice.
        is_reversed: whether a page ends before the one in front of it.
    """

    end: int
    links: list[int] = field(default_factory=list)
    streams: dict[int, tuple[int, int]] = field(default_factory=dict)
    is_first: bool = False
    is_last: bool = False
    is_lost: bool = False
    is_reversed: bool = False

    def add(self, block: bytes, offset: int, position: int) -> int:
        """Add the page at an offset in a block, and return the offset after it; the block begins at `position`."""
        was_first, self.is_first = self.is_first, bool(block[offset + 5] & FIRST_PAGE)
        self.is_last = bool(block[offset + 5] & LAST_PAGE)
        samples, stream, number = struct.unpack_from("<qII", block, offset + POSITION_BYTE)
        if self.is_first:
            if not was_first:  # streams side by side all begin before any of them goes on
                self.streams.clear()
                if len(self.links) <= MAX_PARTS:
                    self.links.append(position + offset)
        elif stream in self.streams:
            last_number, last_samples = self.streams[stream]
            self.is_lost |= number != (last_number + 1) % 2**32
            self.is_reversed |= -1 < samples < last_samples
            samples = max(samples, last_samples)
        self.streams[stream] = (number, samples)
        segments = block[offset + HEAD_BYTES : offset + HEAD_BYTES + block[offset + 26]]
        offset += HEAD_BYTES + block[offset + 26] + sum(segments)
        self.end = position + offset
        return offset


def ogg_layout(file: BinaryIO, start: int, size: int) -> Layout:
    """Return the layout of an Ogg file: where its streams begin, and whether its pages are complete."""
    walk, position = PageWalk(start), start
    while position < size:
        block = bytes_at(file, position, BLOCK)
        needed = MAX_HEAD if position + len(block) < size else HEAD_BYTES
        offset = 0
        while offset + needed <= len(block):
            if block.startswith(CAPTURE, offset):
                offset = walk.add(block, offset, position)
            else:
                found = block.find(CAPTURE, offset + 1)
                offset = found if found >= 0 else len(block) - len(CAPTURE) + 1
        if not offset or len(block) < BLOCK:
            break
        position += offset
    is_complete = walk.is_last and walk.end <= size and not walk.is_lost
    flags = set() if is_complete else {TRUNCATED}
    end = size
    if holds_data(file, walk.end, size):
        flags.add(TRAILING)
    elif start < walk.end < size:  # FFmpeg takes padding for damage
        end = walk.end
    problem = (
        "pages are missing" if walk.is_lost else "the last page counts too few samples" if walk.is_reversed else ""
    )
    parts = split_at(walk.links, end) or ((((start, end),),) if end < size else ())
    return Layout(frozenset(flags), parts, problem)
