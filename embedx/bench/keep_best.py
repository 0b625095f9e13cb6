"""Keepsakes: of all that was computed, what a report needs of the best setups."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from embedx.bench.artifacts import Map, load_maps, map_file, predictions_file, save_map
from embedx.bench.cases import BenchCase, load_vectors
from embedx.bench.leaderboard import Board, Setup, boards
from embedx.bench.report.projections import How, project
from embedx.bench.results import EVERY_LAYER, Result, key
from embedx.recipe import view_name

KEPT = 10  # setups of a board whose predictions are kept, so that another metric finds its best among them too
POINTS = 5000  # of a map; more hide each other


def keep_predictions(out: Path, table: Iterable[Result]) -> None:
    """Remove the predictions of all but the best setups."""
    rows = list(table)
    best = {
        (board.task, board.split, board.shots, entry.setup)
        for board in (boards(rows) if rows else [])
        for entry in board.entries[:KEPT]
    }
    wanted = {
        predictions_file(out, key(row)) for row in rows if (row.task, row.split, row.shots, setup_of(row)) in best
    }
    for file in out.glob("predictions/*.npz"):
        if file not in wanted:
            file.unlink()


def setup_of(row: Result) -> Setup:
    """Return what a result is of."""
    return Setup(row.model, row.layer, row.pooling, row.head)


def keep_maps(
    out: Path, table: Iterable[Result], cases: Sequence[BenchCase], *, changed: Collection[str], how: How
) -> None:
    """Make a map of the best vectors of each task that has changed, or has no map; older ones go."""
    rows = list(table)
    maps = load_maps(out)
    for board in boards(rows) if rows else []:
        case = next((case for case in cases if (case.task, case.splits.how) == (board.task, board.split)), None)
        if board.shots == "all" and case is not None and (board.task in changed or not has_map(maps, board.task, how)):
            draw_best(out, board, cases, how)


def has_map(maps: Mapping[tuple[str, str], Map], task: str, how: How) -> bool:
    """Tell whether there is a map of a task, made in the way that is asked for."""
    return any(named == task and one.axes[0].startswith("UMAP") == (how == "umap") for (named, _), one in maps.items())


def draw_best(out: Path, board: Board, cases: Sequence[BenchCase], how: How) -> None:
    """Make the map of the best vectors that are at hand."""
    by_model = {case.model: case for case in cases if case.task == board.task}
    entry = next((entry for entry in board.entries if entry.setup.model in by_model), None)
    if entry is None:
        return
    case = by_model[entry.setup.model]
    layer = case.layers[-1] if entry.setup.layer == EVERY_LAYER else entry.setup.layer
    view = view_name(layer, entry.setup.pooling)
    x = load_vectors(case.folder, (view,), case.ids.tobytes())
    some = np.sort(np.random.default_rng(0).permutation(len(x))[:POINTS])
    classes = np.array(case.targets.classes)
    y = case.targets.y[some]
    several = case.targets.multilabel
    labels = np.array([", ".join(classes[row == 1]) or "none" for row in y]) if several else classes[y]
    for task, old in load_maps(out):
        if task == board.task:
            os.unlink(map_file(out, task, old))
    save_map(out, board.task, f"{case.model} {view}", project(x[some], labels, how))
