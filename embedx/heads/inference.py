"""Inference: vectors -> logits and probabilities, with numpy alone.

Every kind is a chain of steps and a linear classifier; mlp has a hidden layer before it, weighted-layers a weighted sum
of the layers. Only knn keeps training rows, which vote.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.heads.preprocessing import Array, Arrays, apply_chain
from embedx.neighbours import SLACK, best_rows, product_of_rows

Floats = NDArray[np.float64]

# Names of arrays in saved heads, which must stay as they are.
POSITIVE_VOTES, NEGATIVE_VOTES, PRIOR = "ayes", "noes", "prior"
CHUNK = 4096  # rows at a time: 32 MB of 1024 float64
MIN_DISTANCE = 1e-3  # lower cosine distances count as this: a copy must not outvote all other neighbours
MIN_PROBABILITY = 1e-9  # probability of a class without votes, for heads saved without a prior


def make_logits(x: Array, arrays: Arrays, settings: Mapping[str, Any], multilabel: bool) -> Floats:
    """Return logits [N, C] of vectors [N, D], or [N, L, D] for several layers; see `FittedHead`."""
    parts: list[Floats] = [
        score(x[i : i + CHUNK], arrays, settings, multilabel) for i in range(0, max(1, len(x)), CHUNK)
    ]
    return np.concatenate(parts)


def score(x: Array, arrays: Arrays, settings: Mapping[str, Any], multilabel: bool) -> Floats:
    """Return logits [N, C] of some rows."""
    x = apply_chain(settings["steps"], arrays, x)
    if "vectors" in arrays:
        return vote(x, arrays, settings, multilabel)
    if "mixture" in arrays:
        x = np.einsum("nld,l->nd", x, arrays["mixture"])
    if "hidden.weight" in arrays:
        x = np.maximum(x @ arrays["hidden.weight"].T + arrays["hidden.bias"], 0)
    logits: Floats = x @ arrays["weight"].T + arrays["bias"]
    return logits


def vote(x: Floats, arrays: Arrays, settings: Mapping[str, Any], multilabel: bool) -> Floats:
    """Return logits [N, C] from the votes of the k nearest training rows, by cosine.

    The positive votes [M, C] are the votes of each training row for each class; multi-label: the negative votes are
    those against it. The frequency of the class counts as one more vote (the rule of succession), so that no
    probability is 0 or 1.
    """
    queries, vectors = x.astype(np.float32), arrays["vectors"]
    pairs = [
        best_rows(values, settings["k"], SLACK, partial(product_of_rows, query, vectors))
        for query, values in zip(queries, queries @ vectors.T, strict=True)
    ]
    size = min(settings["k"], len(vectors))
    near = np.array([scores for scores, _ in pairs], np.float64).reshape(-1, size)
    nearest = np.array([rows for _, rows in pairs], np.int64).reshape(-1, size)
    weight = 1 / np.maximum(1 - near, MIN_DISTANCE) if settings["weights"] == "distance" else np.ones_like(near)
    positive = np.einsum("nk,nkc->nc", weight, arrays[POSITIVE_VOTES][nearest])
    if not multilabel:
        return np.log(smooth(positive / positive.sum(axis=1, keepdims=True), arrays.get(PRIOR), size))
    negative = np.einsum("nk,nkc->nc", weight, arrays[NEGATIVE_VOTES][nearest])
    total = positive + negative
    against = None if PRIOR not in arrays else 1 - arrays[PRIOR]
    logits: Floats = np.log(smooth(positive / total, arrays.get(PRIOR), size))
    return logits - np.log(smooth(negative / total, against, size))


def smooth(shares: Floats, prior: Array | None, votes: int) -> Floats:
    """Return shares [N, C] of some votes, with the prior [C] as one more vote.

    >>> smooth(np.array([[1.0, 0.0]]), np.array([0.75, 0.25]), 4)
    array([[0.95, 0.05]])
    """
    smoothed: Floats = np.maximum(shares, MIN_PROBABILITY) if prior is None else (votes * shares + prior) / (votes + 1)
    return smoothed


def to_probabilities(logits: Floats, multilabel: bool) -> Floats:
    """Return probabilities [N, C]: softmax over classes; multi-label: the sigmoid of each label.

    >>> logits = np.array([[0.0, -1e4]])
    >>> to_probabilities(logits, False).tolist(), to_probabilities(logits, True).tolist()
    ([[1.0, 0.0]], [[0.5, 0.0]])
    """
    if multilabel:
        small = np.exp(-np.abs(logits))  # never overflows
        sigmoid: Floats = np.where(logits >= 0, 1, small) / (1 + small)
        return sigmoid
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax: Floats = powers / powers.sum(axis=1, keepdims=True)
    return softmax
