"""The MCP tools at /mcp of a served collection, with the client of the SDK, with tokens and limits."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import embedx
from embedx.server.settings import Limits
from embedx.server.shared_folder import SharedFolder
from embedx.server.tokens import read_tokens
from tests.helpers.agents import Agent, at_url, links, text
from tests.helpers.service import JSON_TYPE, Client, serving

READ, LABEL = "r" * 32, "l" * 32
READING = {"describe_collection", "search_sounds", "similar_to", "predict"}
MCP_TYPE = JSON_TYPE | {"Accept": "application/json, text/event-stream"}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


@pytest.fixture(scope="module")
def home(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the collection, a file for queries, a folder for clips, and tokens."""
    home = tmp_path_factory.mktemp("mcp")
    shutil.copytree(made, home / "made")
    with embedx.open(made) as collection:
        recording = collection.rows()["path"].loc[5]
    for name in ("files", "clips"):
        (home / name).mkdir()
    shutil.copy(recording, home / "files" / "query.wav")
    (home / "tokens").write_text(f"read:{READ}\nlabel:{LABEL}\n")
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[Client]:
    options: dict[str, Any] = {"tokens": read_tokens(home / "tokens"), "allow_labels": True, "mcp": True}
    options |= {"files": SharedFolder(str(home / "files"), 1 << 20), "clips": home / "clips"}
    with serving(home / "made", limits=Limits(depth=12), **options) as client:
        yield client


@pytest.fixture(scope="module")
def agent(client: Client) -> Iterator[Agent]:
    agent = at_url(f"http://127.0.0.1:{client.port}/mcp", token=LABEL)
    yield agent
    agent.close()


@pytest.fixture(scope="module")
def reader(client: Client) -> Iterator[Agent]:
    """An agent with a token that may only read, which begins with a handshake as clients of 2025 do."""
    agent = at_url(f"http://127.0.0.1:{client.port}/mcp", token=READ, mode="legacy")
    yield agent
    agent.close()


def test_tools_depend_on_the_token(agent: Agent, reader: Agent) -> None:
    assert agent.tools().keys() == READING | {"cut_clip", "label_rows"}
    assert reader.tools().keys() == READING
    for tool, arguments in (("cut_clip", {"id": 1}), ("label_rows", {"edits": [{"id": 1, "column": "x", "value": 1}]})):
        assert "switched off" in reader.error(tool, **arguments)


def test_tools_answer_as_the_collection_does(agent: Agent, reader: Agent, home: Path) -> None:
    with embedx.open(home / "made") as collection:
        expected = [hit.id for hit in collection.search(id=5, k=4, where="label IS NOT NULL")]
        count = len(collection)
    for one in (agent, reader):
        assert one.value("describe_collection")["rows"] == count
        result = one.call("search_sounds", id=5, limit=4, filter="label IS NOT NULL")
        assert result.structured_content is not None
        assert [hit["id"] for hit in result.structured_content["hits"]] == expected
        assert "| id | score |" in text(result)
        content = one.wait(one.client.read_resource(links(result)[0].uri)).contents[0]
        assert base64.b64decode(content.blob)[:4] == b"RIFF"
        assert one.value("search_sounds", file="query.wav", limit=1)["hits"][0]["id"] == 5
        assert "outside" in one.error("search_sounds", file="../tokens")
        assert "no row 1000000" in one.error("search_sounds", id=10**6)


def test_clips_and_labels_are_written_without_a_path_of_the_server(agent: Agent, home: Path) -> None:
    result = agent.call("cut_clip", id=5)
    assert (home / "clips" / result.structured_content["file"]).is_file()
    assert str(home) not in result.model_dump_json()
    agent.value("label_rows", edits=[{"id": 1, "column": "seen_by", "value": "agent"}])
    with embedx.open(home / "made") as collection:
        assert collection.rows("seen_by = 'agent'").index.tolist() == [1]


def test_requests_pass_the_gate_of_the_service(client: Client, home: Path) -> None:
    def send(message: Any, method: str = "POST", token: str = READ, **headers: str) -> Any:
        body = message if isinstance(message, bytes) else json.dumps(message)
        return client.send(method, "/mcp", body, MCP_TYPE | {"Authorization": f"Bearer {token}"} | headers)

    reply = send(LIST)
    assert (reply.status, reply.headers["x-content-type-options"]) == (200, "nosniff")
    assert {tool["name"] for tool in reply.json["result"]["tools"]} == READING
    assert send(LIST, token="x" * 32).code == "no_token"
    assert send(LIST, Host="evil.example.org").code == "bad_host"
    assert send(LIST, Origin="https://evil.example.org").code == "bad_origin"
    for method in ("GET", "DELETE", "PUT"):
        assert send(b"", method).status == 405
    deep: Any = 1
    for _ in range(12):
        deep = [deep]
    for body in (b"", b"{", b"\xff", b"[" * 100_000, {**LIST, "params": deep}):
        reply = send(body)
        assert (reply.status, reply.code) == (400, "bad_json")
    messages: list[Any] = [
        [],
        [LIST],
        1,
        {},
        {"jsonrpc": "2.0"},
        {**LIST, "method": "../../etc/passwd"},
        {**LIST, "id": None},
    ]
    for message in messages:
        reply = send(message)
        assert reply.status < 500, reply.body
        assert str(home) not in reply.body.decode()
    assert send(LIST).status == 200


def test_service_without_the_option_has_no_tools(made: Path) -> None:
    with serving(made) as client:
        assert client.send("POST", "/mcp", json.dumps(LIST), MCP_TYPE).status == 404
