"""One U-Net for images and sound, and small presets named by purpose."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from undiffuse.blocks import (
    CONV,
    ClassConditioner,
    CrossAttention,
    Downsample,
    FactoredConditioner,
    PatchStem,
    ResBlock,
    SelfAttention,
    Upsample,
    embed_time_and_class,
    group_norm,
    zero_init_,
)
from undiffuse.text import PAD, TextEncoder, as_tokens


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) as diffusion uses it (Ho et al. 2020), in 1-D or 2-D.

    channels: width of each level, from fine to coarse; the size halves from one to the next.
    blocks: residual blocks a level on the way down (one more on the way up). attention: at which
    levels self-attention follows each block. patch: see ``PatchStem``. classes: number of labels,
    None for a network without. dims: 1 for (B, C, L), 2 for (B, C, H, W). factors: where a label
    says several things, how many values each has (``FactoredConditioner``); their product must be
    ``classes``. augmentation: how many numbers tell the network how its input was altered (5 for
    ``affine.random_affine``), 0 for none. separable: residual blocks and changes of size use
    ``DepthwiseSeparable`` convolutions, which do a fraction of the arithmetic. text: arguments of
    ``text.TextEncoder`` for a network that is told prompts; its words are looked at
    (``CrossAttention``) after each block of the levels in ``attention``, and their mean is added to
    the embedding of time.

    forward(x, t, cond=None, augmentation=None): t (B,) or a number, continuous time in [0, 1]; cond
    (B,) int64 labels, where ``self.null`` (the number of classes) means none, as does None; with
    ``text``, tokens (B, L) int64, where a row of ``self.null`` (``text.PAD``) means none;
    augmentation (B, n), where zeros mean unaltered, as does None. Any size that leaves at least one
    place at the coarsest level works. Returns x's shape.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, ...] = (64, 128, 128),
        blocks: int = 1,
        attention: tuple[bool, ...] | None = None,
        patch: int = 1,
        classes: int | None = None,
        dims: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        emb_dim: int | None = None,
        factors: tuple[int, ...] | None = None,
        augmentation: int = 0,
        separable: bool = False,
        text: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if dims not in CONV:
            raise ValueError(f"dims must be 1 or 2, got {dims}")
        attention = tuple(attention or (False,) * len(channels))
        if len(attention) != len(channels):
            raise ValueError(f"attention has {len(attention)} entries for {len(channels)} levels")
        if factors and math.prod(factors) != classes:
            raise ValueError(f"factors {list(factors)} must have the product {classes}, classes")
        self.config: dict[str, Any] = {
            "in_channels": in_channels,
            "channels": list(channels),
            "blocks": blocks,
            "attention": list(attention),
            "patch": patch,
            "classes": classes,
            "dims": dims,
            "heads": heads,
            "dropout": dropout,
            "emb_dim": emb_dim,
        }
        if separable:
            self.config["separable"] = True
        conv = CONV[dims]
        emb_dim = emb_dim or 4 * channels[0]
        self.dims, self.emb_dim, self.time_dim = dims, emb_dim, channels[0]
        self.null = PAD if text else classes
        self.time_mlp = nn.Sequential(
            nn.Linear(channels[0], emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim)
        )
        self.conditioner: nn.Module | None = None
        if factors:
            self.config["factors"] = list(factors)
            self.conditioner = FactoredConditioner(factors, emb_dim)
        elif classes:
            self.conditioner = ClassConditioner(classes, emb_dim)
        self.augmentation: nn.Module | None = None
        if augmentation:
            # Without a bias zeros add nothing; from zero, a network that is told nothing is as
            # one that has no such input (Karras et al. 2022, appendix F.2).
            self.config["augmentation"] = augmentation
            self.augmentation = zero_init_(nn.Linear(augmentation, emb_dim, bias=False))
        self.encoder: TextEncoder | None = None
        if text:
            if classes:
                raise ValueError("a network is told classes or prompts, not both")
            self.config["text"] = dict(text)
            self.encoder = TextEncoder(**text)
            self.whole = nn.Linear(self.encoder.width, emb_dim, bias=False)
        self.stem = PatchStem(patch, dims)
        folded = in_channels * patch**dims
        self.conv_in = conv(folded, channels[0], 3, padding=1)

        def block(inside: int, outside: int, level: int) -> nn.ModuleList:
            parts: list[nn.Module] = [ResBlock(inside, outside, emb_dim, dims, dropout, separable)]
            if attention[level]:
                parts.append(SelfAttention(outside, heads, dims))
                if self.encoder is not None:
                    parts.append(CrossAttention(outside, self.encoder.width, heads, dims))
            return nn.ModuleList(parts)

        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        for level, wide in enumerate(channels):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(block(width, wide, level))
                width = wide
                skips.append(width)
            self.down.append(stage)
            if level < len(channels) - 1:
                self.downsample.append(Downsample(width, dims=dims, separable=separable))
                skips.append(width)
        self.mid = nn.ModuleList(
            [
                ResBlock(width, width, emb_dim, dims, dropout, separable),
                ResBlock(width, width, emb_dim, dims, separable=separable),
            ]
        )
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(channels))):
            stage = nn.ModuleList()
            for _ in range(blocks + 1):
                stage.append(block(width + skips.pop(), channels[level], level))
                width = channels[level]
            self.up.append(stage)
            if level:
                self.upsample.append(Upsample(width, dims=dims, separable=separable))
        self.norm_out = group_norm(width)
        self.conv_out = zero_init_(conv(width, folded, 3, padding=1))

    def embed(
        self,
        x: torch.Tensor,
        t: Any,
        cond: torch.Tensor | None,
        augmentation: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, emb_dim): time, plus class and augmentation where the network knows them.

        Prompts are no part of it: ``forward`` adds them.
        """
        label = cond if self.encoder is None else None
        emb = embed_time_and_class(self, x, t, label, self.time_dim)
        if augmentation is not None:
            if self.augmentation is None:
                raise ValueError("this network was built without augmentation, and is told of some")
            emb = emb + self.augmentation(augmentation.to(emb.dtype))
        return emb

    def forward(
        self,
        x: torch.Tensor,
        t: Any,
        cond: torch.Tensor | None = None,
        augmentation: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if x.ndim != self.dims + 2:
            wanted = "(B, C, L)" if self.dims == 1 else "(B, C, H, W)"
            raise ValueError(f"x must be {wanted}, got shape {tuple(x.shape)}")
        size = x.shape[2:]
        emb, prompt = self.embed(x, t, cond, augmentation), None
        if self.encoder is not None and cond is not None:
            tokens = as_tokens(cond, self.encoder.words)
            mask = tokens != PAD
            each, whole = self.encoder(tokens, mask)
            emb, prompt = emb + self.whole(whole), (each, mask)
        h = self.conv_in(self.stem.fold(x))
        skips = [h]
        for level, stage in enumerate(self.down):
            for parts in stage:
                h = _run(parts, h, emb, prompt)
                skips.append(h)
            if level < len(self.downsample):
                h = self.downsample[level](h)
                skips.append(h)
        for part in self.mid:
            h = part(h, emb)
        for level, stage in enumerate(self.up):
            for parts in stage:
                h = _run(parts, torch.cat([h, skips.pop()], dim=1), emb, prompt)
            if level < len(self.upsample):
                h = self.upsample[level](h, skips[-1].shape[2:])
        h = self.conv_out(F.silu(self.norm_out(h)))
        return self.stem.unfold(h, size)


def _run(
    parts: nn.ModuleList,
    h: torch.Tensor,
    emb: torch.Tensor,
    prompt: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    h = parts[0](h, emb)
    for part in parts[1:]:
        if not isinstance(part, CrossAttention):
            h = part(h)
        elif prompt is not None:
            h = part(h, *prompt)
    return h
