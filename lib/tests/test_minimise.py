"""The minimisation: its derivatives, what bounds do to it, and what it refuses."""

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize

from bcebook.science import theory
from bcebook.science.minimise import _Problem

DECAY = 5e-4


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
    assert check_grad(lambda x: problem.value(x)[1] @ direction, lambda x: problem.hess(x)(direction), x) < 1e-6


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
    (lambda: theory.minimum("ce", 3, 0.1, features="relu"), "features is 'relu'; expected one of free, nonnegative"),
    (lambda: theory.minimum("mse", 3, 0.1, features="nonnegative"), "ce, bce"),
    (lambda: theory.minimum("ce", 3, 0, features="nonnegative"), "above 0")])
def test_what_does_not_fit_is_refused_in_one_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_whole_number_of_numpy_is_one():
    found = theory.solve("ce", np.int64(3), np.int32(3), 5, 0.01, 0.01, restarts=np.int64(1))
    assert found.W.shape == (3, 3)
