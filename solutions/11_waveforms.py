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
# # 11 · Sound I: waveforms
# <!-- lesson-header -->
#
# Everything so far drew pictures. Nothing so far knew that it did: noise, loss, training and
# samplers take tensors of any shape. In this lesson the tensors are sound, and you hear what comes
# out. You will be able to
#
# - bring any sound file into the form that a model learns from, and vary it without spoiling it,
# - speak of loudness and frequency in numbers, and read a spectrogram,
# - build the two kinds of networks that denoise waveforms, for any length,
# - train a model that makes drum hits of eight kinds, in five minutes on two CPU cores,
# - say from measurements how good they are, and play a beat that nobody recorded.
#
# You need lessons 04 (the U-Net), 05 (training) and 07 (classes). Speakers or headphones help, but
# every sound comes with a picture and a description in words.

# %% tags=["setup"]
import math
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Image, display
from scipy.signal import resample_poly
from torch import nn
from tqdm.auto import tqdm

from coursework import check, hint
from undiffuse import (
    budget,
    checkpoints,
    classifiers,
    data,
    judging,
    listen,
    plots,
    recipes,
    trainer,
)
from undiffuse import sound as course
from undiffuse.blocks import (
    ClassConditioner,
    Downsample,
    PatchStem,
    ResBlock,
    Upsample,
    group_norm,
    timestep_embedding,
)
from undiffuse.draw import draw
from undiffuse.guidance import guided
from undiffuse.results import load_results, record
from undiffuse.sampling import sample
from undiffuse.schedules import Schedule, cosine_schedule
from undiffuse.sound_metrics import clipping_share, mean_spectrum_db, spectrum_distance_db
from undiffuse.unet import UNet

# %%
hits, kinds = data.drums("train")  # (N, 1, 8192) in [-1, 1], and (N,)
KINDS = [name.replace("_", " ") for name in data.load("drums16k").classes]
RATE = 16_000  # samples a second
LENGTH = hits.shape[-1]
SEEDS = (0, 1, 2)


def seeded(seed: int) -> torch.Generator:
    """A generator of its own for each purpose."""
    return torch.Generator().manual_seed(seed)


def yours_or_the_courses(yours, theirs):
    """A function that calls yours, and the library's while yours is not written (an extra)."""

    def call(*args, **kwargs):
        try:
            return yours(*args, **kwargs)
        except NotImplementedError:
            return theirs(*args, **kwargs)

    return call


# %% [markdown]
# ## A claim, and your guesses
#
# > **Claim 3.** "Diffusion models are only for images."
#
# Write down what you expect, before anything runs.

# %% [markdown] tags=["remark"]
# 1. The claim cannot be quite true, or there would be no lesson 11. But which part of the engine
#    will have to change for sound: the forward process, the loss, the sampler, the network? My
#    guess:
# 2. You train for five minutes on two cores, on a few hundred recordings. Then you ask for hits of
#    given kinds. Which share of them will a classifier take for what was asked for? And which share
#    of real ones that it has never heard? My guess:
# 3. What will be wrong with the generated hits: too quiet, too dull, too noisy, too much like the
#    recordings? My guess:
# 4. A clip has ten times as many values as a digit. Does a schedule that was made for digits serve
#    it as well, or does it need more noise, or less? My guess:

# %% [markdown]
# ## A sound is a row of numbers
#
# A microphone measures the pressure of the air some thousand times a second. How often is the
# **rate**, in hertz (Hz): 16,000 here. What it measures are **samples**; between -1 and 1, the
# **full scale**, they say how far the membrane of your speaker moves out or in. All that you hear
# is in this one row. A drum hit here has 8,192 samples, about half a second.
#
# Two pictures are drawn of a sound. The **waveform** is the row itself over time. The
# **spectrogram** cuts the row into short pieces, and says for each how strong every frequency is:
# time runs to the right, frequency upwards, bright is loud. (How it is computed is lesson 12.)
#
# Below each player stands what was measured of the sound: how long it sounds; its level, in
# decibels, which are explained soon; its **attack**, the time from the first sound to half of the
# largest value; the frequency on which its power is centred, which is high for bright sounds and
# low for dull ones; and its **pitch**, the note that one would sing to it, if there is one.
#
# At a rate of $r$ no frequency above $r/2$ can be told from a lower one. This limit is named after
# Nyquist; here it is 8,000 Hz.


