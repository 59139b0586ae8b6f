"""The first phase of training: gradient flow of W and free features H around W = H = 0, under both losses.

f = (1/N) sum over samples of the loss of the logits W h_i - b, class k with n_k samples, all of one class equal. With
the residuals r = p - onehot (p: softmax or sigmoid), dW/dt = -(1/N) sum_i r_i h_i^T, dh_i/dt = -(1/N) W^T r_i and
db/dt = (1/N) sum_i r_i. At W = H = 0 with equal biases p is one number s, 1/K for CE and sigmoid(-b) for BCE, and the
flow of W and H is linear with the matrix I - s J (J: all ones), which is 1 on contrasts and 1 - s K on the common
mode. Source: ours (lead 11 of the project).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import expit, softmax

from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

START = 1e-8  # size of a simulation's first W and H
CLASSES = (3, 10, 100)  # of the checks
LINEAR = 1e3  # by how much its fastest mode grows


def velocity(loss: str, W, H, bias, counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time derivatives of W (K, d), of the features H (d, K), one column for each class, and of the biases (K,).

    counts: the samples of each class, (K,)."""
    logits = W @ H - np.asarray(bias)[:, None]
    residual = (softmax(logits, axis=0) if loss == "ce" else expit(logits)) - np.eye(len(counts))
    share = np.asarray(counts) / np.sum(counts)
    return -(residual * share) @ H.T, -W.T @ residual / np.sum(counts), residual @ share


def linearised(loss: str, bias: float, counts) -> np.ndarray:
    """The Jacobian (2K, 2K) at W = H = 0 of the flow of one dimension of W and H, by finite differences (all dimensions
    are alike). Biases are held at one value."""
    k, step = len(counts), 1e-3  # W H = 0 at each point, so that the difference has no error of its own but rounding
    columns = []
    for unit in step * np.eye(2 * k):
        w, h, _ = velocity(loss, unit[:k, None], unit[None, k:], np.full(k, bias), counts)
        columns.append(np.r_[w[:, 0], h[0]] / step)
    return np.array(columns).T


def growth(loss: str, bias: float, counts) -> float:
    """The rate of the mode that grows fastest around W = H = 0, biases held."""
    return float(np.linalg.eigvals(linearised(loss, bias, counts)).real.max())


def rates(loss: str, num_classes: int, bias: float, n: int = 1) -> np.ndarray:
    """The theorem's eigenvalues of `linearised` for n samples a class, ascending: plus and minus 1 / (K sqrt(n)) on the
    K - 1 contrasts, and |1 - s K| times that on the common mode.

    >>> [round(x, 2) for x in 10 * rates("bce", 10, 0.0)[[0, 1, -2, -1]]]  # the common mode: 4 times as fast
    [-4.0, -1.0, 1.0, 4.0]
    """
    same = 1 / num_classes if loss == "ce" else expit(-bias)
    modes = np.r_[np.ones(num_classes - 1), abs(1 - same * num_classes)] / (num_classes * math.sqrt(n))
    return np.sort(np.r_[-modes, modes])


@dataclass(frozen=True)
class Simulation:
    """times (T,); contrasts, common: lengths of the two growing modes, K^(1/2) W's parts of the rows' deviations from
    their mean, and of their mean; bias: the mean bias."""

    times: np.ndarray
    contrasts: np.ndarray
    common: np.ndarray
    bias: np.ndarray


def simulate(
    loss: str,
    num_classes: int,
    bias: float,
    until: float,
    *,
    n: int = 1,
    moving: bool = False,
    start: float = START,
    seed: int = 0,
) -> Simulation:
    """The full, not linearised, flow of K dimensions from a random W and H of length `start` a row and column.

    until: the last time; moving: whether the biases follow the flow. With G = sqrt(n) H^T, a growing contrast has W = G
    and the growing common mode W = -G, so the lengths are those of the contrasts of (W + G) / 2 and of the row mean of
    (W - G) / 2, times sqrt(K).
    """
    k = num_classes
    first = np.random.default_rng(seed).normal(size=(2, k, k)) * start / math.sqrt(k)
    counts = np.full(k, n)

    def slope(_, state):
        w, h, b = velocity(loss, state[: k * k].reshape(k, k), state[k * k : -k].reshape(k, k), state[-k:], counts)
        return np.r_[w.ravel(), h.ravel(), b * moving]

    times = np.linspace(0, until, 200)
    state = np.r_[first.ravel(), np.full(k, bias)]
    path = solve_ivp(slope, (0, until), state, t_eval=times, rtol=1e-8, atol=1e-5 * start).y.T
    W, G = path[:, : k * k].reshape(-1, k, k), math.sqrt(n) * path[:, k * k : -k].reshape(-1, k, k).transpose(0, 2, 1)
    plus, minus = (W + G) / 2, (W - G) / 2
    contrasts = np.linalg.norm(plus - plus.mean(1, keepdims=True), axis=(1, 2))
    return Simulation(times, contrasts, math.sqrt(k) * np.linalg.norm(minus.mean(1), axis=1), path[:, -k:].mean(1))


