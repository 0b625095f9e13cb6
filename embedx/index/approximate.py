"""AnnIndex: an index of faiss that proposes near rows without comparing all of them, and how it is saved.

It only proposes. The proposed rows are compared by their exact vectors in the matrix, so every score is exact, and the
codes in the index may be coarse.
"""

import logging
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embedx.errors import DiskError
from embedx.filesystem.atomic import sync_folder
from embedx.index.exact import CHUNK
from embedx.index.faiss_files import SizeLimits
from embedx.index.kinds import FACTORY, count_lists, is_rotated, pq_width, row_bytes
from embedx.index.matrix import CorruptIndex, Floats, Ids, Matrix

log = logging.getLogger("embedx")

TRAIN_PER_LIST = 40  # vectors per list to train on; faiss asks for 39
MIN_TRAINING_ROWS = 2**14  # vectors to train on, if there are so many
MAX_TRAINING_ROWS = 2**18  # 800 MB of 768 float32
EF_CONSTRUCTION = 80  # neighbors that HNSW compares for a new row; with its default of 40 a search needs twice the ef
MAX_CANDIDATES = 2048  # per query: 6 MB of 768 float32, which take 2 ms to compare
ENOUGH_CANDIDATES = {"ivf-flat": 100, "ivf-sq8": 400}  # kinds whose codes are so good that more cannot help
EF_POWERS = range(4, 12)  # the ef values to try are 16 to 2048, as powers of two
ONE_THREAD = 64  # queries that one thread answers in 10 ms; a service needs the other cores for its other threads
PART_BYTES = 1 << 20  # of a file that is compared with its checksum
SEED = 0

Faiss = Any  # an index of faiss, which has no type annotations


class AnnIndex:
    """An approximate index of faiss over the rows of a matrix. It knows rows by their ids."""

    def __init__(self, kind: str, index: Faiss) -> None:
        self.kind = kind
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def propose(self, queries: Floats, nprobe_or_ef: int, candidates: int, exclude_ids: Ids | None = None) -> Ids:
        """Return ids [Q, candidates] of rows that may be near, the likeliest first; -1 where there are no more.

        Args:
            queries: query vectors [Q, D], as the metric compares them.
            nprobe_or_ef: IVF: nprobe, the number of lists to search; HNSW: ef, the number of rows to keep while it
                searches.
            candidates: the number of ids for each query.
            exclude_ids: ids that are not proposed.
        """
        import faiss

        threads = faiss.omp_get_max_threads()
        if len(queries) <= ONE_THREAD:
            faiss.omp_set_num_threads(1)
        try:
            parameters = self._parameters(nprobe_or_ef, exclude_ids)
            ids: Ids = self._index.search(queries, candidates, params=parameters)[1]
        finally:
            faiss.omp_set_num_threads(threads)
        return ids

    def efforts(self) -> list[int]:
        """Return the values of nprobe or ef to try, ascending."""
        if self.kind == "hnsw":
            return [2**power for power in EF_POWERS]
        import faiss

        lists = int(faiss.extract_index_ivf(self._index).nlist)
        return [2**power for power in range(lists.bit_length())]

    def max_candidates(self, nprobe_or_ef: int) -> int:
        """Return the largest useful number of candidates."""
        if self.kind == "hnsw":
            return min(MAX_CANDIDATES, nprobe_or_ef)
        return ENOUGH_CANDIDATES.get(self.kind, MAX_CANDIDATES)

    def cost(self, nprobe_or_ef: int, candidates: int, dim: int) -> float:
        """Return roughly the bytes that a query reads: the codes that it scans, and the vectors of the candidates."""
        if self.kind == "hnsw":
            return nprobe_or_ef * 32 * dim + candidates * dim * 4
        lists = self.efforts()[-1]
        return nprobe_or_ef / lists * len(self) * row_bytes(self.kind, dim) + candidates * dim * 4

    def add(self, matrix: Matrix, positions: Ids) -> None:
        """Add rows of a matrix, a chunk at a time."""
        for chunk in cut(positions):
            self._index.add_with_ids(matrix.take(chunk), matrix.ids[chunk])

    def to_bytes(self) -> Any:
        """Return the index as an array of bytes."""
        import faiss

        return faiss.serialize_index(self._index)

    def _parameters(self, nprobe_or_ef: int, exclude_ids: Ids | None) -> Any:
        """Return the search parameters as objects of faiss."""
        import faiss as untyped

        faiss: Any = untyped  # its stubs lack most of this
        options: dict[str, Any] = {}
        if exclude_ids is not None and len(exclude_ids):
            options["sel"] = faiss.IDSelectorNot(faiss.IDSelectorBatch(exclude_ids))
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=nprobe_or_ef, **options)
        parameters = faiss.SearchParametersIVF(nprobe=nprobe_or_ef, **options)
        return faiss.SearchParametersPreTransform(index_params=parameters) if is_rotated(self.kind) else parameters


