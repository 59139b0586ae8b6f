"""The chapter on the published figures: which of their medians does a minimum predict to which nothing was fitted?"""

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
    import pandas
    from matplotlib.figure import Figure

np, pd, plt, lines = lazy("numpy"), lazy("pandas"), lazy("matplotlib.pyplot"), lazy("matplotlib.lines")
plots, predictions = lazy("bcebook.report.plots"), lazy("bcebook.report.predictions")
flows, orthogonal = lazy("bcebook.report.flows"), lazy("bcebook.report.orthogonal")
theory = lazy("bcebook.science.theory")

SCHEDULES = {"authors-step": "step, as in the authors' loop", "authors-cosine": "cosine, as in the authors' loop",
             "constant": "never lowered"}
SWEEPS = {"initial_bias_mean": "start", "lambda_b": "$\\lambda_b$"}


# ---- figures ---------------------------------------------------------------------------------------------------------

def decay_sweep() -> Figure:
    """BCE against lambda_b: both minima as lines, the published medians as hollow markers."""
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 7.4), sharex=True, sharey="row")
    lambda_b = np.geomspace(3e-6, 1, 120)
    for ax, (k, optimizer) in zip(axes.flat, [(x, y) for x in (10, 100) for y in recipes.OPTIMIZERS], strict=True):
        for features, width, colour in (("free", 0.8, "black"), ("nonnegative", 2.4, "#BBBBBB")):
            found = pd.DataFrame([predictions.minimum(features, "bce", k, float(value)) for value in lambda_b])
            for kind in ("positive", "bias", "negative"):
                ax.plot(lambda_b, found[kind], color=colour, linewidth=width, linestyle="--" if kind == "bias" else "-",
                        zorder=1 if features == "free" else 0)
                if features == "free":
                    ax.text(2.7e-6, found[kind][0], kind, fontsize="x-small", ha="right", va="center")
        rows = predictions.where(predictions.medians(), loss="bce", varied="lambda_b", optimizer=optimizer)
        for model, of in rows[rows["dataset"].map(predictions.CLASSES) == k].groupby("model"):
            aside = {"ViT": 0.86, "Swin": 1.16, "ResNet18": 1}[model]
            ax.scatter(of["value"] * aside, of["median"], marker=plots.MARKER[model], s=24, facecolor="none",
                       edgecolor="black", linewidth=0.8)
        critical = theory.critical_lambda_b("bce", k, predictions.paper_c(k))
        ax.axvline(critical, color=plots.GREY, linewidth=0.8, linestyle=":")
        ax.set(xscale="log", xlim=(2.5e-7, 1), xlabel=r"$\lambda_b$", ylabel="decision score or bias",
               title=f"{k} classes, {names.of(optimizer)}")
        ax.label_outer()
    handles = [lines.Line2D([], [], color="black", linewidth=0.8, label="minimum, free features"),
               lines.Line2D([], [], color="#BBBBBB", linewidth=2.4, label="minimum, nonnegative features"),
               lines.Line2D([], [], color=plots.GREY, linewidth=0.8, linestyle=":",
                            label="critical $\\lambda_b$, free")]
    figure.legend(handles=[*plots.paper_handles(plots.MARKER), *handles], loc="outside lower center", ncols=3)
    return figure


def scatter() -> Figure:
    """Published against predicted, a panel for each loss and optimizer; thin black line: equal."""
    table = predictions.medians()
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 8), sharex=True, sharey=True)
    panels = [(loss, optimizer) for loss in recipes.LOSSES for optimizer in recipes.OPTIMIZERS]
    for ax, (loss, optimizer) in zip(axes.flat, panels, strict=True):
        panel = predictions.where(table, loss=loss, optimizer=optimizer)
        for (model, dataset), rows in panel.groupby(predictions.NETWORK):
            ax.scatter(rows["predicted"], rows["median"], marker=plots.MARKER[model], s=20, facecolor="none",
                       edgecolor=plots.COLOUR[loss], alpha=0.45 if dataset == "cifar100" else 1)
        ax.axline((0, 0), slope=1, color="black", linewidth=0.7, zorder=1)
        ax.set(xlabel="predicted", ylabel="published median",
               title=f"{names.of(loss)}, {names.of(optimizer)}: {panel['within'].sum()} of {len(panel)} agree")
        ax.label_outer()
    _network_legend(figure, "full colour: CIFAR10 or unstated; pale: CIFAR100")
    return figure


