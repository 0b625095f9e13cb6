"""Logistic regression by scikit-learn; the penalty strength C is chosen inside the training rows."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.heads.criteria import describe_absent, make_judge
from embedx.heads.inference import Floats
from embedx.heads.preprocessing import Array, apply_chain, read_chain
from embedx.heads.training_data import ABSENT_LOGIT, Examples, Positions

C_GRID = tuple(  # ten values from 0.0001 to 100, equally spaced on a log scale
    float(f"{C:.3g}") for C in np.logspace(-4, 2, 10)
)
DEFAULT_C = 0.1  # if there are too few groups to choose; it suits 100 to 2000 standardised dimensions
Linear = tuple[Floats, Floats]  # weight [C, D], bias [C]


def fit_logistic(examples: Examples, settings: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays of a logistic regression on all examples, with what was chosen and notes."""
    C: float | None = settings["C"]
    learned: dict[str, Any] = {}
    if C is None:
        C, learned = choose_penalty(examples, settings)
    arrays, x = examples.prepare()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        ((weight, bias),) = fit_path(examples, x, slice(None), [C], settings["max_iter"])
    notes = describe_absent(examples)
    if any("converge" in str(warning.message) for warning in raised):
        notes.append(f"The solver stopped at max_iter = {settings['max_iter']} before it converged.")
    return arrays | {"weight": weight, "bias": bias}, {"C": C, **learned, "notes": learned.get("notes", []) + notes}


def choose_penalty(examples: Examples, settings: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return the C with the best mean score over inner folds, and the scores of all."""
    folds = examples.folds(settings["inner_folds"])
    if not folds:
        note = f"No class has examples in two groups, so C is the default, {DEFAULT_C}."
        return DEFAULT_C, {"notes": [note]}
    if not examples.multilabel and examples.chain == read_chain("Standardise()"):
        logits = sweep_path(examples, folds)
    else:
        logits = [fit_held_out(examples, train, held, settings["max_iter"]) for train, held in folds]
    best, means = choose_among(examples, folds, logits, settings["criterion"])
    return C_GRID[best], {"inner_scores": {str(C): mean for C, mean in zip(C_GRID, means, strict=True)}}


def choose_among(
    examples: Examples,
    folds: Sequence[tuple[Positions, Positions]],
    logits: Sequence[Sequence[Floats]],
    criterion: str,
) -> tuple[int, list[float]]:
    """Return the position in `C_GRID` of the best mean score over folds (the smallest C of equal ones), and all means.

    `logits` are those of the held-out rows of each fold, for each C.
    """
    judge = make_judge(examples, criterion)
    scores = [
        [judge(train, held, of_fold) for of_fold in path] for (train, held), path in zip(folds, logits, strict=True)
    ]
    means = [tuple(mean) for mean in np.average(scores, axis=0, weights=[len(held) for _, held in folds])]
    return max(range(len(C_GRID)), key=lambda place: means[place]), [float(mean[0]) for mean in means]


def sweep_path(examples: Examples, folds: Sequence[tuple[Positions, Positions]]) -> list[list[Floats]]:
    """Return logits [M, C] of the held-out rows of each fold for each C, by the batched solver."""
    from embedx.heads.batched_logistic.sweep import sweep

    result = sweep(
        {"": examples.x}, examples.y, folds, C_GRID, classes=examples.classes, sample_weight=examples.weights,
        keep=["probabilities"],
    )  # fmt: skip
    return [[to_logits(proba) for proba in result.probabilities["", fold]] for fold in range(len(folds))]


def to_logits(proba: NDArray[np.float32]) -> Floats:
    """Return logits [M, C] of probabilities; classes without examples get the logit that heads give them.

    >>> to_logits(np.array([[1.0, 0.0]], np.float32)).round(0).tolist()
    [[0.0, -30.0]]
    """
    logits: Floats = np.log(np.maximum(proba.astype(np.float64), np.exp(ABSENT_LOGIT)))
    return logits


def fit_held_out(examples: Examples, train: Positions, held: Positions, max_iter: int) -> list[Floats]:
    """Return logits [M, C] of the held-out rows of a fold for each C, fitted one after the other."""
    arrays, x = examples.prepare(train)
    held_x = apply_chain(len(examples.chain), arrays, examples.x[held])
    if len(x) < x.shape[1]:  # with an L2 penalty the solution lies in the span of the rows, so fewer dimensions suffice
        basis = np.linalg.svd(x, full_matrices=False)[2]
        x, held_x = x @ basis.T, held_x @ basis.T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a C for which the solver has not converged is scored as it is
        return [held_x @ weight.T + bias for weight, bias in fit_path(examples, x, train, C_GRID, max_iter)]


def fit_path(
    examples: Examples, x: Floats, rows: Positions | slice, penalties: Sequence[float], max_iter: int
) -> Iterator[Linear]:
    """Yield the classifier for each C, ascending; each starts from the solution before it.

    Multi-label: each label has a regression of its own.
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
            if len(coef) < len(classes):  # scikit-learn has one row for two classes: a sigmoid is a softmax over (0, z)
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
