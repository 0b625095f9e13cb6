"""VectorIndex: the nearest neighbors of vectors in one view.

An approximate index (approximate.py), with settings that reach the requested recall (tuning.py), can lie next to the
vectors. It is used for searches for up to 100 rows without a filter; every other search compares all vectors.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np

from embedx.index.approximate import AnnFile, check_ann_file
from embedx.index.exact import merge, nearest, prepare, score_proposed, scores_of
from embedx.index.manifest import IndexFiles, read_manifest
from embedx.index.matrix import CorruptIndex, Floats, Ids, Matrix, read_matrix
from embedx.index.tuning import TUNED_K, SearchSetting

MAX_DELETED_SHARE = 0.1  # of the rows of an approximate index; its recall was not measured with more: then exact


class VectorIndex:
    """The vectors of a view for the rows that are in the store now. A higher score is always nearer.

    The score is the cosine, the inner product ("ip"), or minus the Euclidean distance ("l2"). An index never changes,
    so any number of threads can use it; `with_changes` returns another one.

    Args:
        matrix: the vectors that the index was built from.
        metric: "cosine", "ip" or "l2".
        manifest: the description of the files; None for an index in memory.
        folder: the folder of the files; None for an index in memory.

    Attributes:
        deleted: ids of rows of the matrix that are no longer in the store.
        pending: rows that came to the store after the build; they are compared one by one.
        files: the files of an index on disk.
    """

    def __init__(
        self,
        matrix: Matrix,
        metric: str = "cosine",
        *,
        manifest: dict[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.matrix = matrix
        self.metric = metric
        self.manifest = manifest or {"kind": "flat"}
        self._folder = folder
        self.files: IndexFiles | None = None
        has_ann = folder is not None and "structure" in self.manifest
        self._ann = AnnFile(folder, self.manifest) if folder is not None and has_ann else None
        entries = self.manifest.get("settings", {})
        self._settings = {int(k): SearchSetting.from_manifest(entry) for k, entry in entries.items()}
        no_ids = np.zeros(0, np.int64)
        self._set_changes(no_ids, Matrix(no_ids, np.zeros((0, matrix.dim), np.float32)))

    @classmethod
    def build(cls, ids: Ids, vectors: Floats, metric: str = "cosine") -> "VectorIndex":
        """Index vectors [N, D] with their ascending row ids [N], in memory."""
        return cls(Matrix(np.asarray(ids, np.int64), prepare(vectors, metric)), metric)

    @classmethod
    def load(cls, folder: Path, name: str, metric: str, identity: dict[str, Any]) -> "VectorIndex | None":
        """Open an index whose manifest has the entries of `identity`; None if there is no index.

        Raises:
            CorruptIndex: the index is damaged, or belongs to something else.
        """
        files = IndexFiles(folder, name)
        manifest = read_manifest(folder, name)
        if manifest is None:
            return None
        files.add(manifest)
        different = [key for key, value in identity.items() if manifest.get(key) != value]
        if different or manifest.get("metric") != metric:
            raise CorruptIndex(f"it belongs to something else ({', '.join(different) or 'metric'} differs)")
        try:
            index = cls(read_matrix(folder, manifest), metric, manifest=manifest, folder=folder)
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # the settings of an approximate index
            raise CorruptIndex(f"its manifest has an entry that cannot be used ({error!r})") from error
        index.files = files
        return index

    def __len__(self) -> int:
        return len(self.matrix) - len(self.deleted) + len(self.pending)

    @property
    def ids(self) -> Ids:
        """The ids [N] of all rows, ascending."""
        present = self.matrix.ids if self._present is None else self.matrix.ids[self._present]
        return np.concatenate([present, self.pending.ids])

    def with_changes(self, deleted: Ids, ids: Ids, vectors: Floats) -> "VectorIndex":
        """Return this index without the rows that were deleted since the build, and with rows [N] that came.

        Args:
            deleted: ids of rows that were deleted.
            ids: ids [N] of the new rows, ascending.
            vectors: vectors [N, D] of the new rows.
        """
        changed = copy.copy(self)
        changed._set_changes(deleted, Matrix(ids, prepare(vectors, self.metric)))
        return changed

    def has_same_files(self) -> bool:
        """Tell whether the files of the index are as they were when it was opened; an index in memory has none."""
        return self.files is None or self.files.are_unchanged()

    def _set_changes(self, deleted: Ids, pending: Matrix) -> None:
        self.deleted, self.pending = deleted, pending
        # positions in the matrix of the rows that still exist; None: all of them
        self._present = np.flatnonzero(~np.isin(self.matrix.ids, deleted)) if len(deleted) else None

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        include_ids: Ids | None = None,
        exclude_ids: Ids | None = None,
        exact: bool = False,
        spare: int = 0,
    ) -> tuple[Floats, Ids]:
        """Return the nearest vectors of each query.

        Args:
            queries: query vectors [Q, D].
            k: the number of rows for each query.
            include_ids: search only these rows; such a search is always exact.
            exclude_ids: leave these rows out, before anything is ranked.
            exact: compare all vectors.
            spare: the number of rows to return beyond k, for a caller that leaves out so many for each query.

        Returns:
            Exact scores [Q, K] and ids [Q, K], best first; K is k + spare, or the number of rows if there are fewer.

        Raises:
            CorruptIndex: a vector is damaged.
        """
        queries = prepare(queries, self.metric)
        if include_ids is None and not exact:
            approximate = self._search_approximately(queries, k, spare, exclude_ids)
            if approximate is not None:
                return approximate
        parts = self._parts(include_ids, exclude_ids)
        results = [nearest(matrix, queries, k + spare, self.metric, positions) for matrix, positions in parts]
        return merge(results, k + spare) if len(results) > 1 else results[0]

    def _search_approximately(
        self, queries: Floats, k: int, spare: int, exclude_ids: Ids | None
    ) -> tuple[Floats, Ids] | None:
        """Compare only the rows that the approximate index proposes; None if it cannot reach its recall."""
        setting = next((self._settings.get(tuned) for tuned in TUNED_K if k <= tuned), None)
        excluded = self.deleted
        if exclude_ids is not None and len(exclude_ids):
            excluded = np.union1d(excluded, self.matrix.ids[self.matrix.positions(exclude_ids)])
        ann = self._ann.read() if setting and self._ann else None
        if setting is None or ann is None or k < 1 or len(excluded) > MAX_DELETED_SHARE * len(self.matrix):
            return None
        k += spare
        proposed = ann.propose(queries, setting.nprobe_or_ef, setting.candidates + spare, excluded)
        needed = min(k, len(self.matrix) - len(excluded))
        if not len(queries) or (proposed >= 0).sum(axis=1).min() < needed:
            return None
        scores = score_proposed(self.matrix, queries, proposed, self.metric)
        results = [merge([(scores, proposed)], needed)]
        if len(self.pending):
            positions = None if exclude_ids is None else np.flatnonzero(~np.isin(self.pending.ids, exclude_ids))
            results.append(nearest(self.pending, queries, k, self.metric, positions))
        return merge(results, k) if len(results) > 1 else results[0]

    def verify(self) -> None:
        """Compare all files of the index with their checksums.

        Raises:
            CorruptIndex: a file is damaged.
        """
        self.matrix.check()
        if self._folder is not None and "structure" in self.manifest:
            check_ann_file(self._folder, self.manifest)

    def scores(
        self, queries: Floats, *, include_ids: Ids | None = None, exclude_ids: Ids | None = None
    ) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and exact scores [Q, N] of all rows.

        Args:
            queries: query vectors [Q, D].
            include_ids: return only these rows.
            exclude_ids: leave these rows out.

        Raises:
            CorruptIndex: a vector is damaged.
        """
        queries = prepare(queries, self.metric)
        ids, scores = [], []
        for matrix, positions in self._parts(include_ids, exclude_ids):
            ids.append(matrix.ids if positions is None else matrix.ids[positions])
            scores.append(scores_of(matrix, queries, self.metric, positions))
        return np.concatenate(ids), np.concatenate(scores, axis=1)

    def vectors(self, ids: Ids) -> Floats:
        """Return the vectors [N, D] of rows in the given order, as the metric compares them (cosine: of length 1)."""
        vectors = np.empty((len(ids), self.matrix.dim), np.float32)
        for matrix in (self.matrix, self.pending):
            own = np.isin(ids, matrix.ids)
            vectors[own] = matrix.take(matrix.positions(ids[own]))
        return vectors

    def _parts(self, include_ids: Ids | None, exclude_ids: Ids | None) -> list[tuple[Matrix, Ids | None]]:
        """Return the matrix and the pending rows, each with the positions to search, None for all of them."""
        if include_ids is not None:
            include_ids = np.unique(include_ids if exclude_ids is None else np.setdiff1d(include_ids, exclude_ids))
        parts: list[tuple[Matrix, Ids | None]] = []
        for matrix, present in ((self.matrix, self._present), (self.pending, None)):
            positions = present
            if include_ids is not None:
                positions = matrix.positions(include_ids)
                if present is not None:
                    positions = np.intersect1d(positions, present, assume_unique=True)
            elif exclude_ids is not None and len(exclude_ids):
                candidates = np.arange(len(matrix)) if present is None else present
                positions = np.setdiff1d(candidates, matrix.positions(exclude_ids), assume_unique=True)
            parts.append((matrix, positions))
        return parts if len(self.pending) else parts[:1]
