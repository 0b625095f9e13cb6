"""embedx predict: labels of rows or recordings, by a head."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.options import (
    ABSOLUTE_PATHS,
    COLLECTION,
    OUTPUT_OR_FOLDER,
    TIMEOUT,
    SectionedCommand,
    format_option,
    model_section,
    require_file,
    section,
)
from embedx.cli.output import deliver, deliver_label_tracks, format_rows, rows_of, say, with_relative_paths
from embedx.datasets.sources import root_of
from embedx.errors import EXIT_SOME_FAILED
from embedx.filesystem.paths import display_path
from embedx.formats.annotations import Label

if TYPE_CHECKING:
    from embedx.training.predict import Prediction


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx predict indexes/esc --head label-logistic
      embedx predict indexes/field new/ --head birds --per recording -k 3 --format csv --output new.csv
      embedx predict indexes/field long.wav --head birds --precision 0.9 --format audacity --output long.txt
      embedx predict indexes/field --where "label IS NULL" --format jsonl
    """,
)
@COLLECTION
@click.argument("source", nargs=-1, metavar="[SOURCE]...")
@section(
    "Prediction",
    click.option("--head", metavar="NAME", help="Head to use. [default: the only head of the collection]"),
    click.option("--where", metavar="SQL", help="Predict only stored rows that match this SQL condition."),
    TIMEOUT,
    click.option(
        "--per",
        type=click.Choice(["window", "recording"]),
        default="window",
        show_default=True,
        help="One prediction for each window or for each recording.",
    ),
    click.option(
        "--aggregate",
        type=click.Choice(["mean", "max"]),
        default="mean",
        show_default=True,
        help="With --per recording: how to combine the probabilities of its windows.",
    ),
    click.option("-k", "k", type=int, default=1, show_default=True, help="Number of most probable classes to show."),
    click.option(
        "--precision",
        type=float,
        metavar="P",
        help="Predict a class only above its threshold for precision P (0 to 1).",
    ),
    click.option(
        "--recall", type=float, metavar="R", help="Predict a class only above its threshold for recall R (0 to 1)."
    ),
)
@section(
    "Output",
    format_option("table", "csv", "json", "jsonl", "audacity", help="Output format; audacity writes a label track."),
    OUTPUT_OR_FOLDER,
    ABSOLUTE_PATHS,
)
@model_section
def predict(
    collection: str,
    source: tuple[str, ...],
    form: str,
    output: str | None,
    absolute_paths: bool,
    model: str | None,
    allow_pickle: bool,
    **options: Any,
) -> int:
    """Predict labels for the rows of a COLLECTION, or for the audio of SOURCE: files, folders or a manifest.

    SOURCE is embedded with the recipe of the collection. Probabilities are calibrated if the head was trained with
    calibration. --precision and --recall use one threshold per class, which holds on new rows with a confidence of
    95 %. A class for which the rows held out in training do not show one is named in a warning and not predicted.

    A file that cannot be used is reported and does not stop the run. The exit code is then 3.
    """
    from embedx.collection.collection import Collection

    require_file(output, form)
    with Collection(collection, model=model, allow_pickle=allow_pickle) as opened:
        predictions = opened.predict(list(source) or None, **options)
        root = None if absolute_paths else root_of(map(os.path.abspath, source)) if source else opened.root
    if form == "audacity":
        deliver_label_tracks(label_tracks(predictions), output)
    else:
        columns = predictions.columns()
        rows = with_relative_paths(rows_of(columns), root, form)
        deliver(format_rows(rows, list(columns), form), output)
    for failure in predictions.failures:
        say(display_path(failure.detail), err=True)
    return EXIT_SOME_FAILED if predictions.failures else 0


def label_tracks(predictions: "Iterable[Prediction]") -> dict[str, list[Label]]:
    """Return path -> labels for Audacity: a label for each window with a class, with the probability after its name."""
    tracks: dict[str, list[Label]] = {}
    for prediction in predictions:
        probabilities = dict(prediction.top)
        names = [f"{name} {probabilities[name]:.3f}" if name in probabilities else name for name in prediction.labels]
        track = tracks.setdefault(prediction.path, [])
        if names:
            track.append(Label(prediction.start_s, prediction.end_s, "; ".join(names)))
    return tracks
