"""The chapter on the saturating bias: what becomes of BCE's minimum when its bias is decayed? No run enters."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.report.theory_tables import TheoryTable
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

np, pd, plt, optimize = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot"), lazy("scipy.optimize")
plots, predictions = lazy("bcebook.report.plots"), lazy("bcebook.report.predictions")
theory = lazy("bcebook.science.theory")

CLASSES = (10, 100)  # of the paper's CIFAR10 and CIFAR100
SWEPT = (*recipes.LAMBDA_B, 0.0)  # the paper's decays of the bias, and none
RESTARTS, SEARCHES = 4, 48  # the second where minima are local
MINIMISED = 1e-6  # a quasi-Newton search comes closer, and no two different minima here are so close
EQUALITY = "what a search for the minimum leaves"
FIVE = (5, 20, 2e-3)  # K, n and both decays of the search in K - 1 dimensions: small, so that many restarts are cheap
MULTIPLES = (0.5, 1, 2, 4, 4.5, 6, 13.9)  # of the critical lambda_b, there


# ---- closed form and minimisation ---------------------------------------------------------------------------------

@functools.cache
def solved(lambda_b: tuple[float, ...], loss: str = "bce", num_classes: int = 10) -> DataFrame:
    """Closed form and plain minimisation (d = K, the paper's c) side by side, a row for each lambda_b.

    Columns lambda_b; positive, negative, bias, offset, objective and share (of |w_k|^2, what lies in the mean row) of
    the closed form, with "_solved" of what `theory.solve` finds; paper: the paper's bias equation at the true positive
    score; apart: the largest disagreement of the row, every class and every pair of classes counted; etf: how far the
    found centred rows and class means are from simplex ETFs and from each other (`off_etf`); hits: the restarts of
    `RESTARTS` that end there.
    """
    k, decay, c, rows = num_classes, recipes.PAPER_DECAY, predictions.paper_c(num_classes), []
    for value in lambda_b:
        m = theory.minimum(loss, k, c, float(value))
        found = theory.solve(loss, k, k, recipes.BATCH_SIZE / k, decay, decay, float(value), restarts=RESTARTS)
        Z, own = found.W @ found.H, np.eye(k, dtype=bool)
        pairs = {"positive": Z[own], "negative": Z[~own], "bias": found.b, "offset": Z.mean(),
                 "objective": found.objective, "share": k * np.sum(found.W.mean(0) ** 2) / np.sum(found.W**2)}
        known = {name: getattr(m, name) for name in pairs if name != "share"}
        known["share"] = abs(m.offset) / (m.positive - 2 * m.offset)  # |o| / (s + |o|)
        rows.append({"lambda_b": value, "paper": theory.paper_bias(k, m.positive, value)} | known
                    | {f"{name}_solved": float(np.mean(pair)) for name, pair in pairs.items()}
                    | {"apart": max(float(np.max(np.abs(pair - known[name]))) for name, pair in pairs.items()),
                       "etf": off_etf(found.W, found.H), "hits": found.agreement})
    return pd.DataFrame(rows)


def off_etf(W, H) -> float:
    """How far W (K, d) and H (d, K), centred over the classes and scaled to one length, are from simplex ETFs that are
    aligned: the largest entry of WW', H'H and WH that differs from the ETF's."""
    k = len(W)
    rows, means = W - W.mean(axis=0), (H - H.mean(axis=1, keepdims=True)).T  # (K, d) each
    rows, means = (x / np.linalg.norm(x) * np.sqrt(k) for x in (rows, means))
    etf = (k * np.eye(k) - 1) / (k - 1)  # 1 on the diagonal, -1/(K-1) off it
    return max(float(np.abs(product - etf).max()) for product in (rows @ rows.T, means @ means.T, rows @ means.T))


def curve() -> DataFrame:
    """`solved` at the circles of the figure."""
    return solved(tuple(np.geomspace(3e-6, 0.7, 22).tolist()))


def critical(num_classes: int = 10) -> float:
    """BCE's critical lambda_b at the paper's decay and batch size."""
    return theory.critical_lambda_b("bce", num_classes, predictions.paper_c(num_classes))


def halves() -> tuple[DataFrame, DataFrame]:
    """All rows of `solved` on this page up to the critical lambda_b, and those beyond it."""
    points = pd.concat([solved(SWEPT), curve()], ignore_index=True)
    beyond = points["lambda_b"] > critical()
    return points[~beyond], points[beyond]


def saturation() -> Figure:
    """Bias and offset (left), scores (right) against lambda_b: closed form, `curve`, the paper's equation."""
    points, k = curve(), 10
    lambda_b = np.geomspace(2e-6, 1, 400)
    m = theory.minimum("bce", k, predictions.paper_c(k), lambda_b)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2))
    named = {"bias": ("bias $b$", 0.3), "offset": ("offset $o$", -0.7), "positive": ("positive", -1.1),
             "negative": ("negative", 0.5)}
    panels = (("bias", "offset"), "Bias and offset"), (("positive", "negative"), "Decision scores")
    for ax, (kinds, title) in zip(axes, panels, strict=True):
        for kind in kinds:
            first = kind == "bias"  # one entry in the key is enough
            ax.plot(lambda_b, getattr(m, kind), color="black", linewidth=0.9, label="closed form" if first else None)
            ax.scatter(points["lambda_b"], points[f"{kind}_solved"], s=24, facecolor="none",
                       edgecolor=plots.COLOUR["bce"], zorder=3,
                       label="minimised over W, H and b" if first else None)
            ax.text(4e-6, getattr(m, kind)[0] + named[kind][1], named[kind][0], fontsize="small")
        ax.text(critical() * 0.86, ax.get_ylim()[0] + 0.3, r"critical $\lambda_b$", rotation=90, ha="right",
                fontsize="small", color=plots.GREY)
        ax.axvline(critical(), color=plots.GREY, linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlabel=r"$\lambda_b$", xlim=(2e-6, 1), ymargin=0.1, title=title)
    axes[0].plot(lambda_b, theory.paper_bias(k, m.positive, lambda_b), label="the paper's bias equation",
                 color="#888888", linewidth=1.6, linestyle=(0, (4, 2)))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def swept() -> tables.Table:
    """`solved` at the values that the paper swept."""
    points = solved(SWEPT)
    columns = {"lambda_b": tables.significant(r"$\lambda_b$"), "positive": tables.fixed("positive", 4),
               "negative": tables.fixed("negative", 4), "bias": tables.fixed("bias $b$", 4),
               "offset": tables.fixed("offset $o$", 4),
               "share": tables.Column("mean row", lambda x: f"{markdown.percent(x)} %"),
               "bias_solved": tables.fixed("found $b$", 4), "offset_solved": tables.fixed("found $o$", 4),
               "paper": tables.fixed("paper's $b$", 4)}
    free, held = points[points["offset"] == 0], points[points["offset"] < 0]
    gaps = [(rows["paper"] - rows["bias"]).abs().max() for rows in (free, held)]
    return tables.Table(points, columns, (
        f"The paper's equation differs from the bias of the minimum by at most {markdown.power(gaps[0])} in the "
        f"{len(free)} rows without an offset, and by up to {markdown.number(gaps[1])} in the {len(held)} rows with "
        "one.",))


