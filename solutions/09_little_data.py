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
# # 09 · Little data
# <!-- lesson-header -->
#
# "Diffusion models need a large amount of training data." How large? And what can you do with two
# hundred pictures? You will be able to
#
# - choose a few samples so that they stand for all,
# - alter pictures at random in one resampling, and tell the network how, so that what you draw is
#   not altered,
# - begin from a network of other pictures: with all of its weights, some of them, or small
#   additions (LoRA),
# - decide when to stop, by unseen data and by copies,
# - say from measurements with three seeds what each of these is worth.
#
# You need lessons 05 (training, averaged weights, `augment`) and 08 (Fréchet distance, its floor,
# memorisation).

# %% tags=["setup"]
import copy
import fnmatch
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from coursework import check, hint
from undiffuse import affine, budget, checkpoints, data, finetune, plots, printed, stopping, subsets
from undiffuse.experiments import compare, little_data
from undiffuse.results import load_results

# %%
digits, labels = data.digits("train")  # (5000, 1, 28, 28) in [-1, 1], and (5000,)


def seeded(seed: int) -> torch.Generator:
    """A generator of its own for each purpose."""
    return torch.Generator().manual_seed(seed)


def yours_or_the_courses(yours, theirs):
    """A function that calls yours, and the library's while yours is not written."""

    def call(*args, **kwargs):
        try:
            return yours(*args, **kwargs)
        except NotImplementedError:
            return theirs(*args, **kwargs)

    return call


# %% [markdown]
# ## Four claims, and your guesses
#
# > **Claim 4.** "They need a large amount of training data."
#
# > **Claim 7.** "Augmentation such as random cropping and flipping improves the model."
#
# > **Claim 8.** "Validation loss shows overfitting."
#
# > **Claim 10.** "Transfer learning lets them train on small sets."
#
# Claims 7 and 8 were measured in lesson 05 on 500 and 200 digits, in short runs. Here they come
# back with as few as 50.

# %% [markdown] tags=["remark"]
# 1. A model learns from 200 digits, another from 5,000, for the same number of steps. How many
#    times as large is the Fréchet distance of the first? My guess:
# 2. What helps the first one more: altered copies of its 200 digits, or beginning from a network
#    that knows clothes? My guess:
# 3. Can a network of clothes be of any use for digits? And need all of its weights learn on, or
#    will small additions to them do? My guess:
# 4. A model of 50 digits is trained on and on. What comes first: the loss on other digits turns up,
#    or its samples become copies? My guess:

# %% [markdown]
# ## A few that stand for all
#
# Draw 50 of 5,000 digits at random, and one class may come nine times and another once. A model of
# these would draw too many of the first: that is no fault of the model. So the choice is
# **stratified**: each class gets its share.
#
# With $N$ labels, of which $N_c$ say $c$, the share of class $c$ in $n$ samples is $n N_c / N$.
# That is seldom a whole number. The custom of parliaments helps (Hamilton's method): everybody gets
# the whole part of the share, and the places that are left go, one each, to those with the largest
# fractions.

# %% [markdown]
# <!-- exercise 09.1 -->
#
# Choose the samples. Where fractions are equal, the smaller label goes first. Within a class every
# member has the same chance, and none comes twice.


