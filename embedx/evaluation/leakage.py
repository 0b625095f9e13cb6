"""Leakage: a split -> test rows that look like copies of training rows, and copies with two different labels.

A split keeps recordings and named groups together, but it does not know that two files hold the same sound. Exact
copies are files with the same bytes, and vectors with the same bits. Near copies are found by `embedx.copies`: by their
sound where the recordings are at hand, else by their vectors. Of many test rows only a sample is compared with the
training rows in search of near copies, so that the time grows with the rows and not with their square.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedx.copies.finder import CopyFinder
from embedx.datasets.sources import source_root
from embedx.evaluation.splits import Split, Splits
from embedx.evaluation.targets import Targets
from embedx.filesystem.paths import display_path, relative_path
from embedx.index.vectors import factorize, unit
from embedx.store.records import Row
from embedx.store.store import Store
from embedx.text import plural

MAX_PAIRS = 20  # pairs that a report keeps
MAX_PRINTED_PAIRS = 3
MAX_COMPARED = 20_000  # test rows whose near copies are looked for: 20 s for a million training rows of 128 numbers
SEED = 0  # of the sample


class Match(NamedTuple):
    """A test row and a training row that look alike, both as positions.

    `why` is "same file", "same vector", "same sound" or "near vector"; `sound` is the correlation of the two sounds,
    None where they were not compared.
    """

    test: int
    train: int
    why: str
    cosine: float
    sound: float | None = None


@dataclass(frozen=True)
class Pair:
    """A test row and a training row that look alike, as `Match`; once, also if each is a test row in its turn."""

    id: int
    path: str
    label: str
    like_id: int
    like_path: str
    like_label: str
    why: str
    cosine: float
    sound: float | None = None


@dataclass(frozen=True)
class Overlap:
    """The test rows that look like a training row.

    Attributes:
        exact: rows with the same file or the same vector as a training row.
        near: other rows that look like a training row.
        conflicts: rows, of both kinds, that look like a row with another label.
        pairs: up to 20 pairs, conflicts first.
        root: the folder to which printed paths are relative; None for full paths.
        positions: positions of the rows among those of the split.
        by_part: name of each test part -> number of its rows.
        compared: rows that were compared.
        heard: those of them whose sounds were compared; of the others only the vectors.
        sampled: test rows whose near copies were looked for; None for all. `near` counts those of the sample.
    """

    exact: int = 0
    near: int = 0
    conflicts: int = 0
    pairs: tuple[Pair, ...] = ()
    root: str | None = None
    positions: tuple[int, ...] = ()
    by_part: Mapping[str, int] = field(default_factory=dict)
    compared: int = 0
    heard: int = 0
    sampled: int | None = None

    @property
    def rows(self) -> int:
        """The number of test rows that look like a training row, of any kind."""
        return self.exact + self.near

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, with full paths."""
        names = ("rows", "exact", "near", "conflicts", "compared", "heard", "sampled")
        return {name: getattr(self, name) for name in names} | {"pairs": [asdict(pair) for pair in self.pairs]}

    def __str__(self) -> str:
        if not self.rows:
            return f"No test row looks like a copy of a training row{self._limits()}."
        lines = [
            f"WARNING: {plural(self.rows, 'test row')} and a training row look alike ({self.exact} exact, "
            f"{self.near} near), {self.conflicts} of them with another label{self._limits()}."
        ]
        for pair in self.pairs[:MAX_PRINTED_PAIRS]:
            labels = pair.label if pair.label == pair.like_label else f"{pair.label} / {pair.like_label}"
            path, like_path = (display_path(relative_path(name, self.root)) for name in (pair.path, pair.like_path))
            sound = "" if pair.sound is None else f", correlation of the sound {pair.sound:.2f}"
            evidence = f"{pair.why} (cosine {pair.cosine:.3f}{sound})"
            lines.append(f"  {evidence}, {display_path(labels)}: {pair.id} {path} = {pair.like_id} {like_path}")
        more = len(self.pairs) > MAX_PRINTED_PAIRS
        return "\n".join([*lines, *(["  and more pairs (--json)"] if more else [])])

    def _limits(self) -> str:
        """Return what was not compared, in words."""
        sample = (
            "" if self.sampled is None else f"; near copies were looked for in a sample of {self.sampled} test rows"
        )
        if self.heard == self.compared:
            return sample
        if not self.heard:
            without = "the audio could not be compared, only the vectors"
            return f"{sample}; {without}, which cannot show copies where most rows have one"
        return f"{sample}; the audio of {self.compared - self.heard} of {self.compared} rows could not be compared"


