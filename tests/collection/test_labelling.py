import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

import embedx
from embedx.cli import run
from embedx.errors import NothingToDo, UsageError
from embedx.store.edits import value_of
from embedx.store.schema import FILE_NAME

RATE = 16_000
SOURCE_LABEL = "from the source"


def write_noise(path: Path, seconds: float, seed: int = 0) -> None:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="FLOAT")


class Corpus:
    """Two recordings in a manifest, and the collection of their windows of 1 s."""

    def __init__(self, folder: Path) -> None:
        self.audio, self.out, self.table = folder / "audio", folder / "c", folder / "audio" / "clips.csv"
        write_noise(self.audio / "a.wav", 4, seed=1)
        write_noise(self.audio / "b.wav", 3, seed=2)
        self.write("a.wav", "b.wav")
        self.extract()

    def write(self, *names: str, label: str = SOURCE_LABEL, site: str = "north") -> None:
        lines = [f"{name},{label},{site}\n" for name in names]
        self.table.write_text("path,label,site\n" + "".join(lines))

    def extract(self, source: Path | None = None, **options: Any) -> None:
        embedx.extract(source or self.table, out=self.out, **{"window": 1, **options}).close()

    def open(self) -> embedx.Collection:
        return embedx.open(self.out)

    def label(self, *arguments: Any, **options: Any) -> Any:
        with self.open() as collection:
            return collection.label(*arguments, **options)

    def values(self, name: str = "a.wav", column: str = "label") -> dict[float, Any]:
        """Return start -> value of the rows of a recording."""
        with self.open() as collection:
            assert not collection.verify().found
            rows = [row for row in collection.store.rows() if os.path.basename(row.path) == name]
            return {row.start_s: value_of(row, column) for row in rows}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def add_tag(path: Path) -> None:
    """Add a chunk that no decoder reads: the file has another size, time and content, and the same samples."""
    data = bytearray(path.read_bytes())
    data += b"tags" + (8).to_bytes(4, "little") + b"whatever"
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    path.write_bytes(data)


def run_again(corpus: Corpus) -> None:
    corpus.extract()


def run_with_other_source_metadata(corpus: Corpus) -> None:
    corpus.write("a.wav", "b.wav", label="changed", site="south")
    corpus.extract()


def run_on_the_folder(corpus: Corpus) -> None:
    corpus.extract(corpus.audio)


def touch(corpus: Corpus) -> None:
    os.utime(corpus.audio / "a.wav", (1, 1))
    corpus.extract()


def edit_tags(corpus: Corpus) -> None:
    add_tag(corpus.audio / "a.wav")
    corpus.extract()


def edit_tags_and_run_on_the_folder(corpus: Corpus) -> None:
    add_tag(corpus.audio / "a.wav")
    corpus.extract(corpus.audio)


def edit_samples(corpus: Corpus) -> None:
    write_noise(corpus.audio / "a.wav", 4, seed=3)
    corpus.extract()


def make_longer(corpus: Corpus) -> None:
    write_noise(corpus.audio / "a.wav", 6, seed=3)
    corpus.extract()


def break_and_restore(corpus: Corpus) -> None:
    good = (corpus.audio / "a.wav").read_bytes()
    (corpus.audio / "a.wav").write_bytes(b"not audio")
    corpus.extract()
    assert not corpus.values()
    (corpus.audio / "a.wav").write_bytes(good)
    corpus.extract(retry_failed=True)


def break_and_replace(corpus: Corpus) -> None:
    (corpus.audio / "a.wav").write_bytes(b"not audio")
    corpus.extract()
    edit_samples(corpus)


def move(corpus: Corpus) -> None:
    (corpus.audio / "sub").mkdir()
    os.rename(corpus.audio / "a.wav", corpus.audio / "sub" / "a.wav")
    corpus.write("sub/a.wav", "b.wav")
    corpus.extract()


def move_and_edit_later(corpus: Corpus) -> None:
    move(corpus)
    add_tag(corpus.audio / "sub" / "a.wav")
    corpus.extract()


def prune_and_add_again(corpus: Corpus) -> None:
    corpus.write("b.wav")
    corpus.extract(prune=True)
    assert not corpus.values()
    corpus.write("b.wav", "a.wav")
    corpus.extract()


def prune_and_add_elsewhere(corpus: Corpus) -> None:
    corpus.write("b.wav")
    corpus.extract(prune=True)
    (corpus.audio / "sub").mkdir()
    os.rename(corpus.audio / "a.wav", corpus.audio / "sub" / "a.wav")
    corpus.write("sub/a.wav", "b.wav")
    corpus.extract()