# %% tags=["answer"] exercise="09.1"
def stratified_subset(
    labels: torch.Tensor, n: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Indices of n different samples, every class with its share: (n,) int64, in any order.

    labels: (N,) int64, any values, in any order; they are not changed. n: 1 to N.
    A class gets the whole part of n * N_c / N places. Places that are left go one each to the
    classes with the largest fractions; of equal fractions, to the smaller label first. Compute
    with whole numbers: n * N_c // N and n * N_c % N. All draws take generator; how you draw is up
    to you.
    """
    # BEGIN SOLUTION
    classes, counts = labels.unique(return_counts=True)
    places, fractions = n * counts // len(labels), n * counts % len(labels)
    left = n - int(places.sum())
    places[fractions.argsort(descending=True, stable=True)[:left]] += 1
    chosen = []
    for c, count in zip(classes, places.tolist()):
        members = (labels == c).nonzero()[:, 0]
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return torch.cat(chosen)
    # END SOLUTION


# %% tags=["check"]
check("09.1")

# %% tags=["compare"]
choose = yours_or_the_courses(stratified_subset, subsets.stratified_subset)
for n in (50, 200):
    index = choose(labels, n, seeded(0))
    at_random = torch.randperm(len(labels), generator=seeded(0))[:n]
    print(f"{n:3} stratified: {labels[index].bincount(minlength=10).tolist()}")
    print(f"{n:3} at random:  {labels[at_random].bincount(minlength=10).tolist()}")

# %% [markdown]
# Another seed chooses other digits. With few of them *which* ones you have is a large part of luck,
# so the experiments below choose anew for every seed: their spread then says so.

# %% tags=["figure"]
order = torch.cat([(labels == c).nonzero()[:, 0] for c in range(10)])
chosen = [choose(labels, 50, seeded(s)).sort().values for s in range(2)]
rows = [i[labels[i].argsort(stable=True)] for i in chosen]
fig = plots.image_grid(torch.cat([digits[r] for r in rows]), columns=25)
plots.show(
    fig,
    alt="Two sets of fifty handwritten digits, five or so of each class. The lower ones are others "
    "than the upper ones.",
    caption="All that two models of 50 digits will ever see of handwriting: seed 0 above, seed 1 "
    "below.",
)

# %% [markdown]
# ## More pictures out of few
#
# A digit that is turned by a few degrees, a little larger, moved by a pixel or slanted is still
# that digit. Lesson 05 moved by whole pixels. An **affine map** does all four at once. A point $p$
# of the picture, measured in pixels from its middle to the right and down, goes to
#
# $$ p' = R\,K\,s\;p + d, \qquad
# R = \begin{pmatrix} \cos a & -\sin a \\ \sin a & \cos a \end{pmatrix}, \quad
# K = \begin{pmatrix} 1 & k \\ 0 & 1 \end{pmatrix} . $$
#
# $R$ turns by the angle $a$, $K$ slants by $k = \tan b$, $s$ is the size, and $d$ the move.
#
# Two things go wrong easily. First, a computer fills a picture pixel by pixel, and asks of each
# $p'$ *where it comes from*: it needs the map backwards, $p = (R K s)^{-1} (p' - d)$. Second, each
# resampling mixes neighbours, and blurs. So all of it is put into one map, and the picture is
# resampled once.
#
# torch has two functions for this. `F.affine_grid(theta, size, align_corners=False)` takes matrices
# `theta` (B, 2, 3) and gives the place from which each pixel comes; `F.grid_sample(x, grid,
# align_corners=False)` looks there, mixes the four nearest pixels, and takes 0 for what lies
# outside. They measure places in units in which the picture reaches from -1 to 1, *both ways,
# whatever its shape*: a pixel is $2 / W$ wide and $2 / H$ high.

# %% [markdown]
# <!-- exercise 09.2 -->
#
# Alter each picture by amounts of its own, and return the amounts. The text of the stub states the
# draw, so that your pictures can be compared pixel by pixel.


# %% tags=["answer"] exercise="09.2"
def random_affine(
    x: torch.Tensor,
    generator: torch.Generator | None = None,
    rotate: float = 10.0,
    scale: float = 0.1,
    shift: float = 2.0,
    shear: float = 0.0,
    fill: float = -1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, C, H, W), each altered by its own affine map, and the amounts (B, 5) float32.

    The draw: u = 2 * torch.rand(B, 5, generator=generator) - 1, in float32. Its columns are shares
    of the limits: turn, size, right, down, slant. A column whose limit is 0 (rotate, scale, shift
    for two of them, shear) is set to 0. These are the amounts that are returned.

    a = rotate degrees times column 0; s = (1 + scale) ** column 1; d = shift pixels times columns 2
    (right) and 3 (down); k = tan(shear degrees times column 4). What stood at p stands at
    R K s p + d then, bilinearly, with fill where nothing was. Resample once. x is not changed; the
    images have its dtype.
    """
    # BEGIN SOLUTION
    u = 2 * torch.rand(len(x), 5, generator=generator) - 1
    u = u * (torch.tensor([rotate, scale, shift, shift, shear]) != 0)
    turn, size, right, down, slant = u.to(x.dtype).unbind(1)
    a, k = math.radians(rotate) * turn, torch.tan(math.radians(shear) * slant)
    cos, sin = a.cos(), a.sin()
    matrix = torch.stack([cos, cos * k - sin, sin, sin * k + cos], 1).reshape(-1, 2, 2)
    matrix = matrix * ((1 + scale) ** size)[:, None, None]
    back = torch.linalg.inv(matrix)
    move = shift * torch.stack([right, down], 1)[:, :, None]
    # From pixels to units of which the picture has 2 each way, and back.
    half = torch.tensor([x.shape[3] / 2, x.shape[2] / 2], dtype=x.dtype)
    theta = torch.cat([back * half / half[:, None], -(back @ move) / half[:, None]], 2)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x - fill, grid, align_corners=False) + fill, u
    # END SOLUTION


