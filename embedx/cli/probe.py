"""embedx probe: how well a classifier on the vectors tells labels apart."""

from typing import TYPE_CHECKING, Any

import click

from embedx.cli.output import Heading, Sectioned, print_json
from embedx.cli.train import head_options, learned_label, read_settings, split_options
from embedx.errors import UsageError

if TYPE_CHECKING:
    from embedx.evaluation.layer_sweep import ViewScores
    from embedx.evaluation.probe import Report

SWEPT = ("where", "folds", "split", "group", "leaky", "seed")  # options that a sweep takes beside the views


@click.command(
    cls=Sectioned,
    short_help="Score how well vectors tell labels apart.",
    epilog="""\b
    Examples:
      embedx probe indexes/esc
      embedx probe indexes/field --label species --group site
      embedx probe indexes/field --label species --separator ";" --kind mlp
      embedx probe indexes/clips --folds fold --view L6.mean --setting C=0.1 --format json
      embedx probe indexes/hubert --sweep --view "L*.mean"
    """,
)
@click.argument("collection", metavar="COLLECTION")
@split_options
@head_options
@click.option("--view", help="Which vectors. [default: last layer, first pooling; weighted-layers: every layer]")
@click.option("--sweep", is_flag=True, help="Compare views (all, or those that --view matches) by logistic probes.")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True,
    cls=Heading, heading="Output", help="What is printed.",
)  # fmt: skip
def probe(
    collection: str, form: str, label: tuple[str, ...], settings: tuple[str, ...], sweep: bool, **options: Any
) -> None:
    """Score a head on the stored vectors of a COLLECTION over folds, a logistic regression unless --kind says else.

    The folds are those of the data set, or are made so that no recording and no group is on both sides. What has to be
    chosen (C, when to stop) is chosen inside the training rows of each fold. Figures come with 95 % intervals over
    groups, beside the majority class and chance.
    """
    from embedx.collection.collection import Collection

    report: Report | ViewScores
    with Collection(collection) as opened:
        if sweep:
            report = opened.sweep(**swept(label, settings, options))
        else:
            report = opened.probe(learned_label(label), **options, **read_settings(settings))
    if form == "json":
        print_json(report.to_dict())
    else:
        click.echo(str(report))


def swept(label: tuple[str, ...], settings: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a sweep.

    Raises:
        UsageError: another was given too.
    """
    plain = {"kind": "logistic", "separator": None, "weak_negatives": 0.0, "class_weight": None, "head_model": ""}
    others = [name for name, value in plain.items() if options[name] != value] + ["setting"] * bool(settings)
    if others:
        raise UsageError(f"--sweep is of plain logistic probes, and does not go with --{others[0].replace('_', '-')}.")
    if len(label) > 1:
        raise UsageError("--sweep takes one class for each row, in one --label column.")
    named = {"label": label[0]} if label else {}
    return named | {name: options[name] for name in SWEPT} | ({"view": options["view"]} if options["view"] else {})
