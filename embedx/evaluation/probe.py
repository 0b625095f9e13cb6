"""Probe: a store -> scores without leakage: how well a head on the vectors separates the labels.

Windows of one recording, and clips of one group, are never in both training and test rows, unless the user asks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from embedx.evaluation.chance import compare_experiment
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
from embedx.evaluation.splits import SplitOptions
from embedx.evaluation.suspects import Suspect, check_one_class, count_sampled, describe_suspects, find_suspects
from embedx.evaluation.targets import LabelOptions
from embedx.heads.head import Head
from embedx.heads.options import HeadOptions
from embedx.metrics.chance import PERMUTATIONS, ChanceTest
from embedx.metrics.figures import Figure
from embedx.metrics.report import Metrics
from embedx.metrics.retrieval import retrieve
from embedx.store.store import Store
from embedx.text import plural

MAX_QUERIES = 10_000  # test rows whose nearest vectors are ranked; their mean has a standard error of at most 0.005
SEED = 0  # of this sample


@dataclass(frozen=True)
class Fold:
    """One test part: its name, number of rows, accuracy, and the C that was chosen on its training rows."""

    name: str
    rows: int
    accuracy: float | None
    chosen: float | None


@dataclass(frozen=True)
class Report:
    """The result of a probe. All scores are from 0 to 1, on rows that the heads were not trained on.

    Attributes:
        view, label, kind, split: what was probed, and how the rows were split, in words.
        leaky: whether rows of one recording or group may be in both training and test rows.
        unlabelled: number of rows left out because they have no label.
        left_out: number of rows that the data set's own split leaves out.
        metrics: all figures of the head, with intervals and baselines.
        retrieval: how often the nearest vectors outside the test part share the label ("p@1", "map", ...).
        overlap: test rows that look like a training row.
        folds: the test parts.
        suspects: rows whose label is probably wrong, the clearest first; None if they were not looked for.
        suspects_among: rows of each training part among which the neighbours of suspects were looked for; None: all.
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
    suspects: tuple[Suspect, ...] | None = None
    suspects_among: int | None = None

    @property
    def rows(self) -> int:
        """The number of test rows."""
        return self.metrics.rows

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.metrics.classes)

    @property
    def accuracy(self) -> float:
        """The share of rows with the right class; multi-label: with all labels right."""
        return self._value("exact_match" if self.metrics.multilabel else "accuracy")

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes; multi-label: the mean area under the ROC curve."""
        return self._value("macro_auc" if self.metrics.multilabel else "balanced_accuracy")

    @property
    def neighbour(self) -> float:
        """The share of rows whose nearest vector outside their test part has the same label (P@1)."""
        return self.retrieval["p@1"].value if "p@1" in self.retrieval else 0.0

    @property
    def majority(self) -> float:
        """The accuracy of always predicting the most frequent class; multi-label: of never predicting a label."""
        baselines = self.metrics.baselines
        return (
            baselines["all-negative"]["exact_match"] if self.metrics.multilabel else baselines["majority"]["accuracy"]
        )

    @property
    def chance(self) -> float:
        """What permuted labels reach; without a test the balanced accuracy (or ROC area) of a constant prediction."""
        if self.metrics.test is not None and self.metrics.test.chance is not None:
            return self.metrics.test.chance
        return 0.5 if self.metrics.multilabel else 1 / self.classes

    def _suspects_dict(self) -> dict[str, Any]:
        """Return the part of `to_dict` about suspect labels."""
        if self.suspects is None:
            return {}
        return {"suspects": [suspect.to_dict() for suspect in self.suspects], "suspects_among": self.suspects_among}

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
            "p_value": self.metrics.test.p_value if self.metrics.test else None,
            "permutations": self.metrics.test.permutations if self.metrics.test else 0,
            "folds": [vars(fold) for fold in self.folds],
            "metrics": self.metrics.to_dict(),
            "retrieval": {name: figure.to_dict() for name, figure in self.retrieval.items()},
            "overlap": self.overlap.to_dict(),
            **self._suspects_dict(),
        }

    def __str__(self) -> str:
        return self.text()

    def text(self, per_class: bool = False) -> str:
        """Return the report as text: the verdict in one line, warnings, then the figures.

        Args:
            per_class: add a table with the figures of every class.
        """
        name = "linear probe (logistic)" if self.kind == "logistic" else f"{self.kind} probe"
        retrieval = [f"{key} {figure}" for key, figure in self.retrieval.items() if figure.low is not None]
        Cs = [f"{fold.chosen:.2g}" for fold in self.folds if fold.chosen is not None]
        lines = [
            self.metrics.verdict(),
            *([LEAKY] if self.leaky else []),
            str(self.overlap),
            "",
            self.metrics.tables(per_class),
            "",
            f"{name} on view {self.view}; label {self.label!r}; split by {self.split}.",
            *describe_left_out(self.unlabelled, 0, self.left_out),
            *([f"C, chosen inside the training rows of each part: {', '.join(Cs)}."] if Cs else []),
            *([f"Retrieval from other parts: {', '.join(retrieval)}."] if retrieval else []),
            *([] if self.suspects is None else describe_suspects(self.suspects, self.suspects_among)),
        ]
        return "\n".join(lines)


def describe_left_out(unlabelled: int, weak: int, left_out: int) -> list[str]:
    """Return a sentence for each reason why rows are not used as they are."""
    return [
        *([f"Left out: {plural(unlabelled, 'row')} without a label."] if unlabelled else []),
        *([f"Weak negatives: {plural(weak, 'row')} without a label."] if weak else []),
        *([f"Left out: {plural(left_out, 'row')} outside the data set's own split."] if left_out else []),
    ]


def probe(
    store: Store,
    views: Sequence[str],
    labels: LabelOptions,
    split: SplitOptions,
    head: HeadOptions,
    *,
    ids: Sequence[int] | None = None,
    permutations: int = PERMUTATIONS,
    suspect_labels: bool = False,
) -> Report:
    """Fit a head on each training part, and score it on the test part.

    Args:
        store: the store of the collection.
        views: the views that the head reads.
        labels: which column holds the labels.
        split: how to split the rows.
        head: which head to fit. All its choices, such as C, are made inside the training part.
        ids: the rows to use; all if None.
        permutations: how many permutations of the labels to compare with; 0 for no test against chance.
        suspect_labels: look for rows whose label is probably wrong; see `embedx.evaluation.suspects`.

    Returns:
        The scores with intervals, baselines and the test against chance.

    Raises:
        UsageError: a column does not exist; there are fewer than two classes or groups; the folds would split a
            recording or a group.
    """
    experiment = build_experiment(store, views, labels, split, ids=ids)
    if suspect_labels:
        check_one_class(experiment.targets)
    test = compare_experiment(experiment, permutations, split.seed, head)
    held_out = cross_fit(experiment, make_fit(experiment, head))
    report = report_on(experiment, held_out, head.kind, test)
    if not suspect_labels:
        return report
    return replace(report, suspects=find_suspects(experiment, held_out), suspects_among=count_sampled(experiment))


def report_on(experiment: Experiment, held_out: HeldOutPredictions, kind: str, test: ChanceTest | None) -> Report:
    """Score predictions for held-out rows."""
    targets, splits = experiment.targets, experiment.splits
    metrics = replace(score(experiment, held_out.positions, held_out.proba, held_out.parts), test=test)
    name = "exact_match" if targets.multilabel else "accuracy"
    by_part = {part.name: part for part in metrics.by_part}
    folds = [
        Fold(part.name, by_part[part.name].rows, by_part[part.name].figures[name], penalty_of(head))
        for part, head in zip(splits.parts, held_out.heads, strict=True)
        if part.name in by_part
    ]
    return Report(
        view=", ".join(experiment.views),
        label=experiment.label,
        kind=kind,
        split=splits.how,
        leaky=splits.leaky,
        unlabelled=targets.unlabelled,
        left_out=splits.left_out,
        metrics=metrics,
        retrieval=retrieve_neighbours(experiment),
        overlap=experiment.overlap,
        folds=tuple(folds),
    )


def penalty_of(head: Head) -> float | None:
    """Return the C of a head, None for heads without one."""
    C = head.settings.get("C")
    return float(C) if isinstance(C, (int, float)) else None


def retrieve_neighbours(experiment: Experiment) -> dict[str, Figure]:
    """Measure how often the nearest vectors outside the test part of a test row share its label.

    Of many test rows a sample is measured, so that the time grows with the rows and not with their square.
    """
    tested = experiment.splits.tested_in()
    queries = np.flatnonzero(tested != "")
    if len(queries) > MAX_QUERIES:
        queries = np.random.default_rng(SEED).choice(queries, MAX_QUERIES, replace=False)
    x = experiment.x if experiment.x.ndim == 2 else experiment.x[:, -1]
    used = np.zeros(len(tested), bool)
    for part in experiment.splits.parts:
        used[np.concatenate([part.learned, part.test])] = True
    return retrieve(
        x[used],
        experiment.targets.y[used],
        tested[used],
        experiment.splits.groups[used],
        queries=np.isin(np.flatnonzero(used), queries),
    )
