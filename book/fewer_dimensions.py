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
# # Fewer dimensions than classes
#
# **The paper's open question** {cite:p}`li2025bce`: its theorems are for features of dimension $d \ge K - 1$. Does what they say about
# neural collapse hold where there are more classes than that, as in language models or face recognition?
#
# **What to expect.** Collapse within the classes carries over to any $d$; the simplex ETF cannot, because it needs $K - 1$ dimensions. What takes its
# place is a question of packing. We show two things. As the decay goes to zero, CE makes the *margin* as large as can be, and BCE the
# *uniform gap*, which is the margin that one threshold for the whole data set can count on. And where the losses differ, the decay of the
# bias decides which one arranges its classes evenly: with free biases it is BCE, with decayed ones it is CE.
#
# **What was known.** Jiang et al. {cite:p}`jiang2024` study CE with normalised features and classifier, without biases, and find the *softmax codes* that
# maximise its margin as the temperature goes to zero; the case $d + 2 \le K \le 2d$ is treated in arXiv 2603.20587. For the sigmoid loss on pairs, with one common bias, minimisers are spherical codes
# (arXiv 2509.18552). That a vanishing decay maximises a margin was shown for linear classifiers by Rosset, Zhu and Hastie (2003). The form of it
# below for BCE, with its consequence for uniform accuracy, the lemma, and what the decay of the bias does, are ours, as far as we know.

# %% tags=["parameters"]
profile = "quick"  # digits, on a CPU; "paper": ResNet18 on CIFAR10
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the profile's own; or a list

# %% [markdown]
# ## What carries over, and what cannot
#
# The model is that of [the bias saturates](bias_saturates): free features $H$, classifier $W$ with rows $w_k$, biases $b$, $n$ samples a class, logits
# $W h - b$, and the decays $\lambda_W$, $\lambda_H$, $\lambda_b$. There, $d \ge K$ made the problem convex. Here it is not.
#
# :::{admonition} Theorem 1
# Let $c = \sqrt{n \lambda_W \lambda_H} < 1/K$ and $d$ be any dimension. At every local minimum of $f$, under CE or BCE, all samples of a class share one feature
# (NC1), and $\lambda_W W^\top W = \lambda_H H H^\top$. If $d < K - 1$, the classifier is no simplex ETF, and the minimum of $f$ is strictly larger than for
# $d \ge K$.
# :::
#
# *Proof.* At fixed $W$ and $b$, $f$ is strictly convex in each feature $h_i$, and the same function for all samples of a class: they share its one minimum. The
# gradients vanish: with $G$ the gradient of the loss in $WH$, $G H^\top = -\lambda_W W$ and $W^\top G = -\lambda_H H$; multiply the first by $W^\top$ from the left and the second by $H^\top$
# from the right. A simplex ETF of $K$ vectors has rank $K - 1$. And for $d \ge K$ the minimiser's $Z = WH$ is unique and has rank $K - 1$ or $K$ if $c < 1/K$
# ([proof](bias_saturates)); no $W$, $H$ of smaller dimension make this $Z$, so their $f$ is larger. $\square$
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
# The margin compares logits within a sample. The uniform gap compares all positive logits with all negative ones; where it is above zero, one threshold separates
# them, and uniform accuracy is 100 %. It is never larger than the margin. Both grow with $W$ and $H$, so let $\gamma$ and $\delta$ be margin and
# uniform gap divided by $\rho / K$, $\rho = \lVert W \rVert \lVert H \rVert$ (Frobenius norms, one column of $H$ a class). Their largest values over all $W$, $H$ and $b$ are $\gamma^*$ and
# $\delta^*$.
#
# :::{admonition} Theorem 2
# Let $\lambda_b = 0$ and $d \ge 2$. As $c \to 0$, the minimisers of CE have $\gamma \to \gamma^*$, and those of BCE have $\delta \to \delta^*$.
# :::
#
# *Proof for BCE.* With $\lambda_b = 0$, $b$ can be shifted so that the threshold in the middle of the gap is zero: all signed logits ($z_{kk}$ and $-z_{jk}$) are then at
# least $g/2$, $g$ the gap. Also $\delta^* > 0$: put $w_k = h_k$ on a regular $K$-gon. *From above:* the best $W$, $H$, scaled to $\rho$, have $g = \delta^* \rho / K$, loss at
# most $K \log(1 + e^{-g/2}) \le K e^{-\delta^* \rho / 2K}$, and decay $c \rho$ (at the best split of the norms between $W$ and $H$). With
# $\rho = \tfrac{2K}{\delta^*} \log \tfrac1c$ this gives $\min f \le \tfrac{2K}{\delta^*}\, c \log \tfrac1c \,(1 + o(1))$. *From below:* suppose minimisers for some sequence
# $c \to 0$ have $\delta \le \delta^* - \varepsilon$. Whatever the biases are, some signed logit is at most $\delta \rho / 2K$, so the loss is at least
# $\tfrac1K \log(1 + e^{-\delta \rho / 2K})$. Since $\min f \to 0$, $\delta \rho \to \infty$, and so
# $f \ge \tfrac{1}{2K} e^{-\delta \rho / 2K} + c \rho$. The smallest value of this over $\rho$ is
# $\tfrac{2K}{\delta}\, c\, \bigl(\log \tfrac{\delta}{4 K^2 c} + 1\bigr)$, which falls as $\delta$ grows (and $\tfrac{1}{2K}$ once $\delta \le 4 K^2 c$). So it is above the first bound by a factor that tends to $\delta^* / (\delta^* - \varepsilon)$ or more: a contradiction.
#
# *Proof for CE.* The same, with the margin $m$ in the place of $g/2$: the loss lies between $\tfrac1K \log(1 + e^{-m})$ and $\log(1 + (K-1) e^{-m})$. $\square$
#
# So in this limit BCE's uniform gap is at least CE's, and CE's margin at least BCE's, for the same size of $W$ and $H$ and in every dimension. For $d \ge K - 1$ the simplex ETF is
# best for both. In fewer dimensions the two can part.
#
# ## Two dimensions: eight classes
#
# The best minima found for the paper's decay and batch size ($\lambda_W = \lambda_H = 5 \cdot 10^{-4}$, $n = 128/K$), by minimisation over $W$, $H$ and $b$ from eight
# random starts. On the left the biases are free, on the right they are decayed.

