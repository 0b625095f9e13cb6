"""The screen About in a real browser: numbers that open Find, an extraction beside it, failures, heads, duplicates."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import embedx
from embedx.store.running import RunNote
from tests.helpers.pages import until
from tests.helpers.service import Client, serving

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # pipes of the browser's driver
Open = Callable[..., Any]


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Iterator[Client]:
    """A server of a copy of the collection `made`, with a head."""
    shutil.copytree(made, tmp_path / "field")
    with embedx.open(tmp_path / "field") as collection:
        collection.fit_head(kind="prototype", name="kinds", permutations=0)
    with serving(tmp_path / "field") as running:
        yield running


@pytest.mark.long
def test_number_of_a_label_opens_find_with_its_rows(own: Client, open_page: Open) -> None:
    page = open_page(own.port, "#field/about")
    page.wait_for_selector(".bars .count")
    name = page.locator(".bars li bdi").first.inner_text()
    rows = page.locator(".bars .count").first.inner_text()
    page.locator(".bars .count").first.click()
    page.wait_for_selector(".chips .chip")
    assert page.locator(".chips .chip").inner_text() == f"label is {name}"
    until(page, "rows => document.querySelector('.chips .count').textContent.startsWith(rows)", rows)


@pytest.mark.long
def test_extraction_beside_the_page_is_shown_as_it_goes(
    own: Client, open_page: Open, tmp_path: Path, manifest: Path
) -> None:
    page = open_page(own.port, "#field/about")
    page.wait_for_selector(".figures dd")
    with RunNote(tmp_path / "field") as note:
        note.write({"done": 1200, "planned": 5000, "failed": 3, "speed": 310.0})
        page.wait_for_selector(".running progress")
        assert "1,200 of 5,000 recordings, 3 failed, 310 hours" in page.locator(".running").inner_text()
    page.wait_for_selector(".running", state="hidden")
    rows = page.locator(".figures dd").first.inner_text()
    with embedx.open(tmp_path / "field") as collection:
        collection.remove("id = 9")
    until(page, "rows => document.querySelector('.figures dd').textContent !== rows", rows)


@pytest.mark.long
def test_heads_duplicates_and_failures_are_explained(own: Client, open_page: Open, tmp_path: Path) -> None:
    page = open_page(own.port, "#field/about")
    page.locator(".heads summary").click()
    matrix = page.locator(".matrix")
    head = own.get("/v1/collections/field/about").json["heads"][0]
    assert matrix.locator("tbody tr").count() == len(head["classes"])
    shown = [int(one or 0) for one in matrix.locator("td").all_inner_texts()]
    assert shown == [count for line in head["confusion"] for count in line]
    page.get_by_role("button", name="Look for duplicates").click()
    until(page, "() => /group|No two/.test(document.querySelector('.duplicates [aria-live]').innerText)")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "<img src=x onerror=alert(1)>.wav").write_text("no sound")
    shutil.copytree(tmp_path / "field", tmp_path / "odd")
    embedx.extract(corpus, out=tmp_path / "odd", pooling=("mean", "max")).close()
    with serving(tmp_path / "odd") as odd:
        page = open_page(odd.port, "#odd/about")
        page.locator(".failures summary").click()
        assert "no sound 1 recording" in page.locator(".failures summary").inner_text()
        assert "<img src=x" in page.locator(".failures li").inner_text()
        assert page.locator("main img").count() == 0
        page.goto("about:blank")  # before the server, with its stream of events, ends
