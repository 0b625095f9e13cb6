"""Maintenance: remove rows, change labels, and give free space back to the disk."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from embedx.datasets.items import text
from embedx.datasets.manifests import RESERVED, metadata, parse, records, typed
from embedx.errors import NothingToDo, UsageError
from embedx.filesystem.paths import display_path
from embedx.store.records import Row
from embedx.store.store import Store
from embedx.text import parse_pair

KEYS = ("id", "path")  # columns of a label table that select rows
TIMES = ("start_s", "end_s")  # columns of a label table that select a window of a recording
FIELDS = ("label", "group", "split")  # columns of every row that can be changed
TIME_TOLERANCE_S = 1e-6  # between a time in a label table and that of a row: the rounding of a time in a CSV file


def remove(folder: str | os.PathLike[str], where: str, *, wait: bool = False) -> int:
    """Delete the rows of a collection that meet a condition. A recording is deleted with its last row.

    Args:
        folder: the folder of the collection.
        where: an SQL condition on the rows, such as "label = 'noise'".
        wait: wait while another process writes the collection, instead of raising LockedError.

    Returns:
        The number of deleted rows.

    Raises:
        UsageError: the condition is invalid, or there is no collection.
        LockedError: another process writes the collection, and `wait` is not set.
    """
    with Store(folder, write=True, wait=wait) as store:
        ids = store.filter(where).tolist()
        if ids:
            store.delete(ids)
    return len(ids)


@dataclass
class LabelUpdate:
    """The result of `label`: the number of changed rows, and the entries of the table that match no row."""

    rows: int = 0
    unknown: list[str] = field(default_factory=list)


def label(
    folder: str | os.PathLike[str],
    table: Any = None,
    *,
    set: Mapping[str, Any] | None = None,
    where: str | None = None,
    wait: bool = False,
) -> LabelUpdate:
    """Set label, group, split or metadata of rows, in one transaction.

    Give either `table` or `set`.

    Args:
        folder: the folder of the collection.
        table: a CSV, TSV, Parquet or JSON lines file, or a pandas data frame. The column `id` or `path` (for one window
            of a recording also `start_s`) selects the rows; all other columns are set, except those whose name begins
            with "_". An empty cell changes nothing.
        set: column -> value for all selected rows; None or "" deletes the value.
        where: an SQL condition: only these rows are changed; default: all rows.
        wait: wait while another process writes the collection, instead of raising LockedError.

    Returns:
        The number of changed rows, and the entries of the table that match no row.

    Raises:
        UsageError: a column cannot be set, the table has no column id or path, or the condition is invalid.
        NothingToDo: no entry of the table matches a row.
        LockedError: another process writes the collection, and `wait` is not set.
    """
    if (table is None) == (set is None):
        raise UsageError("Give either a table (with a column id or path) or values to set (--set COLUMN=VALUE).")
    changes = [set or {}] if table is None else read_table(table)
    if table is None:
        check_columns(set or {})
    with Store(folder, write=True, wait=wait) as store:
        rows = {row.id: row for row in store.rows(None if where is None else store.filter(where).tolist())}
        update = LabelUpdate()
        changed: dict[int, Row] = {}
        by_path = {} if table is None else rows_by_path(rows.values())
        for change in changes:
            ids = list(rows) if table is None else select_rows(change, rows, by_path, base_of(table))
            if not ids:
                update.unknown.append(name_of(change))
            for row_id in ids:
                changed[row_id] = with_values(changed.get(row_id, rows[row_id]), change, clear=table is None)
        if table is not None and not changed:
            raise NothingToDo(f"No entry of the table matches a row of {folder}. The first is {update.unknown[0]}.")
        different = [row for row_id, row in changed.items() if row != rows[row_id]]
        if different:
            store.relabel(different)
        update.rows = len(different)
    return update


def read_table(table: Any) -> list[dict[str, Any]]:
    """Read a label table, without the columns whose name begins with "_"; refuse one that does not select rows."""
    if hasattr(table, "to_dict"):
        entries = records(table.reset_index() if table.index.name in KEYS else table)
    else:
        name = os.fspath(table)
        if not os.path.isfile(name):
            raise UsageError(f"There is no file {display_path(name)}.")
        entries = parse(Path(name).read_bytes(), display_path(name))
    entries = [{name: value for name, value in entry.items() if not name.startswith("_")} for entry in entries]
    columns = list(entries[0]) if entries else []
    if not any(name in columns for name in KEYS):
        raise UsageError(f"The table has no column id or path to select rows. Its columns: {', '.join(columns)}.")
    check_columns([name for name in columns if name not in (*KEYS, *TIMES)])
    return entries


def check_columns(columns: Iterable[str]) -> None:
    """Refuse columns that cannot be set, since they come from the recording."""
    names = list(columns)
    fixed = [name for name in names if name in RESERVED and name not in FIELDS]
    if fixed or not names:
        problem = f"{', '.join(fixed)} cannot be set" if fixed else "There is no column to set"
        raise UsageError(f"{problem}. Allowed are label, group, split and metadata columns.")


def rows_by_path(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return path -> rows."""
    by_path: dict[str, list[Row]] = {}
    for row in rows:
        by_path.setdefault(row.path, []).append(row)
    return by_path


