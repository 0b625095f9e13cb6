"""Permutations: the orders of labels that are as likely as the true one if labels and vectors are independent.

Rows are not exchangeable one by one: the rows of a group share an effect in their vectors, and often a label. So labels
move within levels of units, such as groups and recordings:

- units of which all rows have one label exchange their labels with the other such units of the same larger unit;
- a unit with several labels keeps them, and the units inside it exchange theirs;
- the labels of a recording that has several keep their order and move in a circle, because neighbouring rows are alike.

So labels of groups that have one label each are permuted as whole groups.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from embedx.metrics.figures import Ints

Level = tuple[str, Ints]  # the name of a unit in the plural, and the unit [N] of each row


@dataclass(frozen=True, eq=False)
class Exchange:
    """Units that exchange their labels: the rows of each unit, and its label [U]."""

    units: tuple[Ints, ...]
    labels: tuple[int, ...]
    level: str

    @cached_property
    def count(self) -> int:
        """The number of different orders of the labels."""
        left, count = len(self.labels), 1
        for size in np.unique(self.labels, return_counts=True)[1].tolist():
            count *= math.comb(left, size)
            left -= size
        return count

    def orders(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield for each order the rows, and the row that each takes its label from; the true order comes anywhere."""
        rows = np.concatenate(self.units)
        first = {label: unit[0] for label, unit in zip(self.labels, self.units, strict=True)}
        sizes = [len(unit) for unit in self.units]
        for labels in distinct_orders(self.labels):
            yield rows, np.repeat([first[label] for label in labels], sizes)


