"""SearchMixin: the methods of `Collection` that search, and that build the indexes for it."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from embedx.collection.base import CollectionBase, from_one_state
from embedx.datasets.sources import read_corpus
from embedx.errors import AudioError
from embedx.index.manager import DEFAULT_RECALL
from embedx.index.matrix import Ids
from embedx.index.vector_index import VectorIndex
from embedx.search.answers import Answers, check_column, run_queries
from embedx.search.options import DEFAULT_K, SearchKwargs, SearchOptions
from embedx.search.queries import Query, QueryBuilder, name_of, read_vectors
from embedx.store.filters import TIMEOUT_S

if TYPE_CHECKING:
    from embedx.search.duplicates import Duplicates


class SearchMixin(CollectionBase):
    """Search a collection, find duplicates in it, and build its indexes."""

    @from_one_state
    def search(
        self,
        query: Any = None,
        *,
        sample_rate: float | None = None,
        id: int | None = None,
        vector: Any = None,
        like: Sequence[str | os.PathLike[str] | int] = (),
        unlike: Sequence[str | os.PathLike[str] | int] = (),
        text: str | None = None,
        **options: Unpack[SearchKwargs],
    ) -> Any:
        """Return the rows that are most similar to a query; docs/search.md has examples.

        Args:
            query: an audio file, or a part of one in seconds as "file#start-end"; or samples: an array or a tensor [S],
                [channels, S] or [S, channels]. A list of these gives a list of hits, in its order.
            sample_rate: the rate of samples in Hz.
            id: instead, the id of a row of this collection.
            vector: instead, a vector [D], several vectors [Q, D], or a .npy file with either.
            like: instead, examples (files, parts of files, row ids); the query is 2 mean(like) - mean(unlike).
            unlike: with `like`, examples that the hits should not resemble; without them the query is mean(like).
            text: instead, a description, in a collection made with a model with texts, such as CLAP.
            k: the number of hits; default 10, or all rows within `radius`. Fewer only if fewer rows match.
            where: an SQL condition on the rows, applied before the search: "label = 'dog' and fold <> 1".
            timeout: seconds that the condition can take; default 30.
            view: the view whose vectors are compared; default: last layer, first pooling.
            metric: "cosine" (default), "ip" (inner product), or "l2" (the score is the negative Euclidean distance).
            exact: compare all vectors, without an approximate index. Only a search for the k nearest uses one.
            exclude_self: leave out the row itself, or the rows of the query file; by default only the row.
            radius: return all rows with a score of at least this, or for "l2" a distance of at most this.
            score_band: (lowest, highest) score; if more than k rows are inside, the nearest to the middle.
            group_by: return the best hit for each value of this column; rows without a value form one
                group. "recording" is the path.
            merge: join hits of one recording that overlap or touch, with the score and the row of the best one.
            diverse: 1 (similarity only) to 0: hits that also differ from each other (maximal marginal relevance).
            align: match all windows of the query with each recording, and return the best place in each.

        Returns:
            The hits, best first; for a list one `Hits` for each query.

        Raises:
            UsageError: not exactly one query; an unknown view, column or metric; an invalid condition; options that
                cannot be combined (`radius` only with `group_by`, `merge` or `align`; all others not with each other).
            AudioError: the query cannot be read.
            ModelError: the model of the collection cannot be loaded, or does not embed text.
            NothingToDo: the collection is empty.
        """
        settings = SearchOptions(**options)
        builder = self._query_builder(settings)
        include_ids = self._include_ids(settings.where, settings.timeout)
        queries = builder.build(query, sample_rate, id, vector, like, unlike, text)
        results = self.indexes.ask(
            builder.view, settings.metric, lambda index: run_queries(self.store, index, queries, settings, include_ids)
        )
        for hits in results:
            hits.generation = self.store.generation
        return results if isinstance(query, (list, tuple)) else results[0]

    def search_many(self, source: Any, **options: Unpack[SearchKwargs]) -> Answers:
        """Run many queries at once.

        Args:
            source: audio as `extract` takes it (a folder, a manifest, files or a data frame): every recording, or part
                of one, is a query, and its name is the path or path#start-end. Or an array of vectors [Q, D], named
                "0", "1" and so on.
            options: the options of `search`, from k to align.

        Returns:
            Name -> hits. Queries that cannot be used are in `failures`.

        Raises:
            UsageError: as `search`.
            ModelError: as `search`.
            NothingToDo: as `search`, or the source is empty.
        """
        settings = SearchOptions(**options)
        builder = self._query_builder(settings)
        self._include_ids(settings.where, settings.timeout)  # an invalid condition is refused before audio is embedded
        results: dict[str, Query | AudioError]
        if isinstance(source, np.ndarray):
            vectors = read_vectors(source, self.views[builder.view])
            results = {str(number): builder.from_vector(vector) for number, vector in enumerate(vectors)}
        else:
            items = read_corpus(source)
            results = dict(zip(map(name_of, items), builder.from_files(items), strict=True))
        queries = {name: result for name, result in results.items() if not isinstance(result, AudioError)}
        with self.snapshot():
            include_ids = self._include_ids(settings.where, settings.timeout)
            hits = self.indexes.ask(
                builder.view,
                settings.metric,
                lambda index: run_queries(self.store, index, list(queries.values()), settings, include_ids),
            )
            answers = Answers(zip(queries, hits, strict=True))
            answers.generation = self.store.generation
        answers.failures = {name: result for name, result in results.items() if isinstance(result, AudioError)}
        return answers

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

    def _query_builder(self, options: SearchOptions) -> QueryBuilder:
        """Return the builder for queries with these options; check the view and the column to group by."""
        if options.group_by is not None:
            check_column(self.store, options.group_by)
        return QueryBuilder(self.store, self._load_embedder, self._resolve_view(options.view), options)

    def _include_ids(self, where: str | None, timeout: float) -> Ids | None:
        """Return the ids of the rows that match a condition; None (all rows) without a condition."""
        return None if where is None else self.store.filter(where, timeout)
