"""SearchOptions: which of the scored rows are the answer, and which ways of choosing go together."""

import math
from dataclasses import dataclass
from typing import TypedDict

from embedx.errors import UsageError
from embedx.index.exact import METRICS

DEFAULT_K = 10
WITH_RADIUS = ("group_by", "merge", "align")  # ways of choosing that a radius may limit


class SearchKwargs(TypedDict, total=False):
    """The fields of a `SearchOptions`, as keywords."""

    k: int | None
    metric: str
    exact: bool
    radius: float | None
    score_band: tuple[float, float] | None
    group_by: str | None
    merge: bool
    diverse: float | None
    align: bool


@dataclass(frozen=True)
class SearchOptions:
    """How many rows, and by what they are chosen; see `Collection.search` for every field.

    Raises:
        UsageError: a value cannot be meant, or two that do not go together.
    """

    k: int | None = None
    metric: str = "cosine"
    exact: bool = False
    radius: float | None = None
    score_band: tuple[float, float] | None = None
    group_by: str | None = None
    merge: bool = False
    diverse: float | None = None
    align: bool = False

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UsageError(f"Unknown metric {self.metric!r}. Metrics: {', '.join(METRICS)}.")
        if self.k is not None and self.k < 1:
            raise UsageError(f"k says how many hits are wanted, at least 1, not {self.k}.")
        if self.radius is not None and not math.isfinite(self.radius):
            raise UsageError(f"radius is a finite number, not {self.radius}.")
        if self.radius is not None and self.metric == "l2" and self.radius < 0:
            raise UsageError(f"radius is a distance with metric l2, at least 0, not {self.radius:g}.")
        if self.diverse is not None and not 0 <= self.diverse <= 1:
            raise UsageError(f"diverse lies between 0 (variety alone) and 1 (likeness alone), not at {self.diverse}.")
        if self.score_band is not None:
            check_band(self.score_band)
        self._check_ways()

    def _check_ways(self) -> None:
        ways = ("score_band", "group_by", "merge", "diverse", "align")
        chosen = [way for way in ways if getattr(self, way) not in (None, False)]
        if len(chosen) > 1:
            raise UsageError(f"{chosen[0]} and {chosen[1]} do not go together: give one of {', '.join(ways)}.")
        if self.radius is not None and chosen and chosen[0] not in WITH_RADIUS:
            raise UsageError(f"radius and {chosen[0]} do not go together; radius goes with {', '.join(WITH_RADIUS)}.")

    @property
    def is_plain(self) -> bool:
        """Whether the k nearest are asked for, and nothing else, so that an index may find them."""
        ways = (self.radius, self.score_band, self.group_by, self.diverse)
        return all(way is None for way in ways) and not self.merge and not self.align

    @property
    def limit(self) -> int:
        """How many hits at most: k, or by default 10, or all that lie within a radius.

        >>> SearchOptions().limit, SearchOptions(k=3, radius=0.5).limit, SearchOptions(radius=0.5).limit > 10**9
        (10, 3, True)
        """
        if self.k is not None:
            return self.k
        return DEFAULT_K if self.radius is None else 2**62

    @property
    def least(self) -> float:
        """The lowest score that is an answer.

        >>> SearchOptions(radius=0.5).least, SearchOptions(radius=2.0, metric="l2").least, SearchOptions().least
        (0.5, -2.0, -inf)
        """
        if self.radius is None:
            return -math.inf
        return -self.radius if self.metric == "l2" else self.radius


def check_band(band: tuple[float, float]) -> None:
    """Refuse what is no band of scores."""
    if len(band) != 2 or not all(map(math.isfinite, band)) or band[0] > band[1]:
        raise UsageError(f"score_band is the lowest and the highest score, as in 0.6 0.8, not {tuple(band)}.")
