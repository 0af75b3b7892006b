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
# # 04 · The U-Net
# <!-- lesson-header -->
#
# A denoiser takes a noisy picture and a time, and guesses what was there before the noise. Lesson
# 03 computed the best one from the data themselves. Now a network is to learn it. You build, piece
# by piece, the network that most diffusion models began with, and measure what each piece is good
# for. You will be able to
#
# - say how much of a picture a denoiser has to see at which noise level, and show it,
# - write a time embedding, a residual block, attention, and the way down and up in size,
# - put them together for any size, odd ones too, and count parameters and arithmetic,
# - measure what skips, attention and transposed convolutions do,
# - test the claim that the network *is* a U-Net.
#
# You need lesson 02 (`q_sample`, the target $v$), and from torch `nn.Module` and convolutions.

# %% tags=["setup"]
import math
import time

import torch
import torch.nn.functional as F
from torch import nn

from coursework import check, hint
from undiffuse import budget, data, plots, schedules

# %% [markdown]
# ## A claim to test
#
# Tutorials say:
#
# > C6. The network is a U-Net of convolutions and transposed convolutions.
#
# Is that a fact about diffusion, or a habit? At the end five networks may do the same amount of
# arithmetic on the same digits, and then four on sound. Write down what you expect before anything
# runs.

# %% [markdown] tags=["remark"]
# **Your guesses** (edit this cell).
#
# 1. To clean one pixel of a digit, how wide a window around it does one need: with little noise? …
#    With so much noise that you can hardly read the digit? …
# 2. A U-Net's skips are cut. How much does its loss suffer: not at all, a little, a lot? …
# 3. Five networks get the same computing: a plain stack of convolutions, a network of fully
#    connected layers, a U-Net with and without transposed convolutions, and one without skips.
#    From best to worst I expect: …

# %% [markdown]
# ## What a denoiser has to see
#
# Forget networks for a moment. Take one pixel of a noisy digit and guess its clean value from a
# window of $w \times w$ noisy pixels around it. The best guess that is a weighted sum of these
# pixels (plus a constant) can be computed from means and covariances of the data, as in lesson 03:
#
# $$\hat x_0 = m + \sqrt{\bar\alpha}\; c^{\top}
# \big( \bar\alpha\, C + (1 - \bar\alpha)\, I \big)^{-1} (y - \sqrt{\bar\alpha}\; m_w).$$
#
# - $y$: the noisy pixels of the window, $m_w$ their clean mean, $C$ their clean covariance;
# - $m$: the mean of the pixel itself, $c$ its covariances with those of the window;
# - $\bar\alpha$: the share of the data in the mix of lesson 02, $1 - \bar\alpha$ that of the noise;
# - $I$: the identity matrix, as noise is independent from pixel to pixel.
#
# The next cell does this for many pixels, four noise levels and six windows, and measures the error
# on digits that were not used for the means and covariances.

# %%
known, _ = data.digits("train")  # (5000, 1, 28, 28) in [-1, 1]
others, _ = data.digits("reference", budget(full=1000, small=300))


def window(row: int, column: int, width: int, side: int = 28) -> torch.Tensor:
    """Indices, in a flattened picture, of the window around one pixel, cut off at the border."""
    reach = width // 2
    rows = torch.arange(max(0, row - reach), min(side, row + reach + 1))
    columns = torch.arange(max(0, column - reach), min(side, column + reach + 1))
    return (rows[:, None] * side + columns).flatten()


def window_error(width: int, alpha_bar: float, seed: int, places: list) -> float:
    """Mean squared error of the best linear guess, divided by that of guessing the mean."""
    g = torch.Generator().manual_seed(seed)
    clean = others.flatten(1).double()
    noise = torch.randn(clean.shape, generator=g, dtype=torch.float64)
    noisy = alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise
    error = spread = 0.0
    for row, column in places:
        seen, here = window(row, column, width), 28 * row + column
        total = alpha_bar * covariance[seen][:, seen] + (1 - alpha_bar) * torch.eye(len(seen))
        weights = torch.linalg.solve(total, alpha_bar**0.5 * covariance[seen, here])
        guess = mean[here] + (noisy[:, seen] - alpha_bar**0.5 * mean[seen]) @ weights
        error += float((guess - clean[:, here]).square().mean())
        spread += float((clean[:, here] - mean[here]).square().mean())
    return error / spread


flat = known.flatten(1).double()
mean, covariance = flat.mean(0), torch.cov(flat.T)
places = [(r, c) for r in range(8, 21, budget(full=4, small=6)) for c in range(8, 21, 4)]
widths, shares = [1, 3, 5, 9, 15, 27], [0.9, 0.5, 0.1, 0.02]
errors = {
    f"alpha_bar {share}": torch.tensor(
        [[window_error(w, share, seed, places) for w in widths] for seed in (0, 1, 2)]
    )
    for share in shares
}

# %% tags=["figure"]
gains = {  # of what the whole picture brings beyond the pixel itself, each window's share
    name: (error[:, :1] - error) / (error[:, :1] - error[:, -1:]) for name, error in errors.items()
}
fig = plots.curves(
    gains,
    widths,
    xlabel="width of the window, in pixels",
    ylabel="share of the whole picture's help",
    markers=True,
)
plots.show(
    fig,
    alt="How much of the whole picture's help a window brings, over its width, for four noise "
    "levels. With little noise nearly all is reached at a width of 3; the more noise, the later "
    "the curve gets there, and with the most noise only near the whole picture.",
    caption="0 is the pixel alone, 1 the whole picture. With little noise the neighbours say all "
    "there is to know; with much noise far parts of the digit still help. Three draws of noise.",
)
for name, gain in gains.items():
    enough = widths[int((gain.mean(0) >= 0.9).int().argmax())]
    low = errors[name][:, -1].mean()
    print(f"{name:14}: nine tenths of the help from a window of {enough:2}; "
          f"the whole picture leaves {low:.2f} of the variance")  # fmt: skip

# %% [markdown]
# One network has to serve all noise levels. So it needs both at once: **local detail** at full
# size, to clean the last bit of noise without blurring an edge, and a **global view**, to decide
# which digit it is when single pixels say little. The U-Net is an answer to just that: a way down,
# on which pictures get smaller and views wider, a way up, and *skips* that carry the detail across.
#
# It also needs to know *how much* noise there is, and that is where we start.

# %% [markdown]
# ## A time as many waves
#
# The network gets the time $t$ as a further input. As a single number it is of little use: a linear
# layer makes a straight line of it, and $t = 3$ and $t = 9$, where the right thing to do differs,
# are nearly the same number on a scale of 1000.
#
# So $t$ is turned into a row of waves, fast ones and slow ones, like the hands of a clock:
#
# $$\big(\cos \omega_0 t, \dots, \cos \omega_{h-1} t,\; \sin \omega_0 t, \dots,
# \sin \omega_{h-1} t\big), \qquad \omega_i = P^{-i/h} = \exp\!\big(-\ln(P)\, i / h\big).$$
#
# - $h$: half the number of columns, `dim // 2`;
# - $\omega_i$: the frequencies, from $\omega_0 = 1$ down to nearly $1/P$, by equal factors;
# - $P$: `max_period`, 10000 where nothing else is said.
#
# The fast waves tell neighbours apart, the slow ones tell early from late.

# %% [markdown]
# <!-- exercise 04.1 -->
#
# Write the embedding. **All cosines come first, then all sines.** An odd `dim` ends with a column
# of zeros. `t` may hold whole steps of any integer type, or continuous times. Use it as it comes:
# scaling is up to whoever calls.


# %% tags=["answer"] exercise="04.1"
def timestep_embedding(t: torch.Tensor, dim: int, max_period: float = 10000.0) -> torch.Tensor:
    """Cosines, then sines, of t at dim // 2 frequencies: (B, dim).

    t: (B,), integers or floats. dim: at least 2; if odd, the last column is zero.
    Frequencies: exp(-ln(max_period) i / (dim // 2)) for i = 0, 1, ..., in radians for a unit of t.
    Computed and returned in float32, but in float64 if t is float64.
    """
    # BEGIN SOLUTION
    half = dim // 2
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=dtype) / half)
    angles = t.to(dtype)[:, None] * frequencies
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    return F.pad(embedding, (0, dim % 2))
    # END SOLUTION


# %% tags=["check"]
check("04.1")

# %% [markdown]
# A picture of it: each row is the embedding of one $t$.

# %% tags=["figure"]
from matplotlib.figure import Figure


