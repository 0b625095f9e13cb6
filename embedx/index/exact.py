"""Exact search: compare every vector. Approximate indexes are measured against it, and fall back to it."""

import numpy as np

from embedx.errors import UsageError
from embedx.index.matrix import CorruptIndex, Floats, Ids, Matrix
from embedx.index.vectors import unit
from embedx.neighbours import SLACK, best_rows, product

METRICS = ("cosine", "ip", "l2")
MIN_FAISS_QUERIES = 20  # for fewer queries a NumPy product is faster than faiss, and faiss need not be imported
SPARE = 16  # rows that faiss proposes beyond those that are wanted, so that ties at the end are seen
CHUNK = 32_768  # rows that are copied at a time: 100 MB of 768 float32


def check_metric(metric: str) -> None:
    """Refuse an unknown metric."""
    if metric not in METRICS:
        raise UsageError(f"Unknown metric {metric!r}. Metrics: {', '.join(METRICS)}.")


def prepare(vectors: Floats, metric: str) -> Floats:
    """Return vectors [N, D] as the metric compares them: for the cosine with length 1."""
    return unit(vectors) if metric == "cosine" else np.ascontiguousarray(vectors, np.float32)


def score(queries: Floats, vectors: Floats, metric: str) -> Floats:
    """Return the scores [Q, N] of all pairs: the inner product, or for "l2" minus the distance.

    >>> score(np.array([[0.0, 3.0]], np.float32), np.array([[4.0, 0.0]], np.float32), "l2").tolist()
    [[-5.0]]
    """
    if metric != "l2":
        with np.errstate(invalid="ignore"):  # OpenBLAS reads past the end of small matrices and may find a NaN there
            return queries @ vectors.T
    distances = [np.sqrt(np.square(vectors - query, dtype=np.float32).sum(axis=1)) for query in queries]
    return -np.array(distances, np.float32).reshape(len(queries), len(vectors))


def scores_of(matrix: Matrix, queries: Floats, metric: str, positions: Ids | None = None) -> Floats:
    """Return the scores [Q, P] of the vectors at some positions, or of all vectors."""
    if positions is None:
        parts = [score(queries, vectors, metric) for vectors in matrix.parts(CHUNK)]
    else:
        starts = range(0, len(positions), CHUNK)
        parts = [score(queries, matrix.take(positions[start : start + CHUNK]), metric) for start in starts]
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(queries), 0), np.float32)


def nearest(matrix: Matrix, queries: Floats, k: int, metric: str, positions: Ids | None = None) -> tuple[Floats, Ids]:
    """Return scores [Q, K] and ids [Q, K] of the nearest vectors, best first; K is k, or less if there are fewer."""
    count = len(matrix) if positions is None else len(positions)
    if k == 0 or count == 0:
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    positions = np.arange(len(matrix)) if positions is None else positions
    if len(queries) < MIN_FAISS_QUERIES:
        return rank_all(matrix, queries, k, metric, positions)
    vectors = matrix.all() if count == len(matrix) else None
    if vectors is not None:
        return search_faiss(queries, vectors, matrix.ids, k, metric)
    chunks = (positions[start : start + CHUNK] for start in range(0, count, CHUNK))
    results = [search_faiss(queries, matrix.take(chunk), matrix.ids[chunk], k, metric) for chunk in chunks]
    return merge(results, k)


def rank_all(matrix: Matrix, queries: Floats, k: int, metric: str, positions: Ids) -> tuple[Floats, Ids]:
    """Find the nearest of the vectors at some positions with a product, which is exact in `score_pairs`."""
    scores = scores_of(matrix, queries, metric, None if len(positions) == len(matrix) else positions)
    if metric == "l2":
        return top_k(scores, matrix.ids[positions], k)
    longest = 1.0 if metric == "cosine" else max(float(norms(part).max()) for part in matrix.parts(CHUNK))
    size = min(k, len(positions))
    top, top_ids = np.empty((len(queries), size), np.float32), np.empty((len(queries), size), np.int64)
    for number, (query, values) in enumerate(zip(queries, scores, strict=True)):

        def rescore(rows: Ids, query: Floats = query) -> Floats:
            parts = np.split(positions[rows], range(CHUNK, len(rows), CHUNK))
            return np.concatenate([score_pairs(query, matrix.take(part), metric) for part in parts])

        top[number], rows = best_rows(values, k, SLACK * float(norms(query[None])[0]) * longest, rescore)
        top_ids[number] = matrix.ids[positions[rows]]
    return top, top_ids


