"""Atomic writes: a folder is replaced in one step, and no link is written through."""

import os
import sys
import threading
from pathlib import Path

import pytest

from embedx.errors import StoreError
from embedx.filesystem.atomic import replace_file, whole_folder
from embedx.store.lock import Lock


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two folders in one step")
def test_folder_is_never_absent_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").touch()

    def stop(*_: object) -> None:
        raise OSError("stopped")

    monkeypatch.setattr(os, "rename", stop)  # a kill between two renames
    with whole_folder(folder) as new:
        (new / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_planted_links_are_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / "a.json.new").symlink_to(victim)
    (tmp_path / "lock").symlink_to(victim)
    replace_file(tmp_path / "a.json", b"new")
    with pytest.raises(StoreError, match="link"):
        Lock(tmp_path)
    assert victim.read_bytes() == b"untouched"
    assert (tmp_path / "a.json").read_bytes() == b"new"


def test_processes_that_replace_the_same_file_wait_for_each_other(tmp_path: Path) -> None:
    contents = {bytes([letter]) * 3_000_000 for letter in b"abc"}
    failed: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(10):
                replace_file(tmp_path / "a.json", content)
                assert (tmp_path / "a.json").read_bytes() in contents
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
