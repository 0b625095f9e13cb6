"""Measure the page in Chromium, and write the part of BENCHMARKS.md. Takes some 6 minutes on two quiet cores.

Needs `pip install playwright` and /usr/bin/chromium. One server has 40 synthetic recordings in 2400 rows of 1 s, and
100 000 and 1 000 000 imported vectors. All times are taken inside of the browser, by its own clock.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import platform
import sys
import tempfile
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from page import ROOT, commit, write_part
from playwright.sync_api import sync_playwright
from service import Targets, running

import embedx
from embedx.bench.speed.roofline import name_device

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required")
PATIENCE_MS = 300_000
RATE, SECONDS, RECORDINGS = 16_000, 60, 40
NAMES = ("owl", "rain", "fox")
LABELS, MANY_LABELS = 60, 2000
SPY = (Path(__file__).parent / "browser.js").read_text(encoding="utf-8")
NEXT_ROW = """before => after(() => document.querySelector(".work").hidden ||
    document.querySelector(".place").textContent !== before)"""
MORE_ROWS = """after(() => {  // keys may be faster than the suggestions
    if (document.querySelector(".work").hidden) document.querySelector(".labelling .primary")?.click();
    return !document.querySelector(".work").hidden;
})"""
LIVE = "[...document.querySelectorAll('canvas')].filter((one) => one.width > 1).length"


def make_collections(folder: Path, million: int) -> None:
    """Write the collections that are not there yet."""
    generator = np.random.default_rng(0)
    if not (folder / "sounds").exists():
        (folder / "audio").mkdir(exist_ok=True)
        times = np.arange(RATE * SECONDS) / RATE
        for number in range(RECORDINGS):
            pitch = 400 + 70 * number + 200 * np.sin(2 * np.pi * times * (1 + number % 5))
            calls = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * (np.sin(2 * np.pi * times) > 0)
            soundfile.write(folder / f"audio/{number}.wav", 0.3 * calls + generator.normal(0, 0.02, times.size), RATE)
        embedx.extract(folder / "audio", out=folder / "sounds", window=1.0).close()
    for name, rows in {"many": 100_000, "million": million}.items():
        if not (folder / name).exists():
            kinds = generator.integers(0, 6, rows)
            vectors = generator.normal(size=(rows, 8)).astype(np.float32) + 4 * generator.normal(size=(6, 8))[kinds]
            facts = pd.DataFrame({"path": [f"{n}.wav" for n in range(rows)], "kind": np.array(list("abcdef"))[kinds]})
            embedx.import_vectors(vectors.astype(np.float32), out=folder / name, metadata=facts, name="other").close()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser while the context lasts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


def open_page(browser: Any, address: str, **options: Any) -> Any:
    """Open an address in a window of its own, with the spy in it."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}, "locale": "en-GB"} | options))
    tasks = json.dumps({"sounds": {"column": "label", "names": NAMES}})
    context.add_init_script(f"{SPY}\nlocalStorage.setItem('embedx.tasks', {json.dumps(tasks)});")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    return page


def ms(values: Sequence[float]) -> str:
    """Return the median and the largest of some times in words."""
    return f"{median(values):.0f} ms (at most {max(values):.0f})"


def first_visit(browser: Any, url: str, targets: Targets) -> None:
    """Measure the first visit, also over a slow network."""
    paint = "performance.getEntriesByType('paint').find((one) => one.name === 'first-contentful-paint').startTime"
    before = f"1 + performance.getEntriesByType('resource').filter((one) => one.startTime < {paint}).length"
    times, shifts, asked = [], [], 0
    for _ in range(5):
        page = open_page(browser, url)
        page.wait_for_selector(".card:not(.waiting)")
        page.wait_for_timeout(1000)
        times.append(page.evaluate(paint))
        asked = page.evaluate(before)
        shifts.append(page.evaluate("shift"))
        page.context.close()
    targets.add("first paint in 0.5 s", ms(times), median(times) < 500)
    targets.add("20 requests until then", str(asked), asked <= 20)
    targets.add("layout shift below 0.02: first visit", f"{max(shifts):.3f}", max(shifts) < 0.02)
    page = open_page(browser, "about:blank")
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 150, "downloadThroughput": 200_000, "uploadThroughput": 200_000}
    network.send("Network.emulateNetworkConditions", slow)
    page.goto(url)
    page.wait_for_selector(".card:not(.waiting)")
    late = page.evaluate(paint)
    targets.add("first paint in 2 s at 1.6 Mbit/s and 150 ms", f"{late:.0f} ms", late < 2000)
    page.context.close()


