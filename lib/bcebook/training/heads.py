"""Classifier heads: features (B, d) -> logits (B, K), with the bias subtracted. Each has `weight` (K, d) and `bias`
(K,), trained or not."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bcebook.runs.config import RunConfig
from bcebook.science import theory


class Linear(nn.Module):
    """The linear head: logits z = W h - b, weight W (K, d), bias b (K,).

    The bias is SUBTRACTED, as in the paper: a positive bias is a threshold that a decision score w_k . h has to pass.
    It starts uniform in +-1/sqrt(d) around `bias_init_mean`, the variable of the paper's bias experiments; the weight
    starts Kaiming-uniform with a = sqrt 5 (torch's default for a linear layer), times `weight_start`.
    """

    def __init__(self, dim: int, num_classes: int, bias_init_mean: float = 0.0, weight_start: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, dim))
        self.bias = nn.Parameter(torch.empty(num_classes))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        nn.init.uniform_(self.bias, bias_init_mean - dim**-0.5, bias_init_mean + dim**-0.5)
        with torch.no_grad():
            self.weight.mul_(weight_start)

    def forward(self, features: Tensor) -> Tensor:
        # In float32 even under autocast: bfloat16's steps near a score of 8 are 0.06 wide, as wide as what we measure.
        with torch.autocast(features.device.type, enabled=False):
            return self.scores(features.float()) - self.bias  # (B, K)

    def scores(self, features: Tensor) -> Tensor:
        return features @ self.weight.T


class Cosine(Linear):
    """Logits s cos(w_k, h) - b_k: features and rows have length one in training too, and `scale` s is fixed."""

    def __init__(self, *arguments, scale: float, **settings):
        super().__init__(*arguments, **settings)
        self.scale = scale

    def scores(self, features: Tensor) -> Tensor:
        return self.scale * F.normalize(features, dim=1) @ F.normalize(self.weight, dim=1).T


def fix(head: nn.Module, name: str, value: Tensor) -> None:
    """Make a parameter a constant of the head: stored with it, and out of the optimizer's reach."""
    delattr(head, name)
    head.register_buffer(name, value)


def build(config: RunConfig, dim: int, num_classes: int) -> nn.Module:
    """The head of a run. Whatever the head, equal seeds draw the same weight and bias, and use them where they can.

    "linear"; "etf": the weight fixed to a simplex ETF with rows of length `scale`; "cosine". bias "none": zero, not
    trained.
    """
    settings = dict(bias_init_mean=config.bias_init_mean, weight_start=config.weight_start)
    if config.head == "cosine":
        head = Cosine(dim, num_classes, scale=config.scale, **settings)
    else:
        head = Linear(dim, num_classes, **settings)
    if config.head == "etf":
        fix(head, "weight", torch.from_numpy(config.scale * theory.simplex_etf(num_classes, dim)).float())
    if config.bias == "none":
        fix(head, "bias", torch.zeros(num_classes))
    return head
