"""Minority collapse in the model with free features: the minimum for unequal classes, and whether the classifier rows
of the smallest classes (the tail) have merged there."""

import functools

import numpy as np

from bcebook.science import theory

MERGED = 1e-3  # rows closer than this count as one: above the threshold their distance grows like a square root
SEARCHES = 8  # random starts where features are nonnegative or dimensions are few: there are local minima
# A bisection begins with multiples from 1/2 to 2 of the theorem's threshold and halves the interval STEPS times.
BRACKET, STEPS = 4.0, 12
LAST_STEP = BRACKET ** (1 / 2**STEPS) - 1  # the width of its last interval, relative


@functools.cache
def _at_share(loss: str, shares: tuple, product: float, lambda_b: float, features: str, dim: int) -> theory.Solution:
    decay, k = np.sqrt(product), len(shares)
    restarts = 1 if features == "free" and dim >= k else SEARCHES
    counts = np.array(shares)
    return theory.solve(loss, k, dim, None, decay, decay, lambda_b, counts=counts, features=features, restarts=restarts)


def at_share(
    loss: str, counts, product: float, lambda_b: float = 0.0, features: str = "free", dim: int | None = None
) -> theory.Solution:
    """The minimum in dim (None: K) dimensions for classes of these sizes (K,) and product = B lambda_W lambda_H. For
    free features and dim >= K every local minimum is global; otherwise it is the best of several searches.

    In mini-batches of B only the classes' shares of the data matter: lambda_H acts as lambda_H B / N, so that class k's
    features are decayed by lambda_H B times its share. Both decays are taken equal: only their product enters the
    logits.
    """
    shares = np.asarray(counts, float) / np.sum(counts)
    return _at_share(loss, tuple(shares.tolist()), float(product), float(lambda_b), features, dim or len(shares))


def at_multiple(
    loss: str, counts, multiple: float, lambda_b: float = 0.0, features: str = "free", dim: int | None = None
) -> theory.Solution:
    """As `at_share`, with the decay at which the smallest class has `multiple` times the samples of the theorem's
    threshold."""
    return at_share(loss, counts, min(counts) / np.sum(counts) / multiple, lambda_b, features, dim)


def relative_distance(weight: np.ndarray, counts) -> float:
    """The largest distance between two classifier rows of the smallest classes, divided by the distance between the
    rows of the two largest classes; 0 if the rows of the smallest have merged. weight (K, d), counts (K,).

    >>> relative_distance(np.array([[0, 2.0], [0, -2.0], [1, 0], [-1, 0]]), [9, 9, 1, 1])
    0.5
    """
    counts = np.asarray(counts)
    rows = weight[counts == counts.min()]
    tail = np.linalg.norm(rows[:, None] - rows[None], axis=-1).max()
    first, second = weight[np.argsort(-counts, kind="stable")[:2]]
    return float(tail / np.linalg.norm(first - second)) if tail > MERGED else 0.0


def threshold(loss: str, counts, lambda_b: float = 0.0, steps: int = STEPS) -> float:
    """The size of the smallest classes at which bisection on plain minimisations finds that their rows separate, over
    the theorem's N B lambda_W lambda_H: 1 if the theorem holds, to LAST_STEP."""
    low, high = BRACKET**-0.5, BRACKET**0.5
    for _ in range(steps):
        middle = np.sqrt(low * high)
        apart = relative_distance(at_multiple(loss, counts, middle, lambda_b).W, counts) > 0
        low, high = (low, middle) if apart else (middle, high)
    return float(np.sqrt(low * high))
