"""Fits: a case and a setup -> results, one for each test part. This is what the processes of a benchmark run."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx import __version__, heads
from embedx.bench.cases import Case, load_vectors
from embedx.bench.evidence import Predictions, save_predictions
from embedx.bench.setups import HeadSpec
from embedx.bench.table import Key, Result, Shots
from embedx.metrics import evaluate
from embedx.shots import sample_shots
from embedx.splits import Positions, Split

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map", "log_loss", "ece", "d_prime")
NONE = np.empty(0, np.int64)
CAUGHT = (ValueError, ArithmeticError, MemoryError)  # of one fit; the others go on


@dataclass(frozen=True)
class Job:
    """Fits of one setup with one number of shots and one seed, on some test parts.

    out: where predictions are kept if all training rows are used.
    """

    case: Case
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


@dataclass(frozen=True)
class Fitted:
    """What one fit made: probabilities [M, C] of the test rows, the C that was chosen if any, and how long it took."""

    proba: NDArray[np.float64]
    C: float | None
    seconds: float


def compute(job: Job) -> tuple[list[Result], list[str]]:
    """Return the results of a job, and a sentence for each fit that failed.

    Every fit runs on one thread: numbers do not depend on how many run at a time.
    """
    from threadpoolctl import threadpool_limits

    case = job.case
    views = case.views(job.layer, job.pooling)
    x = load_vectors(case.folder, views, case.ids.tobytes())
    results, scored, failures = [], [], []
    with threadpool_limits(1):
        for part in case.splits.parts:
            if part.name in job.parts:
                learn, choose = draw(job, part)
                try:
                    fitted = fit(job, x, learn, choose, part.test)
                    results.append(make_result(job, part, learn, choose, fitted))
                    scored.append((part, fitted.proba))
                except CAUGHT as error:
                    name = f"{case.task}, {case.model} {', '.join(views)} with {job.head}, shots {job.shots}"
                    failures.append(f"{name}, test part {part.name}: {error}")
    if job.shots == "all" and scored:
        keep(job, scored)
    return results, failures


def draw(job: Job, part: Split) -> tuple[Positions, Positions]:
    """Return the rows to learn from, and those to choose by.

    With few shots there is nothing to choose by but the rows that were drawn: a validation part has many more.
    """
    if job.shots == "all":
        return part.train, part.validation
    drawn = sample_shots(job.case.targets.y[part.train], job.case.groups[part.train], job.shots, job.seed)
    return part.train[drawn], NONE


def fit(job: Job, x: NDArray[np.float32], learn: Positions, choose: Positions, test: Positions) -> Fitted:
    """Fit a head on some rows, and ask it about others."""
    begun = time.perf_counter()
    targets, of = job.case.targets, np.concatenate([learn, choose])
    head = heads.fit(
        job.head.kind,
        x[of],
        targets.y[of],
        targets.classes,
        multilabel=targets.multilabel,
        groups=job.case.groups[of],
        validation=np.arange(len(of)) >= len(learn) if len(choose) else None,
        sample_weight=None if (targets.weights == 1).all() else targets.weights[of],
        head_model=job.head.steps,
        seed=job.seed,
        **job.head.settings,
    )
    proba = head.predict_proba(x[test])
    C = head.settings.get("C")
    return Fitted(proba, None if C is None else float(C), time.perf_counter() - begun)


def make_result(job: Job, part: Split, learn: Positions, choose: Positions, fitted: Fitted) -> Result:
    """Score what was said of a test part."""
    case, targets = job.case, job.case.targets
    truth = targets.y[part.test]
    found = evaluate(truth, fitted.proba, targets.classes, multilabel=targets.multilabel, samples=0).figures
    figures: dict[str, Any] = {name: None if (one := found.get(name)) is None else one.value for name in FIGURES}
    return Result(
        **job.key(part.name)._asdict(),
        rows_train=len(learn) + len(choose),
        rows_test=len(part.test),
        classes=len(targets.classes),
        leaky=case.splits.leaky,
        duplicates=case.duplicates[part.name],
        C=fitted.C,
        **figures,
        **baselines(targets.y[np.concatenate([learn, choose])], truth),
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


def keep(job: Job, scored: list[tuple[Split, NDArray[np.float64]]]) -> None:
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