def drift() -> Figure:
    """CE's bias against lambda_b: published medians, the schedules' predictions, one fitted exponential a panel."""
    table, lambda_b = predictions.medians(), np.geomspace(3e-6, 1, 300)
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 4.4), sharey=True)
    times = predictions.implied_times(table).set_index(predictions.PANEL)
    for ax, optimizer in zip(axes, recipes.OPTIMIZERS, strict=True):
        rows = predictions.where(table, loss="ce", varied="lambda_b", quantity="bias", optimizer=optimizer)
        for key, of in rows.groupby(predictions.PANEL):
            colour = plots.GREY if key[1] == "cifar100" else "black"
            ax.scatter(of["value"], of["median"], marker=plots.MARKER[key[0]], s=28, facecolor="none", edgecolor=colour,
                       linewidth=0.9, zorder=3)
            if key in times.index and times.loc[[key], "fits"].item():
                middle = times.loc[[key], ["low", "high"]].mean(axis=1).item()
                ax.plot(lambda_b, predictions.ce_drift(lambda_b, middle), color=plots.GREY, linewidth=0.7,
                        linestyle=":")
        if optimizer == "sgd":
            for schedule, style in (("authors-step", "-"), ("authors-cosine", "--")):
                ax.plot(lambda_b, predictions.ce_drift(lambda_b, predictions.effective_time(schedule)), color="black",
                        linewidth=0.9, linestyle=style)
        ax.set(xscale="log", xlabel=r"$\lambda_b$", title=names.of(optimizer))
    axes[0].set_ylabel("CE's bias after training")
    _network_legend(figure, "black: CIFAR10 or unstated; grey: CIFAR100")
    return figure


def _network_legend(figure: Figure, words: str) -> None:
    handles = [*plots.paper_handles(plots.MARKER), lines.Line2D([], [], linestyle="", label=words)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handletextpad=0.2)


# ---- tables ----------------------------------------------------------------------------------------------------------

def counts() -> tables.Table:
    """How much of what is published each minimum predicts: a row for each sweep, network and optimizer, and their
    sums."""
    every, single = predictions.medians(), predictions.values()

    def row(name: str, sweep: str, **conditions) -> dict:
        all_rows, rows = (predictions.where(table, varied=sweep, **conditions) for table in (every, single))
        told = {"setting": name, "sweep": SWEEPS[sweep], "all": len(all_rows),
                "all_within": int(all_rows["within"].sum()),
                "values": len(rows)}
        told |= {kind: int(rows[kind].sum()) for kind in ("within_free", "within_nonnegative", "within_other")}
        told["medians"] = f"{told['all_within']} of {told['all']}"
        return told

    rows = []
    for sweep in SWEEPS:
        settings = every[[*predictions.NETWORK, "optimizer"]].drop_duplicates()
        rows += [row(f"{names.network(s.model, s.dataset)}, {names.of(s.optimizer)} ({predictions.FEATURES[s.model]})",
                     sweep, model=s.model,
                     dataset=s.dataset, optimizer=s.optimizer) for s in settings.itertuples()]
        rows.append(row("**all**", sweep))
    columns = {"setting": tables.Column("network, data, optimizer (features)"), "sweep": tables.Column("sweep"),
               "medians": tables.Column("medians"), "values": tables.Column("values"),
               "within_free": tables.Column("free"),
               "within_nonnegative": tables.Column("nonnegative"), "within_other": tables.Column("other loss")}
    trivial = every[every["trivial"]]
    held = orthogonal.published()
    scores = predictions.where(every, model="ResNet18", loss="ce", quantity="positive")["median"].median()
    ten, hundred = (predictions.minimum("nonnegative", "ce", k, 0.0)["positive"] for k in (10, 100))
    return tables.Table(pd.DataFrame(rows), columns, (
        f"Of the {len(every)} medians {every['within'].sum()} agree; {len(trivial)} of them are CE's biases without "
        f"decay, whose prediction is "
        f"their own start ({trivial['within'].sum()} agree). What is left are {len(single)} values.",
        f"The two minima differ by more than the reading error in {len(held)} of ResNet18's values, of which "
        f"{held['nearer'].sum()} lie nearer to that of "
        f"nonnegative features. ResNet18's data set is not stated: its positive score under CE is "
        f"{markdown.number(scores)}, the minimum's "
        f"{markdown.number(ten)} for 10 classes and {markdown.number(hundred)} for 100. We take 10."))


def _settings(frame: pandas.DataFrame) -> list[str]:
    """Network, data, loss and optimizer of each row in words."""
    return [f"{names.network(row.model, row.dataset)}, {names.of(row.loss)}, {names.of(row.optimizer)}"
            for row in frame.itertuples()]


