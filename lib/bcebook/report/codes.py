"""Minimisers with fewer dimensions than classes: what they look like, beside spherical codes, and the checks of the
theorems about them. Most searches stand in data/theory; those that run are shared within a process."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from bcebook.names import LOSS
from bcebook.report import markdown, plots, predictions, theory_tables
from bcebook.runs.config import PLAIN
from bcebook.science import shared_bias, theory, verdicts

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
# Pairs in which a symmetry group takes every point of some best code to every other: polygons, two triangles in
# orthogonal planes (6, 4), cross-polytopes, and others (Levenshtein's, the antiprism, the icosahedron, Petersen's).
EVEN = ((5, 2), (8, 2), (12, 2), (6, 3), (8, 3), (12, 3), (6, 4), (8, 4), (10, 4), (10, 5), (16, 5))
POLES = ((5, 3), (7, 4), (9, 5), (11, 6))  # K = 2d - 1
SHARED = EVEN + ((5, 3), (7, 3), (9, 3), (7, 4), (9, 4), (7, 5))  # minimised with one bias for all classes
BOUNDS = ((4, 0.13), (5, 0.12), (5, 0.1456))  # K, and f that no point with one bias falls below in d = K - 2
STATIONARY = 1e-7  # to which a minimisation's balance is exact: its slope is at most about 1e-9 of its largest entry
ROUNDING = 1e-6  # gaps and margins that differ by less are equal
DRAWS = 20_000  # random arrangements that the lemma is tried on
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


def _c(num_classes: int) -> float:
    return PLAIN["lambda_w"] * (PLAIN["batch_size"] / num_classes) ** 0.5


def _shared(K: int, d: int) -> dict[str, float]:
    found = shared_bias.solve(K, d, PLAIN["batch_size"] / K, PLAIN["lambda_w"], restarts=RESTARTS)
    return properties(found) | {"objective": found.objective}


def _bound(K: int, target: float) -> dict[str, float]:
    lowest, _ = shared_bias.lower_bound(K, _c(K), target)
    return {"at_least": target if lowest >= target else np.nan}


SHARED_TABLE = theory_tables.TheoryTable(
    "shared_bias", f"BCE with one bias: best of {RESTARTS} minimisations from random starts (seed 0), both decays "
    "5e-4, 128 / K samples a class.", tuple({"K": k, "d": d} for k, d in SHARED), _shared,
    tuple({"K": k, "d": d} for k, d in SHARED if d == 2))
BOUND_TABLE = theory_tables.TheoryTable(
    "shared_bias_bound", "Branch and bound in d = K - 2, both decays 5e-4, 128 / K samples a class.",
    tuple({"K": k, "target": target} for k, target in BOUNDS), _bound, ({"K": 4, "target": BOUNDS[0][1]},))


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


# ---- checks of the theorems -----------------------------------------------------------------------------------------

def carries_over() -> verdicts.Finding:
    """The balance of W and H at every minimum of the survey, and a minimum above that of d >= K."""
    table = survey()
    residuals = table[[f"{loss}_balance" for loss in LOSS]].to_numpy().ravel()
    above = [getattr(row, f"{loss}_objective") - theory.minimum(loss, row.K, predictions.paper_c(row.K)).objective
             for row in table.itertuples() for loss in LOSS]
    worst = max(residuals) if min(above) > 0 else float("inf")  # a minimum below the bound would refute it as well
    found = verdicts.check(worst, STATIONARY, n=len(residuals), of="minima", because="the accuracy of the "
                           "minimisations; infinite if a minimum lies below that of d >= K")
    return found.but(detail=f"the smallest excess over the minimum of d >= K is {min(above):.1e} nats")


def each_its_margin() -> verdicts.Finding:
    """Theorem two near its limit: CE has the larger margin, BCE the larger uniform gap."""
    last = towards_no_decay().iloc[-1]
    margin, gap = last["ce_margin"] - last["bce_margin"], last["bce_gap"] - last["ce_gap"]
    found = verdicts.check(max(0.0, -margin, -gap), ROUNDING, "the accuracy of the minimisations", n=1)
    return found.but(detail=f"at K = {int(last['K'])}, d = {int(last['d'])} and decay {last['decay']:g}, CE's margin "
                            f"minus BCE's is {margin:+.3f}, BCE's gap minus CE's {gap:+.3f}")


def needs_a_bias() -> verdicts.Finding:
    """The lemma: of random arrangements of four classes in the plane none may separate without a bias."""
    counted = {k: separated_without_bias(k, DRAWS) for k in (3, 4)}
    found = verdicts.check(counted[4], 0, "it says none", n=DRAWS, of="random arrangements of four classes", unit="")
    return found.but(detail=f"of as many random arrangements of three classes {counted[3]} separate")


@functools.cache
def poles() -> pd.DataFrame:
    """The pole over a cross-polytope at K = 2d - 1: f with two biases and with a shared one, and the proved bound."""
    bounds = BOUND_TABLE.frame.groupby("K")["at_least"].max()
    rows = []
    for k, d in POLES:
        value, Z, b = shared_bias.pole(d, _c(k))
        rows.append({"K": k, "d": d, "free": value, "shared": shared_bias.pole(d, _c(k), shared=True)[0],
                     "bound": bounds.get(k, np.nan), "pole_bias": b[0], "bias": b[1], "pole_score": Z[0, 0],
                     "score": Z[1, 1]})
    return pd.DataFrame(rows)


def counterexample() -> verdicts.Finding:
    """K = 5, d = 3: an explicit point with two biases lies below the proved bound of all points with one."""
    row = poles().iloc[0]
    found = verdicts.check(row["free"] - row["bound"], 0, "the explicit point must lie below the bound of all points "
                           "with one bias", n=1, of="pair", unit="nats")
    return found.but(detail=f"f is {row['free']:.7f} at the explicit point and at least {row['bound']:g} at every "
                            f"point with one bias; the lowest one found has {row['shared']:.7f}")


def polygon(draws: int = 40) -> verdicts.Finding:
    """Random rows of one length in the plane: does a linear program find features with a smaller ratio than the
    polygon's?"""
    rng, sizes = np.random.default_rng(0), (4, 5, 6, 8)
    angles = [2 * np.pi / k * (np.arange(k) + spread * rng.normal(size=k)) for k in sizes
              for spread in np.geomspace(1e-3, 1, draws)]
    short = [np.cos(2 * np.pi / len(at)) - shared_bias.best_ratio(np.c_[np.cos(at), np.sin(at)]) for at in angles]
    return verdicts.check(max(short), ROUNDING, "the accuracy of the linear programs", n=len(short),
                          of="random arrangements")


