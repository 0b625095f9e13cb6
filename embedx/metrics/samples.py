"""Samples: the sizes of the groups and classes of the data; with them, values become figures with intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.classification import Scores
from embedx.metrics.figures import Figure, Floats, Ints
from embedx.metrics.intervals import (
    NORMAL,
    TINY,
    Ends,
    distance_interval,
    find_freedom,
    find_quantiles,
    find_skewness,
    find_variances,
    lengthen,
    loss_interval,
    make_figures,
    share_interval,
)
from embedx.metrics.ranking import d_prime

MEANS_OVER_CLASSES = ("balanced_accuracy", "macro_f1", "macro_auc", "map")
AREAS = ("auc", "macro_auc", "micro_auc")
# Groups at another level lower these by the square of their distance; the logit scale fits the other shares well.
RANKED = (*AREAS, "average_precision", "map", "micro_map")
COUNTED = ("accuracy", "top3", "top5", "exact_match", "precision", "recall", "f1")  # rows that are right or wrong


@dataclass(frozen=True)
class Sample:
    """How many rows there are, and how much of them is in each of B blocks of groups.

    Attributes:
        rows: number of rows.
        support: [C] number of rows of each class.
        free: number of classes whose scores are free: one less than C if they sum to 1.
        blocks: [B, 1] share of all rows.
        classes: [B, C] share of the rows of each class; that of all rows for a class without rows.
    """

    rows: int
    support: Ints
    free: int
    blocks: Floats
    classes: Floats

    @classmethod
    def count(cls, blocks: Ints, positive: NDArray[np.bool_], multilabel: bool) -> "Sample":
        """Count blocks [N] and the classes [N, C] of their rows."""
        rows, classes = positive.shape
        size = max(1, int(blocks.max(initial=-1)) + 1)
        shares = (np.bincount(blocks, minlength=size) / max(1, rows))[:, None]
        support = positive.sum(axis=0)
        counts = np.array([np.bincount(blocks[column], minlength=size) for column in positive.T]).reshape(-1, size).T
        by_class = np.where(support > 0, counts / np.maximum(support, 1), shares)
        return cls(rows, support, classes if multilabel else max(1, classes - 1), shares, by_class)

    def make_figures(self, scores: Scores) -> dict[str, Figure | None]:
        """Return the overall figures, from values with the weights of `embedx.metrics.intervals.weigh_blocks`."""
        figures = {}
        for name, values in scores.overall.items():
            ends = self._bound(name, values[:, None], scores) if len(self.blocks) > 1 else None
            figures[name] = finish(name, values[:1], ends)[0]
        return figures

    def make_class_figures(self, scores: Scores) -> dict[str, list[Figure | None]]:
        """Return the figures of each class, from values [1 + 2 B, C]."""
        figures = {}
        for name, values in scores.by_class.items():
            ends = None
            if len(self.blocks) > 1:
                source = "auc" if name == "d_prime" else name
                ends = self._bound_rows(source, scores.by_class[source], self.classes, self.support)
            figures[name] = finish(name, values[0], ends)
        return figures

    def _bound(self, name: str, values: Floats, scores: Scores) -> Ends:
        """Return the ends [1] of the interval of an overall figure from its values [1 + 2 B, 1]."""
        if name == "d_prime":
            return self._bound_classes("macro_auc", scores.overall["macro_auc"][:, None])
        if name in MEANS_OVER_CLASSES:
            return self._bound_classes(name, values)
        if name == "log_loss":
            return self._bound_loss(values, scores)
        cells = name == "micro_auc"
        counts = np.array([self.support.sum() if cells else self.rows])
        ends = self._bound_rows(name, values, self.blocks, counts, self.rows * len(self.support) if cells else None)
        return distance_interval(*ends, scores.gaps, self.blocks) if name == "ece" else ends

    def _bound_rows(self, name: str, values: Floats, shares: Floats, support: Ints, rows: int | None = None) -> Ends:
        """Return the ends [M] of figures of `support` [M] rows each, among `rows`."""
        value, area = values[0], name in AREAS
        independent = area_variance(value) if area else value * (1 - value)
        independent = independent * count_inverse(support, self.rows if rows is None else rows, area)
        independent = np.nan_to_num(independent)
        variance = find_variances(values, shares)
        freedom = find_freedom(shares, variance, independent)
        if name in COUNTED:
            freedom = freedom * known_share(shares, support)
        least = least_variance(value, independent) if area else 0.0
        skewness = find_skewness(values, len(self.blocks)) if name in RANKED else 0.0
        return share_interval(values, shares, variance, freedom, least, skewness)

    def _bound_classes(self, name: str, values: Floats) -> Ends:
        """Return the ends [1] of a mean over classes.

        A class with rows in one block only has no variance of its own: it is taken to be as variable as the others.
        """
        value, area = values[0], name in AREAS
        present = self.support > 0 if self.support.any() else self.support == 0
        shares, support = self.classes[:, present], self.support[present]
        independent = area_variance(value) if area else value * (1 - value)
        inverse = count_inverse(support, self.rows, area)
        independent = np.nan_to_num(independent * inverse.mean() / (self.free if area else len(support)))
        mean = shares.mean(axis=1, keepdims=True)
        spread = (shares**2).sum(axis=0)  # in proportion to the variance of a class; 1: in one block only
        several = spread[spread < 1].sum()
        own = (shares**2).sum(axis=1) / np.maximum(shares.sum(axis=1), TINY)  # of a block in the classes that it has
        variance = find_variances(values, own[:, None]) * (spread.sum() / several if several else 1.0)
        of_classes = find_freedom(shares, spread, spread)
        freedom = np.minimum(
            find_freedom(mean, variance, independent), spread.sum() ** 2 / (spread**2 / of_classes).sum()
        )
        least = least_variance(value, independent) if area else 0.0
        skewness = find_skewness(values, len(self.blocks)) if name in RANKED else 0.0
        return share_interval(values, mean, variance, np.maximum(freedom, 1.0), least, skewness)

    def _bound_loss(self, values: Floats, scores: Scores) -> Ends:
        """Return the ends [1] of the log loss."""
        variance = find_variances(values, self.blocks)
        independent = np.array([scores.losses.var() / self.rows])
        quantile = find_quantiles(find_freedom(self.blocks, variance, independent))
        expected = np.sqrt(scores.loss_variance / self.rows)
        skewness = find_skewness(values, len(self.blocks))
        low, high = (lengthen(quantile, side * skewness) * np.sqrt(variance) for side in (-1, 1))
        least = NORMAL * expected
        return loss_interval(values[0], (np.maximum(low, least), np.maximum(high, least)), scores.losses)


def finish(name: str, values: Floats, ends: Ends | None) -> list[Figure | None]:
    """Return figures from values [M] and ends [M], those of the area for a d-prime."""
    if ends is None:
        return [Figure(value) if np.isfinite(value) else None for value in values.tolist()]
    low, high = (d_prime(end) for end in ends) if name == "d_prime" else ends
    return make_figures(values, low, high)


def known_share(shares: Floats, support: Ints) -> Floats:
    """Return by how much the degrees of freedom [M] grow because the variance follows from the figure: r / (r - 1).

    r is the mean number of rows in the block of a row. With one row in each block, the share of the rows that are right
    gives its variance exactly. With many rows it does not say how alike they are.

    >>> known_share(np.full((10, 2), 0.1), np.array([20, 200])).round(2).tolist()
    [2.0, 1.05]
    """
    alone = 1 / np.maximum((shares**2).sum(axis=0) * support, 1)
    return np.asarray(1 / np.maximum(1 - alone, 1e-6), np.float64)


def count_inverse(support: Ints, rows: int, area: bool) -> Floats:
    """Return 1 / n [M] for n rows of a class, plus 1 / m for the m other rows if an area compares both."""
    inverse = 1 / np.maximum(support, 1)
    return np.asarray(inverse + 1 / np.maximum(rows - support, 1) if area else inverse, np.float64)


def least_variance(areas: Floats, independent: Floats) -> Floats:
    """Return the lower limit [M] of the variance of areas: near 1 that of independent rows, and none at 0.5."""
    return independent * (2 * areas - 1) ** 2


def area_variance(areas: Floats) -> Floats:
    """Return the variance [M] of a ROC AUC of one positive row and very many negative ones, in normal distributions.

    It is P(two positives are both below a negative) - (1 - area)^2. The variance from the rows themselves is too small
    near 1, where it depends on a few rows that are rarely among them.

    >>> area_variance(np.array([0.5, 1.0])).round(4).tolist()  # 1 / 12: uniform ranks
    [0.0833, 0.0]
    """
    from scipy.special import ndtr, ndtri, owens_t

    limit = -ndtri(np.clip(areas, 1e-9, 1 - 1e-9))
    both = ndtr(limit) - 2 * owens_t(limit, np.sqrt(1 / 3))
    return np.asarray(np.maximum(both - ndtr(limit) ** 2, 0), np.float64)
