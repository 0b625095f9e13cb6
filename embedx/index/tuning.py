"""Tuning: how broadly a structure must look so that a search finds what an exact one finds, and how fast that is.

Some rows are left out of a structure while it is tuned, and serve as queries: a row that is inside finds itself, and
would flatter the recall. They are added at the end.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from embedx.index.approximate import FEWEST, AnnIndex, cut, make_structure
from embedx.index.exact import nearest, score_proposed
from embedx.index.matrix import Floats, Ids, Matrix

TUNED = (10, 100)  # a search for k rows uses the setting of the first that is no smaller; beyond, it is exact
HELD = 400  # rows to ask with; at a recall of 0.99 its standard error is about 0.002
SEED = 1
SAME = 1e-6  # relative; scores nearer than this are of rows equally near: rounding, or copies of a row
TIMED_S = 2.0  # for the latency of single queries

Setting = dict[str, Any]  # breadth, candidates, recall


def build_structure(
    kind: str, matrix: Matrix, metric: str, recall: float
) -> tuple[AnnIndex | None, dict[str, Setting]]:
    """Make a structure over a matrix, and return it with its setting for every k (as text) that reaches the recall.

    None comes back in its place if too few rows have a direction at all.
    """
    usable = with_direction(matrix) if metric == "cosine" else np.arange(len(matrix))
    if len(usable) < FEWEST:
        return None, {}
    held = np.sort(np.random.default_rng(SEED).choice(usable, min(HELD, len(usable) // 10), replace=False))
    structure = make_structure(kind, matrix, metric, np.setdiff1d(usable, held, assume_unique=True))
    rest = np.setdiff1d(np.arange(len(matrix)), held, assume_unique=True)
    queries = matrix.take(held)
    truth, _ = nearest(matrix, queries, TUNED[-1], metric, rest)
    settings = tune(structure, matrix, metric, queries, truth, recall)
    structure.add(matrix, held)
    return structure, settings


def tune(
    structure: AnnIndex, matrix: Matrix, metric: str, queries: Floats, truth: Floats, recall: float
) -> dict[str, Setting]:
    """Return the cheapest setting that reaches the recall, for every k where there is one.

    Proposals come most likely first, so those of a query with fewer candidates are the first of these.
    """
    chosen: dict[str, Setting] = {}
    costs = dict.fromkeys(TUNED, np.inf)
    for breadth in structure.breadths():
        if all(structure.cost(breadth, k, matrix.dim) >= costs[k] for k in TUNED):
            break
        most = structure.most(breadth)
        scores = score_proposed(matrix, queries, structure.propose(queries, breadth, most), metric)
        for k in TUNED:
            for candidates in (k * 2**n for n in range(12) if k * 2**n <= most):
                reached, error = recall_of(scores[:, :candidates], truth[:, :k])
                cost = structure.cost(breadth, candidates, matrix.dim)
                if reached - error >= recall:
                    if cost < costs[k]:
                        costs[k] = cost
                        chosen[str(k)] = {"breadth": breadth, "candidates": candidates, "recall": reached}
                    break
    return chosen


def recall_of(scores: Floats, truth: Floats) -> tuple[float, float]:
    """Return which share of the true scores [Q, K] is among the scores found [Q, M], and the standard error of it.

    >>> recall_of(np.array([[0.9, 0.2, 0.8]]), np.array([[0.9, 0.8]])), recall_of(np.array([[0.9]]), np.array([[1.0]]))
    ((1.0, 0.0), (0.0, 0.0))
    """
    least = truth[:, -1:]
    found = (scores >= least - SAME * np.maximum(1, np.abs(least))).sum(axis=1)
    shares = np.minimum(found, truth.shape[1]) / truth.shape[1]
    return float(shares.mean()), float(shares.std() / np.sqrt(len(shares)))


def with_direction(matrix: Matrix) -> Ids:
    """Return the positions of all vectors but zeros, whose cosine with everything is 0: no structure has a place for
    them.
    """
    every = np.arange(len(matrix))
    kept = [some[matrix.take(some).any(axis=1)] for some in cut(every)]
    return np.concatenate([every[:0], *kept])


def measure(search: Callable[[Floats], object], queries: Floats) -> dict[str, float]:
    """Return how fast a search is: p50_ms and p99_ms of single queries, and queries per_s in a batch."""
    search(queries[:1])
    taken: list[float] = []
    for query in queries:
        begun = time.perf_counter()
        search(query[None])
        taken.append(time.perf_counter() - begun)
        if sum(taken) > TIMED_S:
            break
    begun = time.perf_counter()
    search(queries)
    batch = len(queries) / (time.perf_counter() - begun)
    p50, p99 = np.percentile(taken, [50, 99]) * 1000
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3), "per_s": round(batch, 1)}
