"""The slow flow of the bias: its resting scores against a plain minimisation, the path against a model that is trained
by gradient descent, its rest against the minimum."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from bcebook.science import theory

PAPER_C = 5e-4 * 12.8**0.5


def energy(k, c, b, features):
    """Loss and decay of scores (p, q) at a bias, written as the lead has them."""
    def f(x):
        p, q = x
        s1, s2 = abs(p - q), abs(p + (k - 1) * q)
        decay = c * ((k - 1) * s1 + s2) if features == "free" or s2 >= s1 else c * k * np.hypot(p, np.sqrt(k - 1) * q)
        return np.logaddexp(0, b - p) + (k - 1) * np.logaddexp(0, q - b) + decay
    return f


@pytest.mark.parametrize("features", theory.FEATURES)
def test_resting_scores_are_the_minimum_at_a_bias(features):
    random = np.random.default_rng(1)
    for _ in range(40):
        k, b = int(random.integers(2, 13)), random.uniform(-4, 11)
        c = 10 ** random.uniform(-4, np.log10(1.3 / k))  # beyond 1/K, where scores vanish, too
        p, q = theory.resting_scores(k, c, b, features)
        f = energy(k, c, b, features)
        starts = ([p + 0.3, q - 0.2], [1.0, -1.0], [b + 2, b - 2], [1e-3, -1e-3])
        options = {"xatol": 1e-10, "fatol": 1e-15, "maxiter": 20_000}
        best = min(minimize(f, start, method="Nelder-Mead", options=options).fun for start in starts)
        assert f((p, q)) <= best + 1e-10, (k, c, b)


@pytest.mark.parametrize("features", theory.FEATURES)
def test_the_flow_comes_to_rest_at_the_minimum(features):
    for k in (3, 10, 100):
        for lambda_b in (0.0, 5e-4, 0.05):
            c = theory.effective_c(5e-4, 5e-4, 128, k)
            bias = theory.minimum("bce", k, c, lambda_b, features).bias
            rest, time = theory.forgetting_time(k, c, lambda_b, features)
            assert rest == pytest.approx(bias, abs=1e-4)
            assert 0 < time < np.inf or lambda_b == 0.05
            assert abs(theory.speed(k, c, rest, lambda_b, features)) < 1e-9


def test_without_decay_no_bias_moves_faster_than_c():
    random = np.random.default_rng(2)
    for _ in range(200):
        k, b = int(random.integers(2, 40)), random.uniform(-6, 14)
        c = 10 ** random.uniform(-4.5, np.log10(0.9 / k))
        for features in theory.FEATURES:
            assert abs(theory.speed(k, c, b, 0.0, features)) <= c * (1 + 1e-9)


def trained(ratio, k=10, c=0.01, start=0.0, time=300.0, rate=0.5):
    """(T, mean bias) of W, H and b under gradient descent, the bias's rate `ratio` times the others': one sample a
    class, W and H settled at the start's bias before it may move."""
    random = np.random.default_rng(0)
    W, H, b = 0.3 * random.normal(size=(k, k)), 0.3 * random.normal(size=(k, k)), np.full(k, start)
    own = np.eye(k)

    def step(free: bool):
        nonlocal W, H, b
        errors = (expit(W @ H - b[:, None]) - own) / k  # of the mean over the samples
        W, H, b = (W - rate * (errors @ H.T + c * W), H - rate * (W.T @ errors + c * H),
                   b + ratio * rate * errors.sum(axis=1) if free else b)

    for _ in range(6000):
        step(False)
    steps = int(time / (ratio * rate))
    path = [b.mean()]
    for _ in range(steps):
        step(True)
        path.append(b.mean())
    keep = np.unique(np.linspace(0, steps, 60).astype(int))
    return keep * ratio * rate, np.array(path)[keep]


def test_the_flow_is_the_limit_of_a_slow_bias():
    """Largest distance along the whole path: smaller at each tenth of the rate, small at a hundredth."""
    apart = []
    for ratio in (1.0, 0.1, 0.01):
        times, path = trained(ratio)
        apart.append(float(np.abs(theory.bias_flow(10, 0.01, 0.0, times).bias - path).max()))
    assert apart[0] > apart[1] > apart[2] and apart[2] < 0.03, apart


def test_the_time_scale_is_that_of_the_path():
    """Near its rest the distance falls by e in each forgetting time."""
    for features in theory.FEATURES:
        rest, time = theory.forgetting_time(10, PAPER_C, 0.0, features)
        path = theory.bias_flow(10, PAPER_C, rest + 0.05, np.array([0.0, 0.5, 1.0]) * time, features=features).bias
        assert np.diff(np.log(path - rest)) == pytest.approx([-0.5, -0.5], rel=0.05)


def test_paths_broadcast_and_bad_input_is_refused():
    both = theory.bias_flow(10, PAPER_C, np.array([[0.0], [8.0]]), np.array([0.0, 100.0, 1000.0]))
    assert both.bias.shape == both.positive.shape == (2, 3) and both.bias[:, 0] == pytest.approx([0, 8])
    assert both.bias[1, 2] == pytest.approx(theory.bias_flow(10, PAPER_C, 8.0, 1000.0).bias, rel=1e-6)
    once = theory.bias_flow(10, PAPER_C, float(both.bias[0, 1]), 900.0).bias  # a path goes on from any of its points
    assert once == pytest.approx(both.bias[0, 2], rel=1e-5)
    for bad in ({"time": -1.0}, {"start": np.nan}, {"c": 0.0}, {"features": "signed"}, {"lambda_b": -1.0}):
        with pytest.raises(ValueError):
            theory.bias_flow(**{"num_classes": 10, "c": PAPER_C, "start": 0.0, "time": 1.0} | bad)


@pytest.mark.parametrize("features", theory.FEATURES)
def test_the_noise_of_a_batch_is_that_of_batches_drawn(features):
    random, k, b, size = np.random.default_rng(0), 7, 2.0, 32
    p, q = theory.resting_scores(k, 0.01, b, features)
    logits = np.where(np.eye(k, dtype=bool), p, q) - b                     # column y: a sample of class y
    labels = random.integers(0, k, (200_000, size))
    gradient = (labels == 0) - expit(logits[0])[labels]                    # of bias 0: minus the residual
    assert gradient.mean(axis=1).std() == pytest.approx(theory.batch_noise(k, 0.01, b, size, features), rel=0.01)
    assert gradient.mean() == pytest.approx(-theory.speed(k, 0.01, b, 0.0, features), abs=2e-4)
