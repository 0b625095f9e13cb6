"""Limit: how fast a device multiplies matrices, and how many of these products a model needs.

The products of weights are nearly all that a neural network computes, and no program computes them faster than the
device does. So their number over the measured peak is the least time that a model can take.
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

COUNTED_S = (1.0, 2.0, 4.0)  # clips whose operations are counted; attention makes them a square of the length
SHAPES = {"cpu": (2048, 1024, 1024), "cuda": (8192, 8192, 8192)}  # [M, K] x [K, N]; some 20 ms of one core, 2 of a GPU
TURNS, EACH = 5, 4  # rounds, of which the best counts, and products that a lane makes in each


def count_operations(extractor: Extractor, seconds: Sequence[float], device: str) -> float:
    """Return the floating-point operations of a model on clips of these lengths, each alone and without padding.

    Two for each product of a matrix or a convolution, as torch counts them in the library's own forward; nothing else
    is counted. Three short clips are, and the others lie on the parabola through these.
    """
    counted = np.array(COUNTED_S)
    if extractor.max_samples is not None:
        counted *= min(1.0, extractor.max_samples / extractor.sample_rate / counted[-1])
    found = [count_clip(extractor, float(length), device) for length in counted]
    parabola = np.polyfit(counted, found, 2)
    return float(np.maximum(np.polyval(parabola, np.asarray(seconds)), 0.0).sum())


@torch.no_grad()
def count_clip(extractor: Extractor, seconds: float, device: str) -> int:
    """Return the operations of a model on one clip; attention is taken apart into products, which torch can count."""
    reference: Extractor = getattr(extractor, "reference", extractor)
    samples = max(extractor.min_samples, round(seconds * extractor.sample_rate))
    wave = torch.randn(1, samples, generator=torch.Generator().manual_seed(0)) / 10
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for _ in reference.frames(wave.to(device), torch.tensor([samples], device=device), extractor.layers[-1:]):
            pass
    return int(counter.get_total_flops())


def name_device(device: str) -> str:
    """Return the name of a GPU, or of the processor where the system says it."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measure_peak(lanes: Sequence[Worker], dtype: torch.dtype) -> float:
    """Return the operations a second that matrix products of a type reach, all lanes of a device at work at a time.

    On a CPU the better of torch's own product and oneDNN's, as the fast backend takes either.
    """
    rows, inner, columns = SHAPES["cpu" if lanes[0].device == "cpu" else "cuda"]
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=random).to(dtype) for shape in ((rows, inner), (columns, inner)))
    x, weight = x.to(lanes[0].device), weight.to(lanes[0].device)
    ways: list[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = [functional.linear]
    if lanes[0].device == "cpu" and onednn.is_fused(dtype):
        fused = onednn.fused_linear(weight, None, gelu=False)
        ways.append(lambda x, _: fused(x))

    @torch.inference_mode()
    def work(lane: Worker, way: int) -> None:
        with lane.open():
            for _ in range(EACH):
                ways[way](x, weight)
        lane.finish()

    best = float("inf")
    for turn in range(TURNS * len(ways)):
        begun = time.perf_counter()
        for _ in run_in_order(lanes, work, [turn % len(ways)] * len(lanes)):
            pass
        best = min(best, time.perf_counter() - begun)
    return 2.0 * rows * inner * columns * EACH * len(lanes) / best
