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


def test_names_of_classes_are_kept(tones: pd.DataFrame, tmp_path: Path) -> None:
    frame = tones.copy()
    for name, (given, _) in NAMES.items():
        column = tones.label.map(dict(zip(("low", "middle", "high"), given, strict=True)))
        frame[name] = column.astype(bool) if name == "booleans" else column
    result = train_tones(frame, "scratch:cnn", tmp_path / "m", labels=tuple(NAMES), epochs=1)
    metrics = json.loads((result.folder / "metrics.json").read_text())["outputs"]
    assert {name: sorted(metrics[name]["classes"]) for name in NAMES} == {
        name: sorted(classes) for name, (_, classes) in NAMES.items()
    }
    table = embedx.predict(list(tones.path[:2]), model=str(result.folder), k=3).to_pandas()
    for name, (_, classes) in NAMES.items():
        ranks = range(1, 1 + len(classes))
        assert {table[f"{name}_top{rank}"][0] for rank in ranks} == set(classes)


def test_rows_without_a_label_are_left_out_of_that_output(tones: pd.DataFrame, tmp_path: Path) -> None:
    missing: list[Any] = [None, np.nan, "", "  "]
    frame = tones.assign(other=tones.speaker)
    frame.loc[frame.index[::5], "label"] = missing[:3] * 2
    frame.loc[frame.index[::3], "other"] = (missing * 3)[:10]
    result = train_tones(frame, "scratch:cnn", tmp_path / "m", labels=("label", "other"), epochs=1)
    assert {name: one.classes for name, one in result.metrics.items()} == {
        "label": ("high", "low", "middle"), "other": ("s0", "s1", "s2", "s3", "s4"),
    }  # fmt: skip
    rows = np.arange(len(frame))
    assert result.metrics["label"].rows == int(((frame.split == "test").to_numpy() & (rows % 5 > 0)).sum())
    assert result.facts["unlabelled"] == len(frame.iloc[::15])


def test_a_class_for_each_row_is_refused_in_a_sentence(tones: pd.DataFrame, tmp_path: Path) -> None:
    frame = tones.drop(columns="split").assign(label=[f"class {number}" for number in range(len(tones))])
    with pytest.raises(UsageError, match=r"cannot be split: .* each is of a different class"):
        train_tones(frame, "scratch:cnn", tmp_path / "m")


PLAIN = """
import json, sys
sys.modules["embedx"] = None  # an import of it fails
import numpy as np, transformers
waves = np.load("waves.npy")
for folder in sys.argv[1:]:
    pipeline = transformers.pipeline("audio-classification", model=folder, device="cpu")
    print(json.dumps([pipeline(wave, top_k=None) for wave in waves]))
"""


def test_plain_transformers_gives_the_same_scores_where_embedx_is_not_installed(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    import soundfile

    frame = tones.assign(label=tones.label.map({"low": "tief ♪", "middle": "2", "high": LONG}))
    results = [
        train_tones(frame, checkpoint(name), tmp_path / name, epochs=1, max_seconds=1.0, **options)
        for name, options in (("hubert", {"lora": 2}), ("whisper", {}))
    ]
    assert all(result.plain for result in results)
    waves = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 8000)).astype(np.float32)
    np.save(tmp_path / "waves.npy", waves)
    files = [str(tmp_path / f"{number}.wav") for number in range(2)]
    for file, wave in zip(files, waves, strict=True):
        soundfile.write(file, wave, 16_000, subtype="FLOAT")
    ended = subprocess.run(
        [sys.executable, "-c", PLAIN, *(str(result.folder) for result in results)],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("[")]
    for result, answer in zip(results, answers, strict=True):
        predictions = embedx.predict(files, model=str(result.folder))
        for found, one in zip(predictions.proba, answer, strict=True):
            scores = {label["label"]: label["score"] for label in one}
            np.testing.assert_allclose(found, [scores[label] for label in predictions.classes], atol=1e-5)
