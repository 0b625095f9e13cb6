from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import embedx
from embedx.cli import run
from embedx.errors import RecipeMismatch

WriteWav = Callable[..., Path]
MADE_WITH: dict[str, Any] = {
    "model": "mfcc", "pooling": ("max", "mean"), "window": 1.0, "hop": 0.5, "tail": "pad", "channels": "first",
    "trim_silence": True, "max_seconds": 2.0, "store_dtype": "float16",
}  # fmt: skip
OTHER: dict[str, Any] = {
    "model": "logmel", "layers": "0,5", "pooling": "mean", "window": 2.0, "hop": 1.0, "tail": "drop",
    "channels": "mean", "trim_silence": False, "max_seconds": 1.0, "store_dtype": "float32",
}  # fmt: skip


@pytest.fixture
def made(write_wav: WriteWav, tmp_path: Path) -> Path:
    """A collection in which no option has its default."""
    write_wav("in/a.wav", seconds=3)
    embedx.extract(tmp_path / "in", out=tmp_path / "c", **MADE_WITH).close()
    return tmp_path / "c"


def test_options_that_are_not_given_are_those_of_the_collection(made: Path, write_wav: WriteWav) -> None:
    write_wav("in/b.wav", seconds=3)
    with embedx.open(made) as before:
        recipe, rows = before.recipe, len(before)
    for options in ({}, {"window": 1}, {"layers": -1, "store_dtype": "float16"}, {"pooling": "max,mean"}):
        with embedx.extract(made.parent / "in", out=made, **options) as collection:
            assert collection.recipe == recipe
            assert len(collection) == 2 * rows
            assert collection.store.dtype == "float16"
    assert run(["extract", str(made.parent / "in"), "-o", str(made), "--hop", "0.5", "--progress", "none"]) == 0


@pytest.mark.parametrize("name", OTHER)
def test_option_that_differs_is_refused_by_name(made: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = {"hop": "hop", "window": "window", "layers": "layers", "pooling": "pooling"}
    with pytest.raises(RecipeMismatch, match=known.get(name, name)):
        embedx.extract(made.parent / "in", out=made, **{name: OTHER[name]})
    if name != "trim_silence":  # a flag cannot be taken back on the command line
        option = f"--{name.replace('_', '-')}"
        assert run(["extract", str(made.parent / "in"), "-o", str(made), option, str(OTHER[name])]) == 7
        assert name in capsys.readouterr().err


def test_run_with_nothing_to_do_needs_no_model(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedx.embedding.options import EmbeddingOptions

    def refuse(options: EmbeddingOptions) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(EmbeddingOptions, "load", refuse)
    for options in ({}, MADE_WITH):
        embedx.extract(made.parent / "in", out=made, **options).close()


def test_label_column_of_an_earlier_run_stays(write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("in/a.wav"), write_wav("in/b.wav")
    table = tmp_path / "in" / "clips.csv"
    table.write_text("path,label,species,other\na.wav,x,owl,1\nb.wav,y,fox,2\n")

    def labels(**options: Any) -> list[str]:
        with embedx.extract(table, out=tmp_path / "c", **options) as collection:
            return collection.rows()["label"].tolist()

    assert labels(label="species") == ["owl", "fox"]
    assert labels() == ["owl", "fox"]
    assert labels(label="other") == ["1", "2"]
    assert labels() == ["1", "2"]


def test_collection_without_rows_takes_another_recipe(write_wav: WriteWav, tmp_path: Path) -> None:
    good = write_wav("in/a.wav", seconds=3)
    content = good.read_bytes()
    good.write_bytes(b"not audio")
    out = tmp_path / "c"
    embedx.extract(tmp_path / "in", out=out, window=1, store_dtype="float16").close()
    good.write_bytes(content)
    embedx.extract(tmp_path / "in", out=out, model="mfcc", dry_run=True).close()
    with embedx.extract(tmp_path / "in", out=out, model="mfcc", pooling="mean,max") as collection:
        assert len(collection) == 1
        assert collection.recipe.extractor == "mfcc"
        assert collection.views.keys() == {"L0.mean", "L0.max"}
        assert collection.vectors("L0.max").any()
        assert not collection.verify().found
        collection.label(set={"label": "owl"})
        collection.remove("id > 0")
    with embedx.extract(tmp_path / "in", out=out, model="logmel") as collection:
        assert collection.recipe.extractor == "logmel"
        assert collection.rows()["label"].tolist() == ["owl"], "edits stay"
        assert not collection.verify().found
