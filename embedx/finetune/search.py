"""Search: options of fine-tuning that give a better figure on the validation part, proposed by optuna.

The first trial has the options as they were given, so the best one is never worse than those. A trial whose figure is
below the median of the earlier trials after the same number of epochs is stopped (median pruning).

Every finished trial is written to a file at once. A search that was killed reads it again and goes on with the trial
that it was killed in: what is proposed depends on the seed and the finished trials only. So it ends with the trials
that it would have had.
"""

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from embedx.errors import UsageError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path
from embedx.text import dump_json, parse_number, parse_pair

MAX_TRIALS = 10_000  # more are a typing error
STARTUP_TRIALS = 5  # trials before the first is stopped: a median of fewer says little; optuna's default
FIRST_EPOCHS = 1  # epochs that are never judged, because the rates still rise in them
TREE_STARTUP = 8  # random trials before optuna's model of the good ones is used; of 20, the usual number, about a third

State = Literal["complete", "pruned", "diverged"]
OnEpoch = Callable[[float], None]
Objective = Callable[[Mapping[str, Any], OnEpoch, int], float]


class Pruned(Exception):
    """The trial is stopped; the objective lets this pass."""


@dataclass(frozen=True)
class Numbers:
    """A range of numbers, drawn evenly or evenly on a logarithmic scale."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """A list of values without an order."""

    values: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values


Space = Mapping[str, Numbers | Choice]


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes:
        options: the options that were searched, by name.
        figure: the figure on the validation part; None if the trial was stopped, or its loss was not finite.
        by_epoch: the figure after each epoch.
        state: "complete", "pruned" (stopped) or "diverged" (its figure is not a number).
        seconds: how long it took.
    """

    options: Mapping[str, Any]
    figure: float | None
    by_epoch: tuple[float, ...]
    state: State
    seconds: float


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search in their order, and the best of them."""

    trials: tuple[Trial, ...]
    best: Trial


def read_trials(text: str) -> int:
    """Return the number of trials that `--search trials=N` asks for.

    >>> read_trials("trials=20")
    20

    Raises:
        UsageError: the text is not trials=N, or N is out of range.
    """
    name, value = parse_pair(text, "--search")
    number = parse_number(value.strip())
    if name != "trials":
        raise UsageError(f"--search takes trials=N, such as trials=20, not {text!r}.")
    if not isinstance(number, int) or not 1 <= number <= MAX_TRIALS:
        raise UsageError(f"The trials of --search are a whole number from 1 to {MAX_TRIALS}, not {value!r}.")
    return number


def make_space(
    options: Mapping[str, Any], layers: Sequence[int], poolings: Sequence[str], given: Collection[str] = ()
) -> dict[str, Numbers | Choice]:
    """Return what is searched: rates, freezing, dropout, pooling and layer.

    Args:
        options: the options by name, from which the search starts.
        layers: the layers of the encoder, ascending; layer 0 precedes the first block.
        poolings: the poolings of a head.
        given: options that the user has set; they stay as they are.

    Raises:
        UsageError: nothing is left to search.
    """
    blocks = len(layers) - 1
    deep = sorted({layers[blocks * part // 4] for part in (1, 2, 3)} - {layers[0], layers[-1]})
    space: dict[str, Numbers | Choice] = {
        "learning_rate": Numbers(1e-6, 1e-3, log=True),  # papers on wav2vec 2.0 and Whisper use 1e-5 to 3e-4
        "head_rate": Numbers(1e-5, 1e-1, log=True),  # a head starts from random weights
        "dropout": Numbers(0.0, 0.5),
        "pooling": Choice(tuple(poolings)),
    }
    if blocks:
        space["layer"] = Choice(("last", "weighted", *map(str, deep)))
    if not options.get("lora") and not options.get("unfreeze_every"):  # these say themselves what is trained
        half = [str(blocks // 2)] if blocks > 1 else []
        space["freeze"] = Choice(("none", "features", *half, "encoder"))
    if options.get("freeze") == "encoder" and "freeze" in given:
        del space["learning_rate"]  # no weight of the encoder is trained
    space = {name: one for name, one in space.items() if name not in given}
    if not space:
        raise UsageError("There is nothing to search: all of its options are given. Leave out some of them.")
    return space


def search(
    objective: Objective,
    options: Mapping[str, Any],
    space: Space,
    *,
    trials: int,
    seed: int,
    maximise: bool,
    file: Path,
    identity: Mapping[str, Any],
    on_trial: Callable[[int, Trial], None] = lambda number, trial: None,
) -> SearchResult:
    """Run the trials that are missing, and return all of them.

    Args:
        objective: trains with some options changed and returns the figure on the validation part. It is given the
            changed options, a function to call with the figure after every epoch, which raises `Pruned` to stop the
            trial, and the number of the trial from 0.
        options: the options from which the search starts, by name.
        space: what is searched.
        trials: the number of trials in all, with those that the file has.
        seed: the seed of the proposals.
        maximise: whether a higher figure is better.
        file: the file of the finished trials.
        identity: what else the trials depend on, such as the data; plain values.
        on_trial: called with the number of each trial of this run and the finished trial.

    Raises:
        UsageError: optuna is not installed, the file is of another search or damaged, or no trial has a finite figure.
    """
    import_optuna()
    known = {"space": {name: asdict(one) for name, one in space.items()}, "seed": seed, "maximise": maximise}
    key = json.loads(json.dumps({**known, **identity, "start": {name: options[name] for name in space}}))
    done = load(file, key)
    for number in range(len(done), trials):
        done.append(run_trial(objective, options, space, done, seed, maximise))
        replace_file(file, dump_json({"search": key, "trials": [asdict(trial) for trial in done]}).encode())
        on_trial(number, done[-1])
    return SearchResult(tuple(done), pick_best(done, maximise))


def pick_best(trials: Sequence[Trial], maximise: bool) -> Trial:
    """Return the complete trial with the best figure, of equal ones the first.

    Raises:
        UsageError: there is none.
    """
    complete = [(trial.figure, trial) for trial in trials if trial.figure is not None]
    if not complete:
        raise UsageError(
            f"None of the {len(trials)} trials has a finite figure on the validation part. Look at the loss of a "
            "training without --search first; lower --learning-rate and --head-rate."
        )
    return max(complete, key=lambda pair: pair[0] if maximise else -pair[0])[1]


def import_optuna() -> Any:
    """Return the package optuna; its reports of every trial are switched off.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError("--search needs the package optuna: pip install 'embedx[finetune]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def run_trial(
    objective: Objective, options: Mapping[str, Any], space: Space, done: Sequence[Trial], seed: int, maximise: bool
) -> Trial:
    """Propose the options of the trial that follows the finished ones, and run it."""
    study, distributions = rebuild_study(space, done, seed, maximise)
    if not done and all(options[name] in one for name, one in space.items()):
        study.enqueue_trial({name: options[name] for name in space})
    trial = study.ask(distributions)
    by_epoch: list[float] = []

    def on_epoch(figure: float) -> None:
        by_epoch.append(float(figure))
        trial.report(figure, len(by_epoch) - 1)
        if trial.should_prune():
            raise Pruned

    start = time.monotonic()
    state: State = "complete"
    try:
        figure = float(objective(dict(trial.params), on_epoch, len(done)))
    except Pruned:
        figure, state = by_epoch[-1], "pruned"
    if not math.isfinite(figure):
        state = "diverged"
    return Trial(
        dict(trial.params),
        figure if state == "complete" else None,
        tuple(value for value in by_epoch if math.isfinite(value)),
        state,
        round(time.monotonic() - start, 2),
    )


