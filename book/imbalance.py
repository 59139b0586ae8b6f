# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-papermill
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
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
# # Imbalance and minority collapse
#
# **The paper's open question** {cite:p}`li2025bce`: where some classes are much smaller than others, CE's classifier
# can lose the difference between the small ones (*minority collapse*). The paper reports BCE's accuracies on
# long-tailed CIFAR100 as the better ones. Is that because BCE raises the imbalance at which minority classes collapse?
#
# **What to expect.** In the model with free features the answer is no: the small classes merge at exactly the same size
# for both losses, because the one term in which softmax and sigmoid differ cancels. This page proves that for tail
# classes of equal size, with and without a last ReLU, checks it against a plain minimisation, looks at what each loss
# does with a tail that is still open, and trains networks on both sides of the threshold.
#
# **What was known.** Minority collapse was described by Fang et al. {cite:p}`fang2021`. Hong and Ling
# {cite:p}`hong2024` make CE's problem convex and find the sharp threshold for two groups of classes; Dang et al.
# {cite:p}`dang2024` treat CE with ReLU features. The geometry without collapse is that of Thrampoulidis et al.
# {cite:p}`thrampoulidis2022`. BCE on long tails is used in arXiv 2511.14097. The threshold for BCE, with biases and any
# other classes beside the tail, in any dimension, and that it is CE's, are ours, as far as we know, and so is the
# proof.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# ## The threshold
#
# As in [the bias saturates](bias_saturates), the features $h_i$ in $d$ dimensions are variables themselves, beside the
# classifier rows $w_k$ and the biases $b$; now class $k$ has $n_k$ samples, $N$ in all, and
#
# $$
# f(W, H, b) = \frac1N \sum_i \ell(W h_i - b,\, y_i) + \frac{\lambda_W}{2} \lVert W \rVert^2 + \frac{\lambda_H}{2} \lVert H \rVert^2
# + \frac{\lambda_b}{2} \lVert b \rVert^2 .
# $$ (eq-imbalance-model)
#
# Features are *free* in sign, or *nonnegative*, as after a ReLU.
#
# :::{admonition} Theorem
# Let $T \ge 2$ classes (the *tail*) have $m$ samples each, and the others any numbers. Under CE and under BCE, for
# every $\lambda_b \ge 0$:
#
# **Merged.** For features of either kind, in any number of dimensions $d$: if
#
# $$
# m \le N^2 \lambda_W \lambda_H ,
# $$ (eq-collapse-size)
#
# then at every global minimum of $f$ the $T$ classifier rows are one and the same, and so are the features of all tail
# samples.
#
# **Apart.** If $m$ is larger, then at a global minimum no two of the rows are the same, nor the features of two tail
# classes: for free features wherever $d \ge K$; for nonnegative ones wherever $d > K (K + 1) / 2$, unless the features
# of both classes are $0$, which cannot be if $m > 2 N^2 \lambda_W \lambda_H$.
# :::
#
# In training with mini-batches of $B$, $\lambda_H$ acts as $\lambda_H B / N$, and the tail merges where its classes'
# share of the data is
#
# $$
# \frac mN \le B \lambda_W \lambda_H .
# $$ (eq-collapse-share)
#
# **Proof that the tail merges.** Compare any $(W, H, b)$ with the one in which each tail row is replaced by the mean
# $\bar w$ of the tail rows, each tail bias by their mean, and the features of all tail samples by their mean $\bar h$,
# which is not negative if they are not. Let $\delta w_j$, $\delta b_j$ and $\delta h_i$ be what is taken away, and
# $\bar f$ the new value of $f$.
#
# *The loss.* It is convex in the logits $Z$, so that it was at least
# $L(\bar Z) + \langle \nabla L(\bar Z), Z - \bar Z \rangle$. The entry of $\nabla L$ for row $j$ and sample $i$ is
# $\tfrac1N (p_{ji} - [j = y_i])$, in both losses, with a softmax or a sigmoid $p$. After the replacement all tail rows
# have one and the same $p$ on a given sample, and all tail samples have one and the same $p$ in a given row. So the
# changes of tail rows on other samples, and those of tail samples in other rows, cancel when they are summed over the
# tail. On the tail's own samples and rows
#
# $$
# (Z - \bar Z)_{ji} = \delta w_j^\top \bar h + \bar w^\top \delta h_i + \delta w_j^\top \delta h_i - \delta b_j ,
# $$ (eq-tail-change)
#
# and all four terms vanish when they are summed over the tail's rows and samples with the one $p$. *That $p$ is gone,
# and with it every difference between the losses.* What is left is $-\tfrac1N$ times the sum of $(Z - \bar Z)_{y_i i}$
# over the tail's samples; as each tail class has $m$ of them, three of the terms vanish again. So the loss was at least
# $L(\bar Z) - \tfrac1N \sum_i \delta w_{y_i}^\top \delta h_i$.
#
# *The decay* was larger by
# $\tfrac{\lambda_W}{2} \sum_j \lVert \delta w_j \rVert^2 + \tfrac{\lambda_H}{2} \sum_i \lVert \delta h_i \rVert^2 + \tfrac{\lambda_b}{2} \sum_j \delta b_j^2$.
# Together, with sums over the tail's samples,
#
# $$
# \begin{aligned}
# f - \bar f \;&\ge\; \sum_i \Bigl( \frac{\lambda_W}{2m} \lVert \delta w_{y_i} \rVert^2
# + \frac{\lambda_H}{2} \lVert \delta h_i \rVert^2 - \frac1N\, \delta w_{y_i}^\top \delta h_i \Bigr) \\
# &\ge\; \Bigl( \sqrt{\lambda_W \lambda_H / m} - \frac1N \Bigr) \sum_i \lVert \delta w_{y_i} \rVert\, \lVert \delta h_i \rVert .
# \end{aligned}
# $$ (eq-tail-gain)
#
# The bracket in the second line is not negative exactly if {eq}`eq-collapse-size` holds.
#
# *Every minimum.* At a global minimum $f = \bar f$, and all of this holds with equality. BCE is strictly convex in the
# logits, so that $Z = \bar Z$; CE fixes them up to a constant for each sample. The mean of {eq}`eq-tail-change` over
# the tail rows is $\bar w^\top \delta h_i$, so that either way $\delta w_j^\top h_i = \delta b_j$ for every tail row
# and tail sample. Then $\delta w_j^\top \delta h_i = 0$, as $\bar h$ is the mean of the $h_i$, and the first line of
# {eq}`eq-tail-gain`, now a sum of squares, is $0$ only if all $\delta w_j$ and $\delta h_i$ are; with them all
# $\delta b_j$. $\square$
#
# **Proof that it is apart.** Let two tail classes $j$ and $k$ have the same row, or the same features, at a global
# minimum. The first line of {eq}`eq-tail-gain`, for these two as the tail, is then a sum of squares, so that $\delta w$,
# $\delta h$ and, as before, $\delta b$ vanish: the two agree in everything. Move their rows by $\pm \varepsilon x$ and
# their features by $\pm \varepsilon y$, where $x$ is orthogonal to all features and $y$ to all rows. The only logits
# that change are those of the two rows on the two classes, by $\pm \varepsilon^2 x^\top y$, and
#
# $$
# f \;\text{changes by}\; \varepsilon^2 \Bigl( \lambda_W \lVert x \rVert^2 + m \lambda_H \lVert y \rVert^2 - \frac{2m}{N}\, x^\top y \Bigr) + O(\varepsilon^4) ,
# $$ (eq-tail-opens)
#
# which is below zero for $x = \sqrt{m \lambda_H}\, e$, $y = \sqrt{\lambda_W}\, e$ if $m > N^2 \lambda_W \lambda_H$. It
# remains to find the direction $e$.
#
# *Free features.* At a minimum the rows lie in the span of the features, because
# $\lambda_W W = -\sum_i \nabla_{z_i} L\, h_i^\top$. Samples of a class have one feature (proofs:
# [free](bias_saturates), [nonnegative](relu_features)), and two classes agree, so that this span has at most $K - 1$
# dimensions: in $d \ge K$ some $e$ is orthogonal to it.
#
# *Nonnegative features* $h$ of the two classes, not $0$, must stay nonnegative when moved either way. The Gram matrix
# of the class features is the sum of $a_s a_s^\top$ over the coordinates $s$, where $a_s \in \mathbb R^K$ holds the
# classes' values in that coordinate. By Carathéodory's theorem $K (K + 1) / 2$ of these matrices, with weights that are
# not negative, have the same sum. So there is a minimum with the same Gram matrix that leaves a coordinate $r$ unused:
# the features enter the minimum only through it, since with $\lambda_W W = -(\nabla_Z L)\, H^\top$ both $W H$ and
# $\lVert W \rVert$ depend on $H^\top H$ alone, and so do the distances of rows and of features. Take a coordinate $s$
# in which $h$ is positive and spread it evenly over $s$ and $r$: all values by $1 / \sqrt 2$ in both, in features and
# in rows. Nothing changes, and $e$ with $\pm 1$ in $s$ and $r$ is orthogonal to all features and rows and can be added
# to $h$ and taken from it.
#
# *Features that are* $0$. Give one of the two a feature $\varepsilon \eta$ in an unused coordinate and the rows the
# values $\varepsilon x$ there: to second order $f$ changes by
# $\varepsilon^2 \bigl( \tfrac mN \eta\, x^\top (p - e_j) + \tfrac{\lambda_W}{2} \lVert x \rVert^2 + \tfrac{m \lambda_H}{2} \eta^2 \bigr)$,
# where $p$ holds the probabilities of a sample without features and $e_j$ is $1$ for its class. The best $x$ makes this
# negative if $m \lVert p - e_j \rVert^2 > N^2 \lambda_W \lambda_H$. And $p_j = p_k$, so that
# $\lVert p - e_j \rVert^2 \ge (1 - p_j)^2 + p_j^2 \ge \tfrac12$. $\square$
#
# The proof uses nothing of the losses but that they are convex in the logits and have the residual $p - [j = y]$, with
# a $p$ that is the same for classes whose logits are. If all classes are equal, {eq}`eq-collapse-size` reads
# $c = \sqrt{n \lambda_W \lambda_H} \ge 1/K$, where also [the simplex ETF ends](bias_saturates).
#
# ## The threshold by bisection
#
# The table finds the threshold without the theorem: for each setting and loss a bisection on plain minimisations over
# $W$, $H$ and $b$, which asks whether the tail rows are apart. One random start is enough: for $d \ge K$ every local
# minimum is global ([proof](bias_saturates), with $W H \operatorname{diag}(\sqrt{n_k})$ in the place of $Z$).

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import imbalance as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
room.thresholds_table()

