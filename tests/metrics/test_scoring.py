"""Metrics equal scikit-learn's, also with ties, weights and degenerate input."""

import itertools
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from embedx.errors import UsageError
from embedx.metrics.calibration import reliability
from embedx.metrics.chance import ChanceTest
from embedx.metrics.figures import Figure
from embedx.metrics.report import Metrics
from embedx.metrics.scoring import evaluate
from embedx.metrics.weighted_sums import Tally
from tests.helpers.predictions import Floats, figures, many_labels, names, one_label, value


@pytest.mark.parametrize("step", [None, 2.0])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_single_label_metrics_equal_scikit_learn(classes: int, step: float | None) -> None:
    y, proba = one_label(300, classes, step=step)
    metrics = evaluate(y, proba, names(classes), samples=0)
    predicted, hot = proba.argmax(axis=1), np.eye(classes)[y]
    expected = {
        "accuracy": reference.accuracy_score(y, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(y, predicted),
        "macro_f1": reference.f1_score(y, predicted, average="macro", zero_division=0),
        "log_loss": reference.log_loss(y, proba),
        "macro_auc": reference.roc_auc_score(hot, proba, average="macro"),
        "map": reference.average_precision_score(hot, proba, average="macro"),
    }
    if step is None:  # scikit-learn lets the last of equal probabilities win, but argmax the first
        expected |= {f"top{k}": reference.top_k_accuracy_score(y, proba, k=k) for k in (3, 5) if classes > k}
    else:
        order = np.argsort(-proba, axis=1, kind="stable")
        expected |= {f"top{k}": (order[:, :k] == y[:, None]).any(axis=1).mean() for k in (3, 5) if classes > k}
    found = {name: value(metrics, name) for name in metrics.figures}
    assert found == pytest.approx(
        {**expected, "ece": brute_ece(proba.max(axis=1), predicted == y), "d_prime": found["d_prime"]}, abs=1e-12
    )
    assert found["d_prime"] == pytest.approx(math.sqrt(2) * quantile(expected["macro_auc"]))
    assert metrics.confusion is not None
    assert metrics.confusion.tolist() == reference.confusion_matrix(y, predicted).tolist()
    check_classes(metrics, hot, proba, np.eye(classes)[predicted])


@pytest.mark.parametrize("digits", [9, 1])
def test_multilabel_metrics_equal_scikit_learn(digits: int) -> None:
    y, proba = many_labels(300, 6, digits=digits)
    metrics = evaluate(y, proba, names(6), multilabel=True, samples=0)
    predicted, sure = (proba > 0.5).astype(int), np.clip(proba, 1e-15, 1 - 1e-15)
    auc = reference.roc_auc_score(y, proba, average="macro")
    expected = {
        "macro_f1": reference.f1_score(y, predicted, average="macro"),
        "micro_f1": reference.f1_score(y, predicted, average="micro"),
        "macro_auc": auc,
        "micro_auc": reference.roc_auc_score(y, proba, average="micro"),
        "map": reference.average_precision_score(y, proba, average="macro"),
        "micro_map": reference.average_precision_score(y, proba, average="micro"),
        "exact_match": reference.accuracy_score(y, predicted),
        "lrap": reference.label_ranking_average_precision_score(y, proba),
        "d_prime": math.sqrt(2) * quantile(auc),
        "ece": np.mean([brute_ece(proba[:, i], y[:, i]) for i in range(6)]),
    }
    found = {name: value(metrics, name) for name in metrics.figures}
    if digits == 1:  # probabilities of 0 and 1 are there: how much they cost is a convention
        expected["log_loss"] = found["log_loss"]
    else:
        expected["log_loss"] = np.mean(-y * np.log(sure) - (1 - y) * np.log(1 - sure))
    assert found == pytest.approx(expected, abs=1e-12)
    check_classes(metrics, y, proba, predicted)


def check_classes(metrics: Metrics, hot: NDArray[np.number], proba: Floats, predicted: NDArray[np.number]) -> None:
    scores = reference.precision_recall_fscore_support(hot, predicted, average=None, zero_division=0)
    precision, recall, f1, rows = (each.tolist() for each in scores)
    for i, one in enumerate(metrics.per_class):
        expected = {
            "class": f"c{i}",
            "rows": rows[i],
            "precision": precision[i],
            "recall": recall[i],
            "f1": f1[i],
            "auc": reference.roc_auc_score(hot[:, i], proba[:, i]),
            "average_precision": reference.average_precision_score(hot[:, i], proba[:, i]),
        }
        found = {key: each["value"] if isinstance(each, dict) else each for key, each in one.to_dict().items()}
        assert found.pop("d_prime") == pytest.approx(math.sqrt(2) * quantile(found["auc"]))
        assert found == pytest.approx(expected, abs=1e-12)


def quantile(share: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(share))


def brute_ece(confidence: Floats, right: NDArray[np.generic]) -> float:
    edges = np.linspace(0, 1, 16)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high) | (low == 0) & (confidence == 0)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return total


