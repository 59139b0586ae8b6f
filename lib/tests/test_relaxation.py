"""The rates at the minimum against automatic differentiation at an assembled minimum, and what they are at limits."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bcebook.science import metrics, theory
from bcebook.science.relaxation import _nc1

C_CIFAR10 = 5e-4 * np.sqrt(12.8)  # batch 128, lambdas 5e-4, 10 classes


def eigenvalues(loss, k, c, lambda_b=0.0, smoothing=0.0, dim=None, per_class=7, ratio=3.0):
    """Ascending eigenvalues (d,) of the Hessian of one sample's loss plus decay in its feature, over lambda_h."""
    m = theory.minimum(loss, k, c, lambda_b, label_smoothing=smoothing)
    lambda_h = c / np.sqrt(per_class * ratio)
    lambda_w = lambda_h * ratio
    W, H, b = map(torch.tensor, theory.assemble(m, k, dim or k + 1, lambda_w, lambda_h, per_class))
    target = (1 - smoothing) * F.one_hot(torch.tensor(0), k).double() + smoothing / k

    def of_one_sample(h):
        z = W @ h - b
        value = torch.logsumexp(z, 0) - z @ target if loss == "ce" else F.binary_cross_entropy_with_logits(
            z, target, reduction="sum")
        return value / (per_class * k) + lambda_h / 2 * h @ h

    h = H[:, 0].clone()
    gradient = torch.func.grad(of_one_sample)(h)
    assert gradient.abs().max() < 1e-12  # this is where the sample rests
    return np.linalg.eigvalsh(torch.func.hessian(of_one_sample)(h).numpy() / lambda_h)


def predicted(loss, k, c, lambda_b=0.0, smoothing=0.0, dim=None):
    rates = theory.relaxation_rates(loss, k, c, lambda_b, label_smoothing=smoothing)
    across = [] if k == 2 else [rates.across] * (k - 2)
    return np.sort([rates.own, rates.common, *across, *[1.0] * ((dim or k + 1) - k)])


@pytest.mark.parametrize("loss", ["ce", "bce"])
@pytest.mark.parametrize("k, c", [(2, 0.03), (2, 0.49), (3, 0.1), (3, 1e-4), (5, 0.15), (10, C_CIFAR10), (10, 0.09),
                                  (10, 0.3), (40, 1e-3)])
def test_rates_are_the_eigenvalues_of_the_hessian(loss, k, c):
    np.testing.assert_allclose(eigenvalues(loss, k, c), predicted(loss, k, c), rtol=1e-9)


@pytest.mark.parametrize("k, c, lambda_b", [(5, 0.05, 1e-3), (5, 0.05, 1.0), (10, C_CIFAR10, 2e-4), (10, C_CIFAR10, 1e-3),
                                            (10, C_CIFAR10, 0.5), (10, 0.2, 5.0), (3, 0.02, 0.3), (4, 0.01, 10.0)])
def test_they_are_with_decay_of_the_bias_and_an_offset(k, c, lambda_b):
    np.testing.assert_allclose(eigenvalues("bce", k, c, lambda_b), predicted("bce", k, c, lambda_b), rtol=1e-9)
    m, rates = theory.minimum("bce", k, c, lambda_b), theory.relaxation_rates("bce", k, c, lambda_b)
    assert (rates.common > 1) == (m.offset < 0 and m.positive > m.negative)


@pytest.mark.parametrize("loss, k, c, lambda_b, smoothing", [
    ("ce", 10, C_CIFAR10, 0.0, 0.1), ("ce", 4, 0.02, 0.1, 0.4), ("bce", 10, C_CIFAR10, 0.0, 0.1),
    ("bce", 5, 0.02, 1e-3, 0.3), ("bce", 5, 0.02, 1.0, 0.3), ("bce", 2, 0.1, 0.0, 0.2), ("ce", 3, 0.3, 0.0, 0.2)])
def test_they_are_with_label_smoothing(loss, k, c, lambda_b, smoothing):
    np.testing.assert_allclose(eigenvalues(loss, k, c, lambda_b, smoothing), predicted(loss, k, c, lambda_b, smoothing),
                               rtol=1e-9)
    if lambda_b == 0 and k > 2:
        wide, soft = (theory.relaxation_rates(loss, k, c + smoothing / k),
                      theory.relaxation_rates(loss, k, c, label_smoothing=smoothing))
        for name in ("across", "own"):
            more = (getattr(wide, name) - 1) * (c + smoothing / k) / c
            assert getattr(soft, name) - 1 == pytest.approx(more, rel=1e-8, abs=1e-10)


