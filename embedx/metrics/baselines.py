"""Baselines: what is reached without listening, from the truth of the scored rows alone.

They stand beside the figures under the same names. A figure that has no value for a baseline is not in it.
"""

import math

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.bootstrap import Ints
from embedx.metrics.classification import TOPS, score_whole

Baselines = dict[str, dict[str, float]]


def find_baselines(truth: Ints, classes: int, multilabel: bool) -> Baselines:
    """Return name -> figures of each baseline.

    One label a row: "majority" gives every row the shares of the classes as probabilities, so it always names the
    commonest; "chance" draws a class blindly. Many labels: "all-negative" never says a label; "prevalence" gives every
    row the shares of the labels.

    >>> find_baselines(np.array([0, 0, 0, 1]), 2, multilabel=False)["majority"]["accuracy"]
    0.75
    """
    if not len(truth):
        return {}
    if multilabel:
        silent = score_constant(truth, np.zeros(classes), multilabel)
        del silent["log_loss"]  # being sure and wrong costs without end
        return {"all-negative": silent, "prevalence": score_constant(truth, truth.mean(axis=0), multilabel)}
    majority = score_constant(truth, np.bincount(truth, minlength=classes) / len(truth), multilabel)
    chance: dict[str, float] = {
        "accuracy": 1 / classes,
        "balanced_accuracy": 1 / classes,
        **{f"top{k}": k / classes for k in TOPS if classes > k},
        "log_loss": math.log(classes),
        **{name: majority[name] for name in ("macro_auc", "map", "d_prime") if name in majority},
    }
    return {"majority": majority, "chance": chance}


def score_constant(truth: Ints, shares: NDArray[np.float64], multilabel: bool) -> dict[str, float]:
    """Return the defined figures of giving every row the same probabilities [C]."""
    scores = score_whole(truth, np.tile(shares, (len(truth), 1)), multilabel)
    values = {name: float(value[0]) for name, value in scores.overall.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}
