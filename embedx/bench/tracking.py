"""Tracking: the leaderboards of a benchmark -> runs of MLflow or Weights & Biases, which are optional."""

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from embedx.bench.artifacts import read_about
from embedx.bench.leaderboard import Board, Entry
from embedx.bench.results import FILE
from embedx.errors import EmbedxError, UsageError

PROJECT = "embedx"  # the experiment or project, unless the environment names another one
MAX_TEXT = 500  # characters of a parameter: the limit of old servers of MLflow
REPORT = "report.html"


def check_tracker(name: str) -> None:
    """Refuse a tracker that is not installed.

    Raises:
        UsageError: the package is missing.
    """
    if find_spec(name) is None:
        raise UsageError(f"--log {name} needs the package {name}: pip install 'embedx[{name}]'.")


def log_boards(folder: Path, boards: Sequence[Board], tracker: str) -> str:
    """Send the leaderboards and the report of a benchmark to a tracker.

    MLflow gets one run for the benchmark, with the files, and in it one run for each entry of a board. Weights & Biases
    gets one run with a table of all entries. Both are set by their own environment variables.

    Args:
        folder: the folder of the benchmark.
        boards: its leaderboards.
        tracker: "mlflow" or "wandb".

    Returns:
        Where the results are now, as the tracker says.

    Raises:
        UsageError: the package is not installed.
        EmbedxError: the tracker does not take the results; those in the folder stay.
    """
    check_tracker(tracker)
    try:
        return TRACKERS[tracker](folder, boards)
    except Exception as error:  # of a foreign library: its name and text are all that is known
        detail = f"{type(error).__name__}: {str(error)[:MAX_TEXT]}"
        raise EmbedxError(f"The results are in {folder}, but {tracker} did not take them: {detail}") from error


def log_to_mlflow(folder: Path, boards: Sequence[Board]) -> str:
    """Send leaderboards to MLflow; see `log_boards`."""
    import mlflow

    if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
        mlflow.set_experiment(PROJECT)
    with mlflow.start_run(run_name=folder.name) as parent:
        mlflow.log_params(describe_run(folder, boards))
        for file in files_of(folder):
            mlflow.log_artifact(str(file))
        for board, entry in entries_of(boards):
            with mlflow.start_run(run_name=name_of(board, entry), nested=True):
                mlflow.log_params(parameters_of(board, entry))
                mlflow.log_metrics(figures_of(board, entry))
    return f"{mlflow.get_tracking_uri()}, run {parent.info.run_id}"


def log_to_wandb(folder: Path, boards: Sequence[Board]) -> str:
    """Send leaderboards to Weights & Biases; see `log_boards`."""
    import wandb

    project = os.environ.get("WANDB_PROJECT", PROJECT)
    with wandb.init(project=project, name=folder.name, config=describe_run(folder, boards)) as run:
        lines = [parameters_of(board, entry) | figures_of(board, entry) for board, entry in entries_of(boards)]
        columns = list(dict.fromkeys(name for line in lines for name in line))
        data = [[line.get(name) for name in columns] for line in lines]
        run.log({"leaderboard": wandb.Table(columns=columns, data=data)})
        for board, entry in entries_of(boards):
            for name, value in figures_of(board, entry).items():
                run.summary[f"{name_of(board, entry)}/{name}"] = value
        artifact = wandb.Artifact("report", type="report")
        for file in files_of(folder):
            artifact.add_file(str(file))
        run.log_artifact(artifact)
        return str(run.url or run.dir)


TRACKERS: dict[str, Callable[[Path, Sequence[Board]], str]] = {"mlflow": log_to_mlflow, "wandb": log_to_wandb}


def entries_of(boards: Sequence[Board]) -> Iterator[tuple[Board, Entry]]:
    """Yield the entries of all boards, each with its board."""
    for board in boards:
        for entry in board.entries:
            yield board, entry


def files_of(folder: Path) -> list[Path]:
    """Return the files of a benchmark that a tracker keeps."""
    return [file for name in (REPORT, FILE) if (file := folder / name).is_file()]


def name_of(board: Board, entry: Entry) -> str:
    """Return a name for an entry, which is a path of its task, model, vectors and head."""
    parts = [board.task, entry.setup.model, entry.setup.view, entry.setup.head]
    return "/".join([*parts, *([] if board.shots == "all" else [f"{board.shots} shots"])])


def describe_run(folder: Path, boards: Sequence[Board]) -> dict[str, str]:
    """Return the parameters of a whole benchmark."""
    about = read_about(folder)
    models = dict.fromkeys(entry.setup.model for _, entry in entries_of(boards))
    values = {
        "command": about.get("command", ""),
        "tasks": ", ".join(dict.fromkeys(board.task for board in boards)),
        "models": ", ".join(models),
        **{f"version {name}": text for name, text in about.get("versions", {}).items()},
    }
    return {name: str(value)[:MAX_TEXT] for name, value in values.items()}


def parameters_of(board: Board, entry: Entry) -> dict[str, str]:
    """Return what was measured in an entry."""
    values = {
        "task": board.task, "model": entry.setup.model, "view": entry.setup.view, "head": entry.setup.head,
        "shots": board.shots, "split": board.split, "leaky": board.leaky, "seeds": entry.seeds,
        "folds": len(board.units) if board.unit == "fold" else 1, "classes": board.classes, "rows": board.rows,
        "ranked by": board.metric, "recipes": ", ".join(board.recipes),
    }  # fmt: skip
    return {name: str(value)[:MAX_TEXT] for name, value in values.items()}


def figures_of(board: Board, entry: Entry) -> dict[str, float]:
    """Return the figures of an entry: each metric with the ends of its 95 % interval, rank, p-value and cost."""
    figures: dict[str, Any] = {}
    for metric, score in entry.scores.items():
        figures |= {metric: score.mean, f"{metric}_low": score.low, f"{metric}_high": score.high}
    figures |= {f"{metric}_chance": board.baseline("chance", metric) for metric in entry.scores}
    figures |= {"rank": entry.rank, "p": entry.p, "seconds": entry.seconds, "parameters": entry.parameters}
    return {name: float(value) for name, value in figures.items() if value is not None}
