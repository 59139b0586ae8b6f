"""What a measure accepts: finite tensors or arrays of the right shape, labels that fit; else one clear sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor  # at run time inside the functions: a page that only reads summaries needs no torch


def labelled(x: Tensor, labels: Tensor, name: str, num_classes: int | None = None) -> tuple[Tensor, Tensor]:
    """x (N, columns) and labels (N,) int64 on its device, checked against each other."""
    import torch

    x, labels = array(x, name, 2, "float"), array(labels, "labels", 1, "int")
    if len(labels) != len(x):
        raise ValueError(
            f"{name} has {len(x)} rows but labels has {len(labels)}. Pass both from the same split, unfiltered."
        )
    labels = labels.to(x.device, torch.int64)
    K = num_classes or (int(labels.max()) + 1 if name == "features" else x.shape[1])
    if K < 2 or labels.min() < 0 or labels.max() >= K:
        raise ValueError(
            f"expected labels 0..K-1, K at least 2, got {labels.min()}..{labels.max()}, K = {K}. Relabel them."
        )
    return x, labels


def array(x: Tensor | np.ndarray, name: str, ndim: int, kind: str) -> Tensor:
    """x as a finite tensor of ndim dimensions and a dtype whose name holds kind: "float" or "int"."""
    import torch

    x = x.detach() if isinstance(x, torch.Tensor) else np.require(x, requirements=["C", "W"])  # as torch needs it
    if x.ndim != ndim or 0 in x.shape or kind not in str(x.dtype):
        raise ValueError(
            f"{name} must be non-empty, {ndim}-dimensional, of some {kind} type; got {tuple(x.shape)}, {x.dtype}."
        )
    x = torch.as_tensor(x)
    if kind == "float" and not all(map(math.isfinite, torch.aminmax(x))):  # NaN passes on; isfinite(x) would copy x
        raise ValueError(
            f"{name} must be finite, got NaN or infinite values. Has the run diverged? Look at its training loss."
        )
    return x
