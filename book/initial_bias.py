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
# # Classifier bias and decision scores against the initial bias mean
#
# **The paper's claim** {cite:p}`li2025bce`: under BCE the classifier bias is a working part, which settles between the
# positive and the negative decision scores wherever it starts; under CE it stays where it was put and does nothing.
#
# **What to expect.** A sample with features $h$ gets the logit $z_k = w_k \cdot h - b_k$ for class $k$: its *decision
# score* $w_k \cdot h$ has to pass the *bias* $b_k$. Softmax does not change when the same constant is added to all $K$
# logits, so the gradient of CE has no component along a common shift of the biases. In BCE every logit stands alone,
#
# $$
# \ell_\text{BCE} = \log\bigl(1 + e^{-z_y}\bigr) + \sum_{j \neq y} \log\bigl(1 + e^{z_j}\bigr),
# $$ (eq-bce)
#
# and a common shift of the biases changes all of its terms. With SGD, CE therefore cannot move the mean of the biases,
# except by rounding; AdamW divides each gradient by its own recent size, so that gradients which add up to zero make
# steps that need not.
#
# Each network below starts with biases drawn around one of several means, and is trained with decoupled decay,
# $\tfrac{\lambda_W}{2}\|W\|^2 + \tfrac{\lambda_H}{2}\sum_{i \in \text{batch}} \|h_i\|^2$, and none on the biases
# ($\lambda_b = 0$).

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import initial_bias as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% [markdown]
# The figure shows the finished networks on their training sets. The closed form is the global minimum of the loss plus
# decay when the features are free variables {cite:p}`zhu2021`, at these networks' own $\lambda_W$, $\lambda_H$, batch
# size and $K$. The paper's networks have the same four, so that its medians head for the same lines although its images
# are others.

# %% mystnb={"figure": {"caption": "Decision scores and classifier biases after training, against the mean of the initial biases: CE (blue) and BCE (vermilion), SGD (top) and AdamW (bottom). Violins: positive (filled) and negative (hatched) scores of the training set; boxes: the biases. Hollow markers: medians read off the paper's figures. Thin black lines: the closed-form minimum. Dotted: where the biases started.", "name": "fig-initial-bias"}, "image": {"alt": "Panels for CE and BCE, a row for each optimizer. Across: the initial bias mean. Upwards: decision scores and biases. For each start a filled violin of positive scores, a hatched one of negative scores and a box of the biases, with the diagonal on which a bias stays at its start, horizontal lines of the closed form, and the paper's medians as hollow markers."}}
room.bias_sweep(runs);

# %% [markdown]
# Look at where each box lies: along the dotted diagonal if training leaves the biases alone, between the violins if the
# bias works. Where a box lies far from its start, compare the violins beside it: do the scores come to the bias, or the
# bias to the scores?
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# Where scores and biases end, over all starts, and how much of its start a bias keeps:

# %%
room.ends(runs)

# %%
room.slopes(runs)

# %% [markdown]
# A slope above zero under BCE is a matter of time, not of the minimum: with $\lambda_b = 0$ the bias is pulled only by
# what is left of the loss, which fades as the scores separate. The fewer and smaller the steps, the more of its start a
# bias keeps.
#
# Images, networks, steps and rates of the profiles quick and laptop are not the paper's, and the paper's medians are
# read off its pictures: {doc}`departures` lists every difference.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
