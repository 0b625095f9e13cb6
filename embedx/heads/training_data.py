"""Training data of a head: checked arrays, and how they are divided for choices such as C and early stopping.

Groups are never split, so that the held-out rows are as different from the training rows as the test rows are.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.arguments.types import read_numbers
from embedx.errors import UsageError
from embedx.heads.preprocessing import Array, Step, check_chain, fit_chain

Positions = NDArray[np.int64]
ClassWeight = str | Mapping[str, float] | None
ABSENT_LOGIT = -30.0  # logit of a class without examples: a probability of 1e-13 next to a logit of 0
EARLY_STOPPING_PARTS = 5  # one part in five is held out for early stopping


@dataclass(frozen=True, eq=False)
class Examples:
    """Vectors with their classes and weights.

    Attributes:
        x: vectors [N, D]; for several layers [N, L, D].
        y: class numbers [N]; multi-label: [N, C] of 0 and 1.
        weights: in the shape of y.
        groups: [N] rows of one group are never split.
        validation: [N] True for rows that are used for choices only; None if the caller gives no such rows.
        classes: the C class names.
        multilabel: whether a row may have several labels.
        chain: the preprocessing steps.
        seed: the seed for all random choices.
        copies: [N] True for altered copies of rows: they are trained on where their group is, and never held out.
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
    copies: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x)

    def present(self, rows: Positions | slice = slice(None)) -> Positions:
        """Return the classes with an example among some rows; multi-label: those with positive and negative ones."""
        y, counts = self.y[rows], self.weights[rows] > 0
        if not self.multilabel:
            return np.unique(y[counts])
        return np.flatnonzero(((y == 1) & counts).any(axis=0) & ((y == 0) & counts).any(axis=0))

    def prior(self, rows: Positions | slice = slice(None)) -> NDArray[np.float64]:
        """Return the logits [C] of the class frequencies among some rows, smoothed by the rule of succession."""
        truth, weights = self.one_hot()[rows], self.weights[rows]
        weights = weights if self.multilabel else weights[:, None]
        positives, negatives = (weights * truth).sum(axis=0), (weights * (1 - truth)).sum(axis=0)
        return np.asarray(np.log(positives + 1) - (np.log(negatives + 1) if self.multilabel else 0))

    def fill_absent(self, weight: Array, bias: Array, rows: Positions | slice = slice(None)) -> None:
        """Set weight [C, D] and bias [C] of a linear classifier for classes without examples, in place.

        Such a class is never predicted; a label that all rows or no rows have is predicted with its frequency.
        """
        absent = np.setdiff1d(np.arange(len(bias)), self.present(rows))
        weight[absent], bias[absent] = 0, self.prior(rows)[absent] if self.multilabel else ABSENT_LOGIT

    def one_hot(self) -> NDArray[np.float64]:
        """Return y as [N, C] of 0 and 1."""
        return self.y.astype(np.float64) if self.multilabel else np.eye(len(self.classes))[self.y]

    def strata(self) -> Positions:
        """Return one class per row [N] to balance folds by; multi-label: the rarest label of a row, or C for none."""
        if not self.multilabel:
            return self.y
        order = np.argsort(self.y.sum(axis=0), kind="stable")
        marked = self.y[:, order] == 1
        return np.where(marked.any(axis=1), marked.argmax(axis=1), len(self.classes))

    def folds(self, number: int) -> list[tuple[Positions, Positions]]:
        """Return (training, held-out) positions: the caller's validation rows, or stratified folds of whole groups.

        Folds with fewer than two classes in the training rows are left out, and so are held-out rows whose class has no
        training row.
        """
        folds = []
        for train, held in self._parts(number):
            known = self.present(train)
            held = held if self.multilabel else held[np.isin(self.y[held], known)]
            if len(held) and len(known) >= (1 if self.multilabel else 2):
                folds.append((train, held))
        return folds

    def hold_out(self) -> tuple[Positions, Positions]:
        """Return training and held-out positions for early stopping; every class keeps training rows.

        The held-out positions are empty if there are too few groups.
        """
        parts = self._parts(EARLY_STOPPING_PARTS)
        train, held = parts[0] if parts else (np.arange(len(self)), np.zeros(0, np.int64))
        if self.validation is None:
            strata = self.strata()
            only_held = np.isin(strata[held], np.setdiff1d(strata[held], strata[train]))
            returned = np.isin(self.groups, self.groups[held[only_held]])
            train, held = np.union1d(train, np.flatnonzero(returned)), held[~returned[held]]
        return train, held

    def _parts(self, number: int) -> list[tuple[Positions, Positions]]:
        if self.validation is not None:
            return [(np.flatnonzero(~self.validation), np.flatnonzero(self.validation))]
        rows = np.flatnonzero(~self.copies)
        strata, groups = self.strata()[rows], self.groups[rows]
        number = min(number, len(np.unique(groups)), np.bincount(strata).max())
        if number < 2:
            return []
        from sklearn.model_selection import StratifiedGroupKFold

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of classes with fewer rows than folds
            splitter = StratifiedGroupKFold(number, shuffle=True, random_state=self.seed % 2**32)
            parts = list(splitter.split(strata, strata, groups))
        with_copies = [np.flatnonzero(np.isin(self.groups, groups[train])) for train, _ in parts]
        return [
            (train, rows[held]) for train, (_, held) in zip(with_copies, parts, strict=True) if len(train) and len(held)
        ]

    def prepare(self, rows: Positions | slice = slice(None)) -> tuple[dict[str, Array], Array]:
        """Fit the preprocessing steps on some rows; return their arrays and the transformed rows."""
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
    copies: Array | None = None,
) -> Examples:
    """Return checked training data; see `embedx.heads.fit` for the arguments.

    Raises:
        UsageError: shapes do not agree, numbers are not finite, or there are fewer than two classes.
    """
    x, y, classes = np.ascontiguousarray(read_numbers(x, "x", np.float32)), np.asarray(y), tuple(classes)
    check_vectors(x)
    if len(set(classes)) != len(classes):
        raise UsageError("classes holds a name twice; class names must differ.")
    check_truth(y, len(x), len(classes), multilabel)
    groups = np.arange(len(x)) if groups is None else np.asarray(groups)
    base = np.ones(len(x)) if sample_weight is None else read_numbers(sample_weight, "sample_weight", np.float64)
    validation = None if validation is None else np.asarray(validation, bool)
    copies = np.zeros(len(x), bool) if copies is None else np.asarray(copies, bool)
    for name, array in (
        ("groups", groups), ("sample_weight", base), ("validation", validation), ("copies", copies)
    ):  # fmt: skip
        if array is not None and array.shape != (len(x),):
            raise UsageError(
                f"{name} has the shape {list(array.shape)}; it must have one value for each of {len(x)} rows."
            )
    if not np.isfinite(base).all() or (base < 0).any() or not base.any():
        raise UsageError("sample_weight must hold finite numbers of 0 or more, and not only zeros.")
    if validation is not None and (validation.all() or not validation.any()):
        raise UsageError(
            f"validation marks {validation.sum()} of {len(x)} rows; it must mark some rows and leave some to train on."
        )
    if copies.all() or (validation is not None and (validation & copies).any()):
        raise UsageError("copies marks validation rows, or all rows; it must mark copies of rows to train on.")
    if validation is not None and np.isin(groups[validation], groups[~validation]).any():
        raise UsageError(
            "validation splits a group: rows of one group would be in both the training and the validation rows."
        )
    y = y.astype(np.int64)
    weights = weigh(y, base, classes, multilabel, class_weight)
    examples = Examples(x, y, weights, groups, validation, classes, multilabel, chain, seed, copies)
    check_chain(chain, x.shape)
    trained = slice(None) if validation is None else np.flatnonzero(~validation)
    if not multilabel and len(examples.present(trained)) < 2:
        names = ", ".join(classes[number] for number in examples.present(trained))
        raise UsageError(
            f"A head needs examples of at least two classes; the training rows have one ({names}). Label more rows, or "
            "use another split."
        )
    return examples


