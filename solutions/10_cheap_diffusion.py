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
# # 10 · Cheap diffusion
# <!-- lesson-header -->
#
# A sample costs the number of network calls, times the cost of a call. This lesson makes both
# smaller, and measures what each saving does to the samples. You will be able to
#
# - count the arithmetic of a network, and say why seconds are another matter,
# - read a figure of quality against cost, and find in it what is worth its price,
# - teach a network to do in one call what another does in many,
# - say by measurement whether diffusion is "too expensive" (claims C2 and C5).
#
# You need lessons 04 (the U-Net), 06 (DDIM) and 07 (guidance). FD and its floor are those of lesson
# 08.

# %% tags=["setup"]
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from coursework import check, hint
from undiffuse import budget, checkpoints, data, judging, plots
from undiffuse.results import load_results, record

# %% [markdown]
# ## Your guesses first
#
# Nothing has run yet. Each question is answered by a measurement below.

# %% [markdown] tags=["remark"]
# 1. A network does a sixth of the arithmetic of another. How much less time does it take on your
#    machine: a sixth, a third, two thirds? My guess:
# 2. The shipped digits network makes 50 calls of two evaluations each. With how few evaluations can
#    digits be drawn that a classifier's features hardly tell from those? My guess:
# 3. Weights of eight bits in place of thirty-two: how much faster, how much smaller, how much
#    worse? My guess:
# 4. CPU seconds for one digit, with the cheapest setting that is still good: 1, 0.1, 0.01?
#    My guess:

# %% [markdown]
# ## What does a call cost?
#
# Arithmetic is counted in **FLOPs**, floating-point operations. A multiplication and the addition
# after it count as two. (Papers that count the pair as one call it a MAC. Factors of two between
# published figures mostly come from this.)
#
# Take a convolution with $C_\text{in}$ input channels and a kernel of $k_1 \times k_2$ places. One
# number of its output is a sum of $C_\text{in} k_1 k_2$ products; with $g$ groups, an output
# channel sees $C_\text{in} / g$ input channels only. There are $C_\text{out}$ output channels, at
# each of the output's places:
#
# $$\text{FLOPs} = 2 \cdot \text{places} \cdot C_\text{out} \cdot \frac{C_\text{in}}{g} \cdot k_1
# k_2, \qquad \text{places along an axis} = \Big\lfloor \frac{n + 2p - d\,(k - 1) - 1}{s}
# \Big\rfloor + 1,$$
#
# for an input of $n$ places along that axis, padding $p$ at each side, stride $s$ and dilation $d$
# (how far apart the kernel's places are). The bias is left out: one addition, next to all those
# products.


# %%
def per_axis(value, axes: int) -> tuple[int, ...]:
    """One number for each axis: ``value`` itself if it is a tuple, else ``axes`` times."""
    return (value,) * axes if isinstance(value, int) else tuple(value)


# %% [markdown]
# <!-- exercise 10.1 -->
#
# Write the count of one convolution, and then that of a whole network: of every `nn.Conv1d`,
# `nn.Conv2d` and `nn.Linear`, as often as it is called, at the sizes that it then gets. What is
# between the layers is not counted. A forward hook tells you when a layer runs:
# `handle = module.register_forward_hook(f)` has torch call `f(module, inputs, output)`, until
# `handle.remove()`.


# %% tags=["answer"] exercise="10.1"
def conv_flops(
    in_channels: int,
    out_channels: int,
    kernel,
    size: tuple[int, ...],
    stride=1,
    padding=0,
    groups: int = 1,
    dilation=1,
) -> int:
    """FLOPs of a convolution on one sample; a multiplication and an addition are two; no bias.

    size: of its input, (L,) or (H, W). kernel, stride, padding, dilation: an int for all axes or a
    tuple with one for each (``per_axis`` makes the second of the first).
    """
    # BEGIN SOLUTION
    axes = len(size)
    kernels = per_axis(kernel, axes)
    places = 1
    for n, k, s, p, d in zip(
        size, kernels, per_axis(stride, axes), per_axis(padding, axes), per_axis(dilation, axes)
    ):
        places *= (n + 2 * p - d * (k - 1) - 1) // s + 1
    return 2 * places * out_channels * (in_channels // groups) * math.prod(kernels)
    # END SOLUTION


def model_flops(model: nn.Module, shape: tuple[int, ...], *inputs) -> int:
    """FLOPs of one call model(x, *inputs) with x of ``shape`` (B, ...), the batch included.

    Convolutions and linear layers are counted, each time that they are called. A linear layer acts
    on the last axis, at every place of all the others. No hook stays on the model, and it is left
    in the mode (training or evaluation) in which it was.
    """
    # BEGIN SOLUTION
    total = 0

    def hook(module, args, out):
        nonlocal total
        if isinstance(module, nn.Linear):
            total += 2 * module.in_features * out.numel()
            return
        x = args[0]
        total += len(x) * conv_flops(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            tuple(x.shape[2:]),
            module.stride,
            module.padding,
            module.groups,
            module.dilation,
        )

    counted = (nn.Conv1d, nn.Conv2d, nn.Linear)
    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, counted)]
    with torch.no_grad():
        model(torch.zeros(shape), *inputs)
    for handle in handles:
        handle.remove()
    return total
    # END SOLUTION


