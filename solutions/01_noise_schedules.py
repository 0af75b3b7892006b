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
# # 01 · Noise schedules
# <!-- lesson-header -->
#
# After this lesson you can
#
# - build the schedules that most diffusion models use (linear, cosine, sigmoid, EDM's), and turn
#   one form into another: betas, $\bar\alpha$, log SNR;
# - say, from a curve, where a schedule spends its steps, and whether it ends in pure noise;
# - measure how much of a picture survives at each step, and predict what happens when pictures
#   grow.
#
# You need running products (`torch.cumprod`), broadcasting, and the variance of a sum of
# independent numbers.

# %% tags=["setup"]
import math
from collections.abc import Callable

import torch

from coursework import check, hint
from undiffuse import budget, data, listen, plots

T = 1000  # steps, where nothing else is said

# %% [markdown]
# ## A claim to test
#
# A **noise schedule** says how much noise there is at each step on the way from a picture to pure
# noise. Tutorials say:
#
# > C1. The noise schedule has a significant impact on quality.
#
# The claim is about *generated* pictures, and you have no model yet. So this lesson measures
# something nearer: how a schedule shares out its steps. The verdict on C1 comes in lesson 05, where
# models are trained. Before anything runs, write down what you expect.

# %% [markdown] tags=["remark"]
# **Your guess** (edit this cell).
#
# - A digit goes to pure noise in 1000 steps. At which step can you no longer read it? With a
#   linear schedule: … With a cosine schedule: …
# - Which share of the 1000 steps is spent on pictures in which nothing can be read at all? …
# - Do you believe C1? How much of a difference would you call significant? …

# %% [markdown]
# ## Why destroy data slowly?
#
# A diffusion model learns to undo noise. Why in many small steps, and not in one?
#
# Take a noisy picture and ask: which clean picture was it? With little noise only one answer fits.
# With a lot of noise thousands fit, and the best single guess, the one with the least squared
# error, is their *average*: a blur that looks like none of them. A model that jumps from pure
# noise to a picture in one step can only produce that blur. A small step back is different: the
# picture before and the picture after hardly differ, so there is hardly a choice to get wrong, and
# the choices are made one by one over many steps.
#
# The picture below shows it. The upper row is one digit with more and more noise, by the mix from
# lesson 00 that keeps the variance, $\sqrt{1-a}\,x + \sqrt{a}\,\varepsilon$. The lower row is the
# best possible guess of the clean digit for somebody who knows that it is one of a few thousand
# given digits, and nothing else (lesson 03 shows how such a guess is made).
# %%
from undiffuse.denoisers import empirical_denoiser
from undiffuse.process import variance_preserving_corrupt


def with_noise(x0: torch.Tensor, alpha_bar: float, noise: torch.Tensor) -> torch.Tensor:
    """x0 (B, ...) mixed with noise so that the share alpha_bar of the variance stays data."""
    amount = torch.full((len(x0),), 1 - float(alpha_bar))
    return variance_preserving_corrupt(x0, amount, noise)


known, known_labels = data.digits("train", budget(full=5000, small=2000))
picked = ((3, 6), (8, 9), (5, 3))  # (digit, which of them): clearly written ones
examples = torch.stack([known[known_labels == digit][i] for digit, i in picked])
example_noise = torch.randn(examples.shape, generator=torch.Generator().manual_seed(1))

shares = (0.99, 0.8, 0.4, 0.1, 0.02, 0.005, 0.0005)
noisy = [with_noise(examples[:1], a, example_noise[:1]) for a in shares]
guess = [empirical_denoiser(x, a**0.5, (1 - a) ** 0.5, known) for x, a in zip(noisy, shares)]
fig = plots.forward_strip(
    [torch.cat(pair) for pair in zip(noisy, guess)],
    shares,
    row_labels=("noisy", "best guess"),
    row_name="",
    level_name="share of the variance that is still data",
)
plots.show(
    fig,
    alt="Upper row: a handwritten 3 at seven noise levels, from clear to pure noise. Lower row: "
    "the best guess of the clean digit: the sharp 3 at first, then a blur of several "
    "digits, and at last the same grey average whatever the digit was.",
    caption="From left to right the best guess turns from one digit into the average of all that "
    "fit.",
)

# %% [markdown]
# ## Betas: one step
#
# The oldest way to write a schedule is a list of $T$ small numbers, the **betas**. Each step mixes
# in a little fresh noise:
#
# $$x_{\text{after}} = \sqrt{1-\beta_t}\;x_{\text{before}} + \sqrt{\beta_t}\;\varepsilon,
# \qquad \varepsilon \sim \mathcal{N}(0, I).$$
#
# - $\beta_t$, between 0 and 1, is the variance of the noise that step $t$ adds;
# - $1-\beta_t$ is the share of the old variance that the step keeps;
# - $\varepsilon$ is standard normal noise, drawn anew at each step.
#
# Why shrink by $\sqrt{1-\beta_t}$? Without it the variance would grow with every step. With it,
# data of variance 1 keeps variance $(1-\beta_t) \cdot 1 + \beta_t = 1$, and a network sees numbers
# of the same size at every step. (The variance of our digits, scaled to $[-1, 1]$, is somewhat
# smaller. All that follows speaks as if it were 1, as the papers do.)
#
# Papers count steps from 1, arrays from 0. Here `betas[0]` belongs to the first step, `betas[T-1]`
# to the last, and $x_0$ always means clean data.
#
# DDPM, the paper that made diffusion work for pictures, puts $T = 1000$ betas on a straight line
# from 0.0001 to 0.02: small steps first, while there is detail to lose.

