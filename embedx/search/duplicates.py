"""Duplicates: rows -> groups of exact duplicates, and of rows with near vectors.

Exact duplicates are recordings whose files have the same bytes, and rows whose vectors have the same bits and whose
windows have the same length. Near vectors have a cosine of at least a threshold: copies, or other sounds of one kind,
because the sounds are not compared. Rows that are connected by such pairs are one group. Rows of one recording are not
compared with each other unless the caller asks for it, and rows that overlap in time never are.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from embedx.errors import UsageError
from embedx.index.matrix import Ids
from embedx.index.vector_index import VectorIndex
from embedx.index.vectors import ROUNDING, factorize
from embedx.search.pairs import (
    NEIGHBORS,
    ComparedRows,
    PairFinder,
    all_pairs,
    connect,
    connect_all,
    groups_of,
    neighbor_pairs,
    score_range,
)
from embedx.store.records import Row
from embedx.store.store import Store
from embedx.text import plural

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 200_000  # up to which all pairs are compared: 2e10 products of 768 numbers, a few minutes on two cores
MAX_CHAIN_SHARE = 0.05  # of the compared rows in one near group; a larger one means that the threshold is too low
HIGHER_THRESHOLDS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)  # shares of the way to cosine 1

Reason = Literal["same file", "same vector", "near vector"]


@dataclass(frozen=True)
class Member:
    """A row, or a whole recording, in a group of duplicates."""

    id: int  # of a recording: its first row
    path: str
    start_s: float
    end_s: float
    label: str | None


@dataclass(frozen=True)
class Group:
    """Two or more duplicates. `lowest` and `highest` are cosines between members of different recordings."""

    kind: Literal["exact", "near"]
    why: Reason
    lowest: float
    highest: float
    members: tuple[Member, ...]


class Duplicates(Sequence[Group]):
    """Groups of duplicates: exact ones first, then near ones by their highest cosine.

    Attributes:
        compared: the number of rows whose vectors were compared.
        silent: the number of rows that were not compared because they are silent: all silence is similar.
        complete: False if only the nearest neighbors of each row were compared.
        suggested_threshold: a higher threshold at which no near group holds more than 5 % of the compared rows; None
            if no group does now, or if no higher threshold helps.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        compared: int = 0,
        silent: int = 0,
        complete: bool = True,
        suggested_threshold: float | None = None,
    ) -> None:
        self._groups = list(groups)
        self.compared = compared
        self.silent = silent
        self.complete = complete
        self.suggested_threshold = suggested_threshold

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | list[Group]:
        return self._groups[index]

    def __repr__(self) -> str:
        return f"<Duplicates: {self.summary()}>"

    def summary(self) -> str:
        """Return the number of groups and of compared rows in one sentence, and a higher threshold if one helps."""
        exact = sum(group.kind == "exact" for group in self)
        near = plural(len(self) - exact, "group")
        text = f"{plural(exact, 'exact group')}, {near} with near vectors; {plural(self.compared, 'row')} compared"
        if self.silent:
            text += f", {plural(self.silent, 'silent row')} left out"
        if len(self) > exact:
            text += "; near vectors may also be other sounds of one kind, their audio was not compared"
        if not self.complete:
            text += f"; only the {NEIGHBORS} nearest rows of each row were compared"
        sizes = [len(group.members) if group.kind == "near" else 0 for group in self]
        if sizes and is_long_chain(max(sizes), self.compared):
            number = sizes.index(max(sizes)) + 1
            text += f". Group {number} is a chain of {max(sizes)} rows: "
            if self.suggested_threshold is None:
                text += "no higher threshold splits it"
            else:
                text += f"a threshold of {self.suggested_threshold:g} splits it"
        return text + "."

    def columns(self) -> dict[str, list[Any]]:
        """Return column -> values, one value per member: group, kind, why, lowest, highest, id, path, ..., label."""
        lines = [(number, group, member) for number, group in enumerate(self, start=1) for member in group.members]
        columns: dict[str, list[Any]] = {"group": [number for number, _, _ in lines]}
        for name in ("kind", "why", "lowest", "highest"):
            columns[name] = [getattr(group, name) for _, group, _ in lines]
        for name in ("id", "path", "start_s", "end_s", "label"):
            columns[name] = [getattr(member, name) for _, _, member in lines]
        return columns

    def to_pandas(self) -> "pd.DataFrame":
        """Return `columns` as a pandas data frame."""
        import pandas as pd

        columns: dict[str, Any] = dict(self.columns())
        columns["path"] = pd.Series(columns["path"], dtype=object)  # a path may be invalid UTF-8
        return pd.DataFrame(columns)


