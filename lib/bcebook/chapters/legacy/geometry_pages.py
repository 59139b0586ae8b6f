"""The chapters on the two geometries and on the minima: what they compute, draw and say; no training run enters."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import minimize
from torch.func import grad_and_value, vmap

from bcebook.report import plots
from bcebook.science import metrics, theory
from bcebook.science.losses import LOSSES
from bcebook.chapters.legacy.theory_pages import BATCH, DECAY, paper_c

SETTINGS = (  # K, d, n, lambda_W, lambda_H, lambda_b: d = K-1, K and more, weak and strong decay; in the last two c > 1/K
    (2, 1, 50, 5e-4, 5e-4, 0.05), (2, 4, 10, 1e-3, 1e-2, 0), (3, 2, 20, 2e-3, 1e-3, 0), (3, 3, 20, 2e-3, 1e-3, 0.1),
    (5, 4, 20, 2e-3, 2e-3, 1e-3), (5, 5, 20, 2e-3, 2e-3, 0.05), (10, 9, 100, 5e-4, 5e-4, 1e-4), (10, 10, 13, 5e-4, 5e-4, 5e-3),
    (10, 16, 13, 5e-4, 5e-4, 0), (10, 32, 500, 1e-4, 2e-3, 0.5), (20, 19, 5, 1e-3, 1e-3, 0), (20, 24, 5, 1e-3, 1e-3, 0.01),
    (4, 4, 100, 0.05, 0.02, 0.1), (10, 10, 40, 0.05, 0.02, 1.0))
DASHED = (0, (4, 2))


# ---- two losses, two geometries -----------------------------------------------------------------------------------------

def loss_and_gradient(loss: str, logits) -> tuple[np.ndarray, np.ndarray]:
    """Loss (B,) in nats and its gradient (B, K) at logits (B, K), column 0 the own class: the very function that trains the
    networks, differentiated by PyTorch."""
    logits = torch.as_tensor(np.asarray(logits, np.float64))
    own = torch.eye(logits.shape[1], dtype=torch.float64)[:1]  # (1, K)
    gradient, value = vmap(grad_and_value(lambda z: LOSSES[loss](z[None], own)))(logits)
    return value.numpy(), gradient.numpy()


def margin(loss: str, logits: np.ndarray) -> np.ndarray:
    """How far logits (B, K), column 0 the own class, meet the loss's condition; above 0: met. CE: own above all others; BCE: own
    above 0 and all others below."""
    own, other = logits[:, 0], logits[:, 1:].max(axis=1)
    return own - other if loss == "ce" else np.minimum(own, -other)


def geometry(loss: str, num_classes: int, c: float) -> dict[str, float]:
    """The minimum for lambda_b = 0 in distances, W and H scaled so that rows and features have one length, sqrt(s). Source: ours.

    apart: the distance D* of two rows; radius: R (0 for CE, which does not see it); own, between: the widest angle, in degrees,
    to its own row of a feature of that length in d >= K dimensions that meets the loss's condition, and the angle of two rows.
    """
    m = theory.minimum(loss, num_classes, c)
    radius = np.sqrt(2 * (m.positive - m.bias)) if loss == "bce" else 0.0  # b < s for every c used here
    return {"s": m.positive, "bias": m.bias, "length": np.sqrt(m.positive), "apart": np.sqrt(2 * (m.positive - m.negative)),
            "radius": radius, "own": np.degrees(np.arccos(m.bias / m.positive)),
            "between": np.degrees(np.arccos(-1 / (num_classes - 1)))}


def distance_plane(num_classes: int = 10, reach: float = 7.0) -> Figure:
    """Level sets of both losses over the distances to the own and to all other class vectors, with the region of each."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 5.2), sharey=True)
    own, other = np.meshgrid(*[np.linspace(0, reach, 281)] * 2)
    for ax, loss in zip(axes, LOSSES, strict=True):
        at = geometry(loss, num_classes, paper_c(num_classes))
        distance = np.stack([own] + [other] * (num_classes - 1), axis=-1)
        _region(ax, loss, own, other, (at["radius"] ** 2 - distance**2) / 2, [0.1, 1, 2, 5, 10, 20])
        alike = np.linspace(0, 2 * at["length"], 200)  # the scores of a feature sum to 0: D_y^2 + (K-1) D_j^2 = 2 s K
        ax.plot(alike, np.sqrt((2 * at["s"] * num_classes - alike**2) / (num_classes - 1)), color="black", linewidth=0.9)
        ax.plot(0, at["apart"], "o", color="black", markersize=6, clip_on=False, zorder=5)
        ax.set(xlabel="distance $D_y$ to the own class vector", title=f"{plots.NAME[loss]}, {num_classes} classes", aspect="equal")
    axes[0].set_ylabel("distance $D_j$ to every other")
    axes[0].text(5.5, 5.25, "$D_j = D_y$", rotation=45, rotation_mode="anchor", ha="center", va="top", fontsize="small",
                 bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axes[1].plot([at["radius"]] * 2, [0, at["radius"]], color=plots.GREY, linewidth=0.8, linestyle=":")
    axes[1].text(at["radius"] + 0.1, 0.12, "$R$", fontsize="small")
    figure.legend(handles=[_line("level sets of the loss, in nats", color=plots.GREY),
                           _line("features that are alike to all other classes"), _line("the minimum", marker="o")],
                  loc="outside lower center", ncols=3)
    return figure


def feature_plane(c: float = 0.2, reach: float = 2.4) -> Figure:
    """Three classes in two dimensions: where a feature of the first class, which points up, meets each loss's condition."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 5.4), sharey=True)
    x, y = np.meshgrid(*[np.linspace(-reach, reach, 321)] * 2)
    angle = np.radians([90, 210, 330])
    for ax, loss in zip(axes, LOSSES, strict=True):
        at = geometry(loss, 3, c)
        rows = at["length"] * np.column_stack([np.cos(angle), np.sin(angle)])  # (3, 2)
        _region(ax, loss, x, y, np.stack([x, y], axis=-1) @ rows.T - at["bias"], [0.5, 1, 1.5, 2, 3])
        ax.add_patch(plt.Circle((0, 0), at["length"], fill=False, color="black", linewidth=0.9))
        for k, row in enumerate(rows):
            ax.plot(*row, "o", color="black", markerfacecolor="black" if k == 0 else "white", markersize=7, zorder=5)
            if loss == "bce":
                ax.add_patch(plt.Circle(row, at["radius"], fill=False, color="black", linewidth=0.9, linestyle=DASHED))
        ax.set(title=f"{plots.NAME[loss]}, 3 classes", aspect="equal", xlabel="feature, first coordinate")
    axes[0].set_ylabel("feature, second coordinate")
    figure.legend(handles=[
        _line("level sets of the loss, in nats", color=plots.GREY), _line("features as long as the class vectors"),
        _line("balls of radius $R$", linestyle=DASHED), _line("own class vector", marker="o"),
        _line("the other two", marker="o", markerfacecolor="white")], loc="outside lower center", ncols=3)
    return figure


def balls(classes=(2, 3, 10, 100, 1000)) -> str:
    """Markdown: `geometry` for each number of classes, at the paper's decay and batch size."""
    rows = []
    for k in classes:
        ce, bce = (geometry(loss, k, paper_c(k)) for loss in LOSSES)
        rows.append([k, *(_text(x, 2) for x in (ce["s"], bce["s"], bce["bias"], bce["radius"], bce["apart"])),
                     *(f"{x:.1f}°" for x in (ce["own"], bce["own"], bce["between"])),
                     "disjoint" if bce["own"] <= bce["between"] / 2 + 1e-9 else "overlap"])
    head = ["$K$", "$s$, CE", "$s$, BCE", "$b$, BCE", "$R$", "$D^*$", "widest, CE", "widest, BCE", "between rows", "caps"]
    return _table(head, rows)


def pulls(num_classes: int = 10) -> Figure:
    """The gradient on the positive score and on each negative one, against that score, the others held at three values."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=True)
    x = np.linspace(-10, 10, 201)
    for own, ax in enumerate(axes[::-1]):  # own = 1: the left panel, where the positive score varies
        for held, style in ((-4, ":"), (0, "-"), (4, "--")):
            logits = np.full((x.size, num_classes), float(held))
            logits[:, :1] = x[:, None] if own else held
            logits[:, 1:] = held if own else x[:, None]
            for loss, form in (("ce", {"linestyle": style, "label": f"CE, the others at {_text(held, 0)}"}),
                               ("bce", {"linewidth": 2.6, "label": "BCE, whatever the others are" if held == 4 else None})):
                ax.plot(x, np.abs(loss_and_gradient(loss, logits)[1][:, 1 - own]), color=plots.COLOUR[loss], **form)
    axes[0].set(xlabel="positive score minus bias", title="Pull up on the positive score")
    axes[1].set(xlabel="negative scores minus bias", title="Push down on each negative score")
    axes[0].set_ylabel("size of the gradient")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def pulls_table(pairs=((5, 4), (1, 0), (0, -1), (-4, -5), (5, -5), (0, -10), (10, 0)), num_classes: int = 10) -> str:
    """Markdown: both losses and their gradients where all negative logits agree."""
    logits = np.array([[p] + [n] * (num_classes - 1) for p, n in pairs], float)
    both = [np.column_stack([value, gradient[:, :2]]) for value, gradient in (loss_and_gradient(loss, logits) for loss in LOSSES)]
    rows = [[*(_text(x, 0) for x in pair), *(_text(x, 4) for x in of_pair)] for pair, of_pair in zip(pairs, np.hstack(both), strict=True)]
    return _table(["positive", "negative", *(x for name in ("CE", "BCE") for x in (name, "on positive", "on negative"))], rows)


def shifts(num_classes: int = 10, samples: int = 2000, spreads=(0, 1, 2, 4, 8)) -> pd.DataFrame:
    """The minimum's logits, a normal random number of that spread added to all of a sample's: mean loss (value), the largest change
    of a sample's loss, accuracy and uniform accuracy."""
    rows, draws, labels = [], np.random.default_rng(0).normal(size=(samples, 1)), np.zeros(samples, int)
    for loss in LOSSES:
        m = theory.minimum(loss, num_classes, paper_c(num_classes))
        for spread in spreads:
            still = np.r_[m.positive, np.full(num_classes - 1, m.negative)] - m.bias  # (K,)
            logits = still + spread * draws  # (samples, K)
            value, before = (loss_and_gradient(loss, z)[0] for z in (logits, [still]))
            rows.append({"loss": loss, "spread": spread, "value": value.mean(), "change": np.abs(value - before).max(),
                         "accuracy": metrics.accuracy(logits, labels), "uniform": metrics.uniform_accuracy(logits, labels)[0]})
    return pd.DataFrame(rows)


def shifts_table(table: pd.DataFrame) -> str:
    """Markdown of `shifts`."""
    ce, bce = (table[table["loss"] == loss] for loss in LOSSES)
    rows = [[f"{a.spread:g}", *(_text(x, 4) for x in (a.value, b.value)),
             *(f"{100 * x:.1f}" for x in (a.accuracy, b.accuracy, a.uniform, b.uniform))]
            for a, b in zip(ce.itertuples(), bce.itertuples(), strict=True)]
    head = ["spread", "mean CE", "mean BCE", "$A$, CE's logits", "BCE's", r"$A_\text{Uni}$, CE's logits", "BCE's"]
    return "\n\n".join([_table(head, rows), "Accuracies in percent. The largest change in the loss of any sample is "
                        f"{ce['change'].max():.1g} nats under CE and {bce['change'].max():.4g} nats under BCE."])


# ---- minima -------------------------------------------------------------------------------------------------------------

def agreement(settings=SETTINGS, restarts: int = 4) -> pd.DataFrame:
    """Closed form and plain minimisation, a row for each setting and loss.

    positive, negative, bias, offset: closed form; scores, biases, objectives: the largest disagreement with what `theory.solve`
    finds, over all pairs of classes; gradient: the largest entry of f's gradient where `theory.assemble` puts W, H and b.
    """
    rows = []
    for k, d, n, lambda_w, lambda_h, lambda_b in settings:
        for loss in LOSSES:
            c = np.sqrt(n * lambda_w * lambda_h)
            m = theory.minimum(loss, k, c, lambda_b)
            found = theory.solve(loss, k, d, n, lambda_w, lambda_h, lambda_b, restarts=restarts)
            point = theory.assemble(m, k, d, lambda_w, lambda_h, n)
            gradient = theory.gradient(loss, *point, np.full(k, n), lambda_w, lambda_h, lambda_b)
            rows.append({
                "K": k, "d": d, "n": n, "lambda_w": lambda_w, "lambda_h": lambda_h, "lambda_b": lambda_b, "c": c, "loss": loss,
                "critical": theory.critical_lambda_b(loss, k, c), **{x: getattr(m, x) for x in ("positive", "negative", "bias", "offset")},
                "scores": np.abs(found.W @ found.H - np.where(np.eye(k), m.positive, m.negative)).max(),
                "biases": np.abs(found.b - m.bias).max(), "objectives": abs(found.objective - m.objective),
                "gradient": max(np.abs(part).max() for part in gradient)})
    return pd.DataFrame(rows)


def agreement_table(points: pd.DataFrame) -> str:
    """Markdown of `agreement`, with the largest disagreement over the whole table."""
    parts, rows = ["scores", "biases", "objectives"], []
    for r, apart in zip(points.itertuples(), points[parts].max(axis=1), strict=True):
        left = [r.K, r.d, r.n, *(f"{x:g}" for x in (r.lambda_w, r.lambda_h, r.lambda_b))] if r.loss == "ce" else [""] * 6
        rows.append([*left, plots.NAME[r.loss], "–" if np.isinf(r.critical) else f"{r.critical:.2g}",
                     *(_text(x, 4) for x in (r.positive, r.negative, r.bias)), f"{apart:.0e}"])
    head = ["$K$", "$d$", "$n$", r"$\lambda_W$", r"$\lambda_H$", r"$\lambda_b$", "loss", "critical", "positive", "negative", "bias",
            "apart"]
    most, beyond, none = points[parts].max(), points["lambda_b"] > points["critical"], points["c"] >= 1 / points["K"]
    return "\n\n".join([
        _table(head, rows), f"**Over these {len(points)} minima the largest disagreement is {_power(most['scores'])} in a score, "
        f"{_power(most['biases'])} in a bias and {_power(most['objectives'])} in the objective.** {beyond.sum()} of them lie beyond the "
        f"critical $\\lambda_b$ and {none.sum()} where no ETF is left. The largest entry of the gradient of $f$ at any assembled "
        f"minimum is {_power(points['gradient'].max())}."])


def against_c(num_classes: int = 10, lambda_b: float = 0.05) -> Figure:
    """Scores and bias at the minimum against c: CE, BCE without decay of the bias, and BCE with it; circles: `theory.solve`."""
    figure, axes = plt.subplots(1, 3, figsize=(8.6, 4.3), sharey=True)
    fine, coarse, off = np.geomspace(1e-5, 0.4, 400), np.geomspace(2e-5, 0.3, 9), ~np.eye(num_classes, dtype=bool)
    for ax, loss, decay in zip(axes, ("ce", "bce", "bce"), (lambda_b, 0.0, lambda_b), strict=True):
        m = theory.minimum(loss, num_classes, fine, decay)
        found = [theory.solve(loss, num_classes, num_classes, 1, c, c, decay, restarts=2) for c in coarse]
        points = {"positive": [np.diagonal(x.W @ x.H).mean() for x in found], "bias": [x.b.mean() for x in found],
                  "negative": [(x.W @ x.H)[off].mean() for x in found]}
        for kind, above in (("positive", 6), ("bias", 6), ("negative", -14)):
            ax.plot(fine, getattr(m, kind), color="black", linewidth=0.9, linestyle="--" if kind == "bias" else "-")
            ax.scatter(coarse, points[kind], s=26, facecolor="none", edgecolor=plots.COLOUR[loss], zorder=3)
            ax.annotate(kind, (fine[0], getattr(m, kind)[0]), (3, above), textcoords="offset points", fontsize="small")
        ax.axvline(1 / num_classes, color=plots.GREY, linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlabel=r"$c = \sqrt{n \lambda_W \lambda_H}$", ymargin=0.08,
               title=f"{plots.NAME[loss]}, " + (r"any $\lambda_b > 0$" if loss == "ce" else rf"$\lambda_b = {decay:g}$"))
    axes[0].set_ylabel("decision score or bias")
    return figure


def errors(classes=(2, 10, 100)) -> str:
    """Markdown: the errors that each loss leaves at its minimum, in units of c, and its scale; the paper's decay and batch size."""
    rows = []
    for k in classes:
        c = paper_c(k)
        for loss, lambda_b in (("ce", 0), ("bce", 0), ("bce", 0.5)):
            m = theory.minimum(loss, k, c, lambda_b)
            logits = [np.r_[m.positive, np.full(k - 1, m.negative)] - m.bias]  # one sample: (1, K)
            own, other = np.abs(loss_and_gradient(loss, logits)[1][0, :2]) / c
            scale = (m.positive - m.offset) / theory.minimum("ce", k, c).positive
            rows.append([k, plots.NAME[loss], "any" if loss == "ce" else lambda_b,
                         *(_text(x, 4) for x in (own, other, m.positive, m.negative, m.bias, scale))])
    head = ["$K$", "loss", r"$\lambda_b$", "own error / $c$", "each other / $c$", "positive", "negative", "bias", "$s$ / CE's $s$"]
    return _table(head, rows)


def collapse(num_classes: int = 10, dim: int = 16, lambda_b=(0, 5e-5, 5e-4, 5e-3, 0.5)) -> pd.DataFrame:
    """NC1 to NC3 (`metrics.neural_collapse`) of the assembled minimum at the paper's decay and batch size; cosine: of h and w_y;
    formula: NC2 from s and o alone, sqrt(2 - 2 s / sqrt(s^2 + (K-1) o^2)) (ours)."""
    rows = []
    for loss, value in [("ce", 0.5), *(("bce", x) for x in lambda_b)]:
        m = theory.minimum(loss, num_classes, paper_c(num_classes), value)
        W, H, _ = theory.assemble(m, num_classes, dim, DECAY, DECAY, BATCH / num_classes)
        s, cosine = m.positive - m.offset, W[0] @ H[:, 0] / np.linalg.norm(W[0]) / np.linalg.norm(H[:, 0])
        measured = vars(metrics.neural_collapse(H.T, np.arange(num_classes), W))
        rows.append({"loss": loss, "lambda_b": value, "offset": m.offset, **measured, "cosine": cosine,
                     "formula": np.sqrt(max(0.0, 2 - 2 * s / np.hypot(s, np.sqrt(num_classes - 1) * m.offset)))})
    return pd.DataFrame(rows)


def collapse_table(table: pd.DataFrame) -> str:
    """Markdown of `collapse`."""
    columns = ["offset", "nc1", "nc2", "formula", "nc2_means", "nc3", "cosine"]
    rows = [[plots.NAME[r.loss], f"{r.lambda_b:g}", *(_text(getattr(r, x), 4) for x in columns)]
            for r in table.itertuples()]
    always = ["nc1", "nc2_means", "nc3"]
    free, kept = table[table["offset"] == 0][["nc2", *always]].max().max(), table[always].max().max()
    return "\n\n".join([
        _table(["loss", r"$\lambda_b$", "offset", "NC1", "NC2", "NC2, formula", "NC2, means", "NC3", "cosine"], rows),
        f"Without an offset all four measures are at most {_power(free)}. With one, all but NC2 are at most {_power(kept)}."])


def one_feature_a_sample(num_classes: int = 4, per_class: int = 5, decay: float = 1e-2, lambda_b: float = 0.02) -> pd.DataFrame:
    """f minimised through the loss functions that train the networks, d = K, with a feature for every sample (`theory.solve` has one
    a class): nc1 of what is found, and apart, its largest distance from the closed form in any score or bias."""
    k, n, rows, labels = num_classes, per_class, [], torch.arange(num_classes).repeat_interleave(per_class)
    split = lambda x: (x[:k * k].reshape(k, k), x[k * k:-k].reshape(-1, k), x[-k:])  # noqa: E731  W (K, d), features (N, d), b (K,)
    for loss, function in LOSSES.items():
        def f(x, function=function):
            W, h, b = split(x)
            return function(h @ W.T - b, labels) + (decay * (W.square().sum() + h.square().sum()) + lambda_b * b.square().sum()) / 2

        start = np.random.default_rng(0).normal(size=k * k + n * k * k + k)
        x = minimize(lambda x, f=f: [part.numpy() for part in grad_and_value(f)(torch.from_numpy(x))[::-1]], start, jac=True,
                     method="L-BFGS-B", options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-17, "gtol": 1e-10}).x
        (W, h, b), m = split(x), theory.minimum(loss, k, np.sqrt(n) * decay, lambda_b)
        scores = np.abs(h @ W.T - np.where(np.eye(k)[labels], m.positive, m.negative)).max()
        rows.append({"loss": loss, "nc1": metrics.neural_collapse(h, labels, W).nc1, "offset": m.offset,
                     "apart": max(scores, np.abs(b - m.bias).max())})
    return pd.DataFrame(rows)


