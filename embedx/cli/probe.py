"""embedx probe: how well a classifier on the vectors tells labels apart."""

from typing import Any

import click

from embedx.cli.output import Heading, Sectioned, print_json
from embedx.cli.train import head_options, learned_label, read_settings, split_options


@click.command(
    cls=Sectioned,
    short_help="Score how well vectors tell labels apart.",
    epilog="""\b
    Examples:
      embedx probe indexes/esc
      embedx probe indexes/field --label species --group site
      embedx probe indexes/field --label species --separator ";" --kind mlp
      embedx probe indexes/clips --folds fold --view L6.mean --setting C=0.1 --format json
    """,
)
@click.argument("collection", metavar="COLLECTION")
@split_options
@head_options
@click.option("--view", help="Which vectors. [default: last layer, first pooling; weighted-layers: every layer]")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True,
    cls=Heading, heading="Output", help="What is printed.",
)  # fmt: skip
def probe(collection: str, form: str, label: tuple[str, ...], settings: tuple[str, ...], **options: Any) -> None:
    """Score a head on the stored vectors of a COLLECTION over folds, a logistic regression unless --kind says else.

    The folds are those of the data set, or are made so that no recording and no group is on both sides. What has to be
    chosen (C, when to stop) is chosen inside the training rows of each fold. Figures come with 95 % intervals over
    groups, beside the majority class and chance.
    """
    from embedx.collection import Collection

    with Collection(collection) as opened:
        report = opened.probe(learned_label(label), **options, **read_settings(settings))
    if form == "json":
        print_json(report.to_dict())
    else:
        click.echo(str(report))
