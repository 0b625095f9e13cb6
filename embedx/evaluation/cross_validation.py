"""Cross-validation: stored rows, labels and a split -> predictions for rows that the heads were not trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.leakage import Overlap, find_overlap
from embedx.evaluation.splits import (
    NO_ROWS,
    NotEnoughGroups,
    Positions,
    Split,
    SplitOptions,
    Splits,
    make_splits,
    stratified,
    unsplit,
)
from embedx.evaluation.targets import LabelOptions, Targets, read_targets
from embedx.heads.fitting import fit as fit_head
from embedx.heads.head import Head
from embedx.heads.options import HeadOptions
from embedx.metrics.report import Metrics
from embedx.metrics.scoring import evaluate
from embedx.recipe import check_view
from embedx.store.records import Row
from embedx.store.store import Store

LEAKY = "LEAKY: rows of one recording or group are in both training and test rows; these scores are inflated"


@dataclass(frozen=True)
class Copies:
    """Vectors of altered copies of rows, to train on where their row is trained on.

    Attributes:
        x: vectors [M, D]; for several views [M, L, D].
        of: [M] the position of the row that each is a copy of.
    """

    x: NDArray[np.float32]
    of: Positions


@dataclass(frozen=True)
class LabelledVectors:
    """N vectors with their classes and their split.

    Attributes:
        views: the views that the vectors are of.
        x: vectors [N, D]; for several views [N, L, D], in the order of `views`.
        targets: the classes of the rows.
        splits: the training and test parts.
        copies: altered copies of rows; None if there are none.
    """

    views: tuple[str, ...]
    x: NDArray[np.float32]
    targets: Targets
    splits: Splits
    copies: Copies | None = field(default=None, kw_only=True)

    @property
    def development(self) -> Positions:
        """The rows that the final head may learn from: all rows of the folds, or all but a test part of its own."""
        if len(self.splits.parts) == 1:
            return np.sort(self.splits.parts[0].learned)
        return np.sort(np.concatenate([part.test for part in self.splits.parts]))


@dataclass(frozen=True)
class Experiment(LabelledVectors):
    """Labelled vectors of stored rows.

    Attributes:
        label: the name of the label column; several with commas between them.
        rows: the N stored rows.
        overlap: test rows that look like a training row.
    """

    label: str
    rows: tuple[Row, ...]
    overlap: Overlap


@dataclass(frozen=True)
class HeldOutPredictions:
    """Predictions for M rows by heads that were not trained on them.

    Attributes:
        positions: [M] positions of the rows in the labelled vectors, each once.
        parts: [M] the name of the test part of each row.
        logits: [M, C].
        proba: probabilities [M, C], not calibrated.
        heads: the head of each part.
    """

    positions: Positions
    parts: NDArray[np.str_]
    logits: NDArray[np.float64]
    proba: NDArray[np.float64]
    heads: tuple[Head, ...]


Fit = Callable[[Positions, Positions], Head]  # (rows to train on, rows to make choices by) -> head


def build_experiment(
    store: Store,
    views: Sequence[str],
    labels: LabelOptions,
    split: SplitOptions,
    *,
    ids: Sequence[int] | None = None,
    must_split: bool = True,
) -> Experiment:
    """Read rows, targets and vectors, and split them.

    Args:
        store: the store of the collection.
        views: the views to read.
        labels: which column holds the labels.
        split: how to split the rows.
        ids: the rows to use; all if None.
        must_split: if False, and there are too few groups to split, use one part that trains on all rows.

    Returns:
        The rows with vectors, targets and splits.

    Raises:
        UsageError: see `embedx.evaluation.targets.read_targets` and `embedx.evaluation.splits.make_splits`.
    """
    store.require_rows()
    all_rows = sort_rows(store.rows(ids))
    targets = read_targets(all_rows, labels)
    try:
        splits = make_splits(all_rows, targets, split)
    except NotEnoughGroups:
        if must_split:
            raise
        splits = unsplit(all_rows, targets)
    rows = tuple(all_rows[i] for i in targets.kept)
    row_ids = np.array([row.id for row in rows], np.int64)
    matrices = [read_vectors(store, view, row_ids) for view in views]
    overlap = find_overlap(store, rows, matrices[-1], targets, splits)
    x = matrices[0] if len(matrices) == 1 else np.stack(matrices, axis=1)
    return Experiment(tuple(views), x, targets, splits, label=str(labels), rows=rows, overlap=overlap)


def sort_rows(rows: Sequence[Row]) -> list[Row]:
    """Return rows in the order of paths and times, so that folds do not depend on the order of extraction."""
    return sorted(rows, key=lambda row: (row.path, row.start_s, row.stretch, row.id))


def read_vectors(store: Store, view: str, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vectors [N, D] of rows in the order of `ids`; the store returns them in ascending order of ids."""
    order = np.argsort(ids)
    ascending = store.vectors(view, ids[order].tolist())[1]
    vectors = np.empty_like(ascending)
    vectors[order] = ascending
    return vectors