@functools.cache
def shared() -> pd.DataFrame:
    """The minima with one bias, a row for each (K, d): alike, angle, gap, code (of the best code), even, objective."""
    table = SHARED_TABLE.frame
    code = [code_angle(row.K, row.d) for row in table.itertuples()]
    even = [(row.K, row.d) in EVEN for row in table.itertuples()]
    return table.assign(alike=table["scores"] < EQUAL, code=code, even=even)


def listed(rows: pd.DataFrame) -> str:
    """The pairs of some rows: "(7, 3) and (9, 3)"."""
    return markdown.listed(f"({row.K}, {row.d})" for row in rows.itertuples()) if len(rows) else "none"


def plane(ax, loss, found):
    """One minimum in the plane: features, rows of W, and where the loss puts its boundaries."""
    W, H, b, colour = found.W, found.H, found.b, plots.COLOUR[loss]
    turn = np.arctan2(*H[::-1, np.argmax(np.linalg.norm(H, axis=0))]) - np.pi / 2  # the longest feature points up
    R = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    W, H = W @ R.T, R @ H
    reach = 1.45 * np.abs(H).max()
    x, y = np.meshgrid(*[np.linspace(-reach, reach, 500)] * 2)
    Z = np.tensordot(W, np.stack([x, y]), 1) - b[:, None, None]
    if loss == "ce":  # a point belongs to the class of its largest logit
        for k in range(len(b)):
            lead = Z[k] - np.delete(Z, k, axis=0).max(axis=0)
            if lead.max() > 0:
                ax.contour(x, y, lead, [0], colors="#999999", linewidths=0.8)
    else:  # a class claims what lies beyond its own line, whatever the other classes say
        for k in range(len(b)):
            if Z[k].min() < 0 < Z[k].max():
                ax.contour(x, y, Z[k], [0], colors="#999999", linewidths=0.8)
    for w in W / np.abs(W).max() * np.abs(H).max() * 0.8:
        arrow = {"arrowstyle": "-|>", "color": colour, "alpha": 0.4, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", w, (0, 0), arrowprops=arrow)
    ax.scatter(*H, color=colour, s=46, zorder=3, edgecolor="white", linewidth=0.6)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
