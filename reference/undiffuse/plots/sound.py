"""Figures of sounds: over time and over frequency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from undiffuse import palette
from undiffuse.plots.base import (
    WIDTH,
    Array,
    draw_legend,
    dress,
    finite,
    named,
    new_axes,
    new_figure,
    numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def waveforms(
    clips: Mapping[str, Array],
    rate: int,
    *,
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """Clips one below the other over the same time. clips: name -> (L,) or (1, L); rate in Hz."""
    values = {k: _clip(v, k, rate) for k, v in named(clips, "clips").items()}
    fig = new_figure(WIDTH, 0.5 + 0.95 * len(values))
    rows = fig.subplots(len(values), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for ax, (name, v), style in zip(rows, values.items(), palette.styles(list(values), roles)):
        dress(ax, "", name, "")
        ax.plot(np.arange(len(v)) / rate, v, color=style.color, linewidth=0.7)
    rows[-1].set_xlabel("time in seconds")
    if title:
        fig.suptitle(title, fontsize=11)
    return fig


def spectra(
    clips: Mapping[str, Array],
    rate: int,
    *,
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """How strong each frequency is, in dB below the strongest of all the clips.

    clips: name -> (L,) or (1, L); rate in Hz. Power under a Hann window, the mean of each of 120
    bands that are even on the logarithmic axis; what is below -120 dB is drawn at -120.
    """
    values = {k: _clip(v, k, rate) for k, v in named(clips, "clips").items()}
    edges = np.geomspace(max(20.0, rate / 4096), rate / 2, 121)
    lines = {}
    for name, v in values.items():
        power = np.abs(np.fft.rfft(v * np.hanning(len(v)))) ** 2
        at = np.fft.rfftfreq(len(v), 1 / rate)
        band = np.digitize(at, edges) - 1
        total = np.bincount(band[band >= 0], power[band >= 0], minlength=121)[:120]
        count = np.bincount(band[band >= 0], minlength=121)[:120]
        lines[name] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    top = max(float(np.nanmax(v)) for v in lines.values()) or 1.0
    with np.errstate(divide="ignore"):
        level = {k: np.maximum(10 * np.log10(v / top), -120.0) for k, v in lines.items()}
    fig = new_figure(WIDTH, 3.2)
    ax = new_axes(fig, "frequency in Hz", "level in dB", title)
    for (name, v), style in zip(level.items(), palette.styles(list(level), roles)):
        known = np.isfinite(v)
        centre = np.sqrt(edges[1:] * edges[:-1])[known]
        ax.plot(centre, v[known], color=style.color, ls=style.linestyle, lw=1.5, label=name)
    ax.set_xscale("log")
    if len(level) > 1:
        draw_legend(ax)
    return fig


def _clip(v: Array, name: str, rate: int) -> np.ndarray:
    if not rate > 0:
        raise ValueError(f"rate is {rate}: the samples per second are wanted")
    v = finite(numbers(v, name), name).astype(np.float64)
    if v.ndim == 2 and v.shape[0] == 1:
        v = v[0]
    if v.ndim != 1 or len(v) < 8:
        raise ValueError(f"{name} has shape {v.shape}: a clip (L,) with L of 8 or more is wanted")
    return v
