"""Ranking: area under the ROC curve, average precision and d-prime, for many weightings at once.

A score of one head is not compared with that of another head: the intercept of each head follows the class shares of
its own training rows, so ranks over several heads depend on the split and not on the vectors. Rows are therefore ranked
within each test part. The figure of a label is the mean over the parts, with equal weights: the figure of each part is
an unbiased estimate for its head, whatever the size of the part. Parts without positive or without negative rows of the
label are left out.

Rows are sorted by decreasing score once. Rows of equal score form a tie and pass the threshold together: a positive and
a negative in one tie count half in the area, as in scikit-learn. Only ties that contain a positive are processed one by
one; the rows between two of these ties are a single sum of weights.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.figures import MAX_BLOCK_NUMBERS, Counts, Floats, Ints
from embedx.metrics.weighted_sums import Tally, divide

AREA_MARGIN = 1e-6  # d-prime is infinite at an area of 1; areas are limited to 1 - 1e-6, where d-prime is 6.72


class Ranking:
    """Truth [N] and scores [N] of one label, sorted; N >= 1 with a positive among them."""

    def __init__(self, truth: NDArray[np.bool_], scores: NDArray[np.floating], groups: Ints) -> None:
        order = np.argsort(-scores)
        ordered, positive, groups = scores[order], truth[order], groups[order]
        tie = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])])
        ends = np.append(np.flatnonzero(tie[1:] != tie[:-1]) + 1, len(tie))  # of every tie
        wanted, hit_starts = np.unique(tie[positive], return_index=True)  # the ties with a positive
        self.rows = groups[: ends[wanted[-1]]]  # rows below the last positive change nothing
        self.starts = np.append(0, ends[wanted[:-1]])
        self.hits, self.hit_starts = groups[positive], hit_starts
        equal = ~positive & np.isin(tie, wanted)  # negatives that share a score with a positive
        tied, self.equal_starts = np.unique(tie[equal], return_index=True)
        self.equals, self.tied_runs = groups[equal], np.searchsorted(wanted, tied)

    def measure(self, counts: Counts, weight: Floats) -> tuple[Floats, Floats]:
        """Return areas [B] and average precisions [B]; nan if all rows or no rows are positive.

        `counts` [B, groups] weighs the groups, `weight` [B] is the sum over all rows.
        """
        height = max(1, MAX_BLOCK_NUMBERS // len(self.rows))
        pieces = [slice(at, at + height) for at in range(0, len(counts), height)]
        areas, precisions = zip(*(self._measure(counts[piece], weight[piece]) for piece in pieces), strict=True)
        return np.concatenate(areas), np.concatenate(precisions)

    def _measure(self, counts: Counts, weight: Floats) -> tuple[Floats, Floats]:
        passed = np.add.reduceat(counts.take(self.rows, axis=1), self.starts, axis=1).cumsum(axis=1, dtype=np.float64)
        hits = np.add.reduceat(counts.take(self.hits, axis=1), self.hit_starts, axis=1).astype(np.float64)
        right = hits.cumsum(axis=1)
        positives, negatives = right[:, -1], weight - right[:, -1]
        precision = np.divide(right, passed, out=np.zeros_like(right), where=passed > 0)
        average = divide((hits * precision).sum(axis=1), positives)
        average[negatives == 0] = np.nan
        below = negatives[:, None] - (passed - right)  # negatives that have a lower score
        pairs = (hits * below).sum(axis=1)
        if len(self.tied_runs):
            equals = np.add.reduceat(counts.take(self.equals, axis=1), self.equal_starts, axis=1)
            pairs += (hits[:, self.tied_runs] * equals).sum(axis=1) / 2
        return divide(pairs, positives * negatives), average


class PartRankings:
    """The rankings of every label within every test part.

    Args:
        positive: [N, C] whether the row has the label.
        scores: [N, C].
        groups: [N] numbers of the groups, from 0.
        parts: [N] numbers of the test parts, from 0.
    """

    def __init__(self, positive: NDArray[np.bool_], scores: NDArray[np.floating], groups: Ints, parts: Ints) -> None:
        self.rows = Tally(parts, groups, int(parts.max(initial=0)) + 1)
        self.rankings = [
            rank_labels(positive[inside], scores[inside], groups[inside])
            for inside in (parts == part for part in range(self.rows.size))
        ]

    def measure(self, counts: Counts) -> tuple[Floats, Floats]:
        """Return areas and average precisions [parts, B, C] for counts [B, groups]; nan where undefined."""
        nowhere = (np.full(len(counts), np.nan),) * 2
        measured = np.array([
            [label.measure(counts, rows) if label else nowhere for label in labels]
            for labels, rows in zip(self.rankings, self.rows.sums(counts).T, strict=True)
        ])  # fmt: skip
        areas, precisions = measured.transpose(2, 0, 3, 1)
        return areas, precisions


def rank_labels(positive: NDArray[np.bool_], scores: NDArray[np.floating], groups: Ints) -> list[Ranking | None]:
    """Sort rows by each label [N, C]; None for a label that no row has."""
    columns = zip(positive.T, scores.T, strict=True)
    return [Ranking(truth, column, groups) if truth.any() else None for truth, column in columns]


def d_prime(areas: Floats) -> Floats:
    """Return the distance of two normal distributions with these areas, in standard deviations.

    It is sqrt(2) times the normal quantile, and infinite for areas of 0 and 1; areas are limited to 1e-6 and 1 - 1e-6.

    >>> d_prime(np.array([0.5, 0.75, 1.0, np.nan])).round(4).tolist()
    [0.0, 0.9539, 6.7224, nan]
    """
    quantile = NormalDist().inv_cdf
    near = np.clip(areas, AREA_MARGIN, 1 - AREA_MARGIN).ravel().tolist()
    quantiles = [quantile(area) if area == area else np.nan for area in near]
    return np.array(quantiles, np.float64).reshape(areas.shape) * math.sqrt(2)
