"""What the gate refuses: hosts, tokens, large and slow bodies, too many requests, requests that take too long."""

import contextlib
import http.client
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from embedx.errors import UsageError
from embedx.server.settings import Limits
from embedx.server.tokens import read_tokens
from tests.helpers.processes import wait_until
from tests.helpers.service import JSON_TYPE, Client, serving

SEARCH = "/v1/collections/made/search"
READ, LABEL = "r" * 32, "l" * 32


def head_of(length: int) -> bytes:
    """Return the head of a search with a body of this length."""
    lines = f"POST {SEARCH} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {length}"
    return "\r\n".join([*lines, "", ""]).encode()


def answer_of(connection: socket.socket) -> bytes:
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "a b", "user@localhost"]
)
def test_other_hosts_are_refused(client: Client, host: str) -> None:
    reply = client.get("/v1/collections", Host=host)
    assert (reply.status, reply.code) == (403, "bad_host")


def test_hosts_that_were_given_are_allowed(made: Path, client: Client) -> None:
    assert client.get("/v1/collections", Host="localhost:1").status == 200
    assert client.get("/v1/collections", Host="[::1]:1").status == 200
    with serving(made, hosts=("audio.example.org",)) as named:
        assert named.get("/v1/collections", Host="Audio.example.org:443").status == 200
        assert named.get("/v1/collections", Host="evil.example").status == 403


def test_pages_of_other_origins_are_refused(made: Path, client: Client) -> None:
    assert client.get("/v1/collections", Origin="https://evil.example").code == "bad_origin"
    assert client.get("/v1/collections", Origin="null").code == "bad_origin"
    own = client.get("/v1/collections", Origin=f"http://127.0.0.1:{client.port}")
    assert own.status == 200
    assert "access-control-allow-origin" not in own.headers
    with serving(made, cors=("https://good.example",)) as open_to:
        reply = open_to.get("/v1/collections", Origin="https://good.example")
        assert reply.headers["access-control-allow-origin"] == "https://good.example"
        asked = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
        assert open_to.send("OPTIONS", SEARCH, headers=asked).status == 204
        assert open_to.send("OPTIONS", SEARCH, headers=asked | {"Origin": "https://x.example"}).status == 403


def test_every_answer_has_the_security_headers(client: Client) -> None:
    for reply in (client.get("/livez"), client.get("/nosuch"), client.get("/v1/collections", Host="evil")):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "server" not in reply.headers


