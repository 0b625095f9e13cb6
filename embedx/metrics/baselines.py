"""Baselines: the figures of constant predictions, computed from the truth of the scored rows.

They have the same names as the figures. Figures that are undefined for a baseline are left out.
"""

import math

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.classification import TOPS, score_whole
from embedx.metrics.figures import Ints

Baselines = dict[str, dict[str, float]]


def find_baselines(truth: Ints, classes: int, parts: Ints, multilabel: bool) -> Baselines:
    """Return name -> figures of each baseline.

    Single-label: "majority" predicts the class shares as probabilities, so always the most frequent class; "chance"
    draws a class at random. Multi-label: "all-negative" never predicts a label; "prevalence" predicts the label shares.
    `parts` [N] are the test parts, from 0.

    >>> find_baselines(np.array([0, 0, 0, 1]), 2, np.zeros(4, int), multilabel=False)["majority"]["accuracy"]
    0.75
    """
    if not len(truth):
        return {}
    if multilabel:
        negative = score_constant(truth, np.zeros(classes), parts, multilabel)
        del negative["log_loss"]  # it is infinite
        return {"all-negative": negative, "prevalence": score_constant(truth, truth.mean(axis=0), parts, multilabel)}
    majority = score_constant(truth, np.bincount(truth, minlength=classes) / len(truth), parts, multilabel)
    chance: dict[str, float] = {
        "accuracy": 1 / classes,
        "balanced_accuracy": 1 / classes,
        **{f"top{k}": k / classes for k in TOPS if classes > k},
        "log_loss": math.log(classes),
        **{name: majority[name] for name in ("macro_auc", "map", "d_prime") if name in majority},
    }
    return {"majority": majority, "chance": chance}


def score_constant(truth: Ints, shares: NDArray[np.float64], parts: Ints, multilabel: bool) -> dict[str, float]:
    """Return the defined figures of predicting the same probabilities [C] for every row."""
    scores = score_whole(truth, np.tile(shares, (len(truth), 1)), parts, multilabel)
    values = {name: float(value[0]) for name, value in scores.overall.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}
