"""Splits: rows -> training, validation and test parts without leakage.

Rows that belong together (the windows of a recording, the clips of a group) are always in one part. The data set's own
split is used where it has one: folds, or a column with train, validation and test.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.targets import Targets, column
from embedx.store.records import Row
from embedx.text import natural_key

FOLDS = 5  # the number of folds where the data set has none of its own
FOLD_COLUMN, SPLIT_COLUMN = "fold", "split"  # the names that known data sets use
TRAIN, VALIDATION, TEST = ("train", "training"), ("validation", "valid", "val", "dev"), ("test", "testing", "eval")
STAGES = {**dict.fromkeys(TRAIN, "train"), **dict.fromkeys(VALIDATION, "validation"), **dict.fromkeys(TEST, "test")}

Positions = NDArray[np.int64]
NO_ROWS: Positions = np.empty(0, np.int64)


class SplitKwargs(TypedDict, total=False):
    """The fields of `SplitOptions` as keywords."""

    folds: str | None
    split: str | None
    group: str | None
    leaky: bool
    seed: int


@dataclass(frozen=True)
class SplitOptions:
    """How rows are split into training and test parts.

    Without folds, split, group and leaky, a column "fold" is used if every row has it; else a column "split" that holds
    only train, validation and test (rows without a value are left out); else stratified folds are made.

    Attributes:
        folds: the column whose values are the test parts, one after the other.
        split: the column that says train, validation (optional) or test.
        group: the column whose values are never split; by default "group" where it is filled. A recording is never
            split.
        leaky: split rows at random, also those of one recording or group. Scores will be inflated.
        seed: the seed for the folds that are made here.

    Raises:
        UsageError: more than one of folds, split and leaky is given.
    """

    folds: str | None = None
    split: str | None = None
    group: str | None = None
    leaky: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.folds is not None) + (self.split is not None) + self.leaky > 1:
            raise UsageError("Give only one of folds (a column), split (a column) and leaky.")

    @property
    def by_column(self) -> bool:
        """Whether a column gives the test parts."""
        return self.folds is not None or self.split is not None


class NotEnoughGroups(UsageError):
    """The rows cannot be split: they are of one recording or group, or there is one group per class."""


@dataclass(frozen=True)
class Split:
    """One part: positions of the rows to train on, to make choices by, and to test on.

    `validation` is often empty; then choices are made on inner folds of the training rows.
    """

    name: str
    train: Positions
    validation: Positions
    test: Positions

    @property
    def learned(self) -> Positions:
        """The rows that a head may see: training rows, then validation rows."""
        return np.concatenate([self.train, self.validation])


@dataclass(frozen=True)
class Splits:
    """All parts of a split.

    Attributes:
        parts: the parts, each with its training and test rows.
        how: how the parts were made, in words.
        groups: [N] the same number for rows that belong together.
        leaky: whether rows of one recording or group may be in both training and test rows, because the user set it.
        left_out: number of rows that the data set's own split leaves out.
        by_column: whether a column gives the parts.
    """

    parts: tuple[Split, ...]
    how: str
    groups: Positions
    leaky: bool = False
    left_out: int = 0
    by_column: bool = False

    @property
    def inner_groups(self) -> Positions:
        """The groups [N] that inner folds keep together: each row on its own if the split is leaky."""
        return np.arange(len(self.groups)) if self.leaky else self.groups

    def tested_in(self) -> NDArray[np.str_]:
        """Return the name of the part [N] in which each row is tested, "" for none."""
        names = np.zeros(len(self.groups), dtype=f"<U{max(1, *(len(part.name) for part in self.parts))}")
        for part in self.parts:
            names[part.test] = part.name
        return names


def make_splits(rows: Sequence[Row], targets: Targets, options: SplitOptions) -> Splits:
    """Split the rows that have targets.

    Args:
        rows: all rows. The positions in the result count the rows of `targets.kept`.
        targets: the classes of the rows.
        options: how to split.

    Returns:
        One part per fold, or a single part for a train/test column.

    Raises:
        UsageError: the column does not exist; rows that belong together would be split; there are too few groups; a
            training part has fewer than two classes.
    """
    kept = [rows[i] for i in targets.kept]
    group_column = options.group or ("group" if any(row.group is not None for row in kept) else None)
    names = [value or "" for value in column(kept, group_column)] if group_column else [""] * len(kept)
    groups = group_ids([row.path for row in kept], names)
    options = choose_columns(kept, options)
    if options.folds is not None:
        splits = split_by_folds(kept, options.folds, groups)
    elif options.split is not None:
        splits = split_by_stage(kept, options.split, groups)
    elif options.leaky:
        splits = stratified(targets.strata(), np.arange(len(kept)), "random rows (leaky)", options.seed)
        splits = replace(splits, groups=groups, leaky=True)
    else:
        how = f"{group_column!r}, stratified" if group_column else "recording, stratified"
        splits = stratified(targets.strata(), groups, how, options.seed)
    check_parts(splits, targets)
    return splits


def choose_columns(rows: Sequence[Row], options: SplitOptions) -> SplitOptions:
    """Fill in the data set's own fold or split column where the user asks for no split in particular."""
    if options.by_column or options.leaky or options.group is not None:
        return options
    if all(row.meta.get(FOLD_COLUMN) is not None for row in rows):
        return replace(options, folds=FOLD_COLUMN)
    return replace(options, split=SPLIT_COLUMN) if has_official(rows) else options


