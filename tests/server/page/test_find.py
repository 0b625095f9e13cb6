"""The screen Find in a real browser: ask, answer, filter, refine, label, all by the keyboard."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.audio import spectrum
from embedx.server.tokens import Tokens, hash_token
from tests.helpers.pages import until, write_tone
from tests.helpers.service import Client, serving

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # pipes of the browser's driver
Open = Callable[..., Any]
CARDS = ".card:not(.waiting)"


@pytest.fixture(scope="module")
def own(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of a copy of the collection `made`, which may be labelled."""
    folder = tmp_path_factory.mktemp("page") / "field"
    shutil.copytree(made, folder)
    with serving(folder, allow_labels=True) as running:
        yield running


def find(page: Any, address_part: str = "") -> None:
    """Wait until the address has a part, and an answer is there."""
    until(page, "part => location.hash.includes(part)", address_part)
    page.wait_for_selector(".cards[aria-busy=false]")


def names(page: Any) -> list[str]:
    return list(page.locator(f"{CARDS} .name").all_text_contents())


def playing(page: Any) -> Any:
    return page.evaluate("import('./page/state.js').then(({state}) => state.playing?.key ?? null)")


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.tagName"))


def test_first_visit_shows_the_drop_zone_and_rows_that_space_plays(client: Client, open_page: Open) -> None:
    page = open_page(client.port)
    page.wait_for_selector(CARDS)
    assert page.locator(CARDS).count() == 12
    assert page.locator(".drop").is_visible()
    first = page.locator(CARDS).first.get_attribute("id")
    page.evaluate("import('./page/state.js').then(({setSettings}) => setSettings({loop: true}))")  # it does not end
    page.keyboard.press("Space")
    until(page, "() => import('./page/state.js').then(({state}) => state.playing !== null)")
    assert f"card{playing(page)[3:]}" == first == focused(page)
    page.keyboard.press("Space")
    assert playing(page) is None
    assert page.locator(".inspector h2").inner_text() in page.locator(CARDS).first.inner_text()


def test_dropped_sound_is_shown_and_found_and_the_first_hit_has_the_focus(
    client: Client, open_page: Open, tmp_path: Path
) -> None:
    page = open_page(client.port)
    page.wait_for_selector(CARDS)
    page.set_input_files("input[type=file]", write_tone(tmp_path / "tone.wav"))
    page.wait_for_selector(f"{CARDS} .score:not(:empty)")
    assert "clip=" in page.url
    assert focused(page) == page.locator(CARDS).first.get_attribute("id")
    assert page.locator(".lane canvas").count() == 2
    assert not page.locator(".drop").is_visible()
    handle = page.locator(".handle.end")
    handle.focus()
    page.keyboard.press("Shift+ArrowLeft")
    assert handle.get_attribute("aria-valuetext") == "1 s"
    find(page, "end_s=1")


