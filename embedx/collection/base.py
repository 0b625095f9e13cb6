"""CollectionBase: the open store, indexes and model of a collection; the mixins of `Collection` build on it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from embedx.datasets.sources import source_root
from embedx.index.manager import IndexManager
from embedx.recipe import Recipe, check_view
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder


class CollectionBase:
    """What every part of `Collection` needs: the folder, its store and indexes, and the model.

    Args:
        folder: the folder of the collection.
        model: the model, if it is not where the recipe says; see `embedx.open`.
        allow_pickle: read weights from a pickle file.

    Raises:
        UsageError: there is no collection in the folder.
        StoreError: the store is damaged, or a newer embedx made it.
    """

    def __init__(self, folder: str | os.PathLike[str], *, model: str | None = None, allow_pickle: bool = False) -> None:
        self.folder = Path(folder)
        self.model = model
        self.allow_pickle = allow_pickle
        self.store = Store(self.folder)
        self.indexes = IndexManager(lambda: self.store)
        self._embedder: Embedder | None = None

    def __len__(self) -> int:
        return self.store.count()

    @property
    def recipe(self) -> Recipe:
        """The recipe of the vectors: model, layers, pooling, windows."""
        return self.store.recipe

    @property
    def views(self) -> dict[str, int]:
        """Name -> dimension of every stored view."""
        return self.store.views

    @property
    def root(self) -> str | None:
        """The folder that holds all sources; tables show paths relative to it. None if there is none."""
        return source_root(self.store)

    def _resolve_view(self, view: str | None) -> str:
        """Return the name of a view, the default view for None; refuse an unknown one."""
        view = self.recipe.default_view if view is None else view
        check_view(view, self.views)
        return view

    def _select_ids(self, where: str | None, timeout: float) -> list[int] | None:
        """Return the ids of the rows that meet a condition; None (all rows) without a condition."""
        return None if where is None else self.store.filter(where, timeout).tolist()

    def _load_embedder(self) -> "Embedder":
        """Load the model of the recipe, once."""
        if self._embedder is None:
            from embedx.embedding.embedder import Embedder

            self._embedder = Embedder.from_recipe(self.recipe, model=self.model, allow_pickle=self.allow_pickle)
        return self._embedder
