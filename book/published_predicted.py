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
# # The closed form beside the published figures
#
# **The paper's claim** {cite:p}`li2025bce`: in networks trained with decoupled decay, BCE's bias settles between
# positive and negative scores, whatever its initial mean; under CE it does not; and decaying the bias changes both. The
# paper shows this in violin plots of ViT, Swin and ResNet18.
#
# **What to expect.** [The bias saturates](bias_saturates) gives the minimum of loss plus decay in closed form, with
# nothing to fit: the number of classes, the two decays and the batch size fix every score and the bias, provided that
# features may take any sign. ViT and Swin end in a LayerNorm, whose outputs have either sign (the length that it fixes
# is the same for all samples, as it is at the minimum). ResNet18 ends in ReLU and average pooling: its features cannot
# be negative, and have a minimum of their own. The prediction takes $\lambda_W = \lambda_H = 5 \cdot 10^{-4}$ and
# batches of $128$, the defaults of the authors' code. If a network has reached its minimum, it shows the predicted
# numbers. Where a median differs, the network has not arrived there, or the model leaves something out.
#
# Two things are known about arriving. If only the initial mean of the bias varies, the minimum is one and the same, so
# that medians that differ from start to start have not arrived. And the gradient of CE has no part along a common shift
# of all biases, so that with SGD CE's mean bias is moved by its own decay alone: it stays for $\lambda_b = 0$, and else
# shrinks at a rate that the learning rates fix.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# Nothing is trained for this page. Its numbers are medians read off the published pictures, and minima.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import published_predicted as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)

# %% [markdown]
# Nonnegative features have a minimum of their own, whose class features are orthogonal around zero until the bias
# decays fast: [ReLU features](relu_features) has it beside that of free features, with the proof.
#
# First the sweep in which the two part, and in which the bias saturates: BCE against the decay of the bias. No line in
# it is fitted.

# %% mystnb={"figure": {"caption": "BCE's scores and bias against the decay of the bias: medians read off the paper's figures (hollow), the closed form for features of either sign (black; the bias dashed), and the minimum for nonnegative features (wide grey lines). Dotted: the critical bias decay of the closed form. ViT and Swin are moved sideways a little; ResNet18, whose data set is not stated, stands with ten classes.", "name": "fig-published-decay"}, "image": {"alt": "Four panels, ten and a hundred classes with SGD and AdamW. Across: the decay of the bias, logarithmic. Upwards: positive score, bias and negative score, each with a black line for free features, a wide grey line for nonnegative ones, and hollow markers for ViT, Swin and ResNet18. A dotted vertical line marks the critical decay."}}
room.decay_sweep();

# %% [markdown]
# Look to the right of the dotted lines: if the offset takes over from the bias, all three quantities fall together; by
# an equation for the bias alone, the scores would not move. ResNet18's markers belong to the grey lines, the others to
# the black ones. Now all medians, over both sweeps, each beside the minimum of its own kind of features.

# %% mystnb={"figure": {"caption": "Published median against prediction, for CE (blue) and BCE (vermilion): positive scores, negative scores and biases of both sweeps. Thin black line: equal.", "name": "fig-published-scatter"}, "image": {"alt": "Four panels, CE and BCE with SGD and AdamW. Across: the predicted value; upwards: the published median, as hollow markers, one shape a network. A thin line of equality runs through each panel, whose title counts the medians that agree."}}
room.scatter();

# %% [markdown]
# A vertical column of markers is one prediction that meets many medians: the same minimum for all starts, or, under CE,
# the bias that decay has not yet brought down.
#
# ## What we see

# %%
chapter.findings()

# %% [markdown]
# Reading a median is good to about $0.05$ (ViT, Swin) and $0.1$ (ResNet18); it *agrees* if it is no further off than
# that plus $0.05$. All starts of one network have one minimum, so that their medians are no independent evidence: a *value*
# is the middle one of them, and CE's bias without decay, whose prediction is its own start, is none. In the sweep over
# $\lambda_b$ every median has its own minimum, and is a value. *Free* and *nonnegative* count the values that agree
# with the minimum of such features, *other loss* those that agree with the wrong loss's minimum.

