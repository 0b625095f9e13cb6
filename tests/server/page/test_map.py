"""The screen Map in a real browser: points at their places, hover, lasso, labels with undo, legend, sample, UMAP."""

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import embedx
from embedx.server import served
from tests.helpers.pages import until
from tests.helpers.service import Client, serving

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # pipes of the browser's driver
Open = Callable[..., Any]
BASE = "/v1/collections/field"
MARGIN = 0.92  # of the window that all points fill; see map.js
UMAP = """
import os, time
class UMAP:
    def __init__(self, **options): pass
    def fit_transform(self, vectors):
        while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
            time.sleep(0.01)
        return vectors[:, :2]
"""


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Iterator[Client]:
    """A server of a copy of the collection `made`, which may be labelled."""
    shutil.copytree(made, tmp_path / "field")
    with serving(tmp_path / "field", allow_labels=True) as running:
        yield running


def open_map(client: Client, open_page: Open, more: str = "", **options: Any) -> Any:
    page = open_page(client.port, f"#field/map{more}", **options)
    page.wait_for_selector(".legend li")
    return at_rest(page)


def at_rest(page: Any) -> Any:
    """Wait until the discs are drawn."""
    until(page, "() => !document.querySelectorAll('.stage canvas')[1].hidden")
    return page


def places_of(client: Client, page: Any) -> dict[int, tuple[float, float]]:
    """Return where the rows are on the screen while the map shows all."""
    points, box = client.get(f"{BASE}/map").json, page.locator(".overlay").bounding_box()
    xs, ys = points["x"], points["y"]
    scale = MARGIN * min(box["width"] / (max(xs) - min(xs)), box["height"] / (max(ys) - min(ys)))
    left = box["x"] + box["width"] / 2 - scale * (max(xs) + min(xs)) / 2
    top = box["y"] + box["height"] / 2 + scale * (max(ys) + min(ys)) / 2
    return {one: (left + scale * x, top - scale * y) for one, x, y in zip(points["id"], xs, ys, strict=True)}


def labels_of(client: Client) -> dict[int, Any]:
    return {row["id"]: row["label"] for row in client.get(f"{BASE}/rows?limit=1000").json["rows"]}


def lasso(page: Any, corners: list[tuple[float, float]]) -> None:
    page.keyboard.down("Shift")
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")


