"""Bundles of torchaudio, tiny ones with random weights: conformance tests, and equality with the library."""

import os
import pickle
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchaudio import pipelines
from torchaudio.models import wav2vec2_model, wavlm_model

from embedx import extractors
from embedx.errors import ModelError
from embedx.extractors.base import Extractor
from embedx.extractors.catalogue import CATALOGUE
from embedx.extractors.weight_files import torch_cache
from tests.helpers.checkpoints import SMALL_TORCHAUDIO
from tests.helpers.conformance import EXACT, Checkpoint, ConformanceTests, run

RELATIVE = {"encoder_num_buckets": 32, "encoder_max_distance": 128}
LARGE = {"extractor_mode": "layer_norm", "extractor_conv_bias": True, "encoder_layer_norm_first": True}
WIDE = {
    "extractor_conv_layer_config": [(64, 10, 5)] + 4 * [(64, 3, 2)] + 2 * [(64, 2, 2)],
    "encoder_embed_dim": 128,
    "encoder_ff_interm_features": 256,
}
HEAD = {"aux_num_out": 9}
TINY: dict[str, tuple[str, dict[str, Any], bool]] = {  # name -> kind, parameters, is the waveform normalised
    "HUBERT_TINY": ("Wav2Vec2", {}, False),
    "HUBERT_TINY_LARGE": ("Wav2Vec2", LARGE, True),
    "WAV2VEC2_TINY_FIRST": ("Wav2Vec2", {"encoder_layer_norm_first": True}, True),
    "WAV2VEC2_TINY_LAYER": ("Wav2Vec2", {"extractor_mode": "layer_norm"}, False),
    "WAV2VEC2_ASR_TINY": ("Wav2Vec2", HEAD, False),
    "WAVLM_TINY": ("WavLM", RELATIVE, False),
    "HUBERT_TINY_WIDE": ("Wav2Vec2", WIDE, False),
    "WAVLM_TINY_WIDE": ("WavLM", RELATIVE | WIDE, False),
    "WAVLM_TINY_LARGE": ("WavLM", RELATIVE | LARGE, True),
}


@pytest.fixture(scope="module", autouse=True)
def bundles() -> Iterator[None]:
    """Add the tiny bundles to torchaudio."""
    with pytest.MonkeyPatch.context() as patch:
        for name, (kind, params, normalise) in TINY.items():
            options: dict[str, Any] = {
                "_path": f"{name}.pth",
                "_params": SMALL_TORCHAUDIO | params,
                "_sample_rate": 16_000,
                "_normalize_waveform": normalise,
                "_model_type": kind,
            }
            bundle = (
                pipelines.Wav2Vec2ASRBundle(**options, _labels=tuple("abcdef"))
                if "_ASR_" in name
                else pipelines.Wav2Vec2Bundle(**options)
            )
            patch.setattr(pipelines, name, bundle, raising=False)
        yield


def library(name: str) -> Any:
    """Return the model of torchaudio with random weights everywhere, also in layer norms."""
    kind, params, _ = TINY[name]
    torch.manual_seed(len(name))
    model = (wavlm_model if kind == "WavLM" else wav2vec2_model)(**(SMALL_TORCHAUDIO | params)).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("bundles")

    def make(name: str) -> Path:
        path = root / f"{name}.safetensors"
        if not path.exists():
            save_file(library(name).state_dict(), path)
        return path

    return make


@pytest.fixture(scope="module", params=TINY)
def extractor(request: pytest.FixtureRequest, bundles: None, weights: Callable[[str], Path]) -> Extractor:
    return extractors.load(f"torchaudio:{request.param}@{weights(request.param)}", backend="reference")


class TestBundles(ConformanceTests):
    pass


