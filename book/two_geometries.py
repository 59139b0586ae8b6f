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
# # Two losses, two geometries
#
# **The paper's claim** {cite:p}`li2025bce`: CE measures *relative* scores, BCE *absolute* ones. CE is content when a
# sample's own score exceeds its others. BCE wants the own score high and the others low, on one scale for the whole
# data set. In the space of distances between features and class vectors, the region that CE asks for is unbounded; BCE
# asks for closed balls. The paper shows this in a drawing.
#
# **What to expect.** We compute the regions from the losses themselves. Both losses only see scores, so distances enter
# by one identity, and with it a radius that depends on the length of a feature and on the bias. At a given radius BCE
# puts a feature into a ball around its own class vector, and CE sets no such bound. Then the gradients: what pulls on a
# score under CE depends on the others, under BCE on that score alone. A shift of all scores of one sample therefore
# costs nothing under CE.
#
# **What was known.** The contrast is the paper's. That a single threshold for all samples suits BCE, and the uniform
# accuracy that measures it, are from earlier work of the same group {cite:p}`li2024rediscovering`. We have the paper's
# figure as a description only; the formulas below are elementary and ours where no source stands.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import two_geometries as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)

# %% [markdown]
# ## From scores to distances
#
# A sample of class $y$ with feature $h$ has the logits $z_k = w_k \cdot h - b_k$. Written with
# $\operatorname{sp}(x) = \log(1 + e^x)$, the losses are
#
# $$
# \ell_\text{CE} = \log\Bigl(1 + \sum_{j \ne y} e^{-(z_y - z_j)}\Bigr), \qquad
# \ell_\text{BCE} = \operatorname{sp}(-z_y) + \sum_{j \ne y} \operatorname{sp}(z_j) .
# $$ (eq-two-losses)
#
# CE contains differences of logits only. Its condition for a right decision is $z_y > z_j$ for all $j \ne y$. BCE
# contains each logit by itself; it takes $K$ decisions, and all of them are right if $z_y > 0 > z_j$ for all $j \ne y$.
# The other samples play no part in either.
#
# Call the classifier's row $w_k$ the *class vector* of class $k$, and let $D_k = \lVert h - w_k \rVert$. From
# $2\, w_k \cdot h = \lVert w_k \rVert^2 + \lVert h \rVert^2 - D_k^2$ follows, for classifier rows of one length and one
# bias $b$,
#
# $$
# z_k = \tfrac12 \bigl(R^2 - D_k^2\bigr), \qquad R^2 = \lVert w \rVert^2 + \lVert h \rVert^2 - 2b .
# $$ (eq-distance)
#
# $R$ is the same for all classes of a sample, so that
#
# $$
# \text{CE:}\quad D_y < D_j , \qquad\qquad \text{BCE:}\quad D_y < R < D_j \qquad (j \ne y) .
# $$ (eq-regions)
#
# CE compares two distances. Each of its conditions is a half-plane in $(D_y, D_j)$, with points at any distance from
# the own class vector. BCE compares each distance with one number: the feature lies inside the ball of radius $R$
# around its own class vector and outside those around the others. (Where $R^2$ is negative, no feature meets BCE's
# condition.) The losses do more than decide, and the same holds for all their level sets:
#
# :::{admonition} Proposition (ours)
# Let all rows have one length, no two of them be equal, all biases be equal, and $\ell > 0$. Where BCE is at most
# $\ell$,
#
# $$
# D_y^2 \le R^2 + 2 \log(e^\ell - 1) \quad\text{and}\quad D_j^2 \ge R^2 - 2 \log(e^\ell - 1) .
# $$ (eq-ball)
#
# Where CE is at most $\ell$, $D_j^2 \ge D_y^2 - 2 \log(e^\ell - 1)$. No bound on $D_y$ follows, whatever $R$ is: along
# its own row, at $h = \tau w_y$ with $\tau \to \infty$, a feature has $D_y = (\tau - 1) \lVert w \rVert \to \infty$ and
# CE tends to $0$, also if the bias follows $h$ in such a way that $R$ does not change.
# :::
#
# *Proof.* All terms of {eq}`eq-two-losses` are positive. If BCE is at most $\ell$, then
# $\operatorname{sp}(-z_y) \le \ell$ and $\operatorname{sp}(z_j) \le \ell$, which is $z_y \ge -\log(e^\ell - 1)$ and
# $z_j \le \log(e^\ell - 1)$; insert {eq}`eq-distance`. If CE is at most $\ell$, then $e^{-(z_y - z_j)} \le e^\ell - 1$
# for each $j$, and $z_y - z_j = (D_j^2 - D_y^2) / 2$. Now let $h = \tau w_y$. Then
#
# $$
# \tfrac12 \bigl(D_j^2 - D_y^2\bigr) = (w_y - w_j) \cdot h = \tau\, \bigl(\lVert w \rVert^2 - w_j \cdot w_y\bigr) ,
# $$ (eq-own-row)
#
# and the bracket is positive, because two different vectors of one length have an inner product below its square. So
# all $z_y - z_j \to \infty$, and CE tends to $0$. CE does not contain $b$, and so not $R$; with
# $b = \tfrac12 (\lVert w \rVert^2 + \lVert h \rVert^2 - R^2)$ the latter keeps any value that it is given. $\square$
#
# At $\ell = \log 2$ the logarithm is $0$: a sample whose BCE is below $\log 2$ is inside its own ball and outside all
# others.
#
# **Distances are not free.** By the triangle inequality $D_j \le D_y + \lVert w_j - w_y \rVert$: a feature is far from
# the other class vectors only if it is far from its own. So CE's region does not go on upwards at a given $D_y$, as the
# half-plane does, but along the diagonal, in a strip no wider than the distance of two rows. In this strip it has no
# end, because in {eq}`eq-own-row` the *squares* draw apart without bound while the distances themselves do not.
#
# **What the radius hides.** For CE it is enough that the rows have one length and the biases are equal; the length of
# $h$ cancels. For BCE $R$ depends on $\lVert h \rVert$ and on $b$. This leaves three readings of the contrast, for a
# given classifier:
#
# - *At a given $R$*, with a bias that may follow: BCE's level sets are bounded, CE's are not. This is the proposition,
#   and what the paper's drawing says.
# - *At a given bias, features of any length*: $R$ grows with the feature, and the balls with it. If also
#   $w_j \cdot w_y < 0$ for all $j \ne y$, as in a simplex ETF, then at $h = \tau w_y$ with $\tau \to \infty$ the logits
#   are $z_y = \tau \lVert w \rVert^2 - b \to \infty$ and $z_j = \tau\, w_j \cdot w_y - b \to -\infty$: BCE tends to $0$
#   too, and its level sets are as unbounded as CE's.
# - *At a given bias, features of one length*: $R$ is one number for the whole data set, and both losses' level sets are
#   bounded, because the sphere of features is. What is left of the difference is an angle, further below.
#
# At the minimum of either loss with decay the features do have one length ([Minima](minima)), during training they need
# not. Scaling $W$ by some factor and $H$ by its inverse changes no score. We use this to give rows and features the
# same length, $\sqrt s$ with $s$ the positive score at the minimum. The class vector is then the feature that its class
# has at the minimum, $D_y = 0$ there, and with $D^*$ for the distance between two class vectors
#
# $$
# R^2 = 2\,(s - b), \qquad (D^*)^2 = \frac{2K}{K-1}\, s .
# $$ (eq-radius)
#
# The numbers for $s$ and $b$ are those of the minimum with the paper's decay and batch size, without decay of the bias.
#
# In the figure all other classes are at one distance. Not every pair of distances belongs to a feature. A feature that
# is alike to all other classes is $h = \alpha\, w_y / \sqrt s$ plus a part of length $\beta$ orthogonal to all rows, so
# that $D_y^2 = (\alpha - \sqrt s)^2 + \beta^2$ and $D_j^2 = D_y^2 + (D^*)^2 \alpha / \sqrt s$. Those with $\beta = 0$,
# the multiples of the own class vector, are dashed; all others lie between the dashed lines. The solid black line are
# those of length $\sqrt s$.

