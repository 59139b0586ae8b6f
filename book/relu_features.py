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
# # ReLU features
#
# **Whose question.** The paper proves that at the minimum of both losses class means and classifier rows form one
# simplex ETF {cite:p}`li2025bce`, for features that may take any sign. The networks that it trains most, ResNets and
# DenseNets, end in a ReLU and average pooling: no entry of a feature can be negative, and vectors without negative
# entries cannot have negative cosines. So: **where is the minimum if no feature can be negative, what do the measures
# of neural collapse see of it, and do networks head for it?**
#
# **What to expect.** The minimum has a closed form again. The features of different classes are *orthogonal* around
# zero, instead of at the angle of a simplex, unless the bias decays so fast that an offset takes its place; around
# their mean they are a simplex ETF in every case. This page proves it, compares it with a minimisation under bounds,
# and trains the same network with and without its last ReLU.
#
# **What was known.** For CE, Dang et al. {cite:p}`dang2024` prove orthogonal class means and centred classifier rows
# for ReLU features, with the threshold of minority collapse. For the mean squared error, Massion, Makhlouf and Massart
# {cite:p}`massion2026` find the way from a simplex to an orthogonal frame as the bias is decayed. BCE, its bias, and
# the way back to the minimum of free features are ours, as far as we know.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# ## The theorem
#
# The model is that of [The bias saturates](bias_saturates): $K$ classes of $n$ samples each, classifier rows $w_k$,
# features $h_i$ and biases, the mean loss plus
# $\tfrac{\lambda_W}{2} \lVert W \rVert^2 + \tfrac{\lambda_H}{2} \lVert H \rVert^2 + \tfrac{\lambda_b}{2} \lVert b \rVert^2$,
# and $c = \sqrt{n \lambda_W \lambda_H}$. Now no entry of a feature is negative: $h_i \ge 0$.
#
# :::{admonition} Theorem
# Let $d \ge K$. The least value of $f$ over $h_i \ge 0$ is that of a function of three numbers, the positive score $p$,
# the negative score $q$ and the bias $b$, alike for all classes: the loss of one sample, plus
# $\tfrac{K \lambda_b}{2} b^2$, plus $D(p, q)$, where with $s_1 = \lvert p - q \rvert$ and
# $s_2 = \lvert p + (K-1)\, q \rvert$
#
# $$
# D = \begin{cases} c\,\bigl((K-1)\, s_1 + s_2\bigr) & \text{where } s_2 \ge s_1 , \\
# c K \sqrt{p^2 + (K-1)\, q^2} & \text{where } s_2 < s_1 . \end{cases}
# $$ (eq-nonnegative)
#
# In the first case this is what free features cost, and two class features have the cosine
# $\frac{s_2 - s_1}{s_2 + (K-1) s_1} \ge 0$. In the second the features of different classes are orthogonal.
# :::
#
# **Proof.** *One feature a class.* At fixed $W$ and $b$ the problem in each $h_i$ is strictly convex, on a convex set,
# and the same for all samples of a class, so that they share its one solution. Let $H$ be the $d \times K$ matrix of
# class features, $Z = W H$ and $G = H^\top H$.
#
# *A convex problem.* Given $Z$ and $H$, the least $\lVert W \rVert^2$ with $W H = Z$ is
# $\operatorname{tr}(Z G^{+} Z^\top)$, finite where the rows of $Z$ lie in the range of $G$. So the decay of $W$ and $H$
# is the least value of
#
# $$
# \tfrac{\lambda_W}{2} \operatorname{tr}(Z G^{+} Z^\top) + \tfrac{n \lambda_H}{2} \operatorname{tr} G ,
# $$ (eq-gram)
#
# over all $G$ that are Gram matrices of $K$ vectors without negative entries. The first term is the matrix fractional
# function, which is jointly convex in $(Z, G)$. Gram matrices of such vectors are positive semidefinite and have no
# negative entry; take all matrices with these two properties instead. They form a convex cone, so that $f$ becomes a
# convex function of $(Z, G, b)$ whose least value is at most that of $f$.
#
# *Averaging.* The problem stays the same when the classes are permuted. The average of a minimiser over all
# permutations is a minimiser with $b = \beta \mathbf 1$, $Z = (p - q) I + q J$ and
# $G = g_1 (I - \tfrac1K J) + g_2 \tfrac1K J$, where $J$ is the matrix of ones. $G$ is positive semidefinite where
# $g_1, g_2 \ge 0$, and its entries off the diagonal, $(g_2 - g_1)/K$, are not negative where $g_2 \ge g_1$.
#
# *Nothing was lost.* The square root of such a $G$, $\sqrt{g_1}\, (I - \tfrac1K J) + \sqrt{g_2}\, \tfrac1K J$, has no
# negative entry either. Its columns are $K$ class features in $K \le d$ dimensions, without a negative entry, whose
# Gram matrix is $G$. So the larger set has the same least value.
#
# *Two numbers are left in* $G$. With eigenvalues $p - q$ ($K - 1$ times) and $p + (K-1)\, q$ of $Z$, {eq}`eq-gram` is
#
# $$
# (K-1) \Bigl(\tfrac{\lambda_W}{2} \tfrac{s_1^2}{g_1} + \tfrac{n \lambda_H}{2}\, g_1\Bigr)
# + \tfrac{\lambda_W}{2} \tfrac{s_2^2}{g_2} + \tfrac{n \lambda_H}{2}\, g_2 , \qquad g_2 \ge g_1 .
# $$
#
# Without the condition, $g_1 = s_1 \sqrt{\lambda_W / (n \lambda_H)}$ and $g_2 = s_2 \sqrt{\lambda_W / (n \lambda_H)}$
# are best, which satisfy it where $s_2 \ge s_1$: the first case of {eq}`eq-nonnegative`. Where $s_2 < s_1$ the
# condition binds, as the expression is convex: $g_1 = g_2 = g$, and $G = g I$. The least value over $g$ is
# $\sqrt{n \lambda_W \lambda_H}\, \sqrt{K}\, \sqrt{(K-1) s_1^2 + s_2^2}$, and
# $(K-1) s_1^2 + s_2^2 = K\, (p^2 + (K-1)\, q^2)$. $\square$
#
# ## The minimum
#
# **BCE.** With $u = \sigma(b - p)$ and $v = \sigma(q - b)$, the errors that are left, and $g = \lambda_b b$, the slope
# in $b$ vanishes where $(K-1)\, v - u = K g$. In the second case the slopes in $p$ and $q$ vanish where $u = c K p / r$
# and $v = -c K q / r$ with $r^2 = p^2 + (K-1)\, q^2$. So the errors lie on a circle, and the scores have their ratio:
#
# $$
# \begin{gathered}
# u^2 + (K-1)\, v^2 = c^2 K^2, \qquad \frac{p}{u} = -\frac{q}{v} = \frac{s_1}{u + v}, \\
# b = \frac{v \operatorname{logit} u - u \operatorname{logit} v}{u + v} .
# \end{gathered}
# $$ (eq-circle)
#
# The line and the circle meet in $u = \sqrt{K-1}\, w - g$, $v = g + w / \sqrt{K-1}$, $w = \sqrt{c^2 K - g^2}$. For
# $\lambda_b = 0$ this is a formula, $u = (K-1)\, v = c \sqrt{K (K-1)}$. For $\lambda_b > 0$ it leaves one equation,
# $g = \lambda_b\, b(g)$, whose left side rises and whose right side falls: what is minimised over $p$ and $q$ at a
# fixed $b$ is convex in $b$, so that $(K-1)\, v - u$ falls as $b$ grows. Free features have the line $u + v = K c$ in
# the place of the circle; the two meet at $g = c$, where $s_2 = s_1$. From there on the sign does not bind:
#
# $$
# \lambda_b^{*} = \frac{c\, K}{2 \operatorname{logit}\bigl((K-2)\, c\bigr) - (K-2) \operatorname{logit}(2 c)} ,
# $$ (eq-sign-critical)
#
# infinite for $K \le 4$. Free features change their geometry earlier, where the offset sets in; between the two
# thresholds their class features have negative cosines, from a simplex ETF's to $0$. Both scores are $0$ from
# $c = \sqrt{(K-1)/K} / K$ on if $\lambda_b = 0$, a little before free features' $1/K$.
#
# **CE** sees no common shift of the scores, so that $p + (K-1)\, q = 0$ is best, and the sign always binds: all is as
# if $c$ were larger by $\sqrt{K / (K-1)}$.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import relu_features as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %% mystnb={"figure": {"caption": "The geometry of the class features at BCE's minimum, for ten classes, over the decay of the bias and $c$: features free in sign (left) and nonnegative ones (right). Dashed: the paper's $c$.", "name": "fig-relu-phases"}, "image": {"alt": "Two maps side by side. Across: the decay of the bias, upwards: c, both logarithmic. Shades of grey for five cases: all scores alike, a simplex ETF around zero, cosines below zero, orthogonal, cosines above zero. A dashed line marks the paper's c."}}
room.phases();

