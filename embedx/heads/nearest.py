"""Nearest: heads that compare by cosine: knn with the training rows, prototype with the mean of each class."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.heads.calibration import fit_temperature
from embedx.heads.criteria import describe_absent
from embedx.heads.inference import NEGATIVE_VOTES, POSITIVE_VOTES, PRIOR, Floats, to_probabilities
from embedx.heads.preprocessing import Array, apply_chain
from embedx.heads.training_data import Examples, Positions

DEFAULT_TEMPERATURE = 0.1  # for cosines, if no group can be held out to measure it
MAX_TEMPERATURE = 100.0  # for cosines: all classes then have the same probability
INNER_FOLDS = 5  # on which the temperature is measured


def fit_knn(examples: Examples, settings: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the training rows as unit vectors, their votes, and the frequencies of the classes."""
    arrays, x = examples.prepare()
    truth = examples.one_hot()
    weights = examples.weights if examples.multilabel else examples.weights[:, None]
    kept = weights.any(axis=1)
    arrays |= {
        "vectors": x[kept].astype(np.float32),
        POSITIVE_VOTES: (weights * truth)[kept].astype(np.float32),
        PRIOR: to_probabilities(examples.prior()[None], examples.multilabel)[0],
    }
    if examples.multilabel:
        arrays[NEGATIVE_VOTES] = (weights * (1 - truth))[kept].astype(np.float32)
    notes = describe_absent(examples)
    if kept.sum() < settings["k"]:
        notes.append(f"There are {kept.sum()} training rows, fewer than k; all of them vote.")
    return arrays, {"notes": notes}


def fit_prototype(examples: Examples, settings: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return a linear classifier whose logits are cosines with the mean of each class, divided by a temperature.

    Multi-label: a logit is the cosine with the mean of the rows that have the label, minus the cosine with the mean of
    the other rows. The temperature is the one with the lowest log loss on held-out groups.
    """
    temperature: float | None = settings["temperature"]
    notes: list[str] = []
    if temperature is None:
        temperature, notes = choose_temperature(examples)
    arrays, x = examples.prepare()
    weight, bias = find_prototypes(examples, slice(None), x)
    arrays |= {"weight": weight / temperature, "bias": bias}
    return arrays, {"temperature": temperature, "notes": notes + describe_absent(examples)}


def choose_temperature(examples: Examples) -> tuple[float, list[str]]:
    """Return the temperature for the cosines of held-out rows of inner folds, and notes."""
    logits, truth, groups = [], [], []
    for train, held in examples.folds(INNER_FOLDS):
        arrays, x = examples.prepare(train)
        weight, bias = find_prototypes(examples, train, x)
        cosines = apply_chain(len(examples.chain), arrays, examples.x[held]) @ weight.T + bias
        if examples.multilabel:
            cosines[:, ~weight.any(axis=1)] = 0  # a constant must not influence the temperature
        logits.append(cosines)
        truth.append(examples.y[held])
        groups.append(examples.groups[held])
    if not logits:
        return DEFAULT_TEMPERATURE, [
            f"No class has examples in two groups, so the temperature is the default, {DEFAULT_TEMPERATURE}."
        ]
    count = len(np.unique(np.concatenate(groups)))
    temperature = fit_temperature(np.concatenate(logits), np.concatenate(truth), examples.multilabel, count)
    return min(temperature, MAX_TEMPERATURE), []


def find_prototypes(examples: Examples, rows: Positions | slice, x: Floats) -> tuple[Floats, NDArray[np.float64]]:
    """Return weight [C, D] and bias [C] for a temperature of 1."""
    y, weights = examples.one_hot()[rows], examples.weights[rows]
    if examples.multilabel:
        weight = mean_direction(x, weights * y) - mean_direction(x, weights * (1 - y))
    else:
        weight = mean_direction(x, weights[:, None] * y)
    bias = np.zeros(len(weight))
    examples.fill_absent(weight, bias, rows)
    return weight, bias


def mean_direction(x: Array, shares: Array) -> Array:
    """Return the weighted mean of vectors [N, D] for each column of shares [N, C], scaled to length 1.

    >>> mean_direction(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0], [1.0]])).round(3).tolist()
    [[0.707, 0.707]]
    """
    sums = shares.T @ x
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(lengths == 0, 1, lengths))
