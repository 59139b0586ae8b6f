"""The two losses the book compares: softmax cross-entropy (CE), binary cross-entropy summed over the classes (BCE)."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def ce_loss(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy, averaged over the batch: mean_i of -sum_k t_ik log softmax(z_i)_k.

    logits (B, K) float; target (B,) int64 class labels, or (B, K) float soft targets t (Mixup, CutMix). smoothing e in
    [0, 1] replaces t by (1 - e) t + e/K. Returns a scalar in nats; K equal logits cost log K. A logit of minus infinity
    masks its class, which then costs nothing where its target is 0. Raises ValueError if shapes, dtypes or smoothing do
    not fit. Source: the paper's CE. Values (labels in range, soft targets that sum to 1) are the caller's to get right:
    to look at them would make every training step wait for the GPU.

    >>> round(ce_loss(torch.zeros(1, 4), torch.tensor([2])).item(), 4)  # log 4
    1.3863
    """
    logits, target = _prepare(logits, target, smoothing)  # (B, K), (B, K)
    return -_weighted(target, logits.log_softmax(dim=1)).sum(dim=1).mean()


def bce_loss(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of sigmoid(z_k), summed over classes: mean_i of sum_k t softplus(-z) + (1 - t) softplus(z).

    Arguments, errors and unit (nats) as for `ce_loss`; K zero logits cost K log 2. Source: the paper's BCE.

    >>> round(bce_loss(torch.zeros(1, 4), torch.tensor([2])).item(), 4)  # 4 log 2
    2.7726
    """
    logits, target = _prepare(logits, target, smoothing)  # (B, K), (B, K)
    # -logsigmoid(z) is softplus(-z) to full relative precision on both sides: log(1 + exp(.)), as in the authors'
    # code, turns NaN past about 89 in float32, and PyTorch's own (1 - t) z - logsigmoid(z) cancels to 0 for confident
    # negatives.
    per_class = -(_weighted(target, logsigmoid(logits)) + _weighted(1 - target, logsigmoid(-logits)))  # (B, K)
    # Sum over classes, as in the paper: a mean would shrink BCE's gradient K-fold against CE's.
    return per_class.sum(dim=1).mean()


LOSSES = {"ce": ce_loss, "bce": bce_loss}


def _weighted(weight: Tensor, log_share: Tensor) -> Tensor:
    """weight * log_share, both (B, K), but 0 where an event of weight 0 has the logarithm minus infinity.

    The product itself is nan there, at a masked class and at one whose share is too small for the dtype. Elsewhere
    nothing is replaced: value and gradient keep their bits, on which recorded runs rest.
    """
    return weight * log_share.masked_fill((weight == 0) & (log_share == -math.inf), 0.0)


def _prepare(logits: Tensor, target: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Logits in float32 or wider (B, K), and the smoothed soft target (B, K) in the same dtype."""
    if logits.ndim != 2 or logits.numel() == 0 or not logits.is_floating_point():
        raise ValueError(
            "logits must be a non-empty floating-point (B, K) tensor, "
            f"got {tuple(logits.shape)} of {logits.dtype}. "
            "Pass the classifier's output before softmax or sigmoid."
        )
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"smoothing must lie in [0, 1], got {smoothing}. Pass 0.0 for none.")
    B, K = logits.shape
    hard = target.dtype == torch.int64 and target.shape == (B,)
    if not hard and not (target.is_floating_point() and target.shape == (B, K)):
        raise ValueError(
            f"target must be int64 labels ({B},) or float soft targets ({B}, {K}) to go with logits "
            f"({B}, {K}), got {tuple(target.shape)} of {target.dtype}. "
            "Convert labels with .long(), soft targets with .float()."
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # scatter_ rather than one_hot or nll_loss: no look at the values, and no label (-100) that is skipped in silence.
    soft = torch.zeros_like(logits).scatter_(1, target[:, None], 1.0) if hard else target.to(logits.dtype)
    return logits, (1 - smoothing) * soft + smoothing / K if smoothing else soft
