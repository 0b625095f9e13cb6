"""Held-out rows: a calibration is kept only where it helps; thresholds are those of the finished head and unit."""

from dataclasses import replace

import numpy as np
import pytest

from embedx.evaluation.cross_validation import LabelledVectors, cross_fit, folds_within, make_fit
from embedx.evaluation.splits import NO_ROWS, Split, Splits, stratified
from embedx.evaluation.targets import Targets
from embedx.heads.inference import to_probabilities
from embedx.heads.options import HeadOptions
from embedx.training.calibration_trial import calibration_error, error_shares, try_calibration
from embedx.training.held_out import Finished, finish_head, rescale, without_unknown
from tests.helpers.collections import Make, clusters
from tests.helpers.head_data import CLASSES, GROUPS, MANY, X, Y


def labelled(several: bool, y: np.ndarray | None = None) -> LabelledVectors:
    y = (MANY if several else Y) if y is None else y
    targets = Targets(np.arange(len(X)), CLASSES, y, several, np.ones(len(X), np.float32), 0, 0)
    return LabelledVectors(("L0.mean",), X, targets, stratified(targets.strata(), GROUPS, "groups", 0))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_held_out_logits_get_the_scale_of_the_finished_head(several: bool, factor: float) -> None:
    data = labelled(several)
    fit = make_fit(data, HeadOptions(settings={"C": 0.1}))
    head, held_out = fit(data.development, NO_ROWS), cross_fit(data, fit)
    folds = data.splits.parts
    expected = rescale(data, head, folds, held_out)
    scaled = [
        one.replace(arrays={**one.arrays, "weight": one.arrays["weight"] * factor, "bias": one.arrays["bias"] * factor})
        for one in held_out.heads
    ]
    other = rescale(data, head, folds, replace(held_out, logits=held_out.logits * factor, heads=tuple(scaled)))
    np.testing.assert_allclose(other.logits, expected.logits, rtol=1e-6)
    np.testing.assert_allclose(expected.proba, to_probabilities(expected.logits, several))
    ratio = np.abs(expected.logits).mean() / np.abs(held_out.logits).mean()
    assert 0.8 < ratio < 1.3


