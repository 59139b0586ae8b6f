"""The saturating bias and the prediction of the published figures: what these chapters compute and draw."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import minimize

from bcebook import paper
from bcebook.report import plots
from bcebook.science import theory
from bcebook.chapters.catalog import LAMBDA_B

DECAY, BATCH = 5e-4, 128  # the paper's lambda_W = lambda_H, and its batch size
SWEPT = LAMBDA_B
PANEL = ["model", "dataset", "loss", "optimizer"]
START, MOMENTUM, STEPS = 10.0, 0.9, 391  # initial bias mean of the lambda_b sweep; SGD's; steps an epoch: 50,000 / 128
DATASETS = {"cifar10": 10, "cifar100": 100, "unstated": 10}  # ResNet18: the page computes why 10


def markdown_table(header: str, rows) -> list[str]:
    """The lines of a Markdown table: header with its columns separated by bars; rows of texts."""
    rule = "|---" * (header.count(" | ") + 1) + "|"
    return [f"| {header} |", rule, *(f"| {' | '.join(row)} |".replace("| -", "| −") for row in rows), ""]


def paper_c(num_classes: int) -> float:
    """c = sqrt(n lambda_W lambda_H) of the paper's bias experiments."""
    return theory.effective_c(DECAY, DECAY, BATCH, num_classes)


# ---- the bias saturates -----------------------------------------------------------------------------------------------

def solved(num_classes: int, lambda_b) -> pd.DataFrame:
    """Closed form and plain minimisation (d = K, the paper's c) side by side, a row for each lambda_b.

    Columns lambda_b; positive, negative, bias, offset, objective and share, with "_solved" for what `theory.solve` finds
    (share: of |w_k|^2, what lies in the mean row); paper: the bias equation at the true positive score; apart: the largest
    disagreement of the row, every class and every pair of classes counted.
    """
    rows = []
    for value in lambda_b:
        m = theory.minimum("bce", num_classes, paper_c(num_classes), float(value))
        found = theory.solve("bce", num_classes, num_classes, BATCH / num_classes, DECAY, DECAY, float(value), restarts=2)
        scores = found.W @ found.H
        pairs = {"positive": np.diagonal(scores), "negative": scores[~np.eye(num_classes, dtype=bool)], "bias": found.b,
                 "offset": scores.mean(), "objective": found.objective,
                 "share": num_classes * np.sum(found.W.mean(0) ** 2) / np.sum(found.W**2)}
        known = {name: getattr(m, name) for name in pairs if name != "share"}
        known["share"] = -m.offset / (m.positive - 2 * m.offset)  # |o| / (s + |o|)
        rows.append({"lambda_b": value, "paper": theory.paper_bias(num_classes, m.positive, value)} | known
                    | {f"{name}_solved": float(np.mean(pair)) for name, pair in pairs.items()}
                    | {"apart": max(float(np.max(np.abs(pair - known[name]))) for name, pair in pairs.items())})
    return pd.DataFrame(rows)


