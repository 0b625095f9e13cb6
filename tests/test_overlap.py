"""The store's part (hashes of files) is met in test_probe.py with real files; here are the vectors."""

import numpy as np

from embedx.index.exact import unit
from embedx.overlap import pairs_between


def test_copies_are_found_by_kind_and_the_nearest_is_named() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((8, 64)).astype(np.float32)
    x[4] = x[0]  # the same bits
    x[5] = x[1] + 0.02 * random.standard_normal(64).astype(np.float32)  # nearly
    x[6] = x[2] * 1.1  # a little louder: the same direction
    files = np.array([0, 1, 2, 3, 4, 5, 6, 3])  # 7 is the file 3 again
    bits = np.array([0, 1, 2, 3, 0, 5, 6, 7])
    raw, scaled = unit(x), unit((x - x.mean(axis=0)) / x.std(axis=0))
    found = {
        i: (j, why)
        for i, j, why, _ in pairs_between(np.arange(4, 8), np.arange(4), files, bits, raw, scaled, threshold=0.99)
    }
    assert found == {4: (0, "same vector"), 5: (1, "near"), 6: (2, "near"), 7: (3, "same file")}
    assert list(pairs_between(np.arange(4), np.empty(0, np.int64), files, bits, raw, scaled, 0.99)) == []


def test_vectors_that_all_point_one_way_are_not_all_duplicates() -> None:
    """Mean-pooled frames of transformers have a mean cosine of 0.97: the raw cosine alone would name every row."""
    random = np.random.default_rng(0)
    x = (10 + random.standard_normal((60, 64))).astype(np.float32)
    raw, scaled = unit(x), unit((x - x.mean(axis=0)) / x.std(axis=0))
    assert (raw @ raw.T).min() > 0.97
    each = np.arange(60)
    assert list(pairs_between(each[:30], each[30:], each, each, raw, scaled, threshold=0.97)) == []
