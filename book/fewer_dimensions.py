# ---
# jupyter:
#   bcebook:
#     number: 1
#     of_the_paper: 'an open question of it: fewer dimensions than classes'
#     part: beyond
#     question: what takes the place of the simplex ETF?
#     short: Fewer dimensions
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
# # Fewer dimensions than classes

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% tags=["definitions"]
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown

from bcebook import names
from bcebook.chapters import recipes
from bcebook.claims import Claim
from bcebook.report import codes, markdown, plots, tables
from bcebook.science import verdicts

SHOWN = (0.0, 0.05)  # free biases, decayed biases: the two columns of the drawing


def result():
    """The result in one paragraph."""
    table, row, one = settled(), codes.poles().iloc[0], codes.shared()
    unlike = one[one["even"] & ~one["alike"]]
    return Markdown(
        f"**With free biases, BCE treats all classes alike in {table['bce_alike'].sum()} of {len(table)} settings with "
        f"fewer dimensions than classes, CE in {table['ce_alike'].sum()}.** BCE does not do so in general. For K = 5 "
        f"classes in d = 3 dimensions this is proved: an arrangement with two different biases has the objective "
        f"{row['free']:.5f}, and no arrangement with one common bias is below {row['bound']:g}. With one common bias "
        f"the classes are alike in {(one['even'] & one['alike']).sum()} of {one['even'].sum()} settings that have a "
        f"symmetric best spherical code (not in {codes.listed(unlike)}), and in "
        f"{(one['alike'] & ~one['even']).sum()} of the {(~one['even']).sum()} others.")


def settled():
    """The rows of the survey in which more than one start reached the best minimum of each loss."""
    table = codes.survey()
    return table[(table["ce_hits"] > 1) & (table["bce_hits"] > 1)]


# %%
from bcebook import book

chapter = book.open("fewer_dimensions", profile, device, data_dir, seeds)
result()


