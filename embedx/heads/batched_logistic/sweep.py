"""Sweep: logistic regressions of many views, training parts and Cs together.

The solutions are those of scikit-learn in a fraction of its time (BENCHMARKS.md); see `newton` for the method.
scikit-learn is still used for a single head, and is the reference in the tests.
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

    from embedx.heads.batched_logistic.batches import RegularizationPath, SweepPlan

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
Part = tuple[Positions, Positions]  # (training rows, rows to score)
Views = Mapping[str, NDArray[np.float32]] | Iterable[tuple[str, NDArray[np.float32]]]
DEFAULT_C = 0.1  # if there are too few groups to choose; it suits 100 to 2000 standardised dimensions


@dataclass(frozen=True, eq=False)
class Sweep:
    """The results for V views, P parts and the Cs, in the order in which they were given.

    Attributes:
        views: the names of the views.
        Cs: the inverse penalty strengths.
        accuracy: [V, P, Cs] on the rows to score; NaN for a part without such rows.
        log_loss: [V, P, Cs] in nats.
        gap: [V, P, Cs] the distance from the optimum relative to the objective; below `tol` if the solver converged.
        probabilities: (view, part) -> [Cs, rows to score, K], if asked for.
        coefficients: (view, part) -> weight [Cs, K, D] and bias [Cs, K] for vectors that are not standardised, if
            asked for. Two classes have opposite weights; a class without training rows has weight 0 and a bias of minus
            infinity.
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
    """A sweep over outer parts, with a C for each part that was chosen inside its training rows.

    Attributes:
        outer: the sweep over the outer parts.
        inner: [V, P, Cs] mean log loss over inner parts; NaN if there are none.
        chosen: [V, P] positions in Cs.
    """

    outer: Sweep
    inner: Floats
    chosen: Positions

    def at_chosen(self, scores: Floats) -> Floats:
        """Return the scores [V, P] at the chosen Cs, given scores [V, P, Cs] of the outer sweep."""
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
    """Fit a multinomial logistic regression for every view, training part and C, and score it.

    Each is the optimum of `make_pipeline(StandardScaler(), LogisticRegression(C=C))` on the training rows of its part.
    A class without training rows gets the probability 0.

    Args:
        x: view name -> vectors [N, D], or pairs of these; of an iterator, two views are in memory at a time.
        y: class numbers [N].
        parts: pairs of positions: training rows, and rows to score (may be empty).
        Cs: inverse penalty strengths, as in scikit-learn.
        classes: class names, for `class_weight`; by default "0", "1", ... up to the highest in y.
        sample_weight: training weights [N]; they do not count in the standardisation, as in a pipeline.
        class_weight: weights by class name, or "balanced".
        keep: what to return besides the scores: "probabilities", "coefficients".
        tol: the gap at which a solution is accepted. Probabilities are then within about 0.005 of the optimum; with
            1e-8 within 0.001, in about two thirds more time.
        device: "auto", "cpu" or "cuda". On a CPU as many batches run at a time as torch has threads.

    Returns:
        Accuracy, log loss and gap of every fit, and what `keep` names.

    Raises:
        UsageError: invalid arguments, or a training part with fewer than two classes.

    >>> rows = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    >>> part = np.arange(4), np.array([0, 3])
    >>> result = sweep({"L0.mean": rows}, [0, 0, 1, 1], [part], [0.1, 1.0])
    >>> result.accuracy.tolist(), result.log_loss.round(3).tolist()
    ([[[1.0, 1.0]]], [[[0.59, 0.248]]])
    """
    from embedx.heads.batched_logistic.batches import SweepPlan

    y = np.asarray(y)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    check_rows(y, weight, None if classes is None else len(classes))
    names = tuple(map(str, range(y.max() + 1))) if classes is None else tuple(classes)
    parts = [(np.asarray(train, np.int64), np.asarray(test, np.int64)) for train, test in parts]
    check_parts(parts, y, weight)
    if not len(Cs) or not (np.isfinite(Cs).all() and np.min(Cs) > 0):
        raise UsageError(f"Cs must be one or more positive numbers, not {list(Cs)}.")
    ascending, order = np.unique(np.asarray(Cs, np.float64), return_inverse=True)
    weights = [weight[train] * class_factors(y[train], weight[train], names, class_weight) for train, _ in parts]
    plan = SweepPlan(y, parts, weights, len(names), ascending.tolist(), frozenset(keep), tol)
    return gather(solve_views(x, plan, device), tuple(float(C) for C in Cs), order)


