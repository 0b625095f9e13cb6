"""Report: everything in the folder of a benchmark -> one file of HTML, and its figures as PNG."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from embedx.bench.artifacts import load_maps, read_about
from embedx.bench.leaderboard import BASELINES, EXPLANATION, UNBOUNDED, Board, boards
from embedx.bench.report.conclusions import NAMES, choose_by_model, describe, give_verdict, judge
from embedx.bench.report.html import Content, draw_interval, picture, table, tag, write_page
from embedx.bench.report.panels import (
    BOOTSTRAP,
    Close,
    Picture,
    look_closely,
    picture_closely,
    picture_layers,
    picture_map,
    picture_shots,
)
from embedx.bench.report.plots import capital, colours_of
from embedx.bench.report.tables import count_runs, figure, lines
from embedx.bench.results import FILE as RESULTS
from embedx.bench.results import Result, read_table
from embedx.filesystem.atomic import replace_file, whole_folder

FILE = "report.html"
TITLE = "Linear probes"
TOP = 15  # entries of a leaderboard
PAIRS = 12  # near-duplicates that are named
BADGES = {True: ("above chance", "good"), False: ("nothing learned", "bad"), None: ("not judged", "soft")}

Tasks = list[list[Board]]  # the boards of each task, the one with all training rows first


def write_report(folder: str | Path, *, metric: str | None = None, top: int = TOP, title: str = TITLE) -> Path:
    """Write `report.html` and `figures/*.png` from what is in a folder, and return the path of the report.

    Args:
        folder: where a benchmark wrote its results; see `embedx.bench`.
        metric: what boards are sorted by; accuracy if not given, mAP where a row has several labels.
        top: entries of a board that are shown; `results.csv` has them all.
        title: the heading.

    Raises:
        UsageError: there are no results, no such metric, or matplotlib is missing.
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
        for number, same in enumerate(tasks, start=1):
            board = same[0]
            close = look_closely(folder, rows, board)
            drawn = [
                *(picture_layers(board, metric, colours) for metric in board.pictured),
                picture_shots(same, colours),
                *(picture_closely(close) if close else []),
                *(picture_map(view, one) for (task, view), one in maps.items() if task == board.task),
            ]
            pictures = [one for one in drawn if one]
            for i, one in enumerate(pictures, start=1):
                (figures / f"{number}-{slug(board.task)}-{i}-{one.name}.png").write_bytes(one.png)
            sections.append(describe_task(number, same, about["tasks"].get(board.task, {}), close, pictures, top))
    body = [*open_page(title, rows, tasks), *sections, *close_page(rows, about)]
    replace_file(folder / FILE, write_page(title, body).encode())
    return folder / FILE


def open_page(title: str, rows: Sequence[Result], tasks: Tasks) -> list[Element]:
    """Return the heading and the summary of all tasks."""
    counts = (plural(len(tasks), "task"), plural(len({row.model for row in rows}), "model"), plural(len(rows), "fit"))
    made = max(row.made for row in rows)[:10]
    header = ["task", "best setup", "metric", "score", *BASELINES, ""]
    summary: list[list[Content]] = [
        [
            tag("a", board.task, href=f"#task-{i}"),
            describe(board.best.setup),
            NAMES[board.metric],
            figure(board.best, board.metric),
            *(number(board.baseline(name, board.metric)) for name in BASELINES),
            badge(board),
        ]
        for i, (board, *_) in enumerate(tasks, start=1)
    ]
    return [
        tag("h1", title),
        tag("p", f"{', '.join(counts)}{f'; the last on {made}' if made else ''}.", kind="soft"),
        table(header, summary, caption="The best setup of every task, beside what is reached without listening."),
    ]


def badge(board: Board) -> Element:
    """Return the verdict in two words."""
    if board.leaky:
        return tag("span", "leaky", kind="badge bad")
    word, kind = BADGES[give_verdict(board).learned]
    return tag("span", word, kind=f"badge {kind}")


def describe_task(
    number: int,
    same: Sequence[Board],
    about: dict[str, Any],
    close: Close | None,
    pictures: Sequence[Picture],
    top: int,
) -> Element:
    """Return all of one task: warnings, verdict, leaderboard, figures, classes."""
    board, verdict = same[0], give_verdict(same[0])
    nothing = verdict.learned is False
    shown: dict[str, list[Element]] = defaultdict(list)
    for one in pictures:
        shown[one.name].append(picture(one.png, one.caption, wide=one.wide))
    parts: dict[str, Sequence[Element | None]] = {
        "": [*warn(board, about), tag("p", verdict.text, kind="warning" if nothing else ""), list_facts(board, about)],
        "Leaderboard": [rank_setups(board, top), rank_models(board)],
        "Layers": shown["layers"],
        "Few training rows": [list_shots(same), *shown["shots"]] if len(same) > 1 else [],
        "The best setup, closely": [
            *([tag("div", *shown["confusion"], *shown["reliability"], kind="pair")] if close else []),
            *shown["classes"],
            list_classes(close),
        ],
        "Map of the vectors": shown["map"],
    }
    section = tag("section", tag("h2", board.task, id=f"task-{number}"))
    for heading, elements in parts.items():
        there = [element for element in elements if element is not None]
        section.extend([*([tag("h3", heading)] if heading and there else []), *there])
    return section


def warn(board: Board, about: dict[str, Any]) -> list[Element]:
    """Return what a reader must not overlook."""
    found = []
    if board.leaky:
        text = " Windows of one recording or group may be on both sides, so scores are too good. Do not quote them."
        found.append(tag("p", tag("strong", "Leaky split."), text, kind="warning"))
    if board.duplicates:
        pairs = about.get("duplicates", [])
        named = [f"{a} and {b}" for a, b in pairs[:PAIRS]]
        named += [f"{len(pairs) - PAIRS} more"] if len(pairs) > PAIRS else []
        text = f" {board.duplicates} of {board.rows} test rows have a near-duplicate among the training rows"
        text += f": {'; '.join(named)}." if named else "."
        found.append(tag("p", tag("strong", "Near-duplicates across the split."), text, kind="warning"))
    return found


