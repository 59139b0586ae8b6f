"""The chapter on fewer dimensions than classes: what takes the place of the simplex ETF, and who treats the classes
alike?"""

from __future__ import annotations

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
    from IPython.display import Markdown
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bcebook.science.theory import Solution

np, plt, lines = lazy("numpy"), lazy("matplotlib.pyplot"), lazy("matplotlib.lines")
codes, plots, theory = lazy("bcebook.report.codes"), lazy("bcebook.report.plots"), lazy("bcebook.science.theory")
predictions = lazy("bcebook.report.predictions")
spatial, display = lazy("scipy.spatial"), lazy("IPython.display")

SHOWN = (0.0, 0.05)  # free biases, decayed biases: the two columns of the drawings
STATIONARY = 1e-7  # to which a minimisation's balance is exact: its slope is at most about 1e-9 of its largest entry
ROUNDING = 1e-6  # gaps and margins that differ by less are equal
DRAWS = 20_000  # random arrangements that the lemma is tried on


# ---- figures ---------------------------------------------------------------------------------------------------------

def planes() -> Figure:
    """Eight classes in two dimensions: features as points, rows of W as arrows, and where each loss puts its
    boundaries."""
    figure, axes = plt.subplots(2, len(SHOWN), figsize=(7.6, 8), subplot_kw={"aspect": "equal"})
    for row, loss in zip(axes, recipes.LOSSES, strict=True):
        for ax, value in zip(row, SHOWN, strict=True):
            _plane(ax, loss, codes.minimiser(loss, 8, 2, value))
            biases = rf"$\lambda_b$ = {value:g}" if value else r"free biases ($\lambda_b$ = 0)"
            ax.set_title(f"{names.of(loss)}, {biases}")
    handles = [lines.Line2D([], [], marker="o", linestyle="", color=plots.GREY, label="feature of a class"),
               lines.Line2D([], [], color=plots.GREY, linewidth=2, alpha=0.5, label="classifier row, from the origin"),
               lines.Line2D([], [], color="#999999", linewidth=0.8, label="boundary of a class")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _plane(ax: Axes, loss: str, found: Solution) -> None:
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


def polyhedra() -> Figure:
    """Twelve classes in three dimensions: the features, and the edges of their convex hull."""
    figure = plt.figure(figsize=(7.6, 7.6))
    for i, (loss, value) in enumerate((loss, value) for loss in recipes.LOSSES for value in SHOWN):
        ax = figure.add_subplot(2, 2, i + 1, projection="3d")
        found = codes.minimiser(loss, 12, 3, value)
        _hull(ax, found.H.T / np.linalg.norm(found.H, axis=0).max(), plots.COLOUR[loss])
        angle = codes.properties(found)["angle"]
        ax.set_title(f"{names.of(loss)}, $\\lambda_b$ = {value:g}: smallest angle {angle:.1f}°", fontsize="small")
    return figure


def _hull(ax: Axes, X, colour: str) -> None:
    """Points X (K, 3) with the edges of their convex hull, and the origin as a cross."""
    hull = spatial.ConvexHull(X)
    # triangles of one face share their plane: draw its rim alone
    for normal in np.unique(hull.equations.round(5), axis=0):
        face = hull.simplices[np.abs(hull.equations - normal).max(axis=1) < 1e-4]
        edges = np.sort(np.concatenate([face[:, [0, 1]], face[:, [1, 2]], face[:, [0, 2]]]), axis=1)
        ax.plot_trisurf(*X.T, triangles=face, color=colour, alpha=0.08, linewidth=0, shade=False)
        for edge in edges[[np.all(edges == e, axis=1).sum() == 1 for e in edges]]:
            ax.plot(*X[edge].T, color=colour, linewidth=1.1)
    ax.scatter(*X.T, color=colour, s=34, depthshade=False)
    ax.scatter(0, 0, 0, color="black", s=12, marker="+")
    ax.set(xlim=(-0.62, 0.62), ylim=(-0.62, 0.62), zlim=(-0.62, 0.62), box_aspect=(1, 1, 1))
    ax.view_init(22, 28)
    ax.set_axis_off()


def against_bias_decay() -> Figure:
    """Smallest angle and uniform gap of both losses against lambda_b."""
    table = codes.against_decay()
    figure, axes = plt.subplots(2, len(codes.FOLLOWED), figsize=(8.6, 6), sharex=True, sharey="row")
    for column, (k, d) in zip(axes.T, codes.FOLLOWED, strict=True):
        rows = table[(table["K"] == k) & (table["d"] == d)]
        at = np.where(rows["lambda_b"] > 0, rows["lambda_b"], 2e-6)  # zero has no place on a logarithmic axis
        labels = ("smallest angle, degrees", "uniform gap")
        for ax, name, label in zip(column, ("angle", "gap"), labels, strict=True):
            for loss in recipes.LOSSES:
                ax.plot(at, rows[f"{loss}_{name}"], marker="o", markersize=4, color=plots.COLOUR[loss],
                        label=names.of(loss))
            ax.axhline(rows["code"].iloc[0] if name == "angle" else 0, color="black", linewidth=0.7)
            ax.set(xscale="log", ylabel=label)
            ax.label_outer()
        column[0].set_title(f"K = {k}, d = {d}")
        column[1].set(xlabel=r"$\lambda_b$")
        column[1].set_xticks([2e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1], ["0", *(f"$10^{{{p}}}$" for p in range(-5, 0))])
        column[1].minorticks_off()
    axes[0, 0].legend(loc="lower left")
    return figure


# ---- tables ----------------------------------------------------------------------------------------------------------

def _pair(frame, name: str, write) -> list[str]:
    """ "CE / BCE" of one property, a row each."""
    return [" / ".join(write(row[f"{loss}_{name}"]) for loss in recipes.LOSSES) for _, row in frame.iterrows()]


def survey_table() -> tables.Table:
    """What both losses make of pairs of K and d with free biases: each cell CE / BCE."""
    frame = codes.survey().copy()
    frame["setting"] = [f"{r.K}, {r.d}" for r in frame.itertuples()]
    writers = {"angle": markdown.number, "alike": lambda x: "yes" if x else "no",
               "margin": lambda x: markdown.number(x, 3),
               "gap": lambda x: markdown.number(x, 3), "uniform": markdown.number, "hits": "{:d}".format}
    heads = {"angle": "angle", "alike": "alike", "margin": "margin", "gap": "gap",
             "uniform": names.MEASURE["uniform_accuracy"],
             "hits": "starts"}
    columns = {"setting": tables.Column("$K$, $d$"), "code": tables.fixed("code")}
    for name, write in writers.items():
        frame[name] = _pair(frame, name, write)
        columns[name] = tables.Column(heads[name])
    signs = [f"larger in {(x > ROUNDING).sum()} settings, equal in {(x.abs() <= ROUNDING).sum()}, smaller in "
             f"{(x < -ROUNDING).sum()}"
             for x in (frame["bce_gap"] - frame["ce_gap"], frame["ce_margin"] - frame["bce_margin"])]
    aligned, biases, scores = ([markdown.number(least, digits) for least in ends] for ends, digits in (
        ([frame[f"{loss}_aligned"].min() for loss in recipes.LOSSES], 3),
        *(([frame[f"{loss}_{name}"].max() for loss in recipes.LOSSES], 1) for name in ("biases", "scores"))))
    return tables.Table(frame, columns, (
        f"Each pair is CE / BCE; *starts*: how many of {codes.RESTARTS} random starts reached the best minimum. BCE's "
        f"uniform gap is {signs[0]}. "
        f"CE's margin is {signs[1]}. Where classes differ, biases do by up to {biases[0]} (CE) and {biases[1]} (BCE), "
        f"positive scores by up "
        f"to {scores[0]} and {scores[1]}. The smallest cosine between a classifier row and its feature is {aligned[0]} "
        f"(CE) and "
        f"{aligned[1]} (BCE). The smallest plain accuracy is {frame[['ce_accuracy', 'bce_accuracy']].min().min():g}.",))


def small_decay() -> tables.Table:
    """Uniform gap and margin of both losses as the decay of W and H goes to zero, for one (K, d)."""
    frame = codes.towards_no_decay()
    k, d = (int(frame[name].iloc[0]) for name in ("K", "d"))
    columns = {"decay": tables.Column("decay", lambda x: f"{x:g}")}
    columns |= {f"{loss}_{name}": tables.fixed(f"{name}, {names.of(loss)}", 3)
                for name in ("gap", "margin") for loss in recipes.LOSSES}
    columns["bce_angle"] = tables.fixed("smallest angle, BCE")
    code = codes.code_angle(k, d)
    return tables.Table(frame, columns, (
        f"Here K = {k}, d = {d}. The best spherical code has an angle of {markdown.number(code)}°; as classifier and "
        f"features, with one "
        f"bias, its uniform gap and its margin are {markdown.number(1 - np.cos(np.radians(code)), 3)}.",))


def decay_table() -> tables.Table:
    """Which loss treats the classes alike with free biases and with the largest lambda_b of the sweep."""
    frame = codes.against_decay()
    frame = frame[frame["lambda_b"].isin([0.0, frame["lambda_b"].max()])].copy()
    frame["setting"] = [f"{r.K}, {r.d}" for r in frame.itertuples()]
    columns = {"lambda_b": tables.Column("$\\lambda_b$", lambda x: f"{x:g}"), "setting": tables.Column("$K$, $d$"),
               "code": tables.fixed("code")}
    writers = {"angle": markdown.number, "alike": lambda x: "yes" if x else "no", "gap": markdown.number,
               "accuracy": markdown.number}
    for name, write in writers.items():
        frame[name] = _pair(frame, name, write)
        columns[name] = tables.Column(names.MEASURE.get(name, name))
    return tables.Table(frame, columns, ("Each pair is CE / BCE.",))


def note() -> Markdown:
    """Which of the page's minimisations run on it."""
    return display.Markdown(codes.TABLE.note)


# ---- claims ----------------------------------------------------------------------------------------------------------

def carries_over() -> Finding:
    """Theorem one at every minimum of the survey: the balance of W and H, and a minimum above that of d >= K."""
    table = codes.survey()
    columns = [f"{loss}_balance" for loss in recipes.LOSSES]
    residuals = table[columns].to_numpy().ravel()
    above = [getattr(row, f"{loss}_objective") - theory.minimum(loss, row.K, predictions.paper_c(row.K)).objective
             for row in table.itertuples() for loss in recipes.LOSSES]
    worst = max(residuals) if min(above) > 0 else float("inf")  # a minimum below the bound would refute it as well
    found = verdicts.check(worst, STATIONARY,
                           "the accuracy of the minimisations; infinite if a minimum lies below that of d >= K",
                           n=len(residuals), of="minima")
    return found.but(detail=f"the smallest excess over the minimum of d >= K is {min(above):.1e} nats")


def each_its_margin() -> Finding:
    """Theorem two near its limit: CE has the larger margin, BCE the larger uniform gap."""
    last = codes.towards_no_decay().iloc[-1]
    ahead = {"margin": last["ce_margin"] - last["bce_margin"], "gap": last["bce_gap"] - last["ce_gap"]}
    found = verdicts.check(max(0.0, -min(ahead.values())), ROUNDING, "the accuracy of the minimisations", n=1)
    return found.but(detail=f"at K = {int(last['K'])}, d = {int(last['d'])} and the smallest decay, {last['decay']:g}, "
                            f"CE's margin minus BCE's is "
                            f"{markdown.number(ahead['margin'], 3, True)}, BCE's gap minus CE's "
                            f"{markdown.number(ahead['gap'], 3, True)}")


def needs_a_bias() -> Finding:
    """The lemma: of random arrangements of four classes in the plane none may separate without a bias."""
    counted = {k: codes.separated_without_bias(k, DRAWS) for k in (3, 4)}
    found = verdicts.check(counted[4], 0, "it says none", n=DRAWS, of="random arrangements of four classes", unit="")
    return found.but(detail=f"of as many random arrangements of three classes {counted[3]} separate")


def settled():
    """The rows of the survey in which more than one start reached the best minimum of each loss: what one start alone
    found may well not be the minimum, and refutes nothing."""
    table = codes.survey()
    return table[(table["ce_hits"] > 1) & (table["bce_hits"] > 1)]


def _shown(column, what: str, label: str = "") -> Finding:
    return verdicts.shown(int(column.sum()), len(column), what).but(label=label)


def _alike(loss: str) -> Finding:
    table = settled()
    unlike = table[~table[f"{loss}_alike"]]
    found = _shown(table[f"{loss}_alike"], "all classes have one bias and one positive score", names.of(loss))
    return found.but(detail=f"not in (K, d) = {markdown.listed(f'({r.K}, {r.d})' for r in unlike.itertuples())}")


def bce_alike() -> Finding:
    return _alike("bce").but(control=_alike("ce"))


def ce_unlike() -> Finding:
    found = _shown(~settled()["ce_alike"], "biases or positive scores differ from class to class")
    return found.but(control=_shown(~settled()["bce_alike"], "as above", names.of("bce")))


def _code(loss: str) -> Finding:
    table = settled()
    table = table[table["code"].notna() & table[f"{loss}_alike"]]
    reached = (table[f"{loss}_angle"] - table["code"]).abs() < codes.ANGLE
    found = _shown(reached, f"the smallest angle between rows is that of the best spherical code, to {codes.ANGLE:g}°",
                   names.of(loss))
    missed = markdown.listed(f"({r.K}, {r.d})" for r in table[~reached].itertuples())
    return found.but(detail=f"where the best code is proved and the classes are alike; not in (K, d) = {missed}")


def bce_code() -> Finding:
    return _code("bce").but(control=_code("ce"))


def gap_at_least() -> Finding:
    ahead = settled()["bce_gap"] - settled()["ce_gap"]
    found = _shown(ahead >= -ROUNDING, "BCE's uniform gap is at least CE's, both over the size of W and H")
    return found.but(detail=f"the differences go from {markdown.number(ahead.min(), 3, True)} to "
                            f"{markdown.number(ahead.max(), 3, True)}")


def _uniform(loss: str) -> Finding:
    full = settled()[f"{loss}_uniform"]
    found = _shown(full == 1, "uniform accuracy is full", names.of(loss))
    return found.but(detail=f"the smallest is {markdown.percent(full.min())} %")


def bce_uniform() -> Finding:
    return _uniform("bce").but(control=_uniform("ce"))


def exchanged() -> Finding:
    """In the settings followed, not in all: with free biases BCE's classes are alike and CE's are not; with the most
    decayed ones it is the other way round."""
    table = codes.against_decay()
    first, last = (table[table["lambda_b"] == value].reset_index() for value in (0.0, table["lambda_b"].max()))
    holds = first["bce_alike"] & ~first["ce_alike"] & last["ce_alike"] & ~last["bce_alike"]
    return _shown(holds, "BCE's classes are alike with free biases and not with decayed ones, CE's the other way round")


ROOM = Room(
    name=__name__, part="beyond", number=1, short="Fewer dimensions", title="Fewer dimensions than classes",
    of_the_paper="open question: fewer dimensions than classes",
    asks="what takes the place of the simplex ETF?",
    claims=(
        Claim("fewer_dimensions.carries_over", 
              "The balance of W and H holds in every dimension, and below $K - 1$ the minimum is higher", "ours",
              "the largest residual of the balance", carries_over, theory=True),
        Claim("fewer_dimensions.each_its_margin", 
              "As the decay vanishes, CE has the larger margin and BCE the larger uniform gap", "ours",
              "how far the order is violated at the smallest decay", each_its_margin, theory=True),
        Claim("fewer_dimensions.needs_a_bias", "In the plane four classes cannot be separated uniformly without a bias",
              "ours",
              "the random arrangements that are separated", needs_a_bias, theory=True),
        Claim("fewer_dimensions.bce_alike", "With free biases BCE treats all classes alike at every $K$ and $d$",
              "ours (a lead)",
              "the share of the settings in which it does", bce_alike, theory=True),
        Claim("fewer_dimensions.ce_unlike", "With free biases CE treats some class differently at every $K$ and $d$",
              "ours (a lead)",
              "the share of the settings in which it does", ce_unlike, theory=True),
        Claim("fewer_dimensions.bce_code", "Where classes are alike, BCE's rows are a best spherical code", "ours",
              "the share of the settings in which they are", bce_code, theory=True),
        Claim("fewer_dimensions.gap_at_least", 
              "With free biases BCE's uniform gap is at least CE's, also away from the limit", "ours",
              "the share of the settings in which it is", gap_at_least, theory=True),
        Claim("fewer_dimensions.bce_uniform", "With free biases BCE classifies every class correctly with one "
              "threshold", "ours",
              "the share of the settings in which it is", bce_uniform, theory=True),
        Claim("fewer_dimensions.exchanged", "Decaying the biases exchanges the roles of the losses", "ours",
              "the share of the settings followed in which it does", exchanged, theory=True),
    ),
)
