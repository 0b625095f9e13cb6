"""Leaderboard: results -> a board for each task, with ranks and significance marks.

All setups on a board were measured in the same way: one task, one split, one number of training rows per class.
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
LOWER_IS_BETTER = ("log_loss", "ece")
UNBOUNDED = ("log_loss", "d_prime")  # the other metrics lie between 0 and 1
HEADLINES = ("accuracy", "map")  # the default metric of a board is the first of these that the task has
IMBALANCE_THRESHOLD = 1.5  # share of the most common class * number of classes, above which accuracy alone misleads
BEST, LIKE_BEST, WORSE, UNTESTED = "best", "≈", "", "?"

Baseline = Literal["majority", "chance"]
TIE_DIGITS = 12  # means that differ by less are equal: rounding of double precision adds up to 1e-15
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

Unit = Literal["fold", "seed"]
Values = Mapping[str, Mapping[str, float]]  # metric -> fold (or seed) -> value


class Setup(NamedTuple):
    """What is compared: vectors and a head."""

    model: str
    layer: int
    pooling: str
    head: str

    @classmethod
    def of(cls, row: Result) -> "Setup":
        """Return the setup of a result."""
        return cls(row.model, row.layer, row.pooling, row.head)

    @property
    def view(self) -> str:
        """The name of the vectors of the model."""
        return f"{'all layers' if self.layer == EVERY_LAYER else f'L{self.layer}'}.{self.pooling}"


@dataclass(frozen=True)
class Entry:
    """One setup on a board.

    Attributes:
        setup: the setup.
        values: values by metric and unit (see `Board`); a value is a mean over seeds.
        scores: mean of the values and its interval, by metric.
        units: the folds (or seeds) that have been run.
        seeds: number of seeds.
        rank: from 1, shared by setups with equal means; None if units are missing, because means over different folds
            cannot be compared.
        p: Holm-corrected p-value of the difference from the best setup; None if it cannot be tested.
        mark: BEST, LIKE_BEST, WORSE or UNTESTED; see `EXPLANATION`.
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
    """All setups for one task, the best first.

    Attributes:
        task, split, leaky, shots: what was measured, as in `Result`.
        metric: the metric that ranks the setups.
        unit: what means are taken over: "fold", or "seed" if there is one test part. Means over seeds do not include
            the uncertainty from the choice of test rows.
        units: names of all folds (or seeds).
        classes: number of classes.
        rows: test rows of all folds.
        duplicates: test rows with a near-duplicate in the training part, by the model that finds the fewest: a true
            copy is near for every model.
        majority, chance: means of the baselines in `Result`.
        recipes: fingerprints of the recipes.
        entries: the setups, the best first.
    """

    task: str
    split: str
    leaky: bool
    shots: Shots
    metric: str
    unit: Unit
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
    def plotted_metrics(self) -> list[str]:
        """The metrics that are plotted: also balanced accuracy, if a constant answer has a high accuracy."""
        is_uneven = self.metric == "accuracy" and (self.majority or 0.0) > IMBALANCE_THRESHOLD / self.classes
        return [self.metric, *(["balanced_accuracy"] if is_uneven else [])]

    def baseline(self, name: Baseline, metric: str) -> float | None:
        """Return the score of a constant answer by a metric, None if it is not known."""
        if metric == "accuracy":
            return self.majority if name == "majority" else 1 / self.classes
        known = {"balanced_accuracy": self.chance, "map": self.chance, "macro_auc": 0.5, "d_prime": 0.0}
        return known.get(metric)

    def baselines(self, metric: str) -> dict[str, float]:
        """Return the known scores of constant answers by a metric."""
        scores = ((name, self.baseline(name, metric)) for name in BASELINES)
        return {name: score for name, score in scores if score is not None}


EXPLANATION = (
    "≈ marks setups that do not differ significantly from the best at the 5 % level: a t-test paired by fold, with the "
    "variance corrected for overlapping training parts (Nadeau and Bengio 2003) and the p-values for the number of "
    "setups (Holm). Setups without a mark are significantly worse; ? marks setups that could not be tested. "
    "The score of the best of many setups is slightly too high by chance; compare it with the score of the setup that "
    "the other folds choose."
)


def goodness(value: float, metric: str) -> float:
    """Return a value with its sign changed where lower is better, so that higher is always better."""
    return -value if metric in LOWER_IS_BETTER else value