def test_the_closed_formulas_and_the_numbers_of_lead_8():
    for k, c in ((3, 0.1), (10, C_CIFAR10), (1000, 1e-5)):
        for loss in theory.LOSSES:
            s, rates = theory.minimum(loss, k, c).positive, theory.relaxation_rates(loss, k, c)
            across, own = {"ce": (1 + s / (k - 1), 1 + s * (1 - (k - 1) * c) * k / (k - 1)),
                           "bce": (1 + s * (1 - c) / (k - 1),
                                   1 + s / k * ((k - 1) * (1 - (k - 1) * c) + (1 - c) / (k - 1)))}[loss]
            assert (rates.across, rates.own, rates.common) == pytest.approx((across, own, 1), rel=1e-9)
    ce, bce = (theory.relaxation_rates(loss, 10, C_CIFAR10) for loss in theory.LOSSES)
    assert (ce.across, ce.own, bce.across, bce.own) == pytest.approx((1.631, 7.208, 2.042, 9.422), abs=5e-4)
    assert bce.across / ce.across == pytest.approx(1.252, abs=5e-4)
    assert bce.own / ce.own == pytest.approx(1.307, abs=5e-4)


def test_bce_is_faster_at_every_decay_and_number_of_classes_at_most_twice():
    for k in (3, 5, 10, 100, 1000, 100_000):
        c = np.geomspace(1e-14, 0.999, 400) / k
        ce, bce = (theory.relaxation_rates(loss, k, c) for loss in theory.LOSSES)
        ratio = bce.across / ce.across
        assert np.all(ratio > 1) and np.all(ratio < 2) and np.all(bce.own > 0)
        assert ratio[0] > ratio[200]
    at_paper = [float(theory.relaxation_rates("bce", k, theory.effective_c(5e-4, 5e-4, 128, k)).across
                      / theory.relaxation_rates("ce", k, theory.effective_c(5e-4, 5e-4, 128, k)).across)
                for k in (10, 100, 1000)]
    assert at_paper == pytest.approx([1.252, 1.027, 1.002], abs=1e-3)  # the advantage of BCE needs few classes


def test_two_classes_have_no_direction_across_and_arrays_agree_with_numbers():
    assert np.isnan(theory.relaxation_rates("bce", 2, 0.1).across)
    c, lambda_b = np.array([[1e-3], [0.02], [0.3]]), np.array([0.0, 1e-3, 1.0])
    for loss in theory.LOSSES:
        grid = theory.relaxation_rates(loss, 10, c, lambda_b)
        one = theory.relaxation_rates(loss, 10, 0.02, 1e-3)
        assert grid.own.shape == (3, 3) and isinstance(one.own, float)
        assert (grid.across[1, 1], grid.own[1, 1], grid.common[1, 1]) == (one.across, one.own, one.common)
    with pytest.raises(ValueError, match="free features"):
        theory.relaxation_rates("bce", 10, 1e-3, features="nonnegative")
    with pytest.raises(ValueError, match="expected one of ce, bce"):
        theory.relaxation_rates("mse", 10, 1e-3)


# ---- the flow -------------------------------------------------------------------------------------------------------

def late_rate(loss, k, c, rate, ratio, seed=0):
    """Half the slope of log NC1, where NC1 has fallen by about exp(-26) to exp(-30) if it falls at this rate."""
    nc1 = theory.collapse_flow(loss, k, c, [0, 13 / rate, 15 / rate], lambda_ratio=ratio, seed=seed)
    return np.log(nc1[1] / nc1[2]) / (4 / rate)


@pytest.mark.parametrize("loss", theory.LOSSES)
@pytest.mark.parametrize("k, c, ratio, seed", [(10, C_CIFAR10, 10.0, 0), (10, C_CIFAR10, 1.5, 1), (4, 0.02, 10.0, 0),
                                               (4, 0.02, 30.0, 1), (20, 1.3e-3, 10.0, 0)])
def test_nc1_falls_at_twice_the_rate_across_at_last(loss, k, c, ratio, seed):
    predicted = theory.relaxation_rates(loss, k, c).across
    assert late_rate(loss, k, c, predicted, ratio, seed) == pytest.approx(predicted, rel=0.01)


@pytest.mark.parametrize("loss, k, c, ratio, rate", [
    ("bce", 4, 0.02, 0.3, 1.3), ("bce", 4, 0.02, 0.6, 1.6), ("bce", 3, 1e-3, 0.3, 1.3),  # 1 + lambda_w / lambda_h
    ("ce", 3, 1e-3, 0.3, 2.3), ("ce", 3, 1e-3, 0.2, 2.2)])  # 2 + lambda_w / lambda_h
def test_a_weak_decay_of_the_classifier_makes_collapse_slower(loss, k, c, ratio, rate):
    assert theory.relaxation_rates(loss, k, c).across > rate + 0.8
    assert late_rate(loss, k, c, rate, ratio) == pytest.approx(rate, rel=0.02)


def test_nc1_is_that_of_the_metrics():
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(4), 6)
    H = rng.normal(size=(7, 24))
    theirs = metrics.neural_collapse(torch.tensor(H.T), torch.tensor(labels), torch.tensor(rng.normal(size=(4, 7)))).nc1
    assert _nc1(H, labels) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("times", [[0.0], [1.0, 2.0], [0.0, 2.0, 1.0], [0.0, np.nan]])
def test_times_that_do_not_rise_are_refused(times):
    with pytest.raises(ValueError, match="rise from 0"):
        theory.collapse_flow("ce", 3, 0.01, times)