def transition(classes: tuple[int, ...] = CLASSES) -> tables.Table:
    """For each number of classes c, the critical lambda_b of BCE, and which of the swept values lie beyond it."""
    rows = []
    for k in classes:
        beyond = [value for value in recipes.LAMBDA_B if value > critical(k)]
        rows.append({"K": k, "c": predictions.paper_c(k), "critical": critical(k), "count": len(beyond),
                     "beyond": ", ".join(f"{value:g}" for value in beyond)})
    columns = {"K": tables.Column("$K$"), "c": tables.significant("$c$"),
               "critical": tables.Column(r"critical $\lambda_b$", _positional),
               "count": tables.Column(f"of the {len(recipes.LAMBDA_B)} values of the paper, beyond it"),
               "beyond": tables.Column("which")}
    return tables.Table(pd.DataFrame(rows), columns)


def _positional(x: float) -> str:
    """A small number without an exponent, at which a line could break."""
    return np.format_float_positional(x, 3, fractional=False)


def phases() -> Figure:
    """Share of the threshold t = b - o that the offset makes, over c and lambda_b, for 10 and 100 classes."""
    (figure, axes), lambda_b = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=True), np.geomspace(1e-6, 1, 120)
    for ax, k in zip(axes, CLASSES, strict=True):
        c = np.geomspace(1e-5, 1.2 / k, 120)
        m = theory.minimum("bce", k, c[None, :], lambda_b[:, None])
        mesh = ax.pcolormesh(c, lambda_b, -m.offset / np.maximum(m.bias - m.offset, 1e-300), cmap="Greens", vmin=0,
                             vmax=1, shading="gouraud", rasterized=True)
        ax.plot(c, theory.critical_lambda_b("bce", k, c), color="black", linewidth=0.9)
        ax.axvline(1 / k, color="black", linewidth=0.9, linestyle="--")
        ax.text(0.93 / k, 1.4e-6, "no simplex ETF from here", rotation=90, ha="right", va="bottom", fontsize="x-small")
        ax.scatter([predictions.paper_c(k)] * len(recipes.LAMBDA_B), recipes.LAMBDA_B, s=26, facecolor="white",
                   edgecolor="black", linewidth=0.9, zorder=3)
        ax.text(0.6, 0.16, "bias alone,\nsimplex ETF", fontsize="small", transform=ax.transAxes)
        ax.text(0.04, 0.88, "saturated: the offset\ndoes the bias's work", fontsize="small", transform=ax.transAxes,
                color="white")
        ax.set(xscale="log", yscale="log", xlabel=r"$c = \sqrt{n \lambda_W \lambda_H}$", title=f"K = {k}",
               xlim=(c[0], c[-1]), ylim=(1e-6, 1))
    axes[0].set_ylabel(r"$\lambda_b$")
    figure.colorbar(mesh, ax=axes, label="share of the threshold made by the offset")
    return figure


