"""The unconstrained-features model with features >= 0, as after a ReLU: where CE and BCE have their minimum.

f, its symbols and units as in `closed_form`, with balanced classes and every entry of every feature at least 0. Class
features are then orthogonal around zero, not a simplex ETF, until the decay of BCE's bias is so strong that the
offset takes their sign's place; from there on the minimum is that of free features. Source: ours (lead 5 of the
project, proved in the chapter on ReLU features); for CE compare Dang et al., ICML 2024.
"""

import numpy as np

from bcebook.science import closed_form, numerics
from bcebook.science.closed_form import Minimum, classes, finite


def minimum(loss, num_classes, c, lambda_b=0.0):
    """Global minimum of f over features >= 0, as a Minimum; d >= K. c, lambda_b: numbers or arrays, broadcast together.

    With p the positive and q the negative score, s1 = p - q and s2 = |p + (K-1) q|, the least decay of W and H is
    c ((K-1) s1 + s2) where s2 >= s1, and c K sqrt(p^2 + (K-1) q^2) where s2 < s1: there the class features are
    orthogonal, and the errors u = sigmoid(b - p) and v = sigmoid(q - b) lie on a circle, u^2 + (K-1) v^2 = c^2 K^2.
    BCE: for lambda_b = 0 and from `critical_lambda_b` on solved by a formula, in between by a bisection on one
    monotone equation. From c = sqrt((K-1)/K)/K on, both scores are 0 unless a common offset pays. CE: a formula; its
    bias is 0, or free up to a common constant, as for free features.

    >>> m = minimum("bce", 10, c=5e-4 * 12.8**0.5)
    >>> round(m.positive, 4), round(m.negative, 4), round(m.bias, 4), abs(m.cosine) < 1e-9
    (9.2977, -1.0331, 5.2385, True)
    """
    k = classes(num_classes, loss)
    c, lambda_b = np.broadcast_arrays(finite("c", c, above=True), finite("lambda_b", lambda_b))
    c = np.minimum(c, 1.0)  # as for free features: from c = 1/2 on nothing changes
    if loss == "ce":
        v = np.minimum(c * np.sqrt(k / (k - 1)), 1 / k)  # the softmax of a wrong class
        r = 1 - k * v
        gap = np.log1p(r / v)
        positive, negative, bias = (k - 1) / k * gap, -gap / k, np.zeros_like(gap)
        value = -numerics.log_rest((k - 1) * v, v + r) + c * np.sqrt(k * (k - 1)) * gap
        saturated = np.zeros(gap.shape, bool)
    else:
        pull, saturated = numerics.pull(c, lambda_b, _widest(k, c), lambda g: _level(*_errors(k, c, g)))
        u, v, r = _errors(k, c, pull)
        gap, level = np.log1p(r / u) + np.log1p(r / v), _level(u, v, r)  # p - q; the bias
        positive, negative = gap * u / (u + v), -gap * v / (u + v)
        divide = lambda_b > 1  # lambda_b b = pull: see `closed_form.minimum`
        bias = np.where(divide, pull / np.where(divide, lambda_b, 1.0), level)
        value = (
            -numerics.log_rest(u, v + r)
            - (k - 1) * numerics.log_rest(v, u + r)
            + k * c * np.hypot(positive, np.sqrt(k - 1) * negative)
            + k * (lambda_b * bias) * bias / 2
        )
    here = positive, negative, bias, (positive + (k - 1) * negative) / k, value, np.where(gap > 0, k, 1)
    free = closed_form.minimum(loss, k, c, lambda_b)  # what it is where the sign does not bind
    there = free.positive, free.negative, free.bias, free.offset, free.objective, free.min_dim
    found = (np.where(saturated, b, a) for a, b in zip(here, there, strict=True))
    return Minimum(*(numerics.plain(x) for x in found), num_classes=k, features="nonnegative")


