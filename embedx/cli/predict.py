"""embedx predict: what rows or recordings are, by a head."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.output import Heading, Sectioned, as_csv, as_json, as_table, deliver, short
from embedx.errors import EXIT_SOME_FAILED, UsageError
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    from embedx.training.predict import Prediction, Predictions


@click.command(
    cls=Sectioned,
    short_help="Say what rows or recordings are.",
    epilog="""\b
    Examples:
      embedx predict indexes/esc --head label-logistic
      embedx predict indexes/field new/ --head birds --per recording -k 3 --format csv --output new.csv
      embedx predict indexes/field long.wav --head birds --precision 0.9 --format audacity --output long.txt
      embedx predict indexes/field --where "label IS NULL" --format jsonl
    """,
)
@click.argument("collection", metavar="COLLECTION")
@click.argument("source", nargs=-1, metavar="[SOURCE]...")
@click.option("--head", metavar="NAME", help="Which head. [default: the only one]")
@click.option("--where", metavar="SQL", help="Of the stored rows, those that meet a condition.")
@click.option("--per", type=click.Choice(["window", "recording"]), default="window", show_default=True)
@click.option(
    "--aggregate", type=click.Choice(["mean", "max"]), default="mean", show_default=True,
    help="How the windows of a recording come together.",
)  # fmt: skip
@click.option("-k", "k", type=int, default=1, show_default=True, help="How many of the likeliest classes to show.")
@click.option("--precision", type=float, metavar="P", help="Predict a class only where it is right this often.")
@click.option("--recall", type=float, metavar="R", help="Predict a class so often that this share of it is found.")
@click.option("--format", "form", default="table", show_default=True,
              type=click.Choice(["table", "csv", "json", "jsonl", "audacity"]), cls=Heading, heading="Output",
              help="What is written.")  # fmt: skip
@click.option("--output", metavar="FILE", help="Write there instead; for audacity also a folder, a file per recording.")
@click.option("--model", cls=Heading, heading="Model", help="Where it lies now, or code from outside.")
@click.option("--allow-pickle", is_flag=True, help="Load the model even if its weights are a pickle.")
def predict(
    collection: str,
    source: tuple[str, ...],
    form: str,
    output: str | None,
    model: str | None,
    allow_pickle: bool,
    **options: Any,
) -> int:
    """Say what the rows of a COLLECTION are, or the audio of SOURCE: files, folders or a manifest.

    Audio is embedded by the recipe of the collection. Probabilities are calibrated as the head was trained to.
    --precision and --recall set a threshold for each class from rows that were held out in training. What cannot be
    read is named, and never stops the rest; the exit code is then 3.
    """
    from embedx.collection.collection import Collection

    with Collection(collection, model=model, allow_pickle=allow_pickle) as opened:
        predictions = opened.predict(list(source) or None, **options)
    write(predictions, form, output)
    for failure in predictions.failures:
        click.echo(failure.detail, err=True)
    return EXIT_SOME_FAILED if predictions.failures else 0


def write(predictions: "Predictions", form: str, output: str | None) -> None:
    """Print the predictions or write them to a file; labels of Audacity also to a folder, a file per recording."""
    if form == "audacity":
        by_path: dict[str, list[Prediction]] = {}
        for one in predictions:
            by_path.setdefault(one.path, []).append(one)
        if output is not None and (os.path.isdir(output) or output.endswith(os.sep)):
            from embedx.search.hits import safe_stem

            os.makedirs(output, exist_ok=True)
            for number, (path, some) in enumerate(by_path.items(), start=1):
                deliver(audacity(some), str(Path(output, f"{number:04d}_{safe_stem(path)}.txt")))
            return
        if len(by_path) > 1:
            raise UsageError(
                f"Labels of Audacity are for one recording, and these are {len(by_path)}: give --output FOLDER/."
            )
        deliver(audacity(list(predictions)), output)
        return
    columns = predictions.columns()
    lines = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if form == "json":
        deliver(as_json(lines) + "\n", output)
    elif form == "jsonl":
        deliver("".join(json.dumps(line) + "\n" for line in lines), output)
    elif form == "csv":
        deliver(as_csv(lines, list(columns)), output)
    else:
        shown = [line | {"path": short(line["path"])} for line in lines]
        deliver(as_table(shown, list(columns)), output)


def audacity(some: "list[Prediction]") -> str:
    """Return labels of Audacity: a line for each stretch with a class, its probability behind the name."""
    lines = []
    for one in some:
        sure = dict(one.top)
        words = [f"{name} {sure[name]:.3f}" if name in sure else name for name in one.labels]
        if words:
            lines.append(f"{one.start_s:.6f}\t{one.end_s:.6f}\t{display_path('; '.join(words))}\n")
    return "".join(lines)
