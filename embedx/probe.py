"""Probe: store -> a leak-free report of how well a linear classifier tells the labels apart.

Windows of one recording, and clips of one group, are never on both sides of a split.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.index.exact import unit
from embedx.store import Row, Store

FOLDS = 5  # where the corpus brings none
FOLD_COLUMN = "fold"  # what known data sets call theirs


@dataclass(frozen=True)
class Fold:
    """One test part: its name, how many rows it has, and the share of them that is labelled right."""

    name: str
    rows: int
    accuracy: float
    neighbour: float


@dataclass(frozen=True)
class Report:
    """Accuracies over folds; every figure is a share of rows from 0 to 1.

    `accuracy` and `neighbour` (the label of the nearest training vector by cosine) are means over the folds.
    `majority` is what always naming the commonest label gives, `chance` one over the number of classes.
    """

    view: str
    label: str
    split: str
    classes: int
    rows: int
    unlabelled: int
    accuracy: float
    deviation: float
    balanced_accuracy: float
    neighbour: float
    majority: float
    chance: float
    folds: tuple[Fold, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.rows} rows, {self.classes} classes of {self.label!r}, view {self.view}; split by {self.split}",
            *([f"{self.unlabelled} rows without a label were left out"] if self.unlabelled else []),
            "",
            "fold             rows  linear probe  nearest neighbour",
            *(f"{one.name:<14} {one.rows:>6}  {one.accuracy:>12.4f}  {one.neighbour:>17.4f}" for one in self.folds),
            f"{'mean':<14} {self.rows:>6}  {self.accuracy:>12.4f}  {self.neighbour:>17.4f}",
            "",
            f"spread over folds {self.deviation:.4f}, balanced accuracy {self.balanced_accuracy:.4f}; "
            f"majority label {self.majority:.4f}, chance {self.chance:.4f}",
        ]
        return "\n".join(lines)


def probe(
    store: Store,
    view: str,
    *,
    label: str = "label",
    folds: str | None = None,
    group: str | None = None,
    ids: Sequence[int] | None = None,
    C: float = 0.1,
) -> Report:
    """Train a logistic regression on standardised vectors of each training part, and score it on the test part.

    Args:
        store, view: where the vectors are.
        label: "label" or a metadata column.
        folds: a column whose values are the test parts; "fold" where the corpus has it and no group is named.
        group: without folds, the column whose values are never split; "group" where it is filled, else the recording.
        ids: the rows to use, all if not given.
        C: inverse strength of the L2 penalty; 0.1 suits vectors of 100 to 2000 standardised dimensions.

    Raises:
        UsageError: no such column; fewer than two classes or groups; folds that would split a recording or a group.
    """
    if not C > 0:
        raise UsageError(f"C must be positive, not {C}.")
    every = store.rows(ids)
    labels = column(every, label)
    rows = [row for row, value in zip(every, labels, strict=True) if value is not None]
    y = np.array([value for value in labels if value is not None], dtype=str)
    if len(set(y)) < 2:
        raise UsageError(
            f"A probe needs two classes or more; the column {label!r} has {len(set(y))} ({', '.join(set(y))})."
        )
    parts, split = split_rows(rows, y, folds, group)
    x = store.vectors(view, [row.id for row in rows])[1]
    predicted, results = np.empty_like(y), []
    for name in sorted(set(parts), key=natural):
        test = parts == name
        if len(set(y[~test])) < 2:
            raise UsageError(f"Outside fold {name} there are fewer than two classes, so nothing can be learned there.")
        predicted[test] = fit_predict(x[~test], y[~test], x[test], C)
        nearest = (unit(x[test]) @ unit(x[~test]).T).argmax(axis=1)
        scores = share(predicted[test] == y[test]), share(y[~test][nearest] == y[test])
        results.append(Fold(str(name), int(test.sum()), *scores))
    accuracies = [one.accuracy for one in results]
    return Report(
        view=view,
        label=label,
        split=split,
        classes=len(set(y)),
        rows=len(rows),
        unlabelled=len(every) - len(rows),
        accuracy=float(np.mean(accuracies)),
        deviation=float(np.std(accuracies)),
        balanced_accuracy=float(np.mean([share(predicted[y == one] == one) for one in sorted(set(y))])),
        neighbour=float(np.mean([one.neighbour for one in results])),
        majority=max(share(y == one) for one in set(y)),
        chance=1 / len(set(y)),
        folds=tuple(results),
    )


def fit_predict(x: NDArray[np.float32], y: NDArray[np.str_], test: NDArray[np.float32], C: float) -> NDArray[np.str_]:
    """Fit standardisation and logistic regression on the training part alone, and label the test part."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=5000))
    labels: NDArray[np.str_] = model.fit(x, y).predict(test)
    return labels


def split_rows(
    rows: Sequence[Row], y: NDArray[np.str_], folds: str | None, group: str | None
) -> tuple[NDArray[np.str_], str]:
    """Return the test part of each row [N], and how it was found.

    Raises:
        UsageError: the folds split a recording or a group, or there are too few groups.
    """
    if folds is None and group is None and all(FOLD_COLUMN in row.meta for row in rows):
        folds = FOLD_COLUMN
    grouped = group or ("group" if any(row.group is not None for row in rows) else None)
    groups = [value or "" for value in column(rows, grouped)] if grouped else [""] * len(rows)
    together = never_split([row.path for row in rows], groups)
    if folds is not None:
        parts = np.array(column(rows, folds), dtype=str)
        for one in set(together):
            inside = sorted(set(parts[together == one]))
            if len(inside) > 1:
                row = rows[int(np.argmax(together == one))]
                raise UsageError(
                    f"The folds of {folds!r} put one recording or group into several folds ({', '.join(inside[:4])}): "
                    f"{row.path}. Scores would be too good. Name a group column instead of folds."
                )
        if len(set(parts)) < 2:
            raise UsageError(f"The column {folds!r} has one value only; folds need two or more.")
        return parts, f"the column {folds!r}"
    number = min(FOLDS, len(set(together)))
    if number < 2:
        raise UsageError("All rows are of one recording or group, so they cannot be split for a probe.")
    from sklearn.model_selection import StratifiedGroupKFold

    parts = np.zeros(len(rows), dtype="<U8")
    for i, (_, test) in enumerate(StratifiedGroupKFold(number, shuffle=True, random_state=0).split(y, y, together)):
        parts[test] = str(i + 1)
    return parts, f"{grouped!r}, stratified" if grouped else "recording, stratified"


def never_split(paths: Sequence[str], groups: Sequence[str]) -> NDArray[np.int64]:
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


def column(rows: Sequence[Row], name: str) -> list[str | None]:
    """Return a column as text.

    Raises:
        UsageError: no row has it.
    """
    if name in ("label", "group", "split", "path"):
        values = [getattr(row, name) for row in rows]
    else:
        values = [row.meta.get(name) for row in rows]
    if all(value is None for value in values):
        names = sorted({key for row in rows for key in row.meta})
        raise UsageError(
            f"No row has a {name!r}. Columns: label, group, split{''.join(f', {key}' for key in names)}. "
            "`embedx extract --label` says where labels come from."
        )
    return [None if value is None else str(value) for value in values]


def natural(name: str) -> tuple[int, float, str]:
    """Sort numbers as numbers and before text."""
    return (0, float(name), "") if name.replace(".", "", 1).isdigit() else (1, 0.0, name)


def share(right: NDArray[np.bool_]) -> float:
    """Return the share of True."""
    return float(right.mean())
