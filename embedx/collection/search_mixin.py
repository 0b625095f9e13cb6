"""SearchMixin: the methods of `Collection` that search, and the indexes that they use."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from embedx.collection.base import CollectionBase
from embedx.datasets.sources import read_corpus
from embedx.errors import AudioError, UsageError
from embedx.index.manager import RECALL
from embedx.index.vector_index import VectorIndex
from embedx.search.answers import Answers, check_column, run_queries, run_query
from embedx.search.hits import Hits
from embedx.search.options import DEFAULT_K, SearchKwargs, SearchOptions
from embedx.search.queries import Query, QueryBuilder, name_of, read_vectors

if TYPE_CHECKING:
    from embedx.search.duplicates import Duplicates


class SearchMixin(CollectionBase):
    """Search, duplicates and indexes of a collection."""

    def search(
        self,
        query: str | os.PathLike[str] | None = None,
        *,
        id: int | None = None,
        vector: Any = None,
        like: Sequence[str | os.PathLike[str] | int] = (),
        unlike: Sequence[str | os.PathLike[str] | int] = (),
        text: str | None = None,
        k: int | None = None,
        where: str | None = None,
        view: str | None = None,
        metric: str = "cosine",
        exact: bool = False,
        exclude_self: bool | None = None,
        radius: float | None = None,
        score_band: tuple[float, float] | None = None,
        group_by: str | None = None,
        merge: bool = False,
        diverse: float | None = None,
        align: bool = False,
    ) -> Hits:
        """Return the rows that are most like a query, best first; docs/search.md shows every way.

        Args:
            query: an audio file, or a stretch of it in seconds as "file#start-end".
            id: instead, a row of this collection.
            vector: instead, a vector [D] (or several [Q, D]), or a .npy file of it.
            like, unlike: instead, examples, each a file, a stretch or a row: near 2 mean(like) - mean(unlike).
            text: instead, a sentence, in a collection that was made by CLAP.
            k: how many hits; 10 if not given, or all within a radius. Fewer come back only where fewer rows exist.
            where: an SQL condition on the rows, applied before the search: "label = 'dog' and fold <> 1".
            view: which vectors are compared; the last layer with the first pooling if not given.
            metric: "cosine"; "ip", the inner product; or "l2", the Euclidean distance, with a minus sign as a score.
            exact: never use an approximate index. All but the k nearest is exact anyway.
            exclude_self: leave out the row itself, or the rows of the file that is the query; on for rows.
            radius: all rows with a score of at least this, or for l2 at most at this distance.
            score_band: rows with a score between two; if there are more than k, those nearest to its middle.
            group_by: the best hit of every value of a column; "recording" is its path. What has no value is one group.
            merge: hits of one recording that overlap or touch become one, with the best score and its row.
            diverse: from 1 (likeness alone) to 0: hits that are also unlike each other (maximal marginal relevance).
            align: lay the windows of the query on those of every recording, and return its best place in each.

        Raises:
            UsageError: not exactly one of query, id, vector, like and text; options that do not go together (of
                score_band, group_by, merge, diverse and align only one; a radius goes with group_by, merge and align);
                an unknown view, column or metric; a condition that is none.
            AudioError: the query cannot be read.
            ModelError: the model that made the collection is not there any more, or makes no vectors of text.
            NothingToDo: the collection is empty.
        """
        examples = len(like) + len(unlike) > 0
        if (query is not None) + (id is not None) + (vector is not None) + (text is not None) + examples != 1:
            raise UsageError("Give one of: an audio file as query, id=, vector=, like= (with unlike=), or text=.")
        choice = SearchOptions(k, metric, exact, radius, score_band, group_by, merge, diverse, align)
        questions = self._query_builder(choice, view, exclude_self)
        keep = None if where is None else self.store.filter(where)
        if query is not None:
            question = questions.of_file(query)
        elif id is not None:
            question = questions.of_row(id)
        elif text is not None:
            question = questions.of_text(text)
        else:
            question = questions.of_examples(like, unlike) if examples else questions.of_vector(vector)
        return self.indexes.ask(
            questions.view, metric, lambda index: run_query(self.store, index, question, choice, keep)
        )

    def search_many(
        self,
        source: Any,
        *,
        where: str | None = None,
        view: str | None = None,
        exclude_self: bool | None = None,
        **ways: Unpack[SearchKwargs],
    ) -> Answers:
        """Put many queries at once, and return name -> hits, with what could not be used in `failures`.

        Args:
            source: a folder, a manifest, files or a frame, as `extract` takes them: its recordings and stretches are
                the queries, and their names are the paths, or path#start-end. Or vectors [Q, D], named "0", "1" ...
            where, view, exclude_self, ways: as in `search`: k, metric, exact, radius, ..., align.

        Raises:
            UsageError, ModelError, NothingToDo: as `search`, or there is no query. A bad query is no error.
        """
        choice = SearchOptions(**ways)
        questions = self._query_builder(choice, view, exclude_self)
        keep = None if where is None else self.store.filter(where)
        asked: dict[str, Query | AudioError]
        if isinstance(source, np.ndarray):
            vectors = read_vectors(source, self.views[questions.view])
            asked = {str(number): questions.of_vector(vector) for number, vector in enumerate(vectors)}
        else:
            items = read_corpus(source)
            asked = dict(zip(map(name_of, items), questions.of_files(items), strict=True))
        good = {name: one for name, one in asked.items() if not isinstance(one, AudioError)}
        hits = self.indexes.ask(
            questions.view,
            choice.metric,
            lambda index: run_queries(self.store, index, list(good.values()), choice, keep),
        )
        answers = Answers(zip(good, hits, strict=True))
        answers.failures = {name: one for name, one in asked.items() if isinstance(one, AudioError)}
        return answers

    def nearest(
        self,
        vectors: Any,
        k: int = DEFAULT_K,
        *,
        where: str | None = None,
        view: str | None = None,
        metric: str = "cosine",
        exact: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the scores [Q, K] and row ids [Q, K] of the k rows nearest to each of some vectors [Q, D], best first.

        This is `search` without anything made of each hit, for many vectors; K is k or all rows there are, if fewer.

        Raises:
            UsageError: as `search`.
            NothingToDo: the collection is empty.
        """
        view = self._resolve_view(view)
        SearchOptions(k, metric)
        queries = read_vectors(vectors, self.views[view])
        keep = None if where is None else self.store.filter(where)
        return self.indexes.ask(view, metric, lambda index: index.search(queries, k, keep=keep, exact=exact))

    def duplicates(
        self,
        *,
        threshold: float = 0.99,
        view: str | None = None,
        where: str | None = None,
        exact_only: bool = False,
        within: bool = False,
    ) -> "Duplicates":
        """Return groups of rows that are the same sound: exact copies, and near ones by the cosine of their vectors.

        Args:
            threshold: the least cosine of a near pair; pairs that share a row are one group.
            view, where: which vectors are compared, and of which rows; see `search`.
            exact_only: only files with the same bytes, and vectors with the same bits.
            within: also rows of one recording with each other, if they do not overlap in time.

        Raises:
            UsageError: the threshold is no cosine; see `search`.
            NothingToDo: the collection is empty.
        """
        from embedx.search.duplicates import find_duplicates

        view = self._resolve_view(view)
        keep = None if where is None else self.store.filter(where)
        options = (keep, threshold, exact_only, within)
        return self.indexes.ask(view, "cosine", lambda index: find_duplicates(self.store, index, view, *options))

    def index(self, view: str | None = None, *, metric: str = "cosine") -> VectorIndex:
        """Return the index of a view as of now: the one in memory or on disk if that still serves, else a new one.

        Raises:
            UsageError: there is no such view or metric.
            NothingToDo: the collection is empty.
        """
        return self.indexes.get(self._resolve_view(view), metric)

    def build_index(
        self,
        *,
        kind: str = "auto",
        recall: float = RECALL,
        max_memory: str | int | None = None,
        view: str | None = None,
        metric: str = "cosine",
    ) -> dict[str, Any]:
        """Build the index of a view anew, measure it, and return what was found; the old one serves until it is done.

        Args:
            kind: "flat" (exact), "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq" or "ivf-rabitq"; "auto" takes flat up to
                150 million numbers (40 ms a query), and ivf-rabitq beyond.
            recall: the share of the true nearest 10 (and 100) rows that a search shall find. What it proposes is
                compared exactly, so scores are exact. Where no setting reaches it, searches are exact.
            max_memory: bytes, or a size such as "4GB", that the index may take in memory.
            view: which vectors; the last layer with the first pooling if not given.
            metric: "cosine", "ip" or "l2".

        Raises:
            UsageError: an argument cannot be meant, or no kind that was asked for fits into the memory.
            NothingToDo: the collection is empty.
            DiskError: the disk is full or refuses.
        """
        view = self._resolve_view(view)
        self.indexes.build(view, metric, kind=kind, recall=recall, max_memory=max_memory)
        return self.indexes.describe_one(view, metric)

    def _query_builder(self, choice: SearchOptions, view: str | None, exclude_self: bool | None) -> QueryBuilder:
        if choice.group_by is not None:
            check_column(self.store, choice.group_by)
        return QueryBuilder(self.store, self._load_embedder, self._resolve_view(view), choice.metric, exclude_self)