# %% tags=["check"]
check("10.1")

# %% [markdown]
# The shipped digits network, counted by you and by torch itself:

# %% tags=["compare"]
from torch.utils.flop_counter import FlopCounterMode

teacher = checkpoints.load("digits")
with FlopCounterMode(display=False) as counter, torch.no_grad():
    teacher.model(torch.zeros(1, 1, 28, 28), 0.5)
mine = model_flops(teacher.model, (1, 1, 28, 28), 0.5)
print(
    "MFLOP a call:", round(mine / 1e6, 1), "- as torch counts:", mine == counter.get_total_flops()
)

# %% [markdown]
# ## Fewer products: a convolution in two parts
#
# A full convolution looks at neighbours and mixes channels in one go: $C_\text{in} C_\text{out}
# k^2$ products a place. Take the two jobs apart. A **depthwise** convolution looks at neighbours in
# each channel alone ($C_\text{in} k^2$ products), a **pointwise** one mixes the channels at each
# place ($C_\text{in} C_\text{out}$). For 96 channels and a kernel of 3 the sum is less than an
# eighth. What is lost: the full layer can look for another pattern in each pair of channels, this
# one for one pattern a channel. MobileNet (Howard et al. 2017) is built of such layers.

# %% [markdown]
# <!-- exercise 10.2 -->
#
# Write the layer, with its constructor. The names of its two parts are asked for, as weights are
# found by them.


# %% tags=["answer"] exercise="10.2"
class DepthwiseSeparable(nn.Module):
    """A depthwise and then a pointwise convolution, nothing between.

    in_channels, out_channels, kernel (odd), stride as in nn.Conv2d. dims: 1 for sound (B, C, L), 2
    for images (B, C, H, W).
    self.depthwise: in_channels to in_channels, each alone, with the kernel and the stride, padding
        kernel // 2, no bias. self.pointwise: in_channels to out_channels, kernel 1, with bias.
    forward(x) -> (B, out_channels, ...), of x's size for stride 1.
    """

    # BEGIN SOLUTION
    def __init__(self, in_channels, out_channels, kernel=3, stride=1, dims=2):
        super().__init__()
        conv = nn.Conv1d if dims == 1 else nn.Conv2d
        self.depthwise = conv(
            in_channels, in_channels, kernel, stride, kernel // 2, groups=in_channels, bias=False
        )
        self.pointwise = conv(in_channels, out_channels, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))

    # END SOLUTION


# %% tags=["check"]
check("10.2")

# %% [markdown]
# The library's U-Net takes such layers with `separable=True`. The next cell compares networks of
# one design: arithmetic, and CPU seconds for a call on 50 samples. **CPU seconds** are the seconds
# that all cores together spend. They are this lesson's price: easily measured, and a proxy of the
# energy (a core draws some watts while it works; how many, your machine does not say).

# %%
from undiffuse import costs
from undiffuse.unet import UNet

