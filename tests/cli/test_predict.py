"""embedx predict with files alone: a classifier of audio without a collection."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedx
from embedx.errors import ModelError
from tests.helpers.commands import Capture, outcome
from tests.helpers.hub_classifiers import CLASSES, clips_of, make_classifier


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_classifier(tmp_path_factory.mktemp("classifier"), "wav2vec2-sum"))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings and a file that is no audio."""
    folder = tmp_path_factory.mktemp("sounds")
    for name, clip in zip("abc", clips_of(16_000, 40_000, 9_000), strict=True):
        soundfile.write(folder / f"{name}.wav", clip.numpy(), 16_000, subtype="FLOAT")
    (folder / "broken.wav").write_bytes(b"no audio")
    return folder


def test_files_are_classified_as_by_the_pipeline(model: str, sounds: Path, capsys: Capture) -> None:
    import transformers

    code, text, errors = outcome(capsys, "predict", str(sounds), "--model", model, "-k", "5", "--format", "jsonl")
    rows = [json.loads(line) for line in text.splitlines()]
    assert (code, len(rows), "broken.wav" in errors) == (3, 3, True)
    pipeline = transformers.pipeline("audio-classification", model=model, device="cpu")
    for row in rows:
        samples, _ = soundfile.read(row["path"], dtype="float32")
        expected = pipeline(samples, top_k=5)
        assert [row[f"top{rank}"] for rank in range(1, 6)] == [one["label"] for one in expected]
        for rank, one in enumerate(expected, start=1):
            assert abs(row[f"probability{rank}"] - one["score"]) < 1e-5
        assert row["label"] == row["top1"]


def test_windows_are_combined_per_recording(model: str, sounds: Path) -> None:
    cut: Any = {"model": model, "window": 0.5, "hop": 0.25}
    windows = embedx.predict(sounds / "b.wav", **cut)
    assert [(one.start_s, one.end_s) for one in windows[:2]] == [(0.0, 0.5), (0.25, 0.75)]
    for aggregate, combine in (("mean", np.mean), ("max", np.max)):
        whole = embedx.predict([sounds / "b.wav"], per="recording", aggregate=aggregate, k=9, **cut)
        np.testing.assert_allclose(whole.proba[0], combine(windows.proba, axis=0), atol=1e-9)
        assert (len(whole), whole[0].end_s, len(whole[0].top)) == (1, 2.5, len(CLASSES))


