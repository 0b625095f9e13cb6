"""Integrity: find all damage in the files of a store.

Three checks complement each other: SQLite checks its pages, embedx compares the checksums of all rows and vectors, and
the seal of the last writer covers the whole file.
"""

import contextlib
import os
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import EmbedxError, StoreError
from embedx.store.lock import LOCK_NAME, hash_file, read_lock
from embedx.store.schema import (
    FILE_NAME,
    MIGRATIONS,
    SUMMED,
    VECTORS,
    check_version,
    checksum,
    connect,
    tally,
    vector_sum,
    wrap_errors,
)

WAL_HEADER, FRAME_HEADER = 32, 24  # bytes; https://www.sqlite.org/fileformat.html, section 4

LOST = "what was committed after it is lost."


@dataclass(frozen=True)
class Issue:
    """Damage, or a file that does not belong to the collection."""

    kind: str  # "vector", "row", "recording", "table", "file", "log", "index" or "foreign"
    place: str
    detail: str
    id: int = 0  # of the row or recording, if there is one


def inspect(folder: Path) -> Iterator[Issue]:
    """Yield all damage in the store of a folder. Nothing is changed."""
    file = folder / FILE_NAME
    if not file.is_file():
        yield Issue("file", str(file), "It is missing.")
        return
    yield from inspect_seal(folder)
    yield from inspect_wal(Path(f"{file}-wal"))
    try:
        with wrap_errors(file), contextlib.closing(connect(file, "ro")) as db:
            if check_version(db, file) < len(MIGRATIONS):
                raise StoreError(f"{file} has an older format. Any other command updates it.")
            db.execute("BEGIN")
            yield from inspect_pages(db)
            for table in SUMMED:
                yield from inspect_table(db, table)
            yield from inspect_tally(db)
            yield from inspect_vectors(db)
    except EmbedxError as error:
        yield Issue("file", str(file), str(error))


def inspect_seal(folder: Path) -> Iterator[Issue]:
    """Compare the file with the seal of the last writer. There is none while a writer is active, or after a kill."""
    lock, file = folder / LOCK_NAME, folder / FILE_NAME
    if not lock.exists():
        yield Issue("file", str(lock), "It is missing.")
        return
    try:
        seal = read_lock(folder).seal
        if seal is None:
            return
        is_intact = file.stat().st_size == seal["size"] and hash_file(file) == seal["sha256"]
        if not is_intact and read_lock(folder).seal == seal:  # else a writer has started meanwhile
            yield Issue(
                "file",
                str(file),
                "It has changed since embedx wrote it: its size or hash differs from the one in `lock`.",
            )
    except StoreError as error:
        yield Issue("file", str(lock), str(error))


def inspect_pages(db: sqlite3.Connection) -> Iterator[Issue]:
    """Let SQLite check its pages, keys and references, and compare the table definitions with those of embedx."""
    for (problem,) in db.execute("PRAGMA integrity_check(20)"):
        if problem != "ok":
            yield Issue("table", FILE_NAME, problem)
    for table, number, *_ in db.execute("PRAGMA foreign_key_check"):
        yield Issue("table", f"{table} {number}", "It refers to a row that does not exist.")
    views = [table for *_, table in intact_views(db)]
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        for statements in (*MIGRATIONS, ";".join(VECTORS.format(table) for table in views)):
            empty.executescript(statements)
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        different = set(db.execute(query)) ^ set(empty.execute(query))
    for name in sorted({definition[1] for definition in different}):
        yield Issue("table", name, "Its definition differs from that of embedx.")
    (highest,) = db.execute("SELECT coalesce(max(id), 0) FROM rows").fetchone()
    used = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'rows'").fetchone() or (0,)
    if highest > used[0]:
        yield Issue("table", "sqlite_sequence", "It is lower than the highest id in use.")


def inspect_table(db: sqlite3.Connection, table: str) -> Iterator[Issue]:
    """Compare all rows of a table with their checksums."""
    _, columns = SUMMED[table]
    kind = {"rows": "row", "recordings": "recording"}.get(table, "table")
    try:
        for stored, *values in db.execute(f"SELECT checksum, {columns} FROM {table}"):
            if checksum(values) != stored:
                row_id = values[0] if isinstance(values[0], int) else 0
                yield Issue(kind, f"{table} {values[0]}", "Its checksum differs.", row_id)
    except sqlite3.Error as error:
        yield Issue("table", table, f"It cannot be read completely: {error}")


def inspect_tally(db: sqlite3.Connection) -> Iterator[Issue]:
    """Compare the numbers of rows and recordings with the stored ones."""
    stored = dict(db.execute("SELECT key, value FROM collection"))
    for table, (count, total) in tally(db).items():
        if stored.get(table) != f"{count} {total}":
            expected = str(stored.get(table, "none")).split(" ")[0]
            detail = f"It should hold {expected} entries, but it holds {count}, or others."
            yield Issue("table", table, detail)


