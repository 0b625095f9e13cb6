"""Selection: the rows and views that are to be exported, read from the store in bounded pieces."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedx.errors import LockedError
from embedx.formats.columns import finite, kind_of, widest
from embedx.recipe import Recipe, view_name
from embedx.store.records import Row
from embedx.store.store import Store

PIECE_BYTES = 32 * 2**20  # of vectors in memory at a time
PIECE_ROWS = 8192  # more make no format faster

Matrices = Mapping[str, NDArray[np.float32]]  # view -> vectors [N, D]


@dataclass(frozen=True)
class Selection:
    """Rows by their ids, ascending, and views with their dimensions; to be read inside of `store.snapshot()`."""

    store: Store
    ids: NDArray[np.int64]
    views: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the views that are selected: all of the collection's, or one of them."""
        recipe = self.store.recipe
        if set(self.views) == set(recipe.views):
            return recipe
        chosen = {view_name(layer, pooling): (layer, pooling) for layer in recipe.layers for pooling in recipe.poolings}
        ((layer, pooling),) = (chosen[view] for view in self.views)
        return replace(recipe, layers=(layer,), poolings=(pooling,))

    def kinds(self) -> dict[str, str]:
        """Return the names of the metadata in the order of their appearance, and the kind that holds each."""
        found: dict[str, set[str]] = {}
        for ids in self._pieces():
            for row in self._rows(ids):
                for name, value in row.meta.items():
                    found.setdefault(name, set()).add(kind_of(finite(value)))
        return {name: widest(kinds) for name, kinds in found.items()}

    def read(self) -> Iterator[tuple[list[Row], Matrices]]:
        """Yield the rows with their vectors, piece by piece."""
        for ids in self._pieces():
            matrices = {}
            for view in self.views:
                numbers, matrices[view] = self.store.vectors(view, ids.tolist())
                self._require(np.array_equal(numbers, ids))
            yield self._rows(ids), matrices

    def _pieces(self) -> Iterator[NDArray[np.int64]]:
        width = 4 * sum(self.views.values())
        step = max(1, min(PIECE_ROWS, PIECE_BYTES // width))
        for start in range(0, len(self.ids), step):
            yield self.ids[start : start + step]

    def _rows(self, ids: NDArray[np.int64]) -> list[Row]:
        rows = self.store.rows(ids.tolist())
        self._require([row.id for row in rows] == ids.tolist())
        return rows

    def _require(self, same: bool) -> None:
        """Refuse to go on where the filter, which has a connection of its own, saw another state of the store."""
        if not same:
            raise LockedError(f"{self.store.folder} was written while it was read. Do it again.")
