"""The commands and programs of docs/service.md, run against a service as they stand there."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import embedx
from embedx.server.settings import Limits
from tests.helpers.commands import Capture, outcome
from tests.helpers.paths import ROOT
from tests.helpers.service import Client, serving

TEXT = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    command.replace("\\\n", " ").partition(" # {")[0].strip()
    for language, block in BLOCKS
    if language == "console"
    for command in re.split(r"^\$ ", block, flags=re.MULTILINE)
]
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def home(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection `field` and the files that the examples name."""
    home = tmp_path_factory.mktemp("docs")
    shutil.copytree(made, home / "field")
    with embedx.open(made) as collection:
        recording = collection.rows()["path"].loc[5]
    for name in ("query.wav", "call.wav"):
        shutil.copy(recording, home / name)
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[Client]:
    with serving(home / "field", allow_labels=True, mcp=True) as client:
        yield client


def adapted(text: str, client: Client) -> str:
    """Return an example with the address of the test, and for the short recordings of the test."""
    text = text.replace(ADDRESS, f"http://127.0.0.1:{client.port}")
    return text.replace('"start_s": 2, "end_s": 5', '"start_s": 0.2, "end_s": 0.9').replace('{"revision": 4}', "{}")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_commands_with_curl_are_answered(client: Client, home: Path) -> None:
    commands = [command for command in COMMANDS if command.startswith("curl") and ADDRESS in command]
    assert len(commands) >= 8
    for command in commands:
        shown = ["bash", "-c", adapted(command, client).replace("curl", "curl -sS --fail-with-body", 1)]
        done = subprocess.run(shown, cwd=home, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert isinstance(json.loads(done.stdout), dict), command


def test_programs_run(client: Client, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    programs = [block for language, block in BLOCKS if language == "py"]
    assert len(programs) == 3
    for program in programs:
        exec(adapted(program, client), {"__name__": "example", "embedx": embedx})


def test_searches_of_the_command_line_run(
    client: Client, home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    commands = [command for command in COMMANDS if "embedx search http" in command]
    assert len(commands) == 2
    for command in commands:
        line = adapted(command.replace("https://audio.example.org", ADDRESS), client)
        words = shlex.split(line.partition("embedx ")[2])
        assert outcome(capsys, *words)[0] == 0, command


def test_configurations_are_valid_json_and_limits_are_the_defaults() -> None:
    for language, block in BLOCKS:
        if language == "json":
            json.loads(block)
    limits, words = Limits(), " ".join(TEXT.split())
    for value, unit in (
        (limits.body >> 20, "MB"), (limits.files, "files"), (limits.queries, "queries"), (limits.hits, "hits a query"),
        (limits.depth, "levels of JSON"), (limits.channels, "channels"), (limits.rate // 1000, "kHz"),
    ):  # fmt: skip
        assert f"{value} {unit}" in words
    assert "10 000 characters of filter" in words
