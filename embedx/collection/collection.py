"""Collection: a folder under indexes/, opened. The words of the command line as methods."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from embedx.collection.maintenance import LabelUpdate, compact, label, remove
from embedx.collection.training_mixin import TrainingMixin
from embedx.collection.verify import VerifyReport, check
from embedx.datasets.sources import read_corpus
from embedx.errors import AudioError, UsageError
from embedx.index.manager import RECALL, Indexes
from embedx.index.vector_index import VectorIndex
from embedx.recipe import Recipe
from embedx.search.answers import Answers, check_column, run_queries, run_query
from embedx.search.hits import Hits
from embedx.search.options import DEFAULT_K, SearchKwargs, SearchOptions
from embedx.search.queries import Query, QueryBuilder, name_of, read_vectors
from embedx.store.records import Recording
from embedx.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from embedx.embedding.embedder import Embedder
    from embedx.search.duplicates import Duplicates


class Collection(TrainingMixin):
    """Stored vectors with their metadata, as `embedx.open("indexes/NAME")` returns it.

    It reads what is committed at the time, also while another process extracts. `len()` is the number of rows.

    Raises:
        UsageError: there is no collection in the folder.
        StoreError: it is damaged, or made by a newer embedx.
    """

    def __init__(self, folder: str | os.PathLike[str], *, model: str | None = None, allow_pickle: bool = False) -> None:
        self.folder = Path(folder)
        self.model = model
        self.allow_pickle = allow_pickle
        self.store = Store(self.folder)
        self.indexes = Indexes(self.store)
        self._embedder: Embedder | None = None

    def __repr__(self) -> str:
        return f"<Collection {self.folder}: {len(self)} rows by {self.recipe.extractor}>"

    def __len__(self) -> int:
        return self.store.count()

    def __enter__(self) -> "Collection":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self.store.close()

    @property
    def recipe(self) -> Recipe:
        """How the vectors were made."""
        return self.store.recipe

    @property
    def views(self) -> dict[str, int]:
        """Name and dimension of every stored view."""
        return self.store.views

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
        questions = self._questions(choice, view, exclude_self)
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
        questions = self._questions(choice, view, exclude_self)
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
        view = self._view(view)
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

        view = self._view(view)
        keep = None if where is None else self.store.filter(where)
        options = (keep, threshold, exact_only, within)
        return self.indexes.ask(view, "cosine", lambda index: find_duplicates(self.store, index, view, *options))

    def rows(self, where: str | None = None) -> "pd.DataFrame":
        """Return the rows as a pandas frame whose index is the row id, ascending.

        Columns: path, start_s, end_s, duration_s, label, group, split, flags, then the metadata under its own names.

        Raises:
            UsageError: the condition is wrong; see `search`.
        """
        import pandas as pd

        rows = self.store.rows(None if where is None else self.store.filter(where).tolist())
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
        ids = None if where is None else self.store.filter(where).tolist()
        return self.store.vectors(self._view(view), ids)[1]

    def remove(self, where: str, *, wait: bool = False) -> int:
        """Delete the rows that meet a condition, and return how many; see `embedx.collection.maintenance.remove`."""
        return remove(self.folder, where, wait=wait)

    def label(
        self,
        table: Any = None,
        *,
        set: Mapping[str, Any] | None = None,
        where: str | None = None,
        wait: bool = False,
    ) -> LabelUpdate:
        """Set labels and metadata of rows, from a table or to given values.

        See `embedx.collection.maintenance.label`.
        """
        return label(self.folder, table, set=set, where=where, wait=wait)

    def compact(self, *, wait: bool = False) -> tuple[int, int]:
        """Give the space of deleted rows back; return the size in bytes before and after."""
        return compact(self.folder, wait=wait)

    def verify(self, *, repair: bool = False, wait: bool = False) -> VerifyReport:
        """Find what is damaged, and mend it if `repair` is set; see `embedx.collection.verify.check`."""
        return check(self.folder, repair=repair, model=self.model, allow_pickle=self.allow_pickle, wait=wait)

    def export(
        self,
        out: str | os.PathLike[str],
        *,
        format: str | None = None,
        view: str | None = None,
        where: str | None = None,
        overwrite: bool = False,
    ) -> int:
        """Write rows with their vectors and metadata to a file that other tools open, and return how many there are.

        Args:
            out: the file, or the folder for "npy" and "hf"; it appears whole or not at all.
            format: "parquet", "npy", "csv", "jsonl", "faiss" or "hf"; told from the ending of `out` if not given.
            view: which vectors; "all" writes every view where the format holds several (not csv and faiss).
            where: an SQL condition on the rows; see `search`.
            overwrite: replace an `out` that is there.

        Raises:
            UsageError: an argument cannot be meant, or `out` is there.
            NothingToDo: no row meets the condition.
            DiskError: the disk is full or refuses.
        """
        from embedx.formats.exporting import export

        views = self.views if view == "all" else {self._view(view): self.views[self._view(view)]}
        return export(self.store, out, format=format, views=views, where=where, overwrite=overwrite)

    def failures(self) -> list[Recording]:
        """Return the recordings that could not be embedded, each with its reason and a detail."""
        return [recording for recording in self.store.recordings().values() if recording.reason]

    def index(self, view: str | None = None, *, metric: str = "cosine") -> VectorIndex:
        """Return the index of a view as of now: the one in memory or on disk if that still serves, else a new one.

        Raises:
            UsageError: there is no such view or metric.
            NothingToDo: the collection is empty.
        """
        return self.indexes.get(self._view(view), metric)

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
        view = self._view(view)
        self.indexes.build(view, metric, kind=kind, recall=recall, max_memory=max_memory)
        return self.indexes.describe_one(view, metric)

    def _questions(self, choice: SearchOptions, view: str | None, exclude_self: bool | None) -> QueryBuilder:
        if choice.group_by is not None:
            check_column(self.store, choice.group_by)
        return QueryBuilder(self.store, self._load_embedder, self._view(view), choice.metric, exclude_self)

    def _view(self, view: str | None) -> str:
        view = self.recipe.default_view if view is None else view
        if view not in self.views:
            raise UsageError(f"There is no view {view!r}. Views of this collection: {', '.join(self.views)}.")
        return view

    def _load_embedder(self) -> "Embedder":
        if self._embedder is None:
            from embedx.embedding.embedder import Embedder

            self._embedder = Embedder.from_recipe(self.recipe, model=self.model, allow_pickle=self.allow_pickle)
        return self._embedder
