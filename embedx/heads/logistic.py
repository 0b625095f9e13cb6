"""Logistic: a linear classifier by scikit-learn, with the strength of its penalty chosen inside the training rows."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.heads.examples import Examples, Positions
from embedx.heads.forward import Floats, to_probabilities
from embedx.heads.preparation import Array, apply_chain

GRID = tuple(float(f"{C:.3g}") for C in np.logspace(-4, 2, 10))
UNCHOSEN = 0.1  # where too few groups are there to choose
ABSENT = -30.0  # the logit of a class without an example: a probability of 1e-13 beside a logit of 0
CRITERIA = ("log_loss", "balanced_accuracy")
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
    """Return the C of the best mean score over inner folds, of equal ones the smallest, and the scores of all.

    A held-out row counts where its class has examples in the inner training part: of others no C can know.
    """
    scores, sizes = [], []
    for train, held in examples.folds(settings["inner_folds"]):
        known = examples.present(train)
        if not examples.multilabel:
            held = held[np.isin(examples.y[held], known)]
        if not len(held) or len(known) < (1 if examples.multilabel else 2) or not examples.weights[held].any():
            continue
        arrays, x = examples.prepare(train, clip=True)
        foreign = apply_chain(len(examples.chain), arrays, examples.x[held])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one C of many that has not converged is scored as it is
            path = fit_path(examples, x, train, GRID, settings["max_iter"])
            logits = [foreign @ weight.T + bias for weight, bias in path]
        scores.append([rate(examples, held, known, one, settings["criterion"]) for one in logits])
        sizes.append(len(held))
    if not scores:
        note = f"C was not chosen, as no class has examples in two groups: it is {UNCHOSEN}."
        return UNCHOSEN, {"notes": [note]}
    means = np.average(scores, axis=0, weights=sizes)
    return GRID[int(means.argmax())], {"inner_scores": {str(C): float(one) for C, one in zip(GRID, means, strict=True)}}


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


def rate(examples: Examples, held: Positions, known: Positions, logits: Floats, criterion: str) -> float:
    """Return how good logits [N, C] of held-out rows are; more is better.

    Log loss is weighted as the training is, and turned round; balanced accuracy is the mean share of rows told right
    over classes, or over those with and those without each label.
    """
    truth, weights = examples.one_hot()[held], examples.weights[held]
    if examples.multilabel:
        truth, weights, logits = truth[:, known], weights[:, known], logits[:, known]
    if criterion == "log_loss":
        return -log_loss(logits, truth, weights, examples.multilabel)
    if examples.multilabel:
        right = (logits >= 0) == (truth == 1)
        shares = [right[truth[:, one] == side, one] for one in range(truth.shape[1]) for side in (0, 1)]
    else:
        right = logits.argmax(axis=1) == examples.y[held]
        shares = [right[examples.y[held] == one] for one in np.unique(examples.y[held])]
    return float(np.mean([share.mean() for share in shares if len(share)]))


def log_loss(logits: Floats, truth: Floats, weights: Floats, multilabel: bool) -> float:
    """Return the weighted mean of minus the logarithm of the probability of what is true [N, C] of 0 and 1.

    >>> round(log_loss(np.zeros((2, 4)), np.eye(4)[:2], np.ones(2), False), 4)  # the logarithm of 4
    1.3863
    """
    proba = np.clip(to_probabilities(logits, multilabel), 1e-15, 1 - 1e-15)
    loss = -truth * np.log(proba)
    loss = loss - (1 - truth) * np.log(1 - proba) if multilabel else loss.sum(axis=1)
    return float((weights * loss).sum() / weights.sum())


def describe_absent(examples: Examples) -> list[str]:
    """Name the classes of which there is nothing to learn."""
    absent = sorted(set(range(len(examples.classes))) - set(examples.present().tolist()))
    if not absent:
        return []
    names = ", ".join(examples.classes[one] for one in absent)
    if examples.multilabel:
        return [f"Every training row has the same answer for {names}: the head always gives its frequency."]
    return [f"No training row is of {names}: the head never names it."]
