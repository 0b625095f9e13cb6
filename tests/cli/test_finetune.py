"""embedx finetune on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from embedx.cli.app import run
from tests.helpers.finetuning import Checkpoint, write_tones

pytestmark = pytest.mark.long
QUICK = ["--epochs", "2", "--batch-size", "6", "--device", "cpu", "--progress", "none"]


def test_command_trains_takes_its_arguments_again_and_refuses_in_sentences(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = str(checkpoint("wav2vec2-large")), tmp_path / "m"
    table = tmp_path / "tones.csv"
    write_tones(tmp_path / "tones").to_csv(table, index=False)
    assert run(["finetune", str(table), "--model", model, "--label", "label", "-o", str(out), *QUICK, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["exit_code"] == 0
    assert values["outputs"]["label"]["rows"] == 6
    assert run(["finetune", str(table), "--model", model, "-o", str(out), *QUICK]) == 2
    assert "--overwrite" in capsys.readouterr().err
    arguments = str(out / "arguments.json")
    assert run(["finetune", "--args", arguments, "--epochs", "1", "-o", str(tmp_path / "n"), "--progress", "none"]) == 0
    assert "Saved as" in capsys.readouterr().out
    again = json.loads((tmp_path / "n" / "arguments.json").read_text())
    assert (again["epochs"], again["batch_size"], again["source"]) == (1, 6, [str(table)])
    for words, code, text in (
        ([str(table), "-o", str(tmp_path / "x")], 2, "Give the checkpoint to train"),
        (["--model", model, "-o", str(tmp_path / "x")], 2, "Give a source"),
        ([str(table), "--model", "logmel", "-o", str(tmp_path / "x")], 2, "cannot be fine-tuned"),
        ([str(table), "--model", str(tmp_path), "-o", str(tmp_path / "x")], 7, "config.json"),
        ([str(table), "--model", model, "--label", "no", "-o", str(tmp_path / "x")], 2, "'no' gives no label"),
        ([str(table), "--model", model, "-o", str(table)], 2, "is a file"),
        ([str(table), "--model", model, "-o", str(tmp_path / "tones")], 2, "is not empty"),
        ([str(table), "--model", model, "--metric", "luck", "-o", str(tmp_path / "x")], 2, "metric must be one of"),
        ([str(table), "--model", model, "--dropout", "nan", "-o", str(tmp_path / "x")], 2, "dropout must be"),
        ([str(tmp_path / "m"), "--model", model, "-o", str(tmp_path / "x")], 8, "no audio"),
    ):
        assert run(["finetune", *words]) == code, words
        assert text in capsys.readouterr().err, words


def test_recording_that_cannot_be_read_is_named_and_gives_exit_code_3(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = write_tones(tmp_path / "tones")
    Path(frame.path[4]).write_bytes(b"not audio")
    frame.to_csv(tmp_path / "tones.csv", index=False)
    model = str(checkpoint("wav2vec2-large"))
    words = ["finetune", str(tmp_path / "tones.csv"), "--model", model, "-o", str(tmp_path / "m"), *QUICK, "--json"]
    assert run(words) == 3
    values = json.loads(capsys.readouterr().out)
    assert Path(frame.path[4]).name in values["failures"][0]
    assert values["train_rows"] + values["validation_rows"] + values["test_rows"] == 29


LIMITED = """
import resource, sys
from embedx.cli.app import run
for kilobytes in (50, 120, 200):  # the samples, the weights, the state of the optimizer
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, resource.RLIM_INFINITY))
    code = run([*sys.argv[1:], "-o", f"m{kilobytes}"])
    print(f"code of {kilobytes}: {code}", file=sys.stderr)
"""


def test_full_disk_is_a_sentence(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A limit of the size of files stands for a full disk; it is met in the samples, the weights, or the optimizer."""
    write_tones(tmp_path / "tones", speakers=3, takes=1).to_csv(tmp_path / "tones.csv", index=False)
    words = ["finetune", "tones.csv", "--model", str(checkpoint("wav2vec2-large")), *QUICK, "--max-seconds", "0.2"]
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for kilobytes in (50, 120, 200):
        error, _, ended.stderr = ended.stderr.partition(f"code of {kilobytes}: 6\n")
        assert "cannot be written" in error, error
        assert "Traceback" not in error
        assert not (tmp_path / f"m{kilobytes}" / "finetune.json").exists()
