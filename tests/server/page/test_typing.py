"""What is typed or dropped on the screen Find is never lost, whatever comes meanwhile: filters, names, sounds."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pages import until, until_here, write_tone
from tests.helpers.service import Client, serving

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # pipes of the browser's driver
Open = Callable[..., Any]
CARDS = ".card:not(.waiting)"


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Iterator[Client]:
    """A server of a copy of the collection `made`, which may be labelled."""
    shutil.copytree(made, tmp_path / "field")
    with serving(tmp_path / "field", allow_labels=True) as running:
        yield running


def find(page: Any, address_part: str) -> None:
    """Wait until the address has a part, and an answer is there."""
    until(page, "part => location.hash.includes(part)", address_part)
    page.wait_for_selector(".cards[aria-busy=false]")


def test_filter_is_chosen_while_typing_and_a_wrong_one_is_explained(client: Client, open_page: Open) -> None:
    page = open_page(client.port, "#made/find?id=3", quiet=False)
    page.wait_for_selector(CARDS)
    page.keyboard.press("f")
    page.keyboard.type("lab")
    page.wait_for_selector("[role=combobox]")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=option] .muted:text-matches('^[0-9]+$')")
    value = page.locator("[role=option] bdi").first.inner_text()
    page.keyboard.type(value[:3])
    page.keyboard.press("Enter")
    find(page, "where=")
    assert page.locator(".chips .chip").inner_text() == f"label is {value}"
    assert set(page.locator(f"{CARDS} .label").all_text_contents()) == {value}
    page.get_by_role("button", name="as SQL").click()
    page.keyboard.press("End")
    page.keyboard.type(" AND nosuch = 1")
    page.get_by_role("button", name="as SQL").click()  # once more: the field and its text stay
    assert page.locator(".panel textarea").input_value() == f"label = '{value}' AND nosuch = 1"
    page.keyboard.press("Enter")
    page.wait_for_selector(".filter > .error:visible")
    assert "nosuch" in page.locator(".filter > .error").inner_text()


def test_text_typed_before_the_offers_are_there_is_kept(client: Client, open_page: Open) -> None:
    page = open_page(client.port, "#made/find?id=3")
    held: list[Any] = []
    page.route("**/offers.js", lambda route: held.append(route))
    page.reload()
    page.wait_for_selector(CARDS)
    page.keyboard.press("f")
    page.keyboard.type("dura")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.keyboard.type("tion")
    until(page, "() => document.getElementById('filterfield').value === 'duration'")
    until_here(page, lambda: held)
    held[0].continue_()
    until(page, "() => document.querySelector('[role=option] bdi')?.textContent === 'duration_s'")
    assert page.locator("[role=option]").count() == 2
    page.unroute("**/offers.js")
    page.route("**/values?*", lambda route: held.append(route))  # the range of the numbers comes late as well
    page.keyboard.press("Enter")
    until(page, "() => document.getElementById('filterfield').type === 'number'")
    page.keyboard.type("0.5")
    page.keyboard.press("Enter")
    find(page, "where=duration_s%20%3E%3D%200.5")


def test_label_of_another_person_leaves_a_name_that_is_typed(own: Client, open_page: Open) -> None:
    page = open_page(own.port, "#field/find?id=3&row=3")
    field = page.locator(".inspector input.own")
    field.fill("half a na")
    edits = [{"id": 3, "column": "label", "value": "theirs"}]
    assert own.post("/v1/collections/field/labels", {"edits": edits}).status == 200
    until(page, "() => document.querySelector('.inspector .current').textContent.includes('theirs')")
    page.keyboard.type("me")
    assert field.input_value() == "half a name"
    page.keyboard.press("Enter")
    until(page, "() => document.querySelector('.inspector .current').textContent.includes('half a name')")
    assert field.input_value() == ""
    until(page, "() => document.querySelector('.state').textContent.includes('saved')")


def test_sound_that_was_dropped_last_is_the_question_whatever_comes_first(
    own: Client, open_page: Open, tmp_path: Path
) -> None:
    page = open_page(own.port)
    page.wait_for_selector(CARDS)
    held: list[Any] = []
    page.route("**/v1/clips", lambda route: route.continue_() if held else held.append(route))
    page.set_input_files("input[type=file]", write_tone(tmp_path / "slow.wav"))
    until_here(page, lambda: held)
    page.set_input_files("input[type=file]", write_tone(tmp_path / "last.wav", hz=440.0))
    page.wait_for_selector(f"{CARDS} .score:not(:empty)")
    asked = page.url.partition("&row=")[0]
    with page.expect_response("**/v1/clips"):
        held[0].continue_()
    page.wait_for_timeout(300)
    assert page.url.startswith(asked)
    assert "last.wav" in page.locator(".lane").inner_text()
