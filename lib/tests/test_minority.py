"""Minority collapse: the theorem's threshold, its proof's inequality, and how far a tail is open."""

import numpy as np
import pytest
import torch

from bcebook.report import tails
from bcebook.science import metrics, minority, theory
from bcebook.training import measure
from bcebook.training.measure import Outputs

OPEN = {name: sizes for name, sizes in tails.CASES.items() if len(set(sizes)) > 1}


def test_bisection_finds_the_threshold_of_the_theorem_for_both_losses():
    table = tails.THRESHOLDS.frame
    assert len(table) == 10 and set(table["lambda_b"]) == {0, 0.01}
    np.testing.assert_allclose(table[["ce", "bce"]], 1, atol=0.001)


def test_neither_loss_opens_the_tail_further_in_general():
    """In relative distance. With free biases BCE does just above the threshold, but not for 60, 60, 30, 8, 8."""
    table = tails.opening(OPEN, (0.98, 1.05, 100.0)).set_index(["case", "lambda_b", "multiple"])
    assert (table.xs(0.98, level="multiple")[["ce", "bce"]] == 0).all(axis=None)  # merged
    assert table["ratio"].min() < 0.8 and table["ratio"].max() > 1.4
    near = table.xs((0.0, 1.05), level=("lambda_b", "multiple"))["ratio"]
    assert list(near.index[near < 1]) == ["2 × 60, 30, 2 × 8"]
    assert (table.xs((0.01, 1.05), level=("lambda_b", "multiple"))["ratio"] < 0.95).all()
    W = theory.solve("ce", 5, 5, None, *[np.sqrt(8 / 166 / 1.05)] * 2, 0.0, counts=np.array([60, 60, 30, 8, 8]) / 166).W
    assert table.loc[("2 × 60, 30, 2 × 8", 0.0, 1.05), "ce"] == pytest.approx(
        np.linalg.norm(W[3] - W[4]) / np.linalg.norm(W[0] - W[1]), rel=1e-5)


@pytest.mark.parametrize("loss", theory.LOSSES)
def test_the_two_sides_in_the_full_problem(loss):
    """With counts, N and unequal decays as the theorem states it, an own feature distance, and its formula for the
    rows."""
    counts, lambda_h = np.array([40.0, 25.0, 4.0, 4.0, 4.0]), 2e-3
    total = counts.sum()
    for factor, merged in ((0.99, True), (1.2, False)):
        lambda_w = 4 / factor / total**2 / lambda_h
        found = theory.solve(loss, 5, 5, None, lambda_w, lambda_h, 1e-3, counts=counts, restarts=2)
        rows, features = found.W[2:], found.H[:, 2:].T
        apart = [np.linalg.norm(x[[0, 0, 1]] - x[[1, 2, 2]], axis=1) for x in (rows, features)]
        alpha = (found.W @ found.H * np.sqrt(counts))[2:, 2:] @ np.array([1, -1, 0]) @ np.array([1, -1, 0]) / 2
        if merged:
            assert max(map(np.max, apart)) < 1e-6 and np.ptp(found.b[2:]) < 1e-8
        else:
            np.testing.assert_allclose(apart[0], np.sqrt(2 * alpha) * (lambda_h / lambda_w) ** 0.25, rtol=1e-6)
            assert min(map(np.min, apart)) > 0.1


@pytest.mark.parametrize("features", theory.FEATURES)
def test_a_small_tail_merges_in_any_number_of_dimensions(features):
    """Random settings with fewer dimensions than classes: at 3 % fewer samples than the theorem's size rows, features
    and biases of the tail agree; at ten times that size, in two dimensions or more, some tails are open."""
    random, opened = np.random.default_rng(3), 0
    for trial in range(8):
        k = int(random.integers(4, 8))
        small, dim = int(random.integers(2, k)), int(random.integers(1, k))
        m, loss = float(random.integers(1, 8)), ("ce", "bce")[trial % 2]
        counts = np.array([*random.integers(8, 60, k - small), *[m] * small], float)
        lambda_h, lambda_b = 10 ** random.uniform(-4, -2), float(random.choice([0, 1e-3, 1e-2]))
        for factor in (0.97, 10.0):
            lambda_w = m / factor / counts.sum() ** 2 / lambda_h
            found = theory.solve(loss, k, dim, None, lambda_w, lambda_h, lambda_b, counts=counts, features=features)
            tail = slice(k - small, None)
            apart = max(np.ptp(found.W[tail], axis=0).max(), np.ptp(found.H[:, tail], axis=1).max())
            if factor < 1:
                assert apart < 1e-6 and np.ptp(found.b[tail]) < 1e-6
            elif dim > 1:
                opened += apart > 0.1
    assert opened >= 3


