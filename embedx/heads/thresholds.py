"""Thresholds: where a class must begin to be named, so that a wanted precision or recall is reached.

What can be reached is measured once, on calibrated probabilities of rows that the head was not trained on, and kept
with the head as a few points for each class.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.heads.inference import Floats
from embedx.heads.preprocessing import Array, Arrays

MOST = 200  # points of a class; more would tell apart recalls that differ by less than 0.005


def operating_points(proba: Array, y: Array, multilabel: bool) -> dict[str, Array]:
    """Return `points` [C, P, 3]: threshold, precision and recall, by falling threshold; unused ones are not a number.

    Only points at which no other has both more precision and more recall are kept, of those at most 200 for a class.

    Args:
        proba: probabilities [N, C] of held-out rows.
        y: what is true of them, as `fit` takes it.
        multilabel: whether y is [N, C].

    Raises:
        UsageError: shapes that do not agree.
    """
    proba, y = np.asarray(proba, np.float64), np.asarray(y)
    if proba.ndim != 2 or y.shape != (proba.shape if multilabel else proba.shape[:1]):
        raise UsageError(f"Probabilities [N, C] go with y; these are {list(proba.shape)} and {list(y.shape)}.")
    found = [find_points(proba[:, one], y[:, one] == 1 if multilabel else y == one) for one in range(proba.shape[1])]
    points = np.full((len(found), max(len(one) for one in found), 3), np.nan)
    for one, rows in enumerate(found):
        points[one, : len(rows)] = rows
    return {"points": points}


def find_points(scores: Floats, truth: NDArray[np.bool_]) -> Floats:
    """Return [P, 3] of threshold, precision and recall of one class, by falling threshold.

    A threshold lies half-way to the next lower score, where no rounding can take a row to the other side.

    >>> find_points(np.array([0.9, 0.8, 0.5, 0.1]), np.array([True, False, True, False])).round(2).tolist()
    [[0.85, 1.0, 0.5], [0.3, 0.67, 1.0]]
    """
    if not truth.any():
        return np.zeros((0, 3))
    levels, inverse = np.unique(scores, return_inverse=True)
    named = np.bincount(inverse)[::-1].cumsum()
    right = np.bincount(inverse, truth)[::-1].cumsum()
    lower = np.append(levels[-2::-1], levels[0])
    points = np.stack([(levels[::-1] + lower) / 2, right / named, right / truth.sum()], axis=1)
    later = np.append(np.maximum.accumulate(points[:0:-1, 1])[::-1], 0)  # the best precision at a higher recall
    gains = np.diff(right, prepend=0) > 0
    front = points[gains & (points[:, 1] > later)]
    if len(front) > MOST:
        front = front[np.linspace(0, len(front) - 1, MOST).round().astype(np.int64)]
    return np.asarray(front)


def pick_thresholds(arrays: Arrays, precision: float | None, recall: float | None) -> NDArray[np.float64]:
    """Return thresholds [C]: the most recall at the precision, or the most precision at the recall.

    A class that cannot reach it gets infinity, so that it is never named.

    Raises:
        UsageError: not exactly one of the two is given, or it is no share.
    """
    wanted: Any = precision if recall is None else recall
    if (precision is None) == (recall is None) or not 0 < wanted <= 1:
        raise UsageError(f"Give a precision or a recall above 0 and up to 1, not {precision} and {recall}.")
    chosen, other = (1, 2) if recall is None else (2, 1)
    thresholds = np.full(len(arrays["points"]), np.inf)
    for one, points in enumerate(arrays["points"]):
        enough = points[points[:, chosen] >= wanted]  # never true of what is not a number
        if len(enough):
            thresholds[one] = enough[enough[:, other].argmax(), 0]
    return thresholds