def saturation(points: pd.DataFrame, num_classes: int = 10) -> Figure:
    """Bias and offset (left), scores (right) against lambda_b: closed form, the points of `solved`, the paper's equation."""
    c = paper_c(num_classes)
    critical, lambda_b = theory.critical_lambda_b("bce", num_classes, c), np.geomspace(2e-6, 1, 400)
    m, grey = theory.minimum("bce", num_classes, c, lambda_b), {"color": "#888888", "linewidth": 1.6, "linestyle": (0, (4, 2))}
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2))
    names = {"bias": ("bias $b$", 0.3), "offset": ("offset $o$", -0.7), "positive": ("positive", -1.1), "negative": ("negative", 0.5)}
    for ax, kinds, title in zip(axes, (("bias", "offset"), ("positive", "negative")), ("Bias and offset", "Decision scores"), strict=True):
        for kind in kinds:
            first = kind == "bias"  # one entry in the key is enough
            ax.plot(lambda_b, getattr(m, kind), color="black", linewidth=0.9, label="closed form" if first else None)
            ax.scatter(points["lambda_b"], points[f"{kind}_solved"], s=24, facecolor="none", edgecolor=plots.COLOUR["bce"], zorder=3,
                       label="minimised over W, H and b" if first else None)
            ax.text(4e-6, getattr(m, kind)[0] + names[kind][1], names[kind][0], fontsize="small")
        ax.text(critical * 0.86, ax.get_ylim()[0] + 0.3, r"critical $\lambda_b$", rotation=90, ha="right", fontsize="small", color=plots.GREY)
        ax.axvline(critical, color=plots.GREY, linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlabel=r"$\lambda_b$", xlim=(2e-6, 1), ymargin=0.1, title=title)
    axes[0].plot(lambda_b, theory.paper_bias(num_classes, m.positive, lambda_b), label="the paper's bias equation", **grey)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def phases() -> Figure:
    """Share of the threshold t = b - o that the offset makes, over c and lambda_b, for 10 and 100 classes."""
    (figure, axes), lambda_b = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=True), np.geomspace(1e-6, 1, 240)
    for ax, k in zip(axes, (10, 100), strict=True):
        c = np.geomspace(1e-5, 1.2 / k, 240)
        m = theory.minimum("bce", k, c[None, :], lambda_b[:, None])
        mesh = ax.pcolormesh(c, lambda_b, -m.offset / np.maximum(m.bias - m.offset, 1e-300), cmap="Greens", vmin=0, vmax=1,
                             shading="gouraud", rasterized=True)
        ax.plot(c, theory.critical_lambda_b("bce", k, c), color="black", linewidth=0.9)
        ax.axvline(1 / k, color="black", linewidth=0.9, linestyle="--")
        ax.text(0.93 / k, 1.4e-6, "no simplex ETF from here", rotation=90, ha="right", va="bottom", fontsize="x-small")
        ax.scatter([paper_c(k)] * len(SWEPT), SWEPT, s=26, facecolor="white", edgecolor="black", linewidth=0.9, zorder=3)
        ax.text(0.6, 0.16, "bias alone,\nsimplex ETF", fontsize="small", transform=ax.transAxes)
        ax.text(0.04, 0.88, "saturated: the offset\ndoes the bias's work", fontsize="small", transform=ax.transAxes, color="white")
        ax.set(xscale="log", yscale="log", xlabel=r"$c = \sqrt{n \lambda_W \lambda_H}$", title=f"K = {k}", xlim=(c[0], c[-1]), ylim=(1e-6, 1))
    axes[0].set_ylabel(r"$\lambda_b$")
    figure.colorbar(mesh, ax=axes, label="share of the threshold made by the offset")
    return figure


def one_less_dimension(multiples=(0.5, 1, 2, 4, 4.5, 6, 13.9), restarts: int = 48) -> pd.DataFrame:
    """Lead 2: K = 5 classes in d = K - 1 dimensions (n = 20, decays 2e-3), a row for each multiple of the critical lambda_b.

    form: the lowest f of the theorem's form (ETF, one bias, no offset); found: the lowest that `solve` finds; bound: the
    minimum for d >= K, below which f cannot be; spread: largest minus smallest bias of what was found; hits: restarts there.
    """
    k, n, decay, c, rows = 5, 20, 2e-3, np.sqrt(20) * 2e-3, []
    for lambda_b in np.array(multiples) * theory.critical_lambda_b("bce", k, c):
        form = minimize(lambda x: np.logaddexp(0, x[1] - x[0]) + (k - 1) * np.logaddexp(0, -x[0] / (k - 1) - x[1])
                        + k * c * x[0] + k * lambda_b * x[1] ** 2 / 2, [4.0, 2.0], method="Nelder-Mead", tol=1e-10).fun  # noqa: B023
        found = theory.solve("bce", k, k - 1, n, decay, decay, lambda_b, restarts=restarts)
        rows.append([lambda_b, form, found.objective, np.ptp(found.b), found.agreement, theory.minimum("bce", k, c, lambda_b).objective])
    return pd.DataFrame(rows, columns=["lambda_b", "form", "found", "spread", "hits", "bound"]).assign(multiple=multiples, restarts=restarts)


