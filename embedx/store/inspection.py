"""Inspection: everything in the file of a store that is not as it was written, found and named.

Three nets, each for what the others let through: SQLite's own check of its pages, the checksums of all rows and
vectors, and the seal over the whole file that the last writer left.
"""

import contextlib
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedx.errors import EmbedxError, StoreError
from embedx.store.lock import LOCK_NAME, hash_file, read_seal
from embedx.store.schema import (
    FILE_NAME,
    MIGRATIONS,
    SUMMED,
    VECTORS,
    check_version,
    checksum,
    connect,
    explained,
)

WAL_HEAD, FRAME_HEAD = 32, 24  # bytes; https://www.sqlite.org/fileformat.html, section 4


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written: what kind of thing, where, and how it shows."""

    kind: str  # "vector", "row", "recording", "table", "file", "index" or "foreign"
    place: str
    detail: str
    id: int = 0  # of the row or recording, where there is one


def inspect(folder: Path) -> Iterator[Finding]:
    """Yield what is damaged in the store of a folder; see the head of this module. It only reads."""
    file = folder / FILE_NAME
    if not file.is_file():
        yield Finding("file", str(file), "It is missing.")
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
            yield from inspect_vectors(db)
    except EmbedxError as error:
        yield Finding("file", str(file), str(error))


def inspect_seal(folder: Path) -> Iterator[Finding]:
    """Compare the file with the seal of the last writer. There is none while it is written, and after a kill."""
    lock, file = folder / LOCK_NAME, folder / FILE_NAME
    if not lock.exists():
        yield Finding("file", str(lock), "It is missing.")
        return
    try:
        seal = read_seal(folder)
        if seal is None:
            return
        sound = file.stat().st_size == seal["size"] and hash_file(file) == seal["sha256"]
        if not sound and read_seal(folder) == seal:  # else a writer has begun meanwhile
            yield Finding("file", str(file), "It is not as its last writer left it (the seal in `lock`).")
    except StoreError as error:
        yield Finding("file", str(lock), str(error))


def inspect_pages(db: sqlite3.Connection) -> Iterator[Finding]:
    """Let SQLite check its pages, keys and references, and compare the tables with what embedx makes."""
    for (complaint,) in db.execute("PRAGMA integrity_check(20)"):
        if complaint != "ok":
            yield Finding("table", FILE_NAME, complaint)
    for table, number, *_ in db.execute("PRAGMA foreign_key_check"):
        yield Finding("table", f"{table} {number}", "It refers to something that is not there.")
    views = [table for (table,) in db.execute("SELECT vectors FROM views")]
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        for statements in (*MIGRATIONS, ";".join(VECTORS.format(table) for table in views)):
            empty.executescript(statements)
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        different = set(db.execute(query)) ^ set(empty.execute(query))
    for name in sorted({one[1] for one in different}):
        yield Finding("table", name, "It is not defined as embedx defines it.")
    (highest,) = db.execute("SELECT coalesce(max(id), 0) FROM rows").fetchone()
    used = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'rows'").fetchone() or (0,)
    if highest > used[0]:
        yield Finding("table", "sqlite_sequence", "It is behind the highest id in use.")


def inspect_table(db: sqlite3.Connection, table: str) -> Iterator[Finding]:
    """Compare all rows of a table with their checksums."""
    _, columns = SUMMED[table]
    kind = {"rows": "row", "recordings": "recording"}.get(table, "table")
    try:
        for stored, *values in db.execute(f"SELECT checksum, {columns} FROM {table}"):
            if checksum(values) != stored:
                number = values[0] if isinstance(values[0], int) else 0
                yield Finding(kind, f"{table} {values[0]}", "Its checksum differs.", number)
    except sqlite3.Error as error:
        yield Finding("table", table, f"It cannot be read to its end: {error}")


def inspect_vectors(db: sqlite3.Connection) -> Iterator[Finding]:
    """Compare all vectors with their checksums, and see that every row has one in every view."""
    for view, dim, dtype, table in db.execute("SELECT name, dim, dtype, vectors FROM views").fetchall():
        width = dim * np.dtype(dtype).itemsize
        try:
            for number, stored, vector in db.execute(f"SELECT id, checksum, vector FROM {table}"):
                if not isinstance(vector, bytes) or len(vector) != width or zlib.crc32(vector, number) != stored:
                    yield Finding("vector", f"{view} of row {number}", "Its checksum differs.", number)
            for (number,) in db.execute(f"SELECT id FROM rows WHERE id NOT IN (SELECT id FROM {table})"):
                yield Finding("vector", f"{view} of row {number}", "It is missing.", number)
        except sqlite3.Error as error:
            yield Finding("table", table, f"It cannot be read to its end: {error}")


def inspect_wal(file: Path) -> Iterator[Finding]:
    """Check the write-ahead log that a killed writer left: SQLite drops what follows a damaged frame without a word.

    A frame that was cut short by the kill is no damage; one that is whole and does not agree with its checksum is.
    """
    if not file.is_file() or os.path.getsize(file) < WAL_HEAD:
        return
    data = file.read_bytes()
    magic, _, page, _, *salts = struct.unpack(">6I", data[:24])
    order = ">" if magic & 1 else "<"
    sums = wal_sum(data[:24], order, (0, 0))
    if magic & ~1 != 0x377F0682 or sums != struct.unpack(">2I", data[24:WAL_HEAD]):
        yield Finding("file", str(file), "Its head is damaged.")
        return
    size = FRAME_HEAD + page
    for start in range(WAL_HEAD, len(data) - size + 1, size):
        frame = data[start : start + size]
        if list(struct.unpack(">2I", frame[8:16])) != salts:  # left from before the log was begun anew
            rest = (data[s + 8 : s + 16] for s in range(start + size, len(data) - size + 1, size))
            if struct.pack(">2I", *salts) in rest:
                yield Finding("file", str(file), f"A frame at byte {start} is damaged.")
            return
        sums = wal_sum(frame[FRAME_HEAD:], order, wal_sum(frame[:8], order, sums))
        if sums != struct.unpack(">2I", frame[16:FRAME_HEAD]):
            if any(ends_transaction(data[s : s + FRAME_HEAD], salts) for s in range(start, len(data) - size + 1, size)):
                yield Finding("file", str(file), f"A frame at byte {start} is damaged.")
            return  # else it is what a writer left that was killed before its commit, and the next began to write over


def ends_transaction(head: bytes, salts: list[int]) -> bool:
    """Tell whether the head of a frame is of this log and ends a transaction: then it says how long the file is."""
    _, length, *found = struct.unpack(">4I", head[:16])
    return length > 0 and found == salts


def wal_sum(data: bytes, order: str, before: tuple[int, int]) -> tuple[int, int]:
    """Return the running checksum of SQLite's write-ahead log over some bytes."""
    a, b = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        a = (a + first + b) & 0xFFFFFFFF
        b = (b + second + a) & 0xFFFFFFFF
    return a, b
