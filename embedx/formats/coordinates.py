"""Coordinates: two numbers for every row, so that near rows are near on a map."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.store.store import Store

METHODS = ("pca", "umap")
MIN_ROWS = 5  # of UMAP: fewer have no neighbours to speak of
MAX_NUMBERS = 150_000_000  # of UMAP: 600 MB, and in a process of its own as much again; 195 000 rows of 768 numbers
MAX_MEASURED = 25_000  # rows that give the axes; 100 000 with 768 numbers take four times as long as reading them


@dataclass(frozen=True)
class Map:
    """The ids [N] of rows and their coordinates [N, 2], and the share of the variance along each."""

    ids: NDArray[np.int64]
    places: NDArray[np.float32]
    explained: tuple[float, float] = (0.0, 0.0)

    def to_bytes(self) -> bytes:
        """Return the columns id (int64), x and y (float32), one after the other, little-endian."""
        return b"".join(
            column.tobytes() for column in (self.ids.astype("<i8"), *np.ascontiguousarray(self.places.T, "<f4"))
        )

    def to_json(self) -> dict[str, Any]:
        """Return the columns as lists."""
        return {"id": self.ids.tolist(), "x": self.places[:, 0].tolist(), "y": self.places[:, 1].tolist()}


@dataclass(frozen=True)
class Axes:
    """Two directions [D, 2] from a middle [D], and the share of the variance along each."""

    middle: NDArray[np.float32]
    directions: NDArray[np.float32]
    explained: tuple[float, float]


def find_axes(store: Store, view: str, ids: Sequence[int] | None = None) -> Axes:
    """Return the two principal components of the vectors of a view: of all rows, or of those with these ids."""
    dim = store.views[view]
    count, shift, total, products = 0, None, np.zeros(dim), np.zeros((dim, dim))
    for _, vectors in store.blocks(view, ids):
        shift = vectors.mean(axis=0) if shift is None else shift  # so that float32 is enough for the products
        block = vectors - shift
        count, total = count + len(block), total + block.sum(axis=0, dtype=np.float64)
        products += block.T @ block
    mean = total / max(1, count)
    variances, axes = np.linalg.eigh(products / max(1, count) - np.outer(mean, mean))
    axes = axes[:, ::-1][:, :2]
    shares = np.pad(np.maximum(variances[::-1][:2], 0), (0, max(0, 2 - dim))) / max(
        np.maximum(variances, 0).sum(), 1e-30
    )
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])] < 0, -1.0, 1.0)
    axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))  # vectors of one dimension have one component
    middle = mean if shift is None else mean + shift
    shown = round(float(shares[0]), 4), round(float(shares[1]), 4)
    return Axes(middle.astype(np.float32), axes.astype(np.float32), shown)


def place(store: Store, view: str, axes: Axes, ids: Sequence[int] | None = None) -> Map:
    """Return the places of rows along two axes, in the order of their ids: of all rows, or of those with these ids."""
    pairs = [(found, (vectors - axes.middle) @ axes.directions) for found, vectors in store.blocks(view, ids)]
    return Map(
        np.concatenate([np.zeros(0, np.int64), *(found for found, _ in pairs)]),
        np.concatenate([np.zeros((0, 2), np.float32), *(places for _, places in pairs)]),
        axes.explained,
    )


def make_map(store: Store, view: str) -> Map:
    """Return the two principal components of the vectors of a view. Memory does not depend on the number of rows.

    Of many rows a part of 25 000 to 50 000 gives the axes: their directions change little with more.
    """
    step = max(1, store.count() // MAX_MEASURED)
    ids = None if step == 1 else store.ids()[::step].tolist()
    return place(store, view, find_axes(store, view, ids))


def project(store: Store, view: str, method: str) -> Map:
    """Return the map of a view by "pca" or "umap".

    Raises:
        UsageError: UMAP is not installed, or UMAP takes fewer or more rows.
    """
    if method == "pca":
        return make_map(store, view)
    if find_spec("umap") is None:
        raise UsageError("UMAP needs umap-learn: pip install umap-learn. Or use pca.")
    from embedx.formats.umap_process import project as project_by_umap

    ids, vectors = read_all(store, view)
    return Map(ids, project_by_umap(vectors))


def read_all(store: Store, view: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the ids and vectors of all rows, for UMAP.

    Raises:
        UsageError: there are too few or too many.
    """
    rows, dim = store.count(), store.views[view]
    if not MIN_ROWS <= rows <= MAX_NUMBERS // dim:
        limits = f"{MIN_ROWS} to {MAX_NUMBERS // dim} rows of {dim} numbers"
        raise UsageError(f"UMAP takes {limits}, and there are {rows}. Use pca.")
    blocks = list(store.blocks(view))
    return np.concatenate([ids for ids, _ in blocks]), np.concatenate([vectors for _, vectors in blocks])