# -- equal to the library on one clip ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_every_layer_equals_torchaudio_on_one_clip(name: str, weights: Callable[[str], Path]) -> None:
    extractor, model = extractors.load(f"{name}@{weights(name)}", backend="reference"), library(name)
    clips = [torch.rand(n) - 0.4 for n in (2_240, 400, 16_000, 80_001, 719)]
    found = run(extractor, clips, pad=1_000, rubbish=float("nan") if TINY[name][2] else 100.0)
    for i, clip in enumerate(clips):
        wave = torch.nn.functional.layer_norm(clip, clip.shape)[None] if TINY[name][2] else clip[None]
        with torch.inference_mode():
            inside = model.extract_features(wave)[0]
            heard, _ = model.feature_extractor(wave, None)
            first = model.encoder.transformer._preprocess(model.encoder.feature_projection(heard))
            last = model.encoder(heard)
        for layer, expected in enumerate([first, *inside[:-1], last]):
            torch.testing.assert_close(found[layer][i], expected[0], atol=EXACT, rtol=0, msg=f"layer {layer}, clip {i}")
        if not (SMALL_TORCHAUDIO | TINY[name][1])["encoder_layer_norm_first"]:
            assert torch.equal(last, inside[-1])


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-large", "hubert", "wavlm"])
def test_layer_numbers_equal_transformers(kind: str, checkpoint: Checkpoint) -> None:
    """The same numbers carried from a checkpoint of transformers to torchaudio give the same frames, layer by layer."""
    from torchaudio.models.wav2vec2.utils import import_huggingface_model
    from transformers import AutoModel

    from embedx.extractors.torchaudio import BundleEncoder

    one = AutoModel.from_pretrained(checkpoint(kind)).eval()
    two = BundleEncoder(import_huggingface_model(one), False, 16_000, {})
    wave = torch.rand(1, 12_000) - 0.4
    with torch.inference_mode():
        output = one(wave, output_hidden_states=True)
    for layer, frames, _ in two.frames(wave, torch.tensor([12_000]), two.layers):
        expected = output.last_hidden_state if layer == two.layers[-1] else output.hidden_states[layer]
        torch.testing.assert_close(frames, expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("name", ["HUBERT_TINY_WIDE", "WAVLM_TINY_WIDE"])  # the others are too narrow for 8 bits
def test_half_precision_is_near_and_does_not_depend_on_batch(name: str, weights: Callable[[str], Path]) -> None:
    extractor = extractors.load(f"{name}@{weights(name)}")
    clips = [torch.rand(n) - 0.4 for n in (16_000, 5_000, 400)]
    exact = run(extractor, clips)
    with torch.autocast("cpu", torch.bfloat16):
        together, alone = run(extractor, clips, pad=999), [run(extractor, [clip]) for clip in clips]
    for layer in extractor.layers:
        for i in range(len(clips)):
            vectors = [one.float().mean(dim=0) for one in (together[layer][i], alone[i][layer][0], exact[layer][i])]
            assert torch.cosine_similarity(vectors[0], vectors[1], dim=0) > 0.9999
            assert torch.cosine_similarity(vectors[0], vectors[2], dim=0) > 0.999


# -- names ---------------------------------------------------------------------------------------------------------


def test_bundle_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert extractors.resolve("HUBERT_BASE") == ("torchaudio", "HUBERT_BASE")
    assert extractors.resolve("torchaudio:WAVLM_LARGE") == ("torchaudio", "WAVLM_LARGE")
    local = ("torchaudio", f"VOXPOPULI_ASR_BASE_10K_DE@{tmp_path}/a.pth")
    assert extractors.resolve("VOXPOPULI_ASR_BASE_10K_DE@a.pth") == local
    assert extractors.resolve(":".join(local)) == local
    assert extractors.resolve("HUBERT_x/y@main")[0] == "huggingface"
    (tmp_path / "HUBERT_BASE").mkdir()
    assert extractors.resolve("HUBERT_BASE") == ("huggingface", f"{tmp_path}/HUBERT_BASE")


@pytest.mark.parametrize(
    "name, near",
    [
        ("HUBERT_BSAE", "HUBERT_BASE"),
        ("torchaudio:wavlm_large", "WAVLM_LARGE"),
        ("XLSR_300M", "WAV2VEC2_XLSR_300M"),
        ("torchaudio:MMS_FA", "Similar names"),
    ],
)
def test_unknown_bundle_is_refused_with_near_names(name: str, near: str) -> None:
    with pytest.raises(ModelError, match=f"no speech bundle .*{near}"):
        extractors.load(name)


def test_incompatible_torchaudio_is_a_readable_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)  # what Python does with it then: ImportError
    with pytest.raises(ModelError, match=r"torchaudio cannot be imported with torch 2\..*hub id"):
        extractors.load("HUBERT_BASE")


# -- the cache and the network -------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub, and no network."""

    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", refuse)
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    return tmp_path / "hub/checkpoints"


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
def test_bundle_without_network_names_local_alternative(
    cache: Path, proxy: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    if proxy:
        monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ModelError, match=r"no network.*hubert_fairseq_base_ls960\.pth.*HUBERT_BASE@FILE"):
        extractors.load("HUBERT_BASE")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["HUBERT_TINY", "WAV2VEC2_ASR_TINY"])
def test_cached_bundle_needs_no_network(cache: Path, name: str, weights: Callable[[str], Path]) -> None:
    torch.save(library(name).state_dict(), cache / f"{name}.pth")
    assert extractors.load(name).weights == extractors.load(f"{name}@{weights(name)}").weights


def test_broken_file_in_cache_is_named(cache: Path) -> None:
    (cache / "HUBERT_TINY.pth").write_bytes(b"PK half of a file")
    with pytest.raises(ModelError, match=r"HUBERT_TINY\.pth cannot be read.*Delete it"):
        extractors.load("HUBERT_TINY")


def test_catalogue_looks_in_torch_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch_cache() == cache == Path(torch.hub.get_dir(), "checkpoints")
    entries = {one.name: one for one in CATALOGUE if one.source == "torchaudio"}
    for name, entry in entries.items():
        bundle = getattr(pipelines, name)
        depth = bundle._params["encoder_num_layers"]
        assert (entry.file, entry.dim) == (bundle._path, bundle._params["encoder_embed_dim"])
        assert (entry.rate, entry.layers) == (bundle.sample_rate, f"0-{depth}")
    assert entries["HUBERT_BASE"].weights() == "to be fetched"
    (cache / entries["HUBERT_BASE"].file).touch()
    assert entries["HUBERT_BASE"].weights() == "here"
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/elsewhere")
    assert torch_cache() == Path(torch.hub.get_dir(), "checkpoints")


