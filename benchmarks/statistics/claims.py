"""A claim about the statistics of embedx, with the figure that a simulation gives for it."""

from dataclasses import dataclass

from scipy.stats import binom

# Modules with `simulate(scale: float, seed: int) -> list[Claim]`; the slowest first.
PARTS: tuple[str, ...] = (
    "calibration",
    "thresholds",
    "permutation",
    "leaderboard",
    "ranking",
    "near_duplicates",
    "suspects",
    "intervals",
)
MARGIN = 3  # standard errors: about one simulation in 700 is further from the truth
CHANCE = 1 / 700  # the same, as a probability


@dataclass(frozen=True)
class Claim:
    """A figure of a simulation, and the limits that it must keep.

    Attributes:
        text: what was simulated, and what was counted.
        measured: the figure; a share of the trials unless `error` is given.
        trials: the number of independent trials that it comes from.
        low: the lowest value that keeps the claim; None without a lower limit.
        high: the highest value that keeps the claim; None without an upper limit.
        error: the standard error of the figure; computed for a share if None.
    """

    text: str
    measured: float
    trials: int
    low: float | None = None
    high: float | None = None
    error: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the figure is within its limits.

        >>> Claim("a", 0.95, 100, low=0.93, high=0.97).holds, Claim("b", 0.02, 100, high=0.01).holds
        (True, False)
        """
        return self._is_within(0)

    @property
    def plausible(self) -> bool:
        """Whether a figure within the limits, and chance in so few trials, explain what was measured.

        >>> Claim("a", 0.02, 100, high=0.01).plausible, Claim("b", 0.5, 100, high=0.01).plausible
        (True, False)
        """
        if self.error is not None:
            return self._is_within(MARGIN * self.error)
        count = round(self.measured * self.trials)
        too_few = self.low is not None and binom.cdf(count, self.trials, self.low) < CHANCE
        too_many = self.high is not None and binom.sf(count - 1, self.trials, self.high) < CHANCE
        return not too_few and not too_many

    def _is_within(self, margin: float) -> bool:
        low = float("-inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        return low - margin <= self.measured <= high + margin

    @property
    def wanted(self) -> str:
        """The limits in words.

        >>> Claim("a", 0.95, 100, low=0.93, high=0.97).wanted, Claim("b", 0.02, 100, high=0.01).wanted
        ('0.93 to 0.97', 'at most 0.01')
        """
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"

    def row(self) -> str:
        """Return the row of the claim in a Markdown table."""
        verdict = "yes" if self.holds else "**NO**"
        return f"| {self.text} | {self.wanted} | {self.measured:.4g} | {self.trials} | {verdict} |"
