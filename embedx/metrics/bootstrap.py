"""Bootstrap: how much a figure would change with other recordings.

A resample draws as many groups as there are, with replacement. It is kept as counts of how often each group was drawn,
so that a figure is computed for a block of resamples [B, groups] at once, and rows are sorted only once.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedx.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Numbers = NDArray[np.number]
Counts = NDArray[np.float32]  # float32 adds whole numbers exactly up to 2**24, more rows than fit in memory

TAIL = 0.025  # share of resamples below the interval, and above it: 95 % are inside
MAX_BLOCK_NUMBERS = 2**22  # counts in a block: 16 MB
MAX_BLOCK_SAMPLES = 128  # resamples in a block; more are not faster
MIN_RELIABLE_GROUPS = 20  # with fewer groups, percentile intervals are clearly too narrow


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval; the interval is None if nothing was resampled."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the figure with its interval as text.

        >>> str(Figure(0.5, 0.4, 0.6)), str(Figure(0.5))
        ('0.5000 (0.4000 to 0.6000)', '0.5000')
        """
        return f"{self.value:.4f}" if self.low is None else f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def count_groups(groups: int, rows: int, samples: int, seed: int) -> Iterator[Counts]:
    """Yield blocks [B, groups] of group counts: first each group once (B = 1), then the resamples.

    >>> [block.sum(axis=1).tolist() for block in count_groups(groups=4, rows=9, samples=3, seed=0)]
    [[4.0], [4.0, 4.0, 4.0]]
    """
    yield np.ones((1, groups), np.float32)
    if groups < 2:
        return  # every resample would be equal to the data
    random = np.random.default_rng(seed)
    height = min(MAX_BLOCK_SAMPLES, max(8, MAX_BLOCK_NUMBERS // rows))
    for begin in range(0, samples, height):
        lines = min(height, samples - begin)
        drawn = random.integers(groups, size=(lines, groups)) + groups * np.arange(lines)[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)


def make_figures(values: Floats) -> list[Figure | None]:
    """Return M figures from values [1 + samples, M]; the first line holds the values of the data itself.

    Resamples in which a value is undefined (nan) are ignored; if the value itself is undefined, the figure is None. An
    interval is widened to include its value, because resampling is biased for some figures, such as the calibration
    error.

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
    """Return the group of each row [N] as a number from 0; each row is a group of its own if `groups` is None.

    >>> number_groups(["b", "a", "b"], 3, "groups").tolist(), number_groups(None, 2, "groups").tolist()
    ([1, 0, 1], [0, 1])

    Raises:
        UsageError: there is not one value per row; `name` is for the message.
    """
    if groups is None:
        return np.arange(rows)
    array = np.asarray(groups)
    if array.shape != (rows,):
        raise UsageError(f"{name} has the shape {array.shape}; it must be ({rows},), a name or number for each row.")
    if array.dtype == object:
        array = array.astype(str)
    return np.unique(array, return_inverse=True)[1].astype(np.int64)
