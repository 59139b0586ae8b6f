"""A sample of scores or biases in a few numbers: enough to redraw its distribution without storing it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from bcebook.science.checks import array, labelled

if TYPE_CHECKING:
    from torch import Tensor

QUANTILES = (0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1.0)  # the levels that a ScoreSummary keeps


@dataclass(frozen=True)
class ScoreSummary:
    """A 1-D sample in a few numbers, in the sample's unit: enough to redraw its distribution without storing it.

    std divides by count. quantiles: at the levels QUANTILES, linear between order statistics. counts[i]: values in the
    bin [(first_bin + i) w, (first_bin + i + 1) w), w = bin_width. from_dict undoes to_dict (plain numbers and lists,
    for JSON).
    """

    count: int
    mean: float
    std: float
    quantiles: tuple[float, ...]
    bin_width: float
    first_bin: int
    counts: tuple[int, ...]

    @property
    def edges(self) -> np.ndarray:  # (bins + 1,)
        return (self.first_bin + np.arange(len(self.counts) + 1)) * self.bin_width

    def quantile(self, level: float) -> float:
        """One of the stored quantiles. Raises ValueError for a level that is not among QUANTILES."""
        if level not in QUANTILES:
            raise ValueError(f"expected one of the stored levels {QUANTILES}, got {level}.")
        return self.quantiles[QUANTILES.index(level)]

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    @property
    def density(self) -> np.ndarray:  # (bins,), area 1
        return np.array(self.counts) / (self.count * self.bin_width)

    def to_dict(self) -> dict:
        return {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(self).items()}

    @classmethod
    def from_dict(cls, d: dict) -> ScoreSummary:
        names = cls.__dataclass_fields__
        if set(d) != set(names) or len(d["quantiles"]) != len(QUANTILES) or sum(d["counts"]) != d["count"]:
            raise ValueError(f"expected {list(names)} as to_dict wrote it, got {list(d)} or incomplete lists.")
        return cls(**{name: tuple(x) if isinstance(x, list) else x for name, x in d.items()})


def score_summary(values: Tensor, bin_width: float = 0.05, max_bins: int = 2048) -> ScoreSummary:
    """Exact moments and quantiles of values (N,), and a histogram on a grid that different runs share.

    The width doubles from bin_width until max_bins bins span the values: coarse edges are among the finer ones.
    Source: ours.

    >>> import torch
    >>> found = score_summary(torch.tensor([0.0, 1.0, 1.0, 2.0]), bin_width=1.0)
    >>> found.mean, found.median, found.counts
    (1.0, 1.0, (1, 2, 1))
    """
    if not 0 < bin_width < math.inf or max_bins < 2:
        raise ValueError(
            f"expected bin_width > 0 and max_bins >= 2, got {bin_width} and {max_bins}. The defaults suit scores."
        )
    x = np.sort(array(values, "values", 1, "float").double().cpu().numpy())  # (N,)
    low, high, w = float(x[0]), float(x[-1]), float(bin_width)
    while (last := math.floor(high / w)) - (first := math.floor(low / w)) >= max_bins or max(-low, high) / w > 2**50:
        w *= 2  # beyond 2^50 bins from zero the edges would round
    below = np.searchsorted(x, np.arange(first + 1, last + 1) * w)  # (bins - 1,) values below the inner edges
    quantiles, counts = np.quantile(x, QUANTILES).tolist(), np.diff(below, prepend=0, append=len(x)).tolist()
    return ScoreSummary(len(x), float(x.mean()), float(x.std()), tuple(quantiles), w, first, tuple(counts))


def decision_scores_summary(scores: Tensor, labels: Tensor, bias: Tensor) -> dict[str, ScoreSummary]:
    """Summaries of the "positive" scores w_y . h, the "negative" ones w_k . h with k != y, and the "bias" entries.

    scores (N, K) = features @ weight.T, labels (N,), bias (K,), which the logit SUBTRACTS. Source: the paper's bias
    figures.

    >>> import torch
    >>> scores = torch.tensor([[2.0, -1.0], [-1.0, 3.0]])
    >>> found = decision_scores_summary(scores, torch.tensor([0, 1]), torch.tensor([0.5, 0.5]))
    >>> found["positive"].mean, found["negative"].mean, found["bias"].count
    (2.5, -1.0, 2)
    """
    import torch

    scores, labels = labelled(scores, labels, "scores")
    if np.shape(bias) != (scores.shape[1],):
        raise ValueError(
            f"bias has shape {tuple(np.shape(bias))}, expected ({scores.shape[1]},). Pass one entry per class."
        )
    own = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, labels[:, None], True)  # (N, K)
    return {
        "positive": score_summary(scores[own]),
        "negative": score_summary(scores[~own]),
        "bias": score_summary(bias),
    }