def select_rows(
    entry: Mapping[str, Any], rows: Mapping[int, Row], by_path: Mapping[str, Sequence[Row]], base: str
) -> list[int]:
    """Return the ids of the rows that an entry of a label table selects; `base` is the folder of relative paths."""
    if entry.get("id") is not None:
        row_id = str(entry["id"])
        return [int(row_id)] if row_id.isdigit() and int(row_id) in rows else []
    path = os.fspath(entry.get("path") or "")
    candidates = (path, os.path.abspath(path), os.path.normpath(os.path.join(base, path)))
    of_path = next((by_path[candidate] for candidate in candidates if candidate in by_path), ())
    start = entry.get("start_s")
    return [row.id for row in of_path if start is None or abs(row.start_s - float(start)) < TIME_TOLERANCE_S]


def base_of(table: Any) -> str:
    """Return the folder that relative paths of a label table start from."""
    return os.getcwd() if hasattr(table, "to_dict") else os.path.dirname(os.path.abspath(os.fspath(table)))


def name_of(entry: Mapping[str, Any]) -> str:
    """Return the name of an entry of a label table for a message."""
    return ", ".join(
        f"{key} {display_path(str(entry[key]))}" for key in (*KEYS, "start_s") if entry.get(key) is not None
    )


def with_values(row: Row, values: Mapping[str, Any], *, clear: bool) -> Row:
    """Return a row with other labels and metadata; empty values are used only with `clear`."""
    values = {name: value for name, value in values.items() if clear or value not in (None, "")}
    fields: dict[str, Any] = {name: text(values[name]) for name in FIELDS if name in values}
    own = metadata({name: value for name, value in values.items() if name not in (*FIELDS, *KEYS, *TIMES)})
    return replace(row, **fields, meta={**row.meta, **{k: None if v == "" else v for k, v in own.items()}})


def compact(folder: str | os.PathLike[str], *, wait: bool = False) -> tuple[int, int]:
    """Give the space of deleted rows back to the disk.

    Args:
        folder: the folder of the collection.
        wait: wait while another process writes the collection, instead of raising LockedError.

    Returns:
        The size of the store in bytes, before and after.

    Raises:
        DiskError: the disk has no room for the temporary copy; nothing has changed.
        LockedError: another process writes the collection, and `wait` is not set.
    """
    with Store(folder, write=True, wait=wait) as store:
        before = store.size()
        store.compact()
    with Store(folder) as store:
        return before, store.size()


def parse_set(pairs: Sequence[str]) -> dict[str, Any]:
    """Return column -> value of the texts COLUMN=VALUE; a number where the text can be restored from it.

    >>> parse_set(["species=owl", "fold=3"])
    {'species': 'owl', 'fold': 3}
    """
    return {name: typed([value])[0] for name, value in (parse_pair(pair, "--set", empty=True) for pair in pairs)}
