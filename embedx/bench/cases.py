"""Cases: a data set and a model -> stored vectors, and how they are split: what all setups on them share."""

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedx.bench.config import Dataset, Model, Plan
from embedx.bench.results import EVERY_LAYER
from embedx.collection.create import extract
from embedx.errors import UsageError
from embedx.evaluation.leakage import Overlap, find_overlap
from embedx.evaluation.splits import SplitOptions, Splits, make_splits
from embedx.evaluation.targets import LabelOptions, Targets, read_targets
from embedx.ingest.pipeline import Progress
from embedx.recipe import Recipe, view_name
from embedx.store.store import Store

COLLECTIONS = "collections"


@dataclass(frozen=True)
class BenchCase:
    """A task with the vectors of one model.

    ids: rows of the collection [N], in an order of their own that no interrupted extraction changes.
    targets, splits: of these rows. duplicates: of each test part, rows with a near-duplicate among the training rows.
    pairs: some of those by path. data: fingerprint of the rows, what they are and how they are split.
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

    @property
    def groups(self) -> NDArray[np.int64]:
        """What must not be parted [N] when something is drawn or chosen among training rows."""
        return np.arange(len(self.ids)) if self.splits.leaky else self.splits.groups

    def views(self, layer: int, pooling: str) -> tuple[str, ...]:
        """Return the views that a setup reads."""
        return tuple(view_name(one, pooling) for one in (self.layers if layer == EVERY_LAYER else [layer]))

    def recipe_of(self, layer: int) -> Recipe:
        """Return what made the vectors of a setup; which others were made in the same pass is no part of it."""
        return replace(self.recipe, layers=self.layers if layer == EVERY_LAYER else (), poolings=())


@functools.lru_cache(maxsize=1)  # setups that read the same vectors follow each other
def load_vectors(folder: str, views: tuple[str, ...], ids: bytes) -> NDArray[np.float32]:
    """Return the vectors [N, D] of rows, `ids` as the bytes of an array; of several views [N, L, D]."""
    with Store(Path(folder)) as store:
        matrices = [read_vectors(store, view, np.frombuffer(ids, np.int64)) for view in views]
    x = matrices[0] if len(matrices) == 1 else np.stack(matrices, axis=1)
    x.setflags(write=False)
    return x


def read_vectors(store: Store, view: str, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vectors [N, D] of rows in the order of `ids`; a store has them in ascending order."""
    order = np.argsort(ids)
    ascending = store.vectors(view, ids[order].tolist())[1]
    vectors = np.empty_like(ascending)
    vectors[order] = ascending
    return vectors


def collect(
    plan: Plan, data: Dataset, model: Model, on_progress: Callable[[Progress], None], interrupted: Callable[[], int]
) -> tuple[str, list[str]]:
    """Embed a data set, or go on with that, and return the collection with what failed, each as a sentence."""
    assert data.preset is not None  # only collections have none
    reads = data.preset.reads(data.data) | ({"label": None} if data.label is not None else {})
    layers = list(plan.layers) if isinstance(plan.layers, tuple) else plan.layers
    folder = plan.out / COLLECTIONS / name_collection(plan, data, model)
    with extract(
        **reads, model=model.model, layers=layers, pooling=plan.pooling, window=plan.window, hop=plan.hop,
        device=plan.device, precision=plan.precision, out=folder, on_progress=on_progress, interrupted=interrupted,
    ) as collection:  # fmt: skip
        failures = [f"{data.name}: {one.detail}" for one in collection.failures()]
    return os.fspath(folder), failures


def name_collection(plan: Plan, data: Dataset, model: Model) -> str:
    """Return the folder of a collection: task, model, and what is asked of the model."""
    layers = plan.layers if isinstance(plan.layers, str) else "-".join(map(str, plan.layers))
    parts = [data.name, model.name, layers, *plan.pooling]
    parts += [f"{seconds:g}s" for seconds in (plan.window, plan.hop) if seconds is not None]
    return re.sub(r"[^\w.+-]+", "-", "-".join(parts)).strip("-.")


def name_model(recipe: Recipe) -> str:
    """Return what the model of a collection is called in results.

    >>> name_model(Recipe("yamnet", "", "", 16000, (0,), ("mean",)))
    'yamnet'
    """
    return os.path.basename(recipe.source) if os.path.isabs(recipe.source) else recipe.source or recipe.extractor


