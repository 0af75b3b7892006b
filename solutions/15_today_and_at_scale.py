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
# # 15 · Today, and at scale
# <!-- lesson-header -->
#
# Large models of today are trained as *flows*, with a *transformer* in place of the U-Net, on many
# GPUs at once. How much of that is new? You will be able to
#
# - train and sample a flow, and say in which sense it is the diffusion you know,
# - build the block of a diffusion transformer, and say what a patch costs,
# - compare both with the U-Net at equal compute, and read the verdict with its spread,
# - make one large step out of small pieces, of several processes, and in half the digits,
# - run the same training on one core, two processes or a GPU, and say how long CIFAR-10 would take.
#
# You need lessons 02 and 06 (mixing in noise, steps of a sampler), 04 (the U-Net) and 05
# (training).

# %% tags=["setup"]
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.ticker import NullLocator
from torch import nn
from tqdm.auto import tqdm

from coursework import check, hint
from undiffuse import budget, data, dit, judging, plots, presets, recipes, trainer
from undiffuse import flow as course
from undiffuse.denoisers import mixture_denoiser
from undiffuse.results import load_results
from undiffuse.sampling import Levels, sample
from undiffuse.schedules import flow_schedule
from undiffuse.sets2d import PointNet, energy_distance, two_moons
from undiffuse.training import logit_normal_t as course_times

# %% [markdown]
# ## A claim, and your guesses
#
# > **Claim 5.** "Diffusion models are computationally expensive."
#
# Lesson 10 makes sampling cheaper. Here the question is what training costs, and whether the
# methods of today cost less.

# %% [markdown] tags=["remark"]
# 1. A flow goes from noise to data along straight lines. So how many steps does sampling need? My
#    guess:
# 2. A U-Net and a transformer are trained on 5,000 digits with the same number of floating-point
#    operations. Which one draws better digits? My guess:
# 3. A batch of 64 is trained by two processes of 32 each. By how much does the loss differ from
#    that of one process with all 64, after ten steps? My guess:
# 4. How many images a second does one large GPU train, of digits of 28 by 28, and how many do the
#    cores of this machine? My guess:

# %% [markdown]
# ## A straight line from data to noise
#
# Take an image $x_0$ and noise $x_1$ of the same shape, and walk from one to the other at an even
# pace:
#
# $$x_t = (1 - t)\, x_0 + t\, x_1, \qquad \frac{dx_t}{dt} = x_1 - x_0 .$$
#
# At $t = 0$ there is data, at $t = 1$ noise. The derivative, the *velocity*, says where $x_t$ is
# going, and how fast. It does not depend on $t$.
#
# You have seen the first formula in lesson 00 (`corrupt`), and as a schedule with
# $\alpha = 1 - t$ and $\sigma = t$ in lesson 01. What is new is the target: not the noise and not
# the image, but their difference. (Papers on flows often count time the other way, from noise at 0
# to data at 1. The formulas are the same once $t$ is replaced by $1 - t$, and the velocity changes
# its sign.)

# %% [markdown]
# <!-- exercise 15.1 -->
#
# Write both.


# %% tags=["answer"] exercise="15.1"
def flow_pair(
    x0: torch.Tensor, x1: torch.Tensor, t: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_t, velocity) on the straight line from data to noise.

    x0: data (B, ...): images, sound or points. x1: noise of the same shape and dtype.
    t: (B,) in [0, 1], one for each sample: 0 is data, 1 is noise. Not changed in place.
    x_t = (1 - t) x0 + t x1; the velocity is its derivative for t. Both have x0's shape and dtype.
    """
    # BEGIN SOLUTION
    t = t.reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - t) * x0 + t * x1, x1 - x0
    # END SOLUTION


# %% tags=["check"]
check("15.1")

# %% [markdown]
# Pairs are drawn at random: any image with any noise. So the lines of different pairs cross.

# %% tags=["figure"]
g = torch.Generator().manual_seed(0)
known = two_moons(2000, g)
starts, ends = known[:40], torch.randn(40, 2, generator=g)
lines = torch.stack([flow_pair(starts, ends, torch.full((40,), t))[0] for t in (1.0, 0.5, 0.0)])
fig = plots.trajectories2d(lines, data=known, limits=3)
plots.show(
    fig,
    alt="Two half moons of points, and forty straight lines that lead to them from points all "
    "around. The lines cross each other everywhere.",
    caption="Forty pairs of noise and data, each joined by a line. Where lines cross, the same "
    "place has several velocities.",
)

# %% [markdown]
# ## What a network can learn of it
#
# At a crossing a network sees $x_t$ and $t$, and not which pair it came from. Trained to lower the
# squared error, it gives the mean of all velocities that pass there:
#
# $$v(x, t) = \mathbb{E}\big[\, x_1 - x_0 \;\big|\; x_t = x \,\big].$$
#
# It is the same story as in lesson 03, where the best denoiser was a mean over all images that fit.
# In fact it is the same mean: the velocity, the noise and the image are linear combinations of each
# other once $x_t$ is known. With $\hat x_0 = \mathbb{E}[x_0 \mid x_t]$,
#
# $$v = \frac{x_t - \hat x_0}{t}.$$
#
# The mean has one value at each place and time. So paths that follow it cannot cross, and they are
# no longer straight: they bend where lines crossed. And still, if you let many points of noise
# follow $v$ from $t = 1$ to $t = 0$, they arrive as data (Lipman et al. 2022, theorem 1): at each
# time as many points flow through a place as lines would have passed it.

# %% [markdown]
# <!-- exercise 15.2 -->
#
# Follow the velocity from noise to data. *Euler's* method makes each step with the slope where the
# step begins. The *midpoint* method first goes half a step with that slope, asks for the slope
# there, and then makes the whole step, from where it began, with the slope of the middle. That
# costs two calls a step, and is of second order.


# %% tags=["answer"] exercise="15.2"
def flow_sample(model, x: torch.Tensor, n: int, method: str = "euler") -> torch.Tensor:
    """From noise at t = 1 to data at t = 0 in n equal steps of 1/n; x's shape and dtype.

    model: ``model(x_t, t) -> velocity`` (for growing t), with t (B,) of x's dtype.
    x: noise (B, ...), not changed in place.
    method: "euler": n calls, at t = 1, 1 - 1/n, ..., 1/n, in this order; "midpoint": 2n calls, in
        each step first at its beginning t, then at t - 1/(2n).
    """
    # BEGIN SOLUTION
    step = 1 / n
    for k in range(n, 0, -1):
        t = torch.full((len(x),), k * step, dtype=x.dtype)
        slope = model(x, t)
        if method == "midpoint":
            slope = model(x - step / 2 * slope, t - step / 2)
        x = x - step * slope
    return x
    # END SOLUTION


# %% tags=["check"]
check("15.2")

# %% [markdown]
# Train a small network on the moons, with your pairs, and follow it with your sampler:

# %% tags=["figure"]
steps = budget(full=1500, small=150)


def fit_flow(seed: int) -> tuple[PointNet, list[float]]:
    """A velocity for the two moons, and its losses."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    net = PointNet(width=128, depth=3)
    optimizer = torch.optim.Adam(net.parameters())
    losses = []
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 + math.cos(math.pi * k / steps)) / 2
        x0 = known[torch.randint(len(known), (256,), generator=g)]
        x1, t = torch.randn(256, 2, generator=g), torch.rand(256, generator=g)
        x_t, velocity = flow_pair(x0, x1, t)
        loss = (net(x_t, t) - velocity).square().mean()
        net.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return net, losses


