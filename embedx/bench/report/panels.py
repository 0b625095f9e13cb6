"""Pictures: boards and evidence -> the figures of a report, as PNG with what to say below them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedx.bench.artifacts import Map, Predictions, load_predictions
from embedx.bench.leaderboard import Board, Entry, Setup, goodness
from embedx.bench.report.conclusions import NAMES, describe
from embedx.bench.report.diagnostics import COUNTED, draw_classes, draw_confusion, draw_reliability
from embedx.bench.report.plots import Curve, capital, draw_layers, draw_shots, to_png
from embedx.bench.report.projections import draw_map
from embedx.bench.results import EVERY_LAYER, Key, Result, key
from embedx.bench.significance import Score
from embedx.metrics.calibration import reliability
from embedx.metrics.evaluate import evaluate
from embedx.metrics.report import Metrics

BOOTSTRAP = "Bars are 95 % intervals from resampling recordings or groups."
LINES = 6  # curves of a figure where there are fewer models than that


@dataclass(frozen=True)
class Picture:
    """A figure: a name for its file, the PNG, its caption, and whether it needs the width of the page."""

    name: str
    png: bytes
    caption: str
    wide: bool = True


@dataclass(frozen=True)
class Close:
    """The best entry whose predictions were kept, looked at closely."""

    entry: Entry
    predictions: Predictions
    metrics: Metrics


def picture_layers(board: Board, metric: str, colours: Mapping[str, str]) -> Picture | None:
    """Draw the scores of a board over layers, by the metric; None where no line has two."""
    lines: dict[tuple[str, str, str, bool], list[Entry]] = defaultdict(list)
    for entry in board.entries:  # best first, so lines come in the order of their best layer
        if entry.rank is not None and metric in entry.scores:
            model, layer, pooling, head = entry.setup
            lines[model, pooling, head, layer == EVERY_LAYER].append(entry)
    if all(len(entries) < 2 for entries in lines.values()):
        return None
    last = max(entry.setup.layer for entry in board.entries)
    beyond = last + 1 + last // 12  # apart from the last tick
    most = max(1, LINES // len({line[0] for line in lines}))
    drawn: dict[str, int] = defaultdict(int)
    curves = []
    for (model, _, _, every), entries in lines.items():
        if drawn[model] < most:
            places: dict[float, Score] = {
                beyond if every else entry.setup.layer: entry.scores[metric] for entry in entries
            }
            curves.append(make_curve(name_line(board, entries[0].setup), model, places, drawn[model]))
            drawn[model] += 1
    has_all = any(line[3] for line in lines)
    figure = draw_layers(
        curves, NAMES[metric], colours=colours, lines=board.baselines(metric), every=beyond if has_all else None,
        title=board.task,
    )  # fmt: skip
    left_out = f" {len(lines) - len(curves)} weaker lines are left out." if len(lines) > len(curves) else ""
    caption = f"{capital(NAMES[metric])} over layers. {band(board)}{left_out}"
    return Picture("layers", to_png(figure), caption)


def picture_shots(boards: Sequence[Board], colours: Mapping[str, str]) -> Picture | None:
    """Draw the scores of one task over training rows per class; None where there is one number of them alone.

    Each model has one line, of the setup that was run with most numbers of shots, and of those of the best one.
    """
    shots = sorted(board.shots for board in boards if board.shots != "all")
    beyond = 2 * shots[-1] if shots else 0
    found: dict[Setup, dict[float, Score]] = defaultdict(dict)
    for board in boards:
        for entry in board.entries:
            place = beyond if board.shots == "all" else board.shots
            if entry.rank is not None:
                found[entry.setup][place] = entry.scores[board.metric]
    lines: dict[str, Setup] = {}
    metric = boards[0].metric

    def worth(setup: Setup) -> tuple[int, float]:
        places = found[setup]
        return len(places), goodness(places[max(places)].mean, metric)

    for setup in sorted(found, key=worth, reverse=True):
        lines.setdefault(setup.model, setup)
    if not shots or all(len(found[setup]) < 2 for setup in lines.values()):
        return None
    board = boards[0]
    figure = draw_shots(
        [make_curve(describe(setup), model, found[setup]) for model, setup in lines.items()],
        NAMES[board.metric], colours=colours, lines=board.baselines(board.metric), title=board.task,
        every=beyond if any(one.shots == "all" for one in boards) else None,
    )  # fmt: skip
    caption = f"{capital(NAMES[board.metric])} over training rows per class, each step twice as many. {band(board)}"
    return Picture("shots", to_png(figure), caption)


def look_closely(folder: Path, table: Iterable[Result], board: Board) -> Close | None:
    """Return the first entry of a board whose predictions were kept, with its metrics."""
    keys: dict[Setup, Key] = {}
    for row in table:
        if (row.task, row.split, row.shots) == (board.task, board.split, board.shots):
            keys.setdefault(Setup(row.model, row.layer, row.pooling, row.head), key(row))
    for entry in board.entries:
        found = load_predictions(folder, keys[entry.setup])
        if found is not None:
            measured = evaluate(
                found.truth, found.proba, found.classes, multilabel=found.multilabel, groups=found.groups
            )  # fmt: skip
            return Close(entry, found, measured)
    return None


def picture_closely(close: Close) -> list[Picture]:
    """Draw what an entry confuses, how far its probabilities can be believed, and each of its classes."""
    name, found = describe(close.entry.setup), close.predictions
    bins = reliability(found.truth, found.proba, multilabel=found.multilabel)
    pictures = []
    if close.metrics.confusion is not None:
        png = to_png(draw_confusion(close.metrics.confusion, found.classes, name))
        caption = f"Confusion of {name}; numbers are test rows."
        pictures.append(Picture("confusion", png, caption, wide=len(found.classes) > COUNTED))
    caption = f"Calibration of {name}; bars are 95 % intervals of a share."
    pictures.append(Picture("reliability", to_png(draw_reliability(bins, name)), caption, wide=False))
    caption = f"F1 by {name}. {BOOTSTRAP}"
    pictures.append(Picture("classes", to_png(draw_classes(close.metrics.per_class, name)), caption))
    return pictures


def picture_map(view: str, one: Map) -> Picture:
    """Draw a map."""
    ways = "two principal components" if one.axes[0].startswith("PC") else "a UMAP, whose distances mean little"
    return Picture("map", to_png(draw_map(one, view)), f"{len(one.labels)} vectors of {view} as {ways}.")


def make_curve(name: str, model: str, places: Mapping[float, Score], variant: int = 0) -> Curve:
    """Return the line through scores by place."""
    x = sorted(places)
    scores = [places[one] for one in x]
    return Curve(name, model, x, [s.mean for s in scores], [s.low for s in scores], [s.high for s in scores], variant)


def name_line(board: Board, setup: Setup) -> str:
    """Return the model, and what else distinguishes lines of a board."""
    poolings, heads = ({getattr(entry.setup, part) for entry in board.entries} for part in ("pooling", "head"))
    parts = [setup.model, *([setup.pooling] if len(poolings) > 1 else []), *([setup.head] if len(heads) > 1 else [])]
    return ", ".join(parts)


def band(board: Board) -> str:
    """Say what the bands are."""
    if board.unit == "seed":
        return "Bands are 95 % intervals over the choice of training rows alone, since there is one test part."
    return "Bands are 95 % intervals over folds."
