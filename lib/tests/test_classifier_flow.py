"""The flow of bias and classifier: against whole matrices that are trained, its limits, its rest."""

import numpy as np
import pytest
import torch

from bcebook.science import losses, theory

PAPER_C = 5e-4 * 12.8**0.5


def frame(k: int, cosine: float) -> np.ndarray:
    """(K, K) columns of length 1 with that cosine between any two."""
    gram = np.full((k, k), cosine) + (1 - cosine) * np.eye(k)
    values, vectors = np.linalg.eigh(gram)
    return vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T


def trained(k, lambda_w, lambda_h, lambda_b, start, scores, cosine, time, rate, ratio=30.0):
    """(T, mean bias) of W (K, K) and b under gradient descent, one sample a class, the angles of the features held:
    their length has `ratio` times the rate. PyTorch's gradients of the loss that trains networks."""
    columns = torch.tensor(frame(k, cosine))
    wanted = np.full((k, k), scores[1]) + (scores[0] - scores[1]) * np.eye(k)
    raw = torch.tensor(wanted) @ torch.linalg.inv(columns)                      # W for features of length 1
    length = (lambda_w * raw.square().sum() / lambda_h / columns.square().mean(dim=0).sum()) ** 0.25
    W = (raw / length).requires_grad_()
    length, b = length.clone().requires_grad_(), torch.full((k,), float(start), dtype=torch.float64, requires_grad=True)
    steps, path = int(time / rate), [start]
    own = torch.eye(k, dtype=torch.float64)

    def move(parameters, rates):
        logits = (W @ columns * length).T - b
        decay = lambda_w * W.square().sum() + lambda_h * (length * columns).square().sum(dim=0).mean()
        value = losses.LOSSES["bce"](logits, own).mean() + decay / 2 + lambda_b * b.square().sum() / 2
        with torch.no_grad():
            for parameter, each, by in zip(parameters, torch.autograd.grad(value, parameters), rates, strict=True):
                parameter -= by * each

    for _ in range(300):
        move([length], [ratio * rate])
    for _ in range(steps):
        move([W, b, length], [rate, rate, ratio * rate])
        path.append(float(b.detach().mean()))
    keep = np.unique(np.linspace(0, steps, 40).astype(int))
    return keep * rate, np.array(path)[keep]


@pytest.mark.parametrize(("lambda_w", "lambda_h", "lambda_b", "cosine", "scores"), [
    (0.01, 0.1, 0.0, 0.0, (3.0, -2.0)), (0.01, 0.1, 0.0, 0.4, (3.0, -2.0)), (0.003, 0.4, 0.002, 0.2, (4.0, 0.5)),
    (0.02, 0.02, 0.0, -0.05, (5.0, -1.0))])
def test_it_is_what_whole_matrices_do_whose_features_are_quick(lambda_w, lambda_h, lambda_b, cosine, scores):
    k, c = 10, np.sqrt(lambda_w * lambda_h / 10)
    times, path = trained(k, lambda_w, lambda_h, lambda_b, 1.0, scores, cosine, time=40.0, rate=0.015)
    found = theory.classifier_flow(k, c, lambda_w, 1.0, *scores, times, np.full(len(times), cosine), lambda_b)
    moved = abs(path[-1] - path[0])
    assert moved > 0.3 and np.abs(found.bias - path).max() < 0.02 * moved
    alone = theory.bias_flow(k, c, 1.0, times, lambda_b, "nonnegative").bias
    assert np.abs(alone - path).max() > 3 * np.abs(found.bias - path).max()  # which the bias's own flow does not say


def test_with_a_quick_classifier_it_is_the_flow_of_the_bias():
    """Features >= 0 that rest are orthogonal: the cosine is 0."""
    times, apart = np.linspace(0, 3000, 20), []
    alone = theory.bias_flow(10, PAPER_C, 4.0, times, features="nonnegative")
    for lambda_w in (1e-3, 1e-2, 1e-1):
        both = theory.classifier_flow(10, PAPER_C, lambda_w, 4.0, alone.positive[0], alone.negative[0], times,
                                      np.zeros(20))
        apart.append(np.abs(both.bias - alone.bias).max())
    assert apart[0] > 5 * apart[1] > 25 * apart[2] and apart[2] < 0.01, apart
    assert both.positive == pytest.approx(alone.positive, abs=0.01)


def test_it_comes_to_rest_at_the_minimum():
    best = theory.minimum("bce", 10, PAPER_C, 5e-5, "nonnegative")
    late = theory.classifier_flow(10, PAPER_C, 5e-4, 9.0, 4.0, 1.0, [0.0, 2e5], [0.0, 0.0], 5e-5)
    assert [late.bias[1], late.positive[1], late.negative[1]] == pytest.approx(
        [best.bias, best.positive, best.negative], abs=1e-4)


def test_the_common_part_is_that_of_a_gram_matrix():
    for k, cosine in ((3, 0.5), (10, -0.08), (10, 0.9)):
        values = np.linalg.svd(frame(k, cosine), compute_uv=False)
        common = np.linalg.norm(frame(k, cosine).mean(axis=1)) * np.sqrt(k)
        contrast = np.sqrt((np.sum(values**2) - common**2) / (k - 1))
        assert theory.common_part(k, cosine) == pytest.approx(common / contrast)
    assert theory.common_part(10, -0.2) == theory.common_part(10, -1 / 9) == 0.1  # rounding may lie beyond a simplex
    assert theory.common_part(10, np.zeros(3)).tolist() == [1, 1, 1]


def test_bad_input_is_refused_and_nothing_stays_nothing():
    good = {"num_classes": 10, "c": PAPER_C, "lambda_w": 5e-4, "bias": 0.0, "positive": 1.0, "negative": -1.0,
            "times": [0.0, 1.0], "cosines": [0.1, 0.0]}
    for bad in ({"times": [1.0, 2.0]}, {"times": [0.0, 0.0]}, {"times": [0.0]}, {"cosines": [0.0, 1.0]},
                {"cosines": [0.0, np.nan]}, {"bias": np.nan}, {"lambda_w": 0.0}, {"c": -1.0}, {"lambda_b": -1.0}):
        with pytest.raises(ValueError):
            theory.classifier_flow(**good | bad)
    still = theory.classifier_flow(**good | {"positive": 0.0, "negative": 0.0, "times": [0.0, 500.0]})
    assert still.positive.tolist() == [0, 0] and still.bias[1] > 1  # no classifier, no features: the bias falls to its own
