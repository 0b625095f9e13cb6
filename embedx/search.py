"""Search: by file, by id or by vector -> hits.

A question is one or several query vectors and the rows that are not to be found; the score of a row is that of its
nearest query vector.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from embedx.audio import hash_content
from embedx.errors import AudioError, UsageError
from embedx.index import VectorIndex
from embedx.store import Row, Store

if TYPE_CHECKING:
    import pandas as pd

    from embedx.embedder import Embedder

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Hit:
    """A row and its score: the cosine to the query, 1 for the same direction."""

    id: int
    score: float
    path: str
    start_s: float
    end_s: float
    label: str | None
    meta: Mapping[str, Any]


class Hits(Sequence[Hit]):
    """Hits, best first; a sequence that also turns into a pandas frame."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._hits = list(hits)

    def __len__(self) -> int:
        return len(self._hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> "Hits": ...
    def __getitem__(self, index: int | slice) -> "Hit | Hits":
        return Hits(self._hits[index]) if isinstance(index, slice) else self._hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    def __repr__(self) -> str:
        return "Hits([\n" + "".join(f"  {hit},\n" for hit in self._hits) + "])"

    def to_pandas(self) -> "pd.DataFrame":
        """Return a frame with the columns id, score, path, start_s, end_s, label and one for each metadata column."""
        import pandas as pd

        fixed = ["id", "score", "path", "start_s", "end_s", "label"]
        names = list(dict.fromkeys(name for hit in self for name in hit.meta))
        columns = {name: [getattr(hit, name) for hit in self] for name in fixed}
        columns |= {name: [hit.meta.get(name) for hit in self] for name in names}
        columns["path"] = pd.Series(columns["path"], dtype=object)  # type: ignore[assignment]  # holds names that are no UTF-8
        return pd.DataFrame(columns)


@dataclass(frozen=True)
class Question:
    """Query vectors [Q, D] and the ids of rows that are no answer."""

    vectors: NDArray[np.float32]
    drop: Ids


def ask_file(store: Store, embedder: "Embedder", query: str, view: str, exclude_self: bool) -> Question:
    """Embed a recording, or `file#start-end` in seconds, by the recipe of the collection.

    Raises:
        AudioError: it cannot be read.
    """
    path, start_s, end_s = parse_query(query)
    vectors = embedder.embed_file(path, start_s, end_s)[view]
    drop = [row.id for row in rows_of_file(store, path) if overlaps(row, start_s, end_s)] if exclude_self else []
    return Question(vectors, np.array(drop, np.int64))


def ask_id(store: Store, number: int, view: str, exclude_self: bool) -> Question:
    """Take the stored vector of a row.

    Raises:
        UsageError: there is no such row.
    """
    ids, vectors = store.vectors(view, [number])
    if not len(ids):
        raise UsageError(f"There is no row {number} in {store.folder}. `embedx search` and rows() show the ids.")
    return Question(vectors, ids if exclude_self else ids[:0])


def ask_vector(vector: Any, dim: int) -> Question:
    """Take a vector [D], or several [Q, D], as an array or a file that numpy.save wrote.

    Raises:
        UsageError: it is no array of that dimension, or not finite.
    """
    if isinstance(vector, (str, os.PathLike)):
        if not os.path.isfile(vector):  # a FIFO would block for ever
            raise UsageError(f"There is no file {os.fspath(vector)}, or it is no regular one.")
        try:
            vector = np.load(vector, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"{os.fspath(vector)} cannot be read as a .npy file of numbers: {error}") from error
    try:
        vectors = np.atleast_2d(np.asarray(vector, np.float32))
    except (TypeError, ValueError) as error:
        raise UsageError(f"The query is no vector of numbers: {error}") from error
    if vectors.ndim != 2 or vectors.shape[1] != dim or not len(vectors) or not np.isfinite(vectors).all():
        raise UsageError(f"A query vector has {dim} finite numbers here; the shape given is {list(np.shape(vector))}.")
    return Question(vectors, np.zeros(0, np.int64))


def answer(store: Store, index: VectorIndex, question: Question, k: int, keep: Ids | None) -> Hits:
    """Return the k nearest rows, of those in `keep` if it is given; fewer only where there are fewer."""
    if k < 1:
        raise UsageError(f"k says how many hits are wanted, at least 1, not {k}.")
    scores, ids = index.search(question.vectors, k, keep=keep, drop=question.drop)
    best: dict[int, float] = {}
    for number, score in zip(ids.ravel().tolist(), scores.ravel().tolist(), strict=True):
        best[number] = max(score, best.get(number, -2.0))
    ranked = sorted(best, key=lambda number: (-best[number], number))[:k]
    rows = {row.id: row for row in store.rows(ranked)}
    return Hits([hit(rows[number], best[number]) for number in ranked if number in rows])


def hit(row: Row, score: float) -> Hit:
    """Put a row and its score together."""
    return Hit(row.id, score, row.path, row.start_s, row.end_s, row.label, row.meta)


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


def rows_of_file(store: Store, path: str) -> list[Row]:
    """Return the rows of a recording, also where the collection knows it by another name."""
    try:
        paths = {os.path.abspath(path), *store.paths_of(hash_content(path))}
    except OSError as error:
        raise AudioError("unreadable", f"{path} cannot be read: {error}") from error
    return [row for one in sorted(paths) for row in store.rows(path=one)]


def overlaps(row: Row, start_s: float, end_s: float | None) -> bool:
    """Tell whether a row shares time with a stretch."""
    return row.end_s > start_s and (end_s is None or row.start_s < end_s)
