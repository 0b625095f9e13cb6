"""Judging: how good logits of held-out rows are, so that a penalty or an epoch can be chosen by it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embedx.heads.inference import Floats, to_probabilities
from embedx.heads.training_data import Examples, Positions

# The first is the default where a row has one label: by log loss, foreign groups ask for so strong a penalty that
# little is told right any more (spoken digits of foreign speakers by YAMNet: 0.24 instead of 0.33), and probabilities
# are what calibration is for. The second is that of several labels: a row has few of them, and a half is no border.
CRITERIA = ("balanced_accuracy", "log_loss")
Score = tuple[float, ...]  # more is better, the first number first


def make_judge(examples: Examples, criterion: str) -> Callable[[Positions, Positions, Floats], Score]:
    """Return what scores logits [N, C] of held-out rows, given the training rows, the held-out ones and the logits.

    By balanced accuracy, log loss decides between equals. A label counts where the training
    part has rows with it and rows without.
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
    """Return the mean share of rows told right over classes, or over those with and those without each label.

    >>> balanced_accuracy(np.array([[1.0, 0.0]] * 4), np.array([[1, 0], [1, 0], [1, 0], [0, 1]]), False)
    0.5
    """
    named = logits >= 0 if multilabel else np.eye(logits.shape[1])[logits.argmax(axis=1)] == 1
    sides = (1, 0) if multilabel else (1,)
    shares = [named[truth[:, one] == side, one] == side for one in range(truth.shape[1]) for side in sides]
    return float(np.mean([share.mean() for share in shares if len(share)] or [0]))


def log_loss(logits: Floats, truth: Floats, weights: Floats, multilabel: bool) -> float:
    """Return the weighted mean of minus the logarithm of the probability of what is true [N, C] of 0 and 1.

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
    """Name the classes of which there is nothing to learn."""
    absent = sorted(set(range(len(examples.classes))) - set(examples.present().tolist()))
    if not absent:
        return []
    names = ", ".join(examples.classes[one] for one in absent)
    if examples.multilabel:
        return [f"Every training row has the same answer for {names}: the head always gives its frequency."]
    return [f"No training row is of {names}: the head never names it."]
