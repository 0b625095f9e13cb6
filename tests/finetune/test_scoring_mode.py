"""The figures of a training are those of the saved model in evaluation, on unaltered test rows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embedx.cli import run
from embedx.sharing.cards import cell
from tests.helpers.finetuning import PITCHES, train_tones

pytestmark = pytest.mark.long


@pytest.mark.parametrize("model", ["scratch:lstm", "scratch:cnn"])
def test_figures_are_those_of_the_saved_model(
    tones: pd.DataFrame, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by it: dropout in evaluation, altered or normalised test rows, weights that are not the best ones."""
    options = {"epochs": 3, "dropout": 0.5, "augment": "noise,gain,stretch,shift"}
    result = train_tones(tones, model, tmp_path / "m", **options)
    measured = json.loads((result.folder / "metrics.json").read_text())["outputs"]["label"]["figures"]
    files = tones[tones.split == "test"]
    assert run(["predict", *files.path, "--model", str(result.folder), "-k", "3", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(files)
    named = [{row[f"top{i}"]: row[f"probability{i}"] for i in (1, 2, 3)} for row in rows]
    assert set(named[0]) == set(PITCHES)
    right = [probabilities[label] for probabilities, label in zip(named, files.label, strict=True)]
    assert -np.mean(np.log(right)) == pytest.approx(measured["log_loss"]["value"], abs=1e-3)
    hits = [max(one, key=one.__getitem__) == label for one, label in zip(named, files.label, strict=True)]
    assert np.mean(hits) == pytest.approx(measured["accuracy"]["value"])


def test_card_of_a_trained_model_has_its_figures(tones: pd.DataFrame, tmp_path: Path) -> None:
    result = train_tones(tones, "scratch:cnn", tmp_path / "m", epochs=2)
    assert run(["share", str(result.folder), "--local-dir", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    measured = json.loads((result.folder / "metrics.json").read_text())["outputs"]["label"]["figures"]
    for name, figure in measured.items():
        if figure is not None:
            assert f"| {cell(name)} | {figure['value']:.3f} |" in card
    assert "18 rows to train on, 6 to choose the checkpoint by, 6 to test on" in card
    assert 'library_name: "embedx"' in card
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(path.name for path in result.folder.iterdir()),
        "README.md",
    }
