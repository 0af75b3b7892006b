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
# # 08 · Is it any good? Measuring
# <!-- lesson-header -->
#
# A model draws digits, and they look good. Are they? Do all kinds of digits come, or a few? Has it
# learned, or does it hand out the training data? This lesson turns these questions into numbers,
# and then cheats, to see what each number fails to notice. You will be able to
#
# - say what "good" means in three words that can be measured,
# - compute the Fréchet distance (the D of "FID"), and name what its value depends on,
# - give its floor, and say why a figure without count and floor says nothing,
# - measure precision, recall and copying, each with an interval,
# - catch a model that copies, repeats itself, or shows noise.
#
# You need means, variances and covariances, and what a denoiser is (lesson 03). Sampling (lesson
# 06) is used as a finished part.

# %% tags=["setup"]
import hashlib
import math

import torch
import torch.nn.functional as F

from coursework import check, hint
from undiffuse import (
    budget,
    checkpoints,
    classifiers,
    data,
    denoisers,
    plots,
    prediction,
    sampling,
    schedules,
)
from undiffuse.metrics import frechet_interval, last_gain
from undiffuse.results import load_results, record
from undiffuse.trainer import time_range
from undiffuse.training import CheckpointError

# %%
SEEDS = (0, 1, 2)
N = budget(full=1000, small=200)  # how many samples each figure is made of

train, train_labels = data.digits("train")
reference, _ = data.digits("reference", N)
held_out, held_out_labels = data.digits("held_out", N)
print(f"{len(train)} digits to train on; {N} to compare with, {N} held out; {N} samples a figure")

# %% [markdown]
# The data come in parts that share no image, and each has one use. Models learn from `train`. Their
# samples are compared with `reference`. `held_out` is real data that nothing has seen: it shows
# what a perfect model would get. Two more parts, `validation` and `features`, appear below.

# %% [markdown]
# ## Your guesses first
#
# Here are some sets of samples. The first is real. The others are cheats, made on purpose from real
# digits: no model was trained for any of them.