def measured(loss: str, num_classes: int, bias: float) -> dict[str, float]:
    """Growth rates of the two modes in a simulation with held biases, up to LINEAR times the start: contrasts,
    common."""
    until = math.log(LINEAR) / rates(loss, num_classes, bias)[-1]
    path = simulate(loss, num_classes, bias, until)
    return {
        name: float(np.log(size[-1] / size[0]) / until)
        for name, size in (("contrasts", path.contrasts), ("common", path.common))
    }


# ---- what checks the theorem

FINITE = "the simulation has small but finite steps and sizes"


def _settings() -> list[tuple[int, str, float]]:
    """Number of classes, loss and bias: CE, BCE from log(K - 1), BCE from 0."""
    starts = [("ce", lambda k: 0.0), ("bce", lambda k: math.log(k - 1)), ("bce", lambda k: 0.0)]
    return [(k, loss, start(k)) for k in CLASSES for loss, start in starts]


def same_flow(sizes: list) -> Finding:
    """Jacobians of CE and of BCE from log(K - 1), for equal classes and for these class sizes; as the control, from
    0."""
    cases = [np.full(k, 5) for k in CLASSES] + list(sizes)

    def apart(even: float) -> Finding:
        off = []
        for counts in cases:
            ce, bce = (linearised(loss, even * math.log(len(counts) - 1), counts) for loss in ("ce", "bce"))
            off.append(np.abs(ce - bce).max() / np.abs(ce).max())
        return verdicts.check(max(off), 1e-9, "rounding", n=len(cases), of="class sizes")

    ratio = max(growth("bce", 0.0, counts) / growth("ce", 0.0, counts) for counts in sizes)
    detail = f"from 0 the fastest mode of these unequal classes grows up to {ratio:.0f} times as fast as under CE"
    return apart(1.0).but(control=apart(0.0).but(label="the same test from 0", detail=detail))


def common_mode() -> Finding:
    """Eigenvalues of the linearised flow and `measured` rates against `rates`, relative to the largest."""
    off = []
    for k, loss, bias in _settings():
        expected, found = rates(loss, k, bias), measured(loss, k, bias)
        common = (k - 2) / 2 if loss == "bce" and bias == 0 else 0.0
        eigenvalues = np.sort(np.linalg.eigvals(linearised(loss, bias, np.ones(k))).real)
        apart = *(eigenvalues - expected), found["contrasts"] - 1 / k, found["common"] - common / k
        off.append(np.abs(apart).max() / expected[-1])
    return verdicts.check(max(off), 1e-3, FINITE, n=len(off))


def moving() -> Finding:
    """The logarithm of the common mode's growth while the biases move from 0 to b, against b / sqrt(n)."""
    off = []
    for k in CLASSES:
        for n in (1, 4):
            path = simulate("bce", k, 0.0, 6.0 * k, n=n, moving=True)
            off.append(abs(np.log(path.common[-1] / path.common[0]) - path.bias[-1] / math.sqrt(n)))
    return verdicts.check(max(off), 1e-3, FINITE, n=len(off))


def lag() -> Finding:
    """Do the contrasts reach the length 1 later from 0, with biases that move, than from log(K - 1), by more than a
    hundredth of the time?"""
    late, more = 0, []
    for k in CLASSES[:2]:
        for start in (1e-2, 1e-4):
            until = 3.0 * k * math.log(1 / start)
            paths = [simulate("bce", k, bias, until, moving=True, start=start) for bias in (0.0, math.log(k - 1))]
            reached = [np.interp(0.0, np.log(path.contrasts), path.times) for path in paths]
            more.append(reached[0] / reached[1] - 1)
            late += more[-1] > 0.01
    found = verdicts.shown(late, len(more), "the contrasts reach the length 1 later by more than 1 % of the time")
    return found.but(detail=f"from 0 they take {100 * min(more):+.2f} % to {100 * max(more):+.2f} % longer")
