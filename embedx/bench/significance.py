"""Significance: how sure a mean over folds is, and whether two of them differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
LEVEL = 0.05  # of the family of all comparisons with the best of a board


@dataclass(frozen=True)
class Score:
    """A mean with its standard deviation and its 95 % interval; None where one value alone gives neither."""

    mean: float
    deviation: float | None
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None else self.high - self.mean


def summarise(values: Sequence[float]) -> Score:
    """Return the mean of independent values, and the interval that Student's t gives.

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
    """Return the two-sided p-value of a mean difference over folds being zero.

    Training parts of folds overlap, so differences are not independent, and a plain paired t-test finds too much. The
    corrected resampled t-test (Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003)
    widens the variance of the mean from s^2 / n to s^2 (1 / n + ratio), where `ratio` is test rows / training rows.

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


def set_bar(chance: float, setups: Sequence[Sequence[float]]) -> float:
    """Return what the best of several setups must reach to be more than chance; each has a value for every fold.

    For one setup this is where the 95 % interval begins to leave chance out. Of a hundred setups without any
    knowledge the best leaves it far behind, so the quantile is that of the best of so many (Bonferroni). The spread
    over folds is pooled over setups, since few folds alone say little about it.

    >>> round(set_bar(0.5, [[0.5, 0.6, 0.7]]), 3), round(set_bar(0.5, [[0.5, 0.6, 0.7]] * 10), 3)
    (0.748, 0.682)
    """
    from scipy.stats import t

    values = np.asarray(setups, float)
    many, folds = values.shape
    quantile = float(t.ppf(1 - (1 - CONFIDENCE) / 2 / many, many * (folds - 1)))
    error = float(np.sqrt(np.var(values, axis=1, ddof=1).mean() / folds))
    return chance + quantile * error


def adjust(values: Sequence[float]) -> list[float]:
    """Return p-values after Holm's correction, so that a family of tests errs in 5 % of cases and not each test.

    >>> [round(p, 3) for p in adjust([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(values, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return [float(one) for one in adjusted]
