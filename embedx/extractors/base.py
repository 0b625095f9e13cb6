"""The one protocol of embedx: what an extractor promises. Outsiders implement it. Also: weights, read and hashed."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from embedx.errors import ModelError


class Extractor(Protocol):
    """A frozen audio encoder: waves [B, S] -> frames [B, T, D].

    The promise that everything rests on: row i of the result depends on `waves[i, :lengths[i]]` alone, never on the
    other rows or on the padding behind it (within 1e-5 in float32). `tests/test_extractors.py` holds every
    extractor to it.
    """

    sample_rate: int  # Hz of the waves it hears
    layers: tuple[int, ...]  # what can be asked for, ascending; the last is the default
    dim: int  # D, the same for every layer
    frame_rate: float  # frames a second; frame t begins at t / frame_rate seconds
    min_samples: int  # the shortest clip that gives a frame; the embedder pads shorter ones with zeros and flags them
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


def read_tensors(file: Path, *, allow_pickle: bool) -> dict[str, Tensor]:
    """Return the tensors in a .safetensors or .npz file by name, floating point as float32.

    A file of any other name is taken for a pickle and read only with `allow_pickle`, by torch's reader that takes
    nothing but tensors.

    Raises:
        ModelError: the file is damaged, holds something else than tensors, or is a pickle without leave.
    """
    if file.suffix not in (".safetensors", ".npz") and not allow_pickle:
        raise ModelError(
            f"{file} is read as a pickle, and a pickle can run code. Convert it to safetensors, "
            "or pass --allow-pickle where you trust its maker."
        )
    try:
        if file.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(file)
        elif file.suffix == ".npz":
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        else:
            tensors = dict(torch.load(file, map_location="cpu", weights_only=True))
        return {name: one.float() if one.is_floating_point() else one for name, one in tensors.items()}
    except Exception as error:  # whatever the readers raise of a damaged file, from OSError to BadZipFile
        raise ModelError(f"{file} cannot be read as weights: {type(error).__name__}: {error}") from error
