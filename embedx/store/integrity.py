"""Integrity: find all damage in the files of a store.

Three checks complement each other: SQLite checks its pages, embedx compares the checksums of all rows and vectors, and
the commit record shows rows that are missing, or are older than the last commit.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from embedx.errors import EmbedxError, StoreError
from embedx.store.checksums import OlderState
from embedx.store.connections import connect, wrap_errors
from embedx.store.lock import LOCK_NAME, POLL_S, read_lock
from embedx.store.record import RunningTotal, Total
from embedx.store.records import Issue
from embedx.store.schema import FILE_NAME, MIGRATIONS, SUMMED, all_of, check_version, key_of
from embedx.store.store import Store


def inspect(folder: Path) -> Iterator[Issue]:
    """Yield all damage in the store of a folder. Nothing is changed."""
    file = folder / FILE_NAME
    if not file.is_file():
        yield Issue("file", str(file), "It is missing.")
        return
    try:
        yield from inspect_lock(folder)
        with wrap_errors(file), contextlib.closing(connect(file, "ro")) as db:
            if check_version(db, file) < len(MIGRATIONS):
                raise StoreError(f"{file} has an older format. Any other command updates it.")
        with Store(folder) as store, store.snapshot():
            for table in SUMMED:
                yield from inspect_table(store, table)
            yield from inspect_pages(store)
            for view, (table, dim, dtype) in store._tables().items():
                yield from inspect_vectors(store, view, table, dim * dtype.itemsize)
    except OlderState as error:
        yield Issue("log", str(file), str(error))
    except EmbedxError as error:
        yield Issue("file", str(file), str(error))


def inspect_lock(folder: Path) -> Iterator[Issue]:
    """Check the file `lock`; a writer may be writing it, so damage has to be seen twice."""
    lock = folder / LOCK_NAME
    if not lock.exists():
        yield Issue("file", str(lock), "It is missing.")
    elif not (content := read_lock(folder)).is_intact:
        time.sleep(POLL_S)
        if read_lock(folder) == content:
            yield Issue("file", str(lock), "It is damaged, or holds no copy of the commit record.")


def inspect_pages(store: Store) -> Iterator[Issue]:
    """Let SQLite check its pages, keys and references."""
    db = store._db
    for (problem,) in db.execute("PRAGMA integrity_check(20)"):
        if problem != "ok":
            yield Issue("table", FILE_NAME, problem)
    for table, number, *_ in db.execute("PRAGMA foreign_key_check"):
        yield Issue("table", f"{table} {number}", "It refers to a row that does not exist.")


def inspect_table(store: Store, table: str) -> Iterator[Issue]:
    """Compare all rows of a table with their checksums, and their sum with the commit record."""
    kind = {"rows": "row", "recordings": "recording"}.get(table, "table")
    running = RunningTotal()
    try:
        for stored, *values in store._db.execute(
            f"SELECT checksum, {SUMMED[table]} FROM {all_of(table)} ORDER BY {key_of(table)}"
        ):
            running.add((stored,))
            if store._checksums.row(table, values) != stored:
                row_id = values[0] if isinstance(values[0], int) else 0
                yield Issue(kind, f"{table} {values[0]}", "Its checksum differs.", row_id)
        yield from inspect_total(store, table, running.total)
    except sqlite3.Error as error:
        yield Issue("table", table, f"It cannot be read completely: {error}")


def inspect_total(store: Store, table: str, total: Total) -> Iterator[Issue]:
    """Compare the number of rows of a table and the sum of their checksums with the commit record."""
    expected = store._record.tables.get(table, (0, 0))
    if total != expected:
        detail = f"It should hold {expected[0]} entries, but it holds {total[0]}, or others."
        yield Issue("table", table, detail)


def inspect_vectors(store: Store, view: str, table: str, width: int) -> Iterator[Issue]:
    """Compare all vectors with their checksums and the commit record, and check that every row has one."""
    running = RunningTotal()
    damaged = False
    try:
        for row_id, stored, vector in store._db.execute(f"SELECT id, checksum, vector FROM {table} ORDER BY id"):
            running.add((stored,))
            is_valid = isinstance(vector, bytes) and len(vector) == width
            if not is_valid or store._checksums.vector(table, row_id, vector) != stored:
                damaged = True
                yield Issue("vector", f"{view} of row {row_id}", "Its checksum differs.", row_id)
        for (row_id,) in store._db.execute(f"SELECT id FROM rows WHERE id NOT IN (SELECT id FROM {table})"):
            damaged = True
            yield Issue("vector", f"{view} of row {row_id}", "It is missing.", row_id)
        if not damaged:  # else what is missing is named
            yield from inspect_total(store, table, running.total)
    except sqlite3.Error as error:
        yield Issue("table", table, f"It cannot be read completely: {error}")
