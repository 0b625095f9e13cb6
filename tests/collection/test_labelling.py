import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedx
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
