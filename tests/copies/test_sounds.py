"""The correlation of two sounds: high for copies whatever was done to them, low for independent sounds."""

import numpy as np
import pytest
import soxr

from embedx.copies.sounds import SKETCH_THRESHOLD, SOUND_THRESHOLD, SoundComparer
from embedx.datasets.synthetic import CLASSES, synthesise_clip

RATE = 16_000


def compare(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the correlation of two sounds, and the cosine of their sketches."""
    comparer = SoundComparer(RATE, max(len(one), len(other)))
    spectra = comparer.spectrum(one), comparer.spectrum(other)
    return comparer.compare(*spectra), float(comparer.sketch(spectra[0]) @ comparer.sketch(spectra[1]))


def test_copies_at_another_level_time_and_with_noise_correlate() -> None:
    random = np.random.default_rng(0)
    for name in CLASSES:
        samples, rate = synthesise_clip(name, 1, 1)
        wave = soxr.resample(samples.astype(np.float64), rate, RATE)
        level = np.sqrt((wave**2).mean())
        for copy in (
            wave / 2,
            wave + 0.08 * level * random.standard_normal(len(wave)),
            np.concatenate([np.zeros(round(0.1 * RATE)), wave]),
            wave[round(0.05 * RATE) :],
        ):
            correlation, sketches = compare(wave, copy)
            assert correlation >= SOUND_THRESHOLD and sketches >= SKETCH_THRESHOLD, name


def test_sound_with_itself_has_correlation_one() -> None:
    wave = np.random.default_rng(0).standard_normal(RATE)
    assert np.allclose(compare(wave, wave), 1, atol=1e-3)


def test_independent_noise_and_repeated_tones_do_not_correlate() -> None:
    random = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    for hertz in (0, 220, 440.5, 3000):
        for noise in (0.03, 0.3):
            waves = [
                np.sin(2 * np.pi * hertz * time + random.uniform(0, 6)) + noise * random.standard_normal(RATE)
                for _ in range(2)
            ]
            assert compare(*waves)[0] < SOUND_THRESHOLD - 0.1


def test_silence_has_no_copies() -> None:
    assert compare(np.zeros(RATE), np.zeros(RATE))[0] == 0


@pytest.mark.parametrize("rate", [150, 400, 8_000])
def test_sound_equals_itself_also_where_bands_hold_no_frequency(rate: int) -> None:
    wave = np.random.default_rng(0).standard_normal(rate // 5).astype(np.float32)
    comparer = SoundComparer(rate, len(wave))
    assert (comparer.counts == 0).any() == (rate < 8_000)
    spectrum = comparer.spectrum(wave)
    assert comparer.compare(spectrum, comparer.spectrum(wave / 2)) > 0.97  # the lowest and the highest line count half
    assert np.isfinite(comparer.sketch(spectrum)).all()
