"""Writing a store: every change is one transaction, with the checksums and the tally of rows."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from embedx.store.edit_table import EditTable
from embedx.store.edits import Edit
from embedx.store.integrity import Issue
from embedx.store.lock import Lock
from embedx.store.reading import LISTED, listed
from embedx.store.records import Recording, Row, Vectors, to_stored
from embedx.store.repair import column_kinds, repair_tables
from embedx.store.schema import changed, checksum, count_added, fill_sums, vector_sum, wrap_errors


class Writer(EditTable):
    """The methods of `Store` that change it."""

    _lock: Lock | None

    def start_run(self, settings: Mapping[str, Any]) -> int:
        """Store the settings of a run (sources, device, precision, versions), and return its id."""
        with self._transaction():
            run = int(
                self._db.execute("INSERT INTO runs (settings) VALUES (?)", (json.dumps(settings),)).lastrowid or 0
            )
            fill_sums(self._db, "runs", "WHERE id = ?", (run,))
        return run

    def next_id(self) -> int:
        """Return an id that is higher than all ids that were ever used."""
        return int(self._query("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'rows'")[0][0])

    def add(self, batch: Iterable[tuple[Recording, Sequence[tuple[Row, Vectors]]]], run: int) -> None:
        """Store recordings with all their rows and vectors, in one transaction; existing recordings are replaced.

        The edits of a recording are applied to its new rows.
        """
        batch = list(batch)
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
                self._db.executemany(
                    f"INSERT INTO {table} (id, checksum, vector) VALUES (?, ?, ?)",
                    ((number, vector_sum(table, number, blob), blob) for number, blob in blobs),
                )
            for name, added in (("recordings", numbers), ("rows", ids)):
                fill_sums(self._db, name, f"WHERE id IN {LISTED}", (listed(added),))
                count_added(self._db, name, added)
            self._store_columns(dict(row.meta) for _, rows in batch for row, _ in rows)
            self._grow()

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
            paths = dict.fromkeys(edit.path for edit in affected if edit.path)
            columns = {name for edit in affected for name in edit.values}
            changes = {edit.change for edit in edits} if carry else set()
            rows = self._apply_to_stored(paths, columns, changes)
            self._relabel(rows)
        return [row.id for row in rows]

    def _relabel(self, rows: Sequence[Row]) -> None:
        """Store label, group, split and metadata of existing rows, inside a transaction."""
        self._db.executemany(
            'UPDATE rows SET label = ?, "group" = ?, split = ?, meta = ?, source_values = ? WHERE id = ?',
            [
                (
                    row.label,
                    row.group,
                    row.split,
                    json.dumps(dict(row.meta)),
                    json.dumps(dict(row.source_values)),
                    row.id,
                )
                for row in rows
            ],
        )
        fill_sums(self._db, "rows", f"WHERE id IN {LISTED}", (listed([row.id for row in rows]),))
        self._store_columns(dict(row.meta) for row in rows)
        self._set("labelled", str(int(self._get("labelled")) + 1))

    def delete(self, ids: Sequence[int]) -> None:
        """Delete rows, in one transaction; a recording is deleted with its last row. Ids are never used again."""
        with self._transaction():
            recordings = self._query(f"SELECT DISTINCT recording FROM rows WHERE id IN {LISTED}", (listed(ids),))
            self._db.execute(f"DELETE FROM rows WHERE id IN {LISTED}", (listed(ids),))
            self._db.execute(
                f"DELETE FROM recordings WHERE id IN {LISTED} "
                "AND NOT EXISTS (SELECT 1 FROM rows WHERE recording = recordings.id)",
                (listed([number for (number,) in recordings]),),
            )
            self._grow()

    def forget(self, paths: Iterable[str]) -> None:
        """Delete recordings with all their rows, in one transaction."""
        with self._transaction():
            self._db.executemany("DELETE FROM recordings WHERE path = ?", [(os.fsencode(path),) for path in paths])
            self._grow()

    def relink(self, moved: Mapping[str, Recording]) -> None:
        """Change path, size and time of change of recordings (old path -> new record), in one transaction."""
        with self._transaction():
            for old, new in moved.items():
                self._db.execute(
                    "UPDATE recordings SET path = ?, size = ?, mtime_ns = ? WHERE path = ?",
                    (os.fsencode(new.path), to_stored(new.size), to_stored(new.mtime_ns), os.fsencode(old)),
                )
                entries = self._edits("WHERE path = ? AND content_hash = ?", (os.fsencode(old), new.content_hash))
                if old != new.path and entries:
                    self._bind([number for number, _ in entries], new)
                fill_sums(self._db, "recordings", "WHERE path = ?", (os.fsencode(new.path),))
                fill_sums(
                    self._db,
                    "rows",
                    "WHERE recording = (SELECT id FROM recordings WHERE path = ?)",
                    (os.fsencode(new.path),),
                )
            self._set("labelled", str(int(self._get("labelled")) + 1))

    def rewrite(self, rows: Iterable[tuple[int, Vectors]]) -> None:
        """Replace the vectors of rows, in one transaction."""
        with self._transaction():
            tables = self._tables()
            for number, vectors in rows:
                for view, vector in vectors.items():
                    table, _, kind = tables[view]
                    blob = vector.astype(kind).tobytes()
                    self._db.execute(
                        f"INSERT OR REPLACE INTO {table} (id, checksum, vector) VALUES (?, ?, ?)",
                        (number, vector_sum(table, number, blob), blob),
                    )
            self._grow()
            self._set("rewritten", str(self.generation))

    def repair(self, issues: Sequence[Issue]) -> list[str]:
        """Repair everything except vectors; return the paths of the removed recordings. See `repair_tables`."""
        with self._transaction():
            removed = repair_tables(self._db, issues)
            if removed:
                self._grow()
        return removed

    def compact(self) -> None:
        """Rewrite the file without the space of deleted rows; the file stays intact if that fails.

        Raises:
            DiskError: the disk has no room for the temporary copy.
        """
        assert self._lock is not None
        self._lock.break_seal()
        with wrap_errors(self.file):
            self._db.execute("VACUUM")

    def _insert_recordings(self, recordings: Sequence[Recording], run: int) -> range:
        """Insert recordings, still without checksums, in place of those with the same path; return their ids."""
        self._db.executemany("DELETE FROM recordings WHERE path = ?", [(os.fsencode(one.path),) for one in recordings])
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
        self._db.executemany(
            "INSERT INTO columns (name, kind) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET kind = 'text' "
            "WHERE excluded.kind = 'text'",
            column_kinds(metas).items(),
        )
        fill_sums(self._db, "columns")

    def _grow(self) -> None:
        """Increase the generation, since rows or vectors have changed: indexes of earlier ones are out of date."""
        generation = self.generation + 1
        self._set("generation", str(generation))
        self._db.execute("INSERT INTO history (generation, token) VALUES (?, ?)", (generation, secrets.token_hex(8)))
        fill_sums(self._db, "history", "WHERE generation = ?", (generation,))

    def _set(self, key: str, value: str) -> None:
        """Store a value in the table `collection`."""
        self._db.execute(
            "INSERT OR REPLACE INTO collection (key, value, checksum) VALUES (?, ?, ?)",
            (key, value, checksum((key, value))),
        )

    def _store_tally(self) -> None:
        """Add the changes of a transaction to the stored tally. A new count would hide rows that were lost before."""
        for table, (count, total) in changed(self._db).items():
            if count or total:
                stored_count, stored_total = self._tally(table)
                self._set(table, f"{stored_count + count} {stored_total + total}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run a transaction: break the seal, begin, store the tally, and commit, or roll back after an error."""
        assert self._lock is not None
        with wrap_errors(self.file):
            self._lock.break_seal()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._store_tally()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
