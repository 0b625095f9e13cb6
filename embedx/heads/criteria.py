"""Criteria: scores of held-out logits, by which a penalty or an epoch is chosen."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embedx.heads.inference import Floats, to_probabilities
from embedx.heads.training_data import Examples, Positions

# The first is the default for single-label data: on held-out groups, log loss chooses so strong a penalty that accuracy
# drops (spoken digits of unseen speakers with YAMNet: 0.24 instead of 0.33), and calibration corrects probabilities
# anyway. The second is the default for multi-label data, where most labels are rare and 0.5 is not a useful threshold.
CRITERIA = ("balanced_accuracy", "log_loss")
Score = tuple[float, ...]  # higher is better; compared from the first number on


def make_judge(examples: Examples, criterion: str) -> Callable[[Positions, Positions, Floats], Score]:
    """Return a function that scores logits [N, C]: (training rows, held-out rows, logits) -> score.

    With balanced accuracy, log loss decides between equal scores. Multi-label: only labels count that have positive and
    negative training rows.
    """

    def judge(train: Positions, held: Positions, logits: Floats) -> Score:
        truth, weights = examples.one_hot()[held], examples.weights[held]
        if examples.multilabel:
            known = examples.present(train)
            truth, weights, logits = truth[:, known], weights[:, known], logits[:, known]
        loss = log_loss(logits, truth, weights, examples.multilabel)
        return (-loss,) if criterion == "log_loss" else (balanced_accuracy(logits, truth, examples.multilabel), -loss)

    return judge


def balanced_accuracy(logits: Floats, truth: Floats, multilabel: bool) -> float:
    """Return the mean recall over classes; multi-label: over the rows with and the rows without each label.

    >>> balanced_accuracy(np.array([[1.0, 0.0]] * 4), np.array([[1, 0], [1, 0], [1, 0], [0, 1]]), False)
    0.5
    """
    predicted = logits >= 0 if multilabel else np.eye(logits.shape[1])[logits.argmax(axis=1)] == 1
    values = (1, 0) if multilabel else (1,)
    correct = [predicted[truth[:, c] == value, c] == value for c in range(truth.shape[1]) for value in values]
    return float(np.mean([rows.mean() for rows in correct if len(rows)] or [0]))


def log_loss(logits: Floats, truth: Floats, weights: Floats, multilabel: bool) -> float:
    """Return the weighted mean of the negative log probability of the truth [N, C] of 0 and 1.

    >>> round(log_loss(np.zeros((2, 4)), np.eye(4)[:2], np.ones(2), False), 4)  # the logarithm of 4
    1.3863
    """
    if not weights.any():
        return 0.0
    proba = np.clip(to_probabilities(logits, multilabel), 1e-15, 1 - 1e-15)
    loss: NDArray[np.float64] = -truth * np.log(proba)
    loss = loss - (1 - truth) * np.log(1 - proba) if multilabel else loss.sum(axis=1)
    return float((weights * loss).sum() / weights.sum())


def describe_absent(examples: Examples) -> list[str]:
    """Return a note on classes without examples, or an empty list."""
    absent = sorted(set(range(len(examples.classes))) - set(examples.present().tolist()))
    if not absent:
        return []
    names = ", ".join(examples.classes[c] for c in absent)
    if examples.multilabel:
        return [f"All training rows have the same value for {names}; the head always predicts its frequency."]
    return [f"No training row is of {names}; the head never predicts it."]
