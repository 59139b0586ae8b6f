# ---
# jupyter:
#   bcebook:
#     experiment: long_tailed
#     items:
#     - long_tail
#     number: 3
#     of_the_paper: table of CIFAR100-LT
#     part: tables
#     question: is BCE more accurate than CE when classes are unequal?
#     short: Long tails
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-papermill
#     notebook_metadata_filter: kernelspec,jupytext,bcebook,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Long-tailed classes and the start of the biases

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% tags=["definitions"]
import math

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

from bcebook import frame, names, paper
from bcebook.chapters import recipes
from bcebook.claims import Claim
from bcebook.report import markdown, plots, tables, tails
from bcebook.report.seeds import tested
from bcebook.science import early_flow, stats, verdicts

MEASURES = {"train_accuracy": "training accuracy", "test_accuracy": "test accuracy",
            "test_uniform_accuracy": "test uniform accuracy"}
GROUPS = {f"test_accuracy_{group}": f"{group}-shot" for group in ("many", "medium", "few")}
EVEN = "$\\log(K - 1)$"


def from_zero(runs):
    """The runs whose biases start around 0."""
    return runs[runs["bias_init_mean"] == 0]


def started(runs):
    """BCE from each start, at the imbalances at which it has several."""
    at = runs.loc[runs["bias_init_mean"] != 0, "imbalance_factor"].unique()
    return runs[(runs["loss"] == "bce") & runs["imbalance_factor"].isin(at)]


def against_ce(runs, measures):
    """BCE minus CE, seed by seed: a row for each imbalance, start of BCE's biases and measure."""
    parts = [runs[(runs["loss"] == "ce") | (runs["bias_init_mean"] == start)].assign(start=start)
             for start in sorted(runs["bias_init_mean"].unique())] or [runs.assign(start=0.0)]
    pairs = frame.compare(pd.concat(parts).copy(), [each for each in measures if each in runs],
                          by=["imbalance_factor", "start"])  # not every run has measured the groups of classes
    return pairs.sort_values(["imbalance_factor", "start"], kind="stable", ignore_index=True)


def start_gain(runs, measures):
    """BCE from log(K - 1) minus BCE from 0, seed by seed: a row for each measure."""
    starts = runs["bias_init_mean"].max(), 0.0
    return frame.compare(started(runs), measures, by=["imbalance_factor"], on="bias_init_mean", groups=starts)


# %% tags=["definitions"]
def result(runs):
    """The result in one paragraph."""
    gained, lines = start_gain(runs, list(MEASURES)).assign(start=float("nan")), []
    pairs = pd.concat([each for each in (gained, against_ce(runs, list(MEASURES))) if len(each)] or [gained])
    for (factor, start), rows in pairs.groupby(["imbalance_factor", "start"], sort=False, dropna=False):
        effects = [f"{MEASURES[row.measure]} {tables.points(row.estimate)}" for row in rows.itertuples()]
        sides = f"{'0' if start == 0 else EVEN} minus {'BCE from 0' if pd.isna(start) else 'CE'}"
        lines.append(f"- BCE from {sides}, imbalance {factor:g}, {markdown.counted(rows['n'].max(), 'seed')}: "
                     f"{markdown.listed(effects)}")
    head = "The start of BCE's biases changes its result" if len(gained) else "BCE and CE"
    head = f"**{head} on {markdown.listed(runs['network'].unique())} with long-tailed classes.** "
    return Markdown("\n".join([f"{head}[95 % interval]; {runs['settled'].astype(bool).sum()} of {len(runs)} runs "
                               "have levelled off.", "", *lines]))


# %%
from bcebook import book

chapter = book.open("long_tailed", profile, device, data_dir, seeds)
runs = chapter.runs  # a DataFrame, one row a run
result(runs)


