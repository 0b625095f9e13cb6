"""The batched sweep finds the same optimum as scikit-learn, in any order and batch size."""

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from embedx.errors import UsageError
from embedx.heads.batched_logistic import batches, newton
from embedx.heads.batched_logistic.sweep import Part, divide, select, sweep

Array = NDArray[Any]
CS = (0.001, 0.03, 1.0, 30.0)


def mixture(rows: int, dim: int, classes: int, spread: float = 1.0, seed: int = 0) -> tuple[Array, Array]:
    """Return rows in correlated columns of very different sizes, as vectors are, and their classes."""
    random = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    centres = random.standard_normal((classes, dim))
    x = (centres[y] + spread * random.standard_normal((rows, dim))) @ random.standard_normal((dim, dim)) / dim**0.5
    return (x * np.logspace(-2, 2, dim) + 5).astype(np.float32), y


def folds(y: Array, number: int = 3) -> list[Part]:
    return list(StratifiedKFold(number, shuffle=True, random_state=0).split(y, y))


def reference(x: Array, y: Array, part: Part, C: float, classes: int, **options: Any) -> tuple[Array, Any]:
    """Return scikit-learn's probabilities [n, K] of the rows to score, and its pipeline, converged."""
    train, test = part
    weight = options.pop("sample_weight", np.ones(len(y)))
    solver = LogisticRegression(C=C, tol=1e-10, max_iter=100_000, solver="newton-cg", **options)
    model = make_pipeline(StandardScaler(), solver)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newton-cg complains where it cannot get nearer
        model.fit(x[train].astype(np.float64), y[train], logisticregression__sample_weight=weight[train])
    proba = np.zeros((len(test), classes))
    proba[:, solver.classes_] = model.predict_proba(x[test].astype(np.float64))
    return proba, model


def compare(x: Array, y: Array, parts: list[Part], classes: int, Cs: tuple[float, ...] = CS, **options: Any) -> None:
    """Every probability within 0.001 of scikit-learn's, accuracy within one row that lies between two classes."""
    ours = sweep({"L1.mean": x}, y, parts, Cs, keep=["probabilities"], tol=1e-8, **options)
    assert ours.gap.max() <= 1e-8
    for p, part in enumerate(parts):
        for c, C in enumerate(Cs):
            proba, _ = reference(x, y, part, C, classes, **options)
            assert np.abs(ours.probabilities["L1.mean", p][c] - proba).max() < 1e-3, (p, C)
            right = np.mean(proba.argmax(1) == y[part[1]])
            assert ours.accuracy[0, p, c] == pytest.approx(right, abs=1.01 / len(part[1]))
            expected = log_loss(y[part[1]], proba, labels=range(classes))
            assert ours.log_loss[0, p, c] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("rows", "dim", "classes", "spread"),
    [(300, 20, 5, 2.0), (300, 20, 5, 0.3), (90, 120, 6, 1.5), (200, 150, 2, 2.0), (200, 10, 2, 3.0), (150, 99, 3, 1.0)],
    ids=["overlapping", "separable", "wide", "two classes, wide", "two classes", "about square"],
)
def test_sweep_optimum_equals_scikit_learn(rows: int, dim: int, classes: int, spread: float) -> None:
    x, y = mixture(rows, dim, classes, spread)
    compare(x, y, folds(y), classes)


def test_sweep_duality_gap_is_small() -> None:
    x, y = mixture(300, 200, 6, 1.5)
    exact = sweep({"a": x}, y, folds(y), CS, tol=1e-9, keep=["probabilities"])
    usual = sweep({"a": x}, y, folds(y), CS, keep=["probabilities"])
    assert (exact.gap <= 1e-9).all() and (usual.gap <= 1e-6).all() and (usual.gap > exact.gap).any()
    for key, proba in exact.probabilities.items():
        assert np.abs(proba - usual.probabilities[key]).max() < 0.01
    assert np.abs(exact.accuracy - usual.accuracy).max() <= 0.0101  # one row of 100


def test_sweep_without_bfloat16_equals_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(newton, "narrow_type", lambda _: torch.float32)
    x, y = mixture(240, 30, 4)
    compare(x, y, folds(y), 4)


