"""How a store is made, and how one of an older format is brought to the current one."""

import contextlib
import os
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from embedx.errors import UsageError
from embedx.filesystem.atomic import make_folder, sync_folder
from embedx.recipe import Recipe
from embedx.store.connections import wrap_errors
from embedx.store.lock import LOCK_NAME, Lock
from embedx.store.record import NO_SUM, Checksums, Record
from embedx.store.schema import (
    APPLICATION_ID,
    FILE_NAME,
    MIGRATIONS,
    PAGE_SIZE,
    SUMMED,
    create_vector_tables,
    key_of,
    read_record,
    vector_tables,
    write_record,
)

OLD_SUMS = {  # table -> the columns in its CRC-32 of formats 2 and 3
    **{table: columns for table, columns in SUMMED.items() if table != "edits"},
    "rows": "id, (SELECT path FROM recordings WHERE recordings.id = recording), stretch, start_s, end_s, label, "
    '"group", split, flags, meta',
}


def write_empty(folder: Path, recipe: Recipe, dim: int, dtype: str) -> None:
    """Make a folder with an empty store. The file is renamed at the end, so that it appears complete."""
    new = folder / f"{FILE_NAME}.new"
    if folder.exists() and (not folder.is_dir() or any(not is_store_file(path.name) for path in folder.iterdir())):
        raise UsageError(f"{folder} exists and is not a collection. Give another folder with -o (out).")
    with wrap_errors(folder):
        make_folder(folder)
        lock = Lock(folder)
        try:
            if (folder / FILE_NAME).exists():  # another process has made it meanwhile
                return
            remove_all(folder.glob(f"{new.name}*"))  # of a process that was killed
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
                db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
                # A journal on disk could outlive a crash, and has no use here.
                db.execute("PRAGMA journal_mode = MEMORY")
                create_tables(db, recipe, dim, dtype)
                migrate(db, 1)
                # Before the rename: a kill during this switch leaves a journal that a reader could not roll back.
                db.execute("PRAGMA journal_mode = WAL")
                lock.keep(read_record(db, new).copy)
            remove_all(folder.glob(f"{new.name}-*"))  # SQLite reports no error if it cannot remove them
            os.replace(new, folder / FILE_NAME)
            sync_folder(folder)
        finally:
            lock.release()


def remove_all(files: Iterable[Path]) -> None:
    """Delete files."""
    for file in files:
        file.unlink()


def create_tables(db: sqlite3.Connection, recipe: Recipe, dim: int, dtype: str) -> None:
    """Create the tables of the first format, which `migrate` completes."""
    db.executescript(f"BEGIN; {MIGRATIONS[0]} PRAGMA user_version = 1; COMMIT")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.executemany("INSERT INTO collection VALUES (?, ?)", {"recipe": recipe.to_json(), "generation": "0"}.items())
    views = create_vector_tables(db, recipe, dim, dtype)
    db.executemany("INSERT INTO views VALUES (?, ?, ?, ?, ?, ?)", views)


def is_store_file(name: str) -> bool:
    """Tell whether a file may exist where a store is made: a killed process can leave such files."""
    return name in (FILE_NAME, LOCK_NAME) or name.startswith(f"{FILE_NAME}.new")


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Update an older store to the current format, in one transaction. What was damaged stays marked as damaged."""
    db.execute("BEGIN IMMEDIATE")
    try:
        damaged = {table: old_damage(db, table) for table in OLD_SUMS if version > 1}
        for statements in MIGRATIONS[version:]:
            for statement in filter(str.strip, statements.split(";")):
                db.execute(statement)
        stored = dict(db.execute("SELECT key, value FROM collection").fetchall())
        (used,) = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'rows'").fetchone()
        record = Record(
            secrets.token_hex(16), 1, int(stored["generation"]), int(stored.get("rewritten", "0")), used + 1
        )
        db.execute("DELETE FROM collection WHERE key <> 'recipe'")
        checksums = Checksums(record.store)
        for table in SUMMED:
            record.count(table, renew_rows(db, table, checksums, damaged.get(table, set())))
        for table in vector_tables(Recipe.from_json(stored["recipe"])):
            record.count(table, renew_vectors(db, table, checksums, version))
        write_record(db, record)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def old_damage(db: sqlite3.Connection, table: str) -> set[Any]:
    """Return the keys of the rows of a table that differ from their checksum of format 2 or 3, a CRC-32."""
    rows = db.execute(f"SELECT checksum, {OLD_SUMS[table]} FROM {table}").fetchall()
    return {
        values[0]
        for stored, *values in rows
        if zlib.crc32("\x1f".join(map(str, values)).encode("utf-8", "surrogateescape")) != stored
    }


def renew_rows(db: sqlite3.Connection, table: str, checksums: Checksums, damaged: set[Any]) -> list[bytes]:
    """Store and return the checksums of all rows of a table."""
    rows = db.execute(f"SELECT {SUMMED[table]} FROM {table}").fetchall()
    renewed = [(NO_SUM if row[0] in damaged else checksums.row(table, row), row[0]) for row in rows]
    db.executemany(f"UPDATE {table} SET checksum = ? WHERE {key_of(table)} = ?", renewed)
    return [checksum for checksum, _ in renewed]


def renew_vectors(db: sqlite3.Connection, table: str, checksums: Checksums, version: int) -> Iterable[bytes]:
    """Store and return the checksums of all vectors of a table."""
    start: Callable[[int], int] = int if version < 3 else lambda row_id: zlib.crc32(f"{table} {row_id}".encode())

    def renewed(row_id: int, stored: int, vector: bytes) -> bytes:
        is_intact = isinstance(vector, bytes) and zlib.crc32(vector, start(row_id)) == stored
        return checksums.vector(table, row_id, vector) if is_intact else NO_SUM

    db.create_function("renewed", 3, renewed)
    db.execute(f"UPDATE {table} SET checksum = renewed(id, checksum, vector)")
    return [checksum for (checksum,) in db.execute(f"SELECT checksum FROM {table}")]
