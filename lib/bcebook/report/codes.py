"""Minimisers with fewer dimensions than classes: what they look like, beside spherical codes. Most of the
searches stand in data/theory/few_dimensions.csv; those that run are shared within a process."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from bcebook.names import LOSS
from bcebook.report import theory_tables
from bcebook.runs.config import PLAIN
from bcebook.science import theory

RESTARTS = 8
SETTINGS = ((5, 2), (8, 2), (12, 2), (5, 3), (6, 3), (7, 3), (8, 3), (9, 3), (12, 3), (7, 4), (10, 4), (10, 5), (16, 5),
            (16, 8), (27, 6), (32, 4), (32, 8), (32, 16))
FOLLOWED = ((8, 2), (12, 3))  # from free to decayed biases
SWEPT = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FOLLOWED_DOWN = (8, 3)  # towards no decay of W and H
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


def minimiser(loss: str, num_classes: int, dim: int, lambda_b: float = 0.0,
              decay: float = PLAIN["lambda_w"]) -> theory.Solution:
    """The best minimum that `theory.solve` finds from RESTARTS starts with both decays `decay`, at the paper's batch
    size."""
    return _minimiser(loss, num_classes, dim, lambda_b, decay)


@functools.cache
def _minimiser(loss: str, num_classes: int, dim: int, lambda_b: float, decay: float) -> theory.Solution:
    return theory.solve(loss, num_classes, dim, PLAIN["batch_size"] / num_classes, decay, decay, lambda_b,
                        restarts=RESTARTS)


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
            "accuracy": float((own > best).mean()),
            # of all thresholds one just above some sample's best other logit serves the most
            "uniform": float(((best <= best[:, None]) & (best[:, None] < own)).sum(axis=1).max() / k),
            "biases": float(np.ptp(found.b)), "scores": float(np.ptp(np.diagonal(scores))),
            "aligned": float(((U * H.T).sum(1) / np.maximum(np.linalg.norm(H, axis=0), 1e-12))[lengths > SHORT].min()),
            "hits": found.agreement}


def _row(loss: str, K: int, d: int, lambda_b: float, decay: float) -> dict[str, float]:
    found = minimiser(loss, K, d, lambda_b, decay)
    return properties(found) | {"objective": found.objective, "balance": balance(found, decay, PLAIN["batch_size"] / K)}


def _settings(loss: str, setting: tuple[int, int], lambda_b: float = 0.0, decay: float = PLAIN["lambda_w"]) -> dict:
    return {"loss": loss, "K": setting[0], "d": setting[1], "lambda_b": lambda_b, "decay": decay}


def _all_settings() -> tuple[dict, ...]:
    every = [(setting,) for setting in SETTINGS]
    every += [(setting, value) for setting in FOLLOWED for value in SWEPT]
    every += [(FOLLOWED_DOWN, 0.0, decay) for decay in DECAYS]
    found = [_settings(loss, *each) for each in every for loss in LOSS]
    return tuple(each for at, each in enumerate(found) if each not in found[:at])


TABLE = theory_tables.TheoryTable(
    "few_dimensions",
    f"Best of {RESTARTS} minimisations over W, H and b from random starts (seed 0), 128 / K samples a class; columns "
    "as in bcebook.report.codes.",
    _all_settings(), _row,
    tuple(_settings(loss, setting) for setting in FOLLOWED for loss in LOSS))  # the page's drawings need these too


def _both(setting: tuple[int, int], lambda_b: float = 0.0, decay: float = PLAIN["lambda_w"]) -> dict[str, float]:
    """The results of TABLE for both losses, as ce_* and bce_*, with *_alike: whether all classes have one bias and one
    positive score."""
    row = {}
    for loss in LOSS:
        settings = _settings(loss, setting, lambda_b, decay)
        of = TABLE.frame.iloc[TABLE.settings.index(settings)].drop(list(settings)).to_dict()
        of["alike"] = of["biases"] < EQUAL and of["scores"] < EQUAL
        row |= {f"{loss}_{name}": value for name, value in of.items()}
    return row


@functools.cache
def survey(settings: tuple = SETTINGS, lambda_b: float = 0.0) -> pd.DataFrame:
    """Both losses, a row for each (K, d); read-only. Columns K, d, lambda_b, code (`code_angle`), and for each loss
    what `_both` has."""
    return pd.DataFrame([{"K": k, "d": d, "lambda_b": lambda_b, "code": code_angle(k, d)} | _both((k, d), lambda_b)
                         for k, d in settings])


@functools.cache
def against_decay(settings: tuple = FOLLOWED, values: tuple = SWEPT) -> pd.DataFrame:
    """`survey` of a few settings at each lambda_b."""
    return pd.concat([survey(settings, value) for value in values], ignore_index=True)


@functools.cache
def towards_no_decay(decays: tuple = DECAYS) -> pd.DataFrame:
    """Both losses at FOLLOWED_DOWN with free biases, a row for each decay of W and H; columns ce_*, bce_*."""
    k, d = FOLLOWED_DOWN
    return pd.DataFrame([{"K": k, "d": d, "decay": decay} | _both((k, d), decay=decay) for decay in decays])


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
