"""Listing: boards as text for a terminal, as Markdown, CSV and JSON."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from embedx.bench.leaderboard import BASELINES, EXPLANATION, METRICS, Board, Entry, goodness
from embedx.bench.report.conclusions import NAMES, choose_by_model, give_verdict, show_half
from embedx.bench.report.plots import capital
from embedx.bench.results import write_cell
from embedx.filesystem.paths import display_path
from embedx.text import dump_json

TOP = 20  # entries of a board that people are shown

Form = Literal["table", "markdown", "csv", "json"]


def list_boards(boards: Sequence[Board], form: Form = "table", *, top: int = TOP) -> str:
    """Return boards as text. Tables for people show the `top` entries of each, CSV and JSON show all."""
    return FORMS[form](boards, top)


def columns(board: Board) -> list[str]:
    """Return the metrics that people are shown: the headline, and balanced accuracy and macro F1 always beside it.

    With several labels per row it is mAP and macro AUC.
    """
    beside = ("accuracy", "balanced_accuracy", "macro_f1") if "accuracy" in board.best.values else ("map", "macro_auc")
    return [board.metric, *(name for name in beside if name != board.metric and name in board.best.values)]


@dataclass(frozen=True)
class Line:
    """A line of a board as text; of a baseline there is no entry."""

    cells: list[str]
    entry: Entry | None


def lines(board: Board, top: int) -> tuple[list[str], list[Line]]:
    """Return the header and the lines of a board; the baselines stand where their score puts them."""
    shown = columns(board)
    header = ["rank", "", "model", "vectors", "head", *(NAMES[name] for name in shown), *uneven(board)]
    found = [
        (goodness(entry.scores[board.metric].mean, board.metric), Line(entry_cells(board, entry, shown), entry))
        for entry in board.entries[:top]
    ]
    for name in BASELINES:
        values = [board.baseline(name, metric) for metric in shown]
        if values[0] is not None:
            cells = ["", "", f"({name})", "", "", *("" if v is None else f"{v:.3f}" for v in values)]
            cells += [""] * len(uneven(board))
            found.append((goodness(values[0], board.metric), Line(cells, None)))
    return header, [line for _, line in sorted(found, key=lambda one: one[0], reverse=True)]


def entry_cells(board: Board, entry: Entry, shown: Sequence[str]) -> list[str]:
    """Return the cells of an entry."""
    return [
        "" if entry.rank is None else str(entry.rank),
        entry.mark,
        *map(display_path, (entry.setup.model, entry.setup.view, entry.setup.head)),
        *(figure(entry, name) for name in shown),
        *(count(board, entry)[name] for name in uneven(board)),
    ]


def count(board: Board, entry: Entry) -> dict[str, str]:
    """Return what the means of an entry go over."""
    units = {f"{board.unit}s": f"{len(entry.units)} of {len(board.units)}"}
    return units | ({"seeds": str(entry.seeds)} if board.unit == "fold" else {})


def uneven(board: Board) -> list[str]:
    """Return the counts that differ between the entries of a board, and so need a column."""
    return [name for name in count(board, board.best) if len({count(board, one)[name] for one in board.entries}) > 1]


def count_runs(board: Board) -> str:
    """Return over what a board has means."""
    seeds = max(entry.seeds for entry in board.entries)
    if board.unit == "seed":
        return f"{seeds} seed{'s' * (seeds > 1)} on one test part"
    return f"{len(board.units)} folds{f' and {seeds} seeds of each' if seeds > 1 else ''}"


def figure(entry: Entry, metric: str) -> str:
    """Return a mean and half the width of its interval."""
    return show_half(entry.scores[metric]) if metric in entry.scores else ""


def title(board: Board) -> str:
    """Return the heading of a board."""
    rows = "all training rows" if board.shots == "all" else f"{board.shots} training rows per class"
    return f"{display_path(board.task)}: {rows}, split by {display_path(board.split)}"


def remarks(board: Board, top: int) -> list[str]:
    """Return what has to be said below a board, warnings first."""
    verdict = give_verdict(board)
    said = [f"Means over {count_runs(board)} ± half of the 95 % interval."]
    if board.leaky:
        said.append("LEAKY: windows of one recording or group may be on both sides of the split. Do not quote this.")
    if board.duplicates:
        said.append(f"{board.duplicates} of {board.rows} test rows have a near-duplicate among the training rows.")
    if board.shots == "all" or verdict.learned is False:
        said.append(verdict.text)
    if any(entry.rank is None for entry in board.entries):
        said.append(f"Setups without a rank have not been run on every {board.unit}.")
    if len(board.entries) > top:
        said.append(f"{len(board.entries) - top} more setups are not shown.")
    return said


def by_task(boards: Sequence[Board]) -> list[list[Board]]:
    """Return the boards that are alike but for their shots, by shots; the one with most training rows comes last."""
    found: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards:
        found[board.task, board.split].append(board)
    return [sorted(same, key=lambda one: (one.shots == "all", one.shots)) for same in found.values()]


def grid(same: Sequence[Board], top: int) -> list[list[str]]:
    """Return what the setups of the last board reach over shots, a header first; nothing for one board alone."""
    if len(same) == 1:
        return []
    scores = [{entry.setup: figure(entry, board.metric) for entry in board.entries} for board in same]
    rows = [
        [*map(display_path, (setup.model, setup.view, setup.head)), *(of.get(setup, "") for of in scores)]
        for setup in (entry.setup for entry in same[-1].entries[:top])
    ]
    return [["model", "vectors", "head", *(str(board.shots) for board in same)], *rows]


def to_table(boards: Sequence[Board], top: int) -> str:
    """Return boards for a terminal: of each task the one with most training rows, and a table over shots."""
    parts = []
    for same in by_task(boards):
        board = same[-1]
        header, found = lines(board, top)
        parts += [title(board), "", *align([header, *(line.cells for line in found)]), "", *remarks(board, top), ""]
        if few := grid(same, top):
            parts += [
                f"{display_path(board.task)}: {NAMES[board.metric]} over training rows per class",
                "",
                *align(few),
                "",
            ]
    return "\n".join([*parts, EXPLANATION, ""])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns.

    >>> align([["a", "b"], ["long", "c"]])
    ['a     b', 'long  c']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def to_markdown(boards: Sequence[Board], top: int) -> str:
    """Return boards as Markdown, the best of each in bold; of each task as `to_table` does it."""
    parts = []
    for same in by_task(boards):
        board = same[-1]
        header, found = lines(board, top)
        texts = [
            f"| {' | '.join(f'**{cell}**' if cell and best else cell for cell in map(escape, line.cells))} |"
            for line in found
            for best in [line.entry is board.best]
        ]
        said = [f"> **{one}**" if one.startswith("LEAKY") else escape(one) for one in remarks(board, top)]
        parts += [f"### {escape(title(board))}", "\n".join([*head_line(header), *texts]), *said]
        if few := grid(same, top):
            texts = [f"| {' | '.join(map(escape, row))} |" for row in few[1:]]
            parts += [
                f"{capital(NAMES[board.metric])} over training rows per class:",
                "\n".join([*head_line(few[0]), *texts]),
            ]
    return "\n\n".join([*parts, EXPLANATION]) + "\n"


def head_line(header: Sequence[str]) -> list[str]:
    """Return the header of a table in Markdown, with the rule below it."""
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]


def escape(text: str) -> str:
    """Return text that Markdown shows as it is.

    >>> escape("a|b <c> *d*")
    'a\\\\|b \\\\<c\\\\> \\\\*d\\\\*'
    """
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in text)


def records(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """Return an object per entry of every board, baselines with it: what CSV has in columns."""
    found = []
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
            ranked = {"rank": entry.rank, "mark": entry.mark, "p": entry.p}
            counts = {"unit": board.unit, "units": len(entry.units), "seeds": entry.seeds}
            base = {"majority": board.majority, "chance": board.chance}
            found.append(facts | ranked | entry.setup._asdict() | counts | scores | base)
    return found


def to_csv(boards: Sequence[Board], top: int) -> str:
    """Return all entries of all boards as one table."""
    out = io.StringIO()
    rows = records(boards)
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: write_cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def to_json(boards: Sequence[Board], top: int) -> str:
    """Return boards with the values of every fold and the verdicts."""
    made = []
    for board in boards:
        verdict = give_verdict(board)
        chosen = [
            {"model": model, "score": one.score, "setups": [setup._asdict() for setup in one.setups]}
            for model, one in choose_by_model(board).items()
        ]
        entries = [asdict(entry) | {"setup": entry.setup._asdict()} for entry in board.entries]
        made.append(asdict(board) | {"entries": entries, "verdict": asdict(verdict), "chosen_by_other_folds": chosen})
    return dump_json(made) + "\n"


FORMS: dict[str, Callable[[Sequence[Board], int], str]] = {
    "table": to_table,
    "markdown": to_markdown,
    "csv": to_csv,
    "json": to_json,
}
