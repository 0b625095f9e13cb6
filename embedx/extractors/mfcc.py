"""mfcc: mel-frequency cepstral coefficients and their deltas, 100 frames per second. It has no weights."""

import math
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from embedx.extractors.base import hash_weights
from embedx.extractors.melspec import BANDS, FRAME, FRAME_RATE, HOP, SAMPLE_RATE, LogMel

COEFFICIENTS = 20
REACH = 2  # frames on each side that a delta uses
SPAN = 2 * REACH + 1
OFFSET = 0.01


class MFCC:
    """20 coefficients of the log-mel spectrum, then their 20 deltas: [B, T, 40].

    A delta uses two frames before and two frames after, so the first two and the last two frames of a clip, which do
    not have all neighbours, are left out. Frame t depends on the samples [160 t, 160 t + 1040); its coefficients are
    those of the middle.
    """

    sample_rate = SAMPLE_RATE
    layers: tuple[int, ...] = (0,)
    dim = 2 * COEFFICIENTS
    frame_rate = FRAME_RATE
    min_samples = FRAME + (SPAN - 1) * HOP  # 1040
    max_samples: int | None = None

    def __init__(self) -> None:
        self.front_end = LogMel(OFFSET)
        self.basis = cosines()
        self.weights = hash_weights({}, {"extractor": "mfcc", "version": 1})

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield coefficients and deltas; see `Extractor.frames`."""
        with torch.autocast(waves.device.type, enabled=False):
            cepstrum = self.front_end(waves) @ self.basis  # [B, F, 20]
        frames = torch.cat([cepstrum[:, REACH:-REACH], deltas(cepstrum)], dim=-1)
        yield 0, frames, 1 + (lengths - self.min_samples) // HOP

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.front_end.to(device)
        self.basis = self.basis.to(device)
        return self


def cosines() -> Tensor:
    """Return the first 20 columns of the orthonormal DCT-II: [64, 20].

    Column k is sqrt(2 / 64) cos(pi k (2 n + 1) / 128); column 0 is also divided by sqrt(2).
    """
    n = torch.arange(BANDS, dtype=torch.float64)[:, None]
    basis = torch.cos(math.pi * torch.arange(COEFFICIENTS) * (2 * n + 1) / (2 * BANDS)) * math.sqrt(2 / BANDS)
    basis[:, 0] /= math.sqrt(2)
    return basis.float()


def deltas(x: Tensor) -> Tensor:
    """Return the slope of the least-squares line through 5 consecutive frames: [B, F, D] -> [B, F - 4, D].

    (sum of n (x[t + n] - x[t - n])) / (2 sum of n²) over n = 1, 2; equation 5.16 of the HTK Book (2006).

    >>> deltas(3 * torch.arange(7.0).reshape(1, 7, 1)).flatten()
    tensor([3., 3., 3.])
    """
    windows = x.unfold(1, SPAN, 1)  # [B, F - 4, D, 5]
    n = torch.arange(-REACH, REACH + 1, dtype=x.dtype, device=x.device)
    return (windows * n).sum(dim=-1) / n.square().sum()


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> MFCC:
    """Return the extractor; there is nothing to load."""
    return MFCC()
