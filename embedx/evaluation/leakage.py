"""Leakage: a split -> test rows whose sound is also in the training rows, and sounds with two different labels.

A split keeps recordings and named groups together, but it does not know that two files hold the same sound. Duplicates
are defined as in `embedx duplicates`: files with the same bytes, vectors with the same bits, and near-duplicates by
cosine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedx.datasets.sources import source_root
from embedx.evaluation.splits import Splits
from embedx.evaluation.targets import Targets
from embedx.filesystem.paths import display_path, relative_path
from embedx.index.vectors import ROUNDING, factorize, unit
from embedx.store.records import Row
from embedx.store.store import Store

NEAR_THRESHOLD = 0.99  # lowest cosine of near-duplicates, the default of `embedx duplicates`
# With log-mel statistics and transformers all vectors point in about one direction (mean cosine above 0.9), so a cosine
# threshold alone would flag every second row. A near-duplicate must also stand out: after standardisation of the
# dimensions, its distance is at most half the distance of the tenth nearest row of another group. This flags 0 to 2 %
# of ESC-10 and FSDD, where recordings are no copies of each other; of copies through OGG and MP3, half of them 6 dB
# quieter, it finds 80 to 90 % with YAMNet, and all with logmel.
RELATIVE_DISTANCE_THRESHOLD, REFERENCE_NEIGHBOUR = 0.5, 10
SAME_DISTANCE_THRESHOLD = 0.05  # below this, unit vectors are near-duplicates whatever the tenth nearest is
MAX_BACKGROUND = 10_000  # rows among which the tenth nearest is searched
MAX_PAIRS = 20  # pairs that a report keeps
MAX_PRINTED_PAIRS = 3
BLOCK = 1024  # test rows at a time: 4 MB of scores for 1000 training rows


class Match(NamedTuple):
    """A test row with the most similar training row that is a duplicate of it, both as positions."""

    test: int
    train: int
    why: str
    cosine: float


@dataclass(frozen=True)
class Pair:
    """A test row and its most similar training row; why is "same file", "same vector" or "near"."""

    id: int
    path: str
    label: str
    like_id: int
    like_path: str
    like_label: str
    why: str
    cosine: float


@dataclass(frozen=True)
class Overlap:
    """The number of test rows with a duplicate among the training rows.

    Attributes:
        exact: rows with an exact duplicate.
        near: rows with a near-duplicate only.
        conflicts: rows, of both kinds, whose duplicate has another label.
        pairs: up to 20 pairs, conflicts first.
        root: the folder to which printed paths are relative; None for full paths.
    """

    exact: int = 0
    near: int = 0
    conflicts: int = 0
    pairs: tuple[Pair, ...] = ()
    root: str | None = None

    @property
    def rows(self) -> int:
        """The number of test rows with a duplicate of any kind."""
        return self.exact + self.near

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, with full paths."""
        values = asdict(self)
        del values["root"]
        return {"rows": self.rows, **values}

    def __str__(self) -> str:
        if not self.rows:
            return "No near-duplicates across the split."
        lines = [
            f"WARNING: {self.rows} test rows have a duplicate in the training rows ({self.exact} exact, {self.near} "
            f"near), {self.conflicts} of them with another label. Duplicates can inflate the scores."
        ]
        for pair in self.pairs[:MAX_PRINTED_PAIRS]:
            labels = pair.label if pair.label == pair.like_label else f"{pair.label} / {pair.like_label}"
            path, like_path = (display_path(relative_path(name, self.root)) for name in (pair.path, pair.like_path))
            labels = display_path(labels)
            lines.append(f"  {pair.why} ({pair.cosine:.3f}), {labels}: {pair.id} {path} = {pair.like_id} {like_path}")
        more = self.rows - min(len(self.pairs), MAX_PRINTED_PAIRS)
        return "\n".join([*lines, *([f"  and {more} more"] if more else [])])


