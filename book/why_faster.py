# ---
# jupyter:
#   bcebook:
#     number: 6
#     of_the_paper: its observation that BCE reaches neural collapse in fewer epochs
#     part: beyond
#     question: why does BCE reach neural collapse faster, and is it CE with a weaker
#       decay?
#     short: Speed of collapse
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
# # Why BCE collapses faster

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% tags=["definitions"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

from bcebook import names
from bcebook.claims import Claim
from bcebook.report import markdown, plots, tables
from bcebook.report.predictions import paper_c
from bcebook.science import theory, verdicts

K = 10  # classes, where a number needs one
LATE = (13, 15)  # over the predicted rate, times in 1 / lambda_H: NC1 has fallen by about e^-26 to e^-30 there


def result():
    """The result in one paragraph."""
    ce, bce = (theory.relaxation_rates(loss, K, paper_c(K)).across for loss in theory.LOSSES)
    many = [theory.relaxation_rates(loss, 100, paper_c(100)).across for loss in theory.LOSSES]
    factor = theory.equivalent_decay("bce", "ce", K, paper_c(K))
    same = factor * theory.relaxation_rates("bce", K, factor * paper_c(K)).across / ce
    soft = theory.relaxation_rates("ce", K, paper_c(K), label_smoothing=0.1).across
    return Markdown(
        f"**At {K} classes and the paper's decay, BCE collapses free features {bce / ce:.2f} times as fast as CE.** "
        f"Under gradient flow NC1 falls as $e^{{-2 r \\lambda_H t}}$ with $r = {bce:.2f}$ for BCE and ${ce:.2f}$ for "
        "CE. Both losses leave the same errors at their minima, but BCE's scores are larger, and the curvature grows "
        "with them. The ratio of the rates lies between one and two for every number of classes and every decay; at "
        f"100 classes it is {many[1] / many[0]:.2f}. BCE has the minimum of CE with a weaker decay, but not its speed: "
        f"with its decays multiplied by {factor:.2f}, BCE has CE's scores and collapses {same:.1f} times as fast as "
        f"CE. CE with label smoothing of 0.1 is faster than BCE without it ($r = {soft:.2f}$). All of this is theory "
        "and simulation; no network was trained for this page.")


def of_classes(values):
    """Rates at the paper's decay (or at another c) by loss: a row for each number of classes."""
    return pd.DataFrame([{"K": k, "c": c, "loss": loss, **vars(theory.relaxation_rates(loss, k, c))}
                         for k, c in values for loss in theory.LOSSES])


# %%
from bcebook import book

chapter = book.open("why_faster", profile, device, data_dir, seeds)
result()


# %% [markdown]
# **The paper's observation** {cite:p}`li2025bce`: NC1, NC2 and NC3 fall in fewer epochs with BCE than with CE.
# {doc}`neural_collapse` tests it. The theorems on the minima cannot explain it: both losses have the same minimum up to
# its scale ({doc}`minima`), and a minimum does not determine the time it takes to reach it.
#
# **What was known.** For CE with label smoothing, Guo et al. {cite:p}`guo2025` give the minimum in closed form and show
# that smoothing makes the Hessian better conditioned, and collapse faster. The rates of BCE, the comparison with CE,
# and the closed forms for averaged losses are ours as far as we know.
#
# ## Prediction
#
# The model is that of {doc}`minima`, {eq}`eq-minima-model`: free features, $c = \sqrt{n\, \lambda_W \lambda_H}$, and
# $\lambda_b = 0$. $s$ is the positive score at the minimum, {eq}`eq-ce-minimum` for CE and {eq}`eq-bce-minimum` for
# BCE.
#
# :::{admonition} Theorem (ours)
# Let $d \ge K - 1$ and $c < 1/K$. Hold $W$ and $b$ at the minimum, and let one sample's feature $h$ move. At the
# minimum the Hessian of $\tfrac1N \ell(W h - b, y) + \tfrac{\lambda_H}{2} \lVert h \rVert^2$ in $h$ has the eigenvalue
# $\lambda_H$ on directions orthogonal to all rows of $W$. Within their span it has $\lambda_H\, r_\text{own}$ along
# $w_y$ and $\lambda_H\, r_\text{across}$ on the $K - 2$ directions orthogonal to $w_y$:
#
# $$
# \begin{array}{lll}
# & r_\text{across} & r_\text{own} \\[2pt]
# \text{CE:} & 1 + \dfrac{s}{K-1} & 1 + s\, \bigl(1 - (K-1) c\bigr) \dfrac{K}{K-1} \\[8pt]
# \text{BCE:} & 1 + \dfrac{s\, (1 - c)}{K-1} & 1 + \dfrac{s}{K} \Bigl( (K-1) \bigl(1 - (K-1) c\bigr) + \dfrac{1 - c}{K-1} \Bigr)
# \end{array}
# $$ (eq-relaxation)
#
# For $K \ge 3$, $r_\text{across}$ is larger for BCE than for CE, and less than twice as large. If gradient flow of $W$,
# $H$ and $b$ converges to the minimum and $r_\text{across} < 1 + \lambda_W / \lambda_H$, NC1 falls as
# $e^{-2 \lambda_H r_\text{across} t}$.
# :::
#
# **The idea.** The curvature that a feature sees is the squared length of the classifier's rows times the error that
# the loss leaves. Both losses leave the same errors {eq}`eq-same-errors`, but BCE has the larger scores, so that its
# rows are longer.
#
# **Proof of the eigenvalues.** The Hessian is $\tfrac1N W^\top D W + \lambda_H I$, where $D$ is the Hessian of the loss
# in the logits. With $p$ the softmax, $D = \operatorname{diag}(p) - p p^\top$ for CE; for BCE $D$ is diagonal with
# entries $\sigma(z_k)\, \sigma(-z_k)$. The minimum has $w_k = \kappa \sqrt s\, e_k$ with $e_k$ a simplex ETF and
# $\kappa^2 = \sqrt{n \lambda_H / \lambda_W}$. As $E E^\top = \tfrac{K}{K-1} \bigl(I - \tfrac1K \mathbf 1 \mathbf
# 1^\top\bigr)$ for the matrix $E$ of these rows, the eigenvalues of $W^\top D W$ on the span are
# $\kappa^2 s \tfrac{K}{K-1}$ times those of $D$ on vectors of sum zero. In units of $N \lambda_H$ that factor is
#
# $$
# \frac{\kappa^2 s}{N \lambda_H} \cdot \frac{K}{K-1} = \frac{s}{(K-1)\, c} .
# $$ (eq-relaxation-factor)
#
# The vectors of sum zero are spanned by differences of two wrong classes, $K - 2$ dimensions, and by
# $a = \sqrt{K/(K-1)}\, (\mathbf e_y - \mathbf 1 / K)$, where $\mathbf e_y$ is the unit vector of the own class. By
# symmetry $D$ keeps both apart. Insert the errors {eq}`eq-same-errors`. On the differences $D$ is $c$ for CE and
# $c\,(1 - c)$ for BCE. Along $a$,
#
# $$
# a^\top D a = \begin{cases}
# \tfrac{K}{K-1}\, p_y (1 - p_y) = \tfrac{K}{K-1} \bigl(1 - (K-1) c\bigr) (K-1) c & \text{(CE)}, \\[4pt]
# \tfrac{K-1}{K} \bigl(1 - (K-1) c\bigr) (K-1) c + \tfrac1K\, c\, (1 - c) & \text{(BCE)}.
# \end{cases}
# $$
#
# Multiplied by {eq}`eq-relaxation-factor` these are the terms of {eq}`eq-relaxation`.
#
# **Proof of the comparison.** Let $m = K - 1 \ge 2$ and $x = 1/c - K > 0$. The scores are
# $s_\text{CE} = \tfrac{m}{K} L$ and $s_\text{BCE} = \tfrac{m}{K} (L + M)$ with $L = \log(1 + x)$ and
# $M = \log(1 + x/m)$. BCE is faster if $(1 - c)(L + M) > L$, that is, if $(1/c - 1)\, M > L$, or
#
# $$
# (m + x) \log\Bigl(1 + \frac xm\Bigr) > \log(1 + x) .
# $$
#
# The left side falls with $m$: its derivative is $\log(1 + x/m) - x/m < 0$. So it exceeds its limit $x$, and
# $x > \log(1 + x)$. Since $M < L$, $s_\text{BCE} < 2 s_\text{CE}$, and the ratio is below two.
#
# **Proof for NC1.** Let $\delta$ be a feature minus its class mean. The samples of a class share one loss, so $\dot
# \delta = - \bigl(\tfrac1N W^\top D W + \lambda_H I\bigr)\, \delta$ up to $O(\lVert \delta \rVert^2)$, with $W$ and $D$
# on their way to the minimum. NC1 is quadratic in $\delta$ and projects it on the span of the centred class means,
# which becomes that of the rows. Within that span the slowest rate is $r_\text{across}$. What $W$ still has off that
# span mixes in the part of $\delta$ there, which falls as $e^{-\lambda_H t}$: the mean row, which only its own decay
# removes, as $e^{-\lambda_W t}$, and the rest faster, as $e^{-(\lambda_W + \lambda_H) t}$. The product of both is
# negligible if $1 + \lambda_W / \lambda_H > r_\text{across}$. (CE does not see the mean row, so
# $2 + \lambda_W / \lambda_H$ takes its place.) $\square$
#
# **What it does not cover.**
#
# - NC1 sees the span of the class means alone. Deviations orthogonal to it fall at the rate $\lambda_H$ for both
#   losses.
# - The rates hold near the minimum. They say nothing of the time until then.
# - $r_\text{own}$ is larger for BCE at small $c$ only. The order changes as $c$ grows towards $1/K$, for three classes
#   at $c = 0.15 / K$ and for ten at $c = 0.84 / K$; beyond, CE's is larger by little.
# - With $\lambda_W$ too small for the theorem, NC1 falls as $e^{-2 (\lambda_H + \lambda_W) t}$ for BCE, and CE can be
#   the faster one. In mini-batch training $\lambda_H$ stands for $\lambda_H B / N$, so this does not arise.
# - Time $t$ is that of gradient flow. It is $\sum_i \eta_i / (1 - \mu)$ for SGD with momentum $\mu$ and small steps
#   $\eta_i$.
# - A network moves features through its weights. Its own kernel multiplies both rates; the ratio survives only as far
#   as that kernel is the same for both losses.
# - Features behind a ReLU rest on the boundary, where the sign holds most coordinates.
#
# ## The rates

# %% tags=["definitions"]
def rates():
    """Rates against the number of classes at the paper's decay, and against c for K classes."""
    many = np.unique(np.geomspace(3, 1000, 60).round().astype(int))
    by_classes = of_classes([(k, paper_c(k)) for k in many.tolist()])
    by_c = of_classes([(K, c) for c in np.geomspace(1e-6, 1 / K, 80)])
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.4))
    for ax, frame, x in ((axes[0], by_classes, "K"), (axes[1], by_c, "c")):
        for loss, rows in frame.groupby("loss"):
            ax.plot(rows[x], rows["across"], color=plots.COLOUR[loss])
            ax.plot(rows[x], rows["own"], color=plots.COLOUR[loss], linestyle="--")
        ax.set(xscale="log", yscale="log", xlabel=f"${x}$", ylabel=r"rate, in units of $\lambda_H$", ylim=(0.9, 40))
    for frame, x, style in ((by_classes, "K", "-"), (by_c, "c", ":")):
        wide = frame.pivot(index="c", columns="loss", values="across")
        axes[2].plot(wide.index, wide["bce"] / wide["ce"], color="black", linewidth=0.9, linestyle=style,
                     label={"K": "the paper's decay, all $K$", "c": f"$K = {K}$, all $c$"}[x])
    axes[2].axvline(paper_c(K), color=plots.GREY, linewidth=0.6)
    axes[2].set(xscale="log", xlabel="$c$", ylabel="BCE / CE, across", ylim=(0.95, 2.05))
    axes[2].legend(loc="upper left", fontsize="x-small")
    axes[1].axvline(paper_c(K), color=plots.GREY, linewidth=0.6)
    for ax, title in zip(axes, ("the paper's decay", f"{K} classes", "ratio of the rates"), strict=True):
        ax.set_title(title)
    keys = [plt.Line2D([], [], color=plots.COLOUR[loss], linestyle=style, label=f"{names.of(loss)}, {direction}")
            for loss in theory.LOSSES for direction, style in (("across", "-"), ("own row", "--"))]
    figure.legend(handles=keys, loc="outside lower center", ncols=4)
    return figure


