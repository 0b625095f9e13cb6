"""Scoring: truth and probabilities -> Metrics, with notes on undefined figures and unreliable intervals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedx.errors import UsageError
from embedx.metrics.baselines import find_baselines
from embedx.metrics.classification import Probabilities, Scores, score_weighted, score_whole
from embedx.metrics.figures import Figure, Ints, number_groups
from embedx.metrics.intervals import MAX_BLOCKS, join_groups, weigh_blocks
from embedx.metrics.ranking import AREA_MARGIN, d_prime
from embedx.metrics.report import ClassMetrics, Metrics, PartMetrics, escape
from embedx.metrics.samples import Sample
from embedx.text import natural_key

MIN_RELIABLE_GROUPS = 10  # in simulation (STATISTICS.md), at least 93 % of the intervals hold the truth from here on
SUM_TOLERANCE = 1e-3  # of the sum of a row: the rounding error of 1000 float16 numbers
MAX_NAMED = 5  # class names in a note


def evaluate(
    truth: ArrayLike,
    proba: ArrayLike,
    classes: Sequence[str],
    *,
    multilabel: bool = False,
    groups: ArrayLike | None = None,
    parts: ArrayLike | None = None,
    samples: int = MAX_BLOCKS,
    seed: int = 0,
) -> Metrics:
    """Score predictions, with 95 % intervals over groups; see `embedx.metrics.intervals`.

    Args:
        truth: class numbers [N], or [N, C] of 0 and 1 if `multilabel`.
        proba: probabilities [N, C]; those of a row sum to 1 unless `multilabel`.
        classes: the names of the C classes.
        multilabel: whether a row can have any number of labels; one is predicted where its probability is above 0.5.
        groups: the group of each row [N]; the rows of one group are not independent. None: each row on its own.
        parts: the test part (fold) [N] of each row, with a head of its own. ROC AUC, average precision and d-prime are
            ranked within the parts and averaged; see `embedx.metrics.ranking`. None: one head predicted all rows.
        samples: number of groups that are left out in turn for the intervals; 0 for none. More groups are joined to
            this number of blocks.
        seed: the seed by which groups are joined to blocks; the same seed gives the same intervals.

    Returns:
        All figures with intervals and baselines.

    Raises:
        UsageError: shapes do not agree, or values are not class numbers or probabilities.
    """
    y, probabilities = check(truth, proba, classes, multilabel)
    numbers, rows = number_groups(groups, len(y), "groups"), len(y)
    part_of = np.zeros(rows, np.int64) if parts is None else number_groups(parts, rows, "parts")
    group_count = len(np.unique(numbers))
    if samples < 0:
        raise UsageError(f"samples must be 0 or more, not {samples}.")
    blocks = join_groups(numbers, max(1, samples), seed)
    positive = y == 1 if multilabel else y[:, None] == np.arange(len(classes))
    sample = Sample.count(blocks, positive, multilabel)
    scores = score_weighted(y, probabilities, blocks, part_of, weigh_blocks(len(sample.blocks)), multilabel)
    figures = sample.make_figures(scores)
    by_part = score_parts(y, probabilities, parts, multilabel)
    notes = note_classes(classes, sample.support, rows) + note_groups(rows, group_count, samples)
    notes += note_few_groups(classes, count_groups(numbers, positive), group_count) if samples else []
    notes += note_d_prime(figures["macro_auc"], by_part)
    return Metrics(
        classes=tuple(classes),
        multilabel=multilabel,
        rows=rows,
        groups=group_count,
        samples=len(sample.blocks) if samples and group_count > 1 else 0,
        figures=figures,
        per_class=tuple(describe_classes(classes, scores, sample)),
        confusion=None if multilabel else count_confusions(y, probabilities),
        baselines=find_baselines(y, len(classes), part_of, multilabel),
        by_part=tuple(by_part),
        spread=spread_over(by_part),
        notes=tuple(notes),
    )


def check(truth: ArrayLike, proba: ArrayLike, classes: Sequence[str], multilabel: bool) -> tuple[Ints, Probabilities]:
    """Return truth and probabilities as arrays that fit each other."""
    y, probabilities = np.asarray(truth), np.asarray(proba)
    if probabilities.dtype not in (np.float32, np.float64):
        probabilities = probabilities.astype(np.float64)
    if not len(classes):
        raise UsageError("classes is empty; an evaluation needs one class or more.")
    shape = (len(y), len(classes))
    if probabilities.shape != shape:
        raise UsageError(
            f"The probabilities have the shape {probabilities.shape}; "
            f"with {shape[0]} rows of truth and {shape[1]} classes it must be {shape}."
        )
    if y.shape != (shape if multilabel else shape[:1]):
        wanted = shape if multilabel else shape[:1]
        raise UsageError(f"The truth has the shape {y.shape}; with multilabel={multilabel} it must be {wanted}.")
    if not y.size:
        y = y.astype(np.int64)
    highest = 1 if multilabel else len(classes) - 1
    if y.dtype.kind not in "biu" or not ((y >= 0) & (y <= highest)).all():
        raise UsageError(f"The truth must be whole numbers from 0 to {highest}; leave out rows without a label.")
    bad = ~((probabilities >= 0) & (probabilities <= 1)).all(axis=1)  # nan is neither
    if bad.any():
        raise UsageError(
            f"Row {bad.argmax()} has probabilities outside of 0 to 1: {show_some(probabilities[bad.argmax()])}. "
            "Convert other scores to probabilities first."
        )
    off = np.abs(probabilities.sum(axis=1) - 1) > SUM_TOLERANCE
    if not multilabel and off.any():
        raise UsageError(
            f"The probabilities of row {off.argmax()} sum to {probabilities[off.argmax()].sum():.4f}, not to 1. "
            "Pass multilabel=True if a row can have several labels."
        )
    return y.astype(np.int64), probabilities


def show_some(values: Probabilities) -> str:
    """Return the first numbers of a row.

    >>> show_some(np.array([1.5, -2, 0, 0]))
    '1.5, -2, 0, ...'
    """
    return ", ".join(f"{value:.4g}" for value in values[:3].tolist()) + (", ..." if len(values) > 3 else "")


def score_parts(truth: Ints, proba: Probabilities, parts: ArrayLike | None, multilabel: bool) -> list[PartMetrics]:
    """Return the figures of each part, in natural order of the names; none without parts."""
    if parts is None:
        return []
    names = np.asarray(parts).astype(str)
    found = []
    for name in sorted(set(names.tolist()), key=natural_key):
        inside = names == name
        one_part = np.zeros(inside.sum(), np.int64)
        scores = score_whole(truth[inside], proba[inside], one_part, multilabel).overall
        figures = {key: float(one[0]) if np.isfinite(one[0]) else None for key, one in scores.items()}
        found.append(PartMetrics(name, int(inside.sum()), figures))
    return found


def spread_over(parts: Sequence[PartMetrics]) -> dict[str, tuple[float, float | None]]:
    """Return for each figure its mean over the parts where it is defined, and the standard deviation (ddof 1)."""
    spread: dict[str, tuple[float, float | None]] = {}
    for name in parts[0].figures if parts else ():
        values = [value for part in parts if (value := part.figures[name]) is not None]
        if values:
            spread[name] = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
    return spread


def describe_classes(classes: Sequence[str], scores: Scores, sample: Sample) -> list[ClassMetrics]:
    """Return the figures of each class."""
    figures = sample.make_class_figures(scores)
    return [
        ClassMetrics(name, int(sample.support[i]), **{key: values[i] for key, values in figures.items()})
        for i, name in enumerate(classes)
    ]


def count_confusions(truth: Ints, proba: Probabilities) -> Ints:
    """Count rows by truth (down) and prediction (across): [C, C].

    >>> count_confusions(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])).tolist()
    [[1, 0], [1, 1]]
    """
    classes = proba.shape[1]
    return np.bincount(truth * classes + proba.argmax(axis=1), minlength=classes**2).reshape(classes, classes)


def note_classes(classes: Sequence[str], support: Ints, rows: int) -> list[str]:
    """Return notes on classes that no row has, or that all rows have."""
    if not rows:
        return ["There are no rows, so there are no figures."]
    notes = []
    for count, lack, lost in (
        (0, "no row", "recall, ROC AUC or average precision"),
        (rows, "no row outside of it", "ROC AUC or average precision"),
    ):
        names = [f"'{escape(name)}'" for name, known in zip(classes, support.tolist(), strict=True) if known == count]
        if names:
            has, it = ("has", "it") if len(names) == 1 else ("have", "them")
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            named = ", ".join(names[:MAX_NAMED]) + more
            notes.append(f"{named} {has} {lack}, so no {lost}, and the means of these leave {it} out.")
    return notes


def note_groups(rows: int, groups: int, samples: int) -> list[str]:
    """Return a note on missing or unreliable intervals."""
    if not samples or not rows or groups >= MIN_RELIABLE_GROUPS:
        return []
    if groups == 1:
        return ["All rows are of one group, so there are no intervals: they need groups to leave out."]
    return [f"There are only {groups} groups: the intervals are rough; from {MIN_RELIABLE_GROUPS} groups on they hold."]


def count_groups(groups: Ints, positive: NDArray[np.bool_]) -> list[int]:
    """Return in how many groups [N] each class [N, C] has rows."""
    return [len(np.unique(groups[column])) for column in positive.T]


def note_few_groups(classes: Sequence[str], groups_of: Sequence[int], groups: int) -> list[str]:
    """Return a note on classes that have rows in too few groups, where there are enough groups in all."""
    few = [f"'{escape(name)}'" for name, n in zip(classes, groups_of, strict=True) if 0 < n < MIN_RELIABLE_GROUPS]
    if not few or groups < MIN_RELIABLE_GROUPS:
        return []
    more = f" and {len(few) - MAX_NAMED} more" if len(few) > MAX_NAMED else ""
    has, its = ("has", "its") if len(few) == 1 else ("have", "their")
    named = ", ".join(few[:MAX_NAMED]) + more
    return [f"{named} {has} rows in fewer than {MIN_RELIABLE_GROUPS} groups: the intervals of {its} figures are rough."]


def note_d_prime(area: Figure | None, parts: Sequence[PartMetrics]) -> list[str]:
    """Return a note if the d-prime of a part is limited."""
    areas = [part.figures["macro_auc"] for part in parts] if parts else [area.value if area else None]
    if all(one is None or one <= 1 - AREA_MARGIN for one in areas):
        return []
    return [f"d_prime is infinite at a ROC AUC of 1; it is given as {d_prime(np.ones(1))[0]:.2f}."]
