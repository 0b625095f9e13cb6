import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedx.errors import DiskError
from embedx.index.builder import write_index
from embedx.index.exact import METRICS
from embedx.index.matrix import BLOCK, CorruptIndex, Ids
from embedx.index.vector_index import VectorIndex

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.standard_normal((500, 16)).astype(np.float32)
IDS = np.sort(RANDOM.choice(10_000, 500, replace=False)).astype(np.int64) + 1
QUERIES = RANDOM.standard_normal((20, 16)).astype(np.float32)
NOTE = {"view": "L0.mean", "fingerprint": "ab", "generation": 3}


def brute_force(keep: Ids, k: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.isin(IDS, keep)
    a = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
    b = VECTORS[chosen] / np.linalg.norm(VECTORS[chosen], axis=1, keepdims=True)
    scores = a @ b.T
    order = np.argsort(-scores, axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), IDS[chosen][order]


@pytest.mark.parametrize("k", [1, 10, 500])
@pytest.mark.parametrize("kept", [0, 1, 7, 250, 500])
def test_search_with_filter_equals_brute_force_at_every_selectivity(k: int, kept: int) -> None:
    index = VectorIndex.build(IDS, VECTORS)
    keep = np.sort(RANDOM.choice(IDS, kept, replace=False))
    for options in ({"keep": keep}, {"drop": np.setdiff1d(IDS, keep)}, {"keep": IDS, "drop": np.setdiff1d(IDS, keep)}):
        scores, ids = index.search(QUERIES, k, include_ids=options.get("keep"), exclude_ids=options.get("drop"))
        expected_scores, expected_ids = brute_force(keep, k)
        assert ids.shape == (20, min(k, kept))
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


def test_search_without_filter_equals_brute_force() -> None:
    _, ids = VectorIndex.build(IDS, VECTORS).search(QUERIES, 600)
    np.testing.assert_array_equal(ids, brute_force(IDS, 600)[1])


def test_cosine_of_vector_itself_is_one_and_of_zero_vector_is_zero() -> None:
    vectors = np.concatenate([VECTORS[:5] * 1000, np.zeros((1, 16), np.float32)])
    scores, ids = VectorIndex.build(np.arange(6), vectors).search(vectors, 1)
    np.testing.assert_allclose(scores[:5, 0], 1, atol=1e-6)
    assert ids[:5, 0].tolist() == [0, 1, 2, 3, 4]
    assert scores[5, 0] == 0


def write(folder: Path, metric: str = "cosine", rows: int = len(IDS)) -> VectorIndex:
    parts = ((IDS[i : i + 70], VECTORS[i : i + 70]) for i in range(0, rows, 70))
    return write_index(folder, f"L0.mean.{metric}", metric, NOTE, rows, VECTORS.shape[1], parts)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_equals_numpy_for_few_and_many_queries(metric: str) -> None:
    index = VectorIndex.build(IDS, VECTORS, metric)
    for queries in (QUERIES[:3], np.tile(QUERIES, (3, 1))):
        a, b = queries.astype(np.float64), VECTORS.astype(np.float64)
        expected = {
            "cosine": (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T,
            "ip": a @ b.T,
            "l2": -np.linalg.norm(a[:, None] - b[None], axis=2),
        }[metric]
        scores, ids = index.search(queries, 7)
        np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :7], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(ids, IDS[np.argsort(-expected, axis=1)[:, :7]])
        every, found = index.scores(queries, exclude_ids=IDS[:2])
        np.testing.assert_array_equal(every, IDS[2:])
        np.testing.assert_allclose(found, expected[:, 2:], rtol=1e-5, atol=1e-5)


def test_near_rows_far_from_origin_keep_their_distance() -> None:
    vectors = (1000 + np.arange(40)[:, None] * 0.01 * np.ones((1, 16))).astype(np.float32)
    scores, ids = VectorIndex.build(np.arange(40), vectors, "l2").search(vectors, 2)
    np.testing.assert_array_equal(ids[:, 0], np.arange(40))
    assert (scores[:, 0] == 0).all()
    np.testing.assert_allclose(scores[:, 1], -0.04, rtol=0.02)


def test_rows_added_and_deleted_after_build_are_respected() -> None:
    index = VectorIndex.build(IDS[:400], VECTORS[:400])
    gone = IDS[::7]
    index = index.with_changes(gone[gone < IDS[400]], IDS[400:], VECTORS[400:])
    gone = gone[gone < IDS[400]]
    left = np.setdiff1d(IDS, gone)
    assert len(index) == len(left)
    np.testing.assert_array_equal(index.ids, left)
    for queries in (QUERIES[:1], QUERIES):
        _, ids = index.search(queries, 50)
        np.testing.assert_array_equal(ids, brute_force(left, 50)[1][: len(queries)])
        _, ids = index.search(queries, 50, include_ids=IDS[:450], exclude_ids=IDS[:20])
        np.testing.assert_array_equal(ids, brute_force(np.intersect1d(left, IDS[20:450]), 50)[1][: len(queries)])
    expected = VECTORS[[0 if number == left[0] else len(IDS) - 1 for number in (left[0], IDS[-1])]]
    assert index.vectors(np.array([left[0], IDS[-1]])).shape == expected.shape


def test_equal_scores_are_ranked_by_id() -> None:
    index = VectorIndex.build(np.arange(1, 101), np.ones((100, 4), np.float32))
    assert index.search(np.ones((1, 4), np.float32), 5)[1].tolist() == [[1, 2, 3, 4, 5]]


def test_loaded_index_gives_equal_answers(tmp_path: Path) -> None:
    built = VectorIndex.build(IDS, VECTORS)
    write(tmp_path)
    loaded = VectorIndex.load(tmp_path, "L0.mean.cosine", "cosine", NOTE)
    assert loaded is not None
    assert len(loaded) == 500
    np.testing.assert_array_equal(loaded.search(QUERIES, 5)[1], built.search(QUERIES, 5)[1])
    names = {one.name for one in tmp_path.iterdir()}
    (tmp_path / "L0.mean.cosine-deadbeef.ids.npy").touch()
    os.utime(tmp_path / "L0.mean.cosine-deadbeef.ids.npy", (0, 0))
    write(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(names) == 3, "the files of old and of killed builds are taken away"


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "first byte": lambda data: flip(data, 0),
    "tenth byte": lambda data: flip(data, 10),
    "in the middle": lambda data: flip(data, len(data) // 2),
    "last byte": lambda data: flip(data, len(data) - 1),
    "cut": lambda data: data[:-8],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("suffix", [".json", ".ids.npy", ".vectors.npy"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_matrix_is_detected_before_search(tmp_path: Path, damage: str, suffix: str) -> None:
    write(tmp_path)
    (file,) = tmp_path.glob(f"*{suffix}")
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    with pytest.raises(CorruptIndex):
        index = VectorIndex.load(tmp_path, "L0.mean.cosine", "cosine", NOTE)
        assert index is not None
        index.search(QUERIES, 5)


def test_swapped_blocks_are_detected(tmp_path: Path) -> None:
    write(tmp_path)
    (file,) = tmp_path.glob("*.vectors.npy")
    data, block = file.read_bytes(), 16 * 4 * BLOCK
    head = len(data) - VECTORS.nbytes
    rest = data[head + block :]
    file.write_bytes(data[:head] + rest[: len(rest)] + data[head : head + block])
    index = VectorIndex.load(tmp_path, "L0.mean.cosine", "cosine", NOTE)
    assert index is not None
    with pytest.raises(CorruptIndex):
        index.vectors(IDS[:1])


def test_foreign_index_is_refused_and_missing_one_is_none(tmp_path: Path) -> None:
    assert VectorIndex.load(tmp_path, "L0.mean.cosine", "cosine", NOTE) is None
    write(tmp_path)
    for key, value in {"view": "L1.mean", "fingerprint": "cd"}.items():
        with pytest.raises(CorruptIndex, match=key):
            VectorIndex.load(tmp_path, "L0.mean.cosine", "cosine", NOTE | {key: value})
    with pytest.raises(CorruptIndex, match="metric"):
        VectorIndex.load(tmp_path, "L0.mean.cosine", "l2", NOTE)


def test_folder_that_cannot_be_created_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("a file in the way")
    with pytest.raises(DiskError, match="cannot be written"):
        write(tmp_path / "index")


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("distinct", [1, 7, 150])
def test_ties_are_broken_by_id_whatever_the_number_of_queries(metric: str, distinct: int) -> None:
    """Many rows are equal; the k best of them are those with the lowest ids, with equal scores."""
    random = np.random.default_rng(distinct)
    rows = random.standard_normal((distinct, 61)).astype(np.float32)
    kinds = random.integers(distinct, size=900)
    queries = np.concatenate([rows[:5], random.standard_normal((60, 61))]).astype(np.float32)
    index = VectorIndex.build(np.arange(900) * 3, rows[kinds], metric)
    exact = rows.astype(np.float64)
    for k in (1, 9, 40, 900):
        whole_scores, whole = index.search(queries, k)
        for number in (1, 3, 19, 20, 33):
            scores, ids = index.search(queries[:number], k)
            np.testing.assert_array_equal(ids, whole[:number])
            np.testing.assert_array_equal(scores, whole_scores[:number])
        for query, scores, ids in zip(queries.astype(np.float64), whole_scores, whole, strict=True):
            if metric == "l2":
                true = -np.linalg.norm(exact - query, axis=1)
            else:
                true = exact @ query / (np.linalg.norm(exact, axis=1) if metric == "cosine" else 1.0)
            np.testing.assert_array_equal(ids, np.lexsort((np.arange(900), -true[kinds]))[:k] * 3)
            assert len(np.unique(scores)) == len(np.unique(kinds[ids // 3]))
