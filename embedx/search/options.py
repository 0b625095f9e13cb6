"""SearchOptions: how many rows a search returns, and how they are chosen."""

import math
import sys
from dataclasses import dataclass
from numbers import Integral
from typing import TypedDict

from embedx.errors import UsageError
from embedx.index.exact import check_metric
from embedx.recipe import is_real
from embedx.store.filters import TIMEOUT_S

DEFAULT_K = 10  # hits of a search without k
MAX_SCORE = 3.4028234e38  # of float32
MODES = ("score_band", "group_by", "merge", "diverse", "align")  # ways to choose rows; a search uses one at most
MODES_WITH_RADIUS = ("group_by", "merge", "align")


class SearchKwargs(TypedDict, total=False):
    """The fields of `SearchOptions` as keywords."""

    k: int | None
    where: str | None
    timeout: float
    view: str | None
    metric: str
    exact: bool
    exclude_self: bool | None
    radius: float | None
    score_band: tuple[float, float] | None
    group_by: str | None
    merge: bool
    diverse: float | None
    align: bool


@dataclass(frozen=True)
class SearchOptions:
    """All options of a search; `Collection.search` explains every field.

    Raises:
        UsageError: a value is not allowed, or two options cannot be combined.
    """

    k: int | None = None
    where: str | None = None
    timeout: float = TIMEOUT_S
    view: str | None = None
    metric: str = "cosine"
    exact: bool = False
    exclude_self: bool | None = None
    radius: float | None = None
    score_band: tuple[float, float] | None = None
    group_by: str | None = None
    merge: bool = False
    diverse: float | None = None
    align: bool = False

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if self.k is not None and not (is_real(self.k, Integral) and self.k >= 1):
            raise UsageError(f"k={self.k!r} is not allowed: k is the number of hits, at least 1.")
        if self.radius is not None and not math.isfinite(self.radius):
            raise UsageError(f"radius={self.radius} is not a finite number.")
        if self.radius is not None and self.metric == "l2" and self.radius < 0:
            raise UsageError(f"radius={self.radius:g} is negative: with metric l2 it is a distance, at least 0.")
        if self.diverse is not None and not 0 <= self.diverse <= 1:
            raise UsageError(
                f"diverse={self.diverse} is not allowed: give a number from 0 (only difference) to 1 (only similarity)."
            )
        if self.score_band is not None:
            check_score_band(self.score_band)
        self._check_modes()

    def _modes(self) -> list[str]:
        """Return the modes that are set. `diverse` = 0.0 is set, although 0.0 == False."""
        values = [(mode, getattr(self, mode)) for mode in MODES]
        return [mode for mode, value in values if value is not None and value is not False]

    def _check_modes(self) -> None:
        modes = self._modes()
        if len(modes) > 1:
            raise UsageError(f"{modes[0]} and {modes[1]} cannot be combined: give one of {', '.join(MODES)}.")
        if self.radius is not None and modes and modes[0] not in MODES_WITH_RADIUS:
            allowed = ", ".join(MODES_WITH_RADIUS)
            raise UsageError(f"radius and {modes[0]} cannot be combined; radius can be combined with {allowed}.")

    @property
    def is_plain(self) -> bool:
        """Whether the search is for the k nearest rows and nothing else, so that an index can find them."""
        return self.radius is None and not self._modes()

    @property
    def limit(self) -> int:
        """The maximum number of hits: k; without k 10, or no limit (`sys.maxsize`) with a radius.

        >>> SearchOptions().limit, SearchOptions(k=3, radius=0.5).limit, SearchOptions(radius=0.5).limit > 10**9
        (10, 3, True)
        """
        if self.k is not None:
            return self.k
        return DEFAULT_K if self.radius is None else sys.maxsize

    @property
    def min_score(self) -> float:
        """The lowest score of a hit: the radius, as a score; minus infinity without one.

        >>> [SearchOptions(radius=0.5).min_score, SearchOptions(radius=2.0, metric="l2").min_score]
        [0.5, -2.0]
        >>> SearchOptions().min_score
        -inf
        """
        if self.radius is None:
            return -math.inf
        return as_score(-self.radius if self.metric == "l2" else self.radius)


def as_score(value: float) -> float:
    """Return a limit of scores as a number that float32, which scores have, can hold.

    >>> as_score(0.5), as_score(-1e308)
    (0.5, -3.4028234e+38)
    """
    return max(-MAX_SCORE, min(MAX_SCORE, value))


def check_score_band(band: tuple[float, float]) -> None:
    """Refuse a score band that is not two finite numbers, the lower one first."""
    if len(band) != 2 or not all(map(math.isfinite, band)) or band[0] > band[1]:
        raise UsageError(f"score_band={tuple(band)} is not allowed: give the lowest and the highest score, as 0.6 0.8.")
