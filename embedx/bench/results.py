"""Table: the results of a benchmark, one row per fit, in a CSV file that later runs extend.

The file is `results.csv` in the folder of the benchmark: UTF-8, commas, a first line with the names of the columns, so
that pandas and spreadsheets open it. An empty cell is a figure that was not, or cannot be, computed. Columns that this
version does not know (a newer embedx wrote them) are kept.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from embedx.errors import UsageError
from embedx.filesystem.atomic import make_folder, replace_file
from embedx.formats.columns import from_cell, to_cell
from embedx.store.lock import Lock

FILE = "results.csv"
EVERY_LAYER = -1  # the layer of a head that reads all of them

Shots = int | Literal["all"]


class Key(NamedTuple):
    """What names a fit. `split` is in it so that a leaky run never stands in for a fair one."""

    task: str
    split: str
    model: str
    layer: int
    pooling: str
    head: str
    shots: Shots
    seed: int
    fold: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """One fit on the training part of one fold, scored on its test part.

    task, split: what was to be told apart, and how the test parts were made, in words ("5 official folds").
    leaky: rows of one recording or group may be on both sides. duplicates: test rows with a near-duplicate in training.
    layer: `EVERY_LAYER` for a head that reads all. shots: training rows per class, or "all". fold: its name.
    C: the strength that was chosen, for heads that have one.
    accuracy ... d_prime: shares from 0 to 1, but log_loss in nats; log_loss and ece are better when lower.
    majority: the share of test rows right when the commonest training label is always named.
    chance: the balanced accuracy of any constant answer, 1 / classes; with several labels per row mean prevalence.
    seconds: to fit and predict. made: ISO 8601 with zone. embedx: its version. recipe: fingerprint of the vectors.
    data: fingerprint of the rows, what they are and how they are split; wherever the files lie.
    """

    task: str
    model: str
    layer: int
    pooling: str
    head: str
    shots: Shots
    seed: int
    fold: str
    rows_train: int
    rows_test: int
    classes: int
    split: str
    leaky: bool
    duplicates: int
    C: float | None = None
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    macro_f1: float | None = None
    macro_auc: float | None = None
    map: float | None = None
    log_loss: float | None = None
    ece: float | None = None
    d_prime: float | None = None
    majority: float | None = None
    chance: float | None = None
    seconds: float | None = None
    made: str = ""
    embedx: str = ""
    recipe: str = ""
    data: str = ""
    more: Mapping[str, str] = field(default_factory=dict)  # columns that this version does not know, as they stand


def to_bool(cell: str) -> bool:
    """Read what spreadsheets write in many ways.

    >>> to_bool("true"), to_bool("FALSE")
    (True, False)
    """
    return {"true": True, "false": False}[cell.lower()]


def to_shots(cell: str) -> Shots:
    """Read a number of rows per class, or "all"."""
    return "all" if cell == "all" else int(cell)


def to_figure(cell: str) -> float | None:
    """Read a number that may not be there."""
    return float(cell) if cell else None


def write_cell(value: object) -> str:
    """Return a value as a cell; text that a spreadsheet would run gets an apostrophe in front.

    >>> write_cell("=1+1"), write_cell(0.5), write_cell(False), write_cell(None), write_cell("")
    ("'=1+1", '0.5', 'false', '', '')
    """
    return "" if value in (None, "") else to_cell(value, text=True)


def to_text(cell: str) -> str:
    """Read text; see `embedx.formats.columns.to_cell`."""
    return from_cell(cell, text=True) or ""


READERS: dict[Any, Callable[[str], Any]] = {
    str: to_text, int: int, bool: to_bool, Shots: to_shots, float | None: to_figure
}  # fmt: skip
COLUMNS = {one.name: READERS[one.type] for one in fields(Result) if one.name != "more"}


def key(row: Result) -> Key:
    """Return what names a fit."""
    return Key(*(getattr(row, name) for name in Key._fields))


def done(table: Iterable[Result]) -> set[Key]:
    """Return the fits that need not be repeated."""
    return {key(row) for row in table}


def read_table(folder: str | Path) -> list[Result]:
    """Return the results in a folder, in the order of the file; none where there is no file yet.

    Raises:
        UsageError: the file is torn, or is no table of results; it is left as it is.
    """
    file = Path(folder) / FILE
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise refusal(file, "it is no UTF-8 text") from error
    if not text.endswith("\n"):
        raise refusal(file, "its last line has no end, so it was cut off")
    try:
        header, *lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line] or [[]]
    except csv.Error as error:
        raise refusal(file, str(error)) from error
    missing = [name for name in COLUMNS if name not in header]
    if missing or len(set(header)) < len(header):
        raise refusal(file, f"it has no column {missing[0]!r}" if missing else "two of its columns have one name")
    return list(
        {key(row): row for row in (read_row(file, i, header, line) for i, line in enumerate(lines, 1))}.values()
    )


def read_row(file: Path, number: int, header: Sequence[str], cells: Sequence[str]) -> Result:
    """Return a line of the file as a result; `number` is for messages."""
    if len(cells) != len(header):
        raise refusal(file, f"row {number} has {len(cells)} cells and there are {len(header)} columns")
    values, more = {}, {}
    for name, cell in zip(header, cells, strict=True):
        try:
            if name in COLUMNS:
                values[name] = COLUMNS[name](cell)
            else:
                more[name] = cell
        except (ValueError, KeyError) as error:
            raise refusal(file, f"in row {number} the {name} is {cell!r}") from error
    return Result(**values, more=more)


def refusal(file: Path, why: str) -> UsageError:
    """Return the error for a file that cannot be used."""
    return UsageError(
        f"{file} cannot be read as results of embedx bench: {why}. It was left as it is. "
        "Name another output folder, or mend the file (or move it away) and run again."
    )


def extend_table(folder: str | Path, rows: Iterable[Result]) -> list[Result]:
    """Add results to those in a folder, and return all; one with the key of an older one takes its place.

    The file is there whole or not at all, and processes that extend it at the same time wait for each other.

    Raises:
        UsageError: there is a file that `read_table` refuses; it is left as it is.
    """
    make_folder(Path(folder))
    lock = Lock(Path(folder), wait=True)
    try:
        every = {key(row): row for row in (*read_table(folder), *rows)}
        replace_file(Path(folder) / FILE, write_table(every.values()).encode())
    finally:
        lock.release()
    return list(every.values())


def write_table(rows: Iterable[Result]) -> str:
    """Return results as CSV."""
    rows = list(rows)
    unknown = list(dict.fromkeys(name for row in rows for name in row.more))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *unknown])
    for row in rows:
        known = (write_cell(getattr(row, name)) for name in COLUMNS)
        writer.writerow([*known, *(row.more.get(name, "") for name in unknown)])
    return out.getvalue()
