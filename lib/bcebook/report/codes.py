"""Minimisers with fewer dimensions than classes: what they look like, beside spherical codes. All results are shared
within a process, because a page's figures, tables and findings look at the same minimisations."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from bcebook.names import LOSS
from bcebook.runs.config import PLAIN
from bcebook.science import theory, uniform

SETTINGS = ((5, 2), (8, 2), (12, 2), (6, 3), (7, 3), (8, 3), (9, 3), (12, 3), (10, 4), (10, 5), (16, 5), (16, 8),
            (27, 6), (32, 4), (32, 8), (32, 16))
FOLLOWED = ((8, 2), (12, 3))  # from free to decayed biases
SWEPT = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
DECAYS = (5e-4, 5e-5, 5e-6, 5e-7, 5e-8)  # of W and H alike, towards the limit of no decay
# Cosine of the smallest angle of the best spherical code, (K, d) -> cosine, where a proof is known beyond the general
# cases: Schuette and van der Waerden 1951 (7, 8, 9 and 12 points in space), Bachoc and Vallentin 2009 (10 in R^4),
# Levenshtein (16, 27).
CODES = {(7, 3): 1 / np.tan(np.radians(40)) / np.tan(np.radians(80)), (8, 3): (2 * 2**0.5 - 1) / 7, (9, 3): 1 / 3,
         (12, 3): 5**-0.5, (10, 4): 1 / 6, (16, 5): 1 / 5, (27, 6): 1 / 4}
EQUAL = 1e-5  # biases or scores that differ by less are one
SHORT = 1e-6  # a row below this length has no direction
ANGLE = 0.01  # degrees: a code is reached if its angle is, to this; the tables show as much


def code_angle(num_classes: int, dim: int) -> float:
    """Smallest angle, in degrees, of the best spherical code of K points in R^d (d < K - 1) where it is proved; else
    nan."""
    if dim == 2:
        return 360 / num_classes
    cosine = 0.0 if num_classes <= 2 * dim else CODES.get((num_classes, dim), np.nan)
    return float(np.degrees(np.arccos(cosine)))


@functools.cache
def minimiser(loss: str, num_classes: int, dim: int, lambda_b: float = 0.0, restarts: int = 8,
              decay: float = PLAIN["lambda_w"]) -> theory.Solution:
    """The best minimum that `theory.solve` finds with both decays `decay`, at the paper's batch size."""
    return theory.solve(loss, num_classes, dim, PLAIN["batch_size"] / num_classes, decay, decay, lambda_b,
                        restarts=restarts)


def properties(found: theory.Solution) -> dict[str, float]:
    """What a minimiser looks like.

    angle: smallest angle between two rows of W, degrees; gap: smallest positive minus largest negative logit; margin:
    the smallest lead of an own logit over its sample's others; both over |W| |H| / K (Frobenius), so that a larger
    classifier gains nothing. accuracy, uniform: fractions; biases, scores: largest minus smallest of the biases, of the
    positive scores; aligned: smallest cosine between w_k and h_k, rows of no length left out; hits: restarts that
    agree.
    """
    W, H, k = found.W, found.H, len(found.b)
    scores, lengths = W @ H, np.linalg.norm(W, axis=1)
    Z, other = scores - found.b[:, None], ~np.eye(k, dtype=bool)
    # a row of no length: cosine 0 with every other
    U = W / np.maximum(lengths, 1e-12)[:, None] * (lengths > SHORT)[:, None]
    scale = np.linalg.norm(W) * np.linalg.norm(H) / k
    own, best = np.diagonal(Z), np.where(other, Z, -np.inf).max(axis=0)
    return {"angle": float(np.degrees(np.arccos(np.clip((U @ U.T)[other].max(), -1, 1)))),
            "gap": float((own.min() - best.max()) / scale), "margin": float((own - best).min() / scale),
            "accuracy": uniform.accuracy(Z.T.copy(), np.arange(k)),
            "uniform": uniform.uniform_accuracy(Z.T.copy(), np.arange(k))[0], "biases": float(np.ptp(found.b)),
            "scores": float(np.ptp(np.diagonal(scores))),
            "aligned": float(((U * H.T).sum(1) / np.maximum(np.linalg.norm(H, axis=0), 1e-12))[lengths > SHORT].min()),
            "hits": found.agreement}


@functools.cache
def survey(settings: tuple = SETTINGS, lambda_b: float = 0.0, restarts: int = 8) -> pd.DataFrame:
    """`properties` of both losses, a row for each (K, d); read-only. Columns K, d, lambda_b, code (`code_angle`),
    restarts, and for each loss ce_* and bce_* with *_alike: whether all classes have one bias and one positive
    score."""
    rows = []
    for k, d in settings:
        row = {"K": k, "d": d, "lambda_b": lambda_b, "code": code_angle(k, d), "restarts": restarts}
        for loss in LOSS:
            of = properties(minimiser(loss, k, d, lambda_b, restarts))
            of["alike"] = of["biases"] < EQUAL and of["scores"] < EQUAL
            row |= {f"{loss}_{name}": value for name, value in of.items()}
        rows.append(row)
    return pd.DataFrame(rows)


@functools.cache
def against_decay(settings: tuple = FOLLOWED, values: tuple = SWEPT, restarts: int = 8) -> pd.DataFrame:
    """`survey` of a few settings at each lambda_b."""
    return pd.concat([survey(settings, value, restarts) for value in values], ignore_index=True)


@functools.cache
def towards_no_decay(setting: tuple = (8, 3), decays: tuple = DECAYS) -> pd.DataFrame:
    """`properties` of both losses at one (K, d) with free biases, a row for each decay of W and H; columns ce_*,
    bce_*."""
    rows = []
    for decay in decays:
        row = {"K": setting[0], "d": setting[1], "decay": decay}
        for loss in LOSS:
            of = properties(minimiser(loss, *setting, decay=decay))
            row |= {f"{loss}_{name}": value for name, value in of.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def balance(found: theory.Solution, decay: float, per_class: float) -> float:
    """How far a minimiser with decays lambda_W = lambda_H = decay is from W'W = n HH': the largest entry of the
    difference over the largest of W'W (H has one column a class, which stands for n samples)."""
    left = found.W.T @ found.W
    return float(np.abs(left - per_class * found.H @ found.H.T).max() / np.abs(left).max())


def separated_without_bias(num_classes: int, draws: int, seed: int = 0) -> int:
    """Of so many random W (K, 2) and H (2, K) in the plane, those with all own scores above zero and all others
    below."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(draws, num_classes, 2)) @ rng.normal(size=(draws, 2, num_classes))
    signed = np.where(np.eye(num_classes, dtype=bool), scores, -scores)
    return int((signed > 0).all(axis=(1, 2)).sum())
