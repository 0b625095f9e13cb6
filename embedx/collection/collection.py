"""Collection: a folder under indexes/, opened. The words of the command line as methods."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedx.collection.maintenance_mixin import MaintenanceMixin
from embedx.collection.search_mixin import SearchMixin
from embedx.collection.training_mixin import TrainingMixin
from embedx.store.records import Recording

if TYPE_CHECKING:
    import pandas as pd


class Collection(SearchMixin, TrainingMixin, MaintenanceMixin):
    """Stored vectors with their metadata, as `embedx.open("indexes/NAME")` returns it.

    It reads what is committed at the time, also while another process extracts. `len()` is the number of rows.

    Raises:
        UsageError: there is no collection in the folder.
        StoreError: it is damaged, or made by a newer embedx.
    """

    def __repr__(self) -> str:
        return f"<Collection {self.folder}: {len(self)} rows by {self.recipe.extractor}>"

    def __enter__(self) -> "Collection":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self.store.close()

    def rows(self, where: str | None = None) -> "pd.DataFrame":
        """Return the rows as a pandas frame whose index is the row id, ascending.

        Columns: path, start_s, end_s, duration_s, label, group, split, flags, then the metadata under its own names.

        Raises:
            UsageError: the condition is wrong; see `search`.
        """
        import pandas as pd

        rows = self.store.rows(self._select_ids(where))
        names = list(dict.fromkeys(name for row in rows for name in row.meta))
        columns: dict[str, Any] = {
            "path": pd.Series([row.path for row in rows], dtype=object),  # some names are no UTF-8
            "start_s": np.array([row.start_s for row in rows], float),
            "end_s": np.array([row.end_s for row in rows], float),
            "duration_s": np.array([row.end_s - row.start_s for row in rows], float),
            **{name: [getattr(row, name) for row in rows] for name in ("label", "group", "split")},
            "flags": [",".join(row.flags) for row in rows],
            **{name: [row.meta.get(name) for row in rows] for name in names},
        }
        return pd.DataFrame(columns).set_index(pd.Index([row.id for row in rows], dtype="int64", name="id"))

    def vectors(self, view: str | None = None, where: str | None = None) -> NDArray[np.float32]:
        """Return the vectors [N, D] of a view, float32, in the order of `rows(where)`.

        Raises:
            UsageError: there is no such view.
            StoreError: a vector is damaged; the message names its row.
        """
        ids = self._select_ids(where)
        return self.store.vectors(self._resolve_view(view), ids)[1]

    def failures(self) -> list[Recording]:
        """Return the recordings that could not be embedded, each with its reason and a detail."""
        return [recording for recording in self.store.recordings().values() if recording.reason]
