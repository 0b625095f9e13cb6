"""Evidence: what the figures of a report need beyond the table of results, in files beside it.

`predictions/` has a file for every key without its fold, `maps/` one for every picture of vectors; they are numpy's npz
without pickle, with a header in JSON. `about.json` says what no number says: commands, versions, protocols, recipes.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.bench.results import Key
from embedx.errors import UsageError
from embedx.filesystem.atomic import make_folder, replace_file
from embedx.text import dump_json

ABOUT = "about.json"


@dataclass(frozen=True)
class Predictions:
    """What a head said of test rows.

    classes: their names [C]. proba: [N, C] from 0 to 1. folds: the test part of each row [N].
    truth: class numbers [N]; with several labels per row 0 or 1 [N, C].
    groups: numbers of what belongs together [N], so that intervals resample it together.
    """

    classes: tuple[str, ...]
    truth: NDArray[np.int64]
    proba: NDArray[np.float32]
    folds: NDArray[np.str_]
    groups: NDArray[np.int64]

    @property
    def multilabel(self) -> bool:
        """Whether a row may have several labels."""
        return self.truth.ndim == 2


@dataclass(frozen=True)
class Map:
    """Vectors in two dimensions: points [N, 2], their labels [N], and the names of the two axes."""

    points: NDArray[np.float32]
    labels: NDArray[np.str_]
    axes: tuple[str, str]


def save_predictions(folder: str | Path, key: Key, predictions: Predictions) -> None:
    """Write predictions of one or several folds; folds of the same key that were written before are kept.

    `key.fold` is not looked at. What was written for other classes is replaced, since the corpus was another.
    """
    old = load_predictions(folder, key)
    names = ("truth", "proba", "folds", "groups")
    arrays = {name: getattr(predictions, name) for name in names}
    if old is not None and old.classes == predictions.classes:
        kept = ~np.isin(old.folds, predictions.folds)
        arrays = {name: np.concatenate([getattr(old, name)[kept], arrays[name]]) for name in names}
    write_arrays(predictions_file(folder, key), {"key": key[:-1], "classes": predictions.classes}, arrays)


def load_predictions(folder: str | Path, key: Key) -> Predictions | None:
    """Return the predictions of all folds of a key, None where there are none.

    Raises:
        UsageError: the file is damaged.
    """
    found = read_arrays(predictions_file(folder, key))
    return found and Predictions(classes=tuple(found[0]["classes"]), **found[1])


def save_map(folder: str | Path, task: str, view: str, picture: Map) -> None:
    """Write the map of a task's vectors; `view` says whose they are ("hubert-base L9.mean")."""
    arrays = {"points": picture.points, "labels": picture.labels}
    write_arrays(map_file(folder, task, view), {"task": task, "view": view, "axes": picture.axes}, arrays)


def load_maps(folder: str | Path) -> dict[tuple[str, str], Map]:
    """Return all maps of a folder by task and view."""
    maps = {}
    for file in sorted(Path(folder, "maps").glob("*.npz")):
        found = read_arrays(file)
        if found:
            maps[found[0]["task"], found[0]["view"]] = Map(axes=tuple(found[0]["axes"]), **found[1])
    return maps


def predictions_file(folder: str | Path, key: Key) -> Path:
    """Return where the predictions of a key are."""
    return Path(folder, "predictions", f"{digest(key[:-1])}.npz")


def map_file(folder: str | Path, task: str, view: str) -> Path:
    """Return where a map is."""
    return Path(folder, "maps", f"{digest([task, view])}.npz")


def digest(names: Sequence[object]) -> str:
    """Return a file name for a list of names."""
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:20]


def write_arrays(file: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays with a header, whole or not at all."""
    data = io.BytesIO()
    np.savez_compressed(data, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
    make_folder(file.parent)
    replace_file(file, data.getvalue())


def read_arrays(file: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Return the header and the arrays of a file, None where it is missing."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as opened:
            arrays = dict(opened)
        return json.loads(str(arrays.pop("header"))), arrays
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{file} is damaged ({error}). Remove it, and run the benchmark again to make it anew."
        ) from error


def note_run(
    folder: str | Path,
    *,
    command: str = "",
    versions: Mapping[str, str] | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Add to `about.json` what a run wants the report to say.

    command: what was typed. versions: of the libraries and the machine, by name. recipes: by fingerprint.
    tasks: by name, with `protocol` (a sentence), `source` and `duplicates` (pairs of paths across the split).
    """
    about = read_about(folder)
    if command:
        about["commands"] = [*(one for one in about["commands"] if one != command), command]
    for name, values in (("versions", versions), ("tasks", tasks), ("recipes", recipes)):
        about[name] |= values or {}
    make_folder(Path(folder))
    replace_file(Path(folder, ABOUT), dump_json(about).encode())


def read_about(folder: str | Path) -> dict[str, Any]:
    """Return what runs noted: commands, versions, tasks, recipes.

    Raises:
        UsageError: the file is damaged.
    """
    empty: dict[str, Any] = {"commands": [], "versions": {}, "tasks": {}, "recipes": {}}
    try:
        found: dict[str, Any] = json.loads(Path(folder, ABOUT).read_bytes())
        return empty | found
    except FileNotFoundError:
        return empty
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{Path(folder, ABOUT)} is damaged ({error}). Remove it, and run the benchmark again."
        ) from error
