"""Frames: rows as a pandas data frame."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedx.arguments.keywords import suggest
from embedx.errors import NoSuchRow, UsageError
from embedx.store.records import Row

if TYPE_CHECKING:
    import pandas as pd


MAX_ID = 2**63 - 1  # of a key in SQLite
LARGEST_WHOLE_FLOAT = 2**53  # up to here a float holds every whole number


def check_ids(ids: Iterable[int], where: str | None) -> list[int]:
    """Return the ids of rows that a user gave, as integers.

    Raises:
        UsageError: they are not whole numbers, or a condition is given too.
    """
    if where is not None:
        raise UsageError("Give ids or where, not both: where=\"id IN (3, 5) AND label = 'dog'\".")
    values = [ids] if isinstance(ids, (int, np.integer)) else list(ids)
    if not all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values):
        raise UsageError("ids are the numbers of rows, such as ids=[3, 5]; the index of rows() holds them.")
    if any(abs(int(value)) > MAX_ID for value in values):
        raise NoSuchRow(f"There is no row {max(map(abs, map(int, values)))}: ids have at most 63 bits.")
    return [int(value) for value in values]


def in_order(rows: Iterable[Row], ids: Sequence[int], place: object) -> list[Row]:
    """Return rows in the order of ids.

    Raises:
        NoSuchRow: an id is not among the rows.
    """
    by_id = {row.id: row for row in rows}
    for missing in (number for number in ids if number not in by_id):
        raise NoSuchRow(f"There is no row {missing} in {place}. rows() shows the ids.")
    return [by_id[number] for number in ids]


def frame_of(
    rows: Iterable[Row], columns: str | Sequence[str] | None = None, known: Callable[[], Iterable[str]] = tuple
) -> "pd.DataFrame":
    """Return rows as a data frame with their ids as index; see `Collection.rows` for its columns.

    Args:
        rows: the rows; they are read once, and not kept.
        columns: the columns that are wanted; all if None.
        known: returns the metadata columns of the collection, which these rows need not have.

    Raises:
        UsageError: there is no such column.
    """
    import pandas as pd

    ids, values = read_columns(rows)
    for name, column in values.items():
        if name == "path" or (isinstance(column, list) and is_rounded_by_floats(column)):
            values[name] = pd.Series(column, dtype=object)  # a path may be invalid UTF-8
    frame = pd.DataFrame(values).set_index(pd.Index(ids, dtype="int64", name="id"))
    if columns is None:
        return frame
    columns = [columns] if isinstance(columns, str) else list(columns)
    missing = [name for name in columns if name not in values]
    unknown = sorted(set(missing).difference(known())) if missing else []
    if unknown:
        meant = suggest(unknown[0], list(values))
        advice = f"Did you mean {meant}?" if meant else f"Columns: {', '.join(values)}."
        raise UsageError(f"There is no column {unknown[0]!r}. {advice} The ids are the index.")
    return frame.reindex(columns=columns)


def is_rounded_by_floats(column: Sequence[Any]) -> bool:
    """Tell whether pandas would make a column one of floats that holds a whole number too large for them.

    >>> is_rounded_by_floats([2**53 + 1, None]), is_rounded_by_floats([2**53 + 1, 3]), is_rounded_by_floats([3, 0.5])
    (True, False, False)
    """
    types = set(map(type, column))
    if int not in types or types == {int}:
        return False
    return any(type(value) is int and abs(value) > LARGEST_WHOLE_FLOAT for value in column)


def read_columns(rows: Iterable[Row]) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return the ids of rows, and column -> values: first those that every row has. Equal texts are kept once."""
    ids, starts, ends = array("q"), array("d"), array("d")
    texts: dict[str, list[str | None]] = {name: [] for name in ("path", "label", "group", "split", "flags")}
    meta: dict[str, list[Any]] = {}
    once: dict[str | None, str | None] = {}
    for count, row in enumerate(rows):
        ids.append(row.id)
        starts.append(row.start_s)
        ends.append(row.end_s)
        for values, text in zip(
            texts.values(), (row.path, row.label, row.group, row.split, ",".join(row.flags)), strict=True
        ):
            values.append(once.setdefault(text, text))
        for name in row.meta:
            if name not in meta:
                meta[name] = [None] * count
        for name, column in meta.items():
            value = row.meta.get(name)
            column.append(once.setdefault(value, value) if isinstance(value, str) else value)
    start_s, end_s = np.array(starts, float), np.array(ends, float)
    times = {"start_s": start_s, "end_s": end_s, "duration_s": end_s - start_s}
    return np.array(ids, np.int64), {"path": texts.pop("path"), **times, **texts, **meta}
