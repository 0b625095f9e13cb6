"""QueryBuilder: a file, a row, a vector, examples or a sentence -> query vectors, and the rows that are no answer."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.audio.decode import hash_content
from embedx.datasets.items import Item
from embedx.errors import AudioError, UsageError
from embedx.filesystem.paths import display_path
from embedx.index.exact import prepare
from embedx.index.matrix import Floats, Ids
from embedx.store.records import Row
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.embedding.embedder import EmbeddedFile, Embedder

NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Query:
    """Query vectors [Q, D] and the ids of rows that are no answer. The score of a row is that to its nearest vector."""

    vectors: Floats
    drop: Ids
    places: Sequence[tuple[int | None, float]] = ()  # (channel, start_s) of every vector, where they are windows


class QueryBuilder:
    """Makes questions in one view of a collection.

    `exclude_self` leaves the rows of what is asked about out of the answer; None does so for rows, and not for files.
    """

    def __init__(
        self, store: Store, load_embedder: Callable[[], "Embedder"], view: str, metric: str, exclude_self: bool | None
    ) -> None:
        self.store = store
        self.load_embedder = load_embedder
        self.view = view
        self.metric = metric
        self.exclude_self = exclude_self

    def of_files(self, items: Sequence[Item]) -> "list[Query | AudioError]":
        """Embed recordings or stretches by the recipe of the collection; say why where one cannot be used."""
        usable = [item for item in items if not item.problem]
        heard = iter(self.load_embedder().embed_files([(one.path, one.start_s, one.end_s) for one in usable]))
        return [
            AudioError("outside", one.problem) if one.problem else self._of_heard(one, next(heard)) for one in items
        ]

    def of_file(self, query: str | os.PathLike[str]) -> Query:
        """Embed a recording, or `file#start-end` in seconds.

        Raises:
            AudioError: it cannot be read.
        """
        (found,) = self.of_files([Item(*parse_query(os.fspath(query)))])
        if isinstance(found, AudioError):
            raise found
        return found

    def of_row(self, number: int) -> Query:
        """Take the stored vector of a row.

        Raises:
            UsageError: there is no such row.
        """
        ids, vectors = self.store.vectors(self.view, [number])
        if not len(ids):
            raise UsageError(
                f"There is no row {number} in {self.store.folder}. `embedx search` and rows() show the ids."
            )
        return Query(vectors, NOTHING if self.exclude_self is False else ids)

    def of_vector(self, vector: Any) -> Query:
        """Take a vector [D], or several [Q, D], as an array or a file that numpy.save wrote; see `read_vectors`."""
        return Query(read_vectors(vector, self.store.views[self.view]), NOTHING)

    def of_examples(self, like: Sequence[Any], unlike: Sequence[Any]) -> Query:
        """Ask for what is like some examples and unlike others: 2 mean(like) - mean(unlike), or mean(like) alone.

        An example is a file, a stretch or a row, and counts once, as the mean over its windows, each of length 1 for
        the cosine. The sum is the relevance feedback of Rocchio (1971) without a first query, with the weights 2 and 1:
        it goes from the mean of the good ones as far again as that lies from the bad ones.

        Raises:
            UsageError: there is nothing to be like, or an example is neither a file nor a row.
        """
        if not like:
            raise UsageError("unlike says what to keep away from: give like too, at least one example to be near.")
        asked = [self._of_example(one) for one in (*like, *unlike)]
        means = np.stack([prepare(one.vectors, self.metric).mean(axis=0) for one in asked])
        wanted = means[: len(like)].mean(axis=0)
        if len(unlike):
            wanted = 2 * wanted - means[len(like) :].mean(axis=0)
        return Query(wanted[None], np.unique(np.concatenate([one.drop for one in asked])))

    def of_text(self, text: str) -> Query:
        """Embed a sentence, in a collection whose model has one space for sound and text.

        Raises:
            ModelError: the model makes vectors of sound only.
            UsageError: there is no text, or the view is of another layer than the space of both.
        """
        if not text.strip():
            raise UsageError('The text is empty: describe a sound, as in "a dog barks in the rain".')
        return Query(self.load_embedder().embed_text(text, self.view), NOTHING)

    def _of_heard(self, item: Item, heard: "EmbeddedFile | AudioError") -> "Query | AudioError":
        if isinstance(heard, AudioError):
            return heard
        try:
            drop = self._rows_in(item) if self.exclude_self else NOTHING
        except AudioError as error:
            return error
        return Query(heard.vectors[self.view], drop, heard.places)

    def _of_example(self, example: Any) -> Query:
        if isinstance(example, (int, np.integer)) and not isinstance(example, bool):
            return self.of_row(int(example))
        if not isinstance(example, (str, os.PathLike)):
            raise UsageError(f"An example is an audio file, a stretch as in a.wav#2-5, or a row id, not {example!r}.")
        name = os.fspath(example)
        is_row = re.fullmatch(r"\d{1,18}", name) is not None and not os.path.exists(name)
        return self.of_row(int(name)) if is_row else self.of_file(name)

    def _rows_in(self, item: Item) -> Ids:
        """Return the rows that share time with an item, also where the collection knows its file by another name."""
        rows = rows_of_file(self.store, item.path)
        return np.array([row.id for row in rows if overlaps(row, item.start_s, item.end_s)], np.int64)


def read_vectors(vector: Any, dim: int) -> Floats:
    """Return query vectors [Q, D] of an array [D] or [Q, D], or of a file that numpy.save wrote.

    Raises:
        UsageError: it is no array of that dimension, or not finite.
    """
    if isinstance(vector, (str, os.PathLike)):
        if not os.path.isfile(vector):  # a FIFO would block for ever
            raise UsageError(f"There is no .npy file {display_path(os.fspath(vector))}, or it is no regular file.")
        try:
            vector = np.load(vector, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{display_path(os.fspath(vector))} cannot be read as a .npy file of numbers: {error}"
            ) from error
    try:
        vectors = np.atleast_2d(np.asarray(vector, np.float32))
    except (TypeError, ValueError) as error:
        raise UsageError(f"The query is no vector of numbers: {error}") from error
    if vectors.ndim != 2 or vectors.shape[1] != dim or not len(vectors) or not np.isfinite(vectors).all():
        raise UsageError(f"A query vector has {dim} finite numbers here; the shape given is {list(np.shape(vector))}.")
    return vectors


def parse_query(query: str) -> tuple[str, float, float | None]:
    """Split `file#start-end`, in seconds, into its parts; a file whose own name looks so is taken as it is.

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
        raise UsageError(f"The stretch {match[2]}-{match[3]} is empty: give start and end in seconds, as in a.wav#2-5.")
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


def rows_of_file(store: Store, path: str) -> list[Row]:
    """Return the rows of a recording, also where the collection knows it by another name."""
    try:
        paths = {os.path.abspath(path), *store.paths_of(hash_content(path))}
    except OSError as error:
        raise AudioError("unreadable", f"{display_path(path)} cannot be read: {error}") from error
    return [row for one in sorted(paths) for row in store.rows(path=one)]


def overlaps(row: Row, start_s: float, end_s: float | None) -> bool:
    """Tell whether a row shares time with a stretch."""
    return row.end_s > start_s and (end_s is None or row.start_s < end_s)