def test_predictions_are_written_as_csv_raven_and_audacity(
    model: str, sounds: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ["predict", str(sounds), "--model", model, "--window", "0.5"]
    table = list(csv.DictReader(io.StringIO(outcome(capsys, *words, "--format", "csv")[1])))
    assert table[0]["path"] == "a.wav"
    raven = outcome(capsys, *words, "--format", "raven")[1].splitlines()
    head, first = raven[0].split("\t"), raven[1].split("\t")
    row = dict(zip(head, first, strict=True))
    assert len(raven) == len(table) + 1
    assert (row["High Freq (Hz)"], row["Begin Path"]) == ("8000.0", str(sounds / "a.wav"))
    assert (row["label"], row["Score"]) == (table[0]["label"], f"{float(table[0]['probability1']):.6f}")
    assert outcome(capsys, *words, "--format", "audacity", "--output", f"{tmp_path / 'tracks'}/")[0] == 3
    assert len(list((tmp_path / "tracks").iterdir())) == 3


def test_multi_label_classifier_predicts_every_class_above_a_half(tmp_path: Path, sounds: Path) -> None:
    folder = make_classifier(tmp_path, "wav2vec2", problem_type="multi_label_classification")
    for one, proba in zip(found := embedx.predict(sounds, model=str(folder)), found.proba, strict=True):
        assert set(one.labels) == {name for name, value in zip(CLASSES, proba, strict=True) if value > 0.5}


def test_stored_vectors_give_the_scores_of_the_audio(model: str, sounds: Path, tmp_path: Path, capsys: Capture) -> None:
    options: Any = {"model": model, "window": 0.5}
    audio = embedx.predict(sounds, **options)
    folder = str(tmp_path / "all")
    embedx.extract(sounds, out=folder, layers="all", **options).close()
    with embedx.open(folder) as collection:
        stored = collection.predict(classifier=model, k=5)
        rows = {(one.path, one.start_s): one for one in stored}
        assert len(rows) == len(audio)
        for one in audio:
            assert rows[one.path, one.start_s].labels == one.labels
        np.testing.assert_allclose(np.sort(stored.proba, axis=0), np.sort(audio.proba, axis=0), atol=1e-5)
    text = outcome(capsys, "predict", folder, "--model", model, "--where", "start_s = 0", "--format", "jsonl")[1]
    assert [json.loads(line)["id"] for line in text.splitlines()] == [one.id for one in stored if one.start_s == 0]
    embedx.extract(sounds, out=tmp_path / "last", **options).close()
    code, _, errors = outcome(capsys, "predict", str(tmp_path / "last"), "--model", model)
    assert (code, "lacks L0.mean, L1.mean, L2.mean" in errors) == (2, True)


@pytest.mark.parametrize("name", ["wav2vec2-large-sum", pytest.param("ast", marks=pytest.mark.long)])
def test_classifier_whose_state_is_not_stored_is_refused(name: str, sounds: Path, tmp_path: Path) -> None:
    folder = str(make_classifier(tmp_path / "model", name))
    with (
        embedx.extract(sounds / "a.wav", out=tmp_path / "c", model=folder, layers="all") as collection,
        pytest.raises(ModelError, match="does not store"),
    ):
        collection.predict(classifier=folder)


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["SOUNDS"], 2, "is not a collection"),
        (["MADE", "SOUNDS", "--window", "1"], 2, "--window does not go with a collection"),
        (["SOUNDS", "--model", "MODEL", "--head", "h"], 2, "--head does not go with files alone"),
        (["SOUNDS", "--model", "MODEL", "--timeout", "3"], 2, "--timeout does not go with files alone"),
        (["SOUNDS", "MADE", "--model", "MODEL"], 2, "as the first argument"),
        (["SOUNDS", "--model", "logmel"], 7, "is no classifier"),
        (["SOUNDS", "--zero-shot", "a,b"], 2, "yamnet or a model with texts"),
        (["SOUNDS", "--model", "MODEL", "--zero-shot", "a,b"], 7, "cannot name classes"),
        (["SOUNDS", "--model", "MODEL", "--prompt", "a {}"], 2, "belongs to zero-shot"),
        (["MADE", "--zero-shot", "a,b", "--head", "h"], 2, "Give a head, a classifier or"),
        (["MADE", "--zero-shot", "a,b"], 7, "cannot name classes"),
        (["MADE", "--model", "MODEL"], 7, "has another encoder"),
        (["MADE", "--model", "MODEL", "--precision", "0.9"], 2, "thresholds of a head"),
        (["SOUNDS", "--model", "SOUNDS"], 7, "no config.json"),
        (["SOUNDS", "--model", "MODEL", "-k", "0"], 2, "k must be 1 or more"),
        (["SOUNDS", "--model", "MODEL", "--hop", "1"], 2, "requires --window"),
        (["SOUNDS/none.wav", "--model", "MODEL"], 2, "no file or folder"),
        (["SOUNDS/broken.wav", "--model", "MODEL"], 3, "broken.wav"),
    ],
)
def test_invalid_input_is_refused(
    model: str, sounds: Path, made: Path, capsys: Capture, words: list[str], code: int, message: str
) -> None:
    places = {"SOUNDS": str(sounds), "MADE": str(made), "MODEL": model}
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    found, _, errors = outcome(capsys, "predict", *words)
    assert (found, message in errors) == (code, True), errors
    assert "Traceback" not in errors
