"""Evidence: what held-out rows show about new rows, where rows of one group are alike.

The unit of evidence is the group (a recording, speaker or site): rows of one group are right or wrong together. Bounds
are those of the ratio of two sums over groups, with Student's t and one more group that is wrong throughout. That group
stands for those that were not seen: 20 groups without a mistake do not exclude that one group in ten is wrong.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from embedx.heads.inference import Floats

CONFIDENCE = 0.95  # of a bound: new rows are worse in at most one head in twenty
MIN_GROUPS = 3.0  # fewer groups show nothing; the series of the quantile is exact to 0.001 from here on


def ratio_evidence(sums: Floats, groups: NDArray[np.integer]) -> Floats:
    """Return the evidence [P, 4] on P ratios X / Y, such as correct rows / predicted rows.

    Args:
        sums: [P, 5] of sums over groups: of x, y, x * x, x * y and y * y, where x is at most y.
        groups: [P] number of groups with a y above 0.

    Returns:
        The ratio; then with the group that is wrong throughout: the ratio, its standard error, and the effective
        number of groups (Kish), which is lower where sizes differ.
    """
    x, y, xx, xy, yy = sums.T
    size = yy / y  # of a group, as a row sees it
    ratio = x / (y + size)
    squares = xx - 2 * ratio * xy + ratio**2 * (yy + size**2)
    error = np.sqrt(np.maximum(squares, 0) * (groups + 1) / groups) / (y + size)
    return np.stack([x / y, ratio, error, y**2 / yy], axis=1)


def lower_bounds(evidence: Floats, alpha: float) -> Floats:
    """Return lower bounds [P] of the ratios of `ratio_evidence`, each wrong with a probability of alpha at most."""
    _, ratio, error, groups = evidence.T
    bounds = ratio - student_quantile(1 - alpha, groups) * error
    return np.where(groups >= MIN_GROUPS, bounds, -np.inf)


def least_groups(wanted: float, alpha: float) -> float:
    """Return how many equal groups without a mistake are needed for a lower bound of `wanted`.

    >>> round(least_groups(0.9, 0.05), 1)
    26.1
    """
    groups = MIN_GROUPS
    for _ in range(50):  # converges: the quantile hardly depends on the number
        groups = max(MIN_GROUPS, (1 + float(student_quantile(1 - alpha, np.array([groups]))[0])) / (1 - wanted) - 1)
    return groups


def student_quantile(share: float, freedom: Floats) -> Floats:
    """Return the quantiles of Student's t for degrees of freedom of 3 or more (Abramowitz and Stegun 26.7.5).

    Prediction works without scipy.

    >>> student_quantile(0.95, np.array([3.0, 10.0, 1e9])).round(2).tolist()
    [2.35, 1.81, 1.64]
    """
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    freedom = np.maximum(freedom, MIN_GROUPS)
    return np.asarray(z + sum(term / freedom**power for power, term in enumerate(terms, start=1)))


def mean_is_above_zero(values: Floats, groups: NDArray[np.integer], unseen: float, confidence: float) -> bool:
    """Tell whether the mean of values [N] in groups [N] is above 0 on new rows; one more group counts with `unseen`."""
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) <= MIN_GROUPS:
        return False
    size = (sizes**2).sum() / sizes.sum()
    sums, sizes = np.append(np.bincount(numbers, values), size * unseen), np.append(sizes, size)
    mean, count = sums.sum() / sizes.sum(), len(sizes)
    error = math.sqrt(float(((sums - mean * sizes) ** 2).sum()) * count / (count - 1)) / sizes.sum()
    return bool(mean > student_quantile(confidence, np.array([count - 1.0]))[0] * error)
