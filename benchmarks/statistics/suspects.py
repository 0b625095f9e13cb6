"""Wrong labels that `embedx probe --suspect-labels` lists: planted errors in collections of 600 rows in 60 recordings,
each in one fold. Precision is the share of the listed rows whose label is wrong, recall the share of the wrong labels
that are listed. A wrong label is another class at random, for single rows; also the class that is most alike, and
whole recordings. The accuracy is that of the probe by the labels with their errors. The last case has the limits of a
large collection, lowered: a fourth of the training rows is the sample among which neighbours are looked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from claims import Claim
from numpy.typing import NDArray
from worlds import World

from embedx.evaluation import suspects
from embedx.evaluation.cross_validation import Experiment, cross_fit, make_fit
from embedx.evaluation.leakage import Overlap
from embedx.heads.options import HeadOptions
from embedx.store.records import Row

SETS = 12  # data sets of each world, at scale 1
RECORDINGS, ROWS = 60, 10.0  # of a data set, and rows in a recording
EVEN, UNEVEN = (0.2,) * 5, (0.4, 0.3, 0.15, 0.1, 0.05)

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Planted:
    """A world with wrong labels, and the limits of its claims.

    Attributes:
        text: what is planted.
        world: how vectors and true classes are drawn.
        share: of the labels that are wrong.
        precision, recall: the lowest values that keep the claim.
        limits: rows of a large collection, and of the sample among which its neighbours are looked for.
        kind: "row" (single rows, any other class), "alike" (single rows, the class with the nearest mean) or
            "recording" (all rows of a recording, any other class).
    """

    text: str
    world: World
    share: float
    precision: float
    recall: float
    kind: str = "row"
    limits: tuple[int, int] = (suspects.MAX_ROWS, suspects.MAX_OTHERS)


CLEAR = World(EVEN, distance=6.0, alike=0.3, same_label=False, dimensions=24, rows=ROWS, spread=0.0)
FAR_APART, NEAR, MIXED = (replace(CLEAR, distance=distance) for distance in (9.0, 4.0, 2.8))
CASES = (
    Planted("5 % errors, classes far apart", FAR_APART, 0.05, 0.95, 0.9),
    Planted("5 % errors, classes clearly apart", CLEAR, 0.05, 0.9, 0.85),
    Planted("5 % errors, classes overlap a little", NEAR, 0.05, 0.8, 0.8),
    Planted("5 % errors, classes overlap more", MIXED, 0.05, 0.4, 0.6),  # a fifth of the rows look like another class
    Planted("5 % errors, classes of 5 to 40 %", replace(CLEAR, frequencies=UNEVEN), 0.05, 0.9, 0.8),
    Planted("1 % errors, classes clearly apart", CLEAR, 0.01, 0.8, 0.8),
    Planted("10 % errors, classes clearly apart", CLEAR, 0.1, 0.9, 0.85),
    Planted("20 % errors, classes clearly apart", CLEAR, 0.2, 0.9, 0.8),
    Planted("5 % errors, the class most alike", CLEAR, 0.05, 0.85, 0.8, "alike"),
    Planted("5 % errors, whole recordings", replace(CLEAR, same_label=True), 0.05, 0.8, 0.7, "recording"),
    Planted("5 % errors, neighbours from a sample", CLEAR, 0.05, 0.9, 0.85, limits=(100, 120)),
)


def simulate(scale: float, seed: int) -> list[Claim]:
    """Return precision and recall of each case."""
    return [
        claim for number, case in enumerate(CASES) for claim in judge(case, max(3, round(SETS * scale)), seed, number)
    ]


def judge(case: Planted, sets: int, seed: int, number: int) -> Iterator[Claim]:
    """Yield precision and recall over several data sets, with the accuracy of the probe."""
    found = np.array([count(case, 1000 * (seed + 1) + 100 * number + trial) for trial in range(sets)])
    listed, right, wrong = found[:, 0], found[:, 1], found[:, 2]
    text = f"{case.text} (accuracy {found[:, 3].mean():.2f})"
    for name, per_set, all_of, low in (
        ("precision", right / np.maximum(listed, 1), listed, case.precision),
        ("recall", right / np.maximum(wrong, 1), wrong, case.recall),
    ):
        error = float(per_set.std(ddof=1) / sets**0.5)
        yield Claim(f"{name}, {text}", float(right.sum() / max(1, all_of.sum())), sets, low=low, error=error)


def count(case: Planted, seed: int) -> tuple[float, float, float, float]:
    """Return how many rows are listed, how many of them are wrong, how many are wrong, and the probe's accuracy."""
    data, recording = case.world.collection(RECORDINGS, seed, means_seed=seed)
    truth = data.targets.y
    y = plant(case, data.x, truth, recording, np.random.default_rng([seed, 1]))
    rows = tuple(Row(i + 1, f"{of}.wav", 0.0, 1.0, None, None, None, (), {}) for i, of in enumerate(recording.tolist()))
    targets = replace(data.targets, y=y)
    experiment = Experiment(data.views, data.x, targets, data.splits, label="label", rows=rows, overlap=Overlap())
    held_out = cross_fit(experiment, make_fit(experiment, HeadOptions()))
    with patch.multiple(suspects, MAX_ROWS=case.limits[0], MAX_OTHERS=case.limits[1]):
        listed = np.array([suspect.id - 1 for suspect in suspects.find_suspects(experiment, held_out)], np.int64)
    accuracy = (held_out.proba.argmax(axis=1) == y[held_out.positions]).mean()
    return len(listed), float((truth != y)[listed].sum()), float((truth != y).sum()), float(accuracy)


def plant(
    case: Planted, x: NDArray[np.float32], truth: Numbers, recording: Numbers, random: np.random.Generator
) -> Numbers:
    """Return labels [N] of which some are wrong."""
    classes = len(case.world.frequencies)
    of = recording if case.kind == "recording" else np.arange(len(truth))
    is_wrong = (random.permutation(of[-1] + 1) < round(case.share * (of[-1] + 1)))[of]
    others = (truth + random.integers(1, classes, of[-1] + 1)[of]) % classes
    if case.kind == "alike":
        means = np.array([x[truth == c].mean(axis=0) for c in range(classes)])
        gaps = np.linalg.norm(means[:, None] - means, axis=2) + np.diag(np.full(classes, np.inf))
        others = gaps.argmin(axis=1)[truth]
    return np.where(is_wrong, others, truth)
