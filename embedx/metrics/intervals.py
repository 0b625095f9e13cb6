"""Intervals: how much a figure would change with other recordings.

Groups are independent, and the rows of one group are not. Every figure is therefore computed again without each group,
and with a little more weight on each group; more than 100 groups are joined to 100 blocks at random.

- The variance is the sum over groups of (change without the group) x (change per weight of the group). For a mean, this
  is the cluster-robust variance with the correction for few groups of Bell and McCaffrey (Bias reduction in standard
  errors for linear regression with multi-stage samples, Survey Methodology 28, 2002).
- Student's t replaces the normal quantile. Its degrees of freedom are theirs too: one large group and many small ones
  give few of them.
- A figure between 0 and 1 has a score interval (Wilson 1927), which stays within 0 and 1, with as many rows as would
  give this variance if rows were independent: their number divided by the design effect of the groups. Ranked figures
  have an interval on the logit scale, because near 1 they depend on few rows, by unequal amounts.
- Without any variance, for example if all rows are right, the data does not say how alike the rows of a group are. Then
  each group counts as one row.
- A class with rows in one group only has no variance of its own: means over classes take it to be as variable as the
  other classes.

Intervals leave out what is the same for all rows that were scored: the choice of the training rows, the random numbers
of the head, and the choice of the data set.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.figures import TAIL, Counts, Figure, Floats, Ints
from embedx.metrics.ranking import d_prime

NORMAL = NormalDist().inv_cdf(1 - TAIL)
MAX_BLOCKS = 100  # the standard error is then known to 7 %, and Student's t is 1.984 instead of 1.960
STEP = 2.0**-6  # additional weight of a group: small, and its sums with whole numbers are exact in float32
NO_VARIANCE = 1e-14  # a standard error below 1e-7 is rounding
RANKED = ("macro_auc", "map", "d_prime", "micro_auc", "micro_map", "auc", "average_precision")
MEANS_OVER_CLASSES = ("balanced_accuracy", "macro_f1", "macro_auc", "map", "d_prime")


@dataclass(frozen=True)
class Shares:
    """How much of the data is in each of B blocks.

    Attributes:
        rows: [B] share of all rows.
        classes: [B, C] share of the rows of each class; that of all rows for a class without rows.
    """

    rows: Floats
    classes: Floats

    @classmethod
    def count(cls, blocks: Ints, positive: NDArray[np.bool_]) -> "Shares":
        """Count blocks [N] and the classes [N, C] of their rows."""
        size = max(1, int(blocks.max(initial=-1)) + 1)
        rows = np.bincount(blocks, minlength=size) / max(1, len(blocks))
        support = positive.sum(axis=0)
        counts = np.array([np.bincount(blocks[column], minlength=size) for column in positive.T]).reshape(-1, size).T
        return cls(rows, np.where(support > 0, counts / np.maximum(support, 1), rows[:, None]))

    def make_figure(self, values: Floats, name: str) -> Figure | None:
        """Return an overall figure from its values [1 + 2 B]; see `make_figures`."""
        of_classes = name in MEANS_OVER_CLASSES
        shares = self.classes.mean(axis=1) if of_classes else self.rows
        spread = (self.classes**2).sum(axis=0)  # [C] in proportion to the variance of a class; 1: in one block only
        several = spread[spread < 1].sum()
        inflation = float(spread.sum() / several) if of_classes and several else 1.0
        return make_figures(values[:, None], shares[:, None], name, inflation)[0]


def join_groups(groups: Ints, most: int, seed: int) -> Ints:
    """Return the block [N] of the group of each row, from 0: its group, or one of `most` random blocks of groups.

    >>> join_groups(np.array([0, 2, 1]), 3, 0).tolist(), np.bincount(join_groups(np.arange(6), 2, 0)).tolist()
    ([0, 2, 1], [3, 3])
    """
    number = int(groups.max(initial=-1)) + 1
    if number <= most:
        return groups
    return np.random.default_rng(seed).permutation(np.arange(number) % most)[groups]


def weigh_blocks(blocks: int) -> Counts:
    """Return weights [1 + 2 B, B]: all blocks once; without each block; with a little more of each block.

    >>> weigh_blocks(2).tolist()
    [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.015625, 1.0], [1.0, 1.015625]]
    """
    if blocks < 2:
        return np.ones((1, blocks), np.float32)
    each = np.eye(blocks, dtype=np.float32)
    return np.concatenate([np.ones((1, blocks), np.float32), 1 - each, 1 + np.float32(STEP) * each])


def make_figures(values: Floats, shares: Floats, name: str, inflation: float = 1.0) -> list[Figure | None]:
    """Return M figures from their values [1 + 2 B, M] with the weights of `weigh_blocks`.

    Args:
        values: nan where a figure is undefined; if it is undefined with equal weights, the figure is None.
        shares: [B, M] share of each block in the rows of each figure.
        name: "log_loss" for figures above 0, "d_prime" for distances; any other for figures between 0 and 1.
        inflation: factor for the variances.

    >>> print(*make_figures(np.ones((5, 1)), np.full((2, 1), 0.5), "accuracy"))
    1.0000 (0.3424 to 1.0000)
    """
    if len(values) == 1:
        low = high = np.full(values.shape[1], np.nan)
    elif name == "log_loss":
        logs = np.log(np.maximum(values, np.finfo(np.float64).tiny))
        half = find_quantiles(shares) * np.sqrt(find_variances(logs))
        low, high = np.exp(logs[0] - half), np.exp(logs[0] + half)
    elif name == "d_prime":
        low, high = (d_prime(end) for end in bound_shares(to_areas(values), shares, name, inflation))
    else:
        low, high = bound_shares(values, shares, name, inflation)
    return [bound_figure(*one) for one in zip(values[0].tolist(), low.tolist(), high.tolist(), strict=True)]


def bound_figure(value: float, low: float, high: float) -> Figure | None:
    """Return a figure whose interval holds its value in spite of rounding."""
    if not math.isfinite(value):
        return None
    return Figure(value, min(low, value), max(high, value)) if math.isfinite(low) else Figure(value)


def find_changes(values: Floats) -> tuple[Floats, Floats]:
    """Return the changes [B, M] without each block, and per weight of it, from values [1 + 2 B, M]."""
    whole, without, more = values[0], *np.split(values[1:], 2)
    return whole - without, (more - whole) / STEP


def find_variances(values: Floats) -> Floats:
    """Return the variances [M] of figures from their values [1 + 2 B, M]."""
    without, slope = find_changes(values)
    return np.asarray(np.maximum(np.nansum(without * slope, axis=0), 0.0), np.float64)


def find_quantiles(shares: Floats) -> Floats:
    """Return Student's t [M] for shares [B, M] of blocks.

    >>> find_quantiles(np.full((10, 1), 0.1)).round(3).tolist()  # 9 degrees of freedom
    [2.262]
    """
    from scipy.special import stdtrit

    leverage = shares**2 / np.maximum(1 - shares, 1e-3)
    freedom = 1 / ((shares**2).sum(axis=0) + leverage.sum(axis=0) ** 2 - (leverage**2).sum(axis=0))
    return np.asarray(stdtrit(np.maximum(freedom, 1.0), 1 - TAIL), np.float64)


def bound_shares(values: Floats, shares: Floats, name: str, inflation: float) -> tuple[Floats, Floats]:
    """Return the ends [M] of intervals from values [1 + 2 B, M] between 0 and 1."""
    value = np.nan_to_num(values[0], nan=0.5)
    variance = inflation * find_variances(values)
    centre = value
    if name.endswith("f1"):  # F1 of few rows is too low: subtract the jackknife's estimate of this bias
        without, slope = find_changes(values)
        centre = value - np.nansum(slope - without, axis=0)
    known = (variance > NO_VARIANCE) & (value > 0) & (value < 1) & (centre > 0) & (centre < 1)
    quantile = np.where(known, find_quantiles(shares), NORMAL)
    centre = np.where(known, centre, value)
    rows = 1 / (shares**2).sum(axis=0)
    rows = np.where(known, centre * (1 - centre) / np.where(known, variance, 1.0), rows)
    low, high = score_interval(centre, rows, quantile)
    if name in RANKED:
        ends = logit_interval(np.where(known, centre, 0.5), rows, quantile)
        low, high = np.where(known, ends[0], low), np.where(known, ends[1], high)
    return low, high


def difference_interval(differences: Floats, groups: Ints) -> tuple[float, float]:
    """Return the 95 % interval of the mean of differences [N] between -1 and 1, over the groups [N] of their rows."""
    blocks = join_groups(np.unique(groups, return_inverse=True)[1], MAX_BLOCKS, 0)
    sizes = np.bincount(blocks)
    if len(sizes) < 2:
        return -1.0, 1.0
    counts = weigh_blocks(len(sizes))
    means = (counts @ np.bincount(blocks, differences) / (counts @ sizes))[:, None]
    shares = (sizes / sizes.sum())[:, None]
    variance = find_variances(means)
    none = score_interval(np.zeros(1), 1 / (shares**2).sum(axis=0), np.full(1, NORMAL))[1]
    half = np.where(variance > NO_VARIANCE, find_quantiles(shares) * np.sqrt(variance), none)
    low, high = (float(end.clip(-1, 1)[0]) for end in (means[0] - half, means[0] + half))
    return low, high


def score_interval(value: Floats, rows: Floats, quantile: Floats) -> tuple[Floats, Floats]:
    """Return the ends [M] of score intervals of shares [M] of independent rows.

    >>> [round(float(end), 3) for end in score_interval(np.float64(1), np.float64(10), np.float64(1.96))]
    [0.722, 1.0]
    """
    amount = quantile**2 / rows
    centre = (value + amount / 2) / (1 + amount)
    half = np.sqrt(amount * value * (1 - value) + amount**2 / 4) / (1 + amount)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def logit_interval(value: Floats, rows: Floats, quantile: Floats) -> tuple[Floats, Floats]:
    """Return the ends [M] of intervals of shares [M] of independent rows that are symmetric on the logit scale.

    >>> [round(float(end), 3) for end in logit_interval(np.float64(0.9), np.float64(10), np.float64(1.96))]
    [0.533, 0.986]
    """
    half = quantile / np.sqrt(rows * value * (1 - value))
    logit = np.log(value / (1 - value))
    low, high = (1 / (1 + np.exp(-end.clip(-500, 500))) for end in (logit - half, logit + half))
    return low, high


def to_areas(distances: Floats) -> Floats:
    """Return the areas of d-primes: the inverse of `embedx.metrics.ranking.d_prime`."""
    return np.array([(1 + math.erf(one / 2)) / 2 for one in distances.ravel().tolist()]).reshape(distances.shape)