# %% mystnb={"figure": {"caption": "Left: relaxation rates at the minimum against the number of classes, at the paper's decay and batch size. Middle: against c for ten classes; grey: the paper's c. Right: BCE's rate across over CE's along both paths.", "name": "fig-relaxation-rates"}, "image": {"alt": "Three panels. Left: four falling and rising curves of rates against the number of classes; BCE lies above CE, and the curves across fall towards one. Middle: the rates against c fall to one at one over the number of classes. Right: the ratio of the rates across lies between one and two and falls with c."}}
rates();


# %% [markdown]
# The rate across tends to one as classes are added, for both losses: each feature then sees little curvature in each
# direction. BCE's advantage in NC1 is a property of few classes. It also grows as the decay weakens, towards a factor
# of two.
#
# ## A simulation
#
# Gradient flow of the whole model, $W$, every feature and $b$, from random starts (`theory.collapse_flow`), with
# $\lambda_W = 10\, \lambda_H$. Nothing is held fixed, and nothing is linearised.

# %% tags=["definitions"]
def flow():
    """NC1 along the gradient flow for both losses, two starts each, with the predicted slopes."""
    times = np.linspace(0, 6, 121)
    figure, ax = plt.subplots(figsize=(6.4, 3.9))
    for loss in theory.LOSSES:
        across = theory.relaxation_rates(loss, K, paper_c(K)).across
        for seed in (0, 1):
            nc1 = theory.collapse_flow(loss, K, paper_c(K), times, seed=seed)
            label = names.of(loss) if seed == 0 else None
            ax.plot(times, nc1, color=plots.COLOUR[loss], linewidth=2.2, alpha=0.75, label=label)
        ax.plot(times, nc1[-1] * np.exp(2 * across * (times[-1] - times)), color="black", linewidth=0.7)
    ax.plot([], [], color="black", linewidth=0.7, label="predicted slope")
    ax.set(yscale="log", xlabel=r"time, in units of $1 / \lambda_H$", ylabel="NC1", ylim=(1e-13, 1e2))
    ax.legend()
    return figure


