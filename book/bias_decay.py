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
# # Classifier bias and decision scores against the decay of the bias
#
# **The paper's claim** {cite:p}`li2025bce`: decay of the biases, with weight $\lambda_b$, takes them down under CE
# without touching the scores; under BCE the bias stays between the scores, whatever $\lambda_b$ is.
#
# **What to expect.** Every network below starts with its biases around the largest start of the chapter before, and the
# loss gains $\tfrac{\lambda_b}{2}\|b\|^2$. Under CE a common shift of the biases changes nothing but this term, so that
# with SGD it alone moves their mean: a step with learning rate $\eta$ takes the share $\eta \lambda_b$ off it, momentum
# $0.9$ makes that ten times as much, and after training the mean is
#
# $$
# \bar b = \bar b_0 \exp\Bigl(-10\, \lambda_b \sum_\text{steps} \eta\Bigr),
# $$ (eq-decay)
#
# zero for a large $\lambda_b$ and still the start for a small one. AdamW is another matter. It divides each gradient by
# its own recent size, so that the pull of the decay moves a bias by about the learning rate in a step, however strong
# it is, and the loss's gradients, which add up to zero over the classes, make steps that need not.
#
# Under BCE the loss pulls too, and {doc}`bias_saturates` derives where the two pulls balance: beyond a critical
# $\lambda_b$ the bias of the minimum shrinks, and the scores move to keep it between them.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# The runs come from the store; what is missing is trained now.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import bias_decay as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
runs = chapter.runs()

# %%
chapter.strongest()

# %% [markdown]
# The figure is laid out as in the chapter before; the thin black line is the closed-form minimum at each $\lambda_b$,
# which for CE now includes the bias: zero, because the term $\tfrac{\lambda_b}{2}\|b\|^2$ is all that is left to decide
# it.

# %% mystnb={"figure": {"caption": "Decision scores and classifier biases after training, against the decay of the biases, from strong (left) to weak (right); all biases start around one mean. CE (blue) and BCE (vermilion), SGD (top) and AdamW (bottom). Violins: positive (filled) and negative (hatched) scores of the training set; boxes: the biases. Hollow markers: medians read off the paper's figures. Thin black lines: the closed-form minimum.", "name": "fig-bias-decay"}, "image": {"alt": "Panels for CE and BCE, a row for each optimizer. Across: the decay of the biases, from strong to weak. Upwards: decision scores and biases. For each decay a filled violin of positive scores, a hatched one of negative scores and a box of the biases, with lines of the closed form and the paper's medians as hollow markers."}}
room.decay_sweep(runs);

# %% [markdown]
# Where the decay is strong (left), the objective decides, if training is long enough: look whether CE's boxes have come
# down to the line at zero, and whether BCE's lie on theirs. Where it is weak (right), it does not act within the
# training: CE's boxes should lie where they started, BCE's where the loss has brought them. Then look along each row of
# violins: do they stay level, or go with the boxes? And compare the optimizers: how far have the boxes come under the
# strongest decay?
#
# ## What we see

# %%
chapter.findings(runs)

# %% [markdown]
# The medians behind the figure, beside what is predicted and what the paper's networks show:

# %%
room.medians(runs)

# %% [markdown]
# {eq}`eq-decay` treats momentum as if it acted at once and steps as if they were small. If the recurrence of momentum,
# followed through every step of a run, leaves a smaller distance than the equation does, then that is where the
# equation's error comes from, and nothing but the decay has moved the mean.
#
# Images, networks, steps and rates of the profiles quick and laptop are not the paper's, so that the range of
# $\lambda_b$ that training resolves lies elsewhere, and the paper's medians are read off its pictures:
# {doc}`departures` lists every difference.
#
# ## Other profiles

# %%
chapter.other_profiles()

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
