"""Indexing: a view of a store -> an index that answers for exactly the rows that are there now.

What is on disk is used as far as it goes: rows that came or went since are taken in or left out one by one, and what is
damaged, foreign or too old is built anew. Nothing that is derived is believed against the store.

What was costly to build (a structure of an approximate kind) is never thrown away inside a search: that is built anew
by `build`, or by `settle` at the end of a run, with the options that were given first.
"""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from embedx.errors import DiskError, NothingToDo, UsageError
from embedx.index.approximate import pick_kind, read_size
from embedx.index.builder import IndexBuilder, write_index
from embedx.index.exact import METRICS
from embedx.index.manifest import read_manifest
from embedx.index.matrix import CorruptIndex, Ids
from embedx.index.vector_index import VectorIndex
from embedx.store.store import Store

Answer = TypeVar("Answer")
log = logging.getLogger("embedx")

FOLDER = "index"
CHANGED_ROWS, CHANGED_SHARE = 2000, 0.1  # rows that came or went, beyond which building anew pays
RECALL = 0.99
SHOWN = ("p50_ms", "p99_ms", "per_s", "memory_bytes", "build_s", "built", "remark")  # of a note, as it stands there


class Indexes:
    """The indexes of a collection, opened when they are asked for and kept up with the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = store.folder / FOLDER
        self._open: dict[tuple[str, str], tuple[int, VectorIndex]] = {}  # -> generation it is true for

    def get(self, view: str, metric: str = "cosine", *, compact: bool = False) -> VectorIndex:
        """Return the index of a view as of now; `compact` builds a flat one anew if any row has come or gone.

        Raises:
            UsageError: there is no such view or metric.
            NothingToDo: the collection is empty.
            StoreError: a vector in the store is damaged.
        """
        self._check(view, metric)
        with self.store.snapshot():
            generation = self.store.generation
            index = self._current(view, metric, generation, compact) or self._build(view, metric)
        self._open[view, metric] = generation, index
        return index

    def build(
        self,
        view: str,
        metric: str = "cosine",
        *,
        kind: str = "auto",
        recall: float = RECALL,
        max_memory: str | int | None = None,
    ) -> VectorIndex:
        """Build the index of a view anew, of a kind that is tuned to a recall; the old one serves until it is done.

        No lock is taken: rows that come meanwhile are compared one by one.

        Raises:
            UsageError: there is no such view, metric or kind, or none fits into the memory.
            NothingToDo: the collection is empty.
            StoreError: a vector in the store is damaged.
            DiskError: the disk is full or refuses.
        """
        self._check(view, metric)
        if not 0 < recall <= 1:
            raise UsageError(f"A recall is a share such as 0.99, above 0 and up to 1, not {recall:g}.")
        asked = {"kind": kind, "recall": recall, "max_memory": max_memory}
        with IndexBuilder(self.folder, f"{view}.{metric}", metric) as draft:
            with self.store.snapshot():
                rows, dim, generation = self._rows(), self.store.views[view], self.store.generation
                chosen = pick_kind(kind, rows, dim, read_size(max_memory))
                draft.add_matrix(self._state(view) | {"asked": asked}, rows, dim, self.store.blocks(view))
            draft.add_structure(chosen, recall)
            index = draft.publish()
        self._open[view, metric] = generation, index
        return index

    def refresh(self, view: str) -> None:
        """Bring the index of a view, and all that `build` has made, up to the store: the end of a run."""
        for note in self._notes():
            if "asked" in note and note["view"] in self.store.views:
                try:
                    self._settle(note, **note["asked"])
                except (UsageError, DiskError) as error:  # such as: it has outgrown its --max-memory
                    log.warning("The index of %s is not built anew. %s", note["view"], error)
        self.get(view, compact=True)

    def _settle(self, note: dict[str, Any], kind: str, recall: float, max_memory: str | int | None) -> None:
        """Build an index anew as it was asked for if much has changed, or if it has lost its structure."""
        chosen = pick_kind(kind, self.store.count(), note["dim"], read_size(max_memory))
        changed = sum(self._changes(note))
        lost = note["kind"] == "flat" and "remark" not in note
        if chosen != "flat" and (lost or changed > CHANGED_SHARE * note["rows"]):
            log.warning("The index %s of %s is built anew: %d rows came or went.", chosen, note["view"], changed)
            self.build(note["view"], note["metric"], kind=kind, recall=recall, max_memory=max_memory)

    def renew(self, name: str) -> None:
        """Take away an index that cannot be used, by the name of its note, and build it anew if it was asked for."""
        view, _, metric = name.rpartition(".")
        asked = [
            note["asked"] for note in self._notes() if name == f"{note['view']}.{note['metric']}" and "asked" in note
        ]
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        self._open.pop((view, metric), None)
        if asked and view in self.store.views:
            self.build(view, metric, **asked[0])

    def describe(self) -> list[dict[str, Any]]:
        """Return what there is on disk: one line of facts per index, from its note. Nothing is opened."""
        return [self._describe(note) for note in self._notes()]

    def describe_one(self, view: str, metric: str) -> dict[str, Any]:
        """Return the facts of one index that is on disk."""
        return next(one for one in self.describe() if (one["view"], one["metric"]) == (view, metric))

    def ask(self, view: str, metric: str, question: Callable[[VectorIndex], Answer]) -> Answer:
        """Put a question to the index of a view; one that turns out to be damaged is built anew, and asked again."""
        try:
            return question(self.get(view, metric))
        except CorruptIndex as error:
            log.warning("The index of %s is damaged (%s): it is built anew.", view, error)
            self._open.pop((view, metric), None)
            with self.store.snapshot():
                return question(self._build(view, metric))

    def identity(self, view: str) -> dict[str, Any]:
        """Return what the note of an index must say to be one of this collection."""
        return {"view": view, "fingerprint": self.store.recipe.fingerprint}

    def _check(self, view: str, metric: str) -> None:
        check_metric(metric)
        if view not in self.store.views:
            raise UsageError(f"There is no view {view!r}. Views of this collection: {', '.join(self.store.views)}.")

    def _state(self, view: str) -> dict[str, Any]:
        """Return what the note of an index of the store as it is now says."""
        generation = self.store.generation
        return self.identity(view) | {"generation": generation, "token": self.store.token(generation)}

    def _rows(self) -> int:
        rows = self.store.count()
        if not rows:
            raise NothingToDo(f"{self.store.folder} holds no rows yet. `embedx status` says why.")
        return rows

    def _current(self, view: str, metric: str, generation: int, compact: bool) -> VectorIndex | None:
        """Return the index in memory, or else the one on disk, brought up to the store; None if neither serves."""
        known, index = self._open.get((view, metric), (-1, None))
        if index is not None and known < self.store.rewritten:
            index = None
        if index is not None and (known == generation or self._catch_up(index, view, compact)):
            return index
        index = self._load(view, metric)
        if index is not None and (index.note["generation"] == generation or self._catch_up(index, view, compact)):
            return index
        return None

    def _load(self, view: str, metric: str) -> VectorIndex | None:
        try:
            index = VectorIndex.load(self.folder, f"{view}.{metric}", metric, self.identity(view))
        except CorruptIndex as error:
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
        many = changed > max(CHANGED_ROWS, CHANGED_SHARE * len(index.matrix))
        if index.note["kind"] == "flat" and (many or (compact and changed)):
            return False
        if many:
            log.warning("%d rows of %s came or went: `embedx index build` would make searches quicker.", changed, view)
        if changed or len(index) != len(ids):
            index.update(gone, *self.store.vectors(view, new.tolist()))
        return True

    def _build(self, view: str, metric: str) -> VectorIndex:
        rows, dim = self._rows(), self.store.views[view]
        identity = self._state(view)
        for note in self._notes():  # what was asked for is kept for the end of the next run
            if (note["view"], note["metric"]) == (view, metric) and "asked" in note:
                identity["asked"] = note["asked"]
        try:
            return write_index(self.folder, f"{view}.{metric}", metric, identity, rows, dim, self.store.blocks(view))
        except DiskError as error:
            log.warning("%s The vectors are compared in memory instead.", error)
            return VectorIndex.build(*self.store.vectors(view), metric)

    def _notes(self) -> list[dict[str, Any]]:
        """Return the notes of all indexes on disk that can be read."""
        notes = []
        for file in sorted(self.folder.glob("*.json")):
            try:
                note = read_manifest(self.folder, file.stem)
            except CorruptIndex:
                continue
            if note is not None and {"view", "metric", "kind", "rows", "dim", "ids"} <= note.keys():
                notes.append(note)
        return notes

    def _changes(self, note: dict[str, Any]) -> tuple[int, int]:
        """Return how many rows came and went since an index was built."""
        try:
            built = np.load(self.folder / note["ids"])
        except (OSError, ValueError, EOFError):  # the next search finds that, and builds it anew
            built = np.zeros(0, np.int64)
        ids = self.store.ids()
        return len(np.setdiff1d(ids, built)), len(np.setdiff1d(built, ids))

    def _describe(self, note: dict[str, Any]) -> dict[str, Any]:
        came, gone = self._changes(note)
        recalls = {k: setting["recall"] for k, setting in note.get("settings", {}).items()}
        return {
            **{name: note[name] for name in ("view", "metric", "kind", "rows")},
            "tail": came,
            "gone": gone,
            "asked": note.get("asked"),
            "recall_at_10": recalls.get("10", 1.0),  # without a setting a search is exact
            "recall_at_100": recalls.get("100", 1.0),
            **{name: note.get(name) for name in SHOWN},
        }


def check_metric(metric: str) -> None:
    """Refuse an unknown metric."""
    if metric not in METRICS:
        raise UsageError(f"Unknown metric {metric!r}. Metrics: {', '.join(METRICS)}.")
