"""What one threshold for all samples can do: accuracy, uniform accuracy, and what lies between the two.

Inputs are torch tensors (any device, any float dtype) or NumPy arrays; what is wrong with them is said as in
`metrics`. K is the number of columns of logits or of rows of the weight.
"""

import itertools
import math

import torch
from torch import Tensor

from bcebook.science.checks import array, labelled

EQUALISED = ("biases", "rows", "lengths")  # what `uniform_gap` makes equal, one after the other


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share, in [0, 1], of samples whose own logit exceeds all others; a tie is wrong. logits (N, K), labels (N,).

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    0.5
    """
    own, other = _own_and_best_other(logits, labels)  # (N,), (N,)
    return _share(own > other)


def _share(served: Tensor) -> float:
    """Of bool (N,), counted and divided once: a mean on a GPU rounds in another way than one on the CPU."""
    return served.sum().item() / len(served)


def uniform_accuracy(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Largest share of samples, over one threshold t, with own logit > t and every other logit < t; and such a t.

    logits (N, K), labels (N,). Returns (fraction in [0, 1], t): t is the middle of the widest stretch of best
    thresholds, or of its ends where no float64 lies between (float64 logits only); nan if no threshold serves any
    sample. Exact: t serves sample i inside the open interval (best other, own), and a sweep finds where most overlap.
    Source: the paper's A_Uni.

    >>> share, t = uniform_accuracy(torch.tensor([[3.0, 1.0], [0.0, 2.0], [9.0, 8.0]]), torch.tensor([0, 1, 0]))
    >>> round(share, 3), t  # any t from 1 to 2 serves the first two samples; accuracy is 1
    (0.667, 1.5)
    """
    own, other = (x.double() for x in _own_and_best_other(logits, labels))  # (N,), (N,)
    start, end = (x[own > other].sort().values for x in (other, own))  # (n,), (n,)
    if len(start) == 0:
        return 0.0, math.nan
    # Just above a start s: the intervals begun less those over. Between two end points the number cannot change.
    served = torch.searchsorted(start, start, right=True) - torch.searchsorted(end, start, right=True)  # (n,)
    low = start[served == served.max()]  # (m,)
    high = end[torch.searchsorted(end, low, right=True)]  # (m,) an end: a start before it would serve more
    widest = (high - low).argmax()
    return served.max().item() / len(own), (0.5 * low[widest] + 0.5 * high[widest]).item()


def class_thresholds(logits: Tensor, labels: Tensor) -> list[float]:
    """For each class, the threshold that serves most of its own samples, as in `uniform_accuracy`; (K,), nan for a
    class without a sample that any threshold serves. How far they lie apart is what one threshold for all costs.

    logits (N, K), labels (N,). Source: ours; compare the unified threshold of UniTSFace, 2023.

    >>> class_thresholds(torch.tensor([[3.0, 1.0], [0.0, 6.0]]), torch.tensor([0, 1]))
    [2.0, 3.0]
    """
    logits, labels = labelled(logits, labels, "logits")
    found = []
    for k in range(logits.shape[1]):
        own = labels == k
        found.append(uniform_accuracy(logits[own], labels[own])[1] if own.any() else math.nan)
    return found


