"""Run: a source and options -> a trained model in a folder, with its figures."""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from embedx.errors import DiskError, EmbedxError, UsageError
from embedx.extractors.pooled_heads import HeadSettings
from embedx.extractors.scratch import SCRATCH, scratch_encoder
from embedx.extractors.weights import brief
from embedx.filesystem.atomic import make_folder
from embedx.filesystem.paths import display_path
from embedx.finetune.data import TrainingData, label_items, make_recipe, read_data, read_items
from embedx.finetune.encoders import load_encoder
from embedx.finetune.labels import LabelledRows
from embedx.finetune.network import Network
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.parameters import add_lora, check_freeze, count_parameters, merge_lora, set_trained
from embedx.finetune.result import Finetuned, save_result
from embedx.finetune.searching import search_options
from embedx.finetune.training import Report, make_trainer, run_trainer

CHECKPOINTS = "checkpoints"
DISK_ERRORS = ("No space left", "File too large", "I/O error", "inline_container", "PytorchStreamWriter")


def finetune(
    source: Any,
    out: str | os.PathLike[str],
    options: FinetuneOptions,
    *,
    resume: bool = True,
    overwrite: bool = False,
    trials: int = 0,
    given: Collection[str] = (),
    report: Report = lambda values: None,
    interrupted: Callable[[], int] = lambda: 0,
) -> Finetuned:
    """Fine-tune a model on a source, test it on rows that it has not seen, and save it.

    Args:
        source: what `embedx extract` takes: a folder, files, a manifest or a pandas frame.
        out: the folder of the model, such as models/NAME.
        options: what is trained, and how.
        resume: go on with a training of the same source and options that was interrupted.
        overwrite: replace a finished model in the folder.
        trials: search options in so many trainings first, chosen on the validation part; 0 takes the given options.
        given: the names of options that a search must not change.
        report: called with what happens, as plain values.
        interrupted: returns the number of a signal that came, 0 if none; then the training stops with a checkpoint.

    Returns:
        The figures on the test part.

    Raises:
        UsageError: an invalid option, label or split, or a folder that holds something else.
        ModelError: the model cannot be loaded.
        AudioError: no recording can be read.
        DiskError: the disk is full.
        Interrupted: a signal has come; call again to go on.
    """
    started = time.monotonic()
    folder = Path(os.path.abspath(out))
    prepare_folder(folder, overwrite)
    items = read_items(source, options)
    labelled = label_items(items, options)  # errors in labels and split come before the model is loaded
    check_metric(labelled, options)
    network = make_network(labelled, options)
    recipe = make_recipe(options, network.encoder.sample_rate, network.encoder.max_samples)
    checkpoints = folder / CHECKPOINTS
    make_folder(checkpoints)
    data = read_data(items, options, recipe, checkpoints, lambda done, total: report({"decoded": done, "rows": total}))
    found = None
    if trials:
        with disk_errors(folder):
            make = partial(make_network, labelled)
            options, found = search_options(make, data, options, checkpoints, trials, given, report, interrupted)
        network = make_network(labelled, options)
    result = train(network, data, options, folder, resume, report, interrupted)
    facts = {**result.facts, "seconds": time.monotonic() - started}
    if found is not None:
        facts["trials"] = [asdict(trial) for trial in found.trials]
    return save_result(replace(result, facts=facts), network, options, source)


def train(
    network: Network,
    data: TrainingData,
    options: FinetuneOptions,
    folder: Path,
    resume: bool,
    report: Report,
    interrupted: Callable[[], int],
) -> Finetuned:
    """Train a network, and score the best checkpoint on the test part; nothing is saved but checkpoints."""
    checkpoints = folder / CHECKPOINTS
    trainer, score = make_trainer(network, data, options, checkpoints, resume)
    with disk_errors(folder):
        history = run_trainer(trainer, checkpoints, data, report, interrupted)
    metrics, _ = score(data.part.test, True)
    chosen = score(data.part.validation, False)[1] if len(data.part.validation) else None
    set_trained(network, options, options.epochs - 1)
    facts = {
        **describe_training(network, data),
        "steps": int(trainer.state.global_step),
        "best_step": int(trainer.state.best_global_step or trainer.state.global_step),
    }
    if options.lora:
        merge_lora(network.encoder)
    validation = None if chosen is None else chosen[options.metric or "main"]
    return Finetuned(folder, metrics, validation, False, facts, data.notes, data.failures, tuple(history))