def has_official(rows: Sequence[Row]) -> bool:
    """Tell whether the "split" column names training and test rows, and holds no value other than the known ones."""
    values = {row.split.lower() for row in rows if row.split}
    return values <= set(STAGES) and not values.isdisjoint(TRAIN) and not values.isdisjoint(TEST)


def split_by_folds(rows: Sequence[Row], name: str, groups: Positions) -> Splits:
    """Make one part for each value of a column, with the rows of that value as the test rows."""
    values = column(rows, name)
    check_groups_intact(rows, values, groups, f"The folds of {name!r}")
    folds = np.array([value or "" for value in values])
    names = sorted(set(folds[folds != ""].tolist()), key=natural_key)
    if len(names) < 2:
        raise UsageError(f"The column {name!r} has only one value; folds need two or more.")
    parts = [
        Split(fold, positions((folds != fold) & (folds != "")), NO_ROWS, positions(folds == fold)) for fold in names
    ]
    return Splits(tuple(parts), f"the column {name!r}", groups, left_out=int((folds == "").sum()), by_column=True)


def split_by_stage(rows: Sequence[Row], name: str, groups: Positions) -> Splits:
    """Make the single part that a column with train, validation and test gives."""
    values = [None if value is None else value.lower() for value in column(rows, name)]
    unknown = sorted({value for value in values if value} - set(STAGES))
    if unknown:
        raise UsageError(
            f"The column {name!r} holds {unknown[0]!r}. Allowed values: {', '.join(STAGES)}. "
            "If the column holds folds, pass it as folds."
        )
    stages = [STAGES[value] if value else None for value in values]
    check_groups_intact(rows, stages, groups, f"The column {name!r}")
    array = np.array([stage or "" for stage in stages])
    part = Split("test", positions(array == "train"), positions(array == "validation"), positions(array == "test"))
    if not len(part.train) or not len(part.test):
        raise UsageError(f"The column {name!r} must name rows to train on and rows to test on.")
    return Splits((part,), f"the column {name!r}", groups, left_out=int((array == "").sum()), by_column=True)


