"""Searching: the options of the best of several trainings, chosen on the validation part; the test part is not used."""

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embedx.errors import UsageError
from embedx.finetune.data import TrainingData
from embedx.finetune.network import Network
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.search import SearchResult, Trial, make_space, search
from embedx.finetune.training import Report, make_trainer, run_trainer

FILE = "search.json"
NOT_COMPARED = ("device", "precision", "batch_seconds", "checkpointing")  # a search may go on with other ones
POOLINGS = ("native", "mean", "max")


def search_options(
    make_network: Callable[[FinetuneOptions], Network],
    data: TrainingData,
    options: FinetuneOptions,
    folder: Path,
    trials: int,
    given: Collection[str],
    report: Report,
    interrupted: Callable[[], int],
) -> tuple[FinetuneOptions, SearchResult]:
    """Return the options of the best trial, and all trials.

    Args:
        make_network: returns a new network for options.
        data: the rows.
        options: the options from which the search starts.
        folder: where the trials and their checkpoints are kept.
        trials: the number of trials in all.
        given: options that the user has set; they stay as they are.
        report, interrupted: see `embedx.finetune.run.finetune`.

    Raises:
        UsageError: there is no validation part, or nothing to search.
    """
    if not len(data.part.validation):
        raise UsageError("--search needs a validation part, and there are too few groups to hold one out.")
    layers = make_network(options).encoder.layers
    start = options.replace(learning_rate=options.encoder_rate, head_rate=options.linear_rate)
    space = make_space(asdict(start), layers, POOLINGS, given)
    metric = options.metric or "main"

    def objective(changes: Mapping[str, Any], on_epoch: Callable[[float], None], number: int) -> float:
        changed = start.replace(**changes)
        place = folder / f"trial-{number}"
        place.mkdir(exist_ok=True)
        trainer = make_trainer(make_network(changed), data, changed, place, resume=False)
        validate, figures = trainer.validate, []

        def judged() -> dict[str, float]:
            values = validate()
            figures.append(values[metric])
            on_epoch(values[metric])
            return values

        trainer.validate = judged
        try:
            run_trainer(trainer, place, data, lambda values: None, interrupted)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return min(figures) if metric == "loss" else max(figures)

    def on_trial(number: int, trial: Trial) -> None:
        report({"trial": number + 1, "trials": trials, "figure": trial.figure, "state": trial.state, **trial.options})

    kept = {name: value for name, value in asdict(start).items() if name not in (*space, *NOT_COMPARED)}
    result = search(
        objective, asdict(start), space, trials=trials, seed=options.seed, maximise=metric != "loss",
        file=folder / FILE, identity={"data": data.fingerprint(), **kept}, on_trial=on_trial,
    )  # fmt: skip
    return start.replace(**result.best.options), result
