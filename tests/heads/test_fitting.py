"""Heads equal scikit-learn, are reproducible by seed, and handle unusual labels."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from embedx import heads
from embedx.errors import UsageError
from embedx.heads.head import Head
from embedx.heads.inference import MIN_DISTANCE
from embedx.heads.kinds import KINDS
from tests.helpers.head_data import CLASSES, GROUPS, MANY, NEW, X, Y, fit, make_rows, shaped


def write_step(step: Any) -> str:
    if isinstance(step, Normalizer):
        return "Unit()"
    return f"PCA({step.n_components}{', whiten' if step.whiten else ''})"


@pytest.mark.parametrize("steps", [[], [PCA(8, svd_solver="full")], [Normalizer(), PCA(6, whiten=True)]])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("balanced", [None, "balanced"])
def test_logistic_equals_scikit_learn(steps: list[Any], count: int, balanced: str | None) -> None:
    chain = "+".join(write_step(one) for one in steps)
    rows = (count > Y) & (np.arange(len(Y)) % (1 + Y) == 0)  # unbalanced
    head = fit("logistic", X[rows], Y[rows], CLASSES[:count], C=0.3, head_model=chain, class_weight=balanced)
    model = make_pipeline(*steps, StandardScaler(), LogisticRegression(C=0.3, max_iter=5000, class_weight=balanced))
    model.fit(X[rows].astype(np.float64), Y[rows])
    np.testing.assert_allclose(head.predict_proba(NEW), model.predict_proba(NEW.astype(np.float64)), atol=1e-5)
    assert head.predict(NEW).tolist() == [CLASSES[one] for one in model.predict(NEW.astype(np.float64))]


def test_row_and_class_weights_equal_scikit_learn() -> None:
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    weights[:5] = 0
    given = {"cat": 5.0, "owl": 0.5}
    head = fit("logistic", X, Y, C=1.0, sample_weight=weights, class_weight=given)
    scaler = StandardScaler().fit(X.astype(np.float64))
    model = LogisticRegression(C=1.0, max_iter=5000, class_weight={0: 5.0, 1: 1, 2: 0.5, 3: 1})
    model.fit(scaler.transform(X.astype(np.float64)), Y, sample_weight=weights)
    expected = model.predict_proba(scaler.transform(NEW.astype(np.float64)))
    np.testing.assert_allclose(head.predict_proba(NEW), expected, atol=1e-5)


@pytest.mark.parametrize("balanced", [None, "balanced"])
def test_multilabel_fit_equals_one_regression_per_label(balanced: str | None) -> None:
    head = fit("logistic", X, MANY, multilabel=True, C=0.1, class_weight=balanced)
    scaler = StandardScaler().fit(X.astype(np.float64))
    for one in range(len(CLASSES)):
        model = LogisticRegression(C=0.1, max_iter=5000, class_weight=balanced)
        model.fit(scaler.transform(X.astype(np.float64)), MANY[:, one])
        expected = model.predict_proba(scaler.transform(NEW.astype(np.float64)))[:, 1]
        np.testing.assert_allclose(head.predict_proba(NEW)[:, one], expected, atol=1e-5)
    named = head.predict(NEW)
    assert set(named.sum(axis=1)) >= {0, 1}
    assert np.array_equal(named, head.predict_proba(NEW) > 0.5)


def test_label_weight_applies_to_rows_with_the_label() -> None:
    head = fit("logistic", X, MANY, multilabel=True, C=0.1, class_weight={"dog": 7.0})
    scaler = StandardScaler().fit(X.astype(np.float64))
    model = LogisticRegression(C=0.1, max_iter=5000, class_weight={0: 1, 1: 7})
    model.fit(scaler.transform(X.astype(np.float64)), MANY[:, 1])
    expected = model.predict_proba(scaler.transform(NEW.astype(np.float64)))[:, 1]
    np.testing.assert_allclose(head.predict_proba(NEW)[:, 1], expected, atol=1e-5)


def test_knn_rows_vote_by_their_weight() -> None:
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    head = fit("knn", X, Y, k=len(X), weights="uniform", sample_weight=weights)
    shares = np.bincount(Y, weights) / weights.sum()
    np.testing.assert_allclose(head.predict_proba(NEW), np.tile(shares, (len(NEW), 1)), atol=1e-4)
    several = fit("knn", X, MANY, k=len(X), weights="uniform", sample_weight=weights, multilabel=True)
    np.testing.assert_allclose(several.predict_proba(NEW)[0], weights @ MANY / weights.sum(), atol=1e-4)


def test_direction_without_variance_is_not_amplified() -> None:
    x = np.tile(X[:, 10:15], 3)  # of rank 5
    head = fit("logistic", x, Y, C=1.0, head_model="PCA(12, whiten)")
    narrow = fit("logistic", x, Y, C=1.0, head_model="PCA(5)")
    np.testing.assert_allclose(
        head.predict_proba(np.tile(NEW[:, 10:15], 3)), narrow.predict_proba(np.tile(NEW[:, 10:15], 3)), atol=1e-5
    )


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_knn_equals_scikit_learn(weights: str) -> None:
    head = fit("knn", X, Y, k=7, weights=weights)
    how = {"uniform": "uniform", "distance": lambda apart: 1 / np.maximum(apart, MIN_DISTANCE)}[weights]
    model = KNeighborsClassifier(7, metric="cosine", weights=how).fit(X.astype(np.float64), Y)
    frequency = (np.bincount(Y) + 1) / (len(Y) + 4)  # counts as one more vote
    expected = (7 * model.predict_proba(NEW.astype(np.float64)) + frequency) / 8
    np.testing.assert_allclose(head.predict_proba(NEW), expected, atol=1e-4)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("several", [False, True])
def test_knn_probabilities_are_never_0_or_1(several: bool, weights: str) -> None:
    for truth in (MANY, np.zeros_like(MANY), np.eye(4, dtype=int)[np.zeros(len(X), int)]) if several else (Y, Y // 3):
        head = fit("knn", X, truth, multilabel=several, weights=weights)
        proba = head.predict_proba(np.concatenate([X, NEW]))
        assert proba.min() > 1e-4
        assert proba.max() < 1 - 1e-4
    if several:  # a label that nobody has is as rare as the rule of succession says, or rarer
        assert fit("knn", X, np.zeros_like(MANY), multilabel=True).predict_proba(NEW).max() <= 1 / (len(X) + 2) + 1e-9


def test_knn_head_saved_without_prior_predicts_as_before(tmp_path: Path) -> None:
    head = fit("knn", X, Y, k=7, weights="uniform")
    old = head.replace(arrays={name: array for name, array in head.arrays.items() if name != "prior"})
    old.save(tmp_path / "old")
    proba = Head.load(tmp_path / "old").predict_proba(NEW)
    np.testing.assert_allclose(proba * 7, (proba * 7).round(), atol=1e-5)
    assert proba.max() > 1 - 1e-6
    with pytest.raises(UsageError, match="its prior"):
        head.replace(arrays={**head.arrays, "prior": np.ones(4)}).save(tmp_path / "bad")


def test_knn_ties_are_broken_by_order_whatever_the_number_of_rows() -> None:
    """Of equal training rows the first ones vote, also if a product gives them scores that differ in the last digit."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((7, 61)).astype(np.float32)
    kinds, y = random.integers(7, size=400), random.integers(4, size=400)
    head = fit("knn", rows[kinds], y, k=5, weights="uniform")
    new = rows[random.integers(7, size=333)] * 3
    whole = head.predict_proba(new)
    for count in (1, 2, 7, 20):
        np.testing.assert_array_equal(head.predict_proba(new[:count]), whole[:count])
    for row, proba in zip(new, whole, strict=True):
        first = np.flatnonzero((rows[kinds] * 3 == row).all(axis=1))[:5]
        expected = (np.bincount(y[first], minlength=4) + (np.bincount(y, minlength=4) + 1) / 404) / 6
        np.testing.assert_allclose(proba, expected, atol=1e-6)


