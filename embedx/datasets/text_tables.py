"""Text tables: CSV (also with tabs, semicolons or bars) and JSON lines -> rows with the numbers of their lines.

A file that could be read in two ways is refused with the line and the column; nothing is guessed in silence.
"""

import csv
import io
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TextIO

from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.text import plural

SEPARATORS = ("\t", ",", ";", "|")
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "audio", "audio_path")
KNOWN_COLUMNS = {*PATH_COLUMNS, "id", "label", "group", "split", "start", "start_s", "end", "end_s", "vector", "v0"}
EXPORT_COLUMNS = ("id", "path", "start_s", "end_s", "duration_s", "label", "group", "split", "flags")  # of `export`
MAX_DEPTH = 100  # of nested JSON; functions of SQLite read up to 1000, the recursion of Python as much
PROBE_BYTES = 4096  # from the start of a file, to recognise its encoding
BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
JSON_ARRAY = re.compile(rb"\s*\[\s*[\]{\"]")
CONVERT = (  # advice about bytes in a text file
    "If the table is in Latin-1 or Windows-1252, convert it: iconv -f WINDOWS-1252 -t UTF-8 TABLE > NEW"
)
PAIR = "Write both halves (\\ud83d\\ude00), or remove it."  # advice about half a character in JSON
OTHER_FILES = {  # first bytes -> what the file is, and what to do
    b"PK\x03\x04": "an Excel file, a ZIP or an .npz. Save a table as CSV (UTF-8), one array with numpy.save",
    b"\xd0\xcf\x11\xe0": "an Excel file. Save the table as CSV (UTF-8)",
    b"\x1f\x8b": "compressed. Unpack it with gunzip",
    b"\x28\xb5\x2f\xfd": "compressed. Unpack it with unzstd",
    b"\xfd7zXZ": "compressed. Unpack it with unxz",
    b"BZh": "compressed. Unpack it with bunzip2",
    b"ARROW1": "an Arrow or Feather file. Save the table as Parquet",
    b"SQLite format 3": "a database. Save the table as CSV (UTF-8)",
}


def refuse_other_file(data: bytes, name: str) -> None:
    """Refuse a file whose first bytes show that it is empty, or neither text nor Parquet.

    Raises:
        UsageError: it says what the file is and what to do.
    """
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        raise UsageError(f"{name} is empty. A table begins with a line that names its columns.")
    for magic, what in OTHER_FILES.items():
        if data.startswith(magic):
            raise UsageError(f"{name} cannot be read as a table: it is {what}.")
    if JSON_ARRAY.match(data):
        raise UsageError(
            f"{name} cannot be read as a table: it is a JSON array. Write JSON lines: one object per line."
        )


@contextmanager
def open_text(file: BinaryIO, name: str) -> Iterator[TextIO]:
    """Open a file as text in the encoding of its first bytes; bytes that are not UTF-8 become surrogates.

    Raises:
        UsageError: the file is not text in UTF-8, UTF-16 or UTF-32.
    """
    encoding = guess_encoding(file.read(PROBE_BYTES))
    file.seek(0)
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    text = io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")
    try:
        yield text
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} begins as {encoding.upper()} and has bytes that are not. Save it as UTF-8."
        ) from error
    finally:
        text.detach()


def guess_encoding(start: bytes) -> str:
    """Return the encoding of a text from its first bytes: by its byte order mark, or by zeros in every second byte.

    >>> guess_encoding("path".encode("utf-16")), guess_encoding("path".encode("utf-16-be")), guess_encoding(b"path")
    ('utf-16', 'utf-16-be', 'utf-8-sig')
    """
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return encoding
    even, odd = start[0::2], start[1::2]
    zeros_even, zeros_odd = even.count(0), odd.count(0)
    if zeros_odd > len(odd) / 2 and not zeros_even:
        return "utf-16-le"
    return "utf-16-be" if zeros_even > len(even) / 2 and not zeros_odd else "utf-8-sig"


def read_csv_rows(text: TextIO, name: str) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the columns of a CSV, and its rows as the number of the first line and the cells.

    Args:
        text: the file, at its start.
        name: the name of the file, for errors.

    Raises:
        UsageError: a column is named twice; while reading: a row has more or fewer cells than the header, a quote is
            not closed, or there is a NUL byte.
    """
    header, separator = find_header(text, name)
    exported = is_export(header)
    columns, padded = (list(header), False) if exported else strip_header(header)
    if not exported:
        columns = [column or f"Unnamed: {i}" for i, column in enumerate(columns)]  # as pandas calls them
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        places = " and ".join(str(i + 1) for i, column in enumerate(columns) if column == twice[0])
        raise UsageError(f"{name} has several columns with the name {twice[0]!r} (columns {places}). Rename them.")

    def rows() -> Iterator[tuple[int, list[str]]]:
        lines = csv_lines(text, separator, name)
        next(lines)
        for number, cells in lines:
            if len(cells) != len(columns):
                if len(cells) < len(columns) or any(cells[len(columns) :]):
                    raise wrong_cells(number, cells, columns, separator, lines, name)
                del cells[len(columns) :]  # every row of some tools ends with a separator
            if not exported and any("\0" in cell for cell in cells):
                raise UsageError(f"Line {number} of {name} has a NUL byte: the file is damaged, or not text.")
            yield number, [cell.strip() for cell in cells] if padded else cells

    return columns, rows()


def csv_lines(text: TextIO, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line and the cells of every row, without blank lines, from the start of a file."""
    text.seek(0)
    number = 1
    reader = csv.reader(text, delimiter=separator, strict=True)
    try:
        for cells in reader:
            if cells and not (len(cells) == 1 and cells[0].isspace()):
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise UsageError(
                f"{name} cannot be read as a table: the row that begins in line {number} has a quote that is not "
                f"closed, or a cell of more than {csv.field_size_limit()} characters. Close the quote, or shorten it."
            ) from error
        raise UsageError(
            f"{name} cannot be read as a table: the row that begins in line {number} has a quote that is not closed, "
            f"or text after a closing quote ({error}). Double a quote inside of a quoted cell."
        ) from error


