"""Filters: select rows by a condition of the user, which can only read, with limits on time and memory."""

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from threading import TIMEOUT_MAX
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.store.conditions import FUNCTIONS, Condition, invalid, parse_condition, shortened

Answer = TypeVar("Answer")
TIMEOUT_S = 30.0  # default deadline of a condition: an ordinary one takes 0.5 s for a million rows
INTERRUPT_S = 0.05  # between two attempts to interrupt SQLite: an interrupt before it has begun is lost
MAX_VALUE_BYTES = 1_000_000  # of a value: LIKE with the longest pattern takes 1.2 s to compare one of this length
MAX_READ = 500  # columns in one statement; SQLite takes 2000
COLUMNS = {  # column of every row -> its SQL expression
    "id": "rows.id",
    "path": "(SELECT CAST(recordings.path AS TEXT) FROM recordings WHERE recordings.id = rows.recording)",
    "start_s": "rows.start_s",
    "end_s": "rows.end_s",
    "duration_s": "rows.end_s - rows.start_s",
    "label": "rows.label",
    "group": 'rows."group"',
    "split": "rows.split",
    "flags": "rows.flags",
}
LIMITS = {  # https://www.sqlite.org/limits.html
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000_000,  # a condition has up to a million characters before columns are named
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 1000,  # the default; a system can have compiled SQLite without it
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 1,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 5_000_000,  # a list of 100 000 ids takes 300 000
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 100,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
}
FAULTS_OF_CONDITIONS = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_MISMATCH)


def select(
    db: sqlite3.Connection,
    where: str,
    metadata: Mapping[str, str],
    timeout: float = TIMEOUT_S,
    part: tuple[int, int] | None = None,
) -> NDArray[np.int64]:
    """Return the ids of the rows that meet a condition, ascending, in the transaction that the connection is in.

    Args:
        db: a connection that no other thread uses meanwhile.
        where: the condition.
        metadata: metadata column -> "number" (it holds only numbers, and compares as a number) or "text".
        timeout: seconds after which it is interrupted; infinity: never.
        part: only ids above the first number, and as many as the second; None: all.

    Raises:
        UsageError: the condition is invalid, names an unknown column, does more than compare, or takes too long.
    """
    check_timeout(timeout)
    names = list(dict.fromkeys([*COLUMNS, *metadata]))
    condition = parse_condition(where, names)
    sql = query_of(condition, metadata, part)

    def run() -> NDArray[np.int64]:
        cursor = db.execute(sql)
        blocks = iter(lambda: cursor.fetchmany(10_000), [])
        return np.concatenate([np.zeros(0, np.int64), *(np.array(block, np.int64)[:, 0] for block in blocks)])

    with restricted(db):
        try:
            return run_until(run, db.interrupt, timeout)
        except TimeoutError:
            raise UsageError(
                f"The filter {shortened(where)} was stopped after {timeout:g} s. Simplify it, or allow more time "
                "(--timeout)."
            ) from None
        except (sqlite3.Error, sqlite3.Warning) as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in FAULTS_OF_CONDITIONS:
                raise invalid(where, condition.explain(str(error)), names) from error
            raise


def read_column(db: sqlite3.Connection, name: str, metadata: Mapping[str, str]) -> list[tuple[int, Any]]:
    """Return the id of every row, ascending, and its value in a column: a text, a number or None.

    Raises:
        UsageError: there is no such column.
    """
    if name not in COLUMNS and name not in metadata:
        raise UsageError(f"There is no column {name[:200]}. Columns: {', '.join([*COLUMNS, *metadata])}.")
    return db.execute(f"SELECT rows.id, {value_of(name, metadata)} FROM rows ORDER BY rows.id").fetchall()


def read_distinct(db: sqlite3.Connection, name: str, metadata: Mapping[str, str], limit: int) -> list[Any]:
    """Return the different values of a column, sorted, numbers first; none if there are more than `limit`."""
    values = f"SELECT {value_of(name, metadata)} AS value FROM rows"
    found = db.execute(f"SELECT DISTINCT value FROM ({values}) WHERE value IS NOT NULL LIMIT {limit + 1}").fetchall()
    known = sorted((value for (value,) in found), key=lambda value: (isinstance(value, str), value))
    return known if len(known) <= limit else []


