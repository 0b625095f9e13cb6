"""Comparisons: the values of the setups of a board -> which are significantly worse, and which are above chance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np

from embedx.bench.results import Result
from embedx.bench.setups import SHARES, Setup, Unit, Values, goodness, has_metric, mean_of, unit_rows
from embedx.bench.significance import (
    LEVEL,
    MIN_FOLDS,
    Matrix,
    above_chance,
    compare_pair,
    paired_floor,
    pooled_variance,
)

CHANCE_METRICS = ("balanced_accuracy", "macro_auc")  # their mean is known where nothing was learned, unlike that of mAP
AUC_CHANCE = 0.5


@dataclass(frozen=True)
class Comparisons:
    """What the tests on a board say.

    Attributes:
        best: the setup that is named best, the first one above chance; None if it is not known that any is.
        p: corrected p-values of the other setups for being no worse than the best (or the first, if none is named).
        above: whether a setup alone is above chance, where it is known.
        learned: whether any setup is above chance; None if it is not known.
        chance_metric: the metric by which setups are compared with chance.
        chance_score: the score of a constant answer by that metric, the mean over folds; None if it is not known.
    """

    best: Setup | None
    p: Mapping[Setup, float]
    above: Mapping[Setup, bool]
    learned: bool | None
    chance_metric: str
    chance_score: float | None


def compare_all(
    values: Mapping[Setup, Values],
    rows: Sequence[Result],
    order: Sequence[Setup],
    metric: str,
    unit: Unit,
    units: Sequence[str],
) -> Comparisons:
    """Compare all setups of a board with the best and with chance.

    Args:
        values: values by setup, metric and unit.
        rows: the results that the values come from.
        order: the setups, those with results for all units first, then the best first.
        metric: the metric that ranks the setups.
        unit: "fold" or "seed".
        units: names of all folds or seeds.
    """
    by_chance = next((name for name in CHANCE_METRICS if has_metric(rows, name)), CHANCE_METRICS[0])
    chances = {str(getattr(row, unit)): AUC_CHANCE if by_chance == "macro_auc" else row.chance for row in rows}
    known = {name: chance for name, chance in chances.items() if chance is not None}
    learned, above = compare_with_chance(values, rows, by_chance, known, unit, units)
    best = next((setup for setup in order if learned and above.get(setup)), None)
    p = compare_setups(values, rows, best or order[0], metric, units) if unit == "fold" else {}
    return Comparisons(best, p, above, learned, by_chance, mean_of(known.values()))


def compare_setups(
    values: Mapping[Setup, Values], rows: Sequence[Result], best: Setup, metric: str, units: Sequence[str]
) -> dict[Setup, float]:
    """Return the corrected p-values of other setups for being no worse than the best; see `compare_pair`.

    Setups with results for fewer than two folds are left out.
    """
    complete = [each[metric] for each in values.values() if len(each[metric]) == len(units)]
    pooled = pooled_variance(np.array([as_array(by_fold, units) for by_fold in complete])) if complete else 0.0
    sizes, ratio, p = unit_rows(rows, "fold"), row_ratio(rows), {}
    highest = values[best][metric]
    for setup, each in values.items():
        shared = [fold for fold in each[metric] if fold in highest]
        if setup != best and len(shared) > 1:
            differences = as_array(highest, shared) - as_array(each[metric], shared)
            floor = paired_floor(differences, as_array(sizes, shared)) if metric in SHARES else 0.0
            p[setup] = compare_pair(differences * goodness(1, metric), ratio, floor, pooled, len(values))
    return p


def compare_with_chance(
    values: Mapping[Setup, Values],
    rows: Sequence[Result],
    metric: str,
    chances: Mapping[str, float],
    unit: Unit,
    units: Sequence[str],
) -> tuple[bool | None, dict[Setup, bool]]:
    """Return whether any setup is above chance, and whether each setup is; only what is known is returned.

    With one test part or fewer than MIN_FOLDS folds, a setup that is above chance by the binomial error of its test
    rows may have learned something: the error is too small where rows of one recording are alike.

    Args:
        values: values by setup, metric and unit.
        rows: the results that the values come from.
        metric: the metric by which setups are compared with chance.
        chances: score of a constant answer by unit.
        unit: "fold" or "seed".
        units: names of all folds or seeds.
    """
    complete = {setup: each[metric] for setup, each in values.items() if len(each.get(metric, {})) == len(units)}
    if not complete or len(chances) < len(units):
        return None, {}
    matrix = np.array([as_array(by_unit, units) for by_unit in complete.values()])
    chance, sizes = as_array(chances, units), as_array(unit_rows(rows, unit), units)
    tested = sizes.sum() if unit == "fold" else sizes[0]  # all seeds have the same test rows
    error = float(np.mean(chance * (1 - chance)) / tested) ** 0.5
    may_be = matrix.mean(axis=1) - chance.mean() > NormalDist().inv_cdf(1 - LEVEL / len(matrix)) * error
    if unit == "seed":
        return None if may_be.any() else False, dict(zip(complete, may_be.tolist(), strict=True))
    p, each = above_chance(matrix, chance, sizes, row_ratio(rows))
    is_unsure = len(units) < MIN_FOLDS and p >= LEVEL and bool(may_be.any())
    above = may_be if is_unsure else each < LEVEL
    return None if is_unsure else p < LEVEL, dict(zip(complete, above.tolist(), strict=True))


def as_array(by_name: Mapping[str, float], names: Iterable[str]) -> Matrix:
    """Return the values of some names in their order."""
    return np.array([by_name[name] for name in names], float)


def row_ratio(rows: Sequence[Result]) -> float:
    """Return test rows / training rows, the mean over folds.

    With few shots, the training rows are a small sample of the rows that the folds share. The ratio then uses the rows
    of the other test parts instead.
    """
    tests = {row.fold: row.rows_test for row in rows}
    total = sum(tests.values())
    return fmean(row.rows_test / max(row.rows_train, total - tests[row.fold], 1) for row in rows)
