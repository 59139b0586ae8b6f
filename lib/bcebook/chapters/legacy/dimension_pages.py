"""Fewer dimensions than classes: what the chapter computes, draws and says."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.spatial import ConvexHull

from bcebook.report import plots
from bcebook.science import metrics, theory
from bcebook.chapters.catalog import LOSSES
from bcebook.chapters.legacy.theory_pages import BATCH, DECAY, markdown_table

SETTINGS = ((5, 2), (8, 2), (12, 2), (6, 3), (7, 3), (8, 3), (9, 3), (12, 3), (10, 4), (10, 5), (16, 5), (16, 8), (27, 6), (32, 4),
            (32, 8), (32, 16))
# Cosine of the smallest angle of the best spherical code, (K, d) -> cosine, where a proof is known beyond the general cases:
# Schuette and van der Waerden 1951 (7, 8, 9 and 12 points in space), Bachoc and Vallentin 2009 (10 in R^4), Levenshtein (16, 27).
CODES = {(7, 3): 1 / np.tan(np.radians(40)) / np.tan(np.radians(80)), (8, 3): (2 * 2**0.5 - 1) / 7, (9, 3): 1 / 3, (12, 3): 5**-0.5,
         (10, 4): 1 / 6, (16, 5): 1 / 5, (27, 6): 1 / 4}


def code_angle(num_classes: int, dim: int) -> float:
    """Smallest angle, in degrees, of the best spherical code of K points in R^d (d < K - 1) where it is proved; else nan."""
    if dim == 2:
        return 360 / num_classes
    cosine = 0.0 if num_classes <= 2 * dim else CODES.get((num_classes, dim), np.nan)
    return float(np.degrees(np.arccos(cosine)))


def minimiser(loss: str, num_classes: int, dim: int, lambda_b: float = 0.0, restarts: int = 8) -> theory.Solution:
    """The best minimum that `theory.solve` finds at the paper's decay and batch size."""
    return theory.solve(loss, num_classes, dim, BATCH / num_classes, DECAY, DECAY, lambda_b, restarts=restarts)


def properties(found: theory.Solution) -> dict[str, float]:
    """What a minimiser looks like.

    angle: smallest angle between two rows of W, degrees; gap: smallest positive minus largest negative logit; margin: the smallest
    lead of an own logit over its sample's others; both over |W| |H| / K (Frobenius), so that a larger classifier gains nothing.
    accuracy, uniform: fractions; biases, scores: largest minus smallest of the biases, of the positive scores; norms: largest over
    smallest |w_k|; aligned: smallest cosine between w_k and h_k, rows of no length left out; hits: restarts that agree.
    """
    W, H, k = found.W, found.H, len(found.b)
    scores, lengths = W @ H, np.linalg.norm(W, axis=1)
    Z, other = scores - found.b[:, None], ~np.eye(k, dtype=bool)
    U = W / np.maximum(lengths, 1e-12)[:, None]
    scale = np.linalg.norm(W) * np.linalg.norm(H) / k
    own, best = np.diagonal(Z), np.where(other, Z, -np.inf).max(axis=0)
    return {"angle": np.degrees(np.arccos(np.clip((U @ U.T)[other].max(), -1, 1))), "gap": (own.min() - best.max()) / scale,
            "margin": (own - best).min() / scale, "accuracy": metrics.accuracy(Z.T.copy(), np.arange(k)),
            "uniform": metrics.uniform_accuracy(Z.T.copy(), np.arange(k))[0], "biases": np.ptp(found.b),
            "scores": np.ptp(np.diagonal(scores)), "norms": lengths.max() / max(lengths.min(), 1e-12),
            "aligned": ((U * H.T).sum(1) / np.maximum(np.linalg.norm(H, axis=0), 1e-12))[lengths > 1e-6].min(), "hits": found.agreement}


