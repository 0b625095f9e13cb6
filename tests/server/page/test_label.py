"""The screen Label in a real browser: keys, undo, a server that is gone, other people, heads, what explains itself."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pages import until
from tests.helpers.service import Client, serving

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # pipes of the browser's driver
Open = Callable[..., Any]
BASE = "/v1/collections/field"
SOME = "id % 3 <> 0"  # rows that lose their labels


def copy_of(made: Path, folder: Path, where: str) -> Path:
    """A copy of the collection `made` in which some rows have no label."""
    shutil.copytree(made, folder)
    with serving(folder, allow_labels=True) as client:
        body = {"set": {"label": None}, "filter": where}
        assert client.post(BASE + "/labels", body).status == 200
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return copy_of(made, tmp_path / "field", SOME)


@pytest.fixture
def own(folder: Path) -> Iterator[Client]:
    """A server of a collection of which most rows have no label."""
    with serving(folder, allow_labels=True) as running:
        yield running


def labels_of(client: Client) -> dict[int, Any]:
    rows = client.get(f"{BASE}/rows?limit=1000").json["rows"]
    return {row["id"]: row["label"] for row in rows}


def at_hand(page: Any) -> int:
    """Return the id of the row that is shown."""
    script = (
        "import('./page/state.js').then(({state}) => "
        "state.queue[[...document.querySelectorAll('.strip-of button')].find((one) => "
        "one.getAttribute('aria-current') === 'true').getAttribute('aria-label').match(/[0-9]+/)[0] - 1].id)"
    )
    return int(page.evaluate(script))


def show(page: Any) -> None:
    page.wait_for_selector(".clip .name bdi")
    page.wait_for_selector(".keys button >> nth=3")


def saved(page: Any) -> None:
    until(page, "() => document.querySelector('header .state').textContent.includes('saved')")


def test_labels_are_given_and_undone_by_keys_alone(own: Client, open_page: Open) -> None:
    before = labels_of(own)
    page = open_page(own.port, "#field/label")
    show(page)
    assert page.evaluate("document.activeElement.className") == "clip"
    names = page.locator(".keys .keyname").all_inner_texts()
    given = {}
    for digit in (1, 2, 3):
        given[at_hand(page)] = names[digit - 1]
        page.keyboard.press(str(digit))
    assert len(given) == 3
    assert page.locator(".place").inner_text().startswith("4 of")
    saved(page)
    assert labels_of(own) == before | given
    for _ in given:
        page.keyboard.press("u")
    saved(page)
    until(page, "() => document.querySelector('.place').textContent.startsWith('1 of')")
    assert labels_of(own) == before
    assert page.evaluate("document.activeElement.className") == "clip"
    page.close()


@pytest.mark.long
def test_many_labels_by_keys_are_stored_and_undone_over_a_reload(own: Client, open_page: Open) -> None:
    before = labels_of(own)
    page = open_page(own.port, "#field/label?by=random")
    show(page)
    free = sum(label is None for label in before.values())
    count = min(12, free - 2)
    for number in range(count):
        until(page, "() => document.querySelector('.strip-of [aria-current=true] .chip').textContent === ''")
        page.keyboard.press("1234"[number % 4])
    saved(page)
    after = labels_of(own)
    assert sum(after[number] != label for number, label in before.items()) == count
    page.reload()
    show(page)
    for _ in range(count):
        page.keyboard.press("u")
        page.wait_for_timeout(20)
    saved(page)
    assert labels_of(own) == before
    page.close()


@pytest.mark.long
def test_labels_wait_for_a_server_that_is_gone_and_are_stored_once(folder: Path, open_page: Open) -> None:
    with serving(folder, allow_labels=True) as first:
        port, before = first.port, labels_of(first)
        revision = first.get(BASE).json["revision"]
        page = open_page(port, "#field/label", quiet=False)
        show(page)
    given = {}
    for digit in (1, 2, 3, 4, 1):
        given[at_hand(page)] = page.locator(".keys .keyname").nth(digit - 1).inner_text()
        page.keyboard.press(str(digit))
    page.wait_for_selector(".banner:visible")
    until(page, "() => document.querySelector('.banner').textContent.includes('5 labels')")
    with serving(folder, allow_labels=True, port=port) as second:
        saved(page)
        assert labels_of(second) == before | given
        assert second.get(BASE).json["revision"] <= revision + 5  # several go in one request
        page.close()


@pytest.mark.long
def test_two_pages_see_each_other_and_a_conflict_offers_the_choice(own: Client, open_page: Open) -> None:
    pages = [open_page(own.port, "#field/label?by=diverse") for _ in range(2)]
    for page in pages:
        show(page)
    first, second = pages
    number = at_hand(first)
    path = f"{BASE}/rows/{number}"
    second.evaluate("id => { location.hash = `#field/find?id=${id}&row=${id}`; }", number)
    second.wait_for_selector(".inspector .keys button >> nth=1")
    names = first.locator(".keys .keyname").all_inner_texts()
    first.keyboard.press("1")
    saved(first)
    until(second, "name => document.querySelector('.inspector .current').textContent.includes(name)", names[0])
    assert "just now" in second.locator(".inspector .current").inner_text()
    # both label the same row at once: the second one has not heard of the first
    body = {"edits": [{"id": number, "column": "label", "value": names[2]}]}
    second.route("**/labels", lambda route: (own.post(f"{BASE}/labels", body), route.continue_()))
    second.locator(".inspector .keys button", has_text=names[1]).click()
    second.wait_for_selector(".conflicts button")
    assert own.get(path).json["row"]["label"] == names[2]
    second.unroute("**/labels")
    second.get_by_role("button", name="Take mine").click()
    saved(second)
    assert own.get(path).json["row"]["label"] == names[1]
    assert second.locator(".conflicts").count() == 0
    # undo of the first, whose cell holds another value now
    first.keyboard.press("u")
    first.wait_for_selector(".conflicts button")
    first.get_by_role("button", name="Keep theirs").click()
    assert own.get(path).json["row"]["label"] == names[1]
    for page in pages:
        page.close()


@pytest.mark.long
def test_read_only_is_explained_and_nothing_is_sent(folder: Path, open_page: Open) -> None:
    with serving(folder) as closed:
        page = open_page(closed.port, "#field/label")
        show(page)
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        before = page.locator(".place").inner_text()
        page.keyboard.press("1")
        page.keyboard.press("r")
        until(page, "() => document.getElementById('alert').textContent.includes('--allow-labels')")
        assert page.locator(".banner:visible").count() == 1
        assert page.locator(".place").inner_text() == before
        assert [url for url in sent if url.endswith(("/labels", "/heads"))] == []
        page.close()


@pytest.mark.long
def test_retrained_head_shows_what_changed_and_the_rows_at_hand_stay(own: Client, open_page: Open) -> None:
    page = open_page(own.port, "#field/label")
    show(page)
    page.keyboard.press("r")
    page.wait_for_selector(".trained summary")
    page.keyboard.press("1")
    number = at_hand(page)
    page.locator("#by").select_option("margin")
    until(page, "() => location.hash.includes('by=margin')")
    page.wait_for_selector(".thinks bdi")
    number = at_hand(page)
    page.keyboard.press("r")
    until(page, "() => document.querySelector('.trained summary')?.textContent.includes('difference')")
    assert at_hand(page) == number
    page.locator(".trained summary").click()
    assert page.locator(".matrix tbody tr").count() == 4
    page.close()


@pytest.mark.long
def test_names_are_asked_for_where_there_are_none_and_yes_or_no_is_a_task(
    made: Path, tmp_path: Path, open_page: Open
) -> None:
    folder = copy_of(made, tmp_path / "field", "id >= 0")
    with serving(folder, allow_labels=True) as bare:
        page = open_page(bare.port, "#field/label")
        page.wait_for_selector(".task input[type=text]")
        page.locator(".names input").first.fill("<b>owl</b>")
        page.locator(".names input").nth(1).fill("rain")
        page.keyboard.press("Enter")
        show(page)
        first = at_hand(page)
        page.keyboard.press("1")
        second = at_hand(page)
        page.keyboard.press("0")
        saved(page)
        rows = {row["id"]: row for row in bare.get(f"{BASE}/rows?limit=1000").json["rows"]}
        assert rows[first]["label"] == "<b>owl</b>"
        assert (rows[second]["label"], rows[second]["meta"]["review"]) == (None, "unsure")
        page.get_by_role("button", name="Names").click()
        assert page.evaluate("document.activeElement.tagName") == "H2"
        before = labels_of(bare)
        page.keyboard.press("1")  # no row is seen, so none gets a label
        page.locator(".names input").nth(2).fill("half a na")
        page.get_by_role("link", name="About").click()
        page.wait_for_selector(".recipe pre")
        page.get_by_role("link", name="Label").click()
        page.wait_for_selector(".task")
        assert page.locator(".names input").nth(2).input_value() == "half a na"
        assert labels_of(bare) == before
        page.locator("input[value=yesno]").check()
        page.locator(".names input:visible").fill("id")
        page.keyboard.press("Enter")
        page.wait_for_selector(".task .error:visible")
        page.locator(".names input:visible").fill("fox")
        page.get_by_role("button", name="Start").click()
        until(page, "() => document.querySelector('.asked')?.textContent.includes('fox?')")
        third = at_hand(page)
        page.keyboard.press("2")
        saved(page)
        assert bare.get(f"{BASE}/rows/{third}").json["row"]["meta"]["fox"] == "no"
        page.close()


@pytest.mark.long
@pytest.mark.parametrize("width", [320, 1280])
def test_no_width_scrolls_sideways_and_the_dock_is_at_the_thumb(own: Client, open_page: Open, width: int) -> None:
    page = open_page(own.port, "#field/label", viewport={"width": width, "height": 760}, locale="de-DE")
    show(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, a, [role=slider], [role=img]')]"
        ".filter((one) => !(one.getAttribute('aria-label') || one.innerText || one.labels?.length || one.hidden))"
        ".map((one) => one.outerHTML)"
    )
    assert unnamed == []
    dock = page.locator(".dock").bounding_box()
    if width < 720:
        assert (dock["height"], dock["y"]) == (56, 760 - 56)
        assert page.locator(".dock button").first.get_attribute("aria-label")
    page.close()


@pytest.mark.long
def test_nothing_is_lost_when_a_tab_is_closed_or_loaded_anew_in_the_middle(own: Client, open_page: Open) -> None:
    page = open_page(own.port, "#field/label", quiet=False)
    show(page)
    names, before = page.locator(".keys .keyname").all_inner_texts(), labels_of(own)
    given = {}
    own.service.get("field").labels.lock.acquire()  # the server answers nobody who labels
    for digit in (1, 2, 3):
        given[at_hand(page)] = names[digit - 1]
        page.keyboard.press(str(digit))
    page.close()  # the first request has no answer yet, and the others were not sent
    own.service.get("field").labels.lock.release()
    for _ in range(600):
        if labels_of(own) == before | given:
            break
        time.sleep(0.05)
    assert labels_of(own) == before | given
    # a conflict that was not decided is still there after a reload
    page = open_page(own.port, "#field/label?by=random", quiet=False)
    show(page)
    number = at_hand(page)
    body = {"edits": [{"id": number, "column": "label", "value": names[3]}]}
    page.route("**/labels", lambda route: (own.post(f"{BASE}/labels", body), route.continue_()))
    page.keyboard.press("1")
    page.wait_for_selector(".conflicts button")
    page.unroute("**/labels")
    page.reload()
    page.get_by_role("button", name="Take mine").click()
    saved(page)
    assert labels_of(own)[number] == names[0]
    page.reload()
    show(page)
    assert page.locator(".conflicts").count() == 0
    page.close()
