"""Classifiers of audio as scorers: of the audio itself, or of stored vectors that hold the state they need."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from embedx.errors import ModelError, RecipeMismatch, UsageError
from embedx.filesystem.paths import display_path
from embedx.recipe import view_name
from embedx.store.store import Store
from embedx.training.scoring import Matrices, Output, Scorer, Scores

if TYPE_CHECKING:
    from embedx.extractors.classifier import Classifier


def classifier_scorer(classifier: "Classifier") -> Scorer:
    """Return the scorer of a classifier that is run as an extractor: its vectors are the probabilities."""
    return Scorer(outputs_of(classifier), (view_name(0, "mean"),), first_matrix)


def outputs_of(classifier: "Classifier") -> dict[str, Output]:
    """Return the classes of each output of a classifier."""
    return {name: Output(classes, name in classifier.multi_label) for name, classes in classifier.outputs.items()}


def first_matrix(matrices: Matrices) -> Scores:
    """Return the vectors [N, C] of the only view."""
    return np.asarray(matrices[0], np.float64)


def vector_scorer(classifier: "Classifier", model: str, store: Store, ids: Sequence[int] | None) -> Scorer:
    """Return the scorer of a classifier for stored vectors that are the means of states which it takes.

    Args:
        classifier: the loaded classifier.
        model: its name, for errors.
        store: the store of the collection.
        ids: the rows; all if None.

    Raises:
        ModelError: the classifier takes a state that is not stored.
        RecipeMismatch: the vectors are those of another model.
        UsageError: the collection lacks a view that the classifier takes, or its windows are too long.
    """
    from embedx.extractors.classifier import VectorClassifier

    instead = f"Classify the files instead: embedx predict FILES --model {display_path(model)}."
    if not isinstance(classifier, VectorClassifier) or classifier.encoder_weights is None:
        raise ModelError(
            f"{display_path(model)} takes a state of its encoder that `embedx extract` does not store (AST: the class "
            f"token; Whisper: the mean over 30 s; a sum of layers before the final norm). {instead}"
        )
    if classifier.encoder_weights != store.recipe.weights:
        raise RecipeMismatch(
            f"The collection holds vectors of {display_path(store.recipe.model)} (weights "
            f"{store.recipe.weights[:12]}), but {display_path(model)} has another encoder (weights "
            f"{classifier.encoder_weights[:12]}). {instead}"
        )
    views = tuple(view_name(layer, "mean") for layer in classifier.layers)
    if missing := [view for view in views if view not in store.views]:
        raise UsageError(
            f"{display_path(model)} takes the views {', '.join(views)}; the collection lacks {', '.join(missing)}. "
            f"Extract with --layers {','.join(map(str, classifier.layers))} --pooling mean. {instead}"
        )
    limit = classifier.max_window_s
    if limit is not None and any(row.end_s - row.start_s >= limit for row in store.rows(ids)):
        raise UsageError(
            f"The mean vector of a window of {limit:g} s or more does not give the scores of {display_path(model)}. "
            f"Extract with a shorter --window, use --zero-shot, or classify the files: embedx predict FILES --model."
        )

    def score(matrices: Matrices) -> Scores:
        scores = classifier.vector_scores(matrices)
        return np.concatenate([scores[name] for name in classifier.outputs], axis=1).astype(np.float64)

    return Scorer(outputs_of(classifier), views, score)
