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
# # Compactness and distinctiveness
#
# **The paper's claim** {cite:p}`li2025bce`: BCE's features are more compact within classes and more distinct between
# them than CE's. Its table measures this by $E_\text{com}$ and $E_\text{dis}$.
#
# **What to expect.** Neither the formulas nor the numbers of that table are at hand. Ours are cosines, taken around the
# global mean $\mu_G = \tfrac{1}{K} \sum_k \mu_k$ of the class means $\mu_k$, within classes
#
# $$
# E_\text{com} = \frac{1}{K} \sum_{k=1}^{K} \frac{1}{n_k (n_k - 1)} \sum_{\substack{i \neq j \\ y_i = y_j = k}}
# \cos(h_i - \mu_G,\; h_j - \mu_G)
# $$ (eq-compactness)
#
# and between them
#
# $$
# E_\text{dis} = 1 - \frac{1}{K (K - 1)} \sum_{k \neq l} \cos(\mu_k - \mu_G,\; \mu_l - \mu_G) .
# $$ (eq-distinctiveness)
#
# $E_\text{com}$ lies in $[-1, 1]$ and $E_\text{dis}$ in $[0, \tfrac{K}{K-1}]$; at neural collapse, where features sit
# at class means that form a simplex, both are at their top: $E_\text{com} = 1$ and $E_\text{dis} = \tfrac{K}{K-1}$. If
# the claim holds, BCE is the higher in both, on the training set and, which is the harder test, on images that it has
# not seen.
#
# **What $E_\text{dis}$ cannot see.** Let $u_k$ be the centred class means at length one. Then
# $\sum_{k \neq l} u_k \cdot u_l = \bigl|\sum_k u_k\bigr|^2 - K$, so that
#
# $$
# E_\text{dis} = \frac{K}{K-1} - \frac{1}{K (K-1)} \Bigl|\sum_{k=1}^{K} u_k\Bigr|^2 .
# $$ (eq-blind)
#
# The centred class means add up to zero. If all of them have the same length $\ell$, then
# $\sum_k u_k = \tfrac{1}{\ell} \sum_k (\mu_k - \mu_G) = 0$, and $E_\text{dis}$ is at its top, whatever the angles
# between the classes: four classes with centred means $a, a, -a, -a$ are in two pairs that cannot be told apart, and
# have it too. Around the global mean $E_\text{dis}$ thus falls short of its top only where class means differ in *length*,
# and a network can come close to it long before it forms a simplex. (The paper's own $E_\text{dis}$ may be another.)
# Beside it stands the largest cosine of two centred class means, which says how far apart the two closest classes are:
# $-\tfrac{1}{K-1}$ for a simplex, $1$ for classes in one direction.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The networks are those of the accuracy chapter and of the chapter on neural collapse.
# The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import compactness as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "BCE minus CE in compactness (top) and distinctiveness (bottom) of the features, on the training set (left) and the test set (right), after the last epoch, for each optimizer and augmentation. Faint dots: one seed each; large dots and bars: their mean and its 95 % interval (Student's), the one that decides. Each panel has its own scale.", "name": "fig-compactness"}, "image": {"alt": "Four dot plots with a row for each optimizer and augmentation: BCE minus CE in compactness above and in distinctiveness below, on the training set to the left and on the test set to the right, each with its seeds, their mean and interval, and a line at zero."}}
room.differences(runs);

# %% [markdown]
# Compare the bars with the line at zero, and then the scales of the upper panels with those of the lower ones: by
# {eq}`eq-blind`, differences in distinctiveness should be small wherever the class means have about one length.
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The values behind the differences:

# %%
room.measured(runs)

# %% [markdown]
# Values can be compared between our runs, not with the paper's table; {doc}`departures` lists this and every other
# difference.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
