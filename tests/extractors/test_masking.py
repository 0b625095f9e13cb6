"""A constant that is added to the wave has no effect in models that remove it: base models, in every precision."""

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor

from embedx.extractors.base import Extractor
from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.fast.encoder import FastEncoder
from embedx.extractors.huggingface import Transformer
from embedx.extractors.masking import WaveInput
from embedx.extractors.torchaudio import BundleEncoder
from tests.helpers.checkpoints import SMALL, SMALL_TORCHAUDIO
from tests.helpers.conformance import run

RMS = 0.01
WIDE = {"hidden_size": 128, "conv_dim": (64,) * 7, "intermediate_size": 256}  # half precision needs some width
MOST = {torch.float32: 1e-6, torch.bfloat16: 1e-3, torch.float16: 1e-5}  # 1 - cosine; without an offset half of it


class AllAtOnce(FastEncoder):
    """Computes on a CPU what a GPU computes."""

    def batched(self, device: torch.device) -> bool:
        return True


def library(kind: str) -> Transformer:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**(SMALL | WIDE))
    model = getattr(transformers, f"{kind}Model")(config).eval().requires_grad_(False)
    return Transformer(Checkpoint("here", model, {"do_normalize": False, "sampling_rate": 16_000}, {}))


def bundle() -> BundleEncoder:
    from torchaudio.models import wav2vec2_model

    torch.manual_seed(0)
    convolutions = [(64, 10, 5), *4 * [(64, 3, 2)], *2 * [(64, 2, 2)]]
    wide = {"encoder_embed_dim": 128, "extractor_conv_layer_config": convolutions, "encoder_ff_interm_features": 256}
    return BundleEncoder(wav2vec2_model(**(SMALL_TORCHAUDIO | wide)).eval(), False, 16_000, {})


MODELS: dict[str, Callable[[], Extractor]] = {
    "transformers": lambda: library("WavLM"),
    "fast": lambda: FastEncoder(library("Hubert")),
    "fast on a GPU": lambda: AllAtOnce(library("Wav2Vec2")),
    "torchaudio": bundle,
}


def sounds(offset: float) -> list[Tensor]:
    """Return clips of unequal lengths with a constant of `offset` times their rms."""
    random = torch.Generator().manual_seed(1)
    clips = [torch.randn(length, generator=random).cumsum(0) for length in (16_000, 400, 7_777)]
    clips = [clip - torch.linspace(0, 1, len(clip)) * clip[-1] for clip in clips]
    return [RMS * ((clip - clip.mean()) / clip.std() + offset * (-1) ** i) for i, clip in enumerate(clips)]


@pytest.mark.filterwarnings("ignore:Support for mismatched")  # from the WavLM of transformers
@pytest.mark.parametrize("name", MODELS)
def test_constant_offset_does_not_change_vectors_in_any_precision(name: str) -> None:
    extractor = MODELS[name]()
    last = extractor.layers[-1]

    def vectors(offset: float, dtype: torch.dtype) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            frames = run(extractor, sounds(offset), pad=900, rubbish=5.0)[last]
        return torch.stack([clip.double().mean(dim=0) for clip in frames])  # [B, D]

    exact = vectors(0, torch.float32)
    for dtype, most in MOST.items():
        for offset in (0, 1, 100) if dtype != torch.float32 else (0, 100, 3_000):
            distances = 1 - torch.cosine_similarity(vectors(offset, dtype), exact, dim=1)
            assert float(distances.max()) < most, (dtype, offset, distances)


@pytest.mark.parametrize("normalise, has_group_norm", [(True, True), (True, False), (False, True)])
def test_mean_of_valid_samples_is_removed_exactly(normalise: bool, has_group_norm: bool) -> None:
    clips, lengths = torch.randn(3, 1_000) + torch.tensor([[3e4], [-0.3], [0.0]]), torch.tensor([1_000, 400, 7])
    found = WaveInput(normalise, has_group_norm, 1e-7).prepare(clips, lengths)
    for wave, clip, length in zip(found, clips.double(), lengths.tolist(), strict=True):
        true = clip[:length] - clip[:length].mean()
        true = true / torch.sqrt(true.square().mean() + 1e-7) if normalise else true
        torch.testing.assert_close(wave[:length].double(), true, atol=1e-6, rtol=1e-6)
        assert not wave[length:].any()


def test_wave_is_unchanged_if_the_model_hears_its_mean() -> None:
    wave = torch.randn(1, 50) + 3
    assert torch.equal(WaveInput(False, False, 1e-7).prepare(wave, torch.tensor([50])), wave)
