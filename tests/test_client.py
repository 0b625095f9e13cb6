"""One suite for a local collection and for the same behind a service: the same hits, rows and errors."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.client import RemoteCollection
from embedx.errors import AudioError, DiskError, ModelError, StoreError, UsageError
from embedx.server.tokens import read_tokens
from tests.helpers.commands import Capture, outcome
from tests.helpers.service import serving

Either = embedx.Collection | RemoteCollection


@pytest.fixture(scope="module")
def url(made: Path) -> Iterator[str]:
    with serving(made) as client:
        yield f"http://127.0.0.1:{client.port}/made"


@pytest.fixture(params=["local", "remote"])
def either(request: pytest.FixtureRequest, collection: embedx.Collection, url: str) -> Either:
    return collection if request.param == "local" else embedx.connect(url)


@pytest.fixture
def query(collection: embedx.Collection) -> str:
    return str(collection.rows()["path"].loc[5])


SEARCHES: list[dict[str, Any]] = [
    {"id": 5},
    {"id": 5, "k": 3, "where": "label <> 'bell'", "exclude_self": False},
    {"id": 5, "radius": 0.5},
    {"id": 5, "radius": 3.0, "metric": "l2"},
    {"id": 5, "score_band": (0.2, 0.9), "view": "L0.max"},
    {"id": 5, "group_by": "label"},
    {"id": 5, "diverse": 0.5},
    {"like": [5, 6], "unlike": [30]},
    {"vector": np.ones(256)},
    {"vector": np.eye(3, 256), "k": 7},
]


@pytest.mark.parametrize("options", SEARCHES)
def test_search_gives_the_hits_of_the_collection(
    either: Either, collection: embedx.Collection, options: dict[str, Any]
) -> None:
    hits, expected = either.search(**options), collection.search(**options)
    assert [(hit.id, hit.start_s, hit.end_s, hit.label, hit.meta) for hit in hits] == [
        (hit.id, hit.start_s, hit.end_s, hit.label, hit.meta) for hit in expected
    ]
    np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in expected], rtol=1e-5, atol=1e-6)
    assert all(mine.path.endswith(other.path) for mine, other in zip(expected, hits, strict=True))
    assert hits.generation == expected.generation
    assert list(hits.to_pandas()["id"]) == [hit.id for hit in expected]


def test_files_are_read_here_and_sent(either: Either, collection: embedx.Collection, query: str) -> None:
    for name in (query, f"{query}#0.2-0.9"):
        assert [hit.id for hit in either.search(name)] == [hit.id for hit in collection.search(name)]
    assert 5 not in [hit.id for hit in either.search(query, exclude_self=True)]
    assert [hit.id for hit in either.search(like=[query])] == [hit.id for hit in collection.search(like=[query])]
    many = either.search_many([query], k=2)
    assert {name: [hit.id for hit in hits] for name, hits in many.items()} == {query: [5, 6]}


def test_many_vectors_give_many_answers(either: Either, collection: embedx.Collection) -> None:
    vectors = collection.vectors()[:5]
    many = either.search_many(vectors, k=3)
    expected = collection.search_many(vectors, k=3)
    assert {name: [hit.id for hit in hits] for name, hits in many.items()} == {
        name: [hit.id for hit in hits] for name, hits in expected.items()
    }
    scores, ids = either.nearest(vectors, 4, where="id > 2")
    np.testing.assert_array_equal(ids, collection.nearest(vectors, 4, where="id > 2")[1])
    assert scores.dtype == np.float32


def test_rows_are_those_of_the_collection(either: Either, collection: embedx.Collection) -> None:
    frame, expected = either.rows("label = 'bell'"), collection.rows("label = 'bell'")
    assert list(frame.columns) == list(expected.columns)
    assert frame.drop(columns="path").equals(expected.drop(columns="path"))
    assert len(either) == len(collection)
    assert either.views == collection.views


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, UsageError),
        ({"id": 999}, UsageError),
        ({"id": 5, "where": "nosuch = 1"}, UsageError),
        ({"id": 5, "view": "nosuch"}, UsageError),
        ({"id": 5, "k": 0}, UsageError),
        ({"id": 5, "diverse": 0.5, "merge": True}, UsageError),
        ({"vector": [1.0]}, UsageError),
        ({"text": "a dog"}, ModelError),
        ({"query": "/nosuch/file.wav"}, AudioError),
        ({"query": __file__}, AudioError),
    ],
)
def test_errors_are_those_of_the_collection(either: Either, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        either.search(**options)
    assert type(raised.value) is error


def test_wrong_addresses_are_refused(url: str) -> None:
    for wrong in ("field", "ftp://127.0.0.1/x", "http:///x", "http://127.0.0.1:1", url.replace("made", "nosuch")):
        with pytest.raises(UsageError):
            embedx.connect(wrong)
    with pytest.raises(DiskError, match="cannot be reached"):
        embedx.connect("http://127.0.0.1:1/made")


def test_labels_and_heads_are_changed_through_a_service(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    (tmp_path / "tokens").write_text("label:" + "t" * 32)
    tokens = read_tokens(tmp_path / "tokens")
    with serving(tmp_path / "made", allow_labels=True, tokens=tokens) as client:
        remote = embedx.connect(f"http://127.0.0.1:{client.port}/made", token="t" * 32)
        assert remote.label(set={"label": "owl", "site": "A"}, where="label = 'bell'") == 10
        assert set(remote.rows("site = 'A'")["label"]) == {"owl"}
        assert remote.undo_label() == 10
        assert "owl" not in set(remote.rows()["label"])
        trained = remote.fit_head(kind="prototype", name="kinds", where="label <> 'clock'")
        assert list(remote.heads()) == ["kinds"]
        assert trained["classes"] == ["bell", "birdsong", "engine"]
        assert remote.audio(5)[:4] == b"RIFF"
        with pytest.raises(UsageError):
            embedx.connect(remote.url)
        (tmp_path / "made" / "store.db").unlink()
        with pytest.raises(StoreError):
            len(remote)


def test_command_searches_a_service_as_a_folder(made: Path, url: str, query: str, capsys: Capture) -> None:
    for arguments in ((query, "-k", "3", "--columns", "source"), ("--id", "5", "--where", "label = 'clock'")):
        assert outcome(capsys, "search", url, *arguments) == outcome(capsys, "search", made, *arguments)
    assert outcome(capsys, "search", url, "--id", "999")[0] == 2
    assert outcome(capsys, "search", "http://127.0.0.1:1/made", "--id", "5")[0] == 6
    assert outcome(capsys, "search", url, "--id", "5", "--save-clips", made / "x")[0] == 2
