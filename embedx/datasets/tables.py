"""Tables that users give: CSV, JSON lines, Parquet, a list of paths or a pandas frame -> rows.

Text stays text: "001", "NA" and "1e5" are not converted. Every column is kept.
"""

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from embedx.audio.embedded import recording_names
from embedx.datasets.parquet import open_parquet_rows, refuse_twice
from embedx.datasets.text_rows import PART_ROWS, TextRows, open_text_rows
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
        UsageError: the file does not exist, or is not a regular file.
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
    """Parse a Parquet file; see `open_parquet`."""
    columns, rows, audio = open_parquet(source, name)
    read = list(rows())
    return UserTable(name, columns, read, range(1, len(read) + 1), audio=audio)


def open_parquet(source: str | BinaryIO, name: str) -> tuple[list[str], Callable[[], Iterator[Row]], str | None]:
    """Return columns and rows of a Parquet file; recordings in a column {bytes, path} get the path FILE.parquet/NAME.

    Args:
        source: the absolute path, or an open file.
        name: the name of the table, for errors.

    Returns:
        The columns, a function that reads the rows from the first one on, and the column with recordings, if any.

    Raises:
        UsageError: the file cannot be read, or recordings are in a table that is not a file.
    """
    columns, read, audio = open_parquet_rows(source, name)
    names = recording_names(source) if audio else []
    if not isinstance(source, str) and any(names):
        raise UsageError(f"{name} contains recordings (column {audio}). Save it as a file and give the file.")
    folder = os.path.dirname(source) if isinstance(source, str) else ""

    def rows() -> Iterator[Row]:
        for number, row in enumerate(read(), start=1):
            if audio:
                inner = names[number - 1]
                row[audio] = (row[audio] or {}).get("path") if inner is None else f"{source}{os.sep}{inner}"
            require_unicode(row, f"Row {number} of {name}", folder, "Store the column as text, or remove it.")
            yield row

    return columns, rows, audio


def frame_table(frame: "pd.DataFrame", name: str = "the frame") -> UserTable:
    """Return the rows of a pandas frame, with None for missing values.

    Raises:
        UsageError: two columns have the same name.
    """
    columns = frame_columns(frame, name)
    rows = list(records(frame))
    return UserTable(name, columns, rows, range(1, len(rows) + 1))


def frame_columns(frame: "pd.DataFrame", name: str = "the frame") -> list[str]:
    """Return the columns of a pandas frame.

    Raises:
        UsageError: it is one column instead of a table, or two columns have the same name.
    """
    if not hasattr(frame, "columns"):
        raise UsageError(f"A table is a data frame with named columns, not a {type(frame).__name__}.")
    columns = [str(column) for column in frame]
    refuse_twice(columns, name)
    return columns


def records(frame: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """Yield the rows of a frame, with None for missing values."""
    for start in range(0, len(frame), PART_ROWS):
        part = frame.iloc[start : start + PART_ROWS]
        for row in part.astype(object).where(part.notna(), None).to_dict("records"):
            yield {str(name): value for name, value in row.items()}