# ---- one dimension less -------------------------------------------------------------------------------------------

def _lower(multiple: float) -> dict[str, float]:
    k, n, decay = FIVE
    c = float(np.sqrt(n)) * decay
    lambda_b = multiple * theory.critical_lambda_b("bce", k, c)
    form = optimize.minimize(_form, [4.0, 2.0], args=(k, c, lambda_b), method="Nelder-Mead", tol=1e-10).fun
    found = theory.solve("bce", k, k - 1, n, decay, decay, lambda_b, restarts=SEARCHES)
    return {"lambda_b": lambda_b, "form": form, "found": found.objective, "spread": float(np.ptp(found.b)),
            "hits": found.agreement, "bound": theory.minimum("bce", k, c, lambda_b).objective}


LOWER = TheoryTable(
    "one_dimension_less",
    f"{FIVE[0]} classes of {FIVE[1]} samples in {FIVE[0] - 1} dimensions, both decays {FIVE[2]:g}: best of "
    f"{SEARCHES} minimisations from random starts (seed 0).",
    tuple({"multiple": multiple} for multiple in MULTIPLES), _lower, ({"multiple": 1},))


def lower_points() -> DataFrame:
    """K = 5 classes in d = K - 1 dimensions, a row for each multiple of the critical lambda_b.

    form: the lowest f of the theorem's form (ETF, one bias, no offset); found: the lowest that `theory.solve` finds;
    bound: the minimum for d >= K, below which f cannot be; spread: largest minus smallest bias of what was found;
    hits: restarts that end there.
    """
    return LOWER.frame


def _form(x, k: int, c: float, lambda_b: float) -> float:
    """f where W and H are one ETF with positive score x[0] and all biases are x[1]."""
    loss = np.logaddexp(0, x[1] - x[0]) + (k - 1) * np.logaddexp(0, -x[0] / (k - 1) - x[1])
    return loss + k * c * x[0] + k * lambda_b * x[1] ** 2 / 2


