"""Training: stored vectors and labels -> a head that was evaluated on rows it had not seen, saved in heads/."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import StoreError, UsageError
from embedx.evaluation import LEAKY, Fit, Held, Problem, choose_views, cross_fit, fitter, folds_within, pose, score
from embedx.heads import KINDS, METHODS, Head, check_name
from embedx.metrics import Metrics, reliability
from embedx.store import Store

HEADS = "heads"  # the folder in a collection
CALIBRATIONS = (*METHODS, "none")
NONE = np.empty(0, np.int64)


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


@dataclass(frozen=True)
class Trained:
    """A head, what it scores on rows it had not learned from, and what more labels have brought since the last one.

    metrics is None where there was too little to be split.
    """

    head: Head
    name: str
    folder: Path
    problem: Problem
    metrics: Metrics | None
    gain: Gain | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        gain = None if self.gain is None else asdict(self.gain)
        return {"name": self.name, "folder": str(self.folder), "gain": gain, "head": self.head.to_dict()}

    def __str__(self) -> str:
        problem, metrics, targets = self.problem, self.head.metrics, self.problem.targets
        lines = [
            f"{self.folder}: {self.head.kind} on {', '.join(self.head.views)}, {len(self.head.classes)} classes of "
            f"{problem.label!r}, learned from {len(problem.development)} rows; split by {problem.splits.how}",
            *([LEAKY] if problem.splits.leaky else []),
            *(
                [f"{problem.targets.unlabelled} rows without a label were left out"]
                if problem.targets.unlabelled
                else []
            ),
            *([f"{targets.weak} rows without a label count as weak negatives"] if targets.weak else []),
        ]
        if self.metrics is None:
            return "\n".join([*lines, "not scored: every class needs two recordings (or groups), one to be tested on"])
        if "calibration" in metrics:
            before, after = metrics["calibration"]["before"], metrics["calibration"]["after"]
            lines.append(
                f"calibration ({metrics['calibration']['method']}): ECE {before['ece']:.4f} -> {after['ece']:.4f}, "
                f"log loss {before['log_loss']:.4f} -> {after['log_loss']:.4f}, on rows held out"
            )
        lines += [str(self.gain)] if self.gain else []
        return "\n".join([*lines, str(problem.overlap), "", str(self.metrics)])


def fit_head(
    store: Store,
    label: str | Sequence[str] = "label",
    *,
    kind: str = "logistic",
    view: str | Sequence[str] | None = None,
    name: str | None = None,
    ids: Sequence[int] | None = None,
    folds: str | None = None,
    split: str | None = None,
    group: str | None = None,
    leaky: bool = False,
    separator: str | None = None,
    weak_negatives: float = 0.0,
    calibration: str = "temperature",
    seed: int = 0,
    **settings: Any,
) -> Trained:
    """Fit a head, score it on rows it has not learned from, calibrate it, and save it; see `Collection.fit_head`.

    With folds, every row is scored by the head of its fold, and the head that is saved learns from all of them. With a
    test part of its own (train, validation, test), the saved head never sees that. Calibration and thresholds come from
    the rows held out by the folds, or by inner folds of what is learned from.
    """
    if calibration not in CALIBRATIONS:
        raise UsageError(f"calibration is one of {', '.join(CALIBRATIONS)}, not {calibration!r}.")
    if kind not in KINDS:
        raise UsageError(f"kind is one of {', '.join(KINDS)}, not {kind!r}.")
    views = choose_views(store.views, view, store.recipe.default_view, several=kind == "weighted-layers")
    problem = pose(
        store, views, label, ids=ids, folds=folds, split=split, group=group, leaky=leaky, separator=separator,
        weak_negatives=weak_negatives, seed=seed, must_split=folds is not None or split is not None,
    )  # fmt: skip
    name = re.sub(r"[^\w.+-]+", "+", f"{problem.label}-{kind}") if name is None else name
    check_name(name)
    folder = store.folder / HEADS / name
    fit = fitter(problem, kind, seed, **settings)
    part, alone = problem.splits.parts[0], len(problem.splits.parts) == 1
    head = fit(part.train, part.validation) if alone else fit(problem.development, NONE)
    training = {
        "label": label if isinstance(label, str) else list(label),
        "separator": separator,
        "weak_negatives": weak_negatives,
        "split": problem.splits.how,
        "leaky": problem.splits.leaky,
        "rows": ranges([problem.rows[i].id for i in problem.development]),
    }
    head = head.replace(recipe=asdict(store.recipe), settings={**head.settings, "training": training})
    metrics = gain = None
    if len(part.test):
        held = cross_fit(problem, fit, folds_within(problem, problem.development, seed) if alone else None)
        head, metrics = scored(problem, head, held, calibration)
        gain = gain_since(problem, fit, folder, label, None if alone else held, head)
    head.save(folder)
    return Trained(head, name, folder, problem, metrics, gain)


def scored(problem: Problem, head: Head, held: Held, method: str) -> tuple[Head, Metrics]:
    """Return the head with calibration, thresholds and metrics, by rows that heads like it had not learned from.

    With folds, the rows of each are calibrated by those of the others, so that the calibration is not judged by what it
    was made of; with a test part, that is judged, by what was held out of the training part.
    """
    y, test = problem.targets.y, problem.splits.parts[0].test
    alone = len(problem.splits.parts) == 1
    if method != "none":
        head = head.calibrate(method, held.logits, y[held.positions])
    if alone:
        tested, parts = test, None
        plain = head.predict_proba(problem.x[test])
        put_right = head.predict_proba(problem.x[test], calibrated=True) if head.calibrated else plain
    else:
        tested, parts, plain = held.positions, held.parts, held.proba
        put_right = cross_calibrated(head, held, y) if head.calibrated else plain
    of_points = head.to_proba(held.logits, head.calibrated) if alone else put_right
    head = head.measure_points(of_points, y[held.positions])
    metrics = score(problem, tested, plain, parts)
    bars = {name: reliability(y[tested], some, multilabel=head.multilabel) for name, some in
            (("before", plain), ("after", put_right))}  # fmt: skip
    noted: dict[str, Any] = {
        "held_out": metrics.to_dict(),
        "overlap": problem.overlap.to_dict(),
        "reliability": {name: [asdict(bar) for bar in some] for name, some in bars.items()},
    }
    if head.calibrated:
        after = score(problem, tested, put_right, parts)
        noted["calibration"] = {"method": method, "before": errors_of(metrics), "after": errors_of(after)}
    return head.replace(metrics=noted), metrics


def cross_calibrated(head: Head, held: Held, y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return probabilities [M, C], those of each part by the calibration of all others."""
    proba = np.empty_like(held.proba)
    for name in np.unique(held.parts):
        mine = held.parts == name
        other = head.calibrate(head.settings["calibration"], held.logits[~mine], y[held.positions[~mine]])
        proba[mine] = other.to_proba(held.logits[mine], calibrated=True)
    return proba


