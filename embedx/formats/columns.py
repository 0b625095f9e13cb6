"""Columns of an exported table, and the encoding of paths and cells.

Every format has the columns of `FIXED`, then the metadata, then the vectors. A table that begins with the columns of
`FIXED` is read as an export of embedx; paths and cells are decoded in such tables only.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from embedx.datasets.text_tables import EXPORT_COLUMNS
from embedx.errors import UsageError
from embedx.filesystem.paths import relative_path
from embedx.store.records import Row

FIXED = EXPORT_COLUMNS
TEXTS = ("path", "label", "group", "split", "flags")  # always text, also if a value looks like a number
MAX_EXACT_INT = 2**53  # a float64 holds every whole number up to here
INT64_LIMIT = 2**63  # an int64 is below this
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # first characters that a spreadsheet reads as a formula


def to_record(row: Row, columns: Mapping[str, str], root: str | None = None) -> dict[str, Any]:
    """Return a row as column -> value; `columns` maps each name of the metadata to its column.

    The path is relative to the folder `root`, if one is given and holds it.
    """
    return {
        "id": row.id,
        "path": escape_path(relative_path(row.path, root)),
        "start_s": row.start_s,
        "end_s": row.end_s,
        "duration_s": row.end_s - row.start_s,
        "label": row.label,
        "group": row.group,
        "split": row.split,
        "flags": ",".join(row.flags),
        **{column: replace_nonfinite(row.meta.get(name)) for name, column in columns.items()},
    }


def name_columns(names: Iterable[str], reserved: Iterable[str]) -> dict[str, str]:
    """Map each name of the metadata to its column; a name that is used already gets an underscore.

    >>> name_columns(["site", "v0"], ["id", "v0", "v1"])
    {'site': 'site', 'v0': 'v0_'}
    """
    used = {*FIXED, *reserved}
    columns = {}
    for name in names:
        column = name.encode("utf-8", "backslashreplace").decode()
        while column in used:
            column += "_"
        used.add(column)
        columns[name] = column
    return columns


def escape_path(path: str) -> str:
    r"""Return a path as valid UTF-8: other bytes become \xNN, and a backslash is doubled.

    >>> escape_path("caf\udce9.wav"), escape_path("a\\b"), escape_path("café.wav")
    ('caf\\xe9.wav', 'a\\\\b', 'café.wav')
    """
    doubled = path.replace("\\", "\\\\")
    return re.sub("[\udc80-\udcff]", lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", doubled)


def unescape_path(path: str) -> str:
    r"""Reverse `escape_path`.

    >>> unescape_path("caf\\xe9.wav"), unescape_path("a\\\\b")
    ('caf\udce9.wav', 'a\\b')
    """
    return re.sub(
        r"\\x([89a-f][0-9a-f])|\\\\",
        lambda match: chr(0xDC00 + int(match[1], 16)) if match[1] else "\\",
        path,
    )


def replace_nonfinite(value: Any) -> Any:
    """Return a value with None in place of NaN and infinity, which JSON and SQLite cannot hold.

    >>> replace_nonfinite([1.5, float("nan")]), replace_nonfinite("text")
    ([1.5, None], 'text')
    """
    if value is None or isinstance(value, (str, int)):
        return value
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


def common_kind(kinds: Collection[str]) -> str:
    """Return the kind that holds all values of a column without loss: "bool", "int", "float", "text" or "json".

    >>> columns = ([1, None], [1, 2.5], [True, 1], ["a", [1]], [])
    >>> [common_kind({kind_of(value) for value in column}) for column in columns]
    ['int', 'float', 'json', 'json', 'text']
    """
    present = set(kinds) - {""}
    if not present:
        return "text"
    if present <= {"int", "long"}:
        return "int"
    if present <= {"int", "float"}:
        return "float"
    return present.pop() if len(present) == 1 else "json"


def kind_of(value: Any) -> str:
    """Return the kind of a value: "" for None, and "long" for a whole number that a float64 cannot hold exactly."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if abs(value) <= MAX_EXACT_INT:
            return "int"
        return "long" if -INT64_LIMIT <= value < INT64_LIMIT else "json"
    return "float" if isinstance(value, float) else "text" if isinstance(value, str) else "json"


def to_cell(value: Any, text: bool = False) -> str:
    """Encode a value as a CSV cell: text as it is, None as an empty cell, everything else as JSON.

    An apostrophe at the start marks the cell as text, as in a spreadsheet. It is added to text that a spreadsheet would
    run as a formula, to text that begins with an apostrophe, and, unless `text`, to text that would be read as JSON.

    Args:
        value: the value; anything that JSON can hold.
        text: the column holds text only.

    Returns:
        The cell; `from_cell` decodes it.

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
    """Decode a cell that `to_cell` encoded.

    Args:
        cell: the cell.
        text: the column holds text only.

    Returns:
        The value.

    >>> [from_cell(cell) for cell in ("dog", "'=1+1", "'1", "''tis", "1", "-0.5", "", "'", "[1, null]")]
    ['dog', '=1+1', '1', "'tis", 1, -0.5, None, '', [1, None]]
    """
    if not cell:
        return None
    if cell.startswith("'"):
        return cell[1:]
    return json.loads(cell) if not text and is_json(cell) else cell


def is_json(text: str) -> bool:
    """Tell whether a text is valid JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def decode_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    """Decode the cells of a row of an exported CSV."""
    return {name: from_cell(cell, name in TEXTS) for name, cell in cells.items()}


def parse_exported_row(values: Mapping[str, Any], number: int) -> Row:
    """Return a row of an export as the store holds it.

    Args:
        values: column -> value, without the vectors.
        number: the number of the row in the table, from 1, for the error.

    Raises:
        UsageError: a value is not one that an export contains.
    """
    try:
        meta = {str(name): replace_nonfinite(value) for name, value in values.items() if name not in FIXED}
        flags = tuple(filter(None, (values["flags"] or "").split(",")))
        start_s, end_s = float(values["start_s"]), float(values["end_s"])
        if not 0 <= start_s <= end_s < float("inf"):
            raise ValueError(f"start_s is {start_s} and end_s is {end_s}")
        label, group, split = (
            None if values[name] is None else str(values[name]) for name in ("label", "group", "split")
        )
        if not 0 < values["id"] <= MAX_EXACT_INT:
            raise ValueError(f"id is {values['id']!r}")
        path = unescape_path(values["path"])
        return Row(int(values["id"]), path, start_s, end_s, label, group, split, flags, meta)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(f"Row {number} is not a row that embedx exported: {error}.") from error
