"""IndexBuilder: write an index to disk, block by block, without all vectors in memory."""

import contextlib
import fcntl
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from embedx.errors import DiskError
from embedx.filesystem.file_state import is_locked
from embedx.index.approximate import write_ann_index
from embedx.index.exact import prepare
from embedx.index.manifest import IndexFiles, read_manifest, write_manifest
from embedx.index.matrix import CorruptIndex, Floats, Ids, read_matrix, write_matrix
from embedx.index.tuning import TEST_QUERIES, TUNED_K, build_tuned_index, measure
from embedx.index.vector_index import VectorIndex

OWN_FILE = re.compile(
    r"(L[0-9]+\.[a-z_]+\.(cosine|ip|l2))(\.json|\.json\.new|-[0-9a-f]{8}\.(vectors\.npy|ids\.npy|faiss|building))"
)
RECENT_S = 60  # a file that changed this recently may belong to a build in another process


class IndexBuilder:
    """An index while it is built. Nobody sees it before `publish`; until then the old index is used.

    First the vectors are added, then perhaps an approximate index over them::

        with IndexBuilder(folder, "L0.mean.cosine", "cosine") as builder:
            builder.add_matrix(identity, rows, dim, blocks)
            builder.add_ann_index("ivf-rabitq", 0.99)
            index = builder.publish()

    Args:
        folder: the folder of the indexes; it is made if it does not exist.
        name: the name of the index, `<view>.<metric>`.
        metric: "cosine", "ip" or "l2".

    Raises:
        DiskError: the disk is full or cannot be written. The old index stays.
    """

    def __init__(self, folder: Path, name: str, metric: str) -> None:
        self.folder, self.name, self.metric = folder, name, metric
        self.stem = folder / f"{name}-{secrets.token_hex(4)}"  # so that two builds have files of their own
        self.manifest: dict[str, Any] = {}
        self.begun = time.perf_counter()

    def __enter__(self) -> "IndexBuilder":
        try:
            self.folder.mkdir(exist_ok=True)
            self._replaced = files_of(self.folder, self.name)
            self._lock = open(lock_of(self.stem), "wb")  # locked until the end of the build
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise DiskError(f"The folder {self.folder} cannot be written: {error.strerror}.") from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.close()
        lock_of(self.stem).unlink(missing_ok=True)
        if error is not None:
            published = files_of(self.folder, self.name)  # an error can also come after the manifest got its name
            for file in self.folder.glob(f"{self.stem.name}.*"):
                if file.name not in published:
                    file.unlink(missing_ok=True)

    def add_matrix(self, identity: dict[str, Any], rows: int, dim: int, blocks: Iterable[tuple[Ids, Floats]]) -> None:
        """Write the vectors.

        Args:
            identity: entries of the manifest that `VectorIndex.load` compares.
            rows: the number of rows.
            dim: the dimension of the vectors.
            blocks: (ids ascending, vectors [B, D]) of some rows at a time.
        """
        prepared = ((ids, prepare(vectors, self.metric)) for ids, vectors in blocks)
        written = write_matrix(self.stem, rows, dim, prepared)
        self.manifest = identity | {"metric": self.metric, "kind": "flat"} | written
        self.index = self._open()

    def add_ann_index(self, kind: str, recall: float) -> None:
        """Write an approximate index that is tuned to a recall, unless the kind is "flat"; then measure the result.

        If no setting reaches the recall, nothing is written, and the manifest says why every search is exact.

        Raises:
            CorruptIndex: a vector that was just written is damaged.
        """
        matrix = self.index.matrix
        if kind != "flat":
            ann, settings = build_tuned_index(kind, matrix, self.metric, recall)
            if ann is not None and settings:
                entries = {str(k): setting.to_manifest() for k, setting in settings.items()}
                self.manifest |= {"kind": kind, "settings": entries, "structure_rows": len(ann)}
                self.manifest |= write_ann_index(self.stem, ann)
            else:
                why = f"no setting of {kind} reached a recall of {recall:g}" if ann else "most vectors are zero"
                self.manifest["remark"] = f"every search is exact: {why}"
        self.index = VectorIndex(matrix, self.metric, manifest=self.manifest, folder=self.folder)
        self.manifest["memory_bytes"] = self.manifest.get("structure_bytes", len(matrix) * matrix.dim * 4)
        self.manifest["build_s"] = round(time.perf_counter() - self.begun, 2)
        self.manifest["built"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        positions = np.linspace(0, len(matrix) - 1, min(TEST_QUERIES, len(matrix))).astype(np.int64)
        self.manifest |= measure(lambda queries: self.index.search(queries, TUNED_K[0]), matrix.take(positions))

    def publish(self) -> VectorIndex:
        """Replace the old index with this one, and delete the files of old and of killed builds."""
        write_manifest(self.folder, self.name, self.manifest)
        self.index.files = IndexFiles(self.folder, self.name)
        self.index.files.add(self.manifest)
        kept = files_of(self.folder, self.name)
        for file in self.folder.glob(f"{self.name}-*"):
            if file.name in kept or not OWN_FILE.fullmatch(file.name) or file.is_dir():
                continue
            stem = self.name + file.name[len(self.name) :].split(".")[0]
            with contextlib.suppress(FileNotFoundError):  # another process has deleted it meanwhile
                is_old = file.name in self._replaced or time.time() - file.lstat().st_mtime > RECENT_S
                if is_old and not is_locked(lock_of(self.folder / stem)):
                    file.unlink()
        return self.index

    def _open(self) -> VectorIndex:
        matrix = read_matrix(self.folder, self.manifest)
        return VectorIndex(matrix, self.metric, manifest=self.manifest, folder=self.folder)


def write_index(
    folder: Path,
    name: str,
    metric: str,
    identity: dict[str, Any],
    rows: int,
    dim: int,
    blocks: Iterable[tuple[Ids, Floats]],
) -> VectorIndex:
    """Write a flat index and open it; see `IndexBuilder` and its `add_matrix` for the arguments.

    Raises:
        DiskError: the disk is full or cannot be written. The old index stays.
    """
    with IndexBuilder(folder, name, metric) as builder:
        builder.add_matrix(identity, rows, dim, blocks)
        return builder.publish()


def lock_of(stem: Path) -> Path:
    """Return the file that a process locks while it builds an index with this stem."""
    return stem.with_name(stem.name + ".building")


def find_unused_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files in the folder of the indexes that belong to no index.

    Returns:
        Files that embedx never writes, and files of builds that were interrupted, of running ones, and of replaced
        indexes; the next build of the same index deletes these.
    """
    foreign, unused = [], []
    for file in sorted(folder.glob("*")):
        match = OWN_FILE.fullmatch(file.name)
        if match is None or file.is_symlink() or file.is_dir():
            foreign.append(file)
        elif file.suffix != ".json" and file.name not in files_of(folder, match[1]):
            unused.append(file)
    return foreign, unused


def files_of(folder: Path, name: str) -> set[str]:
    """Return the names of the files that the manifest of an index mentions."""
    try:
        manifest = read_manifest(folder, name) or {}
    except CorruptIndex:
        manifest = {}
    return {value for value in manifest.values() if isinstance(value, str)}
