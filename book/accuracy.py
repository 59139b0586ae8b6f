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
# **The paper's claim** {cite:p}`li2025bce`: networks trained with BCE reach a higher accuracy than with CE in most settings, and
# a higher uniform accuracy {eq}`eq-uniform` in all.
#
# **What to expect.** In the paper's table the differences in accuracy are mostly below one percentage point, from one number a
# setting without an interval; those in uniform accuracy run to many points. Differences of the first kind need several seeds
# to be told from chance. BCE and CE are compared seed by seed: equal seeds share the initial weights, the order of the images
# and the augmentation's draws.

# %% tags=["parameters"]
profile = "quick"  # digits, on a CPU; "laptop": ResNet8 on MNIST and CIFAR10; "paper": CIFAR, three networks
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the profile's own; or a list

# %% [markdown]
# SGD and AdamW; DA1 is a random crop and flip (digits are cropped only), DA2 adds Mixup or CutMix, one of the two for each batch.

# %%
from IPython.display import Markdown

from bcebook.chapters.legacy import claims, figures
from bcebook.book.notebook import Chapter

chapter = Chapter("accuracy", profile, device, data_dir, seeds)
runs = chapter.runs()

# %% [markdown]
# ## The table
#
# Percent, mean ± standard deviation over seeds. *Final* is the network after its last epoch. *Best* is the largest value
# over all epochs, chosen on the test set as in the authors' script and too high for that reason; which of the two the paper's
# table reports is not known. In the quick profile the paper's columns are those of ResNet18 on CIFAR10: not the same task,
# there to compare the *differences* between the losses.

# %%
Markdown(claims.accuracy_table(runs))

# %% [markdown]
# ## The differences

# %% mystnb={"figure": {"caption": "BCE minus CE in test accuracy (left) and test uniform accuracy (right), final epoch, for each optimizer and augmentation. Faint dots: one seed each; large dots and bars: their mean and 95 % bootstrap interval; hollow diamonds: the paper's table (for the quick profile, its ResNet18 on CIFAR10).", "name": "fig-accuracy-differences"}, "image": {"alt": "Two dot plots with a row for each optimizer and augmentation: BCE minus CE in accuracy on the left and in uniform accuracy on the right, each with its seeds, their mean and interval, a line at zero and the difference in the paper's table."}}
figures.accuracy_differences(runs);

# %% [markdown]
# The distance of a bar from zero is what matters, and whether the diamond lies on the same side.
#
# ## What we see
#
# The percentile bootstrap of a handful of seeds is too narrow: with three it is no more than the smallest and the largest. The
# verdict therefore goes by Student's interval, which assumes normal differences instead.

# %%
Markdown(claims.accuracy(runs))

# %% [markdown]
# **Where we differ from the paper.** The quick profile has other images (its test set a few hundred, so that one of them is a
# visible fraction of a point), another network, 40 epochs of 100, and ten times the learning rates. An interval here speaks for
# the seeds, not for other test sets.
#
# ## Other profiles

# %%
chapter.show_others(claims.accuracy_table, figures.accuracy_differences, claims.accuracy)

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
