"""Intervals by resampling: equal to scikit-learn per resample, over groups, by seed."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics as reference

from embedx.metrics.bootstrap import count_groups
from embedx.metrics.classification import ManyLabels, OneLabel
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


def test_resample_scores_equal_scikit_learn_with_weights() -> None:
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


def test_multilabel_resample_equals_copied_rows() -> None:
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
    monkeypatch.setattr("embedx.metrics.bootstrap.MAX_BLOCK_NUMBERS", 800)
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


def test_group_intervals_cover_truth_where_row_intervals_fail() -> None:
    random = np.random.default_rng(0)
    held = {"groups": 0, "rows": 0}
    for _ in range(200):
        y, proba, of = correlated(random)
        for name, groups in (("groups", of), ("rows", None)):
            low, high = interval(evaluate(y, proba, names(2), groups=groups, samples=200), "accuracy")
            held[name] += low <= 0.75 <= high
    assert held["groups"] / 200 > 0.89  # 0.95 is meant; 60 groups and 200 resamples give a little less
    assert held["rows"] / 200 < 0.75


def test_groups_are_identified_by_name() -> None:
    y, proba, of = correlated(np.random.default_rng(3))
    named = np.array([f"speaker {i}" for i in of], dtype=object)
    assert evaluate(y, proba, names(2), groups=of).groups == 60
    assert evaluate(y, proba, names(2), groups=named).groups == 60
    blocks = np.concatenate(list(count_groups(5, rows=9, samples=300, seed=0)))
    assert blocks[0].tolist() == [1] * 5
    assert blocks.shape == (301, 5)
    assert set(blocks.sum(axis=1).tolist()) == {5}
    assert blocks[1:].mean(axis=0) == pytest.approx(np.ones(5), abs=0.2)


def test_large_input_gets_fewer_resamples_with_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedx.metrics.scoring.MAX_EFFORT", 500 * 3 * 150)
    y, proba = one_label(500, 3)
    metrics = evaluate(y, proba, names(3), samples=1000)
    assert metrics.samples == 150
    assert "150 resamples instead of 1000" in metrics.notes[0]
