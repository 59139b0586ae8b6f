"""What a finished network is measured by, against definitions written out the long way and against scikit-learn."""

import itertools
import math

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import torch

from bcebook.science import calibration, metrics, rejection, retrieval, theory, uniform

RNG = np.random.default_rng(5)
LOGITS, LABELS = 4 * RNG.standard_normal((60, 5)), RNG.integers(5, size=60)


# ---- rejection

def test_scores_are_their_definitions_and_do_not_saturate():
    found, p = rejection.scores(LOGITS), scipy.special.softmax(LOGITS, axis=1)
    assert np.allclose(found["max_logit"], LOGITS.max(axis=1))
    assert np.allclose(np.exp(found["max_softmax"]), p.max(axis=1))
    assert np.allclose(np.exp(found["max_sigmoid"]), scipy.special.expit(LOGITS).max(axis=1))
    assert np.allclose(found["energy"], np.log(np.exp(LOGITS).sum(axis=1)))
    assert np.allclose(found["sum_softplus"], np.log1p(np.exp(LOGITS)).sum(axis=1))
    large = rejection.scores(np.array([[50.0, 0, 0], [60, 0, 0], [1000, 0, 0]]))  # all three have a softmax of 1.0
    for name in ("max_softmax", "max_sigmoid"):
        assert large[name][0] < large[name][1] <= large[name][2] <= 0 and np.isfinite(large[name]).all()


@pytest.mark.parametrize("ties", [False, True])
def test_separation_and_oscr_by_every_pair_and_every_threshold(ties):
    known, unknown = RNG.normal(1, 1, 41), RNG.normal(0, 1, 67)
    if ties:
        known, unknown = known.round(0), unknown.round(0)
    found, correct = rejection.separation(known, unknown), RNG.random(41) < 0.7
    wins = np.mean([(k > u) + 0.5 * (k == u) for k, u in itertools.product(known, unknown)])
    assert found["auroc"] == pytest.approx(wins)
    limits = [t for t in np.concatenate([known, unknown]) if np.mean(known >= t) >= 0.95]
    assert found["fpr95"] == np.mean(unknown >= max(limits))
    right = [[c * ((k > u) + 0.5 * (k == u)) for u in unknown] for k, c in zip(known, correct, strict=True)]
    assert rejection.oscr(known, correct, unknown) == pytest.approx(np.mean(right))
    # the same as an area under the curve, point by point
    at = [math.inf, *sorted({*known, *unknown}, reverse=True)]
    curve = [(np.mean(unknown >= t), np.mean(correct & (known >= t))) for t in at]
    assert rejection.oscr(known, correct, unknown) == pytest.approx(np.trapezoid([y for _, y in curve], [x for x, _ in curve]))
    assert rejection.oscr(known, np.full(41, True), unknown) == pytest.approx(found["auroc"])


def test_a_threshold_accepts_just_the_share_that_it_is_set_for():
    for n in (1, 19, 20, 21, 100, 179, 1000):
        scores = RNG.standard_normal(n)
        t = rejection.threshold(scores)
        assert np.mean(scores >= t) >= 0.95 > np.mean(scores > t)
    assert rejection.threshold(np.array([1.0, 1.0, 1.0, 0.0]), 0.75) == 1.0
    with pytest.raises(ValueError, match="no known score"):
        rejection.threshold(np.array([]))


def test_a_class_that_is_never_predicted_gets_the_threshold_of_all():
    scores, predicted = RNG.standard_normal(90), RNG.integers(3, size=90)
    found = rejection.class_thresholds(scores, predicted, 4)
    assert found.tolist() == [rejection.threshold(scores[predicted == k]) for k in range(3)] + [rejection.threshold(scores)]


# ---- calibration

