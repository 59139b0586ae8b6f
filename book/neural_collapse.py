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
# # Neural collapse over the epochs
#
# **The paper's claim** {cite:p}`li2025bce`: both losses lead to neural collapse, and BCE gets there faster and further:
# NC1, NC2 and NC3 end lower.
#
# **What to expect.** Late in training the features of a class draw together around their mean (NC1), the classifier's
# rows become a simplex equiangular tight frame (NC2), and rows and class means align (NC3) {cite:p}`papyan2020`. With
# $H_c$ the class means around their own mean, $S_W$ and $S_B$ the scatter within and between classes, and
# $E = (I - \tfrac{1}{K} 1 1^\top)/\sqrt{K-1}$,
#
# $$
# \text{NC1} = \tfrac{1}{K} \operatorname{tr}(S_W S_B^+), \qquad
# \text{NC2} = \Bigl\| \frac{W W^\top}{\|W W^\top\|} - E \Bigr\|, \qquad
# \text{NC3} = \Bigl\| \frac{W H_c}{\|W H_c\|} - E \Bigr\|,
# $$ (eq-nc)
#
# all zero when the collapse is complete. *NC2 of the means* puts $H_c^\top H_c$ in the place of $W W^\top$, as the
# paper's poster does; NC2 itself, of the classifier's rows, is that of the line of work which the authors' code belongs
# to. We do not know which of the two the paper's figure shows, so each is judged for itself. The networks are trained
# without augmentation and with decoupled decay, as in the paper's experiment; each measurement takes the whole training
# set, in evaluation mode.
#
# *Faster* and *further* are tested on the logarithms of the measures, BCE against CE with the same optimizer and seed:
#
# - *further*: the difference after the last epoch;
# - *faster*, once: the difference of the areas under the two curves, over the epochs from the first on that were all
#   measured;
# - *faster*, again: which of the two falls below preset levels first. The levels are whole decades, the same for every
#   measure. A curve that never falls below a level counts as later than one that does, and is given no epoch.
#
# A difference has its $t$ interval over the seeds, and Holm's adjustment over the settings; one seed has no interval.
# Each measure has its own verdict. The sign test of *faster, again* counts settings: the seeds of one setting are
# averaged first, as they are not independent evidence. Networks count as collapsed if NC1, NC2 of the means and NC3 are
# all below $0.1$. Collapse and *further* are judged on runs whose training loss has levelled off.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import neural_collapse as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "NC1, NC2 of the classifier's rows, NC2 of the means and NC3 of the training set over the epochs, on logarithmic axes: CE (blue) and BCE (vermilion), SGD (solid) and AdamW (dashed). Curves: the median over the seeds, with a dot at each measured epoch; bands: from the lowest seed to the highest. The first epoch drawn is the network before training.", "name": "fig-neural-collapse"}, "image": {"alt": "A panel for each of four measures of neural collapse, a row for each network. Across: the epoch. Upwards, on a logarithmic axis: the measure. A curve with a band for each loss (colour) and optimizer (solid or dashed)."}}
room.whole_training(runs);

# %% [markdown]
# Follow one colour from dashed to solid to see what the optimizer does, and one style from blue to vermilion to see
# what the loss does. The claim on speed is about the first epochs, which the next figure enlarges:

# %% mystnb={"figure": {"caption": "The first epochs of the figure above, enlarged. Dotted lines: the levels whose first passing is timed.", "name": "fig-neural-collapse-first"}, "image": {"alt": "The same panels and curves as in the figure before, cut after the epochs that are measured densely, with dotted horizontal lines at the preset levels."}}
room.first_epochs(runs);

# %% [markdown]
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# Where the curves end:

# %%
room.ends(runs)

# %% [markdown]
# When they first fall below each level:

# %%
room.passing(runs)

# %% [markdown]
# The paper's poster has these curves for ResNet18 on CIFAR10, with NC2 of the means. Where they end, beside ours:

# %%
room.poster(runs)

# %% [markdown]
# **Why NC2 can stay large under BCE.** $W W^\top$ is that of a simplex ETF only if the rows of $W$ add up to zero. BCE
# needs a common shift of all its logits, about the bias of the minimum. As long as the bias has not brought it, a
# common part of all rows of $W$ and of all features does, and NC2 measures that part; {doc}`bias_saturates` derives how
# large it is at the minimum. CE needs no shift. The means in *NC2 of the means* are centred, so that they do not show
# it.
#
# Images, networks and steps of the profiles quick and laptop are not the paper's, and the poster's values are read off
# a picture: {doc}`departures` lists every difference.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
