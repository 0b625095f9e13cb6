"""The limit of a device: how fast it multiplies matrices, and how many of these products a model needs.

Nearly all that a neural network computes are products with its weights, and no program computes them faster than the
device can. So the number of operations divided by the measured peak rate is the least time that a model can take.
"""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from embedx.embedding.workers import Worker, run_in_order
from embedx.extractors.base import Extractor
from embedx.extractors.fast import onednn

COUNTED_S = (1.0, 2.0, 4.0)  # clips that are counted; with attention the operations are quadratic in the length
SHAPES = {  # [M, K] x [K, N]: takes about 20 ms on one core, or 2 ms on a GPU
    "cpu": (2048, 1024, 1024),
    "cuda": (8192, 8192, 8192),
}
ROUNDS = 5  # of which the fastest counts
PRODUCTS = {"cpu": 4, "cuda": 32}  # that each worker computes in a round: 80 ms of work, beside the start of threads


def count_operations(extractor: Extractor, seconds: Sequence[float], device: str) -> float:
    """Return the floating-point operations of a model on clips, each alone and without padding.

    Only matrix products and convolutions count, as torch counts them in the reference implementation: two operations
    per multiplication and addition. Three short clips are counted; a parabola through them gives the other lengths.

    Args:
        extractor: the model.
        seconds: lengths of the clips in seconds.
        device: the device of the model.
    """
    lengths = np.array(COUNTED_S)
    if extractor.max_samples is not None:
        lengths *= min(1.0, extractor.max_samples / extractor.sample_rate / lengths[-1])
    counts = [count_clip(extractor, float(length), device) for length in lengths]
    parabola = np.polyfit(lengths, counts, 2)
    return float(np.maximum(np.polyval(parabola, np.asarray(seconds)), 0.0).sum())


@torch.no_grad()
def count_clip(extractor: Extractor, seconds: float, device: str) -> int:
    """Return the operations of a model on one clip; attention runs as separate products, which torch can count."""
    reference: Extractor = getattr(extractor, "reference", extractor)
    samples = max(extractor.min_samples, round(seconds * extractor.sample_rate))
    wave = torch.randn(1, samples, generator=torch.Generator().manual_seed(0)) / 10
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for _ in reference.frames(wave.to(device), torch.tensor([samples], device=device), extractor.layers[-1:]):
            pass
    return int(counter.get_total_flops())


def name_device(device: str) -> str:
    """Return the name of a GPU, or of the processor if the system gives it."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measure_peak(workers: Sequence[Worker], dtype: torch.dtype) -> float:
    """Return the operations per second of matrix products, with all workers of a device at work at the same time.

    On a CPU this is the faster of torch's own product and oneDNN's, because the fast backend can use either.
    """
    device = workers[0].device
    kind = device.split(":")[0]
    (rows, inner, columns), count = SHAPES[kind], PRODUCTS[kind]
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=random).to(dtype) for shape in ((rows, inner), (columns, inner)))
    x, weight = x.to(device), weight.to(device)
    products: list[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = [functional.linear]
    if device == "cpu" and onednn.is_fused(dtype):
        fused = onednn.fused_linear(weight, None, gelu=False)
        products.append(lambda x, _: fused(x))

    @torch.inference_mode()
    def work(worker: Worker, product: int) -> None:
        with worker.open():
            for _ in range(count):
                products[product](x, weight)
        worker.finish()

    best = float("inf")
    for turn in range(ROUNDS * len(products)):
        start = time.perf_counter()
        for _ in run_in_order(workers, work, [turn % len(products)] * len(workers)):
            pass
        best = min(best, time.perf_counter() - start)
    return 2.0 * rows * inner * columns * count * len(workers) / best
