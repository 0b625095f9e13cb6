"""The table of results: one row per fit, in a CSV file that later runs extend.

The file is `results.csv` in the folder of the benchmark: UTF-8, separated by commas, with a header, so that pandas and
spreadsheets can open it. An empty cell is a figure that was not computed. Unknown columns, which a newer version of
embedx may have written, are kept.
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
EVERY_LAYER = -1  # in the column "layer": the head reads all layers
ZERO_SHOT = "zero-shot"  # begin of the column "head": nothing was trained, because the names of the labels are enough
FINETUNED = -2  # in the column "layer": there are no stored vectors, because the model itself was trained

Shots = int | Literal["all"]


class Key(NamedTuple):
    """What identifies a fit. It includes `split`, so that a leaky fit never replaces a fair one."""

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

    Attributes:
        task: name of the task.
        model, layer, pooling: the vectors; layer is `EVERY_LAYER` for a head that reads all layers. For a fine-tuned
            model layer is `FINETUNED` and pooling is empty.
        head: the head as text; for a fine-tuned model how it was trained; "zero-shot" for classes by their names.
        shots: training rows per class, or "all".
        seed: seed of the sample of training rows and of random weights.
        fold: name of the test fold.
        rows_train, rows_test, classes: numbers of rows and classes; zero-shot has no training rows.
        split: how the test parts were made, in words ("5 official folds").
        leaky: whether rows of one recording or group may be in both the training and the test part.
        duplicates: test rows that look like a row of the training part.
        C: the chosen regularisation strength, for heads that have one.
        accuracy, balanced_accuracy, macro_f1, macro_auc, map, ece: from 0 to 1. For ece, lower is better.
        log_loss: in nats; lower is better.
        d_prime: sensitivity index.
        majority: accuracy of always predicting the most common training label.
        chance: balanced accuracy of a constant answer, 1 / classes; mean prevalence for multi-label tasks.
        seconds: time to fit and predict; for a fine-tuned model with reading and running it over the audio.
        embed_seconds: time to embed the rows of the fit for a head; None if it is not known, as for a collection.
        parameters: number of trained parameters; for a head those of its layers.
        made: time of the fit, ISO 8601 with time zone.
        embedx: version of embedx.
        recipe: fingerprint of the recipe of the vectors.
        data: fingerprint of the rows, their labels and the split; it does not depend on where the files are.
        more: unknown columns, as text.
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
    embed_seconds: float | None = None
    parameters: int | None = None
    made: str = ""
    embedx: str = ""
    recipe: str = ""
    data: str = ""
    more: Mapping[str, str] = field(default_factory=dict)


def to_bool(cell: str) -> bool:
    """Read true or false in upper or lower case, as different spreadsheets write it.

    >>> to_bool("true"), to_bool("FALSE")
    (True, False)
    """
    return {"true": True, "false": False}[cell.lower()]


def to_shots(cell: str) -> Shots:
    """Read a number of rows per class or "all"."""
    return "all" if cell == "all" else int(cell)


def to_figure(cell: str) -> float | None:
    """Read a number; an empty cell is None."""
    return float(cell) if cell else None


def to_count(cell: str) -> int | None:
    """Read a whole number; an empty cell is None."""
    return int(cell) if cell else None


def write_cell(value: object) -> str:
    """Return a value as a cell; text that a spreadsheet would run as a formula is prefixed with an apostrophe.

    >>> write_cell("=1+1"), write_cell(0.5), write_cell(False), write_cell(None), write_cell("")
    ("'=1+1", '0.5', 'false', '', '')
    """
    return "" if value in (None, "") else to_cell(value, text=True)


def to_text(cell: str) -> str:
    """Read text; see `embedx.formats.columns.to_cell`."""
    return from_cell(cell, text=True) or ""


READERS: dict[Any, Callable[[str], Any]] = {
    str: to_text, int: int, bool: to_bool, Shots: to_shots, float | None: to_figure, int | None: to_count
}  # fmt: skip
COLUMNS = {column.name: READERS[column.type] for column in fields(Result) if column.name != "more"}
ADDED_LATER = ("embed_seconds", "parameters")  # columns that the tables of older versions do not have


def key(row: Result) -> Key:
    """Return the key of a result."""
    return Key(*(getattr(row, name) for name in Key._fields))


def read_table(folder: str | Path) -> list[Result]:
    """Return the results in a folder, in the order of the file; an empty list if there is no file yet.

    Raises:
        UsageError: the file is incomplete or is not a table of results. It is not changed.
    """
    file = Path(folder) / FILE
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise table_error(file, "it is not UTF-8 text") from error
    if not text.endswith("\n"):
        raise table_error(file, "its last line is incomplete")
    try:
        header, *lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line] or [[]]
    except csv.Error as error:
        raise table_error(file, str(error)) from error
    missing = [name for name in COLUMNS if name not in (*header, *ADDED_LATER)]
    if missing or len(set(header)) < len(header):
        reason = f"it has no column {missing[0]!r}" if missing else "two columns have the same name"
        raise table_error(file, reason)
    rows = (read_row(file, number, header, line) for number, line in enumerate(lines, 1))
    return list({key(row): row for row in rows}.values())


def read_row(file: Path, number: int, header: Sequence[str], cells: Sequence[str]) -> Result:
    """Return a line of the file as a result; `number` is for errors."""
    if len(cells) != len(header):
        raise table_error(file, f"row {number} has {len(cells)} cells, but there are {len(header)} columns")
    values, more = {}, {}
    for name, cell in zip(header, cells, strict=True):
        try:
            if name in COLUMNS:
                values[name] = COLUMNS[name](cell)
            else:
                more[name] = cell
        except (ValueError, KeyError) as error:
            raise table_error(file, f"{name} in row {number} is {cell!r}") from error
    return Result(**values, more=more)


def table_error(file: Path, reason: str) -> UsageError:
    """Return the error for a file that cannot be read."""
    return UsageError(
        f"{file} cannot be read as results of embedx bench: {reason}. The file was not changed. "
        "Choose another output folder, or repair or move the file, and run again."
    )


def extend_table(folder: str | Path, rows: Iterable[Result]) -> list[Result]:
    """Add results to the table in a folder; a result replaces an older one with the same key.

    The file is written atomically. A process waits while another one extends the table.

    Args:
        folder: folder of the benchmark.
        rows: the results to add.

    Returns:
        All results in the folder.

    Raises:
        UsageError: the present file cannot be read; it is not changed.
    """
    make_folder(Path(folder))
    lock = Lock(Path(folder), wait=True)
    try:
        results = {key(row): row for row in (*read_table(folder), *rows)}
        replace_file(Path(folder) / FILE, write_table(results.values()).encode())
    finally:
        lock.release()
    return list(results.values())


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
