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
# # Features by epoch
#
# **The paper's claim** {cite:p}`li2025bce`: a row of t-SNE pictures shows that features trained with BCE draw together
# and part sooner, and further, than those trained with CE.
#
# **What to expect.** A t-SNE picture keeps neighbours, not distances: how tight a cloud looks and how far two clouds
# are apart may be the layout's doing. Two things are done about it. Each layout starts from the one of the epoch
# before, so that a point moves only as its features do; and beside the pictures stand numbers of the very same
# features: NC1, compactness {eq}`eq-compactness`, distinctiveness {eq}`eq-distinctiveness`, the silhouette
# {cite:p}`rousseeuw1987`, which is $1$ where classes are tight and far apart and $0$ where they overlap, and the share
# of images whose nearest neighbours vote for their own class. How far a picture can be trusted is a number too: its
# trustworthiness {cite:p}`venna2001` is $1$ where it invents no neighbour. If the claim holds, BCE is ahead in these
# numbers at every epoch, not only in the eye.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The networks are those of the chapter on neural collapse, trained with SGD, without augmentation; each keeps the
# features of the same training images at ten epochs. The pictures show every second of these images, the numbers are of
# all. The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import features_by_epoch as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "t-SNE layouts of the features of the same training images over the epochs (the number above a column; the first is the network before training), under CE (top) and BCE (bottom); a colour for each class. Each layout starts from the one to its left.", "name": "fig-features-by-epoch"}, "image": {"alt": "Two rows of small scatter plots, CE above BCE, a column for each of ten epochs. Each point is an image, coloured by its class, where a t-SNE layout of the features puts it."}}
room.pictures(runs);

# %% [markdown]
# The same larger: move the slider from the first epoch to the last.

# %%
room.slider(runs)

# %% [markdown]
# Which loss has its classes apart first, which has the tighter clouds at the end? Then look whether the numbers agree:

# %% mystnb={"figure": {"caption": "NC1 of the training set, and of the kept features compactness, distinctiveness, silhouette and the share of images whose ten nearest others vote for their class, over the epochs: CE (blue) and BCE (vermilion).", "name": "fig-features-numbers"}, "image": {"alt": "Five panels of curves over the epochs, CE and BCE in each: NC1, compactness, distinctiveness, silhouette, and the share of images whose nearest neighbours are of their class."}}
room.curves(runs);

# %% [markdown]
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The numbers before training, after the first epoch and at the end:

# %%
room.ends(runs)

# %% [markdown]
# One run a loss has no interval over seeds; {doc}`neural_collapse` and {doc}`compactness` have. {doc}`departures` lists
# what differs from the paper.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
