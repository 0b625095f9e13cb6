"""embedx search: a query in, ranked hits out."""

from typing import Any

import click

from embedx.cli.output import FORMATS, print_csv, print_json, print_table, short

COLUMNS = ("id", "score", "path", "start_s", "end_s", "label")


@click.command(
    epilog="""\b
    Examples:
      embedx search indexes/field query.wav
      embedx search indexes/field "long.flac#12.5-15" -k 5 --exclude-self
      embedx search indexes/esc --id 17 --where "category = 'dog' and fold <> 1" --columns fold,category
      embedx search indexes/field --vector query.npy --format json
    """
)
@click.argument("collection", metavar="COLLECTION")
@click.argument("query", required=False)
@click.option("--id", type=int, metavar="N", help="Take row N of the collection as the query.")
@click.option("--vector", metavar="FILE.npy", help="Take a stored vector as the query.")
@click.option("-k", type=int, default=10, show_default=True, help="How many hits.")
@click.option("--view", help="Which vectors to compare. [default: last layer, first pooling]")
@click.option("--where", metavar="SQL", help="A condition on the rows, applied before the search.")
@click.option("--exclude-self/--include-self", default=None, help="Leave the query itself out. [default: with --id]")
@click.option("--columns", default="", metavar="A,B", help="Metadata columns to show beside each hit.")
@click.option("--model", help="Where the model lies now, or code from outside that made the collection.")
@click.option("--allow-pickle", is_flag=True, help="Load the model even if its weights are a pickle.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
def search(collection: str, columns: str, form: str, model: str | None, allow_pickle: bool, **options: Any) -> None:
    """Find the rows of a COLLECTION that are most like QUERY.

    QUERY is an audio file, or file#start-end for a stretch of it in seconds. It is embedded by the recipe of the
    collection, so it cannot be compared wrongly. Scores are cosines: 1 is the same direction.
    """
    from embedx.collection import Collection
    from embedx.errors import UsageError

    chosen = [name.strip() for name in columns.split(",") if name.strip()]
    with Collection(collection, model=model, allow_pickle=allow_pickle) as opened:
        hits = opened.search(**options)
        unknown = [name for name in chosen if not any(name in hit.meta for hit in hits)]
        if unknown and hits:
            known = ", ".join(sorted({name for hit in hits for name in hit.meta})) or "none"
            raise UsageError(f"The hits have no column {', '.join(unknown)}. Columns: {known}.")
    rows: list[dict[str, Any]] = [
        {name: getattr(hit, name) for name in COLUMNS} | {name: hit.meta.get(name) for name in chosen} for hit in hits
    ]
    if form == "json":
        print_json([row | {"meta": dict(hit.meta)} for row, hit in zip(rows, hits, strict=True)])
    elif form == "csv":
        print_csv(rows, [*COLUMNS, *chosen])
    else:
        for row in rows:
            row["file"] = short(row["path"])
            row["start"], row["end"] = f"{row['start_s']:.2f}", f"{row['end_s']:.2f}"
        print_table(rows, ["id", "score", "file", "start", "end", "label", *chosen])