def list_facts(board: Board, about: dict[str, Any]) -> Element:
    """Return how a task was measured."""
    parts = plural(len(board.units), "part") if board.unit == "fold" else "one part"
    known = {
        "Split": board.split,
        "Protocol": about.get("protocol"),
        "Data": about.get("source"),
        "Rows": f"{board.classes} classes; {board.rows} test rows in {parts}; {board.duplicates} near-duplicates",
        "Recipes": ", ".join(board.recipes),
    }
    return tag("dl", *(tag(*pair) for name, text in known.items() if text for pair in (("dt", name), ("dd", text))))


def rank_setups(board: Board, top: int) -> Element:
    """Return the leaderboard with a drawing of its intervals; the baselines stand where they belong."""
    header, found = lines(board, top)
    marks = list(board.baselines(board.metric).values())
    scores = [line.entry.scores[board.metric] for line in found if line.entry]
    ends = [*marks, *(end for one in scores for end in (one.mean, one.low, one.high) if end is not None)]
    low, high = min(ends), max(ends)
    if board.metric not in UNBOUNDED:
        low, high = max(low, 0.0), min(high, 1.0)
    rows: list[list[Content]] = [
        [*line.cells, draw_interval(line.entry.scores[board.metric], low, high, marks) if line.entry else ""]
        for line in found
    ]
    kinds = ["base" if not line.entry else "best" if line.entry is board.best else "" for line in found]
    more = f" {len(board.entries) - top} more are in {RESULTS}." if len(board.entries) > top else ""
    means = f"Means over {count_runs(board)} ± half of the 95 % interval; dashes are majority and chance."
    return table([*header, ""], rows, kinds=kinds, caption=f"{means}{more} {EXPLANATION}")


def rank_models(board: Board) -> Element | None:
    """Return every model with what the other folds would have chosen; None where there is nothing to choose."""
    chosen = choose_by_model(board)
    if len(chosen) in (0, len(board.entries)):
        return None
    rows = [
        [model, number(one.score), number(one.judged), ", ".join(f"{s.view} {s.head}" for s in one.setups)]
        for model, one in chosen.items()
    ]
    return table(
        ["model", NAMES[board.metric], NAMES[judge(board)], "chosen"], rows,
        caption="What a model is worth when its layer, pooling and head are chosen for each fold by the other folds.",
    )  # fmt: skip


def list_shots(same: Sequence[Board]) -> Element:
    """Return the best setup of every model over training rows per class."""
    boards = sorted(same, key=lambda one: (one.shots == "all", one.shots))
    models = list(dict.fromkeys(entry.setup.model for board in same for entry in board.entries))
    rows = [
        [
            model,
            *(
                next((figure(entry, board.metric) for entry in board.entries if entry.setup.model == model), "")
                for board in boards
            ),
        ]
        for model in models
    ]
    seeds = max(entry.seeds for board in boards for entry in board.entries)
    return table(
        ["model", *(str(board.shots) for board in boards)], rows,
        caption=f"{capital(NAMES[same[0].metric])} of the best setup of every model over training rows per class; "
        f"up to {plural(seeds, 'seed')} per fold, averaged before the interval.",
    )  # fmt: skip


def list_classes(close: Close | None) -> Element | None:
    """Return precision, recall and F1 of every class, the worst first, behind a click."""
    if close is None:
        return None
    ordered = sorted(close.metrics.per_class, key=lambda one: one.f1.value if one.f1 else 1.0)
    rows = [
        [
            one.name,
            str(one.rows),
            *("" if value is None else str(value) for value in (one.precision, one.recall, one.f1, one.auc)),
        ]
        for one in ordered
    ]
    caption = f"Classes by {describe(close.entry.setup)}, worst F1 first. {BOOTSTRAP}"
    listed = table(["class", "rows", "precision", "recall", "F1", "AUC"], rows, caption=caption)
    return tag("details", tag("summary", "Precision, recall and F1 of every class"), listed)


def close_page(rows: Sequence[Result], about: dict[str, Any]) -> list[Element]:
    """Return how to make it all again."""
    versions = {"embedx": ", ".join(sorted({row.embedx for row in rows if row.embedx})), **about["versions"]}
    used = sorted({row.recipe for row in rows if row.recipe})
    recipes: list[list[Content]] = [[tag("code", name), json.dumps(about["recipes"].get(name, {}))] for name in used]
    section = tag("section", tag("h2", "How to make it again"))
    if about["commands"]:
        section.append(tag("pre", *(tag("div", command) for command in about["commands"])))
    section.append(tag("p", "Every number here is made from ", tag("code", RESULTS), " and the files beside it."))
    section.append(table(["software", "version"], [[name, text] for name, text in versions.items() if text]))
    if recipes:
        section.append(table(["recipe", "what makes its vectors"], recipes))
    return [section]


def number(value: float | None) -> str:
    """Return a figure, or nothing."""
    return "" if value is None else f"{value:.3f}"


def slug(name: str) -> str:
    """Return a name for a file.

    >>> slug("esc50"), slug("a/b c")
    ('esc50', 'a-b-c')
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "task"


def plural(number: int, word: str) -> str:
    """Return a number with its word.

    >>> plural(1, "fold"), plural(2, "fold")
    ('1 fold', '2 folds')
    """
    return f"{number} {word}{'s' if number != 1 else ''}"
