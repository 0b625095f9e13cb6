"""Duplicates: rows -> groups that are the same sound, exactly or nearly.

Exact are recordings whose files have the same bytes, and rows whose vectors have the same bits and that last equally
long. Near are rows whose vectors have a cosine of at least a threshold, and what hangs together by such pairs. Rows of
one recording are no duplicates of each other unless that is asked for, and rows that overlap in time never are.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.index.matrix import Floats, Ids
from embedx.index.vector_index import VectorIndex
from embedx.index.vectors import ROUNDING, factorize
from embedx.store.records import Row
from embedx.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 200_000  # of which all pairs are compared: 2e10 products of 768 numbers, some minutes on two cores
NEIGHBOURS = 100  # of each row that are looked at where there are more
BLOCK = 1024  # rows against rows at a time: 4 MB of scores

Why = Literal["same file", "same vector", "near"]


@dataclass(frozen=True)
class Member:
    """A row, or a whole recording, that is one of several."""

    id: int  # of a recording: its first row
    path: str
    start_s: float
    end_s: float
    label: str | None


@dataclass(frozen=True)
class Group:
    """Two or more of the same sound. `lowest` and `highest` are cosines between members of different recordings."""

    kind: Literal["exact", "near"]
    why: Why
    lowest: float
    highest: float
    members: tuple[Member, ...]


class Duplicates(Sequence[Group]):
    """Groups, exact ones first, then near ones by their highest cosine; a sequence that also turns into a frame.

    `compared` is the number of rows whose vectors were compared; `silent` were left out of that, because all silence is
    alike. `complete` is False where only the nearest neighbours of each row were looked at.
    """

    def __init__(self, groups: Sequence[Group], compared: int = 0, silent: int = 0, complete: bool = True) -> None:
        self._groups = list(groups)
        self.compared = compared
        self.silent = silent
        self.complete = complete

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | list[Group]:
        return self._groups[index]

    def __repr__(self) -> str:
        return "Duplicates([\n" + "".join(f"  {group},\n" for group in self) + "])"

    def columns(self) -> dict[str, list[Any]]:
        """Return name -> values, a line for each member: group, kind, why, lowest, highest, id, path, ..., label."""
        lines = [(number, group, one) for number, group in enumerate(self, start=1) for one in group.members]
        columns: dict[str, list[Any]] = {"group": [number for number, _, _ in lines]}
        for name in ("kind", "why", "lowest", "highest"):
            columns[name] = [getattr(group, name) for _, group, _ in lines]
        for name in ("id", "path", "start_s", "end_s", "label"):
            columns[name] = [getattr(one, name) for _, _, one in lines]
        return columns

    def to_pandas(self) -> "pd.DataFrame":
        """Return `columns` as a frame."""
        import pandas as pd

        columns: dict[str, Any] = dict(self.columns())
        columns["path"] = pd.Series(columns["path"], dtype=object)  # holds names that are no UTF-8
        return pd.DataFrame(columns)


@dataclass(frozen=True)
class Sounds:
    """The rows [N] whose vectors are compared, with numbers for what two of them may share.

    That is the recording, the bytes of its file, or the bits of the vector (and the length of time).
    """

    rows: list[Row]
    ids: Ids
    recordings: Ids
    contents: Ids
    bits: Ids
    within: bool

    def count(self, i: Ids, j: Ids) -> NDArray[np.bool_]:
        """Tell which pairs of rows would be duplicates if they were alike: not of one recording, or not at one time."""
        same: NDArray[np.bool_] = self.recordings[i] == self.recordings[j]
        if self.within:
            same &= (self.starts_s[i] < self.ends_s[j]) & (self.starts_s[j] < self.ends_s[i])
        return ~same

    @cached_property
    def starts_s(self) -> Floats:
        """Where each row begins in its recording."""
        return np.array([row.start_s for row in self.rows])

    @cached_property
    def ends_s(self) -> Floats:
        """Where it ends."""
        return np.array([row.end_s for row in self.rows])

    def is_new_group(self, group: Ids, known: Ids) -> bool:
        """Tell whether a group is more than the copies of one thing, by numbers such as `contents`."""
        if len(np.unique(known[group])) > 1:
            return True
        return self.within and len(np.unique(self.recordings[group])) < len(group)

    def members(self, group: Ids) -> tuple[Member, ...]:
        """Return the rows of a group."""
        found = [self.rows[place] for place in group.tolist()]
        return tuple(Member(row.id, row.path, row.start_s, row.end_s, row.label) for row in found)


def find_duplicates(
    store: Store,
    index: VectorIndex,
    view: str,
    keep: Ids | None = None,
    threshold: float = 0.99,
    exact_only: bool = False,
    within: bool = False,
) -> Duplicates:
    """Find what is there more than once, among all rows or those in `keep`; see `Collection.duplicates`.

    `index` compares the vectors of the view by the cosine.

    Raises:
        UsageError: the threshold is no cosine above 0.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold is a cosine above 0, up to 1, not {threshold}.")
    rows = store.rows(None if keep is None else keep.tolist())
    groups = same_files(store, rows)
    sounds = read_sounds(store, view, rows, within)
    groups += same_vectors(sounds)
    complete = exact_only or len(sounds.rows) <= MOST_ROWS
    if not exact_only:
        pairs = all_pairs(sounds, index, threshold) if complete else near_pairs(sounds, index, threshold)
        groups += sorted(near(sounds, index, pairs), key=lambda group: (-group.highest, group.members[0].id))
    return Duplicates(groups, len(sounds.rows), len(rows) - len(sounds.rows), complete)


