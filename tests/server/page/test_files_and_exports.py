"""Files as people have them: a folder, too large, AIFF, ten minutes; and exports of the rows that are shown."""

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedx
from tests.helpers.pages import until, until_here, write_tone
from tests.helpers.service import Client, serving

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # pipes of the browser's driver
Open = Callable[..., Any]
CARDS = ".card:not(.waiting)"
ANSWERED = ".cards[aria-busy=false]"
DROP_FOLDER = """() => {
  const data = new DataTransfer();
  data.items.add(new File([], 'recordings'));
  DataTransferItem.prototype.webkitGetAsEntry = () => ({isDirectory: true});
  document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
}"""
TEN_MINUTES, RATE = 600, 22_050


def problem_with(page: Any, name: str) -> str:
    """Return what is said about a file."""
    until(page, "name => document.querySelector('.ask > .error').textContent.includes(name)", name)
    return str(page.locator(".ask > .error").inner_text())


def answered(page: Any) -> None:
    page.wait_for_selector(f"{ANSWERED} {CARDS} .score:not(:empty)")


def test_what_is_no_sound_is_said_in_four_ways_and_other_files_are_found(
    client: Client, open_page: Open, tmp_path: Path
) -> None:
    page = open_page(client.port, quiet=False)
    page.wait_for_selector(CARDS)
    (tmp_path / "notes.txt").write_bytes(b"no sound at all")
    (tmp_path / "empty.wav").write_bytes(b"")
    with (tmp_path / "large.wav").open("wb") as file:
        file.truncate(65 << 20)
    texts = []
    for name in ("notes.txt", "empty.wav", "large.wav"):
        page.set_input_files("input[type=file]", tmp_path / name)
        texts.append(problem_with(page, name))
    page.evaluate(DROP_FOLDER)
    texts.append(problem_with(page, "recordings"))
    assert len(set(texts)) == 4
    # a browser does not decode AIFF: the server draws it and finds what is near
    soundfile.write(tmp_path / "owl.aiff", 0.3 * np.sin(np.arange(48_000) / 8), 24_000)
    page.set_input_files("input[type=file]", tmp_path / "owl.aiff")
    answered(page)
    assert not page.locator(".ask > .error").is_visible()
    until(page, "() => document.querySelector('.lane canvas:not(.wave)')?.width > 1")
    assert "owl.aiff" in page.locator(".lane").inner_text()


def test_ten_minutes_are_seen_whole_and_a_stretch_is_moved_by_keys(
    client: Client, open_page: Open, tmp_path: Path
) -> None:
    samples = np.zeros(TEN_MINUTES * RATE, np.float32)
    samples[400 * RATE : 402 * RATE] = 0.4 * np.sin(np.arange(2 * RATE) / 3)  # the loudest stretch
    samples[:RATE] = 0.1 * np.sin(np.arange(RATE) / 9)
    soundfile.write(tmp_path / "night.wav", samples, RATE, "PCM_16")
    page = open_page(client.port)
    page.wait_for_selector(CARDS)
    page.set_input_files("input[type=file]", tmp_path / "night.wav")
    answered(page)
    start = page.locator(".handle.start")
    first = float(start.get_attribute("aria-valuenow"))
    assert 390 <= first <= 402
    assert page.locator(".lane canvas").evaluate_all("all => all.every((one) => one.width === 1600)")
    before = page.locator(f"{CARDS} .score").all_text_contents()
    start.focus()
    page.keyboard.press("Home")
    until(page, "() => location.hash.includes('start_s=0&')")
    page.locator(".handle.end").focus()
    with page.expect_response("**/search") as answer:
        page.locator(".stretchfields input").nth(1).fill("1")
        page.keyboard.press("Enter")
    assert answer.value.status == 200
    until(page, "() => location.hash.includes('end_s=1')")
    until_here(page, lambda: page.locator(f"{CARDS} .score").all_text_contents() != before)
    network = page.context.new_cdp_session(page)
    network.send("HeapProfiler.collectGarbage")
    assert page.evaluate("performance.memory.usedJSHeapSize") < 300e6


@pytest.fixture
def labelled(made: Path, tmp_path: Path) -> Iterator[Client]:
    """A server of rows with a label that a spreadsheet would run."""
    write_tone(tmp_path / "tone.wav", 8.0)
    embedx.extract(tmp_path / "tone.wav", out=tmp_path / "field", window=2.0).close()
    with embedx.open(tmp_path / "field") as collection:
        collection.label(set={"label": "=cmd()"})
    with serving(tmp_path / "field") as running:
        yield running


def test_exports_hold_the_rows_that_are_shown_and_no_formula(labelled: Client, open_page: Open) -> None:
    page = open_page(labelled.port, "#field/find?where=start_s%20%3E%203", quiet=False)
    page.wait_for_selector(f"{ANSWERED} {CARDS}")
    assert page.locator(CARDS).count() == 2
    files = {}
    for name in ("CSV", "Raven", "Audacity", "clips"):
        page.locator(CARDS).first.focus()
        page.keyboard.press("e")
        with page.expect_download() as download:
            page.locator("dialog").get_by_role("button", name=name).click()
        files[name] = Path(download.value.path()).read_bytes()
        page.wait_for_selector("dialog", state="detached")
    lines = files["CSV"].decode().splitlines()
    assert len(lines) == 1 + 2
    assert "'=cmd()" in lines[1]
    with zipfile.ZipFile(io.BytesIO(files["clips"])) as clips:
        assert len([name for name in clips.namelist() if name.endswith(".wav")]) == 2
    for name in ("Raven", "Audacity"):
        assert files[name].count(b"=cmd()") == 2, files[name]
