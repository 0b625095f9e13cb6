"""Columns from names: a regular expression for each column, and the time of a recording from the name of its file."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from embedx.annotations.base import typed
from embedx.datasets.items import Item, text
from embedx.datasets.manifests import FIELDS, RESERVED
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.processes.patterns import first_groups
from embedx.text import parse_pair

TIME_SOURCES = ("name", "header")
RECORDED_AT = "recorded_at"
DAY = r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<sep>[-_.]?)(?P<month>\d\d)(?P=sep)(?P<day>\d\d)"
CLOCK = r"(?P<hour>\d\d)(?P<colon>[-_:.h]?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d)(?P<part>\.\d{1,6})?)?(?!\d)"
ZONE = r"(?P<zone>Z|[+-]\d\d:?\d\d(?!\d))?"
PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # S4A03895_20190522_003000, 20190522T003000+1000, SITE_20190522$003000, 2019-05-22T00:30:00Z
        DAY + r"[T_ $-]+" + CLOCK + ZONE,
        DAY + r"-birdnet-(?:.*-)?" + CLOCK + ZONE,  # Corvus_corax-85-2022-06-01-birdnet-RTSP_1-06:12:11
        DAY + CLOCK + ZONE,  # 20190522003000
        # SoundTrap: 5678.190522003000
        r"(?<!\d)\d{3,}\.(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d)(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)(?!\d)",
    )
)
UNIX_TIME = re.compile(r"[0-9A-F]{8}")  # the name of a file of an AudioMoth of 2017 to 2019: seconds since 1970
FIRST_UNIX_TIME = int(datetime(2016, 1, 1, tzinfo=UTC).timestamp())  # before the first AudioMoth: 20190522 is a date


@dataclass(frozen=True)
class NameRules:
    """The columns that come from names.

    Attributes:
        meta: NAME=REGEX for each column, with one (group) that is searched in the path below the source.
        time_from: "name": the column `recorded_at` comes from the name of the file; "header" or None: not from it.

    Raises:
        UsageError: a rule has another form, or a column has a name of embedx.
    """

    meta: tuple[str, ...] = ()
    time_from: str | None = None

    def __post_init__(self) -> None:
        for name, rule in self.pairs():
            if name in ("label", "group"):
                raise UsageError(f"--meta sets other columns. For the {name} give --{name} {rule!r}.")
            if name.lower() in RESERVED and name not in FIELDS[3:]:
                raise UsageError(f"--meta cannot set {name}, which every row has already. Choose another name.")
        if self.time_from is not None and self.time_from not in TIME_SOURCES:
            raise UsageError(f"time_from must be {' or '.join(TIME_SOURCES)}, not {self.time_from!r}.")

    def pairs(self) -> list[tuple[str, str]]:
        """Return the columns with their regular expressions."""
        return [parse_pair(rule, "--meta") for rule in self.meta]


def add_name_columns(parts: Sequence[tuple[str, Sequence[Item]]], rules: NameRules) -> list[Item]:
    """Return the items of several sources with the columns that come from their names, which replace others.

    Args:
        parts: for each source the folder below which expressions are searched, and its items.
        rules: what to read in the names.

    Raises:
        UsageError: an expression is invalid or matches no path, or no name has a time.
    """
    items = [item for _, members in parts for item in members]
    if not items or not (rules.meta or rules.time_from == "name"):
        return items
    below = [os.path.relpath(item.path, root) for root, members in parts for item in members]
    columns = {name: match_paths(items, below, name, rule) for name, rule in rules.pairs()}
    if rules.time_from == "name":
        columns[RECORDED_AT] = [time_of_name(os.path.basename(item.path)) for item in items]
        if not any(columns[RECORDED_AT]):
            raise UsageError(
                "No file has a time in its name. --time-from name reads names such as S4A03895_20190522_003000.wav, "
                "5CE3A2B0.WAV and 2019-05-22T00:30:00Z.wav. For others use a manifest with a column recorded_at."
            )
    return [
        set_values(item, {name: values[number] for name, values in columns.items() if values[number] is not None})
        for number, item in enumerate(items)
    ]


def set_values(item: Item, values: dict[str, Any]) -> Item:
    """Return an item with these values; a split is a field of its own."""
    split = text(values.pop("split", None)) or item.split
    return replace(item, split=split, meta={**item.meta, **values})


def match_paths(items: Sequence[Item], below: Sequence[str], name: str, rule: str) -> list[Any]:
    """Return what an expression matches in the path of each item; numbers, if all matches are numbers.

    It is searched in the path below the source, and in the full path where it does not match there.
    """
    found = first_groups(rule, below)
    without = [number for number, value in enumerate(found) if value is None]
    if without:
        full = first_groups(rule, [items[number].path for number in without])
        for number, value in zip(without, full, strict=True):
            found[number] = value
    if not any(found):
        raise UsageError(
            f"--meta {name}={rule} matches no path. It is searched in the paths below the source, such as "
            f"{display_path(below[0])}, and in the full paths."
        )
    values = [typed(value) if value else None for value in found]
    if any(isinstance(value, str) for value in values):  # 007: the column is text
        return [text(value) for value in found]
    return values


def time_of_name(name: str) -> str | None:
    """Return the time in a file name as ISO 8601, to which windows add their start; None if there is none.

    It is the time of the recorder's clock. It has an offset from UTC only where the name states one; the name of an
    AudioMoth in hexadecimal digits is UTC.

    >>> time_of_name("S4A03895_20190522_003000.wav"), time_of_name("5CE3A2B0.WAV")
    ('2019-05-22T00:30:00', '2019-05-21T07:03:12+00:00')
    >>> time_of_name("Corvus_corax-85-2022-06-01-birdnet-06:12:11.mp3"), time_of_name("20190522.wav")
    ('2022-06-01T06:12:11', None)
    """
    stem = os.path.splitext(name)[0]
    if UNIX_TIME.fullmatch(stem.upper()) and int(stem, 16) >= FIRST_UNIX_TIME:
        return datetime.fromtimestamp(int(stem, 16), UTC).isoformat()
    for pattern in PATTERNS:
        for match in pattern.finditer(stem):
            if (time := time_of_parts(match.groupdict())) is not None:
                return time
    return None


def time_of_parts(parts: dict[str, str | None]) -> str | None:
    """Return a time in ISO 8601; None if there is no such day or hour."""
    year, second = str(parts["year"]), parts.get("second") or "00"
    day = f"{'20' * (len(year) == 2)}{year}-{parts['month']}-{parts['day']}"
    clock = f"{parts['hour']}:{parts['minute']}:{second}{parts.get('part') or ''}"
    try:
        return datetime.fromisoformat(f"{day}T{clock}{parts.get('zone') or ''}").isoformat()
    except ValueError:
        return None
