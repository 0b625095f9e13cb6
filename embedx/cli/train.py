"""embedx train, heads: classifiers on stored vectors."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.maintenance import JSON
from embedx.cli.output import Heading, Sectioned, deliver, print_json, print_rows
from embedx.errors import UsageError

if TYPE_CHECKING:
    from embedx.heads.head import Head
    from embedx.training.fit_head import Trained

KINDS = click.Choice(["logistic", "mlp", "knn", "prototype", "weighted-layers"])
CALIBRATIONS = click.Choice(["temperature", "isotonic", "none"])


def split_options(command: Any) -> Any:
    """Add what says which labels are learned and how rows are split, the same for `train` and `probe`."""
    options = [
        click.option(
            "--label", multiple=True, metavar="COLUMN", cls=Heading, heading="What is learned",
            help="What is to be told apart; several: columns of yes and no. [default: label]",
        ),
        click.option("--separator", metavar="TEXT", help='Between classes of a row, as in "dog;rain": multi-label.'),
        click.option(
            "--weak-negatives", type=float, default=0.0, metavar="WEIGHT",
            help="Rows without a label count as examples of no class, with this weight (up to 1). [default: left out]",
        ),
        click.option("--where", metavar="SQL", help="Use the rows that meet a condition."),
        click.option(
            "--folds", metavar="COLUMN", cls=Heading, heading="How it is split",
            help="Test parts given by a column. [default: fold, where every row has one]",
        ),
        click.option("--split", metavar="COLUMN", help="A column: train, validation, test. [default: split, likewise]"),
        click.option("--group", metavar="COLUMN", help="Never split its values. [default: group, else recording]"),
        click.option("--leaky", is_flag=True, help="Random rows, whatever belongs together: scores too good."),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the folds and the head."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def head_options(command: Any) -> Any:
    """Add what says which head is fitted."""
    options = [
        click.option(
            "--kind", type=KINDS, default="logistic", show_default=True, cls=Heading, heading="Head", help="Which head."
        ),
        click.option("--head-model", default="", metavar="STEPS", help='Before it, such as "PCA(128)" or "Unit()".'),
        click.option("--class-weight", type=click.Choice(["balanced"]), help="Weigh rare classes up."),
        click.option(
            "--setting",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="Of the kind: C=0.1, hidden=128, dropout=0.5, k=7.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Return name -> number (or text) of NAME=VALUE.

    >>> read_settings(["C=0.1", "k=5", "weights=uniform"])
    {'C': 0.1, 'k': 5, 'weights': 'uniform'}
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise UsageError(f"--setting takes NAME=VALUE, not {pair!r}.")
        try:
            settings[name] = int(value) if value.lstrip("-").isdigit() else float(value)
        except ValueError:
            settings[name] = value
    return settings


def learned_label(label: tuple[str, ...]) -> str | tuple[str, ...]:
    """Return the one column, or several."""
    return label if len(label) > 1 else label[0] if label else "label"


@click.command(
    cls=Sectioned,
    short_help="Fit, score and save a classifier.",
    epilog="""\b
    Examples:
      embedx train indexes/esc
      embedx train indexes/field --label species --group site --class-weight balanced --name birds
      embedx train indexes/field --label species --separator ";" --kind mlp --setting hidden=128
      embedx train indexes/hubert --kind weighted-layers --view "L*.mean" --calibration isotonic
      embedx train indexes/field --head-model "PCA(128)" --kind knn --setting k=7
    """,
)
@click.argument("collection", metavar="COLLECTION")
@split_options
@head_options
@click.option("--view", help="Which vectors. [default: last layer, first pooling; weighted-layers: every layer]")
@click.option(
    "--calibration", type=CALIBRATIONS, default="temperature", show_default=True,
    help="How probabilities are put right, on rows held out.",
)  # fmt: skip
@click.option("--name", cls=Heading, heading="Output", help="Of the head. [default: LABEL-KIND]")
@click.option("--report", metavar="FILE.png", help="Draw the reliability diagram (needs embedx[bench]).")
@JSON
def train(
    collection: str,
    label: tuple[str, ...],
    settings: tuple[str, ...],
    report: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit a head on the stored vectors of a COLLECTION, score it on rows it has not seen, and save it there.

    The score comes from folds that split no recording and no group, or from the test part of the data set's own
    split; every choice (C, when to stop) is made inside the rows that are learned from. A head of the same name is
    replaced, and what the labels since then have brought is said.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        trained = opened.fit_head(learned_label(label), **options, **read_settings(settings))
    if report is not None:
        write_diagram(trained, report)
    if as_json:
        gain = None if trained.gain is None else asdict(trained.gain)
        said = {"name": trained.name, "folder": str(trained.folder), "gain": gain, "head": trained.to_dict()}
        print_json({"exit_code": 0, "collection": collection, **said})
    else:
        click.echo(str(trained))


@click.group(
    epilog="""\b
    Examples:
      embedx heads list indexes/esc
      embedx heads show indexes/esc label-logistic
      embedx heads export indexes/esc label-logistic -o esc.onnx
      embedx heads rm indexes/esc label-logistic
    """
)
def heads() -> None:
    """List, show, export and delete the heads of a collection."""


@heads.command(name="list")
@click.argument("collection", metavar="COLLECTION")
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def list_(collection: str, form: str) -> None:
    """List the heads of a COLLECTION, with how well they did on rows they had not seen."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        lines = [summary(name, head) for name, head in opened.heads().items()]
    if lines or form == "json":
        print_rows(lines, list(lines[0]) if lines else [], form)
    else:
        click.echo(f"{collection} has no heads: `embedx train {collection}` makes one.", err=True)


