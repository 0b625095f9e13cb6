"""The front end of a checkpoint is read from both files, and what is missing or does not fit is named."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers

from embedx import extractors
from embedx.errors import ModelError
from tests.helpers.conformance import Checkpoint

OLD, NEW = "preprocessor_config.json", "processor_config.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 377607901\n"


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Checkpoint, request: pytest.FixtureRequest) -> Path:
    """A copy of the checkpoint that the test names."""
    shutil.copytree(checkpoint(request.param), tmp_path / "model")
    return tmp_path / "model"


def change(file: Path, **values: Any) -> None:
    """Change values of a JSON file; None removes one."""
    settings = {**(json.loads(file.read_text()) if file.exists() else {}), **values}
    file.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))


@pytest.mark.parametrize("folder", ["whisper", "distilhubert", "wav2vec2-bert", "clap", "ast"], indirect=True)
def test_front_end_in_new_file_gives_the_same_extractor(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = extractors.load(str(folder))
    settings = json.loads((folder / OLD).read_text())
    (folder / OLD).unlink()
    change(folder / NEW, processor_class="Any", feature_extractor=settings)
    found = extractors.load(str(folder))
    assert (found.weights, found.sample_rate) == (expected.weights, expected.sample_rate)
    assert caplog.text == ""


@pytest.mark.parametrize("folder", ["hubert"], indirect=True)
@pytest.mark.parametrize("nested", [{"do_normalize": False, "sampling_rate": 8_000}, None])
def test_front_end_in_both_files_is_read_as_in_transformers(folder: Path, nested: dict[str, Any] | None) -> None:
    change(folder / NEW, processor_class="Wav2Vec2Processor", feature_extractor=nested)
    library = transformers.AutoFeatureExtractor.from_pretrained(folder)
    found: Any = extractors.load(str(folder), backend="reference")
    assert (found.input.normalise, found.sample_rate) == (library.do_normalize, library.sampling_rate)
    assert found.sample_rate == (8_000 if nested else 16_000)


@pytest.mark.parametrize("folder", ["hubert"], indirect=True)
@pytest.mark.parametrize("name", ["do_normalize", "sampling_rate", "both"])
def test_missing_setting_of_waveform_model_is_named(folder: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    weights = extractors.load(str(folder)).weights
    names = ["do_normalize", "sampling_rate"] if name == "both" else [name]
    change(folder / OLD, **dict.fromkeys(names))
    caplog.clear()
    assert extractors.load(str(folder)).weights == weights
    assert all(f"{one} = " in caplog.text for one in names), caplog.text
    (folder / OLD).unlink()
    caplog.clear()
    assert extractors.load(str(folder)).weights == weights
    assert "do_normalize = true and sampling_rate = 16000" in caplog.text
    assert all(record.levelno == logging.WARNING for record in caplog.records)


INVALID: dict[str, tuple[Any, ...]] = {
    "do_normalize": ("false", 0, [True], {}),
    "sampling_rate": ("16000", 0, -16_000, 16_000.5, True, [16_000], 10**12),
    "feature_size": (80, "1", True),
}


@pytest.mark.parametrize("folder", ["hubert"], indirect=True)
@pytest.mark.parametrize("name, value", [(name, value) for name, values in INVALID.items() for value in values])
def test_invalid_setting_of_waveform_model_is_refused_by_name(folder: Path, name: str, value: Any) -> None:
    change(folder / OLD, **{name: value})
    with pytest.raises(ModelError, match=name):
        extractors.load(str(folder))


MISFITS: list[tuple[str, dict[str, Any], str]] = [
    ("whisper", {"feature_size": 128}, "feature_size is 128, but the model expects 80"),
    ("whisper", {"chunk_length": 10}, "nb_max_frames is 1000, but the model expects 3000"),
    ("whisper", {"sampling_rate": "fast"}, "sampling_rate .* must be 1000 to 384000 Hz, not 'fast'"),
    ("whisper", {"feature_size": 10**9}, "feature_size .* must be 1 to 1024, not 1000000000"),
    ("ast", {"num_mel_bins": 64}, "num_mel_bins is 64, but the model expects 128"),
    ("ast", {"max_length": 512}, "max_length is 512, but the model expects 1024"),
    ("wav2vec2-bert", {"num_mel_bins": 40, "feature_size": 40}, "num_mel_bins is 40, but the model expects 80"),
    ("clap", {"feature_size": 32}, "feature_size is 32, but the model expects 64"),
    ("clap", {"max_length_s": 20, "nb_max_samples": 960_000}, "max_length_s is 20, but the model expects 1024 frames"),
    ("clap", {"truncation": "fusion"}, "truncation is 'fusion', but the model expects rand_trunc"),
]


@pytest.mark.parametrize("folder, values, text", MISFITS, indirect=["folder"])
def test_front_end_that_does_not_fit_the_model_is_refused(folder: Path, values: dict[str, Any], text: str) -> None:
    change(folder / OLD, **values)
    with pytest.raises(ModelError, match=text) as caught:
        extractors.load(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["whisper", "hubert"], indirect=True)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", OLD, NEW])
def test_pointer_in_checkpoint_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text(POINTER)
    with pytest.raises(ModelError, match=rf"{name} is a Git-LFS pointer, not the file itself.*git lfs pull"):
        extractors.load(str(folder))


@pytest.mark.parametrize("folder", ["hubert"], indirect=True)
def test_pointer_among_other_files_does_no_harm(folder: Path) -> None:
    for name in ("tf_model.h5", "README.md", "pytorch_model.bin", "model.fp16.safetensors"):
        (folder / name).write_text(POINTER)
    extractors.load(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"is a Git-LFS pointer"):
        extractors.load(str(folder), allow_pickle=True)


@pytest.mark.parametrize(
    "name, file",
    [
        ("yamnet", "yamnet.safetensors"),
        ("vggish", "vggish.npz"),
        ("vggish", "vggish.pth"),
        ("melspec-resnet18", "resnet18.safetensors"),
        ("HUBERT_BASE@", "hubert.safetensors"),
    ],
)
def test_pointer_as_weights_file_is_named(name: str, file: str, tmp_path: Path) -> None:
    if name == "melspec-resnet18":
        pytest.importorskip("torchvision", reason="needs torchvision, which is optional")
    (tmp_path / file).write_text(POINTER)
    with pytest.raises(ModelError, match=rf"{file} is a Git-LFS pointer"):
        extractors.load(f"{name}{'' if name.endswith('@') else ':'}{tmp_path / file}")
