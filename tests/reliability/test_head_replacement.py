"""A head is replaced by one rename: a kill or a power cut at any moment leaves the old head or the new one."""

import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedx.heads.head import Head
from embedx.heads.storage import find_head_issues, list_heads, load_heads, remove_head
from tests.helpers.head_data import X, Y, fit

CHANGES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")  # events of Python
KILLED = 9


@pytest.fixture(scope="module")
def heads() -> tuple[Head, Head]:
    old = fit("prototype", X, Y)
    return old, old.replace(arrays=dict(old.arrays) | {"bias": old.arrays["bias"] + 1})


def die_at(moment: int, action: Any) -> int:
    """Do something in a copy of this process that is killed at its n-th change of files; return its exit code."""
    process = os.fork()
    if process == 0:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in CHANGES:
                seen += 1
                if seen == moment:
                    os._exit(KILLED)

        sys.addaudithook(count)
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize("action", ["save", "save again", "remove"])
def test_kill_at_any_change_leaves_the_old_or_the_new_head(
    action: str, heads: tuple[Head, Head], tmp_path: Path
) -> None:
    old, new = heads
    bias = [head.arrays["bias"][0] for head in heads]
    outcomes: list[object] = []
    for moment in range(1, 100):
        collection = tmp_path / str(moment)
        folder = collection / "heads" / "mine"
        if action != "save":
            old.save(folder)
        job = partial(remove_head, collection, "mine") if action == "remove" else partial(new.save, folder)
        code = die_at(moment, job)
        found = load_heads(collection)
        outcomes.append(bias.index(found["mine"].arrays["bias"][0]) if found else None)
        assert not find_head_issues(collection)
        new.save(folder)  # and the next training works, and removes what was left behind
        np.testing.assert_array_equal(Head.load(folder).arrays["bias"], new.arrays["bias"])
        assert len(list(folder.iterdir())) == 2
        shutil.rmtree(collection)
        if code == 0:
            break
    before, after = {"save": (None, 1), "save again": (0, 1), "remove": (0, None)}[action]
    assert outcomes == sorted(outcomes, key=lambda one: one == after)  # once it is the new one, it stays
    assert outcomes[0] == before
    assert outcomes[-1] == after
    assert len(outcomes) > 4


def test_head_is_flushed_before_and_after_its_rename(
    heads: tuple[Head, Head], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def note_rename(source: Any, target: Any) -> None:
        calls.append(("rename", str(source)))
        rename(source, target)

    folder = tmp_path / "mine"
    heads[0].save(folder)
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_rename)
    heads[1].save(folder)
    renames = [place for place, (name, _) in enumerate(calls) if name == "rename"]
    assert [calls[place][1].endswith("head.json.new") for place in renames] == [False, True]
    for place in renames:
        assert ("fsync", calls[place][1]) in calls[:place]
        assert calls[place + 1] == ("fsync", str(folder))


def test_strange_files_and_damaged_heads_are_named(heads: tuple[Head, Head], tmp_path: Path) -> None:
    for name in ("good", "bad"):
        heads[0].save(tmp_path / "heads" / name)
    (file,) = (tmp_path / "heads" / "bad").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    (tmp_path / "heads" / "stray.txt").write_text("")
    (tmp_path / "heads" / "good" / "stray.py").write_text("")
    shutil.copytree(tmp_path / "heads" / "good", tmp_path / "heads" / "lost.old")  # a kill of version 1
    issues = {(kind, Path(place).name) for kind, place, _ in find_head_issues(tmp_path)}
    assert issues == {("head", "bad"), ("foreign", "stray.txt"), ("foreign", "stray.py"), ("head", "lost.old")}
    assert list_heads(tmp_path) == ["bad", "good"]
