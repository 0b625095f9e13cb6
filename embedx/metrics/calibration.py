"""Calibration: whether predictions with 80 % confidence are correct in 80 % of cases.

Confidences fall into bins of equal width, each open below and closed above. The expected calibration error is the mean
distance between confidence and accuracy of the bins, weighted by their rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedx.errors import UsageError
from embedx.metrics.figures import Ints
from embedx.metrics.weighted_sums import divide

BINS = 15  # as in most published tables


@dataclass(frozen=True)
class Bin:
    """A bar of a reliability diagram: confidences in (low, high]; the means are None if it has no rows."""

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


def find_bins(confidence: NDArray[np.floating], bins: int = BINS) -> Ints:
    """Return the bin of each confidence, from 0 to bins - 1.

    >>> find_bins(np.array([0.0, 0.1, 0.5, 0.51, 1.0]), bins=2).tolist()
    [0, 0, 0, 1, 1]
    """
    above: Ints = np.ceil(confidence.astype(np.float64) * bins).astype(np.int64)
    return above.clip(1, bins) - 1


def reliability(truth: ArrayLike, proba: ArrayLike, bins: int = BINS, multilabel: bool = False) -> list[Bin]:
    """Return the bars of a reliability diagram.

    `truth` [N] holds class numbers and `proba` [N, C] probabilities: the confidence is that of the most probable class,
    and the accuracy the share of rows where it is correct. Multi-label: `truth` is [N, C] of 0 and 1; every
    probability counts, and the accuracy is the share that is 1.

    >>> [one.rows for one in reliability([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], bins=4)]
    [0, 0, 1, 2]

    Raises:
        UsageError: fewer than one bin.
    """
    if bins < 1:
        raise UsageError(f"bins must be 1 or more, not {bins}.")
    probabilities, y = np.asarray(proba, np.float64), np.asarray(truth)
    if multilabel:
        confidence, right = probabilities.ravel(), y.ravel() == 1
    elif len(y):
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    else:
        confidence, right = np.zeros(0), np.zeros(0, bool)
    place = find_bins(confidence, bins)
    rows, sums, rights = (np.bincount(place, each, bins).astype(np.float64) for each in (None, confidence, right))
    means = zip(divide(sums, rows).tolist(), divide(rights, rows).tolist(), strict=True)
    return [
        Bin(i / bins, (i + 1) / bins, int(rows[i]), *((mean, share) if rows[i] else (None, None)))
        for i, (mean, share) in enumerate(means)
    ]
