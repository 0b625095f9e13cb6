"""Searches through the service give what the collection gives; hostile ones are refused."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from tests.helpers.service import Client, serving

SEARCH = "/v1/collections/made/search"
PREDICT = "/v1/collections/made/predict"


def ids(hits: Any) -> list[int]:
    return [hit["id"] if isinstance(hit, dict) else hit.id for hit in hits]


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({}, {}),
        ({"limit": 3, "filter": "label = 'bell'"}, {"k": 3, "where": "label = 'bell'"}),
        ({"using": "L0.max", "metric": "l2"}, {"view": "L0.max", "metric": "l2"}),
        ({"metric": "l2", "score_threshold": -2.5, "limit": 50}, {"metric": "l2", "radius": 2.5, "k": 50}),
        ({"group_by": "label"}, {"group_by": "label"}),
        ({"merge": True}, {"merge": True}),
        ({"diverse": 0.5, "exact": True}, {"diverse": 0.5, "exact": True}),
        ({"score_band": [0.2, 0.9]}, {"score_band": (0.2, 0.9)}),
        ({"score_threshold": 0.5, "exclude_self": False}, {"radius": 0.5, "exclude_self": False, "k": 10}),
        ({"filter": {"must_not": [{"key": "label", "match": {"value": "bell"}}]}}, {"where": "label <> 'bell'"}),
        (
            {
                "filter": {
                    "should": [
                        {"key": "id", "range": {"gte": 3, "lt": 6}},
                        {"key": "source", "match": {"any": ["bell4"]}},
                    ]
                }
            },
            {"where": "(id >= 3 and id < 6) or source = 'bell4'"},
        ),
    ],
)
def test_search_by_id_equals_search_of_collection(
    client: Client, collection: embedx.Collection, body: dict[str, Any], options: dict[str, Any]
) -> None:
    reply = client.post(SEARCH, {"id": 5, **body})
    hits = collection.search(id=5, **options)
    assert reply.status == 200, reply.body
    assert ids(reply.json["hits"]) == ids(hits)
    np.testing.assert_allclose([hit["score"] for hit in reply.json["hits"]], [hit.score for hit in hits], rtol=1e-5)
    assert reply.headers["etag"] == f'W/"{reply.json["generation"]}.{reply.json["revision"]}"'
    assert reply.json["generation"] == hits.generation


def test_audio_as_base64_data_uri_and_multipart_gives_the_same_hits(
    client: Client, clip: bytes, collection: embedx.Collection
) -> None:
    text = base64.b64encode(clip).decode()
    expected = ids(collection.search(id=5, exclude_self=False))
    for audio in (text, f"data:audio/wav;base64,{text}"):
        assert ids(client.post(SEARCH, {"audio": audio}).json["hits"]) == expected
    form = client.form(SEARCH, {"query": '{"audio": "file:call", "limit": 10}'}, {"file:call": clip})
    assert ids(form.json["hits"]) == expected
    assert ids(client.form(SEARCH, {"limit": "3"}, {"file": clip}).json["hits"]) == expected[:3]
    part = client.post(SEARCH, {"audio": text, "start_s": 0.2, "end_s": 0.8}).json["hits"]
    assert part[0]["score"] != pytest.approx(1.0, abs=1e-6)
    assert client.post(SEARCH, {"audio": text, "start_s": 0.2}).status == 200


def test_like_and_unlike_take_ids_and_files(client: Client, clip: bytes, collection: embedx.Collection) -> None:
    reply = client.post(SEARCH, {"like": [5, base64.b64encode(clip).decode()], "unlike": [30]})
    assert ids(reply.json["hits"]) == ids(collection.search(like=[5, 5], unlike=[30]))


def test_many_queries_give_a_result_each(client: Client, collection: embedx.Collection) -> None:
    vectors = collection.vectors()[:3]
    many = client.post(SEARCH, {"vector": vectors.tolist(), "limit": 4}).json["results"]
    packed = base64.b64encode(vectors[1].astype("<f4").tobytes()).decode()
    assert [result["name"] for result in many] == ["0", "1", "2"]
    assert ids(many[1]["hits"]) == ids(client.post(SEARCH, {"vector": packed, "limit": 4}).json["hits"])
    by_id = client.post(SEARCH, {"id": [1, 2], "limit": 4}).json["results"]
    assert [ids(result["hits"]) for result in by_id] == [ids(collection.search(id=n, k=4)) for n in (1, 2)]


def test_vectors_come_with_hits_that_ask_for_them(client: Client, collection: embedx.Collection) -> None:
    hit = client.post(SEARCH, {"id": 5, "limit": 1, "exclude_self": False, "with_vector": True}).json["hits"][0]
    np.testing.assert_allclose(hit["vector"], collection.vectors(where="id = 5")[0], rtol=1e-6)


def test_predict_gives_what_the_collection_predicts(made: Path, clip: bytes, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    with embedx.open(tmp_path / "made") as collection, serving(tmp_path / "made") as client:
        assert client.post(PREDICT, {"ids": [1]}).code == "no_head"
        collection.fit_head(kind="prototype", name="kinds")
        expected = collection.predict(where="id in (3, 5)", k=2)
        reply = client.post(PREDICT, {"ids": [3, 5], "k": 2}).json
        tops = [[(top["label"], top["probability"]) for top in one["top"]] for one in reply["predictions"]]
        assert tops == [list(one.top) for one in expected]
        heard = client.form(PREDICT, {"head": "kinds"}, {"file": clip, "file:b": b"no audio"}).json
        assert [one["input"] for one in heard["predictions"]] == [0]
        assert heard["predictions"][0]["labels"] == list(expected[1].labels)
        assert len(heard["failures"]) == 1
        assert client.post(PREDICT, {"ids": [3, 4000]}).code == "no_row"
        assert client.post(PREDICT, {"ids": [3], "head": "../../etc/passwd"}).status in (400, 404)
        assert client.post(PREDICT, {"ids": [3], "audio": "AAAA"}).code == "bad_query"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "bad_query"),
        ({"id": 1, "text": "x"}, 400, "bad_query"),
        ({"id": 999}, 404, "no_row"),
        ({"id": 1 << 63}, 400, "bad_request"),
        ({"id": True}, 400, "bad_request"),
        ({"id": 1, "limit": 1001}, 400, "limit_too_large"),
        ({"id": 1, "limit": 0}, 400, "bad_request"),
        ({"id": 1, "limt": 1}, 400, "bad_request"),
        ({"id": 1, "using": "../../etc/passwd"}, 400, "bad_request"),
        ({"id": 1, "group_by": "../../etc/passwd"}, 400, "bad_request"),
        ({"id": [1] * 257}, 400, "too_many_queries"),
        ({"id": []}, 400, "bad_query"),
        ({"vector": [1.0, 2.0]}, 400, "bad_request"),
        ({"vector": [[1.0], [1.0, 2.0]]}, 400, "bad_vector"),
        ({"vector": ["1"] * 256}, 400, "bad_vector"),
        ({"vector": "AAAA"}, 400, "bad_vector"),
        ({"vector": "/etc/passwd"}, 400, "bad_vector"),
        ({"audio": "../../etc/passwd"}, 400, "bad_audio_text"),
        ({"audio": "/etc/passwd/"}, 422, "bad_audio"),  # it is valid base64
        ({"audio": "http://127.0.0.1:1/x.wav"}, 400, "remote_url"),
        ({"audio": "file:///etc/passwd"}, 400, "no_file"),
        ({"audio": ""}, 422, "bad_audio"),
        ({"audio": base64.b64encode(b"RIFF" + b"x" * 999).decode()}, 422, "bad_audio"),
        ({"like": ["/etc/passwd"]}, 400, "bad_audio_text"),
        ({"like": ["5"]}, 400, "bad_audio_text"),
        ({"text": "a dog"}, 400, "no_text"),
        ({"id": 1, "diverse": 0.5, "merge": True}, 400, "bad_request"),
        ([], 400, "bad_request"),
        (None, 400, "bad_request"),
    ],
)
def test_bad_search_is_refused_without_paths_of_the_server(
    made: Path, client: Client, body: Any, status: int, code: str
) -> None:
    reply = client.post(SEARCH, body)
    assert (reply.status, reply.code) == (status, code), reply.body
    for secret in (str(made), "/tmp", "embedx-", "Traceback", "root:"):
        assert secret not in reply.body.decode()


@pytest.mark.parametrize(
    "where",
    [
        "1; DROP TABLE rows", "id IN (SELECT id FROM x)", "(SELECT 1)", "1) UNION SELECT 1 --", "load_extension('x')",
        "readfile('/etc/passwd')", "randomblob(1e9)", "zeroblob(1000000000) = 1", "path LIKE '../../etc/passwd' --",
        "'" + "x" * 9_000, "(" * 5000, "nosuch = 1", "", " ", "\x00", "id = id = ", "label MATCH 'x'", "PRAGMA x",
        "id" + " + id" * 1900, "NOT " * 2400 + "1", "x" * 10_001, "label = '\ud800'",
        {"must": [{"key": "nosuch", "match": {"value": 1}}]}, {"must": 5}, {"and": []}, {"must": [{"key": "id"}]},
        {"must": [{"key": 'id" OR 1=1 --', "match": {"value": 1}}]}, {"must": [{"key": "id", "range": {}}]},
        {"must": [{"key": "label", "match": {"value": [1]}}]}, {"must": [{"key": "label", "match": {"any": []}}]},
        {"must": [{"must": [{"must": [{"must": [{"must": [{"must": [{"must": [{"must": [{"must": [
            {"must": [{"must": []}]}]}]}]}]}]}]}]}]}]},
    ],
)  # fmt: skip
def test_bad_filter_is_refused(client: Client, where: Any) -> None:
    reply = client.post(SEARCH, {"id": 1, "filter": where})
    assert reply.status == 400, reply.body
    assert reply.code == "bad_filter"


def test_filter_with_a_quote_finds_nothing_and_breaks_nothing(client: Client) -> None:
    condition = {"must": [{"key": "label", "match": {"value": "x' OR '1' = '1"}}]}
    assert client.post(SEARCH, {"id": 1, "filter": condition}).json["hits"] == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff\xfe", "bad_json"),
        (b'{"id": NaN}', "bad_json"),
        (b"[" * 40 + b"]" * 40, "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"id": ' + b"9" * 5000 + b"}", "bad_json"),
        (b'{"id": 1e999}', "bad_request"),
    ],
)
def test_bad_json_is_refused(client: Client, body: bytes, code: str) -> None:
    reply = client.send("POST", SEARCH, body, {"Content-Type": "application/json"})
    assert (reply.status, reply.code) == (400, code)


def test_other_content_types_are_refused(client: Client) -> None:
    body = json.dumps({"id": 1})
    assert client.send("POST", SEARCH, body, {"Content-Type": "text/plain"}).status == 415
    assert client.send("POST", SEARCH, body).status == 415
    broken = client.send("POST", SEARCH, b"x", {"Content-Type": "multipart/form-data; boundary=x"})
    assert (broken.status, broken.code) == (400, "bad_multipart")
    files = {f"file:{n}": b"x" for n in range(17)}
    assert client.form(SEARCH, {"query": '{"id": 1}'}, files).code == "too_many_files"
