"""Selection: the rows and views to export, read from the store in batches of limited size."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedx.errors import LockedError
from embedx.formats.columns import common_kind, kind_of, replace_nonfinite
from embedx.formats.picture_columns import Pictures
from embedx.recipe import Recipe, view_name
from embedx.store.records import Row
from embedx.store.store import Store

MAX_BATCH_BYTES = 32 * 2**20  # vectors in memory at a time
MAX_BATCH_ROWS = 8192  # larger batches make no format faster
NO_PICTURES = Pictures()

Matrices = Mapping[str, NDArray[np.float32]]  # view -> vectors [N, D]


@dataclass(frozen=True)
class Selection:
    """Rows and views to export. Use it inside `store.snapshot()`."""

    store: Store
    ids: NDArray[np.int64]  # [N], ascending
    views: Mapping[str, int]  # view -> dimension
    root: str | None = None  # CSV holds paths relative to this folder
    pictures: Pictures = NO_PICTURES  # columns for tools that show rows; Parquet only

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the selected views: all views of the collection, or one of them."""
        recipe = self.store.recipe
        if set(self.views) == set(recipe.views):
            return recipe
        parts = {view_name(layer, pooling): (layer, pooling) for layer in recipe.layers for pooling in recipe.poolings}
        ((layer, pooling),) = (parts[view] for view in self.views)
        return replace(recipe, layers=(layer,), poolings=(pooling,))

    def kinds(self) -> dict[str, str]:
        """Return name -> kind of the metadata, in the order in which the names first appear."""
        kinds: dict[str, set[str]] = {}
        for ids in self._batches():
            for row in self._rows(ids):
                for name, value in row.meta.items():
                    kinds.setdefault(name, set()).add(kind_of(replace_nonfinite(value)))
        return {name: common_kind(values) for name, values in kinds.items()}

    def rows(self) -> Iterator[Row]:
        """Yield the rows."""
        for ids in self._batches():
            yield from self._rows(ids)

    def read(self) -> Iterator[tuple[list[Row], Matrices]]:
        """Yield the rows and their vectors in batches."""
        for ids in self._batches():
            matrices = {}
            for view in self.views:
                stored_ids, matrices[view] = self.store.vectors(view, ids.tolist())
                self._require_unchanged(np.array_equal(stored_ids, ids))
            yield self._rows(ids), matrices

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        """Yield the ids in batches."""
        row_bytes = 4 * sum(self.views.values())
        step = max(1, min(MAX_BATCH_ROWS, MAX_BATCH_BYTES // row_bytes))
        for start in range(0, len(self.ids), step):
            yield self.ids[start : start + step]

    def _rows(self, ids: NDArray[np.int64]) -> list[Row]:
        """Return the rows with these ids."""
        rows = self.store.rows(ids.tolist())
        self._require_unchanged([row.id for row in rows] == ids.tolist())
        return rows

    def _require_unchanged(self, unchanged: bool) -> None:
        """Raise LockedError if the store changed between the filter, which has its own connection, and this read."""
        if not unchanged:
            raise LockedError(f"Another process changed {self.store.folder} during the export. Run it again.")
