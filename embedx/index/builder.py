"""Builder: write an index to disk, block by block, without holding all vectors in memory."""

import contextlib
import fcntl
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from embedx.errors import DiskError
from embedx.index.approximate import write_structure
from embedx.index.exact import prepare
from embedx.index.manifest import read_manifest, write_manifest
from embedx.index.matrix import CorruptIndex, Floats, Ids, read_matrix, write_matrix
from embedx.index.tuning import HELD, TUNED, build_structure, measure
from embedx.index.vector_index import VectorIndex

BEING_WRITTEN_S = 60  # a file that was touched so recently may belong to a build in another process


class IndexBuilder:
    """An index while it is made; nobody sees it before `publish`, and the one that was there before serves until then.

    First the vectors, then perhaps a structure over them::

        with IndexBuilder(folder, "L0.mean.cosine", "cosine") as draft:
            draft.add_matrix(identity, rows, dim, blocks)
            draft.add_structure("ivf-rabitq", 0.99)
            index = draft.publish()

    Raises:
        DiskError: the disk is full or refuses. The index that was there before stays.
    """

    def __init__(self, folder: Path, name: str, metric: str) -> None:
        self.folder, self.name, self.metric = folder, name, metric
        self.stem = folder / f"{name}-{secrets.token_hex(4)}"  # files of two builds never mix
        self.note: dict[str, Any] = {}
        self.begun = time.perf_counter()

    def __enter__(self) -> "IndexBuilder":
        try:
            self.folder.mkdir(exist_ok=True)
            self._replaced = files_of(self.folder, self.name)
            self._hold = open(lock_of(self.stem), "wb")  # held until the draft is left
            fcntl.flock(self._hold, fcntl.LOCK_EX)
        except OSError as error:
            raise DiskError(f"The folder {self.folder} cannot be written: {error.strerror}.") from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hold.close()
        lock_of(self.stem).unlink(missing_ok=True)
        if error is not None:
            published = files_of(self.folder, self.name)  # it may fail after the note has its name
            for file in self.folder.glob(f"{self.stem.name}.*"):
                if file.name not in published:
                    file.unlink(missing_ok=True)

    def add_matrix(self, identity: dict[str, Any], rows: int, dim: int, blocks: Iterable[tuple[Ids, Floats]]) -> None:
        """Write vectors that come in blocks of (ids ascending, vectors [B, D]).

        `identity` goes into the note: what `load` will be asked for.
        """
        prepared = ((ids, prepare(vectors, self.metric)) for ids, vectors in blocks)
        self.note = identity | {"metric": self.metric, "kind": "flat"} | write_matrix(self.stem, rows, dim, prepared)
        self.index = VectorIndex(read_matrix(self.folder, self.note), self.metric, note=self.note, folder=self.folder)

    def add_structure(self, kind: str, recall: float) -> None:
        """Write a structure of a kind, tuned to a recall, and measure the index; of a flat one there is nothing to add.

        Where no setting reaches the recall nothing is written, and the note says why every search is exact.

        Raises:
            CorruptIndex: a vector is not what was written a moment ago.
        """
        matrix = self.index.matrix
        if kind != "flat":
            structure, settings = build_structure(kind, matrix, self.metric, recall)
            if structure is None or not settings:
                why = (
                    f"no setting of {kind} reached a recall of {recall:g}" if structure else "few rows have a direction"
                )
                self.note["remark"] = f"every search is exact: {why}"
            else:
                self.note |= {"kind": kind, "settings": settings, "structure_rows": len(structure)}
                self.note |= write_structure(self.stem, structure)
        self.index = VectorIndex(matrix, self.metric, note=self.note, folder=self.folder)
        self.note["memory_bytes"] = self.note.get("structure_bytes", len(matrix) * matrix.dim * 4)
        self.note["build_s"] = round(time.perf_counter() - self.begun, 2)
        self.note["built"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        some = np.linspace(0, len(matrix) - 1, min(HELD, len(matrix))).astype(np.int64)
        self.note |= measure(lambda queries: self.index.search(queries, TUNED[0]), matrix.take(some))

    def publish(self) -> VectorIndex:
        """Let the index take the place of the one before, and take away the files of old and of killed builds."""
        write_manifest(self.folder, self.name, self.note)
        kept = files_of(self.folder, self.name)
        for file in self.folder.glob(f"{self.name}-*"):
            old = file.name in self._replaced or time.time() - file.stat().st_mtime > BEING_WRITTEN_S
            stem = self.name + file.name[len(self.name) :].split(".")[0]
            if old and file.name not in kept and not is_held(self.folder / stem):
                file.unlink(missing_ok=True)
        return self.index


def write_index(
    folder: Path,
    name: str,
    metric: str,
    identity: dict[str, Any],
    rows: int,
    dim: int,
    blocks: Iterable[tuple[Ids, Floats]],
) -> VectorIndex:
    """Write a flat index, and open it; see `IndexBuilder`.

    Raises:
        DiskError: the disk is full or refuses. The index that was there before stays.
    """
    with IndexBuilder(folder, name, metric) as draft:
        draft.add_matrix(identity, rows, dim, blocks)
        return draft.publish()


def lock_of(stem: Path) -> Path:
    """Return the file that a process holds while it makes an index of this name."""
    return stem.with_name(stem.name + ".building")


def is_held(stem: Path) -> bool:
    """Tell whether a process is making an index of this name now."""
    with contextlib.suppress(FileNotFoundError), open(lock_of(stem), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def files_of(folder: Path, name: str) -> set[str]:
    """Return the names of the files that the note of an index mentions."""
    try:
        note = read_manifest(folder, name) or {}
    except CorruptIndex:
        note = {}
    return {value for value in note.values() if isinstance(value, str)}
