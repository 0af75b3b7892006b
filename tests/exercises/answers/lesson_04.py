"""Answers of lesson 04: references, named mistakes with what to say about them, alternatives.

A wrong or alternative module is the reference with another ``forward``: the constructors are
given in the lesson.
"""

import math
import re

import torch
import torch.nn.functional as F
from torch import nn

from coursework.exercise import Answers


def crash_says(pattern):
    """A ``detect`` for mistakes that crash in every case, the first with a message like this."""

    def detect(got, expected, cases):
        return all(o.status == "error" for o in got) and bool(re.search(pattern, got[0].message))

    return detect


# --- 04.1 ----------------------------------------------------------------------------------

a_embedding = Answers("04.1")


@a_embedding.reference
def timestep_embedding(t, dim, max_period=10000.0):
    half = dim // 2
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    steps = torch.arange(half, dtype=dtype)
    frequencies = torch.exp(-math.log(max_period) * steps / half)
    angles = t.to(dtype)[:, None] * frequencies
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    return F.pad(embedding, (0, dim % 2))


def _angles(t, half, max_period, below=None, dtype=None):
    dtype = dtype or (torch.float64 if t.dtype == torch.float64 else torch.float32)
    steps = torch.arange(half, dtype=dtype)
    return t.to(dtype)[:, None] * torch.exp(-math.log(max_period) * steps / (below or half))


def _columns(angles, dim):
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))


@a_embedding.misconception(
    "interleaved",
    "Cosines and sines alternate in yours. The order asked for is all cosines, then all sines. "
    "(Both orders are in use; a network trained with one does not understand the other.)",
)
def timestep_embedding(t, dim, max_period=10000.0):
    angles = _angles(t, dim // 2, max_period)
    return F.pad(torch.stack([angles.cos(), angles.sin()], dim=2).flatten(1), (0, dim % 2))


@a_embedding.misconception(
    "sines-first",
    "The two halves have changed places: cosines come first here, sines second.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    angles = _angles(t, dim // 2, max_period)
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, dim % 2))


@a_embedding.misconception(
    "dim-not-halved",
    "You make dim frequencies, and with a cosine and a sine of each twice as many columns as "
    "asked for. How many frequencies give dim columns?",
)
def timestep_embedding(t, dim, max_period=10000.0):
    angles = _angles(t, dim, max_period)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


