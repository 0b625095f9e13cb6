import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import embedx
from tests.helpers.edited_corpus import (
    SOURCE_LABEL,
    STEPS,
    Corpus,
    edit_tags,
    make_longer,
    run_with_other_source_metadata,
    write_noise,
)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


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


@pytest.mark.parametrize("form", ["parquet", "npy", "hf"])
def test_export_and_import_keep_edits_and_what_they_replace(corpus: Corpus, tmp_path: Path, form: str) -> None:
    corpus.label(set={"label": "owl", "site": None}, where="path LIKE '%a.wav' AND start_s = 2")
    corpus.label(set={"label": "undone"}, where="start_s = 0")
    with corpus.open() as collection:
        collection.undo_label()
        collection.export(tmp_path / "export", format=form)
    copy = tmp_path / "copy"
    for _ in range(2):
        with embedx.import_vectors(tmp_path / "export", format=form, out=copy) as collection:
            assert [change.undone for change in collection.label_log()] == [False, True, False]
    corpus.out = copy
    assert corpus.values() == {0: SOURCE_LABEL, 1: SOURCE_LABEL, 2: "owl", 3: SOURCE_LABEL}
    corpus.extract()
    assert corpus.values() == {0: SOURCE_LABEL, 1: SOURCE_LABEL, 2: "owl", 3: SOURCE_LABEL}
    with corpus.open() as collection:
        collection.undo_label()
    assert set(corpus.values().values()) == {SOURCE_LABEL}
    assert set(corpus.values(column="site").values()) == {"north"}


def test_edited_row_of_an_import_without_times_keeps_its_edit(tmp_path: Path) -> None:
    import numpy as np

    def load(labels: list[str]) -> embedx.Collection:
        table = pd.DataFrame({"path": ["x.wav"] * 3, "label": labels, "vector": list(np.eye(3))})
        return embedx.import_vectors(table, out=tmp_path / "c", name="own")

    load(["a", "b", "c"]).label(set={"label": "owl"}, where="label = 'b'")
    with load(["a", "b", "changed"]) as collection:
        assert collection.rows()["label"].tolist() == ["a", "owl", "changed"]


@pytest.mark.parametrize("same_length", [True, False])
def test_files_that_change_places_take_their_edits_along(corpus: Corpus, same_length: bool) -> None:
    if same_length:
        write_noise(corpus.audio / "b.wav", 4, seed=8)
        corpus.extract()
    corpus.label(set={"label": "of a"}, where="path LIKE '%a.wav' AND start_s = 1")
    corpus.label(set={"label": "of b"}, where="path LIKE '%b.wav' AND start_s = 2")
    vectors = {name: corpus.vectors(name) for name in ("a.wav", "b.wav")}
    (corpus.audio / "a.wav").rename(corpus.audio / "c")
    (corpus.audio / "b.wav").rename(corpus.audio / "a.wav")
    (corpus.audio / "c").rename(corpus.audio / "b.wav")
    for name in ("a.wav", "b.wav"):
        os.utime(corpus.audio / name, (5, 5))
    corpus.extract()
    assert corpus.vectors("a.wav") == vectors["b.wav"]
    assert {start for start, label in corpus.values("a.wav").items() if label == "of b"} == {2}
    assert {start for start, label in corpus.values("b.wav").items() if label == "of a"} == {1}
    edit_tags(corpus)
    assert {start for start, label in corpus.values("a.wav").items() if label == "of b"} == {2}
    assert "of a" not in corpus.values("a.wav").values()


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_edits_follow_a_moved_file_whose_path_another_file_has_taken(corpus: Corpus, copied: bool) -> None:
    corpus.label(set={"label": "of a"}, where="path LIKE '%a.wav' AND start_s = 1")
    (corpus.audio / "c.wav").write_bytes((corpus.audio / "a.wav").read_bytes())
    if not copied:
        (corpus.audio / "a.wav").replace(corpus.audio / "c.wav")
    write_noise(corpus.audio / "a.wav", 4, seed=9)
    corpus.write("a.wav", "b.wav", "c.wav")
    corpus.extract()
    old, new = ("c.wav", "a.wav") if copied else ("a.wav", "c.wav")
    assert corpus.values(new) == {start: "of a" if start == 1 else SOURCE_LABEL for start in range(4)}
    assert set(corpus.values(old).values()) == {SOURCE_LABEL}


def test_file_that_replaces_another_one_brings_its_own_edits(corpus: Corpus) -> None:
    corpus.label(set={"label": "of a"}, where="path LIKE '%a.wav'")
    corpus.label(set={"label": "of b"}, where="path LIKE '%b.wav' AND start_s = 2")
    (corpus.audio / "b.wav").replace(corpus.audio / "a.wav")
    corpus.write("a.wav")
    for prune in (False, True):
        corpus.extract(prune=prune)
        assert corpus.values("a.wav") == {0: SOURCE_LABEL, 1: SOURCE_LABEL, 2: "of b"}
        assert not corpus.values("b.wav")
