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
# # 02 · Forward diffusion
# <!-- lesson-header -->
#
# A diffusion model learns to undo noise. Before anything can be undone, it has to be done: this
# lesson adds the noise. You will be able to
#
# - take one small step of noise, and jump over any number of steps at once,
# - show by measurement that the jump and the steps are the same in distribution,
# - get the data back when the noise is known, and say how an error in the noise grows on the way,
# - explain the target *v*, which many models predict in place of the noise,
# - take one step back when the end is known, which is what sampling will imitate.
#
# You need lesson 01 (`betas`, `alpha_bar`) and, for the fifth point, the primer below.

# %% tags=["setup"]
import math

import torch

from coursework import check, hint
from undiffuse import budget, data, listen, plots, schedules

# %% [markdown]
# Two kinds of data go through everything: handwritten digits, and a sound, a plucked string of a
# quarter of a second, computed by the next cell. The schedule is the linear one of lesson 01.
#
# **Time counts from 0, as Python does.** `alpha_bar[0]` belongs to the state after the first step,
# `alpha_bar[T - 1]` to the last. The symbol $x_0$ always means the clean data, which have had no
# step at all. (Papers call the states $x_1, \dots, x_T$; our index $t$ is theirs minus one. The
# state after the first step, their $x_1$, is our $x_t$ at $t = 0$.)

# %%
RATE = 8000  # samples of sound a second


def pluck(length: int = 2000, pitch: float = 220.0) -> torch.Tensor:
    """A plucked string, (length,) float32 in [-1, 1]: overtones, the higher the sooner gone."""
    time = torch.arange(length, dtype=torch.float64) / RATE
    tone = sum(
        torch.exp(-time * 6 * k) * torch.sin(2 * math.pi * pitch * k * time) / k
        for k in range(1, 7)
    )
    return (tone / tone.abs().max()).float()


digits, labels = data.digits("train", 600)  # (600, 1, 28, 28) in [-1, 1]
sound = pluck()
T = 1000
betas = schedules.linear_betas(T, dtype=torch.float64)
alpha_bar = schedules.alpha_bar_from_betas(betas)


def gaussian(mean: float, variance: float):
    """The density of a normal distribution, as a function of a tensor or an array."""
    return lambda x: (
        torch.exp(-((torch.as_tensor(x) - mean) ** 2) / (2 * variance))
        / math.sqrt(2 * math.pi * variance)
    )


# %% [markdown]
# ## Your guesses first
#
# Nothing has run yet. Write down what you expect; you will meet each answer below.

# %% [markdown] tags=["remark"]
# 1. The linear schedule takes a digit apart in 1,000 steps. From which $t$ on can you no longer
#    tell which digit it was? My guess:
# 2. You want the state after 300 steps. Is one big step with the right amount of noise the same as
#    300 small ones: the same picture, the same distribution, or neither? My guess:
# 3. A network tells you the noise in $x_t$ with an error of 5 %. How large is the error of the
#    $x_0$ that follows from it, at $t = 100$ and at $t = 999$? My guess:
# 4. Which sinks below the noise first, the digit or the plucked string? My guess:

# %% [markdown]
# ## Primer: Gaussians and Bayes' rule
#
# This part is not graded. If all three facts are known to you, look at the picture and go on.
#
# $\mathcal N(m, s^2)$ is the normal distribution, or Gaussian, with mean $m$ and variance $s^2$.
#
# **Scaling.** If $x$ has mean $m$ and variance $s^2$, then $c\,x$ has mean $c\,m$ and variance
# $c^2 s^2$. To give a standard normal number the variance $\beta$, you multiply it by
# $\sqrt\beta$. Most mistakes in this lesson are a root that is missing here.
#
# **Sums.** For independent $x$ and $y$ the means add up, and so do the variances (not the standard
# deviations). If both are Gaussian, so is the sum.
#
# **Products of densities.** Bayes' rule says: what you believe about $x$ after you have seen $y$ is
# proportional to what you believed before, times how well each $x$ explains $y$:
#
# $$p(x \mid y) \propto p(x)\, p(y \mid x).$$
#
# If both factors are Gaussian in $x$, with means $m_1, m_2$ and variances $s_1^2, s_2^2$, the
# product is Gaussian too. Its *precision* (one over the variance) is the sum of the precisions,
# and its mean is the mean of $m_1$ and $m_2$ weighted with the precisions:
#
# $$\frac{1}{s^2} = \frac{1}{s_1^2} + \frac{1}{s_2^2}, \qquad
# m = s^2 \left( \frac{m_1}{s_1^2} + \frac{m_2}{s_2^2} \right).$$
#
# In the next cell, $x$ has mean 0 and variance 1. We see $y = x$ plus noise of variance 0.36, and
# the $y$ we saw was 1.5. The cell does what the rule only writes down: it draws many pairs
# $(x, y)$, and keeps those whose $y$ came out at 1.5, within 0.05.

# %% tags=["figure"]
g = torch.Generator().manual_seed(0)
x = torch.randn(400_000, generator=g, dtype=torch.float64)
y = x + 0.6 * torch.randn(len(x), generator=g, dtype=torch.float64)
kept = x[(y - 1.5).abs() < 0.05]

variance = 1 / (1 / 1.0 + 1 / 0.36)
mean = variance * (0.0 / 1.0 + 1.5 / 0.36)
print(f"variances add up: 1 + 0.36 = 1.36, measured {y.var():.3f}")
print(f"kept {len(kept)} of {len(x)} pairs: mean {kept.mean():.3f}, variance {kept.var():.3f}")
print(f"product of the two densities: mean {mean:.3f}, variance {variance:.3f}")
fig = plots.histogram(
    {"x of the kept pairs": kept},
    density={
        "before: N(0, 1)": gaussian(0.0, 1.0),
        "how x explains y: N(1.5, 0.36)": gaussian(1.5, 0.36),
        "product": gaussian(mean, variance),
    },
    limits=(-3, 4),
    xlabel="x",
    roles={"x of the kept pairs": "data", "product": "expected"},
)
plots.show(
    fig,
    alt="A wide bell around 0, a narrower one around 1.5, and their normalised product, narrower "
    "than both and between them. The histogram of the kept pairs lies on the product.",
    caption="The product lies between its factors, nearer to the narrower one, and is narrower "
    "than both: two sources together say more than one. The pairs that were kept follow it.",
)

