"""`embedx serve` as a process: killed under load, ended while it answers, under another user, and for a long time."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import embedx
from tests.helpers.amounts import fast_and_long
from tests.helpers.commands import COMMAND
from tests.helpers.processes import linux, wait_until
from tests.reliability.report import report

SEARCH = "/v1/collections/made/search"


@contextlib.contextmanager
def running(*arguments: object, command: list[str] = COMMAND) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the command at a free port with its log in a file, and return its process and port."""
    log = Path(str(arguments[0])).parent / f"log{time.monotonic_ns()}"
    with open(log, "wb") as file:
        process = subprocess.Popen([*command, "serve", *map(str, arguments), "--port", "0"], stderr=file)
    try:
        wait_until(lambda: " at http://" in log.read_text() or process.poll() is not None)
        match = re.search(r" at http://\S+:(\d+)\. ", log.read_text())
        assert match, log.read_text()
        yield process, int(match[1])
    finally:
        process.kill()
        process.wait()


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send a request, and return the status and the JSON of its answer."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@fast_and_long("kills", fast=1, long=6, variable="EMBEDX_SERVICE_KILLS")
def test_killed_service_has_lost_no_label_that_it_has_acknowledged(made: Path, tmp_path: Path, kills: int) -> None:
    folder = tmp_path / "made"
    shutil.copytree(made, folder)
    acknowledged: dict[int, str] = {}
    begun = time.monotonic()
    for turn in range(kills):
        with running(folder, "--allow-labels") as (process, port):

            def label(first: int, port: int = port, turn: int = turn) -> None:
                for number in range(first, 10_000, 3):
                    row, value = 1 + number % 40, f"{turn}-{number}"
                    edits = {"edits": [{"id": row, "column": "label", "value": value}]}
                    try:
                        status, answer = ask(port, "POST", "/v1/collections/made/labels", edits)
                    except (OSError, http.client.HTTPException):
                        return
                    if status == 200:
                        acknowledged[row] = max(acknowledged.get(row, ""), f"{answer['revision']:09d} {value}")

            threads = [threading.Thread(target=label, args=(first,)) for first in range(3)]
            before = len(acknowledged) if not turn else 0
            for thread in threads:
                thread.start()
            wait_until(lambda before=before: len(acknowledged) > before + 8)  # type: ignore[misc]
            process.kill()
            for thread in threads:
                thread.join()
        with embedx.open(folder) as collection:
            assert not collection.verify().found
            labels = collection.rows()["label"].to_dict()
            revisions = {change.number for change in collection.label_log()}
        for row, text in acknowledged.items():
            revision, value = text.split(" ")
            stored_turn, _, stored_number = str(labels[row]).partition("-")
            assert int(revision) in revisions
            # a change that was not acknowledged may have come after it; an older one may not
            assert (int(stored_turn), int(stored_number)) >= tuple(map(int, value.split("-"))) or labels[row] == value
    report("service: kill -9 while labels are set", kills, 0, begun)


def test_signal_lets_running_requests_finish_and_takes_no_new_ones(made: Path) -> None:
    body = json.dumps({"id": 1}).encode()
    head = f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with running(made) as (process, port), socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        ask(port, "POST", SEARCH, {"id": 1})  # opens the collection
        connection.sendall(f"{head}\r\n\r\n".encode() + body[:3])
        assert ask(port, "GET", "/livez")[0] == 200  # the head of the first request was read before this one
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(port))
        connection.sendall(body[3:])
        assert b" 200 " in connection.recv(65536)[:20]
        assert process.wait(60) == 128 + signal.SIGTERM
        assert time.monotonic() - begun < 10


def is_refused(port: int) -> bool:
    """Tell whether a port takes no more connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except OSError:
        return True
    return False


@linux
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_service_of_a_user_who_may_not_write_answers_and_writes_nothing(made: Path) -> None:
    folder = Path("/var/tmp") / f"embedx-{os.getpid()}"  # a folder that other users can enter
    shutil.copytree(made, folder / "made")
    shutil.rmtree(folder / "made/index", ignore_errors=True)
    folder.chmod(0o755)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "made" in str(path)}
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    if subprocess.run([*user, sys.executable, "-c", "import embedx"], capture_output=True).returncode:
        pytest.skip("another user cannot run this Python")
    try:
        with running(folder / "made", command=[*user, *COMMAND]) as (process, port):
            assert f"Uid:\t{65534}\t" in Path(f"/proc/{process.pid}/status").read_text()
            assert ask(port, "POST", SEARCH, {"id": 1})[0] == 200
            assert ask(port, "GET", "/v1/collections/made/rows")[0] == 200
            assert ask(port, "POST", SEARCH, {"id": 1, "filter": "id > 3"})[0] == 200
        after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "/made" in str(path)}
        assert {path for path in after if path not in before or after[path] != before[path]} == set()
    finally:
        shutil.rmtree(folder)


def resident(pid: int) -> float:
    """Return the memory of a process in MB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


@linux
@pytest.mark.long
@pytest.mark.parametrize("count", [int(os.environ.get("EMBEDX_SERVICE_REQUESTS", "2000"))])
def test_memory_does_not_grow_with_the_number_of_requests(made: Path, count: int) -> None:
    with (
        running(made) as (process, port),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection,
    ):

        def send(requests: int) -> None:
            for number in range(requests):
                kinds = (
                    {"id": 1 + number % 40},
                    {"id": 1, "filter": f"id > {number % 30}"},
                    {"id": 10**9},
                    {"bad": number},
                )
                body = json.dumps(kinds[number % 4])
                connection.request("POST", SEARCH, body, {"Content-Type": "application/json"})
                assert connection.getresponse().read()

        send(200)
        begun = time.monotonic()
        before = resident(process.pid)
        send(count)
        growth = resident(process.pid) - before
        report(f"service: requests, with {growth:.1f} MB more memory at the end", count, 0, begun)
        assert growth < 24  # 20 000 requests that each keep 2 kB would be 40 MB
