"""CalibrationTrial: a calibration is kept only where held-out rows show that it helps.

Both log loss and calibration error (ECE) must fall, each by a lower bound over groups. What held-out rows cannot show
counts against the calibration: one more group, and the rows of classes that a fold did not know, are as if predicted
wrongly. So a calibration that makes a head surer needs evidence that this does no harm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.heads.evidence import mean_is_above_zero
from embedx.metrics.calibration import BINS, find_bins, reliability

# That a calibration lowers the figure. The heads of the folds share training rows, so groups are not quite
# independent: of 1500 simulated sets with all kinds of heads, 0.6 % got worse by one of the figures, and 1.5 % with
# 0.975 and 0.5.
LOSS_CONFIDENCE, ERROR_CONFIDENCE = 0.99, 0.95
MIN_PROBABILITY = float(np.finfo(np.float64).eps)  # the lowest probability in scikit-learn's log_loss

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Trial:
    """What a calibration does to held-out rows.

    Attributes:
        method: "temperature" or "isotonic".
        kept: whether the head keeps it: it lowers the log loss of new rows with a confidence of 99 %, and their ECE
            with one of 95 %.
        before, after: ECE and log loss without and with it.
    """

    method: str
    kept: bool
    before: dict[str, float]
    after: dict[str, float]

    def __str__(self) -> str:
        kept = "kept" if self.kept else "not kept, the probabilities are those of the classifier"
        return (
            f"Calibration ({self.method}) {kept}: ECE {self.before['ece']:.4f} -> {self.after['ece']:.4f}, "
            f"log loss {self.before['log_loss']:.4f} -> {self.after['log_loss']:.4f}, on held-out rows."
        )


def try_calibration(
    method: str,
    before: Scores,
    after: Scores,
    y: NDArray[np.int64],
    groups: NDArray[np.int64],
    multilabel: bool,
    unknown: NDArray[np.int64] | None = None,
) -> Trial:
    """Compare probabilities [M, C] of held-out rows with and without a calibration.

    Args:
        method: the method of the calibration.
        before, after: the probabilities without and with it, from a calibration that was fitted on other rows.
        y: class numbers [M]; multi-label: [M, C] of 0 and 1.
        groups: [M] rows of one group are right or wrong together.
        multilabel: whether y is [M, C].
        unknown: the group of each row that is left out of the M rows because its fold did not know its class.

    Returns:
        The figures, and whether the calibration is kept.
    """
    losses = [row_losses(proba, y, multilabel) for proba in (before, after)]
    wrong = [row_losses(proba, y, multilabel, right=False).mean() for proba in (before, after)]
    errors = [error_shares(proba, y, multilabel) for proba in (before, after)]
    sure = [entries(proba, y, multilabel)[0].mean() for proba in (before, after)]
    figures = [
        {"ece": calibration_error(proba, y, multilabel), "log_loss": float(loss.mean())}
        for proba, loss in zip((before, after), losses, strict=True)
    ]
    all_groups = groups if unknown is None else np.append(groups, unknown)

    def falls(values: Sequence[Scores], if_wrong: Sequence[float], confidence: float) -> bool:
        unseen = min(0.0, if_wrong[0] - if_wrong[1])
        gains = np.append(values[0] - values[1], np.full(len(all_groups) - len(groups), unseen))
        return mean_is_above_zero(gains, all_groups, unseen, confidence)

    kept = falls(losses, wrong, LOSS_CONFIDENCE) and falls(errors, sure, ERROR_CONFIDENCE)
    return Trial(method, kept, *figures)


def row_losses(proba: Scores, y: NDArray[np.int64], multilabel: bool, right: bool = True) -> Scores:
    """Return the log loss of each row [M], or that of a wrong truth; multi-label: the mean over labels.

    >>> row_losses(np.array([[0.5, 0.5]]), np.array([0]), False).round(3).tolist()
    [0.693]
    """
    proba = np.clip(proba, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    of_truth = np.where(y == 1, proba, 1 - proba) if multilabel else proba[np.arange(len(y)), y]
    losses = -np.log(of_truth if right else 1 - of_truth)
    return np.asarray(losses.mean(axis=1) if multilabel else losses)


def calibration_error(proba: Scores, y: NDArray[np.int64], multilabel: bool) -> float:
    """Return the expected calibration error; see `embedx.metrics.calibration`."""
    bars = reliability(y, proba, multilabel=multilabel)
    gaps = [bar.rows * abs((bar.confidence or 0) - (bar.accuracy or 0)) for bar in bars]
    return sum(gaps) / max(1, sum(bar.rows for bar in bars))


def error_shares(proba: Scores, y: NDArray[np.int64], multilabel: bool) -> Scores:
    """Return what each row adds to the calibration error [M]; the mean is the error.

    >>> error_shares(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1]), False).round(1).tolist()
    [-0.1, 0.9]
    """
    confidence, right = entries(proba, y, multilabel)
    places, gaps = find_bins(confidence), confidence - right
    signs = np.sign(np.bincount(places.ravel(), gaps.ravel(), BINS))
    return np.asarray((signs[places] * gaps).mean(axis=1))


def entries(proba: Scores, y: NDArray[np.int64], multilabel: bool) -> tuple[Scores, Scores]:
    """Return the confidences that the calibration error is about, and 1 where they are right, both [M, 1] or [M, C]."""
    if multilabel:
        return proba, y.astype(np.float64)
    return proba.max(axis=1, keepdims=True), (proba.argmax(axis=1) == y).astype(np.float64)[:, None]
