"""The file of a store: its tables, how it is made and opened, its lock, and what its errors mean."""

import contextlib
import fcntl
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from embedx.disk import sync_folder
from embedx.errors import DiskError, LockedError, StoreError, UsageError
from embedx.recipe import Recipe, view_name

FILE_NAME = "store.db"
LOCK_NAME = "lock"
APPLICATION_ID = 0x656D6278  # "embx" in the header of the file
PAGE_SIZE = 32768  # several vectors of 768 float32 to a page

MIGRATIONS = (  # user_version counts those that have been applied
    """
    CREATE TABLE collection (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE runs (id INTEGER PRIMARY KEY, settings TEXT NOT NULL);
    CREATE TABLE recordings (
        id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        content_hash TEXT NOT NULL, duration_s REAL, rate INTEGER, channels INTEGER, stretches TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('ok', 'failed')), reason TEXT NOT NULL, detail TEXT NOT NULL,
        flags TEXT NOT NULL, run INTEGER NOT NULL REFERENCES runs (id));
    CREATE TABLE rows (
        id INTEGER PRIMARY KEY AUTOINCREMENT, recording INTEGER NOT NULL REFERENCES recordings (id) ON DELETE CASCADE,
        stretch INTEGER NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL, label TEXT, "group" TEXT, split TEXT,
        flags TEXT NOT NULL, meta TEXT NOT NULL);
    CREATE INDEX rows_of_recording ON rows (recording);
    CREATE TABLE columns (name TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('number', 'text'))) WITHOUT ROWID;
    CREATE TABLE views (
        name TEXT PRIMARY KEY, layer INTEGER NOT NULL, pooling TEXT NOT NULL, dim INTEGER NOT NULL,
        dtype TEXT NOT NULL, vectors TEXT NOT NULL) WITHOUT ROWID;
    """,
)


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """Open an existing SQLite file; one in a folder that cannot be written is taken to stand still."""
    still = "" if os.access(file.parent, os.W_OK) else "&immutable=1"
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}{still}", uri=True, isolation_level=None)


def check_version(db: sqlite3.Connection, file: Path) -> None:
    """Refuse a file that is no store, or one of a newer embedx."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{file} is no store of embedx.")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(f"{file} has format {version}, this embedx reads up to {len(MIGRATIONS)}: update embedx.")


def write_empty(folder: Path, recipe: Recipe, dim: int, dtype: str) -> None:
    """Make a folder with an empty store; the file appears whole, by a rename."""
    new = folder / f"{FILE_NAME}.new"
    if folder.exists() and (not folder.is_dir() or {one.name for one in folder.iterdir()} - {new.name, LOCK_NAME}):
        raise UsageError(f"{folder} exists and is no collection. Name another place with -o (out).")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held = lock(folder)
        try:
            new.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
                db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
                db.executescript(f"BEGIN; {MIGRATIONS[0]} PRAGMA user_version = 1;")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.executemany(
                    "INSERT INTO collection VALUES (?, ?)", {"recipe": recipe.to_json(), "generation": "0"}.items()
                )
                for layer in recipe.layers:
                    for pooling in recipe.poolings:
                        table = f"vectors_L{layer}_{pooling}"
                        db.execute(
                            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY REFERENCES rows (id) ON DELETE CASCADE, "
                            "checksum INTEGER NOT NULL, vector BLOB NOT NULL)"
                        )
                        view = (view_name(layer, pooling), layer, pooling, dim, dtype, table)
                        db.execute("INSERT INTO views VALUES (?, ?, ?, ?, ?, ?)", view)
                db.execute("COMMIT")
            os.replace(new, folder / FILE_NAME)
            sync_folder(folder)
        finally:
            os.close(held)


def lock(folder: Path) -> int:
    """Take the writer's lock of a folder and return its handle; the system lets go of it when the process dies."""
    handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(handle, 200).decode("utf-8", "replace")
        os.close(handle)
        raise LockedError(
            f"{folder} is being written by {holder or 'another process'}. Wait for it, or stop it."
        ) from error
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return handle


@contextlib.contextmanager
def explained(file: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into the errors of embedx."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreError(f"{file} is damaged: {error}.") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise LockedError(f"{file} is being written by another program: {error}.") from error
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise DiskError(f"{file} cannot be read or written: {error}. What was committed before is safe.") from error
        raise StoreError(f"{file} does not behave as a store of embedx: {error}.") from error
    except OSError as error:
        if isinstance(error, DiskError):
            raise
        raise DiskError(f"{file} cannot be read or written: {error.strerror or error}.") from error
