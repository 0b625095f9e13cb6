"""Servers for tests of remote files: a web server with faults, an S3 server, and a proxy with faults before it."""

import contextlib
import http.client
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedx
from embedx.audio import places
from embedx.audio.remote_copies import RemoteCopies
from tests.helpers.collections import content

WAIT_S = 60.0
KEYS = {
    "AWS_ACCESS_KEY_ID": "id-of-a-test",
    "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
Fault = str  # "500", "403", "404", "cut" (half of the body), "drop" (no answer), or "" for none


def wav_bytes(seed: int, samples: int = 4000) -> bytes:
    """Return half a second of noise at 8 kHz as WAV."""
    file = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)
    soundfile.write(file, noise, 8000, format="WAV")
    return file.getvalue()


class Faults:
    """The faults of a server: for each request whose method and path match, the next of a list.

    Attributes:
        seen: the method and path of every request.
    """

    def __init__(self) -> None:
        self.rules: list[tuple[str, list[Fault]]] = []
        self.seen: list[str] = []

    def add(self, pattern: str, *faults: Fault, always: Fault = "") -> None:
        """Give the next requests that match a pattern these faults, or with `always` all of them."""
        self.rules.append((pattern, [always] * 10_000 if always else list(faults)))

    def next(self, request: str) -> Fault:
        """Return the fault of a request."""
        self.seen.append(request)
        for pattern, faults in self.rules:
            if faults and re.search(pattern, request):
                return faults.pop(0)
        return ""

    def count(self, pattern: str) -> int:
        return sum(re.search(pattern, request) is not None for request in self.seen)


class Handler(BaseHTTPRequestHandler):
    """Answers with what `respond` of the server returns, after a fault."""

    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = server.faults.next(f"{self.command} {self.path}")
        if fault == "drop":
            self.close_connection = True
            return
        status, headers, data = (
            (int(fault), {}, b"") if fault.isdigit() else server.respond(self.command, self.path, self.headers, body)
        )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        self.close_connection = fault == "cut"

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - names of http.server

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


Respond = Callable[[str, str, Any, bytes], tuple[int, dict[str, str], bytes]]


@contextlib.contextmanager
def serve(respond: Respond) -> Iterator[tuple[str, Faults]]:
    """Run a web server; return its address and its faults."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.respond, server.faults = respond, Faults()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.faults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def web_server(files: dict[str, bytes]) -> Iterator[tuple[str, Faults]]:
    """Serve files by their paths, with ETag; the query of a request is not looked at."""

    def respond(method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        data = files.get(path.partition("?")[0])
        if data is None:
            return 404, {}, b""
        answer = {"ETag": f'"{md5(data).hexdigest()}"', "Last-Modified": formatdate(0, usegmt=True)}
        return 200, answer | {"Content-Length": str(len(data))}, data

    with serve(respond) as (address, faults):
        yield address, faults


@contextlib.contextmanager
def proxy(target: str) -> Iterator[tuple[str, Faults]]:
    """Pass requests on to another server of this machine."""
    host = target.removeprefix("http://")

    def respond(method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(host, timeout=WAIT_S)
        connection.request(method, path, body or None, dict(headers))
        answer = connection.getresponse()
        data = answer.read()
        left = ("transfer-encoding", "connection", "content-length" if method != "HEAD" else "")
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in left}
        connection.close()
        return answer.status, kept, data

    with serve(respond) as (address, faults):
        yield address, faults


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's S3 server as a process; return its address."""
    with module_server("moto.server", "-H", "127.0.0.1", "-p", env=os.environ | KEYS) as address:
        yield address


@contextlib.contextmanager
def module_server(*command: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a Python module as a server; its port is the last argument. Return its address."""
    with socket_port() as port:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env,
        )  # fmt: skip
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def socket_port() -> Iterator[int]:
    """Lend a port that is free."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        number: int = held.getsockname()[1]
    yield number


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        with contextlib.suppress(OSError):
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        connection.close()
        time.sleep(0.1)
    raise AssertionError("the S3 server did not start")


@contextlib.contextmanager
def no_copies() -> Iterator[None]:
    """Read remote recordings as a new process does, which has no copies of them."""
    copies = RemoteCopies()
    with contextlib.closing(copies), pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "COPIES", copies)
        yield


def assert_equals_files(collection: Path, files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder, embed them, and compare with a collection: each file has another name."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    embedx.extract(folder / "audio", out=folder / "local").close()
    local = {os.path.basename(path): vector for (path, _), vector in content(folder / "local").items()}
    for (path, _), vector in content(collection).items():
        assert (local[os.path.basename(path)] == vector).all()


def put(address: str, bucket: str, files: dict[str, bytes]) -> None:
    """Create a bucket of a moto server if it is new, and write objects to it."""
    for path, data in {"": b"", **files}.items():
        send(address, "PUT", f"/{bucket}" + (f"/{path}" if path else ""), data)


def send(address: str, method: str, path: str, data: bytes = b"") -> int:
    """Send a request to a moto server, and return the status of its answer."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=WAIT_S)
    signature = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}
    connection.request(method, path, data, signature)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def summary(output: str) -> dict[str, Any]:
    """Return the summary that a command printed with --json."""
    found: dict[str, Any] = json.loads(output)
    return found


def folder_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
