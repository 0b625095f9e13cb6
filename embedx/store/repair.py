"""Repair of a store, without the recordings: rows that cannot be restored are removed."""

import json
import os
from collections.abc import Iterable
from typing import Any

from embedx.errors import StoreError
from embedx.store.checksums import with_ids
from embedx.store.record import total_of
from embedx.store.records import Vectors
from embedx.store.schema import SUMMED, all_of, key_of
from embedx.store.writing import Writer


class Repairer(Writer):
    """The methods of `Store` that repair it.

    A table that does not add up stays so, unless what was damaged is known: it may have lost rows, or hold old ones.
    """

    _incomplete: tuple[str, ...] = ()  # tables of vectors that do not add up

    def repair(self) -> list[str]:
        """Repair everything except vectors; return the paths of the removed recordings.

        A row with damaged label or metadata is removed with its whole recording, since the values are lost; `extract`
        brings the recording back, and its edits are applied again. A damaged edit is removed; the rows keep its values
        until they are embedded again. The settings of a damaged run are emptied, the kinds of the metadata columns are
        determined again, and damaged tokens of generations are replaced, which makes all indexes out of date.

        Raises:
            StoreError: rows were removed, and the others still do not add up: the pages of the table are damaged.
                Nothing is changed then.
        """
        with self._transaction(check=False):
            before = dict(self._record.tables)
            self._db.execute("REINDEX")
            for table in SUMMED:
                self._restore_checksums(table)
            removed = self._remove_damaged()
            for key, *_ in self._damaged("runs"):
                with self._changing("runs", "WHERE id = ?", (key,), check=False):
                    self._db.execute("UPDATE runs SET settings = '{}' WHERE id = ?", (key,))
            for key, *_ in self._damaged("edits"):
                self._remove("edits", "WHERE id = ?", (key,))
            if self._is_wrong("columns"):
                self._empty("columns")
                self._store_columns(json.loads(meta) for (meta,) in self._query("SELECT meta FROM rows"))
            if is_wrong := self._is_wrong("history"):
                self._empty("history")
            if removed or is_wrong:
                self._grow()
            tables = [table for table, _, _ in self._tables().values()]
            self._incomplete = tuple(t for t in tables if self._stored_total(t) != self._record.tables[t])
            for table in ("rows", "recordings"):  # the new numbers would be served, and could be wrong
                total = self._record.tables[table]
                if total != before[table] and total != self._stored_total(table):
                    raise StoreError(
                        f"The {table} of {self.file} cannot be told apart. Restore a backup, or extract again."
                    )
        return removed

    def rewrite(self, rows: Iterable[tuple[int, Vectors]]) -> None:
        """Replace the vectors of rows, in one transaction."""
        with self._transaction(check=False):
            tables = self._tables()
            incomplete = {table: self._record.tables[table] for table in self._incomplete}
            for number, vectors in rows:
                for view, vector in vectors.items():
                    table, _, kind = tables[view]
                    self._remove(table, "WHERE id = ?", (number,))
                    self._insert_vectors(table, [(number, vector.astype(kind).tobytes())])
            self._record.tables.update(incomplete)  # they add up if these vectors are the ones that were lost
            self._grow(is_rewritten=True)

    def recount_vectors(self) -> None:
        """Accept the stored vectors of all views, after all of them were computed again."""
        with self._transaction(check=False):
            for table, _, _ in self._tables().values():
                self._db.execute(f"DELETE FROM {table} WHERE id NOT IN (SELECT id FROM rows)")
                self._record.tables[table] = self._stored_total(table)

    def _remove_damaged(self) -> list[str]:
        """Remove the recordings that are damaged or have damaged rows; return their paths.

        Damage can give a row the id of another one. Both are removed then, with their recordings.
        """
        rows = [row for row in self._damaged("rows") if not self._restore_reference(row)]
        damaged = {row[0] for row in self._damaged("recordings")} | {row[1] for row in rows}
        ids, places = {row[0] for row in rows}, self._query("SELECT id, recording FROM rows NOT INDEXED")
        before = -1
        while len(damaged) > before:
            before = len(damaged)
            ids |= {row_id for row_id, recording in places if recording in damaged}
            damaged |= {recording for row_id, recording in places if row_id in ids}
        numbers = sorted(number for number in damaged if isinstance(number, int))
        which, values = with_ids(numbers)
        paths = self._query(f"SELECT CAST(path AS BLOB) FROM recordings {which}", values)
        self._remove_recordings(numbers)
        self._remove_rows([row[0] for row in rows if isinstance(row[0], int)])
        return [os.fsdecode(path) for (path,) in paths]

    def _restore_checksums(self, table: str) -> None:
        """Restore the checksums of a table, if the values of all its rows are as they were committed."""
        rows = self._query(f"SELECT {SUMMED[table]} FROM {all_of(table)}")
        renewed = [(self._checksums.row(table, row), row[0]) for row in rows]
        if total_of(checksum for checksum, _ in renewed) == self._record.tables[table]:
            self._db.executemany(f"UPDATE {table} SET checksum = ? WHERE {key_of(table)} = ?", renewed)

    def _restore_reference(self, row: tuple[Any, ...]) -> bool:
        """Restore the reference of a row to its recording; return False if other values of the row are damaged."""
        number, _, *rest = row
        stored = self._query("SELECT checksum FROM rows WHERE id = ?", (number,))  # a damaged id finds none
        for (recording,) in self._query("SELECT id FROM recordings"):
            if (self._checksums.row("rows", (number, recording, *rest)),) in stored:
                self._db.execute("UPDATE rows SET recording = ? WHERE id = ?", (recording, number))
                return True
        return False

    def _damaged(self, table: str) -> list[tuple[Any, ...]]:
        """Return the values of the rows of a table whose checksum differs."""
        rows = self._query(f"SELECT checksum, {SUMMED[table]} FROM {table}")
        return [tuple(values) for stored, *values in rows if self._checksums.row(table, values) != stored]

    def _is_wrong(self, table: str) -> bool:
        """Tell whether a table has damaged rows, or does not add up."""
        return bool(self._damaged(table)) or self._stored_total(table) != self._record.tables[table]

    def _empty(self, table: str) -> None:
        """Delete all rows of a table that can be computed again."""
        self._db.execute(f"DELETE FROM {table}")
        self._record.tables[table] = (0, 0)