def test_parts_are_scored_separately_in_natural_order() -> None:
    y, proba = one_label(330, 4)
    parts = np.array([str(i % 11) for i in range(330)])
    metrics = evaluate(y, proba, names(4), parts=parts, samples=0)
    assert [part.name for part in metrics.by_part] == [str(i) for i in range(11)]
    for part in metrics.by_part:
        alone = evaluate(y[parts == part.name], proba[parts == part.name], names(4), samples=0)
        assert part.rows == 30
        assert part.figures["macro_auc"] == pytest.approx(value(alone, "macro_auc"))
    accuracies = [part.figures["accuracy"] for part in metrics.by_part]
    mean, deviation = metrics.spread["accuracy"]
    assert mean == pytest.approx(value(metrics, "accuracy"))
    assert deviation == pytest.approx(np.std(np.array(accuracies, float), ddof=1))
    single = evaluate(y, proba, names(4), parts=["x"] * 330, samples=0)
    assert single.spread["accuracy"][0] == pytest.approx(mean)
    assert single.spread["accuracy"][1] is None


@pytest.mark.parametrize("multilabel", [False, True])
def test_rows_are_ranked_within_a_part_only(multilabel: bool) -> None:
    """Probabilities of another head, which are all lower or higher, change no rank; a part without a class is out."""
    random = np.random.default_rng(5)
    parts = np.repeat(["a", "b", "c"], [40, 80, 60])
    y, proba = many_labels(180, 3)
    y[parts == "b", 2] = 0  # a part without positive rows of a label
    y[parts == "c", 1] = 1  # and one without negative rows
    proba *= random.uniform(0.1, 1, (3, 3))[np.unique(parts, return_inverse=True)[1]]
    if not multilabel:
        y, proba = y.argmax(axis=1), proba / proba.sum(axis=1, keepdims=True)
    metrics = evaluate(y, proba, names(3), multilabel=multilabel, parts=parts, samples=0)
    hot = y if multilabel else np.eye(3)[y]
    inside = [parts == part for part in "abc"]
    auc, ap = np.full((3, 3), np.nan), np.full((3, 3), np.nan)
    for i, rows in enumerate(inside):
        for c in range(3):
            if 0 < hot[rows, c].mean() < 1:
                auc[i, c] = reference.roc_auc_score(hot[rows, c], proba[rows, c])
                ap[i, c] = reference.average_precision_score(hot[rows, c], proba[rows, c])
    d = math.sqrt(2) * np.vectorize(quantile)(np.nanmean(auc, axis=1))
    assert value(metrics, "macro_auc") == pytest.approx(np.nanmean(auc, axis=1).mean())
    assert value(metrics, "map") == pytest.approx(np.nanmean(ap, axis=1).mean())
    assert value(metrics, "d_prime") == pytest.approx(d.mean())
    for name, expected in (("auc", auc), ("average_precision", ap)):
        found = [getattr(one, name).value for one in metrics.per_class]
        assert found == pytest.approx(np.nanmean(expected, axis=0).tolist())
    for name in ("macro_auc", "map", "d_prime"):
        assert metrics.spread[name][0] == pytest.approx(value(metrics, name))
    if multilabel:
        micro = [reference.roc_auc_score(hot[rows].ravel(), proba[rows].ravel()) for rows in inside]
        assert value(metrics, "micro_auc") == pytest.approx(np.mean(micro))


