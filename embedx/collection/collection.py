"""Collection: an open collection, with the commands of the command line as methods."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedx.collection.maintenance_mixin import MaintenanceMixin
from embedx.collection.search_mixin import SearchMixin
from embedx.collection.searching import from_one_state
from embedx.collection.training_mixin import TrainingMixin
from embedx.store.filters import TIMEOUT_S
from embedx.store.frames import MAX_ID, check_ids, frame_of, in_order
from embedx.store.records import Recording, Row

if TYPE_CHECKING:
    import pandas as pd


class Collection(SearchMixin, TrainingMixin, MaintenanceMixin):
    """Stored vectors with their metadata; `embedx.open("indexes/NAME")` opens one.

    `len()` is the number of rows, and `collection[17]` the row with the id 17. Every method answers from the state that
    is committed when it is called, also while another process extracts into the collection. Any number of threads can
    use a collection; a forked process opens it again, and a pickle holds its path. Use it in a `with` block, or call
    `close`.

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

    def __getitem__(self, id: int) -> Row:
        """Return the row of an id, which is not its place: path, start_s, end_s, label, group, split, flags, meta.

        Raises:
            NoSuchRow: there is no such row; it is a KeyError too.
            UsageError: it is not a whole number.
        """
        return self._rows_of([id])[0]

    def __contains__(self, id: object) -> bool:
        return isinstance(id, (int, np.integer)) and abs(int(id)) <= MAX_ID and bool(self.store.rows([int(id)]))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.store.rows())

    def _rows_of(self, ids: Iterable[int], where: str | None = None) -> list[Row]:
        """Return the rows of ids, in their order."""
        numbers = check_ids(ids, where)
        return in_order(self.store.rows(sorted(set(numbers))), numbers, self.folder)

    @from_one_state
    def rows(
        self,
        where: str | None = None,
        *,
        columns: str | Sequence[str] | None = None,
        ids: Iterable[int] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> "pd.DataFrame":
        """Return the rows as a pandas data frame.

        Args:
            where: an SQL condition on the rows, such as "label = 'dog'"; default: all rows.
            columns: the columns to return; default: all.
            ids: instead of a condition, the ids of the rows, in the order that is wanted.
            timeout: seconds that the condition can take; default 30.

        Returns:
            A data frame with the columns path, start_s, end_s, duration_s, label, group, split, flags and all metadata.
            Its index is the row id, ascending, or in the order of `ids`.

        Raises:
            UsageError: the condition is invalid, there is no such column, or ids and a condition are given.
            NoSuchRow: there is no row of an id.
        """
        rows: Iterable[Row] = self._rows_of(ids, where) if ids is not None else self.store.each_row()
        if ids is None and where is not None:
            rows = self.store.rows(self._select_ids(where, timeout))
        return frame_of(rows, columns, lambda: self.store.columns)

    @from_one_state
    def vectors(
        self,
        view: str | None = None,
        where: str | None = None,
        *,
        ids: Iterable[int] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> NDArray[np.float32]:
        """Return vectors [N, D] as float32, in the order of `rows(where)`.

        Args:
            view: the view; default: last layer, first pooling.
            where: an SQL condition on the rows; default: all rows.
            ids: instead of a condition, the ids of the rows, in the order that is wanted.
            timeout: seconds that the condition can take; default 30.

        Raises:
            UsageError: there is no such view, or the condition is invalid.
            StoreError: a vector is damaged; the message names its row.
        """
        if ids is not None:
            numbers = [row.id for row in self._rows_of(ids, where)]
            found, vectors = self.store.vectors(self._resolve_view(view), sorted(set(numbers)))
            return vectors[np.searchsorted(found, numbers)]
        return self.store.vectors(self._resolve_view(view), self._select_ids(where, timeout))[1]

    def failures(self) -> list[Recording]:
        """Return the recordings that could not be embedded, each with `reason` and `detail`."""
        return [recording for recording in self.store.each_recording() if recording.reason]
