"""Examples: what a head learns from, checked, and how it is divided while it is learned from.

Groups are never split: what a choice inside the training rows is judged by is as foreign as a test part is.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.heads.preprocessing import Array, Step, check_chain, fit_chain

Positions = NDArray[np.int64]
ClassWeight = str | Mapping[str, float] | None
ABSENT = -30.0  # the logit of a class without an example: a probability of 1e-13 beside a logit of 0
HELD_OUT = 5  # one in so many rows is held out for early stopping


@dataclass(frozen=True, eq=False)
class Examples:
    """Vectors x [N, D], or [N, L, D] of several layers, with what is true of them.

    `y` [N] are numbers of classes, or [N, C] of 0 and 1 if a row may have several labels; `weights` has the shape of y.
    `validation` [N] marks rows that serve choices only, if the caller brings such.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    weights: NDArray[np.float64]
    groups: Array
    validation: NDArray[np.bool_] | None
    classes: tuple[str, ...]
    multilabel: bool
    chain: tuple[Step, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.x)

    def present(self, rows: Positions | slice = slice(None)) -> Positions:
        """Return the numbers of the classes that have an example among some rows; of labels, those with both kinds."""
        y, counts = self.y[rows], self.weights[rows] > 0
        if not self.multilabel:
            return np.unique(y[counts])
        return np.flatnonzero(((y == 1) & counts).any(axis=0) & ((y == 0) & counts).any(axis=0))

    def prior(self, rows: Positions | slice = slice(None)) -> NDArray[np.float64]:
        """Return the logits [C] of how often classes or labels are seen among some rows, by the rule of succession."""
        truth, weights = self.one_hot()[rows], self.weights[rows]
        weights = weights if self.multilabel else weights[:, None]
        ayes, noes = (weights * truth).sum(axis=0), (weights * (1 - truth)).sum(axis=0)
        return np.asarray(np.log(ayes + 1) - (np.log(noes + 1) if self.multilabel else 0))

    def fill_absent(self, weight: Array, bias: Array, rows: Positions | slice = slice(None)) -> None:
        """Write into a linear classifier, weight [C, D] and bias [C], what is said of classes without an example.

        Such a class is never named; a label that all rows have, or none has, is answered by how often that was seen.
        """
        absent = np.setdiff1d(np.arange(len(bias)), self.present(rows))
        weight[absent], bias[absent] = 0, self.prior(rows)[absent] if self.multilabel else ABSENT

    def one_hot(self) -> NDArray[np.float64]:
        """Return y as [N, C] of 0 and 1."""
        return self.y.astype(np.float64) if self.multilabel else np.eye(len(self.classes))[self.y]

    def strata(self) -> Positions:
        """Return a class [N] to balance parts by: with several labels the rarest of a row, or a class for none."""
        if not self.multilabel:
            return self.y
        order = np.argsort(self.y.sum(axis=0), kind="stable")
        marked = self.y[:, order] == 1
        return np.where(marked.any(axis=1), marked.argmax(axis=1), len(self.classes))

    def folds(self, number: int) -> list[tuple[Positions, Positions]]:
        """Return (training, held-out) positions: by the caller's validation rows, or stratified folds of whole groups.

        A fold counts where its training part can be learned from; of its held-out rows, those whose class is in the
        training part, as of others no choice can know.
        """
        found = []
        for train, held in self._parts(number):
            known = self.present(train)
            held = held if self.multilabel else held[np.isin(self.y[held], known)]
            if len(held) and len(known) >= (1 if self.multilabel else 2):
                found.append((train, held))
        return found

    def hold_out(self) -> tuple[Positions, Positions]:
        """Return training and held-out positions for early stopping; every class keeps examples in the training part.

        The second is empty where nothing can be spared.
        """
        parts = self._parts(HELD_OUT)
        train, held = parts[0] if parts else (np.arange(len(self)), np.zeros(0, np.int64))
        if self.validation is None:
            strata = self.strata()
            lost = np.isin(strata[held], np.setdiff1d(strata[held], strata[train]))
            back = np.isin(self.groups, self.groups[held[lost]])
            train, held = np.union1d(train, np.flatnonzero(back)), held[~back[held]]
        return train, held

    def _parts(self, number: int) -> list[tuple[Positions, Positions]]:
        if self.validation is not None:
            return [(np.flatnonzero(~self.validation), np.flatnonzero(self.validation))]
        strata = self.strata()
        number = min(number, len(np.unique(self.groups)), np.bincount(strata).max())
        if number < 2:
            return []
        from sklearn.model_selection import StratifiedGroupKFold

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class with fewer rows than there are folds
            splitter = StratifiedGroupKFold(number, shuffle=True, random_state=self.seed % 2**32)
            parts = list(splitter.split(strata, strata, self.groups))
        return [(train, held) for train, held in parts if len(train) and len(held)]

    def prepare(self, rows: Positions | slice = slice(None)) -> tuple[dict[str, Array], Array]:
        """Learn the chain of steps on some rows; return its arrays and those rows as it makes them."""
        return fit_chain(self.chain, self.x[rows])