# %% [markdown]
# **The paper's open question** {cite:p}`li2025bce`: its theorems assume features of dimension $d \ge K - 1$. Does
# neural collapse hold with more classes than that, as in language models or face recognition?
#
# **The idea.** Collapse within the classes holds in every dimension. The simplex ETF needs $K - 1$ dimensions. Below,
# a packing problem takes its place, and the two losses pose different ones: with vanishing weight decay, CE maximises
# the *margin* within each sample, and BCE the *uniform gap* between all positive and all negative logits. BCE thus
# favours spherical codes, which are the most widely spaced points on a sphere. Its free biases can improve on a code
# when one class has fewer close neighbours than the others.
#
# **Related work.** Jiang et al. {cite:p}`jiang2024` study CE with normalised features and rows, without biases, and
# find *softmax codes*, which maximise the margin as the temperature vanishes. The case $d + 2 \le K \le 2d$ is
# treated in arXiv 2603.20587. For the sigmoid loss on pairs, with one common bias, minimisers are spherical codes
# (arXiv 2509.18552). Rosset, Zhu and Hastie show for linear classifiers that a vanishing decay maximises a margin. To
# our knowledge, four things are new here: the form of it for BCE, the lemma on the plane, the proof that free biases
# matter, and what decaying the biases does.
#
# ## What holds in every dimension
#
# The model is that of [the bias saturates](bias_saturates): free features $H$, classifier $W$ with rows $w_k$, biases
# $b$, $n$ samples a class, logits $W h - b$, and the decays $\lambda_W$, $\lambda_H$, $\lambda_b$. All proofs are in
# {doc}`fewer_dimensions_proofs`.
#
# :::{admonition} Theorem one
# Let $c = \sqrt{n \lambda_W \lambda_H} < 1/K$ and $d$ be any dimension. At every local minimum of $f$, under CE or
# BCE, all samples of a class share one feature (NC1), and $\lambda_W W^\top W = \lambda_H H H^\top$. If $d < K - 1$,
# the classifier is no simplex ETF, and the minimum of $f$ is strictly larger than for $d \ge K$.
# :::
#
# For logits $z$ of samples with one feature a class, $z_{jk}$ the logit of class $j$ on a sample of class $k$, write
#
# $$
# \text{margin} = \min_k \Bigl( z_{kk} - \max_{j \ne k} z_{jk} \Bigr), \qquad
# \text{uniform gap} = \min_k z_{kk} - \max_{k,\, j \ne k} z_{jk} .
# $$ (eq-margin-gap)
#
# The margin compares logits within a sample. The uniform gap compares all positive logits with all negative ones;
# where it is above zero, one threshold separates them, and uniform accuracy is full. It is never larger than the
# margin. Both grow with $W$ and $H$, so let $\gamma$ and $\delta$ be margin and uniform gap divided by $\rho / K$,
# $\rho = \lVert W \rVert \lVert H \rVert$ (Frobenius norms, one column of $H$ a class). Their largest values over all
# $W$, $H$ and $b$ are $\gamma^*$ and $\delta^*$.
#
# :::{admonition} Theorem two
# Let $\lambda_b = 0$ and $d \ge 2$. As $c \to 0$, the minimisers of CE have $\gamma \to \gamma^*$, and those of BCE
# have $\delta \to \delta^*$.
# :::
#
# So in this limit BCE's uniform gap is at least CE's, and CE's margin at least BCE's, for the same size of $W$ and
# $H$. For $d \ge K - 1$ the simplex ETF is best for both. With one common bias the theorem holds too, with the best
# $\delta$ among points with one bias.
#
# ## Are all classes alike?
#
# *Alike* means one bias and one positive score for all classes. BCE's minimum need not have it:
#
# :::{admonition} Theorem three
# Let $K = 5$, $d = 3$, $\lambda_b = 0$ and $c = 5 \cdot 10^{-4} \sqrt{128 / 5}$, the paper's decays and batch size. At
# every global minimum of $f$ under BCE, the biases are not all equal.
# :::
#
# *The idea.* Four classes form a square, and the fifth, the *pole*, stands above it. The pole has four neighbours at
# a right angle and the corners have three, so the pole's best bias is a different one. The proof compares one
# explicit arrangement of this kind with a lower bound for all arrangements with one common bias. Such arrangements
# have an affine dependency between their rows, and for each dependency convex duality gives a bound; branch and bound
# covers all dependencies. The bound is computed in floating-point arithmetic, whose rounding is far smaller than the
# difference.
#
# *Not covered:* other decays, and other $K = 2d - 1$. There a pole over a cross-polytope is also the lowest point
# found (table of poles below), without a proof.
#
# With one common bias, one case is settled:
#
# :::{admonition} Theorem four
# Let $d = 2$ and $K \ge 4$, with one common bias. If all rows of $W$, or all features, have one length, then
# $\delta \le 1 - \cos \tfrac{2 \pi}{K}$. The regular $K$-gon attains it.
# :::
#
# *The idea.* The segment between the two neighbours of a row crosses the ray of that row, and the crossing point
# bounds how far one threshold can separate the row from its neighbours. Its position depends on the two angles
# between the three rows, and the angles add up to $2 \pi$.
#
# *Not covered:* rows and features that both differ in length.
#
# ## Eight classes in the plane
#
# The best minima found for the paper's decay and batch size ($\lambda_W = \lambda_H = 5 \cdot 10^{-4}$, $n = 128/K$),
# by minimisation over $W$, $H$ and $b$ from eight random starts.

# %% tags=["definitions"]
def planes():
    """Eight classes in two dimensions: features as points, rows of W as arrows, and where each loss puts its
    boundaries."""
    figure, axes = plt.subplots(2, len(SHOWN), figsize=(7.6, 8), subplot_kw={"aspect": "equal"})
    for row, loss in zip(axes, recipes.LOSSES, strict=True):
        for ax, value in zip(row, SHOWN, strict=True):
            codes.plane(ax, loss, codes.minimiser(loss, 8, 2, value))
            biases = rf"$\lambda_b$ = {value:g}" if value else r"free biases ($\lambda_b$ = 0)"
            ax.set_title(f"{names.of(loss)}, {biases}")
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=plots.GREY, label="feature of a class"),
               plt.Line2D([], [], color=plots.GREY, linewidth=2, alpha=0.5, label="classifier row, from the origin"),
               plt.Line2D([], [], color="#999999", linewidth=0.8, label="boundary of a class")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


# %% mystnb={"figure": {"caption": "Eight classes in two dimensions at the minimum, CE (blue) and BCE (vermilion), with free biases and with decayed ones. Grey lines: under CE, where two classes have the largest logit; under BCE, where a class's own logit is zero. Rows of W are scaled to fit.", "name": "fig-planes"}, "image": {"alt": "Four drawings of the plane: CE above, BCE below; free biases on the left, decayed ones on the right. Dots are the features of eight classes, arrows the classifier rows from the origin, grey lines the boundaries of the classes."}}
planes();


