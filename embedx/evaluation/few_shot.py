"""Shots: the training rows of a split -> a few of every class, to see how much a head learns from how little.

The draws of one seed are nested: 1 shot is among the 2 shots, those among the 4. So a few-shot curve shows what more
rows bring, and not what other rows bring.
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

    Within a class the rows come from as many groups as there are: no group gives a second row before every group has
    given one. A class with fewer rows gives all of them.

    Args:
        y: class numbers [N] of the rows to choose from; or [N, C] of 0 and 1. There a row counts for all its classes,
            so a class may end with more than `shots` rows, and rows of no class are one class more, the negatives.
        groups: [N] what the rows belong to, such as recordings; equal values belong together. None: all are apart.
        shots: rows of every class, 1 or more.
        seed: 0 or more; equal seeds draw equal rows.

    >>> y, recordings = np.array([0, 0, 0, 1, 1, 2]), np.array([7, 7, 8, 9, 9, 9])
    >>> sample_shots(y, recordings, shots=2, seed=0).tolist()
    [0, 2, 3, 4, 5]

    Raises:
        UsageError: a shape, a number of shots or a seed that cannot be meant.
    """
    if y.ndim not in (1, 2) or y.dtype.kind not in "iub" or (y < 0).any():
        raise UsageError(f"y is class numbers [N], or 0 and 1 [N, C], not {y.dtype} of shape {list(y.shape)}.")
    if shots < 1 or seed < 0:
        raise UsageError(f"shots is 1 or more and seed 0 or more, not {shots} and {seed}.")
    belongs = np.arange(len(y)) if groups is None else np.asarray(groups)
    if len(belongs) != len(y):
        raise UsageError(f"There are {len(y)} rows and {len(belongs)} groups; every row has one.")
    member = y.astype(bool) if y.ndim == 2 else y[:, None] == np.arange(y.max(initial=-1) + 1)
    member = np.column_stack([member, ~member.any(axis=1)])
    classes = [Pool(np.flatnonzero(column), belongs, [seed, i]) for i, column in enumerate(member.T)]
    chosen = np.zeros(len(y), bool)
    for wanted in range(1, shots + 1):  # shot by shot over all classes, which is what nests the draws
        for pool in classes:
            pool.draw(wanted, chosen)
    return np.flatnonzero(chosen).astype(np.int64)


class Pool:
    """The rows of one class, in an order of their own that no other class has a part in."""

    def __init__(self, rows: NDArray[np.int64], belongs: NDArray[Any], seed: list[int]) -> None:
        self.rows = np.random.default_rng(seed).permutation(rows)
        self.belongs = np.unique(belongs[self.rows], return_inverse=True)[1]  # groups of this class, numbered

    def draw(self, wanted: int, chosen: NDArray[np.bool_]) -> None:
        """Mark one more of the rows [N], of a group that gave the fewest, unless `wanted` of the class are marked."""
        taken = chosen[self.rows]
        if taken.sum() >= min(wanted, len(taken)):
            return
        given = np.bincount(self.belongs[taken], minlength=len(self.rows))[self.belongs]
        left = np.flatnonzero(~taken)
        chosen[self.rows[left[np.argmin(given[left])]]] = True