def read_values(db: sqlite3.Connection, ids: Sequence[int], metadata: Mapping[str, str]) -> dict[int, dict[str, Any]]:
    """Return row id -> column -> value of some rows; of equal names the column of every row counts."""
    expressions = {name: metadata_value(name, kind) for name, kind in metadata.items()} | COLUMNS
    values: dict[int, dict[str, Any]] = {int(number): {} for number in ids}
    names = list(expressions)
    for start in range(0, len(names), MAX_READ):
        block = names[start : start + MAX_READ]
        listed = ", ".join(expressions[name] for name in block)
        numbers = ", ".join(str(int(number)) for number in ids)
        for number, *row in db.execute(f"SELECT rows.id, {listed} FROM rows WHERE rows.id IN ({numbers})"):
            values[number].update(zip(block, row, strict=True))
    return {number: row for number, row in values.items() if row}


def check_timeout(timeout: object) -> None:
    """Refuse a deadline that is not a positive number of seconds."""
    if not isinstance(timeout, Real) or not float(timeout) > 0:
        raise UsageError(f"timeout={timeout!r} is not allowed: give the seconds that a filter can take, above 0.")


def query_of(condition: Condition, metadata: Mapping[str, str], part: tuple[int, int] | None = None) -> str:
    """Return the query for the ids of the rows that meet a condition; it reads only the columns that are named.

    The rows of a part are found by their ids, so that the time of all parts together grows with the rows.
    """
    columns = ["rows.id AS row_id"]
    for number, name in enumerate(condition.columns):
        columns.append(f"{value_of(name, metadata)} AS c{number}")
    above, most = ("", "") if part is None else (f"WHERE rows.id > {int(part[0])}", f"LIMIT {int(part[1])}")
    rows = f"SELECT {', '.join(columns)} FROM rows {above}"
    return f"SELECT row_id FROM ({rows}) WHERE ({condition.sql}) ORDER BY row_id {most}"


def value_of(name: str, metadata: Mapping[str, str]) -> str:
    """Return the SQL expression of a column; of equal names the column of every row counts."""
    return COLUMNS[name] if name in COLUMNS else metadata_value(name, metadata[name])


def metadata_value(name: str, kind: str) -> str:
    """Return the SQL expression of a metadata column. JSON paths are fast, but can name only plain keys."""
    if re.fullmatch(r"[\w ./:()-]+", name, re.ASCII):
        value = f"json_extract(rows.meta, '$.\"{name}\"')"
    else:
        quoted = name.replace("'", "''")
        value = f"(SELECT json_each.value FROM json_each(rows.meta) WHERE json_each.key = '{quoted}')"
    return f"CAST({value} AS {'NUMERIC' if kind == 'number' else 'TEXT'})"


def run_until(run: Callable[[], Answer], interrupt: Callable[[], None], timeout: float) -> Answer:
    """Run a function in a thread; interrupt it at a deadline, or if a signal ends the wait.

    Python handles signals only between its own instructions, so this thread must not be inside SQLite.

    Raises:
        TimeoutError: the deadline has passed.
    """
    with ThreadPoolExecutor(1, "embedx-filter") as pool:
        running = pool.submit(run)
        try:
            return running.result(min(timeout, TIMEOUT_MAX))
        except BaseException:
            while not running.done():
                interrupt()
                with contextlib.suppress(Exception):  # the wait has ended; the error of the caller is raised
                    running.exception(INTERRUPT_S)
            raise


@contextlib.contextmanager
def restricted(db: sqlite3.Connection) -> Iterator[None]:
    """Within this context, a connection can only read rows and recordings, and call safe functions within limits."""
    db.execute("SELECT key FROM json_each('[]')")  # the first use of this table is more than reading
    before = {limit: db.setlimit(limit, value) for limit, value in LIMITS.items()}
    db.set_authorizer(only_read)
    try:
        yield
    finally:
        db.set_authorizer(None)
        for limit, value in before.items():
            db.setlimit(limit, value)


def only_read(action: int, table: str | None, function: str | None, *place: str | None) -> int:
    """Allow a condition to read rows and recordings and to call safe functions, and nothing else."""
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and table in ("rows", "recordings", "json_each"):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and function in (*FUNCTIONS, "->", "->>"):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
