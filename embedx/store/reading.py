"""Reading: what a store holds, every checksum compared, and all of it from one state."""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import StoreError
from embedx.recipe import Recipe, check_view
from embedx.store import filters
from embedx.store.checksums import Checked
from embedx.store.records import Recording, Row, from_stored
from embedx.store.schema import FILE_NAME, vector_sum

BLOCK = 2048  # rows that are read at a time: 6 MB of 768 float32
LISTED = "(SELECT value FROM json_each(?))"  # any number of ids as one SQL parameter


class Reader(Checked):
    """The half of a `Store` that reads. Nothing is served that differs from its checksum, or is not all there."""

    _sound = -1  # the generation in which all rows were compared with their checksums

    @property
    def recipe(self) -> Recipe:
        """How the vectors were made."""
        return Recipe.from_json(self._get("recipe"))

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
        return {view: dim for view, (_, dim, _) in self._tables().items()}

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
                name,
                from_stored(size),
                from_stored(mtime_ns),
                stretches,
                content,
                duration_s,
                rate,
                channels,
                split_flags(flags),
                reason,
                detail,
            )
        return known

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Return path -> what the run was given that embedded it (folders, manifests)."""
        given = {number: tuple(json.loads(text).get("sources", ())) for number, text in self._checked("runs")}
        return {os.fsdecode(path): given.get(run, ()) for _, path, *_, run in self._checked("recordings")}

    def rows(self, ids: Sequence[int] | None = None, path: str | None = None) -> list[Row]:
        """Return rows in the order of their ids: all, those with these ids, or those of one recording.

        Raises:
            StoreError: one is damaged, or missing.
        """
        if path is not None:
            self._require_searchable()
            recording = "(SELECT id FROM recordings WHERE path = ?)"
            return list(self.each_row(f"WHERE recording = {recording}", os.fsencode(path)))
        if ids is None:
            return list(self.each_row())
        with self.snapshot():
            found = list(self.each_row(f"WHERE id IN {LISTED}", listed(ids)))
            self._require_those(ids, [row.id for row in found], "rows")
        return found

    def each_row(self, which: str = "", *values: str | bytes) -> Iterator[Row]:
        """Yield what `rows` returns one by one: all, or those that meet a condition of SQL with its values."""
        for number, name, stretch, start, end, label, group, split, flags, meta in self._stream(
            "rows", f"{which} ORDER BY id", values
        ):
            place = (number, os.fsdecode(name), start, end)
            yield Row(*place, label, group, split, split_flags(flags), json.loads(meta), stretch)

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

    def size(self) -> int:
        """Return the bytes of the store on disk."""
        return sum(file.stat().st_size for file in self.folder.glob(f"{FILE_NAME}*"))

    def last_run(self) -> dict[str, str]:
        """Return how the last run worked: device, precision, versions, when."""
        found = self._checked("runs", "ORDER BY id DESC LIMIT 1")
        return dict(json.loads(found[0][1])) if found else {}

    def _tables(self) -> dict[str, tuple[str, int, np.dtype[Any]]]:
        """Return view -> its table, its dimension and the type of its numbers, in the order of the recipe."""
        views = self.recipe.views
        found = {
            name: (table, dim, np.dtype(dtype).newbyteorder("<"))
            for name, _, _, dim, dtype, table in self._checked("views")
        }
        if found.keys() != set(views):
            raise StoreError(f"{self.file} is damaged: its views are not those of its recipe.")
        return {view: found[view] for view in views}

    def _table(self, view: str) -> tuple[str, int, np.dtype[Any]]:
        """Return what `_tables` says of one view."""
        tables = self._tables()
        check_view(view, tables)
        return tables[view]


def listed(ids: Sequence[int]) -> str:
    """Return ids as the JSON that `LISTED` reads."""
    return json.dumps([int(number) for number in ids])


def split_flags(flags: str) -> tuple[str, ...]:
    """Return stored flags as a tuple.

    >>> split_flags("padded,silent"), split_flags("")
    (('padded', 'silent'), ())
    """
    return tuple(flags.split(",")) if flags else ()
