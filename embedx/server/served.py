"""Served collections: opened when they are needed, and again when another process has replaced their files."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from embedx.collection.collection import Collection
from embedx.errors import DiskError, EmbedxError, StoreError, UsageError
from embedx.filesystem.paths import display_path
from embedx.formats.coordinates import Axes, Map, find_axes, make_map, place, read_all
from embedx.heads.storage import load_heads
from embedx.recipe import check_view
from embedx.server.answers import state_of
from embedx.server.blocks import shuffled
from embedx.server.coordinates import Projection, check_method, methods
from embedx.server.errors import ApiError, Cancelled, api_error, unavailable
from embedx.server.label_memory import LabelMemory
from embedx.server.work import WORK, Work, current_work
from embedx.store.reading import LABELS
from embedx.store.schema import FILE_NAME

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder
    from embedx.server.models import Models

log = logging.getLogger("embedx.server")
Answer = TypeVar("Answer")

MAKERS = 16  # things that can be made at the same time; some may share a lock
MAX_VALUES = 50  # different values of a column that its description lists
MAX_ROWS_AT_ONCE = 10_000  # of which a request counts the values: 0.1 s; more are counted beside the requests
MAX_ROWS_OF_MAP = 200_000  # of which a request makes the map, in seconds; the map of more is made in a job
SAMPLE = 16_384  # rows of the map that is shown meanwhile: two blocks


class ServedCollection(Collection):
    """A collection whose audio and text queries use the one model of the service."""

    def __init__(self, folder: Path, models: "Models", model: str | None = None) -> None:
        self.models = models
        super().__init__(folder, model=model, allow_pickle=models.allow_pickle)

    def _load_embedder(self) -> "Embedder":
        """Return the embedder of the recipe, which batches the requests of all clients."""
        return self.models.embedder(self.recipe, self.model)

    @property
    def default_view(self) -> str:
        """The view that is searched by default."""
        return self.recipe.default_view

    def existing(self, ids: Sequence[int]) -> list[int]:
        """Return those ids that rows have, ascending."""
        return self.store.existing(ids)

    def next_ids(self, where: str | None, after: int, count: int, timeout: float) -> list[int]:
        """Return the next larger ids of the rows that meet a condition, which can take `timeout` seconds."""
        if where is None:
            return list(self.store.next_ids(after, count))
        ids: list[int] = self.store.filter(where, timeout, part=(after, count)).tolist()
        return ids


@dataclass
class Opened:
    """An open collection, the identity of its file, and the number of its users."""

    collection: ServedCollection
    identity: tuple[int, int]
    users: int = 0


class Served:
    """A collection by its name. It may be damaged, replaced or absent; others are not affected."""

    def __init__(self, name: str, folder: Path, models: "Models", model: str | None = None) -> None:
        self.name = name
        self.folder = folder
        self.models = models
        self.model = model
        self.private = sorted({str(folder), os.path.abspath(folder), os.path.realpath(folder)})
        self._opened: Opened | None = None
        self._lock = threading.Lock()
        self._preparing = threading.Lock()
        self.labels = LabelMemory()
        self._kept: dict[str, tuple[tuple[Any, ...], Any]] = {}
        self._projection: Projection | None = None
        self._map_work = Work()
        self._is_closed = False
        self._maps: dict[tuple[str, str], tuple[tuple[Any, ...], Map]] = {}
        self._making = [threading.RLock() for _ in range(MAKERS)]

    @contextlib.contextmanager
    def use(self) -> Iterator[ServedCollection]:
        """Open the collection for a request, which sees one state of it.

        Raises:
            ApiError: it cannot be read, or the request is invalid.
        """
        work = current_work()
        with self.lend() as collection, work.interruptible(collection.store.interrupt), collection.snapshot():
            yield collection

    @contextlib.contextmanager
    def lend(self) -> Iterator[ServedCollection]:
        """Open the collection for a change of it.

        Raises:
            ApiError: it cannot be read or written, or the request is invalid.
        """
        try:
            with self._lend() as collection:
                try:
                    collection.store  # noqa: B018 -- opens it in this thread
                except EmbedxError as error:
                    raise self._unavailable(error) from error
                yield collection
        except EmbedxError as error:
            current_work().check()  # SQLite fails with an error when it is interrupted
            if isinstance(error, (StoreError, DiskError)):
                raise self._unavailable(error) from error
            raise api_error(error, self.name, self.private) from error

    def _unavailable(self, error: Exception) -> ApiError:
        """Log why the collection cannot be read, and return the error for the client."""
        log.error("The collection %s cannot be read: %s", self.name, display_path(str(error)))
        return unavailable(self.name)

    @contextlib.contextmanager
    def _lend(self) -> Iterator[ServedCollection]:
        """Lend the open collection; one that was replaced is closed when its last user has finished."""
        with self._lock:
            try:
                opened = self._current()
            except (EmbedxError, OSError) as error:
                raise self._unavailable(error) from error
            opened.users += 1
        try:
            yield opened.collection
        finally:
            with self._lock:
                opened.users -= 1
                if opened is not self._opened and not opened.users:
                    opened.collection.close()

    def _current(self) -> Opened:
        """Return the open collection; open it if it is not, or if its file is another one."""
        file = os.stat(self.folder / FILE_NAME)
        identity = file.st_dev, file.st_ino
        if self._opened is None or self._opened.identity != identity:
            old, self._opened = self._opened, None
            if old is not None and not old.users:
                old.collection.close()
            self._opened = Opened(ServedCollection(self.folder, self.models, self.model), identity)
        return self._opened

    def facts(self, *, wait: bool = False) -> dict[str, Any]:
        """Return what the collection holds. Of many rows the values of the columns may be those of an earlier state.

        Args:
            wait: count the values first, if that is not done for this state; else `counted` says that it is not.
        """
        with self.use() as collection:
            state, rows = state_of(collection), len(collection)
            key = (collection, *state.values())
            if wait or rows <= MAX_ROWS_AT_ONCE:
                self._count_values(collection)
            known_key, values = self._kept.get("values", (None, {}))
            recordings, hours = self.keep("totals", key[:2], collection.store.count_recordings)
            recipe = collection.recipe
            return {
                "name": self.name,
                "status": "ok",
                "rows": rows,
                "recordings": recordings,
                "hours": round(hours, 4),
                "columns": describe_columns(collection, values),
                "counted": known_key == key,
                "views": [{"name": view, "dim": dim} for view, dim in collection.views.items()],
                "default_view": recipe.default_view,
                "heads": head_facts(collection),
                "maps": methods(),
                **state,
            }

    def prepare(self) -> None:
        """Do what takes seconds of many rows, once for every state, unless another thread does.

        Count the values of the columns for `facts`, and compare all rows with their checksums for the first filter.
        """
        if self._preparing.acquire(blocking=False):
            try:
                with contextlib.suppress(ApiError, Cancelled), self.use() as collection:  # a request gets the error
                    self._count_values(collection)
                    collection.store.filter("id < 0")
            finally:
                self._preparing.release()

    def _count_values(self, collection: Collection) -> None:
        """Count the values of the columns, once for every state."""
        key = (collection, *state_of(collection).values())
        self.keep("values", key, lambda: collection.store.distinct(MAX_VALUES))

    def map(self, view: str | None, method: str) -> tuple[Map | None, str, dict[str, int]]:
        """Return the map of a view, the view, and the state that it is of; it is made once for every generation.

        Returns:
            None in place of a map that a job has not made yet: by UMAP, or of many rows.

        Raises:
            ApiError: there is no such view or method.
        """
        check_method(method)
        with self.use() as collection:
            state, view = state_of(collection), view or collection.recipe.default_view
            check_view(view, collection.views)
            key = (collection, state["generation"])
            if method == "pca" and len(collection) <= MAX_ROWS_OF_MAP:
                return self.keep(f"map {view}", key, lambda: make_map(collection.store, view)), view, state
            known = self._maps.get((view, method))
            return known[1] if known is not None and known[0] == key else None, view, state

    def sample(self, view: str) -> tuple[Map, int]:
        """Return the map by PCA of the first rows of the one random order, in this order, and the number of all rows.

        Raises:
            ApiError: the collection cannot be read.
        """
        with self.use() as collection:
            return self._sample(collection, view)[1], len(collection)

    def _sample(self, collection: Collection, view: str) -> tuple[Axes, Map]:
        """Return the axes of a map of many rows, which a sample gives, and the map of the sample."""
        store = collection.store

        def make() -> tuple[Axes, Map]:
            ids = store.ids()
            chosen = ids[shuffled(len(ids))[:SAMPLE]]
            axes = find_axes(store, view, chosen.tolist())
            found = place(store, view, axes, chosen.tolist())
            order = np.searchsorted(found.ids, chosen)
            return axes, Map(chosen, found.places[order], found.explained)

        return self.keep(f"sample {view}", (collection, store.generation), make)

    def make_pca(self, view: str) -> dict[str, Any]:
        """Make the map of a view of many rows by PCA, on the axes of its sample, and keep it; `close` ends it.

        Raises:
            ApiError: it could not be made.
        """
        WORK.set(self._map_work)
        try:
            with self.use() as collection:
                key, (axes, _) = (collection, collection.store.generation), self._sample(collection, view)
                found = place(collection.store, view, axes)
        except Cancelled:
            raise ApiError(503, "map_stopped", "The server ends.", "Try again.") from None
        self._maps[view, "pca"] = key, found
        return {"rows": len(found.ids)}

    def make_umap(self, view: str) -> dict[str, Any]:
        """Make the map of a view by UMAP, and keep it; `close` ends it.

        Raises:
            ApiError: it could not be made.
        """
        with self.use() as collection:
            key, rows = (collection, collection.store.generation), read_all(collection.store, view)
        with self._lock:
            if self._is_closed:
                raise ApiError(503, "umap_stopped", "The server ends.", "Try again.")
            self._projection = projection = Projection()
        try:
            self._maps[view, "umap"] = key, projection.make(*rows)
        finally:
            projection.stop()
        return {"rows": len(rows[0])}

    def keep(self, what: str, key: tuple[Any, ...], make: Callable[[], Answer]) -> Answer:
        """Return what was made for this key before; make it, in place of that for another key, if it was not.

        Other threads that ask for it meanwhile wait.

        Args:
            what: the name of what is made; one is kept of each.
            key: what it depends on, such as the collection and its generation.
            make: makes it.
        """
        known = self._kept.get(what)
        if known is None or known[0] != key:
            with self._making[hash(what) % MAKERS]:
                known = self._kept.get(what)
                if known is None or known[0] != key:
                    known = self._kept[what] = key, make()
        answer: Answer = known[1]
        return answer

    def close(self) -> None:
        """End what makes a map, and close the files; those that a request uses are closed after it."""
        with self._lock:
            self._is_closed = True
            self._map_work.cancel()
            if self._projection is not None:
                self._projection.stop()
            old, self._opened = self._opened, None
            if old is not None and not old.users:
                old.collection.close()


def describe_columns(collection: Collection, values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return name and kind of every column, with its values if there are few."""
    kinds = dict.fromkeys(LABELS, "text") | collection.store.columns
    return [
        {"name": name, "kind": kind} | ({"values": values[name]} if values.get(name) else {})
        for name, kind in kinds.items()
    ]


