"""From one number per seed to an estimate with its interval, or to a p-value.

How often a nominal 95 % interval holds the true mean, for normal values (20,000 draws or more each; ours):

    seeds                   2      3      4      5      6     10     20
    percentile bootstrap  50 %   75 %   80 %   84 %   86 %   90 %   93 %
    Student's t          95 % at every n, by construction

So a bootstrap interval over a handful of seeds is too narrow: with 3 seeds it is just [min, max], which misses one
time in four, and no number of resamples mends that. Quote `student_interval` below ten seeds or so, the bootstrap
beyond. Neither knows of anything that all seeds share: the data set, the split, the settings.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy.special import stdtr, stdtrit

RESAMPLES = 20_000  # beyond 6 values; another draw would move an end by about 0.5 % of the interval's width


@dataclass(frozen=True)
class Estimate:
    """Mean of n seeds, its interval [low, high], and std, the seeds' deviation (ddof = 1, nan if n = 1); one unit."""

    mean: float
    std: float
    n: int
    low: float
    high: float


def summarise(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean of values (n,), one per seed, with the percentile bootstrap interval: too narrow for few seeds, see above.

    Up to 6 values all n^n resamples are counted, beyond that RESAMPLES are drawn with a fixed seed: equal values,
    equal interval. low is the smallest resampled mean with at least (1 - level)/2 of all at or below it, high its
    mirror image; nan for n = 1. Raises ValueError for no values, NaN or infinity. Source: Efron's percentile interval.

    >>> summarise([1.0, 2.0, 3.0])
    Estimate(mean=2.0, std=1.0, n=3, low=1.0, high=3.0)
    """
    x = _checked(values, level)
    n = len(x)
    if n <= 6:
        draws = np.array(list(combinations_with_replacement(range(n), n)))  # (multisets, n) which values
        times = (draws[:, :, None] == np.arange(n)).sum(axis=1)  # (multisets, n) how often each value
        repeats = np.prod([[math.factorial(t) for t in row] for row in times], axis=1)
        weights = math.factorial(n) / repeats  # (multisets,) orders of each
    else:
        draws = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))  # (resamples, n)
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

    Its coverage is exact for normal values, and it is wide: at n = 3 half the width is 2.48 std. Source: Student
    (1908).

    >>> e = student_interval([1.0, 2.0, 3.0])
    >>> round(e.low, 2), round(e.high, 2)
    (-0.48, 4.48)
    """
    x = _checked(values, level)
    half = stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan
    return _estimate(x, x.mean() - half, x.mean() + half)


def paired_difference(
    a: Mapping[int, float],
    b: Mapping[int, float],
    level: float = 0.95,
    interval: Callable[[Sequence[float], float], Estimate] = summarise,
) -> Estimate:
    """Mean of a - b over the seeds that both hold, with its interval; a and b map seed -> value.

    Runs of one seed share their start and their batches, so what the seed does to both cancels. interval: `summarise`
    or `student_interval`. Raises ValueError if no seed is common. Source: ours.

    >>> paired_difference({0: 5.0, 1: 7.0, 2: 0.0}, {0: 4.0, 1: 4.0}).mean
    2.0
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise ValueError(
            f"expected a seed in both groups, got {sorted(a)} and {sorted(b)}. Run both with the same seeds."
        )
    return interval([a[seed] - b[seed] for seed in seeds], level)


def student_p(values: Sequence[float]) -> float:
    """Two-sided p-value of "the true mean is 0" for values (n,), one per seed or per pair: Student's t with n - 1
    degrees.

    nan for n < 2. Values that all agree: 1.0 if they are 0, else 0.0 (they leave no spread to doubt the mean by). It
    is below 1 - level exactly where `student_interval` leaves 0 out. Raises ValueError for NaN or infinity.
    Source: Student (1908).

    >>> round(student_p([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    x = np.asarray(values, dtype=np.float64)
    if x.shape == (0,):
        return math.nan
    x = _checked(x, 0.95)
    if len(x) < 2:
        return math.nan
    if np.ptp(x) == 0:  # asked of the values: their std may be a rounding error above 0
        return float(x[0] == 0)
    return float(2 * stdtr(len(x) - 1, -abs(x.mean()) / (x.std(ddof=1) / math.sqrt(len(x)))))


def equivalence_p(values: Sequence[float], margin: float) -> float:
    """p-value of "the true mean is outside +-margin" for values (n,), one per seed: the larger p of the two one-sided
    tests, Student's t with n - 1 degrees. nan for n < 2. Raises ValueError for NaN, infinity or a margin that is not
    positive. Source: Schuirmann (1987).

    >>> round(equivalence_p([0.1, -0.1, 0.05], 0.5), 4)
    0.0076
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin}; expected a positive number, in the unit of the values.")
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return math.nan
    x = _checked(x, 0.95)
    distance = margin - abs(float(x.mean()))
    error = float(x.std(ddof=1)) / math.sqrt(len(x))
    return float(distance <= 0) if error == 0 else float(stdtr(len(x) - 1, -distance / error))


def welch(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[Estimate, float]:
    """Mean of a minus mean of b, of independent values (n,) and (m,) such as seeds of their own, with Welch's interval,
    and the two-sided p of "no difference". The estimate's n is the smaller of the two; nan for what one value leaves
    open. Raises ValueError for NaN, infinity or no values. Source: Welch (1947), by SciPy.

    >>> estimate, p = welch([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
    >>> estimate.mean, round(estimate.low, 2), round(p, 3)
    (2.0, -0.27, 0.07)
    """
    x, y = _checked(a, level), _checked(b, level)
    mean, n = float(x.mean() - y.mean()), min(len(x), len(y))
    if n < 2:
        return Estimate(mean, math.nan, 1, math.nan, math.nan), math.nan
    from scipy.stats import ttest_ind  # slow to import, and most pages do without

    found = ttest_ind(x, y, equal_var=False)
    low, high = found.confidence_interval(level)
    return Estimate(mean, float(np.hypot(x.std(ddof=1), y.std(ddof=1))), n, float(low), float(high)), float(
        found.pvalue
    )


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values (m,) of a family of m tests, in the order given: the i-th smallest becomes (m - i + 1) p, made
    monotone and at most 1. Rejecting those of at most a keeps the chance of ANY false rejection at a, however the
    tests depend on each other. nan (no test was possible) stays nan and does not count in m. Raises ValueError for
    values outside [0, 1]. Source: Holm (1979).

    >>> holm([0.01, 0.04, float("nan"), 0.03]).round(4).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all(np.isnan(p) | ((p >= 0) & (p <= 1))):
        raise ValueError(f"expected p-values, each from 0 to 1 or nan, got {p_values}.")
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.sum(~np.isnan(p))]  # (m,) smallest first; nan is sorted last
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def sign_test_p(wins: int, losses: int) -> float:
    """Two-sided exact p-value of "a win is as likely as a loss": twice the smaller binomial tail, at most 1.

    wins, losses: whole numbers of independent pairs decided either way, ties left out. nan if none was decided. No
    shape of distribution is assumed; with n pairs it cannot fall below 2^(1-n). Source: Arbuthnot (1710).

    >>> sign_test_p(5, 0), sign_test_p(3, 3)
    (0.0625, 1.0)
    """
    for name, count in (("wins", wins), ("losses", losses)):
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 0:
            raise ValueError(f"{name} is {count!r}; expected a whole number of 0 or more.")
    n, fewer = int(wins) + int(losses), int(min(wins, losses))
    if n == 0:
        return math.nan
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n)


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
