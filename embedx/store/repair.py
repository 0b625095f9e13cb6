"""Mending: what can be set right in a store without the recordings. What cannot be known any more is taken out."""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Sequence

from embedx.store.integrity import Issue
from embedx.store.schema import SUMMED, checksum, fill_sums


def mend(db: sqlite3.Connection, findings: Sequence[Issue]) -> list[str]:
    """Mend the tables beside the vectors, inside a transaction; return the recordings that had to be taken out.

    A row whose label or metadata is damaged goes with its whole recording, since what it said is lost; `extract` brings
    it back. What a run noted of itself is emptied, the kinds of the columns are found out anew, and a generation gets a
    new token, which makes its indexes stale.
    """
    rows = [one.id for one in findings if one.kind == "row" and not refer_again(db, one.id)]
    recordings = {one.id for one in findings if one.kind == "recording"}
    recordings |= {
        number for row in rows for (number,) in db.execute("SELECT recording FROM rows WHERE id = ?", (row,))
    }
    removed = []
    for number in sorted(recordings):
        found = db.execute("SELECT CAST(path AS BLOB) FROM recordings WHERE id = ?", (number,))
        removed += [os.fsdecode(path) for (path,) in found]
        db.execute("DELETE FROM recordings WHERE id = ?", (number,))
    tables = {one.place.split(" ")[0] for one in findings if one.kind == "table"}
    for table in tables & {"runs", "history"}:
        for number in damaged(db, table):
            if table == "runs":
                db.execute("UPDATE runs SET settings = '{}' WHERE id = ?", (number,))
            else:
                db.execute("UPDATE history SET token = ? WHERE generation = ?", (secrets.token_hex(8), number))
        fill_sums(db, table)
    if "columns" in tables:
        db.execute("DELETE FROM columns")
        metas = (json.loads(meta) for (meta,) in db.execute("SELECT meta FROM rows").fetchall())
        kinds = column_kinds(metas)
        db.executemany("INSERT INTO columns (name, kind) VALUES (?, ?)", kinds.items())
        fill_sums(db, "columns")
    db.execute("REINDEX")
    return removed


def refer_again(db: sqlite3.Connection, row: int) -> bool:
    """Give a row back to its recording, if nothing but the reference to it is damaged; return whether that is so."""
    _, columns = SUMMED["rows"]
    for stored, number, _, *rest in db.execute(f"SELECT checksum, {columns} FROM rows WHERE id = ?", (row,)).fetchall():
        for recording, path in db.execute("SELECT id, path FROM recordings").fetchall():
            if checksum([number, path, *rest]) == stored:
                db.execute("UPDATE rows SET recording = ? WHERE id = ?", (recording, row))
                return True
    return False


def damaged(db: sqlite3.Connection, table: str) -> list[int]:
    """Return the keys of the rows of a table whose checksum differs."""
    _, columns = SUMMED[table]
    found = db.execute(f"SELECT checksum, {columns} FROM {table}").fetchall()
    return [values[0] for stored, *values in found if checksum(values) != stored]


def column_kinds(metas: Iterable[dict[str, object]]) -> dict[str, str]:
    """Return metadata column -> "number" where it holds numbers alone, else "text".

    >>> column_kinds([{"fold": 1, "site": "A"}, {"fold": None, "site": 2}])
    {'fold': 'number', 'site': 'text'}
    """
    kinds: dict[str, str] = {}
    for meta in metas:
        for name, value in meta.items():
            if value is not None and kinds.get(name) != "text":
                kinds[name] = "number" if isinstance(value, (int, float)) else "text"
    return kinds
