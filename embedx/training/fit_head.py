"""Training: stored vectors and labels -> a head that was evaluated on rows it had not seen, saved in heads/."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.cross_validation import (
    LEAKY,
    Experiment,
    HeldOutPredictions,
    build_experiment,
    choose_views,
    cross_fit,
    folds_within,
    make_fit,
    score,
)
from embedx.evaluation.splits import Positions
from embedx.heads.calibration import METHODS
from embedx.heads.files import check_name
from embedx.heads.head import Head
from embedx.heads.kinds import KINDS
from embedx.metrics.calibration import reliability
from embedx.metrics.report import Metrics
from embedx.store.store import Store
from embedx.training.label_gain import Gain, gain_since, ranges

HEADS = "heads"  # the folder in a collection
CALIBRATIONS = (*METHODS, "none")
CHOSEN = ("C", "temperature")  # settings that a head chooses inside its training rows
NONE = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Trained(Head):
    """A head that was just fitted and saved: what it is called, how well it did, and what more labels have brought.

    report: the figures on rows that it had not learned from, None where there was too little to be split.
    gain: since the last head of this name, None where there was none or nothing was added.
    """

    name: str = ""
    folder: Path = Path()
    report: Metrics | None = field(default=None, repr=False)
    gain: Gain | None = None
    problem: Experiment | None = field(default=None, repr=False)

    def __str__(self) -> str:
        assert self.problem is not None
        problem, targets, splits = self.problem, self.problem.targets, self.problem.splits
        lines = [
            f"{self.folder}: {self.kind} on {', '.join(self.views)}, {len(self.classes)} classes of "
            f"{problem.label!r}, learned from {len(problem.development)} rows; split by {splits.how}",
            *([LEAKY] if splits.leaky else []),
            *([f"{targets.unlabelled} rows without a label were left out"] if targets.unlabelled else []),
            *([f"{targets.weak} rows without a label count as weak negatives"] if targets.weak else []),
            *([f"{splits.left_out} rows that the split does not name were left out"] if splits.left_out else []),
            *self.settings.get("notes", []),
        ]
        if self.report is None:
            return "\n".join([*lines, "not scored: every class needs two recordings (or groups), one to be tested on"])
        if "calibration" in self.metrics:
            before, after = self.metrics["calibration"]["before"], self.metrics["calibration"]["after"]
            lines.append(
                f"calibration ({self.settings['calibration']}): ECE {before['ece']:.4f} -> {after['ece']:.4f}, "
                f"log loss {before['log_loss']:.4f} -> {after['log_loss']:.4f}, on rows held out"
            )
        lines += [str(self.gain)] if self.gain else []
        return "\n".join([*lines, str(problem.overlap), "", str(self.report)])


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
    problem = build_experiment(
        store, views, label, ids=ids, folds=folds, split=split, group=group, leaky=leaky, separator=separator,
        weak_negatives=weak_negatives, seed=seed, must_split=folds is not None or split is not None,
    )  # fmt: skip
    name = re.sub(r"[^\w.+-]+", "+", f"{problem.label}-{kind}") if name is None else name
    check_name(name)
    folder = store.folder / HEADS / name
    fit = make_fit(problem, kind, seed, **settings)
    part, alone = problem.splits.parts[0], len(problem.splits.parts) == 1
    head = fit(part.train, part.validation) if alone else fit(problem.development, NONE)
    columns = label if isinstance(label, str) else list(label)
    training = {
        "label": columns,
        "separator": separator,
        "weak_negatives": weak_negatives,
        "split": problem.splits.how,
        "leaky": problem.splits.leaky,
        "rows": ranges([problem.rows[i].id for i in problem.development]),
    }
    head = head.replace(recipe=asdict(store.recipe), settings={**head.settings, "training": training})
    report = gain = None
    if len(part.test):
        held = head_alone(problem, head) if alone else cross_fit(problem, fit)
        head, right = calibrate_and_set_thresholds(problem, head, held, calibration, kind, seed, settings)
        report = score(problem, held.positions, held.proba, held.parts)
        head = head.replace(metrics=noted(problem, held, report, right))
        gain = gain_since(problem, fit, folder, columns, held)
    head.save(folder)
    own = {one.name: getattr(head, one.name) for one in fields(Head)}
    return Trained(**own, name=name, folder=folder, report=report, gain=gain, problem=problem)


def head_alone(problem: Experiment, head: Head) -> HeldOutPredictions:
    """Return what a head says of the one test part, which it has not learned from."""
    part = problem.splits.parts[0]
    logits = head.logits(problem.x[part.test])
    return HeldOutPredictions(part.test, np.full(len(part.test), part.name), logits, head.to_proba(logits), (head,))


def calibrate_and_set_thresholds(
    problem: Experiment,
    head: Head,
    held: HeldOutPredictions,
    method: str,
    kind: str,
    seed: int,
    settings: Mapping[str, Any],
) -> tuple[Head, NDArray[np.float64] | None]:
    """Return the head with calibration and operating points, and what calibrated heads say of the tested rows [M, C].

    The head of each part is calibrated on inner folds of the rows that it has learned from, by heads with the choices
    that it made, such as its C: another C would give logits of another scale. So no tested row has a part in its own
    calibration. None, and an uncalibrated head, if the method is "none" or there is too little for inner folds.
    """
    y = problem.targets.y

    def calibrate(one: Head, rows: Positions) -> tuple[Head, HeldOutPredictions]:
        chosen = {name: one.settings[name] for name in CHOSEN if name in one.settings}
        inner = cross_fit(
            problem, make_fit(problem, kind, seed, **{**settings, **chosen}), folds_within(problem, rows, seed)
        )
        return (one if method == "none" else one.calibrate(method, inner.logits, y[inner.positions])), inner

    try:
        head, inner = calibrate(head, problem.development)
        if method == "none":
            return head.measure_points(inner.proba, y[inner.positions]), None
        head = head.measure_points(cross_calibrated(head, inner, y), y[inner.positions])
        proba = np.empty_like(held.proba)
        for part, one in zip(problem.splits.parts, held.heads, strict=True):
            mine = held.parts == part.name
            rows = np.sort(np.concatenate([part.train, part.validation]))
            right = head if len(held.heads) == 1 else calibrate(one, rows)[0]
            proba[mine] = right.to_proba(held.logits[mine], calibrated=True)
    except UsageError:  # an inner fold without two classes: too few rows
        return head, None
    return head, proba


def cross_calibrated(head: Head, held: HeldOutPredictions, y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return probabilities [M, C], those of each part by the calibration of all others."""
    proba = np.empty_like(held.proba)
    for name in np.unique(held.parts):
        mine = held.parts == name
        other = head.calibrate(head.settings["calibration"], held.logits[~mine], y[held.positions[~mine]])
        proba[mine] = other.to_proba(held.logits[mine], calibrated=True)
    return proba


def noted(
    problem: Experiment, held: HeldOutPredictions, metrics: Metrics, right: NDArray[np.float64] | None
) -> dict[str, Any]:
    """Return what a head keeps of its evaluation, ready for JSON."""
    several, truth = problem.targets.multilabel, problem.targets.y[held.positions]
    bars = {"before": held.proba} | ({} if right is None else {"after": right})
    kept: dict[str, Any] = {
        "held_out": metrics.to_dict(),
        "overlap": problem.overlap.to_dict(),
        "reliability": {
            name: [asdict(bar) for bar in reliability(truth, proba, multilabel=several)] for name, proba in bars.items()
        },
    }
    if right is not None:
        after = score(problem, held.positions, right, held.parts)
        kept["calibration"] = {"before": errors_of(metrics), "after": errors_of(after)}
    return kept


def errors_of(metrics: Metrics) -> dict[str, float | None]:
    """Return what a calibration is to lower."""
    found = {name: metrics.figures[name] for name in ("ece", "log_loss")}
    return {name: figure.value if figure else None for name, figure in found.items()}


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
