"""Chance: the score that a classifier reaches when its labels are permuted, and a test against it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from embedx.metrics.figures import TAIL, Ints
from embedx.metrics.permutations import Permutations
from embedx.text import plural

PERMUTATIONS = 199  # the lowest p-value is then 1/200 = 0.005
ROUNDING = 1e-9  # scores that differ by less are equal: labellings that differ in class names only must tie

LINEAR = "a linear discriminant"
CUT = "The sizes of groups depend on the label, so groups were cut and exchanged labels with others of the same size."


@dataclass(frozen=True)
class ChanceTest:
    """A permutation test of "the labels can be told from the vectors better than by chance".

    Attributes:
        p_value: the share of labellings, the true one included, that score as well as the true one or better.
        score: the score of the true labels: balanced accuracy, or for multi-label the mean area under the ROC curve.
            None if it is undefined, as the area is where no fold has rows with and without a label.
        chance: the mean score of the permuted labels where it is defined; None if there is none.
        permutations: the number of permuted labellings that were scored.
        lowest: the lowest p-value that the permutations allow.
        moved: what was permuted, in words.
        rows: the number of rows that were used.
        limit: the score that a head must exceed; fewer than 2.5 % of the permuted labellings do. None if there are too
            few of these.
        equal_sizes: whether units were cut to equal numbers of rows, because their sizes depend on the label.
        tested: the classifier that was fitted to every labelling; if it was not, what stayed the same.
        fitted: whether a classifier was fitted to every labelling; if not, the same predictions were compared with all.
    """

    p_value: float
    score: float | None
    chance: float | None
    permutations: int
    lowest: float
    moved: str
    rows: int
    limit: float | None
    equal_sizes: bool = False
    tested: str = LINEAR
    fitted: bool = True

    @property
    def passed(self) -> bool:
        """Whether the true labels score better than chance at 2.5 %."""
        return self.p_value <= TAIL

    def exceeded_by(self, score: float) -> bool:
        """Whether the score of a head, too, is one that permuted labels hardly reach."""
        return self.limit is not None and score > self.limit

    @property
    def possible(self) -> bool:
        """Whether there are enough permutations to show anything."""
        return self.lowest <= TAIL

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def describe(self, figure: str) -> str:
        """Return how the test was made, as a sentence."""
        if self.score is None or self.chance is None:
            return f"Test against chance: {figure} is undefined."
        other = ", not the head itself," if self.tested == LINEAR else ""
        who = "head" if self.fitted else "model"
        limit = "" if self.limit is None else f" The {who} must score above {self.limit:.3f}; under 2.5 % of these do."
        rows = plural(self.rows, "row" if self.fitted else "test row")
        way = f"{self.tested}{other} was fitted to every labelling of {rows}. It has"
        if not self.fitted:
            way = f"the labels of {rows} were permuted, and the predictions stayed the same. These have"
        return (
            f"Test against chance: {way} {figure} {self.score:.3f} with the true labels, and {self.chance:.3f} on "
            f"average with permuted ones.{limit}{' ' + CUT if self.equal_sizes else ''}"
        )

    def __str__(self) -> str:
        """Return the p-value and what it comes from, as text.

        >>> print(ChanceTest(0.005, 0.9, 0.12, 199, 0.005, "whole groups", 400, 0.2))
        p = 0.005 with a linear discriminant, 199 permutations of whole groups; chance reaches 0.120
        >>> print(ChanceTest(0.2, 1.0, 0.5, 9, 0.2, "whole groups", 20, None, tested="a knn head"))
        p = 0.2 with a knn head, 9 other orders of whole groups, so p cannot be below 0.2; chance reaches 0.500
        """
        if not self.permutations:
            return "no label can be exchanged for another one, so chance cannot be measured"
        if self.score is None or self.chance is None:
            return "the figure is undefined in the test, so nothing can be shown"
        way = f"{plural(self.permutations, 'permutation')} of {self.moved}"
        if not self.possible:
            others = plural(self.permutations, "other order")
            way = f"{others} of {self.moved}, so p cannot be below {self.lowest:.2g}"
        return f"p = {self.p_value:.2g} with {self.tested}, {way}; chance reaches {self.chance:.3f}"


def compare_with_chance(
    score: Callable[[Ints], float], permutations: Permutations, number: int, seed: int
) -> ChanceTest:
    """Score the true labels and permuted ones.

    The test is exact: if labels and vectors are independent, p is at most 0.025 in at most 2.5 % of data sets.

    Args:
        score: the rows [N] that the rows take their labels from -> score.
        permutations: the orders of labels that are as likely as the true one.
        number: how many permutations to score; all if there are not more.
        seed: the seed for the permutations.

    Returns:
        The p-value, and what permuted labels reach. An undefined score counts as the highest one of permuted labels,
        and as no evidence of the true ones.
    """
    true = score(permutations.identity)  # nan if it is undefined, and then as low as any
    scores = [score(source) for source in permutations.draw(number, seed)]
    defined = [one for one in scores if not math.isnan(one)]
    reached = sum(not one < true - ROUNDING for one in scores)
    highest = max(defined if math.isnan(true) else [*defined, true], default=math.nan)
    ties = sum(not one < highest - ROUNDING for one in [*scores, true])
    total = len(scores) + 1
    above = int(TAIL * total)  # so many scores may be as high as the one of a head that passes, its own included
    return ChanceTest(
        p_value=(1 + reached) / total,
        score=None if math.isnan(true) else true,
        chance=sum(defined) / len(defined) if defined else None,
        permutations=len(scores),
        lowest=ties / total if permutations.count <= number + 1 else 1 / total,
        moved=permutations.moved,
        rows=len(permutations.labels),
        limit=sorted(defined)[-above] if 0 < above <= len(defined) else None,
    )
