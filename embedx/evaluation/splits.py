"""Splits: rows -> training, validation and test parts that leak nothing.

What belongs together (the windows of a recording, the clips of a named group) is never on both sides. The split is
the data set's own where it has one: folds, or a column that says train, validation and test.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.targets import Targets, column
from embedx.store.records import Row
from embedx.text import natural_key

FOLDS = 5  # where the corpus brings none
FOLD_COLUMN, SPLIT_COLUMN = "fold", "split"  # what known data sets call theirs
TRAIN, VALIDATION, TEST = ("train", "training"), ("validation", "valid", "val", "dev"), ("test", "testing", "eval")

Positions = NDArray[np.int64]


class NotEnoughGroups(UsageError):
    """There is too little that may be parted: one recording or group, or one of each class."""


@dataclass(frozen=True)
class Split:
    """Positions of the rows to learn from, to choose by (often none: then inner folds do that), and to be scored on."""

    name: str
    train: Positions
    validation: Positions
    test: Positions


@dataclass(frozen=True)
class Splits:
    """All parts of a split.

    how: where it comes from, in words.
    groups: [N] equal numbers for rows that belong together.
    leaky: rows of one recording or group may be on both sides, because that was asked for.
    left_out: rows that the data set's own split does not name.
    """

    parts: tuple[Split, ...]
    how: str
    groups: Positions
    leaky: bool = False
    left_out: int = 0

    def tested_in(self) -> NDArray[np.str_]:
        """Return the name of the part [N] in which each row is tested, "" for none."""
        names = np.zeros(len(self.groups), dtype=f"<U{max(1, *(len(part.name) for part in self.parts))}")
        for part in self.parts:
            names[part.test] = part.name
        return names


def make_splits(
    rows: Sequence[Row],
    targets: Targets,
    *,
    folds: str | None = None,
    split: str | None = None,
    group: str | None = None,
    leaky: bool = False,
    seed: int = 0,
) -> Splits:
    """Split the rows that have targets.

    Args:
        rows: all rows; the positions that come back count those of `targets.kept`.
        targets: what they are.
        folds: a column whose values are test parts, one after the other.
        split: instead, a column that says train, validation (may be missing) or test.
        group: a column whose values are never split; "group" where it is filled. A recording never is.
        leaky: instead, random folds of rows that may split recordings and groups: scores will be too good.
        seed: of the folds that are made here, stratified by class.

    Without folds, split, group and leaky, a column "fold" is taken if every row has it, else a column "split" that says
    nothing but train, validation and test (rows without it are left out).

    Raises:
        UsageError: no such column; what belongs together would be on both sides; too few groups; nothing to learn.
    """
    if (folds is not None) + (split is not None) + leaky > 1:
        raise UsageError("Give one of folds (a column), split (a column) and leaky.")
    kept = [rows[i] for i in targets.kept]
    grouped = group or ("group" if any(row.group is not None for row in kept) else None)
    groups = [value or "" for value in column(kept, grouped)] if grouped else [""] * len(kept)
    together = never_split([row.path for row in kept], groups)
    if folds is None and split is None and group is None and not leaky:
        folds = FOLD_COLUMN if all(row.meta.get(FOLD_COLUMN) is not None for row in kept) else None
        split = SPLIT_COLUMN if folds is None and has_official(kept) else None
    if folds is not None:
        found = by_folds(kept, folds, together)
    elif split is not None:
        found = by_column(kept, split, together)
    else:
        kind = "random rows (leaky)" if leaky else f"{grouped!r}, stratified" if grouped else "recording, stratified"
        found = stratified(targets.strata(), np.arange(len(kept)) if leaky else together, kind, seed)
        found = replace(found, groups=together, leaky=leaky)
    check_parts(found, targets)
    return found


def has_official(rows: Sequence[Row]) -> bool:
    """Tell whether the column of splits names training, validation and test parts, and the first and the last exist."""
    values = {row.split.lower() for row in rows if row.split}
    return values <= {*TRAIN, *VALIDATION, *TEST} and not values.isdisjoint(TRAIN) and not values.isdisjoint(TEST)


def by_folds(rows: Sequence[Row], name: str, together: Positions) -> Splits:
    """Test every value of a column once."""
    values = column(rows, name)
    check_groups_intact(rows, values, together, f"The folds of {name!r}")
    parts = np.array([value or "" for value in values])
    names = sorted(set(parts[parts != ""].tolist()), key=natural_key)
    if len(names) < 2:
        raise UsageError(f"The column {name!r} has one value only; folds need two or more.")
    found = [
        Split(one, where((parts != one) & (parts != "")), np.empty(0, np.int64), where(parts == one)) for one in names
    ]
    return Splits(tuple(found), f"the column {name!r}", together, left_out=int((parts == "").sum()))


def by_column(rows: Sequence[Row], name: str, together: Positions) -> Splits:
    """Take the one split that a column gives."""
    values = [None if value is None else value.lower() for value in column(rows, name)]
    strange = sorted({value for value in values if value} - {*TRAIN, *VALIDATION, *TEST})
    if strange:
        raise UsageError(
            f"The column {name!r} says {strange[0]!r}; it may say {', '.join((*TRAIN, *VALIDATION, *TEST))}. "
            "A column of folds is named as folds."
        )
    stage = [0 if not value else 1 if value in TRAIN else 2 if value in VALIDATION else 3 for value in values]
    check_groups_intact(
        rows, [("", "train", "validation", "test")[one] or None for one in stage], together, f"The column {name!r}"
    )
    of = np.array(stage)
    part = Split("test", where(of == 1), where(of == 2), where(of == 3))
    if not len(part.train) or not len(part.test):
        raise UsageError(f"The column {name!r} must name rows to train and rows to test.")
    return Splits((part,), f"the column {name!r}", together, left_out=int((of == 0).sum()))


def check_groups_intact(rows: Sequence[Row], parts: Sequence[str | None], together: Positions, what: str) -> None:
    """See to it that what belongs together is in one part.

    Raises:
        UsageError: it is not; the message names the recording.
    """
    first: dict[int, tuple[int, str]] = {}
    for i, (part, one) in enumerate(zip(parts, together.tolist(), strict=True)):
        if part is None:
            continue
        j, before = first.setdefault(one, (i, part))
        if part != before:
            raise UsageError(
                f"{what} puts one recording or group on both sides ({before}, {part}): {rows[j].path}"
                f"{'' if rows[i].path == rows[j].path else f' and {rows[i].path}'}. Scores would be too good. "
                "Name a group column instead, or ask for a leaky split on purpose."
            )


def stratified(strata: NDArray[np.int64], together: Positions, how: str, seed: int, folds: int = FOLDS) -> Splits:
    """Make folds that keep what belongs together, with about the same share of every class in each."""
    from sklearn.model_selection import StratifiedGroupKFold

    number = min(folds, len(set(together.tolist())), int(np.bincount(strata).max()))
    if number < 2:
        raise NotEnoughGroups(
            "All rows are of one recording or group, or each of another class, so they cannot be split. A class needs "
            "rows of two recordings (and groups) at least, one to learn from and one to be tested on."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds is no fault of the user
        cuts = list(StratifiedGroupKFold(number, shuffle=True, random_state=seed).split(strata, strata, together))
    none = np.empty(0, np.int64)
    parts = [Split(str(i), train, none, test) for i, (train, test) in enumerate(cuts, start=1) if len(test)]
    return Splits(tuple(parts), how, together)


def unsplit(rows: Sequence[Row], targets: Targets) -> Splits:
    """Return one part that learns from all rows and tests none."""
    everything = np.arange(len(targets.kept))
    none = np.empty(0, np.int64)
    together = never_split([rows[i].path for i in targets.kept], [""] * len(everything))
    return Splits((Split("", everything, none, none),), "nothing: too few to be split", together)


def check_parts(splits: Splits, targets: Targets) -> None:
    """See to it that something can be learned in every part.

    Raises:
        UsageError: all its training rows are alike.
    """
    for part in splits.parts:
        learned = targets.y[part.train]
        if (learned == learned[:1]).all():
            raise NotEnoughGroups(
                f"Outside the test part {part.name} there are fewer than two classes, so nothing can be learned there."
            )


def never_split(paths: Sequence[str], groups: Sequence[str]) -> Positions:
    """Number the rows [N] so that those of one recording, or of one named group, share a number.

    >>> never_split(["a", "a", "b", "c"], ["x", "y", "y", ""]).tolist()
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


def where(mask: NDArray[np.bool_]) -> Positions:
    """Return the positions of True."""
    return np.flatnonzero(mask).astype(np.int64)
