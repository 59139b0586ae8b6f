"""The unconstrained-features model with balanced classes: where CE and BCE have their minimum, in closed form.

    f(W, H, b) = (1/N) sum of losses + lambda_w/2 |W|^2 + lambda_h/2 sum over samples |h|^2 + lambda_b/2 |b|^2

K classes, n samples a class (N = nK), classifier rows w_k, features h in R^d of either sign, decision score w_k.h,
logit w_k.h - b_k (the bias is SUBTRACTED). Losses in nats; BCE is the SUM over the K classes. All is float64. n and
the decays enter only through c = sqrt(n lambda_w lambda_h). Source: the model is the paper's; the closed form, the
offset and the thresholds are ours.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import helmert
from scipy.special import expit

from bcebook.science import numerics

LOSSES, FEATURES = ("ce", "bce"), ("free", "nonnegative")
MAX_CLASSES = 100_000  # the tests go so far


@dataclass(frozen=True)
class Minimum:
    """The global minimum for balanced classes; every field a float, or an array of the shape of c and lambda_b.

    positive: w_y.h; negative: w_j.h for j != y; bias: b of every class; offset: the part of both scores that a
    direction common to all classes makes (0 or below; positive - offset is the simplex-ETF part); objective: f, in
    nats.
    min_dim: rank of the minimiser; the minimum is attained, so holds, exactly where the dimension d is at least that.
    """

    positive: float | np.ndarray
    negative: float | np.ndarray
    bias: float | np.ndarray
    offset: float | np.ndarray
    objective: float | np.ndarray
    min_dim: int | np.ndarray
    num_classes: int
    features: str = "free"  # in sign, or "nonnegative"

    @property
    def holds_for(self):
        """'d >= K' with an ETF and an offset, 'd >= K-1' with an ETF alone, 'd >= 1' with no ETF (c >= 1/K)."""
        spare = self.num_classes - np.asarray(self.min_dim)
        return numerics.plain(np.select([spare == 0, spare == 1], ["d >= K", "d >= K-1"], "d >= 1"))

    @property
    def cosine(self):
        """Of the features of two classes: `feature_cosine`."""
        common = np.abs(self.offset) * self.num_classes  # exactly 0 without an offset, as the sum of scores is not
        return feature_cosine(self.num_classes, self.positive - np.asarray(self.negative), common, self.features)


def feature_cosine(num_classes, gap, common, features="free"):
    """Cosine around zero of the features of two classes where decay is least, for scores p and q with gap = p - q and
    common = |p + (K-1) q|; broadcasts. nan where the features have no length, 1 where all are one.

    Their Gram matrix has the eigenvalue `common` once and `gap` K - 1 times, up to one factor; nonnegative features
    have the larger of the two for both while their sign binds.

    >>> feature_cosine(5, 2.0, 0.0), feature_cosine(5, 2.0, 0.0, "nonnegative"), feature_cosine(5, 2.0, 4.0)
    (-0.25, 0.0, 0.16666666666666666)
    """
    common = np.maximum(common, gap) if features == "nonnegative" else np.asarray(common)
    whole = common + (num_classes - 1) * np.asarray(gap)
    return numerics.plain(np.where(whole > 0, (common - gap) / np.where(whole > 0, whole, 1.0), np.nan))


def whole(name, value, low, high=None):
    """value as an int, if it is a whole number (of an integer type, no bool) from low to high; else ValueError.

    >>> whole("dim", 4, 1)
    4
    >>> whole("dim", 4.0, 1)
    Traceback (most recent call last):
    ValueError: dim is 4.0; expected a whole number, dim >= 1.
    """
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integer or value < low or (high is not None and value > high):
        permitted = f", {name} >= {low}" if high is None else f" from {low} to {high}"
        raise ValueError(f"{name} is {value!r}; expected a whole number{permitted}.")
    return int(value)


def classes(num_classes, loss="ce"):
    """num_classes as an int, if it is one from 2 to MAX_CLASSES and the loss is known; else ValueError.

    >>> classes(10, "bce")
    10
    """
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; expected one of {', '.join(LOSSES)}.")
    return whole("num_classes", num_classes, 2, MAX_CLASSES)


def known_features(features):
    """features, if it is one of FEATURES; else ValueError.

    >>> known_features("free")
    'free'
    """
    if features not in FEATURES:
        raise ValueError(f"features is {features!r}; expected one of {', '.join(FEATURES)}.")
    return features


def finite(name, values, above=False):
    """values as float64, if all are finite and >= 0 (above: > 0, where the problem has no minimum at 0); else
    ValueError.

    >>> finite("lambda_b", 0).item()
    0.0
    """
    values = np.asarray(values, dtype=np.float64)
    good = np.isfinite(values) & ((values > 0) if above else (values >= 0))
    if not np.all(good):
        permitted = "above 0" if above else "of 0 or more"
        raise ValueError(
            f"{name} holds {values[~good].flat[0]}; expected finite numbers {permitted}. Check how it was made."
        )
    return values


def smoothing(label_smoothing):
    """label_smoothing as a float, if it is a number from 0 to below 1; else ValueError.

    >>> smoothing(0)
    0.0
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected a number from 0 to below 1.")
    return float(label_smoothing)