def test_sweep_with_the_sizes_and_checks_of_a_gpu_equals_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of 100 x 14 are padded to 104 x 16, and steps after the solution change nothing."""
    monkeypatch.setitem(newton.ALIGNMENT, "cpu", 8)
    monkeypatch.setitem(newton.STEPS_PER_CHECK, "cpu", 4)
    x, y = mixture(150, 13, 3)
    compare(x, y, folds(y), 3)


def test_row_and_class_weights_equal_scikit_learn() -> None:
    x, y = mixture(240, 30, 4, 2.0)
    uneven = np.flatnonzero((y > 0) | (np.arange(240) % 3 == 0))
    x, y = x[uneven], y[uneven]
    weight = np.random.default_rng(1).uniform(0.1, 4, len(y))
    compare(x, y, folds(y), 4, sample_weight=weight)
    compare(x, y, folds(y), 4, class_weight="balanced")
    compare(x, y, folds(y), 4, class_weight="balanced", sample_weight=weight)
    compare(x, y, [(np.flatnonzero(y != 2), np.arange(50))], 4, class_weight="balanced")
    named = sweep({"a": x}, y, folds(y), CS, classes="wxyz", class_weight={"w": 5.0}, keep=["probabilities"])
    proba, _ = reference(x, y, folds(y)[1], 1.0, 4, class_weight={0: 5.0})
    assert np.abs(named.probabilities["a", 1][2] - proba).max() < 1e-3


def test_row_with_weight_zero_equals_missing_row_except_scaling() -> None:
    x, y = mixture(90, 12, 3)
    x[:] = np.round((x - x.mean(0)) / x.std(0), 1)
    weight = np.where(y == 2, 0, 1.0)  # nothing is left of a class, and the first row has no weight
    order = np.argsort(-y, kind="stable")
    train, test = order[::2], order[1::2]
    got = sweep({"a": x}, y, [(train, test)], CS, sample_weight=weight, keep=["probabilities"]).probabilities["a", 0]
    assert np.isfinite(got).all() and (got[..., 2] == 0).all()
    scaled = StandardScaler().fit(x[train])
    kept = train[y[train] < 2]
    model = LogisticRegression(C=1.0, tol=1e-9, max_iter=9999).fit(scaled.transform(x[kept]), y[kept])
    assert np.abs(got[2][:, :2] - model.predict_proba(scaled.transform(x[test]))).max() < 1e-3


def test_class_without_training_rows_has_probability_zero() -> None:
    x, y = mixture(200, 15, 5)
    parts = [(np.flatnonzero(y != one), np.arange(0, 200, 3)) for one in range(5)]
    parts.append((np.flatnonzero(y < 2), np.arange(0, 200, 3)))  # two are left: scikit-learn's binary case
    parts += folds(y)
    compare(x, y, parts, 5)
    got = sweep({"a": x}, y, parts[:1], [1.0], classes="abcdefg", keep=["probabilities"]).probabilities["a", 0][0]
    assert got.shape == (67, 7) and (got[:, [0, 5, 6]] == 0).all() and np.allclose(got.sum(1), 1)


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_class_with_few_examples_is_fitted(shots: int) -> None:
    x, y = mixture(400, 200, 10)
    random = np.random.default_rng(0)
    trains = [
        np.concatenate([random.choice(np.flatnonzero(y == k), shots, False) for k in range(10)]) for _ in range(4)
    ]
    compare(x, y, [(train, np.setdiff1d(np.arange(400), train)) for train in trains], 10)


def test_constant_columns_and_mean_rows_are_handled() -> None:
    x, y = mixture(120, 10, 3)
    x[:, 3], x[:, 7] = 4.2, 0
    compare(x, y, folds(y), 3)
    x, y = np.array([[-1.0], [0], [1], [0], [-1], [0], [1]], np.float32), np.array([0, 0, 1, 1, 0, 1, 1])
    compare(x, y, [(np.arange(7), np.arange(7))], 2)  # a row of zeros has an intercept all the same


def test_coefficients_apply_to_raw_vectors() -> None:
    x, y = mixture(240, 30, 4)
    for part, count in ((folds(y)[0], 4), ((np.flatnonzero(y < 2), np.arange(50)), 2)):
        made = sweep({"a": x}, y, [part], [1.0], keep=["coefficients", "probabilities"])
        ((weight, bias),) = made.coefficients.values()
        z = x[part[1]].astype(np.float64) @ weight[0].T + bias[0]
        assert weight.shape == (1, 4, 30) and np.isfinite(bias[0, :count]).all()
        proba = np.exp(z - z.max(1, keepdims=True))
        assert np.allclose(proba / proba.sum(1, keepdims=True), made.probabilities["a", 0][0], atol=1e-5)
        _, model = reference(x, y, part, 1.0, 4)
        theirs = model[1].coef_ / model[0].scale_
        ours = weight[0] if count == 4 else weight[0, 1:2] - weight[0, 0:1]
        assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


def test_extreme_penalties_converge() -> None:
    x, y = mixture(200, 60, 5)
    made = sweep({"a": x}, y, folds(y), np.logspace(-8, 6, 8).tolist(), keep=["probabilities"])
    assert made.gap.max() <= 1e-6
    share = np.bincount(y[folds(y)[0][0]]) / len(folds(y)[0][0])
    assert np.abs(made.probabilities["a", 0][0] - share).max() < 1e-3  # no coefficient, but the intercept


def test_result_does_not_depend_on_order_or_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = mixture(200, 40, 5)
    parts = [*folds(y), (np.arange(60), np.arange(60, 200)), (np.arange(30), np.zeros(0, np.int64))]
    views = {"a": x, "b": x[:, ::-1] ** 2, "c": x[:, :10]}
    made = sweep(iter(views.items()), y, parts, [1.0, 0.01, 1.0, 30.0], tol=1e-8, keep=["probabilities"])
    assert made.views == ("a", "b", "c") and made.accuracy.shape == (3, 5, 4)
    assert np.isnan(made.accuracy[:, 4]).all() and np.isnan(made.log_loss[:, 4]).all()
    assert (made.accuracy[:, :4, 0] == made.accuracy[:, :4, 2]).all()
    monkeypatch.setitem(batches.MAX_BATCH_NUMBERS, "cpu", 0)
    for v, (name, vectors) in enumerate(views.items()):
        for p in (3, 1):
            alone = sweep({name: vectors}, y, [parts[p]], [0.01, 1.0, 30.0], tol=1e-8, keep=["probabilities"])
            assert np.allclose(alone.log_loss[0, 0], made.log_loss[v, p, [1, 0, 3]], atol=1e-3)
            close = np.abs(alone.probabilities[name, 0] - made.probabilities[name, p][[1, 0, 3]])
            assert close.max() < 1e-3


def test_converged_part_stays_unchanged() -> None:
    import torch

    x, y = mixture(200, 40, 5, 2.0)
    rows = torch.as_tensor(StandardScaler().fit_transform(x)).expand(2, -1, -1)
    truth = torch.as_tensor(np.stack([y > 2, y]).astype(np.int64))  # two classes are done before five
    axes = newton.find_axes(rows[0])

    def solve(count: int, tol: float) -> NDArray[np.float32]:
        problem = newton.build(rows[:count], truth[:count], torch.ones(count, 200), 5, axes)
        return np.stack([W[0].numpy() for W, _ in newton.follow(problem, [1.0, 30.0], tol)])

    for tol in np.logspace(-4, -1, 10):
        assert np.abs(solve(2, tol) - solve(1, tol)).max() < 1e-5


def test_thread_count_is_restored() -> None:
    import torch

    before = torch.get_num_threads()
    x, y = mixture(60, 5, 2)
    try:
        torch.set_num_threads(3)
        sweep({"a": x}, y, folds(y), [1.0])
        assert torch.get_num_threads() == 3
        with pytest.raises(UsageError, match="'b'"):
            sweep({"a": x, "b": x[:7]}, y, folds(y), [1.0])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_penalty_choice_ignores_scored_rows() -> None:
    x, y = mixture(300, 40, 5, 3.0)
    groups = np.arange(300) // 6
    parts = [(np.flatnonzero(groups % 3 != one), np.flatnonzero(groups % 3 == one)) for one in range(3)]
    made = select({"a": x, "b": x[:, :20]}, y, parts, CS, groups=groups, keep=["probabilities"])
    assert made.outer.accuracy.shape == (2, 3, 4) and made.chosen.shape == (2, 3)
    assert set(made.outer.probabilities) == {(view, p) for view in "ab" for p in range(3)}
    changed = y.copy()
    changed[parts[1][1]] = np.random.default_rng(0).permutation(changed[parts[1][1]])
    other = select({"a": x, "b": x[:, :20]}, changed, parts, CS, groups=groups)
    assert np.array_equal(other.inner[:, 1], made.inner[:, 1]) and np.array_equal(other.chosen[:, 1], made.chosen[:, 1])
    train = parts[1][0]
    inner = divide(y, train, groups, 3, 0)
    for a, b in inner:
        assert not np.isin(groups[a], groups[b]).any() and np.isin(np.concatenate([a, b]), train).all()
    by_hand = np.average(
        [[log_loss(y[b], reference(x, y, (a, b), C, 5)[0], labels=range(5)) for C in CS] for a, b in inner],
        axis=0, weights=[len(b) for _, b in inner],
    )  # fmt: skip
    assert np.allclose(made.inner[0, 1], by_hand, atol=2e-3)
    assert made.chosen[0, 1] == by_hand.argmin()
    assert made.at_chosen(made.outer.accuracy)[0, 1] == made.outer.accuracy[0, 1, made.chosen[0, 1]]


def test_rows_of_class_unknown_to_inner_fold_are_not_counted() -> None:
    y, groups = np.array([0, 1] * 12 + [2] * 3), np.array([0, 0, 1, 1, 2, 2] * 4 + [3] * 3)
    for train, held in divide(y, np.arange(27), groups, 3, 0):
        assert set(y[held]) <= set(y[train]) and not np.isin(groups[train], groups[held]).any()


def test_default_penalty_is_used_if_nothing_can_be_held_out() -> None:
    x, y = mixture(40, 30, 10)
    made = select({"a": x}, y, [(np.arange(10), np.arange(10, 40))], [0.001, 0.08, 10.0], groups=np.arange(40))
    assert made.chosen.tolist() == [[1]] and np.isnan(made.inner).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": np.zeros((4, 2), int)}, r"int64 \[4, 2\]"),
        ({"y": np.array([0.5, 1, 0, 1])}, "float64"),
        ({"y": np.array([0, -1, 0, 1])}, "0 or more"),
        ({"classes": "a"}, "with 1 classes"),
        ({"parts": []}, "parts is empty"),
        ({"parts": [(np.array([0, 2]), np.array([1]))]}, "of part 0 have fewer than two"),
        ({"parts": [(np.arange(4), np.array([4]))]}, "0 to 3"),
        ({"sample_weight": [1, 1, -1, 1]}, "of 0 or more"),
        ({"sample_weight": [1, 0, 1, 0]}, "fewer than two classes"),
        ({"class_weight": {"2": 1.0}}, r"class name \(0, 1\)"),
        ({"class_weight": {"1": 0.0}}, "positive"),
        ({"Cs": [1.0, 0.0]}, "positive"),
        ({"Cs": []}, "one or more"),
        ({"x": {}}, "no view"),
        ({"x": [("a", np.eye(4, dtype=np.float32))] * 2}, "twice"),
        ({"x": {"a": np.full((4, 3), np.nan, np.float32)}}, "not finite"),
        ({"x": {"a": np.ones((3, 3), np.float32)}}, r"\[3, 3\]; it must be \[4, D\]"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
    ],
)
def test_invalid_arguments_are_refused(change: dict[str, Any], says: str) -> None:
    usual: dict[str, Any] = {
        "x": {"a": np.eye(4, dtype=np.float32)}, "y": np.array([0, 1, 0, 1]),
        "parts": [(np.arange(4), np.arange(4))], "Cs": [1.0],
    }  # fmt: skip
    with pytest.raises(UsageError, match=says):
        sweep(**(usual | change))