def test_prototype_predicts_nearest_class_mean_by_cosine() -> None:
    head = fit("prototype", X, Y)
    unit = Normalizer().fit_transform(X.astype(np.float64))
    means = Normalizer().fit_transform(np.stack([unit[one == Y].mean(axis=0) for one in range(4)]))
    cosines = Normalizer().fit_transform(NEW.astype(np.float64)) @ means.T
    assert head.predict(NEW).tolist() == [CLASSES[one] for one in cosines.argmax(axis=1)]
    np.testing.assert_allclose(head.logits(NEW) * head.settings["temperature"], cosines, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_separable_classes(kind: str) -> None:
    x, y, groups = make_rows(400, spread=0.7)
    new, new_y, _ = make_rows(200, spread=0.7, seed=8)
    options: dict[str, Any] = {"head_model": "Standardise()"} if kind in ("knn", "prototype") else {}
    head = fit(kind, x, y, groups=groups, **options)
    proba = head.predict_proba(shaped(kind, new))
    assert (proba.argmax(axis=1) == new_y).mean() > 0.9
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_weighted_layers_finds_the_informative_layer() -> None:
    x, y, groups = make_rows(400, spread=1.5)
    head = fit("weighted-layers", x, y, groups=groups, max_epochs=100)
    weights = head.settings["layer_weights"]
    assert weights[1] > 0.7
    assert sum(weights) == pytest.approx(1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "knn"])  # far from a border weights count little
