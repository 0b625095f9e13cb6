"""Triton kernels for GPUs. `norms` imports and tests them before they are used."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn


@triton.jit  # type: ignore[untyped-decorator]
def join_row(  # type: ignore[no-untyped-def]
    x, branch, scale, shift, wide, narrow, dim, epsilon,
    joined: tl.constexpr, keep_sum: tl.constexpr, size: tl.constexpr,
):  # fmt: skip
    """Compute one row of `embedx.extractors.fast.norms.join`; `size` is the next power of two of `dim`."""
    column = tl.arange(0, size)
    inside = column < dim
    place = tl.program_id(0).to(tl.int64) * dim + column
    total = tl.load(x + place, mask=inside, other=0.0)
    if joined:
        total += tl.load(branch + place, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, total - tl.sum(total, axis=0) / dim, 0.0)
    deviation = tl.sqrt(tl.sum(centred * centred, axis=0) / dim + epsilon)
    normed = centred / deviation * tl.load(scale + column, mask=inside) + tl.load(shift + column, mask=inside)
    if keep_sum:
        if joined:
            tl.store(wide + place, total, mask=inside)
    else:
        tl.store(wide + place, normed, mask=inside)
    tl.store(narrow + place, normed.to(narrow.dtype.element_ty), mask=inside)


def join(
    x: Tensor, branch: Tensor | None, norm: nn.LayerNorm, dtype: torch.dtype, keep_sum: bool
) -> tuple[Tensor, Tensor]:
    """Compute `embedx.extractors.fast.norms.join` in one pass; x [N, D] is float32, all tensors are contiguous."""
    rows, dim = x.shape
    wide = x if branch is None and keep_sum else torch.empty_like(x)
    narrow = torch.empty(rows, dim, dtype=dtype, device=x.device)
    arguments: Any = (x, x if branch is None else branch, norm.weight, norm.bias, wide, narrow, dim, norm.eps)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        join_row[(rows,)](*arguments, joined=branch is not None, keep_sum=keep_sum, size=triton.next_power_of_2(dim))
    return wide, narrow
