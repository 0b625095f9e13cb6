"""Neighbours: the k best rows by exact scores; rows with equal scores keep their order.

The result of a matrix product depends on how many rows are multiplied together: equal rows may get scores that differ
in the last digit. So a product only proposes rows, and the score of each proposed row is computed on its own.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SLACK = 2e-5  # twice the largest error of a product of unit vectors in float32; 2e-6 was seen with 4096 dimensions
Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


def product(query: Floats, vectors: Floats) -> Floats:
    """Return the inner products [N] of a query [D] with vectors [N, D]; equal vectors have equal products.

    >>> product(np.array([1.0, 2.0], np.float32), np.array([[3.0, 4.0]], np.float32)).tolist()
    [11.0]
    """
    products: Floats = (vectors * query).sum(axis=1)
    return products


def product_of_rows(query: Floats, vectors: Floats, rows: Positions) -> Floats:
    """Return the inner products [P] of a query [D] with some rows [P] of vectors [N, D]."""
    return product(query, vectors[rows])


def best_rows(
    approximate: Floats, k: int, slack: float, rescore: Callable[[Positions], Floats]
) -> tuple[Floats, Positions]:
    """Return the scores [K] and positions [K] of the k best rows, best first, equal scores in the order of the rows.

    Args:
        approximate: approximate scores [N].
        k: the number of rows; all rows if there are fewer.
        slack: twice the largest error of an approximate score.
        rescore: returns the exact scores [P] of positions [P].

    >>> best_rows(np.array([0.1, 0.5, 0.50001, 0.2]), 1, 1e-4, lambda positions: np.full(len(positions), 0.5))
    (array([0.5]), array([1]))
    """
    k = min(k, len(approximate))
    lowest = np.partition(approximate, len(approximate) - k)[len(approximate) - k]
    positions = np.flatnonzero(approximate >= lowest - slack)
    scores = rescore(positions)
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], positions[order]