def read_sounds(store: Store, view: str, rows: Sequence[Row], within: bool) -> Sounds:
    """Leave out the rows that are silent or whose vector is zero, and number the rest."""
    hashes: dict[int, bytes] = {}
    audible = {row.id for row in rows if "silent" not in row.flags}
    for ids, vectors in store.blocks(view, sorted(audible)):
        for number, vector in zip(ids.tolist(), vectors, strict=True):
            if vector.any():
                hashes[number] = hashlib.blake2b(vector.tobytes(), digest_size=16).digest()
    kept = [row for row in rows if row.id in hashes]
    contents = {one.path: one.content_hash for one in store.recordings().values()}
    return Sounds(
        kept,
        np.array([row.id for row in kept], np.int64),
        factorize(row.path for row in kept),
        factorize(contents[row.path] or row.path for row in kept),
        factorize((hashes[row.id], round(row.end_s - row.start_s, 6)) for row in kept),
        within,
    )


def same_files(store: Store, rows: Sequence[Row]) -> list[Group]:
    """Return the recordings whose files have the same bytes, each as one member from its first row to its last."""
    by_path: dict[str, list[Row]] = {}
    for row in rows:
        by_path.setdefault(row.path, []).append(row)
    by_content: dict[str, list[Member]] = {}
    for path, recording in store.recordings().items():
        if path in by_path and recording.content_hash:
            mine = by_path[path]
            end_s = max(row.end_s for row in mine)
            member = Member(mine[0].id, path, min(row.start_s for row in mine), end_s, mine[0].label)
            by_content.setdefault(recording.content_hash, []).append(member)
    return [
        Group("exact", "same file", 1.0, 1.0, tuple(members)) for members in by_content.values() if len(members) > 1
    ]


def same_vectors(sounds: Sounds) -> list[Group]:
    """Return the rows whose vectors have the same bits and that last equally long, where their files differ."""
    groups = [group for group in groups_of(sounds.bits) if sounds.is_new_group(group, sounds.contents)]
    found = [group for group in groups if any_pair(sounds, group)]
    return [Group("exact", "same vector", 1.0, 1.0, sounds.members(group)) for group in found]


def any_pair(sounds: Sounds, group: Ids) -> bool:
    """Tell whether any two of a group count."""
    return any(bool(sounds.count(np.full(len(group), one), group).any()) for one in group)