# -- weights from a file -------------------------------------------------------------------------------------------


def cut(path: Path, tensors: dict[str, Tensor]) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def drop(path: Path, tensors: dict[str, Tensor]) -> None:
    del tensors["encoder.transformer.layers.1.final_layer_norm.weight"]
    save_file(tensors, path)


def add(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors | {"encoder.transformer.layers.9.layer_norm.bias": torch.zeros(32)}, path)


def reshape(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors | {"encoder.transformer.layer_norm.bias": torch.zeros(33)}, path)


BREAKAGES: dict[str, Callable[[Path, dict[str, Tensor]], object]] = {
    "cannot be read": cut,
    r"missing: encoder\.transformer\.layers\.1\.final_layer_norm\.weight": drop,
    r"unexpected: encoder\.transformer\.layers\.9\.layer_norm\.bias": add,
    r"size mismatch for encoder\.transformer\.layer_norm\.bias": reshape,
    "There is no weights file": lambda path, _: path.unlink(),
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_broken_weights_file_is_refused_with_reason(
    message: str, weights: Callable[[str], Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(weights("HUBERT_TINY"), tmp_path))
    BREAKAGES[message](path, load_file(path))
    with pytest.raises(ModelError, match=message):
        extractors.load(f"HUBERT_TINY@{path}")


def test_pickle_is_read_only_if_allowed_and_never_executed(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "run"),)

    path = tmp_path / "bomb.pth"
    path.write_bytes(pickle.dumps(Bomb(), protocol=2))
    for allowed, message in ((False, "can run code.*--allow-pickle"), (True, "cannot be read")):
        with pytest.raises(ModelError, match=message):
            extractors.load(f"HUBERT_TINY@{path}", allow_pickle=allowed)
    torch.save([1.0], path)
    with pytest.raises(ModelError, match="cannot be read as weights"):
        extractors.load(f"HUBERT_TINY@{path}", allow_pickle=True)
    assert not (tmp_path / "run").exists()


def test_hash_depends_on_encoder_numbers_only(weights: Callable[[str], Path], tmp_path: Path) -> None:
    tensors, path = load_file(weights("HUBERT_TINY")), tmp_path / "other.safetensors"
    first = extractors.load(f"HUBERT_TINY@{weights('HUBERT_TINY')}").weights
    conv = "encoder.transformer.pos_conv_embed.conv."
    old = {
        f"{conv}weight_{letter}": tensors.pop(f"{conv}parametrizations.weight.original{i}")
        for i, letter in enumerate("gv")
    }
    save_file(tensors | old | {"aux.weight": torch.zeros(9, 32), "aux.bias": torch.zeros(9)}, path)
    for name in ("HUBERT_TINY", "WAV2VEC2_ASR_TINY"):  # the same encoder, with a head and without
        assert extractors.load(f"{name}@{path}").weights == first
    assert extractors.load(f"WAV2VEC2_ASR_TINY@{weights('HUBERT_TINY')}").weights == first
    save_file(tensors | old | {"encoder.transformer.layer_norm.bias": torch.ones(32)}, path)
    assert extractors.load(f"HUBERT_TINY@{path}").weights != first


@pytest.mark.long
def test_bundle_of_real_size_loads_from_safetensors_and_pickle(tmp_path: Path) -> None:
    """HUBERT_BASE with random weights, 378 MB a file, both files removed at the end."""
    plain, pickled = tmp_path / "hubert.safetensors", tmp_path / "hubert.pth"
    torch.manual_seed(0)
    tensors = wav2vec2_model(**pipelines.HUBERT_BASE._params).state_dict()
    try:
        save_file(tensors, plain)
        torch.save(tensors, pickled)
        with pytest.raises(ModelError, match="--allow-pickle"):
            extractors.load(f"torchaudio:HUBERT_BASE@{pickled}")
        one = extractors.load(f"torchaudio:HUBERT_BASE@{plain}")
        two = extractors.load(f"torchaudio:HUBERT_BASE@{pickled}", allow_pickle=True)
    finally:
        plain.unlink()
        pickled.unlink(missing_ok=True)
    assert one.weights == two.weights
    assert (one.layers, one.dim, one.frame_rate, one.min_samples) == (tuple(range(13)), 768, 50.0, 400)
    clips = [torch.rand(n) - 0.5 for n in (400, 16_000)]
    together, alone = run(one, clips, pad=3_200), [run(two, [clip]) for clip in clips]
    for layer in one.layers:
        for i in range(len(clips)):
            torch.testing.assert_close(together[layer][i], alone[i][layer][0], atol=EXACT, rtol=EXACT)
