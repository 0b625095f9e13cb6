"""Exported heads (ONNX, torch module, .pt2) give the same probabilities."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from embedx.errors import DiskError, ModelError, UsageError
from embedx.heads.head import Head
from embedx.heads.kinds import KINDS
from tests.helpers.head_data import CLASSES, GROUPS, MANY, NEW, NEW_Y, X, Y, fit, shaped

CASES = [(kind, several, "") for kind in KINDS for several in (False, True)] + [
    ("logistic", False, "Unit()+PCA(8, whiten)"),
    ("knn", False, "Centre()"),
]


def make(kind: str, several: bool, head_model: str) -> Head:
    head = fit(kind, X, MANY if several else Y, multilabel=several, groups=GROUPS, head_model=head_model)
    return head.calibrate("temperature", head.logits(shaped(kind, NEW)), MANY[: len(NEW)] if several else NEW_Y)


def run_onnx(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (proba,) = session.run(["probabilities"], {"x": x})
    return np.asarray(proba)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize(("kind", "several", "head_model"), CASES)
def test_exported_head_gives_equal_probabilities(
    kind: str, several: bool, head_model: str, calibrated: bool, tmp_path: Path
) -> None:
    head = make(kind, several, head_model)
    new = shaped(kind, NEW.copy())
    if kind != "knn":  # to which all rows are equally near
        new[0] = 0
    expected = head.predict_proba(new, calibrated)
    module = head.to_torch(calibrated=calibrated)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.tensor(new)).numpy(), expected, atol=1e-5)
    head.export(tmp_path / "head.onnx", calibrated=calibrated)
    np.testing.assert_allclose(run_onnx(tmp_path / "head.onnx", new), expected, atol=1e-5)
    np.testing.assert_allclose(run_onnx(tmp_path / "head.onnx", new[:1]), expected[:1], atol=1e-5)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", ["logistic", "prototype", "mlp"])
def test_exported_isotonic_calibration_gives_equal_probabilities(kind: str, several: bool, tmp_path: Path) -> None:
    head = fit(kind, X, MANY if several else Y, multilabel=several, groups=GROUPS)
    truth = MANY[: len(NEW)] if several else np.where(NEW_Y == 2, 1, NEW_Y)  # a curve with a single knot
    head = head.calibrate("isotonic", head.logits(NEW), truth)
    new = np.concatenate([NEW, X, 10 * NEW])
    expected = head.predict_proba(new, calibrated=True)
    with torch.no_grad():
        found = head.to_torch(calibrated=True)(torch.tensor(new)).numpy()
    head.export(tmp_path / "head.onnx", calibrated=True)
    for exported in (found, run_onnx(tmp_path / "head.onnx", new)):
        np.testing.assert_allclose(exported, expected, atol=2e-3)  # where a curve is steep, rounding of logits shows
        assert np.abs(exported - expected).mean() < 1e-5
    head.export(tmp_path / "head.pt2", "torch", calibrated=True)


@pytest.mark.parametrize("several", [False, True])
def test_exported_knn_head_without_prior_gives_equal_probabilities(several: bool, tmp_path: Path) -> None:
    head = make("knn", several, "")
    old = head.replace(arrays={name: array for name, array in head.arrays.items() if name != "prior"})
    old.export(tmp_path / "head.onnx")
    np.testing.assert_allclose(run_onnx(tmp_path / "head.onnx", NEW), old.predict_proba(NEW), atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(old.to_torch()(torch.tensor(NEW)).numpy(), old.predict_proba(NEW), atol=1e-5)


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch about itself
@pytest.mark.parametrize("kind", KINDS)
def test_exported_torch_program_takes_any_batch_size(kind: str, tmp_path: Path) -> None:
    head = make(kind, False, "")
    head.export(tmp_path / "head.pt2", "torch")
    extra = {"head.json": ""}
    program = torch.export.load(io.BytesIO((tmp_path / "head.pt2").read_bytes()), extra_files=extra).module()
    new = shaped(kind, NEW)
    for rows in (1, 5, len(new)):
        np.testing.assert_allclose(program(torch.tensor(new[:rows])).numpy(), head.predict_proba(new[:rows]), atol=1e-5)
    assert json.loads(extra["head.json"])["classes"] == list(CLASSES)


def test_exported_file_describes_itself(tmp_path: Path) -> None:
    head = make("logistic", False, "").replace(views=("L3.mean",))
    head.export(tmp_path / "head.onnx")
    model = onnx.load(tmp_path / "head.onnx")
    said = json.loads({one.key: one.value for one in model.metadata_props}["head"])
    assert said == {"kind": "logistic", "classes": list(CLASSES), "multilabel": False, "views": ["L3.mean"]}


def test_export_of_unsupported_head_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = fit("logistic", X, Y, C=1.0)
    with pytest.raises(UsageError, match="onnx, torch"):
        head.export(tmp_path / "a", "pickle")
    with pytest.raises(UsageError, match="no calibration"):
        head.export(tmp_path / "a", calibrated=True)
    with pytest.raises(DiskError, match="cannot be written"):
        head.export(tmp_path / "no" / "a")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"embedx\[onnx\]"):
        head.export(tmp_path / "a")
    assert not list(tmp_path.iterdir())