# %% [markdown]
# On either side of the threshold, with fewer dimensions than classes, and with nonnegative features, where a tail may
# lose its features before it merges:

# %%
room.sides_table()

# %% [markdown]
# ## A tail that is still open
#
# Five large classes and five small ones, biases free. The threshold is the same for both losses; the way there need not
# be.

# %% mystnb={"figure": {"caption": "Five large classes and five small ones at the minimum, CE (blue) and BCE (vermilion), free biases: angle within each group (rows taken around their mean), length of the rows, and biases; solid: large classes, dashed: small ones. Left: against the imbalance at the paper's decay and batch size. Right: against c at a fixed imbalance. Dotted: the theorem's threshold.", "name": "fig-head-tail"}, "image": {"alt": "Six panels. Left column: against the imbalance; right column: against c. Rows: the angle within a group of classes, the length of a classifier row, and the bias, each with a solid line for the large classes and a dashed one for the small classes, for CE and BCE. A dotted vertical line marks the threshold."}}
room.above_threshold();

# %% [markdown]
# Follow the small classes from left to right: what becomes of their angles, of the length of their rows, and of their
# biases? A class with a short row and a high bias is found only where the evidence is strong. The angles depend on what
# they are measured around, and on the bias; the next table has both, far from the threshold, with free and with decayed
# biases. In distance, relative to the large classes, compare the losses once more.

