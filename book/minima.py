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
# # Minima
#
# **The paper's claim** {cite:p}`li2025bce`: when classifier, features and bias are decayed, and $d \ge K - 1$, every
# global minimiser of CE and of BCE shows neural collapse. All features of a class agree, the class means form a simplex
# ETF (vectors of equal length, all pairs at the same widest angle, summing to zero), each feature is a fixed multiple
# of its own classifier row, and all biases are equal. For BCE the bias solves an equation and, under a condition, lies
# between all positive and all negative scores.
#
# **What to expect.** Both minima in closed form, with a proof, beside a minimisation that knows nothing of it. CE's
# theorem is proved as stated. BCE's is proved up to a critical decay of the bias, beyond which a second way to shift
# scores takes over; that is the subject of {doc}`bias_saturates`. While it holds, the two minima have one shape: they
# differ in scale and bias only.
#
# **What was known.** Neural collapse was observed by Papyan, Han and Donoho {cite:p}`papyan2020`. That CE's global
# minimisers in this model show it is due to Zhu et al. {cite:p}`zhu2021`, for the mean squared error to Zhou et al.
# {cite:p}`zhou2022`. For BCE it is the paper's theorem, which we have as a summary of its statement, without its proof.
# The proof below is ours in this form; its parts are standard (the nuclear norm as the least decay, averaging over a
# symmetry). The comparison of the errors that the losses leave is ours, as far as we know.

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% [markdown]
# ## The model
#
# $K \ge 2$ classes, $n$ samples each, $N = nK$. The features $H = (h_1, \dots, h_N)$ in $\mathbb{R}^d$ are free
# variables; $W$ has the rows $w_k$, and the logits are $W h_i - b$. With decays $\lambda_W, \lambda_H > 0$ and
# $\lambda_b \ge 0$,
#
# $$
# f(W, H, b) = \frac1N \sum_{i} \ell(W h_i - b,\, y_i) + \frac{\lambda_W}{2} \lVert W \rVert^2
# + \frac{\lambda_H}{2} \lVert H \rVert^2 + \frac{\lambda_b}{2} \lVert b \rVert^2 .
# $$ (eq-minima-model)
#
# Of $n$ and the decays of $W$ and $H$ only $c := \sqrt{n\, \lambda_W \lambda_H}$ matters to the scores. In the paper's
# code the feature decay is a sum over each mini-batch, which makes it $c = \sqrt{\lambda_W \lambda_H B / K}$ for
# batches of $B$.
#
# ## The theorems
#
# $e_1, \dots, e_K$ are the unit vectors of a simplex ETF, $\sigma(x) = 1 / (1 + e^{-x})$,
# $\kappa = (n \lambda_H / \lambda_W)^{1/4}$, and $\operatorname{logit} p = \log \tfrac{p}{1 - p}$.
#
# :::{admonition} Theorem (CE; neural collapse: Zhu et al., scale: ours)
# Let $d \ge K - 1$. If $c < 1/K$, every global minimiser of $f$ under CE has
#
# $$
# \begin{gathered}
# w_k = \kappa \sqrt s\, e_k, \qquad h = \kappa^{-1} \sqrt s\, e_y = \sqrt{\tfrac{\lambda_W}{n \lambda_H}}\, w_y , \\
# s = \frac{K-1}{K} \log\Bigl(\frac1c - (K - 1)\Bigr) ,
# \end{gathered}
# $$ (eq-ce-minimum)
#
# unique up to rotations of $\mathbb{R}^d$. $s$ is the positive score, the negative ones are $-s/(K-1)$, and the softmax
# of every wrong class is exactly $c$. All biases are equal; they are $0$ if $\lambda_b > 0$. If $c \ge 1/K$, then
# $W = H = 0$.
# :::
#
# :::{admonition} Theorem (BCE; the paper's)
# Let $d \ge K - 1$ and $c < 1/K$. Up to the critical $\lambda_b$ of {doc}`bias_saturates`, every global minimiser of
# $f$ under BCE has $w_k$ and $h$ as in {eq}`eq-ce-minimum` with another $s$, and all biases equal to one $b$, the
# solution of
#
# $$
# \lambda_b\, b = \frac{K-1}{K}\, \sigma\Bigl(-b - \frac{s}{K-1}\Bigr) - \frac1K\, \sigma(b - s) .
# $$ (eq-bce-bias)
#
# For $\lambda_b = 0$ (closed form: ours),
#
# $$
# \begin{aligned}
# s &= -\frac{K-1}{K} \bigl(\operatorname{logit} (K-1) c + \operatorname{logit} c\bigr), \\
# b &= \frac1K \bigl(\operatorname{logit} (K-1) c - (K-1) \operatorname{logit} c\bigr) .
# \end{aligned}
# $$ (eq-bce-minimum)
#
# $b$ lies between positive and negative scores if and only if
# $\lambda_b\, s \tfrac{K}{K-1} + \tfrac{1}{2(K-1)} > 1 / \bigl(1 + e^{\,s K / (K-1)}\bigr)$.
# :::
#
# The paper states the second theorem for all $\lambda_b$, as we have it; why it stops at the critical value is shown in
# the next chapter.
#
# ## Proof
#
# The first three steps serve both losses.
#
# **Step one: decay is a nuclear norm.** *For $Z = WH$ of rank $r$,*
#
# $$
# \tfrac{\lambda_W}{2} \lVert W \rVert^2 + \tfrac{\lambda_H}{2} \lVert H \rVert^2 \ge \sqrt{\lambda_W \lambda_H}\, \lVert Z \rVert_* ,
# $$ (eq-nuclear)
#
# *where $\lVert Z \rVert_*$ is the sum of the singular values; equality holds exactly for $W = \mu\, U S^{1/2} Q^\top$,
# $H = \mu^{-1} Q S^{1/2} V^\top$, where $Z = U S V^\top$ is the thin SVD, $\mu = (\lambda_H / \lambda_W)^{1/4}$, and
# the $d \times r$ matrix $Q$ has orthonormal columns.* Indeed
#
# $$
# \begin{aligned}
# \lVert Z \rVert_* = \operatorname{tr}\bigl((U^\top W)(H V)\bigr) &\le \lVert U^\top W \rVert\, \lVert H V \rVert
# \le \lVert W \rVert\, \lVert H \rVert \\
# &\le \frac{1}{\sqrt{\lambda_W \lambda_H}} \Bigl( \frac{\lambda_W}{2} \lVert W \rVert^2 + \frac{\lambda_H}{2} \lVert H \rVert^2 \Bigr) .
# \end{aligned}
# $$
#
# Equality in all three places means $W = U U^\top W$, $H = H V V^\top$ and $X := U^\top W = \mu^2 (HV)^\top$. Then
# $X X^\top = \mu^2\, U^\top W H V = \mu^2 S$, so that $X = \mu\, S^{1/2} Q^\top$ with orthonormal columns in $Q$. Such
# a $Q$ exists if and only if $d \ge r$.
#
# **Step two: a convex problem.** Hence $f$ is at least
#
# $$
# \varphi(Z, b) = \frac1N \sum_i \ell(z_i - b, y_i) + \sqrt{\lambda_W \lambda_H}\, \lVert Z \rVert_*
# + \frac{\lambda_b}{2} \lVert b \rVert^2 ,
# $$ (eq-minima-convex)
#
# with $z_i$ the columns of $Z$. $\varphi$ is convex, because both losses are convex in the logits. If a minimiser of
# $\varphi$ has rank at most $d$, then $\min f = \min \varphi$, and the minimisers of $f$ are exactly what Step one
# makes of the minimisers of $\varphi$ of rank at most $d$. (Minimisers exist: the norm bounds $Z$, and for bounded $Z$
# the loss grows without bound in $b$; for CE in the part of $b$ of mean zero, which is the only part that it sees.)
#
# **Step three: average over the classes.** $\varphi$ does not change when the classes are permuted, in $b$ and in the
# rows and columns of $Z$ together, nor when the samples of a class are. By convexity the average of a minimiser over
# all these permutations is a minimiser too. Being unchanged by all of them, it has $b = \beta \mathbf 1$ and one value
# of $w_k \cdot h$ for all own classes, one for all others:
#
# $$
# w_y \cdot h = s + o, \qquad w_j \cdot h = -\frac{s}{K-1} + o \quad (j \ne y) .
# $$ (eq-minima-form)
#
# As a matrix, $Z = A \otimes \mathbf 1_n^\top$, where $A$ has eigenvalue $K o$ on $\mathbf 1$ and $s K / (K-1)$ on its
# complement, $K - 1$ times, so that $\sqrt{\lambda_W \lambda_H}\, \lVert Z \rVert_* = K c\, (|s| + |o|)$. Three numbers
# are left: $s$, $o$ and $\beta$.
#
# **Step four, CE: one equation.** All differences of logits are $s K / (K-1)$, and
#
# $$
# f = \log\bigl(1 + (K-1)\, e^{-s K / (K-1)}\bigr) + K c\, (|s| + |o|) + \tfrac{K \lambda_b}{2} \beta^2 .
# $$
#
# The loss contains neither $o$ nor $\beta$: $o = 0$, and $\beta = 0$ if $\lambda_b > 0$. A negative $s$ is worse than
# $|s|$. For $s \ge 0$ the derivative is $K (c - v)$, with $v = 1 / (K - 1 + e^{s K / (K-1)})$ the softmax of a wrong
# class, which falls strictly from $1/K$ to $0$. So if $c < 1/K$ the minimum is where $v = c$, which is the $s$ of
# {eq}`eq-ce-minimum`; otherwise it is at $s = 0$.
#
# **Step five, CE: all minimisers, not only the averaged one.** Let $\Pi = I - \mathbf 1 \mathbf 1^\top / K$ take the
# mean out of each column, $P = I - \mathbf 1 \mathbf 1^\top / N$ out of each row. CE is strictly convex in $\Pi$ times
# the logits, so that all minimisers share $M := \Pi (Z - b \mathbf 1^\top)$. The averaged one shows that $M$ has row
# sums zero. Two inequalities: $\lVert Z \rVert_* \ge \lVert \Pi Z \rVert_*$ with equality only for $\Pi Z = Z$, since
# $\lVert Z \rVert_* = \operatorname{tr}(Z^\top \Pi Z + Z^\top (I - \Pi) Z)^{1/2}$ and the root is strictly monotone in
# trace; and in the same way $\lVert Z \rVert_* \ge \lVert Z P \rVert_*$ with equality only for $Z P = Z$. Now take any
# minimiser. Replacing its $Z$ by $\Pi Z$ leaves the loss and cannot raise the norm, so
# $\Pi Z = Z = M + \Pi b \mathbf 1^\top$. Its norm is at least that of $Z P = M P = M$, which is the norm of the
# averaged minimiser. With equal losses and, for the averaged one, the least possible bias term, equality must hold in
# both: $\Pi b = 0$ and $Z = M$. The minimiser of $\varphi$ is unique, up to the common bias if $\lambda_b = 0$.
#
# **Step six: back to $W$ and $H$.** For $o = 0$ and $s > 0$, $Z$ has rank $K - 1 \le d$, and
# $A = s\, (e_j \cdot e_k)_{jk}$ is positive semidefinite. So $U$ and $V$ are the same up to the $n$ copies of each
# column, and Step one gives {eq}`eq-ce-minimum`: its factor $n^{1/4}$ turns $\mu$ into $\kappa$. This is neural
# collapse. All features of a class are equal (NC1); $W W^\top$ and the Gram matrix of the class means are multiples of
# the ETF's (NC2); features and rows are aligned (NC3). $\square$
#
# **BCE.** Steps one to three and six are the same. In place of Steps four and five, BCE has a problem in $s$, $o$ and
# $\beta$ that does contain $\beta - o$; {doc}`bias_saturates` solves it, and shows that the minimiser is unique. Up to
# the critical $\lambda_b$ its solution has $o = 0$, and Step six applies. Beyond it $o < 0$ and $Z$ has rank $K$.
#
# **The separation.** {eq}`eq-bce-bias` reads $\lambda_b b = F(b)$ with $F$ strictly falling. So $b < s$ if and only if
# $\lambda_b s > F(s)$, and since $\sigma(0) = 1/2$ this is the condition. The negative scores are below $b$ anyway,
# because $b \ge 0$. $\square$
#
# ## Both losses leave the same errors
#
# At a minimum the gradient of the loss in $Z$ must balance a subgradient of the nuclear norm, and on the directions in
# which $Z$ is not zero all singular values of that subgradient are $\sqrt{\lambda_W \lambda_H}$, *whatever the loss*.
# For $\lambda_b = 0$ both losses have their gradient in those directions alone: its rows and columns sum to zero (under
# CE the columns always do, under BCE the rows do because the bias is stationary; the rest is symmetry). So the gradient
# is $-\sqrt{\lambda_W \lambda_H}\, U V^\top$ for both, which spelt out is
#
# $$
# \underbrace{1 - p_y = (K-1)\, c, \quad p_j = c}_{\text{CE}} \qquad\qquad \underbrace{\sigma(-z_y) = (K-1)\, c, \quad \sigma(z_j) =
# c}_{\text{BCE}} .
# $$ (eq-same-errors)
#
# The two minima are the same simplex ETF, with the same gradients. They differ in the scale that these errors take, and
# in the bias:
#
# $$
# s_\text{BCE} - s_\text{CE} = \frac{K-1}{K} \log \frac{1 - c}{(K-1)\, c} .
# $$ (eq-scale)
#
# ## What we see
#
# The statements of this page, each with a numerical check. The minimisation runs over all entries of $W$, $H$ and $b$
# from random starts (`theory.solve`: quasi-Newton, then Newton), in dimensions $K - 1$, $K$ and more, on both sides of
# the critical $\lambda_b$, and in two settings with $c > 1/K$.

