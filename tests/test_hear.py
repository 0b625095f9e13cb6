import importlib
import importlib.machinery
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import embedx
from embedx import hear

MODELS = ("logmel", "hubert", "whisper", "ast", "clap")


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> str:
    return "logmel" if request.param == "logmel" else str(checkpoint(request.param))


@pytest.mark.parametrize(
    "seconds", [0.1, 3.74, *(pytest.param(length, marks=pytest.mark.long) for length in (2.0, 32.0))]
)
def test_hear_functions_follow_the_interface(name: str, seconds: float) -> None:
    model = hear.load_model(name)
    assert isinstance(model.scene_embedding_size, int)
    audio = torch.rand(3, round(seconds * model.sample_rate)) * 2 - 1
    embeddings, times = hear.get_timestamp_embeddings(audio, model)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (3, times.shape[1], model.timestamp_embedding_size)
    assert times.shape == embeddings.shape[:2]
    assert (torch.diff(times) > 0).all()
    scene = hear.get_scene_embeddings(audio, model)
    assert scene.shape == (3, model.scene_embedding_size)
    torch.testing.assert_close(scene, embeddings.mean(dim=1))


def test_scene_embedding_equals_stored_vector(name: str, write_wav: Callable[..., Path], tmp_path: Path) -> None:
    model = hear.load_model(name)
    wav = write_wav(seconds=3.0, rate=model.sample_rate)
    with embedx.extract(wav, model=name, out=tmp_path / "c") as collection:
        vectors = collection.vectors()
    import soundfile

    audio = torch.from_numpy(soundfile.read(wav, dtype="float32")[0])[None]
    np.testing.assert_allclose(hear.get_scene_embeddings(audio, model).numpy(), vectors, atol=1e-5)


@pytest.mark.filterwarnings("ignore:We suggest a interval")  # frames further apart than music transcription wants
@pytest.mark.parametrize("name", MODELS)
def test_hear_validator_accepts_the_module(
    name: str, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run hear-validator itself, where it is installed: pip install --no-deps hearvalidator==2021.0.2.

    It imports TensorFlow only to ask whether a model is one of TensorFlow's; without it an empty stand-in says no.
    """
    pytest.importorskip("hearvalidator", reason="opt-in: pip install --no-deps hearvalidator==2021.0.2")
    try:
        importlib.import_module("tensorflow")
    except ImportError:
        stand_in = types.ModuleType("tensorflow")
        stand_in.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
        stand_in.Module = type("Module", (), {})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tensorflow", stand_in)
    validate = importlib.import_module("hearvalidator.validate")
    path = "logmel" if name == "logmel" else str(checkpoint(name))
    validate.ValidateModel("embedx.hear", path)()
