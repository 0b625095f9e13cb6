"""Calibration equals scipy and scikit-learn."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from embedx.errors import UsageError
from embedx.heads.calibration import METHODS, calibrate, fit_calibration
from embedx.heads.inference import to_probabilities
from tests.helpers.head_data import NEW, NEW_Y, X, Y, fit

Array = NDArray[Any]
RANDOM = np.random.default_rng(0)


def draw(rows: int, several: bool, factor: float = 4.0, classes: int = 5) -> tuple[Array, Array]:
    """Return logits scaled by `factor`, and labels drawn from the unscaled logits."""
    right = RANDOM.standard_normal((rows, classes)) * 1.5
    if several:
        return right * factor, (RANDOM.random(right.shape) < to_probabilities(right, True)).astype(int)
    proba = to_probabilities(right, False)
    return right * factor, (proba.cumsum(axis=1) > RANDOM.random((rows, 1))).argmax(axis=1)


def expected_error(proba: Array, truth: Array) -> float:
    """Return the ECE in 15 bins over all entries."""
    bins = np.minimum((proba.ravel() * 15).astype(int), 14)
    gaps = [
        abs(proba.ravel()[bins == one].mean() - truth.ravel()[bins == one].mean()) * (bins == one).mean()
        for one in np.unique(bins)
    ]
    return float(sum(gaps))


@pytest.mark.parametrize("factor", [0.2, 1.0, 4.0, 50.0])
def test_temperature_minimises_log_loss(factor: float) -> None:
    logits, y = draw(800, False, factor)

    truth = np.eye(5)[y] * (1 - 1 / 802) + 1 / 802 / 5  # as if one more row was wrong

    def loss(power: float) -> float:
        return float(-(truth * log_softmax(logits / np.exp(power), axis=1)).mean())

    expected = np.exp(minimize_scalar(loss, bounds=(-6, 6), method="bounded", options={"xatol": 1e-8}).x)
    (found,) = fit_calibration("temperature", logits, y, False)["temperature"]
    assert found == pytest.approx(expected, rel=1e-4)
    assert found == pytest.approx(factor, rel=0.15)


def test_temperature_of_multilabel_minimises_log_loss() -> None:
    logits, y = draw(800, True)

    truth = y * (1 - 1 / 802) + 1 / 802 / 2

    def loss(power: float) -> float:
        proba = to_probabilities(logits / np.exp(power), True)
        return float(
            -(truth * np.log(proba) + (1 - truth) * np.log(to_probabilities(-logits / np.exp(power), True))).mean()
        )

    expected = np.exp(minimize_scalar(loss, bounds=(-6, 6), method="bounded", options={"xatol": 1e-8}).x)
    assert fit_calibration("temperature", logits, y, True)["temperature"][0] == pytest.approx(expected, rel=1e-3)


def test_temperature_of_all_correct_rows_is_finite() -> None:
    y = np.arange(40) % 4
    logits = np.eye(4)[y] * 3.0
    (found,) = fit_calibration("temperature", logits, y, False)["temperature"]
    sure = to_probabilities(logits / found, False).max()
    assert 0.95 < sure < 1 - 1 / 100
    for constant in (np.zeros((5, 3)), np.ones((1, 3))):
        (found,) = fit_calibration("temperature", constant, np.zeros(len(constant), int), False)["temperature"]
        assert np.isfinite(found)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_calibrated_confidence_equals_accuracy_on_new_rows(method: str, several: bool) -> None:
    arrays = fit_calibration(method, *draw(2000, several), several)
    logits, y = draw(4000, several)
    truth = y if several else np.eye(5)[y]
    before, after = to_probabilities(logits, several), calibrate(logits, arrays, several)
    assert expected_error(before, truth) > 0.08
    assert expected_error(after, truth) < 0.02
    assert log_loss(truth.ravel(), after.ravel()) < log_loss(truth.ravel(), before.ravel()) - 0.1
    assert several or np.allclose(after.sum(axis=1), 1)
    if method == "temperature":
        assert (after.argmax(axis=1) == before.argmax(axis=1)).all()


def test_isotonic_equals_scikit_learn() -> None:
    logits, y = draw(300, True)
    other, _ = draw(100, True)
    found = calibrate(other, fit_calibration("isotonic", logits, y, True), True)
    for one in range(5):
        curve = IsotonicRegression(y_min=1 / 302, y_max=1 - 1 / 302, out_of_bounds="clip")
        curve.fit(to_probabilities(logits, True)[:, one], y[:, one])
        np.testing.assert_allclose(found[:, one], curve.predict(to_probabilities(other, True)[:, one]), atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_calibration_of_few_rows_or_missing_classes_works(method: str) -> None:
    for rows in (1, 2, 3):
        logits = RANDOM.standard_normal((rows, 4))
        for several in (False, True):
            y = np.zeros((rows, 4) if several else rows, int)
            proba = calibrate(logits, fit_calibration(method, logits, y, several), several)
            assert np.isfinite(proba).all()
            assert ((proba > 0) & (proba < 1)).all()


def test_head_stores_its_calibration() -> None:
    head = fit("logistic", X, Y, C=10.0)
    with pytest.raises(UsageError, match="not calibrated"):
        head.predict_proba(NEW, calibrated=True)
    with pytest.raises(UsageError, match="no operating points"):
        head.thresholds(precision=0.5)
    warm = head.calibrate("temperature", head.logits(NEW), NEW_Y)
    assert warm.settings["calibration"] == "temperature"
    assert log_loss(NEW_Y, warm.predict_proba(NEW, calibrated=True)) < log_loss(NEW_Y, warm.predict_proba(NEW))
    np.testing.assert_array_equal(warm.predict_proba(NEW), head.predict_proba(NEW))
    other = warm.calibrate("isotonic", head.logits(NEW), NEW_Y)
    assert "calibration.temperature" not in other.arrays
    with pytest.raises(UsageError, match="temperature, isotonic"):
        head.calibrate("platt", head.logits(NEW), NEW_Y)
    with pytest.raises(UsageError, match=r"\[100, 4\] and \[99\]"):
        head.calibrate("temperature", head.logits(NEW), NEW_Y[1:])