# %% [markdown]
# **The paper's claim** {cite:p}`li2025bce`: on long-tailed CIFAR100 (CIFAR100-LT), networks trained with BCE reach a
# higher accuracy than networks trained with CE.
#
# **The idea.** CE's probabilities start at $1/K$ for each of the $K$ classes, whatever the common bias is. BCE's
# sigmoids start at $1/2$ if its biases start at $b = 0$. For all classes but one that is far too high, so training
# first lowers all logits together. From $b = \log(K - 1)$ the sigmoid of a zero score is $1/K$, as under CE, and this
# phase is skipped. With many classes and a short training it matters.
#
# ## Theorem
#
# Let $f = \frac1N \sum_i \ell(W h_i - b, y_i)$ be the mean loss, $W$ the classifier with rows $w_k$, $h_i$ the features
# and $b$ the biases. $\sigma$ is the sigmoid. Training is gradient flow: each variable moves by minus its gradient. The
# *common mode* is the mean of the rows, and of the classes' mean features; the *contrasts* are the deviations from it.
#
# :::{admonition} Theorem
# **Same start.** Let BCE's biases all be $\log(K - 1)$, and CE's be equal. At $W = 0$, all gradients of both losses
# agree: for $W$, for the biases and for every weight of the network, with any features and any class sizes. With the
# features as free variables, both losses have the same linearised flow of $W$ and $H$ around $W = H = 0$.
#
# **Common mode.** Let the features be free and each class have $n$ samples, and hold the biases at $b$. Around
# $W = H = 0$ the contrasts grow at the rate $1 / (K \sqrt n)$, and the common mode at $\lvert 1 - K \sigma(-b) \rvert$
# times that rate: $0$ for $b = \log(K - 1)$, as under CE, and $(K - 2) / 2$ for $b = 0$.
#
# **Biases that move.** Let the biases follow the flow from $0$ instead. While $W$ and $H$ are small, the growing common
# mode is multiplied by $e^{b / \sqrt n}$ until they are at $b$, which stays below $(K - 1)^{1 / \sqrt n}$.
#
# **Features that are not small.** Let the features have any values, with the mean $\bar h$ over all samples. At $W = 0$
# and $b \ne \log(K - 1)$, the biases' share in the change of the mean logit at $\bar h$ is
# $1 / (1 + \lVert \bar h \rVert^2)$. The mean row causes the rest.
# :::
#
# **Proof.** With $p_i$ the softmax or the sigmoids of the logits, the residuals are $r_i = p_i - e_{y_i}$, and
#
# $$
# \dot W = -\frac1N \sum_i r_i h_i^\top, \qquad \dot h_i = -\frac1N W^\top r_i, \qquad \dot b = \frac1N \sum_i r_i .
# $$ (eq-early-flow)
#
# At $W = 0$ with equal biases, all entries of $p_i$ are one number $s$. It is $1/K$ under CE and $\sigma(-b)$ under
# BCE, which is $1/K$ exactly at $b = \log(K - 1)$. The network's weights get their gradient through $W^\top r_i = 0$.
# So all gradients agree. Around $W = H = 0$, $p_i$ deviates from $s$ to second order only, and {eq}`eq-early-flow` with
# $r_i = s \mathbf 1 - e_{y_i}$ depends on the loss through $s$ alone.
#
# For $n$ samples a class, let row $k$ of $G$ be $\sqrt n$ times the mean feature of class $k$. With
# $A = I - s \mathbf 1 \mathbf 1^\top$,
#
# $$
# \dot W = \frac{1}{K \sqrt n} A G, \qquad \dot G = \frac{1}{K \sqrt n} A W .
# $$ (eq-early-linear)
#
# $A$ has the eigenvalue $1$ on contrasts and $1 - s K$ on $\mathbf 1$. So the contrasts of $W + G$ grow at the rate
# $1 / (K \sqrt n)$, and the mean row of $W - G$ at $(s K - 1) / (K \sqrt n)$ where $s K \ge 1$. Each bias moves by
# $\dot b = s - 1/K$ at $W = H = 0$, so that the second rate is $\dot b / \sqrt n$; its integral over time is
# $b / \sqrt n$.
#
# The entries of each $r_i$ add up to $s K - 1$. By {eq}`eq-early-flow` at $W = 0$, the mean row moves by
# $-(s - 1/K)\, \bar h$ and the mean bias by $s - 1/K$. The mean logit at $\bar h$ therefore changes by
# $-(s - 1/K)(\lVert \bar h \rVert^2 + 1)$, where the $1$ is the biases' part. $\square$
#
# **What it does not cover.** The theorem is about the first phase, in continuous time, without momentum and weight
# decay. With unequal classes the single biases move from the first step on, at the same rates under both losses, and
# the modes mix. To second order the losses differ from $\log(K - 1)$ too: BCE then pulls on the common logit, and CE
# never does. The third part limits the second: while $W$ and $H$ are small, moving biases reach $\log(K - 1)$ before
# the common mode has grown much. In a network, features are not small, and behind a ReLU their mean is far from $0$.
# By the fourth part, the mean row then lowers the logits more than the biases do. Networks start from a small random
# $W$ instead of $W = 0$, and take finite steps.

