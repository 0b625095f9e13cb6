"""Significance: intervals of means over folds, and tests of differences between setups and from chance.

The tests hold for any correlation between setups and any spread of each: every test uses the spread of its own
differences over folds, and the p-values are corrected for the number of tests. `benchmarks/statistics/leaderboard.py`
measures how often they are wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
LEVEL = 0.02  # false alarms of all tests on a board; the correction for folds is approximate, and 3 % is the limit
MIN_FOLDS = 4  # with fewer, the spread over folds is hardly known (the quantile of Student's t is 7 or more)
ENOUGH_FREEDOM = (
    8  # degrees of freedom, for which Student's quantiles of many tests are no more than twice the normal ones
)
MEAN_SHARE = 0.75  # of the level, for the test of the mean of all setups: mostly all or none have learned something
TIE_DIGITS = 12  # means that differ by less are equal: rounding of double precision adds up to 1e-15

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A mean, its standard deviation and its 95 % interval; these are None for a single value."""

    mean: float
    deviation: float | None
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None else self.high - self.mean


def summarise(values: Sequence[float], floor: float = 0.0) -> Score:
    """Return the mean of independent values with its interval by Student's t distribution.

    Args:
        values: one value per fold or seed.
        floor: lower limit of the variance of a value, as from `binomial_variance`; default 0.

    >>> summarise([0.8, 0.9, 1.0]).mean, summarise([0.5]).deviation, summarise([0.5, 0.5], 0.01).half > 0.5
    (0.9, None, True)
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Score(mean, None, None, None)
    from scipy.special import stdtrit

    variance = float(np.var(values, ddof=1))
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * (max(variance, floor) / n) ** 0.5
    return Score(mean, variance**0.5, mean - half, mean + half)


def binomial_variance(shares: Sequence[float], rows: Sequence[int]) -> float:
    """Return the binomial variance of a share of rows, the mean over folds.

    One success and one failure are added to each fold, so that a share of 0 or 1 has a variance too.

    >>> round(binomial_variance([1.0, 1.0], [8, 8]), 5)
    0.01125
    """
    p, n = np.asarray(shares, float), np.asarray(rows, float)
    smooth = (p * n + 1) / (n + 2)
    return float(np.mean(smooth * (1 - smooth) / n))


def compare(
    differences: Sequence[float] | Matrix, ratio: float, floor: float = 0.0, freedom: float | None = None
) -> float:
    """Return the one-sided p-value for the null hypothesis that the mean difference over folds is not above zero.

    The training parts of folds overlap, so the differences are not independent, and a plain t-test rejects too often.
    The corrected resampled t-test (Nadeau and Bengio, Inference for the generalization error, Machine Learning 52,
    2003) increases the variance of the mean from s^2 / n to s^2 (1 / n + ratio). A few folds can agree by chance: s^2
    is not taken to be less than `floor`.

    Args:
        differences: one difference per fold.
        ratio: test rows / training rows.
        floor: lower limit of the variance of a difference, from the number of test rows; default 0. If it is 0 and the
            differences are all equal, nothing is known about their spread, and the result is 1, as for differences
            that are not finite.
        freedom: degrees of freedom of the variance; default: the number of differences - 1.

    >>> compare([0.1, 0.12, 0.11], 0.5) < 0.02 < compare([0.1, -0.12, 0.11], 0.5)
    True
    >>> compare([0.1, 0.1], 0.5), compare([0.1, 0.1], 0.5, 0.09 / 40) > 0.1
    (1.0, True)
    """
    n, mean = len(differences), float(np.mean(differences))
    if not np.isfinite(mean):
        return 1.0
    variance = max(float(np.var(differences, ddof=1)), floor)
    if round(mean, TIE_DIGITS) <= 0 or variance**0.5 < 10**-TIE_DIGITS:
        return 1.0
    from scipy.special import stdtr

    return float(stdtr(freedom or n - 1, -mean / (variance * (1 / n + ratio)) ** 0.5))


def choose_elsewhere(values: Matrix) -> list[NDArray[np.intp]]:
    """Return for each fold the setups that have the highest mean over all other folds, because these did not use it.

    The heads of the other folds were trained on rows of this fold but not tested on them. Setups with equal means are
    all returned; a choice between them by their mean over all folds would use this fold.

    Args:
        values: scores [M, K] of setups and folds; higher is better.

    >>> [chosen.tolist() for chosen in choose_elsewhere(np.array([[1, 0, 0], [0, 1, 1.0]]))]
    [[1], [0, 1], [0, 1]]
    """
    means = (values.sum(axis=1, keepdims=True) - values) / (values.shape[1] - 1)
    means = np.round(means, TIE_DIGITS)
    return [np.flatnonzero(column == column.max()) for column in means.T]


def pooled_variance(values: Matrix) -> float:
    """Return the mean variance over folds of the difference between two setups, over all pairs with a spread.

    Pairs without a spread, such as two constant answers, say nothing about the others.

    Args:
        values: scores [M, K] of setups and folds.

    >>> round(pooled_variance(np.array([[0, 0], [0, 0], [0, 0.2]])), 6)
    0.02
    """
    centred = values - values.mean(axis=1, keepdims=True)
    covariance = centred @ centred.T / (values.shape[1] - 1)
    own = np.diag(covariance)
    pairs = (own[:, None] + own - 2 * covariance)[np.triu_indices(len(values), 1)]
    varied = pairs[pairs > 10 ** (-2 * TIE_DIGITS)]
    return float(varied.mean()) if len(varied) else 0.0


def compare_pair(differences: Matrix, ratio: float, floor: float, pooled: float, setups: int) -> float:
    """Return the corrected p-value for the null hypothesis that the best of several setups is no better than another.

    The best is chosen by its scores, so it is better than others by luck. Two tests must both reject, each corrected
    for the number of its tests (Bonferroni):

    - With the variance of these differences, about 2 M different tests: if setups differ much in their spread, that of
      a pair is mostly the spread of one setup. A few folds give a poor estimate. It is averaged with the pooled
      variance, which counts as up to as many folds, until it has `ENOUGH_FREEDOM`.
    - With the pooled variance, if it is larger, for all M (M - 1) ordered pairs: by their own variance, some of so many
      pairs look stable by chance.

    Args:
        differences: one difference per fold.
        ratio: test rows / training rows.
        floor: as in `compare`.
        pooled: variance from `pooled_variance`.
        setups: number of setups M.
    """
    folds, pairs = len(differences), setups * (setups - 1)
    own, known = float(np.var(differences, ddof=1)), folds - 1
    borrowed = max(0, min(known, ENOUGH_FREEDOM - known)) if setups > 2 else 0
    blended = (known * own + borrowed * pooled) / (known + borrowed)
    first = compare(differences, ratio, max(floor, blended), known + borrowed) * min(2 * setups, pairs)
    freedom = max(1.0, (setups - 1) / 2) * known  # of the pooled variance: the pairs depend on each other
    second = compare(differences, ratio, max(floor, pooled), freedom) * pairs
    return min(1.0, max(first, second))


def paired_floor(differences: Matrix, rows: Matrix) -> float:
    """Return a lower limit of the variance of a fold's difference between two shares of the same rows.

    A difference d of two shares of n rows has a variance of at least |d| (1 - |d|) / n: it is the smallest where one
    setup is right on every row on which the other is right.

    Args:
        differences: one difference per fold [K].
        rows: test rows of the folds [K].
    """
    size = np.minimum(np.abs(differences), 1.0)
    return float(np.mean(size * (1 - size) / rows))


def above_chance(values: Matrix, chance: Matrix, rows: Matrix, ratio: float) -> tuple[float, Matrix]:
    """Test whether any of several setups is above chance, and each of them.

    Two tests share the level (Bonferroni, with `MEAN_SHARE`): the mean of all setups with spread, and the best of them.
    The first is powerful if most setups have learned something, the second if one has.

    Args:
        values: scores [M, K] of setups and folds.
        chance: scores of a constant answer in the folds [K].
        rows: test rows of the folds [K].
        ratio: test rows / training rows.

    Returns:
        The p-value for all setups together, and the p-values of the setups [M], which are not corrected for M.
    """
    gains, floor = values - chance, float(np.mean(chance * (1 - chance) / rows))
    each = np.array([compare(row, ratio, floor) for row in gains])
    varied = np.ptp(gains, axis=1) > 10**-TIE_DIGITS
    if len(each) == 1 or not varied.any():
        return min(1.0, float(each.min()) * len(each)), each
    mean = compare(gains[varied].mean(axis=0), ratio, floor)
    return min(1.0, mean / MEAN_SHARE, float(each.min()) * len(each) / (1 - MEAN_SHARE)), each