@heads.command()
@click.argument("collection", metavar="COLLECTION")
@click.argument("name")
def show(collection: str, name: str) -> None:
    """Print everything a head says of itself, as JSON."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        print_json(opened.head(name).to_dict())


@heads.command()
@click.argument("collection", metavar="COLLECTION")
@click.argument("name")
@click.option("-o", "--out", required=True, metavar="FILE", help="An .onnx or .pt2 file.")
@click.option("--format", "form", type=click.Choice(["onnx", "torch"]), help="[default: told from the ending]")
def export(collection: str, name: str, out: str, form: str | None) -> None:
    """Write a head for ONNX Runtime (needs embedx[onnx]) or torch.export: vectors in, probabilities out."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        opened.head(name).export(out, format=form or ("torch" if out.endswith(".pt2") else "onnx"))
    click.echo(out)


@heads.command()
@click.argument("collection", metavar="COLLECTION")
@click.argument("name")
def rm(collection: str, name: str) -> None:
    """Delete a head; the vectors stay."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        opened.remove_head(name)


def write_diagram(trained: "Trained", file: str) -> None:
    """Draw how often the head is right that says it is so sure, by calibrated probabilities where it has them."""
    from embedx.bench.report.diagnostics import draw_reliability
    from embedx.bench.report.plots import to_png
    from embedx.metrics.calibration import Bin

    bars = trained.metrics.get("reliability")
    if bars is None:
        raise UsageError("The head was not scored, so there is no reliability to draw.")
    deliver(to_png(draw_reliability([Bin(**bar) for bar in bars.get("after", bars["before"])], trained.name)), file)


def summary(name: str, head: "Head") -> dict[str, Any]:
    """Return a line of the list of heads."""
    held_out = head.metrics.get("held_out") or {}
    figures = held_out.get("figures") or {}
    measure = "map" if head.multilabel else "balanced_accuracy"
    figure = figures.get(measure) or {}
    return {
        "name": name,
        "kind": head.kind,
        "views": ", ".join(head.views),
        "classes": len(head.classes),
        "labels": "several" if head.multilabel else "one",
        "figure": measure,
        "value": figure.get("value"),
        "low": figure.get("low"),
        "high": figure.get("high"),
        "tested": held_out.get("rows", 0),
        "leaky": bool(head.settings.get("training", {}).get("leaky")),
    }
