"""The chapter on imbalance: does BCE raise the imbalance at which the minority classes collapse onto each other?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bcebook import names
from bcebook.chapters import recipes
from bcebook.chapters.room import Room
from bcebook.lazy import lazy
from bcebook.report import markdown, tables
from bcebook.claims import Claim
from bcebook.runs.config import RunConfig
from bcebook.science import verdicts
from bcebook.science.verdicts import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bcebook.runs.store import Run

np, pd, plt, lines = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot"), lazy("matplotlib.lines")
plots, tails = lazy("bcebook.report.plots"), lazy("bcebook.report.tails")

# Five values of lambda_W, with the paper's lambda_H, on both sides of the threshold of minority collapse. lambda_H,
# whose sum over the batch makes training stiff, stays; only the product counts. The long tail has few images, hence the
# epochs. One value is also trained longer, because near the threshold the tail opens slowly. The
# network, and (lambda_W, epochs):
FULL = "convnet", [(0.02, 300), (0.1, 300), (0.2, 300), (0.4, 300), (0.8, 300), (0.1, 1200)]
QUICK = "mlp", [(0.02, 150), (0.1, 150), (0.8, 150), (0.1, 450)]
IMBALANCE = 20
STYLE = {"ce": "-", "bce": "--"}


def configs(profile: str, seed: int) -> list[RunConfig]:
    """Long-tailed digits in every profile: the question is whether a network follows the theory, at settings of our
    own."""
    model, settings = QUICK if profile == "quick" else FULL
    return [RunConfig(model=model, dataset="digits", loss=loss, optimizer="sgd", learning_rate=0.1,
                      schedule="cosine", epochs=epochs, batch_size=recipes.BATCH_SIZE, seed=seed,
                      imbalance_factor=IMBALANCE, decay="decoupled", lambda_w=lambda_w,
                      lambda_h=recipes.PAPER_DECAY, lambda_b=0)
            for lambda_w, epochs in settings for loss in recipes.LOSSES]


# ---- figures ---------------------------------------------------------------------------------------------------------

def above_threshold() -> Figure:
    """Angles, lengths and biases of head and tail against the imbalance (at the paper's decay) and against c (at
    IMBALANCE)."""
    figure, axes = plt.subplots(3, 2, figsize=(8.6, 8.6), sharex="col", sharey="row")
    ratios, cs, product = np.geomspace(1, 2e4, 24), np.geomspace(1e-3, 6e-2, 24), tails.PAPER_PRODUCT
    sweeps = ((ratios, [(float(ratio), product) for ratio in ratios], 1 / (5 * product) - 1,
               "largest / smallest class"),
              (cs, [(float(IMBALANCE), float(10 * c**2)) for c in cs], np.sqrt(1 / (5 * (IMBALANCE + 1)) / 10),
               r"$c = \sqrt{\lambda_W \lambda_H B / K}$"))
    for column, (x, points, critical, label) in zip(axes.T, sweeps, strict=True):
        for loss in recipes.LOSSES:
            table = pd.DataFrame([tails.head_and_tail(loss, *point) for point in points])
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
    axes[0, 1].set_title(f"{IMBALANCE} to 1")
    handles = [lines.Line2D([], [], color=plots.COLOUR[loss], linestyle=style, label=f"{names.of(loss)}, {group}")
               for loss in recipes.LOSSES for group, style in (("large classes", "-"), ("small classes", "--"))]
    handles.append(lines.Line2D([], [], color="black", linewidth=0.8, linestyle=":", label="threshold"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def trained(runs: list[Run]) -> Figure:
    """Distance between tail rows (left) and test accuracies (right) of trained networks against the collapse size."""
    table, config = tails.trained_tails(runs), runs[0].config
    figure, (ax, right) = plt.subplots(1, 2, figsize=(8.6, 4.2))
    sizes = tails.class_sizes(runs[0])
    grid = np.geomspace(0.6 * table["lambda_w"].min(), 1.5 * table["lambda_w"].max(), 24)
    for loss in recipes.LOSSES:
        model = [tails.predicted_tail(loss, sizes, value, config.lambda_h, config.batch_size) for value in grid]
        ax.plot([size for _, size in model], [tail.distance for tail, _ in model], color="black", linewidth=0.8,
                linestyle=STYLE[loss])
        of, short = table[table["loss"] == loss], table["epochs"].min()
        longer, rows = of[of["epochs"] > short], of[of["epochs"] == short]
        colour = plots.COLOUR[loss]
        ax.scatter(longer["size"], longer["distance"], color=colour, s=44, zorder=3, marker="^")
        ax.scatter(rows["size"], rows["distance"], color=colour, s=36, zorder=3)
        right.plot(rows["size"], 100 * rows["accuracy"], color=colour, marker="o", linewidth=1)
        right.plot(rows["size"], 100 * rows["uniform"], color=colour, marker="o", linewidth=1, markerfacecolor="none",
                   linestyle=":")
    for each in (ax, right):
        for size in np.sort(sizes)[:3]:
            each.axvline(size, color=plots.GREY, linewidth=0.7, linestyle=":")
        each.set(xscale="log", xlabel="collapse size, images a class")
        each.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
        each.minorticks_off()
    ax.set(ylabel="distance of tail rows / of head rows", ylim=(0, None), title="The tail of the classifier")
    right.set(ylabel="test accuracy, percent", title="What it costs")
    _trained_legend(figure)
    return figure


def _trained_legend(figure: Figure) -> None:
    line, grey = lines.Line2D, {"color": plots.GREY, "marker": "o", "linewidth": 1}
    handles = [line([], [], marker="o", linestyle="", color=plots.COLOUR[loss],
                    label=f"{names.of(loss)}, trained") for loss in recipes.LOSSES]
    handles += [line([], [], color="black", linewidth=0.8, linestyle=STYLE[loss], label=f"{names.of(loss)}, predicted")
                for loss in recipes.LOSSES]
    handles += [line([], [], color=plots.GREY, marker="^", linestyle="", label="trained longer"),
                line([], [], **grey, label="accuracy"),
                line([], [], **grey, markerfacecolor="none", linestyle=":", label="uniform accuracy")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)


# ---- tables ----------------------------------------------------------------------------------------------------------

def thresholds_table() -> tables.Table:
    """Where bisection finds that the tail separates, over the theorem's value, and how far it opens just above."""
    columns = {"case": tables.Column("classes, of samples"),
               "lambda_b": tables.Column("$\\lambda_b$", lambda x: f"{x:g}"),
               "ce": tables.fixed("found / theorem, CE", 4), "bce": tables.fixed("found / theorem, BCE", 4),
               "apart": tables.fixed("distance, BCE / CE")}
    return tables.Table(tails.thresholds(), columns, (
        "*Distance*: between tail rows with 5 % more samples than at the threshold. The bisections' last steps are "
        f"{markdown.percent(tails.LAST_STEP, 2)} % wide.", tails.THRESHOLDS.note))


