"""Calibration of probabilities, fitted on rows that the head was not trained on.

A temperature divides all logits by one number (Guo et al. 2017); it does not change the ranking of classes. Isotonic
regression maps the probability of each class by an increasing curve (Zadrozny and Elkan 2002); it corrects more, and
needs more rows.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.arguments.types import read_numbers
from embedx.errors import UsageError
from embedx.heads.inference import Floats, to_probabilities
from embedx.heads.preprocessing import Array, Arrays

METHODS = ("temperature", "isotonic")
# Range of temperatures: cosines of prototypes need about 0.05, an overfitted network about 10.
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3
BISECTIONS = 60  # of that range on a log scale: enough for the precision of float64


def fit_calibration(
    method: str, logits: Array, y: Array, multilabel: bool, groups: Array | None = None
) -> dict[str, Array]:
    """Fit a calibration.

    Args:
        method: "temperature" or "isotonic".
        logits: logits [N, C] of held-out rows.
        y: class numbers [N]; multi-label: [N, C] of 0 and 1.
        multilabel: whether y is [N, C].
        groups: [N] rows of one group are right or wrong together; each row on its own if None.

    Returns:
        The arrays that `calibrate` takes.

    Raises:
        UsageError: an unknown method, or shapes that do not agree.
    """
    if method not in METHODS:
        raise UsageError(f"Unknown calibration {method!r}. Methods: {', '.join(METHODS)}.")
    logits, y = read_numbers(logits, "logits", np.float64), read_numbers(y, "y")
    wanted = logits.shape if multilabel else logits.shape[:1]
    if logits.ndim != 2 or not len(logits) or y.shape != wanted or not np.isfinite(logits).all():
        raise UsageError(
            f"Calibration needs finite logits [N, C] of held-out rows and y {list(wanted)}; the shapes are "
            f"{list(logits.shape)} and {list(y.shape)}."
        )
    count = len(logits) if groups is None else len(np.unique(groups))
    if method == "temperature":
        return {"temperature": np.array([fit_temperature(logits, y, multilabel, count)])}
    return fit_isotonic(to_probabilities(logits, multilabel), y, multilabel, count)


def fit_temperature(logits: Floats, y: NDArray[Any], multilabel: bool, groups: int) -> float:
    """Return the temperature, by which logits [N, C] are divided, with the lowest log loss.

    The truth is smoothed by the rule of succession, as if one more group of rows was predicted wrongly: some hundred
    groups do not show that no row with high logits is wrong.

    >>> logits = np.array([[4.0, 0.0]] * 4)
    >>> 4 / fit_temperature(logits, np.array([0, 0, 0, 0]), False, 4)  # the logarithm of 11 to 1
    2.3978...
    """
    count = logits.shape[1]
    truth = y.astype(np.float64) if multilabel else np.eye(count)[y]
    spread = 1 / (groups + 2)
    return _find_temperature(logits, truth * (1 - spread) + spread / (2 if multilabel else count), multilabel)


def _find_temperature(logits: Floats, truth: Floats, multilabel: bool) -> float:
    """Bisect the range: the log loss is convex in 1 / temperature, so its slope changes sign once."""
    low, high = np.log(1 / MAX_TEMPERATURE), np.log(1 / MIN_TEMPERATURE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        slope = ((to_probabilities(logits * np.exp(middle), multilabel) - truth) * logits).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def fit_isotonic(proba: Floats, y: NDArray[Any], multilabel: bool, groups: int) -> dict[str, Array]:
    """Return the knots of an increasing curve for each class against all others.

    No curve reaches 0 or 1, because N groups of rows cannot show a probability below about 1 / N.
    """
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (groups + 2)
    knots = []
    for c in range(proba.shape[1]):
        truth = y[:, c] if multilabel else y == c
        curve = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(proba[:, c], truth)
        knots.append((curve.X_thresholds_, curve.y_thresholds_))
    starts = np.array([0, *np.cumsum([len(x) for x, _ in knots])], np.float64)
    x, heights = (np.concatenate(parts) for parts in zip(*knots, strict=True))
    return {"knots.x": x, "knots.y": heights, "knots.starts": starts}


def find_ramps(arrays: Arrays) -> dict[str, Array]:
    """Return the curves of `fit_isotonic` as sums of ramps, which need no search: K ramps for each class.

    The curve is `first` [C] plus the sum of `rise` [C, K] times (p - `start` [C, K]) / `width` [C, K], cut to 0 and 1.
    """
    starts = arrays["knots.starts"].astype(np.int64)
    parts = [slice(*pair) for pair in pairwise(starts)]
    shape = len(parts), max(1, int(np.diff(starts).max()) - 1)
    start, width, rise = np.zeros(shape), np.ones(shape), np.zeros(shape)
    for c, part in enumerate(parts):
        x, y = arrays["knots.x"][part], arrays["knots.y"][part]
        start[c, : len(x) - 1], width[c, : len(x) - 1], rise[c, : len(x) - 1] = x[:-1], np.diff(x), np.diff(y)
    return {
        "ramps.first": arrays["knots.y"][starts[:-1]],
        "ramps.start": start,
        "ramps.width": width,
        "ramps.rise": rise,
    }


def calibrate(logits: Floats, arrays: Arrays, multilabel: bool) -> Floats:
    """Return calibrated probabilities [N, C] of logits [N, C]; single-label rows sum to 1."""
    if "temperature" in arrays:
        return to_probabilities(logits / arrays["temperature"], multilabel)
    proba = to_probabilities(logits, multilabel)
    starts = arrays["knots.starts"].astype(np.int64)
    for c in range(proba.shape[1]):
        part = slice(starts[c], starts[c + 1])
        proba[:, c] = np.interp(proba[:, c], arrays["knots.x"][part], arrays["knots.y"][part])
    return proba if multilabel else proba / proba.sum(axis=1, keepdims=True)
