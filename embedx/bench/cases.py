"""Cases: a data set and a model -> stored vectors, labels and splits, which all setups share."""

import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedx.bench.artifacts import note_run, read_about
from embedx.bench.config import Dataset, Model, Plan
from embedx.bench.finetune_spec import SCRATCH
from embedx.bench.results import EVERY_LAYER
from embedx.collection.create import extract
from embedx.errors import UsageError
from embedx.evaluation.cross_validation import read_vectors, sort_rows
from embedx.evaluation.leakage import Overlap, find_overlap
from embedx.evaluation.splits import SplitOptions, Splits, make_splits
from embedx.evaluation.targets import LabelOptions, Targets, read_targets
from embedx.ingest.pipeline import Progress
from embedx.recipe import Recipe, view_name
from embedx.store.store import Store

COLLECTIONS = "collections"  # the folder of the collections, in the folder of the benchmark


@dataclass(frozen=True)
class BenchCase:
    """A task with the vectors of one model.

    Attributes:
        task: name of the task.
        model: name of the model in the results.
        folder: folder of the collection.
        recipe: recipe of the collection.
        layers, poolings: the views that are compared.
        ids: row ids [N] in the order of paths and times, which does not depend on the order of extraction.
        targets: labels of these rows.
        splits: training and test parts of these rows.
        duplicates: test part -> number of its rows that look like a training row.
        pairs: examples of rows that look alike, as pairs of file names.
        data: fingerprint of the rows, their labels and the splits.
        source: the model as `embedx finetune --model` takes it.
        row_seconds: mean time to embed a row; None if it is not known.
    """

    task: str
    model: str
    folder: str
    recipe: Recipe
    layers: tuple[int, ...]
    poolings: tuple[str, ...]
    ids: NDArray[np.int64]
    targets: Targets
    splits: Splits
    duplicates: Mapping[str, int]
    pairs: tuple[tuple[str, str], ...]
    data: str
    source: str = ""
    row_seconds: float | None = None

    @property
    def groups(self) -> NDArray[np.int64]:
        """The group [N] of each row; samples and inner folds of the training rows do not divide a group."""
        return np.arange(len(self.ids)) if self.splits.leaky else self.splits.groups

    def views(self, layer: int, pooling: str) -> tuple[str, ...]:
        """Return the names of the views that a setup reads."""
        return tuple(view_name(number, pooling) for number in (self.layers if layer == EVERY_LAYER else [layer]))

    def embedding_seconds(self, rows: int) -> float | None:
        """Return the time to embed a number of rows; None if it is not known."""
        return None if self.row_seconds is None else round(self.row_seconds * rows, 4)

    @property
    def from_scratch(self) -> bool:
        """Whether the model has random weights; then the vectors are of another model, and only the rows count."""
        return self.source.startswith(SCRATCH)

    @property
    def model_fingerprint(self) -> str:
        """What identifies the model that is fine-tuned: its weights, or the name of a model from scratch."""
        return self.source if self.from_scratch else replace(self.recipe, layers=(), poolings=()).fingerprint

    def recipe_of(self, layer: int) -> Recipe:
        """Return the recipe of the vectors of a setup, without the other layers and poolings of the collection."""
        return replace(self.recipe, layers=self.layers if layer == EVERY_LAYER else (), poolings=())


@functools.lru_cache(maxsize=1)  # consecutive jobs read the same vectors
def load_vectors(folder: str, views: tuple[str, ...], ids: bytes) -> NDArray[np.float32]:
    """Return the vectors [N, D] of rows, or [N, L, D] for several views; `ids` are the bytes of an int64 array."""
    with Store(Path(folder)) as store:
        matrices = [read_vectors(store, view, np.frombuffer(ids, np.int64)) for view in views]
    x = matrices[0] if len(matrices) == 1 else np.stack(matrices, axis=1)
    x.setflags(write=False)
    return x


def collect(
    plan: Plan, data: Dataset, model: Model, on_progress: Callable[[Progress], None], interrupted: Callable[[], int]
) -> tuple[str, list[str]]:
    """Extract a data set, or continue an extraction, and return the collection's folder and a sentence per failure."""
    assert data.preset is not None  # only collections have no preset
    progress: list[Progress] = []

    def note(state: Progress) -> None:
        progress[:] = [state]
        on_progress(state)

    started = time.monotonic()
    source = data.preset.reads(data.data) | ({"label": None} if data.label is not None else {})
    folder = plan.out / COLLECTIONS / name_collection(plan, data, model)
    with extract(
        **source,
        model=model.model,
        trust_model=model.trusted,
        layers=plan.layers,
        pooling=plan.pooling,
        window=plan.window,
        hop=plan.hop,
        device=plan.device,
        precision=plan.precision,
        out=folder,
        on_progress=note,
        interrupted=interrupted,
    ) as collection:
        failures = [f"{data.name}: {failure.detail}" for failure in collection.failures()]
    if progress and progress[0].windows:
        note_run(plan.out, row_seconds={folder.name: (time.monotonic() - started) / progress[0].windows})
    return os.fspath(folder), failures


