"""VectorIndex: nearest neighbours of one view. The only room that knows faiss.

An index is derived from the store and disposable. `<view>.<metric>.json` in its folder is a note that names its files
and their checksums, the generation of the store that it was built from, and what was measured. The note is written
last, by a rename: an index is there whole or not at all. What does not agree with it is not used.

A structure of an approximate kind (`kinds`), with settings that reach the recall that was asked for (`tuning`), may lie
beside the vectors. It serves searches for up to 100 rows without a filter; every other answer is exact.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from embedx.index.approximate import AnnIndex, read_structure
from embedx.index.exact import merge, nearest, prepare, score_proposed, scores_of
from embedx.index.manifest import read_manifest
from embedx.index.matrix import CorruptIndex, Floats, Ids, Matrix, read_matrix
from embedx.index.tuning import TUNED, Setting

MOST_LEFT_OUT = 0.1  # of the rows of a structure may have gone; beyond, its recall was never measured: exact
log = logging.getLogger("embedx")


class VectorIndex:
    """The vectors of a view as they are in the store now; a higher score is always nearer.

    A score is the cosine, the inner product ("ip"), or the Euclidean distance with a minus sign ("l2"). `matrix` is
    what was built; since then rows may have `gone`, and others have come (`tail`): those are compared one by one.
    """

    def __init__(
        self, matrix: Matrix, metric: str = "cosine", *, note: dict[str, Any] | None = None, folder: Path | None = None
    ) -> None:
        self.matrix = matrix
        self.metric = metric
        self.note = note or {"kind": "flat"}
        self._folder = folder
        self._structure: AnnIndex | None = None  # read when it is first needed
        self._settings: dict[str, Setting] = self.note.get("settings", {})
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
        `keep` is always exact; `exact` asks for that elsewhere. Scores are exact always.

        Raises:
            CorruptIndex: a vector is not what was written.
        """
        queries = prepare(queries, self.metric)
        if keep is None and not exact:
            approximate = self._search_structure(queries, k, drop)
            if approximate is not None:
                return approximate
        found = [nearest(matrix, queries, k, self.metric, positions) for matrix, positions in self._parts(keep, drop)]
        return merge(found, k) if len(found) > 1 else found[0]

    def _search_structure(self, queries: Floats, k: int, drop: Ids | None) -> tuple[Floats, Ids] | None:
        """Search by what the structure proposes; None if it cannot answer as well as was promised."""
        setting = next((self._settings.get(str(most)) for most in TUNED if k <= most), None)
        without = self.gone
        if drop is not None and len(drop):
            without = np.union1d(without, self.matrix.ids[self.matrix.positions(drop)])
        structure = self._read_structure() if setting else None
        if setting is None or structure is None or k < 1 or len(without) > MOST_LEFT_OUT * len(self.matrix):
            return None
        proposed = structure.propose(queries, setting["breadth"], setting["candidates"], without)
        there = min(k, len(self.matrix) - len(without))
        if not len(queries) or (proposed >= 0).sum(axis=1).min() < there:
            return None
        scores = score_proposed(self.matrix, queries, proposed, self.metric)
        found = [merge([(scores, proposed)], there)]
        if len(self.tail):
            positions = None if drop is None else np.flatnonzero(~np.isin(self.tail.ids, drop))
            found.append(nearest(self.tail, queries, k, self.metric, positions))
        return merge(found, k) if len(found) > 1 else found[0]

    def check(self) -> None:
        """Compare all that was written with its checksums.

        Raises:
            CorruptIndex: something differs.
        """
        self.matrix.all()
        if self._folder is not None and "structure" in self.note:
            read_structure(self._folder, self.note)

    def _read_structure(self) -> AnnIndex | None:
        """Return the structure; one that is damaged is named and left alone, and every answer is exact."""
        if self._structure is None and self._folder is not None and "structure" in self.note:
            try:
                self._structure = read_structure(self._folder, self.note)
            except CorruptIndex as error:
                log.warning(
                    "The index of %s is damaged (%s): every vector is compared instead. `embedx index build` makes it "
                    "anew.",
                    self.note.get("view"),
                    error,
                )
                self._settings = {}
        return self._structure

    def scores(self, queries: Floats, *, keep: Ids | None = None, drop: Ids | None = None) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and the exact scores [Q, N] of all rows, or of those in `keep` without `drop`.

        Raises:
            CorruptIndex: a vector is not what was written.
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
            CorruptIndex: there is one, but it is not what was written, or belongs to something else.
        """
        note = read_manifest(folder, name)
        if note is None:
            return None
        different = [key for key, value in identity.items() if note.get(key) != value]
        if different or note.get("metric") != metric:
            raise CorruptIndex(f"it was made of something else ({', '.join(different) or 'metric'})")
        return cls(read_matrix(folder, note), metric, note=note, folder=folder)
