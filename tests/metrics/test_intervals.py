"""Weighted figures equal scikit-learn, and intervals hold the truth as often as they say."""

import json
import math
from statistics import NormalDist

import numpy as np
import pytest
from sklearn import metrics as reference

from embedx.metrics.classification import ManyLabels, OneLabel
from embedx.metrics.intervals import (
    MAX_BLOCKS,
    difference_interval,
    find_freedom,
    join_groups,
    score_interval,
    share_interval,
    weigh_blocks,
)
from embedx.metrics.ranking import Ranking
from embedx.metrics.report import Metrics
from embedx.metrics.scoring import evaluate
from tests.helpers.predictions import Floats, Ints, figures, many_labels, names, one_label, value


def interval(metrics: Metrics, name: str) -> tuple[float, float]:
    figure = metrics.figures[name]
    assert figure is not None
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.high


def test_weighted_scores_equal_scikit_learn_with_weights() -> None:
    random = np.random.default_rng(1)
    y, proba = one_label(60, 4, step=1.0)
    groups = random.integers(12, size=60)
    counts = random.integers(0, 4, size=(30, 12)).astype(np.float32)
    scores = OneLabel(y, proba, groups, groups * 0).measure(counts)
    for i, weight in enumerate(counts[:, groups]):
        keep = np.repeat(np.arange(60), weight.astype(int))
        copied = evaluate(y[keep], proba[keep], names(4), samples=0)
        for name, values in scores.overall.items():
            assert values[i] == pytest.approx(value(copied, name), abs=1e-9), name
        auc = [reference.roc_auc_score(y == c, proba[:, c], sample_weight=weight) for c in range(4)]
        ap = [reference.average_precision_score(y == c, proba[:, c], sample_weight=weight) for c in range(4)]
        assert scores.by_class["auc"][i] == pytest.approx(auc, abs=1e-9)
        assert scores.by_class["average_precision"][i] == pytest.approx(ap, abs=1e-9)


def test_multilabel_weights_equal_copied_rows() -> None:
    random = np.random.default_rng(2)
    y, proba = many_labels(50, 4, digits=1)
    groups = random.integers(10, size=50)
    counts = random.integers(0, 4, size=(20, 10)).astype(np.float32)
    scores = ManyLabels(y, proba, groups, groups * 0).measure(counts)
    for i, weight in enumerate(counts[:, groups]):
        keep = np.repeat(np.arange(50), weight.astype(int))
        copied = evaluate(y[keep], proba[keep], names(4), multilabel=True, samples=0)
        for name, values in scores.overall.items():
            assert values[i] == pytest.approx(value(copied, name), abs=1e-9), name


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_weighted_ranks_with_ties_equal_scikit_learn(levels: int) -> None:
    random = np.random.default_rng(levels)
    for _ in range(30):
        rows = int(random.integers(2, 40))
        truth, scores = random.random(rows) < random.random(), random.integers(levels, size=rows) / levels
        groups, counts = np.arange(rows), random.integers(0, 3, size=(5, rows)).astype(np.float32)
        if not truth.any():
            continue
        auc, ap = Ranking(truth, scores, groups).measure(counts, counts.sum(axis=1).astype(np.float64))
        for i, weight in enumerate(counts):
            if weight[truth].sum() and weight[~truth].sum():
                assert auc[i] == pytest.approx(reference.roc_auc_score(truth, scores, sample_weight=weight))
                assert ap[i] == pytest.approx(reference.average_precision_score(truth, scores, sample_weight=weight))
            else:
                assert np.isnan(auc[i])
                assert np.isnan(ap[i])


def test_weighted_sums_do_not_depend_on_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    y, proba = many_labels(80, 3)
    whole = evaluate(y, proba, names(3), multilabel=True, samples=150).to_dict()
    monkeypatch.setattr("embedx.metrics.ranking.MAX_BLOCK_NUMBERS", 200)
    monkeypatch.setattr("embedx.metrics.classification.CELLS", 10)
    pieces = evaluate(y, proba, names(3), multilabel=True, samples=150).to_dict()
    assert json.dumps(whole) == json.dumps(pieces)


def test_intervals_depend_only_on_seed() -> None:
    y, proba = one_label(200, 3)
    first, again, other = (evaluate(y, proba, names(3), seed=seed).to_dict() for seed in (0, 0, 1))
    assert first == again
    assert first["figures"]["log_loss"]["low"] != other["figures"]["log_loss"]["low"]


