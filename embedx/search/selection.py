"""Selection: scores of rows -> the rows that are hits, and their order. Uses NumPy only."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from embedx.index.exact import score_pairs
from embedx.index.matrix import Floats, Ids
from embedx.search.hit import Hit

T = TypeVar("T")

TOUCH_S = 1e-6  # gap in seconds up to which two windows touch: less than a sample, more than the rounding of a time


def rank(ids: Ids, scores: Floats) -> tuple[Ids, Floats]:
    """Sort rows by their scores [N], best first; rows of equal score by id.

    >>> rank(np.array([1, 2, 3]), np.array([0.5, 0.9, 0.5], np.float32))[0].tolist()
    [2, 1, 3]
    """
    order = np.lexsort((ids, -scores))
    return ids[order], scores[order]


def best_of(ids: Ids, scores: Floats) -> tuple[Ids, Floats]:
    """Rank the results [Q, K] of several query vectors: each row once, with its best score.

    >>> [array.tolist() for array in best_of(np.array([[7, 8], [8, 9]]), np.array([[0.5, 0.25], [0.75, 0.125]]))]
    [[8, 7, 9], [0.75, 0.5, 0.125]]
    """
    ids, scores = rank(ids.ravel(), scores.ravel())
    first = np.sort(np.unique(ids, return_index=True)[1])
    return ids[first], scores[first]


def in_band(ids: Ids, scores: Floats, low: float, high: float, k: int) -> tuple[Ids, Floats]:
    """Return the ranked rows with a score from low to high; if there are more than k, the nearest to the middle.

    >>> in_band(np.array([4, 5, 6, 7]), np.array([0.9, 0.7, 0.6, 0.2], np.float32), 0.1, 0.8, 2)[0].tolist()
    [5, 6]
    """
    inside = np.flatnonzero((scores >= low) & (scores <= high))
    distances = np.abs(scores[inside].astype(np.float64) - (low + high) / 2)
    kept = np.sort(inside[np.argsort(distances, kind="stable")[:k]])
    return ids[kept], scores[kept]


def mmr(scores: Floats, vectors: Floats, weight: float, k: int, metric: str) -> Ids:
    """Choose k of the ranked candidates [C, D] by maximal marginal relevance; return their places [K].

    Carbonell and Goldstein, SIGIR 1998. The first choice is the best candidate; the next one has the highest value of
    weight * score - (1 - weight) * (its highest score to a candidate that is already chosen).

    >>> same = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    >>> mmr(np.array([0.9, 0.9, 0.5], np.float32), same, 0.5, 2, "cosine").tolist()
    [0, 2]
    """
    chosen: list[int] = []
    nearest = np.full(len(scores), -np.inf, np.float32)
    values = scores
    for _ in range(min(k, len(scores))):
        place = int(np.argmax(values))
        chosen.append(place)
        nearest = np.maximum(nearest, score_pairs(vectors[place], vectors, metric))
        values = weight * scores - (1 - weight) * nearest
        values[chosen] = -np.inf
    return np.array(chosen, np.int64)


def first_of_each(ranked: Iterable[T], value: Callable[[T], object], k: int) -> Iterator[T]:
    """Yield the first item of every value, at most k items.

    >>> list(first_of_each("abcABC", str.lower, 2)), list(first_of_each("aAb", str.lower, 5))
    (['a', 'b'], ['a', 'b'])
    """
    seen = set()
    for item in ranked:
        if (group := value(item)) not in seen:
            seen.add(group)
            yield item
            if len(seen) == k:
                return


@dataclass
class Span:
    """Hits of one recording that overlap or touch. `rank` is the place of the best one among all hits."""

    rank: int
    hit: Hit

    def touches(self, hit: Hit) -> bool:
        """Tell whether a hit of the same recording overlaps or touches this span."""
        return self.hit.start_s <= hit.end_s + TOUCH_S and hit.start_s <= self.hit.end_s + TOUCH_S

    def join(self, other: "Span") -> "Span":
        """Return both spans as one, with the row and the score of the better one."""
        better = min(self, other, key=lambda span: span.rank)
        start_s, end_s = min(self.hit.start_s, other.hit.start_s), max(self.hit.end_s, other.hit.end_s)
        return Span(better.rank, replace(better.hit, start_s=start_s, end_s=end_s))


def merge_touching(ranked: Iterable[Hit], k: int) -> list[Hit]:
    """Join hits of one recording and channel that overlap or touch; stop at the hit that would begin span k + 1.

    >>> hits = [Hit(i, 1 - i / 10, "a", s, s + 1.0, None, {}) for i, s in enumerate([5.0, 0.0, 6.0, 9.0])]
    >>> [(hit.id, hit.start_s, hit.end_s) for hit in merge_touching(hits, 2)]
    [(0, 5.0, 7.0), (1, 0.0, 1.0)]
    """
    spans_of: dict[object, list[Span]] = {}
    count = 0
    for place, hit in enumerate(ranked):
        spans = spans_of.setdefault((hit.path, hit.meta.get("channel")), [])
        touching = [span for span in spans if span.touches(hit)]
        if not touching and count == k:
            break
        joined = Span(place, hit)
        for span in touching:
            spans.remove(span)
            joined = joined.join(span)
        spans.append(joined)
        count += 1 - len(touching)
    every = [span for spans in spans_of.values() for span in spans]
    return [span.hit for span in sorted(every, key=lambda span: span.rank)]
