"""Encoders with gradients: a batch of unequal lengths gives the gradients of its clips one by one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from embedx.errors import ModelError, UsageError
from embedx.finetune.encoders import CheckpointEncoder, load_encoder
from tests.helpers.finetuning import without_chance

NAMES = ("wav2vec2", "wav2vec2-large", "hubert", "wavlm", "data2vec", "wav2vec2-bert", "whisper")
OTHERS = ("ast", "hubert-batch-norm", "wavlm-large", "conformer-relative", "unispeech-sat")
SECONDS = (1.0, 0.3, 0.71)


def clips_of(encoder: CheckpointEncoder) -> list[Tensor]:
    random = torch.Generator().manual_seed(3)
    return [torch.rand(round(s * encoder.sample_rate), generator=random) - 0.4 for s in SECONDS]


def loss_of(encoder: CheckpointEncoder, clips: list[Tensor], rubbish: float = 0.0) -> Tensor:
    """Return the sum over clips of the mean of a function of all valid frames of the first and the last layer."""
    lengths = torch.tensor([len(clip) for clip in clips])
    waves = torch.full((len(clips), int(lengths.max()) + 77), rubbish)
    for wave, clip in zip(waves, clips, strict=True):
        wave[: len(clip)] = clip
    layers = (encoder.layers[1], encoder.layers[-1])
    return torch.stack(
        [
            torch.sin(3 * frames[i, : counts[i]]).mean()
            for _, frames, counts in encoder.frames(waves, lengths, layers)
            for i in range(len(clips))
        ]
    ).sum()


def gradients(encoder: CheckpointEncoder, batches: list[list[Tensor]]) -> dict[str, Tensor]:
    encoder.zero_grad()
    for batch in batches:
        loss_of(encoder, batch, rubbish=9.0).backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)])
def test_gradients_of_a_batch_equal_those_clip_by_clip(checkpoint: Callable[[str], Path], name: str) -> None:
    encoder = without_chance(load_encoder(str(checkpoint(name)), context_s=1.0))  # of Whisper: 30 s are slow
    clips = clips_of(encoder)
    together = gradients(encoder, [clips])
    apart = gradients(encoder, [[clip] for clip in clips])
    assert together.keys() == apart.keys()
    assert len(together) > 0.9 * sum(p.requires_grad for p in encoder.parameters())
    for key, gradient in apart.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert (together[key] - gradient).abs().max() < 1e-5 * scale, key


@pytest.mark.parametrize("name", ["wav2vec2", pytest.param("conformer-relative", marks=pytest.mark.long)])
def test_gradient_checkpointing_gives_the_same_gradients(checkpoint: Callable[[str], Path], name: str) -> None:
    encoder = without_chance(load_encoder(str(checkpoint(name))))
    clips = clips_of(encoder)
    plain = gradients(encoder, [clips])
    encoder.model.activation_checkpointing_enable()  # type: ignore[operator]
    for key, gradient in gradients(encoder, [clips]).items():
        torch.testing.assert_close(gradient, plain[key], atol=1e-6, rtol=1e-5, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_has_one_depth(checkpoint: Callable[[str], Path], name: str) -> None:
    encoder = load_encoder(str(checkpoint(name)))
    depths = encoder.depths()
    assert len(depths) == len(encoder.layers)
    flat = [id(parameter) for depth in depths for parameter in depth]
    assert sorted(flat) == sorted(map(id, encoder.parameters()))


def test_short_context_of_whisper_keeps_the_frames_of_the_clip_close(checkpoint: Callable[[str], Path]) -> None:
    encoder = load_encoder(str(checkpoint("whisper")), context_s=1.5)
    assert encoder.max_samples == 32_000
    ((_, frames, counts),) = encoder.frames(torch.rand(1, 16_000), torch.tensor([16_000]), encoder.layers[-1:])
    assert frames.shape[1] == 100
    assert int(counts[0]) == 50


def test_model_that_cannot_be_fine_tuned_is_refused_with_what_can(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match="logmel cannot be fine-tuned"):
        load_encoder("logmel")
    with pytest.raises(ModelError, match="'clap'"):
        load_encoder(str(checkpoint("clap")))
