"""Labelling: set values of rows, or undo that, and tell the state after it."""

from collections.abc import Callable, Sequence
from typing import Any

from embedx.collection.labelling import LabelUpdate, label_rows
from embedx.server.answers import state_of
from embedx.server.schemas import LabelEdit
from embedx.server.served import Served, ServedCollection


def set_values(served: Served, edits: Sequence[LabelEdit]) -> dict[str, Any]:
    """Set values of columns in rows, in one change, and return the answer.

    Raises:
        ApiError: a row or a value is not allowed, or another process is writing the collection.
    """
    values: dict[int, dict[str, Any]] = {}
    for edit in edits:
        values.setdefault(edit.id, {})[edit.column] = edit.value
    return change(served, lambda opened: label_rows(opened.folder, values))


def change(served: Served, make: Callable[[ServedCollection], LabelUpdate]) -> dict[str, Any]:
    """Make a change of labels, and return the number of changed rows with the state after it.

    Raises:
        ApiError: the change is not possible.
    """
    with served.lend() as collection:
        update = make(collection)
    with served.use() as collection:
        state = state_of(collection)
    return {"changed": update.rows} | state | ({"revision": update.change} if update.change else {})
