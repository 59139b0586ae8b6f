"""BCE with free biases against BCE with one bias that all classes share: minima, an explicit better point, and a lower
bound for every point with a shared bias. f and its symbols as in `closed_form`; samples of a class share one feature,
and c = sqrt(n lambda_W lambda_H), so that f = loss + c |Z|_* at the best split of Z = W H (rank Z <= d)."""

import numpy as np
from scipy.optimize import linprog, minimize
from scipy.special import expit, xlogy

from bcebook.science.minimise import Solution, _Problem


class _Shared(_Problem):
    """The problem of `minimise` with one bias instead of K."""

    def __init__(self, *settings):
        super().__init__(*settings)
        self.lower = self.lower[: 2 * len(self.share) * self.dim + 1]

    def split(self, x):
        W, H, _ = super().split(x)
        return W, H, np.full(len(self.share), x[-1])

    def join(self, dW, dH, db):
        return super().join(dW, dH, [db.sum()])


def solve(num_classes, dim, per_class, decay, seed=0, restarts=8):
    """The best minimum of BCE with a shared bias, free features, lambda_W = lambda_H = decay and lambda_b = 0, from
    random starts, as a `Solution`.

    >>> found = solve(5, 2, 25.6, 5e-4, restarts=1)  # the regular pentagon
    >>> round(found.objective, 6), round(float(np.ptp(np.diagonal(found.W @ found.H))), 6)
    (0.195515, 0.0)
    """
    problem = _Shared("bce", dim, np.full(num_classes, per_class), decay, decay, 0.0, False)
    rng, found = np.random.default_rng(seed), []
    for _ in range(restarts):
        x, norm = problem.descend(rng.normal(size=problem.lower.size) * rng.choice([0.1, 0.5, 1.0, 2.0]))
        found.append((problem.value(x)[0], norm, x))
    value, norm, x = min(found, key=lambda entry: entry[0])
    agreement = sum(entry[0] - value <= 1e-9 * abs(value) for entry in found)
    return Solution(*problem.split(x), value, agreement, float(norm))


def pole(dim, c, shared=False):
    """The lowest f among arrangements of K = 2 dim - 1 classes as a pole over a cross-polytope: (f, Z, b).

    Z is invariant under the symmetries of the cross-polytope: a is the pole's own score, u its row's score on the
    others, v their rows' score on it, p, q and r their own score, that of a neighbour and of the opposite class. The
    rank is dim if q = (p + r) / 2 = u v / a. Two biases, or a shared one.

    >>> round(pole(3, 5e-4 * 25.6**0.5)[0], 7)
    0.1455527
    """
    m = dim - 1

    def arrangement(x):
        a, u, v, t, first, other = x
        own = u * v / a * np.ones((2 * m, 2 * m))
        own += np.kron(np.eye(m), [[t / 2, -t / 2], [-t / 2, t / 2]])
        Z = np.block([[np.array([[a]]), np.full((1, 2 * m), u)], [np.full((2 * m, 1), v), own]])
        return Z, np.append(first, np.full(2 * m, first if shared else other))

    start, options = (
        [8.0, -1.0, -1.0, 18.0, 4.0, 5.0],
        {"maxfev": 20000, "xatol": 1e-9, "fatol": 1e-14, "adaptive": True},
    )
    found = minimize(lambda x: value(*arrangement(x), c), start, method="Nelder-Mead", options=options)
    return float(found.fun), *arrangement(found.x)


def value(Z, b, c):
    """f of BCE at the scores Z (K, K), column k the scores of class k's samples, and the biases b, in nats."""
    X = (1 - 2 * np.eye(len(Z))) * (Z - np.asarray(b)[:, None])
    return float(np.logaddexp(0, X).sum() / len(Z) + c * np.linalg.norm(Z, "nuc"))


def dual(R):
    """The bound of the certificate lemma for a matrix R (K, K) of residuals; -inf where R has a wrong sign.

    >>> dual(np.array([[-0.1, 0.1], [0.1, -0.1]])) > 0, dual(np.array([[-0.1, 0.0], [0.2, -0.1]]))
    (True, -inf)
    """
    p = len(R) * R * (1 - 2 * np.eye(len(R)))
    return -float((xlogy(p, p) + xlogy(1 - p, 1 - p)).sum()) / len(R) if ((p > 0) & (p < 1)).all() else -np.inf


