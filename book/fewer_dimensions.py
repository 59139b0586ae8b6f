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
# # Fewer dimensions than classes
#
# **The paper's open question** {cite:p}`li2025bce`: its theorems are for features of dimension $d \ge K - 1$. Does what
# they say about neural collapse hold where there are more classes than that, as in language models or face recognition?
#
# **What to expect.** Collapse within the classes carries over to any $d$; the simplex ETF cannot, because it needs
# $K - 1$ dimensions. What takes its place is a question of packing. This page proves that, as the decay goes to zero,
# CE makes the *margin* as large as can be, and BCE the *uniform gap*, which is the margin that one threshold for the
# whole data set can count on. It then looks at minima away from that limit, and asks of each loss whether it arranges
# its classes evenly, with free biases and with decayed ones.
#
# **What was known.** Jiang et al. {cite:p}`jiang2024` study CE with normalised features and classifier, without biases,
# and find the *softmax codes* that maximise its margin as the temperature goes to zero; the case $d + 2 \le K \le 2d$
# is treated in arXiv 2603.20587. For the sigmoid loss on pairs, with one common bias, minimisers are spherical codes
# (arXiv 2509.18552). That a vanishing decay maximises a margin was shown for linear classifiers by Rosset, Zhu and
# Hastie. The form of it below for BCE, with its consequence for uniform accuracy, the lemma, and what the decay of the
# bias does, are ours, as far as we know.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# ## What carries over, and what cannot
#
# The model is that of [the bias saturates](bias_saturates): free features $H$, classifier $W$ with rows $w_k$, biases
# $b$, $n$ samples a class, logits $W h - b$, and the decays $\lambda_W$, $\lambda_H$, $\lambda_b$. There, $d \ge K$
# made the problem convex. Here it is not.
#
# :::{admonition} Theorem one
# Let $c = \sqrt{n \lambda_W \lambda_H} < 1/K$ and $d$ be any dimension. At every local minimum of $f$, under CE or BCE,
# all samples of a class share one feature (NC1), and $\lambda_W W^\top W = \lambda_H H H^\top$. If $d < K - 1$, the
# classifier is no simplex ETF, and the minimum of $f$ is strictly larger than for $d \ge K$.
# :::
#
# *Proof.* At fixed $W$ and $b$, $f$ is strictly convex in each feature $h_i$, and the same function for all samples of
# a class: they share its one minimum. The gradients vanish: with $G$ the gradient of the loss in $WH$,
# $G H^\top = -\lambda_W W$ and $W^\top G = -\lambda_H H$; multiply the first by $W^\top$ from the left and the second
# by $H^\top$ from the right. A simplex ETF of $K$ vectors has rank $K - 1$. And for $d \ge K$ the minimiser's $Z = WH$
# is unique and has rank $K - 1$ or $K$ if $c < 1/K$ ([proof](bias_saturates)); no $W$, $H$ of smaller dimension make
# this $Z$, so their $f$ is larger. $\square$
#
# ## Each loss has its own margin
#
# For logits $z$ of samples with one feature a class, $z_{jk}$ the logit of class $j$ on a sample of class $k$, write
#
# $$
# \text{margin} = \min_k \Bigl( z_{kk} - \max_{j \ne k} z_{jk} \Bigr), \qquad
# \text{uniform gap} = \min_k z_{kk} - \max_{k,\, j \ne k} z_{jk} .
# $$ (eq-margin-gap)
#
# The margin compares logits within a sample. The uniform gap compares all positive logits with all negative ones; where
# it is above zero, one threshold separates them, and uniform accuracy is full. It is never larger than the margin. Both
# grow with $W$ and $H$, so let $\gamma$ and $\delta$ be margin and uniform gap divided by $\rho / K$,
# $\rho = \lVert W \rVert \lVert H \rVert$ (Frobenius norms, one column of $H$ a class). Their largest values over all
# $W$, $H$ and $b$ are $\gamma^*$ and $\delta^*$.
#
# :::{admonition} Theorem two
# Let $\lambda_b = 0$ and $d \ge 2$. As $c \to 0$, the minimisers of CE have $\gamma \to \gamma^*$, and those of BCE
# have $\delta \to \delta^*$.
# :::
#
# *Proof for BCE.* With $\lambda_b = 0$, $b$ can be shifted so that the threshold in the middle of the gap is zero: all
# signed logits ($z_{kk}$ and $-z_{jk}$) are then at least $g/2$, $g$ the gap. Also $\delta^* > 0$: put $w_k = h_k$ on a
# regular $K$-gon. *From above:* the best $W$, $H$, scaled to $\rho$, have $g = \delta^* \rho / K$, loss at most
# $K \log(1 + e^{-g/2}) \le K e^{-\delta^* \rho / 2K}$, and decay $c \rho$ (at the best split of the norms between $W$
# and $H$). With $\rho = \tfrac{2K}{\delta^*} \log \tfrac1c$ this gives
# $\min f \le \tfrac{2K}{\delta^*}\, c \log \tfrac1c \,(1 + o(1))$. *From below:* suppose minimisers for some sequence
# $c \to 0$ have $\delta \le \delta^* - \varepsilon$. Whatever the biases are, some signed logit is at most
# $\delta \rho / 2K$, so the loss is at least $\tfrac1K \log(1 + e^{-\delta \rho / 2K})$. Since $\min f \to 0$,
# $\delta \rho \to \infty$, and so $f \ge \tfrac{1}{2K} e^{-\delta \rho / 2K} + c \rho$. The smallest value of this over
# $\rho$ is $\tfrac{2K}{\delta}\, c\, \bigl(\log \tfrac{\delta}{4 K^2 c} + 1\bigr)$, which falls as $\delta$ grows (and
# $\tfrac{1}{2K}$ once $\delta \le 4 K^2 c$). So it is above the first bound by a factor that tends to
# $\delta^* / (\delta^* - \varepsilon)$ or more: a contradiction.
#
# *Proof for CE.* The same, with the margin $m$ in the place of $g/2$: the loss lies between $\tfrac1K \log(1 + e^{-m})$
# and $\log(1 + (K-1) e^{-m})$. $\square$
#
# So in this limit BCE's uniform gap is at least CE's, and CE's margin at least BCE's, for the same size of $W$ and $H$
# and in every dimension. For $d \ge K - 1$ the simplex ETF is best for both. In fewer dimensions the two can part.
#
# ## Two dimensions: eight classes
#
# The best minima found for the paper's decay and batch size ($\lambda_W = \lambda_H = 5 \cdot 10^{-4}$, $n = 128/K$),
# by minimisation over $W$, $H$ and $b$ from eight random starts. On the left the biases are free, on the right they are
# decayed.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import fewer_dimensions as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)