# %%
room.opened_table()

# %% [markdown]
# ## Trained networks
#
# Do networks follow? A small network with features that are free in sign is trained on a long-tailed subset of the
# digits (exponential class sizes) with SGD: a convnet in the profiles laptop and paper, an MLP and fewer settings in
# the profile quick. $\lambda_H$ is the paper's $5 \cdot 10^{-4}$; several values of $\lambda_W$ put the *collapse size*
# $N B \lambda_W \lambda_H$ on both sides of the smallest classes. No two class sizes are equal, so the theorem does not
# apply as it stands: the prediction is the minimum found with the actual class sizes.

# %%
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "Long-tailed digits, against the collapse size. Left: mean distance between the classifier rows of the three smallest classes over that of the three largest; dots: trained networks; triangles: trained longer; black: minimum of the model, nothing fitted. Right: accuracy and uniform accuracy on the balanced test set. Dotted: the sizes of the three smallest classes.", "name": "fig-trained-tail"}, "image": {"alt": "Two panels against the collapse size, logarithmic. Left: the distance between the rows of the smallest classes, as black curves predicted for CE and BCE and as dots and triangles of trained networks. Right: test accuracy with filled markers and uniform accuracy with hollow ones, for both losses. Dotted vertical lines mark the sizes of the three smallest classes."}}
room.trained(runs);

# %% [markdown]
# Compare the dots with the curves, and the triangles with the dots at the same place. Near the threshold the pull that
# opens a tail is small, so that a network may need long to come to the minimum.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The same in numbers, with the cosine of the tail rows (around the mean row). *Size* is the collapse size, *model* the
# minimum of the model for the column before; accuracies are on the test set.

# %%
room.trained_table(runs)

# %% [markdown]
# The distance is the better figure because it is blind to a common shift of all rows, which CE does not see, and stays
# meaningful when rows become short. The cosine does not: once tail rows have nearly vanished, their direction is left
# to small differences between the class sizes.
#
# ## What the paper's table implies
#
# CIFAR100-LT has class sizes $500\, r^{-k/99}$, $k = 0, \dots, 99$, for an imbalance of $r$. The table sets the paper's
# accuracies beside the collapse size at the default decays of the authors' code and batches of $128$.

# %%
room.long_tailed_table()

# %% [markdown]
# Where the smallest class lies far above the collapse size, BCE's gain in the table is not, in this model, an escape
# from a collapse that CE suffers. One caveat: the paper's accuracy experiments decay all weights in the optimizer,
# rather than classifier and features, and what $\lambda_H$ that amounts to is not known. Another: no two sizes of the
# tail are equal there.
#
# ## What is left open
#
# Tail classes of unequal sizes, whose rows come close rather than coincide; when a tail opens in fewer dimensions than
# classes; networks of the paper's size; and where BCE's gain on CIFAR100-LT comes from. The networks here are the
# digits', one seed each; {doc}`long_tailed` sets trained networks beside the paper's table, and {doc}`departures` lists
# every difference.
#
# ## Where these numbers come from

# %%
chapter.provenance(runs)
