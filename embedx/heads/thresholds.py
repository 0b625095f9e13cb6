"""Thresholds: per-class decision thresholds for a wanted precision or recall on new rows.

The points of a class are some of its possible thresholds, each with the evidence that held-out rows give on its
precision and recall. A threshold is chosen by lower bounds over groups. To try many thresholds and take the best would
be a selection that no single bound covers, so they are tried in an order that does not depend on the labels, up to the
first one that fails (fixed sequence testing): for a recall from low to high thresholds, for a precision from high to
low ones, from a few starts that share the probability of an error (Bonferroni).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.arguments.types import read_numbers
from embedx.errors import UsageError
from embedx.heads.evidence import CONFIDENCE, least_groups, lower_bounds, ratio_evidence
from embedx.heads.inference import Floats
from embedx.heads.preprocessing import Array

MAX_POINTS = 100  # per class: for 1000 predicted rows, each point then has 7 % more rows than the one before
COLUMNS = 9  # of a point: the threshold, then the evidence on precision, then that on recall
PRECISION, RECALL = slice(1, 5), slice(5, 9)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds for a wanted precision or recall.

    Attributes:
        values: [C]; infinity for a class that gets none, so that it is never predicted.
        too_few: [C] classes without one because fewer groups of held-out rows have the class than can show it.
        least: that number of groups.
    """

    values: NDArray[np.float64]
    too_few: NDArray[np.bool_]
    least: int

    def describe_missed(self, classes: Sequence[str]) -> str:
        """Return the classes without a threshold and why, or an empty text.

        >>> few = Thresholds(np.array([np.inf, np.inf, 0.5]), np.array([True, False, False]), 27)
        >>> few.describe_missed(("cat", "dog", "owl"))
        'cat (in fewer than 27 groups of held-out rows, the least that can show it); dog (held-out rows do not show it)'
        """
        reasons = {
            f"in fewer than {self.least} groups of held-out rows, the least that can show it": self.too_few,
            "held-out rows do not show it": np.isinf(self.values) & ~self.too_few,
        }
        named = {reason: [classes[c] for c in np.flatnonzero(missed).tolist()] for reason, missed in reasons.items()}
        return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in named.items() if names)


def points_name(per: str, aggregate: str) -> str:
    """Return the name of the array of operating points in a head."""
    return "operating.window" if per == "window" else f"operating.recording.{aggregate}"


def is_candidate(proba: Floats, multilabel: bool) -> NDArray[np.bool_]:
    """Return the classes [N, C] that rows may be given: the most probable one; multi-label: all.

    >>> is_candidate(np.array([[0.2, 0.8]]), False).tolist()
    [[False, True]]
    """
    if multilabel:
        return np.ones(proba.shape, bool)
    return np.asarray(np.arange(proba.shape[1]) == proba.argmax(axis=1)[:, None])


def operating_points(proba: Array, y: Array, groups: Array | None, multilabel: bool) -> Floats:
    """Measure the operating points of each class.

    Args:
        proba: probabilities [N, C] of held-out rows.
        y: class numbers [N]; multi-label: [N, C] of 0 and 1.
        groups: [N] rows of one group are right or wrong together; each row on its own if None.
        multilabel: whether y is [N, C].

    Returns:
        The points [C, P, 9] by decreasing threshold: the threshold, then the evidence on the precision and on the
        recall (see `ratio_evidence`). Unused points are NaN.

    Raises:
        UsageError: the shapes do not agree.
    """
    proba, y = read_numbers(proba, "proba", np.float64), read_numbers(y, "y")
    numbers = np.arange(len(proba)) if groups is None else np.unique(groups, return_inverse=True)[1]
    is_valid = proba.ndim == 2 and y.shape == (proba.shape if multilabel else proba.shape[:1])
    if not is_valid or numbers.shape != proba.shape[:1]:
        shapes = [list(proba.shape), list(y.shape), list(numbers.shape)]
        raise UsageError(f"proba [N, C], y and groups do not agree; their shapes are {shapes}.")
    candidate = is_candidate(proba, multilabel)
    by_class = [
        find_points(proba[:, c], y[:, c] == 1 if multilabel else y == c, numbers, candidate[:, c])
        for c in range(proba.shape[1])
    ]
    points = np.full((len(by_class), max(map(len, by_class), default=0), COLUMNS), np.nan)
    for c, class_points in enumerate(by_class):
        points[c, : len(class_points)] = class_points
    return points


