"""Equal scores from other decays, means over classes and label smoothing, against minimisations written out here."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from bcebook.science import theory

C_CIFAR10 = 5e-4 * np.sqrt(12.8)  # batch 128, lambdas 5e-4, 10 classes


def minimised(loss, counts, lambda_w, lambda_h, lambda_b=0.0, factor=1.0, smoothing=0.0, seed=0):
    """(W, H, b, f) of f with `factor` before the loss and soft targets, by L-BFGS; one column of H a class."""
    counts, k = np.asarray(counts, float), len(counts)
    share, target = counts / counts.sum(), (1 - smoothing) * np.eye(k) + smoothing / k
    scale = np.sqrt(counts * lambda_h / lambda_w)  # H is searched for as H scale^(1/2): both decays cost alike

    def parts(x):
        W, H, b = x[:k * k].reshape(k, k), x[k * k:2 * k * k].reshape(k, k), x[2 * k * k:]
        return W * scale.mean()**0.5, H / np.sqrt(counts) * (lambda_w / lambda_h)**0.25, b

    def value(x):
        W, H, b = parts(x)
        Z = W @ H - b[:, None]
        if loss == "ce":
            each, residual = -(target * log_softmax(Z, axis=0)).sum(0), softmax(Z, axis=0) - target
        else:
            each = (target * np.logaddexp(0, -Z) + (1 - target) * np.logaddexp(0, Z)).sum(0)
            residual = 1 / (1 + np.exp(-Z)) - target
        residual = factor * residual * share
        f = factor * share @ each + (lambda_w * (W * W).sum() + (lambda_h * counts * H * H).sum()
                                     + lambda_b * b @ b) / 2
        dW, dH = residual @ H.T + lambda_w * W, W.T @ residual + lambda_h * counts * H
        return f, np.concatenate([(dW * scale.mean()**0.5).ravel(),
                                  (dH / np.sqrt(counts) * (lambda_w / lambda_h)**0.25).ravel(),
                                  lambda_b * b - residual.sum(1)])

    x = np.random.default_rng(seed).normal(size=2 * k * k + k)
    for _ in range(4):  # a fresh memory of L-BFGS where rounding stopped its line search
        x = minimize(value, x, jac=True, method="L-BFGS-B",
                     options={"maxiter": 50_000, "maxfun": 100_000, "maxcor": 50, "ftol": 0, "gtol": 1e-12}).x
    return *parts(x), value(x)[0]


# ---- equal scores ---------------------------------------------------------------------------------------------------

def test_the_numbers_of_lead_8():
    weaker, stronger = (theory.equivalent_decay(*pair, 10, C_CIFAR10) for pair in (("ce", "bce"), ("bce", "ce")))
    assert (1 / weaker, stronger) == pytest.approx((61.0, 7.41), abs=0.05)
    assert theory.minimum("bce", 10, C_CIFAR10 * stronger).positive == pytest.approx(5.6790, abs=1e-4)
    assert theory.minimum("ce", 10, C_CIFAR10 * weaker).positive == pytest.approx(9.3934, abs=1e-4)


@pytest.mark.parametrize("k", [2, 3, 10, 100, 100_000])
def test_equal_scores_and_round_trips(k):
    c = np.geomspace(1e-8, 1 - 1e-6, 60) / k
    for loss, other in (("ce", "bce"), ("bce", "ce")):
        factor = theory.equivalent_decay(loss, other, k, c)
        ours, theirs = theory.minimum(loss, k, c * factor), theory.minimum(other, k, c)
        np.testing.assert_allclose(ours.positive, theirs.positive, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(ours.negative, theirs.negative, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(factor * theory.equivalent_decay(other, loss, k, c * factor), 1, rtol=1e-9)
        assert np.all(factor < 1 if loss == "ce" else factor > 1)  # CE is BCE with a stronger decay, at each c
        assert np.all(theory.equivalent_decay(loss, loss, k, c) == 1)
    assert theory.equivalent_decay("bce", "ce", k, 1 / k) == pytest.approx(1)
    assert theory.equivalent_decay("ce", "bce", k, 3.0) == pytest.approx(1)


def test_unknown_losses_are_refused():
    for pair in (("ce", "mse"), ("mse", "ce")):
        with pytest.raises(ValueError, match="loss is 'mse'"):
            theory.equivalent_decay(*pair, 10, 0.01)


# ---- a mean over the classes, and label smoothing -------------------------------------------------------------------

@pytest.mark.parametrize("loss, over_classes, smoothing, lambda_b", [
    ("bce", "mean", 0.0, 0.0), ("bce", "mean", 0.0, 0.01), ("bce", "mean", 0.1, 0.0), ("bce", "mean", 0.3, 2e-4),
    ("bce", "sum", 0.1, 0.0), ("bce", "sum", 0.1, 1e-3), ("bce", "sum", 0.1, 1.0), ("bce", "sum", 0.6, 0.05),
    ("ce", "sum", 0.1, 0.0), ("ce", "sum", 0.6, 0.01), ("ce", "sum", 0.0, 1e-3)])
@pytest.mark.parametrize("k, c", [(2, 0.01), (5, 0.02), (6, 1e-3)])
def test_options_against_a_minimisation(loss, over_classes, smoothing, lambda_b, k, c):
    n, ratio = 9, 2.0
    lambda_h = c / np.sqrt(n * ratio)
    W, H, b, f = minimised(loss, [n] * k, lambda_h * ratio, lambda_h, lambda_b,
                           1 / k if over_classes == "mean" else 1.0, smoothing)
    m = theory.minimum(loss, k, c, lambda_b, over_classes=over_classes, label_smoothing=smoothing)
    Z, others = W @ H, ~np.eye(k, dtype=bool)
    assert f == pytest.approx(m.objective, abs=1e-9)
    np.testing.assert_allclose(np.diagonal(Z), m.positive, atol=1e-6)
    np.testing.assert_allclose(Z[others], m.negative, atol=1e-6)
    np.testing.assert_allclose(b - b.mean() if loss == "ce" else b, m.bias, atol=1e-6)


@pytest.mark.parametrize("loss", theory.LOSSES)
def test_smoothing_is_a_stronger_decay_of_the_contrasts(loss):
    k, e = 10, 0.1
    c = np.geomspace(1e-6, 0.2, 50)
    soft, hard = theory.minimum(loss, k, c, label_smoothing=e), theory.minimum(loss, k, c + e / k)
    for name in ("positive", "negative", "bias"):
        np.testing.assert_allclose(getattr(soft, name), getattr(hard, name), rtol=1e-12, atol=1e-12)
    for lambda_b in (0.0, 1e-3):  # where the scores vanish
        below, at = (theory.minimum(loss, k, x * (1 - e) / k, lambda_b, label_smoothing=e) for x in (1 - 1e-6, 1.0))
        assert below.positive > below.negative and at.positive == pytest.approx(at.negative, abs=1e-12)


def test_a_mean_over_classes_is_another_c():
    for features in theory.FEATURES:
        mean = theory.minimum("bce", 10, 1e-3, 2e-4, features, over_classes="mean")
        summed = theory.minimum("bce", 10, 1e-2, 2e-3, features)
        assert (mean.positive, mean.negative, mean.bias) == pytest.approx(
            (summed.positive, summed.negative, summed.bias), rel=1e-12)
        assert mean.objective == pytest.approx(summed.objective / 10, rel=1e-12)


def test_from_32_classes_on_a_mean_leaves_no_scores_at_the_papers_decay():
    gaps = []
    for k in (31, 32):
        m = theory.minimum("bce", k, theory.effective_c(5e-4, 5e-4, 128, k), over_classes="mean")
        gaps.append(m.positive - m.negative)
    assert gaps[0] == pytest.approx(0.584, abs=5e-4) and gaps[1] == 0
    found = [minimised("bce", [4] * k, *[theory.effective_c(5e-4, 5e-4, 128, k) / 2] * 2, factor=1 / k)
             for k in (31, 32)]
    spread = [np.ptp(W @ H) for W, H, _, _ in found]
    assert spread[0] == pytest.approx(gaps[0], abs=1e-4) and spread[1] < 1e-3


@pytest.mark.parametrize("over_classes", theory.OVER_CLASSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("decay, batch", [(5e-4, 128), (5e-3, 128), (2e-2, 16), (0.3, 512)])
def test_trivial_from_is_the_first_such_number_of_classes(over_classes, smoothing, decay, batch):
    found = theory.trivial_from(decay, decay, batch, over_classes, smoothing)
    for k, trivial in ((found, True), (found - 1, False)):
        if k >= 2:
            m = theory.minimum("bce", k, theory.effective_c(decay, decay, batch, k), over_classes=over_classes,
                               label_smoothing=smoothing)
            assert (m.positive - m.negative < 1e-9) == trivial


def test_options_that_a_loss_does_not_have_are_refused():
    for arguments, options, sentence in (
            (("ce", 10, 0.01), {"over_classes": "mean"}, "expected sum or, for BCE, mean"),
            (("bce", 10, 0.01), {"over_classes": "max"}, "expected sum or, for BCE, mean"),
            (("bce", 10, 0.01), {"label_smoothing": 1.0}, "from 0 to below 1"),
            (("bce", 10, 0.01), {"label_smoothing": np.nan}, "from 0 to below 1"),
            (("bce", 10, 0.01), {"features": "nonnegative", "label_smoothing": 0.1}, "nonnegative features")):
        with pytest.raises(ValueError, match=sentence):
            theory.minimum(*arguments, **options)


# ---- the minority ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("loss", theory.LOSSES)
@pytest.mark.parametrize("factor, smoothing", [(1.0, 0.2), (0.25, 0.0), (3.0, 0.4)])
def test_lead_9_tails_merge_at_one_size_for_both_losses(loss, factor, smoothing):
    counts = np.array([60.0, 60, 5, 5])
    total = counts.sum()
    for side in (0.98, 1.02):  # tail size over threshold
        product = 5 / side * (factor * (1 - smoothing))**2 / total**2
        size = theory.minority_collapse_size(total, np.sqrt(product), np.sqrt(product), factor=factor,
                                             label_smoothing=smoothing)
        assert size == pytest.approx(5 / side)
        W = minimised(loss, counts, *[np.sqrt(product)] * 2, factor=factor, smoothing=smoothing)[0]
        same = theory.solve(loss, 4, 4, None, *[np.sqrt(product) / factor] * 2, counts=counts, restarts=2,
                            label_smoothing=smoothing)
        widths = [np.linalg.norm(rows[2] - rows[3]) / np.linalg.norm(rows[0] - rows[1]) for rows in (W, same.W)]
        assert widths[1] == pytest.approx(widths[0], abs=1e-4)
        assert widths[1] < 1e-8 if side < 1 else widths[1] > 0.02, widths
