"""Labelling: set labels and metadata by hand. What was set stays, can be listed, and can be undone."""

import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedx.annotations.base import Annotation
from embedx.annotations.files import is_annotations, read_annotations
from embedx.annotations.joining import join_same_times
from embedx.annotations.recordings import Recordings
from embedx.collection.label_table import (
    Entry,
    RowFinder,
    base_of,
    canonical,
    check_columns,
    read_rows,
    read_table,
    refuse_conflicts,
)
from embedx.datasets.column_types import typed
from embedx.errors import NothingToDo, UsageError
from embedx.filesystem.paths import display_path
from embedx.store.edits import FIELDS, MIN_OVERLAP, Edit, LabelUpdate, find_undone, place_of, value_of
from embedx.store.filters import TIMEOUT_S
from embedx.store.records import Row, group_by_path
from embedx.store.store import Store
from embedx.text import parse_pair


@dataclass(frozen=True)
class Selected:
    """Rows of one recording and the values to set in them."""

    rows: Sequence[Row]
    values: Mapping[str, Any]
    whole: bool = False  # also windows that the recording gets later


def label(
    folder: str | os.PathLike[str],
    table: Any = None,
    *,
    set: Mapping[str, Any] | None = None,
    where: str | None = None,
    timeout: float = TIMEOUT_S,
    overlap: float = MIN_OVERLAP,
    wait: bool = False,
) -> LabelUpdate:
    """Set label, group, split or metadata of rows, in one transaction.

    Give either `table` or `set`. What is set wins over the source, also when `extract` runs again or the file changes.

    Args:
        folder: the folder of the collection.
        table: a file or folder of annotations (Raven, Audacity, Label Studio, BirdNET, TextGrid, CSV with start and
            end), which set the windows that overlap them; or a CSV, TSV, Parquet or JSON lines file, or a data frame:
            the column `id` or `path` selects the rows; with `start_s` and `end_s` those windows of the recording that
            overlap this time, with `start_s` alone the windows that begin there. All other columns are set, except
            those whose name begins with "_". An empty cell changes nothing. Where entries differ about a row, the one
            with the nearest times wins, then the last.
        set: column -> value for all selected rows; None or "" deletes the value.
        where: an SQL condition: only these rows are changed; default: all rows.
        timeout: seconds that the condition can take; default 30.
        overlap: the part, from 0 to 1, of the shorter of an entry and a window that must overlap; default 0.5.
        wait: wait while another process writes the collection, instead of raising LockedError.

    Returns:
        The number of changed rows, the number of rows that each entry met, and the entries that met no row.

    Raises:
        UsageError: a column cannot be set, the table has no column id or path, or the condition is invalid.
        NothingToDo: no entry of the table matches a row.
        LockedError: another process writes the collection, and `wait` is not set.
    """
    if (table is None) == (set is None):
        raise UsageError("Give either a table (with a column id or path) or values to set (--set COLUMN=VALUE).")
    if not 0 <= overlap <= 1:
        raise UsageError(f"overlap must be from 0 to 1, not {overlap}.")
    is_path = isinstance(table, (str, os.PathLike))
    annotated = read_annotations(table) if is_path and is_annotations(table) else None
    entries = [] if table is None or annotated is not None else read_table(table)
    if set is not None:
        check_columns(set)
    with Store(folder, write=True, wait=wait) as store:
        ids = None if where is None else store.filter(where, timeout).tolist()
        update = LabelUpdate()
        if set is not None:
            by_path = group_by_path(store.rows(ids))
            selected = [Selected(rows, canonical(set), where is None) for rows in by_path.values()]
        else:
            if annotated is not None:
                entries, unknown = entries_of(store, annotated)
                update.entries += [(f"path {name}", 0) for name in unknown]
            base = base_of(table)
            finder = RowFinder(store, read_rows(store, entries, ids, base), base, overlap)
            selected = select_by_table(finder, entries, update, whole=where is None)
        store_edits(store, selected, update)
    return update


