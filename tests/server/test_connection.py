"""What is no valid request gets an error in JSON or is ignored, and a connection reads the next request after it."""

import contextlib
import json
import re

import pytest

from embedx.server.connection import MAX_HEAD
from tests.helpers.service import Client

HOST = b"Host: localhost\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\n" + HOST
BODY = b'{"id": 5, "limit": 1}'
POST = b"POST /v1/collections/made/search HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
SEARCH = POST + b"Content-Length: %d\r\n" % len(BODY)
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def answers(client: Client, sent: bytes, count: int, size: int = 1 << 20) -> bytes:
    """Send bytes in parts of some size, and return what comes until there are so many answers, or the end."""
    connection = client.open()
    received = b""
    with contextlib.suppress(ConnectionError):  # the server does not read what follows an error
        for start in range(0, len(sent), size):
            connection.sendall(sent[start : start + size])
    with contextlib.suppress(ConnectionError):  # it has closed the connection after its answer
        while received.count(b"HTTP/1.1 ") < count or not received.endswith(b"}"):
            part = connection.recv(1 << 16)
            if not part:
                break
            received += part
    connection.close()
    return received


def statuses(received: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d+)", received)


@pytest.mark.parametrize("size", [1 << 20, 7])
@pytest.mark.parametrize(
    "sent",
    [
        (LIVEZ + UPGRADE + b"\r\n") * 2 + SEARCH + b"\r\n" + BODY,
        (SEARCH + UPGRADE + b"\r\n" + BODY) * 2 + LIVEZ + b"\r\n",
        CHUNKS + b"15\r\n" + BODY + b"\r\n0\r\nAuthorization: no\r\n\r\n" + SEARCH + b"\r\n" + BODY + LIVEZ + b"\r\n",
    ],
)
def test_requests_of_one_connection_are_all_answered(client: Client, sent: bytes, size: int) -> None:
    received = answers(client, sent, 3, size)
    assert statuses(received) == [b"200"] * 3
    assert received.count(b'"hits":[{') + received.count(b'{"status":"ok"}') == 3


@pytest.mark.parametrize(
    "sent",
    [
        LIVEZ + b"X: " + b"a" * 4 * MAX_HEAD,
        LIVEZ + b"X: a\r\n" * MAX_HEAD,
        b"GET /" + b"a" * 4 * MAX_HEAD,
        CHUNKS + b"15\r\n" + BODY + b"\r\n0\r\n" + b"X: a\r\n" * MAX_HEAD,
        CHUNKS + b"15;" + b"x" * 4 * MAX_HEAD,
        b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
        SEARCH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        SEARCH + b"Content-Length: 3\r\n\r\n" + BODY,
        b"GET /caf\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(client: Client, sent: bytes) -> None:
    head, _, body = answers(client, sent, 2).partition(b"\r\n\r\n")
    assert statuses(head) == [b"400"]
    assert json.loads(body)["error"]["code"] == "bad_request"
    for header in (b"content-type: application/json", b"x-content-type-options: nosniff", b"connection: close"):
        assert header in head.lower().split(b"\r\n")
    assert client.get("/livez").status == 200
