"""Truth and probabilities with known structure, for tests of metrics."""

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.figures import Figure
from embedx.metrics.report import Metrics

Floats = NDArray[np.float64]


Ints = NDArray[np.int64]


def value(metrics: Metrics, name: str) -> float:
    figure = metrics.figures[name]
    assert figure is not None
    return figure.value


def names(n: int) -> list[str]:
    return [f"c{i}" for i in range(n)]


def one_label(rows: int, classes: int, seed: int = 0, step: float | None = None) -> tuple[Ints, Floats]:
    """Return truth and informative probabilities; multiples of `step` give many ties."""
    random = np.random.default_rng(seed)
    y = random.integers(classes, size=rows)
    scores = random.standard_normal((rows, classes))
    scores[np.arange(rows), y] += 1
    if step:
        scores = np.round(scores / step) * step
    proba = np.exp(scores)
    return y, proba / proba.sum(axis=1, keepdims=True)


def many_labels(rows: int, classes: int, seed: int = 0, digits: int = 9) -> tuple[Ints, Floats]:
    random = np.random.default_rng(seed)
    y = (random.random((rows, classes)) < 0.3).astype(np.int64)
    return y, np.round(1 / (1 + np.exp(-(random.standard_normal((rows, classes)) + 2 * y - 1))), digits)


def figures(metrics: Metrics) -> list[Figure]:
    return [figure for figure in metrics.figures.values() if figure is not None]
