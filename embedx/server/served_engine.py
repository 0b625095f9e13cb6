"""Served engines: collections in search engines, with what needs no store: search, rows, filters and embeddings."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from embedx.engines.collection import EngineCollection
from embedx.engines.places import parse_place
from embedx.errors import DiskError, EmbedxError
from embedx.server.answers import state_of
from embedx.server.errors import ApiError, api_error, unavailable
from embedx.server.served import Served, ServedCollection
from embedx.server.work import LIGHT_THREADS

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder
    from embedx.server.models import Models

log = logging.getLogger("embedx.server")


class ServedEngineCollection(EngineCollection):
    """A collection in a search engine whose audio and text queries use the one model of the service."""

    def __init__(self, url: str, models: "Models", model: str | None = None) -> None:
        self.models = models
        super().__init__(url, model=model, allow_pickle=models.allow_pickle)

    def _load_embedder(self) -> "Embedder":
        """Return the embedder of the recipe, which batches the requests of all clients."""
        return self.models.embedder(self.recipe, self.model)

    def next_ids(self, where: str | None, after: int, count: int, timeout: float) -> list[int]:
        """Return the next larger ids of the rows that meet a condition; the engine has a limit of time of its own."""
        return self.store.next_ids(after, count, where)

    def existing(self, ids: Sequence[int]) -> list[int]:
        """Return ids, ascending; the engine leaves out those that no row has."""
        return sorted(set(ids))


class ServedEngine:
    """A collection in a search engine by its name; see `Served`. A request has a connection of its own, which is kept.

    Args:
        url: the place in the engine.
        models: the models of the service.
        model: the model, if it is not where the recipe says.

    Raises:
        UsageError: nothing was pushed there, or a package is missing.
        DiskError: the engine cannot be reached.
    """

    def __init__(self, url: str, models: "Models", model: str | None = None) -> None:
        place = parse_place(url)
        self.url, self.models, self.model = url, models, model
        self.name = place.name
        self.private: Sequence[str] = [str(place)]
        self._free = [ServedEngineCollection(url, models, model)]
        self._places = threading.BoundedSemaphore(LIGHT_THREADS if place.host else 1)  # a folder has one user

    @contextlib.contextmanager
    def use(self) -> Iterator[ServedEngineCollection]:
        """Open the collection for a request.

        Raises:
            ApiError: the engine cannot be reached, or the request is invalid.
        """
        with self._places:
            try:
                collection = self._take()
            except EmbedxError as error:
                raise self._unavailable(error) from error
            try:
                yield collection
            except DiskError as error:
                raise self._unavailable(error) from error
            except EmbedxError as error:
                raise api_error(error, self.name, self.private) from error
            finally:
                self._free.append(collection)

    def _take(self) -> ServedEngineCollection:
        """Return a connection that works; those that the engine has closed are replaced."""
        while True:
            try:
                collection = self._free.pop()
            except IndexError:  # all are in use; another thread may have taken the last one
                return ServedEngineCollection(self.url, self.models, self.model)
            try:
                collection.refresh()
                return collection
            except EmbedxError:
                collection.close()

    def _unavailable(self, error: Exception) -> ApiError:
        """Log why the collection cannot be read, and return the error for the client."""
        log.error("The collection %s cannot be read: %s", self.name, error)
        return unavailable(self.name)

    def facts(self, *, wait: bool = False) -> dict[str, Any]:
        """Return what the collection holds; there are no values to wait for."""
        with self.use() as collection:
            kinds = dict.fromkeys(("label", "group", "split"), "text") | collection.store.columns
            return {
                "name": self.name,
                "status": "ok",
                "rows": len(collection),
                "recordings": collection.description.recordings,
                "hours": round(collection.description.hours, 4),
                "columns": [{"name": name, "kind": kind} for name, kind in kinds.items()],
                "counted": True,
                "views": [{"name": view, "dim": dim} for view, dim in collection.views.items()],
                "default_view": collection.default_view,
                "heads": [],
                "maps": [],
                **state_of(collection),
            }

    def prepare(self) -> None:
        """Do nothing: the engine needs no check before the first filter."""

    def close(self) -> None:
        """Close the connections that no request uses."""
        while self._free:
            self._free.pop().close()


AnyServed = Served | ServedEngine
AnyCollection = ServedCollection | ServedEngineCollection
