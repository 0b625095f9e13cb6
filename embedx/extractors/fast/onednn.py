"""oneDNN: linears and convolutions over channels-last frames with bias and GELU in one pass, for the CPU.

torch has the calls, and keeps them to itself (`torch.ops.mkldnn`). So they are tried out once for every type, and where
they are missing the public ones are taken: the same, slower. Otherwise every layer is held to these (`checked`).
"""

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from embedx.extractors.fast.checked import Checked, Kernels, Layer

KERNEL = 32  # places of the positional convolution's kernel, each with 48 channels, that are added up in one go
WIDTH = 64  # channels of a group, and multiples of it, that oneDNN computes rightly on every processor that was seen
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
    """Return x [N, K] -> x @ weight.T + bias [N, M], with GELU behind it if asked; weight is [M, K].

    oneDNN adds the K products up one after the other. In float32 that is three times as wrong at K = 1536 as what torch
    does otherwise, so long sums can be made in `pieces` of equal size. On a CPU the way is noted in `kernels`; see
    `Checked`, also for the `name`.

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
    mkl = weight.dtype == torch.float32 and is_intel()  # what torch takes there: as fast, and nearer
    ways = {} if mkl or not is_fused(weight.dtype) else {"oneDNN": fused}
    return Checked("product", ways, public, weight, bias, kernels or Kernels(), name=name)


def convolution(weight: Tensor, bias: Tensor | None, groups: int, length: int, kernels: Kernels | None = None) -> Layer:
    """Return x [B, length + kernel - 1, C] -> [B, length, M]: GELU of a convolution over time without padding.

    `weight` is [M, C / groups, kernel] as in torch's Conv1d. The length is fixed, because oneDNN lays weights out for
    one, and lays them out anew in every call with another, which takes a hundred times as long as the convolution.
    """

    def public(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.gelu(F.conv1d(x.transpose(1, 2), weight, bias, groups=groups)).transpose(1, 2)

    if not weight.is_cpu:
        return lambda x: public(x, weight, bias)
    ways = {
        "oneDNN": lambda: fused_convolution(weight, bias, groups, length),
        "oneDNN in wider groups": lambda: widened_convolution(weight, bias, groups, length),
    }
    kind = f"convolution in {groups} groups of"
    return Checked(
        kind, ways if is_fused(weight.dtype) else {}, public, weight, bias, kernels or Kernels(), groups=groups
    )


def fused_linear(weight: Tensor, bias: Tensor | None, gelu: bool) -> Layer:
    """Return the same through oneDNN."""
    run, activation = torch.ops.mkldnn._linear_pointwise, "gelu" if gelu else "none"
    if weight.dtype != torch.float32:  # float32 gains nothing, and would have all weights in memory twice
        weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return lambda x: run(x, weight, bias, activation, [], "none")


def fused_sum(weight: Tensor, bias: Tensor | None, gelu: bool, pieces: int) -> Layer:
    """Return the same as a sum over pieces of K, each added to those before in one pass."""
    run, size = torch.ops.mkldnn._linear_pointwise, weight.shape[1] // pieces
    first, *others = (
        torch.ops.mkldnn._reorder_linear_weight(one.contiguous()) for one in torch.split(weight, size, dim=1)
    )

    def add_up(x: Tensor) -> Tensor:
        part, *parts = torch.split(x, size, dim=1)
        y = run(part, first, bias, "none", [], "none")
        for part, one in zip(parts, others, strict=True):
            y = run.binary(part, y, one, None, "add")
        return F.gelu(y) if gelu else y

    return add_up


def fused_convolution(weight: Tensor, bias: Tensor | None, groups: int, length: int) -> Layer:
    """Return the same through oneDNN, which knows two dimensions: the second of them is 1 here.

    Float32 is a sum over stretches of the kernel, as in `fused_sum`; narrower types would be rounded in between.
    """
    size = KERNEL if weight.dtype == torch.float32 else weight.shape[2]
    place = [0, 0], [1, 1], [1, 1], groups  # padding, stride, dilation
    run, reorder = torch.ops.mkldnn._convolution_pointwise, torch.ops.mkldnn._reorder_convolution_weight
    stretches = []  # of the kernel: from where, up to where it sees, and its weights
    for start, part in zip(range(0, weight.shape[2], size), torch.split(weight, size, dim=2), strict=True):
        seen = length + part.shape[2] - 1
        shape = [1, part.shape[1] * groups, seen, 1]
        stretches.append((start, start + seen, reorder(part[..., None].contiguous(), *place, shape)))
    attribute = "gelu" if len(stretches) == 1 else "none"

    def convolve(x: Tensor) -> Tensor:
        x = x[:, :, None].permute(0, 3, 1, 2)  # [B, C, length + kernel - 1, 1], the channels last in memory
        start, end, first = stretches[0]
        y = run(x[:, :, start:end], first, bias, *place, attribute, [], "none")
        for start, end, part in stretches[1:]:
            y += run(x[:, :, start:end], part, None, *place, attribute, [], "none")
        return (F.gelu(y) if len(stretches) > 1 else y)[..., 0].transpose(1, 2)  # [B, length, M]

    return convolve


def widened_convolution(weight: Tensor, bias: Tensor | None, groups: int, length: int) -> Layer:
    """Return the same with zeros for channels, so that those of a group are a multiple of `WIDTH`.

    In bfloat16 on AMD's Zen 4 oneDNN reads memory that is not its own where a group has 40 or 48 channels.
    """
    missing = -weight.shape[1] % WIDTH
    wide = fused_convolution(F.pad(weight, (0, 0, 0, missing)), bias, groups, length)
    return lambda x: wide(F.pad(x.view(*x.shape[:2], groups, -1), (0, missing)).flatten(2))


@cache
def is_intel() -> bool:
    """Tell whether the processor is one of those on which MKL takes its quick paths; elsewhere it stops at AVX2."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # no Linux
        return "GenuineIntel" in platform.processor()


@cache
def is_fused(dtype: torch.dtype) -> bool:
    """Tell whether oneDNN has what is needed here for a type, and gives what torch gives in float32."""
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=random) / 4 for shape in ((1, 5, 32), (16, 8, 4), (16,)))
    matrix = weight.flatten(1)  # [16, 32]
    with torch.inference_mode():
        try:
            line = fused_linear(matrix.to(dtype), bias.to(dtype), True)(x[0].to(dtype))
            long = fused_sum(matrix.to(dtype), bias.to(dtype), True, 4)(x[0].to(dtype))
            wave = fused_convolution(weight.to(dtype), bias.to(dtype), 4, 2)(x.to(dtype))
        except (AttributeError, RuntimeError, TypeError, ValueError):  # another torch, another processor
            return False
        expected = F.gelu(F.linear(x[0], matrix, bias))
        convolved = F.gelu(F.conv1d(x.transpose(1, 2), weight, bias, groups=4)).transpose(1, 2)
        pairs = (line, expected), (long, expected), (wave, convolved)
        return all(bool((found.float() - true).abs().max() < TOLERANCE[dtype]) for found, true in pairs)