def find_overlap(
    store: Store,
    rows: Sequence[Row],
    x: NDArray[np.float32],
    targets: Targets,
    splits: Splits,
    threshold: float = NEAR_THRESHOLD,
) -> Overlap:
    """Find the duplicates of test rows among the training and validation rows of the same part.

    Args:
        store: the store with the hashes of the files.
        rows: the N rows.
        x: their vectors [N, D].
        targets: the classes of the rows.
        splits: the split of the rows.
        threshold: the lowest cosine of a near-duplicate.

    Returns:
        The numbers of rows with duplicates, and the first pairs.
    """
    content_hashes = {path: recording.content_hash for path, recording in store.recordings().items()}
    files = factorize([(content_hashes[row.path] or row.path, row.start_s, row.end_s) for row in rows])
    bits = factorize((vector.tobytes(), round(row.end_s - row.start_s, 6)) for vector, row in zip(x, rows, strict=True))
    audible = np.array(["silent" not in row.flags for row in rows]) & x.any(axis=1)  # all silent rows are equal
    scaled = unit((x - x.mean(axis=0)) / (x.std(axis=0) + np.float32(1e-12)))
    nearness = Nearness(unit(x), scaled, splits.groups, threshold)
    matches: list[Match] = []
    for part in splits.parts:
        test, train = part.test[audible[part.test]], part.learned[audible[part.learned]]
        matches += find_matches(test, train, files, bits, nearness)
    labels = label_names(targets)
    pairs = [
        Pair(rows[i].id, rows[i].path, labels[i], rows[j].id, rows[j].path, labels[j], why, round(cosine, 6))
        for i, j, why, cosine in sorted(matches, key=lambda match: (match.why == "near", -match.cosine, match.test))
    ]
    near = sum(pair.why == "near" for pair in pairs)
    conflicts = [pair for pair in pairs if pair.label != pair.like_label]
    others = [pair for pair in pairs if pair.label == pair.like_label]
    return Overlap(len(pairs) - near, near, len(conflicts), tuple((conflicts + others)[:MAX_PAIRS]), source_root(store))


class Nearness:
    """Finds near-duplicates among unit vectors [N, D], and keeps the distance of each row's tenth nearest foreign row.

    Args:
        raw: unit vectors [N, D].
        scaled: the same vectors, standardised and of unit length again [N, D].
        groups: [N] rows of one group are not foreign to each other.
        threshold: the lowest cosine of a near-duplicate.
    """

    def __init__(
        self,
        raw: NDArray[np.float32],
        scaled: NDArray[np.float32],
        groups: NDArray[np.int64],
        threshold: float = NEAR_THRESHOLD,
    ) -> None:
        self.raw, self.scaled, self.groups, self.threshold = raw, scaled, groups, threshold
        self.background = np.arange(len(raw))[:: -(-len(raw) // MAX_BACKGROUND)]
        self.reference = np.full(len(raw), np.nan)

    def compare(
        self, test: NDArray[np.int64], train: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the cosines [T, L] between test and training rows, and which of the pairs are near-duplicates."""
        cosines = self.raw[test] @ self.raw[train].T
        i, j = np.nonzero(cosines >= self.threshold - ROUNDING)
        near = np.zeros(cosines.shape, bool)
        if len(i):
            rows, others = test[i], train[j]
            distances = distance(np.einsum("nd,nd->n", self.scaled[rows], self.scaled[others]))
            self._measure_references(np.union1d(rows, others))
            references = np.minimum(self.reference[rows], self.reference[others])
            stands_out = distances <= RELATIVE_DISTANCE_THRESHOLD * references
            near[i, j] = stands_out | (distances <= SAME_DISTANCE_THRESHOLD)
        return cosines, near

    def _measure_references(self, rows: NDArray[np.int64]) -> None:
        """Compute the distances of rows to their tenth nearest foreign row."""
        rows = rows[np.isnan(self.reference[rows])]
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            cosines = self.scaled[block] @ self.scaled[self.background].T
            cosines[self.groups[block][:, None] == self.groups[self.background]] = -1  # the lowest cosine
            k = min(REFERENCE_NEIGHBOUR, cosines.shape[1])
            self.reference[block] = distance(np.partition(cosines, -k, axis=1)[:, -k])


def distance(cosine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Euclidean distance of unit vectors with these cosines.

    >>> distance(np.array([1.0, 0.5, -1.0])).tolist()
    [0.0, 1.0, 2.0]
    """
    return np.sqrt(np.maximum(0, 2 - 2 * cosine))


def find_matches(
    test: NDArray[np.int64],
    train: NDArray[np.int64],
    files: NDArray[np.int64],
    bits: NDArray[np.int64],
    nearness: Nearness,
) -> Iterator[Match]:
    """Yield a match for every test row that has a duplicate among the training rows."""
    if not len(train):
        return
    for start in range(0, len(test), BLOCK):
        block = test[start : start + BLOCK]
        cosines, near = nearness.compare(block, train)
        same_file = files[block][:, None] == files[train]
        same_bits = bits[block][:, None] == bits[train]
        for n in np.flatnonzero((near | same_file | same_bits).any(axis=1)):
            why, candidates = next(
                (why, mask[n])
                for why, mask in (("same file", same_file), ("same vector", same_bits), ("near", near))
                if mask[n].any()
            )
            j = int(np.where(candidates, cosines[n], -2).argmax())
            yield Match(int(block[n]), int(train[j]), why, float(min(1.0, cosines[n, j])))


def label_names(targets: Targets) -> list[str]:
    """Return the class of every row by name; several classes with commas between them."""
    if not targets.multilabel:
        return [targets.classes[c] for c in targets.y]
    return [", ".join(targets.classes[c] for c in np.flatnonzero(row)) for row in targets.y]
