"""What commands print: tables, CSV and JSON that are safe for terminals and spreadsheets."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedx.errors import UsageError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path, escape_controls, relative_path
from embedx.text import dump_json

if TYPE_CHECKING:
    from embedx.annotations.base import Annotation

Rows = Sequence[Mapping[str, Any]]


def say(text: str = "", nl: bool = True, err: bool = False) -> None:
    """Print text to standard output or standard error; characters that control a terminal are escaped."""
    click.echo(escape_controls(text), nl=nl, err=err)


def deliver(result: str | bytes, output: str | None) -> None:
    """Print a result, or write it to a file that appears complete or not at all.

    Raises:
        UsageError: binary data would go to a terminal.
    """
    data = escape_controls(result).encode() if isinstance(result, str) else result
    if output is None:
        if isinstance(result, bytes) and sys.stdout.isatty():
            raise UsageError("This format cannot be printed on a terminal. Use --output FILE, or a pipe.")
        click.echo(data, nl=False)
    elif os.path.isdir(output):
        raise UsageError(f"{display_path(output)} is a folder. --output takes a file.")
    elif os.path.exists(output) and not os.path.isfile(output):  # a pipe or a device cannot be replaced
        with open(output, "wb") as file:
            file.write(data)
    else:
        replace_file(Path(output), data)


def deliver_annotations(
    name: str, annotations: "Sequence[Annotation]", output: str | None, max_hz: float, paths: Iterable[str] = ()
) -> None:
    """Print annotations in a format, or write them to a file; those of several recordings can go to a folder.

    Args:
        name: the format.
        annotations: the annotations.
        output: a file, or for a format of one recording a folder; None for standard output.
        max_hz: the upper end of a selection of Raven without frequencies.
        paths: recordings that get a file in a folder even without annotations.
    """
    from embedx.annotations.files import WRITTEN, as_text, needs_folder, write_folder
    from embedx.formats.annotations import prepare

    form = WRITTEN[name]
    annotations = prepare(form, annotations, max_hz)
    if output is not None and form.is_single and needs_folder(output):
        write_folder(form, annotations, output, paths)
    else:
        deliver(as_text(form, annotations), output)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    say(dump_json(value))


def print_rows(rows: Rows, columns: Sequence[str], form: str) -> None:
    """Print rows as "table", "csv" or "json"; see `format_rows`."""
    say(format_rows(rows, columns, form), nl=False)


def format_rows(rows: Rows, columns: Sequence[str], form: str) -> str:
    """Return rows as a table or as CSV with these columns, or as JSON or JSON lines with everything they hold."""
    if form == "json":
        return as_json(rows) + "\n"
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    return as_csv(rows, columns) if form == "csv" else as_table(rows, columns)


def as_json(value: Any) -> str:
    """Return a value as JSON."""
    return dump_json(value)


def as_csv(rows: Rows, columns: Sequence[str]) -> str:
    """Return rows as CSV. Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(safe_cell, columns))
    writer.writerows([[safe_cell(row[column]) for column in columns] for row in rows])
    return out.getvalue()


def safe_cell(value: Any) -> Any:
    """Return a cell that a spreadsheet does not run as a formula.

    >>> safe_cell("=1+1"), safe_cell(-0.5), safe_cell(None)
    ("'=1+1", -0.5, '')
    """
    if not isinstance(value, str):
        return "" if value is None else value
    text = display_path(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def as_table(rows: Rows, columns: Sequence[str]) -> str:
    """Return rows in aligned columns: numbers to the right, text to the left."""
    cells = [[format_cell(row[column]) for column in columns] for row in rows]
    numeric = [all(isinstance(row[column], (int, float)) for row in rows) for column in columns]
    titles = list(map(display_path, columns))
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = []
    for line in [titles, *cells]:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)]
        lines.append("  ".join(padded).rstrip() + "\n")
    return "".join(lines)


def format_cell(value: Any) -> str:
    """Return a value as a table shows it.

    >>> format_cell(0.98765), format_cell(None), format_cell(3)
    ('0.9877', '-', '3')
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else display_path(str(value))


def with_relative_paths(rows: Rows, root: str | None, form: str) -> Rows:
    """Return rows whose `path` is relative to a root folder, if they go to a table or CSV; programs get full paths."""
    if root is None or form not in ("table", "csv"):
        return rows
    return [{**row, "path": relative_path(row["path"], root)} for row in rows]


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table that is given by columns."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def short(path: str) -> str:
    """Return a path relative to the working folder, if it is inside of it."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def size(count: float) -> str:
    """Return a number of bytes with its unit.

    >>> size(1536)
    '1.5 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.1f} {unit}"


def views_text(views: Mapping[str, int]) -> str:
    """Return views with their dimensions.

    >>> views_text({"L0.mean": 256})
    'L0.mean (256)'
    """
    return ", ".join(f"{view} ({dim})" for view, dim in views.items())