def dropped(browser: Any, url: str, targets: Targets) -> None:
    """Measure what happens after a sound of 5 s is dropped."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, RATE, 0, "NONE", ""))
        tone = np.sin(2 * np.pi * 900 * np.arange(5 * RATE) / RATE) * 12_000
        sound.writeframes(tone.astype("<i2").tobytes())
    text = base64.b64encode(file.getvalue()).decode()
    pictures, hits = [], []
    for _ in range(5):
        page = open_page(browser, url)
        page.wait_for_selector(".card:not(.waiting)")
        page.wait_for_timeout(500)
        picture, found = page.evaluate("text => drop(text)", text)
        pictures.append(picture)
        hits.append(found)
        page.context.close()
    targets.add("picture of a dropped sound of 5 s in 150 ms", ms(pictures), median(pictures) < 150)
    targets.add("hits of it in 1 s, logmel", ms(hits), median(hits) < 1000)


def find(browser: Any, url: str, targets: Targets) -> None:
    """Measure hits: sound after a key, the count of a filter, and 1000 of them."""
    page = open_page(browser, f"{url}#sounds/find?id=3")
    page.wait_for_selector(".card .score:not(:empty)")
    page.wait_for_timeout(1000)
    page.locator(".card").first.focus()
    for number in range(20):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(200)
        page.keyboard.press("Space")
        page.evaluate("count => after(() => starts.length === count)", number + 1)
        page.keyboard.press("Space")
    starts = page.evaluate("starts")
    targets.add("key to sound in 80 ms, a hit", ms(starts), median(starts) < 80)
    page.get_by_role("button", name="Filter", exact=True).click()
    page.locator("[role=combobox]").fill("SQL")
    page.keyboard.press("Enter")
    page.wait_for_selector(".panel textarea")
    counts = [page.evaluate("text => countRows(text)", f"start_s > {number}") for number in range(10)]
    targets.add("count of a filter in 200 ms", ms(counts), median(counts) < 200)
    page.keyboard.press("Escape")
    page.locator(".card").first.focus()
    page.evaluate("shift = 0")
    focused, most = page.evaluate("document.activeElement.id"), 0
    while page.locator(".card").count() < 1000:
        page.evaluate("scrollBy(0, 500)")
        page.wait_for_timeout(60)
        most = max(most, page.evaluate(LIVE))
    page.wait_for_timeout(1000)
    most = max(most, page.evaluate(LIVE))
    kept = page.evaluate("document.activeElement.id") == focused
    targets.add("1000 hits: at most 150 live canvases", str(most), most <= 150)
    targets.add("1000 hits: the focus is kept", "kept" if kept else "lost", kept)
    targets.add("1000 hits: layout shift below 0.02", f"{(shift := page.evaluate('shift')):.3f}", shift < 0.02)
    memory_of_all(browser, page, targets)
    page.context.close()


def memory_of_all(browser: Any, page: Any, targets: Targets) -> None:
    """Fill the caches, open the map of 100 000 rows, and read the memory."""
    fill = "Promise.all([import('./page/state.js'), import('./page/rows.js')]).then(async ([{state}, {soundOf}]) => "
    page.evaluate(fill + "{ for (const hit of state.hits) await soundOf(hit); })")
    page.evaluate("location.hash = '#many/map'")
    page.wait_for_selector(".legend li")
    page.wait_for_timeout(3000)
    heap, private = memory(browser, page)
    text = f"{private:.0f} MB private, heap and buffers {heap:.0f} MB"
    targets.add("memory below 300 MB: 1000 hits, full caches, map of 100 000", text, private < 300)


def memory(browser: Any, page: Any) -> tuple[float, float]:
    """Return the heap with its buffers and the private memory of the largest renderer, in MB, after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    heap = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    buffers = session.send("Runtime.getHeapUsage").get("backingStorageSize", 0)
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [one["id"] for one in processes if one["type"] == "renderer"]
    return (heap["JSHeapUsedSize"] + buffers) / 1e6, max(map(private_mb, renderers))