def simplex_etf(num_classes, dim):
    """Simplex equiangular tight frame: (K, d) rows of length 1, any two with cosine -1/(K-1), summing to 0.

    Uses the first K-1 of the d axes. Raises ValueError for d < K-1, where there is none. Source: the paper, Theorem
    3.1.

    >>> rows = simplex_etf(3, 2)
    >>> (rows @ rows.T).round(3).tolist()
    [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]
    """
    k, dim = classes(num_classes), whole("dim", dim, 1)
    if dim < k - 1:
        raise ValueError(f"dim is {dim}; a simplex ETF of {k} classes needs dim >= {k - 1}: raise dim.")
    rows = np.sqrt(k / (k - 1)) * helmert(k).T  # (K, K-1): columns orthonormal, each summing to 0
    return np.pad(rows, ((0, 0), (0, dim - k + 1)))


def effective_c(lambda_w, lambda_h, batch_size, num_classes):
    """The c = sqrt(n lambda_w lambda_h) of mini-batch training: sqrt(lambda_w lambda_h B / K), whatever N is.

    The authors' code adds lambda_h/2 times the SUM of |h|^2 over the batch to the batch's mean loss, which makes the
    feature decay of f lambda_h B / N; with n = N/K samples a class, n B / N = B / K. Source: ours, reading their code.

    >>> round(effective_c(5e-4, 5e-4, batch_size=128, num_classes=10), 6)
    0.001789
    """
    decay = finite("lambda_w", lambda_w, above=True) * finite("lambda_h", lambda_h, above=True)
    return numerics.plain(np.sqrt(decay * finite("batch_size", batch_size, above=True) / classes(num_classes)))


def minimum(loss, num_classes, c, lambda_b=0.0, label_smoothing=0.0):
    """Global minimum of f for balanced classes, as a Minimum. c, lambda_b: numbers or arrays, broadcast together.

    loss "ce" or "bce"; num_classes 2 to 100,000; c = sqrt(n lambda_w lambda_h) > 0 (see effective_c for training with
    mini-batches); lambda_b >= 0. f sees W and H through one number s and an offset o: with t = b - o, BCE's f is
        softplus(t - s) + (K-1) softplus(-s/(K-1) - t) + K c (s + |o|) + K lambda_b b^2 / 2.
    For lambda_b = 0 and for lambda_b >= critical_lambda_b this is solved by a formula, in between by a bisection on
    one monotone equation. From c = 1/K on, s = 0: positive and negative score agree. CE: o = 0 always, and b = 0 for
    lambda_b > 0; for lambda_b = 0 the bias is free up to a common constant, and the one returned is 0.
    label_smoothing e in [0, 1): targets (1 - e) onehot + e/K add e s to both losses, as more decay of s alone would: in
    the equation for s, c becomes c + e/K, and s = 0 from c = (1 - e)/K on.
    Source: ours (the chapter on the bias proves it); it agrees with the paper's Theorem 3.2 while the offset is 0.

    >>> m = minimum("bce", 10, c=0.0018)
    >>> round(m.positive, 2), round(m.negative, 2), round(m.bias, 2), m.holds_for
    (9.38, -1.04, 5.28, 'd >= K-1')
    """
    k = classes(num_classes, loss)
    c, lambda_b = np.broadcast_arrays(finite("c", c, above=True), finite("lambda_b", lambda_b))
    c = np.minimum(c, 1.0)  # from c = 1/2 on nothing changes: no ETF, no offset; and K c cannot overflow
    e = smoothing(label_smoothing)
    if loss == "ce":
        v, r = np.minimum(c + e / k, 1 / k), np.maximum(0.0, 1 - k * c - e)  # v: the softmax of a wrong class
        s = (k - 1) / k * np.log1p(r / v)
        b = o = np.zeros_like(s)
        loss_part = -numerics.log_rest((k - 1) * v, v + r)
    else:
        highest = (k - 2) / (2 * k)  # a larger pull would need t < 0
        pull, saturated = numerics.pull(c, lambda_b, highest, lambda g: _bce_scores(k, c, g, e)[3])
        u, v, s, t, r = _bce_scores(k, c, pull, e)
        # lambda_b b = pull. Dividing keeps b's digits where lambda_b would blow the rounding of t up; and where the
        # bias is saturated (Huber: it stops at c / lambda_b) t is something else.
        divide = saturated | (lambda_b > 1)
        b = np.where(divide, pull / np.where(divide, lambda_b, 1.0), t)
        o = np.where(saturated, np.minimum(b - t, 0.0), 0.0)
        loss_part = -numerics.log_rest(u, v + r) - (k - 1) * numerics.log_rest(v, u + r)
    value = loss_part + e * s + k * c * (s - o) + k * (lambda_b * b) * b / 2  # b^2 would underflow
    rank = np.maximum(1, np.where(s > 0, k - 1, 0) + (o < 0))
    return Minimum(*(numerics.plain(x) for x in (s + o, o - s / (k - 1), b, o, value, rank)), num_classes=k)


