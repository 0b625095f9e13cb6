"""What the search of a folder finds, follows, passes over, and cannot look at."""

import os
import socket
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from embedx.datasets.items import Item, path_to_open
from embedx.datasets.sources import read_corpus
from embedx.datasets.walk import Survey
from embedx.errors import AudioError, NothingToDo, UsageError
from tests.helpers.listings import failing_listings


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names(items: list[Item], root: Path) -> list[str]:
    return [os.path.relpath(item.path, root) for item in items]


def refused(items: list[Item], root: Path) -> list[str]:
    """Return the items that must not be opened."""
    result = []
    for item in items:
        try:
            path_to_open(item)
        except AudioError as error:
            assert error.reason == "outside"
            result.append(item)
    return sorted(names(result, root))


def test_linked_folder_is_searched_once_and_real_names_come_first(tmp_path: Path) -> None:
    touch(tmp_path, "in/z/1.wav", "pool/2.wav", "pool/deep/3.wav", "in/real.wav")
    for link, target in {
        "in/a": "z", "in/loop": ".", "in/z/up": "..", "in/p1": "../pool", "in/p2": "../pool", "in/self": "self",
        "in/file.wav": "real.wav", "in/out.wav": "../pool/2.wav",
    }.items():  # fmt: skip
        (tmp_path / link).symlink_to(target)
    survey = Survey()
    assert names(read_corpus(tmp_path / "in", survey=survey), tmp_path / "in") == [
        "file.wav", "out.wav", "real.wav", "z/1.wav", "p1/2.wav", "p1/deep/3.wav",
    ]  # fmt: skip
    assert survey.passed_over == {"folders found twice": 4, "dangling links": 1}


def test_chain_of_links_out_and_back_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.wav", "b/2.wav", "c/3.wav")
    for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / one / "next").symlink_to(tmp_path / other)
    assert names(read_corpus(tmp_path / "a"), tmp_path / "a") == ["1.wav", "next/2.wav", "next/next/3.wav"]


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.txt", "c.TXT", "d.xyz", "e", "f.2026-01-01", ".hidden.wav", ".git/x.wav")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "x.wav").symlink_to("missing.wav")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
        survey = Survey()
        items = read_corpus(tmp_path, survey=survey)
    assert names(items, tmp_path) == ["a.wav", "x.wav"]
    assert survey.passed_over == Counter(
        {".txt": 2, ".xyz": 1, "other files": 2, "hidden": 2, "special files": 2, "dangling links": 1}
    )
    with pytest.raises(NothingToDo, match=r"Passed over: \.gz \(1\)\."):
        touch(tmp_path, "other/x.gz")
        read_corpus(tmp_path / "other")


@pytest.mark.parametrize("layout", ["auto", "files", "folders"])
def test_folder_that_cannot_be_listed_is_an_item_with_a_problem(tmp_path: Path, layout: str) -> None:
    touch(tmp_path, "dog/1.wav", "dog/deep/2.wav", "cat/3.wav", "owl/4.wav")
    for broken in ("owl", "dog/deep"):
        survey = Survey()
        with failing_listings(tmp_path / broken):
            items = read_corpus(tmp_path, layout, survey=survey)
        assert names([item for item in items if item.problem], tmp_path) == [broken]
        assert survey.covers(str(tmp_path / broken / "any/x.wav")) == str(tmp_path / broken)
        readable = {item.label for item in items if not item.problem}
        assert readable == ({None} if layout == "files" else {"dog", "cat", "owl"} - {broken})
    with failing_listings(tmp_path):
        assert names(read_corpus(tmp_path, layout), tmp_path) == ["."]


def test_folder_that_fails_half_way_keeps_what_was_listed(tmp_path: Path) -> None:
    touch(tmp_path, *(f"in/{number}.wav" for number in range(10)))
    with failing_listings(tmp_path / "in", after=4):
        items = read_corpus(tmp_path)
    assert len([item for item in items if not item.problem]) == 4
    assert [item.path for item in items if item.problem] == [str(tmp_path / "in")]