def slopes():
    """Late slopes of log NC1 / 2 in the flow beside the predicted rate: a row for each setting."""
    rows = []
    for k, c in ((4, 0.02), (K, paper_c(K)), (20, paper_c(20))):
        for loss in theory.LOSSES:
            predicted = theory.relaxation_rates(loss, k, c).across
            times = np.array([0, *LATE]) / predicted
            paths = [theory.collapse_flow(loss, k, c, times, seed=seed) for seed in (0, 1)]
            each = [np.log(nc1[1] / nc1[2]) / (2 * (times[2] - times[1])) for nc1 in paths]
            rows.append({"K": k, "c": c, "loss": loss, "predicted": predicted, "low": min(each), "high": max(each),
                         "off": max(abs(rate / predicted - 1) for rate in each)})
    return pd.DataFrame(rows)


# %% mystnb={"figure": {"caption": "NC1 along the gradient flow of the model for ten classes at the paper's c, both losses, two random starts each. Black: the predicted late slope, through the last point.", "name": "fig-collapse-flow"}, "image": {"alt": "NC1 on a logarithmic axis against time. Both curves fall along straight lines that agree with the predicted slopes; BCE's lies below CE's and falls more steeply."}}
flow();

# %%
measured = slopes()
tables.styled(measured, {"K": ("K", str), "c": ("c", "{:.4f}"), "loss": ("loss", names.of),
                         "predicted": ("predicted", "{:.3f}"), "simulated, least": ("low", "{:.3f}"),
                         "largest": ("high", "{:.3f}")},
              "Rates in units of λ_H, from NC1 after it has fallen by eleven orders of magnitude; two random starts each.")


