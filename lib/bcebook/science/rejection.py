"""Does a score tell images of unknown classes from those of the trained ones, and how well does one threshold do it?

Arrays are NumPy's, float64 inside. A score is high where an image looks known. "Known" images are of trained classes,
"unknown" ones of classes that the network has never seen. Source of the definitions: as each function says; AUROC and
average precision are scikit-learn's.
"""

import numpy as np
from scipy.special import logsumexp

ACCEPTED = 0.95  # share of the known images that a threshold is set to accept


def scores(logits: np.ndarray) -> dict[str, np.ndarray]:
    """The scores (N,) of logits (N, K): "max_logit"; "max_softmax" and "max_sigmoid", as logarithms, which rank alike
    and do not saturate; "energy", log-sum-exp; "sum_softplus", the sum over the classes of log(1 + exp(z)).

    max_sigmoid ranks as max_logit does; both are here because both are asked for. Sources: Hendrycks and Gimpel, 2017
    (softmax); Liu et al., 2020 (energy); Wang et al., 2021 (sum of softplus, "joint energy").

    >>> found = scores(np.array([[0.0, 0.0]]))
    >>> {name: round(float(value[0]), 3) for name, value in found.items()}
    {'max_logit': 0.0, 'max_softmax': -0.693, 'max_sigmoid': -0.693, 'energy': 0.693, 'sum_softplus': 1.386}
    """
    z = np.asarray(logits, dtype=np.float64)
    top = np.partition(z, -1, axis=1)
    rest = logsumexp(top[:, :-1] - top[:, -1:], axis=1)  # of the others, against the largest
    largest = top[:, -1]
    return {
        "max_logit": largest,
        "max_softmax": -np.logaddexp(0, rest),
        "max_sigmoid": -np.logaddexp(0, -largest),
        "energy": logsumexp(z, axis=1),
        "sum_softplus": np.logaddexp(0, z).sum(axis=1),
    }


def threshold(known: np.ndarray, accepted: float = ACCEPTED) -> float:
    """The largest t for which at least the share `accepted` of the known scores (N,) is >= t.

    >>> threshold(np.arange(100.0))
    5.0
    """
    if not len(known):
        raise ValueError("there is no known score to set a threshold by; pass at least one.")
    return float(np.sort(known)[len(known) - int(np.ceil(accepted * len(known) - 1e-9))])


def separation(known: np.ndarray, unknown: np.ndarray) -> dict[str, float]:
    """Known scores (N,) against unknown ones (M,): "auroc"; "fpr95", the share of the unknown that passes the threshold
    which accepts 95 % of these same known ones; "aupr", average precision with the known as positives, which depends
    on N : M.

    >>> separation(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    {'auroc': 1.0, 'fpr95': 0.0, 'aupr': 1.0}
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    both, is_known = np.concatenate([known, unknown]), np.arange(len(known) + len(unknown)) < len(known)
    return {
        "auroc": float(roc_auc_score(is_known, both)),
        "fpr95": float(np.mean(unknown >= threshold(known))),
        "aupr": float(average_precision_score(is_known, both)),
    }


def oscr(known: np.ndarray, correct: np.ndarray, unknown: np.ndarray) -> float:
    """The area under "known, accepted and classified correctly" against "unknown and accepted", both as shares, over
    all thresholds. known (N,), correct (N,) bool, unknown (M,). At most the accuracy; a tie counts half.
    Source: Dhamija et al., "Reducing Network Agnostophobia", 2018.

    >>> oscr(np.array([2.0, 3.0]), np.array([True, False]), np.array([0.0, 1.0]))
    0.5
    """
    order = np.sort(unknown)
    below = (np.searchsorted(order, known, "left") + np.searchsorted(order, known, "right")) / 2
    return float(np.sum(below[np.asarray(correct)]) / (len(known) * len(unknown)))


def class_thresholds(known: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """A `threshold` for each predicted class (K,), from the known scores (N,) of the images that are predicted as it,
    right or wrong; for a class that is never predicted, the one of all."""
    common = threshold(known)
    return np.array(
        [threshold(known[predicted == k]) if (predicted == k).any() else common for k in range(num_classes)]
    )
