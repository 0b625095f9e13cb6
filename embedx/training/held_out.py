"""Held-out rows: a head is calibrated, and its operating points are measured, on rows that inner folds held out."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.cross_validation import (
    HeldOutPredictions,
    LabelledVectors,
    cross_fit,
    folds_within,
    make_fit,
)
from embedx.heads.evidence import mean_is_above_zero
from embedx.heads.head import Head
from embedx.heads.options import HeadOptions
from embedx.metrics.calibration import reliability
from embedx.training.predict import AGGREGATES, combine, group_positions

CHOSEN_SETTINGS = ("C", "temperature")  # settings that a head chooses inside its training rows
MIN_PROBABILITY = float(np.finfo(np.float64).eps)  # the lowest probability in scikit-learn's log_loss

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Trial:
    """What a calibration does to held-out rows. Each part of them is calibrated on the other parts.

    Attributes:
        method: "temperature" or "isotonic".
        kept: whether the head keeps the calibration: on new rows it lowers the log loss with a confidence of 95 %, and
            on the held-out rows it does not raise the calibration error.
        before, after: ECE and log loss without and with it.
    """

    method: str
    kept: bool
    before: dict[str, float]
    after: dict[str, float]

    def __str__(self) -> str:
        kept = "kept" if self.kept else "not kept, the probabilities are those of the classifier"
        return (
            f"Calibration ({self.method}) {kept}: ECE {self.before['ece']:.4f} -> {self.after['ece']:.4f}, "
            f"log loss {self.before['log_loss']:.4f} -> {self.after['log_loss']:.4f}, on held-out rows."
        )


@dataclass(frozen=True)
class Finished:
    """A head with its operating points, and with a calibration if it helps.

    Attributes:
        head: the head.
        trial: what the calibration does; None if none was tried.
        positions: [M] the held-out rows.
        proba: [M, C] their probabilities, as the head predicts new rows.
    """

    head: Head
    trial: Trial | None
    positions: NDArray[np.int64]
    proba: Scores


def finish_head(
    data: LabelledVectors, recordings: Sequence[Hashable], head: Head, method: str, options: HeadOptions
) -> Finished | None:
    """Calibrate a head where that helps, and measure its operating points on windows and recordings.

    The heads of the inner folds have the settings that the head chose, such as C: another C would give logits of
    another scale.

    Args:
        data: the rows, of which `data.development` are used.
        recordings: [N] the recording of each row.
        head: the head, trained on `data.development`.
        method: "temperature", "isotonic" or "none".
        options: how the head was fitted.

    Returns:
        The head; None if there are too few groups for inner folds.
    """
    chosen = {name: head.settings[name] for name in CHOSEN_SETTINGS if name in head.settings}
    fit = make_fit(data, replace(options, settings={**options.settings, **chosen}))
    try:
        folds = folds_within(data, data.development, options.seed)
        held_out = without_unknown(data, cross_fit(data, fit, folds))
        y, proba, trial = data.targets.y[held_out.positions], held_out.proba, None
        groups = data.splits.groups[held_out.positions]
        if method != "none":
            calibrated = head.calibrate(method, held_out.logits, y)
            crossed = cross_calibrate(calibrated, held_out, y)
            trial = try_calibration(method, proba, crossed, y, groups, head.multilabel)
            head, proba = (calibrated, crossed) if trial.kept else (head, proba)
    except UsageError:  # too few rows: an inner fold has fewer than two classes
        return None
    head = measure_points(head, proba, y, groups, [recordings[i] for i in held_out.positions])
    return Finished(head, trial, held_out.positions, proba)


def without_unknown(data: LabelledVectors, held_out: HeldOutPredictions) -> HeldOutPredictions:
    """Leave out rows of a class without training rows in their part; the finished head knows this class."""
    if data.targets.multilabel:
        return held_out
    y = data.targets.y[held_out.positions]
    known = np.zeros(len(y), bool)
    for name in np.unique(held_out.parts):
        in_part = held_out.parts == name
        known[in_part] = np.isin(y[in_part], y[~in_part])
    arrays = {name: getattr(held_out, name)[known] for name in ("positions", "parts", "logits", "proba")}
    return replace(held_out, **arrays)


def cross_calibrate(head: Head, held_out: HeldOutPredictions, y: NDArray[np.int64]) -> Scores:
    """Return probabilities [M, C]; those of each part are calibrated on all other parts."""
    proba = np.empty_like(held_out.proba)
    for name in np.unique(held_out.parts):
        in_part = held_out.parts == name
        calibrated = head.calibrate(head.settings["calibration"], held_out.logits[~in_part], y[~in_part])
        proba[in_part] = calibrated.to_proba(held_out.logits[in_part], calibrated=True)
    return proba


def try_calibration(
    method: str, before: Scores, after: Scores, y: NDArray[np.int64], groups: NDArray[np.int64], multilabel: bool
) -> Trial:
    """Compare probabilities [M, C] of held-out rows with and without a calibration."""
    losses = [row_losses(proba, y, multilabel) for proba in (before, after)]
    figures = [
        {"ece": calibration_error(proba, y, multilabel), "log_loss": float(loss.mean())}
        for proba, loss in zip((before, after), losses, strict=True)
    ]
    kept = mean_is_above_zero(losses[0] - losses[1], groups) and figures[1]["ece"] <= figures[0]["ece"]
    return Trial(method, kept, *figures)


def row_losses(proba: Scores, y: NDArray[np.int64], multilabel: bool) -> Scores:
    """Return the log loss of each row [M]; multi-label: the mean over labels.

    >>> row_losses(np.array([[0.5, 0.5]]), np.array([0]), False).round(3).tolist()
    [0.693]
    """
    proba = np.clip(proba, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    if multilabel:
        return np.asarray(-np.log(np.where(y == 1, proba, 1 - proba)).mean(axis=1))
    return np.asarray(-np.log(proba[np.arange(len(y)), y]))


def calibration_error(proba: Scores, y: NDArray[np.int64], multilabel: bool) -> float:
    """Return the expected calibration error; see `embedx.metrics.calibration`."""
    bars = reliability(y, proba, multilabel=multilabel)
    gaps = [
        one.rows * abs(one.confidence - one.accuracy)
        for one in bars
        if one.confidence is not None and one.accuracy is not None
    ]
    return float(sum(gaps) / max(1, sum(one.rows for one in bars)))


def measure_points(
    head: Head, proba: Scores, y: NDArray[np.int64], groups: NDArray[np.int64], recordings: Sequence[Hashable]
) -> Head:
    """Measure the operating points of windows, and of recordings with each way to combine their windows.

    A recording has the class of most of its windows; multi-label: every label of its windows.
    """
    head = head.measure_points(proba, y, groups)
    windows = group_positions(recordings)
    first = np.array([numbers[0] for numbers in windows])
    truth: NDArray[Any] = np.array(
        [y[i].max(axis=0) if head.multilabel else np.bincount(y[i]).argmax() for i in windows]
    )
    for aggregate in AGGREGATES:
        points = combine(proba, windows, aggregate), truth, groups[first]
        head = head.measure_points(*points, per="recording", aggregate=aggregate)
    return head
