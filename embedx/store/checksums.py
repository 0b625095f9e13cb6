"""Checking: a connection to a store of which nothing is believed before it was compared with its checksum."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import StoreError
from embedx.store.schema import SUMMED, checksum, explained


class Checked:
    """What reads the tables of a store: values that differ from their checksum, or are missing, raise."""

    folder: Path
    file: Path
    _db: sqlite3.Connection
    _searchable = -1  # the generation in which the tables were compared with their keys

    @property
    def generation(self) -> int:
        """Grows when rows or vectors come, go or change, so that what is derived from them knows that it is stale."""
        return int(self._get("generation"))

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of all rows, ascending.

        Raises:
            StoreError: some are missing.
        """
        with self.snapshot():
            found = [number for (number,) in self._query("SELECT id FROM rows ORDER BY id")]
            self._require_all("rows", found)
        return np.array(found, np.int64)

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

    def _get(self, key: str) -> str:
        found = self._checked("collection", "WHERE key = ?", (key,))
        if not found:
            raise StoreError(f"{self.file} is damaged: it has no {key}.")
        return str(found[0][1])

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


def describe(table: str, values: Sequence[Any]) -> str:
    """Name a damaged row of a table.

    >>> describe("rows", [3, b"a.wav", 0])
    'Row 3'
    """
    if table == "rows":
        return f"Row {values[0]}"
    return f"The entry {values[0]} of the table {table}"
