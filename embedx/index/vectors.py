"""Helpers for arrays of vectors."""

from collections.abc import Iterable

import numpy as np

from embedx.index.matrix import Floats, Ids

ROUNDING = 1e-6  # the cosine of a float32 vector with itself can be this much below 1


def factorize(values: Iterable[object]) -> Ids:
    """Return a number for every value; equal values get equal numbers.

    >>> factorize(["a", "b", "a"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def unit(vectors: Floats) -> Floats:
    """Scale vectors [N, D] to length 1; a zero vector stays zero, and its cosine with every vector is 0.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(lengths == 0, 1, lengths), np.float32)
