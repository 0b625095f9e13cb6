"""The 95 % intervals of figures: how often they hold the true value, which is the figure of very many groups of the
same kind. Groups differ in how well their rows are predicted ("unlike groups"), may share a part of the noise of their
scores ("alike rows"), and may have unequal sizes. Some intervals are conservative, and only "at least 0.93" is claimed:
those that have a lower limit (ROC AUC, d-prime, log loss, calibration error), those of retrieval, and those of figures
that jump, because they are near 0 or 1 or have few rows, so that no interval holds exactly 95 %. With one label for
each group and few groups of a class, means over classes are conservative, too. "Few very unlike groups" are a case for
which docs/benchmark.md says that the intervals are shorter than they should be.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from claims import Claim
from numpy.typing import NDArray

from embedx.metrics.figures import Figure
from embedx.metrics.intervals import difference_interval
from embedx.metrics.report import Metrics
from embedx.metrics.retrieval import retrieve
from embedx.metrics.samples import MEANS_OVER_CLASSES
from embedx.metrics.scoring import evaluate

TRIALS = 1000
TRUE_ROWS = 150_000  # for the true values
TRUE_GROUPS = 1000  # at least: they differ more than rows
LOW, HIGH = 0.93, 0.97
ROUGH_LOW = 0.9  # where the docs say that the intervals are rough
LIMITED = ("macro_auc", "micro_auc", "auc", "d_prime", "log_loss", "ece")  # have a lower limit: too wide at times
EDGE = 0.05  # from 0 or 1: few rows are wrong, and their number jumps
MIN_ROWS = 50  # of a class; fewer, and the number of right ones jumps

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """How rows are made.

    Attributes:
        groups: number of groups.
        rows: mean number of rows of a group.
        classes: number of classes.
        signal: distance of the classes in standard deviations of the noise.
        unequal: standard deviation of the logarithm of the number of rows.
        unlike: standard deviation of the signal between groups.
        alike: standard deviation of the noise that all rows of a group share, a number for each class.
        rarer: frequency of a class divided by that of the class before it.
        multilabel: whether a row has any number of labels, each with the frequency 0.2.
        skill: mean and intraclass correlation of the share of right rows of a group, which has a beta distribution;
            replaces the signal.
        parts: number of folds.
        together: whether all rows of a group have the class of its first row.
        rough: whether the docs say that the intervals are too short.
        trials: share of the trials.
    """

    groups: int
    rows: float
    classes: int
    signal: float = 0.0
    unequal: float = 0.0
    unlike: float = 0.0
    alike: float = 0.0
    rarer: float = 1.0
    multilabel: bool = False
    skill: tuple[float, float] | None = None
    parts: int = 1
    together: bool = False
    rough: bool = False
    trials: float = 1.0

    def __str__(self) -> str:
        size = "" if not self.unequal else "about "
        words = [
            f"{self.groups} groups of {size}{self.rows:g} rows",
            f"{self.classes} {'labels' if self.multilabel else 'classes'}",
            *(["unlike groups"] if self.unlike or self.skill else []),
            *(["alike rows"] if self.alike else []),
            *(["rare classes"] if self.rarer < 1 else []),
            *([f"{self.parts} folds"] if self.parts > 1 else []),
            *(["one class each"] if self.together else []),
            *(["few very unlike groups"] if self.rough else []),
        ]
        return ", ".join(words)

    @property
    def shares(self) -> Floats:
        """The frequencies [C] of the classes."""
        shares = self.rarer ** np.arange(self.classes, dtype=np.float64)
        return 0.2 * shares if self.multilabel else shares / shares.sum()

    def draw(self, random: np.random.Generator) -> tuple[Ints, Floats, Ints]:
        """Return truth [N] (multi-label: [N, C]), probabilities [N, C] and groups [N]."""
        size = np.exp(random.normal(np.log(self.rows) - self.unequal**2 / 2, self.unequal, self.groups))
        group = np.repeat(np.arange(self.groups), np.maximum(1, np.round(size)).astype(int))
        shape = (len(group), self.classes)
        signal = random.normal(self.signal, self.unlike, self.groups)[group, None]
        noise = random.standard_normal(shape)
        if self.alike:
            noise += random.normal(0, self.alike, (self.groups, self.classes))[group]
        slope = max(self.signal, 0.3)  # of the logarithm of the odds, for calibrated probabilities of alike groups
        if self.multilabel:
            labels = random.random(shape) < self.shares
            odds = slope * (noise + signal * labels - self.signal / 2) + np.log(self.shares / (1 - self.shares))
            return labels.astype(np.int64), 1 / (1 + np.exp(-odds)), group
        y = random.choice(self.classes, len(group), p=self.shares)
        if self.together:
            y = y[np.searchsorted(group, group)]
        if self.skill:
            return y, self._guess(y, group, random), group
        own = np.arange(self.classes) == y[:, None]
        proba = self.shares * np.exp(slope * (noise + signal * own))
        return y, proba / proba.sum(axis=1, keepdims=True), group

    def _guess(self, y: Ints, group: Ints, random: np.random.Generator) -> Floats:
        """Return probabilities [N, C] that are highest for the true class in a share of the rows of each group."""
        mean, correlation = self.skill or (0.5, 0.1)
        strength = 1 / correlation - 1
        skill = random.beta(mean * strength, (1 - mean) * strength, self.groups)[group]
        wrong = (y + random.integers(1, self.classes, len(y))) % self.classes
        named = np.where(random.random(len(y)) < skill, y, wrong)
        confidence = random.uniform(0.55, 1, len(y))
        rest = (1 - confidence) / (self.classes - 1)
        proba = np.repeat(rest[:, None], self.classes, axis=1)
        proba[np.arange(len(y)), named] = confidence
        return proba

    def measure(self, random: np.random.Generator, samples: int = 100) -> Metrics:
        """Return the figures of new rows."""
        y, proba, group = self.draw(random)
        names = [str(i) for i in range(self.classes)]
        parts = group % self.parts if self.parts > 1 else None
        return evaluate(y, proba, names, groups=group, parts=parts, multilabel=self.multilabel, samples=samples)


SINGLE = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map", "log_loss", "ece")
CLASS = (*SINGLE, "recall", "f1")
MANY = ("micro_f1", "macro_f1", "exact_match", "lrap", "macro_auc", "map", "log_loss", "ece")
WORLDS: dict[World, tuple[str, ...]] = {
    World(10, 20, 2): ("accuracy", "macro_f1", "macro_auc", "map"),
    World(10, 20, 2, 0.2, unlike=0.5): CLASS,
    World(10, 20, 2, 3.0, unlike=0.5): SINGLE,
    World(20, 1, 2, 1.0): ("accuracy", "macro_auc", "log_loss"),
    World(200, 1, 2, 1.5): SINGLE,
    World(20, 50, 2, 1.5, alike=0.7): CLASS,
    World(20, 20, 2, 1.0, unequal=1.0, alike=0.5): SINGLE,
    World(20, 10, 2, unequal=0.5, skill=(0.8, 0.3)): ("accuracy", "balanced_accuracy", "macro_f1", "recall"),
    World(50, 10, 2, skill=(0.9, 0.1)): ("accuracy", "balanced_accuracy", "macro_f1", "recall"),
    World(50, 10, 2, 2.0, rarer=0.2, parts=5): ("macro_f1", "macro_auc", "map", "d_prime"),
    World(10, 20, 10, 1.5, unequal=0.5, unlike=0.5): ("accuracy", "top3", "macro_f1", "macro_auc", "map", "ece"),
    World(50, 20, 10, 2.0, rarer=0.8): (*CLASS, "top3"),
    World(50, 20, 10, 2.5, alike=0.5): (*SINGLE, "top5", "d_prime"),
    World(20, 50, 50, 2.5, unlike=0.3, trials=0.6): ("accuracy", "top5", "macro_f1", "map"),
    World(200, 10, 50, 2.5, trials=0.5): ("accuracy", "balanced_accuracy", "macro_auc", "log_loss"),
    World(20, 20, 5, 1.5, unlike=0.3, multilabel=True): MANY,
    World(50, 10, 5, 2.0, alike=0.5, rarer=0.7, multilabel=True): (*MANY, "micro_auc", "micro_map"),
    World(12, 40, 2, 1.0, alike=0.8): ("accuracy", "macro_auc", "map", "log_loss"),
    World(15, 20, 3, 2.0, unequal=0.7, unlike=0.3, alike=0.5): SINGLE,
    World(60, 6, 3, 2.0, alike=0.5, together=True): (*SINGLE, "recall"),
    World(14, 100, 2, 2.0, alike=0.8, rarer=0.3, rough=True): SINGLE,
}  # fmt: skip


def simulate(scale: float, seed: int) -> list[Claim]:
    """Count how often intervals hold the true value."""
    claims = []
    for i, (world, names) in enumerate(WORLDS.items()):
        random = np.random.default_rng([seed, i])
        claims += cover(world, names, max(3, round(TRIALS * scale * world.trials)), random)
    random = np.random.default_rng([seed, len(WORLDS)])
    claims += cover_retrieval(max(4, round(TRIALS * scale / 2)), random)
    claims += cover_differences(max(4, round(TRIALS * scale)), random)
    return [*claims, *look_for_notes(random)]


def cover(world: World, names: tuple[str, ...], trials: int, random: np.random.Generator) -> list[Claim]:
    """Return the coverage of the figures of a world; those of a class are of the last one, which is the rarest."""
    groups = max(TRUE_GROUPS, int(TRUE_ROWS / world.rows)) // world.parts * world.parts
    if trials < TRIALS / 20:  # a small simulation does not need the truth so exactly
        groups = min(groups, TRUE_GROUPS)
    true = find_figures(replace(world, groups=groups).measure(random, samples=0))
    held = count_held((find_figures(world.measure(random)) for _ in range(trials)), {n: true[n].value for n in names})
    claims = []
    for name in names:
        value = true[name].value
        rows = world.groups * world.rows * (world.shares[-1] if name in ("recall", "f1") else 1)
        coarse = rows < MIN_ROWS or min(value, 1 - value) < EDGE or (world.together and name in MEANS_OVER_CLASSES)
        low, high = ROUGH_LOW if world.rough else LOW, None if name in LIMITED or coarse else HIGH
        of_class = " of the last class" if name in ("recall", "f1") else ""
        claims.append(Claim(f"{world}: {name}{of_class} around {value:.2f}", held[name] / trials, trials, low, high))
    return claims


def find_figures(metrics: Metrics) -> dict[str, Figure]:
    """Return the overall figures, and recall and F1 of the last class."""
    last = metrics.per_class[-1]
    figures = {**metrics.figures, "recall": last.recall, "f1": last.f1}
    return {name: figure for name, figure in figures.items() if figure}


def count_held(trials: Iterable[Mapping[str, Figure]], true: Mapping[str, float]) -> Counter[str]:
    """Count by name the intervals that hold the true value."""
    held: Counter[str] = Counter()
    for figures in trials:
        for name, value in true.items():
            low, high = figures[name].low, figures[name].high
            held[name] += low is not None and high is not None and low <= value <= high
    return held


def cover_retrieval(trials: int, random: np.random.Generator) -> list[Claim]:
    """Return the coverage of figures of retrieval; the true value is the mean over collections of this size."""
    measured = []
    for _ in range(trials):
        group = np.repeat(np.arange(30), 8)
        y = random.integers(6, size=30)[group]
        x = np.eye(6)[y] * 2 + random.standard_normal((len(y), 6)) + random.normal(0, 0.5, (30, 6))[group]
        measured.append(retrieve(x, y, groups=group, ks=(1, 5)))
    names = ("p@1", "p@5", "r_precision", "map")
    true = {name: float(np.mean([one[name].value for one in measured])) for name in names}
    held = count_held(measured, true)
    what = "retrieval, 30 groups of 8 rows, 6 classes"
    return [Claim(f"{what}: {name} around {true[name]:.2f}", held[name] / trials, trials, LOW) for name in names]


def cover_differences(trials: int, random: np.random.Generator) -> list[Claim]:
    """Return the coverage of the difference of accuracy between two heads on the same rows, as of `embedx train`."""
    claims = []
    for groups, rows, alike, gain in ((10, 20, 0.5, 0.1), (20, 50, 0.7, 0.05), (50, 10, 0.5, 0.0), (200, 1, 0.5, 0.2)):
        true = float(compare_heads(TRUE_GROUPS * 20, rows, alike, gain, random)[0].mean())
        ends = [difference_interval(*compare_heads(groups, rows, alike, gain, random)) for _ in range(trials)]
        held = sum(low <= true <= high for low, high in ends) / trials
        what = f"gain from more labels, {groups} groups of {rows} rows: difference around {true:.3f}"
        claims.append(Claim(what, held, trials, LOW, HIGH))
    return claims


def compare_heads(
    groups: int, rows: int, alike: float, gain: float, random: np.random.Generator
) -> tuple[Floats, Ints]:
    """Return for each row 1 if only the second head is right, -1 if only the first is, or 0; and the groups."""
    group = np.repeat(np.arange(groups), rows)
    skill = random.normal(0.8, alike, groups)[group]
    better = random.normal(gain, alike / 2, groups)[group]
    noise = random.standard_normal(len(group))
    other = np.where(random.random(len(group)) < 0.9, noise, random.standard_normal(len(group)))
    return (skill + better + other > 0).astype(np.float64) - (skill + noise > 0), group


def look_for_notes(random: np.random.Generator) -> list[Claim]:
    """Return how often a note says that intervals are rough, where groups, or those of a class, are fewer than 10."""
    trials, said = 20, Counter[str]()
    for _ in range(trials):
        few = World(9, 20, 3, 2.0).measure(random)
        said["9 groups"] += any("only 9 groups" in note for note in few.notes)
        y, proba, group = World(40, 10, 3, 2.0).draw(random)
        y[(group >= 4) & (y == 2)] = 0  # the last class is in 4 of the 40 groups
        rare = evaluate(y, proba, ["a", "b", "c"], groups=group)
        said["a class in 4 of 40 groups"] += any("'c'" in note and "rough" in note for note in rare.notes)
    return [Claim(f"{what}: a note says that the intervals are rough", said[what] / trials, trials, 1) for what in said]