def panels() -> tables.Table:
    """The residuals of every panel and how they read, by the words that stand below the table."""
    frame = predictions.panels(predictions.medians())
    frame["setting"] = _settings(frame)
    frame["agree"] = [f"{r.within} of {r.medians}" for r in frame.itertuples()]
    columns = {"setting": tables.Column("network, data, loss, optimizer"), "varied": tables.Column("sweep", SWEEPS.get),
               "agree": tables.Column("agree"), "middle": tables.fixed("residual, median", 2, sign=True),
               "largest": tables.fixed("largest"), "reading": tables.Column("reading")}
    told = markdown.listed(f"*{reading}* {count}" for reading, count in frame["reading"].value_counts().items())
    return tables.Table(frame, columns, (f"{len(frame)} panels: {told}.",))


def told() -> tables.Table:
    """How many medians of each panel agree with the minimum, and how many with the flow at one time a network and
    optimizer."""
    frame = flows.panels().copy()
    frame["setting"] = _settings(frame)
    for name, of in (("by_minimum", "within"), ("by_flow", "flow")):
        frame[name] = [f"{count} of {n}" for count, n in zip(frame[of], frame["medians"], strict=True)]
    columns = {"setting": tables.Column("network, data, loss, optimizer"), "varied": tables.Column("sweep", SWEEPS.get),
               "told": tables.Column("predicted by"), "by_minimum": tables.Column("minimum"),
               "by_flow": tables.Column("flow")}
    return tables.Table(frame, columns)


def times() -> tables.Table:
    """The effective times that CE's published biases allow, and which schedule's lie among them."""
    frame = predictions.implied_times(predictions.medians())
    frame["setting"] = [f"{names.network(r.model, r.dataset)}, {names.of(r.optimizer)}" for r in frame.itertuples()]
    frame["time"] = [f"{r.low:,.0f} to {r.high:,.0f}" if r.fits else "none" for r in frame.itertuples()]
    frame["schedule"] = [markdown.listed(_fitting(r)) if r.optimizer == "sgd" else markdown.DASH
                         for r in frame.itertuples()]
    columns = {"setting": tables.Column("network, data, optimizer"), "count": tables.Column("medians that tell it"),
               "time": tables.Column("effective time that fits"), "schedule": tables.Column("schedules that have it")}
    told = markdown.listed(f"{predictions.effective_time(name):,.0f} ({words})" for name, words in SCHEDULES.items())
    return tables.Table(frame, columns, (f"Effective times of SGD with the paper's first rate, epochs and batches: "
                                         f"{told}.",))


def _fitting(row) -> list[str]:
    return [name for name in SCHEDULES if row.low <= predictions.effective_time(name) <= row.high]


# ---- claims ----------------------------------------------------------------------------------------------------------

def _by_optimizer(table: pandas.DataFrame, column: str) -> str:
    """ "1 of 5 with SGD and 2 of 4 with AdamW"."""
    return markdown.listed(f"{of[column].sum()} of {len(of)} with {names.of(name)}"
                           for name, of in table.groupby("optimizer", sort=False))


def forgets(loss: str) -> Finding:
    """In how many published panels do the final biases of all starts agree?"""
    table = predictions.by_start(loss)
    table["holds"] = table["spread"] <= 2 * table["error"]
    by = _by_optimizer(table, "holds")
    found = verdicts.every(int(table["holds"].sum()), len(table),
                           "the biases of all starts end within twice the reading error of each other",
                           of="panels", label=f"the same test on {names.of(loss)}")
    return found.but(detail=f"{by}; the largest spread is {markdown.number(table['spread'].max())}, the smallest "
                            f"{markdown.number(table['spread'].min())}")


def bce_forgets() -> Finding:
    return forgets("bce").but(control=forgets("ce"))


def between(loss: str) -> Finding:
    table = predictions.by_start(loss)
    return verdicts.every(int(table["between"].sum()), int(table["starts"].sum()),
                          "the bias's median lies between those of the scores", of="published starts",
                          label=f"the same test on {names.of(loss)}")


def bce_between() -> Finding:
    return between("bce").but(control=between("ce"))


def stays(loss: str) -> Finding:
    table = predictions.by_start(loss)
    holds = table["moved"] <= table["error"] + predictions.SLACK + 1e-9
    found = verdicts.every(int(holds.sum()), len(table),
                           "no bias ends further from its start than the reading error plus "
                           f"{predictions.SLACK:g} (the biases are drawn around the start)", of="panels",
                           label=f"the same test on {names.of(loss)}")
    return found.but(detail=f"the furthest moved by {markdown.number(table['moved'].max())}")


