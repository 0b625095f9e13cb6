"""Probe: store -> a leak-free report of how well a head on the vectors tells the labels apart.

Windows of one recording, and clips of one group, are never on both sides of a split, unless that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedx.evaluation.cross_validation import (
    LEAKY,
    Experiment,
    HeldOutPredictions,
    build_experiment,
    cross_fit,
    make_fit,
    score,
)
from embedx.evaluation.leakage import Overlap
from embedx.metrics.bootstrap import Figure
from embedx.metrics.report import Metrics
from embedx.metrics.retrieval import retrieve
from embedx.store.store import Store


@dataclass(frozen=True)
class Fold:
    """One test part: its name, how many rows it has, the share told right, and the C that its training rows chose."""

    name: str
    rows: int
    accuracy: float | None
    chosen: float | None


@dataclass(frozen=True)
class Report:
    """What a probe found; every score is from 0 to 1, of rows that were not learned from.

    metrics: everything about the head, with intervals and baselines. retrieval: how often the nearest vectors outside
    the test part share the label ("p@1", "map", ...). overlap: near-duplicates across the split.
    """

    view: str
    label: str
    kind: str
    split: str
    leaky: bool
    unlabelled: int
    left_out: int
    metrics: Metrics
    retrieval: dict[str, Figure]
    overlap: Overlap
    folds: tuple[Fold, ...]

    @property
    def rows(self) -> int:
        """How many rows were tested."""
        return self.metrics.rows

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.metrics.classes)

    @property
    def accuracy(self) -> float:
        """The share of rows that are labelled right (of several labels, with all of them right)."""
        return self._value("exact_match" if self.metrics.multilabel else "accuracy")

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes; of several labels the mean area under the ROC curve."""
        return self._value("macro_auc" if self.metrics.multilabel else "balanced_accuracy")

    @property
    def neighbour(self) -> float:
        """The share of rows whose nearest vector outside of their test part has the same label (P@1)."""
        return self.retrieval["p@1"].value if "p@1" in self.retrieval else 0.0

    @property
    def majority(self) -> float:
        """The accuracy of always naming the commonest class (of several labels, of never naming one)."""
        baselines = self.metrics.baselines
        return (
            baselines["all-negative"]["exact_match"] if self.metrics.multilabel else baselines["majority"]["accuracy"]
        )

    @property
    def chance(self) -> float:
        """The balanced accuracy of any constant answer; of several labels the area under the ROC curve, 0.5."""
        return 0.5 if self.metrics.multilabel else 1 / self.classes

    def _value(self, name: str) -> float:
        figure = self.metrics.figures[name]
        return float("nan") if figure is None else figure.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        names = ("view", "label", "kind", "split", "leaky", "rows", "classes", "unlabelled", "left_out")
        return {name: getattr(self, name) for name in names} | {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "neighbour": self.neighbour,
            "majority": self.majority,
            "chance": self.chance,
            "folds": [vars(fold) for fold in self.folds],
            "metrics": self.metrics.to_dict(),
            "retrieval": {name: figure.to_dict() for name, figure in self.retrieval.items()},
            "overlap": self.overlap.to_dict(),
        }

    def __str__(self) -> str:
        name = "linear probe (logistic)" if self.kind == "logistic" else f"{self.kind} probe"
        measure = "exact match" if self.metrics.multilabel else "accuracy"
        found = [f"{one} {figure}" for one, figure in self.retrieval.items() if figure.low is not None]
        chosen = [f"{one.chosen:.2g}" for one in self.folds if one.chosen is not None]
        lines = [
            f"{self.rows} rows, {self.classes} classes of {self.label!r}, view {self.view}; split by {self.split}",
            *([LEAKY] if self.leaky else []),
            *([f"{self.unlabelled} rows without a label were left out"] if self.unlabelled else []),
            *([f"{self.left_out} rows that the split does not name were left out"] if self.left_out else []),
            f"{name}: {measure} {self.accuracy:.4f}; nearest neighbour of another part: {self.neighbour:.4f} (P@1)",
            *([f"retrieval from other parts: {', '.join(found)}"] if found else []),
            *([f"C inside the training rows of each part: {', '.join(chosen)}"] if chosen else []),
            str(self.overlap),
            "",
            str(self.metrics),
        ]
        return "\n".join(lines)


def probe(
    store: Store,
    views: Sequence[str],
    label: str | Sequence[str] = "label",
    *,
    kind: str = "logistic",
    ids: Sequence[int] | None = None,
    folds: str | None = None,
    split: str | None = None,
    group: str | None = None,
    leaky: bool = False,
    separator: str | None = None,
    weak_negatives: float = 0.0,
    seed: int = 0,
    **settings: Any,
) -> Report:
    """Fit a head on each training part, and score it on the test part.

    Args:
        store, views: where the vectors are.
        label, separator, weak_negatives: what is learned; see `embedx.evaluation.targets.read_targets`.
        kind, settings: the head; see `embedx.heads.fit`. What it chooses, it chooses inside the training part.
        ids: the rows to use, all if not given.
        folds, split, group, leaky: the split; see `embedx.evaluation.splits.make_splits`.
        seed: of made folds, and of the head.

    Raises:
        UsageError: no such column; fewer than two classes or groups; folds that would split a recording or a group.
    """
    problem = build_experiment(
        store, views, label, ids=ids, folds=folds, split=split, group=group, leaky=leaky,
        separator=separator, weak_negatives=weak_negatives, seed=seed,
    )  # fmt: skip
    held = cross_fit(problem, make_fit(problem, kind, seed, **settings))
    return report_on(problem, held, kind)


def report_on(problem: Experiment, held: HeldOutPredictions, kind: str) -> Report:
    """Score what was said of rows that were held out."""
    targets, splits = problem.targets, problem.splits
    metrics = score(problem, held.positions, held.proba, held.parts)
    name = "exact_match" if targets.multilabel else "accuracy"
    folds = [
        Fold(part.name, part.rows, part.figures[name], chosen_of(held, part.name))
        for part in sorted(metrics.by_part, key=lambda one: [two.name for two in splits.parts].index(one.name))
    ]
    return Report(
        view=", ".join(problem.views),
        label=problem.label,
        kind=kind,
        split=splits.how,
        leaky=splits.leaky,
        unlabelled=targets.unlabelled,
        left_out=splits.left_out,
        metrics=metrics,
        retrieval=neighbours(problem),
        overlap=problem.overlap,
        folds=tuple(folds),
    )


def chosen_of(held: HeldOutPredictions, part: str) -> float | None:
    """Return the C that was chosen for a part."""
    place = list(dict.fromkeys(held.parts.tolist())).index(part)
    C = held.heads[place].settings.get("C")
    return float(C) if isinstance(C, (int, float)) else None


def neighbours(problem: Experiment) -> dict[str, Figure]:
    """Let every tested row look for its nearest vectors outside of its test part."""
    tested = problem.splits.tested_in()
    x = problem.x if problem.x.ndim == 2 else problem.x[:, -1]
    used = np.zeros(len(tested), bool)
    for part in problem.splits.parts:
        used[np.concatenate([part.train, part.validation, part.test])] = True
    return retrieve(
        x[used],
        problem.targets.y[used],
        tested[used],
        problem.splits.groups[used],
        queries=tested[used] != "",
    )