# %% tags=["definitions"]
def phases(num_classes=10):
    """Length of contrasts and common mode over time, in the flow of free features."""
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), sharey=True)
    for name, loss, bias, moving, style in (
        ("CE", "ce", 0.0, False, "-"), (f"BCE, {EVEN} held", "bce", math.log(num_classes - 1), False, "--"),
        ("BCE, 0 held", "bce", 0.0, False, "-"), ("BCE, moving from 0", "bce", 0.0, True, ":")):
        path = early_flow.simulate(loss, num_classes, bias, 12.0 * num_classes, moving=moving, start=1e-3)
        axes[0].plot(path.times, path.contrasts, style, color=plots.COLOUR[loss], label=name)
        axes[1].plot(path.times, path.common, style, color=plots.COLOUR[loss])
    axes[0].set(title="Contrasts", ylabel="length", yscale="log")
    axes[1].set(title="Common mode")
    plt.setp(axes, xlabel="time")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


# %% mystnb={"figure": {"caption": "Gradient flow of a classifier and free features from a small random start, ten classes with one sample each: length of the contrasts (left) and of the common mode (right) against time. CE; BCE with biases held at $\\log(K - 1)$; BCE with biases held at $0$; BCE with biases that move from $0$.", "name": "fig-early-flow"}, "image": {"alt": "Two panels against time with logarithmic lengths. Left, the contrasts: four curves rise together and level off. Right, the common mode: it stays level at first under CE and from $\\log(K - 1)$, rises fourfold as fast as the contrasts with biases held at zero, and rises a little before it levels off with moving biases."}}
phases();


# %% [markdown]
# **What the figure shows.** Left: the contrasts, which tell classes apart, grow nearly alike in all four flows. Right:
# with biases held at $0$ the common mode grows first, until it has lowered all logits. Moving biases stop it early. The
# small free features of this model therefore do not explain why a network lags from $0$.
#
# ## The networks

# %% tags=["definitions"]
def published():
    """BCE minus CE in the paper's table, by imbalance."""
    table = paper.long_tailed().pivot(index="imbalance_factor", columns="loss", values="accuracy").sort_index()
    return table[["ce", "bce"]].assign(difference=(table["bce"] - table["ce"]).round(6))  # the table's own digits


def labelled(pairs):
    """Pairs with a label for each imbalance and start, and the paper's difference at that imbalance."""
    label = [f"{row.imbalance_factor:g}, BCE from {'log(K − 1)' if row.start else 0}" for row in pairs.itertuples()]
    return pairs.assign(label=label, paper=pairs["imbalance_factor"].map(published()["difference"]))


def by_start(runs):
    """BCE minus CE in training, test and uniform accuracy, a row for each imbalance and start."""
    return plots.differences(labelled(against_ce(runs, list(MEASURES))), MEASURES, {"test_accuracy": "paper"})


def by_group(runs):
    """BCE minus CE in accuracy on the many-, medium- and few-shot classes, a row for each imbalance and start."""
    return plots.differences(labelled(against_ce(runs, list(GROUPS))), GROUPS, {})


# %% mystnb={"figure": {"caption": "BCE minus CE after the last epoch, for each imbalance and start of BCE's biases: accuracy on the training set, accuracy on the test set, uniform accuracy on the test set. Faint dots: single seeds. Large dots and bars: their mean and its 95 % interval (Student's t). Hollow diamonds: the paper's table of CIFAR100-LT.", "name": "fig-long-tailed"}, "image": {"alt": "Three dot plots with a row for each imbalance and start of the biases: BCE minus CE in training accuracy, in test accuracy and in test uniform accuracy, each with its seeds, their mean and interval, a line at zero and, for the test accuracy, the paper's difference."}}
by_start(runs);

