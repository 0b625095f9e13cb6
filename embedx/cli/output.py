"""What commands print: tables, CSV and JSON, safe for terminals and spreadsheets."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from embedx.audio import show

FORMATS = click.Choice(["table", "json", "csv"])


def print_json(value: Any) -> None:
    """Print a value as JSON; names that are no UTF-8 are escaped."""
    click.echo(json.dumps(value, indent=1))


def print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as CSV. Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[defused(row[column]) for column in columns] for row in rows])
    click.echo(out.getvalue(), nl=False)


def defused(cell: Any) -> Any:
    """Make a cell harmless in a spreadsheet.

    >>> defused("=1+1"), defused(-0.5), defused(None)
    ("'=1+1", -0.5, '')
    """
    if not isinstance(cell, str):
        return "" if cell is None else cell
    text = show(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows in aligned columns: numbers to the right, text to the left."""
    cells = [[cell(row[column]) for column in columns] for row in rows]
    numeric = [all(isinstance(row[column], (int, float)) for row in rows) for column in columns]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True)]
        click.echo("  ".join(padded).rstrip())


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
    return f"{value:.4f}" if isinstance(value, float) else show(str(value))


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