# %% [markdown]
# ## One small step
#
# One step of the forward process makes $x_t$ from $x_{t-1}$. It shrinks what is there a little, and
# adds a little noise (the first one, $t = 0$, starts from the clean data):
#
# $$x_t = \sqrt{1 - \beta_t}\; x_{t-1} + \sqrt{\beta_t}\; \varepsilon,
# \qquad \varepsilon \sim \mathcal N(0, I).$$
#
# Here $\beta_t$ (`beta`) is the variance of the noise that step $t$ adds, and $\varepsilon$
# (`noise`) is standard normal, drawn anew for each pixel and each step.
#
# Why shrink at all? Variances add up. If $x_{t-1}$ has variance 1, the sum has variance
# $(1 - \beta_t) \cdot 1 + \beta_t = 1$: the step exchanges data for noise at a constant total. A
# network that gets the result as its input sees numbers of one size at every $t$.
#
# Each sample of a batch may have a $\beta$ of its own. Then `beta` has shape `(B,)` and has to act
# along the first axis. torch lines shapes up from the *last* axis, so a plain `beta * x` scales the
# wrong axis, or crashes.

# %% [markdown]
# <!-- exercise 02.1 -->
#
# Write the step for images `(B, C, H, W)` and sound `(B, C, L)`, with one beta for all samples or
# one for each. The first line is given: it makes a tensor of a plain number.


# %% tags=["answer"] exercise="02.1"
def q_step(x_prev: torch.Tensor, beta: float | torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """One step of the forward process: x_t from x_{t-1}.

    x_prev: samples, (B, C, L) or (B, C, H, W), or any shape (B, ...). Not to be changed in place.
    beta: variance of the added noise, 0 < beta < 1: a number or a 0-d tensor (the same for all
        samples), or a tensor (B,), one for each sample.
    noise: standard normal, same shape as x_prev. Use it; draw nothing yourself.
    Returns x_t, same shape and dtype as x_prev.
    """
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    # BEGIN SOLUTION
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta).sqrt() * x_prev + beta.sqrt() * noise
    # END SOLUTION


# %% tags=["check"]
check("02.1")

# %% [markdown]
# Now let it run. The next cell takes three digits through all 1,000 steps, one after the other, and
# shows some of the states on the way. Compare with your first guess.

# %% tags=["figure"]
stops = [0, 50, 100, 200, 300, 400, 600, 999]


def walk(x0: torch.Tensor, stops: list[int], seed: int) -> dict[int, torch.Tensor]:
    """The states at ``stops`` of a walk of small steps from x0 (B, ...): {t: x_t}."""
    generator = torch.Generator().manual_seed(seed)
    states, x = {}, x0
    for t in range(max(stops) + 1):
        x = q_step(x, betas[t], torch.randn(x.shape, generator=generator))
        if t in stops:
            states[t] = x
    return states


shown = torch.stack([digits[labels == k][0] for k in (2, 5, 8)])
states = walk(shown, stops, seed=0)
fig = plots.forward_strip(
    [shown, *states.values()],
    ["clean", *stops],
    row_labels=["2", "5", "8"],
    row_name="digit",
)
plots.show(
    fig,
    alt="Three digits from clean to pure noise. They are plain at t = 100, hard to read at "
    "t = 300, and no trace is seen from about t = 600 on.",
    caption="Each column follows from the one before by many small steps. Long before the last "
    "column there is nothing left to see.",
)

# %% [markdown]
# The function never asked how many axes there are. The same line takes the sound apart:

# %% tags=["figure"]
sound_stops = [10, 50, 150]
sound_states = walk(sound[None, None], sound_stops, seed=1)
clips = {"clean": sound} | {f"t = {t}": x[0, 0] for t, x in sound_states.items()}
fig = plots.waveforms(clips, RATE, roles={"clean": "data"})
plots.show(
    fig,
    alt="Four waveforms: a decaying pluck, and the same at t = 10, 50 and 150. The tail is rough "
    "at t = 10, fades into noise at t = 50, and at t = 150 only the first peaks rise above it.",
    caption="The loud start outlives the quiet tail: noise has the same strength everywhere, the "
    "sound has not.",
)

# %% [markdown]
# Listen to the four clips one after the other. **Turn the volume down first: noise is loud.** You
# hear a pluck that decays, and then the same pluck in more and more hiss. In the last one you
# still hear its pitch, though the waveform hardly shows it. The end of this lesson says why.

# %%
words = ["A pluck that decays", "The pluck in hiss", "In more hiss", "Hiss, with a pitch in it"]
quiet = {name: 0.15 * clip.clamp(-3, 3) for name, clip in clips.items()}
listen.sounds(
    quiet,
    RATE,
    texts={n: f"{w}. {listen.describe(c, RATE)}" for w, (n, c) in zip(words, quiet.items())},
    caption="The pluck, with more and more noise",
)