# %%
from IPython.display import Markdown

from bcebook.chapters.legacy import dimension_pages
from bcebook.book.notebook import Chapter

chapter = Chapter("fewer_dimensions", profile, device, data_dir, seeds)

# %% mystnb={"figure": {"caption": "Eight classes in two dimensions at the minimum, CE (blue) and BCE (vermilion), with free biases and with decayed ones. Grey lines: under CE, where two classes have the largest logit; under BCE, where a class's own logit is zero. Rows of W are scaled to fit.", "name": "fig-planes"}, "image": {"alt": "Four drawings. CE with free biases: seven features on a ring, the eighth in the centre, inside a heptagon of boundaries. CE with decayed biases: eight features on a ring, eight equal sectors. BCE with free biases: eight features on a ring, each cut off by a line of its own. BCE with decayed biases: an uneven scatter, features and rows no longer aligned."}}
dimension_pages.planes();

# %% [markdown]
# Top left: CE puts one class *in the middle*. Its row has no length; a larger bias on the seven others gives it the centre. Within each sample this makes a larger
# margin than the octagon, but the logits of different samples are no longer comparable. Bottom left: BCE may not do this. Its regions are half planes, one threshold
# must serve all samples, and the regular octagon with one bias is what it finds. On the right the roles are exchanged. Without biases CE has nothing to put a class in the middle with, and
# takes the octagon. BCE loses more, because it cannot do without its threshold:
#
# :::{admonition} Lemma
# For $d = 2$ and $K \ge 4$ no $W$ and $H$ without bias have all own scores above zero and all others below zero.
# :::
#
# *Proof.* Suppose they have. $w_j \cdot h_k < 0$ for all $j \ne k$ puts all rows but $w_k$ into the open half plane opposite to $h_k$. If all $K$ rows lie in one open half plane, order them by angle: the half plane
# $\{w_k \cdot h > 0\}$ of a row between two others is covered by the two others', but $h_k$ lies in it alone, a contradiction. If they do not, then for every $k$ the gap in angle between the two neighbours of $w_k$ must exceed
# 180°. Summed over all $k$ these gaps are 720°, so that $720 > 180 K$, and $K < 4$. $\square$
#
# With $d \ge K$ an offset can replace the bias ([the bias saturates](bias_saturates)). Here an offset costs one of the $d$ dimensions, and with two there is
# none to spare.
#
# ## Three dimensions: twelve classes

