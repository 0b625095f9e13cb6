"""Tables that users give: CSV, JSON lines, Parquet, a list of paths or a pandas frame -> rows.

Text stays text: "001", "NA" and "1e5" are not converted. Every column is kept.
"""

import io
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from embedx.audio.embedded import recording_names
from embedx.datasets.parquet import read_parquet_rows, refuse_twice
from embedx.datasets.text_tables import (
    PATH_COLUMNS,
    open_text,
    read_csv_rows,
    read_json_rows,
    refuse_other_file,
    require_unicode,
)
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import is_url

if TYPE_CHECKING:
    import pandas as pd

PARQUET_MAGIC = b"PAR1"
TEXT_COLUMNS = ("label", "group", "split")  # text, also if all values look like numbers

Row = Mapping[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True)
class UserTable:
    """The rows of a table, and where each of them is.

    Attributes:
        name: the name of the table, for messages.
        columns: the names of the columns.
        rows: column -> value of each row; None for an empty cell.
        numbers: the line of each row in a text file; its number from 1 otherwise.
        unit: "Line" or "Row".
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Row]
    numbers: Sequence[int]
    unit: str = "Row"
    audio: str | None = None  # column whose recordings are in the table; its values are FILE.parquet/NAME

    def place(self, index: int) -> str:
        """Return where a row is, for a message: "Line 3 of clips.csv"."""
        return f"{self.unit} {self.numbers[index]} of {self.name}"

    @property
    def path_column(self) -> str | None:
        """The column with the recordings: `audio`, or the first of `PATH_COLUMNS` that is there; None without one."""
        return self.audio or next((name for name in PATH_COLUMNS if name in self.columns), None)


def read_table(file: str | os.PathLike[str], texts: Sequence[str] = ()) -> UserTable:
    """Read a table from a file.

    Args:
        file: a CSV (also with tabs, semicolons or bars), JSON lines or Parquet file, or a list of paths.
        texts: columns of a CSV that stay text, also if all values look like numbers.

    Raises:
        UsageError: there is no such file, or it cannot be read as a table; the message names the line and the column.
    """
    name = display_path(os.fspath(file))
    if not os.path.isfile(file):  # opening a named pipe would block
        raise UsageError(f"There is no file {name}, or it is not a regular file.")
    with open(file, "rb") as handle:
        if handle.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC:
            return parse_parquet(os.path.abspath(file), name)
    return parse(Path(file).read_bytes(), name, os.path.dirname(os.path.abspath(file)), texts)


def parse(data: bytes, name: str, folder: str = "", texts: Sequence[str] = ()) -> UserTable:
    """Parse a table. Its content tells whether it is Parquet, JSON lines, CSV, or a plain list of paths.

    Args:
        data: the bytes of the table.
        name: the name of the file, for errors.
        folder: the folder at which relative paths start.
        texts: see `read_table`.

    Raises:
        UsageError: the table cannot be read; the message names the line and the column.
    """
    if data.startswith(PARQUET_MAGIC):
        return parse_parquet(io.BytesIO(data), name)
    refuse_other_file(data, name)
    with open_text(io.BytesIO(data), name) as text:
        first = next((line for line in text if not line.isspace()), "").strip("\r\n")
        text.seek(0)
        numbers: list[int] = []
        if first.lstrip().startswith("{"):
            rows: list[Row] = list(numbered(read_json_rows(text, name), numbers))
            columns = list(dict.fromkeys(column for row in rows for column in row))
        elif is_url(first) or os.path.isfile(os.path.join(folder, first)):  # the output of `find`
            columns = ["path"]
            lines = ((i, line.rstrip("\r\n")) for i, line in enumerate(text, start=1))
            rows = list(numbered(((i, {"path": line}) for i, line in lines if line), numbers))
        else:
            columns, cells = read_csv_rows(text, name)
            path_column = next((column for column in PATH_COLUMNS if column in columns), None)
            rows = type_columns(columns, list(numbered(cells, numbers)), {path_column, *TEXT_COLUMNS, *texts})
    table = UserTable(name, columns, rows, numbers, "Line")
    for i, row in enumerate(rows):
        require_unicode(row, table.place(i), folder)
    return table


def numbered(rows: Iterator[tuple[int, Value]], numbers: list[int]) -> Iterator[Value]:
    """Yield the values of numbered rows, and append the numbers to a list."""
    for number, value in rows:
        numbers.append(number)
        yield value


def parse_parquet(source: str | BinaryIO, name: str) -> UserTable:
    """Parse a Parquet file; recordings in a column {bytes, path} get the path FILE.parquet/NAME.

    Args:
        source: the absolute path, or an open file.
        name: the name of the table, for errors.

    Raises:
        UsageError: the file cannot be read, or recordings are in a table that is not a file.
    """
    columns, rows, audio = read_parquet_rows(source, name)
    if audio:
        names = recording_names(source)
        if not isinstance(source, str) and any(names):
            raise UsageError(f"{name} contains recordings (column {audio}). Save it as a file and give the file.")
        for row, inner in zip(rows, names, strict=True):
            row[audio] = (row[audio] or {}).get("path") if inner is None else f"{source}{os.sep}{inner}"
    table = UserTable(name, columns, rows, range(1, len(rows) + 1), audio=audio)
    folder = os.path.dirname(source) if isinstance(source, str) else ""
    for i, row in enumerate(rows):
        require_unicode(row, table.place(i), folder, "Store the column as text, or remove it.")
    return table


def frame_table(frame: "pd.DataFrame", name: str = "the frame") -> UserTable:
    """Return the rows of a pandas frame, with None for missing values.

    Raises:
        UsageError: two columns have the same name.
    """
    columns = [str(column) for column in frame]
    refuse_twice(columns, name)
    rows = records(frame)
    return UserTable(name, columns, rows, range(1, len(rows) + 1))


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a frame, with None for missing values.

    Raises:
        UsageError: it is one column instead of a table.
    """
    if not hasattr(frame, "columns"):
        raise UsageError(f"A table is a data frame with named columns, not a {type(frame).__name__}.")
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def type_columns(columns: Sequence[str], cells: Sequence[Sequence[str]], texts: Collection[str | None]) -> list[Row]:
    """Return rows of cells as column -> value; columns are converted to numbers where nothing is lost, except `texts`.

    A column that has neither a name nor a value is left out.
    """
    by_column: dict[str, list[Any]] = {}
    for i, column in enumerate(columns):
        values = [row[i] for row in cells]
        by_column[column] = [value or None for value in values] if column in texts else typed(values)
        if column == f"Unnamed: {i}" and not any(values):
            del by_column[column]
    return [dict(zip(by_column, values, strict=True)) for values in zip(*by_column.values(), strict=True)]


def typed(values: Sequence[str]) -> list[Any]:
    """Convert a column of text to numbers if nothing is lost, and empty cells to None.

    >>> typed(["1", "-2", ""]), typed(["1", "02"]), typed(["0.5", "2.50"]), typed(["1.1", "1.10"]), typed(["1e5"])
    ([1, -2, None], ['1', '02'], [0.5, 2.5], ['1.1', '1.10'], ['1e5'])
    """
    present = {value for value in values if value}
    for pattern, convert in ((r"0|-?[1-9][0-9]{0,17}", int), (r"-?(0|[1-9][0-9]{0,7})(\.[0-9]{1,7})?", float)):
        if present and all(re.fullmatch(pattern, value) for value in present):
            numbers = {value: convert(value) for value in present}
            if len(set(numbers.values())) == len(present):
                return [numbers.get(value) for value in values]
    return [value or None for value in values]
