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
# # Accuracy and uniform accuracy
#
# **The paper's claim** {cite:p}`li2025bce`: networks trained with BCE reach a higher accuracy than with CE in most
# settings, and a higher uniform accuracy {eq}`eq-uniform` in all.
#
# **What to expect.** The paper's table has one number a setting, without an interval. If a difference in accuracy is a
# fraction of a point, several seeds are needed to tell it from chance; one of many points shows with a few. BCE and CE
# are compared seed by seed: equal seeds share the initial weights, the order of the images and the augmentation's
# draws. Both halves of the claim are tested as the paper makes them, that BCE is higher, whatever its table has in a
# cell.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# SGD and AdamW; DA1 is a random crop and flip (digits are cropped only), DA2 adds Mixup or CutMix, one of the two for
# each batch. The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import accuracy as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "BCE minus CE in test accuracy (left) and test uniform accuracy (right), after the last epoch, for each optimizer and augmentation. Faint dots: one seed each; large dots and bars: their mean and its 95 % interval (Student's), the one that decides; hollow diamonds: the paper's table (of which network, the note below the table says).", "name": "fig-accuracy-differences"}, "image": {"alt": "Two dot plots with a row for each optimizer and augmentation: BCE minus CE in accuracy on the left and in uniform accuracy on the right, each with its seeds, their mean and interval, a line at zero and, where there is one, the difference in the paper's table."}}
room.accuracy_differences(runs);

# %% [markdown]
# The distance of a bar from zero is what matters, and then whether the diamond lies on the same side. A dot without a
# bar is a single seed, which decides nothing.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The same differences, and what they are in images: a test set of a few hundred has no finer scale.

# %%
room.gaps(runs)

# %% [markdown]
# The accuracies themselves. *Best* is chosen on the test set, as in the authors' script, and too high for that reason;
# which of the two the paper's table reports is not known.

# %%
room.final_and_best(runs)

# %% [markdown]
# ## The paper's own tables
#
# What the claim rests on: the differences in the paper's table,

# %%
room.published()

# %% [markdown]
# and the table itself, all of it, with ours beside it where a run has the same setting; its networks that were
# fine-tuned on ImageNet-1k have a chapter of their own, {doc}`fine_tuning`.

# %%
room.whole(runs)

# %% [markdown]
# An interval here speaks for the seeds, not for other test sets or settings; {doc}`departures` lists what differs from
# the paper.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
