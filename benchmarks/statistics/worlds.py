"""Simulated collections: vectors in recordings of unequal length, of one class or several, by class frequencies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.evaluation.cross_validation import LabelledVectors
from embedx.evaluation.splits import stratified
from embedx.evaluation.targets import Targets


@dataclass(frozen=True)
class World:
    """How the rows of a collection are drawn.

    Attributes:
        frequencies: [C] of the classes; they sum to 1 unless a row may have several.
        multilabel: whether a row may have several classes.
        distance: between the means of classes; the noise of a row has a standard deviation of 1 in each dimension.
        alike: standard deviation, in each dimension, of what the rows of a recording share.
        same_label: whether all rows of a recording have the same labels.
        dimensions: of a vector.
        rows: mean number of rows in a recording.
        spread: of the logarithm of that number.
    """

    frequencies: tuple[float, ...]
    multilabel: bool = False
    distance: float = 3.5
    alike: float = 0.7
    same_label: bool = True
    dimensions: int = 12
    rows: float = 4.0
    spread: float = 0.5

    def draw(
        self, recordings: int, seed: int, means_seed: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Return vectors [N, D], class numbers [N] or [N, C] of 0 and 1, and the recording of each row [N]."""
        random = np.random.default_rng(seed)
        means = np.random.default_rng(means_seed).standard_normal((len(self.frequencies), self.dimensions))
        means *= self.distance / np.linalg.norm(means, axis=1, keepdims=True)
        lengths = np.exp(self.spread * random.standard_normal(recordings) - self.spread**2 / 2) * self.rows
        recording = np.repeat(np.arange(recordings), np.maximum(1, lengths.round().astype(int)))
        of_label = recording if self.same_label else np.arange(len(recording))
        if self.multilabel:
            y = (random.random((of_label[-1] + 1, len(means))) < self.frequencies)[of_label].astype(np.int64)
            x = y @ means
        else:
            y = random.choice(len(means), of_label[-1] + 1, p=self.frequencies)[of_label]
            x = means[y]
        shared = self.alike * random.standard_normal((recordings, self.dimensions))[recording]
        return (x + shared + random.standard_normal(x.shape)).astype(np.float32), y, recording

    def collection(self, recordings: int, seed: int, means_seed: int = 0) -> tuple[LabelledVectors, NDArray[np.int64]]:
        """Return labelled vectors with five stratified folds, and the recording of each row."""
        x, y, recording = self.draw(recordings, seed, means_seed)
        names = tuple(f"c{i}" for i in range(len(self.frequencies)))
        kept = np.arange(len(x))
        targets = Targets(kept, names, y, self.multilabel, np.ones(len(x), np.float32), 0, 0)
        splits = stratified(targets.strata(), recording, "recording, stratified", seed)
        return LabelledVectors(("L0.mean",), x, targets, splits), recording
