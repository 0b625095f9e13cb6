"""Convolutions over samples as products with strided views: waves [B, S] -> features [N, C] of the fast forward.

Base models normalise each channel of the first convolution over the time of a clip, which `fold` turns into weights of
that clip; large ones normalise every frame of each convolution. Either way what follows is local in time, and is done
in tiles that stay in the cache.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedx.extractors.fast.checked import Kernels, Layer
from embedx.extractors.fast.onednn import linear
from embedx.extractors.fast.packing import Packing
from embedx.extractors.masking import MaskedGroupNorm, receptive_field

TILE = 64  # frames that go through all convolutions together; 8 MB of the first one's output in float32
Piece = tuple[int, int, int]  # clip, its first frame, frames


class Convolutions:
    """The feature extractor: convolutions without padding, each with GELU; `layers` are the reference's modules."""

    def __init__(self, layers: Any, dtype: torch.dtype, kernels: Kernels) -> None:
        self.layers, self.dtype, self.kernels = layers, dtype, kernels
        self.strides = tuple((one.conv.kernel_size[0], one.conv.stride[0]) for one in layers)
        self.hop = math.prod(stride for _, stride in self.strides)  # samples from frame to frame
        self.spare = math.ceil(receptive_field(self.strides) / self.hop) - 1  # hops that a frame looks on
        self.rest = [self._layer(one.conv.weight, one.conv.bias, norm_of(one)) for one in layers[1:]]

    def __call__(self, waves: Tensor, lengths: Tensor, packing: Packing) -> Tensor:
        """Map waves [B, S], zero behind their lengths [B], to features [N, C].

        A piece of F frames is given the samples of F + spare, so that at every convolution it takes as many rows as its
        hops, and pieces can lie one behind the other. The rows that see two pieces are left out at the end.
        """
        firsts = [self._first(wave[None, :length]) for wave, length in zip(waves, lengths.tolist(), strict=True)]
        kernel, stride = self.strides[0]
        waves = F.pad(waves, (0, self.spare * self.hop + kernel)).to(self.dtype)
        features = []
        for tile in cut(packing.counts, TILE):
            parts = []
            for clip, begin, frames in tile:
                rows = (frames + self.spare) * self.hop // stride
                parts.append(firsts[clip](slide(waves[clip, begin * self.hop :, None], kernel, stride, rows)))
            x = parts[0] if len(parts) == 1 else torch.cat(parts)  # [rows, C]
            for layer, (kernel_, stride_) in zip(self.rest, self.strides[1:], strict=True):
                x = layer(slide(x, kernel_, stride_, (len(x) - kernel_) // stride_ + 1))  # [rows / stride, C]
            start = 0
            for _, _, frames in tile:
                features.append(x[start : start + frames])  # [frames, C]
                start += frames + self.spare
        return torch.cat(features)

    def _first(self, wave: Tensor) -> Layer:
        """Return the first convolution for a clip [1, S]."""
        norm = norm_of(self.layers[0])
        if not isinstance(norm, MaskedGroupNorm):
            return self._shared
        weight, bias = fold(self.layers[0].conv.weight[:, 0], norm.norm, wave[0].unfold(0, *self.strides[0]))
        return self._layer(weight[:, None], bias, None, "folded")

    @cached_property
    def _shared(self) -> Layer:
        first = self.layers[0]
        return self._layer(first.conv.weight, first.conv.bias, norm_of(first))

    def _layer(self, weight: Tensor, bias: Tensor | None, norm: nn.Module | None, name: str = "") -> Layer:
        """Return views [rows, kernel * C] -> [rows, M] for weights [M, C, kernel] of a convolution."""
        matrix = weight.transpose(1, 2).flatten(1).to(self.dtype)  # [M, kernel * C]
        bias = None if bias is None else bias.to(self.dtype)
        places = weight.shape[2] if weight.shape[1] > 1 else 1  # of the kernel
        if norm is None:
            return linear(matrix, bias, gelu=True, pieces=places, kernels=self.kernels, name=name)
        product = linear(matrix, bias, pieces=places, kernels=self.kernels)
        assert isinstance(norm, nn.LayerNorm)
        scale, shift, epsilon = norm.weight.to(self.dtype), norm.bias.to(self.dtype), norm.eps
        return lambda x: F.gelu(F.layer_norm(product(x), scale.shape, scale, shift, epsilon))  # sums are in float32


def norm_of(layer: Any) -> nn.Module | None:
    """Return the normalisation behind a convolution, None where there is none."""
    norm: nn.Module | None = getattr(layer, "layer_norm", None)
    return norm


def fold(weight: Tensor, norm: nn.GroupNorm, views: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights [C, kernel] and bias [C] that do a convolution and the GroupNorm of each channel behind it.

    Over the time of a clip, of which the convolution sees the `views` [T, kernel] with mean m and covariance V, channel
    w has the mean w m and the variance w V w'. A bias of the convolution would change nothing.

    >>> norm, weight, views = nn.GroupNorm(2, 2, eps=0.0), torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.eye(2)
    >>> weight, bias = fold(weight, norm, views)
    >>> (weight[0] @ views.T + bias[0]).tolist()
    [1.0, -1.0]
    """
    views = views.double()
    mean = views.mean(dim=0)  # [kernel]
    centred = views - mean
    return rescale(weight, norm, mean, centred.T @ centred / len(views))


def rescale(weight: Tensor, norm: nn.GroupNorm, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights and bias of `fold` from mean [B, kernel] and covariance [B, kernel, kernel] of any clips B."""
    weight = weight.double()
    variance = ((weight @ covariance) * weight).sum(dim=-1)  # [B, C]
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return (scale[..., None] * weight).float(), (norm.bias - scale * (mean @ weight.T)).float()


def slide(x: Tensor, kernel: int, stride: int, rows: int) -> Tensor:
    """Return what a convolution sees of contiguous x [T, C], a view [rows, kernel * C].

    >>> slide(torch.arange(5.0)[:, None], 3, 2, 2)
    tensor([[0., 1., 2.],
            [2., 3., 4.]])
    """
    width = x.shape[1]
    return x.as_strided((rows, kernel * width), (stride * width, 1))


def cut(counts: Sequence[int], size: int) -> Iterator[list[Piece]]:
    """Yield tiles of `size` frames (the last has what is left) as pieces of clips that have `counts` frames.

    >>> list(cut([2, 7], 4))
    [[(0, 0, 2), (1, 0, 2)], [(1, 2, 4)], [(1, 6, 1)]]
    """
    tile: list[Piece] = []
    room = size
    for clip, count in enumerate(counts):
        begin = 0
        while begin < count:
            frames = min(room, count - begin)
            tile.append((clip, begin, frames))
            begin, room = begin + frames, room - frames
            if not room:
                yield tile
                tile, room = [], size
    if tile:
        yield tile
