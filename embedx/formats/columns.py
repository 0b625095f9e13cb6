"""Layout: what a row looks like outside of the store, and how nothing is lost by it.

Every format has the same columns: those of `FIXED`, then the metadata, then the vectors. A table that begins with the
columns of `FIXED` is taken to be an export; only there are paths and cells unescaped.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from embedx.errors import UsageError
from embedx.store.records import Row

FIXED = ("id", "path", "start_s", "end_s", "duration_s", "label", "group", "split", "flags")
TEXTS = ("path", "label", "group", "split", "flags")  # columns of text, whatever the text looks like
EXACT = 2**53  # up to here every whole number is a float64
LONGEST = 2**63  # of an int64
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a formula


def record(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row as a table shows it; `columns` gives the column of every name of its metadata."""
    return {
        "id": row.id,
        "path": escaped(row.path),
        "start_s": row.start_s,
        "end_s": row.end_s,
        "duration_s": row.end_s - row.start_s,
        "label": row.label,
        "group": row.group,
        "split": row.split,
        "flags": ",".join(row.flags),
        **{column: finite(row.meta.get(name)) for name, column in columns.items()},
    }


def name_columns(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Return the column of every name of the metadata; a name that is taken gets an underscore.

    >>> name_columns(["site", "v0"], ["id", "v0", "v1"])
    {'site': 'site', 'v0': 'v0_'}
    """
    used = {*FIXED, *taken}
    columns = {}
    for name in names:
        column = name.encode("utf-8", "backslashreplace").decode()
        while column in used:
            column += "_"
        used.add(column)
        columns[name] = column
    return columns


def is_own(columns: Sequence[str]) -> bool:
    """Tell whether a table with these columns is an export of embedx."""
    return tuple(columns[: len(FIXED)]) == FIXED


def escaped(path: str) -> str:
    r"""Return a path as UTF-8: bytes that are none become \xNN, and a backslash is doubled.

    >>> escaped("caf\udce9.wav"), escaped("a\\b"), escaped("café.wav")
    ('caf\\xe9.wav', 'a\\\\b', 'café.wav')
    """
    doubled = path.replace("\\", "\\\\")
    return re.sub("[\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", doubled)


def unescaped(path: str) -> str:
    r"""Return the path that `escaped` was given.

    >>> unescaped("caf\\xe9.wav"), unescaped("a\\\\b")
    ('caf\udce9.wav', 'a\\b')
    """
    return re.sub(
        r"\\x([89a-f][0-9a-f])|\\\\",
        lambda found: chr(0xDC00 + int(found[1], 16)) if found[1] else "\\",
        path,
    )


def finite(value: Any) -> Any:
    """Return a value of the metadata without what JSON and SQLite do not know: not-a-number and infinity become None.

    >>> finite([1.5, float("nan")]), finite("text")
    ([1.5, None], 'text')
    """
    if value is None or isinstance(value, (str, int)):
        return value
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


def widest(kinds: Collection[str]) -> str:
    """Return what holds all values of a column without loss: "bool", "int", "float", "text", else "json".

    >>> [widest({kind_of(value) for value in column}) for column in ([1, None], [1, 2.5], [True, 1], ["a", [1]], [])]
    ['int', 'float', 'json', 'json', 'text']
    """
    found = set(kinds) - {""}
    if not found:
        return "text"
    if found <= {"int", "long"}:
        return "int"
    if found <= {"int", "float"}:
        return "float"
    return found.pop() if len(found) == 1 else "json"


def kind_of(value: Any) -> str:
    """Return the kind of one value; "long" is a whole number that a float64 cannot hold, "" is none at all."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) <= EXACT else "long" if -LONGEST <= value < LONGEST else "json"
    return "float" if isinstance(value, float) else "text" if isinstance(value, str) else "json"


def to_cell(value: Any, text: bool = False) -> str:
    """Return a value as a cell of CSV: text as it is, everything else as JSON, None as nothing.

    As in a spreadsheet, an apostrophe in front says that a cell is text. Text gets one that would be run as a formula
    or begins with an apostrophe; and, outside of columns that hold text alone (`text`), text that reads as JSON.

    >>> [to_cell(value) for value in ("dog", "=1+1", "1", "'tis", 1, -0.5, None, "", [1, None])]
    ['dog', "'=1+1", "'1", "''tis", '1', '-0.5', '', "'", '[1, null]']
    >>> to_cell("1", text=True)
    '1'
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value)
    marked = not value or value.startswith(("'", *FORMULAS)) or (not text and is_json(value))
    return f"'{value}" if marked else value


def from_cell(cell: str, text: bool = False) -> Any:
    """Return the value that `to_cell` was given.

    >>> [from_cell(cell) for cell in ("dog", "'=1+1", "'1", "''tis", "1", "-0.5", "", "'", "[1, null]")]
    ['dog', '=1+1', '1', "'tis", 1, -0.5, None, '', [1, None]]
    """
    if not cell:
        return None
    if cell.startswith("'"):
        return cell[1:]
    return json.loads(cell) if not text and is_json(cell) else cell


def is_json(text: str) -> bool:
    """Tell whether a text reads as JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def own_record(cells: Mapping[str, str]) -> dict[str, Any]:
    """Return a row of an exported CSV with its values instead of their cells."""
    return {name: from_cell(cell, name in TEXTS) for name, cell in cells.items()}


def own_row(values: Mapping[str, Any], number: int) -> Row:
    """Return a row of an export as the store holds it; `number` is for messages.

    Raises:
        UsageError: something in it is not what an export holds.
    """
    try:
        meta = {str(name): finite(value) for name, value in values.items() if name not in FIXED}
        flags = tuple(filter(None, (values["flags"] or "").split(",")))
        start_s, end_s = float(values["start_s"]), float(values["end_s"])
        if not 0 <= start_s <= end_s < float("inf"):
            raise ValueError(f"it goes from {start_s} s to {end_s} s")
        label, group, split = (
            None if values[name] is None else str(values[name]) for name in ("label", "group", "split")
        )
        if not 0 < values["id"] <= EXACT:
            raise ValueError(f"its id is {values['id']!r}")
        return Row(int(values["id"]), unescaped(values["path"]), start_s, end_s, label, group, split, flags, meta)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(f"Row {number} is none that embedx exported: {error}.") from error
