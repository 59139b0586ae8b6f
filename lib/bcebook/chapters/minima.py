"""The chapter on the minima: where do both losses have them, and do they show neural collapse? No run enters."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from bcebook import names
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

np, pd, plt, torch = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot"), lazy("torch")
optimize, func = lazy("scipy.optimize"), lazy("torch.func")
losses, metrics = lazy("bcebook.science.losses"), lazy("bcebook.science.metrics")
predictions, theory = lazy("bcebook.report.predictions"), lazy("bcebook.science.theory")
model_plots, plots = lazy("bcebook.report.model_plots"), lazy("bcebook.report.plots")

# K, d, n, lambda_W, lambda_H, lambda_b: d = K-1, K and more, weak and strong decay; in the last two c > 1/K.
SETTINGS = (
    (2, 1, 50, 5e-4, 5e-4, 0.05), (2, 4, 10, 1e-3, 1e-2, 0), (3, 2, 20, 2e-3, 1e-3, 0), (3, 3, 20, 2e-3, 1e-3, 0.1),
    (5, 4, 20, 2e-3, 2e-3, 1e-3), (5, 5, 20, 2e-3, 2e-3, 0.05), (10, 9, 100, 5e-4, 5e-4, 1e-4),
    (10, 10, 13, 5e-4, 5e-4, 5e-3), (10, 16, 13, 5e-4, 5e-4, 0), (10, 32, 500, 1e-4, 2e-3, 0.5),
    (20, 19, 5, 1e-3, 1e-3, 0), (20, 24, 5, 1e-3, 1e-3, 0.01), (4, 4, 100, 0.05, 0.02, 0.1),
    (10, 10, 40, 0.05, 0.02, 1.0))
PARTS = ["scores", "biases", "objectives"]  # in which closed form and minimisation may disagree
MINIMISED = 1e-6  # a quasi-Newton search comes closer, and no two different minima here are so close
COLLAPSED = 1e-7  # NC2 and NC3 are roots: the rounding of float64 leaves 1e-8 of a zero
DECAYED = 0.5  # the largest lambda_b that the paper swept
COLLAPSE = {"nc1": "NC1", "nc2": "NC2", "nc2_means": "NC2 of the means", "nc3": "NC3"}


# ---- closed form and minimisation ---------------------------------------------------------------------------------

@functools.cache
def agreement(settings: tuple[tuple, ...] = SETTINGS, restarts: int = 4) -> DataFrame:
    """Closed form and plain minimisation, a row for each setting (K, d, n, lambda_W, lambda_H, lambda_b) and loss.

    positive, negative, bias, offset: closed form; gap: positive minus negative score of what `theory.solve` finds;
    scores, biases, objectives: the largest disagreement with it, over all pairs of classes; gradient: the largest
    entry of f's gradient where `theory.assemble` puts W, H and b; covered: c < 1/K and lambda_b at most critical,
    which is what the theorems as proved cover.
    """
    rows = []
    for k, d, n, lambda_w, lambda_h, lambda_b in settings:
        for loss in recipes.LOSSES:
            c = np.sqrt(n * lambda_w * lambda_h)
            m = theory.minimum(loss, k, c, lambda_b)
            found = theory.solve(loss, k, d, n, lambda_w, lambda_h, lambda_b, restarts=restarts)
            Z, own = found.W @ found.H, np.eye(k, dtype=bool)
            point = theory.assemble(m, k, d, lambda_w, lambda_h, n)
            gradient = theory.gradient(loss, *point, np.full(k, n), lambda_w, lambda_h, lambda_b)
            rows.append({
                "K": k, "d": d, "n": n, "lambda_w": lambda_w, "lambda_h": lambda_h, "lambda_b": lambda_b, "c": c,
                "loss": loss, "critical": theory.critical_lambda_b(loss, k, c),
                **{name: getattr(m, name) for name in ("positive", "negative", "bias", "offset")},
                "gap": Z[own].mean() - Z[~own].mean(),
                "scores": np.abs(Z - np.where(own, m.positive, m.negative)).max(),
                "biases": np.abs(found.b - m.bias).max(), "objectives": abs(found.objective - m.objective),
                "gradient": max(np.abs(part).max() for part in gradient)})
    points = pd.DataFrame(rows)
    return points.assign(covered=(points["lambda_b"] <= points["critical"]) & (points["c"] < 1 / points["K"]))


def agreement_table() -> tables.Table:
    """`agreement`, with how many of its rows lie on which side of the two transitions."""
    points = agreement()
    shown = points.assign(apart=points[PARTS].max(axis=1))
    columns = {name: tables.Column(f"${name}$") for name in ("K", "d", "n")}
    columns |= {name: tables.significant(rf"$\lambda_{name[-1].upper() if name != 'lambda_b' else 'b'}$")
                for name in ("lambda_w", "lambda_h", "lambda_b")}
    columns |= {"loss": tables.Column("loss", names.of),
                "critical": tables.Column("critical", lambda x: "∞" if np.isinf(x) else markdown.significant(x, 2)),
                "positive": tables.fixed("positive", 4), "negative": tables.fixed("negative", 4),
                "bias": tables.fixed("bias", 4), "apart": tables.powers("apart")}
    beyond, none = points["lambda_b"] > points["critical"], points["c"] >= 1 / points["K"]
    return tables.Table(shown, columns, (
        f"{beyond.sum()} of these {len(points)} minima lie beyond the critical $\\lambda_b$, and {none.sum()} where "
        "no ETF is left.",))


@functools.cache
def along_c(loss: str, lambda_b: float, num_classes: int = 10) -> DataFrame:
    """What `theory.solve` finds at some values of c: columns c, positive, bias, negative (means over classes)."""
    rows, own = [], np.eye(num_classes, dtype=bool)
    for c in np.geomspace(2e-5, 0.3, 9):
        found = theory.solve(loss, num_classes, num_classes, 1, c, c, lambda_b, restarts=2)
        Z = found.W @ found.H
        rows.append({"c": c, "positive": Z[own].mean(), "bias": found.b.mean(), "negative": Z[~own].mean()})
    return pd.DataFrame(rows)


def against_c(num_classes: int = 10, lambda_b: float = 0.05) -> Figure:
    """Scores and bias at the minimum against c: CE, BCE without decay of the bias, and BCE with it; circles:
    `theory.solve`."""
    figure, axes = plt.subplots(1, 3, figsize=(8.6, 4.3), sharey=True)
    fine = np.geomspace(1e-5, 0.4, 400)
    for ax, loss, decay in zip(axes, ("ce", "bce", "bce"), (lambda_b, 0.0, lambda_b), strict=True):
        m, found = theory.minimum(loss, num_classes, fine, decay), along_c(loss, decay, num_classes)
        for kind, above in (("positive", 6), ("bias", 6), ("negative", -14)):
            ax.plot(fine, getattr(m, kind), color="black", linewidth=0.9, linestyle="--" if kind == "bias" else "-")
            ax.scatter(found["c"], found[kind], s=26, facecolor="none", edgecolor=plots.COLOUR[loss], zorder=3)
            ax.annotate(kind, (fine[0], getattr(m, kind)[0]), (3, above), textcoords="offset points", fontsize="small")
        ax.axvline(1 / num_classes, color=plots.GREY, linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlabel=r"$c = \sqrt{n \lambda_W \lambda_H}$", ymargin=0.08,
               title=f"{names.of(loss)}, " + (r"any $\lambda_b > 0$" if loss == "ce" else rf"$\lambda_b = {decay:g}$"))
    axes[0].set_ylabel("decision score or bias")
    return figure


def disagreement(loss: str | None, covered: bool) -> Finding:
    """The largest disagreement of closed form and minimisation over one loss's minima that the theorems cover or do
    not cover; None: both losses."""
    points = agreement()
    rows = points[(points["covered"] == covered) & ((points["loss"] == loss) | (loss is None))]
    because = "what a search for the minimum leaves, in scores, biases and objective"
    finding = verdicts.check(rows[PARTS].max().max(), MINIMISED, because, n=len(rows), unit="residual")
    proved = "this page" if loss == "ce" else "this page and the next"  # which solves what is left of BCE
    return finding.but(rule=finding.rule.replace("this page", proved))


def stationary() -> Finding:
    points = agreement()
    return verdicts.check(points["gradient"].max(), 1e-9, "rounding", n=len(points), of="minima", unit="residual")


def scale() -> Finding:
    """The difference of both losses' scales, from what the minimisation found, against the formula."""
    points = agreement()
    free = points[(points["lambda_b"] == 0) & (points["c"] < 1 / points["K"])]
    ce, bce = (free[free["loss"] == loss].reset_index() for loss in recipes.LOSSES)
    k, c = ce["K"], ce["c"]
    found = (bce["gap"] - ce["gap"]) * (k - 1) / k  # the ETF part s of a gap s K / (K-1)
    apart = (found - (k - 1) / k * np.log((1 - c) / ((k - 1) * c))).abs().max()
    return verdicts.check(apart, MINIMISED, "what a search for the minimum leaves", n=len(ce), unit="residual")


