"""The levels of a spectrogram. The page computes those of dropped and recorded sounds by the same rule in JavaScript.

The rule. A picture has `width` columns and `height` bands. S samples x[0..S-1] at `rate` Hz; zeros lie around them.

1. A frame has N samples: the power of two that is nearest to `window_ms` on a logarithmic scale.
2. A column covers S / width samples and has n frames: n = ceil(S / width / (N / 4)), at least 1 and at most 8. Frame j
   of column c begins at the sample floor((c + (j + 0.5) / n) * (S / width)) - N / 2.
3. A frame is multiplied by the Hann window 0.5 - 0.5 cos(2 pi i / N). Its power is |DFT|^2 / (N / 4)^2, which is 1 for
   a sine of amplitude 1.
4. Band b is a triangle over the bins k * rate / N, from edge b to edge b + 2, with its top at edge b + 1. The
   height + 2 edges lie evenly between fmin and fmax, in mel, which is 2595 log10(1 + f / 700), or in Hz. The weights of
   a band are scaled to the sum 1. A band with fewer than two bins takes the two around its top, each weighted by how
   near it is.
5. The power of a band in a column is the largest of its n frames, so that a short call is not averaged away.
6. dB = 10 log10(power), and level = 2 round(127 (dB + 120) / 120), from 0 to 254.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["mel", "linear"]

WINDOW_MS = 46.0  # 2048 samples at 44.1 kHz: fine enough for the formants of a voice
ULTRASOUND_RATE, ULTRASOUND_WINDOW_MS = 96_000, 6.0  # recordings of bats, whose calls last some milliseconds
MIN_FREQUENCY = 50.0  # Hz; below it there is mostly wind and hum
MAX_FRAMES = 8  # of a column: ten minutes in 640 columns take 5120 frames
FLOOR_DB, STEPS = 120.0, 127
MIN_WINDOW, MAX_WINDOW = 16, 65_536  # samples of a frame
BLOCK = 64  # frames that are computed at a time: what a core keeps in its cache, which is a quarter faster
MAX_CACHED = 32  # sets of weights; each has up to some MB


@dataclass(frozen=True)
class Spectrum:
    """What a spectrogram shows.

    Attributes:
        width, height: columns and bands.
        scale: how the bands are spaced.
        fmin, fmax: Hz; default: 50 (0 with a linear scale) to half the rate.
        window_ms: length of a frame; default: 46, or 6 from 96 kHz on.
    """

    width: int = 640
    height: int = 128
    scale: Scale = "mel"
    fmin: float | None = None
    fmax: float | None = None
    window_ms: float | None = None

    def range(self, rate: int) -> tuple[float, float]:
        """Return the lowest and the highest frequency in Hz at a rate; the highest is at least 1 Hz higher."""
        default = MIN_FREQUENCY if self.scale == "mel" else 0.0
        half = rate / 2
        low = min(default if self.fmin is None else self.fmin, half - 1.0)
        return low, max(min(half if self.fmax is None else self.fmax, half), low + 1.0)

    def window(self, rate: int) -> int:
        """Return the samples of a frame at a rate.

        >>> [Spectrum().window(rate) for rate in (8000, 16_000, 22_050, 44_100, 384_000)]
        [512, 1024, 1024, 2048, 2048]
        """
        milliseconds = self.window_ms or (ULTRASOUND_WINDOW_MS if rate >= ULTRASOUND_RATE else WINDOW_MS)
        size = 2 ** math.floor(math.log2(milliseconds * rate / 1000) + 0.5)
        return int(min(max(size, MIN_WINDOW), MAX_WINDOW))


def levels(
    samples: NDArray[np.floating], rate: int, spectrum: Spectrum, first: float = 0.0, length: float | None = None
) -> NDArray[np.uint8]:
    """Return the levels [height, width] of samples [S], the lowest band first.

    Args:
        samples: the samples, at least one.
        rate: their rate in Hz.
        spectrum: what the picture shows.
        first: where the picture begins, in samples; what lies before it is heard by its first frames.
        length: the samples that the picture covers; default: all.
    """
    size, width = spectrum.window(rate), spectrum.width
    length = len(samples) if length is None else length
    frames = min(MAX_FRAMES, max(1, math.ceil(length / width / (size / 4))))
    places = (np.arange(width)[:, None] + (np.arange(frames) + 0.5) / frames) * (length / width)
    starts = np.floor(places.ravel() + first).astype(np.int64) - size // 2
    padded = np.pad(np.asarray(samples, np.float64), size)
    starts = np.clip(starts + size, 0, len(padded) - size)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, size)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    weights = band_weights(size, rate, spectrum.height, spectrum.scale, *spectrum.range(rate))
    power = np.empty((len(starts), spectrum.height))
    for begin in range(0, len(starts), BLOCK):
        bins = np.fft.rfft(pieces[starts[begin : begin + BLOCK]] * hann, axis=1)
        power[begin : begin + BLOCK] = (bins.real**2 + bins.imag**2) @ weights
    loudest = power.reshape(width, frames, spectrum.height).max(axis=1).T / (size / 4) ** 2
    decibels = 10 * np.log10(np.maximum(loudest, 1e-30))
    steps = np.clip(np.round(STEPS * (decibels + FLOOR_DB) / FLOOR_DB), 0, STEPS)
    grey: NDArray[np.uint8] = (2 * steps).astype(np.uint8)
    return grey


@lru_cache(MAX_CACHED)
def band_weights(size: int, rate: int, height: int, scale: Scale, fmin: float, fmax: float) -> NDArray[np.float64]:
    """Return the weights [bins, height] of the bins of a frame in the bands."""
    bins = np.arange(size // 2 + 1) * rate / size
    if scale == "mel":
        edges = 700 * (10 ** (np.linspace(to_mel(fmin), to_mel(fmax), height + 2) / 2595) - 1)
    else:
        edges = np.linspace(fmin, fmax, height + 2)
    low, top, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins[:, None] - low) / (top - low), (high - bins[:, None]) / (high - top)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    for band in np.flatnonzero((weights > 0).sum(axis=0) < 2):
        place = top[band] * size / rate
        below = min(int(place), size // 2 - 1)
        weights[:, band] = 0.0
        weights[below : below + 2, band] = 1 - (place - below), place - below
    return np.asarray(weights / weights.sum(axis=0))


def to_mel(frequency: float) -> float:
    """Return a frequency in mel, as HTK defines it."""
    return 2595 * math.log10(1 + frequency / 700)