def test_probabilities_likelihood_and_brier_against_scikit_learn_and_loops():
    p = scipy.special.softmax(LOGITS, axis=1)
    s = scipy.special.expit(LOGITS)
    norm = s / s.sum(axis=1, keepdims=True)
    for kind, expected in (("softmax", p), ("normalised", norm)):
        assert np.allclose(np.exp(calibration.log_probabilities(LOGITS, kind)), expected)
        assert calibration.nll(LOGITS, LABELS, kind) == pytest.approx(sklearn.metrics.log_loss(LABELS, expected, labels=range(5)))
        each = [sum((q[k] - (k == y)) ** 2 for k in range(5)) for q, y in zip(expected, LABELS, strict=True)]
        assert calibration.brier(LOGITS, LABELS, kind) == pytest.approx(np.mean(each))
    onehot = np.eye(5)[LABELS]
    binary = -(onehot * np.log(s) + (1 - onehot) * np.log(1 - s)).sum(axis=1).mean()
    assert calibration.nll(LOGITS, LABELS, "sigmoid") == pytest.approx(binary)
    assert calibration.brier(LOGITS, LABELS, "sigmoid") == pytest.approx(((s - onehot) ** 2).sum(axis=1).mean())
    assert math.isfinite(calibration.nll(1e4 * LOGITS, LABELS, "sigmoid"))
    with pytest.raises(ValueError, match="softmax, sigmoid, normalised"):
        calibration.nll(LOGITS, LABELS, "tanh")


def test_ece_bins_of_equal_mass_by_hand():
    z = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]))
    labels = np.array([0, 1, 0, 1])
    # two bins: confidences 0.6, 0.7 (both right) and 0.8, 0.9 (one right)
    assert calibration.ece(z, labels, "softmax", bins=2) == pytest.approx(0.5 * abs(0.65 - 1) + 0.5 * abs(0.85 - 0.5))
    table = calibration.reliability(LOGITS, LABELS, "softmax")
    assert table[:, 0].tolist() == [4.0] * 15 and (np.diff(table[:, 1]) >= 0).all()
    assert table[:, 2].mean() == pytest.approx(np.mean(LOGITS.argmax(axis=1) == LABELS))
    certain = np.where(np.eye(3)[[0, 1, 2]] > 0, 50.0, -50.0)
    assert calibration.ece(certain, np.arange(3), "softmax") == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", calibration.KINDS)
def test_the_temperature_is_the_best_on_a_grid_and_undoes_a_scale(kind):
    z = 2 * RNG.standard_normal((4000, 5))
    p = np.exp(calibration.log_probabilities(z, "softmax" if kind == "sigmoid" else kind))
    labels = np.array([RNG.choice(5, p=q) for q in p])  # drawn from the probabilities themselves
    best = calibration.temperature(z, labels, kind)
    grid = np.exp(np.linspace(-3, 3, 601))
    assert calibration.nll(z / best, labels, kind) <= min(calibration.nll(z / t, labels, kind) for t in grid) + 1e-6
    if kind != "sigmoid":
        assert best == pytest.approx(1, abs=0.1) and calibration.ece(z / best, labels, kind) < 0.03
    assert calibration.temperature(3 * z, labels, kind) == pytest.approx(3 * best, rel=2e-3)


# ---- retrieval and verification

@pytest.mark.parametrize("metric", retrieval.METRICS)
def test_retrieval_by_loops_and_scikit_learn(metric):
    h, y = RNG.standard_normal((40, 3)) + 2 * np.eye(4, 3)[np.arange(40) % 4], np.arange(40) % 4
    y[-1] = 9  # alone in its class: no query
    near = (sklearn.metrics.pairwise.cosine_similarity(h) if metric == "cosine" else -sklearn.metrics.pairwise_distances(h))
    precision, first = [], []
    for i in range(39):
        others = [j for j in range(40) if j != i]
        precision.append(sklearn.metrics.average_precision_score(y[others] == y[i], near[i, others]))
        first.append(y[max(others, key=lambda j: near[i, j])] == y[i])
    found = retrieval.retrieval(torch.from_numpy(h), torch.from_numpy(y), metric)
    assert found["map"] == pytest.approx(np.mean(precision)) and found["recall_at_1"] == pytest.approx(np.mean(first))
    pairs = list(itertools.combinations(range(40), 2))
    sims, same = np.array([near[a, b] for a, b in pairs]), np.array([y[a] == y[b] for a, b in pairs])
    gaps = [(abs(np.mean(sims[~same] >= t) - np.mean(sims[same] < t)), np.mean(sims[~same] >= t)) for t in sims]
    assert found["equal_error_rate"] == pytest.approx(min(gaps)[1], abs=0.02)  # no threshold meets it exactly


