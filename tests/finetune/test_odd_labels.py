"""Odd labels keep their names from the table to the predictions, here and in plain transformers without embedx."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.errors import UsageError
from tests.helpers.finetuning import Checkpoint, train_tones

pytestmark = pytest.mark.long
LONG = "x" * 300
NAMES: dict[str, tuple[list[Any], list[str]]] = {
    "whole numbers": ([10, 2, 1], ["1", "2", "10"]),
    "fractions": ([0.5, 1.5, 10.0], ["0.5", "1.5", "10.0"]),
    "unicode": (["Zaunkönig 🐦", "ツバメ", "a\u0301"], ["a\u0301", "Zaunkönig 🐦", "ツバメ"]),
    "long": ([LONG, LONG + "y", "short"], ["short", LONG, LONG + "y"]),
    "booleans": ([True, False, True], ["False", "True"]),
    "spaces and quotes": (['a "b", c', "a;b", "../x"], ["../x", 'a "b", c', "a;b"]),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes_are_kept(tones: pd.DataFrame, tmp_path: Path, name: str) -> None:
    given, classes = NAMES[name]
    column = tones.label.map(dict(zip(("low", "middle", "high"), given, strict=True)))
    column = column.astype(bool) if name == "booleans" else column
    result = train_tones(tones.assign(kind=column), "scratch:cnn", tmp_path / "m", labels=("kind",), epochs=1)
    predictions = embedx.predict(list(tones.path[:2]), model=str(result.folder), k=3)
    assert sorted(predictions.classes) == sorted(classes)
    assert json.loads((result.folder / "metrics.json").read_text())["outputs"]["label"]["classes"] == list(
        predictions.classes
    )


@pytest.mark.parametrize("missing", [None, np.nan, "", "  "], ids=repr)
def test_rows_without_a_label_are_left_out_of_that_output(tones: pd.DataFrame, tmp_path: Path, missing: Any) -> None:
    frame = tones.assign(other=tones.speaker)
    frame.loc[frame.index[::5], "label"] = missing
    frame.loc[frame.index[::3], "other"] = missing
    both = frame.label.map(lambda value: value is missing or value != value or not str(value).strip()).to_numpy()
    result = train_tones(frame, "scratch:cnn", tmp_path / "m", labels=("label", "other"), epochs=1)
    assert {name: one.classes for name, one in result.metrics.items()} == {
        "label": ("high", "low", "middle"), "other": ("s0", "s1", "s2", "s3", "s4"),
    }  # fmt: skip
    test = (frame.split == "test").to_numpy()
    assert result.metrics["label"].rows == int((test & ~both).sum())
    assert result.facts["unlabelled"] == len(frame.iloc[::15])


def test_a_class_for_each_row_is_refused_in_a_sentence(tones: pd.DataFrame, tmp_path: Path) -> None:
    frame = tones.drop(columns="split").assign(label=[f"class {number}" for number in range(len(tones))])
    with pytest.raises(UsageError, match=r"cannot be split: .* each is of a different class"):
        train_tones(frame, "scratch:cnn", tmp_path / "m")


PLAIN = """
import json, sys
sys.modules["embedx"] = None  # an import of it fails
import numpy as np, transformers
pipeline = transformers.pipeline("audio-classification", model=sys.argv[1], device="cpu")
waves = np.load(sys.argv[2])
print(json.dumps([pipeline(wave, top_k=None) for wave in waves]))
"""


@pytest.mark.parametrize(("name", "options"), [("hubert", {"lora": 2}), ("whisper", {})])
def test_plain_transformers_gives_the_same_scores_where_embedx_is_not_installed(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    import soundfile

    classes = {"low": "tief ♪", "middle": "2", "high": LONG}
    frame = tones.assign(label=tones.label.map(classes))
    result = train_tones(frame, checkpoint(name), tmp_path / "m", epochs=1, max_seconds=1.0, **options)
    assert result.plain
    waves = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 8000)).astype(np.float32)
    np.save(tmp_path / "waves.npy", waves)
    files = [str(tmp_path / f"{number}.wav") for number in range(2)]
    for file, wave in zip(files, waves, strict=True):
        soundfile.write(file, wave, 16_000, subtype="FLOAT")
    ended = subprocess.run(
        [sys.executable, "-c", PLAIN, str(result.folder), str(tmp_path / "waves.npy")],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected = [{one["label"]: one["score"] for one in answer} for answer in json.loads(ended.stdout.splitlines()[-1])]
    predictions = embedx.predict(files, model=str(result.folder))
    for found, scores in zip(predictions.proba, expected, strict=True):
        np.testing.assert_allclose(found, [scores[label] for label in predictions.classes], atol=1e-5)
