"""One threshold for all: uniform accuracy against its definition, and its loss against planted causes."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bcebook.science.uniform import EQUALISED, accuracy, uniform_accuracy, uniform_gap

often = settings(deadline=None, derandomize=True, max_examples=150)


@st.composite
def integer_logits(draw):
    """Small-integer logits (N, K), so that ties abound, and labels (N,)."""
    N, K = draw(st.integers(1, 8)), draw(st.integers(2, 4))
    row = st.lists(st.integers(-3, 3), min_size=K, max_size=K)
    return (np.array(draw(st.lists(row, min_size=N, max_size=N)), dtype=np.float32),
            np.array(draw(st.lists(st.integers(0, K - 1), min_size=N, max_size=N))))


def served(logits: np.ndarray, labels: np.ndarray, t: float | Fraction) -> int:
    """How many samples threshold t serves, by the definition."""
    return sum(all((z > t) if k == y else (z < t) for k, z in enumerate(map(Fraction, row.tolist())))
               for row, y in zip(logits, labels))


@given(integer_logits())
@often
def test_uniform_accuracy_is_the_best_over_all_thresholds(case):
    logits, labels = case
    ends = sorted({Fraction(z) for z in logits.ravel().tolist()})
    candidates = [ends[0] - 1, ends[-1] + 1, *ends, *((a + b) / 2 for a, b in zip(ends, ends[1:]))]
    best = max(served(logits, labels, t) for t in candidates)
    share, threshold = uniform_accuracy(logits, labels)
    assert share == best / len(labels)
    assert math.isnan(threshold) if best == 0 else served(logits, labels, threshold) == best


@given(integer_logits())
@often
def test_accuracy_is_strict_and_bounds_uniform_accuracy(case):
    logits, labels = case
    right = sum(all(row[y] > z for k, z in enumerate(row) if k != y) for row, y in zip(logits, labels))
    assert accuracy(logits, labels) == right / len(labels)
    assert uniform_accuracy(logits, labels)[0] <= accuracy(logits, labels)


def test_uniform_accuracy_by_hand():
    logits = np.array([[5.0, 1.0], [9.0, 6.0], [0.0, 4.0]])  # intervals (1, 5), (6, 9), (0, 4): no t serves all three
    labels = np.array([0, 0, 1])
    assert accuracy(logits, labels) == 1.0
    assert uniform_accuracy(logits, labels) == (2 / 3, 2.5)  # the middle of (1, 4)
    assert uniform_accuracy(np.array([[1.0, 0.0], [5.0, 2.0]]), np.array([0, 0])) == (0.5, 3.5)  # the wider stretch
    assert uniform_accuracy(np.array([[1.0, 0.0], [2.0, 1.0]]), np.array([0, 0]))[0] == 0.5  # they only touch


def test_ties_and_losers_have_no_threshold():
    share, threshold = uniform_accuracy(np.array([[1.0, 1.0], [0.0, 2.0]]), np.array([0, 0]))
    assert share == 0.0 and math.isnan(threshold)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_threshold_lies_strictly_inside_the_narrowest_stretch(dtype):
    one = torch.tensor(1.0, dtype=dtype)
    above = one + torch.finfo(dtype).eps
    logits = torch.stack([above, one])[None]
    share, threshold = uniform_accuracy(logits, torch.tensor([0]))
    assert share == 1.0 and 1.0 < threshold < above.item()


def test_uniform_accuracy_sees_one_offset_for_all_but_not_one_per_sample():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((200, 5)), rng.integers(5, size=200)
    logits[np.arange(200), labels] += 3
    share, threshold = uniform_accuracy(logits, labels)
    moved = uniform_accuracy(logits + 7, labels)
    assert moved == (share, pytest.approx(threshold + 7))
    drifting = logits + 10 * rng.standard_normal((200, 1))
    assert accuracy(drifting, labels) == accuracy(logits, labels)
    assert uniform_accuracy(drifting, labels)[0] < share - 0.2


def test_large_random_case_agrees_with_a_fine_search():
    rng = np.random.default_rng(1)
    logits, labels = rng.standard_normal((3000, 10)), rng.integers(10, size=3000)
    logits[np.arange(3000), labels] += 2
    own = logits[np.arange(3000), labels]
    other = np.where(np.eye(10, dtype=bool)[labels], -np.inf, logits).max(axis=1)
    each = [np.mean((other < t) & (t < own)) for t in np.nextafter(other, np.inf)]  # just above every start
    assert uniform_accuracy(logits, labels)[0] == max(each)


# ---- what the loss to one threshold is made of ----------------------------------------------------------------------

GROUPS = np.repeat([False, True], 30)  # of the samples: classes 0 to 2 and 3 to 5 lie in spaces of their own


def planted(*causes):
    """Features (60, 7), labels, rows (6, 7), biases. In each group of classes a sample's own cosine is 1 and the best
    other 5/7; the other group's are 0, the last dimension is nobody's. A cause spoils one threshold for the group B."""
    block = (np.eye(3) + 0.5) / np.sqrt(2.75)
    rows, labels = np.zeros((6, 7)), np.repeat(np.arange(6), 10)
    rows[:3, :3] = rows[3:, 3:6] = block
    h, bias = rows[labels], np.zeros(6)
    if "directions" in causes:
        h[GROUPS] = 0.6 * h[GROUPS] + 0.8 * np.eye(7)[6]
    if "lengths" in causes:
        h[GROUPS] *= 3
    if "rows" in causes:
        rows[3:] /= 3
    if "biases" in causes:
        bias[3:] = 0.6
    return h, labels, rows, bias


@pytest.mark.parametrize("cause", [*EQUALISED, "directions"])
def test_a_planted_cause_gets_the_whole_loss(cause):
    h, y, rows, bias = planted(cause)
    assert accuracy(h @ rows.T - bias, y) == 1
    assert uniform_accuracy(h @ rows.T - bias, y)[0] == 0.5
    assert uniform_gap(h, y, rows, bias) == pytest.approx({name: 0.5 * (name == cause) for name in
                                                           [*EQUALISED, "directions"]}, abs=1e-12)


def test_causes_that_make_good_for_each_other_share_nothing():
    h, y, rows, bias = planted("lengths", "rows")  # three times as long, and rows of a third
    assert uniform_accuracy(h @ rows.T - bias, y)[0] == 1
    assert uniform_gap(h, y, rows, bias) == pytest.approx(dict.fromkeys([*EQUALISED, "directions"], 0), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_parts_add_up_and_are_the_mean_over_all_orders(seed):
    rng = np.random.default_rng(seed)
    K, d, n = 5, 7, 300
    h, y = rng.standard_normal((n, d)), rng.integers(K, size=n)
    rows, bias = rng.standard_normal((K, d)), rng.standard_normal(K)
    h = (h + 2 * rows[y]) * np.exp(rng.standard_normal((n, 1)))

    def lost(equal):
        x, w, b = h, rows, bias
        if "lengths" in equal:
            x = x / np.linalg.norm(x, axis=1, keepdims=True) * np.linalg.norm(x, axis=1).mean()
        if "rows" in equal:
            w = w / np.linalg.norm(w, axis=1, keepdims=True) * np.linalg.norm(w, axis=1).mean()
        if "biases" in equal:
            b = np.full(K, b.mean())
        return accuracy(x @ w.T - b, y) - uniform_accuracy(x @ w.T - b, y)[0]

    by_order = {name: [] for name in EQUALISED}
    for order in itertools.permutations(EQUALISED):
        for at, name in enumerate(order):
            by_order[name].append(lost(order[:at]) - lost(order[:at + 1]))
    found = uniform_gap(h, y, rows, bias)
    for name, values in by_order.items():
        assert found[name] == pytest.approx(np.mean(values), abs=1e-12)
    assert sum(found.values()) == pytest.approx(lost(()), abs=1e-12)
    assert found["directions"] == pytest.approx(lost(EQUALISED), abs=1e-12)


def test_gap_leaves_out_what_has_no_length_and_wants_what_goes_together():
    h, y, rows, bias = planted("lengths")
    h[0] = 0
    assert math.isfinite(sum(uniform_gap(h, y, rows, bias).values()))
    with pytest.raises(ValueError, match="do not go together"):
        uniform_gap(h, y, rows[:, :-1], bias)
