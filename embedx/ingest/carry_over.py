"""Carry over: the rows of a file that has changed keep the metadata that the source does not give this time."""

from collections.abc import Collection, Sequence
from typing import Any

from embedx.datasets.items import Item
from embedx.store.edits import FIELDS, Place, find_predecessors, place_of, value_of, with_values, without_edits
from embedx.store.records import Recording, Row, Vectors
from embedx.store.store import Store


class EarlierRows:
    """The rows of recordings that are about to be embedded again, without the edits of the user.

    Args:
        store: the store, before the recordings are replaced.
        paths: the recordings.
    """

    def __init__(self, store: Store, paths: Collection[str]) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.stretches: dict[str, str] = {}
        if not paths:
            return
        chosen = set(paths)
        for row in store.each_row():
            if row.path in chosen:
                self.rows.setdefault(row.path, []).append(without_edits(row))
        self.stretches = {path: one.stretches for path, one in store.recordings().items() if path in self.rows}

    def describe(self, recording: Recording, rows: Sequence[tuple[Row, Vectors]]) -> Sequence[tuple[Row, Vectors]]:
        """Return the new rows of a recording with the metadata of the earlier rows that their items do not give.

        A new window takes it from the window that it continues (see `find_predecessors`), and otherwise what is the
        same in all earlier rows of the recording.
        """
        earlier = self.rows.get(recording.path)
        if not earlier or not rows:
            return rows
        old: dict[Place, Row] = {place_of(row, self.stretches[recording.path]): row for row in earlier}
        predecessors = find_predecessors(old, [place_of(row, recording.stretches) for row, _ in rows])
        shared = common_values(earlier)
        described = []
        for (row, vectors), places in zip(rows, predecessors, strict=True):
            known = values_of(old[places[-1]]) if places else shared
            described.append((with_values(row, {**known, **values_of(row)}), vectors))
        return described


def values_of(described: Item | Row) -> dict[str, Any]:
    """Return column -> value of what an item or a row says about itself."""
    fields = {name: getattr(described, name) for name in FIELDS if getattr(described, name)}
    return {**fields, **described.meta}


def common_values(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the values that all rows share."""
    first = values_of(rows[0])
    return {name: value for name, value in first.items() if all(value_of(row, name) == value for row in rows)}
