"""A store that a stranger has made is refused by name before anything in it is run, in bounded time."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from embedx.cli import run
from embedx.errors import StoreError
from embedx.store.record import Checksums
from embedx.store.schema import FILE_NAME, VECTORS, read_record, write_record
from embedx.store.store import Store
from tests.helpers.store_batches import DIM, RECIPE, batch

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "c", RECIPE, DIM) as store:
        store.add(batch("/a.wav"), store.start_run({}))
    return tmp_path / "c"


def change_schema(folder: Path, *statements: str) -> None:
    """Run SQL on the file with everything allowed."""
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            db.execute(statement)


def replaced(table: str, sql: str) -> tuple[str, ...]:
    return f"ALTER TABLE {table} RENAME TO old_{table}", sql


SCHEMAS = {
    "a view in place of a table": replaced("runs", "CREATE VIEW runs AS SELECT * FROM old_runs"),
    "an endless view": replaced("rows", f"CREATE VIEW rows AS {ENDLESS}"),
    "an endless view of the record": replaced(
        "collection", f"CREATE VIEW collection (key, value, checksum) AS SELECT 'record', n, n FROM ({ENDLESS})"
    ),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM recordings; END",),
    "another table": ("CREATE TABLE t (x)",),
    "a table with SQL in its name": ('CREATE TABLE "vectors_L0_mean; DROP TABLE rows" (x)',),
    "a table like one of vectors": ("CREATE TABLE vectors_L9_mean (id, vector AS (hex(zeroblob(500000000))))",),
    "a table of vectors without a view": (VECTORS.format("vectors_L9_mean"),),
    "a table of vectors for another pooling": (VECTORS.format("vectors_L0_max"),),
    "a virtual table": ("CREATE VIRTUAL TABLE t USING fts5(x)",),
    "a generated column": ("ALTER TABLE rows ADD COLUMN x AS (hex(zeroblob(500000000)))",),
    "an index on an expression": ("CREATE INDEX i ON rows (length(label) + 1)",),
    "a check": ("UPDATE sqlite_schema SET sql = replace(sql, 'label TEXT', 'label TEXT CHECK (abs(1))')",),
    "a default": ("UPDATE sqlite_schema SET sql = replace(sql, 'label TEXT', 'label TEXT DEFAULT (random())')",),
    "a missing table": ("DROP TABLE edits",),
    "a missing index": ("DROP INDEX rows_of_recording",),
    "a broken statement": ("UPDATE sqlite_schema SET sql = 'CREATE TABLE rows (' WHERE name = 'rows'",),
    "a name that is no text": ("UPDATE sqlite_schema SET name = x'ff00' WHERE name = 'rows'",),
    "a long statement": (
        "UPDATE sqlite_schema SET sql = sql || ' /*' || hex(zeroblob(3000000)) || '*/' WHERE name = 'rows'",
    ),
    "many tables": ("BEGIN", *(f"CREATE TABLE t{i} (x)" for i in range(2000)), "COMMIT"),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_unknown_schema_is_refused_by_name(folder: Path, name: str) -> None:
    change_schema(folder, *SCHEMAS[name])
    before = (folder / FILE_NAME).read_bytes()
    begun = time.monotonic()
    for write in (False, True):
        with pytest.raises(StoreError, match=FILE_NAME):
            Store(folder, write=write)
    assert run(["status", str(folder)]) == 5
    assert run(["verify", str(folder)]) == 5
    assert time.monotonic() - begun < 20
    assert (folder / FILE_NAME).read_bytes() == before


def forge(folder: Path, table: str, change: str, values: tuple[object, ...] = ()) -> None:
    """Change a table, and forge its checksums and the commit record."""
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as db:
        record = read_record(db, folder)
        sums = Checksums(record.store)
        db.execute("BEGIN")
        db.execute(change, values)
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] != "checksum"]
        columns = ", ".join(f'"{name}"' for name in names)
        rows = db.execute(f"SELECT {columns} FROM {table} WHERE {names[0]} <> 'record'").fetchall()
        forged = [(sums.row(table, row), row[0]) for row in rows]
        db.executemany(f"UPDATE {table} SET checksum = ? WHERE {names[0]} = ?", forged)
        record.tables[table] = (0, 0)
        record.count(table, [checksum for checksum, _ in forged])
        write_record(db, record)
        db.execute("COMMIT")
    (folder / "lock").unlink()


ADD_EDIT = """INSERT INTO edits (id, change, made, undoes, path, content_hash, windows, "values")
    VALUES (1, 'c', 't', '', x'2f61', 'h'"""
DEEP = "[" * 100_000 + "]" * 100_000
VALUES: dict[str, tuple[str, str, str, Callable[[Store], object]]] = {
    "deep recipe": ("collection", "UPDATE collection SET value = ? WHERE key = 'recipe'", DEEP, lambda s: s.recipe),
    "long recipe": ("collection", "UPDATE collection SET value = ? WHERE key = 'recipe'", " " * 5_000_000,
                    lambda s: s.recipe),
    "recipe that is a list": ("collection", "UPDATE collection SET value = ? WHERE key = 'recipe'", "[1]",
                              lambda s: s.recipe),
    "layer with SQL": ("collection", "UPDATE collection SET value = ? WHERE key = 'recipe'",
                       json.dumps(json.loads(RECIPE.to_json()) | {"layers": ["0_mean; DROP TABLE rows"]}),
                       lambda s: s.vectors("L0.mean")),
    **{
        f"unknown {name}": ("collection", "UPDATE collection SET value = ? WHERE key = 'recipe'",
                            json.dumps(json.loads(RECIPE.to_json()) | {name: "other"}), lambda s: s.recipe)
        for name in ("tail", "channels", "resampler")
    },
    "deep metadata": ("rows", "UPDATE rows SET meta = ?", DEEP, lambda s: s.rows()),
    "metadata that is no object": ("rows", "UPDATE rows SET meta = ?", "[1]", lambda s: s.rows()),
    "metadata that is no JSON": ("rows", "UPDATE rows SET meta = ?", "{", lambda s: s.rows()),
    "time that is text": ("rows", "UPDATE rows SET start_s = ?", "soon", lambda s: s.rows()),
    "stretch that is text": ("rows", "UPDATE rows SET stretch = ?", "x", lambda s: s.rows()),
    "duration that is text": ("recordings", "UPDATE recordings SET duration_s = ?", "x", lambda s: s.recordings()),
    "path that is text": ("recordings", "UPDATE recordings SET path = ?", "/a.wav", lambda s: s.recordings()),
    "time of change that is text": ("recordings", "UPDATE recordings SET mtime_ns = ?", "[]", lambda s: s.recordings()),
    "name of a column in bytes": ("columns", "INSERT INTO columns (name, kind) VALUES (CAST(? AS BLOB), 'text')",
                                          "x", lambda s: s.columns),
    "deep settings": ("runs", "UPDATE runs SET settings = ?", DEEP, lambda s: s.last_run()),
    "settings that are a list": ("runs", "UPDATE runs SET settings = ?", "[1]", lambda s: s.source_names()),
    "edited values that are a number": ("edits", f"{ADD_EDIT}, 'null', ?)", "5", lambda s: s.edits()),
    **{
        f"edited windows {windows}": ("edits", f"{ADD_EDIT}, ?, '{{}}')", windows, lambda s: s.edits())
        for windows in ("5", "[", "[[1, 2]]", '[["a", 2, null, ""]]', '[[0, 5, [], ""]]', "[[0, 5, null, 7]]")
    },
    "type of objects": ("views", "UPDATE views SET dtype = ?", "O", lambda s: s.vectors("L0.mean")),
    "large dimension": ("views", "UPDATE views SET dim = ?", str(10**15), lambda s: s.vectors("L0.mean")),
    "dimension that is text": ("views", "UPDATE views SET dim = ?", "many", lambda s: s.vectors("L0.mean")),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_forged_value_is_refused_by_name(folder: Path, name: str) -> None:
    table, change, value, question = VALUES[name]
    forge(folder, table, change, (value,))
    with pytest.raises(StoreError), Store(folder) as store:
        question(store)


@pytest.mark.parametrize("sources", ["5", '"/a"', "[5]", "[[1]]", '{"a": 1}', "null"])
def test_forged_sources_of_a_run_are_left_out(folder: Path, sources: str) -> None:
    forge(folder, "runs", "UPDATE runs SET settings = ?", (f'{{"sources": {sources}, "request": {sources}}}',))
    with Store(folder) as store:
        assert store.source_names() == []
        assert store.sources() == {"/a.wav": ()}
    for command in (["status", str(folder)], ["duplicates", str(folder)], ["search", str(folder), "--id", "1"]):
        assert run(command) == 0


def test_name_of_a_table_in_views_is_not_used(folder: Path) -> None:
    forge(folder, "views", "UPDATE views SET vectors = ?", ("rows; DROP TABLE rows",))
    with Store(folder) as store:
        assert len(store.vectors("L0.mean")[0]) == 2
