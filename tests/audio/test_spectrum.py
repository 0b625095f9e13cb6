"""The levels of spectrograms equal their definition, and show what they should."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from embedx.audio.pictures import png
from embedx.audio.spectrum import Scale, Spectrum, levels
from tests.helpers.pictures import plain_levels, read_png


def sound(rate: int, seconds: float, seed: int = 0) -> NDArray[np.float64]:
    """Return a rising tone in noise of changing loudness, with a second of digital silence."""
    rng, time = np.random.default_rng(seed), np.arange(round(rate * seconds)) / rate
    noise = rng.normal(0, 0.05, len(time)) * (1 + np.sin(7 * time))
    tone = 0.5 * np.sin(2 * math.pi * (300 + rate / 9 * time) * time)
    return np.where((time > 0.2) & (time < 0.3), 0.0, noise + tone).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize(
    ("rate", "seconds", "width", "height", "ms", "scale", "low", "high"),
    [
        (16_000, 0.7, 40, 128, 46.0, "mel", 50.0, 8000.0),
        (44_100, 0.5, 60, 64, 46.0, "mel", 50.0, 22_050.0),  # one frame in a column
        (22_050, 3.0, 20, 96, 23.0, "linear", 0.0, 11_025.0),  # eight frames in a column
        (192_000, 0.2, 30, 32, 6.0, "mel", 15_000.0, 90_000.0),
        (8_000, 0.01, 16, 16, 93.0, "linear", 900.0, 1000.0),  # shorter than a frame, and bands without bins
    ],
)
def test_levels_equal_their_definition(
    rate: int, seconds: float, width: int, height: int, ms: float, scale: Scale, low: float, high: float
) -> None:
    samples = sound(rate, seconds)
    made = levels(samples, rate, Spectrum(width, height, scale, low, high, ms))
    np.testing.assert_array_equal(np.flipud(made), plain_levels(samples, rate, width, height, ms, low, high, scale))


def test_full_scale_sine_is_at_0_db_in_its_band() -> None:
    rate = 16_000
    samples = np.sin(2 * math.pi * 1000 * np.arange(rate) / rate)
    grey = levels(samples, rate, Spectrum(64, 511, "linear", 0.0, 8000.0))[:, 10:-10]
    assert set(grey.argmax(axis=0).tolist()) == {63}  # the edges are one bin apart, and the first band is at edge 1
    assert set(grey.max(axis=0).tolist()) == {254}
    assert levels(np.zeros(rate), rate, Spectrum(64, 128)).max() == 0


def test_short_call_in_a_long_recording_is_seen() -> None:
    rate = 22_050
    samples = np.zeros(60 * rate)
    samples[30 * rate : 30 * rate + 2000] = 0.5 * np.sin(2 * math.pi * 4000 * np.arange(2000) / rate)
    grey = levels(samples, rate, Spectrum(320, 96))
    assert grey.max() > 200
    assert np.flatnonzero(grey.max(axis=0)).tolist() in ([160], [159, 160], [160, 161])


def test_tiles_of_a_sound_are_parts_of_its_picture() -> None:
    rate = 16_000
    samples = sound(rate, 2.0)
    whole = levels(samples, rate, Spectrum(200, 64))
    parts = [levels(samples, rate, Spectrum(100, 64), first, rate) for first in (0, rate)]
    np.testing.assert_array_equal(np.hstack(parts), whole)


def test_pictures_hold_every_level() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (37, 61)).astype(np.uint8)
    np.testing.assert_array_equal(read_png(png(grey)), grey)
