"""How fast features come to rest at the minimum: the curvature of one sample's loss plus decay in its feature.

f, its symbols and units as in `closed_form`. Near the minimum, gradient flow in time t shrinks a feature's distance
from its class mean as exp(-rate lambda_h t), and so NC1 as exp(-2 across lambda_h t), if across < 1 + lambda_w /
lambda_h. (Else a slower term of second order shows at last: deviations off the span, which fall at the rate 1, times
what W has off the span, which falls at lambda_w / lambda_h for BCE and at 1 + lambda_w / lambda_h for CE.)
Source: ours (lead 8 of the project, proved in the chapter on the speed of collapse).
"""

from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import expit, softmax

from bcebook.science import closed_form, numerics
from bcebook.science.closed_form import classes, known_features


@dataclass(frozen=True)
class RelaxationRates:
    """Eigenvalues of the Hessian of one sample's loss plus decay in its feature, in units of lambda_h.

    across: K - 2 times, along differences of other classes' rows (nan for K = 2); own: along the own class's row;
    common: along what all rows share, 1 where they share nothing. Off the span of the rows the eigenvalue is 1.
    Numbers or arrays.
    """

    across: float | np.ndarray
    own: float | np.ndarray
    common: float | np.ndarray


def relaxation_rates(loss, num_classes, c, lambda_b=0.0, features="free", label_smoothing=0.0) -> RelaxationRates:
    """The RelaxationRates at the minimum of `closed_form.minimum`; c, lambda_b: numbers or arrays, broadcast together.

    With the ETF part s of the scores, lambda_b = 0 and c < 1/K both losses leave the errors (K-1) c and c, and
        CE:   across = 1 + s / (K-1),           own = 1 + s (1 - (K-1) c) K / (K-1),
        BCE:  across = 1 + s (1 - c) / (K-1),   own = 1 + s ((K-1) (1 - (K-1) c) + (1 - c) / (K-1)) / K.
    For BCE and lambda_b > 0 the errors differ, and from `closed_form.critical_lambda_b` on the rows share a direction:
    own and common are then the eigenvalues in the plane of own row and common direction, the larger one as own.
    label_smoothing e leaves the errors of c + e/K, with s as in `closed_form.minimum`: for lambda_b = 0, the terms
    above but for the 1 are (c + e/K) / c times those of c + e/K.
    Raises ValueError for features "nonnegative": there the sign, and no curvature, keeps most coordinates at 0.

    >>> rates = relaxation_rates("bce", 10, 5e-4 * 12.8**0.5)
    >>> round(rates.across, 3), round(rates.own, 3), rates.common
    (2.042, 9.422, 1.0)
    """
    k = classes(num_classes, loss)
    if known_features(features) == "nonnegative":
        raise ValueError("there are rates for free features alone; pass features='free'.")
    found = closed_form.minimum(loss, k, c, lambda_b, label_smoothing)
    c = np.broadcast_to(np.asarray(c, float), np.shape(found.positive))
    o = np.asarray(found.offset)
    s = found.positive - o
    if loss == "ce":
        v = np.exp(-np.logaddexp(np.log(k - 1), s * k / (k - 1)))  # the softmax of a wrong class
        others, own, mixed, shared = v, (k - 1) * v * (1 - (k - 1) * v) * k / (k - 1), 0.0, 0.0
    else:
        u, v = expit(found.bias - found.positive), expit(found.negative - found.bias)
        right, others = u * (1 - u), v * (1 - v)
        own = ((k - 1) * right + others) / k
        mixed = np.sqrt(k - 1) * (right - others) / k
        shared = (right + (k - 1) * others) / k
    # W'DW / (N lambda_h) in the basis of own row and common direction: the rows are kappa (sqrt(s) e_k, sqrt(-o)), with
    # kappa^2 / (N lambda_h) = 1 / (K c); a simplex ETF with rows of length one has the singular value sqrt(K / (K-1)).
    whole = s / ((k - 1) * c)
    a, b, d = whole * own, np.sqrt(whole * -o / c) * mixed, -o / c * shared
    half, root = (a + d) / 2, np.hypot((a - d) / 2, b)
    across = 1 + whole * others if k > 2 else np.full(np.shape(s), np.nan)
    smaller = np.where(b == 0, np.minimum(a, d), half - root)
    return RelaxationRates(*(numerics.plain(np.asarray(x)) for x in (across, 1 + half + root, 1 + smaller)))


def collapse_flow(loss, num_classes, c, times, per_class=5, lambda_ratio=10.0, seed=0):
    """NC1 (n,) along the gradient flow of f in W, every feature and b, from a random start, at times (n,) in units of
    1 / lambda_h that rise from 0. lambda_b = 0, d = K + 2, lambda_w = lambda_ratio lambda_h, and lambda_h from c.
    In mini-batch training that ratio is N / B times that of the two decays.

    NC1 = trace(S_W pinv(S_B)) / K as in `metrics`. The start: W and features normal with standard deviation 0.3, b = 0.
    Dormand and Prince's method, relative error 1e-8. Raises ValueError for times that do not rise from 0.

    >>> nc1 = collapse_flow("bce", 10, 5e-4 * 12.8**0.5, [0.0, 5.0, 5.5])
    >>> round(float(-np.log(nc1[2] / nc1[1])), 2)  # twice the rate across, in half a unit of time
    2.04
    """
    k, n, times = classes(num_classes, loss), closed_form.whole("per_class", per_class, 2), np.asarray(times, float)
    c, ratio = closed_form.finite("c", c, above=True), closed_form.finite("lambda_ratio", lambda_ratio, above=True)
    if times.ndim != 1 or len(times) < 2 or times[0] != 0 or not (np.diff(times) > 0).all():
        raise ValueError("times have to rise from 0.")
    d, total, labels = k + 2, n * k, np.repeat(np.arange(k), n)
    target, lambda_h = np.eye(k)[:, labels], c / np.sqrt(n * ratio)

    def split(x):
        return x[: k * d].reshape(k, d), x[k * d : -k].reshape(d, total), x[-k:]

    def velocity(_, x):
        W, H, b = split(x)
        Z = W @ H - b[:, None]
        R = ((softmax(Z, axis=0) if loss == "ce" else expit(Z)) - target) / total
        parts = R @ H.T + ratio * lambda_h * W, W.T @ R + lambda_h * H, -R.sum(axis=1)
        return -np.concatenate([part.ravel() for part in parts]) / lambda_h

    rng = np.random.default_rng(seed)
    start = np.concatenate([0.3 * rng.normal(size=(k + total) * d), np.zeros(k)])
    path = solve_ivp(velocity, (0.0, times[-1]), start, t_eval=times, rtol=1e-8, atol=1e-11).y.T
    return np.array([_nc1(split(x)[1], labels) for x in path])


def _nc1(H, labels):
    """NC1 of features H (d, N), classes of one size."""
    means = np.stack([H[:, labels == y].mean(axis=1) for y in range(labels.max() + 1)], axis=1)
    within, between = H - means[:, labels], means - means.mean(axis=1, keepdims=True)
    k = means.shape[1]
    return np.trace(within @ within.T / H.shape[1] @ np.linalg.pinv(between @ between.T / k, rcond=1e-6)) / k