@dataclass(frozen=True, eq=False)
class Shift:
    """Rows in the order of time, whose labels move in a circle; `count` is the number of different positions."""

    rows: Ints
    count: int
    level: str

    def orders(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield for each position the rows, and the row that each takes its label from."""
        for offset in range(self.count):
            yield self.rows, np.roll(self.rows, offset)


@dataclass(frozen=True, eq=False)
class Permutations:
    """All permutations of the labels of N rows; see the module.

    >>> groups = np.array([0, 0, 1, 1, 2])
    >>> permutations = Permutations.find(np.array([5, 5, 5, 5, 7]), [("groups", groups)])
    >>> permutations.count, [source.tolist() for source in permutations.draw(9, seed=0)]
    (3, [[2, 2, 4, 4, 2], [4, 4, 2, 2, 2]])
    """

    labels: Ints
    exchanges: tuple[Exchange, ...]
    shifts: tuple[Shift, ...]

    @classmethod
    def find(cls, labels: Ints, levels: Sequence[Level], equal_sizes: bool = False) -> "Permutations":
        """Return the permutations of labels [N] (any numbers) for levels of units, the largest first.

        Rows of one unit of the last level must be in the order of time. With `equal_sizes`, units exchange labels only
        with units of as many rows.
        """
        blocks = list(find_blocks(np.arange(len(labels)), labels, levels, levels[-1][0], equal_sizes))
        exchanges = tuple(block for block in blocks if isinstance(block, Exchange))
        shifts = tuple(block for block in blocks if isinstance(block, Shift))
        return cls(labels, exchanges, shifts)

    @property
    def blocks(self) -> "list[Exchange | Shift]":
        """Blocks of rows within which labels move, independently of other blocks."""
        return [*self.exchanges, *self.shifts]

    @property
    def count(self) -> int:
        """The number of different orders, the true one included."""
        return math.prod(block.count for block in self.blocks)

    @property
    def identity(self) -> Ints:
        """The order [N] in which each row has its own label."""
        return np.arange(len(self.labels))

    @property
    def moved(self) -> str:
        """What is permuted, in words: "whole groups and rows within recordings"."""
        exchanged = [f"whole {block.level}" for block in self.exchanges]
        return " and ".join(dict.fromkeys([*exchanged, *(f"rows within {block.level}" for block in self.shifts)]))

    def draw(self, number: int, seed: int) -> Iterator[Ints]:
        """Yield the row [N] that each row takes its label from, for each permutation.

        All orders but the true one if there are at most `number` of these; else `number` random ones.
        """
        if self.count <= number + 1:
            return (source for source in self._enumerate() if (self.labels[source] != self.labels).any())
        return islice(self._draw_random(np.random.default_rng(seed)), number)

    def _enumerate(self) -> Iterator[Ints]:
        for choices in product(*(list(block.orders()) for block in self.blocks)):
            source = self.identity
            for rows, sources in choices:
                source[rows] = sources
            yield source

    def _draw_random(self, random: np.random.Generator) -> Iterator[Ints]:
        units = [unit for block in self.exchanges for unit in block.units]
        block_of_unit = np.repeat(np.arange(len(self.exchanges)), [len(block.units) for block in self.exchanges])
        first = np.array([unit[0] for unit in units], np.int64)
        sizes = [len(unit) for unit in units]
        rows = np.concatenate([*units, np.empty(0, np.int64)])
        shifted = np.concatenate([*(block.rows for block in self.shifts), np.empty(0, np.int64)])
        lengths = np.array([len(block.rows) for block in self.shifts], np.int64)
        length = np.repeat(lengths, lengths)
        start = np.repeat(np.cumsum(lengths) - lengths, lengths)
        place = np.arange(len(shifted)) - start
        while True:
            source = self.identity
            source[rows] = np.repeat(first[np.lexsort((random.random(len(units)), block_of_unit))], sizes)
            offset = np.repeat(random.integers(lengths), lengths)
            source[shifted] = shifted[start + (place + offset) % length]
            yield source


def find_blocks(
    rows: Ints, labels: Ints, levels: Sequence[Level], inside: str, equal_sizes: bool
) -> Iterator[Exchange | Shift]:
    """Yield the blocks of rows within which labels move, if there is more than one order of them."""
    if not levels:
        count = count_positions(labels[rows])
        if count > 1:
            yield Shift(rows, count, inside)
        return
    (name, units), *smaller = levels
    children = split_by(rows, units)
    mixed = [(labels[child] != labels[child[0]]).any() for child in children]
    pure = [child for child, is_mixed in zip(children, mixed, strict=True) if not is_mixed]
    sizes = [len(child) if equal_sizes else 0 for child in pure]
    for size in sorted(set(sizes)):
        alike = tuple(child for child, its_size in zip(pure, sizes, strict=True) if its_size == size)
        of_alike = tuple(int(labels[child[0]]) for child in alike)
        if len(set(of_alike)) > 1:
            yield Exchange(alike, of_alike, name)
    for child, is_mixed in zip(children, mixed, strict=True):
        if is_mixed:
            yield from find_blocks(child, labels, smaller, name, equal_sizes)


def split_by(rows: Ints, units: Ints) -> list[NDArray[np.int64]]:
    """Return the rows of each unit, in their order.

    >>> [part.tolist() for part in split_by(np.array([0, 2, 3]), np.array([1, 0, 0, 1]))]
    [[2], [0, 3]]
    """
    order = np.argsort(units[rows], kind="stable")
    ends = np.flatnonzero(np.diff(units[rows][order])) + 1
    return np.split(rows[order], ends)


def count_positions(labels: Ints) -> int:
    """Return how many different sequences there are when labels move in a circle: the period of the sequence.

    >>> count_positions(np.array([0, 1, 0, 1])), count_positions(np.array([0, 0, 1]))
    (2, 3)
    """
    length = len(labels)
    divisors = (step for step in range(1, length + 1) if length % step == 0)
    return next(step for step in divisors if (np.roll(labels, step) == labels).all())


def distinct_orders(labels: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the different orders of labels.

    >>> list(distinct_orders((0, 0, 1)))
    [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    """
    if not labels:
        yield ()
    for label in sorted(set(labels)):
        place = labels.index(label)
        for rest in distinct_orders(labels[:place] + labels[place + 1 :]):
            yield (label, *rest)
