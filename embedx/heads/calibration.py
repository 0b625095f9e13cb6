"""Calibration of probabilities, fitted on rows that the head was not trained on.

A temperature divides all logits by one number (Guo et al. 2017); it does not change the ranking of classes. Isotonic
regression maps the probability of each class by an increasing curve (Zadrozny and Elkan 2002); it corrects more, and
needs more rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.heads.inference import Floats, to_probabilities
from embedx.heads.preprocessing import Array, Arrays

METHODS = ("temperature", "isotonic")
# Range of temperatures: cosines of prototypes need about 0.05, an overfitted network about 10.
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3
BISECTIONS = 60  # of that range on a log scale: enough for the precision of float64


def fit_calibration(method: str, logits: Array, y: Array, multilabel: bool) -> dict[str, Array]:
    """Fit a calibration.

    Args:
        method: "temperature" or "isotonic".
        logits: logits [N, C] of held-out rows.
        y: class numbers [N]; multi-label: [N, C] of 0 and 1.
        multilabel: whether y is [N, C].

    Returns:
        The arrays that `calibrate` takes.

    Raises:
        UsageError: an unknown method, or shapes that do not agree.
    """
    if method not in METHODS:
        raise UsageError(f"Unknown calibration {method!r}. Methods: {', '.join(METHODS)}.")
    logits, y = np.asarray(logits, np.float64), np.asarray(y)
    wanted = logits.shape if multilabel else logits.shape[:1]
    if logits.ndim != 2 or not len(logits) or y.shape != wanted or not np.isfinite(logits).all():
        raise UsageError(
            f"Calibration needs finite logits [N, C] of held-out rows and y {list(wanted)}; the shapes are "
            f"{list(logits.shape)} and {list(y.shape)}."
        )
    if method == "temperature":
        return {"temperature": np.array([fit_temperature(logits, y, multilabel)])}
    return fit_isotonic(to_probabilities(logits, multilabel), y, multilabel)


def fit_temperature(logits: Floats, y: NDArray[Any], multilabel: bool) -> float:
    """Return the temperature, by which logits [N, C] are divided, with the lowest log loss.

    If all rows are predicted correctly, the best temperature is 0. Then the truth is smoothed by the rule of
    succession, as if one more row was predicted wrongly.

    >>> logits = np.array([[4.0, 0.0]] * 4)
    >>> 4 / fit_temperature(logits, np.array([0, 0, 0, 1]), False)  # the logarithm of 3 to 1
    1.0986...
    """
    count = logits.shape[1]
    truth = y.astype(np.float64) if multilabel else np.eye(count)[y]
    temperature = _find_temperature(logits, truth, multilabel)
    if temperature > MIN_TEMPERATURE * 1.001:
        return temperature
    spread = 1 / (len(logits) + 2)
    return _find_temperature(logits, truth * (1 - spread) + spread / (2 if multilabel else count), multilabel)


def _find_temperature(logits: Floats, truth: Floats, multilabel: bool) -> float:
    """Bisect the range: the log loss is convex in 1 / temperature, so its slope changes sign once."""
    low, high = np.log(1 / MAX_TEMPERATURE), np.log(1 / MIN_TEMPERATURE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        slope = ((to_probabilities(logits * np.exp(middle), multilabel) - truth) * logits).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def fit_isotonic(proba: Floats, y: NDArray[Any], multilabel: bool) -> dict[str, Array]:
    """Return the knots of an increasing curve for each class against all others.

    No curve reaches 0 or 1, because N rows cannot show a probability below about 1 / N.
    """
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(proba) + 2)
    knots = []
    for c in range(proba.shape[1]):
        truth = y[:, c] if multilabel else y == c
        curve = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(proba[:, c], truth)
        knots.append((curve.X_thresholds_, curve.y_thresholds_))
    starts = np.array([0, *np.cumsum([len(x) for x, _ in knots])], np.float64)
    x, heights = (np.concatenate(parts) for parts in zip(*knots, strict=True))
    return {"knots.x": x, "knots.y": heights, "knots.starts": starts}


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
