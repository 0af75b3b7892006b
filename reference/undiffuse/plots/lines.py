"""Figures of numbers: lines over an axis, results with their spread, distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from undiffuse import palette
from undiffuse.plots.base import (
    WIDTH,
    Array,
    as_runs,
    draw_floor,
    draw_legend,
    finite,
    is_map,
    named,
    new_axes,
    new_figure,
    numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(
    series: Mapping[str, Array],
    x: Array | Mapping[str, Array] | None = None,
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    markers: bool = False,
    floor: float | None = None,
    floor_name: str = "floor",
    roles: dict[str, str] | None = None,
) -> Figure:
    """Lines over a common axis, each with its own dashes.

    series: name -> values (n,), or (runs, n): then the line is the median over runs and the band
        reaches from the least to the greatest. Infinite and NaN values are left out, and the
        legend says how many there were.
    x: values (n,) for all, or name -> values; 0, 1, 2, ... when left out
    floor: a level to compare with, drawn as a grey dash-dotted line called ``floor_name``
    """
    values = {name: as_runs(v, name) for name, v in named(series, "series").items()}
    fig = new_figure(WIDTH, 3.4)
    ax = new_axes(fig, xlabel, ylabel, title)
    for (name, runs), style in zip(values.items(), palette.styles(list(values), roles)):
        n = runs.shape[1]
        along = np.arange(n) if x is None else numbers(x[name] if is_map(x) else x, "x")
        if along.shape != (n,):
            raise ValueError(f"{name} has {n} values and x has shape {along.shape}: ({n},) wanted")
        missing = int((~np.isfinite(runs)).sum())
        runs = np.where(np.isfinite(runs), runs, np.nan)
        seen = np.isfinite(runs).any(axis=0)
        label = f"{name} ({missing} not finite)" if missing else name
        every = max(1, n // 8)
        ax.plot(
            along[seen],
            np.nanmedian(runs[:, seen], axis=0),
            color=style.color,
            linestyle=style.linestyle,
            linewidth=1.9,
            marker=style.marker if markers or n <= 24 else None,
            markevery=1 if markers or n <= 24 else every,
            markersize=5,
            label=label,
        )
        if len(runs) > 1:
            low, high = np.nanmin(runs[:, seen], axis=0), np.nanmax(runs[:, seen], axis=0)
            ax.fill_between(along[seen], low, high, color=style.color, alpha=0.18, linewidth=0)
    if floor is not None:
        draw_floor(ax, floor, floor_name)
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")
    if len(values) > 1 or floor is not None or any(len(v) > 1 for v in values.values()):
        draw_legend(ax)
    return fig


def schedule_curves(
    alpha_bars: Mapping[str, Array],
    *,
    x: Array | Mapping[str, Array] | None = None,
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """How much of the signal's power is left, ``alpha_bar``, over the way from 0 to 1.

    alpha_bars: name -> (T,), whose T may differ; x: as in ``curves``, t / (T - 1) when left out
    """
    values = named(alpha_bars, "alpha_bars")
    fig = curves(
        values,
        _way(values) if x is None else x,
        xlabel="time, $t/(T-1)$",
        ylabel=r"signal power, $\bar\alpha$",
        title=title,
        roles=roles,
    )
    fig.axes[0].set_ylim(-0.03, 1.03)
    return fig


def log_snr_curves(
    log_snrs: Mapping[str, Array],
    *,
    x: Array | Mapping[str, Array] | None = None,
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """The natural logarithm of signal power over noise power, over the way from 0 to 1.

    log_snrs: name -> (T,), whose T may differ; x: as in ``curves``, t / (T - 1) when left out.
    The line at 0 is where signal and noise are equally strong.
    """
    values = named(log_snrs, "log_snrs")
    return curves(
        values,
        _way(values) if x is None else x,
        xlabel="time, $t/(T-1)$",
        ylabel="log SNR (natural log)",
        title=title,
        floor=0.0,
        floor_name="signal = noise",
        roles=roles,
    )


def loss_curves(
    losses: Mapping[str, Array],
    *,
    every: int = 1,
    log_y: bool = False,
    floor: float | None = None,
    floor_name: str = "floor",
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """Loss over training steps; with several runs the median and a band from least to greatest.

    losses: name -> (n,) or (seeds, n), one value each ``every`` steps
    floor: the loss of the best possible model, where it is known
    """
    values = {k: as_runs(v, k) for k, v in named(losses, "losses").items()}
    return curves(
        values,
        {name: every * np.arange(1, v.shape[1] + 1) for name, v in values.items()},
        xlabel="training step",
        ylabel="loss",
        title=title,
        log_y=log_y,
        floor=floor,
        floor_name=floor_name,
        roles=roles,
    )


def bar_with_spread(
    results: Mapping[str, Array],
    *,
    ylabel: str,
    xlabel: str = "",
    floor: float | Sequence[float] | None = None,
    floor_name: str = "floor",
    log_y: bool = False,
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """Results of an experiment: every seed as a point, their mean as a tick, their range as a bar.

    results: condition -> one value per seed
    floor: what nothing can beat, such as real against real: a value, or its values over seeds,
        drawn as a grey band with its mean
    """
    values = {k: np.ravel(finite(numbers(v, k), k)) for k, v in named(results, "results").items()}
    fig = new_figure(min(WIDTH, 1.6 + 1.1 * len(values)) if len(values) < 5 else WIDTH, 3.2)
    ax = new_axes(fig, xlabel, ylabel, title)
    ax.grid(False, axis="x")
    for at, (v, style) in enumerate(zip(values.values(), palette.styles(list(values), roles))):
        ax.vlines(at, v.min(), v.max(), color=style.color, linewidth=9, alpha=0.25)
        ax.hlines(v.mean(), at - 0.24, at + 0.24, color=style.color, linewidth=2.6)
        aside = np.linspace(-0.1, 0.1, len(v)) if len(v) > 1 else np.zeros(1)
        ax.plot(at + aside, v, style.marker, color=style.color, markersize=5, zorder=3)
    ax.set_xticks(range(len(values)), list(values))
    ax.set_xlim(-0.6, len(values) - 0.4)
    if floor is not None:
        draw_floor(ax, floor, floor_name)
        draw_legend(ax)
    if log_y:
        ax.set_yscale("log")
    return fig


def histogram(
    samples: Mapping[str, Array],
    *,
    bins: int = 40,
    limits: tuple[float, float] | None = None,
    density: Mapping[str, Callable[[np.ndarray], Array]] | None = None,
    xlabel: str = "value",
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """How values are distributed: outlines whose area is 1, and exact densities over them.

    samples: name -> values of any shape; density: name -> function of a float64 array (n,)
    """
    values = {k: np.ravel(finite(numbers(v, k), k)) for k, v in named(samples, "samples").items()}
    everything = np.concatenate(list(values.values()))
    low, high = limits or (float(everything.min()), float(everything.max()))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    density = dict(density or {})
    fig = new_figure(WIDTH, 3.2)
    ax = new_axes(fig, xlabel, "density", title)
    chosen = palette.styles([*values, *density], roles)
    for (name, v), style in zip(values.items(), chosen):
        counts, edges = np.histogram(v, bins=bins, range=(low, high))
        heights = counts / (len(v) * np.diff(edges))
        ax.stairs(heights, edges, fill=True, color=style.color, alpha=0.15)
        ax.stairs(
            heights, edges, color=style.color, linestyle=style.linestyle, linewidth=1.6, label=name
        )
    along = np.linspace(low, high, 400)
    for (name, function), style in zip(density.items(), chosen[len(values) :]):
        heights = numbers(function(along), name)
        ax.plot(along, heights, color=style.color, linestyle=style.linestyle, lw=1.9, label=name)
    draw_legend(ax)
    return fig


def _way(values: Mapping[str, Array]) -> dict[str, np.ndarray]:
    return {k: np.linspace(0, 1, as_runs(v, k).shape[1]) for k, v in values.items()}