# %% [markdown]
# **What the figure shows.** CE with free biases (top left) places a class *in the middle*: its row and feature are
# zero, and its bias is lower than those of the others. Within each sample this can give a larger margin than the
# regular octagon, but logits of different samples are no longer comparable. BCE with free biases (bottom left) forms
# the octagon: its regions are half planes, and one threshold must serve all samples. On the right the biases are
# penalised. Without biases CE cannot represent a central class. BCE loses more, because in the plane it needs its
# threshold:
#
# :::{admonition} Lemma
# For $d = 2$ and $K \ge 4$ no $W$ and $H$ without bias have all own scores above zero and all others below zero.
# :::
#
# With $d \ge K$ an offset can replace the bias ([the bias saturates](bias_saturates)). An offset takes one dimension,
# and in the plane none is left. The next figure follows both losses from free to decayed biases.

# %% tags=["definitions"]
def against_bias_decay():
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


# %% mystnb={"figure": {"caption": "Smallest angle between classifier rows (top; black line: best spherical code) and uniform gap (bottom, divided by the size of W and H) against the decay of the bias, CE (blue) and BCE (vermilion). Circles: best of eight minimisations.", "name": "fig-few-dimensions-decay"}, "image": {"alt": "Four panels: eight classes in two dimensions on the left, twelve in three on the right. Across: the decay of the bias, logarithmic. Upwards: the smallest angle in the top row, with a black line for the best spherical code, and the uniform gap in the bottom row, with a black line at zero. CE and BCE are lines with circles."}}
against_bias_decay();


# %% [markdown]
# ## Verdicts
#
# The problems are not convex, and a minimum found from eight starts is not proved to be global. A setting in which
# only one start reached the best minimum is in the tables but counts in no verdict.

# %% tags=["definitions"]
def shown(column, what, label=""):
    return verdicts.shown(int(column.sum()), len(column), what).but(label=label)


def alike(loss):
    table = settled()
    unlike = table[~table[f"{loss}_alike"]]
    found = shown(table[f"{loss}_alike"], "all classes have one bias and one positive score", names.of(loss))
    return found.but(detail=f"not in (K, d) = {codes.listed(unlike)}")


def bce_alike():
    return alike("bce").but(control=alike("ce"))


def ce_unlike():
    found = shown(~settled()["ce_alike"], "biases or positive scores differ from class to class")
    return found.but(control=shown(~settled()["bce_alike"], "as above", names.of("bce")))


def code(loss):
    table = settled()
    table = table[table["code"].notna() & table[f"{loss}_alike"]]
    reached = (table[f"{loss}_angle"] - table["code"]).abs() < codes.ANGLE
    found = shown(reached, f"the smallest angle between rows is that of the best spherical code, to {codes.ANGLE:g}°",
                   names.of(loss))
    missed = codes.listed(table[~reached])
    return found.but(detail=f"where the best code is proved and the classes are alike; not in (K, d) = {missed}")


def bce_code():
    return code("bce").but(control=code("ce"))


# %% tags=["definitions"]
def gap_at_least():
    ahead = settled()["bce_gap"] - settled()["ce_gap"]
    found = shown(ahead >= -codes.ROUNDING, "BCE's uniform gap is at least CE's, both over the size of W and H")
    return found.but(detail=f"the differences go from {markdown.number(ahead.min(), 3, True)} to "
                            f"{markdown.number(ahead.max(), 3, True)}")


def uniform(loss):
    full = settled()[f"{loss}_uniform"]
    found = shown(full == 1, "uniform accuracy is full", names.of(loss))
    return found.but(detail=f"the smallest is {markdown.percent(full.min())} %")


def bce_uniform():
    return uniform("bce").but(control=uniform("ce"))


def exchanged():
    """In the settings followed, not in all: with free biases BCE's classes are alike and CE's are not; with the most
    decayed ones it is the other way round."""
    table = codes.against_decay()
    first, last = (table[table["lambda_b"] == value].reset_index() for value in (0.0, table["lambda_b"].max()))
    holds = first["bce_alike"] & ~first["ce_alike"] & last["ce_alike"] & ~last["bce_alike"]
    return shown(holds, "BCE's classes are alike with free biases and not with decayed ones, CE's the other way round")


# %% tags=["definitions"]
def pole_lower():
    """At K = 2d - 1 the pole over a cross-polytope, with two biases, is below the best minimum found with one."""
    table = codes.poles()
    return shown(table["free"] < table["shared"], "the pole over a cross-polytope has a lower objective with two "
                 "biases than with one").but(detail=f"at (K, d) = {codes.listed(table)}")