net, losses = fit_flow(0)
noise = torch.randn(1000, 2, generator=torch.Generator().manual_seed(5))
with torch.no_grad():
    way = [noise[:40]]
    for k in range(40, 0, -1):  # one step of many, as a sampler of its own: the path is wanted
        way.append(way[-1] - net(way[-1], torch.full((40,), k / 40)) / 40)
fig = plots.trajectories2d(torch.stack(way), data=known, limits=3)
plots.show(
    fig,
    alt="Paths from scattered points of noise to the two moons. They start almost straight, all "
    "towards the middle, and bend late towards one moon or the other. No two cross.",
    caption="Forty paths along the learned velocity. At first all head for the mean of the data; "
    "which moon it will be is decided on the way.",
)
print(f"loss: {sum(losses[:50]) / 50:.2f} at the start, {sum(losses[-100:]) / 100:.2f} at the end")

# %% [markdown]
# The loss does not go to 0: what is left is the spread of the velocities that pass through a place,
# and no network can lower it (lesson 03 again).
#
# "Straight" is said of the lines between pairs. The paths of the flow are not straight, so few
# steps do not suffice. How many do? For two clusters the exact velocity is known (lesson 03), and
# the error of a sampler can be told from that of a network.

# %% tags=["figure"]
means = torch.tensor([[-1.2, 0.4], [0.9, -0.5]], dtype=torch.float64)
spreads, shares = torch.tensor([[0.05, 0.09], [0.4, 0.6]], dtype=torch.float64)


