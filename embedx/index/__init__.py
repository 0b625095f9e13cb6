"""VectorIndex: nearest neighbours of one view. The only room that knows faiss.

An index is derived from the store and disposable. `<view>.<metric>.json` in its folder is a note that names its files
and their checksums, the generation of the store that it was built from, and what was measured. The note is written
last, by a rename: an index is there whole or not at all. What does not agree with it is not used.
"""

import json
import secrets
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from embedx.disk import replace_file
from embedx.errors import DiskError
from embedx.index.exact import METRICS, merge, nearest, prepare, scores_of
from embedx.index.matrix import Damaged, Floats, Ids, Matrix, read_matrix, write_matrix

__all__ = ["METRICS", "Damaged", "Floats", "Ids", "VectorIndex", "write_index"]

BEING_WRITTEN_S = 60  # a file that was touched so recently may belong to a build in another process


class VectorIndex:
    """The vectors of a view as they are in the store now; a higher score is always nearer.

    A score is the cosine, the inner product ("ip"), or the Euclidean distance with a minus sign ("l2"). `matrix` is
    what was built; since then rows may have `gone`, and others have come (`tail`): those are compared one by one.
    """

    def __init__(self, matrix: Matrix, metric: str = "cosine", *, note: dict[str, Any] | None = None) -> None:
        self.matrix = matrix
        self.metric = metric
        self.note = note or {"kind": "flat"}
        self._keep_up(np.zeros(0, np.int64), Matrix(np.zeros(0, np.int64), np.zeros((0, matrix.dim), np.float32)))

    @classmethod
    def build(cls, ids: Ids, vectors: Floats, metric: str = "cosine") -> "VectorIndex":
        """Index vectors [N, D] under their ascending row ids [N], in memory."""
        return cls(Matrix(np.asarray(ids, np.int64), prepare(vectors, metric)), metric)

    def __len__(self) -> int:
        return len(self.matrix) - len(self.gone) + len(self.tail)

    @property
    def ids(self) -> Ids:
        """The ids [N] of all rows, ascending."""
        there = self.matrix.ids if self._there is None else self.matrix.ids[self._there]
        return np.concatenate([there, self.tail.ids])

    def update(self, gone: Ids, ids: Ids, vectors: Floats) -> None:
        """Leave out rows that are not in the store any more, and take in those [N, D] that came since the build."""
        self._keep_up(gone, Matrix(ids, prepare(vectors, self.metric)))

    def _keep_up(self, gone: Ids, tail: Matrix) -> None:
        self.gone, self.tail = gone, tail
        self._there = np.flatnonzero(~np.isin(self.matrix.ids, gone)) if len(gone) else None

    def search(
        self, queries: Floats, k: int, *, keep: Ids | None = None, drop: Ids | None = None, exact: bool = False
    ) -> tuple[Floats, Ids]:
        """Return scores [Q, K] and ids [Q, K] of the nearest vectors, best first; K is k or all there are, if fewer.

        `keep` restricts the search to some ids and `drop` takes some out, before anything is ranked. An answer within
        `keep` is always exact.

        Raises:
            Damaged: a vector is not what was written.
        """
        queries = prepare(queries, self.metric)
        found = [nearest(matrix, queries, k, self.metric, positions) for matrix, positions in self._parts(keep, drop)]
        return merge(found, k) if len(found) > 1 else found[0]

    def scores(self, queries: Floats, *, keep: Ids | None = None, drop: Ids | None = None) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and the exact scores [Q, N] of all rows, or of those in `keep` without `drop`.

        Raises:
            Damaged: a vector is not what was written.
        """
        queries = prepare(queries, self.metric)
        ids, scores = [], []
        for matrix, positions in self._parts(keep, drop):
            ids.append(matrix.ids if positions is None else matrix.ids[positions])
            scores.append(scores_of(matrix, queries, self.metric, positions))
        return np.concatenate(ids), np.concatenate(scores, axis=1)

    def vectors(self, ids: Ids) -> Floats:
        """Return the vectors [N, D] of rows in the order given, as the metric compares them (cosine: of length 1)."""
        out = np.empty((len(ids), self.matrix.dim), np.float32)
        for matrix in (self.matrix, self.tail):
            mine = np.isin(ids, matrix.ids)
            out[mine] = matrix.take(matrix.positions(ids[mine]))
        return out

    def _parts(self, keep: Ids | None, drop: Ids | None) -> list[tuple[Matrix, Ids | None]]:
        """Return matrix and tail, each with the positions that may be found, None for all of them."""
        if keep is not None:
            keep = np.unique(keep if drop is None else np.setdiff1d(keep, drop))
        parts: list[tuple[Matrix, Ids | None]] = []
        for matrix, there in ((self.matrix, self._there), (self.tail, None)):
            positions = there
            if keep is not None:
                positions = matrix.positions(keep)
                if there is not None:
                    positions = np.intersect1d(positions, there, assume_unique=True)
            elif drop is not None and len(drop):
                every = np.arange(len(matrix)) if there is None else there
                positions = np.setdiff1d(every, matrix.positions(drop), assume_unique=True)
            parts.append((matrix, positions))
        return parts if len(self.tail) else parts[:1]

    @classmethod
    def load(cls, folder: Path, name: str, metric: str, identity: dict[str, Any]) -> "VectorIndex | None":
        """Open an index whose note says what is expected; None where there is none.

        Raises:
            Damaged: there is one, but it is not what was written, or belongs to something else.
        """
        note = read_note(folder, name)
        if note is None:
            return None
        different = [key for key, value in identity.items() if note.get(key) != value]
        if different or note.get("metric") != metric:
            raise Damaged(f"it was made of something else ({', '.join(different) or 'metric'})")
        return cls(read_matrix(folder, note), metric, note=note)


def write_index(
    folder: Path,
    name: str,
    metric: str,
    identity: dict[str, Any],
    rows: int,
    dim: int,
    blocks: Iterable[tuple[Ids, Floats]],
) -> VectorIndex:
    """Write an index of vectors that come in blocks of (ids ascending, vectors [B, D]), and open it.

    `identity` goes into the note: what `load` will be asked for.

    Raises:
        DiskError: the disk is full or refuses. The index that was there before stays.
    """
    try:
        folder.mkdir(exist_ok=True)
        replaced = files_of(folder, name)
    except OSError as error:
        raise DiskError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    stem = folder / f"{name}-{secrets.token_hex(4)}"  # files of two builds never mix
    prepared = ((ids, prepare(vectors, metric)) for ids, vectors in blocks)
    note = identity | {"metric": metric, "kind": "flat"} | write_matrix(stem, rows, dim, prepared)
    index = VectorIndex(read_matrix(folder, note), metric, note=note)
    write_note(folder, name, note)
    kept = files_of(folder, name)
    for file in folder.glob(f"{name}-*"):
        old = file.name in replaced or time.time() - file.stat().st_mtime > BEING_WRITTEN_S
        if old and file.name not in kept:
            file.unlink(missing_ok=True)
    return index


def files_of(folder: Path, name: str) -> set[str]:
    """Return the names of the files that the note of an index mentions."""
    try:
        note = read_note(folder, name) or {}
    except Damaged:
        note = {}
    return {value for value in note.values() if isinstance(value, str)}


def write_note(folder: Path, name: str, note: dict[str, Any]) -> None:
    """Write the note of an index, with a checksum of its own.

    Raises:
        DiskError: the disk is full or refuses.
    """
    text = json.dumps({"note": note, "sum": zlib.crc32(json.dumps(note).encode())})
    try:
        replace_file(folder / f"{name}.json", text.encode())
    except OSError as error:
        raise DiskError(f"The index in {folder} cannot be written: {error.strerror}.") from error


def read_note(folder: Path, name: str) -> dict[str, Any] | None:
    """Read the note of an index; None where there is none.

    Raises:
        Damaged: it is not what was written.
    """
    try:
        written = json.loads((folder / f"{name}.json").read_bytes())
        note: dict[str, Any] = written["note"]
        if zlib.crc32(json.dumps(note).encode()) == written["sum"]:
            return note
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"its note cannot be read: {error}") from error
    raise Damaged("its note is not what was written")