def shared_even():
    """With one bias: are all classes alike where some best code is symmetric?"""
    table = codes.shared().query("even")
    found = shown(table["alike"], "all classes have one positive score")
    return found.but(detail=f"not in (K, d) = {codes.listed(table[~table['alike']])}")


def shared_only():
    """With one bias: where all classes are alike, is there a symmetric best code?"""
    table = codes.shared().query("alike")
    return shown(table["even"], "some best code is symmetric").but(
        detail=f"the {(~codes.shared()['even']).sum()} settings without one were searched too")


def shared_code():
    """With one bias: where all classes are alike, is the gap that of the best code?"""
    table = codes.shared().query("alike").dropna(subset=["code"])
    off = np.maximum((table["angle"] - table["code"]).abs() / codes.ANGLE,
                     (table["gap"] - 1 + np.cos(np.radians(table["code"]))).abs() / codes.EQUAL)
    return shown(off < 1, "the rows' smallest angle is the best code's, and the uniform gap one minus its "
                 "cosine").but(detail=f"not in (K, d) = {codes.listed(table[off >= 1])}")


# %% tags=["definitions"]
CLAIMS = (
    Claim("fewer_dimensions.carries_over", "The balance of W and H holds in every dimension, and below $K - 1$ the "
          "minimum is higher", "ours", "the largest residual of the balance", codes.carries_over, theory=True),
    Claim("fewer_dimensions.each_its_margin", "As the decay vanishes, CE has the larger margin and BCE the "
          "larger uniform gap", "ours", "how far the order is violated at the smallest decay",
          codes.each_its_margin, theory=True),
    Claim("fewer_dimensions.needs_a_bias", "In the plane four classes cannot be separated uniformly without a bias",
          "ours", "the random arrangements that are", codes.needs_a_bias, theory=True),
    Claim("fewer_dimensions.bce_alike", "With free biases BCE keeps all classes alike at every $K$ and $d$",
          "ours (a lead)", "the share of the settings in which it does", bce_alike, theory=True),
    Claim("fewer_dimensions.ce_unlike", "With free biases CE keeps all classes alike at no $K$ and $d$",
          "ours (a lead)", "the share of the settings in which it does not", ce_unlike, theory=True),
    Claim("fewer_dimensions.bce_code", "Where classes are alike, BCE's rows are a best spherical code", "ours",
          "the share of the settings in which they are", bce_code, theory=True),
    Claim("fewer_dimensions.gap_at_least", "With free biases BCE's uniform gap is at least CE's, also away from the "
          "limit", "ours", "the share of the settings in which it is", gap_at_least, theory=True),
    Claim("fewer_dimensions.bce_uniform", "With free biases BCE's uniform accuracy is full", "ours",
          "the share of the settings in which it is", bce_uniform, theory=True),
    Claim("fewer_dimensions.exchanged", "Decaying the biases exchanges the roles of the losses", "ours",
          "the share of the settings followed in which it does", exchanged, theory=True),
    Claim("fewer_dimensions.counterexample", "BCE's biases differ at the minimum for $K = 5$ and $d = 3$", "ours",
          "explicit point with two biases minus the bound for all points with one", codes.counterexample, theory=True),
    Claim("fewer_dimensions.polygon", "In the plane, with one common bias and rows of one length, the regular $K$-gon "
          "has the largest uniform gap", "ours", "how far random rows exceed it", codes.polygon, theory=True),
    Claim("fewer_dimensions.pole_lower", "At every $K = 2d - 1$ BCE's biases differ at the minimum", "ours",
          "the share of the settings in which two biases are better than one", pole_lower, theory=True),
    Claim("fewer_dimensions.shared_even", "With one common bias BCE keeps all classes alike wherever some best code is "
          "symmetric", "ours (a lead)", "the share of the settings in which it does", shared_even, theory=True),
    Claim("fewer_dimensions.shared_only", "With one common bias BCE keeps all classes alike only where some best code "
          "is symmetric", "ours (a lead)", "the share of the settings with equal classes that have such a code",
          shared_only, theory=True),
    Claim("fewer_dimensions.shared_code", "With one common bias, classes that are alike form a best code, and the "
          "uniform gap is one minus the cosine of its angle", "ours (a lead)",
          "the share of the settings in which they do", shared_code, theory=True),
)

