"""Vectors: rows whose sounds are not at hand -> pairs whose vectors are too near for two recordings.

Vectors alone cannot tell a class of four similar recordings from four copies. A pair counts only if it is nearer than
the set lets two independent rows be, by two measures: the nearest rows of other groups all over the set, and the rows
with the same label around the pair. So where copies are the rule, or a class as a whole is tight, nothing is named.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MAX_BACKGROUND = 10_000  # rows among which the references are measured
DIMENSION_ROWS = 300  # rows from which the intrinsic dimension is estimated; their median is within a few percent
MAX_EXPECTED = 0.0005  # rows that chance puts as near: far below the 1 % of false alarms that are allowed
NEAREST_SHARE = 0.25  # of the median distance to the nearest row of another group: a copy with 8 % noise has 0.1
LABEL_SHARE = 0.02  # of the median distance to rows of the same label, where most rows have a near one
CROWD = 25  # rows; their distance says how dense the set is around a row that has up to 20 copies
MIN_PEERS = 2  # rows of the same label beside the pair; without them the label has no null distribution

Positions = NDArray[np.int64]


class VectorRule:
    """Tells which pairs of rows are too near for independent recordings.

    Args:
        scaled: unit vectors [N, D], standardised before: the vectors of many models point in about one direction.
        groups: [N] equal for rows that belong together; these are not compared.
        labels: [N] the class of each row.
    """

    def __init__(self, scaled: NDArray[np.float32], groups: Positions, labels: Positions) -> None:
        self.unit, self.groups, self.labels = scaled, groups, labels
        self.background = np.arange(len(scaled))[:: max(1, -(-len(scaled) // MAX_BACKGROUND))]

    def too_near(self, rows: Positions, others: Positions, nearest: float) -> NDArray[np.bool_]:
        """Tell which pairs (rows[n], others[n]) are too near.

        Args:
            rows, others: [P] positions.
            nearest: the median distance of a row of the set to its nearest row of another group.
        """
        differences = self.unit[rows].astype(np.float64) - self.unit[others]  # exact where 1 - cosine is not
        gaps = np.linalg.norm(differences, axis=1)
        found = np.zeros(len(rows), bool)
        for n in np.flatnonzero(gaps <= max(NEAREST_SHARE * nearest, 2 * LABEL_SHARE)):  # no two rows are 2 apart
            pair = (int(rows[n]), int(others[n]))
            references = [reference for i in pair for reference in self.references(i, pair)]
            expected = max((count * (gaps[n] / gap) ** self.dimension for gap, count in references if gap), default=1.0)
            typical = min((gap for gap, _ in references[::2]), default=0.0)
            is_small = gaps[n] <= NEAREST_SHARE * nearest or gaps[n] <= LABEL_SHARE * typical
            found[n] = typical > 0 and is_small and expected <= MAX_EXPECTED
        return found

    def references(self, i: int, pair: Sequence[int]) -> list[tuple[float, float]]:
        """Return two distances from a row, each with the number of rows of other groups within it.

        The first is the median distance to the rows with the same label, without the pair; 0 where there are too few.
        The second is the distance to the 25th nearest row of another group: a copy has up to 20 copies.
        """
        gaps = self.distances(i)
        foreign = (self.groups[self.background] != self.groups[i]) & ~np.isin(self.background, pair)
        peers = gaps[foreign & (self.labels[self.background] == self.labels[i])]
        middle = float(np.median(peers)) if len(peers) >= MIN_PEERS else 0.0
        others = np.sort(gaps[foreign])
        k = min(CROWD, len(others))
        return [(middle, float((others <= middle).sum()) / 2), (float(others[k - 1]) if k else 0.0, float(k))]

    def distances(self, i: int) -> NDArray[np.float32]:
        """Return the distances [B] of a row to the rows of the background."""
        return distance(self.unit[self.background] @ self.unit[i])

    @cached_property
    def dimension(self) -> float:
        """The intrinsic dimension m of the set: within a distance r of a row there are about r**m rows.

        It is the median over rows of log 2 / log(r2 / r1), where half of the rows are within r2, and a quarter within
        r1; of all rows, or of those with the same label if that is less.
        """
        by_label, by_all = [], []
        for i in self.background[:: max(1, -(-len(self.background) // DIMENSION_ROWS))]:
            gaps = self.distances(int(i))
            foreign = self.groups[self.background] != self.groups[i]
            by_all.append(dimension_of(gaps[foreign]))
            by_label.append(dimension_of(gaps[foreign & (self.labels[self.background] == self.labels[i])]))
        medians = [float(np.nanmedian(values)) for values in (by_all, by_label) if not np.isnan(values).all()]
        return min([*medians, float(self.unit.shape[1] - 1)])  # unit vectors have one dimension less


def dimension_of(gaps: NDArray[np.float32]) -> float:
    """Return the dimension by the distances from one row to others; NaN if they are too few or equal to it."""
    if len(gaps) <= MIN_PEERS:
        return float("nan")
    near, middle = np.quantile(gaps, [0.25, 0.5])
    return float(np.log(2) / max(np.log(middle / near), 1e-3)) if near > 0 else float("nan")


def distance(cosine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Euclidean distance of unit vectors with these cosines.

    >>> distance(np.array([1.0, 0.5, -1.0])).tolist()
    [0.0, 1.0, 2.0]
    """
    return np.sqrt(np.maximum(0, 2 - 2 * cosine))
