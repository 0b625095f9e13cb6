"""BirdNET: the CSV of BirdNET-Analyzer, of one recording or, with the column File, of several."""

import csv
import io
from collections.abc import Sequence

from embedx.annotations.base import (
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

COLUMNS = ("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File")
BOUNDS = ("Low Freq (Hz)", "High Freq (Hz)")  # columns that embedx adds where frequencies are known
FORMULAS = ("=", "+", "-", "@")  # first characters that a spreadsheet reads as a formula
NAMES = ("scientific name", "common name")  # of a species; both stay as columns, the common one is the label


def matches(text: str) -> bool:
    """Tell whether a text is a CSV of BirdNET."""
    return {"start (s)", "end (s)"} <= set(header_of(text, separator_of(text)))


def separator_of(text: str) -> str:
    """Return what is between the cells."""
    return next((sign for sign in ";\t" if "start (s)" in header_of(text, sign)), ",")


def read(text: str, name: str) -> list[Annotation]:
    """Return the detections.

    Raises:
        UsageError: a number is invalid.
    """
    annotations = []
    for cells, place in read_lines(text, separator_of(text), name):
        line = {column: unescaped(value) for column, value in cells.items()}
        columns = {
            wanted: find_column(line, (wanted,)) or "" for wanted in map(str.lower, (*COLUMNS, *BOUNDS, "label"))
        }
        value = {wanted: line.get(column, "") for wanted, column in columns.items()}
        start_s, end_s = times(value["start (s)"], value["end (s)"], place)
        kept = {column: typed(text) for column, text in line.items() if column.lower() not in columns}
        kept |= {columns[wanted]: value[wanted] or None for wanted in NAMES if columns[wanted]}
        annotations.append(
            Annotation(
                value["file"],
                start_s,
                end_s,
                value["label"] or value["common name"] or value["scientific name"] or None,
                number(value["low freq (hz)"], place, BOUNDS[0]),
                number(value["high freq (hz)"], place, BOUNDS[1]),
                number(value["confidence"], place, "Confidence"),
                kept,
                place,
            )
        )
    return annotations


def safe_cell(value: object) -> str:
    """Return a cell; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    text = cell(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULAS) else text


def unescaped(text: str) -> str:
    """Return the text of a cell without the apostrophe of `safe_cell`.

    >>> unescaped("'=1"), unescaped("'owl'")
    ('=1', "'owl'")
    """
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULAS) else text


def write(annotations: Sequence[Annotation]) -> str:
    """Return a CSV; the label is both names of a species where they are not known."""
    bounds = BOUNDS if any(one.low_hz is not None or one.high_hz is not None for one in annotations) else ()
    others = columns_of(annotations, [*COLUMNS, *BOUNDS, "label"])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *bounds, *others])
    for one in annotations:
        species = [one.values.get(name) or one.label for name in COLUMNS[2:4]]
        if one.label and species[1] != one.label:  # the label was changed since
            species = [one.label, one.label]
        cells = [one.start_s, one.end_s, *species, one.score, one.path]
        cells += [one.low_hz, one.high_hz] if bounds else []
        table.writerow([safe_cell(value) for value in (*cells, *(one.values.get(name) for name in others))])
    return text.getvalue()


BIRDNET = AnnotationFormat("birdnet", ".csv", matches, read, write)
