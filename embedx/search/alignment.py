"""Alignment: the place in every recording where the windows of a query match best, in the order of time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embedx.index.matrix import Floats, Ids
from embedx.search.queries import Query
from embedx.search.searched import SearchedIndex, SearchedRows
from embedx.search.several import MAX_ROWS

MAX_SCORES = 1 << 23  # scores in memory at a time: 32 MB of float32
PAGE = 10_000  # rows that are read from the store at a time


@dataclass(frozen=True)
class Track:
    """The rows of a recording, or of one channel of it, in the order of time."""

    path: str
    ids: Ids  # [R]
    starts_s: Floats  # [R]
    ends_s: Floats  # [R]


@dataclass(frozen=True)
class Alignment:
    """The best place of a query in a recording: its first row, its time, and where in the query it begins."""

    id: int
    score: float
    path: str
    start_s: float
    end_s: float
    query_start_s: float


def align(store: SearchedRows, index: SearchedIndex, query: Query, include_ids: Ids | None) -> list[Alignment]:
    """Return the best offset of a query's windows in every recording, best recordings first.

    The shorter of query and recording lies completely inside the longer one, window on window in the order of time.
    The score is the mean over these pairs of windows. With the tail "keep" the last window of a file may overlap the
    one before it more than others.
    """
    channels = channels_of(query)
    allowed = index.ids if include_ids is None else np.intersect1d(index.ids, include_ids)
    tracks = tracks_of(store, np.setdiff1d(allowed, query.exclude_ids))
    best: dict[str, Alignment] = {}
    for chunk in chunks(tracks, max(1, MAX_SCORES // len(query.vectors))):
        chunk_ids = np.concatenate([track.ids for track in chunk])
        ids, scores = index.scores(query.vectors, include_ids=chunk_ids)
        for track in chunk:
            columns = np.searchsorted(ids, track.ids)
            for windows in channels:
                starts_s = [query.places[window][1] for window in windows]
                alignment = best_alignment(scores[np.ix_(np.array(windows), columns)], track, starts_s)
                if track.path not in best or alignment.score > best[track.path].score:
                    best[track.path] = alignment
    return sorted(best.values(), key=lambda alignment: (-alignment.score, alignment.id))


def best_alignment(scores: Floats, track: Track, query_starts_s: Sequence[float]) -> Alignment:
    """Return the best place of query windows [W] in a track [R], from the scores [W, R] of all pairs."""
    mean, window, row = best_diagonal(scores)
    last = row + min(scores.shape) - 1
    start_s, end_s = float(track.starts_s[row]), float(track.ends_s[last])
    return Alignment(int(track.ids[row]), mean, track.path, start_s, end_s, query_starts_s[window])


def best_diagonal(scores: Floats) -> tuple[float, int, int]:
    """Return the highest mean of a diagonal that crosses the whole matrix [W, R], and the place where it begins.

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


def channels_of(query: Query) -> list[list[int]]:
    """Return the numbers of the query's windows, one list per channel, each in the order of time."""
    channels: dict[int | None, list[int]] = {}
    for window, (channel, _) in sorted(enumerate(query.places), key=lambda pair: pair[1][1]):
        channels.setdefault(channel, []).append(window)
    return list(channels.values())


def tracks_of(store: SearchedRows, ids: Ids) -> list[Track]:
    """Return the rows as tracks, one for each recording and channel of each collection."""
    rows_of: dict[tuple[str, object, int], list[tuple[float, float, int]]] = {}
    for start in range(0, len(ids), PAGE):
        for row in store.rows(ids[start : start + PAGE].tolist()):
            place = row.path, row.meta.get("channel"), row.id // MAX_ROWS
            rows_of.setdefault(place, []).append((row.start_s, row.end_s, row.id))
    tracks = []
    for (path, *_), rows in rows_of.items():
        starts_s, ends_s, numbers = zip(*sorted(rows), strict=True)
        tracks.append(Track(path, np.array(numbers, np.int64), np.array(starts_s), np.array(ends_s)))
    return tracks


def chunks(tracks: Sequence[Track], max_rows: int) -> Iterator[list[Track]]:
    """Yield tracks in groups of at most `max_rows` rows; a longer track is a group of its own."""
    chunk: list[Track] = []
    for track in tracks:
        if chunk and sum(len(member.ids) for member in chunk) + len(track.ids) > max_rows:
            yield chunk
            chunk = []
        chunk.append(track)
    if chunk:
        yield chunk