def solve_views(x: Views, plan: "SweepPlan", device: str) -> "dict[str, dict[int, RegularizationPath]]":
    """Return view -> part -> solutions; while one view is solved, the next one is read."""
    import torch

    from embedx.extractors.devices import pick_device
    from embedx.heads.batched_logistic.batches import workers

    solved: dict[str, dict[int, RegularizationPath]] = {}
    pending: deque[tuple[str, list[Future[dict[int, RegularizationPath]]]]] = deque()

    def collect() -> None:
        name, futures = pending.popleft()
        solved[name] = {number: path for future in futures for number, path in future.result().items()}

    place = pick_device(device)
    with workers(place) as pool:
        for name, vectors in x.items() if isinstance(x, Mapping) else x:
            if name in solved or any(name == other for other, _ in pending):
                raise UsageError(f"The view {name!r} is given twice.")
            check_vectors(name, vectors, len(plan.y))
            matrix = torch.as_tensor(np.array(vectors, np.float32)).to(place)
            axes, batches = plan.axes(matrix), plan.batches(matrix.shape[1], place)
            pending.append((name, [pool.submit(plan.run, matrix, axes, batch) for batch in batches]))
            if len(pending) > 1:
                collect()
        while pending:
            collect()
    if not solved:
        raise UsageError("There is no view to sweep over; give one or more.")
    return solved


