"""The page for everyone: what axe-core finds, reduced motion, names in other directions, and a slow network."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.server.page_routes import FOLDER
from tests.helpers.pages import until
from tests.helpers.service import Client, serving

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # pipes of the browser's driver
Open = Callable[..., Any]
NAMES = ("none", "label", "group", "split", "text")  # names of columns, and values, stay as they are
GRAVE = ("serious", "critical")
READY = {  # screen: what it has when it is done
    "find?id=3&row=4": ".inspector .near button",
    "map": ".legend li",
    "label": ".labelling .keys button >> nth=3",
    "about": ".recipe pre",
}


@pytest.fixture(scope="module")
def own(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of a copy of the collection `made`, with a head, which may be labelled."""
    folder = tmp_path_factory.mktemp("everyone") / "field"
    shutil.copytree(made, folder)
    with embedx.open(folder) as collection:
        collection.fit_head(kind="prototype", name="kinds", permutations=0)
    with serving(folder, allow_labels=True) as running:
        body = {"set": {"label": None}, "filter": "id % 3 <> 0"}  # rows to label
        assert running.post("/v1/collections/field/labels", body).status == 200
        yield running


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core."""
    package = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def faults(page: Any, axe: str) -> list[str]:
    """Return the serious and critical faults that axe-core finds; it must have looked at something."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document)")
    assert len(found["passes"]) > 20
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found["violations"]
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(("width", "scheme"), [(380, "dark"), (1280, "light")])
def test_axe_finds_nothing_serious_on_any_screen(
    own: Client, open_page: Open, axe: str, width: int, scheme: str
) -> None:
    page = open_page(own.port, viewport={"width": width, "height": 760}, color_scheme=scheme)
    page.wait_for_selector(".card:not(.waiting)")
    found = {"first visit": faults(page, axe)}
    for screen, ready in READY.items():
        page.evaluate("screen => { location.hash = `#field/${screen}`; }", screen)
        page.wait_for_selector(ready, state="attached")
        if screen.startswith("find") and width < 720:
            page.locator(".card").first.click(position={"x": 20, "y": 120})
            page.wait_for_selector(".inspector.open")
        found[screen] = faults(page, axe)
    page.keyboard.press("h")
    page.wait_for_selector("dialog[open] .keylist")
    found["keys"] = faults(page, axe)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Settings").click()
    page.wait_for_selector("dialog[open] .form")
    found["settings"] = faults(page, axe)
    assert {screen: some for screen, some in found.items() if some} == {}


def test_nothing_moves_by_itself_with_reduced_motion(own: Client, open_page: Open) -> None:
    page = open_page(own.port, reduced_motion="reduce")
    page.wait_for_selector(".card")
    moving = [page.evaluate("document.getAnimations().length")]
    for screen, ready in READY.items():
        page.evaluate("screen => { location.hash = `#field/${screen}`; }", screen)
        page.wait_for_selector(ready)
        moving.append(page.evaluate("document.getAnimations().length"))
    assert moving == [0] * 5
    page.evaluate("location.hash = '#field/find?id=3'")
    page.wait_for_selector(".card .score:not(:empty)")
    heads = (
        "new Set(Array.from(document.querySelectorAll('.card .playhead'), (one) => one.style.insetInlineStart)).size"
    )
    page.keyboard.press("Space")
    until(page, "() => import('./page/state.js').then(({state}) => state.playing !== null)")
    assert page.evaluate(heads) <= 2