def boards(table: Iterable[Result], metric: str | None = None) -> list[Board]:
    """Aggregate results over seeds, then over folds.

    Args:
        table: the results.
        metric: the metric that ranks setups, one of METRICS; default: accuracy, or mAP for multi-label tasks.

    Returns:
        Boards sorted by task; for each task, the board with all training rows comes first.

    Raises:
        UsageError: the metric does not exist, or no result has it.
    """
    rows = list(table)
    if metric is not None and metric not in METRICS:
        raise UsageError(f"There is no metric {metric!r}. Choose one of: {', '.join(METRICS)}.")
    groups: dict[tuple[str, str, Shots], list[Result]] = defaultdict(list)
    for row in rows:
        groups[row.task, row.split, row.shots].append(row)
    ranked = []
    for group in groups.values():
        ranked_by = metric or next((name for name in HEADLINES if has_metric(group, name)), None)
        scored = [row for row in group if ranked_by and getattr(row, ranked_by) is not None]
        if ranked_by and scored:
            ranked.append(make_board(scored, ranked_by))
    if not ranked:
        condition = f" with {metric}" if rows and metric else ""
        raise UsageError(f"There are no results{condition} yet. Run `embedx bench probe` with this folder first.")
    return sorted(ranked, key=lambda b: (b.task, b.leaky, b.split, b.shots != "all", str(b.shots).zfill(9)))


def has_metric(rows: Iterable[Result], metric: str) -> bool:
    """Tell whether a result has a metric."""
    return any(getattr(row, metric) is not None for row in rows)


def make_board(rows: Sequence[Result], metric: str) -> Board:
    """Return the board of results of one task, split and number of shots, all of which have the metric."""
    folds = {row.fold for row in rows}
    unit: Unit = "fold" if len(folds) > 1 else "seed"
    units = tuple(sorted({str(getattr(row, unit)) for row in rows}, key=natural_key))
    tests = {row.fold: row for row in rows}.values()
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
        entries=tuple(rank_entries(rows, metric, unit, units)),
    )


def rank_entries(rows: Sequence[Result], metric: str, unit: Unit, units: Sequence[str]) -> list[Entry]:
    """Return the entries of a board: complete ones before incomplete ones, then the best first."""
    by_setup: dict[Setup, list[Result]] = defaultdict(list)
    for row in rows:
        by_setup[Setup.of(row)].append(row)
    values = {setup: average(some, unit) for setup, some in by_setup.items()}
    merit = {
        setup: (len(each[metric]) == len(units), round(goodness(fmean(each[metric].values()), metric), TIE_DIGITS))
        for setup, each in values.items()
    }
    order = sorted(values, key=lambda setup: merit[setup], reverse=True)
    ranks = {merit[setup]: len(order) - i for i, setup in enumerate(reversed(order))}  # the first of equals stays
    p = compare_with_best(order, values, metric, row_ratio(rows)) if unit == "fold" else {}
    entries = []
    for i, setup in enumerate(order):
        mark = UNTESTED if setup not in p else LIKE_BEST if p[setup] >= LEVEL else WORSE
        by_metric = values[setup]
        entries.append(
            Entry(
                setup=setup,
                values=by_metric,
                scores={name: summarise(list(by_unit.values())) for name, by_unit in by_metric.items()},
                units=tuple(by_metric[metric]),
                seeds=len({row.seed for row in by_setup[setup]}),
                rank=ranks[merit[setup]] if merit[setup][0] else None,
                p=p.get(setup),
                mark=mark if i else BEST,
            )
        )
    return entries


def average(rows: Sequence[Result], unit: Unit) -> dict[str, dict[str, float]]:
    """Return the values of one setup by metric and unit; the seeds of a fold are averaged."""
    values = {}
    for metric in METRICS:
        by_unit: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if getattr(row, metric) is not None:
                by_unit[str(getattr(row, unit))].append(getattr(row, metric))
        if by_unit:
            values[metric] = {name: fmean(by_unit[name]) for name in sorted(by_unit, key=natural_key)}
    return values


def compare_with_best(
    order: Sequence[Setup], values: Mapping[Setup, Values], metric: str, ratio: float
) -> dict[Setup, float]:
    """Return the corrected p-values of the differences from the first setup, for setups that share two folds with it.

    Args:
        order: the setups, the best first.
        values: values by setup, metric and fold.
        metric: the metric that is compared.
        ratio: test rows / training rows.
    """
    best = values[order[0]][metric]
    p = {}
    for setup in order[1:]:
        by_fold = values[setup][metric]
        differences = [best[fold] - by_fold[fold] for fold in best if fold in by_fold]
        if len(differences) > 1:
            p[setup] = compare(differences, ratio)
    return dict(zip(p, adjust(list(p.values())), strict=True))


def row_ratio(rows: Sequence[Result]) -> float:
    """Return test rows / training rows, the mean over folds.

    With few shots, the training rows are a small sample of the rows that the folds share. The ratio then uses the rows
    of the other test parts instead.
    """
    tests = {row.fold: row.rows_test for row in rows}
    total = sum(tests.values())
    return fmean(row.rows_test / max(row.rows_train, total - tests[row.fold], 1) for row in rows)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there is none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
