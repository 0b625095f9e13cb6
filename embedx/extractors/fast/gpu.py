"""Convolutions of the fast backend for a GPU: few large products over all clips at once.

They give the same numbers as those of `convolutions` and `encoder.Position`. Inputs are not copied into an unrolled
form if a product can read them in place. cuDNN is not used, because it is slow for groups and benchmarks every new
shape.
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

TILE = 16_384  # frames that go through all convolutions together: the first one's output takes 1 GB in bfloat16
WIDTH = 8  # inputs of the first convolution are padded to a multiple: tensor cores need rows of 16 bytes
SUM = 512  # rows that one product adds up for the statistics of a clip
STRETCH = 16  # frames per window of the positional convolution: 12 % more operations than with one frame per window
WINDOWS = 4096  # windows per product: their inputs take 1.2 GB, with 1024 channels in bfloat16


class Convolutions:
    """The feature extractor: convolutions without padding, each with GELU; `layers` are the reference's modules."""

    def __init__(self, layers: Any, dtype: torch.dtype) -> None:
        self.layers, self.dtype = layers, dtype
        self.strides = tuple((int(layer.conv.kernel_size[0]), int(layer.conv.stride[0])) for layer in layers)
        self.hop = math.prod(stride for _, stride in self.strides)  # samples from frame to frame
        self.spare = math.ceil(receptive_field(self.strides) / self.hop) - 1  # hops that a frame sees after its own
        self.rest = [
            Convolution(layer.conv, norm_of(layer), stride, dtype)
            for layer, (_, stride) in zip(layers[1:], self.strides[1:], strict=True)
        ]
        norm = norm_of(layers[0])
        self.group_norm = norm.norm if isinstance(norm, MaskedGroupNorm) else None
        self.norm = activate(None if self.group_norm is not None else norm, dtype)

    def __call__(self, waves: Tensor, lengths: Tensor, packing: Batched) -> Tensor:
        """Map waves [B, S], zero after their lengths [B], to features [N, C].

        A clip of F frames gets F + spare hops. Then every convolution has a fixed number of rows per hop, and clips can
        be placed one after the other. Rows that see two clips are removed at the end.
        """
        with torch.autocast(waves.device.type, enabled=False):  # autocast would compute all norms in float32
            return self._convolve(waves, lengths, packing)

    def _convolve(self, waves: Tensor, lengths: Tensor, packing: Batched) -> Tensor:
        weights = self._first(waves, lengths)  # [B, taps, C], or [taps, C] for all
        waves, features = waves.to(self.dtype), []
        for clips in group_similar(packing.counts, TILE):
            group_weights = weights if weights.dim() == 2 else weights[clips]
            longest = max(packing.counts[clips])
            sections = [
                self._convolve_section(waves[clips, start * self.hop :], group_weights, min(TILE, longest - start))
                for start in range(0, longest, TILE)  # more than one only for a single long clip
            ]
            features.append(packing.pack(torch.cat(sections, dim=1), clips.start))  # [n, C]
        return torch.cat(features)

    def _convolve_section(self, waves: Tensor, weights: Tensor, frames: int) -> Tensor:
        """Map waves [b, S] to their first `frames` frames [b, F, C]."""
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
        """Return the weights [B, taps, C] of the first convolution for each clip, or [taps, C] for all clips.

        They include the bias as the weight of a constant input of 1, and zeros up to a multiple of `WIDTH`.
        """
        conv = self.layers[0].conv
        weight = conv.weight[:, 0]  # [C, kernel]
        bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias  # [C]
        if self.group_norm is not None:
            weight, bias = rescale(weight, self.group_norm, *statistics(waves, lengths, self.strides[0]))
        both = torch.cat([weight, bias[..., None]], dim=-1).to(self.dtype)  # [B, C, kernel + 1]
        return F.pad(both, (0, -both.shape[-1] % WIDTH)).transpose(-1, -2)


