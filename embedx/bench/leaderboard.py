"""Leaderboard: results -> a board for every task, with ranks and marks of what cannot be told from the best.

What is compared on a board is alike: one task, one way to split it, one number of training rows per class.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple, get_args

from embedx.bench.results import EVERY_LAYER, Result, Shots
from embedx.bench.significance import LEVEL, Score, adjust, compare, summarise
from embedx.errors import UsageError
from embedx.text import natural_key

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map", "d_prime", "log_loss", "ece")
LOWER = ("log_loss", "ece")  # of these less is better
UNBOUNDED = ("log_loss", "d_prime")  # the others lie between 0 and 1
HEADLINES = ("accuracy", "map")  # what a board is sorted by if nothing is asked; the first that the task has
UNEVEN = 1.5  # times its even share that the commonest class may have before accuracy alone misleads
BEST, LIKE_BEST, WORSE, UNTESTED = "best", "≈", "", "?"

Baseline = Literal["majority", "chance"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

Values = Mapping[str, Mapping[str, float]]  # metric -> fold (or seed) -> value


class Setup(NamedTuple):
    """What is compared: vectors and a head on them."""

    model: str
    layer: int
    pooling: str
    head: str

    @property
    def view(self) -> str:
        """Which vectors of the model."""
        return f"{'all layers' if self.layer == EVERY_LAYER else f'L{self.layer}'}.{self.pooling}"


@dataclass(frozen=True)
class Entry:
    """One setup on a board.

    values: of every metric by unit (see `Board`), means over seeds. scores: their means with intervals.
    rank: from 1; None if units are missing, since means over other folds are not comparable.
    p: of the difference from the best, Holm-corrected; None where it cannot be tested. mark: see `EXPLANATION`.
    """

    setup: Setup
    values: Values
    scores: Mapping[str, Score]
    units: tuple[str, ...]
    seeds: int
    rank: int | None
    p: float | None
    mark: str


@dataclass(frozen=True)
class Board:
    """What was reached on one task, best first.

    unit: what a mean goes over, "fold"; with a single test part "seed", which leaves out the chance in the test rows.
    rows: test rows of all folds. duplicates: those of them with a near-duplicate in training, by the model that finds
    fewest: copies are near for every model.
    """

    task: str
    split: str
    leaky: bool
    shots: Shots
    metric: str
    unit: Literal["fold", "seed"]
    units: tuple[str, ...]
    classes: int
    rows: int
    duplicates: int
    majority: float | None
    chance: float | None
    recipes: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def best(self) -> Entry:
        """The first entry."""
        return self.entries[0]

    @property
    def pictured(self) -> list[str]:
        """The metrics that are drawn: also balanced accuracy, where accuracy is high without listening."""
        uneven = self.metric == "accuracy" and (self.majority or 0.0) > UNEVEN / self.classes
        return [self.metric, *(["balanced_accuracy"] if uneven else [])]

    def baseline(self, name: Baseline, metric: str) -> float | None:
        """Return what a constant answer scores by a metric, None where that is not said."""
        if metric == "accuracy":
            return self.majority if name == "majority" else 1 / self.classes
        known = {"balanced_accuracy": self.chance, "map": self.chance, "macro_auc": 0.5, "d_prime": 0.0}
        return known.get(metric)

    def baselines(self, metric: str) -> dict[str, float]:
        """Return what constant answers score by a metric, where that is said."""
        found = ((name, self.baseline(name, metric)) for name in BASELINES)
        return {name: value for name, value in found if value is not None}


EXPLANATION = (
    "The mark ≈ says that a setup cannot be told from the best at 5 %: a t-test paired by fold, its variance corrected "
    "for overlapping training parts (Nadeau and Bengio 2003), its p-values for the number of setups (Holm). "
    "Unmarked setups are worse; ? could not be tested. "
    "The best of many setups is a little too good by chance: see what the other folds would have chosen."
)


def goodness(value: float, metric: str) -> float:
    """Return a value so that more is better."""
    return -value if metric in LOWER else value


def boards(table: Iterable[Result], metric: str | None = None) -> list[Board]:
    """Aggregate results over seeds, then folds; boards by task, the one with all training rows first.

    metric: what to sort by, one of METRICS; accuracy if not given, mAP where a row has several labels.

    Raises:
        UsageError: no such metric, or no result has it.
    """
    rows = list(table)
    if metric is not None and metric not in METRICS:
        raise UsageError(f"There is no metric {metric!r}. Choose one of: {', '.join(METRICS)}.")
    alike: dict[tuple[str, str, Shots], list[Result]] = defaultdict(list)
    for row in rows:
        alike[row.task, row.split, row.shots].append(row)
    made = []
    for group in alike.values():
        asked = metric or next((one for one in HEADLINES if any(getattr(row, one) is not None for row in group)), None)
        having = [row for row in group if asked and getattr(row, asked) is not None]
        if asked and having:
            made.append(make_board(having, asked))
    if not made:
        raise UsageError(f"There are no results{f' with {metric}' if rows and metric else ''} yet: run the benchmark.")
    return sorted(made, key=lambda one: (one.task, one.leaky, one.split, one.shots != "all", str(one.shots).zfill(9)))


def make_board(rows: Sequence[Result], metric: str) -> Board:
    """Return the board of results that are alike and have the metric."""
    folds = {row.fold for row in rows}
    unit: Literal["fold", "seed"] = "fold" if len(folds) > 1 else "seed"
    units = tuple(sorted({str(getattr(row, unit)) for row in rows}, key=natural_key))
    setups: dict[Setup, list[Result]] = defaultdict(list)
    for row in rows:
        setups[Setup(row.model, row.layer, row.pooling, row.head)].append(row)
    found = {setup: average(some, unit) for setup, some in setups.items()}
    order = sorted(
        found,
        key=lambda one: (
            len(found[one][metric]) == len(units),
            goodness(fmean(found[one][metric].values()), metric),
        ),
        reverse=True,
    )
    tests = {row.fold: row for row in rows}.values()
    p = compare_with_best(order, found, metric, overlap(rows)) if unit == "fold" else {}
    entries = []
    for i, setup in enumerate(order):
        mark = UNTESTED if setup not in p else LIKE_BEST if p[setup] >= LEVEL else WORSE
        values = found[setup]
        entries.append(
            Entry(
                setup=setup,
                values=values,
                scores={name: summarise(list(some.values())) for name, some in values.items()},
                units=tuple(values[metric]),
                seeds=len({row.seed for row in setups[setup]}),
                rank=i + 1 if len(values[metric]) == len(units) else None,
                p=p.get(setup),
                mark=mark if i else BEST,
            )
        )
    return Board(
        task=rows[0].task,
        split=rows[0].split,
        leaky=any(row.leaky for row in rows),
        shots=rows[0].shots,
        metric=metric,
        unit=unit,
        units=units,
        classes=max(row.classes for row in rows),
        rows=sum(row.rows_test for row in tests),
        duplicates=sum(min(row.duplicates for row in rows if row.fold == fold) for fold in folds),
        majority=mean_of([row.majority for row in tests]),
        chance=mean_of([row.chance for row in tests]),
        recipes=tuple(sorted({row.recipe for row in rows if row.recipe})),
        entries=tuple(entries),
    )


def average(rows: Sequence[Result], unit: str) -> dict[str, dict[str, float]]:
    """Return the values of one setup by metric and unit; seeds of a fold are one value, their mean."""
    found = {}
    for metric in METRICS:
        by_unit: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if getattr(row, metric) is not None:
                by_unit[str(getattr(row, unit))].append(getattr(row, metric))
        if by_unit:
            found[metric] = {name: fmean(by_unit[name]) for name in sorted(by_unit, key=natural_key)}
    return found


def compare_with_best(
    order: Sequence[Setup], found: Mapping[Setup, Values], metric: str, ratio: float
) -> dict[Setup, float]:
    """Return the corrected p-values of the differences from the first setup, for those with two folds in common."""
    best = found[order[0]][metric]
    raw = {}
    for setup in order[1:]:
        values = found[setup][metric]
        differences = [best[unit] - values[unit] for unit in best if unit in values]
        if len(differences) > 1:
            raw[setup] = compare(differences, ratio)
    return dict(zip(raw, adjust(list(raw.values())), strict=True))


def overlap(rows: Sequence[Result]) -> float:
    """Return test rows / training rows, the mean over folds.

    With few shots the training rows are a small part of what they were drawn from, which is what folds share: there
    the rows of the other test parts are counted.
    """
    tests = {row.fold: row.rows_test for row in rows}
    total = sum(tests.values())
    return fmean(row.rows_test / max(row.rows_train, total - tests[row.fold], 1) for row in rows)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of what is there."""
    there = [value for value in values if value is not None]
    return fmean(there) if there else None
