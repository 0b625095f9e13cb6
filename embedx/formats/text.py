"""CSV and JSON lines. Export and import."""

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
from embedx.formats.columns import FIXED, TEXTS, decode_cells, is_export, name_columns, to_cell, to_record
from embedx.formats.format import Format
from embedx.formats.selection import Selection
from embedx.formats.table import BATCH_ROWS, Batch, Record, Table, TableSource, table_from_records

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
    return table if table.exported else typed_table(table)


def open_csv(path: str) -> tuple[list[str], Callable[[], Iterator[Record]]]:
    """Return the columns of a CSV, and a function that reads its rows from the first one on."""
    with csv_lines(path) as lines:
        header = next(lines, [])
    if not header or len(set(header)) < len(header):
        raise UsageError(f"{path} cannot be read as CSV: its first line must name every column exactly once.")

    def records() -> Iterator[Record]:
        exported = is_export(header)
        with csv_lines(path) as lines:
            for number, line in enumerate(itertools.islice(lines, 1, None), start=1):
                if len(line) != len(header):
                    raise UsageError(f"Row {number} of {path} has {len(line)} cells; there are {len(header)} columns.")
                row = dict(zip(header, line, strict=True))
                yield decode_cells(row) if exported else {name: parse_list(cell) for name, cell in row.items()}

    return header, records


@contextmanager
def csv_lines(path: str) -> Iterator[Iterator[list[str]]]:
    """Open a file with commas or tabs as lists of cells."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            separator = "\t" if "\t" in handle.readline() and not path.lower().endswith(".csv") else ","
            handle.seek(0)
            yield (line for line in csv.reader(handle, delimiter=separator, strict=True) if line)
    except csv.Error as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}.") from error


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


def typed_table(table: Table) -> Table:
    """Convert text columns to numbers where nothing is lost. The metadata is kept in memory."""
    texts: dict[str, list[str]] = {name: [] for name in table.columns}
    for rows, _ in table.read():
        for name, values in texts.items():
            values.extend(cell if isinstance(cell, str) else json.dumps(cell) for cell in (row[name] for row in rows))
    columns = {name: typed(values) for name, values in texts.items()}

    def read() -> Iterator[Batch]:
        start = 0
        for rows, matrices in table.read():
            yield [{name: columns[name][start + i] for name in columns} for i in range(len(rows))], matrices
            start += len(rows)

    return replace(table, read=read)


def open_rows(metadata: Any) -> tuple[list[str], Callable[[], Iterator[Record]]]:
    """Return the columns and rows of a file without vectors. Only an export is read in pieces."""
    path = str(metadata)
    if path.lower().endswith(".csv"):
        columns, records = open_csv(path)
        if is_export(columns):
            return columns, records
    try:
        rows = parse(Path(path).read_bytes(), path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    return list(dict.fromkeys(name for row in rows for name in row)), lambda: iter(rows)


def read_jsonl(source: TableSource) -> Table:
    """Open a file with one object per line, with the vector in one of its values.

    Raises:
        UsageError: a line is not an object, or there are no vectors.
    """

    def records() -> Iterator[Record]:
        with open(source.path, "rb") as handle:
            for number, line in enumerate(filter(bytes.strip, handle), start=1):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"Row {number} of {source.path} is not JSON: {error}.") from error
                if not isinstance(row, dict):
                    raise UsageError(
                        f"Row {number} of {source.path} is not an object. JSON lines have one {{...}} per line."
                    )
                yield row

    first = itertools.islice(records(), BATCH_ROWS)
    columns = list(dict.fromkeys(name for row in first for name in row))
    return table_from_records(source.path, columns, records, source.vectors)


CSV = Format("csv", write_csv, read_csv, single_view=True)
JSONL = Format("jsonl", write_jsonl, read_jsonl)
