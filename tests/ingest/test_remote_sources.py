"""Recordings in buckets and on web servers: found, compared, embedded, and never lost when the network fails."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import soundfile

import embedx
from embedx.errors import UsageError
from embedx.filesystem import remote
from embedx.ingest.pipeline import Progress
from tests.helpers.buckets import Faults, wav_bytes, web_server

pytest.importorskip("aiohttp", reason="web addresses need aiohttp")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS_S", (0.01, 0.01, 0.01, 0.01))
    monkeypatch.setattr(remote, "outages", {})


@pytest.fixture
def bucket() -> Iterator["fsspec.AbstractFileSystem"]:
    """A bucket in the memory of this process: memory://birds."""
    system = fsspec.filesystem("memory")
    for number, name in enumerate(("owl/1.wav", "owl/2.wav", "wren/3.wav", "wren/notes.txt", "wren/.hidden.wav")):
        system.pipe_file(f"/birds/{name}", wav_bytes(number))
    yield system
    system.rm("/birds", recursive=True)


def extract(source: object, out: Path, **options: object) -> tuple[Progress, list[str]]:
    seen: list[Progress] = []
    with embedx.extract(source, out=out, on_progress=seen.append, **options) as collection:  # type: ignore[arg-type]
        return seen[-1], sorted(collection.rows()["path"])


OWLS = ["memory://birds/owl/1.wav", "memory://birds/owl/2.wav"]
ALL = [*OWLS, "memory://birds/wren/3.wav"]


def test_bucket_gives_the_rows_of_a_folder(bucket: "fsspec.AbstractFileSystem", tmp_path: Path) -> None:
    bucket.get("/birds", str(tmp_path / "birds"), recursive=True)
    extract(tmp_path / "birds", tmp_path / "local")
    progress, paths = extract("memory://birds/", tmp_path / "c")
    assert paths == ALL
    assert progress.passed_over == {".txt": 1, "hidden": 1}
    with embedx.open(tmp_path / "c") as remotely, embedx.open(tmp_path / "local") as locally:
        assert remotely.rows()["label"].tolist() == locally.rows()["label"].tolist() == ["owl", "owl", "wren"]
        np.testing.assert_array_equal(remotely.vectors(), locally.vectors())
        assert remotely.root == "memory://birds"
        remotely.search(id=1, k=1).save_clips(tmp_path / "remote")
        (clip,) = (tmp_path / "remote").iterdir()
        assert len(clip.read_bytes()) > 4000
        assert remotely.search(ALL[2], k=1, exclude_self=False)[0].path == ALL[2]
    progress, _ = extract("memory://birds", tmp_path / "c")
    assert (progress.present, progress.embedded) == (3, 0)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("birds/**/*.wav", ALL), ("birds/*/[12].wav", OWLS), ("birds/owl/?.wav", OWLS), ("birds/o*/*", OWLS)],
)
def test_pattern_selects(bucket: object, tmp_path: Path, pattern: str, expected: list[str]) -> None:
    assert extract(f"memory://{pattern}", tmp_path / "c")[1] == expected


def test_changed_moved_and_deleted_objects(bucket: "fsspec.AbstractFileSystem", tmp_path: Path) -> None:
    extract("memory://birds", tmp_path / "c")
    bucket.pipe_file("/birds/owl/1.wav", wav_bytes(9))  # of the same size
    bucket.mv("/birds/owl/2.wav", "/birds/wren/2.wav")
    bucket.rm_file("/birds/wren/3.wav")
    progress, paths = extract("memory://birds", tmp_path / "c")
    assert (progress.edited, progress.moved, progress.vanished) == (1, 1, 1)
    assert paths == [OWLS[0], "memory://birds/wren/2.wav", ALL[2]]
    assert extract("memory://birds", tmp_path / "c", prune=True)[1] == paths[:2]


