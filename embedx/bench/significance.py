"""Significance: intervals of means over folds, and tests of their differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
LEVEL = 0.05  # for the family of all comparisons with the best setup of a board


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


def summarise(values: Sequence[float]) -> Score:
    """Return the mean of independent values with its interval by Student's t distribution.

    >>> summarise([0.8, 0.9, 1.0]).mean, summarise([0.5]).deviation
    (0.9, None)
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Score(mean, None, None, None)
    from scipy.stats import t

    deviation = float(np.std(values, ddof=1))
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / n**0.5
    return Score(mean, deviation, mean - half, mean + half)


def compare(differences: Sequence[float], ratio: float) -> float:
    """Return the two-sided p-value for the null hypothesis that the mean difference over folds is zero.

    The training parts of folds overlap, so the differences are not independent, and a plain paired t-test rejects too
    often. The corrected resampled t-test (Nadeau and Bengio, Inference for the generalization error, Machine Learning
    52, 2003) increases the variance of the mean from s^2 / n to s^2 (1 / n + ratio).

    Args:
        differences: one difference per fold.
        ratio: test rows / training rows.

    >>> compare([0.0, 0.0, 0.0], 0.25)
    1.0
    >>> compare([0.1, 0.12, 0.11], 0.5) < 0.05 < compare([0.1, -0.12, 0.11], 0.5)
    True
    """
    n, mean = len(differences), float(np.mean(differences))
    if mean == 0:
        return 1.0
    from scipy.stats import t

    error = float(np.std(differences, ddof=1)) * (1 / n + ratio) ** 0.5
    return float(2 * t.sf(abs(mean) / error, n - 1)) if error else 0.0


def significant_score(chance: float, setups: Sequence[Sequence[float]]) -> float:
    """Return the mean that the best of several setups must exceed to be significantly above chance.

    For one setup, this is where its 95 % interval no longer includes chance. The best of many setups exceeds chance
    even if none has learned anything, so the quantile is corrected for the number of setups (Bonferroni). The variance
    over folds is pooled over the setups, because a few folds give a poor estimate.

    Args:
        chance: the score of a constant answer.
        setups: for each setup, one value per fold.

    >>> round(significant_score(0.5, [[0.5, 0.6, 0.7]]), 3), round(significant_score(0.5, [[0.5, 0.6, 0.7]] * 10), 3)
    (0.748, 0.682)
    """
    from scipy.stats import t

    values = np.asarray(setups, float)
    count, folds = values.shape
    quantile = float(t.ppf(1 - (1 - CONFIDENCE) / 2 / count, count * (folds - 1)))
    error = float(np.sqrt(np.var(values, axis=1, ddof=1).mean() / folds))
    return chance + quantile * error


def adjust(values: Sequence[float]) -> list[float]:
    """Return p-values with Holm's correction, which controls the error rate of the whole family of tests.

    >>> [round(p, 3) for p in adjust([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(values, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return [float(value) for value in adjusted]
