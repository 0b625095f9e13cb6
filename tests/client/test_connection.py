"""Addresses, tokens and other servers; a collection that changes or is damaged; `embedx search` with a URL."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import embedx
from embedx.client.connection import Connection
from embedx.errors import DiskError, LockedError, StoreError, UsageError
from embedx.server.tokens import read_tokens
from tests.helpers.commands import Capture, outcome
from tests.helpers.service import serving


@pytest.fixture(scope="module")
def url(made: Path) -> Iterator[str]:
    with serving(made) as client:
        yield f"http://127.0.0.1:{client.port}/made"


@contextlib.contextmanager
def other_server(status: int, body: bytes) -> Iterator[str]:
    """A server that is not embedx."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/field"
        server.shutdown()
        thread.join(60)


def test_wrong_addresses_are_refused(url: str) -> None:
    wrong = ["field", "ftp://127.0.0.1/x", "http:///x", "http://127.0.0.1:1", "http://127.0.0.1:x/y", "http://[::1/x"]
    wrong += [
        "http://me:secret@127.0.0.1:1/x",
        "http://127.0.0.1:1/x?y",
        "http://a..b/x",
        url.replace("made", "nosuch"),
    ]
    for address in (*wrong, url + "%2F..%2Fother"):
        with pytest.raises(UsageError):
            embedx.connect(address)
    for token in ("a b", "ä", "x\r\nHost: y"):
        with pytest.raises(UsageError, match="token is not valid"):
            embedx.connect(url, token=token)
    with pytest.raises(DiskError, match="cannot be reached"):
        embedx.connect("http://127.0.0.1:1/made")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"views": [{}]}'),
        (200, b"\xff"),
        (302, b""),
        (404, b"not here"),
        (500, b'{"error": "x"}'),
        (204, b""),
    ],
)
def test_other_servers_are_noticed(status: int, body: bytes) -> None:
    with other_server(status, body) as address, pytest.raises(DiskError, match=r"not .*as .*embedx"):
        embedx.connect(address)


def test_token_is_sent_and_damage_has_the_class_of_a_local_collection(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    (tmp_path / "tokens").write_text("read:" + "t" * 32)
    with serving(tmp_path / "made", allow_labels=True, tokens=read_tokens(tmp_path / "tokens")) as client:
        remote = embedx.connect(f"http://127.0.0.1:{client.port}/made", token="t" * 32)
        assert remote.audio(5)[:4] == b"RIFF"
        with pytest.raises(UsageError, match="may only read"):
            remote.label(set={"label": "x"})
        with pytest.raises(UsageError, match="token"):
            embedx.connect(remote.url)
        (tmp_path / "made" / "store.db").unlink()
        for call in (lambda: len(remote), remote.rows, remote.heads, lambda: remote.search(id=5)):
            with pytest.raises(StoreError):
                call()


class Changing(Connection):
    """A connection to a collection that changes after each of the first pages."""

    changes = 0

    def get(self, path: str = "", **fields: Any) -> dict[str, Any]:
        self.changes -= 1
        return {
            "rows": [fields["after"]],
            "next": 0 if fields["after"] else None,
            "revision": max(0, self.changes),
            "generation": 1,
        }


def test_pages_are_of_one_state() -> None:
    connection = Changing("http://127.0.0.1:1/x", None, 1.0)
    connection.changes = 4
    assert [page["revision"] for page in connection.pages("/rows")] == [0, 0]
    connection.changes = 1000
    with pytest.raises(LockedError):
        connection.pages("/rows")


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "audacity", "raven"])
def test_command_searches_a_service_as_a_folder(
    form: str, made: Path, url: str, capsys: Capture, collection: embedx.Collection
) -> None:
    query = str(collection.rows()["path"].loc[5])
    options = ("--format", form, "-k", "3")
    searches = [(query, "--columns", "source"), ("--id", "5", "--where", "label = 'clock'"), (query, "--align")]
    for arguments in (*searches, ("--queries", query), ("--id", "5", "--merge"), ("--like", "5", "--unlike", "9")):
        local, remote = (outcome(capsys, "search", place, *arguments, *options) for place in (made, url))
        assert form == "audacity" or local[0] == 0  # a label track is about one recording
        root = f"{collection.root}/"  # the paths of a service are relative in every format
        assert tuple(str(part).replace(root, "") for part in remote) == tuple(str(p).replace(root, "") for p in local)


def test_command_writes_parquet_and_clips_of_a_service(made: Path, url: str, tmp_path: Path, capsys: Capture) -> None:
    clips = [tmp_path / "here", tmp_path / "there"]
    for place, target in zip((made, url), clips, strict=True):
        out = target.with_suffix(".parquet")
        options = ("--format", "parquet", "--output", out, "--save-clips", target)
        code = outcome(capsys, "search", place, "--id", "5", "-k", "3", *options)[0]
        assert (code, out.read_bytes()[:4]) == (0, b"PAR1")
    here, there = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in clips)
    assert here == there
    assert len(here) == 3


def test_command_has_the_exit_codes_of_a_folder(url: str, capsys: Capture) -> None:
    assert outcome(capsys, "search", url, "--id", "999")[0] == 2
    assert outcome(capsys, "search", url, "nosuch.wav")[0] == 2
    assert outcome(capsys, "search", url, "--text", "a dog")[0] == 7
    assert outcome(capsys, "search", "http://127.0.0.1:1/made", "--id", "5")[0] == 6
    code, _, words = outcome(capsys, "search", url, "--id", "5", "--model", "x")
    assert (code, "--model" in words) == (2, True)
