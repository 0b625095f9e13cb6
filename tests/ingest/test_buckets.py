"""The program with an S3 server: pages, faults, kills, and no credentials anywhere. `make test-remote` runs it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import embedx
from embedx.engines import extract_shards
from embedx.errors import DiskError
from embedx.filesystem import remote, systems
from tests.helpers.buckets import KEYS, Faults, assert_equals_files, no_copies, proxy, put, s3_server, send, wav_bytes
from tests.helpers.collections import assert_same

pytest.importorskip(
    "s3fs", reason="not in the dev extra: its botocore needs an older python-dateutil; make test-remote"
)
pytest.importorskip("moto", reason="not in the dev extra: see s3fs; make test-remote")
pytestmark = pytest.mark.long
FILES = {f"audio/{'owl' if number % 2 else 'wren'}/{number}.wav": wav_bytes(number) for number in range(12)}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def faults(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Faults]:
    """A proxy before the server, through which this process and its children reach the bucket `birds`."""
    with proxy(server) as (address, faults):
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": address}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(remote, "PAGE", 5)
        monkeypatch.setattr(remote, "WAITS_S", (0.01, 0.01, 0.01, 0.01))
        monkeypatch.setattr(remote, "outages", {})
        systems.make_system.cache_clear()
        put(server, "birds", FILES)
        yield faults
        send(server, "POST", "/moto-api/reset")
        systems.make_system.cache_clear()


def run(*arguments: object, code: int = 0) -> dict[str, object]:
    """Run the program, and return what it prints with --json."""
    command = [sys.executable, "-m", "embedx", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def extract(out: Path, source: object = "s3://birds/audio", **options: object) -> list[str]:
    with no_copies(), embedx.extract(source, out=out, **options) as collection:  # type: ignore[arg-type]
        return sorted(collection.rows()["path"])


def test_bucket_equals_its_files_on_disk(faults: Faults, tmp_path: Path) -> None:
    assert len(extract(tmp_path / "c")) == len(FILES)
    assert faults.count("list-type=2") == 3  # pages
    assert_equals_files(tmp_path / "c", FILES, tmp_path)
    before = faults.count("GET /birds/audio")
    assert run("extract", "s3://birds/audio", "-o", tmp_path / "c", "--json")["already_there"] == len(FILES)
    assert faults.count("GET /birds/audio") == before
    for file in (tmp_path / "c").rglob("*"):
        assert not file.is_file() or KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in file.read_bytes()


@pytest.mark.parametrize("fault", ["500", "503", "cut", "drop"])
def test_faults_that_pass_change_nothing(faults: Faults, tmp_path: Path, fault: str) -> None:
    extract(tmp_path / "whole")
    faults.add("list-type=2", fault, "", fault, fault)
    faults.add("GET /birds/audio/.*wav", *[fault, "", "", fault] * 4)
    assert len(extract(tmp_path / "c")) == len(FILES)
    assert [pattern for pattern, left in faults.rules if left] == []  # every fault has happened
    assert_same(tmp_path / "c", tmp_path / "whole")


@pytest.mark.parametrize("fault", ["500", "cut", "drop", "403"])
def test_listing_that_stays_cut_prunes_nothing(faults: Faults, server: str, tmp_path: Path, fault: str) -> None:
    paths = extract(tmp_path / "c")
    for name in list(FILES)[::2]:
        send(server, "DELETE", f"/birds/{name}")
    faults.add("continuation-token", always=fault)
    assert extract(tmp_path / "c", prune=True) == paths
    with embedx.open(tmp_path / "c") as collection:
        assert [failure.reason for failure in collection.failures()] == ["unreadable-folder"]
    faults.rules.clear()
    remote.outages.clear()
    assert len(extract(tmp_path / "c", prune=True)) == len(paths) // 2


def test_bucket_that_vanished_prunes_nothing(faults: Faults, server: str, tmp_path: Path) -> None:
    paths = extract(tmp_path / "c")
    send(server, "POST", "/moto-api/reset")
    summary = run("extract", "s3://birds/audio", "-o", tmp_path / "c", "--prune", "--json", code=3)
    assert summary["failures"] == {"unreadable-folder": 1}
    with embedx.open(tmp_path / "c") as collection:
        assert sorted(collection.rows()["path"]) == paths


def test_changed_object_of_the_same_size_is_embedded_again(faults: Faults, server: str, tmp_path: Path) -> None:
    extract(tmp_path / "c")
    put(server, "birds", {"audio/owl/1.wav": wav_bytes(99), "audio/owl/3.wav": FILES["audio/owl/3.wav"]})
    assert run("extract", "s3://birds/audio", "-o", tmp_path / "c", "--json")["edited"] == 1


def test_killed_run_goes_on(faults: Faults, server: str, tmp_path: Path) -> None:
    put(server, "birds", {f"audio/more/{number}.wav": wav_bytes(number) for number in range(20, 60)})
    command = [
        sys.executable,
        "-m",
        "embedx",
        "extract",
        "s3://birds/audio",
        "-o",
        str(tmp_path / "c"),
        "--progress",
        "json",
    ]
    for _ in range(2):
        begin = faults.count("GET /birds/audio/")
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while faults.count("GET /birds/audio/") < begin + 15 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(*command[3:-2], "--json")
    extract(tmp_path / "whole")
    assert_same(tmp_path / "c", tmp_path / "whole")


def test_signal_ends_a_run_whose_server_hangs(faults: Faults, tmp_path: Path) -> None:
    normal = faults.next

    def hang(request: str) -> str:
        fault = normal(request)
        if "GET /birds/audio/" in request:
            time.sleep(60)
        return fault

    faults.next = hang  # type: ignore[method-assign]
    command = [sys.executable, "-m", "embedx", "extract", "s3://birds/audio", "-o", str(tmp_path / "c")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not faults.count("GET /birds/audio/") and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143  # the server would take 60 s


def test_pushed_collection_opens_on_another_machine(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    extract(tmp_path / "c")
    faults.add("PUT", "500", "drop", "", "503")
    assert run("push", tmp_path / "c", "s3://birds/pushed", "--json")["parts_sent"]
    assert run("push", tmp_path / "c", "s3://birds/pushed", "--json")["parts_sent"] == 0
    faults.add("GET", "500", "cut", "drop")
    assert run("status", "s3://birds/pushed", "--format", "json")["rows"] == len(FILES)
    run("export", "s3://birds/pushed", "-o", "s3://birds/rows.parquet", "--json")
    with embedx.open("s3://birds/pushed") as opened:
        assert_same(opened.folder, tmp_path / "c")
        clips = opened.search(id=1, k=2)
        assert not clips.save_clips(tmp_path / "clips")  # the recordings are read from the bucket
    assert len(list((tmp_path / "clips").iterdir())) == 2


def test_shards_travel_through_a_bucket(faults: Faults, tmp_path: Path) -> None:
    """The plan, two workers and the merge are processes with folders of their own; the server fails now and then."""
    common = ["s3://birds/audio", "--plan", "s3://birds/plan", "--json"]
    faults.add(r"PUT /birds/plan", "", "500", "drop")
    extract_shards("s3://birds/audio", out=tmp_path / "a", shards=3, plan="s3://birds/plan", plan_only=True)
    faults.add(r"PUT /birds/plan/.*(done|embedx.json)", "500", "500")
    for number in (1, 2):
        run("extract", *common, "-o", tmp_path / f"worker{number}", "--shard", f"{number}/3")
    faults.add(r"GET /birds/plan/.*parts", "cut", "500", "drop")
    faults.add(r"DELETE|POST", "500")
    summary = run("extract", *common, "-o", tmp_path / "a", "--shards", "3")
    assert (summary["recordings"], summary["embedded"]) == (12, 12)
    assert [pattern for pattern, left in faults.rules if left] == []  # every fault has happened
    assert list(remote.list_files("s3://birds/plan")) == []
    extract(tmp_path / "one")
    assert_same(tmp_path / "a", tmp_path / "one")


def test_missing_bucket_is_named_where_something_is_written(faults: Faults, tmp_path: Path) -> None:
    extract(tmp_path / "c")
    with embedx.open(tmp_path / "c") as collection:
        writes = (
            lambda: collection.push("s3://nowhere/c"),
            lambda: collection.export("s3://nowhere/c.parquet"),
            lambda: extract_shards("s3://birds/audio", out=tmp_path / "d", shards=2, plan="s3://nowhere/plan"),
        )
        for write in writes:
            with pytest.raises(DiskError, match=r"s3://nowhere/.* cannot be written: there is no such bucket\. Create"):
                write()


def test_missing_credentials_are_named(faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    run("extract", "s3://birds/audio", "-o", tmp_path / "c", "--json", code=3)
    with embedx.open(tmp_path / "c") as collection:
        assert "credentials" in collection.failures()[0].detail
