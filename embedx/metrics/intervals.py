"""Intervals: how much a figure would change with other recordings.

A 95 % interval holds the value that the figure would have for very many groups of the same kind. Groups are
independent, and the rows of one group are not. Every figure is therefore computed again without each group, and with a
little more weight on each group; more than 100 groups are joined to 100 blocks at random.

- The variance is that of the jackknife: the sum of the squared changes without each group. For a mean it has the
  correction for few groups of Bell and McCaffrey (Bias reduction in standard errors for linear regression with
  multi-stage samples, Survey Methodology 28, 2002).
- The figures of few groups are too high or too low on average (F1, average precision). The second derivatives by the
  weights give this bias (infinitesimal jackknife, Efron 1982), and it is subtracted from the centre of the interval.
- Student's t replaces the normal quantile. One large group and many small ones give few degrees of freedom, and the
  fewer, the more alike the rows of a group are.
- Shares, such as the accuracy, have an interval on the logit scale: near 1 they vary less upwards than downwards, and
  the interval stays within 0 and 1.
- A few bad groups can lower ROC AUC and average precision, or raise the log loss, by much, and samples without such a
  group look both better and less variable than they are. The end of their intervals on the side to which the changes
  are skewed is therefore further away (Hall, On the removal of skewness by transformation, Journal of the Royal
  Statistical Society B 54, 1992). That of an area or a precision is not moved beyond the score interval of as many rows
  as there are groups, which holds if every group is all right or all wrong. The other end stays, because the skewness
  in few groups is uncertain.
- Without any variance, for example if all rows are right, the data does not say how alike the rows of a group are. Then
  each group counts as one row in the score interval of Wilson (1927).

Intervals leave out what is the same for all rows that were scored: the choice of the training rows, the random numbers
of the head, and the choice of the data set. They cannot know of groups of a kind that is not among the rows.
"""

import math
from statistics import NormalDist

import numpy as np

from embedx.metrics.figures import TAIL, Counts, Figure, Floats, Ints

Ends = tuple[Floats, Floats]

NORMAL = NormalDist().inv_cdf(1 - TAIL)
MAX_BLOCKS = 100  # the standard error is then known to 7 %, and Student's t is 1.984 instead of 1.960
STEP = 2.0**-6  # additional weight of a group: small, and its sums with whole numbers are exact in float32
NO_VARIANCE = 1e-14  # a standard error below 1e-7 is rounding
MAX_LOSS = -math.log(np.finfo(np.float64).eps)  # of one row, from `embedx.metrics.classification.off_zero`
TINY = np.finfo(np.float64).tiny


def join_groups(groups: Ints, most: int, seed: int) -> Ints:
    """Return the block [N] of the group of each row, from 0: its group, or one of `most` random blocks of groups.

    >>> join_groups(np.array([0, 2, 1]), 3, 0).tolist(), np.bincount(join_groups(np.arange(6), 2, 0)).tolist()
    ([0, 2, 1], [3, 3])
    """
    number = int(groups.max(initial=-1)) + 1
    if number <= most:
        return groups
    return np.random.default_rng(seed).permutation(np.arange(number) % most)[groups]


def weigh_blocks(blocks: int) -> Counts:
    """Return weights [1 + 2 B, B]: all blocks once; without each block; with a little more of each block.

    >>> weigh_blocks(2).tolist()
    [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.015625, 1.0], [1.0, 1.015625]]
    """
    if blocks < 2:
        return np.ones((1, blocks), np.float32)
    each = np.eye(blocks, dtype=np.float32)
    return np.concatenate([np.ones((1, blocks), np.float32), 1 - each, 1 + np.float32(STEP) * each])


def make_figures(values: Floats, low: Floats, high: Floats) -> list[Figure | None]:
    """Return M figures from their values [M] and ends [M]; None if undefined; an interval holds its value."""
    return [
        None if not math.isfinite(value) else Figure(value, min(ends[0], value), max(ends[1], value))
        for value, *ends in zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    ]


def find_variances(values: Floats, shares: Floats) -> Floats:
    """Return the variances [M] of figures from their values [1 + 2 B, M] and the shares [B, M] of the blocks."""
    blocks = len(shares)
    without = values[0] - values[1 : 1 + blocks]
    return np.asarray(np.nansum(without**2 * (1 - shares), axis=0), np.float64)


