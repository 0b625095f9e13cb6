"""Retrieval equals a direct computation for every row, and never finds a row of the same fold or group."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.metrics.retrieval import retrieve

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def clusters(rows: int, classes: int, seed: int = 0, dim: int = 12) -> tuple[Floats, Ints]:
    random = np.random.default_rng(seed)
    y = random.integers(classes, size=rows)
    x = random.standard_normal((classes, dim))[y] + 1.5 * random.standard_normal((rows, dim))
    return x.astype(np.float32), y


def by_hand(x: Floats, related: NDArray[np.bool_], apart: Ints, ks: tuple[int, ...]) -> dict[str, float]:
    """Compute retrieval by sorting the candidates of each row."""
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    found: dict[str, list[float]] = {name: [] for name in (*(f"p@{k}" for k in ks), "r_precision", "map")}
    left_out = 0
    for i in range(len(x)):
        candidates = np.flatnonzero(apart != apart[i])
        order = candidates[np.argsort(-np.round(unit[candidates] @ unit[i], 6), kind="stable")]
        hits = related[i, order]
        total = hits.sum()
        if not total:
            left_out += 1
            continue
        for k in ks:
            found[f"p@{k}"].append(hits[:k].mean())
        found["r_precision"].append(hits[:total].mean())
        found["map"].append(float(np.mean([hits[: n + 1].mean() for n in np.flatnonzero(hits)])))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return means | {"queries": len(x) - left_out, "left_out": left_out}


@pytest.mark.parametrize("how", ["rows", "groups", "parts"])
def test_retrieval_equals_direct_computation(how: str) -> None:
    x, y = clusters(150, 5)
    y[:1] = 5  # a class of one row: nothing relevant can be found for it
    groups, parts = np.arange(150) // 3, np.arange(150) % 4
    given = {"rows": {}, "groups": {"groups": groups}, "parts": {"parts": parts.astype(str), "groups": groups}}[how]
    apart = {"rows": np.arange(150), "groups": groups, "parts": parts}[how]
    found = retrieve(x, y, **given, ks=(1, 3, 10), samples=50)  # type: ignore[arg-type]
    expected = by_hand(x, y[:, None] == y, apart, (1, 3, 10))
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected, abs=1e-9)
    assert found["left_out"].value == 1


def test_rows_sharing_a_label_are_relevant() -> None:
    x, y = clusters(120, 4)
    labels = np.eye(4, dtype=int)[y] | np.eye(4, dtype=int)[(y + np.arange(120) % 2) % 4]
    labels[:10] = 0
    related = (labels[:, None] & labels).any(axis=2)
    found = retrieve(x, labels, ks=(1, 5), samples=20)
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        by_hand(x, related, np.arange(120), (1, 5)), abs=1e-9
    )
    assert found["left_out"].value == 10


def test_retrieval_does_not_depend_on_blocks_or_vector_length(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clusters(90, 3)
    whole = retrieve(x, y, samples=40)
    monkeypatch.setattr("embedx.metrics.retrieval.MAX_SCORES", 90 * 7)
    assert retrieve(x, y, samples=40) == whole
    assert retrieve(x * np.float32(8) ** (np.arange(90)[:, None] % 5), y, samples=40) == whole


def test_ties_are_ranked_by_row() -> None:
    found = retrieve(np.ones((6, 3)), [0, 0, 1, 1, 1, 1], ks=(1,))
    assert found["p@1"].value == pytest.approx(2 / 6)  # all rows find row 0, which itself finds row 1


def test_retrieval_by_folds_excludes_own_fold() -> None:
    random = np.random.default_rng(0)
    of = np.repeat(np.arange(40), 5)
    x = (5 * random.standard_normal((40, 16))[of] + 0.1 * random.standard_normal((200, 16))).astype(np.float32)
    y = random.permutation(np.arange(40) % 2)[of]
    assert retrieve(x, y)["p@1"].value == 1
    assert retrieve(x, y, groups=of)["p@1"].value < 0.8


def test_retrieval_intervals_are_over_groups() -> None:
    x, y = clusters(300, 3)
    of = np.repeat(np.arange(30), 10)
    x[of < 10] = np.random.default_rng(1).standard_normal((100, 12))  # ten groups in which nothing is found
    wide, narrow = retrieve(x, y, of % 3, of)["p@5"], retrieve(x, y, of % 3)["p@5"]
    assert wide.value == pytest.approx(narrow.value)
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.value - wide.low > 1.3 * (narrow.value - narrow.low)


def test_retrieval_without_relevant_rows_gives_counts_only() -> None:
    x, _ = clusters(6, 2)
    for vectors, truth, groups in ((x, np.arange(6), None), (x, np.zeros(6, int), [0] * 6), (x[:1], [0], None)):
        found = retrieve(vectors, truth, groups=groups)
        assert {name: one.value for name, one in found.items()} == {"queries": 0, "left_out": len(vectors)}
    assert retrieve(np.zeros((0, 4)), np.zeros(0, int))["queries"].value == 0
    assert retrieve(np.zeros((4, 3)), [0, 0, 1, 1], ks=(50,))["p@50"].value == pytest.approx(1 / 3)  # all there are


def test_retrieval_of_invalid_input_is_refused() -> None:
    x, y = clusters(10, 2)
    holes = x.copy()
    holes[0, 0] = np.inf
    for vectors, truth, options, message in (
        (x[0], y, {}, "finite numbers"),
        (holes, y, {}, "finite numbers"),
        (x, y[:5], {}, r"\(10,\) or \(10, C\)"),
        (x, y, {"ks": (0,)}, "1 or more"),
        (x, y, {"parts": [1]}, "parts has the shape"),
        (x, y, {"groups": [1]}, "groups has the shape"),
    ):
        with pytest.raises(UsageError, match=message):
            retrieve(vectors, truth, **options)


def test_retrieval_of_5000_rows_is_feasible() -> None:
    x, y = clusters(5000, 20, dim=64)
    begun = time.process_time()
    retrieve(x, y, parts=np.arange(5000) % 5)
    assert time.process_time() - begun < 60
