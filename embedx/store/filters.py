"""Filters: select rows by an SQL condition of the user, which can only read."""

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedx.errors import StoreError, UsageError
from embedx.store.schema import connect

COLUMNS = {  # column of every row -> its SQL expression
    "id": "rows.id",
    "path": "CAST(recordings.path AS TEXT)",
    "start_s": "rows.start_s",
    "end_s": "rows.end_s",
    "duration_s": "rows.end_s - rows.start_s",
    "label": "rows.label",
    "group": 'rows."group"',
    "split": "rows.split",
    "flags": "rows.flags",
}
FUNCTIONS = frozenset(  # SQL functions that a condition can call
    "abs coalesce glob ifnull iif instr json_array_length json_each json_extract length like lower ltrim max min "
    "nullif round rtrim substr substring trim typeof upper -> ->>".split()
)


def select(file: Path, where: str, metadata: Mapping[str, str]) -> NDArray[np.int64]:
    """Return the ids of the rows that meet a condition, ascending. It runs on a connection of its own.

    Args:
        file: the SQLite file.
        where: the condition.
        metadata: metadata column -> "number" (it holds only numbers, and compares as a number) or "text".

    Raises:
        UsageError: the condition is invalid, names an unknown column, or does more than compare.
        StoreError: the file is damaged.
    """
    columns = [f'{expression} AS "{name}"' for name, expression in COLUMNS.items()]
    for name, kind in metadata.items():
        if '"' not in name:
            affinity = "NUMERIC" if kind == "number" else "TEXT"
            path = name.replace("'", "''")
            columns.append(f"""CAST(json_extract(rows.meta, '$."{path}"') AS {affinity}) AS "{name}" """)
    rows = f"SELECT {', '.join(columns)} FROM rows JOIN recordings ON recordings.id = rows.recording"
    with contextlib.closing(connect(file, "ro")) as reader:
        reader.set_authorizer(only_read)
        try:
            ids = reader.execute(f"SELECT id FROM ({rows}) WHERE (\n{where}\n) ORDER BY id").fetchall()
        except (sqlite3.Error, sqlite3.Warning) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise StoreError(f"{file} is damaged: {error}.") from error
            raise UsageError(
                f"The filter {where!r} is invalid: {error}. A filter is an SQL condition on columns, such as "
                f"\"label = 'dog' AND duration_s > 2\". Columns: {', '.join([*COLUMNS, *metadata])} (group is a word "
                'of SQL: write "group" in double quotes).'
            ) from error
    return np.array([row_id for (row_id,) in ids], np.int64)


def only_read(action: int, table: str | None, function: str | None, *place: str | None) -> int:
    """Allow a condition to read rows and recordings and to call safe functions, and nothing else."""
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and table in ("rows", "recordings", "json_each"):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and function in FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
