"""IndexManager: a view of a store -> an index of exactly the rows that are in the store now.

An index on disk is used as far as possible: rows that came or were deleted after the build are handled one by one. An
index that is damaged, too old or of another store is built again; the store is always right.

An approximate index takes long to build, so a search never replaces it. `build` does, and `refresh` at the end of a
run, with the options of the first build.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from embedx.errors import DiskError, UsageError
from embedx.index.builder import IndexBuilder, write_index
from embedx.index.exact import check_metric
from embedx.index.kinds import MIN_ROWS, pick_kind, read_size
from embedx.index.manifest import read_manifest
from embedx.index.matrix import CorruptIndex, Ids
from embedx.index.vector_index import VectorIndex
from embedx.recipe import check_view
from embedx.store.store import Store

Answer = TypeVar("Answer")
log = logging.getLogger("embedx")

FOLDER = "index"
MAX_CHANGED_ROWS, MAX_CHANGED_SHARE = 2000, 0.1  # changes since the build beyond which a new build pays
ATTEMPTS = 3  # to answer a question from files that other processes replace meanwhile
DEFAULT_RECALL = 0.99
REQUIRED = frozenset(("view", "metric", "kind", "rows", "dim", "ids"))  # entries that every usable manifest has
MEASURED = ("p50_ms", "p99_ms", "per_s", "memory_bytes", "build_s", "built")  # shown as the manifest has them


class IndexManager:
    """The indexes of a collection; each is opened when it is first needed, and follows the store.

    Any number of threads can use it.

    Args:
        folder: the folder of the collection.
        get_store: returns the store of the collection for this thread.
    """

    def __init__(self, folder: Path, get_store: Callable[[], Store]) -> None:
        self._get_store = get_store
        self.folder = folder / FOLDER
        self._open: dict[tuple[str, str], tuple[int, VectorIndex]] = {}  # (view, metric) -> its generation, index
        self._lock = threading.RLock()  # of the thread that opens, builds or updates an index

    @property
    def store(self) -> Store:
        """The store of the collection for this thread."""
        return self._get_store()

    def get(self, view: str, metric: str = "cosine", *, compact: bool = False) -> VectorIndex:
        """Return the index of a view for the rows as they are now.

        Args:
            view: the view.
            metric: "cosine", "ip" or "l2".
            compact: build a flat index again if any row has changed.

        Raises:
            UsageError: there is no such view or metric.
            NothingToDo: the collection is empty.
            StoreError: a vector in the store is damaged.
        """
        self._check(view, metric)
        with self.store.snapshot(), self._lock:
            generation = self.store.generation
            index = self._current(view, metric, generation, compact) or self._build_flat(view, metric)
            if generation >= self._open.get((view, metric), (0, index))[0]:  # another thread can know a newer state
                self._open[view, metric] = generation, index
        return index

    def build(
        self,
        view: str,
        metric: str = "cosine",
        *,
        kind: str = "auto",
        recall: float = DEFAULT_RECALL,
        max_memory: str | int | None = None,
    ) -> VectorIndex:
        """Build the index of a view; the old index is used until the new one is complete.

        No lock is taken: rows that come during the build are compared one by one.

        Args:
            view: the view.
            metric: "cosine", "ip" or "l2".
            kind: a kind of index, or "auto"; see `Collection.build_index`.
            recall: the recall to reach, above 0 and up to 1.
            max_memory: the memory limit in bytes, or as a size such as "4GB"; None for no limit.

        Raises:
            UsageError: there is no such view, metric or kind, or the kind does not fit into the memory limit.
            NothingToDo: the collection is empty.
            StoreError: a vector in the store is damaged.
            DiskError: the disk is full or cannot be written.
        """
        self._check(view, metric)
        if not 0 < recall <= 1:
            raise UsageError(f"recall={recall:g} is not allowed: give a share above 0 and at most 1, such as 0.99.")
        options = {"kind": kind, "recall": recall, "max_memory": max_memory}
        with IndexBuilder(self.folder, f"{view}.{metric}", metric) as builder:
            with self.store.snapshot():
                rows, dim, generation = self.store.require_rows(), self.store.views[view], self.store.generation
                picked = pick_kind(kind, rows, dim, read_size(max_memory))
                identity = self._identity_now(view) | {"asked": options}
                builder.add_matrix(identity, rows, dim, self.store.blocks(view))
            builder.add_ann_index(picked, recall)
            index = builder.publish()
        self._open[view, metric] = generation, index
        return index

    def refresh(self, view: str) -> None:
        """Bring the index of a view, and every index that `build` made, up to date; called at the end of a run."""
        for manifest in self._manifests():
            if "asked" in manifest and manifest["view"] in self.store.views:
                try:
                    self._refresh_index(manifest, **manifest["asked"])
                except (UsageError, DiskError) as error:  # for example: it has outgrown its --max-memory
                    log.warning("The index of %s is not built again. %s", manifest["view"], error)
        self.get(view, compact=True)

    def _refresh_index(self, manifest: dict[str, Any], kind: str, recall: float, max_memory: str | int | None) -> None:
        """Build an index again, with its first options, if much has changed or it has lost its approximate index."""
        picked = pick_kind(kind, self.store.count(), manifest["dim"], read_size(max_memory))
        changed = sum(self._count_changes(manifest))
        is_lost = manifest["kind"] == "flat" and "remark" not in manifest
        if picked != "flat" and (is_lost or changed > MAX_CHANGED_SHARE * manifest["rows"]):
            log.warning("Building the %s index of %s again: %d rows changed.", picked, manifest["view"], changed)
            self.build(manifest["view"], manifest["metric"], kind=kind, recall=recall, max_memory=max_memory)

    def renew(self, name: str) -> None:
        """Delete an index that cannot be used, by its name, and build it again if `build` had made it."""
        view, _, metric = name.rpartition(".")
        options = [
            manifest["asked"]
            for manifest in self._manifests()
            if name == f"{manifest['view']}.{manifest['metric']}" and "asked" in manifest
        ]
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        self._open.pop((view, metric), None)
        if options and view in self.store.views:
            self.build(view, metric, **options[0])

    def describe(self) -> list[dict[str, Any]]:
        """Return the facts about every index on disk, from its manifest. Nothing is opened."""
        return [self._describe(manifest) for manifest in self._manifests()]

    def describe_one(self, view: str, metric: str) -> dict[str, Any]:
        """Return the facts about one index on disk."""
        return next(facts for facts in self.describe() if (facts["view"], facts["metric"]) == (view, metric))

    def ask(self, view: str, metric: str, query: Callable[[VectorIndex], Answer]) -> Answer:
        """Run a query on the index of a view; if the index turns out to be damaged, build it and run it again.

        Args:
            view: the view.
            metric: "cosine", "ip" or "l2".
            query: a function of the index.

        Returns:
            What the function returns.
        """
        for _ in range(ATTEMPTS):
            index = self.get(view, metric)
            try:
                answer = query(index)
                if index.has_same_files():
                    return answer
            except CorruptIndex as error:
                log.warning("The index of %s is damaged (%s). Building it again.", view, error)
                with self.store.snapshot(), self._lock:
                    self._open[view, metric] = self.store.generation, self._build_flat(view, metric)
        with self.store.snapshot():
            return query(self._build_in_memory(view, metric))

    def identity(self, view: str) -> dict[str, Any]:
        """Return the entries that the manifest of an index of this collection has."""
        return {"view": view, "fingerprint": self.store.recipe.fingerprint}

    def _check(self, view: str, metric: str) -> None:
        """Refuse an unknown view or metric."""
        check_metric(metric)
        check_view(view, self.store.views)

    def _identity_now(self, view: str) -> dict[str, Any]:
        """Return the entries that the manifest of an index of the store as it is now has."""
        generation = self.store.generation
        return self.identity(view) | {"generation": generation, "token": self.store.token(generation)}

    def _current(self, view: str, metric: str, generation: int, compact: bool) -> VectorIndex | None:
        """Return the index in memory, or else the one on disk, brought up to date; None if neither can be used."""
        known, index = self._open.get((view, metric), (0, None))
        if index is not None and not index.has_same_files():
            self._open.pop((view, metric))
        elif index is not None and known >= self.store.rewritten:
            current = index if known == generation else self._catch_up(index, view, compact)
            if current is not None:
                return current
        loaded = self._load(view, metric, generation)
        if loaded is None or loaded.manifest["generation"] == generation:
            return loaded
        return self._catch_up(loaded, view, compact)

    def _load(self, view: str, metric: str, generation: int) -> VectorIndex | None:
        """Open the index on disk; None if there is none, or if it cannot be used for this store.

        An index that another process has just built for a newer state is not replaced.
        """
        try:
            index = VectorIndex.load(self.folder, f"{view}.{metric}", metric, self.identity(view))
        except CorruptIndex as error:
            log.warning("The index of %s cannot be used (%s). Building it again.", view, error)
            return None
        if index is None:
            return None
        built = index.manifest["generation"]
        if built > generation:
            return self._build_in_memory(view, metric)
        if index.manifest["token"] != self.store.token(built) or built < self.store.rewritten:
            log.warning("The index of %s is of another state of the store. Building it again.", view)
            return None
        return index

    def _catch_up(self, index: VectorIndex, view: str, compact: bool) -> VectorIndex | None:
        """Return an index with the rows that the store has now; None if a new build is better."""
        ids = self.store.ids()
        deleted = np.setdiff1d(index.matrix.ids, ids, assume_unique=True)
        new: Ids = np.setdiff1d(ids, index.matrix.ids, assume_unique=True)
        changed = len(deleted) + len(new)
        many = changed > max(MAX_CHANGED_ROWS, MAX_CHANGED_SHARE * len(index.matrix))
        if index.manifest["kind"] == "flat" and (many or (compact and changed)):
            return None
        if many:
            log.warning("%d rows of %s changed. `embedx index build` makes searches faster.", changed, view)
        if changed or len(index) != len(ids):
            return index.with_changes(deleted, *self.store.vectors(view, new.tolist()))
        return index

    def _build_flat(self, view: str, metric: str) -> VectorIndex:
        """Build a flat index, on disk if possible, else in memory."""
        rows, dim = self.store.require_rows(), self.store.views[view]
        identity = self._identity_now(view)
        for manifest in self._manifests():  # the options of `build` are kept for the end of the next run
            if (manifest["view"], manifest["metric"]) == (view, metric) and "asked" in manifest:
                identity["asked"] = manifest["asked"]
        try:
            return write_index(self.folder, f"{view}.{metric}", metric, identity, rows, dim, self.store.blocks(view))
        except DiskError as error:
            log.warning("%s The vectors are compared in memory instead.", error)
            return self._build_in_memory(view, metric)

    def _build_in_memory(self, view: str, metric: str) -> VectorIndex:
        """Build a flat index of the rows as they are now, without files."""
        index = VectorIndex.build(*self.store.vectors(view), metric)
        index.manifest["generation"] = self.store.generation
        return index

    def _manifests(self) -> list[dict[str, Any]]:
        """Return the manifests of all indexes on disk that can be read."""
        manifests = []
        for file in sorted(self.folder.glob("*.json")):
            try:
                manifest = read_manifest(self.folder, file.stem)
            except CorruptIndex:
                continue
            if manifest is not None and manifest.keys() >= REQUIRED:
                manifests.append(manifest)
        return manifests

    def _count_changes(self, manifest: dict[str, Any]) -> tuple[int, int]:
        """Return how many rows came, and how many were deleted, since an index was built."""
        try:
            built = np.load(self.folder / manifest["ids"])
        except (OSError, ValueError, EOFError):  # the next search notices it, and builds the index again
            built = np.zeros(0, np.int64)
        ids = self.store.ids()
        return len(np.setdiff1d(ids, built)), len(np.setdiff1d(built, ids))

    def _describe(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Return the facts about an index."""
        pending, deleted = self._count_changes(manifest)
        asked = manifest.get("asked") or {"kind": "auto"}
        is_tiny = manifest["rows"] < MIN_ROWS and asked["kind"] not in ("auto", "flat")
        remark = f"flat instead of {asked['kind']}, since there are fewer than {MIN_ROWS} rows" if is_tiny else None
        recalls = {k: setting.get("recall") for k, setting in manifest.get("settings", {}).items()}
        return {
            **{name: manifest[name] for name in ("view", "metric", "kind", "rows")},
            "tail": pending,
            "gone": deleted,
            "asked": manifest.get("asked"),
            "recall_at_10": recalls.get("10", 1.0),  # a search without a setting is exact
            "recall_at_100": recalls.get("100", 1.0),
            **{name: manifest.get(name) for name in MEASURED},
            "remark": manifest.get("remark", remark),
        }
