"""Run: a source and options -> a trained model in a folder, with its figures."""

import os
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from embedx.errors import UsageError
from embedx.filesystem.atomic import make_folder
from embedx.filesystem.paths import display_path
from embedx.finetune.construction import check_metric, make_head_settings, make_network
from embedx.finetune.data import (
    ALL_FOLDS,
    TrainingData,
    choose_part,
    label_items,
    make_recipe,
    read_data,
    read_items,
)
from embedx.finetune.fit import predict_part
from embedx.finetune.folds import fit_folds, whole_part
from embedx.finetune.network import Network
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.parameters import count_parameters, merge_lora, set_trained
from embedx.finetune.result import Finetuned, save_result
from embedx.finetune.scoring import score_rows
from embedx.finetune.searching import search_options
from embedx.finetune.training import Report, disk_errors, make_trainer, run_trainer
from embedx.metrics.chance import PERMUTATIONS
from embedx.metrics.report import Metrics

CHECKPOINTS = "checkpoints"


def finetune(
    source: Any,
    out: str | os.PathLike[str],
    options: FinetuneOptions,
    *,
    resume: bool = True,
    overwrite: bool = False,
    trials: int = 0,
    given: Collection[str] = (),
    permutations: int = PERMUTATIONS,
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
        permutations: how many permutations of the labels the predictions of the test rows are compared with; 0 for no
            test against chance. No model is trained again for it.
        report: called with what happens, as plain values.
        interrupted: returns the number of a signal that came, 0 if none; then the training stops with a checkpoint.

    Returns:
        The figures on the test part, or on all of them.

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
    network, data = prepare(source, options, folder / CHECKPOINTS, trials > 0, report)
    checkpoints, found = folder / CHECKPOINTS, None
    if trials:
        with disk_errors(folder):
            make = partial(make_network, data.labelled)
            options, found = search_options(make, data, options, checkpoints, trials, given, report, interrupted)
        network = make_network(data.labelled, options)
    if options.fold == ALL_FOLDS and len(data.labelled.splits.parts) > 1:
        result = train_folds(network, data, options, folder, resume, permutations, report, interrupted)
    else:
        result = train(network, data, options, folder / CHECKPOINTS, resume, permutations, report, interrupted)
    facts = {**result.facts, "seconds": time.monotonic() - started}
    if found is not None:
        facts["trials"] = [asdict(trial) for trial in found.trials]
    return save_result(replace(result, facts=facts), network, options, source)


def prepare(
    source: Any, options: FinetuneOptions, checkpoints: Path, is_search: bool, report: Report
) -> tuple[Network, TrainingData]:
    """Read and split a source, and load the model with a new head; wrong options are refused first."""
    items = read_items(source, options)
    labelled = label_items(items, options)  # errors in labels and split come before the model is loaded
    choose_part(labelled, options)
    check_metric(labelled, options)
    if is_search and options.fold == ALL_FOLDS:
        raise UsageError(
            "--search chooses on the validation rows of one test part, which are test rows of another one. Search with "
            "one fold, and give what it found (--args) with --fold all."
        )
    network = make_network(labelled, options)
    recipe = make_recipe(options, network.encoder.sample_rate, network.encoder.max_samples)
    make_folder(checkpoints)
    data = read_data(items, options, recipe, checkpoints, lambda done, total: report({"decoded": done, "rows": total}))
    if make_head_settings(network.encoder, data.labelled, options) != network.head.settings:
        network = make_network(data.labelled, options)  # all rows of a class could not be read
    return network, data


def train(
    network: Network,
    data: TrainingData,
    options: FinetuneOptions,
    checkpoints: Path,
    resume: bool,
    permutations: int,
    report: Report,
    interrupted: Callable[[], int],
) -> Finetuned:
    """Train a network, and score the best checkpoint on the test part; nothing is saved but checkpoints."""
    trainer = make_trainer(network, data, options, checkpoints, resume)
    with disk_errors(checkpoints.parent):
        history = run_trainer(trainer, checkpoints, data, report, interrupted)
    metrics: dict[str, Metrics] = {}
    if len(data.part.test):
        tested = predict_part(network, trainer, data)
        metrics = score_rows(tested, data.labelled, permutations=permutations, seed=options.seed)
    chosen = trainer.validate() if len(data.part.validation) else None
    set_trained(network, options, options.epochs - 1)
    facts = {
        **describe_training(network, data),
        "steps": int(trainer.state.global_step),
        "best_step": int(trainer.state.best_global_step or trainer.state.global_step),
    }
    if options.lora:
        merge_lora(network.encoder)
    validation = None if chosen is None else chosen[options.metric or "main"]
    folder = checkpoints.parent
    return Finetuned(folder, metrics, validation, False, facts, data.notes, data.failures, tuple(history))


def train_folds(
    network: Network,
    data: TrainingData,
    options: FinetuneOptions,
    folder: Path,
    resume: bool,
    permutations: int,
    report: Report,
    interrupted: Callable[[], int],
) -> Finetuned:
    """Score a training for each test part, all together, and train the network on the rows of all parts."""
    checkpoints = folder / CHECKPOINTS
    crossed = fit_folds(data, options, checkpoints, resume, report, interrupted)
    metrics = score_rows(
        crossed.tested, data.labelled, permutations=permutations, parts=crossed.parts, seed=options.seed
    )
    final = replace(data, part=whole_part(data, options))
    report({"fold": "", "number": 0, "folds": len(crossed.facts)})
    result = train(network, final, options, checkpoints / "final", resume, 0, report, interrupted)
    facts = {**result.facts, "test_rows": len(crossed.parts), "folds": list(crossed.facts)}
    return replace(result, folder=folder, metrics=metrics, facts=facts)


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