WIDE = "document.documentElement.scrollWidth - innerWidth"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_zoom_of_400_percent_and_forced_colours_scroll_nothing_sideways(
    own: Client, open_page: Open, scheme: str
) -> None:
    zoomed = {"viewport": {"width": 320, "height": 256}, "device_scale_factor": 4}  # 1280 x 1024 at 400 %
    page = open_page(own.port, color_scheme=scheme, forced_colors="active", **zoomed)
    page.wait_for_selector(".card:not(.waiting)")
    too_wide = {"first visit": page.evaluate(WIDE)}
    for screen, ready in READY.items():
        page.evaluate("screen => { location.hash = `#field/${screen}`; }", screen)
        page.wait_for_selector(ready, state="attached")
        too_wide[screen] = page.evaluate(WIDE)
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        page.keyboard.press("Tab")
        assert page.evaluate(f"document.activeElement !== document.body && {outline}") != "none"
    assert {screen: pixels for screen, pixels in too_wide.items() if pixels > 0} == {}
    page.evaluate("location.hash = '#field/map'")
    page.wait_for_selector(".legend [aria-pressed]")
    lasso = page.locator(".tools [aria-pressed]")
    colour = "one => getComputedStyle(one).backgroundColor"
    before = lasso.evaluate(colour)
    lasso.click()
    assert lasso.evaluate(colour) != before  # what is on is seen without the colours of the page
    swatches = page.locator(".swatch").evaluate_all(f"all => all.map({colour})")
    assert len(set(swatches)) == len(swatches) > 1


def test_imported_vectors_say_what_they_lack_and_all_else_works(tmp_path: Path, open_page: Open) -> None:
    vectors = np.random.default_rng(5).normal(size=(60, 8)).astype(np.float32)
    names = ["owl", "fox", "\u0628\u0648\u0645"]
    facts = pd.DataFrame({"path": [f"a/{n}.wav" for n in range(60)], "label": names * 20})
    embedx.import_vectors(vectors, out=tmp_path / "made", metadata=facts, label="label", name="other").close()
    with serving(tmp_path / "made", allow_labels=True) as imported:
        page = open_page(imported.port, viewport={"width": 380, "height": 760})
        page.wait_for_selector(".card .note:visible")
        assert "imported" in page.locator(".card .note").first.inner_text()
        assert page.get_by_role("button", name="Choose a sound").is_disabled()
        assert page.locator("input.text").is_disabled()
        assert "other software" in page.locator(".drop").inner_text()
        page.locator("button.record").click(force=True)  # it explains itself
        assert "other software" in page.locator(".ask > .error").inner_text()
        page.locator(".card").first.get_by_role("button", name="More like this").click()
        page.wait_for_selector(".card .score:not(:empty)")
        page.evaluate("location.hash = '#made/map'")
        page.wait_for_selector(".legend li")
        # a name that runs from right to left keeps its own direction, and pushes nothing out of its place
        arabic = page.locator(".legend bdi", has_text="\u0628\u0648\u0645")
        assert arabic.evaluate("one => getComputedStyle(one).unicodeBidi") == "isolate"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.close()


def test_slow_network_shows_words_first_and_a_view_that_is_left_asks_for_nothing_more(
    own: Client, open_page: Open
) -> None:
    page = open_page(own.port, "#field/find?id=3")
    page.wait_for_selector(".card .score:not(:empty)")
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 150, "downloadThroughput": 200_000, "uploadThroughput": 200_000}
    network.send("Network.emulateNetworkConditions", slow)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("location.hash = '#field/find?id=9'")
    until(page, "() => document.querySelector('.because .chip')?.textContent && location.hash.includes('id=9')")
    page.wait_for_selector(".cards[aria-busy=false] .card .score:not(:empty)")
    names = page.locator(".card .name").all_text_contents()
    assert all(names)  # words are there; pictures come one after the other
    page.evaluate("location.hash = '#field/about'")
    page.wait_for_selector(".recipe pre")
    page.wait_for_timeout(600)  # what was on its way
    before = len([url for url in asked if "/rows/" in url and "spectrogram" in url])
    page.wait_for_timeout(1500)
    after = [url for url in asked if "/rows/" in url and "spectrogram" in url]
    assert len(after) == before


