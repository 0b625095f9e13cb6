"""Sounds: the samples of two rows -> how much of their waves is the same.

Two recordings of one word, or two takes of one instrument, have similar spectra, but their waves do not run together.
The wave of a copy does: through MP3 and Ogg, at another level, with some noise, and a little earlier or later. The
measure is the cross-correlation of two waves at the best shift, computed in bands. A band counts for as much as both
sounds agree in its level. So bands that a codec dropped, or that added noise covers, count for little, and bands in
which two takes have noise of their own count against them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Measured by hand on ESC-10, LibriSpeech, FSDD, the synthetic corpus (also in `make statistics`) and tones in noise:
# independent pairs reach 0.1 (real sounds), 0.5 (one word by one speaker) and 0.5 (synthetic sounds of two sources);
# copies have 0.65 or more (pure tones with 8 % noise), and 0.84 or more if the sound is real.
SOUND_THRESHOLD = 0.62
BANDS = 128  # of 62.5 Hz at 16 kHz: narrow enough to tell a tone from the noise around it
LEVEL_POWER = 0.05  # of a band's energy in its weight; 0 would count noise bands as much as the sound
MIN_BAND_ENERGY = 1e-6  # 60 dB below the loudest band there is only the rounding of 16 bits
MAX_SHIFT_S = 0.15  # of a copy, and in its length; MP3 adds 0.14 s at 8 kHz
MIN_LENGTH_S = 0.1  # a shorter sound has too few samples for a correlation over so many shifts
SKETCH_SIZE = 1024  # numbers in a sketch; the cosine of two unrelated ones is 0 +- 0.03
SKETCH_POWER = 0.25  # as LEVEL_POWER
SKETCH_THRESHOLD = 0.2  # lowest cosine of two sketches whose sounds are compared; copies have 0.4 or more


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of a sound, with the energy of each band, and its share in the whole."""

    values: NDArray[np.complex64]  # [n/2 + 1]
    energies: NDArray[np.float64]  # [BANDS]
    shares: NDArray[np.float64]  # [BANDS]


class SoundComparer:
    """Compares sounds of one sampling rate.

    Args:
        rate: the sampling rate in Hz.
        longest: the number of samples of the longest sound.
    """

    def __init__(self, rate: int, longest: int) -> None:
        self.rate = rate
        self.max_shift = round(MAX_SHIFT_S * rate)
        self.size = quick_size(longest + self.max_shift + 1)  # zeros between the ends, so that shifts do not wrap

    @cached_property
    def bands(self) -> NDArray[np.int64]:
        """The band of each frequency [n/2 + 1]."""
        bins = self.size // 2 + 1
        return np.minimum(np.arange(bins) * BANDS // (bins - 1), BANDS - 1)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """The number of frequencies in each band."""
        return np.bincount(self.bands, minlength=BANDS)

    def sum_bands(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the sum of values [n/2 + 1] over each band; the frequencies of a band lie side by side."""
        used = self.counts > 0
        sums = np.zeros(BANDS)
        sums[used] = np.add.reduceat(values, (self.counts.cumsum() - self.counts)[used])
        return sums

    def spectrum(self, samples: NDArray[np.floating]) -> Spectrum:
        """Return the spectrum of a sound [S]."""
        wave = samples.astype(np.float32)
        values = np.fft.rfft(wave - wave.mean(), self.size).astype(np.complex64)
        energies = self.sum_bands(values.real**2 + values.imag**2)
        return Spectrum(values, energies, energies / max(float(energies.sum()), 1e-30))

    def sketch(self, spectrum: Spectrum) -> NDArray[np.float32]:
        """Return a few numbers whose cosine with those of another sound is high if their spectra agree line by line.

        The magnitudes of a spectrum do not depend on a shift. Their deviations from the mean of each band are added up
        with random signs.
        """
        magnitudes = np.abs(spectrum.values)
        means = (self.sum_bands(magnitudes) / np.maximum(self.counts, 1)).astype(np.float32)
        deviations = magnitudes - np.repeat(means, self.counts)
        spread = np.sqrt(self.sum_bands(deviations**2)) + 1e-30
        weights = np.where(spectrum.shares > MIN_BAND_ENERGY, spectrum.shares, 0) ** SKETCH_POWER / spread
        places, signs = self._sketch_places
        sketch = np.bincount(places, deviations * np.repeat(weights, self.counts) * signs, SKETCH_SIZE)
        return (sketch / max(float(np.linalg.norm(sketch)), 1e-30)).astype(np.float32)

    @cached_property
    def _sketch_places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The place in a sketch, and the sign, of each frequency."""
        random = np.random.default_rng(0)
        places = random.integers(SKETCH_SIZE, size=len(self.bands))
        return places, random.choice([-1, 1], len(self.bands))

    def compare(self, one: Spectrum, other: Spectrum) -> float:
        """Return the correlation of two sounds at the best shift, from 0 to 1."""
        lower, higher = np.minimum(one.shares, other.shares), np.maximum(one.shares, other.shares)
        counted = lower > MIN_BAND_ENERGY * lower.max()
        weights = np.where(counted, lower ** (1 + LEVEL_POWER) / (higher + 1e-30), 0)
        if not weights.sum():
            return 0.0
        cross = one.values * other.values.conj()
        scales = weights / (weights.sum() * (np.sqrt(one.energies * other.energies) + 1e-30))
        scales = np.repeat(scales * (self.size / 2), self.counts)
        correlation = np.fft.irfft((cross * scales).astype(np.complex64), self.size)
        return float(max(correlation[: self.max_shift + 1].max(), correlation[-self.max_shift :].max(), 0.0))


def quick_size(least: int) -> int:
    """Return the lowest even number of at least `least` without prime factors above 5: its FFT is fast.

    >>> quick_size(82_401), quick_size(1024)
    (82944, 1024)
    """
    sizes = (2**a * 3**b * 5**c for a in range(1, 40) for b in range(12) for c in range(9))
    return int(min(size for size in sizes if size >= least))