# %% [markdown]
# **What the figure shows.** Compare the two starts at one imbalance. The left panel shows how well BCE fits its own
# training set against CE. Where it fits worse, a lower test accuracy may only show that the
# training was too short. The right panel shows uniform accuracy, in which BCE leads CE by many points from either
# start.
#
# A class with more than $100$ training images is *many-shot*, one with fewer than $20$ *few-shot*, all others are
# *medium-shot* {cite:p}`liu2019`. Each group's accuracy is over all test images of its classes:

# %% mystnb={"figure": {"caption": "BCE minus CE in accuracy on the test images of the many-, medium- and few-shot classes; as above. A row without a dot has no such class or no pair of runs.", "name": "fig-long-tailed-groups"}, "image": {"alt": "Three dot plots, for many-shot, medium-shot and few-shot classes, with a row for each imbalance and start of the biases: BCE minus CE in accuracy, with the seeds, their mean and interval, and a line at zero."}}
by_group(runs);


# %% [markdown]
# The start raises the mean difference in all three groups. Compare the panels: what BCE lacks from $\log(K - 1)$ is in
# the classes with fewer images.
#
# ## Verdicts
#
# A claim about the end of training is *still moving* if fewer than half of its runs have levelled off. The effect of
# the start is a claim about short trainings and is judged on all runs.

# %% tags=["definitions"]
def gaps(runs, measure):
    """BCE minus CE: a row for each seed and a column for each imbalance that has a pair."""
    table = runs.reindex(columns=["seed", "imbalance_factor", "loss", measure])
    table = table.pivot(index=["seed", "imbalance_factor"], columns="loss", values=measure).reindex(columns=names.LOSS)
    return (table["bce"] - table["ce"]).unstack("imbalance_factor").dropna(axis="columns", how="all")


def at_each(table):
    """Is each column of such a table above zero? Student's interval over the seeds, Holm over the imbalances."""
    parts = [tested(each.dropna(), unit="points", label=f"imbalance {factor:g}") for factor, each in table.items()]
    return verdicts.family(parts, stats.holm, of="imbalances")


def few_higher(runs):
    """Is BCE higher on the few-shot classes? Beside it: on the many-shot ones."""
    control = at_each(gaps(runs, "test_accuracy_many")).but(label="the same test on the many-shot classes")
    return at_each(gaps(runs, "test_accuracy_few")).but(control=control)


def few_more(runs):
    """Is BCE minus CE larger on the few-shot classes than on the many-shot ones, at each imbalance that has both?"""
    more = gaps(runs, "test_accuracy_few") - gaps(runs, "test_accuracy_many")
    return at_each(more.dropna(axis="columns", how="all"))


def grows(runs):
    """Is BCE minus CE larger at the largest imbalance than at the smallest?"""
    found = gaps(runs, "test_accuracy")
    if found.shape[1] < 2:
        return tested([])
    low, high = found.columns[[0, -1]]
    detail = f"BCE − CE at {high:g} minus BCE − CE at {low:g}, paired by seed"
    return tested((found[high] - found[low]).dropna(), unit="points").but(detail=detail)


# %% tags=["definitions"]
def table(gap, what, of):
    """Are all these differences of the paper's table above zero?"""
    each = [f"{markdown.percent(x, 2, sign=True)} points at {at:g}" for at, x in published()["difference"].items()]
    found = verdicts.every(int((gap.dropna() > 0).sum()), len(gap.dropna()), what, of=of)
    return found.but(detail=f"BCE − CE is {markdown.listed(each)}; the table has no seeds and no intervals")


def claim(name, text, statistic, judge, source="ours", **how):
    """A claim about the end of training from 0, unless `how` says otherwise."""
    return Claim(f"long_tailed.{name}", text, source, statistic, judge, **{"compares": from_zero, "end": True} | how)


def of_start(name, text, what, measure, unit="points"):
    """A claim about the effect of the start."""
    return claim(name, text, f"BCE from {EVEN} minus BCE from 0, in {what}, paired by seed",
                 lambda runs: tested([gap for each in start_gain(runs, measure)["each"] for gap in each], unit=unit),
                 compares=started, end=False)