def uniform_accuracy_scales(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> dict[str, float]:
    """Uniform accuracy, a fraction in [0, 1], of one network on other scales than its raw logits w_k . h - b_k.

    features (N, d), labels (N,), weight (K, d), bias (K,), which the logit SUBTRACTS. Keys: "no_bias", the scores
    w_k . h; "unit", the scores of features of length 1 (a feature of length 0 stays 0); "centred", the logits less
    their mean over the sample's classes; "log_softmax", the logits less their log-sum-exp. A shift of a sample's
    scores or a positive factor on them moves no sample's argmax: what these numbers differ in is what one threshold
    for all samples can see. Source: ours.

    >>> features = torch.tensor([[1.0, 0.0], [9.0, 8.0], [0.0, 1.0]])  # the second is too long for one threshold
    >>> uniform_accuracy_scales(features, torch.tensor([0, 0, 1]), torch.eye(2), torch.zeros(2))["unit"]
    1.0
    """
    features, labels, weight, bias = _network(features, labels, weight, bias)
    scores, lengths = features @ weight.T, features.norm(dim=1, keepdim=True)  # (N, K), (N, 1)
    logits = scores - bias
    scales = {
        "no_bias": scores,
        "unit": scores / lengths.clamp(min=1e-300),
        "centred": logits - logits.mean(dim=1, keepdim=True),
        "log_softmax": logits.log_softmax(dim=1),
    }
    return {name: uniform_accuracy(values, labels)[0] for name, values in scales.items()}


def uniform_gap(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> dict[str, float]:
    """What accuracy minus uniform accuracy is made of, in fractions of the samples; the four parts add up to it.

    features (N, d), labels (N,), weight (K, d), bias (K,), which the logit SUBTRACTS. "biases", "rows", "lengths": the
    share of each in what is won back by making the classes' biases, the rows' lengths and the features' lengths equal
    (to their means): its Shapley value, the mean over all orders of doing so of what its turn wins back. "directions":
    what is lost with all three equal, to angles alone. A part is negative where the network makes good with it what
    others spoil. Rows and features of length 0 stay 0. Source: ours.

    >>> features = torch.tensor([[1.0, 0.0], [9.0, 8.0], [0.0, 1.0]])  # the second is too long for one threshold
    >>> found = uniform_gap(features, torch.tensor([0, 0, 1]), torch.eye(2), torch.zeros(2))
    >>> {name: round(value, 3) for name, value in found.items()}
    {'biases': 0.0, 'rows': 0.0, 'lengths': 0.333, 'directions': 0.0}
    """
    features, labels, weight, bias = _network(features, labels, weight, bias)
    scores, of_rows = features @ weight.T, weight.norm(dim=1)  # (N, K), (K,)
    of_features = features.norm(dim=1, keepdim=True)  # (N, 1)

    def lost(equal: frozenset[str]) -> float:
        logits = scores
        for name, lengths in (("rows", of_rows), ("lengths", of_features)):
            if name in equal:
                logits = logits / lengths.clamp(min=1e-300) * lengths.mean()
        logits = logits - (bias.mean() if "biases" in equal else bias)
        return accuracy(logits, labels) - uniform_accuracy(logits, labels)[0]

    n = len(EQUALISED)
    losses = {
        frozenset(chosen): lost(frozenset(chosen))
        for size in range(n + 1)
        for chosen in itertools.combinations(EQUALISED, size)
    }
    parts = dict.fromkeys(EQUALISED, 0.0)
    for before, loss in losses.items():
        weight_of = 1 / (n * math.comb(n - 1, len(before))) if len(before) < n else 0.0  # of the n! orders, this share
        for name in set(EQUALISED) - before:
            parts[name] += weight_of * (loss - losses[before | {name}])
    return parts | {"directions": losses[frozenset(EQUALISED)]}


def served_share(logits: Tensor, labels: Tensor, threshold: float) -> float:
    """Share, in [0, 1], of samples that one given threshold serves: own logit above it, every other below.

    logits (N, K), labels (N,). With the best threshold of the training set it says how far that threshold carries to a
    test set. nan for a threshold that is nan. Source: ours, from the definition of `uniform_accuracy`.

    >>> served_share(torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([0, 1]), threshold=2.5)
    0.5
    """
    if math.isnan(threshold):
        return math.nan
    own, other = (x.double() for x in _own_and_best_other(logits, labels))  # (N,), (N,)
    return _share((own > threshold) & (other < threshold))


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Each sample's own logit less the largest of its others (N,): above 0 where it is classified rightly.

    logits (N, K), labels (N,). Source: the field's.

    >>> margins(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0])).tolist()
    [1.0, -3.0]
    """
    own, other = _own_and_best_other(logits, labels)
    return own - other


def _own_and_best_other(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each sample's own logit (N,) and the largest of its others (N,)."""
    logits, labels = labelled(logits, labels, "logits")
    top, index = logits.topk(2)  # (N, 2); no slower than a masked maximum in chunks, and copies nothing
    return logits.gather(1, labels[:, None])[:, 0], torch.where(index[:, 0] == labels, top[:, 1], top[:, 0])


def _network(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four, checked against each other, in float64 but for the labels."""
    features, labels = labelled(features, labels, "features", len(weight))
    weight, bias = array(weight, "weight", 2, "float").double(), array(bias, "bias", 1, "float").double()
    if weight.shape[1] != features.shape[1] or bias.shape != weight.shape[:1]:
        raise ValueError(
            f"features {tuple(features.shape)}, weight {tuple(weight.shape)} and bias "
            f"{tuple(bias.shape)} do not go together. Pass the weight (K, d) and the bias (K,) of the "
            "layer that the features (N, d) enter."
        )
    return features.double(), labels, weight, bias
