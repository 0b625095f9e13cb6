"""Store: rows, vectors, failures and recipe in one SQLite file, which is the truth.

A recording and all its windows and views appear in one transaction or not at all. The file opens with any SQLite
client (indexes/README.md describes it); everything else in the folder is derived from it and can be deleted.
"""

import contextlib
import json
import os
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
from embedx.store.schema import FILE_NAME, check_version, connect, explained, lock, write_empty

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

    def __init__(self, folder: str | os.PathLike[str], *, write: bool = False) -> None:
        self.folder = Path(folder)
        self.file = self.folder / FILE_NAME
        if not self.file.is_file():
            raise UsageError(f"There is no collection in {self.folder} (no {FILE_NAME}). `embedx extract` makes one.")
        self._lock = lock(self.folder) if write else -1
        try:
            with explained(self.file):
                self._db = connect(self.file, "rw" if write else "ro")
                check_version(self._db, self.file)
                if write:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA synchronous = FULL")
                    self._db.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            self._unlock()
            raise

    @classmethod
    def create(cls, folder: str | os.PathLike[str], recipe: Recipe, dim: int, dtype: str = "float32") -> "Store":
        """Open the store of a folder for writing, and make both where they are not there yet.

        Raises:
            RecipeMismatch: the store holds vectors of another recipe.
            UsageError: the folder holds other things.
        """
        path = Path(folder)
        if not (path / FILE_NAME).exists():
            write_empty(path, recipe, dim, dtype)
        store = cls(path, write=True)
        try:
            recipe.require_same(store.recipe, str(path))
            if store.dtype != dtype:
                raise UsageError(f"{path} stores vectors as {store.dtype}: repeat --store-dtype {store.dtype}.")
            with store._transaction():  # the model may lie elsewhere by now
                store._set("recipe", recipe.to_json())
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the file and let go of the lock."""
        self._db.close()
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
        """Grows with every change of rows, so that what is derived from them knows when it is stale."""
        return int(self._get("generation"))

    @property
    def views(self) -> dict[str, int]:
        """Name and dimension of every view, in the order of the recipe."""
        dims = dict(self._query("SELECT name, dim FROM views"))
        return {view: dims[view] for view in self.recipe.views if view in dims}

    @property
    def dtype(self) -> str:
        """How vectors are stored: "float32" or "float16"; they are read as float32."""
        return str(self._query("SELECT dtype FROM views LIMIT 1")[0][0])

    def count(self) -> int:
        """Return the number of rows."""
        return int(self._query("SELECT count(*) FROM rows")[0][0])

    def hours(self) -> float:
        """Return the length of all recordings in hours, without those that failed."""
        return float(self._query("SELECT total(duration_s) FROM recordings WHERE status = 'ok'")[0][0]) / 3600

    def recordings(self) -> dict[str, Recording]:
        """Return every recording that was asked for, failed ones too, by path."""
        rows = self._query(
            "SELECT path, size, mtime_ns, stretches, content_hash, duration_s, rate, channels, flags, reason, detail "
            "FROM recordings ORDER BY id"
        )
        known = {}
        for path, size, mtime_ns, stretches, content, duration_s, rate, channels, flags, reason, detail in rows:
            name = os.fsdecode(path)
            known[name] = Recording(
                name, size, mtime_ns, stretches, content, duration_s, rate, channels, split_flags(flags), reason, detail
            )
        return known

    def rows(self, ids: Sequence[int] | None = None, path: str | None = None) -> list[Row]:
        """Return rows in the order of their ids: all, those with these ids, or those of one recording."""
        query = (
            'SELECT rows.id, path, start_s, end_s, label, "group", split, rows.flags, meta, stretch '
            "FROM rows JOIN recordings ON recordings.id = recording"
        )
        if path is not None:
            found = self._query(f"{query} WHERE path = ? ORDER BY rows.id", (os.fsencode(path),))
        elif ids is not None:
            found = self._query(f"{query} WHERE rows.id IN {LISTED} ORDER BY rows.id", (listed(ids),))
        else:
            found = self._query(f"{query} ORDER BY rows.id")
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
            for number, name, start, end, label, group, split, flags, meta, stretch in found
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
        found = self._query("SELECT vectors, dim, dtype FROM views WHERE name = ?", (view,))
        if not found:
            raise UsageError(f"There is no view {view!r}. Views of this collection: {', '.join(self.views)}.")
        table, dim, dtype = found[0][0], found[0][1], np.dtype(found[0][2]).newbyteorder("<")
        query = f"SELECT id, checksum, vector FROM {table}"
        if ids is None:
            blobs = self._query(f"{query} ORDER BY id")
        else:
            blobs = self._query(f"{query} WHERE id IN {LISTED} ORDER BY id", (listed(ids),))
        for number, checksum, blob in blobs:
            if len(blob) != dtype.itemsize * dim or zlib.crc32(blob, number) != checksum:
                raise StoreError(f"The vector {view} of row {number} in {self.file} is damaged (its checksum differs).")
        matrix = np.frombuffer(b"".join(blob for *_, blob in blobs), dtype).reshape(len(blobs), dim)
        return np.array([number for number, *_ in blobs], np.int64), matrix.astype(np.float32, copy=False)

    def filter(self, where: str) -> NDArray[np.int64]:
        """Return the ids of the rows that meet an SQL condition over their columns and metadata, ascending.

        It runs on a connection of its own that can only read these rows.

        Raises:
            UsageError: the condition is wrong, names an unknown column, or does more than compare.
        """
        metadata = dict(self._query("SELECT name, kind FROM columns ORDER BY name"))
        return filters.select(self.file, where, metadata)

    def size(self) -> int:
        """Return the bytes of the store on disk."""
        return sum(file.stat().st_size for file in self.folder.glob(f"{FILE_NAME}*"))

    def last_run(self) -> dict[str, str]:
        """Return how the last run worked: device, precision, versions, when."""
        found = self._query("SELECT settings FROM runs ORDER BY id DESC LIMIT 1")
        return dict(json.loads(found[0][0])) if found else {}

    # writing ------------------------------------------------------------------------------------------------------

    def start_run(self, settings: Mapping[str, Any]) -> int:
        """Record how a run works (device, precision, versions), and return its id."""
        with self._transaction():
            return int(
                self._db.execute("INSERT INTO runs (settings) VALUES (?)", (json.dumps(settings),)).lastrowid or 0
            )

    def next_id(self) -> int:
        """Return an id above every one that was ever used."""
        return int(self._query("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'rows'")[0][0])

    def add(self, batch: Iterable[tuple[Recording, Sequence[tuple[Row, Vectors]]]], run: int) -> None:
        """Store recordings with all their rows and vectors in one transaction; one that was there is replaced."""
        with self._transaction():
            tables = self._query("SELECT name, vectors, dtype FROM views")
            for recording, rows in batch:
                self._db.execute("DELETE FROM recordings WHERE path = ?", (os.fsencode(recording.path),))
                number = self._insert_recording(recording, run)
                self._db.executemany(
                    "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (row.id, number, row.stretch, row.start_s, row.end_s, row.label, row.group, row.split,
                         ",".join(row.flags), json.dumps(dict(row.meta)))
                        for row, _ in rows
                    ],
                )  # fmt: skip
                for view, table, dtype in tables:
                    kind = np.dtype(dtype).newbyteorder("<")
                    blobs = [(row.id, vectors[view].astype(kind).tobytes()) for row, vectors in rows]
                    self._db.executemany(
                        f"INSERT INTO {table} (id, checksum, vector) VALUES (?, ?, ?)",
                        [(number, zlib.crc32(blob, number), blob) for number, blob in blobs],
                    )
                self._note_columns(row.meta for row, _ in rows)
            self._set("generation", str(self.generation + 1))

    def relabel(self, rows: Iterable[Row]) -> None:
        """Write label, group, split and metadata of rows that are there, in one transaction."""
        rows = list(rows)
        with self._transaction():
            self._db.executemany(
                'UPDATE rows SET label = ?, "group" = ?, split = ?, meta = ? WHERE id = ?',
                [(row.label, row.group, row.split, json.dumps(dict(row.meta)), row.id) for row in rows],
            )
            self._note_columns(row.meta for row in rows)

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
        return int(cursor.lastrowid or 0)

    def _note_columns(self, metas: Iterable[Mapping[str, Any]]) -> None:
        """Remember the metadata columns, and which of them hold numbers alone."""
        kinds: dict[str, str] = {}
        for meta in metas:
            for name, value in meta.items():
                if value is not None and kinds.get(name) != "text":
                    kinds[name] = "number" if isinstance(value, (int, float)) else "text"
        self._db.executemany(
            "INSERT INTO columns VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET kind = 'text' "
            "WHERE excluded.kind = 'text'",
            kinds.items(),
        )

    def _get(self, key: str) -> str:
        found = self._query("SELECT value FROM collection WHERE key = ?", (key,))
        if not found:
            raise StoreError(f"{self.file} is damaged: it has no {key}.")
        return str(found[0][0])

    def _set(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO collection VALUES (?, ?)", (key, value))

    def _query(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with explained(self.file):
            return self._db.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with explained(self.file):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


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
