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
# **The paper's claim** {cite:p}`li2025bce`: networks trained with BCE reach a higher accuracy than networks trained with
# CE in most settings, and a higher uniform accuracy {eq}`eq-uniform` in all.
#
# **How it is tested.** BCE and CE are compared seed by seed: equal seeds share the initial weights, the order of the
# images and the random augmentation. Each setting is tested for "BCE is higher", in every cell of the table, including
# those where the paper reports the opposite. The paper's table has one number per setting and no interval. A difference
# of a fraction of a point needs several seeds; a difference of many points shows with a few.
#
# **Two recipes.** The authors' accuracy experiments have a recipe of their own: BCE's biases start around six, CE's
# around zero, and AdamW's weight decay is a hundred times SGD's. An early public version of their code spells it out;
# {doc}`departures` quotes it. This book's first runs used one weight decay for both optimizers and biases around zero:
# the *former recipe*. Both are shown, so that the effect of the recipe alone can be read off.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# DA1 is a random crop and flip (digits are only cropped). DA2 adds Mixup or CutMix, one of the two for each batch, with
# label smoothing. Stored runs are loaded; missing runs are trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import accuracy as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "BCE minus CE in test accuracy (left) and test uniform accuracy (right), after the last epoch, for each optimizer, augmentation and recipe. Faint dots: single seeds; large dots and bars: their mean and its 95 % interval (Student's), from which the verdicts follow; hollow diamonds: the paper's table (the note below the table names the network).", "name": "fig-accuracy-differences"}, "image": {"alt": "Two dot plots with a row for each optimizer and augmentation: BCE minus CE in accuracy on the left and in uniform accuracy on the right, each with its seeds, their mean and interval, a line at zero and, where there is one, the difference in the paper's table."}}
room.accuracy_differences(runs);

# %% [markdown]
# A bar that excludes zero shows a difference between the losses. A dot without a bar is a single seed and is
# inconclusive.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The same differences in points and in test images:

# %%
room.gaps(runs)

# %% [markdown]
# The accuracies themselves. *Best* is chosen on the test set, as in the authors' script, which biases it upwards. The
# paper does not say which of the two its table reports.

# %%
room.final_and_best(runs)

# %% [markdown]
# ## What the recipe changes
#
# BCE minus CE with the authors' recipe, with the former one, and the difference between the two:

# %%
room.recipe_table(runs)

# %% [markdown]
# The recipe starts BCE's biases high. The start of BCE's biases is varied alone here, with the authors' weight decay;
# {doc}`initial_bias` shows why the start can still matter at the end of a training.

# %%
room.starts(runs)

# %% [markdown]
# ## The paper's own tables
#
# The differences in the paper's table:

# %%
room.published()

# %% [markdown]
# The whole table, with ours beside it where a run has the same setting. The networks that the paper fine-tuned on
# ImageNet-1k are in {doc}`fine_tuning`.

# %%
room.whole(runs)

# %% [markdown]
# An interval here covers the variation between seeds, not between test sets or settings. {doc}`departures` lists all
# differences from the paper.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
