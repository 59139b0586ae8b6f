"""Score summaries against slow, literal versions of their definitions, and against facts known by hand."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bcebook.science.summaries import QUANTILES, ScoreSummary, decision_scores_summary, score_summary

often = settings(deadline=None, derandomize=True, max_examples=150)
seldom = settings(deadline=None, derandomize=True, max_examples=50)

samples = st.one_of(
    st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=60),
    st.lists(st.sampled_from([j * 0.05 for j in range(-9, 10)]), min_size=1, max_size=60),  # on the edges
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))


@given(samples)
@often
def test_score_summary_is_its_definition(values):
    x = np.array(values)
    s = score_summary(x)
    assert (s.count, s.median) == (len(x), pytest.approx(np.median(x), abs=1e-6))
    assert (s.mean, s.std) == pytest.approx((np.mean(x), np.std(x)), abs=1e-6 * max(1, abs(x).max()))
    ordered = sorted(values)
    for level, got in zip(QUANTILES, s.quantiles, strict=True):
        i = min(int(level * (len(x) - 1)), len(x) - 2) if len(x) > 1 else 0
        step = ordered[i + 1] - ordered[i] if len(x) > 1 else 0.0
        assert got == pytest.approx(ordered[i] + (level * (len(x) - 1) - i) * step, abs=1e-6)

    assert len(s.counts) <= 2048 and math.log2(s.bin_width / 0.05).is_integer()
    assert len(s.edges) == len(s.counts) + 1 and s.edges[0] <= x.min() + 1e-9 and x.max() <= s.edges[-1]
    by_hand = [int(((a <= x) & (x < b)).sum()) for a, b in zip(s.edges, s.edges[1:])]
    assert s.counts[1:-1] == tuple(by_hand[1:-1]) and sum(s.counts) == len(x)
    assert (s.density * s.bin_width).sum() == pytest.approx(1)
    assert s.bin_width == 0.05 or (x.max() - x.min()) / s.bin_width > 1000  # no coarser than it must be


@given(samples)
@seldom
def test_histogram_redraws_the_quantiles_to_a_bin_width(values):
    s = score_summary(np.array(values))
    filled = np.repeat(s.edges[:-1], s.counts)  # every value moved to the left edge of its bin
    for level, got in zip(QUANTILES, s.quantiles):
        assert np.quantile(filled, level) == pytest.approx(got, abs=s.bin_width * 1.000001)


@given(samples)
@seldom
def test_round_trip_through_json(values):
    s = score_summary(np.array(values))
    assert ScoreSummary.from_dict(json.loads(json.dumps(s.to_dict()))) == s
    assert s.to_dict() == json.loads(json.dumps(s.to_dict()))


def test_runs_share_their_edges():
    rng = np.random.default_rng(5)
    a, b = score_summary(rng.standard_normal(500)), score_summary(rng.standard_normal(500) + 2.017)
    wide = score_summary(200 * rng.standard_normal(500))
    both = np.intersect1d(np.round(a.edges / 0.05, 9), np.round(b.edges / 0.05, 9))
    assert len(both) > 20 and np.array_equal(both, np.round(both))
    assert wide.bin_width == 0.8 or wide.bin_width == 1.6
    assert np.allclose(wide.edges / 0.05, np.round(wide.edges / 0.05))  # a coarse edge is one of the fine grid's


def test_score_summary_by_hand():
    s = score_summary(torch.tensor([0.0, 0.01, 0.06, -0.01]))
    assert (s.bin_width, s.first_bin, s.counts) == (0.05, -1, (1, 2, 1))
    assert np.allclose(s.edges, [-0.05, 0.0, 0.05, 0.1]) and np.allclose(s.density, [5, 10, 5])
    assert score_summary(np.array([3.0, 1003.0]), bin_width=1.0, max_bins=2).bin_width == 512
    assert sum(score_summary(np.array([-1e150, 1e150])).counts) == 2
    assert score_summary(np.array([2.0])).std == 0.0


def test_decision_scores_are_split_by_label():
    rng = np.random.default_rng(6)
    scores, labels = rng.standard_normal((40, 3)), rng.integers(2, size=40)  # class 2 is empty
    bias = rng.standard_normal(3)
    got = decision_scores_summary(scores, labels, bias)
    positive = [scores[i, y] for i, y in enumerate(labels)]
    negative = [scores[i, k] for i, y in enumerate(labels) for k in range(3) if k != y]
    assert got == {"positive": score_summary(np.array(positive)), "negative": score_summary(np.array(negative)),
                   "bias": score_summary(bias)}