@pytest.mark.parametrize("loss", theory.LOSSES)
def test_the_inequality_behind_the_theorem_holds_away_from_any_minimum(loss):
    """f minus f with the tail averaged, against the sum that the proof bounds it by, at drawn W, H >= 0 and b with
    several samples a class; close to zero changes it is an equality to second order in the product."""
    random = np.random.default_rng(0)
    sizes, tail = np.array([5, 3, 2, 2, 2]), slice(2, None)
    labels = np.repeat(np.arange(5), sizes)
    of_tail, m, n = labels >= 2, 2, sizes.sum()

    def value(W, H, b, lambda_w, lambda_h):  # H (n, d): a row a sample
        Z = torch.tensor(H @ W.T - b)
        target = torch.tensor(labels)
        sigmoid = torch.nn.functional.binary_cross_entropy_with_logits
        each = (torch.nn.functional.cross_entropy(Z, target) if loss == "ce" else
                sigmoid(Z, torch.nn.functional.one_hot(target, 5).double(), reduction="sum") / n)
        return float(each) + lambda_w / 2 * (W**2).sum() + lambda_h / 2 * (H**2).sum()

    tight = []
    for trial in range(200):
        size = 10 ** random.uniform(-3, 0.5)
        W, H, b = (random.normal(size=shape) for shape in ((5, 3), (n, 3), 5))
        H = np.abs(H)
        for x, part in ((W, tail), (H, of_tail), (b, tail)):
            mean = x[part].mean(axis=0)
            x[part] = mean + size * (x[part] - mean)
        lambda_w, lambda_h = 10 ** random.uniform(-4, 0, 2)
        mean = [x.copy() for x in (W, H, b)]
        for x, part in zip(mean, (tail, of_tail, tail), strict=True):
            x[part] = x[part].mean(axis=0)
        assert mean[1].min() >= 0
        dW, dH = (W - mean[0])[labels[of_tail]], (H - mean[1])[of_tail]
        bound = (lambda_w / 2 / m * dW**2 + lambda_h / 2 * dH**2 - dW * dH / n).sum()
        gain = value(W, H, b, lambda_w, lambda_h) - value(*mean, lambda_w, lambda_h)
        assert gain >= bound - 1e-12
        tight.append((gain - bound) / (size * (1 + size)))
    assert min(tight) < 1e-2  # it is no loose bound


def test_only_shares_and_one_product_count():
    sizes = np.array([140, 30, 12, 7, 7])
    total, batch, decays = sizes.sum(), 64, (0.3, 7e-4)
    full = theory.solve("bce", 5, 5, None, decays[0], decays[1] * batch / total, 0.0, counts=sizes)
    short = minority.at_share("bce", sizes, batch * decays[0] * decays[1])
    np.testing.assert_allclose(full.W @ full.H, short.W @ short.H, atol=1e-6)
    assert short.objective == pytest.approx(full.objective, abs=1e-12)


def test_tail_geometry_by_hand():
    # tail: three unit vectors in the plane at 120 degrees, head: the same three times as long; their mean is zero
    ring = np.array([[np.cos(a), np.sin(a)] for a in np.radians([90, 210, 330])])
    weight, counts = np.concatenate([3 * ring, ring]), np.array([50, 40, 30, 3, 2, 2])
    tail = metrics.tail_geometry(weight, counts)
    assert tail.distance == pytest.approx(1 / 3) and tail.cosine == pytest.approx(-0.5)
    shifted = metrics.tail_geometry(weight + np.array([5.0, -2.0]), counts)
    assert vars(shifted) == pytest.approx(vars(tail))
    merged = np.concatenate([3 * ring, np.ones((3, 2))])
    assert vars(metrics.tail_geometry(merged, counts)) == pytest.approx({"distance": 0, "cosine": 1}, abs=1e-12)
    assert np.isnan(metrics.tail_geometry(weight, np.array([9, 8, 7, 6, 5, 5])).distance)  # 9 is not twice 5
    # no three, not even two, on either side
    assert np.isnan(metrics.tail_geometry(weight[:3], counts[[0, 1, 5]]).cosine)


def test_a_finished_run_says_how_its_tail_lies():
    labels = torch.tensor([0] * 8 + [1] * 6 + [2] * 2 + [3] * 2)
    generator = torch.Generator().manual_seed(0)
    classifier = torch.nn.Linear(3, 4)
    features = torch.randn(18, 3, generator=generator)
    out = Outputs(features @ classifier.weight.detach().T, features, labels)
    figures = measure.final(classifier, out, out)[0]
    W = classifier.weight.detach().numpy()
    assert figures["tail_distance"] == pytest.approx(np.linalg.norm(W[2] - W[3]) / np.linalg.norm(W[0] - W[1]),
                                                     rel=1e-6)
    assert -1 <= figures["tail_cosine"] <= 1
