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
# # Long-tailed classes
#
# **The paper's claim** {cite:p}`li2025bce`: on long-tailed CIFAR100 (CIFAR100-LT) networks trained with BCE reach a
# higher accuracy than those trained with CE.
#
# **What is trained.** Of $K$ classes, class $k = 0, \dots, K - 1$ keeps
#
# $$
# n_k = n\, r^{-k / (K - 1)}
# $$ (eq-long-tail)
#
# training images, where $n$ is the size of the smallest full class and $r$ the *imbalance*, the largest class over the
# smallest. All runs at one imbalance see the same images, whatever their seed. The test set keeps all its images, so
# that every class counts alike or nearly so: a network that serves the large classes alone is told so. Weights decay,
# images are augmented (DA1), and the learning rates are set, as in [the chapter on accuracy](accuracy); SGD.
#
# **What to expect.** If BCE is better with unequal classes, it is ahead at each imbalance, and if the imbalance is the
# reason, more so the larger it is. The gain should then be where training images are few. As is usual since Liu et al.
# {cite:p}`liu2019`, a class is *many-shot* if $n_k > 100$, *medium-shot* if $20 \le n_k \le 100$ and *few-shot* if
# $n_k < 20$, and each group has an accuracy of its own, over all test images of its classes. On the other hand, BCE
# makes each class a problem of its own, its $n_k$ images against the $N - n_k$ of all others, and the smaller the class
# the more one-sided that problem: BCE may as well learn its tail later than CE does. The accuracy on the training set,
# in the first table, says whether the networks have learnt what they were shown. The comparison is about the end of
# training: where the training losses still fall, its verdict is *still moving*.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import long_tailed as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "BCE minus CE in test accuracy (left) and in uniform accuracy (right) at each imbalance, in percentage points. Faint dots: single seeds; large dots with bars: their mean with Student's interval. Hollow diamonds: the difference in the paper's table of CIFAR100-LT, which has no uniform accuracy.", "name": "fig-long-tailed"}, "image": {"alt": "Two panels, for accuracy and for uniform accuracy, with one row for each imbalance. Across: BCE minus CE in percentage points, with a vertical line at zero. In each row faint dots of the seeds, a large dot with a bar for their mean and its interval, and on the left a hollow diamond of the paper's difference."}}
room.by_imbalance(runs);

# %% [markdown]
# On which side of the line do the bars lie, and do they move as the imbalance grows? Compare the left panel with the
# diamonds, and the two panels with each other: uniform accuracy asks for one threshold over all classes, small and
# large.

# %% mystnb={"figure": {"caption": "BCE minus CE in accuracy on the test images of the many-, medium- and few-shot classes, in percentage points; as above. A row without a dot has no class of that group, or no pair of runs.", "name": "fig-long-tailed-groups"}, "image": {"alt": "Three panels, for many-shot, medium-shot and few-shot classes, with one row for each imbalance. Across: BCE minus CE in accuracy, in percentage points, on one common axis, with a vertical line at zero; faint dots of the seeds and a large dot with a bar for their mean and its interval."}}
room.by_group(runs);

# %% [markdown]
# The three panels have one axis: in which of them do the losses differ, and in which direction?
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# Both losses beside the paper's table:

# %%
room.accuracies(runs)

# %% [markdown]
# If a loss falls short on its own training set, its gap on the test set may be a matter of the length of training
# rather than of what it generalises to. The same by groups of classes:

# %%
room.groups(runs)

# %% [markdown]
# ## Where BCE's biases start
#
# CE does not see a common start of its biases, but BCE does: from zero, each of its sigmoids begins at one half, and
# its first steps teach all of them that most answers are no. A bias that starts at $b = \log(K - 1)$ knows that from
# the first step on: there the sigmoid of a zero score is $1 / K$, the share of a class. With many classes the way from
# zero is long, in a short training it is never ended ({doc}`bias_travels`), and features learn meanwhile against biases
# that are wrong. So, where training is short and classes are many, which is the laptop profile, BCE is trained once
# more from there:

# %%
room.starts(runs)

# %% [markdown]
# If the start explains what BCE lacks, its column from $\log(K - 1)$ comes near to CE's, on the training set too. How
# the paper's networks started for its table is not known here.
#
# ## How small the small classes are
#
# [The chapter on imbalance](imbalance) proves that in the model with free features equal tail classes merge, under both
# losses, once they have no more than $N B \lambda_W \lambda_H$ images each. The table sets the classes of each setting
# beside that size, at the decays of the authors' code.

# %%
room.sizes(runs)

# %% [markdown]
# Where no class lies at or below the collapse size, what separates the losses in such runs is not, in this model, that
# one of them has collapsed its minority. Two cautions: these runs decay all weights in the optimizer, so that it is not
# known what $\lambda_H$ they have; and the classes of a long tail are unequal, where the theorem speaks of equal ones.
#
# The quick profile's digits are another task than the paper's, and on which network the paper's table stands is not
# known here: {doc}`departures` lists every difference.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
