"""Forward: which vectors are computed of a batch, and in which precision."""

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from embedx.extractors.devices import DTYPES

Samples = NDArray[np.float32]  # [S]
Vectors = dict[str, NDArray[np.float32]]  # view -> [D] of a window, or [B, D] of a batch


@dataclass
class Forward:
    """The settings of a forward pass.

    Attributes:
        layers: the layers whose frames are pooled.
        poolings: the poolings of each layer.
        precision: a key of `embedx.extractors.devices.DTYPES`.
        budget: the largest number of samples that are computed for a batch, padding included. Lowered when a batch
            does not fit into memory.
    """

    layers: tuple[int, ...]
    poolings: tuple[str, ...]
    precision: str
    budget: int


def backend_of(extractor: object) -> str:
    """Return "fast" or "reference"; a plugin need not have the attribute."""
    return str(getattr(extractor, "backend", "reference"))


def inference_precision(precision: str, device: str) -> contextlib.AbstractContextManager[object]:
    """Return the context of a forward pass: exact float32 (without TF32), or autocast to a narrower type."""
    if precision == "float32":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # flags() disables cuDNN by default
    return torch.autocast(device.split(":")[0], DTYPES[precision])


def exact_float32(precision: str) -> contextlib.AbstractContextManager[object]:
    """Return the context around all workers.

    The switch of TF32 belongs to the whole process. Without this context, the worker that finishes first would turn
    TF32 on again for the others.
    """
    return inference_precision("float32", "cpu") if precision == "float32" else contextlib.nullcontext()
