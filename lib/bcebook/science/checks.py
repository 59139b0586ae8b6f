"""What a measure accepts: finite tensors or arrays of the right shape, labels that fit; else one clear sentence.

Measures sum in float64. A tensor on a device without it (Apple's GPU) is taken in as a copy on the CPU.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    # At run time inside the functions: a page that only reads summaries needs no torch.
    from torch import Tensor, device


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
    """x as a finite tensor of ndim dimensions, on a device that has float64; kind: "float", any such dtype, or "int",
    which comes back as int64."""
    import torch

    if isinstance(x, torch.Tensor):
        x = x.detach()
    else:  # as torch needs it: in the machine's byte order, no longer than float64, without negative strides, writable
        x = np.asarray(x)
        dtype = x.dtype if x.dtype.isnative else x.dtype.newbyteorder()
        x = np.require(x, np.float64 if dtype == np.longdouble else dtype, ["C", "W"])
    if x.ndim != ndim or 0 in x.shape or kind not in str(x.dtype):
        raise ValueError(
            f"{name} must be non-empty, {ndim}-dimensional, of some {kind} type; got {tuple(x.shape)}, {x.dtype}."
        )
    x = torch.as_tensor(x)
    if not has_float64(x.device):
        x = x.cpu()
    if kind == "int":
        return x.to(torch.int64)  # torch cannot compare or add up uint16 to uint64
    if not all(map(math.isfinite, torch.aminmax(x))):  # NaN passes on; isfinite(x) would copy x
        raise ValueError(
            f"{name} must be finite, got NaN or infinite values. Has the run diverged? Look at its training loss."
        )
    return x


@functools.cache
def has_float64(on: device) -> bool:
    """Whether the device can add float64 numbers: CPUs and CUDA GPUs can, and any other is tried.

    CUDA is not tried: a GPU that is short of memory for a moment would count as one without float64 from then on.
    """
    import torch

    if on.type in ("cpu", "cuda"):
        return True
    try:
        return (torch.ones(1, dtype=torch.float64, device=on) + 1).item() == 2
    except (TypeError, RuntimeError):  # of Apple's GPU, of some of Intel's
        return False
