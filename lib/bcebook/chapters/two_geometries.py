"""The chapter on the two geometries: which features does each loss ask for, and how hard? No run enters."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    from numpy import ndarray
    from pandas import DataFrame

np, pd, plt = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot")
theory, uniform = lazy("bcebook.science.theory"), lazy("bcebook.science.uniform")
predictions = lazy("bcebook.report.predictions")
model_plots, plots = lazy("bcebook.report.model_plots"), lazy("bcebook.report.plots")

CLASSES = (2, 3, 10, 100, 1000)
LEVEL = 0.05  # of the loss, in nats: far below log 2, which one undecided class costs
SPREADS = (0, 1, 2, 4, 8)
PAIRS = ((5, 4), (1, 0), (0, -1), (-4, -5), (5, -5), (0, -10), (10, 0))  # four of one difference, three of another
ROUNDING = 1e-9  # far above float64's rounding of logits and squared distances below a thousand, far below any effect
DASHED = (0, (4, 2))


def geometry(loss: str, num_classes: int, c: float) -> dict[str, float]:
    """The minimum for lambda_b = 0 in distances, W and H scaled so that rows and features have one length, sqrt(s).

    s, bias: positive score and bias; length: sqrt(s); apart: the distance D* of two rows; radius: R (0 for CE, which
    does not see it); own, between: the widest angle, in degrees, to its own row of a feature of that length in d >= K
    dimensions that meets the loss's condition, and the angle of two rows. Source: ours.
    """
    m = theory.minimum(loss, num_classes, c)
    radius = np.sqrt(2 * (m.positive - m.bias)) if loss == "bce" else 0.0  # b < s for every c used here
    return {"s": m.positive, "bias": m.bias, "length": np.sqrt(m.positive),
            "apart": np.sqrt(2 * (m.positive - m.negative)), "radius": radius,
            "own": np.degrees(np.arccos(m.bias / m.positive)),
            "between": np.degrees(np.arccos(-1 / (num_classes - 1)))}


# ---- figures ------------------------------------------------------------------------------------------------------

def distance_plane(num_classes: int = 10, reach: float = 7.0) -> Figure:
    """Level sets of both losses over the distances to the own and to all other class vectors, with the region of each
    and the distances that a feature alike to all other classes can have, of one length (solid) and of any (dashed)."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 5.4), sharey=True)
    own, other = np.meshgrid(*[np.linspace(0, reach, 281)] * 2)
    for ax, loss in zip(axes, recipes.LOSSES, strict=True):
        at = geometry(loss, num_classes, predictions.paper_c(num_classes))
        distance = np.stack([own] + [other] * (num_classes - 1), axis=-1)
        model_plots.region(ax, loss, own, other, (at["radius"] ** 2 - distance**2) / 2, [0.1, 1, 2, 5, 10, 20])
        # One length: the scores of a feature sum to 0, so that D_y^2 + (K-1) D_j^2 = 2 s K.
        alike, black = np.linspace(0, 2 * at["length"], 200), {"color": "black", "linewidth": 0.9}
        ax.plot(alike, np.sqrt((2 * at["s"] * num_classes - alike**2) / (num_classes - 1)), **black)
        # Any length: no further from the diagonal than the multiples of the own row, h = (1 +- D_y / sqrt s) w_y.
        far = np.linspace(0, reach, 200)
        for along in (1, -1):
            edge = far**2 + at["apart"] ** 2 * (1 + along * far / at["length"])
            ax.plot(far, np.sqrt(edge), linestyle=DASHED, **black)
        ax.plot(0, at["apart"], "o", color="black", markersize=6, clip_on=False, zorder=5)
        ax.set(xlabel="distance $D_y$ to the own class vector", title=f"{names.of(loss)}, {num_classes} classes",
               aspect="equal", xlim=(0, reach), ylim=(0, reach))
    axes[0].set_ylabel("distance $D_j$ to every other")
    axes[0].text(1.6, 1.35, "$D_j = D_y$", rotation=45, rotation_mode="anchor", ha="center", va="top",
                 fontsize="small", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axes[1].plot([at["radius"]] * 2, [0, at["radius"]], color=plots.GREY, linewidth=0.8, linestyle=":")
    axes[1].text(at["radius"] + 0.1, 0.12, "$R$", fontsize="small")
    figure.legend(handles=[
        model_plots.key("level sets of the loss, in nats", color=plots.GREY),
        model_plots.key("the minimum", marker="o"),
        model_plots.key("features of one length, alike to all other classes"),
        model_plots.key("multiples of the own class vector", linestyle=DASHED)], loc="outside lower center", ncols=2)
    return figure


def feature_plane(c: float = 0.2, reach: float = 2.4) -> Figure:
    """Three classes in two dimensions: where a feature of the first class, which points up, meets each loss's
    condition."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 5.4), sharey=True)
    x, y = np.meshgrid(*[np.linspace(-reach, reach, 321)] * 2)
    angle = np.radians([90, 210, 330])
    for ax, loss in zip(axes, recipes.LOSSES, strict=True):
        at = geometry(loss, 3, c)
        rows = at["length"] * np.column_stack([np.cos(angle), np.sin(angle)])  # (3, 2)
        model_plots.region(ax, loss, x, y, np.stack([x, y], axis=-1) @ rows.T - at["bias"], [0.5, 1, 1.5, 2, 3])
        ax.add_patch(plt.Circle((0, 0), at["length"], fill=False, color="black", linewidth=0.9))
        for k, row in enumerate(rows):
            ax.plot(*row, "o", color="black", markerfacecolor="black" if k == 0 else "white", markersize=7, zorder=5)
            if loss == "bce":
                ax.add_patch(plt.Circle(row, at["radius"], fill=False, color="black", linewidth=0.9, linestyle=DASHED))
        ax.set(title=f"{names.of(loss)}, 3 classes", aspect="equal", xlabel="feature, first coordinate")
    axes[0].set_ylabel("feature, second coordinate")
    figure.legend(handles=[
        model_plots.key("level sets of the loss, in nats", color=plots.GREY),
        model_plots.key("features as long as the class vectors"),
        model_plots.key("balls of radius $R$", linestyle=DASHED), model_plots.key("own class vector", marker="o"),
        model_plots.key("the other two", marker="o", markerfacecolor="white")], loc="outside lower center", ncols=3)
    return figure


def pulls(num_classes: int = 10) -> Figure:
    """The gradient on the positive score and on each negative one, against that score, the others held at three
    values."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=True)
    x = np.linspace(-10, 10, 201)
    for own, ax in enumerate(axes[::-1]):  # own = 1: the left panel, where the positive score varies
        for held, style in ((-4, ":"), (0, "-"), (4, "--")):
            logits = np.full((x.size, num_classes), float(held))
            logits[:, :1] = x[:, None] if own else held
            logits[:, 1:] = held if own else x[:, None]
            said = {"ce": f"CE, the others at {markdown.number(held, 0)}",
                    "bce": "BCE, whatever the others are" if held == 4 else None}
            for loss, form in (("ce", {"linestyle": style}), ("bce", {"linewidth": 2.6})):
                pull = np.abs(model_plots.loss_and_gradient(loss, logits)[1][:, 1 - own])
                ax.plot(x, pull, color=plots.COLOUR[loss], label=said[loss], **form)
    axes[0].set(xlabel="positive score minus bias", title="Pull up on the positive score")
    axes[1].set(xlabel="negative scores minus bias", title="Push down on each negative score")
    axes[0].set_ylabel("size of the gradient")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


# ---- tables -------------------------------------------------------------------------------------------------------

def balls(classes: tuple[int, ...] = CLASSES) -> tables.Table:
    """`geometry` for each number of classes, at the paper's decay and batch size."""
    rows = []
    for k in classes:
        ce, bce = (geometry(loss, k, predictions.paper_c(k)) for loss in recipes.LOSSES)
        rows.append({
            "classes": k, "s_ce": ce["s"], "s_bce": bce["s"], "bias": bce["bias"], "radius": bce["radius"],
            "apart": bce["apart"], "own_ce": ce["own"], "own_bce": bce["own"], "between": bce["between"],
            "caps": "disjoint" if bce["own"] <= bce["between"] / 2 + 1e-9 else "overlap"})
    columns = {"classes": tables.Column("$K$"), "s_ce": tables.fixed("$s$, CE"), "s_bce": tables.fixed("$s$, BCE"),
               "bias": tables.fixed("$b$, BCE"), "radius": tables.fixed("$R$"), "apart": tables.fixed("$D^*$"),
               "own_ce": _degrees("widest, CE"), "own_bce": _degrees("widest, BCE"),
               "between": _degrees("between rows"), "caps": tables.Column("caps")}
    overlap = [str(row["classes"]) for row in rows if row["caps"] == "overlap"]
    note = f"Numbers of classes whose caps overlap under BCE: {markdown.listed(overlap)}."
    return tables.Table(pd.DataFrame(rows), columns, (note,))


def _degrees(head: str) -> tables.Column:
    return tables.Column(head, lambda x: f"{markdown.number(x, 1)}°")


def gradients(num_classes: int = 10) -> tables.Table:
    """Both losses and their gradients at some pairs of positive and negative logit, where all negative ones agree."""
    logits = np.array([[p] + [n] * (num_classes - 1) for p, n in PAIRS], float)
    frame = pd.DataFrame({"positive": logits[:, 0], "negative": logits[:, 1]})
    columns = {name: tables.fixed(name, 0) for name in frame}
    for loss in recipes.LOSSES:
        value, gradient = model_plots.loss_and_gradient(loss, logits)
        for what, numbers in (("", value), (", on positive", gradient[:, 0]), (", on negative", gradient[:, 1])):
            frame[f"{loss}{what}"] = numbers
            columns[f"{loss}{what}"] = tables.fixed(f"{names.of(loss)}{what}", 4)
    return tables.Table(frame, columns)


@functools.cache
def shifts(num_classes: int = 10, samples: int = 2000, spreads: tuple[float, ...] = SPREADS) -> DataFrame:
    """The minimum's logits, a normal random number of that spread added to all of a sample's: mean loss (value), the
    largest change of a sample's loss, accuracy and uniform accuracy. Source: ours."""
    rows, draws, labels = [], np.random.default_rng(0).normal(size=(samples, 1)), np.zeros(samples, int)
    for loss in recipes.LOSSES:
        m = theory.minimum(loss, num_classes, predictions.paper_c(num_classes))
        for spread in spreads:
            still = np.r_[m.positive, np.full(num_classes - 1, m.negative)] - m.bias  # (K,)
            logits = still + spread * draws  # (samples, K)
            value, before = (model_plots.loss_and_gradient(loss, z)[0] for z in (logits, [still]))
            rows.append({"loss": loss, "spread": spread, "value": value.mean(), "change": np.abs(value - before).max(),
                         "accuracy": uniform.accuracy(logits, labels),
                         "uniform": uniform.uniform_accuracy(logits, labels)[0]})
    return pd.DataFrame(rows)


def shifts_table(num_classes: int = 10, samples: int = 2000) -> tables.Table:
    """`shifts`, a row for each spread, CE beside BCE."""
    table = shifts(num_classes, samples)
    wide = table.pivot(index="spread", columns="loss", values=["value", "accuracy", "uniform"]).reset_index()
    wide.columns = ["_".join(part for part in column if part) for column in wide.columns]
    columns = {"spread": tables.significant("spread")}
    columns |= {f"value_{loss}": tables.fixed(f"mean {names.of(loss)}", 4) for loss in recipes.LOSSES}
    for measure, head in (("accuracy", "$A$"), ("uniform", names.MEASURE["uniform_accuracy"])):
        columns |= {f"{measure}_{loss}": tables.percents(f"{head}, {names.of(loss)}'s logits")
                    for loss in recipes.LOSSES}
    change = table.groupby("loss")["change"].max()
    return tables.Table(wide, columns, (
        f"{samples:,} samples of {num_classes} classes; accuracies in percent. The largest change in the loss of any "
        f"sample is {markdown.power(change['ce'])} nats under CE and {markdown.significant(change['bce'])} under "
        "BCE.",))


# ---- claims -------------------------------------------------------------------------------------------------------

def with_control(test: Callable[[str], Finding], claimed: str) -> Finding:
    """The finding for the loss that a statement is about, with the other loss on the same test as its control."""
    other = "bce" if claimed == "ce" else "ce"
    return test(claimed).but(control=test(other).but(label=f"the same test on {names.of(other)}"))


def random_logits(samples: int = 500, num_classes: int = 10, seed: int = 0) -> ndarray:
    """Logits (B, K) from far too low to far too high, right and wrong samples alike."""
    return np.random.default_rng(seed).normal(scale=4, size=(samples, num_classes))


def shift_changes(loss: str) -> Finding:
    """How much does a shift of all of a sample's logits change its loss? 0 for a loss that sees differences only."""
    logits = random_logits()
    moved = logits + np.random.default_rng(1).normal(scale=8, size=(len(logits), 1))
    change = np.subtract(*(model_plots.loss_and_gradient(loss, z)[0] for z in (moved, logits)))
    return verdicts.check(np.abs(change).max(), ROUNDING, "rounding", n=len(logits), of="samples", unit="residual")


def others_change(loss: str) -> Finding:
    """How much does the gradient on a logit change when the sample's other logits are drawn anew?"""
    logits, most = random_logits(), 0.0
    for kept in range(logits.shape[1]):
        anew = random_logits(seed=1 + kept)
        anew[:, kept] = logits[:, kept]
        before, after = (model_plots.loss_and_gradient(loss, z)[1][:, kept] for z in (logits, anew))
        most = max(most, float(np.abs(after - before).max()))
    return verdicts.check(most, ROUNDING, "rounding", n=logits.size, of="logits", unit="residual")


@functools.cache
def drawn(num_classes: int = 6, dim: int = 8, samples: int = 4000) -> tuple[ndarray, ndarray, ndarray]:
    """Features of many lengths around a simplex ETF of rows, each with a bias of its own, so that for some a single
    logit makes nearly all of the loss: logits (B, K) and distances (B, K), column 0 the own class, and R^2 (B,)."""
    rng, length = np.random.default_rng(2), 2.1
    rows, bias = length * theory.simplex_etf(num_classes, dim), rng.uniform(-20, 20, size=(samples, 1))
    h = rng.normal(size=(samples, dim)) * rng.uniform(0.1, 8, size=(samples, 1))
    h = h + rng.uniform(0, 8, size=(samples, 1)) * rows[0]
    distances = np.linalg.norm(h[:, None] - rows, axis=2)
    return h @ rows.T - bias, distances, length**2 + (h**2).sum(axis=1) - 2 * bias[:, 0]


def leaves_the_balls(loss: str) -> Finding:
    """By how much, in squared distance, does a feature leave the balls that its own loss, as the level, allows?"""
    logits, distances, radius2 = drawn()
    level = np.maximum(model_plots.loss_and_gradient(loss, logits)[0], 1e-16)  # CE can round to 0
    room = 2 * (level + np.log(-np.expm1(-level)))  # 2 log(e^level - 1), which would overflow
    out = np.maximum(distances[:, 0] ** 2 - radius2 - room, radius2 - room - distances[:, 1:].min(axis=1) ** 2)
    return verdicts.check(max(0.0, float(out.max())), ROUNDING, "rounding", n=len(out), of="features", unit="residual")


def far_out(loss: str, keeps_radius: bool, num_classes: int = 10) -> Finding:
    """The largest loss of features h = tau w_y at distances from 10 to 1,000 lengths from their own row, an ETF's with
    the length of the minimum. keeps_radius: the bias follows, so that R stays that of the minimum; else b stays."""
    at = geometry("bce", num_classes, predictions.paper_c(num_classes))
    rows = at["length"] * theory.simplex_etf(num_classes, num_classes)
    h = (1 + np.geomspace(10, 1000, 9)[:, None]) * rows[0]  # D_y = (tau - 1) |w_y|
    lengths2 = (h**2).sum(axis=1, keepdims=True)
    bias = (at["s"] + lengths2 - at["radius"] ** 2) / 2 if keeps_radius else at["bias"]
    worst = float(model_plots.loss_and_gradient(loss, h @ rows.T - bias)[0].max())
    because = "nats, far below log 2, which one undecided class costs"
    return verdicts.check(worst, LEVEL, because, n=len(h), of="distances", unit="residual")


def any_length() -> Finding:
    """With a bias that stays, is BCE near 0 at any distance too?"""
    control = far_out("bce", keeps_radius=True).but(label="the same features, with the bias that keeps R")
    return far_out("bce", keeps_radius=False).but(control=control)


def widest(loss: str, num_classes: int) -> float:
    """The widest angle, in degrees, to which a feature of the rows' length can be tilted from its own row towards a
    direction orthogonal to all rows before it fails the loss's condition: by halving, from the condition alone."""
    at, low, high = geometry(loss, num_classes, predictions.paper_c(num_classes)), 0.0, np.pi
    rows = theory.simplex_etf(num_classes, num_classes)  # the last axis is orthogonal to all of them
    for _ in range(60):
        tilt = (low + high) / 2
        h = np.cos(tilt) * rows[0] + np.sin(tilt) * np.eye(num_classes)[-1]
        met = model_plots.margin(loss, (at["s"] * h @ rows.T - at["bias"])[None])[0] > 0
        low, high = (tilt, high) if met else (low, tilt)
    return float(np.degrees(low))


def angle() -> Finding:
    """The formula of the widest angle against `widest`, and against random features: none that is right is wider."""
    apart, cases = 0.0, [(loss, k) for loss in recipes.LOSSES for k in (2, 3, 10, 100)]
    for loss, k in cases:
        at = geometry(loss, k, predictions.paper_c(k))
        rng, rows = np.random.default_rng(k), theory.simplex_etf(k, k)
        h = rng.normal(size=(2000, k)) / np.sqrt(k) + rng.uniform(0, 3, size=(2000, 1)) * rows[0]
        h /= np.linalg.norm(h, axis=1, keepdims=True)
        right = model_plots.margin(loss, at["s"] * h @ rows.T - at["bias"]) > 0
        wider = np.degrees(np.arccos(np.minimum(h[right] @ rows[0], 1))).max() - at["own"]
        apart = max(apart, float(wider), abs(widest(loss, k) - at["own"]))
    return verdicts.check(apart, 1e-6, "degrees; rounding of an arc cosine", n=len(cases), unit="residual")


def moves_the_mean(loss: str) -> Finding:
    """The largest sum over the classes of a sample's gradient: what moves the mean of the biases."""
    total = np.abs(model_plots.loss_and_gradient(loss, random_logits())[1].sum(axis=1))
    return verdicts.check(total.max(), ROUNDING, "rounding", n=len(total), of="samples", unit="residual")


COMPARISON, DRAWING = "the paper's comparison of relative and absolute scores", "the paper's figure of feature regions"
ROOM = Room(
    name=__name__, part="theory", number=1, items=("regions",),
    short="Two geometries",
    title="Two losses, two geometries",
    of_the_paper="drawing of both losses' feature regions", asks="which features does each loss favour?",
    claims=(
        Claim("two_geometries.relative",
              "CE measures relative scores: a shift of all logits of a sample does not change it", COMPARISON,
              "the largest change of a sample's loss, in nats", lambda: with_control(shift_changes, "ce"),
              theory=True),
        Claim("two_geometries.absolute",
              "BCE measures absolute scores: the gradient with respect to a logit does not depend on the other logits",
              COMPARISON,
              "the largest change of that gradient when the other logits are drawn anew",
              lambda: with_control(others_change, "bce"), theory=True),
        Claim("two_geometries.ball",
              "At a given R, a level of BCE keeps features inside a closed ball around their own class vector and "
              "outside those around the others", DRAWING,
              "the largest squared distance by which a feature leaves the proposition's balls",
              lambda: with_control(leaves_the_balls, "bce"), theory=True),
        Claim("two_geometries.unbounded",
              "At a given R, a level of CE permits features at any distance from their own class vector", DRAWING,
              "the largest loss of features far out along their own row, with the bias that keeps R, in nats",
              lambda: with_control(lambda loss: far_out(loss, True), "ce"), theory=True),
        Claim("two_geometries.any_length",
              "At a given bias, for features of any length, a level of BCE permits any distance too", "ours",
              "the largest BCE of features far out along their own row, in nats", any_length, theory=True),
        Claim("two_geometries.angle",
              "Among features of one length both regions are bounded and differ by an angle: a right one for CE, the "
              "arc cosine of b/s for BCE", "ours",
              "the largest disagreement of that angle with a search and with random features, in degrees", angle,
              theory=True),
        Claim("two_geometries.mean_bias", "CE's gradient leaves the mean of the biases unchanged", "ours",
              "the largest sum over the classes of a sample's gradient", lambda: with_control(moves_the_mean, "ce"),
              theory=True),
    ),
)
