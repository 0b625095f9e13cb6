"""A small corpus whose collection is edited by hand, and the steps that must not lose the edits."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
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

    def vectors(self, name: str) -> list[list[float]]:
        """Return the vectors of a recording, in the order of its windows."""
        with self.open() as collection:
            return [vector.tolist() for vector in collection.vectors(where=f"path LIKE '%/{name}'")]


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


def damage(corpus: Corpus, statement: str) -> None:
    with sqlite3.connect(corpus.out / FILE_NAME) as db:
        db.execute(statement)
    db.close()


def repair(corpus: Corpus) -> None:
    damage(corpus, "UPDATE rows SET flags = 'silent' WHERE id = 1")
    with corpus.open() as collection:
        assert collection.verify(repair=True).removed
    corpus.extract()


def repair_edits(corpus: Corpus) -> None:
    damage(corpus, "UPDATE edits SET made = 'never' WHERE id = 1")
    with corpus.open() as collection:
        assert collection.verify(repair=True).found
    corpus.extract()


STEPS = [
    run_again, run_with_other_source_metadata, run_on_the_folder, touch, edit_tags, edit_tags_and_run_on_the_folder,
    edit_samples, make_longer, break_and_restore, break_and_replace, move, move_and_edit_later, prune_and_add_again,
    prune_and_add_elsewhere, remove_and_extract_again, compact, merge, merge_and_edit_later, repair, repair_edits,
]  # fmt: skip
