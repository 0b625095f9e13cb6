"""Folds: a training for each test part, and the figures of all of them together.

The models of the parts are removed when their test rows are predicted. Finished parts are kept as predictions, so a run
that was stopped goes on with the part that it was in.
"""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.evaluation.splits import NO_ROWS, Split
from embedx.filesystem.atomic import replace_file
from embedx.finetune.construction import make_network
from embedx.finetune.data import TrainingData, complete_part, hold_out
from embedx.finetune.fit import fit_network
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.scoring import Prediction
from embedx.finetune.training import STATE, Report, check_state, describe_state, disk_errors

PREDICTIONS = "fold-{}.npz"  # in the folder of the checkpoints


@dataclass(frozen=True)
class CrossFit:
    """What the trainings of all test parts gave.

    Attributes:
        tested: the predictions for all M test rows.
        parts: [M] the name of the test part of each.
        facts: for each part, its name and the numbers of its rows.
    """

    tested: Prediction
    parts: NDArray[np.str_]
    facts: tuple[dict[str, Any], ...]


def fit_folds(
    data: TrainingData,
    options: FinetuneOptions,
    checkpoints: Path,
    resume: bool,
    report: Report,
    interrupted: Callable[[], int],
) -> CrossFit:
    """Train a model for each test part, and predict the part with it.

    Args:
        data: the rows; its part is not used.
        options: what is trained, and how.
        checkpoints: where checkpoints and predictions are kept.
        resume: go on with the part in which a run was stopped.
        report, interrupted: see `embedx.finetune.run.finetune`.

    Raises:
        UsageError: the folder holds another training.
        DiskError: the disk is full.
        Interrupted: a signal has come.
    """
    if not resume:
        for left in checkpoints.glob("fold-*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    everything = replace(data, part=whole_part(data, options))
    state = describe_state(everything, options)
    if any(checkpoints.glob("fold-*")):
        check_state(checkpoints / STATE, state)
    with disk_errors(checkpoints):
        replace_file(checkpoints / STATE, json.dumps(state).encode())
    found, facts = [], []
    for number, part in enumerate(data.labelled.splits.parts, start=1):
        part = complete_part(data.labelled, part, options)
        report({"fold": part.name, "number": number, "folds": len(data.labelled.splits.parts)})
        file = checkpoints / PREDICTIONS.format(number)
        if not file.exists():
            network = make_network(data.labelled, options)
            place = checkpoints / f"fold-{number}"
            fit = fit_network(network, replace(data, part=part), options, place, report=report, interrupted=interrupted)
            with disk_errors(checkpoints):
                replace_file(file, to_bytes(fit.tested))
        found.append(read_prediction(file))
        sizes = {f"{name}_rows": len(getattr(part, name)) for name in ("train", "validation", "test")}
        facts.append({"part": part.name, **sizes})
    names = [np.full(len(one.rows), fact["part"]) for one, fact in zip(found, facts, strict=True)]
    return CrossFit(join(found), np.concatenate(names), tuple(facts))


def whole_part(data: TrainingData, options: FinetuneOptions) -> Split:
    """Return the part of the final model: the rows of all test parts, some held out to choose the checkpoint."""
    rows = np.sort(np.concatenate([part.test for part in data.labelled.splits.parts]))
    part = Split("all", rows, NO_ROWS, NO_ROWS)
    return hold_out(data.labelled, part, options.seed) if options.hold_out else part


def join(predictions: list[Prediction]) -> Prediction:
    """Return predictions of several parts as one."""
    proba = {
        name: np.concatenate([one.proba[name] for one in predictions]) for name in predictions[0].proba
    }  # [M, C] of each output
    return Prediction(np.concatenate([one.rows for one in predictions]), proba, float("nan"))


def to_bytes(prediction: Prediction) -> bytes:
    """Return predictions as the content of an .npz file."""
    buffer = io.BytesIO()
    arrays = {f"proba-{number}": proba for number, proba in enumerate(prediction.proba.values())}
    names = np.array(list(prediction.proba))
    np.savez(buffer, rows=prediction.rows, names=names, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_prediction(file: Path) -> Prediction:
    """Return the predictions that `to_bytes` gave."""
    with np.load(file, allow_pickle=False) as arrays:
        names = arrays["names"].tolist()
        proba = {name: arrays[f"proba-{number}"] for number, name in enumerate(names)}
        return Prediction(arrays["rows"], proba, float("nan"))
