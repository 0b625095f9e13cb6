"""A small labelled corpus of synthetic sounds for demos, tests and notebooks. It is the same on every machine.

Each class has several sources (an instrument, an animal, a machine), and each source has several takes. The source is
the group that a probe must not split.
"""

import csv
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

Wave = NDArray[np.float64]
Random = np.random.Generator
RATES = (8_000, 16_000, 22_050, 44_100, 48_000)  # Hz
SOURCES, TAKES = 5, 4  # 20 clips per class
MIN_S, MAX_S = 1.0, 3.5  # length of a clip
SPEED_LENGTHS_S, SPEED_RATE = (0.3, 30.0), 16_000  # lengths and sample rate (Hz) of the corpus for speed measurements
NOISE_DB = (-45.0, -25.0)  # background noise of a take, relative to full scale


def seconds(duration: float, rate: int) -> Wave:
    """Return the time of each sample [S] in seconds."""
    return np.arange(round(duration * rate)) / rate


def envelope(t: Wave, onsets: Wave, decay_s: float) -> Wave:
    """Return a level that jumps to 1 at each onset and decays exponentially."""
    since = t[:, None] - onsets[None]
    return np.asarray(np.where(since >= 0, np.exp(-np.maximum(since, 0) / decay_s), 0.0).max(axis=1))


def onsets(t: Wave, per_second: float, random: Random) -> Wave:
    """Return the times of regular events with a random phase."""
    first = random.uniform(0, 1 / per_second)
    return np.arange(first, t[-1] + 1e-9, 1 / per_second) if t[-1] > first else np.array([0.0])


def band_noise(t: Wave, low_hz: float, high_hz: float, random: Random) -> Wave:
    """Return white noise between two frequencies, with unit variance."""
    spectrum = np.fft.rfft(random.standard_normal(len(t)))
    hertz = np.fft.rfftfreq(len(t), t[1] - t[0])
    spectrum[(hertz < low_hz) | (hertz > high_hz)] = 0
    noise = np.fft.irfft(spectrum, len(t))
    return np.asarray(noise / (noise.std() + 1e-12))


def bell(t: Wave, pitch: float, random: Random) -> Wave:
    """Inharmonic partials of a struck bar (1, 2.76, 5.40, 8.93 times its lowest mode), each with its own decay."""
    strokes = onsets(t, 0.8, random)
    partials = [(1.0, 1.0, 0.9), (2.756, 0.6, 0.5), (5.404, 0.35, 0.25), (8.933, 0.2, 0.12)]
    hertz = 300 * pitch
    return np.asarray(
        sum(a * envelope(t, strokes, decay) * np.sin(2 * np.pi * hertz * ratio * t) for ratio, a, decay in partials)
    )


def birdsong(t: Wave, pitch: float, random: Random) -> Wave:
    """Short whistles that sweep upwards between 2 and 4 kHz."""
    calls = onsets(t, 3.0, random)
    since = (t - calls[0]) % (1 / 3.0)
    hertz = 1800 * pitch**0.3 + 7000 * since
    level = np.where(since < 0.15, np.sin(np.pi * since / 0.15), 0)
    return np.asarray(level * np.sin(2 * np.pi * np.cumsum(hertz) * (t[1] - t[0])))


def clock(t: Wave, pitch: float, random: Random) -> Wave:
    """A click of a few milliseconds twice a second."""
    return envelope(t, onsets(t, 2.0, random), 0.004) * band_noise(t, 800 * pitch, 3900, random)


