"""Overlap: a split -> rows that are tested although the same sound is learned from, and sounds with two labels.

A split keeps recordings and named groups together; it cannot know that two files hold the same sound. The duplicates
are those of `embedx duplicates`: files with the same bytes, vectors with the same bits, and near ones by the cosine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.evaluation.splits import Splits
from embedx.evaluation.targets import Targets
from embedx.index.vectors import ROUNDING, factorize, unit
from embedx.store.records import Row
from embedx.store.store import Store

ALIKE = 0.99  # least cosine of near duplicates, as `embedx duplicates` takes it
# Where all vectors point one way (mean cosine 0.9 and more with log-mel statistics and transformers) that alone names
# every second row. So a near duplicate must also stand out: once dimensions are standardised, it is at most half as far
# away as the tenth nearest foreign row. That names 0 to 2 % of ESC-10 and FSDD, where foreign recordings are no copies,
# and by YAMNet 80 to 90 % (by logmel all) of copies through OGG and MP3, half of those 6 dB quieter.
OUTSTANDING, NEIGHBOUR = 0.5, 10
SAME = 0.05  # a distance of unit vectors that needs no comparison: a sound that is there more than ten times
BACKGROUND = 10_000  # rows that the tenth nearest is looked for among
NAMED = 20  # pairs that a report names
BLOCK = 1024  # test rows at a time: 4 MB of scores for 1000 training rows


@dataclass(frozen=True)
class Pair:
    """A tested row and the row most like it that was learned from."""

    id: int
    path: str
    label: str
    like_id: int
    like_path: str
    like_label: str
    why: str  # "same file", "same vector" or "near"
    cosine: float


@dataclass(frozen=True)
class Overlap:
    """How many tested rows have a duplicate among the rows learned from.

    exact, near: by kind. conflicts: of both, those whose duplicate has other labels. pairs: the first of them by name.
    """

    exact: int = 0
    near: int = 0
    conflicts: int = 0
    pairs: tuple[Pair, ...] = ()

    @property
    def rows(self) -> int:
        """All of them."""
        return self.exact + self.near

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"rows": self.rows, **asdict(self)}

    def __str__(self) -> str:
        if not self.rows:
            return "no near-duplicates across the split"
        lines = [
            f"near-duplicates across the split: {self.rows} tested rows are also learned from ({self.exact} exactly, "
            f"{self.near} nearly), {self.conflicts} of them under another label; scores may be off by that"
        ]
        for one in self.pairs[:5]:
            labels = one.label if one.label == one.like_label else f"{one.label} / {one.like_label}"
            lines.append(
                f"  {one.why} ({one.cosine:.3f}), {labels}: {one.id} {one.path} = {one.like_id} {one.like_path}"
            )
        return "\n".join(lines + ([f"  and {self.rows - 5} more"] if self.rows > 5 else []))


def find_overlap(
    store: Store,
    rows: Sequence[Row],
    x: NDArray[np.float32],
    targets: Targets,
    splits: Splits,
    threshold: float = ALIKE,
) -> Overlap:
    """Look for the duplicates of the tested rows among those that are learned from (or chosen by) in the same part.

    Args:
        store: where the hashes of the files are.
        rows: the N rows.
        x: their vectors [N, D].
        targets, splits: of the same rows.
        threshold: least cosine of a near duplicate.
    """
    contents = {path: one.content_hash for path, one in store.recordings().items()}
    stretches = [(contents[row.path] or row.path, row.start_s, row.end_s) for row in rows]
    files = factorize(stretches)
    bits = factorize((vector.tobytes(), round(row.end_s - row.start_s, 6)) for vector, row in zip(x, rows, strict=True))
    heard = np.array(["silent" not in row.flags for row in rows]) & x.any(axis=1)  # all silence is alike
    raw, scaled = unit(x), unit((x - x.mean(axis=0)) / (x.std(axis=0) + np.float32(1e-12)))
    nearness = Nearness(raw, scaled, splits.groups, threshold)
    found: list[tuple[int, int, str, float]] = []
    for part in splits.parts:
        learned = np.concatenate([part.train, part.validation])
        test, learned = part.test[heard[part.test]], learned[heard[learned]]
        found += pairs_between(test, learned, files, bits, nearness)
    labels = names_of(targets)
    pairs = [
        Pair(rows[i].id, rows[i].path, labels[i], rows[j].id, rows[j].path, labels[j], why, round(cosine, 6))
        for i, j, why, cosine in sorted(found, key=lambda one: (one[2] == "near", -one[3], one[0]))
    ]
    near = sum(one.why == "near" for one in pairs)
    conflicts = [one for one in pairs if one.label != one.like_label]
    rest = [one for one in pairs if one.label == one.like_label]
    return Overlap(len(pairs) - near, near, len(conflicts), tuple((conflicts + rest)[:NAMED]))


class Nearness:
    """Vectors [N, D] of length 1, raw and standardised, and how far the tenth nearest foreign row of each is."""

    def __init__(
        self,
        raw: NDArray[np.float32],
        scaled: NDArray[np.float32],
        groups: NDArray[np.int64],
        threshold: float = ALIKE,
    ) -> None:
        self.raw, self.scaled, self.groups, self.threshold = raw, scaled, groups, threshold
        self.background = np.arange(len(raw))[:: -(-len(raw) // BACKGROUND)]
        self.far = np.full(len(raw), np.nan)

    def judge(
        self, test: NDArray[np.int64], learned: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the cosines [T, L] between some rows and others, and which of them are near duplicates."""
        cosines = self.raw[test] @ self.raw[learned].T
        i, j = np.nonzero(cosines >= self.threshold - ROUNDING)
        alike = np.zeros(cosines.shape, bool)
        if len(i):
            rows, others = test[i], learned[j]
            apart = distance(np.einsum("nd,nd->n", self.scaled[rows], self.scaled[others]))
            self.measure(np.union1d(rows, others))
            usual = np.minimum(self.far[rows], self.far[others])
            alike[i, j] = (apart <= OUTSTANDING * usual) | (apart <= SAME)
        return cosines, alike

    def measure(self, rows: NDArray[np.int64]) -> None:
        """Fill in the distances of some rows to their tenth nearest foreign row."""
        rows = rows[np.isnan(self.far[rows])]
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            cosines = self.scaled[block] @ self.scaled[self.background].T
            cosines[self.groups[block][:, None] == self.groups[self.background]] = -1  # as far as can be
            k = min(NEIGHBOUR, cosines.shape[1])
            self.far[block] = distance(np.partition(cosines, -k, axis=1)[:, -k])


