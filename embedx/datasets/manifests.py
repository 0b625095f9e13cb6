"""Manifests: a table of recordings -> items."""

import math
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Integral
from typing import Any

from embedx.datasets.items import Item, text
from embedx.datasets.tables import Row, UserTable
from embedx.datasets.text_tables import PATH_COLUMNS
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import join

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
START_COLUMNS, END_COLUMNS = ("start_s", "start"), ("end_s", "end")
FIELDS = ("path", "start_s", "end_s", "label", "group", "split")  # columns that become fields of the item
RESERVED = (*FIELDS, "id", "duration_s", "flags")  # columns that rows() adds
MAX_TIME_S = 2**40  # 35 000 years; a larger time cannot be counted in samples
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_rows(table: UserTable, root: str) -> list[Item]:
    """Return the rows of a manifest as items.

    Args:
        table: the manifest.
        root: the folder at which relative paths start.

    Raises:
        UsageError: there is no column with paths, or a row has no path or an invalid time; the message names the line.
    """
    column = table.path_column
    if column is None:
        names = ", ".join(map(display_path, table.columns))
        raise UsageError(
            f"{table.name} has no column with paths (one of {', '.join(PATH_COLUMNS)}). Its columns: {names}. If its "
            "first line is not a header, add one."
        )
    fields = {*FIELDS, table.audio} - {"path"} if table.audio else FIELDS  # a path next to recordings is metadata
    stored = stored_names(table.columns, fields)
    return [read_row(row, table.place(i), column, stored, root) for i, row in enumerate(table.rows)]


def read_row(row: Row, place: str, path_column: str, names: Mapping[str, str], root: str) -> Item:
    """Return one row of a manifest as an item.

    Args:
        row: column -> value.
        place: the line of the row, for errors.
        path_column: the column with the path.
        names: column -> name under which its values are stored.
        root: see `read_rows`.
    """
    entry = parse_path(row.get(path_column), f"{place}, column {path_column}", root)
    try:
        path = join(root, entry)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error
    start_s, end_s = read_times(row, place)
    label, group, split = (
        parse_label(row.get(name), f"{place}, column {name}") for name in ("label", "group", "split")
    )
    return Item(
        path,
        start_s=start_s or 0.0,
        end_s=end_s,
        label=label,
        group=group,
        split=split,
        meta=metadata(row, names),
        label_origin="column label" if label else "",
        place=place,
    )


def parse_path(value: Any, place: str, root: str) -> str:
    """Return the path in a cell: its text, or that in {path: ...}; spaces around it are dropped if no file has them.

    Args:
        value: the cell.
        place: the line and the column, for errors.
        root: the folder at which relative paths start.

    Raises:
        UsageError: it is empty or not text, or holds the bytes of a recording.
    """
    if isinstance(value, Mapping) and set(value) >= {"path"} and not value.get("bytes"):
        value = value["path"]
    if isinstance(value, Mapping):
        raise UsageError(f"{place}: it is an object without a path. Recordings as bytes are read from a Parquet file.")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise UsageError(f"{place}: there is no path.")
    if not isinstance(value, str):
        raise UsageError(f"{place}: {shorten(value)} is not a path. Write paths as text (in JSON in quotes).")
    if "\0" in value:
        raise UsageError(f"{place}: the path has a NUL byte.")
    bare = value.strip()
    is_padded = bare != value and not os.path.lexists(os.path.join(root, value))
    return bare if is_padded and os.path.lexists(os.path.join(root, bare)) else value


def parse_label(value: Any, place: str) -> str | None:
    """Return a label, group or split as text; None if there is none.

    Raises:
        UsageError: it is a list or an object.
    """
    if hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    if isinstance(value, (list, tuple, set, Mapping)):
        raise UsageError(f"{place}: {shorten(value)} is not text. A row has one value here; write it as text.")
    return text(value)


def read_times(row: Row, place: str) -> tuple[float | None, float | None]:
    """Return the start and the end that a row gives.

    Raises:
        UsageError: a time is invalid, or the end is not after the start.
    """
    start_s, end_s = seconds(row, START_COLUMNS, place), seconds(row, END_COLUMNS, place)
    if end_s is not None and end_s <= (start_s or 0.0):
        raise UsageError(f"{place}: the end ({end_s:g} s) is not after the start ({start_s or 0.0:g} s).")
    return start_s, end_s


def seconds(row: Row, columns: Sequence[str], place: str) -> float | None:
    """Return the time in the first of these columns that has a value.

    Args:
        row: column -> value.
        columns: the names to try.
        place: the line of the row, for errors.

    Raises:
        UsageError: the value is not a finite time of at least 0 s.
    """
    column = next((name for name in columns if not is_missing(row.get(name))), None)
    if column is None:
        return None
    value = row[column]
    time_s = math.nan
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        time_s = float(value)
    elif isinstance(value, (int, float, Decimal, Integral)) and not isinstance(value, bool):
        time_s = float(min(value, MAX_TIME_S))
    if not 0 <= time_s < MAX_TIME_S:
        raise UsageError(
            f"{place}, column {column}: {shorten(value)} is not a time of at least 0 seconds. Write a number with a "
            "decimal point, such as 1.5."
        )
    return time_s


def is_missing(value: Any) -> bool:
    """Tell whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def stored_names(columns: Iterable[str], fields: Collection[str | None] = FIELDS) -> dict[str, str]:
    """Return column -> the name under which its values are stored; a name that rows() uses gets underscores.

    Args:
        columns: the names of all columns.
        fields: columns that are stored elsewhere; they are left out.

    >>> stored_names(["path", "site", "id", "id_", "Label"])
    {'site': 'site', 'id': 'id__', 'id_': 'id_', 'Label': 'Label_'}
    """
    names = [name for name in columns if name not in fields]
    used = set(names)
    stored = {}
    for name in names:
        stored[name] = name
        while stored[name].lower() in RESERVED or (stored[name] != name and stored[name] in used):
            stored[name] += "_"
        used.add(stored[name])
    return stored


def renamed(column: str) -> str:
    """Return the name under which a column is stored if no other column has that name; see `stored_names`.

    >>> renamed("site"), renamed("id"), renamed("Label")
    ('site', 'id_', 'Label_')
    """
    return stored_names([column], fields=())[column] if column not in FIELDS else column


def metadata(row: Row, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the columns that are not fields of the item, as values that JSON can hold.

    Args:
        row: column -> value.
        names: column -> name under which its values are stored; None: those of `stored_names` for this row.
    """
    names = stored_names(row) if names is None else names
    return {names[column]: to_json_value(value) for column, value in row.items() if column in names}


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
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return text(value.isoformat() if hasattr(value, "isoformat") else value)


def shorten(value: Any) -> str:
    """Return a value for an error message, cut to 40 characters.

    >>> shorten("a"), shorten([1] * 100)
    ("'a'", '[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ...')
    """
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