def test_listing_that_fails_halfway_prunes_nothing(
    bucket: "fsspec.AbstractFileSystem", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract("memory://birds", tmp_path / "c")
    bucket.rm_file("/birds/wren/3.wav")
    whole = type(bucket).ls

    def ls(self: object, path: str, detail: bool = True, **options: object) -> object:
        if path.endswith("wren"):
            raise ConnectionResetError("reset")
        return whole(self, path, detail, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "ls", ls)
        progress, paths = extract("memory://birds", tmp_path / "c", prune=True)
    assert paths == ALL
    assert progress.failures == {"unreadable-folder": 1}
    assert "memory://birds" in progress.failed_now[0]
    assert extract("memory://birds", tmp_path / "c", prune=True)[1] == OWLS


def test_bucket_that_is_gone_or_empty_prunes_nothing(bucket: "fsspec.AbstractFileSystem", tmp_path: Path) -> None:
    extract(["memory://birds/owl", "memory://birds/wren"], tmp_path / "c")
    bucket.rm("/birds/wren", recursive=True)
    progress, paths = extract(["memory://birds/owl", "memory://birds/wren"], tmp_path / "c", prune=True)
    assert paths == ALL
    assert progress.failures == {"unreadable-folder": 1}
    with embedx.open(tmp_path / "c") as collection:
        assert [failure.detail for failure in collection.failures()] == ["There is no memory://birds/wren."]


@pytest.fixture
def web() -> Iterator[tuple[str, Faults]]:
    with web_server({f"/{number}.wav": wav_bytes(number) for number in range(4)}) as server:
        yield server


def test_manifest_with_web_addresses(web: tuple[str, Faults], tmp_path: Path) -> None:
    address, faults = web
    (tmp_path / "local.wav").write_bytes(wav_bytes(7))
    signature = "X-Amz-Signature=c0ffee"
    lines = [f"{address}/{number}.wav?{signature},{'ab'[number % 2]}" for number in range(4)]
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *lines, "local.wav,b", f"{address}/none.wav,a"]))
    progress, paths = extract(tmp_path / "m.csv", tmp_path / "c")
    assert paths == sorted([str(tmp_path / "local.wav"), *(f"{address}/{number}.wav" for number in range(4))])
    assert progress.failures == {"missing": 1}
    assert faults.count("c0ffee") > 0
    for file in (tmp_path / "c").rglob("*"):
        assert file.is_dir() or b"c0ffee" not in file.read_bytes(), file
    downloads = faults.count("GET")
    assert extract(tmp_path / "m.csv", tmp_path / "c")[0].present == 5
    assert faults.count("GET") == downloads + 1  # only of the missing one, whose HEAD failed


def test_network_that_fails_later_keeps_rows_and_is_tried_again(web: tuple[str, Faults], tmp_path: Path) -> None:
    address, faults = web
    frame = pd.DataFrame({"path": [f"{address}/{number}.wav" for number in range(4)]})
    faults.add("/2.wav", always="500")
    progress, paths = extract(frame, tmp_path / "c", workers=0)
    assert progress.failures == {"network": 1}
    assert len(paths) == 3
    faults.rules.clear()
    faults.add(".", always="500")
    progress, kept = extract(frame, tmp_path / "c", prune=True)
    assert kept == paths
    assert progress.failures["network"] == 4
    faults.rules.clear()
    remote.outages.clear()
    progress, paths = extract(frame, tmp_path / "c")
    assert len(paths) == 4
    assert not progress.failures


def test_confined_manifest_reaches_no_server(web: tuple[str, Faults], tmp_path: Path) -> None:
    address, faults = web
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    (tmp_path / "m.csv").write_text(f"path\na.wav\n{address}/1.wav\n")
    progress, paths = extract(tmp_path / "m.csv", tmp_path / "c", confine=True)
    assert paths == [str(tmp_path / "a.wav")]
    assert progress.failures == {"outside": 1}
    assert faults.seen == []


def test_password_in_a_manifest_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\na.wav\ns3://me:c0ffee@bucket/a.wav\n")
    with pytest.raises(UsageError, match=r"Line 3 of .*m\.csv.*\*\*\*@bucket") as caught:
        extract(tmp_path / "m.csv", tmp_path / "c")
    assert "c0ffee" not in str(caught.value)


def test_manifest_in_a_bucket_names_its_neighbours(bucket: "fsspec.AbstractFileSystem", tmp_path: Path) -> None:
    bucket.pipe_file("/birds/m.csv", b"path,site\nowl/1.wav,A\n../birds/wren/3.wav,B\n")
    assert extract("memory://birds/m.csv", tmp_path / "c")[1] == [ALL[0], ALL[2]]
