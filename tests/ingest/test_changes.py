"""A second run on a changed source embeds only what changed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.cli import run
from embedx.errors import NothingToDo, UsageError
from embedx.ingest.pipeline import Progress

WriteWav = Callable[..., Path]


@pytest.fixture
def again(write_wav: WriteWav, tmp_path: Path) -> Callable[..., tuple[Progress, dict[str, int]]]:
    """Run extract on the folder `in`, and return its progress and path -> row id."""
    for name in "abcd":
        write_wav(f"in/{name}.wav", seconds=0.5 + 0.1 * ord(name) % 1)

    def extract(**options: Any) -> tuple[Progress, dict[str, int]]:
        seen: list[Progress] = []
        with embedx.extract(tmp_path / "in", out=tmp_path / "out", on_progress=seen.append, **options) as collection:
            rows = collection.rows()
            assert not collection.verify().found
            return seen[-1], {Path(path).name: number for number, path in rows["path"].items()}  # type: ignore[misc]

    extract()
    return extract


Again = Callable[..., tuple[Progress, dict[str, int]]]


def test_unchanged_source_writes_nothing(again: Again, tmp_path: Path) -> None:
    before = (tmp_path / "out/store.db").read_bytes()
    progress, _ = again()
    assert (progress.present, progress.embedded, progress.vanished) == (4, 0, 0)
    assert (tmp_path / "out/store.db").read_bytes() == before


def test_new_and_edited_files_are_embedded(again: Again, write_wav: WriteWav) -> None:
    write_wav("in/e.wav"), write_wav("in/b.wav", seconds=2)
    progress, ids = again()
    assert (progress.new, progress.edited, progress.present, progress.embedded) == (1, 1, 3, 2)
    assert sorted(ids) == ["a.wav", "b.wav", "c.wav", "d.wav", "e.wav"]
    assert ids["a.wav"] == 1
    assert ids["b.wav"] > 4, "an edited file gets new rows, with new ids"


def test_moved_file_keeps_its_row(again: Again, tmp_path: Path) -> None:
    (tmp_path / "in/sub").mkdir()
    shutil.move(tmp_path / "in/b.wav", tmp_path / "in/sub/renamed.wav")
    progress, ids = again()
    assert (progress.moved, progress.embedded, progress.present, progress.vanished) == (1, 0, 4, 0)
    assert ids["renamed.wav"] == 2


def test_copied_file_is_not_a_move(again: Again, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "in/b.wav", tmp_path / "in/copy.wav")
    progress, ids = again()
    assert (progress.moved, progress.embedded) == (0, 1)
    assert ids["b.wav"] == 2


def test_touched_file_is_not_embedded_again(again: Again, tmp_path: Path) -> None:
    os.utime(tmp_path / "in/b.wav", (1, 1))
    progress, ids = again()
    assert (progress.moved, progress.edited, progress.embedded, ids["b.wav"]) == (0, 0, 0, 2)
    before = (tmp_path / "out/store.db").read_bytes()
    again()  # the new time is stored, so the file is not read again
    assert (tmp_path / "out/store.db").read_bytes() == before


def test_edit_with_same_size_and_time_is_found_by_content(again: Again, tmp_path: Path) -> None:
    file = tmp_path / "in/b.wav"
    status, data = file.stat(), bytearray(file.read_bytes())
    data[-100:] = bytes(100)
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert again()[0].embedded == 0
    progress, ids = again(checksum=True)
    assert (progress.edited, progress.embedded) == (1, 1)
    assert ids["b.wav"] == 5


def test_missing_files_are_counted_and_pruned_on_request(again: Again, tmp_path: Path) -> None:
    (tmp_path / "in/b.wav").unlink()
    progress, ids = again()
    assert (progress.vanished, progress.pruned, len(ids)) == (1, 0, 4)
    progress, ids = again(prune=True)
    assert (progress.vanished, progress.pruned, sorted(ids)) == (1, 1, ["a.wav", "c.wav", "d.wav"])
    assert again()[0].vanished == 0


def test_files_of_another_source_are_not_missing(again: Again, write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("other/x.wav")
    embedx.extract(tmp_path / "other", out=tmp_path / "out").close()
    shutil.rmtree(tmp_path / "other")
    progress, ids = again(prune=True)
    assert (progress.vanished, len(ids)) == (0, 5)


def test_line_removed_from_manifest_is_missing(write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("a.wav"), write_wav("b.wav")
    table = tmp_path / "m.csv"
    table.write_text("path\na.wav\nb.wav\n")
    embedx.extract(table, out=tmp_path / "out").close()
    table.write_text("path\na.wav\n")
    with embedx.extract(table, out=tmp_path / "out", prune=True) as collection:
        assert [Path(path).name for path in collection.rows()["path"]] == ["a.wav"]


def test_empty_source_prunes_nothing(again: Again, tmp_path: Path) -> None:
    for file in (tmp_path / "in").iterdir():
        file.unlink()
    with pytest.raises(NothingToDo):
        again(prune=True)
    assert len(embedx.open(tmp_path / "out")) == 4


def test_shard_does_not_prune_other_shards(again: Again) -> None:
    progress, ids = again(shard="1/2", prune=True)
    assert (progress.vanished, len(ids)) == (0, 4)


def test_failures_are_retried_on_request(again: Again, tmp_path: Path) -> None:
    bad = tmp_path / "in/bad.wav"
    bad.write_bytes(b"nothing")
    assert again()[0].failures == {"not-audio": 1}
    progress, _ = again()
    assert (progress.failures, progress.retried) == ({"not-audio": 1}, 0)
    progress, _ = again(retry_failed=True)
    assert (progress.failures, progress.retried) == ({"not-audio": 1}, 1)


def test_dry_run_reports_changes_and_writes_nothing(again: Again, write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("in/e.wav")
    (tmp_path / "in/a.wav").unlink()
    before = (tmp_path / "out/store.db").read_bytes()
    progress, ids = again(dry_run=True)
    assert (progress.new, progress.vanished, progress.present, progress.expected_rows) == (1, 1, 3, 1)
    assert len(ids) == 4
    assert (tmp_path / "out/store.db").read_bytes() == before
    seen: list[Progress] = []
    embedx.extract(tmp_path / "in", out=tmp_path / "none", dry_run=True, on_progress=seen.append).close()
    assert seen[-1].new == 4
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("shard", ["0/2", "3/2", "a/b", "1", "1/0"])
def test_invalid_shard_is_refused(again: Again, shard: str) -> None:
    with pytest.raises(UsageError, match="i-th of n"):
        again(shard=shard)


def test_extract_command_reports_changes(
    again: Again, write_wav: WriteWav, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["extract", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    (tmp_path / "in/a.wav").unlink()
    write_wav("in/b.wav", seconds=2)
    assert run([*arguments, "--dry-run"]) == 0
    assert "to embed: 1 of 3 recordings" in capsys.readouterr().out
    assert run(arguments) == 0
    said = capsys.readouterr().out
    assert "1 edited" in said
    assert "--prune" in said
    assert run([*arguments, "--prune"]) == 0
    assert "so removed" in capsys.readouterr().out


def test_second_run_adds_labels_and_keeps_rows(again: Again, tmp_path: Path) -> None:
    before = embedx.open(tmp_path / "out").vectors()
    again(label=r"(\w)\.wav")
    with embedx.open(tmp_path / "out") as collection:
        assert collection.rows()["label"].tolist() == list("abcd")
        np.testing.assert_array_equal(collection.vectors(), before)
