"""embedx probe: how well a linear classifier on the vectors tells labels apart."""

from typing import Any

import click

from embedx.cli.output import print_json


@click.command(
    epilog="""\b
    Examples:
      embedx probe indexes/esc
      embedx probe indexes/field --label species --group site
      embedx probe indexes/clips --folds fold --view L6.mean --format json
    """
)
@click.argument("collection", metavar="COLLECTION")
@click.option("--label", default="label", show_default=True, metavar="COLUMN", help="What is to be told apart.")
@click.option("--folds", metavar="COLUMN", help="Test parts given by a column. [default: fold, where there is one]")
@click.option("--group", metavar="COLUMN", help="Never split what has one value here. [default: group, else recording]")
@click.option("--view", help="Which vectors. [default: last layer, first pooling]")
@click.option("--where", metavar="SQL", help="Use the rows that meet a condition.")
@click.option("-C", "C", type=float, default=0.1, show_default=True, help="Inverse strength of the penalty.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def probe(collection: str, form: str, **options: Any) -> None:
    """Score a logistic regression on the stored vectors of a COLLECTION over folds.

    The folds are those of the data set, or are made so that no recording and no group is on both sides.
    """
    from embedx.collection import Collection

    with Collection(collection) as opened:
        report = opened.probe(**options)
    if form == "json":
        print_json(report.to_dict())
    else:
        click.echo(str(report))
