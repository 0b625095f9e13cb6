"""Gain: two sets of training rows, the last head's and today's -> what the labels in between have brought."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedx.errors import StoreError, UsageError
from embedx.evaluation.cross_validation import Experiment, Fit, HeldOutPredictions, cross_fit
from embedx.heads.head import Head


@dataclass(frozen=True)
class Gain:
    """What more labels brought: two heads on the same tested rows, one fitted on the rows that the last head had.

    figure: what is compared. low, high: 95 % interval of the difference, from the groups of the tested rows.
    """

    figure: str
    before: float
    after: float
    low: float
    high: float
    rows_before: int
    rows_after: int

    def __str__(self) -> str:
        return (
            f"{self.rows_after - self.rows_before:+d} labelled rows since the last head of this name: {self.figure} "
            f"{self.before:.4f} -> {self.after:.4f} "
            f"({self.after - self.before:+.4f}, {self.low:+.4f} to {self.high:+.4f})"
        )


def gain_since(
    problem: Experiment, fit: Fit, folder: Path, label: str | list[str], held: HeldOutPredictions
) -> Gain | None:
    """Compare with heads that learn from the rows of the last head of this name only, on the same tested rows.

    None where there is no such head, or nothing was added since, or it could not learn from what it had.
    """
    try:
        last = Head.load(folder).settings["training"]
        before = within(np.array([row.id for row in problem.rows]), last["rows"])
    except (StoreError, KeyError, TypeError):
        return None
    learned = np.zeros(len(problem.rows), bool)
    learned[problem.development] = True
    if last.get("label") != label or not (learned & ~before).any():
        return None
    fewer = tuple(
        replace(part, train=part.train[before[part.train]], validation=part.validation[before[part.validation]])
        for part in problem.splits.parts
    )
    try:
        old = cross_fit(problem, fit, replace(problem.splits, parts=fewer))
    except UsageError:  # a fold without two classes among them
        return None
    y = problem.targets.y[old.positions]
    rights = [right(logits, y) for logits in (old.logits, held.logits)]
    low, high = paired_interval(rights[1] - rights[0], problem.splits.groups[old.positions])
    figure = "share of labels right" if problem.targets.multilabel else "accuracy"
    counts = int((before & learned).sum()), int(learned.sum())
    return Gain(figure, float(rights[0].mean()), float(rights[1].mean()), low, high, *counts)


def right(logits: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each row [M] whether it is told right, or the share of its labels that are.

    >>> right(np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([[1, 0], [0, 0]])).tolist()
    [1.0, 0.5]
    """
    if y.ndim == 2:
        return np.asarray(((logits > 0) == (y == 1)).mean(axis=1))
    return np.asarray(logits.argmax(axis=1) == y, np.float64)


def paired_interval(
    difference: NDArray[np.float64], groups: NDArray[np.int64], samples: int = 2000
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of differences [M], with whole groups drawn."""
    number = np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(number, difference), np.bincount(number)
    drawn = np.random.default_rng(0).integers(len(sums), size=(samples, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def ranges(ids: Sequence[int]) -> list[list[int]]:
    """Write ascending ids as first and last of every run.

    >>> ranges([1, 2, 3, 7, 9, 10])
    [[1, 3], [7, 7], [9, 10]]
    """
    found: list[list[int]] = []
    for one in ids:
        if found and one == found[-1][1] + 1:
            found[-1][1] = one
        else:
            found.append([one, one])
    return found


def within(ids: NDArray[np.int64], some: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Tell which ids [N] are in ascending ranges.

    >>> within(np.array([1, 4, 8]), [[1, 3], [8, 9]]).tolist()
    [True, False, True]
    """
    firsts, lasts = np.array(some, np.int64).reshape(-1, 2).T
    place = np.searchsorted(firsts, ids, side="right") - 1
    return (place >= 0) & (ids <= lasts[place.clip(min=0)]) if len(firsts) else np.zeros(len(ids), bool)
