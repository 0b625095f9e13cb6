import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import embedx
from embedx.errors import AudioError, UsageError
from embedx.search.queries import parse_query

VIEW = "L0.mean"


def brute_force(collection: embedx.Collection, query: np.ndarray, ids: list[int], k: int) -> list[int]:
    rows = collection.rows()
    vectors = pd.DataFrame(collection.vectors(), index=rows.index).loc[ids].to_numpy()
    scores = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    return [ids[i] for i in np.argsort(-scores, kind="stable")[:k]]


def test_rows_and_vectors_are_in_the_same_order(collection: embedx.Collection) -> None:
    rows = collection.rows()
    assert list(rows.columns) == [
        *("path", "start_s", "end_s", "duration_s", "label", "group", "split", "flags"),
        "source",
    ]
    assert rows.index.name == "id"
    assert rows.index.is_monotonic_increasing
    assert collection.vectors().shape == (len(collection), 256)
    assert collection.vectors().dtype == np.float32
    where = "label = 'bell'"
    chosen = collection.rows(where=where)
    assert set(chosen["label"]) == {"bell"}
    np.testing.assert_array_equal(collection.vectors(where=where), collection.vectors()[rows["label"] == "bell"])
    assert list(collection.views) == [VIEW, "L0.max"]
    assert not np.array_equal(collection.vectors("L0.max"), collection.vectors())


def test_search_by_stored_vector_finds_itself_first(collection: embedx.Collection) -> None:
    for number, row in collection.rows().iterrows():
        (hit,) = collection.search(row["path"], k=1)
        assert hit.id == number
        assert hit.score == pytest.approx(1.0, abs=5e-5)
        assert (hit.path, hit.start_s, hit.end_s, hit.label) == (
            row["path"],
            row["start_s"],
            row["end_s"],
            row["label"],
        )
        assert hit.meta == {"source": row["source"]}


def test_search_by_id_vector_and_file_equals_brute_force(collection: embedx.Collection, tmp_path: Path) -> None:
    ids = collection.rows().index.tolist()
    vector = collection.vectors()[6]
    np.save(tmp_path / "q.npy", vector)
    expected = brute_force(collection, vector, ids, 8)
    assert [hit.id for hit in collection.search(id=7, k=8, exclude_self=False)] == expected
    assert [hit.id for hit in collection.search(id=7, k=7)] == expected[1:]
    assert [hit.id for hit in collection.search(vector=vector, k=8)] == expected
    assert [hit.id for hit in collection.search(vector=tmp_path / "q.npy", k=8)] == expected
    path = str(collection.rows().loc[7, "path"])
    assert [hit.id for hit in collection.search(path, k=8)] == expected
    assert [hit.id for hit in collection.search(path, k=7, exclude_self=True)] == expected[1:]


@pytest.mark.parametrize(
    "where", ["label = 'engine'", "label <> 'bell' AND duration_s > 1.5", "id = 3", "source = 'none'"]
)
def test_search_with_filter_returns_k_matching_hits(collection: embedx.Collection, where: str) -> None:
    allowed = collection.rows(where=where).index.tolist()
    for k in (1, 5, 100):
        found = [hit.id for hit in collection.search(id=1, k=k, where=where, exclude_self=False)]
        assert found == brute_force(collection, collection.vectors()[0], allowed, k)


def test_search_by_resampled_copy_finds_original(collection: embedx.Collection, tmp_path: Path) -> None:
    row = collection.rows(where="label = 'birdsong'").iloc[0]
    copy = tmp_path / "copy.wav"
    shutil.copy(row["path"], copy)
    assert collection.search(copy, k=1)[0].path == row["path"]
    assert row["path"] not in {hit.path for hit in collection.search(copy, k=40, exclude_self=True)}
    samples, rate = soundfile.read(row["path"])
    soundfile.write(tmp_path / "double.wav", np.repeat(samples, 2), 2 * rate)
    assert collection.search(tmp_path / "double.wav", k=1)[0].path == row["path"]


