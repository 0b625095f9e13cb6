"""Functions of all speech transformers: frame counts, and normalisation over the valid part of each clip."""

import threading

import torch
from torch import Tensor, nn

BATCH = threading.local()  # masks and lengths of the current batch; several forward passes run at once in threads


class MaskedGroupNorm(nn.Module):
    """GroupNorm over the valid frames of each clip: [B, C, T] -> [B, C, T], zero after `BATCH.lengths` [B].

    The library's group norm runs on the slice of each clip, so its frames equal those of the clip on its own.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each clip."""
        out = torch.zeros_like(x)
        for clip, result, length in zip(x, out, BATCH.lengths.tolist(), strict=True):
            result[:, :length] = self.norm(clip[None, :, :length])[0]
        return out


def mask_group_norms(feature_extractor: nn.Module) -> None:
    """Replace every GroupNorm among the convolutions (at most one) by a `MaskedGroupNorm`."""
    for layer in list(feature_extractor.modules()):
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            layer.layer_norm = MaskedGroupNorm(norm)


def normalise(waves: Tensor, lengths: Tensor, valid: Tensor, epsilon: float) -> Tensor:
    """Normalise each wave to zero mean and unit variance over its valid samples; the other samples become zero.

    Args:
        waves: [B, S].
        lengths: number of valid samples [B].
        valid: mask of the valid samples [B, S].
        epsilon: added to the variance: 1e-7 in transformers' Wav2Vec2FeatureExtractor, 1e-5 in torch's layer_norm.
    """
    count = lengths[:, None]
    mean = waves.masked_fill(~valid, 0.0).sum(dim=1, keepdim=True, dtype=torch.float64) / count
    centred = (waves - mean).masked_fill(~valid, 0.0)
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return (centred / torch.sqrt(variance + epsilon)).float()


def count_frames(lengths: Tensor, strides: tuple[tuple[int, int], ...]) -> Tensor:
    """Return the number of frames of convolutions without padding on `lengths` samples.

    >>> count_frames(torch.tensor([400, 16000]), ((10, 5),) + 4 * ((3, 2),) + 2 * ((2, 2),))
    tensor([ 1, 49])
    """
    for kernel, stride in strides:
        lengths = (lengths - kernel) // stride + 1
    return lengths


def receptive_field(strides: tuple[tuple[int, int], ...]) -> int:
    """Return the number of samples that one frame depends on.

    >>> receptive_field(((10, 5),) + 4 * ((3, 2),) + 2 * ((2, 2),))
    400
    """
    samples = 1
    for kernel, stride in reversed(strides):
        samples = (samples - 1) * stride + kernel
    return samples