def sheet(
    values: dict[str, torch.Tensor],
    xlabel: str,
    ylabel: str,
    bottom: float = -1.0,
    top: float = 1.0,
) -> Figure:
    """Matrices side by side, as grey: white is ``top`` and above, black ``bottom`` and below."""
    fig = Figure(figsize=(7.0, 3.2 if len(values) < 3 else 2.5), dpi=100, layout="constrained")
    for i, (name, value) in enumerate(values.items()):
        ax = fig.add_subplot(1, len(values), i + 1)
        shown = ax.imshow(value, aspect="auto", cmap="gray", vmin=bottom, vmax=top)
        ax.set_xlabel(xlabel)
        ax.set_title(name, fontsize=10)
        if i == 0:
            ax.set_ylabel(ylabel)
    fig.colorbar(shown, ax=fig.axes, shrink=0.8)
    return fig


fig = sheet(
    {
        "t = 0 to 999": timestep_embedding(torch.arange(1000), 64),
        "t = 0 to 49": timestep_embedding(torch.arange(50), 64),
    },
    "column of the embedding",
    "t",
)
plots.show(
    fig,
    alt="Two grey maps, rows being t and columns the 64 entries. In each half the leftmost columns "
    "change from row to row, those further right more and more slowly, the last not at all.",
    caption="Left half cosines, right half sines. Fast columns are all that changes among "
    "neighbours (right picture); slow ones order the whole range (left picture).",
)

# %% [markdown]
# What does that buy? Take three functions of $t$ that a denoiser could need, and let *one linear
# layer* produce each: from $t$ alone, from its powers, and from its embedding. The layer is fitted
# to half of the times and tested on the other half.

# %%
steps = torch.arange(1000, dtype=torch.float64)
share = schedules.cosine_alpha_bar((steps + 1) / 1001)
wanted = {
    "size of the noise": (1 - share).sqrt(),
    "log SNR": torch.log(share / (1 - share)),
    "a switch at t = 40": torch.tanh((steps - 40) / 8),
}
inputs = {
    "t alone": torch.stack([torch.ones(1000), steps / 1000], dim=1),
    "t to the powers 0 to 8": (steps / 500 - 1)[:, None] ** torch.arange(9),
    "embedding, dim 64": timestep_embedding(steps, 64),
}
print("share of the variance missed, on times not fitted to (seeds 0, 1, 2)")
for target, y in wanted.items():
    for name, columns in inputs.items():
        missed = []
        for seed in (0, 1, 2):
            order = torch.randperm(1000, generator=torch.Generator().manual_seed(seed))
            fit, test = order[:500], order[500:]
            ridge = 1e-6 * torch.eye(columns.shape[1], dtype=torch.float64)
            a = columns[fit]
            weights = torch.linalg.solve(a.T @ a + ridge, a.T @ y[fit])
            off = (columns[test] @ weights - y[test]).square().mean()
            missed.append(float(off / y[test].var()))
        print(f"{target:20} {name:24} {'  '.join(f'{m:8.3%}' for m in missed)}")

# %% [markdown]
# $t$ alone gives a straight line, and misses. Powers of $t$ follow what is smooth over the whole
# range, and miss what happens within a few steps. The waves do well on both. A network makes still
# more of them, as it is not linear.
#
# ## A block that can leave things alone
#
# The working part of the network is the **residual block**. It computes a change and adds it to
# what came in:
#
# ```
#  x ────────────────────────── skip ──────────────────────────┐
#  └─ norm1 ─ SiLU ─ conv1 ─ (+) ─ norm2 ─ SiLU ─ conv2 ───── (+) ── out
#                             │
#  emb ─── SiLU ─── self.emb ─┘
# ```
#
# - `norm1`, `norm2`: **group normalisation**. It brings groups of channels of each sample to mean 0
#   and variance 1, then scales and shifts them by learned numbers. Unlike batch normalisation, one
#   sample never sees another.
# - **SiLU**: $x \cdot \mathrm{sigmoid}(x)$, a smooth relative of ReLU.
# - `emb`: the embedding of time, and later of class and text. `self.emb` is a linear layer that
#   makes one number for each channel of it; that number is added at every place.
# - `skip`: the identity, or where the number of channels changes, a convolution of width 1.
#
# Why a shortcut? Often the best thing a layer can do is little. A layer that first has to *learn*
# to pass on its input wastes itself on that. And a gradient that has to go through every layer on
# its way back is changed by each; along the shortcut it arrives as it was.

# %% [markdown]
# <!-- exercise 04.2 -->
#
# The constructor is given; do not change it. Write `forward`, in the order of the drawing: each
# convolution gets what a normalisation and then a SiLU have prepared, the embedding goes through a
# SiLU and `self.emb`, and is added between `conv1` and `norm2`.


