"""The search: the first trial is the given one, choices are by the objective alone, and a kill changes nothing."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from embedx.errors import UsageError
from embedx.finetune.search import Choice, Numbers, OnEpoch, SearchResult, Trial, make_space, read_trials, search

pytest.importorskip("optuna")
START = {"learning_rate": 1e-5, "pooling": "mean"}
SPACE: dict[str, Numbers | Choice] = {
    "learning_rate": Numbers(1e-6, 1e-2, log=True),
    "pooling": Choice(("mean", "max")),
}


def height(options: Mapping[str, Any]) -> float:
    """A figure that is best at a rate of 1e-3 with max pooling."""
    return float(1 - 0.1 * abs(math.log10(options["learning_rate"]) + 3) - 0.2 * (options["pooling"] == "mean"))


class Training:
    """A training of ten epochs that rises to its figure; it counts epochs, and can be killed in an epoch."""

    def __init__(self, kill_after: float = math.inf) -> None:
        self.epochs, self.kill_after = 0, kill_after

    def __call__(self, options: Mapping[str, Any], on_epoch: OnEpoch, number: int) -> float:
        for epoch in range(10):
            self.epochs += 1
            if self.epochs > self.kill_after:
                raise KeyboardInterrupt
            on_epoch(height(options) * (epoch + 1) / 10)
        return height(options)


def find(
    file: Path, objective: Any = None, trials: int = 12, seed: int = 0, maximise: bool = True, **identity: Any
) -> SearchResult:
    return search(
        objective or Training(), START, SPACE, trials=trials, seed=seed, maximise=maximise, file=file, identity=identity
    )


def without_time(trials: tuple[Trial, ...]) -> list[tuple[Any, ...]]:
    return [(trial.options, trial.figure, trial.by_epoch, trial.state) for trial in trials]


def test_search_starts_with_the_given_options_and_finds_better_ones(tmp_path: Path) -> None:
    result = find(tmp_path / "search.json", trials=20)
    assert len(result.trials) == 20
    assert result.trials[0].options == START
    assert result.best.options["pooling"] == "max"
    assert result.best.figure == height(result.best.options)
    assert result.best.figure == max(trial.figure for trial in result.trials if trial.figure is not None)
    assert result.best.figure > height(START) + 0.2


def test_search_stops_trials_below_the_median_early_but_not_the_first_ones(tmp_path: Path) -> None:
    training = Training()
    result = find(tmp_path / "search.json", training, trials=20)
    stopped = [trial for trial in result.trials if trial.state == "pruned"]
    assert stopped
    assert all(trial.state == "complete" for trial in result.trials[:5])
    assert all(trial.figure is None and 2 <= len(trial.by_epoch) < 10 for trial in stopped)
    assert training.epochs == sum(len(trial.by_epoch) for trial in result.trials) < 200
    assert result.best not in stopped


@pytest.mark.parametrize("epochs", [3, 57, 74])  # in the first trial, in the middle, and after trials were stopped
def test_search_that_was_killed_ends_as_one_that_was_not(epochs: int, tmp_path: Path) -> None:
    whole = find(tmp_path / "whole.json")
    with pytest.raises(KeyboardInterrupt):
        find(tmp_path / "killed.json", Training(kill_after=epochs))
    rest = Training()
    resumed = find(tmp_path / "killed.json", rest)
    assert without_time(resumed.trials) == without_time(whole.trials)
    assert 0 < rest.epochs < sum(len(trial.by_epoch) for trial in whole.trials) or epochs < 10
    again = Training()
    find(tmp_path / "killed.json", again)
    assert again.epochs == 0  # nothing is left to do


def test_search_can_be_extended_and_depends_on_its_seed(tmp_path: Path) -> None:
    short = find(tmp_path / "a.json", trials=7)
    longer = find(tmp_path / "a.json", trials=9)
    assert longer.trials[:7] == short.trials
    assert without_time(longer.trials) == without_time(find(tmp_path / "b.json", trials=9).trials)
    assert without_time(longer.trials) != without_time(find(tmp_path / "c.json", trials=9, seed=1).trials)


def test_search_for_a_loss_takes_the_lowest(tmp_path: Path) -> None:
    result = find(tmp_path / "search.json", lambda options, on_epoch, number: -height(options), maximise=False)
    assert result.best.figure == min(trial.figure for trial in result.trials if trial.figure is not None)
    assert result.best.options["pooling"] == "max"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_trial_whose_figure_is_not_finite_is_never_the_best(value: float, tmp_path: Path) -> None:
    def diverging(options: Mapping[str, Any], on_epoch: OnEpoch, number: int) -> float:
        if options["learning_rate"] < 1e-4:
            return 0.5
        on_epoch(value)
        return value

    result = find(tmp_path / "search.json", diverging, trials=10)
    assert {trial.state for trial in result.trials} == {"complete", "diverged"}
    assert result.best.figure == 0.5
    json.loads((tmp_path / "search.json").read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    assert find(tmp_path / "search.json", diverging, trials=10) == result
    with pytest.raises(UsageError, match="None of the 3 trials has a finite figure"):
        find(tmp_path / "other.json", lambda options, on_epoch, number: value, trials=3)


def test_search_of_another_kind_in_the_same_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "search.json"
    find(file, trials=2, rows="a")
    with pytest.raises(UsageError, match="another search: rows differ"):
        find(file, trials=3, rows="b")
    with pytest.raises(UsageError, match="another search: seed differ"):
        find(file, trials=3, rows="a", seed=1)
    for damage in ("", "{}", "[]", '{"trials": [{}], "search": {}}', file.read_text().replace("complete", "none")):
        file.write_text(damage)
        with pytest.raises(UsageError, match=r"cannot be read: .* Remove the file"):
            find(file, trials=3, rows="a")


def test_space_leaves_out_what_is_given_or_has_no_effect() -> None:
    options = {"lora": 0, "unfreeze_every": 0, "freeze": "none"}
    layers = list(range(13))
    space = make_space(options, layers, ["mean", "max"])
    assert set(space) == {"learning_rate", "head_rate", "freeze", "dropout", "pooling", "layer"}
    assert space["layer"] == Choice(("last", "weighted", "3", "6", "9"))
    assert space["freeze"] == Choice(("none", "features", "6", "encoder"))
    assert "freeze" not in make_space(options | {"lora": 8}, layers, ["mean"])
    assert "freeze" not in make_space(options | {"unfreeze_every": 1}, layers, ["mean"])
    assert "learning_rate" not in make_space(options | {"freeze": "encoder"}, layers, ["mean"], ["freeze"])
    assert "layer" not in make_space(options, [0], ["mean"])
    with pytest.raises(UsageError, match="nothing to search"):
        make_space(options, layers, ["mean"], list(space))


@pytest.mark.parametrize("text", ["20", "trials=", "trials=0", "trials=2.5", "trials=x", "steps=3", "trials=10001"])
def test_number_of_trials_must_be_a_whole_number_in_range(text: str) -> None:
    with pytest.raises(UsageError, match="--search"):
        read_trials(text)
