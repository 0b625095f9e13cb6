"""Options that several commands share, each written once, and the help that shows them in sections."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import absolute, is_engine, is_url, masked
from embedx.text import parse_number, parse_pair

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]


class SectionedCommand(click.Command):
    """A command whose help shows its options in sections; see `section`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options below the titles of their sections, in the order of the code."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                title = "Other" if param.is_eager else getattr(param, "section", "Options")
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def section(title: str, *options: Decorator) -> Callable[[Function], Function]:
    """Return a decorator that adds options, in this order, under a title of the help."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
            params: list[Any] = function.__click_params__  # type: ignore[attr-defined]
            params[-1].section = title
        return function

    return decorate


def check_folder(context: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Check that the folder of an output file exists, before the command does its work.

    Raises:
        BadParameter: there is no such folder.
    """
    if path is None or is_url(path):
        return path and absolute(path)
    folder = os.path.dirname(path.rstrip(os.sep)) or os.curdir
    if not os.path.isdir(folder):
        raise click.BadParameter(f"There is no folder {display_path(folder)}. Create it first.", context, param)
    is_replaced = os.path.isfile(path) or not os.path.exists(path)  # a pipe or a device is not
    if is_replaced and not os.access(folder, os.W_OK | os.X_OK):
        raise click.BadParameter(f"No permission to write in the folder {display_path(folder)}.", context, param)
    return path


def check_file(context: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Check an output file as `check_folder` does, and that it is not a folder."""
    check_folder(context, param, path)
    try:
        require_file(path)
    except UsageError as error:
        raise click.BadParameter(str(error), context, param) from error
    return path


ANNOTATIONS = ("raven", "audacity", "labelstudio", "birdnet", "textgrid")  # formats of embedx.annotations
OF_ONE_RECORDING = ("audacity", "textgrid")  # of these, a file holds one recording, so a folder holds several
MERGE = click.option(
    "--merge", is_flag=True, help="In a format for annotations: windows of one class that touch or overlap are one."
)


def require_file(output: str | None, form: str = "") -> None:
    """Check before the work that the output is not a folder; only files that hold one recording may go to one.

    Raises:
        UsageError: it is a folder.
    """
    if output is not None and form not in OF_ONE_RECORDING and (os.path.isdir(output) or output.endswith(os.sep)):
        raise UsageError(f"{display_path(output)} is a folder. --output takes a file.")


def format_option(*choices: str, help: str = "Output format.") -> Decorator:
    """Return --format with these choices, the first of them by default."""
    return click.option(
        "--format", "form", type=click.Choice(choices), default=choices[0], show_default=True, help=help
    )


def refuse_url(context: click.Context, param: click.Parameter, place: str) -> str:
    """Return the folder of a collection that a command writes, or sends.

    Raises:
        UsageError: it is a URL.
    """
    if is_url(place):
        shown = display_path(masked(place))
        copying = f"`embedx backup {shown} FOLDER` copies it to this machine, and `embedx push` sends what has changed."
        raise UsageError(
            f"{context.info_name} needs the folder of a collection, not a URL. "
            + (f"Give the folder from which {shown} was pushed." if is_engine(place) else copying)
        )
    return place


def refuse_urls(context: click.Context, param: click.Parameter, places: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders of several collections, see `refuse_url`."""
    return tuple(refuse_url(context, param, place) for place in places)


def refuse_buckets(context: click.Context, param: click.Parameter, places: tuple[str, ...]) -> tuple[str, ...]:
    """Return the places of several collections: folders, and URLs of search engines."""
    return tuple(place if is_engine(place) else refuse_url(context, param, place) for place in places)


COLLECTION = click.argument("collection", metavar="COLLECTION", callback=refuse_url)
READ_COLLECTION = click.argument("collection", metavar="COLLECTION")  # also of a bucket; see `local_folder`
VIEW = click.option(
    "--view", help="Vectors to use, such as L12.mean. [default: last layer, first pooling; see `embedx status`]"
)
HEAD_VIEW = click.option(
    "--view", help="Vectors to use. [default: last layer, first pooling; for weighted-layers every layer]"
)
METRIC = click.option(
    "--metric",
    type=click.Choice(["cosine", "ip", "l2"]),
    default="cosine",
    show_default=True,
    help="Similarity: cosine, inner product, or negative Euclidean distance.",
)
TABLE_FORMAT = format_option("table", "json", "csv")
OUTPUT_OR_FOLDER = click.option(
    "--output",
    callback=check_folder,
    metavar="FILE",
    help="Write to FILE instead of standard output; for audacity and textgrid also a folder: a file per recording.",
)
OUTPUT = click.option("--output", callback=check_file, metavar="FILE", help="Write to FILE instead of standard output.")
PERMUTATIONS = click.option(
    "--permutations",
    type=click.IntRange(0),
    default=199,  # embedx.metrics.chance.PERMUTATIONS, whose import would slow down --help
    show_default=True,
    metavar="N",
    help="Permutations of the labels that the scores are compared with; 0: no test against chance.",
)
PER_CLASS = click.option(
    "--per-class", is_flag=True, help="Print the scores of every class, the worst first. JSON always has them."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
PROGRESS = click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "text", "json", "none"]),
    default="auto",
    show_default=True,
    help="Progress on standard error: a bar, a sentence every 10 s (text), or a JSON line every second. "
    "auto: a bar on a terminal, text elsewhere.",
)
ABSOLUTE_PATHS = click.option(
    "--absolute-paths",
    is_flag=True,
    help="Show full paths in tables and CSV. [default: relative to the folder of the sources, if there is one]",
)
WAIT = click.option(
    "--wait", is_flag=True, help="Wait while another process writes the collection, instead of stopping with an error."
)

