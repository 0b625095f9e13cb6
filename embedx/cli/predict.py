"""embedx predict: classes of rows, recordings or files, by a head or a classifier of audio."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from embedx.cli.embedding_options import (
    BACKEND,
    BATCH_SECONDS,
    CHANNEL_MODE,
    DEVICE,
    HOP,
    MAX_SECONDS,
    TAIL,
    TRIM_SILENCE,
    WINDOW,
)
from embedx.cli.options import (
    ABSOLUTE_PATHS,
    ALLOW_PICKLE,
    OUTPUT_OR_FOLDER,
    TIMEOUT,
    SectionedCommand,
    format_option,
    require_file,
    section,
)
from embedx.cli.output import deliver, deliver_label_tracks, format_rows, rows_of, say, with_relative_paths
from embedx.datasets.sources import root_of
from embedx.errors import EXIT_SOME_FAILED, UsageError
from embedx.filesystem.paths import display_path
from embedx.formats.annotations import Label, selection_table

if TYPE_CHECKING:
    from embedx.training.predict import Prediction, Predictions

STORE = "store.db"  # as FILE_NAME of embedx.store: what makes a folder a collection
OF_FILES = ("window", "hop", "tail", "channels", "trim_silence", "max_seconds", "device", "backend", "batch_seconds")
OF_COLLECTIONS = ("head", "where", "timeout", "precision", "recall", "label")


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples with a collection:
      embedx predict indexes/esc --head label-logistic
      embedx predict indexes/field new/ --head birds --per recording -k 3 --format csv --output new.csv
      embedx predict indexes/field long.wav --head birds --precision 0.9 --format audacity --output long.txt
      embedx predict indexes/field --where "label IS NULL" --format jsonl
      embedx predict indexes/clap --zero-shot "dog barking, rain, wind" --per recording
      embedx predict indexes/keywords --model superb/wav2vec2-base-superb-ks
    \b
    Examples with files alone:
      embedx predict new/ --model MIT/ast-finetuned-speech-commands-v2 -k 3 --format csv
      embedx predict long.wav --model yamnet --window 1 --format raven --output long.selections.txt
      embedx predict calls/ --model models/NAME --per recording
      embedx predict new/ --zero-shot "dog=dog barking|a dog growls, rain" --model laion/clap-htsat-unfused
    """,
)
@click.argument("source", nargs=-1, required=True, metavar="[COLLECTION] [FILES]...")
@section(
    "Prediction",
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
)
@section(
    "Zero-shot",
    click.option(
        "--zero-shot",
        metavar="CLASSES",
        help='Names to choose from, without training: "dog barking, rain"; "dog=bark|growl, rain" gives a class '
        "several prompts. By a CLAP model, or by yamnet for names that it knows.",
    ),
    click.option(
        "--prompt",
        multiple=True,
        metavar="TEXT",
        help="Sentence for CLAP with {} in the place of a name; repeatable. [default: This is a sound of {}.]",
    ),
    click.option(
        "--label",
        metavar="COLUMN",
        help="With a collection: calibrate on the rows that this column labels with one of the names. [default: label]",
    ),
)
@section(
    "With a collection",
    click.option("--head", metavar="NAME", help="Head to use. [default: the only head of the collection]"),
    click.option("--where", metavar="SQL", help="Predict only stored rows that match this SQL condition."),
    TIMEOUT,
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
    "Model",
    click.option(
        "--model",
        help="The classifier: a checkpoint for audio classification (hub id or folder), a folder of `embedx finetune` "
        "or yamnet; with --zero-shot a CLAP model or yamnet. With a collection and --head, --zero-shot or FILES: the "
        "new folder of the collection's model, if it was moved.",
    ),
    ALLOW_PICKLE,
)
@section(
    "With files alone",
    WINDOW,
    HOP,
    TAIL,
    CHANNEL_MODE,
    TRIM_SILENCE,
    MAX_SECONDS,
    DEVICE,
    BACKEND,
    BATCH_SECONDS,
)
@section(
    "Output",
    format_option(
        "table", "csv", "json", "jsonl", "audacity", "raven",
        help="Output format; audacity writes a label track, raven a selection table.",
    ),
    OUTPUT_OR_FOLDER,
    ABSOLUTE_PATHS,
)  # fmt: skip
def predict(source: tuple[str, ...], form: str, output: str | None, absolute_paths: bool, **options: Any) -> int:
    """Predict classes: with a COLLECTION by one of its heads, with FILES alone by a classifier of audio; or by names.

    \b
    embedx predict COLLECTION                   stored rows, by a head
    embedx predict COLLECTION --model MODEL     stored rows, by a classifier of audio with the same encoder
    embedx predict COLLECTION --zero-shot "..." stored rows, by names of classes (CLAP or YAMNet)
    embedx predict COLLECTION FILES             new audio, by a head; also with --zero-shot
    embedx predict FILES --model MODEL          new audio, by a classifier of audio, without a collection
    embedx predict FILES --model MODEL --zero-shot "..."

    The first argument is the collection if it is a folder that `embedx extract` wrote. FILES are audio files, folders
    or a manifest.

    Probabilities of a head are calibrated if it was trained with calibration. --precision and --recall use one
    threshold per class, which holds on new rows with a confidence of 95 %. A class for which the rows held out in
    training do not show one is named in a warning and not predicted.

    A file that cannot be used is reported and does not stop the run. The exit code is then 3.
    """
    require_file(output, form)
    options["prompt"] = list(options["prompt"]) or None
    if any(map(is_collection, source[1:])):
        raise UsageError("Give one collection, as the first argument, and then the files.")
    if is_collection(source[0]):
        refuse(OF_FILES, "a collection, whose recipe says how audio is embedded")
        predictions, root = predict_by_collection(source, {name: options[name] for name in options.keys() - OF_FILES})
    elif options["model"] is None:
        raise UsageError(
            f"{display_path(source[0])} is not a collection (a folder with {STORE}). To classify files without a "
            "collection, name a classifier (--model MODEL), or a CLAP model or yamnet with --zero-shot."
        )
    else:
        refuse(OF_COLLECTIONS, "files alone: it belongs to the heads and rows of a collection")
        from embedx.collection.predicting import predict

        predictions = predict(list(source), **{name: options[name] for name in options.keys() - OF_COLLECTIONS})
        root = root_of(map(os.path.abspath, source))
    write(predictions, None if absolute_paths else root, form, output)
    if predictions.note:
        say(predictions.note, err=True)
    for failure in predictions.failures:
        say(display_path(failure.detail), err=True)
    return EXIT_SOME_FAILED if predictions.failures else 0


