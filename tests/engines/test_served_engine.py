"""The service of a collection in a search engine answers as that of the local one, or refuses by name."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

import embedx
from embedx.engines.pushing import push_rows
from embedx.server.errors import ApiError
from embedx.server.mcp_schemas import CollectionArguments, PredictArguments, SearchArguments
from embedx.server.mcp_tools import Tools
from tests.helpers.commands import Capture, outcome
from tests.helpers.search_engines import ENGINES, KILLED, PASSWORD, engine_server, process_server
from tests.helpers.service import Client, serving

pytestmark = pytest.mark.long
WORKS = {  # routes that need no folder
    "/v1/collections/{name}",
    "/v1/collections/{name}/search",
    "/v1/collections/{name}/rows",
    "/v1/collections/{name}/rows/{number}",
    "/v1/collections/{name}/vectors",
}
FILTERS: list[Any] = [
    "label = 'bell' AND id < 30",
    {"must_not": [{"key": "label", "match": {"value": "bell"}}]},
    {"should": [{"key": "id", "range": {"gte": 3, "lt": 6}}, {"key": "source", "match": {"any": ["bell4"]}}]},
]


@pytest.fixture(scope="module", params=ENGINES)
def clients(request: pytest.FixtureRequest, made: Path) -> Iterator[tuple[Client, Client]]:
    """The services of a collection, and of the same one in an engine."""
    with engine_server(request.param) as server:
        url = server.url.format("made")
        push_rows(made, url, views=("L0.mean", "L0.max"))
        with serving(made) as local, serving(engines=(url,), allow_labels=True) as there:
            yield local, there


def same_hits(local: Client, there: Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the hits of a search, which both services find."""
    replies = [client.post("/v1/collections/made/search", body) for client in (local, there)]
    assert [reply.status for reply in replies] == [200, 200], replies[1].body
    expected, found = (reply.json["hits"] for reply in replies)
    scores = [[hit["score"] for hit in hits] for hits in (expected, found)]
    np.testing.assert_allclose(scores[1], scores[0], rtol=2e-3, atol=0.01)
    assert len({hit["id"] for hit in expected} & {hit["id"] for hit in found}) >= 0.9 * len(expected)
    return list(found)


def test_searches_equal_those_of_the_local_collection(clients: tuple[Client, Client], made: Path) -> None:
    local, there = clients
    with embedx.open(made) as collection:
        row, path = collection.rows().loc[5], collection.rows()["path"].loc[5]
        vector = collection.vectors(ids=[7])[0].tolist()
    hits = same_hits(local, there, {"id": 5, "limit": 8})
    known = local.get(f"/v1/collections/made/rows/{hits[0]['id']}").json["row"]
    assert {name: hits[0][name] for name in ("path", "start_s", "label", "meta")} == {
        name: known[name] for name in ("path", "start_s", "label", "meta")
    }
    same_hits(local, there, {"vector": vector, "using": "L0.max", "limit": 5})
    same_hits(local, there, {"like": [3, 4], "unlike": [20], "limit": 5})
    same_hits(local, there, {"vector": vector, "limit": 3, "with_vector": True})
    audio = base64.b64encode(Path(path).read_bytes()).decode()
    assert same_hits(local, there, {"audio": audio, "limit": 5})[0]["label"] == row["label"]
    for filter in FILTERS:
        assert same_hits(local, there, {"id": 5, "filter": filter, "limit": 50})


