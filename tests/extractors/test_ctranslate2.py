"""Folders of CTranslate2 load as Whisper, with the frames of the checkpoint that was converted."""

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import embedx
from embedx import extractors
from embedx.errors import ModelError
from embedx.extractors.base import Extractor
from tests.helpers.conformance import run
from tests.helpers.ctranslate2_files import arrays_of, make_whisper, quantised, write

# Largest difference of a frame, relative to the largest number; of int8 it is the rounding of the weights.
TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "int16": 2e-2, "int8": 5e-2}
LONG = ("float16", "int16")
CLIPS = [torch.rand(n, generator=torch.Generator().manual_seed(n)) - 0.5 for n in (16_000, 5_000)]


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def arrays(checkpoint_folder: Path) -> dict[str, Any]:
    return arrays_of(transformers.WhisperModel.from_pretrained(checkpoint_folder).get_encoder())


def largest_difference(ours: Extractor, theirs: Extractor) -> float:
    """Return the largest difference of two extractors on all layers, relative to the largest number of the layer."""
    assert (ours.layers, ours.dim, ours.sample_rate) == (theirs.layers, theirs.dim, theirs.sample_rate)
    found, expected = run(ours, CLIPS), run(theirs, CLIPS)
    return max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1))
        for layer in theirs.layers
        for a, b in zip(found[layer], expected[layer], strict=True)
    )


@pytest.mark.parametrize("kind", ["float32", "int8", *(pytest.param(one, marks=pytest.mark.long) for one in LONG)])
def test_frames_equal_those_of_the_converted_checkpoint(
    kind: str, checkpoint_folder: Path, arrays: dict[str, Any], tmp_path: Path
) -> None:
    stored = quantised(arrays, kind)
    stored["decoder/anything/weight"] = np.zeros((3, 2), np.float32)
    alias = "encoder/layer_1/self_attention/layer_norm/beta"
    stored["encoder/layer_0/self_attention/layer_norm/beta"] = stored[alias]
    first = extractors.load(str(write(tmp_path / "a", stored, {})))
    aliases = {alias: "encoder/layer_0/self_attention/layer_norm/beta"}
    del stored[alias]
    ours = extractors.load(str(write(tmp_path / "b", stored, aliases, version=5)))
    assert ours.weights == first.weights
    reference = extractors.load(str(checkpoint_folder))
    encoder = reference.model  # type: ignore[attr-defined]
    with torch.no_grad():
        encoder.layers[0].self_attn_layer_norm.bias.copy_(encoder.layers[1].self_attn_layer_norm.bias)
    assert largest_difference(ours, reference) < TOLERANCES[kind]


def test_folder_extracts_and_searches_like_a_checkpoint(arrays: dict[str, Any], manifest: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "faster", arrays, {})
    query = next(manifest.parent.rglob("*.wav"))
    with embedx.extract(query, model=str(folder), out=tmp_path / "c", layers="all") as collection:
        assert list(collection.views) == ["L0.mean", "L1.mean", "L2.mean"]
        assert collection.search(query, k=1)[0].score == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "has version 3. embedx reads WhisperSpec of the versions 4 to 6"),
        ({"name": "TransformerSpec"}, "holds a TransformerSpec"),
        ({"lost": "encoder/conv2/bias"}, "conv2.bias"),
        ({"cut": 5_000}, "ends too early"),
        ({"front_end": '{"feature_size": 128}'}, "feature_size"),
        ({"pointer": True}, "Git-LFS pointer"),
    ],
)
def test_unusable_folder_is_named(change: dict[str, Any], message: str, arrays: dict[str, Any], tmp_path: Path) -> None:
    options = SimpleNamespace(**{"version": 6, "name": "WhisperSpec", "lost": "", "cut": 0, "front_end": ""} | change)
    kept = {name: values for name, values in arrays.items() if name != options.lost}
    file = write(tmp_path / "a", kept, {}, options.version, options.name) / "model.bin"
    if options.cut:
        file.write_bytes(file.read_bytes()[: -options.cut])
    if "pointer" in change:
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    if options.front_end:
        (tmp_path / "a" / "preprocessor_config.json").write_text(options.front_end)
    with pytest.raises(ModelError, match=message):
        extractors.load(str(tmp_path / "a"))


@pytest.mark.parametrize("quantization", ["float32", pytest.param("int8", marks=pytest.mark.long)])
def test_folder_of_the_true_converter_equals_its_checkpoint(
    quantization: str, checkpoint_folder: Path, shared: Path, tmp_path: Path
) -> None:
    specs = pytest.importorskip("ctranslate2.specs", reason="needs ctranslate2, the converter, which is optional")
    converters = pytest.importorskip("ctranslate2.converters.transformers")
    whisper = shared / "weights/whisper-tiny.en"
    folder = whisper if whisper.is_dir() else checkpoint_folder
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    config = model.config
    loader = converters.WhisperLoader()
    spec = specs.WhisperSpec(
        config.encoder_layers, config.encoder_attention_heads, config.decoder_layers, config.decoder_attention_heads
    )
    loader.set_encoder(spec.encoder, model.model.encoder)
    loader.set_decoder(spec.decoder, model.model.decoder)
    loader.set_linear(spec.decoder.projection, model.proj_out)
    spec.register_vocabulary([str(i) for i in range(config.vocab_size)])
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(tmp_path))
    assert struct.unpack("<I", (tmp_path / "model.bin").read_bytes()[:4])[0] >= 4
    difference = largest_difference(extractors.load(str(tmp_path)), extractors.load(str(folder)))
    assert difference < TOLERANCES[quantization]
