"""Edits: what a user has set by hand, and which rows it belongs to.

An edit names a recording, windows of it, and values for columns. It wins over the metadata of the source. A row holds
the values with all edits applied, and in `source_values` what the source says in the edited columns.
"""

import bisect
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from embedx.store.records import Row

FIELDS = ("label", "group", "split")  # columns of every row that can be set; all others are metadata
MIN_OVERLAP = 0.5  # of the shorter of two windows, for an edit to pass from a window that is gone to a new one

Place = tuple[float, float, Any, str]  # start and end in seconds, channel, part of the recording; see `place_of`


@dataclass(frozen=True, slots=True)
class Edit:
    """Values that a user has set for windows of a recording, in one change.

    Attributes:
        change: a random token that all edits of one change share.
        made: when, as UTC time in ISO format; it grows from change to change.
        path: the recording.
        content_hash: its content when the edit was last applied.
        windows: the windows; None for the whole recording, with all windows that it ever gets.
        values: column -> value; None clears it.
        undoes: the change that this one takes back; it has no path and no values then.
    """

    change: str
    made: str
    path: str = ""
    content_hash: str = ""
    windows: frozenset[Place] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    undoes: str = ""


@dataclass
class LabelUpdate:
    """The result of `Collection.label` and `undo_label`.

    Attributes:
        rows: the number of rows with other values than before.
        change: the number of the change in `label_log`; 0 if nothing was set that was not set before.
        entries: (entry of the table, number of rows that it met).
        unknown: the entries of the table that met no row.
    """

    rows: int = 0
    change: int = 0
    entries: list[tuple[str, int]] = field(default_factory=list)

    @property
    def unknown(self) -> list[str]:
        """The entries of the table that met no row."""
        return [name for name, count in self.entries if not count]


def identity(edit: Edit) -> tuple[object, ...]:
    """Return what is the same in all copies of an edit, whatever the content of its recording is now."""
    return edit.change, edit.undoes, edit.path, edit.windows, json.dumps(dict(edit.values), sort_keys=True)


def place_of(row: Row, stretches: str) -> Place:
    """Return what identifies a row in its recording, also after the recording was embedded again.

    Args:
        row: the row.
        stretches: the parts of the recording as they are stored.

    >>> row = Row(1, "a.wav", 5.0, 10.0, None, None, None, (), {}, stretch=1)
    >>> place_of(row, "[[0.0, 5.0], [5.0, null]]"), place_of(row, "[]")
    ((5.0, 10.0, None, '[5.0, null]'), (5.0, 10.0, None, '#1'))
    """
    parts = json.loads(stretches)
    if isinstance(parts, list) and 0 <= row.stretch < len(parts):
        whole = parts[row.stretch] == [0.0, None]
        part = "" if whole else json.dumps(parts[row.stretch])
    else:
        part = f"#{row.stretch}"  # imported rows: several can have the same times
    return float(row.start_s), float(row.end_s), row.meta.get("channel"), part


def find_predecessors(old: Collection[Place], new: Sequence[Place]) -> list[list[Place]]:
    """Return, for each new window, the old windows that it continues; the nearest is the last.

    That is the same window. Otherwise it is a window with the same times, or else those windows that are gone and that
    overlap it by half of the shorter of the two.

    >>> find_predecessors([(0, 5, None, ""), (5, 8, None, "")], [(0, 5, None, ""), (5, 9, None, "")])
    [[(0, 5, None, '')], [(5, 8, None, '')]]
    """
    known, present = set(old), set(new)
    gone = sorted((place for place in known if place not in present), key=lambda place: place[:2])
    by_times: dict[tuple[Any, ...], list[Place]] = {}
    for place in gone:
        by_times.setdefault(place[:3], []).append(place)
    starts = [place[0] for place in gone]
    longest = max((place[1] - place[0] for place in gone), default=0.0)
    found = []
    for place in new:
        if place in known:
            found.append([place])
        elif place[:3] in by_times:
            found.append(by_times[place[:3]])
        else:
            first, last = bisect.bisect_left(starts, place[0] - longest), bisect.bisect_left(starts, place[1])
            shares = [(overlap(place, other), other) for other in gone[first:last] if other[2] == place[2]]
            found.append([other for share, other in sorted(shares, key=lambda pair: pair[0]) if share >= MIN_OVERLAP])
    return found


def overlap(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Return by which part of the shorter one two windows (start, end, ...) overlap.

    >>> overlap((0, 4), (3, 10)), overlap((0, 4), (4, 8))
    (0.25, 0.0)
    """
    shorter = min(one[1] - one[0], other[1] - other[0])
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(0.0, shared / shorter) if shorter > 0 else 0.0


def carry_over(edits: Iterable[Edit], places: Sequence[Place], known: Collection[Place]) -> list[Edit]:
    """Return edits for the new windows of a recording, copied from the edits of the windows that they continue.

    Args:
        edits: the edits of the recording.
        places: its windows now.
        known: its windows before; they have edits of their own, or none.
    """
    new = [place for place in places if place not in known]
    carried = []
    for edit in edits:
        if new and edit.windows and not edit.windows.issubset(places):
            predecessors = find_predecessors(edit.windows.union(known), new)
            windows = {place for place, old in zip(new, predecessors, strict=True) if edit.windows.intersection(old)}
            if added := windows - edit.windows:
                carried.append(replace(edit, windows=frozenset(added)))
    return carried


def find_undone(edits: Sequence[Edit]) -> set[str]:
    """Return the changes that were undone, and not restored by undoing that."""
    undone: set[str] = set()
    for edit in reversed(edits):
        if edit.undoes and edit.change not in undone:
            undone.add(edit.undoes)
    return undone


def values_at(edits: Iterable[Edit], place: Place) -> dict[str, Any]:
    """Return column -> value of the edits of a recording at a window; a later edit wins."""
    values: dict[str, Any] = {}
    for edit in edits:
        if edit.windows is None or place in edit.windows:
            values.update(edit.values)
    return values


def value_of(row: Row, column: str) -> Any:
    """Return the value of a row in a column; None if it has none."""
    return getattr(row, column) if column in FIELDS else row.meta.get(column)


def with_values(row: Row, values: Mapping[str, Any]) -> Row:
    """Return a row with other values in some columns."""
    fields = {name: value for name, value in values.items() if name in FIELDS}
    meta = {name: value for name, value in values.items() if name not in FIELDS}
    return replace(row, **fields, meta={**row.meta, **meta})


def without_edits(row: Row) -> Row:
    """Return a row as its source describes it."""
    if not row.source_values:
        return row
    original = with_values(row, row.source_values)
    added = {name for name, value in row.source_values.items() if value is None}
    meta = {name: value for name, value in original.meta.items() if name not in added}
    return replace(original, meta=meta, source_values={})


def with_edits(row: Row, values: Mapping[str, Any]) -> Row:
    """Return a row with exactly these edited values; what the source says is kept in `source_values`."""
    original = without_edits(row)
    source_values = {name: value_of(original, name) for name in values}
    return replace(with_values(original, values), source_values=source_values)


def with_source(row: Row, values: Mapping[str, Any]) -> Row:
    """Return a row with new values of its source; edited columns keep the value of the edit."""
    edited = {name: value for name, value in values.items() if name in row.source_values}
    other = {name: value for name, value in values.items() if name not in row.source_values}
    return replace(with_values(row, other), source_values={**row.source_values, **edited})


def edited_values(row: Row) -> dict[str, Any]:
    """Return column -> value of the edited columns of a row."""
    return {name: value_of(row, name) for name in row.source_values}
