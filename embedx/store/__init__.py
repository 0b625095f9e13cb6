"""Store: rows, vectors, failures and recipe in one SQLite file, which is the truth.

A recording and all its windows and views appear in one transaction or not at all. Every row of every table carries a
checksum, which is compared when it is read. The file opens with any SQLite client (indexes/README.md describes it);
everything else in the folder is derived from it and can be deleted.
"""

import contextlib
import json
import os
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import StoreError, UsageError
from embedx.recipe import Recipe
from embedx.store import filters
from embedx.store.inspection import Finding
from embedx.store.lock import Lock
from embedx.store.mending import column_kinds, mend
from embedx.store.schema import (
    FILE_NAME,
    MIGRATIONS,
    SUMMED,
    check_version,
    checksum,
    connect,
    explained,
    fill_sums,
    migrate,
    write_empty,
)

__all__ = ["FILE_NAME", "Recording", "Row", "Store", "Vectors"]


@dataclass(frozen=True)
class Row:
    """A stored window, without its vectors."""

    id: int
    path: str
    start_s: float
    end_s: float
    label: str | None
    group: str | None
    split: str | None
    flags: tuple[str, ...]
    meta: Mapping[str, Any]
    stretch: int = 0  # ordinal of its item among those of the recording


@dataclass(frozen=True)
class Recording:
    """A file that was asked for: what it was like then, and why it failed if it did."""

    path: str
    size: int
    mtime_ns: int
    stretches: str  # the parts that were asked for, as JSON
    content_hash: str = ""
    duration_s: float | None = None
    rate: int | None = None
    channels: int | None = None
    flags: tuple[str, ...] = ()
    reason: str = ""  # empty: all is well
    detail: str = ""


Vectors = Mapping[str, NDArray[np.float32]]  # view -> vector [D]


