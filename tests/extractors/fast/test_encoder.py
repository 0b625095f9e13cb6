"""The fast forward pass: every layer of every supported model equals the library on one clip."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

import embedx
from embedx import extractors
from embedx.errors import UsageError
from embedx.extractors.base import Extractor
from embedx.extractors.fast import onednn
from embedx.extractors.fast.convolutions import cut, fold
from embedx.extractors.fast.encoder import FastEncoder
from embedx.extractors.torchaudio import BundleEncoder
from tests.helpers.checkpoints import SMALL, SMALL_TORCHAUDIO
from tests.helpers.conformance import EXACT, Checkpoint, ConformanceTests, run
from tests.helpers.transformer_reference import CLIPS, NAMES, assert_both_precisions, clips_of, expected

WAYS = ("oneDNN", "oneDNN as on other processors than Intel's", "without oneDNN")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every implementation of matrix products that this machine has."""
    name: str = request.param
    if name == "without oneDNN":
        monkeypatch.setattr(onednn, "is_fused", lambda dtype: False)
    elif not onednn.is_fused(torch.float32):
        pytest.skip("there is no oneDNN here")
    elif name != "oneDNN":
        monkeypatch.setattr(onednn, "is_intel", lambda: False)
    return name


@pytest.fixture(scope="module", params=["hubert-batch-norm", "wav2vec2-large"])
def extractor(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> Extractor:
    return extractors.load(str(checkpoint(request.param)), backend="fast")


class TestFastEncoder(ConformanceTests):
    pass


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_equals_transformers_on_one_clip(name: str, way: str, checkpoint: Checkpoint) -> None:
    extractor = extractors.load(str(checkpoint(name)), backend="fast")
    assert isinstance(extractor, FastEncoder)
    found = run(extractor, CLIPS, pad=1_000, rubbish=100.0)
    for i, states in enumerate(expected(checkpoint(name), extractor.reference.input.normalise)):
        for layer, true in enumerate(states):
            torch.testing.assert_close(found[layer][i], true, atol=EXACT, rtol=0, msg=f"layer {layer}, clip {i}")


@pytest.mark.parametrize("mode", ["group_norm", "layer_norm"])
@pytest.mark.parametrize("first", [False, True])
def test_every_layer_equals_torchaudio_on_one_clip(mode: str, first: bool) -> None:
    from torchaudio.models import wav2vec2_model

    torch.manual_seed(3)
    shape = {"extractor_mode": mode, "encoder_layer_norm_first": first, "extractor_conv_bias": True}
    model = wav2vec2_model(**(SMALL_TORCHAUDIO | shape)).eval()
    for parameter in model.parameters():  # layer norms too
        parameter.data += 0.05 * torch.randn_like(parameter)
    clips = clips_of(2_240, 400, 16_000, 40_001, 719)
    states = []
    with torch.inference_mode():
        for clip in clips:
            heard, _ = model.feature_extractor(clip[None], None)
            start = model.encoder.transformer._preprocess(model.encoder.feature_projection(heard))
            inside = model.extract_features(clip[None])[0]
            states.append([start, *inside[:-1], model.encoder(heard)])
    extractor = FastEncoder(BundleEncoder(model, False, 16_000, {}))
    found = run(extractor, clips, pad=500, rubbish=9.0)
    for i, layer in itertools.product(range(len(clips)), extractor.layers):
        torch.testing.assert_close(found[layer][i], states[i][layer][0], atol=EXACT, rtol=0)


def test_hubert_base_shape_equals_transformers_in_both_precisions() -> None:
    assert_both_precisions(transformers.HubertConfig())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_does_not_depend_on_batch(
    dtype: torch.dtype, way: str, checkpoint: Checkpoint
) -> None:
    extractor = extractors.load(str(checkpoint("hubert-wide")), backend="fast")  # others are too narrow for 8 bits
    clips = clips_of(8_000, 5_000, 400)
    exact = run(extractor, clips)
    with torch.autocast("cpu", dtype):
        together, alone = run(extractor, clips, pad=999), [run(extractor, [clip]) for clip in clips]
    for layer, i in itertools.product(extractor.layers, range(len(clips))):
        vectors = [one.mean(dim=0) for one in (together[layer][i], alone[i][layer][0], exact[layer][i])]
        assert torch.cosine_similarity(vectors[0], vectors[1], dim=0) > 0.9999
        assert torch.cosine_similarity(vectors[0], vectors[2], dim=0) > 0.999


@pytest.mark.parametrize("name", [*NAMES, "wavlm", "data2vec", "conformer-rotary", "wav2vec2-bert", "whisper"])
def test_fast_backend_is_used_if_available(name: str, checkpoint: Checkpoint) -> None:
    folder = str(checkpoint(name))
    reference = extractors.load(folder, backend="reference")
    assert not isinstance(reference, FastEncoder)
    auto = extractors.load(folder)
    assert isinstance(auto, FastEncoder) == (name in NAMES)
    assert (auto.weights, auto.layers, auto.dim) == (reference.weights, reference.layers, reference.dim)
    if name not in NAMES:
        with pytest.raises(UsageError, match=r"fast backend does not support this model.*HuBERT.*auto or reference"):
            extractors.load(folder, backend="fast")


@pytest.mark.parametrize("options", [{"hidden_act": "relu"}, {"adapter_attn_dim": 4, "do_stable_layer_norm": True}])
def test_model_with_unknown_structure_uses_the_library(options: dict[str, Any], tmp_path: Path) -> None:
    config: Any = transformers.Wav2Vec2Config
    transformers.Wav2Vec2Model(config(**SMALL, **options)).save_pretrained(tmp_path / "model")
    assert not isinstance(extractors.load(str(tmp_path / "model")), FastEncoder)


def test_other_families_have_no_fast_backend() -> None:
    assert not isinstance(extractors.load("logmel", backend="auto"), FastEncoder)
    with pytest.raises(UsageError, match="fast backend does not support"):
        extractors.load("logmel", backend="fast")
    with pytest.raises(UsageError, match="auto, fast, reference"):
        extractors.load("logmel", backend="slow")


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_run_records_backend_and_another_backend_continues_it(
    backend: str, checkpoint: Checkpoint, write_wav: Callable[..., Path], tmp_path: Path
) -> None:
    model, wav = str(checkpoint("hubert")), write_wav()
    with embedx.extract(wav, model=model, backend=backend, out=tmp_path / "c") as collection:
        assert collection.store.last_run()["backend"] == backend
    other = write_wav("bb.wav")
    with embedx.extract([wav, other], model=model, out=tmp_path / "c") as collection:
        assert len(collection) == 2


def receive(extractor: Extractor, clip: Tensor) -> tuple[bool, Tensor]:
    """Return the result of another process."""
    assert isinstance(extractor, FastEncoder)
    return extractor.reference.model.encoder.layer_norm.weight.is_shared(), run(extractor, [clip])[3][0]


@pytest.mark.long
def test_weights_are_shared_with_another_process(checkpoint: Checkpoint) -> None:
    extractor = extractors.load(str(checkpoint("hubert")))
    assert isinstance(extractor, FastEncoder)
    (clip,) = clips_of(8_000)
    expected = run(extractor, [clip])[3][0]  # there is something laid out already, which is not sent
    with torch.multiprocessing.get_context("spawn").Pool(1) as pool:
        shared, found = pool.apply(receive, (extractor.share_memory(), clip))
    assert shared
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)


def test_folded_weights_equal_convolution_and_group_norm() -> None:
    """Use a loud clip with an offset, where the variance is a small difference of large numbers."""
    norm = nn.GroupNorm(6, 6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    wave, weight = (torch.randn(1, 1, 4_000) + 30).double(), torch.randn(6, 1, 10)
    with torch.no_grad():
        expected = norm.double()(F.conv1d(wave, weight.double(), stride=5))[0].T
        views = wave[0, 0].unfold(0, 10, 5)
        folded, bias = fold(weight[:, 0], norm.float(), views.float())
    torch.testing.assert_close(views @ folded.double().T + bias, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("counts", [[1], [64], [65], [1, 1, 1], [200, 3, 0, 64, 1], [63, 1, 64]])
def test_tiles_hold_every_frame_once_in_order(counts: list[int]) -> None:
    tiles = list(cut(counts, 64))
    pieces: Iterator[tuple[int, int, int]] = itertools.chain.from_iterable(tiles)
    frames = [(clip, frame) for clip, begin, size in pieces for frame in range(begin, begin + size)]
    assert frames == [(clip, frame) for clip, count in enumerate(counts) for frame in range(count)]
    assert len(tiles) == math.ceil(sum(counts) / 64)
