"""Alignment: where in each recording the windows of a query lie, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embedx.index.matrix import Floats, Ids
from embedx.index.vector_index import VectorIndex
from embedx.search.queries import Query
from embedx.store.store import Store

MOST_SCORES = 1 << 23  # scores of windows that are held at a time: 32 MB of float32
PAGE = 10_000  # rows that are read from the store at a time


@dataclass(frozen=True)
class Track:
    """The rows of a recording, or of one of its channels, in the order of time."""

    path: str
    ids: Ids  # [R]
    starts_s: Floats
    ends_s: Floats


@dataclass(frozen=True)
class Alignment:
    """The best place of a query in a recording: its first row, its stretch, and the query's moment that lies there."""

    id: int
    score: float
    path: str
    start_s: float
    end_s: float
    query_start_s: float


def align(store: Store, index: VectorIndex, question: Query, keep: Ids | None) -> list[Alignment]:
    """Return for every recording the offset at which the windows of a query fit best, best recordings first.

    The shorter of query and recording lies wholly inside the longer, window on window in the order of time; the score
    is the mean over these pairs. The first and last windows of a file may overlap more than others (tail "keep").
    """
    voices = channels_of(question)
    allowed = index.ids if keep is None else np.intersect1d(index.ids, keep)
    tracks = tracks_of(store, np.setdiff1d(allowed, question.drop))
    best: dict[str, Alignment] = {}
    for some in chunks(tracks, max(1, MOST_SCORES // len(question.vectors))):
        ids, scores = index.scores(question.vectors, keep=np.concatenate([track.ids for track in some]))
        for track in some:
            places = np.searchsorted(ids, track.ids)
            for voice in voices:
                found = best_alignment(
                    scores[np.ix_(np.array(voice), places)], track, [question.places[i][1] for i in voice]
                )
                if track.path not in best or found.score > best[track.path].score:
                    best[track.path] = found
    return sorted(best.values(), key=lambda one: (-one.score, one.id))


def best_alignment(scores: Floats, track: Track, query_starts_s: Sequence[float]) -> Alignment:
    """Lay a query of windows [W] on a track [R] by the scores [W, R] of all pairs."""
    mean, window, row = best_diagonal(scores)
    last = row + min(scores.shape) - 1
    start_s, end_s = float(track.starts_s[row]), float(track.ends_s[last])
    return Alignment(int(track.ids[row]), mean, track.path, start_s, end_s, query_starts_s[window])


def best_diagonal(scores: Floats) -> tuple[float, int, int]:
    """Return the highest mean of a diagonal that crosses a matrix [W, R] from side to side, and where it begins.

    >>> best_diagonal(np.array([[0, 1, 0, 0], [0, 0, 1, 0]], np.float32))
    (1.0, 0, 1)
    >>> best_diagonal(np.array([[0, 0], [1, 0], [0, 1]], np.float32))
    (1.0, 1, 0)
    """
    if len(scores) > scores.shape[1]:
        mean, row, window = best_diagonal(scores.T)
        return mean, window, row
    scores = np.ascontiguousarray(scores)
    short, long = scores.shape
    down, right = scores.strides
    diagonals = np.lib.stride_tricks.as_strided(scores, (long - short + 1, short), (right, down + right))
    means = diagonals.mean(axis=1, dtype=np.float64)
    first = int(np.argmax(means))
    return float(means[first]), 0, first


def channels_of(question: Query) -> list[list[int]]:
    """Return the places of the query's windows, channel by channel, in the order of time."""
    voices: dict[int | None, list[int]] = {}
    for place, (channel, _) in sorted(enumerate(question.places), key=lambda one: one[1][1]):
        voices.setdefault(channel, []).append(place)
    return list(voices.values())


def tracks_of(store: Store, ids: Ids) -> list[Track]:
    """Return the rows as tracks, one for each recording and channel."""
    found: dict[tuple[str, object], list[tuple[float, float, int]]] = {}
    for start in range(0, len(ids), PAGE):
        for row in store.rows(ids[start : start + PAGE].tolist()):
            found.setdefault((row.path, row.meta.get("channel")), []).append((row.start_s, row.end_s, row.id))
    tracks = []
    for (path, _), rows in found.items():
        starts_s, ends_s, numbers = zip(*sorted(rows), strict=True)
        tracks.append(Track(path, np.array(numbers, np.int64), np.array(starts_s), np.array(ends_s)))
    return tracks


def chunks(tracks: Sequence[Track], rows: int) -> Iterator[list[Track]]:
    """Yield tracks together that have no more than so many rows; one that has more comes alone."""
    some: list[Track] = []
    for track in tracks:
        if some and sum(len(one.ids) for one in some) + len(track.ids) > rows:
            yield some
            some = []
        some.append(track)
    if some:
        yield some
