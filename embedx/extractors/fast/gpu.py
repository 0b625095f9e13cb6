"""batched: the convolutions of the fast forward as a GPU likes them: few products over all clips at once.

They are those of `convolutions` and of `fast.Position`, and give the same numbers. Nothing is unrolled into memory
that a product could read where it lies, and cuDNN, which is slow in groups and tries out every new shape, is not asked.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedx.extractors.fast.convolutions import norm_of, rescale
from embedx.extractors.fast.packing import Batched
from embedx.extractors.masking import MaskedGroupNorm, count_frames, receptive_field

TILE = 16_384  # frames that go through all convolutions together: 1 GB of the first one's output in bfloat16
WIDTH = 8  # what the first convolution sees is filled up to a multiple: tensor cores want rows of 16 bytes
SUM = 512  # rows that a product adds up for the statistics of a clip; as many products as there are such stretches
STRETCH = 16  # frames that the positional convolution makes at a time: 12 % more products than one at a time, ...
WINDOWS = 4096  # ... so many stretches at once: 1.2 GB of what they see, with 1024 channels in bfloat16


class Convolutions:
    """The feature extractor: convolutions without padding, each with GELU; `layers` are the reference's modules."""

    def __init__(self, layers: Any, dtype: torch.dtype) -> None:
        self.layers, self.dtype = layers, dtype
        self.strides = tuple((int(one.conv.kernel_size[0]), int(one.conv.stride[0])) for one in layers)
        self.hop = math.prod(stride for _, stride in self.strides)  # samples from frame to frame
        self.spare = math.ceil(receptive_field(self.strides) / self.hop) - 1  # hops that a frame looks on
        self.rest = [
            Convolution(one.conv, norm_of(one), stride, dtype)
            for one, (_, stride) in zip(layers[1:], self.strides[1:], strict=True)
        ]
        norm = norm_of(layers[0])
        self.group_norm = norm.norm if isinstance(norm, MaskedGroupNorm) else None
        self.norm = activate(None if self.group_norm is not None else norm, dtype)

    def __call__(self, waves: Tensor, lengths: Tensor, packing: Batched) -> Tensor:
        """Map waves [B, S], zero behind their lengths [B], to features [N, C].

        A clip of F frames is given F + spare hops, so that every convolution takes as many rows of each as it has hops,
        and clips can lie one behind the other. The rows that see two clips are left out at the end.
        """
        with torch.autocast(waves.device.type, enabled=False):  # it would normalise in float32 throughout
            return self._convolve(waves, lengths, packing)

    def _convolve(self, waves: Tensor, lengths: Tensor, packing: Batched) -> Tensor:
        weights = self._first(waves, lengths)  # [B, taps, C], or [taps, C] for all
        waves, features = waves.to(self.dtype), []
        for clips in alike(packing.counts, TILE):
            own = weights if weights.dim() == 2 else weights[clips]
            longest = max(packing.counts[clips])
            stretches = [
                self._stretch(waves[clips, begin * self.hop :], own, min(TILE, longest - begin))
                for begin in range(0, longest, TILE)  # only a clip by itself is longer than a tile
            ]
            features.append(packing.pack(torch.cat(stretches, dim=1), clips.start))  # [n, C]
        return torch.cat(features)

    def _stretch(self, waves: Tensor, weights: Tensor, frames: int) -> Tensor:
        """Map waves [b, S] to their first frames [b, F, C]."""
        kernel, stride = self.strides[0]
        hops = frames + self.spare
        size, rows = hops * self.hop + kernel, hops * self.hop // stride
        waves = F.pad(waves[:, :size], (0, max(0, size - waves.shape[1])))
        seen = F.pad(waves.unfold(1, kernel, stride)[:, :rows], (0, 1), value=1.0)  # [b, rows, kernel + 1]
        seen = F.pad(seen, (0, weights.shape[-2] - kernel - 1))  # [b, rows, taps]
        x = self.norm(seen @ weights).flatten(0, 1)  # [b * rows, C]
        for convolve in self.rest:
            x = convolve(x)  # [b * rows / stride, C]
        return x.view(len(waves), hops, -1)[:, :frames]

    def _first(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return the weights [B, taps, C] of the first convolution for each clip, or [taps, C] for all.

        The bias is that of a row of ones. What is missing to a multiple of `WIDTH` is zero.
        """
        conv = self.layers[0].conv
        weight = conv.weight[:, 0]  # [C, kernel]
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias  # [C]
        if self.group_norm is not None:
            weight, bias = rescale(weight, self.group_norm, *statistics(waves, lengths, self.strides[0]))
        both = torch.cat([weight, bias[..., None]], dim=-1).to(self.dtype)  # [B, C, kernel + 1]
        return F.pad(both, (0, -both.shape[-1] % WIDTH)).transpose(-1, -2)


class Convolution:
    """A convolution over rows [rows, C] -> [rows / stride, M] with GELU; the last rows lack what lies behind them.

    A kernel as wide as its stride is a product with the rows side by side, two of them or more; what is left of a wider
    one is a second product with those that come next, added to the first.
    """

    def __init__(self, conv: Any, norm: nn.Module | None, stride: int, dtype: torch.dtype) -> None:
        weight = conv.weight.transpose(1, 2).to(dtype)  # [M, kernel, C]
        self.stride = stride
        self.parts = [part.flatten(1) for part in torch.split(weight, stride, dim=1)]  # [M, stride * C or less]
        self.bias = None if conv.bias is None else conv.bias.to(dtype)
        self.norm = activate(norm, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve; the number of rows is a multiple of the stride."""
        x = x.view(len(x) // self.stride, -1)  # [rows / stride, stride * C]
        first, *others = self.parts
        y = F.linear(x, first, self.bias)  # [rows / stride, M]
        for later, part in enumerate(others, start=1):
            y[:-later].addmm_(x[later:, : part.shape[1]], part.t())
        return self.norm(y)


class Position:
    """[N, D] -> [N, D]: a grouped convolution over 128 frames around each, zeros behind both ends of a clip.

    A stretch of frames is one product of all that they see with weights that are shifted for each.
    """

    def __init__(self, position: Any, dtype: torch.dtype) -> None:
        conv = position.conv
        self.groups, self.kernel, self.dtype = conv.groups, conv.kernel_size[0], dtype
        self.norm = getattr(position, "batch_norm", None) or nn.Identity()
        self.bias = conv.bias.to(dtype)
        weight = conv.weight.to(dtype).view(self.groups, -1, *conv.weight.shape[1:]).permute(0, 3, 2, 1)
        _, _, given, made = weight.shape  # [G, kernel, in, out]
        shifted = weight.new_zeros(self.groups, STRETCH + self.kernel - 1, given, STRETCH, made)
        for i in range(STRETCH):
            shifted[:, i : i + self.kernel, :, i] = weight
        self.shifted = shifted.flatten(3).flatten(1, 2)  # [G, seen * in, STRETCH * out]

    def __call__(self, x: Tensor, packing: Batched) -> Tensor:
        """Return what is added for the place."""
        before = self.kernel // 2
        seen, place = packing.windows(STRETCH, before, self.kernel - 1 - before)  # [W, seen], [N]
        x = F.pad(self.norm(x).to(self.dtype), (0, 0, 0, 1))  # [N + 1, D], the last is zero
        x = x.view(len(x), self.groups, -1).transpose(0, 1).contiguous()  # [G, N + 1, D / G]
        out = []
        for part in torch.split(seen, WINDOWS):
            heard = x.index_select(1, part.flatten()).view(self.groups, len(part), -1)  # [G, w, seen * D / G]
            made = torch.bmm(heard, self.shifted).view(self.groups, len(part), STRETCH, -1)  # [G, w, STRETCH, D / G]
            out.append(made.permute(1, 2, 0, 3).flatten(2).flatten(0, 1))  # [w * STRETCH, D]
        return F.gelu(torch.cat(out)[place] + self.bias)


def activate(norm: nn.Module | None, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return GELU behind a layer norm, if there is one; both compute in float32 inside."""
    if norm is None:
        return F.gelu
    assert isinstance(norm, nn.LayerNorm)
    scale, shift, epsilon = norm.weight.to(dtype), norm.bias.to(dtype), norm.eps
    return lambda x: F.gelu(F.layer_norm(x, scale.shape, scale, shift, epsilon))


def statistics(waves: Tensor, lengths: Tensor, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return mean [B, kernel] and covariance [B, kernel, kernel], in float64, of what a convolution sees of each clip.

    `waves` are [B, S], `lengths` [B], `place` is kernel and stride.

    >>> statistics(torch.tensor([[1.0, 3.0, 5.0, 99.0]]), torch.tensor([3]), (1, 1))
    (tensor([[3.]], dtype=torch.float64), tensor([[[2.6667]]], dtype=torch.float64))
    """
    kernel, stride = place
    counts = count_frames(lengths, (place,))[:, None, None]  # [B, 1, 1]
    rows = -(-waves.shape[1] // (stride * SUM)) * SUM
    waves = F.pad(waves.double(), (0, rows * stride + kernel - waves.shape[1]))
    seen = waves.unfold(1, kernel, stride)[:, :rows]  # [B, rows, kernel]
    valid = (torch.arange(rows, device=waves.device) < counts[..., 0])[..., None]  # [B, rows, 1]
    mean = (seen * valid).sum(dim=1, keepdim=True) / counts  # [B, 1, kernel]
    centred = ((seen - mean) * valid).view(len(seen), -1, SUM, kernel)  # [B, rows / SUM, SUM, kernel]
    return mean[:, 0], (centred.transpose(2, 3) @ centred).sum(dim=1) / counts


def alike(counts: Sequence[int], size: int) -> Iterator[slice]:
    """Yield neighbouring clips that have, filled up to the longest, at most `size` frames, and a third of them filling.

    >>> list(alike([5, 4, 4, 1, 1, 30], 12))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 5, None), slice(5, 6, None)]
    """
    begin = 0
    for end in range(1, len(counts) + 1):
        group = counts[begin : end + 1]
        if end == len(counts) or max(group) * len(group) > size or 3 * min(group) < 2 * max(group):
            yield slice(begin, end)
            begin = end
