"""Label tables: each entry of a table -> the rows that it means, and the values to set."""

import bisect
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from embedx.datasets import tables
from embedx.datasets.conflicts import describe_conflicts
from embedx.datasets.items import text
from embedx.datasets.manifests import (
    END_COLUMNS,
    RESERVED,
    START_COLUMNS,
    is_missing,
    metadata,
    parse_label,
    parse_path,
    seconds,
    stored_names,
)
from embedx.datasets.sources import root_of
from embedx.datasets.text_tables import PATH_COLUMNS
from embedx.errors import StoreError, UsageError
from embedx.filesystem.paths import display_path
from embedx.formats.columns import unescape_path
from embedx.store.edits import FIELDS, overlap
from embedx.store.records import Row, group_by_path
from embedx.store.store import Store

TIME_TOLERANCE_S = 1e-6  # between a time in a label table and that of a row: the rounding of a time in a CSV file
ROW_ID = re.compile("[0-9]{1,18}")  # an int64 holds all of them
BY_ID = 2.0  # rank of an entry that names a row by its id; with times it is at most 1, for a whole recording 0


@dataclass(frozen=True)
class Entry:
    """One line of a label table.

    Attributes:
        name: how messages name it.
        values: column -> value to set.
        id: the row, if the entry names one.
        path: else the recording.
        start_s: the start; None for all windows of the recording.
        end_s: the end; None: the window that begins at `start_s`.
        where: its line in the file, for messages.
    """

    name: str
    values: Mapping[str, Any]
    id: int | None = None
    path: str = ""
    start_s: float | None = None
    end_s: float | None = None
    where: str = ""


def read_table(table: Any) -> list[Entry]:
    """Read a label table, without the columns whose name begins with "_".

    Raises:
        UsageError: the table cannot be read or does not select rows, a column cannot be set, or a time is invalid.
    """
    if isinstance(table, tables.UserTable):
        read = table
    elif hasattr(table, "to_dict"):
        read = tables.frame_table(table.reset_index() if table.index.name in ("id", *PATH_COLUMNS) else table)
    elif isinstance(table, str | os.PathLike):
        read = tables.read_table(table)
    else:
        raise UsageError(
            f"A label table is a file or a data frame with a column id or path, not {table!r:.80}. For values of your "
            'own use set= and where=, as in label(set={"label": "owl"}, where="id = 1").'
        )
    columns = [name for name in read.columns if not name.startswith("_")]
    path = next((name for name in PATH_COLUMNS if name in columns), None)
    if "id" in columns:
        path = "path" if "path" in columns else None  # other columns with such a name are metadata
    elif path is None:
        names = ", ".join(map(display_path, columns))
        raise UsageError(f"The table {read.name} has no column id or path to select rows. Its columns: {names}.")
    times = [next((name for name in names if name in columns), names[0]) for names in (START_COLUMNS, END_COLUMNS)]
    if path is None:
        times = [START_COLUMNS[0], END_COLUMNS[0]]
    keys = {"id", path, *times}
    own = [name for name in columns if name not in keys]
    check_columns(own)
    return [read_entry(row, read.place(i), path, times, own) for i, row in enumerate(read.rows)]


def read_entry(
    line: Mapping[str, Any], where: str, path: str | None, times: Sequence[str], own: Sequence[str]
) -> Entry:
    """Return a line of a label table.

    Args:
        line: column -> value.
        where: the line in the file, for errors.
        path: the column with the path, if there is one.
        times: the columns with the start and the end.
        own: the columns with values to set.
    """
    given = {name: line[name] for name in own if not is_missing(line.get(name)) and not is_empty(line[name])}
    given |= {name: parse_label(given[name], f"{where}, column {name}") for name in FIELDS if name in given}
    values = canonical(given, stored_names(own))
    start_s, end_s = (seconds(line, (name,), where) for name in times)
    if start_s is not None and end_s is not None and end_s < start_s:
        raise UsageError(f"{where}: the end ({end_s:g} s) is before the start ({start_s:g} s).")
    if not is_missing(line.get("id")) and not is_empty(line["id"]):
        row_id = str(line["id"]).strip().removesuffix(".0")
        return Entry(f"id {row_id}", values, int(row_id) if ROW_ID.fullmatch(row_id) else 0, where=where)
    value = line.get(path or "")
    place = "" if is_missing(value) or is_empty(value) else parse_path(value, f"{where}, column {path}", "")
    seconds_text = "" if start_s is None else f", start_s {start_s:g}" + ("" if end_s is None else f", end_s {end_s:g}")
    name = f"path {display_path(place)}{seconds_text}" if place else f"{where}, without id and path"
    return Entry(name, values, None, place, start_s if end_s is None else start_s or 0.0, end_s, where)


