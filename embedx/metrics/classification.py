"""Classification: truth and probabilities -> all figures for a block of weightings.

Definitions are those of scikit-learn on the weighted rows. Means over classes leave out the classes for which a figure
is undefined: recall without rows of the class, F1 without rows or predictions, area and average precision without
positive and negative rows.

Areas, average precisions and d-primes are ranked within each test part, which has a head of its own, and averaged over
the parts; see `embedx.metrics.ranking`. A mean over classes is taken within the part first, over the classes that have
rows inside and outside of them there. The other figures pool the rows of all parts: they count decisions, or compare
probabilities with outcomes, and compare no row with a row of another head.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.calibration import BINS, find_bins
from embedx.metrics.figures import Counts, Floats, Ints
from embedx.metrics.ranking import PartRankings, d_prime
from embedx.metrics.weighted_sums import Tally, divide, mean_defined

THRESHOLD = 0.5  # a label is predicted above it, as in scikit-learn
TOPS = (3, 5)
CELLS = 2**22  # probabilities compared at a time for the ranks of labels within a row

Probabilities = NDArray[np.floating]


@dataclass(frozen=True)
class Scores:
    """Figures for B weightings; nan where undefined.

    Attributes:
        overall: [B] by name.
        by_class: [B, C] by name.
        gaps: [B, bins] confidence beyond accuracy; "ece" is the sum of their absolute values.
        losses: [N] log loss of each row.
        loss_variance: of the loss of a row, if the probabilities are right.
    """

    overall: dict[str, Floats]
    by_class: dict[str, Floats]
    gaps: Floats
    losses: Floats
    loss_variance: float


class OneLabel:
    """Every row has one class: truth [N] of class numbers, probabilities [N, C], groups, parts [N] from 0."""

    def __init__(self, truth: Ints, proba: Probabilities, groups: Ints, parts: Ints) -> None:
        rows, self.classes = proba.shape
        each = np.arange(rows)
        predicted = proba.argmax(axis=1)
        mine = proba[each, truth][:, None]
        ahead = (proba > mine).sum(axis=1) + ((proba == mine) & (np.arange(self.classes) < truth[:, None])).sum(axis=1)
        right = ahead == 0  # of equal probabilities the first class is predicted
        confidence = proba[each, predicted]
        nothing = np.zeros(rows, np.int64)
        self.rows = Tally(nothing, groups, 1)
        self.support = Tally(truth, groups, self.classes)
        self.predicted = Tally(predicted, groups, self.classes)
        self.right = Tally(truth[right], groups[right], self.classes)
        self.gap = Tally(find_bins(confidence), groups, BINS, confidence.astype(np.float64) - right)
        sure = off_zero(proba)
        self.losses, self.loss_variance = -np.log(sure[each, truth]), expect_variance(sure)
        means = {"log_loss": self.losses}
        means |= {f"top{k}": (ahead < k).astype(np.float64) for k in TOPS if self.classes > k}
        self.means = {name: Tally(nothing, groups, 1, values) for name, values in means.items()}
        self.rankings = PartRankings(truth[:, None] == np.arange(self.classes), proba, groups, parts)

    def measure(self, counts: Counts) -> Scores:
        """Return the figures for counts [B, groups]."""
        rows = self.rows.sums(counts)[:, 0]
        support, predicted, right = (each.sums(counts) for each in (self.support, self.predicted, self.right))
        ranked, ranked_by_class = average_parts(*self.rankings.measure(counts))
        by_class = score_classes(support, predicted, right) | ranked_by_class
        gaps = divide(self.gap.sums(counts), rows[:, None])
        overall = {
            "accuracy": divide(right.sum(axis=1), rows),
            "balanced_accuracy": mean_defined(by_class["recall"]),
            "macro_f1": mean_defined(by_class["f1"]),
            "ece": np.abs(gaps).sum(axis=1),
            **{name: divide(each.sums(counts)[:, 0], rows) for name, each in self.means.items()},
        }
        return Scores(overall | ranked, by_class, gaps, self.losses, self.loss_variance)


class ManyLabels:
    """Every row has any number of labels: truth [N, C] of 0 and 1, probabilities [N, C], groups, parts [N] from 0."""

    def __init__(self, truth: Ints, proba: Probabilities, groups: Ints, parts: Ints) -> None:
        rows, self.classes = proba.shape
        positive, predicted, sure = truth == 1, proba > THRESHOLD, off_zero(proba)
        nothing = np.zeros(rows, np.int64)
        self.rows = Tally(nothing, groups, 1)
        self.losses = -np.log(np.where(positive, sure, 1 - sure)).mean(axis=1)
        self.loss_variance = expect_variance(np.stack([sure.ravel(), 1 - sure.ravel()], axis=1)) / self.classes
        means = {
            "exact_match": (positive == predicted).all(axis=1).astype(np.float64),
            "lrap": rank_in_rows(positive, proba),
            "log_loss": self.losses,
        }
        self.means = {name: Tally(nothing, groups, 1, values) for name, values in means.items()}
        self.labels = [count_label(*columns, groups) for columns in zip(positive.T, proba.T, predicted.T, strict=True)]
        self.rankings = PartRankings(positive, proba, groups, parts)
        cells = positive.reshape(-1, 1), proba.reshape(-1, 1)
        self.micro = PartRankings(*cells, *(np.repeat(of, self.classes) for of in (groups, parts)))

    def measure(self, counts: Counts) -> Scores:
        """Return the figures for counts [B, groups]."""
        rows = self.rows.sums(counts)[:, 0]
        sums = np.stack([label.sums(counts) for label in self.labels], axis=1)  # [B, C, bins and three kinds of rows]
        support, predicted, right = np.moveaxis(sums[:, :, BINS:], 2, 0)
        ranked, ranked_by_class = average_parts(*self.rankings.measure(counts))
        by_class = score_classes(support, predicted, right) | ranked_by_class
        micro, _ = average_parts(*self.micro.measure(counts))
        gaps = divide(sums[:, :, :BINS].reshape(len(counts), -1), (rows * self.classes)[:, None])
        overall = {
            "macro_f1": mean_defined(by_class["f1"]),
            "micro_f1": divide(2 * right.sum(axis=1), (support + predicted).sum(axis=1)),
            "ece": np.abs(gaps).sum(axis=1),
            **{name: divide(each.sums(counts)[:, 0], rows) for name, each in self.means.items()},
            **ranked,
            "micro_auc": micro["macro_auc"],
            "micro_map": micro["map"],
        }
        return Scores(overall, by_class, gaps, self.losses, self.loss_variance)


def score_weighted(
    truth: Ints, proba: Probabilities, groups: Ints, parts: Ints, counts: Counts, multilabel: bool
) -> Scores:
    """Return the figures for weights [B, groups] of the groups [N], from 0."""
    return (ManyLabels if multilabel else OneLabel)(truth, proba, groups, parts).measure(counts)


def score_whole(truth: Ints, proba: Probabilities, parts: Ints, multilabel: bool) -> Scores:
    """Return the figures of these rows (B = 1), with the test part [N] of each row, from 0."""
    one = np.ones((1, 1), np.float32)
    return score_weighted(truth, proba, np.zeros(len(proba), np.int64), parts, one, multilabel)


def count_label(positive: NDArray[np.bool_], proba: Probabilities, predicted: NDArray[np.bool_], groups: Ints) -> Tally:
    """Tally one label: confidence beyond truth in each bin, then rows that have it, are said to, and both."""
    kinds = (positive, predicted, positive & predicted)
    keys = [find_bins(proba), *(np.full(kind.sum(), BINS + i) for i, kind in enumerate(kinds))]
    values = [proba.astype(np.float64) - positive, *(np.ones(kind.sum()) for kind in kinds)]
    places = [groups, *(groups[kind] for kind in kinds)]
    return Tally(np.concatenate(keys), np.concatenate(places), BINS + len(kinds), np.concatenate(values))


def score_classes(support: Floats, predicted: Floats, right: Floats) -> dict[str, Floats]:
    """Return precision, recall and F1 [B, C]: precision is 0 for a class that has rows but is never predicted."""
    precision = divide(right, predicted)
    precision[(predicted == 0) & (support > 0)] = 0.0
    return {"precision": precision, "recall": divide(right, support), "f1": divide(2 * right, support + predicted)}


def average_parts(areas: Floats, precisions: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Average areas and average precisions [parts, B, C] over parts: overall figures [B], and those of classes [B, C].

    The d-prime of a part is that of its mean area over classes, as in published AudioSet results.
    """
    area, precision = mean_defined(areas), mean_defined(precisions)  # [parts, B]
    overall = {"macro_auc": area, "map": precision, "d_prime": d_prime(area)}
    by_class = {"auc": areas, "average_precision": precisions, "d_prime": d_prime(areas)}
    return mean_over_parts(overall), mean_over_parts(by_class)


