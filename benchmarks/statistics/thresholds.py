"""A head is trained on simulated recordings; its thresholds for a precision or recall of 0.9 are used on new ones.

A trial is a class of a collection for which there is a threshold; it holds if the precision (or recall) is 0.9 or more
on about 4 000 rows of new recordings. Rows of a recording are alike. Classes have 2 to 50 % of the rows.
"""

import logging
from collections.abc import Iterator

import numpy as np
from claims import Claim
from numpy.typing import NDArray
from worlds import World

from embedx.evaluation.cross_validation import make_fit
from embedx.evaluation.splits import NO_ROWS
from embedx.heads.options import HeadOptions
from embedx.heads.thresholds import operating_points, pick_thresholds
from embedx.training.held_out import finish_head
from embedx.training.predict import combine, group_positions

TARGET, WANTED = 0.9, 0.9  # precision or recall; share of the trials that reach it
ONE, SEVERAL = (0.5, 0.3, 0.13, 0.05, 0.02), (0.5, 0.2, 0.1, 0.05, 0.02)  # frequencies of classes
NEW_RECORDINGS = 1000
COLLECTIONS = 30  # per world, at scale 1
WORLDS: dict[str, tuple[World, HeadOptions, str, int, str]] = {
    "logistic, one class, 150 recordings": (World(ONE), HeadOptions(settings={"C": 0.1}), "temperature", 150, "window"),
    "logistic, several classes, 150 recordings, rows with their own labels": (
        World(SEVERAL, multilabel=True, same_label=False), HeadOptions(settings={"C": 0.1}), "isotonic", 150, "window",
    ),
    "overfitted logistic, 100 recordings, 60 dimensions": (
        World((0.5, 0.5), dimensions=60, distance=5), HeadOptions(settings={"C": 1000.0}), "temperature", 100, "window",
    ),
    "knn, one class, lengths that differ widely, 400 recordings": (
        World(ONE, spread=1.0), HeadOptions("knn"), "temperature", 400, "window",
    ),
    "prototype, several classes, recordings by mean, 300 recordings": (
        World(SEVERAL, multilabel=True, distance=5), HeadOptions("prototype"), "none", 300, "mean",
    ),
    "logistic, one class, recordings by max, 300 recordings": (
        World(ONE, alike=1.0), HeadOptions(settings={"C": 0.1}), "temperature", 300, "max",
    ),
    "logistic, 3 classes, rows with their own labels, recordings of 1 to 50 rows, 250 recordings": (
        World((0.6, 0.3, 0.1), distance=4, same_label=False, rows=6, spread=1.2), HeadOptions(settings={"C": 1.0}),
        "isotonic", 250, "window",
    ),
    "prototype, 20 classes, recordings by mean, 900 recordings": (
        World((0.15, *(0.85 / 19,) * 19), distance=6, dimensions=30), HeadOptions("prototype"), "temperature", 900,
        "mean",
    ),
    "knn, 8 classes at once, recordings by max, 300 recordings": (
        World((0.4, 0.3, 0.2, *(0.1,) * 5), multilabel=True, distance=6, dimensions=24, alike=1.0),
        HeadOptions("knn", settings={"k": 15}), "temperature", 300, "max",
    ),
}  # fmt: skip


def simulate(scale: float, seed: int) -> list[Claim]:
    """Return how often thresholds hold, for each world, and how often a class without one gets none."""
    logging.getLogger("embedx").setLevel(logging.ERROR)  # it names classes without a threshold
    trials = max(1, round(COLLECTIONS * scale))
    claims = []
    for name in WORLDS:
        outcomes = [outcome for trial in range(trials) for outcome in try_collection(name, 1000 * seed + trial)]
        for figure in ("precision", "recall"):
            held = [reached for asked, _, reached in outcomes if asked == figure and reached is not None]
            given = [reached is not None for asked, common, reached in outcomes if asked == figure and common]
            if held:
                claims.append(Claim(f"{name}: {figure} reached", float(np.mean(held)), len(held), low=WANTED))
            text = f"{name}: {figure}, the commonest class has a threshold"
            claims.append(Claim(text, float(np.mean(given)), len(given), low=0.2))
    flat = [has_threshold_without_reason(seed, trial) for trial in range(max(20, round(1000 * scale)))]
    text = "0.89 of the rows are right, whatever the threshold: a threshold for a precision of 0.9 is given"
    return [*claims, Claim(text, float(np.mean(flat)), len(flat), high=0.05)]


def try_collection(name: str, seed: int) -> Iterator[tuple[str, bool, bool | None]]:
    """Train a head; yield for each figure and class: the figure, whether the class is the commonest, what is reached.

    The last is None for a class without a threshold.
    """
    world, options, method, recordings, unit = WORLDS[name]
    data, recording = world.collection(recordings, 2 * seed, means_seed=seed)
    head = make_fit(data, options)(data.development, NO_ROWS)
    finished = finish_head(data, recording.tolist(), head, method, options)
    assert finished is not None
    head = finished.head
    x, y, recording = world.draw(NEW_RECORDINGS, 2 * seed + 1, means_seed=seed)
    proba = head.predict_proba(x, calibrated=head.calibrated)
    per, aggregate = ("window", "mean") if unit == "window" else ("recording", unit)
    if per == "recording":
        windows = group_positions(recording.tolist())
        proba, y = combine(proba, windows, aggregate), y[[numbers[0] for numbers in windows]]
    truth = y == 1 if world.multilabel else np.eye(len(world.frequencies))[y] == 1
    for figure, precision, recall in (("precision", TARGET, None), ("recall", None, TARGET)):
        thresholds = head.thresholds(precision=precision, recall=recall, per=per, aggregate=aggregate)
        predicted = head.choose(proba, thresholds)
        for c, threshold in enumerate(thresholds):
            reached = None if np.isinf(threshold) else measure(figure, truth[:, c], predicted[:, c]) >= TARGET
            yield figure, c == 0, reached


def measure(figure: str, truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Return the precision or recall of one class; 1 where nothing is predicted or nothing is there."""
    rows = predicted if figure == "precision" else truth
    return float((truth & predicted).sum() / rows.sum()) if rows.any() else 1.0


def has_threshold_without_reason(seed: int, trial: int) -> bool:
    """Tell whether there is a threshold for a precision of 0.9 where every threshold has one of 0.89."""
    random = np.random.default_rng([seed, trial])
    group = np.repeat(np.arange(150), random.integers(1, 6, 150))
    right = (random.random(150) < TARGET - 0.01)[group]
    points = operating_points(random.random((len(group), 1)), right[:, None].astype(int), group, True)
    return bool(np.isfinite(pick_thresholds(points, TARGET, None).values[0]))
