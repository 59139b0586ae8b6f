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
# # Histograms of positive and negative scores
#
# **The paper's claim** {cite:p}`li2025bce`: BCE pushes all positive scores to one high level and all negative scores to one low
# level, so that a single threshold tells them apart; CE only orders the scores of each sample, and the two distributions overlap.
#
# **What to expect.** *Accuracy* asks whether a sample's own logit is the largest of its $K$. *Uniform accuracy*
# {cite:p}`li2024rediscovering` asks for one threshold $t$ for the whole data set, with every sample's own logit above it and all
# of its others below:
#
# $$
# A_\text{Uni} = \max_t \frac{1}{N} \Bigl|\bigl\{ i : z_{i,y_i} > t > \max_{j \neq y_i} z_{i,j} \bigr\}\Bigr| .
# $$ (eq-uniform)
#
# It never exceeds accuracy, and falls short of it where the distributions of positive and negative logits overlap.

# %% tags=["parameters"]
profile = "quick"  # digits, on a CPU; "laptop": ResNet8 on MNIST and CIFAR10; "paper": ResNet18 on CIFAR10
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the profile's own; or a list

# %% [markdown]
# These are networks of the accuracy chapter: weight decay on every parameter, augmentation DA1, biases started around zero.

# %%
from IPython.display import Markdown

from bcebook.chapters.legacy import claims, figures
from bcebook.book.notebook import Chapter

chapter = Chapter("score_histograms", profile, device, data_dir, seeds)
runs = chapter.runs()

# %% mystnb={"figure": {"caption": "Distributions of positive (filled) and negative (hatched) decision scores on the training set, and on the test set (dashed): CE (left) and BCE (right), SGD (top) and AdamW (bottom). Each has area 1. The small box and bar on the axis are the range and mean of the classifier's biases; the dash-dotted line is the best uniform threshold of the training set, moved by the mean bias from logits to scores.", "name": "fig-score-histograms"}, "image": {"alt": "Four panels of histograms. Under CE the negative scores spread widely and reach into the positive ones, with the biases near zero. Under BCE the two distributions are farther apart, and the biases lie in the gap, near the best uniform threshold."}}
figures.score_histograms(runs);

# %% [markdown]
# Compare the distance between the bar of the bias and the dash-dotted threshold. BCE has learned its threshold: the bias. CE has
# no reason to, and its best threshold is an accident of how far its scores spread.
#
# ## What we see

# %%
Markdown(claims.score_histograms(runs))

# %% [markdown]
# **Where we differ from the paper.** The network and settings behind the paper's own histograms are not known to us; the quick
# profile's images, network and number of steps are not the paper's. Scores are drawn, not logits: the biases of one network
# differ by little, so that one line can stand for all of its thresholds.
#
# ## Other profiles

# %%
chapter.show_others(figures.score_histograms, claims.score_histograms)

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
