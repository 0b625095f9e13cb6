"""Labels: items of a source -> rows, the outputs with their classes and truth, and the split without leaks.

Targets and splits are those of `embedx probe`. A row is an item: a recording, or a part of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.datasets.items import Item
from embedx.errors import UsageError
from embedx.evaluation.splits import SplitOptions, Splits, make_splits
from embedx.evaluation.targets import (
    NO,
    YES,
    LabelOptions,
    Targets,
    column,
    read_targets,
)
from embedx.store.records import Row

OUTPUT = "label"  # the name of the only output, as for classifiers of the hub
YES_NO_OUTPUT = "labels"  # the name of the output of several yes/no columns


@dataclass(frozen=True)
class Output:
    """One output of the model.

    Attributes:
        name: its name.
        classes: the C names of its classes.
        multi_label: whether several classes can be true at once.
        truth: [N, C] 1 for the classes of a row, else 0.
        known: [N] whether the row has a label of this output.
    """

    name: str
    classes: tuple[str, ...]
    multi_label: bool
    truth: NDArray[np.float32]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledRows:
    """N rows with their labels and their split.

    Attributes:
        rows: the rows.
        outputs: the outputs, at least one.
        splits: the parts; positions count `rows`.
        unlabelled: the number of rows that were left out, because they have no label of any output.
    """

    rows: tuple[Row, ...]
    outputs: tuple[Output, ...]
    splits: Splits
    unlabelled: int


def make_rows(items: Sequence[Item]) -> list[Row]:
    """Return items as rows, numbered from 1."""
    return [
        Row(i, item.path, item.start_s, item.end_s or 0.0, item.label, item.group, item.split, (), item.meta)
        for i, item in enumerate(items, start=1)
    ]


def label_rows(rows: Sequence[Row], columns: Sequence[str], separator: str | None, split: SplitOptions) -> LabelledRows:
    """Read the labels of rows, and split them.

    Args:
        rows: all rows.
        columns: the label columns; none for the label that the source gives.
        separator: the text between several labels in one cell.
        split: how to split.

    Returns:
        The rows that have a label of at least one output.

    Raises:
        UsageError: a column does not exist or has one class; the rows cannot be split without a leak.
    """
    targets = {
        name: read_targets(rows, LabelOptions(label, separator=separator if isinstance(label, str) else None))
        for name, label in name_outputs(rows, columns, separator).items()
    }
    kept = sorted({int(i) for one in targets.values() for i in one.kept})
    outputs = tuple(make_output(name, one, kept) for name, one in targets.items())
    splits = make_splits(rows, stratify_by(next(iter(targets.values())), kept), split)
    return LabelledRows(tuple(rows[i] for i in kept), outputs, splits, len(rows) - len(kept))


def name_outputs(rows: Sequence[Row], columns: Sequence[str], separator: str | None) -> dict[str, str | list[str]]:
    """Return the name of each output with its column, or with its yes/no columns."""
    if len(columns) <= 1:
        return {OUTPUT: columns[0] if columns else "label"}
    if len(set(columns)) < len(columns):
        raise UsageError(f"A label column is given twice: {', '.join(columns)}.")
    answers = {*YES, *NO}
    yes_no = [
        name
        for name in columns
        if separator is None and {value.lower() for value in column(rows, name) if value is not None} <= answers
    ]
    others: dict[str, str | list[str]] = {name: name for name in columns if len(yes_no) < 2 or name not in yes_no}
    return ({YES_NO_OUTPUT: yes_no} if len(yes_no) > 1 else {}) | others


def make_output(name: str, targets: Targets, kept: Sequence[int]) -> Output:
    """Return an output for the kept rows."""
    place = {row: n for n, row in enumerate(kept)}
    truth = np.zeros((len(kept), len(targets.classes)), np.float32)
    known = np.zeros(len(kept), bool)
    where = np.array([place[int(i)] for i in targets.kept], np.int64)
    known[where] = True
    truth[where] = targets.y if targets.multilabel else np.eye(len(targets.classes))[targets.y]
    return Output(name, targets.classes, targets.multilabel, truth, known)


def stratify_by(first: Targets, kept: Sequence[int]) -> Targets:
    """Return targets of all kept rows for the split: those of the first output, and one class more for the others."""
    strata = np.full(len(kept), len(first.classes), np.int64)
    place = {row: n for n, row in enumerate(kept)}
    strata[[place[int(i)] for i in first.kept]] = first.strata()
    has_others = bool((strata == len(first.classes)).any())
    return Targets(
        kept=np.array(kept, np.int64),
        classes=(*first.classes, *([""] if has_others else [])),
        y=strata,
        multilabel=False,
        weights=np.ones(len(kept), np.float32),
        unlabelled=0,
        weak=0,
    )
