"""Files next to the table of results that a report needs.

`predictions/` has one file per key without its fold, `maps/` one file per map of vectors. Both are numpy's npz format
without pickle, with a JSON header. `about.json` holds the commands, versions, protocols and recipes of the runs.
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
    """Predictions of a head for test rows.

    Attributes:
        classes: class names [C].
        truth: class numbers [N]; for multi-label tasks 0 or 1 [N, C].
        proba: probabilities [N, C].
        folds: name of the test fold of each row [N].
        groups: group number of each row [N]; intervals are over groups.
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
    """Write predictions of one or more folds, and keep those of other folds that the file already holds.

    Predictions for other classes are replaced, because the data has changed.

    Args:
        folder: folder of the benchmark.
        key: key of the fit; its fold is ignored.
        predictions: what to write.
    """
    stored = load_predictions(folder, key)
    names = ("truth", "proba", "folds", "groups")
    arrays = {name: getattr(predictions, name) for name in names}
    if stored is not None and stored.classes == predictions.classes:
        kept = ~np.isin(stored.folds, predictions.folds)
        arrays = {name: np.concatenate([getattr(stored, name)[kept], arrays[name]]) for name in names}
    write_arrays(predictions_file(folder, key), {"key": key[:-1], "classes": predictions.classes}, arrays)


def load_predictions(folder: str | Path, key: Key) -> Predictions | None:
    """Return the predictions of all folds of a key, None if there are none.

    Raises:
        UsageError: the file is damaged.
    """
    content = read_arrays(predictions_file(folder, key))
    return content and Predictions(classes=tuple(content[0]["classes"]), **content[1])


def save_map(folder: str | Path, task: str, view: str, vector_map: Map) -> None:
    """Write the map of a task's vectors; `view` names the vectors ("hubert-base L9.mean")."""
    arrays = {"points": vector_map.points, "labels": vector_map.labels}
    write_arrays(map_file(folder, task, view), {"task": task, "view": view, "axes": vector_map.axes}, arrays)


def load_maps(folder: str | Path) -> dict[tuple[str, str], Map]:
    """Return all maps of a folder by task and view.

    Raises:
        UsageError: a file is damaged.
    """
    maps = {}
    for file in sorted(Path(folder, "maps").glob("*.npz")):
        content = read_arrays(file)
        if content:
            header, arrays = content
            maps[header["task"], header["view"]] = Map(axes=tuple(header["axes"]), **arrays)
    return maps


def predictions_file(folder: str | Path, key: Key) -> Path:
    """Return the path of the predictions of a key."""
    return Path(folder, "predictions", f"{hash_names(key[:-1])}.npz")


def map_file(folder: str | Path, task: str, view: str) -> Path:
    """Return the path of a map."""
    return Path(folder, "maps", f"{hash_names([task, view])}.npz")


def hash_names(names: Sequence[object]) -> str:
    """Return a file name for a list of names."""
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:20]


def write_arrays(file: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays with a header, atomically."""
    data = io.BytesIO()
    np.savez_compressed(data, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
    make_folder(file.parent)
    replace_file(file, data.getvalue())


def read_arrays(file: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Return the header and the arrays of a file, None if there is no file."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as archive:
            arrays = dict(archive)
        return json.loads(str(arrays.pop("header"))), arrays
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{file} is damaged ({error}). Remove it and run the benchmark again.") from error


def note_run(
    folder: str | Path,
    *,
    command: str = "",
    versions: Mapping[str, str] | None = None,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
    row_seconds: Mapping[str, float] | None = None,
) -> None:
    """Add facts about a run to `about.json`.

    Args:
        folder: folder of the benchmark.
        command: the command line.
        versions: versions of the libraries, and the machine, by name.
        tasks: by name, with `protocol` (a sentence), `source` and `duplicates` (pairs of paths across the split).
        recipes: by fingerprint.
        row_seconds: mean time to embed a row, by the name of the collection.
    """
    about = read_about(folder)
    if command:
        about["commands"] = [*(known for known in about["commands"] if known != command), command]
    for name, values in (("versions", versions), ("tasks", tasks), ("recipes", recipes), ("row_seconds", row_seconds)):
        about[name] |= values or {}
    make_folder(Path(folder))
    replace_file(Path(folder, ABOUT), dump_json(about).encode())


def read_about(folder: str | Path) -> dict[str, Any]:
    """Return the facts about all runs: commands, versions, tasks, recipes, row_seconds.

    Raises:
        UsageError: the file is damaged.
    """
    empty: dict[str, Any] = {"commands": [], "versions": {}, "tasks": {}, "recipes": {}, "row_seconds": {}}
    try:
        about: dict[str, Any] = json.loads(Path(folder, ABOUT).read_bytes())
        return empty | about
    except FileNotFoundError:
        return empty
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{Path(folder, ABOUT)} is damaged ({error}). Remove it and run the benchmark again."
        ) from error
