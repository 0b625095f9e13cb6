"""Training: a network and data -> a trainer that goes on from its last checkpoint, and scores of any rows."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from embedx.audio.augmentation import Augmentation
from embedx.errors import DiskError, EmbedxError, Interrupted, UsageError
from embedx.extractors.devices import pick_device
from embedx.extractors.weights import brief
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path
from embedx.finetune.batches import Batcher, Steps
from embedx.finetune.data import TrainingData
from embedx.finetune.network import Network, Objective, balance_classes
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.scoring import mean_figure, predict_rows, score_rows
from embedx.finetune.start import average_weights, copy_weights, start_from_probe
from embedx.finetune.trainer import StepTrainer, Watcher, last_checkpoint, make_arguments, pick_precision

STATE = "training.json"
DISK_ERRORS = ("No space left", "File too large", "I/O error", "inline_container", "PytorchStreamWriter")
BATCH_SECONDS = {
    "cpu": 15.0,
    "cuda": 120.0,
}  # on a GPU a fifth of what `embedx extract` computes: gradients need memory

Report = Callable[[dict[str, Any]], None]


def make_trainer(
    network: Network, data: TrainingData, options: FinetuneOptions, checkpoints: Path, resume: bool = True
) -> StepTrainer:
    """Return the trainer; its `validate` gives the figures of the validation part that it compares.

    The trainer goes on from the last checkpoint; without `resume` all checkpoints are removed.
    """
    import transformers

    outputs, part, encoder = data.labelled.outputs, data.part, network.encoder
    weights = balance_classes(outputs, part.train) if options.class_weight else None
    objective = Objective(outputs, weights)
    pad = getattr(getattr(encoder, "extractor", None), "padded_samples", lambda length: length)
    on_gpu = pick_device(options.device).type == "cuda"
    precision = pick_precision(options.precision, on_gpu)
    seconds = options.batch_seconds or BATCH_SECONDS["cuda" if on_gpu else "cpu"]
    batcher = Batcher(
        data.waves, outputs, encoder.min_samples, encoder.sample_rate, round(seconds * encoder.sample_rate), pad
    )
    windows = data.waves.of_rows(part.train)
    weights_of_rows = draw_weights(data) if options.balanced else None
    if not resume:
        for folder in checkpoints.glob("checkpoint-*"):
            shutil.rmtree(folder)
    found = last_checkpoint(checkpoints)
    steps = Steps(
        batcher, windows, options.batch_size, 0, options.seed, weights_of_rows,
        augmentation=Augmentation.from_option(options.augment) if options.augment else None,
        first=found[1] if found else 0,
    )  # fmt: skip
    total = options.epochs * steps.per_epoch
    steps = replace(steps, total=total)
    arguments = make_arguments(options, checkpoints, total, steps.per_epoch, precision, bool(len(part.validation)))

    def validate() -> dict[str, float]:
        device, context = trainer.args.device, scoring_context(trainer)
        prediction = predict_rows(network, batcher, part.validation, objective, device, context)
        name = None if options.metric in (None, "loss") else options.metric
        return {"loss": prediction.loss, name or "main": mean_figure(score_rows(prediction, data.labelled), name)}

    trainer = StepTrainer(network, arguments, steps, objective, options, validate)
    if options.start == "probe":
        balance = options.class_weight
        start_from_probe(network, batcher, data.labelled, part.train, balance, options.seed, scoring_context(trainer))
    trainer.start = copy_weights(network) if options.average < 1 else {}
    if options.patience and len(part.validation):
        trainer.add_callback(transformers.EarlyStoppingCallback(options.patience))
    return trainer


def scoring_context(trainer: StepTrainer) -> Any:
    """Return what makes the context of a forward pass in the number format of a training."""
    device = trainer.args.device.type
    precision = pick_precision(trainer.options.precision, device == "cuda")
    if precision == "float32":
        return trainer.compute_loss_context_manager
    return partial(torch.autocast, device, torch.bfloat16 if precision == "bfloat16" else torch.float16)


def draw_weights(data: TrainingData) -> Any:
    """Return how often each training window is drawn, so that all classes are equally frequent.

    A row with several labels is drawn as its rarest one.
    """
    truth = data.labelled.outputs[0].truth
    rows = data.waves.row[data.waves.of_rows(data.part.train)]
    shares = truth[rows].mean(axis=0)
    rarity = [(1 / shares[truth[row] > 0]).max() if truth[row].any() else 1.0 for row in rows]
    return torch.tensor(rarity, dtype=torch.float64).numpy()


def run_trainer(
    trainer: StepTrainer,
    checkpoints: Path,
    data: TrainingData,
    report: Report,
    interrupted: Callable[[], int],
) -> list[dict[str, Any]]:
    """Train to the end, from the last checkpoint if there is one; return what was logged.

    Raises:
        UsageError: the checkpoint is of another training.
        Interrupted: a signal has come.
    """
    state = describe_state(data, trainer.options)
    file = checkpoints / STATE
    found = last_checkpoint(checkpoints)
    if found:
        check_state(file, state)
        report({"resumed": found[1]})
    replace_file(file, json.dumps(state).encode())
    trainer.add_callback(Watcher(report, interrupted))
    trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
    number = interrupted()
    if not number and trainer.start:
        average_weights(trainer.network, trainer.start, trainer.options.average)
    if number:
        raise Interrupted(
            f"Stopped after step {trainer.state.global_step} of {trainer.state.max_steps}. Run the same command again "
            "to go on.",
            number,
        )
    return [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]


def describe_state(data: TrainingData, options: FinetuneOptions) -> dict[str, Any]:
    """Return what a training depends on, as JSON values."""
    state: dict[str, Any] = json.loads(json.dumps({"data": data.fingerprint(), "options": asdict(options)}))
    return state


def check_state(file: Path, state: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another training.

    Raises:
        UsageError: the options or the data differ.
    """
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        different = [name for name, value in state["options"].items() if before["options"].get(name) != value]
        is_same_data = before["data"] == state["data"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        different, is_same_data = [], False
    if different or not is_same_data:
        what = f"other options ({', '.join(different)})" if different else "other recordings or labels"
        raise UsageError(
            f"{display_path(str(file.parent.parent))} holds an interrupted training with {what}. Use --no-resume to "
            "begin again, or choose another folder."
        )


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the disk in a block into a sentence.

    Raises:
        DiskError: the disk is full, or a file cannot be written.
    """
    try:
        yield
    except EmbedxError:
        raise
    except Exception as error:  # torch raises RuntimeError, and safetensors an error of its own
        if not isinstance(error, OSError) and not any(text in str(error) for text in DISK_ERRORS):
            raise
        raise DiskError(f"The training cannot be written to {display_path(str(folder))}: {brief(error)}") from error