# %% [markdown]
# ## Is BCE only CE with a weaker decay?
#
# At the minimum, yes. A common factor on both decays multiplies $c$ and leaves the split between $W$ and $H$. Let
# $g = \tfrac{K}{K-1}\, s$ be the positive minus the negative score. {eq}`eq-ce-minimum` and {eq}`eq-bce-minimum` say
#
# $$
# e^g - 1 = \frac{1 - K c}{c} \quad \text{(CE)}, \qquad e^g - 1 = \frac{1 - K c}{(K-1)\, c^2} \quad \text{(BCE)} .
# $$
#
# So the decays that give one loss the scores of the other are
#
# $$
# \begin{aligned}
# c_\text{CE} &= \frac{(K-1)\, c_\text{BCE}^2}{1 - K c_\text{BCE} + K (K-1)\, c_\text{BCE}^2} , \\
# c_\text{BCE} &= \frac{2}{K + \sqrt{K^2 + 4 (K-1) (1 - K c_\text{CE}) / c_\text{CE}}} .
# \end{aligned}
# $$ (eq-equivalent-decay)
#
# With them, $W$ and $H$ agree exactly, and so do accuracy, angles and NC2 at the minimum. The speed does not. At equal
# $W$ the curvature differs by the errors alone, $c\,(1 - c)$ for BCE's $c$ against CE's, and BCE needs the stronger
# decay and so leaves the larger errors.