# %%
def halves(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """2,000 digits that no model trains on, split anew: (samples, their labels, held out).

    Each class is halved, so that both halves have the classes in the same shares.
    """
    parts = [data.digits(s) for s in ("validation", "held_out")]
    images, labels = (torch.cat(p) for p in zip(*parts))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    by_class = [order[labels[order] == c] for c in range(10)]
    first = torch.cat([i[::2] for i in by_class])
    second = torch.cat([i[1::2] for i in by_class])
    mix = torch.Generator().manual_seed(seed + 1000)
    first = first[torch.randperm(len(first), generator=mix)][:N]
    second = second[torch.randperm(len(second), generator=mix)][:N]
    return images[first], labels[first], images[second]


BLUR = torch.tensor([1.0, 2.0, 1.0])[:, None] * torch.tensor([1.0, 2.0, 1.0]) / 16


def make_cheats(seed: int) -> tuple[dict, torch.Tensor]:
    """({name: (images, labels)}, real digits held out from all of them)."""
    g = torch.Generator().manual_seed(seed)
    real, labels, held = halves(seed)
    copied = torch.empty_like(labels)  # as many of each class as the real ones have
    for c in range(10):
        mine, theirs = (labels == c).nonzero()[:, 0], (train_labels == c).nonzero()[:, 0]
        copied[mine] = theirs[torch.randperm(len(theirs), generator=g)[: len(mine)]]
    copies, copied_labels = train[copied], train_labels[copied]
    blurred = F.conv2d(F.pad(real, (1, 1, 1, 1), value=-1.0), BLUR[None, None])
    noisy = (real + 0.3 * torch.randn(real.shape, generator=g)).clamp(-1, 1)
    five = (labels < 5).nonzero()[:, 0]
    five = five.repeat(3)[: len(real)]
    few = torch.arange(len(real) // 20).repeat(20)
    averages = torch.stack([train[train_labels == c].mean(0) for c in range(10)])
    return {
        "real": (real, labels),
        "copies": (copies, copied_labels),
        "moved copies": (copies.roll(1, 3), copied_labels),
        "blurred": (blurred, labels),
        "noisy": (noisy, labels),
        "five classes": (real[five], labels[five]),
        "few, repeated": (real[few], labels[few]),
        "averages": (averages[labels], labels),
    }, held


cheats, _ = make_cheats(0)

# %% tags=["figure"]
columns = 10
picked = {name: x[0][:: len(x[0]) // columns][:columns] for name, x in cheats.items()}
picked["few, repeated"] = cheats["few, repeated"][0][[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]]
fig = plots.forward_strip(
    torch.stack(list(picked.values()), 1),
    [""] * columns,
    row_labels=list(picked),
    level_name="",
    row_name="",
)
plots.show(
    fig,
    alt="Eight rows of ten digits: real ones, copies of training digits and copies moved by a "
    "pixel, which look just as real; blurred ones; noisy ones; only the digits 0 to 4; the same "
    "few digits again; and grey averages of each class.",
    caption="Which rows can you tell from the first? And which of them would you call good?",
)

# %% [markdown] tags=["remark"]
# 1. The usual figure for quality compares samples with real data: the lower, the better. Which of
#    the eight sets has the lowest? My guess:
# 2. The same model, judged with 100 samples and with 1,000. Is the figure with 1,000 lower, higher,
#    or the same but for chance? My guess:
# 3. "More diffusion steps give more realistic output." Up to how many? My guess:
# 4. Two models, one with half the training loss of the other. Which makes the better samples? My
#    guess:

# %% [markdown]
# ## What good means
#
# Three questions, each about the whole *set* of samples, not about one:
#
# - **Fidelity.** Could each sample be real data?
# - **Diversity.** Does everything that occurs in the data occur in the samples, as often?
# - **Novelty.** Are they new, or taken from the training data?
#
# Blurred and noisy digits fail the first, five classes the second, copies the third. A good measure
# of one may be blind to the others. That is why this lesson needs more than one.
#
# ### Distances need features
#
# All measures below ask how near two pictures are. Pixel by pixel is a poor answer: move a digit by
# two pixels and nearly every pixel of ink changes, though it is the same digit. So pictures are
# first turned into *features*: numbers that a classifier computes on the way to its answer.
#
# The classifier must have no part in what it judges. Ours was trained on the split `features`,
# which no generative model of this course ever sees. It gives 64 features an image.

# %% tags=["figure"]
judge = classifiers.load("digits")
facts = classifiers.facts("digits")
print(f"trained on {facts['trained_on']['n']} digits of the split {facts['trained_on']['split']!r}")
for split, share in facts["accuracy"].items():
    print(f"    right on {share:.1%} of {split}")


def look(images: torch.Tensor) -> torch.Tensor:
    """Features (N, 64) of images (N, 1, 28, 28)."""
    return classifiers.examine(judge, images)[0]


def accuracy(images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images in which the classifier sees the label they should have."""
    return classifiers.accuracy(judge, images, labels)


f_train, f_reference, f_held_out = look(train), look(reference), look(held_out)

asked = held_out[:200]
moved = asked.roll(2, 3)
spaces = {
    "pixels": (asked.flatten(1), moved.flatten(1), train.flatten(1)),
    "features": (look(asked), look(moved), f_train),
}
found = {}
for name, (here, there, others) in spaces.items():
    itself = (here - there).norm(dim=1)
    apart = torch.cdist(there, others)
    other_class = apart.masked_fill(train_labels == held_out_labels[:200, None], math.inf)
    nearer = (itself > other_class.amin(1)).double().mean()
    found[name] = apart.argmin(1)
    print(
        f"{name:8} a digit moved by two pixels is nearer to some digit of another class than to "
        f"itself: {nearer:.0%}"
    )

wrong = (train_labels[found["pixels"]] != held_out_labels[:200]).nonzero()[:, 0][:8]
fig = plots.forward_strip(
    torch.stack(
        [
            asked[wrong],
            moved[wrong],
            train[found["pixels"][wrong]],
            train[found["features"][wrong]],
        ],
        1,
    ),
    [""] * len(wrong),
    row_labels=["a digit", "moved", "nearest by pixels", "nearest by features"],
    level_name="",
    row_name="",
)
plots.show(
    fig,
    alt="Eight digits, the same moved by two pixels, and the nearest training digit of each moved "
    "one: by pixels it is a digit of another class, by features mostly one of the same class.",
    caption="Cases in which pixels mislead. Features know a digit again after it has moved.",
)

# %% [markdown]
# Features are a choice, and every figure depends on it. Figures made with the features of one
# network cannot be compared with those of another. Published FIDs use a network trained on
# photographs, which has no good idea of digits, spectrograms or cells.

# %% [markdown]
# ## The Fréchet distance
#
# ### In one dimension
#
# Fit a Gaussian to each of two clouds of numbers: means $\mu_a, \mu_b$, deviations
# $\sigma_a, \sigma_b$. How much work is it to move the first onto the second, if moving a grain by
# $d$ costs $d^2$?
#
# The cheapest way keeps the order: the smallest grain goes to the smallest place, the median to the
# median. For Gaussians that map is a straight line, $x \mapsto \mu_b + \frac{\sigma_b}{\sigma_a}
# (x - \mu_a)$. With $x = \mu_a + \sigma_a z$ and $z$ standard normal, a grain moves by
# $(\mu_b - \mu_a) + (\sigma_b - \sigma_a) z$. The mean of its square is
#
# $$d^2 = (\mu_a - \mu_b)^2 + (\sigma_a - \sigma_b)^2 .$$
#
# This is the squared Fréchet distance (for Gaussians it is also called the squared 2-Wasserstein
# distance). It grows when the samples are off, and also when they scatter too little or too much.
#
# ### In many dimensions
#
# Now $\mu$ is a vector and the covariance $C$ a matrix. Write out the square of the deviations,
# $\sigma_a^2 + \sigma_b^2 - 2 \sigma_a \sigma_b$, and put matrices in their places:
#
# $$\mathrm{FD}(a, b) = \lVert \mu_a - \mu_b \rVert^2
# + \operatorname{tr} C_a + \operatorname{tr} C_b
# - 2 \operatorname{tr} \big( C_a C_b \big)^{1/2} .$$
#
# $\operatorname{tr}$ is the trace, the sum of the diagonal. $(C_a C_b)^{1/2}$ is the matrix that
# gives $C_a C_b$ when multiplied by itself. With the features of an Inception network this is
# called FID. The custom is to report the square, without a root, and we do the same.
#
# The last term is the delicate one. Its trace is the sum of the square roots of the *eigenvalues*
# of $C_a C_b$, and these are real and at least 0. But a computer rounds: an eigenvalue of 0 comes
# out as $-10^{-16}$ or complex, and its root as NaN. That happens whenever there are fewer samples
# than features, or a feature that never varies.

# %% [markdown]
# <!-- exercise 08.1 -->
#
# Write the distance so that it holds in such cases, too. The covariances are the unbiased ones
# (divided by $N - 1$).


# %% tags=["answer"] exercise="08.1"
def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets of features.

    a: (N, D), b: (M, D), float32 or float64; N and M differ, and may be smaller than D (but are at
        least 2). D may be 1; torch.cov then gives a 0-d tensor. Compute in float64.
    Returns a Python float: |mean_a - mean_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^(1/2), with
        covariances divided by N - 1 and M - 1. Real and finite always; 0 for equal sets (rounding
        of the size of 1e-6 of the variances is allowed, either way).
    """
    # BEGIN SOLUTION
    a, b = a.double(), b.double()
    d = a.shape[1]
    cov_a, cov_b = torch.cov(a.T).reshape(d, d), torch.cov(b.T).reshape(d, d)
    # The eigenvalues of C_a C_b are those of sqrt(C_a) C_b sqrt(C_a), which is symmetric.
    values, vectors = torch.linalg.eigh(cov_a)
    root_a = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root_a @ cov_b @ root_a).clamp(min=0).sqrt().sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return float(means + cov_a.trace() + cov_b.trace() - 2 * shared)
    # END SOLUTION


# %% tags=["check"]
check("08.1")

# %% [markdown]
# Against what you can do in your head, on numbers with mean 0 and deviation 1:

# %% tags=["compare"]
grid = torch.linspace(-1, 1, 101, dtype=torch.float64)
line = ((grid - grid.mean()) / grid.std())[:, None]
print(f"moved by 3:              {frechet_distance(line, line + 3):.3f}   (3 squared)")
print(f"three times as wide:     {frechet_distance(line, 3 * line):.3f}   (3 - 1, squared)")
print(f"a single value, at 0:    {frechet_distance(line, 0 * line):.3f}   (deviation 1 to 0)")
print(f"itself, turned around:   {frechet_distance(line, -line):.3f}")

# %% [markdown]
# The covariances matter, not only the variances. Both clouds below have the same mean and the same
# variance in each direction:

# %% tags=["figure"]
g = torch.Generator().manual_seed(0)
z = torch.randn(400, 2, generator=g, dtype=torch.float64)
tilt = torch.tensor([[1.0, 0.0], [0.9, 0.436]], dtype=torch.float64)
up = z @ tilt.T
down = torch.randn(400, 2, generator=g, dtype=torch.float64) @ tilt.T * torch.tensor([1.0, -1.0])
for name, a, b in (("up and down", up, down), ("up and up", up[:200], up[200:])):
    one_by_one = sum(frechet_distance(a[:, [k]], b[:, [k]]) for k in range(2))
    print(
        f"{name:12} FD {frechet_distance(a, b):.3f}; each direction alone, added {one_by_one:.3f}"
    )
fig = plots.points2d({"up": up, "down": down}, limits=3.5)
plots.show(
    fig,
    alt="Two narrow clouds of points crossing each other at right angles like an X.",
    caption="Feature by feature these clouds agree. Only the covariance tells them apart.",
)

# %% [markdown]
# ## The floor, and why the count matters
#
# Real digits against other real digits: the distance should be 0. It is not. Means and covariances
# of finitely many samples are off by chance, and FD is a square: where two sets agree, chance
# can only make it larger, and where they differ it does so on average. What real data get is the
# **floor**. No model can be expected below it, and a figure means something only beside its floor.
#
# The floor falls with the number of samples $n$, roughly as $1/n$. So does the excess of every
# model: the same model looks better the more samples are drawn.

# %% tags=["figure"]
counts = budget(full=(100, 200, 400, 700, 1000), small=(80, 120, 240, 400))
g = torch.Generator().manual_seed(0)
many = torch.cat([data.digits(s)[0] for s in ("validation", "reference", "held_out")])
f_many = look(many)
grainy = look((many + 0.1 * torch.randn(many.shape, generator=g)).clamp(-1, 1))


def at_count(measure, a: torch.Tensor, b: torch.Tensor, n: int, seed: int) -> float:
    """``measure`` of n rows of each, drawn without replacement."""
    g = torch.Generator().manual_seed(seed)
    i, j = (torch.randperm(len(x), generator=g)[:n] for x in (a, b))
    return measure(a[i], b[j])


sets = {"real": f_many, "real, with a little noise": grainy}
curves = {
    name: torch.tensor(
        [[at_count(frechet_distance, x, f_train, n, s) for n in counts] for s in range(20)]
    )
    for name, x in sets.items()
}
print(f"{'n':>5}" + "".join(f"{name:>28}" for name in sets))
for i, n in enumerate(counts):
    cells = (f"{c[:, i].mean():.3f} ± {c[:, i].std():.3f}" for c in curves.values())
    print(f"{n:5}" + "".join(f"{cell:>28}" for cell in cells))
fig = plots.curves(
    curves,
    1 / torch.tensor(counts, dtype=torch.float64),
    xlabel="1 / n",
    ylabel="Fréchet distance to other real digits",
    roles={"real": "data", "real, with a little noise": "model"},
)
plots.show(
    fig,
    alt="The Fréchet distance over one over n for real digits and for slightly noisy ones: both "
    "rise along nearly straight lines, the noisy ones above the real ones.",
    caption="Fewer samples to the right. Real digits with few samples get a worse figure than "
    "noisy ones with many. Lines: the median of 20 draws; bands: their range.",
)
real, noisy = curves.values()
says = "a worse" if real[:, 0].mean() > noisy[:, -1].mean() else "no worse a"
print(f"real digits at n = {counts[0]} get {says} figure than noisy ones at n = {counts[-1]}")

# %% [markdown]
# The lines are nearly straight over $1/n$. So one can ask where they end: at $1/n = 0$ there are
# infinitely many samples. (Chong and Forsyth proposed this; the straight line is an approximation,
# as the true curve bends a little.)

# %% [markdown]
# <!-- exercise 08.6 -->
#
# Fit the line by plain least squares, and return its height at $1/n = 0$.


# %% tags=["answer"] exercise="08.6"
def fd_vs_n(ns: list[int], fds: list[float]) -> float:
    """FD at infinitely many samples, from a line through FD against 1/n.

    ns: counts, a list of int, in any order; a count may come several times, once for each
        measurement. fds: the FD measured at each, a list of float of the same length.
    Returns the height of the line at 1/n = 0, a Python float. Plain least squares: every value
        counts once. It may be below 0.
    """
    # BEGIN SOLUTION
    x = 1 / torch.tensor(ns, dtype=torch.float64)
    y = torch.tensor(fds, dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())
    # END SOLUTION


# %% tags=["check"]
check("08.6")

# %%
try:
    fd_vs_n([1, 2], [1.0, 0.5])
    limit_of = fd_vs_n
except NotImplementedError:  # 08.6 is an extra: without it the library's function stands in
    from undiffuse.metrics import fd_vs_n as limit_of

for name, c in curves.items():
    limits = [limit_of(list(counts) * 5, rows.flatten().tolist()) for rows in c.split(5)]
    print(
        f"{name:26} FD at n = {counts[-1]}: {c[:, -1].mean():.3f};  limit {sum(limits) / 4:.3f}  "
        f"({min(limits):.3f} to {max(limits):.3f}, each from a quarter of the draws)"
    )

# %% [markdown]
# Real digits end near 0, noisy ones above. In this course we do the simpler thing: always the same
# count, $n = 1{,}000$ unless said, and the floor at that count beside it. You will see FD, the
# floor, and FD divided by the floor, "times the floor".
#
# One more thing moves the figure: how many samples there are of each class. Our floor is `held_out`
# against `reference`, two sets with the same share of each class. Here are 1,000 real training
# digits with these shares, with shares left to chance, and with equally many of each class:

# %%
FLOOR = frechet_distance(f_held_out, f_reference)
g = torch.Generator().manual_seed(0)
members = [(train_labels == c).nonzero()[:, 0] for c in range(10)]


def some(sizes: list[int]) -> torch.Tensor:
    """Row numbers of training digits, so many of each class."""
    shuffled = (m[torch.randperm(len(m), generator=g)] for m in members)
    return torch.cat([m[:size] for m, size in zip(shuffled, sizes)])


shares = torch.bincount(train_labels[:N], minlength=10).tolist()
print(f"floor at n = {N}: {FLOOR:.3f}; means over 10 draws, as multiples of it")
for name, pick in {
    "shares as in the data": lambda: some(shares),
    "shares left to chance": lambda: torch.randperm(len(train), generator=g)[:N],
    "equally many of each": lambda: some([N // 10] * 10),
}.items():
    v = torch.tensor([frechet_distance(f_train[pick()], f_reference) / FLOOR for _ in range(10)])
    print(f"    {name:22} {v.mean():.2f}  ({v.min():.2f} to {v.max():.2f})")
print("shares in the data: " + ", ".join(f"{c}: {size / N:.1%}" for c, size in enumerate(shares)))

# %% [markdown]
# All three are real digits. Only the mixture differs, and FD rightly counts that as a difference.
# So samples of a model that is told the class are drawn with the shares of the data, or the figure
# measures how you chose the classes.

# %% [markdown]
# ## A distance without a bias
#
# The kernel distance, KID, asks another question: how alike are two samples of the same set,
# compared with two samples of different sets? Likeness is measured by a *kernel*, here the cube
#
# $$k(x, y) = \Big( \frac{x \cdot y}{D} + 1 \Big)^3 ,$$
#
# with $D$ the number of features. The distance, a squared *maximum mean discrepancy*, is
#
# $$\mathrm{KID}(a, b) = \frac{1}{N (N - 1)} \sum_{i \ne j} k(a_i, a_j)
# + \frac{1}{M (M - 1)} \sum_{i \ne j} k(b_i, b_j)
# - \frac{2}{N M} \sum_{i, j} k(a_i, b_j) .$$
#
# No Gaussian is fitted, and third moments count too. The point is $i \ne j$: a sample must not meet
# itself. Within a set that leaves out the diagonal; between two sets no sample meets itself
# anyway. With that the estimate is *unbiased*: right on average at every count. An unbiased
# estimate of 0 is as often below 0 as above.

# %% [markdown]
# <!-- exercise 08.2 -->
#
# Write it. The result may be negative: leave it so.


# %% tags=["answer"] exercise="08.2"
def kid(a: torch.Tensor, b: torch.Tensor) -> float:
    """Unbiased squared MMD with the kernel (x . y / D + 1)^3.

    a: (N, D), b: (M, D), float32 or float64, N and M at least 2. Compute in float64.
    Returns a Python float, which may be below 0.
    """
    # BEGIN SOLUTION
    a, b = a.double(), b.double()

    def kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def apart(k: torch.Tensor) -> torch.Tensor:
        n = len(k)
        return (k.sum() - k.trace()) / (n * (n - 1))

    within = apart(kernel(a, a)) + apart(kernel(b, b))
    return float(within - 2 * kernel(a, b).mean())
    # END SOLUTION


# %% tags=["check"]
check("08.2")

# %%
draws = 20
asked_of = {
    "FD, real": (frechet_distance, f_many),
    "KID, real": (kid, f_many),
    "KID, with a little noise": (kid, grainy),
}
print(f"means over {draws} draws, and their standard errors")
print(f"{'n':>5}" + "".join(f"{name:>28}" for name in asked_of))
for n in counts[:4]:
    line = f"{n:5}"
    for measure, x in asked_of.values():
        v = torch.tensor([at_count(measure, x, f_train, n, 100 + s) for s in range(draws)])
        cell = f"{v.mean():.4f} ± {v.std() / math.sqrt(draws):.4f}"
        line += f"{cell:>28}"
    print(line)

# %% [markdown]
# FD of real digits falls with $n$; KID stays near 0, and near another value for the noisy ones.
# (The draws of a row share digits, so the printed errors are a little too small.) So KID can be
# compared across counts. FD is still what most papers report. The two agree most of the time, and
# share a blind spot, as you will see.

# %% [markdown]
# ## Two questions instead of one number
#
# A single distance cannot say *what* is wrong. Precision and recall ask fidelity and diversity
# apart:
#
# - **Precision**: which share of the samples lies where real data lie?
# - **Recall**: which share of the real data lies where samples lie?
#
# "Where data lie" is made of balls. Around each point of a set stands a ball that reaches to the
# point's $k$-th nearest neighbour in the same set (itself not counted). All balls together are the
# set's *manifold*: small balls where data are dense, large ones where they are thin. A point is
# inside when at least one ball holds it.

# %% [markdown]
# <!-- exercise 08.3 -->
#
# Write both. A point exactly on the edge of a ball counts as inside.


# %% tags=["answer"] exercise="08.3"
def precision_recall(real: torch.Tensor, fake: torch.Tensor, k: int = 3) -> tuple[float, float]:
    """(precision, recall) of fake (M, D) against real (N, D).

    k: the radius of the ball around a point is the Euclidean distance to its k-th nearest
        neighbour in its own set, itself not counted; k is smaller than N and M.
    Returns two Python floats in [0, 1]: the share of fakes in at least one ball of the reals, and
        the share of reals in at least one ball of the fakes.
    """

    # BEGIN SOLUTION
    def inside(points: torch.Tensor, manifold: torch.Tensor) -> float:
        # The nearest of all is the point itself, at place 0: the k-th neighbour is at place k.
        radius = torch.cdist(manifold, manifold).sort(1).values[:, k]
        hit = (torch.cdist(points, manifold) <= radius).any(1)
        return float(hit.double().mean())

    return inside(fake, real), inside(real, fake)
    # END SOLUTION


# %% tags=["check"]
check("08.3")

# %% [markdown]
# In the plane you can see it. Real data on a ring, and three ways to miss them:

# %% tags=["figure"]
from matplotlib.patches import Circle


def ring(n: int, seed: int, width: float = 0.15, arc: float = 1.0) -> torch.Tensor:
    """n points on (a part of) a noisy ring, (n, 2)."""
    g = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * arc * torch.rand(n, generator=g)
    radius = 2 + width * torch.randn(n, generator=g)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


real_ring = ring(60, 0)
panels = {
    "alike": ring(60, 1),
    "half of it": ring(60, 2, arc=0.5),
    "too noisy": ring(60, 3, width=0.8),
}
fig = plots.points2d(panels, panels=True, limits=4.2, roles=dict.fromkeys(panels, "model"))
for ax, (name, points) in zip(fig.axes, panels.items()):
    reach = torch.cdist(real_ring, real_ring).sort(1).values[:, 3]
    for centre, r in zip(real_ring.tolist(), reach.tolist()):
        ax.add_patch(Circle(centre, r, facecolor="#0072B2", alpha=0.12, linewidth=0, zorder=0))
    precision, recall = precision_recall(real_ring, points)
    ax.set_title(f"{name}\nprecision {precision:.2f}, recall {recall:.2f}", fontsize=10)
plots.show(
    fig,
    alt="Three panels with the balls of a ring of real data in blue, and samples as triangles: "
    "spread like the data; on the upper half only; and scattered far inside and outside.",
    caption="Blue: the balls of the real data. Samples on half of the ring keep precision and lose "
    "recall. Noisy ones lose precision; their own balls are large, so recall says little then.",
)

# %% [markdown]
# Both depend on the count and on $k$: more points, smaller balls, but also more of them. Compare at
# equal counts, and look at what real data get.

# %% [markdown]
# ## Nearer than chance?
#
# A model that hands out its training data has perfect fidelity and diversity. To catch it, look for
# the nearest training image of each sample. But how near is too near? Real digits that nobody has
# copied also have a nearest neighbour. So compare with those:
#
# $$\text{memorisation ratio} = \frac{\text{median distance, samples to their nearest training
# image}}{\text{median distance, held-out data to theirs}} .$$
#
# About 1: as near as new real data. Well below 1: copies. Well above: off the data.

# %% [markdown]
# <!-- exercise 08.4 -->
#
# Write the ratio. One trap: `torch.cdist` may compute distances by a matrix product, and then a
# copy is at a distance of 0.0004, say, and not at 0. `compute_mode="donot_use_mm_for_euclid_dist"`
# makes it subtract.


# %% tags=["answer"] exercise="08.4"
def memorisation_ratio(samples: torch.Tensor, train: torch.Tensor, held_out: torch.Tensor) -> float:
    """Median nearest distance of samples to train, over that of held_out to train.

    samples (N, D), train (M, D), held_out (K, D), all float32 or all float64. Distances are
        Euclidean, each to the nearest row of train. (For even counts there are two middle values;
        whether you take the lower, as torch.median does, or their mean, is up to you.)
    Returns a Python float. Raises ValueError when the median below the line is exactly 0: then
        held_out are training rows, and cannot say what chance is.
    """

    # BEGIN SOLUTION
    def nearest(x: torch.Tensor) -> torch.Tensor:
        apart = torch.cdist(x, train, compute_mode="donot_use_mm_for_euclid_dist")
        return apart.amin(1).median()

    chance = nearest(held_out)
    if chance == 0:
        raise ValueError("the held-out rows are training rows: nothing to compare with")
    return float(nearest(samples) / chance)
    # END SOLUTION


# %% tags=["check"]
check("08.4")

# %% tags=["figure"]
cheats, held = make_cheats(0)
f_held = look(held)
distances, ratios = {}, {}
for name in ("real", "copies", "moved copies", "noisy"):
    x = look(cheats[name][0])
    distances[name] = torch.cdist(x, f_train, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    ratios[name] = memorisation_ratio(x, f_train, f_held)
    print(f"{name:14} ratio {ratios[name]:.2f}")
fig = plots.histogram(
    {k: v for k, v in distances.items() if k != "copies"},
    xlabel="distance to the nearest training digit, in features",
    roles={"real": "data", "noisy": "noise", "moved copies": "model"},
)
plots.show(
    fig,
    alt="Histograms of the distance to the nearest training digit. Copies that were moved by a "
    "pixel lie a little to the left of real digits, with much overlap; noisy digits far to the "
    "right. Exact copies are all at 0.",
    caption="Exact copies are all at 0 and not drawn. Copies moved by one pixel are only a little "
    "nearer than new real digits.",
)

# %% [markdown]
# Mind the moved copies. A move by one pixel takes the ratio most of the way from 0 to 1. Who
# suspects such copies has to look for them: compare with the training images in all positions. The
# measure finds what its features and its question allow, no more.

# %% [markdown]
# ## How sure is the figure?
#
# Draw other samples, get another figure. Often you have only one set. The *bootstrap* imitates new
# draws: take $N$ rows out of your $N$ **with replacement**, so that some come twice and some not at
# all, compute the statistic, and repeat. The middle 95 % of what you get is an interval for the
# statistic.

# %% [markdown]
# <!-- exercise 08.5 -->
#
# Write it for any statistic. The draws are prescribed, so that the same seed gives the same
# interval everywhere.


# %% tags=["answer"] exercise="08.5"
def bootstrap_ci(
    values: torch.Tensor, statistic, n: int, level: float, generator: torch.Generator
) -> tuple[float, float]:
    """Percentile interval of a statistic over n resamples.

    values: (N, ...); whole rows are resampled. statistic: a function of a tensor like values that
        gives a number (a float or a 0-d tensor).
    n: how many resamples, each of N rows with replacement. Draws, for each in turn:
        torch.randint(N, (N,), generator=generator).
    level: such as 0.95; half of what is left out lies below the interval, half above.
    Returns (low, high), Python floats: quantiles of the n numbers, interpolated linearly (as
        torch.quantile does when left alone), in float64.
    """
    # BEGIN SOLUTION
    found = []
    for _ in range(n):
        index = torch.randint(len(values), (len(values),), generator=generator)
        found.append(float(statistic(values[index])))
    found = torch.tensor(found, dtype=torch.float64)
    tail = (1 - level) / 2
    return float(torch.quantile(found, tail)), float(torch.quantile(found, 1 - tail))
    # END SOLUTION


# %% tags=["check"]
check("08.5")

# %% [markdown]
# Does a 90 % interval hold the truth in 90 % of all cases? For skewed values with a known mean:

# %%
repeats = budget(full=300, small=60)
truth = math.exp(0.5)  # mean of exp(z), z standard normal
for size in (10, 40, 160):
    rates = []
    for seed in SEEDS:
        g = torch.Generator().manual_seed(seed)
        hits = 0
        for _ in range(repeats):
            values = torch.randn(size, generator=g, dtype=torch.float64).exp()
            low, high = bootstrap_ci(values, torch.mean, 100, 0.9, g)
            hits += low <= truth <= high
        rates.append(hits / repeats)
    shares = ", ".join(f"{r:.0%}" for r in rates)
    print(f"{size:4} values: in the interval {shares} (90 % wanted; seeds 0, 1, 2)")

# %% [markdown]
# With few skewed values the interval is too sure of itself; with more it comes nearer to what it
# says.
# Now on the measures. Each of the first two is a plain statistic of single samples. FD is not:

# %%
real_set, real_labels = cheats["real"]
f_real, logits = classifiers.examine(judge, real_set)
right = (logits.argmax(1) == real_labels).double()
resamples = budget(full=200, small=50)
g = torch.Generator().manual_seed(0)
low, high = bootstrap_ci(right, torch.mean, resamples, 0.95, g)
print(f"class accuracy       {right.mean():.3f}   95 %: {low:.3f} to {high:.3f}")
low, high = bootstrap_ci(distances["real"], torch.median, resamples, 0.95, g)
print(f"median nearest       {distances['real'].median():.3f}   95 %: {low:.3f} to {high:.3f}")
value = frechet_distance(f_real, f_reference)
low, high = bootstrap_ci(f_real, lambda x: frechet_distance(x, f_reference), resamples, 0.95, g)
where = "inside" if low <= value <= high else "outside: below all of it"
print(f"FD                   {value:.3f}   95 %: {low:.3f} to {high:.3f}   (FD itself is {where})")

# %% [markdown]
# A resample has repeats, so it holds fewer different samples, and FD rises when there are fewer: it
# is the floor's bias again. So do not bootstrap FD as it stands: the interval lies too high. The
# best answer is to draw new samples with other seeds.
#
# Where that costs too much, `undiffuse.metrics.frechet_interval` helps. Repeats lift *all*
# resamples by about the same amount, and leave their *scatter* nearly as it is. So it takes the
# width from the resamples, and moves the whole interval down until the mean of the resamples is at
# FD itself.
#
# Should you trust it? Ask it about something of which you have many sets: slightly noisy digits, in
# sets that share no image. Each set gives an FD, and an interval of 90 % from that one set alone.
# How many of the intervals hold the mean FD of all sets?

# %%
size = budget(full=250, small=150)
g = torch.Generator().manual_seed(0)
some_train = train[torch.randperm(len(train), generator=g)[: budget(full=5000, small=1800)]]
f_noisy = look((some_train + 0.1 * torch.randn(some_train.shape, generator=g)).clamp(-1, 1))
many_sets = [x for x in f_noisy.split(size) if len(x) == size]
values = [frechet_distance(x, f_reference) for x in many_sets]
middle = sum(values) / len(values)
for name, interval in {
    "plain bootstrap": lambda x: bootstrap_ci(
        x, lambda y: frechet_distance(y, f_reference), resamples, 0.9, g
    ),
    "frechet_interval": lambda x: frechet_interval(
        x, f_reference, n=resamples, level=0.9, generator=g
    ),
}.items():
    ends = [interval(x) for x in many_sets]
    hits = sum(low <= middle <= high for low, high in ends)
    print(f"{name:16} holds the mean in {hits} of {len(ends)} cases; the first is "
          f"{ends[0][0]:.3f} to {ends[0][1]:.3f}")  # fmt: skip
print(f"the mean is {middle:.3f}, from {min(values):.3f} to {max(values):.3f}, n = {size}")

# %% [markdown]
# An interval says what other draws *of the same model* may give. It knows nothing of another
# training run, and nothing of the choice of features. Near the floor it is somewhat too wide.

# %% [markdown]
# ## All measures, all cheats
#
# Now every measure judges every set, several times: for each seed the real digits are split anew
# into samples and held-out data, and all cheats are made anew. Copies are taken with the class
# shares of the data: a cheat would not be so careless as to be caught by that.


# %%
def assess(images, labels, f_held: torch.Tensor, floor: float) -> dict[str, float]:
    """All measures of one set of samples."""
    f, logits = classifiers.examine(judge, images)
    n = min(len(f), len(f_reference))
    precision, recall = precision_recall(f_reference[:n], f[:n])
    return {
        "FD / floor": frechet_distance(f[:n], f_reference[:n]) / floor,
        "KID": kid(f, f_reference),
        "precision": precision,
        "recall": recall,
        "memorisation": memorisation_ratio(f, f_train, f_held),
        "accuracy": float((logits.argmax(1) == labels).double().mean()),
    }


SPLITS = range(budget(full=5, small=3))
table: dict[str, dict[str, list[float]]] = {}
for seed in SPLITS:
    cheats, held = make_cheats(seed)
    f_held = look(held)
    for name, (images, labels) in cheats.items():
        for measure, v in assess(images, labels, f_held, FLOOR).items():
            table.setdefault(name, {}).setdefault(measure, []).append(v)

# %% [markdown]
# When does a measure *notice* a cheat? When all seeds come out worse than all real sets did, by
# more than twice the range of the real ones. For the memorisation ratio both sides are worse: too
# near, and too far.

# %% tags=["figure"]
WORSE = {
    "FD / floor": lambda v: v,
    "KID": lambda v: v,
    "precision": lambda v: -v,
    "recall": lambda v: -v,
    "memorisation": lambda v: abs(math.log(max(v, 1e-3))),
    "accuracy": lambda v: -v,
}


def notices(measure: str, name: str) -> bool:
    """Whether the measure is worse on this set than on real ones, beyond their own range."""
    real, this = ([WORSE[measure](v) for v in table[k][measure]] for k in ("real", name))
    return min(this) > max(real) + 2 * (max(real) - min(real))


noticed = {m: [n for n in table if n != "real" and notices(m, n)] for m in WORSE}
rows = []
for name, values in table.items():
    row = {"samples": name}
    for measure, v in values.items():
        mark = "*" if name in noticed[measure] else ""
        row[measure] = f"{sum(v) / len(v):.3g} ({min(v):.3g} to {max(v):.3g}){mark}"
    rows.append(row)
others = [n for n in table if n != "real"]
best_alone = max(noticed, key=lambda m: len(noticed[m]))
fd_misses = [n for n in others if n not in noticed["FD / floor"]]
pairs = [
    (a, b) for a in WORSE for b in WORSE if a < b and set(others) <= {*noticed[a], *noticed[b]}
]
verdict = (
    f"no measure alone notices all {len(others)} cheats"
    if max(map(len, noticed.values())) < len(others)
    else f"{best_alone} alone notices all cheats"
)
verdict += f" (FD misses: {', '.join(fd_misses) or 'none'})"
verdict += (
    "; two together do: " + ", or ".join(" and ".join(p) for p in pairs)
    if pairs
    else "; no two together do"
)
_ = record("C12-measures", rows, verdict=verdict, seeds=SPLITS, n=N, floor=FLOOR)

fig = plots.bar_with_spread(
    {name.replace(" ", "\n"): v["FD / floor"] for name, v in table.items()},
    ylabel="FD / floor",
    log_y=True,
    floor=1.0,
    floor_name="floor: real against real",
    roles={"real": "data", "copies": "model"},
)
plots.show(
    fig,
    alt="Fréchet distance over the floor, on a logarithmic scale, with the spread over splits. In "
    "multiples of the floor: "
    + ", ".join(f"{k} {sum(v['FD / floor']) / len(v['FD / floor']):.3g}" for k, v in table.items())
    + ".",
    caption="By the usual figure of quality, copies of the training data are perfect.",
)

# %% [markdown]
# A star marks what a measure noticed. Read the table by columns:
#
# - **FD and KID** see most of it, and pass copies: real images have the distance of real images.
#   (KID of the real sets lies below 0: their class shares agree better than chance would have it.)
# - **Precision** likes averages: the middle of a class lies inside everybody's balls. A set of ten
#   grey pictures can have perfect precision.
# - **Recall** sees what is missing, and has nothing against copies.
# - **The memorisation ratio** sees exact copies and noise, and is blind to what is missing.
# - **Accuracy** sees what a classifier cannot read. Missing classes, repeats and copies pass.
#
# So report FD *with count and floor*, recall, and nearness to the training data, at least.

# %% [markdown] tags=["remark"]
# Which set had the lowest FD, and what was your guess (1)? Invent one more cheat that all columns
# of this table would pass. (Begin with the moved copies.)

# %% [markdown]
# ## Spot the cheat
#
# So far you knew what each set was. Now you do not.

# %% [markdown]
# <!-- exercise 08.7 -->
#
# Put your measures to work: sets of features arrive under names that tell nothing. One of four
# things is true of each:
#
# - `"copied"`: training rows, some exact, some moved by a hair,
# - `"collapsed"`: fresh samples, but all of one kind where the data have several (a set may also
#   repeat its rows),
# - `"noisy"`: fresh samples of every kind with so much noise that most lie off the data,
# - `"honest"`: drawn as the real data were.
#
# The differences are large: no careful threshold is needed, but features come in any scale.


# %% tags=["answer"] exercise="08.7"
def spot_the_cheat(sets: dict[str, torch.Tensor]) -> dict[str, str]:
    """What was done to each set of samples.

    sets: {name: features (N, D)}. Two names are known: "train", what the models were trained on,
        and "held_out", real data that nobody has seen. The others are to be judged. All have at
        least 100 rows; samples and held-out data equally many, train twice as many.
    Returns {name: "copied", "collapsed", "noisy" or "honest"} for the others only. You may call
        frechet_distance, precision_recall and memorisation_ratio (while your answer is graded,
        correct ones stand in for yours).
    """
    # BEGIN SOLUTION
    train, held_out = sets["train"], sets["held_out"]
    names = {}
    for name, samples in sets.items():
        if name in ("train", "held_out"):
            continue
        precision, recall = precision_recall(held_out, samples, 3)
        if memorisation_ratio(samples, train, held_out) < 0.4:
            names[name] = "copied"
        elif precision < 0.5:
            names[name] = "noisy"
        elif recall < 0.5:
            names[name] = "collapsed"
        else:
            names[name] = "honest"
    return names
    # END SOLUTION


# %% tags=["check"]
check("08.7")

# %% [markdown]
# On the digits, where the truth is less clear-cut. (Moved copies and blurred digits are not in your
# vocabulary. What do you call them?)

# %%
try:
    cheats, held = make_cheats(0)
    lineup = {name: look(x[0]) for name, x in cheats.items()}
    for name, said in spot_the_cheat({"train": f_train, "held_out": look(held)} | lineup).items():
        print(f"{name:14} -> {said}")
except NotImplementedError:
    print("08.7 is an extra: this cell waits for it")

# %% [markdown]
# ## Models under the measures
#
# Cheats are made to be caught. Now to models: denoisers, from which samples are drawn as in lesson
# 06. Three kinds need no training, as they are known in closed form (lesson 03):
#
# - **Ten Gaussians**: one for each class, with the mean and the covariance of its training images,
#   the covariance kept to its 5, 50 or 300 strongest directions.
# - **The copier**: the best possible denoiser *of the training set*, class by class. It has the
#   lowest training loss that exists.
# - **Mixtures of both**: a share $w$ of the copier's estimate, the rest from 300 directions. They
#   stand for a network on its way from learning to learning by heart.
#
# And the course's trained network, where its checkpoint is there.

# %%
schedule = schedules.cosine_schedule()


def levels(t, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(alpha, sigma) at times t, (B,) float32, for a batch like ``like``."""
    t = torch.as_tensor(t, dtype=torch.float64).expand(len(like))
    return schedule.alpha(t).float(), schedule.sigma(t).float()


class TenGaussians:
    """x0 estimates for a Gaussian a class: (x_t, t, labels) -> E[x0 | x_t], all (B, 1, 28, 28).

    In the directions of the covariance the Gaussian falls into independent numbers, and each has
    the posterior mean of lesson 03. What the kept directions leave is spread evenly over the rest.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, rank: int) -> None:
        self.parts = []
        for c in range(10):
            x = images[labels == c].flatten(1)
            _, s, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
            variances = s**2 / (len(x) - 1)
            rest = variances[rank:].sum() / (x.shape[1] - rank)
            self.parts.append((x.mean(0), v[:rank], variances[:rank], rest.clamp(min=1e-4)))

    def __call__(self, x_t: torch.Tensor, t, labels: torch.Tensor) -> torch.Tensor:
        a, s = (v[:, None] for v in levels(t, x_t))
        out = torch.empty_like(x_t)
        for c, (mean, directions, variances, rest) in enumerate(self.parts):
            i = (labels == c).nonzero()[:, 0]
            off = x_t[i].flatten(1) - a[i] * mean
            gain = a[i] * variances / (a[i] ** 2 * variances + s[i] ** 2)
            gain_rest = a[i] * rest / (a[i] ** 2 * rest + s[i] ** 2)
            kept = (gain - gain_rest) * (off @ directions.T)
            out[i] = (mean + gain_rest * off + kept @ directions).reshape(out[i].shape)
        return out


class Copier:
    """The best denoiser of the training set, class by class."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.parts = [images[labels == c] for c in range(10)]

    def __call__(self, x_t: torch.Tensor, t, labels: torch.Tensor) -> torch.Tensor:
        a, s = levels(t, x_t)
        out = torch.empty_like(x_t)
        for c, images in enumerate(self.parts):
            i = (labels == c).nonzero()[:, 0]
            if len(i):
                out[i] = denoisers.empirical_denoiser(x_t[i], a[i], s[i], images)
        return out


def mixture(w: float):
    """A share w of the copier's estimate, the rest from the Gaussians."""
    return lambda x_t, t, labels: (1 - w) * gaussians(x_t, t, labels) + w * copier(x_t, t, labels)


gaussians = TenGaussians(train, train_labels, 300)
copier = Copier(train, train_labels)
models = {
    "Gaussians, 5 directions": TenGaussians(train, train_labels, 5),
    "Gaussians, 50": TenGaussians(train, train_labels, 50),
    "Gaussians, 300": gaussians,
    "a quarter copied": mixture(0.25),
    "half copied": mixture(0.5),
    "copier": copier,
}
model_schedules = dict.fromkeys(models, schedule)
try:
    network = checkpoints.load("digits")
    estimate = prediction.as_x0(network.model, network.schedule, network.kind)
    models["trained network"] = torch.no_grad()(estimate)
    model_schedules["trained network"] = network.schedule
    print("with the course's trained network")
except CheckpointError:
    print("no checkpoint of a trained network is there: the models in closed form stand alone")


def draw(
    name: str, calls: int, seed: int, labels: torch.Tensor, solver: str = "dpmpp_2m"
) -> torch.Tensor:
    """Samples of a model, one for each label."""
    parts = []
    generator = torch.Generator().manual_seed(seed)
    for cond in labels.split(250):
        parts.append(
            sampling.sample(
                models[name],
                model_schedules[name],
                (len(cond), 1, 28, 28),
                kind="x0",
                solver=solver,
                calls=calls,
                cond=cond,
                generator=generator,
                clip=(-1.0, 1.0),
            )
        )
    return torch.cat(parts)


# %% tags=["figure"]
seen = {name: draw(name, 20, 0, torch.arange(10)) for name in models}
fig = plots.forward_strip(
    torch.stack(list(seen.values()), 1),
    list(range(10)),
    row_labels=list(seen),
    level_name="class",
    row_name="",
)
plots.show(
    fig,
    alt="Ten samples of each model, one a class. Gaussians give smeared strokes that only hint at "
    "digits, with finer detail from more directions; the copier gives clean digits.",
    caption="Samples of each model with 20 network calls. The cleanest are the copier's.",
)

# %% [markdown]
# ### C2: more steps, more realistic?
#
# The same models, judged at 1 to 20 calls of the denoiser, with the solver DPM-Solver++ of lesson
# 06. When do more calls *help*? When FD falls by at least 5 %, and even the worst seed with more
# calls is better than the best seed with fewer. A smaller fall may be chance. (The function
# `last_gain` applies this rule, and gives the last count of calls that helped.)

# %% tags=["figure"]
steps = budget(full=(1, 2, 5, 10, 20), small=(1, 5, 20))
few = budget(full=500, small=60)  # fewer samples, so their floor is higher
few_floor = frechet_distance(f_held_out[:few], f_reference[:few])
asked_models = [m for m in ("Gaussians, 300", "copier", "trained network") if m in models]


def fd_ratio(name: str, calls: int, seed: int, solver: str = "dpmpp_2m") -> float:
    """FD over the floor, both of ``few`` samples, each class with its share in the data."""
    f = look(draw(name, calls, seed, train_labels[:few], solver))
    return frechet_distance(f, f_reference[:few]) / few_floor


fd_at = {
    name: torch.tensor([[fd_ratio(name, c, s) for c in steps] for s in SEEDS])
    for name in asked_models
}
rows, says, until = [], [], {}
for name, runs in fd_at.items():
    mean = runs.mean(0)
    rows += [
        {"model": name, "calls": c, "FD / floor": round(float(m), 3), "from": lo, "to": hi}
        for c, m, lo, hi in zip(steps, mean, runs.amin(0).tolist(), runs.amax(0).tolist())
    ]
    k = until[name] = last_gain(runs)
    said = f"up to {steps[k]} calls" if k else "not at all"
    if runs[:, -1].min() > runs[:, k].max() and mean[-1] > 1.05 * mean[k]:
        said += ", and it rises again"
    says.append(f"{name} {said}, to {mean[k]:.3g} times the floor")
still = [name for name, k in until.items() if k == len(steps) - 1]
if not any(until.values()):
    verdict = "false: more calls lower no model's FD"
elif still:
    verdict = f"true up to a point, not yet reached by: {', '.join(still)}"
else:
    verdict = "true up to a point, then false"
verdict += ". FD falls: " + "; ".join(says)
_ = record("C2-calls", rows, verdict=verdict, seeds=SEEDS, n=few, floor=few_floor)
fig = plots.curves(
    fd_at,
    torch.tensor(steps),
    xlabel="network calls",
    ylabel="FD / floor",
    log_x=True,
    log_y=True,
    markers=True,
    floor=1.0,
    floor_name="floor: real against real",
    roles={"trained network": "model", "copier": "bound"} if len(fd_at) > 2 else None,
)
plots.show(
    fig,
    alt="FD over the floor against the number of calls, both on logarithmic scales, one line a "
    f"model, the floor as a level. FD falls: {'; '.join(says)}.",
    caption="Where a line is flat, its level is the model's, not the solver's. Three seeds, with "
    "their range as a band.",
)

# %% [markdown]
# Steps make the *solver* exact. They bring samples to what the model believes, and no further. A
# wrong belief, such as that of the Gaussians, is drawn more faithfully with more steps, and its
# few-step averages may even look better to FD.
#
# A cheap test of "few are enough", from the same noise: ten calls of DPM-Solver++ against fifty of
# DDIM, with the trained network. It is passed when FD with few calls is at most 25 % above.

# %%
if "trained network" in models:
    few_calls, many_calls = (
        fd_ratio("trained network", c, 0, solver)
        for c, solver in ((10, "dpmpp_2m"), (budget(full=50, small=25), "ddim"))
    )
    more = few_calls / many_calls - 1
    print(
        f"FD / floor: DPM-Solver++ with 10 calls {few_calls:.2f}, DDIM with "
        f"{budget(full=50, small=25)} {many_calls:.2f}: {more:+.0%}, "
        f"{'within' if more <= 0.25 else 'not within'} 25 % (n = {few}, one seed)"
    )
else:
    print("no trained network is there to ask")

# %% [markdown]
# One seed is a look, not a measurement. The measurement takes too long for a lesson: four solvers,
# up to 100 calls, three seeds. It was made once with `course experiment C2`, and its figures are
# kept. Before you look: which of DDIM, DDPM, Heun and DPM-Solver++ is worst at the fewest calls,
# and which is best at the most?

# %% tags=["figure"]
try:
    kept = load_results(data.folder() / "results").get("C2-digits")
except FileNotFoundError:
    kept = None
if kept is None:
    print("not in this copy: course experiment C2 --out data/results")
else:
    here = None
    if "trained network" in models:
        weights = checkpoints.locate("digits").read_bytes()
        here = hashlib.sha256(weights).hexdigest()[:16]
    print(kept["claim"] + ": " + kept["verdict"])
    print(f"n = {kept['n']}, floor {kept['floor']:.3f}, seeds {kept['seeds']}, {kept['date']}")
    print("of the checkpoint that lies here" if here == kept["checkpoint"] else
          "of another checkpoint than the one that lies here, if any does")  # fmt: skip
    bar = kept["few_steps"]
    by_seed = ", ".join(f"{v:.3f}" for v in bar["by seed"])
    print(f"{bar['what']} calls: {bar['ratio']:.3f} (by seed {by_seed}), wanted {bar['wanted']}")
    levels_at = {
        name: ", ".join(
            f"{r['FD / floor']:.3g} at {r['calls']}" for r in kept["rows"] if r["solver"] == name
        )
        for name in kept["curves"]
    }
    for name, said in levels_at.items():
        print(f"    {name:13} {said}")
    fig = plots.curves(
        {name: torch.tensor(v) for name, v in kept["curves"].items()},
        {name: torch.tensor(v) for name, v in kept["calls"].items()},
        xlabel="network calls",
        ylabel="FD / floor",
        log_x=True,
        log_y=True,
        markers=True,
        floor=1.0,
        floor_name="floor: real against real",
    )
    plots.show(
        fig,
        alt="FD over the floor against network calls for four solvers, the floor as a level. "
        + "; ".join(f"{name}: {said}" for name, said in levels_at.items())
        + ".",
        caption="Quality against steps, with the floor. Where a line is flat, more calls no longer "
        "help: what remains above the floor is mostly the network's. Bands: the range over seeds.",
    )

# %% [markdown]
# Heun spends two calls on a step, so with few calls it makes few and large steps. DDPM draws fresh
# noise in each step, so each step must be small, and it needs more of them. But fresh noise also
# covers up part of the network's earlier errors, which the other three carry along to the end. So
# DDPM may end at another level than they do.
#
# What would change the verdict? A solver of low order needs more calls for the same level (lesson
# 06). Larger images and sounds need some more as well. And a model distilled for few steps
# (lesson 10) can do with one.

# %% [markdown]
# ### C12: does a lower training loss mean better samples?
#
# The training loss of each model, on 1,000 of the digits it was made of, its loss on digits it has
# never seen (the split `validation`), and the measures of its samples. The loss is that of the
# target *v* (lesson 02), evenly over all noise levels: the mean of $(\hat x_0 - x_0)^2 / \sigma^2$.

# %%
validation, validation_labels = data.digits("validation", N)


def loss(name: str, x0: torch.Tensor, labels: torch.Tensor, seed: int) -> float:
    """Mean squared error of v over random noise and noise levels."""
    g = torch.Generator().manual_seed(seed)
    of = model_schedules[name]
    low, high = time_range(of)
    t = low + (high - low) * torch.rand(len(x0), generator=g, dtype=torch.float64)
    noise = torch.randn(x0.shape, generator=g)
    a, s = (v.float().reshape(-1, 1, 1, 1) for v in (of.alpha(t), of.sigma(t)))
    errors = []
    for i in torch.arange(len(x0)).split(250):
        guess = models[name](a[i] * x0[i] + s[i] * noise[i], t[i].float(), labels[i])
        errors.append(((guess - x0[i]) / s[i]).square().flatten(1).mean(1))
    return float(torch.cat(errors).mean())


measured: dict[str, dict[str, list[float]]] = {}
for name in models:
    for seed in SEEDS:
        labels = train_labels[:N]  # each class with its share in the data
        images = draw(name, budget(full=12, small=6), seed, labels)
        v = {
            "training loss": loss(name, train[:N], train_labels[:N], seed),
            "validation loss": loss(name, validation, validation_labels, seed),
            **assess(images, labels, f_held_out, FLOOR),
        }
        for key, value in v.items():
            measured.setdefault(name, {}).setdefault(key, []).append(value)

# %% tags=["figure"]
mean = {name: {k: sum(v) / len(v) for k, v in row.items()} for name, row in measured.items()}
order = sorted(mean, key=lambda name: -mean[name]["training loss"])
shown = ("training loss", "validation loss", "FD / floor", "precision", "recall", "memorisation")
rows = [
    {
        "model": name,
        **{k: f"{mean[name][k]:.3g} ({min(v[k]):.3g} to {max(v[k]):.3g})" for k in shown},
    }
    for name in order
    for v in (measured[name],)
]


def in_order(a: str, b: str) -> float:
    """Rank correlation (Spearman) of two columns over the models: 1 is the same order."""
    ranks = [torch.tensor([mean[m][k] for m in order]).argsort().argsort().double() for k in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


lowest = order[-1]
copied = max(measured[lowest]["memorisation"]) < 0.5
by_fd, by_validation = (in_order(k, "FD / floor") for k in ("training loss", "validation loss"))
verdict = (
    f"false: the lowest training loss belongs to the {lowest}, whose samples are copies "
    f"(memorisation ratio {mean[lowest]['memorisation']:.2f})"
    if copied
    else f"not refuted here: the {lowest} has the lowest training loss and does not copy"
)
verdict += (
    f"; rank correlation with FD: training loss {by_fd:+.2f}, validation loss {by_validation:+.2f}"
)
_ = record("C12-loss", rows, verdict=verdict, seeds=SEEDS, n=N, floor=FLOOR)
track = {
    key: torch.tensor([measured[name][key] for name in order]).T
    for key in ("FD / floor", "validation loss", "memorisation")
}
fig = plots.curves(
    {k: v.clamp(min=1e-3) for k, v in track.items()},
    torch.tensor([mean[name]["training loss"] for name in order]),
    xlabel="training loss (better to the left)",
    ylabel="",
    log_x=True,
    log_y=True,
    markers=True,
    floor=1.0,
    floor_name="what real data get (FD, memorisation)",
)
plots.show(
    fig,
    alt="Against the training loss, both axes logarithmic, from the highest to the lowest training "
    "loss: "
    + "; ".join(f"{key} " + ", ".join(f"{mean[name][key]:.2g}" for name in order) for key in track)
    + ".",
    caption="From right to left the models fit the training set better. FD improves. The other two "
    "say what the improvement is. (A ratio below 0.001 is drawn at 0.001.)",
)

# %% [markdown]
# The training loss and FD agree, and both are fooled. The copier has the lowest loss that exists,
# and an FD at the floor, and has made nothing. The validation loss rises with copying: it sees the
# loss of novelty. But it is no measure of samples either: it calls the smeared Gaussians better
# than mixtures whose samples anybody would prefer.
#
# Where a claim like this one *is* true: in one training run, long before learning by heart begins,
# a lower loss mostly goes with better samples (lesson 05 looks at that). Across models with other
# targets, weights or schedules, losses are not even in the same units.

# %% [markdown] tags=["remark"]
# Compare with your guesses 2, 3 and 4. If you had to report three numbers about a model to somebody
# who will not see its samples, which three, and what would you write beside them?

# %% [markdown]
# ## What to remember
#
# - Good means fidelity, diversity and novelty. No single number has all three.
# - FD depends on the features and on the count. Report it with count, seeds and floor.
# - Copies have the FD of real data. Look at nearness to training data, against held-out data.
# - Steps bring samples to what the model believes; they cannot improve the belief.
# - The lowest training loss belongs to a copier.
#
# **Where it goes next.** Lesson 09 trains on little data, where copying is the danger, and measures
# with what you wrote here. Lesson 11 takes the same measures to sound.
#
# ## References
#
# - Dowson, Landau 1982, [The Fréchet distance between multivariate normal
#   distributions](https://doi.org/10.1016/0047-259X(82)90077-X): the formula.
# - Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter 2017, [GANs trained by a two time-scale
#   update rule](https://arxiv.org/abs/1706.08500): FID.
# - Bińkowski, Sutherland, Arbel, Gretton 2018, [Demystifying MMD GANs](https://arxiv.org/abs/1801.01401):
#   KID, and why FID has a bias.
# - Chong, Forsyth 2020, [Effectively unbiased FID and Inception score](https://arxiv.org/abs/1911.07023):
#   the line over $1/n$.
# - Kynkäänniemi, Karras, Laine, Lehtinen, Aila 2019, [Improved precision and recall metric for
#   assessing generative models](https://arxiv.org/abs/1904.06991).
# - Naeem, Oh, Uh, Choi, Yoo 2020, [Reliable fidelity and diversity metrics for generative
#   models](https://arxiv.org/abs/2002.09797): density and coverage.
# - Carlini and others 2023, [Extracting training data from diffusion models](https://arxiv.org/abs/2301.13188):
#   copies in practice.
# - Efron 1979, [Bootstrap methods: another look at the jackknife](https://doi.org/10.1214/aos/1176344552).
