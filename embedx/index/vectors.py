"""Vectors: small helpers for arrays of vectors."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from embedx.index.matrix import Floats, Ids

if TYPE_CHECKING:
    pass


ROUNDING = 1e-6  # by how much the cosine of a vector with itself falls short of 1 in float32


def factorize(values: Iterable[object]) -> Ids:
    """Give equal things equal numbers.

    >>> factorize(["a", "b", "a"]).tolist()
    [0, 1, 0]
    """
    known: dict[object, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], np.int64)


def unit(vectors: Floats) -> Floats:
    """Scale vectors [N, D] to length 1; a zero vector stays zero, and is like nothing.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(lengths == 0, 1, lengths), np.float32)
