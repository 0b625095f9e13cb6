"""The page and its server: a token that is valid once, a server that is busy or away, and places in long recordings."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedx
from embedx.server.tokens import OneTimeToken, Tokens, hash_token
from tests.helpers.pages import until, until_here
from tests.helpers.service import Client, serving

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # pipes of the browser's driver
Open = Callable[..., Any]
CARDS = ".card:not(.waiting)"
LONG_S, RATE, CLICK_S = 620, 8000, 600.0


def test_token_is_gone_from_the_address_and_other_pages_are_refused(made: Path, open_page: Open) -> None:
    once = "o" * 32
    with serving(made, tokens=Tokens(((hash_token("t" * 32), "label"),), OneTimeToken(once))) as closed:
        page = open_page(closed.port, f"#token={once}")
        page.wait_for_selector(CARDS)
        assert once not in page.url
        assert page.evaluate("document.cookie") == ""  # scripts cannot read it
        assert closed.get("/v1/collections").status == 401
        (cookie,) = page.context.cookies()
        body, kind = "{}", {"Content-Type": "application/json", "Cookie": f"{cookie['name']}={cookie['value']}"}
        answers = {
            origin: closed.send("POST", "/v1/collections/made/count", body, kind | {"Origin": origin}).status
            for origin in (f"http://127.0.0.1:{closed.port}", "http://evil.example")
        }
        assert list(answers.values()) == [200, 403]
        times: list[float] = []

        def refuse_once(route: Any) -> None:
            times.append(time.monotonic())
            busy = {"error": {"code": "busy", "message": "busy"}}
            if len(times) == 1:
                route.fulfill(status=429, headers={"Retry-After": "2"}, json=busy)
            else:
                route.continue_()

        page.route("**/search", refuse_once)
        page.evaluate("location.hash = '#made/find?id=3'")
        page.wait_for_selector(f"{CARDS} .score:not(:empty)")
        assert times[1] - times[0] >= 2  # it waits as it was told
        page.goto("about:blank")  # before the server, with its stream of events, ends


def test_events_are_asked_for_rarely_while_the_server_is_away_and_go_on_after_it(made: Path, open_page: Open) -> None:
    with serving(made) as first:
        port = first.port
        page = open_page(port, "#made/about", quiet=False)
        page.wait_for_selector(".recipe pre")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
    page.wait_for_selector(".banner:visible")  # the stream of events tells it, without any other request
    page.wait_for_timeout(4000)
    assert len([url for url in asked if "/events" in url]) <= 2
    assert len(asked) <= 5
    with serving(made, port=port):
        page.wait_for_selector(".banner", state="hidden")
        before = len(asked)
        until_here(page, lambda: any("/events" in url for url in asked[before:]))
        page.goto("about:blank")


@pytest.mark.parametrize("kind", ["wav", "mp3"])
def test_moment_after_ten_minutes_sounds_where_the_playhead_is(kind: str, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.001, LONG_S * RATE)
    place = int(CLICK_S * RATE)
    samples[place : place + 40] = 0.8 * (-1.0) ** np.arange(40)
    soundfile.write(tmp_path / f"long.{kind}", samples, RATE)
    embedx.extract(tmp_path / f"long.{kind}", out=tmp_path / "long", window=60.0).close()
    with serving(tmp_path / "long") as client:
        row = client.get("/v1/collections/long/rows/1").json["row"]
        for start in (CLICK_S - 29.5, CLICK_S - 4.2, CLICK_S - 0.5):
            path = f"/v1/collections/long/recordings/{row['recording']}/audio?start_s={start}&end_s={start + 30}"
            played, rate = soundfile.read(io.BytesIO(client.get(f"{path}&format=wav").body))
            assert abs(np.abs(played).argmax() / rate - (CLICK_S - start)) < 0.02
            assert abs(len(played) / rate - min(30, LONG_S - start)) < 0.02  # the next piece begins at its end


def test_long_wait_at_the_start_is_said(client: Client, open_page: Open) -> None:
    page = open_page(client.port)
    held: list[Any] = []
    page.route("**/v1/collections", lambda route: held.append(route))
    page.reload()
    until(page, "() => document.querySelector('main .message')?.textContent.includes('being opened')")
    until_here(page, lambda: held)
    held[0].continue_()
    page.wait_for_selector(CARDS)
    assert page.locator(".message").count() == 0


@pytest.mark.parametrize(("keys", "seen"), [("?", "dialog[open]"), ("gl", ".labelling")])
def test_page_works_again_after_some_of_its_files_did_not_come(
    keys: str, seen: str, client: Client, open_page: Open
) -> None:
    page = open_page(client.port, quiet=False)
    page.wait_for_selector(CARDS)
    page.context.set_offline(True)
    page.keyboard.type(keys)
    page.wait_for_selector(".banner:visible")  # it is said
    until(page, "() => performance.now() > 5000")  # a page that is younger is not loaded again
    with page.expect_navigation():
        page.context.set_offline(False)
    page.wait_for_selector(".state .rows")
    page.keyboard.type(keys)
    page.wait_for_selector(seen)
