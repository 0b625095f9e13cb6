"""What commands print: tables, CSV and JSON, safe for terminals and spreadsheets."""

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from embedx.errors import UsageError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path

FORMATS = click.Choice(["table", "json", "csv"])


class Sectioned(click.Command):
    """A command whose help shows its options under headings, in the order of the code; see `Heading`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each below the last heading that was given."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for param in self.get_params(ctx):
            heading = "Other" if param.is_eager else getattr(param, "heading", None) or heading
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(heading, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


class Heading(click.Option):
    """The first option below a heading of the help."""

    def __init__(self, *names: Any, heading: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.heading = heading


def deliver(result: str | bytes, output: str | None) -> None:
    """Print a result, or write it to a file, which is there whole or not at all.

    Raises:
        UsageError: it is no text, and would go to a terminal.
    """
    data = result.encode() if isinstance(result, str) else result
    if output is None:
        if isinstance(result, bytes) and sys.stdout.isatty():
            raise UsageError("This format is not for a terminal: give --output FILE, or a pipe.")
        click.echo(result, nl=False)
    elif os.path.exists(output) and not os.path.isfile(output):  # a pipe or device is not to be replaced
        with open(output, "wb") as file:
            file.write(data)
    else:
        replace_file(Path(output), data)


def print_json(value: Any) -> None:
    """Print a value as JSON; see `as_json`."""
    click.echo(as_json(value))


def as_json(value: Any) -> str:
    """Return a value as JSON; names that are no UTF-8 are escaped."""
    return json.dumps(value, indent=1)


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as CSV; see `as_csv`."""
    click.echo(as_csv(rows, columns), nl=False)


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as CSV. Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[defused(row[column]) for column in columns] for row in rows])
    return out.getvalue()


def defused(cell: Any) -> Any:
    """Make a cell harmless in a spreadsheet.

    >>> defused("=1+1"), defused(-0.5), defused(None)
    ("'=1+1", -0.5, '')
    """
    if not isinstance(cell, str):
        return "" if cell is None else cell
    text = display_path(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows in aligned columns; see `as_table`."""
    click.echo(as_table(rows, columns), nl=False)


def as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows in aligned columns: numbers to the right, text to the left."""
    cells = [[cell(row[column]) for column in columns] for row in rows]
    numeric = [all(isinstance(row[column], (int, float)) for row in rows) for column in columns]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = []
    for line in [list(columns), *cells]:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)]
        lines.append("  ".join(padded).rstrip() + "\n")
    return "".join(lines)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: str) -> None:
    """Print rows in the asked format."""
    if form == "json":
        print_json(rows)
    elif form == "csv":
        print_csv(rows, columns)
    else:
        print_table(rows, columns)


def cell(value: Any) -> str:
    """Return a value as it stands in a table.

    >>> cell(0.98765), cell(None), cell(3)
    ('0.9877', '-', '3')
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else display_path(str(value))


def short(path: str) -> str:
    """Return a path relative to the working folder where it lies inside."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def size(octets: float) -> str:
    """Return a size with its unit.

    >>> size(1536)
    '1.5 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1024 or unit == "GB":
            break
        octets /= 1024
    return f"{octets:.1f} {unit}"