def engine(t: Wave, pitch: float, random: Random) -> Wave:
    """Pulses at 25 to 60 Hz with their harmonics and a slightly unsteady rate."""
    wobble = 1 + 0.02 * np.sin(2 * np.pi * 1.3 * t + random.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(35 * pitch * wobble) * (t[1] - t[0])
    return np.asarray(sum(np.sin(k * phase) / k**0.7 for k in range(1, 20)))


def horn(t: Wave, pitch: float, random: Random) -> Wave:
    """Two steady tones a third apart, with harmonics."""
    tones = [400 * pitch, 500 * pitch]
    return np.asarray(sum(np.sin(2 * np.pi * hertz * k * t) / k for hertz in tones for k in range(1, 5)))


def rain(t: Wave, pitch: float, random: Random) -> Wave:
    """High-passed noise whose level varies like many small drops."""
    drops = np.repeat(random.gamma(0.5, size=len(t) // 64 + 1), 64)[: len(t)]
    return band_noise(t, 1200 * pitch, 4000, random) * (0.5 + drops)


def siren(t: Wave, pitch: float, random: Random) -> Wave:
    """A tone that rises and falls over an octave every two seconds."""
    hertz = 700 * pitch * 2 ** (0.5 * np.sin(2 * np.pi * 0.5 * t + random.uniform(0, 6)))
    return np.asarray(np.sin(2 * np.pi * np.cumsum(hertz) * (t[1] - t[0])))


def string(t: Wave, pitch: float, random: Random) -> Wave:
    """Plucks with harmonics; higher harmonics decay faster."""
    plucks = onsets(t, 2.5, random)
    hertz = 150 * pitch
    return np.asarray(sum(envelope(t, plucks, 0.6 / k) * np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 12)))


def voice(t: Wave, pitch: float, random: Random) -> Wave:
    """A vowel: harmonics of a gliding pitch under three formants (700, 1200, 2600 Hz), in syllables."""
    glide = 120 * pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t + random.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(glide) * (t[1] - t[0])
    formants = ((700, 130), (1200, 150), (2600, 250))
    level = [sum(math.exp(-(((k * 120 * pitch - f) / w) ** 2)) for f, w in formants) for k in range(1, 30)]
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * t + random.uniform(0, 6))
    return np.asarray(syllables * sum(a * np.sin(k * phase) for k, a in enumerate(level, start=1)))


def wind(t: Wave, pitch: float, random: Random) -> Wave:
    """Low noise whose level changes slowly."""
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 0.4 * t + random.uniform(0, 6))
    return band_noise(t, 30, 350 * pitch, random) * swell


CLASSES: dict[str, Callable[[Wave, float, Random], Wave]] = {
    sound.__name__: sound for sound in (bell, birdsong, clock, engine, horn, rain, siren, string, voice, wind)
}


def synthesise_clip(name: str, source: int, take: int) -> tuple[NDArray[np.float32], int]:
    """Return one take of one source of a class.

    Args:
        name: the class, a key of `CLASSES`.
        source: the number of the source, from 0.
        take: the number of the take, from 0.

    Returns:
        Samples [S] in [-1, 1], and the sample rate in Hz.

    >>> samples, rate = synthesise_clip("bell", source=0, take=1)
    >>> samples.ndim, rate in RATES, bool(abs(samples).max() <= 1)
    (1, True, True)
    """
    random = np.random.default_rng([list(CLASSES).index(name), source, take])
    rate = int(random.choice(RATES))
    t = seconds(float(random.uniform(MIN_S, MAX_S)), rate)
    pitch = 2 ** (0.25 * (source - SOURCES // 2)) * 2 ** float(random.normal(0, 0.03))  # each source has its own pitch
    wave = CLASSES[name](t, pitch, random)
    wave = wave / (np.abs(wave).max() + 1e-12) * float(random.uniform(0.2, 0.8))
    wave = wave + 10 ** (float(random.uniform(*NOISE_DB)) / 20) * random.standard_normal(len(t)) / 4
    return np.clip(wave, -1, 1).astype(np.float32), rate


def synthesise_lengths(folder: str | os.PathLike[str], duration: float) -> list[Path]:
    """Write noise as 16 kHz WAV files of 0.3 to 30 s (log-uniform).

    A longer corpus begins with the files of a shorter one, except for the last file of the shorter one.

    Args:
        folder: an existing folder.
        duration: the length of all files together, in seconds.

    Returns:
        The paths of the files.
    """
    random = np.random.default_rng(0)
    paths: list[Path] = []
    while duration > 0:
        length = min(max(SPEED_LENGTHS_S[0], duration), float(np.exp(random.uniform(*np.log(SPEED_LENGTHS_S)))))
        wave = random.standard_normal(round(length * SPEED_RATE), np.float32) / 10
        paths.append(Path(folder) / f"{len(paths):06}.wav")
        soundfile.write(paths[-1], wave, SPEED_RATE, subtype="PCM_16")
        duration -= length
    return paths


def synthesise(folder: str | os.PathLike[str], takes: int = TAKES, classes: int = len(CLASSES)) -> Path:
    """Write the corpus as `<class>/<source>-<take>.wav` with a manifest: 200 clips by default, about 7 minutes.

    Args:
        folder: the folder of the corpus; created if it does not exist.
        takes: clips per source; each class has 5 sources.
        classes: the number of classes, at most 10.

    Returns:
        The manifest, with the columns path, label and source.
    """
    root = Path(folder)
    rows = []
    for name in list(CLASSES)[:classes]:
        for source in range(SOURCES):
            for take in range(takes):
                path = root / name / f"{name}{source}-{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                samples, rate = synthesise_clip(name, source, take)
                soundfile.write(path, samples, rate, subtype="PCM_16")
                rows.append({"path": path.relative_to(root).as_posix(), "label": name, "source": f"{name}{source}"})
    manifest = root / "manifest.csv"
    with open(manifest, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "label", "source"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return manifest