# %% mystnb={"figure": {"caption": "Eight classes in two dimensions at the minimum, CE (blue) and BCE (vermilion), with free biases and with decayed ones. Grey lines: under CE, where two classes have the largest logit; under BCE, where a class's own logit is zero. Rows of W are scaled to fit.", "name": "fig-planes"}, "image": {"alt": "Four drawings of the plane: CE above, BCE below; free biases on the left, decayed ones on the right. Dots are the features of eight classes, arrows the classifier rows from the origin, grey lines the boundaries of the classes."}}
room.planes();

# %% [markdown]
# Top left, look for a class *in the middle*. A class whose row has no length can have the centre, if larger biases on
# the others leave it there. Within each sample this can make a larger margin than a regular octagon, but the logits of
# different samples are then no longer comparable. Bottom left, BCE may not do this: its regions are half planes, and
# one threshold must serve all samples. On the right the biases cost. Without biases CE has nothing to put a class in
# the middle with. BCE loses more, because in the plane it cannot do without its threshold:
#
# :::{admonition} Lemma
# For $d = 2$ and $K \ge 4$ no $W$ and $H$ without bias have all own scores above zero and all others below zero.
# :::
#
# *Proof.* Suppose they have. $w_j \cdot h_k < 0$ for all $j \ne k$ puts all rows but $w_k$ into the open half plane
# opposite to $h_k$. If all $K$ rows lie in one open half plane, order them by angle: the half plane
# $\{w_k \cdot h > 0\}$ of a row between two others is covered by the two others', but $h_k$ lies in it alone, a
# contradiction. If they do not, then for every $k$ the gap in angle between the two neighbours of $w_k$ must exceed
# $180°$. Summed over all $k$ these gaps are $720°$, so that $720 > 180 K$, and $K < 4$. $\square$
#
# With $d \ge K$ an offset can replace the bias ([the bias saturates](bias_saturates)). Here an offset costs one of the
# $d$ dimensions, and with two there is none to spare.
#
# ## Three dimensions: twelve classes