def sides_table() -> tables.Table:
    """Tails just below and just above the threshold, in few dimensions and with nonnegative features."""
    frame = tails.sides().pivot(index=["case", "features", "dim", "lambda_b"], columns="loss",
                                values=["below", "above", "norm"])
    frame = frame.reindex(list(dict.fromkeys(tails.sides().set_index(frame.index.names).index)))
    frame.columns = [f"{name}_{loss}" for name, loss in frame.columns]
    frame = frame.reset_index()
    columns = {"case": tables.Column("classes, of samples"), "features": tables.Column("features"),
               "dim": tables.Column("$d$"), "lambda_b": tables.Column("$\\lambda_b$", lambda x: f"{x:g}")}
    for side in ("below", "above"):
        for loss in recipes.LOSSES:
            name = f"{side}_{loss}"
            norms = frame[f"norm_{loss}"] if side == "above" else [np.nan] * len(frame)
            frame[name] = [tails.told(*row) for row in zip(frame[name], norms, strict=True)]
            columns[name] = tables.Column(f"{side}, {names.of(loss)}")
    return tables.Table(frame, columns, (
        f"The largest distance of two tail rows where their classes have {tails.ASIDE:.0%} fewer samples than at the "
        f"threshold (*below*) and {tails.ASIDE:.0%} more (*above*). The theorem says nothing of few dimensions above "
        "it.", tails.SIDES.note))


