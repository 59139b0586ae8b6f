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
# **The paper's claim** {cite:p}`li2025bce`: decay of the biases, with weight $\lambda_b$, takes them down under CE without touching
# the scores; under BCE the bias goes where the loss needs it, and the scores go with it.
#
# **What to expect.** Every network below starts with its biases around 10, the largest start of the chapter before, and the
# loss gains $\tfrac{\lambda_b}{2}\|b\|^2$. Under CE a common shift of the biases changes nothing but this term: a
# step of SGD with learning rate $\eta$ takes the share $\eta \lambda_b$ off their mean, momentum $0.9$ makes that ten times as much, and
# after training the mean is
#
# $$
# \bar b = \bar b_0 \exp\Bigl(-10\, \lambda_b \sum_\text{steps} \eta\Bigr),
# $$ (eq-decay)
#
# zero for a large $\lambda_b$ and still the start for a small one. Under BCE the loss pulls too, and {doc}`bias_saturates`
# derives where the two pulls balance: beyond a critical $\lambda_b$ the bias shrinks, and the scores move to keep it between
# them.

# %% tags=["parameters"]
profile = "quick"  # digits, on a CPU; "laptop": ResNet8 on MNIST; "paper": ResNet18 on CIFAR10
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the profile's own; or a list

# %% [markdown]
# The runs come from the store; what is missing is trained now.

# %%
from IPython.display import Markdown

from bcebook.chapters.legacy import claims, figures
from bcebook.book.notebook import Chapter

chapter = Chapter("bias_decay", profile, device, data_dir, seeds)
runs = chapter.runs()

# %% [markdown]
# The figure is laid out as in the chapter before; the thin black line is the closed-form minimum at each $\lambda_b$, which for CE
# now includes the bias: zero, because the term $\tfrac{\lambda_b}{2}\|b\|^2$ is all that is left to decide it.

# %% mystnb={"figure": {"caption": "Decision scores and classifier biases after training, against the decay of the biases, from strong (left) to weak (right); all biases start around 10. CE (blue) and BCE (vermilion), SGD (top) and AdamW (bottom). Violins: positive (filled) and negative (hatched) scores of the training set; boxes: the biases. Hollow markers: medians read off the paper's figures. Thin black lines: the closed-form minimum.", "name": "fig-bias-decay"}, "image": {"alt": "Four panels, CE and BCE with SGD and AdamW. Under CE the violins stay level while the bias boxes go from zero at strong decay to the start, ten, at weak decay. Under BCE the bias boxes lie between the violins throughout."}}
figures.bias_decay(runs);

# %% [markdown]
# At the left, where the decay is strong, the objective decides: with SGD, CE's boxes lie on zero. At the right it is too weak to act
# within the training: CE's boxes lie where they started, and BCE's where the loss has brought them. Compare the steepness of the two
# rows: AdamW cannot be hurried, neither by the decay nor by the loss.
#
# ## What we see

# %%
Markdown(claims.bias_decay(runs))

# %% [markdown]
# **Where we differ from the paper.** The quick profile has other images and another network, 1,200 steps in place of 39,100, and
# ten times the learning rates, so that the range of $\lambda_b$ that training resolves lies elsewhere. The paper's medians are read off
# pictures, to about 0.05 (ViT, Swin) and 0.1 (ResNet18).
#
# ## Other profiles

# %%
chapter.show_others(figures.bias_decay, claims.bias_decay)

# %% [markdown]
# ## Where these numbers come from

# %%
chapter.provenance(runs)
