"""The test against chance: exact without a signal, finds a clear one, and says what it cannot show.

`benchmarks/statistics` counts its false alarms in many more worlds.
"""

import numpy as np
import pytest

from embedx.errors import UsageError
from tests.helpers.amounts import fast_and_long
from tests.helpers.collections import DIM, Make


def grouped(groups: int, apart: float, seed: int = 0) -> tuple[np.ndarray, list[str | None], list[object]]:
    """Return vectors of groups with strong offsets, one label per group, and the group of each row."""
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(groups), random.integers(1, 9, groups))
    y = random.permutation(np.arange(groups) % 2)
    x = random.standard_normal((len(of), DIM)) + 2 * random.standard_normal((groups, DIM))[of]
    x[:, :2] += apart * np.eye(2)[y[of]]
    return x.astype(np.float32), [f"c{label}" for label in y[of]], [f"g{group}" for group in of]


def test_groups_without_signal_are_at_chance_and_signal_is_found(make: Make) -> None:
    x, labels, groups = grouped(40, apart=0)
    test = make(x, labels, group=groups).probe(C=0.1).metrics.test
    assert test is not None
    assert test.p_value > 0.025
    assert test.moved == "whole groups"
    x, labels, groups = grouped(40, apart=8)
    report = make(x, labels, group=groups).probe(C=0.1)
    values = report.to_dict()["metrics"]
    assert (values["p_value"], values["permutations"], values["better_than_chance"]) == (0.005, 199, True)
    assert values["chance"] == report.chance == pytest.approx(0.5, abs=0.05)
    assert (
        ", better than chance (p = 0.005 with a linear discriminant, 199 permutations of whole groups; chance"
        in str(report)
    )
    assert "a linear discriminant, not the head itself, was fitted to every labelling" in str(report)


def test_five_groups_of_one_label_each_cannot_show_anything(make: Make) -> None:
    x, labels, groups = grouped(5, apart=20)
    metrics = make(x, labels, group=groups).probe(C=0.1).metrics
    assert metrics.test is not None
    assert (metrics.test.permutations, metrics.better_than_chance) == (9, False)
    assert "9 other orders of whole groups, so p cannot be below 0.1" in metrics.verdict()


def test_labels_stay_in_the_folds_of_a_column(make: Make) -> None:
    site = np.arange(60) // 10
    y = (np.arange(60) % 10 < np.array([9, 1, 9, 1, 9, 1])[site]).astype(int)
    x = np.random.default_rng(0).standard_normal((60, DIM)) + 5 * (site[:, None] % 2)  # of the site, not of the label
    labels: list[str | None] = [f"c{label}" for label in y]
    metrics = make(x.astype(np.float32), labels, site=site.tolist()).probe(folds="site", C=0.1).metrics
    assert metrics.figures["balanced_accuracy"].value > 0.7  # type: ignore[union-attr]
    assert metrics.test is not None
    assert metrics.test.chance == pytest.approx(0.85, abs=0.1)  # so it is nothing
    assert not metrics.better_than_chance


def test_test_part_of_a_split_column_is_compared_with_chance(make: Make) -> None:
    random = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (random.standard_normal((60, DIM)) + 3 * y[:, None]).astype(np.float32)
    stages: list[object] = ["train", "train", "train", "train", "test", "test"] * 10
    head = make(x, [f"c{label}" for label in y], part=stages).fit_head(split="part", C=0.1)
    assert head.report is not None
    assert head.report.better_than_chance
    assert head.metrics["held_out"]["p_value"] == 0.005


def test_label_sets_are_permuted_by_group(make: Make) -> None:
    random = np.random.default_rng(0)
    of = np.repeat(np.arange(30), 3)
    sets = ["a", "b", "a;b"]
    labels: list[str | None] = [sets[group % 3] for group in of]
    x = random.standard_normal((90, DIM)).astype(np.float32)
    groups: list[object] = [f"g{group}" for group in of]
    report = make(x, labels, group=groups).probe(separator=";", C=0.1)
    assert report.metrics.better_than_chance is False
    x[:, 0] += 5 * (of % 3 != 1)
    report = make(x, labels, group=groups).probe(separator=";", C=0.1)
    assert report.metrics.better_than_chance
    assert "199 permutations of whole groups" in str(report)


