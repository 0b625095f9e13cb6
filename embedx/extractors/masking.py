"""What the speech transformers share: counting frames, and statistics over the valid part of each clip alone."""

import threading

import torch
from torch import Tensor, nn

BATCH = threading.local()  # what a forward pass knows of its batch: several run at once, on threads of their own


class MaskedGroupNorm(nn.Module):
    """GroupNorm over the valid frames of each clip alone: [B, C, T] -> [B, C, T], zero behind `BATCH.lengths` [B].

    Each clip gets the library's own group_norm on its own slice, so its frames equal those of the clip run alone.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalise clip by clip."""
        out = torch.zeros_like(x)
        for clip, result, length in zip(x, out, BATCH.lengths.tolist(), strict=True):
            result[:, :length] = self.norm(clip[None, :, :length])[0]
        return out


def mask_group_norms(feature_extractor: nn.Module) -> None:
    """Replace every GroupNorm among the convolutions (there is one, or none)."""
    for layer in list(feature_extractor.modules()):
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            layer.layer_norm = MaskedGroupNorm(norm)


def normalise(waves: Tensor, lengths: Tensor, valid: Tensor, epsilon: float) -> Tensor:
    """Give each wave [B, S] zero mean and unit variance over its own `valid` [B, S] samples; the rest becomes zero.

    `epsilon` is added to the variance: 1e-7 in transformers' Wav2Vec2FeatureExtractor, 1e-5 in torch's layer_norm.
    """
    count = lengths[:, None]
    mean = waves.masked_fill(~valid, 0.0).sum(dim=1, keepdim=True, dtype=torch.float64) / count
    centred = (waves - mean).masked_fill(~valid, 0.0)
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return (centred / torch.sqrt(variance + epsilon)).float()


def count_frames(lengths: Tensor, strides: tuple[tuple[int, int], ...]) -> Tensor:
    """Return how many frames unpadded convolutions make of `lengths` samples.

    >>> count_frames(torch.tensor([400, 16000]), ((10, 5),) + 4 * ((3, 2),) + 2 * ((2, 2),))
    tensor([ 1, 49])
    """
    for kernel, stride in strides:
        lengths = (lengths - kernel) // stride + 1
    return lengths


def receptive_field(strides: tuple[tuple[int, int], ...]) -> int:
    """Return how many samples one frame sees.

    >>> receptive_field(((10, 5),) + 4 * ((3, 2),) + 2 * ((2, 2),))
    400
    """
    samples = 1
    for kernel, stride in reversed(strides):
        samples = (samples - 1) * stride + kernel
    return samples
