"""Label gain: the training rows of the last head and of today's -> the effect of the labels added in between."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedx.errors import StoreError, UsageError
from embedx.evaluation.cross_validation import Experiment, Fit, HeldOutPredictions, cross_fit
from embedx.heads.head import Head
from embedx.metrics.intervals import difference_interval
from embedx.metrics.scoring import MIN_RELIABLE_GROUPS


@dataclass(frozen=True)
class Gain:
    """The effect of more labels: two heads on the same test rows, one fitted only on the rows of the last head.

    Attributes:
        figure: the name of the figure that is compared.
        before, after: its value with the rows of the last head, and with all rows.
        low, high: 95 % interval of the difference, over the groups of the test rows.
        rows_before, rows_after: numbers of training rows.
        groups: number of groups of the test rows; None if not known (an older server).
    """

    figure: str
    before: float
    after: float
    low: float
    high: float
    rows_before: int
    rows_after: int
    groups: int | None = None

    def __str__(self) -> str:
        few = self.groups is not None and self.groups < MIN_RELIABLE_GROUPS
        rough = f"; it is rough, because the test rows are of only {self.groups} groups" if few else ""
        return (
            f"{self.rows_after - self.rows_before:+d} labelled rows since the last head of this name: {self.figure} "
            f"{self.before:.4f} -> {self.after:.4f} "
            f"({self.after - self.before:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}{rough})."
        )


def gain_since(
    experiment: Experiment, fit: Fit, folder: Path, label: str | list[str], held_out: HeldOutPredictions
) -> Gain | None:
    """Compare today's heads with heads fitted only on the rows of the last head of this name, on the same test rows.

    None if there is no such head, no row was added since, or its rows are too few for the folds.
    """
    try:
        training = Head.load(folder).settings["training"]
        old_rows = in_ranges(np.array([row.id for row in experiment.rows]), training["rows"])
    except (StoreError, KeyError, TypeError):
        return None
    new_rows = np.zeros(len(experiment.rows), bool)
    new_rows[experiment.development] = True
    if training.get("label") != label or not (new_rows & ~old_rows).any():
        return None
    parts = [
        replace(part, train=part.train[old_rows[part.train]], validation=part.validation[old_rows[part.validation]])
        for part in experiment.splits.parts
    ]
    try:
        before = cross_fit(experiment, fit, parts)
    except UsageError:  # a fold has fewer than two classes
        return None
    y = experiment.targets.y[before.positions]
    correct_before, correct_after = share_correct(before.logits, y), share_correct(held_out.logits, y)
    groups = experiment.splits.groups[before.positions]
    low, high = difference_interval(correct_after - correct_before, groups)
    return Gain(
        figure="share of correct labels" if experiment.targets.multilabel else "accuracy",
        before=float(correct_before.mean()),
        after=float(correct_after.mean()),
        low=low,
        high=high,
        rows_before=int((old_rows & new_rows).sum()),
        rows_after=int(new_rows.sum()),
        groups=len(np.unique(groups)),
    )


def share_correct(logits: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each row [M] 1 or 0 for a correct or wrong class; multi-label: the share of correct labels.

    >>> share_correct(np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([[1, 0], [0, 0]])).tolist()
    [1.0, 0.5]
    """
    if y.ndim == 2:
        return np.asarray(((logits > 0) == (y == 1)).mean(axis=1))
    return np.asarray(logits.argmax(axis=1) == y, np.float64)


def to_ranges(ids: Sequence[int]) -> list[list[int]]:
    """Return ascending ids as [first, last] of every run.

    >>> to_ranges([1, 2, 3, 7, 9, 10])
    [[1, 3], [7, 7], [9, 10]]
    """
    ranges: list[list[int]] = []
    for row_id in ids:
        if ranges and row_id == ranges[-1][1] + 1:
            ranges[-1][1] = row_id
        else:
            ranges.append([row_id, row_id])
    return ranges


def in_ranges(ids: NDArray[np.int64], ranges: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Return which ids [N] are in ascending ranges.

    >>> in_ranges(np.array([1, 4, 8]), [[1, 3], [8, 9]]).tolist()
    [True, False, True]
    """
    firsts, lasts = np.array(ranges, np.int64).reshape(-1, 2).T
    place = np.searchsorted(firsts, ids, side="right") - 1
    return (place >= 0) & (ids <= lasts[place.clip(min=0)]) if len(firsts) else np.zeros(len(ids), bool)
