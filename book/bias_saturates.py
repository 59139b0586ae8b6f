# ---
# jupyter:
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
# # The bias saturates
#
# **The paper's claim** {cite:p}`li2025bce`: when the dimension $d$ of the features is at least $K - 1$, every global
# minimiser of BCE with decay on classifier, features and bias shows neural collapse. Classifier rows and class means
# form one simplex ETF (vectors of equal length, all pairs at the same widest angle, summing to zero), and all biases
# equal one $b^*$, the solution of
#
# $$
# \lambda_b\, b = \frac{K-1}{K\,\bigl(1 + e^{\,b + s/(K-1)}\bigr)} - \frac{1}{K\,\bigl(1 + e^{\,s - b}\bigr)},
# $$ (eq-paper-bias)
#
# with $s$ the positive decision score.
#
# **What to expect.** We solve the same model in closed form. The claim holds up to a critical $\lambda_b$. Beyond it, a
# bias is dearer than a second way to shift all scores: a direction that all classifier rows share. From there on the
# bias is $c / \lambda_b$, the shared direction does the rest, and scores minus bias do not depend on $\lambda_b$ any
# more. This page proves that, checks it against a plain minimisation, and tests the theorem beyond the critical value.
#
# **What was known.** For CE the global minimisers in this model, and that it has no bad local minima, are due to Zhu et
# al. {cite:p}`zhu2021`; for the mean squared error see Zhou et al. {cite:p}`zhou2022`. That a decayed bias changes the
# geometry was shown for the mean squared error by Massion, Makhlouf and Massart {cite:p}`massion2026`: the features go
# from a simplex ETF to an orthogonal frame as the bias is decayed more. The closed form for BCE, the critical
# $\lambda_b$ and the saturation below are ours, as far as we know. We have the paper's theorem as a summary of its
# statement, not its full text or its proof.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# ## The model
#
# There are $K \ge 2$ classes with $n$ samples each, $N = nK$. As in all work on unconstrained features, the features
# $H = (h_1, \dots, h_N)$ are free variables, beside the classifier $W$ (rows $w_k$) and the biases $b$. With logits
# $z_i = W h_i - b$ and decays $\lambda_W, \lambda_H > 0$, $\lambda_b \ge 0$,
#
# $$
# f(W, H, b) = \frac1N \sum_{i} \ell(W h_i - b,\, y_i) + \frac{\lambda_W}{2} \lVert W \rVert^2
# + \frac{\lambda_H}{2} \lVert H \rVert^2 + \frac{\lambda_b}{2} \lVert b \rVert^2 .
# $$ (eq-model)
#
# Of the decays on $W$ and $H$ only $c := \sqrt{n\, \lambda_W \lambda_H}$ will matter. In the paper's code the feature
# decay is a sum over each mini-batch, which makes $c = \sqrt{\lambda_W \lambda_H B / K}$ for batches of $B$, whatever
# the size of the data set.
#
# :::{admonition} Theorem
# Let $d \ge K$ and $c < 1/K$. The minimum of $f$ under BCE is unique up to rotations of $\mathbb{R}^d$. All biases are
# equal, all samples of a class share one feature, and there are numbers $s > 0$ and $o \le 0$ with
#
# $$
# w_y \cdot h = s + o, \qquad w_j \cdot h = -\frac{s}{K-1} + o \quad (j \ne y) .
# $$ (eq-form)
#
# There is a critical $\lambda_b^*$ (infinite if $K = 2$, or if $t^*$ in step four is not positive). For
# $\lambda_b \le \lambda_b^*$ the *offset* $o$ is $0$, $W$ is a centred simplex ETF and $b$ solves {eq}`eq-paper-bias`.
# For $\lambda_b > \lambda_b^*$,
#
# $$
# b = \frac{c}{\lambda_b}, \qquad o = \frac{c}{\lambda_b} - t^* < 0,
# $$ (eq-saturated)
#
# where $t^*$ and $s$ do not depend on $\lambda_b$. Under CE, $o = 0$ for every $\lambda_b$, and $b = 0$ if
# $\lambda_b > 0$.
# :::
#
# ## Proof
#
# **A minimum exists.** The decays bound $W$ and $H$; for bounded $Z = WH$ BCE grows without bound in $|b|$ (CE too,
# once $b$ is taken with mean $0$).
#
# **Step one: a convex problem in $Z$.** For a given $Z$ of rank at most $d$, the least
# $\tfrac{\lambda_W}{2} \lVert W \rVert^2 + \tfrac{\lambda_H}{2} \lVert H \rVert^2$ with $WH = Z$ is
# $\sqrt{\lambda_W \lambda_H}$ times the nuclear norm $\lVert Z \rVert_*$, the sum of the singular values. The rank of
# $Z$ is at most $K$. So for $d \ge K$ the minimum of $f$ is that of
#
# $$
# \varphi(Z, b) = \frac1N \sum_i \ell(z_i - b, y_i) + \sqrt{\lambda_W \lambda_H}\, \lVert Z \rVert_* + \frac{\lambda_b}{2} \lVert b \rVert^2 ,
# $$ (eq-convex)
#
# which is convex. (For smaller $d$, the minimum of $f$ is at least that of $\varphi$, and equal to it exactly when some
# minimiser of $\varphi$ has rank at most $d$.)
#
# **Step two: two numbers and a bias are left.** $\varphi$ stays the same when the classes are permuted, and when the
# samples of a class are. Because $\varphi$ is convex, the average of a minimiser over all these permutations is again a
# minimiser. It has $b = \beta \mathbf 1$, and $Z = A \otimes \mathbf 1_n^\top$ with $A$ constant on and off its
# diagonal: this is {eq}`eq-form`. $A$ has eigenvalue $K o$ on $\mathbf 1$ and $s K / (K-1)$, $K - 1$ times, on the
# complement, so that $\lVert Z \rVert_* = \sqrt n\, K (|s| + |o|)$. Writing $\operatorname{sp}(x) = \log(1 + e^x)$ and
# $t := b - o$, the bias that the loss sees, BCE has
#
# $$
# f = \operatorname{sp}(t - s) + (K-1) \operatorname{sp}\Bigl(-\frac{s}{K-1} - t\Bigr) + K c\, (|s| + |o|) + \frac{K \lambda_b}{2}\, b^2 .
# $$ (eq-reduced)
#
# For CE the loss is $\log\bigl(1 + (K-1) e^{-sK/(K-1)}\bigr)$. There is no $t$ in it, so $o = 0$, and $b = 0$ if
# $\lambda_b > 0$.
#
# *All minimisers, not only the averaged one.* BCE is strictly convex in the logits, so all minimisers of $\varphi$
# share $Z - b \mathbf 1^\top$. If $\lambda_b > 0$ they share $b$ too, hence $Z$. If $\lambda_b = 0$ they differ by a
# common $a$ in $Z + a \mathbf 1_N^\top$ and $b + a$. With $P = I - \mathbf 1 \mathbf 1^\top / N$,
# $\lVert X \rVert_* = \operatorname{tr}\bigl(X P X^\top + X \tfrac{\mathbf 1 \mathbf 1^\top}{N} X^\top\bigr)^{1/2} \ge \lVert X P \rVert_*$,
# with equality only for $X \mathbf 1 = 0$ (the root is strictly monotone in trace). $X P$ does not depend on $a$, so
# exactly one $a$ is minimal, that with zero row means: $o = 0$. For CE the logits are shared up to a constant for each
# sample as well, which the same argument on columns fixes. So $Z$ is unique, and $W$ and $H$ are unique up to a
# rotation. At fixed $W$ and $b$ the problem in each $h_i$ is strictly convex and the same for all samples of a class,
# so that they coincide at every minimum.
#
# **Step three: the bias term is a Huber function.** At fixed $t$, with $o = b - t$, what remains of {eq}`eq-reduced` is
# $K$ times
#
# $$
# \min_b\; \frac{\lambda_b}{2} b^2 + c\, |b - t| =
# \begin{cases}
# \lambda_b t^2 / 2, & b = t,\ o = 0, & |t| \le c / \lambda_b, \\
# c |t| - c^2 / (2 \lambda_b), & b = \operatorname{sign}(t)\, c / \lambda_b,\ o = b - t, & |t| > c / \lambda_b .
# \end{cases}
# $$ (eq-huber)
#
# A bias is cheap while it is small, since its cost is quadratic; an offset costs the same for every unit. The
# derivative in $t$ is $g := \min(\lambda_b t, c)$ for $t \ge 0$. At the minimum $s > 0$ if $c < 1/K$: at $s = 0$ the
# loss has slope $-\sigma(t) - \sigma(-t) = -1$ in $s$, whatever $t$ is, against a cost of $Kc$. (So for $c \ge 1/K$ no
# ETF is left, under CE and BCE alike.) And $t \ge 0$: the loss at $t = 0$ has slope
# $\sigma(-s) - (K-1)\, \sigma(-\tfrac{s}{K-1}) \le 0$ in $t$. Hence $o \le 0$. For $K = 2$ that slope is $0$, and
# $t = b = o = 0$.
#
# **Step four: the stationarity conditions are linear.** Let $u = \sigma(t - s)$ be the error left on a sample's own
# class and $v = \sigma(-\tfrac{s}{K-1} - t)$ that on each other class. Setting the derivatives of {eq}`eq-reduced` in
# $s$ and in $t$ to zero gives
#
# $$
# u + v = K c, \quad (K-1)\, v - u = K g \quad\Longrightarrow\quad u = (K-1)\, c - g, \quad v = c + g ,
# $$ (eq-linear)
#
# $$
# s = -\frac{K-1}{K} \bigl(\operatorname{logit} u + \operatorname{logit} v\bigr), \qquad
# t = \frac1K \bigl(\operatorname{logit} u - (K-1) \operatorname{logit} v\bigr) .
# $$ (eq-scores)
#
# $t$ falls as $g$ grows, so $g = \min(\lambda_b t, c)$ has one solution. At its two ends nothing is left to solve:
#
# - $\lambda_b = 0$: $g = 0$, the errors are $u = (K-1) c$ and $v = c$, and $o = 0$.
# - $g = c$: the errors are $u = (K-2) c$ and $v = 2c$, and
#   $t^* = \tfrac1K \bigl[\operatorname{logit}((K-2) c) - (K-1) \operatorname{logit}(2c)\bigr]$.
#
# **Step five: saturation.** Put $\lambda_b^* := c / t^*$ (infinite if $t^* \le 0$). For $\lambda_b < \lambda_b^*$ the
# slope of {eq}`eq-reduced` in $t$ at $t^*$ is negative, so that $t > t^*$, and $\lambda_b t = g \le c$ keeps $o = 0$.
# For $\lambda_b \ge \lambda_b^*$, $t^*$ itself is stationary, with $g = c$: neither $s$ nor $t$, so no logit and no
# loss, depends on $\lambda_b$ any more, and {eq}`eq-huber` gives {eq}`eq-saturated`. While $o = 0$, the second
# condition of {eq}`eq-linear` reads $K \lambda_b b = (K-1) v - u$, which is {eq}`eq-paper-bias`. $\square$
#
# **The classifier's mean row.** Spelt out, with $e_1, \dots, e_K$ the unit vectors of a simplex ETF, $q$ a unit vector
# orthogonal to them and $\kappa = (n \lambda_H / \lambda_W)^{1/4}$,
#
# $$
# w_k = \kappa\, \bigl(\sqrt s\, e_k + \sqrt{-o}\, q\bigr), \qquad h = \kappa^{-1} \bigl(\sqrt s\, e_y - \sqrt{-o}\, q\bigr) .
# $$ (eq-mean-row)
#
# The mean row of $W$ is $\kappa \sqrt{-o}\, q$, and makes up the share $|o| / (s + |o|)$ of every
# $\lVert w_k \rVert^2$. On $q$, features and classifier point in *opposite* directions, so that $h$ is no longer
# proportional to $w_y$. After centring, both are still simplex ETFs, aligned with each other.
#
# **Why a numerical check needs few restarts.** For $d \ge K$ every local minimum of $f$ is global. Scale $W$ and $H$ so
# that both decays are $\lambda = \sqrt{\lambda_W \lambda_H}$, and let $G$ be the gradient of the loss in $WH$. At a
# stationary point $G H^\top = -\lambda W$ and $W^\top G = -\lambda H$, so that $W^\top W = H H^\top$; hence, with thin
# SVDs, $W = U S^{1/2} R^\top$, $H = R S^{1/2} V^\top$ and $G = -\lambda U V^\top + G_\perp$ with $U^\top G_\perp = 0$,
# $G_\perp V = 0$. If the largest singular value $\gamma$ of $G_\perp$ is at most $\lambda$, then $-G / \lambda$ is a
# subgradient of the nuclear norm at $WH$, and the point is the minimum of {eq}`eq-convex`. If
# $\operatorname{rank} W = K$, then $G_\perp = 0$. Otherwise $\operatorname{rank} W < d$, and there is a unit vector $q$
# with $W q = 0$, $q^\top H = 0$. With the singular vectors $x, y$ of $\gamma$, the change $W + \varepsilon\, x q^\top$,
# $H - \varepsilon\, q y^\top$ alters $WH$ by $-\varepsilon^2 x y^\top$ and $f$ by
# $\varepsilon^2 (\lambda - \gamma) + O(\varepsilon^4)$, so at a local minimum $\gamma \le \lambda$. $\square$
#
# **When the bias separates the scores.** It does exactly if $b < s + o$, which is $t < s$ and so $u < 1/2$; the
# negative scores are below $b$ anyway, because $s > 0$ and $t \ge 0$. By the two ends of step four this is
# $c < \tfrac{1}{2(K-1)}$ without decay of the bias, and $c < \tfrac{1}{2(K-2)}$ beyond the critical $\lambda_b$.
# Decaying the bias does not spoil the separation; it only moves both scores.
#
# ## In $K - 1$ dimensions
#
# With an offset the minimiser of {eq}`eq-convex` has rank $K$. In $d = K - 1$ dimensions there is no room for it: up to
# $\lambda_b^*$ the simplex ETF is still the minimum, beyond it the minimum of $f$ is strictly larger than that of
# $\varphi$. What takes its place? A point that is lower than every point of a form shows that the minimum does not have
# that form; that needs no proof that the lower point is itself the minimum. So we look for points below the lowest $f$
# of the theorem's form, one ETF and one bias.
#
# ## What we see
#
# The statements of this page, each with a numerical check: a minimisation over all entries of $W$, $H$ and $b$ from
# random starts, which knows nothing of the proof. The setting is the paper's: $K = 10$,
# $\lambda_W = \lambda_H = 5 \cdot 10^{-4}$, batches of $128$.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import bias_saturates as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
chapter.findings()

