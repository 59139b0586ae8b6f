"""The two chapters beyond the paper: fewer dimensions than classes, and imbalance; what they compute, draw and say."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.spatial import ConvexHull

from bcebook import data, metrics, plots, theory
from bcebook.catalog import LOSSES
from bcebook.paths import published
from bcebook.store import Run
from bcebook.theory_pages import BATCH, DECAY

def _table(header: str, rows) -> list[str]:
    """The lines of a Markdown table: columns separated by bars; rows of texts."""
    rule = "|---" * (header.count(" | ") + 1) + "|"
    return [f"| {header} |", rule, *(f"| {' | '.join(row)} |".replace("| -", "| −") for row in rows), ""]


# ---- fewer dimensions than classes ------------------------------------------------------------------------------------

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
    lines = _table("decay | gap, CE | gap, BCE | margin, CE | margin, BCE | smallest angle, BCE", cells)
    code, (ce_gap, bce_gap, ce_margin, bce_margin, _) = code_angle(k, d), rows[-1]
    return "\n".join([
        *lines, f"Here K = {k}, d = {d}. The best spherical code has an angle of {code:.2f}°; as classifier and features, with one "
        f"bias, its uniform gap and its margin are {1 - np.cos(np.radians(code)):.3f}. In the last row CE's margin minus BCE's is "
        f"{ce_margin - bce_margin:+.3f}, and BCE's gap minus CE's {bce_gap - ce_gap:+.3f}."])


def survey_table(table: pd.DataFrame) -> str:
    """Markdown: the rows of `survey`, and what they add up to."""
    same = {loss: alike(table, loss) for loss in LOSSES}
    pair = lambda r, name, form: " / ".join(format(getattr(r, f"{loss}_{name}"), form) for loss in LOSSES).replace("-", "−")  # noqa: E731
    lines = _table("K, d | code | angle | alike | margin | gap | $A_\\text{Uni}$ | starts", (
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


# ---- imbalance and minority collapse ----------------------------------------------------------------------------------

CASES = {"2 of 100, 4 of 5": (100, 100, 5, 5, 5, 5), "300, 200, 100, 2 of 2": (300, 200, 100, 2, 2),
         "5 of 50, 5 of 1": (50,) * 5 + (1,) * 5, "6 equal": (7,) * 6}


def at_share(loss: str, shares, product: float, lambda_b: float = 0.0, restarts: int = 1) -> theory.Solution:
    """The minimum at d = K, where every local minimum is global, for shares (K,) of the data and product = B lambda_W lambda_H.

    In mini-batches of B the size N of the data set does not matter: lambda_H acts as lambda_H B / N, so that class k's features
    are decayed by lambda_H B times the class's share. Both decays are taken equal: only their product enters the logits.
    """
    shares = np.asarray(shares, float) / np.sum(shares)
    k, decay = len(shares), np.sqrt(product)
    return theory.solve(loss, k, k, None, decay, decay, lambda_b, counts=shares, restarts=restarts)


def tail_width(found: theory.Solution, shares) -> float:
    """Largest distance between two rows of the smallest classes."""
    rows = found.W[np.asarray(shares) == min(shares)]
    return float(np.linalg.norm(rows[:, None] - rows[None], axis=-1).max())


def thresholds(lambda_b=(0.0, 0.01), steps: int = 12) -> pd.DataFrame:
    """Bisection on `theory.solve`: where the tail rows of each of CASES separate, over the theorem's value of B lambda_W lambda_H.

    Columns case, lambda_b; ce, bce: share of a tail class at the threshold over B lambda_W lambda_H, 1 if the theorem holds, to
    the last step's width; apart: BCE's distance between tail rows over CE's where that share is 5 % above the threshold.
    """
    rows = []
    for name, counts in CASES.items():
        share = counts[-1] / sum(counts)
        for value in lambda_b:
            row = {"case": name, "lambda_b": value}
            for loss in LOSSES:
                low, high = 0.5, 2.0  # of the multiple share / product: merged below the threshold, apart above it
                for _ in range(steps):
                    middle = np.sqrt(low * high)
                    apart = tail_width(at_share(loss, counts, share / middle, value), counts) > 1e-3
                    low, high = (low, middle) if apart else (middle, high)
                row[loss] = np.sqrt(low * high)
            widths = [tail_width(at_share(loss, counts, share / 1.05, value), counts) for loss in LOSSES]
            rows.append(row | {"apart": widths[1] / widths[0]})
    return pd.DataFrame(rows)


def head_and_tail(loss: str, ratio: float, product: float) -> dict[str, float]:
    """Five large and five small classes, `ratio` to one: angles (degrees) within, mean length and mean bias of both groups.

    Angles are between rows taken around the mean row, which CE leaves free; 0 where the rows agree to a thousandth of the longest,
    because beyond the threshold they may vanish altogether.
    """
    found, row = at_share(loss, [ratio] * 5 + [1] * 5, product), {}
    W = found.W - found.W.mean(axis=0)
    lengths = np.linalg.norm(W, axis=1)
    for group, rows in (("head", slice(0, 5)), ("tail", slice(5, 10))):
        merged = np.abs(W[rows] - W[rows].mean(axis=0)).max() < 1e-3 * lengths.max()
        cosine = 1.0 if merged else (W[rows] @ W[rows].T / np.outer(lengths[rows], lengths[rows]))[np.triu_indices(5, 1)].mean()
        row |= {f"{group}_angle": np.degrees(np.arccos(np.clip(cosine, -1, 1))), f"{group}_norm": lengths[rows].mean(),
                f"{group}_bias": found.b[rows].mean()}
    return row


def above_threshold() -> Figure:
    """Angles, lengths and biases of head and tail against the imbalance ratio (at the paper's decay) and against c (20 to 1)."""
    paper_product = BATCH * DECAY**2
    figure, axes = plt.subplots(3, 2, figsize=(8.6, 8.6), sharex="col", sharey="row")
    ratios, cs = np.geomspace(1, 2e4, 40), np.geomspace(1e-3, 6e-2, 40)
    sweeps = ((ratios, [(ratio, paper_product) for ratio in ratios], 1 / (5 * paper_product) - 1, "largest / smallest class"),
              (cs, [(20, 10 * c**2) for c in cs], np.sqrt(1 / (5 * 21) / 10), r"$c = \sqrt{\lambda_W \lambda_H B / K}$"))
    for column, (x, points, critical, label) in zip(axes.T, sweeps, strict=True):
        for loss in LOSSES:
            table = pd.DataFrame([head_and_tail(loss, *point) for point in points])
            for ax, name in zip(column, ("angle", "norm", "bias"), strict=True):
                for group, style in (("head", "-"), ("tail", "--")):
                    ax.plot(x, table[f"{group}_{name}"], color=plots.COLOUR[loss], linestyle=style, linewidth=1.5)
        for ax in column:
            ax.axvline(critical, color="black", linewidth=0.8, linestyle=":")
            ax.set(xscale="log")
        column[-1].set_xlabel(label)
    for ax, name in zip(axes[:, 0], ("angle within the group, degrees", "length of a row", "bias"), strict=True):
        ax.set_ylabel(name)
    axes[0, 0].set_title("at the paper's decay")
    axes[0, 1].set_title("20 to 1")
    handles = [Line2D([], [], color=plots.COLOUR[loss], linestyle=style, label=f"{plots.NAME[loss]}, {group}")
               for loss in LOSSES for group, style in (("large classes", "-"), ("small classes", "--"))]
    handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle=":", label="threshold"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def class_sizes(run: Run) -> np.ndarray:
    """Training images of each class of a run, (K,)."""
    return np.bincount(data.load(run.config.dataset).subset(run.config.train_size, run.config.imbalance_factor).y_train)


def predicted_tail(loss: str, sizes: np.ndarray, lambda_w, lambda_h, batch_size: int) -> tuple[metrics.TailGeometry, float]:
    """The tail at the minimum for these class sizes, and the size up to which equal classes merge.

    The last batch of an epoch is smaller and counts as much as the others: B is the mean batch, N over the batches of an epoch.
    """
    total = int(sizes.sum())
    batch = total / (total // batch_size + (total % batch_size > 1))
    found = at_share(loss, sizes, batch * lambda_w * lambda_h)
    return metrics.tail_geometry(found.W, sizes), theory.minority_collapse_size(total, lambda_w, lambda_h, batch)


def trained_tails(runs: list[Run]) -> pd.DataFrame:
    """A row a run: loss, lambda_w, epochs, size (up to which equal classes merge), distance and cosine of its tail rows as trained and as
    predicted_*, accuracy and uniform (test, fractions)."""
    rows = []
    for run in runs:
        c = run.config
        tail, size = predicted_tail(c.loss, class_sizes(run), c.lambda_w, c.lambda_h, c.batch_size)
        rows.append({"loss": c.loss, "lambda_w": c.lambda_w, "epochs": c.epochs, "size": size}
                    | {f"predicted_{name}": value for name, value in vars(tail).items()}
                    | {name: run.final.get(f"tail_{name}", np.nan) for name in ("distance", "cosine")}
                    | {"accuracy": run.final["test_accuracy"], "uniform": run.final["test_uniform_accuracy"]})
    return pd.DataFrame(rows)


def trained(runs: list[Run]) -> Figure:
    """Distance between tail rows (left) and test accuracies (right) of trained networks against the collapse size."""
    table, config = trained_tails(runs), runs[0].config
    figure, (ax, right) = plt.subplots(1, 2, figsize=(8.6, 4.2))
    sizes, grid = class_sizes(runs[0]), np.geomspace(0.6 * table["lambda_w"].min(), 1.5 * table["lambda_w"].max(), 40)
    for loss, style in zip(LOSSES, ("-", "--"), strict=True):
        lines = [predicted_tail(loss, sizes, value, config.lambda_h, config.batch_size) for value in grid]
        ax.plot([size for _, size in lines], [tail.distance for tail, _ in lines], color="black", linewidth=0.8, linestyle=style)
        of = table[table["loss"] == loss]
        longer, rows = of[of["epochs"] > table["epochs"].min()], of[of["epochs"] == table["epochs"].min()]
        look = {"color": plots.COLOUR[loss], "marker": "o", "linewidth": 1}
        ax.scatter(longer["size"], longer["distance"], color=look["color"], s=44, zorder=3, marker="^")
        ax.scatter(rows["size"], rows["distance"], color=look["color"], s=36, zorder=3)
        right.plot(rows["size"], 100 * rows["accuracy"], **look)
        right.plot(rows["size"], 100 * rows["uniform"], **look, markerfacecolor="none", linestyle=":")
    for each in (ax, right):
        for size in np.sort(sizes)[:3]:
            each.axvline(size, color=plots.GREY, linewidth=0.7, linestyle=":")
        each.set(xscale="log", xlabel="collapse size, images a class")
        each.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
        each.minorticks_off()
    ax.set(ylabel="distance of tail rows / of head rows", ylim=(0, None), title="The tail of the classifier")
    right.set(ylabel="test accuracy, percent", title="What it costs")
    handles = [Line2D([], [], marker="o", linestyle="", color=plots.COLOUR[loss], label=f"{plots.NAME[loss]}, trained") for loss in LOSSES]
    handles += [Line2D([], [], color="black", linewidth=0.8, linestyle=style, label=f"{plots.NAME[loss]}, predicted")
                for loss, style in zip(LOSSES, ("-", "--"), strict=True)]
    handles += [Line2D([], [], color=plots.GREY, marker="^", linestyle="", label="trained longer"),
                Line2D([], [], color=plots.GREY, marker="o", linewidth=1, label="accuracy"),
                Line2D([], [], color=plots.GREY, marker="o", markerfacecolor="none", linewidth=1, linestyle=":", label="uniform accuracy")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def long_tailed_sizes(factor: float) -> np.ndarray:
    """Images a class of CIFAR100-LT, (100,): 500 factor^(-k/99), rounded down as in `data.Dataset.subset`."""
    return np.floor(500 * float(factor) ** (-np.arange(100) / 99) + 1e-9).astype(int)


def cifar100_long_tailed() -> pd.DataFrame:
    """The settings of the paper's CIFAR100-LT table: factor, total N, smallest class, size up to which equal classes merge at the
    paper's decay and batch size, and the published accuracies ce and bce, percent."""
    table = pd.read_csv(published() / "cifar100_long_tailed_accuracy.csv")
    rows = []
    for factor, group in table.groupby("imbalance_factor"):
        sizes = long_tailed_sizes(factor)
        rows.append({"factor": factor, "total": int(sizes.sum()), "smallest": int(sizes.min()),
                     "size": theory.minority_collapse_size(sizes.sum(), DECAY, DECAY, BATCH)}
                    | dict(zip(group["loss"].str.lower(), group["accuracy"], strict=True)))
    return pd.DataFrame(rows)


def threshold_table(table: pd.DataFrame) -> str:
    """Markdown: the rows of `thresholds`, and how far they are from the theorem."""
    lines = _table("classes, of samples | $\\lambda_b$ | found / theorem, CE | found / theorem, BCE | distance, BCE / CE",
                   ([r.case, f"{r.lambda_b:g}", f"{r.ce:.4f}", f"{r.bce:.4f}", f"{r.apart:.2f}"] for r in table.itertuples()))
    far = (table[["ce", "bce"]] - 1).abs().max().max()
    return "\n".join([
        *lines, f"**All {2 * len(table)} thresholds agree with the theorem to {100 * far:.2f} % or better.** What differs is how the "
        f"tail opens: with 5 % more samples than that, BCE's tail rows are between {table['apart'].min():.2f} and "
        f"{table['apart'].max():.2f} times as far apart as CE's."])


def opened(ratio: float = 1000, lambda_b=(0.0, 0.01)) -> str:
    """Markdown: the tail far from the threshold (five classes `ratio` times as large as the five others, the paper's decay)."""
    rows = []
    for value in lambda_b:
        for loss in LOSSES:
            W = at_share(loss, [ratio] * 5 + [1] * 5, BATCH * DECAY**2, value).W
            angles = [np.degrees(np.arccos(V[5] @ V[6] / np.linalg.norm(V[5]) / np.linalg.norm(V[6]))) for V in (W, W - W.mean(axis=0))]
            distance = np.linalg.norm(W[5] - W[6]) / np.linalg.norm(W[0] - W[1])
            rows.append([f"{value:g}", plots.NAME[loss], *(f"{angle:.1f}°" for angle in angles), f"{distance:.3f}"])
    return "\n".join(_table("$\\lambda_b$ | loss | angle of small rows | around the mean row | distance, small / large", rows))


def trained_table(runs: list[Run]) -> str:
    """Markdown: tail rows of trained networks beside the minimum's, and how far apart they are on both sides of the tail's sizes."""
    table, sizes = trained_tails(runs), np.sort(class_sizes(runs[0]))
    number = lambda value, digits: "–" if np.isnan(value) else f"{value:.{digits}f}"  # noqa: E731
    lines = _table("$\\lambda_W$ | epochs | size | loss | distance | model | cosine | model | $A$, % | $A_\\text{Uni}$, %", (
        [f"{r.lambda_w:g}", f"{r.epochs}", f"{r.size:.1f}", plots.NAME[r.loss], number(r.distance, 3), f"{r.predicted_distance:.3f}",
         number(r.cosine, 2), f"{r.predicted_cosine:.2f}", f"{100 * r.accuracy:.1f}", f"{100 * r.uniform:.1f}"]
        for r in table.itertuples()))
    short, low, high, told = table["epochs"] == table["epochs"].min(), sizes[0], sizes[2], []
    for name, least, most in ((f"below {low / 10:g}", 0, low / 10), (f"from {low / 10:g} to {low}", low / 10, low),
                              (f"from {low} to {high}", low, high), (f"above {high}", high, np.inf)):
        rows = table[short & table["size"].between(least, most, inclusive="left") & table["distance"].notna()]
        if len(rows):
            ends = [f"{rows[x].min():.3f} to {rows[x].max():.3f}" for x in ("distance", "predicted_distance")]
            told.append(f"{name}: {ends[0]} (model {ends[1]})")
    off = (table["distance"] - table["predicted_distance"])[~short].abs().max()
    return "\n".join([
        *lines, f"The three smallest classes have {sizes[0]}, {sizes[1]} and {sizes[2]} images. **Distance by collapse size**, both "
        f"losses, after {table['epochs'].min()} epochs: {'; '.join(told) or 'not measured'}."
        + (f" After {table['epochs'].max()} epochs it is off by {off:.3f} at most." if not np.isnan(off) else "")])


def long_tailed_table() -> str:
    """Markdown: the paper's CIFAR100-LT settings beside the theorem's threshold, and the minimum's tail at the largest imbalance."""
    table = cifar100_long_tailed()
    lines = _table("imbalance | images | smallest class | collapse size | ratio | CE, % | BCE, % | BCE − CE", (
        [f"{r.factor}", f"{r.total:,}", f"{r.smallest}", f"{r.size:.2f}", f"{r.smallest / r.size:.0f}", f"{r.ce:.2f}", f"{r.bce:.2f}",
         f"{r.bce - r.ce:+.2f}"] for r in table.itertuples()))
    last = table.iloc[-1]
    needed = DECAY * np.sqrt(last["smallest"] / last["size"])
    tails = [predicted_tail(loss, long_tailed_sizes(last["factor"]), DECAY, DECAY, BATCH)[0].distance for loss in LOSSES]
    return "\n".join([
        *lines, f"The smallest class is at least {(table['smallest'] / table['size']).min():.0f} times the collapse size, which is at "
        f"most {table['size'].max():.2f} images. At imbalance {last['factor']:.0f} both decays would have to be {needed:.4f} for its "
        f"{last['smallest']:.0f}-image classes to merge. At the minimum there, the rows of the three smallest classes are "
        f"{tails[0]:.2f} (CE) and {tails[1]:.2f} (BCE) times as far apart as those of the three largest."])