ALLOW_PICKLE = click.option(
    "--allow-pickle", is_flag=True, help="Load weights from a pickle (.bin, .pth) if there is no safetensors file."
)
MODEL_PLACE = click.option(
    "--model", help="New folder of the collection's model if it was moved, or a plugin. [default: as recorded]"
)
MODELS = click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[NAME=]MODEL",
    help="New folder of the model, if it was moved; NAME= for one of several collections. Repeatable.",
)
model_section = section("Model", MODEL_PLACE, ALLOW_PICKLE)


def refuse_nan(context: click.Context, option: click.Parameter, value: float) -> float:
    """Refuse a value that is not a number: it is in no range, and click does not notice that."""
    if math.isnan(value):
        raise click.BadParameter(f"{value} is not a number of seconds.", context, option)
    return value


TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    callback=refuse_nan,
    default=30.0,  # as TIMEOUT_S of embedx.store.filters, which would load SQLite and NumPy for --help
    show_default=True,
    metavar="SECONDS",
    help="Stop a --where condition that takes longer; inf: never.",
)
SEED = click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the folds and of the head.")
LEAKY_HELP = "Split rows at random, ignoring groups; scores will be inflated."
label_section = section(
    "Labels",
    click.option(
        "--label",
        multiple=True,
        metavar="COLUMN",
        help="Label column; repeat for multi-label data (one yes/no column per class). [default: label]",
    ),
    click.option(
        "--separator", metavar="TEXT", help='Separator of several labels in one cell, such as ";" in "dog;rain".'
    ),
    click.option(
        "--weak-negatives",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="Use rows without a label as negative examples of every class, with this weight (0 to 1). "
        "[default: skip them]",
    ),
    click.option("--where", metavar="SQL", help="Use only rows that match this SQL condition."),
    TIMEOUT,
)
split_section = section(
    "Split",
    click.option(
        "--folds", metavar="COLUMN", help="Column with the test fold of each row. [default: fold, if every row has one]"
    ),
    click.option(
        "--split",
        metavar="COLUMN",
        help="Column with train, validation or test. [default: split, if every row has one]",
    ),
    click.option(
        "--group",
        metavar="COLUMN",
        help="Keep all rows with the same value on one side of each split. [default: group, else recording]",
    ),
    click.option("--leaky", is_flag=True, help=LEAKY_HELP),
    SEED,
)
head_section = section(
    "Head",
    click.option(
        "--kind",
        type=click.Choice(["logistic", "mlp", "knn", "prototype", "weighted-layers"]),
        default="logistic",
        show_default=True,
        help="Kind of classifier.",
    ),
    click.option(
        "--head-model",
        default="",
        metavar="STEPS",
        help='Preprocessing of the vectors, such as "PCA(128)" or "Unit()" (scale to length 1).',
    ),
    click.option(
        "--class-weight", type=click.Choice(["balanced"]), help="Give rare classes more weight. [default: equal]"
    ),
    click.option(
        "--setting",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="A setting of the classifier, such as C=0.1, hidden=128, dropout=0.5, k=7. Repeatable.",
    ),
    HEAD_VIEW,
)