def intact_views(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return name, layer, pooling, dim, dtype and table of the views whose checksum is right."""
    _, columns = SUMMED["views"]
    rows = db.execute(f"SELECT checksum, {columns} FROM views").fetchall()
    return [tuple(values) for stored, *values in rows if checksum(values) == stored]


def inspect_vectors(db: sqlite3.Connection) -> Iterator[Issue]:
    """Compare all vectors with their checksums, and check that every row has one in every view."""
    for view, _, _, dim, dtype, table in intact_views(db):
        width = dim * np.dtype(dtype).itemsize
        try:
            for row_id, stored, vector in db.execute(f"SELECT id, checksum, vector FROM {table}"):
                is_valid = isinstance(vector, bytes) and len(vector) == width
                if not is_valid or vector_sum(table, row_id, vector) != stored:
                    yield Issue("vector", f"{view} of row {row_id}", "Its checksum differs.", row_id)
            for (row_id,) in db.execute(f"SELECT id FROM rows WHERE id NOT IN (SELECT id FROM {table})"):
                yield Issue("vector", f"{view} of row {row_id}", "It is missing.", row_id)
        except sqlite3.Error as error:
            yield Issue("table", table, f"It cannot be read completely: {error}")


def inspect_wal(file: Path) -> Iterator[Issue]:
    """Check the write-ahead log of a killed writer: SQLite drops all frames after a damaged one without an error.

    A frame that the kill cut short is not damage; a complete frame that differs from its checksum is.
    """
    if not file.is_file() or os.path.getsize(file) < WAL_HEADER:
        return
    data = file.read_bytes()
    magic, _, page, restarts, *salts = struct.unpack(">6I", data[:24])
    order = ">" if magic & 1 else "<"
    sums = wal_sum(data[:24], order, (0, 0))
    if magic & ~1 != 0x377F0682 or sums != struct.unpack(">2I", data[24:WAL_HEADER]):
        yield Issue("log", str(file), f"Its header is damaged; {LOST}")
        return
    size = FRAME_HEADER + page
    for start in range(WAL_HEADER, len(data) - size + 1, size):
        frame = data[start : start + size]
        frame_salts = list(struct.unpack(">2I", frame[8:16]))
        age = (salts[0] - frame_salts[0]) & 0xFFFFFFFF  # the first salt counts the restarts of the log
        if frame_salts != salts and 0 < age <= restarts and struct.pack(">2I", *salts) not in data[start:]:
            return  # the rest was left by an earlier log
        sums = wal_sum(frame[FRAME_HEADER:], order, wal_sum(frame[:8], order, sums))
        if frame_salts != salts or sums != struct.unpack(">2I", frame[16:FRAME_HEADER]):
            starts = range(start, len(data) - size + 1, size)
            if any(ends_transaction(data[place : place + FRAME_HEADER], salts) for place in starts):
                yield Issue("log", str(file), f"A frame at byte {start} is damaged; {LOST}")
            return  # else a writer was killed before its commit, and the next writer has begun to overwrite its frames


def ends_transaction(header: bytes, salts: list[int]) -> bool:
    """Tell whether a frame is of this log and ends a transaction: then its header holds the length of the file."""
    _, length, *frame_salts = struct.unpack(">4I", header[:16])
    return length > 0 and frame_salts == salts


def wal_sum(data: bytes, order: str, before: tuple[int, int]) -> tuple[int, int]:
    """Continue the checksum of SQLite's write-ahead log over some bytes.

    Every pair of words (x, y) turns (a, b) into (a + b + x, a + 2b + x + y) modulo 2^32. Over k pairs this is a product
    with the Fibonacci numbers f(2k-1), f(2k), f(2k+1), so NumPy can process all pairs at once.

    >>> wal_sum(bytes([0, 0, 0, 5, 0, 0, 0, 7]), ">", (1, 2))
    (8, 17)
    """
    x, y = np.frombuffer(data, f"{order}u4").astype(np.uint32).reshape(-1, 2).T
    f = fibonacci(len(x))
    odd, even = f[1::2][::-1], f[0:-1:2][::-1]  # f(2k+1) and f(2k), for k = number of remaining pairs
    first = np.concatenate([[np.uint32(before[0])], x])
    second = np.concatenate([[np.uint32(before[1])], x + y])
    a = ((odd - even) * first + even * second).sum(dtype=np.uint32)
    b = (even * first + odd * second).sum(dtype=np.uint32)
    return int(a), int(b)


@cache
def fibonacci(pairs: int) -> NDArray[np.uint32]:
    """Return the Fibonacci numbers f(0) to f(2 * pairs + 2) modulo 2^32."""
    numbers = [0, 1]
    while len(numbers) < 2 * pairs + 3:
        numbers.append((numbers[-1] + numbers[-2]) & 0xFFFFFFFF)
    return np.array(numbers, np.uint32)
