"""Scores of rows written out in numpy, to compare hits with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import embedx

WHERE = "label <> 'bell' and start_s >= 0.25"
WriteWav = Callable[..., Path]


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    scaled: NDArray[Any] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def scored(
    collection: embedx.Collection, queries: NDArray[Any], where: str | None = None, metric: str = "cosine"
) -> pd.Series:
    """Return id -> score of every row, best first."""
    rows, vectors = collection.rows(where), collection.vectors(where=where).astype(np.float64)
    queries = np.atleast_2d(queries).astype(np.float64)
    if metric == "cosine":
        queries, vectors = unit(queries), unit(vectors)
    apart = np.linalg.norm(queries[:, None] - vectors[None], axis=2)
    scores = -apart if metric == "l2" else queries @ vectors.T
    return pd.Series(scores.max(axis=0), index=rows.index).sort_values(ascending=False, kind="stable")


def agree(hits: embedx.Hits, expected: pd.Series) -> None:
    """Check that rows, scores and order are equal; rows whose scores differ only by rounding may swap."""
    assert {hit.id for hit in hits} == set(expected.index)
    assert len(hits) == len(expected)
    scores = [hit.score for hit in hits]
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(scores, expected[[hit.id for hit in hits]], atol=1e-5, rtol=1e-5)


def file_of(collection: embedx.Collection, label: str) -> str:
    return str(collection.rows(f"label = '{label}'")["path"].iloc[0])


def windows_of(collection: embedx.Collection, path: str) -> NDArray[Any]:
    return collection.vectors()[(collection.rows()["path"] == path).to_numpy()]
