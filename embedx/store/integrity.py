"""Inspection: everything in the file of a store that is not as it was written, found and named.

Three nets, each for what the others let through: SQLite's own check of its pages, the checksums of all rows and
vectors, and the seal over the whole file that the last writer left.
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
from embedx.store.lock import LOCK_NAME, hash_file, read_note
from embedx.store.schema import (
    FILE_NAME,
    MIGRATIONS,
    SUMMED,
    VECTORS,
    check_version,
    checksum,
    connect,
    explained,
    tally,
    vector_sum,
)

WAL_HEAD, FRAME_HEAD = 32, 24  # bytes; https://www.sqlite.org/fileformat.html, section 4

LOST = "what was committed from there on is lost."


@dataclass(frozen=True)
class Issue:
    """Something that is not as it was written: what kind of thing, where, and how it shows."""

    kind: str  # "vector", "row", "recording", "table", "file", "log", "index" or "foreign"
    place: str
    detail: str
    id: int = 0  # of the row or recording, where there is one


def inspect(folder: Path) -> Iterator[Issue]:
    """Yield what is damaged in the store of a folder; see the head of this module. It only reads."""
    file = folder / FILE_NAME
    if not file.is_file():
        yield Issue("file", str(file), "It is missing.")
        return
    yield from inspect_seal(folder)
    yield from inspect_wal(Path(f"{file}-wal"))
    try:
        with explained(file), contextlib.closing(connect(file, "ro")) as db:
            if check_version(db, file) < len(MIGRATIONS):
                raise StoreError(f"{file} has an older format. Any other command brings it up to date.")
            db.execute("BEGIN")
            yield from inspect_pages(db)
            for table in SUMMED:
                yield from inspect_table(db, table)
            yield from inspect_tally(db)
            yield from inspect_vectors(db)
    except EmbedxError as error:
        yield Issue("file", str(file), str(error))


def inspect_seal(folder: Path) -> Iterator[Issue]:
    """Compare the file with the seal of the last writer. There is none while it is written, and after a kill."""
    lock, file = folder / LOCK_NAME, folder / FILE_NAME
    if not lock.exists():
        yield Issue("file", str(lock), "It is missing.")
        return
    try:
        seal = read_note(folder).seal
        if seal is None:
            return
        sound = file.stat().st_size == seal["size"] and hash_file(file) == seal["sha256"]
        if not sound and read_note(folder).seal == seal:  # else a writer has begun meanwhile
            yield Issue("file", str(file), "It is not as its last writer left it (the seal in `lock`).")
    except StoreError as error:
        yield Issue("file", str(lock), str(error))


def inspect_pages(db: sqlite3.Connection) -> Iterator[Issue]:
    """Let SQLite check its pages, keys and references, and compare the tables with what embedx makes."""
    for (complaint,) in db.execute("PRAGMA integrity_check(20)"):
        if complaint != "ok":
            yield Issue("table", FILE_NAME, complaint)
    for table, number, *_ in db.execute("PRAGMA foreign_key_check"):
        yield Issue("table", f"{table} {number}", "It refers to something that is not there.")
    views = [table for *_, table in sound_views(db)]
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        for statements in (*MIGRATIONS, ";".join(VECTORS.format(table) for table in views)):
            empty.executescript(statements)
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        different = set(db.execute(query)) ^ set(empty.execute(query))
    for name in sorted({one[1] for one in different}):
        yield Issue("table", name, "It is not defined as embedx defines it.")
    (highest,) = db.execute("SELECT coalesce(max(id), 0) FROM rows").fetchone()
    used = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'rows'").fetchone() or (0,)
    if highest > used[0]:
        yield Issue("table", "sqlite_sequence", "It is behind the highest id in use.")


def inspect_table(db: sqlite3.Connection, table: str) -> Iterator[Issue]:
    """Compare all rows of a table with their checksums."""
    _, columns = SUMMED[table]
    kind = {"rows": "row", "recordings": "recording"}.get(table, "table")
    try:
        for stored, *values in db.execute(f"SELECT checksum, {columns} FROM {table}"):
            if checksum(values) != stored:
                number = values[0] if isinstance(values[0], int) else 0
                yield Issue(kind, f"{table} {values[0]}", "Its checksum differs.", number)
    except sqlite3.Error as error:
        yield Issue("table", table, f"It cannot be read to its end: {error}")


def inspect_tally(db: sqlite3.Connection) -> Iterator[Issue]:
    """See that as many rows and recordings are there as were written."""
    noted = dict(db.execute("SELECT key, value FROM collection"))
    for table, (count, total) in tally(db).items():
        if noted.get(table) != f"{count} {total}":
            detail = f"{count} are there, {str(noted.get(table, 'none')).split(' ')[0]} were written, or other ones."
            yield Issue("table", table, detail)


def sound_views(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return name, layer, pooling, dim, dtype and table of the views whose checksum agrees."""
    _, columns = SUMMED["views"]
    found = db.execute(f"SELECT checksum, {columns} FROM views").fetchall()
    return [tuple(values) for stored, *values in found if checksum(values) == stored]


