"""Convolutions of models on the waveform in training on a CPU: products over the packed frames of a batch.

The clips lie one behind the other, without padding, in rows of channels [N, C]. So neither copies of the frames nor a
mask are needed, and the gradients are products too, which oneDNN computes faster than those of convolutions.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from embedx.extractors.fast.convolutions import fold, norm_of, slide
from embedx.extractors.masking import MaskedGroupNorm, count_frames, receptive_field


class Convolve(torch.autograd.Function):
    """A convolution over packed frames x [N, C] with weights [M, C, kernel] -> [N // stride, M].

    The rows of `stride` frames are multiplied with as many positions of the kernel; further positions belong to the
    rows that follow. Rows at the end lack what would follow, and frames that do not fill a row are not used.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """Return the convolved frames."""
        matrix = weight.permute(2, 1, 0).flatten(0, 1)  # [kernel * C, M]
        ctx.save_for_backward(x, matrix)
        ctx.stride, ctx.shape = stride, weight.shape
        y = x.new_zeros(len(x) // stride, len(weight))
        for rows, part, frames in parts(x, matrix, weight.shape, stride):
            y[: len(y) - rows].addmm_(frames, part)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients of the frames and of the weights."""
        x, matrix = ctx.saved_tensors
        channels, kernel = ctx.shape[1:]
        of_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        of_matrix = torch.empty_like(matrix) if ctx.needs_input_grad[1] else None
        if of_x is not None:
            for rows, part, frames in parts(of_x, matrix, ctx.shape, ctx.stride):
                frames.addmm_(gradient[: len(gradient) - rows], part.T)
        if of_matrix is not None:
            for rows, part, frames in parts(x, of_matrix, ctx.shape, ctx.stride):
                torch.mm(frames.T, gradient[: len(gradient) - rows], out=part)
            of_matrix = of_matrix.view(kernel, channels, -1).permute(2, 1, 0)
        return of_x, of_matrix, None


def parts(x: Tensor, matrix: Tensor, shape: Sequence[int], stride: int) -> list[tuple[int, Tensor, Tensor]]:
    """Return the products of a convolution.

    Args:
        x: frames [N, C].
        matrix: [kernel * C, M].
        shape: of the weights, (M, C, kernel).
        stride: the stride.

    Returns:
        For each: how many rows it is behind, its part of the matrix [K, M], and its frames [N // stride - rows, K];
        the last two are views.
    """
    _, channels, kernel = shape
    wide = x[: len(x) // stride * stride].view(-1, stride * channels)
    found = []
    for rows, start in enumerate(range(0, kernel, stride)):
        part = matrix[start * channels : (start + stride) * channels]
        if rows < len(wide):
            found.append((rows, part, wide[rows:, : len(part)]))
    return found


class PackedConvolutions:
    """The convolutions of a feature extractor, waves [B, S] -> features [B, C, T]; those after a clip's end are 0.

    A clip of T frames takes T + `spare` hops, so that every convolution has a fixed number of rows for each hop. Rows
    that see the next clip are removed at the end.

    Args:
        layers: the library's layers, each with `conv` and `activation`, and some with `layer_norm`.
        batch: holds the `lengths` [B] of the current batch after the first convolution.
    """

    def __init__(self, layers: Any, batch: Any) -> None:
        self.layers, self.batch = layers, batch
        self.strides = tuple((layer.conv.kernel_size[0], layer.conv.stride[0]) for layer in layers)
        self.hop = math.prod(stride for _, stride in self.strides)
        self.spare = math.ceil(receptive_field(self.strides) / self.hop) - 1

    def __call__(self, waves: Tensor) -> Tensor:
        """Return the features of waves that are 0 after their ends."""
        kernel, stride = self.strides[0]
        valid = self.batch.lengths
        counts = count_frames(valid, self.strides[1:]).tolist()
        waves = F.pad(waves, (0, self.spare * self.hop + kernel))
        first = []
        for wave, length, count in zip(waves, valid.tolist(), counts, strict=True):
            views = slide(wave[:, None], kernel, stride, (count + self.spare) * self.hop // stride).contiguous()
            first.append(self._first(views, length))
        x = finish(self.layers[0], first[0] if len(first) == 1 else torch.cat(first))
        for layer, (_, stride) in zip(self.layers[1:], self.strides[1:], strict=True):
            x = Convolve.apply(x, layer.conv.weight, stride)  # type: ignore[no-untyped-call]
            x = finish(layer, x if layer.conv.bias is None else x + layer.conv.bias)
        clips = torch.split(x, [count + self.spare for count in counts])
        features = [clip[:count] for clip, count in zip(clips, counts, strict=True)]
        return pad_sequence(features, batch_first=True).transpose(1, 2)

    def _first(self, views: Tensor, length: int) -> Tensor:
        """Return the first convolution of a clip [rows, C], with its norm if that is over time: it is then folded in.

        Args:
            views: the samples [rows, kernel] of each frame.
            length: the number of frames of the clip; further ones are spare.
        """
        conv, norm = self.layers[0].conv, norm_of(self.layers[0])
        weight, bias = conv.weight[:, 0], conv.bias
        if isinstance(norm, MaskedGroupNorm):
            weight, bias = fold(weight, norm.norm, views[:length])
        return F.linear(views, weight, bias)


def finish(layer: Any, x: Tensor) -> Tensor:
    """Return convolved frames [N, C] after the norm of each frame, if the layer has one, and the activation."""
    norm = norm_of(layer)
    activated: Tensor = layer.activation(norm(x) if isinstance(norm, nn.LayerNorm) else x)
    return activated


def pack_convolutions(model: Any, batch: Any) -> None:
    """Let a model's convolutions over the waves run on packed frames where frames are float32 on a CPU.

    With gradient checkpointing they stay as they are: the library checkpoints its own layers.

    Args:
        model: a model whose `feature_extractor` is changed; its parameters and their names stay.
        batch: see `PackedConvolutions`.
    """
    extractor = model.feature_extractor
    packed, library = PackedConvolutions(extractor.conv_layers, batch), extractor.forward

    def forward(waves: Tensor) -> Tensor:
        is_plain = waves.is_cpu and waves.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        features: Tensor = (packed if is_plain and not model.is_activation_checkpointing else library)(waves)
        return features

    extractor.forward = forward