# %% tags=["definitions"]
def equal_scores():
    """Both losses at the paper's decay, and each with the scores of the other."""
    rows = []
    for loss, scores_of in (("ce", "ce"), ("bce", "ce"), ("bce", "bce"), ("ce", "bce")):
        factor = theory.equivalent_decay(loss, scores_of, K, paper_c(K))
        m, rate = theory.minimum(loss, K, factor * paper_c(K)), theory.relaxation_rates(loss, K, factor * paper_c(K))
        rows.append({"loss": loss, "factor": factor, "positive": m.positive, "negative": m.negative,
                     "bias": m.bias if loss == "bce" else np.nan, "across": rate.across,
                     "absolute": factor * rate.across, "own": factor * rate.own})
    return pd.DataFrame(rows)


# %%
tables.styled(equal_scores(), {
    "loss": ("loss", names.of), "decays ×": ("factor", "{:.4g}"), "positive": ("positive", "{:.3f}"),
    "negative": ("negative", "{:.3f}"), "bias": ("bias", "{:.3f}"), "across / its λ_H": ("across", "{:.3f}"),
    "across, absolute": ("absolute", "{:.3f}"), "own row, absolute": ("own", "{:.3f}")},
    f"{K} classes; factors on the paper's decays. Absolute rates are in units of the paper's λ_H.")

