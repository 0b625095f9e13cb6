"""Labelled vectors for tests of heads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx import heads
from embedx.heads.head import Head
from embedx.heads.kinds import KINDS

DIM, CLASSES = 24, ("cat", "dog", "owl", "rain")
QUICK: dict[str, dict[str, Any]] = {"mlp": {"max_epochs": 15, "hidden": 16}, "weighted-layers": {"max_epochs": 40}}
Array = NDArray[Any]


def make_rows(rows: int = 240, spread: float = 3.0, seed: int = 0, groups: int = 40) -> tuple[Array, Array, Array]:
    """Return vectors [N, D], classes [N], groups [N]; one dimension is constant, one almost; scales differ widely."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((len(CLASSES), DIM))
    y = random.integers(0, len(CLASSES), rows)
    x = (centres[y] + spread * random.standard_normal((rows, DIM))) * np.geomspace(0.01, 100, DIM) + 7
    x[:, 3] = 5.0
    x[:, 4] = 5.0 + 1e-5 * random.standard_normal(rows)
    return x.astype(np.float32), y, np.arange(rows) % groups


def make_labels(x: Array, seed: int = 1) -> Array:
    """Return labels [N, 4]; a row has none, one or several."""
    z = (x - x.mean(axis=0)) / np.where(x.std(axis=0) == 0, 1, x.std(axis=0))
    weight = np.random.default_rng(seed).standard_normal((DIM, len(CLASSES)))
    noise = np.random.default_rng(seed).standard_normal((len(x), len(CLASSES)))
    return np.asarray((z @ weight + 3 * noise) > 3, np.int64)


def shaped(kind: str, x: Array) -> Array:
    """Return the vectors in the shape of a kind: weighted-layers takes three layers; the second holds these vectors."""
    if not KINDS[kind].layers:
        return x
    noise = np.random.default_rng(3).standard_normal((2, *x.shape)).astype(np.float32)
    return np.stack([noise[0], x, noise[1]], axis=1)


def fit(kind: str, x: Array, y: Array, classes: tuple[str, ...] = CLASSES, **options: Any) -> Head:
    return heads.fit(kind, shaped(kind, x), y, classes, **{**QUICK.get(kind, {}), **options})


X, Y, GROUPS = make_rows()
NEW, NEW_Y, _ = make_rows(100, seed=5)
MANY = make_labels(X)
