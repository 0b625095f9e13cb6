"""Rows and recordings of a store as plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Row:
    """A stored window, without its vectors."""

    id: int
    path: str
    start_s: float
    end_s: float
    label: str | None
    group: str | None
    split: str | None
    flags: tuple[str, ...]
    meta: Mapping[str, Any]
    stretch: int = 0  # number of its item among the items of the recording
    source_values: Mapping[str, Any] = field(default_factory=dict)  # edited column -> its value without the edits


@dataclass(frozen=True, slots=True)
class Recording:
    """A file of a source as it was when it was read, and the reason if it failed."""

    path: str
    size: int | None  # bytes; None if there is no file: it cannot be found, or the vectors were imported
    mtime_ns: int | None  # time of the last change in nanoseconds; for a remote file with an ETag a number made of it
    stretches: str  # the embedded parts, as JSON: a list of [start_s, end_s or null]
    content_hash: str = ""
    duration_s: float | None = None
    rate: int | None = None  # Hz
    channels: int | None = None
    flags: tuple[str, ...] = ()
    reason: str = ""  # class of the failure, such as "not-audio"; empty if it did not fail
    detail: str = ""


@dataclass(frozen=True)
class Issue:
    """Damage, or a file that does not belong to the collection."""

    kind: str  # "vector", "row", "recording", "table", "file", "log", "index" or "foreign"
    place: str
    detail: str
    id: int = 0  # of the row or recording, if there is one


Vectors = Mapping[str, NDArray[np.float32]]  # view -> vector [D]


def to_stored(number: int | None) -> int:
    """Return a size or time as the store holds it: its columns are NOT NULL, so -1 stands for None."""
    return -1 if number is None else number


def from_stored(number: int) -> int | None:
    """Return a size or time of the store; see `to_stored`."""
    return None if number == -1 else number


def group_by_path(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return path -> rows."""
    by_path: dict[str, list[Row]] = {}
    for row in rows:
        by_path.setdefault(row.path, []).append(row)
    return by_path
