"""Rows, hits, predictions and suggestions as annotations, and back into a collection."""

import json
import shutil
from pathlib import Path

import pytest

import embedx
from embedx.annotations.files import WRITTEN, read_annotations
from tests.helpers.commands import Capture, outcome


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the collection `made` in windows, whose rows have frequencies."""
    folder = tmp_path / "own"
    shutil.copytree(made, folder)
    with embedx.open(folder) as collection:
        collection.label(set={"low_hz": 100, "high_hz": 900.5})
    return folder


@pytest.mark.parametrize("form", WRITTEN)
def test_export_sets_the_labels_of_another_collection(
    form: str, own: Path, made: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = f"{tmp_path}/out/" if WRITTEN[form].is_single else f"{tmp_path}/out.txt"
    code, _, errors = outcome(capsys, "export", own, "-o", out, "--format", form)
    assert code == 0, errors
    other = tmp_path / "other"
    shutil.copytree(made, other)
    with embedx.open(other) as collection, embedx.open(own) as before:
        collection.label(set={"label": ""})
        assert outcome(capsys, "label", other, out.rstrip("/"))[0] == 0
        assert collection.rows()["label"].tolist() == before.rows()["label"].tolist()
        if form != "textgrid":  # it has no frequencies
            assert set(collection.rows()["high_hz"]) == {900.5}
        assert collection.rows()["source"].tolist() == before.rows()["source"].tolist()


@pytest.mark.long
@pytest.mark.parametrize("form", WRITTEN)
def test_every_command_writes_every_format(form: str, own: Path, tmp_path: Path, capsys: Capture) -> None:
    assert outcome(capsys, "train", own, "--setting", "C=0.1", "--name", "h")[0] == 0
    single = WRITTEN[form].is_single
    for name, options in {
        "search": ["--id", "5", "-k", "3"], "predict": [], "suggest": ["--by", "random", "--label", "new", "-n", "4"],
    }.items():  # fmt: skip
        out = tmp_path / name
        arguments = ["--format", form, "--output", f"{out}/" if single else out]
        code, text, errors = outcome(capsys, name, own, *options, *arguments)
        assert (code, text) == (0, ""), errors
        found = [one for _, annotations in read_annotations(out) for one in annotations]
        with embedx.open(own) as collection:
            expected = {"search": 3, "predict": len(collection), "suggest": 0 if form == "textgrid" else 4}[name]
        assert len(found) == expected
        assert name != "predict" or form == "textgrid" or all(0 < (one.score or 0) <= 1 for one in found)


def test_touching_rows_of_one_class_are_merged(own: Path, tmp_path: Path, capsys: Capture) -> None:
    with embedx.open(own) as collection:
        path = collection.rows()["path"].iloc[0]
    with embedx.extract(path, out=tmp_path / "w", window=0.25) as windows:
        windows.label(set={"label": "owl"})
        windows.label(set={"label": "wren"}, where="start_s = 0.5")
        end_s = windows.rows()["end_s"].max()
    out = tmp_path / "merged.txt"
    assert outcome(capsys, "export", tmp_path / "w", "-o", out, "--format", "audacity", "--merge")[0] == 0
    assert out.read_text() == f"0.000000\t0.500000\towl\n0.500000\t0.750000\twren\n0.750000\t{end_s:.6f}\towl\n"
    code, _, errors = outcome(capsys, "export", tmp_path / "w", "-o", out, "--format", "audacity")
    assert (code, "exists" in errors) == (2, True)
    code, _, errors = outcome(capsys, "export", tmp_path / "w", "-o", tmp_path / "x.csv", "--merge")
    assert (code, "merge is for annotations" in errors) == (2, True)
    code, _, errors = outcome(capsys, "export", own, "-o", tmp_path / "x.txt", "--format", "textgrid")
    assert (code, "belongs to one recording" in errors, (tmp_path / "x.txt").exists()) == (2, True, False)


def test_predictions_merge_by_class(own: Path, tmp_path: Path, capsys: Capture) -> None:
    assert outcome(capsys, "train", own, "--setting", "C=0.1", "--name", "h")[0] == 0
    with embedx.open(own) as collection:
        path = collection.rows()["path"].iloc[0]
    form = ("--format", "labelstudio")
    every, merged = (
        json.loads(outcome(capsys, "predict", own, path, path, *form, *more)[1]) for more in ((), ("--merge",))
    )
    assert [len(task["predictions"][0]["result"]) for task in every + merged] == [1, 1]
    code, _, errors = outcome(capsys, "predict", own, path, "--merge")
    assert (code, "--merge is for annotations" in errors) == (2, True)
