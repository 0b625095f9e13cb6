"""A head is trained and calibrated on simulated recordings, where held-out rows show that this helps.

A trial is a collection. Log loss and calibration error (ECE) are measured on about 2 000 rows of new recordings, with
what the head kept and without any calibration.
"""

import numpy as np
from claims import Claim
from worlds import World

from embedx.evaluation.cross_validation import make_fit
from embedx.evaluation.splits import NO_ROWS
from embedx.heads.options import HeadOptions
from embedx.training.held_out import calibration_error, finish_head, row_losses

CHANCE = 0.05  # share of collections in which a calibration that does not help is kept
ONE, SEVERAL = (0.5, 0.3, 0.15, 0.05), (0.5, 0.2, 0.1, 0.02)  # frequencies of classes
NEW_RECORDINGS = 500
COLLECTIONS = 40  # per world and method, at scale 1
SURE, MILD = HeadOptions(settings={"C": 1000.0}), HeadOptions(settings={"C": 0.1})
WORLDS: dict[str, tuple[World, HeadOptions, int]] = {
    "logistic, 20 recordings": (World((0.5, 0.5), distance=2), MILD, 20),
    "logistic, 400 recordings": (World(ONE), MILD, 400),
    "logistic, several classes, 100 recordings": (World(SEVERAL, multilabel=True), MILD, 100),
    "overfitted logistic, 30 recordings, 60 dimensions": (World((0.6, 0.4), dimensions=60), SURE, 30),
    "overfitted logistic, several classes, 200 recordings, 60 dimensions": (
        World(SEVERAL, multilabel=True, dimensions=60), SURE, 200,
    ),
    "knn, 300 recordings": (World(ONE), HeadOptions("knn"), 300),
    "knn, several classes, 150 recordings": (World(SEVERAL, multilabel=True), HeadOptions("knn"), 150),
    "prototype, 40 recordings": (World(ONE, distance=2.5), HeadOptions("prototype"), 40),
}  # fmt: skip


def simulate(scale: float, seed: int) -> list[Claim]:
    """Return for each world how often a calibration makes new rows worse, and how often it is kept."""
    trials = max(1, round(COLLECTIONS * scale))
    claims = []
    for name, (world, options, recordings) in WORLDS.items():
        for method in ("temperature", "isotonic"):
            seeds = range(1000 * seed, 1000 * seed + trials)
            results = np.array([try_collection(world, options, recordings, method, one) for one in seeds])
            worse, kept = (results > 1e-9).mean(axis=0), (results != 0).any(axis=1).mean()
            for figure, share in zip(("log loss", "ECE"), worse, strict=True):
                text = f"{name}, {method} (kept in {kept:.0%}): {figure} of new rows rises"
                claims.append(Claim(text, float(share), trials, high=CHANCE))
    return claims


def try_collection(world: World, options: HeadOptions, recordings: int, method: str, seed: int) -> tuple[float, float]:
    """Train a head; return the change of the log loss and of the ECE of new rows; both are 0 if nothing was kept."""
    data, recording = world.collection(recordings, 2 * seed, means_seed=seed)
    head = make_fit(data, options)(data.development, NO_ROWS)
    finished = finish_head(data, recording.tolist(), head, method, options)
    if finished is None or not finished.head.calibrated:
        return 0.0, 0.0
    x, y, _ = world.draw(NEW_RECORDINGS, 2 * seed + 1, means_seed=seed)
    logits = head.logits(x)
    before, after = head.to_proba(logits), finished.head.to_proba(logits, calibrated=True)
    losses = [row_losses(proba, y, world.multilabel).mean() for proba in (before, after)]
    errors = [calibration_error(proba, y, world.multilabel) for proba in (before, after)]
    return float(losses[1] - losses[0]), errors[1] - errors[0]
