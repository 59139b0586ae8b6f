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
# # Histograms of positive and negative scores
#
# **The paper's claim** {cite:p}`li2025bce`: BCE pushes all positive scores to one high level and all negative scores to
# one low level, so that a single threshold tells them apart; CE only orders the scores of each sample, and the two
# distributions overlap.
#
# **What to expect.** *Accuracy* asks whether a sample's own logit is the largest of its $K$. *Uniform accuracy*
# {cite:p}`li2024rediscovering` asks for one threshold $t$ for the whole data set, with every sample's own logit above
# it and all of its others below:
#
# $$
# A_\text{Uni} = \max_t \frac{1}{N} \Bigl|\bigl\{ i : z_{i,y_i} > t > \max_{j \neq y_i} z_{i,j} \bigr\}\Bigr| .
# $$ (eq-uniform)
#
# It never exceeds accuracy, and falls short of it where the distributions of positive and negative logits overlap. A
# logit is a score minus a bias, so that the threshold $t$ for logits is the threshold $t + b_k$ for scores. In each of
# BCE's terms the threshold is $t = 0$: that of the scores is then the bias itself. CE compares the logits of one sample
# with each other and with no threshold at all, so that nothing ties its bias to one.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# These are networks of the accuracy chapter, of its first augmentation. The runs come from the store; what is missing
# is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import score_histograms as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "Distributions of positive (filled) and negative (hatched) decision scores on the training set, and on the test set (dashed): CE (left) and BCE (right), a row for each optimizer. Each has area one. The small box and bar on the axis are the range and mean of the classifier's biases; the dash-dotted line is the best uniform threshold of the training set, moved by the mean bias from logits to scores.", "name": "fig-score-histograms"}, "image": {"alt": "Panels of histograms for CE and BCE, a row for each optimizer. Across: the decision score. Filled: positive scores of the training set; hatched: negative ones; dashed outlines: both on the test set. On the axis a small box and a bar for the biases, and a dash-dotted line at the best uniform threshold."}}
room.histograms(runs);

# %% [markdown]
# Compare the distance between the bar of the bias and the dash-dotted threshold, for CE and for BCE. If BCE learns its
# threshold, the two stand together; under CE the threshold should lie wherever the scores happen to leave room. Then
# compare how much of the dashed outlines lies on the wrong side of the line.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# A lost image is one that is classified rightly, but that the best single threshold does not serve. Two networks are
# compared by an interval over the images of the test set, because each stands for itself here; {doc}`accuracy` has
# intervals over seeds.

# %%
room.thresholds(runs)

# %% [markdown]
# Scores are drawn, not logits: where the biases of one network differ by little (the box is narrow), one line can stand
# for all of its thresholds. The network and settings behind the paper's own histograms are not known to us;
# {doc}`departures` lists every difference.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