def test_accuracy_interval_equals_binomial() -> None:
    y, proba = one_label(800, 3)
    metrics = evaluate(y, proba, names(3), samples=4000)
    share = value(metrics, "accuracy")
    half = 1.96 * math.sqrt(share * (1 - share) / 800)
    assert interval(metrics, "accuracy") == pytest.approx((share - half, share + half), abs=0.004)
    assert all(figure.low <= figure.value <= figure.high for figure in figures(metrics))  # type: ignore[operator]


def correlated(random: np.random.Generator, groups: int = 60, each: int = 10) -> tuple[Ints, Floats, Ints]:
    """Two classes; all rows of a group are right or all are wrong; 75 % are right."""
    of = np.repeat(np.arange(groups), each)
    skill = random.beta(1.5, 0.5, groups)
    y = random.integers(2, size=groups * each)
    right = random.random(groups * each) < skill[of]
    proba = np.where(right[:, None] == np.eye(2, dtype=bool)[y], 0.8, 0.2)
    return y, proba, of


@pytest.mark.long
def test_group_intervals_cover_truth_where_row_intervals_fail() -> None:
    random = np.random.default_rng(0)
    held = {"groups": 0, "rows": 0}
    for _ in range(200):
        y, proba, of = correlated(random)
        for name, groups in (("groups", of), ("rows", None)):
            low, high = interval(evaluate(y, proba, names(2), groups=groups, samples=200), "accuracy")
            held[name] += low <= 0.75 <= high
    assert held["groups"] / 200 > 0.90  # 0.95 is meant; chance gives 0.904 in one of 700 runs
    assert held["rows"] / 200 < 0.75


def test_groups_are_identified_by_name() -> None:
    y, proba, of = correlated(np.random.default_rng(3))
    named = np.array([f"speaker {i}" for i in of], dtype=object)
    assert evaluate(y, proba, names(2), groups=of).groups == 60
    assert evaluate(y, proba, names(2), groups=named).groups == 60


def test_more_groups_than_blocks_are_joined() -> None:
    blocks = join_groups(np.arange(1050), MAX_BLOCKS, seed=0)
    assert set(np.bincount(blocks).tolist()) == {10, 11}
    assert weigh_blocks(MAX_BLOCKS).shape == (2 * MAX_BLOCKS + 1, MAX_BLOCKS)
    y, proba = one_label(1050, 3)
    assert evaluate(y, proba, names(3)).samples == MAX_BLOCKS
    exact, joined = (interval(evaluate(y, proba, names(3), samples=samples), "macro_f1") for samples in (1050, 100))
    assert joined[1] - joined[0] == pytest.approx(exact[1] - exact[0], rel=0.25)