# ---- the published medians --------------------------------------------------------------------------------------------

def predictions() -> pd.DataFrame:
    """Every published median with its prediction, the residual (published minus predicted) and whether it is `within`.

    predicted: the closed-form minimum; for CE's bias at lambda_b = 0, which the minimum leaves free, the initial mean. Within:
    no further off than the reading error + 0.05. Columns of `paper.medians`, and varied.
    """
    table = pd.concat([paper.medians(varied).assign(varied=varied) for varied in ("initial_bias_mean", "lambda_b")], ignore_index=True)

    def predict(row) -> float:
        k, decayed = DATASETS[row["dataset"]], row["varied"] == "lambda_b"
        free = row["loss"] == "ce" and row["quantity"] == "bias" and not decayed
        return row["value"] if free else getattr(theory.minimum(row["loss"], k, paper_c(k), row["value"] * decayed), row["quantity"])

    table = table.assign(predicted=table.apply(predict, axis=1)).eval("residual = median - predicted")
    return table.assign(within=table["residual"].abs() <= table["reading_error"] + 0.05 + 1e-9)


def effective_time(factor: float = 0.2) -> float:
    """Sum of learning rate / (1 - momentum) over SGD's steps: 0.01, times `factor` at epochs 30, 60 and 80 of 100."""
    return sum(0.01 * factor ** sum(epoch >= m for m in (30, 60, 80)) for epoch in range(100)) * STEPS / (1 - MOMENTUM)


def ce_drift(lambda_b, time: float | None = None):
    """CE's mean bias after training from START: CE's gradient has no part along the common shift, decay alone acts."""
    return START * np.exp(-np.asarray(lambda_b) * (effective_time() if time is None else time))


def implied_times(table: pd.DataFrame) -> pd.DataFrame:
    """For each panel of CE against lambda_b, the effective times that its bias medians allow, given their reading errors.

    low, high: the common range of the medians between 0.3 and 9.95 (the others have decayed, or not moved); low > high: no
    one exponential fits them; count: how many medians enter.
    """
    rows = _where(table[table["median"].between(0.3, 9.95)], loss="ce", varied="lambda_b", quantity="bias")
    low, high = (np.log(START / (rows["median"] + sign * rows["reading_error"])) / rows["value"] for sign in (1, -1))
    return rows.assign(low=low, high=high).groupby(PANEL, sort=False).agg(low=("low", "max"), high=("high", "min"), count=("low", "size")).reset_index()


def panel_residuals(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each panel: medians; within; middle and largest residual; scores: all scores within; logits: the largest
    residual of score minus bias; moves: the most that one quantity's residual varies; room: what reading explains of it."""
    rows = []
    for key, panel in table.groupby([*PANEL, "varied"], sort=False):
        wide = panel.pivot(index="value", columns="quantity", values="residual")
        rows.append(dict(zip([*PANEL, "varied"], key, strict=True)) | {
            "medians": len(panel), "within": panel["within"].sum(), "middle": panel["residual"].median(),
            "largest": panel["residual"].abs().max(), "scores": bool(panel[panel["quantity"] != "bias"]["within"].all()),
            "logits": wide[["positive", "negative"]].sub(wide["bias"], axis=0).abs().max().max(),
            "moves": np.ptp(wide, axis=0).max(), "room": 2 * (panel["reading_error"].iloc[0] + 0.05)})
    return pd.DataFrame(rows)


def scatter(table: pd.DataFrame) -> Figure:
    """Published against predicted, a panel for each loss and optimizer; thin black line: equal."""
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 8), sharex=True, sharey=True)
    for ax, (loss, optimizer) in zip(axes.flat, [(x, y) for x in ("ce", "bce") for y in ("sgd", "adamw")], strict=True):
        panel = _where(table, loss=loss, optimizer=optimizer)
        for (model, dataset), rows in panel.groupby(["model", "dataset"]):
            ax.scatter(rows["predicted"], rows["median"], marker=plots.MARKER[model], s=20, facecolor="none",
                       edgecolor=plots.COLOUR[loss], alpha=0.45 if dataset == "cifar100" else 1)
        ax.axline((0, 0), slope=1, color="black", linewidth=0.7, zorder=1)
        ax.set_title(f"{plots.NAME[loss]}, {plots.NAME[optimizer]}: {panel['within'].sum()} of {len(panel)} agree")
        ax.set(xlabel="predicted", ylabel="published median")
        ax.label_outer()
    _network_legend(figure, "full colour: CIFAR10 or unstated; pale: CIFAR100")
    return figure