def test_majority_and_chance_are_reported() -> None:
    y = np.array([0] * 78 + [1] * 12 + [2] * 10)
    proba = np.tile([0.6, 0.3, 0.1], (100, 1))
    metrics = evaluate(y, proba, names(3))
    shares = np.array([0.78, 0.12, 0.10])
    majority, chance = metrics.baselines["majority"], metrics.baselines["chance"]
    assert majority["accuracy"] == pytest.approx(0.78)
    assert majority["balanced_accuracy"] == pytest.approx(1 / 3)
    assert majority["macro_f1"] == pytest.approx(reference.f1_score(y, y * 0, average="macro", zero_division=0))
    assert majority["log_loss"] == pytest.approx(-(shares * np.log(shares)).sum())
    known = {"macro_auc": 0.5, "map": 1 / 3, "d_prime": 0}
    blind = {"accuracy": 1 / 3, "balanced_accuracy": 1 / 3, "log_loss": math.log(3)}
    assert chance == pytest.approx(known | blind)
    assert set(majority) <= set(metrics.figures)
    assert set(chance) <= set(metrics.figures)


def test_verdict_says_what_was_tested() -> None:
    y, proba = one_label(400, 2)
    metrics = evaluate(y, proba, names(2))
    assert metrics.better_than_chance is None  # predictions alone are no test
    assert "not compared with chance" in metrics.verdict()
    tested = replace(metrics, test=ChanceTest(0.005, 0.9, 0.51, 199, 0.005, "whole groups", 400, 0.6))
    assert tested.better_than_chance
    assert (
        "better than chance (p = 0.005 with a linear discriminant, 199 permutations of whole groups; "
        in tested.verdict()
    )
    assert {"p_value": 0.005, "chance": 0.51, "permutations": 199}.items() <= tested.to_dict().items()
    failed = replace(metrics, test=ChanceTest(0.03, 0.9, 0.51, 199, 0.005, "whole groups", 400, 0.6))
    assert failed.better_than_chance is False
    assert "NOT shown to be better than chance (p = 0.03 with" in failed.verdict()


def test_head_that_scores_like_permuted_labels_is_not_better_whatever_the_test_says() -> None:
    y = np.arange(400) % 2
    constant = replace(
        evaluate(y, np.tile([0.6, 0.4], (400, 1)), names(2)),
        test=ChanceTest(0.005, 0.9, 0.5, 199, 0.005, "whole groups", 400, 0.6),
    )
    assert constant.better_than_chance is False
    assert (
        "NOT shown to be better than chance, though a linear discriminant is in the test (p = 0.005"
        in constant.verdict()
    )


def test_multilabel_baselines_are_reported() -> None:
    y, proba = many_labels(200, 5)
    metrics = evaluate(y, proba, names(5), multilabel=True)
    share = y.mean(axis=0)
    assert metrics.baselines["prevalence"]["map"] == pytest.approx(share.mean())
    assert metrics.baselines["prevalence"]["log_loss"] == pytest.approx(
        np.mean(-share * np.log(share) - (1 - share) * np.log(1 - share))
    )
    assert metrics.baselines["all-negative"]["exact_match"] == pytest.approx((y.sum(axis=1) == 0).mean())
    assert metrics.baselines["all-negative"]["macro_f1"] == 0
    assert "log_loss" not in metrics.baselines["all-negative"]


