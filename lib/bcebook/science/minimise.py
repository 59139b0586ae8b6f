"""The unconstrained-features model by plain minimisation: any class sizes and dimension, features free or >= 0.

f, its symbols and units as in `closed_form`, which it tests: nothing of the closed form is used here.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, minres
from scipy.special import expit

from bcebook.science.closed_form import classes, finite, known_features, smoothing, whole


@dataclass(frozen=True)
class Solution:
    """Best of several minimisations: W (K, d), H (d, K) with column k the feature of every sample of class k, b (K,).

    objective: f, in nats; gradient_norm: the largest entry of its gradient, in variables that weigh W and H alike, and
    with features >= 0 of its projected gradient (where a feature is 0, only a slope that would raise it counts);
    agreement: how many restarts reached the best objective within 1e-9, relative.
    """

    W: np.ndarray
    H: np.ndarray
    b: np.ndarray
    objective: float
    agreement: int
    gradient_norm: float


def objective(loss, W, H, b, counts, lambda_w, lambda_h, lambda_b, label_smoothing=0.0):
    """f in nats. W (K, d); H (d, K), column k the feature of all samples of class k; b (K,); counts (K,) samples.
    label_smoothing e: the targets are (1 - e) onehot + e/K.

    One column a class is enough: at fixed W and b the problem in each h is strictly convex (lambda_h > 0, features
    free or >= 0) and the same for all samples of a class, so they share its one solution.

    >>> W, H, b = np.zeros((4, 2)), np.zeros((2, 4)), np.zeros(4)
    >>> round(objective("ce", W, H, b, np.ones(4), 0.1, 0.1, 0), 4)  # log 4
    1.3863
    """
    return _value_and_gradient(loss, W, H, b, counts, lambda_w, lambda_h, lambda_b, label_smoothing)[0]


def gradient(loss, W, H, b, counts, lambda_w, lambda_h, lambda_b, label_smoothing=0.0):
    """Gradient of `objective`: arrays of the shapes of W, H and b.

    >>> W, H, b = np.zeros((4, 2)), np.zeros((2, 4)), np.zeros(4)
    >>> gradient("bce", W, H, b, np.ones(4), 0.1, 0.1, 0)[2].tolist()  # each: - (3/4 of 1/2 - 1/4 of 1/2)
    [-0.25, -0.25, -0.25, -0.25]
    """
    return _value_and_gradient(loss, W, H, b, counts, lambda_w, lambda_h, lambda_b, label_smoothing)[1]


def _value_and_gradient(loss, W, H, b, counts, lambda_w, lambda_h, lambda_b, label_smoothing=0.0):
    value, R = _loss(loss, W @ H - b[:, None], label_smoothing)
    R = R * (counts / counts.sum())  # (K, K)
    decay = lambda_w * (W * W).sum() + lambda_h * (counts * H * H).sum() + lambda_b * (b * b).sum()
    return (
        float(counts @ value / counts.sum() + decay / 2),
        (R @ H.T + lambda_w * W, W.T @ R + lambda_h * counts * H, lambda_b * b - R.sum(axis=1)),
    )


def solve(
    loss,
    num_classes,
    dim,
    per_class=None,
    lambda_w=5e-4,
    lambda_h=5e-4,
    lambda_b=0.0,
    counts=None,
    seed=0,
    restarts=8,
    features="free",
    label_smoothing=0.0,
):
    """Best minimum of f found over W, H and b from random starts: L-BFGS, then Newton. Returns a Solution.

    Give either per_class (n, the same for all) or counts (K,), samples above 0; any dim >= 1. CE with lambda_b = 0:
    the bias is returned with mean 0. features: "free" or "nonnegative" (H >= 0, as after a ReLU);
    label_smoothing: see `objective`. For free features
    and d >= K every local minimum is global (the chapter on the bias proves it). For d < K, and for features >= 0 at
    ANY d, that does not hold: `agreement` of many restarts is all the evidence there is.
    Raises ValueError for anything else: an unknown loss or features, dim, restarts or num_classes not whole.

    >>> found = solve("ce", 2, 2, per_class=1, lambda_w=0.25, lambda_h=0.25, restarts=2)
    >>> (found.W @ found.H).round(4).tolist(), found.agreement  # log(3)/2 on the own class
    ([[0.5493, -0.5493], [-0.5493, 0.5493]], 2)
    """
    k, dim, restarts = classes(num_classes, loss), whole("dim", dim, 1), whole("restarts", restarts, 1)
    for name, value in (("lambda_w", lambda_w), ("lambda_h", lambda_h), ("lambda_b", lambda_b)):
        finite(name, value, above=name != "lambda_b")
    if (per_class is None) == (counts is None):
        raise ValueError("expected either per_class or counts, got both or neither. Pass one of them.")
    counts = finite("counts", np.full(k, per_class) if counts is None else counts, above=True)
    if counts.shape != (k,):
        raise ValueError(f"expected counts of shape ({k},), one a class; got {counts.shape}.")
    smoothed, nonnegative = smoothing(label_smoothing), known_features(features) == "nonnegative"
    problem = _Problem(loss, dim, counts, lambda_w, lambda_h, lambda_b, nonnegative, smoothed)
    rng, found = np.random.default_rng(seed), []
    for _ in range(restarts):
        start = rng.normal(size=2 * k * dim + k) * rng.choice([0.1, 0.5, 1.0, 2.0])  # small and large starts
        x, norm = problem.descend(start)
        W, H, b = problem.split(x)
        b = b - b.mean() if loss == "ce" and lambda_b == 0 else b
        found.append((objective(loss, W, H, b, *problem.lambdas, smoothed), norm, W, H, b))
    value, norm, W, H, b = min(found, key=lambda entry: entry[0])
    agreement = sum(entry[0] - value <= 1e-9 * abs(value) for entry in found)
    return Solution(W, H, b, value, agreement, float(norm))


class _Problem:
    """f of one vector x: W / a, H a sqrt(n_k) and b one after another.

    In these variables both decays cost alike, which conditions the search far better than the raw ones.
    """

    def __init__(self, loss, dim, counts, lambda_w, lambda_h, lambda_b, nonnegative, smoothed=0.0):
        self.loss, self.dim, self.share = loss, dim, counts / counts.sum()
        self.lambdas, self.smoothed = (counts, lambda_w, lambda_h, lambda_b), smoothed
        self.a_w, self.a_h = (lambda_h / lambda_w) ** 0.25, (lambda_w / lambda_h) ** 0.25 / np.sqrt(counts)
        entries = len(counts) * dim
        self.lower = np.full(2 * entries + len(counts), -np.inf)  # the smallest permitted x
        self.lower[entries : 2 * entries] = 0.0 if nonnegative else -np.inf
        self.nonnegative = nonnegative

    def split(self, x):
        """W (K, d), H (d, K) and b (K,) of x."""
        k, dim = len(self.share), self.dim
        return (
            x[: k * dim].reshape(k, dim) * self.a_w,
            x[k * dim : 2 * k * dim].reshape(dim, k) * self.a_h,
            x[2 * k * dim :],
        )

    def join(self, dW, dH, db):
        """The gradient in x of gradients in W, H and b."""
        return np.concatenate([(dW * self.a_w).ravel(), (dH * self.a_h).ravel(), db])

    def value(self, x):
        """f at x and its gradient."""
        value, parts = _value_and_gradient(self.loss, *self.split(x), *self.lambdas, self.smoothed)
        return value, self.join(*parts)

    def hess(self, x):
        """The Hessian at x, as a function that multiplies a vector with it."""
        counts, lambda_w, lambda_h, lambda_b = self.lambdas
        W, H, b = self.split(x)
        Z = W @ H - b[:, None]
        R, curved = _loss(self.loss, Z, self.smoothed)[1] * self.share, _curvature(self.loss, Z)

        def times(p):
            dW, dH, db = self.split(p)
            dR = curved(dW @ H + W @ dH - db[:, None]) * self.share
            return self.join(
                dR @ H.T + R @ dH.T + lambda_w * dW,
                dW.T @ R + W.T @ dR + lambda_h * counts * dH,
                lambda_b * db - dR.sum(axis=1),
            )

        return times

    def descend(self, x):
        """From x to a minimum nearby: (x, the largest entry of the projected gradient there)."""
        x = np.where(self.lower == 0, np.abs(x), x)
        bounds = [(low, None) for low in self.lower] if self.nonnegative else None
        x = minimize(
            self.value,
            x,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 20000, "maxfun": 40000, "maxcor": 30, "ftol": 1e-16, "gtol": 1e-8},
        ).x
        return self.polish(x)

    def polish(self, x, steps=30):
        """Newton steps to a vanishing gradient, on the entries that no bound holds; a step beyond a bound ends there.

        MINRES: the Hessian is singular along rotations of W and H (with bounds, of axes that no class uses),
        consistently.
        """
        g, held = self._slope(x)
        for _ in range(steps):  # until rounding stops the descent of the gradient
            free, hess = ~held, self.hess(x)
            operator = LinearOperator(
                (x.size, x.size), dtype=np.float64, matvec=lambda p, free=free, hess=hess: hess(p * free) * free
            )
            trial = np.maximum(x + minres(operator, -g, rtol=1e-6, maxiter=4 * x.size)[0] * free, self.lower)
            g_trial, held_trial = self._slope(trial)
            if np.linalg.norm(g_trial) >= np.linalg.norm(g):
                break
            x, g, held = trial, g_trial, held_trial
        return x, np.abs(g).max()

    def _slope(self, x):
        """The projected gradient, and which entries a bound holds: they lie on it, and f does not fall from there."""
        g = self.value(x)[1]
        held = (x <= self.lower) & (g >= 0)
        return np.where(held, 0.0, g), held


def _loss(loss, Z, smoothed=0.0):
    """Loss of each column and residual p - target of each entry. Z (K, K): logits, column y a sample of class y.
    Label smoothing adds `smoothed` times the own logit minus the mean one, for both losses."""
    own = np.eye(len(Z))
    if loss == "ce":
        log_p = _log_softmax(Z)
        value, residual = -np.diagonal(log_p), np.exp(log_p) - own
    else:
        sign = 1 - 2 * own  # -1 on the own class: softplus(-z) there, softplus(z) elsewhere
        value, residual = np.logaddexp(0, sign * Z).sum(axis=0), sign * expit(sign * Z)
    if smoothed:
        value = value + smoothed * (np.diagonal(Z) - Z.mean(axis=0))
        residual = residual + smoothed * (own - 1 / len(Z))
    return value, residual


def _curvature(loss, Z):
    """The derivative of the residual (K, K) along a change dZ of the logits, as a function of dZ."""
    if loss == "bce":
        each = expit(Z) * expit(-Z)
        return lambda dZ: each * dZ
    p = np.exp(_log_softmax(Z))
    return lambda dZ: p * (dZ - (p * dZ).sum(axis=0))


def _log_softmax(Z):
    """Of each column, to the last digit where one entry outweighs the others. SciPy's own checks its input for longer
    than it takes to compute so small a matrix."""
    columns = np.arange(Z.shape[1])
    top = Z.argmax(axis=0)
    shifted = Z - Z[top, columns]
    others = np.exp(shifted)
    others[top, columns] = 0.0
    return shifted - np.log1p(others.sum(axis=0))
