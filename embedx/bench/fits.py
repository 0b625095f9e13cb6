"""Fits: a case and a head -> results, one for each test part. The processes of a benchmark run this."""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx._version import __version__
from embedx.bench.artifacts import Predictions, save_predictions
from embedx.bench.cases import BenchCase, load_vectors
from embedx.bench.head_spec import HeadSpec
from embedx.bench.results import Key, Result, Shots
from embedx.evaluation.cross_validation import LabelledVectors, cross_fit, make_fit
from embedx.evaluation.few_shot import sample_shots
from embedx.evaluation.probe import penalty_of
from embedx.evaluation.splits import NO_ROWS, Positions, Split
from embedx.heads.head import Head
from embedx.heads.options import HeadOptions
from embedx.metrics.scoring import evaluate

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map", "log_loss", "ece", "d_prime")
TRAINED = ("weight", "bias", "hidden.weight", "hidden.bias", "mixture")  # the arrays of a head that are parameters
RECOVERABLE_ERRORS = (ValueError, ArithmeticError, MemoryError)  # errors of one fit; the other fits go on


@dataclass(frozen=True)
class FitJob:
    """The fits of one setup with one number of shots and one seed, for some test parts.

    Attributes:
        case: the task and the vectors.
        layer, pooling, head: the setup; layer is `EVERY_LAYER` for a head that reads all layers.
        shots: training rows per class, or "all".
        seed: the random seed.
        parts: names of the test parts.
        out: folder of the benchmark; predictions are saved there if all training rows are used.
    """

    case: BenchCase
    layer: int
    pooling: str
    head: HeadSpec
    shots: Shots
    seed: int
    parts: tuple[str, ...]
    out: str

    def key(self, part: str) -> Key:
        """Return the key of the fit for a test part."""
        case = self.case
        setup = (case.model, self.layer, self.pooling, str(self.head))
        return Key(case.task, case.splits.how, *setup, self.shots, self.seed, part)

    @property
    def recipe(self) -> str:
        """The fingerprint of the recipe of the vectors."""
        return self.case.recipe_of(self.layer).fingerprint

    def __str__(self) -> str:
        views = ", ".join(self.case.views(self.layer, self.pooling))
        return f"{self.case.task}, {self.case.model} {views} with {self.head}, shots {self.shots}"


def draw_part(case: BenchCase, part: Split, shots: Shots, seed: int) -> Split:
    """Return a part with the training rows that are sampled for a number of shots.

    With few shots, the validation rows are not used: there are many more of them than training rows.
    """
    if shots == "all":
        return part
    y, groups = case.targets.y[part.train], case.groups[part.train]
    return replace(part, train=part.train[sample_shots(y, groups, shots, seed)], validation=NO_ROWS)


def compute(job: FitJob) -> tuple[list[Result], list[str]]:
    """Return the results of a job, and a sentence for each fit that failed.

    Every fit runs on one thread, so that the numbers do not depend on how many fits run at once.
    """
    from threadpoolctl import threadpool_limits

    case, views = job.case, job.case.views(job.layer, job.pooling)
    data = LabelledVectors(views, load_vectors(case.folder, views, case.ids.tobytes()), case.targets, case.splits)
    fit = make_fit(data, HeadOptions.from_keywords(job.head.kind, job.head.steps, seed=job.seed, **job.head.settings))
    results, predictions, failures = [], [], []
    with threadpool_limits(1):
        for whole in (part for part in case.splits.parts if part.name in job.parts):
            part = draw_part(case, whole, job.shots, job.seed)
            try:
                started = time.perf_counter()
                held_out = cross_fit(data, fit, [part])
                facts = {
                    "C": penalty_of(held_out.heads[0]),
                    "seconds": round(time.perf_counter() - started, 4),
                    "embed_seconds": case.embedding_seconds(len(part.learned) + len(part.test)),
                    "parameters": count_trained(held_out.heads[0]),
                }
                results.append(make_result(case, job.key(part.name), part, held_out.proba, recipe=job.recipe, **facts))
                predictions.append(held_out)
            except RECOVERABLE_ERRORS as error:
                failures.append(f"{job}, test part {part.name}: {error}")
    if job.shots == "all" and predictions:
        arrays = [[getattr(one, name) for one in predictions] for name in ("positions", "proba", "parts")]
        keep_predictions(job.out, job.key(""), case, *map(np.concatenate, arrays))
    return results, failures


def count_trained(head: Head) -> int:
    """Return the number of trained parameters of a head."""
    return sum(head.arrays[name].size for name in TRAINED if name in head.arrays)


def make_result(case: BenchCase, key: Key, part: Split, proba: NDArray[np.float64], **facts: Any) -> Result:
    """Return the scores of the probabilities [N, C] for a test part, with facts about the fit."""
    targets = case.targets
    truth = targets.y[part.test]
    metrics = evaluate(truth, proba, targets.classes, multilabel=targets.multilabel, samples=0).figures
    figures: dict[str, Any] = {name: None if (one := metrics.get(name)) is None else one.value for name in FIGURES}
    return Result(
        **key._asdict(),
        rows_train=len(part.learned),
        rows_test=len(part.test),
        classes=len(targets.classes),
        leaky=case.splits.leaky,
        duplicates=case.duplicates[part.name],
        **figures,
        **baselines(targets.y[part.learned], truth),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        embedx=__version__,
        data=case.data,
        **facts,
    )


def baselines(learned: NDArray[np.int64], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Return the scores of constant answers: accuracy of the most common training label, and balanced accuracy or mAP.

    >>> baselines(np.array([0, 0, 1]), np.array([0, 1, 1, 2]))
    {'majority': 0.25, 'chance': 0.3333333333333333}
    """
    if truth.ndim == 2:
        shares = truth.mean(axis=0)
        return {"majority": None, "chance": float(shares[shares > 0].mean()) if shares.any() else None}
    majority = float((truth == np.bincount(learned).argmax()).mean())
    return {"majority": majority, "chance": 1 / len(np.unique(truth))}


def keep_predictions(
    out: str, key: Key, case: BenchCase, tested: Positions, proba: NDArray[np.float64], parts: NDArray[np.str_]
) -> None:
    """Save the probabilities [M, C] for tested rows [M], for the figures of a report; `parts` are their test parts."""
    save_predictions(
        out,
        key,
        Predictions(
            case.targets.classes,
            case.targets.y[tested],
            proba.astype(np.float32),
            parts,
            case.splits.groups[tested],
        ),
    )
