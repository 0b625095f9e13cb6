"""Matrix: the vectors of a view and their row ids, memory-mapped, with a checksum for every block.

A block is checked when it is first read, so that opening is quick and a damaged vector is never used.
"""

import io
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import DiskError
from embedx.filesystem.atomic import sync_folder

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

BLOCK = 256  # rows per checksum: 0.8 MB of 768 float32, the most that one candidate makes a search read


class CorruptIndex(Exception):
    """A file of an index is damaged, or does not belong to it; the index has to be built again."""


class Matrix:
    """Vectors [N, D] with their row ids [N].

    Args:
        ids: row ids [N], ascending.
        vectors: vectors [N, D], float32.
        sums: a CRC-32 for every `BLOCK` rows; None if the vectors need no check.
    """

    def __init__(self, ids: Ids, vectors: Floats, sums: NDArray[np.uint32] | None = None) -> None:
        self.ids = ids
        self._vectors = vectors
        self._sums = sums
        self._unchecked = np.zeros(0, bool) if sums is None else np.ones(len(sums), bool)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """The dimension D of the vectors."""
        return int(self._vectors.shape[1])

    def positions(self, ids: Ids) -> NDArray[np.int64]:
        """Return the positions of ids; ids that are not in the matrix are left out.

        >>> Matrix(np.array([2, 5, 7]), np.zeros((3, 1), np.float32)).positions(np.array([7, 3, 2])).tolist()
        [2, 0]
        """
        if not len(self):
            return np.zeros(0, np.int64)
        positions = np.searchsorted(self.ids, ids)
        positions[positions == len(self)] = 0
        present: Ids = positions[self.ids[positions] == ids]
        return present

    def all(self) -> Floats:
        """Return all vectors [N, D], without a copy."""
        self._check(np.flatnonzero(self._unchecked))
        return self._vectors

    def take(self, positions: NDArray[np.int64]) -> Floats:
        """Return a copy of the vectors [P, D] at some positions."""
        if self._unchecked.any():
            blocks = np.unique(positions // BLOCK)
            self._check(blocks[self._unchecked[blocks]])
        return np.ascontiguousarray(self._vectors[positions])

    def _check(self, blocks: NDArray[np.int64]) -> None:
        """Compare blocks with their checksums.

        Raises:
            CorruptIndex: one differs.
        """
        if self._sums is None or not len(blocks):
            return
        sums = self._sums

        def is_intact(block: int) -> bool:
            return checksum(self._vectors[block * BLOCK : (block + 1) * BLOCK], block) == int(sums[block])

        if len(blocks) < 8:
            intact = all(map(is_intact, blocks.tolist()))
        else:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                intact = all(pool.map(is_intact, blocks.tolist()))
        if not intact:
            raise CorruptIndex("the checksum of a block differs")
        self._unchecked[blocks] = False


def write_matrix(stem: Path, rows: int, dim: int, blocks: Iterable[tuple[Ids, Floats]]) -> dict[str, Any]:
    """Write ids [N] and vectors [N, D] to two .npy files.

    Args:
        stem: path of the files, without suffix.
        rows: N.
        dim: D.
        blocks: (ids, vectors) of some rows at a time, in the order of the ids.

    Returns:
        The entries of the manifest that `read_matrix` needs.

    Raises:
        DiskError: the disk is full or cannot be written; the files are deleted again.
    """
    vectors_file, ids_file = stem.with_name(stem.name + ".vectors.npy"), stem.with_name(stem.name + ".ids.npy")
    ids: list[Ids] = []
    sums: list[int] = []
    try:
        with open(vectors_file, "wb") as file:
            file.write(npy_header(rows, dim))
            for number, (block_ids, vectors) in enumerate(in_blocks(blocks)):
                ids.append(block_ids)
                sums.append(checksum(vectors, number))
                file.write(np.ascontiguousarray(vectors, "<f4").data)
            file.flush()
            os.fsync(file.fileno())
        all_ids = np.concatenate(ids) if ids else np.zeros(0, np.int64)
        assert len(all_ids) == rows
        packed = io.BytesIO()  # np.save to a file would not report a full disk
        np.save(packed, all_ids)
        with open(ids_file, "wb") as file:
            file.write(packed.getvalue())
            file.flush()
            os.fsync(file.fileno())
        sync_folder(stem.parent)
    except OSError as error:
        for path in (vectors_file, ids_file):
            path.unlink(missing_ok=True)
        raise DiskError(f"The index {stem} cannot be written: {error.strerror}. The store is unchanged.") from error
    return {
        "rows": rows,
        "dim": dim,
        "vectors": vectors_file.name,
        "sums": sums,
        "ids": ids_file.name,
        "ids_sum": zlib.crc32(packed.getvalue()),
    }


def read_matrix(folder: Path, manifest: dict[str, Any]) -> Matrix:
    """Open the files that `write_matrix` wrote; the vectors are memory-mapped.

    Raises:
        CorruptIndex: a file is missing, or does not match the manifest.
    """
    try:
        head = npy_header(manifest["rows"], manifest["dim"])
        vectors = np.memmap(folder / manifest["vectors"], "<f4", "r", len(head), (manifest["rows"], manifest["dim"]))
        with open(folder / manifest["vectors"], "rb") as file:
            intact = file.read(len(head)) == head and os.fstat(file.fileno()).st_size == len(head) + vectors.nbytes
        stored = (folder / manifest["ids"]).read_bytes()
        if not intact or zlib.crc32(stored) != manifest["ids_sum"]:
            raise CorruptIndex("a file does not match its manifest")
        return Matrix(np.load(io.BytesIO(stored)), vectors.view(np.ndarray), np.array(manifest["sums"], np.uint32))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptIndex(str(error)) from error


def npy_header(rows: int, dim: int) -> bytes:
    """Return the header of a .npy file of float32 [rows, dim]."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})
    return head.getvalue()


def in_blocks(parts: Iterable[tuple[Ids, Floats]]) -> Iterator[tuple[Ids, Floats]]:
    """Regroup a stream of (ids, vectors) into blocks of `BLOCK` rows; the last one may be shorter."""
    rest_ids, rest = np.zeros(0, np.int64), None
    for ids, vectors in parts:
        rest_ids = np.concatenate([rest_ids, ids])
        rest = vectors if rest is None or not len(rest) else np.concatenate([rest, vectors])
        end = len(rest) // BLOCK * BLOCK
        for start in range(0, end, BLOCK):
            yield rest_ids[start : start + BLOCK], rest[start : start + BLOCK]
        rest_ids, rest = rest_ids[end:], rest[end:]
    if rest is not None and len(rest):
        yield rest_ids, rest


def checksum(vectors: Floats, block: int) -> int:
    """Return the CRC-32 of a block and its number, so that blocks that changed places are noticed."""
    return zlib.crc32(np.ascontiguousarray(vectors).data, block)
