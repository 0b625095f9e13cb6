"""Names of models."""

import os
import sys

import pytest

from embedx import extractors
from embedx.errors import ModelError


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
