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
# # How the bias travels
#
# **Whose question.** The paper's figures {cite:p}`li2025bce` show where BCE's bias is after a hundred epochs, from many
# starts and under many decays. Some of these biases lie where the minimum's does and some do not. Where a bias has not
# arrived, the closed form of {doc}`minima` has nothing to say. So: **where is the bias while training goes on, and how
# long is its start seen?**
#
# ## The slow flow
#
# Let all classes be alike, with positive score $p$, negative score $q$ and bias $b$. Per sample, BCE is
# $\ell = \log(1 + e^{b - p}) + (K - 1) \log(1 + e^{q - b})$. With the errors $u = \sigma(b - p)$ and
# $v = \sigma(q - b)$, each of the $K$ biases has the gradient $\tfrac{1}{K}(u - (K - 1) v) + \lambda_b b$: a sample
# pulls the bias of its own class by $u$ and those of the others by $v$. Scores are products of two factors, both of
# which learn, and settle fast; the bias has small errors alone to move it, and creeps. Take the scores to be at rest
# beside it: $(p, q)$ minimises, at the given $b$, the loss plus the least decay $D(p, q)$ that makes such scores. Then
# the bias follows
#
# $$
# \frac{db}{dT} = -\frac{u - (K - 1) v}{K} - \lambda_b\, b ,
# \qquad T = \frac{1}{1 - m} \sum_\text{steps} \eta ,
# $$ (eq-flow)
#
# in the effective time $T$ of SGD with learning rate $\eta$ and momentum $m$. With $s_1 = |p - q|$ and
# $s_2 = |p + (K - 1) q|$ the least decay is $D = c\,((K - 1) s_1 + s_2)$ where features are free in sign, and, where
# they are not negative, $D = c K \sqrt{p^2 + (K - 1) q^2}$ as long as $s_2 < s_1$ (proved in {doc}`relu_features`),
# with $c = \sqrt{n \lambda_W \lambda_H}$. Neglected are the first epochs, before the features have drawn together; that
# classes and samples differ; and that momentum takes some steps to build up.
#
# ## A speed limit
#
# **Theorem.** With $\lambda_b = 0$ no bias travels faster than $c$: $\bigl|\tfrac{db}{dT}\bigr| \le c$. A bias that
# starts at $b_0$ is at the bias $b^*$ of the minimum no sooner than $T = |b^* - b_0| / c$.
#
# *Proof.* At rest no common shift of $p$ and $q$ lowers loss plus decay. Such a shift by $t$ leaves $s_1$ as it is and
# changes $p + (K - 1) q$ by $K t$, and the loss by $(-u + (K - 1) v)\, t$ to first order. For free features $D$ changes
# by $c K \varsigma\, t$, where $\varsigma$ is the sign of $p + (K - 1) q$, or at $s_2 = 0$ some number in $[-1, 1]$ (a
# subgradient of $s_2$). So $u - (K - 1) v = c K \varsigma$, and $\tfrac{db}{dT} = -c\,\varsigma$. For nonnegative
# features with $s_2 < s_1$ let $r = \sqrt{p^2 + (K - 1) q^2}$; then $D$ changes by
# $c K\, \tfrac{p + (K - 1) q}{r}\, t$, so that $\bigl|\tfrac{db}{dT}\bigr| = c\, \tfrac{s_2}{r}$. Since
# $K r^2 = (K - 1) s_1^2 + s_2^2 \ge K s_2^2$, this is at most $c$; at $r = 0$ the same holds for every subgradient, by
# taking limits. $\square$
#
# The limit is reached wherever $s_2 > 0$: far from the minimum a bias moves at a constant pace, whatever the errors
# are, because the scores follow it.
#
# ## Where the classifier is slow too
#
# A score is at rest only if both its factors are quick. On the contrasts between classes they are: there features and
# classifier answer each other. But class means that share a direction, as those behind a ReLU do, offer the pull $u -
# (K - 1) v$ on the biases a second way out. The classifier's rows have a common part along that direction, which takes
# up the pull as the biases do, and which nothing lets go of again but its own decay, in an effective time of $1 /
# \lambda_W$. In the paper's setting that is of the order of the bias's own way. So let the features alone be quick. Let
# $W$ have the singular value $a$ on contrasts and $a_0$ on the common part, and the class means $h$ and $h_0$, in units
# in which both decays cost the same. Then $p = \tfrac1K ((K - 1)\, a h + a_0 h_0)$, $q = \tfrac1K (a_0 h_0 - a h)$, and
#
# $$
# \begin{aligned}
# \frac{da}{dT} &= \lambda_W \Bigl(\frac{(u + v)\, h}{c K} - a\Bigr), \\
# \frac{da_0}{dT} &= \lambda_W \Bigl(\frac{(u - (K - 1) v)\, h_0}{c K} - a_0\Bigr), \\
# \frac{db}{dT} &= -\frac{u - (K - 1) v}{K} - \lambda_b\, b .
# \end{aligned}
# $$ (eq-classifier-flow)
#
# The features' length is the best one at each moment. Their angle is not for the loss alone to choose, since a ReLU
# lets go of what classes share slowly; so it is read off the run: $h_0^2 / h^2 = (1 + (K - 1) \gamma) / (1 - \gamma)$
# with the cosine $\gamma$ of two class means. With $\lambda_W$ large at the same $c$, $W$ is at rest too, and
# {eq}`eq-flow` comes back.
#
# What {eq}`eq-classifier-flow` does is easy to say. The common part of $W$ makes the offset $o = a_0 h_0 / K$ of all
# scores, and the loss sees the bias only as $b - o$. The pull brings that difference to where it vanishes, within few
# epochs, by moving both. From then on the decay of $W$ takes the offset back and the bias moves in its stead, by about
# $\lambda_W |o| / (1 + \lambda_W h_0^2 / (c K))$ per unit of time, as long as errors and angle change little: by a part
# of what decay lets go. And before that, while the pull is large, the bias may move faster than $c$, because the scores
# are not at rest.

