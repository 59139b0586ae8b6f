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
# # What uniform accuracy measures
#
# **Whose question.** The paper's headline is uniform accuracy {eq}`eq-uniform`: the share of samples whose own logit
# lies above, and whose other logits all lie below, one threshold for all samples. BCE's is far higher than CE's at
# nearly the same accuracy {cite:p}`li2025bce`, and its open questions ask what that gap is made of. A sample's own
# class has the largest logit or it has not, whatever is added to all its logits, and whatever they are multiplied by;
# one threshold sees both. So: **how much of what CE loses to one threshold is in the directions of its features, and
# how much is only scale?**
#
# **The ladder.** The logit of class $k$ is $z_k = w_k \cdot h - b_k$. Four changes of scale leave every sample's
# largest logit the largest, or take away one thing that does not:
#
# - the bias is left out: $w_k \cdot h$;
# - the features get length one as well: $w_k \cdot h / |h|$, so that a long feature no longer passes the threshold of a
#   short one;
# - log-probabilities: $z_k - \log \sum_j e^{z_j}$, each sample's logits shifted by its own log-sum-exp, which whoever
#   has a network has for nothing;
# - and, off the ladder, each sample's logits less their mean, the plainest shift.
#
# The ladder shows where the losses meet; its steps depend on their order. **What the loss is made of** does not: make
# the classes' biases equal, the lengths of the classifier's rows, and the lengths of the features, each to their mean,
# in every order; the share of each is what its turn wins back on average (its Shapley value), and what is lost with all
# three equal is in the *directions*. The four add up to accuracy minus uniform accuracy, on the training set and on the
# test set. So what is lost from one to the other is the sum of six: plain errors, what each of the four grows by, and
# the way of the threshold.
#
# Uniform accuracy can be raised to accuracy by a trick, subtracting the middle of each sample's two largest logits;
# that says that a shift of its own for each sample can do everything, so that what counts is which shift one would use
# anyway.
#
# **What to expect.** If BCE's advantage is one of better directions, it stays on every scale. If it is that BCE, whose
# loss compares each logit with zero, keeps the scales of samples alike, which CE, whose loss sees only differences,
# does not, then the gap closes with the length or with the probabilities. Normalisation beside the bias is what the
# work that uniform accuracy comes from names as needed for one threshold {cite:p}`li2024rediscovering`.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The networks are those of the accuracy chapter. The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import one_threshold as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "The share of the test set that one threshold for all samples serves, on the logits, without the bias, with features of length one, and on log-probabilities; last, plain accuracy. CE (blue) and BCE (vermilion), a panel for each setting. Dots: seeds; lines: their means.", "name": "fig-one-threshold"}, "image": {"alt": "A panel for each optimizer and augmentation. Across: four scales and plain accuracy; upwards: percent of the test set. A line through the means and a dot for each seed, for CE and for BCE."}}
room.ladder(runs);

# %% [markdown]
# At which rung does CE's line meet BCE's? Where it does, the networks do not differ in what lies above; where the lines
# are still apart at log-softmax, the difference is one of accuracy or of directions. An interval that contains zero does
# not show that a gap is gone: the verdict on log-probabilities also gives two one-sided tests within one point. They are
# exploratory, because no margin was fixed before these seeds.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The same in numbers, with the centred logits beside them:

# %%
room.scales(runs)

# %% [markdown]
# What the loss is made of:

# %%
room.shares(runs)

# %% [markdown]
# And what is lost on the way from the training set to the test set, with the threshold of the training set:

# %%
room.way(runs)

# %% [markdown]
# Accuracy knows of a sample whether its margin is above zero, and no more; how large margins are, and how much of them
# is left on the test set:

# %%
room.margins(runs)

# %% [markdown]
# **For somebody who has a network and wants one threshold.** Look at the column of log-softmax first: where it stands
# near the accuracy, a network trained with CE needs no other training, only a threshold on probabilities instead of
# logits. Where features are compared with one another and there are no probabilities, as in retrieval or verification,
# look at unit length: normalise them. And if neither is possible, because one score is all that is passed on, the
# paper's advice stands: train with BCE.
#
# {doc}`departures` lists what differs from the paper.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