def lower_bound(num_classes, c, target, cells=100_000):
    """Search for a proof that f >= target for every Z of rank <= K - 2 and every shared bias.

    Branch and bound over the affine dependencies of the rows, as the appendix of the book describes it. Returns (the
    smallest bound over all cells, how many cells were visited); the bound is below the target where it fails, after so
    many cells.

    >>> lower_bound(3, 0.01, 0.1)[0] >= 0.1
    True
    """
    k = num_classes
    corners = np.array([np.r_[np.full(i, (k - i) / k), np.full(k - i, -i / k)] for i in range(1, k)])
    corners[-1] = (corners[0] + corners[-1]) / 2  # the dependency's sign: one half is enough
    draw = np.random.default_rng(0).normal
    start = 2 * draw(size=(k, k - 1)), 2 * draw(size=(k - 1, k)), np.zeros(k), 4.0
    stack, visited, lowest = [(corners, np.full(k, c), 0, start)], 0, np.inf
    inward = c * (np.ones((k, k)) / k - np.eye(k))  # admissible, with the right signs
    while stack:
        cell, slope, first, start = stack.pop()
        middle, visited = cell.mean(axis=0), visited + 1
        for level in range(first, len(LEAKS)):
            room = 1e-7 + 1.05 * k * slope * np.abs(cell - middle).max()
            S, a, start = _residuals(middle, LEAKS[level], np.minimum(0.8 * c, room), c, start)
            slope = np.abs(a)
            bound = max(min(dual((1 - t) * (S + np.outer(at, a)) + t * inward) for at in cell) for t in (0, 0.1, 0.4))
            if bound >= target or dual(S + np.outer(middle, a)) >= target + 0.002:
                break  # proved, or good in the middle: smaller cells will do
        if bound >= target:
            lowest = min(lowest, bound)
            continue
        if visited >= cells:
            return bound, visited
        lengths = np.linalg.norm(cell[:, None] - cell, axis=2)
        i, j = np.unravel_index(lengths.argmax(), lengths.shape)
        for end in (i, j):
            half = cell.copy()
            half[end] = (cell[i] + cell[j]) / 2
            stack.append((half, slope, max(level - 1, 0), start))
    return lowest, visited


LEAKS = (0.002, 0.01, 0.1, 1.0)  # how strongly scores along the dependency are penalised, in turn


def _residuals(at, leak, least, c, start):
    """S, a with |S| <= c and 1'S1 = 0 such that S + at a' are good residuals: the gradient of the loss at the minimum
    of loss + c |Z|_* over Z orthogonal to `at`, plus any part along it, which costs `leak`; entries of at least `least`
    (a column each). start, and the third of the results: where the search begins and ends."""
    k, low = len(at), np.log(least / (1 - least))
    U, unit, scale = np.linalg.svd(at[None])[2][1:].T, at / np.linalg.norm(at), (c / leak) ** 0.5
    sign, cuts = 1 - 2 * np.eye(k), np.cumsum([(k - 1) ** 2, (k - 1) * k, k])

    def parts(x):
        P, H, g, b = np.split(x, cuts)
        return P.reshape(k - 1, k - 1), H.reshape(k - 1, k), scale * g, b[0]

    def objective(x):
        P, H, g, b = parts(x)
        X = sign * (U @ P @ H + np.outer(unit, g) - b)
        Y = np.maximum(X, low)  # below, the loss is its tangent: its slope stays at `least`
        R = sign * expit(Y) / k
        loss = (np.logaddexp(0, Y) + expit(Y) * (X - Y)).sum() / k
        slopes = (U.T @ R @ H.T).ravel(), (P.T @ U.T @ R).ravel(), scale * (unit @ R), [-R.sum()]
        return loss + c / 2 * (x[:-1] @ x[:-1]), np.concatenate(slopes) + c * np.append(x[:-1], 0)

    W, H, g, b = start
    x = np.concatenate([(U.T @ W).ravel(), H.ravel(), g / scale, [b]])
    options = {"maxiter": 200, "ftol": 1e-12, "gtol": 1e-7, "maxcor": 20}
    P, H, g, b = parts(minimize(objective, x, jac=True, method="L-BFGS-B", options=options).x)
    R = sign * expit(np.maximum(sign * (U @ P @ H + np.outer(unit, g) - b), low)) / k
    S = U @ (U.T @ R)
    S -= S.sum() / k**2
    return S * min(1, c / np.linalg.norm(S, 2)) * (1 - 1e-12), R.T @ at / (at @ at), (U @ P, H, g, b)


def best_ratio(W):
    """For rows W (K, 2): the smallest m such that features H and a threshold exist with all own scores 1 and all others
    at most m; by linear programming."""
    found = []
    for k, own in enumerate(W):
        others = np.delete(W, k, axis=0)
        above, bounds = np.c_[others, -np.ones(k_others := len(others))], [(None, None), (None, None), (0, None)]
        fit = linprog([0, 0, 1], above, np.zeros(k_others), np.append(own, 0)[None], [1], bounds=bounds)
        found.append(fit.x[-1])
    return max(found)
