"""Rows and recordings: what a store holds, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    stretch: int = 0  # ordinal of its item among those of the recording


@dataclass(frozen=True, slots=True)
class Recording:
    """A file that was asked for: what it was like then, and why it failed if it did."""

    path: str
    size: int
    mtime_ns: int
    stretches: str  # the parts that were asked for, as JSON
    content_hash: str = ""
    duration_s: float | None = None
    rate: int | None = None
    channels: int | None = None
    flags: tuple[str, ...] = ()
    reason: str = ""  # empty: all is well
    detail: str = ""


Vectors = Mapping[str, NDArray[np.float32]]  # view -> vector [D]