# %% mystnb={"figure": {"caption": "The minimum of BCE for ten classes at the paper's decay and batch size, against the decay of the bias. Black: closed form. Vermilion circles: our plain minimisation over classifier, features and biases. Dashed grey: the paper's bias equation, given the true positive score. Dotted: the critical bias decay.", "name": "fig-saturation"}, "image": {"alt": "Two panels against lambda_b on a logarithmic axis. Left: black lines of bias and offset with circles of the minimisation, and the paper's equation in dashed grey. Right: black lines of positive and negative scores with circles. A dotted vertical line marks the critical value in both."}}
room.saturation();

# %% [markdown]
# Compare the lines on either side of the dotted one: to its left the three ways should agree, to its right the bias
# should fall as $c / \lambda_b$ and the offset take its place. The paper's equation was given the *true* positive
# score. If both scores fall with the bias, that is the offset; their distance from the bias is all the loss sees. At
# the values that the paper swept, with the share of the mean row in $\lVert w_k \rVert^2$ and what the minimisation
# found:

# %%
room.swept()

# %%
room.transition()

# %% [markdown]
# The figure below shows where the transition lies for other decays. The critical $\lambda_b$ grows a little faster than
# $c$, because $t^*$ shrinks as $c$ grows.

# %% mystnb={"figure": {"caption": "What makes the threshold between positive and negative scores, for BCE with ten and a hundred classes: the bias alone (white) or the offset (green). Black line: critical bias decay. Dashed: where c is one over the number of classes, from where on no ETF is left. White circles: the settings swept in the paper.", "name": "fig-phases"}, "image": {"alt": "Two maps over c and lambda_b on logarithmic axes, for ten and for a hundred classes, coloured from white to dark green by the share of the threshold that the offset makes. In each a black line from the lower left upwards, a dashed vertical line, and a column of white circles."}}
room.phases();

