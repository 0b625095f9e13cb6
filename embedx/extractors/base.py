"""The protocol of an extractor. Code outside embedx can implement it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor


class Extractor(Protocol):
    """A frozen audio encoder: waves [B, S] -> frames [B, T, D].

    Row i of the result must depend on `waves[i, :lengths[i]]` only, and not on other rows or on the padding after it
    (within 1e-5 in float32). `tests/helpers/conformance.py` checks this for every extractor.

    Attributes:
        sample_rate: sample rate of the waves in Hz.
        layers: the layers that can be requested, ascending; the last is the default.
        dim: D, the same for every layer.
        frame_rate: frames per second; frame t starts at t / frame_rate seconds.
        min_samples: the shortest clip that gives a frame; the embedder pads shorter clips with zeros and flags them.
        max_samples: the longest clip that the model accepts, None for any length; longer recordings are cut.
        weights: hash of every number that changes the output; see `hash_weights`.

    One that cannot run on a GPU has `has_gpu`, false; `--device auto` then takes the CPU.
    An extractor that pads clips inside also has a method `padded_samples(length: int) -> int`; see `padded_samples`.
    One that needs much memory has `memory`: what a second of sound takes, relative to HuBERT-base (17 MB in float32).
    One that computes its input on the CPU can have `prepare(clips)`, which returns a list with what the model takes of
    each clip [S], and `encode(prepared, layers)`, which yields what `frames` does; see `embedx.extractors.spectrogram`.
    One with `reads_lengths`, true, gets the lengths on the CPU, where it can read them without waiting for a GPU.
    """

    sample_rate: int
    layers: tuple[int, ...]
    dim: int
    frame_rate: float
    min_samples: int
    max_samples: int | None
    weights: str

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (layer, frames [B, T, D], frame lengths [B]) for each requested layer, ascending.

        It is a generator, so that each layer can be pooled before the next one is computed.

        Args:
            waves: [B, S], from -1 to 1.
            lengths: samples of each wave [B], at least `min_samples`.
            layers: the requested layers, ascending.
        """
        ...

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        ...


def padded_samples(extractor: Extractor, length: int) -> int:
    """Return the number of samples that an extractor computes for a clip of `length` samples.

    A batch is budgeted by it, see `batch_cost`: Whisper computes 30 s for every clip. An extractor without a method
    `padded_samples` computes the samples of the clip, and at least `min_samples`.
    """
    pad = getattr(extractor, "padded_samples", None)
    return max(length, extractor.min_samples) if pad is None else max(length, int(pad(length)))


def batch_cost(extractor: Extractor, length: int) -> int:
    """Return the samples that a clip of `length` samples counts in the budget of a batch.

    These are the samples that are computed, and more for a model that needs more memory than HuBERT-base.
    """
    return round(padded_samples(extractor, length) * float(getattr(extractor, "memory", 1.0)))


def hash_weights(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of tensors and settings; it does not change when files are renamed, moved or re-saved."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