def errors_of(metrics: Metrics) -> dict[str, float | None]:
    """Return what a calibration is to lower."""
    found = {name: metrics.figures[name] for name in ("ece", "log_loss")}
    return {name: figure.value if figure else None for name, figure in found.items()}


def gain_since(problem: Problem, fit: Fit, folder: Path, label: Any, held: Held | None, head: Head) -> Gain | None:
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
    if last.get("label") != (label if isinstance(label, str) else list(label)) or not (learned & ~before).any():
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
    new = head.logits(problem.x[old.positions]) if held is None else held.logits
    rights = [right(logits, y) for logits in (old.logits, new)]
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


def load_head(folder: Path, name: str | None) -> Head:
    """Return a saved head of a collection; without a name the only one.

    Raises:
        UsageError: there is none of that name, or several and none is named.
    """
    names = [place.parent.name for place in sorted((folder / HEADS).glob("*/head.json"))]
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        given = "no head" if name is None and not names else "several heads" if name is None else f"no head {name!r}"
        raise UsageError(
            f"There is {given} in {folder}. Heads: {', '.join(names) or 'none'}; `embedx train` makes one."
        )
    return Head.load(folder / HEADS / name)


def remove_head(folder: Path, name: str) -> None:
    """Delete a saved head.

    Raises:
        UsageError: there is none of that name.
    """
    place = folder / HEADS / name
    if os.sep in name or not (place / "head.json").exists():
        raise UsageError(f"There is no head {name!r} in {folder}: `embedx heads list {folder}` names them.")
    shutil.rmtree(place)


def load_heads(folder: Path) -> dict[str, Head]:
    """Return name -> head of a collection, by name.

    Raises:
        StoreError: one is damaged.
    """
    return {note.parent.name: Head.load(note.parent) for note in sorted((folder / HEADS).glob("*/head.json"))}