def critical_lambda_b(loss, num_classes, c):
    """The lambda_b from which on the bias is c / lambda_b and an offset in W and H does the rest; c number or array.

    Infinite where that never happens: for CE, for K = 2 (the bias is 0 by symmetry), and where c is so large that t
    would be 0 or below. Source: ours (lead 1 of the project).

    >>> round(critical_lambda_b("bce", 10, c=0.0018), 6), critical_lambda_b("ce", 10, c=0.0018)
    (0.000388, inf)
    """
    k = classes(num_classes, loss)
    c = np.minimum(finite("c", c, above=True), 1.0)  # infinite from 1/2 on
    pull = np.minimum(c, (k - 2) / (2 * k))
    t = _bce_scores(k, c, pull)[3]
    saturates = (t > 0) & (pull == c) & (loss == "bce")
    return numerics.plain(np.where(saturates, c / np.where(saturates, t, 1.0), np.inf))


def paper_bias(num_classes, s, lambda_b):
    """The bias b* that the paper's Theorem 3.2 gives for BCE, from the positive decision score s >= 0; broadcasts.

    Solves lambda_b b = (K-1) / (K (1 + exp(b + s/(K-1)))) - 1 / (K (1 + exp(s - b))) for b, by bisection. The paper's
    s = sqrt(lambda_w / (n lambda_h)) rho / K with rho = |W|^2: the positive score where W is a centred ETF. To compare
    with a trained network pass its mean positive score. It is b of `minimum` only while lambda_b <= critical_lambda_b.

    >>> round(paper_bias(10, s=9.39, lambda_b=0), 2), paper_bias(2, s=3, lambda_b=1)
    (5.28, 0.0)
    """
    k = classes(num_classes)
    s, lambda_b = np.broadcast_arrays(finite("s", s), finite("lambda_b", lambda_b))
    low, high = np.zeros_like(s), s + np.log(k)  # at s + log K the right side is below 0, at 0 it is not
    for _ in range(100):
        b = (low + high) / 2
        below = k * lambda_b * b < (k - 1) * expit(-b - s / (k - 1)) - expit(b - s)
        low, high = np.where(below, b, low), np.where(below, high, b)
    return numerics.plain(low)


def separates(num_classes, s, lambda_b):
    """Whether the paper's bias lies between all positive and all negative scores; s as in paper_bias.

    Broadcasts to bool. The paper's condition: lambda_b s K/(K-1) + 1/(2(K-1)) > 1 / (1 + exp(s K/(K-1))). It is
    exactly b* < s. In the model itself (offset or not) the threshold b separates exactly where (K-1) c - min(c,
    lambda_b t) < 1/2.

    >>> separates(1000, s=5, lambda_b=0), separates(1000, s=8, lambda_b=0)
    (False, True)
    """
    k = classes(num_classes)
    gap = finite("s", s) * k / (k - 1)  # positive minus negative score
    return numerics.plain(finite("lambda_b", lambda_b) * gap + 1 / (2 * (k - 1)) > expit(-gap))


