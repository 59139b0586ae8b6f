"""The closed form against a plain minimisation, high-precision arithmetic and the paper's equations."""

import warnings
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcebook.science import theory

C_CIFAR10 = 5e-4 * np.sqrt(12.8)  # batch 128, lambdas 5e-4, 10 classes


def scores(solution):
    """Positive scores (K,), negative scores (K(K-1),) of a Solution."""
    Z = solution.W @ solution.H
    return np.diagonal(Z), Z[~np.eye(len(Z), dtype=bool)]


def reduced_objective(loss, k, c, lambda_b, s, o, b):
    """f of the symmetric family, straight from the definition of the losses and of the nuclear norm (an oracle)."""
    own, other = s + o - b, -s / (k - 1) + o - b
    if loss == "ce":
        value = np.logaddexp(0, np.log(k - 1) + other - own)
    else:
        value = np.logaddexp(0, -own) + (k - 1) * np.logaddexp(0, other)
    return value + k * c * (abs(s) + abs(o)) + k * lambda_b * b**2 / 2


# ---- the closed form against a full minimisation --------------------------------------------------------------------

def random_settings(count=66):
    """(loss, K, d, n, lambda_w, lambda_h, lambda_b): both losses, both sides of both transitions, unequal decays."""
    rng, drawn = np.random.default_rng(7), []
    while len(drawn) < count:
        k, n = int(rng.integers(2, 9)), int(rng.integers(1, 40))
        c = np.exp(rng.uniform(np.log(1e-3), np.log(3 / k)))
        ratio = np.exp(rng.uniform(-2, 2))
        lambda_w, lambda_h = c / np.sqrt(n) * ratio, c / np.sqrt(n) / ratio
        loss = "ce" if len(drawn) % 3 == 0 else "bce"
        critical = theory.critical_lambda_b("bce", k, c)
        critical = critical if np.isfinite(critical) else 0.1
        lambda_b = 0.0 if rng.random() < 0.15 else critical * np.exp(rng.uniform(-3, 3))
        drawn.append((loss, k, k + int(rng.integers(0, 3)), n, lambda_w, lambda_h, lambda_b))
    return drawn


def test_minimum_is_what_a_full_minimisation_finds():
    kinds = {"saturated": 0, "free": 0, "no etf": 0, "ce": 0}
    for loss, k, d, n, lambda_w, lambda_h, lambda_b in random_settings():
        found = theory.solve(loss, k, d, n, lambda_w, lambda_h, lambda_b, restarts=2)
        expected = theory.minimum(loss, k, np.sqrt(n * lambda_w * lambda_h), lambda_b)
        positive, negative = scores(found)
        assert found.gradient_norm < 1e-10
        assert found.agreement == 2  # d >= K has no local minimum that is not global
        assert found.objective == pytest.approx(expected.objective, abs=1e-9)
        np.testing.assert_allclose(positive, expected.positive, atol=1e-6)
        np.testing.assert_allclose(negative, expected.negative, atol=1e-6)
        np.testing.assert_allclose(found.b, expected.bias, atol=1e-6)
        saturated = "saturated" if expected.offset < 0 else "free"
        kinds["ce" if loss == "ce" else saturated] += 1
        kinds["no etf"] += expected.positive - expected.negative < 1e-9
    assert min(kinds.values()) >= 5 and kinds["saturated"] >= 12 and kinds["free"] >= 12, kinds


@pytest.mark.parametrize("lambda_b, positive, negative, bias, offset", [  # paper.md, lead 1
    (0.5, 4.2359, -5.6259, 0.0036, -4.6397), (5e-3, 4.5901, -5.2717, 0.3578, -4.2855),
    (5e-4, 7.8100, -2.0517, 3.5777, -1.0656), (5e-5, 9.2867, -1.0319, 5.1576, 0), (0, 9.3934, -1.0437, 5.2807, 0)])
def test_the_table_of_lead_1(lambda_b, positive, negative, bias, offset):
    m = theory.minimum("bce", 10, C_CIFAR10, lambda_b)
    assert (m.positive, m.negative, m.bias, m.offset) == pytest.approx((positive, negative, bias, offset), abs=1e-4)
    assert m.holds_for == ("d >= K" if offset else "d >= K-1")


