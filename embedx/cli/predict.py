"""embedx predict: classes of rows, recordings or files, by a head or a classifier of audio."""

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from embedx.annotations.joining import merge_touching
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
    ANNOTATIONS,
    MERGE,
    OUTPUT_OR_FOLDER,
    TIMEOUT,
    SectionedCommand,
    format_option,
    require_file,
    section,
)
from embedx.cli.output import deliver, deliver_annotations, format_rows, rows_of, say, with_relative_paths
from embedx.datasets.sources import root_of
from embedx.errors import EXIT_SOME_FAILED, UsageError
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import absolute

if TYPE_CHECKING:
    from embedx.annotations.base import Annotation
    from embedx.training.predict import Predictions

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
      embedx predict indexes/field --head birds --format raven --merge --output birds.txt
      embedx predict indexes/field --where "label IS NULL" --format jsonl
      embedx predict indexes/clap --zero-shot "dog barking, rain, wind" --per recording
      embedx predict indexes/keywords --model superb/wav2vec2-base-superb-ks
    \b
    Examples with files alone:
      embedx predict new/ --model MIT/ast-finetuned-speech-commands-v2 -k 3 --format csv
      embedx predict long.wav --model yamnet --window 1 --format raven --output long.selections.txt
      embedx predict calls/ --model models/NAME --per recording
      embedx predict field/ --model "onnx:birds.onnx?rate=48000&scores=logits&activation=sigmoid&labels=birds.txt"
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
        "several prompts. By a model with texts (CLAP, PE-Audio, EmbeddingGemma 2), or by yamnet for names that it "
        "knows.",
    ),
    click.option(
        "--prompt",
        multiple=True,
        metavar="TEXT",
        help="Sentence for a model with texts, with {} in the place of a name; repeatable. [default: This is a sound "
        "of {}.]",
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
        help="The classifier: a checkpoint for audio classification (hub id or folder), a folder of `embedx finetune`, "
        "onnx:FILE?rate=HZ&scores=NAME&labels=FILE, or yamnet; with --zero-shot a model with texts "
        "or yamnet. With a collection and --head, --zero-shot or FILES: the new folder of the collection's model, if "
        "it was moved.",
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
    format_option("table", "csv", "json", "jsonl", *ANNOTATIONS),
    MERGE,
    OUTPUT_OR_FOLDER,
    ABSOLUTE_PATHS,
)  # fmt: skip
def predict(
    source: tuple[str, ...], form: str, merge: bool, output: str | None, absolute_paths: bool, **options: Any
) -> int:
    """Predict classes: with a COLLECTION by one of its heads, with FILES alone by a classifier of audio; or by names.

    \b
    embedx predict COLLECTION                   stored rows, by a head
    embedx predict COLLECTION --model MODEL     stored rows, by a classifier of audio with the same encoder
    embedx predict COLLECTION --zero-shot "..." stored rows, by names of classes
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
    if merge and form not in ANNOTATIONS:
        raise UsageError(f"--merge is for annotations: choose --format {', '.join(ANNOTATIONS)}.")
    options["prompt"] = list(options["prompt"]) or None
    if any(map(is_collection, source[1:])):
        raise UsageError("Give one collection, as the first argument, and then the files.")
    if is_collection(source[0]):
        refuse(OF_FILES, "a collection, whose recipe says how audio is embedded")
        predictions, root = predict_by_collection(source, {name: options[name] for name in options.keys() - OF_FILES})
    elif options["model"] is None:
        raise UsageError(
            f"{display_path(source[0])} is not a collection (a folder with {STORE}). To classify files without a "
            "collection, name a classifier (--model MODEL), or with --zero-shot yamnet or a model with texts such as "
            "laion/clap-htsat-unfused."
        )
    else:
        refuse(OF_COLLECTIONS, "files alone: it belongs to the heads and rows of a collection")
        from embedx.collection.predicting import predict

        predictions = predict(list(source), **{name: options[name] for name in options.keys() - OF_COLLECTIONS})
        root = root_of(map(absolute, source))
    write(predictions, None if absolute_paths else root, form, merge, output)
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
        return predictions, root_of(map(absolute, source)) if source else opened.root


def write(predictions: "Predictions", root: str | None, form: str, merge: bool, output: str | None) -> None:
    """Print predictions, or write them to a file or folder; paths in tables and CSV are relative to `root`."""
    if form in ANNOTATIONS:
        annotations = annotations_of(predictions)
        annotations = merge_touching(annotations) if merge else annotations
        annotations = with_probabilities(annotations) if form == "audacity" else annotations
        paths = dict.fromkeys(one.path for one in predictions)
        deliver_annotations(form, annotations, output, (predictions.sample_rate or 0) / 2, paths)
    else:
        columns = predictions.columns()
        rows = with_relative_paths(rows_of(columns), root, form)
        deliver(format_rows(rows, list(columns), form), output)


def annotations_of(predictions: "Predictions") -> "list[Annotation]":
    """Return an annotation for each class of each window, with its probability.

    With several outputs the name of the output is in front of each class.
    """
    from embedx.formats.annotations import annotation

    outputs, made = predictions.outputs or {"": predictions}, []
    for number, prediction in enumerate(predictions):
        facts = {"id": prediction.id, "channel": prediction.channel}
        values = {name: value for name, value in facts.items() if value is not None}
        for name, output in outputs.items():
            one, probabilities = output[number], dict(zip(output.classes, output.proba[number].tolist(), strict=True))
            made += [
                annotation(prediction, f"{name}{': ' if name else ''}{label}", probabilities[label], values)
                for label in one.labels
            ]
    return made


def with_probabilities(annotations: "Iterable[Annotation]") -> "list[Annotation]":
    """Return annotations for a label track: one for each stretch, with the probability behind each class."""
    groups: dict[tuple[str, float, float], list[Annotation]] = {}
    for one in annotations:
        groups.setdefault((one.path, one.start_s, one.end_s), []).append(one)
    texts = ("; ".join(f"{one.label} {one.score:.3f}" for one in members) for members in groups.values())
    return [replace(members[0], label=text) for members, text in zip(groups.values(), texts, strict=True)]
