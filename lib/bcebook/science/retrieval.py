"""Features used without the classifier: the nearest images, and whether two images are of one class.

features (N, d), labels (N,): torch tensors or NumPy arrays, float64 inside, on the tensors' device (on the CPU if it
has no float64).
"""

import math

import numpy as np
import torch
from torch import Tensor

from bcebook.science.checks import array, labelled

METRICS = ("cosine", "euclidean")
ROWS = 1000  # queries at a time


def similarities(features: Tensor, metric: str) -> Tensor:
    """(N, N), larger is closer: cosines around zero (a feature of no length: 0), or minus Euclidean distances. Raises
    ValueError for an unknown metric."""
    h = array(features, "features", 2, "float").double()
    if metric == "cosine":
        h = torch.nn.functional.normalize(h, eps=1e-300)
        return h @ h.T
    if metric == "euclidean":
        return -torch.cdist(h, h)
    raise ValueError(f"there is no metric {metric!r}; choose one of {', '.join(METRICS)}.")


def retrieval(features: Tensor, labels: Tensor, metric: str) -> dict[str, float]:
    """Every image as a query against all others: "map", the mean over the queries of the average precision;
    "recall_at_1", the share whose nearest other image is of its class; "equal_error_rate" of "one class or two" over
    all pairs, where as large a share of the pairs of one class is refused as of the others accepted.

    A query without another image of its class is left out of the first two. Among equal similarities the order is that
    of the images. Raises ValueError where all images are of one class, or none has another of its class.

    >>> h = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 3.0]])
    >>> retrieval(h, torch.tensor([0, 0, 1, 1]), "cosine")
    {'map': 1.0, 'recall_at_1': 1.0, 'equal_error_rate': 0.0}
    """
    features, labels = labelled(features, labels, "features")
    same = labels[:, None] == labels  # (N, N)
    if same.all() or same.sum() == len(labels):
        raise ValueError("retrieval needs two classes, and a class with two images. Pass more images.")
    found = similarities(features, metric)
    own = torch.arange(len(labels), device=labels.device)
    upper = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    error = equal_error_rate(found[upper[0], upper[1]].cpu().numpy(), same[upper[0], upper[1]].cpu().numpy())
    found[own, own] = -math.inf  # comes last, and is cut off
    precision, first = [], []
    for rows in own.split(ROWS):
        order = found[rows].sort(dim=1, descending=True, stable=True).indices[:, :-1]
        hits = torch.gather(same[rows], 1, order).double()  # (rows, N - 1)
        rank = torch.arange(1, len(labels), device=labels.device)
        count = hits.sum(dim=1)
        precision.append(((hits.cumsum(dim=1) / rank) * hits).sum(dim=1)[count > 0] / count[count > 0])
        first.append(hits[count > 0, 0])
    return {
        "map": torch.cat(precision).mean().item(),
        "recall_at_1": torch.cat(first).mean().item(),
        "equal_error_rate": error,
    }


def equal_error_rate(similarity: np.ndarray, same: np.ndarray) -> float:
    """Where the share of refused pairs of one class meets that of accepted pairs of two, along scikit-learn's ROC
    curve. similarity (P,), same (P,) bool."""
    from sklearn.metrics import roc_curve

    accepted, right, _ = roc_curve(same, similarity)
    ahead = accepted - (1 - right)  # rises from -1 to 1
    at = int(np.argmax(ahead >= 0))
    if not ahead[at] or not at:
        return float(accepted[at])
    part = -ahead[at - 1] / (ahead[at] - ahead[at - 1])
    return float(accepted[at - 1] + part * (accepted[at] - accepted[at - 1]))
