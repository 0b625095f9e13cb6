"""embedx label: labels and metadata that are set by hand, and the log of these changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.options import COLLECTION, JSON, TIMEOUT, WAIT
from embedx.cli.output import print_json, print_rows, say
from embedx.errors import EXIT_SOME_FAILED, UsageError
from embedx.filesystem.paths import display_path
from embedx.store.edits import MIN_OVERLAP
from embedx.text import plural

if TYPE_CHECKING:
    from embedx.collection.labelling import LabelChange
    from embedx.store.edits import Edit, LabelUpdate

MAX_ENTRIES = 20  # entries of a table that are printed with the number of their rows; --json has all


@click.command(
    epilog="""\b
    Examples:
      embedx label indexes/field --set species=owl --where "id IN (3, 17)"
      embedx label indexes/field labels.csv
      embedx label indexes/field events.csv --overlap 0.2
      embedx label indexes/field selections/
      embedx label indexes/field --set reviewed=
      embedx label indexes/field --log
      embedx label indexes/field --undo 3
    """
)
@COLLECTION
@click.argument("table", required=False)
@click.option("--set", "pairs", multiple=True, metavar="COLUMN=VALUE", help="Set a column; an empty value clears it.")
@click.option("--where", metavar="SQL", help="Change the rows that match this SQL condition. [default: all rows]")
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1),
    default=MIN_OVERLAP,
    show_default=True,
    metavar="PART",
    help="An entry with start_s and end_s sets a window if both overlap by this part of the shorter one.",
)
@click.option("--log", is_flag=True, help="List the changes that were made by hand; with --json each with its windows.")
@click.option("--undo", type=int, metavar="NUMBER", help="Undo the change with this number of --log.")
@TIMEOUT
@WAIT
@JSON
def label(
    collection: str,
    table: str | None,
    pairs: tuple[str, ...],
    where: str | None,
    overlap: float,
    log: bool,
    undo: int | None,
    timeout: float,
    wait: bool,
    as_json: bool,
) -> int:
    """Set labels and metadata of the rows of a COLLECTION, and list or undo such changes.

    TABLE is a CSV, TSV, Parquet or JSON lines file. Its column id or path selects the rows; with start_s and end_s
    every window of the recording that overlaps this time, with start_s alone the window that begins there. Relative
    paths start at the folder of TABLE, at the working folder, or at the folder of the sources. The other columns are
    the values to set: label, group, split, or columns of your own. Empty cells change nothing. Where entries differ
    about a row, the one with the nearest times wins, then the last.

    TABLE can also be a file of annotations, or a folder of them: a selection table of Raven, a label track of Audacity,
    JSON of Label Studio, CSV of BirdNET, a TextGrid of Praat, or CSV with start and end. Every window that overlaps an
    annotation gets its label and other columns.

    What is set here stays: it wins over the source when `embedx extract` runs again, and it follows a file that is
    edited or moved. If entries of TABLE match no row, they are reported and the exit code is 3.
    """
    from embedx.collection.collection import Collection
    from embedx.collection.labelling import parse_set

    if bool(table or pairs) + log + (undo is not None) > 1 or (where and (log or undo is not None)):
        raise UsageError("--log and --undo stand alone: give no table, --set or --where with them.")
    with Collection(collection) as opened:
        if log:
            print_log(opened.label_log(), as_json)
            return 0
        if undo is not None:
            update = opened.undo_label(undo, wait=wait)
        else:
            values = parse_set(pairs) if pairs else None
            update = opened.label(table, set=values, where=where, overlap=overlap, timeout=timeout, wait=wait)
    return print_update(collection, update, as_json)


def print_update(collection: str, update: "LabelUpdate", as_json: bool) -> int:
    """Print what has changed, and return the exit code."""
    code = EXIT_SOME_FAILED if update.unknown else 0
    if as_json:
        entries = [{"entry": name, "rows": count} for name, count in update.entries]
        facts = {"changed": update.rows, "change": update.change, "entries": entries, "unknown": update.unknown}
        print_json({"exit_code": code, "collection": collection, **facts})
        return code
    undo = f" (change {update.change}; to undo it: --undo {update.change})" if update.change else ""
    say(f"{plural(update.rows, 'row')} changed{undo}")
    met = [(name, count) for name, count in update.entries if count]
    for name, count in met[:MAX_ENTRIES]:
        say(f"  {display_path(name)}: {plural(count, 'row')}")
    if len(met) > MAX_ENTRIES:
        say(f"  and {plural(len(met) - MAX_ENTRIES, 'more entry')}; --json lists all")
    for name in update.unknown:
        say(f"No row matches the entry {display_path(name)}.", err=True)
    return code


def print_log(changes: Sequence["LabelChange"], as_json: bool) -> None:
    """Print the changes as a table, or with all their windows as JSON."""
    if as_json:
        print_json([{**facts_of(change), "edits": [describe(edit) for edit in change.edits]} for change in changes])
    elif not changes:
        say("Nothing was set by hand.")
    else:
        rows = [facts_of(change) for change in changes]
        print_rows(rows, list(rows[0]), "table")


def facts_of(change: "LabelChange") -> dict[str, Any]:
    """Return a change in one line: when it was made, and what it has set where."""
    edits = [edit for edit in change.edits if edit.path]
    whole = sum(edit.windows is None for edit in edits)
    windows = sum(len(edit.windows) for edit in edits if edit.windows is not None)
    places = [plural(count, name) for count, name in ((whole, "whole recording"), (windows, "window")) if count]
    values = dict.fromkeys(
        f"{name}={'' if value is None else value}" for e in edits for name, value in e.values.items()
    )
    shown = list(values)[:3] + (["..."] if len(values) > 3 else [])
    return {
        "change": change.number,
        "made": change.made,
        "set": f"undo of change {change.undoes}" if change.undoes else ", ".join(shown),
        "where": ", ".join(places),
        "undone": "yes" if change.undone else "no",
    }


def describe(edit: "Edit") -> dict[str, Any]:
    """Return an edit as JSON values; without windows it is about the whole recording."""
    times: list[dict[str, Any]] | None = None
    if edit.windows is not None:
        windows = sorted(edit.windows, key=lambda place: (place[0], place[1]))
        times = [{"start_s": start, "end_s": end, "channel": channel} for start, end, channel, _ in windows]
    return {"path": display_path(edit.path), "windows": times, "values": dict(edit.values)}
