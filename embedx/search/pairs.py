"""Pairs: rows with similar vectors -> pairs -> groups of rows that are connected by pairs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedx.index.matrix import Floats, Ids
from embedx.index.vector_index import VectorIndex
from embedx.index.vectors import ROUNDING
from embedx.store.records import Row

NEIGHBORS = 100  # nearest rows of each row that `neighbor_pairs` compares
BLOCK = 1024  # rows that are compared with rows at a time: 4 MB of scores

Pairs = tuple[Ids, Ids, Floats]  # positions [P] of the first rows, of the second rows, and their cosines [P]


@dataclass(frozen=True)
class ComparedRows:
    """The rows [N] whose vectors are compared, and numbers that are equal where rows share something."""

    rows: list[Row]
    ids: Ids  # [N], ascending
    recordings: Ids  # [N], equal for rows of one recording
    contents: Ids  # [N], equal for recordings with the same bytes
    bits: Ids  # [N], equal for vectors with the same bits and rows of the same length
    within: bool  # compare rows of one recording too, if they do not overlap

    def take(self, positions: Ids) -> "ComparedRows":
        """Return some of the rows."""
        return ComparedRows(
            [self.rows[position] for position in positions.tolist()],
            self.ids[positions],
            self.recordings[positions],
            self.contents[positions],
            self.bits[positions],
            self.within,
        )

    @cached_property
    def starts_s(self) -> Floats:
        """The start of every row in its recording, in seconds."""
        return np.array([row.start_s for row in self.rows])

    @cached_property
    def ends_s(self) -> Floats:
        """The end of every row in its recording, in seconds."""
        return np.array([row.end_s for row in self.rows])

    def can_pair(self, i: Ids, j: Ids) -> NDArray[np.bool_]:
        """Tell which pairs of rows can be duplicates: those of two recordings, or with `within` of two times."""
        same: NDArray[np.bool_] = self.recordings[i] == self.recordings[j]
        if self.within:
            same &= (self.starts_s[i] < self.ends_s[j]) & (self.starts_s[j] < self.ends_s[i])
        return ~same

    def has_pair(self, group: Ids) -> bool:
        """Tell whether two rows of a group can be duplicates."""
        return any(bool(self.can_pair(np.full(len(group), position), group).any()) for position in group)

    def is_new_group(self, group: Ids, numbers: Ids) -> bool:
        """Tell whether a group is more than copies that `numbers`, such as `contents`, already shows."""
        if len(np.unique(numbers[group])) > 1:
            return True
        return self.within and len(np.unique(self.recordings[group])) < len(group)


PairFinder = Callable[[ComparedRows, VectorIndex, float], Iterator[Pairs]]


def all_pairs(rows: ComparedRows, index: VectorIndex, threshold: float) -> Iterator[Pairs]:
    """Yield all pairs of rows with a cosine of at least the threshold, block by block."""
    for i, j, scores in score_blocks(index, rows.ids):
        above, beside = np.nonzero(scores >= threshold - ROUNDING)
        first, second = i[above], j[beside]
        kept = (first < second) & rows.can_pair(first, second)
        yield first[kept], second[kept], scores[above, beside][kept]


def neighbor_pairs(rows: ComparedRows, index: VectorIndex, threshold: float) -> Iterator[Pairs]:
    """Yield such pairs among the nearest neighbors of each row only."""
    include_ids = None if len(rows.ids) == len(index) else rows.ids
    for start in range(0, len(rows.ids), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(rows.ids)))
        scores, ids = index.search(index.vectors(rows.ids[block]), NEIGHBORS, include_ids=include_ids)
        positions = np.searchsorted(rows.ids, ids).clip(max=len(rows.ids) - 1)
        similar = (scores >= threshold - ROUNDING) & (rows.ids[positions] == ids)
        first, second = block[np.nonzero(similar)[0]], positions[similar]
        kept = rows.can_pair(first, second) & (first != second)
        yield first[kept], second[kept], scores[similar][kept]


def score_blocks(index: VectorIndex, ids: Ids) -> Iterator[tuple[Ids, Ids, Floats]]:
    """Yield positions i [B], positions j [C] and the cosines [B, C] between them, so that every pair appears."""
    positions = np.arange(len(ids))
    for start in range(0, len(ids), BLOCK):
        i = positions[start : start + BLOCK]
        vectors = index.vectors(ids[i])
        for other in range(start, len(ids), BLOCK):
            j = positions[other : other + BLOCK]
            yield i, j, vectors @ (vectors if other == start else index.vectors(ids[j])).T


def score_range(rows: ComparedRows, index: VectorIndex, group: Ids) -> tuple[float, float]:
    """Return the lowest and the highest cosine between rows of a group that can be duplicates."""
    lowest, highest = 2.0, -2.0
    for i, j, scores in score_blocks(index, rows.ids[group]):
        first, second = np.meshgrid(group[i], group[j], indexing="ij")
        values = scores[(first < second) & rows.can_pair(first, second)]
        if len(values):
            lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
    return lowest, highest


def connect(roots: Ids, first: Ids, second: Ids) -> Ids:
    """Connect members by pairs (union-find): return for each member the lowest member that it is connected to.

    >>> connect(connect(np.arange(5), np.array([0, 3]), np.array([2, 4])), np.array([2]), np.array([4])).tolist()
    [0, 1, 0, 0, 0]
    """
    apart = roots[first] != roots[second]
    if not apart.any():
        return roots
    edges = np.unique(np.stack([roots[first[apart]], roots[second[apart]]]), axis=1)
    roots = roots.copy()
    for one, other in edges.T.tolist():
        while one != roots[one]:
            one = int(roots[one])
        while other != roots[other]:
            other = int(roots[other])
        roots[max(one, other)] = min(one, other)
    while not np.array_equal(roots, shorter := roots[roots]):
        roots = shorter
    return roots


def connect_all(count: int, pairs: Iterable[Pairs]) -> Ids:
    """Return for each of `count` members the lowest one that it is connected to by pairs."""
    roots = np.arange(count)
    for first, second, _ in pairs:
        roots = connect(roots, first, second)
    return roots


def groups_of(numbers: Ids) -> list[Ids]:
    """Return the positions of every number that appears more than once.

    >>> [group.tolist() for group in groups_of(np.array([7, 8, 7, 9, 7]))]
    [[0, 2, 4]]
    """
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [group for group in np.split(order, cuts) if len(group) > 1]
