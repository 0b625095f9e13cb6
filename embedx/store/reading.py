"""Reading a store: every checksum is compared, and every result is from one state of the store."""

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import NothingToDo, StoreError
from embedx.extractors.names import check_stored_family
from embedx.recipe import Recipe, check_view
from embedx.store import filters
from embedx.store.checksums import BLOCK, Checked, with_ids
from embedx.store.lock import Lock
from embedx.store.record import RunningTotal
from embedx.store.records import Recording, Row, from_stored
from embedx.store.schema import DTYPES, FILE_NAME, MAX_JSON, vector_tables

LABELS = ("label", "group", "split")  # columns of every row that say what it is
MAX_DIM = 1_000_000  # of a vector; the largest models have some thousands
MAX_PATHS = 500  # in one statement; SQLite takes 32 766 values


class Reader(Checked):
    """The methods of `Store` that read. A value that is damaged or missing raises, and is never returned."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the vectors."""
        return self._once("recipe", self._read_recipe)

    def _read_recipe(self) -> Recipe:
        rows = self._checked("collection", "WHERE key = 'recipe'")
        if not rows or len(rows[0][1]) > MAX_JSON:
            raise StoreError(f"{self.file} is damaged: it has no recipe.")
        recipe = Recipe.from_json(rows[0][1])
        check_stored_family(recipe.extractor)
        return recipe

    def token(self, generation: int) -> str | None:
        """Return the random token of a generation: no other store has it, nor a copy that was changed since."""
        rows = self._checked("history", "WHERE generation = ?", (generation,))
        return rows[0][1] if rows else None

    @property
    def views(self) -> dict[str, int]:
        """Name and dimension of every view, in the order of the recipe."""
        return {view: dim for view, (_, dim, _) in self._tables().items()}

    @property
    def columns(self) -> dict[str, str]:
        """Metadata column -> "number" (it holds only numbers) or "text"."""
        return dict(self._once("columns", lambda: self._checked("columns", "ORDER BY name")))

    @property
    def dtype(self) -> str:
        """How vectors are stored: "float32" or "float16". They are read as float32."""
        return str(self._table(self.recipe.default_view)[2].name)

    @property
    def version(self) -> str:
        """A text that differs between stores, and after vectors of existing rows were replaced."""
        record = self.record
        identity = f"{record.store}.{record.rewritten}"
        return hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()

    def require_rows(self) -> int:
        """Return the number of rows.

        Raises:
            NothingToDo: there is none; the message says why the first recording failed, if all of them failed.
        """
        if rows := self.count():
            return rows
        details = [recording.detail for recording in self.each_recording() if recording.reason]
        why = f": every recording failed ({len(details)}). The first: {details[0]}" if details else "."
        listed = f" `embedx status {self.folder} --failed` lists all." if details else ""
        raise NothingToDo(f"{self.folder} has no rows{why}{listed}")

    def hours(self) -> float:
        """Return the duration of all recordings in hours, without those that failed."""
        recordings = self.each_recording()
        return sum(recording.duration_s or 0.0 for recording in recordings if not recording.reason) / 3600

    def count_recordings(self) -> tuple[int, float]:
        """Return the number of recordings that could be read, and their hours; checksums are not compared."""
        ((count, seconds),) = self._query("SELECT count(*), total(duration_s) FROM recordings WHERE status = 'ok'")
        return count, seconds / 3600

    def recordings(self, paths: Sequence[str] | None = None) -> dict[str, Recording]:
        """Return path -> recording, also of those that failed: all, or those with these paths."""
        with self.snapshot():
            if paths is None:
                return {recording.path: recording for recording in self.each_recording()}
            self._compare("recordings", keys=True)
            which, values = with_ids(self._numbers(paths))
            return {recording.path: recording for recording in self.each_recording(which, values)}

    def each_recording(self, which: str = "", values: tuple[str, ...] = ()) -> Iterator[Recording]:
        """Yield recordings one by one, also those that failed: all, or those that meet an SQL condition."""
        for (
            _,
            path,
            size,
            mtime_ns,
            content,
            seconds,
            rate,
            channels,
            parts,
            _,
            reason,
            detail,
            flags,
            _,
        ) in self._stream("recordings", f"{which} ORDER BY id", values):
            state = os.fsdecode(path), from_stored(size), from_stored(mtime_ns), parts, content
            sound = seconds, rate, channels, split_flags(flags)
            yield Recording(*state, *sound, reason, detail)

    def _numbers(self, paths: Iterable[str]) -> list[int]:
        """Return the ids of the recordings with these paths."""
        names, numbers = [os.fsencode(path) for path in paths], list[int]()
        for start in range(0, len(names), MAX_PATHS):
            block = tuple(names[start : start + MAX_PATHS])
            marks = ", ".join("?" * len(block))
            found = self._query(f"SELECT id FROM recordings WHERE path IN ({marks})", block)
            numbers += [number for (number,) in found]
        return numbers

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Return path -> the sources (folders, manifests) of the run that embedded the recording."""
        with self.snapshot():
            sources = {run: sources_of(to_object(text)) for run, text in self._checked("runs")}
            return {os.fsdecode(path): sources.get(run, ()) for _, path, *_, run in self._checked("recordings")}

    def source_names(self) -> list[str]:
        """Return the absolute names of the sources (folders, files, manifests) of all runs."""
        return list(self._once("sources", lambda: [name for run in self.runs() for name in sources_of(run)]))

    def rows(self, ids: Sequence[int] | None = None, paths: Iterable[str] | None = None) -> list[Row]:
        """Return rows in the order of their ids.

        Args:
            ids: ids of the rows to return; default: all rows. Ids that do not exist are left out.
            paths: instead, the recordings whose rows to return.

        Raises:
            StoreError: a row is damaged or missing.
        """
        with self.snapshot():
            if paths is not None:
                self._compare("rows", "recordings", keys=True)
                return list(self.each_row(*with_ids(self._numbers(paths), "recording")))
            if ids is None:
                return list(self.each_row())
            rows = list(self.each_row(*with_ids(ids)))
            if len(rows) < len(set(ids)):
                self._check_all("rows")  # an id that does not exist, or one that is damaged
        return rows

    def next_ids(self, after: int, count: int) -> list[int]:
        """Return the next ids of rows, ascending.

        Args:
            after: only larger ids.
            count: the largest number of ids.
        """
        with self.snapshot():
            return [
                number
                for (number,) in self._query("SELECT id FROM rows WHERE id > ? ORDER BY id LIMIT ?", (after, count))
            ]

    def existing(self, ids: Sequence[int]) -> list[int]:
        """Return those ids that rows have, ascending; checksums are not compared."""
        which, values = with_ids(ids)
        with self.snapshot():
            return [number for (number,) in self._query(f"SELECT id FROM rows {which} ORDER BY id", values)]

    def each_row(self, which: str = "", values: tuple[str | bytes, ...] = ()) -> Iterator[Row]:
        """Yield rows one by one: all, or those that meet an SQL condition with its values."""
        with self.snapshot():
            paths = self._paths(f"WHERE id IN (SELECT recording FROM rows {which})" if which else "", values)
            for number, recording, stretch, start, end, label, group, split, flags, meta, source_values in self._stream(
                "rows", f"{which} ORDER BY id", values
            ):
                if recording not in paths:
                    raise StoreError(f"{self.file} is damaged: the recording of row {number} cannot be found.")
                place = (number, paths[recording], start, end)
                described = (label, group, split)
                yield Row(*place, *described, split_flags(flags), to_object(meta), stretch, to_object(source_values))

    def _paths(self, which: str, values: tuple[str | bytes, ...]) -> dict[int, str]:
        """Return id -> path of recordings: all, or those that meet an SQL condition with its values."""
        return {number: os.fsdecode(path) for number, path, *_ in self._stream("recordings", which, values)}

    def paths_of(self, content_hash: str) -> list[str]:
        """Return the paths of the recordings with this content."""
        with self.snapshot():
            self._compare("recordings", keys=True)
            rows = self._checked("recordings", "WHERE content_hash = ?", (content_hash,))
        return [os.fsdecode(path) for _, path, *_ in rows]

    def vectors(self, view: str, ids: Sequence[int] | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids [N] and vectors [N, D] of a view, in the order of the ids.

        Args:
            view: the view.
            ids: ids of the rows to return; default: all rows. Ids that do not exist are left out.

        Raises:
            UsageError: there is no such view.
            StoreError: a vector is damaged or missing.
        """
        with self.snapshot():
            most = self.count() if ids is None else len(set(ids))
            all_ids, all_vectors = np.empty(most, np.int64), np.empty((most, self._table(view)[1]), np.float32)
            end = 0
            for block_ids, vectors in self.blocks(view, ids):
                start, end = end, min(end + len(block_ids), most)  # more are damage, which `blocks` refuses at its end
                all_ids[start:end], all_vectors[start:end] = block_ids[: end - start], vectors[: end - start]
        return all_ids[:end], all_vectors[:end]

    def blocks(
        self, view: str, ids: Sequence[int] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield what `vectors` returns in blocks of up to 2048 rows, so that memory is bounded."""
        table, dim, dtype = self._table(view)
        which, values = with_ids(ids or ())
        which, values = ("", ()) if ids is None else (f"{which} AND id IN (SELECT id FROM rows)", values)
        parts, running = [np.zeros(0, np.int64)], RunningTotal()
        with self.snapshot():
            if ids is not None and self._record.rewritten:  # an old vector of the same row can have come back
                self._compare(table)
            cursor = self._db.execute(f"SELECT id, checksum, vector FROM {table} {which} ORDER BY id", values)
            while blobs := cursor.fetchmany(BLOCK):
                for number, stored, blob in blobs:
                    is_valid = isinstance(blob, bytes) and len(blob) == dtype.itemsize * dim
                    if not is_valid or self._checksums.vector(table, number, blob) != stored:
                        raise StoreError(
                            f"The vector {view} of row {number} in {self.file} is damaged (its checksum differs). "
                            f"`embedx verify {self.folder} --repair` computes it again from its recording."
                        )
                parts.append(np.array([number for number, *_ in blobs], np.int64))
                running.add(stored for _, stored, _ in blobs)
                matrix = np.frombuffer(b"".join(blob for *_, blob in blobs), dtype).reshape(len(blobs), dim)
                yield parts[-1], matrix.astype(np.float32, copy=False)
            read = np.concatenate(parts)
            if ids is None:
                self._require_total(table, running.total)
                if not np.array_equal(read, self.ids()):
                    raise StoreError(f"{self.file} is damaged: the vectors {view} and the rows have other ids.")
            else:
                missing = set(map(int, ids)).difference(read.tolist())
                if missing and (lost := missing.intersection(self.ids().tolist())):
                    raise StoreError(f"{self.file} is damaged: the vectors {view} of row {min(lost)} cannot be found.")

    def filter(
        self,
        where: str,
        timeout: float = filters.TIMEOUT_S,
        columns: Mapping[str, str] | None = None,
        part: tuple[int, int] | None = None,
    ) -> NDArray[np.int64]:
        """Return the ids of the rows that meet an SQL condition over their columns and metadata, ascending.

        All rows are compared with their checksums first, since a damaged value could select the wrong rows.

        Args:
            where: the condition, such as "label = 'dog' AND duration_s > 2".
            timeout: seconds that the condition can take.
            columns: the metadata columns that it can name, with their kinds; default: those of this store.
            part: only ids above the first number, and as many as the second; default: all.

        Raises:
            UsageError: the condition is invalid, names an unknown column, does more than compare, or takes too long.
            StoreError: a row is damaged.
        """
        with self.snapshot():
            with self._compared.lock("filter"):
                if not self._is_compared("filter"):
                    self._check_blocks("rows", "recordings")
                    self._compared.add("filter", self._state())
            self._compare("rows", "recordings", keys=True)
            return filters.select(self._db, where, self.columns if columns is None else columns, timeout, part)

    def column(self, name: str) -> tuple[NDArray[np.int64], list[Any]]:
        """Return the ids of all rows, ascending, and their values in a column, as conditions compare them.

        Raises:
            UsageError: there is no such column.
        """
        with self.snapshot():
            self._compare("rows", "recordings")
            pairs = filters.read_column(self._db, name, self.columns)
        return np.array([number for number, _ in pairs], np.int64), [value for _, value in pairs]

    def distinct(self, limit: int) -> dict[str, list[Any]]:
        """Return column -> its different values, sorted, as conditions compare them.

        Args:
            limit: the largest number of values; a column that has more, or none, gets an empty list.
        """
        with self.snapshot():
            self._compare("rows")
            names = dict.fromkeys([*LABELS, *self.columns])
            return {name: filters.read_distinct(self._db, name, self.columns, limit) for name in names}

    def values(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return row id -> column -> value as conditions compare it: a text, a number or None.

        Args:
            ids: ids of the rows, up to some thousands. Ids that do not exist are left out.

        Raises:
            StoreError: a row is damaged.
        """
        with self.snapshot():
            self.rows(ids)  # compares their checksums
            return filters.read_values(self._db, ids, self.columns)

    def copy_to(self, folder: Path) -> None:
        """Write a copy of the store, in the state of its last commit, into another folder."""
        with self.snapshot(), contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as copy:
            self._db.backup(copy)
            lock = Lock(folder)
            lock.keep(self._record.copy)
            lock.release()

    def size(self) -> int:
        """Return the size of the store on disk, in bytes."""
        return sum(file.stat().st_size for file in self.folder.glob(f"{FILE_NAME}*"))

    def runs(self) -> list[dict[str, Any]]:
        """Return the settings of all runs, the oldest first."""
        return [to_object(text) for _, text in self._checked("runs", "ORDER BY id")]

    def last_run(self) -> dict[str, str]:
        """Return the settings of the last run: device, precision, versions, date."""
        return (self.runs() or [{}])[-1]

    def _tables(self) -> dict[str, tuple[str, int, np.dtype[Any]]]:
        """Return view -> (table, dimension, dtype), in the order of the recipe."""
        return self._once("views", self._read_tables)

    def _read_tables(self) -> dict[str, tuple[str, int, np.dtype[Any]]]:
        with self.snapshot():
            names = vector_tables(recipe := self.recipe)
            views = self._checked("views")
        stored = {
            name: (int(dim), np.dtype(dtype).newbyteorder("<"))
            for name, _, _, dim, dtype, _ in views
            if dtype in DTYPES and str(dim).isdigit()
        }
        if stored.keys() != set(recipe.views) or any(not 0 < dim <= MAX_DIM for dim, _ in stored.values()):
            raise StoreError(f"{self.file} is damaged: its views differ from those of its recipe.")
        return {view: (table, *stored[view]) for view, table in zip(recipe.views, names, strict=True)}

    def _table(self, view: str) -> tuple[str, int, np.dtype[Any]]:
        """Return (table, dimension, dtype) of a view; refuse an unknown view."""
        tables = self._tables()
        check_view(view, tables)
        return tables[view]


def sources_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the sources of a run; a stranger may have stored other things."""
    sources = settings.get("sources")
    return tuple(name for name in sources if isinstance(name, str)) if isinstance(sources, list) else ()


def to_object(text: str) -> dict[str, Any]:
    """Return a stored JSON object.

    Raises:
        StoreError: it is no object, or too deep.
    """
    if text == "{}":  # most rows have no values of their own
        return {}
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    raise StoreError(f"The store is damaged: {text[:50]!r} is not a JSON object.")


def split_flags(flags: str) -> tuple[str, ...]:
    """Return stored flags as a tuple.

    >>> split_flags("padded,silent"), split_flags("")
    (('padded', 'silent'), ())
    """
    return tuple(flags.split(",")) if flags else ()