def is_collection(place: str) -> bool:
    """Tell whether a path is the folder of a collection."""
    return os.path.isfile(os.path.join(place, STORE))


def refuse(names: tuple[str, ...], what: str) -> None:
    """Raise UsageError if one of these options is given."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UsageError(f"--{name.replace('_', '-')} does not go with {what}.")


def predict_by_collection(places: tuple[str, ...], options: dict[str, Any]) -> "tuple[Predictions, str | None]":
    """Return the predictions for the rows of a collection, or for files, and the folder for relative paths."""
    from embedx.collection.collection import Collection

    folder, *source = places
    model, allow_pickle = options.pop("model"), options.pop("allow_pickle")
    if model is not None and not source and options["head"] is None and options["zero_shot"] is None:
        options["classifier"], model = model, None
    with Collection(folder, model=model, allow_pickle=allow_pickle) as opened:
        predictions = opened.predict(source or None, **options)
        return predictions, root_of(map(os.path.abspath, source)) if source else opened.root


def write(predictions: "Predictions", root: str | None, form: str, output: str | None) -> None:
    """Print predictions, or write them to a file or folder; paths in tables and CSV are relative to `root`."""
    if form == "audacity":
        deliver_label_tracks(label_tracks(predictions), output)
    elif form == "raven":
        deliver(selection_table(selections(predictions), (predictions.sample_rate or 0) / 2), output)
    else:
        columns = predictions.columns()
        rows = with_relative_paths(rows_of(columns), root, form)
        deliver(format_rows(rows, list(columns), form), output)


def annotated(predictions: "Predictions") -> "Iterator[tuple[Prediction, str, float]]":
    """Yield each window with a class: its classes with their probabilities as text, and the highest of these.

    With several outputs the name of the output is in front of each class.
    """
    outputs = predictions.outputs or {"": predictions}
    for number, prediction in enumerate(predictions):
        texts, scores = [], []
        for name, output in outputs.items():
            one, probabilities = output[number], dict(zip(output.classes, output.proba[number].tolist(), strict=True))
            texts += [f"{name}{': ' if name else ''}{label} {probabilities[label]:.3f}" for label in one.labels]
            scores += [probabilities[label] for label in one.labels]
        if texts:
            yield prediction, "; ".join(texts), max(scores)


def label_tracks(predictions: "Predictions") -> dict[str, list[Label]]:
    """Return path -> labels for Audacity: a label for each window with a class, with the probability after its name."""
    tracks: dict[str, list[Label]] = {prediction.path: [] for prediction in predictions}
    for prediction, text, _ in annotated(predictions):
        tracks[prediction.path].append(Label(prediction.start_s, prediction.end_s, text))
    return tracks


def selections(predictions: "Predictions") -> Iterator[dict[str, Any]]:
    """Yield a row for `selection_table` for each window with a class."""
    for prediction, text, score in annotated(predictions):
        yield {
            "id": "" if prediction.id is None else prediction.id,
            "score": score,
            "path": prediction.path,
            "start_s": prediction.start_s,
            "end_s": prediction.end_s,
            "label": text,
            "meta": {"channel": prediction.channel},
        }
