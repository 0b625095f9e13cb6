"""Collection: an open collection, with the commands of the command line as methods."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedx.collection.base import from_one_state
from embedx.collection.maintenance_mixin import MaintenanceMixin
from embedx.collection.search_mixin import SearchMixin
from embedx.collection.training_mixin import TrainingMixin
from embedx.store.filters import TIMEOUT_S
from embedx.store.frames import frame_of
from embedx.store.records import Recording

if TYPE_CHECKING:
    import pandas as pd


class Collection(SearchMixin, TrainingMixin, MaintenanceMixin):
    """Stored vectors with their metadata; `embedx.open("indexes/NAME")` opens one.

    `len()` is the number of rows. Every method answers from the state that is committed when it is called, also while
    another process extracts into the collection. Any number of threads can use a collection; a forked process opens it
    again, and a pickle holds its path. Use it in a `with` block, or call `close`.

    Args:
        folder: the folder of the collection.
        model: the model for audio and text queries, if it is not where the recipe says; see `embedx.open`.
        allow_pickle: read weights from a pickle file, which can run code.

    Raises:
        UsageError: there is no collection in the folder.
        StoreError: the collection is damaged, or a newer embedx made it.
    """

    def __repr__(self) -> str:
        return f"<Collection {self.folder}: {len(self)} rows by {self.recipe.extractor}>"

    def __enter__(self) -> "Collection":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files of the collection."""
        self._stores.close()

    @from_one_state
    def rows(self, where: str | None = None, *, timeout: float = TIMEOUT_S) -> "pd.DataFrame":
        """Return the rows as a pandas data frame.

        Args:
            where: an SQL condition on the rows, such as "label = 'dog'"; default: all rows.
            timeout: seconds that the condition can take; default 30.

        Returns:
            A data frame with the columns path, start_s, end_s, duration_s, label, group, split, flags and all metadata.
            Its index is the row id, ascending.

        Raises:
            UsageError: the condition is invalid.
        """
        return frame_of(self.store.rows(self._select_ids(where, timeout)))

    @from_one_state
    def vectors(
        self, view: str | None = None, where: str | None = None, *, timeout: float = TIMEOUT_S
    ) -> NDArray[np.float32]:
        """Return vectors [N, D] as float32, in the order of `rows(where)`.

        Args:
            view: the view; default: last layer, first pooling.
            where: an SQL condition on the rows; default: all rows.
            timeout: seconds that the condition can take; default 30.

        Raises:
            UsageError: there is no such view, or the condition is invalid.
            StoreError: a vector is damaged; the message names its row.
        """
        ids = self._select_ids(where, timeout)
        return self.store.vectors(self._resolve_view(view), ids)[1]

    def failures(self) -> list[Recording]:
        """Return the recordings that could not be embedded, each with `reason` and `detail`."""
        return [recording for recording in self.store.recordings().values() if recording.reason]