def test_the_ce_row_of_lead_1():
    for lambda_b in (0, 1e-3, 10):
        m = theory.minimum("ce", 10, C_CIFAR10, lambda_b)
        assert (m.positive, m.negative, m.bias, m.offset) == pytest.approx((5.6790, -0.6310, 0, 0), abs=1e-4)
        assert m.holds_for == "d >= K-1"


@pytest.mark.parametrize("loss", ["ce", "bce"])
@pytest.mark.parametrize("k, c, lambda_b", [
    (2, 0.05, 0.3), (3, 0.2, 0.0), (4, 0.02, 5.0), (7, 0.01, 1e-4), (10, C_CIFAR10, 0.5), (6, 0.2, 5.0),
    (40, 2e-3, 1e-3)])
def test_the_gradient_vanishes_at_the_assembled_minimum(loss, k, c, lambda_b):
    m = theory.minimum(loss, k, c, lambda_b)
    n, lambda_w = 30, 3e-3
    lambda_h = c**2 / n / lambda_w
    W, H, b = theory.assemble(m, k, k + 1, lambda_w, lambda_h, n)
    problem = (np.full(k, n), lambda_w, lambda_h, lambda_b)
    assert theory.objective(loss, W, H, b, *problem) == pytest.approx(m.objective, abs=1e-12)
    assert max(np.abs(part).max() for part in theory.gradient(loss, W, H, b, *problem)) < 1e-9
    np.testing.assert_allclose(lambda_w * np.sum(W**2), n * lambda_h * np.sum(H**2), atol=1e-12)
    assert np.linalg.matrix_rank(W @ H, tol=1e-9) == (m.min_dim if m.positive > m.negative or m.offset < 0 else 0)
    rng = np.random.default_rng(k)
    for scale in np.repeat([1e-3, 1e-2, 0.1, 1.0], 10):  # and it is no saddle
        near = [part + scale * rng.normal(size=part.shape) for part in (W, H, b)]
        assert theory.objective(loss, *near, *problem) > m.objective - 1e-12


@pytest.mark.parametrize("loss, k, lambda_b", [("bce", 5, 1.0), ("bce", 6, 1e-4), ("ce", 5, 1e-2)])
def test_twenty_restarts_find_nothing_lower(loss, k, lambda_b):
    found = theory.solve(loss, k, k, 20, 2e-3, 1e-3, lambda_b, restarts=20, seed=5)
    assert found.objective > theory.minimum(loss, k, np.sqrt(20 * 2e-6), lambda_b).objective - 1e-12
    assert found.agreement == 20


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(["ce", "bce"]), st.integers(2, 100_000), st.floats(-8, 0.5), st.floats(-8, 1), st.floats(-1, 1),
       st.floats(-1, 1), st.floats(-1, 1))
def test_the_objective_is_the_smallest_of_its_family(loss, k, log_c, log_b, ds, do, db):
    c, lambda_b = 10**log_c, 10**log_b
    m = theory.minimum(loss, k, c, lambda_b)
    s = m.positive - m.offset
    at = reduced_objective(loss, k, c, lambda_b, s, m.offset, m.bias)
    assert m.objective == pytest.approx(at, rel=1e-9, abs=1e-10)
    assert reduced_objective(loss, k, c, lambda_b, s + ds, m.offset + do, m.bias + db) >= at - 1e-10 * (1 + at)


# ---- accuracy at the extremes: 40-digit arithmetic on the stationarity conditions in s, o and b as they stand -------

