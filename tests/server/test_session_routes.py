"""The session of a page: a token for a cookie, where the cookie is accepted, and where it is not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedx.server.tokens import OneTimeToken, Tokens, hash_token
from tests.helpers.service import JSON_TYPE, Client, Reply, serving

READ, LABEL, ONCE = "r" * 32, "l" * 32, "o" * 32
SESSION, SEARCH = "/v1/session", "/v1/collections/made/search"
TOKENS = Tokens(((hash_token(LABEL), "label"), (hash_token(READ), "read")), OneTimeToken(ONCE))


@pytest.fixture(scope="module")
def client(made: Path) -> Iterator[Client]:
    with serving(made, tokens=TOKENS, allow_labels=True) as running:
        yield running


def trade(client: Client, token: str) -> Reply:
    return client.post(SESSION, {"token": token})


def cookie_of(reply: Reply) -> str:
    assert reply.status == 204
    return reply.headers["set-cookie"].partition(";")[0]


def test_cookie_has_the_right_of_its_token_and_is_hidden_from_scripts(client: Client) -> None:
    assert client.get(SESSION).code == "no_token"
    for token, may_label in ((READ, False), (LABEL, True)):
        reply = trade(client, token)
        attributes = {part.strip().lower() for part in reply.headers["set-cookie"].split(";")[1:]}
        assert attributes == {"httponly", "samesite=strict"}
        assert token not in reply.headers["set-cookie"]
        assert client.get(SESSION, Cookie=f"a=b; {cookie_of(reply)}").json["may_label"] is may_label
        assert client.get("/v1/collections/made/rows/5/audio", Cookie=cookie_of(reply)).status == 200


@pytest.mark.parametrize("token", ["", "x", READ + "x", READ[:-1], 7, None])
def test_other_tokens_and_cookies_are_refused(client: Client, token: object) -> None:
    assert client.post(SESSION, {"token": token}).status in (400, 401)
    name = cookie_of(trade(client, READ)).partition("=")[0]
    for value in (str(token), READ, "", hash_token(READ).hex(), '"'):
        assert client.get("/v1/collections", Cookie=f"{name}={value}").status == 401


def test_post_with_the_cookie_needs_an_origin_that_is_ours(client: Client) -> None:
    cookie, body = cookie_of(trade(client, READ)), json.dumps({"id": 5})
    own = f"http://127.0.0.1:{client.port}"

    def post(**headers: str) -> Reply:
        return client.send("POST", SEARCH, body, JSON_TYPE | {"Cookie": cookie} | headers)

    assert post(Origin=own).status == 200
    assert post().code == "bad_origin"
    for foreign in ("http://127.0.0.1:1", "https://evil.example", "null", f"{own}.evil.example"):
        assert post(Origin=foreign).code == "bad_origin"
        assert client.get(SESSION, Cookie=cookie, Origin=foreign).code == "bad_origin"
        assert client.send("POST", SESSION, json.dumps({"token": READ}), JSON_TYPE | {"Origin": foreign}).status == 403
    assert post(Origin=own, Authorization="Bearer wrong").status == 401  # a token that is given counts


def test_one_time_token_is_traded_once(client: Client) -> None:
    assert client.get("/v1/collections", Authorization=f"Bearer {ONCE}").status == 401
    cookie = cookie_of(trade(client, ONCE))
    assert client.get(SESSION, Cookie=cookie).json["may_label"] is True
    assert trade(client, ONCE).status == 401
    assert client.get(SESSION, Cookie=cookie).status == 200


def test_cookie_is_valid_after_a_restart_at_the_same_host_and_deleted_on_request(made: Path, client: Client) -> None:
    cookie = cookie_of(trade(client, READ))
    with serving(made, tokens=TOKENS) as again:
        value = cookie.partition("=")[2]
        assert again.get(SESSION, Cookie=f"embedx-{again.port}={value}").status == 200
        assert again.get(SESSION, Cookie=f"embedx-{again.port + 1}={value}").status == 401
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Cookie": cookie}
    gone = client.send("DELETE", SESSION, headers=own)
    assert (gone.status, "Max-Age=0" in gone.headers["set-cookie"]) == (204, True)


def test_cookie_is_sent_over_https_only_where_the_page_came_over_it(made: Path) -> None:
    with serving(made, tokens=TOKENS, hosts=("audio.example.org",)) as named:
        headers = JSON_TYPE | {"Host": "audio.example.org", "Origin": "https://audio.example.org"}
        reply = named.send("POST", SESSION, json.dumps({"token": READ}), headers)
        assert "Secure" in reply.headers["set-cookie"]
        assert reply.headers["set-cookie"].startswith("embedx=")


def test_service_without_tokens_needs_no_session(made: Path) -> None:
    with serving(made) as open_to_all:
        assert open_to_all.get(SESSION).json == {"name": None, "may_label": False, "needs_token": False}
        assert trade(open_to_all, "anything").status == 204