designs = {
    "shipped": {"channels": (48, 96), "patch": 2},
    "separable": {"channels": (48, 96), "patch": 2, "separable": True},
    "narrower": {"channels": (32, 64), "patch": 2},
    "larger patches": {"channels": (48, 96), "patch": 4},
}
x, many = torch.randn(50, 1, 28, 28), budget(full=7, small=3)
calls_cost = {}
for name, options in designs.items():
    network = UNet(classes=10, **options).eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        seconds = costs.cpu_seconds(lambda network=network: network(x, 0.5), many)
    calls_cost[name] = costs.model_flops(network, (1, 1, 28, 28), 0.5), seconds[many // 2] / 50
base = calls_cost["shipped"]
for name, (count, seconds) in calls_cost.items():
    print(
        f"{name:15} {count / 1e6:6.1f} MFLOP ({count / base[0]:.2f} of the shipped), "
        f"{1e3 * seconds:6.2f} ms a call and sample ({seconds / base[1]:.2f})"
    )

# %% [markdown]
# Compare with your first guess. Arithmetic and time part where a layer does little arithmetic for
# each number that it reads: a depthwise layer multiplies each number nine times and is done, so
# that the processor waits for memory. FLOPs say what is *possible*; the clock says what is.

# %% [markdown]
# ## Fewer places: pixels into channels
#
# A 28 by 28 image has 784 places. Take 2 by 2 neighbours together as channels, and it has 196,
# with four numbers each. The network then works at a quarter of the places. The shipped network
# does this: its first layer, the **stem**, is a reordering without any weight.

# %% [markdown]
# <!-- exercise 10.6 -->
#
# Write the reordering and its inverse. Channel $c$, row $i$ and column $j$ *within* a patch become
# channel $(c\,p + i)\,p + j$, for patches of $p$ by $p$: rows before columns, and both after the
# old channel. Where $p$ does not divide a size, copies of the last row go below and of the last
# column to the right (`F.pad` with `mode="replicate"`), as many as are missing.


# %% tags=["answer"] exercise="10.6"
class PatchStem(nn.Module):
    """Moves patches of patch by patch pixels into channels, and back. No weights."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def fold(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C patch^2, ceil(H / patch), ceil(W / patch)). x is not changed."""
        # BEGIN SOLUTION
        p = self.patch
        x = F.pad(x, (0, -x.shape[3] % p, 0, -x.shape[2] % p), mode="replicate")
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // p, p, w // p, p).permute(0, 1, 3, 5, 2, 4)
        return x.reshape(b, c * p * p, h // p, w // p)
        # END SOLUTION

    def unfold(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The inverse: (B, C patch^2, h, w) -> (B, C, *size), what was added cut off again."""
        # BEGIN SOLUTION
        p = self.patch
        b, c, h, w = x.shape
        x = x.reshape(b, c // (p * p), p, p, h, w).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(b, c // (p * p), h * p, w * p)[:, :, : size[0], : size[1]]
        # END SOLUTION


# %% tags=["check"]
check("10.6")

# %% [markdown]
# ## Guidance in one call
#
# Guidance (07.3) asks the network twice: with the label, and with the label for "none". Two calls
# on $B$ samples do the same arithmetic as one call on $2B$, but each call has its price besides:
# starting every layer, reading every weight. On a GPU with small batches that price is most of all.

# %% [markdown]
# <!-- exercise 10.7 -->
#
# Write the guided prediction with a single call. Which half comes first is up to you.


# %% tags=["answer"] exercise="10.7"
def batched_cfg(
    model, x_t: torch.Tensor, t, cond: torch.Tensor, null: int, scale: float
) -> torch.Tensor:
    """eps_uncond + scale (eps_cond - eps_uncond), by one call of the network.

    model: (x, t, labels) -> prediction, of any number of samples; t a number, or one for each.
    x_t: (B, ...). t: a number or (B,). cond: labels (B,) int64. null: the label for "none".
    No argument is changed. Returns x_t's shape.
    """
    # BEGIN SOLUTION
    labels = torch.cat([cond, torch.full_like(cond, null)])
    time = torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim else t
    with_label, without = model(torch.cat([x_t, x_t]), time, labels).chunk(2)
    return without + scale * (with_label - without)
    # END SOLUTION


# %% tags=["check"]
check("10.7")

# %% [markdown]
# ## Fewer bits
#
# **Quantisation** keeps weights as whole numbers of eight bits with a common factor. *Dynamic*
# quantisation rounds what comes into a layer to eight bits as well, at each call, by its own range.
# torch does this for linear layers. But our network consists of convolutions. There is a dynamic
# layer for these, too; torch leaves it out of what it replaces by itself, and warns of its
# accuracy. Both are tried here, on the same noisy digits.

# %%
import warnings

from undiffuse.quantising import dynamic_int8, file_bytes

g = torch.Generator().manual_seed(0)
some, labels = data.digits("validation", 50)
noisy = (some + torch.randn(some.shape, generator=g)) / 2**0.5
whole = file_bytes(teacher.model)
with torch.no_grad(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    right = teacher.model(noisy, 0.5, labels)
    before = costs.cpu_seconds(lambda: teacher.model(noisy, 0.5, labels), many)[many // 2]
    for name, convs in (("linear layers", False), ("convolutions as well", True)):
        small = dynamic_int8(teacher.model, convs)
        off = (small(noisy, 0.5, labels) - right).norm() / right.norm()
        after = costs.cpu_seconds(lambda small=small: small(noisy, 0.5, labels), many)[many // 2]
        print(
            f"{name:21} {file_bytes(small) / whole:.2f} of the bytes, {after / before:.2f} of the "
            f"CPU seconds, prediction off by {off:.1%}"
        )

# %% [markdown]
# Read the last column first: what is off by a large share of itself is no longer the same network,
# however small it is. Tools that quantise convolutions well measure their ranges beforehand, and
# are made for one kind of processor each. Compare with your third guess.

# %% [markdown]
# ## Fewer calls: a student that skips steps
#
# A solver cannot make its steps as long as it likes: over a long step the path bends, and the
# network only knows where it points at the start. But the network could be *taught* where the path
# ends. **Progressive distillation** (Salimans & Ho 2022) does so by halves. A *teacher* takes two
# DDIM steps, from $t$ by way of $t'$ to $t''$. A *student* learns to take one from $t$ to $t''$ and
# arrive at the same point. Then the student becomes the teacher, and so on, down to one call.
#
# What has to be learnt? A DDIM step from $x_t$ with the estimate $\hat x_0$ goes to
#
# $$x_{t''} = \alpha'' \hat x_0 + \sigma''\, \frac{x_t - \alpha\, \hat x_0}{\sigma}
# = k\, x_t + (\alpha'' - k\, \alpha)\, \hat x_0, \qquad k = \frac{\sigma''}{\sigma},$$
#
# with $\alpha, \sigma$ the levels at $t$ and $\alpha'', \sigma''$ those at $t''$. The teacher's two
# steps end at some $x_{t''}$. Solve for the $\hat x_0$ that leads there: that is the target. It is
# neither of the teacher's two estimates.

# %% [markdown]
# <!-- exercise 10.4 -->
#
# Compute the target: two steps of the teacher, and then the equation above, solved.


# %% tags=["answer"] exercise="10.4"
def distillation_target(
    teacher,
    x_t: torch.Tensor,
    t: torch.Tensor,
    t_mid: torch.Tensor,
    t_next: torch.Tensor,
    alpha,
    sigma,
    cond=None,
) -> torch.Tensor:
    """The x0 with which one DDIM step from t to t_next arrives where the teacher's two do.

    teacher: (x, time (B,), cond) -> estimate of x0; called twice, with t and with t_mid.
    x_t: (B, ...) at the times t (B,). t > t_mid > t_next: (B,) each, of x_t's dtype.
    alpha, sigma: functions of time, (B,) to (B,). sigma may be 0 at t_next (data).
    cond: passed on to the teacher in both calls.
    Returns (B, ...) without a graph: no gradient goes into the teacher.
    """
    # BEGIN SOLUTION
    with torch.no_grad():
        column = (-1, *[1] * (x_t.ndim - 1))
        a, a_mid, a_next = (alpha(v).reshape(column) for v in (t, t_mid, t_next))
        s, s_mid, s_next = (sigma(v).reshape(column) for v in (t, t_mid, t_next))
        x0 = teacher(x_t, t, cond)
        x_mid = a_mid * x0 + s_mid * (x_t - a * x0) / s
        x0 = teacher(x_mid, t_mid, cond)
        x_next = a_next * x0 + s_next * (x_mid - a_mid * x0) / s_mid
        k = s_next / s
        return (x_next - k * x_t) / (a_next - k * a)
    # END SOLUTION


# %% tags=["check"]
check("10.4")

# %% [markdown]
# The small version, in minutes: from the shipped digits, whose guidance is distilled along with it,
# to a student of four calls and one of two. Every student makes *one* evaluation a call where the
# guided teacher makes two. (The library does the training: your target, the optimiser and the
# averaged weights of lesson 05.)

# %% tags=["slow"]
import time

from undiffuse.distillation import Plan, progressive
from undiffuse.draw import draw

images, digits_labels = data.digits("train", budget(full=5000, small=300))
plan = Plan(steps=budget(full=150, small=4), batch=budget(full=32, small=4))
students, started = {}, time.process_time()
for student in progressive(teacher, images, digits_labels, first=4, last=2, plan=plan):
    students[student.recipe.distilled["calls"]] = student
    print(f"{student.name}: loss {student.facts['loss']:.4f} at the end of {plan.steps} steps")
print(f"{time.process_time() - started:.0f} CPU seconds")

# %% tags=["figure"]
ten = torch.arange(10)
rows = [draw(teacher, 10, labels=ten, seed=3, solver="ddim", calls=c)[0] for c in (20, 4, 2)]
rows += [draw(students[c], 10, labels=ten, seed=3)[0] for c in (4, 2)]
names = ["teacher, 20 calls", "teacher, 4", "teacher, 2", "student, 4", "student, 2"]
fig = plots.forward_strip(
    torch.stack(rows).swapaxes(0, 1), list(range(10)), row_labels=names, level_name="", row_name=""
)
plots.show(
    fig,
    alt="Five rows of the digits 0 to 9: the teacher with 20, 4 and 2 calls, the student with 4 "
    "and with 2.",
    caption="All rows from the same noise. Compare each student with the teacher of as many calls, "
    "and with the teacher of 20, whose path it has learnt.",
)

# %% [markdown]
# ## One call: consistency
#
# There is another way to a single call. All points of one path end at the same data. So ask for a
# function $f$ that gives that end from *any* point of the path: it must have the same value at
# neighbouring points, $f(x_t, t) = f(x_{t'}, t')$. This is a **consistency model** (Song et al.
# 2023). A function that is always 0 has the same value everywhere, too. What rules it out is the
# end of the path, where nothing is left to do: $f(x, \sigma_\text{min}) = x$. That is built in, so
# that no training is needed for it:
#
# $$f(u, t) = c_\text{skip}(t)\, u + c_\text{out}(t)\, F(u, t), \qquad
# c_\text{skip} = \frac{\sigma_d^2}{(t - \sigma_\text{min})^2 + \sigma_d^2},
# \qquad c_\text{out} = \frac{\sigma_d\,(t - \sigma_\text{min})}
# {\sqrt{\sigma_d^2 + t^2}}.$$
#
# $F$ is the network, $t$ the noise level of $u = x_0 + t\,\varepsilon$ (06.9), $\sigma_d$ the
# deviation of the data. With $\sigma_\text{min} = 0$ and $\sigma_d = 1$ these are, but for a sign,
# the factors that turn a prediction of $v$ into one of $x_0$: a network that predicts $v$ is half a
# consistency model already.

# %% [markdown]
# <!-- exercise 10.5 -->
#
# Write the two factors.


# %% tags=["answer"] exercise="10.5"
def consistency_skip(
    t: torch.Tensor, sigma_data: float, sigma_min: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(c_skip, c_out) at the noise levels t.

    t: a float tensor of any shape, at least sigma_min. Both results have its shape and dtype; at
    t = sigma_min they are 1 and 0.
    """
    # BEGIN SOLUTION
    beyond = t - sigma_min
    c_skip = sigma_data**2 / (beyond**2 + sigma_data**2)
    return c_skip, sigma_data * beyond / (sigma_data**2 + t**2) ** 0.5
    # END SOLUTION


# %% tags=["check"]
check("10.5")

# %% tags=["figure"]
level = torch.logspace(math.log10(0.02), 2, 200, dtype=torch.float64)
factors = consistency_skip(level, 1.0, 0.02)
fig = plots.curves(
    {"c_skip": factors[0], "c_out": factors[1]},
    level,
    xlabel="noise level t",
    ylabel="factor",
    log_x=True,
)
plots.show(
    fig,
    alt="Two curves over the noise level from 0.02 to 100. c_skip starts at 1 and falls to 0 "
    "around level 1, c_out starts at 0 and rises to 1.",
    caption="Little noise: the input passes. Much noise: the network says everything.",
)

# %% [markdown]
# ## Somewhere smaller: latents
#
# All of this was about one network on pixels. One can also leave the pixels: an **autoencoder**
# squeezes an image into fewer numbers, its *code* or *latent*, and back, and diffusion runs on the
# codes (Rombach et al. 2022, "latent diffusion"). A schedule is made for data of unit variance.
# Codes have whatever variance training gave them, so one factor brings them there. It is fixed once
# and kept with the weights: the decoder has to undo it.

# %% [markdown]
# <!-- exercise 10.8 -->
#
# The constructor is given. Write the four methods.


# %% tags=["answer"] exercise="10.8"
class LatentCodec(nn.Module):
    """An autoencoder of images (H and W divisible by 4) whose codes have unit variance."""

    def __init__(self, in_channels: int = 1, latent_channels: int = 4, width: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(width, 4 * in_channels, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.register_buffer("scale", torch.ones(()))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Codes of images (B, C, H, W): what the encoder gives, times self.scale."""
        # BEGIN SOLUTION
        return self.scale * self.encoder(x)
        # END SOLUTION

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Images of codes as encode gives them."""
        # BEGIN SOLUTION
        return self.decoder(z / self.scale)
        # END SOLUTION

    @torch.no_grad()
    def set_scale(self, x: torch.Tensor) -> float:
        """Sets self.scale (in place: it stays a buffer) so that the codes of x have deviation 1.

        The deviation is that of all numbers of all codes of x about their mean, with correction=0.
        Whatever the scale was before makes no difference. Returns the new scale.
        """
        # BEGIN SOLUTION
        self.scale.copy_(1 / self.encoder(x).std(correction=0))
        return float(self.scale)
        # END SOLUTION

    def fit(
        self,
        x: torch.Tensor,
        steps: int,
        generator: torch.Generator,
        batch: int = 64,
        lr: float = 1e-3,
    ) -> list[float]:
        """Trains encoder and decoder on images x (N, C, H, W), then sets the scale from all of x.

        torch.optim.Adam with the rate lr on the mean squared error between the decoded codes and
        the images. Each step draws its images by torch.randint(N, (batch,), generator=generator),
        and nothing else. Before fit the scale is 1. Returns the loss of each step, as floats.
        """
        # BEGIN SOLUTION
        optimizer = torch.optim.Adam(self.parameters(), lr)
        losses = []
        for _ in range(steps):
            index = torch.randint(len(x), (batch,), generator=generator)
            loss = F.mse_loss(self.decode(self.encode(x[index])), x[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        self.set_scale(x)
        return losses
        # END SOLUTION


# %% tags=["check"]
check("10.8")

# %% tags=["figure"]
torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
try:
    codec = LatentCodec(1, 4, 16)
    losses = codec.fit(images, budget(full=400, small=10), g, batch=32)
except NotImplementedError:  # an extra: the library's serves
    from undiffuse.latents import LatentCodec as Ready

    codec = Ready(1, 4, 16)
    losses = codec.fit(images, budget(full=400, small=10), g, batch=32)
test, _ = data.digits("validation", 500)
with torch.no_grad():
    z = codec.encode(test)
    back = codec.decode(z)
print(f"{test[0].numel()} pixels as {z[0].numel()} numbers; deviation of new codes {z.std():.2f}")
print(
    f"mean squared error of images that it was not trained on: {(back - test).square().mean():.4f}"
)
fig = plots.compare_images(
    test[:8], back[:8].clamp(-1, 1), names=("image", "decoded"), difference=False
)
plots.show(
    fig,
    alt="Eight digits, and below each what the autoencoder makes of its code: the same digits, "
    "slightly softer.",
    caption="What the codec loses, no diffusion model on its codes brings back. Its FD is a floor "
    "under theirs.",
)

# %% [markdown]
# ## Which are worth their price?
#
# Solvers, steps, networks, students: each setting has a price and a quality. Most of them are not
# worth a look, as another one is cheaper *and* better. Those that no other beats are the **Pareto
# front**.

# %% [markdown]
# <!-- exercise 10.3 -->
#
# Find the front. A point is beaten when another one is at most as large in every column, and
# smaller in at least one. Of equal points none beats the other, and all stay.


# %% tags=["answer"] exercise="10.3"
def pareto_front(points: torch.Tensor) -> torch.Tensor:
    """Indices of the points that no other one beats, rising: int64 (K,).

    points: (N, D) float, N >= 1; smaller is better in every column.
    """
    # BEGIN SOLUTION
    no_worse = (points[:, None] <= points[None]).all(2)
    better = (points[:, None] < points[None]).any(2)
    return (~(no_worse & better).any(0)).nonzero()[:, 0]
    # END SOLUTION


# %% tags=["check"]
check("10.3")

# %% [markdown]
# ## C2 and C5: quality against seconds
#
# > "More diffusion steps give more realistic output." (C2)
# > "Diffusion models are too computationally expensive." (C5)
#
# One figure for both. Every setting is measured by the FD of its digits over the floor (lesson 08)
# and by the CPU seconds of one digit. Your own machine first, with few samples: the teacher with
# several solvers and calls, the shipped network of separable convolutions (`digits-efficient`, a
# sixth of the arithmetic a call), and your students. (None is guided here: each makes one
# evaluation a call, as a student does.)

# %% tags=["slow"]
n, seeds = budget(full=300, small=20), (0, 1, 2)
asked = judging.labels_like("digits", n)
settings = {
    f"{solver}, {calls} calls": (teacher, {"solver": name, "calls": calls, "guidance": 1.0})
    for solver, name in (("DDIM", "ddim"), ("DPM-Solver++", "dpmpp_2m"))
    for calls in budget(full=(4, 10, 20), small=(2,))
}
separable = checkpoints.load("digits-efficient")
for calls in budget(full=(4, 10), small=(2,)):
    way = {"solver": "dpmpp_2m", "calls": calls, "guidance": 1.0}
    settings[f"separable, DPM-Solver++, {calls} calls"] = separable, way
settings |= {f"student, {c} calls": (student, {}) for c, student in students.items()}
rows = []
for name, (network, way) in settings.items():
    fds = []
    started = time.process_time()
    for seed in seeds[: budget(full=3, small=2)]:
        made, _ = draw(network, n, labels=asked, seed=seed, **way)
        fds.append(judging.judge_images(made, asked, "digits", (seed,), resamples=5))
    seconds = costs.cpu_seconds(lambda network=network, way=way: draw(network, 20, **way), 1)[0]
    ratios = [f.ratio for f in fds]
    rows.append(
        {
            "setting": name,
            "calls": way.get("calls", network.recipe.distilled.get("calls")),
            "FD / floor": sum(ratios) / len(ratios),
            "from": min(ratios),
            "to": max(ratios),
            "CPU seconds a sample": seconds / 20,
        }
    )
    print(f"{name:33} FD / floor {rows[-1]['FD / floor']:6.2f}, {seconds / 20:.4f} CPU seconds")

# %% [markdown]
# Few samples make FD uncertain, and a student of a few minutes is no good student. The full
# measurement takes longer than a lesson: it is made by `data/build/distil_checkpoints.py` and
# `measure_efficient.py` beside it, with three seeds of 1,000 samples and students that saw many
# times as many digits as yours. The next figure shows those results where they are there, and yours
# where they are not.


# %% tags=["figure"]
from matplotlib.ticker import NullLocator


def cost_figure(shown: list[dict], title: str):
    """FD over the floor against CPU seconds, the front joined by a line."""
    points = torch.tensor([[r["CPU seconds a sample"], r["FD / floor"]] for r in shown])
    try:
        best = pareto_front(points.double())
    except NotImplementedError:
        best = costs.pareto_front(points)
    best = best[points[best, 0].argsort()]
    fig = plots.curves(
        {"front": points[best, 1]},
        points[best, 0],
        xlabel="CPU seconds a sample",
        ylabel="FD / floor",
        title=title,
        log_x=True,
        log_y=True,
        markers=True,
        floor=1.0,
        floor_name="floor: real against real",
    )
    ax = fig.axes[0]
    for r, (seconds, ratio) in zip(shown, points.tolist()):
        ax.plot([seconds] * 2, [r["from"], r["to"]], color="0.6", linewidth=1, zorder=1)
        ax.plot(seconds, ratio, "o", color="0.4", markersize=4, zorder=2)
        ax.annotate(r["setting"], (seconds, ratio), xytext=(3, 5), textcoords="offset points",
                    fontsize=7, rotation=30, rotation_mode="anchor")  # fmt: skip
    steps = [m * 10.0**e for e in range(-4, 3) for m in (1, 2, 5)]
    for axis, values in ((ax.xaxis, points[:, 0]), (ax.yaxis, points[:, 1])):
        low, high = 0.8 * min(float(values.min()), 1.0 if axis is ax.yaxis else 1e9), values.max()
        ticks = [v for v in steps if low <= v <= high]
        axis.set_ticks(ticks, [f"{v:g}" for v in ticks])
        axis.set_minor_locator(NullLocator())
    ax.set_xlim(right=2.2 * float(points[:, 0].max()))  # room for names
    ax.set_ylim(top=1.7 * max(r["to"] for r in shown))
    return fig, [shown[i]["setting"] for i in best.tolist()]


def of_results(result: dict, told: str) -> list[dict]:
    """The rows of a shipped result, as the figure takes them."""
    return [
        {
            "setting": r[told] + (f", {r['calls']}" if "calls" in r else ""),
            "FD / floor": r["FD"] / result["floor"],
            "from": r["from"] / result["floor"],
            "to": r["to"] / result["floor"],
            "CPU seconds a sample": r["CPU seconds"],
        }
        for r in result["rows"]
    ]


try:
    kept = load_results(data.folder() / "results")
except FileNotFoundError:
    kept = {}
shown, title = rows, f"your machine, n = {n}"
if "C5-distilled" in kept:
    full = kept["C5-distilled"]
    print(f"{full['claim']}: {full['verdict']}\nmade by: {full['command']}")
    title = f"shipped results, n = {full['n']}"
    shown = of_results(full, "model")
    if "C5-efficient" in kept:
        less = kept["C5-efficient"]
        print(f"{less['claim']}: {less['verdict']}\nmade by: {less['command']}")
        # The first network is the teacher: of it, what is not in the figure yet.
        shown += [
            r for r in of_results(less, "network") if r["setting"] != "digits, DDIM, 50 calls"
        ]
else:
    print("full results not measured yet: python data/build/distil_checkpoints.py --out "
          "runs/distilled --write")  # fmt: skip
fig, front = cost_figure(shown, title)
plots.show(
    fig,
    alt="FD over the floor against CPU seconds a sample, on logarithmic axes, with the floor as a "
    "level. On the front, from cheap to good: " + "; ".join(front) + ".",
    caption="Every dot is a setting, every grey line its range over seeds. The line joins those "
    "that no other setting beats; what lies above it costs more for worse digits.",
)

# %%
NEAR = 1.25  # "as good": within this factor of the best FD
best = min(r["FD / floor"] for r in rows)
good = [r for r in rows if r["FD / floor"] <= NEAR * best]
cheapest = min(good, key=lambda r: r["CPU seconds a sample"])
dearest = max(rows, key=lambda r: r["CPU seconds a sample"])
by_calls = sorted((r for r in rows if r["setting"].startswith("DDIM")), key=lambda r: r["calls"])
gains = [
    f"{a['calls']} to {b['calls']}" for a, b in itertools.pairwise(by_calls) if b["to"] < a["from"]
]
times = dearest["CPU seconds a sample"] / cheapest["CPU seconds a sample"]
verdict = (
    ("less will do" if times >= 1.5 else "no setting saves much")
    + f": within {NEAR} times the best FD, the cheapest sample takes "
    f"{cheapest['CPU seconds a sample']:.3f} CPU seconds ({cheapest['setting']}), {times:.1f} "
    f"times less than the dearest setting ({dearest['setting']}). More calls (C2): FD falls beyond "
    "the spread of the seeds "
    + (f"from {', '.join(gains)} calls of DDIM" if gains else "at no step of calls that was tried")
)
result = record(
    "C5-digits",
    rows,
    verdict,
    seeds[: budget(full=3, small=2)],
    n=n,
    near=NEAR,
    plan_steps=plan.steps,
)

# %% [markdown]
# What would change the verdict? Digits are small and easy: on large images a call costs thousands
# of times as much, and students of one call lose more. Training is not in these figures. The price
# of distilling is paid once, and is worth it when many samples are drawn. And CPU seconds are those
# of your machine: on another, a full convolution may be cheaper than a separable one.

# %% [markdown] tags=["remark"]
# Compare with your guesses. For which use would you take which setting of the front?

# %% [markdown]
# ## What to remember
#
# - A sample costs calls times the cost of a call. FLOPs count arithmetic; only the clock counts
#   seconds.
# - A student learns to arrive in one step where its teacher arrives in two. Its target is neither
#   of the teacher's estimates.
# - A consistency model gives the end of the path from any point of it; the boundary is built in.
# - Latents move the work to fewer numbers. What the codec loses stays lost.
# - "Too expensive" is a point in a plane of quality and seconds. Say where on the front you are.
#
# **Where it goes next.** Lessons 11 and 12 go on to sound. A clip has many more numbers than a
# digit, so that the ways to fewer places come back there: patches, and a smaller picture of the
# sound.
#
# ## References
#
# - Salimans, Ho 2022, [Progressive distillation for fast sampling of diffusion models](https://arxiv.org/abs/2202.00512):
#   algorithm 2, and section 4 on the loss.
# - Song, Dhariwal, Chen, Sutskever 2023, [Consistency models](https://arxiv.org/abs/2303.01469):
#   algorithms 1 and 2, appendix C.
# - Song, Dhariwal 2023, [Improved techniques for training consistency models](https://arxiv.org/abs/2310.14189).
# - Howard et al. 2017, [MobileNets](https://arxiv.org/abs/1704.04861): depthwise separable
#   convolutions.
# - Shi et al. 2016, [Real-time single image and video super-resolution](https://arxiv.org/abs/1609.05158):
#   pixel shuffle.
# - Rombach, Blattmann, Lorenz, Esser, Ommer 2022,
#   [High-resolution image synthesis with latent diffusion models](https://arxiv.org/abs/2112.10752).