# %%
from bcebook.book.notebook import Chapter
from bcebook.chapters import minima as room

chapter = Chapter(room.ROOM, profile, device, data_dir, seeds)
chapter.findings()

# %% mystnb={"figure": {"caption": "Scores and bias (dashed) at the minimum for ten classes, against c. Black: closed form. Circles: our plain minimisation over classifier, features and biases. Dotted: where c is one over the number of classes.", "name": "fig-minima"}, "image": {"alt": "Three panels against c on a logarithmic axis: CE, BCE without decay of the bias, and BCE with it. In each a solid black line for the positive and one for the negative scores, a dashed one for the bias, circles of the minimisation, and a dotted vertical line at one over the number of classes."}}
room.against_c();

# %% [markdown]
# From $c = 1/K$ on all scores are equal. Compare the panels from left to right: the scale of the scores as the decay
# weakens, where the bias lies between them, and how a decayed bias moves the scores themselves (the offset).
#
# **Closed form beside minimisation**, in every setting:

# %%
room.agreement_table()

# %% [markdown]
# *Positive*, *negative* and *bias* are the closed form. *Apart* is the largest disagreement with the minimisation, over
# the scores of all pairs of classes, all biases, and the objective. *Critical*: the $\lambda_b$ from which on BCE has
# an offset (∞: never). Where BCE has an offset without an ETF, all scores agree and are negative. Near the critical
# $\lambda_b$ and elsewhere, more settings drawn at random are among the library's tests.
#
# **A feature for every sample.** `theory.solve` gives all samples of a class one feature: at fixed $W$ and $b$ the
# problem in each feature is strictly convex, and the same for the whole class. To see that nothing hinges on it, we
# also minimise $f$ with a feature for every sample, through the loss functions that train the networks. *Apart* is the
# largest distance from the closed form, in any score of any sample and any bias.

