"""Labelling: set values of rows, or undo that, and tell the state after it."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from embedx.collection.label_table import RowFinder, read_table
from embedx.collection.labelling import label, label_rows, select_by_table, store_edits
from embedx.datasets.tables import UserTable
from embedx.filesystem.paths import display_path
from embedx.server.answers import Paths, state_of
from embedx.server.errors import ApiError
from embedx.server.json_filter import read_filter
from embedx.server.schemas import LabelEdit, LabelsBody, LabelTable
from embedx.server.searching import timeout_of
from embedx.server.served import Served, ServedCollection
from embedx.server.settings import Limits
from embedx.store.edits import LabelUpdate
from embedx.store.records import Row
from embedx.store.store import Store


def set_labels_of(served: Served, body: LabelsBody, limits: Limits) -> dict[str, Any]:
    """Make the change that a request asks for, and return the answer.

    Raises:
        ApiError: a row or a value is not allowed, or another process is writing the collection.
    """
    given = [name for name in ("edits", "set", "table") if getattr(body, name) is not None]
    if len(given) != 1:
        raise ApiError(400, "bad_request", "Give exactly one of edits, set and table.")
    if body.edits is not None:
        if body.filter is not None:
            raise ApiError(400, "bad_request", "filter goes with set or table; edits name their rows.")
        return set_values(served, body.edits)
    where, timeout = read_filter(body.filter, limits.filter), timeout_of(body.timeout, limits)
    table = body.table
    if table is None:
        return change(served, lambda opened: label(opened.folder, set=body.set, where=where, timeout=timeout))
    return change(served, lambda opened: label_by_table(opened, table, where, timeout, body.overlap))


def set_values(served: Served, edits: Sequence[LabelEdit]) -> dict[str, Any]:
    """Set values of columns in rows, in one change, and return the answer.

    Raises:
        ApiError: a row or a value is not allowed, or another process is writing the collection.
    """
    values: dict[int, dict[str, Any]] = {}
    for edit in edits:
        values.setdefault(edit.id, {})[edit.column] = edit.value
    return change(served, lambda opened: label_rows(opened.folder, values))


class ShownRowFinder(RowFinder):
    """Find the rows that an entry of a client's table means: its paths are those that the service shows."""

    def __init__(self, store: Store, rows: Iterable[Row], share: float, paths: Paths) -> None:
        super().__init__(store, rows, "", share)
        self.stored: dict[str, str | None] = {}
        for path in self.by_path:
            shown = paths.shown(path)
            self.stored[shown] = None if shown in self.stored else path

    def find_path(self, path: str) -> str | None:
        """Return the stored path that a client's path means; None if there is none.

        Raises:
            ApiError: several recordings are shown with this path.
        """
        name = display_path(os.path.normpath(path)) if path else ""
        if name in self.stored and self.stored[name] is None:
            problem = f"The path {name[:200]} belongs to several recordings."
            raise ApiError(400, "bad_request", problem, "Name the rows by their ids.")
        return self.stored.get(name)


def label_by_table(
    opened: ServedCollection, table: LabelTable, where: str | None, timeout: float, overlap: float
) -> LabelUpdate:
    """Set the values of a client's table; see `Collection.label`."""
    numbers = table.numbers or range(1, len(table.rows) + 1)
    if len(numbers) != len(table.rows):
        raise ApiError(400, "bad_request", "numbers has one number for each row of the table.")
    rows = [{name: row.get(name) for name in table.columns} for row in table.rows]
    unit = "Row" if table.numbers is None else "Line"
    entries = read_table(UserTable(display_path(table.name), table.columns, rows, numbers, unit))
    update = LabelUpdate()
    with Store(opened.folder, write=True) as store:
        ids = None if where is None else store.filter(where, timeout).tolist()
        finder = ShownRowFinder(store, store.rows(ids), overlap, Paths(opened))
        store_edits(store, select_by_table(finder, entries, update, whole=where is None), update)
    return update


def change(served: Served, make: Callable[[ServedCollection], LabelUpdate]) -> dict[str, Any]:
    """Make a change of labels, and return the number of changed rows with the state after it.

    Raises:
        ApiError: the change is not possible.
    """
    with served.lend() as collection:
        update = make(collection)
    with served.use() as collection:
        state = state_of(collection)
    entries = [{"entry": name, "rows": count} for name, count in update.entries]
    facts: dict[str, Any] = {
        "changed": update.rows,
        "change": update.change,
        **({"entries": entries} if entries else {}),
    }
    return facts | state | ({"revision": update.change} if update.change else {})
