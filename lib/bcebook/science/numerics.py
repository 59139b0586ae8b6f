"""What both closed forms compute with: a bisection, and digits that would be lost."""

import numpy as np


def pull(c, lambda_b, highest, level):
    """The pull g = min(lambda_b t, c) on BCE's bias t at a minimum, and where it is c (decay can pull no harder).

    c <= 1 and lambda_b: arrays of one shape; highest: the pull at which t would be 0; level: a pull -> t, which falls
    as it grows, so that g = lambda_b level(g) has one solution. Halves the bracket a hundred times.

    >>> g, saturated = pull(np.array([0.1, 0.1]), np.array([0.5, 9.0]), 1.0, lambda g: 0.2 - g)
    >>> g.round(4).tolist(), saturated.tolist()
    ([0.0667, 0.1], [False, True])
    """
    low, high = np.zeros_like(c), np.minimum(c, highest)
    with np.errstate(over="ignore"):  # lambda_b t may be infinite: it is only compared
        saturated = (high == c) & (c <= lambda_b * level(high))
        for _ in range(100):
            g = (low + high) / 2
            below = g < lambda_b * level(g)
            low, high = np.where(below, g, low), np.where(below, high, g)
    return np.where(saturated, c, low), saturated


def log_rest(p, rest):
    """log(1 - p), given rest = 1 - p too: exact for p near 0 and near 1.

    >>> log_rest(1e-20, 1.0).item()
    -1e-20
    """
    return np.where(p < 0.5, np.log1p(-np.minimum(p, 0.5)), np.log(rest))


def plain(value):
    """A 0-d array as a plain number or string; other arrays unchanged.

    >>> plain(np.array(2.5))
    2.5
    """
    return np.asarray(value).item() if np.ndim(value) == 0 else value
