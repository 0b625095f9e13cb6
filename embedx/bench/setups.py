"""Setups: results of the same task -> the values of each setup by metric and fold."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from embedx.bench.results import EVERY_LAYER, FINETUNED, ZERO_SHOT, Result
from embedx.text import natural_key

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "map", "d_prime", "log_loss", "ece")
LOWER_IS_BETTER = ("log_loss", "ece")
UNBOUNDED = ("log_loss", "d_prime")  # the other metrics lie between 0 and 1
SHARES = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_auc",
    "map",
)  # vary at least like a share of the test rows

Unit = Literal["fold", "seed"]
Values = Mapping[str, Mapping[str, float]]  # metric -> fold (or seed) -> value


class Setup(NamedTuple):
    """What is compared: vectors and a head, or a model and how it was fine-tuned."""

    model: str
    layer: int
    pooling: str
    head: str

    @classmethod
    def of(cls, row: Result) -> "Setup":
        """Return the setup of a result."""
        return cls(row.model, row.layer, row.pooling, row.head)

    @property
    def finetuned(self) -> bool:
        """Whether the model itself was trained."""
        return self.layer == FINETUNED

    @property
    def zero_shot(self) -> bool:
        """Whether nothing was trained: the classes are known by their names."""
        return self.head.startswith(ZERO_SHOT)

    @property
    def view(self) -> str:
        """The name of the vectors of the model."""
        if self.finetuned:
            return "fine-tuned"
        return f"{'all layers' if self.layer == EVERY_LAYER else f'L{self.layer}'}.{self.pooling}"


def goodness(value: float, metric: str) -> float:
    """Return a value with its sign changed where lower is better, so that higher is always better."""
    return -value if metric in LOWER_IS_BETTER else value


def has_metric(rows: Iterable[Result], metric: str) -> bool:
    """Tell whether a result has a metric."""
    return any(getattr(row, metric) is not None for row in rows)


def values_by_setup(rows: Iterable[Result], unit: Unit) -> dict[Setup, Values]:
    """Return the values of every setup by metric and unit."""
    by_setup: dict[Setup, list[Result]] = defaultdict(list)
    for row in rows:
        by_setup[Setup.of(row)].append(row)
    return {setup: average(some, unit) for setup, some in by_setup.items()}


def unit_rows(rows: Iterable[Result], unit: Unit) -> dict[str, int]:
    """Return the number of test rows of each fold or seed."""
    return {str(getattr(row, unit)): max(row.rows_test, 1) for row in rows}


def average(rows: Sequence[Result], unit: Unit) -> dict[str, dict[str, float]]:
    """Return the values of one setup by metric and unit; the seeds of a fold are averaged."""
    values = {}
    for metric in METRICS:
        by_unit: dict[str, list[float]] = defaultdict(list)
        for row in rows:
            if getattr(row, metric) is not None:
                by_unit[str(getattr(row, unit))].append(getattr(row, metric))
        if by_unit:
            values[metric] = {name: fmean(by_unit[name]) for name in sorted(by_unit, key=natural_key)}
    return values


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there is none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
