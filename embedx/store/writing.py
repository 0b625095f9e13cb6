"""Writing: every change of a store is one transaction, with its checksums and its tally."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from embedx.store.integrity import Issue
from embedx.store.lock import Lock
from embedx.store.reading import LISTED, Reader, listed
from embedx.store.records import Recording, Row, Vectors, to_stored
from embedx.store.repair import column_kinds, mend
from embedx.store.schema import changed, checksum, count_added, explained, fill_sums, vector_sum


class Writer(Reader):
    """The half of a `Store` that changes it."""

    _lock: Lock | None

    def start_run(self, settings: Mapping[str, Any]) -> int:
        """Record how a run works (sources, device, precision, versions), and return its id."""
        with self._transaction():
            run = int(
                self._db.execute("INSERT INTO runs (settings) VALUES (?)", (json.dumps(settings),)).lastrowid or 0
            )
            fill_sums(self._db, "runs", "WHERE id = ?", (run,))
        return run

    def next_id(self) -> int:
        """Return an id above every one that was ever used."""
        return int(self._query("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'rows'")[0][0])

    def add(self, batch: Iterable[tuple[Recording, Sequence[tuple[Row, Vectors]]]], run: int) -> None:
        """Store recordings with all their rows and vectors in one transaction; one that was there is replaced."""
        batch = list(batch)
        ids = [row.id for _, rows in batch for row, _ in rows]
        with self._transaction():
            tables = self._tables()
            numbers = self._insert_recordings([recording for recording, _ in batch], run)
            self._db.executemany(
                'INSERT INTO rows (id, recording, stretch, start_s, end_s, label, "group", split, flags, meta) '
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (row.id, number, row.stretch, row.start_s, row.end_s, row.label, row.group, row.split,
                     ",".join(row.flags), json.dumps(dict(row.meta)))
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
            self._note_columns(dict(row.meta) for _, rows in batch for row, _ in rows)
            self._grow()

    def relabel(self, rows: Iterable[Row]) -> None:
        """Write label, group, split and metadata of rows that are there, in one transaction."""
        rows = list(rows)
        with self._transaction():
            self._db.executemany(
                'UPDATE rows SET label = ?, "group" = ?, split = ?, meta = ? WHERE id = ?',
                [(row.label, row.group, row.split, json.dumps(dict(row.meta)), row.id) for row in rows],
            )
            fill_sums(self._db, "rows", f"WHERE id IN {LISTED}", (listed([row.id for row in rows]),))
            self._note_columns(dict(row.meta) for row in rows)
            self._set("labelled", str(int(self._get("labelled")) + 1))

    def delete(self, ids: Sequence[int]) -> None:
        """Take rows out, in one transaction; a recording goes with its last row. Their ids are never used again."""
        with self._transaction():
            touched = self._query(f"SELECT DISTINCT recording FROM rows WHERE id IN {LISTED}", (listed(ids),))
            self._db.execute(f"DELETE FROM rows WHERE id IN {LISTED}", (listed(ids),))
            self._db.execute(
                f"DELETE FROM recordings WHERE id IN {LISTED} "
                "AND NOT EXISTS (SELECT 1 FROM rows WHERE recording = recordings.id)",
                (listed([number for (number,) in touched]),),
            )
            self._grow()

    def forget(self, paths: Iterable[str]) -> None:
        """Take recordings out with all their rows, in one transaction."""
        with self._transaction():
            self._db.executemany("DELETE FROM recordings WHERE path = ?", [(os.fsencode(path),) for path in paths])
            self._grow()

    def relink(self, moved: Mapping[str, Recording]) -> None:
        """Give recordings a new path, size and time of change, in one transaction: old path -> what it is now."""
        with self._transaction():
            for old, new in moved.items():
                self._db.execute(
                    "UPDATE recordings SET path = ?, size = ?, mtime_ns = ? WHERE path = ?",
                    (os.fsencode(new.path), to_stored(new.size), to_stored(new.mtime_ns), os.fsencode(old)),
                )
                fill_sums(self._db, "recordings", "WHERE path = ?", (os.fsencode(new.path),))
                fill_sums(
                    self._db,
                    "rows",
                    "WHERE recording = (SELECT id FROM recordings WHERE path = ?)",
                    (os.fsencode(new.path),),
                )
            self._set("labelled", str(int(self._get("labelled")) + 1))

    def rewrite(self, rows: Iterable[tuple[int, Vectors]]) -> None:
        """Put vectors made anew in the place of damaged ones, in one transaction."""
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

    def mend(self, findings: Sequence[Issue]) -> list[str]:
        """Set right what can be without the recordings; return those that had to be taken out. See `mending`."""
        with self._transaction():
            removed = mend(self._db, findings)
            if removed:
                self._grow()
        return removed

    def compact(self) -> None:
        """Write the file anew without the space that deleted rows left; it stays whole if that fails.

        Raises:
            DiskError: there is no room for the copy.
        """
        assert self._lock is not None
        self._lock.break_seal()
        with explained(self.file):
            self._db.execute("VACUUM")

    def _insert_recordings(self, recordings: Sequence[Recording], run: int) -> range:
        """Insert recordings in the place of what was there, still without checksums, and return their ids."""
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

    def _note_columns(self, metas: Iterable[dict[str, Any]]) -> None:
        """Remember the metadata columns, and which of them hold numbers alone."""
        self._db.executemany(
            "INSERT INTO columns (name, kind) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET kind = 'text' "
            "WHERE excluded.kind = 'text'",
            column_kinds(metas).items(),
        )
        fill_sums(self._db, "columns")

    def _grow(self) -> None:
        """Note that rows or vectors have changed, so that what is derived from them knows that it is stale."""
        generation = self.generation + 1
        self._set("generation", str(generation))
        self._db.execute("INSERT INTO history (generation, token) VALUES (?, ?)", (generation, secrets.token_hex(8)))
        fill_sums(self._db, "history", "WHERE generation = ?", (generation,))

    def _set(self, key: str, value: str) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO collection (key, value, checksum) VALUES (?, ?, ?)",
            (key, value, checksum((key, value))),
        )

    def _note_tally(self) -> None:
        """Write what a transaction changed in number, and not what is there: what was lost before stays missed."""
        for table, (count, total) in changed(self._db).items():
            if count or total:
                noted = self._noted(table)
                self._set(table, f"{noted[0] + count} {noted[1] + total}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        assert self._lock is not None
        with explained(self.file):
            self._lock.break_seal()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._note_tally()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