def test_tokens_guard_everything_but_the_probes(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tokens").write_text(f"# clients\nread:{READ}\n\nlabel: {LABEL}\n")
    tokens = read_tokens(tmp_path / "tokens")
    with caplog.at_level("INFO"), serving(made, tokens=tokens) as client:
        assert client.get("/livez").status == 200
        assert client.get("/readyz").status == 200
        for path in ("/v1/collections", "/metrics", "/docs", "/openapi.json", "/nosuch"):
            reply = client.get(path)
            assert (reply.status, reply.code) == (401, "no_token")
            assert reply.headers["www-authenticate"] == "Bearer"
        for wrong in (
            "Bearer x",
            f"Basic {READ}",
            f"Bearer {READ}x",
            "Bearer",
            f"Bearer {READ[:-1]}",
            READ,
            "Bearer \xe9",
        ):
            assert client.get("/v1/collections", Authorization=wrong).status == 401
        for right in (READ, LABEL):
            assert client.get("/v1/collections", Authorization=f"Bearer {right}").status == 200
    assert READ not in repr(tokens)
    assert READ not in caplog.text


@pytest.mark.parametrize("text", ["", "# none", READ, "write:" + READ, "read:short", "read:has a space in the token"])
def test_bad_token_files_are_refused_without_showing_tokens(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(UsageError) as error:
        read_tokens(tmp_path / "tokens")
    assert READ not in str(error.value)


def test_large_bodies_are_refused_before_they_are_read(made: Path) -> None:
    with serving(made, limits=Limits(body=1000)) as client:
        assert client.post(SEARCH, {"id": 1, "filter": "id" + " " * 2000}).code == "body_too_large"
        for head in (b"Content-Length: 1500000000", b"Content-Length: " + b"9" * 30):
            connection = client.open()
            connection.sendall(b"POST " + SEARCH.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n")
            assert connection.recv(65536)[9:12] in (b"413", b"400")  # 30 digits are not valid HTTP
            connection.close()
        chunked = client.open()
        chunked.sendall(
            b"POST " + SEARCH.encode() + b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"1f4\r\n" + b"x" * 500 + b"\r\n") * 3
        )  # fmt: skip
        assert b" 413 " in chunked.recv(65536)[:20]
        chunked.close()
        without = client.open()
        without.sendall(b"POST " + SEARCH.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 411 " in without.recv(65536)[:20]
        without.close()
        assert client.post(SEARCH, {"id": 1}).status == 200


def test_slow_clients_take_no_place_and_are_cut(made: Path) -> None:
    limits = Limits(read_s=1.5, header_s=1.0, in_flight=4, per_client=4)
    with serving(made, limits=limits) as client:
        head = head_of(99)
        slow = [client.open() for _ in range(30)]
        silent = [client.open() for _ in range(10)]
        for connection in slow:
            connection.sendall(head + b"{")
        for connection in silent:
            connection.sendall(b"GET /livez HT")
        for _ in range(5):
            assert client.post(SEARCH, {"id": 1}).status == 200
        for connection in slow:
            assert b" 408 " in answer_of(connection)[:20]
        for connection in silent:
            assert answer_of(connection) == b""
        gate = client.service
        assert gate.threads.light._work_queue.qsize() == 0


def test_bodies_in_memory_are_bounded(made: Path) -> None:
    with serving(made, limits=Limits(all_bodies=1000, read_s=5.0)) as client:
        connection = client.open()
        head = head_of(990)
        connection.sendall(head + b"x" * 980)
        wait_until(lambda: client.post(SEARCH, {"id": 1, "filter": "id > 0 and id > 1"}).status == 503)
        connection.close()  # what it has sent is forgotten
        wait_until(lambda: client.post(SEARCH, {"id": 1, "filter": "id > 0 and id > 1"}).status == 200)


def test_connections_that_stay_open_take_no_more_places_than_there_are(made: Path) -> None:
    with serving(made, limits=Limits(per_client=2)) as client:
        statuses: list[int] = []

        def ask() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
            with contextlib.closing(connection):
                for number in range(60):
                    connection.request("POST", SEARCH, json.dumps({"id": 1 + number % 9}), JSON_TYPE)
                    answer = connection.getresponse()
                    answer.read()
                    statuses.append(answer.status)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 120


def test_json_with_too_many_values_is_refused_before_it_is_read(client: Client) -> None:
    for text in ("[" + "0," * 1_000_000 + "0]", "[[" + "],[" * 600_000 + "]]", "[" + '{"a":0},' * 500_000 + "0]"):
        reply = client.send("POST", SEARCH, '{"vector": ' + text + "}", JSON_TYPE)
        assert (reply.status, reply.code) == (400, "bad_json")


def busy(client: Client, started: threading.Event, end: threading.Event) -> None:
    """Keep all threads for searches at work."""

    def wait() -> None:
        started.set()
        end.wait(60)

    for _ in range(client.service.threads.light._max_workers):
        client.service.threads.light.submit(wait)


def test_overload_is_refused_at_once_and_the_deadline_ends_a_request(made: Path) -> None:
    limits = Limits(in_flight=3, per_client=2, request_s=2.0)
    started, end = threading.Event(), threading.Event()
    with serving(made, limits=limits) as client:
        busy(client, started, end)
        started.wait(60)
        replies: list[tuple[int, str]] = []

        def ask() -> None:
            reply = client.post(SEARCH, {"id": 1})
            replies.append((reply.status, reply.code))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        start = time.monotonic()
        third = client.post(SEARCH, {"id": 1})
        assert (third.status, third.code) == (429, "too_many_requests")
        assert time.monotonic() - start < 1.0
        assert int(third.headers["retry-after"]) > 0
        for thread in threads:
            thread.join()
        assert replies == [(503, "deadline")] * 2
        end.set()
        wait_until(lambda: client.post(SEARCH, {"id": 1}).status == 200)


def test_request_whose_client_has_gone_is_cancelled(made: Path) -> None:
    started, end = threading.Event(), threading.Event()
    with serving(made, limits=Limits(per_client=1)) as client:
        busy(client, started, end)
        body = json.dumps({"id": 1}).encode()
        head = head_of(len(body))
        connection = client.open()
        connection.sendall(head + body)
        wait_until(lambda: client.get("/v1/collections").status == 429)
        assert client.get("/livez").status == 200  # it needs no place
        connection.close()
        wait_until(lambda: client.get("/docs").status == 200)  # its place is free, although no thread was
        end.set()


def test_service_without_write_permission_answers(made: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "made"
    shutil.copytree(made, folder)
    shutil.rmtree(folder / "index")
    before = sorted(path.name for path in folder.rglob("*"))
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with serving(folder) as client:
            assert client.post(SEARCH, {"id": 1}).status == 200
            assert client.get("/v1/collections/made/rows").status == 200
        if os.geteuid():  # root may write everywhere
            assert sorted(path.name for path in folder.rglob("*")) == before
    finally:
        folder.chmod(0o755)