# %% tags=["check"]
check("09.2")

# %% tags=["figure"]
alter = yours_or_the_courses(random_affine, affine.random_affine)
row = torch.stack([digits[labels == c][0] for c in (1, 2, 4, 5, 7, 8)])
kinds = {
    "turned": {"rotate": 25.0},
    "resized": {"scale": 0.4},
    "moved": {"shift": 4.0},
    "slanted": {"shear": 25.0},
    "all of it": little_data.AFFINE,
}
none = {"rotate": 0.0, "scale": 0.0, "shift": 0.0, "shear": 0.0}
columns = [row, *(alter(row, seeded(1), **none | limits)[0] for limits in kinds.values())]
fig = plots.forward_strip(
    columns,
    ["as it is", *kinds],
    row_labels=[str(c) for c in (1, 2, 4, 5, 7, 8)],
    row_name="",
    level_name="altered",
)
plots.show(
    fig,
    alt="Six digits, each as it is, turned, resized, moved, slanted, and with a little of all.",
    caption="Each digit by amounts of its own. In the last column are the limits that the "
    "experiment uses: small enough for digits that somebody could have written.",
)

# %% [markdown]
# What does resampling twice cost? Turn a digit and turn it back, several times:

# %% tags=["figure"]
there = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])
turned = [row[1:2]]
for i in range(8):
    turned.append(affine.affine_images(turned[-1], there if i % 2 == 0 else -there, 15.0))
sharp = [float(x.diff(dim=3).abs().mean() + x.diff(dim=2).abs().mean()) for x in turned]
fig = plots.image_grid(torch.cat(turned[::2]), columns=5)
plots.show(
    fig,
    alt="A digit 2 five times, after none, two, four, six and eight turns: more blurred each time.",
    caption="The same digit after 0, 2, 4, 6 and 8 turns by 15 degrees, there and back again.",
)
print(f"differences between neighbours, after all turns: {sharp[-1] / sharp[0]:.0%} of before")

# %% [markdown]
# ## Say what was altered
#
# Here is the trouble with augmentation of a *generative* model: it draws what it was shown. A
# classifier that has seen turned digits is better for it; a generator that has seen turned digits
# draws turned digits. The alteration **leaks** into the samples.
#
# The way out (Jun et al. 2020; Karras et al. 2022): tell the network what was done to each picture,
# the amounts, as a further condition beside time and class. And leave some pictures as they are,
# with amounts of zero. While sampling, tell it zeros. Then it draws pictures *as the data are*, but
# has learnt from altered ones what digits have in common.

# %% [markdown]
# <!-- exercise 09.3 -->
#
# Alter some pictures, and say which amounts go with each. `random_affine` is there, yours or, in
# class, a right one.


