"""The one protocol of embedx: what an extractor promises. Outsiders implement it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor


class Extractor(Protocol):
    """A frozen audio encoder: waves [B, S] -> frames [B, T, D].

    The promise that everything rests on: row i of the result depends on `waves[i, :lengths[i]]` alone, never on the
    other rows or on the padding behind it (within 1e-5 in float32). `tests/helpers/conformance.py` holds every
    extractor to it.
    """

    sample_rate: int  # Hz of the waves it hears
    layers: tuple[int, ...]  # what can be asked for, ascending; the last is the default
    dim: int  # D, the same for every layer
    frame_rate: float  # frames a second; frame t begins at t / frame_rate seconds
    min_samples: int  # the shortest clip that gives a frame; the embedder pads shorter ones with zeros and flags them
    max_samples: int | None  # the longest clip that it hears whole, None: any; longer recordings are cut
    weights: str  # hash of every number that changes the output, see `hash_weights`

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (layer, frames [B, T, D], frame lengths [B]) for each asked layer, ascending.

        `waves` [B, S] lies in [-1, 1], `lengths` [B] counts samples, each at least `min_samples`.
        Layer by layer, so that each can be pooled when it appears.
        """
        ...

    def to(self, device: str) -> Self:
        """Move to a device and return self."""
        ...


def hash_weights(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """Return the sha256 of tensors and settings; it stays the same when files are renamed, moved or re-saved."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
