"""Zero-shot as a setup: the test parts and figures of the heads, without training rows."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import transformers

import embedx
from embedx.bench.config import make_plan
from embedx.bench.leaderboard import boards
from embedx.bench.report.tables import list_boards
from embedx.bench.results import Result, read_table
from embedx.bench.runner import run
from embedx.errors import UsageError
from tests.helpers.checkpoints import add_tokenizer
from tests.helpers.commands import outcome


@pytest.fixture(scope="module")
def clap(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "clap"
    shutil.copytree(checkpoint("clap"), folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    add_tokenizer(folder)
    return str(folder)


@pytest.fixture(scope="module")
def task(clap: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of eight recordings with the labels dog and the_rain, in two folds."""
    folder, random = tmp_path_factory.mktemp("task"), np.random.default_rng(0)
    with (folder / "clips.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "fold"])
        for number in range(8):
            path = folder / f"{number}.wav"
            soundfile.write(path, 0.1 * random.standard_normal(16_000) ** (1 + number % 2), 16_000)
            table.writerow([path, ("dog", "the_rain")[number % 2], "ab"[number // 2 % 2]])
    embedx.extract(folder / "clips.csv", out=folder / "c", model=clap).close()
    return folder / "c"


def bench(task: Path, out: Path, **options: Any) -> list[Result]:
    return run(make_plan(task=str(task), out=str(out), head="prototype", **options))


def test_zero_shot_has_the_test_parts_of_the_heads_and_the_figures_of_the_probe(task: Path, tmp_path: Path) -> None:
    rows = bench(task, tmp_path / "out", zero_shot=True, shots="1,all")
    named = [row for row in rows if row.head == "zero-shot"]
    heads = {(row.shots, row.fold): row for row in rows if row.head == "prototype"}
    assert {(row.shots, row.fold) for row in named} == set(heads)
    for row in named:
        twin = heads[row.shots, row.fold]
        for name in ("rows_test", "data", "chance", "majority", "classes", "split"):
            assert getattr(row, name) == getattr(twin, name)
        assert (row.rows_train, row.parameters) == (0, 0)
    with embedx.open(task) as collection:
        report = collection.probe_zero_shot()
    whole = report.metrics.figures["accuracy"]
    assert whole is not None
    accuracies = [(row.accuracy or 0.0) * row.rows_test for row in named if row.shots == "all"]
    assert sum(accuracies) == pytest.approx(whole.value * report.metrics.rows)
    assert [row for row in bench(task, tmp_path / "out", zero_shot=True, shots="1,all") if row in named] == named
    assert read_table(tmp_path / "out") == rows
    assert "zero-shot" in list_boards(boards(rows)) and "trained parameters" in list_boards(boards(rows))


def test_prompts_of_labels_change_the_scores_and_are_rows_of_their_own(task: Path, tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [{}, {"prompt": "{}"}, {"zero_shot": "dog=rain dog|dog"}]
    losses = {
        row.head: row.log_loss
        for given in options
        for row in bench(task, tmp_path / "out", **{"zero_shot": True, **given})
        if row.head.startswith("zero-shot")
    }
    assert list(losses) == ["zero-shot", "zero-shot({})", "zero-shot(dog=rain dog|dog)"]
    assert len(set(losses.values())) == 3
    with pytest.raises(UsageError, match="No task has the label 'cat'"):
        bench(task, tmp_path / "other", zero_shot="cat=meow")
    with pytest.raises(UsageError, match="prompt belongs to zero_shot"):
        make_plan(task=str(task), out=str(tmp_path), prompt="a {}")
    with pytest.raises(UsageError, match="prompt template needs"):
        make_plan(task=str(task), out=str(tmp_path), zero_shot=True, prompt="a dog")


def test_model_that_cannot_name_classes_is_a_failure_and_its_heads_are_fitted(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "probe", "--task", str(made), "-o", str(tmp_path / "out"), "--head", "prototype", "--no-report"]
    code, text, errors = outcome(capsys, *command, "--jobs", "1", "--zero-shot")
    assert code == 3
    assert "prototype" in text and "zero-shot" not in text
    assert "cannot name classes" in errors
    assert np.all([row.head == "prototype" for row in read_table(tmp_path / "out")])
