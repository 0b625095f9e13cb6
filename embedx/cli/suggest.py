"""embedx suggest: the rows to label next."""

from typing import Any

import click

from embedx.cli.options import (
    ABSOLUTE_PATHS,
    ANNOTATIONS,
    OUTPUT_OR_FOLDER,
    READ_COLLECTION,
    TIMEOUT,
    format_option,
    require_file,
)
from embedx.cli.output import deliver, deliver_annotations, format_rows, rows_of, with_relative_paths


@click.command(
    epilog="""\b
    Examples:
      embedx suggest indexes/field --by diverse -n 30 --format csv --output next.csv
      embedx suggest indexes/field --head birds --by margin --stratify site
      embedx suggest indexes/field --head birds --by band --of-class owl --score-band 0.4 0.6
      embedx label indexes/field next.csv
      embedx train indexes/field --label species --name birds
    """
)
@READ_COLLECTION
@click.option("--head", metavar="NAME", help="Head to use. [default: the only head of the collection]")
@click.option(
    "--by",
    type=click.Choice(["margin", "uncertainty", "diverse", "band", "random"]),
    default="margin",
    show_default=True,
    help="margin, uncertainty: rows where the head is unsure. diverse: rows unlike all labelled rows. band: rows with "
    "a probability in --score-band. diverse and random need no head.",
)
@click.option("-n", "n", type=int, default=20, show_default=True, help="Number of rows.")
@click.option(
    "--label",
    metavar="COLUMN",
    help="Label column; rows where it is empty are candidates. [default: that of the head, or label]",
)
@click.option("--where", metavar="SQL", help="Choose only from rows that match this SQL condition.")
@TIMEOUT
@click.option("--of-class", metavar="CLASS", help="For band: the class. [default: the most probable class of each row]")
@click.option("--score-band", type=float, nargs=2, metavar="LOW HIGH", help="For band: the range, from 0 to 1.")
@click.option(
    "--stratify",
    metavar="COLUMN",
    help="Take rows in turn from each value of this column; path takes them in turn from each recording.",
)
@click.option("--view", help="For diverse: vectors to compare. [default: those of the head, or the last layer]")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed, for random and diverse.")
@format_option("table", "csv", "json", *ANNOTATIONS)
@OUTPUT_OR_FOLDER
@ABSOLUTE_PATHS
def suggest(collection: str, form: str, output: str | None, absolute_paths: bool, **options: Any) -> None:
    """Choose the rows of a COLLECTION without a label that are most useful to label.

    Fill in the label column of the CSV and pass the file to `embedx label`. Columns that begin with "_" are only
    information. The next `embedx train` with the same --name reports how much the new labels helped.
    """
    from embedx.collection.collection import Collection
    from embedx.collection.pushing import local_folder

    require_file(output, form)
    with Collection(local_folder(collection)) as opened:
        suggestions = opened.suggest(**options)
        columns = suggestions.columns()
        root = None if absolute_paths else opened.root
        max_hz = opened.recipe.sample_rate / 2
    if form in ANNOTATIONS:
        from embedx.formats.annotations import annotation

        remarks = [{"id": one.id, "_suggested": one.suggested, "_probability": one.probability} for one in suggestions]
        empty = [annotation(one, None, values=about) for one, about in zip(suggestions, remarks, strict=True)]
        deliver_annotations(form, empty, output, max_hz)
        return
    rows = with_relative_paths(rows_of(columns), root, form)
    deliver(format_rows(rows, list(columns), form), output)
