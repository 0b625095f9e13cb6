"""What cannot be looked at is a failure by name, and never removes rows."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx
from embedx.errors import UsageError
from embedx.ingest.pipeline import Progress
from tests.helpers.commands import Capture, outcome
from tests.helpers.listings import failing_listings

NOBODY = 65534


def write_corpus(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(sum(name.encode()))
        soundfile.write(root / name, random.uniform(-0.5, 0.5, 4000).astype(np.float32), 8000)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "in", "a.wav", "one/b.wav", "one/deep/c.wav", "two/d.wav")
    return tmp_path / "in"


def extract(source: object, out: Path, **options: object) -> tuple[Progress, list[str]]:
    seen: list[Progress] = []
    with embedx.extract(source, out=out, on_progress=seen.append, **options) as collection:  # type: ignore[arg-type]
        return seen[-1], sorted(os.path.basename(path) for path in collection.rows()["path"])


ALL = ["a.wav", "b.wav", "c.wav", "d.wav"]


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOENT, errno.ETIMEDOUT])
@pytest.mark.parametrize("broken", [".", "one", "one/deep", "two"])
def test_folder_that_cannot_be_listed_loses_no_row(corpus: Path, tmp_path: Path, broken: str, error: int) -> None:
    extract(corpus, tmp_path / "c")
    (corpus / "two/d.wav").unlink()
    (corpus / "two/e.txt").touch()
    with failing_listings(corpus / broken, error=error):
        for _ in range(2):
            progress, rows = extract(corpus, tmp_path / "c", prune=True)
            assert rows == (ALL if broken in (".", "two") else ["a.wav", "b.wav", "c.wav"])
            assert progress.failures == {"unreadable-folder": 1}
            assert progress.done == progress.total
    with embedx.open(tmp_path / "c") as collection:
        (failure,) = collection.failures()
        assert failure.path == str(corpus if broken == "." else corpus / broken)
    progress, rows = extract(corpus, tmp_path / "c", prune=True)  # it can be listed again
    assert (rows, progress.failures, progress.embedded) == (["a.wav", "b.wav", "c.wav"], {}, 0)
    with embedx.open(tmp_path / "c") as collection:
        assert collection.failures() == []


def test_folder_that_stops_half_way_loses_no_row(corpus: Path, tmp_path: Path) -> None:
    write_corpus(corpus, *(f"many/{number}.wav" for number in range(6)))
    extract(corpus, tmp_path / "c")
    with failing_listings(corpus / "many", after=2):
        progress, rows = extract(corpus, tmp_path / "c", prune=True)
    assert (len(rows), progress.pruned, progress.hidden) == (10, 0, 4)


def test_copy_of_a_file_that_cannot_be_looked_at_is_not_a_move(corpus: Path, tmp_path: Path) -> None:
    extract(corpus, tmp_path / "c")
    shutil.copy(corpus / "two/d.wav", corpus / "copy.wav")
    with failing_listings(corpus / "two"):
        progress, rows = extract(corpus, tmp_path / "c", prune=True)
    assert (progress.moved, progress.embedded, rows) == (0, 1, sorted([*ALL, "copy.wav"]))


@pytest.mark.parametrize("inner", [False, True], ids=["source", "folder in a source"])
def test_mount_that_is_gone_loses_no_row(corpus: Path, tmp_path: Path, inner: bool) -> None:
    write_corpus(tmp_path / "other", "x.wav")
    sources = corpus if inner else [corpus, tmp_path / "other"]
    disk = corpus / "two" if inner else tmp_path / "other"
    _, before = extract(sources, tmp_path / "c")
    shutil.rmtree(disk)
    disk.mkdir()  # a mount point without its disk is an empty folder
    progress, rows = extract(sources, tmp_path / "c", prune=True)
    assert (rows, progress.failures, progress.hidden) == (before, {"unreadable-folder": 1}, 1)
    assert str(disk) in progress.problems[0]
    disk.rmdir()
    if inner:
        disk.symlink_to(tmp_path / "unplugged")
        assert extract(sources, tmp_path / "c", prune=True)[1] == before
        disk.unlink()
        assert extract(sources, tmp_path / "c", prune=True)[0].pruned == 1
    else:
        with pytest.raises(UsageError, match="no file or folder"):
            extract(sources, tmp_path / "c", prune=True)


@pytest.mark.parametrize("where", ["link", "manifest"])
def test_file_whose_disk_is_gone_keeps_its_rows(tmp_path: Path, where: str) -> None:
    write_corpus(tmp_path / "disk", "x.wav")
    write_corpus(tmp_path / "in", "a.wav")
    source = tmp_path / "in"
    if where == "link":
        (source / "x.wav").symlink_to(tmp_path / "disk/x.wav")
    else:
        source = source / "m.csv"
        source.write_text("path\na.wav\n../disk/x.wav\n")
    assert extract(source, tmp_path / "c")[1] == ["a.wav", "x.wav"]
    (tmp_path / "disk").rename(tmp_path / "gone")
    for _ in range(2):
        progress, rows = extract(source, tmp_path / "c", prune=True, retry_failed=True)
        assert (rows, progress.failures, progress.done) == (["a.wav", "x.wav"], {"missing": 1}, progress.total)
        assert "rows of an earlier run stay" in progress.problems[0]
    (tmp_path / "gone").rename(tmp_path / "disk")
    progress, rows = extract(source, tmp_path / "c")
    assert (progress.failures, progress.embedded, rows) == ({}, 0, ["a.wav", "x.wav"])


@contextlib.contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Run as a user to whom permissions apply; that user owns the folder."""
    if os.geteuid() != 0:
        yield
        return
    for place, _, files in os.walk(folder):
        for name in ("", *files):
            os.chown(os.path.join(place, name), NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; that of pytest is private."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_permissions_are_named_and_lose_no_row(open_folder: Path, capsys: Capture) -> None:
    corpus, out = open_folder / "in", open_folder / "c"
    write_corpus(corpus, "a.wav", "one/b.wav", "one/deep/c.wav", "two/d.wav")
    assert outcome(capsys, "extract", corpus, "-o", out)[0] == 0  # it starts the decoder, as this user
    with as_nobody(open_folder):
        os.chmod(corpus / "one/deep", 0)
        for mode in (0o755, 0o400, 0o100, 0):  # with 0o400 the names can be listed and nothing else
            os.chmod(corpus / "one", mode)
            code, text, _ = outcome(capsys, "extract", corpus, "-o", out, "--prune", "--json")
            summary = json.loads(text)
            assert (code, summary["rows"], summary["pruned"]) == (3, 4, 0)
        code, text, _ = outcome(capsys, "extract", corpus, "-o", out, "--prune")
        assert code == 3
        assert f"{corpus}/one cannot be searched: Permission denied" in text
        os.chmod(corpus, 0)
        code, text, _ = outcome(capsys, "extract", corpus, "-o", out, "--prune", "--json")
        assert (code, json.loads(text)["rows"]) == (3, 4)
        for folder in (corpus, corpus / "one", corpus / "one/deep"):
            os.chmod(folder, 0o755)
        code, text, _ = outcome(capsys, "extract", corpus, "-o", out, "--prune", "--json")
        assert (code, json.loads(text)["rows"], json.loads(text)["embedded"]) == (0, 4, 0)


def test_summary_says_what_was_passed_over(corpus: Path, tmp_path: Path, capsys: Capture) -> None:
    (corpus / "notes.txt").touch()
    (corpus / "nowhere").symlink_to("missing")
    code, text, _ = outcome(capsys, "extract", corpus, "-o", tmp_path / "c")
    assert code == 0
    assert "passed over: .txt (1), dangling links (1)" in text or "passed over: dangling links (1), .txt (1)" in text
    _, text, _ = outcome(capsys, "extract", corpus, "-o", tmp_path / "c", "--json")
    assert json.loads(text)["passed_over"] == {".txt": 1, "dangling links": 1}


def test_confined_extract_embeds_nothing_from_outside(corpus: Path, tmp_path: Path, capsys: Capture) -> None:
    write_corpus(tmp_path, "secret.wav")
    (corpus / "link.wav").symlink_to("../secret.wav")
    (corpus / "up").symlink_to("..")
    (corpus / "m.csv").write_text("path\na.wav\nlink.wav\n../secret.wav\nup/secret.wav\n")
    for source, refused in ((corpus, 2), (corpus / "m.csv", 3)):
        out = tmp_path / f"c{refused}"
        code, text, _ = outcome(capsys, "extract", source, "-o", out, "--confine", "--json")
        assert (code, json.loads(text)["failures"]) == (3, {"outside": refused})
        with embedx.open(out) as collection:
            assert {os.path.basename(path) for path in collection.rows()["path"]} <= set(ALL)
    assert outcome(capsys, "extract", corpus, "-o", tmp_path / "free", "--json")[0] == 0
    code, text, _ = outcome(capsys, "extract", corpus, "-o", tmp_path / "free", "--confine", "--json")
    assert code == 3
    assert json.loads(text)["failures"]["outside"] >= 1


def test_collection_whose_recordings_all_failed_says_why_the_first_did(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "recordings").mkdir()
    for name in ("0_ann_0.wav", "1_ann_0.wav", "0_bob_0.wav", "1_bob_0.wav"):
        (tmp_path / "recordings" / name).write_text("text")
    out = tmp_path / "c"
    assert outcome(capsys, "extract", tmp_path, "-o", out)[0] == 3
    bench = ["bench", "probe", "--task", f"fsdd={tmp_path}", "--model", "logmel", "-o", tmp_path / "b"]
    for command in (
        bench, ["probe", out], ["train", out], ["suggest", out, "--by", "diverse"], ["duplicates", out],
        ["search", out, tmp_path / "recordings/0_ann_0.wav"], ["export", out, "-o", tmp_path / "x.csv"],
        ["index", "build", out],
    ):  # fmt: skip
        code, _, log = outcome(capsys, *command)
        assert code in (2, 3, 8), log
        assert "0_ann_0.wav cannot be read as audio" in log
