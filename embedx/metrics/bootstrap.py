"""Bootstrap: how far a figure would move with other recordings.

A resample draws as many groups as there are, with replacement. It is kept as a line of counts, how often each group was
drawn, so a figure is computed for a whole block of lines [B, groups] at once, and the rows are sorted only once.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedx.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Numbers = NDArray[np.number]
Counts = NDArray[np.float32]  # float32 adds up whole numbers exactly to 2**24, more rows than memory has room for

TAIL = 0.025  # of the resamples lie below the interval, and as many above it: 95 % inside
ELEMENTS = 2**22  # of a block: 16 MB of counts
MOST_LINES = 128  # of a block; more are no faster
FEW_GROUPS = 20  # below that, percentile intervals cover visibly less than they say


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval, which is None where there was nothing to resample."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the figure as it stands in a sentence.

        >>> str(Figure(0.5, 0.4, 0.6)), str(Figure(0.5))
        ('0.5000 (0.4000 to 0.6000)', '0.5000')
        """
        return f"{self.value:.4f}" if self.low is None else f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def count_groups(groups: int, rows: int, samples: int, seed: int) -> Iterator[Counts]:
    """Yield blocks [B, groups] of how often each group counts: first once each (B = 1), then in every resample.

    >>> [block.sum(axis=1).tolist() for block in count_groups(groups=4, rows=9, samples=3, seed=0)]
    [[4.0], [4.0, 4.0, 4.0]]
    """
    yield np.ones((1, groups), np.float32)
    if groups < 2:
        return  # every resample would be the whole
    random = np.random.default_rng(seed)
    height = min(MOST_LINES, max(8, ELEMENTS // rows))
    for begin in range(0, samples, height):
        lines = min(height, samples - begin)
        drawn = random.integers(groups, size=(lines, groups)) + groups * np.arange(lines)[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)


def make_figures(values: Floats) -> list[Figure | None]:
    """Turn values [1 + samples, M], the first line being those of the data itself, into M figures.

    A resample in which a value is undefined (nan) does not count; without the value itself there is no figure. An
    interval is widened to hold its value, which matters where resampling has a bias, as for the calibration error.

    >>> make_figures(np.array([[0.5, *np.linspace(0, 100, 41)], [np.nan] * 42]).T)
    [Figure(value=0.5, low=0.5, high=97.5), None]
    """
    whole, resampled = values[0], np.sort(values[1:], axis=0)  # nan goes last
    defined = np.isfinite(resampled).sum(axis=0)
    figures: list[Figure | None] = []
    for value, line, count in zip(whole.tolist(), resampled.T, defined.tolist(), strict=True):
        if not np.isfinite(value):
            figures.append(None)
        elif count == 0:
            figures.append(Figure(value))
        else:
            low, high = np.interp([TAIL * (count - 1), (1 - TAIL) * (count - 1)], np.arange(count), line[:count])
            figures.append(Figure(value, min(float(low), value), max(float(high), value)))
    return figures


def number_groups(groups: ArrayLike | None, rows: int, name: str) -> Ints:
    """Return the group of each row [N] as a number from 0; each row by itself where none are given.

    >>> number_groups(["b", "a", "b"], 3, "groups").tolist(), number_groups(None, 2, "groups").tolist()
    ([1, 0, 1], [0, 1])

    Raises:
        UsageError: `name` is not given for every row.
    """
    if groups is None:
        return np.arange(rows)
    array = np.asarray(groups)
    if array.shape != (rows,):
        raise UsageError(f"{name} has the shape {array.shape}; it must be ({rows},), a name or number for each row.")
    if array.dtype == object:
        array = array.astype(str)
    return np.unique(array, return_inverse=True)[1].astype(np.int64)