def head_facts(collection: Collection) -> list[dict[str, Any]]:
    """Return name, kind and classes of every head; an empty list if a head is damaged."""
    try:
        heads = load_heads(collection.folder)
    except StoreError as error:
        log.error("A head cannot be read: %s", display_path(str(error)))
        return []
    return [
        {"name": name, "kind": head.kind, "classes": list(head.classes), "views": list(head.views)}
        for name, head in heads.items()
    ]


def name_collections(folders: Sequence[Path]) -> dict[str, Path]:
    """Return name -> folder; the name of a collection is that of its folder.

    Raises:
        UsageError: a folder holds no collection, or two have the same name.
    """
    named: dict[str, Path] = {}
    for folder in folders:
        name = os.path.basename(os.path.abspath(folder))
        if not (folder / FILE_NAME).is_file():
            raise UsageError(
                f"There is no collection in {display_path(str(folder))} (no {FILE_NAME}). `embedx extract` creates one."
            )
        if not name.isprintable() or not name.isascii() or "/" in name or not name:
            raise UsageError(f"The folder {display_path(name)} cannot be the name of a collection in a URL. Rename it.")
        if name in named:
            raise UsageError(f"Two collections have the name {name}. Rename the folder of one of them.")
        named[name] = Path(os.path.abspath(folder))
    return named
