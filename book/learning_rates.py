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
# # Learning rates
#
# **Whose question.** The paper trains both losses with one learning rate for each optimizer and gives a table of
# accuracies {cite:p}`li2025bce`. A rate that suits one loss better than the other can decide such a comparison by
# itself. BCE's gradient is not CE's: it adds up the pulls of all classes, so that the same rate need not mean the same
# pace. So: **which rate does each loss want, and does the comparison turn with the rate?**
#
# **The rule.** No rate may be chosen on the test set, and neither loss may have the choosing. Before any accuracy is
# reported, the accuracy chapter's network is trained with the first augmentation at several rates, for a third of its
# epochs, on a part of the *training* images, with its classes in balance, and measured on the training images that were
# held out. The rate with the highest accuracy, averaged over the two losses, is taken for both; of equal ones the
# lowest. Optimizers are treated apart.
#
# **What to expect.** If the chapter on accuracy trains with other rates than the rule picks, the first finding below
# says so. If the losses differ in the rate they want, picking one for both costs one of them something, and the table
# shows how much. And if BCE is ahead at some rates and behind at others, the paper's comparison says as much about the
# rate as about the losses.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import learning_rates as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "Accuracy (solid) and uniform accuracy (dashed) of CE (blue) and BCE (vermilion) on held-out training images, against the learning rate, for each optimizer. Dotted vertical line: the rate that the rule picks for both losses.", "name": "fig-learning-rates"}, "image": {"alt": "A panel for each optimizer. Across: the learning rate, on a logarithmic axis; upwards: percent of the held-out images. Solid curves of accuracy and dashed ones of uniform accuracy for CE and BCE, and a dotted vertical line at the rate that is picked."}}
room.by_rate(runs);

# %% [markdown]
# Where is the top of each solid curve, and is the dotted line near it for both colours? Then compare the colours at
# each rate: the distance between two curves of one kind is what a reader of a table would see at that rate.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The same in numbers:

# %%
room.rates(runs)

# %% [markdown]
# How much of a comparison is the rate's, at the end of training: the accuracy chapter's own run with SGD at its rate
# and at others.

# %%
room.to_the_end(runs)

# %% [markdown]
# A difference of a few images is not evidence. At each rate, BCE minus CE therefore has an interval of $1.96$ binomial
# standard errors of the held-out images, and counts only if zero lies outside it, after Holm's adjustment over the
# rates. This interval does not cover the seeds; {doc}`accuracy` compares the losses with several.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