def exact_bce(k, c, lambda_b):
    """(positive, negative, bias) for c < 1/K from nested bisections with 40 digits; shares no formula with it."""
    getcontext().prec = 40
    k, c, lambda_b = Decimal(k), Decimal(c), Decimal(lambda_b)

    def sigmoid(x):
        return 1 / (1 + (-x).exp())

    def root(f, low, high):  # f increasing
        for _ in range(70):
            middle = (low + high) / 2
            low, high = (middle, high) if f(middle) < 0 else (low, middle)
        return (low + high) / 2

    def best_s(t):  # d/ds = 0
        return root(lambda s: k * c - sigmoid(t - s) - sigmoid(-s / (k - 1) - t), Decimal(0), Decimal(80))

    def slope(t):  # d/dt of the loss at the best s: increasing, since the minimum over s of a convex f is convex
        s = best_s(t)
        return sigmoid(t - s) - (k - 1) * sigmoid(-s / (k - 1) - t)

    t = root(lambda t: slope(t) + k * min(lambda_b * t, c), Decimal(0), Decimal(60))
    b = t if lambda_b * t <= c else c / lambda_b
    s, o = best_s(t), b - t
    return float(s + o), float(o - s / (k - 1)), float(b)


@pytest.mark.parametrize("k, c, lambda_b", [
    (2, 1e-8, 0), (2, 0.49, 1), (3, 1e-8, 10), (100_000, 1e-8, 0), (100_000, 1e-8, 1e-9), (100_000, 9e-6, 10),
    (100_000, 1e-6, 1e-7), (10, 0.0999, 1e-2), (3, 0.3, 10)])
def test_extremes_to_ten_digits(k, c, lambda_b):
    m = theory.minimum("bce", k, c, lambda_b)
    assert (m.positive, m.negative, m.bias) == pytest.approx(exact_bce(k, c, lambda_b), abs=1e-10, rel=1e-10)


def test_ce_extremes_by_hand():
    assert theory.minimum("ce", 2, 0.25).positive == pytest.approx(np.log(3) / 2, abs=1e-14)
    m = theory.minimum("ce", 100_000, 1e-8)
    assert m.positive == pytest.approx(0.99999 * np.log((1 - 99_999e-8) / 1e-8), abs=1e-10)
    s = np.log(1e8 - 1) / 2  # a tiny objective keeps its digits: -log(1 - c) + 2 c s
    assert theory.minimum("ce", 2, 1e-8).objective == pytest.approx(1e-8 + 5e-17 + 2e-8 * s, rel=1e-13, abs=0)


# ---- the regimes ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("lambda_b", [0, 1e-3, 0.1, 10])
def test_two_classes_have_no_bias_and_no_offset(lambda_b):
    ce, bce = (theory.minimum(loss, 2, 0.01, lambda_b) for loss in ("ce", "bce"))
    assert bce.bias == bce.offset == 0 and bce.holds_for == "d >= K-1"
    assert bce.positive == -bce.negative == pytest.approx(np.log(0.99 / 0.01), abs=1e-12)
    # two sigmoids of z and -z against one of the difference 2 z: BCE is the larger by far
    assert ce.positive == pytest.approx(bce.positive / 2, abs=1e-12)


def test_without_bias_decay_bce_balances_the_errors():
    k, c = 100, 2e-3
    m = theory.minimum("bce", k, c)
    left_on_positive, left_on_negative = (1 / (1 + np.exp(x)) for x in (m.positive - m.bias, m.bias - m.negative))
    assert (left_on_positive, left_on_negative) == pytest.approx(((k - 1) * c, c), rel=1e-12)
    # the softmax of CE's minimum leaves exactly the same errors
    ce = theory.minimum("ce", k, c)
    wrong = 1 / (k - 1 + np.exp(ce.positive - ce.negative))
    assert (1 - (k - 1) * wrong, wrong) == pytest.approx((1 - left_on_positive, left_on_negative), rel=1e-12)


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_the_etf_ends_at_one_over_k_for_both_losses(loss):
    for k in (2, 3, 10, 100_000):
        for lambda_b in (0, 1e-2, 10):
            below, at = theory.minimum(loss, k, (1 - 1e-6) / k, lambda_b), theory.minimum(loss, k, 1 / k, lambda_b)
            assert below.positive > below.negative and at.positive == at.negative
            assert at.holds_for == ("d >= K-1" if k == 2 else "d >= 1")


