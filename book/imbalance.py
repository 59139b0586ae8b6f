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
# small ones (*minority collapse*). BCE does better on long-tailed CIFAR100. Is that because BCE raises the imbalance at which
# minority classes collapse?
#
# **What to expect.** In the model with free features the answer is no: the small classes merge at exactly the same size for both losses,
# because the one term in which softmax and sigmoid differ cancels. This page proves that for classes of equal size, checks it against a plain minimisation, shows what each loss
# does with a tail that is still open, and trains networks on both sides of the threshold.
#
# **What was known.** Minority collapse was described by Fang et al. {cite:p}`fang2021`. Hong and Ling {cite:p}`hong2024` make CE's problem convex, as we do here, and find the sharp
# threshold for two groups of classes; Dang et al. {cite:p}`dang2024` treat CE with ReLU features. The geometry without collapse is that of Thrampoulidis et al.
# {cite:p}`thrampoulidis2022`. BCE on long tails is used in BCE3S (arXiv 2511.14097). The threshold for BCE, with biases and any other classes beside the tail, and that it is CE's,
# are ours, as far as we know.

# %% tags=["parameters"]
profile = "quick"  # this chapter's runs are the same in every profile
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the profile's own; or a list

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
# *Proof.* **Step 1: a convex problem.** All samples of a class share one feature ([proof](bias_saturates)); let $Z = WH$ have a column for each class, and put
# $\tilde Z = Z D$, $D = \operatorname{diag}(\sqrt{n_1}, \dots, \sqrt{n_K})$. The least decay of all $W$ and $H$ with this product is $\mu \lVert \tilde Z \rVert_*$, $\mu = \sqrt{\lambda_W \lambda_H}$
# (nuclear norm, the sum of the singular values). So for $d \ge K$ the minimum of $f$ is that of the convex
#
# $$
# \varphi(\tilde Z, b) = \sum_k \frac{n_k}{N}\, \ell(z_k - b,\, k) + \mu\, \lVert \tilde Z \rVert_* + \frac{\lambda_b}{2} \lVert b \rVert^2 .
# $$ (eq-imbalance-convex)
#
# **Step 2: the minimiser is unique**, up to a common constant in CE's biases if $\lambda_b = 0$. BCE is strictly convex in the logits, so all minimisers share them. If $\lambda_b > 0$ they share $b$ as well, because $\lVert b \rVert^2$ is strictly convex, hence $\tilde Z$. If
# $\lambda_b = 0$ they differ by some $a$ in $\tilde Z + a s^\top$ and $b + a$, $s = (\sqrt{n_k})_k$. With $Q = I - s s^\top / N$, $\lVert X \rVert_* \ge \lVert X Q \rVert_*$, with equality only for
# $X s = 0$, and $X Q$ does not depend on $a$: one $a$ is minimal. CE fixes the logits up to a constant for each column; the same argument with $I - \mathbf 1 \mathbf 1^\top / K$ from the left
# fixes these.
#
# **Step 3: one number says how far the tail is open.** $\varphi$ stays the same when tail classes are permuted, and the minimiser is unique, so it stays the same as well. Hence its tail biases are equal, and
#
# $$
# \tilde Z = \tilde Z_0 + \alpha P ,
# $$ (eq-alpha)
#
# where $P$ is the projector onto the *contrasts*, the vectors on the tail that sum to zero, and $\tilde Z_0$ vanishes on them from both sides (the tail's own block is constant on and off its
# diagonal, and all other entries are constant along the tail). The nuclear norm is then
# $\lVert \tilde Z_0 \rVert_* + (T - 1) \lvert \alpha \rvert$.
#
# **Step 4: the slope at $\alpha = 0$.** There all tail classes have the same logit on each tail sample, hence the same probability $p$, be it a softmax or a sigmoid. The residual of class $j$ on a sample of class
# $k$ is $p_{jk} - [j = k]$ in both losses, so the loss has the slope
#
# $$
# \sum_{j, k \in \text{tail}} \frac mN \bigl(p - [j = k]\bigr) \frac{P_{jk}}{\sqrt m} = - \frac{\sqrt m}{N} \operatorname{tr} P = -(T - 1) \frac{\sqrt m}{N} ,
# $$ (eq-slope)
#
# because the entries of $P$ sum to zero. *$p$ is gone, and with it every difference between the losses.* The decay's slope is $\pm (T - 1) \mu$ on the two sides of zero. $\varphi$ is strictly convex in $\alpha$, so
# $\alpha = 0$ is its minimum at fixed $\tilde Z_0$ and $b$ exactly if $\sqrt m / N \le \mu$, which is {eq}`eq-collapse-size`.
#
# **Step 5: back to rows and features.** At a minimum $W W^\top = \sqrt{\lambda_H / \lambda_W}\, (\tilde Z \tilde Z^\top)^{1/2}$, which on the contrasts is $\lvert \alpha \rvert \sqrt{\lambda_H / \lambda_W}$. So two tail
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
# ## What we see: the theorem
#
# The table finds the threshold without the theorem: for each setting and loss a bisection on plain minimisations over $W$, $H$ and $b$, which asks whether the tail rows are apart.
# One random start is enough: for $d \ge K$ every local minimum is global ([proof](bias_saturates), with $\tilde Z$ in the place of $Z$).

# %%
from IPython.display import Markdown

from bcebook.chapters.legacy import imbalance_pages
from bcebook.book.notebook import Chapter

