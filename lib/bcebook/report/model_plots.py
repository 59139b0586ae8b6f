"""Both losses as functions of one sample's logits, and their regions in a plot: what the pages of theory share."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch.func import grad_and_value, vmap

from bcebook.report import plots
from bcebook.science.losses import LOSSES


def loss_and_gradient(loss: str, logits) -> tuple[np.ndarray, np.ndarray]:
    """Loss (B,) in nats and its gradient (B, K) at logits (B, K), column 0 the own class: the very function that
    trains the networks, differentiated by PyTorch. Raises KeyError for a loss that is neither "ce" nor "bce"."""
    logits = torch.as_tensor(np.asarray(logits, np.float64))
    own = torch.eye(logits.shape[1], dtype=torch.float64)[:1]  # (1, K)
    gradient, value = vmap(grad_and_value(lambda z: LOSSES[loss](z[None], own)))(logits)
    return value.numpy(), gradient.numpy()


def margin(loss: str, logits: np.ndarray) -> np.ndarray:
    """How far logits (B, K), column 0 the own class, meet the loss's condition (B,); above 0: met. CE: own above all
    others; BCE: own above 0 and all others below."""
    own, other = logits[:, 0], logits[:, 1:].max(axis=1)
    return own - other if loss == "ce" else np.minimum(own, -other)


def region(ax: Axes, loss: str, x: np.ndarray, y: np.ndarray, logits: np.ndarray, levels: list[float]) -> None:
    """Level sets of a loss over a grid x, y (R, C) with logits (R, C, K), and the region that meets its condition."""
    flat = logits.reshape(-1, logits.shape[-1])
    met, value = (part.reshape(x.shape) for part in (margin(loss, flat), loss_and_gradient(loss, flat)[0]))
    ax.contourf(x, y, met, levels=[0, np.inf], colors=[plots.COLOUR[loss]], alpha=0.22)
    ax.clabel(ax.contour(x, y, value, levels=levels, colors=plots.GREY, linewidths=0.8), fmt="%g", fontsize=7)
    ax.contour(x, y, met, levels=[0], colors=[plots.COLOUR[loss]], linewidths=1.8)


def key(label: str, marker: str | None = None, **style) -> Line2D:
    """An entry of a legend: a thin line, or a marker without one."""
    dots = {"marker": marker, "linestyle": ""} if marker else {}
    return Line2D([], [], **({"color": "black", "linewidth": 0.9, "label": label} | dots | style))
