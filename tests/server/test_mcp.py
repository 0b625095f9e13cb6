"""The MCP server, with the client of the SDK: one process at the standard streams for all tests that need one."""

import asyncio
import base64
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import CallToolResult

import embedx
from embedx.server.mcp_server import Handlers, make_server
from embedx.server.mcp_tools import Tools
from embedx.server.metrics import Metrics
from embedx.server.service import Service
from embedx.server.settings import Settings
from tests.helpers.agents import Agent, at_command, links, text
from tests.helpers.commands import COMMAND, Capture, outcome

WRITING = {"cut_clip", "label_rows"}
READING = {"describe_collection", "search_sounds", "similar_to", "predict"}


@pytest.fixture(scope="module")
def home(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the collection with a head, and a folder `files` with a query, links and other traps."""
    home = tmp_path_factory.mktemp("mcp")
    shutil.copytree(made, home / "made")
    with embedx.open(home / "made") as collection:
        collection.fit_head("label", name="live", kind="prototype")
        recording = Path(collection.rows()["path"].loc[5])
    (home / "files" / "below").mkdir(parents=True)
    for copy in (home / "files/below/query.wav", home / "secret.wav", home / "files-too.wav"):
        shutil.copy(recording, copy)
    (home / "files" / "link.wav").symlink_to(home / "secret.wav")
    (home / "files" / "out").symlink_to(home)
    (home / "files" / "text.wav").write_text("no audio")
    os.mkfifo(home / "files" / "pipe.wav")
    return home


@pytest.fixture(scope="module")
def agent(home: Path) -> Iterator[Agent]:
    options = ["--files", "files", "--clips", "clips", "--allow-labels"]
    arguments = [*COMMAND[1:], "mcp", "made", *options]
    server = StdioServerParameters(command=COMMAND[0], args=arguments, env=dict(os.environ), cwd=home)
    agent = at_command(server, home / "log.txt")
    yield agent
    agent.close()
    assert (home / "log.txt").read_text() == ""


def test_tools_are_listed_with_their_rights(agent: Agent) -> None:
    tools = {tool.name: tool for tool in agent.wait(agent.client.list_tools()).tools}
    assert tools.keys() == READING | WRITING
    assert {name for name, tool in tools.items() if not tool.annotations.read_only_hint} == WRITING


def test_description_has_columns_and_heads_in_words_and_values(agent: Agent, home: Path) -> None:
    result = agent.call("describe_collection")
    facts = result.structured_content
    with embedx.open(home / "made") as collection:
        assert facts["rows"] == len(collection)
    assert [head["name"] for head in facts["heads"]] == ["live"]
    assert f"{facts['rows']} rows" in text(result)
    assert "| label | text |" in text(result)


def test_search_equals_that_of_the_collection(agent: Agent, home: Path) -> None:
    result = agent.call("search_sounds", id=5, limit=4, filter="label IS NOT NULL")
    hits = result.structured_content["hits"]
    with embedx.open(home / "made") as collection:
        own = collection.search(id=5, k=4, where="label IS NOT NULL")
        examples = collection.search(like=[5, 6], unlike=[1], k=3)
    assert [(hit["id"], hit["path"] in text(result)) for hit in hits] == [(hit.id, True) for hit in own]
    found = agent.value("similar_to", like=[5, 6], unlike=[1], limit=3)["hits"]
    assert [hit["id"] for hit in found] == [hit.id for hit in examples]


def test_link_of_a_hit_leads_to_its_audio(agent: Agent, home: Path) -> None:
    result = agent.call("search_sounds", id=5, limit=2)
    link = links(result)[0]
    assert len(links(result)) == 2
    (content,) = agent.wait(agent.client.read_resource(link.uri)).contents
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content.blob)))
    hit = result.structured_content["hits"][0]
    assert len(samples) / rate == pytest.approx(hit["end_s"] - hit["start_s"], abs=0.01)
    for uri in ("embedx://made/rows/999999/audio", "embedx://other/rows/1/audio", "file:///etc/passwd"):
        with pytest.raises(MCPError) as caught:
            agent.wait(agent.client.read_resource(uri))
        assert str(home) not in str(caught.value)


def test_file_inside_the_folder_is_searched_and_predicted(agent: Agent, home: Path) -> None:
    for name in ("below/query.wav", "./below//query.wav", str(home / "files/below/query.wav")):
        assert agent.value("search_sounds", file=name, limit=1)["hits"][0]["id"] == 5
    assert agent.value("search_sounds", file="below/query.wav", start_s=0, end_s=0.5)["hits"]
    predictions = agent.value("predict", file="below/query.wav", k=2)["predictions"]
    assert [len(one["top"]) for one in predictions] == [2] * len(predictions)


@pytest.mark.parametrize(
    "name",
    [
        "link.wav", "out/secret.wav", "../secret.wav", "below/../../secret.wav", "../files-too.wav", "/etc/passwd", "",
        ".", "below", "pipe.wav", "nosuch.wav", "text.wav", "below/query.wav\0", "file:///etc/passwd", "data:,x",
    ],
)  # fmt: skip
def test_file_outside_the_folder_or_behind_a_link_is_refused_without_paths(agent: Agent, home: Path, name: str) -> None:
    for tool in ("search_sounds", "predict"):
        words = agent.error(tool, file=name)
        assert str(home) not in words
        assert "Traceback" not in words
    assert (home / "secret.wav").exists()


def test_clip_is_written_into_the_folder_only(agent: Agent, home: Path) -> None:
    before = set(home.rglob("*"))
    result = agent.call("cut_clip", id=5, context_s=0.1)
    facts = result.structured_content
    clip = home / "clips" / facts["file"]
    assert set(home.rglob("*")) - before == {clip}
    assert soundfile.info(clip).duration == pytest.approx(facts["seconds"])
    assert links(result)[0].uri == clip.as_uri()
    clip.unlink()
    clip.symlink_to(home / "secret.wav")
    secret = (home / "secret.wav").read_bytes()
    agent.value("cut_clip", id=5, context_s=0.1)
    assert (home / "secret.wav").read_bytes() == secret
    assert not clip.is_symlink()


def test_labels_are_set_in_one_change(agent: Agent, home: Path) -> None:
    edits = [{"id": 1, "column": "label", "value": "owl"}, {"id": 2, "column": "seen_by", "value": "agent"}]
    answer = agent.value("label_rows", edits=edits)
    with embedx.open(home / "made") as collection:
        assert collection.store.rows([1])[0].label == "owl"
        assert collection.store.rows([2])[0].meta["seen_by"] == "agent"
        assert answer["revision"] == collection.store.revision
    assert agent.value("search_sounds", id=2, filter="label = 'owl'")["hits"][0]["id"] == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("search_sounds", {}, "Give exactly one of id, text and file."),
        ("search_sounds", {"id": 1, "text": "owl"}, "Give exactly one of id, text and file."),
        ("search_sounds", {"id": 10**9}, "There is no row 1000000000"),
        ("search_sounds", {"id": 1, "filter": "nosuch = 1"}, "nosuch"),
        ("search_sounds", {"id": 1, "filter": "1; DROP TABLE rows"}, "filter"),
        ("search_sounds", {"id": 1, "limit": 10**6}, "limit"),
        ("search_sounds", {"id": 1, "vew": "L0.mean"}, "vew"),
        ("search_sounds", {"id": 1, "view": "L99.mean"}, "L99.mean"),
        ("search_sounds", {"id": 1, "collection": "other"}, "Give one of: made."),
        ("search_sounds", {"text": "an owl"}, "text"),
        ("similar_to", {"like": []}, "like"),
        ("predict", {"ids": [1], "head": "nosuch"}, "nosuch"),
        ("predict", {"ids": []}, "empty"),
        ("cut_clip", {"id": 10**9}, "There is no row"),
        ("cut_clip", {"id": 1, "context_s": 1e9}, "context_s"),
        ("label_rows", {"edits": [{"id": 1, "column": "path", "value": "x"}]}, "path"),
        ("label_rows", {"edits": [{"id": 10**9, "column": "label", "value": "x"}]}, "1000000000"),
        ("delete_everything", {}, "The tools: describe_collection"),
    ],
)
def test_mistake_is_an_error_in_words(
    agent: Agent, home: Path, tool: str, arguments: dict[str, Any], words: str
) -> None:
    message = agent.error(tool, **arguments)
    assert words in message
    for hidden in (str(home), "Traceback", "pydantic", "openapi"):
        assert hidden not in message


def test_tools_that_write_need_their_option(home: Path) -> None:
    service = Service(Settings((home / "made",)), Metrics())

    async def ask() -> tuple[set[str], list[CallToolResult]]:
        async with Client(make_server(Handlers(Tools(service)))) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            edits = [{"id": 1, "column": "label", "value": "no"}]
            calls: list[tuple[str, dict[str, Any]]] = [
                ("label_rows", {"edits": edits}),
                ("cut_clip", {"id": 1}),
                ("predict", {"file": "below/query.wav"}),
            ]
            return names, [await client.call_tool(*call) for call in calls]

    try:
        names, results = asyncio.run(ask())
    finally:
        service.close()
    assert names == READING
    for result, option in zip(results, ("--allow-labels", "--clips", "--files"), strict=True):
        assert result.is_error
        assert option in text(result)


def test_missing_package_is_named_with_the_command_that_installs_it(
    made: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcome(capsys, "mcp", tmp_path / "nosuch")[0] == 2
    assert outcome(capsys, "mcp", made, "--files", tmp_path / "nosuch")[0] == 2
    monkeypatch.delitem(sys.modules, "embedx.server.mcp_server")
    monkeypatch.setitem(sys.modules, "mcp.server.lowlevel", None)
    code, _, words = outcome(capsys, "mcp", made)
    assert (code, "pip install 'embedx[mcp]'" in words) == (2, True)


@pytest.mark.long
def test_signal_ends_the_process_although_standard_input_is_open(made: Path) -> None:
    with subprocess.Popen([*COMMAND, "mcp", str(made)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
            process.stdin.flush()
            process.stdout.readline()  # it answers, so it handles signals
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM
        finally:
            process.kill()
