"""The file of a store: its tables, how it is made and opened, its lock, and what its errors mean."""

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
APPLICATION_ID = 0x656D6278  # "embx" in the header of the file
PAGE_SIZE = 32768  # several vectors of 768 float32 to a page

MIGRATIONS = (  # user_version counts those that have been applied; fill_sums completes all but the first
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
)
VECTORS = (
    "CREATE TABLE {} (id INTEGER PRIMARY KEY REFERENCES rows (id) ON DELETE CASCADE, "
    "checksum INTEGER NOT NULL, vector BLOB NOT NULL)"
)
SUMMED = {  # table -> (its key, the columns that its checksum is taken over)
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
    "rows": (  # with the path, so that a row cannot pass to another recording
        "id",
        "id, (SELECT path FROM recordings WHERE recordings.id = recording), stretch, start_s, end_s, label, "
        '"group", split, flags, meta',
    ),
}


def checksum(values: Sequence[Any]) -> int:
    """Return the CRC-32 of the values of a table's row, as SQLite returns them."""
    return zlib.crc32("\x1f".join(map(str, values)).encode("utf-8", "surrogatepass"))


def vector_sum(table: str, number: int, blob: bytes) -> int:
    """Return the CRC-32 of a vector, begun with that of its table and row: none passes for that of another."""
    return zlib.crc32(blob, zlib.crc32(f"{table} {number}".encode()))


def renew_vector_sums(db: sqlite3.Connection) -> None:
    """Bring the table into the checksums of vectors (since format 3). One that is damaged stays so."""

    def renewed(table: str, number: int, stored: int, blob: bytes) -> int:
        return vector_sum(table, number, blob) if zlib.crc32(blob, number) == stored else stored

    db.create_function("renewed", 4, renewed)
    for (table,) in db.execute("SELECT vectors FROM views").fetchall():
        db.execute(f"UPDATE {table} SET checksum = renewed('{table}', id, checksum, vector)")


def fill_sums(db: sqlite3.Connection, table: str, which: str = "", values: Sequence[Any] = ()) -> None:
    """Compute the checksums of rows of a table that have changed: all, or those that meet a condition."""
    key, columns = SUMMED[table]
    changed = db.execute(f"SELECT {key}, {columns} FROM {table} {which}", values).fetchall()
    db.executemany(
        f"UPDATE {table} SET checksum = ? WHERE {key} = ?", [(checksum(found[1:]), found[0]) for found in changed]
    )


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """Open an existing SQLite file; one in a folder that cannot be written is taken to stand still."""
    place = file.absolute().as_uri()
    still = "" if os.access(file.parent, os.W_OK) else "&immutable=1"
    db = plain(f"{place}?mode={mode}{still}")
    if mode == "ro" and not still:
        try:
            db.execute("SELECT 1 FROM sqlite_schema")
        except sqlite3.Error as error:  # any other comes again with the first question
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
                db.close()
                return connect_to_full_disk(file, place)
    return db


def connect_to_full_disk(file: Path, place: str) -> sqlite3.Connection:
    """Open a store for reading where there is no room for the small files that readers make beside it.

    Alone with the file, SQLite keeps what would be in them in memory; without a log nothing of the kind is needed.
    """
    log = Path(f"{file}-wal")
    if not log.exists() or not log.stat().st_size:
        return plain(f"{place}?mode=ro&immutable=1")
    db = plain(f"{place}?mode=rw")
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA query_only = ON")
    return db


def plain(place: str) -> sqlite3.Connection:
    """Connect to a file by its address; transactions are begun by hand. One thread may use it after the other."""
    db = sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False)
    db.text_factory = decode
    return db


def decode(text: bytes) -> str:
    """Decode a text of the store. What is no UTF-8 is damaged: its checksum will differ, so that it can be named."""
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
    """Let a connection keep count of what its transactions change, so that a commit need not count what is there.

    What is deleted is counted by triggers, since it takes other rows along; what is added, by `count_added`: a trigger
    would let SQLite copy a page for every row. The counters are the connection's own, and not in the file.
    """
    db.executescript(COUNTERS)


def count_added(db: sqlite3.Connection, table: str, ids: Sequence[int]) -> None:
    """Count rows that were added to a table."""
    more = (len(ids), sum(ids), table)
    db.execute("UPDATE changed SET count = count + ?, total = total + ? WHERE name = ?", more)


def changed(db: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Return by how much the tally has changed since this was asked last, which is to be in the same transaction."""
    found = db.execute("SELECT name, count, total FROM changed").fetchall()
    db.execute("UPDATE changed SET count = 0, total = 0")
    return {name: (count, total) for name, count, total in found}


def tally(db: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Return the number and the sum of the ids of rows and of recordings: a page that is lost takes no trace along."""
    return {
        table: db.execute(f"SELECT count(*), coalesce(sum(id), 0) FROM {table}").fetchone()
        for table in ("rows", "recordings")
    }


def check_version(db: sqlite3.Connection, file: Path) -> int:
    """Return the format of a store; refuse a file that is none, or one of a newer embedx."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{file} is no store of embedx.")
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if not 1 <= version <= len(MIGRATIONS):
        raise StoreError(f"{file} has format {version}, this embedx reads up to {len(MIGRATIONS)}: update embedx.")
    return version


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring an older store to the format of today, in one transaction."""
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
    """Make a folder with an empty store; the file appears whole, by a rename."""
    new = folder / f"{FILE_NAME}.new"
    if folder.exists() and (not folder.is_dir() or any(not is_ours(one.name) for one in folder.iterdir())):
        raise UsageError(f"{folder} exists and is no collection. Name another place with -o (out).")
    with explained(folder):
        make_folder(folder)
        held = Lock(folder)
        try:
            if (folder / FILE_NAME).exists():  # another process was quicker
                return
            for left in folder.glob(f"{new.name}*"):  # by a process that was killed
                left.unlink()
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
                db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
                db.execute("PRAGMA journal_mode = MEMORY")  # one on disk would outlive a crash, and is no use here
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
                # Before the file has its name: a kill during the switch leaves a journal that no reader may roll back.
                db.execute("PRAGMA journal_mode = WAL")
            os.replace(new, folder / FILE_NAME)
            sync_folder(folder)
        finally:
            held.release()


def is_ours(name: str) -> bool:
    """Tell whether a file may lie where a store is to be made: a process that was killed leaves some."""
    return name in (FILE_NAME, LOCK_NAME) or name.startswith(f"{FILE_NAME}.new")


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
