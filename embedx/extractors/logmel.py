"""logmel: statistics of the log-mel spectrum, one frame per 0.96 s patch. It has no weights."""

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from embedx.extractors.base import hash_weights
from embedx.extractors.melspec import BANDS, FRAME_RATE, PATCH_SAMPLES, SAMPLE_RATE, LogMel, count_patches, patches

HOP = 48  # frames between patches: half a patch, so that a short event is entirely in one of them
SLOW = 4  # frames: the second delta spans 40 ms, the time scale of syllables and strokes
OFFSET = 0.01  # with SLOW the best of a small grid on ESC-10 (linear probe 0.8275, C = 0.1)
FLOOR = 5.0  # just above -ln(OFFSET), so that louder audio gives longer vectors and silence is not zero


class LogMelStatistics:
    """Mean, standard deviation and standard deviation of two deltas of 64 log-mel bands: [B, P, 256].

    It is a baseline that runs everywhere, a default that needs no download, and a deterministic model for tests.
    """

    sample_rate = SAMPLE_RATE
    layers: tuple[int, ...] = (0,)
    dim = 4 * BANDS
    frame_rate = FRAME_RATE / HOP
    min_samples = PATCH_SAMPLES
    max_samples: int | None = None

    def __init__(self) -> None:
        self.front_end = LogMel(OFFSET)
        self.weights = hash_weights({}, {"extractor": "logmel", "version": 1})

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the statistics of every whole patch; see `Extractor.frames`."""
        patch = patches(self.front_end(waves), HOP) + FLOOR  # [B, P, 96, 64]
        statistics = [
            patch.mean(dim=2),
            patch.std(dim=2),
            (patch[:, :, 1:] - patch[:, :, :-1]).std(dim=2),
            (patch[:, :, SLOW:] - patch[:, :, :-SLOW]).std(dim=2),
        ]
        yield 0, torch.cat(statistics, dim=-1), count_patches(lengths, HOP)

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.front_end.to(device)
        return self


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> LogMelStatistics:
    """Return the extractor; there is nothing to load."""
    return LogMelStatistics()