# %% mystnb={"figure": {"caption": "Level sets of CE and BCE over the distance to the own class vector and to all others, ten classes, computed from the loss functions that train the networks. Coloured: where the loss's condition is met. Between the dashed lines: the distances that a feature alike to all other classes can have. Solid black: those of the class vectors' length, from the minimum (dot) to the opposite of the own class vector.", "name": "fig-distance-plane"}, "image": {"alt": "Two panels, CE and BCE, with the distance to the own class vector across and that to all others upwards. In each a coloured region with its edge, labelled level sets of the loss, a dot on the vertical axis, a solid black line that starts at it and two dashed lines that do. In the panel of CE the diagonal is labelled, in that of BCE the radius R is marked on the horizontal axis."}}
room.distance_plane();

# %% [markdown]
# Follow the solid line: along it CE's condition is met up to the diagonal, where the feature is at right angles to all
# classifier rows, and BCE's up to $R$. The next figure shows the features themselves, for three classes in a plane,
# with a decay so strong that the balls are small enough to draw ($c = 0.2$, where $c = \sqrt{n \lambda_W \lambda_H}$),
# at a given bias.

# %% mystnb={"figure": {"caption": "Where a feature of the first of three classes meets the condition of each loss (coloured), with the level sets of the loss. Dots: classifier rows, the own one black. Solid circle: features of the same length. Dashed: the balls of radius R for features of that length.", "name": "fig-feature-plane"}, "image": {"alt": "Two panels of the plane of features, CE and BCE. In each a coloured region around the direction of the own class vector, which points up, level sets of the loss, a solid circle around the origin and three class vectors on it; in the panel of BCE a dashed circle around each class vector."}}
room.feature_plane();

