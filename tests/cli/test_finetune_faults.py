"""embedx finetune with bad input, and killed: a sentence with its exit code, and what was there before stays."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from embedx.cli.app import run
from tests.helpers.finetuning import RATE, Checkpoint, write_tones

pytestmark = pytest.mark.long
QUICK = ["--epochs", "1", "--batch-size", "6", "--device", "cpu", "--progress", "none"]
Words = list[str]
Case = Callable[[pd.DataFrame, Path], tuple[Words, pd.DataFrame | None]]


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return write_tones(tmp_path_factory.mktemp("tones"), speakers=3, takes=1)


@pytest.fixture(scope="module")
def trained(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished model; tests must not change it."""
    folder = tmp_path_factory.mktemp("models")
    frame.to_csv(folder / "tones.csv", index=False)
    assert run(["finetune", str(folder / "tones.csv"), "--model", "scratch:cnn", "-o", str(folder / "m"), *QUICK]) == 0
    return folder / "m"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def with_files(frame: pd.DataFrame, folder: Path, samples: np.ndarray | None) -> pd.DataFrame:
    """Return the table with other files: of samples, or of bytes that are no audio."""
    folder.mkdir()
    paths = [folder / Path(path).name for path in frame.path]
    for path in paths:
        path.write_bytes(b"not audio") if samples is None else soundfile.write(path, samples, RATE)
    return frame.assign(path=[str(path) for path in paths])


CASES: dict[str, tuple[int, str, Case]] = {
    "one class": (2, "one class", lambda frame, folder: ([], frame.assign(label="low"))),
    "one class in training": (
        2, "fewer than two classes", lambda frame, folder: ([], frame.assign(label=np.where(
            frame.split == "test", frame.label, "low"))),
    ),
    "all silent": (2, "are silent", lambda frame, folder: ([], with_files(frame, folder / "s", np.zeros(4000)))),
    "no audio in files": (2, "None of the 9 recordings can be read", lambda frame, folder: (
        [], with_files(frame, folder / "s", None))),
    "missing files": (2, "None of the 9 recordings can be read", lambda frame, folder: (
        [], frame.assign(path=[f"{folder}/no{i}.wav" for i in range(9)]))),
    "empty folder": (8, "no audio", lambda frame, folder: ([str(folder / "empty")], None)),
    "no such model": (7, "no model folder", lambda frame, folder: (["--model", "./nowhere"], frame)),
    "folder without a model": (7, "config.json", lambda frame, folder: (["--model", str(folder / "empty")], frame)),
    "no checkpoint": (2, "cannot be fine-tuned", lambda frame, folder: (["--model", "logmel"], frame)),
    "unknown scratch": (2, "scratch", lambda frame, folder: (["--model", "scratch:gpt"], frame)),
    "unknown label": (2, "'nothing' gives no label", lambda frame, folder: (["--label", "nothing"], frame)),
    "unknown fold": (2, "There is no test part", lambda frame, folder: (["--fold", "nine"], frame)),
    "no test rows": (2, "rows to test on", lambda frame, folder: (
        ["--split", "split"], frame[frame.split != "test"])),
    "unknown stage": (2, "Allowed values", lambda frame, folder: (["--split", "speaker"], frame)),
    "shared group": (2, "would split one recording or group", lambda frame, folder: (
        ["--split", "split", "--group", "low"], frame)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_a_sentence_and_the_trained_model_stays(
    name: str, frame: pd.DataFrame, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, case = CASES[name]
    (tmp_path / "empty").mkdir()
    words, table = case(frame, tmp_path)
    if table is not None:
        table.to_csv(tmp_path / "tones.csv", index=False)
        words = [str(tmp_path / "tones.csv"), *words]
    before = files_of(trained)
    model = [] if "--model" in words else ["--model", "scratch:cnn"]
    assert run(["finetune", *words, *model, "-o", str(trained), "--overwrite", *QUICK]) == code
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert files_of(trained) == before


def test_second_run_into_the_folder_is_refused_and_changes_nothing(
    frame: pd.DataFrame, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(trained)
    table = str(trained.parent / "tones.csv")
    assert run(["finetune", table, "--model", "scratch:lstm", "-o", str(trained), *QUICK]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert files_of(trained) == before


def test_class_without_validation_rows_and_silent_clips_are_noted(
    frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = frame[(frame.split != "validation") | (frame.label != "high")].copy()
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), RATE)
    few.loc[few.index[-1], "path"] = str(tmp_path / "silent.wav")
    few.to_csv(tmp_path / "tones.csv", index=False)
    words = [str(tmp_path / "tones.csv"), "--model", "scratch:cnn", "--split", "split", "-o", str(tmp_path / "m")]
    assert run(["finetune", *words, *QUICK, "--json"]) == 0
    notes = " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert "No validation row has the class high" in notes
    assert "silent" in notes


def test_class_whose_recordings_cannot_be_read_is_left_out(
    frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    high = frame.label == "high"
    broken = pd.concat([frame[~high], with_files(frame[high], tmp_path / "broken", None)])
    broken.to_csv(tmp_path / "tones.csv", index=False)
    words = [str(tmp_path / "tones.csv"), "--model", "scratch:cnn", "-o", str(tmp_path / "m"), *QUICK]
    assert run(["finetune", *words, "--json"]) == 3
    values = json.loads(capsys.readouterr().out)
    assert values["outputs"]["label"]["classes"] == ["low", "middle"]
    assert len(values["failures"]) == 3
    assert run(["predict", str(frame.path[0]), "--model", str(tmp_path / "m"), "-k", "2", "--format", "json"]) == 0


def test_kill_9_and_the_same_command_give_the_weights_of_an_undisturbed_run(
    checkpoint: Checkpoint, frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame.to_csv(tmp_path / "tones.csv", index=False)
    words = [
        *(str(tmp_path / "tones.csv"), "--model", str(checkpoint("hubert")), "--dropout", "0.3"),
        *("--epochs", "4", "--batch-size", "2", "--device", "cpu", "--augment", "noise,mixup"),
    ]
    whole, killed = (["-o", str(tmp_path / name), "--progress", "json"] for name in ("whole", "killed"))
    assert run(["finetune", *words, *whole]) == 0
    command = [sys.executable, "-m", "embedx", "finetune", *words, *killed]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:  # the third epoch: two checkpoints are written
        values = json.loads(line) if line.startswith("{") else {}
        if values.get("step", 0) >= 5:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "finetune.json").exists()
    capsys.readouterr()
    assert run(["finetune", *words, *killed]) == 0
    assert '"resumed"' in capsys.readouterr().err
    for name in ("model.safetensors", "head.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
