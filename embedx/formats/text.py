"""CSV and JSON lines. Export and import."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from embedx.datasets.column_types import ColumnType
from embedx.datasets.tables import is_parquet, open_parquet
from embedx.datasets.text_rows import TEXT_COLUMNS, open_text_rows
from embedx.datasets.text_tables import (
    PATH_COLUMNS,
    PROBE_BYTES,
    is_export,
    open_text,
    read_csv_rows,
    read_json_rows,
    refuse_other_file,
    require_unicode,
)
from embedx.filesystem.atomic import whole_file
from embedx.filesystem.paths import display_path
from embedx.formats.columns import FIXED, TEXTS, decode_cells, name_columns, to_cell, to_record
from embedx.formats.format import Format
from embedx.formats.selection import Selection
from embedx.formats.table import Batch, Record, Table, TableSource, table_from_records

FLOAT_FORMAT = "%.9g"  # nine digits restore every float32 exactly


# writing ----------------------------------------------------------------------------------------------------------


def write_csv(out: Path, selection: Selection) -> None:
    """Write the rows and the vectors of one view, with one number per column."""
    ((view, dim),) = selection.views.items()
    numbered = [f"v{i}" for i in range(dim)]
    columns = name_columns(selection.kinds(), numbered)
    with whole_file(out) as handle, csv_rows(handle, [*columns.values(), *numbered]) as write_row:
        for rows, matrices in selection.read():
            for row, vector in zip(rows, matrices[view].tolist(), strict=True):
                write_row([*to_cells(to_record(row, columns, selection.root)), *map(FLOAT_FORMAT.__mod__, vector)])


@contextmanager
def csv_rows(handle: BinaryIO, columns: Sequence[str]) -> Iterator[Callable[[Sequence[str]], object]]:
    """Write the header `FIXED` and `columns`, and yield a function that writes one row of cells."""
    text = io.TextIOWrapper(handle, encoding="utf-8", newline="")
    try:
        writer = csv.writer(text)
        writer.writerow([*FIXED, *columns])
        yield writer.writerow
        text.flush()
    finally:
        text.detach()


def to_cells(record: Mapping[str, Any]) -> list[str]:
    """Encode the values of a row as cells."""
    return [to_cell(value, name in TEXTS) for name, value in record.items()]


def write_jsonl(out: Path, selection: Selection) -> None:
    """Write one object per row, with the key `vector`, or one key per view if there are several views."""
    views = list(selection.views)
    keys = {views[0]: "vector"} if len(views) == 1 else {view: view for view in views}
    columns = name_columns(selection.kinds(), keys.values())
    with whole_file(out) as handle:
        for rows, matrices in selection.read():
            for i, row in enumerate(rows):
                vectors = {key: matrices[view][i].tolist() for view, key in keys.items()}
                handle.write(json.dumps(to_record(row, columns) | vectors).encode() + b"\n")


# reading ----------------------------------------------------------------------------------------------------------


def read_csv(source: TableSource) -> Table:
    """Open a CSV with its vectors in one number per column, or as a JSON list in one column.

    Raises:
        UsageError: the file is not a valid CSV, or has no vectors.
    """
    columns, records = open_csv(source.path)
    table = table_from_records(source.path, columns, records, source.vectors)
    return table if table.exported else typed_table(table, source.texts)


def open_csv(path: str) -> tuple[list[str], Callable[[], Iterator[Record]]]:
    """Return the columns of a CSV, and a function that reads its rows from the first one on."""
    with open_table_text(path) as text:
        columns, _ = read_csv_rows(text, display_path(path))
    exported = is_export(columns)

    def records() -> Iterator[Record]:
        with open_table_text(path) as text:
            for number, cells in read_csv_rows(text, display_path(path))[1]:
                row = dict(zip(columns, cells, strict=True))
                require_unicode(row, f"Line {number} of {display_path(path)}", os.path.dirname(path))
                yield decode_cells(row) if exported else {name: parse_list(cell) for name, cell in row.items()}

    return columns, records


@contextmanager
def open_table_text(path: str) -> Iterator[TextIO]:
    """Open a text table; refuse other files."""
    with open(path, "rb") as file:
        refuse_other_file(file.read(PROBE_BYTES), display_path(path))
        file.seek(0)
        with open_text(file, display_path(path)) as text:
            yield text


def parse_list(cell: str) -> Any:
    """Return the list in a cell that holds a JSON list, and any other cell as it is.

    >>> parse_list("[1, 2.5]"), parse_list("[sic]")
    ([1, 2.5], '[sic]')
    """
    if cell.startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            pass
    return cell


def typed_table(table: Table, texts: Sequence[str]) -> Table:
    """Convert columns to numbers where nothing is lost, except paths, labels and `texts`."""
    kept = {*PATH_COLUMNS, *TEXT_COLUMNS, *texts}
    types = {name: ColumnType(name in kept) for name in table.columns}
    for rows, _ in table.read():
        for name, column in types.items():
            column.add(to_text(row[name]) for row in rows)
    kinds = {name: column.kind() for name, column in types.items()}

    def read() -> Iterator[Batch]:
        for rows, matrices in table.read():
            yield [{name: typed_value(row[name], kind) for name, kind in kinds.items()} for row in rows], matrices

    return replace(table, read=read)


def to_text(cell: Any) -> str:
    """Return the text of a cell; that of a list is JSON."""
    return cell if isinstance(cell, str) else json.dumps(cell)


def typed_value(cell: Any, kind: type) -> Any:
    """Return the value of a cell: a number or a text; None if it is empty."""
    return kind(text) if (text := to_text(cell)) else None


def open_rows(metadata: Any, texts: Sequence[str] = ()) -> tuple[Sequence[str], Callable[[], Iterator[Record]]]:
    """Return the columns and rows of a file without vectors."""
    path = os.fspath(metadata)
    if is_parquet(path):
        return open_parquet(os.path.abspath(path), display_path(path))[:2]
    if path.lower().endswith(".csv"):
        columns, records = open_csv(path)
        if is_export(columns):
            return columns, records
    rows = open_text_rows(path, texts)
    return rows.columns, lambda: (row for _, row in rows)


def read_jsonl(source: TableSource) -> Table:
    """Open a file with one object per line, with the vector in one of its values.

    Raises:
        UsageError: a line is not an object, or there are no vectors.
    """
    name = display_path(source.path)

    def records() -> Iterator[Record]:
        with open_table_text(source.path) as text:
            for number, row in read_json_rows(text, name):
                require_unicode(row, f"Line {number} of {name}", os.path.dirname(source.path))
                yield row

    columns = list(dict.fromkeys(name for row in records() for name in row))  # a later row can have more
    return table_from_records(source.path, columns, records, source.vectors)


CSV = Format("csv", write_csv, read_csv, single_view=True)
JSONL = Format("jsonl", write_jsonl, read_jsonl)
