"""The sound of the page, rendered without a device: a loop without a gap, audible ultrasound, and sound first."""

import base64
import io
import wave
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.helpers.pages import until, until_here
from tests.helpers.service import Client

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # pipes of the browser's driver
Open = Callable[..., Any]
CARDS = ".card:not(.waiting)"
OFFLINE = """
window.AudioContext = class extends OfflineAudioContext {
  constructor() {
    super(1, 48000 * seconds, 48000);
    window.rendering = this;
  }
  resume() { return Promise.resolve(); }
};
"""
PLAY = """async ([settings, seconds, file, options]) => {
  const [{play, decode}, {setSettings}] = await Promise.all([import('./page/sound.js'), import('./page/state.js')]);
  window.seconds = seconds;
  setSettings(settings);
  const buffer = await decode(Uint8Array.from(atob(file), (sign) => sign.charCodeAt(0)));
  play('sound', buffer, options);
  const samples = (await rendering.startRendering()).getChannelData(0);
  return [buffer.sampleRate, Array.from(samples)];
}"""


def wav_of(samples: np.ndarray[Any, Any], rate: int) -> str:
    """Return a WAV file of samples between -1 and 1 as base64."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", ""))
        sound.writeframes((samples * 32_000).astype("<i2").tobytes())
    return base64.b64encode(file.getvalue()).decode()


def rendered(client: Client, open_page: Open, settings: Any, seconds: int, file: str, options: Any) -> Any:
    """Return the sample rate of a file and what the page plays of it at 48 kHz, with some settings."""
    page = open_page(client.port)
    page.add_init_script(OFFLINE)
    page.reload()
    page.wait_for_selector(CARDS)
    rate, samples = page.evaluate(PLAY, [settings, seconds, file, options])
    return rate, np.asarray(samples)


def test_loop_of_a_short_stretch_has_no_gap(client: Client, open_page: Open) -> None:
    samples = np.zeros(48_000)
    samples[4800:14_400] = 0.5  # what is looped; around it is silence
    _, played = rendered(
        client, open_page, {"loop": True}, 10, wav_of(samples, 48_000), {"from": 0.1, "to": 0.3, "at": 0.1}
    )
    quiet = np.flatnonzero(np.abs(played[4800:]) < 0.25)  # after the fade at the start
    runs = np.split(quiet, np.flatnonzero(np.diff(quiet) > 1) + 1)
    assert max(map(len, runs)) < 48  # 1 ms


FOLLOW = """async (file) => {
  const [{play, follow, decode}, {state}] = await Promise.all([import('./page/sound.js'), import('./page/state.js')]);
  window.seconds = 2;
  const buffer = await decode(Uint8Array.from(atob(file), (sign) => sign.charCodeAt(0))), told = [];
  play('first', buffer, {ended: () => told.push('ended')});
  const begun = () => told.push(`begun ${state.playing.key}`), ended = () => told.push('over');
  follow('first', 'second', buffer, {begun, ended});
  const samples = (await rendering.startRendering()).getChannelData(0);
  for (let i = 0; i < 100 && told.length < 2; i++) await new Promise((done) => setTimeout(done, 50));
  return [Array.from(samples), told, state.playing];
}"""


def test_sound_that_follows_another_begins_without_a_gap(client: Client, open_page: Open) -> None:
    page = open_page(client.port)
    page.add_init_script(OFFLINE)
    page.reload()
    page.wait_for_selector(CARDS)
    half = 0.5 * np.ones(24_000 - 100)  # no whole number of the blocks of a browser
    played, told, playing = page.evaluate(FOLLOW, wav_of(half, 48_000))
    loud = np.flatnonzero(np.abs(played) > 0.25)
    assert len(loud) == pytest.approx(2 * len(half), abs=480)  # the fade at the begin
    assert np.diff(loud).max() < 48  # 1 ms
    assert (told, playing) == (["begun second", "over"], None)


def test_ultrasound_at_a_tenth_of_the_speed_is_heard_at_a_tenth_of_its_pitch(client: Client, open_page: Open) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 40_000 * np.arange(76_800) / 384_000)  # 0.2 s
    rate, played = rendered(client, open_page, {"speed": 0.1}, 1, wav_of(tone, 384_000), {})
    assert rate == 384_000
    spectrum = np.abs(np.fft.rfft(played[4800:43_200] * np.hanning(38_400)))
    assert abs(np.argmax(spectrum) * 48_000 / 38_400 - 4000) < 5


def test_sound_overtakes_pictures_and_a_view_that_is_left_gives_its_requests_up(
    client: Client, open_page: Open
) -> None:
    page = open_page(client.port, "#made/about")
    page.wait_for_selector(".recipe pre")
    held: list[Any] = []
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.route("**/spectrogram.png?*", lambda route: held.append(route))
    page.evaluate("location.hash = '#made/find?id=3'")
    page.wait_for_selector(f"{CARDS} .score:not(:empty)")
    assert all(page.locator(f"{CARDS} .name").all_text_contents())  # words do not wait for pictures
    until_here(page, lambda: len(held) >= 3)
    page.locator(CARDS).first.focus()
    page.keyboard.press("Space")
    until(page, "() => document.querySelector('.card [aria-label=Stop]') !== null")
    small = [route.request.url for route in held if "width=320" in route.request.url]
    assert len(small) == 3  # the others wait: one place is kept for sound
    page.keyboard.press("Escape")
    page.get_by_role("link", name="About").click()
    page.wait_for_selector(".recipe pre")
    until_here(page, lambda: set(small) <= set(failed))
    assert len([route for route in held if "width=320" in route.request.url]) == 3  # none was asked for afterwards