def free_features(found: pd.DataFrame) -> str:
    """Markdown of `one_feature_a_sample`."""
    told = " and ".join(f"{_power(r.nc1)} for {plots.NAME[r.loss]}" + " (which has an offset here)" * (r.offset < 0)
                        for r in found.itertuples())
    return (f"NC1 of what was found is {told}. The largest distance from the closed form, in any score of any sample and any bias, is "
            f"{_power(found['apart'].max())}.")


def separation(classes=(3, 10, 100), draws: int = 2000) -> str:
    """Markdown: does the paper's condition say whether BCE's bias separates the scores, for settings up to the critical lambda_b?"""
    rng, true, said = np.random.default_rng(0), [], []
    for k in classes:
        c = rng.uniform(0.05, 1, draws) / k
        lambda_b = rng.uniform(0, 1, draws) * np.minimum(theory.critical_lambda_b("bce", k, c), 10)
        m = theory.minimum("bce", k, c, lambda_b)
        true = np.r_[true, (m.negative < m.bias) & (m.bias < m.positive)]
        said = np.r_[said, theory.separates(k, m.positive, lambda_b)]
    named = ", ".join(map(str, classes))
    return (f"In {int((true == said).sum()):,} of {true.size:,} random settings up to the critical $\\lambda_b$ ($K$ = {named}), the "
            f"paper's condition says rightly whether the bias of the minimum separates the scores. It does in {int(true.sum()):,} of them.")


