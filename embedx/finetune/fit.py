"""Fit: a network and prepared rows -> predictions of the test part, for benchmarks; no files are left."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedx.filesystem.atomic import make_folder
from embedx.finetune.construction import check_metric
from embedx.finetune.data import TrainingData
from embedx.finetune.network import Network, Objective
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.parameters import count_parameters, set_trained
from embedx.finetune.scoring import Prediction, predict_rows
from embedx.finetune.trainer import StepTrainer
from embedx.finetune.training import Report, disk_errors, make_trainer, run_trainer, scoring_context


@dataclass(frozen=True)
class Fit:
    """What a training gave.

    Attributes:
        tested: the predictions for the test part.
        parameters: the number of trained parameters, at the end of the training.
        resumed: whether the training went on from a checkpoint.
    """

    tested: Prediction
    parameters: int
    resumed: bool


def fit_network(
    network: Network,
    data: TrainingData,
    options: FinetuneOptions,
    checkpoints: Path,
    *,
    resume: bool = True,
    report: Report = lambda values: None,
    interrupted: Callable[[], int] = lambda: 0,
) -> Fit:
    """Train a network, choose the checkpoint on the validation part, and predict the test part.

    Args:
        network: the network, not trained yet; see `embedx.finetune.run.make_network`.
        data: the rows and their parts.
        options: what is trained, and how.
        checkpoints: the folder of the checkpoints, from which an interrupted training goes on; removed at the end.
        resume: go on from a checkpoint, if there is one.
        report: called with what happens, as plain values.
        interrupted: returns the number of a signal that came, 0 if none.

    Raises:
        UsageError: an invalid option.
        DiskError: the disk is full.
        Interrupted: a signal has come; call again to go on.
    """
    check_metric(data.labelled, options)
    make_folder(checkpoints)
    resumed: list[int] = []

    def note(values: dict[str, Any]) -> None:
        resumed.extend([values["resumed"]] if "resumed" in values else [])
        report(values)

    trainer = make_trainer(network, data, options, checkpoints, resume)
    with disk_errors(checkpoints):
        run_trainer(trainer, checkpoints, data, note, interrupted)
    tested = predict_part(network, trainer, data)
    set_trained(network, options, options.epochs - 1)
    shutil.rmtree(checkpoints)
    return Fit(tested, count_parameters(network)[1], bool(resumed))


def predict_part(network: Network, trainer: StepTrainer, data: TrainingData) -> Prediction:
    """Return the predictions for the test part."""
    objective = Objective(data.labelled.outputs)  # its loss is not used
    context = scoring_context(trainer)
    return predict_rows(network, trainer.steps.batcher, data.part.test, objective, trainer.args.device, context)