SPY = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  if (window.refusal) throw new DOMException("", window.refusal);
  const stream = await ask(wanted);
  [window.track] = stream.getAudioTracks();
  return stream;
};
"""


@pytest.mark.long
def test_microphone_is_recorded_raw_and_only_searched_when_asked(client: Client, open_page: Open) -> None:
    page = open_page(client.port, "#made/find?id=3")
    page.add_init_script(SPY)
    page.reload()
    page.wait_for_selector(CARDS)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    record = page.locator("button.record")
    for refusal, words in (
        ("NotAllowedError", "allow it"),
        ("NotFoundError", "Plug one in"),
        ("NotReadableError", "another program"),
    ):
        page.evaluate("name => { window.refusal = name; }", refusal)
        record.click()
        until(page, "words => document.querySelector('.ask .error').textContent.includes(words)", words)
    page.evaluate("() => { window.refusal = ''; }")
    sent.clear()
    record.click()
    until(page, "() => document.querySelector('meter').value > 0.05")
    settings = page.evaluate("() => track.getSettings()")
    assert [settings[name] for name in ("echoCancellation", "noiseSuppression", "autoGainControl")] == [False] * 3
    assert not page.locator(".ask > .error").is_visible()
    until(page, "() => /0:(?!00)/.test(document.querySelector('.record').textContent)")
    record.click()
    search = page.get_by_role("button", name="Search with it")
    search.wait_for()
    assert page.evaluate("() => track.readyState") == "ended"
    assert sent == []
    assert page.evaluate("document.activeElement.textContent") == search.inner_text()
    page.keyboard.press("Enter")
    find(page, "clip=")
    page.wait_for_selector(f"{CARDS} .score:not(:empty)")
    record.click()
    until(page, "() => /0:(?!00)/.test(document.querySelector('.record').textContent)")
    page.evaluate("() => track.dispatchEvent(new Event('ended'))")
    until(page, "() => document.querySelector('.ask .error').textContent.includes('unplugged')")
    search.wait_for()  # what was recorded until then
    assert page.locator("meter").is_hidden()


@pytest.mark.long
def test_files_that_are_no_sound_are_explained_and_the_page_goes_on(
    client: Client, open_page: Open, tmp_path: Path
) -> None:
    page = open_page(client.port, quiet=False)
    page.wait_for_selector(CARDS)
    texts = []
    for name, content in {"notes.txt": b"no sound at all", "empty.wav": b""}.items():
        (tmp_path / name).write_bytes(content)
        page.set_input_files("input[type=file]", tmp_path / name)
        until(page, "name => document.querySelector('.ask .error').textContent.includes(name)", name)
        texts.append(page.locator(".ask > .error").inner_text())
    assert len(set(texts)) == 2
    silent = write_tone(tmp_path / "silent.wav", hz=0.0)
    page.set_input_files("input[type=file]", silent)
    until(page, "() => document.querySelector('.ask .error').textContent.includes('silence')")
    red = "document.querySelector('.lane canvas:not(.wave)').getContext('2d').getImageData(9, 9, 1, 1).data[0]"
    assert page.evaluate(red) == 0  # dark
    page.set_input_files("input[type=file]", write_tone(tmp_path / "tone.wav"))
    page.wait_for_selector(f"{CARDS} .score:not(:empty)")
    assert not page.locator(".ask > .error").is_visible()


def test_refining_by_keys_changes_the_hits_and_is_undone_in_order(client: Client, open_page: Open) -> None:
    page = open_page(client.port, "#made/find?id=3")
    page.wait_for_selector(CARDS)
    find(page)
    before = names(page)
    page.locator(CARDS).first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("m")
    find(page, "like=")
    page.wait_for_selector(".because .chip >> nth=1")
    page.locator(CARDS).nth(4).focus()
    page.keyboard.press("n")
    find(page, "unlike=")
    page.keyboard.press("u")
    until(page, "() => !location.hash.includes('unlike')")
    page.keyboard.press("u")
    until(page, "() => !location.hash.includes('like=')")
    until(
        page,
        "before => [...document.querySelectorAll('.card .name')].map((one) => one.textContent).join() === before",
        ",".join(before),
    )


def test_labels_are_given_and_undone_by_keys(own: Client, open_page: Open) -> None:
    page = open_page(own.port, "#field/find?id=3")
    page.wait_for_selector(".inspector .hint")
    page.locator(CARDS).first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".inspector .keys button >> nth=1")
    number = str(page.locator(CARDS).nth(1).get_attribute("id")).removeprefix("card")
    before = own.get(f"/v1/collections/field/rows/{number}").json["row"]["label"]
    other = next(one for one in page.locator(".keys button bdi").all_inner_texts() if one != before)
    digit = page.locator(".keys button", has_text=other).locator("kbd").inner_text()
    page.keyboard.press(digit)
    until(page, "() => document.querySelector('.state').textContent.includes('saved')")
    assert own.get(f"/v1/collections/field/rows/{number}").json["row"]["label"] == other
    assert page.locator(CARDS).nth(1).locator(".label").inner_text() == other
    page.keyboard.press("u")
    until(page, "label => document.querySelector('.keys .current bdi').textContent === label", before)
    until(page, "() => document.querySelector('.state').textContent.includes('saved')")
    assert own.get(f"/v1/collections/field/rows/{number}").json["row"]["label"] == before


@pytest.mark.long
def test_keys_do_nothing_in_a_text_field_and_read_only_is_explained(client: Client, open_page: Open) -> None:
    page = open_page(client.port, "#made/find?id=3")
    page.wait_for_selector(CARDS)
    find(page)
    page.locator(CARDS).first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".inspector .keys")
    page.keyboard.press("1")
    until(page, "() => document.getElementById('alert').textContent.includes('--allow-labels')")
    page.keyboard.press("f")
    page.wait_for_selector("[role=combobox]")
    page.keyboard.type("mnuhgf1 ")
    assert page.locator("[role=combobox]").input_value() == "mnuhgf1 "
    page.keyboard.press("Escape")
    assert not page.locator(".panel").is_visible()
    assert focused(page) == "BUTTON"
    page.keyboard.press("h")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert focused(page) == "BUTTON"


def test_nothing_runs_and_nothing_overflows_with_hostile_names(tmp_path: Path, open_page: Open) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    hostile = ["<img src=x onerror=alert(1)>", "javascript:alert(1)", "\u202egpj.wav", "x" * 200, "مرحبا", "🦉 \n neu"]
    for number, name in enumerate(hostile):
        write_tone(sounds / f"{name}.wav", seconds=0.5, hz=300.0 + 100 * number)
    embedx.extract(sounds, out=tmp_path / "odd").close()
    with serving(tmp_path / "odd", allow_labels=True) as odd:
        rows = odd.get("/v1/collections/odd/rows").json["rows"]
        label = "\u202e<script>alert(1)</script>\n"
        edits = [{"id": row["id"], "column": "label", "value": label} for row in rows]
        assert odd.post("/v1/collections/odd/labels", {"edits": edits}).status == 200
        page = open_page(
            odd.port,
            f"#odd/find?id={rows[0]['id']}&row={rows[1]['id']}&nosuch=1",
            viewport={"width": 320, "height": 700},
        )
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.wait_for_selector(CARDS)
        until(page, "() => document.getElementById('status').textContent !== ''")
        page.locator(CARDS).first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".inspector.open .near button")
        assert page.locator("img, main script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shown = page.locator("main").inner_text()
        assert "U+202E" in shown
        assert "U+000A" in shown
        assert "<img src=x" in shown
        page.close()  # before its server ends


@pytest.mark.parametrize(
    "width",
    [
        pytest.param(320, marks=pytest.mark.long),
        380,
        pytest.param(1280, marks=pytest.mark.long),
        pytest.param(2560, marks=pytest.mark.long),
    ],
)
def test_no_width_scrolls_sideways_and_every_control_has_a_name(client: Client, open_page: Open, width: int) -> None:
    page = open_page(
        client.port, "#made/find?id=3&row=4", viewport={"width": width, "height": 800}, color_scheme="dark"
    )
    page.wait_for_selector(CARDS)
    find(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, a, [role=slider], [role=img]')]"
        ".filter((one) => !(one.getAttribute('aria-label') || one.innerText || one.labels?.length || one.hidden))"
        ".map((one) => one.outerHTML)"
    )
    assert unnamed == []
    assert page.locator("h1").count() == 1


@pytest.mark.long
def test_export_holds_the_rows_that_are_shown(client: Client, open_page: Open) -> None:
    page = open_page(client.port, "#made/find?id=3", quiet=False)
    page.wait_for_selector(CARDS)
    find(page)
    page.keyboard.press("e")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    numbers = page.locator(CARDS).evaluate_all("cards => cards.map((one) => one.id.slice(4))")
    assert len(lines) == 1 + len(numbers)
    column = lines[0].split(",").index("id")
    assert [line.split(",")[column].strip('"') for line in lines[1:]] == numbers


@pytest.mark.long
def test_cards_out_of_view_give_their_canvas_back_and_the_focus_stays(client: Client, open_page: Open) -> None:
    page = open_page(client.port, "#made/find?id=3", viewport={"width": 380, "height": 400})
    live = "() => [...document.querySelectorAll('.card canvas')].map((one) => one.width > 1)"
    page.wait_for_selector(CARDS)
    find(page)
    until(page, f"() => ({live})()[0]")
    page.locator(CARDS).first.focus()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    until(page, f"() => ({live})().at(-1) && !({live})()[0]")
    assert focused(page) == page.locator(CARDS).first.get_attribute("id")
    page.evaluate("scrollTo(0, 0)")
    until(page, f"() => ({live})()[0] && !({live})().at(-1)")


@pytest.mark.long
def test_german_browser_gets_german_words(client: Client, open_page: Open) -> None:
    page = open_page(client.port, "#made/find?id=3", locale="de-DE")
    page.wait_for_selector(CARDS)
    find(page)
    assert page.evaluate("document.documentElement.lang") == "de"
    assert "Treffer" in page.locator("#count").inner_text()
    assert page.locator(f"{CARDS} .score").first.inner_text().startswith("0,")


@pytest.mark.long
def test_address_restores_the_question_and_back_goes_one_question_back(client: Client, open_page: Open) -> None:
    page = open_page(client.port, "#made/find?id=3&where=duration_s%20%3E%200&group=recording&row=5")
    page.wait_for_selector(CARDS)
    find(page)
    page.wait_for_selector(".inspector h2")
    assert page.locator(".options select").input_value() == "recording"
    page.locator(".options select").select_option("")
    until(page, "() => !location.hash.includes('group=')")
    find(page)
    page.go_back()
    until(page, "() => location.hash.includes('group=recording')")
    until(page, "() => document.querySelector('.options select').value === 'recording'")


@pytest.mark.long
def test_server_that_stops_is_announced_and_the_page_goes_on_when_it_is_back(made: Path, open_page: Open) -> None:
    with serving(made) as first:
        page = open_page(first.port, "#made/find?id=3", quiet=False)
        page.wait_for_selector(CARDS)
        find(page)
        until(page, "() => Boolean(document.querySelector('link[href*=large]')?.sheet)")  # the inspector has come
    page.locator(CARDS).first.focus()
    page.keyboard.press("m")
    page.wait_for_selector(".banner:visible")
    assert page.locator(CARDS).count() > 1
    assert "does not answer" in page.locator(".banner").inner_text()
    page.get_by_role("link", name="Map").click()
    page.wait_for_selector(".message")
    assert "does not answer" in page.locator(".message").inner_text()


@pytest.mark.long
def test_server_with_tokens_asks_for_one_over_the_page(made: Path, open_page: Open) -> None:
    with serving(made, tokens=Tokens(((hash_token("t" * 32), "read"),))) as closed:
        page = open_page(closed.port, quiet=False)
        page.wait_for_selector("dialog[open] input[type=password]")
        assert page.evaluate("() => document.activeElement.id") == "token"
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog .error:visible")
        page.locator("#token").fill("t" * 32)
        page.keyboard.press("Enter")
        page.wait_for_selector(CARDS)
        until(page, "() => document.querySelectorAll('.picture[aria-label*=loudest]').length > 0")
        page.close()  # before its server ends


@pytest.mark.long
def test_page_and_server_draw_the_same_levels(client: Client, open_page: Open) -> None:
    generator = np.random.default_rng(3)
    page = open_page(client.port)
    for rate in (16_000, 44_100, 192_000):
        samples = (np.sin(np.arange(rate // 2) ** 1.5 / 300) * 0.4 + generator.normal(0, 0.01, rate // 2)).astype(
            np.float32
        )
        drawn = page.evaluate(
            "async ([samples, rate]) => Array.from((await import('./page/spectrum.js'))"
            ".levelsOf(Float32Array.from(samples), rate, {width: 60, height: 32}))",
            [samples.tolist(), rate],
        )
        expected = spectrum.levels(samples, rate, spectrum.Spectrum(width=60, height=32))
        difference = np.abs(np.asarray(drawn).reshape(32, 60) - np.flipud(expected).astype(int))
        assert difference.max() <= 2  # the next level: levels are even numbers
        assert (difference > 0).mean() < 0.0001
