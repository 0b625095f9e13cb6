"""Units whose sizes depend on the label are cut, so that only units of one size exchange their labels."""

import numpy as np
import pytest

from embedx.metrics.permutations import Exchange, Permutations
from embedx.metrics.unit_sizes import cut_units, sizes_depend


def groups_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def exchanges_of(labels: np.ndarray, sizes: list[int]) -> tuple[Exchange, ...]:
    of = groups_of(sizes)
    return Permutations.find(labels[of], [("groups", of)]).exchanges


@pytest.mark.parametrize(
    ("labels", "sizes", "expected"),
    [
        ([0, 1] * 6, [10, 1] * 6, True),
        ([0, 1] * 6, [1, 10] * 6, True),
        ([0, 1] * 10, [4, 4, 8, 1, 4, 4, 1, 8] * 2 + [1, 8, 8, 1], False),
        ([0, 1] * 12, [4, 1, 5, 8, 4, 8] * 4, True),  # the same median, another spread
        ([0, 1, 2] * 8, [3, 4, 9] * 8, True),
        ([0, 1] * 6, [5] * 12, False),
        ([0] * 12, [1, 2] * 6, False),
    ],
)
def test_dependence_of_sizes_on_labels_is_seen(labels: list[int], sizes: list[int], expected: bool) -> None:
    truth, random = np.array(labels), np.random.default_rng(0)
    of = groups_of(sizes)
    assert sizes_depend(exchanges_of(truth, sizes), truth[of], random) is expected
    assert sizes_depend(exchanges_of(truth, sizes), np.eye(3, dtype=int)[truth[of]], random) is expected


def test_dependence_on_one_of_many_labels_is_seen() -> None:
    random = np.random.default_rng(0)
    sets = random.integers(2, size=(40, 9))
    sets[:, 8] = np.arange(40) % 2
    of = groups_of((1 + 9 * sets[:, 8]).tolist())
    numbers = np.unique(sets, axis=0, return_inverse=True)[1]
    found = Permutations.find(numbers[of], [("groups", of)])
    assert sizes_depend(found.exchanges, sets[of], random)
    assert not sizes_depend(found.exchanges, sets[of][:, :4], random)


def test_independent_sizes_seem_to_depend_in_a_tenth_of_sets() -> None:
    random = np.random.default_rng(0)
    seen = []
    for _ in range(150):
        labels, sizes = random.permutation(np.arange(14) % 2), random.integers(1, 9, 14).tolist()
        seen.append(sizes_depend(exchanges_of(labels, sizes), labels[groups_of(sizes)], random))
    assert 0.02 < np.mean(seen) < 0.2


def test_sizes_that_depend_inside_many_units_are_seen_together() -> None:
    sizes, labels = [6, 1, 5, 2] * 5, np.array([0, 1, 0, 1] * 5)  # five sites of four recordings
    recording = groups_of(sizes)
    found = Permutations.find(labels[recording], [("groups", recording // 4), ("recordings", recording)])
    assert len(found.exchanges) == 5
    assert sizes_depend(found.exchanges, labels[recording], np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(5))
def test_labels_move_between_units_of_one_size_only(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.append([0, 1, 2], random.integers(3, size=27))
    sizes = (1 + random.poisson(np.array([1, 4, 12])[labels])).tolist()
    (exchange,) = exchanges_of(labels, sizes)
    cut = cut_units(exchange, random)
    for unit, rows in zip(exchange.units, cut, strict=True):
        assert 1 <= len(rows) <= len(unit)
        assert set(rows.tolist()) <= set(unit.tolist())
        assert (np.diff(rows) == 1).all()
    of = groups_of([len(rows) for rows in cut])
    found = Permutations.find(labels[of], [("groups", of)], equal_sizes=True)
    assert all(len({len(unit) for unit in one.units}) == 1 for one in found.exchanges)
    for source in found.draw(9, seed=0):
        assert (np.bincount(of)[of] == np.bincount(of)[of[source]]).all()


def test_cap_keeps_as_many_rows_as_both_classes_have() -> None:
    labels = np.arange(20) % 2
    (exchange,) = exchanges_of(labels, [20, 4] * 10)
    assert {len(rows) for rows in cut_units(exchange, np.random.default_rng(0))} == {4}
    (exchange,) = exchanges_of(labels, [20, 4] * 9 + [1, 1])  # two small groups do not take the rows of all others
    assert sorted({len(rows) for rows in cut_units(exchange, np.random.default_rng(0))}) == [1, 4]