def find_points(
    scores: Floats, truth: NDArray[np.bool_], groups: NDArray[np.integer], candidate: NDArray[np.bool_]
) -> Floats:
    """Return the points [P, 9] of one class; only candidate rows can be predicted.

    A threshold lies half-way between two scores, so that rounding cannot move a row to the other side. Which points are
    kept depends on the number of predicted rows, and not on the labels.
    """
    if not truth.any() or not candidate.any():
        return np.zeros((0, COLUMNS))
    positives = np.bincount(groups, truth)
    order = np.flatnonzero(candidate)
    order = order[np.argsort(-scores[order], kind="stable")]
    levels, groups = scores[order], groups[order]
    right = truth[order].astype(np.float64)
    named, correct = count_earlier(groups, np.ones(len(order))), count_earlier(groups, right)
    hits, squares = right.cumsum(), (right * (2 * correct + 1)).cumsum()
    rows, products = np.arange(1.0, len(order) + 1), (correct + right * (named + 1)).cumsum()
    precision = np.stack([hits, rows, squares, products, (2 * named + 1).cumsum()], axis=1)
    per_group = positives[groups]
    every, every_square = np.full(len(order), positives.sum()), np.full(len(order), (positives**2).sum())
    recall = np.stack([hits, every, squares, (right * per_group).cumsum(), every_square], axis=1)
    chosen = spread(np.flatnonzero(np.append(levels[1:] < levels[:-1], True)))
    thresholds = (levels[chosen] + np.append(levels, levels[-1])[chosen + 1]) / 2
    seen, holding = (named == 0).cumsum()[chosen], np.full(len(chosen), (positives > 0).sum())
    evidence = ratio_evidence(precision[chosen], seen), ratio_evidence(recall[chosen], holding)
    return np.concatenate([thresholds[:, None], *evidence], axis=1)


def count_earlier(groups: NDArray[np.integer], values: Floats) -> Floats:
    """Return for each row [N] the sum of the values of earlier rows of its group.

    >>> count_earlier(np.array([7, 8, 7, 7]), np.ones(4)).tolist()
    [0.0, 0.0, 1.0, 2.0]
    """
    order = np.argsort(groups, kind="stable")
    before = values[order].cumsum() - values[order]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    lengths = np.diff(np.append(starts, len(order)))
    result = np.empty(len(order))
    result[order] = before - np.repeat(before[starts], lengths)
    return result


def spread(ends: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return at most `MAX_POINTS` of the positions at which a threshold can lie, in steps that grow by a factor."""
    counts = np.geomspace(1, ends[-1] + 1, MAX_POINTS).round()
    return np.asarray(ends[np.unique(np.searchsorted(ends + 1, counts))])


def pick_thresholds(points: Array, precision: float | None, recall: float | None) -> Thresholds:
    """Return the thresholds with the highest recall at a precision, or the highest precision at a recall.

    Raises:
        UsageError: not exactly one of the two is given, or it is not between 0 and 1.
    """
    if (precision is None) == (recall is None):
        raise UsageError("Give either precision or recall.")
    name, wanted = ("precision", precision) if precision is not None else ("recall", recall)
    if wanted is None or not 0 < wanted < 1:
        raise UsageError(
            f"{name}={wanted} is not allowed: give a number above 0 and below 1. No number of rows can show a {name} "
            "of 1."
        )
    alpha = 1 - CONFIDENCE
    least = least_groups(wanted, alpha)
    values, too_few = np.full(len(points), np.inf), np.zeros(len(points), bool)
    for c, padded in enumerate(points):
        used = padded[~np.isnan(padded[:, 0])]
        evidence, other = (used[:, PRECISION], used[:, RECALL])[:: 1 if recall is None else -1]
        if len(used) and evidence[:, -1].max() >= least:
            reached = reach_precision(evidence, wanted) if recall is None else walk(evidence[::-1], wanted, alpha)[::-1]
            values[c] = used[reached][other[reached][:, 0].argmax(), 0] if reached.any() else np.inf
        too_few[c] = np.isinf(values[c]) and (not len(used) or used[0, RECALL][-1] < least)
    return Thresholds(values, too_few, math.ceil(least))


def reach_precision(evidence: Floats, wanted: float) -> NDArray[np.bool_]:
    """Return the points [P] that have a precision: all from a start on, up to the first one that fails.

    Starts are where the number of predicted groups has doubled, from the least number that can show the precision.
    """
    groups = evidence[:, -1]
    starts = 1 + round(math.log2(groups.max() / least_groups(wanted, 1 - CONFIDENCE)))
    alpha = (1 - CONFIDENCE) / starts
    reached = np.zeros(len(evidence), bool)
    for number in np.geomspace(min(least_groups(wanted, alpha), groups.max()), groups.max(), starts):
        start = int(np.argmax(groups >= number * (1 - 1e-9)))
        reached[start:] |= walk(evidence[start:], wanted, alpha)
    return reached


def walk(evidence: Floats, wanted: float, alpha: float) -> NDArray[np.bool_]:
    """Return the points [P] up to the first one whose lower bound is below the wanted ratio."""
    return np.logical_and.accumulate(lower_bounds(evidence, alpha) >= wanted)
