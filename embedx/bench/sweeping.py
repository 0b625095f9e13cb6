"""Sweeping: logistic heads of all test parts, with the choice of C inside each, in one go.

It makes what `embedx.heads.fit("logistic")` makes, by the same inner folds and the same rule, in less time.
"""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedx.bench.jobs import Drawn, Fitted, Job
from embedx.heads import check_settings
from embedx.heads.examples import Examples, make_examples
from embedx.heads.logistic import GRID, choose_among, to_logits

CHOICES = ("criterion", "inner_folds")  # settings that say how C is chosen


def sweeps(job: Job) -> bool:
    """Tell whether the fits of a job are a sweep: of one label per row, without steps, and with a C to choose."""
    targets, head = job.case.targets, job.head
    plain = not targets.multilabel and bool((targets.weights == 1).all()) and not head.steps
    return head.kind == "logistic" and plain and set(head.settings) <= set(CHOICES)


def fit_swept(job: Job, x: NDArray[np.float32], drawn: Sequence[Drawn]) -> list[Fitted | None]:
    """Return what each fit makes, in the order of what was drawn; None where C cannot be chosen, for lack of groups.

    Raises:
        UsageError: some training rows are of one class.
    """
    from embedx.heads.sweep import sweep

    begun = time.perf_counter()
    settings = check_settings("logistic", job.head.settings)
    examples = [select_examples(job, x, one) for one in drawn]
    inner = [one.folds(settings["inner_folds"]) for one in examples]
    rows = [one.rows for one in drawn]
    parts = [(of[train], of[held]) for of, folds in zip(rows, inner, strict=True) for train, held in folds]
    parts += [(of, one.part.test) for of, one, folds in zip(rows, drawn, inner, strict=True) if folds]
    if not parts:
        return [None] * len(drawn)
    made = sweep({"": x}, job.case.targets.y, parts, GRID, classes=job.case.targets.classes, keep=["probabilities"])
    held_out = iter(made.probabilities["", p] for p in range(sum(map(len, inner))))
    tested = iter(made.probabilities["", p] for p in range(sum(map(len, inner)), len(parts)))
    found: list[Fitted | None] = []
    for one, folds in zip(examples, inner, strict=True):
        if folds:
            said = [[to_logits(proba) for proba in next(held_out)] for _ in folds]
            best, _ = choose_among(one, folds, said, settings["criterion"])
            found.append(Fitted(next(tested)[best].astype(np.float64), GRID[best], 0.0))
        else:
            found.append(None)
    seconds = (time.perf_counter() - begun) / len(drawn)
    return [one and Fitted(one.proba, one.C, seconds) for one in found]


def select_examples(job: Job, x: NDArray[np.float32], one: Drawn) -> Examples:
    """Return the training rows of a fit as heads take them."""
    return make_examples(
        x[one.rows], job.case.targets.y[one.rows], job.case.targets.classes, multilabel=False,
        groups=job.case.groups[one.rows], validation=one.validation, sample_weight=None, class_weight=None, chain=(),
        seed=job.seed,
    )  # fmt: skip
