"""The SQLite file of a store: its tables and checksums, how it is made and opened, and its errors."""

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from embedx.errors import DiskError, LockedError, StoreError, UsageError
from embedx.filesystem.atomic import make_folder, sync_folder
from embedx.recipe import Recipe, view_name
from embedx.store.lock import LOCK_NAME, Lock

FILE_NAME = "store.db"
DTYPES = ("float32", "float16")  # of stored vectors
APPLICATION_ID = 0x656D6278  # "embx" in the header of the file
PAGE_SIZE = 32768  # bytes: room for several vectors of 768 float32

MIGRATIONS = (  # user_version is the number of applied migrations; fill_sums completes all but the first
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
    """
    ALTER TABLE collection ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE recordings ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE rows ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE columns ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE views ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX recordings_by_content ON recordings (content_hash);
    CREATE TABLE history (generation INTEGER PRIMARY KEY, token TEXT NOT NULL, checksum INTEGER NOT NULL DEFAULT 0);
    INSERT INTO history (generation, token)
        SELECT CAST(value AS INTEGER), lower(hex(randomblob(8))) FROM collection WHERE key = 'generation';
    """,
    """
    INSERT OR IGNORE INTO collection (key, value) VALUES ('labelled', '0'), ('rewritten', '0');
    INSERT OR REPLACE INTO collection (key, value) SELECT 'rows', count(*) || ' ' || coalesce(sum(id), 0) FROM rows;
    INSERT OR REPLACE INTO collection (key, value)
        SELECT 'recordings', count(*) || ' ' || coalesce(sum(id), 0) FROM recordings;
    """,
    """
    CREATE TABLE edits (
        id INTEGER PRIMARY KEY, change TEXT NOT NULL, made TEXT NOT NULL, undoes TEXT NOT NULL, path BLOB NOT NULL,
        content_hash TEXT NOT NULL, windows TEXT NOT NULL, "values" TEXT NOT NULL, checksum INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX edits_by_path ON edits (path);
    CREATE INDEX edits_by_content ON edits (content_hash);
    ALTER TABLE rows ADD COLUMN source_values TEXT NOT NULL DEFAULT '{}';
    """,
)
VECTORS = (
    "CREATE TABLE {} (id INTEGER PRIMARY KEY REFERENCES rows (id) ON DELETE CASCADE, "
    "checksum INTEGER NOT NULL, vector BLOB NOT NULL)"
)
SUMMED = {  # table -> (its key, the columns in its checksum)
    "collection": ("key", "key, value"),
    "runs": ("id", "id, settings"),
    "history": ("generation", "generation, token"),  # a random token for every generation
    "columns": ("name", "name, kind"),
    "views": ("name", "name, layer, pooling, dim, dtype, vectors"),
    "recordings": (
        "id",
        "id, path, size, mtime_ns, content_hash, duration_s, rate, channels, stretches, status, reason, detail, flags, "
        "run",
    ),
    "rows": (  # with the path, so that a row of another recording is noticed
        "id",
        "id, (SELECT path FROM recordings WHERE recordings.id = recording), stretch, start_s, end_s, label, "
        '"group", split, flags, meta, source_values',
    ),
    "edits": ("id", 'id, change, made, undoes, path, content_hash, windows, "values"'),
}


def checksum(values: Sequence[Any]) -> int:
    """Return the CRC-32 of the values of a row, as SQLite returns them."""
    return zlib.crc32("\x1f".join(map(str, values)).encode("utf-8", "surrogatepass"))


def vector_sum(table: str, row_id: int, blob: bytes) -> int:
    """Return the CRC-32 of table, row id and vector, so that a vector of another row or view is noticed."""
    return zlib.crc32(blob, zlib.crc32(f"{table} {row_id}".encode()))


def renew_vector_sums(db: sqlite3.Connection) -> None:
    """Add the table to the checksums of vectors (format 3). The checksum of a damaged vector stays wrong."""

    def renewed(table: str, row_id: int, stored: int, blob: bytes) -> int:
        return vector_sum(table, row_id, blob) if zlib.crc32(blob, row_id) == stored else stored

    db.create_function("renewed", 4, renewed)
    for (table,) in db.execute("SELECT vectors FROM views").fetchall():
        db.execute(f"UPDATE {table} SET checksum = renewed('{table}', id, checksum, vector)")


def fill_sums(db: sqlite3.Connection, table: str, which: str = "", values: Sequence[Any] = ()) -> None:
    """Compute the checksums of all rows of a table, or of those that meet a condition."""
    key, columns = SUMMED[table]
    rows = db.execute(f"SELECT {key}, {columns} FROM {table} {which}", values).fetchall()
    db.executemany(f"UPDATE {table} SET checksum = ? WHERE {key} = ?", [(checksum(row[1:]), row[0]) for row in rows])


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """Open an existing SQLite file. In a folder without write permission it is opened as a file that never changes."""
    uri = file.absolute().as_uri()
    immutable = "" if os.access(file.parent, os.W_OK) else "&immutable=1"
    db = open_uri(f"{uri}?mode={mode}{immutable}")
    if mode == "ro" and not immutable:
        try:
            db.execute("SELECT 1 FROM sqlite_schema")
        except sqlite3.Error as error:  # other errors appear again at the first query
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
                db.close()
                return connect_on_full_disk(file, uri)
    return db


