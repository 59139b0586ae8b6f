"""What a run measures beyond the paper's own numbers, against slow, literal versions and planted causes."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from bcebook.science import metrics, uniform
from bcebook.training import datasets, measure
from bcebook.runs.store import RunStore
from bcebook.training.sessions import train


@pytest.fixture(scope="module")
def sample():
    """Features (N, d) around class means of different lengths, labels, weight, bias: nothing symmetric."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    means = rng.normal(size=(4, 6)) * 3
    features = means[labels] * rng.uniform(0.3, 2, size=(300, 1)) + rng.normal(size=(300, 6)) * 1.5
    return features, labels, means + 0.2 * rng.normal(size=(4, 6)), rng.normal(size=4)


def test_the_scales_are_their_definitions(sample):
    h, y, w, b = sample
    z = h @ w.T - b
    by_hand = {"no_bias": h @ w.T, "unit": (h / np.linalg.norm(h, axis=1)[:, None]) @ w.T, "centred": z - z.mean(1)[:, None],
               "log_softmax": log_softmax(z, axis=1)}
    found = uniform.uniform_accuracy_scales(h, y, w, b)
    assert found == {name: uniform.uniform_accuracy(values, y)[0] for name, values in by_hand.items()}
    assert len(set(found.values())) == 4  # the sample tells them apart


def test_planted_causes_show_on_their_own_scale(sample):
    """Lengths alone are mended by unit length, a shift of each sample by centring; log-softmax mends both here."""
    rng, y, w = np.random.default_rng(1), np.arange(400) % 5, np.eye(5) - 0.2
    still = w[y] * 4
    stretched = np.eye(5)[y] * np.geomspace(0.05, 20, 400)[:, None]
    found = uniform.uniform_accuracy_scales(stretched, y, np.eye(5) + 1, np.full(5, 0.5))  # others' scores: half the own
    assert found["unit"] == 1 and uniform.uniform_accuracy(stretched @ (np.eye(5) + 1) - 0.5, y)[0] < 0.9
    shifted = np.hstack([still, rng.normal(size=(400, 1)) * 20])  # a sixth direction on which every row has a part
    rows = np.hstack([w, np.ones((5, 1))])
    found = uniform.uniform_accuracy_scales(shifted, y, rows, np.zeros(5))
    assert found["centred"] == found["log_softmax"] == 1 and found["no_bias"] < 0.3
    biased = uniform.uniform_accuracy_scales(still, y, w, np.array([-3.0, -1, 0, 1, 3]))  # classes with thresholds of their own
    assert biased["no_bias"] == biased["unit"] == 1 > biased["centred"]


def test_log_softmax_serves_at_least_what_is_surer_than_one_half(sample):
    h, y, w, b = sample
    p = np.exp(log_softmax(h @ w.T - b, axis=1))[np.arange(300), y]
    assert uniform.uniform_accuracy_scales(h, y, w, b)["log_softmax"] >= (p > 0.5).mean() > 0.3


def test_a_shift_by_the_middle_of_the_two_largest_makes_uniform_accuracy_plain_accuracy(sample):
    h, y, w, b = sample
    z = h @ w.T - b
    middle = np.sort(z, axis=1)[:, -2:].mean(1)
    assert uniform.uniform_accuracy(z - middle[:, None], y)[0] == uniform.accuracy(z, y) < 1


def test_a_threshold_serves_what_it_serves(sample):
    h, y, w, b = sample
    z = h @ w.T - b
    share, best = uniform.uniform_accuracy(z, y)
    assert uniform.served_share(z, y, best) == share
    for t in (-1.0, 0.0, 2.0):
        assert uniform.served_share(z, y, t) == np.mean([z[i, k] > t and np.delete(z[i], k).max() < t for i, k in enumerate(y)]) <= share
    assert math.isnan(uniform.served_share(z, y, math.nan))
    np.testing.assert_allclose(uniform.margins(torch.from_numpy(z), torch.from_numpy(y)),
                               [z[i, k] - np.delete(z[i], k).max() for i, k in enumerate(y)])


def test_cosines_of_known_frames():
    y, turn = np.repeat(np.arange(6), 3), np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    orthogonal = (np.eye(6, 8) @ turn)[y]
    raw, centred = (metrics.mean_cosines(orthogonal, y, c) for c in (False, True))
    assert raw.mean == pytest.approx(0, abs=1e-12) and centred.mean == pytest.approx(-1 / 5)
    assert max(raw.std, centred.std) < 1e-12 and centred.largest == pytest.approx(-1 / 5)
    simplex = orthogonal - orthogonal.mean(0)
    assert metrics.mean_cosines(simplex, y, False).mean == pytest.approx(-1 / 5)
    uneven = np.array([[1.0, 0], [1, 1], [0, 1]])[np.repeat(np.arange(3), 2)]
    found = metrics.mean_cosines(uneven, np.repeat(np.arange(3), 2), False)
    by_hand = [2**-0.5, 0, 2**-0.5]
    assert (found.mean, found.std, found.largest) == pytest.approx((np.mean(by_hand), np.std(by_hand), 2**-0.5))


