"""Praat: TextGrid files, in the long and the short form. Each tier is a value `tier` of its annotations."""

import re
from collections.abc import Iterator, Sequence

from embedx.annotations.base import Annotation, AnnotationFormat, times
from embedx.errors import UsageError

NUMBER_OR_FLAG = re.compile(r"<exists>|(?<![^\s=])-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?!\S)")
INDEX = re.compile(r"\[[0-9]*\]")  # of a tier or an interval, which is not a value
TIER = "tier"  # the column with the name of the tier
DEFAULT_TIER = "labels"


def matches(text: str) -> bool:
    """Tell whether a text is a TextGrid."""
    return '"TextGrid"' in text[:200]


def tokens(text: str) -> Iterator[str]:
    """Yield the values of a file in order: numbers, and texts with a quote before them.

    Raises:
        ValueError: a text is not closed.
    """
    parts = text.split('"')  # a quote in a text is doubled, so every second part is inside of one
    if len(parts) % 2 == 0:
        raise ValueError("a text is not closed")
    inside = ""
    for count, part in enumerate(parts):
        if count % 2 == 0 and (part or count == 0):
            if count:
                yield inside
            inside = ""
            yield from NUMBER_OR_FLAG.findall(re.sub(r"![^\n]*", "", INDEX.sub("", part)))
        elif count % 2 == 0:
            inside += '"'
        else:
            inside = (inside or '"') + part


def read(text: str, name: str) -> list[Annotation]:
    """Return the intervals and points that have a text.

    Raises:
        UsageError: the file is damaged.
    """
    annotations: list[Annotation] = []
    try:
        values = tokens(text)
        if not next(values).startswith('"ooTextFile') or next(values) != '"TextGrid':
            raise ValueError("it does not begin as one")
        next(values), next(values)  # its own times
        if next(values) != "<exists>":
            return []
        for _ in range(int(next(values))):
            is_interval, tier = next(values) == '"IntervalTier', next(values)[1:]
            next(values), next(values)
            for count in range(1, int(next(values)) + 1):
                start = next(values)
                end = next(values) if is_interval else start
                label = next(values)
                if not label.startswith('"'):
                    raise ValueError(f"the text of interval {count} of {tier!r} is missing")
                if label[1:].strip():
                    place = f"Interval {count} of the tier {tier!r} of {name}"
                    start_s, end_s = times(start, end, place)
                    annotations.append(
                        Annotation("", start_s, end_s, label[1:].strip(), values={TIER: tier}, place=place)
                    )
    except (StopIteration, ValueError) as error:
        raise UsageError(f"{name} is a damaged TextGrid: {error or 'it ends too early'}.") from error
    return annotations


def write(annotations: Sequence[Annotation]) -> str:
    """Return a TextGrid. Annotations that overlap are in several tiers: intervals of one tier cannot overlap."""
    end_s = max((one.end_s for one in annotations), default=0.0) or 1.0
    tiers: dict[str, list[Annotation]] = {}
    for one in sorted(annotations, key=lambda one: (one.start_s, one.end_s)):
        if one.end_s > one.start_s:
            name = str(one.values.get(TIER) or DEFAULT_TIER)
            names = (name, *(f"{name} {count}" for count in range(2, len(annotations) + 2)))
            free = next(name for name in names if name not in tiers or tiers[name][-1].end_s <= one.start_s)
            tiers.setdefault(free, []).append(one)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s:.6f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for count, (name, members) in enumerate(tiers.items(), start=1):
        intervals = list(fill(members, end_s))
        lines += [f"    item [{count}]:", '        class = "IntervalTier"', f"        name = {quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {end_s:.6f}", f"        intervals: size = {len(intervals)}"]
        for place, (start, end, label) in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {start:.6f}",
                f"            xmax = {end:.6f}",
            ]
            lines.append(f"            text = {quoted(label)}")
    return "\n".join(lines) + "\n"


def fill(members: Sequence[Annotation], end_s: float) -> Iterator[tuple[float, float, str]]:
    """Yield the intervals of a tier, with empty ones between the annotations: a tier has no gaps."""
    position = 0.0
    for one in members:
        if one.start_s > position:
            yield position, one.start_s, ""
        yield one.start_s, one.end_s, one.label or ""
        position = one.end_s
    if position < end_s:
        yield position, end_s, ""


def quoted(text: str) -> str:
    """Return a text in quotes, with those in it doubled."""
    return '"' + text.replace('"', '""') + '"'


TEXTGRID = AnnotationFormat("textgrid", ".TextGrid", matches, read, write, is_single=True)
