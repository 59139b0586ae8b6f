"""What a trained network's features, classifier and logits look like, each in one number or a few.

Inputs are torch tensors (any device, any float dtype) or NumPy arrays. Sums run in float64, a chunk of rows at a time,
on the tensors' own device, or on the CPU if that has no float64. K is the number of columns of scores, of rows of the
weight, or else labels.max() + 1. The global mean is the mean of the class means: the sample mean if classes are equal
in size. ValueError meets wrong shapes or dtypes, NaN, infinity, labels out of range, fewer than two classes, and an
empty class where its mean is needed.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bcebook.science.checks import array, labelled

DENSE = 1024  # classes up to which a K x K matrix (8 MiB) is made in one piece; with more, memory stays linear in K


@dataclass(frozen=True)
class MeanCosines:
    """Cosines between two class means, over all pairs: their mean, standard deviation (over the pairs) and largest."""

    mean: float
    std: float
    largest: float


def mean_cosines(features: Tensor, labels: Tensor, centred: bool) -> MeanCosines:
    """Cosines of the class means of features (N, d), labels (N,): around the global mean if centred, else around zero.

    A simplex ETF has -1/(K-1) throughout when centred; means that are orthogonal around zero (ReLU features at their
    minimum) have 0 raw, and the same -1/(K-1) centred. A mean of no length counts as cosine 0. Source: ours (the
    project's lead 5).

    >>> features, labels = torch.eye(3), torch.tensor([0, 1, 2])
    >>> mean_cosines(features, labels, centred=False).mean, round(mean_cosines(features, labels, centred=True).mean, 2)
    (0.0, -0.5)
    """
    features, labels = labelled(features, labels, "features")
    means, global_mean, rounding = _class_means(features, labels)  # (K, d), (d,)
    means = means - global_mean if centred else means
    unit = torch.nn.functional.normalize(means, eps=1e-300) * (means.norm(dim=1, keepdim=True) > rounding)  # (K, d)
    K, rows = len(unit), max(1, DENSE**2 // len(unit))
    parts = []  # of the pairs of each block of rows: their share of all pairs, mean, variance and largest
    for start in range(0, K - 1, rows):
        block = unit[start : start + rows] @ unit[start:].T
        cosines = block[torch.ones_like(block, dtype=torch.bool).triu(1)]
        share = len(cosines) / (K * (K - 1) / 2)
        parts.append((share, cosines.mean().item(), cosines.var(correction=0).item(), cosines.max().item()))
    mean = sum(share * m for share, m, _, _ in parts)
    variance = sum(share * (v + (m - mean) ** 2) for share, m, v, _ in parts)
    return MeanCosines(mean, math.sqrt(variance), max(part[-1] for part in parts))


@dataclass(frozen=True)
class Lengths:
    """Feature lengths: their mean; spread, the standard deviation over the mean; within, the mean over the classes of
    the standard deviation within a class, over the mean of all."""

    mean: float
    spread: float
    within: float


def feature_lengths(features: Tensor, labels: Tensor) -> Lengths:
    """How long features (N, d) are and how much that varies, labels (N,); nan spreads if all are of length 0.

    Source: ours (lead 6).

    >>> feature_lengths(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0, 1, 1]))
    Lengths(mean=2.0, spread=0.5, within=0.5)
    """
    features, labels = labelled(features, labels, "features")
    x = torch.cat([h.norm(dim=1) for h, _ in _chunks(features, labels)])  # (N,)
    within = [x[labels == k].std(correction=0).item() for k in labels.unique().tolist()]
    mean = x.mean().item()
    if not mean:
        return Lengths(mean, math.nan, math.nan)
    return Lengths(mean, x.std(correction=0).item() / mean, float(np.mean(within)) / mean)


@dataclass(frozen=True)
class NeuralCollapse:
    """Distances from neural collapse, no unit, 0 when it is complete; the formulas are those of `neural_collapse`."""

    nc1: float
    nc2: float
    nc2_means: float
    nc3: float


def neural_collapse(features: Tensor, labels: Tensor, weight: Tensor) -> NeuralCollapse:
    """NC1 to NC3 of features h (N, d), labels (N,) and classifier weight W (K, d).

    nc1: trace(S_W pinv(S_B)) / K, S_W = 1/N sum_i (h_i - mu_yi)(.)', S_B = 1/K sum_k (mu_k - mu_G)(.)'.
    nc2: |M/|M| - (I - 11'/K)/sqrt(K-1)| in Frobenius norms, M = W W'. nc2_means: with M = Hc' Hc, Hc (d, K) the
    centred class means. nc3: with M = W Hc. A needed M = 0 or S_B = 0 gives nan. Source: the paper; nc2_means as on
    its poster.

    >>> features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> found = neural_collapse(features, torch.tensor([0, 0, 1, 1]), torch.eye(2))
    >>> round(found.nc1, 3), round(found.nc3, 3)
    (0.125, 0.0)
    """
    weight = array(weight, "weight", 2, "float")
    K, d = weight.shape
    features, labels = labelled(features, labels, "features", K)
    if features.shape[1] != d:
        raise ValueError(
            f"features has {features.shape[1]} columns but weight has {d}. Pass what goes into that layer."
        )
    means, global_mean, _ = _class_means(features, labels, K)  # (K, d), (d,)
    weight, centred = weight.to(means), means - global_mean  # (K, d), (K, d) W and Hc'
    # S_B = V diag(s^2 / K) V', so nc1 is the mean over samples of sum_j (v_j . (h - mu_y))^2 / s_j^2: no d x d matrix,
    # and none of the digits that squaring Hc would cost. Centred means sum to zero, so at most K - 1 are real.
    s, Vt = (x[: K - 1] for x in torch.linalg.svd(centred, full_matrices=False)[1:])  # (r,), (r, d), r = min(K - 1, d)
    # Departs from a plain pinv, whose cutoff knows only s[0]: rounding grows with the means before centring.
    keep = s > torch.hypot(s[0], math.sqrt(K) * global_mean.norm()) * max(K, d) * np.finfo(float).eps
    nc2 = _simplex_error(weight, weight)
    if not keep.any():
        return NeuralCollapse(math.nan, nc2, math.nan, math.nan)
    whiten = (Vt[keep] / s[keep, None]).T  # (d, r)
    nc1 = sum(((h - means[y]) @ whiten).square().sum() for h, y in _chunks(features, labels)).item() / len(features)
    return NeuralCollapse(nc1, nc2, _simplex_error(centred, centred), _simplex_error(weight, centred))


@dataclass(frozen=True)
class TailGeometry:
    """How far the classifier rows of the smallest classes have merged; the formulas are those of `tail_geometry`."""

    distance: float
    cosine: float


def tail_geometry(weight: Tensor, counts: Tensor, size: int = 3) -> TailGeometry:
    """The rows of the `size` smallest classes among themselves: weight W (K, d), counts (K,) training samples a class.

    distance: the mean distance between two of these rows over that between two rows of the `size` largest classes; 0
    once they have merged, and blind to a common shift of all rows, which CE does not see. cosine: the mean cosine
    between two of them, all rows taken around their mean; 1 when they point one way, but without meaning once they are
    of no length. nan for both unless the largest class has at least twice the samples of the smallest, and where a
    length is 0. Source: ours, for minority collapse.

    >>> weight = torch.tensor([[3.0, 0.0], [0.0, 4.0], [-1.0, 0.0], [-1.0, 0.0]])
    >>> tail_geometry(weight, torch.tensor([90, 90, 1, 1])).distance  # the two rows of the tail are one
    0.0
    """
    weight, counts = array(weight, "weight", 2, "float").double(), array(counts, "counts", 1, "int")
    size = min(size, len(counts) // 2)
    if size < 2 or counts.max() < 2 * counts.min():
        return TailGeometry(math.nan, math.nan)
    order = torch.argsort(counts, stable=True).to(weight.device)  # smallest class first
    tail, head = weight[order[:size]], weight[order[-size:]]  # (size, d) each
    unit = torch.nn.functional.normalize(tail - weight.mean(dim=0), eps=1e-300)
    cosine = (unit.sum(dim=0).square().sum() - unit.square().sum()).item() / (size * (size - 1))
    within = [torch.nn.functional.pdist(rows).mean().item() for rows in (tail, head)]
    return TailGeometry(within[0] / within[1] if within[1] else math.nan, cosine)


def compactness(features: Tensor, labels: Tensor) -> float:
    """Mean cosine similarity within classes, of features taken around the global mean.

    features (N, d), labels (N,). Mean over classes of the mean over pairs i != j of the class. In [-1, 1]; 1 means
    every class has collapsed to one direction. A class of one sample has no pair and is left out; ValueError if all
    are. A feature at the global mean has no direction: its cosines count as 0. Source: ours, after the paper's E_com,
    whose formula we do not have.

    >>> features = torch.tensor([[2.0, 1.0], [2.0, -1.0], [-2.0, 0.0]])  # global mean 0; (4 - 1) / 5
    >>> round(compactness(features, torch.tensor([0, 0, 1])), 2)
    0.6
    """
    features, labels = labelled(features, labels, "features")
    sums, lengths = _unit_sums(features, labels)  # (K, d), (K,)
    counts = torch.bincount(labels)  # (K,)
    if counts.max() == 1:
        raise ValueError(
            "every class has a single sample; compactness needs a class with two or more. Pass more samples."
        )
    # |sum of unit vectors|^2 holds every ordered pair once, and each vector with itself.
    cosine = (sums.square().sum(dim=1) - lengths) / (counts * (counts - 1))  # (K,)
    return min(1.0, max(-1.0, cosine[counts > 1].mean().item()))


def distinctiveness(features: Tensor, labels: Tensor) -> float:
    """One minus the mean cosine similarity between two class means, taken around the global mean.

    features (N, d), labels (N,). In [0, K/(K-1)], the top reached by a simplex ETF (and by any two classes). A class
    mean at the global mean counts as cosine 0. Source: ours, after the paper's E_dis, whose formula we do not have.

    >>> round(distinctiveness(torch.eye(3), torch.tensor([0, 1, 2])), 2)  # orthogonal means are an ETF once centred
    1.5
    """
    features, labels = labelled(features, labels, "features")
    means, global_mean, rounding = _class_means(features, labels)  # (K, d), (d,)
    means = means - global_mean
    unit = torch.nn.functional.normalize(means, eps=1e-300) * (means.norm(dim=1, keepdim=True) > rounding)  # (K, d)
    return 1.0 - (unit.sum(dim=0).square().sum() - unit.square().sum()).item() / (len(means) * (len(means) - 1))


def pair_distinctiveness(features: Tensor, labels: Tensor) -> float:
    """One minus the mean cosine between two samples of different classes, taken around the global mean.

    features (N, d), labels (N,). Mean over the pairs of classes of the mean over their pairs of samples. K/(K-1) where
    the classes have collapsed to a simplex ETF; less where samples of a class scatter. A feature at the global mean
    counts as cosine 0. Source: ours, for the paper's E_dis "across sample features".

    >>> round(pair_distinctiveness(torch.eye(3), torch.tensor([0, 1, 2])), 2)
    1.5
    """
    features, labels = labelled(features, labels, "features")
    sums, _ = _unit_sums(features, labels)
    means = sums / torch.bincount(labels)[:, None]
    between = means.sum(dim=0).square().sum() - means.square().sum()
    return 1.0 - between.item() / (len(means) * (len(means) - 1))


def effective_rank(features: Tensor) -> float:
    """How many directions features (N, d), taken around their mean, spread over: exp of the entropy of their singular
    values, which are divided by their sum. From 1 to min(N - 1, d); nan if all are equal. Source: Roy and Vetterli,
    2007.

    >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
    2.0
    """
    h = array(features, "features", 2, "float").double()
    h = h - h.mean(dim=0)
    values = torch.linalg.eigvalsh(h.T @ h).clamp(min=0).sqrt() if len(h) > h.shape[1] else torch.linalg.svdvals(h)
    share = values / values.sum()
    return math.exp(-torch.special.xlogy(share, share).sum().item())


def nc0(weight: Tensor) -> float:
    """The length of the mean row of W (K, d) over the Frobenius norm of W; 0 at neural collapse, at most 1/sqrt(K).
    Source: Zhao et al., 2026, who take the sum of the rows.

    >>> nc0(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    0.0
    """
    weight = array(weight, "weight", 2, "float").double()
    return (weight.mean(dim=0).norm() / weight.norm()).item()


def nc4(features: Tensor, logits: Tensor, means: Tensor) -> float:
    """The share of the samples whose largest logit is not that of the nearest class mean; 0 at neural collapse.

    features (N, d), logits (N, K), means (K, d) of the training set. Source: Papyan et al., 2020.

    >>> nc4(torch.eye(2), torch.eye(2), torch.eye(2))
    0.0
    """
    features, logits, means = (
        array(x, name, 2, "float") for x, name in ((features, "features"), (logits, "logits"), (means, "means"))
    )
    if (len(features), *means.shape[::-1]) != (len(logits), features.shape[1], logits.shape[1]):
        raise ValueError(
            f"features {tuple(features.shape)}, logits {tuple(logits.shape)} and means {tuple(means.shape)} do not go "
            "together. Pass (N, d), (N, K) and (K, d)."
        )
    rows, wrong = max(1, min(5000, DENSE**2 // len(means))), 0
    for h, z in zip(features.split(rows), logits.split(rows), strict=True):
        wrong += (torch.cdist(h.double(), means.double()).argmin(dim=1) != z.argmax(dim=1)).sum().item()
    return wrong / len(features)


def class_means(features: Tensor, labels: Tensor) -> Tensor:
    """Class means (K, d), float64, of features (N, d), labels (N,).

    >>> class_means(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1])).tolist()
    [[2.0, 0.0], [0.0, 1.0]]
    """
    return _class_means(*labelled(features, labels, "features"))[0]


def _unit_sums(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each class: the sum (K, d) of its features around the global mean, each scaled to length one, and the sum (K,)
    of the squared lengths that they then have (a feature at the global mean stays 0)."""
    means, global_mean, rounding = _class_means(features, labels)  # (K, d), (d,)
    sums, lengths = torch.zeros_like(means), torch.zeros_like(means[:, 0])
    for h, y in _chunks(features, labels):
        h = h - global_mean
        unit = torch.nn.functional.normalize(h, eps=1e-300) * (h.norm(dim=1, keepdim=True) > rounding)  # (chunk, d)
        sums.index_add_(0, y, unit)
        lengths.index_add_(0, y, unit.square().sum(dim=1))
    return sums, lengths