def survey(settings=SETTINGS, lambda_b: float = 0.0, restarts: int = 8) -> pd.DataFrame:
    """`properties` of both losses, a row for each (K, d); columns K, d, code (`code_angle`), restarts, and ce_* and bce_*."""
    rows = []
    for k, d in settings:
        row = {"K": k, "d": d, "code": code_angle(k, d), "restarts": restarts}
        for loss in LOSSES:
            row |= {f"{loss}_{name}": value for name, value in properties(minimiser(loss, k, d, lambda_b, restarts)).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def alike(table: pd.DataFrame, loss: str) -> pd.Series:
    """Whether all classes have one bias and one positive score, to 1e-5."""
    return (table[f"{loss}_biases"] < 1e-5) & (table[f"{loss}_scores"] < 1e-5)


def planes(lambda_b=(0.0, 0.05), num_classes: int = 8) -> Figure:
    """Two dimensions: the features as points, rows of W as arrows, and where each loss puts its boundaries."""
    figure, axes = plt.subplots(2, len(lambda_b), figsize=(7.6, 8), subplot_kw={"aspect": "equal"})
    for row, loss in zip(axes, LOSSES, strict=True):
        for ax, value in zip(row, lambda_b, strict=True):
            _plane(ax, loss, minimiser(loss, num_classes, 2, value))
            ax.set_title(f"{plots.NAME[loss]}, " + (rf"$\lambda_b$ = {value:g}" if value else r"free biases ($\lambda_b$ = 0)"))
    handles = [Line2D([], [], marker="o", linestyle="", color=plots.GREY, label="feature of a class"),
               Line2D([], [], color=plots.GREY, linewidth=2, alpha=0.5, label="classifier row, from the origin"),
               Line2D([], [], color="#999999", linewidth=0.8, label="boundary of a class")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _plane(ax: Axes, loss: str, found: theory.Solution) -> None:
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
            ax.contour(x, y, Z[k], [0], colors="#999999", linewidths=0.8)
    for w in W / np.abs(W).max() * np.abs(H).max() * 0.8:
        ax.annotate("", w, (0, 0), arrowprops=dict(arrowstyle="-|>", color=colour, alpha=0.4, linewidth=2, shrinkA=0, shrinkB=0))
    ax.scatter(*H, color=colour, s=46, zorder=3, edgecolor="white", linewidth=0.6)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def polyhedra(lambda_b=(0.0, 0.05), num_classes: int = 12) -> Figure:
    """Three dimensions: the features of all classes, and the edges of their convex hull."""
    figure = plt.figure(figsize=(7.6, 7.6))
    for i, (loss, value) in enumerate((loss, value) for loss in LOSSES for value in lambda_b):
        ax = figure.add_subplot(2, 2, i + 1, projection="3d")
        found = minimiser(loss, num_classes, 3, value)
        X = found.H.T / np.linalg.norm(found.H, axis=0).max()
        hull = ConvexHull(X)
        for normal in np.unique(hull.equations.round(5), axis=0):  # triangles of one face share their plane: draw its rim alone
            face = hull.simplices[np.abs(hull.equations - normal).max(axis=1) < 1e-4]
            edges = np.sort(np.concatenate([face[:, [0, 1]], face[:, [1, 2]], face[:, [0, 2]]]), axis=1)
            ax.plot_trisurf(*X.T, triangles=face, color=plots.COLOUR[loss], alpha=0.08, linewidth=0, shade=False)
            for edge in edges[[np.all(edges == e, axis=1).sum() == 1 for e in edges]]:
                ax.plot(*X[edge].T, color=plots.COLOUR[loss], linewidth=1.1)
        ax.scatter(*X.T, color=plots.COLOUR[loss], s=34, depthshade=False)
        ax.scatter(0, 0, 0, color="black", s=12, marker="+")
        angle = properties(found)["angle"]
        ax.set_title(f"{plots.NAME[loss]}, $\\lambda_b$ = {value:g}: smallest angle {angle:.1f}°", fontsize="small")
        ax.set(xlim=(-0.62, 0.62), ylim=(-0.62, 0.62), zlim=(-0.62, 0.62), box_aspect=(1, 1, 1))
        ax.view_init(22, 28)
        ax.set_axis_off()
    return figure


def against_bias_decay(settings=((8, 2), (12, 3)), restarts: int = 8) -> tuple[Figure, pd.DataFrame]:
    """Smallest angle and uniform gap of both losses against lambda_b; also the numbers drawn (columns of `survey`, lambda_b)."""
    values = (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    table = pd.concat([survey(settings, value, restarts).assign(lambda_b=value) for value in values], ignore_index=True)
    figure, axes = plt.subplots(2, len(settings), figsize=(8.6, 6), sharex=True, sharey="row")
    for column, (k, d) in zip(axes.T, settings, strict=True):
        rows = table[(table["K"] == k) & (table["d"] == d)]
        at = np.where(rows["lambda_b"] > 0, rows["lambda_b"], 2e-6)  # zero has no place on a logarithmic axis
        for ax, name, label in zip(column, ("angle", "gap"), ("smallest angle, degrees", "uniform gap"), strict=True):
            for loss in LOSSES:
                ax.plot(at, rows[f"{loss}_{name}"], marker="o", markersize=4, color=plots.COLOUR[loss], label=plots.NAME[loss])
            ax.axhline(rows["code"].iloc[0] if name == "angle" else 0, color="black", linewidth=0.7)
            ax.set(xscale="log", ylabel=label)
            ax.label_outer()
        column[0].set_title(f"K = {k}, d = {d}")
        column[1].set(xlabel=r"$\lambda_b$")
        column[1].set_xticks([2e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1], ["0", *(f"$10^{{{p}}}$" for p in range(-5, 0))])
        column[1].minorticks_off()
    axes[0, 0].legend(loc="lower left")
    return figure, table


def small_decay(setting=(8, 3), decays=(5e-4, 5e-5, 5e-6, 5e-7, 5e-8)) -> str:
    """Markdown: uniform gap and margin of both losses as lambda_W = lambda_H = decay goes to zero, for one (K, d)."""
    (k, d), rows = setting, []
    for decay in decays:
        of = {loss: properties(theory.solve(loss, k, d, BATCH / k, decay, decay)) for loss in LOSSES}
        rows.append([*(of[loss][name] for name in ("gap", "margin") for loss in LOSSES), of["bce"]["angle"]])
    cells = ([f"{decay:g}", *(f"{x:.3f}" for x in row[:4]), f"{row[4]:.2f}°"] for decay, row in zip(decays, rows, strict=True))
    lines = markdown_table("decay | gap, CE | gap, BCE | margin, CE | margin, BCE | smallest angle, BCE", cells)
    code, (ce_gap, bce_gap, ce_margin, bce_margin, _) = code_angle(k, d), rows[-1]
    return "\n".join([
        *lines, f"Here K = {k}, d = {d}. The best spherical code has an angle of {code:.2f}°; as classifier and features, with one "
        f"bias, its uniform gap and its margin are {1 - np.cos(np.radians(code)):.3f}. In the last row CE's margin minus BCE's is "
        f"{ce_margin - bce_margin:+.3f}, and BCE's gap minus CE's {bce_gap - ce_gap:+.3f}."])


def survey_table(table: pd.DataFrame) -> str:
    """Markdown: the rows of `survey`, and what they add up to."""
    same = {loss: alike(table, loss) for loss in LOSSES}
    pair = lambda r, name, form: " / ".join(format(getattr(r, f"{loss}_{name}"), form) for loss in LOSSES).replace("-", "−")  # noqa: E731
    lines = markdown_table("K, d | code | angle | alike | margin | gap | $A_\\text{Uni}$ | starts", (
        [f"{r.K}, {r.d}", "–" if np.isnan(r.code) else f"{r.code:.2f}", pair(r, "angle", ".2f"),
         " / ".join("yes" if same[loss][r.Index] else "no" for loss in LOSSES), pair(r, "margin", ".3f"), pair(r, "gap", ".3f"),
         pair(r, "uniform", ".2f"), pair(r, "hits", "d")] for r in table.itertuples()))
    known = table["code"].notna()
    exact = {loss: known & same[loss] & ((table[f"{loss}_angle"] - table["code"]).abs() < 0.01) for loss in LOSSES}
    unlike = {loss: ", ".join(f"({r.K}, {r.d})" for r in table[~same[loss]].itertuples()) for loss in LOSSES}
    signs = [(f"larger in {(x > 1e-6).sum()} settings, equal in {(x.abs() <= 1e-6).sum()}, smaller in {(x < -1e-6).sum()}")
             for x in (table["bce_gap"] - table["ce_gap"], table["ce_margin"] - table["bce_margin"])]
    full = {loss: (table[f"{loss}_uniform"] == 1).sum() for loss in LOSSES}
    most = {name: [f"{table[f'{loss}_{name}'].max():.1f}" for loss in LOSSES] for name in ("biases", "scores")}
    least = [f"{table[f'{loss}_aligned'].min():.3f}" for loss in LOSSES]
    return "\n".join([
        f"- **Classes alike** (one bias, one positive score): BCE in {same['bce'].sum()} of {len(table)} settings, CE in "
        f"{same['ce'].sum()}. Not alike, (K, d): BCE {unlike['bce']}; CE {unlike['ce']}. There biases differ within a setting by up to "
        f"{most['biases'][1]} (BCE) and {most['biases'][0]} (CE), positive scores by up to {most['scores'][1]} and {most['scores'][0]}.",
        f"- **Aligned.** The smallest cosine between a classifier row and its feature is {least[1]} (BCE) and {least[0]} (CE).",
        f"- **Spherical codes.** Where the best code is known and the classes are alike, BCE reaches it in {exact['bce'].sum()} of "
        f"{(known & same['bce']).sum()} settings, CE in {exact['ce'].sum()} of {(known & same['ce']).sum()}.",
        f"- **Uniform gap**: BCE's is {signs[0]}. **Margin**: CE's is {signs[1]}.",
        f"- **Uniform accuracy** is 1 under BCE in {full['bce']} settings and under CE in {full['ce']}, where it goes down to "
        f"{table['ce_uniform'].min():.2f}. Plain accuracy is never below "
        f"{table[['ce_accuracy', 'bce_accuracy']].min().min():g}.", "", *lines,
        f"Each pair is CE / BCE; *starts*: how many of {table['restarts'].iloc[0]} random starts reached the best minimum."])


def decay_sentence(table: pd.DataFrame) -> str:
    """Markdown: which loss treats the classes alike with free biases and with the largest lambda_b of a sweep."""
    told = []
    for value in (0.0, table["lambda_b"].max()):
        rows = table[table["lambda_b"] == value]
        count = {loss: f"{alike(rows, loss).sum()} of {len(rows)}" for loss in LOSSES}
        gaps, accuracies = ([f"{rows[f'{loss}_{name}'].min():.2f}" for loss in LOSSES] for name in ("gap", "accuracy"))
        told.append(f"At $\\lambda_b$ = {value:g} CE treats the classes alike in {count['ce']} settings and BCE in {count['bce']}; the "
                    f"smallest uniform gaps are {gaps[0]} and {gaps[1]}, the smallest accuracies {accuracies[0]} and {accuracies[1]}.")
    return " ".join(told).replace("-0.00", "0.00").replace(" -", " −")
