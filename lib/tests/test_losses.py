"""CE and BCE against PyTorch's own, against their formulas in float64, and against facts known by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bcebook.science.losses import LOSSES, bce_loss, ce_loss


def sample(seed: int, B: int = 5, K: int = 4, dtype: torch.dtype = torch.float64):
    """Logits (B, K) of all sizes, labels (B,), soft targets (B, K)."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, K, generator=g, dtype=dtype) * 10 ** torch.randint(-2, 3, (B, 1), generator=g)
    return logits, torch.randint(K, (B,), generator=g), torch.rand(B, K, generator=g, dtype=dtype)


def by_formula(name: str, logits: torch.Tensor, target: torch.Tensor, smoothing: float) -> float:
    """The definitions, one entry at a time, with math.log1p."""
    B, K = logits.shape
    softplus = lambda z: max(z, 0.0) + math.log1p(math.exp(-abs(z)))
    total = 0.0
    for i in range(B):
        z = logits[i].tolist()
        t = target[i].tolist() if target.ndim == 2 else [float(k == target[i]) for k in range(K)]
        t = [(1 - smoothing) * x + smoothing / K for x in t]
        log_sum = max(z) + math.log(sum(math.exp(x - max(z)) for x in z))
        for k in range(K):
            total += t[k] * (log_sum - z[k]) if name == "ce" else t[k] * softplus(-z[k]) + (1 - t[k]) * softplus(z[k])
    return total / B


@given(st.integers(0, 10_000), st.sampled_from(["ce", "bce"]), st.booleans(), st.sampled_from([0.0, 0.1, 1.0]))
@settings(deadline=None, derandomize=True, max_examples=80)
def test_formula_in_float64(seed, name, soft, smoothing):
    logits, labels, t = sample(seed)
    target = t if soft else labels
    want = by_formula(name, logits, target, smoothing)
    assert LOSSES[name](logits, target, smoothing).item() == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_ce_is_pytorchs(smoothing):
    logits, labels, t = sample(0, dtype=torch.float32)
    t = t / t.sum(dim=1, keepdim=True)
    for target in (labels, t):
        want = F.cross_entropy(logits, target, label_smoothing=smoothing)
        torch.testing.assert_close(ce_loss(logits, target, smoothing), want)


def test_bce_is_pytorchs_summed_over_classes():
    logits, labels, t = sample(1, dtype=torch.float32)
    onehot = F.one_hot(labels, 4).float()
    K = logits.shape[1]
    torch.testing.assert_close(bce_loss(logits, labels), K * F.binary_cross_entropy_with_logits(logits, onehot))
    torch.testing.assert_close(bce_loss(logits, t), K * F.binary_cross_entropy_with_logits(logits, t))


def test_by_hand():
    zeros, labels = torch.zeros(3, 7), torch.tensor([0, 3, 6])
    assert ce_loss(zeros + 5, labels).item() == pytest.approx(math.log(7), rel=1e-6)
    assert bce_loss(zeros, labels).item() == pytest.approx(7 * math.log(2), rel=1e-6)


def test_average_over_the_batch():
    logits, labels, _ = sample(2)
    for loss in LOSSES.values():
        each = torch.stack([loss(logits[i:i + 1], labels[i:i + 1]) for i in range(len(labels))])
        torch.testing.assert_close(loss(logits, labels), each.mean())


def test_a_constant_leaves_ce_alone_and_changes_bce():
    logits, labels, _ = sample(3)
    torch.testing.assert_close(ce_loss(logits + 3, labels), ce_loss(logits, labels))
    assert abs(bce_loss(logits + 3, labels) - bce_loss(logits, labels)) > 0.1


def test_relabelling_classes_changes_neither():
    logits, labels, _ = sample(4)
    order = torch.tensor([2, 0, 3, 1])
    for loss in LOSSES.values():
        torch.testing.assert_close(loss(logits[:, order], order.argsort()[labels]), loss(logits, labels))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [30.0, 90.0, 1e4])
def test_extreme_logits(name, size):
    logits = torch.tensor([[size, -size, 0.0], [-size, size, size]], requires_grad=True)
    for target in (torch.tensor([0, 0]), torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.25, 0.25]])):
        for smoothing in (0.0, 0.1):
            loss = LOSSES[name](logits, target, smoothing)
            (grad,) = torch.autograd.grad(loss, logits)
            assert math.isfinite(loss.item()) and torch.isfinite(grad).all()
            want = by_formula(name, logits.detach().double(), target, smoothing)
            assert loss.item() == pytest.approx(want, rel=1e-6)