def find_duplicates(
    store: Store,
    index: VectorIndex,
    view: str,
    include_ids: Ids | None = None,
    threshold: float = 0.99,
    exact_only: bool = False,
    within: bool = False,
) -> Duplicates:
    """Find duplicates among all rows or those in `include_ids`; see `Collection.duplicates`.

    Args:
        store: the store of the collection.
        index: the index of the view, for the cosine.
        view: the view whose vectors are compared.
        include_ids: ids of the rows that are compared; all rows if None.
        threshold: minimum cosine of two near-duplicates, above 0 and at most 1.
        exact_only: find exact duplicates only.
        within: compare rows of one recording too, if they do not overlap in time.

    Raises:
        UsageError: the threshold is not above 0 and up to 1.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold={threshold} is not allowed: give a cosine above 0 and at most 1.")
    rows = store.rows(None if include_ids is None else include_ids.tolist())
    compared = read_compared_rows(store, view, rows, within)
    groups = same_files(store, rows) + same_vectors(compared)
    complete = exact_only or len(compared.rows) <= MAX_ROWS
    suggestion = None
    if not exact_only:
        find_pairs = all_pairs if complete else neighbor_pairs
        chains = find_chains(compared, connect_all(len(compared.rows), find_pairs(compared, index, threshold)))
        near = [near_group(compared, index, chain) for chain in chains]
        groups += sorted(near, key=lambda group: (-group.highest, group.members[0].id))
        suggestion = suggest_threshold(compared, index, chains, threshold, find_pairs)
    return Duplicates(groups, len(compared.rows), len(rows) - len(compared.rows), complete, suggestion)


def read_compared_rows(store: Store, view: str, rows: Sequence[Row], within: bool) -> ComparedRows:
    """Return the rows that are not silent and whose vector is not zero."""
    hashes: dict[int, bytes] = {}
    audible = {row.id for row in rows if "silent" not in row.flags}
    for ids, vectors in store.blocks(view, sorted(audible)):
        for row_id, vector in zip(ids.tolist(), vectors, strict=True):
            if vector.any():
                hashes[row_id] = hashlib.blake2b(vector.tobytes(), digest_size=16).digest()
    kept = [row for row in rows if row.id in hashes]
    contents = {recording.path: recording.content_hash for recording in store.each_recording()}
    return ComparedRows(
        kept,
        np.array([row.id for row in kept], np.int64),
        factorize(row.path for row in kept),
        factorize(contents[row.path] or row.path for row in kept),
        factorize((hashes[row.id], round(row.end_s - row.start_s, 6)) for row in kept),
        within,
    )


def same_files(store: Store, rows: Sequence[Row]) -> list[Group]:
    """Return groups of recordings whose files have the same bytes; a member spans all rows of a recording."""
    by_path: dict[str, list[Row]] = {}
    for row in rows:
        by_path.setdefault(row.path, []).append(row)
    by_content: dict[str, list[Member]] = {}
    for recording in store.each_recording():
        path = recording.path
        if path in by_path and recording.content_hash:
            own = by_path[path]
            start_s, end_s = min(row.start_s for row in own), max(row.end_s for row in own)
            member = Member(own[0].id, path, start_s, end_s, own[0].label)
            by_content.setdefault(recording.content_hash, []).append(member)
    return [
        Group("exact", "same file", 1.0, 1.0, tuple(members)) for members in by_content.values() if len(members) > 1
    ]


def same_vectors(rows: ComparedRows) -> list[Group]:
    """Return groups of rows of the same length whose vectors have the same bits, if their files differ."""
    groups = [group for group in groups_of(rows.bits) if rows.is_new_group(group, rows.contents)]
    return [
        Group("exact", "same vector", 1.0, 1.0, members_of(rows, group)) for group in groups if rows.has_pair(group)
    ]


def find_chains(rows: ComparedRows, roots: Ids) -> list[Ids]:
    """Return the groups of connected rows, without those that are exact duplicates as a whole."""
    return [
        group
        for group in groups_of(roots)
        if rows.is_new_group(group, rows.contents) and rows.is_new_group(group, rows.bits)
    ]


def near_group(rows: ComparedRows, index: VectorIndex, chain: Ids) -> Group:
    """Return connected rows as a group of near duplicates."""
    return Group("near", "near vector", *score_range(rows, index, chain), members_of(rows, chain))


def members_of(rows: ComparedRows, group: Ids) -> tuple[Member, ...]:
    """Return the rows of a group as members."""
    own = [rows.rows[position] for position in group.tolist()]
    return tuple(Member(row.id, row.path, row.start_s, row.end_s, row.label) for row in own)


def is_long_chain(size: int, compared: int) -> bool:
    """Tell whether a near group holds so many of the compared rows that the threshold is too low."""
    return size > max(2, MAX_CHAIN_SHARE * compared)


def suggest_threshold(
    rows: ComparedRows, index: VectorIndex, chains: Sequence[Ids], threshold: float, find_pairs: PairFinder
) -> float | None:
    """Return the lowest of some higher thresholds at which no long chain is left; None if none is needed, or helps.

    The pairs inside the long chains are computed again, with their cosines.
    """
    long = [chain for chain in chains if is_long_chain(len(chain), len(rows.rows))]
    if not long:
        return None
    members = rows.take(np.sort(np.concatenate(long)))
    levels = [round(1 - share * (1 - threshold), 6) for share in HIGHER_THRESHOLDS]
    roots = [np.arange(len(members.rows)) for _ in levels]
    for first, second, scores in find_pairs(members, index, levels[0]):
        for number, level in enumerate(levels):
            kept = scores >= level - ROUNDING
            roots[number] = connect(roots[number], first[kept], second[kept])
    for level, numbers in zip(levels, roots, strict=True):
        if not any(is_long_chain(len(chain), len(rows.rows)) for chain in find_chains(members, numbers)):
            return level
    return None