def is_empty(value: Any) -> bool:
    """Tell whether a value is an empty text."""
    return isinstance(value, str) and not value


def refuse_conflicts(entries: Iterable[Entry], paths: Mapping[str, str]) -> None:
    """Refuse entries that set different values for the same row, or the same part of a recording.

    Args:
        entries: the entries of a table.
        paths: path in the table -> stored path, so that `a.wav` and `./a.wav` are one recording.

    Raises:
        UsageError: the message counts the conflicts, and names their lines and columns.
    """
    first: dict[tuple[Any, ...], tuple[Any, Entry]] = {}
    conflicts = []
    for entry in entries:
        if entry.id is None and not entry.path:
            continue
        for column, value in entry.values.items():
            place = entry.id, paths.get(entry.path, entry.path), entry.start_s, entry.end_s
            old, other = first.setdefault((*place, column), (value, entry))
            if old != value:
                conflicts.append(f"{entry.name}: {column} is {old!r} ({other.where}) and {value!r} ({entry.where})")
    if conflicts:
        raise UsageError(describe_conflicts(conflicts, "A row has one value in each column."))


def check_columns(columns: Iterable[str]) -> None:
    """Refuse columns that cannot be set, since they come from the recording."""
    names = list(columns)
    fixed = [name for name in names if name in RESERVED and name not in FIELDS]
    if not all(map(str.strip, names)):
        raise UsageError("A column has no name. Give it one, or leave it out.")
    if fixed or not names:
        problem = f"{', '.join(fixed)} cannot be set" if fixed else "There is no column to set"
        raise UsageError(f"{problem}. Allowed are label, group, split and metadata columns.")