def exact(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The velocity of two clusters, called as a network is."""
    t = float(t[0])
    return (x - mixture_denoiser(x, 1 - t, t, means, spreads, shares)) / t


start = torch.randn(300, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
goal = course.flow_sample(lambda x, t, cond: exact(x, t), start, 2000, "midpoint")


def ticks(fig, values: list[int]) -> None:
    """Marks just these numbers on the logarithmic axis below."""
    axis = fig.axes[0].xaxis
    axis.set_ticks(values, [f"{v:g}" for v in values])
    axis.set_minor_locator(NullLocator())


calls = [2, 4, 8, 16, 32, 64, 128]
errors = {
    "Euler": [float((flow_sample(exact, start, n) - goal).norm(dim=1).mean()) for n in calls],
    "midpoint": [
        float((flow_sample(exact, start, n // 2, "midpoint") - goal).norm(dim=1).mean())
        for n in calls
    ],
}
fig = plots.curves(
    errors,
    calls,
    xlabel="network calls",
    ylabel="mean distance from where the flow ends",
    log_x=True,
    log_y=True,
    markers=True,
)
ticks(fig, calls)
plots.show(
    fig,
    alt="Error over the number of calls, both logarithmic, for Euler and midpoint. Both fall along "
    "straight lines; that of midpoint is twice as steep.",
    caption="Twice as many calls halve Euler's error and quarter that of the midpoint method.",
)
slopes = {name: math.log2(v[-2] / v[-1]) for name, v in errors.items()}
print("measured order: " + ", ".join(f"{name} {value:.2f}" for name, value in slopes.items()))

# %% [markdown]
# ## The same thing
#
# Is this a new kind of model? Put $\alpha = 1 - t$ and $\sigma = t$ into DDIM's step (lesson 06):
#
# $$x_{t'} = \alpha' \hat x_0 + \sigma' \hat\varepsilon
# = (1 - t')(x_t - t v) + t' (x_t + (1 - t) v) = x_t + (t' - t)\, v .$$
#
# It is Euler's step. A flow is a diffusion model with one schedule out of many, one prediction out
# of several, and levels even in $t$. The course's sampler knows nothing of flows; told the schedule
# and the kind of prediction, it makes your steps:

# %% tags=["compare"]
t = torch.linspace(1, 0, 11, dtype=torch.float64)
by_ddim = sample(
    lambda x, t, cond: exact(x, torch.tensor([t], dtype=torch.float64)),
    flow_schedule(),
    kind="flow",
    solver="ddim",
    x=start,
    at=Levels(t, 1 - t, t),
)
largest = float((by_ddim - flow_sample(exact, start, 10)).abs().max())
print(f"DDIM on the straight schedule and your Euler: the same within {1e-12:g}: {largest < 1e-12}")

# %% [markdown]
# So everything you know works on: guidance, faster solvers, inpainting. What does differ is which
# levels are trained how much, where the steps lie, and what the network's output has to be. Those
# matter, as they did in lessons 01 and 05.

# %% [markdown]
# ## Where to train
#
# Which times should be drawn? Near $t = 1$ hardly anything of the image is left to be seen, and the
# best guess for it is the mean image. Near $t = 0$ it is the noise that cannot be seen, and the
# best guess for it is its mean, 0. Both are easy. In the middle lies what has to be learned. Esser
# et al. (2024), who trained Stable Diffusion 3, tried many ways to draw times, and took the
# *logit-normal* one:
#
# $$t = \frac{1}{1 + e^{-z}}, \qquad z \sim \mathcal{N}(m, s^2).$$

# %% [markdown]
# <!-- exercise 15.5 -->
#
# How you draw is up to you, as long as every draw comes from `generator`: the check looks at the
# distribution. A right answer fails by chance in fewer than one of ten million checks.


# %% tags=["answer"] exercise="15.5"
def logit_normal_t(
    batch: int,
    generator: torch.Generator | None = None,
    mean: float = 0.0,
    std: float = 1.0,
) -> torch.Tensor:
    """Times (batch,) float32, strictly between 0 and 1; log(t / (1 - t)) is normal.

    mean: of that logarithm; above 0 means nearer to noise, t = 1. std: its standard deviation.
    """
    # BEGIN SOLUTION
    return torch.sigmoid(mean + std * torch.randn(batch, generator=generator))
    # END SOLUTION


# %% tags=["check"]
check("15.5")


# %% tags=["figure"]
def yours_or_the_courses(yours, ours, *try_out):
    """Your function, or the library's where you have not written it: it is an extra."""
    try:
        yours(*try_out)
    except NotImplementedError:
        return ours
    return yours


times = yours_or_the_courses(logit_normal_t, course_times, 3)
g = torch.Generator().manual_seed(0)
fig = plots.histogram(
    {
        "mean 0, std 1": times(20_000, g),
        "mean 0, std 0.5": times(20_000, g, 0.0, 0.5),
        "mean 1, std 1": times(20_000, g, 1.0),
    },
    limits=(0, 1),
    xlabel="time t (0 is data, 1 is noise)",
)
plots.show(
    fig,
    alt="Histograms of three distributions of times. Two are symmetric humps around one half, one "
    "wide and one narrow; the third leans towards 1. All fall to nothing at both ends.",
    caption="A few ways to draw logit-normal times.",
)

# %% [markdown]
# ## A picture as a sentence
#
# The U-Net has its form from pictures: neighbours, coarse and fine. A *transformer* knows none of
# that. It takes a row of *tokens* (vectors of numbers), lets each look at all others (lesson 04.3),
# then treats each by itself, and so on. What it does well is grow: more blocks, wider tokens, more
# data, and it goes on getting better. DiT (Peebles and Xie 2022) puts one in place of the U-Net.
#
# Pixels as tokens would be too many, as the cost of looking grows with the square of their number.
# So the picture is cut into *patches* of $p \times p$ pixels, and each becomes one token.

# %% [markdown]
# <!-- exercise 15.3 -->
#
# Write the way there and back. 28 divides by 4, but 30 does not: pad at the bottom and at the right
# by repeating the last row and the last column, and cut that off on the way back.


# %% tags=["answer"] exercise="15.3"
def patchify(x: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, C, H, W) -> tokens (B, N, C * patch * patch), N = ceil(H / patch) * ceil(W / patch).

    Patches come row by row, from left to right, as one reads. The numbers of a token are in the
    order channel, row, column. Where patch does not divide H or W, the picture is padded first, at
    the bottom and at the right, with its last row and its last column.
    """
    # BEGIN SOLUTION
    b, c, h, w = x.shape
    x = F.pad(x, (0, -w % patch, 0, -h % patch), mode="replicate")
    rows, columns = x.shape[2] // patch, x.shape[3] // patch
    x = x.reshape(b, c, rows, patch, columns, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, rows * columns, c * patch * patch)
    # END SOLUTION


def unpatchify(tokens: torch.Tensor, size: tuple[int, int], patch: int) -> torch.Tensor:
    """The inverse: tokens (B, N, C * patch * patch) -> (B, C, H, W) with (H, W) = size.

    What padding added is cut off.
    """
    # BEGIN SOLUTION
    rows, columns = (-(-n // patch) for n in size)
    x = tokens.reshape(len(tokens), rows, columns, -1, patch, patch)
    x = x.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows * patch, columns * patch)
    return x[:, :, : size[0], : size[1]]
    # END SOLUTION


# %% tags=["check"]
check("15.3")

# %% tags=["figure"]
digits, labels = data.digits("train")
one = digits[labels == 5][:1]
tokens = patchify(one, 4)
fig = plots.image_grid(tokens.reshape(-1, 1, 4, 4), columns=7)
plots.show(
    fig,
    alt="A handwritten 5 cut into 49 small squares, seven rows of seven, with gaps between them.",
    caption="49 tokens of 16 numbers. The transformer gets them as a list; where each one belongs "
    "has to be told.",
)

# %% [markdown]
# A list has no up and down. So each token gets a vector added that says where it is: waves of its
# row and waves of its column, like those of the time in lesson 04 (`dit.grid_embedding`).
#
# ### Time and class reach every block
#
# In the U-Net, the embedding of time and class was added inside each residual block. DiT steers
# more strongly. Each block makes six vectors of it: a *shift* $b$, a *scale* $s$ and a *gate* $g$
# for the attention (index $a$), and three more for the small network that follows (`mlp`, index
# $m$). This is called *adaptive layer norm*, adaLN. With $e$ the embedding, and all products number
# by number:
#
# $$(b_a, s_a, g_a, b_m, s_m, g_m) = W\, \text{SiLU}(e) + c$$
#
# $$x \leftarrow x + g_a \cdot \text{attend}\big(\text{norm}_1(x) \cdot (1 + s_a) + b_a\big)$$
#
# $$x \leftarrow x + g_m \cdot \text{mlp}\big(\text{norm}_2(x) \cdot (1 + s_m) + b_m\big)$$
#
# $W$ and $c$ start at zero. Then all gates are closed, and each block passes its tokens on
# unchanged: a deep network starts as a simple one, and opens as far as it helps. (The paper calls
# it adaLN-Zero. You have met the idea as `zero_init_` in lesson 04.)

# %% [markdown]
# <!-- exercise 15.4 -->
#
# The parts and the attention are given. Add what makes `modulation` start at zero, and `forward`.


# %% tags=["answer"] exercise="15.4"
class DiTBlock(nn.Module):
    """A transformer's block, steered by an embedding of time and class.

    forward(x (B, N, dim) tokens, emb (B, emb_dim)) -> (B, N, dim).
    modulation gives six vectors of SiLU(emb), in this order: shift, scale and gate of the
    attention, then shift, scale and gate of the mlp. Its weight and bias are zero at the start.
    """

    def __init__(self, dim: int, emb_dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.modulation = nn.Linear(emb_dim, 6 * dim)
        # BEGIN SOLUTION
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        # END SOLUTION

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Every token looks at every other: (B, N, dim)."""
        b, n, dim = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v)
        return self.proj(h.transpose(1, 2).reshape(b, n, dim))

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        # BEGIN SOLUTION
        parts = self.modulation(F.silu(emb))[:, None].chunk(6, dim=2)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
        x = x + gate_a * self.attend(self.norm1(x) * (1 + scale_a) + shift_a)
        return x + gate_m * self.mlp(self.norm2(x) * (1 + scale_m) + shift_m)
        # END SOLUTION