def one_less_dimension() -> tables.Table:
    """`lower_points`, and what each row says of the theorem's form: the minimum, open, or not the minimum."""
    table = lower_points()
    broken, above = table["form"] - table["found"] > MINIMISED, table["form"] - table["bound"] > MINIMISED
    said = np.select([broken, above], ["a lower point was found", "open"], "reaches the bound: the minimum")
    columns = {"multiple": tables.Column(r"$\lambda_b$ / critical", lambda x: f"{x:g}"),
               "lambda_b": tables.significant(r"$\lambda_b$"), "form": tables.fixed("theorem's form", 6),
               "found": tables.fixed("lowest found", 6), "bound": tables.fixed("bound", 6),
               "spread": tables.fixed("spread of $b$", 3), "hits": tables.Column("restarts there"),
               "form_is": tables.Column("the form")}
    k, n, decay = FIVE
    return tables.Table(table.assign(form_is=said), columns, (
        f"{k} classes of {n} samples in {k - 1} dimensions, both decays {decay:g}, "
        f"{SEARCHES} restarts a row. *Open*: above the bound, and nothing lower was found.", LOWER.note))


# ---- claims -------------------------------------------------------------------------------------------------------

def closed_form() -> Finding:
    points = pd.concat(halves())
    return verdicts.check(points["apart"].max(), MINIMISED, EQUALITY, n=len(points), unit="residual")


def off_the_theorem(rows: DataFrame) -> DataFrame:
    """How far what the minimisation found is from the paper's theorem: bias off its equation, mean row off zero,
    centred rows and class means off a simplex ETF."""
    return pd.DataFrame({"bias": (rows["bias_solved"] - rows["paper"]).abs(), "mean row": rows["share_solved"].abs(),
                         "ETF": rows["etf"]})


def up_to_critical() -> Finding:
    rows = halves()[0]
    return verdicts.check(off_the_theorem(rows).max().max(), MINIMISED, EQUALITY, n=len(rows), unit="residual")


def as_stated() -> Finding:
    """Whether the theorem, which names no critical lambda_b, holds beyond it."""
    off = off_the_theorem(halves()[1])
    holds = int((off.max(axis=1) <= MINIMISED).sum())
    finding = verdicts.shown(holds, len(off), f"the minimum has the theorem's form to within {MINIMISED:g}")
    told = (f"the bias is up to {markdown.significant(off['bias'].max())} off the "
            f"equation, and up to {markdown.percent(off['mean row'].max(), 0)} % of a row's square is the mean row's")
    return finding.but(detail=told) if len(off) else finding


def saturates() -> Finding:
    """Beyond the critical value: bias off c / lambda_b, and how much positive score minus bias varies."""
    rows, c = halves()[1], predictions.paper_c(10)
    bias = (rows["bias_solved"] - c / rows["lambda_b"]).abs().max()
    seen = max(np.ptp(rows[f"{kind}_solved"] - rows["bias_solved"]) for kind in ("positive", "negative"))
    return verdicts.check(max(bias, seen), MINIMISED, EQUALITY, n=len(rows), unit="residual")


def offset_of_ce() -> Finding:
    """The largest offset or bias under CE with a decayed bias."""
    rows = solved(recipes.LAMBDA_B, "ce")
    most = rows[["offset_solved", "bias_solved"]].abs().max().max()
    beyond = halves()[1]["offset_solved"].abs()
    control = verdicts.check(beyond.max(), MINIMISED, EQUALITY, n=len(beyond), unit="residual")
    return verdicts.check(most, MINIMISED, EQUALITY, n=len(rows), unit="residual").but(
        control=control.but(label="the offset of BCE beyond its critical decay"))


def still_etf() -> Finding:
    rows = halves()[1]
    return verdicts.check(rows["etf"].max(), MINIMISED, EQUALITY, n=len(rows), unit="residual")


def local_minima() -> Finding:
    """In what share of the settings does a restart end above the minimum?"""
    rows = pd.concat(halves())
    because = f"one of the {RESTARTS} restarts of one setting would do"
    return verdicts.check(float((rows["hits"] < RESTARTS).mean()), 0, because, n=len(rows), unit="share")