# %% tags=["answer"] exercise="04.2"
class ResBlock(nn.Module):
    """Two convolutions beside a shortcut; the embedding of the time is added in between."""

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(4, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.emb = nn.Linear(emb_dim, out_channels)
        self.norm2 = nn.GroupNorm(4, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        """x: (B, in_channels, H, W); emb: (B, emb_dim). Neither is changed in place.

        Returns (B, out_channels, H, W).
        """
        # BEGIN SOLUTION
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.emb(F.silu(emb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h
        # END SOLUTION


# %% tags=["check"]
check("04.2")

# %% [markdown]
# What does the shortcut do for the gradient? The next cell chains up to 24 blocks with fresh random
# weights, sends a gradient in at the end, and looks at what arrives at the beginning. Does it still
# point the same way? The cosine between the two is 1 if it does, and near 0 if nothing of its
# direction is left. (For the chain without shortcuts, each block's shortcut is taken off its
# output.)


# %%
def gradient_kept(depth: int, shortcut: bool, seed: int) -> float:
    """Cosine of the gradients at the input and at the output of ``depth`` random blocks."""
    torch.manual_seed(seed)
    chain = [ResBlock(16, 16, 8) for _ in range(depth)]
    x = torch.randn(4, 16, 8, 8, requires_grad=True)
    emb, h = torch.randn(4, 8), x
    for block in chain:
        h = block(h, emb) if shortcut else block(h, emb) - block.skip(h)
    at_output = torch.randn(h.shape)
    h.backward(at_output)
    return float(F.cosine_similarity(x.grad.flatten(), at_output.flatten(), dim=0))


depths = [1, 2, 4, 8, 16, 24]
fig = plots.curves(
    {
        name: torch.tensor(
            [[gradient_kept(d, shortcut, seed) for d in depths] for seed in (0, 1, 2)]
        )
        for name, shortcut in (("with the shortcut", True), ("without", False))
    },
    depths,
    xlabel="blocks",
    ylabel="cosine of the gradients at both ends",
    markers=True,
)
plots.show(
    fig,
    alt="Cosine between the gradient at the output and that at the input, over the number of "
    "blocks. With the shortcut it falls slowly from nearly 1; without, it is near 0 from the "
    "first block on.",
    caption="With shortcuts an early block still hears what the end wants of it. Three seeds.",
)

# %% [markdown]
# ## Every place looks at every other
#
# A convolution of width 3 sees the next neighbours. It takes many of them to get from one end of a
# picture to the other, and what arrives has been mixed with everything on the way. **Attention**
# gets there in one step: every place asks a question, and gets a weighted mean of what all places
# have to say.
#
# For each place, three vectors are computed from its channels: a **query** $q$ (what it looks for),
# a **key** $k$ (what it offers to be found by) and a **value** $v$ (what it says):
#
# $$h_i = \sum_j w_{ij}\, v_j, \qquad
# w_{ij} = \operatorname{softmax}_j \left( \frac{q_i \cdot k_j}{\sqrt d} \right).$$
#
# - $i, j$: places, $j$ running over all of them; the softmax makes the weights of each $i$ positive
#   and lets them add up to 1;
# - $d$: the number of channels of $q$. A sum of $d$ products of independent numbers of mean 0 and
#   variance 1 has variance $d$: the root brings the scores back to variance 1.
#
# The channels are shared out among several **heads**, each of which does this on its own, so that a
# place can look for several things. At the end a convolution of width 1 (`proj`) mixes what the
# heads found, and a shortcut adds the input, as before.
#
# The price: the scores are (places × places). At 7 × 7 that is nothing; at 256 × 256 it would be
# four billion numbers for each head and picture. So attention stands where pictures are small.

# %% [markdown]
# <!-- exercise 04.3 -->
#
# Write `forward`: `norm`, then `qkv`, then attention, then `proj`, and the shortcut around all.
# The channels of `self.qkv`'s output come in the order **(3, heads, C / heads)**: first all
# queries, then all keys, then all values; within each, the channels of the first head, then of the
# second. Places go row by row, as `reshape(..., H * W)` has them. `proj` gets the heads' channels
# side by side in the same order.


# %% tags=["answer"] exercise="04.3"
class SelfAttention2d(nn.Module):
    """Every place of a picture looks at every other, in several heads, beside a shortcut."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, C, H, W), C divisible by the heads; not changed in place. Returns the same shape.

        Scores are divided by the root of C / heads. Scores of several hundred must do no harm.
        """
        # BEGIN SOLUTION
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.mT.unbind(dim=1)  # each (B, heads, places, C / heads); mT: last two swapped
        scores = q @ k.mT / math.sqrt(c // self.heads)
        h = scores.softmax(dim=-1) @ v
        return x + self.proj(h.mT.reshape(x.shape))
        # END SOLUTION


# %% tags=["check"]
check("04.3")

# %% [markdown]
# ### A task that needs it
#
# In these pictures two places are special. Somewhere on the left there is a *switch*, which is on
# (+1) or off (-1), and somewhere on the right a *lamp*. At the lamp, the network is to say what the
# switch says. That takes hardly any computing. It takes looking somewhere else.
#
# Two small networks are trained: convolutions alone, and the same with one attention in the middle.
# (Their convolutions have no normalisation in between: group normalisation takes means over the
# whole picture, and so carries a little of everything everywhere.)


# %%
def lights(n: int, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(pictures (n, 2, 12, 12), places of the lamps (n,) in a flattened picture, states (n,))."""
    x = torch.zeros(n, 2, 12 * 12)
    state = 2.0 * torch.randint(0, 2, (n,), generator=g) - 1
    rows = torch.randint(0, 12, (2, n), generator=g)
    columns = torch.randint(0, 4, (2, n), generator=g)
    lamp = 12 * rows[1] + 8 + columns[1]
    x[torch.arange(n), 0, 12 * rows[0] + columns[0]] = state
    x[torch.arange(n), 1, lamp] = 1.0
    return 3 * x.reshape(n, 2, 12, 12), lamp, state


def light_network(attention: bool, seed: int) -> nn.Module:
    """Three convolutions of width 3 and one of width 1, with or without attention in between."""
    torch.manual_seed(seed)
    middle = [SelfAttention2d(16)] if attention else []
    return nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1), nn.SiLU(),
        *middle, nn.Conv2d(16, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 1, 1),
    )  # fmt: skip


def learn_lights(attention: bool, seed: int, steps: int) -> tuple[nn.Module, float]:
    """(trained network, share of new pictures in which the lamp is right)."""
    network, g = light_network(attention, seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        x, lamp, state = lights(32, g)
        out = network(x).flatten(1).gather(1, lamp[:, None])[:, 0]
        loss = (out - state).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, lamp, state = lights(budget(full=500, small=100), g)
    with torch.no_grad():
        out = network(x).flatten(1).gather(1, lamp[:, None])[:, 0]
    return network, float((out.sign() == state).float().mean())


light_steps, right, light_nets = budget(full=60, small=12), {}, {}
for name, attention in (("convolutions", False), ("attention", True)):
    runs = [learn_lights(attention, seed, light_steps) for seed in (0, 1, 2)]
    light_nets[name], right[name] = runs[0][0], [r for _, r in runs]
    print(f"{name:13} right in {', '.join(f'{r:.1%}' for r in right[name])} (3 seeds)")

# %% [markdown]
# Where did each network look? For the convolutions, the gradient of the output at the lamp tells
# on which places it depends. For attention, the weights $w_{ij}$ tell, with the lamp as place $i$:
# a picture for each head.


# %% tags=["figure"]
def weights_of(block: SelfAttention2d, x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """What each head looks at from one place of each picture: (B, heads, H, W)."""
    n, d = len(x), x.shape[1] // block.heads
    both = block.qkv(block.norm(x)).unflatten(1, (3, block.heads, d)).flatten(4)
    asks = both[torch.arange(n), 0, :, :, place]
    fits = torch.einsum("bhd,bhdk->bhk", asks, both[:, 1])
    return (fits / math.sqrt(d)).softmax(-1).unflatten(2, x.shape[2:])


pictures, lamps, _ = lights(3, torch.Generator().manual_seed(5))
x = pictures.clone().requires_grad_()
light_nets["convolutions"](x).flatten(1).gather(1, lamps[:, None]).sum().backward()
local = x.grad.abs().sum(1)
with torch.no_grad():
    heads = weights_of(light_nets["attention"][4], light_nets["attention"][:4](pictures), lamps)
maps = [local, *heads.unbind(1)]
both = (pictures / 3).abs().sum(1)
fig = plots.forward_strip(
    [2 * both - 1, *(2 * m / m.amax((1, 2), keepdim=True) - 1 for m in maps)],
    ["picture", "convolutions", "head 1", "head 2", "head 3", "head 4"],
    row_labels=["1", "2", "3"],
    row_name="",
    level_name="switch (left) and lamp (right), and where each network looks from the lamp",
)
plots.show(
    fig,
    alt="Three rows. First column: two white pixels, one in the left third, one in the right. "
    "Second: for convolutions alone, a square around the lamp. Then the four heads of attention: "
    "some of them are bright at the switch, or at a place beside it.",
    caption="Convolutions see a square around the lamp. Some heads of attention find the switch, "
    "wherever it is.",
)

# %% [markdown]
# ## Half the size, and back
#
# To see far at little cost, the network makes pictures smaller: a convolution with **stride 2**
# moves by two places at a time. Every later convolution then reaches twice as far, at a quarter of
# the cost. Sizes are rounded up: 28 → 14 → 7 → 4, and 15 → 8.
#
# On the way back, values are repeated until the picture has the size of the skip that waits there,
# and a convolution smooths. That size has to be told: from 4 the way may lead to 7 in one picture,
# and to 8 in another.

# %% [markdown]
# <!-- exercise 04.4 -->
#
# Two short ones. All that matters is the borders.
#
# - `Downsample`: its convolution has *no* padding. Put **one ring of zeros** around x, on all four
#   sides, then convolve.
# - `Upsample`: first bring x to `size`, so that place `i` of the enlarged picture shows place
#   `i // 2` of x, along both axes. Then convolve.


# %% tags=["answer"] exercise="04.4"
class Downsample(nn.Module):
    """Halves height and width, rounding up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, C, H, W). Returns (B, C, ceil(H / 2), ceil(W / 2))."""
        # BEGIN SOLUTION
        return self.conv(F.pad(x, (1, 1, 1, 1)))
        # END SOLUTION


class Upsample(nn.Module):
    """Repeats values up to a given size, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """x: (B, C, h, w); size: (H, W), where H is 2 h or 2 h - 1 and W is 2 w or 2 w - 1.

        Returns (B, C, H, W).
        """
        # BEGIN SOLUTION
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
        # END SOLUTION


# %% tags=["check"]
check("04.4")

# %% [markdown]
# ### Why not a transposed convolution?
#
# The claim speaks of **transposed convolutions**. They enlarge in one layer: each input place lays
# a copy of the kernel, times its value, into the output. The copies lie 2 places apart, and add up
# where they overlap. With a kernel of 3 that is uneven: some output places get one term, some two,
# some four. The result is a checkerboard, even where the input is the same everywhere.
#
# To measure it, a picture of ones goes through kernels with random weights. We look at the four
# kinds of output places (even or odd row, even or odd column), away from the border.


# %%
def enlarge(kind: str, x: torch.Tensor, kernels: int, seed: int) -> torch.Tensor:
    """x (1, 1, h, w) enlarged by ``kernels`` random kernels, to (kernels, 2 h, 2 w)."""
    torch.manual_seed(seed)
    if kind == "repeat, convolve":
        weight = torch.randn(kernels, 1, 3, 3) / 3
        return F.conv2d(F.interpolate(x, scale_factor=2), weight, padding=1)[0]
    k = 3 if kind.endswith("3") else 4
    weight = torch.randn(1, kernels, k, k) / k
    return F.conv_transpose2d(x, weight, stride=2, padding=1, output_padding=4 - k)[0]


kinds = ("transposed, kernel 3", "transposed, kernel 4", "repeat, convolve")
even = torch.ones(1, 1, 16, 16)
print("mean square of the output, by row and column: even/even, even/odd, odd/even, odd/odd")
unevenness = {}
for kind in kinds:
    unevenness[kind] = []
    for seed in (0, 1, 2):
        out = enlarge(kind, even, 400, seed)[:, 4:-4, 4:-4]
        phases = out.unflatten(1, (-1, 2)).unflatten(3, (-1, 2))  # (kernels, rows, 2, columns, 2)
        power = phases.square().mean((0, 1, 3)).flatten()
        between = phases.mean((1, 3)).flatten(1).var(1, correction=0).mean()
        unevenness[kind].append(float(between / out.square().mean()))
        if seed == 0:
            print(f"{kind:22} {'  '.join(f'{p:5.2f}' for p in power)}")
for kind, shares_ in unevenness.items():
    low, high = min(shares_), max(shares_)
    print(f"{kind:22} checkerboard: {low:.1%} to {high:.1%} of the output's power (3 seeds)")

# %% [markdown]
# With a kernel of 4 the *number* of terms is even: four at every place. But each of the four kinds
# of places gets four *other* weights, so that a random kernel still makes a pattern. Repeating
# first makes it impossible: in a picture of ones, all four kinds see the same.
#
# Here is a digit at half its size, enlarged by six random kernels of each kind:

# %% tags=["figure"]
small_digit = F.avg_pool2d(known[3:4], 2)
shown = torch.stack([enlarge(kind, small_digit, 6, seed=1) for kind in kinds], dim=1)
fig = plots.forward_strip(
    shown / shown.abs().amax((2, 3), keepdim=True),
    ["kernel 1", *"23456"],
    row_labels=kinds,
    row_name="",
    level_name="",
)
plots.show(
    fig,
    alt="Enlarged digits, a column for each of six random kernels. Both rows of transposed "
    "convolutions have a strong grid over the whole picture; the row of repeating and convolving "
    "has none.",
    caption="Only the last row shows a digit and nothing else.",
)

# %% [markdown]
# All this is about random weights. Training can balance a kernel, and later layers can clean up.
# Whether they do is part of the experiment on the claim, below.

# %% [markdown]
# ## The whole network
#
# Now put it together. With `channels=(16, 32, 32)` and pictures of 28 × 28:
#
# | | what | size of h | skips so far |
# |---|---|---|---|
# | | `conv_in` | 16 × 28 × 28 | 0 |
# | down, level 0 | two blocks, each gives a skip | 16 × 28 × 28 | 2 |
# | down, level 1 | `downsample[0]`, two blocks | 32 × 14 × 14 | 4 |
# | down, level 2 | `downsample[1]`, two blocks | 32 × 7 × 7 | 6 |
# | middle | block, attention, block | 32 × 7 × 7 | 6 |
# | up, level 2 | two blocks, each takes a skip | 32 × 7 × 7 | 4 |
# | up, level 1 | `upsample[0]`, two blocks | 32 × 14 × 14 | 2 |
# | up, level 0 | `upsample[1]`, two blocks | 16 × 28 × 28 | 0 |
# | | norm, SiLU, `conv_out` | 1 × 28 × 28 | |
#
# The skip made last is used first. A block on the way up gets h and its skip side by side, as
# channels: **h first, then the skip**.
#
# **Time.** Networks of this course get a time between 0 and 1, which for whole steps is
# $t / (T - 1)$. The waves of 04.1 were made for numbers up to 1000, so the network multiplies by
# 1000 before it embeds. `time_mlp`, two linear layers, makes of the waves what the blocks get.
#
# **Classes.** A network that knows classes has a table `labels`, with one row for each. The row of
# a sample's class is added to what `time_mlp` gives. (Lesson 07 makes use of it.)

# %% [markdown]
# <!-- exercise 04.5 -->
#
# The constructor is given; read it beside the table. `self.up[0]` belongs to the coarsest level,
# and `self.upsample[i]` stands before the blocks of `self.up[i + 1]`. Write `forward`.


# %% tags=["answer"] exercise="04.5"
class UNet(nn.Module):
    """A U-Net for pictures of any size: two residual blocks a level, attention in the middle."""

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, ...] = (16, 32, 32),
        classes: int = 0,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.time_dim, emb_dim = channels[0], 4 * channels[0]
        self.time_mlp = nn.Sequential(
            nn.Linear(self.time_dim, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim)
        )
        if classes:
            self.labels = nn.Embedding(classes, emb_dim)
        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        width = channels[0]
        for level, wide in enumerate(channels):
            if level:
                self.downsample.append(Downsample(width))
            blocks = ResBlock(width, wide, emb_dim), ResBlock(wide, wide, emb_dim)
            self.down.append(nn.ModuleList(blocks))
            width = wide
        self.mid = nn.ModuleList(
            [
                ResBlock(width, width, emb_dim),
                SelfAttention2d(width, heads),
                ResBlock(width, width, emb_dim),
            ]
        )
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, wide in enumerate(reversed(channels)):
            if level:
                self.upsample.append(Upsample(width))
            blocks = ResBlock(width + wide, wide, emb_dim), ResBlock(2 * wide, wide, emb_dim)
            self.up.append(nn.ModuleList(blocks))
            width = wide
        self.norm_out = nn.GroupNorm(4, width)
        self.conv_out = nn.Conv2d(width, in_channels, 3, padding=1)

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x: (B, in_channels, H, W), any size. t: (B,) float in [0, 1], of x's dtype.

        The embedding is ``time_mlp`` of ``timestep_embedding`` of 1000 t with ``time_dim``
        columns. cond: (B,) int64 labels, whose rows of ``labels`` are added to it; or None: then
        nothing is added, whether the network knows classes or not.
        Returns a prediction of x's shape.
        """
        # BEGIN SOLUTION
        emb = self.time_mlp(timestep_embedding(1000 * t, self.time_dim))
        if cond is not None:
            emb = emb + self.labels(cond)
        h, skips = self.conv_in(x), []
        for level, blocks in enumerate(self.down):
            if level:
                h = self.downsample[level - 1](h)
            for block in blocks:
                h = block(h, emb)
                skips.append(h)
        first, attention, second = self.mid
        h = second(attention(first(h, emb)), emb)
        for level, blocks in enumerate(self.up):
            if level:
                h = self.upsample[level - 1](h, skips[-1].shape[2:])
            for block in blocks:
                h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.conv_out(F.silu(self.norm_out(h)))
        # END SOLUTION


# %% tags=["check"]
check("04.5")

# %% [markdown]
# One network, any size: the next cell runs yours on three and prints the shape after each level, as
# channels × height × width. It listens by *hooks*, functions that torch calls after a module has
# run.


# %% tags=["compare"]
def sizes_inside(network: UNet, side: tuple[int, int]) -> list[str]:
    """Shapes after each level of the way down, the middle, and each level of the way up."""
    seen, hooks = [], []
    watched = [blocks[-1] for blocks in (*network.down, network.mid, *network.up)]
    for module in watched:
        hooks.append(
            module.register_forward_hook(
                lambda _module, _inputs, out: seen.append("x".join(map(str, out.shape[1:])))
            )
        )
    with torch.no_grad():
        out = network(torch.zeros(1, 1, *side), torch.zeros(1))
    for hook in hooks:
        hook.remove()
    return [*seen, "x".join(map(str, out.shape[1:]))]


names = ["down 0", "down 1", "down 2", "middle", "up 2", "up 1", "up 0", "out"]
columns = {str(side): sizes_inside(UNet(), side) for side in ((28, 28), (30, 30), (29, 31))}
print(f"{'':8}" + "".join(f"{side:>14}" for side in columns))
for i, name in enumerate(names):
    print(f"{name:8}" + "".join(f"{sizes[i]:>14}" for sizes in columns.values()))

# %% [markdown]
# ### Where the arithmetic goes
#
# torch can count floating-point operations while a network runs; a multiplication and an addition
# are two. Where are most of the parameters, and where is most of the work? Guess first.

# %% tags=["compare"]
from torch.utils.flop_counter import FlopCounterMode


def cost(network: nn.Module, x: torch.Tensor) -> tuple[int, dict[str, tuple[int, int]]]:
    """(all operations, {part: (parameters, operations)}) of one pass of x (B, ...)."""
    counter = FlopCounterMode(display=False, depth=4)
    with counter, torch.no_grad():
        network(x, torch.zeros(len(x)))
    counts, root = counter.get_flop_counts(), type(network).__name__
    parts = {}
    for name, module in network.named_modules():
        top = f"{root}.{name}"
        if top in counts:
            parts[name] = (
                sum(p.numel() for p in module.parameters()),
                sum(counts[top].values()),
            )
    return sum(counts["Global"].values()), parts


network = UNet()
everything, parts = cost(network, torch.zeros(1, 1, 28, 28))
print(f"{'part':14} {'parameters':>11} {'operations':>13} {'share':>7}")
levels = [*(f"down.{i}" for i in range(3)), "mid", *(f"up.{i}" for i in range(3))]
for name in ["time_mlp", "conv_in", *levels, "downsample", "upsample", "conv_out"]:
    inside = [v for k, v in parts.items() if k == name or k.startswith(name + ".")]
    if name in parts:
        many, work = parts[name]
    else:  # a list of modules never runs itself: add up its members
        members = [
            k for k in parts if k.startswith(name + ".") and k.count(".") == 1 + name.count(".")
        ]
        many = sum(p.numel() for p in network.get_submodule(name).parameters())
        work = sum(parts[k][1] for k in members)
    print(f"{name:14} {many:11,} {work:13,} {work / everything:7.1%}")
print(f"{'all':14} {sum(p.numel() for p in network.parameters()):11,} {everything:13,}")

# %% [markdown]
# Coarse levels hold most of the parameters, and the finest level does most of the work, because a
# convolution uses each of its weights once for each place. So if such a network has to be faster,
# work at full size is what to save. The library's `patch` option does that for lesson 05, and
# lesson 10 goes further.

# %% [markdown]
# ## A branch that starts silent
#
# Fresh weights are random, so each block at first adds something random to what goes through. A
# common trick is to set the *last* layer of each branch to zero. The branch then adds nothing, and
# the block is the identity (or just its `skip`). With the last layer of the whole network at zero,
# the network answers 0: not a good guess, but a quiet one. Does such a layer ever leave zero? Yes:
# the gradient of its weights is made of what comes *into* it, and that is not zero.

# %% [markdown]
# <!-- exercise 04.6 -->
#
# Set a module's **own** parameters to zero, whatever their names, in place: they stay the same
# objects. Leave the parameters of parts inside the module as they are. Return the module.


# %% tags=["answer"] exercise="04.6"
def zero_init_(module: nn.Module) -> nn.Module:
    """Sets the module's own parameters (not those of its parts) to zero; returns the module."""
    # BEGIN SOLUTION
    for parameter in module.parameters(recurse=False):
        nn.init.zeros_(parameter)
    return module
    # END SOLUTION


# %% tags=["check"]
check("04.6")

# %% [markdown]
# The next cell compares three starts. It trains on digits of half the size, 14 × 14, so that
# seconds are enough. The target is $v$ (lesson 02), and the loss is measured on digits that are
# never trained on, with the same times and noise for every network. Always answering 0 costs the
# mean square of $v$, which is printed for comparison.

# %%
from undiffuse.blocks import zero_init_ as library_zero_init_
from undiffuse.losses import simple_loss

try:
    zero_init_(nn.Linear(1, 1))
    silence = zero_init_
except NotImplementedError:  # 04.6 is an extra: without it the library's function stands in
    silence = library_zero_init_

half_digits = F.avg_pool2d(known, 2)
held_out = F.avg_pool2d(data.digits("reference", budget(full=1000, small=50))[0], 2)
T = 1000
alpha_bar = schedules.cosine_alpha_bar((torch.arange(T, dtype=torch.float64) + 1) / (T + 1)).float()


def blank(network: nn.Module) -> nn.Module:
    """The last layer of all set to zero: ``network`` answers 0 at first."""
    silence(network.conv_out)
    return network


def quiet(network: nn.Module) -> nn.Module:
    """The last layer of every branch of ``network``, and its last layer of all, set to zero."""
    for module in network.modules():
        for last in ("conv2", "proj", "conv_out"):
            if hasattr(module, last):
                silence(getattr(module, last))
    return network


@torch.no_grad()
def losses_by_level(network, clean: torch.Tensor = held_out, parts: int = 5) -> torch.Tensor:
    """Loss of v on clean data in ``parts`` equal ranges of t, little noise first: (parts,)."""
    g = torch.Generator().manual_seed(99)
    found, n = [], len(clean) // parts
    for k in range(parts):
        x0 = clean[k::parts][:n]
        t = torch.linspace(k * T // parts, (k + 1) * T // parts - 1, n).round().long()
        noise = torch.randn(x0.shape, generator=g)
        found.append(float(simple_loss(network, x0, t, alpha_bar, noise, None, "v")))
    return torch.tensor(found)


def one_step(network, optimizer, g: torch.Generator, x: torch.Tensor, batch: int = 64) -> None:
    """One step of training on the loss of v."""
    x0 = x[torch.randint(len(x), (batch,), generator=g)]
    t = torch.randint(T, (batch,), generator=g)
    noise = torch.randn(x0.shape, generator=g)
    loss = simple_loss(network, x0, t, alpha_bar, noise, None, "v")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


nothing = losses_by_level(lambda x, t, cond: torch.zeros_like(x)).mean()
print(f"answering 0: {nothing:.3f}")
starts = {
    "as torch makes it": lambda network: network,
    "last layer zero": blank,
    "every branch zero": quiet,
}
few = budget(full=30, small=1)
for name, start in starts.items():
    before, after = [], []
    for seed in (0, 1, 2):
        torch.manual_seed(seed)
        network, g = start(UNet()), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
        before.append(float(losses_by_level(network).mean()))
        for _ in range(few):
            one_step(network, optimizer, g, half_digits)
        after.append(float(losses_by_level(network).mean()))
    texts = [" ".join(f"{v:.3f}" for v in values) for values in (before, after)]
    print(f"{name:18} before training {texts[0]}   after {few} steps {texts[1]}   (3 seeds)")

# %% [markdown]
# What is sure is the start: exactly the loss of answering 0, where random weights come on top of
# it. Whether so small a network then learns faster, the last column says. Deep networks profit
# more; see Goyal et al. in the references. Below, the last layer of each network starts at zero.

# %% [markdown]
# ## How far one place sees
#
# The **receptive field** of a chain of convolutions is the width of that part of the input on which
# one output place depends. A layer is (kernel, stride, dilation). *Dilation* stretches a kernel:
# with dilation 4, a kernel of 3 looks at places that are 4 apart. Three facts are all you need:
#
# - before any layer, a place sees itself, and neighbours are 1 apart;
# - a kernel of $k$ has $k - 1$ gaps. Each is as long as the dilation, counted in neighbours of the
#   layer's *input*;
# - a stride puts the neighbours of the layer's *output* further apart, by that factor. All later
#   layers feel it.

# %% [markdown]
# <!-- exercise 04.7 -->
#
# Write it for one axis.


# %% tags=["answer"] exercise="04.7"
def receptive_field(layers: list[tuple[int, int, int]]) -> int:
    """How many input places one output place of a chain of convolutions sees, along one axis.

    layers: (kernel, stride, dilation), each at least 1, from the first layer to the last; may be
    empty. Returns an int; borders are ignored.
    """
    # BEGIN SOLUTION
    field, distance = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * distance
        distance *= stride
    return field
    # END SOLUTION


# %% tags=["check"]
check("04.7")

# %% tags=["compare"]
try:
    receptive_field([])
    field_of = receptive_field
except NotImplementedError:  # 04.7 is an extra: without it the library's function stands in
    from undiffuse.blocks import receptive_field as field_of

same, half_size = (3, 1, 1), (3, 2, 1)
to_the_middle = [*5 * [same], half_size, *4 * [same], half_size, *8 * [same]]
doubling, n = [(3, 1, 2**i) for i in range(8)], len(to_the_middle)
print("one place sees, by the convolutions alone:")
print(f"  {field_of(n * [same]):3} places after {n} convolutions at full size")
print(f"  {field_of(to_the_middle):3} in the middle of the U-Net, after as many, 2 with a stride")
print(f"  {field_of(doubling):3} after {len(doubling)} with dilations 1, 2, 4, ... 128")

# %% [markdown]
# That is what a place *can* see. What does it see in fact? Take the gradient of the centre of the
# output with respect to the input. Its size at each place says how much that place matters: this is
# the **effective receptive field**. Here it is for random weights, averaged over several networks.
# (Normalisation is off for this. It takes means over the whole picture, and would tell every place
# a little about all others.)


# %%
class Stack(nn.Module):
    """Residual blocks at full size, one after the other: no way down, no way up, no skips."""

    def __init__(self, channels: int = 24, blocks: int = 5) -> None:
        super().__init__()
        self.time_mlp = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 64))
        self.conv_in = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.ModuleList([ResBlock(channels, channels, 64) for _ in range(blocks)])
        self.norm_out = nn.GroupNorm(4, channels)
        self.conv_out = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x, t, cond=None):
        emb, h = self.time_mlp(timestep_embedding(1000 * t, 16)), self.conv_in(x)
        for block in self.blocks:
            h = block(h, emb)
        h = self.norm_out(h)
        return self.conv_out(F.silu(h))


def effective_field(make, networks: int, side: int = 56) -> torch.Tensor:
    """Mean absolute gradient of the centre of the output: (side, side), adding up to 1."""
    total = torch.zeros(side, side)
    for seed in range(networks):
        torch.manual_seed(seed)
        x = torch.randn(1, 1, side, side, requires_grad=True)
        network = make()
        for module in network.modules():
            if isinstance(module, nn.GroupNorm):
                module.forward = lambda h: h
        network(x, torch.full((1,), 0.5))[0, 0, side // 2, side // 2].backward()
        total += x.grad[0, 0].abs() / x.grad.abs().sum()
    return total / networks


def no_attention() -> UNet:
    network = UNet()
    library_zero_init_(network.mid[1].proj)
    return network


makers = {"stack of 5 blocks": Stack, "U-Net, no attention": no_attention, "U-Net": UNet}
fields = {name: effective_field(m, budget(full=12, small=4)) for name, m in makers.items()}

# %% tags=["figure"]
logs = {name: torch.log10(field.clamp(min=1e-12)) for name, field in fields.items()}
top = max(float(log.max()) for log in logs.values())
fig = sheet(
    {name: log - top for name, log in logs.items()}, "column", "row", bottom=-8.0, top=0.0
)  # fmt: skip
plots.show(
    fig,
    alt="Three maps of how much each input place matters for the centre. The stack: a bright spot "
    "in a square, black outside. The U-Net without attention: a bright spot in a wide halo. With "
    "attention: the same, and the rest of the picture is no longer black.",
    caption="Powers of ten: white is the most, each unit less a factor of 10.",
)

# %%
rows = torch.arange(56)
ring = torch.maximum((rows[:, None] - 28).abs(), (rows[None] - 28).abs())
for name, field in fields.items():
    near, far = float(field[ring <= 4].sum()), float(field[ring > 14].sum())
    print(f"{name:20} within 9 places: {near:.1%}; from more than 14 places away: {far:.0e}")

# %% [markdown]
# Whatever they *could* see, fresh networks look at their neighbours: most of the influence comes
# from nearby, and the rest is a faint tail. How far a network looks in the end is up to training.
# The trained networks below will be asked.

# %% [markdown]
# ## The claim under test
#
# Five networks get the same digits (14 × 14), the same target and the same **arithmetic**: each may
# spend the same number of operations on training, counted as above. A cheap network gets more steps
# out of it. (Equal seconds would be as fair, but would depend on what else your machine does.)
#
# - **U-Net**: yours, with `Upsample`;
# - **U-Net, transposed**: yours, with transposed convolutions (kernel 3, stride 2) on the way up;
# - **U-Net, skips cut**: of the same size, but blocks on the way up get zeros in place of skips;
# - **stack**: residual blocks at full size, one after the other, `Stack` in the code above;
# - **no convolutions**: fully connected layers with shortcuts.
#
# One mark needs no training: the best *linear* guess from the whole picture, as in the first
# section. A network that draws no better than that has learned nothing worth its name.


# %%
class Dense(nn.Module):
    """Fully connected layers with shortcuts: it does not know which pixels are neighbours."""

    def __init__(self, places: int = 14 * 14, width: int = 1024) -> None:
        super().__init__()
        self.time_in, self.x_in = nn.Linear(32, width), nn.Linear(places, width)
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width))
                for _ in range(3)
            ]
        )
        self.conv_out = nn.Linear(width, places)  # so called to start at zero, as the others

    def forward(self, x, t, cond=None):
        h = self.x_in(x.flatten(1)) + self.time_in(timestep_embedding(1000 * t, 32))
        for layer in self.layers:
            h = h + layer(h)
        return self.conv_out(F.silu(h)).reshape(x.shape)