def find_overlap(
    store: Store, rows: Sequence[Row], x: NDArray[np.float32], targets: Targets, splits: Splits
) -> Overlap:
    """Find the test rows that look like a training or validation row of the same part.

    Args:
        store: the store with the hashes of the files, and the places of the recordings.
        rows: the N rows.
        x: their vectors [N, D].
        targets: the classes of the rows.
        splits: the split of the rows.

    Returns:
        The numbers of these rows, and the first pairs.
    """
    recordings = store.recordings(list({row.path for row in rows}))
    files = factorize([(recordings[row.path].content_hash or row.path, row.start_s, row.end_s) for row in rows])
    bits = factorize((digest(vector), round(row.end_s - row.start_s, 6)) for vector, row in zip(x, rows, strict=True))
    audible = np.array(["silent" not in row.flags for row in rows]) & x.any(axis=1)  # all silent rows are equal
    parts = [
        replace(part, train=part.learned[audible[part.learned]], test=part.test[audible[part.test]])
        for part in splits.parts
    ]
    cosines = unit(x)
    exact = {match.test: match for part in parts for match in find_exact(part, files, bits, cosines)}
    scaled = unit((x - x.mean(axis=0)) / (x.std(axis=0) + np.float32(1e-12)))
    finder = CopyFinder(recordings, store.recipe, rows, scaled, splits.groups, targets.strata())
    sample = choose_sample(np.concatenate([part.test for part in parts]))
    tests = [part.test if sample is None else np.intersect1d(part.test, sample) for part in parts]
    copies = finder.find([(test, part.train) for test, part in zip(tests, parts, strict=True)])
    near = [
        Match(i, j, "near vector" if sound is None else "same sound", float(cosines[i] @ cosines[j]), sound)
        for i, j, sound in copies
        if i not in exact
    ]
    matches = [*exact.values(), *sorted(near, key=lambda match: (-match.cosine, match.test))]
    labels = label_names(targets)
    conflicts = [match for match in matches if labels[match.test] != labels[match.train]]
    others = [match for match in matches if labels[match.test] == labels[match.train]]
    return Overlap(
        exact=len(exact),
        near=len(near),
        conflicts=len(conflicts),
        pairs=tuple(list_pairs(conflicts + others, rows, labels)),
        root=source_root(store),
        positions=tuple(sorted(match.test for match in matches)),
        by_part=count_by_part(splits, matches),
        compared=int(audible.sum()),
        heard=int(finder.heard.sum()),
        sampled=None if sample is None else len(sample),
    )


def digest(vector: NDArray[np.float32]) -> bytes:
    """Return 16 bytes that two different vectors never share by chance."""
    return hashlib.blake2b(vector.tobytes(), digest_size=16).digest()


def choose_sample(tested: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the test rows whose near copies are looked for, ascending; None if these are all of them."""
    if len(tested) <= MAX_COMPARED:
        return None
    return np.sort(np.random.default_rng(SEED).choice(tested, MAX_COMPARED, replace=False))


def find_exact(
    part: Split, files: NDArray[np.int64], bits: NDArray[np.int64], cosines: NDArray[np.float32]
) -> Iterator[Match]:
    """Yield a match for every test row with the file, or the vector, of a training row."""
    for why, numbers in (("same vector", bits), ("same file", files)):  # the last one is kept
        first = {int(numbers[j]): int(j) for j in part.train[::-1]}
        for i in part.test.tolist():
            j = first.get(int(numbers[i]))
            if j is not None:
                yield Match(i, j, why, float(cosines[i] @ cosines[j]))


def list_pairs(matches: Sequence[Match], rows: Sequence[Row], labels: Sequence[str]) -> Iterator[Pair]:
    """Yield the first matches as pairs, each pair of rows once."""
    seen: set[frozenset[int]] = set()
    for i, j, why, cosine, sound in matches:
        if len(seen) < MAX_PAIRS and frozenset((i, j)) not in seen:
            seen.add(frozenset((i, j)))
            names = rows[i].id, rows[i].path, labels[i], rows[j].id, rows[j].path, labels[j]
            yield Pair(*names, why, round(min(1.0, cosine), 6), None if sound is None else round(min(1.0, sound), 4))


def count_by_part(splits: Splits, matches: Sequence[Match]) -> dict[str, int]:
    """Return the name of each test part with the number of its rows among the matches."""
    tested = splits.tested_in()
    names = [str(tested[match.test]) for match in matches]
    return {part.name: names.count(part.name) for part in splits.parts}


def label_names(targets: Targets) -> list[str]:
    """Return the class of every row by name; several classes with commas between them."""
    if not targets.multilabel:
        return [targets.classes[c] for c in targets.y]
    return [", ".join(targets.classes[c] for c in np.flatnonzero(row)) for row in targets.y]
