"""EngineCollection: search a collection in a search engine with the recipe that was pushed with it."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from embedx.arguments.keywords import KnownKeywords
from embedx.arguments.types import RowId
from embedx.datasets.sources import read_corpus
from embedx.engines.conditions import Node, parse
from embedx.engines.connections import connect
from embedx.engines.engine import COLUMNS, Description, Engine
from embedx.engines.stored import digest_of
from embedx.errors import AudioError, NothingToDo, UsageError
from embedx.index.exact import prepare
from embedx.index.matrix import Floats, Ids
from embedx.recipe import Recipe, check_view
from embedx.search.answers import MAX_SPARE, Answers, rank_queries
from embedx.search.hits import Hits, hit_of
from embedx.search.options import SearchKwargs, SearchOptions
from embedx.search.queries import Query, QueryBuilder, name_of
from embedx.store.records import Row

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

MAX_K = 10_000  # hits of a query; engines are slow or refuse with more


class EngineIndex:
    """The rows of a view that meet a condition, with the search method of an index."""

    def __init__(self, engine: Engine, description: Description, view: str, where: Node | None) -> None:
        self.engine, self.description, self.view, self.where = engine, description, view, where

    def search(
        self, queries: Floats, k: int, *, include_ids: Ids | None = None, exact: bool = False, spare: int = 0
    ) -> tuple[Floats, Ids]:
        """Return scores [Q, K] and ids [Q, K], best first; places without a row have the score -inf and the id -1."""
        limit = k + spare
        scores, ids = np.full((len(queries), limit), -np.inf, np.float32), np.full((len(queries), limit), -1, np.int64)
        for number, query in enumerate(prepare(queries, self.description.metric)):
            found = self.engine.search(self.description, self.view, query, limit, self.where, exact=exact)
            scores[number, : len(found[0])], ids[number, : len(found[1])] = found
        return scores, ids


class EngineRows:
    """The stored rows: what queries and the service need of them, as a store has it."""

    def __init__(self, engine: Engine, description: Description) -> None:
        self.engine, self.description = engine, description
        self.folder = str(engine.place)
        self.generation, self.revision = description.generation or 0, description.revision
        self.version = digest_of(f"{description.store}.{description.generation}".encode())[:8]

    @property
    def views(self) -> dict[str, int]:
        """Name and dimension of the views in the engine."""
        return dict(self.description.views)

    @property
    def columns(self) -> dict[str, str]:
        """Name and kind of the columns of the metadata: "number" or "text"."""
        return {name: kind for name, kind in self.description.columns.items() if name not in COLUMNS}

    def vectors(self, view: str, ids: Sequence[int] | None = None) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and vectors [N, D]."""
        found, vectors = self.engine.vectors(view, list(ids or ()))
        return found, vectors.reshape(len(found), self.views[view])

    def paths_of(self, content_hash: str) -> list[str]:
        """Refuse: an engine does not hold what tells which rows are of a file."""
        raise UsageError("exclude_self for a file is not available in a search engine: use it with a row id.")

    def rows(self, ids: Sequence[int] | None = None, paths: Iterable[str] | None = None) -> list[Row]:
        """Return rows in the order of their ids; none by paths, for which only `paths_of` asks."""
        return self.engine.rows(list(ids)) if ids else []

    def next_ids(self, after: int, count: int, where: str | None = None) -> list[int]:
        """Return the next larger ids of the rows that meet a condition, ascending.

        Raises:
            UsageError: the condition is invalid, or more than an engine can translate.
        """
        return self.engine.ids(None if where is None else parse(where, self.description.columns), after, count)

    def source_names(self) -> list[str]:
        """Return no sources: an engine holds only the folder of all of them."""
        return []


