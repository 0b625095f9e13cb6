"""QueryBuilder: a file, a row, a vector, examples or a text -> query vectors, and the rows that cannot be hits."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.arguments.types import read_numbers
from embedx.audio.decoder_pool import DECODERS
from embedx.audio.waves import Wave, is_array, make_wave
from embedx.datasets.items import Item, stretch_to_open
from embedx.errors import AudioError, UsageError
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import absolute, is_url
from embedx.index.exact import prepare
from embedx.index.matrix import Floats, Ids
from embedx.search.options import SearchOptions
from embedx.search.searched import QueryRows
from embedx.store.records import Row

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder
    from embedx.embedding.sounds import EmbeddedFile

NO_IDS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Query:
    """Query vectors [Q, D] and the ids of rows that cannot be hits. A row scores as its nearest query vector."""

    vectors: Floats
    exclude_ids: Ids
    places: Sequence[tuple[int | None, float]] = ()  # (channel, start_s) of every vector, if they are windows


class QueryBuilder:
    """Build queries for one view of a collection.

    With the option `exclude_self` the rows of the query itself cannot be hits; None excludes rows but not files.

    Args:
        store: the store of the collection.
        load_embedder: returns the embedder of the collection's recipe; called only for audio and text.
        view: the view whose vectors are compared.
        options: `metric` and `exclude_self` are used.
    """

    def __init__(
        self, store: QueryRows, load_embedder: Callable[[], "Embedder"], view: str, options: SearchOptions
    ) -> None:
        self.store = store
        self.load_embedder = load_embedder
        self.view = view
        self.metric = options.metric
        self.exclude_self = options.exclude_self

    def build(
        self,
        sound: Any,
        sample_rate: float | None,
        row_id: int | None,
        vector: Any,
        like: Sequence[Any],
        unlike: Sequence[Any],
        text: str | None,
    ) -> list[Query]:
        """Build the query from the one kind of argument that is given, or those of a list of sounds.

        `sample_rate` is that of samples.

        Raises:
            UsageError: none is given, or several are.
        """
        check_one_query(sound, row_id, vector, text, [*like, *unlike])
        if sound is not None:
            return self.from_sounds(sound if isinstance(sound, (list, tuple)) else [sound], sample_rate)
        if row_id is not None:
            return [self.from_row(row_id)]
        if text is not None:
            return [self.from_text(text)]
        return [self.from_examples(like, unlike) if vector is None else self.from_vector(vector)]

    def from_files(self, items: Sequence[Item]) -> "list[Query | AudioError]":
        """Embed recordings or parts of them with the recipe of the collection; an error stands for one that fails."""
        embedded = self.load_embedder().embed_files([stretch_to_open(item) for item in items])
        return [self._from_embedded(item, file) for item, file in zip(items, embedded, strict=True)]

    def from_file(self, query: str | os.PathLike[str]) -> Query:
        """Embed a recording, or `file#start-end` in seconds.

        Raises:
            AudioError: the file cannot be read.
        """
        return self.from_sounds([query], None)[0]

    def from_sounds(self, sounds: Sequence[Any], sample_rate: float | None) -> list[Query]:
        """Embed files, parts of files, and samples in memory, together.

        Raises:
            AudioError: one of them cannot be read.
            UsageError: one of them is neither a file nor samples with a rate.
        """
        read = [read_query(sound, sample_rate) for sound in sounds]
        stretches = [stretch_to_open(sound) if isinstance(sound, Item) else sound for sound in read]
        queries: list[Query] = []
        for sound, embedded in zip(read, self.load_embedder().embed_files(stretches), strict=True):
            result = self._from_embedded(sound, embedded)
            if isinstance(result, AudioError):
                raise result
            queries.append(result)
        return queries

    def from_row(self, row_id: Any) -> Query:
        """Use the stored vector of a row.

        Raises:
            UsageError: there is no such row, or it is not a number.
        """
        if isinstance(row_id, bool) or not isinstance(row_id, int | np.integer):
            raise UsageError(f"id= is the number of a row, such as id=17, not {row_id!r:.80}.")
        ids, vectors = self.store.vectors(self.view, [int(row_id)])
        if not len(ids):
            raise self._no_row(int(row_id))
        return Query(vectors, NO_IDS if self.exclude_self is False else ids)

    def from_each(self, queries: Sequence[int | Floats]) -> list["Query | UsageError"]:
        """Use the stored vectors of rows, read at once, and vectors [D]; an invalid one gives an error."""
        row_ids = sorted({query for query in queries if isinstance(query, int)})
        ids, vectors = self.store.vectors(self.view, row_ids)
        place_of = {row_id: place for place, row_id in enumerate(ids.tolist())}

        def build(query: int | Floats) -> Query:
            if not isinstance(query, int):
                return self.from_vector(query)
            place = place_of.get(query)
            if place is None:
                raise self._no_row(query)
            rows = slice(place, place + 1)
            return Query(vectors[rows], NO_IDS if self.exclude_self is False else ids[rows])

        built: list[Query | UsageError] = []
        for query in queries:
            try:
                built.append(build(query))
            except UsageError as error:
                built.append(error)
        return built

    def _no_row(self, row_id: int) -> UsageError:
        """Return the error of an id without a row."""
        return UsageError(f"There is no row {row_id} in {self.store.folder}. `embedx search` and rows() show the ids.")

    def from_vector(self, vector: Any) -> Query:
        """Use a vector [D] or vectors [Q, D]: an array, or a .npy file; see `read_vectors`."""
        return Query(read_vectors(vector, self.store.views[self.view]), NO_IDS)

    def from_examples(self, like: Sequence[Any], unlike: Sequence[Any]) -> Query:
        """Build a query that is like some examples and unlike others: 2 mean(like) - mean(unlike), or mean(like).

        An example is a file, a part of one, or a row. Each counts once: it is the mean of its windows, which have
        length 1 for the cosine. The formula is the relevance feedback of Rocchio (1971) without a first query, with
        weights 2 and 1.

        Raises:
            UsageError: there is no `like` example, or an example is neither a file nor a row.
        """
        if not len(like):
            raise UsageError("unlike requires like: give at least one example that the hits should resemble.")
        queries = [self._from_example(example) for example in (*like, *unlike)]
        means = np.stack([prepare(query.vectors, self.metric).mean(axis=0) for query in queries])
        vector = means[: len(like)].mean(axis=0)
        if len(unlike):
            vector = 2 * vector - means[len(like) :].mean(axis=0)
        return Query(vector[None], np.unique(np.concatenate([query.exclude_ids for query in queries])))

    def from_text(self, text: str) -> Query:
        """Embed a text, in a collection whose model embeds audio and text in one space.

        Raises:
            ModelError: the model embeds audio only.
            UsageError: the text is empty, or the view is of a layer that has no text.
        """
        if not text.strip():
            raise UsageError('The text is empty: describe a sound, as in "a dog barks in the rain".')
        return Query(self.load_embedder().embed_text(text, self.view), NO_IDS)

    def _from_embedded(self, item: Item | Wave, embedded: "EmbeddedFile | AudioError") -> "Query | AudioError":
        if isinstance(embedded, AudioError):
            return embedded
        try:
            exclude_ids = self._rows_in(item) if self.exclude_self and isinstance(item, Item) else NO_IDS
        except AudioError as error:
            return error
        return Query(embedded.vectors[self.view], exclude_ids, embedded.places)

    def _from_example(self, example: Any) -> Query:
        if isinstance(example, (int, np.integer)) and not isinstance(example, bool):
            return self.from_row(int(example))
        if not isinstance(example, (str, os.PathLike)):
            raise UsageError(
                f"An example is an audio file, a part of one (a.wav#2-5: seconds 2 to 5), or a row id, not {example!r}."
            )
        name = os.fspath(example)
        is_row = re.fullmatch(r"\d{1,18}", name) is not None and not os.path.exists(name)
        return self.from_row(int(name)) if is_row else self.from_file(name)

    def _rows_in(self, item: Item) -> Ids:
        """Return the rows that overlap an item in time, also if the collection stores its file under another path."""
        rows = rows_of_file(self.store, item.path)
        return np.array([row.id for row in rows if overlaps(row, item.start_s, item.end_s)], np.int64)


def read_vectors(vector: Any, dim: int) -> Floats:
    """Return query vectors [Q, D] from an array [D] or [Q, D], or from a .npy file with one.

    Raises:
        UsageError: it is not an array of this dimension, or not finite.
    """
    if isinstance(vector, (str, os.PathLike)):
        file = display_path(os.fspath(vector))
        if not os.path.isfile(vector):  # reading a named pipe would block forever
            raise UsageError(f"There is no .npy file {file}, or it is not a regular file.")
        try:
            vector = np.load(vector, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read as a .npy file of numbers. Write one with numpy.save.") from error
    vectors = np.atleast_2d(read_numbers(vector, "The query", np.float32))
    if vectors.ndim != 2 or vectors.shape[1] != dim or not len(vectors) or not np.isfinite(vectors).all():
        raise UsageError(
            f"A query vector of this view needs {dim} finite numbers; the given shape is {list(np.shape(vector))}."
        )
    return vectors


def check_one_query(sounds: Any, row_id: int | None, vector: Any, text: str | None, examples: Sequence[Any]) -> None:
    """Refuse a search that has no query, or several kinds of queries."""
    if sum(argument is not None for argument in (sounds, row_id, vector, text)) + (len(examples) > 0) != 1:
        raise UsageError("Give exactly one query: an audio file, an id, a vector, examples (like, unlike) or text.")


def read_query(sound: Any, sample_rate: float | None) -> Item | Wave:
    """Return a file, a part of one, or samples as what is embedded.

    Raises:
        UsageError: it is neither, or the samples have no rate.
    """
    if isinstance(sound, (str, os.PathLike)):
        path, start_s, end_s = parse_query(os.fspath(sound))
        return Item(absolute(path) if is_url(path) else path, start_s, end_s)
    if not is_array(sound):
        raise UsageError(
            f"A query is a file, a part of one (a.wav#2-5), or an array of samples, not "
            f"{type(sound).__name__}. For a row give id=, for a vector vector=."
        )
    if sample_rate is None and not isinstance(sound, Mapping):
        raise UsageError(
            "sample_rate is missing: an array as query is samples, so give their rate, as in sample_rate=16000. For "
            "a vector give vector=."
        )
    return make_wave(sound, sample_rate, "the query")


def parse_query(query: str) -> tuple[str, float, float | None]:
    """Split `file#start-end`, in seconds, into its parts; the name of an existing file is not split.

    >>> parse_query("a.wav#1.5-3")
    ('a.wav', 1.5, 3.0)
    >>> parse_query("a.wav")
    ('a.wav', 0.0, None)
    """
    match = re.fullmatch(r"(.+)#(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", query, re.DOTALL)
    if match is None or Path(query).exists():
        return query, 0.0, None
    start_s, end_s = float(match[2]), float(match[3])
    if start_s >= end_s:
        raise UsageError(f"{match[2]}-{match[3]} is empty: give the start before the end, in seconds, as in a.wav#2-5.")
    return match[1], start_s, end_s


def name_of(item: Item) -> str:
    """Return the name of an item as a query: its path, or path#start-end with times to the microsecond.

    >>> name_of(Item("a.wav", 1.5, 3.0)), name_of(Item("a.wav")), name_of(Item("a.wav", 2.0))
    ('a.wav#1.5-3', 'a.wav', 'a.wav#2-')
    """
    if not item.start_s and item.end_s is None:
        return item.path
    start, end = (f"{time:.6f}".rstrip("0").rstrip(".") for time in (item.start_s, item.end_s or 0.0))
    return f"{item.path}#{start}-{'' if item.end_s is None else end}"


def rows_of_file(store: QueryRows, path: str) -> list[Row]:
    """Return the rows of a recording, also if the collection stores the same content under another path."""
    paths = {absolute(path), *store.paths_of(DECODERS.hash_content(path))}
    return [row for stored in sorted(paths) for row in store.rows(paths=[stored])]


def overlaps(row: Row, start_s: float, end_s: float | None) -> bool:
    """Tell whether a row overlaps a part of its recording in time; an end of None is the end of the recording."""
    return row.end_s > start_s and (end_s is None or row.start_s < end_s)