# ---- a feature for every sample -----------------------------------------------------------------------------------

def _split(x, k: int) -> tuple:
    """W (K, K), features (N, K) and b (K,) of one vector."""
    return x[:k * k].reshape(k, k), x[k * k:-k].reshape(-1, k), x[-k:]


@functools.cache
def one_feature_a_sample(num_classes: int = 4, per_class: int = 5, decay: float = 1e-2,
                         lambda_b: float = 0.02) -> DataFrame:
    """f minimised through the loss functions that train the networks, d = K, with a feature for every sample
    (`theory.solve` has one a class): nc1 of what is found, and apart, its largest distance from the closed form in any
    score of any sample or any bias."""
    k, n, rows = num_classes, per_class, []
    labels = torch.arange(k).repeat_interleave(n)
    for loss, function in losses.LOSSES.items():
        def f(x, function=function):
            W, h, b = _split(x, k)
            decays = decay * (W.square().sum() + h.square().sum()) + lambda_b * b.square().sum()
            return function(h @ W.T - b, labels) + decays / 2

        def value_and_slope(x, f=f):
            return [part.numpy() for part in func.grad_and_value(f)(torch.from_numpy(x))[::-1]]

        start = np.random.default_rng(0).normal(size=k * k + n * k * k + k)
        x = optimize.minimize(value_and_slope, start, jac=True, method="L-BFGS-B",
                              options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-17, "gtol": 1e-10}).x
        (W, h, b), m = _split(x, k), theory.minimum(loss, k, np.sqrt(n) * decay, lambda_b)
        scores = np.abs(h @ W.T - np.where(np.eye(k)[labels], m.positive, m.negative)).max()
        rows.append({"loss": loss, "offset": m.offset, "nc1": metrics.neural_collapse(h, labels, W).nc1,
                     "apart": max(scores, np.abs(b - m.bias).max())})
    return pd.DataFrame(rows)