def name_collection(plan: Plan, data: Dataset, model: Model) -> str:
    """Return the name of a collection's folder, from the task, the model, and the options of the extraction."""
    layers = plan.layers if isinstance(plan.layers, str) else "-".join(map(str, plan.layers))
    parts = [data.name, model.name, layers, *plan.pooling]
    parts += [f"{seconds:g}s" for seconds in (plan.window, plan.hop) if seconds is not None]
    return re.sub(r"[^\w.+-]+", "-", "-".join(parts)).strip("-.")


def name_model(recipe: Recipe) -> str:
    """Return the name of a collection's model in the results.

    >>> name_model(Recipe("yamnet", "", "", 16000, (0,), ("mean",)))
    'yamnet'
    """
    return os.path.basename(recipe.source) if os.path.isabs(recipe.source) else recipe.source or recipe.extractor


def open_case(plan: Plan, data: Dataset, model: Model | None, folder: str) -> BenchCase:
    """Read a collection as a task; `model` is the one that it was made for, None for a collection of the user.

    Raises:
        UsageError: the labels, splits, layers or poolings of the plan are missing or unusable.
    """
    with Store(Path(folder)) as store, store.snapshot():
        store.require_rows()
        recipe = store.recipe
        layers, poolings = pick_views(plan, recipe, folder)
        rows = sort_rows(store.rows(select_rows(store, data)))
        labels = LabelOptions(data.label or "label", separator=data.separator, weak_negatives=data.weak_negatives)
        targets = read_targets(rows, labels)
        splits = make_splits(rows, targets, split_options(plan, data))
        kept = [rows[i] for i in targets.kept]
        ids = np.array([row.id for row in kept], np.int64)
        x = read_vectors(store, view_name(layers[-1], poolings[0]), ids)
        overlap = find_overlap(store, kept, x, targets, splits)
        hashes = {path: recording.content_hash for path, recording in store.recordings().items()}
    return BenchCase(
        task=data.name,
        model=model.name if model else name_model(recipe),
        folder=folder,
        recipe=recipe,
        layers=layers,
        poolings=poolings,
        ids=ids,
        targets=targets,
        splits=splits,
        duplicates=overlap.by_part,
        pairs=list_pairs(overlap),
        data=fingerprint([(hashes[row.path] or row.path, row.start_s, row.end_s) for row in kept], targets, splits),
        source=model.model if model else recipe.source,
        row_seconds=read_about(plan.out)["row_seconds"].get(os.path.basename(folder)) if model else None,
    )


def split_options(plan: Plan, data: Dataset) -> SplitOptions:
    """Return how a task is split: at random for a leaky plan, else as the data set or its preset defines."""
    preset = data.preset
    group = data.group or (preset.group if preset else None)
    if plan.leaky:
        return SplitOptions(group=group, leaky=True)
    if preset and not (data.folds or data.split):
        return SplitOptions(folds=preset.folds, split=preset.split, group=group)
    return SplitOptions(folds=data.folds, split=data.split, group=group)


def select_rows(store: Store, data: Dataset) -> list[int] | None:
    """Return the ids of the rows that match the conditions of a task, None for all rows."""
    conditions = [condition for condition in (data.preset.where if data.preset else None, data.where) if condition]
    if not conditions:
        return None
    ids: list[int] = store.filter(" AND ".join(f"({condition})" for condition in conditions)).tolist()
    if not ids:
        raise UsageError(f"No row of the task {data.name} matches the condition {' AND '.join(conditions)}.")
    return ids


def pick_views(plan: Plan, recipe: Recipe, folder: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the layers and poolings of a plan in a collection.

    Raises:
        UsageError: the collection does not have them.
    """
    from embedx.embedding.embedder import pick_layers

    missing = [pooling for pooling in plan.pooling if pooling not in recipe.poolings]
    if missing:
        raise UsageError(f"{folder} has no pooling {missing[0]!r}. It has: {', '.join(recipe.poolings)}.")
    return pick_layers(plan.layers, recipe.layers), plan.pooling


def list_pairs(overlap: Overlap) -> tuple[tuple[str, str], ...]:
    """Return the pairs of rows that look alike as pairs of file names, without repetitions."""
    pairs: dict[tuple[str, str], None] = {}
    for pair in overlap.pairs:
        first, second = sorted((os.path.basename(pair.path), os.path.basename(pair.like_path)))
        pairs.setdefault((first, second))
    return tuple(pairs)


def fingerprint(stretches: Sequence[tuple[str, float, float]], targets: Targets, splits: Splits) -> str:
    """Return a hash of the rows, their labels and the splits; it does not depend on file locations or the model.

    Args:
        stretches: content hash of the file, start and end in seconds of each row.
        targets: the labels.
        splits: the splits.
    """
    parts = [
        [part.name, *(rows.tolist() for rows in (part.train, part.validation, part.test))] for part in splits.parts
    ]
    values = [targets.classes, targets.y.tolist(), targets.weights.tolist(), splits.groups.tolist(), splits.leaky]
    return hashlib.sha256(json.dumps([stretches, values, parts]).encode()).hexdigest()[:16]
