"""oneDNN: linear layers and convolutions over channels-last frames, with bias and GELU in one pass, for the CPU.

The calls are private to torch (`torch.ops.mkldnn`). So they are tested once for every type; if they do not work, the
public operations of torch are used, which are correct but slower. Every layer is also checked on its own (`checked`).
"""

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from embedx.extractors.fast.checked import Checked, Kernels, Layer

KERNEL = 32  # positions of the convolution's kernel, each with 48 channels, in one float32 sum; see `fused_convolution`
WIDTH = 64  # channels per group: oneDNN was correct for multiples of it on every processor that was tested
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}  # 100, 8 and 8 steps of a number near 1


def linear(
    weight: Tensor,
    bias: Tensor | None,
    *,
    gelu: bool = False,
    pieces: int = 1,
    kernels: Kernels | None = None,
    name: str = "",
) -> Layer:
    """Return the layer x [N, K] -> x @ weight.T + bias [N, M].

    oneDNN adds the K products one after the other. In float32 the error of this sum is three times that of torch's own
    product at K = 1536, so long sums can be divided into pieces.

    Args:
        weight: [M, K].
        bias: [M] or None.
        gelu: apply GELU to the result; default False.
        pieces: number of equal pieces of the sum in float32; default 1.
        kernels: on a CPU, where the choice of the implementation is recorded.
        name: see `Checked`.

    >>> layer = linear(torch.tensor([[1.0, 2.0]]), torch.tensor([0.5]))
    >>> layer(torch.tensor([[3.0, 4.0]]))
    tensor([[11.5000]])
    """

    def public(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = F.linear(x, weight, bias)
        return F.gelu(y) if gelu else y

    def fused() -> Layer:
        if pieces == 1 or weight.dtype != torch.float32:
            return fused_linear(weight, bias, gelu)
        return fused_sum(weight, bias, gelu, pieces)

    if not weight.is_cpu:
        return lambda x: public(x, weight, bias)
    uses_mkl = weight.dtype == torch.float32 and is_intel()  # torch uses MKL there, which is as fast and more accurate
    implementations = {} if uses_mkl or not is_fused(weight.dtype) else {"oneDNN": fused}
    return Checked("product", implementations, public, weight, bias, kernels or Kernels(), name=name)


def convolution(weight: Tensor, bias: Tensor | None, groups: int, length: int, kernels: Kernels | None = None) -> Layer:
    """Return the layer x [B, length + kernel - 1, C] -> [B, length, M]: a convolution without padding, and GELU.

    The length is fixed, because oneDNN packs the weights for one length. With another length it would pack them again
    in every call, which takes a hundred times as long as the convolution.

    Args:
        weight: [M, C / groups, kernel] as in torch's Conv1d.
        bias: [M] or None.
        groups: number of groups.
        length: frames of the result.
        kernels: on a CPU, where the choice of the implementation is recorded.
    """

    def public(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.gelu(F.conv1d(x.transpose(1, 2), weight, bias, groups=groups)).transpose(1, 2)

    if not weight.is_cpu:
        return lambda x: public(x, weight, bias)
    implementations = {
        "oneDNN": lambda: fused_convolution(weight, bias, groups, length),
        "oneDNN in wider groups": lambda: widened_convolution(weight, bias, groups, length),
    }
    kind = f"convolution in {groups} groups of"
    usable = implementations if is_fused(weight.dtype) else {}
    return Checked(kind, usable, public, weight, bias, kernels or Kernels(), groups=groups)


def fused_linear(weight: Tensor, bias: Tensor | None, gelu: bool) -> Layer:
    """Return the layer of `linear` computed by oneDNN."""
    run, activation = torch.ops.mkldnn._linear_pointwise, "gelu" if gelu else "none"
    if weight.dtype != torch.float32:  # in float32 packing is not faster, and keeps all weights in memory twice
        weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return lambda x: run(x, weight, bias, activation, [], "none")


def fused_sum(weight: Tensor, bias: Tensor | None, gelu: bool, pieces: int) -> Layer:
    """Return the layer of `linear` as a sum over pieces of K; each piece is added to the sum of those before it."""
    run, size = torch.ops.mkldnn._linear_pointwise, weight.shape[1] // pieces
    first, *others = (
        torch.ops.mkldnn._reorder_linear_weight(piece.contiguous()) for piece in torch.split(weight, size, dim=1)
    )

    def add_pieces(x: Tensor) -> Tensor:
        part, *parts = torch.split(x, size, dim=1)
        y = run(part, first, bias, "none", [], "none")
        for part, piece in zip(parts, others, strict=True):
            y = run.binary(part, y, piece, None, "add")
        return F.gelu(y) if gelu else y

    return add_pieces


def fused_convolution(weight: Tensor, bias: Tensor | None, groups: int, length: int) -> Layer:
    """Return the layer of `convolution` computed by oneDNN as a two-dimensional one, with 1 as the second dimension.

    In float32 it is a sum over sections of the kernel, as in `fused_sum`. Narrower types are computed in one section,
    because partial sums would be rounded.
    """
    size = KERNEL if weight.dtype == torch.float32 else weight.shape[2]
    settings = [0, 0], [1, 1], [1, 1], groups  # padding, stride, dilation
    run, reorder = torch.ops.mkldnn._convolution_pointwise, torch.ops.mkldnn._reorder_convolution_weight
    sections = []  # of the kernel: the first input frame, the end of the input frames, and the weights
    for start, part in zip(range(0, weight.shape[2], size), torch.split(weight, size, dim=2), strict=True):
        frames = length + part.shape[2] - 1
        shape = [1, part.shape[1] * groups, frames, 1]
        sections.append((start, start + frames, reorder(part[..., None].contiguous(), *settings, shape)))
    activation = "gelu" if len(sections) == 1 else "none"

    def convolve(x: Tensor) -> Tensor:
        x = x[:, :, None].permute(0, 3, 1, 2)  # [B, C, length + kernel - 1, 1], channels last in memory
        start, end, first = sections[0]
        y = run(x[:, :, start:end], first, bias, *settings, activation, [], "none")
        for start, end, part in sections[1:]:
            y += run(x[:, :, start:end], part, None, *settings, activation, [], "none")
        return (F.gelu(y) if len(sections) > 1 else y)[..., 0].transpose(1, 2)  # [B, length, M]

    return convolve


def widened_convolution(weight: Tensor, bias: Tensor | None, groups: int, length: int) -> Layer:
    """Return the layer of `fused_convolution` with zero channels added, so that each group has a multiple of `WIDTH`.

    In bfloat16 on AMD Zen 4, oneDNN reads foreign memory if a group has 40 or 48 channels.
    """
    missing = -weight.shape[1] % WIDTH
    wide = fused_convolution(F.pad(weight, (0, 0, 0, missing)), bias, groups, length)
    return lambda x: wide(F.pad(x.view(*x.shape[:2], groups, -1), (0, missing)).flatten(2))


@cache
def is_intel() -> bool:
    """Tell whether the processor is from Intel; MKL uses AVX-512 only there, and AVX2 at most on other processors."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return "GenuineIntel" in platform.processor()


@cache
def is_fused(dtype: torch.dtype) -> bool:
    """Tell whether oneDNN's calls exist for a type and give nearly the same results as torch in float32."""
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=random) / 4 for shape in ((1, 5, 32), (16, 8, 4), (16,)))
    matrix = weight.flatten(1)  # [16, 32]
    with torch.inference_mode():
        try:
            single = fused_linear(matrix.to(dtype), bias.to(dtype), True)(x[0].to(dtype))
            summed = fused_sum(matrix.to(dtype), bias.to(dtype), True, 4)(x[0].to(dtype))
            convolved = fused_convolution(weight.to(dtype), bias.to(dtype), 4, 2)(x.to(dtype))
        except (AttributeError, RuntimeError, TypeError, ValueError):  # another version of torch, another processor
            return False
        true_product = F.gelu(F.linear(x[0], matrix, bias))
        true_convolution = F.gelu(F.conv1d(x.transpose(1, 2), weight, bias, groups=4)).transpose(1, 2)
        pairs = (single, true_product), (summed, true_product), (convolved, true_convolution)
        return all(bool((y.float() - true).abs().max() < TOLERANCE[dtype]) for y, true in pairs)