# %% [markdown]
# <!-- exercise 01.1 -->
# Return `T` betas, evenly spaced from `beta_start` to `beta_end`, both ends included, as a float32
# tensor of shape `(T,)`. `T` is at least 2.


# %% tags=["answer"] exercise="01.1"
def linear_betas(T: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> torch.Tensor:
    """Evenly spaced betas, both ends included, ascending: float32 (T,).

    T: number of steps, 2 or more. betas[0] is beta_start, betas[T-1] is beta_end.
    """
    # BEGIN SOLUTION
    return torch.linspace(beta_start, beta_end, T)
    # END SOLUTION


# %% tags=["check"]
check("01.1")

# %% [markdown]
# ## Alpha-bar: all steps so far
#
# How much of the data is left after many steps? Do two by hand. After the first, the variance is
# made of the share $1-\beta_0$ of data and the share $\beta_0$ of noise. The second step keeps
# $1-\beta_1$ of *both* and adds $\beta_1$ of new noise:
#
# $$\underbrace{(1-\beta_1)(1-\beta_0)}_{\text{data}} \;+\;
# \underbrace{(1-\beta_1)\,\beta_0 + \beta_1}_{\text{noise}} \;=\; 1.$$
#
# The shares multiply. After step $t$ the share that is still data is called alpha-bar:
#
# $$\bar\alpha_t = \prod_{s=0}^{t} (1-\beta_s).$$
#
# - $\bar\alpha_t$ is a share of *variance*. The data itself is multiplied by
#   $\sqrt{\bar\alpha_t}$.
# - The rest, $1-\bar\alpha_t$, is the variance of all the noise so far, which is one single normal
#   noise: sums of independent normal numbers are normal.
#
# So nobody needs to walk the steps. Any noise level can be had in one jump, as in lesson 00, and
# lesson 02 makes use of that.

# %% [markdown]
# <!-- exercise 01.2 -->
# `betas` has shape `(T,)`. Return alpha-bar, shape `(T,)`, in the dtype of `betas`. `alpha_bar[t]`
# includes step `t`, so `alpha_bar[0]` is `1 - betas[0]`. Do not change `betas`.


# %% tags=["answer"] exercise="01.2"
def alpha_bar_from_betas(betas: torch.Tensor) -> torch.Tensor:
    """What is left of the data's variance after steps 0..t, for every t: (T,), dtype of betas.

    betas: (T,), float32 or float64, the variance that each step adds.
    """
    # BEGIN SOLUTION
    return torch.cumprod(1 - betas, dim=0)
    # END SOLUTION


# %% tags=["check"]
check("01.2")

# %% [markdown]
# Now look at DDPM's schedule: the share of data left, and one digit on its way.

# %% tags=["figure"]
linear = alpha_bar_from_betas(linear_betas(T))

half = int((linear > 0.5).sum())
fig = plots.schedule_curves({"linear": linear})
plots.show(
    fig,
    alt="Alpha-bar of the linear schedule over time: an S-shaped fall from 1, steepest in the "
    "first half, and almost 0 for the whole last third.",
    caption="Betas on a straight line do not give a straight $\\bar\\alpha$: half of the variance "
    f"is gone after {half} of {T} steps.",
)

# %% tags=["figure"]
moments = [0, 100, 200, 300, 400, 500, 700, 999]
fig = plots.forward_strip(
    [with_noise(examples, linear[t], example_noise) for t in moments],
    moments,
    row_labels=("3", "8", "5"),
    row_name="",
    level_name="step t (linear schedule, T = 1000)",
)
plots.show(
    fig,
    alt="Three digits, 3, 8 and 5, at eight steps of the linear schedule: clear in the first "
    "columns, hard to read in the middle ones, and in the last two nothing but noise.",
    caption="By eye the digits are gone well before the end. The steps from there on look alike.",
)

# %% [markdown]
# ### The same schedule on a sound
#
# A schedule is a list of numbers. It knows nothing of rows and columns, of pixels or of samples,
# so the very same tensor `linear` works on a sound. This one is made by a formula: a struck metal
# bar, four decaying tones. (Recorded drums come in lesson 11.)

# %% tags=["figure"]
RATE = 8000
seconds = torch.arange(RATE // 2) / RATE
partials = ((220.0, 5.0, 1.0), (606.0, 8.0, 0.6), (1189.0, 12.0, 0.4), (1965.0, 18.0, 0.3))
bar = sum(
    a * torch.exp(-d * seconds) * torch.sin(2 * math.pi * f * seconds) for f, d, a in partials
)
bar = (bar / bar.std())[None]  # (1, L), variance 1
bar_noise = torch.randn(bar.shape, generator=torch.Generator().manual_seed(2))
heard = {t: with_noise(bar, linear[t], bar_noise)[0] for t in (0, 20, 200, 400, 999)}

fig = plots.waveforms({f"t = {t}": clip for t, clip in heard.items()}, RATE)
plots.show(
    fig,
    alt="The waveform of a struck bar at five steps. At step 0 it is a clean decay; then its "
    "quiet end is covered by noise, at step 400 only the attack stands out a little, and at "
    "999 it is even noise.",
    caption="What is quiet drowns first: here the end of the sound, in a picture the fine detail.",
)

# %% tags=["figure"]
fig = plots.spectra({f"t = {t}": heard[t] for t in (0, 20, 200)}, RATE)
plots.show(
    fig,
    alt="Spectra of the struck bar at steps 0, 20 and 200. At 0 four peaks stand far above "
    "everything else. At 20 a flat floor has risen to just below the weakest peak. At 200 "
    "it covers the two weakest.",
    caption="Noise is a flat floor that rises. The strongest tones stand out longest.",
)

# %%
words = {0: "The clean bar", 200: "The bar in a loud hiss", 999: "Hiss alone"}
clips = {t: 0.9 * heard[t] / heard[t].abs().max() for t in words}
listen.sounds(
    {f"t = {t}": clip for t, clip in clips.items()},
    RATE,
    texts={f"t = {t}": f"{w}. {listen.describe(clips[t], RATE)}" for t, w in words.items()},
    caption="The struck bar at three steps. Turn the volume down first: noise is loud.",
)

# %% [markdown]
# ## The cosine schedule
#
# The linear schedule spends its last third on pictures that all look like noise. Nichol and
# Dhariwal asked the other way round: choose the curve $\bar\alpha(t)$ first, and let the betas
# follow. Time is now a number $t$ from 0 (data) to 1 (noise), and
#
# $$\bar\alpha(t) = \frac{f(t)}{f(0)}, \qquad
# f(t) = \cos^2\!\left(\frac{t+s}{1+s}\cdot\frac{\pi}{2}\right).$$
#
# - The squared cosine falls gently at both ends and evenly in the middle.
# - $s$, 0.008 in the paper, is a small offset. Without it the curve is flat at $t = 0$, and the
#   first steps add hardly any noise: far less than the difference between two neighbouring grey
#   values. With this $s$ the first step's noise is nearly as large as that difference.
# - Dividing by $f(0)$ makes $\bar\alpha(0) = 1$: no time, no noise.

# %% [markdown]
# <!-- exercise 01.3 -->
# `t` is a float tensor of any shape, or a Python float, in $[0, 1]$; `t = 0` is clean data. Return
# $\bar\alpha(t)$ with the shape and dtype of `t`. The line that is there turns a Python float into
# a float32 tensor without axes; leave it.


# %% tags=["answer"] exercise="01.3"
def cosine_alpha_bar(t: torch.Tensor | float, s: float = 0.008) -> torch.Tensor:
    """The cosine schedule's alpha-bar at time t: shape and dtype of t.

    t: any shape, in [0, 1]; 0 is clean data. s: offset, at least 0. Angles are in radians.
    """
    t = torch.as_tensor(t)
    # BEGIN SOLUTION
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    f_at_0 = math.cos(s / (1 + s) * math.pi / 2) ** 2
    return f / f_at_0
    # END SOLUTION


# %% tags=["check"]
check("01.3")

# %% [markdown]
# ## Betas of any curve
#
# Samplers of the DDPM kind want betas. Cut the time from 0 to 1 into $T$ equal steps. Step $i$
# leads from $i/T$ to $(i+1)/T$, and since shares multiply, what it keeps is the ratio of the curve
# at its two ends:
#
# $$1 - \beta_i = \frac{\bar\alpha\big((i+1)/T\big)}{\bar\alpha(i/T)}, \qquad i = 0, \dots, T-1.$$
#
# Near $t = 1$ the cosine curve reaches 0, and the last beta would be 1: everything replaced by
# noise in one step. Later formulas divide by $1-\beta$, so betas are cut off at `max_beta`.

# %% [markdown]
# <!-- exercise 01.4 -->
# `alpha_bar` is a *function* of time: it takes a float tensor of any shape or a Python float in
# $[0, 1]$ and returns a tensor of the same shape. Return the `T` betas as a float32 tensor `(T,)`,
# none above `max_beta`. Do not assume that the function is 1 at time 0; it never reaches 0 before
# time 1.


# %% tags=["answer"] exercise="01.4"
def betas_from_alpha_bar(
    alpha_bar: Callable[[torch.Tensor], torch.Tensor], T: int, max_beta: float = 0.999
) -> torch.Tensor:
    """The betas of T equal steps along the curve alpha_bar(t), t from 0 to 1: float32 (T,).

    betas[i] belongs to the step from i/T to (i+1)/T and is cut off at max_beta from above.
    """
    # BEGIN SOLUTION
    ends = torch.arange(T + 1, dtype=torch.float64) / T  # float64: 1 - ratio loses digits
    left = [float(alpha_bar(t)) for t in ends]
    betas = torch.tensor([1 - left[i + 1] / left[i] for i in range(T)])
    return betas.clamp(max=max_beta)
    # END SOLUTION


# %% tags=["check"]
check("01.4")

# %% [markdown]
# The two schedules side by side, at the same steps. Before you run it: at which step will the
# lower row be as noisy as the upper one at step 400?

# %% tags=["figure"]
cosine = alpha_bar_from_betas(betas_from_alpha_bar(cosine_alpha_bar, T))

fig = plots.forward_strip(
    [
        torch.cat([with_noise(examples[1:2], a[t], example_noise[1:2]) for a in (linear, cosine)])
        for t in moments
    ],
    moments,
    row_labels=("linear", "cosine"),
    row_name="",
    level_name="step t (T = 1000)",
)
plots.show(
    fig,
    alt="The digit 8 at eight equal steps of the linear schedule, upper row, and the cosine "
    "schedule, lower row. In every column between the first and the last the lower row is "
    "clearer.",
    caption="Same digit, same noise, same steps. The cosine schedule is as noisy as the linear one "
    f"at step 400 only at step {int((cosine > linear[400]).sum())}.",
)

# %% [markdown]
# ## Log SNR: the one number that counts
#
# Two schedules can give the same noise level at different steps, so `t` is a poor name for a noise
# level. A good one is the **signal-to-noise ratio** (SNR): the variance that is data over the
# variance that is noise. It covers many powers of ten, so one takes the natural logarithm, called
# $\lambda$ in papers:
#
# $$\lambda_t = \log \mathrm{SNR}_t = \log \frac{\bar\alpha_t}{1-\bar\alpha_t}.$$
#
# - $\lambda = 0$: as much data as noise. Each $+2.3$ is a factor of ten in favour of the data.
# - $\lambda \to \infty$ is clean data, $\lambda \to -\infty$ is pure noise.
#
# Multiply a noisy picture by any number, and what can be told from it stays the same; $\lambda$
# stays the same as well. A schedule is then nothing but a *path through* $\lambda$: how long it
# stays at each noise level.

# %% [markdown]
# <!-- exercise 01.5 -->
# `alpha_bar` is a float tensor of any shape with values in $[0, 1]$. Return log SNR, natural
# logarithm, in its shape and dtype. At 1 the result is `inf`, at 0 it is `-inf`; that is as it
# should be.


# %% tags=["answer"] exercise="01.5"
def log_snr(alpha_bar: torch.Tensor) -> torch.Tensor:
    """Natural logarithm of the signal-to-noise ratio: shape and dtype of alpha_bar.

    alpha_bar: any shape, in [0, 1]. 1 gives inf and 0 gives -inf.
    """
    # BEGIN SOLUTION
    return torch.log(alpha_bar / (1 - alpha_bar))
    # END SOLUTION


# %% tags=["check"]
check("01.5")

# %% [markdown]
# ## A third curve: the sigmoid schedule
#
# Once a schedule is a curve, any falling curve will do. Jabri et al. and Chen take a piece of the
# sigmoid, from `start` to `end`, and stretch it so that it begins at 1 and ends at 0:
#
# $$v(t) = \mathrm{sigmoid}\!\left(
# \frac{\text{start} + t\,(\text{end} - \text{start})}{\tau}\right),
# \qquad \bar\alpha(t) = \frac{v(1) - v(t)}{v(1) - v(0)}.$$
#
# - $\mathrm{sigmoid}(u) = 1 / (1 + e^{-u})$.
# - $\tau$ sets how steep the middle is: small $\tau$, steep.
# - `start` and `end` choose the piece; moving them moves the curve towards more or less noise.

# %% [markdown]
# <!-- exercise 01.6 -->
# As in 01.3, `t` is a float tensor of any shape or a Python float in $[0, 1]$, and `t = 0` is
# clean data. Return $\bar\alpha(t)$ with the shape and dtype of `t`: exactly the formula above,
# not clipped. `start < end`, and `tau > 0` divides.


# %% tags=["answer"] exercise="01.6"
def sigmoid_alpha_bar(
    t: torch.Tensor | float, start: float = -3, end: float = 3, tau: float = 1
) -> torch.Tensor:
    """The sigmoid schedule's alpha-bar at time t, 1 at t = 0 and 0 at t = 1: shape and dtype of t.

    t: any shape, in [0, 1]. start < end: which piece of the sigmoid. tau > 0 divides its argument.
    """
    t = torch.as_tensor(t)
    # BEGIN SOLUTION
    v_start = 1 / (1 + math.exp(-start / tau))
    v_end = 1 / (1 + math.exp(-end / tau))
    v = torch.sigmoid((start + t * (end - start)) / tau)
    return (v_end - v) / (v_end - v_start)
    # END SOLUTION


# %% tags=["check"]
check("01.6")

# %% [markdown]
# Now all three: the curves, one digit at equal steps, and the paths through log SNR. (Where you
# skipped an extra exercise, the course's own function stands in for yours.)

# %%
from undiffuse import schedules as course


def yours_or_the_courses(yours: Callable, theirs: Callable) -> Callable:
    """A function that calls yours, and theirs while yours is not written."""

    def call(*args, **kwargs):
        try:
            return yours(*args, **kwargs)
        except NotImplementedError:
            return theirs(*args, **kwargs)

    return call


sigmoid_curve = yours_or_the_courses(sigmoid_alpha_bar, course.sigmoid_alpha_bar)
sigmoid = alpha_bar_from_betas(betas_from_alpha_bar(sigmoid_curve, T))
schedules = {"linear": linear, "cosine": cosine, "sigmoid": sigmoid}

# %% tags=["figure"]
fig = plots.schedule_curves(schedules)
plots.show(
    fig,
    alt="Alpha-bar over time for three schedules. Linear falls first and is close to 0 for its "
    "last third. Cosine and sigmoid fall evenly and nearly coincide.",
    caption="The share of the variance that is data. With its default numbers the sigmoid is "
    "nearly the cosine; try other values of `start`, `end` and `tau`.",
)

# %% tags=["figure"]
fig = plots.forward_strip(
    [
        torch.cat([with_noise(examples[2:], a[t], example_noise[2:]) for a in schedules.values()])
        for t in moments
    ],
    moments,
    row_labels=tuple(schedules),
    row_name="",
    level_name="step t (T = 1000)",
)
plots.show(
    fig,
    alt="The digit 5 at eight equal steps of three schedules. In each column in the middle "
    "linear is the noisiest; cosine and sigmoid look alike.",
    caption="Columns are equal steps, not equal noise.",
)

# %% tags=["figure"]
fig = plots.log_snr_curves({name: log_snr(a) for name, a in schedules.items()})
plots.show(
    fig,
    alt="Log SNR over time for three schedules, all falling, with a line at 0. Cosine and "
    "sigmoid cross it in the middle, linear long before. Linear is nearly straight; the "
    "other two plunge in their last steps, cosine the deepest.",
    caption="What $\\bar\\alpha$ hides near 0 and 1 shows here: how long each schedule stays at "
    "each noise level. A steep piece means few steps there.",
)

# %% [markdown]
# Move the slider to walk through the steps yourself: one row for each schedule.

# %% tags=["figure"]
plots.schedule_slider(
    lambda name, t: with_noise(examples, schedules[name][t], example_noise),
    T,
    names=tuple(schedules),
    alt="Digits at a step that you choose, a row for each of the schedules linear, cosine and "
    "sigmoid; linear is the noisiest at every step in the middle.",
    caption="Find the step at which you can no longer read the digits, for each row. Compare with "
    "your guess.",
)

# %% [markdown]
# ## A schedule without alpha: EDM's sigmas
#
# Karras et al. leave the data alone and only add noise: $x = x_0 + \sigma\,\varepsilon$. The signal
# has variance 1 and the noise $\sigma^2$, so $\lambda = -2\log\sigma$: another path through the
# same log SNR. Their noise levels for sampling go from the largest to the smallest:
#
# $$\sigma_i = \left(\sigma_{\max}^{1/\rho} + \frac{i}{n-1}
# \left(\sigma_{\min}^{1/\rho} - \sigma_{\max}^{1/\rho}\right)\right)^{\rho},
# \qquad i = 0, \dots, n-1.$$
#
# - $\rho = 1$ spaces the levels evenly; the larger $\rho$, the more of them are small. They use 7.

# %% [markdown]
# <!-- exercise 01.7 -->
# Return the `n` levels (`n` at least 2) as a float32 tensor `(n,)`, from `sigma_max` down to
# `sigma_min`, both included. Samplers want a 0 at the end; whoever samples appends it, so do not.


# %% tags=["answer"] exercise="01.7"
def karras_sigmas(n: int, sigma_min: float, sigma_max: float, rho: float = 7) -> torch.Tensor:
    """n noise levels from sigma_max down to sigma_min, even in sigma ** (1 / rho): float32 (n,).

    0 < sigma_min < sigma_max, n >= 2. Both ends are included; no zero is appended.
    """
    # BEGIN SOLUTION
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.linspace(high, low, n) ** rho
    # END SOLUTION


# %% tags=["check"]
check("01.7")

# %% tags=["figure"]
edm_levels = yours_or_the_courses(karras_sigmas, course.karras_sigmas)
fig = plots.curves(
    {f"rho = {rho}": -2 * torch.log(edm_levels(18, 0.002, 80.0, rho)) for rho in (1, 3, 7)},
    xlabel="level i, from noise to data",
    ylabel="log SNR",
)
fig.axes[0].set_xticks(range(0, 18, 2))
plots.show(
    fig,
    alt="Log SNR of EDM's 18 noise levels, rising from left to right, for rho 1, 3 and 7. With "
    "rho 1 all but the last level stay below 0; with rho 7 they are spread far more evenly.",
    caption="Evenly spaced sigmas ($\\rho = 1$) spend nearly all levels on noise. $\\rho = 7$ "
    "spreads them far more evenly over log SNR.",
)

# %% [markdown]
# ## Does it end in pure noise?
#
# A sampler starts from pure noise. The model was trained on the last step of the schedule. If a
# trace of the data is left there, the two do not match. What is left at the end, as a factor of
# the data, is $\sqrt{\bar\alpha_{T-1}}$:

# %% tags=["compare"]
short = alpha_bar_from_betas(linear_betas(100))  # the same betas, a tenth of the steps
for name, curve in {**schedules, "linear, T = 100": short}.items():
    print(f"{name:16} factor of the data at the end: {curve[-1].sqrt().item():.4f}")

# %% [markdown]
# With $T = 1000$ the linear schedule leaves a little. With $T = 100$ and the same betas it leaves
# most: the steps are too few to destroy the data. (The two ends 0.0001 and 0.02 are made for
# $T = 1000$.)
#
# Can anybody notice? Take the crudest statistic there is, the mean brightness of a picture. Noise
# averages out over pixels, the data's brightness does not. The picture below compares the last
# step of each schedule with pure noise.

# %%
whole, _ = data.digits("train")


def last_step(alpha_bar_end: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Training digits at the last step of a schedule."""
    noise = torch.randn(whole.shape, generator=torch.Generator().manual_seed(seed))
    return with_noise(whole, alpha_bar_end, noise)


def mean_brightness(images: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels of each image: (N,)."""
    return images.flatten(1).mean(dim=1)


pure = torch.randn(whole.shape, generator=torch.Generator().manual_seed(99))
brightness = {
    "noise": mean_brightness(pure),
    "linear, T = 1000": mean_brightness(last_step(linear[-1])),
    "linear, T = 100": mean_brightness(last_step(short[-1])),
}

# %% tags=["figure"]
fig = plots.histogram(brightness, xlabel="mean brightness of a picture at the last step")
plots.show(
    fig,
    alt="Distributions of mean brightness. Pure noise and the linear schedule with 1000 steps "
    "lie almost on top of each other around 0; the linear schedule with 100 steps lies far "
    "to the left, with no overlap.",
    caption="Digits are dark on average. With $T = 100$ every training picture at the last step is "
    "darker than any that the sampler will start from. With $T = 1000$ the shift is there, "
    "but small.",
)

# %% [markdown]
# How small is small? Let a judge say "data" when the mean brightness is nearer to that of the
# data's last step than to that of pure noise. Half of the judgements are right by chance. The leak
# is a fixed shift, while the noise in a mean shrinks with the number of pixels, so the same
# schedule leaks more visibly into larger pictures. The right-hand columns say what that judge
# would reach there, for pictures as dark as ours.

# %%
SIDES = (28, 64, 256, 512)
share_dark = whole.mean().item()
print(f"{'judge is right in':18}{'28, measured':>14}" + "".join(f"{s:>8}" for s in SIDES))
for name, curve in {"linear, T = 1000": linear, "linear, T = 100": short, "cosine": cosine}.items():
    last, noise_only = mean_brightness(last_step(curve[-1])), brightness["noise"]
    middle = (last.mean() + noise_only.mean()) / 2
    right = 0.5 * ((last < middle).float().mean() + (noise_only > middle).float().mean())
    shift = abs(share_dark) * curve[-1].sqrt().item()
    expected = [0.5 * (1 + math.erf(shift * side / 2 / math.sqrt(2))) for side in SIDES]
    print(f"{name:18}{right:>14.1%}" + "".join(f"{e:>8.1%}" for e in expected))

# %% [markdown]
# This is why some large models could not draw a very dark or very bright picture: their last
# training step told them the mean brightness, and the sampler's start, always of mean 0, told them
# "medium". Lin et al. repair the schedule itself. The data is multiplied by
# $r_t = \sqrt{\bar\alpha_t}$, so they shift $r$ down until its last value is 0, and stretch it so
# that its first value is what it was:
#
# $$r'_t = (r_t - r_{T-1})\,\frac{r_0}{r_0 - r_{T-1}}, \qquad \bar\alpha'_t = (r'_t)^2.$$
#
# The new betas follow from the ratios of neighbours, as in 01.4. The last is exactly 1, so the
# last step holds no data at all. (A model that predicts the noise learns nothing there: its input
# *is* the noise. Lesson 02 has the remedy, a target called $v$.)

# %% [markdown]
# <!-- exercise 01.8 -->
# `betas` has shape `(T,)`, `T` at least 2, float32 or float64. Return the betas of the rescaled
# schedule in the same shape and dtype. `betas[0]` comes out as it was, up to rounding; the last
# comes out as 1. Do not change the input. You may call your `alpha_bar_from_betas`.


# %% tags=["answer"] exercise="01.8"
def rescale_zero_terminal_snr(betas: torch.Tensor) -> torch.Tensor:
    """Betas whose alpha-bar starts where it did and ends at exactly 0: (T,), dtype of betas.

    betas: (T,), T >= 2. The root of alpha-bar is shifted, then stretched (Lin et al. 2023, alg. 1).
    """
    # BEGIN SOLUTION
    root = alpha_bar_from_betas(betas).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = root**2
    kept = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return 1 - kept
    # END SOLUTION


# %% tags=["check"]
check("01.8")

# %% tags=["figure"]
rescale = yours_or_the_courses(rescale_zero_terminal_snr, course.rescale_zero_terminal_snr)
repaired = alpha_bar_from_betas(rescale(linear_betas(100)))
fig = plots.schedule_curves(
    {"linear, T = 1000": linear, "linear, T = 100": short, "T = 100, rescaled": repaired}
)
plots.show(
    fig,
    alt="Alpha-bar over the share of steps. Linear with 1000 steps falls to 0. Linear with 100 "
    "steps falls far less. The rescaled schedule with 100 steps begins like it and reaches "
    "0 at the end.",
    caption="The repair bends the short schedule so that it ends in pure noise.",
)

# %% [markdown]
# ## The experiment: where do the steps go?
#
# Back to the claim. A good schedule should spend its steps where something is decided. At the
# start the picture is plainly there, at the end plainly gone; in between lie the noise levels at
# which one digit turns into many.
#
# **The measurement.** At a noise level, train a classifier on noisy training digits and let it
# read *unseen* noisy digits. It sees 30 numbers of each picture, its coordinates along the 30
# directions in which digits differ most (principal components). It fits a normal distribution to
# each kind of digit, and decides for the kind that makes a new picture most likely. Its accuracy
# says how much of the digit can still be told. First along the steps of each schedule, three seeds
# each: a seed draws the training digits and all the noise.
#
# (Standard normal noise has standard normal coordinates along any perpendicular directions of
# length 1. So the noise is added to the 30 coordinates and not to all the pixels: the result is
# the same, and much faster.)

# %%
from sklearn.decomposition import PCA
from torch.distributions import MultivariateNormal

SEEDS = (0, 1, 2)
CHANCE = 0.1
unseen, unseen_labels = data.digits("validation")


def coordinates(known: torch.Tensor, unseen: torch.Tensor, count: int = 30) -> list[torch.Tensor]:
    """Both sets along the principal directions of the first: [(N, count), (M, count)]."""
    known, unseen = known.flatten(1), unseen.flatten(1)
    fitted = PCA(count, svd_solver="randomized", random_state=0).fit(known.numpy())
    directions = torch.from_numpy(fitted.components_).T.float()  # columns: perpendicular, length 1
    return [known @ directions, unseen @ directions]


def readable(
    known: torch.Tensor, unseen: torch.Tensor, level: float, generator: torch.Generator
) -> float:
    """Share of unseen digits, noisy to this log SNR, that are read right."""
    some = torch.randperm(len(known), generator=generator)[: len(known) * 4 // 5]

    def noisy(x: torch.Tensor) -> torch.Tensor:
        alpha_bar = torch.sigmoid(torch.tensor(level))  # log_snr, solved for alpha_bar
        return with_noise(x, alpha_bar, torch.randn(x.shape, generator=generator))

    train, labels, test = noisy(known[some]), known_labels[some], noisy(unseen)
    scores = []
    for digit in range(10):
        own = train[labels == digit]
        scores.append(MultivariateNormal(own.mean(0), torch.cov(own.T)).log_prob(test))
    return (torch.stack(scores).argmax(0) == unseen_labels).float().mean().item()


def readable_at(levels: torch.Tensor, seen: list[torch.Tensor], first_seed: int) -> torch.Tensor:
    """``readable`` at each level, a row for each seed: (seeds, levels)."""
    generators = [torch.Generator().manual_seed(first_seed + seed) for seed in SEEDS]
    return torch.tensor([[readable(*seen, at, g) for at in levels.tolist()] for g in generators])


seen = coordinates(known, unseen)
compared = {**schedules, "linear, T = 100": short}
steps = {name: torch.linspace(0, len(a) - 1, budget(41, 15)).long() for name, a in compared.items()}
along = {name: log_snr(a[steps[name]]).clamp(-20, 20) for name, a in compared.items()}
torch.set_num_threads(1)  # for matrices this small, several threads only wait for each other
accuracy = {
    name: readable_at(path, seen, first_seed=100 * i)
    for i, (name, path) in enumerate(along.items())
}

# %% tags=["figure"]
fig = plots.curves(
    accuracy,
    {name: steps[name] / (len(a) - 1) for name, a in compared.items()},
    xlabel="time, $t/(T-1)$",
    ylabel="digits read right",
    floor=CHANCE,
    floor_name="chance",
)
plots.show(
    fig,
    alt="Accuracy of reading noisy digits over time for four schedules. All start equally high. "
    "Linear falls to chance long before the end, cosine and sigmoid only near it. Linear "
    "with 100 steps hardly falls.",
    caption="How long a digit can be read depends on the schedule. Lines are the median of three "
    "seeds, bands their range.",
)

# %% [markdown]
# The same measurements, drawn over log SNR in place of time (without the very last step, which for
# two of the schedules lies far to the left):

# %% tags=["figure"]
fig = plots.curves(
    {name: values[:, :-1] for name, values in accuracy.items()},
    {name: path[:-1] for name, path in along.items()},
    xlabel="log SNR",
    ylabel="digits read right",
    floor=CHANCE,
    floor_name="chance",
)
plots.show(
    fig,
    alt="The same accuracies over log SNR: the four curves lie on one S-shaped curve, from "
    "chance at low log SNR to the level of clean digits at high log SNR.",
    caption="Four schedules, one curve. What can be told depends on log SNR alone; a schedule only "
    "decides how often each log SNR is visited.",
)

# %% [markdown]
# So measure the curve once, over log SNR, and every schedule's share of steps follows by counting.
# Do it for three sizes of the same digits: averaged down to 14 × 14, as they are, and interpolated
# up to 56 × 56.
#
# Two marks on the curve cut each schedule in three. Let *known* be the accuracy above chance, as a
# share of what the same classifier reaches on clean digits. Steps with *known* above 95 % are
# **clear**, those below 5 % are **lost**, and those in between are **deciding**.

# %%
from torch.nn import functional as F

SIZES = {
    14: lambda x: F.avg_pool2d(x, 2),
    28: lambda x: x,
    56: lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
}
levels = torch.linspace(-11, 7, budget(full=37, small=19))
by_size = {}
for side, resize in SIZES.items():
    seen = coordinates(resize(known), resize(unseen))
    by_size[side] = readable_at(levels, seen, first_seed=1000 * side)

# %% tags=["figure"]
fig = plots.curves(
    {f"{side} × {side}": by_size[side] for side in SIZES},
    levels,
    xlabel="log SNR",
    ylabel="digits read right",
    floor=CHANCE,
    floor_name="chance",
)
plots.show(
    fig,
    alt="Accuracy over log SNR for digits of 14, 28 and 56 pixels a side: three S-shaped curves "
    "of the same form, each shifted to lower log SNR than the next smaller size.",
    caption="The larger the picture, the more noise it stands: neighbouring pixels repeat each "
    "other, and averaging them removes noise.",
)

# %% [markdown]
# Averaging 4 pixels into 1 divides the variance of the noise by 4 and leaves smooth content as it
# is. So twice the side should move the curve by $\log 4$, and $\lambda + 2\log(\text{side}/28)$
# should be a fair axis for all sizes. Hoogeboom et al. shift their schedules for large pictures by
# that amount.

# %% tags=["figure"]
fig = plots.curves(
    {f"{side} × {side}": by_size[side] for side in SIZES},
    {f"{side} × {side}": levels + 2 * math.log(side / 28) for side in SIZES},
    xlabel="log SNR + 2 log(side / 28)",
    ylabel="digits read right",
    floor=CHANCE,
    floor_name="chance",
)
plots.show(
    fig,
    alt="The three curves over log SNR plus 2 log of side over 28: they nearly coincide.",
    caption="One shift, known beforehand, brings the sizes together.",
)

# %% [markdown]
# Now count the steps. Before you run it: which of the two, linear or cosine, will have more
# deciding steps at 14 × 14, and which at 56 × 56?

# %%
import numpy as np

from undiffuse.results import record


def marks(accuracies: torch.Tensor) -> tuple[float, float]:
    """The log SNR above which a digit is clear, and that below which it is lost."""
    best = accuracies[levels > 4].mean()  # hardly any noise
    share_known = (accuracies - CHANCE) / (best - CHANCE)
    rising = torch.cummax(share_known, dim=0).values  # chance may not turn the curve back
    rising = rising + 1e-6 * torch.arange(len(levels))
    lost, clear = np.interp([0.05, 0.95], rising.numpy(), levels.numpy())
    return clear, lost


def split(alpha_bar: torch.Tensor, side: int) -> dict[str, torch.Tensor]:
    """Shares of a schedule's steps, one number for each seed: clear, deciding, lost."""
    path = log_snr(alpha_bar)
    found = [marks(accuracies) for accuracies in by_size[side]]
    clear = torch.stack([(path > high).float().mean() for high, _ in found])
    lost = torch.stack([(path < low).float().mean() for _, low in found])
    return {"clear": clear, "deciding": 1 - clear - lost, "lost": lost}


counted = {(name, side): split(a, side) for name, a in compared.items() for side in SIZES}
rows = []
for (name, side), parts in counted.items():
    row = {"schedule": name, "side": side}
    for part, values in parts.items():
        row[f"{part}, % of steps"] = round(100 * values.mean().item(), 1)
        row[f"sd of {part}"] = round(100 * values.std().item(), 1)
    rows.append(row)

# %% tags=["figure"]
CAPTIONS = {
    "deciding": (
        "Steps in which something is decided. Which schedule has most of them depends on the "
        "size of the picture."
    ),
    "lost": "Steps spent on what nobody can read.",
}
for part, caption in CAPTIONS.items():
    fig = plots.curves(
        {
            name: torch.stack([100 * counted[name, side][part] for side in SIZES], dim=1)
            for name in compared
        },
        list(SIZES),
        xlabel="side of the picture in pixels",
        ylabel=f"{part}, % of steps",
        markers=True,
    )
    fig.axes[0].set_xticks(list(SIZES))
    plots.show(
        fig,
        alt=f"The share of {part} steps over the side of the picture, 14, 28 and 56 pixels, for "
        "four schedules. The numbers are in the table that follows.",
        caption=caption,
    )


# %%
def mean_and_sd(values: torch.Tensor) -> str:
    """Shares of steps over seeds, in words."""
    return f"{100 * values.mean().item():+.0f} points (sd {100 * values.std().item():.1f})"


def linear_against_others(part: str, side: int) -> torch.Tensor:
    """Linear's share of steps minus the mean of cosine's and sigmoid's: one for each seed."""
    others = (counted["cosine", side][part] + counted["sigmoid", side][part]) / 2
    return counted["linear", side][part] - others


lost = linear_against_others("lost", 28)
differ = lost.mean().abs() > 4 * lost.std()
verdict = (
    "proxy only: schedules "
    + ("differ" if differ else "do not differ clearly")
    + " in where they spend their steps. Linear against the mean of cosine and sigmoid: lost steps "
    + f"at 28 × 28 {mean_and_sd(lost)}; deciding steps "
    + ", ".join(
        f"{mean_and_sd(linear_against_others('deciding', side))} at {side} × {side}"
        for side in SIZES
    )
    + ". Whether pictures get better for it is open until models are trained (lesson 05)."
)
_ = record(
    "C1-proxy",
    rows,
    verdict=verdict,
    seeds=SEEDS,
    training_digits=len(known) * 4 // 5,
    test_digits=len(unseen),
)

# %% [markdown]
# **What this does not show.**
#
# - *Readable* is not *good*. The clear steps are where strokes get their edges; a schedule without
#   them would draw blurred digits that can be read well. "Lost" steps are not all useless either:
#   the sampler has to start there.
# - The classifier is a simple one. A better reader would place the marks at lower SNR, by about
#   the same amount for every schedule.
# - A schedule is not fate. Training can draw some steps more often than others, or weigh their
#   loss (lesson 03), and a sampler can choose its steps (lesson 06). Kingma et al. show that with
#   one particular weight, that of the likelihood, only the two *ends* of a schedule change the
#   expected loss.
# - The interpolated 56 × 56 digits hold nothing new. Large photographs do hold new detail, which
#   drowns at higher SNR.
#
# **What would change it.** A data set whose content is fine detail; a classifier trained on far
# more digits; another number of steps (compare the last rows of the table).

# %% [markdown] tags=["remark"]
# **Compare with your guess** (edit this cell).
#
# - At which step did you expect the digit to be unreadable, and where is it? …
# - Was the share of lost steps larger or smaller than you thought? …
# - You are asked for a schedule for 256 × 256 photographs. Which way would you move the curve of
#   log SNR, and by how much? …

# %% [markdown]
# ## What to remember
#
# - Betas are what single steps add; $\bar\alpha$ is what is left after all of them;
#   $\log \frac{\bar\alpha}{1-\bar\alpha}$ is the noise level itself.
# - What can be told from a noisy picture depends on log SNR alone. A schedule decides how many
#   steps each log SNR gets.
# - Larger pictures stand more noise: twice the side moves everything by $\log 4$.
# - Look at the last step: $\sqrt{\bar\alpha_{T-1}}$ is what leaks. Betas made for 1000 steps fail
#   with 100.
#
# **Where it goes next.** Lesson 02 uses these schedules to noise data at any level in one jump,
# and turns one prediction into another.
#
# ## References
#
# - Ho, Jain, Abbeel 2020, [Denoising Diffusion Probabilistic
#   Models](https://arxiv.org/abs/2006.11239): the linear schedule.
# - Nichol, Dhariwal 2021, [Improved Denoising Diffusion Probabilistic
#   Models](https://arxiv.org/abs/2102.09672): the cosine schedule (equation 17).
# - Kingma, Salimans, Poole, Ho 2021, [Variational Diffusion
#   Models](https://arxiv.org/abs/2107.00630): log SNR, and what does not depend on the schedule.
# - Karras, Aittala, Aila, Laine 2022, [Elucidating the Design Space of Diffusion-Based Generative
#   Models](https://arxiv.org/abs/2206.00364): EDM's noise levels (equation 5).
# - Jabri, Fleet, Chen 2022, [Scalable Adaptive Computation for Iterative
#   Generation](https://arxiv.org/abs/2212.11972), and Chen 2023, [On the Importance of Noise
#   Scheduling for Diffusion Models](https://arxiv.org/abs/2301.10972): the sigmoid schedule, and
#   schedules for larger pictures.
# - Hoogeboom, Heek, Salimans 2023, [simple diffusion: End-to-end diffusion for high resolution
#   images](https://arxiv.org/abs/2301.11093): the shift of log SNR with size.
# - Lin, Liu, Li, Yang 2023, [Common Diffusion Noise Schedules and Sample Steps are
#   Flawed](https://arxiv.org/abs/2305.08891): zero terminal SNR.