def norms(vectors: Floats) -> Floats:
    """Return the lengths [N] of vectors [N, D]."""
    lengths: Floats = np.linalg.norm(vectors, axis=1)
    return lengths


def score_pairs(query: Floats, vectors: Floats, metric: str) -> Floats:
    """Return the scores [N] of a query [D] with vectors [N, D]; equal vectors have exactly equal scores."""
    return score(query[None], vectors, metric)[0] if metric == "l2" else product(query, vectors)


def score_proposed(matrix: Matrix, queries: Floats, proposed: Ids, metric: str) -> Floats:
    """Return the exact scores [Q, M] of ids [Q, M] that were proposed for each query; minus infinity for id -1 (none).

    Raises:
        CorruptIndex: the matrix has no such id.
    """
    scores = np.full(proposed.shape, -np.inf, np.float32)
    step = max(1, CHUNK // max(1, proposed.shape[1]))
    for start in range(0, len(queries), step):
        ids = proposed[start : start + step]
        valid = ids >= 0
        positions = matrix.positions(ids[valid])
        if len(positions) != valid.sum():
            raise CorruptIndex("it proposes a row that does not exist")
        ends = np.cumsum(valid.sum(axis=1))[:-1]
        vectors = np.split(matrix.take(positions), ends)
        pairs = zip(queries[start : start + step], vectors, strict=True)
        scores[start : start + step][valid] = np.concatenate([score_pairs(q, near, metric) for q, near in pairs])
    return scores


def search_faiss(queries: Floats, vectors: Floats, ids: Ids, k: int, metric: str) -> tuple[Floats, Ids]:
    """Find the nearest of some vectors [N, D] with the exhaustive search of faiss.

    faiss breaks ties in any order, and for "l2" it expands the square, which loses digits. So it proposes more rows
    than are wanted, and the scores are computed again. If a row beyond them could be a tie, all rows are compared.
    """
    import faiss

    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    k = min(k, len(ids))
    values, positions = faiss.knn(queries, vectors, min(k + SPARE, len(ids)), metric=kind)
    scores = np.stack(
        [score_pairs(query, vectors[near], metric) for query, near in zip(queries, positions, strict=True)]
    )
    top, top_ids = merge([(scores, ids[positions])], k)
    if positions.shape[1] < len(ids):
        longest = 1.0 if metric == "cosine" else float(norms(vectors).max())
        if metric == "l2":  # values are squared distances
            errors = SLACK * (norms(queries) + longest) ** 2
            unsure = np.flatnonzero(values[:, -1] - errors <= np.square(top[:, -1]))
        else:
            unsure = np.flatnonzero(values[:, -1] + SLACK * longest * norms(queries) >= top[:, -1])
        matrix, every = Matrix(ids, vectors), np.arange(len(ids))
        for start in range(0, len(unsure), MIN_FAISS_QUERIES):
            rows = unsure[start : start + MIN_FAISS_QUERIES]
            top[rows], top_ids[rows] = rank_all(matrix, queries[rows], k, metric, every)
    return top, top_ids


def top_k(scores: Floats, ids: Ids, k: int) -> tuple[Floats, Ids]:
    """Return the k highest scores [Q, K] of [Q, N] with their ids, best first, equal scores by id.

    >>> top_k(np.array([[0.5, 0.9, 0.5, 0.1]], np.float32), np.array([1, 2, 3, 4]), 2)[1].tolist()
    [[2, 1]]
    """
    k = min(k, scores.shape[1])
    top = np.empty((len(scores), k), np.float32)
    top_ids = np.empty((len(scores), k), np.int64)
    for row, values in enumerate(scores):
        lowest = np.partition(values, len(values) - k)[len(values) - k]
        positions = np.flatnonzero(values >= lowest)
        positions = positions[np.lexsort((ids[positions], -values[positions]))][:k]
        top[row], top_ids[row] = values[positions], ids[positions]
    return top, top_ids


def merge(results: list[tuple[Floats, Ids]], k: int) -> tuple[Floats, Ids]:
    """Merge results (scores [Q, K], ids [Q, K]) of several parts of the rows into the k best."""
    scores = np.concatenate([scores for scores, _ in results], axis=1)
    ids = np.concatenate([ids for _, ids in results], axis=1)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