def free_features() -> tables.Table:
    """`one_feature_a_sample`."""
    return tables.Table(one_feature_a_sample(), {
        "loss": tables.Column("loss", names.of), "offset": tables.fixed("offset", 4), "nc1": tables.powers("NC1"),
        "apart": tables.powers("apart")})


def free_features_agree() -> Finding:
    found = one_feature_a_sample()
    return verdicts.check(found[["apart", "nc1"]].max().max(), MINIMISED, "what a search for the minimum leaves",
                          n=len(found), of="losses", unit="residual")


# ---- neural collapse, errors, separation --------------------------------------------------------------------------

@functools.cache
def collapse(num_classes: int = 10, dim: int = 16) -> DataFrame:
    """NC1 to NC3 (`metrics.neural_collapse`) of the assembled minimum at the paper's decay and batch size; cosine: of
    h and w_y; formula: NC2 from s and o alone, sqrt(2 - 2 s / sqrt(s^2 + (K-1) o^2)) (ours)."""
    rows, c, decay = [], predictions.paper_c(num_classes), recipes.PAPER_DECAY
    for loss, value in [("ce", DECAYED), *(("bce", x) for x in (0, 5e-5, 5e-4, 5e-3, DECAYED))]:
        m = theory.minimum(loss, num_classes, c, value)
        W, H, _ = theory.assemble(m, num_classes, dim, decay, decay, recipes.BATCH_SIZE / num_classes)
        s, cosine = m.positive - m.offset, W[0] @ H[:, 0] / np.linalg.norm(W[0]) / np.linalg.norm(H[:, 0])
        measured = vars(metrics.neural_collapse(H.T, np.arange(num_classes), W))
        squared = 2 - 2 * s / np.hypot(s, np.sqrt(num_classes - 1) * m.offset)
        rows.append({"loss": loss, "lambda_b": value, "offset": m.offset, **measured, "cosine": cosine,
                     "formula": np.sqrt(max(0.0, squared))})
    return pd.DataFrame(rows)