def private_mb(number: int) -> float:
    """Return the memory of a process that it shares with no other."""
    lines = Path(f"/proc/{number}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) * 1024 / 1e6


def shown_map(browser: Any, url: str, targets: Targets) -> None:
    """Measure the map of 100 000 rows."""
    page = open_page(browser, f"{url}#many/find")
    page.wait_for_selector(".card:not(.waiting)")
    page.wait_for_timeout(4000)  # the server makes the map after the first screen
    page.evaluate("location.hash = '#many/map'")
    first = page.evaluate("after(() => document.getElementById('mapnote')?.textContent)")
    page.wait_for_selector(".legend li")
    page.wait_for_timeout(2000)
    box = page.locator(".overlay").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("() => { window.times = frames(); }")
    end = time.monotonic() + 5
    while time.monotonic() < end:
        turn = time.monotonic() * 4
        page.mouse.move(x + 100 * np.cos(turn), y + 100 * np.sin(turn))
    page.mouse.up()
    moments = np.array(page.evaluate("() => { counting = false; return times; }"))
    p95 = float(np.quantile(np.diff(moments), 0.95))
    targets.add("map of 100 000: first points in 0.3 s", f"{first:.0f} ms", first < 300)
    text = f"{p95:.1f} ms, median {np.median(np.diff(moments)):.1f}"
    targets.add("map of 100 000: frames of 17 ms (p95) in 5 s of panning", text, p95 < 17.5)
    page.context.close()


def million(browser: Any, url: str, targets: Targets) -> None:
    """Measure the map of 1 000 000 rows."""
    page = open_page(browser, f"{url}#million/find")
    page.wait_for_selector(".card:not(.waiting)")
    page.evaluate("location.hash = '#million/map'")
    first = page.evaluate("after(() => document.getElementById('mapnote')?.textContent.includes('fair sample'))")
    page.wait_for_selector(".legend li")
    note = page.locator("#mapnote").inner_text().split(".")[0]
    targets.add("map of 1 000 000: a sample is announced", f"{note}, after {first / 1000:.1f} s", "200,000" in note)
    page.wait_for_timeout(2000)
    box = page.locator(".overlay").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    wanted = "after(() => /in view/.test(document.getElementById('mapnote').textContent))"
    page.mouse.wheel(0, -900)
    took = page.evaluate(wanted)
    for _ in range(4):  # until all that is in view is there
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(3000)
    note = page.locator("#mapnote").inner_text().split(".")[0]
    counts = [int(one.replace(",", "")) for one in note.split() if one[0].isdigit()]
    holds = len(counts) == 2 and counts[0] == counts[1]
    targets.add("map of 1 000 000: zooming brings the rest", f"{note}; the first after {took / 1000:.1f} s", holds)
    page.context.close()


def labelling(browser: Any, url: str, targets: Targets) -> None:
    """Measure labels by keys, their undo, and the memory after many of them."""
    page = open_page(browser, f"{url}#sounds/label?by=random")
    page.wait_for_selector(".keys .keyname >> nth=2")
    page.wait_for_timeout(2000)
    page.evaluate("() => { tasks.length = 0; shift = 0; }")
    for number in range(LABELS):
        page.wait_for_timeout(250)  # faster than a person
        page.keyboard.press(str(1 + number % len(NAMES)))
        page.evaluate("count => after(() => starts.length >= count)", number + 1)
    starts, tasks, shift = page.evaluate("[starts, tasks, shift]")
    page.evaluate("after(() => document.querySelector('header .state').textContent.includes('saved'))")
    stored = labelled(url)
    targets.add(f"{LABELS} labels by keys: all are stored", str(stored), stored == LABELS)
    late = sum(one > 80 for one in starts)
    targets.add(f"{LABELS} labels: each sound starts within 80 ms", f"{ms(starts)}, {late} later", late == 0)
    longest = max(tasks, default=0)
    text = f"{len(tasks)} over 50 ms" + (f", the longest {longest:.0f} ms" if tasks else "")
    targets.add(f"{LABELS} labels: no task over 50 ms", text, longest <= 50)
    targets.add(f"{LABELS} labels: layout shift below 0.02", f"{shift:.3f}", shift < 0.02)
    page.reload()
    page.wait_for_selector(".keys .keyname >> nth=2")
    for _ in range(LABELS):
        page.keyboard.press("u")
        page.wait_for_timeout(30)
    page.wait_for_timeout(1000)
    page.evaluate("after(() => document.querySelector('header .state').textContent.includes('saved'))")
    left = labelled(url)
    targets.add(f"{LABELS} times undo, over a reload: none is left", str(left), left == 0)
    heap, private = memory(browser, page)
    for number in range(MANY_LABELS):
        place = page.locator(".place").inner_text()
        page.keyboard.press(str(1 + number % len(NAMES)))
        page.evaluate(NEXT_ROW, place)
        page.evaluate(MORE_ROWS)
    page.evaluate("after(() => document.querySelector('header .state').textContent.includes('saved'))")
    page.wait_for_timeout(3000)
    later_heap, later = memory(browser, page)
    labels = labelled(url)
    text = f"{later_heap - heap:+.1f} MB of heap and buffers, {later - private:+.1f} MB private; {labels} labels"
    targets.add(f"{MANY_LABELS} labels: at most 20 MB more", text, later_heap - heap < 20 and labels == MANY_LABELS)
    page.context.close()


def labelled(url: str) -> int:
    """Return how many rows have a label."""
    request = urllib.request.Request(  # noqa: S310 -- our own server
        f"{url.rstrip('/')}/v1/collections/sounds/count",
        json.dumps({"filter": "label IS NOT NULL"}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- our own server
        return int(json.load(answer)["rows"])


def warm_up(url: str) -> None:
    """Wait until the server knows its collections: what is read once for every state is not measured."""
    while True:
        try:
            urllib.request.urlopen(f"{url}/v1/collections", timeout=300).close()  # noqa: S310 -- our own server
            return
        except urllib.error.HTTPError:  # the service gives up after its limit, and goes on reading
            time.sleep(1)


PARTS = {
    ("sounds", "many"): {"first": first_visit, "drop": dropped, "find": find, "map": shown_map, "label": labelling},
    ("million",): {"million": million},
}


def main() -> None:
    """Measure, print, and write the part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", help="default: all")
    parser.add_argument("--folder", type=Path, help="keep the collections here (default: a temporary folder)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the largest collection, to try the program")
    parser.add_argument("--dry-run", action="store_true", help="print, and do not write BENCHMARKS.md")
    options = parser.parse_args()
    load, targets = os.getloadavg()[0], Targets()
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make_collections(folder, options.rows)
        for names, parts in PARTS.items():
            wanted = {name: part for name, part in parts.items() if not options.parts or name in options.parts}
            if not wanted:
                continue
            served = [str(folder / name) for name in names]
            with running([sys.executable, "-m", "embedx", "serve", *served, "--port", "0", "--allow-labels"]) as (
                url,
                _,
                _,
            ):
                warm_up(url)
                for name, part in wanted.items():
                    part(browser, f"{url}/", targets)
                    print(time.strftime("%H:%M:%S"), name, *targets.lines, sep="\n", flush=True)
        version = browser.version
    lines = targets.table()
    print(*lines, sep="\n")
    loaded = f"2 cores of {name_device('cpu')}, load before {load:.1f} and at the end {os.getloadavg()[0]:.1f}"
    made = f"Made by `python benchmarks/browser.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}"
    head = f"{made}: {loaded}, Python {platform.python_version()}, Chromium {version} without a GPU."
    if not options.dry_run:
        write_part("Page", "\n".join([head, "", *lines]), ROOT / "BENCHMARKS.md")


if __name__ == "__main__":
    main()
