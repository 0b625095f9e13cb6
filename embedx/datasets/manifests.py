"""Manifests: a table of recordings in CSV, TSV, Parquet or JSON lines -> items.

Text stays text ("001", "NA" and "1e5" are kept as they are), and every column is kept.
"""

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedx.datasets.items import Item, text
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "audio", "audio_path")
START_COLUMNS, END_COLUMNS = ("start_s", "start"), ("end_s", "end")
FIELDS = ("path", "start_s", "end_s", "label", "group", "split")  # columns that become fields of the item
RESERVED = (*FIELDS, "id", "duration_s", "flags")

Row = Mapping[str, Any]


def read_rows(rows: Sequence[Row], root: str, trusted: bool = False) -> list[Item]:
    """Read the rows of a manifest. A relative path is taken from `root`, and may leave it only when `trusted`."""
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    path_column = next((name for name in PATH_COLUMNS if name in columns), None)
    if path_column is None:
        raise UsageError(
            f"The manifest has no column with paths (one of {', '.join(PATH_COLUMNS)}). Columns: {', '.join(columns)}."
        )
    items = []
    for number, row in enumerate(rows, start=1):
        if not row.get(path_column):
            raise UsageError(f"Row {number} of the manifest has no {path_column}.")
        given = os.fspath(row[path_column])
        path = os.path.normpath(os.path.join(root, given))
        leaves = not trusted and not os.path.isabs(given) and os.path.relpath(path, root).startswith(os.pardir + os.sep)
        items.append(
            Item(
                path,
                start_s=seconds(row, START_COLUMNS, number) or 0.0,
                end_s=seconds(row, END_COLUMNS, number),
                label=text(row.get("label")),
                group=text(row.get("group")),
                split=text(row.get("split")),
                meta=metadata(row),
                problem=f"{display_path(given)} leaves the folder of the manifest; an absolute path may."
                if leaves
                else "",
            )
        )
    return items


def parse(data: bytes, name: str) -> list[dict[str, Any]]:
    """Read a table from its bytes: Parquet, JSON lines, CSV, TSV, or a plain list of paths, told apart by content."""
    import pandas as pd

    try:
        if data[:4] == b"PAR1":
            return records(pd.read_parquet(io.BytesIO(data)))
        content = data.decode("utf-8-sig", "surrogateescape")
        first = content.lstrip().split("\n", 1)[0].rstrip("\r")
        if first.startswith("{"):
            return [json.loads(line) for line in content.split("\n") if line.strip()]
        if first and os.path.isfile(first):  # what `find` prints
            return [{"path": line.rstrip("\r")} for line in content.split("\n") if line.strip()]
        separator = "\t" if "\t" in first else ","
        frame = pd.read_csv(io.StringIO(content), sep=separator, dtype=object, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas, pyarrow and json raise kinds of ValueError
        raise UsageError(f"{name} cannot be read as a table: {error}") from error
    columns = {str(column): typed([str(value) for value in frame[column]]) for column in frame}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a frame, None where a value is missing."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def typed(values: list[str]) -> list[Any]:
    """Turn a column of text into numbers where nothing is lost by it, and empty cells into None.

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


def seconds(row: Row, names: Sequence[str], number: int) -> float | None:
    """Return the time in the first of these columns that is filled."""
    given = next((row[name] for name in names if row.get(name) is not None), None)
    try:
        value = None if given is None or given != given else float(given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Row {number} of the manifest: {given!r} is no time in seconds.") from error
    if value is not None and not 0 <= value < float("inf"):
        raise UsageError(f"Row {number} of the manifest: {given!r} is no time in seconds.")
    return value


def metadata(row: Row) -> dict[str, Any]:
    """Keep every column that is no field of the item, as values that JSON knows."""
    return {renamed(str(name)): plain(value) for name, value in row.items() if name not in FIELDS}


def renamed(column: str) -> str:
    """Return the name under which a column is kept: one that rows() has already gets an underscore.

    >>> renamed("site"), renamed("id"), renamed("Label")
    ('site', 'id_', 'Label_')
    """
    return column + "_" if column.lower() in RESERVED and column not in FIELDS else column


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: numbers, text, lists; dates become ISO text, missing ones None."""
    if hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return text(value.isoformat() if hasattr(value, "isoformat") else value)
