"""How BCE's bias travels when training is not done: a slow flow in one dimension, the scores at rest beside it.

The scores (p, q) settle fast for a given bias b, and b creeps. Per sample, BCE is softplus(b - p) + (K-1) softplus(q -
b), so that each bias has the gradient (u - (K-1) v) / K + lambda_b b with the errors u = sigmoid(b - p), v = sigmoid(q
- b), and moves by minus that in effective time T, the sum of learning rate / (1 - momentum) over the steps. (p, q) is
the minimum, at that b, of the loss plus the least decay that makes such scores. Source: ours (lead 7 of the project).
"""

from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import expit, logit

from bcebook.science.closed_form import classes, finite, known_features


@dataclass(frozen=True)
class BiasFlow:
    """Where the flow is at some times: the bias b and the scores p and q at rest beside it, floats or arrays."""

    bias: float | np.ndarray
    positive: float | np.ndarray
    negative: float | np.ndarray


def resting_scores(num_classes, c, bias, features="free"):
    """(p, q) that minimise BCE plus the decay at a fixed bias, balanced classes, d >= K. Plain numbers.

    With s1 = p - q and s2 = |p + (K-1) q| the decay is c ((K-1) s1 + s2); with features >= 0 it is c K sqrt(p^2 +
    (K-1) q^2) where s2 < s1. The function is convex, and each case has one equation that rises:
    - c >= 1/K: s1 = 0, and p = q = 0 or v = c + 1/K, whichever is lower;
    - s2 = 0: p = s (K-1)/K, q = -s/K with u + v = c K, as long as u >= c (K-2);
    - s2 > 0 (p + (K-1) q < 0): u = c (K-2), v = 2 c;
    - nonnegative, s2 < s1: u = c K p / r, v = -c K q / r, r = sqrt(p^2 + (K-1) q^2), or both 0 where c K is at least
      sqrt(u^2 + (K-1) v^2) there.

    >>> [round(x, 3) for x in resting_scores(10, 5e-4 * 12.8**0.5, 5.2787)]  # at the bias of the minimum
    [9.393, -1.044]
    """
    return _resting(classes(num_classes), finite("c", c, above=True).item(), float(bias), known_features(features))


def _resting(k: int, c: float, b: float, features: str) -> tuple[float, float]:
    p, q = _free(k, c, b)
    if features == "nonnegative" and -(p + (k - 1) * q) < p - q:
        there = np.hypot(expit(b), np.sqrt(k - 1) * expit(-b))  # at p = q = 0
        return (0.0, 0.0) if there <= c * k else _orthogonal(k, c, b)
    return p, q


def _free(k: int, c: float, b: float) -> tuple[float, float]:
    if c * k >= 1:
        common = min(0.0, float(b + logit(c + 1 / k))) if c + 1 / k < 1 else 0.0
        return common, common
    if k > 2:
        p, q = b - logit(c * (k - 2)), b + logit(2 * c)
        if p + (k - 1) * q < 0 <= p - q:
            return float(p), float(q)

    def excess(s: float) -> float:  # of u + v over c K: falls with s, from above 0
        return expit(b - s * (k - 1) / k) + expit(-s / k - b) - c * k

    high = 1.0
    while excess(high) > 0:
        high *= 2
    s = brentq(excess, 0.0, high, xtol=1e-14, rtol=1e-14)
    return s * (k - 1) / k, -s / k


def _orthogonal(k: int, c: float, b: float) -> tuple[float, float]:
    """p = r cos(phi), q = -r sin(phi) / sqrt(K-1), so that u = c K cos(phi), v = c K sin(phi) / sqrt(K-1): both scores
    rise with phi, and they have the right ratio once."""

    def scores(phi: float) -> tuple[float, float]:
        return b - logit(c * k * np.cos(phi)), b + logit(c * k * np.sin(phi) / np.sqrt(k - 1))

    def off(phi: float) -> float:
        p, q = scores(phi)
        return p * np.sin(phi) + q * np.sqrt(k - 1) * np.cos(phi)

    inside = 1 - 1e-12  # u and v stay below one
    low = max(np.arccos(min(1.0, inside / (c * k))), 1e-300)
    high = min(np.arcsin(min(1.0, inside * np.sqrt(k - 1) / (c * k))), np.pi / 2 - 1e-15)
    phi = brentq(off, low, high, xtol=1e-300, rtol=1e-14, maxiter=2000)
    return tuple(map(float, scores(phi)))


