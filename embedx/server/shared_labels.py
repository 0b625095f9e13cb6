"""Labels of several people: a value that another one has set meanwhile is not overwritten, and not undone."""

from collections.abc import Callable, Sequence
from typing import Any

from embedx.server.answers import state_of
from embedx.server.errors import ApiError
from embedx.server.label_memory import Cell
from embedx.server.schemas import LabelEdit, LabelsBody, UndoBody
from embedx.server.served import Served
from embedx.store.edits import value_of


def read_cells(served: Served, cells: Sequence[Cell]) -> tuple[dict[Cell, Any], dict[str, int]]:
    """Return the values of cells now, without those of rows that do not exist, and the state."""
    with served.use() as collection:
        rows = {row.id: row for row in collection.store.rows(sorted({number for number, _ in cells}))}
        values = {cell: value_of(rows[cell[0]], cell[1]) for cell in cells if cell[0] in rows}
        return values, state_of(collection)


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same in the store, where an empty text is no value."""
    return (
        one == other
        or (one in (None, "") and other in (None, ""))
        or (None not in (one, other) and str(one) == str(other))
    )


def set_shared(served: Served, body: LabelsBody, make: Callable[[LabelsBody], dict[str, Any]]) -> dict[str, Any]:
    """Make a change but for the cells that hold another value than its author has seen, and return the answer.

    Raises:
        ApiError: a row or a value is not allowed, or another process is writing the collection.
    """
    memory = served.labels

    def answer() -> dict[str, Any]:
        edits = body.edits or []
        now, state = read_cells(served, [cell_of(edit) for edit in edits if "was" in edit.model_fields_set])
        met = [edit for edit in edits if cell_of(edit) in now and is_conflict(edit, now[cell_of(edit)])]
        conflicts = [
            {"id": one.id, "column": one.column, "value": now[cell_of(one)], "by": memory.authors.get(cell_of(one))}
            for one in met
        ]
        refused = {id(edit) for edit in met}
        kept = [edit for edit in edits if id(edit) not in refused]
        if edits and not kept:
            return {"changed": 0, **state, "conflicts": conflicts}
        result = make(body.model_copy(update={"edits": kept}) if edits else body)
        if result.get("change"):
            values, _ = read_cells(served, list(dict.fromkeys(map(cell_of, kept))))
            memory.note(result["change"], body.by, values)
        return result | ({"conflicts": conflicts} if edits and (body.key or now) else {})

    return memory.once(body.key, answer)


def cell_of(edit: LabelEdit) -> Cell:
    """Return the cell that an edit sets."""
    return edit.id, edit.column


def is_conflict(edit: LabelEdit, now: Any) -> bool:
    """Tell whether a cell holds neither what the author of an edit has seen nor what it sets."""
    return not is_same(now, edit.was) and not is_same(now, edit.value)


def undo_shared(served: Served, body: UndoBody, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Undo a change, if its cells still hold what it has set, and return the answer.

    Raises:
        ApiError: a cell holds another value; there is no such change, or another process is writing the collection.
    """
    memory = served.labels

    def answer() -> dict[str, Any]:
        known = memory.changes.get(body.revision or 0)
        cells = {} if known is None else known.cells
        now, _ = read_cells(served, list(cells))
        others = [cell for cell, value in now.items() if not is_same(value, cells[cell])]
        if others:
            error = ApiError(409, "conflict", f"{len(others)} of the cells were changed since.", "Keep what they hold.")
            error.facts["cells"] = [
                {"id": cell[0], "column": cell[1], "value": now[cell], "by": memory.authors.get(cell)}
                for cell in others
            ]
            raise error
        result = make()
        memory.changes.pop(body.revision or 0, None)
        if result.get("change"):
            memory.note(result["change"], body.by, read_cells(served, list(cells))[0])
        return result | {"restored": result["changed"]}

    return memory.once(body.key, answer)
