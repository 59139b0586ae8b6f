"""How BCE's bias travels where the classifier is no quicker than it: three slow numbers instead of one.

`flow` takes both scores to be at rest beside the bias. Where class means share a direction, as behind a ReLU, the
classifier answers the pull on the biases too, through its part along that direction, and nothing but its own decay
lets go of that part again, in an effective time of 1 / lambda_w. Features stay quick. Symbols as in `flow`; W has the
singular value a on contrasts of the classes (K - 1 times) and a0 on what they share, H has h and h0 = rho h:

    p = ((K-1) a h + a0 h0) / K,    q = (a0 h0 - a h) / K,    rho^2 = (1 + (K-1) cosine) / (1 - cosine)
    da/dT  = lambda_w ((u + v) h / (c K) - a)
    da0/dT = lambda_w ((u - (K-1) v) h0 / (c K) - a0)
    db/dT  = -(u - (K-1) v) / K - lambda_b b

in units of W and H in which both decays cost the same. The cosine of the class means is given, and the features have
the length at which loss plus decay is least. Source: ours.
"""

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import expit

from bcebook.science.closed_form import classes, finite
from bcebook.science.flow import BiasFlow

LEAST = 0.1  # of h0 / h: class means that share less share nothing, and a0 = (p + (K-1) q) / h0 would be noise


def common_part(num_classes, cosine):
    """rho = h0 / h, what class means have in common over what they have not, at least LEAST, from the cosine around
    zero of two of them; number or array.

    >>> common_part(10, 0.0), common_part(10, -1 / 9), round(float(common_part(10, 0.25)), 4)
    (1.0, 0.1, 2.0817)
    """
    cosine = np.asarray(cosine, float)
    whole = np.maximum(1 + (classes(num_classes) - 1) * cosine, 0.0)
    return np.maximum(np.sqrt(whole / (1 - cosine)), LEAST)[()]


def classifier_flow(num_classes, c, lambda_w, bias, positive, negative, times, cosines, lambda_b=0.0) -> BiasFlow:
    """Bias and scores at effective times (n,) that rise from 0. At time 0 the bias is given, and W by two scores: it
    makes them with features of its own norm, whose length is then what is best.

    cosines (n,): of the class means at those times, joined by straight lines in rho.
    As lambda_w grows with c kept, W is at rest too, and this is `bias_flow`, if the cosines are those at rest.
    Integrated to a relative error of 1e-6. Raises ValueError for times that do not rise from 0, cosines that are not
    below 1, and other input that is not a number.

    >>> late = classifier_flow(10, 1e-3, 5e-4, 4.0, 9.0, -2.0, [0.0, 1e5], [0.0, 0.0])
    >>> late.bias.round(3).tolist(), late.positive.round(3).tolist()  # at last the minimum of nonnegative features
    ([4.0, 5.704], [8.959, 10.352])
    """
    k, c, lambda_w = classes(num_classes), finite("c", c, above=True).item(), finite("lambda_w", lambda_w, True).item()
    lambda_b = finite("lambda_b", lambda_b).item()
    times, cosines = np.asarray(times, float), np.asarray(cosines, float)
    if not (times.ndim == 1 and times.shape == cosines.shape and times[0] == 0 and (np.diff(times) > 0).all()):
        raise ValueError("times have to rise from 0, with one cosine each.")
    if not (np.isfinite([bias, positive, negative]).all() and (cosines < 1).all()):
        raise ValueError("bias and scores have to be numbers, and cosines below 1.")
    rhos = common_part(k, cosines)

    def scores(a: float, a0: float, b: float, rho: float) -> tuple[float, float, float]:
        own, other = ((k - 1) * a + rho * a0) / k, (rho * a0 - a) / k
        h = _length(k, c, b, own, other, rho)
        return h, h * own, h * other

    def rates(time: float, state: np.ndarray) -> list[float]:
        a, a0, b = map(float, state)
        rho = float(np.interp(time, times, rhos))
        h, p, q = scores(a, a0, b, rho)
        u, v = expit(b - p), expit(q - b)
        pull = u - (k - 1) * v
        return [
            lambda_w * ((u + v) * h / (c * k) - a),
            lambda_w * (pull * rho * h / (c * k) - a0),
            -pull / k - lambda_b * b,
        ]

    gap, common = positive - negative, (positive + (k - 1) * negative) / rhos[0]
    h = (((k - 1) * gap**2 + common**2) / (k - 1 + rhos[0] ** 2)) ** 0.25  # |W| = |H|
    start = [gap / h, common / h, float(bias)] if h > 0 else [0.0, 0.0, float(bias)]
    solved = solve_ivp(rates, (0.0, times[-1]), start, method="LSODA", t_eval=times, rtol=1e-8, atol=1e-9)
    found = [scores(a, a0, b, rho)[1:] for (a, a0, b), rho in zip(solved.y.T, rhos, strict=True)]
    return BiasFlow(solved.y[2], *np.array(found).T)


def _length(k: int, c: float, b: float, own: float, other: float, rho: float) -> float:
    """The h that minimises softplus(b - h own) + (K-1) softplus(h other - b) + c (K-1 + rho^2) h^2 / 2: convex."""
    weight = c * (k - 1 + rho**2)

    def slope(h: float) -> float:
        return weight * h - expit(b - h * own) * own + (k - 1) * expit(h * other - b) * other

    if slope(0.0) >= 0:
        return 0.0
    high = (abs(own) + (k - 1) * abs(other)) / weight  # errors are at most 1
    return brentq(slope, 0.0, high, xtol=1e-13, rtol=1e-13)