class Transposed(nn.Module):
    """Enlarges by a transposed convolution; to be put in the place of an ``Upsample``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x, size):
        return self.conv(x, output_size=size)


def transposed_unet() -> UNet:
    network = UNet()
    for i, up in enumerate(network.upsample):
        network.upsample[i] = Transposed(up.conv.in_channels)
    return network


def without_skips() -> UNet:
    """A U-Net whose blocks on the way up get zeros in place of the skips."""
    network = UNet()

    def cut(block: ResBlock, inputs: tuple) -> tuple:
        x, emb = inputs
        kept = x.shape[1] - block.conv1.out_channels  # a skip has as many as the block gives
        return torch.cat([x[:, :kept], torch.zeros_like(x[:, kept:])], dim=1), emb

    for level in network.up:
        for block in level:
            block.register_forward_pre_hook(cut)
    return network


def linear_guess(x0: torch.Tensor):
    """The best linear denoiser of data like x0 (N, 1, H, W), as a network that predicts v."""
    m = x0.flatten(1).mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(x0.flatten(1).double().T))
    variances, directions = variances.clamp(min=0).float(), directions.float()

    def network(x, t, cond=None):
        ab = alpha_bar[(t * (T - 1)).round().long()][:, None]
        z = (x.flatten(1) - ab.sqrt() * m) @ directions
        guess = m + (z * ab.sqrt() * variances / (ab * variances + 1 - ab)) @ directions.T
        return ((ab.sqrt() * x.flatten(1) - guess) / (1 - ab).sqrt()).reshape(x.shape)

    return network


# %% [markdown]
# A lower loss is not yet a better picture (claim C12, lessons 05 and 08). So each network also
# draws, and its drawings are judged.
#
# > **FD, in short.** The *Fréchet distance* compares two sets of pictures. A classifier that was
# > trained apart from all this turns each picture into 64 numbers, its *features*. FD is the
# > distance between the means of both sets plus that between their covariances. Lower is better.
# > Two sets of *real* digits do not get 0, because they are finite: what they get is the **floor**.
# > Lesson 08 takes FD apart.
#
# The drawings come from DDIM, a sampler that lesson 06 explains: start with noise, ask the network
# for its guess of $x_0$, go a part of the way there, ask again. The classifier knows digits of
# 28 × 28, so drawings are enlarged for it. The real digits that they are compared with are made
# small first, and then enlarged just so.

# %%
from tqdm.auto import tqdm

from undiffuse import classifiers, metrics

judge = classifiers.load("digits")
drawn_n, calls = budget(full=330, small=24), budget(full=20, small=3)


def features(pictures: torch.Tensor) -> torch.Tensor:
    """Features (n, 64) of pictures (n, 1, 14, 14), enlarged for the classifier."""
    return classifiers.examine(judge, F.interpolate(pictures, scale_factor=2, mode="bilinear"))[0]


more = F.avg_pool2d(data.digits("held_out")[0], 2)
real = features(F.avg_pool2d(data.digits("reference")[0], 2)[:drawn_n])
floors = torch.tensor(
    [  # three sets of other real digits that share none
        metrics.frechet_distance(features(more[k * drawn_n : (k + 1) * drawn_n]), real)
        for k in range(3)
    ]
)


@torch.no_grad()
def draw(network, n: int, seed: int, like: torch.Tensor) -> torch.Tensor:
    """n samples of the shape and within the range of ``like``, from noise, by the network's v."""
    x = torch.randn(n, *like.shape[1:], generator=torch.Generator().manual_seed(seed))
    stops = torch.linspace(T - 1, 0, calls).round().long()
    for i, t in enumerate(stops):
        ab = alpha_bar[t]
        v = network(x, (t / (T - 1)).expand(n))
        x0 = (ab.sqrt() * x - (1 - ab).sqrt() * v).clamp(like.min(), like.max())
        eps = (x - ab.sqrt() * x0) / (1 - ab).sqrt()
        after = alpha_bar[stops[i + 1]] if i + 1 < calls else torch.tensor(1.0)
        x = after.sqrt() * x0 + (1 - after).sqrt() * eps
    return x