# ---- drawing and writing ------------------------------------------------------------------------------------------------

def _region(ax, loss: str, x, y, logits, levels) -> None:
    """Level sets of a loss over a grid x, y (R, C) with logits (R, C, K), and the region in which its condition is met."""
    flat = logits.reshape(-1, logits.shape[-1])
    met, value = (part.reshape(x.shape) for part in (margin(loss, flat), loss_and_gradient(loss, flat)[0]))
    ax.contourf(x, y, met, levels=[0, np.inf], colors=[plots.COLOUR[loss]], alpha=0.22)
    ax.clabel(ax.contour(x, y, value, levels=levels, colors=plots.GREY, linewidths=0.8), fmt="%g", fontsize=7)
    ax.contour(x, y, met, levels=[0], colors=[plots.COLOUR[loss]], linewidths=1.8)


def _line(label: str, marker: str | None = None, **style) -> Line2D:
    """An entry of a key: a thin line, or a marker without one."""
    dots = {"marker": marker, "linestyle": ""} if marker else {}
    return Line2D([], [], **({"color": "black", "linewidth": 0.9, "label": label} | dots | style))


def _text(x: float, digits: int) -> str:
    """A number with a true minus sign, and none in front of a zero."""
    return f"{round(float(x), digits) + 0.0:.{digits}f}".replace("-", "−")


def _power(x: float) -> str:
    """A small number as LaTeX, which does not break across lines."""
    digit, exponent = f"{x:.0e}".split("e")
    return f"${digit} \\cdot 10^{{{int(exponent)}}}$" if x else "0"


def _table(head: list[str], rows: list[list]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, ["---"] * len(head), *rows])
