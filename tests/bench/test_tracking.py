"""Leaderboards go to MLflow and Weights & Biases, where these are installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from embedx.bench.leaderboard import Board, boards
from embedx.bench.results import extend_table, read_table
from embedx.bench.tracking import TRACKERS, entries_of, figures_of, log_boards, name_of, parameters_of
from embedx.errors import EmbedxError, UsageError
from tests.helpers.bench_results import result
from tests.helpers.commands import Capture, outcome

ACCURACIES = {"yamnet": (0.8, 0.9, 1.0), "logmel": (0.5, 0.6, 0.4)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A benchmark of two models on three folds, with a report."""
    rows = [
        result(str(fold), model=model, accuracy=value, balanced_accuracy=value)
        for model, values in ACCURACIES.items()
        for fold, value in enumerate(values)
    ]
    extend_table(tmp_path / "bench", rows)
    (tmp_path / "bench" / "report.html").write_text("<p>report</p>")
    return tmp_path / "bench"


@pytest.fixture
def ranked(folder: Path) -> list[Board]:
    return boards(read_table(folder))


def test_figures_have_the_intervals_of_the_board(ranked: list[Board]) -> None:
    first, second = ((board, entry) for board, entry in entries_of(ranked))
    figures, score = figures_of(*first), first[1].scores["accuracy"]
    ends = [figures[f"accuracy{end}"] for end in ("", "_low", "_high")]
    assert ends == [score.mean, score.low, score.high]
    assert figures["rank"] == 1.0
    assert parameters_of(*second)["model"] == "logmel"
    assert name_of(*first) != name_of(*second)


def test_missing_package_is_named_before_anything_runs(tmp_path: Path, capsys: Capture) -> None:
    missing = [name for name in TRACKERS if find_spec(name) is None]
    if not missing:
        pytest.skip("every tracker is installed")
    code, _, log = outcome(capsys, "bench", "probe", "--task", tmp_path / "nosuch", "--log", missing[0])
    assert code == 2
    assert f"pip install 'embedx[{missing[0]}]'" in log


@pytest.mark.filterwarnings("ignore")
def test_mlflow_holds_every_entry_and_the_report(
    folder: Path, ranked: list[Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert "run " in log_boards(folder, ranked, "mlflow")
    client = MlflowClient()
    (experiment,) = [one for one in client.search_experiments() if one.name == "embedx"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert len(runs) == 3
    assert {file.path for file in client.list_artifacts(runs["bench"].info.run_id)} == {"report.html", "results.csv"}
    for board, entry in entries_of(ranked):
        run = runs[name_of(board, entry)]
        assert run.data.metrics == figures_of(board, entry)
        assert run.data.params == parameters_of(board, entry)
        assert run.data.tags["mlflow.parentRunId"] == runs["bench"].info.run_id


@pytest.mark.filterwarnings("ignore")
def test_wandb_holds_every_entry_without_a_network(
    folder: Path, ranked: list[Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    log_boards(folder, ranked, "wandb")
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


@pytest.mark.filterwarnings("ignore")
def test_tracker_that_fails_leaves_the_results(
    folder: Path, ranked: list[Board], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nosuch://place")
    with pytest.raises(EmbedxError, match=r"The results are in .*, but mlflow did not take them"):
        log_boards(folder, ranked, "mlflow")
    with pytest.raises(UsageError, match="embedx"):
        log_boards(folder, ranked, "nosuch_tracker")
    assert (folder / "results.csv").is_file()
