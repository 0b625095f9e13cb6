"""Changes: the rows of a table, their checksums and the commit record change together, inside a transaction."""

import contextlib
from collections.abc import Iterator
from typing import Any

from embedx.store.reading import Reader
from embedx.store.schema import SUMMED


class Changes(Reader):
    """The methods of `Store` with which every change of a table is made."""

    def _sum(self, table: str, which: str, values: tuple[Any, ...] = ()) -> None:
        """Compute the checksums of new or changed rows of a table, and add them to the commit record."""
        new = self._query(
            f"UPDATE {table} SET checksum = checksum_of('{table}', {SUMMED[table]}) {which} RETURNING checksum", values
        )
        self._record.count(table, (checksum for (checksum,) in new))

    def _remove(self, table: str, which: str, values: tuple[Any, ...] = ()) -> None:
        """Delete rows of a table, and subtract their checksums, as they stand, from the commit record."""
        gone = self._query(f"DELETE FROM {table} {which} RETURNING checksum", values)
        self._record.count(table, (checksum for (checksum,) in gone), -1)

    @contextlib.contextmanager
    def _changing(self, table: str, which: str, values: tuple[Any, ...], check: bool = True) -> Iterator[None]:
        """Change rows of a table within this context: a damaged one is refused, and not given a new checksum."""
        if check:
            self._checked(table, which, values)
        before = self._query(f"SELECT checksum FROM {table} {which}", values)
        self._record.count(table, (checksum for (checksum,) in before), -1)
        yield
        self._sum(table, which, values)
