"""Weighted sums over rows for many weightings at once; most figures are ratios of such sums."""

import numpy as np

from embedx.metrics.figures import Counts, Floats, Ints, Numbers


class Tally:
    """The sum of `values` [n] (1 each if not given) for every key [n] from 0 to size - 1, with groups [n] weighted.

    Entries with the same key and group are added once here, not for every weighting.

    >>> tally = Tally(np.array([0, 2, 2]), np.array([0, 0, 1]), 3)
    >>> tally.sums(np.array([[1, 0], [1, 2]], np.float32)).tolist()
    [[1.0, 0.0, 1.0], [1.0, 0.0, 3.0]]
    """

    def __init__(self, keys: Ints, groups: Ints, size: int, values: Floats | None = None) -> None:
        span = int(groups.max(initial=0)) + 1
        pairs, place = np.unique(keys * span + groups, return_inverse=True)
        amounts = np.bincount(place, values, minlength=len(pairs))
        self.size = size
        self.amounts = amounts.astype(np.float32 if values is None else np.float64)
        self.groups = pairs % span
        self.present, self.starts = np.unique(pairs // span, return_index=True)

    def sums(self, counts: Counts) -> Floats:
        """Return the sums [B, size] for counts [B, groups]."""
        sums = np.zeros((len(counts), self.size))
        if len(self.starts):
            weighted = counts.take(self.groups, axis=1) * self.amounts
            sums[:, self.present] = np.add.reduceat(weighted, self.starts, axis=1)
        return sums


def divide(numerator: Numbers, denominator: Numbers) -> Floats:
    """Divide; nan where the denominator is 0.

    >>> divide(np.array([1.0, 1.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient


def mean_defined(values: Floats) -> Floats:
    """Return the mean over the last axis without nan; nan if all values are nan.

    >>> mean_defined(np.array([[1.0, 2.0, np.nan], [np.nan, np.nan, np.nan]])).tolist()
    [1.5, nan]
    """
    return divide(np.nansum(values, axis=-1), np.isfinite(values).sum(axis=-1))
