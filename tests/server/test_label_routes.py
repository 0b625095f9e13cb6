"""Labels, undo, heads and maps over HTTP, and who may change a collection."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.server.tokens import read_tokens
from embedx.store.store import Store
from tests.helpers.service import Client, serving

BASE = "/v1/collections/made"
READ, LABEL = "r" * 32, "l" * 32


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


@pytest.fixture
def writable(folder: Path) -> Iterator[Client]:
    with serving(folder, allow_labels=True) as client:
        yield client


def edit(row: int, column: str, value: Any) -> dict[str, Any]:
    return {"id": row, "column": column, "value": value}


def test_labels_are_one_change_that_can_be_undone(writable: Client, folder: Path) -> None:
    edits = [edit(1, "label", "owl"), edit(2, "label", "dog"), edit(2, "site", "A"), edit(3, "label", None)]
    reply = writable.post(f"{BASE}/labels", {"edits": edits})
    assert (reply.status, reply.json["changed"], reply.json["revision"]) == (200, 3, 1), reply.body
    assert reply.headers["etag"].endswith('.1"')
    with embedx.open(folder) as collection:
        rows = collection.rows()
        assert rows["label"].loc[[1, 2]].tolist() == ["owl", "dog"]
        assert rows["label"].isna().loc[3]
        assert rows["site"].loc[2] == "A"
        assert len(collection.label_log()) == 1
    again = writable.post(f"{BASE}/labels", {"edits": edits}).json
    assert (again["changed"], again["revision"]) == (0, 1)
    undone = writable.post(f"{BASE}/labels/undo", {"revision": 1}).json
    assert (undone["changed"], undone["revision"]) == (3, 2)
    assert writable.get(f"{BASE}/rows/1").json["row"]["label"] == "bell"
    assert writable.post(f"{BASE}/labels/undo", {"revision": 1}).status == 400
    assert writable.post(f"{BASE}/labels/undo", {}).code == "nothing_to_do"


def test_head_is_trained_and_used_and_the_gain_of_new_labels_told(writable: Client) -> None:
    first = writable.post(f"{BASE}/heads", {"kind": "prototype", "name": "live"})
    assert (first.status, first.json["name"]) == (200, "live"), first.body
    assert first.json["classes"] == ["bell", "birdsong", "clock", "engine"]
    assert writable.get(BASE).json["heads"][0]["name"] == "live"
    assert writable.post(f"{BASE}/predict", {"ids": [1]}).json["predictions"][0]["labels"] == ["bell"]
    assert writable.post(f"{BASE}/heads", {"label": "nosuch"}).status == 400
    assert writable.post(f"{BASE}/heads", {"name": "../../x"}).code == "bad_request"


@pytest.mark.parametrize(
    ("edits", "status"),
    [
        ([], 400),
        ([edit(999, "label", "x")], 404),
        ([edit(1, "id", 5)], 400),
        ([edit(1, "path", "/etc/passwd")], 400),
        ([edit(1, "start_s", 0)], 400),
        ([edit(1, "label", [1])], 400),
        ([edit(1, "label", "x" * 10_001)], 400),
        ([edit(-1, "label", "x")], 400),
        ([edit(1, "", "x")], 400),
        ([edit(1, " ", "x")], 400),
        ([edit(1, "label", "x")] * 10_001, 400),
    ],
)
def test_bad_edits_change_nothing(writable: Client, folder: Path, edits: Any, status: int) -> None:
    reply = writable.post(f"{BASE}/labels", {"edits": edits})
    assert reply.status == status, reply.body
    assert str(folder) not in reply.body.decode()
    assert writable.get(BASE).json["revision"] == 0


def test_column_without_a_name_is_refused(writable: Client, folder: Path) -> None:
    table = {"columns": ["id", ""], "rows": [{"id": 1, "": "x"}]}
    for body in ({"set": {"": "x"}}, {"set": {"label": "x", " ": 1}}, {"table": table}):
        assert writable.post("/v1/collections/made/labels", body).code == "bad_request"
    with embedx.open(folder) as collection:
        assert not {"", " "} & set(collection.store.columns)


def test_service_is_read_only_by_default(client: Client) -> None:
    for path, body in (("labels", {"edits": [edit(1, "label", "x")]}), ("labels/undo", {}), ("heads", {})):
        assert (reply := client.post(f"{BASE}/{path}", body)).status == 403
        assert reply.code == "labels_not_allowed"


def test_only_tokens_with_the_right_may_label(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"read:{READ}\nlabel:{LABEL}\n")
    body = {"edits": [edit(1, "label", "x")]}
    with serving(folder, allow_labels=True, tokens=read_tokens(tmp_path / "tokens")) as client:
        for token, status in ((READ, 403), (LABEL, 200), ("x" * 32, 401)):
            client.headers["Authorization"] = f"Bearer {token}"
            assert client.post(f"{BASE}/labels", body).status == status


def test_forms_of_web_pages_cannot_label(writable: Client) -> None:
    body = json.dumps({"edits": [edit(1, "label", "x")]})
    assert writable.send("POST", f"{BASE}/labels", body, {"Content-Type": "text/plain"}).status == 415
    assert writable.form(f"{BASE}/labels", {"query": body}, {}).status == 415


def test_labelling_beside_a_writer_is_refused_with_retry_after(writable: Client, folder: Path) -> None:
    with Store(folder, write=True):
        reply = writable.post(f"{BASE}/labels", {"edits": [edit(1, "label", "x")]})
    assert (reply.status, reply.code) == (503, "locked")
    assert "retry-after" in reply.headers
    assert writable.post(f"{BASE}/labels", {"edits": [edit(1, "label", "x")]}).status == 200


def test_map_has_the_principal_components_of_all_rows(client: Client, collection: embedx.Collection) -> None:
    reply = client.get(f"{BASE}/map")
    x = collection.vectors().astype(np.float64)
    x -= x.mean(axis=0)
    expected = np.linalg.svd(x, full_matrices=False)[1][:2]
    places = np.array([reply.json["x"], reply.json["y"]])
    assert reply.json["id"] == collection.rows().index.tolist()
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), expected, rtol=1e-3)
    assert abs(np.corrcoef(places)[0, 1]) < 1e-3
    binary = client.get(f"{BASE}/map", Accept="application/octet-stream").body
    count = len(reply.json["id"])
    assert np.frombuffer(binary[: 8 * count], "<i8").tolist() == reply.json["id"]
    np.testing.assert_array_equal(
        np.frombuffer(binary[8 * count :], "<f4").reshape(2, count), places.astype(np.float32)
    )
    assert client.get(f"{BASE}/map?view=nosuch").status == 400
    assert client.get(f"{BASE}/map?method=../../etc/passwd").status == 400


def test_answers_that_only_name_a_job_are_described(writable: Client) -> None:
    paths = writable.get("/openapi.json").json["paths"]
    for end, body in (("heads", {"label": "label", "kind": "prototype", "wait": False}), ("duplicates", {})):
        reply = writable.post(f"/v1/collections/made/{end}", body)
        assert reply.status == 202
        described = paths[f"/v1/collections/{{name}}/{end}"]["post"]["responses"]["202"]["content"]["application/json"]
        assert set(described["schema"]["required"]) == set(reply.json) == {"job"}