def test_class_weights_move_the_decision_boundary(kind: str) -> None:
    x, y, groups = make_rows(spread=6)
    few = (y == 0) | ((y == 1) & (np.arange(len(y)) % 4 == 0))
    plain, balanced = (
        fit(kind, x[few], y[few], CLASSES[:2], groups=groups[few], class_weight=how) for how in (None, "balanced")
    )
    if kind == "prototype":
        np.testing.assert_allclose(plain.arrays["weight"][0] * plain.settings["temperature"],
                                   balanced.arrays["weight"][0] * balanced.settings["temperature"])  # fmt: skip
    else:
        new = shaped(kind, NEW)
        assert balanced.predict_proba(new)[:, 1].mean() > plain.predict_proba(new)[:, 1].mean() + 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_row_with_weight_zero_is_ignored(kind: str) -> None:
    """Wrongly labelled rows with weight 0 do not affect training; they may affect the standardisation."""
    x, y, groups = make_rows(spread=1)
    wrong = np.arange(len(y)) % 3 == 0
    mislabelled = np.where(wrong, (y + 1) % 4, y)
    options: dict[str, Any] = {"head_model": "Standardise()"} if kind in ("knn", "prototype") else {}
    head = fit(kind, x, mislabelled, groups=groups, sample_weight=~wrong, **options)
    new, new_y, _ = make_rows(200, spread=1, seed=8)
    assert (head.predict_proba(shaped(kind, new)).argmax(axis=1) == new_y).mean() > 0.8


def test_weak_negatives_count_less_than_true_negatives() -> None:
    truth = MANY.copy()
    hidden = np.random.default_rng(0).random(len(X)) < 0.6
    truth[hidden] = 0  # unlabelled rows, taken as negatives
    weights = np.where(hidden, 0.05, 1.0)
    for kind in KINDS:
        new = shaped(kind, NEW)
        strong = fit(kind, X, truth, multilabel=True).predict_proba(new)
        weak = fit(kind, X, truth, multilabel=True, sample_weight=weights).predict_proba(new)
        if kind != "prototype":  # a mean direction has no prior
            assert weak.mean() > strong.mean() + 0.01, kind


@pytest.mark.parametrize("kind", KINDS)
def test_one_example_per_class_is_enough(kind: str) -> None:
    x, _, _ = make_rows(4)
    head = fit(kind, x, np.arange(4))
    assert head.predict(shaped(kind, x)).tolist() == list(CLASSES) or kind == "weighted-layers"
    assert np.isfinite(head.predict_proba(shaped(kind, NEW))).all()
    many = fit(kind, x, np.eye(4, dtype=int), multilabel=True)
    proba = many.predict_proba(shaped(kind, x))
    assert (proba.argmax(axis=1) == np.arange(4)).all() or kind in ("weighted-layers", "knn")
    assert kind == "knn" or any("No class" in note or "No group" in note for note in head.settings["notes"])


@pytest.mark.parametrize("kind", KINDS)
def test_class_without_rows_is_never_predicted_and_reported(kind: str) -> None:
    y = np.where(Y == 2, 1, Y)
    head = fit(kind, X, y, groups=GROUPS)
    assert "owl" not in head.predict(shaped(kind, NEW))
    assert any("owl" in note for note in head.settings["notes"])
    unweighted = fit(kind, X, Y, groups=GROUPS, sample_weight=Y != 2)  # rows that do not count are none
    assert any("owl" in note for note in unweighted.settings["notes"])
    assert "owl" not in unweighted.predict(shaped(kind, NEW))
    if kind == "logistic":
        three = np.where(y == 3, 2, y)
        other = fit(kind, X, three, ("cat", "dog", "rain"), groups=GROUPS, C=head.settings["C"]).predict_proba(NEW)
        np.testing.assert_allclose(head.predict_proba(NEW)[:, [0, 1, 3]], other, atol=1e-9)


