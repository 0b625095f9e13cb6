"""The commands about heads: probe, train, predict, suggest."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import embedx
from tests.helpers.collections import Make, clusters
from tests.helpers.commands import Capture, outcome


def test_probe_command_prints_scores(made: Path, capsys: Capture) -> None:
    code, text, _ = outcome(capsys, "probe", str(made))
    assert code == 0
    assert "linear probe" in text
    options = ["--where", "label <> 'bell'", "--permutations", "39"]
    report = json.loads(outcome(capsys, "probe", str(made), "--format", "json", *options)[1])
    assert (report["p_value"], report["permutations"]) == (0.025, 39)
    assert report["classes"] == 3
    assert report["accuracy"] > 0.5


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the shared collection that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def test_train_predict_and_heads_work_together(own: Path, tmp_path: Path, capsys: Capture) -> None:
    code, text, _ = outcome(capsys, "train", str(own), "--setting", "C=0.1", "--report", str(tmp_path / "r.png"))
    assert code == 0
    assert re.search(r"Calibration \(temperature\) (not )?kept.*: ECE 0\.\d+ -> 0\.\d+, log loss", text)
    assert "No test row looks like a copy" in text or "look alike" in text
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    said = json.loads(outcome(capsys, "train", str(own), "--kind", "knn", "--name", "near", "--json")[1])
    assert (said["exit_code"], said["name"], said["head"]["kind"]) == (0, "near", "knn")
    listed = json.loads(outcome(capsys, "heads", "list", str(own), "--format", "json")[1])
    assert [one["name"] for one in listed] == ["label-logistic", "near"]
    assert json.loads(outcome(capsys, "heads", "show", str(own), "near")[1])["settings"]["k"] == 5
    audio = str(embedx.open(own).rows()["path"].iloc[0])
    code, text, errors = outcome(capsys, "predict", str(own), audio)
    assert (code, "several heads" in errors) == (2, True)
    code, text, _ = outcome(capsys, "predict", str(own), audio, "--head", "near", "-k", "2", "--format", "jsonl")
    assert code == 0
    assert json.loads(text)["label"] == json.loads(text)["top1"]
    for name in ("h.onnx", "h.pt2"):
        assert outcome(capsys, "heads", "export", str(own), "near", "-o", str(tmp_path / name))[0] == 0
        assert (tmp_path / name).stat().st_size > 1000
    assert outcome(capsys, "heads", "rm", str(own), "near")[0] == 0
    assert [one["name"] for one in json.loads(outcome(capsys, "heads", "list", str(own), "--format", "json")[1])] == [
        "label-logistic"
    ]


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_heads_export_writes_calibrated_probabilities_or_raw_ones(
    method: str, make: Make, tmp_path: Path, capsys: Capture
) -> None:
    import onnxruntime

    x, labels = clusters(240, 6, spread=4.0)
    collection = make(x, labels)
    head = collection.fit_head(C=1000.0, calibration=method)
    assert head.calibrated
    for options, calibrated in (([], True), (["--raw"], False)):
        file = tmp_path / f"{calibrated}.onnx"
        assert outcome(capsys, "heads", "export", str(collection.folder), head.name, "-o", str(file), *options)[0] == 0
        session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": x})[0], head.predict_proba(x, calibrated), atol=1e-4)
    assert np.abs(head.predict_proba(x, True) - head.predict_proba(x)).max() > 0.05


def test_predict_writes_audacity_labels_per_recording(own: Path, tmp_path: Path, capsys: Capture) -> None:
    outcome(capsys, "train", str(own), "--setting", "C=0.1")
    (tmp_path / "bad.wav").write_bytes(b"x")
    paths = [str(path) for path in embedx.open(own).rows()["path"].iloc[:2]]
    code, _, errors = outcome(capsys, "predict", str(own), *paths, "--format", "audacity")
    assert (code, "there are 2. Use --output FOLDER/" in errors) == (2, True)
    out = tmp_path / "labels"
    code, _, errors = outcome(
        capsys, "predict", str(own), *paths, str(tmp_path / "bad.wav"), "--format", "audacity", "--output", f"{out}/"
    )
    assert (code, "bad.wav" in errors) == (3, True)
    assert len(list(out.iterdir())) == 2
    start, end, words = sorted(out.iterdir())[0].read_text().rstrip("\n").split("\t")
    assert float(start) == 0 < float(end)
    assert re.fullmatch(r"\w+ [01]\.\d{3}", words)


def test_suggest_writes_table_to_fill_in(own: Path, tmp_path: Path, capsys: Capture) -> None:
    outcome(capsys, "train", str(own), "--setting", "C=0.1", "--name", "h")
    code, _, errors = outcome(capsys, "suggest", str(own))
    assert (code, "Every row has a 'label'" in errors) == (8, True)
    outcome(capsys, "label", str(own), "--set", "label=", "--where", "id % 2 = 0")
    table = tmp_path / "next.csv"
    assert outcome(capsys, "suggest", str(own), "-n", "5", "--format", "csv", "--output", str(table))[0] == 0
    lines = table.read_text().splitlines()
    assert lines[0] == "id,path,start_s,end_s,label,_suggested,_probability,_value"
    assert len(lines) == 6
    filled = [lines[0], *(line.replace(",,", ",bell,", 1) for line in lines[1:])]
    table.write_text("\n".join(filled) + "\n")
    code, text, _ = outcome(capsys, "label", str(own), str(table), "--json")
    assert (code, json.loads(text)["changed"]) == (0, 5)


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["train", "OWN", "--setting", "C"], 2, "NAME=VALUE"),
        (["train", "OWN", "--setting", "trees=9"], 2, "no setting 'trees'. Its settings: C"),
        (["train", "OWN", "--head-model", "PCA(x)"], 2, "is not a step"),
        (["train", "OWN", "--head-model", "PCA(9999)"], 2, "asks for 9999 components"),
        (["train", "OWN", "--leaky", "--folds", "source"], 2, "Give only one of folds"),
        (["predict", "OWN"], 2, "no head in"),
        (["heads", "show", "OWN", "x"], 2, "no head 'x'"),
        (["heads", "rm", "OWN", "../x"], 2, "no head"),
        (["suggest", "OWN", "--by", "margin"], 2, "no head"),
    ],
)
def test_invalid_input_to_head_commands_is_refused(
    own: Path, capsys: Capture, words: list[str], code: int, message: str
) -> None:
    found, _, errors = outcome(capsys, *(str(own) if word == "OWN" else word for word in words))
    assert found == code
    assert message in errors
    assert "Traceback" not in errors


def test_sweep_prints_line_per_view(made: Path, capsys: Capture) -> None:
    code, text, _ = outcome(capsys, "probe", str(made), "--sweep", "--group", "source")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines() if line.startswith("L0.")] == ["L0.mean", "L0.max"]
    said = json.loads(outcome(capsys, "probe", str(made), "--sweep", "--view", "*.max", "--format", "json")[1])
    assert [one["view"] for one in said["views"]] == ["L0.max"]
    assert outcome(capsys, "probe", str(made), "--sweep", "--permutations", "9")[0] == 2
    code, _, errors = outcome(capsys, "probe", str(made), "--sweep", "--kind", "knn")
    assert (code, "does not take --kind" in errors) == (2, True)


def test_export_of_a_head_with_another_ending_is_refused(own: Path, tmp_path: Path, capsys: Capture) -> None:
    code, _, err = outcome(capsys, "heads", "export", str(own), "mine", "-o", str(tmp_path / "x.txt"))
    assert (code, "must end in .onnx or .pt2" in err) == (2, True)
