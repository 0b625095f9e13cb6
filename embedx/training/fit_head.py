"""Training: stored vectors and labels -> a head, scored on rows that it was not trained on, and saved in heads/."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.chance import compare_experiment
from embedx.evaluation.cross_validation import (
    LEAKY,
    Experiment,
    HeldOutPredictions,
    build_experiment,
    choose_views,
    cross_fit,
    hold_out_predictions,
    make_fit,
    score,
)
from embedx.evaluation.options import ExperimentKwargs
from embedx.evaluation.probe import describe_left_out
from embedx.evaluation.splits import NO_ROWS, Positions, SplitOptions
from embedx.evaluation.targets import LabelOptions
from embedx.heads.calibration import METHODS
from embedx.heads.files import check_name
from embedx.heads.head import Head
from embedx.heads.options import HeadOptions
from embedx.heads.storage import FOLDER as HEADS
from embedx.heads.storage import load_head
from embedx.metrics.calibration import reliability
from embedx.metrics.chance import PERMUTATIONS
from embedx.metrics.report import Metrics
from embedx.store.store import Store
from embedx.training.altered_copies import NO_COPIES, CopyOptions, add_copies
from embedx.training.calibration_trial import Trial
from embedx.training.held_out import Finished, finish_head
from embedx.training.label_gain import Gain, gain_since, to_ranges
from embedx.training.predict import recording_of

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

CALIBRATIONS = (*METHODS, "none")


@dataclass(eq=False)
class Trained(Head):
    """A head that was just fitted and saved.

    Attributes:
        name: the name of the head.
        folder: where it was saved.
        report: the figures on rows that it was not trained on; None if there were too few groups to split.
        gain: the effect of the labels added since the last head of this name; None if there was none, or no new label.
        experiment: the rows, labels and split.
    """

    name: str = ""
    folder: Path = Path()
    report: Metrics | None = field(default=None, repr=False)
    gain: Gain | None = None
    experiment: Experiment | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text()

    def _become(self, **fields: Any) -> None:
        """Replace fields; the report was of the head as it was saved."""
        super()._become(**fields, report=None, gain=None, experiment=None)

    def text(self, per_class: bool = False) -> str:
        """Return the result as text: the verdict in one line, warnings, then the figures.

        Args:
            per_class: add a table with the figures of every class.
        """
        if self.experiment is None:
            return repr(self)
        experiment, targets, splits = self.experiment, self.experiment.targets, self.experiment.splits
        if self.report is None:
            verdict, tables = "Not scored: every class needs two recordings (or groups), one of them to test on.", []
        else:
            verdict, tables = self.report.verdict(), [str(experiment.overlap), "", self.report.tables(per_class), ""]
        lines = [
            verdict,
            *([LEAKY] if splits.leaky else []),
            *tables,
            f"Saved as {self.folder}: {self.kind} head on {', '.join(self.views)}, {len(self.classes)} classes of "
            f"{experiment.label!r}, trained on {len(experiment.development)} rows{self._describe_copies()}; split by "
            f"{splits.how}.",
            *describe_left_out(targets.unlabelled, targets.weak, splits.left_out),
            *self.settings.get("notes", []),
            *self._calibration_lines(),
            *([str(self.gain)] if self.gain else []),
        ]
        return "\n".join(lines)

    def _describe_copies(self) -> str:
        copies = self.settings["training"].get("copies")
        return "" if copies is None else f" and {copies['rows']} altered copies ({', '.join(copies['alterations'])})"

    def _calibration_lines(self) -> list[str]:
        if "calibration" in self.metrics:
            return [str(Trial(**self.metrics["calibration"]))]
        has_points = any(name.startswith("operating.") for name in self.arrays)
        return [] if has_points else ["Not calibrated, and without thresholds: there are too few groups to hold out."]


def fit_head(
    store: Store,
    labels: LabelOptions,
    split: SplitOptions,
    options: HeadOptions,
    load_embedder: "Callable[[], Embedder]",
    *,
    view: str | Sequence[str] | None = None,
    name: str | None = None,
    ids: Sequence[int] | None = None,
    calibration: str = "temperature",
    permutations: int = PERMUTATIONS,
    copies: CopyOptions = NO_COPIES,
) -> Trained:
    """Fit a head, score it on rows that it was not trained on, calibrate it, and save it.

    With folds, the head of its fold predicts every row, and the saved head is trained on all rows. With a separate test
    part (train, validation, test), the saved head never sees the test rows. Calibration and thresholds are fitted on
    rows held out by inner folds of the training rows, and a calibration is kept only if it helps on such rows.

    Args:
        store, labels, split, options: the collection, its label column, how to split the rows, and which head to fit.
        load_embedder: returns the embedder of the collection; called only for copies.
        view: the views; see `embedx.evaluation.cross_validation.choose_views`.
        name, ids: the name of the head (LABEL-KIND if None), and the rows to use (all if None).
        calibration: "temperature", "isotonic" or "none".
        permutations, copies: how many permutations of the labels to compare with, and altered copies of each row.

    Returns:
        The saved head with its figures.

    Raises:
        UsageError: an invalid argument; see `build_experiment`.
        DiskError: the head cannot be written.
    """
    if calibration not in CALIBRATIONS:
        raise UsageError(f"calibration must be one of {', '.join(CALIBRATIONS)}, not {calibration!r}.")
    views = choose_views(store.views, view, store.recipe.default_view, several=options.kind == "weighted-layers")
    experiment = build_experiment(store, views, labels, split, ids=ids, must_split=split.by_column)
    experiment = add_copies(experiment, store, load_embedder, copies, options.seed)
    name = re.sub(r"[^\w.+-]+", "+", f"{experiment.label}-{options.kind}") if name is None else name
    check_name(name)
    folder = store.folder / HEADS / name
    fit = make_fit(experiment, options)
    part, is_single = experiment.splits.parts[0], len(experiment.splits.parts) == 1
    head = fit(part.train, part.validation) if is_single else fit(experiment.development, NO_ROWS)
    training = describe_training(experiment, labels) | describe_copies(experiment, copies)
    head = head.replace(recipe=asdict(store.recipe), settings={**head.settings, "training": training})
    report = gain = None
    if len(part.test):
        held_out = hold_out_predictions(experiment, [part], [head]) if is_single else cross_fit(experiment, fit)
        finished = finish_head(experiment, list(map(recording_of, experiment.rows)), head, calibration, options)
        test = compare_experiment(experiment, permutations, split.seed, options)
        report = replace(score(experiment, held_out.positions, held_out.proba, held_out.parts), test=test)
        evaluation = describe_evaluation(experiment, held_out, report, finished)
        head = (finished.head if finished else head).replace(metrics=evaluation)
        gain = gain_since(experiment, fit, folder, training["label"], held_out)
    head.save(folder)
    head_fields = {one.name: getattr(head, one.name) for one in fields(Head)}
    return Trained(**head_fields, name=name, folder=folder, report=report, gain=gain, experiment=experiment)


def choose_label(
    folder: Path, name: str | None, label: str | Sequence[str] | None, keywords: ExperimentKwargs
) -> tuple[str | Sequence[str], ExperimentKwargs]:
    """Return the label column to learn, and the keywords; without a column those of the head that is replaced.

    Args:
        folder: the folder of the collection.
        name: the name of the head; None: there is no head to replace.
        label: the column, or columns, that the user named.
        keywords: the options of the experiment.

    Raises:
        UsageError: no column is named, and the head of this name does not say what it learned.
    """
    if label is not None:
        return label, keywords
    try:
        training = {} if name is None else load_head(folder, name).settings.get("training") or {}
    except UsageError:  # there is no head of this name
        return "label", keywords
    if name is not None and not training.get("label"):
        raise UsageError(f"The head {name} does not say which column it learned. Name it with --label (label=).")
    separator = keywords.get("separator") or training.get("separator")
    weak_negatives = keywords.get("weak_negatives") or training.get("weak_negatives") or 0.0
    learned: ExperimentKwargs = {"separator": separator, "weak_negatives": weak_negatives}
    return training.get("label", "label"), {**keywords, **learned}


def describe_training(experiment: Experiment, labels: LabelOptions) -> dict[str, Any]:
    """Return what a head keeps about its training data, ready for JSON."""
    return {
        "label": labels.label if isinstance(labels.label, str) else list(labels.label),
        "separator": labels.separator,
        "weak_negatives": labels.weak_negatives,
        "split": experiment.splits.how,
        "leaky": experiment.splits.leaky,
        "rows": to_ranges(sorted(experiment.rows[i].id for i in experiment.development)),
    }


def describe_copies(experiment: Experiment, copies: CopyOptions) -> dict[str, Any]:
    """Return what a head keeps about the altered copies that it was trained on, ready for JSON."""
    if experiment.copies is None:
        return {}
    kinds = {kind: dict(settings) for kind, settings in copies.read().kinds.items()}
    return {"copies": {"of_each_row": copies.number, "rows": len(experiment.copies.of), "alterations": kinds}}


def describe_evaluation(
    experiment: Experiment, held_out: HeldOutPredictions, metrics: Metrics, finished: Finished | None
) -> dict[str, Any]:
    """Return what a head keeps about its evaluation, ready for JSON."""
    predictions = {"before": (held_out.positions, held_out.proba)}
    if finished and finished.head.calibrated:
        predictions["after"] = calibrated_predictions(experiment, held_out, finished)
    evaluation: dict[str, Any] = {
        "held_out": metrics.to_dict(),
        "overlap": experiment.overlap.to_dict(),
        "reliability": {
            name: [
                asdict(bar)
                for bar in reliability(experiment.targets.y[rows], proba, multilabel=experiment.targets.multilabel)
            ]
            for name, (rows, proba) in predictions.items()
        },
    }
    return evaluation | ({"calibration": asdict(finished.trial)} if finished and finished.trial else {})


def calibrated_predictions(
    experiment: Experiment, held_out: HeldOutPredictions, finished: Finished
) -> tuple[Positions, NDArray[np.float64]]:
    """Return test rows and their calibrated probabilities; none of these rows was used in its own calibration."""
    if len(experiment.splits.parts) == 1:
        return held_out.positions, finished.head.to_proba(held_out.logits, calibrated=True)
    return finished.positions, finished.proba
