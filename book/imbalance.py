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
# **The paper's open question** {cite:p}`li2025bce`: where some classes are much smaller than others, CE's classifier can lose the difference between the
# small ones (*minority collapse*). The paper reports BCE's accuracies on long-tailed CIFAR100 as the better ones. Is that because BCE
# raises the imbalance at which minority classes collapse?
#
# **What to expect.** In the model with free features the answer is no: the small classes merge at exactly the same size for both losses,
# because the one term in which softmax and sigmoid differ cancels. This page proves that for tail classes of equal size, checks it against a plain minimisation, looks at what each loss
# does with a tail that is still open, and trains networks on both sides of the threshold.
#
# **What was known.** Minority collapse was described by Fang et al. {cite:p}`fang2021`. Hong and Ling {cite:p}`hong2024` make CE's problem convex, as we do here, and find the sharp
# threshold for two groups of classes; Dang et al. {cite:p}`dang2024` treat CE with ReLU features. The geometry without collapse is that of Thrampoulidis et al.
# {cite:p}`thrampoulidis2022`. BCE on long tails is used in arXiv 2511.14097. The threshold for BCE, with biases and any other classes beside the tail, and that it is CE's,
# are ours, as far as we know.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# ## The threshold
#
# As in [the bias saturates](bias_saturates), features $h_i$ are free, beside the classifier rows $w_k$ and the biases $b$; now class $k$ has $n_k$ samples, $N$ in all, and
#
# $$
# f(W, H, b) = \frac1N \sum_i \ell(W h_i - b,\, y_i) + \frac{\lambda_W}{2} \lVert W \rVert^2 + \frac{\lambda_H}{2} \lVert H \rVert^2
# + \frac{\lambda_b}{2} \lVert b \rVert^2 .
# $$ (eq-imbalance-model)
#
# :::{admonition} Theorem
# Let $d \ge K$, let $T \ge 2$ classes (the *tail*) have $m$ samples each, and the others any numbers. Under CE and under BCE, for every $\lambda_b \ge 0$: if
#
# $$
# m \le N^2 \lambda_W \lambda_H ,
# $$ (eq-collapse-size)
#
# then at every minimum of $f$ the $T$ classifier rows are one and the same, and so are the features of all tail samples. If $m$ is larger, no two of them are. In
# training with mini-batches of $B$, $\lambda_H$ acts as $\lambda_H B / N$, and the tail collapses where its classes' share of the data is
#
# $$
# \frac mN \le B \lambda_W \lambda_H .
# $$ (eq-collapse-share)
# :::
#
# *Proof.* **Step one: a convex problem.** All samples of a class share one feature ([proof](bias_saturates)); let $Z = WH$ have a column for each class, and put
# $\tilde Z = Z D$, $D = \operatorname{diag}(\sqrt{n_1}, \dots, \sqrt{n_K})$. The least decay of all $W$ and $H$ with this product is $\mu \lVert \tilde Z \rVert_*$, $\mu = \sqrt{\lambda_W \lambda_H}$
# (nuclear norm, the sum of the singular values). So for $d \ge K$ the minimum of $f$ is that of the convex
#
# $$
# \varphi(\tilde Z, b) = \sum_k \frac{n_k}{N}\, \ell(z_k - b,\, k) + \mu\, \lVert \tilde Z \rVert_* + \frac{\lambda_b}{2} \lVert b \rVert^2 .
# $$ (eq-imbalance-convex)
#
# **Step two: the minimiser is unique**, up to a common constant in CE's biases if $\lambda_b = 0$. BCE is strictly convex in the logits, so all minimisers share them. If $\lambda_b > 0$ they share $b$ as well, because $\lVert b \rVert^2$ is strictly convex, hence $\tilde Z$. If
# $\lambda_b = 0$ they differ by some $a$ in $\tilde Z + a s^\top$ and $b + a$, $s = (\sqrt{n_k})_k$. With $Q = I - s s^\top / N$, $\lVert X \rVert_* \ge \lVert X Q \rVert_*$, with equality only for
# $X s = 0$, and $X Q$ does not depend on $a$: one $a$ is minimal. CE fixes the logits up to a constant for each column; the same argument with $I - \mathbf 1 \mathbf 1^\top / K$ from the left
# fixes these.
#
# **Step three: one number says how far the tail is open.** $\varphi$ stays the same when tail classes are permuted, and the minimiser is unique, so it stays the same as well. Hence its tail biases are equal, and
#
# $$
# \tilde Z = \tilde Z_0 + \alpha P ,
# $$ (eq-alpha)
#
# where $P$ is the projector onto the *contrasts*, the vectors on the tail that sum to zero, and $\tilde Z_0$ vanishes on them from both sides (the tail's own block is constant on and off its
# diagonal, and all other entries are constant along the tail). The nuclear norm is then
# $\lVert \tilde Z_0 \rVert_* + (T - 1) \lvert \alpha \rvert$.
#
# **Step four: the slope at $\alpha = 0$.** There all tail classes have the same logit on each tail sample, hence the same probability $p$, be it a softmax or a sigmoid. The residual of class $j$ on a sample of class
# $k$ is $p_{jk} - [j = k]$ in both losses, so the loss has the slope
#
# $$
# \sum_{j, k \in \text{tail}} \frac mN \bigl(p - [j = k]\bigr) \frac{P_{jk}}{\sqrt m} = - \frac{\sqrt m}{N} \operatorname{tr} P = -(T - 1) \frac{\sqrt m}{N} ,
# $$ (eq-slope)
#
# because the entries of $P$ sum to zero. *$p$ is gone, and with it every difference between the losses.* The decay's slope is $\pm (T - 1) \mu$ on the two sides of zero. $\varphi$ is strictly convex in $\alpha$, so
# $\alpha = 0$ is its minimum at fixed $\tilde Z_0$ and $b$ exactly if $\sqrt m / N \le \mu$, which is {eq}`eq-collapse-size`.
#
# **Step five: back to rows and features.** At a minimum $W W^\top = \sqrt{\lambda_H / \lambda_W}\, (\tilde Z \tilde Z^\top)^{1/2}$, which on the contrasts is $\lvert \alpha \rvert \sqrt{\lambda_H / \lambda_W}$. So two tail
# rows lie
#
# $$
# \lVert w_j - w_k \rVert = \sqrt{2 \lvert \alpha \rvert}\, (\lambda_H / \lambda_W)^{1/4}
# $$ (eq-tail-distance)
#
# apart, all pairs equally far: zero exactly if $\alpha = 0$. For the features exchange the roles of the decays and divide by $\sqrt m$. $\square$
#
# If all classes are equal, {eq}`eq-collapse-size` reads $c = \sqrt{n \lambda_W \lambda_H} \ge 1/K$, where also [the simplex ETF ends](bias_saturates).
#
# ## The threshold by bisection
#
# The table finds the threshold without the theorem: for each setting and loss a bisection on plain minimisations over $W$, $H$ and $b$, which asks whether the tail rows are apart.
# One random start is enough: for $d \ge K$ every local minimum is global ([proof](bias_saturates), with $\tilde Z$ in the place of $Z$).

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import imbalance as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
room.thresholds_table()

