"""Raven: selection tables, also of several files.

In a table of several files Begin Time counts from the first of them; File Offset is the time in the file itself.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from embedx.annotations.base import (
    LABEL_COLUMNS,
    Annotation,
    AnnotationFormat,
    cell,
    columns_of,
    find_column,
    header_of,
    number,
    read_lines,
    times,
    typed,
)
from embedx.errors import UsageError

COLUMNS = (  # with Begin Path and File Offset, Raven opens the recordings by itself
    "Selection,View,Channel,Begin Time (s),End Time (s),Low Freq (Hz),High Freq (Hz),Begin Path,File Offset (s),Score,"
    "label,id,Begin File"
).split(",")
OWN = (  # columns that are not values of an annotation
    *(name.lower() for name in COLUMNS if name != "Channel"), "end file", "end path", "delta time (s)", "confidence",
)  # fmt: skip
SCORES = ("score", "confidence")


def matches(text: str) -> bool:
    """Tell whether a text is a selection table."""
    return "begin time (s)" in header_of(text, "\t")


def read(text: str, name: str) -> list[Annotation]:
    """Return the selections; one that is listed for several views is one annotation.

    Raises:
        UsageError: a time is invalid, or the table is about several files and has no File Offset.
    """
    lines = list(read_lines(text, "\t", name))
    files = {line.get("Begin Path") or line.get("Begin File") or "" for line, _ in lines}
    if len(files) > 1 and not all(line.get("File Offset (s)") for line, _ in lines):
        raise UsageError(
            f"{name} is about {len(files)} files and File Offset (s) is not there in every line, so the times in "
            "the files are not known. Add this measurement in Raven, and save the table again."
        )
    label = find_column(lines[0][0], LABEL_COLUMNS) if lines else None
    selections: dict[tuple[Any, ...], Annotation] = {}
    for line, place in sorted(lines, key=lambda pair: not pair[0].get("View", "").startswith("Spectrogram")):
        one = selection(line, label, place)
        selections.setdefault((line.get("Selection") or place, one.path, one.start_s, one.end_s), one)
    return sorted(selections.values(), key=lambda one: line_of(one.place))


def line_of(place: str) -> int:
    """Return the number in the place of a line."""
    return int(re.search("[0-9]+", place)[0])  # type: ignore[index]


def selection(line: Mapping[str, str], label: str | None, place: str) -> Annotation:
    """Return a line as an annotation.

    Args:
        line: column -> text.
        label: the column with the label, if there is one.
        place: where the line is, for errors.
    """
    end = line.get("End Time (s)")
    if not end and line.get("Delta Time (s)"):
        begin_s, delta_s = (number(line.get(name), place, name) for name in ("Begin Time (s)", "Delta Time (s)"))
        end = str((begin_s or 0.0) + (delta_s or 0.0))
    start_s, end_s = times(line.get("Begin Time (s)"), end, place)
    offset_s = number(line.get("File Offset (s)"), place, "File Offset (s)")
    if offset_s is not None:
        start_s, end_s = times(offset_s, offset_s + end_s - start_s, place)
    score = find_column(line, SCORES)
    taken = {*OWN, "label", "annotation"}
    return Annotation(
        line.get("Begin Path") or line.get("Begin File") or "",
        start_s,
        end_s,
        (line.get(label) or None) if label else None,
        number(line.get("Low Freq (Hz)"), place, "Low Freq (Hz)"),
        number(line.get("High Freq (Hz)"), place, "High Freq (Hz)"),
        number(line[score], place, score) if score else None,
        {column: typed(text) for column, text in line.items() if column.lower() not in taken},
        place,
    )


def hertz(value: float | None) -> str | None:
    """Return a frequency as text.

    >>> hertz(8000.0), hertz(1484.669312)
    ('8000.0', '1484.669312')
    """
    return None if value is None else re.sub(r"(?<=[0-9])0+$", "", f"{value:.6f}")


def write(annotations: Sequence[Annotation]) -> str:
    """Return a selection table."""
    others = columns_of(annotations, [*COLUMNS, "channel"])
    lines = ["\t".join([*COLUMNS, *others])]
    for count, one in enumerate(annotations, start=1):
        channel = one.values.get("channel")
        cells = (
            count, "Spectrogram 1", channel + 1 if isinstance(channel, int) else one.values.get("Channel") or 1,
            one.start_s, one.end_s, hertz(one.low_hz or 0.0), hertz(one.high_hz), one.path,
            one.start_s, one.score, one.label, one.values.get("id"), re.split(r"[\\/]", one.path)[-1],
            *(one.values.get(name) for name in others),
        )  # fmt: skip
        lines.append("\t".join(map(cell, cells)))
    return "\n".join(lines) + "\n"


RAVEN = AnnotationFormat("raven", ".txt", matches, read, write)