def opened_table() -> tables.Table:
    """The tail far from the threshold under both losses."""
    frame = tails.opened()
    columns = {"lambda_b": tables.Column("$\\lambda_b$", lambda x: f"{x:g}"), "loss": tables.Column("loss", names.of),
               "angle": tables.fixed("angle of small rows, degrees", 1),
               "around_mean": tables.fixed("around the mean row", 1),
               "distance": tables.fixed("distance, small / large", 3)}
    note = f"Five classes {frame['ratio'].iloc[0]:,.0f} times as large as the five others."
    return tables.Table(frame, columns, (note,))


def trained_table(runs: list[Run]) -> tables.Table:
    """Tail rows of trained networks beside the minimum's, and the sizes of the smallest classes."""
    frame = tails.trained_tails(runs)
    columns = {"lambda_w": tables.Column("$\\lambda_W$", lambda x: f"{x:g}"), "epochs": tables.Column("epochs"),
               "size": tables.fixed("size", 1), "loss": tables.Column("loss", names.of),
               "distance": tables.fixed("distance", 3),
               "predicted_distance": tables.fixed("model", 3), "cosine": tables.fixed("cosine"),
               "predicted_cosine": tables.fixed("model"),
               "accuracy": tables.percents(f"{names.MEASURE['accuracy']}, %"),
               "uniform": tables.percents(f"{names.MEASURE['uniform_accuracy']}, %")}
    sizes = np.sort(tails.class_sizes(runs[0])) if runs else []
    smallest = markdown.listed(map(str, sizes[:3]))
    notes = (f"The three smallest classes have {smallest} images, the largest {sizes[-1]}.",) if runs else ()
    return tables.Table(frame, columns, notes)


def long_tailed_table() -> tables.Table:
    """The paper's CIFAR100-LT settings beside the theorem's threshold."""
    frame = tails.cifar100_long_tailed().copy()
    frame["difference"] = frame["bce"] - frame["ce"]
    columns = {"factor": tables.Column("imbalance", lambda x: f"{x:g}"),
               "total": tables.Column("images", lambda x: f"{x:,.0f}"),
               "smallest": tables.Column("smallest class", lambda x: f"{x:.0f}"), "size": tables.fixed("collapse size"),
               "ratio": tables.fixed("smallest / size", 0),
               "ce": tables.percents("CE, %", 2), "bce": tables.percents("BCE, %", 2),
               "difference": tables.percents("BCE − CE", 2, True)}
    last = frame.iloc[-1]
    return tables.Table(frame, columns, (
        f"At imbalance {last['factor']:g} both decays would have to be {last['needed']:.4f} for its "
        f"{last['smallest']:.0f}-image classes to merge. "
        f"At the minimum there, the rows of the three smallest classes are {markdown.number(last['ce_tail'])} (CE) and "
        f"{markdown.number(last['bce_tail'])} (BCE) times as far apart as those of the three largest.",
        tails.LONG_TAILS.note))


# ---- claims of theory ------------------------------------------------------------------------------------------------

def threshold() -> Finding:
    table = tails.thresholds()
    apart = float((table[["ce", "bce"]] - 1).abs().max().max())
    found = verdicts.check(apart, tails.LAST_STEP, "the width of the bisections' last step", n=2 * len(table),
                           of="thresholds", unit="")
    return found.but(detail=f"the largest difference is {markdown.percent(apart, 3)} %")