def find_bias(values: Floats) -> Floats:
    """Return how much too high figures [M] of few blocks are on average, from their values [1 + 2 B, M]."""
    more = values[1 + len(values) // 2 :]
    return np.asarray(np.nansum(more - values[0], axis=0) / STEP**2, np.float64)


def find_freedom(shares: Floats, variance: Floats, independent: Floats) -> Floats:
    """Return the degrees of freedom [M] of variances, by Satterthwaite's formula.

    Args:
        shares: [B, M] of the blocks.
        variance: [M] of the figures.
        independent: [M], what it would be with independent rows. It is the sum over blocks of parts that are in
            proportion to the shares; the parts of the rest are in proportion to their squares.

    >>> shares = np.array([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1]]).T
    >>> [round(float(find_freedom(shares, np.ones(1), np.full(1, share))[0]), 2) for share in (0, 1)]
    [1.0, 2.33]
    """
    within = np.minimum(variance, independent)
    parts = (variance - within) * shares**2 / (shares**2).sum(axis=0) + within * shares
    freedom = parts.sum(axis=0) ** 2 / np.maximum((parts**2).sum(axis=0), TINY) - 1
    return np.asarray(np.maximum(freedom, 1.0), np.float64)


def find_quantiles(freedom: Floats) -> Floats:
    """Return Student's t [M] for degrees of freedom [M].

    >>> find_quantiles(np.array([9.0, 99.0])).round(3).tolist()
    [2.262, 1.984]
    """
    from scipy.special import stdtrit

    return np.asarray(stdtrit(freedom, 1 - TAIL), np.float64)


def find_skewness(values: Floats, blocks: int) -> Floats:
    """Return the skewness [M] of figures, from their changes without each block; 0 if none changes.

    It has the factor of Fisher and Pearson for few blocks, in which rare ones are mostly absent.

    >>> find_skewness(np.array([[2.0], [1.0], [2.5], [2.5], [1.02], [1.01], [1.01]]), 3).round(2).tolist()
    [1.0]
    """
    without = np.nan_to_num(values[0] - values[1 : 1 + blocks])
    centred = without - without.mean(axis=0)
    third, second = (centred**3).sum(axis=0), (centred**2).sum(axis=0)
    factor = math.sqrt(blocks * (blocks - 1)) / max(blocks - 2, 1)
    skewness = factor * third / np.maximum(second, NO_VARIANCE) ** 1.5
    return np.asarray(np.where(second > NO_VARIANCE, skewness, 0), np.float64)


def lengthen(quantile: Floats, skewness: Floats | float) -> Floats:
    """Return quantiles [M] of a studentised figure on the side to which it has the `skewness` [M], by Hall (1992).

    >>> lengthen(np.full(3, 2.0), np.array([-0.3, 1e-9, 0.3])).round(2).tolist()
    [2.0, 2.0, 2.73]
    """
    skewness = np.maximum(skewness, 1e-6)  # no difference, and no division by 0
    longer = 3 / skewness * (1 - np.cbrt(1 - skewness * (quantile + skewness / 6)))
    return np.asarray(np.maximum(quantile, longer), np.float64)


def share_interval(
    values: Floats,
    shares: Floats,
    variance: Floats,
    freedom: Floats,
    least: Floats | float = 0.0,
    skewness: Floats | float = 0.0,
) -> Ends:
    """Return the ends [M] of intervals of figures between 0 and 1.

    Args:
        values: [1 + 2 B, M] with the weights of `weigh_blocks`.
        shares: [B, M] of the blocks in the rows of each figure.
        variance: [M] of the figures.
        freedom: [M] degrees of freedom of the variances.
        least: [M] lower limits of the variances, which are known exactly.
        skewness: [M] of the figures, beyond that of the logit scale; default 0.

    >>> low, high = share_interval(np.ones((5, 1)), np.full((2, 1), 0.5), np.zeros(1), np.ones(1))
    >>> low.round(4).tolist(), high.tolist()
    ([0.3424], [1.0])
    """
    value = np.nan_to_num(values[0], nan=0.5)
    centre = value - find_bias(values)
    inside = (value > 0) & (value < 1) & (centre > 0) & (centre < 1)
    known = inside & (variance > NO_VARIANCE)
    centre, error, limit = np.where(known, centre, 0.5), np.sqrt(variance), NORMAL * np.sqrt(least)
    quantile = find_quantiles(freedom)
    equal = logit_interval(centre, np.maximum(quantile * error, limit))
    low, high = (
        logit_interval(centre, np.maximum(lengthen(quantile, side * skewness) * error, limit))[max(side, 0)]
        for side in (-1, 1)
    )
    rough = score_interval(value, 1 / (shares**2).sum(axis=0))
    low = np.minimum(equal[0], np.maximum(low, rough[0]))
    high = np.maximum(equal[1], np.minimum(high, rough[1]))
    return np.where(known, low, rough[0]), np.where(known, high, rough[1])


def loss_interval(value: Floats, halves: Ends, losses: Floats) -> Ends:
    """Return the ends of the interval of a mean loss, on a logarithmic scale that has the skewness of the losses.

    Args:
        value: [1], the mean.
        halves: [1] each, its distance to the ends on the ordinary scale.
        losses: [N], of the rows.
    """
    centred = losses - losses.mean()
    second, third = float((centred**2).mean()), float((centred**3).mean())
    scale = value if third <= 0 else np.minimum(value, second**2 / third)
    below, above = (half / np.maximum(scale, TINY) for half in halves)
    low = value - scale * (1 - np.exp(-below))
    return np.maximum(low, 0), np.minimum(value + scale * np.expm1(above.clip(max=100)), MAX_LOSS)


def distance_interval(low: Floats, high: Floats, gaps: Floats, shares: Floats) -> Ends:
    """Return the interval of a mean distance, the calibration error, in very many rows from that in as many rows.

    Gaps that are 0 in truth are not in few rows, so their sum without sign is too high. A gap d with standard error s
    has a mean distance of s (x (2 P(x) - 1) + 2 p(x)) with x = d / s and the normal distribution P. All true gaps are
    taken to be the same multiple of the measured ones, from which s has been removed.

    Args:
        low, high: [1], ends for the mean of the sum in as many rows.
        gaps: [1 + 2 B, bins] with the weights of `weigh_blocks`.
        shares: [B, 1] of the blocks.
    """
    from scipy.special import ndtr

    error = np.sqrt(find_variances(gaps, shares))
    gap = np.sqrt(np.maximum(gaps[0] ** 2 - error**2, error**2 / 16))  # not 0, so that the sum can be any number
    total = float(gap.sum())
    if total == 0:
        return low, high
    multiples = np.linspace(0, float(high[0]) / total, 200)[:, None]
    x = multiples * gap / np.maximum(error, TINY)
    density = np.exp(-(np.minimum(x, 40) ** 2) / 2) / math.sqrt(2 * math.pi)
    seen = (multiples * gap * (2 * ndtr(x) - 1) + 2 * error * density).sum(axis=1)
    true = multiples[:, 0] * total
    return np.interp(low, seen, true), np.interp(high, seen, true)


def difference_interval(differences: Floats, groups: Ints) -> tuple[float, float]:
    """Return the 95 % interval of the mean of differences [N] between -1 and 1, over the groups [N] of their rows."""
    blocks = join_groups(np.unique(groups, return_inverse=True)[1], MAX_BLOCKS, 0)
    sizes = np.bincount(blocks)
    if len(sizes) < 2:
        return -1.0, 1.0
    counts = weigh_blocks(len(sizes))
    means = (counts @ np.bincount(blocks, differences) / (counts @ sizes))[:, None]
    shares = (sizes / sizes.sum())[:, None]
    variance = find_variances(means, shares)
    quantile = find_quantiles(find_freedom(shares, variance, np.full(1, differences.var() / len(differences))))
    none = score_interval(np.zeros(1), 1 / (shares**2).sum(axis=0))[1]
    half = np.where(variance > NO_VARIANCE, quantile * np.sqrt(variance), none)
    low, high = (float(end.clip(-1, 1)[0]) for end in (means[0] - half, means[0] + half))
    return low, high


def score_interval(value: Floats, rows: Floats) -> Ends:
    """Return the ends [M] of Wilson's intervals of shares [M] of independent rows.

    >>> [round(float(end), 3) for end in score_interval(np.float64(1), np.float64(10))]
    [0.722, 1.0]
    """
    amount = NORMAL**2 / rows
    centre = (value + amount / 2) / (1 + amount)
    half = np.sqrt(amount * value * (1 - value) + amount**2 / 4) / (1 + amount)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def logit_interval(value: Floats, half: Floats) -> Ends:
    """Return the ends [M] of intervals that are symmetric on the logit scale; `half` [M] is their half on this one.

    >>> [round(float(end), 3) for end in logit_interval(np.float64(0.9), np.float64(0.1))]
    [0.748, 0.965]
    """
    logit, width = np.log(value / (1 - value)), half / (value * (1 - value))
    low, high = (1 / (1 + np.exp(-end.clip(-500, 500))) for end in (logit - width, logit + width))
    return low, high
