"""Finder: test and training rows -> pairs that look alike, by their sounds, or by their vectors without the sounds."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedx.copies.listening import MAX_CLIP_S, Sound, listen, listening_rate
from embedx.copies.sounds import (
    MAX_SHIFT_S,
    SKETCH_SIZE,
    SKETCH_THRESHOLD,
    SOUND_THRESHOLD,
    SoundComparer,
    Spectrum,
)
from embedx.copies.vectors import Positions, VectorRule, distance
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row

CANDIDATES = 3  # rows with the most similar sketches whose sounds are compared with the sound of a row
CACHED_SPECTRA = 256  # of up to 1 MB
MAX_SCORES = 2**24  # scores in memory at a time: 64 MB


class Copy(NamedTuple):
    """A row and another one that looks alike, as positions; `sound` is their correlation, None if not compared."""

    row: int
    other: int
    sound: float | None


class CopyFinder:
    """Finds rows that look alike.

    Each row is heard once, those with the nearest neighbours first, until the limits of `listen` are reached. Rows
    whose sketches agree are compared by their sounds. A pair of which one row was not heard is judged by its vectors.

    Args:
        recordings: the recordings of the store by path.
        recipe: the recipe of the store.
        rows: the N rows.
        scaled: their vectors [N, D], standardised and of unit length.
        groups: [N] equal for rows that belong together; these are not compared.
        labels: [N] the class of each row.
    """

    def __init__(
        self,
        recordings: dict[str, Recording],
        recipe: Recipe,
        rows: Sequence[Row],
        scaled: NDArray[np.float32],
        groups: Positions,
        labels: Positions,
    ) -> None:
        self.recordings, self.recipe, self.rows, self.groups = recordings, recipe, rows, groups
        self.rule = VectorRule(scaled, groups, labels)
        self.heard = np.zeros(len(rows), bool)

    def find(self, parts: Sequence[tuple[Positions, Positions]]) -> list[Copy]:
        """Return a copy for each row that looks like a row on the other side.

        Args:
            parts: positions of the rows to find copies of, each in one part, and of the rows among which to look.

        Returns:
            At most one copy for each row: the one that sounds most alike, else the one with the nearest vector.
        """
        nearest, gaps = self._nearest(parts)
        order = np.argsort(gaps, kind="stable")
        order = order[np.isfinite(gaps[order])]
        found = {copy.row: copy for copy in self._find_by_sound(parts, [self.rows[i] for i in order])}
        tested = np.concatenate([test for test, _ in parts]) if parts else np.empty(0, np.int64)
        tested = tested[nearest[tested] >= 0]
        typical = float(np.median(gaps[tested])) if len(tested) else 0.0
        unheard = tested[~(self.heard[tested] & self.heard[nearest[tested]])]
        near = unheard[self.rule.too_near(unheard, nearest[unheard], typical)]
        return [*found.values(), *(Copy(int(i), int(nearest[i]), None) for i in near if int(i) not in found)]

    def _nearest(self, parts: Sequence[tuple[Positions, Positions]]) -> tuple[Positions, NDArray[np.float32]]:
        """Return the nearest row [N] on the other side of each tested row (-1: none), and the least distance [N].

        The distance of a row that is only looked among is that to the nearest tested row; infinite for other rows.
        """
        nearest = np.full(len(self.rows), -1, np.int64)
        gaps = np.full(len(self.rows), np.inf, np.float32)
        reverse = np.full(len(self.rows), np.inf, np.float32)
        for test, train in parts:
            others = self.rule.unit[train]
            for block in in_blocks(test, train):
                cosines = self.rule.unit[block] @ others.T
                cosines[self.groups[block][:, None] == self.groups[train]] = -2
                best = cosines.argmax(axis=1)
                highest = cosines[np.arange(len(block)), best]
                nearest[block] = np.where(highest > -2, train[best], -1)
                gaps[block] = np.where(highest > -2, distance(highest), np.inf)
                reverse[train] = np.minimum(reverse[train], distance(cosines.max(axis=0)))
        return nearest, np.where(np.isfinite(gaps), gaps, reverse)

    def _find_by_sound(self, parts: Sequence[tuple[Positions, Positions]], rows: Sequence[Row]) -> list[Copy]:
        """Return the copies among the rows that can be heard."""
        lengths = np.array([row.end_s - row.start_s for row in self.rows])
        rate = listening_rate(self.recipe)
        comparer = SoundComparer(rate, round(min(lengths.max(initial=0), MAX_CLIP_S) * rate))
        sounds: dict[int, Sound] = {}
        sketches = np.zeros((len(self.rows), SKETCH_SIZE), np.float32)
        places = {row.id: i for i, row in enumerate(self.rows)}

        @lru_cache(CACHED_SPECTRA)
        def spectrum(i: int) -> Spectrum:
            return comparer.spectrum(sounds[i])

        for row_id, sound in listen(self.recordings, self.recipe, rows):
            i = places[row_id]
            sounds[i] = sound
            sketches[i] = comparer.sketch(spectrum(i))
        self.heard[list(sounds)] = True

        @lru_cache(None)
        def compare(i: int, j: int) -> float:
            return comparer.compare(spectrum(i), spectrum(j))

        found = []
        for test, train in parts:
            test, train = test[self.heard[test]], train[self.heard[train]]
            others_sketches = sketches[train]
            for block in in_blocks(test, train):
                agreement = sketches[block] @ others_sketches.T
                agreement[self.groups[block][:, None] == self.groups[train]] = -1
                agreement[np.abs(lengths[block][:, None] - lengths[train]) > MAX_SHIFT_S] = -1
                k = min(CANDIDATES, len(train))
                candidates = np.argpartition(-agreement, k - 1, axis=1)[:, :k]
                for n, i in enumerate(block.tolist()):
                    others = [int(train[c]) for c in candidates[n] if agreement[n, c] >= SKETCH_THRESHOLD]
                    scores = [(compare(min(i, j), max(i, j)), j) for j in others]
                    if scores and max(scores)[0] >= SOUND_THRESHOLD:
                        found.append(Copy(i, max(scores)[1], max(scores)[0]))
        return found


def in_blocks(rows: Positions, others: Positions) -> Iterator[Positions]:
    """Yield rows in blocks that can be compared with all others at once; nothing if there is no other row.

    >>> [len(block) for block in in_blocks(np.arange(5), np.arange(MAX_SCORES // 2))]
    [2, 2, 1]
    """
    step = max(1, MAX_SCORES // max(1, len(others)))
    for start in range(0, len(rows) if len(others) else 0, step):
        yield rows[start : start + step]