def same_threshold() -> Finding:
    """The open question: the imbalance at which bisection finds BCE's tail merged, over CE's."""
    table = tails.thresholds()
    apart = float((table["bce"] / table["ce"] - 1).abs().max())
    found = verdicts.check(apart, 2 * tails.LAST_STEP,
                           "twice the width of the bisections' last step, one for each loss", n=len(table),
                           of="settings", unit="")
    return found.but(detail=f"the largest difference is {markdown.percent(apart, 3)} %")


def sides() -> Finding:
    """In few dimensions and with nonnegative features: the share of the minima that contradict the theorem, a tail that
    is apart below the threshold, or merged above it in spite of its features. Beside it the same without that
    exception."""
    table = tails.sides()
    below, above = table["below"], table.dropna(subset=["above"])
    open_early, closed = below > tails.MERGED, above["above"] <= tails.MERGED
    vanished = closed & (above["norm"] <= tails.MERGED)
    n, wrong = len(below) + len(above), int(open_early.sum())
    plain, found = (verdicts.check((wrong + int(count.sum())) / n, 0, "one counterexample is enough", n=n,
                                   of="minima", unit="share") for count in (closed, closed & ~vanished))
    return found.but(control=plain.but(label="the same test if a tail without features counts as well"),
                     detail=f"above the threshold {int(vanished.sum())} of {len(above)} tails have no features")


def opens_further() -> Finding:
    """Above the threshold, near it and far from it: is BCE's tail the wider one, relative to CE's?"""
    near = tails.thresholds()["apart"]
    wide = tails.opened().pivot(index="lambda_b", columns="loss", values="distance")
    ratios = pd.concat([near, wide["bce"] / wide["ce"]], ignore_index=True)
    found = verdicts.shown(int((ratios > 1).sum()), len(ratios),
                           "two small classes' rows are further apart under BCE than under CE")
    return found.but(detail=f"BCE's distance over CE's goes from {markdown.number(ratios.min())} to "
                            f"{markdown.number(ratios.max())}")


def far_from_collapse() -> Finding:
    """The collapse size of CIFAR100-LT at the default decays, over its smallest class."""
    table = tails.cifar100_long_tailed()
    found = verdicts.check(float((1 / table["ratio"]).max()), 1,
                           "where the collapse size is the class's, equal classes merge", n=len(table),
                           of="imbalances", unit="")
    return found.but(detail=f"the collapse size is at most {markdown.number(table['size'].max())} images, the smallest "
                            f"class at least "
                            f"{markdown.number(table['ratio'].min(), 0)} times that")


# ---- claims about trained networks -----------------------------------------------------------------------------------

def side(runs: list[Run]) -> Finding:
    """Is the tail of every network open where the model's is, and closed where the model's is? Needs networks on both
    sides."""
    table = tails.halves(runs)
    what = "network and model lie on the same side of halfway between a merged tail and the model's widest"
    if table["predicted_open"].nunique() < 2:
        return verdicts.every(0, 0, what)
    same = table["open"] == table["predicted_open"]
    found = verdicts.every(int(same.sum()), len(table), what)
    off = (table["distance"] - table["predicted_distance"]).abs()
    return found.but(detail=f"in {int(table['predicted_open'].sum())} of the {len(table)} runs the model's is open; "
                            f"distances differ from the "
                            f"model's by up to {markdown.number(off.max(), 3)}, in the middle by "
                            f"{markdown.number(off.median(), 3)}",
                     runs=tuple(table["key"]))


def losses_alike(runs: list[Run]) -> Finding:
    """Is BCE's tail on the side on which CE's is, at each lambda_W and length of training?"""
    table = tails.halves(runs)
    index = ["lambda_w", "epochs", "seed"]
    pairs = table.pivot(index=index, columns="loss", values="open").dropna() if len(table) else table
    both = len(pairs) and {"ce", "bce"} <= set(pairs.columns)
    return verdicts.every(int((pairs["ce"] == pairs["bce"]).sum()) if both else 0, len(pairs) if both else 0,
                          "both losses have their tails on the same side of halfway", of="pairs")