def learning_rate(progress: float, steps: int, base: float = 3e-3) -> float:
    """Twenty steps of warm-up, then half a cosine down to zero at progress 1."""
    return base * min(1.0, (steps + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * progress))


def operations_of(network, x: torch.Tensor) -> int:
    """Floating-point operations of one pass of one sample of x."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x[:1], torch.zeros(1))
    return counter.get_total_flops()


def train_for(
    make, x: torch.Tensor, batch: int, giga: float, seed: int, bar: tqdm
) -> tuple[nn.Module, int, float]:
    """(network trained on x with ``giga`` times 1e9 operations, its steps, its seconds).

    A step costs three passes: forward, and backward for the activations and for the weights.
    """
    torch.manual_seed(seed)
    network, g = blank(make()), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters())
    steps = max(1, round(giga * 1e9 / (3 * batch * operations_of(network, x))))
    start, percent = time.process_time(), 0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step / steps, step)
        one_step(network, optimizer, g, x, batch)
        before, percent = percent, 100 * (step + 1) // steps
        bar.update(percent - before)
    return network, steps, time.process_time() - start


# Two measurements for later: how far a trained network looks, and whether it leaves a checkerboard.
looked = [50, 200, 400, 600, 800, 950]


def looks_away(network, t: int, n: int = budget(full=50, small=8)) -> float:
    """Share of the influence on the guess of x0 in the middle from more than 2 places away."""
    x0, ab = held_out[:n], alpha_bar[t]
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(t))
    x = (ab.sqrt() * x0 + (1 - ab).sqrt() * noise).requires_grad_()
    v = network(x, torch.full((n,), t / (T - 1)))
    (ab.sqrt() * x - (1 - ab).sqrt() * v)[:, 0, 7, 7].sum().backward()
    seen = x.grad.abs().mean((0, 1))
    return float(1 - seen[5:10, 5:10].sum() / seen.sum())


@torch.no_grad()
def unevenness(network, n: int = budget(full=500, small=50)) -> float:
    """Largest over smallest mean square error of v among the four kinds of places."""
    t = torch.linspace(0, T - 1, n).round().long()
    noise = torch.randn(held_out[:n].shape, generator=torch.Generator().manual_seed(7))
    ab = alpha_bar[t].reshape(-1, 1, 1, 1)
    x = ab.sqrt() * held_out[:n] + (1 - ab).sqrt() * noise
    v = ab.sqrt() * noise - (1 - ab).sqrt() * held_out[:n]
    error = (network(x, t / (T - 1)) - v)[:, :, 2:-2, 2:-2].square().mean((0, 1))
    four = error.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).mean((0, 2))
    return float(four.max() / four.min())


def fd_of_drawings(network, seed: int) -> float:
    """FD between real digits and ``drawn_n`` that the network draws."""
    return metrics.frechet_distance(features(draw(network, drawn_n, seed, half_digits)), real)


contest = {
    "U-Net": UNet,
    "U-Net, transposed": transposed_unet,
    "U-Net, skips cut": without_skips,
    "stack": Stack,
    "no convolutions": Dense,
}
giga, seeds = budget(full=1200.0, small=8.0), (0, 1, 2)
losses, fds, taken, finished, far, uneven = {}, {}, {}, {}, {}, {}
left = "{percentage:3.0f}% {bar} {elapsed}, {remaining} left"
with tqdm(total=100 * len(contest) * len(seeds), bar_format=left) as bar:
    for name, make in contest.items():
        trained = [train_for(make, half_digits, 32, giga, seed, bar) for seed in seeds]
        nets = [network for network, _, _ in trained]
        losses[name] = torch.stack([losses_by_level(n) for n in nets])
        fds[name] = torch.tensor([fd_of_drawings(n, seed) for n, seed in zip(nets, seeds)])
        taken[name] = [trained[0][1], sum(took for _, _, took in trained) / len(seeds)]
        far[name] = torch.tensor([[looks_away(n, t) for t in looked] for n in nets])
        uneven[name] = [unevenness(n) for n in nets]
        finished[name] = nets[0]
linear = linear_guess(half_digits)
linear_loss = losses_by_level(linear)
linear_fd = torch.tensor([fd_of_drawings(linear, seed) for seed in seeds])

# %% tags=["figure"]
fig = plots.bar_with_spread(
    {name.replace(", ", ",\n").replace(" con", "\ncon"): v.mean(1) for name, v in losses.items()},
    ylabel="loss of v, held-out digits",
    floor=float(linear_loss.mean()),
    floor_name="best linear guess",
)
plots.show(
    fig,
    alt="Held-out loss of the five networks, three seeds each, with a line for the best linear "
    "guess.",
    caption="Equal arithmetic, three seeds each: points are seeds, ticks are means.",
)

# %% tags=["figure"]
fig = plots.curves(
    {**losses, "best linear guess": linear_loss},
    [100, 300, 500, 700, 900],
    xlabel="t",
    ylabel="loss of v, held-out digits",
    log_y=True,
    markers=True,
    roles={"best linear guess": "bound"},
)
plots.show(
    fig,
    alt="Held-out loss of the five networks and of the best linear guess in five ranges of t. "
    "With little noise the U-Net with its skips cut is far above the others; at large t it is "
    "near them.",
    caption="What skips carry is detail: without them the loss suffers most where there is little "
    "noise. Bands: three seeds.",
)

# %% tags=["figure"]
fig = plots.bar_with_spread(
    {
        **{n.replace(", ", ",\n").replace(" con", "\ncon"): v for n, v in fds.items()},
        "linear\nguess": linear_fd,
    },
    ylabel="FD of drawings",
    floor=floors.tolist(),
    floor_name="real against real",
    log_y=True,
)
plots.show(
    fig,
    alt="FD of what the five networks and the linear guess draw, three seeds each, on a "
    "logarithmic scale, with the floor of real digits at the bottom.",
    caption="The same networks, judged by what they draw. The grey band is the floor.",
)

# %% tags=["figure"]
drawn = [draw(network, 8, 3, half_digits) for network in (*finished.values(), linear)]
fig = plots.forward_strip(
    torch.stack([held_out[:8], *drawn], dim=1),
    [""] * 8,
    row_labels=["real digits", *finished, "best linear guess"],
    row_name="",
    level_name="",
)
plots.show(
    fig,
    alt="Rows of eight pictures: real digits of 14 by 14 pixels, and what each network draws from "
    "the same noise.",
    caption="From the same noise, networks that have learned the same thing draw alike.",
)

# %% [markdown]
# Do trained networks look further where there is more noise, as the first figure says they should?
# Take a network's guess of $x_0$ for one pixel in the middle. Which share of the influence on it
# comes from outside a window of 5 × 5 around it?

# %% tags=["figure"]
fig = plots.curves(far, looked, xlabel="t", ylabel="influence from outside 5 x 5", markers=True)
plots.show(
    fig,
    alt="Share of the influence on a pixel's guess from outside a window of 5 by 5, over t, for "
    "the five trained networks, with a band over three seeds.",
    caption="Where a line rises, the network looks further away the more noise there is. Bands: "
    "three seeds.",
)

# %% [markdown]
# Now the verdict. Two networks count as different where their ranges over the seeds do not overlap.
# A network counts as having learned to draw where it beats the linear guess with every seed.
# The last column looks for the checkerboard: of the four kinds of places, the largest error over
# the smallest, in the mean over the seeds.


# %%
def against(name: str, other: str, figures: dict[str, torch.Tensor]) -> str:
    """How ``name`` compares with ``other``, where less is better."""
    a, b = figures[name], figures[other]
    if a.min() <= b.max() and b.min() <= a.max():
        return f"no different from the {other}"
    return f"{'worse' if a.mean() > b.mean() else 'better'} than the {other}"


def verdict_on(rivals: list[str], fds: dict[str, torch.Tensor], bound: torch.Tensor) -> str:
    """What the figures say of the claim that the network has to be a U-Net."""
    learned = [name for name in rivals if fds[name].max() < bound.min()]
    as_good = [name for name in learned if not against(name, "U-Net", fds).startswith("worse")]
    if fds["U-Net"].max() >= bound.min():
        return "no verdict: the U-Net itself has not learned to draw with this budget"
    if as_good:
        return f"false at this size and budget: {' and '.join(as_good)} drew as well as the U-Net"
    if learned:
        return f"a good choice, not a must: {' and '.join(learned)} learned to draw, too, but worse"
    return "true at this size and budget: nothing but a U-Net learned to draw"


def row_of(name: str, network, x: torch.Tensor, taken: list, loss, fd) -> dict:
    """A line of the table of results."""
    return {
        "network": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "million operations a pass": operations_of(network, x) / 1e6,
        "steps": taken[0],
        "processor seconds": round(taken[1], 1),
        "loss": f"{loss.mean():.3f} ({loss.min():.3f} to {loss.max():.3f})",
        "FD": f"{fd.mean():.2f} ({fd.min():.2f} to {fd.max():.2f})",
    }


def row_of_bound(loss: torch.Tensor, fd: torch.Tensor) -> dict:
    """The line of the best linear guess."""
    fd_text = f"{fd.mean():.2f} ({fd.min():.2f} to {fd.max():.2f})"
    return {"network": "best linear guess", "loss": f"{loss.mean():.3f}", "FD": fd_text}


def row_of_floor(floors: torch.Tensor) -> dict:
    """The line of real against real."""
    fd_text = f"{floors.mean():.2f} ({floors.min():.2f} to {floors.max():.2f})"
    return {"network": "floor: real against real", "FD": fd_text}


# %%
from undiffuse.results import record

total = {name: values.mean(1) for name, values in losses.items()}
rows = []
for name, network in finished.items():
    row = row_of(name, network, held_out, taken[name], total[name], fds[name])
    rows.append({**row, "unevenness": sum(uneven[name]) / len(seeds)})
says = "on digits: " + verdict_on(["stack", "no convolutions"], fds, linear_fd)
for name in ("U-Net, transposed", "U-Net, skips cut"):
    says += f". {name}: {against(name, 'U-Net', fds)} by FD, "
    says += f"{against(name, 'U-Net', total).split(' from ')[0].split(' than ')[0]} by loss"
record(
    "C6",
    [*rows, row_of_bound(linear_loss, linear_fd), row_of_floor(floors)],
    verdict=says + ".",
    seeds=seeds,
    giga_operations=giga,
    n=drawn_n,
    calls=calls,
    floor=float(floors.mean()),
    floors=floors,
    fds=fds,
    linear_fds=linear_fd,
    losses=total,
    answering_zero=float(nothing),
)

# %% [markdown]
# Read the table with care. What would change it?
#
# - **Size.** At 14 × 14 a stack of a dozen convolutions sees the whole picture. At 256 × 256 it
#   would see a patch, and cost over 300 times as much. There the coarse levels of a U-Net are what
#   makes a view of the whole affordable. So the experiment can say that the U is not *necessary*.
#   It cannot say that it is of no use.
# - **Budget.** It is small: seconds. With more of it large networks catch up with small ones. And
#   operations are not seconds, as the table shows: small pieces of work run slower than large ones.
# - **Data.** Digits are simple, and all of one kind. The next section takes sound.
#
# What no network here does without: an output of the input's size, knowledge of the time, and a way
# for detail from the input to the output.

# %% [markdown]
# ## The same for sound
#
# Nothing in the design knows that pictures have two axes. The library's U-Net takes `dims=1` for
# sound of shape `(B, C, L)`: only the convolutions are others. The sounds here are plucked strings
# of random pitch and decay, with an odd number of samples.
#
# In a picture of a digit, what belongs together lies close together. In sound, one period of a low
# note is some 36 samples long. So a fourth network joins, of a kind that many networks for sound
# are (DiffWave, lesson 11, is one): a stack at full length, in which convolutions are **dilated**
# by 1, 2, 4, ... and so reach far without any U.

# %%
from undiffuse.blocks import ResBlock as AnyResBlock
from undiffuse.unet import UNet as AnyUNet

length, rate = 151, 4000


def plucks(n: int, seed: int) -> torch.Tensor:
    """n plucked strings of random pitch and decay, (n, 1, length), each of mean square 1."""
    g, at = torch.Generator().manual_seed(seed), torch.arange(length) / rate
    pitch = 110 * 2 ** (2 * torch.rand(n, 1, generator=g))
    decay = 10 + 30 * torch.rand(n, 1, generator=g)
    tone = sum(
        torch.exp(-decay * k * at) * torch.sin(2 * math.pi * k * pitch * at) / k
        for k in (1, 2, 3, 4)
    )
    return (tone / tone.square().mean(1, keepdim=True).sqrt())[:, None]


class SoundStack(Stack):
    """The stack for sound; both convolutions of block i are dilated by dilations[i]."""

    def __init__(self, dilations: tuple[int, ...], channels: int = 24) -> None:
        super().__init__(channels, blocks=0)
        self.conv_in = nn.Conv1d(1, channels, 3, padding=1)
        for d in dilations:
            block = AnyResBlock(channels, channels, 64, dims=1)
            block.conv1 = nn.Conv1d(channels, channels, 3, padding=d, dilation=d)
            block.conv2 = nn.Conv1d(channels, channels, 3, padding=d, dilation=d)
            self.blocks.append(block)
        self.conv_out = nn.Conv1d(channels, 1, 3, padding=1)


clips, test_clips = plucks(3000, seed=0), plucks(budget(full=330, small=40), seed=1)
kinds_of_sound = {
    "U-Net": lambda: AnyUNet(channels=(16, 32, 32), attention=(False, False, True), dims=1),
    "stack": lambda: SoundStack((1, 1, 1, 1, 1)),
    "dilated stack": lambda: SoundStack((1, 2, 4, 8, 16)),
    "no convolutions": lambda: Dense(length),
}

# %% [markdown]
# Sounds are judged like the digits, by FD. The features are loudness in bands of the spectrum: the
# logarithm of the energy in each of 25 bands, plus a little.


# %%
def bands(sounds: torch.Tensor) -> torch.Tensor:
    """Log energy of sounds (n, 1, length) in 25 bands of equal width, (n, 25)."""
    energy = torch.fft.rfft(sounds[:, 0]).abs().square() / length
    return torch.log(energy[:, :75].unflatten(1, (25, 3)).sum(2) + 1e-2)


def fd_of_sounds(network, seed: int) -> float:
    """FD between real sounds and as many that the network makes."""
    made = draw(network, len(test_clips), seed, clips)
    return metrics.frechet_distance(bands(made), bands(test_clips))


sound_giga = budget(full=150.0, small=1.0)
sound_losses, sound_fds, sound_taken, sounding = {}, {}, {}, {}
with tqdm(total=100 * len(kinds_of_sound) * len(seeds), bar_format=left) as bar:
    for name, make in kinds_of_sound.items():
        trained = [train_for(make, clips, 16, sound_giga, seed, bar) for seed in seeds]
        nets = [network for network, _, _ in trained]
        sound_losses[name] = torch.stack([losses_by_level(n, test_clips).mean() for n in nets])
        sound_fds[name] = torch.tensor([fd_of_sounds(n, s) for n, s in zip(nets, seeds)])
        sound_taken[name] = [trained[0][1], sum(took for _, _, took in trained) / len(seeds)]
        sounding[name] = nets[0]
linear = linear_guess(clips)
linear_sound_loss = losses_by_level(linear, test_clips)
linear_sound_fd = torch.tensor([fd_of_sounds(linear, seed) for seed in seeds])
sound_floors = torch.tensor(
    [
        metrics.frechet_distance(bands(plucks(len(test_clips), seed)), bands(test_clips))
        for seed in (2, 3, 4)
    ]
)

# %% tags=["figure"]
fig = plots.bar_with_spread(
    {**sound_fds, "linear guess": linear_sound_fd},
    ylabel="FD of sounds",
    floor=sound_floors.tolist(),
    floor_name="real against real",
    log_y=True,
)
plots.show(
    fig,
    alt="FD of the sounds that the four networks and the linear guess make, three seeds each, on a "
    "logarithmic scale, with the floor of real sounds at the bottom.",
    caption="Sound, equal arithmetic, three seeds each. The grey band is the floor.",
)

# %%
rows = [
    row_of(name, network, clips, sound_taken[name], sound_losses[name], sound_fds[name])
    for name, network in sounding.items()
]
others_of_sound = [name for name in kinds_of_sound if name != "U-Net"]
record(
    "C6-sound",
    [*rows, row_of_bound(linear_sound_loss, linear_sound_fd), row_of_floor(sound_floors)],
    verdict=f"on plucked strings: {verdict_on(others_of_sound, sound_fds, linear_sound_fd)}.",
    seeds=seeds,
    giga_operations=sound_giga,
    n=len(test_clips),
    calls=calls,
    floor=float(sound_floors.mean()),
    floors=sound_floors,
    fds=sound_fds,
    linear_fds=linear_sound_fd,
    losses=sound_losses,
)

# %% tags=["figure"]
g = torch.Generator().manual_seed(3)
t, clean = torch.tensor([350]), test_clips[:1]
noisy = alpha_bar[t].sqrt() * clean + (1 - alpha_bar[t]).sqrt() * torch.randn(
    clean.shape, generator=g
)
with torch.no_grad():
    v = sounding["U-Net"](noisy, t / (T - 1))
cleaned = alpha_bar[t].sqrt() * noisy - (1 - alpha_bar[t]).sqrt() * v
fig = plots.waveforms(
    {"clean": clean[0], "noisy": noisy[0], "guess": cleaned[0]},
    rate,
    roles={"clean": "data", "noisy": "noise", "guess": "model"},
)
plots.show(
    fig,
    alt="Three waveforms: a clean pluck of a string, the same under noise, and the network's guess "
    "of the clean one, which follows its waves.",
    caption="The one-dimensional U-Net after a few seconds of training.",
)

# %% [markdown] tags=["remark"]
# How did your three guesses fare? Which of the pieces would you leave out first, and which
# measurement tells you so?

# %% [markdown]
# The world outside agrees that there is more than one way. Many of today's large models have no U:
# they are transformers on patches (DiT, lesson 15). Others run a U-Net in a small latent space
# (lesson 10).

# %% [markdown]
# ## What to remember
#
# - A denoiser needs detail at full size and a view of the whole: little noise is a local problem,
#   much noise a global one.
# - Time goes in as waves; blocks add a change to what they get, and may start with none.
# - Attention reaches any place in one step, at a cost that grows with the square of the places.
# - Repeat and convolve: transposed convolutions overlap unevenly. Sizes on the way up come from the
#   skips, and skips carry the detail.
# - The U-Net is a good habit. It is not what makes a model a diffusion model.
#
# **Where it goes next.** Lesson 05 trains such a network for five minutes on real digits, and
# watches what goes wrong. Lesson 07 gives it classes to obey.
#
# ## References
#
# - Ronneberger, Fischer, Brox 2015, [U-Net](https://arxiv.org/abs/1505.04597): the shape, for
#   segmentation, with crops where we use sizes.
# - Ho, Jain, Abbeel 2020, [Denoising diffusion probabilistic
#   models](https://arxiv.org/abs/2006.11239), appendix B: the network that most others descend
#   from.
# - Vaswani et al. 2017, [Attention is all you need](https://arxiv.org/abs/1706.03762), sections 3.2
#   and 3.5: attention, and the waves.
# - He et al. 2016, [Identity mappings in deep residual networks](https://arxiv.org/abs/1603.05027):
#   normalise first; and Goyal et al. 2017, [Accurate, large minibatch
#   SGD](https://arxiv.org/abs/1706.02677), section 5.1: start the last layer of a branch at zero.
# - Odena, Dumoulin, Olah 2016, [Deconvolution and checkerboard
#   artifacts](https://distill.pub/2016/deconv-checkerboard/).
# - Luo, Li, Urtasun, Zemel 2016, [Understanding the effective receptive
#   field](https://arxiv.org/abs/1701.04128).
# - Peebles, Xie 2022, [Scalable diffusion models with
#   transformers](https://arxiv.org/abs/2212.09748): no U at all.