def make_examples(
    x: Array,
    y: Array,
    classes: Sequence[str],
    *,
    multilabel: bool,
    groups: Array | None,
    validation: Array | None,
    sample_weight: Array | None,
    class_weight: ClassWeight,
    chain: tuple[Step, ...],
    seed: int,
) -> Examples:
    """Check what a head is to learn from; see `fit` for the arguments.

    Raises:
        UsageError: shapes that do not agree, numbers that are none, or nothing to tell apart.
    """
    x, y, classes = np.ascontiguousarray(x, np.float32), np.asarray(y), tuple(classes)
    if x.ndim not in (2, 3) or not len(x) or not np.isfinite(x).all():
        raise UsageError(f"A head learns from finite vectors [N, D] or [N, L, D]; these are {list(x.shape)}.")
    if len(set(classes)) != len(classes):
        raise UsageError("The names of classes must differ from each other.")
    check_truth(y, len(x), len(classes), multilabel)
    groups = np.arange(len(x)) if groups is None else np.asarray(groups)
    base = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    validation = None if validation is None else np.asarray(validation, bool)
    for name, array in (("groups", groups), ("sample_weight", base), ("validation", validation)):
        if array is not None and array.shape != (len(x),):
            raise UsageError(f"{name} has the shape {list(array.shape)}; it needs one value for each of {len(x)} rows.")
    if not np.isfinite(base).all() or (base < 0).any() or not base.any():
        raise UsageError("sample_weight takes finite numbers from 0 on, and not zeros alone.")
    if validation is not None and (validation.all() or not validation.any()):
        raise UsageError(f"validation marks {validation.sum()} of {len(x)} rows; some must be left to learn from.")
    if validation is not None and np.isin(groups[validation], groups[~validation]).any():
        raise UsageError("validation splits a group: rows of one group would be learned from and judged by.")
    y = y.astype(np.int64)
    weights = weigh(y, base, classes, multilabel, class_weight)
    examples = Examples(x, y, weights, groups, validation, classes, multilabel, chain, seed)
    check_chain(chain, x.shape)
    learned = slice(None) if validation is None else np.flatnonzero(~validation)
    if not multilabel and len(examples.present(learned)) < 2:
        names = ", ".join(classes[number] for number in examples.present(learned))
        raise UsageError(
            f"A head needs examples of two classes or more; the training rows have one ({names}). Label more rows, or "
            "take another split."
        )
    return examples


def check_truth(y: Array, rows: int, classes: int, multilabel: bool) -> None:
    """Refuse a y that is not [N] of class numbers, or [N, C] of 0 and 1."""
    wanted = (rows, classes) if multilabel else (rows,)
    if y.shape != wanted:
        raise UsageError(f"y has the shape {list(y.shape)}, and should have {list(wanted)}.")
    allowed = 2 if multilabel else classes
    if not np.isin(y, np.arange(allowed)).all():
        raise UsageError(f"y takes whole numbers from 0 to {allowed - 1}, as {classes} classes are named.")


def weigh(
    y: NDArray[np.int64],
    base: NDArray[np.float64],
    classes: tuple[str, ...],
    multilabel: bool,
    class_weight: ClassWeight,
) -> NDArray[np.float64]:
    """Return weights in the shape of y: that of the row, times that of its class, or of its label where it has it.

    "balanced" gives all classes the same sum, and with several labels those that have a label and those that have not.

    >>> weigh(np.array([0, 0, 0, 1]), np.ones(4), ("a", "b"), False, "balanced").round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]

    Raises:
        UsageError: neither "balanced" nor a positive number for names of classes.
    """
    weights = np.repeat(base[:, None], len(classes), axis=1) if multilabel else base
    if class_weight is None:
        return weights
    if class_weight == "balanced":
        if not multilabel:
            sums = np.bincount(y, base, len(classes))
            return np.asarray(weights * (base.sum() / (np.count_nonzero(sums) * np.where(sums > 0, sums, 1)))[y])
        ayes = (base[:, None] * y).sum(axis=0)
        sums = np.where(y == 1, ayes, base.sum() - ayes)
        return np.asarray(weights * base.sum() / (2 * np.where(sums > 0, sums, 1)))
    if isinstance(class_weight, str) or not set(class_weight) <= set(classes):
        given = class_weight if isinstance(class_weight, str) else ", ".join(sorted(set(class_weight) - set(classes)))
        raise UsageError(
            f"class_weight takes 'balanced', or weights for names of classes ({', '.join(classes[:9])}), not {given!r}."
        )
    factors = np.array([class_weight.get(name, 1.0) for name in classes], np.float64)
    if not np.isfinite(factors).all() or (factors <= 0).any():
        raise UsageError("class_weight takes positive numbers.")
    return np.asarray(weights * np.where(y == 1, factors, 1)) if multilabel else np.asarray(weights * factors[y])