class Convolution:
    """A convolution over rows [rows, C] -> [rows / stride, M] with GELU; the last rows miss the input after the end.

    The first `stride` positions of the kernel are one product with the input reshaped to `stride` rows side by side.
    The remaining positions are further products with the rows that follow, added to the first.
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
    """Positional embedding [N, D] -> [N, D]: a grouped convolution over 128 frames, with zeros around each clip.

    The frames of a window are one product: all frames that they see, with the weights shifted for each output frame.
    """

    def __init__(self, position: Any, dtype: torch.dtype) -> None:
        conv = position.conv
        self.groups, self.kernel, self.dtype = conv.groups, conv.kernel_size[0], dtype
        self.norm = getattr(position, "batch_norm", None) or nn.Identity()
        self.bias = conv.bias.to(dtype)
        weight = conv.weight.to(dtype).view(self.groups, -1, *conv.weight.shape[1:]).permute(0, 3, 2, 1)
        _, _, inputs, outputs = weight.shape  # [G, kernel, in, out]
        shifted = weight.new_zeros(self.groups, STRETCH + self.kernel - 1, inputs, STRETCH, outputs)
        for i in range(STRETCH):
            shifted[:, i : i + self.kernel, :, i] = weight
        self.shifted = shifted.flatten(3).flatten(1, 2)  # [G, seen * in, STRETCH * out]

    def __call__(self, x: Tensor, packing: Batched) -> Tensor:
        """Return the positional embedding."""
        before = self.kernel // 2
        seen, index = packing.windows(STRETCH, before, self.kernel - 1 - before)  # [W, seen], [N]
        x = F.pad(self.norm(x).to(self.dtype), (0, 0, 0, 1))  # [N + 1, D], the last row is zero
        x = x.view(len(x), self.groups, -1).transpose(0, 1).contiguous()  # [G, N + 1, D / G]
        out = []
        for part in torch.split(seen, WINDOWS):
            inputs = x.index_select(1, part.flatten()).view(self.groups, len(part), -1)  # [G, w, seen * D / G]
            frames = torch.bmm(inputs, self.shifted).view(self.groups, len(part), STRETCH, -1)  # [G, w, STRETCH, D / G]
            out.append(frames.permute(1, 2, 0, 3).flatten(2).flatten(0, 1))  # [w * STRETCH, D]
        return F.gelu(torch.cat(out)[index] + self.bias)


def activate(norm: nn.Module | None, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return GELU after a layer norm, if there is one; both compute in float32 internally."""
    if norm is None:
        return F.gelu
    assert isinstance(norm, nn.LayerNorm)
    scale, shift, epsilon = norm.weight.to(dtype), norm.bias.to(dtype), norm.eps
    return lambda x: F.gelu(F.layer_norm(x, scale.shape, scale, shift, epsilon))


def statistics(waves: Tensor, lengths: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the mean [B, kernel] and covariance [B, kernel, kernel] of the inputs of a convolution, in float64.

    Args:
        waves: [B, S].
        lengths: [B].
        shape: kernel and stride of the convolution.

    >>> statistics(torch.tensor([[1.0, 3.0, 5.0, 99.0]]), torch.tensor([3]), (1, 1))
    (tensor([[3.]], dtype=torch.float64), tensor([[[2.6667]]], dtype=torch.float64))
    """
    kernel, stride = shape
    counts = count_frames(lengths, (shape,))[:, None, None]  # [B, 1, 1]
    rows = -(-waves.shape[1] // (stride * SUM)) * SUM
    waves = F.pad(waves.double(), (0, rows * stride + kernel - waves.shape[1]))
    seen = waves.unfold(1, kernel, stride)[:, :rows]  # [B, rows, kernel]
    valid = (torch.arange(rows, device=waves.device) < counts[..., 0])[..., None]  # [B, rows, 1]
    mean = (seen * valid).sum(dim=1, keepdim=True) / counts  # [B, 1, kernel]
    centred = ((seen - mean) * valid).view(len(seen), -1, SUM, kernel)  # [B, rows / SUM, SUM, kernel]
    return mean[:, 0], (centred.transpose(2, 3) @ centred).sum(dim=1) / counts


def group_similar(counts: Sequence[int], size: int) -> Iterator[slice]:
    """Yield groups of consecutive clips with at most `size` frames after padding, of which at most a third is padding.

    >>> list(group_similar([5, 4, 4, 1, 1, 30], 12))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 5, None), slice(5, 6, None)]
    """
    start = 0
    for end in range(1, len(counts) + 1):
        group = counts[start : end + 1]
        if end == len(counts) or max(group) * len(group) > size or 3 * min(group) < 2 * max(group):
            yield slice(start, end)
            start = end