def test_the_all_zero_regime_and_the_offset_that_outlives_the_etf():
    zero = theory.minimum("bce", 10, 0.2)  # lambda_b = 0: only a bias is left, at the log-odds of a class
    assert (zero.positive, zero.negative, zero.offset) == (0, 0, 0)
    assert zero.bias == pytest.approx(np.log(9), abs=1e-12)
    assert zero.objective == pytest.approx(np.log(10) + 9 * np.log(10 / 9), abs=1e-12)
    assert theory.minimum("ce", 10, 0.2).objective == pytest.approx(np.log(10), abs=1e-12)
    # with a strong bias decay a common offset remains from c = 1/K = 0.1 up to (K-2)/(2K) = 0.4: rank one, no ETF
    alive, dead = theory.minimum("bce", 10, 0.399, 1e4), theory.minimum("bce", 10, 0.401, 1e4)
    assert alive.offset < -1e-3 and alive.positive == alive.negative and alive.holds_for == "d >= 1"
    assert dead.offset == 0 and dead.positive == 0
    c = 0.2
    found = theory.solve("bce", 10, 1, 4, c / 2, c / 2, 10.0, restarts=2)  # one dimension does for it
    assert found.objective == pytest.approx(theory.minimum("bce", 10, c, 10.0).objective, abs=1e-12)
    assert np.ptp(found.W @ found.H) < 1e-9 and (found.W @ found.H).max() < -0.1


def test_the_bias_saturates_at_the_critical_decay():
    for k, c in ((3, 0.01), (10, C_CIFAR10), (1000, 1e-5)):
        critical = theory.critical_lambda_b("bce", k, c)
        before, after = (theory.minimum("bce", k, c, critical * x) for x in (0.999, 1.001))
        assert before.offset == 0 and before.bias < c / (0.999 * critical)
        assert after.offset < 0 and after.bias == c / (1.001 * critical)
        far = theory.minimum("bce", k, c, 100 * critical)  # beyond, neither s nor b - offset moves
        assert far.positive - far.negative == pytest.approx(after.positive - after.negative, abs=1e-12)
        assert far.bias - far.offset == pytest.approx(after.bias - after.offset, abs=1e-12)
    assert theory.critical_lambda_b("bce", 10, C_CIFAR10) == pytest.approx(3.8526e-4, rel=1e-4)
    assert theory.critical_lambda_b("bce", 2, 0.01) == theory.critical_lambda_b("ce", 10, 0.01) == np.inf
    c = np.linspace(0.5, 3, 200)  # above (K-2)/(2K) no offset ever appears
    assert all(np.all(theory.critical_lambda_b("bce", k, c) == np.inf) for k in (2, 3, 10, 40, 61, 1000))
    assert theory.critical_lambda_b("bce", 3, 0.3) == np.inf and theory.minimum("bce", 3, 0.3, 1e6).offset == 0


def test_the_papers_bias_equation_holds_up_to_saturation_and_not_beyond():
    critical = theory.critical_lambda_b("bce", 10, C_CIFAR10)
    lambda_b = np.array([0, 0.01, 0.5, 0.999, 1.5, 10, 1000]) * critical
    m = theory.minimum("bce", 10, C_CIFAR10, lambda_b)
    error = theory.paper_bias(10, m.positive, lambda_b) - m.bias
    np.testing.assert_allclose(error[:4], 0, atol=1e-9)
    # Far too high beyond, also where it is given the true positive score: m.bias is 3.1, 0.46 and 0.005 there.
    np.testing.assert_allclose(error[4:], [1.04, 2.51, 0.59], atol=0.01)


def test_the_papers_separation_condition_is_bias_below_positive_score():
    s, lambda_b = np.meshgrid(np.linspace(0.01, 12, 60), [0, 1e-4, 1e-2, 1])
    for k in (3, 10, 1000):
        np.testing.assert_array_equal(theory.separates(k, s, lambda_b), theory.paper_bias(k, s, lambda_b) < s)
    assert not theory.separates(1000, 5.0, 0) and theory.separates(1000, 8.0, 0)
    # in the model: the threshold b separates exactly for c < 1 / (2(K-1)) without decay, c < 1 / (2(K-2)) beyond
    # saturation
    for c, lambda_b, expected in ((0.999 / 18, 0, True), (1.001 / 18, 0, False),
                                  (0.999 / 16, 10, True), (1.001 / 16, 10, False)):
        m = theory.minimum("bce", 10, c, lambda_b)
        assert (m.negative < m.bias < m.positive) == expected