def test_search_by_excerpt_finds_its_window(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    loud = np.concatenate([random.uniform(-1, 1, 16_000) * level for level in (0.9, 0.01, 0.3, 0.05)])
    loud[16_000:32_000] = np.sin(np.arange(16_000) / 3)
    path = tmp_path / "a.wav"
    soundfile.write(path, loud, 16_000)
    with embedx.extract(path, window=1.0, out=tmp_path / "c") as collection:
        for second in range(4):
            (hit,) = collection.search(f"{path}#{second}-{second + 1}", k=1)
            assert hit.start_s == second
            assert hit.score == pytest.approx(1, abs=1e-4)
        assert {hit.start_s for hit in collection.search(f"{path}#1-2", k=9, exclude_self=True)} == {0, 2, 3}
        assert len(collection.search(path, k=9, exclude_self=True)) == 0
        found = collection.search(path, k=9)  # four query windows, each row with the best of its scores
        assert [hit.score for hit in found] == pytest.approx([1] * 4, abs=1e-4)
        with pytest.raises(AudioError, match="4 s long"):
            collection.search(f"{path}#9-10")


def test_file_name_that_looks_like_excerpt_is_a_name(tmp_path: Path) -> None:
    assert parse_query("take#1-2") == ("take", 1.0, 2.0)
    path = tmp_path / "take#1-2"
    path.touch()
    assert parse_query(str(path)) == (str(path), 0.0, None)
    with pytest.raises(UsageError, match="empty"):
        parse_query("a.wav#3-2")


def test_hits_are_a_sequence_and_convert_to_frame(collection: embedx.Collection) -> None:
    hits = collection.search(id=1, k=5)
    assert len(hits) == 5
    assert isinstance(hits[:2], embedx.Hits)
    assert isinstance(hits[0], embedx.Hit)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    frame = hits.to_pandas()
    assert list(frame.columns) == ["id", "score", "path", "start_s", "end_s", "label", "source"]
    assert frame["id"].tolist() == [hit.id for hit in hits]
    assert list(collection.search(id=1, where="0").to_pandas().columns) == list(frame.columns[:6])


def test_index_that_is_stale_damaged_or_missing_is_rebuilt(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(made, folder)
    index = folder / "index"

    def damaged(pattern: str) -> Callable[[], None]:
        def damage() -> None:
            file = max(index.glob(pattern), key=lambda one: one.stat().st_mtime_ns)
            file.write_bytes(file.read_bytes()[:-1] + b"x")

        return damage

    with embedx.open(folder) as collection:
        expected = [hit.id for hit in collection.search(id=3)]
    for damage in (
        damaged("*.json"),
        damaged("*.vectors.npy"),
        damaged("*.ids.npy"),
        lambda: max(index.glob("*.ids.npy"), key=lambda one: one.stat().st_mtime_ns).unlink(),
        lambda: shutil.rmtree(index),
    ):
        damage()
        with embedx.open(folder) as collection:
            assert [hit.id for hit in collection.search(id=3)] == expected
        assert len(list(index.glob("*.json"))) == 1


def test_rows_added_by_another_writer_are_found_by_open_collection(
    manifest: Path, write_wav: Callable[..., Path], tmp_path: Path
) -> None:
    embedx.extract(manifest, out=tmp_path / "c").close()
    new = write_wav("new.wav")
    with embedx.open(tmp_path / "c") as collection:
        assert collection.search(new, k=1)[0].score < 0.9999
        embedx.extract(new, out=tmp_path / "c").close()
        assert collection.search(new, k=1)[0].path == str(new)


def test_search_with_invalid_query_is_refused(collection: embedx.Collection, tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("text")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    cases: list[tuple[dict[str, object], type[Exception], str]] = [
        ({}, UsageError, "exactly one query"),
        ({"query": "a.wav", "id": 3}, UsageError, "exactly one query"),
        ({"id": 999}, UsageError, "no row 999"),
        ({"id": 1, "k": 0}, UsageError, "at least 1"),
        ({"id": 1, "view": "L7.mean"}, UsageError, r"L0\.mean, L0\.max"),
        ({"vector": [1.0, 2.0]}, UsageError, "256 finite numbers"),
        ({"vector": [np.nan] * 256}, UsageError, "finite"),
        ({"vector": "text"}, UsageError, "npy"),
        ({"vector": tmp_path / "objects.npy"}, UsageError, "npy"),
        ({"vector": text}, UsageError, "npy"),
        ({"vector": ["a"] * 256}, UsageError, "must be an array of numbers"),
        ({"query": text}, AudioError, "cannot be read as audio"),
        ({"query": tmp_path / "missing.wav"}, AudioError, "no file"),
        ({"query": tmp_path}, AudioError, "regular"),
        ({"id": 1, "where": "nonsense = 1"}, UsageError, "no such column"),
    ]
    for options, kind, message in cases:
        with pytest.raises(kind, match=message):
            collection.search(**options)  # type: ignore[arg-type]


def test_open_of_invalid_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no collection"):
        embedx.open(tmp_path / "missing")
