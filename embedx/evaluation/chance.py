"""Test against chance: whether the labels are told from the vectors better than permuted labels.

The classifier of the test is fitted anew for every permutation, because heads that were fitted on the true labels would
not score like those of permuted ones. A knn or prototype head is tested itself (`labellings`). Fitting the other kinds
so often would take hours, so a linear discriminant (`discriminant`) stands for them.

Where a column gives the test parts, the test uses these, and labels move within a part: the parts may have been made so
that each has its share of every class. Else it makes folds of whole groups without looking at the labels. Where the
sizes of groups depend on the label, groups are cut first (`unit_sizes`). So in all cases a permuted labelling is as
likely as the true one if labels and vectors are independent.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.cross_validation import Experiment, LabelledVectors
from embedx.evaluation.splits import Positions
from embedx.heads.discriminant import Discriminant, whiten
from embedx.heads.labellings import REFITTED, Labellings, prepare_labellings
from embedx.heads.learning import limit_threads
from embedx.heads.options import HeadOptions
from embedx.metrics.chance import LINEAR, ChanceTest, compare_with_chance
from embedx.metrics.figures import Ints
from embedx.metrics.permutations import Level, Permutations
from embedx.metrics.unit_sizes import cut_units, sizes_depend

FOLDS = 10  # of whole groups; the vectors are whitened once, so many folds cost little
MAX_EFFORT = 2e9  # numbers times permutations: about 20 s on one core
MIN_ROWS = 1000  # rows that are used in any case
CLASSES_PER_PASS = 150  # comparing a vector with so many class means takes as long as adding it to the sum of one


def compare_experiment(
    experiment: Experiment, permutations: int, seed: int = 0, head: HeadOptions | None = None
) -> ChanceTest | None:
    """Compare the labels of stored rows with chance; see `compare_labels`."""
    return compare_labels(experiment, [row.path for row in experiment.rows], permutations, seed, head)


def compare_labels(
    data: LabelledVectors,
    recordings: Sequence[str],
    permutations: int,
    seed: int = 0,
    head: HeadOptions | None = None,
) -> ChanceTest | None:
    """Compare what a classifier makes of the labels with what it makes of permuted ones.

    Args:
        data: vectors, labels and split. Weak negatives are left out. Of very large data, rows are drawn at random.
        recordings: the recording [N] of each row; the rows of a recording are in the order of time.
        permutations: the number of permutations; 0 for no test.
        seed: the seed for folds and permutations.
        head: the head to test, if it is knn or prototype; a linear discriminant stands for other kinds, and for None.

    Returns:
        The test, or None if there are no permutations or no test rows.

    Raises:
        UsageError: a negative number of permutations.
    """
    check_permutations(permutations)
    random = np.random.default_rng(seed)
    rows = choose_rows(data, permutations, random)
    if not permutations or not len(rows):
        return None
    rows, is_cut = cut_groups(data, rows, recordings, random)
    fold = find_folds(data, rows, random)
    if not (fold >= 0).any():
        return None
    y = data.targets.y[rows]
    found = Permutations.find(renumber(y, axis=0), name_levels(data, rows, recordings), equal_sizes=is_cut)
    with limit_threads(data.x.size):
        scorer = prepare_scorer(data, rows, fold, seed, head)
        measure = scorer.mean_area if data.targets.multilabel else scorer.balanced_accuracy
        test = compare_with_chance(lambda source: measure(y[source]), found, permutations, seed)
    tested = f"a {head.kind} head" if head is not None and head.kind in REFITTED else LINEAR
    return replace(test, equal_sizes=is_cut, tested=tested)


def compare_predictions(
    y: Ints,
    score: Callable[[Ints, Ints], float],
    groups: Ints,
    recordings: Sequence[str],
    parts: Ints,
    permutations: int,
    seed: int = 0,
) -> ChanceTest | None:
    """Compare predictions for the true labels with the same predictions for permuted labels.

    This is for models that take too long to be trained for every permutation. Labels move within a test part, whose
    model has not seen them, so the p-value of one part is exact. A model has seen the labels of the other parts, so
    those p-values depend on each other, and a test of all parts together would find too much. They are joined by a rule
    that holds for any dependence: K / r times the r-th smallest of K, here the middle one (Rueger 1978; Vovk and Wang
    2020, "Combining p-values via averaging").

    Args:
        y: class numbers [N], or [N, C] of 0 and 1. The rows of a recording are in the order of time.
        score: labels [M, ...], and the positions [M] of their rows -> the score of the predictions for these rows.
        groups: [N] equal for rows that belong together.
        recordings: the recording [N] of each row.
        parts: the test part [N] of each row.
        permutations: the number of permutations; 0 for no test.
        seed: the seed of the permutations.

    Returns:
        The test, or None if there are no permutations or no rows.

    Raises:
        UsageError: a negative number of permutations.
    """
    check_permutations(permutations)
    if not permutations or not len(y):
        return None
    names = np.asarray(recordings)

    def compare(rows: Ints) -> ChanceTest:
        random = np.random.default_rng(seed)
        left, is_cut = cut_rows(y[rows], make_levels(groups[rows], names[rows], parts[rows]), random)
        rows = rows[left]
        levels = make_levels(groups[rows], names[rows], parts[rows])
        found = Permutations.find(renumber(y[rows], axis=0), levels, equal_sizes=is_cut)
        test = compare_with_chance(lambda source: score(y[rows[source]], rows), found, permutations, seed)
        return replace(test, equal_sizes=is_cut, tested="the same predictions", fitted=False)

    joint = compare(np.arange(len(y)))
    each = [compare(np.flatnonzero(parts == part)) for part in np.unique(parts)]
    return replace(
        joint, p_value=join_p_values([one.p_value for one in each]), lowest=join_p_values([one.lowest for one in each])
    )


def join_p_values(values: Sequence[float]) -> float:
    """Return the p-value of all tests together, which holds for any dependence; see `compare_predictions`.

    >>> join_p_values([0.01]), round(join_p_values([0.5, 0.001, 0.009]), 6)
    (0.01, 0.0135)
    """
    middle = (len(values) + 1) // 2
    return min(1.0, len(values) / middle * sorted(values)[middle - 1])


def check_permutations(number: int) -> None:
    """Raise UsageError if a number of permutations is negative."""
    if number < 0:
        raise UsageError(f"permutations must be 0 (no test) or more, not {number}.")


def prepare_scorer(
    data: LabelledVectors, rows: Positions, fold: Ints, seed: int, head: HeadOptions | None
) -> Discriminant | Labellings:
    """Return what scores the labellings of the rows: the head itself if it is fitted fast, else a discriminant."""
    classes, multilabel = data.targets.classes, data.targets.multilabel
    if head is not None and head.kind in REFITTED:
        return prepare_labellings(data.x[rows], fold, classes, multilabel, head)
    groups = renumber(data.splits.groups[rows])
    return Discriminant(whiten(data.x[rows], int(groups.max()) + 1, seed), fold, groups, len(classes))


def choose_rows(data: LabelledVectors, permutations: int, random: np.random.Generator) -> Positions:
    """Return the rows to use: all with labels that the split uses, or so many that the effort is limited."""
    used = data.targets.weights == 1
    if data.splits.by_column:
        used &= given_parts(data) > -2
    rows = np.flatnonzero(used)
    effort = data.x.shape[-1] * (1 + len(data.targets.classes) / CLASSES_PER_PASS) * max(1, permutations)
    most = max(MIN_ROWS, int(MAX_EFFORT / effort))
    return rows if len(rows) <= most else np.sort(random.choice(rows, most, replace=False))


def cut_groups(
    data: LabelledVectors, rows: Positions, recordings: Sequence[str], random: np.random.Generator
) -> tuple[Positions, bool]:
    """Return the rows that are left where the sizes of groups depend on the label, else all; and whether they do."""
    left, is_cut = cut_rows(data.targets.y[rows], name_levels(data, rows, recordings), random)
    return rows[left], is_cut


def cut_rows(y: Ints, levels: Sequence[Level], random: np.random.Generator) -> tuple[NDArray[np.bool_], bool]:
    """Return which rows [N] are left where the sizes of units depend on the label, else all; and whether they do."""
    found = Permutations.find(renumber(y, axis=0), levels)
    left = np.ones(len(y), bool)
    if not sizes_depend(found.exchanges, y, random):
        return left, False
    for exchange in found.exchanges:
        left[np.concatenate(exchange.units)] = False
        left[np.concatenate(cut_units(exchange, random))] = True
    return left, True


def given_parts(data: LabelledVectors) -> Ints:
    """Return the part [N] of a column in which each row is tested, -1 if only trained on, and -2 if it is not used."""
    fold = np.full(len(data.splits.groups), -2)
    for part in data.splits.parts:
        fold[part.learned] = np.maximum(fold[part.learned], -1)
    for number, part in enumerate(data.splits.parts):
        fold[part.test] = number
    return fold


def find_folds(data: LabelledVectors, rows: Positions, random: np.random.Generator) -> Ints:
    """Return the fold in which each of the rows is tested, -1 if it is only trained on."""
    if data.splits.by_column:
        return given_parts(data)[rows]
    names, unit, sizes = np.unique(data.splits.inner_groups[rows], return_inverse=True, return_counts=True)
    if len(names) < 2 or not any(len(part.test) for part in data.splits.parts):
        return np.full(len(rows), -1)
    fold_of_unit, filled = np.empty(len(names), np.int64), np.zeros(min(FOLDS, len(names)))
    order = random.permutation(len(names))
    for number in order[np.argsort(-sizes[order], kind="stable")].tolist():  # the largest first
        fold_of_unit[number] = filled.argmin()
        filled[filled.argmin()] += sizes[number]
    return np.asarray(fold_of_unit[unit])


def name_levels(data: LabelledVectors, rows: Positions, recordings: Sequence[str]) -> list[Level]:
    """Return the levels of units of the rows; a group of one recording each is called a recording."""
    parts = given_parts(data)[rows] if data.splits.by_column else None
    return make_levels(data.splits.groups[rows], np.asarray(recordings)[rows], parts)


def make_levels(groups: Ints, recordings: NDArray[np.str_], parts: Ints | None) -> list[Level]:
    """Return the levels of units of rows [N] by their group, recording and test part."""
    groups, recording = renumber(groups), renumber(recordings)
    levels: list[Level] = [("groups", groups), ("recordings", recording)]
    if len(np.unique(np.stack([groups, recording]), axis=1).T) == int(groups.max(initial=-1)) + 1:
        levels = levels[1:]
    return levels if parts is None else [("test parts", parts), *levels]


def renumber(values: NDArray[np.generic], axis: int | None = None) -> Ints:
    """Return numbers [N] from 0 that are equal where the values are equal."""
    numbers: Ints = np.unique(values, axis=axis, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return numbers