# %% mystnb={"figure": {"caption": "The features of twelve classes in three dimensions at the minimum, with the edges of their convex hull; the cross is the origin. Left: free biases; right: decayed ones. The angle is the smallest between two classifier rows.", "name": "fig-polyhedra"}, "image": {"alt": "Four polyhedra of features. BCE with free biases and CE with decayed biases are regular icosahedra with a smallest angle of 63.4 degrees. CE with free biases is irregular, with one class near the origin. BCE with decayed biases is a thin fan of points on one side of the origin."}}
dimension_pages.polyhedra();

# %% [markdown]
# The icosahedron is the best arrangement of twelve points on a sphere. BCE finds it when its bias is free, CE when it is not. With decayed biases BCE sets its features on one side of the origin and gives
# a dimension to the threshold.
#
# ## What we see
#
# Pairs of $K$ and $d$ with free biases. *Code* is the smallest angle of the best spherical code, where that is proved, *angle* the smallest between two classifier rows (a row of no
# length left out), both in degrees; *alike*: whether all classes have one bias and one positive score; *margin* and *gap* (uniform gap) are divided by the size of $W$ and $H$, as in Theorem 2.

# %%
Markdown(dimension_pages.survey_table(dimension_pages.survey()))

# %% [markdown]
# At this decay, Theorem 2 holds in its limit only: in a few settings BCE's margin is still the larger one. The next table follows one setting as the decay shrinks.

# %%
Markdown(dimension_pages.small_decay())

# %% [markdown]
# And here both losses are followed from free to decayed biases.

# %% mystnb={"figure": {"caption": "Smallest angle between classifier rows (top; black line: best spherical code) and uniform gap (bottom, divided by the size of W and H) against the decay of the bias. Circles: best of eight minimisations.", "name": "fig-few-dimensions-decay"}, "image": {"alt": "Four panels against lambda_b for K = 8, d = 2 and K = 12, d = 3. Under BCE angle and gap stay at the best code for small lambda_b and fall to about zero from 0.001 on. Under CE the gap is below zero for small lambda_b, and both jump to the best code between 0.0003 and 0.01."}}
figure, sweep = dimension_pages.against_bias_decay()

# %%
Markdown(dimension_pages.decay_sentence(sweep))

# %% [markdown]
# ## What was shown, proved, or left open
#
# - **Proved:** within-class collapse and the balance of $W$ and $H$ hold in every dimension; the simplex ETF is lost below $K - 1$. As the decay vanishes with free
#   biases, BCE maximises the uniform gap and CE the margin. In the plane, four classes or more cannot be separated uniformly without a bias.
# - **Shown by minimisation:** with free biases BCE's uniform gap was never smaller than CE's in the table, and its uniform accuracy was full where CE's was not. With strongly decayed biases it is the other way round in
#   both settings followed: CE reaches the regular arrangement, and BCE fails.
# - **Refuted:** that BCE keeps all classes alike in general, and that CE does not. Both have exceptions in the table, and where the best code is itself uneven ($K = 7$, $K = 9$ in space)
#   neither keeps them alike.
# - **Open:** these problems are not convex, and a minimum found from eight starts is not proved to be global, least of all where only one start reached it. For $d < K - 1$ we know neither
#   $\gamma^*$ nor $\delta^*$ exactly, nor whether $\delta^*$ can always be had with one common bias. Whether trained networks with $d < K - 1$ follow is not tested here.
#
# **Where we differ from the paper.** It has no result for $d < K - 1$. Nothing is trained here, and the features are free.
#
# ## Where these numbers come from

# %%
chapter.provenance()
