"""embedx suggest: which rows to label next."""

from typing import Any

import click

from embedx.cli.output import as_csv, as_json, as_table, deliver, short

WAYS = click.Choice(["margin", "uncertainty", "diverse", "band", "random"])


@click.command(
    short_help="Choose the rows to label next.",
    epilog="""\b
    Examples:
      embedx suggest indexes/field --by diverse -n 30 --format csv --output next.csv
      embedx suggest indexes/field --head birds --by margin --stratify site
      embedx suggest indexes/field --head birds --by band --of-class owl --score-band 0.4 0.6
      embedx label indexes/field next.csv
      embedx train indexes/field --name birds
    """,
)
@click.argument("collection", metavar="COLLECTION")
@click.option("--head", metavar="NAME", help="Which head judges the rows. [default: the only one, if there is one]")
@click.option("--by", type=WAYS, default="margin", show_default=True, help="Undecided, unlike all labelled, in a band.")
@click.option("-n", "n", type=int, default=20, show_default=True, help="How many rows.")
@click.option("--label", metavar="COLUMN", help="The column that is empty. [default: what the head learned, or label]")
@click.option("--where", metavar="SQL", help="Choose from the rows that meet a condition.")
@click.option("--of-class", metavar="CLASS", help="Whose probability is to be in the band. [default: the likeliest]")
@click.option("--score-band", type=float, nargs=2, metavar="LOW HIGH", help="Probabilities in between, for --by band.")
@click.option("--stratify", metavar="COLUMN", help="Its values take turns; path: every recording.")
@click.option("--view", help="For diverse: which vectors are compared. [default: the head's, or the last layer]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random, and of the first diverse row.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.option("--output", metavar="FILE", help="Write there instead, whole or not at all.")
def suggest(collection: str, form: str, output: str | None, **options: Any) -> None:
    """Choose rows of a COLLECTION without a label whose labels would teach most.

    Fill in the label column of the CSV and give it to `embedx label`; columns that begin with "_" are remarks. The
    next `embedx train` of the same name says what was gained.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        columns = opened.suggest(**options).columns()
    lines = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if form == "json":
        deliver(as_json(lines) + "\n", output)
    elif form == "csv":
        deliver(as_csv(lines, list(columns)), output)
    else:
        deliver(as_table([line | {"path": short(line["path"])} for line in lines], list(columns)), output)
