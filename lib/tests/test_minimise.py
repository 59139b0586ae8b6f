"""The minimisation, with features >= 0 too: against lead 5's formula minimised in another way, its derivatives, and
what it refuses."""

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from bcebook.science import theory
from bcebook.science.minimise import _Problem

DECAY = 5e-4


def lead_5(loss, k, c, lambda_b):
    """(p, q, b) and f by Nelder-Mead on the formula as lead 5 writes it, no signs assumed (an oracle)."""
    def f(x):
        p, q, b = x
        s1, s2 = abs(p - q), abs(p + (k - 1) * q)
        if loss == "ce":
            value = np.log(1 + (k - 1) * np.exp(q - p)) + b**2
        else:
            value = np.log1p(np.exp(b - p)) + (k - 1) * np.log1p(np.exp(q - b)) + k * lambda_b * b**2 / 2
        return value + (c * ((k - 1) * s1 + s2) if s2 >= s1 else c * k * np.sqrt(p**2 + (k - 1) * q**2))

    options = {"maxiter": 20000, "maxfev": 20000, "xatol": 1e-10, "fatol": 1e-15}
    best = min((minimize(f, start, method="Nelder-Mead", options=options)
                for start in ((5.0, -1.0, 3.0), (1.0, -4.0, 0.1), (0.0, -0.1, 0.0))), key=lambda found: found.fun)
    return best.x, best.fun


@pytest.mark.parametrize("loss, k, c, lambda_b", [
    ("ce", 3, 0.01, 0), ("ce", 5, 0.05, 1e-2), ("bce", 3, 0.003, 0), ("bce", 5, 0.003, 5e-5), ("bce", 5, 0.02, 1e-2),
    ("bce", 5, 0.02, 10), ("bce", 3, 0.2, 1e-3), ("bce", 2, 0.01, 0.1)])
def test_lead_5_is_what_a_full_minimisation_finds(loss, k, c, lambda_b):
    n, lambda_w = 30, 3e-3
    found = theory.solve(loss, k, k, n, lambda_w, c**2 / n / lambda_w, lambda_b, restarts=24, features="nonnegative")
    Z, (x, value) = found.W @ found.H, lead_5(loss, k, c, lambda_b)
    assert found.H.min() >= 0 and found.gradient_norm < 1e-10 and found.agreement >= 3
    assert found.objective == pytest.approx(value, abs=1e-9)
    p, q, b, predicted = theory.nonnegative_minimum(loss, k, c, lambda_b)
    assert predicted == pytest.approx(value, abs=1e-9)
    assert (p, q, b) == pytest.approx(tuple(x), abs=1e-4)
    np.testing.assert_allclose(Z, np.where(np.eye(k), p, q), atol=1e-6)
    np.testing.assert_allclose(found.b, b, atol=1e-6)


@pytest.mark.parametrize("loss, lambda_b, positive, negative, bias", [  # paper.md, lead 5
    ("ce", 0, 5.6307, -0.6256, 0), ("bce", 0, 9.2977, -1.0331, 5.2385), ("bce", 5e-5, 9.0654, -1.1577, 4.9902),
    ("bce", 3e-4, 8.2818, -1.6621, 4.1190), ("bce", 5e-4, 7.8101, -2.0516, 3.5778)])
def test_the_table_of_lead_5(loss, lambda_b, positive, negative, bias):
    found = theory.solve(loss, 10, 10, 12.8, DECAY, DECAY, lambda_b, restarts=16, features="nonnegative")
    Z = found.W @ found.H
    assert found.agreement >= 3 and found.gradient_norm < 1e-10
    np.testing.assert_allclose(Z, np.where(np.eye(10), positive, negative), atol=1e-3)
    np.testing.assert_allclose(found.b, bias, atol=1e-3)
    assert theory.nonnegative_minimum(loss, 10, DECAY * np.sqrt(12.8), lambda_b)[:3] == pytest.approx(
        (Z[0, 0], Z[0, 1], found.b[0]), abs=1e-6)
    cosine = found.H[:, 0] @ found.H[:, 1] / np.linalg.norm(found.H[:, 0]) / np.linalg.norm(found.H[:, 1])
    assert cosine == pytest.approx(0.0080 if lambda_b == 5e-4 else 0, abs=1e-3)  # orthogonal while the sign binds


