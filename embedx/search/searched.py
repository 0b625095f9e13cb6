"""What a search needs of the rows and of the indexes: those of one collection have it, and those of several."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from embedx.index.matrix import Floats, Ids
from embedx.store.records import Row

Answer = TypeVar("Answer")


class QueryRows(Protocol):
    """What queries need of the stored rows."""

    @property
    def folder(self) -> str | Path:
        """The place of the collection, for messages."""

    @property
    def views(self) -> dict[str, int]:
        """Name and dimension of every view."""

    def vectors(self, view: str, ids: Sequence[int] | None = None) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and vectors [N, D] of a view; ids that do not exist are left out."""

    def paths_of(self, content_hash: str) -> list[str]:
        """Return the paths of the recordings with this content."""

    def rows(self, ids: Sequence[int] | None = None, paths: Iterable[str] | None = None) -> list[Row]:
        """Return the rows of some recordings."""


class SearchedRows(QueryRows, Protocol):
    """What a search needs of the stored rows: a store, or `SeveralStores`."""

    @property
    def generation(self) -> int | None:
        """The state of the rows: a number that grows with every change."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Metadata column -> "number" or "text"."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Return a context in which all methods answer from one state."""

    def filter(self, where: str, timeout: float) -> Ids:
        """Return the ids of the rows that meet a condition, ascending."""


class RankingIndex(Protocol):
    """What `rank_queries` needs of an index."""

    def search(
        self, queries: Floats, k: int, *, include_ids: Ids | None = None, exact: bool = False, spare: int = 0
    ) -> tuple[Floats, Ids]:
        """Return scores [Q, K] and ids [Q, K], best first; see `VectorIndex.search`."""


class SearchedIndex(Protocol):
    """What a search needs of an index: a `VectorIndex`, or `SeveralIndexes`."""

    metric: str

    def __len__(self) -> int: ...

    @property
    def ids(self) -> Ids:
        """The ids [N] of all rows, ascending."""

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        include_ids: Ids | None = None,
        exclude_ids: Ids | None = None,
        exact: bool = False,
        spare: int = 0,
    ) -> tuple[Floats, Ids]:
        """Return scores [Q, K] and ids [Q, K], best first; see `VectorIndex.search`."""

    def scores(
        self, queries: Floats, *, include_ids: Ids | None = None, exclude_ids: Ids | None = None
    ) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and exact scores [Q, N] of all rows; see `VectorIndex.scores`."""

    def vectors(self, ids: Ids) -> Floats:
        """Return the vectors [N, D] of rows in the given order, as the metric compares them."""


class Indexes(Protocol):
    """The indexes of a collection, or of several."""

    def ask(self, view: str, metric: str, query: Callable[[SearchedIndex], Answer]) -> Answer:
        """Run a query on the index of a view."""
