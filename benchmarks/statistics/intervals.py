"""The 95 % intervals of figures: how often they hold the true value, which is the figure of very many rows of the same
world. Groups differ in how well their rows are predicted ("alike" rows), and may have very unequal numbers of rows.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from claims import Claim
from numpy.typing import NDArray

from embedx.metrics.scoring import evaluate

TRIALS = 1000
TRUE_ROWS = 40_000  # for the true values
LOW, HIGH = 0.93, 0.97
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """How rows are made.

    Attributes:
        groups: number of groups.
        rows: mean number of rows of a group.
        unequal: standard deviation of the logarithm of this number.
        classes: number of classes.
        signal: distance of the classes in standard deviations of the noise.
        alike: standard deviation of this distance between groups.
    """

    groups: int
    rows: float
    unequal: float
    classes: int
    signal: float
    alike: float

    def __str__(self) -> str:
        size = "equal" if not self.unequal else "unequal" if self.unequal < 1 else "very unequal"
        alike = "independent" if not self.alike else "alike"
        return f"{self.groups} groups of {size} size, {self.classes} classes, {alike} rows"

    def draw(self, groups: int, random: np.random.Generator) -> tuple[Ints, Floats, Ints]:
        """Return truth [N], probabilities [N, C] and groups [N]."""
        size = np.exp(random.normal(np.log(self.rows) - self.unequal**2 / 2, self.unequal, groups))
        group = np.repeat(np.arange(groups), np.maximum(1, np.round(size)).astype(int))
        signal = random.normal(self.signal, self.alike, groups)[group]
        y = random.integers(self.classes, size=len(group))
        scores = random.standard_normal((len(group), self.classes))
        scores[np.arange(len(group)), y] += signal
        proba = np.exp(scores)
        return y, proba / proba.sum(axis=1, keepdims=True), group


WORLDS = [
    World(groups=10, rows=20, unequal=0.0, classes=2, signal=0.2, alike=0.5),
    World(groups=10, rows=20, unequal=1.0, classes=2, signal=0.2, alike=0.0),
    World(groups=10, rows=20, unequal=0.0, classes=2, signal=3.0, alike=0.5),
    World(groups=10, rows=20, unequal=1.0, classes=10, signal=1.5, alike=0.5),
    World(groups=40, rows=10, unequal=1.0, classes=2, signal=3.0, alike=0.0),
    World(groups=40, rows=10, unequal=0.0, classes=10, signal=1.5, alike=0.5),
]


def simulate(scale: float, seed: int) -> list[Claim]:
    """Count how often intervals hold the true value."""
    trials = max(4, round(TRIALS * scale))
    return [claim for i, world in enumerate(WORLDS) for claim in cover(world, trials, np.random.default_rng([seed, i]))]


def cover(world: World, trials: int, random: np.random.Generator) -> list[Claim]:
    """Return the coverage of the figures of a world."""
    names = [str(i) for i in range(world.classes)]
    y, proba, _ = world.draw(int(TRUE_ROWS / world.rows), random)
    true = {name: one.value for name, one in evaluate(y, proba, names, samples=0).figures.items() if one}
    held: Counter[str] = Counter()
    for _ in range(trials):
        y, proba, group = world.draw(world.groups, random)
        for name, one in evaluate(y, proba, names, groups=group).figures.items():
            held[name] += one is not None and (one.low or 0.0) <= true[name] <= (one.high or 0.0)
    return [
        Claim(f"{world}: {name} around {true[name]:.2f}", held[name] / trials, trials, LOW, HIGH) for name in FIGURES
    ]
