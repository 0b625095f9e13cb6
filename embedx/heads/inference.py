"""Forward: from vectors to logits and probabilities, in numpy alone.

Every kind is a chain of steps and a linear classifier; mlp has a hidden layer before it, weighted-layers a weighted sum
of the layers. Only knn keeps rows and lets them vote.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.heads.preprocessing import Array, Arrays, apply_chain

Floats = NDArray[np.float64]

CHUNK = 4096  # rows at a time: 32 MB of 1024 float64
NEAR = 1e-3  # cosine distances below count as this: nearer rows are copies, and one must not outvote all others
LEAST = 1e-9  # the probability of a class for which nobody voted


def make_logits(x: Array, arrays: Arrays, settings: Mapping[str, Any], multilabel: bool) -> Floats:
    """Return logits [N, C] of vectors [N, D], or [N, L, D] of several layers; for the settings see `Head`."""
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
    """Return the logits [N, C] of what the k nearest of the kept rows vote, by cosine.

    `positive_votes` [M, C] are the votes of a kept row for every class. In multi-label problems `negative_votes` are
    the votes against it.
    """
    similarity = x.astype(np.float32) @ arrays["vectors"].T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[
        :, : settings["k"]
    ]  # stable: of equal ones the first, always
    near = np.take_along_axis(similarity, nearest, axis=1).astype(np.float64)
    weight = 1 / np.maximum(1 - near, NEAR) if settings["weights"] == "distance" else np.ones_like(near)
    ayes = np.einsum("nk,nkc->nc", weight, arrays["ayes"][nearest])
    if not multilabel:
        return np.asarray(np.log(np.maximum(ayes / ayes.sum(axis=1, keepdims=True), LEAST)))
    noes = np.einsum("nk,nkc->nc", weight, arrays["noes"][nearest])
    total = ayes + noes
    logits: Floats = np.log(np.maximum(ayes / total, LEAST)) - np.log(np.maximum(noes / total, LEAST))
    return logits


def to_probabilities(logits: Floats, multilabel: bool) -> Floats:
    """Return probabilities [N, C]: of classes that exclude each other (soft-max), or of each label (sigmoid).

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
