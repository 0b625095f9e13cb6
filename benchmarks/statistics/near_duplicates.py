"""Rows that look alike across a split: independent data of many class sizes and dimensions, as imported vectors and as
sound, and 2 to 20 copies of synthetic and real sounds in other forms. Vectors alone are judged more strictly than
sounds, so copies are counted with their audio; without it, few are found where most rows have one.

A row is flagged as `probe` flags it: against the rows on the other side of the split.
"""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from claims import Claim
from planted import FORMS, REAL_SETS, YAMNET, Flags, Sound, flag_copies, read_real

from embedx.copies.vectors import VectorRule, distance
from embedx.datasets.synthetic import CLASSES, SOURCES, synthesise_clip
from embedx.index.vectors import unit

ROWS = 240  # of a set of vectors
SIZES, DIMENSIONS = (4, 20, 120, 200), (2, 3, 10, 100, 1000)
SETS = 15  # of each world, at scale 1
WORLDS = ("independent", "tight classes", "heavy tails", "clusters beside the classes", "hubs")
COPIES = {2: (50, 40), 4: (50, 25), 12: (10, 10), 20: (5, 5)}  # of each: (synthetic sounds, those with copies)
REAL_SOUNDS, REAL_COPIED = 100, 20  # of a real set; two copies each
YAMNET_SOUNDS = 50  # the model needs 0.2 s for each


def simulate(scale: float, seed: int) -> list[Claim]:
    """Return the share of false alarms of each world, and the share of copies that are found, by kind."""
    logging.getLogger("embedx").setLevel(logging.ERROR)  # it counts rows
    return [*simulate_vectors(scale, seed), *simulate_copies(scale, seed), *simulate_real_sets(scale, seed)]


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
        text = f"false alarms, vectors: {world}; classes of 4 to 200, 2 to 1000 dimensions"
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


def simulate_copies(scale: float, seed: int) -> Iterator[Claim]:
    """Yield the share of independent synthetic sounds that are flagged, and of copies that are found."""
    random = np.random.default_rng([seed, 99])
    takes = [(name, source, int(random.integers(1000))) for source in range(SOURCES) for name in CLASSES]
    results = []
    for copies, (number, copied) in COPIES.items():
        number, copied = max(4, round(number * min(1, 2 * scale))), max(1, round(copied * min(1, 2 * scale)))
        sounds = [Sound(*synthesise_clip(*take), str(i % 2)) for i, take in enumerate(takes[:number])]
        results.append(flag_copies(sounds, min(copied, number), copies, "logmel", random))
        yield found_claim(f"synthetic sounds, {copies} copies each", results[-1:])
    for form in FORMS:
        yield found_claim(f"synthetic sounds, {form}", results, form)
    yield alarm_claim("synthetic sounds", results)


def simulate_real_sets(scale: float, seed: int) -> Iterator[Claim]:
    """Yield the same for the real data sets in ../shared, with logmel, and with YAMNet if its weights are there."""
    random = np.random.default_rng([seed, 98])
    models = {"logmel": REAL_SOUNDS}
    if YAMNET.exists():
        models[f"yamnet:{YAMNET}"] = YAMNET_SOUNDS
    for name in REAL_SETS if scale >= 0.1 else ():  # seconds each
        for model, number in models.items():
            sounds = read_real(name, round(number * min(1, 2 * scale)), random)
            if not sounds:
                continue
            results = [flag_copies(sounds, round(REAL_COPIED * min(1, 2 * scale)), 2, model, random)]
            text = f"{name}, {model.partition(':')[0]}"
            yield alarm_claim(text, results)
            yield found_claim(text, results)


def found_claim(text: str, results: Sequence[Flags], form: str | None = None) -> Claim:
    """Return the share of the rows with a copy on the other side that are flagged."""
    flags = [flag for r in results for flag in r.flagged[r.has_copy & ((r.form == form) | (form is None))]]
    return Claim(f"copies found, {text}", float(np.mean(flags)), len(flags), low=0.95)


def alarm_claim(text: str, results: Sequence[Flags]) -> Claim:
    """Return the share of the rows without any copy that are flagged, with their audio or by their vectors alone."""
    flags = [flag for r in results for flag in (r.flagged | r.by_vector)[r.is_alone]]
    text = f"false alarms, {text}; with the audio or without"
    return Claim(text, float(np.mean(flags)) if flags else 0.0, max(1, len(flags)), high=0.01)
