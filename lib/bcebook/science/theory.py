"""The unconstrained-features model: where CE and BCE have their minimum, in closed form and by plain minimisation.

    f(W, H, b) = (1/N) sum of losses + lambda_w/2 |W|^2 + lambda_h/2 sum over samples |h|^2 + lambda_b/2 |b|^2

K classes, n samples a class (N = nK), classifier rows w_k, features h in R^d, decision score w_k.h, logit w_k.h - b_k (the
bias is SUBTRACTED). Losses in nats; BCE is the SUM over the K classes. All is float64. Balanced classes enter only through
c = sqrt(n lambda_w lambda_h). Source: the model is the paper's; the closed form, the offset and the thresholds are ours.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import helmert
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, minres
from scipy.special import expit, log_softmax

LOSSES = ("ce", "bce")
MAX_CLASSES = 100_000  # the tests go so far


@dataclass(frozen=True)
class Minimum:
    """The global minimum for balanced classes; every field a float, or an array of the shape of c and lambda_b together.

    positive: w_y.h; negative: w_j.h for j != y; bias: b of every class; offset: the part of both scores that a direction
    common to all classes makes (0 or below; positive - offset is the simplex-ETF part); objective: f, in nats.
    min_dim: rank of the minimiser; the minimum is attained, so holds, exactly where the dimension d is at least that.
    """
    positive: float | np.ndarray
    negative: float | np.ndarray
    bias: float | np.ndarray
    offset: float | np.ndarray
    objective: float | np.ndarray
    min_dim: int | np.ndarray
    num_classes: int

    @property
    def holds_for(self):
        """'d >= K' with an ETF and an offset, 'd >= K-1' with an ETF alone, 'd >= 1' where no ETF is left (c >= 1/K)."""
        spare = self.num_classes - np.asarray(self.min_dim)
        return _plain(np.select([spare == 0, spare == 1], ["d >= K", "d >= K-1"], "d >= 1"))


@dataclass(frozen=True)
class Solution:
    """Best of several minimisations: W (K, d), H (d, K) with column k the feature of every sample of class k, b (K,).

    objective: f, in nats; gradient_norm: the largest entry of its gradient, in variables that weigh W and H alike;
    agreement: how many restarts reached the best objective within 1e-9, relative.
    """
    W: np.ndarray
    H: np.ndarray
    b: np.ndarray
    objective: float
    agreement: int
    gradient_norm: float


def _check_classes(num_classes, loss="ce"):
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; expected one of {', '.join(LOSSES)}.")
    if not isinstance(num_classes, (int, np.integer)) or not 2 <= num_classes <= MAX_CLASSES:  # True is 1: refused too
        raise ValueError(f"num_classes is {num_classes!r}; expected a whole number from 2 to {MAX_CLASSES}.")
    return int(num_classes)


def _check(name, values, above=False):
    """values as float64, all finite and >= 0 (or, where the problem has no minimum at 0, above it)."""
    values = np.asarray(values, dtype=np.float64)
    good = np.isfinite(values) & ((values > 0) if above else (values >= 0))
    if not np.all(good):
        permitted = "above 0" if above else "of 0 or more"
        raise ValueError(f"{name} holds {values[~good].flat[0]}; expected finite numbers {permitted}. Check how it was made.")
    return values


def _plain(value):
    """A 0-d array as a plain number or string; other arrays unchanged."""
    return np.asarray(value).item() if np.ndim(value) == 0 else value


# ---- balanced classes, in closed form ---------------------------------------------------------------------------------

def simplex_etf(num_classes, dim):
    """Simplex equiangular tight frame: (K, d) rows of length 1, any two with cosine -1/(K-1), summing to 0.

    Uses the first K-1 of the d axes. Raises ValueError for d < K-1, where there is none. Source: the paper, Theorem 3.1.
    """
    k = _check_classes(num_classes)
    if dim < k - 1:
        raise ValueError(f"dim is {dim}; a simplex ETF of {k} classes needs dim >= {k - 1}: raise dim.")
    return np.pad(np.sqrt(k / (k - 1)) * helmert(k).T, ((0, 0), (0, dim - k + 1)))  # columns orthonormal, each summing to 0


def effective_c(lambda_w, lambda_h, batch_size, num_classes):
    """The c = sqrt(n lambda_w lambda_h) that mini-batch training minimises: sqrt(lambda_w lambda_h B / K), whatever N is.

    The authors' code adds lambda_h/2 times the SUM of |h|^2 over the batch to the batch's mean loss, which makes the
    feature decay of f lambda_h B / N; with n = N/K samples a class, n B / N = B / K. Source: ours, reading their code.
    """
    decay = _check("lambda_w", lambda_w, above=True) * _check("lambda_h", lambda_h, above=True)
    return _plain(np.sqrt(decay * _check("batch_size", batch_size, above=True) / _check_classes(num_classes)))


def _bce_scores(k, c, g):
    """(u, v, s, t, r) of BCE's minimiser, given the pull g = min(lambda_b t, c) on t; c and g arrays.

    With t = b - offset (the bias that the loss sees), u = sigmoid(t - s) is the error left on the positive logit and
    v = sigmoid(-s/(K-1) - t) on a negative one. Both stationarity conditions are LINEAR in u and v:
        d/ds: u + v = K c (c capped at 1/K, where s reaches 0);   d/dt: (K-1) v - u = K g.
    r = 1 - u - v, kept apart because log1p(r/u) is exact where s is small and logit(u) is not.
    """
    capped = np.minimum(c, 1 / k)
    r = np.maximum(0.0, 1 - k * c)
    u, v = (k - 1) * capped - g, capped + g
    s = (k - 1) / k * (np.log1p(r / u) + np.log1p(r / v))
    t = (np.log(u / (v + r)) - (k - 1) * np.log(v / (u + r))) / k  # (logit u - (K-1) logit v) / K
    return u, v, s, t, r


def _log_rest(p, rest):
    """log(1 - p), given rest = 1 - p too: exact for p near 0 and near 1."""
    return np.where(p < 0.5, np.log1p(-np.minimum(p, 0.5)), np.log(rest))


def minimum(loss, num_classes, c, lambda_b=0.0):
    """Global minimum of f for balanced classes, as a Minimum. c, lambda_b: numbers or arrays, broadcast together.

    loss "ce" or "bce"; num_classes 2 to 100,000; c = sqrt(n lambda_w lambda_h) > 0 (see effective_c for training with
    mini-batches); lambda_b >= 0. f sees W and H through one number s and an offset o: with t = b - o, BCE's f is
        softplus(t - s) + (K-1) softplus(-s/(K-1) - t) + K c (s + |o|) + K lambda_b b^2 / 2.
    For lambda_b = 0 and for lambda_b >= critical_lambda_b this is solved by a formula, in between by a bisection on one
    monotone equation. From c = 1/K on, s = 0: positive and negative score agree. CE: o = 0 always, and b = 0 for
    lambda_b > 0; for lambda_b = 0 the bias is free up to a common constant, and the one returned is 0.
    Source: ours (the chapter on the bias proves it); it agrees with the paper's Theorem 3.2 while the offset is 0.
    """
    k = _check_classes(num_classes, loss)
    c, lambda_b = np.broadcast_arrays(_check("c", c, above=True), _check("lambda_b", lambda_b))
    if loss == "ce":
        v, r = np.minimum(c, 1 / k), np.maximum(0.0, 1 - k * c)  # v: the softmax of a wrong class
        s = (k - 1) / k * np.log1p(r / v)
        b = o = np.zeros_like(s)
        loss_part = -_log_rest((k - 1) * v, v + r)
    else:
        low, high = np.zeros_like(c), np.minimum(c, (k - 2) / (2 * k))  # a larger pull would need t < 0
        saturated = (high == c) & (c <= lambda_b * _bce_scores(k, c, high)[3])
        for _ in range(100):  # the pull solves g = lambda_b t(g), and t falls in g: halve the bracket
            g = (low + high) / 2
            below = g < lambda_b * _bce_scores(k, c, g)[3]
            low, high = np.where(below, g, low), np.where(below, high, g)
        u, v, s, t, r = _bce_scores(k, c, np.where(saturated, c, low))
        b = np.where(saturated, c / np.where(saturated, lambda_b, 1.0), t)  # Huber: b stops at c / lambda_b
        o = np.minimum(b - t, 0.0)
        loss_part = -_log_rest(u, v + r) - (k - 1) * _log_rest(v, u + r)
    value = loss_part + k * c * (s - o) + k * lambda_b * b**2 / 2
    rank = np.maximum(1, np.where(s > 0, k - 1, 0) + (o < 0))
    return Minimum(*(_plain(x) for x in (s + o, o - s / (k - 1), b, o, value, rank)), num_classes=k)


def critical_lambda_b(loss, num_classes, c):
    """The lambda_b from which on the bias is c / lambda_b and an offset in W and H does the rest; c a number or an array.

    Infinite where that never happens: for CE, for K = 2 (the bias is 0 by symmetry), and where c is so large that t
    would be 0 or below. Source: ours (lead 1 of the project).
    """
    k = _check_classes(num_classes, loss)
    c = _check("c", c, above=True)
    pull = np.minimum(c, (k - 2) / (2 * k))
    t = _bce_scores(k, c, pull)[3]
    finite = (t > 0) & (pull == c) & (loss == "bce")
    return _plain(np.where(finite, c / np.where(finite, t, 1.0), np.inf))


def paper_bias(num_classes, s, lambda_b):
    """The bias b* that the paper's Theorem 3.2 gives for BCE, from the positive decision score s >= 0; broadcasts.

    Solves lambda_b b = (K-1) / (K (1 + exp(b + s/(K-1)))) - 1 / (K (1 + exp(s - b))) for b, by bisection. The paper's
    s = sqrt(lambda_w / (n lambda_h)) rho / K with rho = |W|^2: the positive score where W is a centred ETF. To compare
    with a trained network pass its mean positive score. It is b of `minimum` only while lambda_b <= critical_lambda_b.
    """
    k = _check_classes(num_classes)
    s, lambda_b = np.broadcast_arrays(_check("s", s), _check("lambda_b", lambda_b))
    low, high = np.zeros_like(s), s + np.log(k)  # at s + log K the right side is below 0, at 0 it is not
    for _ in range(100):
        b = (low + high) / 2
        below = k * lambda_b * b < (k - 1) * expit(-b - s / (k - 1)) - expit(b - s)
        low, high = np.where(below, b, low), np.where(below, high, b)
    return _plain(low)


def separates(num_classes, s, lambda_b):
    """Whether the paper's bias lies between all positive and all negative scores; s as in paper_bias. Broadcasts to bool.

    The paper's condition, in s: lambda_b s K/(K-1) + 1/(2(K-1)) > 1 / (1 + exp(s K/(K-1))). It is exactly b* < s.
    In the model itself (offset or not) the threshold b separates exactly where (K-1) c - min(c, lambda_b t) < 1/2.
    """
    k = _check_classes(num_classes)
    gap = _check("s", s) * k / (k - 1)  # positive minus negative score
    return _plain(_check("lambda_b", lambda_b) * gap + 1 / (2 * (k - 1)) > expit(-gap))


def minority_collapse_size(total, lambda_w, lambda_h, batch_size=None):
    """The class size n_tail up to which equal tail classes share one classifier row: N^2 lambda_w lambda_h samples.

    total: N, all samples of all classes. batch_size B, for mini-batch training: N B lambda_w lambda_h (lambda_h there
    acts as lambda_h B / N). The same for CE and BCE; needs two or more tail classes of one size, and d >= K.
    Source: ours for BCE (lead 3); for CE compare Hong and Ling, arXiv 2309.09725.
    """
    total = _check("total", total, above=True)
    batch = total if batch_size is None else _check("batch_size", batch_size, above=True)
    return _plain(total * batch * _check("lambda_w", lambda_w, above=True) * _check("lambda_h", lambda_h, above=True))


def assemble(minimum, num_classes, dim, lambda_w, lambda_h, per_class):
    """W (K, d), H (d, K) and b (K,) that realise a Minimum of plain numbers: the ETF, and the offset on its own axis.

    lambda_w lambda_h per_class must be the c^2 for which the Minimum was made. Raises ValueError for dim < min_dim.
    """
    k = _check_classes(num_classes)
    if k != minimum.num_classes or np.ndim(minimum.positive) or dim < minimum.min_dim:
        raise ValueError(f"the Minimum is for {minimum.num_classes} classes and {minimum.holds_for} (shape "
                         f"{np.shape(minimum.positive)}); got {k} classes and dim {dim}. Pass one point that fits.")
    W, H = np.zeros((k, dim)), np.zeros((k, dim))
    s, o = minimum.positive - minimum.offset, minimum.offset
    if minimum.positive > minimum.negative:
        W[:, :k - 1] = H[:, :k - 1] = np.sqrt(s) * simplex_etf(k, k - 1)
    if o < 0:
        W[:, -1], H[:, -1] = np.sqrt(-o), -np.sqrt(-o)
    balance = (per_class * lambda_h / lambda_w) ** 0.25  # the split of W H at which both norms cost the same
    return W * balance, H.T / balance, np.full(k, float(minimum.bias))


# ---- any counts and any dimension, by minimisation --------------------------------------------------------------------

def _loss(loss, Z):
    """Loss of each column and residual p - onehot of each entry. Z (K, K): logits, column y a sample of class y."""
    if loss == "ce":
        log_p = log_softmax(Z, axis=0)
        return -np.diagonal(log_p), np.exp(log_p) - np.eye(len(Z))
    sign = 1 - 2 * np.eye(len(Z))  # -1 on the own class: softplus(-z) there, softplus(z) elsewhere
    return np.logaddexp(0, sign * Z).sum(axis=0), sign * expit(sign * Z)


def _curvature(loss, Z, dZ):
    """Derivative of the residual (K, K) along a change dZ of the logits."""
    if loss == "bce":
        return expit(Z) * expit(-Z) * dZ
    p = np.exp(log_softmax(Z, axis=0))
    return p * (dZ - (p * dZ).sum(axis=0))


def objective(loss, W, H, b, counts, lambda_w, lambda_h, lambda_b):
    """f in nats. W (K, d); H (d, K), column k the feature of all samples of class k; b (K,); counts (K,) samples a class.

    One column a class is enough: at fixed W and b the problem in each h is strictly convex (lambda_h > 0) and the same
    for all samples of a class, so they share its one solution.
    """
    Z = W @ H - b[:, None]  # (K, K)
    decay = lambda_w * np.sum(W**2) + lambda_h * np.sum(counts * H**2) + lambda_b * np.sum(b**2)
    return float(counts @ _loss(loss, Z)[0] / np.sum(counts) + decay / 2)


def gradient(loss, W, H, b, counts, lambda_w, lambda_h, lambda_b):
    """Gradient of `objective`: arrays of the shapes of W, H and b."""
    R = _loss(loss, W @ H - b[:, None])[1] * (counts / np.sum(counts))  # (K, K)
    return R @ H.T + lambda_w * W, W.T @ R + lambda_h * counts * H, lambda_b * b - R.sum(axis=1)


def _polish(x, grad, hess, steps=30):
    """Newton steps to a vanishing gradient. MINRES: the Hessian is singular along rotations of W and H, consistently."""
    g = grad(x)
    for _ in range(steps):  # until rounding stops the descent of the gradient
        operator = LinearOperator((x.size, x.size), matvec=lambda p, at=x: hess(at, p), dtype=np.float64)
        trial = x + minres(operator, -g, rtol=1e-6, maxiter=4 * x.size)[0]
        g_trial = grad(trial)
        if np.linalg.norm(g_trial) >= np.linalg.norm(g):
            break
        x, g = trial, g_trial
    return x, np.abs(g).max()


def solve(loss, num_classes, dim, per_class=None, lambda_w=5e-4, lambda_h=5e-4, lambda_b=0.0, counts=None, seed=0,
          restarts=8):
    """Best minimum of f found over W, H and b from random starts: L-BFGS, then Newton. Returns a Solution.

    Give either per_class (n, the same for all) or counts (K,), samples above 0; any dim >= 1. Nothing of the closed form
    is used, so it tests it. For d >= K every local minimum is global (the chapter on the bias proves it); below, `agreement`
    is all the evidence there is. CE with lambda_b = 0: the bias is returned with mean 0.
    """
    k = _check_classes(num_classes, loss)
    for name, value in (("lambda_w", lambda_w), ("lambda_h", lambda_h), ("lambda_b", lambda_b)):
        _check(name, value, above=name != "lambda_b")
    if (per_class is None) == (counts is None):
        raise ValueError("expected either per_class or counts, got both or neither. Pass one of them.")
    counts = _check("counts", np.full(k, per_class) if counts is None else counts, above=True)
    if counts.shape != (k,) or dim < 1 or restarts < 1:
        raise ValueError(f"expected counts of shape ({k},), dim >= 1 and restarts >= 1; got {counts.shape}, {dim}, {restarts}.")
    # In W / a and H a sqrt(n_k) both decays cost alike, which conditions the search far better than the raw variables.
    a_w, a_h = (lambda_h / lambda_w) ** 0.25, (lambda_w / lambda_h) ** 0.25 / np.sqrt(counts)
    lambdas, share = (counts, lambda_w, lambda_h, lambda_b), counts / counts.sum()

    def split(x):
        return x[:k * dim].reshape(k, dim) * a_w, x[k * dim:2 * k * dim].reshape(dim, k) * a_h, x[2 * k * dim:]

    def join(W, H, b):
        return np.concatenate([(W * a_w).ravel(), (H * a_h).ravel(), b])

    def grad(x):
        return join(*gradient(loss, *split(x), *lambdas))

    def hess(x, p):
        (W, H, b), (dW, dH, db) = split(x), split(p)
        Z = W @ H - b[:, None]
        R, dR = _loss(loss, Z)[1] * share, _curvature(loss, Z, dW @ H + W @ dH - db[:, None]) * share
        return join(dR @ H.T + R @ dH.T + lambda_w * dW, dW.T @ R + W.T @ dR + lambda_h * counts * dH,
                    lambda_b * db - dR.sum(axis=1))

    rng, found = np.random.default_rng(seed), []
    for _ in range(restarts):
        start = rng.normal(size=2 * k * dim + k) * rng.choice([0.1, 0.5, 1.0, 2.0])  # small and large starts
        x = minimize(lambda x: (objective(loss, *split(x), *lambdas), grad(x)), start, jac=True, method="L-BFGS-B",
                     options={"maxiter": 20000, "maxfun": 40000, "maxcor": 30, "ftol": 1e-16, "gtol": 1e-8}).x
        x, norm = _polish(x, grad, hess)
        W, H, b = split(x)
        b = b - b.mean() if loss == "ce" and lambda_b == 0 else b
        found.append((objective(loss, W, H, b, *lambdas), norm, W, H, b))
    value, norm, W, H, b = min(found, key=lambda entry: entry[0])
    agreement = sum(entry[0] - value <= 1e-9 * abs(value) for entry in found)
    return Solution(W, H, b, value, agreement, float(norm))
