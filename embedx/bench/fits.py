"""Fits: a case and a setup -> results, one for each test part. This is what the processes of a benchmark run."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx import heads
from embedx._version import __version__
from embedx.bench.artifacts import Predictions, save_predictions
from embedx.bench.cases import BenchCase, load_vectors
from embedx.bench.head_spec import HeadSpec
from embedx.bench.results import Key, Result, Shots
from embedx.evaluation.few_shot import sample_shots
from embedx.evaluation.splits import Positions, Split
from embedx.metrics.evaluate import evaluate

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map", "log_loss", "ece", "d_prime")
CAUGHT = (ValueError, ArithmeticError, MemoryError)  # of one fit; the others go on


NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class FitJob:
    """Fits of one setup with one number of shots and one seed, on some test parts.

    out: where predictions are kept if all training rows are used.
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
        """Return what names the fit on a part."""
        case = self.case
        setup = (case.model, self.layer, self.pooling, str(self.head))
        return Key(case.task, case.splits.how, *setup, self.shots, self.seed, part)

    def __str__(self) -> str:
        views = ", ".join(self.case.views(self.layer, self.pooling))
        return f"{self.case.task}, {self.case.model} {views} with {self.head}, shots {self.shots}"


@dataclass(frozen=True)
class TrainTestRows:
    """The rows of one fit: to learn from, to choose by (often none: then folds of the others do that), to be tested."""

    part: Split
    learn: Positions
    choose: Positions

    @property
    def rows(self) -> Positions:
        """All rows that the head may see."""
        return np.concatenate([self.learn, self.choose])

    @property
    def validation(self) -> NDArray[np.bool_] | None:
        """Which of them serve choices only."""
        return np.arange(len(self.rows)) >= len(self.learn) if len(self.choose) else None


@dataclass(frozen=True)
class FitResult:
    """What one fit made: probabilities [M, C] of the test rows, the C that was chosen if any, and how long it took."""

    proba: NDArray[np.float64]
    C: float | None
    seconds: float


def draw(job: FitJob, part: Split) -> TrainTestRows:
    """Draw the rows of a fit.

    With few shots there is nothing to choose by but the rows that were drawn: a validation part has many more.
    """
    if job.shots == "all":
        return TrainTestRows(part, part.train, part.validation)
    y, groups = job.case.targets.y[part.train], job.case.groups[part.train]
    return TrainTestRows(part, part.train[sample_shots(y, groups, job.shots, job.seed)], NONE)


def compute(job: FitJob) -> tuple[list[Result], list[str]]:
    """Return the results of a job, and a sentence for each fit that failed.

    Every fit runs on one thread: numbers do not depend on how many run at a time.
    """
    from threadpoolctl import threadpool_limits

    case = job.case
    x = load_vectors(case.folder, case.views(job.layer, job.pooling), case.ids.tobytes())
    drawn = [draw(job, part) for part in case.splits.parts if part.name in job.parts]
    results, scored, failures = [], [], []
    with threadpool_limits(1):
        for one in drawn:
            try:
                fitted = fit(job, x, one)
                results.append(make_result(job, one, fitted))
                scored.append((one.part, fitted.proba))
            except CAUGHT as error:
                failures.append(f"{job}, test part {one.part.name}: {error}")
    if job.shots == "all" and scored:
        keep(job, scored)
    return results, failures


def fit(job: FitJob, x: NDArray[np.float32], drawn: TrainTestRows) -> FitResult:
    """Fit a head on some rows, and ask it about others."""
    begun = time.perf_counter()
    targets, of = job.case.targets, drawn.rows
    head = heads.fit(
        job.head.kind,
        x[of],
        targets.y[of],
        targets.classes,
        multilabel=targets.multilabel,
        groups=job.case.groups[of],
        validation=drawn.validation,
        sample_weight=None if (targets.weights == 1).all() else targets.weights[of],
        head_model=job.head.steps,
        seed=job.seed,
        **job.head.settings,
    )
    proba = head.predict_proba(x[drawn.part.test])
    C = head.settings.get("C")
    return FitResult(proba, None if C is None else float(C), time.perf_counter() - begun)


def make_result(job: FitJob, drawn: TrainTestRows, fitted: FitResult) -> Result:
    """Score what was said of a test part."""
    case, targets, part = job.case, job.case.targets, drawn.part
    truth = targets.y[part.test]
    found = evaluate(truth, fitted.proba, targets.classes, multilabel=targets.multilabel, samples=0).figures
    figures: dict[str, Any] = {name: None if (one := found.get(name)) is None else one.value for name in FIGURES}
    return Result(
        **job.key(part.name)._asdict(),
        rows_train=len(drawn.rows),
        rows_test=len(part.test),
        classes=len(targets.classes),
        leaky=case.splits.leaky,
        duplicates=case.duplicates[part.name],
        C=fitted.C,
        **figures,
        **baselines(targets.y[drawn.rows], truth),
        seconds=round(fitted.seconds, 4),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        embedx=__version__,
        recipe=case.recipe_of(job.layer).fingerprint,
        data=case.data,
    )


def baselines(learned: NDArray[np.int64], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Return what is reached without listening: by the commonest class learned, and in balanced accuracy or mAP.

    >>> baselines(np.array([0, 0, 1]), np.array([0, 1, 1, 2]))
    {'majority': 0.25, 'chance': 0.3333333333333333}
    """
    if truth.ndim == 2:
        shares = truth.mean(axis=0)
        return {"majority": None, "chance": float(shares[shares > 0].mean()) if shares.any() else None}
    majority = float((truth == np.bincount(learned).argmax()).mean())
    return {"majority": majority, "chance": 1 / len(np.unique(truth))}


def keep(job: FitJob, scored: list[tuple[Split, NDArray[np.float64]]]) -> None:
    """Keep what was said of the test parts, for the figures of a report."""
    case = job.case
    tested = np.concatenate([part.test for part, _ in scored])
    save_predictions(
        job.out,
        job.key(""),
        Predictions(
            case.targets.classes,
            case.targets.y[tested],
            np.concatenate([proba for _, proba in scored]).astype(np.float32),
            np.concatenate([np.full(len(part.test), part.name) for part, _ in scored]),
            case.splits.groups[tested],
        ),
    )
