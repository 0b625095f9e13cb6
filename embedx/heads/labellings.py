"""Labellings: scores of a knn or prototype head for many labellings of the same vectors.

The preprocessing and the neighbours do not depend on the labels, so they are found once, and a labelling costs only
votes or class means. Steps such as PCA are fitted on all rows without labels, not only on those of a training part.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from embedx.heads.discriminant import Vectors, rank_areas
from embedx.heads.inference import MIN_DISTANCE, Floats, smooth
from embedx.heads.kinds import KINDS, check_settings
from embedx.heads.nearest import mean_direction
from embedx.heads.options import HeadOptions
from embedx.heads.preprocessing import fit_chain, read_chain
from embedx.heads.training_data import ClassWeight, Positions, weigh
from embedx.metrics.figures import Ints
from embedx.metrics.weighted_sums import divide, mean_defined

REFITTED = ("knn", "prototype")  # kinds that are fitted to hundreds of labellings in seconds
CHUNK = 1024  # rows whose cosines with all others are in memory at once


@dataclass(frozen=True, eq=False)
class Labellings(ABC):
    """Scores labellings of the same vectors on the same folds.

    Attributes:
        x: prepared vectors [N, D].
        fold: [N] the fold in which a row is tested, from 0; -1: it is only trained on.
        classes: the names of the K classes.
        multilabel: whether a row can have any number of labels.
        class_weight: the weights of classes, as in `HeadOptions`.
    """

    x: Vectors
    fold: Ints
    classes: tuple[str, ...]
    multilabel: bool
    class_weight: ClassWeight = None

    @abstractmethod
    def score(self, y: Ints, truth: Floats, test: Positions, train: Positions) -> Floats:
        """Return the scores [n, K] of test rows for labels y (and as 0 and 1 [N, K]) of the training rows."""

    def balanced_accuracy(self, y: Ints) -> float:
        """Return the mean recall of the classes that are tested, for class numbers [N]."""
        truth, number = np.eye(len(self.classes))[y], len(self.classes)
        right = [self.score(y, truth, test, train).argmax(axis=1) == y[test] for test, train in self.parts()]
        tested = y[np.concatenate([test for test, _ in self.parts()])]
        hits = np.bincount(tested, np.concatenate(right), number)
        return float(mean_defined(divide(hits, np.bincount(tested, minlength=number))))

    def mean_area(self, y: Ints) -> float:
        """Return the mean area under the ROC curve over labels and folds, for labels [N, K] of 0 and 1."""
        truth = y.astype(np.float64)
        scores = [(test, self.score(y, truth, test, train)) for test, train in self.parts()]
        areas = [rank_areas(y[test].astype(np.float32), values.astype(np.float32)) for test, values in scores]
        return float(mean_defined(mean_defined(np.stack(areas, axis=1))))

    def parts(self) -> list[tuple[Positions, Positions]]:
        """Return the test and training rows of each fold."""
        folds = range(int(self.fold.max()) + 1)
        return [(np.flatnonzero(self.fold == f), np.flatnonzero(self.fold != f)) for f in folds]


@dataclass(frozen=True, eq=False)
class PrototypeLabellings(Labellings):
    """A row gets the class to whose mean it has the highest cosine, as in `fit_prototype`."""

    def score(self, y: Ints, truth: Floats, test: Positions, train: Positions) -> Floats:
        """Return cosines with the class means; multi-label: less those with the means of the other rows."""
        x, truth = self.x[train], truth[train].astype(np.float32)
        weight = mean_direction(x, truth)
        if self.multilabel:
            return np.asarray(self.x[test] @ (weight - mean_direction(x, 1 - truth)).T)
        return np.where(truth.any(axis=0), self.x[test] @ weight.T, -np.inf)


@dataclass(frozen=True, eq=False)
class NeighbourLabellings(Labellings):
    """The k nearest training rows vote, as in `fit_knn`; `weights` is "distance" or "uniform"."""

    k: int = 5
    weights: str = "distance"

    def score(self, y: Ints, truth: Floats, test: Positions, train: Positions) -> Floats:
        """Return the smoothed shares of the votes; multi-label: the logarithm of those for and against a label."""
        nearest, weight = self.neighbours[int(self.fold[test[0]])]
        votes = weigh(y, np.ones(len(y)), self.classes, self.multilabel, self.class_weight)
        votes = votes if self.multilabel else votes[:, None]
        size = nearest.shape[1]
        positives, total = (votes * truth)[train].sum(axis=0), (votes * np.ones_like(truth))[train].sum(axis=0)
        positive = np.einsum("nk,nkc->nc", weight, (votes * truth)[nearest])
        if not self.multilabel:
            prior = (positives + 1) / (positives + 1).sum()
            return smooth(positive / positive.sum(axis=1, keepdims=True), prior, size)
        negative = np.einsum("nk,nkc->nc", weight, (votes * (1 - truth))[nearest])
        prior = (positives + 1) / (total + 2)
        share = positive / (positive + negative)
        return np.asarray(np.log(smooth(share, prior, size)) - np.log(smooth(1 - share, 1 - prior, size)))

    @cached_property
    def neighbours(self) -> list[tuple[Positions, Floats]]:
        """The nearest training rows [n, k] of the test rows of each fold, and how much each counts [n, k]."""
        return [self._find(test, train) for test, train in self.parts()]

    def _find(self, test: Positions, train: Positions) -> tuple[Positions, Floats]:
        k = min(self.k, len(train))
        near, nearest = np.empty((len(test), k)), np.empty((len(test), k), np.int64)
        for start in range(0, len(test), CHUNK):
            rows = slice(start, start + CHUNK)
            cosines = self.x[test[rows]] @ self.x[train].T
            best = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
            near[rows], nearest[rows] = np.take_along_axis(cosines, best, 1), train[best]
        weight = 1 / np.maximum(1 - near, MIN_DISTANCE) if self.weights == "distance" else np.ones_like(near)
        return nearest, weight


def prepare_labellings(
    x: Vectors, fold: Ints, classes: tuple[str, ...], multilabel: bool, head: HeadOptions
) -> Labellings:
    """Return the scores of labellings by a knn or prototype head with its steps and settings."""
    chain = (*read_chain(head.head_model), *read_chain(KINDS[head.kind].preparation))
    prepared = fit_chain(chain, x)[1].astype(np.float32)
    if head.kind == "prototype":
        return PrototypeLabellings(prepared, fold, classes, multilabel, head.class_weight)
    settings = check_settings(head.kind, head.settings)
    return NeighbourLabellings(
        prepared, fold, classes, multilabel, head.class_weight, k=settings["k"], weights=settings["weights"]
    )