def remove_and_extract_again(corpus: Corpus) -> None:
    with corpus.open() as collection:
        collection.remove("path LIKE '%a.wav'")
    corpus.extract()


def compact(corpus: Corpus) -> None:
    with corpus.open() as collection:
        collection.compact()
    corpus.extract()


def merge(corpus: Corpus) -> None:
    embedx.merge([corpus.out], corpus.out.with_name("merged"))
    corpus.out = corpus.out.with_name("merged")
    corpus.extract()


def merge_and_edit_later(corpus: Corpus) -> None:
    merge(corpus)
    edit_tags(corpus)


def repair(corpus: Corpus) -> None:
    with sqlite3.connect(corpus.out / FILE_NAME) as db:
        db.execute("UPDATE rows SET flags = 'silent' WHERE id = 1")
    db.close()
    with corpus.open() as collection:
        assert collection.verify(repair=True).removed
    corpus.extract()


def repair_edits(corpus: Corpus) -> None:
    with sqlite3.connect(corpus.out / FILE_NAME) as db:
        db.execute("UPDATE edits SET made = 'never' WHERE id = 1")
    db.close()
    with corpus.open() as collection:
        assert collection.verify(repair=True).found
    corpus.extract()


STEPS = [
    run_again, run_with_other_source_metadata, run_on_the_folder, touch, edit_tags, edit_tags_and_run_on_the_folder,
    edit_samples, make_longer, break_and_restore, break_and_replace, move, move_and_edit_later, prune_and_add_again,
    prune_and_add_elsewhere, remove_and_extract_again, compact, merge, merge_and_edit_later, repair, repair_edits,
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_edit_stays_after(step: Callable[[Corpus], None], corpus: Corpus) -> None:
    corpus.label(set={"label": "owl", "checked": 1}, where="path LIKE '%a.wav' AND start_s IN (1, 2)")
    corpus.label(set={"site": ""}, where="path LIKE '%a.wav' AND start_s = 2")
    step(corpus)
    labels = corpus.values()
    source = "changed" if step is run_with_other_source_metadata else SOURCE_LABEL
    assert labels == {start: "owl" if start in (1, 2) else source for start in labels}
    assert len(labels) == (6 if step is make_longer else 4)
    checked = corpus.values(column="checked")
    assert {start for start, value in checked.items() if value == 1} == {1, 2}
    site = "south" if step is run_with_other_source_metadata else "north"
    assert corpus.values(column="site") == {start: None if start == 2 else site for start in labels}
    assert set(corpus.values("b.wav").values()) == {source}


def test_merge_takes_the_latest_edit_of_every_source(corpus: Corpus, tmp_path: Path) -> None:
    other, merged = tmp_path / "other", tmp_path / "merged"
    embedx.extract(corpus.table, out=other, window=1).close()
    corpus.label(set={"label": "first"}, where="start_s = 0")
    embedx.merge([corpus.out, other], merged)
    with embedx.open(other) as collection:
        collection.label(set={"label": "second", "site": "x"}, where="start_s = 0 AND path LIKE '%a.wav'")
        collection.label(set={"label": "gone"}, where="start_s = 1")
        collection.undo_label()
    for _ in range(2):
        embedx.merge([corpus.out, other], merged)
        with embedx.open(merged) as collection:
            assert [change.undone for change in collection.label_log()] == [False, False, True, False]
    corpus.out = merged
    assert corpus.values() == {0: "second", 1: SOURCE_LABEL, 2: SOURCE_LABEL, 3: SOURCE_LABEL}
    assert corpus.values(column="site")[0] == "x"
    assert corpus.values("b.wav")[0] == "first"


def test_merge_carries_edits_to_a_newer_version_of_the_recording(corpus: Corpus, tmp_path: Path) -> None:
    corpus.label(set={"label": "owl"}, where="start_s = 1")
    other, merged = tmp_path / "other", tmp_path / "merged"
    write_noise(corpus.audio / "a.wav", 2.7, seed=9)
    embedx.extract(corpus.table, out=other, window=1).close()
    for sources in ([corpus.out, other], [other]):
        embedx.merge(sources, merged)
    corpus.out = merged
    assert corpus.values() == {0: SOURCE_LABEL, 1: "owl", 1.7: SOURCE_LABEL}


def test_undo_restores_the_edit_before_and_then_the_source(corpus: Corpus) -> None:
    with corpus.open() as collection:
        before = collection.rows()
        for values in ({"label": "owl", "new": 1}, {"label": "fox"}, {"site": None}):
            collection.label(set=values, where="start_s >= 2")
        assert collection.undo_label(2).rows == 3
        assert set(corpus.values().values()) == {SOURCE_LABEL, "owl"}
        assert collection.undo_label().rows == 3, "the last change that is not undone"
        run_with_other_source_metadata(corpus)
        assert corpus.values() == {0: "changed", 1: "changed", 2: "owl", 3: "owl"}
        collection.undo_label(1)
        assert set(corpus.values().values()) == {"changed"}
        corpus.write("a.wav", "b.wav")
        corpus.extract()
        pd.testing.assert_frame_equal(collection.rows(), before)
        assert collection.undo_label(6).rows == 3, "the undo is undone"
        assert corpus.values()[3] == "owl"
        states = [(change.undone, change.undoes) for change in collection.label_log()]
        assert states == [(False, 0), (True, 0), (True, 0), (False, 2), (False, 3), (True, 1), (False, 6)]
        with pytest.raises(UsageError, match="was undone before"):
            collection.undo_label(2)
        with pytest.raises(UsageError, match="no change 8"):
            collection.undo_label(8)


def test_undone_edit_does_not_come_back(corpus: Corpus) -> None:
    corpus.label(set={"label": "owl"}, where="start_s = 1")
    with corpus.open() as collection:
        collection.undo_label()
    for step in (run_again, edit_tags, move, merge):
        step(corpus)
        assert set(corpus.values().values()) == {SOURCE_LABEL}, step.__name__
    with pytest.raises(NothingToDo, match="no change to undo"), corpus.open() as collection:
        collection.undo_label()


def test_edit_of_a_whole_recording_also_holds_for_its_later_windows(corpus: Corpus) -> None:
    corpus.label(pd.DataFrame({"path": ["a.wav"], "label": ["owl"]}).assign(path=str(corpus.audio / "a.wav")))
    corpus.label(set={"label": "fox"}, where="path LIKE '%a.wav' AND start_s = 1")
    make_longer(corpus)
    assert corpus.values() == {0: "owl", 1: "fox", **dict.fromkeys((2, 3, 4, 5), "owl")}


def test_row_of_a_whole_file_keeps_its_edit_when_the_file_changes_its_length(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.out = tmp_path / "whole"
    corpus.extract(window=None)
    corpus.label(set={"label": "owl"}, where="path LIKE '%a.wav'")
    for seconds, rows in ((5, 1), (3, 1), (70, 7), (4, 1)):
        write_noise(corpus.audio / "a.wav", seconds, seed=seconds)
        corpus.extract(window=None)
        corpus.extract(window=None)
        labels = list(corpus.values().values())
        assert labels == ["owl"] * rows
    assert set(corpus.values("b.wav").values()) == {SOURCE_LABEL}


def test_unlabelled_windows_take_no_edit_of_a_window_that_is_gone(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.out = tmp_path / "hop"
    corpus.extract(hop=0.5)
    corpus.label(set={"label": "owl"}, where="start_s = 1.5")
    with corpus.open() as collection:
        collection.remove("start_s = 1.5")
    corpus.extract(hop=0.5)
    assert set(corpus.values().values()) == {SOURCE_LABEL}, "neighbours that overlap it by half are not edited"
    write_noise(corpus.audio / "a.wav", 2.2, seed=5)
    corpus.extract(hop=0.5)
    labels = corpus.values()
    assert {start: labels[start] for start in (0.0, 0.5, 1.0)} == dict.fromkeys((0.0, 0.5, 1.0), SOURCE_LABEL)


@pytest.mark.parametrize(
    ("entry", "overlap", "expected"),
    [
        ((1.0, 2.0), 0.5, [1]),
        ((1.2, 2.1), 0.5, [1]),
        ((1.3, 2.6), 0.5, [1, 2]),
        ((1.3, 2.6), 0.65, [1]),
        ((1.9, 2.1), 0.5, [1, 2]),
        ((0.0, 4.0), 1.0, [0, 1, 2, 3]),
        ((1.9, 2.05), 0.0, [1, 2]),
        ((2.0, 3.0), 0.0, [2]),
        ((1.5, 1.5), 0.5, [1]),
        ((1.0, None), 0.5, [1]),
        ((None, 1.0), 0.5, [0]),
        ((None, None), 0.5, [0, 1, 2, 3]),
        ((9.0, 10.0), 0.5, []),
        ((1.1, None), 0.5, []),
    ],
)
def test_entry_with_times_sets_the_windows_that_it_overlaps(
    corpus: Corpus, entry: tuple[float | None, float | None], overlap: float, expected: list[int]
) -> None:
    path = str(corpus.audio / "a.wav")
    lines = [{"path": path, "start_s": entry[0], "end_s": entry[1], "label": "owl"}, {"path": "b.wav", "label": "x"}]
    update = corpus.label(pd.DataFrame([*lines, {"path": str(corpus.audio / "b.wav"), "label": "y"}]), overlap=overlap)
    assert [start for start, label in corpus.values().items() if label == "owl"] == expected
    assert [count for _, count in update.entries] == [len(expected), 3, 3]
    assert len(update.unknown) == (not expected)
    assert set(corpus.values("b.wav").values()) == {"y"}


def test_entry_with_the_nearest_times_wins(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.out = tmp_path / "hop"
    corpus.extract(hop=0.5)
    with corpus.open() as collection:
        rows = collection.rows()[["path", "start_s", "end_s"]].assign(label=[f"row {i}" for i in range(12)])
        collection.label(rows.reset_index(drop=True))
        assert collection.rows()["label"].tolist() == rows["label"].tolist()
        collection.label(rows.reset_index(drop=True).iloc[::-1])
        assert collection.rows()["label"].tolist() == rows["label"].tolist()


@pytest.mark.parametrize("place", ["table", "working folder", "root", "absolute"])
def test_path_of_a_table_is_found_from_each_folder(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    corpus.out = tmp_path / "other"
    corpus.extract(tmp_path / "audio", layout="files")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere" if place != "working folder" else tmp_path)
    names = {"table": "../audio/a.wav", "working folder": "audio/a.wav", "root": "a.wav"}
    table = tmp_path / "elsewhere" / "labels.csv"
    table.write_text(f"filename,label\n{names.get(place, corpus.audio / 'a.wav')},owl\nnowhere.wav,fox\n")
    update = corpus.label(table)
    assert set(corpus.values().values()) == {"owl"}
    assert update.unknown == ["path nowhere.wav"]


def test_path_that_belongs_to_two_sources_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_noise(tmp_path / "in" / name / "a.wav", 1)
    with embedx.extract([tmp_path / "in/one", tmp_path / "in/two"], out=tmp_path / "c") as collection:
        with pytest.raises(UsageError, match=r"several recordings.*one/a.wav.*two/a.wav"):
            collection.label(pd.DataFrame({"path": ["a.wav"], "label": ["x"]}))
        assert collection.label(pd.DataFrame({"path": ["one/a.wav"], "label": ["x"]})).rows == 1


@pytest.mark.parametrize(("start", "end"), [(2, 1), (-1, 1), ("x", 1), (0, float("inf"))])
def test_times_that_are_invalid_are_refused_with_the_row(corpus: Corpus, start: Any, end: Any) -> None:
    line = {"path": str(corpus.audio / "a.wav"), "start_s": start, "end_s": end, "label": "x"}
    with pytest.raises(UsageError, match="Row 1 of the table"):
        corpus.label(pd.DataFrame([line]))


def test_label_command_prints_log_and_undoes(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    folder, table = str(corpus.out), corpus.audio / "events.csv"
    table.write_text("path,start_s,end_s,label\na.wav,0.2,2.9,owl\nb.wav,8,9,owl\n")
    assert run(["label", folder, str(table)]) == 3
    printed = capsys.readouterr()
    assert "3 rows changed (change 1" in printed.out
    assert "a.wav, start_s 0.2, end_s 2.9: 3 rows" in printed.out
    assert "No row matches the entry path b.wav, start_s 8, end_s 9." in printed.err
    assert run(["label", folder, "--log"]) == 0
    assert "label=owl" in capsys.readouterr().out
    assert run(["label", folder, "--undo", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == 3
    assert run(["label", folder, "--log", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["undone"] == "yes"
    assert [window["start_s"] for window in first["edits"][0]["windows"]] == [0, 1, 2]
    assert second["set"] == "undo of change 1"
    assert run(["label", folder, "--undo", "1"]) == 2
    assert run(["label", folder, "--undo", "1", "--set", "a=b"]) == 2
    assert "stand alone" in capsys.readouterr().err
