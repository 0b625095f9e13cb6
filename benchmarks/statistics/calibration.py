"""A head is trained and calibrated on simulated recordings. The calibration is kept where held-out rows show that it
helps; log loss and calibration error (ECE) of new rows must then not rise. A set is a trial, and counts as right if
nothing is kept. Where a head is far too sure and there are many recordings, a calibration must be kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from claims import Claim
from worlds import World

from embedx.evaluation.cross_validation import make_fit
from embedx.evaluation.splits import NO_ROWS
from embedx.heads.options import HeadOptions
from embedx.training.calibration_trial import calibration_error, row_losses
from embedx.training.held_out import finish_head

CHANCE, MOST = 0.05, 0.5  # share of sets that may get worse; share of the clear cases that must keep a calibration
NEW_ROWS = 3000
SETS = 816  # at scale 1: 204 of each kind of head and number of recordings
CLEAR_SETS = 20  # of each clear case and method, at scale 1
RECORDINGS, CLASSES, ROWS = (20, 40, 150, 600), (2, 5, 20), (1.0, 10.0)
METHODS = ("temperature", "isotonic")
QUICK = {"hidden": 16, "max_epochs": 10, "batch_size": 512, "learning_rate": 0.02}
HEADS: dict[str, tuple[HeadOptions, ...]] = {
    "prototype": (HeadOptions("prototype"),),
    "knn": (HeadOptions("knn"), HeadOptions("knn", settings={"weights": "uniform", "k": 15})),
    "logistic": tuple(HeadOptions(settings={"C": penalty}) for penalty in (0.1, 1.0, 1000.0)),
    "mlp": (HeadOptions("mlp", settings=QUICK),),
}
FEWER_ROWS = ("knn", "mlp")  # of 600 recordings these have one row each: ten take seconds
CLEAR: dict[str, tuple[World, HeadOptions]] = {
    "overfitted logistic, 300 recordings": (
        World((0.2,) * 5, distance=2, dimensions=100, rows=2), HeadOptions(settings={"C": 1000.0}),
    ),
    "prototype with too low a temperature, 200 recordings": (
        World((0.5, 0.3, 0.2), distance=2.5), HeadOptions("prototype", settings={"temperature": 0.02}),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a set: its properties, whether a calibration was kept, and which figures of new rows rose."""

    properties: tuple[str, ...]
    kept: bool
    loss_rises: bool = False
    error_rises: bool = False


def simulate(scale: float, seed: int) -> list[Claim]:
    """Return for each kind of set how often a calibration makes new rows worse, and how often clear cases keep it."""
    outcomes = list(try_sets(max(8, round(SETS * scale)), seed))
    claims = []
    for name in dict.fromkeys(name for outcome in outcomes for name in outcome.properties):
        own = [outcome for outcome in outcomes if name in outcome.properties]
        kept = np.mean([outcome.kept for outcome in own])
        for figure, rises in (
            ("log loss", [outcome.loss_rises for outcome in own]),
            ("ECE", [outcome.error_rises for outcome in own]),
        ):
            text = f"{name} (kept in {kept:.0%}): {figure} of new rows rises"
            claims.append(Claim(text, float(np.mean(rises)), len(own), high=CHANCE))
    return [*claims, *(claim for name in CLEAR for claim in try_clear(name, max(1, round(CLEAR_SETS * scale)), seed))]


def try_sets(number: int, seed: int) -> Iterator[Outcome]:
    """Yield what becomes of sets; kinds of heads, numbers of recordings and of classes are about equally frequent."""
    combinations = list(product(HEADS.items(), RECORDINGS, CLASSES))
    order = np.random.default_rng(seed).permutation(len(combinations))
    for trial in range(number):
        (kind, heads), recordings, classes = combinations[order[trial % len(order)]]
        random = np.random.default_rng([seed, trial])
        rows = 1.0 if recordings == RECORDINGS[-1] and kind in FEWER_ROWS else float(random.choice(ROWS))
        is_equal, multilabel = random.random() < 0.5, random.random() < 0.2
        frequencies = np.ones(classes) if is_equal else 0.6 ** np.arange(classes) + 0.01
        frequencies /= frequencies.sum()
        world = World(
            tuple(np.clip(1.5 * frequencies, 0.02, 0.6) if multilabel else frequencies),
            multilabel,
            distance=float(random.uniform(0.5, 6)),
            alike=float(random.choice([0.0, 0.7, 1.5])),
            dimensions=int(random.choice([6, 20, 60])),
            rows=rows,
            spread=0.0 if rows == 1 else 0.4,
        )
        method = METHODS[random.integers(2)]
        properties = (
            kind,
            f"{recordings} recordings",
            f"{classes} classes",
            f"{rows:g} {'row' if rows == 1 else 'rows'} in a recording",
            "classes of equal size" if is_equal else "classes of unequal size",
            "several classes at once" if multilabel else "one class at a time",
            method,
        )
        options = heads[random.integers(len(heads))]
        kept, changes = try_collection(world, options, recordings, method, int(random.integers(2**31)))
        yield Outcome(properties, kept, *(change > 1e-9 for change in changes))


def try_clear(name: str, number: int, seed: int) -> Iterator[Claim]:
    """Yield how often a head that is far too sure keeps each method, and how often new rows get worse by it."""
    world, options = CLEAR[name]
    recordings = int(name.split()[-2])
    for method in METHODS:
        seeds = range(1000 * seed, 1000 * seed + number)
        outcomes = [try_collection(world, options, recordings, method, one) for one in seeds]
        yield Claim(f"{name}, {method}: kept", float(np.mean([kept for kept, _ in outcomes])), number, low=MOST)
        worse = np.mean([max(changes) > 1e-9 for _, changes in outcomes])
        yield Claim(f"{name}, {method}: log loss or ECE of new rows rises", float(worse), number, high=CHANCE)


def try_collection(
    world: World, options: HeadOptions, recordings: int, method: str, seed: int
) -> tuple[bool, tuple[float, float]]:
    """Train a head; return whether a calibration was kept, and the change of the log loss and of the ECE of new rows.

    New rows have the classes that the head knows. A set that no head can learn from keeps nothing.
    """
    data, recording = world.collection(recordings, 2 * seed, means_seed=seed)
    if not world.multilabel and len(np.unique(data.targets.y)) < 2:
        return False, (0.0, 0.0)
    head = make_fit(data, options)(data.development, NO_ROWS)
    finished = finish_head(data, recording.tolist(), head, method, options)
    if finished is None or not finished.head.calibrated:
        return False, (0.0, 0.0)
    x, y, _ = world.draw(max(200, round(NEW_ROWS / world.rows)), 2 * seed + 1, means_seed=seed)
    if not world.multilabel:
        known = np.isin(y, data.targets.y)
        x, y = x[known], y[known]
    logits = head.logits(x)
    before, after = head.to_proba(logits), finished.head.to_proba(logits, calibrated=True)
    losses = [row_losses(proba, y, world.multilabel).mean() for proba in (before, after)]
    errors = [calibration_error(proba, y, world.multilabel) for proba in (before, after)]
    return True, (float(losses[1] - losses[0]), errors[1] - errors[0])
