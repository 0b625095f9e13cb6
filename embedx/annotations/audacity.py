r"""Audacity: label tracks. A line that begins with a backslash has the frequencies of the label before it."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace

from embedx.annotations.base import Annotation, AnnotationFormat, cell, first_line, number, times
from embedx.errors import UsageError

LABEL = re.compile(r"[0-9.,eE+-]+\t[0-9.,eE+-]+(\t.*)?")
SCORED = re.compile(r"(.+) (0\.[0-9]{3}|1\.000)")  # a class with its probability, as `embedx predict` writes it
UNDEFINED = -1.0  # a frequency that is not known


def matches(text: str) -> bool:
    """Tell whether a text is a label track."""
    return LABEL.fullmatch(first_line(text)) is not None


def read(text: str, name: str) -> list[Annotation]:
    """Return the labels.

    Raises:
        UsageError: a line is not a label, or a number is invalid.
    """
    annotations: list[Annotation] = []
    for count, line in enumerate(io.StringIO(text, newline=None), start=1):  # labels may hold other breaks
        place = f"Line {count} of {name}"
        cells = line.rstrip("\n").split("\t")
        if not line.strip():
            continue
        if len(cells) < 2 or (cells[0] == "\\" and not annotations):
            raise UsageError(f"{place} is not a label: it needs a start, an end and a text, with tabs between them.")
        if cells[0] == "\\":
            low_hz, high_hz = (
                None if value is None or value < 0 else value
                for value in (number(cell, place, "frequency") for cell in [*cells[1:3], ""][:2])
            )
            annotations[-1] = replace(annotations[-1], low_hz=low_hz, high_hz=high_hz)
            continue
        start_s, end_s = times(cells[0], cells[1], place)
        label, score = split_scores(cells[2].strip() if len(cells) > 2 else "")
        if len(cells) > 3:  # the label tracks of BirdNET have the confidence behind the name
            score = number(cells[3], place, "confidence")
        annotations.append(Annotation("", start_s, end_s, label or None, score=score, place=place))
    return annotations


def split_scores(text: str) -> tuple[str, float | None]:
    """Return the classes in a label, and the highest probability that stands behind one of them.

    >>> split_scores("owl 0.913; rain 0.500"), split_scores("song 2.5"), split_scores("owl")
    (('owl;rain', 0.913), ('song 2.5', None), ('owl', None))
    """
    found = [SCORED.fullmatch(part) for part in text.split("; ")]
    if not all(found):
        return text, None
    return ";".join(match[1] for match in found if match), max(float(match[2]) for match in found if match)


def write(annotations: Sequence[Annotation]) -> str:
    r"""Return a label track.

    >>> write([Annotation("", 0.5, 2.0, "dog", 100.0, 900.0)])
    '0.500000\t2.000000\tdog\n\\\t100.000000\t900.000000\n'
    """
    lines = []
    for one in annotations:
        lines.append(f"{one.start_s:.6f}\t{one.end_s:.6f}\t{cell(one.label)}\n")
        if one.low_hz is not None or one.high_hz is not None:
            bounds = (UNDEFINED if value is None else value for value in (one.low_hz, one.high_hz))
            lines.append("\\\t" + "\t".join(f"{value:.6f}" for value in bounds) + "\n")
    return "".join(lines)


AUDACITY = AnnotationFormat("audacity", ".txt", matches, read, write, is_single=True)
