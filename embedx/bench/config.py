"""The plan of a benchmark: from command-line options, keywords or a TOML file, checked before anything runs.

Options, keywords and keys of the file have the same names and values.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from embedx.bench.finetune_spec import SCRATCH, FinetuneSpec, read_finetunes
from embedx.bench.head_spec import HeadSpec, read_heads
from embedx.bench.protocols import PROTOCOLS
from embedx.bench.report.projections import METHODS, Method, check_umap
from embedx.bench.results import Shots
from embedx.bench.zero_shot_spec import ZeroShotSpec, read_zero_shot
from embedx.datasets.tasks import TASKS, Task, detect_task
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.store.schema import FILE_NAME

MAX_COUNT = 1000  # seeds and jobs; more are a typing error
NAME = re.compile(r"[\w.+-]+")  # what may stand before the "=" of NAME=PATH


@dataclass(frozen=True)
class Dataset:
    """A task of the benchmark: the data, and the labels to learn.

    Attributes:
        name: the name in the results.
        data: a folder or manifest to extract, or an existing collection.
        preset: the known task that gives the defaults of the following fields.
        label: the label column, or several yes/no columns.
        separator, weak_negatives, group, folds, split, where: as in `Collection.probe`.
    """

    name: str
    data: str
    preset: Task | None = None
    label: str | tuple[str, ...] | None = None
    separator: str | None = None
    weak_negatives: float = 0.0
    group: str | None = None
    folds: str | None = None
    split: str | None = None
    where: str | None = None

    @property
    def is_collection(self) -> bool:
        """Whether the data is a collection, which already has vectors."""
        return os.path.isfile(os.path.join(self.data, FILE_NAME))


@dataclass(frozen=True)
class Model:
    """A model: its name in the results, its name for `embedx.extract`, and whether the user named it in this call."""

    name: str
    model: str
    trusted: bool = True

    @property
    def from_scratch(self) -> bool:
        """Whether the model has random weights: it must be trained, and has no vectors."""
        return self.model.startswith(SCRATCH)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a benchmark runs: every model, layer, pooling and head on every task.

    Attributes:
        task: the tasks.
        model: the models.
        out: the folder of the results.
        layers, pooling, window, hop, device, precision: as in `embedx.extract`.
        head: the heads.
        finetune: the ways in which the models are fine-tuned, for a comparison with the heads.
        zero_shot: how labels become prompts for models that name classes without training; None: no zero-shot.
        shots: training rows per class, or "all".
        seeds: number of samples of few rows; also the number of fits of heads with random initial weights.
        jobs: number of processes that fit heads; None: one.
        leaky: split rows at random, ignoring groups; scores will be inflated.
        map: method for the map of the best vectors of each task, "pca" or "umap".
    """

    task: tuple[Dataset, ...]
    model: tuple[Model, ...]
    out: Path
    layers: str | tuple[int, ...] = "all"
    pooling: tuple[str, ...] = ("mean",)
    head: tuple[HeadSpec, ...]
    finetune: tuple[FinetuneSpec, ...] = ()
    zero_shot: ZeroShotSpec | None = None
    shots: tuple[Shots, ...]
    seeds: int
    jobs: int | None = None
    leaky: bool = False
    window: float | None = None
    hop: float | None = None
    device: str = "auto"
    precision: str = "auto"
    map: Method = "pca"


KEYS = (*(option.name for option in fields(Plan)), "protocol", "prompt")
TASK_KEYS = tuple(option.name for option in fields(Dataset) if option.name != "preset")


def read_plan(file: str | os.PathLike[str], **options: Any) -> Plan:
    """Return the plan in a TOML file.

    Args:
        file: the path of the file. Paths in the file are relative to its folder.
        **options: see `make_plan`; a value that is not None replaces the one in the file. Only a model that is given
            here may be code outside embedx, or be downloaded.

    Raises:
        UsageError: the file does not exist or is not TOML, or it has an unknown key or value.
    """
    name = display_path(os.fspath(file))
    try:
        values = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {name}.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{name} cannot be read as TOML: {error}.") from error
    base = os.path.dirname(os.path.abspath(file))
    given = {key: value for key, value in options.items() if value is not None}
    return build_plan(base, values | given, trust_model="model" in given)


def make_plan(base: str = "", **options: Any) -> Plan:
    """Return a plan.

    Args:
        base: folder of relative paths in `task`, `model` and `out`; default: the working directory.
        task: data sets, each "PATH", "NAME=PATH", or a mapping with the keys `TASK_KEYS`. Required.
        out: the folder of the results. Required.
        model: names as in `embedx.extract`, or "NAME=MODEL". Required unless all tasks are collections.
        head: heads, with settings and preprocessing steps as in "PCA(128)+knn(k=3)"; default "logistic".
        finetune: ways in which the models are fine-tuned, such as "full" and "lora(epochs=5)"; default none, and "full"
            for models from scratch.
        zero_shot: also score the labels by their names, without training: True, or a text such as
            "dog=dog barking|growl" with the prompts of labels that are not their own prompt. Default: no.
        prompt: with zero_shot, a sentence with {} in the place of a prompt, or several; see `embedx.predict`.
        shots: numbers of training rows per class, or "all"; default "all".
        seeds: number of samples of few rows; default 1.
        protocol: a name for shots and seeds, one of `embedx.bench.protocols.PROTOCOLS`; default "full".
        **options: these and the other fields of `Plan`. Several values are a list, or a text with commas (tasks and
            models: a list).

    Raises:
        UsageError: there is an unknown key or value.
    """
    return build_plan(base, options, trust_model=True)


