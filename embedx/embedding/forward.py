"""Forward: a batch of clips -> its vectors, on a lane. Here tensors end and arrays begin."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from embedx.embedding.pooling import POOLINGS
from embedx.recipe import view_name
from embedx.timing import timed, timed_each

if TYPE_CHECKING:
    from embedx.embedding.workers import Worker

Samples = NDArray[np.float32]  # [S]
Vectors = dict[str, NDArray[np.float32]]  # view -> [D] of a clip, or [B, D] of a batch
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Forward:
    """What is made of every batch: these poolings of these layers, in a precision.

    budget: samples that a batch may hold, padding included; less after one had no room.
    """

    layers: tuple[int, ...]
    poolings: tuple[str, ...]
    precision: str
    budget: int

    def run(self, lane: "Worker", clips: Sequence[Samples]) -> Vectors:
        """Map clips to view -> vectors [B, D]; a batch that does not fit into memory is halved, down to one clip.

        What has not fitted once is not tried again: the budget is halved too, for those to come.
        """
        size = max(map(len, clips)) * len(clips)
        if len(clips) == 1 or size <= self.budget:
            try:
                return self._compute(lane, clips)
            except torch.OutOfMemoryError:
                if len(clips) == 1:
                    raise
            self.budget = max(1, min(self.budget, size // 2))
            if lane.stream is not None:
                torch.cuda.empty_cache()  # of pieces that are too small
        half = len(clips) // 2
        first, second = self.run(lane, clips[:half]), self.run(lane, clips[half:])
        return {view: np.concatenate([first[view], second[view]]) for view in first}

    @torch.inference_mode()
    def _compute(self, lane: "Worker", clips: Sequence[Samples]) -> Vectors:
        extractor = lane.extractor
        with timed("copy", lane.finish):
            lengths = torch.tensor([max(len(clip), extractor.min_samples) for clip in clips])
            waves = torch.empty(len(clips), int(lengths.max()), pin_memory=lane.stream is not None)  # [B, S]
            for row, clip in zip(waves.numpy(), clips, strict=True):
                row[: len(clip)] = clip
                row[len(clip) :] = 0.0
            waves = waves.to(lane.device, non_blocking=True)
            if backend_of(extractor) != "fast":  # which plans its work from lengths that it need not wait for
                lengths = lengths.to(lane.device)
        views, pooled = [], []
        with inference_precision(self.precision, lane.device):
            states = extractor.frames(waves, lengths, self.layers)
            for layer, frames, counts in timed_each("model", states, lane.finish):
                with timed("pooling", lane.finish):
                    for pooling in self.poolings:
                        views.append(view_name(layer, pooling))
                        pooled.append(POOLINGS[pooling](frames, counts).float())  # [B, D]
        with timed("copy"):
            return dict(zip(views, lane.fetch(torch.stack(pooled)), strict=True))


def backend_of(extractor: object) -> str:
    """Return "fast" or "reference"; plugins need not say which they are."""
    return str(getattr(extractor, "backend", "reference"))


def inference_precision(precision: str, device: str) -> contextlib.AbstractContextManager[object]:
    """Return the context of a forward pass: true float32 (without TF32), or autocast to a narrower type."""
    if precision == "float32":
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # it is switched off unless that is said
    return torch.autocast(device.split(":")[0], DTYPES[precision])


def exact_for_all(precision: str) -> contextlib.AbstractContextManager[object]:
    """Return the context of all lanes: they set float32's switch of the whole process, and one must not undo it."""
    return inference_precision("float32", "cpu") if precision == "float32" else contextlib.nullcontext()
