"""Functions of all speech transformers: frame counts, and normalisation over the valid part of each clip."""

import threading
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ThreadBatch(threading.local):
    """Masks and lengths of the current batch, for each thread its own: several forward passes run at once in threads.

    Copies of a model share it, and a model in another process has the one of that process.
    """

    def __reduce__(self) -> str:
        return "BATCH"


BATCH = ThreadBatch()


class MaskedGroupNorm(nn.Module):
    """GroupNorm over the valid frames of each clip: [B, C, T] -> [B, C, T], zero after `batch.lengths` [B].

    The library's group norm runs on the slice of each clip, so its frames equal those of the clip on its own.
    """

    def __init__(self, norm: nn.GroupNorm, batch: Any = BATCH) -> None:
        super().__init__()
        self.norm = norm
        self.batch = batch

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each clip; no tensor is changed in place, so gradients can be computed."""
        frames, lengths = x.shape[2], self.batch.lengths.tolist()
        if min(lengths) == frames:
            normalised: Tensor = self.norm(x)
            return normalised
        clips = [
            F.pad(self.norm(clip[None, :, :length]), (0, frames - length))
            for clip, length in zip(x, lengths, strict=True)
        ]
        return torch.cat(clips)


def mask_group_norms(feature_extractor: nn.Module, batch: Any = BATCH) -> bool:
    """Replace a GroupNorm among the convolutions by a `MaskedGroupNorm`; tell whether there was one.

    Args:
        feature_extractor: the module with the convolutions.
        batch: what holds the lengths of the current batch.
    """
    has_group_norm = False
    for layer in list(feature_extractor.modules()):
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            layer.layer_norm = MaskedGroupNorm(norm, batch)
            has_group_norm = True
    return has_group_norm


@dataclass(frozen=True)
class WaveInput:
    """What a speech transformer does with a wave before its convolutions.

    A GroupNorm after the first convolution removes the mean of each channel over time, so a constant that is added to
    the wave has no effect in exact arithmetic. In half precision such an offset would leave few bits for the sound, so
    the mean is removed from the wave.

    Attributes:
        normalise: whether waves get zero mean and unit variance.
        has_group_norm: whether a GroupNorm follows the first convolution.
        epsilon: added to the variance: 1e-7 in transformers' Wav2Vec2FeatureExtractor, 1e-5 in torch's layer_norm.
    """

    normalise: bool
    has_group_norm: bool
    epsilon: float

    def prepare(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return waves [B, S] as the first convolution gets them, with zeros after their lengths [B].

        >>> WaveInput(False, True, 0.0).prepare(torch.tensor([[5.0, 7.0, 99.0]]), torch.tensor([2]))
        tensor([[-1.,  1.,  0.]])
        >>> WaveInput(True, True, 0.0).prepare(torch.tensor([[5.0, 9.0, 99.0]]), torch.tensor([2]))
        tensor([[-1.,  1.,  0.]])
        """
        valid = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]  # [B, S]
        waves = waves.masked_fill(~valid, 0.0)
        if not (self.normalise or self.has_group_norm):
            return waves
        count = lengths[:, None]
        mean = waves.sum(dim=1, keepdim=True, dtype=torch.float64) / count
        centred = (waves - mean).masked_fill(~valid, 0.0)
        if self.normalise:
            centred /= torch.sqrt(centred.square().sum(dim=1, keepdim=True) / count + self.epsilon)
        return centred.float()


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
