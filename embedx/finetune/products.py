"""Products of matrices in float32 on a CPU: by oneDNN where MKL, torch's default, uses a part of the processor only."""

import contextlib
import platform
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch

from embedx.extractors.fast.onednn import is_intel

SHAPES = ((64, 64, 64), (20, 768, 512), (256, 512, 768))  # of the products that are checked: rows, sum, columns
MKLDNN: Any = torch.backends.mkldnn
TOLERANCE = 1e-6  # of the largest number of a product: about eight steps of float32; bfloat16 is wrong by 1e-3


@contextlib.contextmanager
def fast_products() -> Iterator[None]:
    """Compute products by oneDNN in this context, where it is exact; otherwise change nothing.

    torch takes oneDNN for float32 only if it may compute in bfloat16. On an x86 processor without AMX oneDNN does not
    make use of that, which is checked.
    """
    if not is_exact():
        yield
        return
    settings = MKLDNN.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


@cache
def is_exact() -> bool:
    """Tell whether oneDNN computes products in float32 on this processor, and MKL is not the faster one."""
    settings: Any = getattr(MKLDNN, "matmul", None)
    if platform.machine() not in ("x86_64", "AMD64") or is_intel() or not hasattr(settings, "fp32_precision"):
        return False
    random, before = torch.Generator().manual_seed(0), settings.fp32_precision
    pairs = [(torch.randn(n, k, generator=random), torch.randn(k, m, generator=random)) for n, k, m in SHAPES]
    settings.fp32_precision = "bf16"
    try:
        products = [a @ b for a, b in pairs]
    finally:
        settings.fp32_precision = before
    true = [a.double() @ b.double() for a, b in pairs]
    return all(
        float((y - t).abs().max()) < TOLERANCE * float(t.abs().max()) for y, t in zip(products, true, strict=True)
    )
