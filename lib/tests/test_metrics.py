"""The measures against slow, literal versions of their definitions, and against facts known by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bcebook.science.metrics import NeuralCollapse, compactness, distinctiveness, neural_collapse
from bcebook.science.summaries import ScoreSummary, decision_scores_summary, score_summary
from bcebook.science.uniform import accuracy, uniform_accuracy

seldom = settings(deadline=None, derandomize=True, max_examples=50)


@st.composite
def clusters(draw, min_per_class=1):
    """Features (N, d) in classes of unequal size and shuffled order, labels (N,), weight (K, d)."""
    sizes = draw(st.lists(st.integers(min_per_class, 6), min_size=2, max_size=5))
    d = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    means = rng.standard_normal((len(sizes), d)) + draw(st.sampled_from([0.0, 10.0]))
    return means[labels] + 0.3 * rng.standard_normal((len(labels), d)), labels, rng.standard_normal((len(sizes), d))


def simplex(K: int, d: int) -> np.ndarray:
    """Simplex ETF (K, d), d >= K, turned at random; written from its definition."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    return np.hstack([np.eye(K) - 1 / K, np.zeros((K, d - K))]) @ turn


# ---- neural collapse ------------------------------------------------------------------------------------------------

def collapse_by_definition(features: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> NeuralCollapse:
    """Loops, a d x d scatter and numpy's pinv."""
    K, d = weight.shape
    mu = np.array([features[labels == k].mean(axis=0) for k in range(K)])
    mu_G = mu.mean(axis=0)
    S_W, S_B = np.zeros((d, d)), np.zeros((d, d))
    for h, y in zip(features, labels):
        S_W += np.outer(h - mu[y], h - mu[y]) / len(features)
    for k in range(K):
        S_B += np.outer(mu[k] - mu_G, mu[k] - mu_G) / K
    Hc = (mu - mu_G).T
    etf = (np.eye(K) - np.ones((K, K)) / K) / math.sqrt(K - 1)
    error = lambda M: np.linalg.norm(M / np.linalg.norm(M) - etf)
    nc1 = np.trace(S_W @ np.linalg.pinv(S_B, rcond=1e-9)) / K
    return NeuralCollapse(nc1, error(weight @ weight.T), error(Hc.T @ Hc), error(weight @ Hc))


def close(a: NeuralCollapse, b: NeuralCollapse, rel: float = 1e-6) -> bool:
    return vars(a) == pytest.approx(vars(b), rel=rel, abs=1e-9)


@given(clusters())
@seldom
def test_neural_collapse_is_its_definition(case):
    assert close(neural_collapse(*case), collapse_by_definition(*case))


def test_more_rows_than_a_chunk():
    rng = np.random.default_rng(2)
    labels = np.concatenate([np.arange(3), rng.integers(3, size=33_000)])
    features = (rng.standard_normal((33_003, 64)) + 5 * np.eye(3, 64)[labels]).astype(np.float32)  # 2^15 rows a chunk
    weight = rng.standard_normal((3, 64))
    want = collapse_by_definition(features.astype(float), labels, weight)
    assert close(neural_collapse(features, labels, weight), want)
    mu = np.array([features[labels == k].mean(axis=0, dtype=float) for k in range(3)])
    unit = (features - mu.mean(axis=0)) / np.linalg.norm(features - mu.mean(axis=0), axis=1, keepdims=True)
    within = [((unit[labels == k].sum(axis=0)**2).sum() / n - 1) / (n - 1) for k, n in enumerate(np.bincount(labels))]
    assert compactness(features, labels) == pytest.approx(np.mean(within), rel=1e-9)


def test_complete_collapse_is_zero():
    K, d = 6, 9
    weight = simplex(K, d)
    labels = np.repeat(np.arange(K), 4)
    assert vars(neural_collapse(3 * weight[labels] + 1, labels, 0.5 * weight)) == pytest.approx(
        {"nc1": 0, "nc2": 0, "nc2_means": 0, "nc3": 0}, abs=1e-12)


def test_nc1_by_hand():
    # Two classes on a line at -+2, each -+1 around its mean: S_W = 1, S_B = 4, K = 2.
    features = np.array([[-3.0], [-1.0], [1.0], [3.0]])
    assert neural_collapse(features, np.array([0, 0, 1, 1]), np.array([[-1.0], [1.0]])).nc1 == pytest.approx(1 / 8)


def test_an_orthogonal_frame_is_off_by_its_mean():
    # W W' / |.| = I / sqrt K, and |I/sqrt K - (I - 11'/K)/sqrt(K-1)|^2 = 2 - 2 sqrt((K-1)/K).
    K = 5
    labels = np.arange(K).repeat(2)
    got = neural_collapse(np.eye(K)[labels], labels, np.eye(K))
    assert got.nc2 == pytest.approx(math.sqrt(2 - 2 * math.sqrt((K - 1) / K)))
    assert got.nc2_means == pytest.approx(0, abs=1e-12) and got.nc3 == pytest.approx(0, abs=1e-12)


def test_a_flipped_classifier_is_seen_by_nc3_alone():
    weight, labels = simplex(4, 4), np.arange(4).repeat(3)
    got = neural_collapse(weight[labels], labels, -weight)
    assert got.nc2 == pytest.approx(0, abs=1e-12) and got.nc3 == pytest.approx(2)


@given(clusters(min_per_class=2), st.integers(0, 100))
@seldom
def test_rotation_shift_scale_and_relabelling(case, seed):
    features, labels, weight = case
    (K, d), rng = weight.shape, np.random.default_rng(seed)
    got, turn, order = neural_collapse(*case), np.linalg.qr(rng.standard_normal((d, d)))[0], rng.permutation(K)
    assert close(neural_collapse(features @ turn, labels, weight @ turn), got)
    assert close(neural_collapse(7 * features - 3, labels, 2 * weight), got)
    assert close(neural_collapse(features, order[labels], weight[order.argsort()]), got)
    for measure in (compactness, distinctiveness):
        same = [measure(features @ turn, labels), measure(7 * features - 3, labels), measure(features, order[labels])]
        assert same == pytest.approx([measure(features, labels)] * 3, abs=1e-9)


def test_nc1_survives_a_large_common_offset():
    rng = np.random.default_rng(3)
    labels = np.arange(4).repeat(50)
    features = rng.standard_normal((4, 3))[labels] + 0.1 * rng.standard_normal((200, 3))
    # Rounding of the offset makes a K-th and false direction; dividing by it would give about 1e10.
    assert neural_collapse(features + 1e6, labels, np.eye(4, 3)).nc1 == pytest.approx(
        neural_collapse(features, labels, np.eye(4, 3)).nc1, rel=1e-6)


def test_class_means_on_a_line_span_one_direction():
    rng = np.random.default_rng(8)
    labels = np.arange(4).repeat(30)
    along, across = rng.standard_normal((120, 1)), rng.standard_normal((120, 2))
    for x in (along, across):  # no deviation from the class means but what is put there
        x -= np.array([x[labels == k].mean(axis=0) for k in range(4)])[labels]
    line = np.hstack([np.array([[-3.0], [-1.0], [1.0], [3.0]])[labels] + along, across])
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    # S_B has only the variance 5 of the line, so that what lies across it does not count; a cutoff too low divides by
    # rounding.
    nc1 = neural_collapse(line @ turn + 100, labels, np.eye(4, 3)).nc1
    assert nc1 == pytest.approx((along**2).mean() / 5 / 4, rel=1e-9)


def test_nothing_to_measure_is_nan():
    features, labels = np.random.default_rng(4).standard_normal((6, 3)), np.array([0, 0, 1, 1, 2, 2])
    no_weight = neural_collapse(features, labels, np.zeros((3, 3)))
    assert math.isnan(no_weight.nc2) and math.isnan(no_weight.nc3)
    assert math.isfinite(no_weight.nc1 + no_weight.nc2_means)
    same = np.tile(features[:2], (3, 1))  # every class holds the same two points
    no_means = neural_collapse(same, labels, np.eye(3))
    assert all(map(math.isnan, (no_means.nc1, no_means.nc2_means, no_means.nc3))) and math.isfinite(no_means.nc2)


# ---- compactness and distinctiveness --------------------------------------------------------------------------------

def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


@given(clusters())
@seldom
def test_compactness_and_distinctiveness_are_their_definitions(case):
    features, labels, _ = case
    K = labels.max() + 1
    mu = np.array([features[labels == k].mean(axis=0) for k in range(K)])
    h, m = features - mu.mean(axis=0), mu - mu.mean(axis=0)
    between = [cosine(m[k], m[j]) for k in range(K) for j in range(k)]
    assert distinctiveness(features, labels) == pytest.approx(1 - np.mean(between), abs=1e-9)
    within = []
    for k in range(K):
        mine = h[labels == k]
        pairs = [cosine(mine[i], mine[j]) for i in range(len(mine)) for j in range(i)]
        if pairs:
            within.append(np.mean(pairs))
    if within:
        assert compactness(features, labels) == pytest.approx(np.mean(within), abs=1e-9)
    else:
        with pytest.raises(ValueError, match="single sample"):
            compactness(features, labels)


@pytest.mark.parametrize("K", [2, 3, 10])
def test_simplex_etf_is_fully_compact_and_distinct(K):
    labels = np.arange(K).repeat(3)
    features = simplex(K, K + 2)[labels] + 4
    assert distinctiveness(features, labels) == pytest.approx(K / (K - 1))
    assert compactness(features, labels) == pytest.approx(1.0) and compactness(features, labels) <= 1.0
    stretched = features.copy()
    stretched[0::3] += 0.5 * (features[0::3] - features.mean(axis=0))  # along the class's own direction
    assert compactness(stretched, labels) == pytest.approx(1.0)


def test_opposite_samples_and_coinciding_classes():
    features = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert compactness(features, np.array([0, 0, 1, 1])) == -1.0
    assert distinctiveness(features, np.array([0, 0, 1, 1])) == 1.0  # both means at the global mean: cosine 0


def test_a_sample_at_the_global_mean_counts_as_cosine_zero():
    # Class means (1, 0) and (-1, 0); in class 0, the pairs with the sample at the origin count 0 of 3.
    features = np.array([[0.0, 0.0], [1.5, 0.0], [1.5, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    assert compactness(features, np.array([0, 0, 0, 1, 1])) == pytest.approx((1 / 3 + 1) / 2)
    # The same, told from rounding although the offset (0.1, 0.3) makes the difference 1e-17 and not 0.
    assert compactness(features * 0.7 + [0.1, 0.3], np.array([0, 0, 0, 1, 1])) == pytest.approx((1 / 3 + 1) / 2)


# ---- inputs and errors ----------------------------------------------------------------------------------------------

def test_torch_and_numpy_and_any_dtype_agree():
    features = torch.randint(-8, 9, (12, 4), generator=torch.Generator().manual_seed(0)).double()  # exact in bfloat16
    labels = torch.arange(12) % 3
    weight = torch.eye(3, 4)
    calls = [lambda h, y: vars(neural_collapse(h, y, weight)), compactness, distinctiveness,
             lambda h, y: accuracy(h, y),
             lambda h, y: uniform_accuracy(h, y)[0], lambda h, y: vars(score_summary(h[:, 0]))]
    for call in calls:
        want = call(features, labels)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            assert call(features.to(dtype), labels.to(torch.int32)) == want
        assert call(features.numpy(), labels.numpy().astype(np.uint8)) == want
        assert call(features.clone().requires_grad_(), labels) == want
        backwards = features.flip(0).numpy()[::-1]  # negative strides
        backwards.flags.writeable = False
        assert call(backwards, labels) == want


def test_inputs_are_left_alone():
    features, labels, weight = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3, torch.randn(3, 4)
    before = [x.clone() for x in (features, labels, weight)]
    neural_collapse(features, labels, weight), compactness(features, labels), distinctiveness(features, labels)
    uniform_accuracy(features, labels), decision_scores_summary(features, labels, torch.zeros(4))
    score_summary(features[:, 0])
    assert all(map(torch.equal, before, (features, labels, weight)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees():
    rng = np.random.default_rng(7)
    x, y, W = rng.standard_normal((300, 5)), rng.integers(5, size=300), rng.standard_normal((5, 5))
    gpu = torch.tensor(x, device="cuda")
    assert close(neural_collapse(gpu, y, W), neural_collapse(x, y, W))
    assert uniform_accuracy(gpu, y) == uniform_accuracy(x, y) and accuracy(gpu, y) == accuracy(x, y)
    assert compactness(gpu, y) == pytest.approx(compactness(x, y))
    assert distinctiveness(gpu, y) == pytest.approx(distinctiveness(x, y))
    theirs = decision_scores_summary(x, y, W[0])
    for kind, summary in decision_scores_summary(gpu, y, W[0]).items():
        for name, value in summary.to_dict().items():
            assert np.allclose(value, theirs[kind].to_dict()[name], rtol=1e-12, atol=1e-12), (kind, name)


good, y4 = np.arange(12.0).reshape(4, 3) % 5, np.array([0, 1, 2, 0])
per_matrix = {
    "accuracy": accuracy, "uniform_accuracy": uniform_accuracy, "compactness": compactness,
    "distinctiveness": distinctiveness,
    "neural_collapse": lambda x, y: neural_collapse(x, y, np.eye(3)),
    "decision_scores_summary": lambda x, y: decision_scores_summary(x, y, np.zeros(3))}


@pytest.mark.parametrize("call", per_matrix.values(), ids=per_matrix)
@pytest.mark.parametrize("x, y, named", [
    (good, y4[:3], "has 4 rows but labels has 3"),
    (good, y4.astype(float), r"labels must be .* int type; got \(4,\), float64"),
    (good, y4 > 0, "labels must be .* int type.*bool"),
    (good, np.array(["a", "b", "c", "a"]), "labels must be .* int type.*U1"),
    (good, y4[:, None], r"labels must be non-empty, 1-dimensional.*got \(4, 1\)"),
    (good, y4 - 1, "expected labels 0..K-1.*got -1..1"),
    (good[0], y4, r"must be non-empty, 2-dimensional.*got \(3,\)"),
    (good[:0], y4[:0], r"must be non-empty.*got \(0, 3\)"),
    (good.astype(int), y4, "of some float type.*int64"),
    (np.where(good == 2, np.nan, good), y4, "must be finite, got NaN"),
    (np.where(good == 2, -np.inf, good), y4, "must be finite"),
])
def test_errors_common_to_all(call, x, y, named):
    with pytest.raises(ValueError, match=named):
        call(x, y)


@pytest.mark.parametrize("call, named", [
    (lambda: accuracy(good, y4 + 1), "expected labels 0..K-1.*got 1..3, K = 3"),
    (lambda: accuracy(good[:, :1], y4 * 0), "K at least 2.*K = 1"),
    (lambda: compactness(good, y4 * 0), "K at least 2.*K = 1"),
    (lambda: distinctiveness(good, y4 * 2), "class 1 of 5 is empty"),
    (lambda: neural_collapse(good, y4 % 2, np.eye(3)), "class 2 of 3 is empty"),
    (lambda: neural_collapse(good, y4, np.eye(3)[:1]), "K at least 2|expected labels"),
    (lambda: neural_collapse(good, y4, np.eye(3, 2)), "features has 3 columns but weight has 2"),
    (lambda: neural_collapse(good, y4, np.eye(3) * np.nan), "weight must be finite"),
    (lambda: compactness(good[:3], y4[:3]), "every class has a single sample"),
    (lambda: decision_scores_summary(good, y4, np.zeros(2)), r"bias has shape \(2,\), expected \(3,\)"),
    (lambda: decision_scores_summary(good, y4, np.full(3, np.inf)), "must be finite"),
    (lambda: score_summary(good), r"values must be non-empty, 1-dimensional.*got \(4, 3\)"),
    (lambda: score_summary(np.zeros(0)), "values must be non-empty"),
    (lambda: score_summary(good[0], bin_width=0.0), "expected bin_width > 0.*got 0.0"),
    (lambda: score_summary(good[0], max_bins=1), "max_bins >= 2, got 0.05 and 1"),
    (lambda: ScoreSummary.from_dict({"count": 3}), r"got \['count'\]"),
    (lambda: ScoreSummary.from_dict(score_summary(good[0]).to_dict() | {"counts": [1]}), "incomplete lists"),
])
def test_errors_name_what_is_wrong(call, named):
    with pytest.raises(ValueError, match=named):
        call()