def test_lengths():
    h, y = np.array([[3.0, 4], [0, 5], [0, 1], [3, 0]]), np.array([0, 0, 1, 1])
    found = metrics.feature_lengths(h, y)
    assert found.mean == 3.5 and found.spread == pytest.approx(np.std([5, 5, 1, 3]) / 3.5) and found.within == pytest.approx(0.5 / 3.5)


def test_a_run_keeps_all_of_it(small, tmp_path):
    """Every figure that later chapters ask for, on both splits; best over every epoch; measured densely at first."""
    run = train(small(model="convnet", train_size=300, epochs=24), RunStore(tmp_path), "cpu", progress=False)
    for split in ("train", "test"):
        for name in ("uniform_accuracy_no_bias", "uniform_accuracy_unit", "uniform_accuracy_centred", "uniform_accuracy_log_softmax",
                     "raw_cosine_mean", "raw_cosine_std", "centred_cosine_mean", "centred_cosine_largest", "length_mean",
                     "length_spread", "length_within", "margin_0.05", "compactness", "distinctiveness"):
            assert math.isfinite(run.final[f"{split}_{name}"]), name
        for scale in ("no_bias", "unit", "centred", "log_softmax"):
            assert 0.3 < run.final[f"{split}_uniform_accuracy_{scale}"] <= run.final[f"{split}_accuracy"] or scale == "no_bias"
        parts = [run.final[f"{split}_gap_{part}"] for part in ("biases", "rows", "lengths", "directions")]
        lost = run.final[f"{split}_accuracy"] - run.final[f"{split}_uniform_accuracy"]
        assert sum(parts) == pytest.approx(lost, abs=0.01) and max(map(abs, parts)) > 0  # the rounding of a few scores
    assert run.final["test_served_by_train_threshold"] <= run.final["test_uniform_accuracy"]
    every = [math.isfinite(v) for v in run.history["test_accuracy"]]
    assert all(every) and run.best["test_accuracy"] == max(run.history["test_accuracy"][1:])
    assert set(range(21)) <= {e for e, v in enumerate(run.history["nc1"]) if math.isfinite(v)} == measure.measured_epochs(24)
    assert run.history["compactness"][-1] == run.final["train_compactness"]
    assert run.history["raw_cosine"][-1] == run.final["train_raw_cosine_mean"]


def test_the_groups_of_a_long_tail_by_hand(sample):
    """Each test image looked up by itself; a class of exactly 100 or 20 images is medium-shot."""
    h, _, w, b = sample
    train = np.repeat(range(4), (101, 100, 20, 19))
    y = np.random.default_rng(3).permutation(np.repeat(range(4), 75))
    logits = h @ w.T - b
    outputs = [measure.Outputs(*map(torch.from_numpy, (z, h, labels))) for z, labels in ((np.zeros((240, 4)), train), (logits, y))]
    hits = {"many": [], "medium": [], "few": []}
    for z, label in zip(logits, y, strict=True):
        images = int((train == label).sum())
        group = "many" if images > 100 else "few" if images < 20 else "medium"
        hits[group].append(z.argmax() == label)
    found = measure.by_shots(*outputs)
    assert found == {f"test_accuracy_{name}": pytest.approx(np.mean(each)) for name, each in hits.items()}
    assert [len(each) for each in hits.values()] == [75, 150, 75] and len(set(found.values())) == 3
    small = measure.Outputs(outputs[0].logits[101:201], outputs[0].features, outputs[0].labels[101:201] * 0)  # 100 of class 0
    left = measure.by_shots(small, outputs[1])  # classes without an image have fewer than 20
    assert math.isnan(left["test_accuracy_many"]) and left["test_accuracy_medium"] == np.mean(logits[y == 0].argmax(1) == 0)
    assert left["test_accuracy_few"] == np.mean(logits[y > 0].argmax(1) == y[y > 0])


def test_only_a_long_tailed_run_has_the_groups_and_a_stored_one_keeps_them(small, tmp_path):
    store = RunStore(tmp_path)
    plain = train(small(epochs=1), store, "cpu", progress=False)
    tail = train(small(epochs=1, train_size=None, imbalance_factor=5.0), store, "cpu", progress=False)  # 140 to 28 images
    assert set(tail.final) - set(plain.final) == {f"test_accuracy_{name}" for name in ("many", "medium", "few")}
    assert set(plain.final) <= set(tail.final) and set(plain.history) == set(tail.history)
    back = RunStore(tmp_path).find(tail.config).final
    assert math.isnan(back["test_accuracy_few"]) and back["test_accuracy_many"] == tail.final["test_accuracy_many"]
    images = np.bincount(datasets.load("digits").y_test)
    groups = [images[:2].sum(), images[2:].sum()]  # training images: 140, 117, 97, ..., 28
    mean = np.dot(groups, [tail.final["test_accuracy_many"], tail.final["test_accuracy_medium"]]) / images.sum()
    assert tail.final["test_accuracy"] == pytest.approx(mean)
