"""embedx duplicates: what a collection holds more than once."""

from typing import Any

import click

from embedx.cli.output import FORMATS, as_csv, as_json, as_table, deliver, short


@click.command(
    epilog="""\b
    Examples:
      embedx duplicates indexes/field
      embedx duplicates indexes/field --threshold 0.97 --where "site = 'A'" --format csv --output doubles.csv
      embedx duplicates indexes/field --exact-only --format json
    """
)
@click.argument("collection", metavar="COLLECTION")
@click.option("--threshold", type=float, default=0.99, show_default=True, help="The least cosine of a near pair.")
@click.option("--view", help="Which vectors to compare. [default: last layer, first pooling]")
@click.option("--where", metavar="SQL", help="A condition on the rows that are compared.")
@click.option("--exact-only", is_flag=True, help="Only the same bytes of files, and the same bits of vectors.")
@click.option("--within", is_flag=True, help="Also rows of one recording, if they do not overlap in time.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@click.option("--output", metavar="FILE", help="Write there instead, whole or not at all.")
def duplicates(collection: str, form: str, output: str | None, **options: Any) -> None:
    """Find what a COLLECTION holds more than once: copies of files, equal vectors, and near ones.

    A group is what hangs together by pairs: with members, and the lowest and highest cosine inside. Silence is left
    out, and so are, without --within, the windows of one recording among each other.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        found = opened.duplicates(**options)
    columns = found.columns()
    lines: list[dict[str, Any]] = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    if form == "json":
        facts = {"compared": found.compared, "silent": found.silent, "complete": found.complete}
        deliver(as_json(facts | {"members": lines}) + "\n", output)
    elif form == "csv":
        deliver(as_csv(lines, list(columns)), output)
    else:
        for line in lines:
            line["file"] = short(line["path"])
            line["start"], line["end"] = f"{line['start_s']:.2f}", f"{line['end_s']:.2f}"
        names = ["group", "kind", "why", "lowest", "highest", "id", "file", "start", "end", "label"]
        deliver(as_table(lines, names), output)
    exact = sum(group.kind == "exact" for group in found)
    click.echo(
        f"{exact} exact and {len(found) - exact} near groups; {found.compared} rows compared, {found.silent} silent "
        f"ones not{'' if found.complete else '; only the 100 nearest of each row were looked at'}",
        err=True,
    )
