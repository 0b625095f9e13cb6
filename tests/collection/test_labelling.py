import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import embedx
from embedx.cli import run
from embedx.errors import NothingToDo, UsageError
from tests.helpers.edited_corpus import (
    SOURCE_LABEL,
    Corpus,
    edit_tags,
    merge,
    move,
    run_again,
    run_with_other_source_metadata,
    write_noise,
)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


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
    update = corpus.label(pd.DataFrame([*lines, {"path": str(corpus.audio / "b.wav"), "label": "x"}]), overlap=overlap)
    assert [start for start, label in corpus.values().items() if label == "owl"] == expected
    assert [count for _, count in update.entries] == [len(expected), 3, 3]
    assert len(update.unknown) == (not expected)
    assert set(corpus.values("b.wav").values()) == {"x"}


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
    with pytest.raises(UsageError, match="Row 1 of the frame"):
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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.csv", "path,label\na.wav,owl\n./a.wav,cat\n", r"1 conflict.*'owl' \(Line 2 .*'cat' \(Line 3 of "),
        ("two.csv", "id,label\n1,owl\n1,cat\n", r"1 conflict.*id 1: label is 'owl' \(Line 2 .*'cat' \(Line 3 of .*two"),
        ("number.jsonl", '{"path": 1, "label": "x"}', "Line 1 of .*number.jsonl, column path: 1 is not a path"),
        ("list.jsonl", '{"id": 1, "label": ["x"]}', "Line 1 of .*list.jsonl, column label"),
        ("cells.csv", "id,label\n1,x,y\n", "Line 2 of .*cells.csv has 3 cells"),
        ("none.csv", "clip,label\na,x\n", "none.csv has no column id or path"),
    ],
)
def test_odd_label_table_is_refused_by_name(
    name: str, content: str, message: str, corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        corpus.label(tmp_path / name)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_label_table_with_a_separator_at_the_end_of_rows_stays_in_step(
    separator: str, corpus: Corpus, tmp_path: Path
) -> None:
    lines = ["id,label,site", "1,007,x,", "2,2.50,y,"]
    (tmp_path / "t.csv").write_text("\n".join(lines).replace(",", separator), encoding="utf-16")
    corpus.label(tmp_path / "t.csv")
    with corpus.open() as collection:
        rows = collection.rows().loc[[1, 2]]
    assert rows[["label", "site"]].to_numpy().tolist() == [["007", "x"], ["2.50", "y"]]
