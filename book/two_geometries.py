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
# # Two losses, two geometries
#
# **The paper's claim** {cite:p}`li2025bce`: CE measures *relative* scores, BCE *absolute* ones. CE is content when a sample's own score
# exceeds its others. BCE wants the own score high and the others low, on one scale for the whole data set. In the space of distances
# between features and class vectors, the region that CE asks for is unbounded; BCE asks for closed balls. The paper shows this in a
# drawing.
#
# **What to expect.** We compute the regions from the losses themselves. Both losses only see scores, so distances enter by one
# identity, and with it an assumption: features of one length. Where that holds, BCE puts a feature into a ball around its own class
# vector, and CE sets no such bound. Then the gradients: what pulls on a score under CE depends on the others, under BCE on that score
# alone. A shift of all scores of one sample therefore costs nothing under CE.
#
# **What was known.** The contrast is the paper's. That a single threshold for all samples suits BCE, and the uniform accuracy that
# measures it, are from earlier work of the same group {cite:p}`li2024rediscovering`. We have the paper's figure as a description only;
# the formulas below are elementary and ours where no source stands.

# %% tags=["parameters"]
profile = "quick"  # digits, on a CPU; "paper": ResNet18 on CIFAR10
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the profile's own; or a list

# %% [markdown]
# ## From scores to distances
#
# A sample of class $y$ with feature $h$ has the logits $z_k = w_k \cdot h - b_k$. Written with $\operatorname{sp}(x) = \log(1 + e^x)$,
# the losses are
#
# $$
# \ell_\text{CE} = \log\Bigl(1 + \sum_{j \ne y} e^{-(z_y - z_j)}\Bigr), \qquad
# \ell_\text{BCE} = \operatorname{sp}(-z_y) + \sum_{j \ne y} \operatorname{sp}(z_j) .
# $$ (eq-two-losses)
#
# CE contains differences of logits only. Its condition for a right decision is $z_y > z_j$ for all $j \ne y$. BCE contains each logit
# by itself; it takes $K$ decisions, and all of them are right if $z_y > 0 > z_j$ for all $j \ne y$. The other samples play no part in
# either.
#
# Call the classifier's row $w_k$ the *class vector* of class $k$, and let $D_k = \lVert h - w_k \rVert$. From
# $2\, w_k \cdot h = \lVert w_k \rVert^2 + \lVert h \rVert^2 - D_k^2$ follows, for classifier rows of one length and one bias $b$,
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
# CE compares two distances. Each of its conditions is a half-plane in $(D_y, D_j)$, with points at any distance from the own class
# vector. BCE compares each distance with one number: the feature lies inside the ball of radius $R$ around its own class vector and
# outside those around the others. The losses do more than decide, and the same holds for all their level sets:
#
# :::{admonition} Proposition (ours)
# Let all rows have one length, all biases be equal, and $\ell > 0$. Where BCE is at most $\ell$,
#
# $$
# D_y^2 \le R^2 + 2 \log(e^\ell - 1) \quad\text{and}\quad D_j^2 \ge R^2 - 2 \log(e^\ell - 1) .
# $$ (eq-ball)
#
# Where CE is at most $\ell$, $D_j^2 \ge D_y^2 - 2 \log(e^\ell - 1)$. No bound on $D_y$ follows: for any $D_y$, CE is at most $\ell$
# once all $D_j$ are large enough.
# :::
#
# *Proof.* All terms of {eq}`eq-two-losses` are positive. If BCE is at most $\ell$, then $\operatorname{sp}(-z_y) \le \ell$ and
# $\operatorname{sp}(z_j) \le \ell$, which is $z_y \ge -\log(e^\ell - 1)$ and $z_j \le \log(e^\ell - 1)$; insert {eq}`eq-distance`. If
# CE is at most $\ell$, then $e^{-(z_y - z_j)} \le e^\ell - 1$ for each $j$, and $z_y - z_j = (D_j^2 - D_y^2) / 2$. Conversely, as all
# $D_j \to \infty$, CE tends to 0. $\square$
#
# At $\ell = \log 2$ the logarithm is 0: a sample whose BCE is below $\log 2$ is inside its own ball and outside all others.
#
# **Where the assumption enters.** For CE it is enough that the rows have one length and the biases are equal; the length of $h$
# cancels. For BCE $R$ depends on $\lVert h \rVert$: the ball has one radius for all samples only if their features have one length. At
# the minimum of either loss with decay they have ([Minima](minima)), during training they need not. Scaling $W$ by some factor and $H$
# by its inverse changes no score. We use this to give rows and features the same length, $\sqrt s$ with $s$ the positive score at the
# minimum. The class vector is then the feature that its class has at the minimum, $D_y = 0$ there, and with $D^*$ for the distance
# between two class vectors
#
# $$
# R^2 = 2\,(s - b), \qquad (D^*)^2 = \frac{2K}{K-1}\, s .
# $$ (eq-radius)
#
# The numbers for $s$ and $b$ are those of the minimum with the paper's decay and batch size, without decay of the bias.

