"""Permutation test: without a signal, "better than chance" is said in 2.5 % of data sets; with a clear one, always.

Each trial draws vectors and labels, and runs the test of `embedx probe` and `embedx train` with 39 permutations, so
that p is 1/40 = 0.025 or more. The vectors of a group share an offset that is as large as the differences within it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from claims import Claim
from numpy.typing import NDArray

from embedx.evaluation.chance import compare_labels
from embedx.evaluation.cross_validation import LabelledVectors
from embedx.evaluation.splits import NO_ROWS, Split, Splits
from embedx.evaluation.targets import Targets
from embedx.heads.learning import limit_threads
from embedx.heads.options import HeadOptions
from embedx.metrics.chance import ChanceTest

PERMUTATIONS = 39  # the fewest that reach 0.025
TRIALS, CLEAR_TRIALS = 350, 100  # of each world, without and with a signal
DIM = 12
CLEAR_SIGNAL = 4  # standard deviations within a group
Random = np.random.Generator
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """A data set: labels of rows (classes [N], or 0 and 1 [N, K]), their groups and recordings, and given parts."""

    y: Ints
    groups: Ints
    recordings: Ints | None = None
    fold: Ints | None = None
    leaky: bool = False
    drift: float = 0.0
    spread: float = 1.0  # of the vectors of class 0
    kind: str = "logistic"  # of the head


def constant(random: Random, groups: int, shares: tuple[float, ...], sizes: tuple[int, int] = (1, 12)) -> World:
    """Return groups of unequal size, each with one label; every class has a group."""
    classes = len(shares)
    labels = np.concatenate([np.arange(classes), random.choice(classes, groups - classes, p=shares)])
    of = np.repeat(np.arange(groups), random.integers(*sizes, groups, endpoint=True))
    return World(random.permutation(labels)[of], of)


def sized_by_class(random: Random) -> World:
    """Return groups of one label each, where those of one class are ten times as large."""
    labels = random.permutation(np.arange(30) % 2)
    of = np.repeat(np.arange(30), np.where(labels == 0, 20, 2))
    return World(labels[of], of)


def unequal(random: Random, groups: int, means: tuple[float, ...], shares: tuple[float, ...] | None = None) -> World:
    """Return groups with one label each, and a mean size for each class; the sizes of classes overlap."""
    classes = len(means)
    labels = np.concatenate([np.arange(classes), random.choice(classes, groups - classes, p=shares)])
    of = np.repeat(np.arange(groups), 1 + random.poisson(np.array(means)[labels] - 1))
    return World(labels[of], of)


def alone(random: Random) -> World:
    """Return a class that is in one group only."""
    labels = np.concatenate([[2], np.arange(19) % 2])
    of = np.repeat(np.arange(20), random.integers(2, 9, 20))
    return World(labels[of], of)


def mixed(random: Random, groups: int, rows: int, pure: float = 0.0) -> World:
    """Return groups with their own shares of the classes; `pure` is the share of groups that have one label."""
    of = np.repeat(np.arange(groups), random.integers(rows // 2, rows * 3 // 2, groups, endpoint=True))
    share = np.where(random.random(groups) < pure, random.integers(2, size=groups), random.beta(1, 1, groups))
    y = (random.random(len(of)) < share[of]).astype(int)
    y[:2] = 0, 1
    return World(y, of)


def sites(random: Random, fold_column: bool, means: tuple[float, float] = (2.5, 2.5)) -> World:
    """Return sites of several recordings, with their own shares of the classes; a recording has one label.

    The classes have their own mean number of rows in a recording.
    """
    site, share = np.arange(12 * 6) // 6, random.beta(0.7, 0.7, 12)
    y = (random.random(72) < share[site]).astype(int)
    y[:2] = 0, 1
    recordings = np.repeat(np.arange(72), 1 + random.poisson(np.array(means)[y] - 1))
    return World(y[recordings], site[recordings], recordings, site[recordings] if fold_column else None)


def stratified_folds(random: Random, means: tuple[float, float, float] = (2.5, 2.5, 2.5)) -> World:
    """Return recordings with one label in five given folds, each with the same number of every class."""
    y = np.arange(60) // 5 % 3
    recordings = np.repeat(np.arange(60), 1 + random.poisson(np.array(means)[y] - 1))
    return World(y[recordings], recordings, fold=(np.arange(60) % 5)[recordings])


def official(random: Random) -> World:
    """Return a given training and test part with other shares of the classes."""
    world = constant(random, 60, (0.5, 0.5))
    is_test = world.groups >= 40
    y = np.where(random.random(60) < np.where(np.arange(60) < 40, 0.3, 0.7), 1, 0)
    y[[0, 1, 58, 59]] = 0, 1, 0, 1
    return replace(world, y=y[world.groups], fold=np.where(is_test, 0, -1))


def in_runs(random: Random) -> World:
    """Return recordings whose labels change now and then, and whose vectors change slowly."""
    of = np.repeat(np.arange(12), 30)
    y = np.concatenate([np.cumsum(random.random(30) < 0.12) + random.integers(2) for _ in range(12)]) % 2
    return World(y, of, drift=0.9)


def label_sets(random: Random, mixed_groups: bool) -> World:
    """Return rows with any of three labels; those of a group are equal unless `mixed_groups`."""
    of = np.repeat(np.arange(30), random.integers(2, 9, 30))
    sets = (random.random((len(of) if mixed_groups else 30, 3)) < [0.5, 0.3, 0.2]).astype(int)
    return World(sets if mixed_groups else sets[of], of)


def unequal_sets(random: Random) -> World:
    """Return groups with any of eight labels, the same in all rows; groups with the first one are larger."""
    sets = (random.random((40, 8)) < 0.3).astype(int)
    of = np.repeat(np.arange(40), 1 + random.poisson(1 + 11 * sets[:, 0]))
    return World(sets[of], of)


def by_kind(random: Random, kind: str) -> World:
    """Return groups with one label each, and a kind of head that is tested itself."""
    return replace(constant(random, 20, (0.5, 0.5)), kind=kind)


def leaky(random: Random) -> World:
    """Return groups with one label each, whose rows are on both sides of the split."""
    return replace(constant(random, 30, (0.5, 0.5)), leaky=True)


NULLS: dict[str, Callable[[Random], World]] = {
    "5 groups with several labels": partial(mixed, groups=5, rows=16),
    "10 groups with one label each": partial(constant, groups=10, shares=(0.5, 0.5)),
    "40 groups, classes of 80, 15 and 5 %": partial(constant, groups=40, shares=(0.8, 0.15, 0.05)),
    "400 groups, 10 classes": partial(constant, groups=400, shares=(0.1,) * 10, sizes=(1, 2)),
    "groups of one class ten times as large": sized_by_class,
    "10 groups, those of one class six times as large": partial(unequal, groups=10, means=(12, 2)),
    "20 groups, those of the rare class smaller": partial(unequal, groups=20, means=(2, 20), shares=(0.2, 0.8)),
    "60 groups, 10 classes, sizes of 1 to 25 by class": partial(
        unequal, groups=60, means=tuple(np.geomspace(1, 25, 10))
    ),
    "a class in one group only": alone,
    "40 groups with several labels": partial(mixed, groups=40, rows=6),
    "40 groups, half of them with several labels": partial(mixed, groups=40, rows=6, pure=0.5),
    "12 sites of 6 recordings": partial(sites, fold_column=False),
    "12 sites of 6 recordings, each site a given fold": partial(sites, fold_column=True),
    "12 sites of 6 recordings, those of one class longer": partial(sites, fold_column=False, means=(1.2, 10)),
    "given folds with equal shares of the classes": stratified_folds,
    "given folds, recordings of one class longer": partial(stratified_folds, means=(12, 2, 4)),
    "given training and test part, other shares": official,
    "labels in runs, vectors that change slowly": in_runs,
    "label sets, equal within a group": partial(label_sets, mixed_groups=False),
    "label sets, groups with one of the labels larger": unequal_sets,
    "label sets, several in a group": partial(label_sets, mixed_groups=True),
    "leaky split": leaky,
    "knn head, 20 groups with one label each": partial(by_kind, kind="knn"),
    "prototype head, 20 groups with one label each": partial(by_kind, kind="prototype"),
}
CLEAR: dict[str, Callable[[Random], World]] = {
    "5 groups with several labels": NULLS["5 groups with several labels"],
    "16 groups with one label each": partial(constant, groups=16, shares=(0.5, 0.5), sizes=(4, 12)),
    "groups of one class ten times as large": sized_by_class,
    "60 groups, 10 classes, sizes of 1 to 25 by class": NULLS["60 groups, 10 classes, sizes of 1 to 25 by class"],
    "40 groups, classes of 80, 15 and 5 %": NULLS["40 groups, classes of 80, 15 and 5 %"],
    "12 sites of 6 recordings": NULLS["12 sites of 6 recordings"],
    "given folds with equal shares of the classes": stratified_folds,
    "label sets, equal within a group": NULLS["label sets, equal within a group"],
    "knn head, 20 groups with one label each": partial(by_kind, kind="knn"),
}


def simulate(scale: float, seed: int) -> list[Claim]:
    """Count how often the test finds something, without and with a signal."""
    trials, clear = max(3, round(TRIALS * scale)), max(1, round(CLEAR_TRIALS * scale))
    random = np.random.default_rng(seed)
    claims, alarms = [], []
    with limit_threads(1):
        for text, draw in NULLS.items():
            alarms.append(np.mean([passes(draw(random), 0, random) for _ in range(trials)]))
            claims.append(Claim(f"no signal: {text}", float(alarms[-1]), trials, high=0.05))
        five = [constant(random, 5, (0.5, 0.5)) for _ in range(trials)]
        told = float(np.mean([not run(world, 0, random).possible for world in five]))
        claims.append(Claim("5 groups with one label each: the test says that it cannot reach 0.025", told, trials, 1))
        wide = [replace(constant(random, 30, (0.5, 0.5)), spread=3.0) for _ in range(trials)]
        told = float(np.mean([passes(world, 0, random) for world in wide]))
        text = "vectors of one class three times as far from the common mean, which is a difference: called better"
        claims.append(Claim(text, told, trials, high=0.15))
        for text, draw in CLEAR.items():
            found = np.mean([passes(draw(random), CLEAR_SIGNAL, random) for _ in range(clear)])
            claims.append(
                Claim(f"classes {CLEAR_SIGNAL} deviations from the others: {text}", float(found), clear, low=0.95)
            )
    pooled = Claim("no signal: all together", float(np.mean(alarms)), trials * len(NULLS), 0.015, 0.03)
    return [pooled, *claims]


def passes(world: World, signal: float, random: Random) -> bool:
    """Return whether the test finds that the labels of a world are told better than by chance."""
    return run(world, signal, random).passed


def run(world: World, signal: float, random: Random) -> ChanceTest:
    """Draw vectors, and test."""
    y, groups = world.y, world.groups
    rows, multilabel = len(y), y.ndim == 2
    truth = y if multilabel else np.eye(y.max() + 1)[y]
    noise = random.standard_normal((rows, DIM))
    for row in range(1, rows) if world.drift else ():
        if groups[row] == groups[row - 1]:
            noise[row] = world.drift * noise[row - 1] + (1 - world.drift**2) ** 0.5 * noise[row]
    offsets = random.standard_normal((groups.max() + 1, DIM))
    directions = np.linalg.qr(random.standard_normal((DIM, truth.shape[1])))[0].T
    spread = 1 + (world.spread - 1) * truth[:, :1]
    x = (spread * (noise + offsets[groups]) + signal * truth @ directions).astype(np.float32)
    everything = np.arange(rows)
    if world.fold is None:
        parts = [Split("1", everything, NO_ROWS, everything)]  # the test makes folds of its own
    else:
        parts = [
            Split(str(f), everything[world.fold != f], NO_ROWS, everything[world.fold == f])
            for f in range(world.fold.max() + 1)
        ]
    splits = Splits(tuple(parts), "", groups, leaky=world.leaky, by_column=world.fold is not None)
    targets = Targets(
        everything, tuple(map(str, range(truth.shape[1]))), y, multilabel, np.ones(rows, np.float32), 0, 0
    )
    recordings = groups if world.recordings is None else world.recordings
    data = LabelledVectors(("v",), x, targets, splits)
    test = compare_labels(
        data, [str(one) for one in recordings], PERMUTATIONS, int(random.integers(2**31)), HeadOptions(world.kind)
    )
    assert test is not None
    return test
