"""Fits: a case and a setup -> results, one for each test part. This is what the processes of a benchmark run."""

import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx import __version__, heads
from embedx.bench.cases import load_vectors
from embedx.bench.evidence import Predictions, save_predictions
from embedx.bench.jobs import Drawn, Fitted, Job, draw
from embedx.bench.sweeping import fit_swept, sweeps
from embedx.bench.table import Result
from embedx.errors import UsageError
from embedx.metrics import evaluate
from embedx.splits import Split

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map", "log_loss", "ece", "d_prime")
CAUGHT = (ValueError, ArithmeticError, MemoryError)  # of one fit; the others go on


def compute(job: Job) -> tuple[list[Result], list[str]]:
    """Return the results of a job, and a sentence for each fit that failed.

    Every fit runs on one thread: numbers do not depend on how many run at a time.
    """
    from threadpoolctl import threadpool_limits

    case = job.case
    x = load_vectors(case.folder, case.views(job.layer, job.pooling), case.ids.tobytes())
    drawn = [draw(job, part) for part in case.splits.parts if part.name in job.parts]
    results, scored, failures = [], [], []
    with threadpool_limits(1):
        for one, swept in zip(drawn, sweep_all(job, x, drawn), strict=True):
            try:
                fitted = swept or fit(job, x, one)
                results.append(make_result(job, one, fitted))
                scored.append((one.part, fitted.proba))
            except CAUGHT as error:
                failures.append(f"{job}, test part {one.part.name}: {error}")
    if job.shots == "all" and scored:
        keep(job, scored)
    return results, failures


def sweep_all(job: Job, x: NDArray[np.float32], drawn: Sequence[Drawn]) -> Sequence[Fitted | None]:
    """Return what a sweep makes of the fits of a job; None for what is to be fitted by itself."""
    if sweeps(job):
        with contextlib.suppress(UsageError):  # of one fit, which says so itself
            return fit_swept(job, x, drawn)
    return [None] * len(drawn)


def fit(job: Job, x: NDArray[np.float32], drawn: Drawn) -> Fitted:
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
    return Fitted(proba, None if C is None else float(C), time.perf_counter() - begun)


def make_result(job: Job, drawn: Drawn, fitted: Fitted) -> Result:
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