def decay_sweep(table: pd.DataFrame) -> Figure:
    """BCE against lambda_b: closed form as lines, the published medians as hollow markers."""
    (figure, axes), lambda_b = plt.subplots(2, 2, figsize=(8.6, 7.4), sharex=True, sharey="row"), np.geomspace(3e-6, 1, 300)
    for ax, (k, optimizer) in zip(axes.flat, [(x, y) for x in (10, 100) for y in ("sgd", "adamw")], strict=True):
        m = theory.minimum("bce", k, paper_c(k), lambda_b)
        for kind in ("positive", "bias", "negative"):
            ax.plot(lambda_b, getattr(m, kind), color="black", linewidth=0.8, linestyle="--" if kind == "bias" else "-", zorder=1)
            ax.text(2.7e-6, getattr(m, kind)[0], kind, fontsize="x-small", ha="right", va="center")
        rows = _where(table, loss="bce", varied="lambda_b", optimizer=optimizer)
        for model, of in rows[rows["dataset"].map(DATASETS) == k].groupby("model"):
            aside = {"ViT": 0.86, "Swin": 1.16, "ResNet18": 1}[model]
            ax.scatter(of["value"] * aside, of["median"], marker=plots.MARKER[model], s=24, facecolor="none", edgecolor="black", linewidth=0.8)
        ax.axvline(theory.critical_lambda_b("bce", k, paper_c(k)), color=plots.GREY, linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlim=(2.5e-7, 1), xlabel=r"$\lambda_b$", ylabel="decision score or bias", title=f"{k} classes, {plots.NAME[optimizer]}")
        ax.label_outer()
    _network_legend(figure, "lines: closed form; dotted: critical $\\lambda_b$")
    return figure


def drift(table: pd.DataFrame) -> Figure:
    """CE's bias against lambda_b: published medians, the default schedule's prediction, one fitted exponential a panel."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=True)
    lambda_b, times = np.geomspace(3e-6, 1, 300), implied_times(table).set_index(PANEL).sort_index()
    for ax, optimizer in zip(axes, ("sgd", "adamw"), strict=True):
        for key, of in _where(table, loss="ce", varied="lambda_b", quantity="bias", optimizer=optimizer).groupby(PANEL):
            colour = plots.GREY if key[1] == "cifar100" else "black"
            ax.scatter(of["value"], of["median"], marker=plots.MARKER[key[0]], s=28, facecolor="none", edgecolor=colour, linewidth=0.9, zorder=3)
            if times.loc[key, "low"] <= times.loc[key, "high"]:
                ax.plot(lambda_b, ce_drift(lambda_b, times.loc[key, ["low", "high"]].mean()), color=plots.GREY, linewidth=0.7, linestyle=":")
        if optimizer == "sgd":
            ax.plot(lambda_b, ce_drift(lambda_b), color="black", linewidth=0.9)
        ax.set(xscale="log", xlabel=r"$\lambda_b$", title=plots.NAME[optimizer])
    axes[0].set_ylabel("CE's bias after training")
    _network_legend(figure, "black: CIFAR10 or unstated; grey: CIFAR100")
    return figure


def _where(table: pd.DataFrame, **conditions) -> pd.DataFrame:
    return table[(table[list(conditions)] == pd.Series(conditions)).all(axis=1)]


def _network_legend(figure: Figure, words: str) -> None:
    figure.legend(handles=[*plots.paper_handles(plots.MARKER), Line2D([], [], linestyle="", label=words)], loc="outside lower center", ncols=4, handletextpad=0.2)
