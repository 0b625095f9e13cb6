"""Kinds: structures that propose near rows without comparing all of them, which kind fits, and how they are saved.

A structure only proposes. What it proposes is compared with the exact vectors of the matrix, so every score is exact,
and the codes inside may be coarse. It knows rows by their ids.
"""

import math
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embedx.errors import DiskError, UsageError
from embedx.filesystem.atomic import sync_folder
from embedx.index.exact import CHUNK, FEW
from embedx.index.matrix import CorruptIndex, Floats, Ids, Matrix

FACTORY = {
    # kind -> how faiss names it. HNSW keeps 8 bits per number: as good as 16 once re-ranked, and twice as fast. PQ has
    # 4 bits for every `wide` numbers. Both 1-bit and 4-bit codes need a random rotation (RR), or numbers with a large
    # variance eat them up: on vectors of low rank it took PQ from 0.36 to 0.62 recall among 40 candidates.
    "hnsw": "IDMap,HNSW32,SQ8",
    "ivf-flat": "IVF{lists},Flat",
    "ivf-sq8": "IVF{lists},SQ8",
    "ivf-pq": "RR{dim},IVF{lists},PQ{parts}x4fs",
    "ivf-rabitq": "RR{dim},IVF{lists},RaBitQ",
}
KINDS = ("flat", *FACTORY)

FLAT_NUMBERS = 150_000_000  # rows x dim up to which exact is quick: 600 MB at 15 GB/s are 40 ms for one query
FEWEST = 1000  # rows; below, exact takes well under 1 ms, and a recall could hardly be measured
TRAIN_PER_LIST = 40  # vectors to find a list's centre from; faiss asks for 39
TRAIN_MOST = 2**18  # vectors to train on at most: 800 MB of 768 float32
CONSTRUCTION = 80  # neighbours that HNSW looks at for a new row; 40, its default, needs twice the breadth in a search
MOST = 2048  # candidates of a query at most: 6 MB of 768 float32, which take 2 ms to re-rank
ENOUGH = {"ivf-flat": 100, "ivf-sq8": 400}  # where the codes are so good that more candidates cannot help
SEED = 0

Faiss = Any  # an index of faiss: it has no types


class AnnIndex:
    """A structure of faiss over the rows of a matrix."""

    def __init__(self, kind: str, index: Faiss) -> None:
        self.kind = kind
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def propose(self, queries: Floats, breadth: int, candidates: int, without: Ids | None = None) -> Ids:
        """Return ids [Q, candidates] of rows that may be near, most likely first, and -1 where there are no more.

        `breadth` is the number of lists that are looked into (IVF), or of rows that are kept in sight (HNSW).
        """
        import faiss

        threads = faiss.omp_get_max_threads()
        if len(queries) < FEW:  # waking threads takes longer than one query
            faiss.omp_set_num_threads(1)
        try:
            found: Ids = self._index.search(queries, candidates, params=self._parameters(breadth, without))[1]
        finally:
            faiss.omp_set_num_threads(threads)
        return found

    def breadths(self) -> list[int]:
        """Return the breadths to try, the narrowest first."""
        if self.kind == "hnsw":
            return [2**power for power in range(4, 12)]
        import faiss

        lists = int(faiss.extract_index_ivf(self._index).nlist)
        return [2**power for power in range(lists.bit_length())]

    def most(self, breadth: int) -> int:
        """Return how many candidates are worth asking for at a breadth."""
        return min(MOST, breadth) if self.kind == "hnsw" else ENOUGH.get(self.kind, MOST)

    def cost(self, breadth: int, candidates: int, dim: int) -> float:
        """Return about how many bytes a query reads: what is scanned, and the exact vectors of the candidates."""
        if self.kind == "hnsw":
            return breadth * 32 * dim + candidates * dim * 4
        lists = self.breadths()[-1]
        return breadth / lists * len(self) * row_bytes(self.kind, dim) + candidates * dim * 4

    def add(self, matrix: Matrix, positions: Ids) -> None:
        """Take in rows of a matrix, some at a time."""
        for some in cut(positions):
            self._index.add_with_ids(matrix.take(some), matrix.ids[some])

    def to_bytes(self) -> Any:
        """Return the structure as an array of bytes."""
        import faiss

        return faiss.serialize_index(self._index)

    def _parameters(self, breadth: int, without: Ids | None) -> Any:
        import faiss as untyped

        faiss: Any = untyped  # its stubs lack most of this
        options: dict[str, Any] = {}
        if without is not None and len(without):
            options["sel"] = faiss.IDSelectorNot(faiss.IDSelectorBatch(without))
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=breadth, **options)
        parameters = faiss.SearchParametersIVF(nprobe=breadth, **options)
        rotated = FACTORY[self.kind].startswith("RR")
        return faiss.SearchParametersPreTransform(index_params=parameters) if rotated else parameters


