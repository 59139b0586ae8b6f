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
# # Neural collapse over the epochs
#
# **The paper's claim** {cite:p}`li2025bce`: both losses lead to neural collapse, and BCE gets there faster and further: NC1, NC2 and
# NC3 end lower.
#
# **What to expect.** Late in training the features of a class draw together around their mean (NC1), the classifier's rows
# become a simplex equiangular tight frame (NC2), and rows and class means align (NC3) {cite:p}`papyan2020`. With $H_c$ the class
# means around their own mean, $S_W$ and $S_B$ the scatter within and between classes, and $E = (I - \tfrac{1}{K} 1 1^\top)/\sqrt{K-1}$,
#
# $$
# \text{NC1} = \tfrac{1}{K} \operatorname{tr}(S_W S_B^+), \qquad
# \text{NC2} = \Bigl\| \frac{W W^\top}{\|W W^\top\|} - E \Bigr\|, \qquad
# \text{NC3} = \Bigl\| \frac{W H_c}{\|W H_c\|} - E \Bigr\|,
# $$ (eq-nc)
#
# all zero when the collapse is complete. The networks are trained without augmentation and with decoupled decay, as in the
# paper's experiment; each measurement takes the whole training set.

# %% tags=["parameters"]
profile = "quick"  # digits, on a CPU; "laptop": ResNet8 on MNIST and CIFAR10; "paper": three networks, three data sets
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the profile's own; or a list

# %% [markdown]
# The runs come from the store; what is missing is trained now.

# %%
from IPython.display import Markdown

from bcebook.chapters.legacy import claims, figures
from bcebook.book.notebook import Chapter

chapter = Chapter("neural_collapse", profile, device, data_dir, seeds)
runs = chapter.runs()

# %% mystnb={"figure": {"caption": "NC1, NC2 and NC3 of the training set over the epochs, on logarithmic axes: CE (blue) and BCE (vermilion), SGD (solid) and AdamW (dashed). Dots: the epochs that were measured; epoch 0 is the network before training.", "name": "fig-neural-collapse"}, "image": {"alt": "Three panels. NC1 falls over the epochs in all four runs; NC2 and NC3 fall too, at different rates for the two losses and optimizers."}}
figures.neural_collapse(runs);

# %% [markdown]
# Follow one colour from dashed to solid to see what the optimizer does, and one style from blue to vermilion to see what the loss
# does.
#
# ## What we see

# %%
Markdown(claims.neural_collapse(runs))

# %% [markdown]
# **Why NC2 can stay large under BCE.** $W W^\top$ is that of a simplex ETF only if the rows of $W$ add up to zero. BCE needs a
# common shift of all its logits, about the bias of the minimum. As long as the bias has not brought it, a common part of all rows of $W$
# and of all features does, and NC2 measures that part; {doc}`bias_saturates` derives how large it is at the minimum. CE needs no shift.
# The means in *NC2 of the means* are centred, so that they do not show it.
#
# NC2 is the one of the classifier's rows; *NC2 of the means* puts $H_c^\top H_c$ in the place of $W W^\top$, as on the paper's
# poster. Accuracy is that of the training set in evaluation mode. The figure and the table show the lowest seed.
#
# **Where we differ from the paper.** The quick profile has other images and another network, and trains for 1,200 steps in place of 39,100.
#
# ## Other profiles
#
# The profile laptop shows MNIST and CIFAR10, with a small residual network and no augmentation, far into the terminal phase of
# training. The paper's poster has these curves for ResNet18 on CIFAR10; read off by eye, NC2 (of the means) ends near 0.22 for CE with
# SGD and near 0.03 or below for the three others, NC3 near 0.17 and at 0.04 or below.

# %%
chapter.show_others(figures.neural_collapse, claims.neural_collapse)

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
