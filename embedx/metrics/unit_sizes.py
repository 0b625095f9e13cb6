"""Sizes of units that depend on the label: labels of a large and a small unit are then not exchangeable.

If the recordings of one class are longer than those of another, a permuted labelling gives each class long and short
recordings, as the true one never does, and its score has another distribution. So units are cut to a common number of
rows, and exchange labels only with units of as many. Sizes and labels decide how, and never the vectors: then all
orders of the labels of equal units are as likely if labels and vectors are independent, whatever the sizes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.figures import Floats, Ints
from embedx.metrics.permutations import Exchange
from embedx.metrics.weighted_sums import divide

ORDERS = 99  # of the labels, to see whether sizes depend on them
DEPENDENCE = 0.1  # a p-value: rather cut the units of some sets too many, because a missed dependence costs exactness
SHARED = 0.5  # of the variance of a row is that of its unit; n rows are then worth n / (1 + (n - 1) / 2), at most two


def sizes_depend(exchanges: Sequence[Exchange], truth: NDArray[np.generic], random: np.random.Generator) -> bool:
    """Return whether the sizes of units differ between labels: a permutation test of Anderson and Darling's distance.

    Args:
        exchanges: the units that exchange their labels.
        truth: the classes [N], or labels of 0 and 1 [N, K], of the rows of the units.
        random: for the permutations.
    """
    sizes = np.array([len(unit) for exchange in exchanges for unit in exchange.units])
    if len(np.unique(sizes)) < 2:
        return False
    block = np.repeat(np.arange(len(exchanges)), [len(exchange.units) for exchange in exchanges])
    order = np.lexsort((sizes, block))
    of_units = truth[np.array([unit[0] for exchange in exchanges for unit in exchange.units])[order]]
    has = (of_units if truth.ndim == 2 else of_units[:, None] == np.unique(of_units)).astype(np.float64)
    _, start, counts = np.unique(block, return_index=True, return_counts=True)
    share = (np.add.reduceat(has, start) / counts[:, None])[block]
    place, length = np.arange(len(block)) - start[block] + 1, counts[block]
    changes = np.append((np.diff(sizes[order]) > 0) & (np.diff(block) == 0), False)  # the next unit is larger
    weight = (length / (place * (length - place + (place == length))))[changes, None]
    weight = weight * divide(np.ones_like(share), share * (1 - share))[changes]

    def distance(labels: Floats) -> float:
        return float(np.nansum(weight * np.cumsum(labels - share, axis=0)[changes] ** 2))

    true = distance(has) * (1 - 1e-9)  # sums of another order must tie
    drawn = [distance(has[np.lexsort((random.random(len(block)), block))]) for _ in range(ORDERS)]
    return 1 + sum(one >= true for one in drawn) <= DEPENDENCE * (1 + ORDERS)


def cut_units(exchange: Exchange, random: np.random.Generator) -> list[Ints]:
    """Return the rows of each unit that are left: neighbouring ones, so that their likeness does not tell the size.

    Units larger than the cap are cut to it. The cap gives the most to exchange: the number of units that get another
    label on average when units of one size exchange theirs, times what their rows are worth.
    """
    sizes, of_size = np.unique([len(unit) for unit in exchange.units], return_inverse=True)
    labels, of_label = np.unique(exchange.labels, return_inverse=True)
    exact = np.zeros((len(sizes), len(labels)))
    np.add.at(exact, (of_size, of_label), 1)
    capped = exact[::-1].cumsum(axis=0)[::-1]  # units of this size or a larger one
    worth = sizes / (1 + SHARED * (sizes - 1))
    below = np.cumsum(worth * count_moves(exact)) - worth * count_moves(exact)
    cap = int(sizes[np.argmax(below + worth * count_moves(capped))])
    starts = [int(random.integers(max(1, len(unit) - cap + 1))) for unit in exchange.units]
    return [unit[start : start + cap] for unit, start in zip(exchange.units, starts, strict=True)]


def count_moves(units: Floats) -> Floats:
    """Return how many units get another label on average, for the units [..., L] of each label that exchange theirs.

    >>> count_moves(np.array([[2.0, 2.0], [4.0, 0.0]])).tolist()
    [2.0, 0.0]
    """
    total = units.sum(axis=-1)
    return np.asarray(total - (units**2).sum(axis=-1) / np.maximum(total, 1))
