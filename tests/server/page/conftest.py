"""Fixtures: Debian's Chromium through Playwright, and pages that must stay silent and at home."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pages import PATIENCE_MS

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
)  # fmt: skip


def problem_of(message: Any) -> list[str]:
    """Return the text of an error in the console, in a list; after 429 the page waits and asks again."""
    is_error = message.type == "error" and "429" not in message.text
    return [f"{message.text} {message.location['url']}"] if is_error else []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for the tests of a module; its event loop must not outlive them."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip("there is no /usr/bin/chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens an address of a server; at the end nothing was printed and no other host asked."""
    contexts: list[Any] = []
    problems: list[str] = []

    def open_address(port: int, address: str = "", quiet: bool = True, **options: Any) -> Any:
        home = f"http://127.0.0.1:{port}/"
        options = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB"} | options
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        if quiet:
            page.on("console", lambda message: problems.extend(problem_of(message)))
        page.on(
            "request", lambda request: problems.extend([request.url] * (not request.url.startswith((home, "blob:"))))
        )
        page.goto(home + address)
        return page

    yield open_address
    for context in contexts:
        context.close()
    assert problems == []
