"""Report: the files in the folder of a benchmark -> one HTML page, and its figures as PNG."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from embedx.bench.artifacts import load_maps, read_about
from embedx.bench.leaderboard import BASELINES, EXPLANATION, Board, boards
from embedx.bench.published import find_leak
from embedx.bench.report.conclusions import NAMES, choose_by_model, describe, give_verdict
from embedx.bench.report.html import Content, draw_interval, embed_png, table, tag, write_page
from embedx.bench.report.panels import (
    INTERVALS,
    BestPredictions,
    Panel,
    load_best,
    make_diagnostic_panels,
    make_layers_panel,
    make_map_panel,
    make_shots_panel,
)
from embedx.bench.report.plots import capitalise, colours_of
from embedx.bench.report.published import HEADER, list_sources, pair_with_boards, to_cells
from embedx.bench.report.tables import describe_runs, format_entry, list_lines, sort_by_shots
from embedx.bench.results import FILE as RESULTS
from embedx.bench.results import Result, read_table
from embedx.bench.setups import UNBOUNDED
from embedx.filesystem.atomic import replace_file, whole_folder
from embedx.text import plural

FILE = "report.html"
TITLE = "Linear probes"
TOP = 15  # entries of a leaderboard, by default; the table has all
MAX_PAIRS = 12  # pairs of rows that look alike that are listed by name
BADGES = {True: ("above chance", "good"), False: ("not above chance", "bad"), None: ("not tested", "soft")}

Tasks = list[list[Board]]  # the boards of each task, the one with all training rows first


def write_report(folder: str | Path, *, metric: str | None = None, top: int = TOP, title: str = TITLE) -> Path:
    """Write `report.html` and `figures/*.png` from the files of a benchmark.

    Args:
        folder: the folder of the benchmark.
        metric: the metric that ranks setups; default: accuracy, or mAP for multi-label tasks.
        top: number of entries of a board that are shown; default 15.
        title: the heading.

    Returns:
        The path of the report.

    Raises:
        UsageError: there are no results, the metric does not exist, or matplotlib is not installed.
    """
    folder = Path(folder)
    rows = read_table(folder)
    by_task: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards(rows, metric):
        by_task[board.task, board.split].append(board)
    tasks = list(by_task.values())
    about, colours, maps = read_about(folder), colours_of([row.model for row in rows]), load_maps(folder)
    sections = []
    with whole_folder(folder / "figures") as figures:
        for number, same_task in enumerate(tasks, start=1):
            board = same_task[0]
            best = load_best(folder, rows, board)
            candidates = [
                *(make_layers_panel(board, metric, colours) for metric in board.plotted_metrics),
                make_shots_panel(same_task, colours),
                *(make_diagnostic_panels(best) if best else []),
                *(make_map_panel(view, vectors) for (task, view), vectors in maps.items() if task == board.task),
            ]
            panels = [panel for panel in candidates if panel]
            for i, panel in enumerate(panels, start=1):
                (figures / f"{number}-{make_slug(board.task)}-{i}-{panel.name}.png").write_bytes(panel.png)
            facts = about["tasks"].get(board.task, {})
            sections.append(make_task_section(number, same_task, facts, best, panels, top))
    body = [*make_summary(title, rows, tasks), *sections, make_provenance(rows, about)]
    replace_file(folder / FILE, write_page(title, body).encode())
    return folder / FILE


def make_summary(title: str, rows: Sequence[Result], tasks: Tasks) -> list[Element]:
    """Return the heading and a table of all tasks."""
    counts = (plural(len(tasks), "task"), plural(len({row.model for row in rows}), "model"), plural(len(rows), "fit"))
    last = max(row.made for row in rows)[:10]
    header = ["task", "best setup", "metric", "score", *BASELINES, ""]
    summary: list[list[Content]] = [
        [
            tag("a", board.task, href=f"#task-{i}"),
            describe(board.leader.setup) if board.leader else "none",
            NAMES[board.metric],
            format_entry(board.leader, board.metric) if board.leader else "",
            *(format_number(board.baseline(name, board.metric)) for name in BASELINES),
            make_badge(board),
        ]
        for i, (board, *_) in enumerate(tasks, start=1)
    ]
    return [
        tag("h1", title),
        tag("p", f"{', '.join(counts)}{f'; last fit on {last}' if last else ''}.", kind="soft"),
        table(
            header,
            summary,
            caption="The best setup of every task, or the one with the highest score where that was not tested; "
            "and the scores of constant answers.",
        ),
    ]


def make_badge(board: Board) -> Element:
    """Return the verdict in a few words."""
    if board.leaky:
        return tag("span", "leaky", kind="badge bad")
    text, kind = BADGES[give_verdict(board).learned]
    return tag("span", text, kind=f"badge {kind}")


def make_task_section(
    number: int,
    boards: Sequence[Board],
    facts: dict[str, Any],
    best: BestPredictions | None,
    panels: Sequence[Panel],
    top: int,
) -> Element:
    """Return the section of one task.

    Args:
        number: number of the task.
        boards: the boards of the task, the one with all training rows first.
        facts: facts about the task from `about.json`.
        best: the best entry with stored predictions.
        panels: the figures.
        top: number of entries of a board that are shown.
    """
    board, verdict = boards[0], give_verdict(boards[0])
    verdict_kind = "warning" if verdict.learned is False else ""
    figures: dict[str, list[Element]] = defaultdict(list)
    for panel in panels:
        figures[panel.name].append(embed_png(panel.png, panel.caption, wide=panel.wide))
    parts: dict[str, Sequence[Element | None]] = {
        "": [*make_warnings(board, facts), tag("p", verdict.text, kind=verdict_kind), list_facts(board, facts)],
        "Leaderboard": [rank_setups(board, top), rank_models(board)],
        "Published results": [tabulate_published(boards)],
        "Layers": figures["layers"],
        "Few training rows": [list_shots(boards), *figures["shots"]] if len(boards) > 1 else [],
        f"{'The best' if best and best.entry is board.best else 'One'} setup in detail": [
            *([tag("div", *figures["confusion"], *figures["reliability"], kind="pair")] if best else []),
            *figures["classes"],
            list_classes(best),
        ],
        "Map of the vectors": figures["map"],
    }
    section = tag("section", tag("h2", board.task, id=f"task-{number}"))
    for heading, elements in parts.items():
        present = [element for element in elements if element is not None]
        section.extend([*([tag("h3", heading)] if heading and present else []), *present])
    return section


def make_warnings(board: Board, facts: dict[str, Any]) -> list[Element]:
    """Return the warnings about a task."""
    warnings = []
    if board.leaky:
        text = (
            " Windows of one recording or group may be in both the training and the test part, so scores are inflated. "
            "Do not quote them."
        )
        warnings.append(tag("p", tag("strong", "Leaky split."), text, kind="warning"))
    if leak := find_leak(board.task, board.split):
        warnings.append(tag("p", tag("strong", "Not the official folds."), f" {leak}", kind="warning"))
    if board.duplicates:
        pairs = facts.get("duplicates", [])
        names = [f"{a} and {b}" for a, b in pairs[:MAX_PAIRS]]
        names += [f"{len(pairs) - MAX_PAIRS} more"] if len(pairs) > MAX_PAIRS else []
        text = f" {board.duplicates} of {board.rows} test rows look like a training row"
        text += f": {'; '.join(names)}." if names else "."
        warnings.append(tag("p", tag("strong", "Look-alikes across the split."), text, kind="warning"))
    return warnings


def list_facts(board: Board, facts: dict[str, Any]) -> Element:
    """Return how a task was measured."""
    parts = plural(len(board.units), "part") if board.unit == "fold" else "one part"
    texts = {
        "Split": board.split,
        "Protocol": facts.get("protocol"),
        "Data": facts.get("source"),
        "Rows": f"{board.classes} classes; {board.rows} test rows in {parts}; {board.duplicates} with a look-alike",
        "Recipes": ", ".join(board.recipes),
    }
    return tag("dl", *(tag(*pair) for name, text in texts.items() if text for pair in (("dt", name), ("dd", text))))


def rank_setups(board: Board, top: int) -> Element:
    """Return the leaderboard with a drawing of the intervals; baselines are placed by their score."""
    header, lines = list_lines(board, top)
    marks = list(board.baselines(board.metric).values())
    scores = [line.entry.scores[board.metric] for line in lines if line.entry]
    ends = [*marks, *(end for score in scores for end in (score.mean, score.low, score.high) if end is not None)]
    low, high = min(ends), max(ends)
    if board.metric not in UNBOUNDED:
        low, high = max(low, 0.0), min(high, 1.0)
    rows: list[list[Content]] = [
        [*line.cells, draw_interval(line.entry.scores[board.metric], low, high, marks) if line.entry else ""]
        for line in lines
    ]
    kinds = ["base" if not line.entry else "best" if line.entry is board.best else "" for line in lines]
    more = f" {len(board.entries) - top} more are in {RESULTS}." if len(board.entries) > top else ""
    means = f"Means over {describe_runs(board)} ± half of the 95 % interval; dashed lines are majority and chance."
    return table([*header, ""], rows, kinds=kinds, caption=f"{means}{more} {EXPLANATION}")


def rank_models(board: Board) -> Element | None:
    """Return every model with the score of the setups that the other folds choose; None if there is no choice."""
    choices = choose_by_model(board)
    if len(choices) in (0, len(board.entries)):
        return None
    rows = [
        [
            model,
            format_number(choice.score),
            format_number(choice.chance_score),
            ", ".join(f"{setup.view} {setup.head}" for setup in choice.setups),
        ]
        for model, choice in choices.items()
    ]
    return table(
        ["model", NAMES[board.metric], NAMES[board.chance_metric], "chosen"],
        rows,
        caption="Scores of each model if the other folds choose its layer, pooling and head for each fold.",
    )


def tabulate_published(boards: Sequence[Board]) -> Element | None:
    """Return published results of the models on the boards beside ours; None if there are none."""
    pairs = pair_with_boards(boards)
    if not pairs:
        return None
    return table(HEADER, [to_cells(pair, True) for pair in pairs], caption=" ".join(list_sources(pairs)))


def list_shots(boards: Sequence[Board]) -> Element:
    """Return the scores of every model over training rows per class."""
    models = list(dict.fromkeys(entry.setup.model for board in boards for entry in board.entries))
    ordered = sort_by_shots(boards)
    rows = [[model, *(score_of_model(board, model) for board in ordered)] for model in models]
    seeds = max(entry.seeds for board in boards for entry in board.entries)
    return table(
        ["model", *(str(board.shots) for board in ordered)],
        rows,
        caption=f"{capitalise(NAMES[boards[0].metric])} of every model over training rows per class. If a model has "
        "several setups, the other folds choose the setup for each fold, or it is the best setup if there is one test "
        f"part. Up to {plural(seeds, 'seed')} per fold, averaged before the interval is computed.",
    )


def score_of_model(board: Board, model: str) -> str:
    """Return the score of the setups of a model that the other folds choose, empty if there is none."""
    entries = [entry for entry in board.entries if entry.setup.model == model]
    choice = choose_by_model(board).get(model) if len(entries) > 1 else None
    if choice is not None:
        return format_number(choice.score)
    return format_entry(entries[0], board.metric) if entries else ""


def list_classes(best: BestPredictions | None) -> Element | None:
    """Return a collapsed table of precision, recall and F1 of every class, the worst first."""
    if best is None:
        return None
    ordered = sorted(best.metrics.per_class, key=lambda each: each.f1.value if each.f1 else 1.0)
    rows = [
        [
            each.name,
            str(each.rows),
            *("" if value is None else str(value) for value in (each.precision, each.recall, each.f1, each.auc)),
        ]
        for each in ordered
    ]
    caption = f"Classes with {describe(best.entry.setup)}, worst F1 first. {INTERVALS}"
    classes = table(["class", "rows", "precision", "recall", "F1", "AUC"], rows, caption=caption)
    return tag("details", tag("summary", "Precision, recall and F1 of every class"), classes)


def make_provenance(rows: Sequence[Result], about: dict[str, Any]) -> Element:
    """Return the commands, versions and recipes behind the results."""
    versions = {"embedx": ", ".join(sorted({row.embedx for row in rows if row.embedx})), **about["versions"]}
    names = sorted({row.recipe for row in rows if row.recipe})
    recipes: list[list[Content]] = [[tag("code", name), json.dumps(about["recipes"].get(name, {}))] for name in names]
    section = tag("section", tag("h2", "How to reproduce these results"))
    if about["commands"]:
        section.append(tag("pre", *(tag("div", command) for command in about["commands"])))
    section.append(
        tag("p", "Every number in this report comes from ", tag("code", RESULTS), " and the files next to it.")
    )
    section.append(table(["software", "version"], [[name, text] for name, text in versions.items() if text]))
    if recipes:
        section.append(table(["recipe", "content"], recipes))
    return section


def format_number(value: float | None) -> str:
    """Return a number with three decimals, or an empty text."""
    return "" if value is None else f"{value:.3f}"


def make_slug(name: str) -> str:
    """Return a name as part of a file name.

    >>> make_slug("esc50"), make_slug("a/b c")
    ('esc50', 'a-b-c')
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "task"