@pytest.mark.long
def test_lasso_selects_what_is_in_it_and_its_label_is_undone_at_once(own: Client, open_page: Open) -> None:
    page = open_map(own, open_page)
    places, before = places_of(own, page), labels_of(own)
    middle = sum(sorted(x for x, _ in places.values())[len(places) // 2 - 1 :][:2]) / 2
    box = page.locator(".overlay").bounding_box()
    left, top, bottom = box["x"] + 1, box["y"] + 1, box["y"] + box["height"] - 1
    lasso(page, [(left, top), (middle, top), (middle, bottom), (left, bottom)])
    expected = {number for number, (x, _) in places.items() if x < middle}
    page.wait_for_selector(".bar:not([hidden])")
    assert page.locator(".bar strong").inner_text() == f"{len(expected)} rows"
    page.locator(".bar input").fill("island")
    page.keyboard.press("Enter")
    until(page, "() => document.querySelector('.legend').textContent.includes('island')")
    assert labels_of(own) == {number: "island" if number in expected else label for number, label in before.items()}
    page.locator(".overlay").focus()
    page.keyboard.press("u")
    until(page, "() => !document.querySelector('.legend').textContent.includes('island')")
    assert labels_of(own) == before


@pytest.mark.long
def test_hover_shows_the_row_under_the_pointer_and_a_click_keeps_it(own: Client, open_page: Open) -> None:
    page = open_map(own, open_page)
    places = places_of(own, page)
    for number in list(places)[::5]:
        nearest = min(
            places,
            key=lambda one: (places[one][0] - places[number][0]) ** 2 + (places[one][1] - places[number][1]) ** 2,
        )
        page.mouse.move(*places[number])
        page.wait_for_selector(f".corner #card{nearest}")
    page.mouse.click(*places[number])
    name = own.get(f"{BASE}/rows/{number}").json["row"]["path"].split("/")[-1]
    until(page, "name => document.querySelector('.inspector h2')?.innerText === name", name)


COLOURS = """() => {
  const canvas = document.querySelectorAll('.stage canvas')[1];
  const data = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return [new Set(data).size, data.filter((one) => one !== data[0]).length];
}"""


@pytest.mark.long
def test_value_that_is_hidden_in_the_legend_is_not_on_the_map(own: Client, open_page: Open) -> None:
    page = open_map(own, open_page, "?colour=label")
    colours, pixels = page.evaluate(COLOURS)
    count = page.locator(".legend li").count()
    page.locator(".legend [aria-pressed]").first.click()
    until(page, "() => document.querySelectorAll('.legend [aria-pressed=false]').length === 1")
    until(page, f"before => ({COLOURS})()[1] < before", pixels)
    at_rest(page)
    assert page.evaluate(COLOURS)[0] < colours
    page.locator(".legend [aria-pressed]").nth(1).dblclick()
    until(page, "count => document.querySelectorAll('.legend [aria-pressed=false]').length === count - 1", count)
    page.locator(".map .side select").select_option("split")
    until(page, "() => location.hash.includes('colour=split')")
    page.reload()
    page.wait_for_selector(".legend li")
    assert page.locator(".map .side select").input_value() == "split"


@pytest.mark.long
def test_colours_of_a_head_and_of_the_question_and_sound_of_what_is_pointed_at(own: Client, open_page: Open) -> None:
    with embedx.open(own.service.get("field").folder) as collection:
        collection.fit_head(kind="prototype", name="kinds", permutations=0)
    page = open_map(own, open_page, "?id=3")
    colour = page.locator(".map .side select")
    for value in ("head:kinds", "head:kinds:p", "score", "flags"):
        with page.expect_response(
            lambda reply, value=value: quote(value, "") in reply.url or "/scores" in reply.url
        ) as answer:
            colour.select_option(value)
        assert answer.value.status == 200
        until(page, "value => location.hash.includes(`colour=${encodeURIComponent(value)}`)", value)
        at_rest(page)
    colour.select_option("head:kinds")
    page.wait_for_selector(".legend bdi:text-is('bell')")
    at_rest(page)
    pixels = page.evaluate(COLOURS)[1]
    page.locator(".legend [aria-pressed]", has_text="bell").click()
    until(page, f"before => ({COLOURS})()[1] < before", pixels)
    places = places_of(own, page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/audio" in request.url else None)
    page.locator(".map .side input[type=checkbox]").check()
    page.locator(".legend [aria-pressed]", has_text="bell").click()
    at_rest(page)
    number, far = next(iter(places)), (page.locator(".overlay").bounding_box() or {})
    for _ in range(2):
        page.mouse.move(*places[number])
        until(page, "() => import('./page/state.js').then(({state}) => state.playing?.key.startsWith('map'))")
        page.keyboard.press("Escape")
        page.mouse.move(far["x"] + 2, far["y"] + 2)
    assert len(asked) == 1


@pytest.mark.long
def test_map_of_very_many_rows_shows_a_sample_and_then_all(
    own: Client, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "MAX_ROWS_OF_MAP", 10)
    monkeypatch.setattr(served, "SAMPLE", 8)
    held = threading.Event()
    own.service.jobs.start("other", lambda: {"waited": held.wait(60)})  # the job of the map waits
    page = open_map(own, open_page, "?colour=label")
    note = page.locator("#mapnote")
    rows = own.get(BASE).json["rows"]
    assert note.inner_text().startswith(f"A fair sample of 8 of {rows} rows")
    assert "is made" in note.inner_text()
    colours, pixels = page.evaluate(COLOURS)
    assert colours > 2  # the sample has its colours
    held.set()
    until(page, "rows => document.getElementById('mapnote').innerText.startsWith(`${rows} rows.`)", rows)
    until(page, f"before => ({COLOURS})()[1] > before", pixels)


@pytest.mark.long
def test_keys_alone_open_a_row_and_select_a_rectangle(own: Client, open_page: Open) -> None:
    page = open_map(own, open_page)
    page.locator(".overlay").focus()
    for _ in range(200):
        page.keyboard.press("ArrowRight" if _ % 2 else "ArrowUp")
        if page.locator(".corner .card").count():
            break
        if _ == 60:
            page.keyboard.press("-")
    for _ in range(60):
        page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    until(page, "() => !document.querySelector('.bar').hidden")
    page.keyboard.press("Escape")
    until(page, "() => document.querySelector('.bar').hidden")


@pytest.mark.long
def test_sample_of_many_rows_is_announced_and_zooming_brings_the_rest(own: Client, open_page: Open) -> None:
    page = open_page(own.port, "#field/find")
    page.route("**/map?*", lambda route: route.continue_(url=route.request.url.replace("limit=200000", "limit=12")))
    page.wait_for_selector(".card:not(.waiting)")
    page.get_by_role("link", name="Map").click()
    until(page, "() => document.getElementById('mapnote')?.innerText.startsWith('A fair sample of 12 of')")
    at_rest(page)
    page.get_by_role("button", name="Zoom in").click()
    until(page, "() => document.getElementById('mapnote').innerText.includes('in view')")
    until(page, "() => location.hash.includes('box=')")
    page.get_by_role("button", name="All").click()
    until(page, "() => document.getElementById('mapnote').innerText.startsWith('A fair sample')")


@pytest.mark.long
def test_map_by_umap_is_made_behind_and_a_failure_leaves_the_other_map(
    own: Client, open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "umap.py").write_text(UMAP)  # in place of the library, which takes seconds
    monkeypatch.syspath_prepend(tmp_path)
    page = open_map(own, open_page)
    page.locator(".tools select").select_option("umap")
    page.wait_for_selector(".tools progress")
    (tmp_path / "go").touch()
    until(page, "() => document.getElementById('mapnote').innerText.includes('Neighbours')")
    own.service.get("field")._maps.clear()
    (tmp_path / "umap.py").write_text("raise ImportError('broken')")
    page.locator(".tools select").select_option("pca")
    until(page, "() => document.getElementById('mapnote').innerText.includes('components')")
    page.locator(".tools select").select_option("umap")
    until(page, "() => document.getElementById('mapnote').innerText.includes('could not be made')")
    assert page.locator(".tools select").input_value() == "pca"


@pytest.mark.long
@pytest.mark.parametrize("width", [320, 2560])
def test_map_and_about_do_not_scroll_sideways_and_speak_german(own: Client, open_page: Open, width: int) -> None:
    page = open_map(own, open_page, viewport={"width": width, "height": 800}, color_scheme="dark", locale="de-DE")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "Hauptkomponenten" in page.locator("#mapnote").inner_text()
    page.get_by_role("link", name="Über").click()
    page.wait_for_selector(".about .recipe pre")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, a')]"
        ".filter((one) => !(one.getAttribute('aria-label') || one.innerText || one.labels?.length || one.hidden))"
        ".map((one) => one.outerHTML)"
    )
    assert unnamed == []
