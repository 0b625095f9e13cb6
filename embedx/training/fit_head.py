"""Training: stored vectors and labels -> a head, scored on rows that it was not trained on, and saved in heads/."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
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
    hold_out_predictions,
    make_fit,
    score,
)
from embedx.evaluation.options import ExperimentKwargs
from embedx.evaluation.probe import describe_left_out
from embedx.evaluation.splits import NO_ROWS, Positions, SplitOptions
from embedx.evaluation.targets import LabelOptions
from embedx.heads.calibration import METHODS
from embedx.heads.files import check_name
from embedx.heads.head import Head
from embedx.heads.options import HeadOptions
from embedx.heads.storage import FOLDER as HEADS
from embedx.heads.storage import load_head
from embedx.metrics.calibration import reliability
from embedx.metrics.report import Metrics
from embedx.store.store import Store
from embedx.training.label_gain import Gain, gain_since, to_ranges

CALIBRATIONS = (*METHODS, "none")
CHOSEN_SETTINGS = ("C", "temperature")  # settings that a head chooses inside its training rows


@dataclass(frozen=True, eq=False)
class Trained(Head):
    """A head that was just fitted and saved.

    Attributes:
        name: the name of the head.
        folder: where it was saved.
        report: the figures on rows that it was not trained on; None if there were too few groups to split.
        gain: the effect of the labels added since the last head of this name; None if there was none, or no new label.
        experiment: the rows, labels and split.
    """

    name: str = ""
    folder: Path = Path()
    report: Metrics | None = field(default=None, repr=False)
    gain: Gain | None = None
    experiment: Experiment | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text()

    def text(self, per_class: bool = False) -> str:
        """Return the result as text: the verdict in one line, warnings, then the figures.

        Args:
            per_class: add a table with the figures of every class.
        """
        assert self.experiment is not None
        experiment, targets, splits = self.experiment, self.experiment.targets, self.experiment.splits
        if self.report is None:
            verdict, tables = "Not scored: every class needs two recordings (or groups), one of them to test on.", []
        else:
            verdict, tables = self.report.verdict(), [str(experiment.overlap), "", self.report.tables(per_class), ""]
        lines = [
            verdict,
            *([LEAKY] if splits.leaky else []),
            *tables,
            f"Saved as {self.folder}: {self.kind} head on {', '.join(self.views)}, {len(self.classes)} classes of "
            f"{experiment.label!r}, trained on {len(experiment.development)} rows; split by {splits.how}.",
            *describe_left_out(targets.unlabelled, targets.weak, splits.left_out),
            *self.settings.get("notes", []),
            *self._calibration_lines(),
            *([str(self.gain)] if self.gain else []),
        ]
        return "\n".join(lines)

    def _calibration_lines(self) -> list[str]:
        if "calibration" not in self.metrics:
            return []
        before, after = self.metrics["calibration"]["before"], self.metrics["calibration"]["after"]
        return [
            f"Calibration ({self.settings['calibration']}): ECE {before['ece']:.4f} -> {after['ece']:.4f}, "
            f"log loss {before['log_loss']:.4f} -> {after['log_loss']:.4f}, on held-out rows."
        ]


def fit_head(
    store: Store,
    labels: LabelOptions,
    split: SplitOptions,
    options: HeadOptions,
    *,
    view: str | Sequence[str] | None = None,
    name: str | None = None,
    ids: Sequence[int] | None = None,
    calibration: str = "temperature",
) -> Trained:
    """Fit a head, score it on rows that it was not trained on, calibrate it, and save it.

    With folds, the head of its fold predicts every row, and the saved head is trained on all rows. With a separate test
    part (train, validation, test), the saved head never sees the test rows. Calibration and thresholds are fitted on
    rows held out by inner folds of the training rows.

    Args:
        store: the store of the collection.
        labels: which column holds the labels.
        split: how to split the rows.
        options: which head to fit.
        view: the views; see `embedx.evaluation.cross_validation.choose_views`.
        name: the name of the head; LABEL-KIND if None.
        ids: the rows to use; all if None.
        calibration: "temperature", "isotonic" or "none".

    Returns:
        The saved head with its figures.

    Raises:
        UsageError: an invalid argument; see `build_experiment`.
        DiskError: the head cannot be written.
    """
    if calibration not in CALIBRATIONS:
        raise UsageError(f"calibration must be one of {', '.join(CALIBRATIONS)}, not {calibration!r}.")
    views = choose_views(store.views, view, store.recipe.default_view, several=options.kind == "weighted-layers")
    experiment = build_experiment(store, views, labels, split, ids=ids, must_split=split.by_column)
    name = re.sub(r"[^\w.+-]+", "+", f"{experiment.label}-{options.kind}") if name is None else name
    check_name(name)
    folder = store.folder / HEADS / name
    fit = make_fit(experiment, options)
    part, is_single = experiment.splits.parts[0], len(experiment.splits.parts) == 1
    head = fit(part.train, part.validation) if is_single else fit(experiment.development, NO_ROWS)
    training = describe_training(experiment, labels)
    head = head.replace(recipe=asdict(store.recipe), settings={**head.settings, "training": training})
    report = gain = None
    if len(part.test):
        held_out = hold_out_predictions(experiment, [part], [head]) if is_single else cross_fit(experiment, fit)
        head, calibrated = calibrate_and_set_thresholds(experiment, head, held_out, calibration, options)
        report = score(experiment, held_out.positions, held_out.proba, held_out.parts)
        head = head.replace(metrics=describe_evaluation(experiment, held_out, report, calibrated))
        gain = gain_since(experiment, fit, folder, training["label"], held_out)
    head.save(folder)
    head_fields = {one.name: getattr(head, one.name) for one in fields(Head)}
    return Trained(**head_fields, name=name, folder=folder, report=report, gain=gain, experiment=experiment)


def choose_label(
    folder: Path, name: str | None, label: str | Sequence[str] | None, keywords: ExperimentKwargs
) -> tuple[str | Sequence[str], ExperimentKwargs]:
    """Return the label column to learn, and the keywords; without a column those of the head that is replaced.

    Args:
        folder: the folder of the collection.
        name: the name of the head; None: there is no head to replace.
        label: the column, or columns, that the user named.
        keywords: the options of the experiment.

    Raises:
        UsageError: no column is named, and the head of this name does not say what it learned.
    """
    if label is not None:
        return label, keywords
    try:
        training = {} if name is None else load_head(folder, name).settings.get("training") or {}
    except UsageError:  # there is no head of this name
        return "label", keywords
    if name is not None and not training.get("label"):
        raise UsageError(f"The head {name} does not say which column it learned. Name it with --label (label=).")
    separator = keywords.get("separator") or training.get("separator")
    weak_negatives = keywords.get("weak_negatives") or training.get("weak_negatives") or 0.0
    learned: ExperimentKwargs = {"separator": separator, "weak_negatives": weak_negatives}
    return training.get("label", "label"), {**keywords, **learned}


def describe_training(experiment: Experiment, labels: LabelOptions) -> dict[str, Any]:
    """Return what a head keeps about its training data, ready for JSON."""
    return {
        "label": labels.label if isinstance(labels.label, str) else list(labels.label),
        "separator": labels.separator,
        "weak_negatives": labels.weak_negatives,
        "split": experiment.splits.how,
        "leaky": experiment.splits.leaky,
        "rows": to_ranges([experiment.rows[i].id for i in experiment.development]),
    }


def calibrate_and_set_thresholds(
    experiment: Experiment, head: Head, held_out: HeldOutPredictions, method: str, options: HeadOptions
) -> tuple[Head, NDArray[np.float64] | None]:
    """Calibrate a head, and measure its operating points.

    The head of each part is calibrated on inner folds of its own training rows, by heads with the settings that it
    chose, such as C: another C would give logits of another scale. So no test row is used in its own calibration.

    Returns:
        The calibrated head, and the probabilities [M, C] of calibrated heads for the test rows. None, and a head
        without calibration, if the method is "none" or there are too few rows for inner folds.
    """
    y = experiment.targets.y

    def calibrate(head: Head, rows: Positions) -> tuple[Head, HeldOutPredictions]:
        chosen = {name: head.settings[name] for name in CHOSEN_SETTINGS if name in head.settings}
        fit = make_fit(experiment, replace(options, settings={**options.settings, **chosen}))
        inner = cross_fit(experiment, fit, folds_within(experiment, rows, options.seed))
        return (head if method == "none" else head.calibrate(method, inner.logits, y[inner.positions])), inner

    try:
        head, inner = calibrate(head, experiment.development)
        if method == "none":
            return head.measure_points(inner.proba, y[inner.positions]), None
        head = head.measure_points(cross_calibrated(head, inner, y), y[inner.positions])
        proba = np.empty_like(held_out.proba)
        for part, part_head in zip(experiment.splits.parts, held_out.heads, strict=True):
            in_part = held_out.parts == part.name
            calibrated = head if len(held_out.heads) == 1 else calibrate(part_head, np.sort(part.learned))[0]
            proba[in_part] = calibrated.to_proba(held_out.logits[in_part], calibrated=True)
    except UsageError:  # too few rows: an inner fold has fewer than two classes
        return head, None
    return head, proba


def cross_calibrated(head: Head, held_out: HeldOutPredictions, y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return probabilities [M, C]; those of each part are calibrated on all other parts."""
    proba = np.empty_like(held_out.proba)
    for name in np.unique(held_out.parts):
        in_part = held_out.parts == name
        others = held_out.logits[~in_part], y[held_out.positions[~in_part]]
        calibrated = head.calibrate(head.settings["calibration"], *others)
        proba[in_part] = calibrated.to_proba(held_out.logits[in_part], calibrated=True)
    return proba


def describe_evaluation(
    experiment: Experiment, held_out: HeldOutPredictions, metrics: Metrics, calibrated: NDArray[np.float64] | None
) -> dict[str, Any]:
    """Return what a head keeps about its evaluation, ready for JSON."""
    multilabel, truth = experiment.targets.multilabel, experiment.targets.y[held_out.positions]
    predictions = {"before": held_out.proba} | ({} if calibrated is None else {"after": calibrated})
    evaluation: dict[str, Any] = {
        "held_out": metrics.to_dict(),
        "overlap": experiment.overlap.to_dict(),
        "reliability": {
            name: [asdict(bar) for bar in reliability(truth, proba, multilabel=multilabel)]
            for name, proba in predictions.items()
        },
    }
    if calibrated is not None:
        after = score(experiment, held_out.positions, calibrated, held_out.parts)
        evaluation["calibration"] = {"before": calibration_errors(metrics), "after": calibration_errors(after)}
    return evaluation


def calibration_errors(metrics: Metrics) -> dict[str, float | None]:
    """Return the figures that calibration should lower."""
    figures = {name: metrics.figures[name] for name in ("ece", "log_loss")}
    return {name: figure.value if figure else None for name, figure in figures.items()}
