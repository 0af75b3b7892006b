"""The figures of the lessons. Each function takes tensors or arrays and returns a Figure.

    show(fig, alt, caption="")                              put a figure into the notebook

    image_grid(images, labels=None, *, columns=None, title="")
    compare_images(yours, expected, *, names=("yours", "expected"), difference=True)
    forward_strip(levels, level_labels, *, row_labels=None, level_name="t", title="")
    curves(series, x=None, *, xlabel, ylabel, ...)          lines; several runs get a band
    schedule_curves(alpha_bars, *, x=None, ...)             {name: alpha_bar (T,)}
    log_snr_curves(log_snrs, *, x=None, ...)                {name: log SNR (T,)}
    loss_curves(losses, *, every=1, log_y=False, ...)       {name: (steps,) or (seeds, steps)}
    bar_with_spread(results, *, ylabel, floor=None, ...)    {condition: one value per seed}
    histogram(samples, *, bins=40, density=None, ...)       {name: values}, with exact densities
    points2d(sets, *, limits=None, panels=False, ...)       {name: (N, 2)}
    trajectories2d(paths, *, data=None, ...)                (steps, B, 2)
    vector_field2d(field, *, limits=3.0, n=21, ...)         a score or a velocity, as a function
    waveforms(clips, rate, *, title="")                     {name: (L,)}
    spectra(clips, rate, *, title="")                       {name: (L,)}, level in dB

    schedule_slider(make, steps, *, names, alt, ...)        noise by hand; a strip without widgets

Series called "data", "noise", "model"/"yours", "expected"/"reference" or "bound"/"floor" get the
colours and dashes that these have everywhere (``undiffuse.palette``); ``roles={"DDPM": "model"}``
gives such a meaning to another name. Images are in [-1, 1] unless they are uint8. Matplotlib is
imported when a figure is made, and no global setting of it is touched. Every function raises
TypeError or ValueError for input that cannot be drawn: wrong shape, nothing in it, NaN.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from undiffuse import palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = Any  # a torch tensor, a numpy array or a nested sequence of numbers
DPI = 100
WIDTH = 7.0  # inches: 700 pixels, what a notebook shows without scaling
GAP = 3  # pixels between the images of a grid
BIG_PNG = 80_000  # bytes from which a picture is stored in 256 colours


# ---------------------------------------------------------------------------------------- showing


def show(fig: Figure, alt: str, caption: str = "") -> None:
    """Put ``fig`` into the notebook as a PNG with alternative text, and close it.

    alt: what somebody who cannot see the figure needs to know; may not be empty
    caption: Markdown (with LaTeX) below the figure: what to see in it

    Outside a notebook nothing is drawn: the alternative text and the caption are printed.
    Raises TypeError when ``fig`` is no Figure, ValueError when ``alt`` is empty.
    """
    from matplotlib.figure import Figure

    if not isinstance(fig, Figure):
        raise TypeError(f"show wants a matplotlib Figure, got {type(fig).__name__}")
    alt = _alt(alt)
    data = png(fig)
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(fig)
    if _kernel() is None:
        print(f"[figure] {alt}")
        if caption:
            print(f"         {caption}")
        return
    from IPython.display import Image, Markdown, display

    display(Image(data=data, format="png", alt=alt))
    if caption:
        display(Markdown(caption))


def png(fig: Figure) -> bytes:
    """``fig`` as a PNG file, the same bytes for the same figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(fig)
    out = io.BytesIO()
    fig.savefig(
        out, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08, metadata={"Software": ""}
    )
    if out.tell() > BIG_PNG:
        from PIL import Image

        small = io.BytesIO()
        picture = Image.open(out).convert("RGB")
        picture.quantize(256, Image.Quantize.MEDIANCUT).save(small, "PNG", optimize=True)
        if small.tell() < out.tell():
            out = small
    return out.getvalue()


# ----------------------------------------------------------------------------------------- images