def rebuild_study(space: Space, done: Sequence[Trial], seed: int, maximise: bool) -> tuple[Any, dict[str, Any]]:
    """Return a study of optuna with the finished trials, and the distributions of the space."""
    optuna = import_optuna()
    from optuna.trial import TrialState, create_trial

    distributions = {
        name: optuna.distributions.CategoricalDistribution(one.values)
        if isinstance(one, Choice)
        else optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)
        for name, one in space.items()
    }
    study = optuna.create_study(
        direction="maximize" if maximise else "minimize",
        sampler=optuna.samplers.TPESampler(n_startup_trials=TREE_STARTUP, seed=seed + len(done)),
        pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, n_warmup_steps=FIRST_EPOCHS),
    )
    for trial in done:
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if trial.state == "complete" else TrialState.PRUNED,
                value=trial.figure,
                params=dict(trial.options),
                distributions=distributions,
                intermediate_values=dict(enumerate(trial.by_epoch)),
            )
        )
    return study, distributions


def load(file: Path, key: Mapping[str, Any]) -> list[Trial]:
    """Return the finished trials in a file; none if there is no file.

    Raises:
        UsageError: the file is damaged, or is of a search with other options, data or space.
    """
    name = display_path(str(file))
    try:
        content = json.loads(file.read_bytes())
        trials = [Trial(**one | {"by_epoch": tuple(one["by_epoch"])}) for one in content["trials"]]
        found = content["search"]
        if any(trial.state not in get_args(State) or set(trial.options) != set(key["space"]) for trial in trials):
            raise ValueError("a trial has an unknown state or other options")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"The finished trials in {name} cannot be read: {error}. Remove the file to start the search again."
        ) from error
    other = sorted(part for part in {*found, *key} if found.get(part) != key.get(part))
    if other:
        raise UsageError(
            f"{name} holds the trials of another search: {', '.join(other)} differ. Give the options of that search, "
            "another output folder, or remove the file to start again."
        )
    return trials
