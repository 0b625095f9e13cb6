"""Writing a store: every change is one transaction, which also changes the checksums and the commit record."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from embedx.recipe import Recipe
from embedx.store.checksums import with_ids
from embedx.store.connections import wrap_errors
from embedx.store.edit_table import Batch, EditTable
from embedx.store.edits import Edit
from embedx.store.forks import FORKS
from embedx.store.lock import Lock
from embedx.store.records import Recording, Row, to_stored
from embedx.store.schema import SUMMED, create_vector_tables, write_record


class Writer(EditTable):
    """The methods of `Store` that change it."""

    _lock: Lock | None

    def start_run(self, settings: Mapping[str, Any]) -> int:
        """Store the settings of a run (sources, device, precision, versions), and return its id."""
        with self._transaction():
            [(run,)] = self._query("INSERT INTO runs (settings) VALUES (?) RETURNING id", (json.dumps(settings),))
            self._sum("runs", "WHERE id = ?", (run,))
        return int(run)

    def add(self, batch: Batch, run: int) -> None:
        """Store recordings with all their rows and vectors, in one transaction; existing recordings are replaced.

        The edits of a recording are applied to its new rows.
        """
        ids = [row.id for _, rows in batch for row, _ in rows]
        with self._transaction():
            tables = self._tables()
            batch = self._rows_with_edits(batch)
            numbers = self._insert_recordings([recording for recording, _ in batch], run)
            self._db.executemany(
                'INSERT INTO rows (id, recording, stretch, start_s, end_s, label, "group", split, flags, meta, '
                "source_values) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (row.id, number, row.stretch, row.start_s, row.end_s, row.label, row.group, row.split,
                     ",".join(row.flags), json.dumps(dict(row.meta)), json.dumps(dict(row.source_values)))
                    for number, (_, rows) in zip(numbers, batch, strict=True)
                    for row, _ in rows
                ),
            )  # fmt: skip
            for view, (table, _, kind) in tables.items():
                blobs = ((row.id, vectors[view].astype(kind).tobytes()) for _, rows in batch for row, vectors in rows)
                self._insert_vectors(table, blobs)
            self._sum("recordings", *with_ids(numbers))
            self._sum("rows", *with_ids(ids))
            self._store_columns(dict(row.meta) for _, rows in batch for row, _ in rows)
            self._grow(next_id=max(ids, default=0) + 1)

    def relabel(self, rows: Iterable[Row]) -> None:
        """Change label, group, split and metadata of existing rows to those of the source, in one transaction."""
        with self._transaction():
            self._relabel(list(rows))

    def edit(self, edits: Sequence[Edit], *, carry: bool = False) -> list[int]:
        """Store edits of the user and apply them to the rows, in one transaction.

        Args:
            edits: the edits. One with `undoes` takes an earlier change back.
            carry: also apply edits of windows that do not exist to the windows that continue them.

        Returns:
            The ids of the rows with other values than before.
        """
        with self._transaction():
            self._insert_edits(edits)
            affected = [*edits, *self._undone_by(edits)]
            paths = list(dict.fromkeys(edit.path for edit in affected if edit.path))
            columns = {name for edit in affected for name in edit.values}
            changes = {edit.change for edit in edits} if carry else set()
            rows = self._apply_to_stored(paths, columns, changes)
            self._relabel(rows)
        return [row.id for row in rows]

    def _relabel(self, rows: Sequence[Row]) -> None:
        """Store label, group, split and metadata of existing rows, inside a transaction."""
        values = [
            (row.label, row.group, row.split, json.dumps(dict(row.meta)), json.dumps(dict(row.source_values)), row.id)
            for row in rows
        ]
        with self._changing("rows", *with_ids(row.id for row in rows)):
            self._db.executemany(
                'UPDATE rows SET label = ?, "group" = ?, split = ?, meta = ?, source_values = ? WHERE id = ?', values
            )
        self._store_columns(dict(row.meta) for row in rows)

    def delete(self, ids: Sequence[int]) -> None:
        """Delete rows, in one transaction; a recording is deleted with its last row. Ids are never used again."""
        with self._transaction():
            which, values = with_ids(ids)
            recordings = self._query(f"SELECT DISTINCT recording FROM rows {which}", values)
            self._remove_rows(ids)
            which, values = with_ids(number for (number,) in recordings)
            self._remove(
                "recordings", f"{which} AND NOT EXISTS (SELECT 1 FROM rows WHERE recording = recordings.id)", values
            )
            self._grow()

    def forget(self, paths: Iterable[str]) -> None:
        """Delete recordings with all their rows, in one transaction."""
        with self._transaction():
            self._remove_recordings(self._numbers(paths))
            self._grow()

    def relink(self, moved: Mapping[str, Recording]) -> None:
        """Change path, size and time of change of recordings (old path -> new record), in one transaction.

        Files may have changed places. A recording at a new path that does not move itself is deleted.
        """
        elsewhere = {old: new for old, new in moved.items() if old != new.path}
        with self._transaction():
            numbers = {old: self._numbers([old]) for old in moved}
            edits = {
                old: self._edits("WHERE path = ? AND content_hash = ?", (os.fsencode(old), new.content_hash))
                for old, new in elsewhere.items()
            }
            if replaced := self._numbers(new.path for new in elsewhere.values() if new.path not in moved):
                self._remove_recordings(replaced)
                self._grow()
            for old, entries in edits.items():
                self._bind([number for number, _ in entries], moved[old])
            for old, new in elsewhere.items():
                if new.path in moved:
                    self._place(numbers[old], f"\0{old}", new)  # until its new path is free
            for old, new in moved.items():
                self._place(numbers[old], new.path, new)

    def _place(self, numbers: Sequence[int], path: str, recording: Recording) -> None:
        """Store path, size and time of change of a recording."""
        which, values = with_ids(numbers)
        state = os.fsencode(path), to_stored(recording.size), to_stored(recording.mtime_ns)
        with self._changing("recordings", which, values):
            self._db.execute(f"UPDATE recordings SET path = ?, size = ?, mtime_ns = ? {which}", (*state, *values))

    def move_model(self, recipe: Recipe) -> None:
        """Store a recipe that differs only in the place of the model."""
        with self._transaction():
            self._store_recipe(recipe)

    def _store_recipe(self, recipe: Recipe) -> None:
        """Replace the recipe."""
        with self._changing("collection", "WHERE key = 'recipe'", ()):
            self._db.execute("UPDATE collection SET value = ? WHERE key = 'recipe'", (recipe.to_json(),))

    def restart(self, recipe: Recipe, dim: int, dtype: str) -> None:
        """Give a store without rows another recipe; recordings that failed with the old one are forgotten."""
        if (recipe, dtype, {dim}) == (self.recipe, self.dtype, set(self.views.values())):
            return
        with self._transaction():
            for table, _, _ in self._tables().values():
                self._db.execute(f"DROP TABLE {table}")
                del self._record.tables[table]
            self._remove("views", "")
            self._remove("recordings", "")
            self._store_recipe(recipe)
            self._db.executemany(
                "INSERT INTO views (name, layer, pooling, dim, dtype, vectors) VALUES (?, ?, ?, ?, ?, ?)",
                create_vector_tables(self._db, recipe, dim, dtype),
            )
            self._sum("views", "")
            self._grow()

    def compact(self) -> None:
        """Rewrite the file without the space of deleted rows; the file stays intact if that fails.

        Raises:
            DiskError: the disk has no room for the temporary copy.
        """
        with wrap_errors(self.file):
            self._db.execute("VACUUM")

    def _insert_recordings(self, recordings: Sequence[Recording], run: int) -> range:
        """Insert recordings, still without checksums, in place of those with the same path; return their ids."""
        self._remove_recordings(self._numbers(recording.path for recording in recordings))
        [(first,)] = self._query("SELECT coalesce(max(id), 0) + 1 FROM recordings")
        numbers = range(first, first + len(recordings))
        self._db.executemany(
            "INSERT INTO recordings (id, path, size, mtime_ns, content_hash, duration_s, rate, channels, stretches, "
            "status, reason, detail, flags, run) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (number, os.fsencode(one.path), to_stored(one.size), to_stored(one.mtime_ns), one.content_hash,
                 one.duration_s, one.rate, one.channels, one.stretches, "failed" if one.reason else "ok", one.reason,
                 one.detail, ",".join(one.flags), run)
                for number, one in zip(numbers, recordings, strict=True)
            ),
        )  # fmt: skip
        return numbers

    def _store_columns(self, metas: Iterable[dict[str, Any]]) -> None:
        """Store the names of the metadata columns, and which of them hold only numbers."""
        stored = self.columns
        changed = {name: kind for name, kind in column_kinds(metas, stored).items() if stored.get(name) != kind}
        for name in changed.keys() & stored.keys():
            self._remove("columns", "WHERE name = ?", (name,))
        self._db.executemany("INSERT INTO columns (name, kind) VALUES (?, ?)", changed.items())
        for name in changed:
            self._sum("columns", "WHERE name = ?", (name,))

    def _insert_vectors(self, table: str, blobs: Iterable[tuple[int, bytes]]) -> None:
        """Insert vectors with their checksums."""
        rows = [(number, self._checksums.vector(table, number, blob), blob) for number, blob in blobs]
        self._db.executemany(f"INSERT INTO {table} (id, checksum, vector) VALUES (?, ?, ?)", rows)
        self._record.count(table, (checksum for _, checksum, _ in rows))

    def _remove_rows(self, ids: Sequence[int]) -> None:
        """Delete rows with their vectors."""
        for table in (*(table for table, _, _ in self._tables().values()), "rows"):
            self._remove(table, *with_ids(ids))

    def _remove_recordings(self, numbers: Sequence[int]) -> None:
        """Delete recordings with all their rows."""
        if numbers:
            which, values = with_ids(numbers, "recording")
            self._remove_rows([row_id for (row_id,) in self._query(f"SELECT id FROM rows {which}", values)])
            self._remove("recordings", *with_ids(numbers))

    def _grow(self, next_id: int = 0, is_rewritten: bool = False) -> None:
        """Increase the generation, since rows or vectors have changed: indexes of earlier ones are out of date."""
        generation = self._record.generation + 1
        self._record = replace(
            self._record,
            generation=generation,
            next_id=max(next_id, self._record.next_id),
            rewritten=generation if is_rewritten else self._record.rewritten,
        )
        self._db.execute("INSERT INTO history (generation, token) VALUES (?, ?)", (generation, self._record.token))
        self._sum("history", "WHERE generation = ?", (generation,))

    @contextlib.contextmanager
    def _transaction(self, *, check: bool = True) -> Iterator[None]:
        """Run a transaction with a new commit record, and copy it into `lock`; roll back after an error.

        The store is compared with the copy in `lock`, and unless `check` is False all tables with their sums: what is
        looked up in a damaged table could be missing.
        """
        assert self._lock is not None
        with FORKS.hold_off(), wrap_errors(self.file):
            with self.snapshot():
                if check:
                    self._compare(*SUMMED, keys=True)
                self._lock.keep(self._record.copy)  # that of an earlier commit may be missing
            self._db.execute("BEGIN IMMEDIATE")
            try:
                before = self._record
                self._record, self._is_changing = before.next(), True
                yield
                write_record(self._db, self._record)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._is_changing = False
            self._compared.carry(before.token, self._state())
            self._lock.keep(self._record.copy)


def column_kinds(metas: Iterable[dict[str, Any]], known: Mapping[str, str]) -> dict[str, str]:
    """Return metadata column -> "number" if it holds only numbers, else "text"; `known` are the earlier ones.

    >>> column_kinds([{"fold": 1, "site": "A"}, {"fold": None, "site": 2}], {})
    {'fold': 'number', 'site': 'text'}
    """
    kinds = dict(known)
    for meta in metas:
        for name, value in meta.items():
            if kinds.get(name) != "text":
                kinds[name] = "number" if value is None or isinstance(value, (int, float)) else "text"
    return kinds