def time_helps(runs: list[Run]) -> Finding:
    """Does a network that is trained longer come nearer to the model's tail?"""
    table = tails.trained_tails(runs).dropna(subset=["distance"])
    table["off"] = (table["distance"] - table["predicted_distance"]).abs()
    pairs = [group.sort_values("epochs")["off"] for _, group in table.groupby(["lambda_w", "loss", "seed"])
             if group["epochs"].nunique() > 1]
    told = markdown.listed(f"{markdown.number(off.iloc[0], 3)} to {markdown.number(off.iloc[-1], 3)}" for off in pairs)
    found = verdicts.every(sum(off.iloc[-1] < off.iloc[0] for off in pairs), len(pairs),
                           "the longer training ends nearer to the model's tail", of="pairs")
    return found.but(detail=f"the distances from it change from {told}" if pairs else "")


def costs(runs: list[Run]) -> Finding:
    """Is the test accuracy lower at the largest lambda_W than at the smallest, under each loss?"""
    table = tails.trained_tails(runs)
    drops = []
    for _, group in table[table["epochs"] == table["epochs"].min()].groupby(["loss", "seed"]):
        if group["lambda_w"].nunique() > 1:
            ordered = group.sort_values("lambda_w")["accuracy"]
            drops.append(ordered.iloc[0] - ordered.iloc[-1])
    told = markdown.listed(f"{markdown.percent(drop)}" for drop in drops)
    found = verdicts.every(sum(drop > 0 for drop in drops), len(drops),
                           "the test accuracy with the most closed tail is below that with the widest",
                           of="pairs of runs")
    return found.but(detail=f"by {told} points; the decay that closes the tail acts on all classes, so that this is "
                            f"not the tail's doing alone"
                     if drops else "")


ROOM = Room(
    name=__name__, part="beyond", number=2, short="Imbalance", title="Imbalance and minority collapse",
    of_the_paper="an open question of it: minority collapse; table of CIFAR100-LT",
    asks="does BCE raise the imbalance that collapses the minority?",
    runs=configs, seeds={"paper": (0,)}, figures=(trained,), tables=(trained_table,),
    claims=(
        Claim("imbalance.threshold",
              "Equal tail classes merge at exactly $m \\le N^2 \\lambda_W \\lambda_H$, under CE and under BCE", "ours",
              "the largest relative difference between a bisected threshold and the theorem's", threshold, theory=True),
        Claim("imbalance.same_threshold",
              "BCE does not raise the imbalance at which the minority collapses: the losses have one threshold",
              "ours, on the paper's open question",
              "the largest relative difference between the bisected thresholds of the losses", same_threshold,
              theory=True),
        Claim("imbalance.sides",
              "In any number of dimensions, and with nonnegative features, tails merge below that size; above it "
              "nonnegative ones are apart, unless they have no features at all", "ours",
              "the share of the minima that contradict it", sides, theory=True),
        Claim("imbalance.opens_further", "Above the threshold BCE opens the tail further than CE", "ours (a lead)",
              "the share of the settings in which it does", opens_further, theory=True),
        Claim("imbalance.far_from_collapse",
              "At the default decays no class of CIFAR100-LT is near collapse, under either loss", "ours",
              "the largest collapse size over the smallest class", far_from_collapse, theory=True),
        Claim("imbalance.side", "Trained networks have open and closed tails where the minimum of the model does",
              "ours",
              "the share of the runs in which they do", side),
        Claim("imbalance.losses_alike", "Trained with BCE a tail closes where it does with CE",
              "ours, on the paper's open question",
              "the share of the pairs in which it does", losses_alike),
        Claim("imbalance.time_helps", "Longer training brings a tail nearer to the minimum's",
              "ours",
              "the share of the pairs of lengths in which it does", time_helps),
        Claim("imbalance.costs", "The test accuracy falls as the tail closes", "ours",
              "the share of the pairs of runs in which it does", costs),
    ),
)
