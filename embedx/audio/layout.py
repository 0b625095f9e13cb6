"""Layout: what a decoder does not say about a file, found in its headers before it is decoded.

Decoders believe headers. libsndfile silently corrects the length of a truncated file, and stops after the length that
a header declares, also where the audio goes on: chained Ogg, joined MP3 and FLAC, WAV over 4 GB. FFmpeg stops at the
end of the file. So the structure of a file is compared with its size here, before the first sample is decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Piece = bytes | tuple[int, int]  # bytes as they are, or the bytes of the file between two positions
TRUNCATED = "truncated"  # the file ends before the audio that its header declares, or was never closed
TRAILING = "trailing-data"  # the file goes on after the audio that its header declares
MAX_PARTS = 10_000  # files in a file that are decoded; a day of a radio station is a chain of some 500 streams
DOUBTS = frozenset({TRUNCATED, TRAILING})  # flags that say that a recording may be incomplete


@dataclass(frozen=True)
class Layout:
    """How a file has to be decoded.

    Attributes:
        flags: "truncated", "trailing-data".
        parts: files inside this one that are decoded one after the other, each as its pieces; empty: the file itself.
        libsndfile_problem: why libsndfile would not read all of the audio; FFmpeg decodes then.
        is_counted: whether an MP3 says how many frames it has.
    """

    flags: frozenset[str] = frozenset()
    parts: tuple[tuple[Piece, ...], ...] = ()
    libsndfile_problem: str = ""
    is_counted: bool = False


def split_at(starts: Sequence[int], size: int) -> tuple[tuple[Piece, ...], ...]:
    """Return the parts of a file of `size` bytes that begin at these positions; none if there is only one."""
    if len(starts) < 2:
        return ()
    return tuple(((begin, end),) for begin, end in pairwise([*starts[:MAX_PARTS], size]))