# %% [markdown]
# In $K - 1$ dimensions, the lowest $f$ of the theorem's form stands beside the lowest that the plain minimisation finds
# and beside the bound, the minimum for $d \ge K$. *Spread* is the largest minus the smallest bias of the point found:
# where it is not zero, the classes are no longer treated alike. *Restarts there*: how many of the random starts ended
# at that point; a few only mean that a lower one may have been missed.

# %%
room.one_less_dimension()

# %% [markdown]
# **What this means for the paper's theorem.** Up to the critical $\lambda_b$ it is proved above, bias equation
# included, also in $K - 1$ dimensions. This contains $\lambda_b = 0$, where the paper sweeps the initial bias. Beyond
# it, for $d \ge K$, {eq}`eq-saturated` and {eq}`eq-mean-row` say what takes the place of its form: $W$ is not a centred
# ETF, $h$ is not proportional to $w_y$, and the bias is smaller than the equation's solution, while the centred rows
# and class means still form simplex ETFs. In $K - 1$ dimensions the rows of the table that are marked open are so: the
# form lies above the bound, and we have neither a lower point nor a proof that there is none.
#
# Nothing is trained here, and the features are free: {doc}`departures` lists every difference. Whether networks follow
# is the subject of [the closed form and the published figures](published_predicted).
#
# ## Where these numbers come from

# %%
chapter.provenance()
