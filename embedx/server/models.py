"""Models: the models of the service. Each is loaded when a request first needs it, and all run in one thread.

This module loads torch only when a model is needed.
"""

import threading
from typing import TYPE_CHECKING

from embedx.server.metrics import Metrics
from embedx.server.model_queue import ModelQueue
from embedx.server.settings import Limits

if TYPE_CHECKING:
    from embedx.recipe import Recipe
    from embedx.server.batched_embedder import BatchedEmbedder


class Models:
    """The embedders of the service by their recipes; collections with the same recipe share one."""

    def __init__(self, metrics: Metrics, limits: Limits) -> None:
        self.metrics = metrics
        self.limits = limits
        self._queue: ModelQueue | None = None
        self._loaded: dict[Recipe, BatchedEmbedder] = {}
        self._lock = threading.Lock()
        metrics.models.set_function(lambda: len(self._loaded))

    def is_loaded(self, recipe: "Recipe") -> bool:
        """Tell whether the model of a recipe is in memory."""
        return recipe in self._loaded

    def embedder(self, recipe: "Recipe") -> "BatchedEmbedder":
        """Return the embedder of a recipe; load its model at the first call.

        Raises:
            ModelError: the model cannot be loaded.
        """
        with self._lock:
            if recipe not in self._loaded:
                from embedx.server.batched_embedder import BatchedEmbedder

                self._queue = self._queue or ModelQueue(self.metrics)
                embedder = BatchedEmbedder.from_recipe(recipe)
                embedder.serve(self._queue, self.limits.audio_s)
                self._loaded[recipe] = embedder
            return self._loaded[recipe]
