"""The files of the page: their headers, and that nothing else can be read through them."""

import gzip
import re
from pathlib import Path

import pytest

from embedx.server.page_routes import FOLDER, TYPES
from embedx.server.tokens import Tokens, hash_token
from tests.helpers.service import Client, serving


def test_page_is_served_with_its_headers_and_not_sent_twice(client: Client) -> None:
    reply = client.get("/")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.body == (FOLDER / "index.html").read_bytes()
    policy = reply.headers["content-security-policy"]
    assert "script-src 'self'; " in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert reply.headers["permissions-policy"] == "microphone=(self), camera=(), geolocation=()"
    assert (reply.headers["cache-control"], reply.headers["x-content-type-options"]) == ("no-cache", "nosniff")
    assert reply.headers["cross-origin-opener-policy"] == "same-origin"
    again = client.get("/", **{"If-None-Match": reply.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_every_file_is_served_by_its_type_also_packed(client: Client, name: str) -> None:
    plain = client.get(f"/page/{name}")
    assert plain.body == (FOLDER / name).read_bytes()
    assert plain.headers["content-type"] == TYPES[Path(name).suffix]
    packed = client.get(f"/page/{name}", **{"Accept-Encoding": "gzip, br"})
    is_packed = packed.headers.get("content-encoding") == "gzip"
    assert (gzip.decompress(packed.body) if is_packed else packed.body) == plain.body
    assert len(packed.body) <= len(plain.body)


@pytest.mark.parametrize(
    "path", ["/page/", "/page/nosuch.js", "/page/..", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/index.html/x",
             "/page/.hidden.js", "/page/a%00.js", "/page/" + "a" * 300 + ".js", "/app.py"]
)  # fmt: skip
def test_nothing_else_is_a_file_of_the_page(client: Client, path: str) -> None:
    assert client.get(path).status == 404


def test_page_needs_no_token_but_everything_else_does(made: Path) -> None:
    with serving(made, tokens=Tokens(((hash_token("t" * 32), "read"),))) as client:
        assert client.get("/").status == client.get("/page/index.html").status == 200
        assert client.get("/v1/collections").status == client.get("/pages").status == 401


def test_page_asks_nothing_of_other_hosts() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert not re.search(r"""(src|href|from|import|url)\s*[=(]?\s*["']?(https?:)?//""", text), path.name
