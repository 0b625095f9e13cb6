"""Keep predictions and maps of the best setups only."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from embedx.bench.artifacts import Map, load_maps, map_file, predictions_file, save_map
from embedx.bench.cases import BenchCase, load_vectors
from embedx.bench.leaderboard import Board, boards
from embedx.bench.report.projections import Method, project
from embedx.bench.results import EVERY_LAYER, Result, key
from embedx.bench.setups import Setup
from embedx.recipe import view_name

MAX_KEPT = 10  # setups of a board whose predictions are kept, so that the best by another metric is likely among them
MAX_POINTS = 5000  # of a map; more would hide each other


def keep_predictions(out: Path, table: Iterable[Result]) -> None:
    """Remove the predictions of all setups except the best."""
    rows = list(table)
    best = {
        (board.task, board.split, board.shots, entry.setup)
        for board in (boards(rows) if rows else [])
        for entry in board.entries[:MAX_KEPT]
    }
    kept = {predictions_file(out, key(row)) for row in rows if (row.task, row.split, row.shots, Setup.of(row)) in best}
    for file in out.glob("predictions/*.npz"):
        if file not in kept:
            file.unlink()


def keep_maps(
    out: Path, table: Iterable[Result], cases: Sequence[BenchCase], *, changed: Collection[str], method: Method
) -> None:
    """Write a map of the best vectors of each task that has changed or has no map yet, in place of older maps.

    Args:
        out: folder of the benchmark.
        table: all results in the folder.
        cases: the cases of this run, which have the vectors.
        changed: names of the tasks with new results.
        method: how vectors are projected.
    """
    rows = list(table)
    maps = load_maps(out)
    for board in boards(rows) if rows else []:
        case = next((case for case in cases if (case.task, case.splits.how) == (board.task, board.split)), None)
        is_outdated = board.task in changed or not has_map(maps, board.task, method)
        if board.shots == "all" and case is not None and is_outdated:
            save_best_map(out, board, cases, method)


def has_map(maps: Mapping[tuple[str, str], Map], task: str, method: Method) -> bool:
    """Tell whether there is a map of a task that was made with a method."""
    is_umap = method == "umap"
    return any(name == task and old.axes[0].startswith("UMAP") == is_umap for (name, _), old in maps.items())


def save_best_map(out: Path, board: Board, cases: Sequence[BenchCase], method: Method) -> None:
    """Write the map of the best vectors on a board that this run has."""
    by_model = {case.model: case for case in cases if case.task == board.task}
    entry = next(
        (entry for entry in board.entries if entry.setup.model in by_model and not entry.setup.finetuned), None
    )
    if entry is None:
        return
    case = by_model[entry.setup.model]
    layer = case.layers[-1] if entry.setup.layer == EVERY_LAYER else entry.setup.layer
    view = view_name(layer, entry.setup.pooling)
    x = load_vectors(case.folder, (view,), case.ids.tobytes())
    sample = np.sort(np.random.default_rng(0).permutation(len(x))[:MAX_POINTS])
    classes, y = np.array(case.targets.classes), case.targets.y[sample]
    is_multilabel = case.targets.multilabel
    labels = np.array([", ".join(classes[row == 1]) or "none" for row in y]) if is_multilabel else classes[y]
    for task, old_view in load_maps(out):
        if task == board.task:
            os.unlink(map_file(out, task, old_view))
    save_map(out, board.task, f"{case.model} {view}", project(x[sample], labels, method))
