"""One suite for a local collection and for the same behind a service: the same hits, rows, labels, heads and errors."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.arguments.keywords import UnknownKeyword, WrongType
from embedx.client.base import NOT_REMOTE
from embedx.client.remote import RemoteCollection
from embedx.errors import AudioError, LockedError, ModelError, NoSuchRow, NothingToDo, UsageError
from embedx.store.store import Store
from tests.helpers.hits import assert_same_hits
from tests.helpers.service import serving

Either = embedx.Collection | RemoteCollection


@pytest.fixture
def writable(request: pytest.FixtureRequest, made: Path, tmp_path: Path) -> Iterator[Either]:
    """A copy of `made` that tests can change, opened or served."""
    shutil.copytree(made, tmp_path / "made")
    if request.param == "local":
        with embedx.open(tmp_path / "made") as opened:
            yield opened
    else:
        with serving(tmp_path / "made", allow_labels=True) as client:
            yield embedx.connect(f"http://127.0.0.1:{client.port}/made")


either_writable = pytest.mark.parametrize("writable", ["local", "remote"], indirect=True)


SEARCHES: list[dict[str, Any]] = [
    {"id": 5},
    {"id": np.int64(5), "k": np.int64(3), "where": "label <> 'bell'", "exclude_self": False, "timeout": 5.0},
    {"id": 5, "radius": 0.5},
    {"id": 5, "radius": 3.0, "metric": "l2"},
    {"id": 5, "score_band": (np.float32(0.25), 0.9), "view": "L0.max"},
    {"id": 5, "group_by": "label"},
    {"id": 5, "group_by": "recording", "radius": 0.3},
    {"id": 5, "diverse": 0.5},
    {"id": 5, "merge": True, "metric": "ip", "exact": True},
    {"like": [5, "6"], "unlike": [np.int64(30)]},
    {"vector": np.ones(256)},
    {"vector": np.eye(3, 256), "k": 7},
    {"vector": np.eye(3, 256), "group_by": "label"},
    {"vector": np.eye(300, 256)[:250], "score_band": (0.0, 0.2)},
]


@pytest.mark.parametrize("options", SEARCHES)
def test_search_gives_the_hits_of_the_collection(
    either: Either, collection: embedx.Collection, options: dict[str, Any]
) -> None:
    assert_same_hits(either.search(**options), collection.search(**options))


def test_vectors_of_a_file_are_a_query(either: Either, collection: embedx.Collection, tmp_path: Path) -> None:
    np.save(tmp_path / "q.npy", collection.vectors()[:2])
    assert_same_hits(either.search(vector=tmp_path / "q.npy"), collection.search(vector=tmp_path / "q.npy"))


def test_files_and_their_parts_are_queries(either: Either, collection: embedx.Collection, query: str) -> None:
    for name in (query, Path(query), f"{query}#0.2-0.9"):
        assert_same_hits(either.search(name), collection.search(name))
    assert_same_hits(either.search(query, align=True), collection.search(query, align=True))
    assert 5 not in [hit.id for hit in either.search(query, exclude_self=True)]
    examples: dict[str, Any] = {"like": [query, f"{query}#0.1-0.4"], "unlike": [30]}
    assert_same_hits(either.search(**examples), collection.search(**examples))


def test_many_files_give_many_answers(either: Either, query: str) -> None:
    frame = pd.DataFrame({"path": [query, query, __file__], "start_s": [0.0, 0.2, 0.0], "end_s": [None, 0.7, None]})
    many = either.search_many(frame, k=2, where="id < 100")
    assert [name.removeprefix(query) for name in many] == ["", "#0.2-0.7"]
    assert [hit.id for hit in many[query]] == [5, 6]
    assert list(many.failures) == [__file__]
    assert "audio0" not in str(many.failures[__file__])
    assert many.generation is not None


def test_many_vectors_give_many_answers(either: Either, collection: embedx.Collection) -> None:
    vectors = np.tile(collection.vectors()[:5], (60, 1))  # more than a request may have
    many, expected = either.search_many(vectors, k=3), collection.search_many(vectors, k=3)
    assert {name: [hit.id for hit in hits] for name, hits in many.items()} == {
        name: [hit.id for hit in hits] for name, hits in expected.items()
    }
    assert many.generation == expected.generation
    scores, ids = either.nearest(vectors, 4, where="id > 2", metric="l2")
    np.testing.assert_array_equal(ids, collection.nearest(vectors, 4, where="id > 2", metric="l2")[1])
    assert scores.dtype == np.float32


@pytest.mark.parametrize("where", [None, "label = 'bell'", "label = 'nothing'"])
def test_rows_and_vectors_are_those_of_the_collection(
    either: Either, collection: embedx.Collection, where: str | None
) -> None:
    frame, expected = either.rows(where), collection.rows(where)
    assert list(frame.columns) == list(expected.columns)
    assert frame.dtypes.equals(expected.dtypes)
    assert frame.drop(columns="path").equals(expected.drop(columns="path"))
    for view in (None, "L0.max"):
        vectors = either.vectors(view, where)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, collection.vectors(view, where))
    assert len(either) == len(collection)
    assert either.views == collection.views
    assert either.recipe == collection.recipe


def test_rows_come_in_pages(url: str, collection: embedx.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedx.client.connection.PAGE", 7)
    remote = embedx.connect(url)
    np.testing.assert_array_equal(remote.vectors(where="id % 2"), collection.vectors(where="id % 2"))
    assert remote.rows().index.tolist() == collection.rows().index.tolist()


PREDICTIONS: list[dict[str, Any]] = [
    {"head": "kinds"},
    {"head": "kinds", "k": 3, "where": "id IN (3, 5, 30)"},
    {"head": "kinds", "per": "recording", "aggregate": "max", "k": 99},
    {"head": "straight", "precision": 0.5},
    {"head": "kinds", "where": "label = 'nothing'"},
]


@pytest.mark.parametrize("options", PREDICTIONS)
def test_predictions_are_those_of_the_collection(
    either: Either, collection: embedx.Collection, options: dict[str, Any]
) -> None:
    predictions, expected = either.predict(**options), collection.predict(**options)
    frame, wanted = predictions.to_pandas(), expected.to_pandas()
    pd.testing.assert_frame_equal(frame.drop(columns="path"), wanted.drop(columns="path"))
    assert all(mine.endswith(other) for mine, other in zip(wanted["path"], frame["path"], strict=True))
    np.testing.assert_allclose(predictions.proba, expected.proba, rtol=1e-9)
    assert predictions.classes == expected.classes


def test_files_are_predicted(either: Either, collection: embedx.Collection, query: str) -> None:
    frame = pd.DataFrame({"path": [query, __file__, query], "start_s": [0.0, 0.0, 0.3]})
    predictions, expected = either.predict(frame, head="kinds", k=2), collection.predict(frame, head="kinds", k=2)
    pd.testing.assert_frame_equal(predictions.to_pandas(), expected.to_pandas())
    assert [error.reason for error in predictions.failures] == [error.reason for error in expected.failures]
    assert "audio0" not in str(predictions.failures[0])


def test_heads_are_those_of_the_collection(either: Either, collection: embedx.Collection) -> None:
    heads, expected = either.heads(), collection.heads()
    assert list(heads) == list(expected) == ["kinds", "straight"]
    x = collection.vectors()
    for name, head in expected.items():
        np.testing.assert_allclose(heads[name].predict_proba(x), head.predict_proba(x), rtol=1e-6)
        assert (heads[name].kind, heads[name].classes, heads[name].views) == (head.kind, head.classes, head.views)
        assert heads[name].metrics == head.metrics


MISTAKES: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception]]] = [
    ("search", (), {}, UsageError),
    ("search", (), {"id": 999}, UsageError),
    ("search", (), {"id": -1}, UsageError),
    ("search", (), {"id": 5, "text": "x"}, UsageError),
    ("search", (), {"id": 5, "vector": np.ones(256)}, UsageError),
    ("search", (), {"id": 5, "where": "nosuch = 1"}, UsageError),
    ("search", (), {"id": 5, "where": ""}, UsageError),
    ("search", (), {"id": 5, "where": "1 = 1", "timeout": 0}, UsageError),
    ("search", (), {"id": 5, "where": "1 = 1", "timeout": float("nan")}, UsageError),
    ("search", (), {"id": 5, "view": "nosuch"}, UsageError),
    ("search", (), {"id": 5, "group_by": "nosuch"}, UsageError),
    ("search", (), {"id": 5, "metric": "nosuch"}, UsageError),
    ("search", (), {"id": 5, "k": 0}, UsageError),
    ("search", (), {"id": 5, "diverse": 0.5, "merge": True}, UsageError),
    ("search", (), {"vector": [1.0]}, UsageError),
    ("search", (), {"vector": "nosuch.npy"}, UsageError),
    ("search", (), {"text": "a dog"}, ModelError),
    ("search", (), {"text": " "}, UsageError),
    ("search", ("nosuch.wav",), {}, AudioError),
    ("search", ("nosuch.wav",), {"where": "nosuch = 1"}, UsageError),
    ("search", (__file__,), {}, AudioError),
    ("search", ("a.wav#5-2",), {}, UsageError),
    ("search", (), {"unlike": [5]}, UsageError),
    ("search", (), {"like": [5.5]}, WrongType),
    ("search", (), {"like": ["nosuch.wav"]}, AudioError),
    ("search_many", (np.ones((2, 3)),), {}, UsageError),
    ("search_many", (np.ones((2, 256)),), {"where": "nosuch = 1"}, UsageError),
    ("search_many", ("nosuch",), {}, UsageError),
    ("search_many", ([__file__],), {"view": "nosuch"}, UsageError),
    ("nearest", (np.ones((2, 256)),), {"k": 0}, UsageError),
    ("nearest", (np.ones((2, 256)),), {"merge": True}, UnknownKeyword),
    ("search", (), {"id": 3, "top_k": 5}, UnknownKeyword),
    ("rows", (), {"filter": "id = 1"}, UnknownKeyword),
    ("rows", (), {"ids": [1, 99_999]}, NoSuchRow),
    ("rows", (), {"ids": ["a"]}, WrongType),
    ("rows", (), {"ids": [10**30]}, NoSuchRow),
    ("rows", ("id = 1",), {"ids": [1]}, UsageError),
    ("rows", (), {"columns": ["lable"]}, UsageError),
    ("vectors", (), {"ids": [99_999]}, NoSuchRow),
    ("__getitem__", (99_999,), {}, NoSuchRow),
    ("__getitem__", (slice(2),), {}, UsageError),
    ("search", (np.zeros(16_000),), {}, UsageError),
    ("search", (3,), {}, UsageError),
    ("search", ([np.zeros(9), 3],), {"sample_rate": 8000}, UsageError),
    ("search", ([],), {"id": 3}, UsageError),
    ("search", (np.full(8000, np.nan),), {"sample_rate": 8000}, AudioError),
    ("search", (np.zeros(0),), {"sample_rate": 8000}, AudioError),
    ("search", (np.zeros(8000),), {"sample_rate": 7}, AudioError),
    ("predict", (), {"treshold": 0.5}, UnknownKeyword),
    ("nearest", (np.ones((2, 256)),), {"view": "nosuch"}, UsageError),
    ("rows", ("nosuch = 1",), {}, UsageError),
    ("rows", ("",), {}, UsageError),
    ("rows", ("1 = 1; DROP TABLE rows",), {}, UsageError),
    ("vectors", ("nosuch",), {}, UsageError),
    ("vectors", (None, "nosuch = 1"), {}, UsageError),
    ("predict", (), {}, UsageError),
    ("predict", (), {"head": "nosuch"}, UsageError),
    ("predict", (), {"head": "../kinds"}, UsageError),
    ("predict", (), {"head": "kinds", "k": 0}, UsageError),
    ("predict", (), {"head": "kinds", "where": "nosuch = 1"}, UsageError),
    ("predict", (), {"head": "kinds", "precision": 0.9, "recall": 0.9}, UsageError),
    ("predict", ("nosuch",), {"head": "kinds"}, UsageError),
    ("predict", (__file__,), {"head": "kinds", "where": "id = 1"}, UsageError),
    ("head", (), {}, UsageError),
    ("head", ("nosuch",), {}, UsageError),
]


@pytest.mark.parametrize(("method", "given", "options", "error"), MISTAKES)
def test_errors_are_those_of_the_collection(
    either: Either, method: str, given: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        getattr(either, method)(*given, **options)
    assert type(raised.value) is error


@either_writable
def test_values_are_set_and_undone(writable: Either) -> None:
    update = writable.label(set={"label": "owl", "site": "A", "round": np.int64(3)}, where="label = 'bell'")
    assert (update.rows, update.change, update.entries) == (10, 1, [])
    rows = writable.rows("site = 'A'")
    assert (set(rows["label"]), set(rows["round"])) == ({"owl"}, {3})
    assert writable.label(set={"site": "A"}, where="site = 'A'").rows == 0
    assert writable.undo_label().rows == 10
    assert "owl" not in set(writable.rows()["label"])
    assert writable.undo_label(2).rows == 10  # undoes the undo
    for mistake, error in (
        ({"set": {"path": "x"}}, UsageError),
        ({"set": {}}, UsageError),
        ({}, UsageError),
        ({"set": {"label": "x"}, "where": "nosuch = 1"}, UsageError),
        ({"set": {"label": "x"}, "overlap": 2.0}, UsageError),
        ({"set": {"label": "x"}, "table": pd.DataFrame({"id": [1]})}, UsageError),
        ({"table": "nosuch.csv"}, UsageError),
        ({"table": pd.DataFrame({"id": [10**9], "label": ["x"]})}, NothingToDo),
        ({"table": pd.DataFrame({"name": ["a"], "label": ["x"]})}, UsageError),
        ({"table": pd.DataFrame({"id": [1, 1], "label": ["x", "y"]})}, UsageError),
    ):
        with pytest.raises(error) as raised:
            writable.label(**mistake)
        assert type(raised.value) is error
    with pytest.raises(UsageError):
        writable.undo_label(99)


@either_writable
def test_table_sets_values_by_id_path_and_time(writable: Either, collection: embedx.Collection, tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1, 2, 10**9], "label": ["owl", None, "x"], "seen": [None, 2, 3], "_note": ["a"] * 3})
    update = writable.label(frame)
    assert (update.rows, update.unknown) == (2, ["id 1000000000"])
    rows = writable.rows("id IN (1, 2)")
    assert rows["label"].tolist() == ["owl", "bell"]
    assert rows["seen"].loc[2] == 2
    root = collection.root
    assert root is not None
    path = Path(collection.rows()["path"].loc[30]).relative_to(root)
    (tmp_path / "labels.csv").write_text(
        f"path,start_s,end_s,label\n{path},0,100,dog\n./{path},,,cat\nnosuch.wav,,,x\n"
    )
    update = writable.label(tmp_path / "labels.csv", where="id > 2", overlap=0.9)
    assert [count for _, count in update.entries] == [1, 1, 0]
    assert writable.rows("id = 30")["label"].tolist() == ["dog"]
    assert writable.label(writable.rows("id = 3").assign(label="cow")[["label"]]).rows == 1  # the index holds the ids


@pytest.mark.parametrize("by", ["set", "table"])
def test_labels_of_whole_recordings_are_for_all_windows_they_ever_get(
    collection: embedx.Collection, by: str, tmp_path: Path
) -> None:
    recording = collection.rows()["path"].loc[5]
    embedx.extract(recording, out=tmp_path / "field", window=0.5).close()
    given: dict[str, Any] = (
        {"set": {"label": "all"}} if by == "set" else {"table": pd.DataFrame({"path": [Path(recording).name]})}
    )
    if by == "table":
        given["table"]["label"] = "all"
    with serving(tmp_path / "field", allow_labels=True) as client:
        remote = embedx.connect(f"http://127.0.0.1:{client.port}/field")
        assert remote.label(**given).rows == len(remote) > 1
        remote.label(set={"seen": 1}, where="id = 1")
    with embedx.open(tmp_path / "field") as local:
        whole, part = local.label_log()
    assert [edit.windows for edit in whole.edits] == [None]
    assert all(edit.windows for edit in part.edits)


@either_writable
def test_writer_is_named_or_waited_for(writable: Either, tmp_path: Path) -> None:
    with Store(tmp_path / "made", write=True), pytest.raises(LockedError):
        writable.label(set={"label": "x"})
    assert writable.label(set={"label": "x"}, wait=True).rows == 40


@either_writable
def test_head_is_trained(writable: Either) -> None:
    options: dict[str, Any] = {
        "kind": "prototype",
        "name": "kinds",
        "calibration": "none",
        "permutations": 0,
        "seed": 1,
    }
    trained = writable.fit_head("label", where="label <> 'clock'", **options)
    assert (trained.name, trained.classes, trained.gain) == ("kinds", ("bell", "birdsong", "engine"), None)
    assert "accuracy" in str(trained.metrics)
    assert "prototype" in str(trained)
    assert list(writable.heads()) == ["kinds"]
    writable.label(set={"label": None}, where="id % 4 = 0")
    writable.fit_head("label", **options)
    writable.undo_label()
    assert writable.fit_head(**options).gain is not None
    with pytest.raises(UsageError):
        writable.fit_head("nosuch")


def test_what_a_service_does_not_offer_is_refused_by_name(url: str, collection: embedx.Collection) -> None:
    remote = embedx.connect(url)
    public = {name for name in dir(collection) if not name.startswith("_")}
    assert public - set(dir(remote)) == set(NOT_REMOTE)
    for name in NOT_REMOTE:
        assert not hasattr(remote, name)
        with pytest.raises(UsageError, match=f"does not offer {name}"):
            getattr(remote, name)
    with pytest.raises(AttributeError):
        remote.nosuch  # noqa: B018
    with pytest.raises(UsageError, match="cannot train with C"):
        remote.fit_head(C=0.1)
    with pytest.raises(UsageError, match="name of one"):
        remote.predict(head=collection.head("kinds"))
    with pytest.raises(UsageError, match="read-only"):
        remote.label(set={"label": "x"})


def test_clips_of_hits_are_saved(either: Either, tmp_path: Path) -> None:
    hits = either.search(id=5, k=4, merge=True)[1:]
    assert hits.generation is not None
    assert hits.save_clips(tmp_path / str(type(either).__name__)) == []
    assert len(list(tmp_path.rglob("*.wav"))) == 3
