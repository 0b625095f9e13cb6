"""Find with real recordings: what the pictures show, what cannot be searched or heard, and what is said about it."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
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
RATE = 44_100
LIMIT_HZ = 8000  # what the model hears


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of three collections: `tones` (stereo, each channel by itself), `gone` (no files) and `damaged`."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "sounds").mkdir()
    times = np.arange(20 * RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 1000 * times)
    noise = np.random.default_rng(1).normal(0, 0.1, len(times))
    soundfile.write(folder / "sounds" / "tone.wav", np.stack([tone, noise], axis=1), RATE)
    embedx.extract(folder / "sounds", out=folder / "tones", window=5.0, channels="each").close()
    (folder / "lost").mkdir()
    write_tone(folder / "lost" / "lost.wav", 12.0)
    embedx.extract(folder / "lost", out=folder / "gone", window=5.0).close()
    (folder / "lost" / "lost.wav").unlink()
    shutil.copytree(folder / "gone", folder / "damaged")
    with serving(folder / "tones", folder / "gone", folder / "damaged") as running:
        with (folder / "damaged" / "store.db").open("r+b") as file:
            file.truncate(40_000)
        yield running


BRIGHTEST = """() => {
  const canvas = document.querySelector('.large canvas'), {width, height} = canvas ?? {width: 0};
  if (width < 2 || document.querySelector('.large .loading')) return null;
  const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
  const line = (y) => { let sum = 0; for (let x = 0; x < width; x++) sum += data[4 * (y * width + x)]; return sum; };
  const lines = Array.from({length: height}, (_, y) => line(y));
  return 100 * (1 - (lines.indexOf(Math.max(...lines)) + 0.5) / height);
}"""
PAINTED = "() => [...document.querySelectorAll('.card canvas')].map((one) => one.width > 1 ? one.toDataURL() : '')"


def percent(page: Any, selector: str) -> float:
    return float(page.locator(selector).first.evaluate("one => parseFloat(one.style.bottom)"))


def test_axes_agree_with_a_tone_and_settings_hold_for_every_picture(several: Client, open_page: Open) -> None:
    page = open_page(several.port, "#tones/find?row=1")
    page.wait_for_selector(f"{ANSWERED} {CARDS}")
    until(page, f"() => ({BRIGHTEST})() !== null")
    tick = ".axis span:text-is('1')"
    assert abs(page.evaluate(BRIGHTEST) - percent(page, tick)) < 1.5
    until(page, f"() => ({PAINTED})().every(Boolean)")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "spectrogram" in request.url else None)
    before = page.evaluate(PAINTED)
    page.locator(CARDS).first.focus()
    page.keyboard.press("+")
    until(page, f"before => ({PAINTED})().every((one, i) => one !== before[i])", before)
    page.keyboard.press("-")
    until(page, f"before => ({PAINTED})().join() === before.join()", before)
    assert asked == []
    page.evaluate("import('./page/state.js').then(({setSettings}) => setSettings({scale: 'linear'}))")
    until(page, f"before => ({PAINTED})().every((one, i) => one && one !== before[i])", before)
    until(page, f"() => ({BRIGHTEST})() !== null && document.querySelectorAll('.axis span').length > 2")
    until(page, "() => document.querySelector('.limit').offsetParent !== null")
    tick = ".axis span:text-is('10')"
    until_here(page, lambda: abs(percent(page, tick) - 100 * 10_000 / (RATE / 2)) < 1)
    until_here(page, lambda: abs((page.evaluate(BRIGHTEST) or 99) - 100 * 1000 / (RATE / 2)) < 1)
    assert abs(percent(page, ".limit") - 100 * LIMIT_HZ / (RATE / 2)) < 0.1
    assert len([url for url in asked if "scale=linear" in url]) == len(asked) > len(before)


def is_marked(page: Any, expected: list[float]) -> bool:
    """Tell whether the stretch of the row has this place and width in the large picture, in percent."""
    script = "one => one.hidden ? [] : [one.style.left, one.style.width].map(parseFloat)"
    return [round(share, 1) for share in page.locator(".large .marked").evaluate(script)] == expected


def test_wider_shows_five_seconds_on_each_side_and_channels_are_named(several: Client, open_page: Open) -> None:
    page = open_page(several.port, "#tones/find?where=id%20%3E%200")
    page.wait_for_selector(f"{ANSWERED} {CARDS}")
    moments = page.locator(f"{CARDS} .moment").all_text_contents()
    assert len(set(moments)) == len(moments) == 8
    assert sorted(moments)[:2] == ["0:00, channel 0", "0:00, channel 1"]
    rows = several.get("/v1/collections/tones/rows").json["rows"]
    for start, expected in ((0.0, [0.0, 50.0]), (10.0, [33.3, 33.3])):
        number = next(row["id"] for row in rows if row["start_s"] == start)
        page.locator(f"#card{number}").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".large .picture:not(.loading)")
        page.keyboard.press("w")
        until_here(page, partial(is_marked, page, expected))
        first = page.locator(".large .scale span").first.inner_text()
        assert first == f"0:{max(0, start - 5):04.1f}"
        assert not page.locator(".large .note").is_visible()
        assert page.locator(".player button", has_text="5 s").is_visible()


def test_damaged_collection_and_lost_recordings_are_explained_and_the_rest_works(
    several: Client, open_page: Open
) -> None:
    page = open_page(several.port, "#damaged/find", quiet=False)
    page.wait_for_selector(".message h1")
    assert "embedx verify indexes/damaged" in page.locator(".message").inner_text()
    page.get_by_role("button", name="Open gone").click()
    page.wait_for_selector(f"{ANSWERED} {CARDS}")
    until(page, "() => document.querySelector('.card .note:not([hidden])')?.textContent.includes('no longer where')")
    page.locator(CARDS).first.focus()
    page.keyboard.press("Space")
    until(page, "() => document.getElementById('alert').textContent.includes('no longer where')")
    page.keyboard.press("Enter")
    until(page, "() => document.querySelector('.large .note:not([hidden])')?.textContent.includes('no longer where')")
    page.locator(CARDS).first.focus()
    page.keyboard.press("m")
    page.wait_for_selector(f"{ANSWERED} {CARDS} .score:not(:empty)")
    assert page.locator("main img").count() == 0
    page.goto("about:blank")


def test_silence_and_wrong_filters_leave_no_other_answer_and_speak_german(
    several: Client, open_page: Open, tmp_path: Path
) -> None:
    page = open_page(several.port, "#tones/find?id=1&like=12345&where=nosuch%20=%201", locale="de-DE", quiet=False)
    problem = page.locator(".filter > .error")
    until_here(page, lambda: "Die Spalte nosuch gibt es nicht" in problem.inner_text())
    assert page.locator("code.at mark").inner_text() == "nosuch = 1"
    assert "Zeile 12345" in page.locator(".because").inner_text()
    page.wait_for_selector(ANSWERED)
    assert page.locator(".hits .error:visible").count() == 0
    page.locator(".filter .chip button").click()
    page.evaluate("location.hash = '#tones/find?id=1'")
    page.wait_for_selector(f"{ANSWERED} {CARDS} .score:not(:empty)")
    assert not problem.is_visible()
    page.set_input_files("input[type=file]", write_tone(tmp_path / "still.wav", hz=0.0))
    until(page, "() => document.querySelector('.ask > .error').textContent.includes('Das ist Stille')")
    until(page, "() => location.hash.includes('clip=') && !location.hash.includes('id=1')")
    assert page.locator(CARDS).count() == 0
    assert "still.wav" in page.locator(".lane").inner_text()
    page.reload()  # the sound is the question still
    until(page, "() => document.querySelector('.ask > .error')?.textContent.includes('Das ist Stille')")
    until_here(page, lambda: page.locator(CARDS).count() == 0)
