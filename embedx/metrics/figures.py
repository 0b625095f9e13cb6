"""Figures: a value with its 95 % interval, and the types of the arrays that figures are computed from.

A figure is computed for a block of weightings [B, groups] of the groups at once; rows are sorted only once.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedx.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Numbers = NDArray[np.number]
Counts = NDArray[np.float32]  # weights of groups; float32 adds whole numbers exactly up to 2**24

TAIL = 0.025  # share of cases below an interval, and above it: 95 % are inside
MAX_BLOCK_NUMBERS = 2**22  # weights in a block: 16 MB


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval; the interval is None if it was not asked for, or there is only one group."""

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
