"""Plan: what a benchmark shall run, from options, keywords or a small TOML file, and refused before anything runs.

Options, keywords and keys of the file have the same names and take the same values.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from embedx.bench.head_spec import HeadSpec, read_heads
from embedx.bench.protocols import PROTOCOLS
from embedx.bench.report.projections import How
from embedx.bench.results import Shots
from embedx.datasets.tasks import TASKS, Task, detect_task
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.store.schema import FILE_NAME

MOST_SEEDS = 1000
NAME = re.compile(r"[\w.+-]+")


@dataclass(frozen=True)
class Dataset:
    """A task of the benchmark: where the data is, and what is learned from it.

    data: a folder or manifest to be embedded, or a collection that exists. preset: the known task whose protocol holds.
    label (one column, or several of yes and no), separator, weak_negatives, group, folds, split, where: as
    `Collection.probe` takes them; what is not given is as the preset says.
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
        """Whether its vectors exist already."""
        return os.path.isfile(os.path.join(self.data, FILE_NAME))


@dataclass(frozen=True)
class Model:
    """A model: the name it has in the results, and what `embedx.extract` calls it."""

    name: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a benchmark runs: every model, layer, pooling and head on every task, with so many shots and seeds.

    layers, pooling, window, hop, device, precision: as `embedx.extract` takes them.
    seeds: how often few rows are drawn, and how often a head that begins at random is fitted on all of them.
    jobs: processes that fit heads, one if not given. leaky: random folds of rows; the results carry it.
    map: how the best vectors of each task are shown, "pca" or "umap".
    """

    task: tuple[Dataset, ...]
    model: tuple[Model, ...]
    out: Path
    layers: str | tuple[int, ...] = "all"
    pooling: tuple[str, ...] = ("mean",)
    head: tuple[HeadSpec, ...]
    shots: tuple[Shots, ...]
    seeds: int
    jobs: int | None = None
    leaky: bool = False
    window: float | None = None
    hop: float | None = None
    device: str = "auto"
    precision: str = "auto"
    map: How = "pca"


KEYS = (*(one.name for one in fields(Plan)), "protocol")
OF_A_TASK = ("name", *(one.name for one in fields(Dataset) if one.name not in ("name", "preset")))


def read_plan(file: str | os.PathLike[str], **given: Any) -> Plan:
    """Return the plan in a TOML file; what is given by keyword (and is not None) goes before it.

    Paths in the file are relative to its folder.

    Raises:
        UsageError: the file is not there or no TOML, or `make_plan` refuses what it says.
    """
    name = display_path(os.fspath(file))
    try:
        values = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {name}.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{name} cannot be read as TOML: {error}.") from error
    base = os.path.dirname(os.path.abspath(file))
    return make_plan(base, **values | {key: value for key, value in given.items() if value is not None})


def make_plan(base: str = "", **given: Any) -> Plan:
    """Return a plan.

    Args:
        base: what relative paths of `task`, `model` and `out` lie in; the working folder if not given.
        **given: one of `KEYS` each. task: data sets, each "PATH", "NAME=PATH" or a mapping of `OF_A_TASK`. model: names
            as `embedx.extract` takes them, or "NAME=MODEL". head: kinds, with settings and steps before them as in
            "PCA(128)+knn(k=3)". shots: whole numbers and "all". protocol: a name that stands for shots and seeds.
            Several are a list, or text with commas between (of tasks and models a list alone).

    Raises:
        UsageError: an unknown key or value; the message names what is allowed.
    """
    check_keys(given, KEYS, "a benchmark")
    values = {key: value for key, value in given.items() if value is not None}
    for key in ("task", "out"):
        if key not in values:
            raise UsageError(f"A benchmark needs {key}: {MEANINGS[key]}.")
    protocol = values.pop("protocol", "full")
    if protocol not in PROTOCOLS:
        raise UsageError(f"Unknown protocol {protocol!r}. Protocols: {', '.join(PROTOCOLS)}.")
    values = {"shots": list(PROTOCOLS[protocol].shots), "seeds": PROTOCOLS[protocol].seeds, "head": "logistic"} | values
    tasks = values.pop("task")
    datasets = tuple(read_dataset(one, base) for one in (tasks if isinstance(tasks, list | tuple) else [tasks]))
    models = tuple(read_model(one, base) for one in texts("model", values.pop("model", []), commas=False))
    check_names("task", [one.name for one in datasets])
    check_names("model", [one.name for one in models])
    if not models and not all(one.is_collection for one in datasets):
        raise UsageError("Name a model such as logmel or yamnet (see `embedx models`): only collections have one.")
    read = {key: READERS[key](key, value) for key, value in values.items() if key != "out"}
    return Plan(task=datasets, model=models, out=Path(base, text("out", values["out"])), **read)


def check_keys(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    """Refuse keys that nothing knows."""
    unknown = [key for key in given if key not in known]
    if unknown:
        raise UsageError(f"{what.capitalize()} has no {unknown[0]!r}. It takes: {', '.join(known)}.")


def check_names(what: str, names: Sequence[str]) -> None:
    """See to it that rows of the table can be told apart."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"Two of {what} are called {twice[0]!r}. Give each a name of its own, as in NAME=PATH.")


