"""Suspect labels: rows whose label both a held-out head and their held-out neighbours contradict.

The head decides by confident learning (Northcutt, Jiang and Chuang, JAIR 2021): the threshold of a class is the mean
probability that rows with its label get for it. The rows above a threshold give the share of the rows of each label
that belong to each other class. So many rows of the label are suspect: those that are most clearly of the other class,
which is their most probable one. The neighbours are the nearest rows that are not in its test part; most of them must
have another label too. Of a large collection, only the neighbours of rows that the head contradicts are looked for, and
among a sample of the other rows, so that the time grows with the rows and not with their square.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.cross_validation import Experiment, HeldOutPredictions
from embedx.evaluation.targets import Targets
from embedx.filesystem.paths import display_path
from embedx.index.vectors import unit
from embedx.text import plural

NEIGHBOURS = 5  # an odd number, as for a vote of two classes
CHUNK = 2048  # rows that are compared with all others at a time
MAX_ROWS = 20_000  # a collection with more is large
MAX_OTHERS = 50_000  # rows of the sample; 20 000 rows of 128 numbers are compared with them in 20 s
MAX_SCORES = 2**22  # of a large collection in memory at a time: 16 MB, and 48 MB to sort them
SEED = 0  # of the sample
MAX_PRINTED = 50  # rows of the text; all are in `to_dict`


@dataclass(frozen=True)
class Suspect:
    """A row whose label is probably wrong.

    Attributes:
        id, path, start_s, end_s: the row.
        label: its label.
        suggested: the class that the head finds instead.
        probability, of_label: the held-out probabilities of the suggested class and of its label.
        neighbours: the share of its nearest held-out rows that have another label.
    """

    id: int
    path: str
    start_s: float
    end_s: float
    label: str
    suggested: str
    probability: float
    of_label: float
    neighbours: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def find_suspects(experiment: Experiment, held_out: HeldOutPredictions) -> tuple[Suspect, ...]:
    """Return the rows whose label is probably wrong, the clearest first.

    Args:
        experiment: rows with one class each.
        held_out: predictions by heads that were not trained on the row.

    Raises:
        UsageError: a row can have several labels.
    """
    targets = experiment.targets
    check_one_class(targets)
    y, proba = targets.y[held_out.positions], held_out.proba
    suggested = contradicted(y, proba)
    asked = np.zeros(len(targets.y), bool)
    asked[held_out.positions] = (suggested != y) | (len(asked) <= MAX_ROWS)
    against = neighbours_against(experiment, asked)[held_out.positions]
    chosen = np.flatnonzero((suggested != y) & (against > 0.5))
    margin = proba[chosen, suggested[chosen]] - proba[chosen, y[chosen]]
    suspects = []
    for number in chosen[np.lexsort((held_out.positions[chosen], -margin))].tolist():
        row, other = experiment.rows[held_out.positions[number]], int(suggested[number])
        suspects.append(
            Suspect(
                row.id, row.path, row.start_s, row.end_s, targets.classes[y[number]], targets.classes[other],
                float(proba[number, other]), float(proba[number, y[number]]), float(against[number]),
            )
        )  # fmt: skip
    return tuple(suspects)


def check_one_class(targets: Targets) -> None:
    """Refuse rows that can have several labels."""
    if targets.multilabel:
        raise UsageError("--suspect-labels (suspect_labels=) needs one class per row, not several labels.")


def contradicted(y: NDArray[np.int64], proba: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the class [N] that confident learning finds for each row: its label y [N] where nothing contradicts it.

    >>> y = np.array([0, 0, 1, 1, 1])
    >>> contradicted(y, np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.95, 0.05]])).tolist()
    [0, 0, 1, 1, 0]
    """
    numbers, classes = np.arange(len(y)), proba.shape[1]
    thresholds = np.array([proba[y == c, c].mean() if (y == c).any() else np.inf for c in range(classes)])
    confident = np.where(proba >= thresholds, proba, -np.inf)
    counted = np.isfinite(confident.max(axis=1))
    joint = np.zeros((classes, classes))
    np.add.at(joint, (y[counted], confident.argmax(axis=1)[counted]), 1)
    shares = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1)
    found, best = y.copy(), proba.argmax(axis=1)
    for label in range(classes):
        rows = numbers[y == label]
        for other in np.flatnonzero(shares[label]):
            candidates = rows[(best[rows] == other) & (other != label)]
            margins = proba[candidates, other] - proba[candidates, label]
            expected = math.ceil(shares[label, other] * len(rows))
            found[candidates[np.argsort(-margins, kind="stable")[:expected]]] = other
    return found


def neighbours_against(experiment: Experiment, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share [N] of the nearest rows that have another label, of rows outside the test part.

    Args:
        experiment: the N rows.
        asked: the rows [N] whose neighbours are looked for; the share of others is 0.
    """
    x, y = experiment.x if experiment.x.ndim == 2 else experiment.x[:, -1], experiment.targets.y
    against = np.zeros(len(x))
    for part in experiment.splits.parts:
        others, tested = sample_of(part.learned), part.test[asked[part.test]]
        k, vectors = min(NEIGHBOURS, len(others)), unit(x[others])
        rows_at_a_time = CHUNK if len(x) <= MAX_ROWS else max(1, MAX_SCORES // max(1, len(others)))
        for start in range(0, len(tested) if k else 0, rows_at_a_time):
            rows = tested[start : start + rows_at_a_time]
            nearest = others[np.argpartition(-(unit(x[rows]) @ vectors.T), k - 1, axis=1)[:, :k]]
            against[rows] = (y[nearest] != y[rows][:, None]).mean(axis=1)
    return against


def sample_of(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of a training part among which neighbours are looked for: all, or MAX_OTHERS of more."""
    if len(rows) <= MAX_OTHERS:
        return rows
    return np.sort(np.random.default_rng(SEED).choice(rows, MAX_OTHERS, replace=False))


def count_sampled(experiment: Experiment) -> int | None:
    """Return among how many rows of a training part neighbours are looked for; None: in each part among all."""
    return MAX_OTHERS if any(len(part.learned) > MAX_OTHERS for part in experiment.splits.parts) else None


def describe_suspects(suspects: Sequence[Suspect], sampled: int | None) -> list[str]:
    """Return the lines that show suspect rows, whose neighbours were looked for among so many rows (None: all)."""
    lines = [
        "",
        f"Suspect labels: {plural(len(suspects), 'row')}, whose held-out head and neighbours find another class.",
        *([f"Neighbours: among a sample of {sampled} rows of each training part."] if sampled else []),
        *(
            f"  row {one.id}: {one.label} -> {one.suggested} ({one.probability:.2f} against {one.of_label:.2f}; "
            f"{one.neighbours:.0%} of the neighbours differ)  {display_path(one.path)} {one.start_s:g}-{one.end_s:g} s"
            for one in suspects[:MAX_PRINTED]
        ),
    ]
    if len(suspects) > MAX_PRINTED:
        lines.append(f"  and {len(suspects) - MAX_PRINTED} more; --format json has all.")
    return lines