def build_plan(base: str, options: Mapping[str, Any], *, trust_model: bool) -> Plan:
    """Return a plan; see `make_plan`. Without `trust_model`, a file names the models, and not the user in this call."""
    check_keys(options, KEYS, "A benchmark")
    values = {key: value for key, value in options.items() if value is not None}
    for key in ("task", "out"):
        if key not in values:
            raise UsageError(f"A benchmark needs {key} (--{key}): {DESCRIPTIONS[key]}.")
    protocol = values.pop("protocol", "full")
    if protocol not in PROTOCOLS:
        raise UsageError(f"Unknown protocol {protocol!r}. Protocols: {', '.join(PROTOCOLS)}.")
    values = {"shots": list(PROTOCOLS[protocol].shots), "seeds": PROTOCOLS[protocol].seeds, "head": "logistic"} | values
    tasks = values.pop("task")
    datasets = tuple(read_dataset(task, base) for task in (tasks if isinstance(tasks, list | tuple) else [tasks]))
    models = tuple(
        read_model(model, base, trust_model) for model in read_texts("model", values.pop("model", []), commas=False)
    )
    check_names("task", [dataset.name for dataset in datasets])
    check_names("model", [model.name for model in models])
    if not models and not all(dataset.is_collection for dataset in datasets):
        raise UsageError(
            "A benchmark on audio needs a model (--model), such as logmel or yamnet. `embedx models` lists them."
        )
    zero_shot = read_zero_shot(values.pop("zero_shot", None), values.pop("prompt", None))
    parsed = {key: READERS[key](key, value) for key, value in values.items() if key != "out"}
    out = Path(base, read_text("out", values["out"]))
    return Plan(task=datasets, model=models, out=out, zero_shot=zero_shot, **parsed)


def check_keys(values: Mapping[str, Any], known: Sequence[str], owner: str) -> None:
    """Raise UsageError if there is an unknown key."""
    unknown = [key for key in values if key not in known]
    if unknown:
        raise UsageError(f"{owner} has no option {unknown[0]!r}. Options: {', '.join(known)}.")


def check_names(kind: str, names: Sequence[str]) -> None:
    """Raise UsageError if two tasks or models have the same name, because the table could not distinguish them."""
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UsageError(f"Two {kind}s have the name {repeated[0]!r}. Give them different names, as in NAME=PATH.")


def read_dataset(task: Any, base: str = "") -> Dataset:
    """Return a data set from "PATH", "NAME=PATH", or a mapping with the keys `TASK_KEYS`."""
    values = read_task_values(task, base)
    if "data" not in values:
        raise UsageError("A task needs data: the path of a folder, a manifest or a collection.")
    data = os.path.join(base, read_text("data", values.pop("data")))
    if not os.path.exists(data):
        raise UsageError(f"There is no file or folder {display_path(data)}. A task is {DESCRIPTIONS['task']}.")
    name = read_text("name", values.pop("name")) if "name" in values else ""
    parsed = {key: TASK_READERS[key](key, value) for key, value in values.items()}
    is_collection = os.path.isfile(os.path.join(data, FILE_NAME))
    preset = name if name in TASKS else None if is_collection else detect_task(data)
    if preset is None and not is_collection:
        raise UsageError(
            f"{display_path(data)} has no labels. Give a folder with one subfolder per class, a known data set, or a "
            "manifest with a label column; or extract it first (`embedx extract --label`) and give the collection."
        )
    file_name = os.path.basename(os.path.abspath(data)) if preset in (None, "folder") else Path(data).stem
    default = file_name if preset in (None, "folder", "manifest") else preset
    return Dataset(name or default, data, TASKS[preset] if preset else None, **parsed)


def read_task_values(task: Any, base: str) -> dict[str, Any]:
    """Return the values of a task by their keys."""
    if isinstance(task, Mapping):
        check_keys(task, TASK_KEYS, "A task")
        return dict(task)
    if isinstance(task, str | os.PathLike):
        name, path = split_name(os.fspath(task), base)
        return {"data": path} | ({"name": name} if name else {})
    raise UsageError(f"A task is {DESCRIPTIONS['task']}, not {task!r}.")


