"""Logistic: a linear classifier by scikit-learn, with the strength of its penalty chosen inside the training rows."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.heads.examples import Examples, Positions
from embedx.heads.forward import Floats
from embedx.heads.judging import ABSENT, describe_absent, make_judge
from embedx.heads.preparation import Array, apply_chain

GRID = tuple(float(f"{C:.3g}") for C in np.logspace(-4, 2, 10))
UNCHOSEN = 0.1  # where too few groups are there to choose
Linear = tuple[Floats, Floats]  # weight [C, D], bias [C]


def fit_logistic(examples: Examples, settings: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays of a logistic regression on all examples, and what was chosen on the way."""
    C: float | None = settings["C"]
    learned: dict[str, Any] = {}
    if C is None:
        C, learned = choose_penalty(examples, settings)
    arrays, x = examples.prepare()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        ((weight, bias),) = fit_path(examples, x, slice(None), [C], settings["max_iter"])
    notes = describe_absent(examples)
    if any("converge" in str(one.message) for one in raised):
        notes.append(f"The solver stopped at max_iter = {settings['max_iter']} before it had converged.")
    return arrays | {"weight": weight, "bias": bias}, {"C": C, **learned, "notes": learned.get("notes", []) + notes}


def choose_penalty(examples: Examples, settings: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return the C of the best mean score over inner folds, of equal ones the smallest, and the scores of all."""
    judge = make_judge(examples, settings["criterion"])
    scores, sizes = [], []
    for train, held in examples.folds(settings["inner_folds"]):
        arrays, x = examples.prepare(train, clip=True)
        foreign = apply_chain(len(examples.chain), arrays, examples.x[held])
        if len(x) < x.shape[1]:  # with an L2 penalty the solution lies in the span of the rows: fewer numbers, the same
            basis = np.linalg.svd(x, full_matrices=False)[2]
            x, foreign = x @ basis.T, foreign @ basis.T
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one C of many that has not converged is scored as it is
            path = fit_path(examples, x, train, GRID, settings["max_iter"])
            scores.append([judge(train, held, foreign @ weight.T + bias) for weight, bias in path])
        sizes.append(len(held))
    if not scores:
        note = f"C was not chosen, as no class has examples in two groups: it is {UNCHOSEN}."
        return UNCHOSEN, {"notes": [note]}
    means = [tuple(one) for one in np.average(scores, axis=0, weights=sizes)]
    best = max(range(len(GRID)), key=lambda one: means[one])
    return GRID[best], {"inner_scores": {str(C): float(one[0]) for C, one in zip(GRID, means, strict=True)}}


def fit_path(
    examples: Examples, x: Floats, rows: Positions | slice, penalties: Sequence[float], max_iter: int
) -> Iterator[Linear]:
    """Yield the classifier for each C, ascending; each starts where the last one ended."""
    y, weights = examples.y[rows], examples.weights[rows]
    count = len(examples.classes)
    if examples.multilabel:
        known = set(examples.present(rows).tolist())
        every = [
            list(_fit_binary(x, y[:, one], weights[:, one], penalties, max_iter))
            if one in known
            else [_constant(x.shape[1], y[:, one], weights[:, one])] * len(penalties)
            for one in range(count)
        ]
        for label in zip(*every, strict=True):
            yield np.stack([coef for coef, _ in label]), np.array([bias for _, bias in label])
        return
    present = examples.present(rows)
    kept = weights > 0
    for coef, intercept in _fit_each(x[kept], y[kept], weights[kept], penalties, max_iter):
        weight, bias = np.zeros((count, x.shape[1])), np.full(count, ABSENT)
        if len(present) == 2:  # scikit-learn has one row for two classes: a sigmoid is a soft-max over (0, z)
            coef, intercept = np.stack([0 * coef[0], coef[0]]), np.array([0, intercept[0]])
        weight[present], bias[present] = coef, intercept
        yield weight, bias


def _fit_binary(
    x: Floats, y: NDArray[np.int64], weights: Floats, penalties: Sequence[float], max_iter: int
) -> Iterator[tuple[Floats, float]]:
    kept = weights > 0
    for coef, intercept in _fit_each(x[kept], y[kept], weights[kept], penalties, max_iter):
        yield coef[0], float(intercept[0])


def _fit_each(
    x: Floats, y: NDArray[np.int64], weights: Floats, penalties: Sequence[float], max_iter: int
) -> Iterator[Linear]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=max_iter, warm_start=True)
    for C in penalties:
        model.set_params(C=C).fit(x, y, sample_weight=weights)
        yield model.coef_, model.intercept_


def _constant(dim: int, y: NDArray[np.int64], weights: Floats) -> tuple[Floats, float]:
    """Return a classifier that always says how often a label was seen, by the rule of succession."""
    ayes = float(weights[y == 1].sum())
    return np.zeros(dim), float(np.log((ayes + 1) / (weights.sum() - ayes + 1)))