def build_ann_index(kind: str, matrix: Matrix, metric: str, positions: Ids) -> AnnIndex:
    """Build an index over rows of a matrix. It is trained on a sample and filled in chunks, so memory is bounded.

    For the cosine, vectors of length 1 are compared by their distance: it ranks them in the same order, and suits the
    codes better.
    """
    import faiss as untyped

    faiss: Any = untyped  # its stubs lack most of this
    lists, dim = count_lists(len(positions)), matrix.dim
    name = FACTORY[kind].format(dim=dim, lists=lists, parts=dim // pq_width(dim))
    index = faiss.index_factory(dim, name, faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2)
    if kind == "hnsw":
        faiss.downcast_index(index.index).hnsw.efConstruction = EF_CONSTRUCTION
    else:
        faiss.extract_index_ivf(index).cp.min_points_per_centroid = 1  # no warning: `count_lists` sees to it
    count = min(len(positions), max(TRAIN_PER_LIST * lists, MIN_TRAINING_ROWS), MAX_TRAINING_ROWS)
    sample = np.sort(np.random.default_rng(SEED).choice(positions, count, replace=False))
    index.train(matrix.take(sample))
    ann = AnnIndex(kind, index)
    ann.add(matrix, positions)
    return ann


def cut(positions: Ids) -> Iterator[Ids]:
    """Yield positions in chunks whose vectors fit into memory."""
    for start in range(0, len(positions), CHUNK):
        yield positions[start : start + CHUNK]


def write_ann_index(stem: Path, ann: AnnIndex) -> dict[str, Any]:
    """Write an index next to its matrix, and return the entries of the manifest that `read_ann_index` needs.

    Raises:
        DiskError: the disk is full or cannot be written; the file is deleted again.
    """
    file = stem.with_name(stem.name + ".faiss")
    data = ann.to_bytes()
    try:
        with open(file, "wb") as opened:
            opened.write(data.data)
            opened.flush()
            os.fsync(opened.fileno())
        sync_folder(stem.parent)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise DiskError(f"The index {stem} cannot be written: {error.strerror}. The store is unchanged.") from error
    return {"structure": file.name, "structure_bytes": len(data), "structure_sum": zlib.crc32(data.data)}


class AnnFile:
    """An approximate index on disk; it is read when it is first needed.

    Args:
        folder: the folder of the file.
        manifest: the manifest of the index.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self._folder = folder
        self._manifest = manifest
        self._lock = threading.Lock()  # of the thread that reads
        self._is_read = False
        self._index: AnnIndex | None = None

    def read(self) -> AnnIndex | None:
        """Return the index; if it is damaged, log it once, and return None: then every search is exact."""
        with self._lock:
            if not self._is_read:
                self._is_read = True
                try:
                    self._index = read_ann_index(self._folder, self._manifest)
                except CorruptIndex as error:
                    log.warning(
                        "The index of %s is damaged (%s). Searches compare all vectors until `embedx index build` "
                        "builds it again.",
                        self._manifest.get("view"),
                        error,
                    )
        return self._index


def check_ann_file(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare the file that `write_ann_index` wrote with its checksum, a part at a time.

    Raises:
        CorruptIndex: the file is missing, or does not match the manifest.
    """
    size = total = 0
    try:
        with open(folder / manifest["structure"], "rb") as file:
            while part := file.read(PART_BYTES):
                size, total = size + len(part), zlib.crc32(part, total)
        if (size, total) != (manifest["structure_bytes"], manifest["structure_sum"]):
            raise CorruptIndex("its faiss file does not match the manifest")
    except (OSError, KeyError) as error:
        raise CorruptIndex(f"its faiss file cannot be read: {error}") from error


def read_ann_index(folder: Path, manifest: dict[str, Any]) -> AnnIndex:
    """Read what `write_ann_index` wrote. It is not memory-mapped, since the checksum has to read all of it.

    Raises:
        CorruptIndex: the file is missing, or does not match the manifest.
    """
    import faiss

    try:
        data = np.fromfile(folder / manifest["structure"], np.uint8)
        if len(data) != manifest["structure_bytes"] or zlib.crc32(data.data) != manifest["structure_sum"]:
            raise CorruptIndex("its faiss file does not match the manifest")
        with SizeLimits(len(data)):
            index = faiss.deserialize_index(data)
        ann = AnnIndex(manifest["kind"], index)
        if (len(ann), index.d) != (manifest["structure_rows"], manifest["dim"]):
            raise CorruptIndex("its faiss file is of other rows")
        return ann
    except (OSError, RuntimeError, KeyError, MemoryError) as error:  # faiss raises RuntimeError
        raise CorruptIndex(f"its faiss file cannot be read: {error}") from error
