"""Clustered vectors, their neighbours by brute force, and approximate indexes of them."""

from pathlib import Path

import numpy as np

from embedx.index.builder import IndexBuilder
from embedx.index.matrix import Floats, Ids
from embedx.index.vector_index import VectorIndex

RANDOM = np.random.default_rng(0)
ROWS, DIM = 5000, 32
CENTRES = RANDOM.standard_normal((60, DIM)).astype(np.float32)
RECALL = 0.95
NOTE = {"view": "L0.mean", "fingerprint": "ab", "generation": 3}


def clustered(count: int) -> Floats:
    """Return clustered vectors, each row at its own distance from its centre."""
    noise = RANDOM.standard_normal((count, DIM)) * RANDOM.uniform(0.3, 1, (count, 1))
    return (CENTRES[RANDOM.integers(0, len(CENTRES), count)] + noise).astype(np.float32)


VECTORS = clustered(ROWS)
IDS = np.sort(RANDOM.choice(3 * ROWS, ROWS, replace=False)).astype(np.int64) + 1
QUERIES = clustered(200)  # neither rows nor held out


def build(folder: Path, kind: str, metric: str = "cosine", vectors: Floats = VECTORS, ids: Ids = IDS) -> VectorIndex:
    with IndexBuilder(folder, f"L0.mean.{metric}", metric) as draft:
        draft.add_matrix(NOTE, len(ids), vectors.shape[1], [(ids, vectors)])
        draft.add_ann_index(kind, RECALL)
        return draft.publish()


def true_scores(metric: str, queries: Floats = QUERIES, vectors: Floats = VECTORS) -> np.ndarray:
    a, b = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(b, axis=1, keepdims=True)
        a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.where(lengths == 0, 1, lengths)
    return -np.linalg.norm(a[:, None] - b[None], axis=2) if metric == "l2" else a @ b.T
