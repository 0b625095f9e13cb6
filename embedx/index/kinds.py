"""Kinds of index: how faiss names them, how much memory they need, and which one a collection gets."""

import math
import re

from embedx.errors import UsageError

FACTORY = {
    # kind -> the name of its index in faiss. HNSW keeps 8 bits per number: as good as 16 after the exact comparison,
    # and twice as fast. PQ has 4 bits for every 4 numbers (see `pq_width`). 1-bit and 4-bit codes need a random
    # rotation (RR), else numbers with a large variance dominate: on vectors of low rank it raised the recall of PQ
    # among 40 candidates from 0.36 to 0.62.
    "hnsw": "IDMap,HNSW32,SQ8",
    "ivf-flat": "IVF{lists},Flat",
    "ivf-sq8": "IVF{lists},SQ8",
    "ivf-pq": "RR{dim},IVF{lists},PQ{parts}x4fs",
    "ivf-rabitq": "RR{dim},IVF{lists},RaBitQ",
}
KINDS = ("flat", *FACTORY)

MAX_FLAT_NUMBERS = 150_000_000  # rows x dim up to which "auto" is exact: 600 MB at 15 GB/s are 40 ms for one query
MIN_ROWS = 1000  # with fewer rows an exact search takes much less than 1 ms, and the recall cannot be measured well
MIN_ROWS_PER_LIST = 39  # what faiss asks for, to find the centre of a list


def is_rotated(kind: str) -> bool:
    """Tell whether an index of this kind rotates vectors before it encodes them."""
    return FACTORY.get(kind, "").startswith("RR")


def pq_width(dim: int) -> int:
    """Return how many numbers share one code of PQ: the largest of 4, 3, 2 and 1 that divides the dimension."""
    return next(n for n in (4, 3, 2, 1) if dim % n == 0)


def count_lists(rows: int) -> int:
    """Return the number of IVF lists: 4 times the root of the rows, as a power of two with at least 39 rows per list.

    >>> [count_lists(rows) for rows in (10, 1000, 100_000, 1_000_000)]
    [1, 16, 1024, 4096]
    """
    exponent = round(math.log2(4 * math.sqrt(max(1, rows))))
    return int(2 ** min(exponent, int(math.log2(max(1, rows / MIN_ROWS_PER_LIST)))))


def row_bytes(kind: str, dim: int) -> int:
    """Return the bytes in memory per row: its codes, its id and its links.

    A flat index counts with all vectors, since every search reads them all. The other kinds read only their candidates
    from the file. HNSW has 64 links of 4 bytes on the lowest level and some above, RaBitQ has two
    factors next to its bits.

    >>> [row_bytes(kind, 768) for kind in KINDS]
    [3072, 1056, 3080, 776, 104, 112]
    """
    return {
        "flat": 4 * dim,
        "hnsw": dim + 64 * 4 + 24 + 8,
        "ivf-flat": 4 * dim + 8,
        "ivf-sq8": dim + 8,
        "ivf-pq": -(-dim // (2 * pq_width(dim))) + 8,
        "ivf-rabitq": -(-dim // 8) + 8 + 8,
    }[kind]


def footprint(kind: str, rows: int, dim: int) -> int:
    """Return the bytes in memory of an index: its rows, the centres of its lists, and its rotation.

    >>> footprint("ivf-rabitq", 1_000_000, 768) // 10**6
    126
    """
    centres = count_lists(rows) * dim * 4 if kind.startswith("ivf") else 0
    rotation = dim * dim * 4 if is_rotated(kind) else 0
    return rows * row_bytes(kind, dim) + centres + rotation


def pick_kind(kind: str, rows: int, dim: int, max_memory: int | None = None) -> str:
    """Return the kind of index to build for a number of rows: always flat for fewer than 1000.

    Args:
        kind: the requested kind; "auto" is flat while an exact search is quick, then ivf-rabitq.
        rows: the number of rows.
        dim: the dimension of the vectors.
        max_memory: the memory limit in bytes; None for no limit.

    >>> pick_kind("auto", 100_000, 768), pick_kind("auto", 1_000_000, 768), pick_kind("auto", 100_000, 768, 50_000_000)
    ('flat', 'ivf-rabitq', 'ivf-rabitq')

    Raises:
        UsageError: the kind is unknown, or needs more memory than the limit.
    """
    if kind not in (*KINDS, "auto"):
        raise UsageError(f"Unknown kind {kind!r}. Kinds: auto, {', '.join(KINDS)}.")
    is_tiny = rows < MIN_ROWS
    sizes = {name: footprint(name, rows, dim) for name in (("flat",) if is_tiny else KINDS)}
    is_small = rows * dim <= MAX_FLAT_NUMBERS
    candidates = [kind] if kind != "auto" else ["flat"] * is_small + ["ivf-rabitq", "ivf-pq"]
    candidates = ["flat"] if is_tiny else candidates
    for name in candidates:
        if max_memory is None or sizes[name] <= max_memory:
            return name
    limit = max_memory or 0
    fitting = ", ".join(f"{name} ({readable_size(size)})" for name, size in sizes.items() if size <= limit)
    smallest = min(sizes, key=lambda name: sizes[name])
    raise UsageError(
        f"An index of kind {' or '.join(candidates)} for {rows} vectors of dimension {dim} needs "
        f"{readable_size(sizes[candidates[0]])}, more than --max-memory ({readable_size(limit)}). Kinds that fit: "
        f"{fitting or f'none; the smallest is {smallest} with {readable_size(sizes[smallest])}'}."
    )


def readable_size(octets: int) -> str:
    """Return a size in kB or MB, rounded up.

    >>> readable_size(999)
    '1 kB'
    >>> readable_size(1_500_001)
    '2 MB'
    """
    return f"{-(-octets // 1000)} kB" if octets < 10**6 else f"{-(-octets // 10**6)} MB"


def read_size(text: str | int | None) -> int | None:
    """Return a size in bytes; None stays None.

    >>> read_size("4GB"), read_size("500 MB"), read_size(2048), read_size(None)
    (4000000000, 500000000, 2048, None)

    Raises:
        UsageError: the text is not a size.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*", str(text), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"{text!r} is not a size. Give a number with a unit, such as 4GB or 500MB.")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2].lower() or " "))
