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
# # Batch size
#
# **Whose question.** The paper has a table of the effect of the batch size {cite:p}`li2025bce`. Its numbers are not at
# hand: which batch sizes it compares, and what it finds, is unknown here, and nothing below is set beside it. The
# question is worth asking all the same, because of a detail of the authors' code: **its feature decay is a sum over the
# mini-batch, not a mean, so that the batch size is a setting of the objective, not only of the optimizer.**
#
# **Which objective.** A mini-batch of $B$ samples has the loss
# $\tfrac1B \sum_i \ell_i + \tfrac{\lambda_W}{2} \lVert W \rVert^2 + \tfrac{\lambda_H}{2} \sum_i \lVert h_i \rVert^2
# + \tfrac{\lambda_b}{2} \lVert b \rVert^2$, both sums over the batch. An epoch cuts the $N$ samples into $N / B$
#   batches, so that each sample is in exactly one of them, and the mean over the batches is
#
# $$
# \frac1N \sum_{i=1}^{N} \ell_i + \frac{\lambda_W}{2} \lVert W \rVert^2 + \frac12 \cdot \frac{\lambda_H B}{N} \sum_{i=1}^{N} \lVert h_i \rVert^2
# + \frac{\lambda_b}{2} \lVert b \rVert^2 .
# $$ (eq-batch-objective)
#
# Mini-batch gradients therefore average to the gradient of the model's objective {eq}`eq-model` with $\lambda_H B / N$
# in the place of $\lambda_H$. For $K$ classes of $n = N / K$ samples its minimum depends on the decays only through
#
# $$
# c = \sqrt{n\, \lambda_W \cdot \frac{\lambda_H B}{N}} = \sqrt{\frac{\lambda_W \lambda_H B}{K}} .
# $$ (eq-batch-c)
#
# With a mean over the batch instead of the sum, $B$ would not be in it. Where the last batch of an epoch is smaller,
# $B$ is to be read as the mean size of a batch; a note below says how much that changes.
#
# **What the minimum does.** Let the features be free in sign, $\lambda_b = 0$ and $c < 1/K$, and write the scores as
# $s$ and $-s/(K-1)$, as in {eq}`eq-reduced`. Without decay the bias is free to be what it likes, so the offset is $0$.
# With $u$ the error $1 - \sigma(z_y)$ that BCE leaves on the positive logit and $v = \sigma(z_j)$ the one on a negative
# logit, the derivatives by $s$ and by $b$ vanish where $u + v = K c$ and $u = (K-1)\, v$, hence at $v = c$,
# $u = (K-1)\, c$. Under CE, with $v$ the softmax of a wrong class, the derivative by $s$ vanishes at $v = c$. Turned
# into logits, the *gap* between positive and negative scores is
#
# $$
# \text{CE:}\quad \log \frac{1 - (K-1)\, c}{c}, \qquad\qquad
# \text{BCE:}\quad \log \frac{1 - (K-1)\, c}{c} + \log \frac{1 - c}{(K-1)\, c} .
# $$ (eq-batch-gap)
#
# The positive score is $(K-1)/K$ of the gap, the negative one $-1/K$ of it, and BCE's bias lies $\log \frac{1-c}{c}$
# above the negative score. Each logarithm falls as $c$ grows, so a larger batch has smaller scores; for small $c$ the
# gap is near $-\log c$ under CE and near $-2 \log c$, up to a constant, under BCE. A doubling of the batch multiplies
# $c$ by $\sqrt 2$ and should cost about $\tfrac12 \log 2$ of CE's gap and $\log 2$ of BCE's.
#
# **What to expect.** Scores that fall with the batch on these lines, with nothing fitted, and BCE's gap twice as fast
# as CE's. The bias is slower than the scores. At the minimum over $W$ and $H$ for a given bias, the gradient on the
# bias, $(u - (K-1)\, v)/K$, is at most $c$ in size: where it would be larger, an offset of all scores, which costs $c$,
# takes over. So near there SGD carries a bias no further than $c\, T$, with $T$ the learning rates of all steps added
# up, divided by one minus the momentum. If $c\, T$ is small beside the distance from a start at zero to the minimum, a
# bias that starts at zero cannot arrive. BCE's biases therefore start at one value for every batch size, $b = 5$, near
# the minima's own; to start each at its own minimum would put the answer into the question. CE's loss does not see a
# common shift of the biases ({doc}`initial_bias`): they start at $0$.
#
# **Learning rates.** As in the authors' code the rate grows in proportion to the batch, so that the rates of all steps
# of a run add up to nearly the same for every batch size; the number of epochs is the same for all. If a large batch
# then has too few steps, or too large ones, its network does not fit even its training images. Such a run is at no
# minimum: it is shown, and left out where networks are compared with the minimum.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import batch_size as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% [markdown]
# The lines in the figure are the minimum of {eq}`eq-batch-objective`, for BCE also the minimum over $W$ and $H$ alone
# with all biases held at the median that the network has. A network that ends in a ReLU has nonnegative features, and
# another minimum than {eq}`eq-batch-gap` ({doc}`published_predicted`): for such a network the lines, and all
# predictions below, are that one's.

# %% mystnb={"figure": {"caption": "Median decision scores of the training set and median biases after training, against the batch size: CE (blue) and BCE (vermilion). Filled circles: positive scores; squares: biases; hollow circles: negative scores; crosses: of a network that does not fit its training images. Solid black lines: the minimum for the batch size. Dotted: the minimum at the network's own bias.", "name": "fig-batch-scores"}, "image": {"alt": "A panel for CE and one for BCE. Across: the batch size, on a logarithmic axis; upwards: decision scores and biases. For each batch size a filled circle of the positive scores, a square of the biases and a hollow circle of the negative scores, with solid lines of the minimum and, for BCE, dotted ones of the minimum at the network's own bias."}}
room.scores_by_batch(runs);

# %% [markdown]
# Compare slopes first: do the circles run parallel to the solid lines, and is BCE's slope the steeper one? Then levels:
# where BCE's circles keep a distance from the solid lines, look whether its squares do too, and whether the dotted
# lines close the distance.

# %% mystnb={"figure": {"caption": "Accuracy (left) and uniform accuracy (right) on the test set against the batch size, CE (blue) and BCE (vermilion): seeds as faint dots, a line through their means. Networks that do not fit their training images are not drawn; they are in the table below.", "name": "fig-batch-accuracy"}, "image": {"alt": "Two panels, accuracy and uniform accuracy. Across: the batch size, on a logarithmic axis; upwards: percent of the test images. For CE and BCE a faint dot for each seed and a line through the means."}}
room.accuracy_by_batch(runs);

# %% [markdown]
# A difference of a few test images between two batch sizes, or between the losses, says nothing without an interval
# over seeds.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# What was trained, and where scores and biases ended:

# %%
room.measured(runs)

# %% [markdown]
# The gap alone, beside both minima. For CE the two are one, as its scores do not depend on the bias:

# %%
room.gaps(runs)

# %% [markdown]
# How far BCE's bias has come, and how far it could come in a run of this length once its features have collapsed. Where
# the distance from start to minimum is larger than $c\, T$, more epochs would be needed, whatever the batch; before the
# features collapse the errors are larger, and a bias can move further in either direction:

# %%
room.biases(runs)

# %% [markdown]
# And the test set:

# %%
room.accuracies(runs)

# %% [markdown]
# What differs from the paper's settings, beside the batch sizes, {doc}`departures` lists.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