def read_settings(pairs: tuple[str, ...], kind: str) -> dict[str, Any]:
    """Return name -> number (or text) of NAME=VALUE texts, which are settings of a kind of head.

    >>> read_settings(("k=5", "weights=uniform"), "knn")
    {'k': 5, 'weights': 'uniform'}

    Raises:
        UsageError: the kind has no such setting, or does not allow its value.
    """
    from embedx.heads.kinds import check_kind, check_settings

    named = dict(parse_pair(pair, "--setting") for pair in pairs)
    settings = {name: parse_number(value) for name, value in named.items()}
    check_kind(kind)
    check_settings(kind, settings)
    return settings


def one_or_several(label: tuple[str, ...]) -> str | tuple[str, ...]:
    """Return the label column, "label" by default, or several columns."""
    return label if len(label) > 1 else label[0] if label else "label"


def read_models(values: Sequence[str], folders: Sequence[str]) -> dict[str, str]:
    """Return collection -> model of the values of --model; the name "" stands for all collections.

    >>> read_models(["models/beats", "esc=models/ast"], ["indexes/field", "indexes/esc/"])
    {'': 'models/beats', 'esc': 'models/ast'}
    >>> read_models(["onnx:a.onnx?rate=32000"], ["indexes/field"])
    {'': 'onnx:a.onnx?rate=32000'}

    Raises:
        UsageError: two models for the same collections, or an empty one.
    """
    names = {engine_name(name) if is_engine(name) else os.path.basename(os.path.abspath(name)) for name in folders}
    models: dict[str, str] = {}
    for value in values:
        name, _, model = value.partition("=")
        if "=" in value and name not in names and not set("/?") & set(name) and not os.path.exists(value):
            listed = ", ".join(sorted(names))
            raise UsageError(f"--model {value}: there is no collection {name} here. The collections: {listed}.")
        if "=" not in value or name not in names:  # also a path with an equals sign
            name, model = "", value
        if name in models or not model:
            raise UsageError(f"--model {value}: give one model for all collections, or NAME=MODEL once for each.")
        models[name] = model
    return models


def engine_name(url: str) -> str:
    """Return the name of a collection in a search engine."""
    from embedx.engines.places import parse_place

    return parse_place(url).name


def served_places(collections: Sequence[str]) -> dict[str, Any]:
    """Return folders and URLs of search engines as settings of the service."""
    folders = tuple(Path(name) for name in collections if not is_engine(name))
    return {"folders": folders, "engines": tuple(filter(is_engine, collections))}


def agent_folders(files: str | None, clips: str | None, max_bytes: int) -> dict[str, Any]:
    """Return the folders of --files and --clips as settings of the service; the folder for clips is made.

    Raises:
        UsageError: there is no folder of files.
        DiskError: the folder for clips cannot be made.
    """
    from embedx.filesystem.atomic import make_folder
    from embedx.server.shared_folder import SharedFolder

    shared = None if files is None else SharedFolder(files, max_bytes)
    folder = None if clips is None else Path(os.path.abspath(clips))
    if folder is not None:
        make_folder(folder)
    return {"files": shared, "clips": folder}