def collapse_table() -> tables.Table:
    """`collapse`, and the largest of its measures with and without an offset."""
    table = collapse()
    columns = {"loss": tables.Column("loss", names.of), "lambda_b": tables.significant(r"$\lambda_b$")}
    shown = {"offset": "offset", "nc1": "NC1", "nc2": "NC2", "formula": "NC2, formula", "nc2_means": "NC2, means",
             "nc3": "NC3", "cosine": "cosine"}
    columns |= {name: tables.fixed(head, 4) for name, head in shown.items()}
    free, kept = table[table["offset"] == 0][list(COLLAPSE)].max(), table[table["offset"] < 0][list(COLLAPSE)].max()
    told = "; ".join(f"{head} {markdown.power(free[name])} without and {markdown.power(kept[name])} with an offset"
                     for name, head in COLLAPSE.items())
    return tables.Table(table, columns, (f"Largest values: {told}.",))


def collapsed(table: DataFrame) -> Finding:
    """The largest of the four measures over some rows of `collapse`."""
    return verdicts.check(table[list(COLLAPSE)].max().max(), COLLAPSED, "rounding under a root", n=len(table),
                          of="minima", unit="residual")


def both_collapse() -> Finding:
    table = collapse()
    control = collapsed(table[table["offset"] < 0]).but(label="the same measures where BCE's minimum has an offset")
    return collapsed(table[table["offset"] == 0]).but(control=control)


def nc2_formula() -> Finding:
    table = collapse()
    return verdicts.check((table["nc2"] - table["formula"]).abs().max(), COLLAPSED, "rounding under a root",
                          n=len(table), of="minima", unit="residual")


@functools.cache
def errors_left(classes: tuple[int, ...] = (2, 10, 100)) -> DataFrame:
    """The errors that each loss leaves at its minimum (the size of its gradient on the own and on each other logit),
    in units of c, and its scale against CE's; the paper's decay and batch size."""
    rows = []
    for k in classes:
        c = predictions.paper_c(k)
        for loss, lambda_b in (("ce", 0.0), ("bce", 0.0), ("bce", DECAYED)):
            m = theory.minimum(loss, k, c, lambda_b)
            logits = [np.r_[m.positive, np.full(k - 1, m.negative)] - m.bias]  # one sample: (1, K)
            own, other = np.abs(model_plots.loss_and_gradient(loss, logits)[1][0, :2]) / c
            rows.append({"K": k, "loss": loss, "lambda_b": lambda_b, "own": own, "other": other,
                         "positive": m.positive, "negative": m.negative, "bias": m.bias,
                         "scale": (m.positive - m.offset) / theory.minimum("ce", k, c).positive})
    return pd.DataFrame(rows)


def errors() -> tables.Table:
    """`errors_left`."""
    heads = {"own": "own error / $c$", "other": "each other / $c$", "positive": "positive", "negative": "negative",
             "bias": "bias", "scale": "$s$ / CE's $s$"}
    columns = {"K": tables.Column("$K$"), "loss": tables.Column("loss", names.of),
               "lambda_b": tables.significant(r"$\lambda_b$")}
    return tables.Table(errors_left(), columns | {name: tables.fixed(head, 4) for name, head in heads.items()})