def make_fit(data: LabelledVectors, options: HeadOptions) -> Fit:
    """Return a function that fits a head on some of the rows."""
    targets, groups = data.targets, data.splits.inner_groups

    def fit(train: Positions, validation: Positions) -> Head:
        copies = data.copies or Copies(data.x[:0], NO_ROWS)
        used = np.flatnonzero(np.isin(copies.of, train))
        rows = np.concatenate([train, copies.of[used], validation])
        number = np.arange(len(rows))
        head = fit_head(
            options.kind,
            np.concatenate([data.x[train], copies.x[used], data.x[validation]]),
            targets.y[rows],
            targets.classes,
            multilabel=targets.multilabel,
            groups=groups[rows],
            validation=number >= len(rows) - len(validation) if len(validation) else None,
            sample_weight=None if (targets.weights == 1).all() else targets.weights[rows],
            class_weight=options.class_weight,
            head_model=options.head_model,
            seed=options.seed,
            copies=(number >= len(train)) & (number < len(train) + len(used)),
            **options.settings,
        )
        return head.replace(views=data.views)

    return fit


def cross_fit(data: LabelledVectors, fit: Fit, parts: Sequence[Split] | None = None) -> HeldOutPredictions:
    """Fit one head per part, and predict the test rows of the part with it; the parts of the split if None."""
    parts = data.splits.parts if parts is None else parts
    return hold_out_predictions(data, parts, [fit(part.train, part.validation) for part in parts])


def hold_out_predictions(data: LabelledVectors, parts: Sequence[Split], heads: Sequence[Head]) -> HeldOutPredictions:
    """Predict the test rows of each part with the head of the part."""
    logits = [head.logits(data.x[part.test]) for head, part in zip(heads, parts, strict=True)]
    proba = [head.to_proba(part_logits) for head, part_logits in zip(heads, logits, strict=True)]
    return HeldOutPredictions(
        positions=np.concatenate([part.test for part in parts]),
        parts=np.concatenate([np.full(len(part.test), part.name) for part in parts]),
        logits=np.concatenate(logits),
        proba=np.concatenate(proba),
        heads=tuple(heads),
    )


def score(
    data: LabelledVectors,
    rows: Positions,
    proba: NDArray[np.float64],
    parts: NDArray[np.str_] | None,
    **options: Any,
) -> Metrics:
    """Evaluate probabilities [M, C] of some rows; `options` are those of `embedx.metrics.scoring`."""
    targets = data.targets
    return evaluate(
        targets.y[rows],
        proba,
        targets.classes,
        multilabel=targets.multilabel,
        groups=data.splits.groups[rows],
        parts=parts,
        **options,
    )


def folds_within(data: LabelledVectors, rows: Positions, seed: int = 0) -> tuple[Split, ...]:
    """Return folds of some rows that keep together what the split keeps together, such as the data set's own folds."""
    tested, several = np.unique(data.splits.tested_in()[rows], return_inverse=True)
    groups = several if len(tested) > 1 else data.splits.inner_groups[rows]
    splits = stratified(data.targets.strata()[rows], groups, "inner folds", seed)
    return tuple(replace(part, train=rows[part.train], test=rows[part.test]) for part in splits.parts)


def choose_views(views: Mapping[str, int], view: str | Sequence[str] | None, default: str, several: bool) -> list[str]:
    """Return the views that a head reads.

    Args:
        views: name -> dimension of the views of the collection.
        view: names, or patterns such as "L*.mean". By default the default view; if `several`, every layer with the
            pooling of the default view.
        default: the default view.
        several: whether the head reads several views.

    Returns:
        The names of the views.

    Raises:
        UsageError: a view does not exist; there are several views and the head reads one, or the other way round; the
            dimensions differ.

    >>> choose_views({"L0.mean": 4, "L1.mean": 4, "L1.max": 4}, None, "L1.mean", several=True)
    ['L0.mean', 'L1.mean']
    """
    if view is None:
        view = f"L*.{default.partition('.')[2]}" if several else default
    names = match_views(views, view)
    if several and len(names) < 2:
        raise UsageError(
            f"weighted-layers needs two views or more, but there is only {', '.join(names)}. "
            "`embedx extract --layers all` stores every layer of a model."
        )
    if not several and len(names) > 1:
        raise UsageError(
            f"This head reads one view, not {len(names)} ({', '.join(names)}). Choose one with --view (view=)."
        )
    if len({views[name] for name in names}) > 1:
        raise UsageError(f"weighted-layers needs views of the same dimension; these differ: {', '.join(names)}.")
    return names


def match_views(views: Mapping[str, int], view: str | Sequence[str]) -> list[str]:
    """Return the views that names or patterns match, each once.

    Raises:
        UsageError: `view` is empty, or one of its names or patterns matches no view.

    >>> match_views({"L0.mean": 4, "L1.mean": 4, "L1.max": 4}, ["L1.max", "*.mean"])
    ['L1.max', 'L0.mean', 'L1.mean']
    """
    names: list[str] = []
    patterns = [view] if isinstance(view, str) else list(view)
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise UsageError(f"view is the name of a view, a pattern or a list of these, not {view!r}.")
    for pattern in patterns:
        matches = [name for name in views if name == pattern or fnmatchcase(name, pattern)]
        if not matches:
            check_view(pattern, views)
        names += [name for name in matches if name not in names]
    return names
