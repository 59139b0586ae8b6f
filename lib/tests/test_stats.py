"""Intervals over seeds: exact against full enumeration, and how often they hold the truth."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bcebook.science.stats import (
    RESAMPLES, Estimate, holm, paired_difference, sign_test_p, student_interval, student_p, summarise)

values = st.lists(st.integers(-8, 8), min_size=2, max_size=5)


def interval_by_enumeration(x: list[int], level: Fraction) -> tuple[float, float]:
    """All n^n resamples, in exact arithmetic: the first sums from either end that reach the tail."""
    sums = sorted(map(sum, itertools.product(x, repeat=len(x))))
    at = math.ceil((1 - level) / 2 * len(sums)) - 1
    return sums[at] / len(x), sums[-1 - at] / len(x)


@given(values, st.sampled_from([Fraction(95, 100), Fraction(8, 10), Fraction(1, 2)]))
@settings(deadline=None, derandomize=True, max_examples=80)
def test_bootstrap_is_the_full_enumeration(x, level):
    got = summarise(x, float(level))
    assert (got.low, got.high) == pytest.approx(interval_by_enumeration(x, level), abs=1e-12)


def test_six_values_are_enumerated_too():
    x = [31, -14, 43, 12, -50, 97]
    for level in (Fraction(95, 100), Fraction(7, 10), Fraction(3, 10)):  # at the last two, 20,000 draws differ
        got = summarise(x, float(level))
        assert (got.low, got.high) == pytest.approx(interval_by_enumeration(x, level), abs=1e-12)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.sampled_from([summarise, student_interval]))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_estimate(x, interval):
    got = interval(x)
    assert got.n == len(x)
    assert got.mean == pytest.approx(np.mean(x), abs=1e-9) and got.std == pytest.approx(np.std(x, ddof=1), abs=1e-9)
    assert got.low - 1e-9 <= got.mean <= got.high + 1e-9
    if interval is summarise:
        assert min(x) - 1e-9 <= got.low and got.high <= max(x) + 1e-9


def test_mirror_and_shift():
    x = np.array([0.1, 0.7, 0.4, 0.35])
    got, mirrored, moved = summarise(x), summarise(-x), summarise(2 * x + 1)
    assert (mirrored.low, mirrored.high) == pytest.approx((-got.high, -got.low))
    assert (moved.low, moved.high) == pytest.approx((2 * got.low + 1, 2 * got.high + 1))


def test_the_order_of_seeds_does_not_matter_when_enumerated():
    for x in itertools.permutations([1.0, 2.0, 4.0, 8.0]):
        assert vars(summarise(x)) == pytest.approx(vars(summarise([1, 2, 4, 8])))


def test_three_seeds_give_their_range():
    # The smallest resample, thrice the minimum, has probability 1/27 > 2.5 %: the bootstrap cannot look past the data.
    got = summarise([0.93, 0.95, 0.94])
    assert (got.low, got.high) == pytest.approx((0.93, 0.95))


def test_bootstrap_of_three_seeds_covers_three_in_four_and_student_nineteen_in_twenty():
    x = np.random.default_rng(0).standard_normal((4000, 3))
    inside = lambda interval: np.mean([e.low <= 0 <= e.high for e in map(interval, x)])
    assert inside(summarise) == pytest.approx(0.75, abs=0.03)
    assert inside(student_interval) == pytest.approx(0.95, abs=0.015)


def test_many_seeds_agree_with_the_normal_interval():
    x = np.random.default_rng(1).standard_normal(400)
    got = summarise(x)
    half = 1.96 * x.std(ddof=1) / 20
    assert (got.low, got.high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.1 * half)
    assert summarise(x) == got  # drawn with a fixed seed
    assert RESAMPLES == 20_000


spread_out = st.lists(st.floats(-10, 10), min_size=2, max_size=8).filter(lambda x: np.std(x) > 1e-3)


@given(spread_out, st.sampled_from([0.5, 0.95]))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_student_is_scipys(x, level):
    got = student_interval(x, level)
    want = scipy_stats.t.interval(level, len(x) - 1, loc=np.mean(x), scale=scipy_stats.sem(x))
    assert (got.low, got.high) == pytest.approx(want, rel=1e-9, abs=1e-9)


def test_one_seed_has_no_interval():
    for interval in (summarise, student_interval):
        got = interval([0.9])
        assert (got.mean, got.n) == (0.9, 1) and all(map(math.isnan, (got.std, got.low, got.high)))


def test_equal_values_give_a_point():
    assert summarise([2.0] * 4) == student_interval([2.0] * 4) == Estimate(2.0, 0.0, 4, 2.0, 2.0)


def test_pairs_are_made_by_seed():
    a, b = {2: 0.5, 0: 0.1, 1: 0.9, 7: 100.0}, {1: 0.8, 0: 0.3, 2: 0.4, 5: -100.0}
    assert paired_difference(a, b) == summarise([0.1 - 0.3, 0.9 - 0.8, 0.5 - 0.4])
    assert paired_difference(a, b, 0.8, student_interval) == student_interval([0.1 - 0.3, 0.9 - 0.8, 0.5 - 0.4], 0.8)


def test_a_shared_seed_effect_cancels():
    effect = {seed: 10.0 * seed for seed in range(4)}
    got = paired_difference({s: e + 1 for s, e in effect.items()}, effect)
    assert (got.mean, got.std) == (1.0, 0.0) and summarise(list(effect.values())).std > 10


# ---- p-values -------------------------------------------------------------------------------------------------------

@given(spread_out)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_students_p_is_scipys_and_goes_with_the_interval(x):
    p = student_p(x)
    assert p == pytest.approx(scipy_stats.ttest_1samp(x, 0).pvalue, rel=1e-9, abs=1e-300)
    if abs(p - 0.05) > 1e-9:
        interval = student_interval(x)
        assert (p < 0.05) == (not interval.low <= 0 <= interval.high)


def test_students_p_by_hand():
    # two values m -+ d: t = m / d on one degree of freedom, Cauchy's distribution
    assert student_p([1.0, 3.0]) == pytest.approx(1 - 2 / math.pi * math.atan(2), rel=1e-12)
    assert student_p([-2.0, 2.0]) == 1.0
    assert student_p([0.0, 0.0, 0.0]) == 1.0 and student_p([0.1] * 3) == student_p([-0.1] * 7) == 0.0
    assert math.isnan(student_p([])) and math.isnan(student_p([3.0]))


def closed_testing(p: list[float]) -> list[float]:
    """Holm from its principle: a hypothesis falls once every family with it falls to Bonferroni's test."""
    m = len(p)
    families = [set(f) for size in range(1, m + 1) for f in itertools.combinations(range(m), size)]
    return [max(min(1.0, len(f) * min(p[j] for j in f)) for f in families if i in f) for i in range(m)]


