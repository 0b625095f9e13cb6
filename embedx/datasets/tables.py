"""Tables that users give: CSV, JSON lines, Parquet, a list of paths or a pandas frame -> rows.

Text stays text: "001", "NA" and "1e5" are not converted. Every column is kept.
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from embedx.audio.embedded import recording_names
from embedx.datasets.parquet import read_parquet_rows, refuse_twice
from embedx.datasets.text_rows import TextRows, open_text_rows
from embedx.datasets.text_tables import PATH_COLUMNS, require_unicode
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    import pandas as pd

PARQUET_MAGIC = b"PAR1"

Row = Mapping[str, Any]


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
    if is_parquet(file):
        return parse_parquet(os.path.abspath(file), display_path(os.fspath(file)))
    return text_table(open_text_rows(file, texts))


def is_parquet(file: str | os.PathLike[str]) -> bool:
    """Tell whether a file is Parquet.

    Raises:
        UsageError: there is no such file.
    """
    if not os.path.isfile(file):  # opening a named pipe would block
        raise UsageError(f"There is no file {display_path(os.fspath(file))}, or it is not a regular file.")
    with open(file, "rb") as handle:
        return handle.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


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
    return text_table(TextRows(lambda: io.BytesIO(data), name, folder, texts))


def text_table(rows: TextRows) -> UserTable:
    """Return all rows of a text file."""
    numbers, read = [], []
    for number, row in rows:
        numbers.append(number)
        read.append(row)
    return UserTable(rows.name, rows.columns, read, numbers, "Line")


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
