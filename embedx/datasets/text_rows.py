"""Text rows: the rows of a CSV, JSON lines or a list of paths, one by one, so that no table is in memory as a whole."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, TextIO

from embedx.datasets.column_types import ColumnType
from embedx.datasets.text_tables import (
    PATH_COLUMNS,
    PROBE_BYTES,
    open_text,
    read_csv_rows,
    read_json_rows,
    refuse_other_file,
    require_unicode,
)
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import is_url

TEXT_COLUMNS = ("label", "group", "split")  # text, also if all values look like numbers
PART_ROWS = 1024  # that are converted together

Row = Mapping[str, Any]


class TextRows:
    """The rows of a text file: iterating yields the number of the line and column -> value, from the first row on.

    The constructor reads the file once, for its columns and their types. Columns of a CSV are numbers where nothing is
    lost; a column that has neither a name nor a value is left out. An empty cell is None.

    Args:
        open_file: opens the file.
        name: its name, for errors.
        folder: the folder at which relative paths start.
        texts: columns of a CSV that stay text, also if all values look like numbers.

    Raises:
        UsageError: the file cannot be read as a table; the message names the line and the column.
    """

    columns: Sequence[str]
    _read: Callable[[TextIO], Iterator[tuple[int, Row]]]

    def __init__(self, open_file: Callable[[], BinaryIO], name: str, folder: str, texts: Sequence[str]) -> None:
        self._open_file, self.name, self._folder = open_file, name, folder
        with self._open(is_first=True) as text:
            first = next((line for line in text if not line.isspace()), "").strip("\r\n")
            text.seek(0)
            if first.lstrip().startswith("{"):
                self._read = partial(read_json_rows, name=name)
                self.columns = list(dict.fromkeys(column for _, row in self._read(text) for column in row))
            elif is_url(first) or os.path.isfile(os.path.join(folder, first)):  # the output of `find`
                self._read, self.columns = paths, ["path"]
            else:
                kinds = learn_types(text, name, texts)
                self._read = partial(typed_rows, name=name, kinds=kinds)
                self.columns = list(kinds)

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        with self._open() as text:
            for number, row in self._read(text):
                require_unicode(row, f"Line {number} of {self.name}", self._folder)
                yield number, row

    @contextmanager
    def _open(self, is_first: bool = False) -> Iterator[TextIO]:
        """Open the file as text; the first time refuse other files."""
        with self._open_file() as file:
            if is_first:
                refuse_other_file(file.read(PROBE_BYTES), self.name)
                file.seek(0)
            with open_text(file, self.name) as text:
                yield text


def open_text_rows(file: str | os.PathLike[str], texts: Sequence[str]) -> TextRows:
    """Return the rows of a text file."""
    folder = os.path.dirname(os.path.abspath(file))
    return TextRows(lambda: open(file, "rb"), display_path(os.fspath(file)), folder, texts)


def paths(text: TextIO) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a list of paths."""
    for number, line in enumerate(text, start=1):
        if path := line.rstrip("\r\n"):
            yield number, {"path": path}


def learn_types(text: TextIO, name: str, texts: Sequence[str]) -> dict[str, type]:
    """Return column -> type of a CSV: int, float or str."""
    columns, rows = read_csv_rows(text, name)
    path_column = next((column for column in PATH_COLUMNS if column in columns), None)
    kept = {path_column, *TEXT_COLUMNS, *texts}
    types = {column: ColumnType(column in kept) for column in columns}
    cells = (cells for _, cells in rows)
    while part := list(itertools.islice(cells, PART_ROWS)):
        for column, values in zip(types.values(), zip(*part, strict=True), strict=True):
            column.add(values)
    return {
        name: column.kind()
        for i, (name, column) in enumerate(types.items())
        if column.has_values or name != f"Unnamed: {i}"
    }


def typed_rows(text: TextIO, name: str, kinds: Mapping[str, type]) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a CSV with values of the types of their columns; other columns are left out."""
    columns, rows = read_csv_rows(text, name)
    places = [(columns.index(column), column, kind) for column, kind in kinds.items()]
    for number, cells in rows:
        yield number, {column: kind(cells[i]) if cells[i] else None for i, column, kind in places}
