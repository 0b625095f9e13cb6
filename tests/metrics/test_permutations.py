"""Permutations move labels only between rows that are exchangeable, and know how many orders there are."""

import itertools
import math

import numpy as np
import pytest

from embedx.metrics.chance import compare_with_chance
from embedx.metrics.permutations import Permutations

GROUPS = np.repeat([0, 1, 2, 3, 4], [1, 4, 2, 3, 5])


def orders(labels: np.ndarray, permutations: Permutations, number: int) -> list[tuple[int, ...]]:
    return [tuple(labels[source].tolist()) for source in permutations.draw(number, seed=0)]


def test_labels_of_whole_groups_are_permuted_whole() -> None:
    of_group = np.array([0, 1, 0, 2, 1])
    labels = of_group[GROUPS]
    found = Permutations.find(labels, [("groups", GROUPS)])
    assert found.moved == "whole groups"
    assert found.count == math.factorial(5) // 4
    expected = {tuple(np.array(order)[GROUPS].tolist()) for order in itertools.permutations(of_group.tolist())}
    assert set(orders(labels, found, 29)) == expected - {tuple(labels.tolist())}  # every order, and each once
    assert len(orders(labels, found, 29)) == 29
    random = orders(labels, found, 20)
    assert len(random) == 20
    assert set(random) <= expected


@pytest.mark.parametrize("number", [5, 10_000])
def test_group_with_several_labels_keeps_them_in_a_circle(number: int) -> None:
    labels = np.array([7, 0, 0, 1, 1, 7, 7, 0, 0, 0, 0, 1, 0, 1, 1])
    found = Permutations.find(labels, [("groups", GROUPS)])
    assert found.moved == "whole groups and rows within groups"
    assert found.count == 3 * 4 * 5  # the groups 0, 2, 3 of one label each; four rows 0011; five rows
    drawn = orders(labels, found, number)
    assert len(drawn) == min(number, found.count - 1)
    for order in drawn:
        for group in (1, 4):
            before, after = labels[group == GROUPS], np.array(order)[group == GROUPS]
            assert any((np.roll(before, offset) == after).all() for offset in range(len(before)))
        assert sorted(order[first] for first in (0, 5, 7)) == [0, 7, 7]


def test_recordings_exchange_labels_within_their_site() -> None:
    site, recording = np.repeat([0, 1], 6), np.repeat(np.arange(6), 2)
    labels = np.array([0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0])
    found = Permutations.find(labels, [("groups", site), ("recordings", recording)])
    assert (found.moved, found.count) == ("whole recordings", 9)
    for order in orders(labels, found, 99):
        assert sorted(order[:6]) == sorted(labels[:6].tolist())
        assert all(order[i] == order[i + 1] for i in range(0, 12, 2))


def test_random_orders_are_all_as_likely() -> None:
    groups = np.repeat(np.arange(6), 2)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1])
    found = Permutations.find(labels, [("groups", groups)])
    assert found.count == 10 * 2
    source = found._draw_random(np.random.default_rng(0))
    drawn = [tuple(labels[next(source)].tolist()) for _ in range(4000)]
    counts = [drawn.count(order) for order in set(drawn)]
    assert len(counts) == found.count
    assert 130 < min(counts) <= max(counts) < 275  # 200 each, with a deviation of 14


def test_p_value_is_the_share_of_orders_and_never_lower_than_they_allow() -> None:
    labels, groups = np.array([0, 0, 1, 1, 1]), np.arange(5)
    found = Permutations.find(labels, [("groups", groups)])
    test = compare_with_chance(lambda source: float(labels[source][:2].sum() == 0), found, 199, seed=0)
    assert (test.p_value, test.lowest, test.permutations, test.possible) == (0.1, 0.1, 9, False)
    assert "so p cannot be below 0.1" in str(test)
    assert not test.exceeded_by(99)  # 2.5 % of nine orders is less than one
    many = Permutations.find(np.arange(40) % 2, [("groups", np.arange(40))])
    assert compare_with_chance(lambda source: float((source == np.arange(40)).all()), many, 199, 0).p_value == 0.005
    counted = compare_with_chance(lambda source: float(source[0]), many, 199, 0)
    assert counted.limit is not None
    assert counted.exceeded_by(counted.limit + 1)
    assert not counted.exceeded_by(counted.limit)
    assert compare_with_chance(lambda source: 0.5, many, 199, 0).p_value == 1
    undefined = compare_with_chance(lambda source: math.nan, many, 199, 0)
    assert (undefined.p_value, undefined.score, undefined.chance) == (1, None, None)
    assert "undefined" in str(undefined)


def test_labels_that_cannot_move_are_no_evidence() -> None:
    found = Permutations.find(np.zeros(4, int), [("groups", np.arange(4))])
    test = compare_with_chance(lambda source: 1.0, found, 199, seed=0)
    assert (found.count, test.p_value, test.permutations, test.passed) == (1, 1, 0, False)
    assert "no label can be exchanged" in str(test)
