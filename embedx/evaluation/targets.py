"""Labels: rows -> targets: the classes, and which of them each row has.

A row has one class (a column of names), or any number of them (names with a separator between them, or one yes/no
column per class). Rows without a label are left out, or count as weak negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.store.records import Row
from embedx.text import natural_key

YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")

ClassSet = set[str] | None  # the classes of one row; None: it has no label


class LabelKwargs(TypedDict, total=False):
    """The fields of `LabelOptions` as keywords, except for `label`, which is an argument of its own."""

    separator: str | None
    weak_negatives: float


@dataclass(frozen=True)
class LabelOptions:
    """Which column holds the labels, and how to read it.

    Attributes:
        label: "label" or a metadata column with one class per row; or several yes/no columns (1 and 0, true and false),
            one per class: multi-label. An empty cell next to a filled one counts as no.
        separator: the text between the classes of a row, as in "dog;rain": multi-label. A cell with only separators is
            a row that is known to have no class.
        weak_negatives: the weight, from 0 to 1, of rows without a label, used as examples of no class: multi-label.
            0 leaves these rows out.

    Raises:
        UsageError: no column, a weight outside 0 to 1, or a separator that is empty or combined with several columns.
    """

    label: str | Sequence[str] = "label"
    separator: str | None = None
    weak_negatives: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.label, str):
            object.__setattr__(self, "label", tuple(self.label))
        if not self.columns or not all(isinstance(column, str) for column in self.columns):
            raise UsageError(f"label is the name of a column, or a list of names, not {self.label!r}.")
        if not 0 <= self.weak_negatives <= 1:
            raise UsageError(
                f"weak_negatives is a weight from 0 (leave these rows out) to 1, not {self.weak_negatives}."
            )
        if self.separator is not None and (len(self.columns) > 1 or not self.separator):
            raise UsageError(
                "separator is the text between the classes of one label column. It must not be empty, and it does not "
                "go with several label columns."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The label columns."""
        return (self.label,) if isinstance(self.label, str) else tuple(self.label)

    @property
    def multilabel(self) -> bool:
        """Whether a row may have several classes, or none."""
        return self.separator is not None or len(self.columns) > 1 or self.weak_negatives > 0

    def __str__(self) -> str:
        return ", ".join(self.columns)


@dataclass(frozen=True)
class Targets:
    """The classes of the labelled rows.

    Attributes:
        kept: [N] positions of the rows that are used, ascending; all other fields are about these rows.
        classes: the C names, numbers in numeric order before text.
        y: [N] the class number of each row; if `multilabel`, [N, C] of 0 and 1.
        multilabel: whether a row may have several classes, or none.
        weights: [N] 1, or less for a weak negative.
        unlabelled: number of rows left out because they have no label.
        weak: number of rows without a label that count as weak negatives.
    """

    kept: NDArray[np.int64]
    classes: tuple[str, ...]
    y: NDArray[np.int64]
    multilabel: bool
    weights: NDArray[np.float32]
    unlabelled: int
    weak: int

    def strata(self) -> NDArray[np.int64]:
        """Return one class per row [N] to balance folds by: the rarest of several, the number C for none."""
        if not self.multilabel:
            return self.y
        rarity = np.where(self.y > 0, self.y.sum(axis=0), len(self.y) + 1)
        return np.where(self.y.any(axis=1), rarity.argmin(axis=1), len(self.classes))


def read_targets(rows: Sequence[Row], options: LabelOptions) -> Targets:
    """Read the classes of rows.

    Args:
        rows: stored rows.
        options: which column holds the labels, and how to read it.

    Returns:
        The targets of the rows that have a label (and of weak negatives).

    Raises:
        UsageError: the column does not exist; a cell is neither yes nor no; there are fewer than two classes.
    """
    class_sets = read_class_sets(rows, options)
    if len(options.columns) > 1:
        classes = options.columns
    else:
        classes = tuple(sorted({name for names in class_sets for name in names or ()}, key=natural_key))
    weak = options.weak_negatives > 0
    kept = [i for i, names in enumerate(class_sets) if names is not None or weak]
    place = {name: c for c, name in enumerate(classes)}
    y = np.zeros((len(kept), len(classes)), np.int64)
    for n, i in enumerate(kept):
        y[n, [place[name] for name in class_sets[i] or ()]] = 1
    unlabelled = sum(names is None for names in class_sets)
    targets = Targets(
        kept=np.array(kept, np.int64),
        classes=classes,
        y=y if options.multilabel else y.argmax(axis=1),
        multilabel=options.multilabel,
        weights=np.array([options.weak_negatives if class_sets[i] is None else 1 for i in kept], np.float32),
        unlabelled=0 if weak else unlabelled,
        weak=unlabelled if weak else 0,
    )
    check_variety(targets, str(options))
    return targets


def read_class_sets(rows: Sequence[Row], options: LabelOptions) -> list[ClassSet]:
    """Return the classes of each row; None for a row without a label."""
    if len(options.columns) > 1:
        return read_yes_no_columns(rows, options.columns)
    cells = column(rows, options.columns[0])
    if options.separator is None:
        return [None if cell is None else {cell} for cell in cells]
    return [None if cell is None else {part.strip() for part in cell.split(options.separator)} - {""} for cell in cells]


def read_yes_no_columns(rows: Sequence[Row], names: Sequence[str]) -> list[ClassSet]:
    """Return for each row the names of the columns that say yes; None where all cells are empty."""
    columns = {name: column(rows, name) for name in names}
    class_sets: list[ClassSet] = []
    for i, row in enumerate(rows):
        cells = {name: columns[name][i] for name in names}
        for name, cell in cells.items():
            if cell is not None and cell.lower() not in YES + NO:
                raise UsageError(
                    f"The column {name!r} holds {cell!r} in row {row.id}. Several label columns must hold yes or no "
                    f"({', '.join(YES)} or {', '.join(NO)}). Put class names in one column and give a separator."
                )
        filled = any(cell is not None for cell in cells.values())
        class_sets.append({name for name, cell in cells.items() if cell and cell.lower() in YES} if filled else None)
    return class_sets


def check_variety(targets: Targets, names: str) -> None:
    """Check that the rows differ in their labels.

    Raises:
        UsageError: all rows have the same label.
    """
    classes = targets.classes
    if not targets.multilabel and len(classes) < 2:
        raise UsageError(
            f"At least two classes are needed; the column {names!r} has {len(classes)} ({', '.join(classes)}). "
            "To learn one class from rows without a label, set weak_negatives."
        )
    if targets.multilabel and (targets.y == targets.y[:1]).all():
        raise UsageError(f"Every row has the same labels in {names!r}, so there is nothing to learn.")


def column(rows: Sequence[Row], name: str) -> list[str | None]:
    """Return the values of a column as text, None where it is empty or blank; "recording" is the path.

    Raises:
        UsageError: no row has this column.
    """
    if name in ("label", "group", "split", "path", "recording"):
        values = [getattr(row, "path" if name == "recording" else name) for row in rows]
    else:
        values = [row.meta.get(name) for row in rows]
    texts = [None if value is None or not str(value).strip() else str(value) for value in values]
    if all(text is None for text in texts):
        names = sorted({key for row in rows for key in row.meta})
        raise UsageError(
            f"No row has a value in the column {name!r}. "
            f"Columns: label, group, split{''.join(f', {key}' for key in names)}. "
            "Labels and groups come from the source of `embedx extract`; `embedx label` adds more."
        )
    return texts
