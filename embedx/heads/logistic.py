"""Logistic: a linear classifier by scikit-learn, with the strength of its penalty chosen inside the training rows."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.heads.examples import Examples, Positions
from embedx.heads.forward import Floats
from embedx.heads.judging import describe_absent, make_judge
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
    """Return the C of the best mean score over inner folds, of equal ones the smallest, and all scores."""
    judge = make_judge(examples, settings["criterion"])
    scores, sizes = [], []
    for train, held in examples.folds(settings["inner_folds"]):
        arrays, x = examples.prepare(train)
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
    """Yield the classifier for each C, ascending; each starts where the last one ended.

    Of several labels, each has a regression of its own.
    """
    y, weights, present = examples.y[rows], examples.weights[rows], examples.present(rows)
    tasks = [(present, y, weights)]
    if examples.multilabel:
        tasks = [(present[[place]], y[:, one], weights[:, one]) for place, one in enumerate(present)]
    paths = [list(_fit_each(x[w > 0], truth[w > 0], w[w > 0], penalties, max_iter)) for _, truth, w in tasks]
    for place in range(len(penalties)):
        weight, bias = np.zeros((len(examples.classes), x.shape[1])), np.zeros(len(examples.classes))
        for (classes, *_), path in zip(tasks, paths, strict=True):
            coef, intercept = path[place]
            if len(coef) < len(classes):  # scikit-learn has one row for two: a sigmoid is a soft-max over (0, z)
                coef, intercept = np.concatenate([0 * coef, coef]), np.concatenate([0 * intercept, intercept])
            weight[classes], bias[classes] = coef, intercept
        examples.fill_absent(weight, bias, rows)
        yield weight, bias


def _fit_each(
    x: Floats, y: NDArray[np.int64], weights: Floats, penalties: Sequence[float], max_iter: int
) -> Iterator[Linear]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=max_iter, warm_start=True)
    for C in penalties:
        model.set_params(C=C).fit(x, y, sample_weight=weights)
        yield model.coef_, model.intercept_
