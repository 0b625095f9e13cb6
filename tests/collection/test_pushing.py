"""A pushed collection is whole or not there, holds what was pushed, and only changes are sent."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

import embedx
from embedx.collection import pushing
from embedx.collection.pushing import fetch, push
from embedx.errors import DiskError, StoreError, UsageError
from embedx.filesystem import remote
from tests.helpers.collections import Make, assert_same, clusters
from tests.helpers.commands import Capture, outcome

URL = "memory://shelf/x"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(remote, "WAITS_S", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(remote, "outages", {})
    monkeypatch.setattr(pushing, "PART_BYTES", 32 << 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    system = fsspec.filesystem("memory")
    if system.exists("/shelf"):
        system.rm("/shelf", recursive=True)


@pytest.fixture
def folder(make: Make) -> Path:
    with make(*clusters(400, 4, 0.2)) as collection:
        collection.index()
        return collection.folder


def objects() -> dict[str, bytes]:
    """Return the objects of the bucket."""
    system = fsspec.filesystem("memory")
    return {name: system.cat_file(name) for name in system.find("/shelf")}


def fail(monkeypatch: pytest.MonkeyPatch, method: str, is_faulty: Callable[[int, str], bool]) -> list[str]:
    """Let some calls of a method of the bucket fail; return the list of the calls."""
    system, calls = fsspec.filesystem("memory"), list[str]()
    whole = getattr(type(system), method)

    def call(self: object, path: str, *arguments: object, **options: object) -> object:
        calls.append(path)
        if is_faulty(len(calls), path):
            raise ConnectionResetError("reset")
        return whole(self, path, *arguments, **options)

    monkeypatch.setattr(type(system), method, call)
    return calls


def test_pushed_collection_opens_with_the_same_rows(folder: Path) -> None:
    pushed = push(folder, URL + "/")
    assert 0 < pushed.bytes_sent <= pushed.bytes
    with embedx.open(URL) as opened, embedx.open(folder) as original:
        assert_same(opened.folder, folder)
        assert opened.search(id=5, k=3)[2].id == original.search(id=5, k=3)[2].id
        assert not opened.verify().found


def test_second_push_sends_only_what_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = push(folder, URL)
    assert push(folder, URL).parts_sent == 0
    with embedx.open(folder) as collection:
        collection.label(where="id = 7", set={"label": "new"})
    second = push(folder, URL)
    assert 0 < second.parts_sent < first.parts_sent
    before = fetch(URL)
    with embedx.open(folder) as collection:
        collection.label(where="id = 8", set={"label": "newer"})
    third = push(folder, URL)
    reads = fail(monkeypatch, "get_file", lambda number, path: False)
    assert fetch(URL) != before
    assert len(reads) == third.parts_sent + 1  # and the manifest
    with embedx.open(URL) as opened:
        assert opened.rows(ids=[7, 8])["label"].tolist() == ["new", "newer"]
    used = {part["digest"] for part in json.loads(objects()["/shelf/x/embedx.json"])["parts"]}
    assert len(objects()) - 1 < len(used) + second.parts_sent + third.parts_sent  # parts of the first push were removed


def test_push_that_stops_leaves_the_collection_of_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fail(patch, "pipe_file", lambda number, path: number > 5)
        with pytest.raises(DiskError, match="cannot be reached"):
            push(folder, URL)
    with pytest.raises(UsageError, match="not finished"):
        embedx.open(URL)
    sent = len(objects())
    remote.outages.clear()
    pushed = push(folder, URL)
    assert pushed.parts_sent < pushed.parts
    assert sent > 0
    with embedx.open(folder) as collection:
        collection.label(where="id < 300", set={"label": "new"})
    with monkeypatch.context() as patch:
        fail(patch, "pipe_file", lambda number, path: number > 1)
        with pytest.raises(DiskError):
            push(folder, URL)
    with embedx.open(URL) as opened:
        assert "new" not in opened.rows()["label"].tolist()


def test_download_that_stops_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = push(folder, URL).parts
    with monkeypatch.context() as patch:
        reads = fail(patch, "get_file", lambda number, path: number > 6)
        with pytest.raises(DiskError):
            fetch(URL)
    remote.outages.clear()
    reads = fail(monkeypatch, "get_file", lambda number, path: False)
    assert_same(fetch(URL), folder)
    assert len(reads) < parts
    cache = fetch(URL).parent
    assert list((cache / "parts").iterdir()) == []


@pytest.mark.parametrize("change", ["flip", "cut", "remove", "swap"])
def test_damaged_part_is_refused(folder: Path, change: str) -> None:
    push(folder, URL)
    system = fsspec.filesystem("memory")
    names = sorted(system.find("/shelf/x/parts"))
    for name in names[::7]:
        data = system.cat_file(name)
        if change == "remove":
            system.rm_file(name)
        else:
            flipped = bytes([data[0] ^ 1]) + data[1:]
            new = {"flip": flipped, "cut": data[:-1], "swap": system.cat_file(names[names.index(name) - 1])}
            system.pipe_file(name, new[change])
    with pytest.raises(StoreError, match="damaged"):
        embedx.open(URL)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", ".hidden", "index/../../evil", "a//b", ""])
def test_manifest_that_leaves_its_folder_is_refused(folder: Path, name: str) -> None:
    push(folder, URL)
    content = json.loads(objects()["/shelf/x/embedx.json"])
    del content["digest"]
    content["parts"][0]["name"] = name
    data = json.dumps({"digest": pushing.digest_of(pushing.canonical(content)), **content}).encode()
    fsspec.filesystem("memory").pipe_file("/shelf/x/embedx.json", data)
    with pytest.raises(StoreError, match="manifest"):
        embedx.open(URL)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"digest": 1}', b"\xff", b"[" * 100_000])
def test_manifest_of_anything_else_is_refused(data: bytes) -> None:
    fsspec.filesystem("memory").pipe_file("/shelf/x/embedx.json", data)
    with pytest.raises(StoreError, match="manifest"):
        embedx.open(URL)


def test_place_with_other_files_is_refused(folder: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/shelf/x/a.wav", b"x")
    with pytest.raises(UsageError, match=r"a\.wav"):
        push(folder, URL)
    assert set(objects()) == {"/shelf/x/a.wav"}


@pytest.mark.parametrize("place", ["https://example.org/x", "s3://k:c0ffee@b/x", "memory://a/*", "indexes/x"])
def test_other_place_is_refused(folder: Path, place: str) -> None:
    with pytest.raises(UsageError) as caught:
        push(folder, place)
    assert "c0ffee" not in str(caught.value)


@pytest.mark.parametrize(
    "command", [("status",), ("duplicates",), ("suggest",), ("probe", "--label", "site"), ("export", "-o", "x.csv")]
)
def test_web_address_is_no_collection(command: tuple[str, ...], capsys: Capture) -> None:
    code, _, err = outcome(capsys, command[0], "https://me:c0ffee@example.org/x", *command[1:])
    assert (code, "No collection can be read from https://***@example.org/x. Give the folder" in err) == (2, True), err


def test_commands_take_urls(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    code, out, _ = outcome(capsys, "push", folder, URL, "--json")
    assert code == 0
    assert json.loads(out)["bytes_sent"] > 0
    code, out, _ = outcome(capsys, "status", URL, "--format", "json")
    assert json.loads(out)["rows"] == 400
    assert outcome(capsys, "search", URL, "--id", "3")[0] == 0
    assert outcome(capsys, "backup", URL, tmp_path / "back")[0] == 0
    assert_same(tmp_path / "back", folder)
    assert outcome(capsys, "backup", folder, "memory://shelf/backup")[0] == 0
    code, _, err = outcome(capsys, "backup", folder, "memory://shelf/backup")
    assert (code, "holds a collection" in err) == (2, True)
    assert outcome(capsys, "export", URL, "-o", "memory://shelf/x.parquet")[0] == 0
    code, _, err = outcome(capsys, "export", URL, "-o", "memory://shelf/x.parquet")
    assert (code, "exists" in err) == (2, True)
    assert outcome(capsys, "export", folder, "-o", "memory://shelf/x.parquet", "--overwrite")[0] == 0
    assert outcome(capsys, "export", folder, "-o", "memory://shelf/m", "--format", "npy")[0] == 0
    system = fsspec.filesystem("memory")
    system.get("/shelf/m", str(tmp_path / "m"), recursive=True)
    system.get("/shelf/x.parquet", str(tmp_path / "x.parquet"))
    for name in ("m", "x.parquet"):
        with embedx.import_vectors(tmp_path / name, out=tmp_path / f"of-{name}") as again, embedx.open(folder) as whole:
            np.testing.assert_array_equal(again.vectors(), whole.vectors())
    for command in (("rm", "--where", "id = 1"), ("merge", "-o", str(tmp_path / "n")), ("serve",), ("mcp",), ("open",)):
        code, _, err = outcome(capsys, command[0], URL, *command[1:])
        assert (code, f"embedx backup {URL} FOLDER" in err) == (2, True), err
    code, _, err = outcome(capsys, "rm", "qdrant://h/x", "--where", "1")
    assert (code, "Give the folder from which qdrant://h/x was pushed" in err) == (2, True)
    code, _, err = outcome(capsys, "extract", folder, "-o", URL)
    assert (code, "embedx push" in err) == (2, True)
    assert not os.path.exists("memory:")