def open_case(plan: Plan, data: Dataset, model: str | None, folder: str) -> BenchCase:
    """Read a collection as a task.

    Raises:
        UsageError: labels, splits, layers or poolings that are asked for are not there, or cannot be used.
    """
    with Store(Path(folder)) as store:
        recipe = store.recipe
        layers, poolings = pick_views(plan, recipe, folder)
        found = store.rows(select_rows(store, data))
        rows = sorted(found, key=lambda row: (row.path, row.start_s, row.stretch, row.id))
        labels = LabelOptions(data.label or "label", separator=data.separator, weak_negatives=data.weak_negatives)
        targets = read_targets(rows, labels)
        splits = make_splits(rows, targets, split_options(plan, data))
        kept = [rows[i] for i in targets.kept]
        ids = np.array([row.id for row in kept], np.int64)
        x = read_vectors(store, view_name(layers[-1], poolings[0]), ids)
        overlaps = {
            part.name: find_overlap(store, kept, x, targets, replace(splits, parts=(part,))) for part in splits.parts
        }
        contents = {path: one.content_hash for path, one in store.recordings().items()}
    return BenchCase(
        task=data.name,
        model=model or name_model(recipe),
        folder=folder,
        recipe=recipe,
        layers=layers,
        poolings=poolings,
        ids=ids,
        targets=targets,
        splits=splits,
        duplicates={name: one.rows for name, one in overlaps.items()},
        pairs=name_pairs(overlaps.values()),
        data=fingerprint([(contents[row.path] or row.path, row.start_s, row.end_s) for row in kept], targets, splits),
    )


def split_options(plan: Plan, data: Dataset) -> SplitOptions:
    """Return how a task is split: at random if the plan says leaky, else as the data set or its preset says."""
    preset = data.preset
    group = data.group or (preset.group if preset else None)
    if plan.leaky:
        return SplitOptions(group=group, leaky=True)
    if preset and not (data.folds or data.split):
        return SplitOptions(folds=preset.folds, split=preset.split, group=group)
    return SplitOptions(folds=data.folds, split=data.split, group=group)


def select_rows(store: Store, data: Dataset) -> list[int] | None:
    """Return the ids of the rows that take part, None for all."""
    conditions = [one for one in (data.preset.where if data.preset else None, data.where) if one]
    if not conditions:
        return None
    ids: list[int] = store.filter(" AND ".join(f"({one})" for one in conditions)).tolist()
    if not ids:
        raise UsageError(f"No row of the task {data.name} meets the condition {' AND '.join(conditions)}.")
    return ids


def pick_views(plan: Plan, recipe: Recipe, folder: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the layers and poolings of a collection that a plan asks for.

    Raises:
        UsageError: they are not in it.
    """
    from embedx.embedding.embedder import pick_layers

    missing = [one for one in plan.pooling if one not in recipe.poolings]
    if missing:
        raise UsageError(f"{folder} has no pooling {missing[0]!r}. It has: {', '.join(recipe.poolings)}.")
    layers = list(plan.layers) if isinstance(plan.layers, tuple) else plan.layers
    return pick_layers(layers, recipe.layers), plan.pooling


def name_pairs(overlaps: Iterable[Overlap]) -> tuple[tuple[str, str], ...]:
    """Return the near-duplicates that the overlaps of test parts name, each pair once, as names of files."""
    found: dict[tuple[str, str], None] = {}
    for one in overlaps:
        for pair in one.pairs:
            first, second = sorted((os.path.basename(pair.path), os.path.basename(pair.like_path)))
            found.setdefault((first, second))
    return tuple(found)


def fingerprint(stretches: Sequence[tuple[str, float, float]], targets: Targets, splits: Splits) -> str:
    """Return a hash of what is learned and tested, wherever the files lie and whatever model hears them."""
    parts = [[part.name, *(one.tolist() for one in (part.train, part.validation, part.test))] for part in splits.parts]
    values = [targets.classes, targets.y.tolist(), targets.weights.tolist(), splits.groups.tolist(), splits.leaky]
    return hashlib.sha256(json.dumps([stretches, values, parts]).encode()).hexdigest()[:16]