# %% mystnb={"figure": {"caption": "The features of twelve classes in three dimensions at the minimum, with the edges of their convex hull; the cross is the origin. Left: free biases; right: decayed ones. The angle is the smallest between two classifier rows.", "name": "fig-polyhedra"}, "image": {"alt": "Four polyhedra whose corners are the features of twelve classes: CE above, BCE below; free biases on the left, decayed ones on the right. A cross marks the origin; each title has the smallest angle between two classifier rows."}}
room.polyhedra();

# %% [markdown]
# The icosahedron is the best arrangement of twelve points on a sphere. Which of the four drawings is one? In which does
# a class lie near the origin, and in which do all features lie on one side of it, so that a dimension is left for the
# threshold?
#
# And here both losses are followed from free to decayed biases. The minimisations of the two drawings above run on
# this page; most of those behind the lines, the tables and the findings below are stored.

# %%
room.note()

# %% mystnb={"figure": {"caption": "Smallest angle between classifier rows (top; black line: best spherical code) and uniform gap (bottom, divided by the size of W and H) against the decay of the bias, CE (blue) and BCE (vermilion). Circles: best of eight minimisations.", "name": "fig-few-dimensions-decay"}, "image": {"alt": "Four panels: eight classes in two dimensions on the left, twelve in three on the right. Across: the decay of the bias, logarithmic. Upwards: the smallest angle in the top row, with a black line for the best spherical code, and the uniform gap in the bottom row, with a black line at zero. CE and BCE are lines with circles."}}
room.against_bias_decay();

# %% [markdown]
# The two ends of these lines, in numbers. *Code* is the smallest angle of the best spherical code, where that is
# proved, *angle* the smallest between two classifier rows (a row of no length left out), both in degrees; *alike*:
# whether all classes have one bias and one positive score; *gap*: the uniform gap, divided by the size of $W$ and $H$,
# as in Theorem two.

# %%
room.decay_table()

# %% [markdown]
# ## What we see

# %%
chapter.findings()

# %% [markdown]
# Many pairs of $K$ and $d$ with free biases; *margin* is divided by the size of $W$ and $H$ like the gap. These
# problems are not convex, and a minimum found from eight starts is not proved to be global. A setting in which only one
# start reached the best minimum stands in the table, but counts in no finding.

# %%
room.survey_table()

# %% [markdown]
# Theorem two holds in its limit; at the decay of this table either loss may have the larger margin. The next table
# follows one setting as the decay shrinks.

# %%
room.small_decay()

# %% [markdown]
# ## What is left open
#
# For $d < K - 1$ we know neither $\gamma^*$ nor $\delta^*$ exactly, nor whether $\delta^*$ can always be had with one
# common bias. Where the best code is itself uneven, no arrangement of it treats the classes alike. With free biases,
# BCE does not keep all classes alike in general. The table of many pairs has counterexamples, among them $K = 2d - 1$
# for $d = 3$ and $d = 4$: there one class has a smaller bias and a smaller positive score than the others. Whether
# trained networks with $d < K - 1$ follow is not tested here.
#
# The paper has no result for $d < K - 1$. Nothing is trained here, and the features are free: {doc}`departures` lists
# every difference.
#
# ## Where these numbers come from

# %%
chapter.provenance()