def canonical(values: Mapping[str, Any], names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return values as the store holds them; an empty text is None. `names` are those of `stored_names`."""
    fields: dict[str, Any] = {name: text(values[name]) for name in FIELDS if name in values}
    own = metadata({name: value for name, value in values.items() if name not in FIELDS}, names)
    return {**fields, **{name: None if value == "" else value for name, value in own.items()}}


class RowFinder:
    """Find the rows that an entry of a label table means.

    Args:
        store: the store.
        rows: the rows that may be changed.
        base: the folder of the table; see `read_rows`.
        share: the part of the shorter of an entry and a window that must overlap.
    """

    def __init__(self, store: Store, rows: Iterable[Row], base: str, share: float) -> None:
        self.store = store
        self.rows = {row.id: row for row in rows}
        self.share = share
        self.by_path = group_by_path(sorted(self.rows.values(), key=lambda row: (row.start_s, row.id)))
        self.starts = {path: [row.start_s for row in rows] for path, rows in self.by_path.items()}
        self.longest = {path: max(row.end_s - row.start_s for row in rows) for path, rows in self.by_path.items()}
        self.folders = folders_of(store, base)

    def find(self, entry: Entry) -> list[tuple[Row, float]]:
        """Return the rows of an entry, each with the rank of the entry: the higher one wins in a row.

        An entry with a start and an end means every window that it overlaps enough; the nearer the times are, the
        higher is its rank.

        Raises:
            UsageError: the path belongs to several recordings.
        """
        if entry.id is not None:
            return [(self.rows[entry.id], BY_ID)] if entry.id in self.rows else []
        path = self.find_path(entry.path)
        if path is None:
            return []
        rows, times = self.by_path[path], (entry.start_s, entry.end_s)
        if entry.start_s is None:
            return [(row, 0.0) for row in rows]
        if entry.end_s is None:
            return [(row, 1.0) for row in rows if abs(row.start_s - entry.start_s) < TIME_TOLERANCE_S]
        first = bisect.bisect_left(self.starts[path], entry.start_s - self.longest[path] - TIME_TOLERANCE_S)
        last = bisect.bisect_right(self.starts[path], entry.end_s + TIME_TOLERANCE_S)
        ranked = [(row, rank(row, times, self.share)) for row in rows[first:last]]
        return [(row, value) for row, value in ranked if value > 0]

    def find_path(self, path: str) -> str | None:
        """Return the stored path that a path in a table means; None if there is none."""
        for name in names_of(path):
            places, of_sources = places_of(name, *self.folders)
            if (place := next((place for place in places if place in self.by_path), None)) is not None:
                return place
            below = self.by_path.keys() & of_sources
            if len(below) > 1:
                raise UsageError(
                    f"The path {display_path(path)} in the table belongs to several recordings: "
                    f"{', '.join(map(display_path, sorted(below)))}. Give an absolute path."
                )
            if below:
                return below.pop()
        return None


def read_rows(store: Store, entries: Sequence[Entry], ids: Sequence[int] | None, base: str) -> list[Row]:
    """Return the rows that the entries of a table can mean.

    Args:
        store: the store.
        entries: the entries.
        ids: the ids of the rows that may be changed; None: all rows.
        base: the folder of the table; relative paths can start there, at the working folder, at the folder that holds
            all sources of the collection, or at one of the sources.
    """
    named = [entry.id for entry in entries if entry.id is not None]
    if ids is None and not named:
        folders = folders_of(store, base)
        names = {name for entry in entries for name in names_of(entry.path)}
        return store.rows(paths={place for name in names for places in places_of(name, *folders) for place in places})
    return store.rows(named if ids is None and len(named) == len(entries) else ids)


def folders_of(store: Store, base: str) -> tuple[list[str], list[str]]:
    """Return the folders where relative paths can start, and those of the single sources."""
    sources: list[str] = []
    with suppress(StoreError):  # `embedx verify` reports the damage
        sources = store.source_names()
    roots = [root for source in sources if (root := root_of([source])) is not None]
    bases = [base, os.getcwd(), *([root] if (root := root_of(sources)) else [])]
    return bases, [root for root in dict.fromkeys(roots) if root not in bases]


def places_of(name: str, bases: Sequence[str], roots: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the stored paths that a path can mean, the first ones first, and those below one of the sources."""
    below = [os.path.normpath(os.path.join(root, name)) for root in roots]
    return [name, *(os.path.normpath(os.path.join(base, name)) for base in bases)], below


def names_of(path: str) -> list[str]:
    """Return a path of a table as it is written, and without the escapes of control characters."""
    return list(dict.fromkeys((path, unescape_path(path)))) if path else []


def rank(row: Row, times: tuple[float | None, float | None], share: float) -> float:
    """Return how near the times of an entry are to those of a row, from 0 (too little overlap) to 1 (the same).

    That is the overlap divided by the time that both cover together. An entry without length means the windows that
    hold this moment.
    """
    start_s, end_s = times[0] or 0.0, times[1] or 0.0
    if max(abs(row.start_s - start_s), abs(row.end_s - end_s)) < TIME_TOLERANCE_S:
        return 1.0
    if end_s - start_s < TIME_TOLERANCE_S:
        return TIME_TOLERANCE_S if row.start_s <= start_s < row.end_s else 0.0
    part = overlap((row.start_s, row.end_s), (start_s, end_s))
    shared = min(row.end_s, end_s) - max(row.start_s, start_s)
    if shared < TIME_TOLERANCE_S or part < share - TIME_TOLERANCE_S:
        return 0.0
    return shared / (max(row.end_s, end_s) - min(row.start_s, start_s))


def base_of(table: Any) -> str:
    """Return the folder that relative paths of a label table start from."""
    return os.getcwd() if hasattr(table, "to_dict") else os.path.dirname(os.path.abspath(os.fspath(table)))