def image_grid(
    images: Array,
    labels: Sequence | None = None,
    *,
    columns: int | None = None,
    title: str = "",
) -> Figure:
    """Images side by side, at most ten a row unless ``columns`` says otherwise.

    images: (N, H, W), (N, 1, H, W) or (N, 3, H, W), or one (H, W); uint8, or floats in [-1, 1]:
        what lies outside is drawn as the nearest end
    labels: N short texts or numbers, one below each image
    """
    pixels = _pixels(images, "images")
    n, h, w = pixels.shape[:3]
    if labels is not None and len(labels) != n:
        raise ValueError(f"{len(labels)} labels for {n} images: one for each is wanted")
    if columns is not None and columns < 1:
        raise ValueError(f"columns is {columns}: at least 1 is wanted")
    columns = min(n, columns or 10)
    rows = -(-n // columns)
    cell = min(0.9, WIDTH / columns)
    text = 0.0 if labels is None else 0.17 * max(h, w) / cell  # room for a line, in image pixels
    sheet, at = _mosaic(pixels, columns, extra=round(text))
    scale = cell / w
    fig = _figure(max(1.0, sheet.shape[1] * scale), max(0.5, sheet.shape[0] * scale))
    ax = _picture(fig, sheet)
    if labels is not None:
        for (top, left), label in zip(at, labels):
            where = (left + w / 2, top + h + 0.5)
            ax.text(*where, _word(label), ha="center", va="top", fontsize=9 if rows < 8 else 7)
    if title:
        ax.set_title(title, fontsize=11)
    return fig


def compare_images(
    yours: Array,
    expected: Array,
    *,
    names: tuple[str, str] = ("yours", "expected"),
    difference: bool = True,
    title: str = "",
) -> Figure:
    """Two sets of images, one below the other, and what sets them apart.

    yours, expected: the same shape, as in ``image_grid``; at most the first 10 are drawn. The
    row of differences is scaled to its largest; grey is none, white is too bright, black too dark.
    """
    a, b = _pixels(yours, names[0])[:10], _pixels(expected, names[1])[:10]
    if a.shape != b.shape:
        raise ValueError(f"{names[0]} is {a.shape} and {names[1]} is {b.shape}: shapes must agree")
    rows, words = [a, b], list(names)
    if difference:
        gap = _numbers(yours, names[0]).astype(float) - _numbers(expected, names[1]).astype(float)
        largest = float(np.abs(gap).max())
        rows.append((a - b) / (2 * np.abs(a - b).max() or 1) + 0.5)
        words.append(f"difference\n(at most {largest:.2g})")
    n, h, w = a.shape[:3]
    sheet, at = _mosaic(np.concatenate(rows), n)
    scale = min(0.62, (WIDTH - 1) / n) / w
    fig = _figure(sheet.shape[1] * scale + 1, sheet.shape[0] * scale)
    ax = _picture(fig, sheet)
    for row, word in enumerate(words):
        where = (-0.12 * w, at[row * n][0] + h / 2)
        ax.text(*where, word, ha="right", va="center", fontsize=10)
    if title:
        ax.set_title(title, fontsize=11)
    return fig


def forward_strip(
    levels: Array,
    level_labels: Sequence,
    *,
    row_labels: Sequence | None = None,
    level_name: str = "t",
    row_name: str = "sample",
    title: str = "",
) -> Figure:
    """The same samples at several noise levels: a column for each level, a row for each sample.

    levels: K levels of B samples, (K, B, H, W), (K, B, C, H, W) for images with C = 1 or 3, or
        (K, B, L), (K, B, 1, L) for sounds; a list of K tensors (B, ...) will do
    level_labels: K texts or numbers, written below; row_labels: B of them, written at the left
    """
    if isinstance(levels, list | tuple):
        levels = np.stack([_numbers(level, "levels") for level in levels])
    x = _finite(_numbers(levels, "levels"), "levels")
    if x.ndim == 4 and x.shape[2] == 1:
        x = x[:, :, 0]
    if x.ndim not in (3, 4, 5):
        raise ValueError(
            f"levels has shape {x.shape}: (levels, samples, H, W), (levels, samples, C, H, W) or "
            "(levels, samples, L) is wanted"
        )
    k, b = x.shape[:2]
    if len(level_labels) != k:
        raise ValueError(f"{len(level_labels)} level labels for {k} levels")
    if row_labels is not None and len(row_labels) != b:
        raise ValueError(f"{len(row_labels)} row labels for {b} rows")
    row_labels = range(1, b + 1) if row_labels is None else row_labels
    if x.ndim == 3:
        return _sound_strip(x, level_labels, row_labels, level_name, row_name, title)
    pixels = _pixels(x.swapaxes(0, 1).reshape(b * k, *x.shape[2:]), "levels")
    h, w = pixels.shape[1:3]
    sheet, at = _mosaic(pixels, k)
    scale = min(0.9, WIDTH / k) / w
    fig = _figure(sheet.shape[1] * scale + 0.6, sheet.shape[0] * scale + 0.4)
    ax = _picture(fig, sheet, frame=True)
    ax.set_xticks([at[c][1] + w / 2 - 0.5 for c in range(k)], [_word(v) for v in level_labels])
    ax.set_yticks([at[r * k][0] + h / 2 - 0.5 for r in range(b)], [_word(v) for v in row_labels])
    ax.set_xlabel(level_name)
    ax.set_ylabel(row_name)
    if title:
        ax.set_title(title, fontsize=11)
    return fig


def _sound_strip(x, level_labels, row_labels, level_name, row_name, title) -> Figure:
    k, b = x.shape[:2]
    fig = _figure(WIDTH, 0.9 * b + 0.5)
    grid = fig.subplots(b, k, squeeze=False, sharex=True, sharey=True)
    # One tall sample in ten thousand must not press all others flat.
    reach = float(np.quantile(np.abs(x), 0.9999)) or 1.0
    for r in range(b):
        for c in range(k):
            ax = grid[r, c]
            ax.plot(x[c, r], color=palette.role("data").color, linewidth=0.5)
            ax.set_ylim(-1.05 * reach, 1.05 * reach)
            ax.set_xticks([])
            ax.set_yticks([])
            for side in ("top", "right", "bottom", "left"):
                ax.spines[side].set_color("0.8")
            if r == b - 1:
                ax.set_xlabel(_word(level_labels[c]), fontsize=9)
            if c == 0:
                ax.set_ylabel(_word(row_labels[r]), fontsize=9)
    fig.supxlabel(level_name, fontsize=10)
    fig.supylabel(row_name, fontsize=10)
    if title:
        fig.suptitle(title, fontsize=11)
    return fig


# ----------------------------------------------------------------------------------------- curves


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
    values = {name: _series(v, name) for name, v in _named(series, "series").items()}
    fig = _figure(WIDTH, 3.4)
    ax = _axes(fig, xlabel, ylabel, title)
    for (name, runs), style in zip(values.items(), palette.styles(list(values), roles)):
        n = runs.shape[1]
        along = np.arange(n) if x is None else _numbers(x[name] if _is_map(x) else x, "x")
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
        _floor(ax, floor, floor_name)
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")
    if len(values) > 1 or floor is not None or any(len(v) > 1 for v in values.values()):
        _legend(ax)
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
    values = _named(alpha_bars, "alpha_bars")
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
    values = _named(log_snrs, "log_snrs")
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
    values = {k: _series(v, k) for k, v in _named(losses, "losses").items()}
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
    values = {
        k: np.ravel(_finite(_numbers(v, k), k)) for k, v in _named(results, "results").items()
    }
    fig = _figure(min(WIDTH, 1.6 + 1.1 * len(values)) if len(values) < 5 else WIDTH, 3.2)
    ax = _axes(fig, xlabel, ylabel, title)
    ax.grid(False, axis="x")
    for at, (v, style) in enumerate(zip(values.values(), palette.styles(list(values), roles))):
        ax.vlines(at, v.min(), v.max(), color=style.color, linewidth=9, alpha=0.25)
        ax.hlines(v.mean(), at - 0.24, at + 0.24, color=style.color, linewidth=2.6)
        aside = np.linspace(-0.1, 0.1, len(v)) if len(v) > 1 else np.zeros(1)
        ax.plot(at + aside, v, style.marker, color=style.color, markersize=5, zorder=3)
    ax.set_xticks(range(len(values)), list(values))
    ax.set_xlim(-0.6, len(values) - 0.4)
    if floor is not None:
        _floor(ax, floor, floor_name)
        _legend(ax)
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
    values = {
        k: np.ravel(_finite(_numbers(v, k), k)) for k, v in _named(samples, "samples").items()
    }
    everything = np.concatenate(list(values.values()))
    low, high = limits or (float(everything.min()), float(everything.max()))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    density = dict(density or {})
    fig = _figure(WIDTH, 3.2)
    ax = _axes(fig, xlabel, "density", title)
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
        heights = _numbers(function(along), name)
        ax.plot(along, heights, color=style.color, linestyle=style.linestyle, lw=1.9, label=name)
    _legend(ax)
    return fig


# ------------------------------------------------------------------------------- two dimensions


def points2d(
    sets: Mapping[str, Array],
    *,
    limits: float | None = None,
    panels: bool = False,
    size: float = 6.0,
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """Points in the plane, each set with its own colour and marker.

    sets: name -> (N, 2); limits: the axes reach from -limits to limits; panels: a panel for each
    set, side by side, in place of all in one
    """
    values = {k: _plane(v, k) for k, v in _named(sets, "sets").items()}
    reach = limits or 1.08 * max(float(np.abs(v).max()) for v in values.values()) or 1.0
    count = len(values) if panels else 1
    wide = min(WIDTH, 2.2 * count + 0.4) if panels else 4.2
    fig = _figure(wide, wide / count + 0.35)
    row = fig.subplots(1, count, squeeze=False, sharex=True, sharey=True)[0]
    for at, ax in enumerate(row):
        _dress(ax, "$x_1$", "$x_2$" if at == 0 else "", "" if panels else title)
        ax.set_aspect("equal")
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
    for at, ((name, v), style) in enumerate(
        zip(values.items(), palette.styles(list(values), roles))
    ):
        ax = row[at if panels else 0]
        _dots(ax, v, style, size, name)
        if panels:
            ax.set_title(name, fontsize=10)
    if panels and title:
        fig.suptitle(title, fontsize=11)
    if not panels and len(values) > 1:
        _legend(row[0], markerscale=2)
    return fig


def trajectories2d(
    paths: Array,
    *,
    data: Array | None = None,
    limits: float | None = None,
    shown: int = 40,
    title: str = "",
) -> Figure:
    """Ways through the plane: from the cross (start) along the line to the triangle (end).

    paths: (steps, B, 2) in the order of travel; the first ``shown`` of the B are drawn
    data: (N, 2), drawn behind them
    """
    way = _finite(_numbers(paths, "paths"), "paths")
    if way.ndim != 3 or way.shape[2] != 2 or way.shape[0] < 2:
        raise ValueError(f"paths has shape {way.shape}: (steps, B, 2) with 2 steps or more wanted")
    way = way[:, :shown]
    reach = limits or 1.08 * float(np.abs(way).max()) or 1.0
    fig = _figure(4.4, 4.6)
    ax = _axes(fig, "$x_1$", "$x_2$", title)
    ax.set_aspect("equal")
    if data is not None:
        _dots(ax, _plane(data, "data"), palette.role("data"), 5, "data")
    ax.plot(way[..., 0], way[..., 1], color="0.45", linewidth=0.7, zorder=2)
    _dots(ax, way[0], palette.role("noise"), 22, "start")
    _dots(ax, way[-1], palette.role("model"), 22, "end")
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
    _legend(ax)
    return fig


def vector_field2d(
    field: Callable,
    *,
    limits: float = 3.0,
    n: int = 21,
    points: Array | None = None,
    name: str = "length",
    title: str = "",
) -> Figure:
    """Arrows of a field, a score or a velocity say, on an n x n grid over the plane.

    field: takes float32 (n * n, 2) and gives (n * n, 2), tensors both
    points: (N, 2), drawn behind; name: what the grey scale at the side is called

    An arrow's length grows with the root of the vector's, so that weak ones are still seen; how
    long a vector is, is told by how dark its arrow is.
    """
    import torch

    if n < 2 or not limits > 0:
        raise ValueError(f"n is {n} and limits {limits}: 2 or more, and above 0, are wanted")
    line = torch.linspace(-limits, limits, n)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2)
    arrows = _finite(_numbers(field(grid), "the field's values"), "the field's values")
    if arrows.shape != (n * n, 2):
        raise ValueError(f"the field gave shape {arrows.shape} for ({n * n}, 2)")
    length = np.linalg.norm(arrows, axis=1)
    drawn = arrows / np.sqrt(np.maximum(length, 1e-12))[:, None]
    drawn *= 1.7 * limits / (n - 1) / max(float(np.sqrt(length).max()), 1e-12)
    fig = _figure(5.0, 4.3)
    ax = _axes(fig, "$x_1$", "$x_2$", title)
    ax.set_aspect("equal")
    if points is not None:
        _dots(ax, _plane(points, "points"), palette.role("data"), 5, "data")
    at = grid.numpy()
    quiver = ax.quiver(
        *at.T,
        *drawn.T,
        length,
        angles="xy",
        scale_units="xy",
        scale=1,
        cmap="cividis_r",
        width=0.005,
        zorder=3,
    )
    fig.colorbar(quiver, ax=ax, label=name, shrink=0.85)
    edge = 1.06 * limits
    ax.set(xlim=(-edge, edge), ylim=(-edge, edge))
    return fig


# ------------------------------------------------------------------------------------------ sound


def waveforms(
    clips: Mapping[str, Array],
    rate: int,
    *,
    title: str = "",
    roles: dict[str, str] | None = None,
) -> Figure:
    """Clips one below the other over the same time. clips: name -> (L,) or (1, L); rate in Hz."""
    values = {k: _clip(v, k, rate) for k, v in _named(clips, "clips").items()}
    fig = _figure(WIDTH, 0.5 + 0.95 * len(values))
    rows = fig.subplots(len(values), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for ax, (name, v), style in zip(rows, values.items(), palette.styles(list(values), roles)):
        _dress(ax, "", name, "")
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
    bands that are even on the logarithmic axis.
    """
    values = {k: _clip(v, k, rate) for k, v in _named(clips, "clips").items()}
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
    fig = _figure(WIDTH, 3.2)
    ax = _axes(fig, "frequency in Hz", "level in dB", title)
    for (name, v), style in zip(level.items(), palette.styles(list(level), roles)):
        known = np.isfinite(v)
        centre = np.sqrt(edges[1:] * edges[:-1])[known]
        ax.plot(centre, v[known], color=style.color, ls=style.linestyle, lw=1.5, label=name)
    ax.set_xscale("log")
    if len(level) > 1:
        _legend(ax)
    return fig


# ----------------------------------------------------------------------------------------- slider


def schedule_slider(
    make: Callable[[str, int], Array],
    steps: int,
    *,
    names: Sequence[str] = ("",),
    alt: str,
    caption: str = "",
    start: int | None = None,
    shown: int = 8,
) -> None:
    """Samples at a time step that the learner picks with a slider, a row for each schedule.

    make: (name, t) -> images (B, H, W) or (B, 1, H, W) in [-1, 1] at the integer step t. It should
        use the same noise each time, or the picture flickers.
    steps: T, so that t runs from 0 to T - 1; start: the first t, the middle when left out
    alt, caption: as in ``show``

    Where no one is there to move it (a notebook that is run from the command line, UNDIFFUSE_STATIC
    set, no ipywidgets), the first sample is shown at ``shown`` steps instead.
    """
    alt = _alt(alt)
    if steps < 2:
        raise ValueError(f"steps is {steps}: 2 or more are wanted")
    if start is not None and not 0 <= start < steps:
        raise ValueError(f"start is {start}: 0 to {steps - 1} is wanted")
    if not _somebody_there():
        ts = [round(t) for t in np.linspace(0, steps - 1, min(shown, steps))]
        levels = [np.stack([_numbers(make(name, t), "make")[0] for name in names]) for t in ts]
        fig = forward_strip(levels, ts, row_labels=names, row_name="schedule")
        show(fig, alt, caption)
        return
    import base64
    from html import escape

    import ipywidgets
    from IPython.display import Markdown, display

    def picture(t: int) -> str:
        images = np.concatenate([_numbers(make(name, t), "make") for name in names])
        columns = len(images) // len(names)
        data = base64.b64encode(png(image_grid(images, columns=columns))).decode()
        words = escape(f"{alt} Now at t = {t}; rows: {', '.join(names)}.", quote=True)
        return f'<img alt="{words}" src="data:image/png;base64,{data}">'

    first = steps // 2 if start is None else start
    slider = ipywidgets.IntSlider(
        value=first,
        min=0,
        max=steps - 1,
        description="t",
        layout=ipywidgets.Layout(width="420px"),
    )
    rows = ipywidgets.HTML("<br>".join(f"row {i}: {escape(n)}" for i, n in enumerate(names, 1)))
    image = ipywidgets.HTML(picture(first))
    slider.observe(lambda change: setattr(image, "value", picture(change["new"])), names="value")
    display(ipywidgets.VBox([slider, image] + ([rows] if len(names) > 1 else [])))
    if caption:
        display(Markdown(caption))


def _somebody_there() -> bool:
    """Whether this cell was run by a person who can move a slider."""
    if os.environ.get("UNDIFFUSE_STATIC"):
        return False
    kernel = _kernel()
    # A front end lets the kernel ask for input; nbclient, nbconvert and nbval, which run notebooks
    # with nobody before them, do not.
    if kernel is None or not getattr(kernel, "_allow_stdin", False):
        return False
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return False
    return True


def _kernel():
    """The notebook's kernel, or None in a terminal or a script."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None)


# ---------------------------------------------------------------------------------------- helpers


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _axes(fig: Figure, xlabel: str, ylabel: str, title: str) -> Axes:
    return _dress(fig.add_subplot(), xlabel, ylabel, title)


def _dress(ax: Axes, xlabel: str, ylabel: str, title: str) -> Axes:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if title:
        ax.set_title(title, fontsize=11)
    ax.grid(True, color="0.9", linewidth=0.7)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def _picture(fig: Figure, sheet: np.ndarray, frame: bool = False) -> Axes:
    ax = fig.add_subplot()
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)
    if not frame:
        ax.set_xticks([])
        ax.set_yticks([])
    return ax


def _dots(ax: Axes, v: np.ndarray, style: palette.Style, size: float, name: str) -> None:
    line = 0.9 if style.marker in "x_" else 0
    ax.scatter(*v.T, s=size, color=style.color, marker=style.marker, linewidths=line, label=name)


def _floor(ax: Axes, floor: float | Sequence[float], name: str) -> None:
    style = palette.role("bound")
    v = np.ravel(_finite(_numbers(floor, name), name))
    if len(v) > 1:
        ax.axhspan(v.min(), v.max(), color=style.color, alpha=0.2, linewidth=0)
    line = {"color": style.color, "linestyle": style.linestyle, "linewidth": 1.3}
    ax.axhline(float(v.mean()), label=name, zorder=1, **line)


def _legend(ax: Axes, **more) -> None:
    ax.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=9, handlelength=3.2, **more)


