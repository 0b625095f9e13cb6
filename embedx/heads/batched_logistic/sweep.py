"""Sweep: logistic regressions of many views, training parts and Cs in one go, to choose by and to draw curves from.

They are scikit-learn's optima in a fraction of its time (BENCHMARKS.md); `newton` says how. scikit-learn remains the
default for a single head, and the reference of the tests.
"""

import warnings
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedx.errors import UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from embedx.heads.batched_logistic.batches import RegularizationPath

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
Part = tuple[Positions, Positions]  # the training rows, and the rows to score
Views = Mapping[str, NDArray[np.float32]] | Iterable[tuple[str, NDArray[np.float32]]]
UNCHOSEN = 0.1  # the C where too few groups are there to choose by; it suits 100 to 2000 standardised dimensions


@dataclass(frozen=True, eq=False)
class Sweep:
    """What came out for V views, P parts and the Cs, in the order in which they were given.

    `accuracy` and `log_loss` [V, P, Cs] are those of the rows to score, NaN where a part has none. `gap` [V, P, Cs] is
    the distance from the optimum, relative to the objective: below `tol` wherever the solver has converged.

    If asked for, by view and number of the part: `probabilities` [Cs, rows to score, K], and `coefficients`, a weight
    [Cs, K, D] and a bias [Cs, K] for vectors as they are, not standardised. Two classes have two rows of opposite
    weights; a class without an example in the training rows has zeros, and a bias of minus infinity.
    """

    views: tuple[str, ...]
    Cs: tuple[float, ...]
    accuracy: Floats
    log_loss: Floats
    gap: Floats
    probabilities: Mapping[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)
    coefficients: Mapping[tuple[str, int], tuple[Floats, Floats]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Selection:
    """A sweep over outer parts, with a C for each that was chosen inside its training rows.

    `inner` [V, P, Cs] are mean log losses over inner parts, NaN where there are none; `chosen` [V, P] positions in Cs.
    """

    outer: Sweep
    inner: Floats
    chosen: Positions

    def at_chosen(self, scores: Floats) -> Floats:
        """Return of scores [V, P, Cs] of the outer sweep those of the chosen Cs [V, P]."""
        return np.take_along_axis(scores, self.chosen[..., None], axis=2)[..., 0]


def sweep(
    x: Views,
    y: ArrayLike,
    parts: Sequence[Part],
    Cs: Sequence[float],
    *,
    classes: Sequence[str] | None = None,
    sample_weight: ArrayLike | None = None,
    class_weight: str | Mapping[str, float] | None = None,
    keep: Sequence[Literal["probabilities", "coefficients"]] = (),
    tol: float = 1e-6,
    device: str = "auto",
) -> Sweep:
    """Fit a multinomial logistic regression to every training part of every view for every C, and score it.

    Each is the optimum of `make_pipeline(StandardScaler(), LogisticRegression(C=C))` on the training rows of its part.
    A class without an example there gets the probability 0.

    Args:
        x: views by name, or pairs of a name and vectors [N, D]; of an iterator, two views are held at a time.
        y: numbers of classes [N].
        parts: pairs of positions: of training rows, and of rows to score, of which there may be none.
        Cs: inverse strengths of the penalty, as scikit-learn's.
        classes: names, by which `class_weight` calls them; by default "0", "1", ... up to the greatest in y.
        sample_weight: weights [N] in the training; standardisation is without weights, as in a pipeline.
        class_weight: factors by the name of a class, or "balanced" for equal sums in each training part.
        keep: what to return beside the scores: "probabilities", "coefficients".
        tol: the gap at which a solution is taken. Probabilities are then within about 0.005 of the optimum's; with 1e-8
            within 0.001, in about two thirds more time.
        device: "auto", "cpu" or "cuda". A processor solves as many parts at a time as torch has threads.

    Raises:
        UsageError: arguments that do not fit together, or a training part with fewer than two classes.

    >>> rows = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    >>> part = np.arange(4), np.array([0, 3])
    >>> made = sweep({"L0.mean": rows}, [0, 0, 1, 1], [part], [0.1, 1.0])
    >>> made.accuracy.tolist(), made.log_loss.round(3).tolist()
    ([[[1.0, 1.0]]], [[[0.59, 0.248]]])
    """
    import torch

    from embedx.heads.batched_logistic.batches import Plan, pick_device, workers

    y = np.asarray(y)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    check_rows(y, weight, None if classes is None else len(classes))
    names = tuple(map(str, range(y.max() + 1))) if classes is None else tuple(classes)
    parts = [(np.asarray(train, np.int64), np.asarray(test, np.int64)) for train, test in parts]
    check_parts(parts, y, weight)
    if not len(Cs) or not (np.isfinite(Cs).all() and np.min(Cs) > 0):
        raise UsageError(f"Cs takes positive numbers, one or more, not {list(Cs)}.")
    ascending, order = np.unique(np.asarray(Cs, np.float64), return_inverse=True)
    weights = [weight[train] * class_factors(y[train], weight[train], names, class_weight) for train, _ in parts]
    plan = Plan(y, parts, weights, len(names), ascending.tolist(), frozenset(keep), tol)
    found: dict[str, dict[int, RegularizationPath]] = {}
    waiting: deque[tuple[str, list[Future[dict[int, RegularizationPath]]]]] = deque()

    def collect() -> None:
        name, futures = waiting.popleft()
        found[name] = {number: path for future in futures for number, path in future.result().items()}

    where = pick_device(device)
    with workers(where) as pool:
        for name, vectors in x.items() if isinstance(x, Mapping) else x:
            if name in found or any(name == one for one, _ in waiting):
                raise UsageError(f"The view {name!r} is given twice.")
            check_vectors(name, vectors, len(y))
            matrix = torch.as_tensor(np.array(vectors, np.float32)).to(where)
            axes, batches = plan.axes(matrix), plan.batches(matrix.shape[1], where)
            waiting.append((name, [pool.submit(plan.run, matrix, axes, batch) for batch in batches]))
            if len(waiting) > 1:
                collect()
        while waiting:
            collect()
    if not found:
        raise UsageError("There is no view to sweep over; give one or more.")
    scores = np.array([[paths[p].scores for p in range(len(parts))] for paths in found.values()])[:, :, order]
    every = {(name, p): paths[p] for name, paths in found.items() for p in range(len(parts))}
    return Sweep(
        views=tuple(found),
        Cs=tuple(float(C) for C in Cs),
        accuracy=scores[..., 0],
        log_loss=scores[..., 1],
        gap=scores[..., 2],
        probabilities={key: np.stack(path.probabilities)[order] for key, path in every.items() if path.probabilities},
        coefficients={
            key: (np.stack(path.weights)[order], np.stack(path.biases)[order])
            for key, path in every.items()
            if path.weights
        },
    )


def select(
    x: Views,
    y: ArrayLike,
    parts: Sequence[Part],
    Cs: Sequence[float],
    *,
    groups: ArrayLike,
    inner: int = 3,
    seed: int = 0,
    **options: Any,
) -> Selection:
    """Sweep over parts, and choose the C of each by the log loss of inner parts of its training rows.

    Outer and inner parts are one sweep. Where the training rows allow no inner parts, the C nearest to 0.1 is chosen.

    Args:
        x, y, parts, Cs, options: as of `sweep`.
        groups: the group of each row [N]; inner parts do not split one. By recording at least.
        inner: how many inner parts a training part is divided into.
        seed: of the division.

    Raises:
        UsageError: as `sweep`.
    """
    y, groups = np.asarray(y), np.asarray(groups)
    if groups.shape != y.shape:
        raise UsageError(f"groups has the shape {list(groups.shape)}; it needs one value for each of {len(y)} rows.")
    inside = [divide(y, np.asarray(train, np.int64), groups, inner, seed) for train, _ in parts]
    made = sweep(x, y, [*parts, *(part for some in inside for part in some)], Cs, **options)
    losses = np.full((len(made.views), len(parts), len(Cs)), np.nan)
    chosen = np.full(losses.shape[:2], np.abs(np.log(np.asarray(Cs) / UNCHOSEN)).argmin())
    begin = len(parts)
    for p, some in enumerate(inside):
        if some:
            held = made.log_loss[:, begin : begin + len(some)]
            losses[:, p] = np.average(held, axis=1, weights=[len(test) for _, test in some])
            chosen[:, p] = losses[:, p].argmin(axis=1)
        begin += len(some)
    outer = replace(
        made,
        accuracy=made.accuracy[:, : len(parts)],
        log_loss=made.log_loss[:, : len(parts)],
        gap=made.gap[:, : len(parts)],
        probabilities={key: one for key, one in made.probabilities.items() if key[1] < len(parts)},
        coefficients={key: one for key, one in made.coefficients.items() if key[1] < len(parts)},
    )
    return Selection(outer, losses, chosen)


def divide(y: Positions, train: Positions, groups: NDArray[Any], number: int, seed: int) -> list[Part]:
    """Return stratified parts of training rows that split no group; rows of a class unknown to a part are not scored.

    >>> rows = np.arange(6)
    >>> [test.tolist() for _, test in divide(rows % 2, rows, rows // 2, 3, 0)]
    [[4, 5], [2, 3], [0, 1]]
    """
    from sklearn.model_selection import StratifiedGroupKFold

    number = min(number, len(np.unique(groups[train])), np.bincount(y[train]).max(initial=0))
    if number < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class with fewer rows than there are parts
        splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
        split = [(train[a], train[b]) for a, b in splitter.split(train, y[train], groups[train])]
    known = [(a, b[np.isin(y[b], y[a])]) for a, b in split]
    return [(a, b) for a, b in known if len(b) and len(np.unique(y[a])) > 1]


def class_factors(
    y: Positions, weight: Floats, names: Sequence[str], class_weight: str | Mapping[str, float] | None
) -> Floats:
    """Return the factor of each training row [n] by its class.

    >>> class_factors(np.array([0, 0, 0, 1]), np.ones(4), ("a", "b"), "balanced").round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]

    Raises:
        UsageError: neither "balanced" nor positive numbers by names of classes.
    """
    if class_weight is None:
        return np.ones(len(y))
    if class_weight == "balanced":
        sums = np.bincount(y, weight, len(names))
        return np.asarray(sums.sum() / (np.count_nonzero(sums) * np.where(sums > 0, sums, 1))[y])
    if isinstance(class_weight, str) or not set(class_weight) <= set(names):
        raise UsageError(
            f"class_weight takes 'balanced', or weights by names of classes ({', '.join(names[:9])}); "
            f"this is {class_weight!r}."
        )
    factors = np.array([class_weight.get(name, 1.0) for name in names], np.float64)
    if not (np.isfinite(factors).all() and factors.min() > 0):
        raise UsageError(f"class_weight takes positive numbers, not {dict(class_weight)!r}.")
    return np.asarray(factors[y])


def check_rows(y: NDArray[Any], weight: Floats, classes: int | None) -> None:
    """Refuse a y that is not [N] of numbers of classes, and weights that do not belong to it."""
    if y.ndim != 1 or not len(y) or not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise UsageError(f"y takes numbers of classes [N], 0 or more; this is {y.dtype} {list(y.shape)}.")
    if classes is not None and y.max() >= classes:
        raise UsageError(f"y holds the class {y.max()}, but {classes} are named: 0 to {classes - 1} are allowed.")
    if weight.shape != y.shape or not (np.isfinite(weight).all() and weight.min() >= 0):
        raise UsageError(f"sample_weight takes a finite number from 0 on for each of {len(y)} rows.")


def check_parts(parts: Sequence[Part], y: Positions, weight: Floats) -> None:
    """Refuse positions that are none, and training rows of which nothing can be learned."""
    if not parts:
        raise UsageError("There is no part to fit; give pairs of positions: training rows, and rows to score.")
    for number, (train, test) in enumerate(parts):
        for rows in (train, test):
            if rows.ndim != 1 or (len(rows) and not 0 <= rows.min() <= rows.max() < len(y)):
                raise UsageError(f"Part {number} names rows that are none; positions go from 0 to {len(y) - 1}.")
        if len(np.unique(y[train][weight[train] > 0])) < 2:
            raise UsageError(
                f"The {len(train)} training rows of part {number} are of one class or none, so nothing can be learned "
                "there. Leave the part out, or split otherwise."
            )


def check_vectors(name: str, vectors: NDArray[Any], rows: int) -> None:
    """Refuse a view that is not finite vectors [N, D]."""
    if np.ndim(vectors) != 2 or len(vectors) != rows or not vectors.shape[1]:
        raise UsageError(f"The view {name!r} has the shape {list(np.shape(vectors))}; y wants [{rows}, D].")
    if not np.isfinite(vectors).all():
        raise UsageError(f"The view {name!r} holds numbers that are not finite; `embedx verify` finds the rows.")
