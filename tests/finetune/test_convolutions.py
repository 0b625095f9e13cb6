"""Convolutions on packed frames: features and gradients are those of the library's convolutions, clip by clip."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from embedx.finetune.convolutions import Convolve
from embedx.finetune.encoders import load_encoder

LENGTHS = (4000, 400, 1733, 721)  # 400: the shortest clip that gives a frame


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (10, 5), (1, 2), (5, 1), (7, 3)])
@pytest.mark.parametrize("frames", [30, 31])
def test_convolution_of_frames_equals_that_of_torch(kernel: int, stride: int, frames: int) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(frames, 6, dtype=torch.float64, generator=random).requires_grad_()
    weight = torch.randn(4, 6, kernel, dtype=torch.float64, generator=random).requires_grad_()
    whole = x[: frames // stride * stride]  # frames that are left over are not used
    expected = F.conv1d(whole.T[None], weight, stride=stride)[0].T
    rows = len(expected)
    results = []
    for y in (expected, Convolve.apply(x, weight, stride)):  # type: ignore[no-untyped-call]
        loss = torch.sin(y[:rows]).sum()
        results.append((y[:rows], *torch.autograd.grad(loss, (x, weight))))
    for ours, true in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, true)


@pytest.mark.parametrize("name", ["wav2vec2", "wav2vec2-large", "data2vec", "wavlm"])
def test_features_and_gradients_equal_those_of_the_library_clip_by_clip(
    checkpoint: Callable[[str], Path], name: str
) -> None:
    encoder = load_encoder(str(checkpoint(name)))
    extractor: Any = encoder.model.feature_extractor
    calls: list[int] = []
    extractor.conv_layers[1].register_forward_hook(lambda *_: calls.append(1))
    random = torch.Generator().manual_seed(0)
    clips = [torch.randn(length, generator=random) + 0.3 for length in LENGTHS]

    def gradients(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(extractor.conv_layers.parameters())))

    losses = []
    for clip in clips:
        set_lengths(encoder, [len(clip)])
        losses.append(torch.sin(3 * type(extractor).forward(extractor, clip[None])).sum())
    assert len(calls) == len(clips)
    expected = gradients(torch.stack(losses).sum())

    set_lengths(encoder, LENGTHS)
    features = extractor(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True))
    ours = gradients(torch.sin(3 * features).sum())
    assert len(calls) == len(clips)  # the library's layers are not called again
    assert features.shape[2] == 12
    for gradient, true in zip(ours, expected, strict=True):
        assert (gradient - true).abs().max() < 1e-5 * true.abs().max().clamp(min=1)


def set_lengths(encoder: Any, lengths: Any) -> None:
    """Set what the forward pass of an encoder sets before its convolutions run."""
    kernel, stride = encoder.extractor.strides[0]
    encoder.extractor.batch.lengths = (torch.tensor(lengths) - kernel) // stride + 1