def speed(num_classes, c, bias, lambda_b=0.0, features="free") -> float:
    """db/dT of the flow. Without decay of the bias its size is at most c: with free features and s2 = 0 it is -c times
    the subgradient of s2, which lies in [-1, 1]; where s2 > 0 it is c.

    >>> speed(10, 1e-3, 0.0) <= 1e-3
    True
    """
    return _speed(
        classes(num_classes), finite("c", c, above=True).item(), float(bias), lambda_b, known_features(features)
    )


def _speed(k: int, c: float, bias: float, lambda_b: float, features: str) -> float:
    p, q = _resting(k, c, bias, features)
    return float(-(expit(bias - p) - (k - 1) * expit(q - bias)) / k - lambda_b * bias)


def batch_noise(num_classes, c, bias, batch_size, features="free") -> float:
    """Standard deviation of a mini-batch's gradient of one bias, in nats per unit of bias, for collapsed classes whose
    scores rest beside the bias: batch_size samples are drawn with Binomial(B, 1/K) of each class, and nothing else
    varies. (u + v) sqrt(K - 1) / (K sqrt(B)). A network whose samples differ has more. Source: ours.

    >>> round(batch_noise(10, 1e-3, 0.0, 128) / 1e-3, 4)  # u + v = K c: sqrt((K - 1) / B) times c
    0.2652
    """
    k = classes(num_classes)
    p, q = resting_scores(k, c, bias, features)
    return float((expit(bias - p) + expit(q - bias)) * np.sqrt((k - 1) / batch_size) / k)


def bias_flow(num_classes, c, start, time, lambda_b=0.0, features="free") -> BiasFlow:
    """The bias after effective time `time` from `start`, and the scores at rest beside it.

    start, time: single numbers or arrays that broadcast; features: "free" or "nonnegative"; time >= 0. Integrated to a
    relative error of 1e-6. Raises ValueError for anything else.

    >>> late = bias_flow(10, 5e-4 * 12.8**0.5, 0.0, 1e5)  # at rest: the minimum
    >>> round(late.bias, 3), round(late.positive, 3)
    (5.279, 9.393)
    """
    k, c = classes(num_classes), finite("c", c, above=True).item()
    lambda_b, features = finite("lambda_b", lambda_b).item(), known_features(features)
    starts, times = np.broadcast_arrays(np.asarray(start, float), np.asarray(time, float))
    if not np.isfinite(starts).all() or not np.isfinite(times).all() or (times < 0).any():
        raise ValueError("start and time have to be numbers, time at least 0.")
    found = np.empty((3, starts.size))
    flat, due = starts.ravel(), times.ravel()
    for value in np.unique(flat):  # one integration for all times of a start
        here = np.flatnonzero(flat == value)
        moments, back = np.unique(due[here], return_inverse=True)
        found[0, here] = _path(k, c, value, moments, lambda_b, features)[back]
    for at, bias in enumerate(found[0].tolist()):
        found[1:, at] = _resting(k, c, bias, features)
    return BiasFlow(*(row.reshape(starts.shape) if starts.shape else float(row[0]) for row in found))


def _path(k: int, c: float, start: float, moments: np.ndarray, lambda_b: float, features: str) -> np.ndarray:
    last = moments[-1]
    if last == 0:
        return np.full(len(moments), start)
    solved = solve_ivp(
        lambda t, b: [_speed(k, c, float(b[0]), lambda_b, features)],
        (0.0, last),
        [start],
        method="LSODA",
        t_eval=moments,
        rtol=1e-8,
        atol=1e-9,
    )
    return solved.y[0]


def forgetting_time(num_classes, c, lambda_b=0.0, features="free") -> tuple[float, float]:
    """(bias, time): where the flow comes to rest, and the effective time in which it gets nearer by a factor e there.

    The rest is found between the smallest and the largest bias that can be one; infinite time where the flow is level.
    Source: ours, the flow linearised.
    """
    k = classes(num_classes)

    def at(bias: float) -> float:
        return speed(k, c, bias, lambda_b, features)

    low, high = -60.0, 60.0
    rest = brentq(at, low, high, xtol=1e-10)
    step = 1e-4
    slope = (at(rest + step) - at(rest - step)) / (2 * step)
    return rest, -1 / slope if slope < 0 else np.inf
