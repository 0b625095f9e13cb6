"""Matrix: the vectors of a view beside their row ids, mapped from disk, with a checksum for every block.

A block is checked when it is first touched, so that opening costs nothing and damage is never served.
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

BLOCK = 256  # rows to a checksum: 0.8 MB of 768 float32, what the re-ranking of one candidate reads at worst


class CorruptIndex(Exception):
    """A derived file is not what was written; it is to be built anew."""


class Matrix:
    """Vectors [N, D] float32 under ascending row ids [N]. `sums` holds a CRC-32 for every 256 rows, once checked."""

    def __init__(self, ids: Ids, vectors: Floats, sums: NDArray[np.uint32] | None = None) -> None:
        self.ids = ids
        self._vectors = vectors
        self._sums = sums
        self._unchecked = np.zeros(0, bool) if sums is None else np.ones(len(sums), bool)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self._vectors.shape[1])

    def positions(self, ids: Ids) -> NDArray[np.int64]:
        """Return where these ids stand, those that are not there left out.

        >>> Matrix(np.array([2, 5, 7]), np.zeros((3, 1), np.float32)).positions(np.array([7, 3, 2])).tolist()
        [2, 0]
        """
        if not len(self):
            return np.zeros(0, np.int64)
        found = np.searchsorted(self.ids, ids)
        found[found == len(self)] = 0
        kept: Ids = found[self.ids[found] == ids]
        return kept

    def all(self) -> Floats:
        """Return every vector [N, D], not copied."""
        self._check(np.flatnonzero(self._unchecked))
        return self._vectors

    def take(self, positions: NDArray[np.int64]) -> Floats:
        """Return a copy of the vectors [P, D] at these positions."""
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

        def sound(block: int) -> bool:
            return checksum(self._vectors[block * BLOCK : (block + 1) * BLOCK], block) == int(sums[block])

        if len(blocks) < 8:
            good = all(map(sound, blocks.tolist()))
        else:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                good = all(pool.map(sound, blocks.tolist()))
        if not good:
            raise CorruptIndex("the checksum of a block differs")
        self._unchecked[blocks] = False


def write_matrix(stem: Path, rows: int, dim: int, blocks: Iterable[tuple[Ids, Floats]]) -> dict[str, Any]:
    """Write ids [N] and vectors [N, D], which come in blocks, to two .npy files; return what `read_matrix` needs.

    Raises:
        DiskError: the disk is full or refuses; the files are taken away again.
    """
    vectors_file, ids_file = stem.with_name(stem.name + ".vectors.npy"), stem.with_name(stem.name + ".ids.npy")
    ids: list[Ids] = []
    sums: list[int] = []
    try:
        with open(vectors_file, "wb") as file:
            file.write(npy_header(rows, dim))
            for number, (some, vectors) in enumerate(in_blocks(blocks)):
                ids.append(some)
                sums.append(checksum(vectors, number))
                file.write(np.ascontiguousarray(vectors, "<f4").data)
            file.flush()
            os.fsync(file.fileno())
        every = np.concatenate(ids) if ids else np.zeros(0, np.int64)
        assert len(every) == rows
        packed = io.BytesIO()  # np.save to a file writes past Python, which does not hear of a full disk
        np.save(packed, every)
        with open(ids_file, "wb") as file:
            file.write(packed.getvalue())
            file.flush()
            os.fsync(file.fileno())
        sync_folder(stem.parent)
    except OSError as error:
        for one in (vectors_file, ids_file):
            one.unlink(missing_ok=True)
        raise DiskError(f"The index {stem} cannot be written: {error.strerror}. The store is not touched.") from error
    return {
        "rows": rows,
        "dim": dim,
        "vectors": vectors_file.name,
        "sums": sums,
        "ids": ids_file.name,
        "ids_sum": zlib.crc32(packed.getvalue()),
    }


def read_matrix(folder: Path, note: dict[str, Any]) -> Matrix:
    """Map what `write_matrix` wrote.

    Raises:
        CorruptIndex: a file is missing, or is not what the note says.
    """
    try:
        head = npy_header(note["rows"], note["dim"])
        vectors = np.memmap(folder / note["vectors"], "<f4", "r", len(head), (note["rows"], note["dim"]))
        with open(folder / note["vectors"], "rb") as file:
            sound = file.read(len(head)) == head and os.fstat(file.fileno()).st_size == len(head) + vectors.nbytes
        stored = (folder / note["ids"]).read_bytes()
        if not sound or zlib.crc32(stored) != note["ids_sum"]:
            raise CorruptIndex("a file is not what was written")
        return Matrix(np.load(io.BytesIO(stored)), vectors.view(np.ndarray), np.array(note["sums"], np.uint32))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptIndex(str(error)) from error


def npy_header(rows: int, dim: int) -> bytes:
    """Return the head of a .npy file of float32 [rows, dim]."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})
    return head.getvalue()


def in_blocks(parts: Iterable[tuple[Ids, Floats]]) -> Iterator[tuple[Ids, Floats]]:
    """Cut a stream of (ids, vectors) anew into blocks of `BLOCK` rows; the last may be shorter."""
    held_ids, held = np.zeros(0, np.int64), None
    for ids, vectors in parts:
        held_ids = np.concatenate([held_ids, ids])
        held = vectors if held is None or not len(held) else np.concatenate([held, vectors])
        whole = len(held) // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            yield held_ids[start : start + BLOCK], held[start : start + BLOCK]
        held_ids, held = held_ids[whole:], held[whole:]
    if held is not None and len(held):
        yield held_ids, held


def checksum(vectors: Floats, block: int) -> int:
    """Return the CRC-32 of a block; its number goes in, so that blocks cannot change places."""
    return zlib.crc32(np.ascontiguousarray(vectors).data, block)
