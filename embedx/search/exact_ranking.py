"""Exact ranking: rows in the order of scores that do not depend on the rows around them.

A product of matrices gives a vector a score that can differ in the last digits, by the number of rows that it is
multiplied with. So the products [N] only propose an order; from the best row on, each row is scored on its own, as
in a search for the nearest rows. Then rows with equal vectors have equal scores, and are in the order of their ids.
"""

from collections.abc import Iterator

import numpy as np

from embedx.index.exact import prepare, score_pairs
from embedx.index.matrix import Floats, Ids
from embedx.search.queries import Query
from embedx.search.searched import SearchedIndex
from embedx.search.selection import in_band, rank

FIRST_PAGE, LAST_PAGE = 1000, 32_000  # rows that are scored at a time: often only the best ones are needed


def exact_scores(index: SearchedIndex, query: Query, ids: Ids) -> Floats:
    """Return the scores [N] of rows to the nearest query vector."""
    vectors = index.vectors(ids)
    scores = np.full(len(ids), -np.inf, np.float32)
    for vector in prepare(query.vectors, index.metric):
        scores = np.maximum(scores, score_pairs(vector, vectors, index.metric))
    return scores


def ranked_blocks(
    index: SearchedIndex, query: Query, ids: Ids, products: Floats, min_score: float
) -> Iterator[tuple[Ids, Floats]]:
    """Yield rows and exact scores, best first, in blocks; rows of equal score by id.

    Args:
        index: the index of the rows.
        query: the query.
        ids: the rows [N].
        products: their scores [N] from products of matrices.
        min_score: the lowest score of a row.
    """
    error = index.largest_error(query.vectors)
    likely = products >= min_score - error
    ids, products = rank(ids[likely], products[likely])
    waiting, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
    begin, size = 0, FIRST_PAGE
    while begin < len(ids):
        page = ids[begin : begin + size]
        begin, size = begin + size, min(2 * size, LAST_PAGE)
        waiting, scores = rank(
            np.concatenate([waiting, page]), np.concatenate([scores, exact_scores(index, query, page)])
        )
        later = products[begin] + error if begin < len(ids) else -np.inf  # the best score that a later row can have
        ready = int((scores > later).sum())
        kept = int((scores[:ready] >= min_score).sum())
        yield waiting[:kept], scores[:kept]
        waiting, scores = waiting[ready:], scores[ready:]


def exactly_in_band(
    index: SearchedIndex, query: Query, ids: Ids, products: Floats, band: tuple[float, float], k: int
) -> tuple[Ids, Floats]:
    """Return rows and exact scores in a band, best first; if there are more than k, those nearest to its middle."""
    error, (low, high) = index.largest_error(query.vectors), band
    likely = (products >= low - error) & (products <= high + error)
    ids, products = ids[likely], products[likely]
    distances = np.abs(products.astype(np.float64) - (low + high) / 2)
    if len(ids) > k:
        near = distances <= np.partition(distances, k - 1)[k - 1] + 2 * error
        ids = ids[near]
    return in_band(*rank(ids, exact_scores(index, query, ids)), low, high, k)
