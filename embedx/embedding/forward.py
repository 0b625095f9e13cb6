"""Forward: which vectors are computed of a batch, and in which precision."""

import contextlib
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedx.extractors.devices import DTYPES

Samples = NDArray[np.float32]  # [S]
RECOVERY = 100  # batches: a batch that does not fit costs less than 1 % of the time of so many
BACKENDS: Any = torch.backends
SWITCHES = (
    BACKENDS.cuda.matmul,
    *(BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn),
    *(BACKENDS.mkldnn.matmul, BACKENDS.mkldnn.conv, BACKENDS.mkldnn.rnn),
)
Vectors = dict[str, NDArray[np.float32]]  # view -> [D] of a window, or [B, D] of a batch


@dataclass
class Forward:
    """The settings of a forward pass.

    Attributes:
        layers: the layers whose frames are pooled.
        poolings: the poolings of each layer.
        precision: a key of `embedx.extractors.devices.DTYPES`.
        budget: the largest number of samples that are computed for a batch, padding included. Lowered when a batch
            does not fit into memory, and doubled again, up to its first value, after `RECOVERY` batches that do.
    """

    layers: tuple[int, ...]
    poolings: tuple[str, ...]
    precision: str
    budget: int

    def __post_init__(self) -> None:
        self._largest, self._fitted = self.budget, 0

    def refuse(self, size: int) -> None:
        """Lower the budget: a batch of this size did not fit into memory."""
        self.budget, self._fitted = max(1, min(self.budget, size // 2)), 0

    def accept(self) -> None:
        """Count a batch that fitted."""
        self._fitted += 1
        if self._fitted >= RECOVERY:
            self.budget, self._fitted = min(2 * self.budget, self._largest), 0


def backend_of(extractor: object) -> str:
    """Return "fast" or "reference"; a plugin need not have the attribute."""
    return str(getattr(extractor, "backend", "reference"))


def inference_precision(precision: str, device: str) -> contextlib.AbstractContextManager[object]:
    """Return the context of a forward pass: autocast, or nothing for float32; `exact_float32` is around it."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.split(":")[0], DTYPES[precision])


class ExactFloat32:
    """The context of all runs: products and convolutions in float32 are exact, whatever the program has chosen.

    Otherwise a GPU may use TF32, and a CPU bfloat16 after `torch.set_float32_matmul_precision("medium")`. The switches
    belong to the whole process, so the first of several runs at the same time sets them and the last one restores them.
    """

    def __init__(self) -> None:
        self._lock, self._runs = threading.Lock(), 0
        self._before: list[str] = []

    def __enter__(self) -> None:
        with self._lock:
            self._runs += 1
            if self._runs == 1:
                self._before = [switch.fp32_precision for switch in SWITCHES]
                for switch in SWITCHES:
                    switch.fp32_precision = "ieee"

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0:
                for switch, before in zip(SWITCHES, self._before, strict=True):
                    switch.fp32_precision = "none"  # then it has the value of `torch.backends.fp32_precision`
                    if switch.fp32_precision != before:
                        switch.fp32_precision = before


exact_float32 = ExactFloat32()
