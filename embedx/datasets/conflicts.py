"""Conflicts: entries of one recording that say different things are refused, all of them with their places."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from embedx.datasets.items import Item
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.text import plural

MAX_NAMED = 20  # conflicts in the message; all are counted


def merge_items(items: Iterable[Item]) -> list[Item]:
    """Return each recording, or part of one, once; what one entry leaves empty is taken from the other.

    Raises:
        UsageError: two entries of the same part of a recording differ in a label, group, split or other column.
    """
    unique: dict[tuple[str, float, float | None], Item] = {}
    conflicts: list[str] = []
    for item in items:
        key = item.path, item.start_s, item.end_s
        other = unique.setdefault(key, item)
        if other is not item:
            conflicts += differences(other, item)
            unique[key] = merge(other, item)
    if conflicts:
        raise UsageError(describe_conflicts(conflicts, "A recording, or a part of it (start_s, end_s), has one row."))
    return list(unique.values())


def describe_conflicts(conflicts: list[str], rule: str) -> str:
    """Return the message about conflicts: their number, the first ones, and the rule that they break."""
    named = conflicts[:MAX_NAMED]
    if len(named) < len(conflicts):
        named.append(f"{len(conflicts) - len(named)} more")
    return (
        f"{plural(len(conflicts), 'conflict')} in the source: {'; '.join(named)}. {rule} Remove the other rows; "
        "several labels of a recording can be one text, such as dog+cat."
    )


def differences(first: Item, second: Item) -> Iterator[str]:
    """Yield a sentence for each value that two entries of a recording give differently."""
    for name, value, other in pairs(values_of(first), values_of(second)):
        if value != other and not name.startswith("Unnamed: "):  # the index of a frame counts the rows
            places = [
                f"{old!r}{f' ({place})' if place else ''}"
                for old, place in ((value, first.place), (other, second.place))
            ]
            yield f"{display_path(first.path)}: {name} is {places[0]} and {places[1]}"


def values_of(item: Item) -> dict[str, Any]:
    """Return column -> value of an item, with its metadata."""
    return {"label": item.label, "group": item.group, "split": item.split, **item.meta}


def pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name and both values of what both mappings give."""
    for name, value in first.items():
        if value is not None and second.get(name) is not None:
            yield name, value, second[name]


def merge(first: Item, second: Item) -> Item:
    """Return an item with the values of both; those of the first one are preferred."""
    meta = {**second.meta, **{name: value for name, value in first.meta.items() if value is not None}}
    if first.label is None:
        first = replace(first, label=second.label, label_origin=second.label_origin)
    return replace(first, group=first.group or second.group, split=first.split or second.split, meta=meta)
