"""Approximate indexes: recall, exact scores, and damaged files are never used."""

import logging
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from embedx.errors import UsageError
from embedx.index.approximate import check_ann_file, read_ann_index
from embedx.index.builder import IndexBuilder
from embedx.index.exact import METRICS
from embedx.index.kinds import KINDS, MIN_ROWS, footprint, pick_kind, read_size, row_bytes
from embedx.index.matrix import CorruptIndex
from embedx.index.vector_index import VectorIndex
from tests.helpers.clustered_vectors import (
    DIM,
    IDS,
    NOTE,
    QUERIES,
    RANDOM,
    RECALL,
    ROWS,
    VECTORS,
    build,
    clustered,
    true_scores,
)

APPROXIMATE = KINDS[1:]


def load(folder: Path, metric: str = "cosine") -> VectorIndex:
    index = VectorIndex.load(folder, f"L0.mean.{metric}", metric, NOTE)
    assert index is not None
    return index


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of an index of a kind for cosine; tests must not change it."""
    folders: dict[str, Path] = {}

    def made(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            build(folders[kind], kind)
        return folders[kind]

    return made


@pytest.mark.parametrize(
    "metric", ["cosine", *(pytest.param(name, marks=pytest.mark.long) for name in METRICS if name != "cosine")]
)
@pytest.mark.parametrize("kind", APPROXIMATE)
def test_approximate_index_reaches_recall_with_exact_scores(kind: str, metric: str, tmp_path: Path) -> None:
    build(tmp_path, kind, metric)
    index = load(tmp_path, metric)
    assert index.manifest["kind"] == kind
    assert set(index.manifest["settings"]) == {"10", "100"}
    expected = true_scores(metric)
    column = {number: place for place, number in enumerate(IDS.tolist())}
    for k in (1, 10, 100):
        scores, ids = index.search(QUERIES, k)
        places = np.vectorize(column.__getitem__)(ids)
        np.testing.assert_allclose(scores, np.take_along_axis(expected, places, 1), rtol=1e-4, atol=1e-4)
        assert (np.diff(scores, axis=1) <= 0).all()
        assert all(len(set(row)) == k for row in ids.tolist())
        least = -np.sort(-expected, axis=1)[:, k - 1 : k]
        shares = (scores >= least - 1e-5).mean(axis=1)
        assert shares.mean() >= RECALL - 3 * shares.std() / np.sqrt(len(shares)) - 0.005
    assert {"p50_ms", "p99_ms", "per_s", "memory_bytes", "build_s", "built"} <= index.manifest.keys()


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_approximate_index_visits_fewer_rows(
    kind: str, built: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without this test, an exact search would pass all tests of this file."""
    index = load(built(kind))
    monkeypatch.setattr("embedx.index.vector_index.nearest", lambda *_: pytest.fail("every vector was compared"))
    index.search(QUERIES, 10)
    for breadth, setting in ((one["breadth"], one) for one in index.manifest["settings"].values()):
        assert breadth <= setting["candidates"] * 4 or breadth <= 64
        assert setting["candidates"] < ROWS / 2


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.1, 0.5, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_filtered_search_equals_numpy(kind: str, share: float, built: Callable[[str], Path]) -> None:
    index = load(built(kind))
    kept = np.sort(RANDOM.choice(ROWS, max(1, round(share * ROWS)), replace=False))
    expected = true_scores("cosine")[:, kept]
    order = np.argsort(-expected, axis=1, kind="stable")[:, :10]
    for few in (QUERIES[:2], QUERIES):
        scores, ids = index.search(few, 10, include_ids=IDS[kept])
        np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1)[: len(few)], atol=1e-5)
        np.testing.assert_array_equal(ids, IDS[kept][order][: len(few)])
    scores, ids = index.search(few, 10, exact=True)
    np.testing.assert_array_equal(ids, IDS[np.argsort(-true_scores("cosine"), axis=1)[:, :10]])
    assert index.search(QUERIES[:1], ROWS + 5)[1].shape == (1, ROWS), "k above 100 is exact, and k may exceed N"


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_added_rows_are_found_and_deleted_rows_are_not(kind: str, built: Callable[[str], Path]) -> None:
    index = load(built(kind))
    new, new_ids = clustered(300), np.arange(300) + IDS[-1] + 1
    nearest = index.search(QUERIES, 1)[1].ravel()
    gone = np.unique(nearest)[: ROWS // 20]
    index = index.with_changes(gone, new_ids, new)
    left = ~np.isin(IDS, gone)
    every = np.concatenate([VECTORS[left], new])
    least = -np.sort(-true_scores("cosine", QUERIES, every), axis=1)[:, 9:10]
    scores, ids = index.search(QUERIES, 10)
    assert not np.isin(ids, gone).any()
    assert np.isin(ids, new_ids).any()
    assert (scores >= least - 1e-5).mean() >= RECALL - 0.01
    _, own = index.search(new, 1)
    assert own.ravel().tolist() == new_ids.tolist(), "a tail is compared exactly"
    dropped = np.concatenate([ids[0, :3], new_ids[:5]])
    assert not np.isin(index.search(np.concatenate([QUERIES[:1], new[:5]]), 10, exclude_ids=dropped)[1], dropped).any()
    many = IDS[: ROWS // 5]
    index = index.with_changes(
        many, new_ids[:0], new[:0]
    )  # a fifth has gone: the recall was not measured for that, so it is exact
    expected = true_scores("cosine")[:, ROWS // 5 :]
    np.testing.assert_array_equal(index.search(QUERIES, 10)[1], IDS[ROWS // 5 :][np.argsort(-expected, axis=1)[:, :10]])


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_copies_and_zero_vectors_are_indexed(kind: str, tmp_path: Path) -> None:
    vectors = VECTORS.copy()
    vectors[:1500] = vectors[0]  # such as silence
    vectors[1500:2000] = 0
    index = build(tmp_path, kind, vectors=vectors)
    queries = np.concatenate([QUERIES, vectors[:1], np.zeros((1, DIM), np.float32)])
    scores, ids = index.search(queries[:-1], 10)
    least = -np.sort(-true_scores("cosine", queries[:-1], vectors), axis=1)[:, 9:10]
    assert (scores >= least - 1e-5).mean() >= RECALL - 0.01
    np.testing.assert_allclose(scores[-1], 1, atol=1e-6)
    scores, ids = index.search(queries[-1:], 10)
    assert (scores == 0).all()
    assert len(set(ids[0].tolist())) == 10


@pytest.mark.parametrize("kind", APPROXIMATE)
@pytest.mark.parametrize("rows", [1, 10, 300])
def test_tiny_collection_is_searched_exactly(kind: str, rows: int, tmp_path: Path) -> None:
    index = build(tmp_path, kind, vectors=VECTORS[:rows], ids=IDS[:rows])
    assert index.manifest["kind"] == "flat"
    assert "exact" in index.manifest["remark"]
    scores, ids = index.search(QUERIES[:3], 20)
    assert ids.shape == (3, min(20, rows))
    np.testing.assert_allclose(scores[:, 0], true_scores("cosine", QUERIES[:3], VECTORS[:rows]).max(axis=1), atol=1e-5)


def test_unreachable_recall_falls_back_to_exact_search(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).standard_normal((3000, 30))  # no clusters: nothing to gain
    vectors = (noise * np.geomspace(1, 1e4, 3000)[:, None]).astype(np.float32)
    with IndexBuilder(tmp_path, "L0.mean.ip", "ip") as draft:
        draft.add_matrix(NOTE, 3000, 30, [(np.arange(3000, dtype=np.int64), vectors)])
        draft.add_ann_index("hnsw", 1.0)
        index = draft.publish()
    if index.manifest["kind"] == "flat":
        assert "no setting" in index.manifest["remark"]
        assert not list(tmp_path.glob("*.faiss"))
    else:
        assert all(one["recall"] == 1 for one in index.manifest["settings"].values())


def test_held_out_tuning_rows_are_added_to_the_index(built: Callable[[str], Path]) -> None:
    index = load(built("ivf-flat"))
    assert index.manifest["structure_rows"] == ROWS
    index.search(QUERIES[:1], 1)
    assert index.search(VECTORS, 1)[1].ravel().tolist() == IDS.tolist()


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_damaged_ann_file_is_detected(kind: str, built: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(built(kind), folder)
    note = load(folder).manifest
    (file,) = folder.glob("*.faiss")
    data = file.read_bytes()
    assert len(read_ann_index(folder, note)) == ROWS
    for place in np.random.default_rng(2).integers(0, len(data), 120).tolist():
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(CorruptIndex):
            read_ann_index(folder, note)
    for other in (data[:-1], data + b"\0", b"", data[: len(data) // 2]):
        file.write_bytes(other)
        with pytest.raises(CorruptIndex):
            read_ann_index(folder, note)
    file.unlink()
    with pytest.raises(CorruptIndex):
        read_ann_index(folder, note)


def test_damaged_ann_file_is_named_and_search_is_exact(
    built: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(built("hnsw"), tmp_path / "index")
    (file,) = (tmp_path / "index").glob("*.faiss")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    index = load(tmp_path / "index")
    with caplog.at_level(logging.WARNING, "embedx"):
        ids = index.search(QUERIES, 10)[1]
    np.testing.assert_array_equal(ids, IDS[np.argsort(-true_scores("cosine"), axis=1)[:, :10]])
    assert "index build" in caplog.text


def test_ann_file_with_false_size_is_refused(built: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(built("hnsw"), folder)
    note = load(folder).manifest
    (file,) = folder.glob("*.faiss")
    data = bytearray(file.read_bytes())
    place = data.rindex(ROWS.to_bytes(8, "little"))  # how many row ids follow
    data[place : place + 8] = (2**36).to_bytes(8, "little")
    file.write_bytes(data)
    before = faiss.get_deserialization_vector_byte_limit()
    with pytest.raises(CorruptIndex, match="limit"):
        read_ann_index(folder, note | {"structure_sum": zlib.crc32(data)})
    assert faiss.get_deserialization_vector_byte_limit() == before


def test_auto_kind_is_exact_for_small_collections() -> None:
    assert pick_kind("auto", 10**5, 768) == "flat"
    assert pick_kind("auto", 10**6, 768) == "ivf-rabitq"
    assert pick_kind("auto", 10**6, 128) == "flat"
    assert pick_kind("auto", 10**6, 768, 10**8 * 2) == "ivf-rabitq"
    assert pick_kind("hnsw", MIN_ROWS - 1, 768) == "flat"
    with pytest.raises(UsageError, match=r"Kinds that fit: none; the smallest is ivf-pq with \d+ MB"):
        pick_kind("auto", 10**6, 768, 10**7)
    with pytest.raises(UsageError, match=r"hnsw .*Kinds that fit: ivf-sq8 \(\d+ MB\), ivf-pq"):
        pick_kind("hnsw", 10**6, 768, 10**9)
    with pytest.raises(UsageError, match="ivf-rabitq"):
        pick_kind("tree", 10, 10)


def test_memory_sizes_are_parsed_or_refused() -> None:
    assert [read_size(text) for text in ("4GB", "0.5 gb", "100m", 7, None)] == [4 * 10**9, 5 * 10**8, 10**8, 7, None]
    for text in ("much", "-4GB", "4 XB", "0", "GB"):
        with pytest.raises(UsageError, match="4GB"):
            read_size(text)


def test_file_is_compared_with_its_checksum_in_bounded_memory(tmp_path: Path) -> None:
    data = np.arange(2**21, dtype=np.int64).tobytes()
    (tmp_path / "x.faiss").write_bytes(data)
    manifest = {"structure": "x.faiss", "structure_bytes": len(data), "structure_sum": zlib.crc32(data)}
    tracemalloc.start()
    check_ann_file(tmp_path, manifest)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(data) / 4
    with open(tmp_path / "x.faiss", "r+b") as file:
        file.seek(len(data) // 2)
        file.write(b"x")
    with pytest.raises(CorruptIndex, match="does not match"):
        check_ann_file(tmp_path, manifest)


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_footprint_estimate_equals_file_size(kind: str, built: Callable[[str], Path]) -> None:
    size = load(built(kind)).manifest["structure_bytes"]
    assert size == pytest.approx(footprint(kind, ROWS, DIM), rel=0.1)
    assert row_bytes(kind, DIM) * ROWS <= size * 1.05