def critical_lambda_b(loss, num_classes, c):
    """The lambda_b from which on the sign of the features costs nothing: the minimum is that of free features, whose
    class features then have a cosine of 0 or more. c number or array.

    c K / (2 logit((K-2) c) - (K-2) logit(2 c)). Infinite where that never happens: for CE, for K <= 4, and where c is
    so large that the scores agree and the bias would be 0 or below. Source: ours.

    >>> round(critical_lambda_b("bce", 10, c=0.0018), 6), critical_lambda_b("bce", 3, c=0.0018)
    (0.000493, inf)
    """
    k = classes(num_classes, loss)
    c = np.minimum(finite("c", c, above=True), 1.0)
    pull = np.minimum(c, _widest(k, c))
    level = _level(*_errors(k, c, pull))
    meets = (level > 0) & (pull == c) & (loss == "bce")
    return numerics.plain(np.where(meets, c / np.where(meets, level, 1.0), np.inf))


def assemble(minimum, num_classes, dim, lambda_w, lambda_h, per_class):
    """W (K, d), H (d, K) and b (K,) that realise a Minimum of plain numbers, H >= 0.

    H is the square root of a Gram matrix g1 (I - J/K) + g2 J/K with g2 >= g1, which has no entry below 0. lambda_w
    lambda_h per_class must be the c^2 for which the Minimum was made. Raises ValueError for dim < K.

    >>> W, H, b = assemble(minimum("ce", 2, c=0.25), 2, dim=2, lambda_w=0.25, lambda_h=0.25, per_class=1)
    >>> (H >= 0).all(), (W @ H).round(4).tolist()  # log(2 sqrt(2) - 1) / 2 on the own class
    (np.True_, [[0.3017, -0.3017], [-0.3017, 0.3017]])
    """
    k, dim = classes(num_classes), closed_form.whole("dim", dim, 1)
    if k != minimum.num_classes or np.ndim(minimum.positive) or dim < k:
        raise ValueError(
            f"the Minimum is for {minimum.num_classes} classes and d >= K (shape "
            f"{np.shape(minimum.positive)}); got {k} classes and dim {dim}. Pass one point that fits."
        )
    gap, common = minimum.positive - minimum.negative, minimum.positive + (k - 1) * minimum.negative
    each = max(abs(gap), abs(common))
    if abs(common) < gap:  # the sign binds: both parts of the Gram matrix are one, and cost what sqrt(mean) does
        each = np.sqrt(((k - 1) * gap**2 + common**2) / k)
        roots = np.sqrt(each), np.sqrt(each)
    else:
        roots = np.sqrt(abs(gap)), np.sqrt(abs(common))
    even = np.full((k, k), 1 / k)
    spread = np.eye(k) - even
    parts = [value / root if root > 0 else 0.0 for value, root in zip((gap, common), roots, strict=True)]
    balance = (per_class * lambda_h / lambda_w) ** 0.25  # the split of W H at which both norms cost the same
    W, H = np.zeros((k, dim)), np.zeros((dim, k))
    W[:, :k] = (parts[0] * spread + parts[1] * even) * balance
    H[:k] = np.maximum(roots[0] * spread + roots[1] * even, 0) / balance  # rounding alone could be below 0
    return W, H, np.full(k, float(minimum.bias))


def _errors(k, c, g):
    """(u, v, r): the errors of a positive and of a negative logit where the bias is pulled by g = ((K-1) v - u) / K,
    and r = 1 - u - v; c and g arrays. The point of the circle u^2 + (K-1) v^2 = c^2 K^2 on that line, but no further
    out than u + v = 1, where both scores are 0."""
    w = np.minimum(np.sqrt(np.maximum(0.0, (np.sqrt(k) * c - g) * (np.sqrt(k) * c + g))), np.sqrt(k - 1) / k)
    u, v = np.sqrt(k - 1) * w - g, g + w / np.sqrt(k - 1)
    return u, v, np.maximum(0.0, 1 - w * k / np.sqrt(k - 1))


def _level(u, v, r):
    """The bias at which the scores with errors u and v are in the ratio p : -q = u : v. It falls as the pull grows."""
    return (v * np.log(u / (v + r)) - u * np.log(v / (u + r))) / (u + v)


def _widest(k, c):
    """The pull at which the bias would be 0: u = v."""
    return (k - 2) / np.sqrt(k) * np.minimum(c, 1 / (2 * np.sqrt(k)))
