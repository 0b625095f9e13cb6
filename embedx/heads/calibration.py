"""Calibration: making probabilities as often right as they say, learned on rows that the head was not trained on.

A temperature divides all logits by one number (Guo et al. 2017): it changes no ranking. Isotonic regression maps the
probability of each class by a rising curve (Zadrozny and Elkan 2002): it can mend more, and needs more rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.heads.inference import Floats, to_probabilities
from embedx.heads.preprocessing import Array, Arrays

METHODS = ("temperature", "isotonic")
COLDEST, HOTTEST = 1e-3, 1e3  # temperatures: cosines of prototypes need about 0.05, an overfitted network 10
HALVINGS = 60  # of that range on a logarithmic scale: beyond the precision of float64


def fit_calibration(method: str, logits: Array, y: Array, multilabel: bool) -> dict[str, Array]:
    """Return what turns logits [N, C] of held-out rows into calibrated probabilities, given y as `fit` takes it.

    Raises:
        UsageError: an unknown method, or shapes that do not agree.
    """
    if method not in METHODS:
        raise UsageError(f"Unknown calibration {method!r}. Methods: {', '.join(METHODS)}.")
    logits, y = np.asarray(logits, np.float64), np.asarray(y)
    wanted = logits.shape if multilabel else logits.shape[:1]
    if logits.ndim != 2 or not len(logits) or y.shape != wanted or not np.isfinite(logits).all():
        raise UsageError(
            f"Calibration takes finite logits [N, C] of held-out rows and y {list(wanted)}; these are of the shapes "
            f"{list(logits.shape)} and {list(y.shape)}."
        )
    if method == "temperature":
        return {"temperature": np.array([fit_temperature(logits, y, multilabel)])}
    return fit_isotonic(to_probabilities(logits, multilabel), y, multilabel)


def fit_temperature(logits: Floats, y: NDArray[Any], multilabel: bool) -> float:
    """Return the number that logits [N, C] are divided by for the least log loss.

    Where all rows are told right, ever larger logits would be best. A likeness of one more row that is told wrong, by
    the rule of succession, then keeps them finite.

    >>> logits = np.array([[4.0, 0.0]] * 4)
    >>> 4 / fit_temperature(logits, np.array([0, 0, 0, 1]), False)  # the logarithm of 3 to 1
    1.0986...
    """
    count = logits.shape[1]
    truth = y.astype(np.float64) if multilabel else np.eye(count)[y]
    found = _find_temperature(logits, truth, multilabel)
    if found > COLDEST * 1.001:
        return found
    spread = 1 / (len(logits) + 2)
    return _find_temperature(logits, truth * (1 - spread) + spread / (2 if multilabel else count), multilabel)


def _find_temperature(logits: Floats, truth: Floats, multilabel: bool) -> float:
    """Halve the range: the log loss is convex in 1 / temperature, so its slope changes sign once."""
    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        slope = ((to_probabilities(logits * np.exp(middle), multilabel) - truth) * logits).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def fit_isotonic(proba: Floats, y: NDArray[Any], multilabel: bool) -> dict[str, Array]:
    """Return the knots of a rising curve for each class against all others.

    No curve reaches 0 or 1: of N rows none can tell a probability below about 1 / N.
    """
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (len(proba) + 2)
    knots = []
    for one in range(proba.shape[1]):
        truth = y[:, one] if multilabel else y == one
        curve = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(proba[:, one], truth)
        knots.append((curve.X_thresholds_, curve.y_thresholds_))
    lengths = np.array([0, *np.cumsum([len(x) for x, _ in knots])], np.float64)
    x, heights = (np.concatenate(parts) for parts in zip(*knots, strict=True))
    return {"knots.x": x, "knots.y": heights, "knots.starts": lengths}


def calibrate(logits: Floats, arrays: Arrays, multilabel: bool) -> Floats:
    """Return calibrated probabilities [N, C]; those of classes that exclude each other sum to 1."""
    if "temperature" in arrays:
        return to_probabilities(logits / arrays["temperature"], multilabel)
    proba = to_probabilities(logits, multilabel)
    starts = arrays["knots.starts"].astype(np.int64)
    for one in range(proba.shape[1]):
        part = slice(starts[one], starts[one + 1])
        proba[:, one] = np.interp(proba[:, one], arrays["knots.x"][part], arrays["knots.y"][part])
    return proba if multilabel else proba / proba.sum(axis=1, keepdims=True)