def _mosaic(pixels: np.ndarray, columns: int, extra: int = 0) -> tuple[np.ndarray, list]:
    """One white sheet with the images on it, and each one's (top, left)."""
    n, h, w = pixels.shape[:3]
    rows = -(-n // columns)
    down, across = h + GAP + extra, w + GAP
    sheet = np.ones((rows * down - GAP, columns * across - GAP, *pixels.shape[3:]))
    at = [(i // columns * down, i % columns * across) for i in range(n)]
    for (top, left), image in zip(at, pixels):
        sheet[top : top + h, left : left + w] = image
    return sheet, at


def _pixels(images: Array, what: str) -> np.ndarray:
    """Images as floats in [0, 1], (N, H, W) or (N, H, W, 3)."""
    x = _numbers(images, what)
    shape = x.shape
    if x.ndim == 2:
        x = x[None]
    if x.ndim == 4 and x.shape[1] == 3:
        x = np.moveaxis(x, 1, -1)
    elif x.ndim == 4 and x.shape[1] == 1:
        x = x[:, 0]
    elif x.ndim != 3:
        raise ValueError(
            f"{what} has shape {shape}: (N, H, W), (N, 1, H, W), (N, 3, H, W) or (H, W) is wanted"
        )
    if x.dtype == np.uint8:
        return x / 255.0
    return np.clip((_finite(x, what).astype(float) + 1) / 2, 0, 1)


def _numbers(x: Array, what: str) -> np.ndarray:
    """``x`` as a numpy array of numbers with something in it; tensors from any device."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        # numpy has no bfloat16
        x = x.float().numpy() if x.is_floating_point() and x.itemsize < 4 else x.numpy()
    try:
        x = np.asarray(x)
    except ValueError as e:
        raise ValueError(f"{what} is not an array of numbers: its rows differ in length") from e
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{what} holds {x.dtype}: real numbers are wanted")
    if x.size == 0:
        raise ValueError(f"{what} is empty, with shape {x.shape}: there is nothing to draw")
    return x


def _finite(x: np.ndarray, what: str) -> np.ndarray:
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise ValueError(
            f"{what}: {bad} of {x.size} numbers are NaN or infinite and cannot be drawn"
        )
    return x


def _series(v: Array, name: str) -> np.ndarray:
    """Values as (runs, n) float64."""
    v = _numbers(v, name).astype(np.float64)
    if v.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {v.shape}: (n,) or (runs, n) is wanted")
    if not np.isfinite(v).any():
        raise ValueError(f"{name}: none of its {v.size} numbers is finite")
    return np.atleast_2d(v)


def _plane(v: Array, name: str) -> np.ndarray:
    v = _finite(_numbers(v, name), name)
    if v.ndim != 2 or v.shape[1] != 2:
        raise ValueError(f"{name} has shape {v.shape}: (N, 2) is wanted")
    return v


def _clip(v: Array, name: str, rate: int) -> np.ndarray:
    if not rate > 0:
        raise ValueError(f"rate is {rate}: the samples per second are wanted")
    v = _finite(_numbers(v, name), name).astype(np.float64)
    if v.ndim == 2 and v.shape[0] == 1:
        v = v[0]
    if v.ndim != 1 or len(v) < 8:
        raise ValueError(f"{name} has shape {v.shape}: a clip (L,) with L of 8 or more is wanted")
    return v


def _way(values: Mapping[str, Array]) -> dict[str, np.ndarray]:
    return {k: np.linspace(0, 1, _series(v, k).shape[1]) for k, v in values.items()}


def _named(values: Mapping[str, Array], what: str) -> Mapping[str, Array]:
    if not _is_map(values):
        raise TypeError(f"{what} is {type(values).__name__}: a dict, name -> values, is wanted")
    if not values:
        raise ValueError(f"{what} is empty: there is nothing to draw")
    return values


def _is_map(x) -> bool:
    return isinstance(x, Mapping)


def _alt(alt: str) -> str:
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("alt is empty: say what somebody who cannot see the figure needs to know")
    return alt.strip()


def _word(value) -> str:
    """A label: whole numbers without a point, others with three digits."""
    if hasattr(value, "item"):
        value = value.item()
    return f"{value:.3g}" if isinstance(value, float) else str(value)