# %% tags=["check"]
check("15.4")

# %% [markdown]
# The rest is short: a linear layer from patches to tokens, a few of these blocks, and a steered
# linear layer back, which starts at zero (`undiffuse/dit.py`, one page). It is called like the
# U-Net, `net(x, t, cond)`, so that the trainer, the sampler and guidance take it as it is. With
# your block inside:


# %%
class YourDiT(dit.DiT):
    """The course's transformer, of your blocks."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.blocks = nn.ModuleList(
            DiTBlock(self.dim, self.dim, options["heads"]) for _ in range(options["depth"])
        )


torch.manual_seed(0)
yours = YourDiT(dim=64, depth=3, heads=4, patch=4, classes=10)
x, t = digits[:2], torch.tensor([0.3, 0.8])
print("a new network gives zeros:", not yours(x, t, labels[:2]).any())
print("sizes that do not divide:", tuple(yours(torch.randn(1, 1, 30, 29), 0.5).shape))

# %% [markdown]
# ### What a patch costs
#
# Half the side of a patch is four times as many tokens. The linear layers then cost four times as
# much, and the attention sixteen times.

# %% tags=["figure"]
options = {"dim": 64, "depth": 4, "heads": 4, "classes": 10}
rows = []
for patch in (7, 4, 2, 1):
    model = dit.DiT(patch=patch, **options)
    tokens = math.ceil(28 / patch) ** 2
    flops = presets.flops_per_call(model, (1, 28, 28))
    attention = options["depth"] * 2 * 2 * tokens**2 * options["dim"]
    rows.append((patch, tokens, flops, attention))
unet_flops = presets.cost("five-minutes")[1]
print("patch  tokens  million operations a call   of which looking at each other")
for patch, tokens, flops, attention in rows:
    print(f"{patch:5}  {tokens:6}  {flops / 1e6:25.1f}   {attention / flops:.0%}")
print(f"the U-Net of lesson 05: {unet_flops / 1e6:.1f} million")
fig = plots.curves(
    {
        "all": [r[2] / 1e6 for r in rows],
        "looking at each other": [r[3] / 1e6 for r in rows],
    },
    [r[1] for r in rows],
    xlabel="tokens",
    ylabel="million operations a call",
    log_x=True,
    log_y=True,
    markers=True,
    floor=unet_flops / 1e6,
    floor_name="the U-Net of lesson 05",
)
ticks(fig, [r[1] for r in rows])
plots.show(
    fig,
    alt="Operations over the number of tokens, both logarithmic. The line for looking at each "
    "other rises more steeply than that of the whole, and nearly meets it at 784 tokens.",
    caption="The same transformer with patches of 7, 4, 2 and 1 pixels.",
)

# %% [markdown]
# ## Both against the U-Net, at equal compute
#
# Which is better? The question needs a currency. Parameters say little about cost, and seconds
# depend on the machine and on how well its libraries know convolutions. Here it is *floating-point
# operations* (FLOPs), counted by torch: a training step costs about three times the call, forward
# once, and backward for the inputs and for the weights. Every network gets as many steps as the
# same total pays for.
#
# Four runs, briefly: two networks, each trained in two ways. A recipe says which
# (`undiffuse.recipes`); the loop is the same.

# %% tags=["slow"]
BATCH = 32
unet_steps = budget(full=200, small=4)
NETWORKS = budget(
    full={
        "U-Net": {"channels": [16, 32], "patch": 2, "classes": 10},
        "DiT": {"design": "dit", "dim": 64, "depth": 4, "patch": 4, "classes": 10},
    },
    small={
        "U-Net": {"channels": [8, 8], "patch": 4, "classes": 10},
        "DiT": {"design": "dit", "dim": 16, "depth": 1, "patch": 7, "classes": 10},
    },
)
WAYS = {
    "v, cosine": {"schedule": "cosine", "prediction": "v", "middle": 0.5},
    "flow, straight": {"schedule": "flow", "prediction": "flow", "times": "logit-normal"},
}


def of(network: str, way: str, steps: int, **more) -> recipes.Recipe:
    """The recipe of a run."""
    return recipes.Recipe(
        name="lesson15", network=NETWORKS[network], steps=steps, batch=BATCH, optimizer="muon",
        lr=0.02, warmup=30, ema=0.98, precision="float32", **WAYS[way], **more,
    )  # fmt: skip


cost = {
    name: presets.flops_per_call(of(name, "v, cosine", 1).make_network((1, 28, 28)), (1, 28, 28))
    for name in NETWORKS
}
total = unet_steps * 3 * BATCH * cost["U-Net"]
runs, asked = {}, judging.labels_like("digits", budget(full=300, small=20))
for network in NETWORKS:
    steps = max(1, round(total / (3 * BATCH * cost[network])))
    for way in WAYS:
        with tqdm(total=steps, desc=f"{network}, {way}") as bar:
            runs[network, way] = trainer.train(
                of(network, way, steps), digits, labels, on_step=lambda *_, b=bar: b.update()
            )

# %% tags=["figure", "slow"]
CALLS = budget(full=16, small=2)


def drawn(run: trainer.Run, classes: torch.Tensor, seed: int = 0, calls: int = CALLS):
    """Digits of a run."""
    images = sample(
        run.model, run.schedule, (len(classes), 1, 28, 28), kind=run.recipe.prediction,
        calls=calls, cond=classes, generator=torch.Generator().manual_seed(seed), clip=(-1, 1),
    )  # fmt: skip
    return images.clamp(-1, 1)


print(f"{total / 1e12:.2f} million million operations each; {len(asked)} samples, {CALLS} calls")
for (network, way), run in runs.items():
    quality = judging.judge_images(drawn(run, asked), asked, "digits", resamples=2)
    print(f"{network:6} {way:15} {run.steps:4} steps  {run.seconds:5.0f} s   FD {quality.fd:6.2f} "
          f"(floor {quality.floor:.2f})   accuracy {quality.accuracy:.2f}")  # fmt: skip
fig = plots.image_grid(
    torch.cat([drawn(run, torch.arange(10), seed=3) for run in runs.values()]), columns=10
)
plots.show(
    fig,
    alt="Four rows of ten drawn digits, 0 to 9: two of the U-Net, with v and with flow, then two "
    "of the transformer.",
    caption="From above: " + "; ".join(", ".join(key) for key in runs) + ". The same noise in each "
    "column.",
)

# %% [markdown]
# One seed, and training that has hardly begun. The measured comparison trains the same two networks
# in the same two ways for longer, with three seeds, and each with the best of three optimisers by
# short runs of another seed. `data/build/measure_flow.py` makes it.


# %% tags=["figure"]
def measured(name: str) -> dict | None:
    """What has been measured and comes with the course."""
    try:
        found = load_results(data.folder() / "results").get(name)
    except (FileNotFoundError, ValueError):
        found = None
    if found is None:
        print(f"This copy has no figures {name}. To measure them:")
        print("    python data/build/measure_flow.py all --out runs/flow")
        print("    python data/build/measure_flow.py speed --device cuda --out runs/flow")
        print("    python data/build/measure_flow.py write runs/flow")
    return found


def spread(values: list[float], digits: int = 2) -> str:
    """Mean, least and greatest."""
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


compared = measured("L15-digits")
if compared:
    print(f"{compared['training_flops'] / 1e12:.2f} million million operations of training each, "
          f"on {compared['machine_of_runs']}; {compared['n']:,} samples a seed, seeds "
          f"{', '.join(map(str, compared['seeds']))}; FD: mean (least to greatest)")  # fmt: skip
    best = max((r["sampler"] for r in compared["rows"] if r["sampler"].startswith("dpmpp")),
               key=lambda s: int(s.split()[1]))  # fmt: skip
    print(f"\n{best}; floor {compared['rows'][0]['floor']:.2f}")
    print(f"{'network':14}{'way':16}{'steps':>6}  {'FD':24}{'accuracy':24}optimiser")
    for row in compared["rows"]:
        if row["sampler"] == best:
            how = f"{row['optimizer']} {row['lr']:g}"
            print(f"{row['network']:14}{row['way']:16}{row['steps']:6}  {spread(row['FD']):24}"
                  f"{spread(row['accuracy'], 3):24}{how}")  # fmt: skip
    print(f"\nverdict: {compared['verdict']}")
    euler = [r for r in compared["rows"] if r["sampler"].startswith("euler")]
    series = {}
    for row in euler:
        series.setdefault(f"{row['network']}, {row['way']}", []).append(row["FD"])
    at = sorted({int(r["sampler"].split()[1]) for r in euler})
    fig = plots.curves(
        {name: torch.tensor(values).T for name, values in series.items()},
        at,
        xlabel="network calls (Euler, even in t)",
        ylabel=f"FD of {compared['n']:,} samples",
        log_x=True,
        log_y=True,
        markers=True,
        floor=compared["rows"][0]["floor"],
        floor_name="floor: real digits",
    )
    ticks(fig, at)
    plots.show(
        fig,
        alt="FD over the number of calls of Euler's method for the U-Net and the transformer, each "
        "with v on the cosine schedule and with the flow on the straight one, and the floor of "
        "real digits.",
        caption="Bands reach from the least to the greatest of three seeds. Steps are even in t, "
        "so that the schedule decides where they lie.",
    )

# %% [markdown]
# **What would change it.** Digits are small, plain, and few. A transformer has to learn from data
# what a convolution knows from the start, so few data and short training favour the U-Net; papers
# that find the transformer ahead trained thousands of times as long on a million photographs.
# Equal FLOPs are not equal seconds: the table of steps and seconds above says how far apart the
# two are on this machine. And each network here has one width and depth, tuned a little, not much.

# %% [markdown] tags=["remark"]
# What did you guess in (1) and (2)? "Straight paths need one step": what would you answer now?

# %% [markdown]
# ## Larger than the memory
#
# The rest of the lesson is about size. The first wall one runs into is memory: the values inside
# the network are kept for the way back, for each image of the batch. A batch that does not fit can
# go through in pieces. Gradients add up (that is what `backward()` does), so the step can be the
# *same* step, to rounding, if each piece is weighed rightly.

# %% [markdown]
# <!-- exercise 15.6 -->
#
# Make one step of a batch, with at most `size` samples in the network at a time.


# %% tags=["answer"] exercise="15.6"
def accumulated_step(model, optimizer, loss_fn, batch: tuple, size: int) -> float:
    """One optimizer step on a batch that goes through the network in pieces; its loss.

    loss_fn: ``loss_fn(model, *piece)`` -> the mean loss of the samples in a piece, a tensor.
    batch: a tuple of tensors with N samples each, along the first axis.
    size: at most so many samples are in the network at once, and what it keeps for the way back of
        one piece is free before the next. It need not divide N, and may be larger.
    The step and the result are those of ``loss_fn(model, *batch)``: the mean over all N samples.
    Gradients of before do not count. Returns a plain float.
    """
    # BEGIN SOLUTION
    optimizer.zero_grad()
    total = 0.0
    for piece in zip(*(a.split(size) for a in batch)):
        loss = loss_fn(model, *piece) * (len(piece[0]) / len(batch[0]))
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total
    # END SOLUTION


# %% tags=["check"]
check("15.6")


# %%
def flow_loss(model, x_t, t, velocity, classes):
    """Mean squared error of the velocity."""
    return (model(x_t, t, classes) - velocity).square().mean()


def weights_after(size: int) -> torch.Tensor:
    """Of three steps of a small transformer, in float64, in pieces of ``size``."""
    torch.manual_seed(0)
    model = dit.DiT(dim=16, depth=2, patch=7, classes=10).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    g = torch.Generator().manual_seed(0)
    for k in range(3):
        x0, classes = digits[20 * k : 20 * k + 20].double(), labels[20 * k : 20 * k + 20]
        t = torch.rand(20, generator=g, dtype=torch.float64)
        x_t, v = flow_pair(x0, torch.randn(x0.shape, generator=g, dtype=torch.float64), t)
        accumulated_step(model, optimizer, flow_loss, (x_t, t, v, classes), size)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


whole = weights_after(20)
for size in (10, 7, 1):
    furthest = float((weights_after(size) - whole).abs().max())
    print(f"pieces of {size:2}: no weight differs by more than {furthest:.0e}")

# %% [markdown]
# In a recipe it is `accumulate = 4`, and on the command line `course train NAME --accumulate 4`.
#
# ## More workers
#
# The second wall is time. Several processes, each with a GPU or some cores of its own, can share
# the work: every one has a copy of the network, computes the gradient of its share of the batch,
# and then all gradients are added up and each makes the same step. The copies stay equal. What has
# to be right is the sharing of the data.

# %% [markdown]
# <!-- exercise 15.7 -->
#
# Give each worker its share of an epoch. No worker talks to another here: what each computes must
# fit together.


# %% tags=["answer"] exercise="15.7"
def shard(indices: torch.Tensor, rank: int, world: int, epoch: int) -> torch.Tensor:
    """Worker ``rank``'s share of the samples ``indices`` in an epoch: int64 (N // world,).

    indices: (N,) int64, any numbers, each once. rank: 0 to world - 1. epoch: 0, 1, 2, ...
    The order is mixed, anew in each epoch, and depends on the epoch only; how you mix is up to you.
    Workers get equally many, and no sample twice in an epoch; the N % world that are over are left
    out, other ones from epoch to epoch, as chance has it. Which worker gets which samples changes
    from epoch to epoch, too. torch's global generator is left as it is: in each process it is in
    another state.
    """
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(epoch)
    mixed = indices[torch.randperm(len(indices), generator=generator)]
    return mixed[: len(indices) // world * world][rank::world]
    # END SOLUTION


# %% tags=["check"]
check("15.7")

# %% [markdown]
# The course's trainer goes a simpler way that fits its promise of resuming to the bit: every
# process draws the whole batch and all noise from the same generator, and takes every second row
# of it (`undiffuse/team.py`, half a page). That costs a little drawing, and what comes out does
# not depend on how many processes there are. Let us see. The same recipe, first by one process,
# then by two, which talk by *gloo* (torch's way to send tensors between processes on CPUs; on GPUs
# it is NCCL):
#
# ```
# course train two.toml
# torchrun --standalone --nproc-per-node 2 -m coursework train two.toml
# ```

# %% tags=["figure", "slow"]
RECIPE = f"""
n = 200
steps = {budget(full=25, small=4)}
batch = 32
precision = "float64"
schedule = "flow"
prediction = "flow"
times = "logit-normal"
lr = 2e-3
warmup = 5
[network]
design = "dit"
dim = 16
depth = 2
patch = 7
classes = 10
"""


def trained_by(processes: int, folder: Path) -> tuple[torch.Tensor, str]:
    """Losses of all steps, and what the command said."""
    (folder / "two.toml").write_text(RECIPE, encoding="utf-8")
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    out = folder / str(processes)
    command = [
        sys.executable, *(torchrun if processes > 1 else []), "-m", "coursework", "train",
        str(folder / "two.toml"), "--device", "cpu", "--plain", "--out", str(out),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=400,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        return torch.empty(0), done.stderr[-600:]
    state = torch.load(out / "state.pt", weights_only=True)
    return torch.tensor(state["extra"]["losses"], dtype=torch.float64), done.stdout


with tempfile.TemporaryDirectory() as place:
    (alone, said_one), (shared, said_two) = (trained_by(k, Path(place)) for k in (1, 2))
for said in (said_one, said_two):
    print(said.strip().replace(place, "runs"))
if len(alone) and len(shared):
    gap = float((alone - shared).abs().max())
    print(f"largest difference of the losses over {len(alone)} steps: {gap:.0e}")
    fig = plots.curves(
        {"one process, 32 at once": alone, "two processes, 16 each": shared},
        torch.arange(1, len(alone) + 1),
        xlabel="training step",
        ylabel="loss",
        markers=True,
    )
    plots.show(
        fig,
        alt="The losses of two runs over training steps. The two curves lie on top of each other.",
        caption="Two curves, one hidden by the other: in float64 they differ in the last digits.",
    )

# %% [markdown]
# Is it faster? That depends on what they share. Two processes on two idle cores can nearly halve
# the time of a step that is worth sharing; this one is so small that starting and talking cost
# more. Two GPUs each do half the batch, and send as many numbers as the network has weights, once
# a step.
#
# ## Half the digits
#
# The third wall: moving numbers about. A float32 has 24 bits of precision, far more than a noisy
# gradient deserves. *bfloat16* keeps its range and only 8 bits of precision. Products of such
# numbers are twice as small to move, and GPUs since 2020 multiply them many times as fast.

# %%
for value in (1.0, 1.001, 1.01, 3.14159, 1e-30):
    print(f"{value:<8g} in bfloat16: {torch.tensor(value).bfloat16().item():<12.6g} "
          f"in float16: {torch.tensor(value).half().item():g}")  # fmt: skip
small_steps = torch.tensor(1.0).bfloat16()
for _ in range(1000):
    small_steps = small_steps + 0.001
print("1 plus a thousand times 0.001, in bfloat16:", small_steps.item())

# %% [markdown]
# The last line is why not everything can be in bfloat16: a weight that is moved by small steps
# would stay where it is, and a sum over many squares stops growing. So *mixed precision*: products
# in bfloat16, weights, sums and the loss in float32. torch calls it *autocast*. With float16,
# whose smallest number is far larger, the loss has to be scaled up so that gradients do not
# vanish; bfloat16 needs no such thing.

# %% [markdown]
# <!-- exercise 15.8 -->
#
# One step in mixed precision, where the device can, and in float32 where it cannot.


# %% tags=["answer"] exercise="15.8"
def mixed_precision_step(
    model, optimizer, x_t: torch.Tensor, t: torch.Tensor, target: torch.Tensor, supported
) -> float:
    """One step on the mean squared error of ``model(x_t, t)`` from ``target``; the loss, a float.

    x_t, target: (B, ...) float32, t: (B,), all on one device, of any kind (x_t.device.type).
    supported: a function of the kind of device, "cpu" or "cuda", that says whether it computes in
        bfloat16. If so, the network is called under autocast with bfloat16; else in float32.
    Whatever the network returns, the error is taken and averaged in float32. The loss is not
    scaled. Weights and gradients stay float32. Gradients of before do not count.
    """
    # BEGIN SOLUTION
    kind = x_t.device.type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=supported(kind)):
        prediction = model(x_t, t)
    loss = (prediction.float() - target).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    # END SOLUTION


# %% tags=["check"]
check("15.8")

# %% [markdown]
# Does it matter to the loss? The same run in float32 and in bfloat16, by recipe (`precision`):

# %% tags=["figure", "slow"]
precise = of("DiT", "flow, straight", budget(full=60, small=4))
pair = {
    kind: trainer.train(replace(precise, precision=kind), digits, labels)
    for kind in ("float32", "bfloat16")
}
fig = plots.curves(
    {kind: run.losses for kind, run in pair.items()},
    torch.arange(1, precise.steps + 1),
    xlabel="training step",
    ylabel="loss",
)
plots.show(
    fig,
    alt="The loss over training steps in float32 and in bfloat16: two jagged curves that follow "
    "each other closely.",
    caption="The same first weights, batches, times and noise. What differs is rounding.",
)
apart = [abs(a / b - 1) for a, b in zip(*(run.losses for run in pair.values()))]
pace = {kind: trainer.samples_per_second(run) for kind, run in pair.items()}
print(f"the losses differ by {sum(apart) / len(apart):.1%} on average, and by "
      f"{max(apart):.1%} at most")  # fmt: skip
print("images a second on this CPU: " + ", ".join(f"{k} {v:,.0f}" for k, v in pace.items()))

# %% [markdown]
# On a CPU without instructions for bfloat16 it is slower, not faster: the numbers are widened for
# each product. On a GPU it is the default of the trainer (`precision = "auto"`).
#
# ## The same command on a GPU
#
# Nothing in a recipe says where it runs. `course train` takes a GPU when there is one, and says so
# at the end, with the images a second:
#
# ```
# course train lesson05                                                   one GPU, or the CPU
# torchrun --standalone --nproc-per-node 4 -m coursework train lesson05   four GPUs share each batch
# ```
#
# What is not there is said, and so is what does not fit:

# %%
from undiffuse import commands

try:
    print("a GPU is here:", commands.find_device("cuda"))
except commands.CommandError as error:
    print("course train lesson05 --device cuda:", error)
try:
    with commands.told("lower batch in the recipe; --accumulate 2 makes the same steps with less"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
except commands.CommandError as error:
    print("a batch that does not fit:", error)

# %% tags=["figure"]
speed = measured("L15-speed")
if speed:
    device = speed["rows"][0]["device"]
    print(f"measured on one {device}{speed['conditions'] and '; ' + speed['conditions']}:\n")
    print(f"{'network':22} batch parts  precision {'images a second':>16}      memory")
    for row in speed["rows"]:
        rate = row.get("images a second")
        told = f"{rate:16,.0f}" if rate else f"{'out of memory':>16}"
        memory = row.get("GiB of GPU memory")
        print(f"{row['network']:22}{row['batch']:6}{row['parts']:6}  {row['precision']:10}{told}"
              + (f"{memory:8.1f} GiB" if memory else ""))  # fmt: skip
    network = speed["rows"][0]["network"]
    mine = [r for r in speed["rows"] if r["network"] == network and r.get("images a second")]
    fig = plots.curves(
        {kind: [r["images a second"] for r in mine if r["precision"] == kind]
         for kind in dict.fromkeys(r["precision"] for r in mine)},
        sorted({r["batch"] for r in mine}),
        xlabel="batch",
        ylabel="images a second in training",
        log_x=True,
        log_y=True,
        markers=True,
    )  # fmt: skip
    ticks(fig, sorted({r["batch"] for r in mine}))
    plots.show(
        fig,
        alt=f"Images a second over the batch for {network} in several precisions, both axes "
        "logarithmic. How far they are apart is in the table.",
        caption=f"{network} on one {device}.",
    )

# %% [markdown]
# ## On to CIFAR-10
#
# 50,000 photographs of 32 by 32 in colour are the usual next step, and more than two cores can do.
# The set is a download of 170 MB that the course fetches when asked, and checks:
#
# ```
# python -m undiffuse.downloads cifar10
# course train cifar10                                                     one GPU
# torchrun --standalone --nproc-per-node 8 -m coursework train cifar10     eight
# course sample cifar10 --grid cifar10.png --count 100
# ```
#
# The recipe (`data/recipes/cifar10.toml`) is a U-Net with attention, trained as a flow. Its
# settings are a proposal that nobody has measured yet; the first FD is yours to report. How long
# would it take? That can be told in advance, from the operations of a step and the speed of a
# machine.

# %%
cifar = recipes.load("cifar10")
torch.manual_seed(0)
large = cifar.make_network((3, 32, 32))
a_call = presets.flops_per_call(large, (3, 32, 32))
images = cifar.steps * cifar.batch
print(f"{presets.count_parameters(large) / 1e6:.0f} million parameters, {a_call / 1e9:.1f} "
      f"thousand million operations a call; {cifar.steps:,} steps of {cifar.batch}")  # fmt: skip


def lasts(per_second: float) -> str:
    """The whole recipe at so many images a second."""
    hours = images / per_second / 3600
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.0f} days"


tiny = replace(cifar, batch=2, steps=budget(full=3, small=1), warmup=1, validate_every=0,
               sample_every=0, precision="float32")  # fmt: skip
photographs = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
here = trainer.train(tiny, photographs, torch.arange(8))
mine = trainer.samples_per_second(here)
threads = torch.get_num_threads()
print(f"\n{'hardware':44}{'images/s':>10}  {'whole recipe':>14}")
told = f"this machine, {threads} threads (speed measured)"
print(f"{told:44}{mine:10.2f}  {lasts(mine):>14}")
# Peak bfloat16 (dense) in 1e12 operations a second, from NVIDIA's data sheets; T4: float16.
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "RTX 4090": 165, "T4": 65}
SHARE = 0.3  # of its peak that a GPU may reach on a network of this size: an assumption
known_speeds = speed["rows"] if speed else []
for row in known_speeds:
    if row["network"].startswith("CIFAR") and "images a second" in row:
        told = f"{row['device']}, {row['precision']} (speed measured)"
        rate = row["images a second"]
        print(f"{told:44}{rate:10,.0f}  {lasts(rate):>14}")
for name, peak in PEAKS.items():
    rate = SHARE * peak * 1e12 / (3 * a_call)
    told = f"{name} (estimated: {SHARE:.0%} of its peak)"
    print(f"{told:44}{rate:10,.0f}  {lasts(rate):>14}")
of_digits = [r for r in known_speeds if r["network"] == "digits, U-Net" and "images a second" in r]
if of_digits:
    top = max(of_digits, key=lambda r: r["images a second"])
    used = 3 * unet_flops * top["images a second"] / 1e12
    peak = next((p for name, p in PEAKS.items() if name in top["device"]), None)
    if peak:
        print(f"\nto compare: training the small network of digits, one {top['device']} did "
              f"{used:.1f} million million operations a second, {used / peak:.1%} of its "
              "peak")  # fmt: skip

# %% [markdown]
# "Speed measured" is a measured speed times the number of images; nobody has waited for the whole
# run. "Estimated" is arithmetic: the operations of the recipe over an assumed share of what the
# data sheet promises. It can be wrong by a factor of two and more. The last line shows how far
# below its peak a GPU stays when the network is small: it waits for instructions from the CPU most
# of the time, so that larger batches come nearly for free, and precision hardly matters.
#
# ## And beyond
#
# A plan for larger images, with what each step changes, in terms of this course:
#
# - **From 32 x 32 to 64 x 64.** Four times the places, and more noise to hide the same picture:
#   shift the schedule (lesson 11), and keep attention to the coarse levels.
# - **To 256 x 256 and more.** Diffuse in the latents of an autoencoder (lesson 10), 32 x 32 again.
#   A transformer in place of the U-Net is one line, `design = "dit"`.
# - **From classes to words.** A text encoder that somebody else has trained, and cross-attention
#   (lesson 13).
# - **When one GPU is too small for the network.** What `team.py` keeps whole in each process
#   (weights, gradients, the optimiser's averages) is cut into shares and fetched when needed: torch
#   calls it FSDP.
# - **From hours to weeks.** What lesson 05 promised matters now: going on to the bit, the loss by
#   noise level, the average of the weights.
#
# How far is it? The largest model of the DiT paper, by the same count:

# %%
with torch.device("meta"):  # shapes only: nothing is stored or computed
    giant = dit.DiT(in_channels=4, dim=1152, depth=28, heads=16, patch=2)
    a_giant_call = presets.flops_per_call(giant, (4, 32, 32))
size = presets.count_parameters(giant) / 1e6
print(f"DiT-XL/2 on latents of 32 x 32: {size:.0f} million parameters, {a_giant_call / 1e9:.0f} "
      "thousand million operations a call")  # fmt: skip
ours = runs["DiT", "flow, straight"]
one_run = ours.steps * 3 * BATCH * cost["DiT"]
its = 7e6 * 256 * 3 * a_giant_call  # 7 million steps of 256 images (Peebles and Xie, table 2)
print(f"its training: {its:.1e} operations; yours above: {one_run:.1e}, "
      f"{its / one_run:,.0f} times less")  # fmt: skip
days = its / (SHARE * PEAKS["H100"] * 1e12) / 86400
print(f"at {SHARE:.0%} of the peak of an H100 (estimated): {days:,.0f} days of one of them")

# %% [markdown]
# So is the claim true, that diffusion models are computationally expensive? A model of digits
# takes minutes of two cores, one of small photographs what the table says, and one of large
# photographs what the last line says. What is expensive is the size of the pictures, and of the
# ambition. Whether sampling is, lesson 10 says.

# %% [markdown] tags=["remark"]
# Your guesses (3) and (4): how far off? If you had one GPU for a week, what would you train?

# %% [markdown]
# ## What to remember
#
# - A flow is a diffusion model: schedule $\alpha = 1 - t$, $\sigma = t$, prediction $x_1 - x_0$.
#   Euler's steps are DDIM's.
# - Lines between pairs are straight; paths of the flow are not.
# - A transformer sees patches as tokens; gates that start closed make it trainable. Compare at
#   equal compute, and say in which currency.
# - Pieces, processes and half the digits change how a step is computed, and not which step it is.
#   Test that in float64.
# - Tell times as measured or estimated, with the hardware named.
#
# **Where it goes next.** To your own data. `course train my.toml` takes it from here.
#
# ## References
#
# - Lipman, Chen, Ben-Hamu, Nickel, Le 2022, [Flow matching for generative
#   modeling](https://arxiv.org/abs/2210.02747): theorem 1, and section 4 for the straight path.
# - Liu, Gong, Liu 2022, [Flow straight and fast: learning to generate and transfer data with
#   rectified flow](https://arxiv.org/abs/2209.03003): and how to make the paths straighter.
# - Peebles, Xie 2022, [Scalable diffusion models with
#   transformers](https://arxiv.org/abs/2212.09748): DiT and adaLN-Zero.
# - Esser et al. 2024, [Scaling rectified flow transformers](https://arxiv.org/abs/2403.03206): the
#   logit-normal times, section 3.1.
# - Micikevicius et al. 2017, [Mixed precision training](https://arxiv.org/abs/1710.03740)
#   (float16, with scaled losses); Kalamkar et al. 2019, [A study of
#   bfloat16](https://arxiv.org/abs/1905.12322).
# - Goyal et al. 2017, [Accurate, large minibatch SGD](https://arxiv.org/abs/1706.02677): many
#   workers, one step.
# - Krizhevsky 2009, [Learning multiple layers of features from tiny
#   images](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf): CIFAR-10.
