"""Networks for waveforms without a U: gated blocks whose convolutions are dilated, at full length.

WaveNet (van den Oord et al. 2016) made sound sample by sample with such blocks. DiffWave (Kong et
al. 2021, "DiffWave: a versatile diffusion model for audio synthesis") takes them as a denoiser:
they look both ways, and are told the noise level. The network here is called like ``UNet``, so
that losses, training and samplers do not know the difference.
"""

from __future__ import annotations

import difflib
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from undiffuse.blocks import (
    ClassConditioner,
    PatchStem,
    embed_time_and_class,
    receptive_field,
    zero_init_,
)
from undiffuse.presets import Preset

TIME_WAVES = 128  # columns of the embedding of t, as in DiffWave


class GatedResBlock1d(nn.Module):
    """A dilated convolution and a gate beside a shortcut, and a second way out, the skip.

    forward(x (B, channels, L), emb (B, emb_dim), cond (B, cond_channels, L) or None) returns
    ((x + residual) / sqrt(2), skip), both (B, channels, L), for any L. Kong et al. 2021, figure 2
    and section 3.1: the embedding, brought to ``channels`` numbers, is added to x at every place;
    the convolution of kernel 3 makes twice the channels, to which the condition is added;
    tanh(first half) * sigmoid(second half) goes through a convolution of kernel 1 to the residual
    (first half) and the skip (second half). Zeros stand outside of x.

    Raises ValueError for a dilation below 1, and for a condition that does not fit, is missing, or
    comes to a block built without.
    """

    def __init__(
        self, channels: int, dilation: int, emb_dim: int, cond_channels: int | None = None
    ) -> None:
        super().__init__()
        if dilation < 1:
            raise ValueError(f"dilation must be at least 1, got {dilation}")
        self.emb = nn.Linear(emb_dim, channels)
        self.dilated = nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.cond = nn.Conv1d(cond_channels, 2 * channels, 1) if cond_channels else None
        self.out = nn.Conv1d(channels, 2 * channels, 1)

    def forward(
        self, x: torch.Tensor, emb: torch.Tensor, cond: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.dilated(x + self.emb(emb)[..., None])
        if self.cond is not None:
            if cond is None or cond.shape[-1] != x.shape[-1]:
                given = "none" if cond is None else f"one of shape {tuple(cond.shape)}"
                raise ValueError(
                    f"a condition (B, {self.cond.in_channels}, {x.shape[-1]}) is wanted, got "
                    f"{given}"
                )
            h = h + self.cond(cond)
        elif cond is not None:
            raise ValueError("this block was built without cond_channels, and got a condition")
        content, gate = h.chunk(2, dim=1)
        residual, skip = self.out(content.tanh() * gate.sigmoid()).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2), skip


def dilations(layers: int, cycle: int) -> list[int]:
    """1, 2, 4, ... doubled for ``cycle`` layers, then from 1 again: ``layers`` numbers.

    Kong et al. 2021, section 3.1. Raises ValueError below 1.
    """
    if layers < 1 or cycle < 1:
        raise ValueError(f"layers and cycle must be at least 1, got {layers} and {cycle}")
    return [2 ** (i % cycle) for i in range(layers)]


class WaveNet1d(nn.Module):
    """A stack of ``GatedResBlock1d`` at one length, whose skips are summed: DiffWave's denoiser.

    channels: width of all layers. layers, cycle: see ``dilations``. patch: folds that many samples
    into channels first (``PatchStem``), which makes the stack as many times shorter, and lets it
    see as many times further. classes: number of labels, None for a network without.

    forward(x, t, cond=None) is that of ``UNet`` with ``dims=1``: x (B, in_channels, L) of any
    length, t (B,) or a number, continuous time in [0, 1]; cond (B,) int64 labels, where
    ``self.null`` (the number of classes) means none, as does None. Returns x's shape, zero before
    training. Raises ValueError for another shape, labels out of range, or labels without classes.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: int = 64,
        layers: int = 12,
        cycle: int = 6,
        patch: int = 1,
        classes: int | None = None,
        emb_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "in_channels": in_channels,
            "channels": channels,
            "layers": layers,
            "cycle": cycle,
            "patch": patch,
            "classes": classes,
            "emb_dim": emb_dim,
        }
        emb_dim = emb_dim or 4 * channels
        self.dims, self.emb_dim, self.null = 1, emb_dim, classes
        self.time_mlp = nn.Sequential(
            nn.Linear(TIME_WAVES, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim)
        )
        self.conditioner = ClassConditioner(classes, emb_dim) if classes else None
        self.stem = PatchStem(patch, dims=1)
        folded = in_channels * patch
        self.conv_in = nn.Conv1d(folded, channels, 1)
        self.layers = nn.ModuleList(
            GatedResBlock1d(channels, dilation, emb_dim) for dilation in dilations(layers, cycle)
        )
        self.conv_skip = nn.Conv1d(channels, channels, 1)
        self.conv_out = zero_init_(nn.Conv1d(channels, folded, 1))

    def embed(self, x: torch.Tensor, t: Any, cond: torch.Tensor | None) -> torch.Tensor:
        """(B, emb_dim): time, plus the class where the network knows classes."""
        return F.silu(embed_time_and_class(self, x, t, cond, TIME_WAVES))

    def forward(self, x: torch.Tensor, t: Any, cond: torch.Tensor | None = None) -> torch.Tensor:
        if x.ndim != 3:
            raise ValueError(f"x must be (B, C, L), got shape {tuple(x.shape)}")
        emb = self.embed(x, t, cond)
        h = F.relu(self.conv_in(self.stem.fold(x)))
        total = torch.zeros_like(h)
        for layer in self.layers:
            h, skip = layer(h, emb)
            total = total + skip
        # The sum of n skips has about n times the variance of one.
        h = F.relu(self.conv_skip(total / math.sqrt(len(self.layers))))
        return self.stem.unfold(self.conv_out(h), x.shape[2:])

    def receptive_field(self) -> int:
        """How many samples one sample of the output sees: at least so many, counted in patches."""
        chain = [(3, 1, layer.dilated.dilation[0]) for layer in self.layers]
        return self.stem.patch * receptive_field(chain)


# Arguments of WaveNet1d by purpose; "shape" is what the cost is told for.
PRESETS = {
    "tiny-wavenet": Preset(
        "tests with sound",
        (1, 1024),
        {"channels": 16, "layers": 4, "cycle": 4, "patch": 8, "classes": 10},
    ),
    "drums-wavenet": Preset(
        "lesson 11: drum hits at 16 kHz, beside the U-Net",
        (1, 8192),
        {"channels": 64, "layers": 12, "cycle": 6, "patch": 16, "classes": 8},
    ),
}


def build(name: str, **changes: Any) -> WaveNet1d:
    """The network of a preset, with ``changes`` to its arguments.

    Raises ValueError with the nearest name for one that is not there.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(str(name), PRESETS, 1)
        raise ValueError(
            f"there is no WaveNet called {name!r}"
            + (f"; did you mean {near[0]}?" if near else f" (there are {', '.join(PRESETS)})")
        )
    chosen = PRESETS[name]
    return WaveNet1d(**({"in_channels": chosen.shape[0], **chosen.network} | changes))
