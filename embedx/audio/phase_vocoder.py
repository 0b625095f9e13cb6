"""Phase vocoder: changes the speed of a clip without its pitch, and its pitch without its speed."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from embedx.audio.clip import Samples

Spectrum = NDArray[np.complex128]  # [T, F]

FRAME_S = 0.064  # seconds: several periods of a low voice, so that its harmonics are apart
OVERLAP = 4  # frames over each sample; the squares of this many Hann windows add up to 1.5
MIN_FRAME = 16  # samples: also at the lowest sample rate


def frame_size(rate: int) -> int:
    """Return the length of a frame in samples, a power of two.

    >>> frame_size(16_000), frame_size(44_100)
    (1024, 2048)
    """
    return max(MIN_FRAME, 1 << round(math.log2(FRAME_S * rate)))


def window_of(size: int) -> NDArray[np.float64]:
    """Return the periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def spectrum_of(samples: Samples, rate: int) -> Spectrum:
    """Return the short-time spectrum [T, F] of a clip with a frame of silence before and after it."""
    size = frame_size(rate)
    hop = size // OVERLAP
    padded = np.pad(samples.astype(np.float64), (size, size + -len(samples) % hop))
    return np.fft.rfft(sliding_window_view(padded, size)[::hop] * window_of(size), axis=1)


def wave_of(spectrum: Spectrum, rate: int, length: int, first: int | None = None) -> Samples:
    """Return the clip of a spectrum of `spectrum_of`.

    Args:
        spectrum: [T, F].
        rate: sample rate in Hz.
        length: number of samples of the clip.
        first: where the clip starts; by default after the frame of silence.
    """
    size = frame_size(rate)
    hop = size // OVERLAP
    frames = np.fft.irfft(spectrum, n=size, axis=1) * window_of(size) / 1.5
    wave = np.zeros((len(frames) + OVERLAP - 1) * hop)
    for part in range(OVERLAP):
        wave[part * hop : (part + len(frames)) * hop] += frames[:, part * hop : (part + 1) * hop].ravel()
    return fit_length(wave[size if first is None else first :], length)


def change_speed(samples: Samples, rate: int, speed: float) -> Samples:
    """Return the clip at another speed and the same pitch: round(S / speed) samples.

    The spectrum is read at other times. Its amplitude is interpolated, and its phase goes on at the frequency that
    the phases of the two nearest frames give (Flanagan and Golden 1966).
    """
    spectrum = spectrum_of(samples, rate)
    size = frame_size(rate)
    hop = size // OVERLAP
    times = np.arange(0, len(spectrum) - 1, speed)
    before, share = times.astype(np.int64), (times % 1)[:, None]
    amplitude = (1 - share) * np.abs(spectrum[before]) + share * np.abs(spectrum[before + 1])
    angles = np.angle(spectrum)
    expected = 2 * np.pi * hop / size * np.arange(spectrum.shape[1])
    excess = angles[before + 1] - angles[before] - expected
    advance = expected + excess - 2 * np.pi * np.round(excess / (2 * np.pi))
    phase = angles[0] + np.cumsum(advance, axis=0) - advance
    # the clip starts in the middle of frame OVERLAP / 2 of the old spectrum, and of frame OVERLAP / 2 / speed of this
    first = round(size / 2 + OVERLAP / 2 * hop / speed)
    return wave_of(amplitude * np.exp(1j * phase), rate, max(1, round(len(samples) / speed)), first)


def change_pitch(samples: Samples, rate: int, semitones: float) -> Samples:
    """Return the clip at another pitch and the same length: at another speed, then resampled to its old duration."""
    import soxr

    factor = 2 ** (semitones / 12)
    slower = change_speed(samples, rate, 1 / factor)
    return fit_length(soxr.resample(slower.astype(np.float32), factor, 1.0, quality="HQ"), len(samples))


def fit_length(wave: NDArray[np.floating], length: int) -> Samples:
    """Cut samples to a length, or add zeros."""
    return np.pad(wave[:length], (0, max(0, length - len(wave)))).astype(np.float32)