def ce_stays() -> Finding:
    return stays("ce").but(control=stays("bce"))


def agrees(sweep: str, column: str = "within") -> Finding:
    """How many of the values of one sweep lie within the tolerance of the minimum."""
    table = predictions.where(predictions.values(), varied=sweep)
    found = verdicts.every(int(table[column].sum()), len(table),
                           "published and predicted differ by at most the reading error plus "
                           f"{predictions.SLACK:g} (a trained network is never quite there)", of="values",
                           label="the same values beside the OTHER loss's minimum")
    return found.but(detail=_by_optimizer(table, column))


def starts_agree() -> Finding:
    return agrees("initial_bias_mean").but(control=agrees("initial_bias_mean", "within_other"))


def decays_agree() -> Finding:
    return agrees("lambda_b").but(control=agrees("lambda_b", "within_other"))


def exponential(optimizer: str) -> Finding:
    table = predictions.implied_times(predictions.medians())
    table = table[table["optimizer"] == optimizer]
    return verdicts.every(int(table["fits"].sum()), len(table),
                          "one effective time fits all medians that have neither decayed nor stayed", of="panels",
                          label=f"the same test with {names.of(optimizer)}")


def sgd_exponential() -> Finding:
    return exponential("sgd").but(control=exponential("adamw"))


def schedule_fits() -> Finding:
    table = predictions.implied_times(predictions.medians())
    table = table[table["optimizer"] == "sgd"]
    known = [predictions.effective_time(name) for name in ("authors-step", "authors-cosine")]
    holds = sum(any(r.low <= time <= r.high for time in known) for r in table.itertuples())
    longer = int((table["low"] > predictions.effective_time("constant")).sum())
    found = verdicts.every(holds, len(table),
                           "the time of one of the schedules of the authors' loop lies among those that fit",
                           of="panels")
    return found.but(detail=f"{longer} exceed even the time of a rate that is never lowered")


def minimum_or_flow() -> Finding:
    """The panels that the minimum or, where training was too short for it, the flow predicts."""
    frame = flows.panels()
    kinds, n = frame["told"].value_counts(), len(frame)
    found = verdicts.every(n - int(kinds.get("neither", 0)), n, "two thirds of a panel's medians lie within the "
                           "tolerance of the minimum, or of the flow at the one effective time of its network and "
                           "optimizer", of="panels")
    counted = markdown.listed(f"{kinds.get(kind, 0)} by {kind}" for kind in ("minimum", "flow"))
    left = _by_optimizer(frame.assign(neither=frame["told"] == "neither"), "neither")
    return found.but(detail=f"of {n}: {counted}, {kinds.get('neither', 0)} by neither ({left})")


ROOM = Room(
    name=__name__, part="theory", number=5, items=("transformers",),
    short="Published and predicted", title="The closed form beside the published figures",
    of_the_paper="bias and score figures of ViT, Swin and ResNet18",
    asks="does the minimum predict what the networks show?",
    claims=(
        Claim("published_predicted.bce_forgets", "BCE's final bias does not depend on its initial mean",
              "the paper's bias figures", "the share of the published panels that do", bce_forgets, theory=True),
        Claim("published_predicted.bce_between", "BCE's bias settles between the negative and the positive scores",
              "the paper's bias figures", "the share of the published starts for which it does", bce_between,
              theory=True),
        Claim("published_predicted.ce_stays", "CE's biases stay where they start", "the paper's bias figures",
              "the share of the published panels in which they do", ce_stays, theory=True),
        Claim("published_predicted.starts_agree", 
              "With free biases the published networks are at the minimum, judged by one value for each network and "
              "quantity",
              "ours", "the share of the values that agree", starts_agree, theory=True),
        Claim("published_predicted.decays_agree", 
              "With decayed biases the published networks are at the minimum of each $\\lambda_b$", "ours",
              "the share of the values that agree", decays_agree, theory=True),
        Claim("published_predicted.sgd_exponential", "Under SGD only decay moves CE's bias, at one rate for each panel",
              "ours", "the share of SGD's panels that one exponential fits", sgd_exponential, theory=True),
        Claim("published_predicted.schedule_fits", 
              "That rate is the one of the authors' training loop, with its step or its cosine schedule", "ours",
              "the share of SGD's panels that are compatible with it", schedule_fits, theory=True),
        Claim("published_predicted.minimum_or_flow",
              "The published panels show the minimum, or the flow towards it after one effective time", "ours",
              "the share of the panels that one of the two predicts", minimum_or_flow, theory=True),
    ),
)