# %%
chapter.judge(CLAIMS)


# %% [markdown]
# ## The numbers
#
# Poles over cross-polytopes: the lowest objective within this family, with two biases and with one. *Bound*: no point
# with one common bias is below it.

# %% tags=["definitions"]
def pole_table():
    """K = 2d - 1: two biases against one."""
    return tables.styled(codes.poles(), {
        "K": ("K", str), "d": ("d", str), "f, two biases": ("free", "{:.7f}"), "f, one bias": ("shared", "{:.7f}"),
        "bound": ("bound", "{:g}"), "bias, pole": ("pole_bias", "{:.3f}"), "bias, others": ("bias", "{:.3f}"),
        "score, pole": ("pole_score", "{:.3f}"), "score, others": ("score", "{:.3f}")}, codes.BOUND_TABLE.note)


def shared_table():
    """The minima with one common bias."""
    table = codes.shared().assign(one_minus=lambda t: 1 - np.cos(np.radians(t["code"])))
    word = {True: "yes", False: "no"}.get
    return tables.styled(table, {
        "K": ("K", str), "d": ("d", str), "symmetric code": ("even", word), "alike": ("alike", word),
        "scores' spread": ("scores", "{:.3f}"), "angle": ("angle", "{:.2f}"), "code": ("code", "{:.2f}"),
        "uniform gap": ("gap", "{:.4f}"), "1 − cos(code)": ("one_minus", "{:.4f}"), "starts": ("hits", str)},
        f"<em>Starts</em>: how many of {codes.RESTARTS} reached the best minimum. {codes.SHARED_TABLE.note}")


# %%
pole_table()

# %% [markdown]
# One common bias. *Symmetric code*: a symmetry group takes every point of some known best code to every other. *Code*
# is the smallest angle of the best code, where it is proved, and *angle* that of the rows, in degrees. The uniform
# gap is divided by the size of $W$ and $H$, as in Theorem two.

# %%
shared_table()


# %% [markdown]
# Free biases, both losses. *Margin* is divided by the size of $W$ and $H$ like the gap. At the decay of this table
# either loss may have the larger margin, since Theorem two is about the limit.

# %% tags=["definitions"]
def survey_table():
    """Both losses with free biases: each cell CE / BCE."""
    frame, columns = codes.survey().copy(), {"K": ("K", str), "d": ("d", str), "code": ("code", "{:.2f}")}
    written = {"angle": "{:.2f}".format, "alike": {True: "yes", False: "no"}.get, "margin": "{:.3f}".format,
               "gap": "{:.3f}".format, "uniform": "{:.2f}".format, "hits": str}
    for name, write in written.items():
        frame[name] = [f"{write(a)} / {write(b)}" for a, b in frame[[f"ce_{name}", f"bce_{name}"]].to_numpy()]
        columns[{"uniform": "A_Uni", "hits": "starts"}.get(name, name)] = name, str
    larger, equal, smaller = [f(frame["bce_gap"] - frame["ce_gap"]).sum() for f in (
        lambda x: x > codes.ROUNDING, lambda x: x.abs() <= codes.ROUNDING, lambda x: x < -codes.ROUNDING)]
    return tables.styled(frame, columns, f"BCE's uniform gap is larger in {larger} settings, equal in {equal}, "
                         f"smaller in {smaller}. Where classes differ, biases do by up to "
                         f"{frame['ce_biases'].max():.1f} (CE) and {frame['bce_biases'].max():.1f} (BCE). "
                         + codes.TABLE.note)


# %%
survey_table()

# %% [markdown]
# ## Details
#
# Open questions: the values of $\gamma^*$ and $\delta^*$ for $d < K - 1$; whether $\delta^*$ can always be attained
# with one common bias; the pole for all $K = 2d - 1$ and all decays; the regular polygon against rows and features of
# different lengths; and, with one common bias, whether classes can be alike without a symmetric best code. Such a
# code is not sufficient: for six classes in four dimensions, two triangles in orthogonal planes are one, and the
# minimum found is lower and treats the classes differently. Nor are equal classes always a best code: for eight
# classes in three dimensions the minimum is a square antiprism of another height. Its uniform gap is one minus the
# cosine of its own angle, and it tends to the best code as the decay vanishes.
#
# The paper has no result for $d < K - 1$. Nothing is trained here, and the features are free: {doc}`departures` lists
# every difference.

# %% tags=["hide-output"]
chapter.provenance()