# %% [markdown]
# Two things to notice. A feature close to the origin can be right for CE, as long as it points the right way; for BCE
# it is too short. And **without a fixed length BCE's region has no bound either**: it is cut out by straight lines,
# $w_y \cdot h > b$ and $w_j \cdot h < b$, and a feature that grows along its own row stays in it for ever, while its
# distance to the row grows. The dashed balls are those of features on the solid circle, and meet it exactly where the
# straight edges of the three classes' regions do.
#
# How tight is the ball? On the sphere of radius $\sqrt s$, $D_y < R$ is an angle to the own row below $\arccos(b / s)$.
# For $d \ge K$ this bound is sharp, since a feature may use a direction orthogonal to all rows. CE's is then $90°$: the
# scores of a feature sum to zero, so that the largest is positive, and it can be as close to zero as one likes.

# %%
room.balls()

# %% [markdown]
# *Widest*: the widest angle between a feature and its own row that the loss's condition permits. For two classes the
# bias is $0$ by symmetry, and a threshold at $0$ is what CE has as well. Read down the two columns: how much narrower a
# cap does BCE ask for, as classes are added? *Caps*: the ball of each class cuts a cap out of the sphere on which the
# features lie. Caps of two classes are disjoint if the widest angle is at most half that between rows; a feature in an
# overlap is right for neither class.
#
# ## Gradients
#
# With $p = \operatorname{softmax}(z)$ and $\sigma(x) = 1 / (1 + e^{-x})$,
#
# $$
# \begin{aligned}
# \frac{\partial \ell_\text{CE}}{\partial z_y} &= -(1 - p_y), & \frac{\partial \ell_\text{CE}}{\partial z_j} &= p_j , \\
# \frac{\partial \ell_\text{BCE}}{\partial z_y} &= -\sigma(-z_y), & \frac{\partial \ell_\text{BCE}}{\partial z_j} &= \sigma(z_j) .
# \end{aligned}
# $$ (eq-pulls)
#
# Under CE all of them depend on all logits, by differences only. They sum to zero: what CE gives to one logit it takes
# from the others. Under BCE each depends on its own logit.

