"""norms: adding a branch to what goes along the layers, and normalising the sum, in one pass where a GPU has Triton.

The sum and the norm are in float32; what the next product takes is of its type. As calls of torch these are three
passes over memory, and on a GPU memory, not arithmetic, is what they wait for.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOLERANCE = 1e-4  # of a number of about 1 in float32; one step in narrower types
Join = Callable[[Tensor, Tensor | None, nn.LayerNorm, torch.dtype, bool], tuple[Tensor, Tensor]]


def join(
    x: Tensor, branch: Tensor | None, norm: nn.LayerNorm, dtype: torch.dtype, keep_sum: bool
) -> tuple[Tensor, Tensor]:
    """Return the sum [N, D] of x and a branch, or its norm if the sum is not to be kept, and the norm as a `dtype`.

    >>> x = torch.tensor([[1.0, 3.0]])
    >>> join(x, 2 * x, nn.LayerNorm(2, eps=0.0), torch.bfloat16, True)[0].tolist()
    [[3.0, 9.0]]
    """
    total = x if branch is None else x + branch
    normed = F.layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return total if keep_sum else normed, normed.to(dtype)


def pick_join(device: torch.device, dim: int, dtype: torch.dtype) -> Join:
    """Return the quickest way to do it on a device."""
    return join_by_triton() if device.type == "cuda" and is_fused(device, dim, dtype) else join


def join_by_triton() -> Join:
    """Return the same in one pass.

    Raises:
        ImportError: there is no Triton here.
    """
    from embedx.extractors.fast.triton_kernels import join

    return join


@cache
def is_fused(device: torch.device, dim: int, dtype: torch.dtype) -> bool:
    """Tell whether Triton works on a device, and gives what torch gives; all that will be called is compiled here."""
    random = torch.Generator().manual_seed(0)
    x, branch = torch.randn(2, 9, dim, generator=random).to(device)
    scale, shift = torch.randn(2, dim, generator=random).to(device)
    norm = nn.LayerNorm(dim).to(device)
    norm.weight.data, norm.bias.data = scale, shift
    near = TOLERANCE if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    try:
        fused = join_by_triton()
        for one, keep_sum in ((branch.to(dtype), True), (branch.to(dtype), False), (None, True)):
            pairs = zip(fused(x, one, norm, dtype, keep_sum), join(x, one, norm, dtype, keep_sum), strict=True)
            if not all(torch.allclose(a.float(), b.float(), rtol=near, atol=near) for a, b in pairs):
                return False
    except Exception:  # no Triton, no compiler, an older GPU: whatever it is, torch does it
        return False
    return True