# %%
from IPython.display import Markdown

from bcebook.chapters.legacy import geometry_pages
from bcebook.book.notebook import Chapter

chapter = Chapter("two_geometries", profile, device, data_dir, seeds)

# %% [markdown]
# In the figure all other classes are at one distance. Not every pair of distances belongs to a feature; the black line shows those that
# do, for features of length $\sqrt s$ that are alike to all other classes.

# %% mystnb={"figure": {"caption": "Level sets of CE and BCE over the distance to the own class vector and to all others, 10 classes, computed from the loss functions that train the networks. Coloured: where the loss's condition is met. Black line: features of the class vectors' length that are alike to all other classes, from the minimum (dot) to the opposite of the own class vector.", "name": "fig-distance-plane"}, "image": {"alt": "Two panels with the distance to the own class vector across and that to all others upwards. Under CE the coloured region is everything above the diagonal and goes on without end. Under BCE it is bounded at the right by a vertical line at the radius R, and below by a horizontal line at the same R. The level sets of each loss follow the edge of its region."}}
geometry_pages.distance_plane();

# %% [markdown]
# Along the black line CE's condition is met up to the diagonal, where the feature is at right angles to all classifier rows. BCE's ends
# at $R$, well before. The next figure shows the features themselves, for three classes in a plane, with a decay so strong that the
# balls are small enough to draw ($c = 0.2$, where $c = \sqrt{n \lambda_W \lambda_H}$).

# %% mystnb={"figure": {"caption": "Where a feature of the first of three classes meets the condition of each loss (coloured), with the level sets of the loss. Dots: classifier rows, the own one black. Solid circle: features of the same length. Dashed: the balls of radius R. They meet the solid circle exactly on the straight edges of the three classes' regions.", "name": "fig-feature-plane"}, "image": {"alt": "Two panels of the plane of features. Under CE the coloured region is a wedge of 120 degrees whose tip is the origin. Under BCE it begins well above the origin, has a straight lower edge and opens upwards without end; a dashed ball around the own class vector cuts the solid circle of features just where that lower edge does. Three such balls do not overlap."}}
geometry_pages.feature_plane();

# %% [markdown]
# Two things to notice. A feature close to the origin can be right for CE, as long as it points the right way; for BCE it is too short.
# And **without a fixed length BCE's region has no bound either**: it is cut out by straight lines, $w_y \cdot h > b$ and
# $w_j \cdot h < b$, and a feature that grows along its own row stays in it for ever, while its distance to the row grows. The closed
# ball is a statement about features of one length.
#
# How tight is the ball? On the sphere of radius $\sqrt s$, $D_y < R$ is an angle to the own row below $\arccos(b / s)$. For $d \ge K$
# this bound is sharp, since a feature may use a direction orthogonal to all rows. CE's is then $90°$: the scores of a feature sum to
# zero, so that the largest is positive, and it can be as close to zero as one likes.

# %%
Markdown(geometry_pages.balls())

# %% [markdown]
# *Widest*: the widest angle between a feature and its own row that the loss's condition permits. For two classes there is no
# difference: the bias is 0, and a threshold at 0 is what CE has as well. With more classes BCE asks for an ever narrower cap. *Caps*:
# the ball of each class cuts a cap out of the sphere on which the features lie. Caps of two classes are disjoint if the widest angle is
# at most half that between rows; a feature in an overlap is right for neither class.
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
# Under CE all of them depend on all logits, by differences only. They sum to zero: what CE gives to one logit it takes from the others.
# Under BCE each depends on its own logit.