def test_area_that_is_undefined_in_every_fold_shows_nothing(make: Make) -> None:
    of = np.repeat(np.arange(8), 4)
    x = np.random.default_rng(0).standard_normal((32, DIM)).astype(np.float32)
    labels: list[str | None] = [("a", "b", "a;b")[part % 3] for part in of]
    head = make(x, labels, [f"/{part}.wav" for part in of], site=of.tolist()).fit_head(
        separator=";", folds="site", C=0.1
    )
    assert head.report is not None
    assert head.report.test is not None
    assert (head.report.test.chance, head.report.better_than_chance) == (None, False)
    assert head.load(head.folder).metrics["held_out"]["chance"] is None


def test_groups_whose_sizes_depend_on_the_label_are_cut_and_the_report_says_so(make: Make) -> None:
    random = np.random.default_rng(0)
    y = np.arange(24) % 2
    of = np.repeat(np.arange(24), np.where(y == 0, 12, 3))
    x = random.standard_normal((len(of), DIM)) + 2 * random.standard_normal((24, DIM))[of]
    groups: list[object] = [f"g{group}" for group in of]
    report = make(x.astype(np.float32), [f"c{label}" for label in y[of]], group=groups).probe(C=0.1)
    test = report.metrics.test
    assert test is not None
    assert (test.equal_sizes, test.rows, test.moved) == (True, 24 * 3, "whole groups")
    assert "The sizes of groups depend on the label, so groups were cut" in str(report)
    assert report.to_dict()["metrics"]["chance_test"]["equal_sizes"] is True
    assert report.metrics.better_than_chance is False
    x[:, :2] += 8 * np.eye(2)[y[of]]
    report = make(x.astype(np.float32), [f"c{label}" for label in y[of]], group=groups).probe(C=0.1)
    assert report.metrics.better_than_chance


def test_knn_is_tested_itself_where_a_linear_classifier_sees_nothing(make: Make) -> None:
    random = np.random.default_rng(0)
    corner = np.arange(60) % 4
    x = random.standard_normal((60, DIM)) * 0.3
    x[:, :2] += np.array([[2, 2], [-2, -2], [2, -2], [-2, 2]])[corner]
    collection = make(x.astype(np.float32), [f"c{one // 2}" for one in corner])
    report = collection.probe(kind="knn")
    assert report.metrics.better_than_chance
    assert "better than chance (p = 0.005 with a knn head, 199 permutations of whole recordings" in str(report)
    assert "Test against chance: a knn head was fitted to every labelling of 60 rows" in str(report)
    linear = collection.probe(C=0.1)
    assert linear.metrics.better_than_chance is False
    assert "NOT shown to be better than chance (p = " in linear.metrics.verdict()


def test_probe_and_train_say_the_same_in_the_same_words(make: Make) -> None:
    x, labels, groups = grouped(16, apart=3)
    collection = make(x, labels, group=groups)
    for kind in ("prototype", "knn"):
        probed, trained = collection.probe(kind=kind), collection.fit_head(kind=kind)
        assert trained.report is not None
        assert trained.report.verdict() == probed.metrics.verdict() == str(probed).splitlines()[0]
        assert trained.report.tables() == probed.metrics.tables()
        assert trained.report.verdict() in trained.text()
        assert f"with a {kind} head" in trained.text()


def test_no_permutations_is_no_test_and_negative_numbers_are_refused(make: Make) -> None:
    x, labels, groups = grouped(10, apart=8)
    collection = make(x, labels, group=groups)
    report = collection.probe(C=0.1, permutations=0)
    assert report.metrics.test is None
    assert report.to_dict()["metrics"]["p_value"] is None
    assert "not compared with chance" in str(report)
    with pytest.raises(UsageError, match="permutations must be 0"):
        collection.probe(C=0.1, permutations=-1)


@fast_and_long("seeds", 1, 12)
def test_p_values_do_not_depend_on_the_names_of_classes(make: Make, seeds: int) -> None:
    for seed in range(seeds):
        x, labels, groups = grouped(12, apart=1, seed=seed)
        swapped: list[str | None] = ["z" if label == "c0" else label for label in labels]
        tests = [make(x, names, group=groups).probe(C=0.1).metrics.test for names in (labels, swapped)]
        assert tests[0] is not None
        assert tests[1] is not None
        assert tests[0].p_value == pytest.approx(tests[1].p_value, abs=0.1)
        assert tests[0].score == pytest.approx(tests[1].score)