chapter = Chapter("imbalance", profile, device, data_dir, seeds)
Markdown(imbalance_pages.threshold_table(imbalance_pages.thresholds()))

# %% [markdown]
# ## A tail that is still open
#
# Five large classes and five small ones, biases free. The threshold is the same; the way there is not quite.

# %% mystnb={"figure": {"caption": "Five large classes and five small ones at the minimum, CE (blue) and BCE (vermilion), free biases: angle within each group (rows taken around their mean), length of the rows, and biases. Left: against the imbalance at the paper's decay and batch size. Right: against c at an imbalance of 20. Dotted: the theorem's threshold.", "name": "fig-head-tail"}, "image": {"alt": "Six panels. The angle between small classes falls to zero at the dotted threshold for both losses; before it CE's has come down to about 55 degrees, BCE's is still near 90. The rows of small classes shorten steadily and vanish just beyond the threshold. Biases of small classes lie above those of large ones and move away from them with the imbalance."}}
imbalance_pages.above_threshold();

# %% [markdown]
# Long before the threshold the small classes have short rows and high biases: they are found only where the evidence is strong. Past the threshold the merged tail shrinks further, until its rows vanish
# and its bias alone is left. The angles seem to favour BCE: CE's small rows close slowly, BCE's stay wide until the end. But that is a matter of what they are measured around, and of the bias, as the next table shows (imbalance
# 1000, far from the threshold).

# %%
Markdown(imbalance_pages.opened())

# %% [markdown]
# As vectors from the origin BCE's small rows are no wider apart than CE's, and with a decayed bias both narrow, BCE's more. In distance, relative to the large classes, the losses differ little. Nothing here makes one loss the better one
# for small classes.
#
# ## Trained networks
#
# Do networks follow? The quick profile's convnet is trained on a long-tailed subset of the digits (exponential class sizes, 20 to 1), with SGD. $\lambda_H$ is the paper's
# $5 \cdot 10^{-4}$; five values of $\lambda_W$ put the *collapse size* $N B \lambda_W \lambda_H$ on both sides of the smallest classes. No two class sizes are equal, so
# the theorem does not apply as it stands: the prediction is the minimum found with the actual class sizes.

# %%
runs = chapter.runs()

# %% mystnb={"figure": {"caption": "Long-tailed digits, against the collapse size. Left: mean distance between the classifier rows of the three smallest classes over that of the three largest; dots: trained networks; triangles: four times as long; black: minimum of the model, nothing fitted. Right: accuracy and uniform accuracy on the balanced test set. Dotted: the sizes of the three smallest classes.", "name": "fig-trained-tail"}, "image": {"alt": "Left: predicted curves of CE and BCE fall together from 0.53 to 0.02, steeply where the collapse size passes the sizes of the smallest classes. The outer dots lie on the curves, the middle ones below them. Right: test accuracy falls from over 90 percent to 49 percent as the tail collapses, for both losses."}}
imbalance_pages.trained(runs);

# %% [markdown]
# The same in numbers, with the cosine of the tail rows (around the mean row). *Size* is the collapse size, *model* the minimum of the model for the column before; accuracies are on the test set.

# %%
Markdown(imbalance_pages.trained_table(runs))

# %% [markdown]
# The distance is the better figure because it is blind to a common shift of all rows, which CE does not see, and stays meaningful when rows become short. The cosine does not: once BCE's tail rows have nearly vanished, their
# direction is left to small differences between the class sizes.
#
# Far from the threshold on either side the networks are where the model puts them, under both losses, and as the tail closes the test accuracy falls. In between their
# tails are more closed than the minimum's. It is a matter of time, where we tested it: near the threshold the pull that opens a tail is small, and networks trained four times as long (triangles) have come
# to the minimum under both losses. Still nearer to the threshold we did not train longer.
#
# ## What the paper's table implies
#
# CIFAR100-LT has class sizes $500\, r^{-k/99}$, $k = 0, \dots, 99$, for an imbalance of $r$. The table sets the paper's accuracies beside the collapse size at the default decays of the authors' code and batches of 128.

# %%
Markdown(imbalance_pages.long_tailed_table())

# %% [markdown]
# So at the minimum for these decays no class of CIFAR100-LT is near collapse under either loss, and BCE's gain in the table would not be an escape from a collapse that CE suffers. One caveat: the paper's accuracy experiments decay all weights in
# the optimizer, rather than classifier and features, and what $\lambda_H$ that amounts to is not known.
#
# ## What was shown, proved, or left open
#
# - **Proved:** with free features in $d \ge K$ dimensions, equal tail classes merge at exactly $m \le N^2 \lambda_W \lambda_H$ ($N B \lambda_W \lambda_H$ in mini-batches), under CE and BCE alike, with and without decay of the bias. So the answer to the open question
#   is *no* in this model: BCE does not raise the imbalance at which the minority collapses.
# - **Shown by minimisation:** how far the tail opens above the threshold does differ, but neither loss opens it more in general.
# - **Shown by training, one seed:** networks far from the threshold agree with the minimum of the model under both losses; near it their tails are more closed, and at one setting longer training took them to it as well.
# - **Left open:** tail classes of unequal sizes (their rows come close rather than coincide), $d < K$, and where BCE's gain on CIFAR100-LT comes from.
#
# **Where we differ from the paper.** The networks are the digits' in every profile; the paper's CIFAR100-LT networks are not trained again here.
#
# ## Where these numbers come from

# %%
chapter.provenance(runs, profile="quick")
