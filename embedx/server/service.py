"""Service: the collections, the models and the threads of `embedx serve`."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.requests import Request

from embedx.engines.places import parse_place
from embedx.errors import EmbedxError, ModelError, UsageError
from embedx.server.clips import Clips
from embedx.server.errors import ApiError
from embedx.server.exports import Exports
from embedx.server.jobs import Jobs
from embedx.server.metrics import Metrics
from embedx.server.models import Models
from embedx.server.search_batches import SearchBatches
from embedx.server.served import Served, name_collections
from embedx.server.served_engine import AnyServed, ServedEngine
from embedx.server.settings import Settings
from embedx.server.work import WORK, Threads, Work

Answer = TypeVar("Answer")


class Service:
    """What the routes share.

    Args:
        settings: what the user has asked for.
        metrics: where requests are counted.

    Raises:
        UsageError: a folder holds no collection, or two have the same name.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.metrics = metrics
        self.models = Models(metrics, settings.limits, allow_pickle=settings.allow_pickle)
        self.threads = Threads()
        self.clips = Clips()
        self.jobs = Jobs()
        self.exports = Exports()
        self.streams = 0  # of events, at this time
        self.is_ending: Callable[[], bool] = lambda: False
        self._behind = Work()  # what no request waits for
        self.collections: dict[str, AnyServed] = {
            name: Served(name, folder, self.models, settings.model_of(name))
            for name, folder in name_collections(settings.folders).items()
        }
        for url in settings.engines:
            name = parse_place(url).name
            if name in self.collections:
                raise UsageError(f"Two collections have the name {name}. Serve one of them by another service.")
            self.collections[name] = ServedEngine(url, self.models, settings.model_of(name))

        self._batches = {
            name: SearchBatches(served, self.threads, self.limits, metrics)
            for name, served in self.collections.items()
            if isinstance(served, Served)
        }

    def searches(self, served: Served) -> SearchBatches:
        """Return the batches of the searches of a collection."""
        return self._batches[served.name]

    def get(self, name: str) -> Served:
        """Return a collection by its name, for a request that needs its folder.

        Raises:
            ApiError: there is no such collection, or it is in a search engine.
        """
        return with_folder(self.get_any(name))

    def get_any(self, name: str) -> AnyServed:
        """Return a collection by its name; it can also be in a search engine.

        Raises:
            ApiError: there is no such collection.
        """
        if name not in self.collections:
            raise ApiError(404, "no_collection", "There is no collection of this name.", "See /v1/collections.")
        return self.collections[name]

    def get_by_model(self, model: str) -> AnyServed:
        """Return a collection by its name, or by the name of its model.

        Raises:
            ApiError: there is no such collection, and no collection with such a model.
        """
        if model in self.collections:
            return self.collections[model]
        for served in self.collections.values():
            try:
                with served.use() as collection:
                    if model in (collection.recipe.model, collection.recipe.extractor):
                        return served
            except ApiError:
                continue  # another collection may have this model
        raise ApiError(404, "no_model", "There is no model of this name.", "See /v1/models.")

    async def run(self, function: Callable[[], Answer], *, audio: bool = False) -> Answer:
        """Run a function in a thread; see `Threads.run`."""
        return await self.threads.run(function, audio=audio)

    def facts(self, served: AnyServed, *, wait: bool = False) -> dict[str, Any]:
        """Return the facts about a collection; see `Served.facts`. What is not counted is counted beside the requests.

        Raises:
            ApiError: it cannot be read.
        """
        facts = served.facts(wait=wait)
        if not facts["counted"]:
            self._begin(served.prepare)
        return facts | {"writable": self.is_writable(served)}

    def describe(self, served: AnyServed, *, wait: bool = False) -> dict[str, Any]:
        """Return the facts about a collection; of one that cannot be read only its name and status."""
        try:
            return self.facts(served, wait=wait)
        except ApiError as error:
            if error.status != 503:
                raise
            return {"name": served.name, "status": "unavailable"}

    def is_writable(self, served: AnyServed) -> bool:
        """Tell whether clients can set labels in a collection."""
        return self.settings.allow_labels and isinstance(served, Served)

    def damaged(self) -> list[str]:
        """Return the names of the collections that cannot be read."""
        names = []
        for name, served in self.collections.items():
            try:
                with served.use():
                    pass
            except ApiError:
                names.append(name)
        return names

    def measure(self) -> None:
        """Set the gauges of all collections."""
        for name, served in self.collections.items():
            try:
                with served.use() as collection:
                    self.metrics.rows.labels(name).set(len(collection))
                    self.metrics.generation.labels(name).set(collection.store.generation)
                    self.metrics.available.labels(name).set(1)
            except ApiError:
                self.metrics.available.labels(name).set(0)

    def preload(self) -> None:
        """Load the models of all collections that can be read.

        Raises:
            ModelError: a model cannot be loaded.
        """
        for served in self.collections.values():
            problem: EmbedxError | None = None
            try:
                with served.use() as collection:
                    if collection.recipe.extractor != "imported":
                        try:
                            collection._load_embedder()
                        except EmbedxError as error:
                            problem = error
            except ApiError:
                continue  # the log and /readyz name it
            if problem is not None:
                raise ModelError(f"The model of {served.name} cannot be loaded: {problem}") from problem

    def warm_up(self) -> None:
        """Begin to check the rows of all collections, in one thread."""

        def check() -> None:
            for served in self.collections.values():
                if not self._behind.is_cancelled:
                    served.prepare()

        self._begin(check)

    def _begin(self, action: Callable[[], None]) -> None:
        """Begin an action in a thread, beside the requests; the end of the service cancels it."""

        def run() -> None:
            WORK.set(self._behind)
            action()

        with contextlib.suppress(RuntimeError):  # the service ends
            self.threads.light.submit(run)

    def close(self) -> None:
        """End the threads, and close the collections."""
        self._behind.cancel()
        self.threads.close()
        self.models.close()
        self.jobs.close()
        for served in self.collections.values():
            served.close()


def with_folder(served: AnyServed) -> Served:
    """Return a collection that has a folder.

    Raises:
        ApiError: it is in a search engine.
    """
    if isinstance(served, Served):
        return served
    raise ApiError(
        409,
        "no_folder",
        f"The collection {served.name} is in a search engine, which holds neither audio nor labels that can be set, "
        "heads or maps.",
        "Search, rows and embeddings work. For the rest serve the folder of the collection.",
    )


def service_of(request: Request) -> Service:
    """Return the service that a request is sent to."""
    service: Service = request.app.state.service
    return service