def mean_over_parts(figures: dict[str, Floats]) -> dict[str, Floats]:
    """Return the means of figures [parts, ...] over the parts where they are defined."""
    return {name: mean_defined(np.moveaxis(values, 0, -1)) for name, values in figures.items()}


def rank_in_rows(positive: NDArray[np.bool_], proba: Probabilities) -> Floats:
    """Return for each row [N] the mean precision at its labels when its classes are sorted by falling probability.

    Equal probabilities share the worst place of theirs. Rows with no label or with all of them have 1.

    >>> rank_in_rows(np.array([[True, False, True], [False, False, False]]), np.array([[0.9, 0.8, 0.1]] * 2)).round(3)
    array([0.833, 1.   ])
    """
    rows, classes = np.nonzero(positive)
    precision = np.zeros(len(rows))
    step = max(1, CELLS // max(1, proba.shape[1]))
    for at in range(0, len(rows), step):
        row = rows[at : at + step]
        before = proba[row] >= proba[row, classes[at : at + step]][:, None]
        precision[at : at + step] = (before & positive[row]).sum(axis=1) / before.sum(axis=1)
    labels = positive.sum(axis=1)
    means = divide(np.bincount(rows, precision, len(proba)), labels)
    means[(labels == 0) | (labels == proba.shape[1])] = 1.0
    return means


def expect_variance(proba: Floats) -> float:
    """Return the mean variance of the log loss of rows whose classes are drawn by their probabilities [N, C].

    >>> round(expect_variance(np.array([[0.9, 0.1], [0.5, 0.5]])), 4)  # 0.09 log(9)^2 in the first row, 0 in the second
    0.2173
    """
    logs = np.log(proba)
    means = (proba * logs).sum(axis=1)
    return float(((proba * logs**2).sum(axis=1) - means**2).mean()) if len(proba) else 0.0


def off_zero(proba: Probabilities) -> Floats:
    """Return probabilities kept off 0 and 1 by the precision of their type, so that no logarithm is infinite."""
    least = float(np.finfo(proba.dtype).eps)
    return np.clip(proba.astype(np.float64), least, 1 - least)