def test_the_equal_error_rate_where_it_is_known():
    assert retrieval.equal_error_rate(np.array([2.0, 3, 0, 1]), np.array([1, 1, 0, 0], bool)) == 0
    assert retrieval.equal_error_rate(np.array([0.0, 1, 2, 3]), np.array([1, 1, 0, 0], bool)) == 1
    assert retrieval.equal_error_rate(np.ones(6), np.array([1, 0, 1, 0, 0, 0], bool)) == pytest.approx(0.5)
    x = RNG.standard_normal(200_000)
    same = np.arange(len(x)) % 2 == 0
    assert retrieval.equal_error_rate(x + 2 * same, same) == pytest.approx(scipy.special.ndtr(-1), abs=0.003)  # two normals


def test_retrieval_needs_pairs():
    h = torch.eye(3)
    for labels, sentence in (([0, 0, 0], "K at least 2"), ([1, 1, 1], "two classes"), ([0, 1, 2], "a class with two")):
        with pytest.raises(ValueError, match=sentence):
            retrieval.retrieval(h, torch.tensor([*labels]), "cosine")
    with pytest.raises(ValueError, match="cosine, euclidean"):
        retrieval.similarities(h, "manhattan")


# ---- geometry

def test_pair_distinctiveness_by_every_pair():
    h, y = RNG.standard_normal((30, 4)), np.repeat(np.arange(3), [5, 10, 15])
    centre = np.mean([h[y == k].mean(axis=0) for k in range(3)], axis=0)
    unit = (h - centre) / np.linalg.norm(h - centre, axis=1, keepdims=True)
    of_classes = [np.mean([unit[i] @ unit[j] for i in np.flatnonzero(y == a) for j in np.flatnonzero(y == b)])
                  for a, b in itertools.combinations(range(3), 2)]
    assert metrics.pair_distinctiveness(h, y) == pytest.approx(1 - np.mean(of_classes))
    etf = theory.simplex_etf(4, 6)[np.arange(20) % 4]
    assert metrics.pair_distinctiveness(etf, np.arange(20) % 4) == pytest.approx(4 / 3)
    assert metrics.pair_distinctiveness(etf + 0.3 * RNG.standard_normal(etf.shape), np.arange(20) % 4) < 4 / 3


def test_effective_rank_against_the_singular_values_and_where_it_is_known():
    h = RNG.standard_normal((50, 8)) * np.arange(1, 9)
    values = np.linalg.svd(h - h.mean(axis=0), compute_uv=False)
    share = values / values.sum()
    for rows in (h, h[:6]):  # more rows than columns, and fewer
        values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
        share = values / values.sum()
        assert metrics.effective_rank(rows) == pytest.approx(math.exp(-np.sum(share * np.log(share + 1e-300))), rel=1e-6)
    assert metrics.effective_rank(theory.simplex_etf(5, 9)) == pytest.approx(4)
    assert math.isnan(metrics.effective_rank(np.ones((4, 3))))


def test_nc0_and_nc4():
    weight = RNG.standard_normal((4, 6))
    assert metrics.nc0(weight) == pytest.approx(np.linalg.norm(weight.mean(axis=0)) / np.sqrt((weight ** 2).sum()))
    assert metrics.nc0(theory.simplex_etf(5, 7)) == pytest.approx(0, abs=1e-12)
    assert metrics.nc0(np.ones((4, 2))) == pytest.approx(0.5)  # 1 / sqrt(K)
    h, z = torch.from_numpy(RNG.standard_normal((80, 3))), torch.from_numpy(RNG.standard_normal((80, 4)))
    means = torch.from_numpy(RNG.standard_normal((4, 3)))
    differs = [int(np.argmin([torch.dist(x, m) for m in means])) != int(s.argmax()) for x, s in zip(h, z, strict=True)]
    assert metrics.nc4(h, z, means) == pytest.approx(np.mean(differs))


def test_a_threshold_for_each_class_serves_most_of_its_own_samples():
    logits = LOGITS + 4 * np.eye(5)[LABELS]
    z, y = torch.from_numpy(logits), torch.from_numpy(LABELS)

    def served(k: int, t: float) -> int:
        rows = logits[LABELS == k]
        return sum(row[k] > t > max(np.delete(row, k)) for row in rows)

    found = uniform.class_thresholds(z, y)
    for k, t in enumerate(found):
        best = max(served(k, each) for each in np.linspace(-15, 15, 3001))
        assert served(k, t) >= best > 0
    assert math.isnan(uniform.class_thresholds(torch.tensor([[1.0, 0, 0]]), torch.tensor([0]))[1])