# %% [markdown]
# Follow the dashed line from left to right: it is the sweep over $\lambda_b$ of the paper's figures. In numbers:

# %%
room.minima()

# %% [markdown]
# What the measures of collapse see of it, at both minima:

# %%
room.collapse()

# %% [markdown]
# NC1, NC3 and the NC2 of the class means take the means around their centre, where an orthogonal frame is a simplex
# ETF. The NC2 of the classifier's rows sees the offset alone. What tells the two minima apart is the cosine around
# zero.
#
# ## Trained networks
#
# The same network with its last ReLU and without it, trained with SGD, decoupled decay and biases that start around
# zero.

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "The mean cosine of two class means around zero over the epochs, a panel for each network, for CE (blue) and BCE (vermilion); a line for each seed. Black: where free features (dashed) and nonnegative ones (solid) have it at the minimum without decay of the bias.", "name": "fig-relu-cosines"}, "image": {"alt": "A panel for each network. Across: the epoch, logarithmic beyond the first; upwards: the mean cosine of two class means. A line for each run of CE and BCE, a dashed black line below zero and a solid one at zero."}}
room.along_epochs(runs);

# %% [markdown]
# Two things keep a network from its minimum. BCE's bias creeps ({doc}`bias_travels`), and as long as it is on its way
# the scores rest beside it, with an offset, and so with another angle; the table takes that into account. And under CE
# a part that all features share costs decay and earns nothing, so that nothing but the decay removes it: slowly, at a
# rate of $\lambda_H$. Features with a ReLU begin with much of it.

# %%
room.networks(runs)

# %% [markdown]
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# **For somebody who trains classifiers.** Do not look for the cosines of a simplex in a network that ends in a ReLU:
# centre the class means first, or expect $0$. Where features are compared without centring, as in retrieval, two
# classes of such a network share directions at best not at all, and in practice more than that. And if two classes have
# to lie at an obtuse angle, take the last ReLU away: nothing else in the network changes.
#
# ## What is left open
#
# $d < K$, where $K$ orthogonal directions do not exist; the scores of unequal classes, of which {doc}`imbalance` proves
# only where a tail merges; and what batch statistics and shared weights add in real networks. {doc}`departures` lists
# what differs from the paper.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
