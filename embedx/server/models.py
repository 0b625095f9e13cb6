"""Models: the models of the service. Each is loaded when a request first needs it, and all run in one queue.

This module loads torch only when a model is needed.
"""

import threading
from typing import TYPE_CHECKING

from embedx.server.metrics import Metrics
from embedx.server.settings import Limits

if TYPE_CHECKING:
    from embedx.recipe import Recipe
    from embedx.server.batched_embedder import BatchedEmbedder
    from embedx.server.model_queue import ModelQueue


class Models:
    """The embedders of the service by their recipes; collections with the same recipe share one."""

    def __init__(self, metrics: Metrics, limits: Limits, *, allow_pickle: bool = False) -> None:
        self.metrics = metrics
        self.allow_pickle = allow_pickle
        self.limits = limits
        self._queue: ModelQueue | None = None
        self._loaded: dict[tuple[Recipe, str | None], BatchedEmbedder] = {}
        self._lock = threading.Lock()
        metrics.models.set_function(lambda: len(self._loaded))

    def is_loaded(self, recipe: "Recipe", model: str | None = None) -> bool:
        """Tell whether the model of a recipe is in memory."""
        return (recipe, model) in self._loaded

    def embedder(self, recipe: "Recipe", model: str | None = None) -> "BatchedEmbedder":
        """Return the embedder of a recipe; load its model at the first call.

        Args:
            recipe: the recipe.
            model: the model, if it is not where the recipe says.

        Raises:
            ModelError: the model cannot be loaded.
        """
        key = recipe, model
        with self._lock:
            if key not in self._loaded:
                from embedx.server.batched_embedder import BatchedEmbedder, make_queue

                self._queue = self._queue or make_queue(self.metrics)
                embedder = BatchedEmbedder.from_recipe(recipe, model=model, allow_pickle=self.allow_pickle)
                embedder.serve(self._queue, self.limits)
                self._loaded[key] = embedder
            return self._loaded[key]

    def close(self) -> None:
        """End when all that waits is computed."""
        with self._lock:
            if self._queue is not None:
                self._queue.close()