# %%
room.counts()

# %%
room.panels()

# %% [markdown]
# **How a panel is read.** The sweep over the initial mean (*start*): *agrees* if all medians do; *start still shows* if
# some quantity varies over the starts by more than reading explains, so that these networks have not arrived, whatever
# the model; else *off from every start*: they have forgotten their start but differ from the minimum, where the model
# leaves something out. The sweep over $\lambda_b$, CE: *bias still decays* if the scores agree and some bias does not,
# else *scores off*. BCE: *logits agree* if score minus bias is right for both kinds of score, and only the split
# between bias and offset is not; else *logits off*.
#
# **Why a network may not have arrived.** The loss pulls on bias and scores by the errors that are left, which at the
# minimum are of size $c$. With $\lambda_b = 0$ this is all that moves the bias. Once the loss has its logits, the split
# into bias and offset is moved only by the decay, at a rate of $\lambda_b$: slowly where $\lambda_b$ is small. AdamW
# divides every step by the size of recent gradients, so that directions of small gradient move faster than under SGD
# ([by how much](bias_travels) can be read off a training, not off the published figures).
#
# Why a panel is off from every start is unknown. ViT's published networks train with dropout and are measured without,
# and the model has no dropout; that this is a reason is not tested here.
#
# ## By the minimum, by the flow, or by neither
#
# Training that ended on the way shows where the way had led. [How the bias travels](bias_travels) has the law of it:
# one effective time for all starts and decays of a network and optimizer. With that one number for BCE, and the one
# that CE's own decay implies below:

# %%
room.told()

# %% [markdown]
# *Predicted by*: what two thirds of the medians agree with, the minimum if both do. AdamW's time is not that of its
# schedule, and where a strong decay moves a bias, not the same as at the start's; where no one exponential fits CE's
# biases, the flow has no time for them.
#
# ## How far CE's bias decays
#
# Summed over the classes, the gradient of CE in the biases is exactly zero. With decay, SGD with momentum $\mu$ and
# learning rates $\eta_1, \eta_2, \dots$ takes the mean bias $\bar b$ from its start $\bar b_0$ to
#
# $$
# \bar b \approx \bar b_0 \, e^{-\lambda_b T}, \qquad T = \sum_{\text{steps}} \frac{\eta}{1 - \mu} .
# $$ (eq-drift)
#
# The published networks of this sweep start at a mean of $10$; the median of their biases stands for the mean. The *effective
# time* $T$ is the same for all $\lambda_b$ of a panel, so {eq}`eq-drift` can fail in two ways: no $T$ fits the medians
# of a panel, or one does that is not the schedule's. Which schedule made the published figures is unknown. Known is
# this much: in the authors' argument parser the default is cosine; their command line for SGD names no schedule, that
# for AdamW has another learning rate than the paper's text; and in their loop the rates lag by one epoch, whichever it
# is. So two schedules can be meant, and the figure has both.

# %% mystnb={"figure": {"caption": "CE's bias after training from an initial mean of ten, against its decay: medians read off the paper's figures (hollow), and what decay alone predicts for SGD with the authors' loop and steps (black line) or cosine (dashed). Dotted: the one exponential that fits a panel's medians, where there is one.", "name": "fig-ce-drift"}, "image": {"alt": "Two panels, SGD and AdamW. Across: the decay of the bias, logarithmic; upwards: CE's bias, with hollow markers for the published networks, dotted exponentials fitted to each network, and under SGD a solid and a dashed black line for the two schedules."}}
room.drift();

# %%
room.times()

# %% [markdown]
# Where a fitted time belongs to none of the schedules, the published network must have had other learning rates,
# another schedule or another number of steps, if {eq}`eq-drift` holds for it; we do not know which. Under AdamW
# {eq}`eq-drift` does not apply: the decay's gradient is divided by the size of CE's own gradients, which differ from
# network to network and change during training. The prediction at the minimum depends on none of this.
#
# The medians are read off pictures, and the settings of the published networks are those of the authors' code:
# {doc}`departures` lists what else is unknown.
#
# ## Where these numbers come from

# %%
chapter.provenance()
