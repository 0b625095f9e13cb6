"""Rows that look alike across a split, found by the sound of their files. test_probe.py tests imported vectors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx
from embedx.datasets.synthetic import synthesise_clip
from embedx.evaluation.cross_validation import build_experiment
from embedx.evaluation.leakage import Overlap
from embedx.evaluation.splits import SplitOptions
from embedx.evaluation.targets import LabelOptions
from embedx.store.store import Store

Write = Callable[[Path, np.ndarray, int], object]
FORMATS: dict[str, tuple[str, Write]] = {
    "mp3": (".mp3", lambda path, wave, rate: soundfile.write(path, wave, rate, subtype="MPEG_LAYER_III")),
    "ogg": (".ogg", lambda path, wave, rate: soundfile.write(path, wave, rate, subtype="VORBIS")),
    "quiet": (".wav", lambda path, wave, rate: soundfile.write(path, wave / 2, rate)),
    "noise": (".wav", lambda path, wave, rate: soundfile.write(path, with_noise(wave), rate)),
    "late": (".wav", lambda path, wave, rate: soundfile.write(path, np.pad(wave, (rate // 20, 0)), rate)),
}


def with_noise(wave: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(wave))
    return np.asarray(wave + 0.08 * np.sqrt((wave**2).mean()) * noise)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with 8 independent takes each, and copies of the first take of each class, in other folds."""
    folder = tmp_path_factory.mktemp("copies")
    lines = ["path,label,fold"]
    for name in ("rain", "voice"):
        for take in range(8):
            wave, rate = synthesise_clip(name, source=take % 4, take=take)
            soundfile.write(folder / f"{name}{take}.wav", wave, rate)
            lines.append(f"{name}{take}.wav,{name},{take % 2}")
        wave, rate = synthesise_clip(name, source=0, take=0)
        for kind, (suffix, write) in FORMATS.items():
            write(folder / f"{name}-{kind}{suffix}", wave, rate)
            lines.append(f"{name}-{kind}{suffix},{name},1")
    (folder / "rows.csv").write_text("\n".join(lines))
    return folder


def find(collection: Path) -> Overlap:
    with Store(collection) as store:
        view = store.recipe.default_view
        return build_experiment(store, [view], LabelOptions(), SplitOptions(folds="fold")).overlap


def test_copies_are_found_by_their_sound_and_independent_takes_are_not(corpus: Path, tmp_path: Path) -> None:
    with embedx.extract(corpus / "rows.csv", model="logmel", out=tmp_path / "index") as collection:
        names = {row.id: Path(row.path).name for row in collection.store.rows()}
    overlap = find(tmp_path / "index")
    pairs = {frozenset((names[pair.id], names[pair.like_id])) for pair in overlap.pairs}
    suffixes = {kind: suffix for kind, (suffix, _) in FORMATS.items()}
    expected = {
        frozenset((f"{name}0.wav", f"{name}-{kind}{suffixes[kind]}")) for name in ("rain", "voice") for kind in FORMATS
    }
    assert pairs == expected
    assert overlap.rows == overlap.near == 2 * (len(FORMATS) + 1)
    assert all(pair.why == "same sound" and pair.sound is not None for pair in overlap.pairs)
    assert overlap.heard == overlap.compared == len(names)
    assert "correlation of the sound" in str(overlap)


def test_copies_by_vector_alone_need_stronger_evidence_where_files_are_gone(corpus: Path, tmp_path: Path) -> None:
    copied = tmp_path / "corpus"
    copied.mkdir()
    for path in corpus.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    with embedx.extract(copied / "rows.csv", model="logmel", out=tmp_path / "index"):
        pass
    for path in copied.glob("*.*"):
        path.unlink()
    overlap = find(tmp_path / "index")
    assert overlap.heard == 0
    assert all(pair.why == "near vector" and pair.sound is None for pair in overlap.pairs)
    assert "only the vectors, which cannot show copies where most rows have one" in str(overlap)


def test_windows_are_heard_where_they_lie(corpus: Path, tmp_path: Path) -> None:
    """Windows of 0.5 s of a long recording, and of an Ogg copy of it, are paired time by time."""
    long = np.concatenate([synthesise_clip("rain", 0, take)[0] for take in range(6)])[:80_000]
    lines = ["path,label,fold"]
    for number, (name, write) in enumerate({"a.wav": soundfile.write, "b.ogg": soundfile.write}.items()):
        write(tmp_path / name, long, 8_000)
        lines.append(f"{name},x,{number}")
    for number in range(4):
        wave, rate = synthesise_clip("wind", number, number)
        soundfile.write(tmp_path / f"w{number}.wav", wave, rate)
        lines.append(f"w{number}.wav,y,{number % 2}")
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    with embedx.extract(tmp_path / "rows.csv", model="logmel", window=0.5, out=tmp_path / "index") as collection:
        starts = {row.id: (Path(row.path).name, row.start_s) for row in collection.store.rows()}
    overlap = find(tmp_path / "index")
    assert overlap.rows == 2 * 20
    for pair in overlap.pairs:
        (name, start_s), (other, other_start_s) = starts[pair.id], starts[pair.like_id]
        assert {name, other} == {"a.wav", "b.ogg"} and start_s == other_start_s
