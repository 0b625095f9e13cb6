"""The program with an emulator of Google Cloud Storage: faults, changes, pushes. `make test-remote` runs it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import embedx
from embedx.engines import extract_shards
from embedx.errors import EmbedxError
from embedx.filesystem import remote, systems
from tests.helpers.buckets import Faults, assert_equals_files, module_server, no_copies, proxy, wav_bytes
from tests.helpers.collections import assert_same, content

pytest.importorskip("gcsfs", reason="not in the dev extra: make test-remote")
pytest.importorskip("gcp_storage_emulator", reason="not in the dev extra: make test-remote")
pytestmark = pytest.mark.long
FILES = {f"audio/{'owl' if number % 2 else 'wren'}/{number}.wav": wav_bytes(number) for number in range(8)}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    options = ("start", "--host", "127.0.0.1", "--in-memory", "--default-bucket", "birds", "--port")
    with module_server("gcp_storage_emulator", *options) as address:
        yield address


@pytest.fixture
def faults(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """A proxy before the server, through which this process and its children reach the bucket `birds`."""
    with proxy(server) as (address, faults):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setattr(remote, "WAITS_S", (0.01, 0.01, 0.01, 0.01))
        monkeypatch.setattr(remote, "outages", {})
        systems.make_system.cache_clear()
        for name, data in FILES.items():
            remote.write_bytes(f"gs://birds/{name}", data)
        faults.seen.clear()
        yield faults
        faults.rules.clear()
        remote.outages.clear()
        for file in list(remote.list_files("gs://birds")):
            remote.remove(file.url)
        systems.make_system.cache_clear()


def extract(out: Path, source: object = "gs://birds/audio", **options: object) -> list[str]:
    with no_copies(), embedx.extract(source, out=out, **options) as collection:  # type: ignore[arg-type]
        return sorted(collection.rows()["path"])


def test_bucket_equals_its_files_on_disk(faults: Faults, tmp_path: Path) -> None:
    assert extract(tmp_path / "c") == [f"gs://birds/{name}" for name in sorted(FILES)]
    assert faults.count("alt=media") == len(FILES)
    assert faults.count("maxResults=1$") == 0  # a listing for each file would cost more than reading it
    assert_equals_files(tmp_path / "c", FILES, tmp_path)
    faults.seen.clear()
    extract(tmp_path / "c")
    assert faults.count("alt=media") == 0  # nothing is read again
    remote.write_bytes("gs://birds/audio/owl/1.wav", wav_bytes(99))
    before = content(tmp_path / "c")
    extract(tmp_path / "c")
    changed = [
        path for (path, start), vector in content(tmp_path / "c").items() if (before[path, start] != vector).any()
    ]
    assert changed == ["gs://birds/audio/owl/1.wav"]


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut", "drop"])
def test_faults_that_pass_change_nothing(faults: Faults, tmp_path: Path, fault: str) -> None:
    extract(tmp_path / "whole")
    faults.add(r"/o\?", fault, "", fault, fault)
    faults.add("alt=media", *[fault, "", "", fault] * 3)
    assert len(extract(tmp_path / "c")) == len(FILES)
    assert [pattern for pattern, left in faults.rules if left] == []  # every fault has happened
    assert_same(tmp_path / "c", tmp_path / "whole")


@pytest.mark.parametrize("fault", ["500", "cut", "drop", "401", "403"])
def test_listing_that_fails_prunes_nothing(faults: Faults, tmp_path: Path, fault: str) -> None:
    paths = extract(tmp_path / "c")
    remote.remove("gs://birds/audio/owl/1.wav")
    faults.add(r"GET .*/o\?", always=fault)
    faults.seen.clear()
    assert extract(tmp_path / "c", prune=True) == paths
    assert faults.count(r"GET .*/o\?") <= 2 * remote.ATTEMPTS  # the library does not try again on its own
    with embedx.open(tmp_path / "c") as collection:
        (failure,) = collection.failures()
    assert failure.reason == "unreadable-folder"
    assert ("denied" if fault in ("401", "403") else "cannot be reached") in failure.detail
    faults.rules.clear()
    remote.outages.clear()
    assert len(extract(tmp_path / "c", prune=True)) == len(paths) - 1


def test_denied_recording_is_a_failure_by_name(faults: Faults, tmp_path: Path) -> None:
    faults.add("owl%2F1.wav.*alt=media", always="403")
    assert len(extract(tmp_path / "c")) == len(FILES) - 1
    with embedx.open(tmp_path / "c") as collection:
        (failure,) = collection.failures()
    assert failure.detail == "gs://birds/audio/owl/1.wav cannot be read: access is denied."


def test_pushed_collection_opens_on_another_machine(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    extract(tmp_path / "c")
    faults.add("POST", "500", "drop", "", "503")
    with embedx.open(tmp_path / "c") as collection:
        assert collection.push("gs://birds/pushed").parts_sent
        assert collection.push("gs://birds/pushed").parts_sent == 0
    faults.add("alt=media", "500", "cut", "drop")
    with embedx.open("gs://birds/pushed") as opened:
        assert_same(opened.folder, tmp_path / "c")
    with pytest.raises(EmbedxError, match="gs://birds/none"):
        embedx.open("gs://birds/none")


def test_shards_travel_through_a_bucket(faults: Faults, tmp_path: Path) -> None:
    plan = "gs://birds/plan"
    faults.add("POST", "", "500", "drop")
    extract_shards("gs://birds/audio", out=tmp_path / "a", shards=2, plan=plan, plan_only=True)
    with embedx.extract("gs://birds/audio", out=tmp_path / "b", plan=plan, shard="2/2") as part:
        assert len(part) == len(FILES) // 2
    faults.add("alt=media", "cut", "500", "drop")
    faults.add("DELETE", "503", "drop")
    merged = extract_shards("gs://birds/audio", out=tmp_path / "a", shards=2, plan=plan)
    assert merged is not None
    merged.close()
    assert [pattern for pattern, left in faults.rules if left] == []  # every fault has happened
    assert [file.url for file in remote.list_files("gs://birds") if "/plan/" in file.url] == []
    extract(tmp_path / "one")
    assert_same(tmp_path / "a", tmp_path / "one")
