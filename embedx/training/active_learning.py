"""Active learning: a head and rows without labels -> the rows to label next.

The strategies: rows where the head is undecided (margin, uncertainty), rows that are unlike all labelled rows
(diverse), and rows whose probability lies in a band (band). Labels come back through `embedx label`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from embedx.errors import NothingToDo, UsageError
from embedx.evaluation.targets import column
from embedx.heads.head import Head
from embedx.index.vectors import unit
from embedx.store.records import Row
from embedx.store.store import Store

By = Literal["margin", "uncertainty", "diverse", "band", "random"]
STRATEGIES: tuple[str, ...] = get_args(By)
WITHOUT_HEAD = ("diverse", "random")
ROW_COLUMNS, REMARK_COLUMNS = ("id", "path", "start_s", "end_s"), ("suggested", "probability", "value")
BLOCK = 1024  # rows whose vectors are read at a time
MAX_CANDIDATES = 50_000  # rows of which "diverse" chooses: 200 MB of 1024 numbers; of more a random sample

Scores = NDArray[np.float64]


class SuggestKwargs(TypedDict, total=False):
    """The fields of `SuggestOptions` as keywords."""

    by: str
    n: int
    label: str | None
    of_class: str | None
    score_band: tuple[float, float] | None
    stratify: str | None
    seed: int


@dataclass(frozen=True)
class SuggestOptions:
    """How rows are chosen.

    Attributes:
        by: "margin": the two most probable classes are closest (multi-label: a probability is closest to 0.5).
            "uncertainty": the highest entropy. "diverse": each row is the farthest, by cosine, from all labelled rows
            and from the rows chosen before it; of more than 50 000 rows it chooses from a random sample. "band": the
            probability of a class is in `score_band`, closest to its middle first. "random".
        n: number of rows.
        label: the label column that is empty in the rows to choose from; by default the one that the head learned, or
            "label".
        of_class: for "band", the class; by default the most probable class of each row.
        score_band: for "band", the lowest and the highest probability.
        stratify: a column whose values take turns, so that each gets its share ("path": every recording).
        seed: the seed of "random", and of the first row of "diverse" if no row is labelled.

    Raises:
        UsageError: an invalid value, or `by` and `score_band` do not go together.
    """

    by: str = "margin"
    n: int = 20
    label: str | None = None
    of_class: str | None = None
    score_band: tuple[float, float] | None = None
    stratify: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in STRATEGIES:
            raise UsageError(f"by must be one of {', '.join(STRATEGIES)}, not {self.by!r}.")
        if self.n < 1:
            raise UsageError(f"n must be 1 or more, not {self.n}.")
        if (self.score_band is not None) != (self.by == "band"):
            raise UsageError("'band' requires score_band (two probabilities), and score_band requires 'band'.")
        if self.score_band is not None and not 0 <= self.score_band[0] < self.score_band[1] <= 1:
            raise UsageError(
                f"score_band must be two probabilities from 0 to 1, the lower one first, not {self.score_band}."
            )


@dataclass(frozen=True)
class Suggestion:
    """A row to label.

    Attributes:
        id, path, start_s, end_s: the row.
        suggested: the most probable class; None without a head.
        probability: the probability of that class, from 0 to 1.
        value: the number by which the row was chosen; higher is better.
    """

    id: int
    path: str
    start_s: float
    end_s: float
    suggested: str | None
    probability: float | None
    value: float


class Suggestions(list[Suggestion]):
    """Suggestions, the best first.

    Attributes:
        label: the label column to fill in.
    """

    def __init__(self, label: str, suggestions: Sequence[Suggestion]) -> None:
        super().__init__(suggestions)
        self.label = label

    def columns(self) -> dict[str, list[Any]]:
        """Return name -> values of a table for `embedx label`: with an empty label column, remarks start with "_"."""
        columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in self] for name in ROW_COLUMNS}
        columns[self.label] = [None] * len(self)
        return columns | {f"_{name}": [getattr(row, name) for row in self] for name in REMARK_COLUMNS}


def suggest(
    store: Store,
    head: Head | None,
    view: str | Sequence[str],
    options: SuggestOptions,
    ids: Sequence[int] | None = None,
) -> Suggestions:
    """Choose rows without a label, the best first.

    Args:
        store: the store of the collection.
        head: the head that predicts the rows; "diverse" and "random" need none.
        view: the views that the head reads; for "diverse" the vectors that are compared.
        options: how rows are chosen.
        ids: choose from these rows only; from all if None.

    Returns:
        At most `options.n` rows.

    Raises:
        UsageError: the strategy needs a head; the head has no such class.
        NothingToDo: every row has a label.
    """
    check_head(head, options)
    label = learned_label(head) if options.label is None else options.label
    store.require_rows()
    rows = store.rows(ids)
    labels = column_or_empty(rows, label)
    candidates = [row for row, value in zip(rows, labels, strict=True) if value is None]
    labelled = [row for row, value in zip(rows, labels, strict=True) if value is not None]
    if not candidates:
        raise NothingToDo(f"Every row has a {label!r}, so there is no row to suggest.")
    if options.by == "diverse":
        candidates = sample(candidates, options)
        order, values = order_by_distance(*vectors_to_compare(store, candidates, labelled, view), candidates, options)
    else:
        order, values = order_by_score(store, head, candidates, view, options)
    chosen = [candidates[place] for place in order.tolist()]
    proba = None if head is None or not chosen else predict(store, head, sorted(chosen, key=lambda row: row.id), view)
    places = np.argsort(np.argsort([row.id for row in chosen]))
    suggestions = []
    for row, place, value in zip(chosen, places.tolist(), values[order].tolist(), strict=True):
        suggested = probability = None
        if head is not None and proba is not None:
            best = int(proba[place].argmax())
            suggested, probability = head.classes[best], round(float(proba[place, best]), 6)
        suggestions.append(
            Suggestion(row.id, row.path, row.start_s, row.end_s, suggested, probability, round(value, 6))
        )
    return Suggestions(label, suggestions)


def predict(store: Store, head: Head, rows: Sequence[Row], view: str | Sequence[str]) -> Scores:
    """Return the probabilities [N, C] of rows, in the order of their ids."""
    return head.predict_proba(read_vectors(store, rows, view), calibrated=head.calibrated)


def sample(rows: list[Row], options: SuggestOptions) -> list[Row]:
    """Return the rows, or a random sample of many, in which the values of the stratify column have equal shares."""
    if len(rows) <= MAX_CANDIDATES:
        return rows
    order = np.random.default_rng(options.seed).permutation(len(rows))
    kept = take_turns(order, turn_names(rows, options.stratify), MAX_CANDIDATES)
    return [rows[place] for place in np.sort(kept).tolist()]


def learned_label(head: Head | None) -> str:
    """Return the label column that a head was trained on."""
    label = head.settings.get("training", {}).get("label", "label") if head else "label"
    if not isinstance(label, str):
        raise UsageError(
            f"The head learned several columns ({', '.join(label)}). Choose the empty one with --label (label=)."
        )
    return label


def check_head(head: Head | None, options: SuggestOptions) -> None:
    """Check that the head can do what the options ask for."""
    if head is None and options.by not in WITHOUT_HEAD:
        raise UsageError(
            f"{options.by!r} needs a head; `embedx train` trains one. Without a head: {', '.join(WITHOUT_HEAD)}."
        )
    if options.of_class is not None and (head is None or options.of_class not in head.classes):
        classes = ", ".join(head.classes) if head else "none, without a head"
        raise UsageError(f"There is no class {options.of_class!r}. Classes of the head: {classes}.")


def order_by_score(
    store: Store, head: Head | None, candidates: Sequence[Row], view: str | Sequence[str], options: SuggestOptions
) -> tuple[NDArray[np.int64], Scores]:
    """Return positions of the chosen candidates, the highest score first, and the scores of all candidates [N]."""
    if options.by == "random":
        values = np.random.default_rng(options.seed).random(len(candidates))
    else:
        assert head is not None
        blocks = (candidates[start : start + BLOCK] for start in range(0, len(candidates), BLOCK))
        values = np.concatenate([score(predict(store, head, block, view), head, options) for block in blocks])
    order = take_turns(np.argsort(-values, kind="stable"), turn_names(candidates, options.stratify), options.n)
    return order[np.isfinite(values[order])], values


def score(proba: Scores, head: Head, options: SuggestOptions) -> Scores:
    """Return how useful the label of each row would be [N]; -inf for rows outside the band."""
    if options.score_band is not None:
        low, high = options.score_band
        values = proba.max(axis=1) if options.of_class is None else proba[:, head.classes.index(options.of_class)]
        return np.where((values >= low) & (values <= high), -np.abs(values - (low + high) / 2), -np.inf)
    if options.by == "margin":
        if head.multilabel or proba.shape[1] == 1:
            return np.asarray(-np.abs(proba - 0.5).min(axis=1))
        second, first = np.sort(proba, axis=1)[:, -2:].T
        return np.asarray(second - first)
    outcomes = np.stack([proba, 1 - proba], axis=-1) if head.multilabel else proba[..., None]
    logs = np.log(outcomes, out=np.zeros_like(outcomes), where=outcomes > 0)
    return np.asarray(-(outcomes * logs).sum(axis=(1, 2)))


def vectors_to_compare(
    store: Store, candidates: Sequence[Row], labelled: Sequence[Row], view: str | Sequence[str]
) -> tuple[NDArray[np.float32], Iterator[NDArray[np.float32]]]:
    """Return the vectors [N, D] of candidates, and those of labelled rows in blocks, in the last of several views."""
    name = view if isinstance(view, str) else view[-1]
    blocks = (labelled[start : start + BLOCK] for start in range(0, len(labelled), BLOCK))
    return read_vectors(store, candidates, name), (read_vectors(store, block, name) for block in blocks)


def order_by_distance(
    x: NDArray[np.float32],
    known: Iterable[NDArray[np.float32]],
    candidates: Sequence[Row],
    options: SuggestOptions,
) -> tuple[NDArray[np.int64], Scores]:
    """Choose vectors x [N, D] one by one, each the farthest from the known ones and from those chosen before it.

    Args:
        x: the vectors of the candidates.
        known: vectors [M, D] of the labelled rows, in blocks.
        candidates: the N rows.
        options: how rows are chosen.

    Returns:
        The positions of the chosen candidates, and for every candidate its distance (1 - cosine) when it was chosen or
        last updated.
    """
    x, has_known = unit(x), False
    distance = np.full(len(x), 2.0)
    for block in known:
        has_known, others = True, unit(block)
        for start in range(0, len(x), BLOCK):
            part = slice(start, start + BLOCK)
            distance[part] = np.minimum(distance[part], 1 - (x[part] @ others.T).max(axis=1))
    if not has_known:
        distance += np.random.default_rng(options.seed).random(len(x)) * 1e-6  # any row may be the first
    values, free = distance.copy(), np.ones(len(x), bool)
    order: list[int] = []
    turns = np.unique(np.array(turn_names(candidates, options.stratify)), return_inverse=True)[1]
    chosen_in_turn = np.zeros(turns.max() + 1, np.int64)
    while len(order) < options.n and free.any():
        allowed = free & (chosen_in_turn[turns] == chosen_in_turn[np.unique(turns[free])].min())
        place = int(np.where(allowed, distance, -np.inf).argmax())
        order.append(place)
        values[place] = distance[place]
        free[place] = False
        chosen_in_turn[turns[place]] += 1
        distance = np.minimum(distance, 1 - x @ x[place])
    return np.array(order, np.int64), values


def turn_names(rows: Sequence[Row], stratify: str | None) -> list[str]:
    """Return the value of the stratify column for each row [N]; all the same without a column."""
    return [""] * len(rows) if stratify is None else [value or "" for value in column(rows, stratify)]


def take_turns(order: NDArray[np.int64], turns: Sequence[str], n: int) -> NDArray[np.int64]:
    """Take n positions from an order, so that the values in `turns` [N] take turns.

    >>> take_turns(np.array([0, 1, 2, 3]), ["a", "a", "a", "b"], 3).tolist()
    [0, 3, 1]
    """
    counts: dict[str, int] = {}
    rounds = []
    for place in order.tolist():
        counts[turns[place]] = counts.get(turns[place], 0) + 1
        rounds.append(counts[turns[place]])
    return order[np.argsort(np.array(rounds), kind="stable")][:n]


def read_vectors(store: Store, rows: Sequence[Row], view: str | Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors of rows, [N, D], or [N, L, D] for several views."""
    ids = [row.id for row in rows]
    views = [view] if isinstance(view, str) else view
    matrices = [store.vectors(name, ids)[1] for name in views]
    return matrices[0] if len(matrices) == 1 else np.stack(matrices, axis=1)


def column_or_empty(rows: Sequence[Row], name: str) -> list[str | None]:
    """Return a column as text; all None if no row has it yet."""
    try:
        return column(rows, name)
    except UsageError:
        return [None] * len(rows)
