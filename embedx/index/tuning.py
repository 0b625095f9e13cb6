"""Tuning: find the cheapest settings with which an approximate index reaches a recall, and measure its speed.

Some rows are left out of the index while it is tuned, and serve as queries: a row that is inside finds itself, which
makes the recall look too good. They are added at the end.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedx.index.approximate import AnnIndex, build_ann_index, cut
from embedx.index.exact import nearest, score_proposed
from embedx.index.kinds import MIN_ROWS
from embedx.index.matrix import Floats, Ids, Matrix

TUNED_K = (10, 100)  # a search for k rows uses the setting of the first that is not smaller; above 100 it is exact
TEST_QUERIES = 400  # rows that serve as queries; at a recall of 0.99 its standard error is about 0.002
SEED = 1
SCORE_TOLERANCE = 1e-6  # relative; scores this close are equal up to rounding, such as those of copies of a row
MAX_TIMING_S = 2.0  # for the latency of single queries


@dataclass(frozen=True)
class SearchSetting:
    """How an approximate index searches for k rows, and the recall that it reaches."""

    nprobe_or_ef: int  # "breadth" in the manifest
    candidates: int
    recall: float

    @classmethod
    def from_manifest(cls, entry: dict[str, Any]) -> "SearchSetting":
        """Return the setting that a manifest describes."""
        return cls(entry["breadth"], entry["candidates"], entry["recall"])

    def to_manifest(self) -> dict[str, Any]:
        """Return the setting as the manifest describes it."""
        return {"breadth": self.nprobe_or_ef, "candidates": self.candidates, "recall": self.recall}


def build_tuned_index(
    kind: str, matrix: Matrix, metric: str, recall: float
) -> tuple[AnnIndex | None, dict[int, SearchSetting]]:
    """Build an index over a matrix; return it with the setting for every k where the recall is reached.

    The index is None if too few vectors are not zero.
    """
    usable = nonzero_positions(matrix) if metric == "cosine" else np.arange(len(matrix))
    if len(usable) < MIN_ROWS:
        return None, {}
    test_count = min(TEST_QUERIES, len(usable) // 10)
    tests = np.sort(np.random.default_rng(SEED).choice(usable, test_count, replace=False))
    ann = build_ann_index(kind, matrix, metric, np.setdiff1d(usable, tests, assume_unique=True))
    others = np.setdiff1d(np.arange(len(matrix)), tests, assume_unique=True)
    queries = matrix.take(tests)
    true_scores, _ = nearest(matrix, queries, TUNED_K[-1], metric, others)
    settings = tune(ann, matrix, metric, queries, true_scores, recall)
    ann.add(matrix, tests)
    return ann, settings


def tune(
    ann: AnnIndex, matrix: Matrix, metric: str, queries: Floats, true_scores: Floats, recall: float
) -> dict[int, SearchSetting]:
    """Return the cheapest setting that reaches the recall, for every k that has one.

    Proposed rows come in order of likelihood, so a query with fewer candidates gets the first of them.
    """
    chosen: dict[int, SearchSetting] = {}
    costs = dict.fromkeys(TUNED_K, np.inf)
    for nprobe_or_ef in ann.efforts():
        if all(ann.cost(nprobe_or_ef, k, matrix.dim) >= costs[k] for k in TUNED_K):
            break
        most = ann.max_candidates(nprobe_or_ef)
        scores = score_proposed(matrix, queries, ann.propose(queries, nprobe_or_ef, most), metric)
        for k in TUNED_K:
            for candidates in (k * 2**n for n in range(12) if k * 2**n <= most):
                reached, error = recall_of(scores[:, :candidates], true_scores[:, :k])
                if reached - error < recall:
                    continue
                cost = ann.cost(nprobe_or_ef, candidates, matrix.dim)
                if cost < costs[k]:
                    costs[k] = cost
                    chosen[k] = SearchSetting(nprobe_or_ef, candidates, reached)
                break
    return chosen


def recall_of(scores: Floats, true_scores: Floats) -> tuple[float, float]:
    """Return the share of the true scores [Q, K] among the found scores [Q, M], and its standard error.

    >>> recall_of(np.array([[0.9, 0.2, 0.8]]), np.array([[0.9, 0.8]])), recall_of(np.array([[0.9]]), np.array([[1.0]]))
    ((1.0, 0.0), (0.0, 0.0))
    """
    lowest = true_scores[:, -1:]
    counts = (scores >= lowest - SCORE_TOLERANCE * np.maximum(1, np.abs(lowest))).sum(axis=1)
    shares = np.minimum(counts, true_scores.shape[1]) / true_scores.shape[1]
    return float(shares.mean()), float(shares.std() / np.sqrt(len(shares)))


def nonzero_positions(matrix: Matrix) -> Ids:
    """Return the positions of the vectors that are not zero: an approximate index cannot place a zero vector."""
    positions = np.arange(len(matrix))
    kept = [chunk[matrix.take(chunk).any(axis=1)] for chunk in cut(positions)]
    return np.concatenate([positions[:0], *kept])


def measure(search: Callable[[Floats], object], queries: Floats) -> dict[str, float]:
    """Return the speed of a search: p50_ms and p99_ms of single queries, and queries per second (per_s) in a batch."""
    search(queries[:1])
    seconds: list[float] = []
    for query in queries:
        begun = time.perf_counter()
        search(query[None])
        seconds.append(time.perf_counter() - begun)
        if sum(seconds) > MAX_TIMING_S:
            break
    begun = time.perf_counter()
    search(queries)
    batch = len(queries) / (time.perf_counter() - begun)
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3), "per_s": round(batch, 1)}
