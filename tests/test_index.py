import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedx.errors import DiskError
from embedx.index import Ids, VectorIndex

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.standard_normal((500, 16)).astype(np.float32)
IDS = np.sort(RANDOM.choice(10_000, 500, replace=False)).astype(np.int64) + 1
QUERIES = RANDOM.standard_normal((20, 16)).astype(np.float32)
NOTE = {"view": "L0.mean", "generation": 3, "fingerprint": "ab"}


def brute_force(keep: Ids, k: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.isin(IDS, keep)
    a = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
    b = VECTORS[chosen] / np.linalg.norm(VECTORS[chosen], axis=1, keepdims=True)
    scores = a @ b.T
    order = np.argsort(-scores, axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), IDS[chosen][order]


@pytest.mark.parametrize("k", [1, 10, 500])
@pytest.mark.parametrize("kept", [0, 1, 7, 250, 500])
def test_equals_brute_force_at_every_selectivity(k: int, kept: int) -> None:
    index = VectorIndex.build(IDS, VECTORS)
    keep = np.sort(RANDOM.choice(IDS, kept, replace=False))
    for options in ({"keep": keep}, {"drop": np.setdiff1d(IDS, keep)}, {"keep": IDS, "drop": np.setdiff1d(IDS, keep)}):
        scores, ids = index.search(QUERIES, k, **options)
        expected_scores, expected_ids = brute_force(keep, k)
        assert ids.shape == (20, min(k, kept))
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


def test_without_a_filter() -> None:
    _, ids = VectorIndex.build(IDS, VECTORS).search(QUERIES, 600)
    np.testing.assert_array_equal(ids, brute_force(IDS, 600)[1])


def test_the_vector_itself_scores_one_and_zero_is_like_nothing() -> None:
    vectors = np.concatenate([VECTORS[:5] * 1000, np.zeros((1, 16), np.float32)])
    scores, ids = VectorIndex.build(np.arange(6), vectors).search(vectors, 1)
    np.testing.assert_allclose(scores[:5, 0], 1, atol=1e-6)
    assert ids[:5, 0].tolist() == [0, 1, 2, 3, 4]
    assert scores[5, 0] == 0


def test_saved_and_loaded_it_answers_the_same(tmp_path: Path) -> None:
    index = VectorIndex.build(IDS, VECTORS)
    index.save(tmp_path / "index" / "L0.mean.faiss", NOTE)
    loaded = VectorIndex.load(tmp_path / "index" / "L0.mean.faiss", NOTE)
    assert loaded is not None
    assert len(loaded) == 500
    np.testing.assert_array_equal(loaded.search(QUERIES, 5)[1], index.search(QUERIES, 5)[1])


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "first byte": lambda data: flip(data, 0),
    "a vector": lambda data: flip(data, len(data) // 2),
    "last byte": lambda data: flip(data, len(data) - 1),
    "cut": lambda data: data[:-8],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_is_not_loaded(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "a.faiss"
    VectorIndex.build(IDS, VECTORS).save(file, NOTE)
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    assert VectorIndex.load(file, NOTE) is None


def test_a_stale_foreign_or_missing_index_is_not_loaded(tmp_path: Path) -> None:
    file = tmp_path / "a.faiss"
    assert VectorIndex.load(file, NOTE) is None
    VectorIndex.build(IDS, VECTORS).save(file, NOTE)
    for key, value in {"view": "L1.mean", "generation": 4, "fingerprint": "cd"}.items():
        assert VectorIndex.load(file, NOTE | {key: value}) is None
    for text in ("", "[]", "{}", json.dumps(NOTE)):
        file.with_suffix(".json").write_text(text)
        assert VectorIndex.load(file, NOTE) is None


def test_a_folder_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("a file in the way")
    with pytest.raises(DiskError, match="store is not touched"):
        VectorIndex.build(IDS, VECTORS).save(tmp_path / "index" / "a.faiss", NOTE)
