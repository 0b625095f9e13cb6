"""Approximate kinds: what they find, that every score is exact, and that nothing damaged is served."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import click
import faiss
import numpy as np
import pytest

import embedx
from embedx.cli import run
from embedx.errors import UsageError
from embedx.index.approximate import read_ann_index
from embedx.index.builder import IndexBuilder
from embedx.index.exact import METRICS
from embedx.index.kinds import KINDS, MIN_ROWS, footprint, pick_kind, read_size, row_bytes
from embedx.index.matrix import CorruptIndex, Floats, Ids
from embedx.index.vector_index import VectorIndex
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row
from embedx.store.store import Store

APPROXIMATE = KINDS[1:]
RANDOM = np.random.default_rng(0)
ROWS, DIM = 5000, 32
CENTRES = RANDOM.standard_normal((60, DIM)).astype(np.float32)
RECALL = 0.95
NOTE = {"view": "L0.mean", "fingerprint": "ab", "generation": 3}


def clustered(count: int) -> Floats:
    """Vectors as a search meets them: clusters, each row at its own distance."""
    noise = RANDOM.standard_normal((count, DIM)) * RANDOM.uniform(0.3, 1, (count, 1))
    return (CENTRES[RANDOM.integers(0, len(CENTRES), count)] + noise).astype(np.float32)


VECTORS = clustered(ROWS)
IDS = np.sort(RANDOM.choice(3 * ROWS, ROWS, replace=False)).astype(np.int64) + 1
QUERIES = clustered(200)  # neither rows nor held out


def build(folder: Path, kind: str, metric: str = "cosine", vectors: Floats = VECTORS, ids: Ids = IDS) -> VectorIndex:
    with IndexBuilder(folder, f"L0.mean.{metric}", metric) as draft:
        draft.add_matrix(NOTE, len(ids), vectors.shape[1], [(ids, vectors)])
        draft.add_ann_index(kind, RECALL)
        return draft.publish()


def load(folder: Path, metric: str = "cosine") -> VectorIndex:
    index = VectorIndex.load(folder, f"L0.mean.{metric}", metric, NOTE)
    assert index is not None
    return index


def true_scores(metric: str, queries: Floats = QUERIES, vectors: Floats = VECTORS) -> np.ndarray:
    a, b = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(b, axis=1, keepdims=True)
        a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.where(lengths == 0, 1, lengths)
    return -np.linalg.norm(a[:, None] - b[None], axis=2) if metric == "l2" else a @ b.T


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of an index of a kind for the cosine; not to be changed by a test."""
    folders: dict[str, Path] = {}

    def made(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            build(folders[kind], kind)
        return folders[kind]

    return made


@pytest.mark.parametrize("metric", METRICS)
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
    """A search that always compared everything would pass every other test here."""
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
    index.update(gone, new_ids, new)
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
    index.update(many, new_ids[:0], new[:0])  # a fifth has gone: the recall was not measured for that, so it is exact
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


# -- damage --------------------------------------------------------------------------------------------------------


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


# -- choice --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_footprint_estimate_equals_file_size(kind: str, built: Callable[[str], Path]) -> None:
    size = load(built(kind)).manifest["structure_bytes"]
    assert size == pytest.approx(footprint(kind, ROWS, DIM), rel=0.1)
    assert row_bytes(kind, DIM) * ROWS <= size * 1.05


# -- collections ---------------------------------------------------------------------------------------------------


def write_rows(folder: Path, vectors: Floats, first: int) -> None:
    """Put rows into a collection as an extraction does."""
    recipe = Recipe("logmel", "", "", 16_000, (0,), ("mean",))
    with Store.create(folder, recipe, DIM) as store:
        batch = []
        for number, vector in enumerate(vectors, first):
            row = Row(number, f"/x/{number}.wav", 0.0, 1.0, "even" if number % 2 == 0 else None, None, None, (), {})
            batch.append((Recording(row.path, 1, 1, "[[0, null]]"), [(row, {"L0.mean": vector})]))
        store.add(batch, store.start_run({}))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    write_rows(tmp_path / "c", VECTORS, 1)
    return tmp_path / "c"


def test_index_is_built_used_listed_and_kept(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(stored), "--kind", "hnsw", "--recall", "0.9"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:5] == ["view", "metric", "kind", "rows", "tail"]
    assert table[1].split()[:5] == ["L0.mean", "cosine", "hnsw", "5000", "0"]
    write_rows(stored, clustered(1500), ROWS + 1)
    before = set((stored / "index").iterdir())
    with embedx.open(stored) as collection:
        assert collection.search(vector=VECTORS[7], k=1)[0].id == 8
        assert collection.search(id=ROWS + 9, k=1, exclude_self=False)[0].id == ROWS + 9
        expected = np.argsort(-true_scores("cosine", QUERIES[:1], VECTORS[1::2]))[0, :5]
        found = collection.search(vector=QUERIES[0], k=5, where=f"label = 'even' AND id <= {ROWS}")
        assert [hit.id for hit in found] == ((expected + 1) * 2).tolist()
    assert set((stored / "index").iterdir()) == before, "30 % of new rows do not throw the structure away"
    assert run(["status", str(stored), "--format", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["indexes"]
    assert (shown["kind"], shown["rows"], shown["tail"], shown["gone"]) == ("hnsw", ROWS, 1500, 0)
    assert shown["recall_at_10"] >= 0.9
    with embedx.open(stored) as collection:
        collection.indexes.refresh("L0.mean")
        (shown,) = collection.indexes.describe()
        assert (shown["kind"], shown["rows"], shown["tail"]) == ("hnsw", ROWS + 1500, 0)
        assert shown["asked"] == {"kind": "hnsw", "recall": 0.9, "max_memory": None}
        assert collection.search(vector=VECTORS[7], k=1)[0].id == 8
    assert len(list((stored / "index").iterdir())) == 4, "the files of the one before are gone"


def test_few_new_rows_do_not_rebuild_the_index(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-flat")
        write_rows(stored, clustered(100), ROWS + 1)
        files = set((stored / "index").iterdir())
        collection.indexes.refresh("L0.mean")
        assert set((stored / "index").iterdir()) == files
        assert collection.indexes.describe()[0]["tail"] == 100


def test_damaged_matrix_is_rebuilt_with_requested_kind(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-sq8")
    (file,) = (stored / "index").glob("*.vectors.npy")
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with embedx.open(stored) as collection:
        assert collection.search(vector=VECTORS[0], k=1)[0].id == 1
        assert collection.indexes.describe()[0]["kind"] == "flat"
        collection.indexes.refresh("L0.mean")
        assert collection.indexes.describe()[0]["kind"] == "ivf-sq8"


def test_verify_repairs_damaged_ann_file_with_requested_kind(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-sq8", recall=0.9)
        assert not collection.verify().found
    (file,) = (stored / "index").glob("*.faiss")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with embedx.open(stored) as collection:
        assert [one.kind for one in collection.verify().found] == ["index"]
        assert not collection.verify(repair=True).left
        (shown,) = collection.indexes.describe()
        assert (shown["kind"], shown["asked"]["recall"]) == ("ivf-sq8", 0.9)


def test_index_beyond_its_memory_limit_does_not_fail_extract(stored: Path, caplog: pytest.LogCaptureFixture) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-flat", max_memory=ROWS * 160)
        write_rows(stored, clustered(2000), ROWS + 1)
        with caplog.at_level(logging.WARNING, "embedx"):
            collection.indexes.refresh("L0.mean")
        assert "max-memory" in caplog.text
        assert collection.search(vector=VECTORS[7], k=1)[0].id == 8


def test_invalid_index_options_are_refused(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[list[str], str]] = [
        (["--recall", "1.5"], "1.5"),
        (["--max-memory", "much"], "4GB"),
        (["--kind", "hnsw", "--max-memory", "10kB"], "Kinds that fit"),
        (["--view", "L9.mean"], "L0.mean"),
    ]
    for arguments, message in cases:
        assert run(["index", "build", str(stored), *arguments]) == 2
        assert message in capsys.readouterr().err
        assert not list(stored.glob("index/*")), "nothing is left behind"


def test_index_options_equal_api_keywords() -> None:
    import inspect

    from embedx.cli.index import build as command

    keywords = set(inspect.signature(embedx.Collection.build_index).parameters) - {"self"}
    assert {one.name for one in command.params} == keywords | {"collection", "as_json"}
    choices = {one.name: tuple(one.type.choices) for one in command.params if isinstance(one.type, click.Choice)}
    assert choices == {"kind": ("auto", *KINDS), "metric": METRICS}


def test_killed_build_keeps_old_index_and_holds_no_lock(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-flat")
        write_rows(stored, clustered(10), ROWS + 1)
    note = (stored / "index/L0.mean.cosine.json").read_bytes()
    stall = (
        "import sys, time, embedx.index.builder as builder, embedx\n"
        "builder.write_manifest = lambda *_: (print('ready', flush=True), time.sleep(60))\n"
        "embedx.open(sys.argv[1]).build_index(kind='hnsw')"
    )
    process = subprocess.Popen([sys.executable, "-c", stall, str(stored)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for file in (stored / "index").iterdir():
        os.utime(file, (0, 0))  # long ago: only that the build is alive protects its files
    write_rows(stored, clustered(10), ROWS + 11)
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-flat")
        assert len(list((stored / "index").glob("*.faiss"))) == 2, "the files of a build at work are left alone"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert collection.search(vector=VECTORS[7], k=1)[0].id == 8
        assert collection.indexes.describe()[0]["kind"] == "ivf-flat"
        assert (stored / "index/L0.mean.cosine.json").read_bytes() != note
        for file in (stored / "index").glob("*.building"):
            os.utime(file, (time.time() - 3600,) * 2)
        collection.build_index(kind="ivf-flat")
    assert len(list((stored / "index").iterdir())) == 4, "what a killed build left is taken away by the next"


def test_status_loads_no_faiss(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-rabitq")
    code = "import sys; from embedx.cli import run; run(['status', sys.argv[1]]); assert 'faiss' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(stored)], check=True, capture_output=True)