@a_embedding.misconception(
    "exponent-over-dim",
    "The number of frequencies is right, but the exponent is divided by dim, not by dim // 2: the "
    "frequencies end near 1 / sqrt(max_period), and the slow waves that tell early from late are "
    "missing.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(_angles(t, dim // 2, max_period, below=dim), dim)


@a_embedding.misconception(
    "exponent-2i-over-dim",
    "Even dims are right, odd ones are not: your exponent is 2 i / dim. For an odd dim that is not "
    "i / (dim // 2), which is asked for.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(_angles(t, dim // 2, max_period, below=dim / 2), dim)


@a_embedding.misconception(
    "log10",
    "Your frequencies fall too slowly: e is raised to a logarithm to base 10. exp goes with the "
    "natural logarithm.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(_angles(t, dim // 2, math.exp(math.log10(max_period))), dim)


@a_embedding.misconception(
    "time-scaled",
    "You divide t by 1000 first. It is used as it comes: what scale it has is up to whoever calls.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(_angles(t, dim // 2, max_period) / 1000, dim)


@a_embedding.misconception(
    "time-multiplied",
    "You multiply t by 1000 first. That is for the network to do, whose times lie between 0 and 1; "
    "here t is used as it comes.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(_angles(1000 * t, dim // 2, max_period), dim)


@a_embedding.misconception(
    "last-is-max-period",
    "Your slowest frequency is exactly 1 / max_period: you divide the exponent by one less than "
    "the number of frequencies. (Some libraries do.) Asked for is a division by dim // 2.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    half = dim // 2
    return _columns(_angles(t, half, max_period, below=max(half - 1, 1)), dim)


@a_embedding.misconception(
    "wrong-period",
    "max_period makes no difference in yours: 10000 is written into the formula.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(_angles(t, dim // 2, 10000.0), dim)


@a_embedding.misconception(
    "exponent-sign",
    "Your frequencies grow from 1 up to nearly max_period. They have to fall: the sign of the "
    "exponent.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(_angles(t, dim // 2, 1 / max_period), dim)


@a_embedding.misconception(
    "whole-turns",
    "You multiply the angles by 2 pi, as if the frequencies counted turns. They are in radians "
    "for each unit of t.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(2 * math.pi * _angles(t, dim // 2, max_period), dim)


@a_embedding.misconception(
    "linear-frequencies",
    "Your frequencies fall in equal differences. They have to fall by equal factors, so that there "
    "are as many slow waves as fast ones.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    half = dim // 2
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    frequencies = torch.linspace(1, 1 / max_period, half + 1, dtype=dtype)[:half]
    return _columns(t.to(dtype)[:, None] * frequencies, dim)


@a_embedding.misconception(
    "integer-truncates",
    "The frequencies are brought to the dtype of t. For whole steps that is an integer type: every "
    "frequency below 1 becomes 0, and t leaves hardly a trace. Convert t, not the frequencies.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half) / half).to(t.dtype)
    if t.dtype == torch.float64:
        frequencies = torch.exp(-math.log(max_period) * torch.arange(half).double() / half)
    return _columns(t[:, None] * frequencies, dim)


@a_embedding.misconception(
    "whole-steps-only",
    "You turn t into whole numbers. Continuous times are cut off: 3.2 and 3.9 get the same "
    "embedding.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    return _columns(_angles(t.long(), dim // 2, max_period, dtype=dtype), dim)


@a_embedding.misconception(
    "odd-dim-lacks-a-column",
    "For an odd dim you return dim - 1 columns. Add one of zeros at the end.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    angles = _angles(t, dim // 2, max_period)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


@a_embedding.misconception(
    "odd-dim-crashes",
    "An odd dim ends in an error: the columns for cosines and sines do not have the same number of "
    "places. Make dim // 2 of each, and one column of zeros at the end.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    angles = _angles(t, dim // 2, max_period)
    embedding = torch.empty(len(t), dim, dtype=angles.dtype)
    embedding[:, : dim // 2] = angles.cos()
    embedding[:, dim // 2 :] = angles.sin()
    return embedding


@a_embedding.misconception(
    "zero-column-first",
    "For an odd dim your column of zeros stands at the beginning. It belongs at the end.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    angles = _angles(t, dim // 2, max_period)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (dim % 2, 0))


@a_embedding.misconception(
    "always-float32",
    "The values are right, but float64 times are computed and returned in float32. A network in "
    "float64 needs its embedding in float64.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(_angles(t, dim // 2, max_period, dtype=torch.float32), dim)


def _only_a_little_off_in_float64(got, expected, cases):
    """A ``detect``: all is right but for float64 times, off by what float32 frequencies are."""
    bad = []
    for found, wanted in zip(got, expected):
        if found.status != "ok":
            return False
        a, b = found.value, wanted.value
        if not isinstance(a, torch.Tensor) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        if not (a - b).abs().max() < 1e-3:
            return False
        if b.dtype == torch.float64:
            bad.append(float((a - b).abs().max()) > 1e-8)
    return any(bad)


@a_embedding.misconception(
    "float32-frequencies",
    "For float64 times your result has the right dtype, but the digits of float32: the frequencies "
    "were made in float32, where torch.arange and torch.linspace begin. Give them t's precision.",
    detect=_only_a_little_off_in_float64,
)
def timestep_embedding(t, dim, max_period=10000.0):
    half = dim // 2
    return _columns(t[:, None] * max_period ** (-torch.arange(half) / half), dim)


@a_embedding.misconception(
    "always-float64",
    "Your result is float64 for every t (numpy computes in float64, say). Only float64 times get a "
    "float64 embedding; a float32 network refuses it.",
)
def timestep_embedding(t, dim, max_period=10000.0):
    return _columns(_angles(t, dim // 2, max_period, dtype=torch.float64), dim)


@a_embedding.alternative("powers and an outer product")
def timestep_embedding(t, dim, max_period=10000.0):
    half = dim // 2
    t = t if t.dtype == torch.float64 else t.float()
    frequencies = torch.pow(max_period, -torch.arange(half, dtype=t.dtype) / half)
    angles = torch.outer(t, frequencies)
    parts = [torch.cos(angles), torch.sin(angles)]
    if dim % 2:
        parts.append(torch.zeros(len(t), 1, dtype=t.dtype))
    return torch.cat(parts, dim=-1)


@a_embedding.alternative("filled column by column")
def timestep_embedding(t, dim, max_period=10000.0):
    out = torch.zeros(len(t), dim, dtype=t.dtype if t.dtype == torch.float64 else torch.float32)
    half = dim // 2
    for i in range(half):
        angle = t.double() / max_period ** (i / half)
        out[:, i], out[:, half + i] = angle.cos(), angle.sin()
    return out


# --- 04.2 ----------------------------------------------------------------------------------

a_block = Answers("04.2")


@a_block.reference
class ResBlock(nn.Module):
    def __init__(self, in_channels, out_channels, emb_dim):
        super().__init__()
        self.norm1 = nn.GroupNorm(4, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.emb = nn.Linear(emb_dim, out_channels)
        self.norm2 = nn.GroupNorm(4, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.emb(F.silu(emb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h


@a_block.misconception(
    "no-residual",
    "The shortcut is missing: you return what the second convolution gives, without x beside it. "
    "A block would then have to learn to pass on what it could just leave alone.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "shortcut-not-fitted",
    "You add x itself, and that works only where the number of channels stays. self.skip makes x "
    "fit where it changes.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return x + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "shortcut-from-the-norm",
    "Your shortcut starts behind the first normalisation. It has to carry x as it came in, or the "
    "block can no longer leave x unchanged.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        x = self.norm1(x)
        h = self.conv1(F.silu(x)) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "shortcut-from-the-middle",
    "You add what the first half made, not x. The shortcut leads around the whole block.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return h + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "emb-not-added",
    "The embedding leaves no trace in the output: the block does the same at every noise level.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "emb-broadcast",
    "The embedding (B, channels) is added as it is. torch lines shapes up from the last axis, so "
    "that it meets height and width, or crashes. It needs two axes of length 1 behind it.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "emb-without-silu",
    "The embedding goes into self.emb as it is. Asked for is a SiLU before it, as before every "
    "other layer of the block.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(emb)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "silu-after-emb",
    "Your SiLU stands behind self.emb. It belongs before: F.silu goes to the embedding, and its "
    "projection is added as it is.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + F.silu(self.emb(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "emb-after-the-second-norm",
    "You add the embedding behind the second normalisation. It goes in before it, right after the "
    "first convolution.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        h = h + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(h))


@a_block.misconception(
    "emb-at-the-end",
    "You add the embedding to the output. There nothing of this block follows that could use it: "
    "it goes in between the two convolutions.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return self.skip(x) + h + self.emb(F.silu(emb))[:, :, None, None]


@a_block.misconception(
    "emb-multiplies",
    "You multiply by the embedding. Some networks scale as well, but here it is added.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) * self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "norm-after-conv",
    "You normalise after each convolution. Here the order is normalisation, SiLU, convolution. (If "
    "channels change, norm1 does not even fit behind conv1.)",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = F.silu(self.norm1(self.conv1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + F.silu(self.norm2(self.conv2(h)))


@a_block.misconception(
    "silu-before-norm",
    "SiLU and normalisation have changed places: normalise first, then apply SiLU, so that it sees "
    "numbers around zero.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(self.norm1(F.silu(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(self.norm2(F.silu(h)))


@a_block.misconception(
    "no-silu",
    "Between normalisation and convolution nothing bends: the SiLU is missing there. Layers "
    "without one between them could be merged into one.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(self.norm1(x)) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(self.norm2(h))


@a_block.misconception(
    "first-silu-left-out",
    "conv1 gets what norm1 gives as it is. A SiLU stands between the two, as it does before conv2.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(self.norm1(x)) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "second-silu-left-out",
    "conv2 gets what norm2 gives as it is. A SiLU stands between the two, as it does before conv1.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(self.norm2(h))


@a_block.misconception(
    "shortcut-from-the-silu",
    "Your shortcut starts behind the first normalisation and its SiLU. It has to carry x as it "
    "came in, or the block can no longer leave x unchanged.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        x = F.silu(self.norm1(x))
        h = self.conv1(x) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "relu",
    "You use ReLU where SiLU is asked for. It is as good a choice, but another function.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.relu(self.norm1(x))) + self.emb(F.relu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.relu(self.norm2(h)))


@a_block.misconception(
    "second-norm-left-out",
    "The second convolution gets what has not been normalised: norm2 is never used.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(h))


@a_block.misconception(
    "first-norm-twice",
    "Both convolutions get what norm1 has normalised. Each normalisation has learned numbers of "
    "its own, and norm1 fits only the channels that come in: the second place is norm2's.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm1(h)))


@a_block.misconception(
    "silu-at-the-end",
    "A SiLU acts on the sum at the end. Then nothing can pass through the block unchanged, and "
    "what is far below zero is lost.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return F.silu(self.skip(x) + self.conv2(F.silu(self.norm2(h))))


@a_block.misconception(
    "divided-by-root-two",
    "You divide the sum by the root of 2, to keep its variance. Some networks do; here the sum is "
    "returned as it is.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return (self.skip(x) + self.conv2(F.silu(self.norm2(h)))) / math.sqrt(2)


@a_block.misconception(
    "emb-changed-in-place",
    "Your SiLU changes emb in place (inplace=True, or silu_). The same emb goes to every block of "
    "the network: each would get it changed once more.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.emb(F.silu(emb, inplace=True))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


@a_block.misconception(
    "x-changed-in-place",
    "You add to x in place (+=). What called the block may still need x: the U-Net keeps such "
    "tensors for its skips.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        out = self.skip(x)
        out += self.conv2(F.silu(self.norm2(h)))
        return out


@a_block.misconception(
    "shortcut-detached",
    "The values are right, but no gradient flows through the shortcut: it is cut off from the "
    "graph (detach, .data or no_grad). It is the way by which gradients reach early blocks.",
)
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x.detach()) + self.conv2(F.silu(self.norm2(h)))


@a_block.alternative("reshaped from the number of axes, and addcmul for the end")
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.norm1(x)
        h = self.conv1(h * torch.sigmoid(h))
        shift = self.emb(emb * emb.sigmoid())
        h = h + shift.reshape(*shift.shape, *[1] * (x.ndim - 2))
        return torch.add(self.conv2(nn.SiLU()(self.norm2(h))), self.skip(x))


@a_block.alternative("in place on tensors of its own")
class ResBlock(ResBlock):
    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        h += self.emb(F.silu(emb)).unsqueeze(-1).unsqueeze(-1).expand_as(h)
        h = self.conv2(F.silu(self.norm2(h), inplace=True))
        h += self.skip(x)
        return h


# --- 04.3 ----------------------------------------------------------------------------------

a_attention = Answers("04.3")


@a_attention.reference
class SelfAttention2d(nn.Module):
    def __init__(self, channels, heads=4):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.mT.unbind(dim=1)
        scores = q @ k.mT / math.sqrt(c // self.heads)
        h = scores.softmax(dim=-1) @ v
        return x + self.proj(h.mT.reshape(x.shape))


def _qkv(self, x):
    """Each (B, heads, places, C / heads)."""
    b, c = x.shape[:2]
    qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, -1)
    return qkv.transpose(-1, -2).unbind(dim=1)


def _back(self, x, h):
    return x + self.proj(h.transpose(-1, -2).reshape(x.shape))


@a_attention.misconception(
    "no-scale",
    "The scores are not divided by the root of the channels of a head. The more channels, the "
    "larger they get, and the softmax soon knows only 0 and 1.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        return _back(self, x, (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v)


@a_attention.misconception(
    "scale-of-all-channels",
    "You divide by the root of all channels. A score sums over the channels of one head only.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        scores = q @ k.transpose(-1, -2) / math.sqrt(x.shape[1])
        return _back(self, x, scores.softmax(dim=-1) @ v)


@a_attention.misconception(
    "scale-without-root",
    "You divide by the number of channels of a head. Its root is what keeps the variance of the "
    "scores at 1.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        return _back(self, x, (q @ k.transpose(-1, -2) / q.shape[-1]).softmax(dim=-1) @ v)


@a_attention.misconception(
    "scale-of-places",
    "You divide by the root of the number of places. A score is a sum over the channels of a head, "
    "and it is their number that counts.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-2])
        return _back(self, x, scores.softmax(dim=-1) @ v)


@a_attention.misconception(
    "scale-of-heads",
    "You divide by the root of the number of heads. A score is a sum over the channels of a head, "
    "and it is their number that counts.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.heads)
        return _back(self, x, scores.softmax(dim=-1) @ v)


@a_attention.misconception(
    "scale-multiplied",
    "You multiply by the root where a division belongs: the scores grow in place of shrinking.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        scores = q @ k.transpose(-1, -2) * math.sqrt(q.shape[-1])
        return _back(self, x, scores.softmax(dim=-1) @ v)


@a_attention.misconception(
    "scale-after-softmax",
    "You divide by the root after the softmax: the weights of a query then add up to less than 1. "
    "It is the scores that are divided, before the softmax.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        weights = (q @ k.transpose(-1, -2)).softmax(dim=-1) / math.sqrt(q.shape[-1])
        return _back(self, x, weights @ v)


@a_attention.misconception(
    "softmax-over-queries",
    "Your softmax runs over the queries: each key shares itself out among those who ask. It is "
    "each query whose weights, over the keys, add up to 1.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        return _back(self, x, scores.softmax(dim=-2) @ v)


@a_attention.misconception(
    "softmax-over-heads",
    "Your softmax runs over the heads (axis 1). Each head attends on its own; the weights of one "
    "query add up to 1 over the keys.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        return _back(self, x, scores.softmax(dim=1) @ v)


@a_attention.misconception(
    "no-softmax",
    "The scores go to the values without a softmax: the weights are neither positive nor do they "
    "add up to 1.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        return _back(self, x, q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) @ v)


@a_attention.misconception(
    "exp-overflows",
    "Large scores give NaN: exp of a large number is infinite. torch's softmax takes the largest "
    "score away first, which changes nothing but that.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        weights = torch.exp(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]))
        return _back(self, x, weights / weights.sum(dim=-1, keepdim=True) @ v)


@a_attention.misconception(
    "weights-transposed",
    "The weights are right, but transposed before they meet the values: place j then says to i "
    "what i wanted to know of j. Row i of the weights belongs to the query of place i.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        return _back(self, x, weights.transpose(-1, -2) @ v)


@a_attention.misconception(
    "mean-of-keys",
    "The weighted mean is taken of the keys. Keys serve to be found; what a place has to say is "
    "its value.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, _ = _qkv(self, x)
        return _back(self, x, (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ k)


@a_attention.misconception(
    "no-residual",
    "The shortcut is missing: x has to be added to what attention brings.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return self.proj(h.transpose(-1, -2).reshape(x.shape))


@a_attention.misconception(
    "shortcut-from-the-norm",
    "Your shortcut carries the normalised x. Add x as it came in.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return _back(self, self.norm(x), h)


@a_attention.misconception(
    "no-norm",
    "x goes into self.qkv without normalisation: self.norm is never used.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c = x.shape[:2]
        qkv = self.qkv(x).reshape(b, 3, self.heads, c // self.heads, -1)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        return _back(self, x, scores.softmax(dim=-1) @ v)


@a_attention.misconception(
    "no-projection",
    "What attention brings is added without self.proj. The projection mixes what the heads found.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return x + h.transpose(-1, -2).reshape(x.shape)


@a_attention.misconception(
    "one-head",
    "You attend with all channels in one head: self.heads makes no difference. Split the channels "
    "among the heads, so that one place can look at several others for several reasons.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c = x.shape[:2]
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, c, -1).transpose(-1, -2).unbind(dim=1)
        return _back(self, x, (q @ k.transpose(-1, -2) / math.sqrt(c)).softmax(dim=-1) @ v)


@a_attention.misconception(
    "heads-mixed",
    "The channels of the heads are mixed up: you split them as (C / heads, heads). A head has "
    "channels that lie side by side: (heads, C / heads).",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c = x.shape[:2]
        qkv = self.qkv(self.norm(x)).reshape(b, 3, c // self.heads, self.heads, -1)
        q, k, v = qkv.permute(1, 0, 3, 4, 2)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return x + self.proj(h.permute(0, 3, 1, 2).reshape(x.shape))


@a_attention.misconception(
    "keys-and-values-exchanged",
    "The second third of the channels are the keys and the last third are the values. Yours are "
    "the other way round.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c = x.shape[:2]
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, -1)
        q, v, k = qkv.transpose(-1, -2).unbind(dim=1)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return _back(self, x, h)


@a_attention.misconception(
    "heads-mixed-on-the-way-in",
    "You split the channels as (C / heads, heads) on the way in, and put them side by side head by "
    "head on the way back. A head has channels that lie side by side in both: (heads, C / heads).",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c = x.shape[:2]
        qkv = self.qkv(self.norm(x)).reshape(b, 3, c // self.heads, self.heads, -1)
        q, k, v = qkv.permute(1, 0, 3, 4, 2)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return _back(self, x, h)


@a_attention.misconception(
    "thirds-inside-heads",
    "You split the channels of self.qkv as (heads, 3, C / heads). The order given is (3, heads, "
    "C / heads): first all queries, then all keys, then all values.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c = x.shape[:2]
        qkv = self.qkv(self.norm(x)).reshape(b, self.heads, 3, c // self.heads, -1)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=2)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return _back(self, x, h)


@a_attention.misconception(
    "reshape-without-transpose",
    "You reshape straight to (B, heads, places, C / heads). A reshape only renames places in "
    "memory: with the axes in the wrong order it mixes places with channels. Reshape to "
    "(B, heads, C / heads, places) first, then transpose.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, height * width, c // self.heads)
        q, k, v = qkv.unbind(dim=1)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return x + self.proj(h.reshape(x.shape))


@a_attention.misconception(
    "no-transpose-on-the-way-back",
    "On the way back you reshape (B, heads, places, C / heads) straight to x.shape. That mixes "
    "places with channels: transpose the last two axes first.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return x + self.proj(h.reshape(x.shape))


@a_attention.misconception(
    "places-first-on-the-way-back",
    "You go from (B, places, C) straight to x.shape. Channels come before places there, and a "
    "reshape does not move anything: transpose to (B, C, places) first.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return x + self.proj(h.transpose(1, 2).reshape(x.shape))


@a_attention.misconception(
    "over-channels",
    "Your scores compare channels with channels, (C / heads, C / heads). Attention compares "
    "places: the scores are (places, places), summed over the channels of the head.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c = x.shape[:2]
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, -1)
        q, k, v = qkv.unbind(dim=1)
        h = (q @ k.transpose(-1, -2) / math.sqrt(c // self.heads)).softmax(dim=-1) @ v
        return x + self.proj(h.reshape(x.shape))


@a_attention.misconception(
    "keys-ask",
    "Keys and queries have changed roles: your rows belong to the keys. The first third of the "
    "channels asks, the second is asked.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = _qkv(self, x)
        return _back(self, x, (k @ q.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ v)


@a_attention.misconception(
    "rows-only",
    "Each place looks along its own row of the image only. All places of the image, height times "
    "width, have to meet.",
)
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, height, width)
        q, k, v = qkv.permute(1, 0, 2, 4, 5, 3)
        h = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return x + self.proj(h.permute(0, 1, 4, 2, 3).reshape(x.shape))


@a_attention.alternative("torch's own attention")
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        q, k, v = (
            part.unflatten(1, (self.heads, -1)).flatten(3).mT
            for part in self.qkv(self.norm(x)).chunk(3, dim=1)
        )
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(h.mT.flatten(1, 2).unflatten(2, x.shape[2:]))


@a_attention.alternative("einsum over named axes")
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c, height, width = x.shape
        d = c // self.heads
        q, k, v = self.qkv(self.norm(x)).view(b, 3, self.heads, d, -1).permute(1, 0, 2, 3, 4)
        weights = torch.einsum("bhdq,bhdk->bhqk", q, k).div(d**0.5).softmax(-1)
        h = torch.einsum("bhqk,bhdk->bhdq", weights, v)
        return self.proj(h.reshape(b, c, height, width)) + x


@a_attention.alternative("a loop over heads")
class SelfAttention2d(SelfAttention2d):
    def forward(self, x):
        b, c, height, width = x.shape
        d, found = c // self.heads, []
        q, k, v = self.qkv(self.norm(x)).flatten(2).split(c, dim=1)
        for i in range(self.heads):
            part = slice(i * d, (i + 1) * d)
            scores = torch.bmm(k[:, part].transpose(1, 2), q[:, part]) * d**-0.5
            found.append(torch.bmm(v[:, part], scores.softmax(dim=1)))
        return x + self.proj(torch.cat(found, dim=1).view(b, c, height, width))


# --- 04.4 ----------------------------------------------------------------------------------

a_resampling = Answers("04.4")


@a_resampling.reference
class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (1, 1, 1, 1)))


@a_resampling.reference
class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, size):
        return self.conv(F.interpolate(x, size=size))


@a_resampling.misconception(
    "down-no-padding",
    "Without zeros around it the convolution stops short of the border: five places become two, "
    "and the way up cannot know what was lost. Half, rounded up, is asked for.",
)
class Downsample(Downsample):
    def forward(self, x):
        return self.conv(x)


@a_resampling.misconception(
    "down-pads-one-side",
    "You pad on the right and at the bottom only. Even sizes come out right, but everything moves "
    "by half a place, and odd sizes are rounded down.",
)
class Downsample(Downsample):
    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


@a_resampling.misconception(
    "down-crops",
    "Odd sizes are rounded down: you cut off their last row and column, or pad on the left and at "
    "the top only. No kernel has its centre there, and what they held is half lost.",
)
class Downsample(Downsample):
    def forward(self, x):
        x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
        return self.conv(F.pad(x, (1, 1, 1, 1)))


@a_resampling.misconception(
    "down-repeats-the-border",
    "You continue the border's values outwards. A ring of zeros is asked for, as padding=1 of a "
    "convolution means it.",
)
class Downsample(Downsample):
    def forward(self, x):
        return self.conv(F.pad(x, (1, 1, 1, 1), mode="replicate"))


@a_resampling.misconception(
    "down-reflects-the-border",
    "You reflect the image at its border. A ring of zeros is asked for, as padding=1 of a "
    "convolution means it.",
)
class Downsample(Downsample):
    def forward(self, x):
        return self.conv(F.pad(x, (1, 1, 1, 1), mode="reflect"))


@a_resampling.misconception(
    "up-crops",
    "You convolve at twice the size and cut the result. At the cut edge the convolution has then "
    "seen a row that does not exist. Bring x to the right size first.",
)
class Upsample(Upsample):
    def forward(self, x, size):
        return self.conv(F.interpolate(x, scale_factor=2))[..., : size[0], : size[1]]


@a_resampling.misconception(
    "up-always-doubles",
    "You double every size, whatever size says. From 4 places the way may lead back to 7.",
)
class Upsample(Upsample):
    def forward(self, x, size):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


@a_resampling.misconception(
    "up-bilinear",
    "You interpolate linearly between places. Asked for is the nearest place: each value is "
    "repeated. (The convolution can smooth by itself, if that is of use.)",
)
class Upsample(Upsample):
    def forward(self, x, size):
        return self.conv(F.interpolate(x, size=tuple(size), mode="bilinear"))


@a_resampling.misconception(
    "up-bilinear-corners",
    "You interpolate linearly, with the corners aligned. Asked for is the nearest place: each "
    "value is repeated.",
)
class Upsample(Upsample):
    def forward(self, x, size):
        size = tuple(size)
        return self.conv(F.interpolate(x, size=size, mode="bilinear", align_corners=True))


@a_resampling.misconception(
    "up-nearest-exact",
    "Your way to the nearest place (nearest-exact) goes by the centres of places. For odd sizes "
    "that is another one: place i of the output has to show place i // 2 of x.",
)
class Upsample(Upsample):
    def forward(self, x, size):
        return self.conv(F.interpolate(x, size=tuple(size), mode="nearest-exact"))


@a_resampling.misconception(
    "up-conv-first",
    "You convolve before you enlarge: the output is made of blocks of equal values. The "
    "convolution has to come after, to smooth them.",
)
class Upsample(Upsample):
    def forward(self, x, size):
        return F.interpolate(self.conv(x), size=tuple(size), mode="nearest")


@a_resampling.misconception(
    "up-no-conv",
    "You only repeat values: self.conv is never used.",
)
class Upsample(Upsample):
    def forward(self, x, size):
        return F.interpolate(x, size=tuple(size), mode="nearest")


@a_resampling.misconception(
    "up-height-and-width-swapped",
    "Height and width have changed places: size is (height, width), in the order of the axes.",
)
class Upsample(Upsample):
    def forward(self, x, size):
        return self.conv(F.interpolate(x, size=(size[1], size[0]), mode="nearest"))


@a_resampling.misconception(
    "up-zeros-between",
    "You put zeros between the values and convolve: that is a transposed convolution. Its kernel "
    "overlaps itself unevenly, and a checkerboard comes of it, which this lesson measures. Repeat "
    "the values.",
)
class Upsample(Upsample):
    def forward(self, x, size):
        spread = x.new_zeros(*x.shape[:2], *size)
        spread[..., ::2, ::2] = x
        return self.conv(spread)


@a_resampling.misconception(
    "up-transposed",
    "You use the kernel in a transposed convolution. It overlaps itself unevenly, and a "
    "checkerboard comes of it, which this lesson measures. Repeat the values, then convolve.",
)
class Upsample(Upsample):
    def forward(self, x, size):
        extra = [n - (2 * m - 1) for n, m in zip(size, x.shape[2:])]
        return F.conv_transpose2d(
            x, self.conv.weight, self.conv.bias, stride=2, padding=1, output_padding=extra
        )


@a_resampling.alternative("padding inside the convolution, and rows and columns by number")
class Downsample(Downsample):
    def forward(self, x):
        return F.conv2d(x, self.conv.weight, self.conv.bias, stride=2, padding=1)


def _by_number():
    class Upsample(a_resampling.reference_defines["Upsample"]):
        def forward(self, x, size):
            rows, columns = torch.arange(size[0]) // 2, torch.arange(size[1]) // 2
            return self.conv(x[:, :, rows][..., columns])

    return Upsample


a_resampling.alternatives["padding inside the convolution, and rows and columns by number"][
    "Upsample"
] = _by_number()


@a_resampling.alternative("every second place of a full convolution")
class Downsample(Downsample):
    def forward(self, x):
        return F.conv2d(nn.ZeroPad2d(1)(x), self.conv.weight, self.conv.bias)[..., ::2, ::2]


@a_resampling.alternative("repeats and cuts before the convolution")
class Upsample(Upsample):
    def forward(self, x, size):
        x = x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
        return self.conv(x[:, :, : size[0], : size[1]])


# --- 04.5 ----------------------------------------------------------------------------------

a_unet = Answers("04.5")


@a_unet.reference
class UNet(nn.Module):
    def __init__(self, in_channels=1, channels=(16, 32, 32), classes=0, heads=4):
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

    def forward(self, x, t, cond=None):
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


class _Steps(UNet):
    """The reference taken apart, so that each wrong network changes one step only."""

    def embed(self, t, cond):
        emb = self.time_mlp(timestep_embedding(1000 * t, self.time_dim))
        return emb if cond is None else emb + self.labels(cond)

    def way_down(self, h, emb):
        """(h, skips): a list of two for each level."""
        skips = []
        for level, blocks in enumerate(self.down):
            if level:
                h = self.downsample[level - 1](h)
            skips.append([])
            for block in blocks:
                h = block(h, emb)
                skips[-1].append(h)
        return h, skips

    def middle(self, h, emb):
        first, attention, second = self.mid
        return second(attention(first(h, emb)), emb)

    def join(self, h, skip):
        return torch.cat([h, skip], dim=1)

    def order(self, skips):
        """The skips in the order in which the way up takes them."""
        return [skip for pair in reversed(skips) for skip in reversed(pair)]

    def enlarge(self, up, h, skip):
        return up(h, skip.shape[2:])

    def way_up(self, h, skips, emb):
        skips = iter(self.order(skips))
        for level, blocks in enumerate(self.up):
            for i, block in enumerate(blocks):
                skip = next(skips)
                if level and not i:
                    h = self.enlarge(self.upsample[level - 1], h, skip)
                h = block(self.join(h, skip), emb)
        return h

    def finish(self, x, h):
        return self.conv_out(F.silu(self.norm_out(h)))

    def forward(self, x, t, cond=None):
        emb = self.embed(t, cond)
        h, skips = self.way_down(self.conv_in(x), emb)
        return self.finish(x, self.way_up(self.middle(h, emb), skips, emb))


@a_unet.misconception(
    "skips-from-the-front",
    "The way up takes the skips in the order in which they were made, the finest first. It starts "
    "at the coarsest level: the last one made is the first one needed.",
    detect=crash_says(r"Sizes of tensors must match.*Expected size 7 but got size 28"),
)
class UNet(_Steps):
    def order(self, skips):
        return [skip for pair in skips for skip in pair]


@a_unet.misconception(
    "skips-swapped-within-a-level",
    "The levels are right, but within a level the two skips have changed places: the first block "
    "of the way up takes what the second block of the way down gave.",
)
class UNet(_Steps):
    def order(self, skips):
        return [skip for pair in reversed(skips) for skip in pair]


@a_unet.misconception(
    "last-block-only",
    "Both blocks of a level on the way up get the same skip, that of the last block on the way "
    "down. Every block of the way down gives a skip of its own.",
)
class UNet(_Steps):
    def order(self, skips):
        return [skip for _, last in reversed(skips) for skip in (last, last)]


@a_unet.misconception(
    "first-block-only",
    "Both blocks of a level on the way up get the same skip, that of the first block on the way "
    "down. Every block of the way down gives a skip of its own.",
)
class UNet(_Steps):
    def order(self, skips):
        return [skip for first, _ in reversed(skips) for skip in (first, first)]


@a_unet.misconception(
    "one-skip-a-level",
    "You keep one skip for each level, but take two: the second block of the way up gets one of "
    "another level, whose size does not fit. Every block of the way down gives one.",
    detect=crash_says(r"Sizes of tensors must match.*Expected size 7 but got size 14"),
)
class UNet(_Steps):
    def order(self, skips):
        return [last for _, last in reversed(skips)]


@a_unet.misconception(
    "one-skip-lost",
    "One skip never arrives: the second block of each level gets h twice, in place of h and a "
    "skip.",
)
class UNet(_Steps):
    def way_up(self, h, skips, emb):
        for level, (blocks, pair) in enumerate(zip(self.up, reversed(skips))):
            if level:
                h = self.enlarge(self.upsample[level - 1], h, pair[1])
            h = blocks[0](torch.cat([h, pair[1]], dim=1), emb)
            h = blocks[1](torch.cat([h, h], dim=1), emb)
        return h


@a_unet.misconception(
    "skips-after-downsampling",
    "The skips of your finer levels are what came out of downsampling: one level too coarse. A "
    "skip is what a block gives, before the size is halved.",
)
class UNet(_Steps):
    def way_down(self, h, emb):
        skips = []
        for level, blocks in enumerate(self.down):
            for block in blocks:
                h = block(h, emb)
            if level < len(self.downsample):
                h = self.downsample[level](h)
            skips.append([h, h])
        return h, skips


@a_unet.misconception(
    "skips-before-the-blocks",
    "You keep what goes into each block of the way down. A skip is what the block gives: "
    "the way up expects its number of channels.",
    detect=lambda got, expected, cases: _norm_complains(got, cases, "other"),
)
class UNet(_Steps):
    def way_down(self, h, emb):
        skips = []
        for level, blocks in enumerate(self.down):
            if level:
                h = self.downsample[level - 1](h)
            skips.append([])
            for block in blocks:
                skips[-1].append(h)
                h = block(h, emb)
        return h, skips


@a_unet.misconception(
    "batch-axis",
    "The skips are joined along the batch (axis 0): twice as many images in place of twice as many "
    "channels. Channels are axis 1.",
    detect=lambda got, expected, cases: _norm_complains(got, cases, "twice the batch"),
)
class UNet(_Steps):
    def join(self, h, skip):
        return torch.cat([h, skip], dim=0)


@a_unet.misconception(
    "skips-added",
    "You add the skips. The blocks of the way up expect them beside h, as further channels.",
    detect=lambda got, expected, cases: _norm_complains(got, cases, "half the channels"),
)
class UNet(_Steps):
    def join(self, h, skip):
        return h + skip


def _norm_complains(got, cases, of):
    """Whether every case ends with a norm that complains ``of`` this about its input."""
    pattern = r"got weight of shape \[(\d+)\] and input of shape \[(\d+), (\d+)"
    for outcome, case in zip(got, cases):
        found = re.search(pattern, outcome.message)
        if not found:
            return False
        wanted, batch, channels = map(int, found.groups())
        times, half = batch / len(case.args[1]), 2 * channels == wanted
        if of != ("twice the batch" if times == 2 else "half the channels" if half else "other"):
            return False
    return True


@a_unet.misconception(
    "skip-first",
    "The two halves have changed places: h comes first, then the skip.",
)
class UNet(_Steps):
    def join(self, h, skip):
        return torch.cat([skip, h], dim=1)


@a_unet.misconception(
    "time-ignored",
    "t leaves no trace in the output: the network cannot know how much noise there is.",
)
class UNet(_Steps):
    def embed(self, t, cond):
        return super().embed(torch.zeros_like(t), cond)


@a_unet.misconception(
    "one-time-for-all",
    "All images of the batch get the time of the first. Each has its own.",
)
class UNet(_Steps):
    def embed(self, t, cond):
        return super().embed(t[:1], cond)


@a_unet.misconception(
    "time-not-scaled",
    "You embed t as it is, between 0 and 1. The waves of the embedding were made for numbers up to "
    "1000: with t below 1 even the fastest turns by less than a sixth.",
)
class UNet(_Steps):
    def embed(self, t, cond):
        emb = self.time_mlp(timestep_embedding(t, self.time_dim))
        return emb if cond is None else emb + self.labels(cond)


@a_unet.misconception(
    "whole-steps",
    "You round the scaled time to whole steps. The network takes any t between 0 and 1; rounding "
    "also cuts the gradient.",
)
class UNet(_Steps):
    def embed(self, t, cond):
        emb = timestep_embedding((1000 * t).long(), self.time_dim).to(t.dtype)
        emb = self.time_mlp(emb)
        return emb if cond is None else emb + self.labels(cond)


@a_unet.misconception(
    "time-mlp-left-out",
    "The waves go to the blocks without self.time_mlp: they have another number of columns than "
    "the blocks expect.",
    detect=crash_says(r"shapes cannot be multiplied \(\d+x8 and 32x"),
)
class UNet(_Steps):
    def embed(self, t, cond):
        emb = timestep_embedding(1000 * t, self.time_dim)
        return emb if cond is None else emb + self.labels(cond)


@a_unet.misconception(
    "waves-too-many",
    "Your embedding has as many columns as time_mlp gives, not as many as it takes. That is "
    "self.time_dim.",
    detect=crash_says(r"shapes cannot be multiplied \(\d+x32 and 8x"),
)
class UNet(_Steps):
    def embed(self, t, cond):
        emb = self.time_mlp(timestep_embedding(1000 * t, 4 * self.time_dim))
        return emb if cond is None else emb + self.labels(cond)


@a_unet.misconception(
    "silu-behind-time-mlp",
    "You put a SiLU behind self.time_mlp. Each block has one for the embedding already, and two "
    "in a row are not one.",
)
class UNet(_Steps):
    def embed(self, t, cond):
        emb = F.silu(self.time_mlp(timestep_embedding(1000 * t, self.time_dim)))
        return emb if cond is None else emb + self.labels(cond)


@a_unet.misconception(
    "labels-ignored",
    "The labels leave no trace in the output.",
)
class UNet(_Steps):
    def embed(self, t, cond):
        return super().embed(t, None)


@a_unet.misconception(
    "labels-replace-time",
    "With labels, the time is lost: their embedding takes the place of the time's, where it has to "
    "be added.",
)
class UNet(_Steps):
    def embed(self, t, cond):
        return super().embed(t, None) if cond is None else self.labels(cond)


@a_unet.misconception(
    "labels-always",
    "Without labels your network crashes. cond may be None, even where the network knows classes.",
)
class UNet(_Steps):
    def embed(self, t, cond):
        emb = super().embed(t, None)
        return emb + self.labels(cond) if hasattr(self, "labels") else emb


@a_unet.misconception(
    "middle-left-out",
    "The three parts in the middle are never used: the way up starts right where the way down "
    "ends.",
)
class UNet(_Steps):
    def middle(self, h, emb):
        return h


@a_unet.misconception(
    "attention-left-out",
    "The attention in the middle is never used. It is the only part in which any place can look at "
    "any other.",
)
class UNet(_Steps):
    def middle(self, h, emb):
        return self.mid[2](self.mid[0](h, emb), emb)


@a_unet.misconception(
    "no-norm-at-the-end",
    "The last convolution gets h as it is. A normalisation and a SiLU come before it.",
)
class UNet(_Steps):
    def finish(self, x, h):
        return self.conv_out(h)


@a_unet.misconception(
    "no-silu-at-the-end",
    "Between the last normalisation and the last convolution the SiLU is missing.",
)
class UNet(_Steps):
    def finish(self, x, h):
        return self.conv_out(self.norm_out(h))


@a_unet.misconception(
    "adds-the-input",
    "You add x to the output. What is predicted, noise or v, is no correction to x: the network "
    "returns it as it is.",
)
class UNet(_Steps):
    def finish(self, x, h):
        return x + super().finish(x, h)


@a_unet.misconception(
    "always-doubles",
    "You enlarge to twice the size. 7 places come from 4, and twice 4 is 8: take the size from the "
    "skip that comes next.",
)
class UNet(_Steps):
    def enlarge(self, up, h, skip):
        return up(h, (2 * h.shape[2], 2 * h.shape[3]))


@a_unet.misconception(
    "crops",
    "You enlarge to twice the size and cut off what is too much. The border then comes from places "
    "that do not exist: give Upsample the size of the skip.",
)
class UNet(_Steps):
    def enlarge(self, up, h, skip):
        h = up(h, (2 * h.shape[2], 2 * h.shape[3]))
        return h[:, :, : skip.shape[2], : skip.shape[3]]


@a_unet.alternative("one list of skips, with names")
class UNet(UNet):
    def forward(self, x, t, cond=None):
        embedding = self.time_mlp(timestep_embedding(t * 1000.0, self.time_dim))
        if cond is not None:
            embedding = embedding + self.labels(cond)
        skips = []
        x = self.conv_in(x)
        for i in range(len(self.down)):
            for block in self.down[i]:
                x = block(x, embedding)
                skips += [x]
            if i + 1 < len(self.down):
                x = self.downsample[i](x)
        x = self.mid[0](x, embedding)
        x = self.mid[1](x)
        x = self.mid[2](x, embedding)
        for i in range(len(self.up)):
            for block in self.up[i]:
                skip = skips.pop(-1)
                x = block(torch.hstack((x, skip)), embedding)
            if i + 1 < len(self.up):
                x = self.upsample[i](x, tuple(skips[-1].shape[-2:]))
        return self.conv_out(nn.functional.silu(self.norm_out(x)))


@a_unet.alternative("recursion into the coarser levels")
class UNet(UNet):
    def forward(self, x, t, cond=None):
        emb = self.time_mlp(timestep_embedding(t * 1000, self.time_dim))
        if cond is not None:
            emb = emb + F.embedding(cond, self.labels.weight)
        deepest = len(self.down) - 1

        def level(i, h):
            a = self.down[i][0](h, emb)
            b = self.down[i][1](a, emb)
            if i == deepest:
                h = self.mid[2](self.mid[1](self.mid[0](b, emb)), emb)
            else:
                h = level(i + 1, self.downsample[i](b))
                h = self.upsample[deepest - i - 1](h, b.shape[2:])
            first, second = self.up[deepest - i]
            return second(torch.cat((first(torch.cat((h, b), 1), emb), a), 1), emb)

        return self.conv_out(F.silu(self.norm_out(level(0, self.conv_in(x)))))


# --- 04.6 ----------------------------------------------------------------------------------

a_zero = Answers("04.6")


@a_zero.reference
def zero_init_(module):
    for parameter in module.parameters(recurse=False):
        nn.init.zeros_(parameter)
    return module


@a_zero.misconception(
    "zeroes-all",
    "You zero the parts inside the module too. If every layer of a branch is zero, no gradient "
    "gets through it, and it stays silent for ever: only the module's own parameters are to be "
    "zero.",
)
def zero_init_(module):
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


@a_zero.misconception(
    "bias-only",
    "Only the bias is zero now. With random weights the output still is not.",
)
def zero_init_(module):
    for name, parameter in module.named_parameters(recurse=False):
        if name in ("bias", "shift"):
            nn.init.zeros_(parameter)
    return module


@a_zero.misconception(
    "weight-only",
    "Only the weight is zero now. The output is the bias, the same everywhere, but not zero.",
)
def zero_init_(module):
    for name, parameter in module.named_parameters(recurse=False):
        if name in ("weight", "scale"):
            nn.init.zeros_(parameter)
    return module


@a_zero.misconception(
    "weight-and-bias-by-name",
    "You zero .weight and .bias by name. A module may lack one of them, and may have parameters "
    "with other names: go through its parameters.",
)
def zero_init_(module):
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    return module


@a_zero.misconception(
    "nearly-zero",
    "Your parameters are very small, but not zero. At exactly zero the branch adds nothing at all.",
)
def zero_init_(module):
    for parameter in module.parameters(recurse=False):
        nn.init.constant_(parameter, 1e-5)
    return module


@a_zero.misconception(
    "parameters-untouched",
    "The parameters are what they were. Perhaps you gave a name another tensor (p = ...), which "
    "leaves the parameter alone, or set gradients to zero. Fill the parameters themselves.",
)
def zero_init_(module):
    module.zero_grad()
    return module


@a_zero.misconception(
    "replaces-parameters",
    "You put new parameters in place of the old ones. An optimizer that was made before still "
    "holds the old ones and would train those. Fill them in place.",
)
def zero_init_(module):
    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(torch.zeros_like(parameter)))
    return module


@a_zero.misconception(
    "freezes",
    "The parameters no longer ask for a gradient: the branch starts silent and stays so. Only "
    "their values are to change.",
)
def zero_init_(module):
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(False)
        parameter.zero_()
    return module


@a_zero.misconception(
    "in-place-with-gradient",
    "torch refuses to change a parameter in place while it records gradients. nn.init does it "
    "without recording, as torch.no_grad does.",
)
def zero_init_(module):
    for parameter in module.parameters(recurse=False):
        parameter.zero_()
    return module


@a_zero.misconception(
    "returns-nothing",
    "The parameters are zero, but the module is not returned. It is asked for so that a layer can "
    "be made and zeroed in one expression.",
)
def zero_init_(module):
    for parameter in module.parameters(recurse=False):
        nn.init.zeros_(parameter)


@a_zero.alternative("without recording gradients")
@torch.no_grad()
def zero_init_(module):
    for _, parameter in module.named_parameters(recurse=False):
        parameter.zero_()
    return module


@a_zero.alternative("through the data")
def zero_init_(module):
    for parameter in module._parameters.values():
        if parameter is not None:
            parameter.data.fill_(0)
    return module


# --- 04.7 ----------------------------------------------------------------------------------

a_field = Answers("04.7")


@a_field.reference
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field


@a_field.misconception(
    "no-strides",
    "Strides make no difference in yours. After a stride of 2 neighbours are two input places "
    "apart, so that every later kernel reaches twice as far.",
)
def receptive_field(layers):
    return 1 + sum((kernel - 1) * dilation for kernel, _, dilation in layers)


@a_field.misconception(
    "own-stride",
    "Each layer counts with its own stride. A stride changes what comes after it: what counts is "
    "the product of the strides before.",
)
def receptive_field(layers):
    return 1 + sum((kernel - 1) * dilation * stride for kernel, stride, dilation in layers)


@a_field.misconception(
    "own-stride-too",
    "You multiply in a layer's stride before you count its kernel. Its stride changes the distance "
    "between its outputs, not between its inputs: count first.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        jump *= stride
        field += (kernel - 1) * dilation * jump
    return field


@a_field.misconception(
    "last-stride-only",
    "You count with the stride of the layer before, but not with those before that: it is their "
    "product that says how far apart neighbours are.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * jump
        jump = stride
    return field


@a_field.misconception(
    "strides-added",
    "You add up the strides. Two strides of 3 put neighbours 9 places apart, not 6: they multiply.",
)
def receptive_field(layers):
    field, jump = 1, 0
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * max(jump, 1)
        jump += stride
    return field


@a_field.misconception(
    "no-dilation",
    "Dilation makes no difference in yours. It stretches the gaps between the places of a kernel.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, _ in layers:
        field += (kernel - 1) * jump
        jump *= stride
    return field


@a_field.misconception(
    "dilates-the-places",
    "You multiply the kernel by its dilation and take one away. Stretched are its gaps, of which "
    "there are kernel - 1.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel * dilation - 1) * jump
        jump *= stride
    return field


@a_field.misconception(
    "dilation-as-stride",
    "You let a dilation count for the later layers as well, like a stride. A dilated kernel still "
    "gives one output for each input.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * jump
        jump *= stride * dilation
    return field


@a_field.misconception(
    "starts-at-zero",
    "You start from 0. Without any layer a place still sees itself: 1.",
)
def receptive_field(layers):
    field, jump = 0, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field


@a_field.misconception(
    "whole-kernels",
    "You add whole kernels. The place in the middle is shared: a kernel of 3 adds 2.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += kernel * dilation * jump
        jump *= stride
    return field


@a_field.misconception(
    "kernels-multiplied",
    "You multiply the kernels. Two kernels of 3 see 5 places in a row, not 9: each adds what it "
    "reaches further.",
)
def receptive_field(layers):
    field = 1
    for kernel, _, dilation in layers:
        field *= (kernel - 1) * dilation + 1
    return field


@a_field.misconception(
    "even-kernels",
    "Odd kernels are right, even ones are not: you take half the kernel to each side. A kernel of "
    "4 has 3 gaps, however they are shared out.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += 2 * (kernel // 2) * dilation * jump
        jump *= stride
    return field


@a_field.misconception(
    "one-side-only",
    "You add what a kernel reaches to one side, kernel // 2. It reaches to both.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel // 2) * dilation * jump
        jump *= stride
    return field


@a_field.misconception(
    "from-the-wrong-end",
    "You multiply what has been seen so far by the stride. That is right for one who walks from "
    "the last layer to the first; from the first on, a stride acts on the layers behind it.",
)
def receptive_field(layers):
    field = 1
    for kernel, stride, dilation in layers:
        field = (field - 1) * stride + (kernel - 1) * dilation + 1
    return field


@a_field.misconception(
    "to-the-edge",
    "You count how far a place sees to one side. Asked for is the whole width, both sides and the "
    "place itself.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field // 2


@a_field.misconception(
    "a-float",
    "The number is right, but it is a float. Places are counted: return an int.",
)
def receptive_field(layers):
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        field += 2 * ((kernel - 1) / 2) * dilation * jump
        jump *= stride
    return float(field)


@a_field.alternative("from the last layer to the first")
def receptive_field(layers):
    field = 1
    for kernel, stride, dilation in reversed(layers):
        field = (field - 1) * stride + (kernel - 1) * dilation + 1
    return field


@a_field.alternative("with a product for each layer")
def receptive_field(layers):
    strides = [stride for _, stride, _ in layers]
    reach = [(k - 1) * d * math.prod(strides[:i]) for i, (k, _, d) in enumerate(layers)]
    return sum(reach, start=1)


@a_field.alternative("by following the first and the last place seen")
def receptive_field(layers):
    first = last = 0
    for kernel, stride, dilation in layers[::-1]:
        first, last = first * stride, last * stride + (kernel - 1) * dilation
    return last - first + 1
