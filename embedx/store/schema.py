"""The SQLite file of a store: its tables, its format, and its commit record."""

import contextlib
import re
import sqlite3
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any

from embedx.errors import StoreError
from embedx.recipe import Recipe, view_name
from embedx.store.record import Checksums, Record

FILE_NAME = "store.db"
DTYPES = ("float32", "float16")  # of stored vectors
APPLICATION_ID = 0x656D6278  # "embx" in the header of the file
PAGE_SIZE = 32768  # bytes: room for several vectors of 768 float32

MIGRATIONS = (  # user_version is the number of applied migrations; creation.py completes all but the first
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
    # Format 4 is not released yet: a new table or column is added here. The commit record replaces the old values.
    """
    CREATE TABLE edits (
        id INTEGER PRIMARY KEY, change TEXT NOT NULL, made TEXT NOT NULL, undoes TEXT NOT NULL, path BLOB NOT NULL,
        content_hash TEXT NOT NULL, windows TEXT NOT NULL, "values" TEXT NOT NULL, checksum INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX edits_by_path ON edits (path);
    CREATE INDEX edits_by_content ON edits (content_hash);
    ALTER TABLE rows ADD COLUMN source_values TEXT NOT NULL DEFAULT '{}';
    DELETE FROM collection WHERE key NOT IN ('recipe', 'generation', 'rewritten');
    """,
)
VECTORS = (
    "CREATE TABLE {} (id INTEGER PRIMARY KEY REFERENCES rows (id) ON DELETE CASCADE, "
    "checksum INTEGER NOT NULL, vector BLOB NOT NULL)"
)
SUMMED = {  # table -> the columns in its checksum, the key first; the tables of vectors are summed as well
    "collection": "key, value",
    "runs": "id, settings",
    "history": "generation, token",  # a random token for every generation
    "columns": "name, kind",
    "views": "name, layer, pooling, dim, dtype, vectors",
    "recordings": "id, path, size, mtime_ns, content_hash, duration_s, rate, channels, stretches, status, reason, "
    "detail, flags, run",
    "rows": 'id, recording, stretch, start_s, end_s, label, "group", split, flags, meta, source_values',
    "edits": 'id, change, made, undoes, path, content_hash, windows, "values"',
}
PYTHON_TYPES = {"INTEGER": int, "REAL": float, "TEXT": str, "BLOB": bytes}
MAX_SCHEMA_STEPS = 1000  # thousands of steps of SQLite to read the schema; that of 5000 views takes 50
MAX_JSON = 1_000_000  # characters of the recipe and of the commit record; that of 5000 views has 400 000
RECORD = "record"  # key of the commit record in the table `collection`; the sum of this table leaves it out


def key_of(table: str) -> str:
    """Return the column that is the key of a table.

    >>> key_of("history")
    'generation'
    """
    return SUMMED.get(table, "id").split(",")[0]


def all_of(table: str) -> str:
    """Return a table for a query, with the rows that its sum counts.

    >>> all_of("rows"), all_of("collection")
    ('rows', "collection WHERE key <> 'record'")
    """
    return f"{table} WHERE key <> '{RECORD}'" if table == "collection" else table


def vector_table(layer: int, pooling: str) -> str:
    """Return the name of the table with the vectors of a view.

    Raises:
        StoreError: the name is not a plain word, so a damaged or foreign recipe holds it.

    >>> vector_table(12, "mean")
    'vectors_L12_mean'
    """
    name = f"vectors_L{layer}_{pooling}"
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise StoreError(f"The stored recipe has an invalid view: layer {layer!r}, pooling {pooling!r}.")
    return name


def vector_tables(recipe: Recipe) -> list[str]:
    """Return the tables with the vectors of a recipe, in the order of its views."""
    return [vector_table(layer, pooling) for layer in recipe.layers for pooling in recipe.poolings]


def create_vector_tables(db: sqlite3.Connection, recipe: Recipe, dim: int, dtype: str) -> list[tuple[Any, ...]]:
    """Create the tables with the vectors of a recipe, and return the rows of the table `views`."""
    views = []
    for layer in recipe.layers:
        for pooling in recipe.poolings:
            table = vector_table(layer, pooling)
            db.execute(VECTORS.format(table))
            views.append((view_name(layer, pooling), layer, pooling, dim, dtype, table))
    return views


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


def check_schema(db: sqlite3.Connection, file: Path, version: int) -> None:
    """Refuse a store whose tables are not those that this code makes, before anything in them is read.

    A view, trigger, virtual table or expression in a file that a stranger has made would run SQL that he chose.
    """
    steps = iter(range(MAX_SCHEMA_STEPS))
    db.set_progress_handler(lambda: next(steps, None) is None, 1000)
    try:
        found = {
            (kind, name, table, " ".join((sql or "").split()))
            for kind, name, table, sql in db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
        }
    finally:
        db.set_progress_handler(None, 0)
    names = [name for kind, name, *_ in found if kind == "table" and re.fullmatch(r"vectors_L\w+", name, re.ASCII)]
    expected = schema_of(version) | {("table", name, name, VECTORS.format(name)) for name in names}
    if different := sorted({name for _, name, *_ in found ^ expected}):
        raise StoreError(f"{file} is damaged, or no embedx store: {different[0]!r} is missing, unknown or changed.")


@cache
def schema_of(version: int) -> frozenset[tuple[str, str, str, str]]:
    """Return type, name, table and SQL of everything in a store of a format, without the tables of vectors."""
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        for statements in MIGRATIONS[:version]:
            empty.executescript(statements)
        rows = empty.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    return frozenset((kind, name, table, " ".join((sql or "").split())) for kind, name, table, sql in rows)


@cache
def types_of(table: str) -> tuple[tuple[type, ...], ...]:
    """Return the types that the values of each column in `SUMMED` can have, since SQLite stores any value anywhere."""
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        for statements in MIGRATIONS:
            empty.executescript(statements)
        columns = empty.execute(f"PRAGMA table_info({table})").fetchall()
    types = {
        name: (PYTHON_TYPES[kind], *(() if is_required or is_key else (NoneType,)))
        for _, name, kind, is_required, _, is_key in columns
    }
    return tuple(types[name.strip('"')] for name in SUMMED[table].split(", "))


def read_record(db: sqlite3.Connection, file: Path) -> Record:
    """Return the commit record of a store.

    Raises:
        StoreError: it is damaged or missing.
    """
    rows = db.execute("SELECT value, checksum FROM collection WHERE key = ?", (RECORD,)).fetchall()
    with contextlib.suppress(ValueError):
        for text, checksum in rows:
            record = Record.from_json(text if len(text) <= MAX_JSON else "")
            if Checksums(record.store).row("collection", (RECORD, text)) == checksum:
                return record
    raise StoreError(f"{file} is damaged: its commit record is {'damaged' if rows else 'missing'}. Restore a backup.")


def write_record(db: sqlite3.Connection, record: Record) -> None:
    """Store the commit record of a transaction."""
    text = record.to_json()
    checksum = Checksums(record.store).row("collection", (RECORD, text))
    db.execute("INSERT OR REPLACE INTO collection (key, value, checksum) VALUES (?, ?, ?)", (RECORD, text, checksum))