def test_unlisted_folder_does_not_change_a_known_layout(tmp_path: Path) -> None:
    touch(tmp_path, "recordings/3_ann_0.wav", "recordings/4_bob_1.wav", "recordings/more/5_bob_1.wav")
    with failing_listings(tmp_path / "recordings/more"):
        items = read_corpus(tmp_path)
    assert [(item.label, bool(item.problem)) for item in items] == [("3", False), ("4", False), (None, True)]


def test_manifest_may_name_any_file_and_confine_refuses_those_outside(tmp_path: Path) -> None:
    touch(tmp_path, "audio/x.wav", "m/in.wav")
    (tmp_path / "m/link.wav").symlink_to("../audio/x.wav")
    (tmp_path / "m/folder").symlink_to("../audio")
    (tmp_path / "m/same.wav").symlink_to("in.wav")
    paths = ["../audio/x.wav", "in.wav", "ok/../in.wav", "link.wav", "folder/x.wav", "same.wav"]
    paths.append(str(tmp_path / "audio/y.wav"))
    frame = pd.DataFrame({"path": paths})
    frame.to_csv(tmp_path / "m/m.csv")
    assert refused(read_corpus(tmp_path / "m/m.csv"), tmp_path) == []
    items = read_corpus(tmp_path / "m/m.csv", survey=Survey(confine=True))
    outside = ["audio/x.wav", "audio/y.wav", "m/folder/x.wav", "m/link.wav"]
    assert refused(items, tmp_path) == outside
    assert all(
        path_to_open(item) == str(tmp_path / "m/in.wav") for item in items if os.path.basename(item.path) == "in.wav"
    )


def test_confined_folder_neither_opens_nor_lists_what_is_outside(tmp_path: Path) -> None:
    touch(tmp_path, "secret/x.wav", "in/a.wav", "in-other/b.wav")
    for link, target in {
        "in/x.wav": "../secret/x.wav", "in/s": "../secret", "in/sib": "../in-other", "in/me": ".", "in/b.wav": "a.wav",
    }.items():  # fmt: skip
        (tmp_path / link).symlink_to(target)
    items = read_corpus(tmp_path / "in", survey=Survey(confine=True))
    assert sorted(names(items, tmp_path / "in")) == ["a.wav", "b.wav", "s", "sib", "x.wav"]
    assert refused(items, tmp_path / "in") == ["s", "sib", "x.wav"]


def test_confined_file_that_becomes_a_link_later_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "secret.wav", "in/a.wav")
    (item,) = read_corpus(tmp_path / "in", survey=Survey(confine=True))
    (tmp_path / "in/a.wav").unlink()
    (tmp_path / "in/a.wav").symlink_to("../secret.wav")
    with pytest.raises(AudioError, match="outside"):
        path_to_open(item)


def test_confined_layout_refuses_entries_and_lists_outside(tmp_path: Path) -> None:
    root = tmp_path / "set"
    touch(root, "audio/1.wav")
    touch(tmp_path, "2.wav")
    (root / "audio/3.wav").symlink_to("../../2.wav")
    table = "filename,category,src_file,fold\n1.wav,a,1,1\n../../2.wav,b,2,2\n3.wav,b,3,2\n"
    (tmp_path / "elsewhere.csv").write_text(table)
    (root / "meta").mkdir()
    (root / "meta/esc50.csv").write_text(table)
    assert refused(read_corpus(root), tmp_path) == []
    assert refused(read_corpus(root, survey=Survey(confine=True)), tmp_path) == ["2.wav", "set/audio/3.wav"]
    (root / "meta/esc50.csv").unlink()
    (root / "meta/esc50.csv").symlink_to("../../elsewhere.csv")
    with pytest.raises(UsageError, match="--confine"):
        read_corpus(root, survey=Survey(confine=True))
