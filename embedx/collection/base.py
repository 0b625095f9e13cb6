"""CollectionBase: the open store, indexes and model of a collection; the mixins of `Collection` build on it."""

import os
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedx.collection.searching import Searching
from embedx.datasets.sources import source_root
from embedx.index.manager import IndexManager
from embedx.recipe import Recipe
from embedx.store.store import Store
from embedx.store.thread_stores import ThreadStores

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder


class CollectionBase(Searching):
    """What every part of `Collection` needs: the folder, its store and indexes, and the model.

    Args:
        folder: the folder of the collection.
        model: the model, if it is not where the recipe says; see `embedx.open`.
        allow_pickle: read weights from a pickle file.

    Raises:
        UsageError: there is no collection in the folder.
        StoreError: the store is damaged, or a newer embedx made it.
    """

    indexes: IndexManager

    def __init__(self, folder: str | os.PathLike[str], *, model: str | None = None, allow_pickle: bool = False) -> None:
        self.folder = Path(folder)
        self.model = model
        self.allow_pickle = allow_pickle
        self._embedder: Embedder | None = None
        self._use_own_files()
        self.store  # noqa: B018 -- opens it
        COLLECTIONS.add(self)

    def _use_own_files(self) -> None:
        """Open the files again at the next use: in a new object, or in a process that was forked."""
        self._stores = ThreadStores(self.folder)
        self.indexes = IndexManager(self.folder, self._stores.get)
        self._lock = threading.Lock()  # of the thread that loads the model

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path: the process that reads the pickle opens the collection itself."""
        make = partial(type(self), model=self.model, allow_pickle=self.allow_pickle)
        return make, (os.path.abspath(self.folder),)

    def __len__(self) -> int:
        return self.store.count()

    @property
    def store(self) -> Store:
        """The store, opened for reading by this thread."""
        return self._stores.get()

    @property
    def recipe(self) -> Recipe:
        """The recipe of the vectors: model, layers, pooling, windows."""
        return self.store.recipe

    @property
    def root(self) -> str | None:
        """The folder that holds all sources; tables show paths relative to it. None if there is none."""
        return source_root(self.store)

    def _select_ids(self, where: str | None, timeout: float) -> list[int] | None:
        """Return the ids of the rows that meet a condition; None (all rows) without a condition."""
        return None if where is None else self.store.filter(where, timeout).tolist()

    def _load_embedder(self) -> "Embedder":
        """Load the model of the recipe, once."""
        with self._lock:
            if self._embedder is None:
                from embedx.embedding.embedder import Embedder

                self._embedder = Embedder.from_recipe(self.recipe, model=self.model, allow_pickle=self.allow_pickle)
            return self._embedder


COLLECTIONS: weakref.WeakSet[CollectionBase] = weakref.WeakSet()  # the open ones, which a forked process opens again


def open_again_after_fork() -> None:
    """Give the collections of a process that was just forked files of their own."""
    for collection in list(COLLECTIONS):
        collection._stores.leave_to_parent()
        collection._use_own_files()


os.register_at_fork(after_in_child=open_again_after_fork)
