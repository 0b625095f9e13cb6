"""SearchMixin: the methods of `Collection` that search for vectors and duplicates, and that build the indexes."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedx.collection.base import CollectionBase
from embedx.collection.searching import from_one_state
from embedx.index.manager import DEFAULT_RECALL
from embedx.index.vector_index import VectorIndex
from embedx.search.options import DEFAULT_K, SearchOptions
from embedx.search.queries import read_vectors
from embedx.store.filters import TIMEOUT_S

if TYPE_CHECKING:
    from embedx.search.duplicates import Duplicates


class SearchMixin(CollectionBase):
    """Search a collection, find duplicates in it, and build its indexes."""

    @from_one_state
    def nearest(
        self,
        vectors: Any,
        k: int = DEFAULT_K,
        *,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        view: str | None = None,
        metric: str = "cosine",
        exact: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return scores and row ids of the nearest rows; faster than `search` for many vectors.

        Args:
            vectors: query vectors [Q, D], a vector [D], or a .npy file with either.
            k: the number of rows for each vector.
            where: an SQL condition on the rows; see `search`.
            timeout: seconds that the condition can take; default 30.
            view: the view whose vectors are compared; default: last layer, first pooling.
            metric: "cosine", "ip" or "l2"; see `search`.
            exact: compare all vectors, without an approximate index.

        Returns:
            Scores [Q, K] and row ids [Q, K], best first; K is k, or the number of rows if there are fewer.

        Raises:
            UsageError: as `search`.
            NothingToDo: the collection is empty.
        """
        view = self._resolve_view(view)
        SearchOptions(k=k, metric=metric)  # checks both
        queries = read_vectors(vectors, self.views[view])
        include_ids = self._include_ids(where, timeout)
        return self.indexes.ask(
            view, metric, lambda index: index.search(queries, k, include_ids=include_ids, exact=exact)
        )

    @from_one_state
    def duplicates(
        self,
        *,
        threshold: float = 0.99,
        view: str | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        exact_only: bool = False,
        within: bool = False,
    ) -> "Duplicates":
        """Find rows with the same sound: exact copies, and near ones by the cosine of their vectors.

        Args:
            threshold: minimum cosine of two near-duplicates, above 0 and at most 1. Pairs that share a row
                are one group.
            view: the view whose vectors are compared; default: last layer, first pooling.
            where: an SQL condition on the rows that are compared; see `search`.
            timeout: seconds that the condition can take; default 30.
            exact_only: find only identical files and identical vectors.
            within: compare rows of one recording too, if they do not overlap in time.

        Returns:
            The groups, exact ones first.

        Raises:
            UsageError: the threshold is not allowed; an unknown view; an invalid condition.
            NothingToDo: the collection is empty.
        """
        from embedx.search.duplicates import find_duplicates

        view = self._resolve_view(view)
        options = (self._include_ids(where, timeout), threshold, exact_only, within)
        return self.indexes.ask(view, "cosine", lambda index: find_duplicates(self.store, index, view, *options))

    @from_one_state
    def index(self, view: str | None = None, *, metric: str = "cosine") -> VectorIndex:
        """Return the index of a view for the rows as they are now; it is built if there is no usable one.

        Args:
            view: the view; default: last layer, first pooling.
            metric: "cosine", "ip" or "l2".

        Raises:
            UsageError: there is no such view or metric.
            NothingToDo: the collection is empty.
        """
        return self.indexes.get(self._resolve_view(view), metric)

    def build_index(
        self,
        *,
        kind: str = "auto",
        recall: float = DEFAULT_RECALL,
        max_memory: str | int | None = None,
        view: str | None = None,
        metric: str = "cosine",
    ) -> dict[str, Any]:
        """Build the index of a view and measure it; the old index is used until the new one is complete.

        Args:
            kind: "flat" (exact), "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq" or "ivf-rabitq". "auto" is flat for up to
                150 million values (40 ms per query), and ivf-rabitq for more.
            recall: the share of the true nearest 10 (and 100) rows that a search must find, above 0 and at most 1. The
                scores are exact. If no setting reaches the recall, searches compare all vectors.
            max_memory: the memory limit of the index, in bytes or as a size such as "4GB".
            view: the view; default: last layer, first pooling.
            metric: "cosine", "ip" or "l2".

        Returns:
            Kind, number of rows, recall, speed and size of the index.

        Raises:
            UsageError: an invalid argument, or the kind does not fit into the memory limit.
            NothingToDo: the collection is empty.
            DiskError: the disk is full or cannot be written.
        """
        view = self._resolve_view(view)
        self.indexes.build(view, metric, kind=kind, recall=recall, max_memory=max_memory)
        return self.indexes.describe_one(view, metric)