def test_features_of_one_sign_cost_something_until_the_offset_is_large():
    c = DECAY * np.sqrt(12.8)
    for lambda_b in (0, 3e-4):
        free = theory.minimum("bce", 10, c, lambda_b)
        assert theory.nonnegative_minimum("bce", 10, c, lambda_b)[3] > free.objective + 1e-5
    for lambda_b in (6e-4, 1e-2, 10):  # and from there on the free minimum is the minimum
        free = theory.minimum("bce", 10, c, lambda_b)
        assert theory.nonnegative_minimum("bce", 10, c, lambda_b) == pytest.approx(
            (free.positive, free.negative, free.bias, free.objective), abs=1e-6)


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_scores_of_nonnegative_features_vanish_at_their_own_c(loss):
    k = 10
    threshold = np.sqrt((k - 1) / k) / k  # free features: 1 / K
    before, after = (theory.nonnegative_minimum(loss, k, threshold * factor) for factor in (0.99, 1.001))
    assert before[0] > 1e-2 and before[1] < -1e-3 and after[:2] == pytest.approx((0, 0), abs=1e-9)
    if loss == "bce":
        assert after[2:] == pytest.approx((np.log(9), np.log(10) + 9 * np.log(10 / 9)), abs=1e-7)
    # an offset alone may stay: features all alike, weights below 0
    p, q, b, value = theory.nonnegative_minimum("bce", k, 0.2, 1e4)
    assert value == pytest.approx(theory.minimum("bce", k, 0.2, 1e4).objective, abs=1e-9) and p == q < -0.1


def test_bounded_minimisation_has_minima_that_are_not_global():
    few = theory.solve("bce", 5, 5, 25.6, DECAY, DECAY, restarts=16, features="nonnegative")
    assert 3 <= few.agreement < 16
    free = theory.solve("bce", 5, 5, 25.6, DECAY, DECAY, restarts=16)
    assert free.agreement == 16 and free.H.min() < 0 and free.objective < few.objective


def test_unequal_classes_and_spare_dimensions_keep_the_bound():
    found = theory.solve("bce", 4, 6, counts=[50, 20, 5, 5], lambda_w=2e-3, lambda_h=2e-3, lambda_b=1e-3,
                         restarts=6, features="nonnegative")
    assert found.H.min() >= 0 and found.gradient_norm < 1e-10
    more = theory.solve("bce", 4, 4, counts=[50, 20, 5, 5], lambda_w=2e-3, lambda_h=2e-3, lambda_b=1e-3,
                        restarts=12, features="nonnegative")
    assert found.objective == pytest.approx(more.objective, abs=1e-9)  # K dimensions do


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_the_hessian_is_the_derivative_of_the_gradient(loss):
    problem = _Problem(loss, 3, np.array([4.0, 1.0, 9.0, 2.0]), 0.1, 0.02, 0.3, False)
    rng = np.random.default_rng(0)
    x, direction = rng.normal(size=(2, 28))
    assert check_grad(lambda x: problem.grad(x) @ direction, lambda x: problem.hess(x, direction), x) < 1e-6


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_the_gradient_is_the_derivative_of_the_objective(loss):
    rng, k, d = np.random.default_rng(0), 4, 3
    problem = (rng.uniform(1, 9, k), 0.1, 0.02, 0.3)

    def split(x):
        return x[:k * d].reshape(k, d), x[k * d:2 * k * d].reshape(d, k), x[2 * k * d:]

    error = check_grad(lambda x: theory.objective(loss, *split(x), *problem),
                       lambda x: np.concatenate([g.ravel() for g in theory.gradient(loss, *split(x), *problem)]),
                       rng.normal(size=2 * k * d + k))
    assert error < 1e-6
    large = [1e4 * part for part in split(rng.normal(size=2 * k * d + k))]
    assert np.isfinite(theory.objective(loss, *large, *problem))


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_the_samples_of_a_class_share_one_feature(loss):
    """Every sample with a feature of its own (3 classes, 4 samples each): the same minimum, one feature a class."""
    k, n, d, decay = 3, 4, 3, 0.05
    labels, rng = np.repeat(np.arange(k), n), np.random.default_rng(1)

    def f(x):
        W, H, b = x[:k * d].reshape(k, d), x[k * d:-k].reshape(d, k * n), x[-k:]
        Z = W @ H - b[:, None]
        own = Z[labels, np.arange(k * n)]
        if loss == "ce":
            value = np.log(np.exp(Z).sum(axis=0)) - own
        else:
            value = np.log1p(np.exp(Z)).sum(axis=0) - own  # softplus(-z) = softplus(z) - z
        return value.mean() + decay / 2 * (np.sum(W**2) + np.sum(H**2)) + 0.01 * np.sum(b**2)

    x = minimize(f, rng.normal(size=k * d + d * k * n + k), options={"gtol": 1e-7, "maxiter": 2000}).x
    H = x[k * d:-k].reshape(d, k, n)
    assert f(x) == pytest.approx(theory.solve(loss, k, d, n, decay, decay, 0.02, restarts=2).objective, abs=1e-8)
    assert np.ptp(H, axis=2).max() < 1e-3 < 0.1 < np.ptp(H, axis=1).max()


