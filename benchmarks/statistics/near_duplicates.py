"""Rows that look alike across a split: independent data of many class sizes and dimensions, as imported vectors and as
sound, and copies of some sounds in other forms. Vectors alone are judged more strictly than sounds, so copies are
counted with their audio.

A row is flagged as `probe` flags it: against the rows on the other side of two random halves.
"""

import io

import numpy as np
import soundfile
import soxr
from claims import Claim

from embedx.copies.sounds import SKETCH_THRESHOLD, SOUND_THRESHOLD, SoundComparer
from embedx.copies.vectors import VectorRule, distance
from embedx.datasets.synthetic import CLASSES, SOURCES, synthesise_clip
from embedx.index.vectors import unit

ROWS = 240  # of a set of vectors
SIZES, DIMENSIONS = (4, 20, 120), (2, 3, 10, 100, 1000)
SETS = 20  # of each world, at scale 1
WORLDS = ("independent", "tight classes", "heavy tails", "clusters beside the classes", "hubs")
RATE = 16_000
FORMATS = {"MP3": ("MP3", "MPEG_LAYER_III"), "Ogg": ("OGG", "VORBIS")}


def simulate(scale: float, seed: int) -> list[Claim]:
    """Return the share of false alarms of each world, and the share of copies that are found, by kind."""
    return [*simulate_vectors(scale, seed), *simulate_sounds(scale, seed)]


def simulate_vectors(scale: float, seed: int) -> list[Claim]:
    """Return the share of independent vectors that are flagged, for each world."""
    claims = []
    for number, world in enumerate(WORLDS):
        random = np.random.default_rng([seed, number])
        flags = []
        for trial in range(max(3, round(SETS * scale) * len(DIMENSIONS) * len(SIZES))):
            y = np.arange(ROWS) // SIZES[trial % len(SIZES)]
            dimension = DIMENSIONS[trial // len(SIZES) % len(DIMENSIONS)]
            flags.append(flag(make_vectors(world, y, dimension, random).astype(np.float32), y).mean())
        text = f"false alarms, vectors: {world}; classes of 4 to 120, 2 to 1000 dimensions"
        error = float(np.std(flags) / len(flags) ** 0.5) + 0.5 / (ROWS * len(flags))
        claims.append(Claim(text, float(np.mean(flags)), len(flags), high=0.01, error=error))
    return claims


def make_vectors(world: str, y: np.ndarray, dimension: int, random: np.random.Generator) -> np.ndarray:
    """Return independent vectors [N, D] of a world."""
    noise = random.standard_normal((len(y), dimension))
    centres = random.standard_normal((len(y), dimension))
    if world == "tight classes":
        return np.asarray(centres[y] + 0.05 * noise)
    if world == "heavy tails":
        return random.standard_t(2, (len(y), dimension))
    if world == "clusters beside the classes":
        return np.asarray(centres[random.integers(len(y) // 4, size=len(y))] + 0.2 * noise)
    if world == "hubs":
        return np.asarray(noise * np.exp(random.standard_normal((len(y), 1))))
    return noise


def flag(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which rows are too near to a row of the other half."""
    rows = np.arange(len(x))
    rule = VectorRule(unit((x - x.mean(axis=0)) / x.std(axis=0)), rows, y)
    gaps = distance(rule.unit @ rule.unit.T)
    gaps[rows[:, None] % 2 == rows % 2] = np.inf
    return rule.too_near(rows, gaps.argmin(axis=1), float(np.median(gaps.min(axis=1))))


def simulate_sounds(scale: float, seed: int) -> list[Claim]:
    """Return the share of independent sounds that are flagged, and the share of copies that are found."""
    random = np.random.default_rng([seed, 99])
    takes = [(name, source, int(random.integers(1000))) for name in CLASSES for source in range(SOURCES)]
    takes = [takes[i] for i in random.permutation(len(takes))[: max(10, round(len(takes) * min(1, 5 * scale)))]]
    waves = [synthesise_clip(*take) for take in takes]
    sounds = [to_rate(wave, rate) for wave, rate in waves]
    comparer = SoundComparer(RATE, max(map(len, sounds)) + RATE)
    spectra = [comparer.spectrum(sound) for sound in sounds]
    sketches = [comparer.sketch(spectrum) for spectrum in spectra]

    def is_copy(i: int, other: np.ndarray) -> bool:
        spectrum = comparer.spectrum(other)
        agreement = float(sketches[i] @ comparer.sketch(spectrum))
        return agreement >= SKETCH_THRESHOLD and comparer.compare(spectra[i], spectrum) >= SOUND_THRESHOLD

    false = [
        any(
            comparer.compare(spectra[i], spectra[j]) >= SOUND_THRESHOLD
            for j in range(len(sounds))
            if i != j and float(sketches[i] @ sketches[j]) >= SKETCH_THRESHOLD
        )
        for i in range(len(sounds))
    ]
    text = "false alarms, sounds: sources of the synthetic corpus"
    claims = [Claim(text, float(np.mean(false)), len(false), high=0.01)]
    for kind in ("6 dB quieter", "8 % noise", *FORMATS):
        found = [is_copy(i, to_rate(change(wave, rate, kind, random), rate)) for i, (wave, rate) in enumerate(waves)]
        claims.append(Claim(f"copies found, sounds: {kind}", float(np.mean(found)), len(found), low=0.95))
    return claims


def change(wave: np.ndarray, rate: int, kind: str, random: np.random.Generator) -> np.ndarray:
    """Return a copy of a sound in another form."""
    if kind in FORMATS:
        form, subtype = FORMATS[kind]
        file = io.BytesIO()
        soundfile.write(file, wave, rate, format=form, subtype=subtype)
        file.seek(0)
        return np.asarray(soundfile.read(file, dtype="float32")[0])
    if kind == "8 % noise":
        return np.asarray(wave + 0.08 * np.sqrt((wave**2).mean()) * random.standard_normal(len(wave)))
    return wave / 2


def to_rate(wave: np.ndarray, rate: int) -> np.ndarray:
    """Return a sound at the rate at which sounds are compared."""
    return np.asarray(soxr.resample(wave.astype(np.float32), rate, RATE))
