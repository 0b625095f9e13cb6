"""Linear discriminant: the classifier of the test against chance, fast enough to be fitted for hundreds of labellings.

The vectors are whitened once, without labels. A row then gets the class whose mean, over the training rows of its fold,
is nearest. Classes count equally, however many rows they have.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.figures import Floats, Ints
from embedx.metrics.weighted_sums import divide, mean_defined

Vectors = NDArray[np.float32]
MAX_DIM = 2048  # more dimensions are projected at random onto so many: distances change by about 2 %


def whiten(x: Vectors, groups: int, seed: int) -> Vectors:
    """Return vectors [N, D'] with about equal variance in all directions; of several layers [N, L, D] their mean.

    The dimensions are standardised. Then D / groups is added to each variance: the directions of fewer groups than
    dimensions are mostly chance, and must not be stretched to equal length.
    """
    x = x - x.mean(axis=0)
    deviation = x.std(axis=0)
    x /= np.where(deviation > 0, deviation, 1)
    x = x.mean(axis=1) if x.ndim == 3 else x
    dim = x.shape[1]
    if dim > MAX_DIM:
        projection = np.random.default_rng(seed).standard_normal((dim, MAX_DIM), np.float32)
        x, dim = x @ projection / np.float32(dim**0.5), MAX_DIM
    covariance = (x.T @ x / len(x)).astype(np.float64)
    root = np.linalg.cholesky(covariance + dim / groups * np.eye(dim)).astype(np.float32)
    return np.ascontiguousarray(np.linalg.solve(root, x.T).T)


@dataclass(frozen=True, eq=False)
class Discriminant:
    """Scores labellings of the same vectors on the same folds.

    Attributes:
        z: whitened vectors [N, D].
        fold: [N] the fold in which a row is tested, from 0; -1: it is only trained on.
        groups: [N] rows with a common effect.
        classes: the number of classes K.
    """

    z: Vectors
    fold: Ints
    groups: Ints
    classes: int

    def balanced_accuracy(self, y: Ints) -> float:
        """Return the mean recall of the classes that are tested, for class numbers [N]."""
        means, offsets = self._fit(y)
        right = np.zeros(len(y), bool)
        for f in range(len(means)):
            rows = self.fold == f
            right[rows] = (self.z[rows] @ means[f].T - offsets[f]).argmax(axis=1) == y[rows]
        tested = self.fold >= 0
        hits = np.bincount(y[tested], right[tested], self.classes)
        return float(mean_defined(divide(hits, np.bincount(y[tested], minlength=self.classes))))

    def _fit(self, y: Ints) -> tuple[Vectors, Floats]:
        """Return for each fold the class means [F, K, D] of the other rows, and what to subtract from products.

        A row is nearest to the mean m with the highest z·m - |m|²/2. The square of a mean of few rows is too large by
        chance, so it is estimated by the products of different groups.
        """
        folds, span = int(self.fold.max()) + 2, int(self.groups.max()) + 1
        key = ((self.fold + 1) * self.classes + y) * span + self.groups
        order = np.argsort(key, kind="stable")
        keys, starts, sizes = np.unique(key[order], return_index=True, return_counts=True)
        of_groups = np.add.reduceat(self.z[order], starts)  # the sum of each class in each group
        cells, starts = np.unique(keys // span, return_index=True)
        shape = (folds, self.classes)
        flat = np.zeros((folds * self.classes, self.z.shape[1]), np.float32)
        flat[cells] = np.add.reduceat(of_groups, starts)
        sums = flat.reshape(*shape, -1)

        def train(values: Floats) -> Floats:
            inside = np.bincount(keys // span, values, folds * self.classes).reshape(shape)
            return np.asarray(inside.sum(axis=0) - inside[1:])

        rows = train(sizes.astype(np.float64))
        totals = sums.sum(axis=0) - sums[1:]
        products = np.einsum("fkd,fkd->fk", totals, totals) - train(np.einsum("gd,gd->g", of_groups, of_groups))
        pairs = rows**2 - train(sizes.astype(np.float64) ** 2)
        common = divide(products.sum(axis=1, keepdims=True), pairs.sum(axis=1, keepdims=True))
        squares = np.where(pairs > 0, divide(products, pairs), np.nan_to_num(common))
        means = totals / np.maximum(rows, 1)[..., None].astype(np.float32)
        return means, np.where(rows > 0, squares / 2, np.inf)

    def mean_area(self, y: Ints) -> float:
        """Return the mean area under the ROC curve over labels and folds, for labels [N, K] of 0 and 1."""
        folds = int(self.fold.max()) + 1
        truth = y.astype(np.float32)
        inside = [self.fold == f for f in range(folds)]
        of_folds = [truth[rows].T @ self.z[rows] for rows in inside]
        everything, total, count = truth.T @ self.z, self.z.sum(axis=0), truth.sum(axis=0)
        areas = []
        for rows, of_fold in zip(inside, of_folds, strict=True):
            positives = everything - of_fold
            n_positive = (count - truth[rows].sum(axis=0))[:, None]
            negatives = total - self.z[rows].sum(axis=0) - positives
            n_negative = len(truth) - rows.sum() - n_positive
            known = (n_positive > 0) & (n_negative > 0)
            direction = positives / np.maximum(n_positive, 1) - negatives / np.maximum(n_negative, 1)
            areas.append(rank_areas(truth[rows], self.z[rows] @ np.where(known, direction, 0).T))
        return float(mean_defined(mean_defined(np.stack(areas, axis=1))))


def rank_areas(truth: Vectors, scores: Vectors) -> Floats:
    """Return the area under the ROC curve of each column [K] of truth and scores [n, K]; nan if it is undefined.

    >>> rank_areas(np.array([[0, 1], [1, 1]], np.float32), np.array([[0, 3], [2, 4]], np.float32)).tolist()
    [1.0, nan]
    """
    order = np.argsort(scores, axis=0)
    values = np.take_along_axis(scores, order, 0)
    numbers = np.arange(len(values))[:, None]
    changed, edge = values[1:] != values[:-1], np.ones_like(values[:1], bool)
    first = np.maximum.accumulate(np.where(np.vstack([edge, changed]), numbers, 0))
    last = np.minimum.accumulate(np.where(np.vstack([changed, edge]), numbers, len(values))[::-1])[::-1]
    ranks = (first + last) / 2  # equal scores share the mean of their ranks
    sorted_truth = np.take_along_axis(truth, order, 0)
    positives = sorted_truth.sum(axis=0, dtype=np.float64)
    wins = (sorted_truth * ranks).sum(axis=0) - positives * (positives - 1) / 2
    return divide(wins, positives * (len(truth) - positives))
