"""The minimum with features >= 0: against a bounded minimisation over W, H and b, against its own formula minimised in
another way, and at its borders."""

import numpy as np
import pytest
from scipy.optimize import minimize

from bcebook.science import nonnegative, theory

DECAY = 5e-4
C = DECAY * np.sqrt(12.8)  # the paper's, for ten classes


def settings(count=32, seed=1):
    """loss, K, c, lambda_b: drawn at random; K = 2, no decay of the bias, and c beyond every border among them."""
    rng, found = np.random.default_rng(seed), []
    for at in range(count):
        k = int(rng.choice([2, 3, 4, 5, 6, 8]))
        border = np.sqrt((k - 1) / k) / k
        c = float(border * np.exp(rng.uniform(*((-5, -0.2) if at % 4 else (-0.2, 0.6)))))
        lambda_b = 0.0 if at % 5 == 0 else float(c * np.exp(rng.uniform(-4, 4)))
        found.append(("ce" if at % 8 == 3 else "bce", k, c, lambda_b))
    return found


@pytest.mark.parametrize("part", range(4))
def test_a_bounded_minimisation_finds_nothing_lower_and_nothing_else(part):
    """32 settings; the restarts are many, as there are local minima."""
    for loss, k, c, lambda_b in settings()[part::4]:
        n, lambda_w = 30, 3e-3
        m = theory.minimum(loss, k, c, lambda_b, "nonnegative")
        found = theory.solve(loss, k, k, n, lambda_w, c**2 / n / lambda_w, lambda_b, restarts=12,
                             features="nonnegative")
        assert found.H.min() >= 0
        assert found.objective == pytest.approx(m.objective, abs=1e-10), (loss, k, c, lambda_b)
        if (k, lambda_b) == (2, 0):
            continue  # a whole segment of minima: the two biases may part, and the scores with them
        np.testing.assert_allclose(found.W @ found.H, np.where(np.eye(k), m.positive, m.negative), atol=3e-5)
        if loss == "bce":
            np.testing.assert_allclose(found.b, m.bias, atol=3e-5)
        if m.positive > m.negative:
            unit = found.H / np.linalg.norm(found.H, axis=0)
            np.testing.assert_allclose((unit.T @ unit)[~np.eye(k, dtype=bool)], m.cosine, atol=3e-4)


def test_the_settings_see_every_regime():
    seen = [theory.minimum(*each, "nonnegative") for each in settings()]
    gap = np.array([m.positive - m.negative for m in seen])
    cosine = np.nan_to_num([m.cosine for m in seen])
    assert (gap == 0).sum() >= 5 and (cosine > 1e-9).sum() >= 5 and ((gap > 0) & (cosine == 0)).sum() >= 20


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
    ("ce", 3, 0.01, 0), ("bce", 5, 0.003, 5e-5), ("bce", 5, 0.02, 1e-2), ("bce", 5, 0.02, 10), ("bce", 3, 0.2, 1e-3),
    ("bce", 2, 0.01, 0.1), ("bce", 100, 1e-3, 0), ("bce", 100, 1e-3, 1e-4), ("bce", 100, 1e-3, 1e-2)])
def test_it_is_the_minimum_of_the_function_of_three_numbers(loss, k, c, lambda_b):
    (p, q, b), value = lead_5(loss, k, c, lambda_b)
    m = theory.minimum(loss, k, c, lambda_b, "nonnegative")
    assert m.objective == pytest.approx(value, abs=1e-9) and m.objective <= value + 1e-12
    assert (m.positive, m.negative, m.bias) == pytest.approx((p, q, b), abs=1e-3)


@pytest.mark.parametrize("loss, lambda_b, positive, negative, bias, cosine", [  # lead 5
    ("ce", 0, 5.6307, -0.6256, 0, 0), ("bce", 0, 9.2977, -1.0331, 5.2385, 0),
    ("bce", 5e-5, 9.0654, -1.1577, 4.9902, 0), ("bce", 3e-4, 8.2818, -1.6621, 4.1190, 0),
    ("bce", 5e-4, 7.8101, -2.0517, 3.5777, 0.0080)])
def test_the_table_of_lead_5(loss, lambda_b, positive, negative, bias, cosine):
    m = theory.minimum(loss, 10, C, lambda_b, "nonnegative")
    assert (m.positive, m.negative, m.bias, m.cosine) == pytest.approx((positive, negative, bias, cosine), abs=1.1e-4)


