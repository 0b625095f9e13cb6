"""Convolutions over samples as products with strided views: waves [B, S] -> features [N, C].

Base models normalise each channel of the first convolution over the time of a clip; `fold` includes this in weights
for that clip. Large models normalise every frame after each convolution. Both are then local in time, and are computed
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

TILE = 64  # frames that go through all convolutions together; the first one's output takes 8 MB in float32
Piece = tuple[int, int, int]  # number of the clip, first frame, number of frames


class Convolutions:
    """The feature extractor: convolutions without padding, each with GELU; `layers` are the reference's modules."""

    def __init__(self, layers: Any, dtype: torch.dtype, kernels: Kernels) -> None:
        self.layers, self.dtype, self.kernels = layers, dtype, kernels
        self.strides = tuple((layer.conv.kernel_size[0], layer.conv.stride[0]) for layer in layers)
        self.hop = math.prod(stride for _, stride in self.strides)  # samples from frame to frame
        self.spare = math.ceil(receptive_field(self.strides) / self.hop) - 1  # hops that a frame sees after its own
        self.rest = [self._layer(layer.conv.weight, layer.conv.bias, norm_of(layer)) for layer in layers[1:]]

    def __call__(self, waves: Tensor, lengths: Tensor, packing: Packing) -> Tensor:
        """Map waves [B, S], zero after their lengths [B], to features [N, C].

        A piece of F frames gets the samples of F + spare hops. Then every convolution has a fixed number of rows per
        hop, and pieces can be placed one after the other. Rows that see two pieces are removed at the end.
        """
        firsts = [self._first(wave[None, :length]) for wave, length in zip(waves, lengths.tolist(), strict=True)]
        kernel, stride = self.strides[0]
        waves = F.pad(waves, (0, self.spare * self.hop + kernel)).to(self.dtype)
        features = []
        for tile in cut(packing.counts, TILE):
            parts = []
            for clip, start, frames in tile:
                rows = (frames + self.spare) * self.hop // stride
                parts.append(firsts[clip](slide(waves[clip, start * self.hop :, None], kernel, stride, rows)))
            x = parts[0] if len(parts) == 1 else torch.cat(parts)  # [rows, C]
            for layer, (kernel_, stride_) in zip(self.rest, self.strides[1:], strict=True):
                x = layer(slide(x, kernel_, stride_, (len(x) - kernel_) // stride_ + 1))  # [rows / stride, C]
            row = 0
            for _, _, frames in tile:
                features.append(x[row : row + frames])  # [frames, C]
                row += frames + self.spare
        return torch.cat(features)

    def _first(self, wave: Tensor) -> Layer:
        """Return the first convolution for one clip [1, S]."""
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
        """Return the layer [rows, kernel * C] -> [rows, M] for the weights [M, C, kernel] of a convolution."""
        matrix = weight.transpose(1, 2).flatten(1).to(self.dtype)  # [M, kernel * C]
        bias = None if bias is None else bias.to(self.dtype)
        pieces = weight.shape[2] if weight.shape[1] > 1 else 1  # one for each position of the kernel
        if norm is None:
            return linear(matrix, bias, gelu=True, pieces=pieces, kernels=self.kernels, name=name)
        product = linear(matrix, bias, pieces=pieces, kernels=self.kernels)
        assert isinstance(norm, nn.LayerNorm)
        scale, shift, epsilon = norm.weight.to(self.dtype), norm.bias.to(self.dtype), norm.eps
        return lambda x: F.gelu(F.layer_norm(product(x), scale.shape, scale, shift, epsilon))  # sums in float32


def norm_of(layer: Any) -> nn.Module | None:
    """Return the normalisation after a convolution, None if there is none."""
    norm: nn.Module | None = getattr(layer, "layer_norm", None)
    return norm


def fold(weight: Tensor, norm: nn.GroupNorm, views: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights [C, kernel] and bias [C] of a convolution that includes the GroupNorm of each channel after it.

    Over the time of a clip, channel w of the convolution has the mean w m and the variance w V w', where m and V are
    the mean and the covariance of the `views` [T, kernel] that the convolution sees. A bias of the convolution has no
    effect.

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
    """Return the weights and bias of `fold` from mean [B, kernel] and covariance [B, kernel, kernel] of clips."""
    weight = weight.double()
    variance = ((weight @ covariance) * weight).sum(dim=-1)  # [B, C]
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    return (scale[..., None] * weight).float(), (norm.bias - scale * (mean @ weight.T)).float()


def slide(x: Tensor, kernel: int, stride: int, rows: int) -> Tensor:
    """Return the inputs of a convolution over contiguous x [T, C] as a view [rows, kernel * C].

    >>> slide(torch.arange(5.0)[:, None], 3, 2, 2)
    tensor([[0., 1., 2.],
            [2., 3., 4.]])
    """
    width = x.shape[1]
    return x.as_strided((rows, kernel * width), (stride * width, 1))


def cut(counts: Sequence[int], size: int) -> Iterator[list[Piece]]:
    """Yield tiles of `size` frames (the last may be smaller) as pieces of clips with `counts` frames each.

    >>> list(cut([2, 7], 4))
    [[(0, 0, 2), (1, 0, 2)], [(1, 2, 4)], [(1, 6, 1)]]
    """
    tile: list[Piece] = []
    room = size
    for clip, count in enumerate(counts):
        start = 0
        while start < count:
            frames = min(room, count - start)
            tile.append((clip, start, frames))
            start, room = start + frames, room - frames
            if not room:
                yield tile
                tile, room = [], size
    if tile:
        yield tile