def find_header(text: TextIO, name: str) -> tuple[list[str], str]:
    """Return the cells of the header and the separator: the one with a known column, then with the most columns."""
    headers = {}
    problem: UsageError | None = None
    for separator in SEPARATORS:
        try:
            headers[separator] = next(csv_lines(text, separator, name), (1, []))[1]
        except UsageError as error:  # with this separator, a quote is not closed
            problem = problem or error
    if not headers and problem:
        raise problem

    def rank(separator: str) -> tuple[bool, int]:
        cells = [cell.strip().lower() for cell in headers[separator]]
        return len(cells) > 1 and not KNOWN_COLUMNS.isdisjoint(cells), len(cells)

    separator = max(headers, key=rank)
    return headers[separator], separator if len(headers[separator]) > 1 else ","


def is_export(columns: Sequence[str]) -> bool:
    """Tell whether a table with these columns is an export of embedx, whose cells are read exactly as they are."""
    return tuple(columns[: len(EXPORT_COLUMNS)]) == EXPORT_COLUMNS


def strip_header(header: Sequence[str]) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the cells of this table are padded with spaces.

    >>> strip_header(["path", " label"]), strip_header(["path", " my column"])
    ((['path', 'label'], True), (['path', ' my column'], False))
    """
    stripped = [name.strip() for name in header]
    padded = any(name != bare and bare.lower() in KNOWN_COLUMNS for name, bare in zip(header, stripped, strict=True))
    padded = padded and len(set(stripped)) == len(set(header))
    return (stripped if padded else list(header)), padded


def wrong_cells(
    number: int,
    cells: Sequence[str],
    columns: Sequence[str],
    separator: str,
    rest: Iterable[tuple[int, list[str]]],
    name: str,
) -> UsageError:
    """Return the error about a row whose number of cells differs from that of the header."""
    more = 0
    with suppress(UsageError):  # about a later line; this error comes first
        for _, others in rest:
            more += len(others) < len(columns) or any(others[len(columns) :])
    same = f" The same is true of {plural(more, 'more row')}." if more else ""
    shown = {"\t": "a tab"}.get(separator, repr(separator))
    return UsageError(
        f"Line {number} of {name} has {plural(len(cells), 'cell')}; the header has {plural(len(columns), 'column')} "
        f"({', '.join(columns)}).{same} Put a cell that contains {shown} in quotes, and write an empty cell as nothing "
        "between two separators."
    )


def read_json_rows(text: TextIO, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of the line and the object of every line with JSON.

    Raises:
        UsageError: a line is not a JSON object, names a key twice, or is nested deeper than `MAX_DEPTH`.
    """
    for number, line in enumerate(text, start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"Line {number} of {name} {why_not_json(error)}") from error
        if not isinstance(row, dict):
            raise UsageError(f"Line {number} of {name} is not an object. JSON lines have one {{...}} per line.")
        for column, value in row.items():
            if is_deep(value):
                raise UsageError(
                    f"Line {number} of {name}, column {column}: the value is nested deeper than {MAX_DEPTH} levels."
                )
        yield number, row


def why_not_json(error: Exception) -> str:
    """Return what is wrong with a line of JSON, and what to do."""
    if isinstance(error, RecursionError):
        return f"is nested deeper than {MAX_DEPTH} levels."
    if "integer string conversion" in str(error):  # Python's own limit on whole numbers
        return f"has a number of more than {sys.get_int_max_str_digits()} digits. Write it as text, in quotes."
    return f"is not JSON: {error}. Write one object per line."


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object; refuse a key that is there twice, of which JSON would keep the last one."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return values


def is_deep(value: Any) -> bool:
    """Tell whether lists and objects are nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            element
            for outer in level
            if isinstance(outer, (list, tuple, dict))
            for element in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def require_unicode(row: Mapping[str, Any], place: str, folder: str, advice: str = CONVERT) -> None:
    """Refuse text that is not UTF-8, except for the path of a file whose name has these bytes.

    Args:
        row: column -> value.
        place: the line and the file, for the error.
        folder: the folder at which relative paths start.
        advice: what to do about bytes that are not UTF-8.

    Raises:
        UsageError: it names the line, the column and what to do.
    """
    for column, value in row.items():
        if isinstance(value, str):
            shown = value
        else:  # numbers are common, and JSON takes long
            is_plain = value is None or isinstance(value, (int, float))
            shown = "" if is_plain else json.dumps(value, ensure_ascii=False, default=str)
        if shown.isascii() and column.isascii():
            continue
        try:
            (column + shown).encode()
        except UnicodeEncodeError as error:
            character = error.object[error.start]
            is_byte = "\udc80" <= character <= "\udcff"
            if is_byte and column in PATH_COLUMNS and os.path.lexists(os.path.join(folder, shown)):
                continue
            what = f"the byte 0x{ord(character) - 0xDC00:02x}" if is_byte else "half of a surrogate pair"
            raise UsageError(
                f"{place}, column {display_path(column)}: the text is not UTF-8 ({what}). {advice if is_byte else PAIR}"
            ) from error