@pytest.mark.parametrize("several", [False, True])
def test_calibration_that_does_not_help_is_not_kept(several: bool) -> None:
    random = np.random.default_rng(0)
    logits = random.standard_normal((600, 4)) * 1.5
    right = to_probabilities(logits, several)
    y = (
        (random.random(right.shape) < right).astype(int)
        if several
        else np.array([random.choice(4, p=p) for p in right])
    )
    sure, groups = to_probabilities(3 * logits, several), np.arange(600) // 3
    kept = try_calibration("temperature", sure, right, y, groups, several)
    assert kept.kept
    assert kept.after["log_loss"] < kept.before["log_loss"]
    assert kept.after["ece"] < kept.before["ece"]
    assert "Calibration (temperature) kept: ECE" in str(kept)
    worse = try_calibration("isotonic", right, sure, y, groups, several)
    assert not worse.kept
    assert "not kept, the probabilities are those of the classifier" in str(worse)
    assert not try_calibration("isotonic", right, right, y, groups, several).kept
    assert not try_calibration("temperature", sure, right, y, groups // 100, several).kept  # two groups show nothing


def draw_rows(random: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    return np.array([random.choice(logits.shape[1], p=p) for p in to_probabilities(logits, False)])


@pytest.mark.parametrize("several", [False, True])
def test_error_shares_have_the_calibration_error_as_mean(several: bool) -> None:
    random = np.random.default_rng(0)
    logits = random.standard_normal((90, 3))
    y = random.integers(2, size=(90, 3)) if several else draw_rows(random, logits)
    proba = to_probabilities(logits, several)
    assert error_shares(proba, y, several).mean() == pytest.approx(calibration_error(proba, y, several))


def test_calibration_that_lowers_log_loss_alone_is_not_kept() -> None:
    """Right probabilities of a better classifier: both are calibrated, so that ECE cannot fall."""
    random = np.random.default_rng(0)
    logits = 2 * random.standard_normal((900, 4))
    y, groups = draw_rows(random, logits), np.arange(900) // 3
    shares = np.tile(np.bincount(y, minlength=4) / 900, (900, 1))
    trial = try_calibration("isotonic", shares, to_probabilities(logits, False), y, groups, False)
    assert trial.after["log_loss"] < trial.before["log_loss"] - 0.2
    assert not trial.kept


def test_rows_of_unknown_classes_count_against_a_surer_head() -> None:
    """Held-out rows show nothing on classes of one group, which new rows may have; a less sure head needs no proof."""
    random = np.random.default_rng(0)
    logits = 2 * random.standard_normal((600, 4))
    y, groups = draw_rows(random, logits), np.arange(600) // 3
    right, timid, sure = (to_probabilities(factor * logits, False) for factor in (1.0, 0.4, 3.0))
    unknown = np.repeat(np.arange(1000, 1080), 3)
    assert try_calibration("temperature", timid, right, y, groups, False).kept
    assert not try_calibration("temperature", timid, right, y, groups, False, unknown).kept
    assert try_calibration("temperature", sure, right, y, groups, False, unknown).kept


def test_rows_of_a_class_that_a_fold_head_does_not_know_are_left_out() -> None:
    y = np.where(Y == 3, 0, Y)
    y[np.flatnonzero(GROUPS == 7)] = 3
    data = labelled(False, y)
    held_out = cross_fit(data, make_fit(data, HeadOptions(settings={"C": 0.1})))
    kept = without_unknown(data, held_out)
    assert set(held_out.positions) - set(kept.positions) == set(np.flatnonzero(y == 3))
    assert len(kept.positions) == len(kept.logits) == len(kept.parts) == len(kept.proba)


def test_inner_folds_keep_the_folds_of_the_data_set_together() -> None:
    data = labelled(False)
    fold = GROUPS % 10  # of ten, by groups that the recordings do not show
    parts = tuple(Split(str(i), np.flatnonzero(fold != i), NO_ROWS, np.flatnonzero(fold == i)) for i in range(10))
    data = replace(data, splits=Splits(parts, "the column 'fold'", np.arange(len(X))))
    for inner in folds_within(data, data.development):
        assert not set(fold[inner.train]) & set(fold[inner.test])
    single = replace(data, splits=Splits((Split("test", parts[0].train, NO_ROWS, parts[0].test),), "", GROUPS))
    for inner in folds_within(single, single.development):
        assert not set(GROUPS[inner.train]) & set(GROUPS[inner.test])


def test_finished_head_has_points_of_windows_and_recordings() -> None:
    data = labelled(True)
    options = HeadOptions("prototype")
    head = make_fit(data, options)(data.development, NO_ROWS)
    finished = finish_head(data, GROUPS.tolist(), head, "none", options)
    assert isinstance(finished, Finished)
    assert finished.trial is None
    names = {"operating.window", "operating.recording.mean", "operating.recording.max"}
    assert names < set(finished.head.arrays)
    highest = {name: np.nanmax(finished.head.arrays[name][:, :, 0]) for name in names}
    assert highest["operating.recording.max"] > highest["operating.recording.mean"]


def test_thresholds_of_recordings_are_used_for_recordings(make: Make) -> None:
    x, labels = clusters(360, 2, spread=1.5)
    paths = [f"/{i % 2}-{i // 6}.wav" for i in range(360)]  # three windows in each of 120 recordings
    collection = make(x, labels, paths)
    head = collection.fit_head(C=0.1)
    for aggregate in ("mean", "max"):
        threshold = head.thresholds(precision=0.8, per="recording", aggregate=aggregate)
        predictions = collection.predict(per="recording", aggregate=aggregate, precision=0.8)
        for prediction, proba in zip(predictions, predictions.proba, strict=True):
            best = int(proba.argmax())
            assert prediction.labels == ((head.classes[best],) if proba[best] >= threshold[best] else ())
        assert any(prediction.labels for prediction in predictions)
        assert not np.array_equal(threshold, head.thresholds(precision=0.8))