def read_dataset(given: Any, base: str = "") -> Dataset:
    """Return a data set from "PATH", "NAME=PATH", or a mapping with name, data and more of `OF_A_TASK`."""
    if isinstance(given, Mapping):
        check_keys(given, OF_A_TASK, "a task")
        values = dict(given)
    elif isinstance(given, str | os.PathLike):
        name, path = split_name(os.fspath(given), base)
        values = {"data": path} | ({"name": name} if name else {})
    else:
        raise UsageError(f"A task is {MEANINGS['task']}, not {given!r}.")
    if "data" not in values:
        raise UsageError("A task needs data: the path of a folder, a manifest or a collection.")
    data = os.path.join(base, text("data", values.pop("data")))
    if not os.path.exists(data):
        raise UsageError(f"There is no file or folder {display_path(data)}. A task is {MEANINGS['task']}.")
    name = text("name", values.pop("name")) if "name" in values else ""
    read = {key: OF_TASK[key](key, value) for key, value in values.items()}
    collected = os.path.isfile(os.path.join(data, FILE_NAME))
    known = name if name in TASKS else None if collected else detect_task(data)
    if known is None and not collected:
        raise UsageError(
            f"{display_path(data)} has no labels to learn from. Give a folder per class, a known data set, or a "
            "manifest with "
            "a label; or extract it first (`embedx extract --label`), and give the collection."
        )
    plain = os.path.basename(os.path.abspath(data)) if known in (None, "folder") else Path(data).stem
    named = name or (plain if known in (None, "folder", "manifest") else known)
    return Dataset(named, data, TASKS[known] if known else None, **read)


def read_model(given: str, base: str = "") -> Model:
    """Return a model from "MODEL" or "NAME=MODEL"; of a path, also behind "yamnet:", the last part is its name.

    >>> read_model("tuned=facebook/hubert-base-ls960")
    Model(name='tuned', model='facebook/hubert-base-ls960')
    """
    name, model = split_name(given, base)
    family, colon, place = model.rpartition(":")
    inside = os.path.join(base, place)
    if os.path.exists(inside):
        last = os.path.basename(os.path.abspath(inside))
        return Model(name or family + colon + last, family + colon + inside)
    return Model(name or model, model)


def split_name(given: str, base: str) -> tuple[str, str]:
    """Split NAME=VALUE; a path that exists is left whole."""
    name, equals, value = given.partition("=")
    named = equals and value and NAME.fullmatch(name) and not os.path.exists(os.path.join(base, given))
    return (name, value) if named else ("", given)


# ---- values ----------------------------------------------------------------------------------------------------------


def text(key: str, value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise UsageError(f"{key} takes text, not {value!r}.")
    return os.fspath(value)


def texts(key: str, value: Any, commas: bool = True) -> tuple[str, ...]:
    """Return one or several texts, each once."""
    if isinstance(value, str):
        value = value.split(",") if commas else [value]
    if not isinstance(value, list | tuple):
        raise UsageError(f"{key} takes text, or a list of it, not {value!r}.")
    return tuple(dict.fromkeys(text(key, one.strip() if isinstance(one, str) else one) for one in value))


def one_or_more(key: str, value: Any) -> str | tuple[str, ...]:
    """Return the name of one column, or of several."""
    found = texts(key, value, commas=False)
    return found[0] if len(found) == 1 else found


def flag(key: str, value: Any) -> bool:
    """Return yes or no."""
    if not isinstance(value, bool):
        raise UsageError(f"{key} takes true or false, not {value!r}.")
    return value


def number(key: str, value: Any) -> float:
    """Return a number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise UsageError(f"{key} takes a number from 0 on, not {value!r}.")
    return float(value)


def whole(key: str, value: Any) -> int:
    """Return a number of seeds or jobs."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_SEEDS:
        raise UsageError(f"{key} takes a whole number from 1 to {MOST_SEEDS}, not {value!r}.")
    return value


def layers(key: str, value: Any) -> str | tuple[int, ...]:
    """Return "all", "last", or numbers.

    >>> layers("layers", "0,-1"), layers("layers", 3)
    ((0, -1), (3,))
    """
    if value in ("all", "last"):
        return str(value)
    several = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        if any(isinstance(one, bool | float) for one in several):
            raise ValueError
        return tuple(int(one) for one in several)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{key} takes all, last, or whole numbers such as 0,6,-1, not {value!r}.") from error


def shots(key: str, value: Any) -> tuple[Shots, ...]:
    """Return numbers of training rows per class, ascending, "all" behind them.

    >>> shots("shots", "4,all,1")
    (1, 4, 'all')
    """
    several = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    found: set[Shots] = set()
    for one in several:
        plain = str(one).strip()
        if plain not in get_args(get_args(Shots)[1]) and not (plain.isdecimal() and int(plain)):
            raise UsageError(f"{key} takes whole numbers from 1 on, and all, such as 1,2,4,8,all; not {one!r}.")
        found.add("all" if plain == "all" else int(plain))
    if not found:
        raise UsageError(f"{key} needs a number, or all.")
    return tuple(sorted(found, key=lambda one: (one == "all", one)))


def way(key: str, value: Any) -> str:
    """Return how a map is made."""
    if value not in get_args(How):
        raise UsageError(f"{key} takes {' or '.join(get_args(How))}, not {value!r}.")
    if value == "umap" and find_spec("umap") is None:
        raise UsageError("A UMAP needs umap-learn: pip install umap-learn. A PCA needs nothing more.")
    return str(value)


MEANINGS = {
    "task": 'a folder, a manifest or a collection, "NAME=PATH" where NAME may be a known task '
    f"({', '.join(TASKS)}), or a table with data and any of {', '.join(OF_A_TASK)}",
    "out": "the folder that the results go to",
}
READERS: dict[str, Callable[[str, Any], Any]] = {
    "layers": layers, "pooling": texts, "head": lambda key, value: read_heads(value), "shots": shots, "seeds": whole,
    "jobs": whole, "leaky": flag, "window": number, "hop": number, "device": text, "precision": text,
    "map": way,
}  # fmt: skip
OF_TASK: dict[str, Callable[[str, Any], Any]] = {
    "label": one_or_more, "separator": text, "weak_negatives": number, "group": text, "folds": text, "split": text,
    "where": text,
}  # fmt: skip
