"""A training for each test part: one figure over all, no row trained on and tested, and a run that goes on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embedx.cli.app import run
from embedx.errors import UsageError
from embedx.evaluation.chance import compare_predictions, join_p_values
from tests.helpers.finetuning import Checkpoint, train_tones

MODEL = "scratch:cnn"


class Killed(Exception):
    """Stands for a kill in the middle of training."""


@pytest.mark.long
def test_every_row_is_tested_once_and_the_figures_are_joint(
    tones: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = tones.drop(columns="split")
    frame.to_csv(tmp_path / "tones.csv", index=False)
    words = [str(tmp_path / "tones.csv"), "--model", MODEL, "--folds", "speaker", "--fold", "all", "--group", "speaker"]
    quick = ["--epochs", "2", "--batch-size", "6", "--device", "cpu", "--progress", "none", "-o", str(tmp_path / "m")]
    assert run(["finetune", *words, *quick, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    metrics = values["outputs"]["label"]
    assert metrics["rows"] == values["test_rows"] == 30
    assert [part["part"] for part in metrics["by_part"]] == ["s0", "s1", "s2", "s3", "s4"]
    assert [fold["test_rows"] for fold in values["folds"]] == [6] * 5
    assert values["train_rows"] + values["validation_rows"] == 30  # of the final model
    accuracy = metrics["figures"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["value"] == pytest.approx(np.mean([part["accuracy"] for part in metrics["by_part"]]))
    assert metrics["chance_test"]["permutations"] == 199
    assert not metrics["chance_test"]["fitted"]
    assert {one.name for one in (tmp_path / "m").iterdir()} >= {"finetune.json", "model.safetensors", "metrics.json"}
    assert not (tmp_path / "m" / "checkpoints").exists()


@pytest.mark.long
def test_killed_run_goes_on_with_its_fold_and_ends_with_the_same_figures(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    frame = tones[tones.speaker < "s3"].drop(columns="split")
    options = {"folds": "speaker", "fold": "all", "epochs": 2}
    whole = train_tones(frame, MODEL, tmp_path / "whole", **options)
    seen: list[str] = []

    def kill(values: dict[str, object]) -> None:
        seen.append(str(values.get("fold")))
        if values.get("step") == 2 and "s1" in seen:
            raise Killed

    with pytest.raises(Killed):
        train_tones(frame, MODEL, tmp_path / "killed", report=kill, **options)
    with pytest.raises(UsageError, match=r"other options \(dropout\)"):
        train_tones(frame, MODEL, tmp_path / "killed", dropout=0.5, **options)
    again = train_tones(frame, MODEL, tmp_path / "killed", **options)
    assert again.metrics["label"].figures == whole.metrics["label"].figures
    weights = [(one.folder / "model.safetensors").read_bytes() for one in (whole, again)]
    assert weights[0] == weights[1]


@pytest.mark.long
def test_copies_in_any_fold_are_named(tones: pd.DataFrame, tmp_path: Path) -> None:
    frame = tones[tones.speaker < "s3"].drop(columns="split").reset_index(drop=True)
    copy = tmp_path / "copy.wav"  # a recording of the last speaker under the name of the second one
    copy.write_bytes(Path(frame.path[frame.speaker == "s2"].iloc[0]).read_bytes())
    frame.loc[frame.index[frame.speaker == "s1"][0], "path"] = str(copy)
    result = train_tones(frame, MODEL, tmp_path / "m", folds="speaker", fold="all", epochs=1)
    assert "2 test rows sound like a row of the training" in result.notes[0]


def test_search_with_all_folds_and_an_unknown_fold_are_refused(tones: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Search with one fold"):
        train_tones(tones, MODEL, tmp_path / "m", folds="speaker", fold="all", trials=2)
    with pytest.raises(UsageError, match=r"no test part 's9'\. Test parts: s0, .*; or all"):
        train_tones(tones, MODEL, tmp_path / "m", folds="speaker", fold="s9")
    shared = tones.assign(batch=["a", "b"] * (len(tones) // 2))
    with pytest.raises(UsageError, match="would split one recording or group"):
        train_tones(shared, MODEL, tmp_path / "m", folds="batch", fold="all", group="speaker")


@pytest.mark.long
@pytest.mark.parametrize("parts", [1, 5])
def test_predictions_of_labels_by_chance_seldom_pass(parts: int) -> None:
    """The models of the other parts have seen the labels, so a test of all parts at once finds too much."""
    random, number, passed, trials = np.random.default_rng(parts), 40, 0, 60
    for _ in range(trials):
        y = random.permutation(np.repeat([0, 1], number // 2))
        x = random.normal(size=(number, 30))
        fold = np.empty(number, np.int64)
        for label in (0, 1):
            fold[y == label] = random.permutation(number // 2) % max(2, parts)
        predicted = np.empty(number, np.int64)
        for one in range(max(2, parts)):
            means = np.stack([x[(fold != one) & (y == label)].mean(axis=0) for label in (0, 1)])
            predicted[fold == one] = ((x[fold == one][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        rows = np.flatnonzero(fold == 0) if parts == 1 else np.arange(number)
        answers, truth = predicted[rows], y[rows]

        def score(labels: np.ndarray, used: np.ndarray, answers: np.ndarray = answers) -> float:
            return float(np.mean([(answers[used][labels == label] == label).mean() for label in (0, 1)]))

        test = compare_predictions(truth, score, rows, [str(i) for i in rows], fold[rows], 39)
        assert test is not None
        passed += test.passed
    assert passed <= 6  # more than 6 of 60 at 2.5 % has a probability of 0.0005


def test_clear_predictions_pass_and_p_values_are_joined_by_their_middle() -> None:
    y, parts = np.tile([0, 1], 30), np.repeat([0, 1, 2], 20)
    names = [str(i) for i in range(60)]
    test = compare_predictions(y, lambda labels, used: float((labels == y[used]).mean()), y.cumsum(), names, parts, 199)
    assert test is not None
    assert test.passed
    assert "the predictions stayed the same" in test.describe("accuracy")
    assert join_p_values([0.001] * 5 + [1.0]) == pytest.approx(0.002)
    assert join_p_values([0.9, 0.8]) == 1.0
