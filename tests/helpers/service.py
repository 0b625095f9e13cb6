"""A real server in a thread of the test, and a client that can send anything."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedx.server.running import make_server
from embedx.server.service import Service
from embedx.server.settings import Settings

JSON_TYPE = {"Content-Type": "application/json"}


@dataclass
class Reply:
    """What the server has answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.json["error"]["code"])


@dataclass
class Client:
    """A client of a server; every request has a connection of its own."""

    port: int
    service: Service
    headers: dict[str, str] = field(default_factory=dict)
    sockets: list[socket.socket] = field(default_factory=list)

    def send(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            with contextlib.suppress(BrokenPipeError):  # the service may refuse a large body before all of it was sent
                connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, headers=headers)

    def post(self, path: str, value: Any) -> Reply:
        return self.send("POST", path, json.dumps(value), JSON_TYPE)

    def form(self, path: str, fields: Mapping[str, str], files: Mapping[str, bytes]) -> Reply:
        """Send multipart/form-data."""
        edge = "edge-of-parts"
        parts = [
            f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
            for name, text in fields.items()
        ]
        parts += [
            f'--{edge}\r\nContent-Disposition: form-data; name="{name}"; filename="../../etc/x.wav"\r\n\r\n'.encode()
            + data
            + b"\r\n"
            for name, data in files.items()
        ]
        body = b"".join(parts) + f"--{edge}--\r\n".encode()
        return self.send("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={edge}"})

    def open(self) -> socket.socket:
        """Return a connection that sends nothing by itself; it is closed with the server."""
        self.sockets.append(socket.create_connection(("127.0.0.1", self.port), timeout=60))
        return self.sockets[-1]


@contextlib.contextmanager
def serving(*folders: Path, **options: Any) -> Iterator[Client]:
    """Serve collections while the context lasts, at a free port if none is given."""
    settings = Settings(folders, **({"port": 0} | options))
    ready, addresses = threading.Event(), []

    def on_ready(url: str) -> None:
        addresses.append(url)
        ready.set()

    server, service = make_server(settings, on_ready)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert ready.wait(60)
        yield (client := Client(int(addresses[0].rpartition(":")[2]), service))
        for connection in client.sockets:
            connection.close()
    finally:
        server.should_exit = server.force_exit = True
        thread.join(60)
        service.close()
