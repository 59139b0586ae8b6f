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
# # What reviewers asked
#
# **Whose questions.** When the paper was reviewed, readers asked what becomes of its comparison {cite:p}`li2025bce` if
# one thing is changed: a classifier that is not trained but fixed to a simplex ETF; no bias; scores that are cosines,
# so that no length can play a part; another decay or another start of the classifier alone; Mixup and CutMix apart
# instead of together; labels without a meaning.
#
# **What to expect.** The closed form of {doc}`minima` says what of this matters at the minimum, and what cannot. A
# classifier fixed to a simplex ETF with rows as long as at the minimum has the same minimum as a trained one, so that
# only the way there can differ. CE does not see a common shift of the biases, so that taking them away takes nothing
# from it; BCE's bias is where its positive and negative scores part, and without one the scores themselves have to lie
# on either side of zero. A decay of the classifier enters through the product $\lambda_W \lambda_H$. Cosine scores lose
# every length, and with it whatever one threshold for all samples loses because features differ in length. And labels
# dealt out at random can be learned by heart, but whether features that are learned by heart collapse is a question of
# training, not of the minimum.
#
# Rows of the fixed classifier have the length $|w| = \sqrt{s}\, \bigl(\tfrac{\lambda_H B}{\lambda_W K}\bigr)^{1/4}$,
# with the positive score $s$ of each loss's own minimum, and the cosines are multiplied by that $s$.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# All with AdamW. The first network of the collapse experiment, one thing changed at a time, and the first of the
# accuracy experiment with its augmentations. The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import variations as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "BCE minus CE in test accuracy (left) and test uniform accuracy (right), after the last epoch, a row for each variation. Faint dots: one seed each; large dots and bars: their mean and its 95 % interval (Student's).", "name": "fig-variations"}, "image": {"alt": "Two dot plots with a row for each variation: BCE minus CE in accuracy on the left and in uniform accuracy on the right, each with its seeds, their mean and interval, and a line at zero."}}
room.differences(runs);

# %% [markdown]
# Compare each row with the first, the network as it is: does the difference between the losses change sides? One seed has
# no bar and decides nothing; it shows how large the differences are. The rows of the augmentations have another decay,
# and are to be compared with one another.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# What each network came to:

# %%
room.measured(runs)

# %% [markdown]
# A variation is compared with the network as it is, seed by seed; equal seeds draw the same start whatever the head.
# {doc}`departures` lists what differs from the paper.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