@pytest.mark.parametrize("constant", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_label_of_all_or_no_rows_is_handled(kind: str, constant: int) -> None:
    truth = MANY.copy()
    truth[:, 1] = constant
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = fit(kind, X, truth, multilabel=True, groups=GROUPS)
    proba = head.predict_proba(shaped(kind, NEW))
    assert (proba[:, 1] > 0.9).all() if constant else (proba[:, 1] < 0.1).all()
    assert any("dog" in note for note in head.settings["notes"])
    nothing = fit(kind, X, np.zeros_like(MANY), multilabel=True, groups=GROUPS)
    assert (nothing.predict_proba(shaped(kind, NEW)) < 0.5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_single_class_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match=r"two classes.*\(dog\)"):
        fit(kind, X, np.ones(len(X), int))
    with pytest.raises(UsageError, match=r"two classes.*\(dog\)"):
        fit(kind, X, np.where(np.arange(len(X)) < 5, 0, 1), validation=np.arange(len(X)) < 5)


def test_zero_vector_and_copies_are_accepted() -> None:
    x = X.copy()
    x[:10] = 0
    x[10:60] = x[10]
    for kind in KINDS:
        head = fit(kind, x, Y, groups=GROUPS)
        assert np.isfinite(head.logits(shaped(kind, x))).all(), kind


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "tree"}, "Kinds: logistic, mlp, knn"),
        ({"k": 3}, "logistic has no setting 'k'. Its settings: C, "),
        ({"C": -1}, "C of logistic must be a number above 0"),
        ({"C": True}, "C of logistic must be"),
        ({"criterion": "f1"}, "balanced_accuracy, log_loss"),
        ({"kind": "mlp", "dropout": 1.0}, "dropout"),
        ({"kind": "mlp", "device": "toaster"}, "Unknown device 'toaster'"),
        ({"kind": "knn", "weights": "equal"}, "'distance' or 'uniform'"),
        ({"kind": "weighted-layers"}, r"several layers \[N, L, D\]"),
        ({"x": X[:, None]}, r"logistic takes vectors of one view"),
        ({"x": X[:, 0]}, r"must be vectors \[N, D\]"),
        ({"x": np.where(X > 50, np.nan, X)}, r"NaN or infinite values in \d+ of 240 rows; the first is row \d"),
        ({"x": X[:0], "y": Y[:0]}, "with a row or more"),
        ({"y": Y[:-1]}, r"y has the shape \[239\]"),
        ({"y": Y + 1}, "from 0 to 3"),
        ({"y": Y + 0.5}, "whole numbers"),
        ({"y": MANY * 2, "multilabel": True}, "from 0 to 1"),
        ({"y": MANY}, r"must have \[240\]"),
        ({"classes": ("a", "a", "b", "c")}, "differ"),
        ({"groups": GROUPS[:-1]}, "groups has the shape"),
        ({"sample_weight": -np.ones(len(X))}, "of 0 or more"),
        ({"sample_weight": np.zeros(len(X))}, "not only zeros"),
        ({"validation": np.ones(len(X))}, "leave some to train on"),
        ({"class_weight": "even"}, "'balanced'.*not 'even'"),
        ({"class_weight": {"cow": 1.0}}, "cat, dog, owl, rain.*not 'cow'"),
        ({"class_weight": {"cat": 0.0}}, "positive"),
        ({"head_model": "PCA"}, r"'PCA' in head_model is not a step.*PCA\(n, whiten\)"),
        ({"head_model": "PCA(0)"}, "is not a step"),
        ({"head_model": "PCA(1)+"}, "'' in head_model"),
        ({"head_model": "__import__('os')"}, "is not a step"),
        ({"head_model": "PCA(25)"}, "240 training rows of 24 dimensions allow at most 24"),
        ({"head_model": "PCA(8)+PCA(9)"}, "allow at most 8"),
        ({"kind": "weighted-layers", "x": X[:, None], "head_model": "PCA(2)"}, "works on one view"),
    ],
)
def test_invalid_setting_is_refused_with_allowed_values(options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"kind": "logistic", "x": X, "y": Y, "classes": CLASSES, **options}
    with pytest.raises(UsageError, match=message):
        heads.fit(**given)


@pytest.mark.parametrize("kind", KINDS)
def test_head_refuses_vectors_of_other_shape(kind: str) -> None:
    head = fit(kind, X, Y).replace(views=("L3.mean",))
    new = shaped(kind, NEW)
    with pytest.raises(UsageError, match=r"L3\.mean"):
        head.predict(new[..., :-1])
    with pytest.raises(UsageError, match="takes vectors"):
        head.predict(new[0])
    with pytest.raises(UsageError, match="finite"):
        head.predict(np.where(new > 50, np.nan, new))
    assert head.predict(new[:0]).shape == (0,)
    assert head.predict_proba(new[:0]).shape == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_of_row_does_not_depend_on_batch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head = fit(kind, X, Y)
    new = shaped(kind, NEW)
    together = head.predict_proba(new)
    monkeypatch.setattr("embedx.heads.inference.CHUNK", 7)
    np.testing.assert_allclose(head.predict_proba(new), together, atol=1e-6)
    np.testing.assert_allclose(head.predict_proba(new[3:4]), together[3:4], atol=1e-6)
