"""Thresholds: per-class decision thresholds for a target precision or recall.

Precision and recall are measured once, on calibrated probabilities of held-out rows, and kept with the head as up to
200 operating points per class.
"""

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.heads.inference import Floats
from embedx.heads.preprocessing import Array, Arrays

MAX_POINTS = 200  # per class; recalls are then at most about 0.005 apart


def operating_points(proba: Array, y: Array, multilabel: bool) -> dict[str, Array]:
    """Measure the operating points of each class.

    Only points are kept for which no other point has both a higher precision and a higher recall.

    Args:
        proba: probabilities [N, C] of held-out rows.
        y: class numbers [N]; multi-label: [N, C] of 0 and 1.
        multilabel: whether y is [N, C].

    Returns:
        `points` [C, P, 3]: threshold, precision and recall, by decreasing threshold; unused points are NaN.

    Raises:
        UsageError: the shapes do not agree.
    """
    proba, y = np.asarray(proba, np.float64), np.asarray(y)
    if proba.ndim != 2 or y.shape != (proba.shape if multilabel else proba.shape[:1]):
        raise UsageError(f"proba [N, C] and y do not agree; their shapes are {list(proba.shape)} and {list(y.shape)}.")
    by_class = [find_points(proba[:, c], y[:, c] == 1 if multilabel else y == c) for c in range(proba.shape[1])]
    points = np.full((len(by_class), max(map(len, by_class)), 3), np.nan)
    for c, class_points in enumerate(by_class):
        points[c, : len(class_points)] = class_points
    return {"points": points}


def find_points(scores: Floats, truth: NDArray[np.bool_]) -> Floats:
    """Return [P, 3] of threshold, precision and recall of one class, by decreasing threshold.

    A threshold lies half-way between two scores, so that rounding cannot move a row to the other side.

    >>> find_points(np.array([0.9, 0.8, 0.5, 0.1]), np.array([True, False, True, False])).round(2).tolist()
    [[0.85, 1.0, 0.5], [0.3, 0.67, 1.0]]
    """
    if not truth.any():
        return np.zeros((0, 3))
    levels, inverse = np.unique(scores, return_inverse=True)
    predicted = np.bincount(inverse)[::-1].cumsum()
    correct = np.bincount(inverse, truth)[::-1].cumsum()
    lower = np.append(levels[-2::-1], levels[0])
    points = np.stack([(levels[::-1] + lower) / 2, correct / predicted, correct / truth.sum()], axis=1)
    best_later = np.append(np.maximum.accumulate(points[:0:-1, 1])[::-1], 0)  # the best precision at a higher recall
    gains = np.diff(correct, prepend=0) > 0
    front = points[gains & (points[:, 1] > best_later)]
    if len(front) > MAX_POINTS:
        front = front[np.linspace(0, len(front) - 1, MAX_POINTS).round().astype(np.int64)]
    return np.asarray(front)


def pick_thresholds(arrays: Arrays, precision: float | None, recall: float | None) -> NDArray[np.float64]:
    """Return the thresholds [C] with the highest recall at a precision, or the highest precision at a recall.

    A class that cannot reach it gets infinity, so that it is never predicted.

    Raises:
        UsageError: not exactly one of the two is given, or it is not above 0 and up to 1.
    """
    if (precision is None) == (recall is None):
        raise UsageError("Give either precision or recall.")
    name, wanted = ("precision", precision) if precision is not None else ("recall", recall)
    if wanted is None or not 0 < wanted <= 1:
        raise UsageError(f"{name}={wanted} is not allowed: give a number above 0 and at most 1.")
    chosen, other = (1, 2) if recall is None else (2, 1)
    thresholds = np.full(len(arrays["points"]), np.inf)
    for c, points in enumerate(arrays["points"]):
        reached = points[points[:, chosen] >= wanted]  # False for NaN
        if len(reached):
            thresholds[c] = reached[reached[:, other].argmax(), 0]
    return thresholds
