"""Names of models."""

import os
import sys
from pathlib import Path

import pytest

from embedx import extractors
from embedx.errors import ModelError
from embedx.extractors.names import resolve, resolve_untrusted


@pytest.mark.parametrize(
    "name, message",
    [
        ("logmle", "Did you mean 'logmel'"),
        ("hubert", "Known names"),
        ("./nowhere", "no model folder"),
        ("yamnet:/nowhere.safetensors", "EMBEDX_YAMNET_WEIGHTS"),
        ("yamnet", "EMBEDX_YAMNET_WEIGHTS"),
        ("someone/model-that-is-not-there", "no network.*--model FOLDER"),
    ],
)
def test_unknown_model_is_refused_with_suggestions(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("EMBEDX_YAMNET_WEIGHTS", raising=False)
    with pytest.raises(ModelError, match=message):
        extractors.load(name)


def test_import_of_extractors_loads_no_torch() -> None:
    import subprocess

    code = "import sys, embedx.extractors.catalogue; print('torch' in sys.modules, 'transformers' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert found.stdout.strip() == "False False"


def test_onnx_file_and_labels_become_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a?b.onnx").touch()
    folder = str(tmp_path)
    assert resolve("onnx:x.onnx?rate=8000&labels=l.txt&output=a") == (
        "onnx", f"{folder}/x.onnx?rate=8000&labels={folder}/l.txt&output=a",
    )  # fmt: skip
    assert resolve("a?b.onnx?rate=8000") == ("onnx", f"{folder}/a?b.onnx?rate=8000")
    assert resolve("x.onnx") == ("onnx", f"{folder}/x.onnx")
    assert resolve_untrusted("onnx:x.onnx")[0] == "onnx"


def test_needs_name_models_of_the_catalogue() -> None:
    from embedx.extractors.catalogue import CATALOGUE, GOOD_FOR

    names = {entry.name for entry in CATALOGUE}
    assert all(set(models) <= names for models in GOOD_FOR.values())
