"""Suggest: a head and rows without labels -> the rows whose labels would teach most.

The ways are those of active learning: where the head is undecided (margin, uncertainty), what is unlike all that is
labelled (diverse), and what scores near a bound (band). Labels come back through `embedx label`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedx.errors import NothingToDo, UsageError
from embedx.evaluation.targets import column
from embedx.heads.head import Head
from embedx.index.vectors import unit
from embedx.store.records import Row
from embedx.store.store import Store

By = Literal["margin", "uncertainty", "diverse", "band", "random"]
WAYS: tuple[str, ...] = get_args(By)
WITHOUT_HEAD = ("diverse", "random")
PLACE, REMARKS = ("id", "path", "start_s", "end_s"), ("suggested", "probability", "value")

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Suggestion:
    """A row to label, what the head takes it for, how sure it is (0 to 1), and the number it was chosen by."""

    id: int
    path: str
    start_s: float
    end_s: float
    suggested: str | None
    probability: float | None
    value: float


class Suggestions(list[Suggestion]):
    """Suggestions, the most telling first, and the column to be filled in."""

    def __init__(self, label: str, found: Sequence[Suggestion]) -> None:
        super().__init__(found)
        self.label = label

    def columns(self) -> dict[str, list[Any]]:
        """Return name -> values of a table that `embedx label` takes back: an empty column, and remarks with a "_"."""
        columns: dict[str, list[Any]] = {name: [getattr(one, name) for one in self] for name in PLACE}
        columns[self.label] = [None] * len(self)
        return columns | {f"_{name}": [getattr(one, name) for one in self] for name in REMARKS}


def suggest(
    store: Store,
    head: Head | None,
    view: str | Sequence[str],
    *,
    by: str = "margin",
    n: int = 20,
    label: str | None = None,
    ids: Sequence[int] | None = None,
    of_class: str | None = None,
    score_band: tuple[float, float] | None = None,
    stratify: str | None = None,
    seed: int = 0,
) -> Suggestions:
    """Choose rows without a label, the most telling first.

    Args:
        store: the collection's.
        head: what judges the rows; "diverse" and "random" need none.
        view: the vectors that the head takes, or for "diverse" those that are compared.
        by: "margin": the two likeliest classes are closest (several labels: one is nearest to 0.5). "uncertainty": the
            highest entropy. "diverse": each the farthest, by cosine, from all labelled rows and those chosen before.
            "band": the probability of a class is between two bounds, nearest to their middle first. "random".
        n: how many.
        label: the column that is empty in the rows to choose from; that which the head learned, or "label".
        ids: choose from these rows only.
        of_class, score_band: for "band"; without a class the likeliest one's probability counts.
        stratify: a column; its values take turns, so that each has its share ("path": every recording).
        seed: of "random", and of the first row of "diverse" where nothing is labelled.

    Raises:
        UsageError: an argument that cannot be meant.
        NothingToDo: every row has a label.
    """
    check(by, n, head, of_class, score_band)
    label = learned_by(head) if label is None else label
    rows = store.rows(ids)
    known = column_or_empty(rows, label)
    candidates = [row for row, value in zip(rows, known, strict=True) if value is None]
    if not candidates:
        raise NothingToDo(f"Every row has a {label!r}; there is nothing to suggest.")
    turns = [""] * len(candidates) if stratify is None else [value or "" for value in column(candidates, stratify)]
    x = vectors_of(store, candidates, view)
    proba = None if head is None else head.predict_proba(x, calibrated=head.calibrated)
    random = np.random.default_rng(seed)
    if by == "diverse":
        labelled = [row for row, value in zip(rows, known, strict=True) if value is not None]
        last = x if x.ndim == 2 else x[:, -1]
        known_x = vectors_of(store, labelled, view if isinstance(view, str) else view[-1])
        order, values = farthest(unit(last), unit(known_x), turns, n, random)
    else:
        if by == "random":
            values = random.random(len(candidates))
        else:
            assert head is not None and proba is not None
            values = score(by, proba, head, of_class, score_band)
        order = take_turns(np.argsort(-values, kind="stable"), turns, n)
        order = order[np.isfinite(values[order])]
    found = []
    for place in order.tolist():
        row, best = candidates[place], None if proba is None else int(proba[place].argmax())
        guess = None if head is None or best is None else head.classes[best]
        sure = None if proba is None or best is None else round(float(proba[place, best]), 6)
        found.append(Suggestion(row.id, row.path, row.start_s, row.end_s, guess, sure, round(float(values[place]), 6)))
    return Suggestions(label, found)


def learned_by(head: Head | None) -> str:
    """Return the column that a head was fitted on."""
    learned = head.settings.get("training", {}).get("label", "label") if head else "label"
    if not isinstance(learned, str):
        raise UsageError(f"The head learned several columns ({', '.join(learned)}); say which is empty: label.")
    return learned


def check(by: str, n: int, head: Head | None, of_class: str | None, score_band: tuple[float, float] | None) -> None:
    """Refuse what cannot be meant."""
    if by not in WAYS:
        raise UsageError(f"by is one of {', '.join(WAYS)}, not {by!r}.")
    if n < 1:
        raise UsageError(f"n must be 1 or more, not {n}.")
    if head is None and by not in WITHOUT_HEAD:
        raise UsageError(
            f"{by!r} needs a head that judges the rows: `embedx train` makes one; without: {', '.join(WITHOUT_HEAD)}."
        )
    if (score_band is not None) != (by == "band"):
        raise UsageError("'band' and score_band (two probabilities) belong together.")
    if score_band is not None and not 0 <= score_band[0] < score_band[1] <= 1:
        raise UsageError(f"score_band is two probabilities from 0 to 1, the lower first, not {score_band}.")
    if of_class is not None and (head is None or of_class not in head.classes):
        classes = ", ".join(head.classes) if head else "none, without a head"
        raise UsageError(f"There is no class {of_class!r}. Classes of the head: {classes}.")


def score(by: str, proba: Scores, head: Head, of_class: str | None, score_band: tuple[float, float] | None) -> Scores:
    """Return how much a label of each row would teach [N]; -inf for rows outside of a band."""
    if by == "band":
        assert score_band is not None
        asked = proba.max(axis=1) if of_class is None else proba[:, head.classes.index(of_class)]
        inside = (asked >= score_band[0]) & (asked <= score_band[1])
        return np.where(inside, -np.abs(asked - sum(score_band) / 2), -np.inf)
    if by == "margin":
        if head.multilabel or proba.shape[1] == 1:
            return np.asarray(-np.abs(proba - 0.5).min(axis=1))
        second, first = np.sort(proba, axis=1)[:, -2:].T
        return np.asarray(second - first)
    both = np.stack([proba, 1 - proba], axis=-1) if head.multilabel else proba[..., None]
    logs = np.log(both, out=np.zeros_like(both), where=both > 0)
    return np.asarray(-(both * logs).sum(axis=(1, 2)))


def farthest(
    x: NDArray[np.float32], known: NDArray[np.float32], turns: Sequence[str], n: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], Scores]:
    """Choose unit vectors x [N, D] one by one, each the least like those known [M, D] and chosen before it.

    Returns the order of the chosen, and for every row its distance (1 - cosine) when it was chosen or last looked at.
    """
    distance = np.full(len(x), 2.0)
    for start in range(0, len(known), 1024):
        distance = np.minimum(distance, 1 - (x @ known[start : start + 1024].T).max(axis=1))
    if not len(known):
        distance += random.random(len(x)) * 1e-6  # any row may be the first
    values, left = distance.copy(), np.ones(len(x), bool)
    order: list[int] = []
    numbers = np.unique(np.array(turns), return_inverse=True)[1]
    used = np.zeros(numbers.max() + 1, np.int64)
    while len(order) < n and left.any():
        allowed = left & (used[numbers] == used[np.unique(numbers[left])].min())
        place = int(np.where(allowed, distance, -np.inf).argmax())
        order.append(place)
        values[place] = distance[place]
        left[place] = False
        used[numbers[place]] += 1
        distance = np.minimum(distance, 1 - x @ x[place])
    return np.array(order, np.int64), values


def take_turns(order: NDArray[np.int64], turns: Sequence[str], n: int) -> NDArray[np.int64]:
    """Take n from an order, one of every kind in turn.

    >>> take_turns(np.array([0, 1, 2, 3]), ["a", "a", "a", "b"], 3).tolist()
    [0, 3, 1]
    """
    taken: dict[str, int] = {}
    rounds = []
    for place in order.tolist():
        taken[turns[place]] = taken.get(turns[place], 0) + 1
        rounds.append(taken[turns[place]])
    return order[np.argsort(np.array(rounds), kind="stable")][:n]


def vectors_of(store: Store, rows: Sequence[Row], view: str | Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors of rows, [N, D], or [N, L, D] of several views."""
    ids = [row.id for row in rows]
    if isinstance(view, str):
        return store.vectors(view, ids)[1]
    matrices = [store.vectors(one, ids)[1] for one in view]
    return matrices[0] if len(matrices) == 1 else np.stack(matrices, axis=1)


def column_or_empty(rows: Sequence[Row], name: str) -> list[str | None]:
    """Return a column as text, all None where no row has it yet."""
    try:
        return column(rows, name)
    except UsageError:
        return [None] * len(rows)