class EngineCollection(KnownKeywords):
    """A collection in a search engine, opened for searching.

    Args:
        url: its place, such as qdrant://127.0.0.1:6333/field.
        model: the model, if it is not where the recipe says; see `embedx.open`.
        allow_pickle: read weights from a pickle file, which can run code.

    Raises:
        UsageError: nothing was pushed there, the push is not complete, or a package is missing.
        DiskError: the engine cannot be reached.
    """

    def __init__(self, url: str, *, model: str | None = None, allow_pickle: bool = False) -> None:
        self.model, self.allow_pickle = model, allow_pickle
        self._embedder: Embedder | None = None
        self.engine = connect(url)
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "EngineCollection":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.engine.count()

    def refresh(self) -> None:
        """Read what the last push has written about the collection."""
        self.description = read_description(self.engine)
        self.store = EngineRows(self.engine, self.description)

    def close(self) -> None:
        """Close the connection."""
        self.engine.close()

    @property
    def views(self) -> dict[str, int]:
        """Name and dimension of the views in the engine."""
        return self.store.views

    @property
    def recipe(self) -> Recipe:
        """The recipe of the vectors."""
        return Recipe.from_json(self.description.recipe)

    @property
    def default_view(self) -> str:
        """The view that is searched by default: that of the recipe, or the first one in the engine."""
        view = self.recipe.default_view
        return view if view in self.views else next(iter(self.views))

    @property
    def root(self) -> str | None:
        """The folder that holds all sources; None if there is none."""
        return self.description.root

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
        """Return the rows that are most similar to a query; see `Collection.search`.

        Raises:
            UsageError: as `Collection.search`; an option or a condition that the engine cannot do.
            AudioError, ModelError, NothingToDo: as `Collection.search`.
            DiskError: the engine cannot be reached.
        """
        builder, index, settings = self._prepare(options)
        results = self._run(index, builder.build(query, sample_rate, id, vector, like, unlike, text), settings)
        return results if isinstance(query, (list, tuple)) else results[0]

    def search_many(self, source: Any, **options: Unpack[SearchKwargs]) -> Answers:
        """Run the queries of a folder or manifest; see `Collection.search_many`."""
        builder, index, settings = self._prepare(options)
        items = read_corpus(source)
        results = dict(zip(map(name_of, items), builder.from_files(items), strict=True))
        queries = {name: query for name, query in results.items() if not isinstance(query, AudioError)}
        answers = Answers(zip(queries, self._run(index, list(queries.values()), settings), strict=True))
        answers.failures = {name: result for name, result in results.items() if isinstance(result, AudioError)}
        return answers

    def _prepare(self, options: SearchKwargs) -> tuple[QueryBuilder, EngineIndex, SearchOptions]:
        """Check the options before anything is embedded."""
        settings = SearchOptions(**options)
        view = settings.view or self.default_view
        check_view(view, self.views)
        if not settings.is_plain:
            raise UsageError(
                "In a search engine, a search returns the k nearest rows: radius, score_band, group_by, merge, diverse "
                "and align need a local collection."
            )
        if settings.metric != self.description.metric:
            raise UsageError(
                f"{self.engine.place} was pushed for the metric {self.description.metric}, and cannot be searched with "
                f"{settings.metric}. Use --metric {self.description.metric}, or push to another name."
            )
        if settings.limit > MAX_K:
            raise UsageError(f"k={settings.limit} is not allowed in a search engine: give at most {MAX_K}.")
        where = None if settings.where is None else parse(settings.where, self.description.columns)
        builder = QueryBuilder(self.store, self._load_embedder, view, settings)
        return builder, EngineIndex(self.engine, self.description, view, where), settings

    def _run(self, index: EngineIndex, queries: list[Query], options: SearchOptions) -> list[Hits]:
        if not self.engine.count():
            raise NothingToDo(f"{self.engine.place} has no rows.")
        if any(len(query.exclude_ids) > MAX_SPARE for query in queries):
            raise UsageError(f"A query in a search engine can leave out at most {MAX_SPARE} rows; use --include-self.")
        ranked = rank_queries(index, queries, options)
        wanted = sorted({row_id for ids, _ in ranked for row_id in ids.tolist() if row_id >= 0})
        rows = {row.id: row for row in self.engine.rows(wanted)} if wanted else {}
        return [
            Hits(
                [
                    hit_of(rows[row_id], score)
                    for row_id, score in zip(ids.tolist(), scores.tolist(), strict=True)
                    if row_id in rows
                ]
            )
            for ids, scores in ranked
        ]

    def _load_embedder(self) -> "Embedder":
        if self._embedder is None:
            from embedx.embedding.embedder import Embedder

            self._embedder = Embedder.from_recipe(self.recipe, model=self.model, allow_pickle=self.allow_pickle)
        return self._embedder


def read_description(engine: Engine) -> Description:
    """Return the description of what was pushed.

    Raises:
        UsageError: nothing was pushed there, or the first push is not complete.
    """
    text = engine.describe()
    if text is None:
        raise UsageError(f"There is no collection at {engine.place}. `embedx push` makes one.")
    description = Description.from_json(text, engine.place)
    if description.generation is None:
        raise UsageError(f"The push to {engine.place} is not complete. Run the same `embedx push` again.")
    return description
