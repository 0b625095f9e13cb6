"""Reading and writing data of faiss: a flat index as a file for other tools, and limits for damaged data.

embedx itself keeps vectors in its own files (matrix.py).
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from embedx.index.matrix import Floats, Ids
from embedx.index.vectors import unit

FLAT = (b"IxFI", b"IxF2", b"IxFl")  # first bytes of IndexFlatIP, IndexFlatL2 and IndexFlat
MAPPED = (b"IxMp", b"IxM2")  # first bytes of IndexIDMap and IndexIDMap2, which contain another index
COUNT = 8  # place of the number of vectors in a header
METRIC = 33  # place of the metric in a header
HEADER = 37  # bytes before the inner index: kind 4, dimension 4, count 8, unused 16, trained 1, metric 4


class SizeLimits:
    """While faiss reads data, nothing in it may claim to be larger than the data.

    Args:
        octets: the length of the data in bytes.
    """

    def __init__(self, octets: int) -> None:
        self.limits = {"vector_byte": 2 * octets, "loop": octets}  # faiss counts vectors of bits before it packs them

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


def write_flat(file: BinaryIO, ids: Ids, dim: int, blocks: Iterable[Floats]) -> None:
    """Write vectors [N, D], scaled to length 1, as a file that `faiss.read_index` opens, block by block.

    The file has the header of an IndexIDMap2, that of an IndexFlatIP, the number of values and the values, and the
    number of ids and the ids.

    Args:
        file: the file.
        ids: their ids [N].
        dim: D.
        blocks: the vectors in parts [B, D].
    """
    import faiss

    empty = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
    head = bytearray(faiss.serialize_index(empty).tobytes()[: 2 * HEADER + 8])
    for place, number in ((COUNT, len(ids)), (HEADER + COUNT, len(ids)), (2 * HEADER, len(ids) * dim)):
        struct.pack_into("<q", head, place, number)
    file.write(head)
    for vectors in blocks:
        file.write(unit(vectors).astype("<f4", copy=False).data)
    file.write(struct.pack("<q", len(ids)))
    file.write(np.ascontiguousarray(ids, "<i8").data)


def open_flat(file: Path) -> tuple[Ids | None, Floats]:
    """Return ids [N] of a flat index from another tool, and its vectors [N, D], mapped from the file.

    An index without an IDMap has no ids (None). Faiss files have no checksum.

    Raises:
        ValueError: the index is damaged, or does not keep its vectors.
    """
    size = file.stat().st_size
    with open(file, "rb") as handle:
        kind, dim, count = read_header(handle)
        kinds, counts = [kind], [count]
        if kind in MAPPED:
            kind, dim, count = read_header(handle)
            kinds, counts = [*kinds, kind], [*counts, count]
        if kind not in FLAT:
            raise ValueError(
                f"its kind is {kind.decode('ascii', 'backslashreplace')!r}. embedx reads flat indexes, also inside an "
                "IndexIDMap. For another kind, reconstruct the vectors with faiss and save them with numpy.save."
            )
        values, start = read_number(handle), handle.tell()
        end = start + 4 * values
        if dim < 1 or values != count * dim or not 0 <= values <= size:
            raise ValueError("it is damaged: its numbers of vectors and of values differ.")
        ids = None
        if len(kinds) > 1:
            handle.seek(end)
            counts, end = [*counts, read_number(handle)], end + 8 * (1 + count)
        if len(set(counts)) > 1 or end != size:
            raise ValueError("it is damaged: its numbers of ids and of vectors differ, or do not match its size.")
        if len(kinds) > 1:
            ids = np.fromfile(handle, "<i8", count)
    shape = (count, dim)
    return ids, np.memmap(file, "<f4", "r", start, shape) if count else np.empty(shape, np.float32)


def read_header(file: BinaryIO) -> tuple[bytes, int, int]:
    """Return kind, dimension and number of vectors from the header of an index, and go to its end."""
    head = file.read(HEADER)
    if len(head) < HEADER:
        raise ValueError("it is damaged: it ends inside of its header.")
    kind, dim, count = struct.unpack_from("<4siq", head)
    (metric,) = struct.unpack_from("<i", head, METRIC)
    if metric > 1:  # neither inner product nor L2: one more number follows
        file.seek(4, os.SEEK_CUR)
    return kind, dim, count


def read_number(file: BinaryIO) -> int:
    """Return the next number of 64 bits."""
    data = file.read(8)
    if len(data) < 8:
        raise ValueError("it is damaged: it ends too early.")
    return int.from_bytes(data, "little", signed=True)
