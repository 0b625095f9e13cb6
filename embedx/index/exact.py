"""Exact search: every vector is compared. What approximate kinds are measured against, and fall back to."""

import numpy as np

from embedx.index.matrix import CorruptIndex, Floats, Ids, Matrix
from embedx.index.vectors import unit

METRICS = ("cosine", "ip", "l2")
FEW = 20  # queries; below this a product with numpy is faster than faiss, and nothing has to be imported
CHUNK = 32_768  # rows that are gathered at a time: 100 MB of 768 float32


def prepare(queries: Floats, metric: str) -> Floats:
    """Return queries or vectors [Q, D] as the metric compares them: of length 1 for the cosine."""
    return unit(queries) if metric == "cosine" else np.ascontiguousarray(queries, np.float32)


def score(queries: Floats, vectors: Floats, metric: str) -> Floats:
    """Return the score of every pair [Q, N]: the inner product, or the distance with a minus sign.

    >>> score(np.array([[0.0, 3.0]], np.float32), np.array([[4.0, 0.0]], np.float32), "l2").tolist()
    [[-5.0]]
    """
    if metric != "l2":
        with np.errstate(invalid="ignore"):  # OpenBLAS reads behind small matrices, and may meet a NaN that counts not
            return queries @ vectors.T
    apart = [np.sqrt(np.square(vectors - query, dtype=np.float32).sum(axis=1)) for query in queries]
    return -np.array(apart, np.float32).reshape(len(queries), len(vectors))


def scores_of(matrix: Matrix, queries: Floats, metric: str, positions: Ids | None = None) -> Floats:
    """Return the scores [Q, P] of the vectors at these positions, or of all."""
    if positions is None:
        every = matrix.all()
        parts = [score(queries, every[start : start + CHUNK], metric) for start in range(0, len(matrix), CHUNK)]
    else:
        cuts = range(0, len(positions), CHUNK)
        parts = [score(queries, matrix.take(positions[start : start + CHUNK]), metric) for start in cuts]
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(queries), 0), np.float32)


def nearest(matrix: Matrix, queries: Floats, k: int, metric: str, positions: Ids | None = None) -> tuple[Floats, Ids]:
    """Return scores [Q, K] and ids [Q, K] of the nearest vectors, best first; K is k or all there are."""
    count = len(matrix) if positions is None else len(positions)
    if k == 0 or count == 0:
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    if len(queries) < FEW:
        scores = scores_of(matrix, queries, metric, positions)
        return best(scores, matrix.ids if positions is None else matrix.ids[positions], k)
    if positions is None:
        return knn(queries, matrix.all(), matrix.ids, k, metric)
    found = [
        knn(queries, matrix.take(some), matrix.ids[some], k, metric)
        for some in (positions[start : start + CHUNK] for start in range(0, count, CHUNK))
    ]
    return merge(found, k)


def score_proposed(matrix: Matrix, queries: Floats, proposed: Ids, metric: str) -> Floats:
    """Return the exact scores [Q, M] of ids [Q, M] that were proposed for each query; of -1, no id, minus infinity.

    Raises:
        CorruptIndex: an id is none of the matrix.
    """
    scores = np.full(proposed.shape, -np.inf, np.float32)
    at_once = max(1, CHUNK // max(1, proposed.shape[1]))
    for start in range(0, len(queries), at_once):
        some = proposed[start : start + at_once]
        valid = some >= 0
        positions = matrix.positions(some[valid])
        if len(positions) != valid.sum():
            raise CorruptIndex("a row is proposed that is not there")
        ends = np.cumsum(valid.sum(axis=1))[:-1]
        vectors = np.split(matrix.take(positions), ends)
        pairs = zip(queries[start : start + at_once], vectors, strict=True)
        scores[start : start + at_once][valid] = np.concatenate([score(q[None], near, metric)[0] for q, near in pairs])
    return scores


def knn(queries: Floats, vectors: Floats, ids: Ids, k: int, metric: str) -> tuple[Floats, Ids]:
    """Let faiss find the nearest of some vectors [N, D] by brute force."""
    import faiss

    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    values, places = faiss.knn(queries, vectors, min(k, len(ids)), metric=kind)
    if metric == "l2":  # faiss expands the square for speed, and loses digits: near ones are measured again
        values = np.stack(
            [score(query[None], vectors[near], metric)[0] for query, near in zip(queries, places, strict=True)]
        )
        order = np.argsort(-values, axis=1, kind="stable")
        values, places = np.take_along_axis(values, order, 1), np.take_along_axis(places, order, 1)
    return values, ids[places]


def best(scores: Floats, ids: Ids, k: int) -> tuple[Floats, Ids]:
    """Return the k highest scores [Q, K] of [Q, N] with their ids, best first, equal ones by id.

    >>> best(np.array([[0.5, 0.9, 0.5, 0.1]], np.float32), np.array([1, 2, 3, 4]), 2)[1].tolist()
    [[2, 1]]
    """
    k = min(k, scores.shape[1])
    top = np.empty((len(scores), k), np.float32)
    top_ids = np.empty((len(scores), k), np.int64)
    for row, values in enumerate(scores):
        least = np.partition(values, len(values) - k)[len(values) - k]
        places = np.flatnonzero(values >= least)
        places = places[np.lexsort((ids[places], -values[places]))][:k]
        top[row], top_ids[row] = values[places], ids[places]
    return top, top_ids


def merge(found: list[tuple[Floats, Ids]], k: int) -> tuple[Floats, Ids]:
    """Join the answers [Q, K] of several parts into one."""
    scores = np.concatenate([scores for scores, _ in found], axis=1)
    ids = np.concatenate([ids for _, ids in found], axis=1)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
