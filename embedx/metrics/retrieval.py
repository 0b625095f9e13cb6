"""Retrieval: how often the nearest vectors of a row share its label."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedx.errors import UsageError
from embedx.metrics.figures import Figure, Floats, Ints, number_groups
from embedx.metrics.intervals import (
    MAX_BLOCKS,
    find_freedom,
    find_variances,
    join_groups,
    make_figures,
    share_interval,
    weigh_blocks,
)
from embedx.metrics.weighted_sums import Tally, divide

MAX_SCORES = 2**22  # in memory at a time: 16 MB of cosines, 32 MB of sort keys
ROLES = 2  # of a group: it is a query, and it is found

Labels = NDArray[np.float32] | Ints


def retrieve(
    vectors: ArrayLike,
    truth: ArrayLike,
    parts: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    queries: ArrayLike | None = None,
    *,
    ks: Sequence[int] = (1, 5, 10),
    samples: int = MAX_BLOCKS,
    seed: int = 0,
) -> dict[str, Figure]:
    """Measure how often the nearest rows by cosine are relevant, among the rows of other parts or groups.

    A row is relevant to another if they have the same class, or share a label. Of equally near rows the earlier one
    comes first.

    Args:
        vectors: [N, D].
        truth: class numbers [N], or [N, C] of 0 and 1.
        parts: the fold of each row [N]; a row finds only rows of other folds.
        groups: the group of each row [N], over which intervals are computed. Without parts, a row finds only rows of
            other groups. None: each row on its own.
        queries: [N] True for the rows that are queries; all if None. Every row may be found.
        ks: numbers of nearest rows for p@k, the share of relevant rows among them.
        samples, seed: as in `embedx.metrics.scoring.evaluate`.

    Returns:
        "p@k" for every k, "r_precision" (p@k with k the number of relevant rows) and "map" (mean average precision)
        with 95 % intervals; "queries", the number of rows in these means, and "left_out", the number of rows without a
        relevant row. Without a query only these two numbers.

    Raises:
        UsageError: shapes do not agree, a k is below 1, or vectors are not finite.
    """
    x, y = np.asarray(vectors, np.float32), np.asarray(truth)
    rows = len(x)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise UsageError(f"Vectors must be finite numbers [N, D]; these have the shape {x.shape}.")
    if len(y) != rows or y.ndim > 2:
        raise UsageError(f"The truth has the shape {y.shape}; for {rows} vectors it must be ({rows},) or ({rows}, C).")
    if not ks or min(ks) < 1:
        raise UsageError(f"ks must be numbers of neighbours of 1 or more, not {tuple(ks)}.")
    group_of = number_groups(groups, rows, "groups")
    wanted = np.ones(rows, bool) if queries is None else np.asarray(queries, bool)
    apart = group_of if parts is None else number_groups(parts, rows, "parts")
    measured = measure_queries(x, y, apart, ks, np.flatnonzero(wanted))
    counted = wanted & np.isfinite(measured[-1])  # a row without anything relevant has no average precision
    names = [*(f"p@{k}" for k in ks), "r_precision", "map"]
    means = average_queries(
        measured[:, counted], number_groups(group_of[counted], counted.sum(), "groups"), samples, seed
    )
    figures = {name: mean for name, mean in zip(names, means, strict=True) if mean is not None}
    return figures | {"queries": Figure(int(counted.sum())), "left_out": Figure(int(wanted.sum() - counted.sum()))}


def average_queries(measured: Floats, groups: Ints, samples: int, seed: int) -> list[Figure | None]:
    """Return the means of measurements [M, Q] over the queries, with intervals over their groups [Q].

    A group without which the mean is computed is left out as a query only. In another collection its rows would not be
    found either. In a mean over pairs of groups, both parts are equal, so the change is twice as large.
    """
    kinds, queries = measured.shape
    blocks = join_groups(groups, samples, seed)
    number = int(blocks.max(initial=-1)) + 1
    counts = weigh_blocks(number)
    sums = Tally(np.repeat(np.arange(kinds), queries), np.tile(blocks, kinds), kinds, measured.ravel())
    totals = Tally(np.zeros(queries, np.int64), blocks, 1)
    values = divide(sums.sums(counts), totals.sums(counts))
    if number < 2:
        return [Figure(value) if np.isfinite(value) else None for value in values[0].tolist()]
    shares = np.tile(np.bincount(blocks, minlength=number)[:, None] / queries, kinds)
    variance = ROLES**2 * find_variances(values, shares)
    freedom = find_freedom(shares, variance, ROLES**2 * measured.var(axis=1) / queries)
    return make_figures(values[0], *share_interval(values, shares, variance, freedom))


def measure_queries(x: NDArray[np.float32], y: Labels, apart: Ints, ks: Sequence[int], queries: Ints) -> Floats:
    """Return p@k for every k, R-precision and average precision [len(ks) + 2, N]; nan where nothing is relevant.

    Only the rows at the positions `queries` are measured. Rows of one number in `apart` [N] do not find each other.
    """
    rows = len(x)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    labels = y.astype(np.float32) if y.ndim == 2 else y
    places = np.arange(rows, dtype=np.uint64) << np.uint64(1)
    measured = np.full((len(ks) + 2, rows), np.nan)
    step = max(1, MAX_SCORES // max(1, rows))
    for at in range(0, len(queries), step):
        block = queries[at : at + step]
        other = apart[block, None] != apart
        relevant = share_label(labels[block], labels) & other
        # A positive float32 sorts like its bits, so one sort of whole numbers orders by cosine, then by row, and brings
        # the answer along in the last bit. 2 - cosine has steps of 2e-7, which is the error of the product anyway.
        far = np.where(other, 2 - x[block] @ x.T, np.float32(np.inf))
        keys = far.view(np.uint32).astype(np.uint64) << np.uint64(32) | places | relevant
        keys.sort(axis=1)
        query, place = np.nonzero(keys & np.uint64(1))
        total = relevant.sum(axis=1)
        nth = np.arange(1, len(query) + 1) - np.repeat(np.cumsum(total) - total, total)
        at_k = [(np.minimum(k, other.sum(axis=1)), place < k) for k in ks]
        for line, (most, near) in zip(measured, [*at_k, (total, place < total[query])], strict=False):
            line[block] = divide(np.bincount(query, near, len(total)), np.where(total, most, 0.0))
        measured[-1, block] = divide(np.bincount(query, nth / (place + 1), len(total)), total)
    return measured


def share_label(queries: Labels, labels: Labels) -> NDArray[np.bool_]:
    """Tell which rows [B, N] have the class of a query, or a label of it."""
    shared: NDArray[np.bool_] = queries @ labels.T > 0 if labels.ndim == 2 else queries[:, None] == labels
    return shared