def entries_of(store: Store, files: Sequence[tuple[str, Sequence[Annotation]]]) -> tuple[list[Entry], list[str]]:
    """Return the entries of annotations, and the recordings that they name and the store does not have.

    Raises:
        UsageError: a name belongs to several recordings.
        NothingToDo: no annotation is about a recording of the store.
    """
    annotations, unknown = Recordings(store.recordings()).resolve(files)
    if not annotations:
        first = f" The first is about {display_path(unknown[0])}." if unknown else " There are none."
        raise NothingToDo(f"No annotation is about a recording of {store.folder}.{first}")
    joined = join_same_times(annotations)
    known = dict.fromkeys(name for one in joined for name in one.columns() if name not in FIELDS)
    entries = [
        Entry(
            f"path {display_path(one.path)}, start_s {one.start_s:g}, end_s {one.end_s:g}",
            canonical({**known, **one.columns()}),
            path=one.path,
            start_s=one.start_s,
            end_s=one.end_s,
            where=one.place,
        )
        for one in joined
    ]
    return entries, unknown


def label_rows(
    folder: str | os.PathLike[str], values: Mapping[int, Mapping[str, Any]], *, wait: bool = False
) -> LabelUpdate:
    """Set label, group, split or metadata of single rows, each to values of its own, in one change.

    Args:
        folder: the folder of the collection.
        values: row id -> column -> value; None or "" deletes the value.
        wait: wait while another process writes the collection, instead of raising LockedError.

    Raises:
        UsageError: a column cannot be set, or there is no such row.
        LockedError: another process writes the collection, and `wait` is not set.
    """
    for new in values.values():
        check_columns(new)
    with Store(folder, write=True, wait=wait) as store:
        rows = {row.id: row for row in store.rows(list(values))}
        if missing := values.keys() - rows.keys():
            raise UsageError(f"There is no row {min(missing)} in {folder}.")
        selected = [Selected([rows[number]], canonical(new)) for number, new in values.items()]
        store_edits(store, selected, update := LabelUpdate())
    return update


def store_edits(store: Store, selected: Iterable[Selected], update: LabelUpdate) -> None:
    """Set values in rows, in one change, and note how many rows it has changed."""
    with store.snapshot():
        edits = make_edits(store, selected)
    if edits:
        update.rows = len(store.edit(edits))
        update.change = store.changes().index(edits[0].change) + 1


def select_by_table(finder: RowFinder, entries: Sequence[Entry], update: LabelUpdate, *, whole: bool) -> list[Selected]:
    """Return the rows of the entries of a table with their values; see `select_by_entries`.

    Raises:
        UsageError: two entries set different values for the same row.
        NothingToDo: no entry matches a row.
    """
    paths = {path: finder.find_path(path) or path for path in {entry.path for entry in entries}}
    refuse_conflicts(entries, paths)
    selected = select_by_entries(finder, entries, update, whole=whole)
    if not any(count for _, count in update.entries):
        name = update.unknown[0] if update.unknown else "missing: the table is empty"
        raise NothingToDo(f"No entry of the table matches a row of {finder.store.folder}. The first is {name}.")
    return selected