def make_structure(kind: str, matrix: Matrix, metric: str, positions: Ids) -> AnnIndex:
    """Make a structure over rows of a matrix. It is trained on a sample, and filled in blocks, so memory is bounded.

    Vectors of length 1 are compared by their distance, which ranks as the cosine does and suits the codes better.
    """
    import faiss as untyped

    faiss: Any = untyped  # its stubs lack most of this
    lists, dim = count_lists(len(positions)), matrix.dim
    wide = next(n for n in (4, 3, 2, 1) if dim % n == 0)
    name = FACTORY[kind].format(dim=dim, lists=lists, parts=dim // wide)
    index = faiss.index_factory(dim, name, faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2)
    if kind == "hnsw":
        faiss.downcast_index(index.index).hnsw.efConstruction = CONSTRUCTION
    else:
        faiss.extract_index_ivf(index).cp.min_points_per_centroid = 1  # the rule is ours: no warning
    wanted = min(len(positions), max(TRAIN_PER_LIST * lists, 2**14), TRAIN_MOST)
    sample = np.sort(np.random.default_rng(SEED).choice(positions, wanted, replace=False))
    index.train(matrix.take(sample))
    structure = AnnIndex(kind, index)
    structure.add(matrix, positions)
    return structure


def cut(positions: Ids) -> Iterator[Ids]:
    """Yield positions some at a time, so that their vectors fit into memory."""
    for start in range(0, len(positions), CHUNK):
        yield positions[start : start + CHUNK]


def count_lists(rows: int) -> int:
    """Return how many lists the rows are divided into: 4 times their root, as a power of two that leaves 39 to each.

    >>> [count_lists(rows) for rows in (10, 1000, 100_000, 1_000_000)]
    [1, 16, 1024, 4096]
    """
    wanted = round(math.log2(4 * math.sqrt(max(1, rows))))
    return int(2 ** min(wanted, int(math.log2(max(1, rows / 39)))))


def row_bytes(kind: str, dim: int) -> int:
    """Return the bytes of a row in memory: its codes, its id and its links.

    An exact search touches every vector, so they all should fit; the other kinds read the few that they re-rank from
    the mapped file. HNSW has 64 links of 4 bytes below, and some above; RaBitQ two factors beside its bits.

    >>> [row_bytes(kind, 768) for kind in KINDS]
    [3072, 1056, 3080, 776, 104, 112]
    """
    wide = next(n for n in (4, 3, 2, 1) if dim % n == 0)
    return {
        "flat": 4 * dim,
        "hnsw": dim + 64 * 4 + 24 + 8,
        "ivf-flat": 4 * dim + 8,
        "ivf-sq8": dim + 8,
        "ivf-pq": -(-dim // (2 * wide)) + 8,
        "ivf-rabitq": -(-dim // 8) + 8 + 8,
    }[kind]


def footprint(kind: str, rows: int, dim: int) -> int:
    """Return the bytes that an index takes in memory: its rows, the centres of its lists, and the rotation.

    >>> footprint("ivf-rabitq", 1_000_000, 768) // 10**6
    126
    """
    centres = count_lists(rows) * dim * 4 if kind.startswith("ivf") else 0
    rotation = dim * dim * 4 if FACTORY.get(kind, "").startswith("RR") else 0
    return rows * row_bytes(kind, dim) + centres + rotation


def pick_kind(kind: str, rows: int, dim: int, max_memory: int | None = None) -> str:
    """Return the kind for so many rows: the one asked for, or with "auto" exact while that is quick, then RaBitQ.

    >>> pick_kind("auto", 100_000, 768), pick_kind("auto", 1_000_000, 768), pick_kind("auto", 100_000, 768, 50_000_000)
    ('flat', 'ivf-rabitq', 'ivf-rabitq')

    Raises:
        UsageError: there is no such kind, or none that was asked for fits into `max_memory` bytes.
    """
    if kind not in (*KINDS, "auto"):
        raise UsageError(f"Unknown kind {kind!r}. Kinds: auto, {', '.join(KINDS)}.")
    if rows < FEWEST:
        return "flat"
    sizes = {one: footprint(one, rows, dim) for one in KINDS}
    wanted = [kind] if kind != "auto" else ["flat"] * (rows * dim <= FLAT_NUMBERS) + ["ivf-rabitq", "ivf-pq"]
    for one in wanted:
        if max_memory is None or sizes[one] <= max_memory:
            return one
    fitting = ", ".join(f"{one} ({megabytes(size)})" for one, size in sizes.items() if size <= (max_memory or 0))
    least = min(sizes, key=lambda one: sizes[one])
    raise UsageError(
        f"An index of kind {' or '.join(wanted)} over {rows} rows of {dim} takes {megabytes(sizes[wanted[0]])}, more "
        f"than the {megabytes(max_memory or 0)} of --max-memory. What fits: "
        f"{fitting or f'nothing; the least is {least} with {megabytes(sizes[least])}'}."
    )


def megabytes(octets: int) -> str:
    """Return a size in MB, rounded up.

    >>> megabytes(1_500_001)
    '2 MB'
    """
    return f"{-(-octets // 10**6)} MB"


def read_size(text: str | int | None) -> int | None:
    """Return a size as bytes.

    >>> read_size("4GB"), read_size("500 MB"), read_size(2048), read_size(None)
    (4000000000, 500000000, 2048, None)

    Raises:
        UsageError: it is no size.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*", str(text), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"{text!r} is no size. Give a number with a unit, such as 4GB or 500MB.")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2].lower() or " "))


def write_structure(stem: Path, structure: AnnIndex) -> dict[str, Any]:
    """Write a structure beside its matrix, and return what `read_structure` needs.

    Raises:
        DiskError: the disk is full or refuses; the file is taken away again.
    """
    file = stem.with_name(stem.name + ".faiss")
    data = structure.to_bytes()
    try:
        with open(file, "wb") as opened:
            opened.write(data.data)
            opened.flush()
            os.fsync(opened.fileno())
        sync_folder(stem.parent)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise DiskError(f"The index {stem} cannot be written: {error.strerror}. The store is not touched.") from error
    return {"structure": file.name, "structure_bytes": len(data), "structure_sum": zlib.crc32(data.data)}


def read_structure(folder: Path, note: dict[str, Any]) -> AnnIndex:
    """Read what `write_structure` wrote. It is not mapped: its checksum has to see all of it anyway.

    Raises:
        CorruptIndex: the file is missing, or is not what the note says.
    """
    import faiss

    try:
        data = np.fromfile(folder / note["structure"], np.uint8)
        if len(data) != note["structure_bytes"] or zlib.crc32(data.data) != note["structure_sum"]:
            raise CorruptIndex("the file of its structure is not what was written")
        with Limits(len(data)):
            index = faiss.deserialize_index(data)
        structure = AnnIndex(note["kind"], index)
        if (len(structure), index.d) != (note["structure_rows"], note["dim"]):
            raise CorruptIndex("its structure is of other rows")
        return structure
    except (OSError, RuntimeError, KeyError, MemoryError) as error:  # faiss raises RuntimeError
        raise CorruptIndex(f"its structure cannot be read: {error}") from error


class Limits:
    """While faiss reads a file, nothing in it may claim to be larger than the file is."""

    def __init__(self, octets: int) -> None:
        self.limits = {"vector_byte": 2 * octets, "loop": octets}  # vectors of bits are counted before they are packed

    def __enter__(self) -> None:
        import faiss

        self.before = {name: getattr(faiss, f"get_deserialization_{name}_limit")() for name in self.limits}
        self._set(self.limits)

    def __exit__(self, *error: object) -> None:
        self._set(self.before)

    def _set(self, limits: dict[str, int]) -> None:
        import faiss

        for name, limit in limits.items():
            getattr(faiss, f"set_deserialization_{name}_limit")(limit)
