"""Few-shot sampling: the training rows of a split -> a few rows of every class.

Samples with the same seed are nested: the row of 1 shot is among the rows of 2 shots, and these among the rows of 4. So
a few-shot curve shows the effect of more rows, not of other rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError


def sample_shots(
    y: NDArray[np.integer[Any]], groups: Sequence[Any] | NDArray[Any] | None, shots: int, seed: int
) -> NDArray[np.int64]:
    """Return the positions, ascending, of `shots` rows of every class.

    Within a class, rows are taken from as many groups as possible: no group gives a second row before every group has
    given one. A class with fewer rows gives all of them.

    Args:
        y: class numbers [N] of the rows to choose from; or [N, C] of 0 and 1. Then a row counts for all its classes,
            so a class may get more than `shots` rows, and rows without a class count as one more class.
        groups: [N] what the rows belong to, such as recordings; equal values belong together. None: each row on its
            own.
        shots: number of rows per class, 1 or more.
        seed: 0 or more; the same seed samples the same rows.

    Returns:
        Positions into y, ascending.

    Raises:
        UsageError: y or groups has another shape; shots or seed is out of range.

    >>> y, recordings = np.array([0, 0, 0, 1, 1, 2]), np.array([7, 7, 8, 9, 9, 9])
    >>> sample_shots(y, recordings, shots=2, seed=0).tolist()
    [0, 2, 3, 4, 5]
    """
    if y.ndim not in (1, 2) or y.dtype.kind not in "iub" or (y < 0).any():
        raise UsageError(f"y must be class numbers [N], or 0 and 1 [N, C], not {y.dtype} of shape {list(y.shape)}.")
    if shots < 1 or seed < 0:
        raise UsageError(f"shots must be 1 or more and seed 0 or more, not {shots} and {seed}.")
    group_of = np.arange(len(y)) if groups is None else np.asarray(groups)
    if len(group_of) != len(y):
        raise UsageError(f"There are {len(y)} rows and {len(group_of)} groups; give one group per row.")
    member = y.astype(bool) if y.ndim == 2 else y[:, None] == np.arange(y.max(initial=-1) + 1)
    member = np.column_stack([member, ~member.any(axis=1)])
    pools = [ClassPool(np.flatnonzero(column), group_of, [seed, i]) for i, column in enumerate(member.T)]
    chosen = np.zeros(len(y), bool)
    for wanted in range(1, shots + 1):  # one shot after the other over all classes: this makes the samples nested
        for pool in pools:
            pool.draw(wanted, chosen)
    return np.flatnonzero(chosen).astype(np.int64)


class ClassPool:
    """The rows of one class, in a random order that does not depend on the other classes."""

    def __init__(self, rows: NDArray[np.int64], groups: NDArray[Any], seed: list[int]) -> None:
        self.rows = np.random.default_rng(seed).permutation(rows)
        self.groups = np.unique(groups[self.rows], return_inverse=True)[1]  # groups of this class, numbered from 0

    def draw(self, wanted: int, chosen: NDArray[np.bool_]) -> None:
        """Mark one more row in `chosen` [N], from the group with the fewest marked rows, unless `wanted` are marked."""
        marked = chosen[self.rows]
        if marked.sum() >= min(wanted, len(marked)):
            return
        marked_in_group = np.bincount(self.groups[marked], minlength=len(self.rows))[self.groups]
        free = np.flatnonzero(~marked)
        chosen[self.rows[free[np.argmin(marked_in_group[free])]]] = True
