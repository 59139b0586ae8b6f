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
# # ViT and Swin
#
# **The paper's claim** {cite:p}`li2025bce`: what its figures show of residual networks holds for transformers too.
# Under CE the biases stay where they start, and decay takes them down without touching the scores; under BCE the bias
# settles between the negative and the positive scores, wherever it starts and whatever its decay is.
#
# **What to expect.** Both networks end in a LayerNorm, not in a ReLU: their features are free in sign, so that the
# closed form of {doc}`minima` can hold as it stands, where it cannot for the paper's residual networks. It says where
# training ends, if it gets there; {doc}`published_predicted` sets it beside the published medians. A transformer
# trains more slowly than a small convolutional network, and has dropout, so that its scores in training are not those
# of evaluation: fewer of its runs may have arrived.
#
# The paper's ViT cuts an image of $32 \times 32$ into patches of $4 \times 4$ and has $6$ layers of $512$ dimensions
# with $10$ heads of $64$, a class token and dropout of $0.2$ ($0.1$ for the embedding); its Swin has $96$ dimensions in
# windows of $4 \times 4$ and layers $2, 2, 6, 2$. They are vit-pytorch's and swin-transformer-pytorch's. The profiles
# without a GPU train a small ViT on the digits, with two layers of $64$ dimensions and four heads: patches of
# $2 \times 2$ in the profile laptop, of $4 \times 4$ in the profile quick.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import transformers as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% mystnb={"figure": {"caption": "Decision scores and classifier biases after training, against the mean of the initial biases. CE (blue) and BCE (vermilion). Violins: positive (filled) and negative (hatched) scores of the training set; boxes: the biases. Hollow markers: medians read off the paper's figures. Thin black lines: the closed-form minimum. Dotted diagonal: a bias that has not moved.", "name": "fig-transformers-start"}, "image": {"alt": "Panels for CE and BCE. Across: the mean of the initial biases. Upwards: decision scores and biases. For each start a filled violin of positive scores, a hatched one of negative scores and a box of the biases, with lines of the closed form, a diagonal for a bias that does not move and the paper's medians as hollow markers."}}
room.start_sweep(runs);

# %% [markdown]
# Compare the boxes with the diagonal, and the violins with the lines: are both losses as near to their minimum, at
# every start?

# %% mystnb={"figure": {"caption": "The same against the decay of the biases, from strong (left) to weak (right); all biases start around one mean.", "name": "fig-transformers-decay"}, "image": {"alt": "Panels for CE and BCE. Across: the decay of the biases, from strong to weak. Upwards: decision scores and biases, as in the figure above."}}
room.decay_sweep(runs);

# %% [markdown]
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The ends of the sweep over starts,

# %%
room.ends(runs)

# %% [markdown]
# and how far training has got:

# %%
room.gaps(runs)

# %% [markdown]
# Where the gap falls short of the closed form's, or a start leaves BCE with no gap at all, the run has not reached a
# minimum, and its bias need not lie where the minimum's does. {doc}`departures` lists what differs from the paper.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
