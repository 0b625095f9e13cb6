"""Connections to the SQLite file of a store: for writing, for reading beside a writer, and for reading without one."""

import contextlib
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from embedx.errors import DiskError, LockedError, StoreError
from embedx.filesystem.file_state import is_locked
from embedx.store.lock import LOCK_NAME

LIMITS = {  # of a file that a stranger may have made; https://www.sqlite.org/limits.html
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000_000,  # bytes of a value; the ids of ten million rows as JSON
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1_000_000,  # also of each statement of the schema
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 10,  # deleting a recording deletes its rows and their vectors
}
TEXT = partial(
    str, encoding="utf-8", errors="surrogateescape"
)  # invalid UTF-8 is kept; the checksum of its row differs
NO_ACCESS = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


class UnlockedConnection(sqlite3.Connection):
    """A connection that takes no locks of SQLite: its results are only valid if no writer has started meanwhile."""


def connect(file: Path, mode: str, *, is_writer: bool = False) -> sqlite3.Connection:
    """Open an existing SQLite file.

    A reader beside a writer needs the file -shm, which it cannot create without write permission or on a full disk.
    Then the file is read without locks, if no process is writing it.

    Args:
        file: the SQLite file.
        mode: "rw" to write, or "ro" to read.
        is_writer: this process holds the lock, and will write.

    Raises:
        StoreError: committed rows cannot be read.
    """
    uri = file.absolute().as_uri()
    db = open_uri(f"{uri}?mode={mode}")
    if mode == "ro" and not is_writer and not is_readable(db):
        db.close()
        return connect_unlocked(file, uri)
    return db


def connect_unlocked(file: Path, uri: str) -> sqlite3.Connection:
    """Open a file without locks, with all committed rows in its log."""
    log = Path(f"{file}-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if is_locked(file.parent / LOCK_NAME):
        raise StoreError(
            f"{file} is being written, and cannot be read meanwhile without write permission for {file.parent}. "
            "Get this permission, or wait for the writer."
        )
    if not has_log:
        return open_uri(f"{uri}?mode=ro&immutable=1", UnlockedConnection)
    db = open_uri(f"{uri}?mode=ro&vfs=unix-none", UnlockedConnection)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")  # SQLite then keeps the -shm file in memory
    if not is_readable(db):
        db.close()
        raise StoreError(f"{log} cannot be read. It holds committed rows: get permission to read it.")
    return db


def is_readable(db: sqlite3.Connection) -> bool:
    """Tell whether SQLite can open the files of a connection; other errors appear again at the first query."""
    try:
        db.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF not in NO_ACCESS
    return True


def open_uri(uri: str, kind: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """Connect to a file. Transactions begin with an explicit BEGIN; threads may use the connection in turn."""
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, factory=kind)
    db.text_factory = TEXT
    for limit, value in LIMITS.items():
        db.setlimit(limit, value)
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    return db


@contextlib.contextmanager
def wrap_errors(file: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the system into errors of embedx."""
    try:
        with wrap_sqlite_errors(file):
            yield
    except UnicodeDecodeError as error:  # of an error of SQLite that names a table
        raise StoreError(f"{file} is damaged: a name in it is not valid UTF-8.") from error
    except OSError as error:
        if isinstance(error, DiskError):
            raise
        raise DiskError(f"{file} cannot be read or written: {error.strerror or error}.") from error


@contextlib.contextmanager
def wrap_sqlite_errors(file: Path) -> Iterator[None]:
    """Turn errors of SQLite into errors of embedx."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreError(f"{file} is damaged: {error}.") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise LockedError(f"{file} is being written by another program: {error}.") from error
        if code in (sqlite3.SQLITE_FULL, *NO_ACCESS):
            raise DiskError(f"{file} cannot be read or written: {error}. What was committed before is safe.") from error
        raise StoreError(f"{file} cannot be used as an embedx store: {error}.") from error