# %% [markdown]
# ## Any noise level in one jump
#
# Training needs $x_t$ at random $t$, millions of times. To walk there step by step would be slow.
# Put the first two steps together and see what happens, with $\alpha_t = 1 - \beta_t$:
#
# $$x_1 = \sqrt{\alpha_1}\,\big(\sqrt{\alpha_0}\, x_0 + \sqrt{\beta_0}\, \varepsilon_0\big)
# + \sqrt{\beta_1}\, \varepsilon_1
# = \sqrt{\alpha_0 \alpha_1}\, x_0
# + \underbrace{\sqrt{\alpha_1 \beta_0}\, \varepsilon_0 + \sqrt{\beta_1}\, \varepsilon_1}_{
# \text{variance } \alpha_1 (1 - \alpha_0) + 1 - \alpha_1 \;=\; 1 - \alpha_0 \alpha_1}.$$
#
# The two noises are independent Gaussians, so their sum is one Gaussian, and its variance is one
# minus the product of the $\alpha$. The same happens at each further step. With
# $\bar\alpha_t = \alpha_0 \cdots \alpha_t$ (`alpha_bar`, lesson 01):
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \varepsilon.$$
#
# $\bar\alpha_t$ is the share of the variance that is still data, $1 - \bar\alpha_t$ the share that
# is noise.

# %% [markdown]
# <!-- exercise 02.2 -->
#
# Write the jump. Each sample goes to a time of its own, `t` has shape `(B,)`. If the schedule is
# float64 and the data float32 (as here), the result is float32: a network with float32 weights
# takes nothing else.