@pytest.mark.parametrize("groups", [2, 3, 10, 40])
def test_perfect_scores_have_an_interval_by_number_of_groups(groups: int) -> None:
    y = np.arange(200) % 4
    metrics = evaluate(y, np.eye(4)[y], names(4), groups=np.arange(200) // 4 % groups)
    wilson = groups / (groups + 1.96**2)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map"):
        assert interval(metrics, name) == pytest.approx((wilson, 1.0), abs=0.02), name
    assert interval(metrics, "d_prime")[0] < 4 < interval(metrics, "d_prime")[1]
    for one in metrics.per_class:
        for figure in (one.recall, one.precision, one.f1, one.auc, one.average_precision):
            assert figure is not None
            assert (figure.low or 1.0) < 0.95
    wrong = evaluate(y, np.eye(4)[(y + 1) % 4], names(4), groups=np.arange(200) // 4 % groups)
    assert interval(wrong, "accuracy") == pytest.approx((0.0, 1 - wilson), abs=0.02)


def test_class_in_one_group_has_a_wide_interval() -> None:
    y, groups = np.repeat([0, 1, 2], [90, 90, 20]), np.r_[np.arange(180) % 10, [10] * 20]
    rare = evaluate(y, np.eye(3)[y], names(3), groups=groups).per_class[2].recall
    assert rare is not None
    assert (rare.low or 1.0) < 0.25  # as one row


@pytest.mark.parametrize("seed", range(20))
def test_intervals_are_within_the_range_of_the_figure(seed: int) -> None:
    random = np.random.default_rng(seed)
    classes, rows = int(random.integers(2, 6)), int(random.integers(4, 80))
    y = random.integers(classes, size=rows)
    proba = random.dirichlet([random.uniform(0.05, 1)] * classes, rows)
    proba[random.random(rows) < random.random()] = 1 / classes
    metrics = evaluate(y, proba, names(classes), groups=random.integers(random.integers(2, rows), size=rows))
    every = {**metrics.figures, **{f"{one.name}.{name}": getattr(one, name) for one in metrics.per_class
             for name in ("precision", "recall", "f1", "auc", "average_precision")}}  # fmt: skip
    for name, one in every.items():
        if one is not None and one.low is not None and one.high is not None:
            assert one.low <= one.value <= one.high, name
            if name not in ("log_loss", "d_prime"):
                assert 0 <= one.low <= one.high <= 1, name


def test_intervals_do_not_depend_on_order_of_rows_and_groups() -> None:
    random = np.random.default_rng(4)
    y, proba = one_label(300, 3)
    groups, order = random.integers(30, size=300), random.permutation(300)
    first = evaluate(y, proba, names(3), groups=groups)
    second = evaluate(y[order], proba[order], names(3), groups=[f"g{(7 * one) % 30}" for one in groups[order]])
    for name in first.figures:
        assert interval(first, name) == pytest.approx(interval(second, name), abs=1e-6), name


def test_one_large_group_gives_a_wider_interval() -> None:
    y, proba = one_label(400, 2)
    equal = interval(evaluate(y, proba, names(2), groups=np.arange(400) // 20), "accuracy")
    large = interval(evaluate(y, proba, names(2), groups=np.maximum(np.arange(400) // 20 - 10, 0)), "accuracy")
    assert large[1] - large[0] > 1.2 * (equal[1] - equal[0])


def test_interval_of_equal_predictions_is_not_empty() -> None:
    low, high = difference_interval(np.zeros(100), np.arange(100) // 5)
    assert low == -high
    assert high == pytest.approx(1 - 20 / (20 + 1.96**2), abs=0.01)
    assert difference_interval(np.ones(9), np.zeros(9, np.int64)) == (-1.0, 1.0)
    low, high = difference_interval(np.tile([1.0, 0.0, 0.0, -1.0], 100), np.arange(400))
    assert (low, high) == pytest.approx((-0.069, 0.069), abs=0.02)


def test_interval_of_one_row_per_group_is_that_of_independent_rows() -> None:
    y = np.zeros(20, np.int64)
    proba = np.where(np.arange(20)[:, None] < 16, [0.9, 0.1], [0.1, 0.9])
    expected = [1 / (1 + math.exp(-(math.log(0.8 / 0.2) + side * 1.96 * (1 / 16 + 1 / 4) ** 0.5))) for side in (-1, 1)]
    assert interval(evaluate(y, proba, names(2)), "accuracy") == pytest.approx(expected, abs=0.01)


def test_calibration_error_has_an_interval_for_very_many_rows() -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0.5, 1, 300)
    proba = np.stack([chance, 1 - chance], axis=1)
    calibrated = evaluate((random.random(300) > chance).astype(int), proba, names(2), groups=np.arange(300) // 10)
    assert value(calibrated, "ece") > 0.03
    assert interval(calibrated, "ece")[0] == 0
    wrong = evaluate((random.random(300) > 0.5).astype(int), proba, names(2), groups=np.arange(300) // 10)
    low, high = interval(wrong, "ece")
    assert low < 0.25 < high
    assert low > 0.15


def test_log_loss_interval_reaches_losses_that_the_probabilities_imply() -> None:
    proba = np.tile([0.98, 0.02], (100, 1))
    lucky = evaluate(np.zeros(100, np.int64), proba, names(2), groups=np.arange(100) // 5)
    expected = -(0.98 * math.log(0.98) + 0.02 * math.log(0.02))
    assert value(lucky, "log_loss") < expected / 4
    assert interval(lucky, "log_loss")[0] < expected < interval(lucky, "log_loss")[1]


def test_interval_of_average_precision_allows_for_its_bias() -> None:
    random, true = np.random.default_rng(0), 0.1
    values, middles = [], []
    for _ in range(5):
        y, proba = random.permutation(np.arange(200) % 10), random.dirichlet([1] * 10, 200)
        metrics = evaluate(y, proba, names(10), groups=np.arange(200) // 5)
        values.append(value(metrics, "map"))
        middles.append(np.mean(interval(metrics, "map")))
    assert np.mean(values) > true + 0.02
    assert abs(np.mean(middles) - true) < 0.02


def test_area_near_one_from_few_positives_is_not_taken_for_exact() -> None:
    y = (np.arange(400) % 20 == 0).astype(np.int64)
    scores = 3.0 * y + np.linspace(0, 0.5, 400)
    scores[[10, 11, 130, 250, 370]] = 3.2  # negatives above some positives
    proba = 1 / (1 + np.exp(-np.stack([-scores, scores], axis=1)))
    metrics = evaluate(y, proba / proba.sum(axis=1, keepdims=True), names(2), groups=np.arange(400) // 10)
    low, high = interval(metrics, "macro_auc")
    assert value(metrics, "macro_auc") == pytest.approx(0.9947, abs=1e-3)
    assert low < 0.975  # 0.983 by the rows alone
    expected = [math.sqrt(2) * NormalDist().inv_cdf(end) for end in (low, high)]
    assert interval(metrics, "d_prime") == pytest.approx(expected)


def test_one_large_group_of_alike_rows_leaves_fewer_degrees_of_freedom() -> None:
    shares, one = np.array([[0.5] + [0.05] * 10]).T, np.ones(1)
    alike, independent = find_freedom(shares, one, 0 * one)[0], find_freedom(shares, one, one)[0]
    assert alike < independent < find_freedom(np.full((11, 1), 1 / 11), one, one)[0]
    assert find_freedom(np.full((11, 1), 1 / 11), one, 0 * one)[0] == pytest.approx(10)


def test_class_in_few_groups_has_a_note() -> None:
    y, proba = one_label(300, 3)
    groups = np.where(y == 2, np.arange(300) % 5, np.arange(300) % 30)
    assert evaluate(y, proba, names(3), groups=groups).notes == (
        "'c2' has rows in fewer than 10 groups: the intervals of its figures are rough.",
    )


def mean_interval(of_groups: Floats, skewed: bool) -> tuple[float, float]:
    """The interval of the mean of groups of equal size, with the skewness of their values or without it."""
    groups = len(of_groups)
    counts, shares = weigh_blocks(groups).astype(float), np.full((groups, 1), 1 / groups)
    centred = of_groups - of_groups.mean()
    variance = np.array([(centred**2).sum() / groups / (groups - 1)])
    skewness = np.array([(centred**3).sum() / (centred**2).sum() ** 1.5 if skewed else 0.0])
    values = (counts @ of_groups / counts.sum(axis=1))[:, None]
    low, high = share_interval(values, shares, variance, np.array([groups - 1.0]), skewness=skewness)
    return float(low[0]), float(high[0])


@pytest.mark.parametrize("groups", [10, 20, 60])
def test_skewed_groups_lengthen_the_interval_on_their_side(groups: int) -> None:
    random = np.random.default_rng(groups)
    of_groups = 0.95 - 0.2 * random.exponential(size=groups).clip(max=4)
    low, high = mean_interval(of_groups, skewed=True)
    even_low, even_high = mean_interval(of_groups, skewed=False)
    assert low < even_low - 0.005
    assert high == even_high
    mirrored = mean_interval(1 - of_groups, skewed=True)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_one_bad_group_does_not_lengthen_the_interval_beyond_all_right_or_all_wrong_groups() -> None:
    of_groups = np.array([0.2] + [0.999] * 11)
    low, _ = mean_interval(of_groups, skewed=True)
    even = mean_interval(of_groups, skewed=False)[0]
    worst = score_interval(of_groups[:1] * 0 + of_groups.mean(), np.array([12.0]))[0]
    assert low == pytest.approx(min(even, float(worst[0])))


def test_skewed_areas_of_alike_rows_reach_further_down_than_up() -> None:
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 50)
    y = random.integers(2, size=1000)
    shift = np.zeros(20)
    shift[:2] = 4, -4  # two recordings at another level
    score = 2.0 * y + random.standard_normal(1000) + shift[groups]
    proba = 1 / (1 + np.exp(-np.stack([1 - score, score - 1], axis=1)))
    metrics = evaluate(y, proba, names(2), groups=groups)
    low, high = interval(metrics, "macro_auc")
    area = value(metrics, "macro_auc")
    assert math.log(area / (1 - area) / (low / (1 - low))) > 1.2 * math.log(high / (1 - high) / (area / (1 - area)))
