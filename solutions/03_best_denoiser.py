# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · The best possible denoiser
# <!-- lesson-header -->
#
# A diffusion model is a denoiser: a function that sees noisy data and says what lay beneath.
# Before you train one, this lesson asks how good one can be. You will be able to
#
# - write down the best denoiser of a Gaussian and of a data set, without any training,
# - turn a denoiser into a score, the direction in which data become more probable,
# - write the loss that trains every model of this course, and train a small network with it,
# - say what a *perfect* training loss would give you, and why you do not want it.
#
# You need lesson 02 ($x_t$, $\bar\alpha_t$, the targets eps and *v*) and its primer on Gaussians.

# %% tags=["setup"]
import itertools
import math
from collections.abc import Callable

import torch
from tqdm.auto import tqdm

from coursework import check, hint
from undiffuse import budget, data, denoisers, losses, plots, results, schedules, sets2d


def per_sample(value: float | torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``value``, a number or a tensor (B,), shaped so that it multiplies each sample of ``x``."""
    return torch.as_tensor(value, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def new_net(generator: torch.Generator) -> sets2d.PointNet:
    """A small network for points in the plane; its first weights are drawn from ``generator``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return sets2d.PointNet()


# %% [markdown]
# ## What would a perfect denoiser do?
#
# People who train diffusion models watch a loss, and many say:
#
# > C12. A lower training loss means better samples.
#
# Suppose you had the perfect denoiser: on your training set no other function, of any size, has a
# lower loss. You can have it. You will write it in ten lines. Guess first what it draws.

# %% [markdown] tags=["remark"]
# **Your guesses** (edit this cell).
#
# 1. A denoiser gets a digit under so much noise that nothing can be seen. What picture does the
#    perfect one return? My guess:
# 2. You sample with the denoiser that has the lowest possible training loss. The samples are: sharp
#    new digits, blurry digits, or something else? My guess:
# 3. Do you believe C12? My guess:

# %% [markdown]
# ## The best guess is a mean
#
# The process of lesson 02 makes $x_t = \alpha x_0 + \sigma\,\varepsilon$ from data $x_0$, with
# $\varepsilon$ standard normal. $\alpha$ is the factor of the signal, $\sigma$ the deviation of the
# noise: in lesson 02 they were $\sqrt{\bar\alpha_t}$ and $\sqrt{1 - \bar\alpha_t}$, here they may
# be any two numbers. (This $\alpha$ is not the $\alpha_t = 1 - \beta_t$ of a single step.) A
# denoiser $f$ sees $x_t$ (and knows $\alpha$ and $\sigma$) and guesses $x_0$. Its loss is the mean
# squared error $\mathbb E\,|x_0 - f(x_t)|^2$.
#
# Many different $x_0$ could have led to the same $x_t$. Call their mean
# $m(x_t) = \mathbb E[x_0 \mid x_t]$, the **posterior mean**. Then
#
# $$\mathbb E\,|x_0 - f|^2 = \mathbb E\,|x_0 - m|^2 + \mathbb E\,|m - f|^2
# + 2\,\mathbb E\big[(x_0 - m)\cdot(m - f)\big].$$
#
# The last term is zero: for a given $x_t$, $m - f$ is fixed, and $x_0 - m$ is zero on average,
# since $m$ is the mean. The first term does not depend on $f$. What is left is zero exactly when
# $f = m$. **The best denoiser returns $\mathbb E[x_0 \mid x_t]$**, and even it has a loss above
# zero, $\mathbb E\,|x_0 - m|^2$: what the noise has destroyed, nobody brings back.
#
# ## A Gaussian: shrink towards the mean
#
# Let the data be Gaussian, each element with mean $\mu$ and variance $s^2$ (`var` in the code). You
# can measure the posterior mean: draw pairs $(x_0, x_t)$, sort them by $x_t$ into bins, and average
# $x_0$ in each bin.

# %%
alpha, sigma, mean, var = 0.8, 0.6, 1.5, 0.36
g = torch.Generator().manual_seed(0)
x0 = mean + math.sqrt(var) * torch.randn(400_000, generator=g)
x_t = alpha * x0 + sigma * torch.randn(len(x0), generator=g)

centres = torch.linspace(-0.6, 3.0, 13)
binned = torch.stack([x0[(x_t - c).abs() < 0.05].mean() for c in centres])
print("x_t           ", " ".join(f"{c:6.2f}" for c in centres[::3]))
print("mean x0, there", " ".join(f"{b:6.2f}" for b in binned[::3]))

# %% [markdown]
# You know everything needed to compute this. Before $x_t$ is seen, the best guess is $\mu$, and you
# expect to see $\alpha\mu$. What you see differs from it by $x_t - \alpha\mu$. Part of this
# surprise is signal and part is noise; the best guess moves by the part that is signal:
#
# $$\mathbb E[x_0 \mid x_t] = \mu + k\,(x_t - \alpha\mu), \qquad
# k = \frac{\operatorname{Cov}(x_0, x_t)}{\operatorname{Var}(x_t)}.$$
#
# Work out $k$, the gain, from $x_t = \alpha x_0 + \sigma\varepsilon$.

# %% [markdown]
# <!-- exercise 03.1 -->
# Write $\mathbb E[x_0 \mid x_t]$ for Gaussian data. `alpha` and `sigma` are numbers, or tensors of
# shape `(B,)`: one level per sample. (`per_sample` in the setup cell gives both the right shape.)


# %% tags=["answer"] exercise="03.1"
def gaussian_denoiser(
    x_t: torch.Tensor,
    alpha: float | torch.Tensor,
    sigma: float | torch.Tensor,
    mean: float | torch.Tensor,
    var: float | torch.Tensor,
) -> torch.Tensor:
    """E[x0 | x_t] for x_t = alpha x0 + sigma eps and x0 ~ Normal(mean, var), element by element.

    x_t: (B, D), (B, C, L) or (B, C, H, W), float32 or float64.
    alpha, sigma: Python floats above 0, or tensors (B,) of x_t's dtype. Not always
        alpha^2 + sigma^2 = 1.
    mean, var: numbers, or tensors that broadcast to one sample, x_t.shape[1:]. var is a variance.
    Returns x0_hat in x_t's shape and dtype.
    """
    # BEGIN SOLUTION
    alpha, sigma = per_sample(alpha, x_t), per_sample(sigma, x_t)
    gain = alpha * var / (alpha**2 * var + sigma**2)
    return mean + gain * (x_t - alpha * mean)
    # END SOLUTION


# %% tags=["check"]
check("03.1")

# %% tags=["figure"]
fig = plots.curves(
    {
        "measured: mean of x0 in a bin": binned,
        "yours": gaussian_denoiser(centres[:, None], alpha, sigma, mean, var)[:, 0],
        "x_t / alpha": centres / alpha,
        "the mean of the data": torch.full_like(centres, mean),
    },
    centres,
    xlabel="$x_t$",
    ylabel="guess of $x_0$",
    markers=True,
    roles={"measured: mean of x0 in a bin": "data"},
)
plots.show(
    fig,
    alt="Guess of x0 against x_t. The measured means lie on the line of gaussian_denoiser, which "
    "is less steep than x_t / alpha and steeper than the constant mean, and crosses both near the "
    "middle.",
    caption="The best guess lies between trusting $x_t$ alone (`x_t / alpha`) and not looking at "
    "it (the mean).",
)

# %% tags=["compare"]
example = gaussian_denoiser(torch.tensor([[2.0], [-1.0]]), 0.8, 0.6, 1.5, 0.36)
print([round(v, 3) for v in example.flatten().tolist()])

# %% [markdown]
# How far the guess moves depends on the noise. The next figure takes data of mean 0 and
# $\alpha = 1$, so that the best guess is $k\,x_t$, and draws $k$ against $\sigma$ for three
# variances.

# %% tags=["figure"]
sigmas = torch.logspace(-2, 2, 81)
fig = plots.curves(
    {
        f"variance {v:g}": gaussian_denoiser(torch.ones(len(sigmas), 1), 1.0, sigmas, 0.0, v)[:, 0]
        for v in (0.04, 1.0, 25.0)
    },
    sigmas,
    xlabel="$\\sigma$ (log scale)",
    ylabel="gain $k$",
    log_x=True,
)
plots.show(
    fig,
    alt="Three S-shaped curves of the gain, falling from 1 at small sigma to 0 at large sigma. "
    "Each passes one half where sigma equals the deviation of the data: 0.2, 1 and 5.",
    caption="Little noise: keep what you see. Much noise: return the mean. The change comes where "
    "$\\sigma$ is as large as the deviation of the data.",
)

# %% [markdown]
# ## A mixture: several places it could be
#
# Real data come in clumps. A **mixture** of $K$ Gaussians has a component $k$ with mean $\mu_k$,
# variance $v_k$ (the same in all directions) and weight $w_k$, the share of the data that belongs
# to it. If you knew the component, the denoiser above would answer. You have a probability for
# each, its **responsibility** $r_k$, and average:
#
# $$r_k(x_t) = \frac{w_k\,\mathcal N(x_t;\ \alpha\mu_k,\ \alpha^2 v_k + \sigma^2)}
# {\sum_j w_j\,\mathcal N(x_t;\ \alpha\mu_j,\ \alpha^2 v_j + \sigma^2)}, \qquad
# \mathbb E[x_0 \mid x_t] = \sum_k r_k\; \mathbb E[x_0 \mid x_t, k].$$
#
# Here $\mathcal N(x; m, s^2)$ is the density of a $D$-dimensional Gaussian,
# $(2\pi s^2)^{-D/2}\exp\big(-|x - m|^2 / (2 s^2)\big)$. In many dimensions, or far from all
# components, these densities are too small for a computer: all become 0. Their logarithms are
# ordinary numbers.

# %% [markdown]
# <!-- exercise 03.2 -->
# Write $\mathbb E[x_0 \mid x_t]$ for a mixture. It has to stay right where all densities are too
# small to be stored.


# %% tags=["answer"] exercise="03.2"
def mixture_denoiser(
    x_t: torch.Tensor,
    alpha: float | torch.Tensor,
    sigma: float | torch.Tensor,
    means: torch.Tensor,
    variances: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """E[x0 | x_t] for x0 from K Gaussians, component k being Normal(means[k], variances[k] I).

    x_t: (B, D), float32 or float64. alpha, sigma: numbers above 0, or tensors (B,).
    means: (K, D). variances: (K,), above 0. weights: (K,), above 0, with sum 1.
    Returns x0_hat (B, D) in x_t's dtype.
    """
    # BEGIN SOLUTION
    alpha, sigma = per_sample(alpha, x_t), per_sample(sigma, x_t)
    total = alpha**2 * variances + sigma**2  # (B, K), or (1, K) for one level
    surprise = x_t[:, None, :] - alpha[:, :, None] * means  # (B, K, D)
    log_density = -(surprise**2).sum(2) / (2 * total) - x_t.shape[1] / 2 * torch.log(total)
    share = torch.softmax(torch.log(weights) + log_density, dim=1)
    guesses = means + (alpha * variances / total)[:, :, None] * surprise
    return (share[:, :, None] * guesses).sum(1)
    # END SOLUTION


# %% tags=["check"]
check("03.2")

# %% [markdown]
# (An extra: what follows does not need your answer. Where it needs a mixture, it takes
# `undiffuse.denoisers.mixture_denoiser`.)
#
# ## A data set: the mixture with a component on each point
#
# You do not know the distribution of handwritten digits. You have a training set of $N$ digits. The
# loss that you can compute is the mean over *these*. So its minimum, too, belongs to the
# distribution that draws one of the $N$ points, each as likely: a mixture with all its components
# on data points $y_1, \dots, y_N$, and of no width. Put $v_k = 0$ and equal weights into the
# formula above:
#
# $$\mathbb E[x_0 \mid x_t] = \sum_{n=1}^N w_n\, y_n, \qquad
# w = \operatorname{softmax}_n\!\left( -\frac{|x_t - \alpha y_n|^2}{2\sigma^2} \right).$$
#
# This is the **empirical denoiser**. No network can have a lower training loss. (Read it once more
# as code: a softmax of similarities to $N$ stored items, used to average them. It is attention,
# which lesson 04 builds, over the training set.)

# %% [markdown]
# <!-- exercise 03.3 -->
# Write the empirical denoiser. Two things can go wrong although the formula is right:
#
# - **Memory.** The check runs it on $N = 10{,}000$ points with $B = 8$ and $D = 16$, and allows no
#   tensor of more than 640,000 numbers: the $B \times N$ distances fit, and $N \times D$ does, but
#   not all $B \times N \times D$ differences at once.
# - **Precision.** At small $\sigma$ the squared distances are divided by a tiny number.
#   $|x|^2 + |y|^2 - 2\,x \cdot y$ in float32 loses the digits that decide. Differences do not, nor
#   does float64. (The check allows an error of $3 \cdot 10^{-5}$ of the largest value where
#   $\sigma = 0.001$.)


# %% tags=["answer"] exercise="03.3"
def empirical_denoiser(
    x_t: torch.Tensor,
    alpha: float | torch.Tensor,
    sigma: float | torch.Tensor,
    data: torch.Tensor,
) -> torch.Tensor:
    """E[x0 | x_t] when x0 is one of the N points in ``data``, each as likely.

    x_t: (B, D) or (B, C, H, W), float32 or float64. alpha, sigma: numbers above 0, or tensors (B,).
    data: (N, D) or (N, C, H, W), samples of the same shape as in x_t, and its dtype.
    Returns x0_hat in x_t's shape and dtype. Memory: of the order of B N and N D, not B N D.
    """
    # BEGIN SOLUTION
    x, points = x_t.flatten(1).double(), data.flatten(1).double()
    alpha, sigma = per_sample(alpha, x), per_sample(sigma, x)
    # |x - alpha y| = alpha |x / alpha - y|: (B, N) distances, and nothing of (B, N, D).
    distance = alpha * torch.cdist(x / alpha, points)
    share = torch.softmax(-(distance**2) / (2 * sigma**2), dim=1)
    return (share @ points).to(x_t.dtype).reshape(x_t.shape)
    # END SOLUTION


# %% tags=["check"]
check("03.3")

# %% [markdown]
# ### What it does to a digit it has never seen
#
# `train` below is what the denoiser knows. The digit at the left of each row is held out: it is not
# in `train`, and we take one that is written in an unusual way. We add noise with $\alpha = 1$ and
# growing $\sigma$, and denoise.

# %% tags=["figure"]
train, _ = data.digits("train", budget(full=5000, small=1000))
held_out, _ = data.digits("held_out", 200)
levels = [0.2, 1.0, 3.0, 5.0, 8.0, 12.0, 20.0]
g = torch.Generator().manual_seed(0)
to_train = torch.cdist(held_out.flatten(1), train.flatten(1)).min(1).values
digit = held_out[to_train.argmax()][None]
noisy = digit + torch.tensor(levels).reshape(-1, 1, 1, 1) * torch.randn(
    len(levels), 1, 28, 28, generator=g
)
denoised = empirical_denoiser(noisy, 1.0, torch.tensor(levels), train)
shown = noisy / (1 + torch.tensor(levels)).reshape(-1, 1, 1, 1)
fig = plots.image_grid(
    torch.cat([digit, shown, digit, denoised]),
    labels=["clean", *[f"σ = {s:g}" for s in levels], "clean", *["denoised"] * len(levels)],
    columns=len(levels) + 1,
)
plots.show(
    fig,
    alt="Top row: a held-out digit under growing noise. Bottom row: the answers of the empirical "
    "denoiser. For small noise a sharp digit that is not quite the clean one; for more noise a "
    "blend of several; for the most noise the blurry mean of all digits.",
    caption="From right to left: the mean of all digits; a blend of those that fit; one of them, "
    "sharp. It is a *training* digit and not the one on the left. (Noisy pictures are scaled to be "
    "seen.)",
)

# %% [markdown]
# The last picture on the right answers the first guess: where nothing can be seen, the best guess
# in squared error is the mean of everything, a blur that is no digit. That is right. It is the
# mean of all digits that it could be.
#
# How good is the empirical denoiser on digits it knows, and on digits it does not? We compare it
# with your `gaussian_denoiser`, which knows a mean and a variance for each pixel and nothing else.


# %% tags=["figure"]
def pixel_error(denoise: Callable, images: torch.Tensor, sigma: float, seed: int) -> float:
    """Mean squared error a pixel at noise level sigma, alpha = 1."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return float((denoise(images + sigma * noise, sigma) - images).square().mean())


pixel_mean, pixel_var = train.mean(0), train.var(0)
known, unknown = train[:200], held_out
some_sigmas = torch.logspace(-1.3, 1.3, budget(full=14, small=6)).tolist()
seeds = range(3)


def empirical_of_train(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return empirical_denoiser(x, 1.0, sigma, train)


def gaussian_of_train(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return gaussian_denoiser(x, 1.0, sigma, pixel_mean, pixel_var)


def errors(denoise: Callable, images: torch.Tensor) -> torch.Tensor:
    return torch.tensor(
        [[pixel_error(denoise, images, s, seed) for s in some_sigmas] for seed in seeds]
    ).clamp(min=1e-6)


by_sigma = {
    "empirical, training digits": errors(empirical_of_train, known),
    "empirical, held-out digits": errors(empirical_of_train, unknown),
    "Gaussian, training digits": errors(gaussian_of_train, known),
    "Gaussian, held-out digits": errors(gaussian_of_train, unknown),
}
fig = plots.curves(
    by_sigma,
    some_sigmas,
    xlabel="$\\sigma$ (log scale)",
    ylabel="squared error per pixel",
    log_x=True,
    log_y=True,
    markers=True,
)
plots.show(
    fig,
    alt="Squared error per pixel against sigma, both on log scales. On training digits the "
    "empirical denoiser's error falls to nothing below sigma of about 2. On held-out digits it "
    "stays at a plateau, while the Gaussian denoiser's error keeps falling and crosses below it. "
    "The Gaussian has the same error on both sets.",
    caption="Values below $10^{-6}$ are drawn there. On training digits the empirical denoiser "
    "cannot be beaten. On held-out digits it cannot leave its plateau: it has only training digits "
    "to offer.",
)
last, first = by_sigma["empirical, training digits"].mean(0), by_sigma["empirical, held-out digits"]
worse = [
    s
    for s, e, k in zip(some_sigmas, first.mean(0), by_sigma["Gaussian, held-out digits"].mean(0))
    if e > k
]
print(f"mean over levels, empirical: training {last.mean():.4f}, held out {first.mean():.4f}")
print(f"on held-out digits two numbers a pixel beat it for sigma up to {max(worse, default=0):.2f}")

# %% [markdown]
# ### What it draws
#
# Sampling is lesson 06; here is all you need now. A **sampler** starts with pure noise and walks to
# smaller and smaller $\sigma$. At each level it asks the denoiser where the data are, and moves
# part of the way there, so that the noise that is left has the next deviation.


# %% tags=["figure"]
def walk(denoise: Callable, x: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """From noise of deviation sigmas[0] to data; ``denoise(x, sigma) -> x0_hat``, alpha = 1."""
    for now, after in itertools.pairwise(sigmas.tolist()):
        x0_hat = denoise(x, now)
        x = x0_hat + after / now * (x - x0_hat)  # less noise, in the same direction
    return denoise(x, float(sigmas[-1]))


sigmas = schedules.karras_sigmas(budget(full=40, small=20), 0.05, 60.0)
start = 60.0 * torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(7))
samples = walk(empirical_of_train, start, sigmas)
nearest = torch.cdist(samples.flatten(1), train.flatten(1)).argmin(1)
fig = plots.compare_images(samples, train[nearest], names=("samples", "nearest in\ntraining set"))
plots.show(
    fig,
    alt="Ten sampled digits, below each the nearest training digit, and their difference, which is "
    "plain grey: each sample is a training digit.",
    caption="Ten samples of the denoiser with the lowest possible training loss.",
)
distances = (samples - train[nearest]).flatten(1).norm(dim=1)
print(f"from a sample to the nearest training digit, largest:         {distances.max():.4f}")
print(f"from a held-out digit to the nearest training digit, median: {to_train.median():.4f}")

# %% [markdown]
# All of them are **copies**. The perfect denoiser has learned its training set by heart, and
# nothing else. That a trained network draws *new* digits comes from what keeps it from the
# minimum: it is too small, too smooth, or stopped too early to get there. Hold on to this until
# the experiment below.
#
# ## From denoiser to score
#
# The **score** at noise level $t$ is the gradient of the log density of noisy data,
# $\nabla_{x_t} \log p(x_t)$: the direction in which noisy data become more probable, and how
# steeply. Samplers move along it. A denoiser knows it. Write the density of $x_t$ as an average
# over $x_0$ and differentiate:
#
# $$\nabla \log p(x_t)
# = \frac{\mathbb E_{x_0}\!\left[ \nabla\,\mathcal N(x_t; \alpha x_0, \sigma^2) \right]}{p(x_t)}
# = \mathbb E\!\left[ \frac{\alpha x_0 - x_t}{\sigma^2} \,\Big|\, x_t \right]
# = \frac{\alpha\,\mathbb E[x_0 \mid x_t] - x_t}{\sigma^2}.$$
#
# Solved for the mean, this is **Tweedie's formula**,
# $\alpha\,\mathbb E[x_0 \mid x_t] = x_t + \sigma^2 \nabla \log p(x_t)$: the best guess is a step
# along the score. With $\hat\varepsilon = (x_t - \alpha \hat x_0) / \sigma$, the noise that a guess
# $\hat x_0$ implies, you get the score from $\hat\varepsilon$ as well.

# %% [markdown]
# <!-- exercise 03.4 -->
# Write both. The score is $\nabla \log p$, not its negative. `x0_hat` and `eps` are what a denoiser
# predicts.


# %% tags=["answer"] exercise="03.4"
def score_from_x0(
    x_t: torch.Tensor,
    x0_hat: torch.Tensor,
    alpha: float | torch.Tensor,
    sigma: float | torch.Tensor,
) -> torch.Tensor:
    """The score of x_t = alpha x0 + sigma eps from x0_hat = E[x0 | x_t].

    x_t, x0_hat: (B, ...), float. alpha, sigma: numbers above 0, or tensors (B,).
    Returns x_t's shape and dtype.
    """
    # BEGIN SOLUTION
    alpha, sigma = per_sample(alpha, x_t), per_sample(sigma, x_t)
    return (alpha * x0_hat - x_t) / sigma**2
    # END SOLUTION


def score_from_eps(eps: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
    """The same from eps = E[noise | x_t], (B, ...). sigma: a number above 0, or a tensor (B,)."""
    # BEGIN SOLUTION
    return -eps / per_sample(sigma, eps)
    # END SOLUTION


# %% tags=["check"]
check("03.4")

# %% [markdown]
# Three clumps in the plane, and their score at three levels of noise. The dots are the data, the
# arrows the score that your function makes of the mixture's denoiser.

# %% tags=["figure"]
means = torch.tensor([[-1.6, -1.0], [1.7, -0.6], [0.2, 1.7]])
variances, weights = torch.tensor([0.03, 0.12, 0.03]), torch.tensor([0.3, 0.5, 0.2])
g = torch.Generator().manual_seed(0)
component = torch.multinomial(weights, 300, replacement=True, generator=g)
clumps = means[component] + variances[component, None].sqrt() * torch.randn(300, 2, generator=g)


def mixture_score(x: torch.Tensor, sigma: float) -> torch.Tensor:
    x0_hat = denoisers.mixture_denoiser(x, 1.0, sigma, means, variances, weights)
    return score_from_x0(x, x0_hat, 1.0, sigma)


for sigma, seen in (
    (0.1, "Little noise: each point is drawn to the nearest clump; borders are sharp."),
    (0.7, "More noise: the borders blur, and the heaviest clump draws from further away."),
    (3.0, "Much noise: all arrows point to one place, the mean of the data."),
):
    fig = plots.vector_field2d(
        lambda x, s=sigma: mixture_score(x, s),
        limits=3.0,
        n=17,
        points=clumps,
        name="length of the score",
        title=f"score at $\\sigma$ = {sigma}",
    )
    plots.show(fig, alt=f"Arrows over three clumps of points. {seen}", caption=seen)

# %% [markdown]
# Is it the gradient of the log density? Automatic differentiation can tell.

# %% tags=["compare"]
x = clumps[:50].double().requires_grad_()
total = variances.double() + 0.7**2
log_density = torch.logsumexp(
    weights.double().log()
    - torch.log(2 * math.pi * total)
    - ((x[:, None] - means.double()) ** 2).sum(2) / (2 * total),
    dim=1,
)
(gradient,) = torch.autograd.grad(log_density.sum(), x)
off = float((gradient - mixture_score(x.detach(), 0.7)).abs().max())
print("largest difference from the gradient is below 1e-9:", off < 1e-9)

# %% [markdown]
# ## The loss
#
# For real data nobody gives you $p$. But the posterior mean is the minimum of a loss, and a loss
# can be computed from samples: draw $x_0$ from the training set, a time $t$ and noise
# $\varepsilon$, show $x_t$ to a network, and compare. You met the three targets in lesson 02:
#
# $$\text{eps: } \varepsilon, \qquad \text{x0: } x_0, \qquad
# \text{v: } \alpha_t\,\varepsilon - \sigma_t\,x_0, \qquad
# \alpha_t = \sqrt{\bar\alpha_t},\ \sigma_t = \sqrt{1 - \bar\alpha_t}.$$
#
# The **simple loss** of DDPM is the mean squared error of the prediction, over all elements of the
# batch.

# %% [markdown]
# <!-- exercise 03.5 -->
# Write it. The model is called once, as `model(x_t, time, cond)`. `time` is the float
# $t / (T - 1)$, one per sample, shape `(B,)`: 0 at the first step and 1 at the last, with $T$ the
# length of `alpha_bar`. An unknown `prediction` raises a `ValueError`.


# %% tags=["answer"] exercise="03.5"
def simple_loss(
    model: Callable[..., torch.Tensor],
    x0: torch.Tensor,
    t: torch.Tensor,
    alpha_bar: torch.Tensor,
    noise: torch.Tensor,
    cond: torch.Tensor | None = None,
    prediction: str = "eps",
) -> torch.Tensor:
    """Mean squared error of the model's prediction, over all elements: a tensor without dimensions.

    model: called as model(x_t, t / (T - 1), cond), returns x_t's shape. Its prediction is "eps",
        "x0" or "v" = alpha eps - sigma x0; anything else raises ValueError.
    x0, noise: (B, ...), float. t: (B,) int64, in [0, T - 1]. alpha_bar: (T,), of x0's dtype.
    The result keeps its graph, so that backward() reaches the model's weights.
    """
    # BEGIN SOLUTION
    alpha = per_sample(alpha_bar[t].sqrt(), x0)
    sigma = per_sample((1 - alpha_bar[t]).sqrt(), x0)
    x_t = alpha * x0 + sigma * noise
    targets = {"eps": noise, "x0": x0, "v": alpha * noise - sigma * x0}
    if prediction not in targets:
        raise ValueError(f"prediction must be one of {list(targets)}, not {prediction!r}")
    time = t / (len(alpha_bar) - 1)
    return (model(x_t, time, cond) - targets[prediction]).square().mean()
    # END SOLUTION


# %% tags=["check"]
check("03.5")

# %% [markdown]
# ### Three losses are one
#
# The three predictions say the same thing in other words: from $x_t$ and any one of them the others
# follow. If $\hat x_0$ is off by $d$ while $x_t$ is fixed, then $\hat\varepsilon$ is off by
# $\alpha d / \sigma$. So the eps loss is the x0 loss times
# $\alpha^2 / \sigma^2 = \mathrm{SNR}$, the signal-to-noise ratio. All losses here have the form
# $w(\mathrm{SNR})\,|x_0 - \hat x_0|^2$; they differ in how much each noise level counts. Min-SNR
# is a weight chosen by hand: that of eps, but never more than $\gamma$.

# %% [markdown]
# <!-- exercise 03.6 -->
# Write the weight on the squared error *of x0*. `kind` is `"eps"`, `"x0"`, `"v"` (the plain,
# unweighted loss of that prediction, with $\alpha^2 + \sigma^2 = 1$) or `"min-snr"`.


# %% tags=["answer"] exercise="03.6"
def loss_weight(kind: str, snr: torch.Tensor, gamma: float = 5.0) -> torch.Tensor:
    """The w in w |x0 - x0_hat|^2 to which the plain loss of this kind amounts.

    kind: "eps", "x0", "v", or "min-snr", which is min(snr, gamma); anything else raises ValueError.
    snr: alpha^2 / sigma^2, above 0 (a ratio, no logarithm), a float tensor of any shape.
    Returns snr's shape and dtype for every kind.
    """
    # BEGIN SOLUTION
    if kind == "eps":
        return snr
    if kind == "x0":
        return torch.ones_like(snr)
    if kind == "v":
        return snr + 1
    if kind == "min-snr":
        return snr.clamp(max=gamma)
    raise ValueError(f"kind must be 'eps', 'x0', 'v' or 'min-snr', not {kind!r}")
    # END SOLUTION


# %% tags=["check"]
check("03.6")

# %% tags=["figure"]
log_snr = torch.linspace(-6, 6, 61)
fig = plots.curves(
    {kind: losses.loss_weight(kind, log_snr.exp()) for kind in ("eps", "x0", "v", "min-snr")},
    log_snr,
    xlabel="log SNR (noise on the left, data on the right)",
    ylabel="weight on $|x_0 - \\hat x_0|^2$",
    log_y=True,
)
plots.show(
    fig,
    alt="Weight against log SNR on a log scale. eps is a straight rising line; x0 is constant 1; v "
    "is 1 on the left and joins eps on the right; min-snr follows eps and stops at 5.",
    caption="The same network error counts differently: eps cares most for the last fine details, "
    "x0 for all levels alike.",
)

# %% [markdown]
# A check by numbers that the eps loss and the weighted x0 loss are one. The model here is no
# network but your `gaussian_denoiser`, made to be a little wrong.

# %%
alpha_bar = schedules.cosine_alpha_bar(torch.linspace(0.01, 0.99, 50))
step = torch.full((4000,), 20)
a, s = alpha_bar[20].sqrt().item(), (1 - alpha_bar[20]).sqrt().item()
g = torch.Generator().manual_seed(1)
x0, noise = torch.randn(4000, 3, generator=g), torch.randn(4000, 3, generator=g)


def guess_x0(x_t: torch.Tensor, time: torch.Tensor, cond: None) -> torch.Tensor:
    return 1.1 * gaussian_denoiser(x_t, a, s, 0.0, 1.0)


def guess_eps(x_t: torch.Tensor, time: torch.Tensor, cond: None) -> torch.Tensor:
    return (x_t - a * guess_x0(x_t, time, cond)) / s


plain = simple_loss(guess_eps, x0, step, alpha_bar, noise)
error = simple_loss(guess_x0, x0, step, alpha_bar, noise, prediction="x0")
print(f"eps loss {plain:.4f}; SNR times x0 loss {a**2 / s**2:.3f} x {error:.4f} = "
      f"{a**2 / s**2 * error:.4f}")  # fmt: skip

# %% [markdown]
# ## Train one
#
# Now a real network, on points in the plane, where everything can be seen. The training set is 400
# points of two half moons. The loop is the one of all later lessons: draw a batch, a time for each
# sample and noise; compute the loss; take a step.
#
# The network predicts *v*. To be used as a denoiser it must answer with $\hat x_0$; from
# $x_t = \alpha x_0 + \sigma\varepsilon$ and $v = \alpha\varepsilon - \sigma x_0$ follows
# $x_0 = \alpha x_t - \sigma v$ (02.5).

# %% [markdown]
# <!-- exercise 03.7 -->
# Train a network on `points` and return it as a denoiser. Use the cosine schedule,
# $\bar\alpha(t)$ = `schedules.cosine_alpha_bar(t)` for $t$ in $[0, 1]$. The network, the optimiser
# and what the network predicts are yours to choose; `new_net(generator)` gives one that is good
# enough, is called as `net(x_t, t, cond)`, and can predict *v* with your `simple_loss`.
#
# The check trains on 400 points for 1,200 steps (a few seconds; it may take 20) and looks at
# points that you do not get:
#
# - **denoises**: how far your denoiser is from the best one, that of 8,000 points of the same
#   distribution. It must come nearer than the best linear denoiser, $\alpha x_t$, by 40 %.
# - **samples**: 1,000 samples drawn with it have to be like new points: an energy distance (a
#   distance between two sets of points, 0 for the same distribution) below 0.08 from held-out
#   points, and neither astray nor copies of the training points.
# - **seeded**: the same seed gives the same denoiser, another seed another one.


# %% tags=["answer"] exercise="03.7"
def fit_2d(points: torch.Tensor, steps: int, generator: torch.Generator) -> Callable:
    """Trains a small network on points in the plane and returns it as a denoiser.

    points: (n, 2) float32, about mean 0 and deviation 1. steps: of the optimiser; about 256 points
        each. generator: every draw comes from it, the network's first weights too.
    Returns denoiser(x_t, t, cond=None) -> x0_hat (B, 2) float32: x_t is (B, 2), t a number or a
        tensor (B,) in [0, 1], with alpha(t) = sqrt(cosine_alpha_bar(t)) and
        sigma(t) = sqrt(1 - cosine_alpha_bar(t)).
    """
    # BEGIN SOLUTION
    T = 1000
    alpha_bar = schedules.cosine_alpha_bar(torch.linspace(0, 1, T))
    net = new_net(generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        x0 = points[torch.randint(len(points), (256,), generator=generator)]
        t = torch.randint(T, (256,), generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        loss = simple_loss(net, x0, t, alpha_bar, noise, prediction="v")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def denoiser(
        x_t: torch.Tensor, t: float | torch.Tensor, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        t = torch.as_tensor(t, dtype=x_t.dtype).expand(len(x_t))
        kept = schedules.cosine_alpha_bar(t)[:, None]
        return kept.sqrt() * x_t - (1 - kept).sqrt() * net(x_t, t, cond)

    return denoiser
    # END SOLUTION


# %% tags=["check"]
check("03.7")

# %% [markdown]
# Train it for a bit longer, draw samples (`sets2d.sample_2d` is the walk above, in small steps of
# $t$), and set them beside what the empirical denoiser of the same 400 points draws.

# %% tags=["figure"]
torch.set_num_threads(1)  # for so small a network: more threads only wait for each other
g = torch.Generator().manual_seed(0)
points, fresh = sets2d.two_moons(400, g), sets2d.two_moons(1000, g)
trained = fit_2d(points, budget(full=4000, small=800), torch.Generator().manual_seed(1))


def memory_of(points: torch.Tensor) -> Callable:
    """The empirical denoiser of ``points``, with the arguments of what fit_2d returns."""

    def denoiser(x_t, t, cond=None):
        kept = schedules.cosine_alpha_bar(torch.as_tensor(t)).expand(len(x_t))
        # At t = 1 nothing of the signal is left: alpha a little above 0 gives the mean, as it must.
        return empirical_denoiser(x_t, kept.sqrt().clamp(min=1e-4), (1 - kept).sqrt(), points)

    return denoiser


def draw(denoiser: Callable, n: int = 1000, seed: int = 5) -> torch.Tensor:
    return sets2d.sample_2d(denoiser, n, torch.Generator().manual_seed(seed), steps=150)


made, copied = draw(trained), draw(memory_of(points))
fig = plots.points2d(
    {"held-out points": fresh, "your network": made, "empirical denoiser": copied},
    limits=2.6,
    panels=True,
    size=5,
    roles={"held-out points": "data", "your network": "model", "empirical denoiser": "expected"},
)
plots.show(
    fig,
    alt="Three panels with 1,000 points each. Held-out points form two half moons. The network's "
    "samples form the same moons, filled. The empirical denoiser's form the moons from a few "
    "hundred spots.",
    caption="All have 1,000 points. The right panel seems to have fewer: it repeats its 400.",
)


def novelty(samples: torch.Tensor, points: torch.Tensor, fresh: torch.Tensor) -> float:
    """Median distance to the nearest of ``points``, over that of real new points: 0 for copies."""
    nearest = [torch.cdist(x, points).min(1).values.median() for x in (samples, fresh)]
    return float(nearest[0] / nearest[1])


for name, x in (("your network", made), ("empirical denoiser", copied)):
    distance = sets2d.energy_distance(x, fresh)
    print(f"{name:19s} energy distance {distance:.4f}, novelty {novelty(x, points, fresh):.2f}")

# %% [markdown]
# The two have learned from the same points with the same loss. The second has the lower loss. (Its
# novelty is not quite 0, since the sampler's last step still averages neighbours that are very
# close.)
#
# ## The experiment: does a lower training loss mean better samples?
#
# C12 again. We train your network on few points and on many, for more and more steps, and put the
# empirical denoiser at the end of each row: it is what training would reach if the network could
# follow. For each we measure
#
# - the **training loss**, the *v* loss that `fit_2d` minimises, on the training points,
# - the **held-out loss**, the same on points that were not trained on,
# - the **energy distance** of 1,000 samples from 2,000 held-out points,
# - the **novelty** of the samples: about 1 for new points, 0 for copies.
#
# There are three seeds, with other training points each. The **floor** is the energy distance
# between two sets of real points, 1,000 and 2,000 of them: nothing can be reliably below.


# %%
def v_loss(denoiser: Callable, points: torch.Tensor, seed: int, n: int = 20_000) -> float:
    """The v loss of any denoiser: an error of x0 is an error of v times sigma."""
    g = torch.Generator().manual_seed(seed)
    x0 = points[torch.arange(n) % len(points)]
    t = (torch.randperm(n, generator=g) + 0.5) / n
    signal = schedules.cosine_alpha_bar(t)[:, None]
    x_t = signal.sqrt() * x0 + (1 - signal).sqrt() * torch.randn(n, 2, generator=g)
    return float(((denoiser(x_t, t) - x0).square() / (1 - signal)).mean())


def measure(denoiser: Callable, points: torch.Tensor, seed: int) -> dict[str, float]:
    real = sets2d.two_moons(2000, torch.Generator().manual_seed(1000 + seed))
    fresh = sets2d.two_moons(1000, torch.Generator().manual_seed(2000 + seed))
    samples = draw(denoiser, seed=seed)
    return {
        "training loss": v_loss(denoiser, points, seed),
        "held-out loss": v_loss(denoiser, real, seed),
        "energy distance": sets2d.energy_distance(samples, real),
        "floor": sets2d.energy_distance(fresh, real),
        "novelty": novelty(samples, points, fresh),
    }


FEW, MANY = 30, 400
seeds = [0, 1, 2]
plan = budget(
    full={FEW: [30, 100, 300, 1000, 3000], MANY: [30, 300, 3000]},
    small={FEW: [30, 300], MANY: [30, 600]},
)  # number of training points: steps of training

# %% tags=["slow"]
found: dict[tuple[int, str], list[dict[str, float]]] = {}
with tqdm(total=len(seeds) * sum(map(sum, plan.values())), unit="step") as bar:
    for seed in seeds:
        for n, counts in plan.items():
            points = sets2d.two_moons(n, torch.Generator().manual_seed(seed))
            for steps in counts:
                denoiser = fit_2d(points, steps, torch.Generator().manual_seed(seed))
                found.setdefault((n, f"{steps} steps"), []).append(measure(denoiser, points, seed))
                bar.update(steps)
            row = measure(memory_of(points), points, seed)
            found.setdefault((n, "empirical"), []).append(row)

# %% tags=["figure"]


def column(name: str, n: int = FEW) -> torch.Tensor:
    """(seeds, denoisers) of one figure, the empirical denoiser last."""
    return torch.tensor([[row[name] for row in rows] for (m, _), rows in found.items() if m == n]).T


fig = plots.curves(
    {
        "training loss": column("training loss")[:, :-1],
        "held-out loss": column("held-out loss")[:, :-1],
    },
    plan[FEW],
    xlabel="steps of training (log scale)",
    ylabel="v loss",
    log_x=True,
    markers=True,
    floor=float(column("training loss")[:, -1].mean()),
    floor_name="lowest possible training loss",
    title=f"{FEW} training points",
    roles={"training loss": "model", "held-out loss": "data"},
)
plots.show(
    fig,
    alt="The training loss falls all the way towards the lowest possible one; the held-out loss "
    "turns and ends far above the training loss.",
    caption="Lines: median of three seeds; bands: least to greatest. The dash-dotted line is the "
    "empirical denoiser.",
)
print(f"held-out loss of the empirical denoiser: {column('held-out loss')[:, -1].mean():.1f}")

# %% [markdown]
# Which points a seed drew decides more about the energy distance than anything else. So the
# first figure below subtracts, seed by seed, what copies of these points get: below 0 is better
# than copying.

# %% tags=["figure"]
short = [*map(str, plan[FEW]), "empirical"]
gain = column("energy distance") - column("energy distance")[:, -1:]
fig = plots.bar_with_spread(
    {name: gain[:, i] for i, name in enumerate(short)},
    xlabel=f"steps of training on {FEW} points; at the right the empirical denoiser",
    ylabel="energy distance\nminus that of copies",
    floor=0.0,
    floor_name="as good as copies",
)
plots.show(
    fig,
    alt="Energy distance minus that of the copies, three seeds each, for growing numbers of steps. "
    "All networks are below zero, the shortest training the most; with longer training the values "
    "come near zero, the value of copies.",
    caption="Lower is better. Points: seeds. Tick: their mean.",
)
fig = plots.bar_with_spread(
    {name: column("novelty")[:, i] for i, name in enumerate(short)},
    xlabel=f"steps of training on {FEW} points; at the right the empirical denoiser",
    ylabel="novelty of samples",
    floor=1.0,
    floor_name="new real points",
)
plots.show(
    fig,
    alt="Novelty falls with training: above 1 for short training, then below 1, and 0 for the "
    "empirical denoiser.",
    caption="Above 1: samples stray from the data, which energy distance, a measure of the large "
    "shape, forgives. Below 1: they gather around training points. 0: copies.",
)

# %% [markdown]
# The verdict comes from the numbers. For each seed and each number of points we ask: of the
# networks, did the one with the lowest training loss draw the best samples (the lowest energy
# distance)? And does the denoiser with the lowest loss of all draw anything new?

# %%
agree = {}
for n in plan:
    loss, distance = column("training loss", n)[:, :-1], column("energy distance", n)[:, :-1]
    agree[n] = int((loss.argmin(1) == distance.argmin(1)).sum())
lowest = all(bool((column("training loss", n).argmin(1) == len(plan[n])).all()) for n in plan)
copies = float(column("novelty", FEW)[:, -1].max())

half = len(seeds) / 2
if agree[FEW] > half and agree[MANY] > half:
    verdict = "true of these networks"
elif agree[FEW] < half < agree[MANY]:
    verdict = f"depends on the data: true of networks with {MANY} points, false with {FEW}"
elif agree[FEW] < half and agree[MANY] < half:
    verdict = "false"
else:
    verdict = f"depends on the data: true of networks with {FEW} points, false with {MANY}"
if lowest and copies < 0.1:
    verdict += (
        "; false at the end: the lowest training loss of all belongs to a denoiser that copies"
    )

rows = []
for (n, name), of_seeds in sorted(found.items(), key=lambda item: item[0][0]):
    row: dict = {"points": n, "denoiser": name}
    for figure in ("training loss", "held-out loss", "energy distance", "novelty"):
        values = torch.tensor([r[figure] for r in of_seeds])
        row[figure] = f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"
    rows.append(row)
floor = column("floor")[:, 0]
rows.append(
    {
        "points": "",
        "denoiser": "real against real",
        "energy distance": f"{floor.mean():.3f} ({floor.min():.3f} to {floor.max():.3f})",
        "novelty": "1",
    }
)
results.record(
    "C12-2d",
    rows,
    verdict=verdict,
    seeds=seeds,
    samples=1000,
    floor=floor,
    note="two moons in 2-D; mean (least to greatest) over seeds. Lessons 05 and 08 repeat this "
    "with networks on digits, where samples are judged by FD.",
)
for n in plan:
    print(f"{n} points: lowest training loss, best samples in {agree[n]} of {len(seeds)} seeds")

# %% [markdown]
# What would change the verdict? The number of points does, as the table shows: with many points,
# the way down the training loss is at first also the way to better samples, and a network of this
# size does not get to the end of it. What would change it further: a larger network, or more steps.
#
# Look at the last line for each number of points, too. With many points the copies have a small
# energy distance, since they are spread as the data are; only novelty tells a copyist from a model.
# No single number here does both jobs, and that is why lesson 08 takes several. In 2-D one small
# network was tried; lessons 05 and 08 come back to C12 with U-Nets and digits.

# %% [markdown] tags=["remark"]
# **Your conclusion** (edit this cell). You train a model and its training loss still falls. Which
# other number do you look at before you train on? What would make you stop?

# %% [markdown]
# ## Extra: let the network do only what is hard
#
# At small $\sigma$ the noisy point is almost the answer; at large $\sigma$ the answer is almost the
# mean. A network should not have to learn either. EDM (Karras et al. 2022) wraps a network $F$ into
# a denoiser $D$, with $\alpha = 1$ and data of mean 0 and deviation $\sigma_d$ (`sigma_data`):
#
# $$D(x; \sigma) = c_\text{skip}\, x + c_\text{out}\, F(c_\text{in}\, x;\ c_\text{noise}).$$
#
# Two demands settle the factors: $F$ shall see inputs of variance 1, and its target shall have
# variance 1, with $c_\text{skip}$ chosen so that $c_\text{out}$, which magnifies the errors of
# $F$, is as small as possible. Table 1 of the paper adds $c_\text{noise} = \ln(\sigma) / 4$.

# %% [markdown]
# <!-- exercise 03.8 -->
# Write the four factors. You met $c_\text{skip}$ in 03.1.


# %% tags=["answer"] exercise="03.8"
def edm_precondition(
    sigma: torch.Tensor, sigma_data: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """EDM's (c_skip, c_out, c_in, c_noise), Karras et al. 2022, Table 1.

    sigma: float tensor of any shape, above 0. sigma_data: deviation of the data, a number above 0.
    Returns four tensors of sigma's shape and dtype. c_noise = ln(sigma) / 4.
    """
    # BEGIN SOLUTION
    total = sigma**2 + sigma_data**2
    return (
        sigma_data**2 / total,
        sigma * sigma_data / total.sqrt(),
        1 / total.sqrt(),
        sigma.log() / 4,
    )
    # END SOLUTION


# %% tags=["check"]
check("03.8")

# %% tags=["figure"]
sigmas = torch.logspace(-2, 2, 81)
factors = losses.edm_precondition(sigmas, 0.5)
fig = plots.curves(
    dict(zip(("c_skip", "c_out", "c_in", "c_noise"), factors)),
    sigmas,
    xlabel="$\\sigma$ (log scale)",
    ylabel="factor",
    log_x=True,
    title="$\\sigma_d$ = 0.5",
)
plots.show(
    fig,
    alt="Four curves against sigma (log scale). c_skip falls from 1 to 0 around sigma 0.5; c_out "
    "rises from 0 to 0.5; c_in falls from 2 to 0; c_noise rises in a straight line from about -1.2 "
    "to 1.2.",
    caption="On the left the network is hardly asked ($c_{out}$ near 0); on the right it must "
    "answer alone ($c_{skip}$ near 0).",
)

# %% [markdown]
# ## Extra: the loss as a bound on the likelihood
#
# How probable is a picture under the model? The chain of lesson 02 gives a bound. With
# $\mathrm{SNR}_t = \bar\alpha_t / (1 - \bar\alpha_t)$ and $\hat x_0$ the model's guess at step $t$,
#
# $$-\log p(x_0) \le
# \underbrace{-\log \mathcal N(x_0;\ \hat x_0,\ \beta_0)}_{\text{decoder, } t = 0}
# + \sum_{t=1}^{T-1} \underbrace{\tfrac12 (\mathrm{SNR}_{t-1} - \mathrm{SNR}_t)\,
# |x_0 - \hat x_0|^2}_{\text{step } t}
# + \underbrace{\mathrm{KL}\big(q(x_{T-1} \mid x_0)\,\|\,\mathcal N(0, 1)\big)}_{\text{prior}},$$
#
# on average over the noise. Again it is the squared error of $x_0$, with one more weight. KL, the
# *Kullback-Leibler divergence*, says how far one distribution is from another, and is 0 where they
# are the same. For two Gaussians of the same variance $s^2$ it is the squared distance of their
# means over $2 s^2$; with the posterior of 02.6 this gives the steps. The prior, summed over the
# elements, is $\tfrac12 \sum (\bar\alpha\,x_0^2 - \bar\alpha - \ln(1 - \bar\alpha))$ with the last
# $\bar\alpha$.
#
# Likelihoods are told in **bits per dimension**: divided by $\ln 2$, and by the number of elements
# of one sample.

# %% [markdown]
# <!-- exercise 03.9 -->
# Return the $T + 1$ terms. The model predicts eps and is called as in 03.5,
# `model(x_t, time, None)`, once a step with the whole batch. Draw the noise for $t = 0, 1, \dots,
# T - 1$, in this order, as `torch.randn(x0.shape, generator=generator, dtype=x0.dtype)`. The check
# compares with exactly these draws, and with the closed form for Gaussian data.


# %% tags=["answer"] exercise="03.9"
def elbo_terms(
    x0: torch.Tensor,
    model: Callable[..., torch.Tensor],
    betas: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """The T + 1 terms of the bound on -log2 p(x0), in bits per dimension: (T + 1,) float64.

    terms[0] is the decoder, -log Normal(x0; x0_hat, betas[0]), a density: it may be negative.
    terms[1] to terms[T - 1] are the steps, terms[T] is the prior. Each is the mean over the batch
    and one draw of noise, of a sum over the elements of a sample, divided by their number and ln 2.

    x0: (B, ...), float32 or float64. betas: (T,) float64, T > 1. alpha_bar is the cumulative
    product of 1 - betas. model: eps = model(x_t, time, None), time being t / (T - 1) as (B,).
    """
    # BEGIN SOLUTION
    alpha_bar = torch.cumprod(1 - betas, 0)
    snr = alpha_bar / (1 - alpha_bar)
    T, dims = len(betas), x0[0].numel()
    terms = torch.zeros(T + 1, dtype=torch.float64)
    for t in range(T):
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        x_t = alpha_bar[t].sqrt() * x0 + (1 - alpha_bar[t]).sqrt() * noise
        eps = model(x_t, torch.full((len(x0),), t / (T - 1)), None)
        # The error of x0 is sigma / alpha times the error of eps.
        square = (eps - noise).square().flatten(1).sum(1).mean() / snr[t]
        if t == 0:
            terms[0] = dims / 2 * torch.log(2 * math.pi * betas[0]) + square / (2 * betas[0])
        else:
            terms[t] = (snr[t - 1] - snr[t]) / 2 * square
    kept = alpha_bar[-1]
    square = x0.square().flatten(1).sum(1).mean()
    terms[T] = (kept * square - dims * kept - dims * torch.log(1 - kept)) / 2
    return terms / (dims * math.log(2))
    # END SOLUTION


# %% tags=["check"]
check("03.9")

# %% [markdown]
# Gaussian data and the exact model let us see how tight the bound is. There the true answer is
# known: the mean of $-\log_2 p(x_0)$, called the **entropy**, for each dimension. The more steps,
# the smaller the gap.

# %%
g = torch.Generator().manual_seed(0)
true_bits = 0.5 * math.log2(2 * math.pi * math.e * 0.25)
for T in (5, 20, 100, 500):
    alpha_bar = torch.sigmoid(torch.linspace(7, -7, T, dtype=torch.float64))  # even in log SNR
    betas = 1 - alpha_bar / torch.cat([torch.ones(1), alpha_bar[:-1]])
    gains = (1 - alpha_bar).sqrt() / (0.25 * alpha_bar + 1 - alpha_bar)

    def exact(x_t, time, cond, gains=gains):
        return gains[(time * (len(gains) - 1)).round().long()].to(x_t.dtype)[:, None] * x_t

    x0 = 0.5 * torch.randn(20_000, 2, generator=g)
    bound = losses.elbo_terms(x0, exact, betas, g).sum()
    print(f"T = {T:4d}: bound {bound:.3f} bits per dimension, truth {true_bits:.3f}")

# %% [markdown]
# ## What to remember
#
# - The best denoiser returns the mean of all data that could have led to $x_t$. Under heavy noise
#   that is a blur, and rightly so.
# - A denoiser is a score in other units: $(\alpha \hat x_0 - x_t) / \sigma^2$.
# - Losses on eps, x0 and *v* are one loss with other weights on the noise levels.
# - The lowest possible training loss belongs to the denoiser that copies the training set. What a
#   model can draw beyond copies comes from where it fails to reach that minimum.
# - Watch a held-out loss and the novelty of samples, not the training loss alone.
#
# **Where next.** Lesson 04 builds the network that takes the place of the small one here. Lesson 05
# trains it on digits, and lesson 06 replaces the walk by proper samplers. C12 returns in 05 and 08.
#
# ## References
#
# - P. Vincent (2011), [A connection between score matching and denoising
#   autoencoders](https://doi.org/10.1162/NECO_a_00142). Denoising gives the score.
# - B. Efron (2011), [Tweedie's formula and selection
#   bias](https://doi.org/10.1198/jasa.2011.tm11181).
# - J. Ho, A. Jain, P. Abbeel (2020), [Denoising diffusion probabilistic
#   models](https://arxiv.org/abs/2006.11239). Equation 14 is the simple loss.
# - T. Karras, M. Aittala, T. Aila, S. Laine (2022), [Elucidating the design space of
#   diffusion-based generative models](https://arxiv.org/abs/2206.00364). Table 1 and appendix B.3,
#   the empirical denoiser.
# - T. Hang and others (2023), [Efficient diffusion training via min-SNR weighting
#   strategy](https://arxiv.org/abs/2303.09556).
# - D. Kingma, T. Salimans, B. Poole, J. Ho (2021), [Variational diffusion
#   models](https://arxiv.org/abs/2107.00630). The bound in terms of SNR.
# - Z. Kadkhodaie, F. Guth, E. Simoncelli, S. Mallat (2023), [Generalization in diffusion models
#   arises from geometry-adaptive harmonic representations](https://arxiv.org/abs/2310.02557). Two
#   networks trained on different halves of enough data draw the same pictures; on little data each
#   draws its own training set.
