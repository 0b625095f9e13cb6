"""Columns: the values of a column with the number of their rows, and a column as codes for the map."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.collection.collection import Collection
from embedx.heads.head import Head
from embedx.server.answers import state_of
from embedx.server.errors import ApiError
from embedx.server.served import Served
from embedx.store.filters import COLUMNS
from embedx.training.scoring import predict_proba

HIDDEN = ("id", "path")  # every row has another one, and a path can name folders of the server
BINS = 20  # of the histogram of a column of numbers
MAX_CODES = 1000  # values of a column that the map can colour or list; the rest is "other"
HEAD = re.compile(r"head:([^:]+)(:p)?")  # the most probable class of a head, or its probability

NAMED = (  # what an error of a condition names; see `embedx.store.conditions`
    r'near "([^"]+)"',
    r"no such column: ([^;?. ]+)",
    r"no function (\S+?);",
    r"'(.{1,20})' is not understood",
    r"^a ([^ ]) (?:has no end|is not closed|closes no)",
    r"^([;.]) is not allowed",
    r"\((--|/\*)",
    r"^(IN) needs",
)

Values = tuple[NDArray[np.int64], list[Any]]


def read_values(served: Served, collection: Collection, name: str) -> Values:
    """Return the ids of all rows and their values in a column; each column is read once for every state.

    Raises:
        ApiError: there is no such column.
        UsageError: there is no such column.
    """
    if name in HIDDEN:
        raise ApiError(400, "bad_request", f"The values of {name} are not listed.")
    names = {*COLUMNS, *collection.store.columns}
    key = (collection, *state_of(collection).values())
    if name not in names:
        return collection.store.column(name)  # raises
    return served.keep(f"column {name}", key, lambda: collection.store.column(name))


def count_values(values: Sequence[Any], prefix: str, limit: int) -> dict[str, Any]:
    """Return the commonest values that begin with a text, whatever its case, and the histogram of numbers."""
    counts = Counter(value for value in values if value is not None and value != "")
    begin = prefix.casefold()
    matching = [(value, rows) for value, rows in counts.items() if str(value).casefold().startswith(begin)]
    matching.sort(key=lambda pair: (-pair[1], str(pair[0])))
    numbers = np.array([value for value in values if type(value) in (int, float)], np.float64)
    is_numeric = len(numbers) > 0 and len(numbers) == counts.total()
    bins, edges = np.histogram(numbers, BINS) if is_numeric else (np.zeros(0, int), np.zeros(0))
    return {
        "values": [{"value": value, "rows": rows} for value, rows in matching[:limit]],
        "more": len(matching) > limit,
        "min": float(numbers.min()) if is_numeric else None,
        "max": float(numbers.max()) if is_numeric else None,
        "bins": bins.tolist(),
        "edges": edges.tolist(),
        "empty": len(values) - counts.total(),
    }


def coded(values: Sequence[Any]) -> tuple[NDArray[Any], list[Any], bool]:
    """Return values as codes and the list that they point into, the commonest first; numbers as they are.

    Returns:
        Float32 numbers (NaN: none), an empty list and True; or codes (-1: none, int16) with their values and False. The
        values of a column that has more than 1000 of them end with None, which stands for all others.
    """
    known = [value for value in values if value is not None and value != ""]
    if known and all(type(value) in (int, float) for value in known):
        return np.array([np.nan if value is None else value for value in values], np.float32), [], True
    common = [value for value, _ in Counter(known).most_common(MAX_CODES)]
    code_of = {value: code for code, value in enumerate(common)}
    has_others = len(set(known)) > len(common)
    other = len(common) if has_others else -1
    empty = (None, "")
    codes = [-1 if value in empty else code_of.get(value, other) for value in values]
    return np.array(codes, np.int16), [*common, *([None] if has_others else [])], False


def class_of_rows(collection: Collection, head: Head) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Return the most probable class of every row, by its number, and its probability."""
    codes, highest = [np.zeros(0, np.int16)], [np.zeros(0, np.float32)]
    for blocks in zip(*(collection.store.blocks(view) for view in head.views), strict=True):
        proba = predict_proba(head, [vectors for _, vectors in blocks])
        codes.append(proba.argmax(axis=1).astype(np.int16))
        highest.append(proba.max(axis=1).astype(np.float32))
    return np.concatenate(codes), np.concatenate(highest)


def position_of(where: str, message: str) -> int:
    """Return the place in a condition that an error is about: where the last of what it names stands, else the end.

    >>> position_of("site = = 3", 'near "=": syntax error'), position_of("site = ", "it ends too early")
    (7, 7)
    >>> position_of("a = 1 AND sit = 2", "no such column: sit; did you mean site?")
    10
    """
    for pattern in NAMED:
        match = re.search(pattern, message)
        place = where.rfind(match[1]) if match else -1
        if place >= 0:
            return place
    return len(where)