# %% [markdown]
# ## AdamW: another clock
#
# AdamW divides the mean gradient of each parameter by $\sqrt{v}$, where $v$ is the mean of its squares over the last
# thousand steps or so. A bias that creeps has the same mean gradient for a long time, so that it follows {eq}`eq-flow`
# as well, by another clock:
#
# $$
# T = \sum_\text{steps} \frac{\eta}{\sqrt{v} + \varepsilon} .
# $$ (eq-adamw-clock)
#
# How fast that clock goes, no minimum says. $v$ is the square of the mean gradient plus the variance of a mini-batch's
# around it, and the variance counts the samples that are still wrong, of which the minimum has none. Two limits are
# known. Where the decay of the bias outweighs all else, $\sqrt{v}$ is the gradient itself, and the bias moves by $\eta$
# in each step. And a collapsed network still draws its classes at random: a batch of $B$ has
# $\operatorname{Binomial}(B, \tfrac1K)$ samples of a class, which alone gives the gradient of its bias the variance
# $(u + v')^2 (K - 1) / (K^2 B)$, with the errors $u$ and $v'$ of own and other scores; so no clock goes faster than
# that lets it. In between, the clock can be read while training goes on: our runs record it after every epoch.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The runs are those of {doc}`initial_bias` that are trained with BCE. They come from the store; what is missing is
# trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import bias_travels as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %% [markdown]
# ## The published figures
#
# Each network's medians, three at each start, are compared with the flow at one effective time, the same for all
# starts; that time is the only number that is fitted.

# %% mystnb={"figure": {"caption": "The flow of BCE's bias from the starts of the paper's figures, against the effective time, for free features (left) and nonnegative ones (right). Hollow markers: the median biases read off the paper's figures of BCE with SGD and ten classes, at the time that fits each network best.", "name": "fig-flow-published"}, "image": {"alt": "Two panels of curves that run from many starts together as the effective time grows, on a logarithmic axis. On them, at one time for each network, the published median biases as hollow markers."}}
room.published_paths();

# %%
room.times()

# %% [markdown]
# Without that one number, and on the other sweep, for which it was not fitted:

# %%
room.unfitted()

# %% [markdown]
# Compare the time of each network with that of the authors' schedule: a network that took longer than its schedule
# allows had another schedule, or another way, such as a classifier that was not at rest. And compare the two columns of
# features: the figures themselves may tell which kind a network has.
#
# With AdamW, whose clock nobody recorded, one time a network is fitted to the starts in the same way. What it is worth
# shows on the sweep of $\lambda_b$, which it has not seen:

# %%
room.times("adamw")

# %%
room.unfitted("adamw")

# %% [markdown]
# ## Our own runs
#
# Nothing is fitted here. The flow starts from the recorded bias of the epoch at which a network is collapsed, and takes
# the time from the learning rates, for AdamW with the recorded second moments (runs from before these were recorded are
# left out). The flow of bias and classifier {eq}`eq-classifier-flow` starts from that epoch's median scores as well and
# takes the angle of the class means from the record, where that has it; it is for SGD, since with AdamW the classifier
# has another clock than the bias.

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "Mean biases of our runs of BCE over the epochs (dots), and from the epoch on at which each network is collapsed the flow of the bias (lines) and that of bias and classifier (dashed, where the run has what it needs), with nothing fitted.", "name": "fig-flow-own"}, "image": {"alt": "A panel for each network, optimizer and sweep. Across: the epoch; upwards: the mean bias. Dots for each run, and from some epoch on a line and a dashed line for the two flows, which start at the dot of that epoch."}}
room.own_paths(runs);

# %% [markdown]
# Do the lines stay with the dots? Where they part at once, the network was not yet what the flow takes it for: its
# classes still scatter, or its class means have not come to the angle that the minimum has, which a last ReLU delays
# ({doc}`relu_features`). If classes that scatter are the reason, a later beginning helps; if it is the angle, and with
# it the classifier, the dashed lines stay nearer:

# %%
room.domain(runs)

# %% [markdown]
# What should shrink along a row, if a flow is what a collapsed network does, is the part that it gets wrong.
#
# ## What we see

# %%
chapter.findings(runs)

# %%
room.moved(runs)

# %% [markdown]
# ## Choosing an initial bias
#
# How long a bias that starts at zero needs at the least, and how slowly the last distance goes:

# %%
room.forgetting()

# %% [markdown]
# Compare the column of AdamW with those of SGD, and all with the number of epochs that the paper trains.
#
# For somebody who trains with BCE: an initial bias of about the value at rest costs nothing and saves the whole way
# there; the more classes, the longer the way from zero, and with many it may never be gone; behind a ReLU the bias
# waits for the decay of the classifier, so that a weaker decay means a longer way; and what is left of a start is not a
# flaw of the loss, but of the time it was given. With AdamW the way is the same, and the time it takes depends on how
# many samples are still wrong; a steady gradient moves a bias by the learning rate in a step at the most. What a start
# is worth in accuracy where training is short and classes are many, {doc}`long_tailed` tries out.
#
# ## What is left open
#
# The first epochs, which move a bias further than the flow does; how fast a ReLU gives up the direction that class
# means share, which {eq}`eq-classifier-flow` is told and does not say; what is left of the way where it is told;
# classes of unequal size; and how fast AdamW's clock goes, without looking at it. {doc}`departures` lists what differs
# from the paper.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