# ---- referee, item 12: extremes of the closed form, and what is refused ---------------------------------------------

@pytest.mark.parametrize("lambda_b", [1e20, 1e25, 1e30, 1e100, 1e300, 1.7e308])
@pytest.mark.parametrize("k, c", [(10, 0.401), (10, 0.5), (10, 3.0), (10, 1.7e308), (3, 0.3), (2, 0.1), (10, 0.2),
                                  (10, 1e-3)])
def test_a_huge_bias_decay_holds_the_bias_at_zero(k, c, lambda_b):
    """There f is that of a bias of 0, and b is what is left of the pull over lambda_b."""
    m, near = theory.minimum("bce", k, c, lambda_b), theory.minimum("bce", k, c, 1e9)
    assert m.objective == pytest.approx(near.objective, abs=1e-8) and m.holds_for == near.holds_for
    assert m.bias * lambda_b == pytest.approx(near.bias * 1e9, rel=1e-6)
    assert (m.positive, m.negative, m.offset) == pytest.approx((near.positive, near.negative, near.offset), abs=1e-8)


@pytest.mark.parametrize("loss", ["ce", "bce"])
@pytest.mark.parametrize("c", [0.6, 1.0, 1e10, 1e300, 1.7e308])
@pytest.mark.parametrize("lambda_b", [0, 1e-3, 1.7e308])
@pytest.mark.filterwarnings("error")
def test_beyond_one_half_a_larger_c_changes_nothing(loss, c, lambda_b):
    assert theory.minimum(loss, 10, c, lambda_b) == theory.minimum(loss, 10, 0.5, lambda_b)
    assert theory.critical_lambda_b(loss, 10, c) == np.inf


@pytest.mark.parametrize("call, said", [
    (lambda: theory.solve("ce", 3, 4.0, 5), "dim is 4.0; expected a whole number, dim >= 1"),
    (lambda: theory.solve("ce", 3, "4", 5), "dim is '4'"), (lambda: theory.solve("ce", 3, True, 5), "dim is True"),
    (lambda: theory.solve("ce", 3, 3, 5, restarts=2.0), "restarts is 2.0; expected a whole number"),
    (lambda: theory.solve("ce", 3, 3, 5, restarts=0), "restarts >= 1"),
    (lambda: theory.solve("ce", 3.0, 3, 5), "num_classes is 3.0"),
    (lambda: theory.solve("ce", 3, 3, 5, features="relu"), "features is 'relu'; expected one of free, nonnegative"),
    (lambda: theory.simplex_etf(3, 2.0), "dim is 2.0"),
    (lambda: theory.assemble(theory.minimum("ce", 3, 0.1), 3, 3.0, 0.1, 0.1, 1), "dim is 3.0"),
    (lambda: theory.nonnegative_minimum("mse", 3, 0.1), "ce, bce"),
    (lambda: theory.nonnegative_minimum("ce", 3, 0), "above 0")])
def test_what_does_not_fit_is_refused_in_one_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_whole_number_of_numpy_is_one():
    found = theory.solve("ce", np.int64(3), np.int32(3), 5, 0.01, 0.01, restarts=np.int64(1))
    assert found.W.shape == (3, 3)