def gather(
    solved: "Mapping[str, Mapping[int, RegularizationPath]]", Cs: tuple[float, ...], order: NDArray[np.int64]
) -> Sweep:
    """Return the solutions as arrays, with the Cs in the order [Cs] in which they were given."""
    scores = np.array([[paths[p].scores for p in range(len(paths))] for paths in solved.values()])[:, :, order]
    by_key = {(name, p): paths[p] for name, paths in solved.items() for p in range(len(paths))}
    return Sweep(
        views=tuple(solved),
        Cs=Cs,
        accuracy=scores[..., 0],
        log_loss=scores[..., 1],
        gap=scores[..., 2],
        probabilities={key: np.stack(path.probabilities)[order] for key, path in by_key.items() if path.probabilities},
        coefficients={
            key: (np.stack(path.weights)[order], np.stack(path.biases)[order])
            for key, path in by_key.items()
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
    """Sweep over parts, and choose the C of each part by the log loss on inner parts of its training rows.

    Outer and inner parts are solved in one sweep. If there are too few groups for inner parts, the C nearest to 0.1 is
    chosen.

    Args:
        x, y, parts, Cs, options: see `sweep`.
        groups: the group of each row [N], at least by recording; inner parts do not split groups.
        inner: the number of inner parts.
        seed: the seed for the inner parts.

    Returns:
        The sweep over the outer parts, with the chosen Cs.

    Raises:
        UsageError: see `sweep`.
    """
    y, groups = np.asarray(y), np.asarray(groups)
    if groups.shape != y.shape:
        raise UsageError(
            f"groups has the shape {list(groups.shape)}; it must have one value for each of {len(y)} rows."
        )
    inner_parts = [divide(y, np.asarray(train, np.int64), groups, inner, seed) for train, _ in parts]
    swept = sweep(x, y, [*parts, *(part for of_part in inner_parts for part in of_part)], Cs, **options)
    losses = np.full((len(swept.views), len(parts), len(Cs)), np.nan)
    chosen = np.full(losses.shape[:2], np.abs(np.log(np.asarray(Cs) / DEFAULT_C)).argmin())
    start = len(parts)
    for p, of_part in enumerate(inner_parts):
        if of_part:
            held_out = swept.log_loss[:, start : start + len(of_part)]
            losses[:, p] = np.average(held_out, axis=1, weights=[len(test) for _, test in of_part])
            chosen[:, p] = losses[:, p].argmin(axis=1)
        start += len(of_part)
    outer = replace(
        swept,
        accuracy=swept.accuracy[:, : len(parts)],
        log_loss=swept.log_loss[:, : len(parts)],
        gap=swept.gap[:, : len(parts)],
        probabilities={key: value for key, value in swept.probabilities.items() if key[1] < len(parts)},
        coefficients={key: value for key, value in swept.coefficients.items() if key[1] < len(parts)},
    )
    return Selection(outer, losses, chosen)


def divide(y: Positions, train: Positions, groups: NDArray[Any], number: int, seed: int) -> list[Part]:
    """Return stratified parts of training rows that split no group; rows of a class without training rows are left out.

    >>> rows = np.arange(6)
    >>> [test.tolist() for _, test in divide(rows % 2, rows, rows // 2, 3, 0)]
    [[4, 5], [2, 3], [0, 1]]
    """
    from sklearn.model_selection import StratifiedGroupKFold

    number = min(number, len(np.unique(groups[train])), np.bincount(y[train]).max(initial=0))
    if number < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of classes with fewer rows than parts
        splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed % 2**32)
        split = [(train[a], train[b]) for a, b in splitter.split(train, y[train], groups[train])]
    known = [(a, b[np.isin(y[b], y[a])]) for a, b in split]
    return [(a, b) for a, b in known if len(b) and len(np.unique(y[a])) > 1]


def class_factors(
    y: Positions, weight: Floats, names: Sequence[str], class_weight: str | Mapping[str, float] | None
) -> Floats:
    """Return the class weight of each training row [n].

    >>> class_factors(np.array([0, 0, 0, 1]), np.ones(4), ("a", "b"), "balanced").round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]

    Raises:
        UsageError: class_weight is neither "balanced" nor positive numbers by class name.
    """
    if class_weight is None:
        return np.ones(len(y))
    if class_weight == "balanced":
        sums = np.bincount(y, weight, len(names))
        return np.asarray(sums.sum() / (np.count_nonzero(sums) * np.where(sums > 0, sums, 1))[y])
    if isinstance(class_weight, str) or not set(class_weight) <= set(names):
        raise UsageError(
            f"class_weight must be 'balanced' or weights by class name ({', '.join(names[:9])}), not {class_weight!r}."
        )
    factors = np.array([class_weight.get(name, 1.0) for name in names], np.float64)
    if not (np.isfinite(factors).all() and factors.min() > 0):
        raise UsageError(f"class_weight must hold positive numbers, not {dict(class_weight)!r}.")
    return np.asarray(factors[y])


def check_rows(y: NDArray[Any], weight: Floats, classes: int | None) -> None:
    """Check that y is class numbers [N], and that the weights have the same shape."""
    if y.ndim != 1 or not len(y) or not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise UsageError(f"y must be class numbers [N], 0 or more; this is {y.dtype} {list(y.shape)}.")
    if classes is not None and y.max() >= classes:
        raise UsageError(f"y holds the class {y.max()}; with {classes} classes 0 to {classes - 1} are allowed.")
    if weight.shape != y.shape or not (np.isfinite(weight).all() and weight.min() >= 0):
        raise UsageError(f"sample_weight must hold a finite number of 0 or more for each of {len(y)} rows.")


def check_parts(parts: Sequence[Part], y: Positions, weight: Floats) -> None:
    """Check that positions are in range, and that every part has two classes to train on."""
    if not parts:
        raise UsageError("parts is empty; give pairs of positions: (training rows, rows to score).")
    for number, (train, test) in enumerate(parts):
        for rows in (train, test):
            if rows.ndim != 1 or (len(rows) and not 0 <= rows.min() <= rows.max() < len(y)):
                raise UsageError(f"Part {number} has positions out of range; they must be from 0 to {len(y) - 1}.")
        if len(np.unique(y[train][weight[train] > 0])) < 2:
            raise UsageError(
                f"The {len(train)} training rows of part {number} have fewer than two classes. Leave the part out, or "
                "use another split."
            )


def check_vectors(name: str, vectors: NDArray[Any], rows: int) -> None:
    """Check that a view is finite vectors [N, D]."""
    if np.ndim(vectors) != 2 or len(vectors) != rows or not vectors.shape[1]:
        raise UsageError(f"The view {name!r} has the shape {list(np.shape(vectors))}; it must be [{rows}, D].")
    if not np.isfinite(vectors).all():
        raise UsageError(f"The view {name!r} holds numbers that are not finite. `embedx verify` finds the rows.")
