"""The page of `embedx app` in a real browser; see CONTRIBUTING.md for the environment with Gradio."""

import importlib.util
import json
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import embedx
from tests.helpers.commands import COMMAND

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # pipes of the browser's driver
    pytest.mark.skipif(
        importlib.util.find_spec("gradio") is None,
        reason="gradio needs an older pillow than constraints.txt has: make test-gradio",
    ),
]
HOSTILE = '<img src=x onerror="document.title=1">${7*7}{{7*7}}'
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def app(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str, Path]]:
    """A running `embedx app`: its port, its secret path, and its collection, whose row 5 has a hostile label."""
    folder = tmp_path_factory.mktemp("gradio") / "field"
    shutil.copytree(made, folder)
    with embedx.open(folder) as collection:
        collection.fit_head("label", name="kind", permutations=0)
        collection.label(set={"label": HOSTILE}, where="id = 5")
    command = [*COMMAND, "app", str(folder), "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            match = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]{32}/)$", line)
            assert match, line + process.stderr.read()
            yield int(match[1]), match[2], folder
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert (process.wait(60), "Traceback" in rest, match[2] in rest) == (128 + signal.SIGINT, False, False)
        finally:
            process.kill()


def find(page: Any) -> str:
    """Press the button, and return the message."""
    page.get_by_role("button", name="Find").click()
    page.locator(".message").wait_for()
    return str(page.locator(".message").inner_text())


def choose(page: Any, file: Path) -> None:
    """Choose a file, and wait until it was uploaded."""
    with page.expect_response(lambda answer: "/upload" in answer.url and answer.request.method == "POST"):
        page.locator("input[type=file]").set_input_files(str(file))
    page.get_by_role("button", name="Clear").wait_for()


def test_file_gets_labels_and_hits_that_play(app: tuple[int, str, Path], open_page: Open) -> None:
    port, secret, folder = app
    with embedx.open(folder) as collection:
        path = Path(collection.rows()["path"].loc[5])
    page = open_page(port, secret)
    choose(page, path)
    assert find(page) == "10 hits, best first."
    first = page.locator(".hits tbody tr").first
    assert HOSTILE in first.inner_text()
    assert page.title() == "embedx: field"
    assert page.get_by_text("birdsong", exact=True).count() > 0  # a label with its probability
    times = first.locator("audio").evaluate("async sound => { await sound.play(); return sound.duration }")
    assert times > 1.0


def test_sound_of_the_microphone_gets_hits(app: tuple[int, str, Path], open_page: Open) -> None:
    page = open_page(*app[:2])
    page.get_by_role("button", name="Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    with page.expect_response(lambda answer: "/upload" in answer.url and answer.request.method == "POST"):
        page.get_by_role("button", name="Stop", exact=True).first.click()
    assert find(page) == "10 hits, best first."


def test_bad_file_gets_a_sentence(app: tuple[int, str, Path], open_page: Open, tmp_path: Path) -> None:
    page = open_page(*app[:2], quiet=False)
    assert find(page).startswith("Choose an audio file")
    for name, data, words in (("a.wav", b"no audio", "cannot be read as audio"), ("b.wav", b"", "b.wav is empty")):
        (tmp_path / name).write_bytes(data)
        page.reload()
        choose(page, tmp_path / name)
        assert words in find(page)
        assert page.get_by_role("alert").get_by_text(words).count() == 1


def ask_with(url: str, data: list[Any]) -> dict[str, Any]:
    """Send what the page sends, with other values, and return the answer."""
    config = json.loads(urllib.request.urlopen(f"{url}config").read())
    (number,) = (one["id"] for one in config["dependencies"] if len(one["inputs"]) == 3)
    body = json.dumps({"data": data, "fn_index": number, "session_hash": "hostile"}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{url}gradio_api/queue/join", body, headers)).close()
    with urllib.request.urlopen(f"{url}gradio_api/queue/data?session_hash=hostile", timeout=60) as events:
        for line in events:
            if b"process_completed" in line:
                answer: dict[str, Any] = json.loads(line.removeprefix(b"data: "))["output"]
                return answer
    return {}


def test_files_of_this_machine_and_other_hosts_are_not_read(app: tuple[int, str, Path]) -> None:
    port, secret, folder = app
    url = f"http://127.0.0.1:{port}/{secret}"
    meta = {"meta": {"_type": "gradio.FileData"}}
    for path in (str(folder / "store.db"), "http://127.0.0.1:9/a.wav", "https://192.0.2.1/a.wav"):
        for file in ({"path": path}, {"path": path, **meta}, {"path": {"path": path}}):
            for data in ([file, None, 3], [None, file, 3], [[file], None, 3]):
                assert ask_with(url, data)["error"] == "The file was not uploaded."


def test_nothing_is_served_without_the_secret(app: tuple[int, str, Path]) -> None:
    port, secret, _ = app
    home = f"http://127.0.0.1:{port}/"

    def status(address: str, **headers: str) -> int:
        try:
            return int(urllib.request.urlopen(urllib.request.Request(address, headers=headers)).status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status(home + secret) == status(f"{home}{secret}v1/collections/field/rows/5/audio") == 200
    assert status(home + secret, Host="example.org") == 400
    for path in ("", "config", "v1/collections/field/rows/5/audio", "gradio_api/info", "docs"):
        assert status(home + path) == 404
    assert status(f"{home}{secret}gradio_api/file=/etc/hostname") == 403