# %% mystnb={"figure": {"caption": "The size of the gradient of CE and BCE on the positive score (left) and on each negative one (right), ten classes, the negative scores all equal. The other scores, negative ones at the left and the positive one at the right, are held at three values: a curve of CE (blue) for each, and three of BCE (vermilion) on top of each other.", "name": "fig-pulls"}, "image": {"alt": "Two panels of the size of the gradient. Left, against the positive score: three blue curves, dotted, solid and dashed, and a wide vermilion one. Right, against the negative scores: the same."}}
room.pulls();

# %% [markdown]
# The pull of CE on the positive score ends where it is a few units above the others, wherever they are. That of BCE
# ends where it is a few units above the bias. On a negative score CE never pulls harder than $1/(K-1)$ if all negative
# scores are equal, because the pulls on all of them add up to the one on the positive score; BCE pulls on each with up
# to $1$. At some logits of ten classes, the negative ones all equal, with the gradients on the positive and on each
# negative one:

# %%
room.gradients()

# %% [markdown]
# In the first four rows the positive logit exceeds the negative ones by the same amount, in the last three by another,
# so that all of CE is the same within each group. BCE sees different samples: compare its pulls where the negative
# scores are high (first row) and where the positive one is low (fourth row), and its loss in the last three rows, which
# CE cannot tell apart.
#
# ## A shift of one sample's scores
#
# For any number $a$, CE has the same value at $z$ and at $z + a \mathbf 1$, sample by sample. So it does not care
# whether one threshold could serve two samples at once. BCE does: in $a$ it is strictly convex, with its one minimum
# where $\sigma(-z_y) = \sum_{j \ne y} \sigma(z_j)$. Here each sample starts at the minimum's logits for ten classes,
# and all its logits are moved by one normal random number of the given spread. $A$ is accuracy, $A_\text{Uni}$ uniform
# accuracy. CE and accuracy cannot notice the shift; look for what becomes of BCE and of uniform accuracy.

# %%
room.shifts_table()

# %% [markdown]
# **Two consequences.** *CE's gradient does not move the mean of the biases.* A change of all biases by one number is
# such a shift, for all samples at once, so that the gradient of CE in the biases sums to zero. Under gradient descent,
# with or without momentum, every step is a sum of such gradients, and only decay moves the mean
# ({doc}`published_predicted` follows it through training). AdamW divides each bias's gradient by that gradient's own
# recent size, and steps made in this way need not add up to zero: under AdamW the mean can move although no gradient
# asks for it. *Features can shift a sample only along the mean row.* The scores of a sample sum to $K \bar w \cdot h$,
# with $\bar w$ the mean of the classifier's rows. If $\bar w = 0$ they sum to zero and cannot be shifted. CE's minimum
# with decay has $\bar w = 0$ ([Minima](minima)). So the freedom that CE leaves is there on the way to the minimum and
# in samples that have not collapsed, not at the minimum itself; BCE beyond a critical decay of the bias *uses* the mean
# row ({doc}`bias_saturates`).
#
# ## What we see
#
# The statements of this page, each with a numerical check. Where one is about one of the losses, the other takes the
# same test as a control, and should fail it.

# %%
chapter.findings()

# %% [markdown]
# **Left open.** A region is what a loss asks for, not what training reaches. That BCE's features are more compact *because*
# its regions are closed is not shown here: at their minima both losses have collapsed completely, as the next chapter
# proves. On real networks see [the accuracy chapter](accuracy) and [the histograms](score_histograms).
#
# Nothing is trained here, and we do not have the paper's drawing in a form that we could lay beside ours:
# {doc}`departures` lists every difference.
#
# ## Where these numbers come from

# %%
chapter.provenance()
