"""Upkeep: what is done to a collection after it was made: remove, label, compact, merge."""

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

KEYS = ("id", "path")  # columns of a table of labels that say which rows are meant
FIELDS = ("label", "group", "split")


def remove(folder: str | os.PathLike[str], where: str, *, wait: bool = False) -> int:
    """Delete the rows of a collection that meet a condition, and return how many; a recording goes with its last row.

    Raises:
        UsageError: the condition is wrong, or there is no collection.
        LockedError: another process writes, and `wait` is not set.
    """
    with Store(folder, write=True, wait=wait) as store:
        ids = store.filter(where).tolist()
        if ids:
            store.delete(ids)
    return len(ids)


@dataclass
class LabelUpdate:
    """What came of labelling: rows that were changed, and entries of the table that no row fits."""

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

    Args:
        folder: the collection.
        table: a CSV, TSV, Parquet or JSON lines file, or a pandas frame, with a column `id` or `path` (and, for one
            window of a recording, `start_s`); every other column is set, but for remarks, whose name begins with "_".
            An empty cell leaves what was there.
        set: instead, column -> value for all rows that are meant; None or "" takes a value away.
        where: the rows that `set` is for; all if it is not given. With a table: only these are changed.
        wait: wait for another writer instead of giving up.

    Raises:
        UsageError: a column that cannot be set, a table without id and path, or a wrong condition.
        NothingToDo: no entry of the table fits a row.
    """
    if (table is None) == (set is None):
        raise UsageError("Give a table (with a column id or path), or values to set (--set column=value).")
    if table is None:
        check_columns(set or {})
        changes: Sequence[Mapping[str, Any]] = [set or {}]
    else:
        changes = read_table(table)
    with Store(folder, write=True, wait=wait) as store:
        rows = {row.id: row for row in store.rows(None if where is None else store.filter(where).tolist())}
        done = LabelUpdate()
        changed: dict[int, Row] = {}
        places = {} if table is None else by_place(rows.values())
        for change in changes:
            meant = list(rows) if table is None else meant_by(change, rows, places, base_of(table))
            if not meant:
                done.unknown.append(name_of(change))
            for number in meant:
                changed[number] = with_values(changed.get(number, rows[number]), change, clear=table is None)
        if table is not None and not changed:
            raise NothingToDo(f"No entry fits a row of {folder}; the first is {done.unknown[0]}.")
        different = [row for number, row in changed.items() if row != rows[number]]
        if different:
            store.relabel(different)
        done.rows = len(different)
    return done


def read_table(table: Any) -> list[dict[str, Any]]:
    """Read a table of labels without its remarks, and see that it names rows."""
    if hasattr(table, "to_dict"):
        entries = records(table.reset_index() if table.index.name in KEYS else table)
    else:
        name = os.fspath(table)
        if not os.path.isfile(name):
            raise UsageError(f"There is no file {display_path(name)}.")
        entries = parse(Path(name).read_bytes(), display_path(name))
    entries = [{name: value for name, value in entry.items() if not name.startswith("_")} for entry in entries]
    columns = list(entries[0]) if entries else []
    key = next((name for name in KEYS if name in columns), None)
    if key is None:
        raise UsageError(
            f"The table has no column id or path, so its entries name no rows. Columns: {', '.join(columns)}."
        )
    check_columns([name for name in columns if name not in (*KEYS, "start_s", "end_s")])
    return entries


def check_columns(columns: Iterable[str]) -> None:
    """Refuse to set what the recording itself says."""
    names = list(columns)
    fixed = [name for name in names if name in RESERVED and name not in FIELDS]
    if fixed or not names:
        what = f"{', '.join(fixed)} cannot be set" if fixed else "There is no column to set"
        raise UsageError(f"{what}. Allowed are label, group, split and columns of your own.")


def by_place(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return path -> rows."""
    places: dict[str, list[Row]] = {}
    for row in rows:
        places.setdefault(row.path, []).append(row)
    return places


def meant_by(
    entry: Mapping[str, Any], rows: Mapping[int, Row], places: Mapping[str, Sequence[Row]], base: str
) -> list[int]:
    """Return the ids of the rows that an entry of a table names."""
    if entry.get("id") is not None:
        number = int(entry["id"]) if str(entry["id"]).isdigit() else -1
        return [number] if number in rows else []
    given = os.fspath(entry.get("path") or "")
    candidates = (given, os.path.abspath(given), os.path.normpath(os.path.join(base, given)))
    found = next((places[one] for one in candidates if one in places), ())
    start = entry.get("start_s")
    return [row.id for row in found if start is None or abs(row.start_s - float(start)) < 1e-6]


def base_of(table: Any) -> str:
    """Return the folder that relative paths of a table are taken from."""
    return os.getcwd() if hasattr(table, "to_dict") else os.path.dirname(os.path.abspath(os.fspath(table)))


def name_of(entry: Mapping[str, Any]) -> str:
    """Name an entry of a table in a message."""
    return ", ".join(
        f"{key} {display_path(str(entry[key]))}" for key in (*KEYS, "start_s") if entry.get(key) is not None
    )


def with_values(row: Row, values: Mapping[str, Any], *, clear: bool) -> Row:
    """Return a row with other labels and metadata; empty values are set only where `clear` says so."""
    values = {name: value for name, value in values.items() if clear or value not in (None, "")}
    fields: dict[str, Any] = {name: text(values[name]) for name in FIELDS if name in values}
    own = metadata({name: value for name, value in values.items() if name not in (*FIELDS, *KEYS, "end_s", "start_s")})
    return replace(row, **fields, meta={**row.meta, **{k: None if v == "" else v for k, v in own.items()}})


def compact(folder: str | os.PathLike[str], *, wait: bool = False) -> tuple[int, int]:
    """Give the space of deleted rows back to the disk; return the size in bytes before and after.

    Raises:
        DiskError: there is no room for the copy that is made meanwhile; nothing has changed then.
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