def step_down(p: list[float], level: float) -> set[int]:
    """Which are rejected, as Holm wrote it: from the smallest on, until one is above level / (those left)."""
    rejected = set()
    for i in sorted(range(len(p)), key=p.__getitem__):
        if p[i] > level / (len(p) - len(rejected)):
            break
        rejected.add(i)
    return rejected


@given(st.lists(st.integers(0, 64), min_size=0, max_size=6))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_holm_is_its_principle_and_its_procedure(sixty_fourths):
    p = [i / 64 for i in sixty_fourths]  # exact in binary, ties included
    adjusted = holm(p)
    assert adjusted.tolist() == pytest.approx(closed_testing(p))
    for level in (0.05, 0.2, 0.51):
        assert set(np.flatnonzero(adjusted <= level)) == step_down(p, level)


def test_holm_by_hand_in_every_order():
    known = {0.01: 0.04, 0.02: 0.06, 0.03: 0.06, 0.5: 0.5}
    for p in itertools.permutations(known):
        assert holm(p) == pytest.approx([known[x] for x in p])
        with_gaps = holm([math.nan, *p, math.nan])  # tests that could not be made do not count
        assert with_gaps[1:-1] == pytest.approx([known[x] for x in p]) and np.isnan(with_gaps[[0, -1]]).all()
    assert holm([0.2]) == [0.2] and holm([0.4, 0.6]).tolist() == [0.8, 0.8] and holm([]).shape == (0,)


def test_the_sign_test_is_scipys_and_by_hand():
    for wins, losses in itertools.product(range(9), repeat=2):
        if wins + losses:
            want = scipy_stats.binomtest(wins, wins + losses).pvalue
            assert sign_test_p(wins, losses) == sign_test_p(losses, wins) == pytest.approx(want, rel=1e-12)
    assert sign_test_p(4, 0) == 2 / 16 and sign_test_p(5, 1) == 2 * 7 / 64 and sign_test_p(np.int64(2), 2) == 1.0
    assert sign_test_p(3000, 0) == 0.0 < sign_test_p(1000, 0) and sign_test_p(2000, 2000) == 1.0  # no overflow
    assert math.isnan(sign_test_p(0, 0))


@pytest.mark.parametrize("call, named", [
    (lambda: summarise([]), "one finite value per seed"),
    (lambda: summarise([1.0, math.nan]), "finite value per seed, got .*nan"),
    (lambda: student_interval([1.0, math.inf]), "finite value per seed, got .*inf"),
    (lambda: summarise([[1.0, 2.0]]), "one finite value per seed"),
    (lambda: summarise([1.0, 2.0], 95), "level must lie between 0 and 1, got 95"),
    (lambda: student_interval([1.0, 2.0], 0.0), "level must lie"),
    (lambda: paired_difference({0: 1.0}, {1: 1.0}), r"a seed in both groups, got \[0\] and \[1\]"),
    (lambda: paired_difference({}, {1: 1.0}), "a seed in both groups"),
    (lambda: student_p([1.0, math.nan]), "one finite value per seed"),
    (lambda: holm([0.5, 1.1]), "p-values, each from 0 to 1 or nan"), (lambda: holm([-0.1]), "p-values"),
    (lambda: sign_test_p(1.0, 2), "wins is 1.0; expected a whole number"),
    (lambda: sign_test_p(1, -2), "losses is -2"),
])
def test_errors_name_what_is_wrong(call, named):
    with pytest.raises(ValueError, match=named):
        call()
