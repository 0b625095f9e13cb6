"""Repair of a store, without the recordings: rows that cannot be restored are removed."""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Sequence

from embedx.store.integrity import Issue
from embedx.store.schema import SUMMED, checksum, fill_sums


def repair_tables(db: sqlite3.Connection, issues: Sequence[Issue]) -> list[str]:
    """Repair the tables except the vectors, inside a transaction; return the paths of the removed recordings.

    A row with damaged label or metadata is removed with its whole recording, since the values are lost; `extract`
    brings the recording back, and its edits are applied again. A damaged edit is removed; the rows keep its
    values until they are embedded again. The settings of a damaged run are emptied, the kinds of the metadata columns
    are determined again, and a damaged generation gets a new token, which makes its indexes out of date.
    """
    rows = [issue.id for issue in issues if issue.kind == "row" and not restore_reference(db, issue.id)]
    recordings = {issue.id for issue in issues if issue.kind == "recording"}
    recordings |= {
        number for row in rows for (number,) in db.execute("SELECT recording FROM rows WHERE id = ?", (row,))
    }
    removed = []
    for number in sorted(recordings):
        paths = db.execute("SELECT CAST(path AS BLOB) FROM recordings WHERE id = ?", (number,))
        removed += [os.fsdecode(path) for (path,) in paths]
        db.execute("DELETE FROM recordings WHERE id = ?", (number,))
    tables = {issue.place.split(" ")[0] for issue in issues if issue.kind == "table"}
    for table in tables & {"runs", "history"}:
        for key in damaged_keys(db, table):
            if table == "runs":
                db.execute("UPDATE runs SET settings = '{}' WHERE id = ?", (key,))
            else:
                db.execute("UPDATE history SET token = ? WHERE generation = ?", (secrets.token_hex(8), key))
        fill_sums(db, table)
    if "edits" in tables:  # the rows still have the values
        db.executemany("DELETE FROM edits WHERE id = ?", [(key,) for key in damaged_keys(db, "edits")])
    if "columns" in tables:
        db.execute("DELETE FROM columns")
        metas = (json.loads(meta) for (meta,) in db.execute("SELECT meta FROM rows").fetchall())
        kinds = column_kinds(metas)
        db.executemany("INSERT INTO columns (name, kind) VALUES (?, ?)", kinds.items())
        fill_sums(db, "columns")
    db.execute("REINDEX")
    return removed


def restore_reference(db: sqlite3.Connection, row: int) -> bool:
    """Restore the reference of a row to its recording; return False if other values of the row are damaged."""
    _, columns = SUMMED["rows"]
    for stored, number, _, *rest in db.execute(f"SELECT checksum, {columns} FROM rows WHERE id = ?", (row,)).fetchall():
        for recording, path in db.execute("SELECT id, path FROM recordings").fetchall():
            if checksum([number, path, *rest]) == stored:
                db.execute("UPDATE rows SET recording = ? WHERE id = ?", (recording, row))
                return True
    return False


def damaged_keys(db: sqlite3.Connection, table: str) -> list[int]:
    """Return the keys of the rows of a table whose checksum differs."""
    _, columns = SUMMED[table]
    rows = db.execute(f"SELECT checksum, {columns} FROM {table}").fetchall()
    return [values[0] for stored, *values in rows if checksum(values) != stored]


def column_kinds(metas: Iterable[dict[str, object]]) -> dict[str, str]:
    """Return metadata column -> "number" if it holds only numbers, else "text".

    >>> column_kinds([{"fold": 1, "site": "A"}, {"fold": None, "site": 2}])
    {'fold': 'number', 'site': 'text'}
    """
    kinds: dict[str, str] = {}
    for meta in metas:
        for name, value in meta.items():
            if value is not None and kinds.get(name) != "text":
                kinds[name] = "number" if isinstance(value, (int, float)) else "text"
    return kinds
