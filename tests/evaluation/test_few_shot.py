"""Few-shot sampling: how many rows of each class, from how many groups; samples of one seed are nested."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.few_shot import sample_shots

random = np.random.default_rng(0)
Y = np.repeat(np.arange(5), (40, 25, 9, 3, 1))
GROUPS = random.integers(0, 12, len(Y))
LABELS = np.array(random.random((200, 6)) < (0.5, 0.3, 0.2, 0.1, 0.03, 0.0), np.int64)  # a row may have any number


@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("seed", range(5))
def test_shots_per_class_come_from_as_many_groups_as_possible(shots: int, seed: int) -> None:
    drawn = sample_shots(Y, GROUPS, shots, seed)
    assert drawn.dtype == np.int64
    assert (np.diff(drawn) > 0).all()
    for one in range(5):
        every, rows = np.flatnonzero(one == Y), drawn[Y[drawn] == one]
        assert len(rows) == min(shots, len(every))
        there, taken = Counter(GROUPS[every].tolist()), Counter(GROUPS[rows].tolist())
        for group, number in there.items():  # who gave less than the most that were taken has no more to give
            assert taken[group] >= min(number, max(taken.values()) - 1)
        if shots <= len(there):
            assert max(taken.values()) == 1


@pytest.mark.parametrize("y", [Y, LABELS], ids=["classes", "labels"])
def test_shots_of_one_seed_are_nested_and_repeatable(y: NDArray[np.int64]) -> None:
    groups = random.integers(0, 30, len(y))
    for seed in range(10):
        draws = [sample_shots(y, groups, shots, seed) for shots in range(1, 20)]
        for fewer, more in pairwise(draws):
            assert set(fewer) <= set(more)
            assert len(fewer) <= len(more)
        np.testing.assert_array_equal(draws[7], sample_shots(y.copy(), groups.tolist(), 8, seed))
    assert len({sample_shots(y, groups, 2, seed).tobytes() for seed in range(10)}) == 10


def test_shots_draw_rows_of_a_class_equally_often() -> None:
    y = np.zeros(20, np.int64)
    counts = np.bincount(np.concatenate([sample_shots(y, None, 5, seed) for seed in range(2000)]), minlength=20)
    assert counts.sum() == 10_000
    assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)  # five standard deviations of a binomial


def test_shots_of_a_class_do_not_depend_on_other_classes() -> None:
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    other = np.array([0, 0, 0, 0, 2, 3, 1, 1])
    first, second = (sample_shots(one, None, 2, seed=3) for one in (y, other))
    assert first[first < 4].tolist() == second[second < 4].tolist()


@pytest.mark.parametrize("shots", [1, 3, 8, 50])
def test_multilabel_shots_count_for_every_label(shots: int) -> None:
    drawn = sample_shots(LABELS, None, shots, seed=1)
    there, taken = LABELS.sum(axis=0), LABELS[drawn].sum(axis=0)
    assert (taken >= np.minimum(shots, there)).all()
    negatives = LABELS.sum(axis=1) == 0
    assert negatives.sum() > 8
    assert negatives[drawn].sum() == min(shots, negatives.sum())
    assert len(drawn) <= shots * (LABELS.shape[1] + 1)


def test_multilabel_shots_of_single_labels_equal_classes() -> None:
    for seed in range(5):
        one_hot = np.eye(5, dtype=np.int64)[Y]
        np.testing.assert_array_equal(sample_shots(one_hot, GROUPS, 4, seed), sample_shots(Y, GROUPS, 4, seed))


def test_shots_of_absent_class_or_no_rows_are_empty() -> None:
    assert sample_shots(np.array([0, 2, 2]), None, 1, 0).tolist()[0] == 0
    assert len(sample_shots(np.array([], np.int64), None, 4, 0)) == 0


@pytest.mark.parametrize(
    "y, groups, shots, seed, message",
    [
        (Y, None, 0, 0, "shots must be 1 or more"),
        (Y, None, 1, -1, "seed 0 or more"),
        (Y, GROUPS[1:], 1, 0, "78 rows and 77 groups"),
        (Y.astype(float), None, 1, 0, "class numbers .* not float64"),
        (Y - 1, None, 1, 0, "class numbers"),
        (Y[None, None], None, 1, 0, "shape"),
    ],
)
def test_invalid_arguments_are_refused(
    y: NDArray[np.int64], groups: NDArray[np.int64] | None, shots: int, seed: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        sample_shots(y, groups, shots, seed)
