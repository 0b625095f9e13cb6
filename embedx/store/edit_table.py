"""EditTable: the table of edits. Nothing is changed or deleted in it, except where a recording is and what it holds."""

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from embedx.errors import StoreError
from embedx.store.checksums import with_ids
from embedx.store.edits import (
    Edit,
    Place,
    carry_over,
    edited_values,
    find_undone,
    place_of,
    values_at,
    with_edits,
)
from embedx.store.reading import Reader, to_object
from embedx.store.records import Recording, Row, Vectors, group_by_path
from embedx.store.schema import SUMMED

NO_RECORDING = b""  # the path of an entry that undoes a change

Batch = Sequence[tuple[Recording, Sequence[tuple[Row, Vectors]]]]


class EditTable(Reader):
    """The methods of `Store` that change rows with their sums, and that read edits and apply them.

    Those that write are called inside a transaction.
    """

    def _sum(self, table: str, which: str, values: tuple[Any, ...] = ()) -> None:
        """Compute the checksums of new or changed rows of a table, and add them to the commit record."""
        new = self._query(
            f"UPDATE {table} SET checksum = checksum_of('{table}', {SUMMED[table]}) {which} RETURNING checksum", values
        )
        self._record.count(table, (checksum for (checksum,) in new))

    def _remove(self, table: str, which: str, values: tuple[Any, ...] = ()) -> None:
        """Delete rows of a table, and subtract their checksums, as they stand, from the commit record."""
        gone = self._query(f"DELETE FROM {table} {which} RETURNING checksum", values)
        self._record.count(table, (checksum for (checksum,) in gone), -1)

    @contextlib.contextmanager
    def _changing(self, table: str, which: str, values: tuple[Any, ...], check: bool = True) -> Iterator[None]:
        """Change rows of a table within this context: a damaged one is refused, and not given a new checksum."""
        if check:
            self._checked(table, which, values)
        before = self._query(f"SELECT checksum FROM {table} {which}", values)
        self._record.count(table, (checksum for (checksum,) in before), -1)
        yield
        self._sum(table, which, values)

    def edits(self) -> list[Edit]:
        """Return all edits, also those that were undone, the oldest first."""
        return [edit for _, edit in self._edits()]

    def next_time(self) -> str:
        """Return the UTC time of a new change; it is never before that of an earlier change."""
        self._compare("edits", keys=True)
        latest = self._query("SELECT max(made) FROM edits")[0][0] or ""
        return max(datetime.now(UTC).isoformat(timespec="microseconds"), str(latest))

    def changes(self) -> list[str]:
        """Return the tokens of all changes, in the order in which they were stored."""
        self._compare("edits", keys=True)
        return [change for (change,) in self._query("SELECT change FROM edits GROUP BY change ORDER BY min(id)")]

    @property
    def revision(self) -> int:
        """The number of changes that users have made to labels and metadata: that of the last one, 0 if none."""
        return self._once("revision", lambda: int(self._query("SELECT count(DISTINCT change) FROM edits")[0][0]))

    def single_rows(self, ids: Sequence[int]) -> set[int]:
        """Return those of some rows that are the only one of their recording."""
        self._compare("rows", keys=True)
        which, values = with_ids(ids)
        query = f"SELECT max(id) FROM rows WHERE recording IN (SELECT recording FROM rows {which}) GROUP BY recording"
        return {row_id for (row_id,) in self._query(f"{query} HAVING count(*) = 1", values)}

    def _edits(self, which: str = "", values: tuple[str | bytes, ...] = ()) -> list[tuple[int, Edit]]:
        """Return id and edit of the entries that meet an SQL condition, the oldest first."""
        entries = []
        self._compare("edits", keys=True)
        for number, change, made, undoes, path, content, windows, new_values in self._checked(
            "edits", f"{which} ORDER BY made, id", values
        ):
            try:
                places = None if windows == "null" else frozenset(map(to_place, json.loads(windows)))
                edit = Edit(change, made, os.fsdecode(path), content, places, to_object(new_values), undoes)
            except (ValueError, TypeError, RecursionError) as error:
                raise StoreError(f"{self.file} is damaged: the edit {number} cannot be read.") from error
            entries.append((number, edit))
        return entries

    def _undone(self) -> set[str]:
        """Return the changes that were undone."""
        return find_undone([edit for _, edit in self._edits("WHERE path = ?", (NO_RECORDING,))])

    def _undone_by(self, edits: Sequence[Edit]) -> list[Edit]:
        """Return the edits that some edits undo, or set again by undoing that."""
        changes = {edit.undoes for edit in edits} - {""}
        stored = self.edits() if changes else []
        for edit in reversed(stored):
            if edit.change in changes and edit.undoes:
                changes.add(edit.undoes)
        return [edit for edit in stored if edit.change in changes]

    def _insert_edits(self, edits: Sequence[Edit]) -> None:
        """Add edits to the table."""
        if not edits:
            return
        [(first,)] = self._query("SELECT coalesce(max(id), 0) + 1 FROM edits")
        self._db.executemany(
            'INSERT INTO edits (id, change, made, undoes, path, content_hash, windows, "values") '
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (first + i, edit.change, edit.made, edit.undoes, os.fsencode(edit.path), edit.content_hash,
                 json.dumps(None if edit.windows is None else sorted(edit.windows, key=str)),
                 json.dumps(dict(edit.values)))
                for i, edit in enumerate(edits)
            ),
        )  # fmt: skip
        self._sum("edits", "WHERE id >= ?", (first,))

    def _rows_with_edits(self, batch: Batch) -> Batch:
        """Return recordings that are about to be stored, with the edits of their rows applied."""
        if not self._query("SELECT EXISTS (SELECT 1 FROM edits)")[0][0]:
            return batch
        paths, undone = {recording.path for recording, _ in batch}, self._undone()
        return [
            (recording, rows if recording.reason else self._apply_to_new(recording, rows, paths, undone))
            for recording, rows in batch
        ]

    def _apply_to_new(
        self, recording: Recording, rows: Sequence[tuple[Row, Vectors]], paths: Collection[str], undone: set[str]
    ) -> Sequence[tuple[Row, Vectors]]:
        """Return the rows of a recording that is about to be stored, with its edits applied."""
        old = self.recordings([recording.path]).get(recording.path)
        entries = self._find_edits(recording, old, paths)
        if not entries:
            return rows
        before = self.rows(paths=[recording.path])
        known = set() if old is None else {place_of(row, old.stretches) for row in before}
        places = [place_of(row, recording.stretches) for row, _ in rows]
        carried = carry_over([edit for _, edit in entries], places, known)
        self._bind([number for number, _ in entries], recording)
        path, content = recording.path, recording.content_hash
        self._insert_edits([replace(edit, path=path, content_hash=content) for edit in carried])
        edits = sorted([edit for _, edit in entries] + carried, key=lambda edit: edit.made)
        active = [edit for edit in edits if edit.change not in undone]
        return [
            (with_edits(row, {**edited_values(row), **values_at(active, place)}), vectors)
            for (row, vectors), place in zip(rows, places, strict=True)
        ]

    def _find_edits(
        self, recording: Recording, old: Recording | None, paths: Collection[str]
    ) -> list[tuple[int, Edit]]:
        """Return the edits of a recording: those of its path, or of its content if it was elsewhere before.

        A path can have edits of an earlier file, which another file has replaced; these do not count.
        """
        at_path = self._edits("WHERE path = ?", (os.fsencode(recording.path),))
        if old is not None and not old.reason:
            return [entry for entry in at_path if entry[1].content_hash == old.content_hash]
        same = [entry for entry in at_path if entry[1].content_hash == recording.content_hash]
        if not same and recording.content_hash:
            elsewhere = self._edits(
                "WHERE content_hash = ? AND path NOT IN (SELECT path FROM recordings)", (recording.content_hash,)
            )
            same = [entry for entry in elsewhere if entry[1].path not in paths]
        return same or [entry for entry in at_path if entry[1].content_hash == at_path[-1][1].content_hash]

    def _bind(self, numbers: Sequence[int], recording: Recording) -> None:
        """Store the new path and content of the recording of some edits."""
        which, values = with_ids(numbers)
        with self._changing("edits", which, values):
            place = os.fsencode(recording.path), recording.content_hash
            self._db.execute(f"UPDATE edits SET path = ?, content_hash = ? {which}", (*place, *values))

    def _apply_to_stored(self, paths: Sequence[str], columns: Collection[str], carry: Collection[str]) -> list[Row]:
        """Return the stored rows of recordings that change when their edits of some columns are applied.

        Args:
            paths: the recordings.
            columns: the columns whose edits have changed.
            carry: the changes that can be of another version of the recording, with other windows.
        """
        changed, undone, recordings = [], self._undone(), self.recordings(paths)
        numbers = self._numbers(recordings)
        edits: dict[str, list[Edit]] = {path: [] for path in recordings}
        which, values = with_ids(numbers)
        for _, edit in self._edits(f"WHERE path IN (SELECT path FROM recordings {which})", values):
            if edit.content_hash == recordings[edit.path].content_hash:
                edits[edit.path].append(edit)
        rows = group_by_path(self.each_row(*with_ids(numbers, "recording")))
        for path, rows_of_path in rows.items():
            places = [place_of(row, recordings[path].stretches) for row in rows_of_path]
            carried = carry_over([edit for edit in edits[path] if edit.change in carry], places, ())
            self._insert_edits(carried)
            active = [edit for edit in edits[path] + carried if edit.change not in undone]
            active.sort(key=lambda edit: edit.made)
            changed += change_rows(rows_of_path, places, active, columns)
        return changed


def to_place(stored: Sequence[Any]) -> Place:
    """Return the window of a stored edit; ValueError if it is not one."""
    start_s, end_s, channel, part = stored
    if not (isinstance(start_s, (int, float)) and isinstance(end_s, (int, float)) and isinstance(part, str)):
        raise ValueError(f"{stored!r} is no window")
    return start_s, end_s, channel, part


def change_rows(
    rows: Sequence[Row], places: Sequence[Place], edits: Sequence[Edit], columns: Collection[str]
) -> list[Row]:
    """Return those rows that change when edits are applied in some columns; other edited columns stay."""
    changed = []
    for row, place in zip(rows, places, strict=True):
        kept = {name: value for name, value in edited_values(row).items() if name not in columns}
        new = {name: value for name, value in values_at(edits, place).items() if name in columns}
        if (edited := with_edits(row, {**kept, **new})) != row:
            changed.append(edited)
    return changed