# %% [markdown]
# ## A tail that is still open
#
# Five large classes and five small ones, biases free. The threshold is the same for both losses; the way there need not be.

# %% mystnb={"figure": {"caption": "Five large classes and five small ones at the minimum, CE (blue) and BCE (vermilion), free biases: angle within each group (rows taken around their mean), length of the rows, and biases; solid: large classes, dashed: small ones. Left: against the imbalance at the paper's decay and batch size. Right: against c at a fixed imbalance. Dotted: the theorem's threshold.", "name": "fig-head-tail"}, "image": {"alt": "Six panels. Left column: against the imbalance; right column: against c. Rows: the angle within a group of classes, the length of a classifier row, and the bias, each with a solid line for the large classes and a dashed one for the small classes, for CE and BCE. A dotted vertical line marks the threshold."}}
room.above_threshold();

# %% [markdown]
# Follow the small classes from left to right: what becomes of their angles, of the length of their rows, and of their biases? A class
# with a short row and a high bias is found only where the evidence is strong. The angles depend on what they are measured around, and on
# the bias; the next table has both, far from the threshold, with free and with decayed biases. In distance, relative to the large classes,
# compare the losses once more.

# %%
room.opened_table()

# %% [markdown]
# ## Trained networks
#
# Do networks follow? The quick profile's convnet, whose features are free in sign, is trained on a long-tailed subset of the digits
# (exponential class sizes) with SGD, the same in every profile. $\lambda_H$ is the paper's $5 \cdot 10^{-4}$; several values of $\lambda_W$ put
# the *collapse size* $N B \lambda_W \lambda_H$ on both sides of the smallest classes. No two class sizes are equal, so the theorem does not
# apply as it stands: the prediction is the minimum found with the actual class sizes.

# %%
runs = chapter.runs()

# %% mystnb={"figure": {"caption": "Long-tailed digits, against the collapse size. Left: mean distance between the classifier rows of the three smallest classes over that of the three largest; dots: trained networks; triangles: four times as long; black: minimum of the model, nothing fitted. Right: accuracy and uniform accuracy on the balanced test set. Dotted: the sizes of the three smallest classes.", "name": "fig-trained-tail"}, "image": {"alt": "Two panels against the collapse size, logarithmic. Left: the distance between the rows of the smallest classes, as black curves predicted for CE and BCE and as dots and triangles of trained networks. Right: test accuracy with filled markers and uniform accuracy with hollow ones, for both losses. Dotted vertical lines mark the sizes of the three smallest classes."}}
room.trained(runs);

# %% [markdown]
# Compare the dots with the curves, and the triangles with the dots at the same place. Near the threshold the pull that opens a tail is
# small, so that a network may need long to come to the minimum.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The same in numbers, with the cosine of the tail rows (around the mean row). *Size* is the collapse size, *model* the minimum of the model for the column before; accuracies are on the test set.

# %%
room.trained_table(runs)

# %% [markdown]
# The distance is the better figure because it is blind to a common shift of all rows, which CE does not see, and stays meaningful when rows become short. The cosine does not: once tail rows have nearly vanished, their
# direction is left to small differences between the class sizes.
#
# ## What the paper's table implies
#
# CIFAR100-LT has class sizes $500\, r^{-k/99}$, $k = 0, \dots, 99$, for an imbalance of $r$. The table sets the paper's accuracies beside the collapse size at the default decays of the authors' code and batches of $128$.

# %%
room.long_tailed_table()

# %% [markdown]
# Where the smallest class lies far above the collapse size, BCE's gain in the table is not, in this model, an escape from a collapse that CE suffers. One caveat: the paper's accuracy experiments decay all weights in
# the optimizer, rather than classifier and features, and what $\lambda_H$ that amounts to is not known. Another: the authors' ResNets have
# nonnegative features, for which the theorem is not proved.
#
# ## What is left open
#
# Tail classes of unequal sizes, whose rows come close rather than coincide; $d < K$; nonnegative features; networks of the paper's size;
# and where BCE's gain on CIFAR100-LT comes from. The networks here are the digits', one seed each; {doc}`long_tailed` sets
# trained networks beside the paper's table, and {doc}`departures` lists every difference.
#
# ## Where these numbers come from

# %%
chapter.provenance(runs, profile="quick")