# %%
def until_silent(clip: torch.Tensor) -> torch.Tensor:
    """A clip (1, L) without the silence at its end: a player need not play it."""
    heard = (clip[0].abs() > 1e-3 * clip.abs().max()).nonzero()
    return clip[:, : max(RATE // 10, int(heard.max()) + 1 if len(heard) else 0)]


one_of_each = {name: hits[kinds == k][0] for k, name in enumerate(KINDS)}
listen.sounds(
    {name: until_silent(x) for name, x in one_of_each.items()},
    RATE,
    caption="One training recording of each kind.",
)

# %% tags=["figure"]
fig = listen.spectrograms(one_of_each, RATE, columns=4)
plots.show(
    fig,
    alt=listen.spectrograms_alt(one_of_each, RATE),
    caption="A hit begins suddenly. What tells the kinds apart is where its power lies and how "
    "long it stays: low down in a kick and a tom, all over in a hat and a cymbal.",
)

# %% [markdown]
# How many there are of each kind. There are few claps: what a model can learn of them is little,
# and what a measurement says of them is not much either. The splits are by drum: another stroke of
# a drum that is in `train` is in no other split.

# %% tags=["compare"]
print(f"{'kind':12}" + "".join(f"{split:>12}" for split in data.SPLITS))
in_split = {s: data.drums(s)[1].bincount(minlength=len(KINDS)).tolist() for s in data.SPLITS}
for k, name in enumerate(KINDS):
    print(f"{name:12}" + "".join(f"{in_split[s][k]:12}" for s in data.SPLITS))
print(f"{'all':12}" + "".join(f"{sum(in_split[s]):12}" for s in data.SPLITS))

# %% [markdown]
# ## Files come as they like
#
# A model wants clips that are alike: one channel, one rate, one length, floats around zero. Files
# are not like that. They hold whole numbers of 8, 16 or 32 bits, or floats; one channel or more;
# at 44,100 or 48,000 or 8,000 samples a second; as long as it took.
#
# The step that goes wrong most often is the rate. To get from 48,000 to 16,000 samples a second,
# why not keep every third? Because of what lies above the new Nyquist frequency. It does not
# vanish: it folds down and becomes a tone that was not there. This is **aliasing**. So a filter has
# to take those frequencies out first. `scipy.signal.resample_poly(x, up, down)` does both: in
# effect it makes `up` times as many samples, filters, and keeps every `down`-th.

# %% [markdown]
# <!-- exercise 11.1 -->
#
# Write `prepare_clip`. First numbers, then channels, rate, length, level, in this order. A clip is
# scaled as a whole, and only if it must be.


# %% tags=["answer"] exercise="11.1"
def prepare_clip(
    audio: np.ndarray | torch.Tensor, rate: int, target_rate: int, length: int
) -> torch.Tensor:
    """Any recording as a clip of ``length`` samples at ``target_rate``: (length,) float32.

    audio: (n,) or (n, channels), n >= 1. int16 and int32 have full scale 2 ** 15 and 2 ** 31;
    uint8 means silence at 128 and has full scale 2 ** 7; floats have full scale 1.
    Channels are averaged. The rate is changed with a filter. Then the clip is cut to its first
    ``length`` samples, or filled with zeros at its end. If its largest absolute value is then
    above 1, all of it is divided by that; else its level stays. Silence stays silence.
    """
    # BEGIN SOLUTION
    x = np.asarray(audio)
    if x.dtype == np.uint8:
        x = (x - 128.0) / 128
    elif x.dtype.kind == "i":
        x = x / 2.0 ** (8 * x.dtype.itemsize - 1)
    if x.ndim == 2:
        x = x.mean(axis=1)
    shared = math.gcd(rate, target_rate)
    x = resample_poly(x, target_rate // shared, rate // shared)[:length]
    x = np.pad(x, (0, length - len(x)))
    return torch.from_numpy(x / max(1.0, np.abs(x).max())).float()
    # END SOLUTION


# %% tags=["check"]
check("11.1")

# %% [markdown]
# What aliasing looks and sounds like: a tone that rises from 200 Hz to 20,000 Hz in half a second,
# recorded at 48,000 Hz in stereo with 16 bits, brought to 16,000 Hz by your function, and by
# keeping every third sample.

# %% tags=["figure"]
seconds = torch.arange(24_000, dtype=torch.float64) / 48_000
sweep = 0.5 * torch.sin(2 * math.pi * (200 * seconds + 19_800 * seconds**2))
recorded = (32_000 * torch.stack([sweep, 0.5 * sweep], 1)).to(torch.int16)
brought_down = {
    "filtered": prepare_clip(recorded, 48_000, RATE, 8_000),
    "every third sample": recorded[::3].float().mean(1) / 2**15,
}
fig = listen.spectrograms(brought_down, RATE)
plots.show(
    fig,
    alt="Two spectrograms of a rising tone. In the left one the tone rises to 8 kHz and is gone. "
    "In the right one it is reflected at 8 kHz, falls to 0, and rises again.",
    caption="Without a filter the tone bounces off the Nyquist frequency.",
)
told = {
    "filtered": "A tone that rises for a fifth of a second and vanishes.",
    "every third sample": "A tone that rises, falls and rises again, at an even loudness.",
}
listen.sounds(brought_down, RATE, texts=told)

# %% [markdown]
# ## How loud?
#
# The ear hears ratios: from 0.01 to 0.1 is as large a step as from 0.1 to 1. So levels are given in
# **decibels**, dB. For an amplitude $a$ it is $20 \log_{10} a$: a factor of ten is 20 dB, a factor
# of two about 6 dB. (Power is amplitude squared, which is why it is 10 times the logarithm *of a
# power*.) With full scale as 1, one writes dBFS: 0 is as loud as it gets, and what you meet is
# below 0.
#
# One sample says little about how loud a clip is. What is used is the **RMS**, the root of the mean
# of the squares of its $L$ samples:
#
# $$\text{level in dBFS} = 20 \log_{10} \sqrt{\frac{1}{L} \sum_{i=1}^{L} x_i^2}$$

# %% [markdown]
# <!-- exercise 11.6 -->
#
# Bring clips to a level. (It is numbered 11.6, and stands here because decibels are needed next.)


# %% tags=["answer"] exercise="11.6"
def loudness_normalise(x: torch.Tensor, target_db: float) -> torch.Tensor:
    """Each clip at an RMS of ``target_db`` dBFS, by one factor a clip; shape and dtype of x.

    x: (..., L), floating point; every row of the last axis is a clip by itself. A clip of zeros
    comes back as zeros. Nothing is limited: peaks may go beyond 1. x stays as it is.
    """
    # BEGIN SOLUTION
    rms = x.square().mean(-1, keepdim=True).sqrt()
    gain = 10 ** (target_db / 20) / rms
    return torch.where(rms > 0, x * gain, x)
    # END SOLUTION


# %% tags=["check"]
check("11.6")

# %% [markdown]
# The recordings of this set all have the same **peak**, the largest absolute value. Their levels
# are not the same at all: a hit that is short is quiet in the mean.

# %% tags=["figure"]
levels = course.rms_dbfs(hits[:, 0])
fig = plots.histogram({"at the same peak": levels}, bins=26, xlabel="level in dBFS")
plots.show(
    fig,
    alt="Histogram of the levels of the training hits, which all have the same peak. They spread "
    "over more than twenty decibels.",
    caption="Peak and loudness are two things.",
)
even = course.rms_dbfs(loudness_normalise(hits[:, 0], -20.0))
print(f"peaks {hits.abs().amax(-1).min():.3f} to {hits.abs().amax(-1).max():.3f}")
print(f"as recorded {levels.min():.1f} to {levels.max():.1f} dBFS; brought to one level "
      f"{even.min():.1f} to {even.max():.1f} dBFS")  # fmt: skip

# %% [markdown]
# ## More hits than were recorded
#
# There are a few hundred training recordings. As in lesson 05, *augmentation* makes more of them,
# by changes that should not matter, and as there: a generative model learns what it sees. For a
# sound that may be
#
# - its **gain**: a little quieter,
# - a **shift**: a little later, with silence before it. Not earlier: that would cut off how it
#   begins, and what is left sounds like no drum;
# - its **polarity**: $-x$ in place of $x$. The membrane moves in where it moved out. Nobody hears
#   that, but to a network they are as different as two clips can be.

# %% [markdown]
# <!-- exercise 11.2 -->
#
# Write all three. Each clip gets its own; how you draw is up to you.


# %% tags=["answer"] exercise="11.2"
def augment_audio(
    x: torch.Tensor,
    generator: torch.Generator | None = None,
    gain_db: tuple[float, float] = (-6.0, 0.0),
    max_shift: int = 128,
    polarity: bool = True,
) -> torch.Tensor:
    """Clips (B, 1, L), each with its own gain, shift and sign: a new tensor, x's shape and dtype.

    gain_db: lowest and highest gain; even between them *in dB*. max_shift: each clip starts later
    by a whole number of samples, evenly from 0 to max_shift, both included; zeros come in, and the
    end is cut off. polarity: whether half of the clips, by chance, are turned to -x.
    Every draw takes generator.
    """
    # BEGIN SOLUTION
    batch, length = len(x), x.shape[-1]
    low, high = gain_db
    level = low + (high - low) * torch.rand(batch, generator=generator)
    gain = 10 ** (level / 20)
    shift = torch.randint(0, max_shift + 1, (batch,), generator=generator)
    if polarity:
        gain = gain * (2 * torch.randint(0, 2, (batch,), generator=generator) - 1)
    moved = torch.zeros_like(x)
    for i, k in enumerate(shift.tolist()):
        moved[i, :, k:] = x[i, :, : length - k]
    return moved * gain.to(x.dtype)[:, None, None]
    # END SOLUTION


# %% tags=["check"]
check("11.2")

# %% tags=["figure"]
vary = yours_or_the_courses(augment_audio, course.augment_audio)
snare = hits[kinds == KINDS.index("snare")][:1]
varied = vary(snare.repeat(3, 1, 1), seeded(5), max_shift=100)
fig = plots.waveforms(
    {"as it is": snare[0, 0, :480]} | {f"varied {i + 1}": v[0, :480] for i, v in enumerate(varied)},
    RATE,
)
plots.show(
    fig,
    alt="The beginning of a snare hit and three variations of it, each with a level, a delay and a "
    "sign of its own.",
    caption="The first 30 milliseconds. To the ear these are one drum.",
)

# %% [markdown]
# ## Two ways to see half a second
#
# A denoiser has to see far. One period of a low tone of 50 Hz is 320 samples long, and to know what
# a hit is, one has to hear most of it. A plain convolution of kernel 3 sees 3 samples.
#
# One way you know from lesson 04, the U: shorter and shorter. The other keeps the full length and
# puts **holes** into the kernel: the samples that its three weights meet stand `dilation` apart.
# With dilations of 1, 2, 4, 8, ... a stack doubles what it sees with every layer.
#
# That way is older. **WaveNet** (2016) made speech so, one sample after the other, each drawn from
# a distribution that a stack of such layers predicts from all samples before it. It is no diffusion
# model (lesson 00, claim 11). **DiffWave** (2020) took the layers over and made a denoiser of them:
# all samples at once, from noise. What is special in a layer is its *gate*:
#
# ```text
# a = x + Linear(emb)                        the noise level, added at every place
# b = dilated convolution of a, padded       twice the channels; + Conv(cond), if there is a cond
# c = tanh(first half of b) * sigmoid(second half of b)
# d = Conv(c), kernel 1                      twice the channels
# on to the next layer: (x + first half of d) / sqrt(2)          skip: second half of d
# ```
#
# The convolution makes twice as many channels. One half is content, between -1 and 1. The other
# says how much of it passes, between 0 and 1. What has passed goes two ways: on to the next layer,
# added to $x$, and as a **skip** to the end of the network, which sums the skips of all layers. The
# sum of two signals of the same variance has twice the variance, and dividing by $\sqrt 2$ keeps it
# from growing with every layer.

# %% [markdown]
# <!-- exercise 11.3 -->
#
# The constructor is given; `self.dilated` does not pad. Write `forward`.


# %% tags=["answer"] exercise="11.3"
class GatedResBlock1d(nn.Module):
    """A layer of DiffWave: a dilated convolution, a gate, and two ways out."""

    def __init__(
        self, channels: int, dilation: int, emb_dim: int, cond_channels: int | None = None
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.emb = nn.Linear(emb_dim, channels)
        self.dilated = nn.Conv1d(channels, 2 * channels, 3, dilation=dilation)
        self.cond = nn.Conv1d(cond_channels, 2 * channels, 1) if cond_channels else None
        self.out = nn.Conv1d(channels, 2 * channels, 1)

    def forward(
        self, x: torch.Tensor, emb: torch.Tensor, cond: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x: (B, channels, L), any L; emb: (B, emb_dim), the noise level, as it comes.

        cond: (B, cond_channels, L), more that is known at each sample (lesson 12 has a spectrogram
        there), or None, and then nothing is added. Zeros stand outside of x + embedding, as many
        on the left as on the right.
        Returns ((x + residual) / sqrt(2), skip), both (B, channels, L).
        """
        # BEGIN SOLUTION
        h = x + self.emb(emb)[:, :, None]
        h = self.dilated(F.pad(h, (self.dilation, self.dilation)))
        if cond is not None:
            h = h + self.cond(cond)
        content, gate = h.chunk(2, dim=1)
        residual, skip = self.out(torch.tanh(content) * torch.sigmoid(gate)).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2), skip
        # END SOLUTION


# %% tags=["check"]
check("11.3")

# %% [markdown]
# How far does a stack of such layers see? One can ask autograd: which samples of the input does the
# sample in the middle of the output depend on?


# %% tags=["figure"]
def reach(dilations: list[int], length: int = 4001) -> torch.Tensor:
    """How much the middle of the output depends on each sample of the input, (length,)."""
    torch.manual_seed(0)
    layers = [GatedResBlock1d(4, d, 8) for d in dilations]
    x = torch.randn(1, 4, length, requires_grad=True)
    h, total, emb = x, 0.0, torch.zeros(1, 8)
    for layer in layers:
        h, skip = layer(h, emb)
        total = total + skip
    total[..., length // 2].sum().backward()
    return x.grad.abs().sum(1)[0]


seen = {
    "10 layers, all of dilation 1": reach([1] * 10),
    "10 layers, 1, 2, 4, ... 512": reach([2**i for i in range(10)]),
}
samples_seen = {name: int((v > 0).sum()) for name, v in seen.items()}
fig = plots.curves(
    {name: v.clamp(min=1e-8) for name, v in seen.items()},
    torch.arange(4001) - 2000,
    xlabel="samples from the middle",
    ylabel="gradient",
    log_y=True,
)
plots.show(
    fig,
    alt="How much the middle of the output depends on the samples of the input, for ten plain "
    "layers, which see a narrow peak, and ten dilated ones, which see a thousand samples to each "
    "side.",
    caption="The same ten layers, the same number of weights.",
)
for name, n in samples_seen.items():
    print(f"{name}: sees {n} samples, {1000 * n / RATE:.0f} ms")

# %% [markdown]
# ### The U-Net, in one dimension
#
# The other way is the network of lesson 04, with other convolutions. To make it cheap enough for
# two cores, the first thing that it does is to **fold**: `patch` neighbouring samples become
# `patch` channels of one place. 8,192 samples in patches of 32 are 256 places: that is a short row,
# on which wide convolutions cost little. At the end, the row is unfolded. Lengths that do not
# divide are padded by `fold` and cut by `unfold`.
#
# There is one block a level on the way down and two on the way up. Everything made on the way down
# is a skip:
#
# | step | what is done to h | appended to the skips |
# |---|---|---|
# | begin | `stem.fold` x, `conv_in` | the result |
# | way down, each level | (from the second level on: `downsample` first) | (its result, too) |
# | | one block | the result |
# | middle | the two blocks of `mid` | |
# | way up, each level, coarsest first | (from the second on: `upsample` to the next skip) | |
# | | two blocks; each gets h and the last skip side by side, h first | takes one each |
# | end | `norm_out`, SiLU, `conv_out`, `stem.unfold` to the size that x had | |

# %% [markdown]
# <!-- exercise 11.4 -->
#
# The constructor and `embed` are given; read them beside the table. `self.up[0]` belongs to the
# coarsest level; `self.downsample[i]` stands before `self.down[i + 1]`, and `self.upsample[i]`
# before the blocks of `self.up[i + 1]`. Write `forward`.


# %% tags=["answer"] exercise="11.4"
class UNet1d(nn.Module):
    """A U-Net for sound of any length, told the noise level and the class."""

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, ...] = (32, 64, 64),
        patch: int = 8,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.time_dim, emb_dim = channels[0], 4 * channels[0]
        self.null = classes
        self.time_mlp = nn.Sequential(
            nn.Linear(self.time_dim, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim)
        )
        self.conditioner = ClassConditioner(classes, emb_dim) if classes else None
        self.stem = PatchStem(patch, dims=1)
        self.conv_in = nn.Conv1d(patch * in_channels, channels[0], 3, padding=1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        for level, wide in enumerate(channels):
            if level:
                self.downsample.append(Downsample(width, dims=1))
                skips.append(width)
            self.down.append(ResBlock(width, wide, emb_dim, dims=1))
            width = wide
            skips.append(width)
        self.mid = nn.ModuleList([ResBlock(width, width, emb_dim, dims=1) for _ in range(2)])
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, wide in enumerate(reversed(channels)):
            if level:
                self.upsample.append(Upsample(width, dims=1))
            blocks = nn.ModuleList()
            for _ in range(2):
                blocks.append(ResBlock(width + skips.pop(), wide, emb_dim, dims=1))
                width = wide
            self.up.append(blocks)
        self.norm_out = group_norm(width)
        self.conv_out = nn.Conv1d(width, patch * in_channels, 3, padding=1)

    def embed(self, x: torch.Tensor, t, cond: torch.Tensor | None) -> torch.Tensor:
        """(B, emb_dim): what the blocks are told, of time and class."""
        t = torch.as_tensor(t).to(x.dtype).expand(len(x))
        emb = self.time_mlp(timestep_embedding(1000 * t, self.time_dim))
        if self.conditioner is not None:
            cond = torch.full((len(x),), self.null) if cond is None else cond
            emb = emb + self.conditioner(cond)
        return emb

    def forward(self, x: torch.Tensor, t, cond: torch.Tensor | None = None) -> torch.Tensor:
        """x: (B, in_channels, L), any L. t: (B,) or a number in [0, 1], cond: (B,) labels or None.

        t and cond go to embed as they are. Returns a prediction of x's shape.
        """
        # BEGIN SOLUTION
        emb = self.embed(x, t, cond)
        h = self.conv_in(self.stem.fold(x))
        skips = [h]
        for level, block in enumerate(self.down):
            if level:
                h = self.downsample[level - 1](h)
                skips.append(h)
            h = block(h, emb)
            skips.append(h)
        for block in self.mid:
            h = block(h, emb)
        for level, blocks in enumerate(self.up):
            if level:
                h = self.upsample[level - 1](h, skips[-1].shape[2:])
            for block in blocks:
                h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.stem.unfold(self.conv_out(F.silu(self.norm_out(h))), x.shape[2:])
        # END SOLUTION


# %% tags=["check"]
check("11.4")

# %% [markdown]
# Your network has the weights of the library's `UNet(dims=1)`, in the same order. So weights of one
# fit into the other, and must give the same. Any length goes through.


# %% tags=["compare"]
def as_the_librarys(mine: nn.Module, arguments: dict) -> UNet:
    """The library's network with the weights of yours."""
    theirs = UNet(in_channels=1, dims=1, **arguments)
    values = list(mine.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    return theirs.eval()


arguments = {"channels": (16, 24, 24), "patch": 8, "classes": len(KINDS)}
torch.manual_seed(1)
mine = UNet1d(**arguments).eval()
theirs = as_the_librarys(mine, arguments)
for n in (8192, 8191, 777):
    with torch.no_grad():
        x, y = hits[:2, :, :n], kinds[:2]
        same = torch.allclose(mine(x, 0.3, y), theirs(x, 0.3, y), atol=1e-5)
    print(f"{n} samples come back as {mine(x, 0.3, y).shape[-1]}; as the library's: {same}")

# %% [markdown]
# ## As noisy as it looks
#
# Which noise levels should a model for sound practise? Lesson 01's schedules were made for small
# pictures. Take a picture of $d \times d$ pixels, and one of the same thing with $2d \times 2d$.
# Put the same noise on both. In the large one, four neighbouring pixels show nearly the same; their
# mean has their content, and noise of a quarter of the variance. So at the same SNR per pixel *the
# large picture is less noisy*: what it shows can still be seen. To hide it as well, the noise needs
# four times the variance.
#
# **Simple diffusion** (Hoogeboom et al. 2023) draws the conclusion: move the whole schedule. With
# a base of $n_0$ values along each of $D$ axes, and $n$ values in fact,
#
# $$\log \mathrm{SNR}' = \log \mathrm{SNR} + D \log \frac{n_0}{n} .$$
#
# Sound has one axis. $n$ may be the number of samples of the same half second, or the rate: only
# the ratio counts.

# %% [markdown]
# <!-- exercise 11.5 -->
#
# One line. Which sign, and which logarithm?


# %% tags=["answer"] exercise="11.5"
def shift_schedule(
    log_snr: torch.Tensor, length: float, base_length: float, dims: int = 1
) -> torch.Tensor:
    """log SNR of a schedule made for ``base_length`` values an axis, moved to ``length`` of them.

    log_snr: any shape, natural logarithm of alpha^2 / sigma^2; the same shape and dtype come back.
    length, base_length: above 0, along each of ``dims`` axes. More values get more noise.
    """
    # BEGIN SOLUTION
    return log_snr + dims * math.log(base_length / length)
    # END SOLUTION


# %% tags=["check"]
check("11.5")

# %% [markdown]
# A schedule that is moved is a schedule again: $\alpha$ and $\sigma$ follow from log SNR, as
# $\alpha^2 + \sigma^2 = 1$. The base here is a digit, with 784 values in all: what the rule counts
# is how many values show one thing, whatever the axes.

# %%
move = yours_or_the_courses(shift_schedule, course.shift_schedule)
BASE = 784


def moved(schedule: Schedule, length: float, base_length: float) -> Schedule:
    """A variance-preserving schedule, moved by ``shift_schedule``."""

    def coefficients(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        level = move(schedule.log_snr(t), length, base_length)
        return torch.sigmoid(level).sqrt(), torch.sigmoid(-level).sqrt()

    return Schedule(f"{schedule.name}, moved", coefficients)


plain = cosine_schedule()
shifted = moved(plain, LENGTH, BASE)

# %% tags=["figure"]
at = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
fig = plots.log_snr_curves(
    {"cosine, as for digits": plain.log_snr(at), "moved to 8,192 samples": shifted.log_snr(at)},
    x=at,
)
plots.show(
    fig,
    alt="log SNR over time for the cosine schedule and for the same, moved down by a constant.",
    caption=f"The moved schedule lies {float(plain.log_snr(0.5) - shifted.log_snr(0.5)):.2f} lower "
    "everywhere: more noise at every time.",
)

# %% [markdown]
# The rule supposes that neighbours show nearly the same. That is so in pictures, and in a kick. In
# the hiss of a cymbal every sample is news: there is nothing to average.
#
# And it supposes something else, which is easily overlooked. SNR is a ratio of variances *if the
# data have variance 1*. Digits are not far from it. What do these hits have?

# %% tags=["compare"]
digit_images, _ = data.digits("train", 500)
for name, x in (("digits", digit_images), ("drum hits", hits)):
    variance = float(x.var())
    print(f"{name:10} variance {variance:.3f}: log SNR is in truth {math.log(variance):+.1f} of "
          "what the schedule says")  # fmt: skip

# %% [markdown]
# Sound is quiet most of the time. With data of so small a variance, the noise already has the upper
# hand much earlier than the schedule says, as if it had been moved already, and further than the
# rule asks for. So there is a second thing that can be done: make the data louder before training,
# by a factor, and what was drawn quieter again afterwards. Look at a tom at the same time $t$
# under four conditions.

# %% tags=["figure"]
LOUDER = 4.0
tom = hits[kinds == KINDS.index("tom")][0]
noise = torch.randn(tom.shape, generator=seeded(7))


def noisy(schedule: Schedule, t: float, gain: float) -> torch.Tensor:
    """x_t of the tom made ``gain`` times as loud, brought back to where one can hear it."""
    x_t = schedule.alpha(t) * gain * tom + schedule.sigma(t) * noise
    return (x_t / x_t.abs().max() * 0.9).float()


conditions = {
    "cosine": (plain, 1.0),
    "cosine, moved": (shifted, 1.0),
    f"cosine, {LOUDER:g} times as loud": (plain, LOUDER),
    f"moved, {LOUDER:g} times as loud": (shifted, LOUDER),
}
at_a_fifth = {name: noisy(schedule, 0.2, gain) for name, (schedule, gain) in conditions.items()}
fig = listen.spectrograms({k: v[:, :4096] for k, v in at_a_fifth.items()}, RATE)
plots.show(
    fig,
    alt="Four spectrograms of a tom in noise at the same time, a fifth of the way to pure noise. "
    "How much of the drum can be seen differs: most where it was made louder, least where the "
    "schedule was moved.",
    caption="The first quarter of a second of the same drum, at t = 0.2. What a time means depends "
    "on schedule and level together.",
)

# %% [markdown]
# Which of these is best for drums? That is guess (4), and an experiment further below.
#
# ## Five minutes
#
# Now the training. The engine is that of lesson 05 and knows nothing of sound: *v*-prediction,
# stratified times, Muon, warm-up and cosine, EMA. The network is your `UNet1d`. The rest is in a
# recipe; its `scale` makes the data louder.

# %%
recipe = recipes.Recipe(
    name="lesson11",
    data="drums",
    network=budget(
        full={"channels": (64, 96, 128), "patch": 32, "classes": len(KINDS)},
        small={"channels": (8, 8), "patch": 32, "classes": len(KINDS)},
    ),
    prediction="v",
    middle=0.5,  # noise levels in the middle come more often
    optimizer="muon",
    lr=0.02,
    batch=budget(full=16, small=8),
    seconds=budget(full=300.0, small=0.0),
    steps=20,  # where seconds is 0: for tests
    ema=0.995,
    drop_labels=0.1,
    guidance=5.0,
    shift=24,
    polarity=True,
    scale=LOUDER,  # the model learns louder hits; what it draws is divided by this again
)


def network(seed: int) -> UNet1d:
    """Your U-Net of the recipe's size, with first weights that follow from the seed."""
    torch.manual_seed(seed)
    return UNet1d(**recipe.network)


# %% [markdown]
# `shift` and `polarity` in the recipe are `augment_audio`, for each batch anew. Its gain is left
# out: all recordings have one peak, and the model would learn to draw quieter ones. Augment only
# into what could be data.
#
# `guidance` is high: after so short a training, a hit that follows its label closely is worth more
# than variety. Lesson 07 says what that costs, and *recall* below shows it.
#
# **The next cell takes five minutes.** It shows the loss, the time that is left, and now and then
# the spectrograms of three samples. To stop earlier, interrupt the kernel: the state is saved, and
# the cell goes on from it when you run it again. (To begin anew, delete the folder `place`.)


# %%
@torch.no_grad()
def drawn(
    model: nn.Module, wanted: torch.Tensor, seed: int, calls: int, *, schedule: Schedule,
    scale: float = 1.0, gain: float = recipe.scale, batch: int = 40,
) -> torch.Tensor:  # fmt: skip
    """Hits (n, 1, L), one for each label of ``wanted``, as loud as the recordings.

    calls: of the network, for each hit; with guidance (a scale other than 1) a step takes two.
    """
    mode, g = model.training, seeded(1000 + seed)
    model.eval()
    steps = calls if scale == 1 else max(1, calls // 2)
    denoiser = model if scale == 1 else guided(model, model.null, scale)
    parts = [
        sample(denoiser, schedule, (len(y), 1, LENGTH), kind=recipe.prediction, calls=steps,
               cond=y, generator=g, clip=(-gain, gain))
        for y in wanted.split(batch)
    ]  # fmt: skip
    model.train(mode)
    return torch.cat(parts) / gain


class Live:
    """A progress bar with the loss, and spectrograms of samples, renewed every so often."""

    def __init__(self, every: float) -> None:
        self.bar, self.every, self.recent = tqdm(unit="step"), every, []
        self.shown_at = self.told_at = self.started = time.monotonic()
        self.handle = display("samples appear here", display_id=True)

    def __call__(self, step: int, of: int, loss: float, model: nn.Module) -> None:
        self.recent = [*self.recent[-49:], loss]
        self.bar.total, self.bar.n = of, step
        self.bar.set_postfix_str(f"loss {sum(self.recent) / len(self.recent):.4f}", refresh=False)
        now = time.monotonic()
        if now - self.told_at > 0.5 or step == of:
            self.told_at = now
            self.bar.refresh()
        if now - self.shown_at > self.every or step == of:
            self.shown_at = now
            self.show(model, f"after {now - self.started:.0f} s and {step} steps")

    def show(self, model: nn.Module, title: str) -> None:
        some = ("kick", "snare", "cymbal")
        wanted = torch.tensor([KINDS.index(name) for name in some])
        made = drawn(model, wanted, 0, 10, schedule=recipe.make_schedule())
        fig = listen.spectrograms(dict(zip(some, made)), RATE, columns=3, title=title)
        if self.handle:
            alt = f"Spectrograms of three samples {title}: {', '.join(some)}."
            self.handle.update(Image(plots.png(fig), alt=alt))


place = Path(tempfile.gettempdir()) / f"undiffuse-lesson11-{os.getpid()}"
live = Live(every=budget(full=30.0, small=100.0))
run = trainer.train(recipe, hits, kinds, folder=place, on_step=live, model=network(recipe.seed))
live.bar.close()
print(f"{run.steps} steps of {recipe.batch} clips in {run.seconds:.0f} s")

# %% [markdown]
# ## Listen
#
# One of each kind, the first that was drawn. The recordings to compare with are at the top of the
# lesson.

# %%
CALLS = budget(full=50, small=4)


def from_run(wanted: torch.Tensor, seed: int) -> torch.Tensor:
    """Hits of the five-minute model, as its recipe wants them drawn."""
    return drawn(run.model, wanted, seed, CALLS, schedule=run.schedule, scale=recipe.guidance)


first = from_run(torch.arange(len(KINDS)), seed=1)
unheard, unheard_kinds = data.drums("held_out")
made = {name: first[k] for k, name in enumerate(KINDS)}
listen.sounds(
    {name: until_silent(made[name]) for name in KINDS[: budget(len(KINDS), 3)]},
    RATE,
    caption="Asked for each kind once; not chosen.",
)

# %% tags=["figure"]
fig = listen.spectrograms(made, RATE, columns=4)
plots.show(
    fig,
    alt=listen.spectrograms_alt(made, RATE),
    caption="The same eight, in the order of the recordings at the top of the lesson.",
)

# %% [markdown] tags=["remark"]
# Listen before you measure. Which kinds would you recognise without their name? What is wrong with
# the others? (Your guess (3).)

# %% [markdown]
# ## How good is that?
#
# As in lessons 05 and 08: a classifier that was trained on other drums (the split `features`) turns
# each hit into features and a kind.
#
# - **Accuracy**: the share of hits that it takes for what was asked for. It is no perfect judge:
#   the kinds overlap, so what it says of real hits is the mark to compare with.
# - **FD**: how different two sets of features are, and the **floor**, which is what two sets of
#   real hits score. With so few hits the floor is high: FD depends on the count (lesson 08).
# - **Recall**: the share of real hits that have a generated one near them.
# - **Nearness**: how far it is to the nearest training hit. If the nearest 1 % and 5 % of generated
#   hits are nearer than those of real ones that no model has seen, some are copies.
# - What no classifier is needed for: the mean **spectrum**, the level, and how much is at full
#   scale.

# %%
BAR = 0.70  # of the accuracy on real hits: from here on, hits are called recognisable
reals, _ = data.drums("reference")
N = budget(full=len(reals), small=24)


def asked(n: int = N) -> torch.Tensor:
    """Kinds in the shares of the real hits that FD compares with."""
    return judging.labels_like("drums", n)


def off_in_spectrum(x: torch.Tensor) -> float:
    """How different the mean spectrum is from that of the real hits, in dB."""
    return spectrum_distance_db(x[:, 0], reals[:, 0], RATE)


draws = [from_run(asked(), seed) for seed in SEEDS]
found = [judging.judge_sounds(x, asked(), "drums", [seed]) for seed, x in zip(SEEDS, draws)]
print(judging.describe(found))
print()
n_out = min(N, len(unheard))
for name, sets in (("generated", draws), ("real, held out", [unheard[:n_out]])):
    print(f"{name:15} mean spectrum off by "
          + ", ".join(f"{off_in_spectrum(x):.1f}" for x in sets) + " dB; level "
          + ", ".join(f"{float(course.rms_dbfs(x[:, 0]).mean()):.1f}" for x in sets) + " dBFS; "
          + ", ".join(f"{float(clipping_share(x).mean()):.2%}" for x in sets)
          + " of samples at full scale")  # fmt: skip

# %% tags=["figure"]
bands = torch.arange(1, 33)
fig = plots.curves(
    {
        "generated": torch.stack([mean_spectrum_db(x[:, 0], RATE) for x in draws]),
        "real, reference": mean_spectrum_db(reals[:, 0], RATE),
        "real, held out": mean_spectrum_db(unheard[:, 0], RATE),
    },
    bands,
    xlabel="band, from low to high",
    ylabel="mean level in dB",
    roles={"generated": "model", "real, reference": "data"},
)
plots.show(
    fig,
    alt="Mean level in 32 frequency bands for generated hits, three draws, and for two sets of "
    "real ones.",
    caption="Where the line of the model lies below the others, its hits are duller; above them, "
    "they are noisier. The two real sets differ, too.",
)

# %% [markdown]
# Which kinds are easy? The rows say what was asked for, the columns what the classifier heard.

# %%
classifier = classifiers.load("drums")
heard = torch.zeros(len(KINDS), len(KINDS), dtype=torch.int64)
for x in draws:
    heard.index_put_(
        (asked(), classifiers.examine(classifier, x)[1].argmax(1)),
        torch.ones(N, dtype=torch.int64),
        accumulate=True,
    )
print(f"{'asked for':12}" + "".join(f"{name[:7]:>9}" for name in KINDS))
for k, name in enumerate(KINDS):
    print(f"{name:12}" + "".join(f"{n:9}" if n else f"{'·':>9}" for n in heard[k].tolist()))

# %% [markdown]
# ### And with more time?
#
# The course ships a checkpoint `drums`, trained by the same engine for longer. What was measured of
# it stands in a file beside it (`data/checkpoints/drums.json`), with the count, the seeds and what
# real hits get. Here are both, beside each other.

# %%
card = checkpoints.quality("drums")
SHIPPED = checkpoints.load("drums") if "drums" in checkpoints.names() else None


def spread(values: list[float]) -> str:
    """Mean, lowest and highest."""
    return f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if card is None:
    print("This copy has no checkpoint called drums, or nothing measured of it: nothing to compare")
    print("with. course train drums makes one (hours), or go on without.")
else:
    of_50, real = card["samplers"]["ddim_50"], card["floor"]
    table = {
        "recognised as asked": ([q.accuracy for q in found], "accuracy"),
        "FD": ([q.fd for q in found], "fd"),
        "recall": ([q.recall for q in found], "recall"),
    }
    lines = [
        (title, yours, [q[key] for q in of_50["seeds"]], real[key])
        for title, (yours, key) in table.items()
    ]
    for part in ("0.01", "0.05"):
        yours = [q.nearness["samples"][part] for q in found]
        its = [q["nearness"]["samples"][part] for q in of_50["seeds"]]
        lines.append((f"nearest {float(part):.0%} to train", yours, its, real["nearness"][part]))
    print(f"{'':22}{'five minutes':>24}{'shipped':>24}{'real, held out':>18}")
    for title, yours, its, reals_get in lines:
        print(f"{title:22}{spread(yours):>24}{spread(its):>24}{reals_get:>18.2f}")
    seeds = ", ".join(map(str, card["seeds"]))
    print(f"shipped: n = {card['n']}, seeds {seeds}, {of_50['calls']} steps, guidance "
          f"{card['guidance']}")  # fmt: skip
    print(f"five minutes: n = {found[0].n}, seeds {', '.join(map(str, SEEDS))}, {CALLS // 2} "
          f"steps, guidance {recipe.guidance}")  # fmt: skip
    if card["n"] != found[0].n:
        print("(The counts differ, and so do the floors of FD: compare it with care.)")

# %% tags=["figure"]
drawn_by_shipped = None
if SHIPPED is None:
    print("skipped: there is no shipped checkpoint to listen to")
else:
    drawn_by_shipped, _ = draw(SHIPPED, len(KINDS), calls=CALLS, seed=1, solver="ddim",
                               labels=torch.arange(len(KINDS)))  # fmt: skip
    some = {name: drawn_by_shipped[KINDS.index(name)] for name in ("kick", "snare", "cymbal")}
    display(
        listen.sounds(
            {name: until_silent(x) for name, x in some.items()},
            RATE,
            caption="By the shipped checkpoint: the first of these kinds, not chosen.",
        )
    )
    plots.show(
        listen.spectrograms(some, RATE, columns=3),
        alt=listen.spectrograms_alt(some, RATE),
        caption="The same three. Where do they begin more suddenly, and end in more silence, than "
        "those of five minutes?",
    )

# %% [markdown]
# ## More noise, or louder data?
#
# The four conditions of above, three of them trained: the cosine as it is, the cosine moved to the
# length of the clips, and the cosine as it is with data that are four times as loud. Three seeds
# each, the same number of steps, and all the rest the same.

# %% tags=["slow"]
ARMS = {
    "cosine": {"shift": 0.0, "gain": 1.0},
    "moved": {"shift": float(move(torch.zeros(()), LENGTH, BASE)), "gain": 1.0},
    "louder": {"shift": 0.0, "gain": LOUDER},
}
SHORT = budget(full=150, small=4)
calls = budget(full=20, small=2)


def brief(arm: dict, seed: int) -> dict:
    """A short training, judged by one draw."""
    short = replace(recipe, seconds=0.0, steps=SHORT, seed=seed, scale=arm["gain"],
                    schedule_options={"shift": arm["shift"]})  # fmt: skip
    made = trainer.train(short, hits, kinds, model=network(seed))
    x = drawn(made.model, asked(), seed, calls, schedule=made.schedule, gain=arm["gain"])
    q = judging.judge_sounds(x, asked(), "drums", [seed], resamples=2)
    return {"FD": q.fd, "accuracy": q.accuracy, "recall": q.recall, "spectrum": off_in_spectrum(x),
            "level": float(course.rms_dbfs(x[:, 0]).mean())}  # fmt: skip


trials = {name: [] for name in ARMS}
for seed, name in tqdm([(seed, name) for seed in SEEDS for name in ARMS]):
    trials[name].append(brief(ARMS[name], seed))

# %% tags=["figure"]
fig = plots.bar_with_spread(
    {name: [t["FD"] for t in tries] for name, tries in trials.items()},
    ylabel=f"FD of {N} hits",
    log_y=True,
    floor=found[0].floor,
)
plots.show(
    fig,
    alt="FD of hits for three conditions, three seeds each with mean and range, and the floor of "
    "real hits.",
    caption=f"After {SHORT} steps. The same network, the same steps, other noise.",
)


def better(a: str, b: str) -> int:
    """In how many seeds condition a has the lower FD."""
    return sum(x["FD"] < y["FD"] for x, y in zip(trials[a], trials[b]))


def compared(a: str, b: str) -> str:
    """One condition against another, in words."""
    wins = better(a, b)
    if wins == len(SEEDS):
        return f"{a} beats {b} in every seed"
    if wins == 0:
        return f"{b} beats {a} in every seed"
    return f"{a} against {b}: no difference beyond the seeds ({wins} of {len(SEEDS)})"


trial = budget(full="", small="a trial with the small budget; ")
_ = record(
    "L11-noise",
    [{"condition": name, **{
        key: f"{sum(t[key] for t in tries) / len(tries):.3g} ({min(t[key] for t in tries):.3g} to "
             f"{max(t[key] for t in tries):.3g})" for key in tries[0]}}
     for name, tries in trials.items()],
    verdict=f"{trial}after {SHORT} steps: {compared('moved', 'cosine')}; "
            f"{compared('louder', 'cosine')}; {compared('louder', 'moved')}",
    seeds=SEEDS, n=N, steps=SHORT, calls=calls, floor=found[0].floor, trials=trials,
)  # fmt: skip

# %% [markdown]
# **What would change it.** Longer training, in which every level is practised enough in the end.
# Other weights on the levels (`middle` in the recipe is one). Sounds with more low tones and less
# hiss, for which the rule was not wrong. And a network that sees patches of another length. What
# holds in any case: a schedule is made for data of some size and some level, and neither is
# written on it.

# %% [markdown]
# ## A beat that nobody recorded
#
# Music is counted in **beats**; bpm says how many there are a minute. Four beats are a **bar**, and
# a drummer thinks of a bar as 16 steps, four to a beat. A pattern says on which steps a drum is
# struck: `x` for a stroke, `.` for none.
#
# Sounds that sound together add up, sample by sample. That is all that mixing is. Two things go
# wrong: the sum may pass full scale, and what passes it is cut off by the player, which one hears
# as a crackle. And the length of a step is seldom a whole number of samples: round where a hit
# begins, not the step, or the error adds up.

# %% [markdown]
# <!-- exercise 11.7 -->
#
# Write the drum machine.


# %% tags=["answer"] exercise="11.7"
def drum_loop(
    samples: dict[str, torch.Tensor], pattern: dict[str, str], bpm: float, rate: int
) -> torch.Tensor:
    """One bar: (round(steps * step),), of the samples' dtype, with step = 60 / bpm / 4 * rate.

    samples: name -> (n,) floats, all of one dtype; more of them than the pattern names may be
    there. pattern: name -> a row such as "x...x...x...x...", all rows of the same number of steps.
    A hit of step i (from 0) begins at sample round(i * step). Hits are added up; they ring on into
    those that follow, and are cut off at the end of the bar.
    If the largest absolute value of the mix is above 1, all of it is divided by that; else it
    stays as it is. The samples are not changed.
    """
    # BEGIN SOLUTION
    step = 60 / bpm / 4 * rate
    steps = len(next(iter(pattern.values())))
    like = next(iter(samples.values()))
    bar = torch.zeros(round(steps * step), dtype=like.dtype)
    for name, row in pattern.items():
        for i, mark in enumerate(row):
            if mark == "x":
                start = round(i * step)
                hit = samples[name][: len(bar) - start]
                bar[start : start + len(hit)] += hit
    return bar / max(1.0, float(bar.abs().max()))
    # END SOLUTION


# %% tags=["check"]
check("11.7")

# %% [markdown]
# The drums of this beat are those that you heard above, the first that the model drew of each kind.
# They are brought to levels first, as a mixer would: nothing in the recordings says how loud a hat
# is beside a kick.

# %%
LEVELS = {"kick": -14.0, "snare": -18.0, "hat closed": -27.0, "hat open": -28.0, "tom": -19.0}


def kit_of(one_of_each: torch.Tensor) -> dict[str, torch.Tensor]:
    """The drums of the beat at their levels, from hits (kinds, 1, L)."""
    return {
        name: loudness_normalise(one_of_each[KINDS.index(name), 0], level)
        for name, level in LEVELS.items()
    }


BEAT = {
    "kick": "x.....x...x.....",
    "snare": "....x.......x...",
    "hat closed": "x.x.x.x.x.x.x...",
    "hat open": "..............x.",
    "tom": "...............x",
}
BPM = 116
# (With the small budget nothing has learned to make hits: only the shipped model's are played.)
kits = {"your five minutes": first} if budget(True, False) or drawn_by_shipped is None else {}
if drawn_by_shipped is not None:
    kits["the shipped checkpoint"] = drawn_by_shipped
bars = {who: drum_loop(kit_of(each), BEAT, bpm=BPM, rate=RATE) for who, each in kits.items()}
strokes = ", ".join(
    f"{name} {row.count('x')} {'times' if row.count('x') > 1 else 'time'}"
    for name, row in BEAT.items()
)
listen.sounds(
    bars,
    RATE,
    texts={
        who: f"A bar of drums at {BPM} beats a minute: {strokes}, all generated. "
        + listen.describe(bar, RATE)
        for who, bar in bars.items()
    },
    caption="One bar of generated hits.",
)

# %% tags=["figure"]
who = list(bars)[-1]
fig = listen.spectrograms({f"one bar of {who}": bars[who]}, RATE, columns=1)
plots.show(
    fig,
    alt=f"Spectrogram of one bar of hits of {who}. "
    + "; ".join(f"{name}: {row}" for name, row in BEAT.items()),
    caption="One bar. You can read the pattern off it: low strokes are kicks, high ones hats.",
)

# %% [markdown]
# Change `BEAT`, `LEVELS` and the seed of `first`, and make your own.
#
# ## C3: only for images?
#
# What had to change for sound? Look back: the forward process, the target, the loss, the training
# loop, the sampler, the guidance, all of them are called as in lessons 02 to 07. The network has
# other convolutions. That is the engine. And what comes out of it?

# %%
real_accuracy = found[0].floor_accuracy
accuracies = [q.accuracy for q in found]
mean_accuracy = sum(accuracies) / len(accuracies)
mean_ratio = sum(q.ratio for q in found) / len(found)
share = mean_accuracy / real_accuracy
short_accuracies = [t["accuracy"] for tries in trials.values() for t in tries]
if not budget(full=True, small=False):
    word = "a trial with the small budget, which says nothing about the claim"
elif share >= BAR:
    word = "false: the same engine makes drum hits"
elif share >= 0.4:
    word = "false in kind, but five minutes were not enough for good ones here"
else:
    word = "not refuted here: what was made could not be recognised"
_ = record(
    "C3-drums",
    [{"hits": "generated", "accuracy": mean_accuracy, "FD": sum(q.fd for q in found) / len(found),
      "recall": sum(q.recall for q in found) / len(found),
      "nearest 5 % to train": sum(q.nearness["samples"]["0.05"] for q in found) / len(found)},
     {"hits": "real, held out", "accuracy": real_accuracy, "FD": found[0].floor,
      "recall": found[0].floor_recall,
      "nearest 5 % to train": found[0].nearness["held_out"]["0.05"]}],
    verdict=f"{word}. Recognised as what was asked for: {mean_accuracy:.2f} of generated hits "
            f"({min(accuracies):.2f} to {max(accuracies):.2f}), {real_accuracy:.2f} of real ones; "
            f"FD {mean_ratio:.1f} times the floor",
    seeds=SEEDS, n=N, trainings=1, draws=len(SEEDS), seconds=run.seconds, steps=run.steps,
    calls=CALLS, guidance=recipe.guidance, short_trainings=len(short_accuracies),
    short_accuracies=short_accuracies,
)  # fmt: skip

# %% [markdown]
# These seeds are three draws of one training: five minutes times three is more than you should wait
# for. So the verdict of the course comes from an experiment that was run beforehand, with three
# trainings each, in equal terms: the same engine, networks with about as many weights, as many
# training examples, steps and samples, once of drum hits and once of digits.

# %% tags=["figure"]
try:
    claim = load_results(data.folder() / "results").get("C3")
except (FileNotFoundError, ValueError):
    claim = None
if claim is None:
    print("This copy has no figures called C3. To measure them (half an hour on two cores):")
    print("    course experiment C3 --workers 2 --out data/results")
else:
    print(f"C3, {len(claim['seeds'])} seeds, n = {claim['n']}. {claim['verdict']}")
    shares = {
        kind: [r["accuracy share"] for r in claim["rows"] if r["data"] == kind]
        for kind in dict.fromkeys(r["data"] for r in claim["rows"])
    }
    told = "; ".join(f"{kind} {spread(v)}" for kind, v in shares.items())
    fig = plots.bar_with_spread(
        shares,
        ylabel="accuracy over that of real ones",
        floor=1.0,
        floor_name="real ones",
    )
    plots.show(
        fig,
        alt=f"Class accuracy of generated drum hits and digits over that of real ones: {told}.",
        caption="One dot a training. The line: real ones that no model has seen.",
    )

# %% [markdown]
# **What would change it.** A single sound of another kind would not: the claim says *only*. What
# one may doubt is whether these are good drums. They are half a second long, at 16 kHz, of eight
# kinds. Longer and richer sounds, words among them, need more than that: lesson 12 does what most
# large models do, and draws spectrograms.
#
# ### Ten minutes more
#
# Does it go on getting better? The next cell trains anew for ten minutes. It is off: set `LONGER`
# to `True` to run it. By then hits should be *recognisable*: an accuracy of at least `BAR` times
# that of real hits. The cell says whether yours gets there.

# %%
LONGER = False
if LONGER:
    longer = replace(recipe, name="lesson11-longer", seconds=600.0)
    live = Live(every=60.0)
    run_longer = trainer.train(longer, hits, kinds, on_step=live, model=network(1))
    live.bar.close()
    x = drawn(run_longer.model, asked(), 0, CALLS, schedule=run_longer.schedule,
              scale=recipe.guidance)  # fmt: skip
    # Noise that the network leaves at about -40 dBFS is all that there is to hear after a hit.
    x = course.expand_downward(x, -25.0)
    judged = judging.judge_sounds(x, asked(), "drums", [0])
    print(judging.describe(judged))
    reached = judged.accuracy / judged.floor_accuracy
    print(f"accuracy over that of real hits: {reached:.2f}, the bar is {BAR:.2f}: "
          f"{'passed' if reached >= BAR else 'missed'}")  # fmt: skip

# %% [markdown]
# Keep the model. Its file holds the recipe, `scale` too, so that `course sample` draws from it as
# you did.

# %%
if budget(full=True, small=False):
    kept = checkpoints.save(place / "mine.safetensors", as_the_librarys(run.model, recipe.network),
                            recipe, (1, LENGTH), steps=run.steps)  # fmt: skip
    print(f"{kept.name}, {kept.stat().st_size / 1e6:.1f} MB: the variable kept says where it lies")

# %% [markdown] tags=["remark"]
# How did your four guesses fare? Write the sentence that you would now put in place of claim 3.

# %% [markdown]
# ## What to remember
#
# - Sound is a row of numbers. The engine does not care; the network needs other convolutions, and
#   has to see far: by a U, by patches, or by dilation.
# - Rate, channels, full scale, length: get them right once, with a filter and without clipping.
# - 20 dB are a factor of ten in amplitude. Peak and loudness are two things.
# - A schedule is made for data of a size and a level. Check both before you take one over.
# - Listen, look, and only then measure; and say how few the clips are that you measured with.
#
# **Where it goes next.** Lesson 12 goes by way of spectrograms: speech, a vocoder that turns them
# into sound, and notes at the pitch that you ask for. Lesson 14 mends sound with a gap in it.
#
# ## References
#
# - van den Oord et al. 2016, [WaveNet](https://arxiv.org/abs/1609.03499): the gate and the dilated
#   stack.
# - Kong, Ping, Huang, Zhao, Catanzaro 2020,
#   [DiffWave](https://arxiv.org/abs/2009.09761): the stack as a denoiser.
# - Chen et al. 2020, [WaveGrad](https://arxiv.org/abs/2009.00713): a U-shaped network for
#   waveforms.
# - Hoogeboom, Heek, Salimans 2023, [Simple diffusion](https://arxiv.org/abs/2301.11093): the moved
#   schedule.
# - Rouard, Hadjeres 2021, [CRASH](https://arxiv.org/abs/2106.07431): drum hits by diffusion.
# - Chen 2023, [On the importance of noise scheduling](https://arxiv.org/abs/2301.10972): scaling
#   the data in place of moving the schedule.