def read_model(text: str, base: str = "", trusted: bool = True) -> Model:
    """Return a model from "MODEL" or "NAME=MODEL"; the default name of a path (also in "yamnet:PATH") is its last part.

    >>> read_model("tuned=facebook/hubert-base-ls960")
    Model(name='tuned', model='facebook/hubert-base-ls960', trusted=True)
    """
    name, model = split_name(text, base)
    family, colon, source = model.rpartition(":")
    path = os.path.join(base, source)
    if os.path.exists(path):
        last = os.path.basename(os.path.abspath(path))
        return Model(name or family + colon + last, family + colon + path, trusted)
    return Model(name or model, model, trusted)


def split_name(text: str, base: str) -> tuple[str, str]:
    """Split NAME=VALUE; the path of an existing file is not split."""
    name, equals, value = text.partition("=")
    has_name = equals and value and NAME.fullmatch(name) and not os.path.exists(os.path.join(base, text))
    return (name, value) if has_name else ("", text)


# ---- values ----------------------------------------------------------------------------------------------------------


def read_text(key: str, value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise UsageError(f"{key} takes a text, not {value!r}.")
    return os.fspath(value)


def read_texts(key: str, value: Any, commas: bool = True) -> tuple[str, ...]:
    """Return one or more texts without repetitions."""
    if isinstance(value, str):
        value = value.split(",") if commas else [value]
    if not isinstance(value, list | tuple):
        raise UsageError(f"{key} takes a text or a list of texts, not {value!r}.")
    return tuple(dict.fromkeys(read_text(key, part.strip() if isinstance(part, str) else part) for part in value))


def read_columns(key: str, value: Any) -> str | tuple[str, ...]:
    """Return the name of one column, or the names of several."""
    columns = read_texts(key, value, commas=False)
    return columns[0] if len(columns) == 1 else columns


def read_flag(key: str, value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{key} takes true or false, not {value!r}.")
    return value


def read_number(key: str, value: Any) -> float:
    """Return a number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise UsageError(f"{key} takes a number of at least 0, not {value!r}.")
    return float(value)


def read_count(key: str, value: Any) -> int:
    """Return a number of seeds or jobs."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COUNT:
        raise UsageError(f"{key} takes an integer from 1 to {MAX_COUNT}, not {value!r}.")
    return value


def read_layers(key: str, value: Any) -> str | tuple[int, ...]:
    """Return "all", "last", or layer numbers.

    >>> read_layers("layers", "0,-1"), read_layers("layers", 3)
    ((0, -1), (3,))
    """
    if value in ("all", "last"):
        return str(value)
    parts = split_list(value)
    try:
        if any(isinstance(part, bool | float) for part in parts):
            raise ValueError
        return tuple(int(part) for part in parts)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{key} takes all, last, or integers such as 0,6,-1, not {value!r}.") from error


def read_shots(key: str, value: Any) -> tuple[Shots, ...]:
    """Return numbers of training rows per class in ascending order, then "all".

    >>> read_shots("shots", "4,all,1")
    (1, 4, 'all')
    """
    shots: set[Shots] = set()
    for part in split_list(value):
        text = str(part).strip()
        if text != "all" and not (text.isdecimal() and int(text)):
            raise UsageError(f"{key} takes integers of at least 1, and all, such as 1,2,4,8,all; not {part!r}.")
        shots.add("all" if text == "all" else int(text))
    if not shots:
        raise UsageError(f"{key} is empty. Give at least one number, or all.")
    return tuple(sorted(shots, key=lambda size: (size == "all", size)))


def split_list(value: Any) -> Sequence[Any]:
    """Return the parts of a text with commas, the items of a list, or a single value as a list."""
    return value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]


def read_method(key: str, value: Any) -> str:
    """Return the method of a map."""
    if value not in METHODS:
        raise UsageError(f"{key} takes {' or '.join(METHODS)}, not {value!r}.")
    if value == "umap":
        check_umap()
    return str(value)


DESCRIPTIONS = {
    "task": "the path of a folder, a manifest or a collection, or NAME=PATH. These names select a known task: "
    f"{', '.join(TASKS)}. In a configuration file, a task can also be a table with the key data, and optionally "
    f"{', '.join(key for key in TASK_KEYS if key != 'data')}",
    "out": "the folder of the results",
}
READERS: dict[str, Callable[[str, Any], Any]] = {
    "layers": read_layers,
    "pooling": read_texts,
    "head": lambda key, value: read_heads(value),
    "finetune": lambda key, value: read_finetunes(value),
    "shots": read_shots,
    "seeds": read_count,
    "jobs": read_count,
    "leaky": read_flag,
    "window": read_number,
    "hop": read_number,
    "device": read_text,
    "precision": read_text,
    "map": read_method,
}
TASK_READERS: dict[str, Callable[[str, Any], Any]] = {
    "label": read_columns,
    "separator": read_text,
    "weak_negatives": read_number,
    "group": read_text,
    "folds": read_text,
    "split": read_text,
    "where": read_text,
}
