"""EditTable: the table of edits. Nothing is changed or deleted in it, except where a recording is and what it holds."""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from embedx.store.changes import Changes
from embedx.store.checksums import LISTED, listed
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
from embedx.store.records import Recording, Row, Vectors

OF_PATH = "WHERE recording = (SELECT id FROM recordings WHERE path = ?)"
MAX_PATHS = 500  # in one statement; SQLite takes 32 766 values
NO_RECORDING = b""  # the path of an entry that undoes a change

Batch = Sequence[tuple[Recording, Sequence[tuple[Row, Vectors]]]]


class StoredContent(NamedTuple):
    """What is stored of the content of a recording."""

    content_hash: str
    stretches: str
    failed: bool
    is_one_row: bool  # it has a single row, and was not too long for one


class EditTable(Changes):
    """The methods of `Store` that read edits and apply them; those that write are called inside a transaction."""

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
        return int(self._query("SELECT count(DISTINCT change) FROM edits")[0][0])

    def stored_content(self, path: str) -> StoredContent | None:
        """Return what is stored of the content of a recording; None if it is not stored."""
        return self.stored_contents([path]).get(path)

    def stored_contents(self, paths: Sequence[str]) -> dict[str, StoredContent]:
        """Return what is stored of the content of recordings, by path, without those that are not stored."""
        contents = {}
        self._compare("rows", "recordings", keys=True)
        for names in blocks(paths):
            marks = ", ".join("?" * len(names))
            counts: dict[int, int] = dict(
                self._query(
                    "SELECT recording, count(*) FROM rows WHERE recording IN "
                    f"(SELECT id FROM recordings WHERE path IN ({marks})) GROUP BY recording",
                    names,
                )
            )
            for number, name, _, _, content, _, _, _, stretches, status, *_, flags, _ in self._checked(
                "recordings", f"WHERE path IN ({marks})", names
            ):
                is_one_row = counts.get(number) == 1 and "cut" not in flags.split(",")
                contents[os.fsdecode(name)] = StoredContent(content, stretches, status == "failed", is_one_row)
        return contents

    def _edits(self, which: str = "", values: tuple[str | bytes, ...] = ()) -> list[tuple[int, Edit]]:
        """Return id and edit of the entries that meet an SQL condition, the oldest first."""
        entries = []
        self._compare("edits", keys=True)
        for number, change, made, undoes, path, content, windows, new_values in self._checked(
            "edits", f"{which} ORDER BY made, id", values
        ):
            places = None if windows == "null" else frozenset((a, b, c, d) for a, b, c, d in json.loads(windows))
            edit = Edit(change, made, os.fsdecode(path), content, places, json.loads(new_values), undoes)
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
        old = self.stored_content(recording.path)
        entries = self._find_edits(recording, old, paths)
        if not entries:
            return rows
        before = self.each_row(OF_PATH, os.fsencode(recording.path))
        known = set() if old is None else {place_of(row, old.stretches) for row in before}
        places = [place_of(row, recording.stretches) for row, _ in rows]
        carried = carry_over([edit for _, edit in entries], places, known)
        self._bind([number for number, _ in entries], recording)
        self._insert_edits([replace_place(edit, recording) for edit in carried])
        edits = sorted([edit for _, edit in entries] + carried, key=lambda edit: edit.made)
        active = [edit for edit in edits if edit.change not in undone]
        return [
            (with_edits(row, {**edited_values(row), **values_at(active, place)}), vectors)
            for (row, vectors), place in zip(rows, places, strict=True)
        ]

    def _find_edits(
        self, recording: Recording, old: StoredContent | None, paths: Collection[str]
    ) -> list[tuple[int, Edit]]:
        """Return the edits of a recording: those of its path, or of its content if it was elsewhere before.

        A path can have edits of an earlier file, which another file has replaced; these do not count.
        """
        at_path = self._edits("WHERE path = ?", (os.fsencode(recording.path),))
        if old is not None and not old.failed:
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
        with self._changing("edits", f"WHERE id IN {LISTED}", (listed(numbers),)):
            self._db.execute(
                f"UPDATE edits SET path = ?, content_hash = ? WHERE id IN {LISTED}",
                (os.fsencode(recording.path), recording.content_hash, listed(numbers)),
            )

    def _apply_to_stored(self, paths: Iterable[str], columns: Collection[str], carry: Collection[str]) -> list[Row]:
        """Return the stored rows of recordings that change when their edits of some columns are applied.

        Args:
            paths: the recordings.
            columns: the columns whose edits have changed.
            carry: the changes that can be of another version of the recording, with other windows.
        """
        changed, undone = [], self._undone()
        for names in blocks(list(paths)):
            marks = ", ".join("?" * len(names))
            contents = self.stored_contents([os.fsdecode(name) for name in names])
            edits: dict[str, list[Edit]] = {path: [] for path in contents}
            for _, edit in self._edits(f"WHERE path IN ({marks})", names):
                if edit.path in contents and edit.content_hash == contents[edit.path].content_hash:
                    edits[edit.path].append(edit)
            rows: dict[str, list[Row]] = {path: [] for path in contents}
            which = f"WHERE recording IN (SELECT id FROM recordings WHERE path IN ({marks}))"
            for row in self.each_row(which, *names):
                rows[row.path].append(row)
            for path, stored in contents.items():
                places = [place_of(row, stored.stretches) for row in rows[path]]
                carried = carry_over([edit for edit in edits[path] if edit.change in carry], places, ())
                self._insert_edits(carried)
                active = [edit for edit in edits[path] + carried if edit.change not in undone]
                active.sort(key=lambda edit: edit.made)
                changed += change_rows(rows[path], places, active, columns)
        return changed


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


def blocks(paths: Sequence[str]) -> Iterator[tuple[bytes, ...]]:
    """Yield paths as the store holds them, as many at a time as one statement takes."""
    for start in range(0, len(paths), MAX_PATHS):
        yield tuple(os.fsencode(path) for path in paths[start : start + MAX_PATHS])


def replace_place(edit: Edit, recording: Recording) -> Edit:
    """Return an edit for a recording with another path or content."""
    return replace(edit, path=recording.path, content_hash=recording.content_hash)
