"""Duplicates across a split, found by their vectors. test_probe.py tests duplicates found by the hash of a file."""

import numpy as np

from embedx.evaluation.leakage import Nearness, find_matches
from embedx.index.vectors import unit


def nearness(x: np.ndarray, threshold: float = 0.99) -> Nearness:
    scaled = unit((x - x.mean(axis=0)) / x.std(axis=0))
    return Nearness(unit(x), scaled, np.arange(len(x)), threshold)


def test_duplicates_across_split_are_counted_by_kind_and_named() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 64)).astype(np.float32)
    x[4] = x[0]  # the same bits
    x[5] = x[1] + 0.02 * random.standard_normal(64).astype(np.float32)  # nearly
    x[6] = x[2] * 1.1  # a little louder: the same direction
    files, bits = np.arange(60), np.arange(60)
    files[7] = 3  # the file 3 again
    bits[4] = 0
    found = {i: (j, why) for i, j, why, _ in find_matches(np.arange(4, 60), np.arange(4), files, bits, nearness(x))}
    assert found == {4: (0, "same vector"), 5: (1, "near"), 6: (2, "near"), 7: (3, "same file")}
    assert list(find_matches(np.arange(4), np.empty(0, np.int64), files, bits, nearness(x))) == []


def test_vectors_with_common_direction_are_not_duplicates() -> None:
    """Mean-pooled frames of transformers have a mean cosine of 0.97: the raw cosine alone would name every row."""
    random = np.random.default_rng(0)
    x = (10 + random.standard_normal((60, 64))).astype(np.float32)
    x[40] = x[3] + 0.05 * random.standard_normal(64)  # the one copy
    near = nearness(x, threshold=0.97)
    assert (near.raw @ near.raw.T).min() > 0.97
    each = np.arange(60)
    assert [(i, j) for i, j, *_ in find_matches(each[:30], each[30:], each, each, near)] == [(3, 40)]


def test_sound_repeated_twenty_times_is_a_duplicate() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((100, 64)).astype(np.float32)
    x[:20] = x[0] + 0.01 * random.standard_normal((20, 64)).astype(np.float32)
    each = np.arange(100)
    found = find_matches(each[:10], each[10:], each, each, nearness(x))
    assert [i for i, *_ in found] == list(range(10))