def check_vectors(x: Array) -> None:
    """Check that x is vectors [N, D] or [N, L, D] of finite numbers; name the first row that is not."""
    if x.ndim not in (2, 3) or not len(x):
        raise UsageError(f"x must be vectors [N, D] or [N, L, D], with a row or more; its shape is {list(x.shape)}.")
    invalid = np.flatnonzero(~np.isfinite(x).all(axis=tuple(range(1, x.ndim))))
    if len(invalid):
        raise UsageError(
            f"x holds NaN or infinite values in {len(invalid)} of {len(x)} rows; the first is row {invalid[0]} "
            "(counted from 0). Correct or remove these rows."
        )


def check_truth(y: Array, rows: int, classes: int, multilabel: bool) -> None:
    """Check that y is class numbers [N], or 0 and 1 [N, C]."""
    wanted = (rows, classes) if multilabel else (rows,)
    if y.shape != wanted:
        raise UsageError(f"y has the shape {list(y.shape)}; it must have {list(wanted)}.")
    allowed = 2 if multilabel else classes
    if not np.isin(y, np.arange(allowed)).all():
        raise UsageError(f"y must hold whole numbers from 0 to {allowed - 1}; there are {classes} classes.")


def weigh(
    y: NDArray[np.int64],
    base: NDArray[np.float64],
    classes: tuple[str, ...],
    multilabel: bool,
    class_weight: ClassWeight,
) -> NDArray[np.float64]:
    """Return weights in the shape of y: the weight of the row times the weight of its class (or label, if it has it).

    "balanced" gives all classes the same total weight; multi-label: the rows with and without each label.

    >>> weigh(np.array([0, 0, 0, 1]), np.ones(4), ("a", "b"), False, "balanced").round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]

    Raises:
        UsageError: class_weight is neither "balanced" nor positive numbers by class name.
    """
    weights = np.repeat(base[:, None], len(classes), axis=1) if multilabel else base
    if class_weight is None:
        return weights
    if class_weight == "balanced":
        if not multilabel:
            sums = np.bincount(y, base, len(classes))
            return np.asarray(weights * (base.sum() / (np.count_nonzero(sums) * np.where(sums > 0, sums, 1)))[y])
        positives = (base[:, None] * y).sum(axis=0)
        sums = np.where(y == 1, positives, base.sum() - positives)
        return np.asarray(weights * base.sum() / (2 * np.where(sums > 0, sums, 1)))
    if isinstance(class_weight, str) or not set(class_weight) <= set(classes):
        given = class_weight if isinstance(class_weight, str) else ", ".join(sorted(set(class_weight) - set(classes)))
        raise UsageError(
            f"class_weight must be 'balanced' or weights by class name ({', '.join(classes[:9])}), not {given!r}."
        )
    factors = np.array([class_weight.get(name, 1.0) for name in classes], np.float64)
    if not np.isfinite(factors).all() or (factors <= 0).any():
        raise UsageError("class_weight must hold positive numbers.")
    return np.asarray(weights * np.where(y == 1, factors, 1)) if multilabel else np.asarray(weights * factors[y])