TABLE = "the paper's table of CIFAR100-LT"
HIGHER = "the imbalances at which BCE's {} is higher, after Holm's adjustment"
THEORY = {"theory": True, "compares": None, "end": False}
CLAIMS = (
    of_start("start", f"In a short training, BCE is more accurate if its biases start at {EVEN} than if they start at "
             "0", "test accuracy", "test_accuracy"),
    of_start("start_fits", f"In a short training, BCE fits its training set better from {EVEN} than from 0",
             "training accuracy", "train_accuracy"),
    of_start("start_scores", f"The median negative score ends higher from {EVEN} than from 0: the biases account "
             "for more of the negative logits", "the median negative score of the training set", "train_negative",
             unit="difference"),
    claim("same_flow", f"From {EVEN}, BCE has CE's linearised flow of classifier and free features around zero, for "
          "any class sizes", "the largest difference of the two Jacobians, relative to CE's",
          lambda: early_flow.same_flow([tails.long_tailed_sizes(factor) for factor in published().index]), **THEORY),
    claim("common_mode", "With biases held at 0, the common mode grows $(K - 2) / 2$ times as fast as the contrasts; "
          f"under CE, and from {EVEN}, it does not grow", "the largest difference of an eigenvalue, or of a simulated "
          "rate, from the theorem's, relative to the largest rate", early_flow.common_mode, **THEORY),
    claim("moving_biases", r"Biases that move from 0 to $b$ let the common mode grow by the factor $e^{b / \sqrt n}$",
          "the largest difference of the simulated factor from it, in logarithms", early_flow.moving, **THEORY),
    claim("contrasts_lag", f"In the flow of free features, contrasts take longer from 0 than from {EVEN}",
          "the share of the simulations in which they do", early_flow.lag, "ours (a lead)", **THEORY),
)

# %% tags=["definitions"]
CLAIMS += (
    claim("higher", "BCE reaches a higher accuracy than CE on long-tailed classes", HIGHER.format("test accuracy"),
          lambda runs: at_each(gaps(runs, "test_accuracy")), TABLE),
    claim("higher_uniform", "BCE reaches a higher uniform accuracy than CE on long-tailed classes",
          HIGHER.format("uniform accuracy on the test set"), lambda runs: at_each(gaps(runs, "test_uniform_accuracy"))),
    claim("grows", "BCE's gain in accuracy is larger at the largest imbalance than at the smallest",
          "the difference of the two gains", grows, "ours, on the paper's table"),
    claim("few_higher", "BCE is more accurate than CE on the few-shot classes",
          HIGHER.format("accuracy on their test images"), few_higher),
    claim("few_more", "BCE's gain is larger in the few-shot classes than in the many-shot ones",
          "the imbalances at which the difference of the two gains is above zero, after Holm's adjustment", few_more),
    claim("table_higher", "In the paper's own table, BCE has a higher accuracy than CE at every imbalance",
          "its imbalances at which BCE is higher",
          lambda: table(published()["difference"], "BCE is above CE", "imbalances"), TABLE, **THEORY),
    claim("table_grows", "In the paper's own table, BCE's gain grows with the imbalance",
          "the steps from one of its imbalances to the next at which BCE − CE grows",
          lambda: table(published()["difference"].diff(), "BCE − CE is larger than at the next smaller imbalance",
                        "steps"), "ours, on the paper's table", **THEORY),
)

# %%
chapter.judge(CLAIMS, runs)


# %% [markdown]
# ## The numbers
#
# Both losses, from each start of BCE's biases, beside the paper's table:

