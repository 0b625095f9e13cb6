"""A recording as a whole in a real browser: its picture, its sound in pieces without a gap, and the kept pitch."""

import wave
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import embedx
from tests.helpers.pages import until
from tests.helpers.service import Client, serving

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # pipes of the browser's driver
Open = Callable[..., Any]
SECONDS, RATE = 40, 8000
SPY = """
window.pieces = [];
const begin = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when, ...more) {
  pieces.push([when, this.buffer.duration / this.playbackRate.value]);
  return begin.call(this, when, ...more);
};
const Plain = Audio;
window.Audio = function (...given) { return (window.element = new Plain(...given)); };
"""
PLAYING = "() => import('./page/state.js').then(({state}) => state.playing?.key.startsWith('recording') ?? false)"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of a collection of one recording of 40 s: a tone that is higher in the second half."""
    folder = tmp_path_factory.mktemp("long")
    times = np.arange(SECONDS * RATE) / RATE
    samples = np.sin(2 * np.pi * np.where(times < SECONDS / 2, 300, 2000) * times) * 12_000
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    embedx.extract(folder, out=folder / "field", window=5.0).close()
    with serving(folder / "field") as running:
        yield running


def open_row(client: Client, open_page: Open) -> Any:
    page = open_page(client.port, "#field/find?row=2")
    page.add_init_script(SPY)
    page.reload()
    page.wait_for_selector(".timeline [role=slider] >> nth=1")
    return page


def place(page: Any) -> str:
    return str(page.locator(".timeline .picture").get_attribute("aria-valuetext"))


def test_recording_is_seen_whole_and_plays_in_pieces_without_a_gap(long: Client, open_page: Open) -> None:
    page = open_row(long, open_page)
    start = long.get("/v1/collections/field/rows/2").json["row"]["start_s"]
    assert place(page) == f"0:{start:02.0f} of 0:40"
    # the tone is low in the left half of the picture, and high in the right half
    loudest = """() => {
      const canvas = document.querySelector('.timeline .picture canvas'), {width, height} = canvas;
      if (width < 2) return null;
      const data = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, width, height).data.buffer);
      const red = (x, y) => data[y * width + x] & 255;
      return [0.25, 0.75].map((share) => {
        const x = Math.round(share * width);
        const lines = Array.from({length: height}, (_, y) => y);
        return lines.reduce((best, y) => red(x, y) > red(x, best) ? y : best) / height;
      });
    }"""
    until(page, f"() => ({loudest})() !== null")
    low, high = page.evaluate(loudest)
    assert low > high + 0.2
    page.get_by_role("button", name="Play the recording").click()
    until(page, "() => pieces.length === 2")
    (first, lasts), (second, _) = page.evaluate("pieces")
    assert abs(second - first - lasts) < 0.001
    assert abs(lasts - 5) < 0.001
    until(page, "start => document.querySelector('.timeline .picture').ariaValueNow > start", start)
    # keys move the place, another one is asked for, and only one sound plays
    page.locator(".timeline .picture").focus()
    page.keyboard.press("Home")
    until(page, "() => pieces.length === 4")
    assert place(page).startswith("0:0")
    page.keyboard.press("Space")
    until(page, f"async () => !(await ({PLAYING})())")
    page.keyboard.press("ArrowRight")
    assert place(page) in {f"0:{second:02} of 0:40" for second in range(5, 12)}
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Place in the recording"


def test_pitch_is_kept_at_another_speed_if_that_is_wanted(long: Client, open_page: Open) -> None:
    page = open_row(long, open_page)
    player = page.locator(".player")
    assert not player.get_by_role("button", name="Pitch").is_visible()
    page.keyboard.press("j")
    player.get_by_role("button", name="Pitch").click()
    player.locator(".main").click()
    until(page, "() => window.element?.currentTime > 0.05")
    assert page.evaluate("[element.playbackRate, element.preservesPitch, element.paused]") == [0.75, True, False]
    page.keyboard.press("j")
    until(page, "() => element.playbackRate === 0.5 && element.currentTime > 0.05")
    page.keyboard.press("Escape")
    assert page.evaluate("element.paused")
    assert page.evaluate("import('./page/state.js').then(({state}) => state.playing)") is None
    player.get_by_role("button", name="Pitch").click()
    before = page.evaluate("pieces.length")
    player.locator(".main").click()
    until(page, "before => pieces.length > before", before)


def test_picture_of_the_whole_recording_follows_the_settings(long: Client, open_page: Open) -> None:
    page = open_row(long, open_page)
    loaded = "() => document.querySelector('.timeline .picture:not(.loading) canvas')?.width > 1"
    until(page, loaded)
    pixels = "() => document.querySelector('.timeline .picture canvas').toDataURL()"
    before = page.evaluate(pixels)
    page.evaluate("import('./page/state.js').then(({setSettings}) => setSettings({fmax: 1000}))")
    until(page, f"before => ({loaded})() && ({pixels})() !== before", before)
