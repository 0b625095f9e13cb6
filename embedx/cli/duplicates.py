"""embedx duplicates: find recordings and rows that a collection holds more than once."""

from typing import TYPE_CHECKING, Any

import click

from embedx.cli.options import ABSOLUTE_PATHS, OUTPUT, READ_COLLECTION, TABLE_FORMAT, TIMEOUT, VIEW
from embedx.cli.output import Rows, as_csv, as_json, as_table, deliver, rows_of, say, with_relative_paths
from embedx.text import plural

if TYPE_CHECKING:
    from embedx.search.duplicates import Duplicates

MAX_GROUPS = 20  # groups in a table without --all
MAX_MEMBERS = 10  # members of a group in a table without --all
COLUMNS = ("group", "kind", "why", "lowest", "highest", "id", "file", "start", "end", "label")


@click.command(
    epilog="""\b
    Examples:
      embedx duplicates indexes/field
      embedx duplicates indexes/field --threshold 0.97 --where "site = 'A'" --format csv --output duplicates.csv
      embedx duplicates indexes/field --exact-only --format json
    """
)
@READ_COLLECTION
@click.option("--threshold", type=float, default=0.99, show_default=True, help="Minimum cosine of two near vectors.")
@VIEW
@click.option("--where", metavar="SQL", help="Compare only rows that match this SQL condition.")
@TIMEOUT
@click.option("--exact-only", is_flag=True, help="Find only identical files and identical vectors.")
@click.option("--within", is_flag=True, help="Compare rows of one recording too, if they do not overlap in time.")
@click.option("--all", "all_groups", is_flag=True, help="Print all groups and members. CSV and JSON always have them.")
@TABLE_FORMAT
@OUTPUT
@ABSOLUTE_PATHS
def duplicates(
    collection: str, form: str, output: str | None, all_groups: bool, absolute_paths: bool, **options: Any
) -> None:
    """Find duplicates in a COLLECTION: identical files, identical vectors, and near vectors.

    Near vectors may also be other sounds of one kind: their audio is not compared. `embedx probe` compares that of rows
    on two sides of a split. Pairs that share a row form one group; the table shows the lowest and the highest cosine
    inside each group. Silent rows are not compared. Rows of one recording are compared with each other only with
    --within.
    """
    from embedx.collection.collection import Collection
    from embedx.collection.pushing import local_folder

    with Collection(local_folder(collection)) as opened:
        found = opened.duplicates(**options)
        root = None if absolute_paths else opened.root
    lines = list(with_relative_paths(rows_of(found.columns()), root, form))
    if form == "json":
        facts = {"compared": found.compared, "silent": found.silent, "complete": found.complete}
        deliver(as_json(facts | {"members": lines}) + "\n", output)
    elif form == "csv":
        deliver(as_csv(lines, list(found.columns())), output)
    else:
        deliver(as_text(found, lines, all_groups), output)
    say(found.summary(), err=True)


def as_text(found: "Duplicates", lines: Rows, all_groups: bool) -> str:
    """Return the groups as a table; without `all_groups` only the first groups and members, and how many follow."""
    shown: list[dict[str, Any]] = []
    members = 0  # of the group of the line
    for line in lines:
        members = members + 1 if shown and shown[-1]["group"] == line["group"] else 1
        if not all_groups and line["group"] > MAX_GROUPS:
            break
        if all_groups or members <= MAX_MEMBERS:
            times = {"start": f"{line['start_s']:.2f}", "end": f"{line['end_s']:.2f}"}
            shown.append({**line, **times, "file": line["path"]})
    text = as_table(shown, COLUMNS)
    if all_groups:
        return text
    for number, group in enumerate(found[:MAX_GROUPS], start=1):
        if len(group.members) > MAX_MEMBERS:
            text += f"Group {number} has {plural(len(group.members) - MAX_MEMBERS, 'more member')} (--all).\n"
    if len(found) > MAX_GROUPS:
        text += f"not shown: {plural(len(found) - MAX_GROUPS, 'more group')} (--all).\n"
    return text