def describe_training(network: Network, data: TrainingData) -> dict[str, Any]:
    """Return how many parameters and rows a training has, and the split, ready for JSON."""
    total, trained = count_parameters(network)
    return {
        "parameters": total,
        "trained_parameters": trained,
        **{f"{name}_rows": len(getattr(data.part, name)) for name in ("train", "validation", "test")},
        "split": data.labelled.splits.how,
        "test_part": data.part.name,
        "leaky": data.labelled.splits.leaky,
        "unlabelled": data.labelled.unlabelled,
    }


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


def make_network(labelled: LabelledRows, options: FinetuneOptions) -> Network:
    """Return the encoder with a new head, and with LoRA if the options ask for it."""
    encoder = pick_encoder(options)
    torch.manual_seed(options.seed)
    network = Network(encoder, make_head_settings(encoder, labelled, options))
    if options.lora:
        add_lora(encoder, options.lora)
    return network


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Check that a folder is free, holds an interrupted training, or may be replaced.

    Raises:
        UsageError: it holds a finished model or something else.
    """
    shown = display_path(str(folder))
    if folder.is_file():
        raise UsageError(f"{shown} is a file. Give the folder of the model, such as models/NAME.")
    if (folder / "finetune.json").exists():
        if not overwrite:
            raise UsageError(f"{shown} holds a trained model. Choose another folder, or use --overwrite.")
    elif folder.is_dir() and set(os.listdir(folder)) - {CHECKPOINTS}:
        raise UsageError(f"{shown} is not empty and holds no model of embedx finetune. Choose another folder.")


def pick_encoder(options: FinetuneOptions) -> Any:
    """Return the encoder of a checkpoint, or of a model from scratch."""
    if options.model.startswith(SCRATCH):
        check_scratch(options)
        torch.manual_seed(options.seed)
        return scratch_encoder(options.model.removeprefix(SCRATCH)).requires_grad_(True)
    lengths = [seconds for seconds in (options.window, options.max_seconds) if seconds is not None]
    context_s = min(lengths) if lengths else None
    native = options.pooling == "native"
    encoder = load_encoder(options.model, context_s=context_s, native=native, allow_pickle=options.allow_pickle)
    check_freeze(options, len(encoder.layers) - 1)
    if options.checkpointing:
        encoder.model.activation_checkpointing_enable()  # type: ignore[operator]
    return encoder


def check_scratch(options: FinetuneOptions) -> None:
    """Refuse options that need a pretrained transformer.

    Raises:
        UsageError: one of them is set.
    """
    for name, value in {"lora": options.lora, "checkpointing": options.checkpointing}.items():
        if value:
            raise UsageError(f"{name} needs a checkpoint of transformers; {options.model} has no pretrained blocks.")


def make_head_settings(encoder: Any, labelled: LabelledRows, options: FinetuneOptions) -> HeadSettings:
    """Return the shape of the head.

    Raises:
        UsageError: the encoder has no such layer.
    """
    layers = {"last": encoder.layers[-1:], "weighted": encoder.layers}.get(options.layer)
    if layers is None:
        layers = (int(options.layer),)
        if layers[0] not in encoder.layers:
            raise UsageError(f"layer={options.layer}, but {options.model} has the layers 0 to {encoder.layers[-1]}.")
    is_ast = getattr(encoder, "kind", "") == "audio-spectrogram-transformer"
    native_norm = is_ast and options.pooling == "native"
    return HeadSettings(
        outputs={output.name: output.classes for output in labelled.outputs},
        multi_label=tuple(output.name for output in labelled.outputs if output.multi_label),
        dim=encoder.dim,
        layers=layers,
        layer_norm=native_norm if options.layer_norm is None else options.layer_norm,
        norm_epsilon=float(encoder.model.config.layer_norm_eps) if native_norm else 1e-5,
        **{name: getattr(options, name) for name in ("pooling", "shared", "hidden", "activation", "dropout")},
    )


def check_metric(labelled: LabelledRows, options: FinetuneOptions) -> None:
    """Refuse a metric that no output has.

    Raises:
        UsageError: the metric is of the other kind of labels.
    """
    kinds = {output.multi_label for output in labelled.outputs}
    single, multi = {"accuracy", "balanced_accuracy"}, {"exact_match", "micro_f1"}
    if (options.metric in single and True in kinds) or (options.metric in multi and False in kinds):
        what = "one label" if options.metric in single else "several labels"
        raise UsageError(
            f"metric={options.metric} is for outputs with {what} in a row. Use macro_f1, macro_auc or loss."
        )