def connect_on_full_disk(file: Path, uri: str) -> sqlite3.Connection:
    """Open a store for reading on a disk that has no room for the -shm file that readers make.

    With an exclusive lock SQLite keeps this file in memory; without a log it needs none.
    """
    log = Path(f"{file}-wal")
    if not log.exists() or not log.stat().st_size:
        return open_uri(f"{uri}?mode=ro&immutable=1")
    db = open_uri(f"{uri}?mode=rw")
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA query_only = ON")
    return db


def open_uri(uri: str) -> sqlite3.Connection:
    """Connect to a file. Transactions begin with an explicit BEGIN; threads may use the connection in turn."""
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    db.text_factory = decode_text
    return db


def decode_text(text: bytes) -> str:
    """Decode a text of the store. Invalid UTF-8 is kept: its checksum differs, so the damaged row can be named."""
    return text.decode("utf-8", "surrogateescape")


COUNTERS = """
    CREATE TEMP TABLE changed (name TEXT PRIMARY KEY, count INTEGER NOT NULL, total INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO changed VALUES ('rows', 0, 0), ('recordings', 0, 0);
""" + "".join(
    f"""
    CREATE TEMP TRIGGER {table}_go AFTER DELETE ON main.{table} BEGIN
        UPDATE changed SET count = count - 1, total = total - OLD.id WHERE name = '{table}';
    END;
    """
    for table in ("rows", "recordings")
)


def count_changes(db: sqlite3.Connection) -> None:
    """Make a connection count the rows that its transactions add and delete, so that a commit need not count all rows.

    Triggers count deleted rows, since a deletion cascades to other rows. `count_added` counts added rows, because with
    a trigger SQLite would copy a page for every row. The counters are temporary tables, not in the file.
    """
    db.executescript(COUNTERS)


def count_added(db: sqlite3.Connection, table: str, ids: Sequence[int]) -> None:
    """Count rows that were added to a table; see `count_changes`."""
    values = (len(ids), sum(ids), table)
    db.execute("UPDATE changed SET count = count + ?, total = total + ? WHERE name = ?", values)


def changed(db: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Return the changes of the tally since the last call, and reset the counters; call it in the same transaction."""
    rows = db.execute("SELECT name, count, total FROM changed").fetchall()
    db.execute("UPDATE changed SET count = 0, total = 0")
    return {name: (count, total) for name, count, total in rows}


def tally(db: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Return the number of rows and of recordings, each with the sum of the ids; the stored tally shows lost pages."""
    return {
        table: db.execute(f"SELECT count(*), coalesce(sum(id), 0) FROM {table}").fetchone()
        for table in ("rows", "recordings")
    }


def check_version(db: sqlite3.Connection, file: Path) -> int:
    """Return the format of a store; refuse a file that is not a store, or that a newer embedx made."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{file} is not an embedx store.")
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if not 1 <= version <= len(MIGRATIONS):
        raise StoreError(
            f"{file} has format {version}; this embedx reads formats up to {len(MIGRATIONS)}. Update embedx."
        )
    return version


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Update an older store to the current format, in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[version:]:
            for statement in filter(str.strip, statements.split(";")):
                db.execute(statement)
        for table in SUMMED:
            fill_sums(db, table)
        renew_vector_sums(db)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


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
            for leftover in folder.glob(f"{new.name}*"):  # of a process that was killed
                leftover.unlink()
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
                db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
                db.execute(
                    "PRAGMA journal_mode = MEMORY"
                )  # a journal on disk could outlive a crash, and has no use here
                db.executescript(f"BEGIN; {MIGRATIONS[0]} PRAGMA user_version = 1; COMMIT")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.executemany(
                    "INSERT INTO collection VALUES (?, ?)", {"recipe": recipe.to_json(), "generation": "0"}.items()
                )
                for layer in recipe.layers:
                    for pooling in recipe.poolings:
                        table = f"vectors_L{layer}_{pooling}"
                        db.execute(VECTORS.format(table))
                        view = (view_name(layer, pooling), layer, pooling, dim, dtype, table)
                        db.execute("INSERT INTO views VALUES (?, ?, ?, ?, ?, ?)", view)
                migrate(db, 1)
                # Before the rename: a kill during this switch leaves a journal that a reader could not roll back.
                db.execute("PRAGMA journal_mode = WAL")
            os.replace(new, folder / FILE_NAME)
            sync_folder(folder)
        finally:
            lock.release()


def is_store_file(name: str) -> bool:
    """Tell whether a file may exist where a store is made: a killed process can leave such files."""
    return name in (FILE_NAME, LOCK_NAME) or name.startswith(f"{FILE_NAME}.new")


@contextlib.contextmanager
def wrap_errors(file: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the system into errors of embedx."""
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
        raise StoreError(f"{file} cannot be used as an embedx store: {error}.") from error
    except OSError as error:
        if isinstance(error, DiskError):
            raise
        raise DiskError(f"{file} cannot be read or written: {error.strerror or error}.") from error