def minority_collapse_size(total, lambda_w, lambda_h, batch_size=None, factor=1.0, label_smoothing=0.0):
    """The class size n_tail up to which equal tail classes share one classifier row: N^2 lambda_w lambda_h samples.

    factor a of the loss (1/K for a mean over the classes) and label_smoothing e: N^2 lambda_w lambda_h / (a (1 - e))^2.

    total: N, all samples of all classes. batch_size B, for mini-batch training: N B lambda_w lambda_h (lambda_h there
    acts as lambda_h B / N). The same for CE and BCE; needs two or more tail classes of one size, and d >= K.
    Source: ours for BCE (lead 3); for CE compare Hong and Ling, arXiv 2309.09725.

    >>> round(minority_collapse_size(50_000, 5e-4, 5e-4, batch_size=128), 3)
    1.6
    """
    total = finite("total", total, above=True)
    batch = total if batch_size is None else finite("batch_size", batch_size, above=True)
    size = total * batch * finite("lambda_w", lambda_w, above=True) * finite("lambda_h", lambda_h, above=True)
    return numerics.plain(size / (finite("factor", factor, above=True) * (1 - smoothing(label_smoothing))) ** 2)


def assemble(minimum, num_classes, dim, lambda_w, lambda_h, per_class):
    """W (K, d), H (d, K) and b (K,) that realise a Minimum of plain numbers: the ETF, and the offset on its own axis.

    lambda_w lambda_h per_class must be the c^2 for which the Minimum was made. Raises ValueError for dim < min_dim.

    >>> W, H, b = assemble(minimum("ce", 2, c=0.25), 2, dim=1, lambda_w=0.25, lambda_h=0.25, per_class=1)
    >>> (W @ H).round(4).tolist()  # log(3)/2 on the own class
    [[0.5493, -0.5493], [-0.5493, 0.5493]]
    """
    k, dim = classes(num_classes), whole("dim", dim, 1)
    if k != minimum.num_classes or np.ndim(minimum.positive) or dim < minimum.min_dim:
        raise ValueError(
            f"the Minimum is for {minimum.num_classes} classes and {minimum.holds_for} (shape "
            f"{np.shape(minimum.positive)}); got {k} classes and dim {dim}. Pass one point that fits."
        )
    W, H = np.zeros((k, dim)), np.zeros((k, dim))
    s, o = minimum.positive - minimum.offset, minimum.offset
    if minimum.positive > minimum.negative:
        W[:, : k - 1] = H[:, : k - 1] = np.sqrt(s) * simplex_etf(k, k - 1)
    if o < 0:
        W[:, -1], H[:, -1] = np.sqrt(-o), -np.sqrt(-o)
    balance = (per_class * lambda_h / lambda_w) ** 0.25  # the split of W H at which both norms cost the same
    return W * balance, H.T / balance, np.full(k, float(minimum.bias))


def _bce_scores(k, c, g, e=0.0):
    """(u, v, s, t, r) of BCE's minimiser, given the pull g = min(lambda_b t, c) on t; c and g arrays.

    With t = b - offset (the bias that the loss sees), u = sigmoid(t - s) is the error left on the positive logit and
    v = sigmoid(-s/(K-1) - t) on a negative one. Both stationarity conditions are LINEAR in u and v:
        d/ds: u + v = K c (c capped at 1/K, where s reaches 0);   d/dt: (K-1) v - u = K g.
    Label smoothing e makes the first u + v = K c + e.
    r = 1 - u - v, kept apart because log1p(r/u) is exact where s is small and logit(u) is not.
    """
    capped = np.minimum(c + e / k, 1 / k)
    r = np.maximum(0.0, 1 - k * c - e)
    u, v = (k - 1) * capped - g, capped + g
    s = (k - 1) / k * (np.log1p(r / u) + np.log1p(r / v))
    t = (np.log(u / (v + r)) - (k - 1) * np.log(v / (u + r))) / k  # (logit u - (K-1) logit v) / K
    return u, v, s, t, r