def errors_apart(rows: DataFrame) -> Finding:
    """How far errors are from K - 1 on the own and 1 on each other class, in units of c."""
    apart = np.maximum((rows["own"] - (rows["K"] - 1)).abs(), (rows["other"] - 1).abs())
    return verdicts.check(apart.max(), 1e-9, "rounding", n=len(rows), of="minima", unit="residual")


def same_errors() -> Finding:
    rows = errors_left()
    control = errors_apart(rows[rows["lambda_b"] > 0]).but(label="the same test on BCE with the bias decayed")
    return errors_apart(rows[rows["lambda_b"] == 0]).but(control=control)


def separation(classes: tuple[int, ...] = (3, 10, 100), draws: int = 2000) -> Finding:
    """In what share of random settings up to the critical lambda_b does the paper's condition say wrongly whether the
    bias of BCE's minimum lies between its scores?"""
    rng, true, said = np.random.default_rng(0), [], []
    for k in classes:
        c = rng.uniform(0.05, 1, draws) / k
        lambda_b = rng.uniform(0, 1, draws) * np.minimum(theory.critical_lambda_b("bce", k, c), 10)
        m = theory.minimum("bce", k, c, lambda_b)
        true = np.r_[true, (m.negative < m.bias) & (m.bias < m.positive)]
        said = np.r_[said, theory.separates(k, m.positive, lambda_b)]
    wrong, separate = float(np.mean(true != said)), int(np.sum(true))
    named = markdown.listed(str(k) for k in classes)
    return verdicts.check(wrong, 0, "it is an equivalence", n=len(true), unit="share").but(
        detail=f"settings of {named} classes; the bias separates in {separate:,}, not in {len(true) - separate:,}")


def _claim(name: str, text: str, source: str, statistic: str, judge, **shown) -> Claim:
    return Claim(f"minima.{name}", text, source, statistic, judge, theory=True, **shown)


APART = "the largest difference from a numerical minimisation"
ROOM = Room(
    name=__name__, part="theory", number=2, title="Minima", of_the_paper="theorems on neural collapse",
    asks="where are the minima of both losses?",
    claims=(
        _claim("ce", r"For $c = \sqrt{n \lambda_W \lambda_H} < 1/K$ every global minimiser of CE shows neural "
                     r"collapse, with the closed-form scale",
               "the paper's Theorem 3.1", APART, lambda: disagreement("ce", covered=True)),
        _claim("bce", r"For $c = \sqrt{n \lambda_W \lambda_H} < 1/K$ and decays of the bias up to the critical one, "
               r"every global minimiser of BCE shows neural collapse, with the closed-form scale and bias",
               "the paper's Theorem 3.2", APART,
               lambda: disagreement("bce", covered=True), front=6,
               effect="largest difference between closed form and numerical minimisation"),
        _claim("elsewhere", "Beyond the critical decay, and from c = 1/K on, the closed form is the minimum too",
               "ours", APART, lambda: disagreement(None, covered=False)),
        _claim("separation", "Up to the critical decay, BCE's bias lies between positive and negative scores exactly "
               "under the paper's condition", "the paper's Theorem 3.2",
               "the share of settings in which the condition is wrong", separation),
        _claim("collapse", "Without an offset the minima of both losses are fully collapsed, so they are equally "
               "compact", "ours", "the largest of NC1, NC2, NC2 of the means and NC3", both_collapse),
        _claim("errors", "Without decay of the bias both losses have the same residuals at their minima", "ours",
               "the largest deviation from K - 1 on the own and 1 on each other class, in units of c", same_errors),
        _claim("scale", "Without decay of the bias the scales of the two minima differ by the closed form", "ours",
               "the largest difference from the scales of a numerical minimisation", scale),
        _claim("stationary", "The gradient of the objective vanishes at the assembled minima", "ours",
               "the largest entry of the gradient", stationary),
        _claim("free_features", "With a free feature for every sample the minimum is the same: the features of a "
                                "class coincide", "ours",
               "the largest of NC1 and the distance from the closed form", free_features_agree),
        _claim("nc2", "With an offset NC2 of the classifier equals the closed form", "ours",
               "the largest difference between closed form and measurement", nc2_formula),
    ),
)
