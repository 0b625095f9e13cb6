"""Searching: the search of one collection, or of several at once."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack

import numpy as np

from embedx.arguments.keywords import KnownKeywords
from embedx.arguments.types import RowId
from embedx.datasets.sources import read_corpus
from embedx.errors import AudioError
from embedx.index.matrix import Ids
from embedx.recipe import Recipe, check_view
from embedx.search.answers import Answers, check_column, run_queries
from embedx.search.options import SearchKwargs, SearchOptions
from embedx.search.queries import Query, QueryBuilder, name_of, read_vectors
from embedx.search.searched import Indexes, SearchedRows

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def from_one_state(
    method: Callable[Concatenate[Any, Arguments], Answer],
) -> Callable[Concatenate[Any, Arguments], Answer]:
    """Let a method of a collection answer from one state, whatever other processes commit meanwhile."""

    @wraps(method)
    def answer(self: Any, /, *args: Arguments.args, **options: Arguments.kwargs) -> Answer:
        with self.snapshot():
            return method(self, *args, **options)

    return answer


class Searching(KnownKeywords):
    """The methods that search. A class below it has the rows, the indexes and the model."""

    indexes: Indexes

    @property
    def store(self) -> SearchedRows:
        """The rows."""
        raise NotImplementedError

    @property
    def recipe(self) -> Recipe:
        """The recipe of the vectors."""
        raise NotImplementedError

    def snapshot(self) -> AbstractContextManager[None]:
        """Return a context in which all methods answer from one state, in this thread.

        A writer is not stopped: what it commits meanwhile is seen after the context.
        """
        return self.store.snapshot()

    @property
    def views(self) -> dict[str, int]:
        """Name -> dimension of every stored view."""
        return self.store.views

    def _resolve_view(self, view: str | None) -> str:
        """Return the name of a view, the default view for None; refuse an unknown one."""
        view = self.recipe.default_view if view is None else view
        check_view(view, self.views)
        return view

    def _load_embedder(self) -> "Embedder":
        """Load the model of the recipe, once."""
        raise NotImplementedError

    @from_one_state
    def search(
        self,
        query: Any = None,
        *,
        sample_rate: float | None = None,
        id: RowId | None = None,
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

    def _query_builder(self, options: SearchOptions) -> QueryBuilder:
        """Return the builder for queries with these options; check the view and the column to group by."""
        if options.group_by is not None:
            check_column(self.store, options.group_by)
        return QueryBuilder(self.store, self._load_embedder, self._resolve_view(options.view), options)

    def _include_ids(self, where: str | None, timeout: float) -> Ids | None:
        """Return the ids of the rows that match a condition; None (all rows) without a condition."""
        return None if where is None else self.store.filter(where, timeout)