# %% tags=["answer"] exercise="02.2"
def q_sample(
    x0: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """x_t for clean samples, each at its own time.

    x0: clean samples, (B, C, L) or (B, C, H, W), or any shape (B, ...). Not changed in place.
    t: int64 (B,), 0-based index into alpha_bar, one for each sample, in any order.
    alpha_bar: (T,), cumulative products of 1 - beta; of x0's dtype or float64.
    noise: standard normal, same shape as x0. Use it; draw nothing yourself.
    Returns x_t, same shape and dtype as x0.
    """
    # BEGIN SOLUTION
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise
    # END SOLUTION


# %% tags=["check"]
check("02.2")

# %% [markdown]
# With a jump, one call makes a whole table: every row a digit, every column a time, nothing walked.
# All pictures of a row share their noise, so that only its amount changes.

# %% tags=["figure"]
g = torch.Generator().manual_seed(2)
times = torch.tensor([0, 50, 100, 200, 300, 400, 600, 999])
noise = torch.randn(shown.shape, generator=g)
levels = [q_sample(shown, t.expand(len(shown)), alpha_bar, noise) for t in times]
fig = plots.forward_strip(
    [shown, *levels], ["clean", *times.tolist()], row_labels=["2", "5", "8"], row_name="digit"
)
plots.show(
    fig,
    alt="The same three digits at the same times as before, each made by one jump. The amount of "
    "noise in each column is that of the walk; the grain is another.",
    caption="Compare with the walk above: other grain, same amount of noise at each time.",
)

# %% [markdown]
# ### Is it really the same?
#
# The two strips are not the same pictures: other noise was drawn. The claim is about the
# *distribution*: from one clean $x_0$, walk to time $t$ many times, jump there equally often, and
# the two clouds of results have the same mean and the same variance at every pixel.
#
# Means of finitely many samples never agree exactly. The question is whether they differ by more
# than chance allows. So each difference is divided by its *standard error*, the deviation that
# chance gives it. Over all pixels, the root mean square of these ratios is about 1 if the clouds
# are the same, and larger if they are not.
#
# A test that cannot fail shows nothing. So a third cloud is compared too: a jump to $t - 20$,
# wrong by 20 steps.


# %%
def off_by(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float]:
    """Differences of means and of variances of two clouds (n, places), in standard errors (RMS)."""
    n = len(a)
    va, vb = a.var(0), b.var(0)
    means = (a.mean(0) - b.mean(0)) / ((va + vb) / n).sqrt()
    variances = (va - vb) / (2 * (va**2 + vb**2) / (n - 1)).sqrt()
    return means.square().mean().sqrt().item(), variances.square().mean().sqrt().item()


def jump(x0: torch.Tensor, t: int, seed: int) -> torch.Tensor:
    """x_t of every sample in x0, all at the same t."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    return q_sample(x0, torch.full((len(x0),), t), alpha_bar, noise)


n, seeds, looked_at = budget(full=500, small=100), (0, 1, 2), [100, 300, 600]
subjects = {"digit": shown[:1], "sound": sound[None, None, :600]}
clouds, ratios, alarms = {}, {"same t": [], "20 steps short": []}, 0
print(f"{n} walks and {n} jumps a seed; differences in standard errors, 1.00 expected by chance")
print(
    f"{'':6} {'t':>4}   {'seeds 0, 1, 2: mean':22} {'variance':22} 20 steps short: mean, variance"
)
for name, x0 in subjects.items():
    many = x0.expand(n, *x0.shape[1:])
    chance = math.sqrt(0.5 / x0.numel())  # deviation of the RMS over this many places
    rows = {t: [] for t in looked_at}
    for seed in seeds:
        walked = walk(many, looked_at, seed=100 + seed)
        for t in looked_at:
            jumped = jump(many, t, seed=200 + seed).flatten(1)
            short = jump(many, t - 20, seed=300 + seed).flatten(1)
            clouds.setdefault((name, t), []).append((walked[t].flatten(1), jumped))
            same, late = off_by(walked[t].flatten(1), jumped), off_by(jumped, short)
            rows[t].append((*same, *late))
            alarms += sum(abs(r - 1) > 4 * chance for r in same)
    for t in looked_at:
        m, v, late_m, late_v = zip(*rows[t])
        texts = [" ".join(f"{r:6.2f}" for r in part) for part in (m, v)]
        print(
            f"{name:6} {t:4}   {texts[0]:22} {texts[1]:22} "
            f"{sum(late_m) / 3:6.2f} {sum(late_v) / 3:6.2f}"
        )
tests = 2 * len(seeds) * len(looked_at) * len(subjects)
verdict = "no difference was found" if alarms == 0 else f"{alarms} differ more than chance allows"
print(f"verdict: of {tests} comparisons of walk and jump, {verdict}")

# %% [markdown]
# Read the last two columns as well: they show what the same test says when something *is* wrong,
# and how the difference fades with $t$. Late in the process 20 steps more or less change nothing
# that can be seen.
#
# What would change the result? Means and variances would agree for *any* independent noise of
# variance 1. The whole distribution agrees because sums of Gaussians are Gaussian. Noise that is
# not independent from step to step, or a schedule that looks at the data, would break the jump.
#
# One pixel in detail, all seeds together:

# %% tags=["figure"]
walked, jumped = (torch.cat(parts) for parts in zip(*clouds["digit", 100]))
pixel = int(shown[0].flatten().argmax())  # a pixel of ink
level = float(alpha_bar[100])
value = float(shown[0].flatten()[pixel])
fig = plots.histogram(
    {"101 small steps": walked[:, pixel], "one jump": jumped[:, pixel]},
    density={"exact": gaussian(math.sqrt(level) * value, 1 - level)},
    bins=20,
    xlabel="value of the pixel at t = 100",
    roles={"101 small steps": "data", "one jump": "model"},
)
plots.show(
    fig,
    alt="Histograms of one pixel at t = 100 after many walks and after many jumps, both scattered "
    "about the same exact bell curve with its centre a little below 1.",
    caption="Walks, jumps and the formula agree. The centre has moved from 1 to "
    r"$\sqrt{\bar\alpha_t}$.",
)

# %% [markdown] tags=["remark"]
# What did you find, and what was your guess (2)? The same $x_0$ was jumped and walked, with
# different pictures as a result. In one sentence: in which sense are they the same?

# %% [markdown]
# ## Back to the data, given the noise
#
# The jump is one equation with three quantities: $x_0$, $\varepsilon$ and $x_t$. Whoever knows two
# knows the third. A network that predicts the noise, as most do, predicts the clean data too.

# %% [markdown]
# <!-- exercise 02.3 -->
#
# Solve the equation of the jump for $x_0$. Nothing is clamped: if the noise is not the true one,
# the result may lie outside $[-1, 1]$, and you will want to see that.


# %% tags=["answer"] exercise="02.3"
def x0_from_eps(
    x_t: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, eps: torch.Tensor
) -> torch.Tensor:
    """The x0 that gives x_t together with the noise eps.

    x_t: noisy samples (B, ...), images or sound. Not changed in place.
    t: int64 (B,), 0-based. alpha_bar: (T,), above 0, of x_t's dtype or float64.
    eps: the noise, known or predicted, same shape as x_t.
    Returns x0, same shape and dtype as x_t, not clamped.
    """
    # BEGIN SOLUTION
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - ab).sqrt() * eps) / ab.sqrt()
    # END SOLUTION


# %% tags=["check"]
check("02.3")

# %% [markdown]
# With the true noise you get $x_0$ back at every $t$. A network's noise is not quite true. The next
# cell adds an error to the noise, with a root mean square of 0.05, and measures the error of
# $x_0$. Before you run it: what does your formula say about how the error grows?

# %% tags=["figure"]
curve_times = torch.unique(torch.linspace(0, T - 1, 60).long())
batch = digits[: budget(full=64, small=16)]


def error_of_x0(seed: int, off: float = 0.05) -> torch.Tensor:
    """Root mean square error of x0 at each of ``curve_times``, the noise being off by ``off``."""
    g = torch.Generator().manual_seed(seed)
    errors = []
    for t in curve_times:
        ts = t.expand(len(batch))
        noise = torch.randn(batch.shape, generator=g)
        x_t = q_sample(batch, ts, alpha_bar, noise)
        wrong = noise + off * torch.randn(batch.shape, generator=g)
        errors.append((x0_from_eps(x_t, ts, alpha_bar, wrong) - batch).square().mean().sqrt())
    return torch.stack(errors)


measured = torch.stack([error_of_x0(seed) for seed in (0, 1, 2)])
ab = alpha_bar[curve_times]
fig = plots.curves(
    {"measured": measured, "expected": 0.05 * ((1 - ab) / ab).sqrt()},
    curve_times,
    xlabel="t",
    ylabel="error of x0 (root mean square)",
    log_y=True,
    floor=1.0,
    floor_name="as large as the data",
    roles={"measured": "model"},
)
plots.show(
    fig,
    alt="The error of x0 on a logarithmic scale. It climbs from far below the error of the noise "
    "to several times the size of the data at the last t; measurement and formula coincide.",
    caption=r"The error of the noise is multiplied by $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$. "
    "Three seeds; their spread is thinner than the line.",
)
for t in (100, 999):
    i = int((curve_times - t).abs().argmin())
    m = measured[:, i]
    print(f"t = {curve_times[i]}: {m.mean():.4f} (from {m.min():.4f} to {m.max():.4f}, 3 seeds)")

# %% [markdown]
# $x_t$ contains $x_0$ multiplied by $\sqrt{\bar\alpha_t}$. To bring it back to full size you divide
# by that, and with it grows whatever is wrong. Late in the process a small error in the noise is an
# error in $x_0$ larger than the data. In pictures, with the same error of 0.05 at each time:

# %% tags=["figure"]
g = torch.Generator().manual_seed(4)
picked = [50, 300, 500, 700, 850, 999]
seen, recovered = [], []
for t in picked:
    ts = torch.full((1,), t)
    noise = torch.randn(shown[:1].shape, generator=g)
    x_t = q_sample(shown[:1], ts, alpha_bar, noise)
    wrong = noise + 0.05 * torch.randn(noise.shape, generator=g)
    seen.append(x_t)
    recovered.append(x0_from_eps(x_t, ts, alpha_bar, wrong))
fig = plots.forward_strip(
    [torch.cat(pair) for pair in zip(seen, recovered)], picked, row_labels=["$x_t$", "$x_0$ back"],
    row_name="",
)  # fmt: skip
plots.show(
    fig,
    alt="Upper row: a digit in more and more noise. Lower row: the digit recovered with noise that "
    "is off by five per cent: clean at t = 50 to 500, grainy at 700, a ghost at 850, lost at 999.",
    caption="Below: $x_0$ from noise that is wrong by 5 %. Where you see nothing in $x_t$, knowing "
    "the noise almost exactly still gives the digit; at the very end not even that helps.",
)

# %% [markdown]
# ## A target that is never too easy
#
# What should a network be asked for? The noise has the weakness you just saw: at large $t$ its
# errors explode. Moreover it becomes too easy there: $x_t$ is nearly all noise, and to copy the
# input is a good answer. To ask for $x_0$ is too easy at the other end: at small $t$ the input is
# nearly $x_0$.
#
# Salimans and Ho propose a mixture of both, called $v$:
#
# $$v = \sqrt{\bar\alpha_t}\; \varepsilon - \sqrt{1 - \bar\alpha_t}\; x_0.$$
#
# The two factors are those of $x_t$, exchanged, one with a minus. Their squares add up to 1, so
# there is an angle $\varphi$ with $\cos\varphi = \sqrt{\bar\alpha_t}$ and
# $\sin\varphi = \sqrt{1 - \bar\alpha_t}$: the pair $(x_0, \varepsilon)$ is turned by $\varphi$ and
# becomes $(x_t, v)$. $v$ is what stands at a right angle to $x_t$: what $x_t$ does *not* tell. (It
# is also the derivative of $x_t$ with respect to $\varphi$, a velocity, hence the letter.)

# %% [markdown]
# <!-- exercise 02.4 -->
#
# Write the target $v$.


# %% tags=["answer"] exercise="02.4"
def v_target(
    x0: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """v = sqrt(alpha_bar[t]) noise - sqrt(1 - alpha_bar[t]) x0, each sample at its own time.

    x0, noise: clean samples and the noise that goes in, both (B, ...), images or sound.
    t: int64 (B,), 0-based. alpha_bar: (T,), of x0's dtype or float64.
    Returns v, same shape and dtype as x0.
    """
    # BEGIN SOLUTION
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * noise - (1 - ab).sqrt() * x0
    # END SOLUTION


# %% tags=["check"]
check("02.4")

# %% [markdown]
# How easy is each target? Take the best multiple of the input, $c\,x_t$, as the answer, which needs
# no learning, and measure the share of the target's power that it explains. The digits are scaled
# to a mean square of 1 for this.

# %% tags=["figure"]
unit = digits[:256] / digits[:256].square().mean().sqrt()


def explained(target: torch.Tensor, x_t: torch.Tensor) -> float:
    """Share of the target's mean square that the best multiple of x_t explains."""
    c = (target * x_t).mean() / x_t.square().mean()
    return float(1 - (target - c * x_t).square().mean() / target.square().mean())


easy = {"noise": [], "x0": [], "v": []}
for seed in (0, 1, 2):
    g = torch.Generator().manual_seed(seed)
    runs = {name: [] for name in easy}
    for t in curve_times:
        ts, noise = t.expand(len(unit)), torch.randn(unit.shape, generator=g)
        x_t = q_sample(unit, ts, alpha_bar, noise)
        targets = {"noise": noise, "x0": unit, "v": v_target(unit, ts, alpha_bar, noise)}
        for name, target in targets.items():
            runs[name].append(explained(target, x_t))
    for name in easy:
        easy[name].append(runs[name])
fig = plots.curves(
    {name: torch.tensor(runs) for name, runs in easy.items()},
    curve_times,
    xlabel="t",
    ylabel="share explained by a multiple of x_t",
    roles={"noise": "noise", "x0": "data", "v": "model"},
)
plots.show(
    fig,
    alt="Share of each target that a multiple of the input explains. For the noise it rises from 0 "
    "to 1 with t, for x0 it falls from 1 to 0, for v it is 0 at every t.",
    caption="The noise is given away at large $t$, $x_0$ at small $t$, $v$ nowhere. Three seeds.",
)

# %% [markdown]
# That holds if the data have a mean square of 1, as the noise has. The mean square of $v$ is
# $\bar\alpha_t \cdot 1 + (1 - \bar\alpha_t) \cdot \overline{x_0^2}$: constant if both agree. Data
# that are too quiet give a target that changes its size with $t$:

# %% tags=["figure"]
quiet = sound[None, None].expand(64, 1, -1)
sources = {"digits, mean square 1": unit, "digits as they are": digits[:256], "sound": quiet}
sizes = {name: [] for name in sources}
for name, x0 in sources.items():
    for seed in (0, 1, 2):
        g = torch.Generator().manual_seed(seed)
        run = [
            v_target(x0, t.expand(len(x0)), alpha_bar, torch.randn(x0.shape, generator=g))
            for t in curve_times
        ]
        sizes[name].append([float(v.square().mean()) for v in run])
    print(f"{name:22} mean square of the data: {x0.square().mean():.3f}")
fig = plots.curves(
    {name: torch.tensor(runs) for name, runs in sizes.items()},
    curve_times,
    xlabel="t",
    ylabel="mean square of v",
    roles={"digits, mean square 1": "expected"},
)
plots.show(
    fig,
    alt="Mean square of v over t: constant at 1 for digits scaled to mean square 1, falling a "
    "little for digits as they are, and falling almost to 0 for the quiet sound.",
    caption="The whole process presumes data about as strong as the noise. For the sound, the "
    "target nearly vanishes where there is much noise. Three seeds, thinner than the lines.",
)

# %% [markdown]
# <!-- exercise 02.5 -->
#
# Now the way back: the noise and the data out of $x_t$ and $v$. Both come out without a division.
# That is why an error of $v$ does not explode.


# %% tags=["answer"] exercise="02.5"
def eps_from_v(
    x_t: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """The noise in x_t when v is known: same shape and dtype as x_t.

    x_t, v: (B, ...), images or sound; v as in 02.4.
    t: int64 (B,), 0-based. alpha_bar: (T,), of x_t's dtype or float64.
    """
    # BEGIN SOLUTION
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return (1 - ab).sqrt() * x_t + ab.sqrt() * v
    # END SOLUTION


def x0_from_v(
    x_t: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """The clean data in x_t when v is known: same conventions as eps_from_v."""
    # BEGIN SOLUTION
    ab = alpha_bar[t].to(x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
    return ab.sqrt() * x_t - (1 - ab).sqrt() * v
    # END SOLUTION


# %% tags=["check"]
check("02.5")

# %% tags=["figure"]
try:
    x0_from_v(digits[:1], torch.tensor([0]), alpha_bar, digits[:1])
    back_from_v = x0_from_v
except NotImplementedError:  # 02.5 is an extra: without it the library's function stands in
    from undiffuse.process import x0_from_v as back_from_v

growth = {"noise": [], "v": []}
for seed in (0, 1, 2):
    g = torch.Generator().manual_seed(seed)
    runs = {name: [] for name in growth}
    for t in curve_times:
        ts, noise = t.expand(len(batch)), torch.randn(batch.shape, generator=g)
        x_t = q_sample(batch, ts, alpha_bar, noise)
        v = v_target(batch, ts, alpha_bar, noise)
        off = 0.05 * torch.randn(batch.shape, generator=g)
        by_noise = x0_from_eps(x_t, ts, alpha_bar, noise + off) - batch
        by_v = back_from_v(x_t, ts, alpha_bar, v + off) - batch
        runs["noise"].append(float(by_noise.square().mean().sqrt()))
        runs["v"].append(float(by_v.square().mean().sqrt()))
    for name in growth:
        growth[name].append(runs[name])
fig = plots.curves(
    {f"{name} off by 0.05": torch.tensor(runs) for name, runs in growth.items()},
    curve_times,
    xlabel="t",
    ylabel="error of x0 (root mean square)",
    log_y=True,
    roles={"noise off by 0.05": "noise", "v off by 0.05": "model"},
)
plots.show(
    fig,
    alt="Error of x0 over t on a logarithmic scale, for the same error in the noise and in v. Both "
    "rise together at first; that of v stays at 0.05, that of the noise climbs to several units.",
    caption=r"An error of $v$ arrives in $x_0$ multiplied by $\sqrt{1-\bar\alpha_t}$, which is "
    "never above 1.",
)

# %% [markdown]
# Does that make $v$ the better target? Not by itself: a network's errors are not the same for every
# target and every $t$, and the loss can be weighted. Lesson 03 counts exactly what each target
# weighs.

# %% [markdown]
# ## One step back, when the end is known
#
# To make data, one has to walk back: from $x_t$ to $x_{t-1}$. How is $x_{t-1}$ distributed when
# $x_t$ is known? Without more, nobody can say: it depends on what data there are. But if $x_0$ is
# known as well, Bayes' rule gives it exactly. Two facts about $x_{t-1}$ come together:
#
# - from $x_0$ by a jump: $x_{t-1} \sim \mathcal N(\sqrt{\bar\alpha_{t-1}}\, x_0,\;
#   1 - \bar\alpha_{t-1})$,
# - from $x_t$, which was made of it by a step: seen as a function of $x_{t-1}$, the density of
#   $x_t = \sqrt{\alpha_t}\, x_{t-1} + \sqrt{\beta_t}\,\varepsilon$ is a Gaussian around
#   $x_t / \sqrt{\alpha_t}$ with variance $\beta_t / \alpha_t$.
#
# Both are Gaussian in $x_{t-1}$. Multiply them as in the primer. The precisions add up to
#
# $$\frac{1}{\tilde\beta_t} = \frac{1}{1 - \bar\alpha_{t-1}} + \frac{\alpha_t}{\beta_t}
# = \frac{1 - \bar\alpha_t}{(1 - \bar\alpha_{t-1})\,\beta_t},$$
#
# where $\beta_t + \alpha_t (1 - \bar\alpha_{t-1}) = 1 - \bar\alpha_t$ was used. So
# $q(x_{t-1} \mid x_t, x_0)$, the *posterior*, has
#
# $$\text{variance}\quad \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\, \beta_t,
# \qquad \text{mean}\quad \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\,
# x_0 + \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t.$$
#
# Sampling (lesson 06) takes this step with the network's guess in place of $x_0$.
#
# One edge needs care. At our $t = 0$, the state one step earlier is the clean data. Nothing has
# been added yet, so $\bar\alpha_{-1} = 1$. Then the mean is $x_0$ and the variance is 0: there is
# nothing left to guess.

# %% [markdown]
# <!-- exercise 02.6 -->
#
# Write both. `t` is 0-based: `betas[t]` is the beta of the step that led to `x_t`. Mind the index
# one step earlier.


# %% tags=["answer"] exercise="02.6"
def posterior_mean_variance(
    x0: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor, betas: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of q(x_{t-1} | x_t, x0).

    x0, x_t: (B, ...), images or sound. Not changed in place.
    t: int64 (B,), 0-based; t = 0 is allowed, and alpha_bar one step before it is 1.
    betas: (T,), each in (0, 1), of x0's dtype or float64. Compute the factors in its dtype.
    Returns (mean, variance): mean of x0's shape, variance of shape (B,), both of x0's dtype.
    """
    # BEGIN SOLUTION
    alpha_bar = torch.cumprod(1 - betas, 0)
    one_earlier = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    beta, ab, ab_prev = betas[t], alpha_bar[t], one_earlier[t]
    on_x0 = ab_prev.sqrt() * beta / (1 - ab)
    on_x_t = (1 - beta).sqrt() * (1 - ab_prev) / (1 - ab)
    variance = beta * (1 - ab_prev) / (1 - ab)
    shape = (-1, *[1] * (x0.ndim - 1))
    mean = on_x0.to(x0.dtype).reshape(shape) * x0 + on_x_t.to(x0.dtype).reshape(shape) * x_t
    return mean, variance.to(x0.dtype)
    # END SOLUTION


# %% tags=["check"]
check("02.6")

# %% [markdown]
# ### Against a simulation
#
# A formula this long deserves a test that does not use it. In one dimension you can simply look:
# start a great many walks at the same $x_0 = 0.8$, with ten coarse steps. Keep those that happen to
# be near 0.3 at time $t$. Where were they one step before?

# %% tags=["figure"]
coarse = torch.linspace(0.02, 0.3, 10, dtype=torch.float64)
x0_value, seen_value = 0.8, 0.3


def one_before(t: int, seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_{t-1}, x_t) of those of n walks from x0_value that end within 0.02 of seen_value."""
    g = torch.Generator().manual_seed(seed)
    x = torch.full((n, 1), x0_value, dtype=torch.float64)
    for beta in coarse[: t + 1]:
        before = x
        x = q_step(x, beta, torch.randn(x.shape, generator=g, dtype=torch.float64))
    near = (x - seen_value).abs().squeeze(1) < 0.02
    return before[near, 0], x[near, 0]


walks = budget(full=1_000_000, small=200_000)
one = torch.ones(1, 1, dtype=torch.float64)
print(" t  seed  kept    mean measured   yours     variance measured  yours     off by (mean, var)")
worst = 0.0
for t in (1, 4, 9):
    m, v = posterior_mean_variance(x0_value * one, seen_value * one, torch.tensor([t]), coarse)
    for seed in (0, 1, 2):
        before, _ = one_before(t, seed, walks)
        k = len(before)
        se_m, se_v = (before.var() / k).sqrt(), before.var() * math.sqrt(2 / (k - 1))
        off_m, off_v = (before.mean() - m.item()) / se_m, (before.var() - v.item()) / se_v
        worst = max(worst, abs(off_m), abs(off_v))
        print(
            f"{t:2}  {seed:4} {k:6}  {before.mean():7.4f} ± {se_m:.4f}  {m.item():7.4f}   "
            f"{before.var():7.4f} ± {se_v:.4f}   {v.item():7.4f}   {off_m:5.1f} {off_v:5.1f}"
        )
agree = "agree with" if worst < 4 else "differ from"
print(f"verdict: yours {agree} the simulation (largest difference {worst:.1f} standard errors)")

before, _ = one_before(4, 0, walks)
m, v = posterior_mean_variance(x0_value * one, seen_value * one, torch.tensor([4]), coarse)
level = float(torch.cumprod(1 - coarse, 0)[3])
fig = plots.histogram(
    {"simulated": before},
    density={
        "yours: x0 and x_t known": gaussian(m.item(), v.item()),
        "x0 alone known": gaussian(math.sqrt(level) * x0_value, 1 - level),
    },
    limits=(-1, 2.3),
    xlabel="x one step before t = 4",
    roles={"simulated": "data", "yours: x0 and x_t known": "model", "x0 alone known": "bound"},
)
plots.show(
    fig,
    alt="Histogram of the states one step before, among walks that pass near 0.3 at t = 4. Your "
    "Gaussian lies on it. The one for x0 alone is wider and lies further right.",
    caption="The walks that were kept, your Gaussian, and the wider one of those who know $x_0$ "
    "but have not seen $x_t$.",
)

# %% [markdown]
# The differences are given in standard errors; chance alone makes most of them smaller than 2. (The
# window of 0.02 adds a little variance of its own, too little to be seen at this number of walks.)
#
# One practical matter. Near $t = 0$ the formula divides small differences such as
# $1 - \bar\alpha_t$, and float32 knows numbers near 1 to seven digits only. To compute the factors
# in float64 and round at the end costs nothing. What is lost when the betas alone are float32:

# %%
few = torch.tensor([1, 10, 100, 999])
nothing = torch.zeros(len(few), 1, dtype=torch.float64)
_, exact = posterior_mean_variance(nothing, nothing, few, betas)
_, rounded = posterior_mean_variance(nothing, nothing, few, betas.float())
for t, relative in zip(few.tolist(), ((rounded - exact) / exact).abs().tolist()):
    print(f"t = {t:3}: variance from float32 betas is off by {relative:.0e} of its size")

# %% [markdown]
# ## When does the signal sink below the noise?
#
# The *signal-to-noise ratio* at time $t$ is the ratio of variances in $x_t$:
#
# $$\mathrm{SNR}(t) = \frac{\bar\alpha_t}{1 - \bar\alpha_t} \quad\text{for data of mean square 1,}
# \qquad P\, \frac{\bar\alpha_t}{1 - \bar\alpha_t} \quad\text{for data of mean square } P.$$
#
# It only falls. With a function that says when it has fallen to a given value, schedules and kinds
# of data can be compared.

# %% [markdown]
# <!-- exercise 02.7 -->
#
# Find the first step at which the SNR (for data of mean square 1) is at or below a value.
# `alpha_bar` may begin with 1 (no noise yet, an infinite SNR) and end with 0.


# %% tags=["answer"] exercise="02.7"
def steps_to_snr(alpha_bar: torch.Tensor, snr: float) -> int:
    """First t whose SNR, alpha_bar[t] / (1 - alpha_bar[t]), is at or below snr.

    alpha_bar: (T,), never rising, between 1 and 0, both included. t is 0-based.
    snr: above 0, a plain ratio of variances (no logarithm, no decibels, no root).
    Returns a Python int; T (the length of alpha_bar) when no t is low enough.
    """
    # BEGIN SOLUTION
    low = alpha_bar / (1 - alpha_bar) <= snr
    return int(low.nonzero()[0]) if low.any() else len(alpha_bar)
    # END SOLUTION


# %% tags=["check"]
check("02.7")

# %% [markdown]
# For data of mean square $P$ you ask for `snr / P`. The table shows the first $t$, of 1,000, at
# which the noise is as strong as the signal, and the first at which it is a hundred times as
# strong. Compare with your fourth guess.

# %% tags=["compare"]
try:
    steps_to_snr(alpha_bar, 1.0)
    first_step = steps_to_snr
except NotImplementedError:  # 02.7 is an extra: without it the library's function stands in
    from undiffuse.process import steps_to_snr as first_step

unit_time = torch.arange(1, T + 1, dtype=torch.float64) / T
all_schedules = {
    "linear": alpha_bar,
    "cosine": schedules.cosine_alpha_bar(unit_time),
    "sigmoid": schedules.sigmoid_alpha_bar(unit_time),
}
powers = {"digits": float(digits.square().mean()), "sound": float(sound.square().mean())}
for kind, power in powers.items():
    print(f"{kind}, mean square {power:.2f}")
    for name, ab in all_schedules.items():
        equal, drowned = first_step(ab, 1 / power), first_step(ab, 0.01 / power)
        print(f"    {name:8} signal = noise at t = {equal:3}, noise 100 times at t = {drowned:3}")

# %% [markdown]
# The sound is weak: most of the clip is the quiet tail. It sinks early, and a model spends most of
# its steps on noise. Scale data to a mean square near 1 before anything else; lesson 11 returns to
# this for sound.
#
# But the SNR of a pixel is not all. The eye averages neighbouring pixels, and a network does too.
# An average over $n$ pixels that show the same keeps the signal and divides the variance of the
# noise by $n$. A large picture has many pixels that show the same. Here is one digit at 28 pixels a
# side, and the same blown up to 112 *before* the same amount of noise goes in:

# %% tags=["figure"]
g = torch.Generator().manual_seed(7)
small_digit = shown[2:3]
large_digit = small_digit.repeat_interleave(4, -1).repeat_interleave(4, -2)
large_times = [100, 200, 300, 400, 500]
columns = []
for t in large_times:
    ts = torch.full((1,), t)
    small_noise = torch.randn(small_digit.shape, generator=g)
    large_noise = torch.randn(large_digit.shape, generator=g)
    small_x = q_sample(small_digit, ts, alpha_bar, small_noise)
    small_x = small_x.repeat_interleave(4, -1).repeat_interleave(4, -2)
    columns.append(torch.cat([small_x, q_sample(large_digit, ts, alpha_bar, large_noise)]))
fig = plots.forward_strip(
    columns, large_times, row_labels=["28 pixels", "112 pixels"], row_name="size"
)
plots.show(
    fig,
    alt="A digit at five times, above with 28 pixels a side, below with 112. At t = 300 and 400 "
    "the small one is lost in noise while the large one is still read.",
    caption="Same schedule, same $t$, same SNR of each pixel: the larger picture is destroyed "
    "later.",
)
power = powers["digits"]
for side in (28, 56, 112, 224):
    t = first_step(alpha_bar, 1 / (power * (side / 28) ** 2))
    print(f"{side:3} pixels: signal = noise in blocks that show the same at t = {t} of {T}")

# %% [markdown]
# So a schedule that is right for small images leaves too much of large ones: it has to be shifted
# towards more noise as the number of pixels grows.
#
# The same holds for sound, along frequency. White noise has equal power at every frequency; the
# pluck has all of its power at a few. There it stands out long after the waveform shows nothing,
# and there your ear found it:

# %% tags=["figure"]
fig = plots.spectra(clips, RATE, roles={"clean": "data"})
plots.show(
    fig,
    alt="Spectra of the clean pluck and of its noisy states. The clean one has six peaks at "
    "multiples of 220 hertz. With noise the floor rises and covers the weaker peaks first; the "
    "strongest, at 220 hertz, still stands out at t = 150.",
    caption="Noise fills the spectrum evenly from below and covers the weak parts first. In images "
    "and sounds those are the high frequencies: fine detail goes first, and comes back last.",
)

# %% [markdown] tags=["remark"]
# Which of your four guesses were off, and which measurement changed your mind?

# %% [markdown]
# ## What to remember
#
# - $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon$: one jump has the same
#   distribution as all small steps up to $t$. Factors are roots of variances.
# - Of $x_0$, $\varepsilon$, $v$ and $x_t$, any two give the others. An error of $\varepsilon$
#   reaches $x_0$ multiplied by $\sqrt{(1 - \bar\alpha_t)/\bar\alpha_t}$, one of $v$ by at most 1.
# - $q(x_{t-1} \mid x_t, x_0)$ is the product of two Gaussians; at $t = 0$ it is $x_0$ itself.
# - The process presumes data of mean square 1, and large pictures need more noise than small ones.
#
# **Where it goes next.** Lesson 03 asks for the best possible guess of $x_0$ from $x_t$, which for
# some data can be computed exactly; lesson 06 walks back with the step of 02.6.
#
# ## References
#
# - Ho, Jain, Abbeel 2020, [Denoising diffusion probabilistic models](https://arxiv.org/abs/2006.11239):
#   eq. 2 (one step), eq. 4 (the jump), eq. 6 and 7 (the posterior).
# - Salimans, Ho 2022, [Progressive distillation](https://arxiv.org/abs/2202.00512), section 4 and
#   appendix D: the target $v$ and the angle.
# - Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli 2015,
#   [Deep unsupervised learning using nonequilibrium thermodynamics](https://arxiv.org/abs/1503.03585):
#   where the forward process comes from.
# - Chen 2023, [On the importance of noise scheduling](https://arxiv.org/abs/2301.10972), and
#   Hoogeboom, Heek, Salimans 2023, [Simple diffusion](https://arxiv.org/abs/2301.11093): why large
#   images need more noise.