# %% [markdown]
# In units of its own decay, a loss at given scores has nearly one rate across: $1 + s / (K-1)$. In absolute time BCE is
# faster, because it has these scores at a stronger decay.
#
# **Prediction for networks, not run.** Four networks (both losses at the paper's decay, CE with its decays divided, BCE
# with its decays multiplied) fall into two pairs by their scores and into four by the time they take.
#
# ## The options of a loss
#
# A factor $a$ on the loss divides all decays by $a$, and so $c$. PyTorch's `BCEWithLogitsLoss` averages over classes by
# default, $a = 1/K$: $c$ becomes $K c$. Label smoothing $e$ replaces the target by $(1 - e)$ times one-hot plus $e/K$,
# which adds $e\, (z_y - \bar z)$ to both losses, $\bar z$ the mean logit. In the symmetric form {eq}`eq-minima-form`
# that is $e\, s$, and the decay of $s$ costs $K c\, s$. So the scores are those of $c + e/K$ without smoothing.
# Together: the scores vanish where $c / a \ge (1 - e) / K$.
#
# The threshold of {doc}`imbalance` changes in the same way. Where the rows of two tail classes of $m$ samples agree,
# the own minus the other residual is $a\, (1 - e)$ under both losses, so that they merge for
# $m\, a^2 (1 - e)^2 \le N^2 \lambda_W \lambda_H$.

# %% tags=["definitions"]
OPTIONS = {"CE": ("ce", {}), "CE, smoothing 0.1": ("ce", {"label_smoothing": 0.1}), "BCE, sum": ("bce", {}),
           "BCE, sum, smoothing 0.1": ("bce", {"label_smoothing": 0.1}), "BCE, mean": ("bce", {"over_classes": "mean"})}


def options():
    """What each option does to scores, speed, the tail's threshold, and the classes that the model can separate."""
    rows = []
    for name, (loss, chosen) in OPTIONS.items():
        m = theory.minimum(loss, K, paper_c(K), **chosen)
        over, e = chosen.get("over_classes", "sum"), chosen.get("label_smoothing", 0.0)
        a = theory.loss_factor(loss, K, over)
        rate = theory.relaxation_rates(loss, K, paper_c(K) / a, label_smoothing=e).across
        rows.append({"option": name, "positive": m.positive, "gap": m.positive - m.negative, "rate": rate,
                     "merge": theory.minority_collapse_size(1, 1, 1, factor=a, label_smoothing=e),
                     "trivial": theory.trivial_from(5e-4, 5e-4, 128, over, e)})
    return pd.DataFrame(rows)


# %%
tables.styled(options(), {"option": ("option", str), "positive": ("positive", "{:.3f}"),
                          "positive − negative": ("gap", "{:.3f}"), "rate across / λ_H": ("rate", "{:.3f}"),
                          "tail merges at ×": ("merge", "{:.4g}"), "no scores from K =": ("trivial", "{:,}")},
              f"{K} classes, the paper's decay and batch size. The tail's threshold as a multiple of that of the sum.")


# %% [markdown]
# Averaging over classes multiplies the effective decay by the number of classes. From the number of classes in the last
# column on, the model's minimum has no scores at all. Label smoothing makes the scores smaller and collapse faster, as
# Guo et al. {cite:p}`guo2025` found for CE.
#
# ## Verdicts

# %% tags=["definitions"]
def hessian(loss, k, c):
    """Ascending eigenvalues of the Hessian of one sample's loss plus decay in its feature, in units of lambda_H."""
    n, decay = 4, c / 2
    W, H, b = map(torch.tensor, theory.assemble(theory.minimum(loss, k, c), k, k, decay, decay, n))

    def of_one_sample(h):
        z = W @ h - b
        own, others = z[0], z[1:]
        value = (torch.logsumexp(z, 0) - own if loss == "ce" else
                 torch.nn.functional.softplus(-own) + torch.nn.functional.softplus(others).sum())
        return value / (n * k) + decay / 2 * h @ h

    return np.linalg.eigvalsh(torch.autograd.functional.hessian(of_one_sample, H[:, 0].clone()).numpy() / decay)