def select_by_entries(
    finder: RowFinder, entries: Sequence[Entry], update: LabelUpdate, *, whole: bool
) -> list[Selected]:
    """Return the rows of the entries of a table with their values, and note how many each entry met.

    The values for whole recordings come first, so that those for windows win.
    """
    recordings: list[Selected] = []
    ranks: dict[tuple[int, str], tuple[float, int]] = {}
    values: dict[int, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        found = finder.find(entry)
        update.entries.append((entry.name, len(found)))
        if whole and found and entry.id is None and entry.start_s is None:
            recordings.append(Selected([row for row, _ in found], entry.values, whole=True))
            continue
        for row, rank in found:
            for name, value in entry.values.items():
                if (rank, number) >= ranks.get((row.id, name), (0.0, 0)):
                    ranks[row.id, name] = rank, number
                    values.setdefault(row.id, {})[name] = value
    groups: dict[tuple[str, str], list[Row]] = {}
    for row_id, new in values.items():
        row = finder.rows[row_id]
        groups.setdefault((row.path, json.dumps(new, sort_keys=True)), []).append(row)
    return recordings + [Selected(rows, json.loads(new)) for (_, new), rows in groups.items()]


def make_edits(store: Store, selected: Iterable[Selected]) -> list[Edit]:
    """Return the edits that set values in rows, without those rows that were set to the same values before."""
    change, made = secrets.token_hex(8), store.next_time()
    selected = [one for one in selected if one.rows and one.values]
    recordings = store.recordings(list({one.rows[0].path: None for one in selected}))
    has_windows = store.recipe.window_s is not None
    single = set() if has_windows else store.single_rows([row.id for one in selected for row in one.rows])
    edits = []
    for one in selected:
        rows = [row for row in one.rows if not is_set(row, one.values)]
        recording = recordings.get(rows[0].path) if rows else None
        if recording is not None:
            whole = one.whole or (rows[0].id in single and "cut" not in recording.flags)
            windows = None if whole else frozenset(place_of(row, recording.stretches) for row in rows)
            edits.append(Edit(change, made, recording.path, recording.content_hash, windows, one.values))
    return edits


def is_set(row: Row, values: Mapping[str, Any]) -> bool:
    """Tell whether a user has set these values of a row before."""
    return all(name in row.source_values and value_of(row, name) == value for name, value in values.items())


@dataclass(frozen=True)
class LabelChange:
    """A call of `label` or `undo_label`.

    Attributes:
        number: the number of the change, from 1.
        made: when, as UTC time in ISO format.
        edits: the windows and their values.
        undone: whether it was undone.
        undoes: the number of the change that it undoes; 0 if it sets values.
    """

    number: int
    made: str
    edits: tuple[Edit, ...]
    undone: bool = False
    undoes: int = 0


def read_log(folder: str | os.PathLike[str]) -> list[LabelChange]:
    """Return all changes of labels and metadata that users have made, the oldest first.

    Args:
        folder: the folder of the collection.

    Raises:
        UsageError: there is no collection in the folder.
        StoreError: an edit is damaged.
    """
    with Store(folder) as store:
        return changes_of(store)


def changes_of(store: Store) -> list[LabelChange]:
    """Return the changes in the order in which they were stored."""
    with store.snapshot():
        edits, order = store.edits(), store.changes()
    numbers, undone = {change: number for number, change in enumerate(order, start=1)}, find_undone(edits)
    by_change: dict[str, list[Edit]] = {change: [] for change in order}
    for edit in edits:
        by_change[edit.change].append(edit)
    return [
        LabelChange(number, of[0].made, tuple(of), change in undone, numbers.get(of[0].undoes, 0))
        for number, (change, of) in enumerate(by_change.items(), start=1)
    ]


def undo_label(folder: str | os.PathLike[str], change: int | None = None, *, wait: bool = False) -> LabelUpdate:
    """Undo a change: its rows get the value of the change before, or that of the source.

    Undoing an undo sets the values again.

    Args:
        folder: the folder of the collection.
        change: the number of the change in the log; default: the last one that sets values and was not undone.
        wait: wait while another process writes the collection, instead of raising LockedError.

    Returns:
        The number of changed rows, and the number of the new change.

    Raises:
        UsageError: there is no such change, or it was undone before.
        NothingToDo: there is nothing to undo.
        LockedError: another process writes the collection, and `wait` is not set.
    """
    with Store(folder, write=True, wait=wait) as store:
        log = changes_of(store)
        if change is None:
            change = next((one.number for one in reversed(log) if not one.undone and not one.undoes), None)
            if change is None:
                raise NothingToDo(f"There is no change to undo in {folder}.")
        if not 1 <= change <= len(log):
            raise UsageError(f"There is no change {change}. `embedx label {folder} --log` lists 1 to {len(log)}.")
        if log[change - 1].undone:
            raise UsageError(f"The change {change} was undone before. Undo that change to set its values again.")
        undo = Edit(secrets.token_hex(8), store.next_time(), undoes=store.changes()[change - 1])
        return LabelUpdate(rows=len(store.edit([undo])), change=len(log) + 1)


def parse_set(pairs: Sequence[str]) -> dict[str, Any]:
    """Return column -> value of the texts COLUMN=VALUE; a number where the text can be restored from it.

    >>> parse_set(["species=owl", "fold=3"])
    {'species': 'owl', 'fold': 3}
    """
    return {name: typed([value])[0] for name, value in (parse_pair(pair, "--set", empty=True) for pair in pairs)}