def test_rows_and_filters_equal_those_of_the_local_collection(clients: tuple[Client, Client]) -> None:
    for filter in ["", *FILTERS]:
        text = filter if isinstance(filter, str) else json.dumps(filter)
        after, pages = -1, 0
        while True:
            options = f"limit=9&after={after}&filter={quote(text)}"
            rows, vectors = (
                [client.get(f"/v1/collections/made/{what}?{options}").json for client in clients]
                for what in ("rows", "vectors")
            )
            for one in rows[0]["rows"] + rows[1]["rows"]:
                del one["v"]
            assert rows[0]["rows"] == rows[1]["rows"]
            assert (rows[0]["next"], vectors[0]["id"]) == (rows[1]["next"], vectors[1]["id"])
            after, pages = rows[0]["next"], pages + 1
            if after is None:
                break
        assert pages > 1 or filter
    facts = [client.get("/v1/collections/made").json for client in clients]
    for name in ("rows", "recordings", "hours", "generation", "revision", "default_view"):
        assert facts[0][name] == facts[1][name]
    assert {one["name"] for one in facts[0]["columns"]} == {one["name"] for one in facts[1]["columns"]}
    assert [one["name"] for one in facts[1]["views"]] == ["L0.mean", "L0.max"]


def test_every_other_route_is_refused_with_a_sentence(clients: tuple[Client, Client]) -> None:
    _, there = clients
    refused = 0
    for path, methods in there.get("/openapi.json").json["paths"].items():
        for method in methods if "{name}" in path else ():
            address = path.format(name="made", number=5, head="x", recording="x", column="label", export="x")
            reply = there.post(address, {}) if method == "post" else there.get(address)
            assert reply.status < 500, (path, reply.body)
            if path not in WORKS and reply.code != "bad_request":  # a body that the route does not take
                assert reply.code == "no_folder", (path, reply.body)
                assert "search engine" in reply.json["error"]["message"]
                refused += 1
    assert refused > 10
    for body in ({"id": 5, "merge": True}, {"id": 5, "metric": "l2"}, {"id": 5, "filter": "lower(label) = 'a'"}):
        assert there.post("/v1/collections/made/search", body).status == 400
    assert there.get("/v1/collections/made/rows/999").code == "no_row"
    assert there.get("/readyz").status == there.get("/metrics").status == there.get("/").status == 200


def test_agents_and_the_command_line_search_there(clients: tuple[Client, Client], capsys: Capture) -> None:
    answers = []
    for client in clients:
        tools = Tools(client.service)
        found = tools.spec("search_sounds").run(
            tools, SearchArguments.model_validate({"id": 5, "filter": "label = 'bell'"})
        )
        facts = tools.spec("describe_collection").run(tools, CollectionArguments.model_validate({}))
        code, out, err = outcome(
            capsys, "search", f"http://127.0.0.1:{client.port}/made", "--id", 5, "--format", "json"
        )
        assert code == 0, err
        answers.append(([hit["id"] for hit in found.value["hits"]], facts.value["rows"], json.loads(out)[0]["id"]))
    assert answers[0] == answers[1]
    tools = Tools(clients[1].service)
    with pytest.raises(ApiError) as error:
        tools.spec("predict").run(tools, PredictArguments.model_validate({"head": "x", "ids": [5]}))
    assert error.value.code == "no_folder"


@pytest.mark.parametrize("engine", KILLED)
def test_service_lives_through_a_restart_of_the_engine(
    made: Path, tmp_path: Path, capsys: Capture, engine: str
) -> None:
    folder = tmp_path / "c"
    shutil.copytree(made, folder)
    with process_server(engine) as server:
        url = server.url.format("again")
        assert outcome(capsys, "serve", url, "--port", 0)[0] == 2  # nothing was pushed
        push_rows(folder, url)
        with serving(engines=(url,)) as client:
            search = {"id": 5, "limit": 3, "filter": "label = 'new'"}
            assert client.post("/v1/collections/again/search", search).json["hits"] == []
            server.kill()
            reply = client.post("/v1/collections/again/search", search)
            assert (reply.status, reply.code) == (503, "collection_unavailable")
            server.start()
            with embedx.open(folder) as collection:
                collection.label(set={"label": "new"}, where="id IN (2, 9)")
            push_rows(folder, url)
            reply = client.post("/v1/collections/again/search", search)
            assert {hit["id"] for hit in reply.json["hits"]} == {2, 9}
            assert reply.json["revision"] == 1
    code, out, err = outcome(capsys, "serve", url, "--port", 0)
    assert code == 6
    assert PASSWORD not in out + err