def formula():
    off = []
    for k, c in ((3, 1e-3), (3, 0.3), (5, 0.05), (K, paper_c(K)), (K, 0.09), (40, 1e-3)):
        for loss in theory.LOSSES:
            r = theory.relaxation_rates(loss, k, c)
            expected = np.sort([1.0, r.own, *[r.across] * (k - 2)])
            off.append(np.abs(hessian(loss, k, c) / expected - 1).max())
    return verdicts.check(max(off), 1e-8, "rounding; the Hessian is automatic differentiation", n=len(off))


def always():
    """How far BCE's rate across leaves the interval from CE's rate to twice CE's, over many decays and classes."""
    parts = [np.divide(*(theory.relaxation_rates(loss, k, np.geomspace(1e-10, 0.99, 300) / k).across
                         for loss in ("bce", "ce"))) for k in (3, 4, 10, 100, 1000, 100_000)]
    ratio = np.concatenate(parts)
    outside = max(0.0, (1 - ratio).max(), (ratio - 2).max())
    found = verdicts.check(outside, 0, "one counterexample is enough", n=ratio.size)
    return found.but(detail=f"the ratio goes from {markdown.number(ratio.min(), 6)} to {markdown.number(ratio.max())}")


def late():
    table = slopes()
    off = float(table["off"].max())
    found = verdicts.check(off, 0.002, "faster parts have not quite vanished", n=2 * len(table), of="simulations")
    return found.but(detail=f"the largest difference is {markdown.percent(off, 3)} %")


# %% tags=["definitions"]
def same_scores():
    off = []
    for k in (2, 3, 10, 100, 1000):
        c = np.geomspace(1e-6, 0.999, 50) / k
        for loss, other in (("ce", "bce"), ("bce", "ce")):
            factor = theory.equivalent_decay(loss, other, k, c)
            ours, theirs = theory.minimum(loss, k, factor * c), theory.minimum(other, k, c)
            off.append(np.abs(np.subtract([ours.positive, ours.negative], [theirs.positive, theirs.negative])).max())
    return verdicts.check(max(off), 1e-8, "rounding", n=50 * len(off))


def minimised():
    """Closed forms with options against `theory.solve`, which minimises over W, H and b."""
    off = []
    for loss, chosen in OPTIONS.values():
        n, decay, e = 9, 2e-3, chosen.get("label_smoothing", 0.0)
        a = theory.loss_factor(loss, 5, chosen.get("over_classes", "sum"))
        found = theory.solve(loss, 5, 5, n, decay / a, decay / a, restarts=1, label_smoothing=e)
        m, Z = theory.minimum(loss, 5, decay * np.sqrt(n), **chosen), found.W @ found.H
        off += [np.abs(np.diagonal(Z) - m.positive).max(), np.abs(Z[~np.eye(5, dtype=bool)] - m.negative).max()]
    return verdicts.check(max(off), 1e-6, "the minimisation's accuracy", n=len(OPTIONS))


def claim(name, text, statistic, judge):
    return Claim(f"why_faster.{name}", text, "ours", statistic, judge, theory=True)


CLAIMS = (
    claim("formula", "At the minimum a sample's loss plus decay has the curvatures of the theorem",
          "the largest relative difference between an eigenvalue and the theorem's", formula),
    claim("always", "BCE's rate across is above CE's and below twice CE's, for three or more classes and any decay",
          "by how much a ratio of the rates leaves this interval", always),
    claim("slopes", "Late in gradient flow NC1 falls at the predicted rate", "the largest relative "
          "difference between a simulated and the predicted rate", late),
    claim("equal_scores", "With its decays multiplied by the closed factor, either loss has the other's scores",
          "the largest difference between two scores", same_scores),
    claim("options", "Averaging over classes and label smoothing act on the minimum as another decay", "the largest "
          "difference between a score of a minimisation and the closed form's", minimised),
)

# %%
chapter.judge(CLAIMS)

# %% [markdown]
# ## Details

# %% tags=["hide-output"]
chapter.provenance()