def _simplex_error(A: Tensor, B: Tensor) -> float:
    """Frobenius distance of M = A B', A and B (K, d), from the Gram matrix of a simplex ETF, both scaled to norm 1; nan
    for M = 0. With many classes no K x K matrix is made, unless it is no larger than A."""
    K, d = A.shape
    if K <= DENSE or d >= K - 1:
        M = A @ B.T
        etf = (torch.eye(K, dtype=M.dtype, device=M.device) - 1 / K) / math.sqrt(K - 1)
        return (M / M.norm() - etf).norm().item()
    # |X - Y|^2 = 2 - 2 X.Y for X and Y of norm 1. It loses no digits to speak of: M is of rank d at most, the ETF of
    # rank K - 1 > d, so |X - Y|^2 is at least 1/K. Of A = QR only R (d, d) is needed: |A B'| = |R_A R_B'|.
    norm = (torch.linalg.qr(A, mode="r").R @ torch.linalg.qr(B, mode="r").R.T).norm()
    inner = (A * (B - B.mean(dim=0))).sum() / math.sqrt(K - 1)  # M.(I - 11'/K)/sqrt(K-1)
    return (2 - 2 * inner / norm).sqrt().item()


def _class_means(features: Tensor, labels: Tensor, num_classes: int | None = None) -> tuple[Tensor, Tensor, float]:
    """Class means (K, d) and their mean (d,) in float64; the distance from that mean up to which all is rounding."""
    counts = torch.bincount(labels, minlength=num_classes or 0)  # (K,)
    if not counts.all():
        raise ValueError(
            f"class {counts.argmin()} of {len(counts)} is empty. Pass the whole split, or relabel the classes."
        )
    sums = features.new_zeros((len(counts), features.shape[1]), dtype=torch.float64)  # (K, d)
    for h, y in _chunks(features, labels):
        sums.index_add_(0, y, h)
    means = sums / counts[:, None]
    global_mean = means.mean(dim=0)
    rounding = len(features) * np.finfo(float).eps * global_mean.norm().item()  # what N additions may round off
    return means, global_mean, rounding


def _chunks(features: Tensor, labels: Tensor) -> zip:
    """Pairs of rows in float64 (chunk, d) and their labels (chunk,), one at a time."""
    rows = max(1, 2**21 // features.shape[1])  # 16 MiB: larger chunks were no faster for (50,000, 2,048)
    return zip(map(Tensor.double, features.split(rows)), labels.split(rows), strict=True)