def near(sounds: Sounds, index: VectorIndex, pairs: Iterable[tuple[Ids, Ids]]) -> list[Group]:
    """Return what hangs together by pairs, where it is more than what is exact anyway."""
    groups = [
        group
        for group in groups_of(connect(len(sounds.rows), pairs))
        if sounds.is_new_group(group, sounds.contents) and sounds.is_new_group(group, sounds.bits)
    ]
    return [Group("near", "near", *span(sounds, index, group), sounds.members(group)) for group in groups]


def all_pairs(sounds: Sounds, index: VectorIndex, threshold: float) -> Iterator[tuple[Ids, Ids]]:
    """Yield the places of all pairs that count and are alike, block by block over the upper triangle."""
    for i, j, scores in blocks_of_scores(index, sounds.ids):
        above, beside = np.nonzero(scores >= threshold - ROUNDING)
        first, second = i[above], j[beside]
        kept = (first < second) & sounds.count(first, second)
        yield first[kept], second[kept]


def near_pairs(sounds: Sounds, index: VectorIndex, threshold: float) -> Iterator[tuple[Ids, Ids]]:
    """Yield the same, but look only at the nearest neighbours of each row."""
    everything = len(sounds.ids) == len(index)
    for start in range(0, len(sounds.ids), BLOCK):
        mine = np.arange(start, min(start + BLOCK, len(sounds.ids)))
        queries = index.vectors(sounds.ids[mine])
        scores, ids = index.search(queries, NEIGHBOURS, keep=None if everything else sounds.ids)
        places = np.searchsorted(sounds.ids, ids).clip(max=len(sounds.ids) - 1)
        alike = (scores >= threshold - ROUNDING) & (sounds.ids[places] == ids)
        first, second = mine[np.nonzero(alike)[0]], places[alike]
        kept = sounds.count(first, second) & (first != second)
        yield first[kept], second[kept]


def blocks_of_scores(index: VectorIndex, ids: Ids) -> Iterator[tuple[Ids, Ids, Floats]]:
    """Yield places i [B], places j [C] and the cosines [B, C] between them, so that every pair is met."""
    places = np.arange(len(ids))
    for start in range(0, len(ids), BLOCK):
        i = places[start : start + BLOCK]
        vectors = index.vectors(ids[i])
        for other in range(start, len(ids), BLOCK):
            j = places[other : other + BLOCK]
            yield i, j, vectors @ (vectors if other == start else index.vectors(ids[j])).T


def connect(count: int, pairs: Iterable[tuple[Ids, Ids]]) -> Ids:
    """Return for each of so many things the least one that it hangs together with (union-find).

    >>> connect(5, [(np.array([0, 3]), np.array([2, 4])), (np.array([2]), np.array([4]))]).tolist()
    [0, 1, 0, 0, 0]
    """
    roots = np.arange(count)
    for first, second in pairs:
        edges = np.unique(np.stack([roots[first], roots[second]]), axis=1)  # few, where much hangs together already
        for one, other in edges.T.tolist():
            while one != roots[one]:
                one = int(roots[one])
            while other != roots[other]:
                other = int(roots[other])
            roots[max(one, other)] = min(one, other)
        while not np.array_equal(roots, further := roots[roots]):
            roots = further
    return roots


def span(sounds: Sounds, index: VectorIndex, group: Ids) -> tuple[float, float]:
    """Return the lowest and the highest cosine between those of a group that count."""
    lowest, highest = 2.0, -2.0
    for i, j, scores in blocks_of_scores(index, sounds.ids[group]):
        first, second = np.meshgrid(group[i], group[j], indexing="ij")
        values = scores[(first < second) & sounds.count(first, second)]
        if len(values):
            lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
    return lowest, highest


def groups_of(numbers: Ids) -> list[Ids]:
    """Return the places of every number that is there more than once.

    >>> [group.tolist() for group in groups_of(np.array([7, 8, 7, 9, 7]))]
    [[0, 2, 4]]
    """
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [group for group in np.split(order, cuts) if len(group) > 1]
