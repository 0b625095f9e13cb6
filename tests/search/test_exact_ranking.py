"""Rows in the order of exact scores: whatever a product of matrices gives them, equal vectors are in order of ids."""

import numpy as np
import pytest

from embedx.index.vector_index import VectorIndex
from embedx.search.answers import score_rows
from embedx.search.exact_ranking import exact_scores, exactly_in_band, ranked_blocks
from embedx.search.queries import NO_IDS, Query
from embedx.search.selection import in_band, rank

ROWS, DIM = 4500, 33  # more than two pages, and no multiple of what a processor computes at a time


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("queries", [1, 3])
def test_order_is_that_of_exact_scores(metric: str, queries: int) -> None:
    random = np.random.default_rng(queries)
    vectors = random.standard_normal((ROWS // 5, DIM)).astype(np.float32)[random.integers(0, ROWS // 5, ROWS)]
    vectors *= 1 + random.integers(0, 3, (ROWS, 1)).astype(np.float32)
    every = np.arange(1, ROWS + 1)
    index = VectorIndex.build(every, vectors, metric)
    query = Query(random.standard_normal((queries, DIM)).astype(np.float32), NO_IDS)
    ids, products = score_rows(index, query, None)
    noise = random.uniform(-0.45, 0.45, ROWS) * index.largest_error(query.vectors)  # of a processor that rounds more
    products += noise.astype(np.float32)
    best, scores = rank(every, exact_scores(index, query, every))
    assert len(np.unique(scores)) < ROWS
    for place in (None, 10, 2000):
        lowest = -np.inf if place is None else float(scores[place])  # a row, and all that are equal to it, are just in
        blocks = list(ranked_blocks(index, query, ids, products, lowest))
        found = [np.concatenate(arrays) for arrays in zip(*blocks, strict=True)]
        expected = best[scores >= lowest], scores[scores >= lowest]
        assert [array.tolist() for array in found] == [array.tolist() for array in expected]
    band = float(scores[3000]), float(scores[20])
    for k in (1, 50, ROWS):
        wanted = in_band(best, scores, *band, k)
        chosen = exactly_in_band(index, query, ids, products, band, k)
        assert [array.tolist() for array in chosen] == [array.tolist() for array in wanted]
