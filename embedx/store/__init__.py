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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.disk import sync_folder
from embedx.errors import StoreError, UsageError
from embedx.recipe import Recipe
from embedx.store import filters
from embedx.store.inspection import Finding
from embedx.store.lock import Lock, Note, read_note
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
    tally,
    vector_sum,
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
        self._searchable = -1  # the generation in which the tables were compared with their keys
        self._sound = -1  # and that in which all rows were compared with their checksums
        try:
            with explained(self.file):
                note = self._find_note()
                self._db = connect(self.file, "rw" if write else "ro")
                version = check_version(self._db, self.file)
                if write:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA synchronous = FULL")
                    self._db.execute("PRAGMA foreign_keys = ON")
                if version < len(MIGRATIONS):
                    self._update_format(version, wait)
                elif note.state is not None:
                    self._compare_with(note.state)
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

    def _find_note(self) -> Note:
        """Return what the last writer noted beside the store.

        Raises:
            StoreError: a log lies beside a store that was sealed without one: SQLite would believe it.
        """
        log = Path(f"{self.file}-wal")
        try:
            note = read_note(self.folder) if self._lock is None else self._lock.note
            if note.seal is None or not log.is_file() or not log.stat().st_size:
                return note
            if self._lock is None and read_note(self.folder) != note:  # a writer has begun meanwhile
                return Note()
        except StoreError:  # a damaged lock is in nobody's way; `verify` finds it
            return Note()
        raise StoreError(f"{log} is no part of {self.file}, which was sealed without one. Move it away.")

    def _compare_with(self, state: Mapping[str, Any]) -> None:
        """Refuse an older copy of the file, or that of another collection, beside the lock of this one.

        A store that has grown since it was in this state still knows the token of that generation.
        """
        try:
            known = self.token(state["generation"]) == state["token"]
            newer = int(self._get("labelled")) >= state["labelled"]
        except StoreError:  # this very entry is damaged: what reads it will say so
            return
        if not (known and newer):
            raise StoreError(
                f"{self.file} is an older copy, or belongs to another collection: it is not what the last writer left "
                f"(see {self.folder / 'lock'}). Put the right file back, or copy the whole folder."
            )

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
        state: dict[str, Any] | None = None
        if self._lock is not None and self._lock.note.seal is None:
            with contextlib.suppress(sqlite3.Error, StoreError):
                if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0:
                    generation, labelled = self.generation, int(self._get("labelled"))
                    state = {"generation": generation, "token": self.token(generation), "labelled": labelled}
        self._db.close()
        if state is not None and self._lock is not None:
            with contextlib.suppress(OSError):
                sync_log(self.file)
                self._lock.set_seal(self.file, state)
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
        return int(self._get("rewritten"))

    @property
    def views(self) -> dict[str, int]:
        """Name and dimension of every view, in the order of the recipe."""
        dims = {name: dim for name, _, _, dim, *_ in self._checked("views")}
        if dims.keys() != set(self.recipe.views):
            raise StoreError(f"{self.file} is damaged: its views are not those of its recipe.")
        return {view: dims[view] for view in self.recipe.views}

    @property
    def columns(self) -> dict[str, str]:
        """Every metadata column, and what it holds: "number" (numbers alone) or "text"."""
        return dict(self._checked("columns", "ORDER BY name"))

    @property
    def dtype(self) -> str:
        """How vectors are stored: "float32" or "float16"; they are read as float32."""
        return str(self._table(self.recipe.default_view)[2].name)

    def count(self) -> int:
        """Return the number of rows."""
        return self._noted("rows")[0]

    def hours(self) -> float:
        """Return the length of all recordings in hours, without those that failed."""
        return sum(one.duration_s or 0.0 for one in self.recordings().values() if not one.reason) / 3600

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
        return {os.fsdecode(path): given.get(run, ()) for _, path, *_, run in self._checked("recordings")}

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of all rows, ascending.

        Raises:
            StoreError: some are missing.
        """
        with self.snapshot():
            found = [number for (number,) in self._query("SELECT id FROM rows ORDER BY id")]
            self._require_all("rows", found)
        return np.array(found, np.int64)

    def rows(self, ids: Sequence[int] | None = None, path: str | None = None) -> list[Row]:
        """Return rows in the order of their ids: all, those with these ids, or those of one recording.

        Raises:
            StoreError: one is damaged, or missing.
        """
        which, values = "", ()  # type: str, tuple[Any, ...]
        if path is not None:
            self._require_searchable()
            which, values = "WHERE recording = (SELECT id FROM recordings WHERE path = ?)", (os.fsencode(path),)
        elif ids is not None:
            which, values = f"WHERE id IN {LISTED}", (listed(ids),)
        with self.snapshot():
            found = self._checked("rows", f"{which} ORDER BY id", values)
            if ids is not None:
                self._require_those(ids, [number for number, *_ in found], "rows")
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
            for number, name, stretch, start, end, label, group, split, flags, meta in found
        ]

    def paths_of(self, content_hash: str) -> list[str]:
        """Return the recordings with this content."""
        self._require_searchable()
        found = self._checked("recordings", "WHERE content_hash = ?", (content_hash,))
        return [os.fsdecode(path) for _, path, *_ in found]

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
        which = "" if ids is None else f"WHERE id IN {LISTED}"
        values = () if ids is None else (listed(ids),)
        seen: list[int] = []
        with self.snapshot():
            found = self._db.execute(f"SELECT id, checksum, vector FROM {table} {which} ORDER BY id", values)
            while blobs := found.fetchmany(BLOCK):
                for number, stored, blob in blobs:
                    sound = isinstance(blob, bytes) and len(blob) == dtype.itemsize * dim
                    if not sound or vector_sum(table, number, blob) != stored:
                        raise StoreError(
                            f"The vector {view} of row {number} in {self.file} is damaged (its checksum differs). "
                            f"`embedx verify {self.folder} --repair` makes it anew from its recording."
                        )
                numbers = [number for number, *_ in blobs]
                seen += numbers
                matrix = np.frombuffer(b"".join(blob for *_, blob in blobs), dtype).reshape(len(blobs), dim)
                yield np.array(numbers, np.int64), matrix.astype(np.float32, copy=False)
            if ids is None:
                self._require_all("rows", seen)
            else:
                self._require_those(ids, seen, f"vectors {view}")

    def filter(self, where: str) -> NDArray[np.int64]:
        """Return the ids of the rows that meet an SQL condition over their columns and metadata, ascending.

        It runs on a connection of its own that can only read these rows, after all of them were compared with their
        checksums: a damaged value would select the wrong rows without a word.

        Raises:
            UsageError: the condition is wrong, names an unknown column, or does more than compare.
            StoreError: a row is damaged.
        """
        self._require_searchable()
        if self._sound != (generation := self.generation):
            for _ in self._stream("rows"):
                pass
            self._sound = generation
        return filters.select(self.file, where, self.columns)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything that is read inside come from one state of the store, whatever is committed meanwhile."""
        with explained(self.file):
            if self._db.in_transaction:
                yield
                return
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
                        [(number, vector_sum(table, number, blob), blob) for number, blob in blobs],
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
                    (os.fsencode(new.path), new.size, new.mtime_ns, os.fsencode(old)),
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
            for number, vectors in rows:
                for view, vector in vectors.items():
                    table, _, kind = self._table(view)
                    blob = vector.astype(kind).tobytes()
                    self._db.execute(
                        f"INSERT OR REPLACE INTO {table} (id, checksum, vector) VALUES (?, ?, ?)",
                        (number, vector_sum(table, number, blob), blob),
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

    def _get(self, key: str) -> str:
        found = self._checked("collection", "WHERE key = ?", (key,))
        if not found:
            raise StoreError(f"{self.file} is damaged: it has no {key}.")
        return str(found[0][1])

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
        whole = table in ("rows", "recordings") and not which.startswith("WHERE")
        keys: list[int] = []
        with self.snapshot():
            for stored, *rest in self._db.execute(f"SELECT checksum, {columns} FROM {table} {which}", values):
                if checksum(rest) != stored:
                    raise StoreError(
                        f"{describe(table, rest)} in {self.file} is damaged (its checksum differs). `embedx verify "
                        f"{self.folder}` says what else is."
                    )
                if whole:
                    keys.append(rest[0])
                yield tuple(rest)
            if whole:
                self._require_all(table, keys)

    def _note_tally(self, before: Mapping[str, tuple[int, int]]) -> None:
        """Write what a transaction changed in number, and not what is there: what was lost before stays missed."""
        for table, (count, total) in tally(self._db).items():
            if (count, total) != before[table]:
                noted = self._noted(table)
                self._set(table, f"{noted[0] + count - before[table][0]} {noted[1] + total - before[table][1]}")

    def _noted(self, table: str) -> tuple[int, int]:
        """Return how many rows or recordings there are, and the sum of their ids, as it was written."""
        count, total = map(int, self._get(table).split())
        return count, total

    def _require_all(self, table: str, ids: Sequence[int]) -> None:
        """See that everything is there: a damaged page can hide rows without a word.

        Raises:
            StoreError: some are missing.
        """
        count, total = self._noted(table)
        in_order = all(one < other for one, other in pairwise(ids))  # pages that changed places break it
        if (len(ids), sum(ids)) != (count, total) or not in_order:
            raise StoreError(
                f"{self.file} is damaged: {len(ids)} {table} are there, {count} were written, or other ones. "
                f"`embedx verify {self.folder}` says what else is."
            )

    def _require_those(self, asked: Sequence[int], found: Sequence[int], what: str) -> None:
        """See that of the rows that were asked for only such are missing as are not there at all.

        Raises:
            StoreError: another one is.
        """
        missing = {int(number) for number in asked}.difference(found)
        if missing and (lost := missing.intersection(self.ids().tolist())):
            raise StoreError(f"{self.file} is damaged: the {what} of row {min(lost)} cannot be found.")

    def _require_searchable(self) -> None:
        """See that every row and recording is found by its keys, once for every generation.

        Raises:
            StoreError: one is not.
        """
        with self.snapshot():
            if self._searchable == (generation := self.generation):
                return
            for table in ("rows", "recordings"):
                [complaint] = self._query(f"PRAGMA integrity_check({table})")[0]
                if complaint != "ok":
                    raise StoreError(f"{self.file} is damaged: {complaint}.")
            self._searchable = generation

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        assert self._lock is not None
        with explained(self.file):
            self._lock.break_seal()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                before = tally(self._db)
                yield
                self._note_tally(before)
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


def sync_log(file: Path) -> None:
    """Make sure that the log of a store is empty or gone on the disk too, before a seal says so."""
    with contextlib.suppress(FileNotFoundError), open(f"{file}-wal", "rb") as log:
        os.fsync(log.fileno())
    sync_folder(file.parent)


def describe(table: str, values: Sequence[Any]) -> str:
    """Name a damaged row of a table.

    >>> describe("rows", [3, b"a.wav", 0])
    'Row 3'
    """
    if table == "rows":
        return f"Row {values[0]}"
    return f"The entry {values[0]} of the table {table}"
