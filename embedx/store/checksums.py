"""Checked reading: every row of a table is compared with its checksum before it is used."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import StoreError
from embedx.store.schema import SUMMED, checksum, wrap_errors


class Checked:
    """Read the tables of a store; raise for values that differ from their checksum, and for missing rows."""

    folder: Path
    file: Path
    _db: sqlite3.Connection
    _searchable: int | None = None  # the generation in which the keys of the tables were checked

    @property
    def generation(self) -> int:
        """A number that grows with every change of rows or vectors: an index of another generation is out of date."""
        return int(self._get("generation"))

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of all rows, ascending.

        Raises:
            StoreError: rows are missing.
        """
        with self.snapshot():
            ids = [row_id for (row_id,) in self._query("SELECT id FROM rows ORDER BY id")]
            self._require_all("rows", ids)
        return np.array(ids, np.int64)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within this context, read one state of the store, whatever other processes commit meanwhile."""
        with wrap_errors(self.file):
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def _get(self, key: str) -> str:
        """Return a value of the table `collection`."""
        rows = self._checked("collection", "WHERE key = ?", (key,))
        if not rows:
            raise StoreError(f"{self.file} is damaged: it has no {key}.")
        return str(rows[0][1])

    def _query(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of a query; checksums are not compared."""
        with wrap_errors(self.file):
            return self._db.execute(sql, values).fetchall()

    def _checked(self, table: str, which: str = "", values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return rows of a table, after their checksums were compared.

        Raises:
            StoreError: a checksum differs; the message names the row.
        """
        return list(self._stream(table, which, values))

    def _stream(self, table: str, which: str = "", values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield what `_checked` returns, row by row."""
        _, columns = SUMMED[table]
        whole = table in ("rows", "recordings") and not which.startswith("WHERE")
        keys: list[int] = []
        with self.snapshot():
            for stored, *rest in self._db.execute(f"SELECT checksum, {columns} FROM {table} {which}", values):
                if checksum(rest) != stored:
                    raise StoreError(
                        f"{describe(table, rest)} in {self.file} is damaged (its checksum differs). `embedx verify "
                        f"{self.folder}` lists all damage."
                    )
                if whole:
                    keys.append(rest[0])
                yield tuple(rest)
            if whole:
                self._require_all(table, keys)

    def _tally(self, table: str) -> tuple[int, int]:
        """Return the stored number of rows or recordings, and the stored sum of their ids."""
        count, total = map(int, self._get(table).split())
        return count, total

    def _require_all(self, table: str, ids: Sequence[int]) -> None:
        """Check that all rows were read: a damaged page can hide rows without an error.

        Raises:
            StoreError: rows are missing.
        """
        count, total = self._tally(table)
        in_order = all(first < second for first, second in pairwise(ids))  # not if pages have changed places
        if (len(ids), sum(ids)) != (count, total) or not in_order:
            raise StoreError(
                f"{self.file} is damaged: the table {table} should hold {count} entries, but it holds {len(ids)}, or "
                f"others. `embedx verify {self.folder}` lists all damage."
            )

    def _require_those(self, requested: Sequence[int], read: Sequence[int], what: str) -> None:
        """Check that the requested rows were read, except those that do not exist.

        Raises:
            StoreError: a row exists and was not read.
        """
        missing = {int(row_id) for row_id in requested}.difference(read)
        if missing and (lost := missing.intersection(self.ids().tolist())):
            raise StoreError(f"{self.file} is damaged: the {what} of row {min(lost)} cannot be found.")

    def _require_searchable(self) -> None:
        """Check that the keys find every row and recording; once for every generation.

        Raises:
            StoreError: a key is damaged.
        """
        with self.snapshot():
            if self._searchable == (generation := self.generation):
                return
            for table in ("rows", "recordings"):
                [problem] = self._query(f"PRAGMA integrity_check({table})")[0]
                if problem != "ok":
                    raise StoreError(f"{self.file} is damaged: {problem}.")
            self._searchable = generation


def describe(table: str, values: Sequence[Any]) -> str:
    """Return the name of a damaged row of a table for a message.

    >>> describe("rows", [3, b"a.wav", 0])
    'Row 3'
    """
    if table == "rows":
        return f"Row {values[0]}"
    return f"The entry {values[0]} of the table {table}"