def distance(cosine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Euclidean distance of vectors of length 1.

    >>> distance(np.array([1.0, 0.5, -1.0])).tolist()
    [0.0, 1.0, 2.0]
    """
    return np.sqrt(np.maximum(0, 2 - 2 * cosine))


def pairs_between(
    test: NDArray[np.int64],
    learned: NDArray[np.int64],
    files: NDArray[np.int64],
    bits: NDArray[np.int64],
    near: Nearness,
) -> Iterator[tuple[int, int, str, float]]:
    """Yield (tested row, the row most like it, why, cosine) for every tested row that has a duplicate."""
    if not len(learned):
        return
    for start in range(0, len(test), BLOCK):
        block = test[start : start + BLOCK]
        cosines, alike = near.judge(block, learned)
        same_file = files[block][:, None] == files[learned]
        same_bits = bits[block][:, None] == bits[learned]
        for n in np.flatnonzero((alike | same_file | same_bits).any(axis=1)):
            why, those = next(
                (why, mask[n])
                for why, mask in (("same file", same_file), ("same vector", same_bits), ("near", alike))
                if mask[n].any()
            )
            j = int(np.where(those, cosines[n], -2).argmax())
            yield int(block[n]), int(learned[j]), why, float(min(1.0, cosines[n, j]))


def names_of(targets: Targets) -> list[str]:
    """Return the class of every row by name, several with commas between."""
    if not targets.multilabel:
        return [targets.classes[c] for c in targets.y]
    return [", ".join(targets.classes[c] for c in np.flatnonzero(row)) for row in targets.y]
