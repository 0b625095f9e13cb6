"""Ranking: scores of rows -> which of them, in which order. Numpy alone; every way equals its definition."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from embedx.index.exact import score
from embedx.index.matrix import Floats, Ids
from embedx.search.hits import Hit

Thing = TypeVar("Thing")

TOUCH_S = 1e-6  # seconds between two windows that touch: far below a sample, far above the rounding of a time


def rank(ids: Ids, scores: Floats) -> tuple[Ids, Floats]:
    """Sort rows by their scores [N], best first, equal ones by id.

    >>> rank(np.array([1, 2, 3]), np.array([0.5, 0.9, 0.5], np.float32))[0].tolist()
    [2, 1, 3]
    """
    order = np.lexsort((ids, -scores))
    return ids[order], scores[order]


def best_of(ids: Ids, scores: Floats) -> tuple[Ids, Floats]:
    """Rank what several query vectors have found, ids and scores of one shape: each row once, with its best score.

    >>> [one.tolist() for one in best_of(np.array([[7, 8], [8, 9]]), np.array([[0.5, 0.25], [0.75, 0.125]]))]
    [[8, 7, 9], [0.75, 0.5, 0.125]]
    """
    ids, scores = rank(ids.ravel(), scores.ravel())
    first = np.sort(np.unique(ids, return_index=True)[1])
    return ids[first], scores[first]


def in_band(ids: Ids, scores: Floats, low: float, high: float, k: int) -> tuple[Ids, Floats]:
    """Return of ranked rows those with a score from low to high; if more than k, those nearest to the middle.

    >>> in_band(np.array([4, 5, 6, 7]), np.array([0.9, 0.7, 0.6, 0.2], np.float32), 0.1, 0.8, 2)[0].tolist()
    [5, 6]
    """
    inside = np.flatnonzero((scores >= low) & (scores <= high))
    apart = np.abs(scores[inside].astype(np.float64) - (low + high) / 2)
    kept = np.sort(inside[np.argsort(apart, kind="stable")[:k]])
    return ids[kept], scores[kept]


def mmr(scores: Floats, vectors: Floats, weight: float, k: int, metric: str) -> Ids:
    """Choose k of ranked candidates [C, D], each like the query and unlike those before it; return their places [K].

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next one has the highest
    weight * score - (1 - weight) * its highest score to one that is chosen already. The first is the best.

    >>> same = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    >>> mmr(np.array([0.9, 0.9, 0.5], np.float32), same, 0.5, 2, "cosine").tolist()
    [0, 2]
    """
    chosen: list[int] = []
    nearest = np.full(len(scores), -np.inf, np.float32)
    worth = scores
    for _ in range(min(k, len(scores))):
        place = int(np.argmax(worth))
        chosen.append(place)
        nearest = np.maximum(nearest, score(vectors[place : place + 1], vectors, metric)[0])
        worth = weight * scores - (1 - weight) * nearest
        worth[chosen] = -np.inf
    return np.array(chosen, np.int64)


def first_of_each(ranked: Iterable[Thing], value: Callable[[Thing], object], k: int) -> Iterator[Thing]:
    """Yield the first of every value, up to k of them.

    >>> list(first_of_each("abcABC", str.lower, 2)), list(first_of_each("aAb", str.lower, 5))
    (['a', 'b'], ['a', 'b'])
    """
    seen = set()
    for one in ranked:
        if (group := value(one)) not in seen:
            seen.add(group)
            yield one
            if len(seen) == k:
                return


@dataclass
class Stretch:
    """Hits of one recording that overlap or touch. `rank` is the place of the best among all hits."""

    rank: int
    hit: Hit

    def touches(self, hit: Hit) -> bool:
        """Tell whether a hit of the same recording overlaps or touches."""
        return self.hit.start_s <= hit.end_s + TOUCH_S and hit.start_s <= self.hit.end_s + TOUCH_S

    def join(self, other: "Stretch") -> "Stretch":
        """Return both as one: the whole time, with the row and score of the better."""
        first = min(self, other, key=lambda one: one.rank)
        start_s, end_s = min(self.hit.start_s, other.hit.start_s), max(self.hit.end_s, other.hit.end_s)
        return Stretch(first.rank, replace(first.hit, start_s=start_s, end_s=end_s))


def merge_touching(ranked: Iterable[Hit], k: int) -> list[Hit]:
    """Join hits of one recording and channel that overlap or touch, in rank order until stretch k + 1 would begin.

    >>> hits = [Hit(i, 1 - i / 10, "a", s, s + 1.0, None, {}) for i, s in enumerate([5.0, 0.0, 6.0, 9.0])]
    >>> [(hit.id, hit.start_s, hit.end_s) for hit in merge_touching(hits, 2)]
    [(0, 5.0, 7.0), (1, 0.0, 1.0)]
    """
    tracks: dict[object, list[Stretch]] = {}
    count = 0
    for place, hit in enumerate(ranked):
        track = tracks.setdefault((hit.path, hit.meta.get("channel")), [])
        joined = [one for one in track if one.touches(hit)]
        if not joined and count == k:
            break
        new = Stretch(place, hit)
        for one in joined:
            track.remove(one)
            new = new.join(one)
        track.append(new)
        count += 1 - len(joined)
    return [one.hit for one in sorted((one for track in tracks.values() for one in track), key=lambda one: one.rank)]