def value_and_gradient(loss, logits: torch.Tensor, *args) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, *args)
    return value.detach(), torch.autograd.grad(value, logits)[0]


SIZES = [-math.inf, -1.6e38, -1e30, -104.0, 0.0, 17.0, 1.6e38]  # differences of two still fit float32


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("target", [0, 1, 2, [0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
def test_pytorchs_value_and_gradient_over_all_of_float32(name, smoothing, target):
    logits = torch.tensor([z for z in itertools.product(SIZES, repeat=3) if max(z) > -math.inf])
    N, soft = len(logits), isinstance(target, list)
    t = torch.tensor([target] * N) if soft else torch.full((N,), target)
    # PyTorch in float64, where -1e300 stands for minus infinity: its own 0 * inf is nan there.
    wide = logits.double().clamp(min=-1e300).requires_grad_()
    smooth = (1 - smoothing) * (t if soft else F.one_hot(t, 3)).double() + smoothing / 3
    want = F.cross_entropy(wide, smooth, reduction="none") if name == "ce" else \
        F.binary_cross_entropy_with_logits(wide, smooth, reduction="none").sum(dim=1)
    got = torch.stack([LOSSES[name](logits[i:i + 1], t[i:i + 1], smoothing) for i in range(N)])
    torch.testing.assert_close(got, want.detach().float())
    _, gradient = value_and_gradient(LOSSES[name], logits, t, smoothing)
    torch.testing.assert_close(N * gradient, torch.autograd.grad(want.sum(), wide)[0].float())
    assert torch.isfinite(got).float().mean() > 0.2 and torch.isfinite(gradient).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pytorchs_ce_where_a_difference_of_logits_overflows(smoothing):
    top = torch.finfo(torch.float32).max
    for z in itertools.product([-math.inf, -top, -3e38, 0.0, 3e38, top], repeat=3):
        for label in [torch.tensor([k]) for k in range(3) if max(z) > -math.inf]:
            logits = torch.tensor([z])
            want, slope = value_and_gradient(lambda x: F.cross_entropy(x, label, label_smoothing=smoothing), logits)
            got, gradient = value_and_gradient(ce_loss, logits, label, smoothing)
            if smoothing and got < want == math.inf:  # PyTorch's sum over classes is taken before the factor e/K
                want = F.cross_entropy(logits.double(), label, label_smoothing=smoothing).float()
            torch.testing.assert_close((got, gradient), (want, slope))


def test_a_masked_class_is_as_if_it_were_not_there():
    logits, labels, t = sample(9)
    masked = torch.cat([logits, torch.full((5, 2), -math.inf, dtype=torch.float64)], dim=1)
    for name, target in itertools.product(LOSSES, (labels, t)):
        value, gradient = value_and_gradient(LOSSES[name], logits, target)
        with_zeros = target if target.ndim == 1 else F.pad(target, (0, 2))
        torch.testing.assert_close(value_and_gradient(LOSSES[name], masked, with_zeros), (value, F.pad(gradient, (0, 2))))


def as_recorded(name: str, logits: torch.Tensor, target: torch.Tensor, smoothing: float) -> torch.Tensor:
    """The formulas that the first recorded runs were trained with."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    t = torch.zeros_like(logits).scatter_(1, target[:, None], 1.0) if target.ndim == 1 else target.to(logits.dtype)
    t = (1 - smoothing) * t + smoothing / logits.shape[1] if smoothing else t
    if name == "ce":
        return -(t * logits.log_softmax(dim=1)).sum(dim=1).mean()
    return -(t * F.logsigmoid(logits) + (1 - t) * F.logsigmoid(-logits)).sum(dim=1).mean()


@given(st.integers(0, 10_000), st.sampled_from(["ce", "bce"]), st.sampled_from(["hard", "soft", "mixed", "none"]),
       st.sampled_from([0.0, 0.1, 1.0]), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_ordinary_logits_keep_every_bit_of_the_recorded_runs(seed, name, kind, smoothing, dtype):
    logits, labels, t = sample(seed, B=9, K=7)
    mixed = 0.3 * F.one_hot(labels, 7) + 0.7 * F.one_hot(labels.flip(0), 7)
    target = {"hard": labels, "soft": t, "mixed": mixed, "none": 0 * t}[kind]
    logits = (100 * logits).to(dtype)  # up to tens of thousands: some shares underflow
    got = value_and_gradient(LOSSES[name], logits, target, smoothing)
    want = value_and_gradient(lambda x: as_recorded(name, x, target, smoothing), logits)
    for a, b in zip(got, want):
        assert torch.equal(a, b) and torch.equal(a.signbit(), b.signbit())


def test_confident_negatives_keep_their_digits():
    # softplus(-40) = 4e-18: PyTorch's (1 - t) z - logsigmoid(z) gives 0 here, in float32 and in float64.
    for dtype in (torch.float32, torch.float64):
        logits = torch.full((1, 3), -40.0, dtype=dtype)
        assert bce_loss(logits, torch.zeros(1, 3, dtype=dtype)).item() == pytest.approx(3 * math.exp(-40), rel=1e-5)


def test_gradient_of_bce_is_sigmoid_minus_target():
    logits, labels, t = sample(5)
    logits.requires_grad_()
    (grad,) = torch.autograd.grad(bce_loss(logits, t), logits)
    torch.testing.assert_close(grad, (logits.sigmoid() - t).detach() / len(logits))
    (grad,) = torch.autograd.grad(ce_loss(logits, labels), logits)
    torch.testing.assert_close(grad, (logits.softmax(1) - F.one_hot(labels, 4)).detach() / len(logits))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(name, dtype):
    logits, labels, t = sample(6, dtype=torch.float32)
    logits = logits.to(dtype)
    for target in (labels, t.to(dtype)):
        wide = target if target.ndim == 1 else target.float()
        loss = LOSSES[name](logits, target)
        assert loss.dtype == torch.float32
        assert loss.item() == LOSSES[name](logits.float(), wide).item()


def test_targets_are_left_alone():
    logits, _, t = sample(7)
    before = t.clone()
    bce_loss(logits, t, 0.1)
    assert torch.equal(t, before)


def test_full_smoothing_forgets_the_label():
    logits, labels, _ = sample(8)
    for loss in LOSSES.values():
        torch.testing.assert_close(loss(logits, labels, 1.0), loss(logits, (labels + 1) % 4, 1.0))


@pytest.mark.parametrize("name", LOSSES)
def test_no_label_is_skipped(name):
    # F.cross_entropy ignores -100; here it is out of range like any other.
    with pytest.raises((RuntimeError, IndexError)):
        LOSSES[name](torch.zeros(2, 3), torch.tensor([0, -100]))


logits = torch.zeros(2, 3)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("args, named", [
    ((torch.zeros(3), torch.tensor([0])), r"logits must be .*\(3,\)"),
    ((torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)), r"logits must be a non-empty .*\(0, 3\)"),
    ((torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1])), "logits .*int64"),
    ((logits, torch.tensor([0, 1, 2])), r"target must be .*\(2,\).*got \(3,\)"),
    ((logits, torch.tensor([0, 1], dtype=torch.int32)), "target must be .*int32"),
    ((logits, torch.tensor([0.0, 1.0])), r"target .*got \(2,\) of torch.float32"),
    ((logits, torch.zeros(2, 4)), r"target .*got \(2, 4\)"),
    ((logits, torch.zeros(2, 3, dtype=torch.int64)), "target .*int64"),
    ((logits, torch.tensor([0, 1]), 1.5), "smoothing must lie .*1.5"),
    ((logits, torch.tensor([0, 1]), np.nan), "smoothing must lie .*nan"),
])
def test_errors_name_what_is_wrong(name, args, named):
    with pytest.raises(ValueError, match=named):
        LOSSES[name](*args)


@pytest.mark.parametrize("name", LOSSES)
def test_values_are_never_looked_at(name):
    # On the meta device there are no values: a check that needs one, and would stall a GPU, fails here.
    meta = torch.zeros(2, 3, device="meta")
    assert LOSSES[name](meta, torch.zeros(2, dtype=torch.int64, device="meta"), 0.1).shape == ()
    assert LOSSES[name](meta, meta, 0.1).shape == ()