# %% tags=["definitions"]
def accuracies(runs):
    """CE, BCE from each start, and BCE minus CE, beside the paper's table."""
    titles, key = MEASURES | GROUPS, ["loss", "imbalance_factor", "bias_init_mean"]
    rows = labelled(against_ce(runs, list(titles)))
    means = frame.summarise(runs, list(titles), by=key).set_index(key)
    rows["ce"] = [means.loc[("ce", row.imbalance_factor, 0.0), row.measure] for row in rows.itertuples()]
    rows["bce"] = [means.loc[("bce", row.imbalance_factor, row.start), row.measure] for row in rows.itertuples()]
    columns = {"accuracy": ("title", str), "imbalance": ("label", str), "CE": ("ce", tables.percent_std), "BCE":
               ("bce", tables.percent_std), "BCE − CE [95 %]": ("estimate", tables.points), "seeds": ("n", str)}
    for name, column in published().items():
        rows[f"paper {name}"] = rows["imbalance_factor"].map(column).where(rows["measure"] == "test_accuracy")
        columns[f"paper, {names.LOSS.get(name, 'BCE − CE')}"] = f"paper {name}", lambda x: markdown.percent(x, 2)
    rows = rows.assign(title=rows["measure"].map(titles), order=rows["measure"].map(list(titles).index))
    counts = [tails.shots_of(run) for run in runs.sort_values("imbalance_factor")["run"]]
    return tables.styled(rows.sort_values(["order", "imbalance_factor", "start"]), columns, (
        "Percent after the last epoch, mean ± standard deviation over the seeds. The paper's network, optimizer and "
        "start of the biases are not known here. Classes: " + "; ".join(dict.fromkeys(counts)) + "."))


# %%
accuracies(runs)


# %% [markdown]
# ## Biases or scores
#
# A negative logit is a negative score minus a bias. The biases' share in it is here the mean bias, divided by the mean
# bias minus the median negative score:

# %% tags=["definitions"]
def starts(runs):
    """BCE from each start: accuracies, where biases and negative scores end, and the biases' share in the logit."""
    chosen = started(runs)
    chosen = chosen.assign(share=chosen["bias_end"] / (chosen["bias_end"] - chosen["train_negative"]))
    measures = [*MEASURES, "bias_end", "train_negative", "share"]
    rows = frame.summarise(chosen, measures, by=["imbalance_factor", "bias_init_mean"])
    rows = rows.assign(seeds=[each.n for each in rows["share"]])
    ends = {"mean bias": ("bias_end", lambda each: markdown.number(each.mean)),
            "median negative score": ("train_negative", lambda each: markdown.number(each.mean))}
    return tables.styled(rows.sort_values(["imbalance_factor", "bias_init_mean"]), {
        "imbalance": ("imbalance_factor", "{:g}"), "biases start at": ("bias_init_mean", "{:g}"),
        **{title: (measure, tables.percent_std) for measure, title in MEASURES.items()}, **ends,
        "biases' share, %": ("share", tables.percent_std), "seeds": ("seeds", str)},
        "Percent; bias and scores of the training set after the last epoch.")


# %%
starts(runs)

# %% [markdown]
# From $0$ the biases stay near their start, and the scores account for nearly the whole negative logit. The fourth part
# of the theorem predicts this for the first steps if the mean feature is long. The runs do not record the mean feature,
# so the share itself cannot be predicted. From $\log(K - 1)$ the biases account for much more.
#
# ## Details
#
# Digits are another task than CIFAR100; there only the differences can be compared with the paper's.
#
# Of $K$ classes, class $k = 0, \dots, K - 1$ keeps
#
# $$
# n_k = n\, r^{-k / (K - 1)}
# $$ (eq-long-tail)
#
# training images, where $n$ is the size of the smallest full class and $r$ the *imbalance*. All runs at one imbalance
# see the same images, whatever their seed. The test set keeps all its images. Weight decay, augmentation (DA1) and
# learning rates are those of the former recipe in {doc}`accuracy`, with SGD.
#
# At the minimum of the model in {doc}`imbalance`, tail classes of equal size merge below a certain size. The classes of
# CIFAR100-LT are far larger, so merging does not explain a difference between the losses here.
#
# {doc}`bias_travels` shows how long biases take from their start. {doc}`departures` lists all differences from the
# paper. Below: the same figures, tables and verdicts from the runs of other profiles, and the settings behind all
# numbers.

# %% tags=["definitions"]
VIEWS = (by_start, by_group, accuracies, starts)

# %% tags=["hide-output"]
chapter.rebuilt(VIEWS, CLAIMS)

# %% tags=["hide-output"]
chapter.provenance()
