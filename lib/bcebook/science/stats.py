"""From one number per seed to an estimate with its interval.

How often a nominal 95 % interval holds the true mean, for normal values (20,000 draws or more each; ours):

    seeds                   2      3      4      5      6     10     20
    percentile bootstrap  50 %   75 %   80 %   84 %   86 %   90 %   93 %
    Student's t          95 % at every n, by construction

So a bootstrap interval over a handful of seeds is too narrow: with 3 seeds it is just [min, max], which misses one time in
four, and no number of resamples mends that. Quote `student_interval` below ten seeds or so, the bootstrap beyond. Neither
knows of anything that all seeds share: the data set, the split, the settings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy.special import stdtrit

RESAMPLES = 20_000  # beyond 6 values; another draw would move an end by about 0.5 % of the interval's width


@dataclass(frozen=True)
class Estimate:
    """Mean over n seeds, its interval [low, high], and std, the seeds' standard deviation (ddof = 1, nan if n = 1); one unit."""

    mean: float
    std: float
    n: int
    low: float
    high: float


def summarise(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean of values (n,), one per seed, with the percentile bootstrap interval: too narrow for few seeds, see above.

    Up to 6 values all n^n resamples are counted, beyond that RESAMPLES are drawn with a fixed seed: equal values, equal
    interval. low is the smallest resampled mean with at least (1 - level)/2 of all at or below it, high its mirror image; nan
    for n = 1. Raises ValueError for no values, NaN or infinity. Source: Efron's percentile interval.
    """
    x = _checked(values, level)
    n = len(x)
    if n <= 6:
        draws = np.array(list(combinations_with_replacement(range(n), n)))    # (multisets, n) which values, each order once
        times = (draws[:, :, None] == np.arange(n)).sum(axis=1)               # (multisets, n) how often each value
        weights = math.factorial(n) / np.prod([[math.factorial(t) for t in row] for row in times], axis=1)  # orders of each
    else:
        draws = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))     # (resamples, n)
        weights = np.ones(RESAMPLES)
    means = x[draws].mean(axis=1)
    order = np.argsort(means)
    means, weights = means[order], weights[order]
    tail = (1 - level) / 2 * weights.sum()
    low = means[np.argmax(np.cumsum(weights) >= tail)]
    high = means[::-1][np.argmax(np.cumsum(weights[::-1]) >= tail)]
    return _estimate(x, low, high)


def student_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """As `summarise`, with Student's interval mean -+ t std / sqrt(n): the one to quote for few seeds.

    Its coverage is exact for normal values, and it is wide: at n = 3 half the width is 2.48 std. Source: Student (1908).
    """
    x = _checked(values, level)
    half = stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan
    return _estimate(x, x.mean() - half, x.mean() + half)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95,
                      interval: Callable[[Sequence[float], float], Estimate] = summarise) -> Estimate:
    """Mean of a - b over the seeds that both hold, with its interval; a and b map seed -> value.

    Runs of one seed share their start and their batches, so what the seed does to both cancels. interval: `summarise` or
    `student_interval`. Raises ValueError if no seed is common. Source: ours.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise ValueError(f"expected a seed in both groups, got {sorted(a)} and {sorted(b)}. Run both with the same seeds.")
    return interval([a[seed] - b[seed] for seed in seeds], level)


def _checked(values: Sequence[float], level: float) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"expected one finite value per seed, got {values}. Leave out runs that diverged, and say so.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}. Pass 0.95 for a 95 % interval.")
    return x


def _estimate(x: np.ndarray, low: float, high: float) -> Estimate:
    if len(x) == 1:
        return Estimate(float(x[0]), math.nan, 1, math.nan, math.nan)
    return Estimate(float(x.mean()), float(x.std(ddof=1)), len(x), float(low), float(high))