def thresholds(classes: tuple[int, ...] = (3, 10, 100), draws: int = 2000) -> Finding:
    """In what share of random settings without decay of the bias, and beyond the critical one, do the page's bounds on
    c say wrongly whether BCE's bias separates the scores?"""
    rng, wrong = np.random.default_rng(0), []
    for k in classes:
        c = rng.uniform(0.01, 1, draws) / k
        beyond = theory.critical_lambda_b("bce", k, c) * rng.uniform(1, 10, draws)
        for lambda_b, bound in ((np.zeros(draws), 1 / (2 * (k - 1))), (beyond, 1 / (2 * (k - 2)))):
            known = np.isfinite(lambda_b)
            m = theory.minimum("bce", k, c[known], lambda_b[known])
            wrong.append(((m.negative < m.bias) & (m.bias < m.positive)) != (c[known] < bound))
    wrong = np.concatenate(wrong)
    return verdicts.check(float(wrong.mean()), 0, "it is an equivalence", n=len(wrong), unit="share")


def one_less_up_to_critical() -> Finding:
    rows = lower_points()[lower_points()["multiple"] <= 1]
    apart = rows[["form", "found"]].sub(rows["bound"], axis=0).abs().max().max()
    return verdicts.check(apart, MINIMISED, "nats; what a search for the minimum leaves", n=len(rows), unit="residual")


def one_less_as_stated() -> Finding:
    """The theorem at d = K - 1: a point lower than every point of its form refutes it."""
    table = lower_points()
    lower = table["form"] - table["found"]
    holds = int((lower <= MINIMISED).sum())
    what = f"no point lies lower than the theorem's form by more than {MINIMISED:g} nats"
    finding = verdicts.shown(holds, len(table), what)
    late = markdown.listed(f"{x:g}" for x in table[lower > MINIMISED]["multiple"])
    return finding.but(detail=f"a lower point was found at these multiples of the critical decay: {late}")


def _claim(name: str, text: str, source: str, statistic: str, judge, **shown) -> Claim:
    return Claim(f"bias_saturates.{name}", text, source, statistic, judge, theory=True, **shown)


ROOM = Room(
    name=__name__, part="theory", number=3, title="The bias saturates", of_the_paper="theorem on BCE's minimum",
    asks="how does decay of the bias change BCE's minimum?",
    claims=(
        _claim("up_to_critical", "Up to a critical decay the bias of BCE's minimum solves the paper's equation, and "
               "classifier and class means form one centred simplex ETF", "the paper's Theorem 3.2",
               "the largest deviation of a numerical minimum", up_to_critical),
        _claim("as_stated", "BCE's minimum shows neural collapse at every decay of the bias, as Theorem 3.2 states",
               "the paper's Theorem 3.2 as stated for d >= K", "the share of settings in which it does", as_stated,
               front=8, effect="neural collapse at decays of the bias beyond the critical one"),
        _claim("closed_form", "The closed form is BCE's minimum, on both sides of the critical decay", "ours",
               "the largest difference from a numerical minimisation", closed_form),
        _claim("saturates", "Beyond the critical decay the bias is c divided by the decay, and scores minus bias are "
               "constant", "ours", "the largest deviation of a numerical minimum", saturates),
        _claim("still_etf", "Beyond the critical decay centred rows and class means still form aligned simplex ETFs",
               "ours", "the largest deviation of a numerical minimum", still_etf),
        _claim("ce", "Under CE the minimum has no offset at any decay of the bias, and any positive decay makes the "
               "bias zero", "ours", "the largest offset or bias of a numerical minimum", offset_of_ce),
        _claim("separation", "The bias separates the scores exactly below the page's two bounds on c", "ours",
               "the share of settings in which the bounds are wrong", thresholds),
        _claim("local_minima", "With at least as many dimensions as classes every local minimum is global", "ours",
               "the share of settings in which a restart ended above the minimum", local_minima),
        _claim("one_less_up_to_critical", "In K - 1 dimensions the theorem's form is the minimum up to the critical "
               "decay", "the paper's Theorem 3.2 for d = K - 1",
               "the largest distance of form, search and bound, in nats", one_less_up_to_critical),
        _claim("one_less_as_stated", "In K - 1 dimensions the theorem's form is the minimum for every decay of the "
               "bias", "the paper's Theorem 3.2 as stated for d = K - 1",
               "the share of settings in which no lower value was found", one_less_as_stated),
    ),
)
