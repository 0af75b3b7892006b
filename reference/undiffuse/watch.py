"""Looking at a run while it trains, without a change to it: loss by level, samples, curves.

Everything here draws from generators of its own: a run that is watched ends with the same weights
as one that is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from undiffuse._files import replacing
from undiffuse.schedules import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from undiffuse.checkpoints import Checkpoint

BINS = 10
SAMPLES, CALLS = 20, 20


def level_middles(schedule: Schedule, low: float, high: float, bins: int = BINS) -> torch.Tensor:
    """log SNR at the middle of each of ``bins`` equal parts of the times low .. high: (bins,)."""
    middle = (torch.arange(bins, dtype=torch.float64) + 0.5) / bins
    return schedule.log_snr(low + (high - low) * middle)


@torch.no_grad()
def loss_by_level(
    loss: Callable[..., torch.Tensor],
    x: torch.Tensor,
    labels: torch.Tensor | None,
    low: float,
    high: float,
    bins: int = BINS,
    seed: int = 0,
    batch: int = 250,
) -> torch.Tensor:
    """Mean of ``loss(x0, t, noise, cond)`` (B,) in ``bins`` equal parts of the times low .. high.

    x: (N, ...), labels (N,) or None; sample i gets a time in part i % bins. Times and noise are the
    same at every call: two calls differ by the network alone. Returns (bins,) float64. Raises
    ValueError for fewer samples than bins.
    """
    n = len(x)
    if n < bins:
        raise ValueError(f"{n} validation samples cannot fill {bins} noise levels")
    generator = torch.Generator().manual_seed(seed)
    part = torch.arange(n) % bins
    u = (part + torch.rand(n, generator=generator, dtype=torch.float64)) / bins
    t = (low + (high - low) * u).float()
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    each = []
    for rows in torch.arange(n).split(batch):
        cond = None if labels is None else labels[rows]
        each.append(loss(x[rows], t[rows], noise[rows], cond).double().cpu())
    total = torch.zeros(bins, dtype=torch.float64).index_add_(0, part, torch.cat(each))
    return total / torch.bincount(part, minlength=bins)


def draw_samples(found: Checkpoint, path: str | os.PathLike) -> None:
    """A picture of ``SAMPLES`` samples, classes in turn, the same noise each time; as PNG.

    Images as a grid; sound as waveforms. Without guidance, whatever the recipe says.
    """
    from undiffuse.draw import draw, save_grid, to_uint8

    x, _ = draw(found, SAMPLES, calls=CALLS, guidance=1.0)
    if len(found.shape) == 3:
        save_grid(path, to_uint8(x), columns=10)
        return
    _save(_waves(x[:, 0].numpy()), path)


def _waves(x: np.ndarray) -> Figure:
    from undiffuse.plots.base import WIDTH, new_figure

    fig = new_figure(WIDTH, 4.0)
    for i, (ax, wave) in enumerate(zip(fig.subplots(5, 4, sharex=True).flat, x)):
        ax.plot(wave, linewidth=0.5, color="#D55E00")
        ax.set(ylim=(-1.05, 1.05), xticks=[], yticks=[])
        ax.set_title(str(i), fontsize=7, pad=1)
    return fig


def curves(
    losses: Sequence[float],
    validation: Sequence[tuple[int, Sequence[float]]],
    log_snr: Sequence[float],
    path: str | os.PathLike,
) -> None:
    """The picture of a run: its loss by step, and the validation loss by noise level.

    validation: (step, loss of each level) in the order of steps; log_snr: of the levels.
    """
    from undiffuse import palette
    from undiffuse.plots.base import WIDTH, draw_legend, dress, new_figure

    fig = new_figure(WIDTH, 6.0 if validation else 3.2)
    axes = np.atleast_1d(fig.subplots(2 if validation else 1, 1))
    width = max(1, len(losses) // 100)
    means = [np.mean(losses[i : i + width]) for i in range(0, len(losses), width)]
    steps = [min(i + width, len(losses)) for i in range(0, len(losses), width)]
    title = "training loss" + (f", means of {width} steps" if width > 1 else "")
    dress(axes[0], "step", "loss", title)
    axes[0].plot(steps, means, color=palette.role("model").color, linewidth=1.9)
    axes[0].set_yscale("log")
    if validation:
        dress(axes[1], "log SNR (noisy to clean)", "loss", "validation loss by noise level")
        chosen = sorted({round(i) for i in np.linspace(0, len(validation) - 1, 5)})
        for place, style in zip(chosen, palette.SERIES):
            step, values = validation[place]
            axes[1].plot(
                log_snr,
                values,
                color=style.color,
                linestyle=style.linestyle,
                marker=style.marker,
                markersize=4,
                label=f"step {step}",
            )
        axes[1].set_yscale("log")
        draw_legend(axes[1])
    _save(fig, path)


def _save(fig: Figure, path: str | os.PathLike) -> None:
    """As PNG, whole or not at all."""
    from undiffuse.plots.base import png

    with replacing(path) as temporary:
        temporary.write_bytes(png(fig))
