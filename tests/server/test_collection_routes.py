"""Rows, audio and pictures of a collection over HTTP, and the answers about the service itself."""

import io
import json
import re
import shutil
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import soundfile

import embedx
from embedx.server import served
from tests.helpers.processes import wait_until
from tests.helpers.service import Client, Reply, serving

ROWS = "/v1/collections/made/rows"


def test_collections_are_described(client: Client, collection: embedx.Collection) -> None:
    (facts,) = client.get("/v1/collections").json["collections"]
    assert facts == client.get("/v1/collections/made").json
    assert (facts["rows"], facts["status"], facts["writable"]) == (len(collection), "ok", False)
    assert facts["views"] == [{"name": name, "dim": dim} for name, dim in collection.views.items()]
    label = next(column for column in facts["columns"] if column["name"] == "label")
    assert label == {"name": "label", "kind": "text", "values": ["bell", "birdsong", "clock", "engine"]}
    (model,) = client.get("/v1/models").json["data"]
    assert (model["id"], model["dim"], model["sample_rate"]) == ("made", 256, 16_000)


def test_recordings_are_found_after_the_collection_was_described(client: Client) -> None:
    row = client.get(f"{ROWS}/5").json["row"]
    assert client.get("/v1/collections/made").status == 200
    assert client.get(f"/v1/collections/made/recordings/{row['recording']}").json["path"] == row["path"]
    assert client.get("/v1/collections/made").json["recordings"] > 0


def test_values_of_many_rows_are_counted_beside_the_requests(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "MAX_ROWS_AT_ONCE", 10)
    shutil.copytree(made, tmp_path / "made")
    path = "/v1/collections/made"

    def labels(reply: Reply) -> list[str]:
        (column,) = (one for one in reply.json["columns"] if one["name"] == "label")
        return list(column.get("values", []))

    with serving(tmp_path / "made", allow_labels=True) as client:
        before = client.get(f"{path}?wait=true")
        assert (before.json["counted"], labels(before)) == (True, ["bell", "birdsong", "clock", "engine"])
        client.service.get("made")._preparing.acquire()  # nothing is counted meanwhile
        edits = [{"id": 3, "column": "label", "value": "owl"}]
        assert client.post(f"{path}/labels", {"edits": edits}).status == 200
        stale = client.get(path)
        assert (stale.json["counted"], labels(stale), stale.json["revision"]) == (False, labels(before), 1)
        assert "etag" not in stale.headers
        client.service.get("made")._preparing.release()
        wait_until(lambda: client.get(path).json["counted"])
        assert "owl" in labels(client.get(path))


def test_rows_are_given_by_their_ids(client: Client) -> None:
    reply = client.get(f"{ROWS}?ids=7,3,999999,3&columns=label").json
    assert [row["id"] for row in reply["rows"]] == [3, 7]
    assert reply["next"] is None
    for wrong in ("1,x", ",", "-1", "1" * 30, ",".join(["1"] * 1001)):
        assert client.get(f"{ROWS}?ids={wrong}").status == 400


def test_pages_of_rows_hold_every_row_once(client: Client, collection: embedx.Collection) -> None:
    for condition, where in (("", None), ("label = 'bell'", "label = 'bell'")):
        after: int | None = -1
        ids: list[int] = []
        while after is not None:
            page = client.get(f"{ROWS}?limit=7&after={after}&filter={quote(condition)}").json
            ids += [row["id"] for row in page["rows"]]
            after = page["next"]
        assert ids == list(collection.rows(where).index)


def test_rows_have_relative_paths_and_chosen_columns(client: Client, collection: embedx.Collection) -> None:
    row = client.get(f"{ROWS}/5").json["row"]
    stored = collection.rows().loc[5]
    assert stored["path"].endswith("/" + row["path"])
    assert (row["label"], row["end_s"], row["meta"]) == (stored["label"], stored["end_s"], {"source": stored["source"]})
    chosen = client.get(f"{ROWS}?limit=1&columns=label,source,nosuch").json["rows"][0]
    assert chosen == {"id": 1, "label": "bell", "source": "bell0", "nosuch": None}
    condition = quote(json.dumps({"must": [{"key": "label", "match": {"value": "clock"}}]}))
    assert {row["label"] for row in client.get(f"{ROWS}?filter={condition}").json["rows"]} == {"clock"}