def degenerate() -> dict[str, Callable[[], Metrics]]:
    y, proba = one_label(40, 3)
    labels, chances = many_labels(40, 3)
    empty, everywhere = labels.copy(), labels.copy()
    empty[:, 1], everywhere[:, 2] = 0, 1
    return {
        "one class": lambda: evaluate(y * 0, np.ones((40, 1)), ["only"]),
        "one row": lambda: evaluate(y[:1], proba[:1], names(3), parts=["a"], groups=["g"]),
        "no rows": lambda: evaluate([], np.zeros((0, 3)), names(3), parts=[], groups=[]),
        "no rows, many labels": lambda: evaluate(np.zeros((0, 3)), np.zeros((0, 3)), names(3), multilabel=True),
        "one row, many labels": lambda: evaluate(labels[:1], chances[:1], names(3), multilabel=True),
        "one label": lambda: evaluate(labels[:, :1], chances[:, :1], ["only"], multilabel=True),
        "a class never in truth": lambda: evaluate(np.minimum(y, 1), proba, names(3), parts=y),
        "all of one class": lambda: evaluate(y * 0, proba, names(3)),
        "constant": lambda: evaluate(y, np.full((40, 3), 1 / 3), names(3)),
        "certain and wrong": lambda: evaluate(y, np.eye(3)[(y + 1) % 3], names(3)),
        "certain and right": lambda: evaluate(y, np.eye(3)[y], names(3)),
        "one group": lambda: evaluate(y, proba, names(3), groups=[1] * 40),
        "no samples": lambda: evaluate(y, proba, names(3), samples=0),
        "nobody has a label": lambda: evaluate(labels * 0, chances, names(3), multilabel=True),
        "everybody has all": lambda: evaluate(labels * 0 + 1, chances, names(3), multilabel=True),
        "one label empty": lambda: evaluate(empty, chances, names(3), multilabel=True, parts=y),
        "one label everywhere": lambda: evaluate(everywhere, chances, names(3), multilabel=True),
        "float32": lambda: evaluate(y, proba.astype(np.float32), names(3)),
    }


