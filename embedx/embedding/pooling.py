"""Pooling: the valid frames of a window -> one vector, on the device, before it is copied to the CPU.

Shape:
    frames [B, T, D] and frame lengths [B] -> vectors [B, D], float32.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def mask(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return [B, T, 1]: True where a frame is valid."""
    return (torch.arange(frames.shape[1], device=frames.device) < lengths[:, None])[..., None]


def sum_pool(frames: Tensor, lengths: Tensor) -> Tensor:
    """Sum over valid frames.

    >>> sum_pool(torch.tensor([[[1.0], [2.0], [99.0]]]), torch.tensor([2]))
    tensor([[3.]])
    """
    return frames.float().masked_fill(~mask(frames, lengths), 0.0).sum(dim=1)


def mean_pool(frames: Tensor, lengths: Tensor) -> Tensor:
    """Mean over valid frames.

    >>> mean_pool(torch.tensor([[[1.0], [2.0], [99.0]]]), torch.tensor([2]))
    tensor([[1.5000]])
    """
    return sum_pool(frames, lengths) / lengths[:, None]


def max_pool(frames: Tensor, lengths: Tensor) -> Tensor:
    """Maximum of each dimension over valid frames.

    >>> max_pool(torch.tensor([[[1.0], [2.0], [99.0]]]), torch.tensor([2]))
    tensor([[2.]])
    """
    return frames.float().masked_fill(~mask(frames, lengths), -torch.inf).amax(dim=1)


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": mean_pool, "sum": sum_pool, "max": max_pool}