# %% tags=["answer"] exercise="09.3"
def augment_conditioned(
    x: torch.Tensor,
    generator: torch.Generator | None = None,
    share: float = 0.5,
    training: bool = True,
    **limits: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some images (B, C, H, W) altered, and what the network is told: (images, (B, 5) float32).

    training: True alters each image with probability share, by
    random_affine(x, generator, **limits) for all of them; then one
    torch.rand(B, generator=generator), and an image is altered where this is below share. The
    others come back as they were, with amounts of zero. False is for sampling: images as they
    were, all amounts zero, and nothing is drawn. x is not changed.
    """
    # BEGIN SOLUTION
    if not training:
        return x, torch.zeros(len(x), 5)
    altered, amounts = random_affine(x, generator, **limits)
    on = torch.rand(len(x), generator=generator) < share
    return torch.where(on[:, None, None, None], altered, x), amounts * on[:, None]
    # END SOLUTION


# %% tags=["check"]
check("09.3")

# %% [markdown]
# The U-Net of the library takes the amounts as a fourth argument: `UNet(..., augmentation=5)` has a
# small linear layer, without a bias, whose output is added to the embedding of time. Without a
# bias, zeros add nothing. So a sampler, which knows nothing of all this, need not be changed: an
# argument that is not given counts as zero. In a recipe (lesson 05) it is three lines:
#
# ```toml
# affine = { rotate = 10, scale = 0.1, shift = 2, shear = 5 }
# affine_share = 0.8
# affine_told = true
# ```

# %% [markdown]
# ## Beginning from other pictures
#
# A network that draws clothes knows edges, strokes and plain backgrounds, how to tell noise from
# picture at each level, and how to use a class. Most of that is of use for digits. **Fine-tuning**
# takes its weights as the first weights, in place of random ones, and trains on.
#
# With few pictures, all those weights are also many ways to learn the pictures by heart. Two
# remedies:
#
# - **Freezing**: some parts keep what they know, and only the others learn.
# - **LoRA** (Hu et al. 2021): *all* parts keep what they know, and beside each there is a small
#   addition that learns.

# %% [markdown]
# <!-- exercise 09.4 -->
#
# Freezing sounds like one line. Three things get forgotten: an optimizer that already holds the
# parameter and an old gradient of it; a normalisation layer that keeps averages of what it sees;
# and a pattern with a slip of the pen, which freezes nothing.


# %% tags=["answer"] exercise="09.4"
def freeze(model: nn.Module, patterns: str | list[str]) -> int:
    """Stops parameters from learning, by their names; returns how many numbers are frozen.

    patterns: one, or several, matched against whole names as file names are
    (fnmatch.fnmatchcase): "0.*", "*.bias". A pattern that matches nothing raises ValueError.
    A parameter that several names share is frozen by any of them, and counted once
    (model.named_parameters(remove_duplicate=False) has all names). What is returned counts the
    elements of all parameters that a pattern matches.

    A frozen parameter has requires_grad False and no gradient: .grad is None. A normalisation
    layer that keeps statistics (it has a true track_running_stats) and parameters of its own, all
    of which are frozen, stays in evaluation mode from then on, also after model.train().
    """
    # BEGIN SOLUTION
    patterns = [patterns] if isinstance(patterns, str) else patterns
    frozen = {}
    for pattern in patterns:
        named = model.named_parameters(remove_duplicate=False)
        found = [p for name, p in named if fnmatch.fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(f"the pattern {pattern!r} matches no parameter")
        frozen.update((id(p), p) for p in found)
    for p in frozen.values():
        p.requires_grad_(False)
        p.grad = None

    def stay(module, inputs):
        module.eval()

    for module in model.modules():
        own = list(module.parameters(recurse=False))
        keeps = getattr(module, "track_running_stats", False)
        if keeps and own and not any(p.requires_grad for p in own):
            module.register_forward_pre_hook(stay)
    return sum(p.numel() for p in frozen.values())
    # END SOLUTION


# %% tags=["check"]
check("09.4")

# %% tags=["compare"]
stop_learning = yours_or_the_courses(freeze, finetune.freeze)
clothes = checkpoints.load("fashion")
everything = sum(p.numel() for p in clothes.model.parameters())
for patterns in (["down.*"], ["down.*", "mid.*"], ["conditioner.*"]):
    count = stop_learning(copy.deepcopy(clothes.model), patterns)
    print(f"{', '.join(patterns):16} {count:9,} of {everything:,} numbers frozen")

# %% [markdown]
# ### LoRA
#
# A layer with weight $W$, of shape (out, rest), keeps it, and learns a change of low **rank** $r$:
#
# $$ W' = W + \frac{\alpha}{r}\, B A, \qquad B: (\text{out}, r), \quad A: (r, \text{rest}) . $$
#
# Here $\alpha$ is a number that says how much the change weighs, and no share of data as in a
# schedule. $BA$ has as many entries as $W$, but only $r\,(\text{out} + \text{rest})$ numbers to
# learn. With $r = 4$ and 100 by 900 that is 4,000 in place of 90,000. For a convolution, $A$ is a
# convolution of the same kernel to $r$ channels, `down`, and $B$ one of kernel 1 from these to the
# output, `up`.
#
# $B$ starts at zero and $A$ at random: the first output is that of $W$ alone, and there is a
# gradient. When training is over, the change is **merged**: added to $W$. After that, drawing costs
# what it cost before.

# %% [markdown]
# <!-- exercise 09.5 -->
#
# The constructor is given. Write `forward` and `merge`.


# %% tags=["answer"] exercise="09.5"
class LoRAConv(nn.Module):
    """base(x) + scale * up(down(x)), where base is a trained linear layer or convolution.

    scale is alpha / rank; alpha is rank where it is not given.
    forward(x): as above; after merge, what base gives is all of it.
    merge(): adds scale * (up's weight, flattened to (out, rank)) @ (down's, flattened to (rank,
    rest)), in base.weight's shape, to base.weight, in place; a second call does nothing. It returns
    nothing, and needs no gradient.
    """

    def __init__(self, base: nn.Module, rank: int = 4, alpha: float | None = None) -> None:
        super().__init__()
        self.base, self.rank, self.merged = base, rank, False
        self.scale = (rank if alpha is None else alpha) / rank
        like = {"bias": False, "dtype": base.weight.dtype}
        if isinstance(base, nn.Linear):
            self.down = nn.Linear(base.in_features, rank, **like)
            self.up = nn.Linear(rank, base.out_features, **like)
        else:
            self.down = type(base)(base.in_channels, rank, base.kernel_size, base.stride,
                                   base.padding, base.dilation, **like)  # fmt: skip
            self.up = type(base)(rank, base.out_channels, 1, **like)
        nn.init.zeros_(self.up.weight)
        base.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # BEGIN SOLUTION
        out = self.base(x)
        return out if self.merged else out + self.scale * self.up(self.down(x))
        # END SOLUTION

    @torch.no_grad()
    def merge(self) -> None:
        # BEGIN SOLUTION
        if self.merged:
            return
        change = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        self.base.weight += self.scale * change.reshape(self.base.weight.shape)
        self.merged = True
        # END SOLUTION


# %% tags=["check"]
check("09.5")

# %% tags=["compare"]
for rank in (1, 4, 8, 32):
    network = copy.deepcopy(clothes.model)
    learn = finetune.add_lora(network, rank)
    print(f"rank {rank:2}: {learn:9,} numbers learn, {learn / everything:.0%} of {everything:,}")

# %% [markdown]
# In a recipe, `init = "fashion"` begins from the shipped network of clothes, `freeze = ["down.*"]`
# keeps parts of it, and `lora = 8` adds to all of it. What a class *is* must be learnt anew in any
# case (class 3 was a dress), so that the rows of the classes always learn.
#
# ### Which other pictures?
#
# The nearer they are to yours, the more is left when you come to them. And they need not be
# photographed, scanned or asked for: some can be *made*. Handwritten digits are few in this lesson.
# Printed ones are free: your computer has fonts, and a program can make them thick or thin, turn,
# slant and bend them. (Jaderberg et al. 2014 taught a network to read words in photographs from
# words that a program had printed, and from nothing else.)

# %% tags=["figure"]
in_print, _ = printed.printed_digits(20, seed=1)
some = subsets.stratified_subset(labels, 20, seeded(1))
fig = plots.image_grid(torch.cat([in_print, digits[some][labels[some].argsort()]]), columns=20)
plots.show(
    fig,
    alt="Two rows of twenty digits: printed ones in several fonts, turned, slanted and bent a "
    "little, and handwritten ones, thinner and more varied.",
    caption="Above: printed by a program. Below: written by people.",
)

# %% [markdown]
# A network of these knows strokes and knows what a 3 is, and has never seen a hand. The experiment
# below trains one, and begins from it: the way *printed*.

# %% [markdown]
# ## When to stop
#
# Lesson 05 followed a run on 200 digits and saw two things happen: the loss on unseen digits parted
# from that on training digits, and samples came nearer to training digits than unseen digits are.
# The difference of both losses is the **generalisation gap**. Which look at the run do you keep?
#
# - Not the one with the lowest training loss. It falls for as long as one trains.
# - Not the one with the smallest gap either: at the very start there is none, and nothing has been
#   learnt.
# - The one with the lowest *validation* loss, unless samples are copies by then. A model that
#   copies may have a fine loss on average; its samples are of no use.
#
# **Patience** is for the noise in the losses: training stops when there has been no new lowest
# validation loss for so many looks in a row.

# %% [markdown]
# <!-- exercise 09.6 -->
#
# Write the decision, as it would be taken during training: look by look, without a look ahead.


# %% tags=["answer"] exercise="09.6"
def generalisation_gap(
    train_loss: list[float],
    val_loss: list[float],
    memorisation: list[float],
    copies: float = 0.9,
    patience: int = 3,
) -> tuple[list[float], int | None, int]:
    """(gaps, keep, stop) of some looks at a training, numbered from 0.

    train_loss, val_loss, memorisation: one number for each look, as many of each. memorisation is
    that of lesson 08: about 1 for samples as new as unseen data are, towards 0 for copies.
    gaps: validation minus training loss of every look, also of those after the stop.

    Looks are gone through in order. Training stops at the first look whose memorisation is below
    copies: that look is not kept, whatever its loss. Otherwise, a look whose validation loss is
    lower than all before it becomes the one to keep. Training also stops at the look that is the
    patience-th in a row that did not do so, and at the last one.
    keep: the look to keep, None where there is none. stop: the look at which training stops.
    """
    # BEGIN SOLUTION
    gaps = [v - t for t, v in zip(train_loss, val_loss)]
    lowest, keep, since = math.inf, None, 0
    for i, (value, ratio) in enumerate(zip(val_loss, memorisation)):
        if ratio < copies:
            return gaps, keep, i
        if value < lowest:
            lowest, keep, since = value, i, 0
        else:
            since += 1
            if since == patience:
                return gaps, keep, i
    return gaps, keep, len(gaps) - 1
    # END SOLUTION


# %% tags=["check"]
check("09.6")

# %% [markdown]
# ## The experiment, small
#
# Now all of it together. One run trains the network of the shipped checkpoints on some digits and
# measures 300 samples: first plainly, then in other ways. This is one seed and fewer steps than the
# full experiment has: read the table as a taste, and not as a result.

# %% tags=["slow"]
few = little_data.Training(
    count=budget(full=200, small=50),
    way="plain",
    seed=0,
    steps=budget(full=100, small=4),
    looks=(),
    batch=budget(full=32, small=8),
    samples=budget(full=300, small=20),
    calls=budget(full=10, small=2),
    probe=budget(full=200, small=20),
    network="one-hour",
)
small = {}
for way in tqdm(budget(full=("plain", "told", "tuned", "LoRA"), small=("plain", "LoRA"))):
    run = replace(few, way=way, looks=(few.steps,))
    small[way] = little_data.measure(run)["looks"][-1]
print(f"{few.count} digits, {few.steps} steps, {few.samples} samples, seed {few.seed}")
print(f"{'way':8} {'FD':>8} {'floor':>8} {'recall':>8} {'memorisation':>13} {'unseen loss':>12}")
for way, f in small.items():
    print(
        f"{way:8} {f['FD']:8.2f} {f['floor']:8.2f} {f['recall']:8.2f} {f['memorisation']:13.2f} "
        f"{f['unseen loss']:12.4f}"
    )

# %% [markdown]
# ## The experiment, in full
#
# Four numbers of digits, six ways, three seeds, every run with the same network (that of lesson
# 05), steps and sampler. The networks that some ways begin from are trained by it, too, once: a
# beginning is no gift, and their steps are in the file. It runs with
#
# ```sh
# course experiment little-data --workers 2        # stopped at any time, it goes on
# course experiment little-data --budget small     # a trial
# ```
#
# and this cell reads what it wrote.


# %%
def shipped(name: str, experiment: str = "little-data") -> dict | None:
    """The shipped figures of a result, with its verdict printed; None where there are none."""
    try:
        found = load_results(data.folder() / "results").get(name)
    except (FileNotFoundError, ValueError):
        found = None
    if found is None:
        print(f"This copy has no figures called {name}. To measure them (hours):")
        print(f"    course experiment {experiment} --workers 2 --out data/results")
        return None
    print(f"{name}, {len(found['seeds'])} seeds, {found['n']:,} samples each.\n{found['verdict']}")
    return found


def by_way(found: dict, count: int, way: str, key: str = "FD", what: str = "digits") -> list[float]:
    """A figure of each seed."""
    return [r[key] for r in found["rows"] if (r[what], r["way"]) == (count, way)]


def show_table(found: dict, columns: tuple[str, ...], what: str = "digits") -> None:
    """Mean (lowest to highest) over the seeds, for each count and each way."""
    print(f"\n{what:>6}  {'way':15}" + "".join(f"{c:>26}" for c in columns))
    for count, way in dict.fromkeys((r[what], r["way"]) for r in found["rows"]):
        cells = []
        for c in columns:
            v = by_way(found, count, way, c, what)
            cells.append(f"{sum(v) / len(v):.3g} ({min(v):.3g} to {max(v):.3g})")
        print(f"{count:6}  {way:15}" + "".join(f"{cell:>26}" for cell in cells))


# %% [markdown]
# ### C4: do they need a large amount of data?

# %% tags=["figure"]
c4 = shipped("C4-digits")
if c4:
    show_table(c4, ("FD", "recall", "memorisation"))
    drawn = little_data.figure("C4-digits", c4)
    if drawn:
        fig, alt, caption = drawn
        plots.show(fig, alt=alt, caption=caption)
    bar = c4["bar"]
    print(
        f"{bar['what']}: {bar['ratio']:.2f} ({bar['wanted']}: {'met' if bar['met'] else 'not met'})"
    )

# %% [markdown]
# Fewer digits may well have the *lower* distance here. These runs are short, and what few pictures
# show is learnt in fewer steps than what many show; the price is in the other columns, recall and
# copies (below 1), and in the longer runs at the end. That is why a sentence like the claim's
# cannot be true or false by itself.
#
# Read lines and bands: a line that is lower all along is better at every amount. Where two bands
# overlap, three seeds do not tell which is better, and the course then names no winner: *not
# separable at this size*. (The rule: a winner needs at least three seeds, its worst seed must be
# better than the best seed of the other, and the means must be 5 % apart. Of two settings that are
# really alike, three seeds each still pass the middle condition one time in ten.)
#
# ### C7: does augmentation help?

# %%
c7 = shipped("C7-few-digits")
if c7:
    show_table(c7, ("FD", "recall", "memorisation"))

# %% [markdown]
# Compare *altered* with *told*: the pictures that both see are the same. What differs is whether
# the network knows what was done to them.
#
# ### C10: does it help to begin from other pictures?

# %%
c10 = shipped("C10-digits")
if c10:
    show_table(c10, ("FD", "recall", "memorisation"))
    for count in sorted({r["digits"] for r in c10["rows"]}):
        print(f"{count}: " + compare("tuned", by_way(c10, count, "tuned"), "LoRA",
                                     by_way(c10, count, "LoRA")))  # fmt: skip

# %% [markdown]
# ### C8: does it help to stop early?

# %%
c8 = shipped("C8-few-digits")
if c8:
    show_table(c8, ("step", "FD", "unseen loss", "memorisation"))

# %% [markdown]
# ### The same on sound
#
# Drum hits come from nine collections, and hits of one collection are alike: same room, same
# microphone. Split at random, a model would be tested on near twins of what it was trained on. So
# whole sources are left out in turn: four models, each trained without one group of sources, draw
# the hits that stand for that group, and the draws of all four are judged together. Hits that the
# judge was trained on take no part. With what is left, 300 hits are the most that any model can be
# trained on.
#
# The network is the one of the digits. What it learns are *log-mel spectrograms*, pictures of 32
# frequency bands by 32 moments (lesson 12 builds them), and Griffin-Lim makes sound of what it
# draws before anything is judged. *Altered* hits are played up to two semitones faster or slower,
# up to 6 dB quieter and up to 8 ms later.

# %%
_, drums = (shipped(name, "little-drums") for name in ("C4-drums", "C7-drums"))
if drums:
    show_table(drums, ("FD", "accuracy", "recall", "memorisation"), "hits")
    of_reals = ", ".join(f"{what} {v:.3g}" for what, v in drums["reals"].items())
    print(f"real hits: FD {drums['floor']:.3g} (the floor), {of_reals}")

# %% [markdown]
# **What would change it.** Clothes and digits have much in common: grey on black, one thing in the
# middle, the same size; printed digits even the classes. From photographs one would take less
# along. And the runs in these tables are short, minutes each, and equally long. Some were made
# longer:

# %%
if c4:
    print(c4.get("longer", "No longer runs in this copy."))

# %% [markdown] tags=["remark"]
# A beginning pays when you have it already, or use it many times. What would you answer somebody
# who says that the same minutes, spent on the digits themselves, had done as much? Which figures
# above speak for it, which against?
#
# Which of your guesses were off? You have 200 recordings of a bird, and a network of drum hits.
# What would you do first, what second, and by which number would you know that it helped?

# %% [markdown]
# ## What to remember
#
# - Choose few samples by class shares, and anew for each seed: which ones you have is part of luck.
# - A generative model draws what it is shown. Tell it what you altered, and tell it zeros when it
#   draws.
# - Other pictures are worth something: their weights are a better beginning than random ones, the
#   more so the nearer they are. Some can be made by a program.
# - LoRA learns few numbers beside many that stay, and costs nothing once it is merged.
# - Stop by unseen data and by copies, never by the training loss.
#
# **Where it goes next.** Lesson 10 makes drawing cheap. Lesson 11 has little data again: a few
# hundred drum hits in all, which are varied before a model learns from them.
#
# ## References
#
# - Karras, Aittala, Aila, Laine 2022,
#   [Elucidating the design space of diffusion-based generative
#   models](https://arxiv.org/abs/2206.00364): section 5 and appendix F.2, augmentation that is told
#   to the network.
# - Jun et al. 2020, [Distribution augmentation for generative
#   modeling](https://proceedings.mlr.press/v119/jun20a.html).
# - Hu et al. 2021, [LoRA: Low-rank adaptation of large language
#   models](https://arxiv.org/abs/2106.09685): section 4.1.
# - Jaderberg, Simonyan, Vedaldi, Zisserman 2014, [Synthetic data and artificial neural networks for
#   natural scene text recognition](https://arxiv.org/abs/1406.2227).
# - Moon et al. 2022, [Fine-tuning diffusion models with limited
#   data](https://openreview.net/forum?id=0J6afk9DqrR).
# - Prechelt 1998, [Early stopping, but when?](https://doi.org/10.1007/3-540-49430-8_3): patience.
# - Somepalli et al. 2023, [Diffusion art or digital forgery?](https://arxiv.org/abs/2212.03860):
#   copies.