@pytest.mark.parametrize("case", list(degenerate()))
def test_degenerate_input_gives_report_without_nan_or_warning(case: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = degenerate()[case]()
        text = json.dumps(metrics.to_dict(), allow_nan=False)
        assert str(metrics)
        assert "nan" not in str(metrics)
    assert json.loads(text)["rows"] == metrics.rows
    assert all(figure.low is None or figure.low <= figure.value <= (figure.high or 0) for figure in figures(metrics))


def test_label_with_one_class_only_has_note_and_no_auc() -> None:
    y, proba = many_labels(60, 3)
    y[:, 1], y[:, 2] = 1, 0
    metrics = evaluate(y, proba, ["a", "x", "z"], multilabel=True)
    one, only, never = metrics.per_class
    assert only.auc is only.average_precision is only.d_prime is None
    assert never.auc is never.average_precision is never.recall is None
    assert only.recall is not None
    assert one.auc is not None
    assert value(metrics, "macro_auc") == one.auc.value
    assert [note for note in metrics.notes if "'x'" in note] == [
        "'x' has no row outside of it, so no ROC AUC or average precision, and the means of these leave it out."
    ]
    assert [note for note in metrics.notes if "'z'" in note] == [
        "'z' has no row, so no recall, ROC AUC or average precision, and the means of these leave it out."
    ]
    rare = evaluate(np.zeros(5, int), np.eye(9)[[0] * 5], names(9))
    assert "'c1', 'c2', 'c3', 'c4', 'c5' and 3 more have no row" in rare.notes[0]


def test_class_means_use_occurring_classes() -> None:
    y, proba = one_label(50, 4)
    metrics = evaluate(np.minimum(y, 1), proba, names(4), samples=0)
    predicted = proba.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predictions that are not in the truth
        assert value(metrics, "balanced_accuracy") == pytest.approx(
            reference.balanced_accuracy_score(np.minimum(y, 1), predicted)
        )
    assert value(metrics, "macro_f1") == pytest.approx(
        reference.f1_score(np.minimum(y, 1), predicted, average="macro", zero_division=0)
    )


def test_precision_is_undefined_only_for_absent_class() -> None:
    metrics = evaluate([0, 0, 1, 1], np.eye(4)[[0, 0, 0, 3]], names(4), samples=0)
    found = [(one.precision, one.recall, one.f1) for one in metrics.per_class]
    zero = Figure(0.0)
    assert found[1:] == [(zero, zero, zero), (None, None, None), (zero, None, zero)]


def test_approximate_figures_are_marked() -> None:
    y, proba = one_label(40, 3)
    assert "there are no intervals" in evaluate(y, proba, names(3), groups=[0] * 40).notes[0]
    assert "only 4 groups" in evaluate(y, proba, names(3), groups=np.arange(40) % 4).notes[0]
    assert "infinite" in evaluate(y, np.eye(3)[y], names(3)).notes[0]
    assert evaluate(y, proba, names(3)).notes == ()


def test_evaluation_of_2000_rows_and_50_classes_is_feasible() -> None:
    y, proba = one_label(2000, 50)
    begun = time.process_time()
    evaluate(y, proba, names(50), groups=np.arange(2000) // 2, parts=np.arange(2000) % 5)
    assert time.process_time() - begun < 60


def test_reliability_bins_sum_to_calibration_error() -> None:
    y, proba = one_label(500, 4)
    bars = reliability(y, proba)
    assert sum(bar.rows for bar in bars) == 500
    error = sum(bar.rows * abs((bar.confidence or 0) - (bar.accuracy or 0)) for bar in bars) / 500
    assert error == pytest.approx(value(evaluate(y, proba, names(4), samples=0), "ece"))
    assert [bar.confidence for bar in bars[:3]] == [None] * 3  # of four classes the surest has 1/4 or more
    assert all(bar.low < bar.confidence <= bar.high for bar in bars if bar.confidence is not None)
    labels, chances = many_labels(100, 3)
    assert sum(bar.rows for bar in reliability(labels, chances, multilabel=True)) == 300
    assert [bar.rows for bar in reliability([], np.zeros((0, 3)))] == [0] * 15
    with pytest.raises(UsageError, match="bins must be 1 or more"):
        reliability(y, proba, bins=0)


def test_text_shows_baselines_and_worst_class_first() -> None:
    y, proba = one_label(400, 6)
    metrics = evaluate(y, proba, ["bad\x1b[2J", *names(5)], parts=y % 2)
    assert "d_prime" not in str(metrics).split("part")[-1]
    text = metrics.tables(per_class=True)
    assert "\x1b" not in text
    header = next(line for line in text.splitlines() if line.startswith("metric"))
    assert header.split() == ["metric", "value", "low", "high", "majority", "guess"]
    line = next(line for line in text.splitlines() if line.startswith("balanced_accuracy"))
    assert float(line.split()[1]) == pytest.approx(value(metrics, "balanced_accuracy"), abs=1e-4)
    worst = min(metrics.per_class, key=lambda one: one.f1.value if one.f1 else 0)
    assert text.split("average_precision")[1].splitlines()[1].split()[0].startswith(worst.name[:2])


def test_evaluation_of_invalid_input_is_refused() -> None:
    y, proba = one_label(20, 3)
    bad, wrong = proba.copy(), proba.copy()
    bad[4, 1], wrong[7] = np.nan, [0.9, 0.9, 0.9]
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: evaluate(y, proba, names(4)), r"must be \(20, 4\)"),
        (lambda: evaluate(y[:9], proba, names(3)), "9 rows of truth"),
        (lambda: evaluate(y + 1, proba, names(3)), "from 0 to 2"),
        (lambda: evaluate(y - 1, proba, names(3)), "without a label"),
        (lambda: evaluate(y / 2, proba, names(3)), "whole numbers"),
        (lambda: evaluate(y.astype(str), proba, names(3)), "whole numbers"),
        (lambda: evaluate(y, proba, names(3), multilabel=True), "multilabel=True"),
        (lambda: evaluate(np.eye(3, dtype=int)[y], proba, names(3)), "multilabel=False"),
        (lambda: evaluate(y, np.log(proba), names(3)), "outside of 0 to 1"),
        (lambda: evaluate(y, bad, names(3)), "Row 4 has"),
        (lambda: evaluate(y, wrong, names(3)), "row 7 sum to 2.7"),
        (lambda: evaluate(y, proba, names(3), groups=[1, 2]), "groups has the shape"),
        (lambda: evaluate(y, proba, names(3), parts=[1, 2]), "parts has the shape"),
        (lambda: evaluate(y, proba, names(3), samples=-1), "samples"),
        (lambda: evaluate([], np.zeros((0, 0)), []), "classes is empty"),
    ]
    for call, message in cases:
        with pytest.raises(UsageError, match=message):
            call()


def test_entries_of_one_group_are_kept_once() -> None:
    tally = Tally(np.array([1, 1, 0, 1]), np.array([3, 3, 3, 0]), 3, np.array([0.5, 0.25, 1.0, 2.0]))
    assert len(tally.groups) == 3
    assert tally.sums(np.array([[1, 0, 0, 2]], np.float32)).tolist() == [[2.0, 3.5, 0.0]]
    nothing = np.zeros(0, np.int64)
    assert Tally(nothing, nothing, 2).sums(np.ones((3, 0), np.float32)).tolist() == [[0.0, 0.0]] * 3
