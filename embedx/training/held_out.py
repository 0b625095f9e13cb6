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
from embedx.evaluation.splits import Split
from embedx.heads.head import Head
from embedx.heads.options import HeadOptions
from embedx.training.calibration_trial import Scores, Trial, try_calibration
from embedx.training.predict import AGGREGATES, combine, group_positions

CHOSEN_SETTINGS = ("C", "temperature")  # settings that a head chooses inside its training rows


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
        The head; None if there are too few groups for inner folds, or no fold knows a class of its rows.
    """
    chosen = {name: head.settings[name] for name in CHOSEN_SETTINGS if name in head.settings}
    fit = make_fit(data, replace(options, settings={**options.settings, **chosen}))
    try:
        folds = folds_within(data, data.development, options.seed)
        held_out = cross_fit(data, fit, folds)
    except UsageError:  # too few groups, or an inner fold with fewer than two classes
        return None
    tested = held_out.positions
    held_out = rescale(data, head, folds, without_unknown(data, held_out))
    rows, proba, trial = held_out.positions, held_out.proba, None
    if not len(rows):
        return None
    y, groups = data.targets.y[rows], data.splits.groups[rows]
    if method != "none":
        crossed = cross_calibrate(head, method, held_out, y, groups)
        unknown = data.splits.groups[np.setdiff1d(tested, rows)]
        trial = try_calibration(method, proba, crossed, y, groups, head.multilabel, unknown)
        if trial.kept:
            head, proba = head.calibrate(method, held_out.logits, y, groups), crossed
    head = measure_points(head, proba, y, groups, [recordings[i] for i in rows])
    return Finished(head, trial, rows, proba)


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


def rescale(
    data: LabelledVectors, head: Head, folds: Sequence[Split], held_out: HeldOutPredictions
) -> HeldOutPredictions:
    """Give the held-out logits the scale of the finished head's logits.

    A head that lacks a fold may have logits of another scale: on few rows, five times as high or low. Its scale on its
    own training rows is compared with that of the finished head on all of them.
    """
    logits, multilabel = held_out.logits.copy(), head.multilabel
    finished = logit_scale(head.logits(data.x[data.development]), multilabel)
    for fold, fold_head in zip(folds, held_out.heads, strict=True):
        scale = logit_scale(fold_head.logits(data.x[fold.train]), multilabel)
        logits[held_out.parts == fold.name] *= np.where(
            (scale > 0) & (finished > 0), finished / np.where(scale > 0, scale, 1), 1
        )
    return replace(held_out, logits=logits, proba=head.to_proba(logits))


def logit_scale(logits: Scores, multilabel: bool) -> Scores:
    """Return the mean distance of the two highest logits of a row; multi-label: the standard deviation of a label."""
    if multilabel:
        return np.asarray(logits.std(axis=0))
    highest = np.partition(logits, -2, axis=1)[:, -2:]
    return np.asarray(np.abs(np.diff(highest, axis=1)).mean())


def cross_calibrate(
    head: Head, method: str, held_out: HeldOutPredictions, y: NDArray[np.int64], groups: NDArray[np.int64]
) -> Scores:
    """Return probabilities [M, C]; those of each part are calibrated on all other parts."""
    proba = np.empty_like(held_out.proba)
    for name in np.unique(held_out.parts):
        in_part = held_out.parts == name
        calibrated = head.calibrate(method, held_out.logits[~in_part], y[~in_part], groups[~in_part])
        proba[in_part] = calibrated.to_proba(held_out.logits[in_part], calibrated=True)
    return proba


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