# %%
room.free_features()

# %% [markdown]
# **Neural collapse at the minimum**, with the measures that the book uses on networks, ten classes at the paper's decay
# and batch size. NC2 is taken of $W W^\top$. With an offset the rows share a direction, and this measure sees it:
#
# $$
# \text{NC2} = \sqrt{2 - \frac{2\, s}{\sqrt{s^2 + (K-1)\, o^2}}}
# $$ (eq-nc-offset)
#
# with $s$ the ETF part of {eq}`eq-minima-form`. (Ours: $W W^\top = \kappa^2 A$ with $|o|$ for $o$, whose eigenvalues
# are $K |o|$ on $\mathbf 1$ and $s K / (K-1)$, $K - 1$ times. NC2 is its distance, scaled to norm one, from
# $(I - \mathbf 1 \mathbf 1^\top / K) / \sqrt{K-1}$, which has norm one, and the inner product of the two is
# $s / \sqrt{s^2 + (K-1)\, o^2}$.) NC2 of the class means and NC3 subtract the global mean first, and are blind to it. *Cosine*
# is that of $h$ and $w_y$, $1$ if they are aligned.

# %%
room.collapse_table()

# %% [markdown]
# So a network that has fully arrived at BCE's minimum shows a large NC2 if its bias is decayed beyond the critical
# value. The paper's curves of NC2 are at $\lambda_b = 0$, where this does not matter.
#
# **The errors left**, in units of $c$, measured with the gradients of the losses:

# %%
room.errors()

# %% [markdown]
# By {eq}`eq-same-errors`, without decay of the bias own errors are $K - 1$ and all others $1$, for both losses. Beyond
# the critical $\lambda_b$ BCE's are $K - 2$ and $2$, as the next chapter shows; for two classes there is no critical
# value. The last column is the square of the ratio of the features' lengths, in their ETF part.
#
# **What follows for the paper's comparison.** At the minimum neither loss is the more compact one: both collapse
# completely, onto the same simplex ETF up to scale. What the paper reports of networks, higher compactness and accuracy
# with BCE, is therefore not a property of these minima. It must come from the way there, from what free features leave
# out, or from test data.
#
# **Left open here**: how fast each loss gets there ([the chapter on collapse](neural_collapse) measures it on
# networks), classes of unequal size, and $d < K - 1$, where the minimiser of {eq}`eq-minima-convex` no longer fits.
#
# Nothing is trained here, and the features are free: {doc}`departures` lists every difference.
#
# ## Where these numbers come from

# %%
chapter.provenance()
