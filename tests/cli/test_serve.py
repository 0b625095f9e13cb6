"""The command `serve`: it is ready without a model, ends in time, and refuses what is not safe."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.commands import COMMAND, Capture, outcome


@contextmanager
def running(*arguments: str) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Run the command at a free port, and return its process and URL."""
    process = subprocess.Popen(
        [*COMMAND, "serve", *arguments, "--port", "0"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        match = re.search(r"at (http://\S+?)\. ", line)
        assert match, line + process.stderr.read()
        yield process, match[1]
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def search(url: str) -> int:
    request = urllib.request.Request(
        f"{url}/v1/collections/made/search", json.dumps({"id": 5}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return len(json.load(answer)["hits"])


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_service_answers_without_torch_and_ends_at_a_signal(made: Path, number: signal.Signals) -> None:
    with running(str(made)) as (process, url):
        assert search(url) == 10
        if os.path.exists(f"/proc/{process.pid}/maps"):
            assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
        with urllib.request.urlopen(f"{url}/livez") as idle:  # a connection that stays open
            idle.read()
            start = time.monotonic()
            process.send_signal(number)
            assert process.wait(60) == 128 + number
            assert time.monotonic() - start < 10


def test_other_addresses_need_tokens(made: Path, capsys: Capture) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        code, _, text = outcome(capsys, "serve", made, "--host", host)
        assert code == 2
        assert "--token-file" in text


def test_bad_arguments_are_refused(made: Path, tmp_path: Path, capsys: Capture) -> None:
    assert outcome(capsys, "serve", tmp_path / "nosuch")[0] == 2
    assert outcome(capsys, "serve", made, made)[0] == 2
    assert outcome(capsys, "serve", made, "--token-file", tmp_path / "nosuch")[0] == 2
    with running(str(made)) as (_, url):
        command = [*COMMAND, "serve", str(made), "--port", url.rpartition(":")[2]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "Choose another --port" in done.stderr) == (6, True)


def test_missing_packages_are_named_with_the_command_that_installs_them(made: Path) -> None:
    code = "import sys; sys.modules['fastapi'] = None; from embedx.cli import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "serve", str(made)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'embedx[serve]'" in done.stderr
