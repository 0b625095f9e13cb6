"""Classifiers of audio as scorers: of the audio itself, or of stored vectors that hold the state they need."""

from typing import TYPE_CHECKING

import numpy as np

from embedx.recipe import view_name
from embedx.training.scoring import Matrices, Output, Scorer, Scores

if TYPE_CHECKING:
    from embedx.extractors.classifier import Classifier


def classifier_scorer(classifier: "Classifier") -> Scorer:
    """Return the scorer of a classifier that is run as an extractor: its vectors are the probabilities."""
    outputs = {name: Output(classes, classifier.multi_label) for name, classes in classifier.outputs.items()}
    return Scorer(outputs, (view_name(0, "mean"),), first_matrix)


def first_matrix(matrices: Matrices) -> Scores:
    """Return the vectors [N, C] of the only view."""
    return np.asarray(matrices[0], np.float64)
