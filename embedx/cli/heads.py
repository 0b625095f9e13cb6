"""embedx heads: list, show, export and delete classifiers."""

import os
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.options import COLLECTION, TABLE_FORMAT, check_file
from embedx.cli.output import print_json, print_rows, say
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    from embedx.heads.head import Head

NAME = click.argument("name")
ENDINGS = {".onnx": "onnx", ".pt2": "torch"}  # ending of an exported file -> its format


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
    """List, show, export and delete the heads (classifiers) of a collection."""


@heads.command(
    name="list",
    epilog="""\b
    Example:
      embedx heads list indexes/esc
    """,
)
@COLLECTION
@TABLE_FORMAT
def list_(collection: str, form: str) -> None:
    """List the heads of a COLLECTION with their scores on held-out rows."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        rows = [summarise(name, head) for name, head in opened.heads().items()]
    if rows or form == "json":
        print_rows(rows, list(rows[0]) if rows else [], form)
    else:
        say(f"{display_path(collection)} has no heads. `embedx train {display_path(collection)}` trains one.", err=True)


@heads.command(
    epilog="""\b
    Example:
      embedx heads show indexes/esc label-logistic
    """
)
@COLLECTION
@NAME
def show(collection: str, name: str) -> None:
    """Print everything that is known about the head NAME, as JSON."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        print_json(opened.head(name).to_dict())


@heads.command(
    epilog="""\b
    Examples:
      embedx heads export indexes/esc label-logistic -o esc.onnx
      embedx heads export indexes/esc label-logistic -o esc.pt2
    """
)
@COLLECTION
@NAME
@click.option("-o", "--out", required=True, callback=check_file, metavar="FILE", help="File to write, .onnx or .pt2.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "torch"]),
    help="Output format. [default: from the extension of FILE]",
)
@click.option("--raw", is_flag=True, help="Write probabilities without calibration.")
def export(collection: str, name: str, out: str, form: str | None, raw: bool) -> None:
    """Export the head NAME to ONNX or torch.export.

    The exported model takes vectors and returns the probabilities that `embedx predict` prints, which are calibrated if
    the head is. ONNX requires embedx[onnx].
    """
    from embedx.collection.collection import Collection

    chosen = form or ENDINGS.get(os.path.splitext(out)[1].lower())
    if chosen is None:
        raise UsageError(
            f"{display_path(out)} must end in {' or '.join(ENDINGS)}, or give the format with --format onnx or torch."
        )
    with Collection(collection) as opened:
        head = opened.head(name)
        head.export(out, format=chosen, calibrated=head.calibrated and not raw)
    say(display_path(out))


@heads.command(
    epilog="""\b
    Example:
      embedx heads rm indexes/esc label-logistic
    """
)
@COLLECTION
@NAME
def rm(collection: str, name: str) -> None:
    """Delete the head NAME. The vectors stay."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        opened.remove_head(name)


def summarise(name: str, head: "Head") -> dict[str, Any]:
    """Return a row of the list of heads."""
    held_out = head.metrics.get("held_out") or {}
    measure = "map" if head.multilabel else "balanced_accuracy"
    figure = (held_out.get("figures") or {}).get(measure) or {}
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
