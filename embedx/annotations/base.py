"""Annotation: a stretch of a recording with a label, whatever file it comes from or goes to."""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from embedx.errors import UsageError

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")  # as programs write it in some countries
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")  # 1,500 can also be 1500, so it is refused
BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
LABEL_COLUMNS = (  # that hold the label, the first one that is there; what people call it in tables of Raven
    "label,annotation,species,common name,common_name,class,call type,call_type,sound type,type,tag,tags,species code,"
    "code,event_label,class_name,event,event_type"
).split(",")


@dataclass(frozen=True)
class Annotation:
    """A stretch of a recording.

    Attributes:
        path: the recording as the file names it; "" if the file does not name it.
        start_s, end_s: its time in the recording, in seconds; the same for a point.
        label: the label; several are joined by ";".
        low_hz, high_hz: its frequencies, if they are known.
        score: a confidence or a score, if there is one.
        values: other columns.
        place: where it is, for messages: "Line 3 of birds.txt".
    """

    path: str
    start_s: float
    end_s: float
    label: str | None = None
    low_hz: float | None = None
    high_hz: float | None = None
    score: float | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""

    def columns(self) -> dict[str, Any]:
        """Return column -> value as a row holds them: label, low_hz, high_hz, confidence, and the others."""
        own = {"label": self.label, "low_hz": self.low_hz, "high_hz": self.high_hz, "confidence": self.score}
        every = {**self.values, **{name: value for name, value in own.items() if value is not None}}
        return {name: value for name, value in every.items() if value is not None and not name.startswith("_")}


@dataclass(frozen=True)
class AnnotationFormat:
    """A file format of annotations. Its module defines one, and `embedx.annotations.files` lists it.

    Attributes:
        name: the value of --format.
        suffix: of its files.
        matches: tells from the text of a file whether it has this format.
        read: (text, name of the file) -> annotations.
        write: annotations -> text; None if embedx only reads it.
        is_single: a file is about one recording, which it does not name.
    """

    name: str
    suffix: str
    matches: Callable[[str], bool]
    read: Callable[[str, str], list[Annotation]]
    write: Callable[[Sequence[Annotation]], str] | None = None
    is_single: bool = False


def decode(data: bytes, name: str) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        UsageError: it is neither.
    """
    encoding = next((code for mark, code in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not text in UTF-8 or UTF-16. Save it as UTF-8.") from error


def first_line(text: str) -> str:
    """Return the first line that is not blank."""
    return next((line for line in io.StringIO(text, newline=None) if line.strip()), "").rstrip("\n")


def header_of(text: str, separator: str) -> list[str]:
    """Return the names of the columns in lower case, without spaces around them."""
    lines = csv.reader([first_line(text)], delimiter=separator, quoting=quoting_of(separator))
    return [name.strip().lower() for name in next(lines, [])]


def quoting_of(separator: str) -> Literal[0, 3]:
    """Return how cells are quoted: in tables with tabs, quotes are a part of the text."""
    return csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL


def read_lines(text: str, separator: str, name: str) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the lines of a table with a header as column -> text, with their places; blank lines are left out.

    Raises:
        UsageError: a line has more cells than the header, or a column is named twice.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting_of(separator))
    columns: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            place = f"Line {reader.line_num} of {name}"
            if not columns:
                columns = [cell.strip() for cell in cells]
                if twice := [column for column in columns if column and columns.count(column) > 1]:
                    raise UsageError(f"{name} has several columns with the name {twice[0]!r}. Rename them.")
                continue
            if any(cells[len(columns) :]):
                raise UsageError(f"{place} has {len(cells)} cells, and the first line {len(columns)}.")
            yield {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if column}, place
    except csv.Error as error:
        raise UsageError(f"Line {reader.line_num} of {name} cannot be read: {error}.") from error


def find_column(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the first of some columns, named in lower case, that a table has; None if it has none.

    >>> find_column(["Begin File", "Species"], ("label", "species"))
    'Species'
    """
    known = {column.lower(): column for column in columns}
    return next((known[name] for name in names if name in known), None)


def number(value: Any, place: str, column: str) -> float | None:
    """Return a number; None for an empty cell. A decimal comma is read where it can be nothing else.

    Raises:
        UsageError: it is not a finite number.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str) and DECIMAL_COMMA.fullmatch(value.strip()) and not THOUSANDS.fullmatch(value.strip()):
        value = value.replace(",", ".")
    is_text = isinstance(value, str) and NUMBER.fullmatch(value.strip())
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_text or is_number) or not math.isfinite(float(value)):
        raise UsageError(f"{place}, {column}: {str(value)[:40]!r} is not a number with a decimal point, such as 1.5.")
    return float(value)


def times(start: Any, end: Any, place: str) -> tuple[float, float]:
    """Return the times of an annotation in seconds.

    Raises:
        UsageError: a time is missing, not a number or negative, or the end is before the start.
    """
    start_s, end_s = number(start, place, "start"), number(end, place, "end")
    if start_s is None or end_s is None:
        raise UsageError(f"{place}: the {'start' if start_s is None else 'end'} is missing.")
    if not 0 <= start_s <= end_s:
        problem = "begins before 0 s" if start_s < 0 else f"ends ({end_s:g} s) before it begins ({start_s:g} s)"
        raise UsageError(f"{place} {problem}.")
    return start_s, end_s


def typed(value: str) -> Any:
    """Return the number that a text is, if the text can be made from it again; else the text, or None if it is empty.

    >>> typed("3"), typed("0.5"), typed("007"), typed("owl"), typed("")
    (3, 0.5, '007', 'owl', None)
    """
    for convert in (int, float):
        try:
            if str(made := convert(value)) == value and math.isfinite(made):
                return made
        except (ValueError, OverflowError):
            continue
    return value or None


def cell(value: Any) -> str:
    """Return a value as a cell of a table: without line breaks and tabs, which divide cells."""
    return (
        "" if value is None else re.sub(r"[\t\r\n\0]+", " ", f"{value:.6f}" if isinstance(value, float) else str(value))
    )


def columns_of(annotations: Iterable[Annotation], taken: Iterable[str]) -> list[str]:
    """Return the names of the other columns of annotations, without those that a format uses itself."""
    used = {name.lower() for name in taken}
    return [
        name for name in dict.fromkeys(name for one in annotations for name in one.values) if name.lower() not in used
    ]
