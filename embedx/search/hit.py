"""Hit: a row with its score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Hit:
    """A row, or several rows that were merged, with a score; a higher score is nearer.

    The score is the cosine to the query, the inner product (metric "ip"), or minus the Euclidean distance ("l2").
    """

    id: int
    score: float
    path: str
    start_s: float
    end_s: float
    label: str | None
    meta: Mapping[str, Any]
    query_start_s: float | None = None  # the time in the query that matches start_s; only with `align`
    collection: str | None = None  # where the row is; only in a search in several collections
