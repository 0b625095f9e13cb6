"""Batches that do not fit into the memory of a GPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from extraction import RATE, cosine, embedder_of, way_of
from gpu_models import Model, Setting

from embedx.extractors.base import Extractor


class Tight:
    """An extractor on a CPU that raises the out-of-memory error of a GPU above a number of samples."""

    def __init__(self, inner: Extractor, most: int) -> None:
        self.inner, self.most, self.refused = inner, most, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def to(self, device: str) -> "Tight":
        """Return self."""
        return self

    def frames(self, waves: torch.Tensor, *rest: Any) -> Any:
        """Raise OutOfMemoryError, or call the inner extractor."""
        if waves.numel() > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("no room")
        return self.inner.frames(waves, *rest)


def halving(setting: Setting, model: Model) -> Iterator[str]:
    """Yield lines on batches that do not fit into memory: no vector is lost or different."""
    random = np.random.default_rng(3)
    shortest, size = (0.3, 8.0) if setting.small else (1.0, 600.0)
    lengths = (
        np.exp(random.uniform(np.log(shortest), np.log(10 * shortest), 60 if setting.small else 1000)) * RATE
    ).astype(int)
    clips = [random.standard_normal(n, dtype=np.float32) * np.float32(0.1) for n in lengths]
    how: dict[str, Any] = {"device": setting.device, "precision": "float32"}
    expected = way_of(embedder_of(model.fast, batch_seconds=size / 20, **how))(clips)
    if setting.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        model_bytes = torch.cuda.memory_allocated()
        way_of(embedder_of(model.fast, batch_seconds=size, **how))(clips)
        most = torch.cuda.max_memory_allocated()
        torch.cuda.empty_cache()
        limit = torch.cuda.memory_reserved() + 0.4 * (most - model_bytes)
        torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
        before = torch.cuda.memory_stats()["num_ooms"]
        embedder = embedder_of(model.fast, batch_seconds=size, **how)
        try:
            found = way_of(embedder)(clips)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        refused = torch.cuda.memory_stats()["num_ooms"] - before
        room = f"{limit / 1e9:.1f} GB where {most / 1e9:.1f} GB are needed"
    else:
        tight = Tight(model.fast, int(size * RATE / 2))
        embedder = embedder_of(tight, batch_seconds=size, **how)
        found, refused, room = way_of(embedder)(clips), tight.refused, "half of the memory that is needed"
    wrong = max(1 - cosine(a, b) for a, b in zip(found, expected, strict=True))
    apart = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
    yield f"## A batch that does not fit, {model.name}, float32; target: halved without loss\n"
    yield (
        f"Batches of {size:g} s with {room}: {refused} did not fit, and later batches held "
        f"{embedder.budget / RATE:.0f} s. {len(found)} vectors of {len(clips)} clips. Compared with batches of "
        f"{size / 20:g} s, their numbers differ by at most {apart:.0e}, and 1 - cos is at most {max(wrong, 0):.0e}."
    )
