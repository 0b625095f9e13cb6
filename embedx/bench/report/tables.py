"""Boards as text for a terminal, as Markdown, CSV and JSON."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from embedx.bench.leaderboard import BASELINES, EXPLANATION, FEW_FOLDS, Board, Entry
from embedx.bench.published import find_leak
from embedx.bench.report.conclusions import NAMES, choose_by_model, format_half, give_verdict
from embedx.bench.report.plots import capitalise
from embedx.bench.results import write_cell
from embedx.bench.setups import METRICS, goodness
from embedx.bench.significance import MIN_FOLDS
from embedx.filesystem.paths import display_path
from embedx.text import dump_json, plural

TOP = 20  # entries of a board in tables for people, by default; a screen full

Form = Literal["table", "markdown", "csv", "json"]


def list_boards(boards: Sequence[Board], form: Form = "table", *, top: int = TOP) -> str:
    """Return boards as text.

    Args:
        boards: the boards.
        form: "table", "markdown", "csv" or "json"; default "table".
        top: number of entries of each board in a table or Markdown; CSV and JSON have all. Default 20.
    """
    return FORMS[form](boards, top)


def select_metrics(board: Board) -> list[str]:
    """Return the metrics in tables for people: the metric of the board, then accuracy, balanced accuracy and macro F1.

    For multi-label tasks these are mAP and macro AUC.
    """
    first = board.entries[0].values
    others = ("accuracy", "balanced_accuracy", "macro_f1") if "accuracy" in first else ("map", "macro_auc")
    return [board.metric, *(name for name in others if name != board.metric and name in first)]


@dataclass(frozen=True)
class Line:
    """A line of a board as text; the line of a baseline has no entry."""

    cells: list[str]
    entry: Entry | None


def list_lines(board: Board, top: int) -> tuple[list[str], list[Line]]:
    """Return the header and the lines of a board in its order; baselines are placed between those with a rank."""
    metrics, counts = select_metrics(board), [*cost_names(board), *varying_counts(board)]
    header = ["rank", "", "model", "vectors", "head", *(NAMES[name] for name in metrics), *counts]
    lines = [Line(entry_cells(board, entry, metrics), entry) for entry in board.entries[:top]]
    scores = [goodness(entry.scores[board.metric].mean, board.metric) for entry in board.entries[:top]]
    ranked = sum(entry.rank is not None for entry in board.entries[:top])  # setups without a rank come after these
    baselines: list[tuple[float, Line]] = []
    for name in BASELINES:
        values = [board.baseline(name, metric) for metric in metrics]
        if values[0] is not None:
            cells = ["", "", f"({name})", "", "", *("" if v is None else f"{v:.3f}" for v in values)]
            baselines.append((goodness(values[0], board.metric), Line(cells + [""] * len(counts), None)))
    baselines.sort(key=lambda pair: pair[0], reverse=True)
    for merit, line in reversed(baselines):  # the worst first, so that positions stay right
        lines.insert(sum(score >= merit for score in scores[:ranked]), line)
    return header, lines


def entry_cells(board: Board, entry: Entry, metrics: Sequence[str]) -> list[str]:
    """Return the cells of an entry."""
    return [
        "" if entry.rank is None else str(entry.rank),
        entry.mark + (FEW_FOLDS if board.unit == "fold" and len(entry.units) < MIN_FOLDS else ""),
        *map(display_path, (entry.setup.model, entry.setup.view, entry.setup.head)),
        *(format_entry(entry, name) for name in metrics),
        *(cost_of(entry)[name] for name in cost_names(board)),
        *(counts_of(board, entry)[name] for name in varying_counts(board)),
    ]


def cost_names(board: Board) -> list[str]:
    """Return the names of the costs; they get a column if a setup of the board is fine-tuned, or not trained at all."""
    shown = any(entry.setup.finetuned or entry.setup.zero_shot for entry in board.entries)
    return ["seconds", "trained parameters"] if shown else []


def cost_of(entry: Entry) -> dict[str, str]:
    """Return the costs of an entry as text: the time of a fit with embedding its rows, and the trained parameters.

    >>> [f"{seconds:.3g}" for seconds in (0.01234, 12.34)], f"{94371716:,}"
    (['0.0123', '12.3'], '94,371,716')
    """
    return {
        "seconds": "" if entry.seconds is None else f"{float(f'{entry.seconds:.3g}'):g}",
        "trained parameters": "" if entry.parameters is None else f"{entry.parameters:,}",
    }


def counts_of(board: Board, entry: Entry) -> dict[str, str]:
    """Return the numbers of folds and seeds of an entry as text."""
    units = {f"{board.unit}s": f"{len(entry.units)} of {len(board.units)}"}
    return units | ({"seeds": str(entry.seeds)} if board.unit == "fold" else {})


def varying_counts(board: Board) -> list[str]:
    """Return the names of the counts that differ between the entries of a board; they get a column."""
    counts = [counts_of(board, entry) for entry in board.entries]
    return [name for name in counts[0] if len({by_name[name] for by_name in counts}) > 1]


def describe_runs(board: Board) -> str:
    """Say what the means of a board are taken over."""
    seeds = max(entry.seeds for entry in board.entries)
    if board.unit == "seed":
        return f"{seeds} seed{'s' * (seeds > 1)} on one test part"
    return f"{plural(len(board.units), 'fold')}{f' and {seeds} seeds of each' if seeds > 1 else ''}"


def format_entry(entry: Entry, metric: str) -> str:
    """Return the mean of an entry and half the width of its interval."""
    return format_half(entry.scores[metric]) if metric in entry.scores else ""


def title_of(board: Board) -> str:
    """Return the heading of a board."""
    rows = "all training rows" if board.shots == "all" else f"{board.shots} training rows per class"
    return f"{display_path(board.task)}: {rows}, split by {display_path(board.split)}"


def list_remarks(board: Board, top: int) -> list[str]:
    """Return the sentences below a board, warnings first."""
    verdict = give_verdict(board)
    sentences = [f"Means over {describe_runs(board)} ± half of the 95 % interval."]
    if board.leaky:
        sentences.append(
            "LEAKY: windows of one recording or group may be in both the training and the test part. Scores are "
            "inflated; do not quote them."
        )
    if leak := find_leak(board.task, board.split):
        sentences.append(leak)
    if board.duplicates:
        sentences.append(f"{board.duplicates} of {board.rows} test rows look like a training row.")
    if board.shots == "all" or verdict.learned is False:
        sentences.append(verdict.text)
    if cost_names(board):
        sentences.append(
            "Seconds are the mean of a fit on one fold: embedding its rows (for fine-tuned models reading them), "
            "training, and predicting the test rows."
        )
    if any(entry.rank is None for entry in board.entries):
        sentences.append(f"Setups without a rank have not been run on every {board.unit}.")
    if len(board.entries) > top:
        sentences.append(f"Not shown: {plural(len(board.entries) - top, 'more setup')}.")
    return sentences


def group_by_task(boards: Sequence[Board]) -> list[list[Board]]:
    """Return the boards of each task and split, in the order of their shots; "all" comes last."""
    by_task: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards:
        by_task[board.task, board.split].append(board)
    return [sort_by_shots(same_task) for same_task in by_task.values()]


def sort_by_shots(boards: Sequence[Board]) -> list[Board]:
    """Return boards in the order of their shots; "all" comes last."""
    return sorted(boards, key=lambda board: (board.shots == "all", board.shots))


def tabulate_shots(boards: Sequence[Board], top: int) -> list[list[str]]:
    """Return the scores of the setups on the last board over shots, with a header; empty for a single board."""
    if len(boards) == 1:
        return []
    scores = [{entry.setup: format_entry(entry, board.metric) for entry in board.entries} for board in boards]
    rows = [
        [*map(display_path, (setup.model, setup.view, setup.head)), *(by_setup.get(setup, "") for by_setup in scores)]
        for setup in (entry.setup for entry in boards[-1].entries[:top])
    ]
    return [["model", "vectors", "head", *(str(board.shots) for board in boards)], *rows]


def to_table(boards: Sequence[Board], top: int) -> str:
    """Return boards for a terminal: for each task the board with the most training rows, and a table over shots."""
    parts = []
    for same_task in group_by_task(boards):
        board = same_task[-1]
        header, lines = list_lines(board, top)
        cells = [header, *(line.cells for line in lines)]
        parts += [title_of(board), "", *align(cells), "", *list_remarks(board, top), ""]
        if rows := tabulate_shots(same_task, top):
            heading = f"{display_path(board.task)}: {NAMES[board.metric]} over training rows per class"
            parts += [heading, "", *align(rows), ""]
    return "\n".join([*parts, EXPLANATION, ""])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns.

    >>> align([["a", "b"], ["long", "c"]])
    ['a     b', 'long  c']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def to_markdown(boards: Sequence[Board], top: int) -> str:
    """Return boards as Markdown with the best setup in bold; the boards are those of `to_table`."""
    parts = []
    for same_task in group_by_task(boards):
        board = same_task[-1]
        header, lines = list_lines(board, top)
        texts = [
            f"| {' | '.join(f'**{cell}**' if cell and is_best else cell for cell in map(escape, line.cells))} |"
            for line in lines
            for is_best in [line.entry is board.best]
        ]
        remarks = [f"> **{text}**" if text.startswith("LEAKY") else escape(text) for text in list_remarks(board, top)]
        parts += [f"### {escape(title_of(board))}", "\n".join([*header_lines(header), *texts]), *remarks]
        if rows := tabulate_shots(same_task, top):
            texts = [f"| {' | '.join(map(escape, row))} |" for row in rows[1:]]
            parts += [
                f"{capitalise(NAMES[board.metric])} over training rows per class:",
                "\n".join([*header_lines(rows[0]), *texts]),
            ]
    return "\n\n".join([*parts, EXPLANATION]) + "\n"


def header_lines(header: Sequence[str]) -> list[str]:
    """Return the header of a Markdown table with the rule below it."""
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]


def escape(text: str) -> str:
    """Return text with the special characters of Markdown escaped.

    >>> escape("a|b <c> *d*")
    'a\\\\|b \\\\<c\\\\> \\\\*d\\\\*'
    """
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in text)


def list_records(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """Return the columns of the CSV file as a dictionary for each entry of every board."""
    records = []
    for board in boards:
        facts = {
            name: getattr(board, name) for name in ("task", "split", "leaky", "shots", "metric", "classes", "rows")
        }
        for entry in board.entries:
            scores = {
                f"{metric}{suffix}": getattr(entry.scores[metric], part) if metric in entry.scores else None
                for metric in METRICS
                for suffix, part in (("", "mean"), ("_deviation", "deviation"), ("_low", "low"), ("_high", "high"))
            }
            ranked = {"rank": entry.rank, "mark": entry.mark, "p": entry.p, "above_chance": entry.above_chance}
            counts = {"unit": board.unit, "units": len(entry.units), "seeds": entry.seeds}
            cost = {"seconds": entry.seconds, "parameters": entry.parameters}
            base = {"majority": board.majority, "chance": board.chance}
            records.append(facts | ranked | entry.setup._asdict() | counts | scores | base | cost)
    return records


def to_csv(boards: Sequence[Board], top: int) -> str:
    """Return all entries of all boards as one table."""
    out = io.StringIO()
    rows = list_records(boards)
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: write_cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def to_json(boards: Sequence[Board], top: int) -> str:
    """Return boards as JSON with the values of every fold and the verdicts."""
    values = []
    for board in boards:
        verdict = give_verdict(board)
        choices = [
            {"model": model, "score": choice.score, "setups": [setup._asdict() for setup in choice.setups]}
            for model, choice in choose_by_model(board).items()
        ]
        entries = [asdict(entry) | {"setup": entry.setup._asdict()} for entry in board.entries]
        extra = {"entries": entries, "verdict": asdict(verdict), "chosen_by_other_folds": choices}
        values.append(asdict(board) | extra)
    return dump_json(values) + "\n"


FORMS: dict[str, Callable[[Sequence[Board], int], str]] = {
    "table": to_table,
    "markdown": to_markdown,
    "csv": to_csv,
    "json": to_json,
}