# %% mystnb={"figure": {"caption": "The gradient of CE and BCE on the positive score (left) and on each of the nine negative ones (right), 10 classes, the negative scores all equal. The other scores, negative ones at the left and the positive one at the right, are held at three values: CE has three curves, the three of BCE coincide.", "name": "fig-pulls"}, "image": {"alt": "Two panels of the size of the gradient from 0 to 1. Left, against the positive score: three blue curves fall from 1 to 0, displaced by the value of the negative scores, and one vermilion curve falls at 0. Right, against the negative scores: three blue curves rise to about 0.11, one vermilion curve rises to 1 at 0."}}
geometry_pages.pulls();

# %% [markdown]
# The pull of CE on the positive score ends where it is a few units above the others, wherever they are. That of BCE ends where it is a
# few units above the bias. On a negative score CE never pulls harder than $1/(K-1)$ if all negative scores are equal, because the pulls
# on all of them add up to the one on the positive score; BCE pulls on each with up to 1. At some logits of 10 classes, the negative
# ones all equal, with the gradients on the positive and on each negative one:

# %%
Markdown(geometry_pages.pulls_table())

# %% [markdown]
# In the first four rows the difference is the same, and so is all of CE. BCE sees four different samples: negative scores that are too
# high (first row), a positive one that is too low (fourth). The last three rows are nearly perfect for CE, two of them are not for BCE.
#
# ## A shift of one sample's scores
#
# For any number $a$, CE has the same value at $z$ and at $z + a \mathbf 1$, sample by sample. So it does not care whether one threshold
# could serve two samples at once. BCE does: in $a$ it is strictly convex, with its one minimum where
# $\sigma(-z_y) = \sum_{j \ne y} \sigma(z_j)$. Here each of 2,000 samples starts at the minimum's logits for 10 classes, and all its
# logits are moved by one normal random number of the given spread. $A$ is accuracy, $A_\text{Uni}$ uniform accuracy.

# %%
Markdown(geometry_pages.shifts_table(geometry_pages.shifts()))

# %% [markdown]
# CE and accuracy do not notice, while uniform accuracy is lost. Only BCE charges for it, and more steeply the further a sample is
# moved.
#
# **Two consequences.** *CE's mean bias is not trained.* A change of all biases by one number is such a shift, for all samples at once.
# The gradient of CE in the biases sums to zero, and only decay moves their mean ({doc}`published_predicted` follows it through
# training). *Features can shift a sample only along the mean row.* The scores of a sample sum to $K \bar w \cdot h$, with $\bar w$ the
# mean of the classifier's rows. If $\bar w = 0$ they sum to zero and cannot be shifted. CE's minimum with decay has $\bar w = 0$
# ([Minima](minima)). So the freedom that CE leaves is there on the way to the minimum and in samples that have not collapsed, not at
# the minimum itself; BCE beyond a critical decay of the bias *uses* the mean row ({doc}`bias_saturates`).
#
# ## What we see: what was shown, proved, or left open
#
# - **Relative against absolute scores: supported.** Immediate from the losses; the gradients and the shift show it in numbers.
# - **Unbounded for CE, closed for BCE: proved in the space of distances, with $R$ fixed** (the proposition), for every level of the
#   loss and not only for the decision. $R$ is the same for all samples if their features have one length. **Among features of any
#   length it fails**: both regions are unbounded.
# - **Among features of one length**, normalised ones for example, neither is: no distance exceeds $2 \sqrt s$. The difference is then
#   one of angle, a right angle for CE and $\arccos(b/s)$ for BCE, in the table above for the minimum.
# - **Left open.** A region is what a loss asks for, not what training reaches. That BCE's features are more compact *because* its
#   regions are closed is not shown here: at their minima both losses have collapsed completely, as the next chapter proves. On real
#   networks see [the accuracy chapter](accuracy) and [the histograms](score_histograms).
#
# **Where we differ from the paper.** Nothing is trained here. We do not have the paper's figure in a form that we could lay beside
# ours.
#
# ## Where these numbers come from

# %%
chapter.provenance()