class Store:
    """The open store of a collection. One process writes, which a lock sees to; any number read.

    Raises:
        UsageError: there is no collection in the folder.
        LockedError: another process is writing.
        StoreError: the file is damaged, foreign, or of a newer version.
        DiskError: the system refuses to read or write.
    """

    def __init__(self, folder: str | os.PathLike[str], *, write: bool = False, wait: bool = False) -> None:
        self.folder = Path(folder)
        self.file = self.folder / FILE_NAME
        if not self.file.is_file():
            raise UsageError(f"There is no collection in {self.folder} (no {FILE_NAME}). `embedx extract` makes one.")
        with explained(self.folder):
            self._lock = Lock(self.folder, wait=wait) if write else None
        self._sound = -1  # the generation in which all rows were compared with their checksums
        try:
            with explained(self.file):
                self._db = connect(self.file, "rw" if write else "ro")
                version = check_version(self._db, self.file)
                if write:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA synchronous = FULL")
                    self._db.execute("PRAGMA foreign_keys = ON")
                if version < len(MIGRATIONS):
                    self._update_format(version, wait)
        except BaseException:
            self._unlock()
            raise

    def _update_format(self, version: int, wait: bool) -> None:
        if self._lock is not None:
            self._lock.break_seal()
            migrate(self._db, version)
            return
        if not os.access(self.folder, os.W_OK):
            raise StoreError(
                f"{self.file} has the older format {version}, and cannot be brought up to date because its folder "
                "cannot be written. Copy the collection to a place where you may write."
            )
        Store(self.folder, write=True, wait=wait).close()

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        recipe: Recipe,
        dim: int,
        dtype: str = "float32",
        *,
        wait: bool = False,
    ) -> "Store":
        """Open the store of a folder for writing, and make both where they are not there yet.

        Raises:
            RecipeMismatch: the store holds vectors of another recipe.
            UsageError: the folder holds other things.
        """
        path = Path(folder)
        if not (path / FILE_NAME).exists():
            write_empty(path, recipe, dim, dtype)
        store = cls(path, write=True, wait=wait)
        try:
            recipe.require_same(store.recipe, str(path))
            if store.dtype != dtype:
                raise UsageError(f"{path} stores vectors as {store.dtype}: repeat --store-dtype {store.dtype}.")
            if recipe != store.recipe:  # the model lies elsewhere by now
                with store._transaction():
                    store._set("recipe", recipe.to_json())
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the file and let go of the lock. A writer seals what it leaves, if no reader is in its way."""
        settled = False
        if self._lock is not None and self._lock.seal is None:
            with contextlib.suppress(sqlite3.Error):
                settled = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        self._db.close()
        if settled and self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.set_seal(self.file)
        self._unlock()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # reading ------------------------------------------------------------------------------------------------------

    @property
    def recipe(self) -> Recipe:
        """How the vectors were made."""
        return Recipe.from_json(self._get("recipe"))

    @property
    def generation(self) -> int:
        """Grows when rows or vectors come, go or change, so that what is derived from them knows that it is stale."""
        return int(self._get("generation"))

    def token(self, generation: int) -> str | None:
        """Return what only this store knows of a generation: no other store, nor a copy that went its own way."""
        found = self._checked("history", "WHERE generation = ?", (generation,))
        return found[0][1] if found else None

    @property
    def rewritten(self) -> int:
        """The last generation in which vectors of rows that were there were replaced (0: never)."""
        return int(self._get("rewritten", "0"))

    @property
    def views(self) -> dict[str, int]:
        """Name and dimension of every view, in the order of the recipe."""
        dims = {name: dim for name, _, _, dim, *_ in self._checked("views")}
        return {view: dims[view] for view in self.recipe.views if view in dims}

    @property
    def columns(self) -> dict[str, str]:
        """Every metadata column, and what it holds: "number" (numbers alone) or "text"."""
        return dict(self._checked("columns", "ORDER BY name"))

    @property
    def dtype(self) -> str:
        """How vectors are stored: "float32" or "float16"; they are read as float32."""
        return str(self._checked("views")[0][4])

    def count(self) -> int:
        """Return the number of rows."""
        return int(self._query("SELECT count(*) FROM rows")[0][0])

    def hours(self) -> float:
        """Return the length of all recordings in hours, without those that failed."""
        return float(self._query("SELECT total(duration_s) FROM recordings WHERE status = 'ok'")[0][0]) / 3600

    def recordings(self) -> dict[str, Recording]:
        """Return every recording that was asked for, failed ones too, by path."""
        known = {}
        for found in self._checked("recordings", "ORDER BY id"):
            path, size, mtime_ns, content, duration_s, rate, channels, stretches, _, reason, detail, flags, _ = found[
                1:
            ]
            name = os.fsdecode(path)
            known[name] = Recording(
                name, size, mtime_ns, stretches, content, duration_s, rate, channels, split_flags(flags), reason, detail
            )
        return known

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Return path -> what the run was given that embedded it (folders, manifests)."""
        given = {number: tuple(json.loads(text).get("sources", ())) for number, text in self._checked("runs")}
        found = self._query("SELECT path, run FROM recordings")
        return {os.fsdecode(path): given.get(run, ()) for path, run in found}

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of all rows, ascending."""
        return np.array([number for (number,) in self._query("SELECT id FROM rows ORDER BY id")], np.int64)

    def rows(self, ids: Sequence[int] | None = None, path: str | None = None) -> list[Row]:
        """Return rows in the order of their ids: all, those with these ids, or those of one recording.

        Raises:
            StoreError: one is damaged.
        """
        which, values = "", ()  # type: str, tuple[Any, ...]
        if path is not None:
            which, values = "WHERE recording = (SELECT id FROM recordings WHERE path = ?)", (os.fsencode(path),)
        elif ids is not None:
            which, values = f"WHERE id IN {LISTED}", (listed(ids),)
        return [
            Row(
                number,
                os.fsdecode(name),
                start,
                end,
                label,
                group,
                split,
                split_flags(flags),
                json.loads(meta),
                stretch,
            )
            for number, name, stretch, start, end, label, group, split, flags, meta in self._checked(
                "rows", f"{which} ORDER BY id", values
            )
        ]

    def paths_of(self, content_hash: str) -> list[str]:
        """Return the recordings with this content."""
        rows = self._query("SELECT path FROM recordings WHERE content_hash = ?", (content_hash,))
        return [os.fsdecode(path) for (path,) in rows]

    def vectors(self, view: str, ids: Sequence[int] | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids [N] and vectors [N, D] of a view in the order of the ids; every checksum is verified.

        Raises:
            UsageError: there is no such view.
            StoreError: a vector is damaged.
        """
        blocks = list(self.blocks(view, ids))
        dim = self.views[view]
        return (
            np.concatenate([np.zeros(0, np.int64), *(some for some, _ in blocks)]),
            np.concatenate([np.zeros((0, dim), np.float32), *(vectors for _, vectors in blocks)]),
        )

    def blocks(
        self, view: str, ids: Sequence[int] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield what `vectors` returns in blocks of up to 2048 rows, so that memory stays bounded."""
        table, dim, dtype = self._table(view)
        query = f"SELECT id, checksum, vector FROM {table}"
        with explained(self.file):
            if ids is None:
                found = self._db.execute(f"{query} ORDER BY id")
            else:
                found = self._db.execute(f"{query} WHERE id IN {LISTED} ORDER BY id", (listed(ids),))
            while blobs := found.fetchmany(BLOCK):
                for number, stored, blob in blobs:
                    if len(blob) != dtype.itemsize * dim or zlib.crc32(blob, number) != stored:
                        raise StoreError(
                            f"The vector {view} of row {number} in {self.file} is damaged (its checksum differs). "
                            f"`embedx verify {self.folder} --repair` makes it anew from its recording."
                        )
                matrix = np.frombuffer(b"".join(blob for *_, blob in blobs), dtype).reshape(len(blobs), dim)
                yield np.array([number for number, *_ in blobs], np.int64), matrix.astype(np.float32, copy=False)

    def filter(self, where: str) -> NDArray[np.int64]:
        """Return the ids of the rows that meet an SQL condition over their columns and metadata, ascending.

        It runs on a connection of its own that can only read these rows, after all of them were compared with their
        checksums: a damaged value would select the wrong rows without a word.

        Raises:
            UsageError: the condition is wrong, names an unknown column, or does more than compare.
            StoreError: a row is damaged.
        """
        if self._sound != (generation := self.generation):
            for _ in self._stream("rows"):
                pass
            self._sound = generation
        return filters.select(self.file, where, self.columns)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything that is read inside come from one state of the store, whatever is committed meanwhile."""
        with explained(self.file):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def size(self) -> int:
        """Return the bytes of the store on disk."""
        return sum(file.stat().st_size for file in self.folder.glob(f"{FILE_NAME}*"))

    def last_run(self) -> dict[str, str]:
        """Return how the last run worked: device, precision, versions, when."""
        found = self._checked("runs", "ORDER BY id DESC LIMIT 1")
        return dict(json.loads(found[0][1])) if found else {}

    # writing ------------------------------------------------------------------------------------------------------

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
        with self._transaction():
            tables = [(view, self._table(view)) for view in self.views]
            added: list[int] = []
            for recording, rows in batch:
                self._db.execute("DELETE FROM recordings WHERE path = ?", (os.fsencode(recording.path),))
                number = self._insert_recording(recording, run)
                self._db.executemany(
                    'INSERT INTO rows (id, recording, stretch, start_s, end_s, label, "group", split, flags, meta) '
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (row.id, number, row.stretch, row.start_s, row.end_s, row.label, row.group, row.split,
                         ",".join(row.flags), json.dumps(dict(row.meta)))
                        for row, _ in rows
                    ],
                )  # fmt: skip
                for view, (table, _, kind) in tables:
                    blobs = [(row.id, vectors[view].astype(kind).tobytes()) for row, vectors in rows]
                    self._db.executemany(
                        f"INSERT INTO {table} (id, checksum, vector) VALUES (?, ?, ?)",
                        [(number, zlib.crc32(blob, number), blob) for number, blob in blobs],
                    )
                self._note_columns(dict(row.meta) for row, _ in rows)
                added += [row.id for row, _ in rows]
            fill_sums(self._db, "rows", f"WHERE id IN {LISTED}", (listed(added),))
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
            self._set("labelled", str(int(self._get("labelled", "0")) + 1))

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
                    (os.fsencode(new.path), new.size, new.mtime_ns, os.fsencode(old)),
                )
                fill_sums(self._db, "recordings", "WHERE path = ?", (os.fsencode(new.path),))
                fill_sums(
                    self._db,
                    "rows",
                    "WHERE recording = (SELECT id FROM recordings WHERE path = ?)",
                    (os.fsencode(new.path),),
                )
            self._set("labelled", str(int(self._get("labelled", "0")) + 1))

    def rewrite(self, rows: Iterable[tuple[int, Vectors]]) -> None:
        """Put vectors made anew in the place of damaged ones, in one transaction."""
        with self._transaction():
            for number, vectors in rows:
                for view, vector in vectors.items():
                    table, _, kind = self._table(view)
                    blob = vector.astype(kind).tobytes()
                    self._db.execute(
                        f"INSERT OR REPLACE INTO {table} (id, checksum, vector) VALUES (?, ?, ?)",
                        (number, zlib.crc32(blob, number), blob),
                    )
            self._grow()
            self._set("rewritten", str(self.generation))

    def mend(self, findings: Sequence[Finding]) -> list[str]:
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

    # the file -----------------------------------------------------------------------------------------------------

    def _insert_recording(self, one: Recording, run: int) -> int:
        values = (
            os.fsencode(one.path), one.size, one.mtime_ns, one.content_hash, one.duration_s, one.rate, one.channels,
            one.stretches, "failed" if one.reason else "ok", one.reason, one.detail, ",".join(one.flags), run,
        )  # fmt: skip
        cursor = self._db.execute(
            "INSERT INTO recordings (path, size, mtime_ns, content_hash, duration_s, rate, channels, stretches, "
            "status, reason, detail, flags, run) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        number = int(cursor.lastrowid or 0)
        fill_sums(self._db, "recordings", "WHERE id = ?", (number,))
        return number

    def _note_columns(self, metas: Iterable[dict[str, Any]]) -> None:
        """Remember the metadata columns, and which of them hold numbers alone."""
        self._db.executemany(
            "INSERT INTO columns (name, kind) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET kind = 'text' "
            "WHERE excluded.kind = 'text'",
            column_kinds(metas).items(),
        )
        fill_sums(self._db, "columns")

    def _table(self, view: str) -> tuple[str, int, np.dtype[Any]]:
        """Return the table of a view, its dimension, and the type of its numbers."""
        for name, _, _, dim, dtype, table in self._checked("views"):
            if name == view:
                return table, dim, np.dtype(dtype).newbyteorder("<")
        raise UsageError(f"There is no view {view!r}. Views of this collection: {', '.join(self.views)}.")

    def _grow(self) -> None:
        """Note that rows or vectors have changed, so that what is derived from them knows that it is stale."""
        generation = self.generation + 1
        self._set("generation", str(generation))
        self._db.execute("INSERT INTO history (generation, token) VALUES (?, ?)", (generation, secrets.token_hex(8)))
        fill_sums(self._db, "history", "WHERE generation = ?", (generation,))

    def _get(self, key: str, default: str | None = None) -> str:
        found = self._checked("collection", "WHERE key = ?", (key,))
        if not found and default is None:
            raise StoreError(f"{self.file} is damaged: it has no {key}.")
        return str(found[0][1]) if found else str(default)

    def _set(self, key: str, value: str) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO collection (key, value, checksum) VALUES (?, ?, ?)",
            (key, value, checksum((key, value))),
        )

    def _query(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with explained(self.file):
            return self._db.execute(sql, values).fetchall()

    def _checked(self, table: str, which: str = "", values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return rows of a table without their checksums, which have been compared.

        Raises:
            StoreError: one differs; the message names it.
        """
        return list(self._stream(table, which, values))

    def _stream(self, table: str, which: str = "", values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield what `_checked` returns, one by one."""
        _, columns = SUMMED[table]
        with explained(self.file):
            for stored, *rest in self._db.execute(f"SELECT checksum, {columns} FROM {table} {which}", values):
                if checksum(rest) != stored:
                    raise StoreError(
                        f"{describe(table, rest)} in {self.file} is damaged (its checksum differs). `embedx verify "
                        f"{self.folder}` says what else is."
                    )
                yield tuple(rest)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        assert self._lock is not None
        with explained(self.file):
            self._lock.break_seal()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


BLOCK = 2048  # rows that are read at a time: 6 MB of 768 float32
LISTED = "(SELECT value FROM json_each(?))"  # any number of ids as one SQL parameter


def listed(ids: Sequence[int]) -> str:
    """Return ids as the JSON that `LISTED` reads."""
    return json.dumps([int(number) for number in ids])


def split_flags(flags: str) -> tuple[str, ...]:
    """Return stored flags as a tuple.

    >>> split_flags("padded,silent"), split_flags("")
    (('padded', 'silent'), ())
    """
    return tuple(flags.split(",")) if flags else ()


def describe(table: str, values: Sequence[Any]) -> str:
    """Name a damaged row of a table.

    >>> describe("rows", [3, b"a.wav", 0])
    'Row 3'
    """
    if table == "rows":
        return f"Row {values[0]}"
    return f"The entry {values[0]} of the table {table}"
