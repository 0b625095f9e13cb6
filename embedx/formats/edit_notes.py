"""Edits in an export: what the user has set by hand, and what the source says in these places."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from embedx.datasets.manifests import renamed
from embedx.errors import UsageError
from embedx.formats.selection import Selection
from embedx.store.edits import Edit

EDITS_KEY = "embedx.edits"  # in the metadata of an Arrow schema, and in the note of an export for Hugging Face


@dataclass(frozen=True)
class EditNotes:
    """The edits of an export, and row id -> edited column -> its value without the edits."""

    edits: tuple[Edit, ...] = ()
    source_values: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


NO_EDITS = EditNotes()


def note_edits(selection: Selection) -> dict[str, Any]:
    """Return the edits of the recordings of a selection as JSON values; empty if there are none."""
    edits = selection.store.edits()
    if not edits:
        return {}
    paths, source_values = {""}, {}  # an undo has no path
    for row in selection.rows():
        paths.add(row.path)
        if row.source_values:
            source_values[str(row.id)] = dict(row.source_values)
    return {
        "edits": [
            [edit.change, edit.made, edit.path, edit.content_hash,
             None if edit.windows is None else sorted(edit.windows, key=str), dict(edit.values), edit.undoes]
            for edit in edits if edit.path in paths
        ],
        "source_values": source_values,
    }  # fmt: skip


def read_notes(note: Any) -> EditNotes:
    """Return what `note_edits` wrote; nothing for None or an empty note.

    Raises:
        UsageError: the note is invalid.
    """
    if not note:
        return NO_EDITS
    try:
        edits = tuple(read_edit(*values) for values in note["edits"])
        source_values = {int(number): check_values(values) for number, values in note["source_values"].items()}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UsageError(f"The edits in the file are invalid: {error}.") from error
    return EditNotes(edits, source_values)


def read_edit(change: Any, made: Any, path: Any, content_hash: Any, windows: Any, values: Any, undoes: Any) -> Edit:
    """Return an edit of an export; raise ValueError or TypeError if it is not one."""
    texts = (change, made, path, content_hash, undoes)
    if not all(isinstance(value, str) for value in texts) or "\0" in path or not change:
        raise ValueError("a text is missing")
    places = None
    if windows is not None:
        places = frozenset((float(start), float(end), channel, str(part)) for start, end, channel, part in windows)
        if not all(channel is None or isinstance(channel, (int, str)) for _, _, channel, _ in places):
            raise ValueError("a channel is neither a number nor a name")
    return Edit(change, made, path, content_hash, places, check_values(values), undoes)


def check_values(values: Any) -> dict[str, Any]:
    """Return column -> value; raise ValueError for columns that cannot be set."""
    if not isinstance(values, dict) or any(not name or renamed(name) != name for name in values):
        raise ValueError("a column cannot be set")
    if any(isinstance(values.get(name), (int, float, list, dict)) for name in ("label", "group", "split")):
        raise ValueError("a label is not text")
    return values
