"""Remote files: what is tried again, what is an answer, and what an error says."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from embedx.errors import UsageError
from embedx.filesystem import remote, urls
from embedx.filesystem.remote import download, list_files, look_at
from embedx.filesystem.systems import SILENCE_S
from tests.helpers.buckets import Faults, web_server

pytest.importorskip("aiohttp", reason="web addresses need aiohttp")
DATA = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS_S", (0.01, 0.01, 0.01, 0.01))
    monkeypatch.setattr(remote, "outages", {})


@pytest.fixture
def web() -> Iterator[tuple[str, Faults]]:
    with web_server({"/a.wav": DATA, "/empty.wav": b""}) as server:
        yield server


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut", "drop"])
def test_file_arrives_whole_after_faults(web: tuple[str, Faults], tmp_path: Path, fault: str) -> None:
    address, faults = web
    faults.add("GET /a.wav", fault, fault, fault)
    download(look_at(f"{address}/a.wav"), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == DATA
    assert faults.count("GET /a.wav") == 4


def test_network_that_fails_is_not_a_missing_file(web: tuple[str, Faults], tmp_path: Path) -> None:
    address, faults = web
    found = look_at(f"{address}/a.wav")
    faults.add(".", always="500")
    with pytest.raises(ConnectionError, match=r"a\.wav cannot be reached: the server answers 500"):
        look_at(f"{address}/a.wav")
    with pytest.raises(ConnectionError):
        download(found, str(tmp_path / "copy"))
    with pytest.raises(ConnectionError, match="cannot be reached"):
        look_at("http://127.0.0.1:9/a.wav")  # no server


@pytest.mark.parametrize(
    ("fault", "error"), [("404", FileNotFoundError), ("410", FileNotFoundError), ("403", PermissionError)]
)
def test_answer_is_not_asked_for_again(web: tuple[str, Faults], fault: str, error: type[OSError]) -> None:
    address, faults = web
    faults.add(".", always=fault)
    with pytest.raises(error):
        look_at(f"{address}/a.wav")
    assert faults.count("HEAD") == 1


def test_host_that_failed_is_tried_once_until_it_answers(web: tuple[str, Faults]) -> None:
    address, faults = web
    faults.add("HEAD", "500", "500", "500", "500", "500", "500")
    faults.add("GET", "500", "500", "500", "500", "500", "500")
    for expected in (5, 6):
        with pytest.raises(ConnectionError):
            look_at(f"{address}/a.wav")
        assert faults.count("HEAD") == expected
    assert look_at(f"{address}/a.wav").size == len(DATA)
    faults.add("HEAD", "500", "500")
    faults.add("GET", "500", "500")
    assert look_at(f"{address}/a.wav").size == len(DATA)


def test_errors_hold_no_signature(web: tuple[str, Faults]) -> None:
    address, faults = web
    for fault in ("500", "403", "404", "418", "drop"):
        faults.rules.clear()
        faults.add(".", always=fault)
        with pytest.raises(OSError, match=r"a\.wav") as caught:
            look_at(urls.absolute(f"{address}/a.wav?X-Amz-Signature=c0ffee"))
        assert faults.count("c0ffee") > 0  # the server got it
        assert "c0ffee" not in str(caught.value)
        assert caught.value.__cause__ is None  # which would be shown in a traceback


def test_request_ends_when_the_caller_stops(web: tuple[str, Faults], tmp_path: Path) -> None:
    release = threading.Event()

    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with web_server({"/a.wav": DATA}) as (address, faults):
        found = look_at(f"{address}/a.wav")
        faults.next = lambda request: str(release.wait(60))[:0]  # type: ignore[method-assign]
        begin = time.monotonic()
        with pytest.raises(Stop):
            download(found, str(tmp_path / "copy"), stop)
        assert time.monotonic() - begin < SILENCE_S  # it did not wait for the server
        release.set()


def test_version_differs_after_a_change_of_the_same_size() -> None:
    files = {"/a.wav": b"one", "/none.wav": b""}
    with web_server(files) as (address, _):
        first = look_at(f"{address}/a.wav")
        assert look_at(f"{address}/a.wav") == first
        files["/a.wav"] = b"two"
        assert look_at(f"{address}/a.wav").version != first.version


def test_listing_of_a_bucket_is_that_of_its_files() -> None:
    system = fsspec.filesystem("memory")
    names = ["list/b.wav", "list/a/1.wav", "list/a/2.wav", "list2/c.wav"]
    for name in names:
        system.pipe_file(f"/{name}", b"x")
    assert [file.url for file in list_files("memory://list")] == [
        "memory://list/b.wav", "memory://list/a/1.wav", "memory://list/a/2.wav",
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError):
        list(list_files("memory://nothing"))


def test_missing_package_is_named() -> None:
    with pytest.raises(UsageError, match=r"pip install 'embedx\[gcs\]'"):
        look_at("gs://bucket/a.wav")
