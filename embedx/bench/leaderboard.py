"""Leaderboard: results -> a board for each task, with ranks and significance marks.

All setups on a board were measured in the same way: one task, one split, one number of training rows per class.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

from embedx.bench.comparisons import Comparisons, compare_all
from embedx.bench.results import Result, Shots
from embedx.bench.setups import (
    METRICS,
    SHARES,
    Setup,
    Unit,
    Values,
    goodness,
    has_metric,
    mean_of,
    unit_rows,
    values_by_setup,
)
from embedx.bench.significance import LEVEL, MIN_FOLDS, TIE_DIGITS, Score, binomial_variance, summarise
from embedx.errors import UsageError
from embedx.text import natural_key

HEADLINES = ("accuracy", "map")  # the default metric of a board is the first of these that the task has
IMBALANCE_THRESHOLD = 1.5  # share of the most common class * number of classes, above which accuracy alone misleads
BEST, LIKE_BEST, WORSE, UNTESTED, AT_CHANCE = "best", "≈", "", "?", "–"
FEW_FOLDS = "†"  # after the mark of a setup with fewer than MIN_FOLDS folds

Baseline = Literal["majority", "chance"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)


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
        p: corrected p-value for being no worse than the best; None for the best, or if it cannot be tested.
        above_chance: whether the setup alone is significantly above chance; None if that is not known.
        mark: BEST, LIKE_BEST, WORSE, UNTESTED or AT_CHANCE; see `EXPLANATION`.
        seconds: mean time of a fit, with embedding its rows; None if it is not known.
        parameters: the number of trained parameters; None if it is not known.
    """

    setup: Setup
    values: Values
    scores: Mapping[str, Score]
    units: tuple[str, ...]
    seeds: int
    rank: int | None
    p: float | None
    above_chance: bool | None
    mark: str
    seconds: float | None = None
    parameters: int | None = None


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
        chance_metric: the metric by which setups are compared with chance.
        chance_score: the score of a constant answer by that metric; None if it is not known.
        learned: whether any setup is significantly above chance; None if that is not known.
        same_data: whether all setups were measured on the same rows, labels and split.
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
    chance_metric: str
    chance_score: float | None
    learned: bool | None
    same_data: bool
    recipes: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def best(self) -> Entry | None:
        """The entry that is named best: the first one above chance; None if it is not known that any is."""
        return next((entry for entry in self.entries if entry.mark == BEST), None)

    @property
    def leader(self) -> Entry | None:
        """The best, or the first entry that may be above chance if that is not known; None if nothing was learned."""
        if self.best or self.learned is False:
            return self.best
        return next((entry for entry in self.entries if entry.above_chance is not False), None)

    @property
    def few_folds(self) -> bool:
        """Whether the setups have too few folds for a good estimate of their spread."""
        return self.unit == "fold" and len(self.units) < MIN_FOLDS

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
    "Ranks are the order of the means, and neighbours may change places with other data. ≈ marks setups that are not "
    f"significantly worse than the best at the {LEVEL:.0%} level: a t-test paired by fold, with the variance corrected "
    "for overlapping training parts (Nadeau and Bengio 2003). The variance is at least the one that chance gives for "
    "this number of test rows, and other pairs of setups count in it. The p-values are corrected for the number of "
    "pairs. Setups without a mark are significantly worse. – marks setups that are not significantly above chance, by "
    "t-tests over folds against a constant answer (`embedx probe` and `embedx train` permute labels instead), and ? "
    "those that could not be tested. "
    f"{FEW_FOLDS} marks fewer than {MIN_FOLDS} folds. The score of the best of many setups is slightly too high by "
    "chance; compare it with the score of the setup that the other folds choose."
)


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


def make_board(rows: Sequence[Result], metric: str) -> Board:
    """Return the board of results of one task, split and number of shots, all of which have the metric."""
    folds = {row.fold for row in rows}
    unit: Unit = "fold" if len(folds) > 1 else "seed"
    units = tuple(sorted({str(getattr(row, unit)) for row in rows}, key=natural_key))
    tests = {row.fold: row for row in rows}.values()
    values = values_by_setup(rows, unit)
    ranks = rank_setups(values, metric, units)
    found = compare_all(values, rows, list(ranks), metric, unit, units)
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
        chance_metric=found.chance_metric,
        chance_score=found.chance_score,
        learned=found.learned,
        same_data=len({row.data for row in rows if row.data}) < 2,
        recipes=tuple(sorted({row.recipe for row in rows if row.recipe})),
        entries=tuple(list_entries(rows, values, ranks, metric, unit, found)),
    )


def rank_setups(values: Mapping[Setup, Values], metric: str, units: Sequence[str]) -> dict[Setup, int | None]:
    """Return setups with their ranks: those with results for all units first, then the best first."""
    merit = {
        setup: (len(each[metric]) == len(units), round(goodness(fmean(each[metric].values()), metric), TIE_DIGITS))
        for setup, each in values.items()
    }
    order = sorted(values, key=lambda setup: merit[setup], reverse=True)
    first = {merit[setup]: len(order) - i for i, setup in enumerate(reversed(order))}  # the first of equals stays
    return {setup: first[merit[setup]] if merit[setup][0] else None for setup in order}


def list_entries(
    rows: Sequence[Result],
    values: Mapping[Setup, Values],
    ranks: Mapping[Setup, int | None],
    metric: str,
    unit: Unit,
    found: Comparisons,
) -> Iterator[Entry]:
    """Yield the entries of a board in the order of `ranks`."""
    by_setup: dict[Setup, list[Result]] = defaultdict(list)
    for row in rows:
        by_setup[Setup.of(row)].append(row)
    sizes = unit_rows(rows, unit)
    for setup, rank in ranks.items():
        yield Entry(
            setup=setup,
            values=values[setup],
            scores={name: score_of(name, each, sizes, unit) for name, each in values[setup].items()},
            units=tuple(values[setup][metric]),
            seeds=len({row.seed for row in by_setup[setup]}),
            rank=rank,
            p=found.p.get(setup),
            above_chance=found.above.get(setup),
            mark=BEST if setup == found.best else mark_of(setup, found),
            seconds=mean_of(seconds_of(row) for row in by_setup[setup]),
            parameters=max((row.parameters for row in by_setup[setup] if row.parameters is not None), default=None),
        )


def seconds_of(row: Result) -> float | None:
    """Return the time of a fit with embedding its rows; None if a part of it is not known."""
    return None if row.seconds is None or row.embed_seconds is None else row.seconds + row.embed_seconds


def mark_of(setup: Setup, found: Comparisons) -> str:
    """Return the mark of a setup that is not the best; see `EXPLANATION`."""
    p = found.p.get(setup)
    if found.learned is False or (found.above.get(setup) is False and (p is None or p >= LEVEL)):
        return AT_CHANCE
    if p is None:
        return UNTESTED
    return LIKE_BEST if p >= LEVEL else WORSE


def score_of(metric: str, by_unit: Mapping[str, float], sizes: Mapping[str, int], unit: Unit) -> Score:
    """Return the mean of values with its interval; over folds, their binomial variance is its lower limit."""
    has_floor = unit == "fold" and metric in SHARES
    values = list(by_unit.values())
    return summarise(values, binomial_variance(values, [sizes[name] for name in by_unit]) if has_floor else 0.0)