def test_audio_of_a_row_is_that_of_its_recording(client: Client, collection: embedx.Collection, clip: bytes) -> None:
    reply = client.get(f"{ROWS}/5/audio")
    samples, rate = soundfile.read(io.BytesIO(reply.body), dtype="float32")
    expected, _ = soundfile.read(io.BytesIO(clip), dtype="float32")
    assert (reply.headers["content-type"], rate) == ("audio/wav", 48_000)
    np.testing.assert_array_equal(samples, expected)
    original = client.get(f"{ROWS}/5/audio?original=1")
    assert original.body == clip
    part = client.get(f"{ROWS}/5/audio?original=1", Range="bytes=10-19")
    assert (part.status, part.body) == (206, clip[10:20])
    assert client.get(f"{ROWS}/5/audio?original=1", Range="bytes=99999999-").status == 416


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{ROWS}/999", 404),
        (f"{ROWS}/-1", 400),
        (f"{ROWS}/{1 << 70}", 400),
        (f"{ROWS}/x", 400),
        (f"{ROWS}/5/audio?context=1e9", 400),
        (f"{ROWS}/5/audio?context=nan", 400),
        (f"{ROWS}/5/spectrogram.png?height=100000", 400),
        (f"{ROWS}?limit=1001", 400),
        (f"{ROWS}?filter=%7B", 400),
        (f"{ROWS}?filter=nosuch=1", 400),
        ("/v1/collections/nosuch", 404),
        ("/v1/collections/..%2f..%2fetc%2fpasswd", 404),
        ("/v1/collections/made/rows/..%2f..%2fetc%2fpasswd", 404),
        ("/v1/../../../etc/passwd", 404),
        ("/v1/collections/%00", 404),
        ("/v1/collections/made/", 404),
    ],
)
def test_bad_paths_and_parameters_are_refused(made: Path, client: Client, path: str, status: int) -> None:
    reply = client.get(path)
    assert reply.status == status, reply.body
    assert set(reply.json["error"]) == {"code", "message", "hint"}
    assert str(made) not in reply.body.decode()


def test_row_whose_recording_is_gone_or_not_audio_gives_no_file(made: Path, tmp_path: Path) -> None:
    corpus, folder = tmp_path / "corpus", tmp_path / "c"
    corpus.mkdir()
    soundfile.write(corpus / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    soundfile.write(corpus / "b.wav", np.random.default_rng(1).normal(0, 0.1, 16_000), 16_000)
    embedx.extract(corpus, out=folder).close()
    (corpus / "a.wav").unlink()
    (corpus / "b.wav").write_text("root:x:0:0")
    with serving(folder) as client:
        for query in ("", "?original=1"):
            assert client.get(f"/v1/collections/c/rows/1/audio{query}").code == "audio_gone"
            reply = client.get(f"/v1/collections/c/rows/2/audio{query}")
            assert reply.status == 422
            assert str(tmp_path) not in reply.body.decode()


def test_paths_outside_of_a_common_root_are_not_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one/x", "two/y"):
        (tmp_path / name).mkdir(parents=True)
        soundfile.write(tmp_path / name / f"{name[:3]}.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    embedx.extract([tmp_path / "one/x", tmp_path / "two/y"], out=tmp_path / "c").close()
    with serving(tmp_path / "c") as client:
        monkeypatch.setattr("embedx.collection.base.source_root", lambda store: None)  # as for folders of two disks
        paths = [row["path"] for row in client.get("/v1/collections/c/rows").json["rows"]]
    assert sorted(paths) == ["x/one.wav", "y/two.wav"]


def test_openapi_and_docs_load_nothing_from_outside(client: Client) -> None:
    schema = client.get("/openapi.json").json
    assert "/v1/collections/{name}/search" in schema["paths"]
    assert "$defs" not in json.dumps(schema)
    page = client.get("/docs")
    assert page.status == 200
    assert not re.search(rb"<script|src=|href=|url\(", page.body)
    assert b"/v1/collections/{name}/search" in page.body


def test_damaged_collection_answers_503_by_name_while_others_go_on(made: Path, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        shutil.copytree(made, tmp_path / name)
    with serving(tmp_path / "good", tmp_path / "bad") as client:
        assert client.get("/readyz").status == 200
        file = tmp_path / "bad" / "store.db"
        data = file.read_bytes()
        broken = tmp_path / "broken"
        broken.write_bytes(b"\0" * 4096 + data[4096:])
        broken.rename(file)  # another file, as a restored backup
        reply = client.post("/v1/collections/bad/search", {"id": 1})
        assert (reply.status, reply.code) == (503, "collection_unavailable")
        assert "bad" in reply.json["error"]["message"]
        assert "retry-after" in reply.headers
        assert client.post("/v1/collections/good/search", {"id": 1}).status == 200
        ready = client.get("/readyz")
        assert ready.status == 503
        assert "bad" in ready.json["error"]["message"]
        assert [one["status"] for one in client.get("/v1/collections").json["collections"]] == ["ok", "unavailable"]
        broken.write_bytes(data)
        broken.rename(file)
        assert client.post("/v1/collections/bad/search", {"id": 1}).status == 200
        shutil.rmtree(tmp_path / "bad")
        assert client.get("/v1/collections/bad").status == 503


def test_changes_of_a_collection_are_seen_at_once(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    shutil.copytree(made, folder)
    with serving(folder) as client, embedx.open(folder) as collection:
        before = client.post("/v1/collections/made/search", {"id": 5}).json
        collection.label(set={"label": "owl"}, where="id = 3")
        labelled = client.get("/v1/collections/made/rows/3").json
        assert (labelled["row"]["label"], labelled["revision"]) == ("owl", before["revision"] + 1)
        collection.build_index()
        indexed = client.post("/v1/collections/made/search", {"id": 5}).json
        assert [hit["id"] for hit in indexed["hits"]] == [hit["id"] for hit in before["hits"]]
        collection.remove(where="id = 3")
        after = client.post("/v1/collections/made/search", {"id": 5, "limit": 50}).json
        assert after["generation"] > before["generation"]
        assert 3 not in [hit["id"] for hit in after["hits"]]
        assert client.get("/v1/collections/made/rows/3").status == 404
