"""Indexing: a view of a store -> an index that answers for exactly the rows that are there now.

What is on disk is used as far as it goes: rows that came or went since are taken in or left out one by one, and what is
damaged, foreign or too old is built anew. Nothing that is derived is believed against the store.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from embedx.errors import DiskError, NothingToDo, UsageError
from embedx.index import METRICS, Damaged, Ids, VectorIndex, write_index
from embedx.store import Store

Answer = TypeVar("Answer")
log = logging.getLogger("embedx")

FOLDER = "index"
CHANGED_ROWS, CHANGED_SHARE = 2000, 0.1  # rows that came or went, beyond which building anew pays


class Indexes:
    """The indexes of a collection, opened when they are asked for and kept up with the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = store.folder / FOLDER
        self._open: dict[tuple[str, str], tuple[int, VectorIndex]] = {}  # -> generation it is true for

    def get(self, view: str, metric: str = "cosine", *, compact: bool = False) -> VectorIndex:
        """Return the index of a view as of now; `compact` builds it anew if any row has come or gone.

        Raises:
            UsageError: there is no such view or metric.
            NothingToDo: the collection is empty.
            StoreError: a vector in the store is damaged.
        """
        check_metric(metric)
        if view not in self.store.views:
            raise UsageError(f"There is no view {view!r}. Views of this collection: {', '.join(self.store.views)}.")
        with self.store.snapshot():
            generation = self.store.generation
            known, index = self._open.get((view, metric), (-1, None))
            if index is None or known < self.store.rewritten:
                index = self._load(view, metric)
            if index is None or (known != generation and not self._catch_up(index, view, compact)):
                index = self._build(view, metric)
        self._open[view, metric] = generation, index
        return index

    def ask(self, view: str, metric: str, question: Callable[[VectorIndex], Answer]) -> Answer:
        """Put a question to the index of a view; one that turns out to be damaged is built anew, and asked again."""
        try:
            return question(self.get(view, metric))
        except Damaged as error:
            log.warning("The index of %s is damaged (%s): it is built anew.", view, error)
            self._open.pop((view, metric), None)
            with self.store.snapshot():
                return question(self._build(view, metric))

    def identity(self, view: str) -> dict[str, Any]:
        """Return what the note of an index must say to be one of this collection."""
        return {"view": view, "fingerprint": self.store.recipe.fingerprint}

    def _load(self, view: str, metric: str) -> VectorIndex | None:
        try:
            index = VectorIndex.load(self.folder, f"{view}.{metric}", metric, self.identity(view))
        except Damaged as error:
            log.warning("The index of %s cannot be used (%s): it is built anew.", view, error)
            return None
        if index is None:
            return None
        built = index.note["generation"]
        if index.note["token"] != self.store.token(built) or built < self.store.rewritten:
            log.warning("The index of %s is of another state of the store: it is built anew.", view)
            return None
        return index

    def _catch_up(self, index: VectorIndex, view: str, compact: bool) -> bool:
        """Bring an index up to the rows of the store; return whether that is still the better way."""
        ids = self.store.ids()
        gone = np.setdiff1d(index.matrix.ids, ids, assume_unique=True)
        new: Ids = np.setdiff1d(ids, index.matrix.ids, assume_unique=True)
        changed = len(gone) + len(new)
        if changed > max(CHANGED_ROWS, CHANGED_SHARE * len(index.matrix)) or (compact and changed):
            return False
        if changed or len(index) != len(ids):
            index.update(gone, *self.store.vectors(view, new.tolist()))
        return True

    def _build(self, view: str, metric: str) -> VectorIndex:
        rows, dim = self.store.count(), self.store.views[view]
        if not rows:
            raise NothingToDo(f"{self.store.folder} holds no rows yet. `embedx status` says why.")
        generation = self.store.generation
        identity = self.identity(view) | {"generation": generation, "token": self.store.token(generation)}
        try:
            return write_index(self.folder, f"{view}.{metric}", metric, identity, rows, dim, self.store.blocks(view))
        except DiskError as error:
            log.warning("%s The vectors are compared in memory instead.", error)
            return VectorIndex.build(*self.store.vectors(view), metric)


def check_metric(metric: str) -> None:
    """Refuse an unknown metric."""
    if metric not in METRICS:
        raise UsageError(f"Unknown metric {metric!r}. Metrics: {', '.join(METRICS)}.")
