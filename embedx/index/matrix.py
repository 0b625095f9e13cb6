"""Matrix: the vectors of a view and their row ids, in memory or in a file with a checksum for every block.

A block is checked when it is first read, so that opening is quick and a damaged vector is never used. The file is read,
not memory-mapped: a mapped file that another process shortens would end this process.
"""

import io
import os
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import DiskError
from embedx.filesystem.atomic import sync_folder
from embedx.index.kinds import MAX_FLAT_NUMBERS

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

BLOCK = 256  # rows per checksum: 0.8 MB of 768 float32, the most that one candidate makes a search read
MAX_LOADED_BYTES = 4 * MAX_FLAT_NUMBERS  # of vectors that are kept in memory: the largest index of kind "auto" and flat
LOADED_SHARE = 4  # if more than a quarter of the vectors are wanted at once, all are loaded
WHOLE_BLOCK = 8  # if more vectors of a block are wanted, it is read at once


class CorruptIndex(Exception):
    """A file of an index is damaged, or does not belong to it; the index has to be built again."""


class VectorFile:
    """Vectors [N, D] in a file that stays open: they can be read after the file was replaced or deleted.

    Args:
        path: the file.
        head: the bytes before the vectors.
        shape: N and D.
        sums: the CRC-32 of every block and its number; see `checksum`.

    Raises:
        CorruptIndex: the file has another head or size.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path, head: bytes, shape: tuple[int, int], sums: NDArray[np.uint32]) -> None:
        self.shape = shape
        self._sums = sums
        self._unchecked = np.ones(len(sums), bool)
        self._begin = len(head)
        self._loaded: Floats | None = None
        self._lock = threading.Lock()  # of the thread that loads
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        blocks = -(-shape[0] // BLOCK)
        if (
            os.pread(self._file, len(head), 0) != head
            or os.fstat(self._file).st_size != len(head) + 4 * shape[0] * shape[1]
            or len(sums) != blocks
        ):
            raise CorruptIndex("a file does not match its manifest")

    def all(self) -> Floats | None:
        """Return all vectors [N, D] in memory; None if they are too large to be kept there."""
        if 4 * self.shape[0] * self.shape[1] > MAX_LOADED_BYTES:
            return None
        with self._lock:
            if self._loaded is None:
                vectors = np.empty(self.shape, "<f4")
                self._read_blocks(range(len(self._sums)), vectors)
                self._loaded = vectors
        return self._loaded

    def parts(self, rows: int) -> Iterator[Floats]:
        """Yield the vectors in parts of some rows, a multiple of `BLOCK`; the last part may be shorter."""
        for start in range(0, self.shape[0], rows):
            part = np.empty((min(rows, self.shape[0] - start), self.shape[1]), "<f4")
            self._read_blocks(range(start // BLOCK, -(-(start + len(part)) // BLOCK)), part)
            yield part

    def take(self, positions: Ids) -> Floats:
        """Return a copy of the vectors [P, D] at some positions."""
        if self._loaded is None and len(positions) * LOADED_SHARE > self.shape[0]:
            self.all()
        if self._loaded is not None:
            return np.ascontiguousarray(self._loaded[positions])
        taken = np.empty((len(positions), self.shape[1]), "<f4")
        order = np.argsort(positions, kind="stable")
        blocks, starts = np.unique(positions[order] // BLOCK, return_index=True)
        for block, inside in zip(blocks.tolist(), np.split(order, starts)[1:], strict=True):
            if self._unchecked[block] or len(inside) > WHOLE_BLOCK:
                taken[inside] = self._block(block)[positions[inside] - block * BLOCK]
            else:
                for place in inside.tolist():
                    self._read(int(positions[place]), taken[place])
        return taken

    def check(self) -> None:
        """Compare all blocks with their checksums.

        Raises:
            CorruptIndex: one differs.
        """
        for _ in self.parts(BLOCK * 16):
            pass

    def _read_blocks(self, blocks: range, vectors: Floats) -> None:
        """Read blocks that follow each other into an array, with a thread per processor if there are many."""

        def read(block: int) -> None:
            start = (block - blocks.start) * BLOCK
            self._read_block(block, vectors[start : start + BLOCK])

        if len(blocks) < 8:
            for block in blocks:
                read(block)
        else:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(read, blocks))

    def _block(self, block: int) -> Floats:
        """Return the vectors of a block."""
        vectors = np.empty((min(BLOCK, self.shape[0] - block * BLOCK), self.shape[1]), "<f4")
        self._read_block(block, vectors)
        return vectors

    def _read_block(self, block: int, vectors: Floats) -> None:
        """Read a block into an array, and compare it with its checksum if this is the first time."""
        self._read(block * BLOCK, vectors)
        if self._unchecked[block]:
            if checksum(vectors, block) != int(self._sums[block]):
                raise CorruptIndex("the checksum of a block differs")
            self._unchecked[block] = False

    def _read(self, row: int, vectors: Floats) -> None:
        """Read the vectors from a row on into an array.

        Raises:
            CorruptIndex: the file ends before, or cannot be read.
        """
        try:
            read = os.preadv(self._file, [vectors.data], self._begin + 4 * row * self.shape[1])
        except OSError as error:
            raise CorruptIndex(f"a file cannot be read: {error.strerror}") from error
        if read != vectors.nbytes:
            raise CorruptIndex("a file is shorter than before")


class Matrix:
    """Vectors [N, D] with their row ids [N].

    Args:
        ids: row ids [N], ascending.
        vectors: vectors [N, D], float32, as an array or as a file.
    """

    def __init__(self, ids: Ids, vectors: Floats | VectorFile) -> None:
        self.ids = ids
        self._vectors = vectors

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

    def all(self) -> Floats | None:
        """Return all vectors [N, D], without a copy; None if they are in a file and too large for the memory."""
        return self._vectors.all() if isinstance(self._vectors, VectorFile) else self._vectors

    def parts(self, rows: int) -> Iterator[Floats]:
        """Yield all vectors in parts of some rows, a multiple of `BLOCK`."""
        vectors = self.all()
        if vectors is None:
            assert isinstance(self._vectors, VectorFile)
            yield from self._vectors.parts(rows)
        else:
            for start in range(0, len(vectors), rows):
                yield vectors[start : start + rows]

    def take(self, positions: NDArray[np.int64]) -> Floats:
        """Return a copy of the vectors [P, D] at some positions."""
        if isinstance(self._vectors, VectorFile):
            return self._vectors.take(positions)
        return np.ascontiguousarray(self._vectors[positions])

    def check(self) -> None:
        """Compare all vectors of a file with their checksums.

        Raises:
            CorruptIndex: one differs.
        """
        if isinstance(self._vectors, VectorFile):
            self._vectors.check()


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
    """Open the files that `write_matrix` wrote.

    Raises:
        CorruptIndex: a file is missing, or does not match the manifest.
    """
    try:
        shape = (int(manifest["rows"]), int(manifest["dim"]))
        sums = np.array(manifest["sums"], np.uint32)
        vectors = VectorFile(folder / manifest["vectors"], npy_header(*shape), shape, sums)
        stored = (folder / manifest["ids"]).read_bytes()
        if zlib.crc32(stored) != manifest["ids_sum"]:
            raise CorruptIndex("a file does not match its manifest")
        return Matrix(np.load(io.BytesIO(stored)), vectors)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
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
