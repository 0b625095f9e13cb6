"""Manifests: a table of recordings in CSV, TSV, Parquet or JSON lines -> items.

Text stays text: "001", "NA" and "1e5" are not converted. Every column is kept.
"""

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedx.datasets.items import Item, text
from embedx.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "audio", "audio_path")
START_COLUMNS, END_COLUMNS = ("start_s", "start"), ("end_s", "end")
FIELDS = ("path", "start_s", "end_s", "label", "group", "split")  # columns that become fields of the item
RESERVED = (*FIELDS, "id", "duration_s", "flags")  # columns that rows() adds

Row = Mapping[str, Any]


def read_rows(rows: Sequence[Row], root: str) -> list[Item]:
    """Return the rows of a manifest as items.

    Args:
        rows: column -> value of each row.
        root: the folder at which relative paths start.

    Raises:
        UsageError: there is no column with paths, a row has no path, or a time is invalid.
    """
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    path_column = next((name for name in PATH_COLUMNS if name in columns), None)
    if path_column is None:
        raise UsageError(
            f"The manifest has no column with paths (one of {', '.join(PATH_COLUMNS)}). Columns: {', '.join(columns)}."
        )
    return [read_row(row, number, path_column, root) for number, row in enumerate(rows, start=1)]


def read_row(row: Row, number: int, path_column: str, root: str) -> Item:
    """Return one row of a manifest as an item; `number` counts from 1."""
    if not row.get(path_column):
        raise UsageError(f"Row {number} of the manifest has no value in column {path_column}.")
    path = os.path.normpath(os.path.join(root, os.fspath(row[path_column])))
    label = text(row.get("label"))
    return Item(
        path,
        start_s=seconds(row, START_COLUMNS, number) or 0.0,
        end_s=seconds(row, END_COLUMNS, number),
        label=label,
        group=text(row.get("group")),
        split=text(row.get("split")),
        meta=metadata(row),
        label_origin="column label" if label else "",
    )


def parse(data: bytes, name: str) -> list[dict[str, Any]]:
    """Parse a table. Its content tells whether it is Parquet, JSON lines, CSV, TSV, or a plain list of paths.

    Args:
        data: the bytes of the table.
        name: the name of the file, for the error.

    Raises:
        UsageError: the table cannot be read.
    """
    import pandas as pd

    try:
        if data[:4] == b"PAR1":
            return records(pd.read_parquet(io.BytesIO(data)))
        content = data.decode("utf-8-sig", "surrogateescape")
        first = content.lstrip().split("\n", 1)[0].rstrip("\r")
        if first.startswith("{"):
            return [json.loads(line) for line in content.split("\n") if line.strip()]
        if first and os.path.isfile(first):  # the output of `find`
            return [{"path": line.rstrip("\r")} for line in content.split("\n") if line.strip()]
        separator = "\t" if "\t" in first else ","
        frame = pd.read_csv(io.StringIO(content), sep=separator, dtype=object, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas, pyarrow and json raise subclasses of ValueError
        raise UsageError(f"{name} cannot be read as a table: {error}") from error
    columns = {str(column): typed([str(value) for value in frame[column]]) for column in frame}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a frame, with None for missing values."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def typed(values: list[str]) -> list[Any]:
    """Convert a column of text to numbers if nothing is lost, and empty cells to None.

    >>> typed(["1", "-2", ""]), typed(["1", "02"]), typed(["0.5", "2.50"]), typed(["1.1", "1.10"]), typed(["1e5"])
    ([1, -2, None], ['1', '02'], [0.5, 2.5], ['1.1', '1.10'], ['1e5'])
    """
    present = {value for value in values if value}
    for pattern, convert in ((r"0|-?[1-9]\d{0,17}", int), (r"-?(0|[1-9]\d{0,7})(\.\d{1,7})?", float)):
        if present and all(re.fullmatch(pattern, value) for value in present):
            numbers = {value: convert(value) for value in present}
            if len(set(numbers.values())) == len(present):
                return [numbers.get(value) for value in values]
    return [value or None for value in values]


def seconds(row: Row, columns: Sequence[str], number: int) -> float | None:
    """Return the time in the first of these columns that has a value.

    Args:
        row: column -> value.
        columns: the names to try.
        number: the number of the row, from 1, for the error.

    Raises:
        UsageError: the value is not a finite time of at least 0 s.
    """
    value = next((row[name] for name in columns if row.get(name) is not None), None)
    try:
        time_s = None if value is None or value != value else float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Row {number} of the manifest: {value!r} is not a time in seconds.") from error
    if time_s is not None and not 0 <= time_s < float("inf"):
        raise UsageError(f"Row {number} of the manifest: {value!r} is not a time of at least 0 seconds.")
    return time_s


def metadata(row: Row) -> dict[str, Any]:
    """Return the columns that are not fields of the item, as values that JSON can hold."""
    return {renamed(str(name)): to_json_value(value) for name, value in row.items() if name not in FIELDS}


def renamed(column: str) -> str:
    """Return the name under which a column is stored; a name that rows() uses gets an underscore.

    >>> renamed("site"), renamed("id"), renamed("Label")
    ('site', 'id_', 'Label_')
    """
    return column + "_" if column.lower() in RESERVED and column not in FIELDS else column


def to_json_value(value: Any) -> Any:
    """Return a value as JSON can hold it: numbers, text, lists, objects; dates as ISO text, missing values as None."""
    if hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, (list, tuple)):
        return [to_json_value(element) for element in value]
    if isinstance(value, dict):
        return {str(key): to_json_value(element) for key, element in value.items()}
    return text(value.isoformat() if hasattr(value, "isoformat") else value)
