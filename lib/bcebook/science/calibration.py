"""Can the network's probabilities be believed, as they are and after one temperature?

logits (N, K) and labels (N,) are NumPy arrays, float64 inside. Three ways from logits to probabilities (KINDS):
"softmax"; "sigmoid", each class by itself, whose NLL is the binary cross-entropy summed over the classes and therefore
not to be compared with the others'; "normalised", the sigmoids divided by their sum.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

KINDS = ("softmax", "sigmoid", "normalised")
BINS = 15
WIDEST = 5.0  # temperatures from exp(-5) to exp(5)


def log_probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    """Logarithms of the probabilities (N, K) of a kind. Raises ValueError for an unknown kind.

    >>> np.exp(log_probabilities(np.zeros((1, 4)), "normalised")).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind of probability {kind!r}; choose one of {', '.join(KINDS)}.")
    z = np.asarray(logits, dtype=np.float64)
    if kind == "softmax":
        return log_softmax(z, axis=1)
    log_sigmoid = -np.logaddexp(0, -z)
    return log_sigmoid if kind == "sigmoid" else log_softmax(log_sigmoid, axis=1)


def nll(logits: np.ndarray, labels: np.ndarray, kind: str) -> float:
    """Negative log-likelihood of the labels in nats, the mean over the samples.

    >>> round(nll(np.zeros((1, 4)), np.array([2]), "softmax"), 4)  # log 4
    1.3863
    """
    found, rows = log_probabilities(logits, kind), np.arange(len(labels))
    if kind != "sigmoid":
        return float(-found[rows, labels].mean())
    others = np.logaddexp(0, np.asarray(logits, dtype=np.float64))  # -log(1 - sigmoid)
    others[rows, labels] = 0
    return float((others.sum(axis=1) - found[rows, labels]).mean())


def brier(logits: np.ndarray, labels: np.ndarray, kind: str) -> float:
    """Squared distance between the probabilities and the one-hot label, summed over the classes, the mean over the
    samples. Source: Brier, 1950."""
    p = np.exp(log_probabilities(logits, kind))
    p[np.arange(len(labels)), labels] -= 1
    return float(np.square(p).sum(axis=1).mean())


def reliability(logits: np.ndarray, labels: np.ndarray, kind: str, bins: int = BINS) -> np.ndarray:
    """Confidence (the largest probability) against accuracy: a row of [samples, mean confidence, share correct] for
    each bin, of samples in the order of their confidence, as many in each as can be (Nixon et al., 2019)."""
    found = log_probabilities(logits, kind)
    confidence, correct = np.exp(found.max(axis=1)), found.argmax(axis=1) == labels
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(labels)))
    return np.array([[len(part), confidence[part].mean(), correct[part].mean()] for part in parts])


def ece(logits: np.ndarray, labels: np.ndarray, kind: str, bins: int = BINS) -> float:
    """Expected calibration error: |mean confidence - share correct| over the bins of `reliability`, weighted by their
    samples."""
    count, confidence, correct = reliability(logits, labels, kind, bins).T
    return float(np.average(np.abs(confidence - correct), weights=count))


def temperature(logits: np.ndarray, labels: np.ndarray, kind: str) -> float:
    """The T > 0 whose logits / T have the least `nll`, between exp(-5) and exp(5). Source: Guo et al., 2017."""
    found = minimize_scalar(
        lambda log: nll(np.asarray(logits) / np.exp(log), labels, kind),
        bounds=(-WIDEST, WIDEST),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))
