"""The pieces of the U-Net: time embedding, residual block, attention, down- and upsampling.

Every piece works on images (B, C, H, W) with ``dims=2`` and on sound (B, C, L) with ``dims=1``:
only the convolution is another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

CONV = {1: nn.Conv1d, 2: nn.Conv2d}
TIME_SCALE = 1000.0  # networks are told t in [0, 1]; ``timestep_embedding`` was made for steps


def timestep_embedding(t: torch.Tensor, dim: int, max_period: float = 10000.0) -> torch.Tensor:
    """Cosines and sines of ``t`` at ``dim // 2`` frequencies: (B, dim).

    t: (B,), any number type; computed in float32 (float64 for float64 input). The frequencies fall
    geometrically from 1 to nearly 1 / max_period: exp(-ln(max_period) i / half). The first half
    holds the cosines, the second the sines; an odd ``dim`` ends with a column of zeros. Vaswani
    et al. 2017, section 3.5, in the order that DDPM-style code made common. Raises ValueError for
    dim < 2 or a ``t`` that is not one-dimensional.
    """
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}")
    if t.ndim != 1:
        raise ValueError(f"t must be (B,), got shape {tuple(t.shape)}")
    half = dim // 2
    kind = t.dtype if t.dtype == torch.float64 else torch.float32
    steps = torch.arange(half, dtype=kind, device=t.device)
    frequencies = torch.exp(-math.log(max_period) * steps / half)
    angles = t.to(kind)[:, None] * frequencies[None]
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    return F.pad(embedding, (0, dim % 2))


def zero_init_(module: nn.Module) -> nn.Module:
    """Sets the module's own weight and bias to zero, so that its output starts at zero.

    A residual branch that ends with such a layer starts as the identity (Goyal et al. 2017;
    Dhariwal & Nichol 2021). Returns the module.
    """
    for parameter in module.parameters(recurse=False):
        nn.init.zeros_(parameter)
    return module


def group_norm(channels: int, groups: int = 8) -> nn.GroupNorm:
    """Group normalisation with ``groups`` groups, or the largest number below that divides.

    A group has at least two channels where there are two: alone, a channel would lose what an
    embedding adds to it, and the network would be blind to time and class.
    """
    groups = min(groups, max(1, channels // 2))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


class DepthwiseSeparable(nn.Module):
    """A convolution in two parts: within each channel, then across channels at each place.

    forward(x (B, in, ...)) -> (B, out, ...). ``depthwise`` has a kernel of its own for each channel
    (groups = in_channels, no bias, padding that keeps sizes at stride 1), ``pointwise`` a kernel of
    one place. Costs in * out + in * kernel ** dims products a place, where a full convolution has
    in * out * kernel ** dims. Howard et al. 2017 (MobileNets), section 3.1, without the activation
    between. Raises ValueError for an even kernel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        stride: int = 1,
        dims: int = 2,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that sizes are kept, got {kernel}")
        conv = CONV[dims]
        self.depthwise = conv(
            in_channels, in_channels, kernel, stride, kernel // 2, groups=in_channels, bias=False
        )
        self.pointwise = conv(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


def conv3(
    in_channels: int, out_channels: int, dims: int, separable: bool = False, stride: int = 1
) -> nn.Module:
    """A convolution of three places along each axis that keeps sizes, full or separable."""
    if separable:
        return DepthwiseSeparable(in_channels, out_channels, 3, stride, dims)
    return CONV[dims](in_channels, out_channels, 3, stride=stride, padding=1)


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut, with the embedding of time (and class) added between.

    forward(x (B, in, ...), emb (B, emb_dim)) -> (B, out, ...), the same size. The order is
    norm, SiLU, convolution (He et al. 2016), as in DDPM; the second convolution starts at zero.
    separable: the convolutions are ``DepthwiseSeparable``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_dim: int,
        dims: int = 2,
        dropout: float = 0.0,
        separable: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = conv3(in_channels, out_channels, dims, separable)
        self.emb = nn.Linear(emb_dim, out_channels)
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3(out_channels, out_channels, dims, separable)
        zero_init_(self.conv2.pointwise if separable else self.conv2)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else CONV[dims](in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        shift = self.emb(F.silu(emb))
        h = h + shift.reshape(*shift.shape, *[1] * (h.ndim - 2))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.skip(x) + h


class SelfAttention(nn.Module):
    """Every place of (B, C, ...) looks at every other, in ``heads`` heads, beside a shortcut.

    Vaswani et al. 2017, eq. 1; the projection starts at zero. Cost grows with the square of the
    number of places.
    """

    def __init__(self, channels: int, heads: int = 4, dims: int = 2) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads")
        conv = CONV[dims]
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = conv(channels, 3 * channels, 1)
        self.proj = zero_init_(conv(channels, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c = x.shape[:2]
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, -1)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=1)  # each (B, heads, places, C / heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(h.transpose(-1, -2).reshape(x.shape))


def masked_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Attention of q (B, heads, N, D) to k and v (B, heads, L, D) where mask (B, L) is True.

    Vaswani et al. 2017, eq. 1. Where a sample has nothing to look at, zeros come back.
    """
    some = mask.any(1)[:, None]
    allowed = (mask | ~some)[:, None, None, :]
    h = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    return h * some[:, :, None, None].to(h.dtype)


class CrossAttention(nn.Module):
    """Every place of (B, C, ...) looks at the words of a prompt, beside a shortcut.

    forward(x (B, C, ...), context (B, L, D), mask (B, L) bool, True where there is a word) -> x's
    shape. Places ask (queries), words answer (keys, values), in ``heads`` heads; the projection
    starts at zero. Without any word x comes back as it was. Rombach et al. 2022, section 3.3.
    """

    def __init__(self, channels: int, context_dim: int, heads: int = 4, dims: int = 2) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads")
        self.heads = heads
        self.norm = group_norm(channels)
        self.q = CONV[dims](channels, channels, 1)
        self.kv = nn.Linear(context_dim, 2 * channels)
        self.proj = zero_init_(CONV[dims](channels, channels, 1, bias=False))

    def forward(self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        b, c = x.shape[:2]
        split = (self.heads, c // self.heads)
        q = self.q(self.norm(x)).reshape(b, *split, -1).transpose(-1, -2)
        k, v = self.kv(context).reshape(b, -1, 2, *split).permute(2, 0, 3, 1, 4)
        h = masked_attention(q, k, v, mask)  # (B, heads, places, C / heads)
        return x + self.proj(h.transpose(-1, -2).reshape(x.shape))


class SelfAttention2d(SelfAttention):
    """``SelfAttention`` for images."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__(channels, heads, dims=2)


class Downsample(nn.Module):
    """Halves every size (rounding up) by a convolution of stride 2."""

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        dims: int = 2,
        separable: bool = False,
    ) -> None:
        super().__init__()
        self.conv = conv3(channels, out_channels or channels, dims, separable, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Repeats values up to ``size`` (nearest neighbour), then a convolution.

    forward(x, size): ``size`` is what the output's spatial shape shall be, so that odd sizes come
    back as they were. No checkerboard, unlike a transposed convolution (Odena et al. 2016).
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        dims: int = 2,
        separable: bool = False,
    ) -> None:
        super().__init__()
        self.conv = conv3(channels, out_channels or channels, dims, separable)

    def forward(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return self.conv(F.interpolate(x, size=tuple(size), mode="nearest"))


class ClassConditioner(nn.Module):
    """An embedding row for each of ``classes`` classes, and one more, the null row, for "none".

    forward(y (B,) int64 in [0, classes]) -> (B, dim). The null label is ``classes``
    (``self.null``). Ho & Salimans 2022, classifier-free guidance. Raises ValueError for labels
    outside [0, classes].
    """

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.classes = self.null = classes
        self.rows = nn.Embedding(classes + 1, dim)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        if y.numel() and (int(y.min()) < 0 or int(y.max()) > self.null):
            raise ValueError(
                f"labels must be 0 to {self.classes - 1}, or {self.null} for none; got "
                f"{int(y.min())} to {int(y.max())}"
            )
        return self.rows(y)


class FactoredConditioner(nn.Module):
    """A label that says several things at once: the sum of an embedding row for each of them.

    factors: how many values each thing has, such as (13, 85) for the family and the key of a note.
    forward(y (B,) int64 in [0, product of factors]) -> (B, dim): y is taken apart like the digits
    of a number, the last thing changing fastest. So what is learnt of a key serves all families,
    and pairs that were never seen can be asked for. The null label is the product (``self.null``),
    with a null row of each. Raises ValueError for labels outside.
    """

    def __init__(self, factors: Sequence[int], dim: int) -> None:
        super().__init__()
        self.factors = tuple(factors)
        self.classes = self.null = math.prod(self.factors)
        self.rows = nn.ModuleList(nn.Embedding(n + 1, dim) for n in self.factors)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        if y.numel() and (int(y.min()) < 0 or int(y.max()) > self.null):
            raise ValueError(
                f"labels must be 0 to {self.classes - 1}, or {self.null} for none; got "
                f"{int(y.min())} to {int(y.max())}"
            )
        none = y == self.null
        found, rest = [], y
        for n, rows in zip(reversed(self.factors), reversed(self.rows)):
            found.append(rows(torch.where(none, n, rest % n)))
            rest = rest // n
        return torch.stack(found).sum(0)


def embed_time_and_class(
    network: Any, x: torch.Tensor, t: Any, cond: torch.Tensor | None, waves: int
) -> torch.Tensor:
    """(B, emb_dim) for x (B, ...): time, plus the class where ``network`` knows classes.

    network: has ``time_mlp``, of ``waves`` numbers, ``conditioner`` or None, and ``null``. t: a
    number or (B,), in [0, 1]. cond: (B,) labels; None means the null label. Raises ValueError for
    labels where the network knows none.
    """
    time = torch.as_tensor(t, device=x.device).to(torch.float32).expand(len(x))
    emb = network.time_mlp(timestep_embedding(TIME_SCALE * time, waves).to(x.dtype))
    if network.conditioner is None:
        if cond is not None:
            raise ValueError("this network was built without classes, and got labels")
        return emb
    if cond is None:
        cond = torch.full((len(x),), network.null, device=x.device)
    return emb + network.conditioner(cond)


class PatchStem(nn.Module):
    """Moves ``patch`` neighbours in each direction into channels, padding what does not divide.

    fold((B, C, H, W)) -> (B, C * patch ** dims, ceil(H / patch), ...); unfold(x, size) is the
    inverse, cut to ``size``. A convolution then sees fewer, wider places: most of the arithmetic at
    a quarter of the cost for patch 2. Shi et al. 2016 (sub-pixel convolution). Channel order:
    (C, patch rows, patch columns), as ``torch.nn.functional.pixel_unshuffle`` has it.
    """

    def __init__(self, patch: int, dims: int = 2) -> None:
        super().__init__()
        if patch < 1:
            raise ValueError(f"patch must be at least 1, got {patch}")
        self.patch, self.dims = patch, dims

    def fold(self, x: torch.Tensor) -> torch.Tensor:
        p = self.patch
        if p == 1:
            return x
        pads: list[int] = []
        for n in reversed(x.shape[2:]):
            pads += [0, -n % p]
        if any(pads):
            x = F.pad(x, pads, mode="replicate")
        if self.dims == 2:
            return F.pixel_unshuffle(x, p)
        b, c, n = x.shape
        return x.reshape(b, c, n // p, p).transpose(2, 3).reshape(b, c * p, n // p)

    def unfold(self, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        p = self.patch
        if p == 1:
            return x
        if self.dims == 2:
            x = F.pixel_shuffle(x, p)
            return x[:, :, : size[0], : size[1]]
        b, c, n = x.shape
        return x.reshape(b, c // p, p, n).transpose(2, 3).reshape(b, c // p, n * p)[..., : size[0]]


def receptive_field(layers: list[tuple[int, int, int]]) -> int:
    """How many input places one output place of a chain of convolutions sees, along one axis.

    layers: (kernel, stride, dilation) from first to last. Each adds (kernel - 1) dilation times
    the product of the strides before it (Dumoulin & Visin 2016). Raises ValueError below 1.
    """
    field, jump = 1, 1
    for kernel, stride, dilation in layers:
        if min(kernel, stride, dilation) < 1:
            raise ValueError(f"kernel, stride and dilation must be at least 1, got {layers}")
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field


def count_parameters(module: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def config_of(module: Any) -> dict[str, Any]:
    """The arguments that a network was built with, as kept by its constructor."""
    return dict(module.config)