def inspect_vectors(db: sqlite3.Connection) -> Iterator[Issue]:
    """Compare all vectors with their checksums, and see that every row has one in every view."""
    for view, _, _, dim, dtype, table in sound_views(db):
        width = dim * np.dtype(dtype).itemsize
        try:
            for number, stored, vector in db.execute(f"SELECT id, checksum, vector FROM {table}"):
                sound = isinstance(vector, bytes) and len(vector) == width
                if not sound or vector_sum(table, number, vector) != stored:
                    yield Issue("vector", f"{view} of row {number}", "Its checksum differs.", number)
            for (number,) in db.execute(f"SELECT id FROM rows WHERE id NOT IN (SELECT id FROM {table})"):
                yield Issue("vector", f"{view} of row {number}", "It is missing.", number)
        except sqlite3.Error as error:
            yield Issue("table", table, f"It cannot be read to its end: {error}")


def inspect_wal(file: Path) -> Iterator[Issue]:
    """Check the write-ahead log that a killed writer left: SQLite drops what follows a damaged frame without a word.

    A frame that was cut short by the kill is no damage; one that is whole and does not agree with its checksum is.
    """
    if not file.is_file() or os.path.getsize(file) < WAL_HEAD:
        return
    data = file.read_bytes()
    magic, _, page, begun, *salts = struct.unpack(">6I", data[:24])
    order = ">" if magic & 1 else "<"
    sums = wal_sum(data[:24], order, (0, 0))
    if magic & ~1 != 0x377F0682 or sums != struct.unpack(">2I", data[24:WAL_HEAD]):
        yield Issue("log", str(file), f"Its head is damaged; {LOST}")
        return
    size = FRAME_HEAD + page
    for start in range(WAL_HEAD, len(data) - size + 1, size):
        frame = data[start : start + size]
        mine = list(struct.unpack(">2I", frame[8:16]))
        older = (salts[0] - mine[0]) & 0xFFFFFFFF  # the first salt counts how often the log was begun anew
        if mine != salts and 0 < older <= begun and struct.pack(">2I", *salts) not in data[start:]:
            return  # from here on it is what an earlier log left
        sums = wal_sum(frame[FRAME_HEAD:], order, wal_sum(frame[:8], order, sums))
        if mine != salts or sums != struct.unpack(">2I", frame[16:FRAME_HEAD]):
            if any(ends_transaction(data[s : s + FRAME_HEAD], salts) for s in range(start, len(data) - size + 1, size)):
                yield Issue("log", str(file), f"A frame at byte {start} is damaged; {LOST}")
            return  # else it is what a writer left that was killed before its commit, and the next began to write over


def ends_transaction(head: bytes, salts: list[int]) -> bool:
    """Tell whether the head of a frame is of this log and ends a transaction: then it says how long the file is."""
    _, length, *found = struct.unpack(">4I", head[:16])
    return length > 0 and found == salts


def wal_sum(data: bytes, order: str, before: tuple[int, int]) -> tuple[int, int]:
    """Return the running checksum of SQLite's write-ahead log over some bytes.

    Every pair of words (x, y) turns (a, b) into (a + b + x, a + 2b + x + y) modulo 2^32. Over k pairs that is a product
    with the Fibonacci numbers f(2k-1), f(2k), f(2k+1), so that numpy can do all pairs at once.

    >>> wal_sum(bytes([0, 0, 0, 5, 0, 0, 0, 7]), ">", (1, 2))
    (8, 17)
    """
    x, y = np.frombuffer(data, f"{order}u4").astype(np.uint32).reshape(-1, 2).T
    f = fibonacci(len(x))
    odd, even = f[1::2][::-1], f[0:-1:2][::-1]  # f(2k+1) and f(2k), of k = the number of pairs to come, down to 0
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