# ---- fewer dimensions, unequal classes ------------------------------------------------------------------------------

def test_lead_2_in_k_minus_1_dimensions_the_minimum_beyond_saturation_is_no_etf():
    n, decay, lambda_b = 20, 2e-3, 0.05
    m = theory.minimum("bce", 5, np.sqrt(n) * decay, lambda_b)
    assert m.holds_for == "d >= K" and m.objective == pytest.approx(0.478369, abs=1e-6)
    with pytest.raises(ValueError, match="d >= K"):
        theory.assemble(m, 5, 4, decay, decay, n)
    found = theory.solve("bce", 5, 4, n, decay, decay, lambda_b, restarts=30)
    positive, _ = scores(found)
    assert found.objective == pytest.approx(0.558595, abs=1e-6) and found.agreement >= 5
    np.testing.assert_allclose(np.sort(found.b), [0.1312] * 3 + [0.2411] * 2, atol=1e-4)
    np.testing.assert_allclose(np.sort(positive), [3.2646] * 3 + [3.3031] * 2, atol=1e-4)
    # The theorem's own form there (centred ETF, one bias, no offset), its best s and b found on a grid: far above.
    s, b = np.meshgrid(np.linspace(0, 15, 1501), np.linspace(-1, 4, 501))
    etf = reduced_objective("bce", 5, np.sqrt(n) * decay, lambda_b, s, 0.0, b).min()
    assert etf == pytest.approx(0.666845, abs=1e-5)
    # up to the critical decay the ETF is the minimum with K - 1 dimensions too
    low = theory.solve("bce", 5, 4, n, decay, decay, 3e-3)
    assert low.objective == pytest.approx(theory.minimum("bce", 5, np.sqrt(n) * decay, 3e-3).objective, abs=1e-12)


def test_lead_4_classes_need_not_be_alike_under_bce_either():
    alike = theory.solve("bce", 8, 3, 20, 2e-3, 2e-3, restarts=6)
    assert np.ptp(alike.b) < 1e-6 and np.ptp(scores(alike)[0]) < 1e-6
    unlike = theory.solve("bce", 7, 3, 20, 1e-3, 1e-3, restarts=12)
    assert np.ptp(unlike.b) > 0.9 and unlike.agreement >= 4  # lead 4 as a general rule is refuted
    ce = theory.solve("ce", 8, 3, 20, 2e-3, 2e-3, restarts=6)
    assert np.ptp(ce.b) > 0.6 and np.ptp(theory.solve("ce", 6, 3, 20, 1e-3, 1e-3, restarts=6).b) < 1e-6


def tail_spread(loss, counts, decay, lambda_b=0.0):
    """Largest distance between the rows of two tail classes at the minimum."""
    W = theory.solve(loss, len(counts), len(counts), None, decay, decay, lambda_b, counts=counts, restarts=2).W
    tail = W[counts == counts.min()]
    return np.linalg.norm(tail[:, None] - tail[None], axis=-1).max()


@pytest.mark.parametrize("counts, lambda_b, bce_over_ce", [
    ([100, 100, 5, 5, 5, 5], 0.0, 1.43), ([100, 100, 5, 5, 5, 5], 1e-2, 1.11),
    # how fast the tail opens depends on the bias: twice as fast under BCE if it is free, slower than under CE if it is
    # not
    ([300, 200, 100, 2, 2], 0.0, 2.06), ([300, 200, 100, 2, 2], 1e-2, 0.93)])
def test_lead_3_the_minority_collapses_at_one_size_for_both_losses(counts, lambda_b, bce_over_ce):
    counts = np.array(counts, dtype=float)
    total, tail = counts.sum(), counts.min()
    opened = {}
    for loss in ("ce", "bce"):
        for factor in (0.99, 1.01):  # tail size over threshold
            decay = np.sqrt(tail / factor) / total
            assert theory.minority_collapse_size(total, decay, decay) == pytest.approx(tail / factor)
            opened[loss, factor] = tail_spread(loss, counts, decay, lambda_b)
    assert max(opened["ce", 0.99], opened["bce", 0.99]) < 1e-8
    assert min(opened["ce", 1.01], opened["bce", 1.01]) > 0.2
    assert opened["bce", 1.01] / opened["ce", 1.01] == pytest.approx(bce_over_ce, abs=0.01)