def check_groups_intact(rows: Sequence[Row], parts: Sequence[str | None], groups: Positions, what: str) -> None:
    """Check that rows that belong together are in one part.

    Raises:
        UsageError: they are not; the message names the recordings.
    """
    first: dict[int, tuple[int, str]] = {}
    for i, (part, group) in enumerate(zip(parts, groups.tolist(), strict=True)):
        if part is None:
            continue
        j, first_part = first.setdefault(group, (i, part))
        if part != first_part:
            other = "" if rows[i].path == rows[j].path else f" and {rows[i].path}"
            raise UsageError(
                f"{what} would split one recording or group ({first_part}, {part}): {rows[j].path}{other}. Scores "
                "would be inflated. Name a group column instead, or ask for a leaky split."
            )


def stratified(strata: NDArray[np.int64], groups: Positions, how: str, seed: int, folds: int = FOLDS) -> Splits:
    """Make folds that keep groups together, with about the same share of every class in each.

    Args:
        strata: [N] one class number per row.
        groups: [N] the same number for rows that belong together.
        how: how the parts are made, in words.
        seed: the seed for the shuffle.
        folds: the highest number of folds.

    Returns:
        The folds; fewer than `folds` where there are too few groups, or too few rows of the largest class.

    Raises:
        NotEnoughGroups: not even two folds are possible.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    number = min(folds, len(set(groups.tolist())), int(np.bincount(strata).max()))
    if number < 2:
        raise NotEnoughGroups(
            "The rows cannot be split: all are of one recording or group, or each is of a different class. A class "
            "needs rows of at least two recordings (and groups), one to train on and one to test on."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns of classes with fewer rows than folds
        cuts = list(StratifiedGroupKFold(number, shuffle=True, random_state=seed % 2**32).split(strata, strata, groups))
    parts = [Split(str(i), train, NO_ROWS, test) for i, (train, test) in enumerate(cuts, start=1) if len(test)]
    return Splits(tuple(parts), how, groups)


def unsplit(rows: Sequence[Row], targets: Targets) -> Splits:
    """Return a single part that trains on all rows and tests none."""
    everything = np.arange(len(targets.kept))
    groups = group_ids([rows[i].path for i in targets.kept], [""] * len(everything))
    return Splits((Split("", everything, NO_ROWS, NO_ROWS),), "nothing: too few to be split", groups)


def check_parts(splits: Splits, targets: Targets) -> None:
    """Check that the training rows of every part differ in their labels, and that some test row has a class of theirs.

    Raises:
        NotEnoughGroups: all training rows of a part have the same label.
        UsageError: in every part, the test rows have other classes than the training rows.
    """
    advice = "Choose a column that divides the classes, such as the site or the recorder."
    for part in splits.parts:
        y = targets.y[part.train]
        if (y == y[:1]).all():
            raise NotEnoughGroups(
                f"The training rows for the test part {part.name} have fewer than two classes, so no head can be "
                f"fitted.{f' The split is by {splits.how}. {advice}' if splits.by_column else ''}"
            )
    strata = targets.strata()
    if not targets.multilabel and not any(
        np.isin(strata[part.test], strata[part.train]).any() for part in splits.parts
    ):
        raise UsageError(
            f"No test row has a class of the training rows, so every prediction would be wrong: {splits.how} gives "
            f"each part classes of its own. {advice}"
        )


def group_ids(paths: Sequence[str], groups: Sequence[str]) -> Positions:
    """Number the rows [N] so that rows of one recording, or of one named group, share a number.

    >>> group_ids(["a", "a", "b", "c"], ["x", "y", "y", ""]).tolist()
    [0, 0, 0, 3]
    """
    parent = list(range(len(paths)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, (path, group) in enumerate(zip(paths, groups, strict=True)):
        for key in [("path", path), *([("group", group)] if group else [])]:
            a, b = root(first.setdefault(key, i)), root(i)
            parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(len(paths))], np.int64)


def positions(mask: NDArray[np.bool_]) -> Positions:
    """Return the positions where a mask is True."""
    return np.flatnonzero(mask).astype(np.int64)
