"""Jobs: what a process of a benchmark is given at a time, and what a fit gives back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedx.bench.cases import Case
from embedx.bench.setups import HeadSpec
from embedx.bench.table import Key, Shots
from embedx.shots import sample_shots
from embedx.splits import Positions, Split

NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class Job:
    """Fits of one setup with one number of shots and one seed, on some test parts.

    out: where predictions are kept if all training rows are used.
    """

    case: Case
    layer: int
    pooling: str
    head: HeadSpec
    shots: Shots
    seed: int
    parts: tuple[str, ...]
    out: str

    def key(self, part: str) -> Key:
        """Return what names the fit on a part."""
        case = self.case
        setup = (case.model, self.layer, self.pooling, str(self.head))
        return Key(case.task, case.splits.how, *setup, self.shots, self.seed, part)

    def __str__(self) -> str:
        views = ", ".join(self.case.views(self.layer, self.pooling))
        return f"{self.case.task}, {self.case.model} {views} with {self.head}, shots {self.shots}"


@dataclass(frozen=True)
class Drawn:
    """The rows of one fit: to learn from, to choose by (often none: then folds of the others do that), to be tested."""

    part: Split
    learn: Positions
    choose: Positions

    @property
    def rows(self) -> Positions:
        """All rows that the head may see."""
        return np.concatenate([self.learn, self.choose])

    @property
    def validation(self) -> NDArray[np.bool_] | None:
        """Which of them serve choices only."""
        return np.arange(len(self.rows)) >= len(self.learn) if len(self.choose) else None


@dataclass(frozen=True)
class Fitted:
    """What one fit made: probabilities [M, C] of the test rows, the C that was chosen if any, and how long it took."""

    proba: NDArray[np.float64]
    C: float | None
    seconds: float


def draw(job: Job, part: Split) -> Drawn:
    """Draw the rows of a fit.

    With few shots there is nothing to choose by but the rows that were drawn: a validation part has many more.
    """
    if job.shots == "all":
        return Drawn(part, part.train, part.validation)
    y, groups = job.case.targets.y[part.train], job.case.groups[part.train]
    return Drawn(part, part.train[sample_shots(y, groups, job.shots, job.seed)], NONE)