def english_words() -> "re.Pattern[str]":
    """Return a pattern of the English texts of the page that differ from the German ones."""
    lines = [
        line.split(" | ") for path in FOLDER.glob("words.*.js") for line in path.read_text().split("`")[1].split("\n")
    ]
    patterns = []
    for _, english, german in (line for line in lines if len(line) == 3):
        for form in {english, re.sub(r"\{\w+, plural: ([^,{}]*), [^{}]*\}", r"\1", english)}:
            fixed = re.sub(r"\{\w+, plural: [^,{}]*, #([^{}]*)\}", r"{n}\1", form)
            if english != german and len(re.sub(r"\{\w+\}|\W", "", fixed)) > 3:
                patterns.append(re.sub(r"\\\{\w+\\\}", ".+", re.escape(fixed)))
    return re.compile("|".join(patterns))


TEXTS = """() => {
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) texts.push(walker.currentNode.textContent);
  for (const one of document.querySelectorAll('*'))
    for (const name of ['aria-label', 'aria-valuetext', 'title', 'placeholder'])
      texts.push(one.getAttribute(name) ?? '');
  return [...new Set(texts.map((text) => text.trim()).filter(Boolean))];
}"""


def test_german_page_has_no_english_words_and_focus_is_always_seen(own: Client, open_page: Open) -> None:
    words, found = english_words(), list[str]()
    assert words.fullmatch("Choose a sound")
    assert words.fullmatch("17 hits in 3 ms")
    page = open_page(own.port, locale="de-DE")

    def look() -> None:
        found.extend(text for text in page.evaluate(TEXTS) if words.fullmatch(text) and text not in NAMES)

    page.wait_for_selector(".card:not(.waiting)")
    look()
    for screen, ready in READY.items():
        page.evaluate("screen => { location.hash = `#field/${screen}`; }", screen)
        page.wait_for_selector(ready, state="attached")
        look()
        page.evaluate("document.activeElement.blur()")
        stops = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            stop = page.evaluate(FOCUS)
            if stop is None or stop["at"] in stops:
                break
            stops.add(stop["at"])
            assert stop["isSeen"], stop
        assert len(stops) > 8
    page.locator("nav a").first.focus()
    for key in ("h", None):
        if key:
            page.keyboard.press(key)
        else:
            page.get_by_role("button", name="Einstellungen").click()
        page.wait_for_selector("dialog[open] :is(.keylist, .form)")
        look()
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        assert page.evaluate("document.activeElement !== document.body")
    assert found == []


FOCUS = """() => {
  const one = document.activeElement;
  if (one === document.body) return null;
  const {width, height} = one.getBoundingClientRect(), {outlineStyle, boxShadow} = getComputedStyle(one);
  const isSeen = width > 0 && height > 0 && (outlineStyle !== 'none' || boxShadow !== 'none');
  return {at: [...document.querySelectorAll('*')].indexOf(one), isSeen, html: one.outerHTML.slice(0, 200)};
}"""


def test_digits_label_by_their_place_on_a_french_keyboard(own: Client, open_page: Open) -> None:
    page = open_page(own.port, "#field/find?id=3")
    page.wait_for_selector(".card .score:not(:empty)")
    page.locator(".card").nth(1).focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".inspector .keys button >> nth=1")
    name = page.locator(".inspector .keys button bdi").first.inner_text()
    press = """([code, key, shiftKey]) => document.activeElement.dispatchEvent(
      new KeyboardEvent('keydown', {code, key, shiftKey, bubbles: true, cancelable: true}))"""
    before = page.locator(".inspector .current").inner_text()
    page.evaluate(press, ["Digit1", "1", True])  # with Shift it is a digit there, and no label
    assert page.locator(".inspector .current").inner_text() == before
    page.evaluate(press, ["Digit1", "&", False])
    until(page, "name => document.querySelector('.inspector .current').textContent.includes(name)", name)
    page.evaluate(press, ["KeyY", "z", False])  # no command is at this key
    page.keyboard.press("u")
    until(page, "text => document.querySelector('.inspector .current').textContent.trim() === text", before)
    until(page, "() => document.querySelector('header .state').textContent.includes('saved')")
