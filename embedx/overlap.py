"""Overlap: a split -> rows that are tested although the same sound is learned from, and sounds with two labels.

A split keeps recordings and named groups together; it cannot know that two files hold the same sound. The duplicates
are those of `embedx duplicates`: files with the same bytes, vectors with the same bits, and near ones by the cosine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.duplicates import ROUNDING, number_off
from embedx.index.exact import unit
from embedx.labels import Targets
from embedx.splits import Splits
from embedx.store import Row, Store

ALIKE = 0.99  # least cosine of near duplicates, as `embedx duplicates` takes it
CONFIRMED = 0.9  # their least cosine after standardisation: where all vectors point one way (mean cosine 0.9 and more
# with log-mel statistics and transformers) 0.99 alone names every second row; re-encoded copies keep 0.9 and more
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
    files = number_off(stretches)
    bits = number_off(
        (vector.tobytes(), round(row.end_s - row.start_s, 6)) for vector, row in zip(x, rows, strict=True)
    )
    heard = np.array(["silent" not in row.flags for row in rows]) & x.any(axis=1)  # all silence is alike
    raw, scaled = unit(x), unit((x - x.mean(axis=0)) / (x.std(axis=0) + np.float32(1e-12)))
    found: list[tuple[int, int, str, float]] = []
    for part in splits.parts:
        learned = np.concatenate([part.train, part.validation])
        test, learned = part.test[heard[part.test]], learned[heard[learned]]
        found += pairs_between(test, learned, files, bits, raw, scaled, threshold)
    labels = names_of(targets)
    pairs = [
        Pair(rows[i].id, rows[i].path, labels[i], rows[j].id, rows[j].path, labels[j], why, round(cosine, 6))
        for i, j, why, cosine in sorted(found, key=lambda one: (one[2] == "near", -one[3], one[0]))
    ]
    near = sum(one.why == "near" for one in pairs)
    conflicts = [one for one in pairs if one.label != one.like_label]
    rest = [one for one in pairs if one.label == one.like_label]
    return Overlap(len(pairs) - near, near, len(conflicts), tuple((conflicts + rest)[:NAMED]))


def pairs_between(
    test: NDArray[np.int64],
    learned: NDArray[np.int64],
    files: NDArray[np.int64],
    bits: NDArray[np.int64],
    raw: NDArray[np.float32],
    scaled: NDArray[np.float32],
    threshold: float,
) -> Iterator[tuple[int, int, str, float]]:
    """Yield (tested row, the row most like it, why, cosine) for every tested row that has a duplicate."""
    if not len(learned):
        return
    for start in range(0, len(test), BLOCK):
        block = test[start : start + BLOCK]
        cosines = raw[block] @ raw[learned].T
        alike = (cosines >= threshold - ROUNDING) & (scaled[block] @ scaled[learned].T >= CONFIRMED)
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
