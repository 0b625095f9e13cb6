"""Thresholds: figures equal scikit-learn, bounds hold on new groups, and a class without evidence gets none."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t
from sklearn.metrics import precision_score, recall_score

from embedx.errors import UsageError
from embedx.heads.evidence import least_groups, mean_is_above_zero, student_quantile
from embedx.heads.head import Head
from embedx.heads.inference import to_probabilities
from embedx.heads.thresholds import MAX_POINTS, PRECISION, RECALL, Thresholds, operating_points, pick_thresholds
from tests.helpers.amounts import fast_and_long
from tests.helpers.head_data import CLASSES, MANY, NEW, X, Y, fit

Array = NDArray[Any]


def draw(rows: int, several: bool, seed: int, groups: int = 0, separation: float = 3.0) -> tuple[Array, Array, Array]:
    """Return probabilities [N, 3], labels, and groups that share a part of the scores and the labels."""
    random = np.random.default_rng(seed)
    of_row = random.integers(0, groups, rows) if groups else np.arange(rows)
    kinds = random.integers(0, 3, rows)[of_row]  # one class per group
    shared = random.standard_normal((rows, 3))[of_row]
    if several:
        y = (np.eye(3, dtype=int)[kinds] | (random.random((rows, 3)) < 0.1)).astype(int)
        logits = separation * (y - 0.5) + 0.6 * shared + 0.6 * random.standard_normal((rows, 3))
        return to_probabilities(logits, True), y, of_row
    logits = separation * np.eye(3)[kinds] + 0.6 * shared + 0.6 * random.standard_normal((rows, 3))
    return to_probabilities(logits, False), kinds, of_row


def predicted(proba: Array, thresholds: Array, several: bool) -> Array:
    """Return which classes [N, C] a head with these thresholds predicts."""
    reached = proba >= thresholds
    return reached if several else reached & (np.eye(proba.shape[1]) == 1)[proba.argmax(axis=1)]


@pytest.mark.parametrize("several", [False, True])
def test_points_have_precision_and_recall_of_what_is_predicted(several: bool) -> None:
    proba, y, groups = draw(400, several, 0, groups=60)
    proba = proba.round(2)  # with ties
    truth = y if several else np.eye(3, dtype=int)[y]
    points = operating_points(proba, y, groups, several)
    assert 20 < points.shape[1] <= MAX_POINTS
    for c in range(3):
        used = points[c][~np.isnan(points[c, :, 0])]
        assert (np.diff(used[:, 0]) < 0).all()
        for point in used:
            named = predicted(proba, np.where(np.arange(3) == c, point[0], np.inf), several)[:, c]
            assert point[PRECISION][0] == pytest.approx(precision_score(truth[:, c], named))
            assert point[RECALL][0] == pytest.approx(recall_score(truth[:, c], named))
            sizes, hits = np.bincount(groups[named]), np.bincount(groups[named], truth[named, c])
            sizes, hits = sizes[sizes > 0], hits[sizes > 0]
            size = (sizes**2).sum() / sizes.sum()
            sizes, hits = np.append(sizes, size), np.append(hits, 0)  # a group that is wrong throughout
            ratio = hits.sum() / sizes.sum()
            error = np.sqrt(len(sizes) / (len(sizes) - 1) * ((hits - ratio * sizes) ** 2).sum()) / sizes.sum()
            assert point[PRECISION][1:3] == pytest.approx([ratio, error])
        assert used[-1][RECALL][0] == pytest.approx(
            recall_score(truth[:, c], predicted(proba, np.zeros(3), several)[:, c])
        )


@fast_and_long("trials", 60, 300)
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("wanted", [{"precision": 0.9}, {"recall": 0.9}])
def test_thresholds_hold_on_new_groups(several: bool, wanted: dict[str, float], trials: int) -> None:
    new, new_y, _ = draw(40_000, several, 99, groups=20_000)
    truth = new_y if several else np.eye(3, dtype=int)[new_y]
    kept, given = [], 0
    for seed in range(trials):
        proba, y, groups = draw(900, several, seed, groups=180)
        points = operating_points(proba, y, groups, several)
        thresholds = pick_thresholds(points, wanted.get("precision"), wanted.get("recall")).values
        named = predicted(new, thresholds, several)
        given += int(np.isfinite(thresholds).sum())
        for c in np.flatnonzero(np.isfinite(thresholds)):
            rows = named[:, c] if "precision" in wanted else truth[:, c] == 1
            kept.append((truth if "precision" in wanted else named)[rows, c].mean() >= 0.9)
    assert given > 2.4 * trials  # it is not empty: most classes get a threshold
    assert np.mean(kept) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / len(kept))


@fast_and_long("trials", 100, 1000)
def test_choice_among_many_thresholds_is_covered(trials: int) -> None:
    """The precision is 0.89 at every threshold, so a threshold for 0.9 is always an error."""
    errors = 0
    for seed in range(trials):
        random = np.random.default_rng(seed)
        truth = random.random(300) < 0.89
        points = operating_points(random.random((300, 1)), truth[:, None].astype(int), None, True)
        errors += bool(np.isfinite(pick_thresholds(points, 0.9, None).values[0]))
    assert errors / trials < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_rows_of_one_group_are_one_piece_of_evidence() -> None:
    proba, y = np.repeat([[0.9], [0.1]], 200, axis=0), np.repeat([[1], [0]], 200, axis=0)
    assert np.isfinite(pick_thresholds(operating_points(proba, y, None, True), 0.9, None).values).all()
    assert np.isfinite(pick_thresholds(operating_points(proba, y, np.arange(400) % 40, True), 0.9, None).values).all()
    few = pick_thresholds(operating_points(proba, y, np.arange(400) % 20, True), 0.9, None)
    assert few.too_few.tolist() == [True]
    assert few.values.tolist() == [np.inf]
    assert few.least == 27
    assert np.isfinite(pick_thresholds(operating_points(proba, y, np.arange(400) % 20, True), None, 0.8).values).all()


def test_threshold_of_loud_rows_does_not_hide_the_top() -> None:
    """Precision 0.5 over all rows, 1 in the upper third: the threshold is found at the upper third."""
    scores = np.linspace(1, 0, 300, endpoint=False)
    truth = np.where(np.arange(300) < 100, 1, np.arange(300) % 4 == 0).astype(int)
    points = operating_points(scores[:, None], truth[:, None], None, True)
    (threshold,) = pick_thresholds(points, 0.9, None).values
    assert 90 <= (scores >= threshold).sum() <= 115


def test_class_without_threshold_is_never_predicted_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    random = np.random.default_rng(0)
    truth = (random.random((240, 4)) < [0.5, 0.5, 0.5, 0.04]).astype(int)
    head: Head = fit("logistic", X, MANY, multilabel=True, C=0.1)
    proba = np.clip(0.8 * truth + 0.1 + 0.05 * random.standard_normal(truth.shape), 0, 1)
    proba[:, 2] = random.random(240)
    truth[:, 1] = 0
    head = head.measure_points(proba, truth)
    with caplog.at_level(logging.WARNING, "embedx"):
        thresholds = head.thresholds(precision=0.9)
    assert np.isinf(thresholds).tolist() == [False, True, True, True]
    assert "precision of 0.9 on new rows: dog, rain (in fewer than 27 groups" in caplog.text
    assert "; owl (held-out rows do not show it)" in caplog.text
    assert head.predict(X, thresholds=thresholds).any(axis=0).tolist() == [True, False, False, False]
    refused: list[dict[str, Any]] = [
        {},
        {"precision": 0.5, "recall": 0.5},
        {"recall": 0.0},
        {"precision": 1.0},
        {"recall": float("nan")},
    ]
    for both in refused:
        with pytest.raises(UsageError, match=r"precision or recall|is not allowed"):
            head.thresholds(**both)
    with pytest.raises(UsageError, match="do not agree"):
        head.measure_points(proba, truth, np.arange(3))


def test_most_probable_class_is_predicted_if_it_reaches_its_threshold() -> None:
    head = fit("logistic", X, Y, C=1.0)
    proba = head.predict_proba(NEW)
    thresholds = np.array([0.5, 0.9, np.inf, 0.05])
    for row, name in zip(proba, head.predict(NEW, thresholds=thresholds), strict=True):
        best = int(row.argmax())
        assert name == (CLASSES[best] if row[best] >= thresholds[best] else "")
    with pytest.raises(UsageError, match="4 classes"):
        head.predict(NEW, thresholds=thresholds[1:])


def test_points_of_recordings_are_points_of_their_own(tmp_path: Path) -> None:
    proba, y, _ = draw(300, False, 0)
    head = fit("logistic", X, np.where(Y == 3, 0, Y), CLASSES[:3], C=1.0)
    with pytest.raises(UsageError, match="no operating points"):
        head.thresholds(precision=0.5)
    head = head.measure_points(proba, y).measure_points(proba**0.5, y, per="recording", aggregate="max")
    head.save(tmp_path / "mine")
    loaded = Head.load(tmp_path / "mine")
    windows = loaded.thresholds(recall=0.5)
    recordings = loaded.thresholds(recall=0.5, per="recording", aggregate="max")
    assert np.isfinite([windows, recordings]).all()
    assert (recordings > windows).all()
    with pytest.raises(UsageError, match="Train it again"):
        loaded.thresholds(recall=0.5, per="recording", aggregate="mean")


def test_head_with_points_of_an_early_version_opens_and_asks_for_training(tmp_path: Path) -> None:
    head = fit("logistic", X, Y, C=1.0)
    points = np.full((4, 5, 3), np.nan)
    points[:, 0] = [0.9, 1.0, 0.5]
    head.replace(arrays={**head.arrays, "operating.points": points}).save(tmp_path / "old")
    old = Head.load(tmp_path / "old")
    np.testing.assert_array_equal(old.predict_proba(NEW), head.predict_proba(NEW))
    with pytest.raises(UsageError, match=r"earlier version.*Train it again"):
        old.thresholds(precision=0.9)
    for name, shape in (
        ("operating.points", (4, 5, 9)),
        ("operating.window", (4, 5, 3)),
        ("operating.window", (3, 5, 9)),
    ):
        with pytest.raises(UsageError, match="the shape of operating"):
            head.replace(arrays={**head.arrays, name: np.zeros(shape)}).save(tmp_path / "bad")


def test_missed_classes_are_described() -> None:
    assert Thresholds(np.zeros(2), np.zeros(2, bool), 3).describe_missed(("a", "b")) == ""


def test_quantiles_equal_scipy() -> None:
    freedom = np.array([3.0, 5.5, 30.0, 1000.0])
    for share in (0.9, 0.95, 0.975, 0.99):
        np.testing.assert_allclose(student_quantile(share, freedom), t.ppf(share, freedom), rtol=0.012)
    np.testing.assert_allclose(student_quantile(0.95, freedom), t.ppf(0.95, freedom), rtol=0.001)


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9, 0.99])
def test_least_number_of_groups_is_enough_and_one_less_is_not(wanted: float) -> None:
    least = int(np.ceil(least_groups(wanted, 0.05)))
    for groups, enough in ((least, True), (least - 1, False)):
        points = operating_points(np.ones((groups, 1)), np.ones((groups, 1), int), None, True)
        for precision, recall in ((wanted, None), (None, wanted)):
            assert bool(np.isfinite(pick_thresholds(points, precision, recall).values[0])) == enough


def test_mean_above_zero_counts_groups() -> None:
    random = np.random.default_rng(0)
    values = 0.2 + random.standard_normal(400)
    assert mean_is_above_zero(values, np.arange(400), 0.0, 0.95)
    assert not mean_is_above_zero(values, np.arange(400), -100.0, 0.95)
    assert not mean_is_above_zero(values, np.arange(400) // 200, 0.0, 0.95)
    groups = np.arange(400) // 40
    shifted = random.standard_normal(10)[groups] * 3 + values
    assert not mean_is_above_zero(shifted, groups, 0.0, 0.95)
