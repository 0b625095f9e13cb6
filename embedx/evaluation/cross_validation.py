"""Evaluation: stored rows, labels and a split -> what heads say of rows that they have not learned from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx import heads
from embedx.errors import UsageError
from embedx.evaluation.leakage import Overlap, find_overlap
from embedx.evaluation.splits import NotEnoughGroups, Positions, Split, Splits, make_splits, stratified, unsplit
from embedx.evaluation.targets import Targets, read_targets
from embedx.heads.head import Head
from embedx.metrics.evaluate import evaluate
from embedx.metrics.report import Metrics
from embedx.recipe import check_view
from embedx.store.records import Row
from embedx.store.store import Store

LEAKY = "LEAKY: what belongs together is on both sides of the split; these scores are too good"


@dataclass(frozen=True)
class Experiment:
    """What is to be learned from which rows: N rows, their vectors, classes and split.

    x is [N, D]; for several views [N, L, D], in the order of `views`.
    """

    views: tuple[str, ...]
    label: str
    rows: tuple[Row, ...]
    x: NDArray[np.float32]
    targets: Targets
    splits: Splits
    overlap: Overlap

    @property
    def development(self) -> Positions:
        """The rows that a head may learn from in the end: all of the folds, but not a test part that stands alone."""
        if len(self.splits.parts) == 1:
            part = self.splits.parts[0]
            return np.sort(np.concatenate([part.train, part.validation]))
        return np.sort(np.concatenate([part.test for part in self.splits.parts]))


@dataclass(frozen=True)
class HeldOutPredictions:
    """What was said of M rows by heads that had not learned from them.

    positions: [M] into the rows of the problem, each once. parts: [M] the test part of each. logits, proba: [M, C].
    heads: the head of each part.
    """

    positions: Positions
    parts: NDArray[np.str_]
    logits: NDArray[np.float64]
    proba: NDArray[np.float64]
    heads: tuple[Head, ...]


Fit = Callable[[Positions, Positions], Head]  # rows to learn from, rows to choose by


def build_experiment(
    store: Store,
    views: Sequence[str],
    label: str | Sequence[str],
    *,
    ids: Sequence[int] | None = None,
    folds: str | None = None,
    split: str | None = None,
    group: str | None = None,
    leaky: bool = False,
    separator: str | None = None,
    weak_negatives: float = 0.0,
    seed: int = 0,
    must_split: bool = True,
) -> Experiment:
    """Read rows, targets and vectors, and split them.

    See `embedx.evaluation.targets.read_targets` and `embedx.evaluation.splits.make_splits`.

    Where there is too little to be split, and it need not be, one part learns from all and tests nothing.

    Raises:
        UsageError: as those.
    """
    every = store.rows(ids)
    targets = read_targets(every, label, separator=separator, weak_negatives=weak_negatives)
    try:
        splits = make_splits(every, targets, folds=folds, split=split, group=group, leaky=leaky, seed=seed)
    except NotEnoughGroups:
        if must_split:
            raise
        splits = unsplit(every, targets)
    rows = tuple(every[i] for i in targets.kept)
    matrices = [store.vectors(view, [row.id for row in rows])[1] for view in views]
    overlap = find_overlap(store, rows, matrices[-1], targets, splits)
    x = matrices[0] if len(matrices) == 1 else np.stack(matrices, axis=1)
    name = label if isinstance(label, str) else ", ".join(label)
    return Experiment(tuple(views), name, rows, x, targets, splits, overlap)


def make_fit(problem: Experiment, kind: str, seed: int = 0, **settings: Any) -> Fit:
    """Return what fits a head of a kind on some rows of a problem; settings as `embedx.heads.fit` takes them."""
    targets = problem.targets
    groups = np.arange(len(problem.rows)) if problem.splits.leaky else problem.splits.groups

    def fit(learn: Positions, choose: Positions) -> Head:
        of = np.concatenate([learn, choose])
        validation = np.arange(len(of)) >= len(learn) if len(choose) else None
        head = heads.fit(
            kind,
            problem.x[of],
            targets.y[of],
            targets.classes,
            multilabel=targets.multilabel,
            groups=groups[of],
            validation=validation,
            sample_weight=None if (targets.weights == 1).all() else targets.weights[of],
            seed=seed,
            **settings,
        )
        return head.replace(views=problem.views)

    return fit


def cross_fit(problem: Experiment, fit: Fit, splits: Splits | None = None) -> HeldOutPredictions:
    """Fit a head for each part of a split, and ask it about the rows it was not fitted on."""
    parts = (splits or problem.splits).parts
    fitted = [fit(part.train, part.validation) for part in parts]
    tests = [part.test for part in parts]
    return HeldOutPredictions(
        positions=np.concatenate(tests),
        parts=np.concatenate([np.full(len(part.test), part.name) for part in parts]),
        logits=np.concatenate([head.logits(problem.x[test]) for head, test in zip(fitted, tests, strict=True)]),
        proba=np.concatenate([head.predict_proba(problem.x[test]) for head, test in zip(fitted, tests, strict=True)]),
        heads=tuple(fitted),
    )


def score(
    problem: Experiment, positions: Positions, proba: NDArray[np.float64], parts: NDArray[np.str_] | None
) -> Metrics:
    """Evaluate probabilities [M, C] of some rows of a problem."""
    targets = problem.targets
    return evaluate(
        targets.y[positions],
        proba,
        targets.classes,
        multilabel=targets.multilabel,
        groups=problem.splits.groups[positions],
        parts=parts,
    )


def folds_within(problem: Experiment, rows: Positions, seed: int = 0) -> Splits:
    """Return folds of some rows of a problem that keep together what its split keeps together."""
    strata, groups = problem.targets.strata()[rows], problem.splits.groups[rows]
    made = stratified(strata, np.arange(len(rows)) if problem.splits.leaky else groups, "inner folds", seed)
    parts = tuple(Split(one.name, rows[one.train], rows[one.validation], rows[one.test]) for one in made.parts)
    return Splits(parts, made.how, problem.splits.groups, problem.splits.leaky)


def choose_views(views: Mapping[str, int], view: str | Sequence[str] | None, default: str, several: bool) -> list[str]:
    """Return the views that are meant: by name, or by a pattern such as "L*.mean".

    Without a name, the default view; if `several` are wanted, every layer with the default's pooling.

    Raises:
        UsageError: there is no such view; one is wanted and several are named, or the other way round; their dimensions
            differ.

    >>> choose_views({"L0.mean": 4, "L1.mean": 4, "L1.max": 4}, None, "L1.mean", several=True)
    ['L0.mean', 'L1.mean']
    """
    if view is None:
        view = f"L*.{default.partition('.')[2]}" if several else default
    chosen = match_views(views, view)
    if several and len(chosen) < 2:
        raise UsageError(
            f"Weighing layers needs two views or more, and {', '.join(chosen)} is one. `embedx extract --layers all` "
            "stores every layer of a model that has several."
        )
    if not several and len(chosen) > 1:
        raise UsageError(f"One view is wanted, not {len(chosen)} ({', '.join(chosen)}).")
    if len({views[name] for name in chosen}) > 1:
        raise UsageError(f"Views that are weighed against each other have one dimension, not: {', '.join(chosen)}.")
    return chosen


def match_views(views: Mapping[str, int], view: str | Sequence[str]) -> list[str]:
    """Return the views that names or patterns mean, each once.

    Raises:
        UsageError: one means none.

    >>> match_views({"L0.mean": 4, "L1.mean": 4, "L1.max": 4}, ["L1.max", "*.mean"])
    ['L1.max', 'L0.mean', 'L1.mean']
    """
    chosen: list[str] = []
    for pattern in [view] if isinstance(view, str) else view:
        found = [name for name in views if name == pattern or fnmatchcase(name, pattern)]
        if not found:
            check_view(pattern, views)
        chosen += [name for name in found if name not in chosen]
    return chosen
