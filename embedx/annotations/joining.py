"""Joining: annotations of one stretch, or of touching stretches with one class, -> one annotation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from embedx.annotations.base import Annotation

TOUCH_S = 1e-6  # between two stretches that touch: the rounding of a time in a file


def join_same_times(annotations: Iterable[Annotation]) -> list[Annotation]:
    """Return one annotation for each stretch: their labels, and other texts that differ, are joined by ";".

    The frequencies are those that hold all of them, the score is the highest.
    """
    groups: dict[tuple[str, float, float], list[Annotation]] = {}
    for one in annotations:
        groups.setdefault((one.path, one.start_s, one.end_s), []).append(one)
    return [join(members) for members in groups.values()]


def merge_touching(annotations: Iterable[Annotation]) -> list[Annotation]:
    """Return annotations in which stretches of one recording and class that touch or overlap are one.

    Annotations without a label, and of different channels, stay apart.
    """
    merged: list[Annotation] = []
    running: dict[tuple[Any, ...], list[Annotation]] = {}
    for one in sorted(annotations, key=lambda one: (one.path, one.start_s, one.end_s)):
        key = one.path, one.label, one.values.get("channel")
        members = running.get(key, [])
        if one.label is not None and members and one.start_s <= max(last.end_s for last in members) + TOUCH_S:
            members.append(one)
            continue
        if members:
            merged.append(join(members))
        running[key] = [one]
    merged += [join(members) for members in running.values()]
    return sorted(merged, key=lambda one: (one.path, one.start_s, one.end_s))


def join(members: Sequence[Annotation]) -> Annotation:
    """Return annotations as one that holds all of them."""
    first = members[0]
    if len(members) == 1:
        return first

    def chosen(choose: Callable[[list[float]], float], name: str) -> float | None:
        values = [value for one in members if (value := getattr(one, name)) is not None]
        return choose(values) if values else None

    labels = dict.fromkeys(part for one in members if one.label for part in one.label.split(";"))
    return Annotation(
        first.path,
        min(one.start_s for one in members),
        max(one.end_s for one in members),
        ";".join(labels) or None,
        chosen(min, "low_hz"),
        chosen(max, "high_hz"),
        chosen(max, "score"),
        join_values([one.values for one in members]),
        first.place,
    )


def join_values(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the other columns of several annotations; values that differ are joined as text.

    >>> join_values([{"site": "a", "n": 1}, {"site": "b", "n": 1}])
    {'site': 'a;b', 'n': 1}
    """
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for values in members for name in values):
        different = list(dict.fromkeys(repr(values[name]) for values in members if values.get(name) is not None))
        given = [values[name] for values in members if values.get(name) is not None]
        joined[name] = (
            None if not given else given[0] if len(different) == 1 else ";".join(dict.fromkeys(map(str, given)))
        )
    return joined
