"""CSV and JSON lines, both ways."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from embedx.datasets.manifests import parse, typed
from embedx.errors import UsageError
from embedx.filesystem.atomic import whole_file
from embedx.formats.columns import FIXED, TEXTS, is_own, name_columns, own_record, record, to_cell
from embedx.formats.selection import Selection
from embedx.formats.table import Batch, Record, Table, from_records

DIGITS = "%.9g"  # nine digits name every float32


# writing ----------------------------------------------------------------------------------------------------------


def write_csv(out: Path, selection: Selection) -> None:
    """Write rows and their vectors of one view, a number to a column."""
    ((view, dim),) = selection.views.items()
    numbered = [f"v{i}" for i in range(dim)]
    columns = name_columns(selection.kinds(), numbered)
    with whole_file(out) as handle, csv_rows(handle, [*columns.values(), *numbered]) as write:
        for rows, matrices in selection.read():
            for row, vector in zip(rows, matrices[view].tolist(), strict=True):
                write([*cells(record(row, columns)), *map(DIGITS.__mod__, vector)])


@contextmanager
def csv_rows(handle: BinaryIO, columns: Sequence[str]) -> Iterator[Callable[[Sequence[str]], object]]:
    """Write the line with the names of the columns, and hand out what writes further lines."""
    text = io.TextIOWrapper(handle, encoding="utf-8", newline="")
    try:
        writer = csv.writer(text)
        writer.writerow([*FIXED, *columns])
        yield writer.writerow
        text.flush()
    finally:
        text.detach()


def cells(values: Mapping[str, Any]) -> list[str]:
    """Return the cells of a row."""
    return [to_cell(value, name in TEXTS) for name, value in values.items()]


def write_jsonl(out: Path, selection: Selection) -> None:
    """Write an object per row; the vector is called `vector`, or those of several views by their names."""
    keys = (
        dict.fromkeys(selection.views, "vector") if len(selection.views) == 1 else {one: one for one in selection.views}
    )
    columns = name_columns(selection.kinds(), keys.values())
    with whole_file(out) as handle:
        for rows, matrices in selection.read():
            for i, row in enumerate(rows):
                vectors = {key: matrices[view][i].tolist() for view, key in keys.items()}
                handle.write(json.dumps(record(row, columns) | vectors).encode() + b"\n")


# reading ----------------------------------------------------------------------------------------------------------


def read_csv(path: str, asked: Sequence[str]) -> Table:
    """Read rows with their vectors: a number to a column, or a JSON list in one."""
    columns, records = open_csv(path)
    table = from_records(path, columns, records, asked)
    return table if table.own else typed_table(table)


def open_csv(path: str) -> tuple[list[str], Callable[[], Iterator[Record]]]:
    """Return the columns of a CSV, and what reads its rows from the first one on."""
    with lines_of(path) as lines:
        header = next(lines, [])
    if not header or len(set(header)) < len(header):
        raise UsageError(f"{path} cannot be read as CSV: its first line must name every column, and each once.")

    def records() -> Iterator[Record]:
        own = is_own(header)
        with lines_of(path) as lines:
            for number, line in enumerate(itertools.islice(lines, 1, None), start=1):
                if len(line) != len(header):
                    raise UsageError(f"Row {number} of {path} has {len(line)} cells; there are {len(header)} columns.")
                row = dict(zip(header, line, strict=True))
                yield own_record(row) if own else {name: list_in(cell) for name, cell in row.items()}

    return header, records


@contextmanager
def lines_of(path: str) -> Iterator[Iterator[list[str]]]:
    """Open a CSV, or one with tabs, as lists of cells."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            separator = "\t" if "\t" in handle.readline() and not path.lower().endswith(".csv") else ","
            handle.seek(0)
            yield (line for line in csv.reader(handle, delimiter=separator, strict=True) if line)
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}.") from error


def list_in(cell: str) -> Any:
    """Return a list that is written as JSON; any other cell stays what it is.

    >>> list_in("[1, 2.5]"), list_in("[sic]")
    ([1, 2.5], '[sic]')
    """
    if cell.startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            pass
    return cell


def typed_table(table: Table) -> Table:
    """Return a table whose columns of text are numbers where nothing is lost by it; the metadata is kept in memory."""
    texts: dict[str, list[str]] = {name: [] for name in table.columns}
    for rows, _ in table.read():
        for name, values in texts.items():
            values.extend(one if isinstance(one, str) else json.dumps(one) for one in (row[name] for row in rows))
    columns = {name: typed(values) for name, values in texts.items()}

    def read() -> Iterator[Batch]:
        start = 0
        for rows, matrices in table.read():
            yield [{name: columns[name][start + i] for name in columns} for i in range(len(rows))], matrices
            start += len(rows)

    return replace(table, read=read)


def open_rows(metadata: Any) -> tuple[list[str], Callable[[], Iterator[Record]]]:
    """Return the columns and rows of a file without vectors; one that is no export is read into memory."""
    path = str(metadata)
    if path.lower().endswith(".csv"):
        columns, records = open_csv(path)
        if is_own(columns):
            return columns, records
    try:
        rows = parse(Path(path).read_bytes(), path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    return list(dict.fromkeys(name for row in rows for name in row)), lambda: iter(rows)


def read_jsonl(path: str, asked: Sequence[str]) -> Table:
    """Read an object per line, with the vector in one of its values."""

    def records() -> Iterator[Record]:
        with open(path, "rb") as handle:
            for number, line in enumerate(filter(bytes.strip, handle), start=1):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"Row {number} of {path} is no JSON: {error}.") from error
                if not isinstance(row, dict):
                    raise UsageError(f"Row {number} of {path} is no object: JSON lines hold one {{...}} to a line.")
                yield row

    first = itertools.islice(records(), 512)
    return from_records(path, list(dict.fromkeys(name for row in first for name in row)), records, asked)
