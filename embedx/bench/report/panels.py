"""Panels of a report: boards and predictions -> figures as PNG with captions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedx.bench.artifacts import Map, Predictions, load_predictions
from embedx.bench.leaderboard import Board, Entry
from embedx.bench.report.conclusions import NAMES, describe
from embedx.bench.report.diagnostics import MAX_COUNTED, draw_classes, draw_confusion, draw_reliability
from embedx.bench.report.plots import Curve, capitalise, draw_layers, draw_shots, to_png
from embedx.bench.report.projections import draw_map
from embedx.bench.results import EVERY_LAYER, Key, Result, key
from embedx.bench.setups import Setup, goodness
from embedx.bench.significance import Score
from embedx.metrics.calibration import reliability
from embedx.metrics.report import Metrics
from embedx.metrics.scoring import evaluate

INTERVALS = "Bars are 95 % intervals over recordings or groups."
MAX_CURVES = 6  # of a figure over layers, unless there are more models than that


@dataclass(frozen=True)
class Panel:
    """A figure of a report.

    Attributes:
        name: part of its file name.
        png: the image.
        caption: the caption.
        wide: whether it takes the full width of the page.
    """

    name: str
    png: bytes
    caption: str
    wide: bool = True


@dataclass(frozen=True)
class BestPredictions:
    """The best entry with stored predictions, these predictions, and their metrics."""

    entry: Entry
    predictions: Predictions
    metrics: Metrics


def make_layers_panel(board: Board, metric: str, colours: Mapping[str, str]) -> Panel | None:
    """Plot the scores of a board over layers by a metric; None if no curve has two points."""
    by_curve: dict[tuple[str, str, str, bool], list[Entry]] = defaultdict(list)
    for entry in board.entries:  # the best first, so curves are in the order of their best layer
        if entry.rank is not None and metric in entry.scores and not entry.setup.finetuned:
            model, layer, pooling, head = entry.setup
            by_curve[model, pooling, head, layer == EVERY_LAYER].append(entry)
    if all(len(entries) < 2 for entries in by_curve.values()):
        return None
    last = max(entry.setup.layer for entry in board.entries)
    all_layers_x = last + 1 + last // 12  # with a gap after the last layer
    max_per_model = max(1, MAX_CURVES // len({curve[0] for curve in by_curve}))
    variants: dict[str, int] = defaultdict(int)
    curves = []
    for (model, _, _, reads_all), entries in by_curve.items():
        if variants[model] < max_per_model:
            scores: dict[float, Score] = {
                all_layers_x if reads_all else entry.setup.layer: entry.scores[metric] for entry in entries
            }
            curves.append(make_curve(name_curve(board, entries[0].setup), model, scores, variants[model]))
            variants[model] += 1
    any_reads_all = any(curve[3] for curve in by_curve)
    figure = draw_layers(
        curves,
        NAMES[metric],
        colours=colours,
        baselines=board.baselines(metric),
        all_layers_x=all_layers_x if any_reads_all else None,
        title=board.task,
    )
    hidden = len(by_curve) - len(curves)
    note = f" {hidden} curves with lower scores are not shown." if hidden else ""
    return Panel("layers", to_png(figure), f"{capitalise(NAMES[metric])} over layers. {explain_bands(board)}{note}")


def make_shots_panel(boards: Sequence[Board], colours: Mapping[str, str]) -> Panel | None:
    """Plot the scores of one task over training rows per class; None if no curve has two points.

    Each model has one curve for its heads and one for its fine-tuned setups: the setup with results for the most
    numbers of rows, and the best of these.
    """
    shots = sorted(board.shots for board in boards if board.shots != "all")
    all_rows_x = 2 * shots[-1] if shots else 0
    scores: dict[Setup, dict[float, Score]] = defaultdict(dict)
    for board in boards:
        for entry in board.entries:
            x = all_rows_x if board.shots == "all" else board.shots
            if entry.rank is not None:
                scores[entry.setup][x] = entry.scores[board.metric]
    setups: dict[tuple[str, bool], Setup] = {}
    metric = boards[0].metric

    def priority(setup: Setup) -> tuple[int, float]:
        by_x = scores[setup]
        return len(by_x), goodness(by_x[max(by_x)].mean, metric)

    for setup in sorted(scores, key=priority, reverse=True):
        setups.setdefault((setup.model, setup.finetuned), setup)
    if not shots or all(len(scores[setup]) < 2 for setup in setups.values()):
        return None
    first = boards[0]
    figure = draw_shots(
        [make_curve(describe(setup), model, scores[setup], is_tuned) for (model, is_tuned), setup in setups.items()],
        NAMES[metric],
        colours=colours,
        baselines=first.baselines(metric),
        all_rows_x=all_rows_x if any(board.shots == "all" for board in boards) else None,
        title=first.task,
    )
    caption = f"{capitalise(NAMES[metric])} over training rows per class, logarithmic axis. {explain_bands(first)}"
    return Panel("shots", to_png(figure), caption)


def load_best(folder: Path, table: Iterable[Result], board: Board) -> BestPredictions | None:
    """Return the best entry of a board that has stored predictions, or else its first one, with its metrics."""
    keys: dict[Setup, Key] = {}
    for row in table:
        if (row.task, row.split, row.shots) == (board.task, board.split, board.shots):
            keys.setdefault(Setup.of(row), key(row))
    for entry in sorted(board.entries, key=lambda entry: entry is not board.leader):
        stored = load_predictions(folder, keys[entry.setup])
        if stored is not None:
            metrics = evaluate(
                stored.truth,
                stored.proba,
                stored.classes,
                multilabel=stored.multilabel,
                groups=stored.groups,
                parts=stored.folds,
            )
            return BestPredictions(entry, stored, metrics)
    return None


def make_diagnostic_panels(best: BestPredictions) -> list[Panel]:
    """Plot the confusion matrix, the calibration and the F1 of each class for an entry."""
    name, stored = describe(best.entry.setup), best.predictions
    bins = reliability(stored.truth, stored.proba, multilabel=stored.multilabel)
    panels = []
    if best.metrics.confusion is not None:
        png = to_png(draw_confusion(best.metrics.confusion, stored.classes, name))
        caption = f"Confusion matrix of {name}; numbers are test rows."
        panels.append(Panel("confusion", png, caption, wide=len(stored.classes) > MAX_COUNTED))
    caption = f"Calibration of {name}; bars are 95 % intervals of the accuracy for independent rows."
    panels.append(Panel("reliability", to_png(draw_reliability(bins, name)), caption, wide=False))
    caption = f"F1 of each class with {name}. {INTERVALS}"
    panels.append(Panel("classes", to_png(draw_classes(best.metrics.per_class, name)), caption))
    return panels


def make_map_panel(view: str, vector_map: Map) -> Panel:
    """Plot a map."""
    is_pca = vector_map.axes[0].startswith("PC")
    method = "on their first two principal components" if is_pca else "as a UMAP, whose distances have no meaning"
    return Panel("map", to_png(draw_map(vector_map, view)), f"{len(vector_map.labels)} vectors of {view} {method}.")


def make_curve(name: str, model: str, scores: Mapping[float, Score], variant: int = 0) -> Curve:
    """Return the curve through scores by position."""
    x = sorted(scores)
    ordered = [scores[position] for position in x]
    mean, low, high = ([getattr(score, part) for score in ordered] for part in ("mean", "low", "high"))
    return Curve(name, model, x, mean, low, high, variant)


def name_curve(board: Board, setup: Setup) -> str:
    """Return the model, and the pooling and head if the board has several."""
    poolings, heads = ({getattr(entry.setup, part) for entry in board.entries} for part in ("pooling", "head"))
    parts = [setup.model, *([setup.pooling] if len(poolings) > 1 else []), *([setup.head] if len(heads) > 1 else [])]
    return ", ".join(parts)


def explain_bands(board: Board) -> str:
    """Say what the bands show."""
    if board.unit == "seed":
        return "Bands are 95 % intervals over samples of training rows only, because there is one test part."
    return "Bands are 95 % intervals over folds."