def test_collapse_size_of_a_mini_batch():
    # lambda_h of the batch acts as lambda_h B / N; and for equal classes the threshold is c = 1/K, where the ETF ends
    assert theory.minority_collapse_size(1000, 0.1, 0.2, 128) == pytest.approx(
        theory.minority_collapse_size(1000, 0.1, 0.2 * 128 / 1000))
    assert theory.effective_c(0.1, 0.2, 128, 10) == pytest.approx(np.sqrt(100 * 0.1 * 0.2 * 128 / 1000))
    k, n = 10, 7
    decay = 1 / k / np.sqrt(n)  # c = 1/K
    assert theory.minority_collapse_size(n * k, decay, decay) == pytest.approx(n)


# ---- arrays, errors ------------------------------------------------------------------------------------------------

def test_arrays_agree_with_numbers():
    c, lambda_b = np.geomspace(1e-8, 2, 25), np.concatenate([[0], np.geomspace(1e-8, 10, 30)])
    for loss in theory.LOSSES:
        grid = theory.minimum(loss, 10, c[:, None], lambda_b)
        assert grid.holds_for.shape == grid.bias.shape == (25, 31)
        for i, j in ((0, 0), (3, 30), (12, 5), (24, 30), (20, 17)):
            one = theory.minimum(loss, 10, c[i], lambda_b[j])
            assert isinstance(one.bias, float) and one.holds_for == grid.holds_for[i, j]
            assert one.positive == grid.positive[i, j] and one.bias == grid.bias[i, j]
            assert one.objective == grid.objective[i, j]
        assert all(np.all(np.isfinite(getattr(grid, name))) for name in ("positive", "negative", "bias", "objective"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theory.minimum("bce", 2, c[:, None], lambda_b), theory.minimum("bce", 100_000, c[:, None], lambda_b)


def test_simplex_etf():
    rows = theory.simplex_etf(3, 5)
    np.testing.assert_allclose(rows @ rows.T, [[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1]], atol=1e-15)
    np.testing.assert_allclose(theory.simplex_etf(9, 8).sum(axis=0), 0, atol=1e-14)
    with pytest.raises(ValueError, match="dim >= 3"):
        theory.simplex_etf(4, 2)


@pytest.mark.parametrize("call, permitted", [
    (lambda: theory.minimum("mse", 10, 0.1), "ce, bce"), (lambda: theory.minimum("bce", 1, 0.1), "2 to 100000"),
    (lambda: theory.minimum("bce", 2.5, 0.1), "2 to 100000"), (lambda: theory.minimum("bce", 10, [0.1, 0]), "above 0"),
    (lambda: theory.minimum("ce", 10, np.nan), "above 0"), (lambda: theory.minimum("bce", 10, 0.1, -1), "0 or more"),
    (lambda: theory.minimum("bce", 10, 0.1, np.inf), "0 or more"),
    (lambda: theory.effective_c(0, 1, 1, 2), "lambda_w.*above 0"),
    (lambda: theory.paper_bias(10, -1, 0), "0 or more"),
    (lambda: theory.solve("ce", 3, 3), "either per_class or counts"),
    (lambda: theory.solve("ce", 3, 3, counts=[1, 2]), r"\(3,\)"),
    (lambda: theory.solve("ce", 3, 3, 5, lambda_h=0), "lambda_h"),
    (lambda: theory.solve("ce", 3, 0, 5), "dim >= 1"), (lambda: theory.solve("ce", 3, 3, counts=[1, 0, 2]), "above 0"),
    (lambda: theory.minority_collapse_size(-5, 1, 1), "above 0")])
def test_bad_input_is_refused_with_the_permitted_range(call, permitted):
    with pytest.raises(ValueError, match=permitted):
        call()
