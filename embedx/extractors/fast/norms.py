"""Residual sum and layer norm of a block, in one pass on a GPU with Triton.

The sum and the norm are computed in float32; the input of the next product is converted to its type. With calls of
torch this takes three passes over memory, and on a GPU these are limited by memory bandwidth, not by arithmetic.
"""

import itertools
import logging
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger("embedx")
TOLERANCE = 1e-4  # for numbers of about 1 in float32; narrower types have a tolerance of two steps
Join = Callable[[Tensor, Tensor | None, nn.LayerNorm, torch.dtype, bool], tuple[Tensor, Tensor]]


def join(
    x: Tensor, branch: Tensor | None, norm: nn.LayerNorm, dtype: torch.dtype, keep_sum: bool
) -> tuple[Tensor, Tensor]:
    """Add a branch to the residual and normalise the sum.

    Args:
        x: the residual [N, D] in float32.
        branch: the branch [N, D], or None for no sum.
        norm: the layer norm.
        dtype: the type of the second result.
        keep_sum: return the sum as the first result, otherwise its norm.

    Returns:
        The sum or its norm in float32, and the norm in the given type, both [N, D].

    >>> x = torch.tensor([[1.0, 3.0]])
    >>> join(x, 2 * x, nn.LayerNorm(2, eps=0.0), torch.bfloat16, True)[0].tolist()
    [[3.0, 9.0]]
    """
    total = x if branch is None else x + branch
    normed = F.layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return total if keep_sum else normed, normed.to(dtype)


def pick_join(device: torch.device, dim: int, dtype: torch.dtype) -> Join:
    """Return the fastest implementation of `join` on a device."""
    return join_by_triton() if device.type == "cuda" and is_fused(device, dim, dtype) else join


def join_by_triton() -> Join:
    """Return the implementation of `join` in one pass.

    Raises:
        ImportError: Triton is not installed.
    """
    from embedx.extractors.fast.triton_kernels import join

    return join


@cache
def is_fused(device: torch.device, dim: int, dtype: torch.dtype) -> bool:
    """Tell whether Triton works on a device and gives torch's results; this also compiles all kernels."""
    random = torch.Generator().manual_seed(0)
    x, branch = torch.randn(2, 9, dim, generator=random).to(device)
    scale, shift = torch.randn(2, dim, generator=random).to(device)
    norm = nn.LayerNorm(dim).to(device)
    norm.weight.data, norm.bias.data = scale, shift
    tolerance = TOLERANCE if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    try:
        fused = join_by_triton()
        for added, keep_sum in itertools.product((branch.to(dtype), None), (True, False)):
            pairs = zip(fused(x, added, norm, dtype, keep_sum), join(x, added, norm, dtype, keep_sum), strict=True)
            if not all(torch.allclose(a.float(), b.float(), rtol=tolerance, atol=tolerance) for a, b in pairs):
                log.warning("On %s, Triton's layer norm gives other numbers than torch's, which is used.", device)
                return False
    except Exception as error:  # without Triton or a compiler, or on an older GPU, torch is used
        log.warning("On %s, Triton does not work, and the slower layer norm of torch is used: %s", device, error)
        return False
    return True
