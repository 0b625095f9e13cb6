"""Labels: rows -> targets, the classes and which of them each row is.

A row is of one class (a column of names), or of any number of them (names with a separator between, or a column of
yes and no for every class). Rows that nobody labelled are left out, or count as weak negatives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.store.records import Row
from embedx.text import natural_key

YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


@dataclass(frozen=True)
class Targets:
    """What some of the rows are.

    kept: [N] positions of the rows that are used, ascending; every other field is about those.
    classes: the C names, numbers in their order before text.
    y: [N] the number of each row's class; if `multilabel`, [N, C] of 0 and 1.
    weights: [N] 1, or less for a weak negative.
    """

    kept: NDArray[np.int64]
    classes: tuple[str, ...]
    y: NDArray[np.int64]
    multilabel: bool
    weights: NDArray[np.float32]
    unlabelled: int  # rows that were left out
    weak: int  # rows without a label that count as negatives

    def strata(self) -> NDArray[np.int64]:
        """Return one class for each row [N], to spread over folds: of several the rarest, of none the number C."""
        if not self.multilabel:
            return self.y
        rarity = np.where(self.y > 0, self.y.sum(axis=0), len(self.y) + 1)
        return np.where(self.y.any(axis=1), rarity.argmin(axis=1), len(self.classes))


def read_targets(
    rows: Sequence[Row], label: str | Sequence[str], *, separator: str | None = None, weak_negatives: float = 0.0
) -> Targets:
    """Read what the rows are.

    Args:
        rows: stored rows.
        label: "label" or a metadata column with one class for each row; or several columns of yes and no (1 and 0,
            true and false), each a class of that name: multi-label. An empty cell beside a filled one is a no.
        separator: what stands between the classes of a row, as in "dog;rain": multi-label. A cell with nothing but
            separators is a row that is known to be of no class.
        weak_negatives: the weight, up to 1, of rows without a label as examples of no class: multi-label. 0 leaves
            them out.

    Raises:
        UsageError: no such column; a cell that is neither yes nor no; fewer than two classes to tell apart.
    """
    names = [label] if isinstance(label, str) else list(label)
    if not 0 <= weak_negatives <= 1:
        raise UsageError(f"The weight of weak negatives is from 0 (leave them out) to 1, not {weak_negatives}.")
    if separator is not None and (len(names) > 1 or not separator):
        raise UsageError("A separator stands between the classes in one column; several columns need none.")
    if len(names) == 1 and separator is None:
        sets = [None if value is None else {value} for value in column(rows, names[0])]
    elif separator is not None:
        cells = column(rows, names[0])
        sets = [None if cell is None else {part.strip() for part in cell.split(separator)} - {""} for cell in cells]
    else:
        sets = yes_or_no(rows, names)
    several = len(names) > 1
    classes = names if several else sorted({name for one in sets for name in one or ()}, key=natural_key)
    multilabel = separator is not None or several or weak_negatives > 0
    kept = [i for i, one in enumerate(sets) if one is not None or weak_negatives > 0]
    place = {name: c for c, name in enumerate(classes)}
    y = np.zeros((len(kept), len(classes)), np.int64)
    for n, i in enumerate(kept):
        y[n, [place[name] for name in sets[i] or ()]] = 1
    unlabelled = sum(one is None for one in sets)
    targets = Targets(
        kept=np.array(kept, np.int64),
        classes=tuple(classes),
        y=y if multilabel else y.argmax(axis=1),
        multilabel=multilabel,
        weights=np.array([weak_negatives if sets[i] is None else 1 for i in kept], np.float32),
        unlabelled=0 if weak_negatives else unlabelled,
        weak=unlabelled if weak_negatives else 0,
    )
    check_variety(targets, ", ".join(names))
    return targets


def yes_or_no(rows: Sequence[Row], names: Sequence[str]) -> list[set[str] | None]:
    """Return the names of the columns that say yes, for each row; None where all are empty."""
    columns = {name: column(rows, name) for name in names}
    sets: list[set[str] | None] = []
    for i, row in enumerate(rows):
        cells = {name: columns[name][i] for name in names}
        for name, cell in cells.items():
            if cell is not None and cell.lower() not in YES + NO:
                raise UsageError(
                    f"The column {name!r} says {cell!r} of row {row.id}; several label columns hold yes and no "
                    f"({', '.join(YES)} or {', '.join(NO)}). Classes by name are in one column, with a separator."
                )
        filled = any(cell is not None for cell in cells.values())
        sets.append({name for name, cell in cells.items() if cell and cell.lower() in YES} if filled else None)
    return sets


def check_variety(targets: Targets, names: str) -> None:
    """See to it that there is something to tell apart.

    Raises:
        UsageError: all rows are alike.
    """
    classes = targets.classes
    if not targets.multilabel and len(classes) < 2:
        raise UsageError(
            f"There must be two classes or more; the column {names!r} has {len(classes)} "
            f"({', '.join(classes)}). One class against rows without a label: weak negatives."
        )
    if targets.multilabel and (targets.y == targets.y[:1]).all():
        raise UsageError(f"Every row has the same labels in {names!r}, so there is nothing to tell apart.")


def column(rows: Sequence[Row], name: str) -> list[str | None]:
    """Return a column as text; "recording" is the path.

    Raises:
        UsageError: no row has it.
    """
    if name in ("label", "group", "split", "path", "recording"):
        values = [getattr(row, "path" if name == "recording" else name) for row in rows]
    else:
        values = [row.meta.get(name) for row in rows]
    if all(value is None for value in values):
        names = sorted({key for row in rows for key in row.meta})
        raise UsageError(
            f"No row has a {name!r}. Columns: label, group, split{''.join(f', {key}' for key in names)}. "
            "`embedx extract --label` says where labels come from."
        )
    return [None if value is None else str(value) for value in values]