def test_from_the_critical_decay_of_the_bias_on_the_minimum_is_that_of_free_features():
    critical = theory.critical_lambda_b("bce", 10, C, "nonnegative")
    assert critical > theory.critical_lambda_b("bce", 10, C)
    for factor in (0.2, 0.9, 0.999):
        mine, free = (theory.minimum("bce", 10, C, factor * critical, kind) for kind in theory.FEATURES[::-1])
        assert mine.objective > free.objective and mine.cosine == 0 and free.cosine < 0 and mine.min_dim == 10
    for factor in (1.001, 2, 1e4):
        mine, free = (theory.minimum("bce", 10, C, factor * critical, kind) for kind in theory.FEATURES[::-1])
        assert mine.objective == free.objective and mine.positive == free.positive and mine.cosine == free.cosine > 0
    either = [theory.minimum("bce", 10, C, critical * factor, "nonnegative") for factor in (1 - 1e-9, 1 + 1e-9)]
    for name in ("positive", "negative", "bias", "objective", "cosine"):  # nothing jumps
        assert getattr(either[0], name) == pytest.approx(getattr(either[1], name), abs=1e-7)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_few_classes_never_leave_the_orthogonal_frame(k):
    assert theory.critical_lambda_b("bce", k, 0.01, "nonnegative") == np.inf
    m = theory.minimum("bce", k, 0.01, 1e6, "nonnegative")
    assert m.cosine == 0 and abs(m.bias) < 1e-6
    assert m.positive == pytest.approx(-m.negative, abs=1e-5)  # p : -q = u : v, and without a bias u = v
    assert m.positive == pytest.approx(np.log(1 / (0.01 * np.sqrt(k)) - 1), abs=1e-4)


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_scores_vanish_at_their_own_c(loss):
    k = 10
    threshold = np.sqrt((k - 1) / k) / k  # free features: 1 / K
    before, after = (theory.minimum(loss, k, threshold * factor, 0.0, "nonnegative") for factor in (0.99, 1.001))
    assert before.positive > 1e-2 and before.negative < -1e-3
    assert after.positive == after.negative == 0 and np.isnan(after.cosine) and after.min_dim == 1
    if loss == "bce":
        assert (after.bias, after.objective) == pytest.approx((np.log(9), np.log(10) + 9 * np.log(10 / 9)), abs=1e-10)
    alone = theory.minimum("bce", k, 0.2, 1e4, "nonnegative")  # an offset alone may stay: features all alike
    assert alone.positive == alone.negative < -0.1 and alone.cosine == 1


def test_arrays_are_their_elements():
    c, lambda_b = np.geomspace(1e-4, 0.3, 7)[:, None], np.array([0, 1e-4, 1e-2, 10.0])
    whole = theory.minimum("bce", 6, c, lambda_b, "nonnegative")
    for i, j in np.ndindex(7, 4):
        one = theory.minimum("bce", 6, float(c[i, 0]), float(lambda_b[j]), "nonnegative")
        assert one.positive == whole.positive[i, j] and one.bias == whole.bias[i, j]
        assert one.cosine == whole.cosine[i, j] or np.isnan(one.cosine) and np.isnan(whole.cosine[i, j])
        assert one.min_dim == whole.min_dim[i, j] and one.holds_for == whole.holds_for[i, j]


@pytest.mark.parametrize("loss, k, lambda_b", [("ce", 4, 0), ("bce", 4, 0), ("bce", 10, 2e-4), ("bce", 10, 0.5)])
def test_it_is_assembled_with_no_entry_below_zero(loss, k, lambda_b):
    n, lambda_w, lambda_h = 20, 2e-3, 5e-4
    m = theory.minimum(loss, k, np.sqrt(n * lambda_w * lambda_h), lambda_b, "nonnegative")
    W, H, b = theory.assemble(m, k, k + 2, lambda_w, lambda_h, n)
    assert H.min() >= 0 and theory.objective(loss, W, H, b, np.full(k, n), lambda_w, lambda_h, lambda_b) == (
        pytest.approx(m.objective, abs=1e-12))
    dW, dH, db = theory.gradient(loss, W, H, b, np.full(k, n), lambda_w, lambda_h, lambda_b)
    assert max(np.abs(dW).max(), np.abs(db).max(), np.abs(dH[H > 0]).max(), -dH.min()) < 1e-10
    gram = H.T @ H
    assert gram[0, 1] / gram[0, 0] == pytest.approx(m.cosine, abs=1e-12)
    with pytest.raises(ValueError, match="d >= K"):
        theory.assemble(m, k, k - 1, lambda_w, lambda_h, n)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("c", [1e-12, 1e-6, 0.5, 1.7e308])
@pytest.mark.parametrize("lambda_b", [0, 1e-12, 1e20, 1.7e308])
@pytest.mark.parametrize("k", [2, 10, 100_000])
def test_extremes_are_numbers(k, c, lambda_b):
    for loss in theory.LOSSES:
        m = theory.minimum(loss, k, c, lambda_b, "nonnegative")
        assert np.isfinite([m.positive, m.negative, m.bias, m.objective]).all() and m.positive >= m.negative
        assert m.objective >= theory.minimum(loss, k, c, lambda_b).objective * (1 - 1e-9)


def test_the_errors_lie_on_a_circle_that_meets_the_free_ones():
    """u^2 + (K-1) v^2 = c^2 K^2; at a pull of c it meets free features' line u + v = K c."""
    u, v, r = nonnegative._errors(10, np.full(5, 0.01), np.linspace(0, 0.01, 5))
    np.testing.assert_allclose(u**2 + 9 * v**2, 0.01)
    np.testing.assert_allclose(9 * v - u, 10 * np.linspace(0, 0.01, 5), atol=1e-15)
    assert (u[-1], v[-1]) == pytest.approx((0.08, 0.02)) and r == pytest.approx(1 - u - v)
